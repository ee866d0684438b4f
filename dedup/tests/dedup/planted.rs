//! Copies planted among unrelated texts, each with a known answer.

use std::sync::atomic::{AtomicUsize, Ordering};

use mellama_dedup::{Links, NormalForm, Options, Removal, Rule, VerifyMode, deduplicate};

use crate::corpus::{InMemory, Random, Sample, by_id, entries, run, sources, strict, tolerant};

/// 300 unrelated texts of 80 to 400 words: n000 … n299.
fn background(random: &mut Random) -> Vec<Sample> {
    (0..300)
        .map(|i| {
            let words = 80 + random.below(320);
            Sample::new(format!("n{i:03}"), random.prose(words))
        })
        .collect()
}

#[test]
fn unrelated_texts_are_neither_proposed_nor_removed() {
    let texts = background(&mut Random::new(1));
    let outcome = run(&texts, &strict());
    assert_eq!((outcome.candidates, outcome.removals.len()), (0, 0));
    assert_eq!(outcome.clusters.clusters, 0);
}

#[test]
fn planted_copies_are_found_and_each_by_its_rule() {
    let mut random = Random::new(2);
    let mut texts = background(&mut random);
    let base = |i: usize| texts[i].text.clone();
    let long = random.prose(400);
    let planted = vec![
        // Whitespace only: exact.
        second(Sample::new("x-exact", base(0).replace(' ', "\n"))),
        // Case changed: not exact, but every token is held. Same length, so the rank decides.
        second(Sample::new("x-case", base(1).to_uppercase())),
        // The first 92% of a text.
        Sample::new("x-part", first_words(&base(2), 92)),
        // A text inside a longer one: the longer one stays.
        Sample::new("x-whole", format!("{} {}", base(3), random.prose(6))),
        // One word changed: proposed, never removed under strict.
        Sample::new("x-word", base(4).replacen(" w", " v", 1)),
        // Nothing alike.
        Sample::new("x-other", long),
    ];
    texts.extend(planted);
    let outcome = run(&texts, &strict());
    assert_eq!(
        by_id(&texts, &outcome),
        ["n003 x-whole near-strict", "x-case n001 near-strict", "x-exact n000 exact", "x-part n002 near-strict",]
    );
    // Four clusters are proposed (the exact copy is gone before); each takes one comparison.
    assert_eq!((outcome.clusters.clusters, outcome.clusters.documents), (4, 8));
    assert_eq!(outcome.comparisons, 4);
    for removal in &outcome.removals {
        match removal.rule {
            Rule::Exact => assert!((removal.similarity - 1.0).abs() < f64::EPSILON),
            _ => assert!(removal.similarity > 0.9 && removal.similarity <= 1.0),
        }
    }
}

#[test]
fn tolerant_accepts_a_changed_word_but_no_changed_number() {
    let mut random = Random::new(3);
    // 300 words without a digit, then "dose 40 mg daily": 304 words, 300 shingles.
    let words: Vec<String> = (0..300).map(|_| spelled(random.below(100_000))).collect();
    let text = format!("{} dose 40 mg daily", words.join(" "));
    let texts = vec![
        Sample::new("a", text.clone()),
        Sample::new("b", text.replacen("dose", "quantity", 1)),
        Sample::new("c", text.replacen("40", "41", 1)),
        Sample::new("d", text.replacen(" daily", " daily.", 1)),
    ];
    // "quantity" makes b the longest, so it is the root; four shingles hold the word.
    let outcome = run(&texts, &tolerant());
    assert_eq!(by_id(&texts, &outcome), ["a b near-tolerant", "d b near-tolerant"]);
    for removal in &outcome.removals {
        assert!((removal.similarity - 296.0 / 304.0).abs() < 1e-12, "{}", removal.similarity);
    }
    // Under strict nothing is held: b has another word, c another number, d a full stop more.
    assert_eq!(by_id(&texts, &run(&texts, &strict())), Vec::<String>::new());
    // At the similarity itself they are removed, a little above it not.
    let at_least = |min_similarity| {
        let verify = VerifyMode::Tolerant { min_similarity };
        run(&texts, &Options { verify, ..strict() }).removals.len()
    };
    assert_eq!((at_least(296.0 / 304.0), at_least(0.98)), (2, 0));
}

/// Of a source that is less preferred.
fn second(mut text: Sample) -> Sample {
    text.rank = 1;
    text
}

/// The first `percent` of the words of a text.
fn first_words(text: &str, percent: usize) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    words[..words.len() * percent / 100].join(" ")
}

/// A word without digits for each number.
fn spelled(number: usize) -> String {
    number.to_string().bytes().map(|b| (b - b'0' + b'a') as char).collect()
}

#[test]
fn templated_notes_cluster_but_are_kept() {
    let mut random = Random::new(4);
    let template = random.prose(180);
    let texts: Vec<Sample> = (0..400)
        .map(|i| Sample::new(format!("note{i:03}"), format!("{template} Heart rate {} bpm, weight {i} kg.", 60 + i % 40)))
        .collect();
    for options in [strict(), tolerant()] {
        let outcome = run(&texts, &options);
        assert_eq!((outcome.clusters.clusters, outcome.clusters.documents), (1, 400));
        assert_eq!(outcome.clusters.largest[0].documents, 400);
        assert_eq!(outcome.clusters.largest[0].removed, 0);
        assert_eq!(outcome.removals.len(), 0);
        // Linear: 399 in each band, at most two comparisons a member.
        assert!(outcome.candidates <= 14 * 399, "{}", outcome.candidates);
        assert!(outcome.comparisons <= 2 * 399, "{}", outcome.comparisons);
    }
}

#[test]
fn a_copy_of_another_representative_is_found() {
    let mut random = Random::new(5);
    let template = random.prose(200);
    let note = |id: &str, rest: &str| Sample::new(id, format!("{template} {rest}"));
    let texts = vec![
        note("root", "The longest of them all has potassium 4.1 and sodium 140."),
        note("a", "Potassium 5.2 and sodium 133."),
        note("b", "Potassium 3.9 and sodium 138."),
        // Equal tokens as b, another case and another space: not exact.
        note("b2", "POTASSIUM 3.9 AND  SODIUM 138."),
        note("c", "Potassium 3.9 and sodium 139."),
    ];
    let outcome = run(&texts, &strict());
    assert_eq!(by_id(&texts, &outcome), ["b b2 near-strict"]);
    assert!((outcome.removals[0].similarity - 1.0).abs() < f64::EPSILON);
    assert_eq!(by_id(&texts, &run(&texts, &tolerant())), ["b b2 near-tolerant"]);
}

#[test]
fn a_changed_dose_digit_blocks_strict_removal() {
    let mut random = Random::new(6);
    let story = random.prose(300);
    for (old, new) in [("81 mg", "82 mg"), ("81 mg", "8.1 mg"), ("5/12", "6/12"), ("-2", "2")] {
        let note = format!("{story} Aspirin 81 mg since 5/12, base excess -2 today.");
        let texts = [Sample::new("a", note.clone()), Sample::new("b", note.replace(old, new))];
        for options in [strict(), tolerant()] {
            let outcome = run(&texts, &options);
            assert_eq!(outcome.clusters.documents, 2, "{old}: not proposed");
            assert_eq!(outcome.removals.len(), 0, "{old} became {new}");
        }
    }
}

#[test]
fn redeidentified_notes_meet_only_in_clinical_form() {
    let mut random = Random::new(7);
    let story = random.prose(120);
    let third = format!("Dr. [**Last Name 7**] wrote on [**2151-7-16**]: {story}");
    let fourth = format!("Dr. ___ wrote on ___: {story}");
    let mut texts = vec![Sample::new("iii", third), Sample::new("iv", fourth)];
    assert_eq!(run(&texts, &strict()).removals.len(), 0);
    for text in &mut texts {
        text.form = NormalForm::Clinical;
    }
    let outcome = run(&texts, &strict());
    // The longer text, the one with bracketed placeholders, stays.
    assert_eq!(by_id(&texts, &outcome), ["iv iii near-strict"]);
    assert!((outcome.removals[0].similarity - 1.0).abs() < f64::EPSILON);
}

#[test]
fn ids_then_exact_then_near() {
    let mut random = Random::new(8);
    let text = random.prose(150);
    let with = |id: &str, text: &str, change: &dyn Fn(&mut Sample)| {
        let mut document = Sample::new(id, text);
        change(&mut document);
        document
    };
    let shorter = first_words(&text, 95);
    let texts = vec![
        with("a", &text, &|_| {}),
        with("a", "an older version that says something else", &|t| {
            t.version = 0;
        }),
        // Exact copies: rank decides, then the id.
        with("b", &text, &|t| t.rank = 1),
        with("c", &text, &|t| t.rank = 1),
        // Near, but exact only.
        with("d", &shorter, &|t| t.exact_only = true),
        // Near.
        with("e", &format!("{shorter} "), &|t| t.exact_only = true),
        with("f", &shorter.to_uppercase(), &|_| {}),
        // Templated copies take part in the exact join; ids decide between e and d.
        with("0", "", &|_| {}),
        with("1", " \n", &|_| {}),
    ];
    let outcome = run(&texts, &strict());
    assert_eq!(by_id(&texts, &outcome), ["0 1 exact", "a a same-id", "b a exact", "c a exact", "d e exact", "f a near-strict"]);
    assert_eq!(outcome.survivor(1), 0);
    assert_eq!(outcome.survivor(2), 0);
    assert_eq!(outcome.survivor(5), 5);
}

#[test]
fn a_chain_of_rules_ends_at_a_kept_document() {
    let mut random = Random::new(9);
    let text = random.prose(150);
    let whole = format!("{text} {}", random.prose(5));
    let mut old = Sample::new("a", "replaced");
    old.version = 0;
    let mut copy = Sample::new("b", text.clone());
    copy.rank = 1;
    let texts = vec![Sample::new("a", text), old, copy, Sample::new("w", whole)];
    let outcome = run(&texts, &strict());
    assert_eq!(by_id(&texts, &outcome), ["a a same-id", "a w near-strict", "b a exact"]);
    // The old version was replaced by a, a is held by w.
    assert_eq!([0, 1, 2, 3].map(|i| outcome.survivor(i)), [3, 3, 3, 3]);
}

/// A cluster of notes of one length in which each note has another number.
fn notes(template: &str, count: usize) -> Vec<Sample> {
    (0..count).map(|i| Sample::new(format!("note{i:04}"), format!("{template} Room {:04} is his.", 1000 + i))).collect()
}

#[test]
fn every_kept_member_of_a_cluster_stands_for_its_copies() {
    let mut random = Random::new(10);
    let mut texts = notes(&random.prose(200), 40);
    // Equal tokens in another case; the 40 notes are all kept, each with a number of its own.
    for i in [0, 1, 31, 32, 39] {
        let copy = texts[i].text.to_uppercase();
        texts.push(second(Sample::new(format!("z{i}"), copy)));
    }
    let outcome = run(&texts, &strict());
    assert_eq!(outcome.clusters.largest[0].documents, 45);
    let expected: Vec<String> = [0, 1, 31, 32, 39].map(|i| format!("z{i} note{i:04} near-strict")).into();
    assert_eq!(by_id(&texts, &outcome), expected);
    // 44 with the root, and the copies that it does not hold with what they are copies of.
    assert!((48..=49).contains(&outcome.comparisons), "{}", outcome.comparisons);
}

#[test]
fn determinism_a_large_cluster_is_decided_as_a_small_one() {
    let mut random = Random::new(12);
    let mut texts = notes(&random.prose(60), 700);
    for base in [0, 7] {
        for pattern in 1..=150 {
            let copy = upper_words(&texts[base].text, pattern);
            texts.push(second(Sample::new(format!("z{base}-{pattern}"), copy)));
        }
    }
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let outcome = run(&texts, &strict());
    assert_eq!(one_thread.install(|| run(&texts, &strict())), outcome);
    assert_eq!((outcome.clusters.clusters, outcome.clusters.documents), (1, 1000));
    let kept = |id: &str| {
        let of = |r: &&Removal| texts[r.kept as usize].id == id && r.rule == Rule::Strict;
        outcome.removals.iter().filter(of).count()
    };
    assert_eq!((kept("note0000"), kept("note0007")), (150, 150));
    assert_eq!(outcome.removals.len(), 300);
}

/// Word i in capitals for each bit i of `pattern`.
fn upper_words(text: &str, pattern: usize) -> String {
    let word = |(i, word): (usize, &str)| match pattern >> i.min(63) & 1 {
        1 => word.to_uppercase(),
        _ => word.to_string(),
    };
    let words: Vec<String> = text.split(' ').enumerate().map(word).collect();
    words.join(" ")
}

/// Hash of a name, given as its number.
fn names(numbers: &[u64]) -> Links {
    Links { names: numbers.to_vec(), ..Links::default() }
}

#[test]
fn an_abstract_goes_only_for_a_full_text_that_holds_it() {
    let mut random = Random::new(13);
    let (summary, body) = (random.prose(120), random.prose(900));
    let mut article = Sample::new("pmc", format!("Title\n\nAbstract\n\n{summary}\n\n{body}"));
    article.links = names(&[1, 2]);
    // Preferred by rank, and still it goes.
    let mut abridged = Sample::new("pubmed", summary.clone());
    (abridged.abridged, abridged.links) = (true, names(&[1]));
    article.rank = 1;
    let texts = vec![abridged, article];
    let outcome = run(&texts, &strict());
    assert_eq!(by_id(&texts, &outcome), ["pubmed pmc full-text"]);
    assert!((outcome.removals[0].containment - 1.0).abs() < 1e-12 && outcome.removals[0].similarity < 0.2);
    assert_eq!(outcome.losses[0].documents, 1);
    let check_kept = |change: &dyn Fn(&mut [Sample])| {
        let mut changed = texts.clone();
        change(&mut changed);
        assert_eq!(by_id(&changed, &run(&changed, &strict())), Vec::<String>::new());
    };
    check_kept(&|texts| texts[0].text = format!("{summary} Dose 5 mg."));
    check_kept(&|texts| texts[0].links = names(&[3]));
    check_kept(&|texts| texts[0].exact_only = true);
    check_kept(&|texts| texts[0].release = Some(0));
    check_kept(&|texts| texts[1].abridged = true);
    // Not carried whole: tolerant accepts a share, strict does not.
    let mut changed = texts.clone();
    changed[0].text = summary.replacen('.', " indeed.", 1);
    assert_eq!(by_id(&changed, &run(&changed, &tolerant())), ["pubmed pmc full-text"]);
    assert_eq!(by_id(&changed, &run(&changed, &strict())), Vec::<String>::new());
}

#[test]
fn a_preprint_goes_for_its_article_unless_the_link_is_wrong() {
    let mut random = Random::new(14);
    let common = random.prose(600);
    let mut preprint = Sample::new("p", format!("{common} {}", random.prose(500)));
    preprint.links = Links { names: vec![5], preprint_of: vec![7], ..Links::default() };
    let mut article = Sample::new("a", format!("{} {common}", random.prose(300)));
    article.links = names(&[7]);
    let texts = vec![preprint, article];
    assert_eq!(by_id(&texts, &run(&texts, &strict())), ["p a preprint"]);
    let mut wrong = texts.clone();
    wrong[1].text = random.prose(900);
    assert_eq!(by_id(&wrong, &run(&wrong, &strict())), Vec::<String>::new());
    // Each says that it is the other's preprint: one of them stays.
    let mut both = texts;
    both[1].links = Links { names: vec![7], preprint_of: vec![5], ..Links::default() };
    assert_eq!(run(&both, &strict()).removals.len(), 1);
}

fn clinical(id: &str, text: &str, source: u16, group: u64) -> Sample {
    Sample { source, group, form: NormalForm::Clinical, ..Sample::new(id, text) }
}

#[test]
fn copied_forward_notes_are_compared_inside_a_subject() {
    let mut random = Random::new(15);
    let (story, rest) = (random.prose(200), random.prose(8));
    let longer = format!("{story} {rest}");
    // The same story under two subjects: each keeps its longest note.
    let texts = vec![
        clinical("a-long", &longer, 0, 1),
        clinical("a-short", &story, 0, 1),
        clinical("b-short", &story.to_uppercase(), 0, 2),
        clinical("b-equal", &upper_words(&story, 5), 0, 2),
    ];
    let outcome = run(&texts, &strict());
    assert_eq!(by_id(&texts, &outcome)[0], "a-short a-long near-strict");
    let b: Vec<&str> =
        outcome.removals.iter().map(|r| texts[r.kept as usize].id.as_str()).filter(|id| id.starts_with('b')).collect();
    assert_eq!((outcome.removals.len(), b.len()), (2, 1), "{:?}", by_id(&texts, &outcome));
}

#[test]
fn notes_of_two_releases_meet_across_subjects() {
    let mut random = Random::new(16);
    let story = random.prose(200);
    let with = |id: &str, name: &str, number: usize, source, group| {
        clinical(id, &format!("Dr. {name} wrote: {story} Sodium {number}."), source, group)
    };
    let texts = vec![
        with("iii-1", "[**Last Name 1**]", 140, 0, 11),
        with("iii-2", "[**Last Name 2**]", 141, 0, 12),
        with("iii-3", "[**Last Name 3**]", 142, 0, 13),
        with("iv-1", "___", 140, 1, 91),
        with("iv-2", "___", 141, 1, 92),
        with("iv-4", "___", 144, 1, 94),
    ];
    let mut texts: Vec<Sample> = texts;
    texts.iter_mut().filter(|text| text.source == 1).for_each(|text| text.rank = 1);
    let outcome = run(&texts, &strict());
    assert_eq!(by_id(&texts, &outcome), ["iv-1 iii-1 near-strict", "iv-2 iii-2 near-strict"]);
    assert_eq!(outcome.clusters.largest[0].documents, 6);
}

#[test]
fn short_notes_go_only_when_almost_equal() {
    let mut random = Random::new(17);
    let note = random.prose(60);
    let case = |words: usize| {
        let texts = vec![clinical("a", &note, 0, 1), clinical("b", &first_words(&note, words), 0, 1)];
        (run(&texts, &strict()).clusters.clusters, run(&texts, &strict()).removals.len())
    };
    assert_eq!(case(98), (1, 1));
    assert_eq!(case(93), (1, 0));
}

#[test]
fn a_later_run_keeps_what_an_earlier_one_published() {
    let mut random = Random::new(18);
    let mut old = background(&mut random);
    old.truncate(40);
    for text in &mut old {
        text.release = Some(0);
    }
    // Two old documents that are copies of each other stay.
    let twin = Sample { id: "old-twin".into(), ..old[5].clone() };
    let mut texts = old;
    texts.push(twin);
    let longer = |i: usize| format!("{} {}", texts[i].text, "more words behind it");
    let new = vec![
        Sample::new("exact", texts[0].text.clone()),
        Sample::new("case", texts[1].text.to_uppercase()),
        // Longer than the old one that it holds: neither goes.
        Sample::new("longer", longer(2)),
        Sample::new("part", first_words(&texts[3].text, 95)),
        Sample::new("fresh", random.prose(200)),
    ];
    texts.extend(new);
    let scratch = tempfile::tempdir().unwrap();
    let source = InMemory { texts: &texts, reads: AtomicUsize::new(0) };
    let entries = entries(&texts, strict().spec);
    let outcome = deduplicate(&entries, &sources(), &strict(), scratch.path(), &source).unwrap();
    assert_eq!(by_id(&texts, &outcome), ["case n001 near-strict", "exact n000 exact", "part n003 near-strict"]);
    // Two texts for each of the three proposed pairs, and the longer text's second look: no other old text is read.
    assert!(source.reads.load(Ordering::Relaxed) <= 7);
    // The totals are those of the new documents.
    let new_characters: u64 = texts[41..].iter().map(|text| text.text.len() as u64).sum();
    assert_eq!(outcome.losses[0].total_characters, new_characters);
}

#[test]
fn a_short_root_does_not_hide_what_the_longest_member_holds() {
    let mut random = Random::new(19);
    let text = random.prose(200);
    let (middle, long) = (format!("{text} {}", random.prose(4)), random.prose(8));
    let texts = vec![
        Sample::new("a", text),
        second(Sample::new("b", middle.clone())),
        second(Sample::new("c", format!("{middle} {long}"))),
    ];
    assert_eq!(by_id(&texts, &run(&texts, &strict())), ["b c near-strict"]);
}

#[test]
fn an_abstract_is_compared_with_the_text_that_stands_for_the_preprint() {
    let mut random = Random::new(20);
    let (summary, common) = (random.prose(80), random.prose(500));
    let mut abridged = Sample::new("s", summary.clone());
    (abridged.abridged, abridged.links) = (true, names(&[1]));
    let mut preprint = Sample::new("p", format!("{summary} {common}"));
    preprint.links = Links { names: vec![1], preprint_of: vec![2], ..Links::default() };
    let mut article = Sample::new("a", format!("{common} {}", random.prose(300)));
    article.links = names(&[2]);
    // Whatever the order of the sources: the preprint goes for the article, which does not hold the abstract.
    for ranks in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let mut texts = vec![abridged.clone(), preprint.clone(), article.clone()];
        texts.iter_mut().zip(ranks).for_each(|(text, rank)| text.rank = rank);
        assert_eq!(by_id(&texts, &run(&texts, &strict())), ["p a preprint"], "{ranks:?}");
    }
}
