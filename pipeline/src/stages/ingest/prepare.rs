//! What is computed from one document's text alone: cleaning, sketch, benchmark hits. On any thread, in any order.

use mellama_dedup::{Links, Sketch, Sketcher, name_hash};
use mellama_sources::{Changes, Cleaned, Cleaner, Document, Domain, DropReason, PhiFindings, Retracted, Verdict};

use crate::context::Context;
use crate::failure::Failure;
use crate::overlaps::{self, DocumentHits};
use crate::recipe::SourceRecipe;
use crate::signatures::Standing;

/// Formats of clinical notes, whose sections are found by their headings.
const SECTIONED: [&str; 2] = ["mimic-notes", "mimic-cxr"];
/// The key of the meta data that says whether its journal took a record back.
const RETRACTED: &str = "retracted";

/// How the names of a work begin.
const WORK_NAMES: [&str; 3] = ["pmid:", "pmcid:", "doi:"];

/// A document after cleaning, with what was computed from its text.
pub(super) struct Prepared {
    pub(super) document: Document,
    pub(super) cleaned: Cleaned,
    /// With what decides its place among its copies; none without `[corpus.dedup]`.
    pub(super) sketch: Option<(Sketch, Standing)>,
    /// Length of the text in Unicode scalars.
    pub(super) characters: u64,
    /// Document key of the cleaned text; 0 for a dropped document, which goes nowhere.
    pub(super) key: u128,
    pub(super) hits: DocumentHits,
}

/// The settings of one task.
pub(super) struct Preparer<'a> {
    context: &'a Context<'a>,
    source: &'a SourceRecipe,
    cleaner: Cleaner,
    sketcher: Option<Sketcher>,
}

impl<'a> Preparer<'a> {
    pub(super) fn new(context: &'a Context<'a>, source: &'a SourceRecipe) -> Result<Preparer<'a>, Failure> {
        let corpus = context.corpus();
        let sketcher = corpus.dedup.as_ref().map(|dedup| Sketcher::new(crate::stages::dedup::spec(dedup))).transpose();
        Ok(Preparer {
            context,
            source,
            cleaner: Cleaner::new(corpus.clean.as_ref()),
            sketcher: sketcher.map_err(|e| Failure::Policy(format!("corpus.dedup: {e}")))?,
        })
    }

    /// Bands of a sketch.
    pub(super) fn bands(&self) -> u32 {
        self.sketcher.as_ref().map_or(0, |sketcher| sketcher.spec().bands)
    }

    pub(super) fn prepare(&self, mut document: Document) -> Result<Prepared, Failure> {
        if let Some(reason) = self.unread(&document) {
            let cleaned = Cleaned { verdict: Verdict::Drop(reason), changes: Changes::default(), phi: PhiFindings::default() };
            return Ok(Prepared::dropped(document, cleaned));
        }
        let cleaned = self.cleaner.clean(&mut document);
        if matches!(cleaned.verdict, Verdict::Drop(_)) {
            return Ok(Prepared::dropped(document, cleaned));
        }
        if SECTIONED.contains(&self.source.format.as_str())
            && let Some(sections) = mellama_sources::sections::summary(&document.text)
        {
            document.meta.insert("sections".to_owned(), sections);
        }
        let form = super::normal_form(document.domain);
        let sketch = self.sketcher.as_ref().map(|sketcher| (sketcher.sketch(&document.text, form), self.standing(&document)));
        let hits = overlaps::hits(self.context, &document)?;
        let characters = document.text.chars().count() as u64;
        let key = document.key();
        Ok(Prepared { document, cleaned, sketch, characters, key, hits })
    }

    /// What decides a document's place among its copies, besides its text.
    fn standing(&self, document: &Document) -> Standing {
        let meta = |key: &str| document.meta.get(key).map(String::as_str);
        let hashes = |names: Vec<String>| {
            let mut hashes: Vec<u64> = names.iter().map(|name| name_hash(name)).collect();
            hashes.sort_unstable();
            hashes.dedup();
            hashes
        };
        let named = |key: &str| hashes(meta(key).unwrap_or_default().split_whitespace().map(str::to_owned).collect());
        let is_pubmed = self.source.format == "pubmed-xml";
        let mut names = overlaps::names_of(self.context, document);
        // Those of works; a patient has many notes.
        names.retain(|name| WORK_NAMES.iter().any(|kind| name.starts_with(kind)));
        let filled = [document.title.is_some(), document.year.is_some(), document.licence.is_some()];
        Standing {
            quality: filled.into_iter().map(u32::from).sum(),
            abridged: is_pubmed || meta("labels").is_some_and(|labels| labels.split("; ").any(|label| label == "no-body")),
            // 0 says that there is no subject.
            group: meta("subject_id").filter(|_| document.domain == Domain::Clinical).map_or(0, |id| name_hash(id).max(1)),
            links: Links { names: hashes(names), preprint_of: named("preprint_of"), published_from: named("published_from") },
        }
    }

    /// Why a document is dropped whatever its text is.
    fn unread(&self, document: &Document) -> Option<DropReason> {
        let read = &self.source.read;
        let is_retracted = || document.meta.get(RETRACTED).is_some_and(|value| value == "true");
        if !read.selects(document) {
            return Some(DropReason::NotSelected);
        }
        (read.retracted == Retracted::Drop && is_retracted()).then_some(DropReason::Retracted)
    }
}

impl Prepared {
    fn dropped(document: Document, cleaned: Cleaned) -> Prepared {
        Prepared { document, cleaned, sketch: None, characters: 0, key: 0, hits: DocumentHits::default() }
    }
}
