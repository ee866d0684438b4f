//! Reading the objects of an ingest task: raw bytes to batches of items, in the order of the input, on a thread of its own where
//! there are two.
//!
//! It cleans nothing and writes nothing.

use std::io::BufReader;

use mellama_sources::{Format, Input, Item, Part, ReadError, Reader, SequentialReader, SourceContext};
use mellama_storage::StoreError;

use super::{changed, decoding, read_failure};
use crate::ahead::{Take, ahead};
use crate::context::Context;
use crate::failure::Failure;
use crate::inputs::InputObject;
use crate::plan::IngestTask;
use crate::recipe::SourceRecipe;

/// Items of a batch.
const BATCH_ITEMS: usize = 256;
/// Bytes of text and meta data after which a batch is closed early. Five batches are held at most: one that is read, one that
/// waits, one that is cleaned, one that waits to be written, one that is written.
const BATCH_BYTES: usize = 2 << 20;
/// Batches that wait.
const BATCHES_AHEAD: usize = 1;
/// Stored bytes of an object below which it is decompressed where it is parsed: a thread would cost more than it saves.
const DECODED_AHEAD_BYTES: u64 = 256 << 10;
/// Read buffer on an input object, in bytes.
const READ_BUFFER_BYTES: usize = 1 << 20;

/// Consecutive items of a task.
#[derive(Default)]
pub(super) struct Batch {
    /// Each with the index of its object in the task.
    pub(super) items: Vec<(u32, Item)>,
    /// Input bytes of the objects that end in it.
    pub(super) finished_bytes: u64,
    bytes: usize,
}

impl Batch {
    pub(super) fn push(&mut self, object: u32, item: Item) {
        if let Item::Document(document) = &item {
            let meta: usize = document.meta.iter().map(|(name, value)| name.len() + value.len()).sum();
            self.bytes += document.text.len() + meta;
        }
        self.items.push((object, item));
    }

    fn is_full(&self) -> bool {
        self.items.len() >= BATCH_ITEMS || self.bytes >= BATCH_BYTES
    }
}

/// Reads all objects of a task and gives them away batch by batch, in order, on the caller's thread. With two threads or more
/// the next batches are read meanwhile, and big objects decompressed ahead of that. No thread outlives the call but that of a reader
/// that is kept for a later part of its object, which waits.
///
/// # Errors
/// The first that `give` returns, else those of reading, once everything read before is given away.
pub(super) fn read(context: &Context<'_>, planned: &IngestTask, give: &mut Take<'_, Batch>) -> Result<(), Failure> {
    ahead(context.resources.threads, BATCHES_AHEAD, |give| read_each(context, planned, give), give)
}

fn read_each(context: &Context<'_>, planned: &IngestTask, give: &mut Take<'_, Batch>) -> Result<(), Failure> {
    let mut batch = Batch::default();
    for (index, input) in planned.inputs.iter().enumerate() {
        let mut reader = PartReader::open(context, planned.source, input)?;
        while let Some(item) = reader.next() {
            batch.push(index as u32, item.map_err(|e| read_failure(input, &e))?);
            if batch.is_full() {
                give(std::mem::take(&mut batch))?;
            }
        }
        if let PartReader::Sequential(reader, _) = reader {
            context.cache.readers.keep(planned.source, input, reader);
        }
        batch.finished_bytes += input.input_bytes();
    }
    give(batch)
}

/// What reads an object, or a part of one.
enum PartReader {
    Whole(Box<dyn Reader>),
    Sequential(Box<SequentialReader>, Part),
}

impl PartReader {
    /// Opens an object, or goes on in one, and comes to the part that is meant.
    fn open(context: &Context<'_>, source: usize, input: &InputObject) -> Result<Self, Failure> {
        let opened = || open(context, &context.corpus().source[source], input);
        let Some(part) = input.part.filter(|part| part.is_sequential) else { return Ok(Self::Whole(opened()?)) };
        let mut reader = match context.cache.readers.take(source, input, &part) {
            Some(reader) => reader,
            None => Box::new(SequentialReader::new(opened()?)),
        };
        reader.approach(&part).map_err(|e| read_failure(input, &e))?;
        Ok(Self::Sequential(reader, part))
    }

    fn next(&mut self) -> Option<Result<Item, ReadError>> {
        match self {
            Self::Whole(reader) => reader.next(),
            Self::Sequential(reader, part) => reader.next_of(part),
        }
    }
}

fn open(context: &Context<'_>, source: &SourceRecipe, input: &InputObject) -> Result<Box<dyn Reader>, Failure> {
    let format = source.format.parse().map_err(|e| Failure::Policy(format!("{e}")))?;
    let source_context = SourceContext {
        name: source.name.clone(),
        domain: source.domain,
        sensitivity: source.resolved_sensitivity(),
        licence: source.licence.clone(),
        fields: source.fields.clone(),
        read: source.read.clone(),
        object: input.name.clone(),
    };
    let limits = context.limits();
    let mut raw = raw_input(input, format).map_err(|e| changed(input, &e))?;
    if !format.wants_random_access(&input.name) {
        if context.resources.threads >= 2 && input.input_bytes() >= DECODED_AHEAD_BYTES {
            raw = decoding::ahead(raw, &limits);
        }
        raw = decoding::watched(raw, &limits, &context.resources.interrupt, &input.name);
    }
    mellama_sources::open(format, source_context, raw, &limits).map_err(|e| read_failure(input, &e))
}

/// The bytes of an object as its reader takes them.
fn raw_input(input: &InputObject, format: Format) -> Result<Input, StoreError> {
    Ok(match input.part {
        Some(part) if !part.is_sequential => Input::part(input.open_random()?, part),
        _ if format.wants_random_access(&input.name) => Input::Random(input.open_random()?),
        _ => Input::Stream(Box::new(BufReader::with_capacity(READ_BUFFER_BYTES, input.open()?))),
    })
}
