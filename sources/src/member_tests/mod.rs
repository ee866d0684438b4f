//! Tests of the archives and of the formats that read them, over archives built by hand here.

mod mimic_cxr;
mod pmc_tar;
mod sequential;
mod tar;
mod tar_parts;
mod zip;

use std::io::{self, BufReader, Cursor, Read, Write};

use crate::input::Input;
use crate::reader::{Format, Item, Limits, open};
use crate::reader_tests::context;
use crate::tar_header::{BLOCK_BYTES, Block};

/// A POSIX header with its checksum.
fn header(name: &str, kind: u8, size: usize) -> Block {
    let mut block = [0; BLOCK_BYTES];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    sealed(block)
}

/// The block with the checksum that it should have.
fn sealed(mut block: Block) -> Block {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut padded = content.to_vec();
    padded.resize(content.len().next_multiple_of(BLOCK_BYTES), 0);
    padded
}

fn entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    [header(name, kind, content.len()).to_vec(), padded(content)].concat()
}

fn file(name: &str, content: &str) -> Vec<u8> {
    entry(name, b'0', content.as_bytes())
}

/// A PAX header with these records.
fn pax(kind: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let record = |(key, value): &(&str, &str)| {
        let rest = format!(" {key}={value}\n");
        let digits = (1..9).find(|digits| (rest.len() + digits).to_string().len() == *digits).unwrap();
        format!("{}{rest}", rest.len() + digits)
    };
    let content: Vec<String> = records.iter().map(record).collect();
    entry("PaxHeaders/x", kind, content.concat().as_bytes())
}

/// The blocks at the end of a tar.
fn end() -> Vec<u8> {
    vec![0; 2 * BLOCK_BYTES]
}

fn tar_of(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), end()].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Every compression of a tar.
fn compressed(bytes: &[u8]) -> [Vec<u8>; 5] {
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(bytes).unwrap();
    let mut options = lzma_rust2::XzOptions::with_preset(0);
    options.lzma_options.dict_size = 1 << 16;
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    xz.write_all(bytes).unwrap();
    [bytes.to_vec(), gzip(bytes), bzip2.finish().unwrap(), xz.finish().unwrap(), zstd::encode_all(bytes, 1).unwrap()]
}

/// Every item of an object that comes in pieces of one size.
fn read_in_pieces(format: Format, object: &str, bytes: &[u8], piece: usize) -> Vec<Item> {
    let stream = BufReader::with_capacity(piece, Cursor::new(bytes.to_vec()));
    let mut reader = open(format, context(object), Input::Stream(Box::new(stream)), &Limits::default()).unwrap();
    let items = std::iter::from_fn(|| reader.next()).map(Result::unwrap).collect();
    assert!(reader.next().is_none());
    items
}

/// The bytes, then a failure of the store.
fn failing_behind(bytes: Vec<u8>) -> Input {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the store's own words"))
        }
    }
    Input::Stream(Box::new(BufReader::new(Cursor::new(bytes).chain(Fails))))
}

/// Numbers below a bound, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    /// A few bytes changed, removed or doubled.
    fn damage(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut damaged = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(damaged.len());
            match self.below(8) {
                0 => damaged.truncate(at.max(1)),
                1 => drop(damaged.drain(at..(at + self.below(600)).min(damaged.len()))),
                2 => damaged.extend_from_within(at..),
                3 => damaged[at] = 0xff,
                _ => damaged[at] = self.below(256) as u8,
            }
            if damaged.is_empty() {
                return damaged;
            }
        }
        damaged
    }
}
