//! Archives and compressed streams, sound and damaged.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use mellama_sources::Format;

use crate::mutation::{change, mutated};
use crate::random::Random;
use crate::samples;

const BLOCK: usize = 512;
const NAMES: [&str; 12] = [
    "PMC1/a.nxml",
    "a.xml",
    "files/p10/p10000032/s50414267.txt",
    "files/p10/p1/s2.txt",
    "../../etc/passwd.xml",
    "/a.nxml",
    "a/../b.xml",
    "s1.txt",
    "",
    "._a.nxml",
    "PMC1/fig.jpg",
    "C:\\a.nxml",
];

/// Gzip, zstd, bzip2 or xz around the bytes in one case of five, sometimes damaged.
pub(crate) fn perhaps_compressed(random: &mut Random, bytes: Vec<u8>) -> Vec<u8> {
    let mut stored = match random.below(12) {
        0 => gzip(&bytes),
        1 => {
            // Several members.
            let middle = random.below(bytes.len() + 1);
            [gzip(&bytes[..middle]), gzip(&bytes[middle..])].concat()
        }
        2 => zstd::encode_all(bytes.as_slice(), 1).unwrap_or_default(),
        3 => bzip2(&bytes),
        _ => return bytes,
    };
    for _ in 0..random.below(3) {
        change(random, &mut stored, &["\x1f\u{8b}", "BZh9", "PK"]);
    }
    stored
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default()
}

/// What stands in a member.
fn content(random: &mut Random) -> Vec<u8> {
    match random.below(6) {
        0 => Vec::new(),
        1 => b"FINAL REPORT\n EXAMINATION: CHEST\n\n FINDINGS: none.\n".to_vec(),
        2 => {
            let bytes = mutated(random, &samples::xml(Format::Jats), samples::XML_WORDS);
            perhaps_compressed(random, bytes)
        }
        _ => mutated(random, &samples::xml(Format::Jats), samples::XML_WORDS),
    }
}

/// A tar with links, long names, sparse and unknown members, then a few changes, mostly with sums that fit again.
pub(crate) fn tar(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.below(6) {
        let kind = *random.one_of(b"0000000\x005123467LKxgSDVM?");
        let content = match kind {
            b'L' | b'K' => format!("{}\0", random.one_of(&NAMES).repeat(1 + random.below(30))).into_bytes(),
            b'x' | b'g' => records(random),
            _ => content(random),
        };
        let name = *random.one_of(&NAMES);
        let size = if random.below(10) == 0 { random.next() as usize >> random.below(64) } else { content.len() };
        bytes.extend(header(name, kind, size));
        bytes.extend_from_slice(&content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes.resize(bytes.len() + BLOCK * random.below(4), 0);
    let words = ["ustar\0", "ustar  \0", "20 path=a.nxml\n", "12 size=99\n", "7777777", "\u{80}"];
    for _ in 0..random.below(5) {
        change(random, &mut bytes, &words);
    }
    if random.below(4) > 0 {
        bytes.chunks_exact_mut(BLOCK).filter(|block| block[257..].starts_with(b"ustar")).for_each(seal);
    }
    bytes
}

fn records(random: &mut Random) -> Vec<u8> {
    let mut text = String::new();
    for _ in 0..random.below(4) {
        let (key, value) = (*random.one_of(&["path", "size", "linkpath", "GNU.sparse.size"]), *random.one_of(&NAMES));
        let value = if key == "size" { random.below(9_000).to_string() } else { value.to_string() };
        let length = key.len() + value.len() + 3 + 2;
        text.extend([length.to_string().as_str(), " ", key, "=", value.as_str(), "\n"]);
    }
    text.into_bytes()
}

fn header(name: &str, kind: u8, size: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let length = name.len().min(99);
    block[..length].copy_from_slice(&name.as_bytes()[..length]);
    block[100..108].copy_from_slice(b"0000644\0");
    let octal = format!("{:011o}", size % (1 << 33));
    block[124..135].copy_from_slice(octal.as_bytes());
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

fn seal(block: &mut [u8]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A zip with stored and deflated members, then a few changes.
pub(crate) fn zip(random: &mut Random) -> Vec<u8> {
    let (mut bytes, mut directory, mut count) = (Vec::new(), Vec::new(), 0_u16);
    for _ in 0..random.below(6) {
        let content = content(random);
        let name = random.one_of(&NAMES).as_bytes();
        let method = *random.one_of(&[0_u16, 8, 8, 8, 12]);
        let stored = if method == 8 { deflate(&content) } else { content.clone() };
        let mut fields = Vec::new();
        fields.extend(20_u16.to_le_bytes());
        fields.extend(if random.below(4) == 0 { 8_u16 } else { 0 }.to_le_bytes());
        fields.extend(method.to_le_bytes());
        fields.extend([0; 4]);
        let mut sum = flate2::Crc::new();
        sum.update(&content);
        fields.extend(sum.sum().to_le_bytes());
        fields.extend((stored.len() as u32).to_le_bytes());
        fields.extend((content.len() as u32).to_le_bytes());
        fields.extend((name.len() as u16).to_le_bytes());
        fields.extend([0; 2]);
        let offset = bytes.len() as u32;
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&fields);
        bytes.extend(name);
        bytes.extend(stored);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&fields);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name);
        count += 1;
    }
    let begin = bytes.len() as u32;
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend(count.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend((directory.len() as u32).to_le_bytes());
    bytes.extend(begin.to_le_bytes());
    bytes.extend([0; 2]);
    for _ in 0..random.below(6) {
        change(random, &mut bytes, &["PK\x01\x02", "PK\x05\x06", "PK\x06\x06", "PK\x06\x07", "PK\x07\x08", "\x7f\x7f\x7f\x7f"]);
    }
    bytes
}
