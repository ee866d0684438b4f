//! The token runs that a task of `tokenize` published, opened for reading. What they hold and who is kept is decided elsewhere.

use std::sync::Arc;

use mellama_shards::{RunIndex, RunReader, StoreChunks, TokenObject, Width};
use mellama_storage::{RangeReader, TaskCommit, Workdir};

use crate::failure::Failure;

/// Opens the index of a finished tokenize task, if it wrote any.
///
/// # Errors
/// `Failure::Verification` for damaged objects.
pub(crate) fn index(workdir: &Workdir, commit: &TaskCommit) -> Result<Option<RunIndex>, Failure> {
    let Some(entry) = commit.objects.iter().find(|o| o.key.ends_with(".parquet")) else { return Ok(None) };
    let reader = RangeReader::of(Arc::clone(workdir.store()), entry).map_err(Failure::of_published)?;
    let index = RunIndex::open(&entry.key, StoreChunks(reader)).map_err(|e| Failure::reading("", &e))?;
    Ok(Some(index))
}

/// Opens the token runs of a finished tokenize task, if it wrote any.
///
/// # Errors
/// As `index`.
pub(crate) fn open(workdir: &Workdir, commit: &TaskCommit) -> Result<Option<RunReader>, Failure> {
    let Some(index) = index(workdir, commit)? else { return Ok(None) };
    let tokens = commit.objects.iter().find(|o| o.key.ends_with(".tokens")).expect("an index has its tokens beside it");
    let reader = RangeReader::of(Arc::clone(workdir.store()), tokens).map_err(Failure::of_published)?;
    RunReader::new(index, reader).map(Some).map_err(|e| Failure::reading("", &e))
}

/// Opens the tokens of a finished tokenize task without their index, if it wrote any: `count` ids of this width.
///
/// # Errors
/// As `index`.
pub(crate) fn tokens(workdir: &Workdir, commit: &TaskCommit, width: Width, count: u64) -> Result<Option<TokenObject>, Failure> {
    let Some(entry) = commit.objects.iter().find(|o| o.key.ends_with(".tokens")) else { return Ok(None) };
    let reader = RangeReader::of(Arc::clone(workdir.store()), entry).map_err(Failure::of_published)?;
    TokenObject::new(reader, width, count).map(Some).map_err(|e| Failure::reading("", &e))
}
