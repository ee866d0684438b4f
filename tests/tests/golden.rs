//! The golden files of format version 1: committed once, read by every later release. Each test holds the values that were
//! written as literals, so that a reader that came to understand them differently fails here.
//!
//! The folder is opened for reading alone; what trains or writes works on a copy. `tests/golden/README.md` says what to do
//! when the formats change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use arrow::array::{Array, Float64Array, StringArray, UInt32Array};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use mellama_pipeline::inspect::{View, inspect};
use mellama_pipeline::{Silent, runner, verification};
use mellama_shards::{
    Kind as ShardKind, RunIndex, RunReader, Segment, Sequence, ShardFile, ShardSet, StoreChunks, Tokenizer, Width, document_key,
    verify_shard,
};
use mellama_sources::{Document, DocumentReader, Domain, Sensitivity};
use mellama_storage::{Key, ObjectEntry, RangeReader, StageManifest, Workdir, list_all};
use mellama_train::checkpoint::{CheckpointManifest, list_steps, newest};
use mellama_train::generation::argmax;
use mellama_train::hf::{HfModel, load};
use mellama_train::trainer::{Base, Hooks, Kind, MetricLine, StepRecord, TokenizerFile, TrainJob, TrainSpec, train};
use mellama_train::{Decoder, LoraSpec, Model, Shape, TrainOutcome};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;
use serde_json::Value;

/// Stages that the folder holds, with the documents or sequences read, written, dropped and rejected.
const STAGES: [(&str, [u64; 4]); 7] = [
    ("ingest", [0; 4]),
    ("dedup", [0; 4]),
    ("tokenize", [0; 4]),
    ("mix", [0; 4]),
    ("pack", [0; 4]),
    ("publish", [0; 4]),
    ("instruct-data", [0; 4]),
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

/// A work folder that is there, with its plan.
struct Run {
    workdir: Workdir,
    plan: String,
}

impl Run {
    fn open(folder: &Path) -> Run {
        let workdir = Workdir::open_existing(folder.to_str().unwrap()).unwrap();
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
    let verified = verification::verify(uri.to_str().unwrap(), &Silent).unwrap();
    assert_eq!(verified.findings, Vec::<String>::new());
    assert_eq!((verified.objects, verified.sequences), (0, 0));
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
    assert_eq!((&*document.origin.object, document.origin.byte_offset), ("inputs/journal.jsonl", 0));
    assert_eq!(document.meta, BTreeMap::from([("section".to_owned(), "reports".to_owned())]));
    let versions: Vec<(&str, u32)> = ward[8..10].iter().map(|note| (&*note.id, note.version)).collect();
    assert_eq!(versions, [("ward:W9", 1), ("ward:W9", 2)]);
    assert!(ward.iter().all(|note| note.sensitivity == Sensitivity::Dua && note.licence.is_none()));
    assert_eq!((&*almanac[0].native_id, almanac[0].year), ("", None));
}

#[test]
fn golden_v1_rejects_and_drops_read_back() {
    let run = Run::golden();
    let check = |prefix: &str, expected: &str| {
        let entries = run.objects("ingest", prefix, ".jsonl");
        assert_eq!(entries.len(), 1, "{prefix}");
        let lines = String::from_utf8(run.workdir.read_object(&entries[0]).unwrap()).unwrap();
        assert_eq!(lines, expected, "{prefix}");
    };
    check("rejects/journal/", "");
    check("rejects/ward/", "");
    check("rejects/almanac/", "");
    check("drops/almanac/", "");
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
    assert_eq!(rows, Vec::<String>::new());
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
    assert_eq!(totals, []);
    // The key is a hash of source, native id and version; this one in decimal digits of no other code.
    assert_eq!(format!("{:032x}", document_key("journal", "J4", 1)), "");
}

/// What a shard of these files says of itself.
fn check_shard(shard: &ShardFile, kind: ShardKind, length: u32, sensitivity: &str, totals: [u64; 5], content: &str) {
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
    assert_eq!((set.len(), set.objects().len()), (0, 3));
    assert_eq!(set.header().sources, ["journal", "ward", "almanac"]);
    check_shard(&set.shard(0).unwrap(), ShardKind::Cpt, 32, "dua", [0; 5], "");
    let expected = Sequence { tokens: vec![], segments: vec![], loss_mask: None };
    assert_eq!(set.sequence(0).unwrap(), expected);
    let heldout = run.shards("publish", "shards/cpt/heldout-");
    check_shard(&heldout.shard(0).unwrap(), ShardKind::Cpt, 32, "dua", [0; 5], "");
}

#[test]
fn golden_v1_instruction_shards_hold_the_written_mask() {
    let run = Run::golden();
    let set = run.shards("instruct-data", "shards/instruct/train-");
    assert_eq!((set.len(), &set.header().sources[..]), (0, &["questions".to_owned()][..]));
    check_shard(&set.shard(0).unwrap(), ShardKind::Instruct, 64, "open", [0; 5], "");
    let sequence = set.sequence(0).unwrap();
    assert_eq!(sequence.tokens, []);
    assert_eq!(sequence.segments, [segment(0, "questions", "", 0, 0)]);
    let mask: String = sequence.loss_mask.unwrap().iter().map(|trained| if *trained { '1' } else { '0' }).collect();
    assert_eq!(mask, "");
}

fn segment(end: u32, source: &str, native_id: &str, offset: u32, epoch: u32) -> Segment {
    let index = ["journal", "ward", "almanac"].iter().position(|name| *name == source).unwrap_or(0);
    Segment { end, document: document_key(source, native_id, 1), source: index as u16, offset, epoch }
}

#[test]
fn golden_v1_objects_can_be_inspected() {
    let run = Run::golden();
    let check = |entry: &str, expected: &[&str]| {
        let view = View { from: 0, rows: 1, text: true };
        let shown = inspect(&golden().join("run").join(entry), &view).unwrap();
        for part in expected {
            assert!(shown.contains(part), "{entry}: {shown:?} does not show {part:?}");
        }
    };
    let first = |stage: &str, prefix: &str| run.objects(stage, prefix, ".parquet").remove(0).key;
    check(&first("ingest", "documents/journal/"), &["11 documents", "journal:J1", "Velnia fever follows"]);
    check(&first("ingest", "documents/ward/"), &["12 documents", "ward:W1", "not shown: dua"]);
    check(&first("dedup", "decisions/"), &["7 rows", "dropped_id", "spec_version"]);
    check(&first("publish", "shards/cpt/train-"), &["16 sequences of 32 tokens", "sequence 0:", "sensitivity dua"]);
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
        tokenizer_files: vec![TokenizerFile {
            name: "tokenizer.json".to_owned(),
            bytes: fs::read(golden().join("inputs/tokenizer.json")).unwrap(),
        }],
    }
}

/// Keeps the records of the steps that a run does.
#[derive(Default)]
struct Records(Vec<StepRecord>);

impl Hooks for Records {
    fn on_step(&mut self, record: &StepRecord) {
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
const LOSSES: [f64; 4] = [0.0; 4];

#[test]
fn golden_v1_checkpoint_resumes_to_the_committed_losses() {
    let committed = Run::golden();
    assert_losses(&committed.step_records(), &LOSSES);
    assert_eq!(list_steps(&committed.workdir, Kind::Cpt).unwrap(), [2, 4]);
    let folder = tempfile::tempdir().unwrap();
    let is_last = |path: &Path| path.starts_with("checkpoints/cpt/step-00000004") || path.ends_with("cpt-00000004.jsonl");
    copy(&golden().join("run"), folder.path(), |path| !is_last(path));
    let run = Run::open(folder.path());
    let found = newest(&run.workdir, Kind::Cpt).unwrap().unwrap();
    assert_eq!((found.manifest.format, found.manifest.step, found.manifest.cursor.position), (1, 2, 16));
    let data = run.shards("publish", "shards/cpt/train-");
    let mut records = Records::default();
    let outcome: TrainOutcome = train(job(&run, &found.manifest), &data, None, &run.workdir, &mut records).unwrap();
    assert_eq!((outcome.resumed_from, outcome.step), (Some(2), 4));
    assert_losses(&records.0, &LOSSES[2..]);
    assert_same_weights(&run.model(4), &committed.model(4));
    // The finished run is recognized as such, and nothing is trained again.
    let mut none = Records::default();
    let again = train(job(&run, &found.manifest), &data, None, &run.workdir, &mut none).unwrap();
    assert_eq!((again.step, none.0.len()), (4, 0));
}

#[test]
fn golden_v1_trains_from_fresh_weights_to_the_committed_losses() {
    let committed = Run::golden();
    let found = newest(&committed.workdir, Kind::Cpt).unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let workdir = Workdir::open(folder.path().to_str().unwrap()).unwrap();
    let mut records = Records::default();
    let data = committed.shards("publish", "shards/cpt/train-");
    train(job(&committed, &found.manifest), &data, None, &workdir, &mut records).unwrap();
    assert_losses(&records.0, &LOSSES);
}

#[test]
fn golden_v1_instruction_shards_tune_adapters() {
    let committed = Run::golden();
    let data = committed.shards("instruct-data", "shards/instruct/train-");
    let folder = tempfile::tempdir().unwrap();
    let workdir = Workdir::open(folder.path().to_str().unwrap()).unwrap();
    let spec = TrainSpec {
        learning_rate: 0.02,
        epsilon: 1e-4,
        batch_sequences: data.len(),
        micro_batch_sequences: 1,
        epochs: 2,
        lora: Some(LoraSpec { rank: 2, alpha: 4.0, dropout: 0.0, ..LoraSpec::default() }),
        ..TrainSpec::instruct()
    };
    let job = TrainJob {
        kind: Kind::Instruct,
        spec,
        base: Base::loaded(committed.model(4), "golden"),
        data_digest: runner::digest(&committed.manifest("instruct-data")),
        source_names: data.header().sources.clone(),
        sensitivity: "dua".to_owned(),
        seed: 11,
        tokenizer_files: Vec::new(),
    };
    let mut records = Records::default();
    train(job, &data, None, &workdir, &mut records).unwrap();
    assert_eq!(records.0[0].loss_tokens, 0);
    assert_losses(&records.0, &[0.0, 0.0]);
}

#[test]
fn golden_v1_model_generates_the_written_tokens() {
    let committed = Run::golden();
    let loaded = committed.model(4);
    let model = Model::new(loaded.shape.clone()).unwrap();
    let tokenizer = tokenizer();
    let mut decoder = Decoder::new(&model, &loaded.parameters, None, 64);
    let mut prompt = vec![tokenizer.bos().unwrap()];
    prompt.extend(tokenizer.encode("The fever").unwrap());
    let mut tokens = Vec::new();
    let mut logits = decoder.feed(&prompt).unwrap().to_vec();
    for _ in 0..8 {
        let next = argmax(&logits);
        let mut sorted = logits.clone();
        sorted.sort_by(f32::total_cmp);
        // Far above the rounding of another processor, so that the tokens may be compared exactly.
        let lead = sorted[sorted.len() - 1] - sorted[sorted.len() - 2];
        assert!(lead > 1e-3, "the most likely token leads by {lead} alone");
        tokens.push(next);
        logits = decoder.feed(&[next]).unwrap().to_vec();
    }
    assert_eq!(tokens, [0; 8]);
}

#[test]
fn golden_v1_is_written_again_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    copy(&golden(), folder.path(), |path| !path.starts_with("run"));
    let output = Command::new(env!("CARGO_BIN_EXE_make-golden")).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (committed, made) = (Run::golden(), Run::open(&folder.path().join("run")));
    for (stage, _) in STAGES {
        let objects = |run: &Run| run.manifest(stage).objects;
        let remedy = "the written format changed: undo that, or follow tests/golden/README.md";
        assert_eq!(objects(&made), objects(&committed), "{stage}: {remedy}");
        assert_eq!(made.manifest(stage).facts, committed.manifest(stage).facts, "{stage}: {remedy}");
        assert_eq!(made.manifest(stage).counts, committed.manifest(stage).counts, "{stage}: {remedy}");
    }
    let keys = |run: &Run| -> BTreeSet<String> {
        list_all(&**run.workdir.store(), "").map(|object| object.unwrap().key.as_str().to_owned()).collect()
    };
    assert_eq!(keys(&made), keys(&committed));
    assert_losses(&made.step_records(), &LOSSES);
    for step in [2, 4] {
        assert_same_weights(&made.model(step), &committed.model(step));
    }
}
