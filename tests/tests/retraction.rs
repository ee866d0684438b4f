//! After a retraction every segment of the shards still holds the tokens of its document, in order and without a gap, and the
//! mixture is what it was. Contents are compared with the token runs; the command line is tested end to end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use mellama_pipeline::retract::{Outcome, Request, retract};
use mellama_pipeline::{Resources, Session, Silent, Stage, runner};
use mellama_shards::verify::{Continuity, verify_shard_with};
use mellama_shards::{RunIndex, RunReader, ShardFile, StoreChunks};
use mellama_storage::{Key, RangeReader, Stores, Workdir};

/// Documents of each source.
const DOCUMENTS: u64 = 40;

/// A run until its shards are there: two general sources whose documents have from 20 to 400 words.
fn published(folder: &Path, tokens: u64, epochs: u32, method: &str) -> String {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizer/tokenizer.json");
    let mut recipe =
        format!("name = \"r\"\nseed = 5\nworkdir = \"out\"\n[corpus.tokenizer]\npath = {:?}\n", fixtures.display().to_string());
    for source in ["a", "b"] {
        let mut lines = String::new();
        for number in 0..DOCUMENTS {
            let words: Vec<String> =
                (0..20 + number * 37 % 380).map(|word| format!("w{}", (word * 7919 + number * 104_729) % 9973)).collect();
            writeln!(lines, "{{\"id\":\"{number}\",\"text\":\"{source} {}\"}}", words.join(" ")).expect("text grows");
        }
        std::fs::write(folder.join(format!("{source}.jsonl")), lines).expect("what was just written can be read");
        write!(
            recipe,
            "[[corpus.source]]\nname = \"{source}\"\nformat = \"jsonl\"\ninputs = [\"{source}.jsonl\"]\ndomain = \"general\"\n\
             max_epochs = {epochs}\n"
        )
        .expect("what was just written can be read");
    }
    write!(
        recipe,
        "[corpus.mixture]\ntokens = {tokens}\ngeneral = 1\n[corpus.pack]\nsequence_length = 256\nheldout = 0.1\nshard_sequences = 16\n\
         method = \"{method}\"\n"
    )
    .expect("what was just written can be read");
    let path = folder.join("recipe.toml");
    std::fs::write(&path, recipe).expect("what was just written can be read");
    let workdir = folder.join("out").display().to_string();
    let resources = Resources { threads: 2, memory_bytes: 1 << 30, scratch: folder.to_owned(), ..Resources::default() };
    let session = Session::open(&path, Some(&workdir), resources, &Silent).expect("what was just written can be read");
    runner::run(&session.context(&Silent), Some(Stage::Publish)).expect("what was just written can be read");
    workdir
}

/// The tokens of every document by key.
fn runs(workdir: &Workdir, plan: &str) -> BTreeMap<u128, Vec<u32>> {
    let open = |key: &str| {
        RangeReader::open(Arc::clone(workdir.store()), &Key::new(key).expect("what was just written can be read"))
            .expect("what was just written can be read")
    };
    let objects = workdir
        .read_manifest(plan, "tokenize")
        .expect("what was just written can be read")
        .expect("what was just written can be read")
        .objects;
    let mut found = BTreeMap::new();
    for pair in objects.chunks(2) {
        let index = RunIndex::open(&pair[1].key, StoreChunks(open(&pair[1].key))).expect("what was just written can be read");
        let reader = RunReader::new(index, open(&pair[0].key)).expect("what was just written can be read");
        for (row, entry) in (0..).zip(reader.index().entries()) {
            found.insert(entry.key, reader.read(row).expect("what was just written can be read"));
        }
    }
    found
}

/// Tokens by source and number of sequences of the training shards, every segment compared with its document.
fn check_shards(workdir: &Workdir, plan: &str, gone: &BTreeSet<u128>) -> (Vec<u64>, u64) {
    let runs = runs(workdir, plan);
    let (mut tokens, mut sequences) = (vec![0; 2], 0);
    let mut continuity = Continuity::new(0, 1);
    for entry in workdir
        .effective_manifest(plan, "publish")
        .expect("what was just written can be read")
        .expect("what was just written can be read")
        .objects
    {
        if !entry.key.starts_with("shards/") {
            continue;
        }
        let reader =
            RangeReader::open(Arc::clone(workdir.store()), &Key::new(&*entry.key).expect("what was just written can be read"))
                .expect("what was just written can be read");
        let file = ShardFile::open(&entry.key, StoreChunks(reader)).expect("what was just written can be read");
        let totals = verify_shard_with(&file, &mut |row, sequence| {
            for (range, segment) in sequence.segment_ranges() {
                assert!(!gone.contains(&segment.document), "{} sequence {row}", entry.key);
                let (from, length) = (segment.offset as usize, range.len());
                let held = &sequence.tokens[range.start as usize..range.end as usize];
                assert_eq!(held, &runs[&segment.document][from..from + length], "{} sequence {row}", entry.key);
            }
            continuity.add(sequence);
        })
        .expect("what was just written can be read");
        if entry.key.starts_with("shards/cpt/train-") {
            sequences += totals.sequences;
            for (sum, of_shard) in tokens.iter_mut().zip(&totals.source_tokens) {
                *sum += of_shard;
            }
        }
    }
    assert_eq!(continuity.finish(), [], "every document is tiled from its first token");
    (tokens, sequences)
}

fn keys(outcome: &Outcome) -> BTreeSet<u128> {
    outcome
        .documents
        .iter()
        .map(|document| u128::from_str_radix(&document.key, 16).expect("what was just written can be read"))
        .collect()
}

#[test]
fn refilled_shards_hold_their_documents_tokens_whatever_the_epochs_and_the_packing() {
    for (tokens, epochs, method) in
        [(9_000, 1, "best-fit"), (9_000, 1, "concatenate"), (60_000, 3, "best-fit"), (61_111, 4, "concatenate")]
    {
        let folder = tempfile::tempdir().expect("what was just written can be read");
        let uri = published(folder.path(), tokens, epochs, method);
        let workdir = Workdir::open_existing(&Stores::default(), &uri).expect("what was just written can be read");
        let plan = workdir.read_plan_id().expect("what was just written can be read").expect("what was just written can be read");
        let (before, sequences) = check_shards(&workdir, &plan, &BTreeSet::new());
        let mut gone = BTreeSet::new();
        // Several at once, one by one, and what an earlier retraction filled in.
        for ids in [vec!["a:0", "a:1", "b:2", "b:39"], vec!["a:7"], vec!["b:8", "b:9", "a:10", "a:11", "a:12"]] {
            let request = Request { ids: ids.iter().map(ToString::to_string).collect(), ..Request::default() };
            let outcome = retract(&Stores::default(), &uri, &request, &Silent).expect("what was just written can be read");
            assert_eq!(outcome.documents.len(), ids.len());
            gone.extend(keys(&outcome));
            let train = outcome.parts.get("train").copied().unwrap_or_default();
            assert_eq!((train.short, train.refilled), (0, train.tokens), "{method} {tokens}: {ids:?}");
            let (after, found) = check_shards(&workdir, &plan, &gone);
            assert_eq!((after, found), (before.clone(), sequences), "{method} {tokens}: {ids:?}");
        }
    }
}

#[test]
fn determinism_of_the_bytes_for_any_order_of_asking() {
    let published_at = |ids: [&str; 3]| {
        let folder = tempfile::tempdir().expect("what was just written can be read");
        let uri = published(folder.path(), 30_000, 2, "best-fit");
        let request = Request { ids: ids.iter().map(ToString::to_string).collect(), ..Request::default() };
        retract(&Stores::default(), &uri, &request, &Silent).expect("what was just written can be read");
        let workdir = Workdir::open_existing(&Stores::default(), &uri).expect("what was just written can be read");
        let plan = workdir.read_plan_id().expect("what was just written can be read").expect("what was just written can be read");
        let manifest = workdir
            .effective_manifest(&plan, "publish")
            .expect("what was just written can be read")
            .expect("what was just written can be read");
        manifest.objects.into_iter().filter(|object| object.key.starts_with("shards/")).collect::<Vec<_>>()
    };
    assert_eq!(published_at(["a:1", "b:2", "a:3"]), published_at(["a:3", "a:1", "b:2"]));
}
