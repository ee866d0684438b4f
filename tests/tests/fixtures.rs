//! The fixtures against their generator and against what is known of them: the committed files are what the code makes,
//! and readers, deduplication, overlap check and tokenizer find in them what `expected.json` says, no more and no less.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use mellama_dedup::{
    BOILERPLATE_DOCUMENTS, BenchmarkIndex, BenchmarkItem, Entry, Frequencies, MIN_SHARE, NormalForm, Options, Rule, SketchSpec,
    Sketcher, TextError, Texts, VerifyMode, deduplicate,
};
use mellama_shards::tokenizer::Tokenizer;
use mellama_sources::{
    ConversationItem, Document, Domain, Fields, Item, Limits, RejectReason, Role, Sensitivity, SourceContext, open,
    open_conversations,
};
use mellama_tests::expected::{Expected, Leak, SourceExpectation};
use mellama_tests::fixtures::{self, Files};
use mellama_tests::world::{CONDITIONS, Relation};

/// Order of preference when copies stand in several sources.
const SOURCES: [&str; 5] = ["pmc", "pubmed", "mimic-iii", "mimic-iv", "general"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn made() -> &'static Files {
    static MADE: OnceLock<Files> = OnceLock::new();
    MADE.get_or_init(fixtures::make)
}

fn expected() -> Expected {
    serde_json::from_slice(&made()["expected.json"]).unwrap()
}

/// Names of the files of a glob with one star, in order.
fn files_of(glob: &str) -> Vec<&'static String> {
    let (start, end) = glob.split_once('*').unwrap_or((glob, ""));
    made().keys().filter(|name| name.starts_with(start) && name.ends_with(end)).collect()
}

fn context(source: &str, domain: &str, object: &str) -> SourceContext {
    SourceContext {
        name: source.to_owned(),
        domain: Domain::from_name(domain).unwrap(),
        sensitivity: Sensitivity::Open,
        licence: None,
        fields: Fields::default(),
        read: mellama_sources::ReadOptions::default(),
        object: object.to_owned(),
    }
}

/// Documents and rejects of a source, in the order of its files.
fn read(source: &str, expected: &SourceExpectation) -> (Vec<Document>, Vec<RejectReason>) {
    let (mut documents, mut rejects) = (Vec::new(), Vec::new());
    for name in files_of(&expected.inputs) {
        let input = mellama_sources::Input::from_bytes(made()[name].clone());
        let format = expected.format.parse().unwrap();
        let context = context(source, &expected.domain, name);
        let mut reader = open(format, context, input, &Limits::default()).unwrap();
        while let Some(item) = reader.next() {
            match item.unwrap() {
                Item::Document(document) => documents.push(document),
                Item::Reject(reject) => rejects.push(reject.reason),
                Item::Withdrawal(_) => {}
            }
        }
    }
    (documents, rejects)
}

fn read_all() -> Vec<Document> {
    let expected = expected();
    SOURCES.iter().flat_map(|source| read(source, &expected.sources[*source]).0).collect()
}

#[test]
fn committed_files_are_what_the_generator_makes() {
    let mut committed = BTreeSet::new();
    let mut folders = vec![folder()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(self::folder()).unwrap().to_str().unwrap();
                committed.insert(name.replace('\\', "/"));
            }
        }
    }
    assert_eq!(committed, made().keys().cloned().collect(), "run: cargo run -p mellama-tests --bin make-fixtures");
    let again = tempfile::tempdir().unwrap();
    fixtures::write(&fixtures::make(), again.path()).unwrap();
    for name in &committed {
        let open = |folder: &Path| fixtures::decompressed(name, &fs::read(folder.join(name)).unwrap()).unwrap();
        assert!(open(&folder()) == open(again.path()), "{name} differs: run make-fixtures");
    }
}

#[test]
fn readers_find_the_expected_documents_and_rejects() {
    for (source, expected) in &expected().sources {
        let (documents, rejects) = read(source, expected);
        let mut codes: BTreeMap<String, u64> = BTreeMap::new();
        for reason in &rejects {
            *codes.entry(reason.code().to_owned()).or_default() += 1;
        }
        assert_eq!(codes, expected.rejects, "{source}: {rejects:?}");
        assert_eq!(documents.len() as u64, expected.documents, "{source}");
        assert_eq!(expected.records, expected.documents + rejects.len() as u64, "{source}");
        assert!(rejects.len() * 20 < expected.records as usize, "{source}: over the default reject budget");
        let ids: BTreeSet<(&String, u32)> = documents.iter().map(|d| (&d.native_id, d.version)).collect();
        assert_eq!(ids.len(), documents.len(), "{source}: an id and version twice");
    }
}

#[test]
fn articles_share_the_expected_pubmed_ids() {
    let expected = expected();
    let (articles, _) = read("pmc", &expected.sources["pmc"]);
    let shared: Vec<String> = articles.iter().filter_map(|article| article.meta.get("pmid").cloned()).collect();
    assert_eq!(shared, expected.sources["pubmed"].also_in_pmc);
}

struct Held<'a>(&'a [Document]);

impl Texts for Held<'_> {
    fn text(&self, number: u32) -> Result<String, TextError> {
        Ok(self.0[number as usize].text.clone())
    }
}

/// What deduplication removes by each rule: dropped and kept document ids.
fn removals(documents: &[Document]) -> Vec<(Rule, String, u32, String)> {
    let sketcher = Sketcher::new(SketchSpec::default()).unwrap();
    let entry = |document: &Document| {
        let source = SOURCES.iter().position(|name| *name == document.source).unwrap() as u16;
        let form = if document.domain == Domain::Clinical { NormalForm::Clinical } else { NormalForm::Plain };
        Entry {
            id: document.id.clone(),
            source,
            version: document.version,
            rank: source,
            characters: document.text.chars().count() as u64,
            form,
            sketch: sketcher.sketch(&document.text, form),
            ..Entry::default()
        }
    };
    let entries: Vec<Entry> = documents.iter().map(entry).collect();
    let options =
        Options { spec: SketchSpec::default(), verify: VerifyMode::Strict, max_source_loss: 0.2, memory_bytes: 64 << 20 };
    let scratch = tempfile::tempdir().unwrap();
    let names = SOURCES.map(str::to_owned);
    let outcome = deduplicate(&entries, &names, &options, scratch.path(), &Held(documents)).unwrap();
    let document = |number: u32| &documents[number as usize];
    let rows = outcome.removals.iter();
    rows.map(|r| (r.rule, document(r.dropped).id.clone(), document(r.dropped).version, document(r.kept).id.clone())).collect()
}

/// Ids of a source as deduplication names them.
fn ids(source: &str, native: &[String; 2]) -> [String; 2] {
    native.clone().map(|id| format!("{source}:{id}"))
}

/// What the expectations plan, by the ids that deduplication uses.
#[derive(Default)]
struct Planned {
    older: BTreeSet<String>,
    pairs: BTreeSet<(Rule, [String; 2])>,
    must_keep: BTreeSet<String>,
}

impl Planned {
    fn of(expected: &Expected) -> Self {
        let mut planned = Self::default();
        for (source, expected) in &expected.sources {
            for id in &expected.older_versions {
                planned.older.insert(format!("{source}:{id}"));
            }
            for (rule, pairs) in [(Rule::Exact, &expected.exact_pairs), (Rule::Strict, &expected.near_pairs)] {
                let pairs = pairs.iter().map(|pair| (rule, ids(source, pair)));
                planned.pairs.extend(pairs);
            }
            for pair in &expected.must_keep_pairs {
                planned.must_keep.extend(ids(source, pair));
            }
        }
        planned
    }

    /// Takes a removal off the plan; whether it was planned.
    fn take(&mut self, rule: Rule, dropped: &str, version: u32, survivor: &str) -> bool {
        let pair = [dropped.to_owned(), survivor.to_owned()];
        match rule {
            Rule::SameId => version == 1 && self.older.remove(dropped),
            // Which of two equal texts goes is the rule's matter.
            Rule::Exact => {
                let [a, b] = pair.clone();
                self.pairs.remove(&(rule, pair)) || self.pairs.remove(&(rule, [b, a]))
            }
            _ => self.pairs.remove(&(rule, pair)),
        }
    }
}

#[test]
fn deduplication_removes_the_planted_copies_and_nothing_else() {
    let expected = expected();
    let documents = read_all();
    let mut planned = Planned::of(&expected);
    let mut kept: BTreeMap<String, u64> = BTreeMap::new();
    for document in &documents {
        *kept.entry(document.source.clone()).or_default() += 1;
    }
    for (rule, dropped, version, survivor) in removals(&documents) {
        let source = dropped.split(':').next().unwrap();
        *kept.get_mut(source).unwrap() -= 1;
        let taken = planned.take(rule, &dropped, version, &survivor);
        assert!(taken, "{dropped} went for {survivor} by {}", rule.as_str());
        let must_keep = planned.must_keep.contains(&dropped);
        assert!(!must_keep, "{dropped} differs in a number");
    }
    let Planned { older, pairs, .. } = planned;
    assert!(older.is_empty() && pairs.is_empty(), "not found: {older:?} {pairs:?}");
    for (source, expected) in &expected.sources {
        assert_eq!(kept[source], expected.kept_after_dedup(), "{source}");
    }
}

#[derive(serde::Deserialize)]
struct Row {
    id: String,
    query: String,
    answer: String,
    choices: Vec<String>,
    gold: usize,
}

fn rows() -> Vec<Row> {
    let text = std::str::from_utf8(&made()["benchmarks/quickstart-mc.jsonl"]).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_overlap_check_finds_the_planted_questions_and_nothing_else() {
    let rows = rows();
    let item = |row: &Row| BenchmarkItem {
        benchmark: "quickstart-mc".to_owned(),
        item: row.id.clone(),
        parts: [vec![row.query.clone()], row.choices.clone()].concat(),
        excluded_ids: Vec::new(),
    };
    let index = BenchmarkIndex::build(rows.iter().map(item).collect(), 13).unwrap();
    let expected = expected();
    assert_eq!(rows.len() as u64, expected.benchmark.items);
    assert_eq!(index.parts_checked() as u64, expected.benchmark.checkable);
    let documents = read_all();
    let grams: Vec<(u64, Vec<u64>)> =
        (0..).zip(&documents).map(|(number, document)| (number, index.grams(&document.text))).collect();
    let mut frequencies = Frequencies::new(&index);
    for (_, grams) in &grams {
        frequencies.add(&index, grams);
    }
    let boilerplate = frequencies.boilerplate(&index, BOILERPLATE_DOCUMENTS);
    let shared = grams.iter().map(|(number, grams)| (*number, index.shares(grams, &boilerplate)));
    let (contaminated, partial): (Vec<_>, Vec<_>) = shared
        .filter(|(_, overlaps)| !overlaps.is_empty())
        .partition(|(_, overlaps)| overlaps.iter().any(|overlap| overlap.share >= MIN_SHARE));
    let name = |rows: &[(u64, Vec<mellama_dedup::PartOverlap>)]| -> BTreeSet<(String, String)> {
        let pairs = rows.iter().flat_map(|(number, overlaps)| {
            let document = documents[*number as usize].id.clone();
            let index = &index;
            overlaps.iter().map(move |overlap| (document.clone(), index.item(overlap.item).item.clone()))
        });
        pairs.collect()
    };
    let planned = |leaks: fn(&SourceExpectation) -> &[Leak]| -> BTreeSet<(String, String)> {
        let all = expected.sources.iter().flat_map(|(source, expected)| {
            leaks(expected).iter().map(move |leak| (format!("{source}:{}", leak.document), leak.item.clone()))
        });
        all.collect()
    };
    assert_eq!(name(&contaminated), planned(|source| &source.contaminated));
    assert_eq!(name(&partial), planned(|source| &source.partly_contaminated));
    assert_eq!(boilerplate.gram_count(), 0);
    let leaked: BTreeSet<String> = name(&contaminated).into_iter().map(|(_, item)| item).collect();
    assert_eq!(leaked.len() as u64, expected.benchmark.leaked);
}

#[test]
fn token_supply_fills_the_quickstart_mixture() {
    let tokenizer = Tokenizer::from_bytes("tokenizer.json", &made()["tokenizer/tokenizer.json"]).unwrap();
    assert_eq!(tokenizer.vocabulary_size(), expected().vocabulary_size);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.unknown()), (Some(1), Some(2), Some(0)));
    let documents = read_all();
    let removed: BTreeSet<String> = removals(&documents).into_iter().filter(|r| r.0 != Rule::SameId).map(|r| r.1).collect();
    let mut tokens: BTreeMap<&str, u64> = BTreeMap::new();
    let mut bytes = 0;
    for document in documents.iter().filter(|document| !removed.contains(&document.id)) {
        let ids = tokenizer.encode(&document.text).unwrap();
        assert!(tokenizer.decode(&ids) == document.text, "{} does not come back", document.id);
        assert!(ids.iter().all(|id| *id > 2), "{}: a control token", document.id);
        bytes += document.text.len();
        *tokens.entry(document.domain.as_str()).or_default() += ids.len() as u64;
    }
    let total: u64 = tokens.values().sum();
    println!("{tokens:?}, {:.2} bytes a token", bytes as f64 / total as f64);
    for (domain, least) in [("biomedical", 160_000), ("clinical", 20_000), ("general", 50_000)] {
        assert!(tokens[domain] >= least, "{domain}: {} tokens, expected {least}", tokens[domain]);
    }
}

#[test]
fn every_fact_is_stated_often_and_never_wrongly() {
    let documents = read_all();
    let text: String = documents.iter().map(|document| document.text.clone() + "\n").collect();
    for condition in &CONDITIONS {
        for relation in Relation::ALL {
            let stem = mellama_tests::phrases::question_stem(condition, relation);
            let followed: Vec<&str> = text.split(&stem).skip(1).collect();
            assert!(followed.len() >= 15, "{stem}: stated {} times", followed.len());
            let fact = relation.of(condition);
            for after in followed {
                assert!(after.trim_start().starts_with(fact), "{stem} is followed by something else");
            }
        }
    }
}

#[test]
fn instructions_are_read_as_expected() {
    let expected = expected().instructions;
    let name = "instruct/instructions.jsonl";
    let input = mellama_sources::Input::from_bytes(made()[name].clone());
    let mut reader = open_conversations(context("instruct", "biomedical", name), input, &Limits::default()).unwrap();
    let (mut conversations, mut multi_turn, mut rejects) = (0, 0, 0);
    while let Some(item) = reader.next() {
        match item.unwrap() {
            ConversationItem::Conversation(conversation) => {
                conversations += 1;
                let answers = conversation.turns.iter().filter(|turn| turn.role == Role::Assistant).count();
                multi_turn += u64::from(answers > 1);
            }
            ConversationItem::Reject(_) => rejects += 1,
        }
    }
    assert_eq!((conversations, multi_turn), (expected.conversations, expected.multi_turn));
    assert_eq!((rejects, conversations + rejects), (expected.without_answer, expected.records));
}

#[test]
fn benchmark_rows_ask_for_facts_of_the_corpus() {
    for row in rows() {
        assert_eq!(row.choices[row.gold], row.answer, "{}", row.id);
        let known = CONDITIONS.iter().any(|c| Relation::ALL.iter().any(|relation| relation.of(c) == row.answer));
        assert!(known && row.query.len() > 10, "{}", row.id);
    }
}
