//! Text to ids by the rules of `SentencePiece` and of files converted from it: spaces are a part of tokens, and one more
//! space may stand before the text. It reads no files and decodes nothing.
//!
//! Next person: tokens and text are kept in *space form*, where U+2581 is already a plain space. Text without U+2581 is in
//! space form as it is, so nothing is copied but its first segment, which takes the space before the text.

use super::cuts::Cuts;
use super::merge::Merger;
use super::segments::Workspaces;
use super::sentencepiece::SPACE_MARK;

/// How text is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SpaceRules {
    /// What is put before the text.
    pub(super) prefix: Prefix,
    /// Leading and trailing spaces go away and runs become one.
    pub(super) remove_extra: bool,
    /// U+2581 in the text is a space (`SentencePiece`), or a character like any other (llama2.c).
    pub(super) mark_is_space: bool,
}

/// The space before a text that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    /// None.
    Never,
    /// One.
    Always,
    /// One, unless the text begins with a space (`Metaspace` of the `tokenizers` crate).
    Unless,
}

/// Encoder of one vocabulary.
#[derive(Debug)]
pub(super) struct SpaceEncoder {
    rules: SpaceRules,
    cuts: Cuts,
    merger: Merger,
    workspaces: Workspaces,
}

impl SpaceEncoder {
    pub(super) fn new(rules: SpaceRules, cuts: Cuts, merger: Merger) -> Self {
        Self { rules, cuts, merger, workspaces: Workspaces::default() }
    }

    /// Appends the ids of `text`, of at most `TEXT_BYTES_MAX` bytes.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        if self.rules.remove_extra || (self.rules.mark_is_space && text.contains(SPACE_MARK)) {
            self.encode_spaced(&self.spaced(text), ids);
        } else {
            self.encode_spaced(text, ids);
        }
    }

    /// Text with plain spaces only, without extra ones where the rules say so.
    fn spaced(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        if self.rules.remove_extra {
            for word in text.split(' ').filter(|word| !word.is_empty()) {
                if !out.is_empty() {
                    out.push(' ');
                }
                out.push_str(word);
            }
        } else {
            out.push_str(text);
        }
        if self.rules.mark_is_space {
            out = out.replace(SPACE_MARK, " ");
        }
        if self.rules.remove_extra {
            out.truncate(out.trim_end_matches(' ').len());
        }
        out
    }

    fn encode_spaced(&self, text: &str, ids: &mut Vec<u32>) {
        let bytes = text.as_bytes();
        let Some(first) = bytes.first() else { return };
        let prefixed = match self.rules.prefix {
            Prefix::Never => false,
            Prefix::Always => true,
            Prefix::Unless => *first != b' ',
        };
        self.workspaces.encode(&self.merger, ids, |segments| {
            let mut start = 0;
            if prefixed {
                if !self.cuts.is_safe(b' ', *first) {
                    let place = bytes.windows(2).position(|pair| self.cuts.is_safe(pair[0], pair[1]));
                    start = place.map_or(bytes.len(), |at| at + 1);
                }
                let segment = [b" ", &bytes[..start]].concat();
                segments.push(&segment, 0, segment.len());
            }
            self.cuts.for_each(bytes, start, |start, end| segments.push(bytes, start, end));
        });
    }
}
