//! Mixtures worked out by hand, and properties of random ones.

use proptest::{collection::vec, prelude::prop_assert, prelude::prop_assert_eq, proptest};

use super::{Mixture, MixtureError, MixtureSpec, SourceSupply, Total, Unit, plan_mixture, quotas_of};

fn supply(source: &str, domain: usize, tokens: u64, max_epochs: u32) -> SourceSupply {
    SourceSupply { source: source.into(), domain, documents: tokens / 10 + 1, tokens, max_epochs }
}

fn spec(total: Total, weights: [u32; 3], unit: Unit) -> MixtureSpec {
    MixtureSpec { total, weights, unit, sequence_length: 4096 }
}

fn tokens(total: u64) -> Total {
    Total::Tokens(total)
}

/// Supplies of the paper's size, with room for everything asked below.
fn paper_supply() -> Vec<SourceSupply> {
    vec![
        supply("pubmed", 0, 60_000_000_000, 1),
        supply("pmc", 0, 50_000_000_000, 1),
        supply("mimic", 1, 2_000_000_000, 4),
        supply("redpajama", 2, 40_000_000_000, 1),
    ]
}

fn assert_adds_up(mixture: &Mixture, supply: &[SourceSupply]) {
    assert_eq!(mixture.quotas.iter().sum::<u64>(), mixture.total);
    for domain in 0..3 {
        let of_domain = mixture.sources.iter().filter(|share| share.domain == domain);
        assert_eq!(of_domain.map(|share| share.quota).sum::<u64>(), mixture.quotas[domain]);
    }
    for (share, source) in mixture.sources.iter().zip(supply) {
        assert_eq!(share.source, source.source);
        assert_eq!(share.quota, share.full_epochs * share.supply + share.remainder, "{share:?}");
        assert!(share.remainder < share.supply || share.quota == 0, "{share:?}");
        assert!(share.quota <= source.tokens * u64::from(source.max_epochs), "{share:?}");
    }
}

#[test]
fn the_papers_mixture_is_exact_in_tokens_and_in_sequences() {
    let check = |unit, expected: [u64; 3]| {
        let mixture = plan_mixture(&spec(tokens(129_000_000_000), [15, 1, 4], unit), &paper_supply()).unwrap();
        assert_eq!(mixture.quotas, expected);
        assert_adds_up(&mixture, &paper_supply());
        mixture
    };
    let exact = check(Unit::Tokens, [96_750_000_000, 6_450_000_000, 25_800_000_000]);
    assert_eq!(exact.total, 129_000_000_000);
    let mimic = &exact.sources[2];
    assert_eq!((mimic.full_epochs, mimic.remainder), (3, 450_000_000));
    let whole = check(Unit::Sequences, [23_620_605 * 4096, 1_574_707 * 4096, 6_298_828 * 4096]);
    assert_eq!(whole.total, 31_494_140 * 4096);
    assert_eq!(whole.total, 128_999_997_440);
}

#[test]
fn shares_inside_a_domain_follow_supply_under_epoch_caps() {
    let supplies = [supply("a", 0, 30, 1), supply("b", 0, 60, 10), supply("c", 1, 500, 1), supply("z", 0, 0, 9)];
    let check = |total: u64, expected: [u64; 4]| {
        let mixture = plan_mixture(&spec(tokens(total), [1, 1, 0], Unit::Tokens), &supplies).unwrap();
        assert_adds_up(&mixture, &supplies);
        let quotas: Vec<u64> = mixture.sources.iter().map(|share| share.quota).collect();
        assert_eq!(quotas, expected, "{total}");
    };
    check(60, [10, 20, 30, 0]);
    check(61, [10, 21, 30, 0]);
    check(180, [30, 60, 90, 0]);
    check(400, [30, 170, 200, 0]);
}

#[test]
fn the_order_of_sources_does_not_matter() {
    let mut supplies = vec![supply("b", 0, 7, 3), supply("a", 0, 7, 3), supply("c", 0, 7, 3)];
    let plan = |supplies: &[SourceSupply]| {
        let mixture = plan_mixture(&spec(tokens(20), [1, 0, 0], Unit::Tokens), supplies).unwrap();
        let mut shares = mixture.sources;
        shares.sort_by(|a, b| a.source.cmp(&b.source));
        shares
    };
    let expected = plan(&supplies);
    let quotas: Vec<u64> = expected.iter().map(|share| share.quota).collect();
    assert_eq!(quotas, [7, 7, 6]);
    for _ in 0..3 {
        supplies.rotate_left(1);
        assert_eq!(plan(&supplies), expected);
    }
}

#[test]
fn a_weight_of_zero_leaves_a_domain_out() {
    let mixture = plan_mixture(
        &spec(tokens(30), [2, 0, 1], Unit::Tokens),
        &[supply("a", 0, 100, 1), supply("b", 1, 100, 1), supply("c", 2, 100, 1)],
    )
    .unwrap();
    assert_eq!(mixture.quotas, [20, 0, 10]);
    assert_eq!((mixture.sources[1].quota, mixture.sources[1].full_epochs, mixture.sources[1].remainder), (0, 0, 0));
}

#[test]
fn a_short_supply_is_refused_with_what_would_have_to_change() {
    let message = |total, weights, supplies: &[SourceSupply]| {
        plan_mixture(&spec(total, weights, Unit::Tokens), supplies).unwrap_err().to_string()
    };
    let mut supplies = paper_supply();
    supplies[2].max_epochs = 2;
    assert_eq!(
        message(tokens(129_000_000_000), [15, 1, 4], &supplies),
        "mixture: clinical: quota of 6450000000 tokens, capped supply is 4000000000; \
         set max_epochs = 4 on the clinical sources (mimic 2), or lower the total to 80000000010 tokens"
    );
    assert_eq!(
        message(tokens(100), [1, 1, 0], &[supply("a", 0, 100, 1)]),
        "mixture: clinical: quota of 50 tokens, capped supply is 0; add clinical sources or set its weight to 0"
    );
    // One of the two sources may already be used three times: only the other one has to be raised, to 2.
    assert_eq!(
        message(tokens(100), [0, 1, 0], &[supply("a", 1, 20, 3), supply("b", 1, 20, 1)]),
        "mixture: clinical: quota of 100 tokens, capped supply is 80; \
         set max_epochs = 2 on the clinical sources (b 1), or lower the total to 80 tokens"
    );
    // A source that has the passes already is not named.
    let message_of_two = message(tokens(79), [0, 1, 0], &[supply("a", 1, 20, 2), supply("b", 1, 20, 1)]);
    assert!(message_of_two.contains("set max_epochs = 2 on the clinical sources (b 1), or"), "{message_of_two}");
    // All short domains at once, with the first one's figures.
    assert_eq!(
        message(tokens(100), [1, 1, 2], &[supply("a", 0, 20, 1), supply("b", 1, 10, 2), supply("c", 2, 60, 1)]),
        "mixture: biomedical: quota of 25 tokens, capped supply is 20; \
         set max_epochs = 2 on the biomedical sources (a 1) and max_epochs = 3 on the clinical sources (b 2), \
         or lower the total to 81 tokens"
    );
    let many: Vec<SourceSupply> = (0..10).map(|index| supply(&format!("s{index}"), 0, 1, 1)).collect();
    assert!(message(tokens(11), [1, 0, 0], &many).contains("(s0 1, s1 1, s2 1, s3 1, s4 1, s5 1, s6 1, s7 1, …)"));
}

#[test]
fn the_refusals_own_remedies_work() {
    let mut supplies = paper_supply();
    supplies[2].max_epochs = 2;
    let refused = plan_mixture(&spec(tokens(129_000_000_000), [15, 1, 4], Unit::Tokens), &supplies).unwrap_err();
    let MixtureError::Short { fitting_total: Some(fitting), .. } = refused else { panic!("{refused}") };
    assert!(plan_mixture(&spec(tokens(fitting), [15, 1, 4], Unit::Tokens), &supplies).is_ok());
    assert!(plan_mixture(&spec(tokens(fitting + 1), [15, 1, 4], Unit::Tokens), &supplies).is_err());
    supplies[2].max_epochs = 4;
    assert!(plan_mixture(&spec(tokens(129_000_000_000), [15, 1, 4], Unit::Tokens), &supplies).is_ok());
}

#[test]
fn specifications_without_a_meaning_are_refused() {
    let check = |spec: MixtureSpec, supplies: &[SourceSupply], expected: &str| {
        assert_eq!(plan_mixture(&spec, supplies).unwrap_err().to_string(), expected);
    };
    let a = [supply("a", 0, 100, 1)];
    check(spec(tokens(9), [0, 0, 0], Unit::Tokens), &a, "mixture: weights: all zero, expected at least one above zero");
    check(
        spec(tokens(0), [1, 0, 0], Unit::Tokens),
        &a,
        "mixture: total of 0 tokens: less than one unit of 1 tokens, expected at least one",
    );
    check(
        spec(tokens(4095), [1, 0, 0], Unit::Sequences),
        &a,
        "mixture: total of 4095 tokens: less than one unit of 4096 tokens, expected at least one",
    );
    check(
        spec(Total::All, [1, 1, 0], Unit::Tokens),
        &a,
        "mixture: clinical: capped supply of 0 tokens allows no total at weights 1:1:0; \
         add sources, raise their max_epochs or set its weight to 0",
    );
    check(
        spec(tokens(9), [1, 0, 999_999], Unit::Tokens),
        &a,
        "mixture: general: quota of 9 tokens, capped supply is 0; add general sources or set its weight to 0",
    );
    check(
        spec(tokens(9), [1, 0, 1_000_000], Unit::Tokens),
        &a,
        "mixture: weights: sum 1000001 in lowest terms, expected at most 1000000; round them",
    );
    check(
        spec(tokens(9), [1, 0, 0], Unit::Tokens),
        &[a[0].clone(), a[0].clone()],
        "mixture: source a: named twice, expected unique names",
    );
    check(spec(tokens(9), [1, 0, 0], Unit::Tokens), &[supply("a", 3, 1, 1)], "mixture: source a: domain 3, expected 0 to 2");
    let no_length = MixtureSpec { sequence_length: 0, ..spec(tokens(9), [1, 0, 0], Unit::Sequences) };
    check(no_length, &a, "mixture: sequence length: 0, expected at least 1");
}

#[test]
fn all_takes_the_largest_total_that_fits() {
    let check = |weights, unit, sequence_length, capped: [u64; 3], expected: u64| {
        let supplies = [supply("a", 0, capped[0], 1), supply("b", 1, capped[1], 1), supply("c", 2, capped[2], 1)];
        let spec = MixtureSpec { total: Total::All, weights, unit, sequence_length };
        let mixture = plan_mixture(&spec, &supplies).unwrap();
        assert_eq!(mixture.total, expected, "{weights:?} {capped:?}");
        assert_adds_up(&mixture, &supplies);
    };
    check([1, 0, 0], Unit::Tokens, 1, [77, 0, 0], 77);
    check([1, 1, 1], Unit::Tokens, 1, [10, 10, 10], 30);
    // 31 would be 11 : 10 : 10 and 32 would be 11 : 11 : 10, ties going to the first.
    check([1, 1, 1], Unit::Tokens, 1, [11, 10, 10], 31);
    check([1, 1, 1], Unit::Tokens, 1, [10, 11, 11], 30);
    check([15, 1, 4], Unit::Sequences, 4096, [96_750_000_000, 6_450_000_000, 25_800_000_000], 31_494_140 * 4096);
    check([2, 1, 0], Unit::Sequences, 10, [59, 39, 0], 80);
}

proptest! {
    #[test]
    fn all_is_the_largest_total_by_trying_every_one(
        weights in [0_u32..12, 0_u32..12, 0_u32..12], capped in [1_u64..60, 1_u64..60, 1_u64..60], length in 1_u32..4,
    ) {
        if weights == [0, 0, 0] {
            return Ok(());
        }
        let supplies = [supply("a", 0, capped[0], 1), supply("b", 1, capped[1], 1), supply("c", 2, capped[2], 1)];
        let unit = if length == 1 { Unit::Tokens } else { Unit::Sequences };
        let spec = MixtureSpec { total: Total::All, weights, unit, sequence_length: length };
        let fits = |units: &u64| quotas_of(&spec, *units).iter().zip(capped).all(|(&quota, cap)| quota * u64::from(length) <= cap);
        let has_unit = (0..3).all(|domain| weights[domain] == 0 || capped[domain] >= u64::from(length));
        // No total above the sum of the supplies fits.
        let largest = (1..=180).filter(fits).max().filter(|_| has_unit);
        let found = plan_mixture(&spec, &supplies).ok().map(|mixture| mixture.total / u64::from(length));
        prop_assert_eq!(found, largest);
    }

    #[test]
    fn every_mixture_adds_up_or_says_why_not(
        sources in vec((0_usize..3, 0_u64..1_000_000, 0_u32..4), 0..8),
        total in 0_u64..3_000_000, weights in [0_u32..20, 0_u32..20, 0_u32..20],
    ) {
        let supplies: Vec<SourceSupply> =
            (0..).zip(&sources).map(|(index, &(domain, tokens, epochs))| supply(&format!("s{index}"), domain, tokens, epochs)).collect();
        let spec = spec(tokens(total), weights, Unit::Tokens);
        match plan_mixture(&spec, &supplies) {
            Ok(mixture) => {
                prop_assert_eq!(mixture.total, total);
                assert_adds_up(&mixture, &supplies);
            }
            Err(MixtureError::Short { domain, quota, supply, .. }) => {
                prop_assert!(u128::from(quota) > supply, "{domain}: {quota} of {supply}");
            }
            Err(error) => prop_assert!(weights == [0, 0, 0] || total == 0, "{error}"),
        }
    }
}
