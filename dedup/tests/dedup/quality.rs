//! Quality against brute force on invented texts: the share of candidates by similarity, and what each mode may remove.
//! `dedup/examples/dedup-quality` measures the same on a large scale.
//!
//! Words, shingles and similarities are found here without the crate; sketches and decisions are its own.

use std::collections::BTreeSet;

use mellama_dedup::{NormalForm, Outcome, Rule, SketchSpec, Sketcher};

use crate::corpus::{Random, Sample, run, strict, tolerant};

type Shingles<'a> = BTreeSet<&'a [&'a str]>;

fn jaccard(a: &str, b: &str) -> f64 {
    let words = |text| str::split(text, |c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect::<Vec<_>>();
    let (a, b) = (words(a), words(b));
    let (a, b): (Shingles<'_>, Shingles<'_>) = (a.windows(5).collect(), b.windows(5).collect());
    let common = a.intersection(&b).count();
    common as f64 / (a.len() + b.len() - common) as f64
}

/// Each word replaced with a chance of `per_mille`, by a word that no text has otherwise.
fn replaced(text: &str, per_mille: usize, random: &mut Random) -> String {
    let mut word = |word: &str| {
        let is_replaced = random.below(1000) < per_mille;
        if is_replaced { format!("x{}", spelled(random.below(100_000))) } else { word.to_owned() }
    };
    text.split(' ').map(&mut word).collect::<Vec<_>>().join(" ")
}

/// A word without digits for each number.
fn spelled(number: usize) -> String {
    number.to_string().bytes().map(|b| (b - b'0' + b'a') as char).collect()
}

/// Words without digits; sentences of about twelve.
fn prose(words: usize, random: &mut Random) -> String {
    let word = |random: &mut Random| {
        let stop = if random.below(12) == 0 { "." } else { "" };
        format!("{}{stop}", spelled(10_000 + random.below(80_000)))
    };
    (0..words).map(|_| word(random)).collect::<Vec<_>>().join(" ")
}

#[test]
fn candidates_follow_the_curve_in_every_bin() {
    const PAIRS: u32 = 400;
    const BINS: usize = 13;
    let spec = SketchSpec::default();
    let sketcher = Sketcher::new(spec).unwrap();
    let bands = |text: &str| sketcher.sketch(text, NormalForm::Plain).bands;
    let mut random = Random::new(41);
    // Pairs, candidates and expected candidates from 0.35, 0.40 … to 1.
    let mut bins = [(0u32, 0u32, 0.0); BINS];
    while bins.iter().any(|bin| bin.0 < PAIRS) {
        let base = prose(250, &mut random);
        // A shingle stays with (1 - p)^5; two sets of one size with that share in common have J = c / (2 - c).
        let aim = 0.34 + random.below(660) as f64 / 1000.0;
        let replaced_share = 1.0 - (2.0 * aim / (1.0 + aim)).powf(0.2);
        let copy = replaced(&base, (1000.0 * replaced_share) as usize, &mut random);
        let similarity = jaccard(&base, &copy);
        if (0.35..1.0).contains(&similarity) {
            let bin = &mut bins[((similarity - 0.35) / 0.05) as usize];
            if bin.0 < PAIRS {
                let hit = bands(&base).iter().zip(bands(&copy)).any(|(x, y)| *x == y);
                *bin = (bin.0 + 1, bin.1 + u32::from(hit), bin.2 + spec.candidate_probability(similarity));
            }
        }
    }
    for (at, (pairs, hits, expected)) in bins.into_iter().enumerate() {
        let (share, p) = (f64::from(hits) / f64::from(pairs), expected / f64::from(pairs));
        // The hits of independent pairs are binomial: standard error sqrt(p(1 − p)/n), at most 0.025 here. Four of them are
        // passed by chance in one of 16,000 bins; one pair more is for bins where p is 0 or 1 but for rounding.
        let allowed = 4.0 * (p * (1.0 - p) / f64::from(pairs)).sqrt() + 1.0 / f64::from(pairs);
        assert!((share - p).abs() <= allowed, "bin {at}: {share} of {pairs}, curve {p}, allowed {allowed}");
    }
}

/// A sentence with a value, put into the middle of a note.
fn with_value(note: &str, sentence: &str) -> String {
    let at = note.len() / 2 + note[note.len() / 2..].find(' ').unwrap();
    format!("{}{sentence}{}", &note[..at], &note[at..])
}

/// Notes that differ in one clinical value; the number says whether `tolerant`, which compares numbers, can see it.
const VALUES: [(&str, [&str; 2], bool); 9] = [
    (" Enoxaparin {} mg was given at night.", ["40", "60"], true),
    (" Warfarin {} mg was given at night.", ["2.5", "25"], true),
    (" The {} knee was marked.", ["left", "right"], false),
    (" There is {}pneumothorax on this film.", ["no ", ""], false),
    (" The base excess was {} this morning.", ["-4.2", "4.2"], true),
    (" The cast came off on {} here.", ["2026-03-14", "2026-04-14"], true),
    (" Troponin was {} on arrival.", ["<14", ">14"], true),
    (" Oxygen saturation was {} on air.", ["92%", "92"], true),
    (" Levothyroxine 50 {} every morning.", ["mcg", "mg"], false),
];

#[test]
fn templated_notes_that_differ_in_a_clinical_value_stay() {
    let mut random = Random::new(42);
    let mut texts = Vec::new();
    for copy in 0..20 {
        for (kind, (sentence, values, _)) in VALUES.iter().enumerate() {
            let note = prose(150 + random.below(150), &mut random);
            for (which, value) in values.iter().enumerate() {
                let text = with_value(&note, &sentence.replace("{}", value));
                texts.push(Sample::new(format!("{kind}-{copy}-{which}"), text));
            }
        }
    }
    let outcome = run(&texts, &strict());
    // All are proposed: nothing is kept because it was not looked at.
    assert_eq!((outcome.clusters.clusters, outcome.removals.len()), (180, 0));
    for removal in run(&texts, &tolerant()).removals {
        let kind: usize = texts[removal.dropped as usize].id.split('-').next().unwrap().parse().unwrap();
        assert!(!VALUES[kind].2, "{} was removed", texts[removal.dropped as usize].id);
    }
}

/// Families of one text: an exact copy, cuts at either end, copies with replaced words, and chains of both.
fn families(random: &mut Random) -> Vec<Sample> {
    let mut texts = Vec::new();
    for family in 0..40 {
        let base = prose(250 + random.below(100), random);
        let words: Vec<&str> = base.split(' ').collect();
        let mut add = |kind: &str, text: String| texts.push(Sample::new(format!("{family:02}-{kind}"), text));
        add("base", base.clone());
        add("exact", base.replace(' ', "  "));
        add("case", base.to_uppercase());
        let cut = 1 + random.below(12);
        add("cut-end", words[..words.len() - cut].join(" "));
        add("cut-start", words[cut..].join(" "));
        for percent in 0..6 {
            add(&format!("near-{percent}"), replaced(&base, 10 * percent, random));
        }
    }
    texts
}

fn check_removals(texts: &[Sample], outcome: &Outcome, least: f64) {
    let gone: BTreeSet<u32> = outcome.removals.iter().map(|removal| removal.dropped).collect();
    for removal in outcome.removals.iter().filter(|removal| removal.rule != Rule::Exact) {
        let [dropped, kept] = [removal.dropped, removal.kept].map(|index| texts[index as usize].text.to_lowercase());
        let similarity = jaccard(&dropped, &kept);
        assert!((similarity - removal.similarity).abs() < 1e-12, "{similarity} measured, {} told", removal.similarity);
        assert!(!gone.contains(&removal.kept), "proved by a removed document");
        assert!(similarity >= least, "{similarity}");
        if removal.rule == Rule::Strict {
            let grams = |text: &str| -> BTreeSet<Vec<String>> {
                let tokens: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
                tokens.windows(3).map(<[String]>::to_vec).collect()
            };
            assert!(grams(&dropped).is_subset(&grams(&kept)), "{}", texts[removal.dropped as usize].id);
        }
    }
}

#[test]
fn strict_finds_what_is_held_and_tolerant_what_is_alike() {
    let mut random = Random::new(43);
    let texts = families(&mut random);
    let (by_strict, by_tolerant) = (run(&texts, &strict()), run(&texts, &tolerant()));
    check_removals(&texts, &by_strict, 0.0);
    check_removals(&texts, &by_tolerant, 0.95);
    let removed = |outcome: &Outcome, kind: &str| {
        outcome.removals.iter().filter(|removal| texts[removal.dropped as usize].id.ends_with(kind)).count()
    };
    // Of copies that differ in white space the one with more of it is longer and stays.
    assert_eq!(removed(&by_strict, "-exact"), 0);
    for kind in ["-base", "-case", "-cut-end", "-cut-start", "-near-0"] {
        assert_eq!(removed(&by_strict, kind), 40, "{kind}");
    }
    // One word in twenty: some copies reach 0.95 with one percent replaced, none with five.
    assert_eq!(removed(&by_strict, "-near-5"), 0);
    assert_eq!(removed(&by_tolerant, "-near-5"), 0);
    assert!(removed(&by_tolerant, "-near-1") > removed(&by_strict, "-near-1"));
    // Each family keeps a document, and those that are gone stand for one that is kept.
    for (index, text) in texts.iter().enumerate() {
        assert_eq!(texts[by_strict.survivor(index as u32) as usize].id[..2], text.id[..2]);
    }
}

#[test]
fn a_chain_does_not_pass_on_what_its_links_prove() {
    let mut random = Random::new(44);
    let mut texts = Vec::new();
    for chain in 0..20 {
        let mut text = prose(200, &mut random);
        for link in 0..8 {
            texts.push(Sample::new(format!("{chain:02}-{link}"), text.clone()));
            // One word, so that a link has 191 of 201 shingles in common, two links 186 of 206 and so on.
            let words: Vec<&str> = text.split(' ').collect();
            let at = 10 + 24 * link;
            text = [&words[..at], &["changed"], &words[at + 1..]].concat().join(" ");
        }
    }
    let outcome = run(&texts, &tolerant());
    assert_eq!(outcome.clusters.clusters, 20);
    check_removals(&texts, &outcome, 0.95);
    // The last link is the longest, because "changed" is longer than any word, and it proves its neighbour only.
    assert_eq!(outcome.removals.len(), 20);
    assert!(
        outcome
            .removals
            .iter()
            .all(|r| texts[r.kept as usize].id.ends_with("-7") && texts[r.dropped as usize].id.ends_with("-6"))
    );
    assert_eq!(run(&texts, &strict()).removals, []);
}

#[test]
fn a_chain_of_cuts_is_held_by_its_longest_link() {
    let mut random = Random::new(45);
    let words: Vec<String> = prose(300, &mut random).split(' ').map(str::to_owned).collect();
    let texts: Vec<Sample> =
        (0..8).map(|link| Sample::new(format!("{link}"), words[..words.len() - 8 * link].join(" "))).collect();
    let outcome = run(&texts, &strict());
    assert_eq!(outcome.removals.len(), 7);
    assert!(outcome.removals.iter().all(|removal| removal.kept == 0));
    // No number is in them, so the similarity to the longest decides: 288 of 296 shingles are enough, 280 are not.
    let gone: Vec<u32> = run(&texts, &tolerant()).removals.iter().map(|removal| removal.dropped).collect();
    assert_eq!(gone, [1]);
}
