//! Reads an export again and proves it: digests, the layout of every object, every id, mask and boundary, lineage and sums.
//!
//! It shares no code with the writers and believes nothing but the manifest: each layout is parsed from the published
//! description of the format. It changes nothing.

mod boundaries;
mod ds;
mod lineage;
mod litdata;
mod llmc;
mod mds;
mod megatron;
mod object;
mod olmo;
mod part;

use std::collections::BTreeSet;
use std::sync::Arc;

use mellama_storage::{ObjectEntry, Store, list_all};

use crate::export::manifest::{ExportManifest, MANIFEST_KEY, REQUEST_KEY};
use crate::export::{DOCUMENTS_KEY, ExportError, Format};
use object::Object;

/// Why a check ends.
#[derive(Debug)]
enum Trouble {
    /// Something is not what it should be: object, what, got and expected.
    Wrong(String),
    /// The store failed.
    Failed(ExportError),
}

type Checked<T> = Result<T, Trouble>;

fn wrong<T>(subject: &str, problem: impl std::fmt::Display) -> Checked<T> {
    Err(Trouble::Wrong(format!("{subject}: {problem}")))
}

/// How a part lies in its object, as the format's own description of it says.
#[derive(Debug)]
struct Body {
    /// Byte of the first id of window 0.
    first: u64,
    /// Bytes from a window to the next.
    stride: u64,
    /// Where its masks are, if the format has them.
    mask: Option<Mask>,
    /// What lists its segments, if the format does.
    boundaries: Option<Box<dyn boundaries::Boundaries>>,
    /// Byte of the segment numbers of window 0, if the format has such a column.
    segment_ids: Option<u64>,
}

/// One byte a position: object, byte of window 0, bytes to the next window.
#[derive(Debug)]
struct Mask {
    object: Object,
    first: u64,
    stride: u64,
}

impl Body {
    fn plain(first: u64, stride: u64) -> Self {
        Self { first, stride, mask: None, boundaries: None, segment_ids: None }
    }
}

/// What is wrong with an export; empty when it is what its manifest says. One finding an object, each naming it.
///
/// `progress` is told of every object and answers whether to go on.
///
/// # Errors
/// [`ExportError`] when the store fails or the caller stops.
pub fn verify_export(
    store: &Arc<dyn Store>,
    manifest: &ExportManifest,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<Vec<String>, ExportError> {
    let mut findings = Vec::new();
    for entry in &manifest.objects {
        note(&mut findings, digest(store, entry))?;
        if !progress(1) {
            return Err(ExportError::Stopped);
        }
    }
    findings.extend(strangers(store, manifest)?);
    // What is not what it was when it was published is not looked into.
    if findings.is_empty() {
        note(&mut findings, content(store, manifest))?;
    }
    Ok(findings)
}

fn note(findings: &mut Vec<String>, checked: Checked<()>) -> Result<(), ExportError> {
    match checked {
        Ok(()) => Ok(()),
        Err(Trouble::Wrong(finding)) => {
            findings.push(finding);
            Ok(())
        }
        Err(Trouble::Failed(error)) => Err(error),
    }
}

/// Length and BLAKE3 of one object.
fn digest(store: &Arc<dyn Store>, entry: &ObjectEntry) -> Checked<()> {
    let mut object = Object::open(store, &entry.key)?;
    if object.size_bytes() != entry.bytes {
        return wrong(&entry.key, format!("{} bytes, manifest lists {}", object.size_bytes(), entry.bytes));
    }
    let found = object.blake3()?;
    if found != entry.blake3 {
        return wrong(&entry.key, format!("BLAKE3 {}, manifest lists {}", &found[..16], short(&entry.blake3)));
    }
    Ok(())
}

fn short(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
}

/// Objects that nothing names: readers take what a pattern of names finds, so these would be trained on.
fn strangers(store: &Arc<dyn Store>, manifest: &ExportManifest) -> Result<Vec<String>, ExportError> {
    let mut named: BTreeSet<&str> = manifest.objects.iter().map(|entry| entry.key.as_str()).collect();
    named.extend([MANIFEST_KEY, REQUEST_KEY]);
    let mut found = Vec::new();
    for object in list_all(&**store, "") {
        let key = object?.key;
        if !named.contains(key.as_str()) {
            found.push(format!("{key}: the manifest does not name it, a reader may take it for data; remove it"));
        }
    }
    Ok(found)
}

/// Everything beyond digests.
fn content(store: &Arc<dyn Store>, manifest: &ExportManifest) -> Checked<()> {
    let format: Format = manifest.request.format.parse().map_err(|e: ExportError| Trouble::Wrong(e.to_string()))?;
    let mut sums = part::Sums::new(manifest);
    for (index, part) in manifest.parts.iter().enumerate() {
        if part.first_window != sums.totals.windows {
            return wrong(&part.object, format!("begins at window {}, expected {}", part.first_window, sums.totals.windows));
        }
        let place = Place { store, manifest, index, part };
        let body = match format {
            Format::Megatron => megatron::body(&place),
            Format::Mds => mds::body(&place),
            Format::Ds => ds::body(&place),
            Format::Llmc => llmc::body(&place),
            Format::Olmo => olmo::body(&place),
            Format::Litdata => litdata::body(&place),
        }?;
        part::check(&place, body, &mut sums)?;
    }
    let documents = sums.compare(manifest)?;
    if manifest.objects.iter().any(|entry| entry.key == DOCUMENTS_KEY) {
        let listed = lineage::document_keys(store)?;
        if listed != documents {
            return wrong(DOCUMENTS_KEY, format!("{} documents, the lineage has {}", listed.len(), documents.len()));
        }
    }
    Ok(())
}

/// Which part is checked.
struct Place<'a> {
    store: &'a Arc<dyn Store>,
    manifest: &'a ExportManifest,
    /// Number of the part.
    index: usize,
    part: &'a crate::export::ExportPart,
}

impl Place<'_> {
    /// T.
    fn length(&self) -> u64 {
        u64::from(self.manifest.sequence_length)
    }

    fn width(&self) -> u64 {
        self.manifest.width_bytes
    }

    /// Tokens of the object.
    fn tokens(&self) -> u64 {
        self.part.windows * self.length()
    }

    /// Opens the object with the ids, or one whose name is made from it.
    fn open(&self, key: &str) -> Checked<Object> {
        Object::open(self.store, key)
    }

    /// The object holds exactly the ids and nothing else.
    fn check_raw_size(&self) -> Checked<()> {
        let size = self.open(&self.part.object)?.size_bytes();
        let expected = self.tokens() * self.width();
        if size == expected { Ok(()) } else { wrong(&self.part.object, format!("{size} bytes, expected {expected}")) }
    }
}

#[cfg(test)]
mod tests;
