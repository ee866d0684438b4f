//! What the rules changed in a document: one name for each rule, and how many lines and paragraphs went.

use std::fmt;

/// A rule that changes text and drops nothing. One counter each: documents that it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// `fix_mojibake`: UTF-8 that was read in another encoding was read again.
    Mojibake,
    /// `normalize_newlines`: line ends became newlines.
    LineEnds,
    /// `strip_control`: control and zero-width characters went.
    ControlCharacters,
    /// Unicode normal form C, with and without a table.
    NormalForm,
    /// `normalize_spaces`: white space was trimmed or joined.
    Spaces,
    /// `deidentification`: marks were spelled anew.
    Deidentification,
    /// `drop_boilerplate`: lines of licences and web pages went.
    Boilerplate,
    /// `drop_repeated_paragraphs`: later copies of a paragraph went.
    RepeatedParagraphs,
    /// `collapse_blank_lines`: blank lines went.
    BlankLines,
    /// `phi = "mask"`: identifiers were replaced.
    PhiMasked,
    /// `phi = "mask"` or `"reject"`: identifiers in the meta data were replaced.
    PhiMetaMasked,
}

impl Change {
    /// Every change, in the order of the rules.
    pub const ALL: [Self; 11] = [
        Self::Mojibake,
        Self::LineEnds,
        Self::ControlCharacters,
        Self::NormalForm,
        Self::Spaces,
        Self::Deidentification,
        Self::Boilerplate,
        Self::RepeatedParagraphs,
        Self::BlankLines,
        Self::PhiMasked,
        Self::PhiMetaMasked,
    ];

    /// Kebab-case code, the name of its counter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mojibake => "mojibake",
            Self::LineEnds => "line-ends",
            Self::ControlCharacters => "control-characters",
            Self::NormalForm => "normal-form",
            Self::Spaces => "spaces",
            Self::Deidentification => "deidentification",
            Self::Boilerplate => "boilerplate",
            Self::RepeatedParagraphs => "repeated-paragraphs",
            Self::BlankLines => "blank-lines",
            Self::PhiMasked => "phi-masked",
            Self::PhiMetaMasked => "phi-meta-masked",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What happened to one document, title included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    made: u16,
    /// Lines that `drop_boilerplate` removed.
    pub boilerplate_lines: u64,
    /// Paragraphs that `drop_repeated_paragraphs` removed.
    pub repeated_paragraphs: u64,
}

impl Changes {
    /// Notes a change where there was one.
    pub(super) fn note(&mut self, change: Change, changed: bool) {
        self.made |= u16::from(changed) << change as u16;
    }

    /// Whether a rule changed the document.
    pub fn has(&self, change: Change) -> bool {
        self.made & (1 << change as u16) != 0
    }

    /// The rules that changed the document, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Change> + '_ {
        Change::ALL.into_iter().filter(|change| self.has(*change))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_noted_once_and_in_order() {
        let mut changes = Changes::default();
        changes.note(Change::PhiMasked, true);
        changes.note(Change::Mojibake, true);
        changes.note(Change::Mojibake, true);
        changes.note(Change::Spaces, false);
        let names: Vec<&str> = changes.iter().map(Change::as_str).collect();
        assert_eq!(names, ["mojibake", "phi-masked"]);
        assert!(Change::ALL.iter().enumerate().all(|(place, change)| *change as usize == place));
    }
}
