//! Notices and retracted records through ingest and dedup, from items as a reader gives them; reading ahead.

use std::io::Write;
use std::path::Path;

use mellama_sources::{
    Document, Domain, Fields, Item, Part, ReadOptions, Sensitivity, SourceContext, Withdrawal, WithdrawalReason,
};
use mellama_storage::{Stores, TaskCommit, Workdir};
use serde_json::{Value, json};

use super::output::{Made, Output};
use super::prepare::Preparer;
use super::reading::{self, Batch};
use crate::context::{Context, Resources};
use crate::failure::{Failure, Signal};
use crate::inputs::InputObject;
use crate::observer::Silent;
use crate::plan::{IngestTask, Plan};
use crate::recipe::RecipeFile;
use crate::runner;
use crate::stage::Stage;

fn document(pmid: &str, version: u32, offset: u64, retracted: bool) -> Document {
    let context = SourceContext {
        name: "p".into(),
        domain: Domain::Biomedical,
        sensitivity: Sensitivity::Open,
        licence: None,
        fields: Fields::default(),
        read: ReadOptions::default(),
        object: "data/a.xml".into(),
    };
    let mut document = context.document(pmid.into(), format!("the record {pmid} at {offset}"), offset);
    document.version = version;
    if retracted {
        document.meta.insert("retracted".into(), "true".into());
    }
    document
}

fn record(pmid: &str, version: u32, offset: u64) -> Item {
    Item::Document(document(pmid, version, offset, false))
}

fn notice(pmid: &str, byte_offset: u64, reason: WithdrawalReason) -> Item {
    Item::Withdrawal(Withdrawal { native_id: pmid.into(), byte_offset, reason })
}

/// Items of two objects through the stages; the facts of ingest and of dedup, and the notices as written.
fn settle(folder: &Path, read: &str, items: Vec<(u32, Item)>) -> (Value, Value, String) {
    for name in ["a.xml", "b.xml"] {
        std::fs::create_dir_all(folder.join("data")).unwrap();
        std::fs::write(folder.join("data").join(name), b"x").unwrap();
    }
    let recipe = format!(
        "name = \"t\"\nworkdir = \"out\"\n[[corpus.source]]\nname = \"p\"\nformat = \"pubmed-xml\"\ninputs = [\"data/*.xml\"]\n\
         domain = \"biomedical\"\nread = {{ {read} }}\n"
    );
    let file = RecipeFile::parse(&folder.join("r.toml"), &recipe).unwrap();
    let plan = Plan::resolve(&file).unwrap();
    let workdir = Workdir::open(&Stores::default(), &folder.join("out").display().to_string()).unwrap();
    let resources = Resources { threads: 2, memory_bytes: 1 << 30, scratch: folder.to_owned(), ..Resources::default() };
    let context = Context::new(&file, &plan, &workdir, &resources, &Silent);
    let preparer = Preparer::new(&context, &context.corpus().source[0]).unwrap();
    let mut output = Output::begin(&context, &plan.ingest[0], 0, preparer.bands());
    let mut batch = Batch::default();
    for (object, item) in items {
        batch.push(object, item);
    }
    output.write(Made::of(&context, &preparer, batch).unwrap()).unwrap();
    let output = output.finish().unwrap();
    let commit = TaskCommit {
        plan: plan.id.clone(),
        stage: Stage::Ingest.name().into(),
        task: 0,
        objects: output.objects,
        counts: output.counts,
        facts: output.facts.clone(),
        attempt: "test".into(),
    };
    workdir.freeze_plan(&plan.id, &plan.frozen(&file.recipe)).unwrap();
    workdir.commit_task(&commit).unwrap();
    runner::run_single(&context, Stage::Ingest).unwrap();
    runner::run_single(&context, Stage::Dedup).unwrap();
    let notices = commit.objects.iter().find(|entry| entry.key.starts_with("withdrawals/"));
    let notices = notices.map_or(String::new(), |entry| String::from_utf8(workdir.read_object(entry).unwrap()).unwrap());
    (output.facts, context.manifest(Stage::Dedup).unwrap().facts, notices)
}

#[test]
fn notices_take_records_back() {
    let folder = tempfile::tempdir().unwrap();
    let items = vec![
        (0, record("1", 1, 10)),
        (0, record("2", 1, 20)),
        (0, record("3", 1, 30)),
        (1, notice("3", 5, WithdrawalReason::Retracted)),
        (1, record("2", 1, 10)),
        (1, notice("1", 90, WithdrawalReason::Deleted)),
        (1, notice("2", 90, WithdrawalReason::Deleted)),
        (1, record("2", 1, 99)),
    ];
    let (ingest, dedup, notices) = settle(folder.path(), "", items);
    assert_eq!(ingest["withdrawals"], json!({"deleted": 2, "retracted": 1}));
    assert_eq!(dedup["removed"], json!({"p": {"deleted": 3, "retracted": 1}}));
    assert_eq!(dedup["sequence"]["p"]["notices"], json!({"deleted": 2, "retracted": 1}));
    let first = "{\"native_id\":\"3\",\"object\":\"data/b.xml\",\"byte_offset\":5,\"reason\":\"retracted\"}";
    assert_eq!(notices.lines().next(), Some(first));
    assert_eq!(notices.lines().count(), 3);
}

#[test]
fn a_retracted_record_takes_its_versions_with_it_unless_they_are_kept() {
    let items = || {
        let retracted = Item::Document(document("1", 2, 20, true));
        vec![(0, record("1", 1, 10)), (0, record("2", 1, 15)), (0, retracted), (1, notice("2", 5, WithdrawalReason::Retracted))]
    };
    let folder = tempfile::tempdir().unwrap();
    let (ingest, dedup, notices) = settle(folder.path(), "", items());
    assert_eq!(ingest["drops"], json!({"retracted": 1}));
    assert_eq!(ingest["withdrawals"], json!({"retracted": 2}));
    assert_eq!(dedup["removed"], json!({"p": {"retracted": 2}}));
    assert_eq!(notices.lines().count(), 2);
    let folder = tempfile::tempdir().unwrap();
    let (ingest, dedup, _) = settle(folder.path(), "retracted = \"keep\"", items());
    assert_eq!(ingest["drops"], json!({}));
    assert_eq!(ingest["withdrawals"], json!({"retracted": 1}));
    assert_eq!(dedup["removed"], json!({"p": {"same-id": 1}}));
}

/// Reads a task of two files of JSON lines with so many threads; the second file may be gone by then.
fn read_lines(threads: usize, is_gone: bool, give: &mut dyn FnMut(Batch) -> Result<(), Failure>) -> Result<(), Failure> {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        let line = |i: u32| format!("{{\"id\":\"{name}{i}\",\"text\":\"some text {i}\"}}\n");
        let lines: String = (0..700).map(line).collect();
        std::fs::write(folder.path().join(format!("{name}.jsonl")), lines).unwrap();
    }
    let recipe = "name = \"t\"\nworkdir = \"out\"\n[[corpus.source]]\nname = \"s\"\nformat = \"jsonl\"\n\
                  inputs = [\"*.jsonl\"]\ndomain = \"general\"\n";
    let file = RecipeFile::parse(&folder.path().join("r.toml"), recipe).unwrap();
    let plan = Plan::resolve(&file).unwrap();
    let workdir = Workdir::open(&Stores::default(), &folder.path().join("out").display().to_string()).unwrap();
    let resources = Resources { threads, memory_bytes: 1 << 30, scratch: folder.path().to_owned(), ..Resources::default() };
    let context = Context::new(&file, &plan, &workdir, &resources, &Silent);
    if is_gone {
        std::fs::remove_file(folder.path().join("b.jsonl")).unwrap();
    }
    reading::read(&context, &plan.ingest[0], give)
}

/// Ids of all items, one list a batch.
fn batches(threads: usize, is_gone: bool) -> (Vec<Vec<String>>, Option<Failure>) {
    let mut batches = Vec::new();
    let ended = read_lines(threads, is_gone, &mut |batch| {
        let id = |(_, item): &(u32, Item)| match item {
            Item::Document(document) => document.native_id.clone(),
            other => panic!("{other:?}"),
        };
        batches.push(batch.items.iter().map(id).collect());
        Ok(())
    });
    (batches, ended.err())
}

#[test]
fn reading_ahead_gives_the_same_batches_in_the_same_order() {
    let (expected, failure) = batches(1, false);
    assert!(failure.is_none());
    assert!(expected.len() > 4);
    assert_eq!(expected.concat().len(), 1400);
    for threads in [2, 7] {
        assert_eq!(batches(threads, false).0, expected);
    }
}

#[test]
fn a_failure_of_reading_comes_after_what_was_read_before_it() {
    let (expected, failure) = batches(1, true);
    assert!(matches!(failure, Some(Failure::Input(_))), "{failure:?}");
    assert!(!expected.is_empty());
    let (found, failure) = batches(2, true);
    assert!(matches!(failure, Some(Failure::Input(_))), "{failure:?}");
    assert_eq!(found, expected);
}

#[test]
fn a_failure_or_a_stop_of_the_taker_ends_the_reading() {
    for threads in [1, 2] {
        let mut taken = 0;
        let ended = read_lines(threads, false, &mut |_| {
            taken += 1;
            if taken == 2 { Err(Failure::Stopped(Signal::Terminate)) } else { Ok(()) }
        });
        assert!(matches!(ended, Err(Failure::Stopped(Signal::Terminate))), "{ended:?}");
        assert_eq!(taken, 2);
    }
}

/// A task for each part of a compressed file of lines, read in this order by one process: offsets of the items of each task, and
/// how many readers waited behind it.
fn read_parts(threads: usize, order: &[usize]) -> (Vec<Vec<u64>>, Vec<usize>) {
    let folder = tempfile::tempdir().unwrap();
    let line = |i: u32| format!("{{\"id\":\"{i}\",\"text\":\"some text {}\"}}\n", "word ".repeat(i as usize % 50));
    let lines: String = (0..9_000).map(line).collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    std::fs::write(folder.path().join("a.jsonl.gz"), gzip.finish().unwrap()).unwrap();
    let recipe = "name = \"t\"\nworkdir = \"out\"\n[[corpus.source]]\nname = \"s\"\nformat = \"jsonl\"\n\
                  inputs = [\"a.jsonl.gz\"]\ndomain = \"general\"\n";
    let file = RecipeFile::parse(&folder.path().join("r.toml"), recipe).unwrap();
    let mut plan = Plan::resolve(&file).unwrap();
    let object = plan.ingest[0].inputs[0].clone();
    let cuts = [0, 300_000, 600_000, 900_000, u64::MAX];
    let part = |pair: &[u64]| Part { first: pair[0], end: pair[1], frame: None, stored_bytes: 1 << 20, is_sequential: true };
    let task = |pair| IngestTask { source: 0, inputs: vec![InputObject { part: Some(part(pair)), ..object.clone() }] };
    plan.ingest = cuts.windows(2).map(task).collect();
    let workdir = Workdir::open(&Stores::default(), &folder.path().join("out").display().to_string()).unwrap();
    let resources = Resources { threads, memory_bytes: 1 << 30, scratch: folder.path().to_owned(), ..Resources::default() };
    let context = Context::new(&file, &plan, &workdir, &resources, &Silent);
    let (mut found, mut waiting) = (vec![Vec::new(); plan.ingest.len()], Vec::new());
    for &task in order {
        let offsets = &mut found[task];
        reading::read(&context, &plan.ingest[task], &mut |batch| {
            offsets.extend(batch.items.iter().map(|(_, item)| item.byte_offset()));
            Ok(())
        })
        .unwrap();
        waiting.push(context.cache.readers.count());
    }
    assert!(found.iter().zip(cuts.windows(2)).all(|(offsets, cut)| offsets.iter().all(|at| (cut[0]..cut[1]).contains(at))));
    (found, waiting)
}

#[test]
fn determinism_one_reader_goes_through_the_parts_of_an_object_in_any_order() {
    let (expected, waiting) = read_parts(1, &[0, 1, 2, 3]);
    assert_eq!(expected.concat().len(), 9_000);
    // One and the same, and none behind the last part.
    assert_eq!(waiting, [1, 1, 1, 0]);
    for (threads, order, waiting) in [
        (2, [0, 1, 2, 3], [1, 1, 1, 0]),
        // Who comes first to a part behind takes the reader along; who comes later to one before begins anew.
        (1, [0, 2, 1, 3], [1, 1, 2, 1]),
        (2, [3, 2, 1, 0], [0, 1, 2, 3]),
    ] {
        assert_eq!(read_parts(threads, &order), (expected.clone(), waiting.to_vec()), "{threads} {order:?}");
    }
}
