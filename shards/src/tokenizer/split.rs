//! The pre-tokenizer patterns of GPT-2 and of cl100k (Llama 3, Qwen 2) by hand: where the match that begins at a place ends.
//! Both match at every place, so a text is its matches in order. It merges nothing.
//!
//! Next person: the alternatives of a pattern are tried in order and each one is greedy, so each function below asks in
//! the pattern's order. `\s+(?!\S)` gives back the last space of a run unless the run ends the text; a run of one space
//! has nothing to give back and falls to `\s+`.

use super::alphabet::character_at;
use super::classes::{Classes, LETTER, NUMBER, OTHER, SPACE, WIDE};

/// The patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
    Gpt2,
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`.
    Cl100k {
        /// Most numbers of one match.
        digits: u32,
    },
}

/// Finds the ends of matches.
#[derive(Debug)]
pub(super) struct Splitter {
    pattern: Pattern,
    classes: &'static Classes,
}

impl Splitter {
    pub(super) fn new(pattern: Pattern) -> Self {
        Self { pattern, classes: Classes::get() }
    }

    /// Calls `segment` with the ends of each match, in order.
    #[inline]
    pub(super) fn for_each(&self, text: &[u8], mut segment: impl FnMut(usize, usize)) {
        let mut at = 0;
        while at < text.len() {
            let end = match self.pattern {
                Pattern::Gpt2 => self.gpt2(text, at),
                Pattern::Cl100k { digits } => self.cl100k(text, at, digits),
            };
            segment(at, end);
            at = end;
        }
    }

    #[inline]
    fn gpt2(&self, text: &[u8], at: usize) -> usize {
        let (class, next) = self.class(text, at);
        match class {
            LETTER | NUMBER => self.run(text, next, class),
            SPACE => {
                if text[at] == b' ' && next < text.len() {
                    let (class, after) = self.class(text, next);
                    if class != SPACE {
                        return self.run(text, after, class);
                    }
                }
                self.spaces(text, at)
            }
            _ => match contraction(text, at, false) {
                Some(end) => end,
                None => self.run(text, next, OTHER),
            },
        }
    }

    #[inline]
    fn cl100k(&self, text: &[u8], at: usize, digits: u32) -> usize {
        let (class, next) = self.class(text, at);
        match class {
            LETTER => return self.run(text, next, LETTER),
            NUMBER => return self.numbers(text, next, digits - 1),
            OTHER => {
                if let Some(end) = contraction(text, at, true) {
                    return end;
                }
            }
            _ => {}
        }
        let follows = if next < text.len() { Some(self.class(text, next)) } else { None };
        let line_end = matches!(text[at], b'\r' | b'\n');
        match follows {
            Some((LETTER, after)) if !line_end => self.run(text, after, LETTER),
            Some((OTHER, after)) if text[at] == b' ' => line_ends(text, self.run(text, after, OTHER)),
            _ if class == OTHER => line_ends(text, self.run(text, next, OTHER)),
            _ => {
                let run = self.run(text, next, SPACE);
                let last = text[at..run].iter().rposition(|byte| matches!(byte, b'\r' | b'\n'));
                last.map_or_else(|| self.spaces(text, at), |last| at + last + 1)
            }
        }
    }

    /// `\s+(?!\S)|\s+` at a space.
    fn spaces(&self, text: &[u8], at: usize) -> usize {
        let (mut end, mut last) = (at, at);
        while end < text.len() {
            let (class, next) = self.class(text, end);
            if class != SPACE {
                return if last == at { end } else { last };
            }
            (last, end) = (end, next);
        }
        end
    }

    /// Up to `more` numbers.
    fn numbers(&self, text: &[u8], mut at: usize, more: u32) -> usize {
        for _ in 0..more {
            if at >= text.len() {
                break;
            }
            let (class, next) = self.class(text, at);
            if class != NUMBER {
                break;
            }
            at = next;
        }
        at
    }

    /// End of the run of `class` that goes on at `at`.
    #[inline]
    fn run(&self, text: &[u8], mut at: usize, class: u8) -> usize {
        while let Some(byte) = text.get(at) {
            let found = self.classes.bytes[usize::from(*byte)];
            if found == class {
                at += 1;
            } else if found == WIDE {
                let (character, length) = character_at(text, at);
                if self.classes.of(character) != class {
                    break;
                }
                at += length;
            } else {
                break;
            }
        }
        at
    }

    /// Class of the character at `at`, and where the next one begins.
    #[inline]
    fn class(&self, text: &[u8], at: usize) -> (u8, usize) {
        let class = self.classes.bytes[usize::from(text[at])];
        if class != WIDE {
            return (class, at + 1);
        }
        let (character, length) = character_at(text, at);
        (self.classes.of(character), at + length)
    }
}

/// End of the contraction at `at`. Ignoring case, `s` is also U+017F, the only character outside ASCII that folds to a
/// letter of a contraction.
#[inline]
fn contraction(text: &[u8], at: usize, ignore_case: bool) -> Option<usize> {
    if text[at] != b'\'' {
        return None;
    }
    let letter = |at: usize| text.get(at).map(|byte| if ignore_case { byte.to_ascii_lowercase() } else { *byte });
    match (letter(at + 1)?, letter(at + 2)) {
        (b's' | b't' | b'm' | b'd', _) => Some(at + 2),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(at + 3),
        (0xc5, Some(0xbf)) if ignore_case => Some(at + 3),
        _ => None,
    }
}

fn line_ends(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}
