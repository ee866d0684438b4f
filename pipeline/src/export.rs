//! `export`: the published shards of a work folder as the files of another trainer, with lineage, a page and a manifest.
//!
//! The layouts are `mellama_shards::export`'s. Here stand which shards, where to, in which order things appear, and what it
//! means to run the same export again. Nothing of the work folder is changed.

mod documents;
mod page;
pub(crate) mod verification;

use std::sync::Arc;

use mellama_shards::export::{
    EXPORT_VERSION, ExportError, ExportManifest, ExportRequest, Format, MANIFEST_KEY, REQUEST_KEY, Written, check_request,
    shards_digest, verify_export, write_export,
};
use mellama_shards::{Kind, ShardError, ShardHeader, ShardSet};
use mellama_storage::{
    AttemptId, Key, ObjectEntry, ProtocolError, PutOutcome, Store, StoreError, Stores, Workdir, list_all, sealed,
};
use serde::Serialize;
use serde_json::Value;

pub use mellama_shards::export::OBJECT_TOKENS;

use crate::failure::{Failure, chain};
use crate::lookup::Folder;
use crate::observer::{Observer, Unit};
use crate::stage::Stage;

/// What to export, as the command line says it.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// The work folder.
    pub workdir: String,
    /// Name of the format.
    pub format: String,
    /// Where to; a folder of its own.
    pub to: String,
    /// `train`, `heldout` or `instruct`.
    pub split: String,
    /// Tokens of an object at most.
    pub object_tokens: u64,
    /// Columns for masks and segments, in MDS.
    pub segments: bool,
}

/// What lies there now.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    /// The folder.
    pub to: String,
    /// Name of the format.
    pub format: String,
    /// Which shards.
    pub split: String,
    /// Whether the same export was there already, complete.
    pub already: bool,
    /// Windows.
    pub windows: u64,
    /// Tokens of a window.
    pub sequence_length: u32,
    /// Tokens that are not padding.
    pub tokens: u64,
    /// Padded positions.
    pub padding: u64,
    /// Id at padded positions.
    pub fill_token: u32,
    /// Distinct documents.
    pub documents: u64,
    /// Objects, lineage included.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Inherited by everything made of it.
    pub sensitivity: String,
    /// How the format's reader is told the length of a window.
    pub reader: String,
}

impl Exported {
    fn of(to: &str, manifest: &ExportManifest, already: bool) -> Exported {
        let totals = &manifest.totals;
        Exported {
            to: to.to_owned(),
            format: manifest.request.format.clone(),
            split: manifest.request.split.clone(),
            already,
            windows: totals.windows,
            sequence_length: manifest.sequence_length,
            tokens: totals.tokens,
            padding: totals.padding,
            fill_token: manifest.request.fill_token,
            documents: totals.documents,
            objects: manifest.objects.len() as u64,
            bytes: manifest.objects.iter().map(|object| object.bytes).sum(),
            sensitivity: manifest.sensitivity.clone(),
            reader: manifest.reader.clone(),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let state = if self.already { "was there already" } else { "written and checked" };
        format!(
            "{}: {} of {} {state}: {} windows of {} tokens, {} tokens and {} padding (id {}), {} objects, {} bytes; \
             reader: {}; sensitivity {}",
            self.to,
            self.format,
            self.split,
            self.windows,
            self.sequence_length,
            self.tokens,
            self.padding,
            self.fill_token,
            self.objects,
            self.bytes,
            self.reader,
            self.sensitivity
        )
    }
}

/// Shards to export and what they need to be understood.
struct Source {
    folder: Folder,
    set: Arc<ShardSet>,
    /// The shards.
    objects: Vec<ObjectEntry>,
    tokenizer: String,
}

/// Writes an export, or recognises it. Running it again after an interruption finishes it.
///
/// # Errors
/// `Failure::Policy` for an unknown format or split, shards that the format cannot hold, a folder that holds something else, or
/// shards of another format version; `Failure::Verification` for shards or written objects that fail their checks.
pub fn export(stores: &Stores, options: &ExportOptions, observer: &dyn Observer) -> Result<Exported, Failure> {
    let format: Format = options.format.parse().map_err(failure)?;
    let (source, request) = prepare(options, format, Folder::open(stores, &options.workdir)?)?;
    // Before anything is written: a refusal must not take the folder.
    check_request(&source.set, &request, format).map_err(failure)?;
    check_outside(source.folder.workdir.store().uri(), &options.to)?;
    let store = stores.open(&options.to)?;
    let to = store.uri().to_owned();
    if let Some(manifest) = begin(&store, &request)? {
        return Ok(Exported::of(&to, &manifest, true));
    }
    let folder = Workdir::new(Arc::clone(&store));
    observer.begin("export", source.set.len(), Unit::Items);
    let mut progress = |windows: u64| {
        observer.advance(windows);
        observer.stopped().is_none()
    };
    let shards = source.folder.workdir.store();
    let written = write_export(&source.set, shards, &folder, &request, &mut progress).map_err(|e| stopped(e, observer))?;
    let manifest = complete(&source, &folder, request, format, written)?;
    check(&store, &manifest, observer)?;
    check_unchanged(&source, options)?;
    put_manifest(&store, &manifest)?;
    observer.end("export", &format!("{} objects", manifest.objects.len()));
    Ok(Exported::of(&to, &manifest, false))
}

/// A retraction that was recorded meanwhile took documents out that the export holds.
fn check_unchanged(source: &Source, options: &ExportOptions) -> Result<(), Failure> {
    if published(&source.folder, &options.split)? == source.objects {
        return Ok(());
    }
    Err(Failure::Policy(format!(
        "{}: the shards were changed by a retraction while they were exported, so the export is not finished and may hold what was \
         retracted; delete it and export again",
        options.to
    )))
}

fn prepare(options: &ExportOptions, format: Format, folder: Folder) -> Result<(Source, ExportRequest), Failure> {
    let objects = published(&folder, &options.split)?;
    let set = ShardSet::open(&folder.workdir, &objects).map_err(|e| failure(e.into()))?;
    let header = set.header();
    let is_instruct = header.kind == Kind::Instruct;
    if is_instruct && !format.holds_masks() {
        return Err(Failure::Policy(format!(
            "export: instruction shards have loss masks, which {format} cannot say; give mds, ds or olmo"
        )));
    }
    let facts = folder.manifest(Stage::Tokenize)?.map_or(Value::Null, |manifest| manifest.facts);
    let token = |name: &str| facts["tokenizer"][name].as_u64().map(|id| id as u32);
    let request = ExportRequest {
        export_version: EXPORT_VERSION,
        format: format.name().to_owned(),
        split: if options.split == "validation" { "heldout".to_owned() } else { options.split.clone() },
        object_tokens: options.object_tokens,
        segments: options.segments || (is_instruct && format == Format::Mds),
        fill_token: token("eos").unwrap_or(mellama_shards::sequence::PADDING_TOKEN),
        begin_token: facts["separators"]["bos"].as_u64().map(|id| id as u32).filter(|_| !is_instruct),
        shards: shards_digest(&objects),
    };
    let tokenizer = facts["tokenizer"]["name"].as_str().unwrap_or_default().to_owned();
    Ok((Source { folder, set: Arc::new(set), objects, tokenizer }, request))
}

/// The shards of a split as they hold after retractions, in order.
fn published(folder: &Folder, split: &str) -> Result<Vec<ObjectEntry>, Failure> {
    let (stage, prefix) = match split {
        "train" => (Stage::Publish, "shards/cpt/train-"),
        "heldout" | "validation" => (Stage::Publish, "shards/cpt/heldout-"),
        "instruct" => (Stage::InstructData, "shards/instruct/train-"),
        _ => return Err(Failure::Policy("export --split: not known; give train, heldout or instruct".to_owned())),
    };
    let uri = folder.uri();
    let Some(manifest) = folder.manifest(stage)? else {
        return Err(Failure::Policy(format!("{uri}: stage {stage} is not finished; run \"mellama run\" first")));
    };
    let objects: Vec<ObjectEntry> = manifest.objects.into_iter().filter(|object| object.key.starts_with(prefix)).collect();
    if objects.is_empty() {
        return Err(Failure::Policy(format!("{uri}: stage {stage} published no {split} shards; there is nothing to export")));
    }
    Ok(objects)
}

/// A work folder holds what its run made and nothing else: what nothing names is taken for the rest of an attempt.
fn check_outside(workdir: &str, to: &str) -> Result<(), Failure> {
    let path = std::path::absolute(to.strip_prefix("file://").unwrap_or(to)).unwrap_or_default();
    // Links are followed as far as the path exists; the rest is made by the export.
    let is_inside = path.ancestors().any(|folder| folder.canonicalize().is_ok_and(|folder| folder.starts_with(workdir)));
    if is_inside {
        return Err(Failure::Policy(format!("{to}: lies in the work folder {workdir}; give a folder beside it")));
    }
    Ok(())
}

/// Makes the folder this export's own; returns the manifest where it is complete already.
fn begin(store: &Arc<dyn Store>, request: &ExportRequest) -> Result<Option<ExportManifest>, Failure> {
    let folder = Workdir::new(Arc::clone(store));
    let other =
        |found: &ExportRequest| Failure::Policy(format!("{}: {}; give another folder", store.uri(), differs(found, request)));
    if let Some(manifest) = folder.read_sealed::<ExportManifest>(&Key::new(MANIFEST_KEY)?)? {
        if manifest.request != *request {
            return Err(other(&manifest.request));
        }
        check_lengths(store, &manifest)?;
        return Ok(Some(manifest));
    }
    let key = Key::new(REQUEST_KEY)?;
    if folder.read_sealed::<Value>(&key)?.is_none() && list_all(&**store, "").next().transpose()?.is_some() {
        return Err(Failure::Policy(format!(
            "{}: not empty, and no export was begun there; give a folder of its own",
            store.uri()
        )));
    }
    let body = sealed::encode(request).expect("a request is a plain object");
    match store.put_new(&key, &body, &AttemptId::generate()) {
        Ok(PutOutcome::Created | PutOutcome::SameAttempt) => return Ok(None),
        Ok(PutOutcome::Other) => {}
        Err(error) if error.is_unknown() => {}
        Err(error) => return Err(error.into()),
    }
    match folder.read_sealed::<ExportRequest>(&key)? {
        Some(found) if found != *request => Err(other(&found)),
        _ => Ok(None),
    }
}

/// How the export that lies somewhere is another one.
fn differs(found: &ExportRequest, request: &ExportRequest) -> String {
    let of_now = ExportRequest { shards: request.shards.clone(), ..found.clone() };
    if of_now == *request {
        return "holds this export of other shards: they were changed since, by a retraction or another run, and it is stale"
            .to_owned();
    }
    if found.export_version != request.export_version {
        return format!("holds an export of version {}, this one is {}", found.export_version, request.export_version);
    }
    if (&found.format, &found.split) == (&request.format, &request.split) {
        return "holds the same export with other options, --object-tokens or --segments, or of another run".to_owned();
    }
    format!("holds another export, {} of {}", found.format, found.split)
}

/// Everything a complete export lists is there in its length; `verify` reads the bytes.
fn check_lengths(store: &Arc<dyn Store>, manifest: &ExportManifest) -> Result<(), Failure> {
    for entry in &manifest.objects {
        let found = store.head(&Key::new(entry.key.as_str())?);
        if found.as_ref().is_ok_and(|meta| meta.size_bytes == entry.bytes) {
            continue;
        }
        return Err(Failure::Verification(format!(
            "{}/{}: not what the manifest lists; remove the export and run this again",
            store.uri(),
            entry.key
        )));
    }
    Ok(())
}

/// Adds the table of documents and the page, and says what all of it is.
fn complete(
    source: &Source,
    folder: &Workdir,
    request: ExportRequest,
    format: Format,
    written: Written,
) -> Result<ExportManifest, Failure> {
    let header: &ShardHeader = source.set.header();
    let Written { parts, mut objects, totals, documents } = written;
    // Runs of earlier versions have no table of conversations.
    if header.kind == Kind::Cpt || source.folder.has_keys() {
        objects.push(documents::write(&source.folder, header.kind, folder, &documents)?);
    }
    let mut manifest = ExportManifest {
        request,
        sequence_length: header.sequence_length,
        vocabulary_size: header.vocabulary_size,
        width_bytes: header.width.bytes(),
        tokenizer_digest: header.tokenizer_digest.clone(),
        sensitivity: header.sensitivity.clone(),
        reader: format.reader_setting(header.sequence_length),
        parts,
        objects,
        totals,
    };
    let page = page::write(folder, &manifest, &source.tokenizer)?;
    manifest.objects.push(page);
    Ok(manifest)
}

/// Reads everything again before the manifest makes it exist.
fn check(store: &Arc<dyn Store>, manifest: &ExportManifest, observer: &dyn Observer) -> Result<(), Failure> {
    let findings = verify_export(store, manifest, &mut |_| observer.stopped().is_none()).map_err(|e| stopped(e, observer))?;
    let Some(first) = findings.first() else { return Ok(()) };
    Err(Failure::Verification(format!(
        "{}: {} findings, the first: {first}; no manifest was written",
        store.uri(),
        findings.len()
    )))
}

fn put_manifest(store: &Arc<dyn Store>, manifest: &ExportManifest) -> Result<(), Failure> {
    let body = sealed::encode(manifest).map_err(|e| Failure::Failed(chain(&e)))?;
    let mut part = Workdir::new(Arc::clone(store)).part()?;
    std::io::Write::write_all(&mut part, &body).map_err(|e| Failure::writing(MANIFEST_KEY, &e))?;
    part.finish_named(MANIFEST_KEY, 0)?;
    Ok(())
}

/// The exit code of an export's error.
fn failure(error: ExportError) -> Failure {
    let text = chain(&error);
    match error {
        ExportError::UnknownFormat { .. } | ExportError::Refused { .. } | ExportError::Shard(ShardError::Version { .. }) => {
            Failure::Policy(text)
        }
        ExportError::Shard(ShardError::Store(StoreError::NotFound { .. })) => Failure::Verification(text),
        ExportError::Shard(ShardError::Store(error)) | ExportError::Store(error) => error.into(),
        ExportError::Shard(ShardError::Protocol(error)) | ExportError::Protocol(error) => match error {
            ProtocolError::Store(StoreError::Exists { .. }) => {
                Failure::Verification(format!("{text}; it is not this export's, remove it and run this again"))
            }
            error => error.into(),
        },
        ExportError::Shard(error) => Failure::of(&error, text, Failure::Verification),
        ExportError::Io { .. } => Failure::of(&error, text, Failure::Storage),
        ExportError::Stopped => Failure::Failed(text),
    }
}

fn stopped(error: ExportError, observer: &dyn Observer) -> Failure {
    match (&error, observer.stopped()) {
        (ExportError::Stopped, Some(signal)) => Failure::Stopped(signal),
        _ => failure(error),
    }
}
