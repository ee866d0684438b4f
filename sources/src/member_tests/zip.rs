//! Zips built by hand: the directory, its 64-bit form, and members that are not what it says.

use std::io::Write;

use super::Random;
use crate::input::RangeRead;
use crate::member::Entry;
use crate::reader::Limits;
use crate::zip::{Zip, is_zip};

/// One member as it is to be written. Fields that are changed afterwards are lies.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) name: String,
    pub(super) data: Vec<u8>,
    pub(super) size: u64,
    pub(super) crc: u32,
    pub(super) method: u16,
    pub(super) flags: u16,
    pub(super) attributes: u32,
    pub(super) is_64: bool,
}

pub(super) fn stored(name: &str, content: &[u8]) -> Written {
    let mut crc = flate2::Crc::new();
    crc.update(content);
    Written {
        name: name.to_owned(),
        data: content.to_vec(),
        size: content.len() as u64,
        crc: crc.sum(),
        method: 0,
        flags: 0,
        attributes: 0o100_644 << 16,
        is_64: false,
    }
}

pub(super) fn deflated(name: &str, content: &[u8]) -> Written {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    Written { data: encoder.finish().unwrap(), method: 8, ..stored(name, content) }
}

/// A zip with its directory behind the members; with `is_64`, its end record in 64 bits.
pub(super) fn zip_of(members: &[Written], is_64: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for member in members {
        let offset = out.len() as u64;
        let name_bytes = (member.name.len() as u16).to_le_bytes();
        out.extend_from_slice(b"PK\x03\x04\x14\0");
        out.extend_from_slice(&[&member.flags.to_le_bytes()[..], &member.method.to_le_bytes(), &[0; 4]].concat());
        out.extend_from_slice(&member.crc.to_le_bytes());
        out.extend_from_slice(&[&(member.data.len() as u32).to_le_bytes()[..], &(member.size as u32).to_le_bytes()].concat());
        out.extend_from_slice(&[&name_bytes[..], &[0; 2], member.name.as_bytes(), &member.data].concat());
        let wide = |value: u64| if member.is_64 { u32::MAX } else { value as u32 }.to_le_bytes();
        let extra: Vec<u8> = if member.is_64 {
            let values = [member.size, member.data.len() as u64, offset].map(u64::to_le_bytes).concat();
            [&b"\x99\x99\x02\0zz\x01\0\x18\0"[..], &values].concat()
        } else {
            Vec::new()
        };
        directory.extend_from_slice(b"PK\x01\x02\x14\x03\x14\0");
        directory.extend_from_slice(&[&member.flags.to_le_bytes()[..], &member.method.to_le_bytes(), &[0; 4]].concat());
        directory.extend_from_slice(&member.crc.to_le_bytes());
        directory.extend_from_slice(&[wide(member.data.len() as u64), wide(member.size)].concat());
        directory.extend_from_slice(&[&name_bytes[..], &(extra.len() as u16).to_le_bytes(), &[0; 6]].concat());
        directory.extend_from_slice(&[member.attributes.to_le_bytes(), wide(offset)].concat());
        directory.extend_from_slice(&[member.name.as_bytes(), &extra].concat());
    }
    let begin = out.len();
    out.extend_from_slice(&directory);
    out.extend_from_slice(&ending(begin, directory.len(), members.len(), is_64));
    out
}

fn ending(begin: usize, length: usize, members: usize, is_64: bool) -> Vec<u8> {
    let mut out = Vec::new();
    if is_64 {
        let [count, size, place] = [members, length, begin].map(|value| (value as u64).to_le_bytes());
        out.extend_from_slice(
            &[&b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0"[..], &count, &count, &size, &place].concat(),
        );
        let end = ((begin + length) as u64).to_le_bytes();
        out.extend_from_slice(&[&b"PK\x06\x07\0\0\0\0"[..], &end, b"\x01\0\0\0"].concat());
    }
    let wide = |value: usize| if is_64 { u32::MAX } else { value as u32 }.to_le_bytes();
    let count = if is_64 { u16::MAX } else { members as u16 }.to_le_bytes();
    out.extend_from_slice(&[&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &wide(length), &wide(begin), b"\x04\0note"].concat());
    out
}

/// `OFFSET NAME CONTENT` of members, `OFFSET+BYTES REASON` of refused ones, `OFFSET! REASON` of the archive.
fn listed(bytes: &[u8], limits: &Limits) -> Vec<String> {
    let mut zip = match Zip::open(Box::new(bytes.to_vec()), limits).unwrap() {
        Ok(zip) => zip,
        Err(reason) => return vec![format!("{reason}")],
    };
    let mut found = Vec::new();
    loop {
        found.push(match zip.next().unwrap() {
            Entry::Member(member) => {
                let kind = if member.is_directory { "/" } else { "" };
                match zip.content(limits.record_bytes).unwrap() {
                    Ok(content) => format!("{} {}{kind} {}", member.offset, member.name, String::from_utf8_lossy(&content)),
                    Err(reason) => format!("{} {}{kind} {reason}", member.offset, member.name),
                }
            }
            Entry::Refused { offset, bytes, reason } => format!("{offset}+{bytes} {reason}"),
            Entry::Fault { offset, reason } => format!("{offset}! {reason}"),
            Entry::End => return found,
        });
        assert!(found.len() <= bytes.len() + 1);
    }
}

fn check(members: &[Written], expected: &[&str]) {
    for is_64 in [false, true] {
        assert_eq!(listed(&zip_of(members, is_64), &Limits::default()), expected);
    }
}

#[test]
fn members_stored_and_deflated() {
    let words = "words ".repeat(3);
    let wide = Written { is_64: true, ..deflated("c", words.as_bytes()) };
    let members = [stored("dir/", b""), stored("a.txt", b"alpha"), deflated("b", words.as_bytes()), wide];
    check(&members, &["0 dir// ", "34 a.txt alpha", "74 b words words words ", "115 c words words words "]);
    check(&[], &[]);
    assert!(is_zip(&zip_of(&[], false)) && is_zip(&zip_of(&members, true)) && !is_zip(b"PK"));
}

#[test]
fn case_30_members_that_are_refused() {
    let encrypted = Written { flags: 1, ..stored("a", b"x") };
    let other = Written { method: 14, ..stored("a", b"x") };
    let link = Written { attributes: 0o120_777 << 16, ..stored("a", b"/etc/passwd") };
    check(&[encrypted, stored("b", b"y")], &["0+1 unsupported-compression: an encrypted member of a zip", "32 b y"]);
    check(&[other, stored("b", b"y")], &["0+1 unsupported-compression: zip method 14", "32 b y"]);
    check(&[link, stored("b", b"y")], &["0+11 unsafe-member: a symbolic link", "42 b y"]);
    check(
        &[stored("../a", b"x"), stored("/b", b"y")],
        &["0+1 unsafe-member: a path with ..", "35+1 unsafe-member: an absolute path"],
    );
}

#[test]
fn damaged_members_cost_themselves_alone() {
    let wrong_sum = Written { crc: 7, ..stored("a", b"x") };
    let smaller = Written { size: 3, ..deflated("a", b"xxxxxx") };
    let larger = Written { size: 9, ..deflated("a", b"xxxxxx") };
    let mut cut = deflated("a", b"words and words");
    cut.data.truncate(5);
    let broken = Written { method: 8, ..stored("a", b"\xff\xff\xff") };
    for (member, reason) in [
        (wrong_sum, "corrupt-stream: zip"),
        (smaller, "corrupt-stream: zip"),
        (larger, "corrupt-stream: zip"),
        (cut, "truncated-stream: zip"),
        (broken, "corrupt-stream: zip"),
    ] {
        let next = 31 + member.data.len();
        check(&[member, stored("b", b"y")], &[&format!("0 a {reason}"), &format!("{next} b y")]);
    }
    let mut bytes = zip_of(&[stored("a", b"x"), stored("b", b"y")], false);
    bytes[30] = b'c';
    bytes[32] = b'Q';
    let expected =
        ["0 a malformed-archive: a local header of a zip with another name", "32 b malformed-archive: a local header of a zip"];
    assert_eq!(listed(&bytes, &Limits::default()), expected);
}

#[test]
fn damaged_directories_end_the_archive() {
    const NONE: &str = "malformed-archive: no end of a zip directory";
    let whole = zip_of(&[stored("a", b"x"), stored("b", b"y")], false);
    for length in 0..whole.len() {
        assert_eq!(listed(&whole[..length], &Limits::default()), [NONE], "{length}");
    }
    let change = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        listed(&bytes, &Limits::default())
    };
    let (directory, end) = (64, 64 + 2 * 47);
    assert_eq!(change(directory, b'Q'), ["64! malformed-archive: an entry of a zip directory"]);
    assert_eq!(change(directory + 29, 9), ["64! malformed-archive: a zip directory that is cut short"]);
    assert_eq!(change(directory + 45, 9), ["150994944 a malformed-archive: a member of a zip outside of it", "32 b y"]);
    assert_eq!(change(end + 4, 1), [NONE]);
    assert_eq!(change(end + 12, 255), [NONE]);
    let mut bytes = whole.clone();
    bytes[end + 8] = 9;
    bytes[end + 10] = 9;
    let expected = ["0 a x", "32 b y", "158! malformed-archive: a zip directory with another number of entries"];
    assert_eq!(listed(&bytes, &Limits::default()), expected);
}

#[test]
fn case_28_zip_bombs_stop_at_the_limits() {
    let zeros = vec![b' '; 1 << 20];
    let limits = Limits { record_bytes: 1 << 19, ..Limits::default() };
    let bytes = zip_of(&[deflated("a", &zeros), stored("b", b"y")], false);
    assert_eq!(listed(&bytes, &limits)[0], "0 a over-limit: record_bytes = 524288");
    assert_eq!(listed(&bytes, &limits).len(), 2);
    // The directory lies about the size: no more than it says is ever held.
    let lying = zip_of(&[Written { size: 10, ..deflated("a", &zeros) }], false);
    assert_eq!(listed(&lying, &limits), ["0 a corrupt-stream: zip"]);
    let many: Vec<_> = (0..8).map(|_| deflated("a", &zeros)).collect();
    for (limits, reason) in [
        (Limits { expansion_free_bytes: 1 << 21, ..Limits::default() }, "over-limit: expansion_ratio = 250"),
        (Limits { object_bytes: 1 << 21, ..Limits::default() }, "over-limit: object_bytes = 2097152"),
    ] {
        let found = listed(&zip_of(&many, false), &limits);
        assert!(found.len() == 4 && found[3].ends_with(reason), "{} {}", found.len(), found[found.len() - 1].len());
    }
}

/// Fails for every range but the first.
struct Failing(Vec<u8>, std::sync::atomic::AtomicUsize, usize);

impl RangeRead for Failing {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
        if self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == self.2 {
            return Err(std::io::Error::other("the store's own words"));
        }
        self.0.read_at(offset, length)
    }
}

#[test]
fn failures_of_the_store_are_errors() {
    let bytes = zip_of(&[deflated("a", b"words and words")], true);
    let mut failed = 0;
    for nth in 0..9 {
        let object = Failing(bytes.clone(), 0.into(), nth);
        let read = || -> std::io::Result<()> {
            let mut zip = Zip::open(Box::new(object), &Limits::default())?.expect("a good zip");
            while let Entry::Member(_) = zip.next()? {
                zip.content(1_000)?.expect("a good member");
            }
            Ok(())
        };
        if let Err(error) = read() {
            assert_eq!(error.to_string(), "the store's own words");
            failed += 1;
        }
    }
    assert_eq!(failed, 4, "end record, its 64-bit form, directory, members");
}

#[test]
fn any_damage_ends_without_a_panic() {
    let wide = Written { is_64: true, ..deflated("c", b"words and words") };
    let members = [stored("dir/", b""), stored("a.txt", b"alpha"), deflated("b", b"more words"), wide];
    let mut random = Random(32);
    for is_64 in [false, true] {
        let whole = zip_of(&members, is_64);
        for _ in 0..3_000 {
            listed(&random.damage(&whole), &Limits::default());
        }
    }
}
