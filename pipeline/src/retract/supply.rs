//! What the sources of the mixture still have to give: token runs that are not in the training shards, in the order in which the
//! mixture would have gone on.

use std::collections::{BTreeMap, BTreeSet};

use mellama_shards::lineage::lineage;
use mellama_shards::order::Run;
use mellama_shards::refill::{Continuation, Held};
use rayon::prelude::{IntoParallelIterator, ParallelIterator};

use crate::failure::{Failure, chain};
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
    let first_epoch = full_epochs(folder, &recipe.name)?;
    let runs = runs(folder, source, retracted)?;
    let held = held(folder, shards, source, first_epoch)?;
    Ok(Continuation::new(folder.recipe.seed, runs, held, first_epoch, recipe.max_epochs))
}

/// Passes that the mixture used up, as `mix` planned them. Where it does not say so, none: the shards tell the same, slower.
fn full_epochs(folder: &Folder, source: &str) -> Result<u32, Failure> {
    let facts = folder.manifest(Stage::Mix)?.map(|manifest| manifest.facts).unwrap_or_default();
    let shares = facts["sources"].as_array().into_iter().flatten();
    let share = shares.into_iter().find(|share| share["source"].as_str() == Some(source));
    let epochs = share.and_then(|share| share["full_epochs"].as_u64()).unwrap_or(0);
    Ok(u32::try_from(epochs).unwrap_or(u32::MAX))
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
    let train: Vec<&Shard> = shards.iter().filter(|shard| shard.part == Part::Train).collect();
    let of_shard = |shard: &Shard| -> Result<Held, Failure> {
        let file = placements::open(&folder.workdir, &shard.entry)?;
        let mut held = Held::new();
        for placement in lineage(&file) {
            let placement = placement.map_err(|e| Failure::Verification(chain(&e)))?;
            if placement.source == source && placement.epoch >= first_epoch {
                let end = placement.offset + (placement.tokens.end - placement.tokens.start);
                merge(&mut held, (placement.epoch, placement.document), end);
            }
        }
        Ok(held)
    };
    train.into_par_iter().map(of_shard).try_reduce(BTreeMap::new, |mut all, held| {
        for (place, end) in held {
            merge(&mut all, place, end);
        }
        Ok(all)
    })
}

fn merge(held: &mut Held, place: (u32, u128), end: u32) {
    let known = held.entry(place).or_default();
    *known = end.max(*known);
}
