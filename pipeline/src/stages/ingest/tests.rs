//! Notices and retracted records through ingest and dedup, from items as a reader gives them.

use std::path::Path;

use mellama_sources::{Document, Domain, Fields, Item, ReadOptions, Sensitivity, SourceContext, Withdrawal, WithdrawalReason};
use mellama_storage::{TaskCommit, Workdir};
use serde_json::{Value, json};

use super::output::Output;
use super::reading::Batch;
use crate::context::{Context, Resources};
use crate::observer::Silent;
use crate::plan::Plan;
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
    let workdir = Workdir::open(&folder.join("out").display().to_string()).unwrap();
    let resources = Resources { threads: 2, memory_bytes: 1 << 30, scratch: folder.to_owned() };
    let context = Context::new(&file, &plan, &workdir, &resources, &Silent);
    let mut output = Output::begin(&context, &plan.ingest[0], 0).unwrap();
    let mut batch = Batch::default();
    items.into_iter().for_each(|(object, item)| batch.push(object, item));
    output.take(batch).unwrap();
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
    runner::run_stage(&context, Stage::Ingest).unwrap();
    runner::run_stage(&context, Stage::Dedup).unwrap();
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
