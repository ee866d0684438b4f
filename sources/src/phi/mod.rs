//! Finds the identifiers of the HIPAA Safe Harbor list that can be found by their shape, 45 CFR 164.514(b)(2).
//!
//! A hit is a kind and a byte range, never text. It is a second net under data that are de-identified already, not a
//! de-identification. By letter of the list: names after a title or a label (A); streets, boxes and postal codes, but no
//! towns (B); dates finer than a year and ages over 89, in digits and words (C); telephone, fax, e-mail, social security,
//! record, plan, account and licence numbers (D to K); vehicles, devices, web and network addresses (L to O). Biometric
//! identifiers (P), photographs (Q) and free descriptions (R) have no shape in text; codes are found after their word.
//! Marks that de-identification left (`[** … **]`, `___`) are not hits. Dashes, spaces and digits beyond ASCII are read as
//! those of ASCII. All patterns run in linear time.

mod dates;
mod folded;
mod patterns;

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use folded::Folded;
use patterns::Patterns;

/// What an identifier is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhiKind {
    /// E-mail address.
    Email,
    /// Web address.
    Url,
    /// Internet address, version 4 or 6.
    IpAddress,
    /// Social security number.
    SocialSecurity,
    /// Fax number: a telephone number announced as one.
    Fax,
    /// Telephone or pager number.
    Phone,
    /// Medical record number, after a word that announces it.
    RecordNumber,
    /// Health plan number, after a word that announces it.
    HealthPlan,
    /// Account number, after a word that announces it.
    Account,
    /// Licence or certificate number, after a word that announces it.
    Licence,
    /// Vehicle identification or plate, after a word that announces it.
    Vehicle,
    /// Device identifier or serial number, after a word that announces it.
    Device,
    /// Any part of a date finer than the year.
    Date,
    /// An age over 89.
    Age,
    /// House number and street, or a post office box.
    Address,
    /// Five-digit (or longer) postal code after a state.
    PostalCode,
    /// A person's name after a title or a label.
    Name,
}

impl PhiKind {
    /// Every kind.
    pub const ALL: [Self; 17] = [
        Self::Email,
        Self::Url,
        Self::IpAddress,
        Self::SocialSecurity,
        Self::Fax,
        Self::Phone,
        Self::RecordNumber,
        Self::HealthPlan,
        Self::Account,
        Self::Licence,
        Self::Vehicle,
        Self::Device,
        Self::Date,
        Self::Age,
        Self::Address,
        Self::PostalCode,
        Self::Name,
    ];

    /// Kebab-case name, as in counters and meta data.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Url => "url",
            Self::IpAddress => "ip-address",
            Self::SocialSecurity => "social-security",
            Self::Fax => "fax",
            Self::Phone => "phone",
            Self::RecordNumber => "record-number",
            Self::HealthPlan => "health-plan",
            Self::Account => "account",
            Self::Licence => "licence",
            Self::Vehicle => "vehicle",
            Self::Device => "device",
            Self::Date => "date",
            Self::Age => "age",
            Self::Address => "address",
            Self::PostalCode => "postal-code",
            Self::Name => "name",
        }
    }

    /// What [`mask`] writes instead of the identifier. No mask is itself a hit.
    pub fn mask(self) -> &'static str {
        match self {
            Self::Email => "[EMAIL]",
            Self::Url => "[URL]",
            Self::IpAddress => "[IP ADDRESS]",
            Self::SocialSecurity => "[SSN]",
            Self::Fax => "[FAX]",
            Self::Phone => "[PHONE]",
            Self::RecordNumber => "[RECORD NUMBER]",
            Self::HealthPlan => "[HEALTH PLAN NUMBER]",
            Self::Account => "[ACCOUNT NUMBER]",
            Self::Licence => "[LICENCE NUMBER]",
            Self::Vehicle => "[VEHICLE NUMBER]",
            Self::Device => "[DEVICE NUMBER]",
            Self::Date => "[DATE]",
            Self::Age => "[AGE OVER 89]",
            Self::Address => "[ADDRESS]",
            Self::PostalCode => "[POSTAL CODE]",
            Self::Name => "[NAME]",
        }
    }
}

impl fmt::Display for PhiKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One identifier: what and where, never its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhiHit {
    /// What it is.
    pub kind: PhiKind,
    /// Bytes of the scanned text, on character boundaries, never empty.
    pub range: Range<usize>,
}

/// Most rounds of [`mask`]: hiding one identifier can only rarely complete the shape of another.
const MASK_ROUNDS: usize = 8;

/// The identifiers of `text`, sorted by place, without overlaps: hits that touch the same bytes are one, of the kind of the first.
pub fn scan(text: &str) -> Vec<PhiHit> {
    let mut hits = match Folded::of(text) {
        None => Patterns::shared().find(text),
        Some(folded) => folded.unfold(Patterns::shared().find(&folded.text)),
    };
    let marks = mark_ranges(text);
    hits.retain(|hit| !touches_any(&marks, &hit.range));
    hits.sort_by(|a, b| a.range.start.cmp(&b.range.start).then(b.range.end.cmp(&a.range.end)).then(a.kind.cmp(&b.kind)));
    let mut merged: Vec<PhiHit> = Vec::with_capacity(hits.len());
    for hit in hits {
        match merged.last_mut() {
            Some(last) if hit.range.start < last.range.end => {
                last.range.end = last.range.end.max(hit.range.end);
            }
            _ => merged.push(hit),
        }
    }
    merged
}

/// `text` with every identifier replaced by the mask of its kind, until [`scan`] finds none.
/// `None` where that is not reached in a fixed number of rounds: then the text should be dropped.
pub fn mask(text: &str) -> Option<String> {
    let mut masked = text.to_owned();
    for _ in 0..MASK_ROUNDS {
        let hits = scan(&masked);
        if hits.is_empty() {
            return Some(masked);
        }
        masked = replace(&masked, &hits);
    }
    scan(&masked).is_empty().then_some(masked)
}

fn replace(text: &str, hits: &[PhiHit]) -> String {
    let mut output = String::with_capacity(text.len());
    let mut place = 0;
    for hit in hits {
        output.push_str(&text[place..hit.range.start]);
        output.push_str(hit.kind.mask());
        place = hit.range.end;
    }
    output.push_str(&text[place..]);
    output
}

/// Longest de-identification mark, in bytes.
const MARK_BYTES: usize = 300;

/// Ranges of `[** … **]`, sorted, without overlaps.
fn mark_ranges(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut ranges = Vec::new();
    let mut open = None;
    for star in memchr::memmem::find_iter(bytes, b"**") {
        if star > 0 && bytes[star - 1] == b'[' {
            open = Some(star - 1);
        } else if bytes.get(star + 2) == Some(&b']')
            && let Some(start) = open.take()
            && star + 3 - start <= MARK_BYTES
        {
            ranges.push(start..star + 3);
        }
    }
    ranges
}

fn touches_any(sorted: &[Range<usize>], range: &Range<usize>) -> bool {
    let after = sorted.partition_point(|mark| mark.end <= range.start);
    sorted.get(after).is_some_and(|mark| mark.start < range.end)
}

#[cfg(test)]
mod tests;
