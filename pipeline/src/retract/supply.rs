//! What the sources of the mixture still have to give: token runs that are not in the training shards, in the order in which the
//! mixture would have gone on.

use std::collections::{BTreeMap, BTreeSet};

use mellama_shards::lineage::{Placement, lineage};
use mellama_shards::order::Run;
use mellama_shards::refill::{Continuation, Held};
use rayon::prelude::{IntoParallelIterator, ParallelIterator};

use crate::failure::Failure;
use crate::lookup::Folder;
use crate::placements::{self, Part, Shard};
use crate::stage::Stage;
use crate::token_runs;

/// Opens the continuation of one source of the corpus, without the documents in `retracted`.
///
/// # Errors
/// `Failure::Verification` for damaged indexes and shards.
pub(super) fn continuation(
    folder: &Folder,
    shards: &[Shard],
    retracted: &BTreeSet<u128>,
    source: u16,
) -> Result<Continuation, Failure> {
    let recipe = &folder.sources()[usize::from(source)];
    let runs = runs(folder, source, retracted)?;
    let first_epoch = full_epochs(folder, shards, source, &runs, retracted)?;
    let held = held(folder, shards, source, first_epoch)?;
    Ok(Continuation::new(folder.recipe.seed, runs, held, first_epoch, recipe.max_epochs))
}

/// Passes that the shards hold whole. As `mix` planned them, or, where whole sequences were published and pieces of any pass may be
/// left out, as the shards tell; where nothing tells, none.
fn full_epochs(folder: &Folder, shards: &[Shard], source: u16, runs: &[Run], retracted: &BTreeSet<u128>) -> Result<u32, Failure> {
    let name = &folder.sources()[usize::from(source)].name;
    let facts = folder.manifest(Stage::Mix)?.map(|manifest| manifest.facts).unwrap_or_default();
    let shares = facts["sources"].as_array().into_iter().flatten();
    let share = shares.into_iter().find(|share| share["source"].as_str() == Some(name));
    let planned = u32::try_from(share.and_then(|share| share["full_epochs"].as_u64()).unwrap_or(0)).unwrap_or(u32::MAX);
    if planned == 0 || facts["unit"].as_str() != Some("sequences") {
        return Ok(planned);
    }
    let supply: u64 = runs.iter().map(|run| u64::from(run.tokens)).sum();
    let tokens = tokens_by_epoch(folder, shards, source, retracted)?;
    let whole = (0..planned).take_while(|epoch| tokens.get(epoch).copied().unwrap_or(0) == supply);
    Ok(whole.count() as u32)
}

/// Tokens of a source in the training shards, pass by pass, without what is retracted.
fn tokens_by_epoch(
    folder: &Folder,
    shards: &[Shard],
    source: u16,
    retracted: &BTreeSet<u128>,
) -> Result<BTreeMap<u32, u64>, Failure> {
    let of_shard = |shard: &Shard| -> Result<BTreeMap<u32, u64>, Failure> {
        let mut tokens = BTreeMap::new();
        for_each_piece(folder, shard, source, &mut |placement| {
            if !retracted.contains(&placement.document) {
                *tokens.entry(placement.epoch).or_default() += u64::from(placement.tokens.end - placement.tokens.start);
            }
        })?;
        Ok(tokens)
    };
    training(shards).into_par_iter().map(of_shard).try_reduce(BTreeMap::new, |mut all, some| {
        for (epoch, tokens) in some {
            *all.entry(epoch).or_default() += tokens;
        }
        Ok(all)
    })
}

/// The documents of a source for training.
fn runs(folder: &Folder, source: u16, retracted: &BTreeSet<u128>) -> Result<Vec<Run>, Failure> {
    let mut runs = Vec::new();
    for commit in folder.commits(Stage::Tokenize)? {
        if folder.source_of(commit.task).is_none_or(|(index, _)| index != usize::from(source)) {
            continue;
        }
        let Some(index) = token_runs::index(&folder.workdir, &commit)? else { continue };
        for (row, entry) in (0..).zip(index.entries()) {
            if !entry.heldout && !retracted.contains(&entry.key) {
                runs.push(Run {
                    object: commit.task as u32,
                    row,
                    tokens: entry.length,
                    key: entry.key,
                    source,
                    place: entry.place(),
                });
            }
        }
    }
    Ok(runs)
}

/// What the training shards hold of a source, of the passes from `first_epoch` on.
fn held(folder: &Folder, shards: &[Shard], source: u16, first_epoch: u32) -> Result<Held, Failure> {
    let of_shard = |shard: &Shard| -> Result<Held, Failure> {
        let mut held = Held::default();
        for_each_piece(folder, shard, source, &mut |placement| {
            if placement.epoch >= first_epoch {
                let end = placement.offset + (placement.tokens.end - placement.tokens.start);
                held.add(placement.epoch, placement.document, placement.offset..end);
            }
        })?;
        Ok(held)
    };
    training(shards).into_par_iter().map(of_shard).try_reduce(Held::default, |all, held| Ok(all.with(held)))
}

fn training(shards: &[Shard]) -> Vec<&Shard> {
    shards.iter().filter(|shard| shard.part == Part::Train).collect()
}

/// Calls `visit` with every piece that a shard holds of a source.
fn for_each_piece(folder: &Folder, shard: &Shard, source: u16, visit: &mut dyn FnMut(&Placement)) -> Result<(), Failure> {
    let file = placements::open(&folder.workdir, &shard.entry)?;
    for placement in lineage(&file) {
        let placement = placement.map_err(|e| Failure::reading("", &e))?;
        if placement.source == source {
            visit(&placement);
        }
    }
    Ok(())
}
