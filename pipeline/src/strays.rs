//! Shards that no record names: what interrupted and overtaken attempts left where readers of `shards/` would take it for corpus.
//!
//! A name alone says whether an attempt may still need a shard. What a stage publishes is named by commits that are all there once
//! its manifest is. What the retraction of a number writes carries the number (`train-00007-r00002-DIGEST16.parquet`), so that no
//! other one can come to name it, and once the record of that number is there, what it does not name is of no use to anybody.
//! Nothing here asks for a clock, a lock or a process.

use std::collections::BTreeSet;

use mellama_storage::{Key, ObjectMeta, Workdir, list_all};

use crate::failure::Failure;
use crate::placements::Part;
use crate::stage::Stage;

/// Hexadecimal digits of its content that a name carries.
const DIGEST_DIGITS: usize = 16;
/// Digits of a shard's number, and of a retraction's, at least.
const NUMBER_DIGITS: usize = 5;
/// What a reader of the folder takes for a shard.
const EXTENSION: &str = ".parquet";

/// The name of a shard that this program wrote, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardName<'a> {
    /// `shards/cpt` or `shards/instruct`.
    pub folder: &'a str,
    /// Part and number: `train-00007`.
    pub stem: &'a str,
    /// The retraction that wrote it; `None` where the stage did.
    pub retraction: Option<u64>,
}

impl<'a> ShardName<'a> {
    /// Takes a key apart; `None` when it is not the name of a shard of a run.
    pub(crate) fn of(key: &'a str) -> Option<ShardName<'a>> {
        let part = Part::ALL.into_iter().find(|part| key.starts_with(part.prefix()))?;
        let (rest, digest) = key.strip_suffix(EXTENSION)?.rsplit_once('-')?;
        let is_digest = digest.len() == DIGEST_DIGITS && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let (rest, retraction) = match rest.rsplit_once("-r").and_then(|(before, number)| Some((before, number_of(number)?))) {
            Some((before, number)) => (before, Some(number)),
            None => (rest, None),
        };
        number_of(rest.strip_prefix(part.prefix())?).filter(|_| is_digest)?;
        let (folder, stem) = rest.rsplit_once('/')?;
        Some(ShardName { folder, stem, retraction })
    }

    /// Stem of what the retraction of a number puts in its place.
    pub(crate) fn rewritten(&self, retraction: u64) -> String {
        format!("{}-r{retraction:05}", self.stem)
    }
}

fn number_of(digits: &str) -> Option<u64> {
    let is_number = digits.len() >= NUMBER_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// What stands unnamed in the folders of finished stages.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    /// Shards that nobody needs.
    pub abandoned: Vec<String>,
    /// Shards of a retraction that has no record: it runs, or was interrupted.
    pub unrecorded: Vec<String>,
    /// Other objects that readers take for shards; this program did not write them.
    pub foreign: Vec<String>,
}

/// Finds what is unnamed under `shards/`. Of a stage that is not finished nothing is listed: its tasks may run.
///
/// # Errors
/// `Failure::Verification` for damaged records, `Failure::Storage` for what cannot be listed.
pub(crate) fn find(workdir: &Workdir, plan: &str) -> Result<Strays, Failure> {
    let mut strays = Strays::default();
    for stage in [Stage::Publish, Stage::InstructData] {
        let Some(manifest) = workdir.read_manifest(plan, stage.name())? else { continue };
        let folder = if stage == Stage::Publish { "shards/cpt/" } else { "shards/instruct/" };
        // Listed before the records are read: what becomes named meanwhile is seen to be named.
        let listed = list_all(&**workdir.store(), folder).collect::<Result<Vec<ObjectMeta>, _>>()?;
        if listed.is_empty() {
            continue;
        }
        let records = workdir.read_retractions(plan)?.len() as u64;
        let objects = workdir.after_retractions(manifest)?.objects;
        let named: BTreeSet<&str> = objects.iter().map(|entry| entry.key.as_str()).collect();
        for key in listed.iter().map(|object| object.key.as_str()) {
            if !named.contains(key) && key.ends_with(EXTENSION) {
                strays.add(key, records);
            }
        }
    }
    Ok(strays)
}

impl Strays {
    fn add(&mut self, key: &str, records: u64) {
        let kind = match ShardName::of(key) {
            Some(ShardName { retraction: Some(number), .. }) if number >= records => &mut self.unrecorded,
            Some(_) => &mut self.abandoned,
            None => &mut self.foreign,
        };
        kind.push(key.to_owned());
    }
}

/// Finishes what retractions left to do, and deletes shards that nobody needs. Returns how many objects were deleted.
///
/// # Errors
/// As [`find`].
pub(crate) fn sweep(workdir: &Workdir, plan: &str) -> Result<u64, Failure> {
    let mut deleted = workdir.delete_retracted(plan)?;
    for key in find(workdir, plan)?.abandoned {
        workdir.store().delete(&Key::new(key)?)?;
        deleted += 1;
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::{ShardName, Strays};

    #[test]
    fn names_taken_apart() {
        let check = |key: &str, expected: Option<(&str, &str, Option<u64>)>| {
            let found = ShardName::of(key).map(|name| (name.folder, name.stem, name.retraction));
            assert_eq!(found, expected, "{key}");
        };
        check("shards/cpt/train-00007-0123456789abcdef.parquet", Some(("shards/cpt", "train-00007", None)));
        check("shards/cpt/heldout-123456-0123456789abcdef.parquet", Some(("shards/cpt", "heldout-123456", None)));
        check("shards/cpt/train-00007-r00012-0123456789abcdef.parquet", Some(("shards/cpt", "train-00007", Some(12))));
        check("shards/instruct/train-00000-0123456789abcdef.parquet", Some(("shards/instruct", "train-00000", None)));
        check("shards/cpt/train-00007.parquet", None);
        check("shards/cpt/train-00007-0123456789ABCDEF.parquet", None);
        check("shards/cpt/train-00007-copy-0123456789abcdef.parquet", None);
        check("shards/cpt/train-00007-r1-0123456789abcdef.parquet", None);
        check("shards/cpt/notes.parquet", None);
        check("shards/cpt/train-00007-0123456789abcdef.csv", None);
        check("x.parquet", None);
    }

    #[test]
    fn a_rewritten_shard_is_named_by_the_last_retraction_alone() {
        let name = ShardName::of("shards/cpt/train-00007-r00012-0123456789abcdef.parquet").unwrap();
        assert_eq!(name.rewritten(13), "train-00007-r00013");
    }

    #[test]
    fn a_shard_is_abandoned_once_the_record_of_its_number_is_there() {
        let check = |key: &str, records: u64, expected: [usize; 3]| {
            let mut strays = Strays::default();
            strays.add(key, records);
            assert_eq!([strays.abandoned.len(), strays.unrecorded.len(), strays.foreign.len()], expected, "{key} {records}");
        };
        check("shards/cpt/train-00007-0123456789abcdef.parquet", 0, [1, 0, 0]);
        check("shards/cpt/train-00007-r00000-0123456789abcdef.parquet", 0, [0, 1, 0]);
        check("shards/cpt/train-00007-r00000-0123456789abcdef.parquet", 1, [1, 0, 0]);
        check("shards/cpt/train-00007-r00001-0123456789abcdef.parquet", 1, [0, 1, 0]);
        check("shards/cpt/copy of train.parquet", 1, [0, 0, 1]);
    }
}
