//! `inspect`: one published object as a person reads it. Text of documents is shown for open sources alone, and only when asked.

mod trace;
mod traced;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use mellama_shards::export::REQUEST_KEY;
use mellama_shards::lineage::lineage;
use mellama_shards::{Segment, Sequence, ShardError, ShardFile, ShardHeader, StoreChunks, key_text};
use mellama_sources::archive::DocumentReader;
use mellama_sources::{Document, Sensitivity};
use mellama_storage::{Key, StoreError, Stores};
use mellama_train::checkpoint::CheckpointManifest;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use serde_json::{Value, json};

use crate::failure::{Failure, chain};
use crate::location::Location;
use crate::lookup::{self, Folder};

pub use trace::trace;
pub use traced::{Placed, Removal, Runs, Spoken, Trace, Traced, Unwritten};

/// Characters of a text or a list that are shown.
const SHOWN_CHARACTERS: usize = 400;
/// Tokens of a sequence that are shown.
const SHOWN_TOKENS: usize = 16;

/// Which rows, and whether texts.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// First row.
    pub from: u64,
    /// Number of rows.
    pub rows: u64,
    /// Show texts of open documents.
    pub text: bool,
}

/// Shows a file or a checkpoint folder.
///
/// # Errors
/// `Failure::Policy` when it is nothing that mellama writes; `Failure::Verification` when it is damaged.
pub fn inspect(stores: &Stores, place: &Location, view: &View) -> Result<String, Failure> {
    let shown = place.to_string();
    let holds = |name: &str| place.join(name).object(stores).and_then(|(store, key)| store.head(&key)).is_ok();
    let is_folder = match place {
        Location::Path(path) => path.is_dir(),
        Location::Bucket(_) => ["plan.json", REQUEST_KEY, "config.json", "manifest.json"].into_iter().any(holds),
    };
    if is_folder && holds("plan.json") {
        return Err(Failure::Policy(format!(
            "{shown}: a work folder; give --id ID for a document, one of its files, or \"mellama status {shown}\""
        )));
    }
    if is_folder && holds(REQUEST_KEY) {
        return Err(Failure::Policy(format!(
            "{shown}: an export; read its README.md, give one of its lineage tables, or check it with \"mellama verify {shown}\""
        )));
    }
    if is_folder {
        return checkpoint(stores, place);
    }
    let ends_in = |extension: &str| place.name().rsplit_once('.').is_some_and(|(_, found)| found == extension);
    if ends_in("tokens") {
        return Err(Failure::Policy(format!("{shown}: bare token ids; their table is the index-*.parquet beside it")));
    }
    let unreadable = |e: StoreError| Failure::Policy(format!("{shown}: cannot be read: {}", chain(&e)));
    if ends_in("parquet") {
        let open = || place.open(stores).map(StoreChunks).map_err(unreadable);
        match ShardFile::open(&shown, open()?) {
            Ok(shard) => return sequences(stores, place, &shard, view),
            Err(newer @ ShardError::Version { .. }) => return Err(Failure::Policy(chain(&newer))),
            Err(_) => {}
        }
        if let Ok(documents) = DocumentReader::open(open()?) {
            return self::documents(&shown, documents, view);
        }
        return table(&shown, open()?, view);
    }
    let text = String::from_utf8_lossy(&place.read(stores).map_err(unreadable)?).into_owned();
    if ends_in("jsonl") {
        return lines(&shown, &text, view);
    }
    let value: Value = serde_json::from_str(&text).map_err(|_| {
        Failure::Policy(format!("{shown}: nothing that mellama writes; give a Parquet, JSON or JSONL file of a work folder"))
    })?;
    Ok(format!("{value:#}"))
}

fn checkpoint(stores: &Stores, folder: &Location) -> Result<String, Failure> {
    let shown = folder.to_string();
    let read = |name: &str| folder.join(name).read(stores).ok();
    let mut lines = vec![shown.clone()];
    if let Some(bytes) = read("manifest.json") {
        let manifest: CheckpointManifest = mellama_storage::sealed::decode(&bytes)
            .map_err(|e| Failure::Verification(format!("{shown}/manifest.json: {}", chain(&e))))?;
        lines.push(format!(
            "step {} of {}, {} updates, seed {}, sensitivity {}",
            manifest.step, manifest.total_steps, manifest.updates, manifest.seed, manifest.sensitivity
        ));
        lines.push(format!(
            "cursor: position {}, epoch {}, index {}",
            manifest.cursor.position, manifest.cursor.epoch, manifest.cursor.index
        ));
        lines.push(format!(
            "made from: data {}, base {}, settings {}",
            manifest.digests.data, manifest.digests.base, manifest.digests.settings
        ));
        let (guard, partition) = (&manifest.guard, manifest.partition);
        lines.push(format!(
            "guards: {} steps passed over, {} spikes; written by {} ranks",
            guard.skipped.len(),
            guard.spikes.len(),
            partition.ranks()
        ));
        for skipped in &guard.skipped {
            lines.push(format!(
                "  passed over: step {}, positions from {}, {:?}",
                skipped.step, skipped.first_position, skipped.reason
            ));
        }
        for object in &manifest.objects {
            lines.push(format!("  {:>12} bytes  {}  {}", object.bytes, &object.blake3[..16], object.key));
        }
    }
    let store = folder.store(stores)?;
    if store.head(&Key::new("adapter_config.json")?).is_ok() {
        lines.push("no model that loads by itself (adapters alone)".into());
        return Ok(lines.join("\n"));
    }
    let model = mellama_train::hf::load(&store, "").map_err(|e| Failure::loading(&e))?;
    let s = &model.shape;
    lines.push(format!(
        "model: {} parameters; width {}, feed-forward {}, layers {}, heads {} ({} key-value), vocabulary {}, positions {}",
        s.parameter_count(),
        s.width,
        s.feed_forward,
        s.layers,
        s.heads,
        s.kv_heads,
        s.vocabulary,
        s.max_positions
    ));
    lines.push(format!("weights: {}", model.digest));
    Ok(lines.join("\n"))
}

fn sequences(stores: &Stores, place: &Location, shard: &ShardFile, view: &View) -> Result<String, Failure> {
    let header = shard.header();
    let totals = shard.totals();
    let mut text = vec![format!(
        "{}: {:?} shard, {} sequences of {} tokens, {} tokens, {} padding, {} trained, sensitivity {}",
        shard.name(),
        header.kind,
        shard.rows(),
        header.sequence_length,
        totals.tokens,
        totals.padding,
        totals.trained,
        header.sensitivity
    )];
    let by_source = header.sources.iter().zip(&totals.source_tokens).map(|(name, tokens)| format!("{name} {tokens}"));
    text.push(format!("tokens by source: {}", by_source.collect::<Vec<_>>().join(", ")));
    let end = shard.rows().min(view.from.saturating_add(view.rows));
    let rows = view.from.min(end)..end;
    let ids = ids_of(stores, place, shard, &rows);
    for row in rows {
        let sequence = shard.sequence(row).map_err(|e| Failure::reading("", &e))?;
        text.push(format!(
            "sequence {row}: {} segments, {} of {} filled",
            sequence.segments.len(),
            sequence.filled(),
            header.sequence_length
        ));
        for (range, segment) in sequence.segment_ranges() {
            text.push(segment_line(&sequence, &range, segment, header, ids.get(&segment.document)));
        }
    }
    Ok(text.join("\n"))
}

/// The ids of the documents of some rows, where the shard lies in the folder of its run; else, or where that cannot be read,
/// none.
fn ids_of(stores: &Stores, place: &Location, shard: &ShardFile, rows: &Range<u64>) -> BTreeMap<u128, String> {
    let known = || -> Option<BTreeMap<u128, String>> {
        // FOLDER/shards/cpt/NAME
        let folder = place.ancestor(3)?;
        let folder = Folder::open(stores, &folder.to_string()).ok()?;
        let of_rows = lineage(shard).filter_map(Result::ok).filter(|placement| rows.contains(&placement.sequence));
        let keys: BTreeSet<u128> = of_rows.map(|placement| placement.document).collect();
        lookup::ids_of(&folder, &keys).ok()
    };
    known().unwrap_or_default()
}

fn segment_line(sequence: &Sequence, range: &Range<u32>, segment: &Segment, header: &ShardHeader, id: Option<&String>) -> String {
    let tokens = &sequence.tokens[range.start as usize..range.end as usize];
    // Tokens are text in another spelling.
    let first: Vec<String> = match header.sensitivity.as_str() {
        "open" => tokens.iter().take(SHOWN_TOKENS).map(ToString::to_string).collect(),
        level => vec![format!("tokens not shown: {level}")],
    };
    let more = if tokens.len() > SHOWN_TOKENS && header.sensitivity == "open" { " ..." } else { "" };
    let source = header.sources.get(usize::from(segment.source)).map_or("?", String::as_str);
    let mask = sequence.loss_mask.as_ref().map_or(String::new(), |mask| {
        let trained = mask[range.start as usize..range.end as usize].iter().filter(|m| **m).count();
        format!(" trained {trained}")
    });
    let document = id.map_or_else(String::new, |id| format!("{id} "));
    format!(
        "  {:>6}..{:<6} {source} document {document}{} from token {} epoch {}{mask}: {}{more}",
        range.start,
        range.end,
        key_text(segment.document),
        segment.offset,
        segment.epoch,
        first.join(" ")
    )
}

fn documents(name: &str, reader: DocumentReader, view: &View) -> Result<String, Failure> {
    let rows = reader.row_count();
    let has_keys = reader.layout() > 1;
    let end = rows.min(view.from.saturating_add(view.rows));
    let mut lines = vec![format!("{name}: {rows} documents")];
    for document in reader.rows(view.from.min(end)..end) {
        let document = document.map_err(|e| Failure::Verification(format!("{name}: {}", chain(&e))))?;
        let mut value = shown(&document, view.text);
        if has_keys {
            value["key"] = json!(key_text(document.key()));
        }
        lines.push(format!("{value:#}"));
    }
    Ok(lines.join("\n"))
}

/// A document without what is not to be shown. Titles and meta are text too.
fn shown(document: &Document, with_text: bool) -> Value {
    let mut value = json!({
        "id": document.id,
        "version": document.version,
        "domain": document.domain,
        "licence": document.licence,
        "sensitivity": document.sensitivity,
        "year": document.year,
        "origin": document.origin,
        "text_bytes": document.text.len(),
    });
    if document.sensitivity != Sensitivity::Open {
        value["text"] = json!(format!("not shown: {}", document.sensitivity));
    } else if with_text {
        value["title"] = json!(document.title);
        value["meta"] = json!(document.meta);
        value["text"] = json!(document.text.chars().take(SHOWN_CHARACTERS).collect::<String>());
    }
    value
}

fn table(name: &str, file: StoreChunks, view: &View) -> Result<String, Failure> {
    let wrong = |e: &dyn std::fmt::Display| Failure::Verification(format!("{name}: not a readable table: {e}"));
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| wrong(&e))?;
    if !known(builder.schema().fields().iter().map(|field| (field.name().as_str(), field.data_type()))) {
        return Err(Failure::Policy(format!(
            "{name}: not a table that mellama writes; its columns are not shown, they may hold text"
        )));
    }
    let rows = builder.metadata().file_metadata().num_rows();
    let all = rows.max(0) as u64;
    let first = view.from.min(all);
    let wanted = view.rows.min(all - first);
    let selection = RowSelection::from(vec![RowSelector::skip(first as usize), RowSelector::select(wanted as usize)]);
    let reader = builder.with_row_selection(selection).build().map_err(|e| wrong(&e))?;
    let mut lines = vec![format!("{name}: {rows} rows")];
    for batch in reader {
        let batch = batch.map_err(|e| wrong(&e))?;
        lines.extend((0..batch.num_rows()).map(|row| row_line(&batch, row)));
    }
    Ok(lines.join("\n"))
}

/// Whether all columns are of tables that hold ids, places and numbers alone.
fn known<'n>(fields: impl Iterator<Item = (&'n str, &'n DataType)>) -> bool {
    let columns = [
        "dropped_id",
        "kept_id",
        "rule",
        "similarity",
        "spec_version",
        "containment",
        "kept_release",
        "dropped",
        "kept",
        "ordinal",
        "joined",
        "dependent",
        "owner",
        "preprint",
        "root",
        "number",
        "group",
        "flags",
        "quality",
        "abridged",
        "names",
        "preprint_of",
        "published_from",
        "task",
        "row",
        "reason",
        "bytes",
        "cut_starts",
        "cut_ends",
        "id",
        "native_id",
        "byte_offset",
        "event",
        "version",
        "characters",
        "words",
        "exact",
        "bands",
        "grams",
        "excluded_items",
        "object",
        "source",
        "epoch",
        "take",
        "sequence",
        "start",
        "key",
        "offset",
        "length",
        "check",
        "heldout",
        "state",
        "document",
        "licence",
        "sensitivity",
        "window",
        "token_start",
        "token_end",
        "byte_start",
        "byte_end",
    ];
    // A column `tokens` of numbers counts them; lists would be text in another spelling.
    let is_known = |(name, kind): (&str, &DataType)| {
        columns.contains(&name) || name.starts_with("band_") || (name == "tokens" && *kind == DataType::UInt32)
    };
    let mut fields = fields.peekable();
    fields.peek().is_some() && fields.all(is_known)
}

fn row_line(batch: &RecordBatch, row: usize) -> String {
    let cell = |column: &dyn Array| {
        let shown = array_value_to_string(column, row).unwrap_or_else(|_| "?".to_owned());
        let shown = shown.chars().take(SHOWN_CHARACTERS).collect::<String>();
        // Text in quotes, its control characters escaped.
        if *column.data_type() == DataType::Utf8 { format!("{shown:?}") } else { shown }
    };
    let schema = batch.schema();
    let cells =
        schema.fields().iter().zip(batch.columns()).map(|(field, column)| format!("{} {}", field.name(), cell(&**column)));
    format!("  {}", cells.collect::<Vec<_>>().join("  "))
}

/// JSON lines of rejects, drops, withdrawals, leaks, metrics and predictions; anything else may hold text and is not shown.
fn lines(name: &str, text: &str, view: &View) -> Result<String, Failure> {
    let members = [
        "source",
        "object",
        "byte_offset",
        "bytes",
        "reason",
        "id",
        "native_id",
        "rule",
        "policy",
        "identifiers",
        "title_hits",
        "text_hits",
        "items",
        "step",
        "heldout",
        "gold",
        "prediction",
        "prediction_norm",
        "prediction_bytes",
        "log_likelihoods",
        "greedy",
        "tokens",
        "cut",
        "epoch",
        "first_position",
        "sequences",
        "loss_tokens",
        "loss",
        "gradient_norm",
        "learning_rate",
        "adapter_norm",
        "spike",
        "skipped",
        "sources",
        "domains",
        "time",
        "seconds",
        "data_wait_seconds",
        "save_wait_seconds",
        "tokens_per_second",
        "mfu_palm",
        "mfu_6n",
        "peak_flops_per_second",
        "memory_bytes",
        "resident_bytes",
    ];
    let known = |line: &str| {
        let value: Option<Value> = serde_json::from_str(line).ok();
        value.as_ref().and_then(Value::as_object).is_some_and(|found| found.keys().all(|key| members.contains(&key.as_str())))
    };
    if !text.lines().all(known) {
        return Err(Failure::Policy(format!(
            "{name}: not JSON lines that mellama writes; they are not shown, they may hold text"
        )));
    }
    let chosen = text.lines().skip(view.from as usize).take(view.rows as usize);
    let mut lines = vec![format!("{} lines", text.lines().count())];
    lines.extend(chosen.map(|line| line.chars().take(SHOWN_CHARACTERS).collect()));
    Ok(lines.join("\n"))
}
