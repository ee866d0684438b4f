//! What stops a deduplication: the loss of a source, bad settings, bad entries, texts that changed, no scratch folder.

use std::path::Path;
use std::sync::atomic::AtomicUsize;

use mellama_dedup::{DedupError, Entry, Options, TextError, Texts, deduplicate};

use crate::corpus::{InMemory, Random, Sample, entries, run, sources, strict, try_run};

/// Source 0: 8 texts of one length, two of them near-copies of others. Source 1: the same number, no copy.
fn with_losses() -> Vec<Sample> {
    let mut random = Random::new(20);
    let mut texts: Vec<Sample> = (0..6).map(|i| Sample::new(format!("a{i}"), random.prose(200))).collect();
    for i in 0..2 {
        let mut copy = Sample::new(format!("b{i}"), texts[i].text.to_uppercase());
        copy.rank = 1;
        texts.push(copy);
    }
    for i in 0..8 {
        let mut other = Sample::new(format!("c{i}"), random.prose(200));
        other.source = 1;
        texts.push(other);
    }
    texts
}

#[test]
fn a_source_that_loses_too_much_stops_the_run() {
    let texts = with_losses();
    let outcome = run(&texts, &strict());
    let [lost, kept, empty] = &outcome.losses[..] else {
        panic!("three sources");
    };
    let characters = |ids: &str| -> u64 { texts.iter().filter(|t| t.id.starts_with(ids)).map(|t| t.text.len() as u64).sum() };
    assert_eq!((lost.documents, lost.characters), (2, characters("b")));
    assert_eq!(lost.total_characters, characters("a") + characters("b"));
    assert_eq!((kept.documents, kept.share, empty.share), (0, 0.0, 0.0));
    let limited = |max_source_loss| Options { max_source_loss, ..strict() };
    // At its own share the run passes, a little below it stops.
    assert!(try_run(&texts, &limited(lost.share)).is_ok());
    let error = try_run(&texts, &limited(lost.share * 0.999)).unwrap_err();
    let DedupError::SourceLoss { source_name, share, clusters, losses, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!((source_name.as_str(), *share), ("s0", lost.share));
    assert_eq!(losses.len(), 3);
    assert_eq!(clusters.clusters, 2);
    let keepers: Vec<&str> = clusters.largest.iter().map(|cluster| cluster.keeper.as_str()).collect();
    assert!(keepers.contains(&"a0") && keepers.contains(&"a1"), "{keepers:?}");
    assert_eq!(clusters.largest[0].removed, 1);
    let message = error.to_string();
    assert!(message.starts_with("source \"s0\": verified removals take 0.2"), "{message}");
    assert_eq!(message.matches(" (2 documents, 1 removed, ").count(), 2, "{message}");
    for text in &texts {
        assert!(!message.contains(&text.text[..20]), "document text in an error");
    }
}

#[test]
fn exact_copies_and_same_ids_never_stop_a_run() {
    let mut random = Random::new(21);
    let text = random.prose(100);
    let mut texts: Vec<Sample> = (0..9).map(|i| Sample::new(format!("a{i}"), text.clone())).collect();
    let mut newer = Sample::new("a0", random.prose(100));
    newer.version = 2;
    texts.push(newer);
    let options = Options { max_source_loss: 0.0, ..strict() };
    assert_eq!(run(&texts, &options).removals.len(), 8);
}

#[test]
fn the_report_lists_the_twenty_largest_clusters() {
    let mut random = Random::new(22);
    let mut texts = Vec::new();
    for cluster in 0..25 {
        let template = random.prose(150);
        // Clusters 0 to 4 have six documents, the others two.
        for i in 0..if cluster < 5 { 6 } else { 2 } {
            texts.push(Sample::new(format!("c{cluster:02}-{i}"), format!("{template} case {i} of it")));
        }
    }
    let report = run(&texts, &strict()).clusters;
    assert_eq!((report.clusters, report.documents), (25, 70));
    let sizes: Vec<u64> = report.largest.iter().map(|c| c.documents).collect();
    assert_eq!(sizes, [vec![6; 5], vec![2; 15]].concat());
}

fn check_refused(change: impl Fn(&mut Options, &mut Vec<Entry>), expected: &str) {
    let texts = [Sample::new("first", "some words of text here"), Sample::new("second", "others")];
    let mut options = strict();
    let mut entries = entries(&texts, options.spec);
    change(&mut options, &mut entries);
    let source = InMemory { texts: &texts, reads: AtomicUsize::new(0) };
    let message = deduplicate(&entries, &sources(), &options, Path::new("unused"), &source).unwrap_err().to_string();
    assert!(message.contains(expected), "{message:?} lacks {expected:?}");
}

#[test]
fn bad_settings_and_entries_are_refused() {
    check_refused(|options, _| options.spec.bands = 0, "bands: got 0");
    check_refused(|options, _| options.max_source_loss = f64::NAN, "max_source_loss: got NaN");
    check_refused(|options, _| options.max_source_loss = 1.5, "max_source_loss: got 1.5");
    check_refused(
        |options, _| options.verify = mellama_dedup::VerifyMode::Tolerant { min_similarity: -0.1 },
        "min_similarity: got -0.1",
    );
    check_refused(|_, entries| entries[1].source = 3, "second: source 3, expected less than 3");
    check_refused(|options, _| options.spec.bands = 13, "first: 14 band keys, expected 13");
    check_refused(|_, entries| entries[1].sketch.bands.clear(), "second: 0 band keys for 1 words");
}

/// Gives other texts than were sketched, or none.
struct Broken(Option<String>);

impl Texts for Broken {
    fn text(&self, _: u32) -> Result<String, TextError> {
        self.0.clone().ok_or_else(|| TextError::new("object gone"))
    }

    fn name(&self, number: u32) -> String {
        ["a", "b"][number as usize].to_owned()
    }
}

#[test]
fn a_text_that_changed_or_is_gone_stops_the_run() {
    let mut random = Random::new(23);
    let text = random.prose(100);
    let mut texts = [Sample::new("a", text.clone()), Sample::new("b", text.to_uppercase())];
    texts[1].rank = 1;
    let entries = entries(&texts, strict().spec);
    let with = |broken: Broken| deduplicate(&entries, &sources(), &strict(), Path::new("unused"), &broken).unwrap_err();
    let changed = with(Broken(Some("another text".into())));
    assert!(matches!(&changed, DedupError::TextChanged { document } if document == "a"), "{changed}");
    let gone = with(Broken(None));
    assert!(matches!(&gone, DedupError::Text { document, .. } if document == "a"), "{gone}");
}

#[test]
fn the_scratch_folder_is_needed_only_beyond_the_budget() {
    let mut random = Random::new(24);
    let texts: Vec<Sample> = (0..300).map(|i| Sample::new(format!("{i}"), random.prose(20))).collect();
    let entries = entries(&texts, strict().spec);
    let source = InMemory { texts: &texts, reads: AtomicUsize::new(0) };
    let with = |memory_bytes| {
        let options = Options { memory_bytes, ..strict() };
        let absent = tempfile::tempdir().unwrap().path().join("absent");
        deduplicate(&entries, &sources(), &options, &absent, &source)
    };
    assert!(with(1 << 20).is_ok());
    assert!(matches!(with(1), Err(DedupError::Scratch(_))));
}
