//! Classes of characters that pre-tokenizer patterns tell apart. It splits nothing.
//!
//! The classes are read from the tables of `regex-syntax`, which the pattern engine of the `tokenizers` crate uses too, so
//! both follow the same version of Unicode; a test compares every code point with that engine.

use std::sync::LazyLock;

use regex_syntax::hir::{Class as Ranges, HirKind};

/// `\p{L}`.
pub(super) const LETTER: u8 = 1;
/// `\p{N}`.
pub(super) const NUMBER: u8 = 2;
/// `\s`.
pub(super) const SPACE: u8 = 3;
/// `[^\s\p{L}\p{N}]`.
pub(super) const OTHER: u8 = 0;
/// In the table of bytes: a part of a character outside ASCII.
pub(super) const WIDE: u8 = 4;

/// Class of each byte that is a character, and of each character.
pub(super) struct Classes {
    pub(super) bytes: [u8; 256],
    characters: Box<[u8]>,
}

impl std::fmt::Debug for Classes {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Classes").finish_non_exhaustive()
    }
}

static CLASSES: LazyLock<Classes> = LazyLock::new(|| {
    let mut characters = vec![OTHER; char::MAX as usize + 1].into_boxed_slice();
    for (pattern, class) in [(r"\p{L}", LETTER), (r"\p{N}", NUMBER), (r"\s", SPACE)] {
        let parsed = regex_syntax::parse(pattern).expect("the pattern is valid and its tables are built in");
        let HirKind::Class(Ranges::Unicode(ranges)) = parsed.kind() else { unreachable!("the pattern is one class") };
        for range in ranges.iter() {
            characters[range.start() as usize..=range.end() as usize].fill(class);
        }
    }
    let mut bytes = [WIDE; 256];
    bytes[..128].copy_from_slice(&characters[..128]);
    Classes { bytes, characters }
});

impl Classes {
    /// The classes, made at the first call.
    pub(super) fn get() -> &'static Self {
        &CLASSES
    }

    /// Class of a character.
    #[inline]
    pub(super) fn of(&self, character: char) -> u8 {
        self.characters[character as usize]
    }
}
