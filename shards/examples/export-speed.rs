//! How fast shards are exported and exports are checked, by format, on made-up sequences. It measures; it judges nothing.
//!
//! ```text
//! cargo run --release -p mellama-shards --example export-speed -- FOLDER [SEQUENCES]
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use mellama_shards::export::{
    EXPORT_VERSION, ExportManifest, ExportRequest, Format, OBJECT_TOKENS, shards_digest, verify_export, write_export,
};
use mellama_shards::format::FORMAT_VERSION;
use mellama_shards::{Kind, Segment, Sequence, ShardHeader, ShardSet, ShardWriter, Width};
use mellama_storage::{ObjectEntry, Stores, Workdir};

/// T.
const LENGTH: u32 = 4096;
/// V of LLaMA-2.
const VOCABULARY: u32 = 32_000;
/// Rows of a shard.
const SHARD_SEQUENCES: u64 = 8192;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let folder = arguments.get(1).ok_or("give a folder")?;
    let sequences: u64 = arguments.get(2).map_or(Ok(16_384), |count| count.parse())?;
    let shards = Workdir::open(&Stores::default(), &format!("{folder}/shards"))?;
    let header = header();
    let objects = write_shards(&shards, &header, sequences)?;
    let set = Arc::new(ShardSet::open(&shards, &objects)?);
    let tokens = sequences * u64::from(LENGTH);
    println!("{sequences} sequences, {tokens} tokens");
    for format in Format::ALL {
        let to = Workdir::open(&Stores::default(), &format!("{folder}/{format}"))?;
        let request = request(&objects, format);
        let start = Instant::now();
        let written = write_export(&set, shards.store(), &to, &request, &mut |_| true)?;
        let wrote = start.elapsed().as_secs_f64();
        let manifest = ExportManifest {
            request,
            sequence_length: LENGTH,
            vocabulary_size: VOCABULARY,
            width_bytes: header.width.bytes(),
            tokenizer_digest: header.tokenizer_digest.clone(),
            sensitivity: header.sensitivity.clone(),
            reader: String::new(),
            parts: written.parts,
            objects: written.objects,
            totals: written.totals,
        };
        let start = Instant::now();
        let findings = verify_export(to.store(), &manifest, &mut |_| true)?;
        let checked = start.elapsed().as_secs_f64();
        assert!(findings.is_empty(), "{findings:?}");
        let rate = |seconds: f64| tokens as f64 / seconds / 1e6;
        println!("{format}: written at {:.0} M tokens/s, checked at {:.0} M tokens/s", rate(wrote), rate(checked));
    }
    Ok(())
}

fn header() -> ShardHeader {
    ShardHeader {
        format_version: FORMAT_VERSION,
        kind: Kind::Cpt,
        sequence_length: LENGTH,
        vocabulary_size: VOCABULARY,
        width: Width::for_vocabulary(VOCABULARY),
        tokenizer_digest: "00".repeat(32),
        sources: vec!["made-up".into()],
        sensitivity: "open".into(),
    }
}

fn request(objects: &[ObjectEntry], format: Format) -> ExportRequest {
    ExportRequest {
        export_version: EXPORT_VERSION,
        format: format.name().into(),
        split: "train".into(),
        object_tokens: OBJECT_TOKENS,
        segments: false,
        fill_token: 2,
        begin_token: None,
        shards: shards_digest(objects),
    }
}

/// Shards of sequences of three segments, their ids spread as words are: the small ones often.
fn write_shards(shards: &Workdir, header: &ShardHeader, sequences: u64) -> Result<Vec<ObjectEntry>, Box<dyn Error>> {
    let mut objects = Vec::new();
    for (number, first) in (0..sequences).step_by(SHARD_SEQUENCES as usize).enumerate() {
        let mut writer = ShardWriter::new(shards.part()?, header)?;
        for index in first..sequences.min(first + SHARD_SEQUENCES) {
            writer.push(&sequence(index))?;
        }
        let (part, rows) = writer.finish()?;
        objects.push(part.finish("shards", &format!("train-{number:05}"), "parquet", rows)?);
    }
    Ok(objects)
}

fn sequence(index: u64) -> Sequence {
    let mut state = index + 1;
    let mut id = || {
        // Knuth's MMIX generator; its square spreads the ids unevenly.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let unit = (state >> 40) as f64 / f64::from(1 << 24);
        (unit * unit * unit * f64::from(VOCABULARY)) as u32
    };
    let tokens = (0..LENGTH).map(|_| id()).collect();
    let segment = |end: u32, part: u64| Segment { end, document: u128::from(index * 3 + part), source: 0, offset: 0, epoch: 0 };
    Sequence { tokens, segments: vec![segment(1000, 0), segment(3000, 1), segment(LENGTH, 2)], loss_mask: None }
}
