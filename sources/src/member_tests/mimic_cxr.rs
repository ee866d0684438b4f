//! MIMIC-CXR reports alone, in a tar and in a zip. All text is invented.

use proptest::prelude::*;

use super::zip::{Written, deflated, stored, zip_of};
use super::{Random, compressed, end, entry, failing_behind, file, gzip, read_in_pieces, tar_of};
use crate::input::Input;
use crate::reader::{Format, Item, Limits, open};
use crate::reader_tests::{context, documents, items, outline, rejects};

const REPORT: &str = "                                 FINAL REPORT\n EXAMINATION:  CHEST\n\n IMPRESSION:  ___ invented.\n";

fn read(object: &str, bytes: &[u8]) -> Vec<Item> {
    items(Format::MimicCxr, context(object), bytes.to_vec(), &Limits::default())
}

fn members() -> [(&'static str, &'static str); 8] {
    [
        ("files/p10/p10000001/", ""),
        ("files/p10/p10000001/s50000001.txt", REPORT),
        ("files/index.html", "<html>"),
        ("LICENSE.txt", "words"),
        ("SHA256SUMS.txt", "words"),
        ("files/p10/p10000001/s50000002.txt", " \n"),
        ("files/p10/notes.txt", "words"),
        ("files/p11/p11000003/s50000003.TXT", "\u{feff}second"),
    ]
}

fn tar() -> Vec<u8> {
    let parts: Vec<_> =
        members().iter().map(|(name, text)| entry(name, if text.is_empty() { b'5' } else { b'0' }, text.as_bytes())).collect();
    tar_of(&parts)
}

fn zip() -> Vec<u8> {
    let written: Vec<Written> = members().iter().map(|(name, text)| deflated(name, text.as_bytes())).collect();
    zip_of(&written, false)
}

fn meta(item: &Item) -> Vec<String> {
    let Item::Document(document) = item else { panic!("a reject") };
    document.meta.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

#[test]
fn one_report_is_named_by_its_path() {
    for (object, stored) in ["", ".gz", ".bz2", ".xz", ".zst"].into_iter().zip(compressed(REPORT.as_bytes())) {
        let found = read(&format!("files/p10/p10000001/s50000001.txt{object}"), &stored);
        assert_eq!(outline(&found), ["0 s50000001"]);
        assert_eq!(documents(&found)[0].text, REPORT);
        assert_eq!(meta(&found[0]), ["release=mimic-cxr", "study_id=50000001", "subject_id=10000001"]);
        assert_eq!(documents(&found)[0].year, None);
    }
}

#[test]
fn objects_that_are_no_reports() {
    const LAYOUT: &str = "unknown-layout: expected a path that ends as pSUBJECT/sSTUDY.txt";
    let check = |object: &str, bytes: &[u8], expected: &[&str]| assert_eq!(outline(&read(object, bytes)), expected, "{object}");
    let name = "p1/s1.txt";
    for object in
        ["s1.txt", "p1/s.txt", "p1/1.txt", "p1/sx1.txt", "q1/s1.txt", "p1/s1", "index.html", "p1/s123456789012345678901.txt"]
    {
        check(object, b"words", &[&format!("0+5 {LAYOUT}")]);
    }
    check("p1/LICENSE.txt", b"words", &[]);
    check(name, b"", &["0+0 empty-object"]);
    check(name, &gzip(b""), &["0+0 empty-object"]);
    check(name, b" \r\n", &["0+3 empty-record"]);
    check(name, b"\xef\xbb\xbf", &["0+3 empty-record"]);
    check(name, b"caf\xe9", &["0+4 invalid-utf8"]);
    check(name, &gzip(REPORT.as_bytes())[..30], &["0+0 truncated-stream: gzip"]);
    check(name, &gzip(&gzip(b"x")), &["0+0 nested-compression"]);
    check(name, &[b"PK\x03\x04", REPORT.as_bytes()].concat(), &["0+0 malformed-archive: no end of a zip directory"]);
    check(name, &end(), &[]);
}

#[test]
fn archives_of_reports() {
    const LAYOUT: &str = "unknown-layout: expected a path that ends as pSUBJECT/sSTUDY.txt";
    for stored in compressed(&tar()) {
        let found = read("mimic-cxr-reports.tar", &stored);
        assert_eq!(outline(&found), ["1024 s50000001", "5120+2 empty-record", &format!("6144+5 {LAYOUT}"), "7168 s50000003"]);
        assert_eq!(documents(&found)[0].text, REPORT);
        assert_eq!(documents(&found)[1].text, "second");
        let expected =
            ["member=files/p10/p10000001/s50000001.txt", "release=mimic-cxr", "study_id=50000001", "subject_id=10000001"];
        assert_eq!(meta(&found[0]), expected);
    }
    let found = read("mimic-cxr-reports.zip", &zip());
    let reasons: Vec<_> = outline(&found).into_iter().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect();
    assert_eq!(reasons, ["s50000001", "empty-record", LAYOUT, "s50000003"]);
    assert_eq!(documents(&found)[0].text, REPORT);
    assert_eq!(documents(&found)[1].text, "second");
    assert_eq!(documents(&found)[0].origin.byte_offset, 52);
    assert_eq!(meta(&found[0])[0], "member=files/p10/p10000001/s50000001.txt");
    assert_eq!(read_in_pieces(Format::MimicCxr, "mimic-cxr-reports.zip", &zip(), 3), found, "as a stream");
}

#[test]
fn a_zip_that_was_taken_for_a_stream_is_one_reject() {
    let blocks = Input::from_bytes(zip()).into_decoded(&Limits::default());
    let mut reader = open(Format::MimicCxr, context("o"), Input::Decoded(blocks), &Limits::default()).unwrap();
    let found: Vec<_> = std::iter::from_fn(|| reader.next()).map(Result::unwrap).collect();
    assert_eq!(outline(&found), ["0+0 unsupported-compression: zip"]);
}

#[test]
fn large_reports_are_refused_and_the_archive_goes_on() {
    let limits = Limits { record_bytes: 100, ..Limits::default() };
    let large = "x".repeat(300_000);
    let parts = [("p1/s1.txt", large.as_str()), ("p1/s2.txt", "words")];
    let tar = tar_of(&parts.map(|(name, text)| file(name, text)));
    let zip = zip_of(&parts.map(|(name, text)| stored(name, text.as_bytes())), false);
    for (bytes, offset) in [(tar, 512), (zip, 0)] {
        let found = items(Format::MimicCxr, context("o"), bytes, &limits);
        assert_eq!(outline(&found)[0], format!("{offset}+300000 over-limit: record_bytes = 100"));
        assert_eq!(documents(&found)[0].text, "words");
    }
    let found = items(Format::MimicCxr, context("p1/s1.txt"), large.into_bytes(), &limits);
    assert_eq!(outline(&found), ["0+0 over-limit: record_bytes = 100"]);
}

#[test]
fn case_29_a_cut_archive_is_one_reject_behind_its_good_reports() {
    let whole = tar();
    for cut in [5_121, 7_170, 7_600] {
        let found = read("o", &whole[..cut]);
        let last = outline(&found).pop().unwrap();
        assert!(last.ends_with(" truncated-record"), "{cut}: {last}");
        assert_eq!(rejects(&found).iter().filter(|reject| reject.reason.code() == "truncated-record").count(), 1);
    }
    let stored = gzip(&whole);
    for length in 6..stored.len() {
        let found = read("o", &stored[..length]);
        assert_eq!(outline(&found).pop().unwrap().split_once(' ').unwrap().1, "truncated-stream: gzip", "{length}");
    }
}

#[test]
fn case_41_no_text_and_no_name_reaches_a_reject() {
    let broken = [
        tar_of(&[file("../CANARY.txt", "CANARY"), file("CANARY.txt", "CANARY"), file("pCANARY/s1.txt", "CANARY")]),
        tar_of(&[entry("p1/s1.txt", b'0', b"CANARY\xff"), entry("CANARY", b'2', b"")]),
        zip_of(&[stored("../CANARY.txt", b"CANARY"), stored("CANARY.txt", b"CANARY"), stored("p1/s1.txt", b"CANARY\xff")], false),
    ];
    for bytes in broken {
        let found = read("o", &bytes);
        assert!(!found.is_empty() && rejects(&found).len() == found.len());
        assert!(!format!("{found:?}").contains("CANARY"));
    }
}

#[test]
fn failures_of_the_store_are_errors() {
    for bytes in [tar()[..1_030].to_vec(), tar()[..4_000].to_vec(), REPORT.as_bytes().to_vec()] {
        let opened = open(Format::MimicCxr, context("p1/s1.txt"), failing_behind(bytes), &Limits::default());
        let failed =
            opened.map_or(true, |mut reader| std::iter::from_fn(|| reader.next()).last().is_some_and(|item| item.is_err()));
        assert!(failed);
    }
}

#[test]
fn any_damage_ends_without_a_panic() {
    let mut random = Random(33);
    for whole in [tar(), zip()] {
        for _ in 0..1_000 {
            read("o", &random.damage(&whole));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn case_32_the_pieces_of_the_input_do_not_matter(
        seed in any::<u64>(), damaged in any::<bool>(), which in 0..6_usize, piece in 1..2_000_usize,
    ) {
        let whole = if which == 5 { zip() } else { tar() };
        let whole = if damaged { Random(seed).damage(&whole) } else { whole };
        let stored = if which == 5 { whole } else { compressed(&whole)[which].clone() };
        prop_assert_eq!(read_in_pieces(Format::MimicCxr, "p1/s1.txt", &stored, piece), read("p1/s1.txt", &stored));
    }
}
