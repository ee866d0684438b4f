//! Objects that are read in parts: the items of all parts in their order are those of the whole, at any cut.

use std::collections::BTreeSet;
use std::io::Write;

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::parquet_files::many;
use super::{context, items, outline, read};
use crate::input::Input;
use crate::lines::{Line, Lines};
use crate::part::Part;
use crate::reader::{Format, Item, Limits, open};
use crate::split::split;

/// Everything that a stream of lines gives, with the lines' contents.
fn lines(input: Input, limits: &Limits) -> Vec<(Line, Vec<u8>)> {
    let mut lines = Lines::new(input, limits);
    std::iter::from_fn(|| match lines.read().unwrap() {
        Line::End => None,
        line => Some((line, lines.content().to_vec())),
    })
    .collect()
}

/// The same of each part, as it is stored and decompressed before.
fn lines_in_parts(stored: &[u8], parts: &[Part], limits: &Limits) -> Vec<(Line, Vec<u8>)> {
    let input = |part: &Part| Input::part(Box::new(stored.to_vec()), *part);
    let read = |part: &Part| {
        let found = lines(input(part), limits);
        assert_eq!(lines(Input::Decoded(input(part).into_decoded(limits)), limits), found, "{part:?}");
        found
    };
    parts.iter().flat_map(read).collect()
}

fn items_in_parts(format: Format, stored: &[u8], parts: &[Part]) -> Vec<Item> {
    let read = |part: &Part| {
        let input = Input::part(Box::new(stored.to_vec()), *part);
        let mut reader = open(format, context("object"), input, &Limits::default()).unwrap();
        let items: Vec<Item> = std::iter::from_fn(|| reader.next()).map(Result::unwrap).collect();
        items
    };
    parts.iter().flat_map(read).collect()
}

/// Ranges between the cuts that lie inside.
fn ranges(cuts: &BTreeSet<usize>, length: usize) -> Vec<(usize, usize)> {
    let inside = cuts.iter().copied().filter(|cut| (1..length).contains(cut));
    let bounds: Vec<usize> = std::iter::once(0).chain(inside).chain([length]).collect();
    bounds.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

fn plain_parts(cuts: &BTreeSet<usize>, length: usize) -> Vec<Part> {
    let part = |(first, end): (usize, usize)| {
        let (first, end) = (first as u64, end as u64);
        Part { first, end, frame: None, stored_bytes: end - first, is_sequential: false }
    };
    ranges(cuts, length).into_iter().map(part).collect()
}

/// One sized frame for each range.
fn frames(content: &[u8], cuts: &BTreeSet<usize>) -> Vec<u8> {
    let frame = |(first, end): (usize, usize)| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_pledged_src_size(Some((end - first) as u64)).unwrap();
        encoder.write_all(&content[first..end]).unwrap();
        encoder.finish().unwrap()
    };
    ranges(cuts, content.len()).into_iter().flat_map(frame).collect()
}

/// Text of lines with every kind of end, long ones among them, sometimes with a byte order mark and without a last line end.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("\r".to_owned()),
        Just("BZh".to_owned()),
        Just("\u{1f}\u{8b}\n".to_owned()),
        Just("{\"text\":\"ä\"}\n".to_owned()),
        Just("x".repeat(40)),
        "[a-c]{0,5}",
    ];
    (any::<bool>(), proptest::collection::vec(piece, 1..30)).prop_map(|(mark, pieces)| {
        let mark = if mark { "\u{feff}" } else { "" };
        format!("{mark}{}", pieces.concat()).into_bytes()
    })
}

proptest! {
    #[test]
    fn lines_of_plain_parts_are_those_of_the_whole(
        text in text(),
        cuts in proptest::collection::btree_set(1_usize..400, 0..20),
        limit in prop_oneof![Just(1_u64 << 20), Just(30_u64)],
    ) {
        // A text that begins as a compressed stream does is one, and is not cut.
        let limits = Limits { record_bytes: limit, ..Limits::default() };
        if !text.is_empty() && !text.starts_with(b"BZh") {
            let found = lines_in_parts(&text, &plain_parts(&cuts, text.len()), &limits);
            assert_eq!(found, lines(Input::from_bytes(text), &limits));
        }
    }

    #[test]
    fn lines_of_framed_parts_are_those_of_the_whole(
        text in text(),
        cuts in proptest::collection::btree_set(1_usize..400, 0..20),
        part_bytes in 1_u64..100,
    ) {
        let limits = Limits::default();
        if !text.is_empty() {
            let stored = frames(&text, &cuts);
            let parts = split(Format::Jsonl, Box::new(stored.clone()), part_bytes, &Limits::default()).unwrap();
            let whole = lines(Input::from_bytes(stored.clone()), &limits);
            assert!(whole.iter().all(|(line, _)| matches!(line, Line::Content { .. })));
            if !parts.is_empty() {
                assert_eq!(parts.iter().map(|part| part.stored_bytes).sum::<u64>(), stored.len() as u64);
                assert_eq!(lines_in_parts(&stored, &parts, &limits), whole);
            }
        }
    }
}

/// Records of all kinds: good, broken, blank lines between, one longer than several parts.
pub(crate) fn records() -> Vec<u8> {
    let mut text = Vec::new();
    for number in 0..200 {
        let long = if number == 90 { "word ".repeat(2000) } else { String::new() };
        match number % 7 {
            3 => text.extend(b"{broken\r\n"),
            5 => text.extend(b"\n"),
            _ => {
                // A record that each of the formats reads.
                let more = format!("\"meta\":{{\"id\":\"{number}\"}},\"source\":\"s2\",\"added\":\"2022\"");
                writeln!(text, "{{\"id\":\"{number}\",\"text\":\"some text {long}\",{more}}}").unwrap();
            }
        }
    }
    text
}

#[test]
fn documents_and_rejects_of_parts_are_those_of_the_whole() {
    let text = records();
    let framed = frames(&text, &(1..20).map(|i| i * 1_313).collect());
    for format in [Format::Jsonl, Format::Redpajama, Format::Pile, Format::S2orc] {
        for (stored, sizes) in [(&text, [100, 777, 5_000]), (&framed, [100, 300, 700])] {
            for part_bytes in sizes {
                let parts = split(format, Box::new(stored.clone()), part_bytes, &Limits::default()).unwrap();
                assert!(parts.len() > 1, "{format} {part_bytes}: {parts:?}");
                assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].first && pair[0].first < pair[0].end));
                let whole = read(format, stored);
                assert!(whole.iter().filter(|item| matches!(item, Item::Document(_))).count() > 100, "{format}");
                assert_eq!(items_in_parts(format, stored, &parts), whole, "{format} {part_bytes}");
            }
        }
    }
}

#[test]
fn row_groups_are_parts() {
    let stored = many(2_000);
    let whole = read(Format::Parquet, &stored);
    for (part_bytes, expected) in [(1, 7), (30_000, 4)] {
        let parts = split(Format::Parquet, Box::new(stored.clone()), part_bytes, &Limits::default()).unwrap();
        assert!(parts.len() >= 2 && parts.len() <= expected, "{parts:?}");
        assert_eq!(items_in_parts(Format::Parquet, &stored, &parts), whole);
    }
}

#[test]
fn what_cannot_be_cut_surely_is_not_cut() {
    let check = |format: Format, stored: Vec<u8>| {
        assert_eq!(split(format, Box::new(stored), 10, &Limits::default()).unwrap(), []);
    };
    let text = records();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&text).unwrap();
    check(Format::Jsonl, gzip.finish().unwrap());
    check(Format::Jsonl, [&b"BZh91AY&SY"[..], &text].concat());
    // One stream whose frame does not say how much it holds.
    check(Format::Jsonl, zstd::stream::encode_all(&text[..], 3).unwrap());
    check(Format::Jsonl, b"short".to_vec());
    check(Format::Jsonl, Vec::new());
    check(Format::Csv, text.clone());
    check(Format::Text, text.clone());
    check(Format::Parquet, text);
    let parquet = many(2_000);
    check(Format::Parquet, parquet[..parquet.len() - 9].to_vec());
}

#[test]
fn what_is_wrong_with_the_whole_is_told_by_the_first_part() {
    let part = |first| Part { first, end: first + 10, frame: None, stored_bytes: 10, is_sequential: false };
    assert_eq!(outline(&items_in_parts(Format::Parquet, b"no table", &[part(0), part(10)])).len(), 1);
    let blank = vec![b'\n'; 20];
    assert_eq!(items_in_parts(Format::Jsonl, &blank, &[part(0), part(10)]), []);
    assert_eq!(items(Format::Jsonl, context("object"), blank, &Limits::default()), []);
}
