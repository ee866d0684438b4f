//! What becomes of identifiers that the scan finds, by the sensitivity of a source.
//!
//! It fails closed: what holds protected health information is scanned and rejected unless the recipe says otherwise, with or
//! without a `[corpus.clean]` table, and a text whose mask does not settle is dropped.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::changes::{Change, Changes};
use super::rules::Cleaning;
use super::text;
use crate::document::{Document, Sensitivity};
use crate::phi::{self, PhiHit};

/// Most hits whose place is written into a document's meta data; all are counted.
const REPORTED_HITS: usize = 64;
/// Rounds of masking and rewriting: a mask may make a line one that another rule removes.
const MASK_ROUNDS: usize = 4;

/// What happens to identifiers that [`crate::phi::scan`] finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhiPolicy {
    /// Nothing is scanned.
    #[default]
    Off,
    /// Kinds and places are reported.
    Report,
    /// Hits are replaced by masks, and reported at their places before that.
    Mask,
    /// A document with a hit is dropped, and its hits reported. `drop` is the same.
    #[serde(alias = "drop")]
    Reject,
}

impl PhiPolicy {
    /// The name used in recipes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Report => "report",
            Self::Mask => "mask",
            Self::Reject => "reject",
        }
    }
}

/// A policy for each level of sensitivity. In a recipe one word for all of them, or a table with some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PhiPolicies {
    /// Of public sources. Default `off`.
    pub open: PhiPolicy,
    /// Of sources under a data use agreement. Default `report`.
    pub dua: PhiPolicy,
    /// Of sources that hold protected health information. Default `reject`.
    pub phi: PhiPolicy,
}

impl Default for PhiPolicies {
    fn default() -> Self {
        Self { open: PhiPolicy::Off, dua: PhiPolicy::Report, phi: PhiPolicy::Reject }
    }
}

impl From<PhiPolicy> for PhiPolicies {
    fn from(policy: PhiPolicy) -> Self {
        Self { open: policy, dua: policy, phi: policy }
    }
}

impl PhiPolicies {
    /// Without a `[corpus.clean]` table: only what is sensitive by declaration is scanned.
    const WITHOUT_TABLE: Self = Self { open: PhiPolicy::Off, dua: PhiPolicy::Off, phi: PhiPolicy::Reject };

    /// The policy of one level.
    pub fn of(&self, sensitivity: Sensitivity) -> PhiPolicy {
        match sensitivity {
            Sensitivity::Open => self.open,
            Sensitivity::Dua => self.dua,
            Sensitivity::Phi => self.phi,
        }
    }
}

impl<'de> Deserialize<'de> for PhiPolicies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PoliciesVisitor)
    }
}

struct PoliciesVisitor;

impl<'de> Visitor<'de> for PoliciesVisitor {
    type Value = PhiPolicies;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("off, report, mask or reject, or a table of them with the keys open, dua and phi")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<PhiPolicies, E> {
        PhiPolicy::deserialize(word.into_deserializer()).map(PhiPolicies::from)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PhiPolicies, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            open: Option<PhiPolicy>,
            dua: Option<PhiPolicy>,
            phi: Option<PhiPolicy>,
        }
        let table = Table::deserialize(MapAccessDeserializer::new(map))?;
        let default = PhiPolicies::default();
        Ok(PhiPolicies {
            open: table.open.unwrap_or(default.open),
            dua: table.dua.unwrap_or(default.dua),
            phi: table.phi.unwrap_or(default.phi),
        })
    }
}

/// What the scan found in one document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PhiFindings {
    /// The policy that scanned.
    pub policy: PhiPolicy,
    /// Hits in the cleaned text, before it was masked.
    pub text: Vec<PhiHit>,
    /// Hits in the cleaned title, before it was masked.
    pub title: Vec<PhiHit>,
}

impl PhiFindings {
    /// Whether there is no hit.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.title.is_empty()
    }
}

/// Applies the policy of the document's level: what was found, and whether the document stays.
pub(super) fn apply(document: &mut Document, cleaning: Option<&Cleaning>, changes: &mut Changes) -> (PhiFindings, bool) {
    let policy = cleaning.map_or(PhiPolicies::WITHOUT_TABLE, |cleaning| cleaning.phi).of(document.sensitivity);
    if policy == PhiPolicy::Off {
        return (PhiFindings::default(), true);
    }
    let title = document.title.as_deref().map(phi::scan).unwrap_or_default();
    let findings = PhiFindings { policy, text: phi::scan(&document.text), title };
    let kept = match policy {
        PhiPolicy::Off => true,
        PhiPolicy::Report => {
            report(document, &findings.text);
            true
        }
        PhiPolicy::Reject => findings.is_empty(),
        PhiPolicy::Mask if findings.is_empty() => true,
        PhiPolicy::Mask => {
            changes.note(Change::PhiMasked, true);
            cleaning.is_some_and(|cleaning| mask(document, cleaning, changes))
        }
    };
    if kept && matches!(policy, PhiPolicy::Mask | PhiPolicy::Reject) {
        changes.note(Change::PhiMetaMasked, mask_meta(document));
    }
    (findings, kept)
}

/// Masks the values of the meta data, which nothing is trained on but people read; a value whose mask does not settle goes.
/// Whether there was any to mask.
fn mask_meta(document: &mut Document) -> bool {
    let mut masked = false;
    document.meta.retain(|_, value| {
        if phi::scan(value).is_empty() {
            return true;
        }
        masked = true;
        settle(value, |_| {})
    });
    masked
}

/// Masks text and title until neither masking nor any other change has anything to do; whether that was reached.
fn mask(document: &mut Document, cleaning: &Cleaning, changes: &mut Changes) -> bool {
    let title = document.title.as_mut().is_none_or(|title| settle(title, |title| text::rewrite_title(title, cleaning, changes)));
    title && settle(&mut document.text, |body| text::rewrite(body, cleaning, changes))
}

fn settle(text: &mut String, mut rewrite: impl FnMut(&mut String)) -> bool {
    for _ in 0..MASK_ROUNDS {
        let Some(masked) = phi::mask(text) else { return false };
        text.clone_from(&masked);
        rewrite(text);
        if *text == masked {
            return true;
        }
    }
    false
}

fn report(document: &mut Document, hits: &[PhiHit]) {
    document.meta.remove("phi");
    document.meta.remove("phi_hits");
    if hits.is_empty() {
        return;
    }
    let places: Vec<String> =
        hits.iter().take(REPORTED_HITS).map(|hit| format!("{}:{}-{}", hit.kind, hit.range.start, hit.range.end)).collect();
    document.meta.insert("phi".to_owned(), places.join(" "));
    document.meta.insert("phi_hits".to_owned(), hits.len().to_string());
}
