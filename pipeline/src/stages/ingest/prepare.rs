//! What is computed from one document's text alone: cleaning, sketch, benchmark hits. On any thread, in any order.

use std::collections::BTreeMap;

use mellama_dedup::{Sketch, Sketcher};
use mellama_sources::{Cleaner, Document, Retracted, Verdict};

use crate::context::Context;
use crate::failure::Failure;
use crate::overlaps::{self, DocumentHits};
use crate::recipe::SourceRecipe;

/// The rule that drops what its journal took back.
pub(super) const RETRACTED: &str = "retracted";

/// A document after cleaning, with what was computed from its text.
pub(super) struct Prepared {
    pub(super) document: Document,
    /// The rule that drops it.
    pub(super) dropped: Option<String>,
    pub(super) sketch: Option<Sketch>,
    pub(super) hits: DocumentHits,
    pub(super) phi: BTreeMap<String, u64>,
}

/// The settings of one task.
pub(super) struct Preparer<'a> {
    context: &'a Context<'a>,
    cleaner: Cleaner,
    sketcher: Option<Sketcher>,
    drop_retracted: bool,
}

impl<'a> Preparer<'a> {
    pub(super) fn new(context: &'a Context<'a>, source: &SourceRecipe) -> Result<Preparer<'a>, Failure> {
        let corpus = context.corpus();
        let sketcher = corpus.dedup.as_ref().map(|dedup| Sketcher::new(crate::stages::dedup::spec(dedup))).transpose();
        Ok(Preparer {
            context,
            cleaner: Cleaner::new(corpus.clean.as_ref()),
            sketcher: sketcher.map_err(|e| Failure::Policy(format!("corpus.dedup: {e}")))?,
            drop_retracted: source.read.retracted == Retracted::Drop,
        })
    }

    /// Bands of a sketch.
    pub(super) fn bands(&self) -> u32 {
        self.sketcher.as_ref().map_or(0, |sketcher| sketcher.spec().bands)
    }

    pub(super) fn prepare(&self, mut document: Document) -> Result<Prepared, Failure> {
        if self.drop_retracted && document.meta.get(RETRACTED).is_some_and(|value| value == "true") {
            return Ok(Prepared::dropped(document, RETRACTED.to_owned(), BTreeMap::new()));
        }
        let verdict = self.cleaner.clean(&mut document);
        let phi = phi_kinds(&document);
        if let Verdict::Drop(rule) = verdict {
            return Ok(Prepared::dropped(document, rule.to_string(), phi));
        }
        let form = super::normal_form(document.domain);
        let sketch = self.sketcher.as_ref().map(|sketcher| sketcher.sketch(&document.text, form));
        let hits = overlaps::hits(self.context, &document)?;
        Ok(Prepared { document, dropped: None, sketch, hits, phi })
    }
}

impl Prepared {
    fn dropped(document: Document, rule: String, phi: BTreeMap<String, u64>) -> Prepared {
        Prepared { document, dropped: Some(rule), sketch: None, hits: DocumentHits::default(), phi }
    }
}

/// Identifiers that the scan reported, by kind.
fn phi_kinds(document: &Document) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    for hit in document.meta.get("phi").map_or("", String::as_str).split_whitespace() {
        let kind = hit.split(':').next().unwrap_or(hit);
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    kinds
}
