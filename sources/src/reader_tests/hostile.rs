//! Any bytes end, bombs stop at their limits, and no text of a record reaches a reject.

use proptest::prelude::*;

use super::{context, items, read, rejects};
use crate::input::Input;
use crate::reader::{Format, Item, Limits, open};

const FORMATS: [Format; 10] = [
    Format::Jsonl,
    Format::Redpajama,
    Format::Pile,
    Format::S2orc,
    Format::Csv,
    Format::MimicNotes,
    Format::Text,
    Format::PmcTar,
    Format::MimicCxr,
    Format::Parquet,
];

#[test]
fn case_28_bombs_stop_at_the_expansion_limit() {
    let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(b'x'), 64 << 20), 1).unwrap();
    let limits = Limits { expansion_free_bytes: 1 << 20, record_bytes: 1 << 20, ..Limits::default() };
    for format in [Format::Jsonl, Format::Redpajama, Format::Pile, Format::S2orc, Format::Csv, Format::MimicNotes] {
        let found = items(format, context("o"), bomb.clone(), &limits);
        assert_eq!(rejects(&found).len(), found.len(), "{format}");
        assert!(found.len() <= 2, "{format}");
    }
}

#[test]
fn case_41_no_text_reaches_a_reject() {
    let broken: [(Format, &[u8]); 18] = [
        (Format::Pile, b"{\"text\": \"CANARY\", \"meta\": \"CANARY\"}"),
        (Format::S2orc, b"{\"CANARY\": \"CANARY\"}"),
        (Format::S2orc, b"{\"paper_id\": \"CANARY\\u0001\", \"body_text\": [{\"text\": \"CANARY\"}]}"),
        (Format::S2orc, b"{\"corpusid\": 1, \"content\": {\"text\": \"CANARY\", \"annotations\": {\"title\": \"CANARY\"}}}"),
        (Format::Jsonl, b"{\"CANARY\": \"CANARY\"}"),
        (Format::Jsonl, b"CANARY"),
        (Format::Jsonl, b"{\"text\": CANARY}"),
        (Format::Jsonl, b"{\"text\": \"CANARY\xff\"}"),
        (Format::Jsonl, b"{\"text\": \"CANARY\", \"id\": \"CANARY\\u0001\"}"),
        (Format::Jsonl, b"{\"text\": \"CANARY\", \"id\": {\"CANARY\": 1}}"),
        (Format::Redpajama, b"{\"text\": \"CANARY\", \"meta\": \"CANARY\"}"),
        (Format::Redpajama, b"{\"meta\": {\"CANARY\": \"CANARY\"}}"),
        (Format::Csv, b"id,text\n1,CANARY,CANARY\n\"CANARY\"CANARY,1\n1,\"CANARY"),
        (Format::Csv, b"CANARY,CANARY\n1,2\n"),
        (Format::MimicNotes, b"CANARY,text\n1,2\n"),
        (Format::MimicNotes, b"row_id,subject_id,category,iserror,text\nCANARY,CANARY,CANARY,1,CANARY\n,,,,CANARY\n"),
        (Format::Text, b"CANARY\xff"),
        (Format::Parquet, b"PAR1CANARYCANARYCANARYPAR1"),
    ];
    for (format, bytes) in broken {
        let found = read(format, bytes);
        assert!(!found.is_empty() && rejects(&found).len() == found.len(), "{format}");
        for reject in rejects(&found) {
            let mut line = Vec::new();
            crate::write_rejects(&mut line, reject).unwrap();
            let written = format!("{reject:?} {} {}", reject.reason, String::from_utf8(line).unwrap());
            assert!(!written.contains("CANARY"), "{format}: {written}");
        }
    }
}

/// Hands out a few bytes at a time.
struct Dribble(Vec<u8>, usize, usize);

impl std::io::Read for Dribble {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.2.min(buffer.len()).min(self.0.len() - self.1);
        buffer[..length].copy_from_slice(&self.0[self.1..self.1 + length]);
        self.1 += length;
        Ok(length)
    }
}

fn read_in_pieces(format: Format, bytes: &[u8], piece: usize) -> Vec<Item> {
    let stream = std::io::BufReader::with_capacity(piece, Dribble(bytes.to_vec(), 0, piece));
    let input = Input::Stream(Box::new(stream));
    let mut reader = open(format, context("object"), input, &Limits::default()).unwrap();
    std::iter::from_fn(|| reader.next()).map(Result::unwrap).collect()
}

fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\"".to_vec()),
        Just(b"{\"text\":".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b",".to_vec()),
        Just(b"id,text\n".to_vec()),
        Just(b"PAR1".to_vec()),
        Just(b"\xef\xbb\xbf".to_vec()),
        Just(b"\x1f\x8b\x08".to_vec()),
        Just(b"\x28\xb5\x2f\xfd".to_vec()),
        Just(b"note_id,subject_id,note_type,text\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_bytes_are_read_or_rejected(bytes in hostile_bytes()) {
        for format in FORMATS {
            let found = read(format, &bytes);
            prop_assert!(found.len() <= bytes.len() + 1);
        }
    }

    #[test]
    fn case_32_the_pieces_of_the_input_do_not_matter(bytes in hostile_bytes(), piece in 1..9_usize) {
        for format in FORMATS {
            prop_assert_eq!(read_in_pieces(format, &bytes, piece), read(format, &bytes), "{}", format);
        }
    }

    #[test]
    fn blocks_decompressed_elsewhere_give_the_same_items(bytes in hostile_bytes(), packed in any::<bool>()) {
        let stored = if packed { zstd::encode_all(bytes.as_slice(), 1).unwrap() } else { bytes };
        // Parquet undoes its own compressions, and a zip is no stream.
        for format in FORMATS.into_iter().filter(|&format| format != Format::Parquet).chain([Format::Jats, Format::PubmedXml]) {
            let blocks = Input::from_bytes(stored.clone()).into_decoded(&Limits::default());
            let mut reader = open(format, context("object"), Input::Decoded(blocks), &Limits::default()).unwrap();
            let found: Vec<Item> = std::iter::from_fn(|| reader.next()).map(Result::unwrap).collect();
            prop_assert_eq!(found, read(format, &stored), "{}", format);
        }
    }
}
