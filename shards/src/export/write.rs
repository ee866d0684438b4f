//! Writes an export: checks every shard, then streams its sequences into the objects of a format, lineage beside them.
//!
//! It publishes no manifest: the caller does, when everything else is there and checked. A second run writes the same bytes.

use std::sync::Arc;

use mellama_storage::{Key, ObjectEntry, Store, Workdir};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};

use crate::error::ShardError;
use crate::export::ds::Ds;
use crate::export::lineage::{LineageRow, LineageWriter};
use crate::export::litdata::Litdata;
use crate::export::llmc::Llmc;
use crate::export::manifest::{ExportPart, ExportRequest, ExportTotals, SourceTokens};
use crate::export::mds::Mds;
use crate::export::megatron::Megatron;
use crate::export::object::{Layout, Place, Shape};
use crate::export::olmo::Olmo;
use crate::export::window::{Encoder, IdWidth, Window};
use crate::export::{EXPORT_VERSION, ExportError, Format, MAX_OBJECT_WINDOWS};
use crate::format::{Sequence, ShardHeader};
use crate::set::{Prefetch, ShardSet};

/// Sequences read ahead of the writer.
const AHEAD_SEQUENCES: usize = 512;
/// Windows between two looks whether to stop.
const WINDOWS_PER_CHECK: u64 = 256;
/// Bytes hashed at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// Document keys gathered before they are sorted into those that are known.
const KEYS_AT_ONCE: usize = 1 << 20;

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// Objects with ids, in order.
    pub parts: Vec<ExportPart>,
    /// Every object, in the order of writing.
    pub objects: Vec<ObjectEntry>,
    /// What they add up to.
    pub totals: ExportTotals,
    /// Distinct document keys, ascending: 16 bytes a document.
    pub documents: Vec<u128>,
}

/// Writes all windows of `set` into `store` as `request` says.
///
/// `progress` is told of every few hundred windows and answers whether to go on.
///
/// # Errors
/// [`ExportError::Shard`] when a shard is not what its manifest says, before anything is written; [`ExportError::Refused`] when
/// the format cannot say what the shards say; otherwise the stores'.
pub fn write_export(
    set: &Arc<ShardSet>,
    shards: &Arc<dyn Store>,
    store: &Workdir,
    request: &ExportRequest,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<Written, ExportError> {
    let format: Format = request.format.parse()?;
    check_request(set, request, format)?;
    check_shards(set, shards)?;
    let shape = shape(set.header(), request);
    let mut layout = layout(format, &shape, request);
    let mut export = Export::new(set, store, request, &shape);
    let windows = windows_per_object(&*layout, request, shape.sequence_length);
    let mut sequences = Prefetch::new(Arc::clone(set), 0..set.len(), AHEAD_SEQUENCES);
    for (number, first) in (0..set.len()).step_by(windows as usize).enumerate() {
        let here = windows.min(set.len() - first);
        export.object(&mut *layout, number as u64, first..first + here, &mut sequences, progress)?;
    }
    check_sums(set, &export.totals)?;
    export.objects.extend(layout.index(store)?);
    Ok(export.finish())
}

/// What was written adds up to what the footers of the shards say.
fn check_sums(set: &ShardSet, found: &ExportTotals) -> Result<(), ExportError> {
    let mut expected = [0_u64; 4];
    let mut sources = vec![0_u64; set.header().sources.len()];
    for index in 0..set.objects().len() {
        let shard = set.shard(index)?;
        let totals = shard.totals();
        let counts = [totals.tokens, totals.padding, totals.trained, totals.segments];
        expected.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        sources.iter_mut().zip(&totals.source_tokens).for_each(|(sum, count)| *sum += count);
    }
    let same_sources = found.sources.iter().map(|source| source.tokens).eq(sources);
    let counts = [found.tokens, found.padding, found.trained, found.segments];
    if same_sources && counts == expected {
        return Ok(());
    }
    let problem = format!("footers add up to {expected:?} tokens, padding, trained and segments, the sequences to {counts:?}");
    Err(ShardError::Corrupt { subject: "shard set".to_owned(), problem }.into())
}

/// BLAKE3 over the digests of the shards in order.
pub fn shards_digest(objects: &[ObjectEntry]) -> String {
    let mut hasher = blake3::Hasher::new();
    for entry in objects {
        hasher.update(entry.blake3.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

fn windows_per_object(layout: &dyn Layout, request: &ExportRequest, sequence_length: u32) -> u64 {
    let wanted = request.object_tokens / u64::from(sequence_length);
    wanted.clamp(1, MAX_OBJECT_WINDOWS).min(layout.most_windows())
}

fn shape(header: &ShardHeader, request: &ExportRequest) -> Shape {
    Shape {
        split: request.split.clone(),
        sequence_length: header.sequence_length,
        width: IdWidth::for_vocabulary(header.vocabulary_size),
        tokenizer: header.tokenizer_digest.clone(),
    }
}

fn layout(format: Format, shape: &Shape, request: &ExportRequest) -> Box<dyn Layout> {
    let shape = shape.clone();
    match format {
        Format::Megatron => Box::new(Megatron::new(shape)),
        Format::Mds => Box::new(Mds::new(shape, request.segments)),
        Format::Ds => Box::new(Ds::new(shape)),
        Format::Llmc => Box::new(Llmc::new(shape)),
        Format::Olmo => Box::new(Olmo::new(shape)),
        Format::Litdata => Box::new(Litdata::new(shape)),
    }
}

/// Refuses a request that these shards or this format cannot meet; nothing is read but the header.
///
/// # Errors
/// [`ExportError::Refused`] with the reason.
pub fn check_request(set: &ShardSet, request: &ExportRequest, format: Format) -> Result<(), ExportError> {
    let header = set.header();
    if request.object_tokens < u64::from(header.sequence_length) {
        let (tokens, length) = (request.object_tokens, header.sequence_length);
        return Err(ExportError::refused(format!(
            "objects of at most {tokens} tokens, one window has {length}; give at least that"
        )));
    }
    if request.export_version != EXPORT_VERSION {
        return Err(ExportError::refused(format!("version {}, expected {EXPORT_VERSION}", request.export_version)));
    }
    if request.fill_token >= header.vocabulary_size {
        let problem = format!("fill token {}, the vocabulary has {} ids", request.fill_token, header.vocabulary_size);
        return Err(ExportError::refused(problem));
    }
    if request.segments && format != Format::Mds {
        return Err(ExportError::refused(format!("{format} has no columns; leave --segments out, lineage/ has the segments")));
    }
    Ok(())
}

/// Every shard has the length and the digest that the manifest lists, and its header and footer can be read.
fn check_shards(set: &ShardSet, store: &Arc<dyn Store>) -> Result<(), ExportError> {
    // Headers first: a shard of a newer version is named as such.
    for index in 0..set.objects().len() {
        set.shard(index)?;
    }
    set.objects().par_iter().try_for_each(|entry| check_digest(store, entry))
}

fn check_digest(store: &Arc<dyn Store>, entry: &ObjectEntry) -> Result<(), ExportError> {
    let mut stream = store.open(&Key::new(entry.key.as_str())?, None)?;
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match std::io::Read::read(&mut stream, &mut chunk).map_err(ExportError::io(&entry.key))? {
            0 => break,
            length => hasher.update(&chunk[..length]),
        };
    }
    let found = hasher.finalize().to_hex();
    if found.as_str() == entry.blake3 {
        return Ok(());
    }
    let problem = format!("BLAKE3 {}, manifest lists {}; the shard was changed", &found[..16], &entry.blake3[..16]);
    Err(ShardError::Corrupt { subject: entry.key.clone(), problem }.into())
}

/// The state of an export while it is written.
struct Export<'a> {
    set: &'a ShardSet,
    store: &'a Workdir,
    holds_masks: bool,
    width: IdWidth,
    encoder: Encoder,
    ids: blake3::Hasher,
    parts: Vec<ExportPart>,
    objects: Vec<ObjectEntry>,
    totals: ExportTotals,
    documents: Vec<u128>,
    recent: Vec<u128>,
}

impl<'a> Export<'a> {
    fn new(set: &'a ShardSet, store: &'a Workdir, request: &ExportRequest, shape: &Shape) -> Self {
        let sources = set.header().sources.iter().map(|source| SourceTokens { source: source.clone(), tokens: 0 });
        let format: Result<Format, _> = request.format.parse();
        Self {
            set,
            store,
            holds_masks: request.segments || format.is_ok_and(|format| format.holds_masks() && format != Format::Mds),
            width: shape.width,
            encoder: Encoder::new(shape.width, request.fill_token),
            ids: blake3::Hasher::new(),
            parts: Vec::new(),
            objects: Vec::new(),
            totals: ExportTotals { sources: sources.collect(), ..ExportTotals::default() },
            documents: Vec::new(),
            recent: Vec::new(),
        }
    }

    fn object(
        &mut self,
        layout: &mut dyn Layout,
        number: u64,
        windows: std::ops::Range<u64>,
        sequences: &mut Prefetch,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), ExportError> {
        let key = layout.key(number);
        let place = layout.begin(self.store, number, windows.end - windows.start)?;
        let mut lineage = LineageWriter::begin(self.store, &key)?;
        for (index, window) in windows.clone().enumerate() {
            let sequence = sequences.next().ok_or_else(|| ended(window))??;
            self.window(layout, window, &sequence)?;
            self.lineage(&mut lineage, place, (index as u64, window), &sequence)?;
            if (window + 1).is_multiple_of(WINDOWS_PER_CHECK) && !progress(WINDOWS_PER_CHECK) {
                return Err(ExportError::Stopped);
            }
        }
        self.objects.extend(layout.end()?);
        let lineage = lineage.finish()?;
        let windows = (windows.start, windows.end - windows.start);
        let (first_window, windows) = windows;
        self.parts.push(ExportPart { object: key, lineage: lineage.key.clone(), first_window, windows });
        self.objects.push(lineage);
        Ok(())
    }

    /// Hands one window to the layout and counts it.
    fn window(&mut self, layout: &mut dyn Layout, window: u64, sequence: &Sequence) -> Result<(), ExportError> {
        self.encoder.encode(sequence);
        let trained = self.encoder.mask().iter().map(|&on| u64::from(on)).sum::<u64>();
        let filled = u64::from(sequence.filled());
        if trained != filled && !self.holds_masks {
            return Err(ExportError::refused(format!(
                "window {window} has a loss mask, which these files cannot say; export to ds, olmo, or mds with --segments"
            )));
        }
        self.ids.update(self.encoder.wide_bytes());
        let (shard, row) = self.set.locate(window)?;
        layout.push(&Window {
            id_bytes: self.encoder.id_bytes(),
            mask: self.encoder.mask(),
            sequence,
            shard: &self.set.objects()[shard].key,
            row,
        })?;
        let totals = &mut self.totals;
        totals.windows += 1;
        totals.tokens += filled;
        totals.padding += sequence.tokens.len() as u64 - filled;
        totals.trained += trained;
        totals.segments += sequence.segments.len() as u64;
        Ok(())
    }

    fn lineage(
        &mut self,
        lineage: &mut LineageWriter,
        place: Place,
        (index, window): (u64, u64),
        sequence: &Sequence,
    ) -> Result<(), ExportError> {
        let (before, width) = (index * sequence.tokens.len() as u64, self.width.bytes());
        for (range, segment) in sequence.segment_ranges() {
            let source = &mut self.totals.sources[usize::from(segment.source)];
            source.tokens += u64::from(range.end - range.start);
            let byte = |token: u32| place.first + index * place.stride + u64::from(token) * width;
            lineage.push(&LineageRow {
                window,
                document: segment.document,
                source: &source.source,
                epoch: segment.epoch,
                offset: segment.offset,
                tokens: (before + u64::from(range.start), before + u64::from(range.end)),
                bytes: (byte(range.start), byte(range.end)),
            })?;
            self.recent.push(segment.document);
        }
        if self.recent.len() >= KEYS_AT_ONCE {
            self.settle();
        }
        Ok(())
    }

    /// Sorts the recent keys into the known ones.
    fn settle(&mut self) {
        self.documents.append(&mut self.recent);
        self.documents.sort_unstable();
        self.documents.dedup();
    }

    fn finish(mut self) -> Written {
        self.settle();
        self.totals.documents = self.documents.len() as u64;
        self.totals.ids = self.ids.finalize().to_hex().to_string();
        Written { parts: self.parts, objects: self.objects, totals: self.totals, documents: self.documents }
    }
}

/// The reading thread ends early only after an error, which was given before.
fn ended(window: u64) -> ExportError {
    ShardError::OutOfRange { subject: "shard set".to_owned(), index: window, length: window }.into()
}
