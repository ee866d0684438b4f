//! Packages of articles: members read as they stream by, and what is wrong with one of them.

use std::io::{self, BufReader, Read};

use proptest::prelude::*;

use super::{Random, compressed, end, entry, failing_behind, file, gzip, pax, read_in_pieces, tar_of};
use crate::input::Input;
use crate::reader::{Format, Item, Limits, ReadError, open};
use crate::reader_tests::{context, documents, items, outline, read, rejects};

pub(super) fn article(id: u32) -> String {
    format!(
        "<?xml version='1.0'?>\n<article><front><article-meta><article-id pub-id-type='pmc'>{id}</article-id><title-group>\
         <article-title>Title</article-title></title-group></article-meta></front><body><p>Text {id}.</p></body></article>\n"
    )
}

fn package() -> Vec<u8> {
    tar_of(&[
        entry("PMC000/", b'5', b""),
        file("PMC000/PMC1.xml", &article(1)),
        file("LICENSE.txt", "words"),
        file("PMC000/PMC2.NXML", &article(2)),
        file("PMC000/figure.jpg", "\u{1}\u{2}"),
        pax(b'x', &[("path", &format!("{}/PMC3.nxml", "d".repeat(200)))]),
        file("cut", &article(3)),
    ])
}

#[test]
fn articles_of_a_package_in_any_compression() {
    for stored in compressed(&package()) {
        for format in [Format::PmcTar, Format::Jats] {
            let found = read(format, &stored);
            let place = |id: u32| package().windows(9).position(|w| w == b"<article>").unwrap() as u64 + u64::from(id);
            let first = place(0);
            assert_eq!(
                outline(&found),
                [format!("{first} PMC1"), format!("{} PMC2", first + 2048), format!("{} PMC3", first + 5120)]
            );
            let names: Vec<_> = documents(&found).iter().map(|document| document.meta["member"].clone()).collect();
            assert_eq!(names[..2], ["PMC000/PMC1.xml", "PMC000/PMC2.NXML"]);
            assert_eq!(names[2].len(), 210);
            let start = documents(&found)[1].origin.byte_offset as usize;
            assert!(package()[start..].starts_with(b"<article><front>"));
        }
    }
}

#[test]
fn objects_that_are_no_packages() {
    let check = |bytes: &[u8], expected: &[&str]| assert_eq!(outline(&read(Format::PmcTar, bytes)), expected);
    check(b"", &["0+0 empty-object"]);
    check(&gzip(b""), &["0+0 empty-object"]);
    check(article(1).as_bytes(), &["0+0 not-tar"]);
    check(&[b'x'; 4_000], &["0+0 not-tar"]);
    check(b"PK\x03\x04", &["0+0 unsupported-compression: zip"]);
    check(&gzip(&gzip(&package())), &["0+0 nested-compression"]);
    check(&end(), &[]);
}

#[test]
fn case_30_bad_members_cost_themselves_alone() {
    let broken = [
        file("a.xml", "<article><body><p>open"),
        file("b.xml", ""),
        file("c.xml", "<html/>"),
        entry("d.xml", b'0', &gzip(article(9).as_bytes())),
        file("../e.xml", &article(9)),
        entry("f.xml", b'2', b""),
        entry("dir.xml/", b'5', b""),
    ];
    for bad in &broken[..6] {
        let found = read(Format::PmcTar, &tar_of(&[file("1.xml", &article(1)), bad.clone(), file("2.xml", &article(2))]));
        let ids: Vec<_> = documents(&found).iter().map(|document| document.native_id.as_str()).collect();
        assert_eq!((ids.as_slice(), rejects(&found).len()), (&["PMC1", "PMC2"][..], 1), "{:?}", outline(&found));
        assert!((1024..2049).contains(&rejects(&found)[0].byte_offset), "{:?}", outline(&found));
    }
    let all = outline(&read(Format::PmcTar, &tar_of(&broken)));
    let expected = [
        "512+22 truncated-record".to_owned(),
        "1536+0 empty-object".to_owned(),
        "2048+0 not-jats: root element (not shown)".to_owned(),
        "3072+0 not-xml".to_owned(),
        format!("3584+{} unsafe-member: a path with ..", 512 + article(9).len()),
        "4608+512 unsafe-member: a symbolic link".to_owned(),
    ];
    assert_eq!(all, expected);
}

#[test]
fn case_29_a_damaged_package_is_one_reject_behind_its_good_articles() {
    let whole = package();
    let stored = gzip(&whole);
    let found = read(Format::PmcTar, &stored[..stored.len() - 3]);
    assert_eq!(documents(&found).len(), 3);
    assert_eq!(rejects(&found).len(), 1);
    assert_eq!(rejects(&found)[0].reason.to_string(), "truncated-stream: gzip");
    for length in 6..stored.len() {
        let found = outline(&read(Format::PmcTar, &stored[..length]));
        let faults = found.iter().filter(|line| line.ends_with("truncated-stream: gzip")).count();
        assert_eq!((faults, found.iter().filter(|line| line.contains('+')).count()), (1, 1), "{length}: {found:?}");
    }
    // Inside the second article, in its text and behind it.
    let second = whole.windows(7).position(|w| w == b"Text 2.").unwrap();
    for cut in [second, second + 50] {
        let found = read(Format::PmcTar, &whole[..cut]);
        assert_eq!(rejects(&found).len(), 1, "{:?}", outline(&found));
        assert_eq!(rejects(&found)[0].reason.to_string(), "truncated-record");
        assert_eq!(outline(&found)[0].split(' ').nth(1), Some("PMC1"));
    }
    let mut damaged = whole.clone();
    damaged[512 + 5] ^= 1;
    let found = outline(&read(Format::PmcTar, &damaged));
    assert_eq!(found, ["1024+0 malformed-archive: a tar header with a wrong checksum"]);
}

#[test]
fn case_28_a_package_stops_at_the_limits() {
    let bomb = tar_of(&[file("1.xml", &article(1)), entry("2.xml", b'0', &vec![b' '; 4 << 20])]);
    let limits = Limits { expansion_free_bytes: 1 << 20, ..Limits::default() };
    for stored in &compressed(&bomb)[1..] {
        let found = items(Format::PmcTar, context("o"), stored.clone(), &limits);
        assert_eq!(documents(&found).len(), 1);
        assert_eq!(rejects(&found).len(), 1);
        assert_eq!(rejects(&found)[0].reason.to_string(), "over-limit: expansion_ratio = 250");
    }
    let limits = Limits { record_bytes: 1 << 10, ..Limits::default() };
    let large = format!("<article>{}</article>", "x".repeat(1 << 20));
    let found = items(Format::PmcTar, context("o"), tar_of(&[file("1.xml", &large), file("2.xml", &article(2))]), &limits);
    assert_eq!(rejects(&found)[0].reason.to_string(), "over-limit: record_bytes = 1024");
    assert_eq!(documents(&found).len(), 1);
}

#[test]
fn failures_of_the_store_are_errors_with_their_place() {
    let front = tar_of(&[file("0.xml", &article(0)), file("list.csv", &"x".repeat(600_000))]);
    let whole = [front.clone(), package()].concat();
    let second = whole.windows(7).position(|w| w == b"Text 2.").unwrap();
    for (cut, documents) in [(1_000, 0), (300_000, 1), (front.len() + 700, 1), (second, 2), (whole.len() - 1_000, 4)] {
        let input = failing_behind(whole[..cut].to_vec());
        let Ok(mut reader) = open(Format::PmcTar, context("o"), input, &Limits::default()) else {
            assert!(cut < 64 << 10, "the first block is read at once");
            continue;
        };
        let found: Vec<_> = std::iter::from_fn(|| reader.next()).collect();
        let Some(Err(ReadError::Io { byte_offset, .. })) = found.last() else { panic!("no error behind {cut} bytes") };
        assert_eq!(*byte_offset, cut as u64);
        assert!(found[..documents].iter().all(|item| matches!(item, Ok(Item::Document(_)))));
        assert_eq!(found.len(), documents + 1);
        assert!(reader.next().is_none());
    }
    assert!(open(Format::PmcTar, context("o"), failing_behind(Vec::new()), &Limits::default()).is_err());
    assert!(open(Format::Jats, context("o"), failing_behind(Vec::new()), &Limits::default()).is_err());
}

/// A tar of many members that is made while it is read.
struct Endless {
    next: u32,
    members: u32,
    part: io::Cursor<Vec<u8>>,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.part.position() == self.part.get_ref().len() as u64 && self.next < self.members {
            self.part = io::Cursor::new(file(&format!("PMC{}.xml", self.next), &article(self.next)));
            self.next += 1;
        }
        self.part.read(buffer)
    }
}

#[test]
fn a_hundred_thousand_members_stream_by() {
    let members = 100_000;
    let stream = BufReader::new(Endless { next: 0, members, part: io::Cursor::new(Vec::new()) });
    let mut reader = open(Format::PmcTar, context("o"), Input::Stream(Box::new(stream)), &Limits::default()).unwrap();
    let mut found = 0;
    while let Some(item) = reader.next() {
        let Item::Document(document) = item.unwrap() else { panic!("a reject") };
        assert_eq!(document.origin.byte_offset, u64::from(found) * 1024 + 512 + 22);
        found += 1;
    }
    assert_eq!(found, members);
}

#[test]
fn any_damage_ends_without_a_panic() {
    let whole = package();
    let mut random = Random(31);
    for _ in 0..500 {
        let damaged = random.damage(&whole);
        let found = read_in_pieces(Format::PmcTar, "o", &damaged, 512);
        assert!(found.len() <= damaged.len() + 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn case_32_the_pieces_of_the_input_do_not_matter(
        seed in any::<u64>(), damaged in any::<bool>(), which in 0..5_usize, piece in 1..2_000_usize,
    ) {
        let whole = if damaged { Random(seed).damage(&package()) } else { package() };
        let stored = compressed(&whole)[which].clone();
        for format in [Format::PmcTar, Format::Jats] {
            prop_assert_eq!(read_in_pieces(format, "object", &stored, piece), read(format, &stored));
        }
    }
}
