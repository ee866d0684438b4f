//! One shard written again without what is retracted: every sequence read and checked, the holes filled with tokens from the runs.

use std::collections::BTreeMap;

use mellama_shards::lineage::Placement;
use mellama_shards::refill::{Filling, Hole, Patch, rebuild};
use mellama_shards::verify::verify_shard_with;
use mellama_shards::{ShardError, ShardWriter};
use mellama_storage::{ObjectEntry, PartWriter};

use crate::failure::Failure;
use crate::lookup::Folder;
use crate::placements::{self, Shard};
use crate::stage::Stage;
use crate::strays::ShardName;
use crate::token_runs;

/// A piece of a retracted document and what comes in its place.
#[derive(Debug)]
pub(super) struct Gap {
    pub placement: Placement,
    pub hole: Hole,
}

/// A shard written again and not published yet: dropped, it leaves nothing behind.
#[derive(Debug)]
pub(super) struct Draft {
    /// The new object and its sequences; `None` when no sequence is left.
    part: Option<(PartWriter, u64)>,
    /// Key of the old shard.
    key: String,
    /// Sequences left without a token.
    pub sequences_left_out: u64,
    /// Segments that came in the place of those taken out.
    pub segments_filled: u64,
}

impl Draft {
    /// Publishes the new shard, if there is one, under the number of its retraction.
    ///
    /// # Errors
    /// `Failure::Storage`; `Failure::Verification` when the old shard's name is none.
    pub(super) fn publish(self, retraction: u64) -> Result<Option<ObjectEntry>, Failure> {
        let Some((part, rows)) = self.part else { return Ok(None) };
        let unknown = || Failure::Verification(format!("{}: not the name of a shard; run \"mellama verify\"", self.key));
        let name = ShardName::of(&self.key).ok_or_else(unknown)?;
        Ok(Some(part.finish(name.folder, &name.rewritten(retraction), "parquet", rows)?))
    }
}

/// Writes a shard without the gaps' documents. Nothing is visible yet, and the old shard stays.
///
/// # Errors
/// `Failure::Verification` when the shard, or a token run, is damaged; `Failure::Storage` when the new one cannot be written.
pub(super) fn rewrite(folder: &Folder, shard: &Shard, gaps: &[Gap]) -> Result<Draft, Failure> {
    let file = placements::open(&folder.workdir, &shard.entry)?;
    let patches = patches(folder, gaps)?;
    let writing = |e: &ShardError| Failure::writing(&format!("{}: writing it again", shard.entry.key), e);
    let mut writer = ShardWriter::new(folder.workdir.part()?, file.header()).map_err(|e| writing(&e))?;
    let (mut left_out, mut failed) = (0, None);
    let totals = verify_shard_with(&file, &mut |row, sequence| {
        let pushed = match patches.get(&row).map(|replaced| rebuild(sequence, replaced)) {
            None => writer.push(sequence),
            Some(Some(rebuilt)) => writer.push(&rebuilt),
            Some(None) => {
                left_out += 1;
                Ok(())
            }
        };
        failed = failed.take().or(pushed.err());
    });
    let read = totals.map_err(|e| Failure::reading("", &e))?;
    if let Some(error) = failed {
        return Err(writing(&error));
    }
    let mut draft = Draft { part: None, key: shard.entry.key.clone(), sequences_left_out: left_out, segments_filled: 0 };
    if left_out < read.sequences {
        let (part, totals) = writer.finish_with_totals().map_err(|e| writing(&e))?;
        draft.segments_filled = (totals.segments + gaps.len() as u64).saturating_sub(read.segments);
        draft.part = Some((part, totals.sequences));
    }
    Ok(draft)
}

/// What comes in the place of each segment, by row and first position.
fn patches(folder: &Folder, gaps: &[Gap]) -> Result<BTreeMap<u64, BTreeMap<u32, Vec<Patch>>>, Failure> {
    let mut tokens = gather(folder, gaps)?.into_iter();
    let mut patches: BTreeMap<u64, BTreeMap<u32, Vec<Patch>>> = BTreeMap::new();
    for gap in gaps {
        let filling = gap.hole.filling.iter();
        let of_gap = filling.map(|piece| patch(piece, tokens.next().expect("each piece was gathered"))).collect();
        patches.entry(gap.placement.sequence).or_default().insert(gap.placement.tokens.start, of_gap);
    }
    Ok(patches)
}

fn patch(piece: &Filling, tokens: Vec<u32>) -> Patch {
    let Filling { run, epoch, offset, .. } = *piece;
    Patch { tokens, document: run.key, source: run.source, offset, epoch }
}

/// The tokens of every piece, in the order of the gaps, read object by object.
fn gather(folder: &Folder, gaps: &[Gap]) -> Result<Vec<Vec<u32>>, Failure> {
    let pieces: Vec<&Filling> = gaps.iter().flat_map(|gap| &gap.hole.filling).collect();
    let mut by_object: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, piece) in pieces.iter().enumerate() {
        by_object.entry(piece.run.object).or_default().push(index);
    }
    let mut found = vec![Vec::new(); pieces.len()];
    for (object, indexes) in by_object {
        let gone = || Failure::Verification(format!("tokenize task {object}: its runs are gone; run \"mellama verify\""));
        let commit = folder.workdir.read_commit(&folder.plan, Stage::Tokenize.name(), u64::from(object))?.ok_or_else(gone)?;
        let reader = token_runs::open(&folder.workdir, &commit)?.ok_or_else(gone)?;
        // Pieces of one document follow each other: it is read once for all of them.
        let mut last: Option<(u32, Vec<u32>)> = None;
        for index in indexes {
            let Filling { run, offset, length, .. } = *pieces[index];
            if last.as_ref().is_none_or(|(row, _)| *row != run.row) {
                last = Some((run.row, reader.read(run.row).map_err(|e| Failure::reading("", &e))?));
            }
            let tokens = last.iter().flat_map(|(_, tokens)| &tokens[offset as usize..(offset + length) as usize]);
            found[index] = tokens.copied().collect();
        }
    }
    Ok(found)
}
