//! Made-up sequences, shards and stores for the tests of this crate.

use std::sync::Arc;

use bytes::Bytes;
use mellama_storage::{AttemptId, Key, MemoryStore, ObjectEntry, Store, Workdir};

use crate::format::{FORMAT_VERSION, Kind, Sequence, ShardHeader, Width};
use crate::packing::{Method, pack_window};
use crate::reader::ShardFile;
use crate::sequence::{RunTokens, assemble};
use crate::writer::ShardWriter;

/// `SplitMix64` (Steele, Lea and Flood 2014), for made-up data.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

pub(crate) fn header(sequence_length: u32, vocabulary_size: u32) -> ShardHeader {
    ShardHeader {
        format_version: FORMAT_VERSION,
        kind: Kind::Cpt,
        sequence_length,
        vocabulary_size,
        width: Width::for_vocabulary(vocabulary_size),
        tokenizer_digest: "ab".repeat(32),
        sources: vec!["pubmed".into(), "notes".into(), "web".into()],
        sensitivity: "open".into(),
    }
}

/// A made-up document: key, source, tokens.
pub(crate) struct Made {
    pub(crate) key: u128,
    pub(crate) source: u16,
    pub(crate) tokens: Vec<u32>,
    pub(crate) mask: Option<Vec<bool>>,
}

pub(crate) fn documents(count: usize, header: &ShardHeader, seed: u64) -> Vec<Made> {
    let mut random = Random(seed);
    let longest = u64::from(header.sequence_length) * 3 / 2;
    let mut made = |_| {
        let length = 1 + random.below(longest);
        let tokens: Vec<u32> = (0..length).map(|_| random.below(u64::from(header.vocabulary_size)) as u32).collect();
        let mask = (header.kind == Kind::Instruct).then(|| (0..length).map(|_| random.below(2) == 1).collect());
        let key = (u128::from(random.next()) << 64) | u128::from(random.next());
        Made { key, source: random.below(header.sources.len() as u64) as u16, tokens, mask }
    };
    (0..count).map(&mut made).collect()
}

/// Packs documents, best fit.
pub(crate) fn sequences_of(documents: &[Made], header: &ShardHeader) -> Vec<Sequence> {
    let lengths: Vec<u32> = documents.iter().map(|made| made.tokens.len() as u32).collect();
    let runs: Vec<RunTokens<'_>> = documents
        .iter()
        .map(|made| RunTokens {
            tokens: &made.tokens,
            mask: made.mask.as_deref(),
            document: made.key,
            source: made.source,
            epoch: 0,
        })
        .collect();
    let packed = pack_window(&lengths, header.sequence_length, Method::BestFit);
    packed.iter().map(|pieces| assemble(pieces, &runs, header.sequence_length).unwrap()).collect()
}

/// About `count` sequences of made-up documents: at least `count`, cut to it.
pub(crate) fn sequences(count: usize, header: &ShardHeader, seed: u64) -> Vec<Sequence> {
    let mut made = sequences_of(&documents(2 * count + 8, header, seed), header);
    assert!(made.len() >= count, "{} sequences made, {count} wanted", made.len());
    made.truncate(count);
    made
}

pub(crate) fn write_shard(header: &ShardHeader, sequences: &[Sequence]) -> Bytes {
    let mut writer = ShardWriter::new(Vec::new(), header).unwrap();
    for sequence in sequences {
        writer.push(sequence).unwrap();
    }
    let (bytes, rows) = writer.finish().unwrap();
    assert_eq!(rows, sequences.len() as u64);
    bytes.into()
}

pub(crate) fn open(bytes: &Bytes) -> ShardFile {
    ShardFile::open("shards/test.parquet", bytes.clone()).unwrap()
}

/// A work folder in memory with these objects.
pub(crate) fn workdir(objects: &[(&str, &Bytes, u64)]) -> (Workdir, Vec<ObjectEntry>) {
    let store = Arc::new(MemoryStore::new("shards"));
    let mut entries = Vec::new();
    for &(key, bytes, records) in objects {
        store.put_new(&Key::new(key).unwrap(), bytes, &AttemptId::generate()).unwrap();
        let blake3 = blake3::hash(bytes).to_hex().to_string();
        entries.push(ObjectEntry { key: key.into(), bytes: bytes.len() as u64, blake3, records });
    }
    (Workdir::new(store), entries)
}
