//! What must not matter: the order of the entries, the memory budget, the number of threads. And what always holds.

use mellama_dedup::{Options, Outcome, Rule};
use proptest::prelude::{ProptestConfig, proptest};

use crate::corpus::{Random, Sample, by_id, run, strict, tolerant};

/// Texts with copies of every kind: exact, in another case, cut, with an inserted word, of two versions and ranks.
fn mixed(seed: u64, count: usize) -> Vec<Sample> {
    let mut random = Random::new(seed);
    let mut texts: Vec<Sample> = Vec::new();
    for i in 0..count {
        let words = 20 + random.below(150);
        let fresh = random.prose(words);
        let (id, old) = match texts.len() {
            0 => (String::new(), fresh.clone()),
            n => {
                let other = &texts[random.below(n)];
                (other.id.clone(), other.text.clone())
            }
        };
        let text = match random.below(8) {
            0 => old.replace(' ', "  "),
            1 => old.to_uppercase(),
            2 => old.split_once(' ').map_or(old.clone(), |(_, rest)| rest.to_string()),
            3 => old.replacen(' ', " inserted ", 1),
            4 => format!("{old} {}", random.prose(3)),
            _ => fresh,
        };
        let mut document = Sample::new(format!("d{i:03}"), text);
        document.source = random.below(3) as u16;
        document.rank = random.below(2) as u16;
        document.exact_only = random.below(10) == 0;
        if random.below(12) == 0 && !id.is_empty() {
            // A newer version of an old id; versions differ, because equal ones are told apart by their order.
            document.id = id;
            document.version = 2 + i as u32;
        }
        texts.push(document);
    }
    texts
}

fn check_invariants(texts: &[Sample], outcome: &Outcome) {
    let dropped: Vec<u32> = outcome.removals.iter().map(|r| r.dropped).collect();
    assert!(dropped.windows(2).all(|w| w[0] < w[1]), "removals not ascending or twice");
    for removal in &outcome.removals {
        assert!((0.0..=1.0).contains(&removal.similarity));
        let kept_is_dropped = dropped.binary_search(&removal.kept).is_ok();
        let near = matches!(removal.rule, Rule::Strict | Rule::Tolerant);
        assert!(!(near && kept_is_dropped), "a near-duplicate was compared with a removed one");
        assert!(!near || !(texts[removal.dropped as usize].exact_only || texts[removal.kept as usize].exact_only));
        let survivor = outcome.survivor(removal.dropped);
        assert!(dropped.binary_search(&survivor).is_err());
        if removal.rule == Rule::Exact {
            let collapsed = |i: u32| texts[i as usize].text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(collapsed(removal.dropped), collapsed(removal.kept));
        }
        if removal.rule == Rule::Strict {
            // Independent of the code under test: every lowercased 3-gram of the removed text is in the kept one.
            let tokens = |i: u32| -> Vec<String> { texts[i as usize].text.split_whitespace().map(str::to_lowercase).collect() };
            let (kept, gone) = (tokens(removal.kept), tokens(removal.dropped));
            assert!(gone.windows(3).all(|gram| kept.windows(3).any(|g| g == gram)));
        }
    }
    let dropped_by = |rule| outcome.removals.iter().filter(|r| r.rule == rule).count() as u64;
    let lost: u64 = outcome.losses.iter().map(|loss| loss.documents).sum();
    assert_eq!(lost, dropped_by(Rule::Strict) + dropped_by(Rule::Tolerant));
}

/// What must be the same for any order of the entries.
fn facts(texts: &[Sample], outcome: &Outcome) -> (Vec<String>, u64, u64, String) {
    let (candidates, comparisons) = (outcome.candidates, outcome.comparisons);
    let report = serde_json::to_string(&(&outcome.clusters, &outcome.losses)).unwrap();
    (by_id(texts, outcome), candidates, comparisons, report)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn determinism_shuffled_entries_give_the_same_removals(seed in 0u64..1_000_000) {
        let texts = mixed(seed, 120);
        let mut shuffled = texts.clone();
        Random::new(seed + 7).shuffle(&mut shuffled);
        for options in [strict(), tolerant()] {
            let outcome = run(&texts, &options);
            check_invariants(&texts, &outcome);
            assert_eq!(facts(&texts, &outcome), facts(&shuffled, &run(&shuffled, &options)));
        }
    }
}

#[test]
fn determinism_any_memory_gives_the_same_outcome() {
    // 800 documents: a budget of nothing makes four partitions in files.
    for seed in 0..3 {
        let texts = mixed(seed, 800);
        let whole = run(&texts, &strict());
        for memory_bytes in [0, 1, 5000, 9000, 20_000, u64::MAX] {
            let options = Options { memory_bytes, ..strict() };
            assert_eq!(run(&texts, &options), whole, "{memory_bytes} bytes");
        }
    }
}

#[test]
fn determinism_any_number_of_threads_gives_the_same_outcome() {
    let texts = mixed(99, 600);
    let expected = run(&texts, &strict());
    assert!(expected.removals.len() > 100, "the corpus is too easy: {}", expected.removals.len());
    for rule in [Rule::SameId, Rule::Exact, Rule::Strict] {
        assert!(expected.removals.iter().any(|r| r.rule == rule), "no {}", rule.as_str());
    }
    for threads in [1, 2, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| run(&texts, &strict())), expected, "{threads} threads");
    }
}

#[test]
fn a_second_pass_over_what_is_kept_removes_nothing() {
    let texts = mixed(5, 400);
    let outcome = run(&texts, &strict());
    let kept: Vec<Sample> = (0..texts.len())
        .filter(|i| !outcome.removals.iter().any(|r| r.dropped as usize == *i))
        .map(|i| texts[i].clone())
        .collect();
    let again = run(&kept, &strict());
    let rules: Vec<Rule> = again.removals.iter().map(|r| r.rule).collect();
    assert!(!rules.contains(&Rule::SameId) && !rules.contains(&Rule::Exact));
}
