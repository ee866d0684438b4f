//! The golden files of format version 1: committed once, read by every later release. Each test holds the values that were
//! written as literals, so that a reader that came to understand them differently fails here.
//!
//! The folder is opened for reading alone; what trains or writes works on a copy. `tests/golden/README.md` says what to do
//! when the formats change.

#![expect(clippy::unwrap_used, reason = "a test's own functions may fail the test")]

mod newest;
mod training;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use arrow::array::{Array, FixedSizeBinaryArray, Float64Array, StringArray, UInt32Array};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use mellama_pipeline::Location;
use mellama_pipeline::inspect::{View, inspect};
use mellama_pipeline::{Silent, runner, verification};
use mellama_shards::{
    Kind as ShardKind, RunIndex, RunReader, Segment, Sequence, ShardFile, ShardSet, StoreChunks, Tokenizer, Width, key_text,
    verify_shard,
};
use mellama_sources::{Document, DocumentReader, Domain, Sensitivity};
use mellama_storage::{Key, ObjectEntry, RangeReader, StageManifest, Stores, Workdir, list_all};
use mellama_train::backend::Processor;
use mellama_train::checkpoint::{CheckpointManifest, FILE_LIMIT_BYTES, Partition, list_steps, newest};
use mellama_train::generation::argmax;
use mellama_train::hf::{HfModel, load};
use mellama_train::trainer::{Base, Companion, Hooks, Kind, MetricLine, StepRecord, StepTiming, TrainJob, TrainSpec, train};
use mellama_train::{Decoder, LoraSpec, Model, Shape, TrainOutcome};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;
use serde_json::Value;

/// Stages that the folder holds, with the documents or sequences read, written, dropped and rejected.
const STAGES: [(&str, [u64; 4]); 7] = [
    ("ingest", [38, 34, 1, 3]),
    ("dedup", [34, 27, 7, 0]),
    ("tokenize", [27, 27, 0, 0]),
    ("mix", [27, 20, 7, 0]),
    ("pack", [23, 23, 0, 0]),
    ("publish", [77, 77, 0, 0]),
    ("instruct-data", [10, 8, 1, 1]),
];

/// Difference of losses that rounding explains: another processor adds the same products in another order or with fused
/// multiply–add, which moves a mean over 256 tokens by parts in 10^6; the first wrong formula moves it by far more.
const LOSS_TOLERANCE: f64 = 1e-4;

/// Difference of weights after four steps: a gradient's rounding error of at most 10^-7 goes into an AdamW step divided by
/// an epsilon of 10^-4 and times a rate of 0.02, so below 10^-4 over the run.
const WEIGHT_TOLERANCE: f32 = 1e-4;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/v1")
}

/// The newest folder: what this version writes.
fn newest_golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/v6")
}

/// The document key of versions 1 to 3, which left the text out.
fn document_key(source: &str, native_id: &str, version: u32) -> u128 {
    let digest = blake3::hash(format!("{source}\0{native_id}\0{version}").as_bytes());
    u128::from_le_bytes(digest.as_bytes()[..16].try_into().unwrap())
}

/// A work folder that is there, with its plan.
struct Run {
    workdir: Workdir,
    plan: String,
}

impl Run {
    fn open(folder: &Path) -> Run {
        let workdir = Workdir::open_existing(&Stores::default(), folder.to_str().unwrap()).unwrap();
        let plan = workdir.read_plan_id().unwrap().unwrap();
        Run { workdir, plan }
    }

    fn golden() -> Run {
        Run::open(&golden().join("run"))
    }

    fn manifest(&self, stage: &str) -> StageManifest {
        let manifest = self.workdir.read_manifest(&self.plan, stage).unwrap();
        manifest.unwrap_or_else(|| panic!("{stage} has a manifest"))
    }

    /// Objects of a stage whose keys begin with `prefix` and end with `suffix`.
    fn objects(&self, stage: &str, prefix: &str, suffix: &str) -> Vec<ObjectEntry> {
        let named = |entry: &ObjectEntry| entry.key.starts_with(prefix) && entry.key.ends_with(suffix);
        self.manifest(stage).objects.into_iter().filter(named).collect()
    }

    fn reader(&self, entry: &ObjectEntry) -> RangeReader {
        let key = Key::new(&*entry.key).unwrap();
        RangeReader::open(Arc::clone(self.workdir.store()), &key).unwrap()
    }

    fn documents(&self, source: &str) -> Vec<Document> {
        let entries = self.objects("ingest", &format!("documents/{source}/"), ".parquet");
        let open = |entry| DocumentReader::open(StoreChunks(self.reader(entry))).unwrap();
        entries.iter().flat_map(open).map(Result::unwrap).collect()
    }

    fn runs(&self, source: &str) -> RunReader {
        let entry = |suffix| self.objects("tokenize", &format!("tokens/{source}/"), suffix).remove(0);
        let (tokens, index) = (entry(".tokens"), entry(".parquet"));
        let index = RunIndex::open(&index.key, StoreChunks(self.reader(&index))).unwrap();
        RunReader::new(index, self.reader(&tokens)).unwrap()
    }

    fn shards(&self, stage: &str, prefix: &str) -> ShardSet {
        ShardSet::open(&self.workdir, &self.objects(stage, prefix, ".parquet")).unwrap()
    }

    fn model(&self, step: u64) -> HfModel {
        load(self.workdir.store(), &format!("checkpoints/cpt/step-{step:08}")).unwrap()
    }

    fn step_records(&self) -> Vec<StepRecord> {
        let mut records = Vec::new();
        for object in list_all(&**self.workdir.store(), "metrics/cpt-") {
            let bytes = self.workdir.store().read(&object.unwrap().key, None, None).unwrap();
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                if let MetricLine::Step(record) = serde_json::from_slice(line).unwrap() {
                    records.push(record);
                }
            }
        }
        records
    }
}

fn tokenizer() -> Tokenizer {
    let bytes = fs::read(golden().join("inputs/tokenizer.json")).unwrap();
    Tokenizer::from_bytes("tokenizer.json", &bytes).unwrap()
}

/// Every file below a folder: path, length, time of the last change.
fn files(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::metadata(&path).unwrap();
            if metadata.is_dir() {
                folders.push(path);
            } else {
                found.insert(path, (metadata.len(), metadata.modified().unwrap()));
            }
        }
    }
    found
}

/// Copies the files of `from` whose relative paths `wanted` accepts.
fn copy(from: &Path, to: &Path, wanted: impl Fn(&Path) -> bool) {
    for path in files(from).into_keys() {
        let relative = path.strip_prefix(from).unwrap();
        if wanted(relative) {
            let target = to.join(relative);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(&path, target).unwrap();
        }
    }
}

#[test]
fn golden_v1_verifies_and_is_left_as_it_is() {
    let before = files(&golden());
    let uri = golden().join("run");
    let verified = verification::verify(&Stores::default(), uri.to_str().unwrap(), &Silent).unwrap();
    assert_eq!(verified.findings, Vec::<String>::new());
    assert_eq!((verified.objects, verified.sequences), (79, 85));
    // The pipeline did not run the training, so no commit names its metrics.
    assert_eq!(verified.unnamed, ["metrics/cpt-00000002.jsonl", "metrics/cpt-00000004.jsonl"]);
    assert_eq!(files(&golden()), before);
    assert!(before.values().map(|file| file.0).sum::<u64>() < 600_000);
}

#[test]
fn golden_v1_manifests_hold_the_committed_counts() {
    let run = Run::golden();
    for (stage, expected) in STAGES {
        let counts = run.manifest(stage).counts;
        let parts = [counts.read, counts.written, counts.dropped, counts.rejected];
        assert_eq!(parts.map(|part| part.documents), expected, "{stage}");
        let bytes = parts.map(|part| part.bytes);
        assert_eq!(bytes[0], bytes[1] + bytes[2] + bytes[3], "{stage}");
    }
    let plan = run.workdir.read_plan().unwrap().unwrap();
    assert_eq!((&plan["format"], &plan["recipe"]["seed"]), (&Value::from(1), &Value::from(11)));
}

#[test]
fn golden_v1_documents_read_back() {
    let run = Run::golden();
    let (journal, ward, almanac) = (run.documents("journal"), run.documents("ward"), run.documents("almanac"));
    assert_eq!([journal.len(), ward.len(), almanac.len()], [11, 12, 11]);
    let document = &journal[3];
    assert_eq!((&*document.id, document.version, &*document.source), ("journal:J4", 1, "journal"));
    assert_eq!((document.domain, document.sensitivity), (Domain::Biomedical, Sensitivity::Open));
    assert_eq!((document.licence.as_deref(), document.year), (Some("CC-BY-4.0"), Some(1994)));
    assert_eq!(document.title.as_deref(), Some("Children with orlic cough were given warm salt air or plain air for ten nights"));
    assert_eq!(
        document.text,
        "Children with orlic cough were given warm salt air or plain air for ten nights. Both groups slept the same, \
         and the cough was gone after nine nights in either one."
    );
    assert_eq!((&*document.origin.object, document.origin.byte_offset), ("inputs/journal.jsonl", 902));
    assert_eq!(document.meta, BTreeMap::from([("section".to_owned(), "reports".to_owned())]));
    let versions: Vec<(&str, u32)> = ward[8..10].iter().map(|note| (&*note.id, note.version)).collect();
    assert_eq!(versions, [("ward:W9", 1), ("ward:W9", 2)]);
    assert!(ward.iter().all(|note| note.sensitivity == Sensitivity::Dua && note.licence.is_none()));
    assert_eq!((&*almanac[0].native_id, almanac[0].year), ("6c080d38309c38f440d7dd67e2067fed", None));
}

#[test]
fn golden_v1_rejects_and_drops_read_back() {
    let run = Run::golden();
    let check = |stage: &str, prefix: &str, expected: &str| {
        let entries = run.objects(stage, prefix, ".jsonl");
        assert_eq!(entries.len(), 1, "{prefix}");
        let lines = String::from_utf8(run.workdir.read_object(&entries[0]).unwrap()).unwrap();
        assert_eq!(lines, format!("{expected}\n"), "{prefix}");
    };
    check(
        "ingest",
        "rejects/journal/",
        r#"{"source":"journal","object":"inputs/journal.jsonl","byte_offset":3226,"bytes":62,"reason":{"code":"malformed-json","what":"ends inside a string"}}"#,
    );
    check(
        "ingest",
        "rejects/ward/",
        r#"{"source":"ward","object":"inputs/ward.jsonl","byte_offset":2137,"bytes":25,"reason":{"code":"missing-field","field":"text"}}"#,
    );
    check(
        "ingest",
        "rejects/almanac/",
        r#"{"source":"almanac","object":"inputs/almanac.jsonl","byte_offset":1758,"bytes":14,"reason":{"code":"malformed-json","what":"no value"}}"#,
    );
    check(
        "ingest",
        "drops/almanac/",
        r#"{"id":"almanac:3b60d8d9e5fc2ebafcd85233aa64d1c0","object":"inputs/almanac.jsonl","byte_offset":1722,"rule":"too-few-words"}"#,
    );
    check(
        "instruct-data",
        "rejects/questions/",
        r#"{"source":"questions","object":"inputs/questions.jsonl","byte_offset":759,"bytes":20,"reason":{"code":"unknown-layout","expected":"conversations, messages, instruction and output, query and answer, or question and answer"}}"#,
    );
}

/// The rows of a table, whatever its row groups.
fn table(run: &Run, entry: &ObjectEntry) -> RecordBatch {
    let bytes = Bytes::from(run.workdir.read_object(entry).unwrap());
    let mut batches = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    let batch = batches.next().unwrap().unwrap();
    assert!(batches.next().is_none());
    batch
}

fn column<'b, A: Array + 'static>(batch: &'b RecordBatch, name: &str) -> &'b A {
    let column = batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref());
    column.unwrap_or_else(|| panic!("a column {name} of the documented type"))
}

#[test]
fn golden_v1_decisions_have_the_documented_columns() {
    let run = Run::golden();
    let entries = run.objects("dedup", "decisions/", ".parquet");
    assert_eq!(entries.len(), 1);
    let batch = table(&run, &entries[0]);
    let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["dropped_id", "kept_id", "rule", "similarity", "spec_version"]);
    let (dropped, kept) = (column::<StringArray>(&batch, "dropped_id"), column::<StringArray>(&batch, "kept_id"));
    let (rule, similarity) = (column::<StringArray>(&batch, "rule"), column::<Float64Array>(&batch, "similarity"));
    let version = column::<UInt32Array>(&batch, "spec_version");
    let rows: Vec<String> = (0..batch.num_rows())
        .map(|row| {
            let (dropped, kept, rule) = (dropped.value(row), kept.value(row), rule.value(row));
            format!("{dropped} {kept} {rule} {:.6} {}", similarity.value(row), version.value(row))
        })
        .collect();
    let expected = [
        "journal:J2 journal:J11 near-strict 0.916667 1",
        "journal:J4 journal:J10 exact 1.000000 1",
        "ward:W1 ward:W11 near-strict 0.888889 1",
        "ward:W2 ward:W10 exact 1.000000 1",
        "ward:W9 ward:W9 same-id 1.000000 1",
        "almanac:6c080d38309c38f440d7dd67e2067fed almanac:50fe2d16dec82517bc321e3cb99e7d97 near-strict 0.882353 1",
        "almanac:f464a6102ad52400aec91ab010127663 almanac:97dfed9d232beabb50f3e8f79992c255 exact 1.000000 1",
    ];
    assert_eq!(rows, expected);
}

#[test]
fn golden_v1_token_runs_prove_every_document() {
    let run = Run::golden();
    let tokenizer = tokenizer();
    let mut totals = Vec::new();
    for source in ["journal", "ward", "almanac"] {
        let texts: BTreeMap<String, String> = run
            .documents(source)
            .into_iter()
            .map(|document| (format!("{}#{}", document.id, document.version), document.text))
            .collect();
        let runs = run.runs(source);
        let (index, header) = (runs.index(), runs.index().header());
        assert_eq!((header.format_version, &*header.source, header.width), (1, source, Width::U16));
        assert_eq!((header.vocabulary_size, &*header.tokenizer_digest), (384, tokenizer.digest()));
        let ids = index.read_ids().unwrap();
        for (row, id) in (0..).zip(&ids) {
            let tokens = runs.read(row).unwrap();
            let version = if id == "ward:W9" { 2 } else { 1 };
            let mut expected = vec![tokenizer.bos().unwrap()];
            expected.extend(tokenizer.encode(&texts[&format!("{id}#{version}")]).unwrap());
            expected.extend(tokenizer.eos());
            assert_eq!(tokens, expected, "{id}");
            let native = id.split_once(':').unwrap().1;
            assert_eq!(index.entries()[row as usize].key, document_key(source, native, version), "{id}");
        }
        let sum = index.totals();
        totals.push((source, sum.documents, sum.tokens, sum.heldout_documents, sum.heldout_tokens));
    }
    let expected = [("journal", 9, 1028, 2, 242), ("ward", 9, 983, 2, 212), ("almanac", 9, 862, 1, 96)];
    assert_eq!(totals, expected, "source, documents, tokens, and those held out");
}

/// What a shard of these files says of itself.
fn check_shard(shard: &ShardFile, (kind, length, sensitivity): (ShardKind, u32, &str), totals: [u64; 5], content: &str) {
    let (name, header, found) = (shard.name(), shard.header(), shard.totals());
    assert_eq!((header.format_version, header.kind, header.sequence_length), (1, kind, length), "{name}");
    assert_eq!((header.vocabulary_size, header.width), (384, Width::U16), "{name}");
    assert_eq!((&*header.sensitivity, &*header.tokenizer_digest), (sensitivity, tokenizer().digest()), "{name}");
    let counts = [found.sequences, found.tokens, found.padding, found.trained, found.segments];
    assert_eq!(counts, totals, "{name}");
    assert_eq!(found.content, content, "{name}");
    assert_eq!(verify_shard(shard).unwrap(), *found, "{name}");
}

#[test]
fn golden_v1_training_shards_hold_the_written_sequences() {
    let run = Run::golden();
    let set = run.shards("publish", "shards/cpt/train-");
    assert_eq!((set.len(), set.objects().len()), (59, 3));
    assert_eq!(set.header().sources, ["journal", "ward", "almanac"]);
    let content = [
        "1a18e5050905136f52f6f22b6477265a00ae63f2803f025b861658a9b1d4d38d",
        "34849747d4e1b36d143003b8e041dc604962732fd7d1503866a85e2494d13a9d",
        "4e118a58ea3940a79c12396119a6e969cd34e456560c41cd266cd08daa857adf",
    ];
    check_shard(&set.shard(0).unwrap(), (ShardKind::Cpt, 32, "dua"), [24, 740, 28, 740, 25], content[0]);
    check_shard(&set.shard(1).unwrap(), (ShardKind::Cpt, 32, "dua"), [24, 729, 39, 729, 27], content[1]);
    check_shard(&set.shard(2).unwrap(), (ShardKind::Cpt, 32, "dua"), [11, 331, 21, 331, 12], content[2]);
    let tokens = [
        1, 285, 359, 262, 356, 383, 359, 366, 370, 367, 270, 352, 363, 370, 277, 366, 372, 365, 371, 280, 278, 352, 363, 363,
        370, 266, 373, 271, 266, 365, 356, 383,
    ];
    let segments = vec![segment(32, 0x4d3f_bbf2_b483_0ea1_f394_86c2_8331_895d, 0)];
    assert_eq!(set.sequence(0).unwrap(), Sequence { tokens: tokens.to_vec(), segments, loss_mask: None });
    assert_eq!(document_key("journal", "J6", 1), 0x4d3f_bbf2_b483_0ea1_f394_86c2_8331_895d);
    // The second pass over the journal, from the middle of another document.
    let second = Segment { offset: 64, epoch: 1, ..segment(32, 0x7463_1134_2da7_23a0_396b_4507_83ad_dcdd, 0) };
    assert_eq!(set.sequence(1).unwrap().segments, [second]);
}

#[test]
fn golden_v1_heldout_shard_holds_two_segments_and_padding() {
    let run = Run::golden();
    let set = run.shards("publish", "shards/cpt/heldout-");
    let content = "a62b058dd85bbedded1c100d13e052a28390a9498a0fa959e84ef0ca5f9083b6";
    check_shard(&set.shard(0).unwrap(), (ShardKind::Cpt, 32, "dua"), [18, 550, 26, 550, 19], content);
    let tokens = [
        284, 363, 352, 355, 355, 271, 263, 287, 267, 371, 366, 365, 356, 301, 2, 356, 371, 370, 301, 2, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0,
    ];
    let segments = vec![
        Segment { offset: 96, ..segment(15, 0x9dd5_e29d_99ab_b2fb_7191_718d_a8c0_3779, 1) },
        Segment { offset: 96, ..segment(20, 0xeeaf_a871_bf16_2bae_df6f_71f5_caf6_94c3, 1) },
    ];
    let sequence = set.sequence(3).unwrap();
    assert_eq!((sequence.is_trained(19), sequence.is_trained(20)), (true, false));
    assert_eq!(sequence, Sequence { tokens: tokens.to_vec(), segments, loss_mask: None });
    assert_eq!(document_key("ward", "W9", 2), 0x9dd5_e29d_99ab_b2fb_7191_718d_a8c0_3779);
    assert_eq!(document_key("ward", "W4", 1), 0xeeaf_a871_bf16_2bae_df6f_71f5_caf6_94c3);
}

#[test]
fn golden_v1_instruction_shard_holds_the_written_mask() {
    let run = Run::golden();
    let set = run.shards("instruct-data", "shards/instruct/train-");
    assert_eq!((set.len(), &*set.header().sources), (8, &["questions".to_owned()][..]));
    let content = "c7bb78761187ae487263746bc49a94daa369565dfd5a0d2fd1830c5e8b683f0b";
    check_shard(&set.shard(0).unwrap(), (ShardKind::Instruct, 64, "open"), [8, 351, 161, 59, 8], content);
    let sequence = set.sequence(0).unwrap();
    let tokens = [
        1, 383, 327, 372, 364, 352, 365, 313, 383, 13, 342, 359, 366, 284, 270, 281, 318, 13, 13, 320, 370, 370, 265, 371, 352,
        365, 371, 313, 383, 13, 339, 261, 383, 363, 366, 372, 370, 356, 301, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(sequence.tokens, tokens);
    assert_eq!(sequence.segments, [segment(40, 0x100d_758f_5321_b9c4_b1ca_6422_6357_8379, 0)]);
    let mask = |index: u64| -> String {
        let mask = set.sequence(index).unwrap().loss_mask.unwrap();
        mask.iter().map(|trained| if *trained { '1' } else { '0' }).collect()
    };
    assert_eq!(mask(0), "0000000000000000000000000000001111111111000000000000000000000000");
    // Two answers, each with its end token.
    assert_eq!(mask(3), "0000000000000000000000000001111000000000000000000000000001111000");
}

fn segment(end: u32, document: u128, source: u16) -> Segment {
    Segment { end, document, source, offset: 0, epoch: 0 }
}

#[test]
fn golden_v1_objects_can_be_inspected() {
    let run = Run::golden();
    let check = |entry: &str, expected: &[&str]| {
        let view = View { from: 0, rows: 1, text: true };
        let shown = inspect(&Stores::default(), &Location::of(golden().join("run").join(entry)), &view).unwrap();
        for part in expected {
            assert!(shown.contains(part), "{entry}: {shown:?} does not show {part:?}");
        }
    };
    let first = |stage: &str, prefix: &str| run.objects(stage, prefix, ".parquet").remove(0).key;
    check(&first("ingest", "documents/journal/"), &["11 documents", "journal:J1", "Velnia fever follows"]);
    check(&first("ingest", "documents/ward/"), &["12 documents", "ward:W1", "not shown: dua"]);
    check(&first("dedup", "decisions/"), &["7 rows", "dropped_id", "spec_version"]);
    check(&first("publish", "shards/cpt/train-"), &["24 sequences of 32 tokens", "sequence 0:", "sensitivity dua"]);
    check(&first("instruct-data", "shards/instruct/"), &["sequences of 64 tokens", "questions document"]);
    check("manifests/publish.json", &["\"stage\": \"publish\""]);
    let model = "width 16, feed-forward 32, layers 2, heads 4 (2 key-value), vocabulary 384, positions 64";
    check("checkpoints/cpt/step-00000004", &["step 4 of 4, 4 updates, seed 11, sensitivity dua", model]);
}

/// `training.json`.
#[derive(Deserialize)]
struct Training {
    shape: Shape,
    spec: TrainSpec,
}

/// The job that made the checkpoints, from the committed files alone.
fn job(run: &Run, manifest: &CheckpointManifest) -> TrainJob {
    let training: Training = serde_json::from_slice(&fs::read(golden().join("training.json")).unwrap()).unwrap();
    assert_eq!(training.shape, manifest.shape);
    let tokens = run.model(2).tokens;
    TrainJob {
        kind: Kind::Cpt,
        spec: training.spec,
        seed: manifest.seed,
        base: Base::fresh(training.shape, manifest.seed, tokens, "golden").unwrap(),
        data_digest: runner::digest(&run.manifest("publish")),
        source_names: run.shards("publish", "shards/cpt/train-").header().sources.clone(),
        sensitivity: "dua".to_owned(),
        companions: vec![Companion {
            name: "tokenizer.json".to_owned(),
            bytes: fs::read(golden().join("inputs/tokenizer.json")).unwrap(),
        }],
        merged_companions: Vec::new(),
        file_limit_bytes: FILE_LIMIT_BYTES,
        machine: Arc::new(Processor),
    }
}

/// Keeps the records of the steps that a run does.
#[derive(Default)]
struct Records(Vec<StepRecord>);

impl Hooks for Records {
    fn on_step(&mut self, record: &StepRecord, _: &StepTiming) {
        self.0.push(record.clone());
    }
}

fn assert_losses(found: &[StepRecord], expected: &[f64]) {
    let losses: Vec<f64> = found.iter().map(|record| record.loss.unwrap()).collect();
    let near = |(a, b): (&f64, &f64)| (a - b).abs() < LOSS_TOLERANCE;
    assert!(losses.len() == expected.len() && losses.iter().zip(expected).all(near), "{losses:?}, expected {expected:?}");
}

fn assert_same_weights(found: &HfModel, expected: &HfModel) {
    assert_eq!(found.shape, expected.shape);
    let pairs = found.parameters.data.iter().zip(&expected.parameters.data);
    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < WEIGHT_TOLERANCE, "weights differ by {worst}");
}

/// Mean losses of the four steps.
const LOSSES: [f64; 4] = [5.945_291_676, 5.890_312_250, 5.597_044_288, 5.381_571_731];
