//! Objects that are read from their beginning, part by part: the items of all parts in their order are those of the whole,
//! whoever reads which part, at any cut and after any damage.

use std::fmt::Write;

use proptest::prelude::*;

use super::pmc_tar::article;
use super::tar_parts::kinds;
use super::{Random, compressed, failing_behind, file, gzip, tar_of};
use crate::input::Input;
use crate::part::Part;
use crate::reader::{Format, Item, Limits, open};
use crate::reader_tests::parts::records;
use crate::reader_tests::{context, documents, outline, read};
use crate::sequential::{self, SequentialReader};

fn reader_of(format: Format, stored: &[u8]) -> SequentialReader {
    let input = Input::from_bytes(stored.to_vec());
    SequentialReader::new(open(format, context("object"), input, &Limits::default()).unwrap())
}

/// Parts between cuts, the last one without an end.
fn parts_at(cuts: &[u64]) -> Vec<Part> {
    let begins = || std::iter::once(0).chain(cuts.iter().copied());
    let ends = begins().skip(1).chain([u64::MAX]);
    begins().zip(ends).map(|(first, end)| Part { first, end, frame: None, stored_bytes: 1, is_sequential: true }).collect()
}

/// The items of a part.
fn items_of(reader: &mut SequentialReader, part: &Part) -> Vec<Item> {
    reader.approach(part).unwrap();
    let items = std::iter::from_fn(|| reader.next_of(part)).map(Result::unwrap).collect();
    assert_eq!(reader.place(), part.end);
    items
}

/// Every part by a reader of its own, all by one reader, and by two readers in turn.
fn check(format: Format, stored: &[u8], cuts: &[u64]) {
    let (whole, parts) = (read(format, stored), parts_at(cuts));
    let alone: Vec<Item> = parts.iter().flat_map(|part| items_of(&mut reader_of(format, stored), part)).collect();
    assert!(alone == whole, "{format} {cuts:?}:\n{:?}\n{:?}", outline(&alone), outline(&whole));
    for readers in [1, 2] {
        let mut readers: Vec<SequentialReader> = (0..readers).map(|_| reader_of(format, stored)).collect();
        let count = readers.len();
        let shared: Vec<Item> =
            parts.iter().enumerate().flat_map(|(at, part)| items_of(&mut readers[at % count], part)).collect();
        assert!(shared == whole, "{format} {cuts:?} {count} readers:\n{:?}\n{:?}", outline(&shared), outline(&whole));
    }
}

/// Records that hold delimiters, quotes and line ends, ragged ones and a long one among them.
fn table() -> Vec<u8> {
    let mut text = "id,text,note\n".to_owned();
    for number in 0..60 {
        let long = if number == 20 { "word ".repeat(900) } else { String::new() };
        match number % 6 {
            2 => writeln!(text, "{number},ragged").unwrap(),
            4 => writeln!(text, "{number},\"some \"\"quoted\"\" text,\n{number},{long}and more\r\n\",x\n").unwrap(),
            _ => writeln!(text, "{number},some text {long},\"a, b\"").unwrap(),
        }
    }
    text.into_bytes()
}

/// Notes of MIMIC-IV.
fn notes() -> Vec<u8> {
    let mut text = "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text\n".to_owned();
    for number in 0..40 {
        writeln!(text, "1-DS-{number},1,2,DS,{number},2100-01-01,,\"Name: ___\n\nLungs are clear, {number}.\n\"").unwrap();
    }
    text.into_bytes()
}

/// Each format with what it reads.
fn samples() -> Vec<(Format, Vec<u8>)> {
    let entries: Vec<Vec<u8>> = (0..6).flat_map(kinds).collect();
    let tar = tar_of(&entries);
    let mut all: Vec<(Format, Vec<u8>)> =
        [Format::Jsonl, Format::Redpajama, Format::Pile, Format::S2orc].map(|format| (format, records())).into();
    all.extend([Format::PmcTar, Format::Jats, Format::MimicCxr].map(|format| (format, tar.clone())));
    all.extend([(Format::Csv, table()), (Format::MimicNotes, notes())]);
    all
}

#[test]
fn items_of_sequential_parts_are_those_of_the_whole() {
    for (format, bytes) in samples() {
        for stored in compressed(&bytes) {
            let whole = read(format, &stored);
            assert!(documents(&whole).len() > 5, "{format}");
            let begins: Vec<u64> = whole.iter().map(Item::byte_offset).collect();
            let length = bytes.len() as u64;
            // Exactly where records begin, a byte before and behind, and far behind the end.
            let near: Vec<u64> = begins.iter().step_by(5).flat_map(|at| [at.saturating_sub(1), *at, at + 1]).collect();
            let even: Vec<u64> = (1..9).map(|part| part * length / 7).collect();
            for cuts in [near, even, vec![1], vec![length - 1, length, length + 1, 3 * length], (1..60).collect()] {
                let mut cuts: Vec<u64> = cuts.into_iter().filter(|cut| *cut > 0).collect();
                cuts.sort_unstable();
                cuts.dedup();
                check(format, &stored, &cuts);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn items_of_sequential_parts_of_damaged_objects_are_those_of_the_whole(
        seed in any::<u64>(),
        chosen in any::<prop::sample::Index>(),
        compression in 0_usize..5,
        damages_stored in any::<bool>(),
        cuts in proptest::collection::btree_set(1_u64..40_000, 1..6),
    ) {
        let samples = samples();
        let (format, bytes) = chosen.get(&samples);
        let mut random = Random(seed);
        let stored = if damages_stored {
            random.damage(&compressed(bytes)[compression])
        } else {
            compressed(&random.damage(bytes))[compression].clone()
        };
        let cuts: Vec<u64> = cuts.into_iter().collect();
        check(*format, &stored, &cuts);
    }
}

#[test]
fn parts_are_laid_out_by_what_comes_out_of_the_first_bytes() {
    for (format, bytes) in samples() {
        let length = bytes.len() as u64;
        for (stored, margin) in compressed(&bytes).iter().zip([100, 125, 125, 125, 125]) {
            let of = |part_bytes| sequential::parts(format, stored, part_bytes, &Limits::default()).unwrap();
            let parts = of(length / 6);
            assert_eq!(parts.len() as u64, (length * margin / 100).div_ceil(length / 6), "{format}");
            assert_eq!((parts[0].first, parts[parts.len() - 1].end), (0, u64::MAX));
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].first && pair[0].first < pair[0].end));
            assert_eq!(parts.iter().map(|part| part.stored_bytes).sum::<u64>(), stored.len() as u64);
            assert!(parts.iter().all(|part| part.is_sequential && part.frame.is_none()));
            assert!((60..=64).contains(&of(1).len()));
            assert_eq!(of(2 * length), []);
            let cuts: Vec<u64> = parts[1..].iter().map(|part| part.first).collect();
            check(format, stored, &cuts);
        }
    }
}

#[test]
fn what_has_one_record_or_one_sequence_has_no_parts() {
    let none = |format, stored: &[u8]| {
        assert_eq!(sequential::parts(format, &stored.to_vec(), 1, &Limits::default()).unwrap(), [], "{format}");
    };
    let text = records();
    for format in [Format::Text, Format::PubmedXml, Format::Parquet] {
        none(format, &gzip(&text));
    }
    for format in [Format::PmcTar, Format::Jats, Format::MimicCxr] {
        none(format, &gzip(&text));
        none(format, article(1).as_bytes());
    }
    for stored in [&b""[..], &[0x1f, 0x8b], b"PK\x03\x04zip", &gzip(b"")] {
        none(Format::Jsonl, stored);
    }
    let gone = sequential::parts(Format::Jsonl, &Gone, 1, &Limits::default()).unwrap_err();
    assert_eq!(gone.kind(), std::io::ErrorKind::NotFound);
}

/// An object whose store does not answer.
struct Gone;

impl crate::input::RangeRead for Gone {
    fn len(&self) -> u64 {
        100
    }

    fn read_at(&self, _: u64, _: usize) -> std::io::Result<Vec<u8>> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

#[test]
fn what_is_not_wanted_is_not_parsed_and_one_reader_does_it_once() {
    let members: Vec<Vec<u8>> = (0..50).map(|number| file(&format!("PMC{number}.xml"), &article(number))).collect();
    let tar = tar_of(&members);
    let offsets: Vec<u64> = read(Format::PmcTar, &tar).iter().map(Item::byte_offset).collect();
    for (format, bytes, nearly) in [(Format::PmcTar, &tar, offsets[40]), (Format::Jsonl, &records(), 20_000)] {
        let mut reader = open(format, context("object"), Input::from_bytes(gzip(bytes)), &Limits::default()).unwrap();
        reader.pass_to(nearly);
        let first = reader.next().unwrap().unwrap();
        assert!(first.byte_offset() >= nearly, "{format}");
    }
}

#[test]
fn failures_of_the_store_come_through() {
    let text = records().repeat(20);
    let failing = || open(Format::Jsonl, context("object"), failing_behind(text.clone()), &Limits::default()).unwrap();
    let [first, second] = [parts_at(&[10_000]), parts_at(&[1 << 30])].map(|parts| parts[1]);
    let mut reader = SequentialReader::new(failing());
    reader.approach(&first).unwrap();
    let last = std::iter::from_fn(|| reader.next_of(&first)).last().unwrap();
    assert!(last.is_err());
    assert!(SequentialReader::new(failing()).approach(&second).is_err());
}
