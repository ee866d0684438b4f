//! Where documents lie in the shards of a run, from the shards' own segments: there is no index beside them that could disagree.

use std::collections::BTreeSet;
use std::sync::Arc;

use mellama_shards::lineage::{Placement, find_documents};
use mellama_shards::{ShardFile, StoreChunks};
use mellama_storage::{ObjectEntry, RangeReader, Workdir};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::lookup::Folder;
use crate::stage::Stage;

/// What the sequences of a shard are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    /// Training: `shards/cpt/train-*`.
    Train,
    /// Held out: `shards/cpt/heldout-*`.
    Heldout,
    /// Conversations: `shards/instruct/train-*`.
    Instruct,
}

impl Part {
    /// All parts.
    pub(crate) const ALL: [Part; 3] = [Part::Train, Part::Heldout, Part::Instruct];

    /// How the keys of its shards begin.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Part::Train => "shards/cpt/train-",
            Part::Heldout => "shards/cpt/heldout-",
            Part::Instruct => "shards/instruct/train-",
        }
    }

    /// The stage that publishes it.
    pub(crate) fn stage(self) -> Stage {
        match self {
            Part::Train | Part::Heldout => Stage::Publish,
            Part::Instruct => Stage::InstructData,
        }
    }

    /// Its name in records and results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Heldout => "heldout",
            Part::Instruct => "instruct",
        }
    }
}

/// A shard that holds now.
#[derive(Debug, Clone)]
pub(crate) struct Shard {
    pub part: Part,
    pub entry: ObjectEntry,
}

/// The shards of a run as they hold now, in the order of their manifests. Stages that are not finished have none.
///
/// # Errors
/// As `Folder::manifest`.
pub(crate) fn shards(folder: &Folder) -> Result<Vec<Shard>, Failure> {
    let mut all = Vec::new();
    for part in Part::ALL {
        let objects = folder.objects(part.stage(), part.prefix())?;
        all.extend(objects.into_iter().map(|entry| Shard { part, entry }));
    }
    Ok(all)
}

/// Opens a shard and compares length and rows with its entry.
///
/// # Errors
/// `Failure::Verification` when it is not what the entry says.
pub(crate) fn open(workdir: &Workdir, entry: &ObjectEntry) -> Result<ShardFile, Failure> {
    let differs = |what: &str, found: u64, listed: u64| {
        Failure::Verification(format!("{}: {found} {what}, manifest lists {listed}; run \"mellama verify\"", entry.key))
    };
    let reader = RangeReader::of(Arc::clone(workdir.store()), entry).map_err(Failure::of_published)?;
    if reader.size_bytes() != entry.bytes {
        return Err(differs("bytes", reader.size_bytes(), entry.bytes));
    }
    let file = ShardFile::open(&entry.key, StoreChunks(reader)).map_err(|e| Failure::reading("", &e))?;
    if file.rows() != entry.records {
        return Err(differs("sequences", file.rows(), entry.records));
    }
    Ok(file)
}

/// The pieces of the given documents in each of the shards, by row and position. Tokens are not read.
///
/// # Errors
/// `Failure::Verification` for the first damaged shard.
pub(crate) fn find(workdir: &Workdir, shards: &[Shard], documents: &BTreeSet<u128>) -> Result<Vec<Vec<Placement>>, Failure> {
    let of_shard = |shard: &Shard| -> Result<Vec<Placement>, Failure> {
        let file = open(workdir, &shard.entry)?;
        find_documents(&file, documents).map_err(|e| Failure::reading("", &e))
    };
    // In turn the results stay in the order of the shards, and of two damaged ones the first is told.
    let found: Vec<Result<_, Failure>> = shards.par_iter().map(of_shard).collect();
    found.into_iter().collect()
}

/// Whether an object is a shard by its name.
pub(crate) fn is_shard(key: &str) -> bool {
    key.starts_with("shards/") && key.ends_with(".parquet")
}
