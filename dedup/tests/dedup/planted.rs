//! Copies planted among unrelated texts, each with a known answer.

use mellama_dedup::{NormalForm, Options, Removal, Rule, VerifyMode};

use crate::corpus::{Random, Sample, by_id, run, strict, tolerant};

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
        Sample::new("x-exact", base(0).replace(' ', "\n")),
        // Case changed: not exact, but every token is held. Same length, so the smaller id stays.
        Sample::new("x-case", base(1).to_uppercase()),
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

/// A cluster of notes of one length in which each note has another number; ids in priority order.
fn notes(template: &str, count: usize) -> Vec<Sample> {
    (0..count).map(|i| Sample::new(format!("note{i:04}"), format!("{template} Room {:04} is his.", 1000 + i))).collect()
}

#[test]
fn a_cluster_has_at_most_32_representatives() {
    let mut random = Random::new(10);
    let mut texts = notes(&random.prose(200), 40);
    // Equal tokens, another case: proved by a representative, and notes 0 to 31 are the representatives.
    for i in [0, 1, 31, 32, 39] {
        let copy = texts[i].text.to_uppercase();
        texts.push(Sample::new(format!("z{i}"), copy));
    }
    let outcome = run(&texts, &strict());
    assert_eq!(outcome.clusters.largest[0].documents, 45);
    assert_eq!(by_id(&texts, &outcome), ["z0 note0000 near-strict", "z1 note0001 near-strict", "z31 note0031 near-strict"]);
}

#[test]
fn representatives_have_at_most_two_million_characters() {
    let mut random = Random::new(11);
    let template = random.prose(115_000);
    // Alike enough to meet, unlike enough for their signatures to differ. Words decide the priority.
    let mut texts: Vec<Sample> = [("a", 19_000), ("b", 18_000), ("c", 17_000)]
        .map(|(id, words)| Sample::new(id, format!("{template} {}", random.prose(words))))
        .to_vec();
    let total = |count: usize| texts[..count].iter().map(|t| t.text.len()).sum::<usize>();
    assert!(total(2) < 2_000_000 && total(3) > 2_000_000, "{}", total(3));
    for i in 0..3 {
        let copy = texts[i].text.to_uppercase();
        texts.push(Sample::new(format!("z-{}", texts[i].id), copy));
    }
    let outcome = run(&texts, &strict());
    assert_eq!(outcome.clusters.largest[0].documents, 6);
    // a and b are representatives; c is kept, but there is no room for it.
    assert_eq!(by_id(&texts, &outcome), ["z-a a near-strict", "z-b b near-strict"]);
}

#[test]
fn determinism_a_large_cluster_is_decided_as_a_small_one() {
    let mut random = Random::new(12);
    let mut texts = notes(&random.prose(60), 700);
    for base in [0, 7] {
        for pattern in 1..=150 {
            let copy = upper_words(&texts[base].text, pattern);
            texts.push(Sample::new(format!("z{base}-{pattern}"), copy));
        }
    }
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let outcome = run(&texts, &strict());
    assert_eq!(one_thread.install(|| run(&texts, &strict())), outcome);
    assert_eq!((outcome.clusters.clusters, outcome.clusters.documents), (1, 1000));
    let kept = |id: &str| {
        let of = |r: &&Removal| texts[r.kept].id == id && r.rule == Rule::Strict;
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
