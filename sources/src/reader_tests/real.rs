//! Counts over public sample files, checked against an independent reader in another language.
//!
//! The files are no part of the project: without them these tests print "not run".

use std::path::PathBuf;

use super::{context, documents, items, rejects};
use crate::clean::{Cleaner, Cleaning, Verdict};
use crate::conversation::{ConversationItem, open_conversations};
use crate::document::Document;
use crate::input::Input;
use crate::language::detect;
use crate::phi::{self, PhiKind};
use crate::reader::{Format, Limits};

fn bytes_of(file: &str) -> Option<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(file);
    let bytes = std::fs::read(path).ok();
    if bytes.is_none() {
        println!("not run: {file} is absent");
    }
    bytes
}

/// File, documents, rejects, bytes of text.
type Count = (&'static str, usize, usize, usize);

const JSON_LINES: [Count; 20] = [
    ("text/data-juicer/alpaca-cot.jsonl", 11, 0, 3_946),
    ("text/data-juicer/arxiv.jsonl", 11, 0, 111_935),
    ("text/data-juicer/demo-dataset-annotation-human-preference.jsonl", 0, 10, 0),
    ("text/data-juicer/demo-dataset-chatml.jsonl", 0, 4, 0),
    ("text/data-juicer/demo-dataset-content.jsonl", 0, 6, 0),
    ("text/data-juicer/demo-dataset-deduplication.jsonl", 14, 0, 36_330),
    ("text/data-juicer/demo-dataset-images.jsonl", 3, 0, 124),
    ("text/data-juicer/demo-dataset-prompts.jsonl", 0, 1, 0),
    ("text/data-juicer/demo-dataset-videos.jsonl", 6, 0, 143),
    ("text/data-juicer/demo-dataset.jsonl", 6, 0, 277),
    ("text/data-juicer/demo-dataset_1725870268.jsonl", 4, 0, 226),
    ("text/data-juicer/demo-dataset_1725870628.jsonl", 3, 0, 119),
    ("text/data-juicer/init_infer_dataset.jsonl", 0, 20, 0),
    ("text/data-juicer/redpajama-c4-refined.jsonl", 10, 0, 13_076),
    ("text/data-juicer/redpajama-cc-2023-06-refined.jsonl", 10, 0, 69_632),
    ("text/data-juicer/redpajama-pile-stackexchange-refined.jsonl", 10, 0, 42_072),
    ("text/data-juicer/stack_exchange.jsonl", 70, 0, 351_442),
    ("text/data-juicer/the-pile-nih-refined.jsonl", 10, 0, 15_438),
    ("text/data-juicer/the-pile-uspto-refined.jsonl", 10, 0, 23_579),
    ("text/llama-factory/c4_demo.jsonl", 300, 0, 740_630),
];

const NOTES: [Count; 6] = [
    ("notes/aci-bench/train.csv", 67, 0, 178_097),
    ("notes/aci-bench/valid.csv", 20, 0, 54_479),
    ("notes/mts-dialog/MTS-Dialog-TestSet-1-MEDIQA-Chat-2023.csv", 200, 0, 46_466),
    ("notes/mts-dialog/MTS-Dialog-TestSet-2-MEDIQA-Sum-2023.csv", 200, 0, 47_699),
    ("notes/mts-dialog/MTS-Dialog-TrainingSet.csv", 1_201, 0, 292_354),
    ("notes/mts-dialog/MTS-Dialog-ValidationSet.csv", 100, 0, 21_722),
];

fn notes(file: &str, bytes: Vec<u8>) -> Vec<crate::Item> {
    let mut context = context(file);
    let (id, text) = if file.contains("aci") { ("encounter_id", "note") } else { ("ID", "section_text") };
    (context.fields.id, context.fields.text) = (Some(id.into()), Some(text.into()));
    items(Format::Csv, context, bytes, &Limits::default())
}

fn count(found: &[crate::Item]) -> (usize, usize, usize) {
    let bytes = documents(found).iter().map(|document| document.text.len()).sum();
    (documents(found).len(), rejects(found).len(), bytes)
}

#[test]
fn json_lines_of_public_samples_are_all_read() {
    for (file, good, bad, text_bytes) in JSON_LINES {
        let Some(bytes) = bytes_of(file) else { return };
        for format in [Format::Jsonl, Format::Redpajama] {
            let found = items(format, context(file), bytes.clone(), &Limits::default());
            assert_eq!(count(&found), (good, bad, text_bytes), "{file} as {format}");
        }
    }
}

#[test]
fn arxiv_samples_are_named_by_their_arxiv_id() {
    let Some(bytes) = bytes_of("text/data-juicer/arxiv.jsonl") else {
        return;
    };
    let found = items(Format::Redpajama, context("o"), bytes, &Limits::default());
    assert_eq!(documents(&found)[0].native_id, "1712.01076");
    assert!(documents(&found).iter().all(|document| document.native_id == document.meta["arxiv_id"]));
}

#[test]
fn notes_of_public_samples_are_all_read() {
    for (file, good, bad, text_bytes) in NOTES {
        let Some(bytes) = bytes_of(file) else { return };
        assert_eq!(count(&notes(file, bytes)), (good, bad, text_bytes), "{file}");
    }
}

#[test]
fn conversations_of_public_samples_are_all_read() {
    let files = [
        ("instruct/alpaca/alpaca_en_demo.json", 999, 1_998, 787_928, 985),
        ("instruct/chatdoctor/chatdoctor5k.json", 5_452, 10_904, 2_525_784, 5_452),
        ("instruct/sharegpt/dummy_conversation.json", 500, 2_000, 80_773, 500),
    ];
    for (file, records, turns, text_bytes, distinct) in files {
        let Some(bytes) = bytes_of(file) else { return };
        let mut reader = open_conversations(context(file), Input::from_bytes(bytes.clone()), &Limits::default()).unwrap();
        let (mut found, mut text, mut ids) = (0, 0, std::collections::BTreeSet::new());
        let mut read = 0;
        while let Some(item) = reader.next() {
            let ConversationItem::Conversation(conversation) = item.unwrap() else { panic!("{file}: a reject") };
            assert_eq!(bytes[conversation.origin.byte_offset as usize], b'{');
            read += 1;
            found += conversation.turns.len();
            text += conversation.turns.iter().map(|turn| turn.text.len()).sum::<usize>();
            ids.insert(conversation.id);
        }
        assert_eq!((read, found, text, ids.len()), (records, turns, text_bytes, distinct), "{file}");
    }
}

fn all_notes() -> Option<Vec<Document>> {
    let mut all = Vec::new();
    for (file, ..) in NOTES {
        all.extend(documents(&notes(file, bytes_of(file)?)).into_iter().cloned());
    }
    Some(all)
}

#[test]
fn clinical_notes_survive_the_default_rules_and_the_language_filter() {
    let Some(all) = all_notes() else { return };
    let foreign = all.iter().filter(|note| !matches!(detect(&note.text), None | Some("en"))).count();
    assert_eq!(foreign, 0, "no note is taken for another language");
    let rules = Cleaning { languages: vec!["en".into()], min_words: 1, ..Cleaning::default() };
    let dropped: Vec<_> = all
        .iter()
        .map(|note| Cleaner::new(Some(&rules)).clean(&mut note.clone()).verdict)
        .filter(|verdict| *verdict != Verdict::Keep)
        .collect();
    assert!(dropped.is_empty(), "{dropped:?}");
}

#[test]
fn web_text_is_recognized_as_english() {
    let Some(bytes) = bytes_of("text/llama-factory/c4_demo.jsonl") else {
        return;
    };
    let found = items(Format::Jsonl, context("o"), bytes, &Limits::default());
    let english = documents(&found).iter().filter(|document| detect(&document.text) == Some("en")).count();
    assert!(english >= 295, "{english} of 300");
}

#[test]
fn identifiers_in_public_notes_are_found_at_the_known_places() {
    let Some(all) = all_notes() else { return };
    let mut kinds = std::collections::BTreeMap::new();
    for note in &all {
        for hit in phi::scan(&note.text) {
            *kinds.entry(hit.kind).or_insert(0) += 1;
        }
    }
    // Looked through one by one: every hit is a date or a month, an age over 89, or a name behind a title.
    let expected = [(PhiKind::Date, 224), (PhiKind::Age, 6), (PhiKind::Name, 115)];
    assert_eq!(kinds, expected.into_iter().collect());
}

#[test]
fn identifiers_in_public_articles_are_few() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/jats/tigr2ess");
    let (mut kinds, mut read) = (std::collections::BTreeMap::new(), 0);
    let mut folders = vec![folder.clone()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            println!("not run: no sample data");
            return;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            for article in documents(&items(Format::Jats, context("o"), std::fs::read(&path).unwrap(), &Limits::default())) {
                read += 1;
                for hit in phi::scan(&article.text) {
                    *kinds.entry(hit.kind).or_insert(0) += 1;
                }
            }
        }
    }
    println!("{read} articles: {kinds:?}");
    // Literature has addresses, permits and months; what it must not have is a number of a person.
    let personal = [PhiKind::SocialSecurity, PhiKind::Phone, PhiKind::Fax, PhiKind::RecordNumber, PhiKind::HealthPlan];
    let found: Vec<_> =
        personal.iter().chain(&[PhiKind::Vehicle, PhiKind::Address]).filter(|kind| kinds.contains_key(kind)).collect();
    assert!(read >= 150 && found.is_empty(), "{found:?}");
}

#[test]
fn spanish_posts_among_code_are_mostly_recognized_and_never_taken_for_a_third_language() {
    let Some(bytes) = bytes_of("text/data-juicer/stack_exchange.jsonl") else {
        return;
    };
    let found = items(Format::Redpajama, context("o"), bytes, &Limits::default());
    let languages: Vec<_> = documents(&found).iter().map(|document| detect(&document.text)).collect();
    let spanish = languages.iter().filter(|language| **language == Some("es")).count();
    assert!(spanish >= 48, "{spanish} of {}", languages.len());
    assert!(languages.iter().all(|language| matches!(language, None | Some("es" | "en"))));
}
