//! The tar reader itself: every kind of header, every cut, every refusal.

use std::io::{BufReader, Cursor};

use super::{Random, end, entry, file, gzip, header, pax, sealed, tar_of};
use crate::input::{ByteStream, Input};
use crate::member::Entry;
use crate::reader::{Format, Item, Limits};
use crate::reader_tests::{context, items, outline};
use crate::tar::{Tar, is_empty_tar, is_tar};

/// `OFFSET NAME SIZE CONTENT`, `OFFSET+BYTES REASON` and `OFFSET! REASON`, the content read or passed over.
fn listed(bytes: &[u8], piece: usize, limits: &Limits, read: bool) -> Vec<String> {
    let stream = BufReader::with_capacity(piece, Cursor::new(bytes.to_vec()));
    let mut tar = Tar::new(ByteStream::new(Input::Stream(Box::new(stream)), limits), None, limits);
    let mut found = Vec::new();
    loop {
        found.push(match tar.next().unwrap() {
            Entry::Member(member) => {
                let kind = if member.is_directory { "/" } else { "" };
                let (content, fault) = if read { content_of(&mut tar) } else { Default::default() };
                let content = String::from_utf8_lossy(&content[..content.len().min(9)]).into_owned();
                format!("{} {}{kind} {} {content}{fault}", member.offset, member.name, member.size)
            }
            Entry::Refused { offset, bytes, reason } => format!("{offset}+{bytes} {reason}"),
            Entry::Fault { offset, reason } => format!("{offset}! {reason}"),
            Entry::End => break,
        });
        assert!(found.len() <= bytes.len() + 1);
    }
    assert_eq!(tar.next().unwrap(), Entry::End);
    found
}

/// The content, and the fault behind it.
fn content_of(tar: &mut Tar) -> (Vec<u8>, String) {
    let mut content = Vec::new();
    loop {
        match tar.content() {
            Ok(bytes) if bytes.is_empty() => return (content, String::new()),
            Ok(bytes) => content.extend_from_slice(&bytes),
            Err(_) => return (content, format!(" {}", tar.take_content_fault().expect("a fault"))),
        }
    }
}

fn check(bytes: &[u8], expected: &[&str]) {
    for piece in [1, 700, 1 << 16] {
        assert_eq!(listed(bytes, piece, &Limits::default(), true), expected, "pieces of {piece}");
    }
}

#[test]
fn members_of_every_layout() {
    let mut old = header("old.txt", 0, 3);
    old[257..265].fill(0);
    let old = [sealed(old).to_vec(), super::padded(b"abc")].concat();
    let mut prefixed = header("name.txt", b'0', 0);
    prefixed[345..350].copy_from_slice(b"a/b/c");
    let mut gnu = prefixed;
    gnu[257..265].copy_from_slice(b"ustar  \0");
    let mut binary = header("binary", b'7', 0);
    binary[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    let parts = [
        file("a.txt", "alpha"),
        entry("dir/", b'5', b""),
        old,
        sealed(prefixed).to_vec(),
        sealed(gnu).to_vec(),
        [sealed(binary).to_vec(), super::padded(b"hi")].concat(),
        file("dir/", ""),
    ];
    let expected = [
        "512 a.txt 5 alpha",
        "1536 dir// 0 ",
        "2048 old.txt 3 abc",
        "3072 a/b/c/name.txt 0 ",
        "3584 name.txt 0 ",
        "4096 binary 2 hi",
        "5120 dir// 0 ",
    ];
    check(&tar_of(&parts), &expected);
}

#[test]
fn long_names_and_extended_headers() {
    let long = format!("{}/b.xml", "d".repeat(300));
    let gnu = [entry("././@LongLink", b'L', format!("{long}\0").as_bytes()), file("cut", "one")].concat();
    let expected = format!("1536 {long} 3 one");
    check(&tar_of(&[gnu]), &[&expected]);
    let parts = [pax(b'g', &[("comment", "0123")]), pax(b'x', &[("path", &long), ("mtime", "1.5")]), file("cut", "one")];
    let expected = format!("2560 {long} 3 one");
    check(&tar_of(&parts), &[&expected]);
    let link = entry("././@LongLink", b'K', long.as_bytes());
    check(&tar_of(&[link, entry("l", b'2', b""), file("a", "x")]), &["0+1536 unsafe-member: a symbolic link", "2048 a 1 x"]);
}

#[test]
fn case_30_sizes_are_those_of_the_extended_header() {
    let content = super::padded(b"twelve bytes");
    let too_large = [pax(b'x', &[("size", "12")]), header("a", b'0', 99_999).to_vec(), content.clone()].concat();
    check(&tar_of(&[too_large, file("b", "x")]), &["1536 a 12 twelve by", "2560 b 1 x"]);
    let too_small = [pax(b'x', &[("size", "12")]), header("a", b'0', 0).to_vec(), content].concat();
    check(&tar_of(&[too_small, file("b", "x")]), &["1536 a 12 twelve by", "2560 b 1 x"]);
    let global = [pax(b'g', &[("size", "12")]), file("a", "x")].concat();
    check(&tar_of(&[global]), &["1024! malformed-archive: a global PAX header with a size"]);
}

#[test]
fn case_30_unsafe_entries_are_refused_and_reading_goes_on() {
    let refused = |part: Vec<u8>, what: &str| {
        let expected = [format!("0+{} unsafe-member: {what}", part.len()), format!("{} b 1 x", part.len() + 512)];
        check(&tar_of(&[part, file("b", "x")]), &expected.each_ref().map(String::as_str));
    };
    refused(entry("../x", b'0', b""), "a path with ..");
    refused(entry("a/../../x", b'0', b""), "a path with ..");
    refused(entry("/etc/x", b'0', b""), "an absolute path");
    refused(entry("l", b'2', b""), "a symbolic link");
    refused(entry("l", b'1', b""), "a hard link");
    refused(entry("d", b'3', b""), "a device");
    refused(entry("d", b'4', b""), "a device");
    refused(entry("p", b'6', b""), "a pipe");
    refused(entry("", b'0', b""), "no name");
    refused([pax(b'x', &[("path", "../x")]), entry("x", b'0', b"")].concat(), "a path with ..");
    refused([pax(b'x', &[("GNU.sparse.major", "1")]), entry("x", b'0', b"")].concat(), "a sparse file");
    // A symbolic link, then a file through it: nothing is ever written, and the file is a member like any other.
    let through = tar_of(&[entry("l", b'2', b""), file("l/x", "y")]);
    check(&through, &["0+512 unsafe-member: a symbolic link", "1024 l/x 1 y"]);
    // The size of a hard link is that of the file which it names, without content behind it.
    let linked = [header("l", b'1', 700).to_vec(), file("b", "x")].concat();
    check(&tar_of(&[linked]), &["0+512 unsafe-member: a hard link", "1024 b 1 x"]);
    let unknown = [entry("v", b'V', b"content"), file("b", "x")].concat();
    check(&tar_of(&[unknown]), &["0+519 unsafe-member: an entry of an unknown kind", "1536 b 1 x"]);
}

#[test]
fn case_30_old_sparse_files_are_passed_over_with_their_maps() {
    let mut sparse = header("s", b'S', 3);
    sparse[482] = 1;
    let mut map = [7; 512];
    map[504] = 1;
    let mut last = map;
    last[504] = 0;
    let parts = [sealed(sparse).to_vec(), map.to_vec(), last.to_vec(), super::padded(b"abc"), file("b", "x")];
    check(&tar_of(&parts), &["0+1539 unsafe-member: a sparse file", "2560 b 1 x"]);
}

#[test]
fn limits_on_names_and_headers() {
    let limits = Limits { member_name_bytes: 10, member_header_bytes: 40, ..Limits::default() };
    let list = |parts: &[Vec<u8>]| listed(&tar_of(parts), 100, &limits, true);
    let next = file("b", "x");
    let name = "over-limit: member_name_bytes = 10";
    assert_eq!(list(&[file("12345678901", ""), next.clone()]), [format!("0+512 {name}"), "1024 b 1 x".into()]);
    let long = [entry("L", b'L', &[b'a'; 3_000]), file("a", "")].concat();
    assert_eq!(list(&[long, next.clone()]), [format!("0+4096 {name}"), "4608 b 1 x".into()]);
    let path = [pax(b'x', &[("path", "12345678901")]), file("a", "")].concat();
    assert_eq!(list(&[path, next.clone()]), [format!("0+1536 {name}"), "2048 b 1 x".into()]);
    let large = [pax(b'x', &[("comment", &"c".repeat(50))]), file("a", "")].concat();
    assert_eq!(list(&[large, next]), ["1024! over-limit: member_header_bytes = 40"]);
}

#[test]
fn ends_of_archives() {
    let one = file("a", "x");
    check(&one, &["512 a 1 x"]);
    check(&[one.clone(), vec![0; 512]].concat(), &["512 a 1 x"]);
    check(&[one.clone(), vec![0; 9_999]].concat(), &["512 a 1 x"]);
    check(&end(), &[]);
    // As cat(1) joins two archives.
    check(&[one.clone(), end(), file("b", "y"), end()].concat(), &["512 a 1 x", "2560 b 1 y"]);
    let garbage = [one.clone(), end(), b"words".to_vec()].concat();
    check(&garbage, &["512 a 1 x", "2053! trailing-garbage: tar"]);
    let garbage = [one, end(), vec![b'w'; 700]].concat();
    check(&garbage, &["512 a 1 x", "2560! trailing-garbage: tar"]);
}

#[test]
fn damaged_headers_end_the_archive() {
    let mut parts = [file("a", "x"), file("b", "y"), end()].concat();
    parts[1024 + 3] ^= 1;
    check(&parts, &["512 a 1 x", "1536! malformed-archive: a tar header with a wrong checksum"]);
    let mut negative = header("a", b'0', 0);
    negative[124..136].fill(0xff);
    check(&sealed(negative), &["512! malformed-archive: a tar header with an unreadable size"]);
    let huge = [pax(b'x', &[("size", "18446744073709551615")]), file("a", "x")].concat();
    check(&huge, &["1536 a 18446744073709551615 x\0\0\0\0\0\0\0\0 truncated-record"]);
}

#[test]
fn every_truncation_inside_a_member_is_found() {
    let long = format!("{}/b.xml", "d".repeat(120));
    let parts = [file("a", "alpha"), pax(b'x', &[("path", &long)]), file("b", "beta")].concat();
    for length in (1..parts.len()).filter(|&length| length != 1024) {
        for read in [true, false] {
            let found = listed(&parts[..length], 64, &Limits::default(), read);
            let last = found.last().expect("a member or a fault");
            let in_padding_at_end = length > 2560 + 4;
            assert!(last.ends_with("truncated-record") || in_padding_at_end, "{length}: {found:?}");
        }
    }
}

#[test]
fn tars_are_told_from_other_bytes() {
    let mut old = header("old.txt", 0, 3);
    old[257..265].fill(0);
    for (head, expected) in [
        (&header("a", b'0', 0)[..], true),
        (&sealed(old)[..], true),
        (&header("a", b'0', 0)[..300], true),
        (&[0; 512], false),
        (&[b'7'; 512], false),
        (b"<article/>", false),
        (b"", false),
    ] {
        assert_eq!(is_tar(head), expected);
    }
    assert!(is_empty_tar(&[0; 512]) && !is_empty_tar(&[0; 511]));
}

#[test]
fn any_damage_ends_without_a_panic() {
    let long = format!("{}/b.xml", "d".repeat(120));
    let parts = [file("a", "alpha"), pax(b'x', &[("path", &long), ("size", "4")]), file("b", "beta"), entry("l", b'2', b"")];
    let whole = tar_of(&parts);
    let mut random = Random(30);
    for _ in 0..3_000 {
        let damaged = random.damage(&whole);
        let read = listed(&damaged, 512, &Limits::default(), true);
        assert!(read.len() <= damaged.len() / 512 + 1);
        listed(&damaged, 512, &Limits::default(), false);
    }
}

#[test]
fn an_archive_in_a_format_that_reads_none_is_one_reject() {
    let bytes = [file("a.txt", "{\"text\": \"x\"}\n"), end()].concat();
    let formats = [Format::Text, Format::Csv, Format::Jsonl, Format::Redpajama, Format::Pile, Format::S2orc, Format::MimicNotes];
    for format in formats {
        for stored in [bytes.clone(), gzip(&bytes)] {
            let found = items(format, context("a.tar"), stored, &Limits::default());
            assert_eq!(outline(&found), ["0+0 unsupported-compression: tar"], "{format}");
        }
    }
    // What only looks like one is read.
    let text = [vec![b'x'; 257], b"ustar".to_vec(), vec![b' '; 600]].concat();
    let found = items(Format::Text, context("a.txt"), text, &Limits::default());
    assert!(matches!(found.as_slice(), [Item::Document(_)]));
}
