//! Overlap with evaluation items: what is found, where, and what becomes of it when boilerplate is known.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;

use mellama_dedup::{BOILERPLATE_DOCUMENTS, BenchmarkIndex, BenchmarkItem, Boilerplate, Frequencies, MIN_SHARE, PartOverlap};

use crate::corpus::Random;

fn item(name: &str, parts: &[&str]) -> BenchmarkItem {
    BenchmarkItem {
        benchmark: "invented".into(),
        item: name.into(),
        parts: parts.iter().map(ToString::to_string).collect(),
        excluded_ids: Vec::new(),
    }
}

fn index(parts: &[&[&str]], ngram: usize) -> BenchmarkIndex {
    let items = (0..).zip(parts).map(|(i, parts)| item(&format!("item{i}"), parts));
    BenchmarkIndex::build(items.collect(), ngram).unwrap()
}

/// What a corpus comes to.
struct Contamination {
    /// Documents that hold enough of some part, with all that they share.
    contaminated: Vec<(u64, Vec<PartOverlap>)>,
    /// Documents that hold less.
    partial: Vec<(u64, Vec<PartOverlap>)>,
    boilerplate: Boilerplate,
}

/// Phase 2 over numbered documents: all are counted, then each is judged.
fn resolve<'a>(index: &BenchmarkIndex, documents: impl Iterator<Item = (u64, &'a [u64])> + Clone) -> Contamination {
    let mut frequencies = Frequencies::new(index);
    for (_, grams) in documents.clone() {
        frequencies.add(index, grams);
    }
    let boilerplate = frequencies.boilerplate(index, BOILERPLATE_DOCUMENTS);
    let shared = documents.map(|(document, grams)| (document, index.shares(grams, &boilerplate)));
    let found = shared.filter(|(_, shares)| !shares.is_empty());
    let is_over = |(_, shares): &(u64, Vec<PartOverlap>)| shares.iter().any(|overlap| overlap.share >= MIN_SHARE);
    let (contaminated, partial) = found.partition(is_over);
    Contamination { contaminated, partial, boilerplate }
}

/// Words a0 … a(n-1).
fn numbered(letter: char, words: Range<usize>) -> String {
    words.map(|i| format!("{letter}{i}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn shares_count_distinct_grams_of_each_part() {
    // 20 words are 8 grams of 13; the second part is 13 words, one gram.
    let parts = [numbered('a', 0..20), numbered('b', 0..13)];
    let index = index(&[&[&parts[0], &parts[1]]], 13);
    assert_eq!((index.parts_checked(), index.gram_count()), (2, 9));
    let check = |text: &str, expected: &[(u32, f64)]| {
        let got: Vec<(u32, f64)> = index.overlaps(text).iter().map(|o| (o.part, o.share)).collect();
        assert_eq!(got, expected, "{text}");
    };
    check("", &[]);
    check(&numbered('a', 0..12), &[]);
    check(&numbered('a', 0..13), &[(0, 1.0 / 8.0)]);
    check(&numbered('a', 3..19), &[(0, 4.0 / 8.0)]);
    check(&format!("x {} y", parts[0]), &[(0, 1.0)]);
    check(&format!("{0} {0} {1}", parts[0], parts[1]), &[(0, 1.0), (1, 1.0)]);
    // No gram spans two parts.
    check(&format!("{} {}", numbered('a', 10..20), numbered('b', 0..10)), &[]);
    // Case, punctuation and compatibility forms do not hide a copy.
    check(&parts[1].to_uppercase().replace(' ', ", "), &[(1, 1.0)]);
}

#[test]
fn a_gram_that_a_part_repeats_counts_once() {
    // 26 words, 14 grams, of which the first and the last are equal.
    let part = format!("{0} {0}", numbered('a', 0..13));
    let index = index(&[&[&part]], 13);
    assert_eq!(index.gram_count(), 13);
    let shares: Vec<f64> = index.overlaps(&part).iter().map(|o| o.share).collect();
    assert_eq!(shares, [1.0]);
    let none = Boilerplate::none(&index);
    let shares = index.shares(&index.grams(&numbered('a', 0..13)), &none);
    assert_eq!((shares[0].matched, shares[0].grams), (1, 13));
}

#[test]
fn short_parts_match_whole_or_are_counted() {
    let eight = "which drug is safe in pregnancy and lactation";
    let twelve = "which of these drugs is safe for women in pregnancy and lactation";
    let seven = "which drug is safe in pregnancy now";
    let index = index(&[&[eight, "yes"], &[twelve], &[seven, "no", ""]], 13);
    assert_eq!((index.parts_checked(), index.parts_unchecked()), (2, 4));
    assert_eq!(index.items_unchecked(), 1);
    assert_eq!([0, 1, 2].map(|item| index.is_checkable(item)), [true, true, false]);
    let found = |text: &str| -> Vec<(u32, u32)> { index.overlaps(text).iter().map(|o| (o.item, o.part)).collect() };
    assert_eq!(found(&format!("Asked: {eight}? Then {twelve}.")), [(0, 0), (1, 0)]);
    assert_eq!(found(seven), []);
    assert_eq!(found("which drug is safe in pregnancy or lactation"), []);
}

#[test]
fn a_bad_ngram_is_refused() {
    for ngram in [0, 65] {
        let error = BenchmarkIndex::build(Vec::new(), ngram).unwrap_err();
        assert!(error.to_string().contains(&format!("got {ngram}")), "{error}");
    }
    let empty = BenchmarkIndex::build(Vec::new(), 13).unwrap();
    assert!(empty.grams("some text").is_empty());
}

#[test]
fn excluded_ids_lead_to_their_items() {
    let with = |name: &str, ids: &[&str]| BenchmarkItem {
        excluded_ids: ids.iter().map(ToString::to_string).collect(),
        ..item(name, &[])
    };
    let items = vec![with("a", &["pmid:2", "pmid:1"]), with("b", &["pmid:2"]), with("c", &[])];
    let index = BenchmarkIndex::build(items, 13).unwrap();
    assert_eq!(index.items_excluding("pmid:2"), [0, 1]);
    assert_eq!(index.items_excluding("pmid:1"), [0]);
    assert!(index.items_excluding("pmid:").is_empty());
    assert!(index.items_excluding("pmid:20").is_empty());
    assert_eq!(index.item(1).item, "b");
}

fn check_ranges(part: &str, text: &str, expected: &[&str]) {
    let index = index(&[&[part]], 3);
    let all = BTreeSet::from([0]);
    let got: Vec<&str> =
        index.matched_ranges(text, &all, &Boilerplate::none(&index)).into_iter().map(|range| &text[range]).collect();
    assert_eq!(got, expected, "{text:?}");
    let from_overlaps: Vec<&str> = index.overlaps(text).iter().flat_map(|o| o.ranges.clone()).map(|r| &text[r]).collect();
    assert_eq!(from_overlaps, expected, "{text:?}");
}

#[test]
fn ranges_are_bytes_of_the_original_text() {
    check_ranges("one two three four", "Zero ONE, two (three) four. Five", &["ONE, two (three) four"]);
    check_ranges("one two three", "one two one two three; one two three!", &["one two three", "one two three"]);
    check_ranges("one two three four five", "one two three x three four five", &["one two three", "three four five"]);
    // Ligature, combining mark, micro sign: the match is found and mapped to the bytes as they stand.
    check_ranges("fibrosis of café 5 μg", "x \u{FB01}brosis of CAFE\u{301} 5 µg!", &["\u{FB01}brosis of CAFE\u{301} 5 µg"]);
    // A mark that composes into nothing is no part of a word, but of the segment of its letter.
    check_ranges("café au lait", "(Cafe\u{301} au lait\u{301})", &["Cafe\u{301} au lait\u{301}"]);
    check_ranges("café au lait", "Cafe au lait", &[]);
    check_ranges("du café noir", "du cafe\u{301}\u{323} noir", &[]);
    check_ranges("naïve 10 3 mol", "«nai\u{308}ve 10⁻³ mol»", &["nai\u{308}ve 10⁻³ mol"]);
    // A match that begins inside a fraction takes the whole of it.
    check_ranges("2 cups milk", "½ cups milk", &["½ cups milk"]);
}

#[test]
fn ranges_are_those_of_the_wanted_items_without_boilerplate() {
    let index = index(&[&["one two three four"], &["seven eight nine"]], 3);
    let text = "one two three four five six seven eight nine";
    let of = |items: &[u32], boilerplate: &Boilerplate| {
        let ranges = index.matched_ranges(text, &items.iter().copied().collect(), boilerplate);
        let ends = |range: &Range<usize>| (range.start, range.end);
        ranges.iter().map(ends).collect::<Vec<_>>()
    };
    let none = Boilerplate::none(&index);
    assert_eq!(of(&[], &none), []);
    assert_eq!(of(&[0], &none), [(0, 18)]);
    assert_eq!(of(&[0, 1], &none), [(0, 18), (28, 44)]);
    // "one two three" is in two documents, "two three four" in one.
    let mut frequencies = Frequencies::new(&index);
    frequencies.add(&index, &index.grams("one two three"));
    frequencies.add(&index, &index.grams(text));
    assert_eq!(of(&[0, 1], &frequencies.boilerplate(&index, 1)), [(4, 18), (28, 44)]);
}

#[test]
fn boilerplate_is_dropped_before_shares_are_taken() {
    // 13 words of boilerplate, then 17 of its own: 18 grams, of which 1 is boilerplate alone.
    let stem = numbered('s', 0..13);
    let question = format!("{stem} {}", numbered('q', 0..17));
    let only_stem = numbered('t', 0..13);
    let index = index(&[&[&question], &[&only_stem]], 13);
    let mut texts: Vec<String> = (0..11).map(|i| format!("{stem} {}", numbered('x', i..i + 20))).collect();
    texts.extend((0..11).map(|i| format!("{only_stem} tail{i}")));
    // Most of the question: 14 of the 17 grams that are left. Then 13 of them.
    texts.push(numbered('s', 1..13) + " " + &numbered('q', 0..14));
    texts.push(numbered('s', 1..13) + " " + &numbered('q', 0..13));
    let grams: Vec<Vec<u64>> = texts.iter().map(|text| index.grams(text)).collect();
    let documents = (0u64..).zip(grams.iter().map(Vec::as_slice));
    let result = resolve(&index, documents.clone());
    assert_eq!((result.boilerplate.gram_count(), result.boilerplate.part_count()), (2, 1));
    // The part that is boilerplate as a whole was all that its item had.
    assert_eq!(result.boilerplate.items(&index), [1]);
    let contaminated: Vec<u64> = result.contaminated.iter().map(|(d, _)| *d).collect();
    let partial: Vec<u64> = result.partial.iter().map(|(d, _)| *d).collect();
    assert_eq!((contaminated, partial), (vec![22], vec![23]));
    let overlap = result.contaminated[0].1[0];
    assert_eq!((overlap.item, overlap.part, overlap.matched, overlap.grams), (0, 0, 14, 17));
    // One document fewer with it, and the stem is no boilerplate: then it is a partial hit of all ten.
    let fewer: Vec<(u64, &[u64])> = documents.filter(|(d, _)| *d != 0 && *d != 11).collect();
    let result = resolve(&index, fewer.iter().copied());
    assert_eq!((result.boilerplate.gram_count(), result.boilerplate.items(&index)), (0, Vec::new()));
    assert_eq!(result.partial.len(), 10 + 2);
    assert_eq!(result.contaminated.len(), 10);
}

#[test]
fn determinism_frequencies_add_up_in_any_order() {
    let mut random = Random::new(31);
    let parts: Vec<String> = (0..20).map(|_| random.prose(40)).collect();
    let parts: Vec<[&str; 1]> = parts.iter().map(|p| [p.as_str()]).collect();
    let parts: Vec<&[&str]> = parts.iter().map(<[&str; 1]>::as_slice).collect();
    let index = index(&parts, 5);
    let documents: Vec<Vec<u64>> =
        (0..50).map(|_| index.grams(&format!("{} {}", parts[random.below(20)][0], parts[random.below(20)][0]))).collect();
    let mut whole = Frequencies::new(&index);
    for document in &documents {
        whole.add(&index, document);
    }
    let mut halves = [Frequencies::new(&index), Frequencies::new(&index)];
    for (i, document) in documents.iter().enumerate().rev() {
        halves[i % 2].add(&index, document);
    }
    let [mut sum, other] = halves;
    sum.merge(&other);
    assert_eq!(sum, whole);
    assert!(documents.iter().all(|d| d.windows(2).all(|w| w[0] < w[1])));
}

/// `PubMedQA`: each abstract must be found by its own item, and by no other.
#[test]
fn pubmedqa_items_find_their_own_abstracts() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/benchmarks/pubmedqa/ori_pqal.json");
    let Ok(json) = std::fs::read_to_string(path) else {
        println!("not run: sample data absent");
        return;
    };
    let rows: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&json).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_string();
    let mut items = Vec::new();
    let mut abstracts = Vec::new();
    for (pmid, row) in &rows {
        let contexts: Vec<String> = row["CONTEXTS"].as_array().unwrap().iter().map(text).collect();
        // As a corpus has it: labels, line breaks and another case between the parts.
        abstracts.push(format!("{}\n\nBACKGROUND: {}", pmid, contexts.join("\nRESULTS: ").to_uppercase()));
        items.push(BenchmarkItem {
            benchmark: "pubmedqa".into(),
            item: pmid.clone(),
            parts: [vec![text(&row["QUESTION"]), text(&row["LONG_ANSWER"])], contexts].concat(),
            excluded_ids: vec![format!("pmid:{pmid}")],
        });
    }
    let index = BenchmarkIndex::build(items, 13).unwrap();
    let grams: Vec<Vec<u64>> = abstracts.iter().map(|text| index.grams(text)).collect();
    let documents = (0u64..).zip(grams.iter().map(Vec::as_slice));
    let result = resolve(&index, documents);
    // 181 of 5,358 parts have fewer than 8 words.
    assert_eq!((rows.len(), index.items_unchecked()), (1000, 0));
    assert_eq!((index.parts_checked(), index.parts_unchecked()), (5177, 181));
    assert_eq!(index.gram_count(), 203_728);
    assert_eq!((result.contaminated.len(), result.partial.len()), (1000, 0));
    for (document, overlaps) in &result.contaminated {
        assert!(overlaps.iter().all(|o| u64::from(o.item) == *document), "{document}");
    }
    assert_eq!((result.boilerplate.gram_count(), result.boilerplate.part_count()), (0, 0));
}
