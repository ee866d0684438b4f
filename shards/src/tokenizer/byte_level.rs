//! Text to ids by byte-level BPE (GPT-2, Llama 3): the pattern's matches, each merged from its bytes. It reads no files and
//! decodes nothing.

use super::merge::Merger;
use super::segments::Workspaces;
use super::split::Splitter;

/// Encoder of one vocabulary.
#[derive(Debug)]
pub(super) struct ByteEncoder {
    splitter: Splitter,
    /// A space is put before text that doesn't begin with one.
    prefix: bool,
    merger: Merger,
    workspaces: Workspaces,
}

impl ByteEncoder {
    pub(super) fn new(splitter: Splitter, prefix: bool, merger: Merger) -> Self {
        Self { splitter, prefix, merger, workspaces: Workspaces::default() }
    }

    /// Appends the ids of `text`, of at most `TEXT_BYTES_MAX` bytes.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let prefixed = self.prefix && !text.is_empty() && !text.starts_with(' ');
        let copy = if prefixed { format!(" {text}") } else { String::new() };
        let text = if prefixed { &copy } else { text }.as_bytes();
        self.workspaces.encode(&self.merger, ids, |segments| {
            self.splitter.for_each(text, |start, end| segments.push(text, start, end));
        });
    }
}

/// The byte-level alphabet by character: printable bytes stand for themselves, the other 68 for U+0100 and above
/// (the mapping of GPT-2's tokenizer).
pub(super) fn byte_level_table() -> Vec<(char, u8)> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 0x100;
    let mut table: Vec<(char, u8)> = (0..=u8::MAX)
        .map(|byte| {
            if printable(byte) {
                return (char::from(byte), byte);
            }
            next += 1;
            (char::from_u32(next - 1).expect("U+0100 to U+0143 are characters"), byte)
        })
        .collect();
    table.sort_unstable();
    table
}

/// Bytes of a token written in the byte-level alphabet; `None` where a character is not of it.
pub(super) fn table_bytes(table: &[(char, u8)], text: &str) -> Option<Vec<u8>> {
    let byte = |character: char| table.binary_search_by_key(&character, |(known, _)| *known).ok().map(|at| table[at].1);
    text.chars().map(byte).collect()
}
