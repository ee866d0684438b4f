//! Tars that are read in parts: the items of all parts in their order are those of the whole, at any size of the parts.

use std::io;

use proptest::prelude::*;

use super::pmc_tar::article;
use super::{Random, compressed, end, entry, file, header, pax, sealed, tar_of};
use crate::input::{ByteStream, Input, RangeRead};
use crate::member::Entry;
use crate::part::{Part, tail_of};
use crate::reader::{Format, Item, Limits, ReadError, open};
use crate::reader_tests::{context, documents, items, outline, rejects};
use crate::split::split;
use crate::tar::Tar;

/// Formats whose objects may be tars.
const FORMATS: [Format; 3] = [Format::PmcTar, Format::Jats, Format::MimicCxr];

fn parts_of(stored: &[u8], part_bytes: u64) -> Vec<Part> {
    let [parts, same, also] =
        FORMATS.map(|format| split(format, Box::new(stored.to_vec()), part_bytes, &Limits::default()).unwrap());
    assert!(parts == same && parts == also);
    parts
}

fn input_of(stored: &[u8], part: Part) -> Input {
    Input::part(Box::new(stored.to_vec()), part)
}

fn all_items(format: Format, input: Input) -> Vec<Item> {
    let mut reader = open(format, context("object"), input, &Limits::default()).unwrap();
    let items = std::iter::from_fn(|| reader.next()).map(Result::unwrap).collect();
    assert!(reader.next().is_none());
    items
}

/// The items of each part, as it is stored and decompressed before.
fn items_in_parts(format: Format, stored: &[u8], parts: &[Part]) -> Vec<Item> {
    let read = |part: &Part| {
        let found = all_items(format, input_of(stored, *part));
        let decoded = input_of(stored, *part).into_decoded(&Limits::default());
        assert_eq!(all_items(format, Input::Decoded(decoded)), found, "{part:?}");
        found
    };
    parts.iter().flat_map(read).collect()
}

/// Every entry with its content, directories and members that no format reads among them.
fn entries(input: Input) -> Vec<(Entry, Vec<u8>)> {
    let limits = Limits::default();
    let (input, part) = tail_of(input);
    let mut tar = Tar::new(ByteStream::new(input, &limits), part, &limits);
    let mut found = Vec::new();
    loop {
        let entry = tar.next().unwrap();
        if entry == Entry::End {
            return found;
        }
        let mut content = Vec::new();
        while let Ok(bytes) = tar.content() {
            if bytes.is_empty() {
                break;
            }
            content.extend_from_slice(&bytes);
        }
        found.push((entry, content));
    }
}

/// Parts that follow each other from the first byte to the last.
fn check_ranges(stored: &[u8], parts: &[Part]) {
    assert_eq!((parts[0].first, parts[parts.len() - 1].end), (0, stored.len() as u64));
    assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].first));
    assert!(parts.iter().all(|part| part.first < part.end && part.stored_bytes == part.end - part.first));
}

/// Whether it is cut; then every reading of its parts is that of the whole.
fn check(stored: &[u8], part_bytes: u64) -> usize {
    let parts = parts_of(stored, part_bytes);
    if !parts.is_empty() {
        check_ranges(stored, &parts);
        let listed: Vec<_> = parts.iter().flat_map(|part| entries(input_of(stored, *part))).collect();
        assert_eq!(listed, entries(Input::from_bytes(stored.to_vec())));
        for format in FORMATS {
            let whole = all_items(format, Input::from_bytes(stored.to_vec()));
            assert_eq!(items_in_parts(format, stored, &parts), whole, "{format} {part_bytes}");
        }
    }
    parts.len()
}

/// An entry of every kind, with its extended headers; nothing in it is damage to the archive.
pub(super) fn kinds(number: u32) -> Vec<Vec<u8>> {
    let xml = article(number);
    let long = |ending: &str| format!("{}/{number}{ending}", "d".repeat(200));
    let padded = super::padded(xml.as_bytes());
    let size = xml.len().to_string();
    let mut old = header("old.xml", 0, 0);
    old[257..265].fill(0);
    vec![
        file(&format!("PMC{number}.xml"), &xml),
        file(&format!("files/p10/p100{number}/s{number}.txt"), &format!("Report {number}.")),
        entry("dir/", b'5', b""),
        file("empty.xml", ""),
        file("p1/s1.txt", ""),
        file("list.csv", &"x".repeat(600 + 511 * (number as usize % 3))),
        sealed(old).to_vec(),
        [entry("././@LongLink", b'L', format!("{}\0", long(".xml")).as_bytes()), file("cut", &xml)].concat(),
        [pax(b'x', &[("path", &long(".nxml")), ("mtime", "1.5")]), file("cut", &xml)].concat(),
        [pax(b'x', &[("size", &size)]), header("sized.xml", b'0', 0).to_vec(), padded.clone()].concat(),
        [pax(b'x', &[("size", &size)]), header("sized.xml", b'0', 99_999).to_vec(), padded].concat(),
        [pax(b'g', &[("comment", "0123")]), pax(b'x', &[("mtime", "1")]), file("g.xml", &xml)].concat(),
        [entry("././@LongLink", b'K', &[b'k'; 700]), entry("link.xml", b'2', b"")].concat(),
        // The size of what the link names, without content.
        header("hard.xml", b'1', 7_000).to_vec(),
        [pax(b'x', &[("GNU.sparse.major", "1")]), file("sparse.xml", &xml)].concat(),
        [entry("././@LongLink", b'L', &[b'l'; 5_000]), file("over.xml", &xml)].concat(),
        file("../out.xml", &xml),
        entry("volume", b'V', b"content"),
        file("broken.xml", "<article><body><p>open"),
        file("p1/notes.txt", "words"),
        // These begin as compressed streams do, and so does nothing that is cut.
        file("BZh91AY&SY.xml", &xml),
        file("PK\u{3}\u{4}.xml", &xml),
    ]
}

/// Ends that are none of an archive cut short.
fn ends() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), Just(100), Just(512), Just(1_024), Just(10_240)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn case_32_items_of_parts_are_those_of_the_whole(
        chosen in proptest::collection::vec((any::<prop::sample::Index>(), 0..50_u32), 1..25),
        zeros in ends(),
        part_bytes in prop_oneof![1_u64..600, 600_u64..20_000, Just(u64::MAX)],
    ) {
        let entries: Vec<Vec<u8>> = chosen.iter().map(|(index, number)| index.get(&kinds(*number)).clone()).collect();
        let stored = [entries.concat(), vec![0; zeros]].concat();
        let plain = |entry: &Vec<u8>| !entry.starts_with(b"BZh") && !entry.starts_with(b"PK");
        let parts = check(&stored, part_bytes);
        if !plain(&entries[0]) || part_bytes == u64::MAX {
            prop_assert_eq!(parts, 0);
        } else if part_bytes == 1 {
            let expected = entries.iter().filter(|entry| plain(entry)).count();
            prop_assert_eq!(parts, if expected > 1 { expected } else { 0 });
        }
    }

    #[test]
    fn case_32_parts_of_damaged_tars_are_their_whole(seed in any::<u64>(), part_bytes in 1_u64..5_000) {
        let mut random = Random(seed);
        let entries: Vec<Vec<u8>> = (0..12).map(|number| kinds(number).swap_remove(random.below(22))).collect();
        check(&random.damage(&tar_of(&entries)), part_bytes);
    }
}

#[test]
fn every_kind_of_entry_is_a_part_of_its_own() {
    let entries = kinds(7);
    let stored = tar_of(&entries);
    assert_eq!(check(&stored, 1), entries.len() - 2);
    for part_bytes in [500, 512, 513, 2_000, 7_000, 30_000] {
        assert!(check(&stored, part_bytes) > 1, "{part_bytes}");
    }
    assert_eq!(check(&stored, stored.len() as u64), 0);
    let found = items(Format::PmcTar, context("object"), stored, &Limits::default());
    assert!(documents(&found).len() > 7 && rejects(&found).len() > 7, "{:?}", outline(&found));
}

#[test]
fn parts_are_about_as_large_as_asked_for() {
    let entries: Vec<Vec<u8>> = (0..100).map(|number| file(&format!("PMC{number}.xml"), &article(number))).collect();
    let stored = tar_of(&entries);
    let parts = parts_of(&stored, 10 << 10);
    let sizes: Vec<u64> = parts.iter().map(|part| part.stored_bytes).collect();
    // The last one has what is behind the members.
    let mut expected = [10 << 10; 10];
    expected[9] += 1_024;
    assert_eq!(sizes, expected);
    check(&stored, 10 << 10);
}

#[test]
fn what_cannot_be_cut_surely_is_not_cut() {
    let uncut = |stored: &[u8], limits: &Limits| {
        for format in FORMATS {
            assert_eq!(split(format, Box::new(stored.to_vec()), 1, limits).unwrap(), [], "{format}");
        }
    };
    let check = |entries: &[Vec<u8>]| uncut(&entries.concat(), &Limits::default());
    let two = [file("1.xml", &article(1)), file("2.xml", &article(2))];
    let good = two.concat();
    assert_eq!(parts_of(&good, 1).len(), 2);
    for stored in &compressed(&good)[1..] {
        uncut(stored, &Limits::default());
    }
    for cut in (1..good.len()).filter(|cut| *cut != 1_024) {
        uncut(&good[..cut], &Limits::default());
    }
    let mut damaged = good.clone();
    damaged[1_024 + 3] ^= 1;
    uncut(&damaged, &Limits::default());
    check(&[good.clone(), end(), b"words".to_vec()]);
    check(&[good.clone(), end(), good.clone(), end()]);
    check(&[good.clone(), vec![0; (1 << 20) + 512]]);
    check(&[good.clone(), pax(b'x', &[("path", "nothing.xml")])]);
    check(&[good.clone(), pax(b'x', &[("path", "a.xml")]), end(), good.clone()]);
    check(&[good.clone(), pax(b'g', &[("size", "12")]), file("3.xml", "")]);
    check(&[good.clone(), pax(b'x', &[("size", "18446744073709551615")]), file("3.xml", "")]);
    check(&[good.clone(), entry("PaxHeaders/x", b'x', b"no records"), file("3.xml", "")]);
    check(&[good.clone(), entry("PaxHeaders/x", b'x', &vec![b'x'; (1 << 20) + 1]), file("3.xml", "")]);
    check(&[good.clone(), entry("old.xml", b'S', b"sparse")]);
    check(&[file("BZh91AY&SY.xml", ""), good.clone()]);
    check(&[end()]);
    check(&[]);
    check(&[article(1).into_bytes(), article(2).into_bytes()]);
    // Limits at which the reading of the whole stops.
    uncut(&good, &Limits { object_bytes: good.len() as u64 - 1, ..Limits::default() });
    let extended = [good, pax(b'x', &[("comment", &"c".repeat(50))]), file("3.xml", "")].concat();
    assert_eq!(parts_of(&extended, 1).len(), 3);
    uncut(&extended, &Limits { member_header_bytes: 40, ..Limits::default() });
}

/// An object that cannot be read from an offset on.
struct Failing {
    bytes: Vec<u8>,
    from: u64,
}

impl RangeRead for Failing {
    fn len(&self) -> u64 {
        RangeRead::len(&self.bytes)
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        if offset + length as u64 > self.from {
            Err(io::Error::other("the store's own words"))
        } else {
            self.bytes.read_at(offset, length)
        }
    }
}

#[test]
fn failures_of_the_store_are_errors_with_their_place() {
    let stored = tar_of(&[file("1.xml", &article(1)), file("list.csv", &"x".repeat(9_000_000)), file("p1/s2.txt", "words")]);
    let parts = parts_of(&stored, 1);
    let failing = |from| Failing { bytes: stored.clone(), from };
    for format in FORMATS {
        assert!(split(format, Box::new(failing(4_096)), 1, &Limits::default()).is_err());
        // Where the part begins, and behind the first read of it.
        let opened = open(format, context("o"), Input::part(Box::new(failing(0)), parts[1]), &Limits::default());
        let Err(ReadError::Io { byte_offset, .. }) = opened.map(drop) else { panic!("no error") };
        assert_eq!(byte_offset, parts[1].first);
        let input = Input::part(Box::new(failing(parts[1].first + (4 << 20))), parts[1]);
        let mut reader = open(format, context("o"), input, &Limits::default()).unwrap();
        let Some(Err(ReadError::Io { byte_offset, .. })) = reader.next() else { panic!("no error") };
        assert_eq!(byte_offset, parts[1].first + (4 << 20));
        assert!(reader.next().is_none());
    }
}
