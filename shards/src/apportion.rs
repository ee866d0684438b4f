//! Integer apportionment: splitting a total by weights with largest remainders, and under ceilings.
//!
//! It knows numbers only, neither domains nor sources.

/// Splits `total` in proportion to `weights`, in whole numbers that sum to `total` exactly.
///
/// Every part gets the floor of its exact share; what is left goes, one each, to the largest remainders, ties to the smaller
/// index. So each part is the floor or the ceiling of its exact share. All weights zero gives all zeros.
pub fn by_largest_remainder(total: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let exact = |weight: u64| u128::from(total) * u128::from(weight);
    let mut parts: Vec<u64> = weights.iter().map(|&weight| (exact(weight) / sum) as u64).collect();
    let left = total - parts.iter().sum::<u64>();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(exact(weights[index]) % sum), index));
    // The remainders sum to `left` times `sum` and each is below `sum`: at least `left` of them are above zero.
    // So fewer are left over than there are parts.
    for &index in order.iter().take(left as usize) {
        parts[index] += 1;
    }
    parts
}

/// Splits `total` in proportion to `supplies`, no part above its ceiling; what a ceiling holds back is split among the others
/// in proportion again.
///
/// Returns `None` when the ceilings sum to less than `total`. `ceilings` are multiples of `supplies` in a mixture, but need
/// not be; a part without supply gets nothing.
pub fn under_ceilings(total: u64, supplies: &[u64], ceilings: &[u128]) -> Option<Vec<u64>> {
    let usable = |index: usize| {
        if supplies[index] == 0 { 0 } else { ceilings[index] }
    };
    if (0..supplies.len()).map(usable).sum::<u128>() < u128::from(total) {
        return None;
    }
    let mut parts = vec![0; supplies.len()];
    let mut open: Vec<usize> = (0..supplies.len()).filter(|&index| supplies[index] > 0).collect();
    let mut left = total;
    loop {
        let sum: u128 = open.iter().map(|&index| u128::from(supplies[index])).sum();
        let is_over = |index: usize| u128::from(left) * u128::from(supplies[index]) / sum.max(1) >= ceilings[index];
        let (full, rest): (Vec<usize>, Vec<usize>) = open.iter().partition(|&&index| is_over(index));
        if full.is_empty() {
            break;
        }
        // Filling one part can only raise the share of the others, so a part that is over its ceiling stays over it.
        for index in full {
            parts[index] = ceilings[index].min(u128::from(left)) as u64;
        }
        left = total - parts.iter().sum::<u64>();
        open = rest;
    }
    // Every exact share left has a floor below its ceiling, so the ceiling of the share fits.
    let weights: Vec<u64> = open.iter().map(|&index| supplies[index]).collect();
    for (&index, part) in open.iter().zip(by_largest_remainder(left, &weights)) {
        parts[index] = part;
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::{by_largest_remainder, under_ceilings};
    use proptest::{collection::vec, prelude::any, prop_assert, prop_assert_eq, proptest};

    #[test]
    fn shares_are_exact() {
        let check = |total, weights: &[u64], expected: &[u64]| {
            assert_eq!(by_largest_remainder(total, weights), expected, "{total} by {weights:?}");
        };
        check(129_000_000_000, &[15, 1, 4], &[96_750_000_000, 6_450_000_000, 25_800_000_000]);
        check(31_494_140, &[15, 1, 4], &[23_620_605, 1_574_707, 6_298_828]);
        check(10, &[1, 1, 1], &[4, 3, 3]);
        check(11, &[1, 1, 1], &[4, 4, 3]);
        check(1, &[1, 2, 0], &[0, 1, 0]);
        check(5, &[0, 0], &[0, 0]);
        check(0, &[3, 4], &[0, 0]);
        check(u64::MAX, &[u64::MAX, u64::MAX], &[u64::MAX / 2 + 1, u64::MAX / 2]);
    }

    #[test]
    fn ceilings_hand_their_excess_on() {
        let check = |total, supplies: &[u64], ceilings: &[u128], expected: Option<&[u64]>| {
            assert_eq!(under_ceilings(total, supplies, ceilings).as_deref(), expected, "{total} of {supplies:?}");
        };
        check(100, &[50, 50], &[50, 50], Some(&[50, 50]));
        check(101, &[50, 50], &[50, 50], None);
        check(90, &[30, 60], &[30, 600], Some(&[30, 60]));
        // 150 of 30 : 60 would be 50 : 100; the first stops at 30, the second takes the rest.
        check(150, &[30, 60], &[30, 600], Some(&[30, 120]));
        // Two ceilings in turn: only after the first is full does the second run over.
        check(200, &[10, 40, 50], &[10, 75, 500], Some(&[10, 75, 115]));
        check(10, &[0, 5], &[0, 100], Some(&[0, 10]));
        check(10, &[0, 5], &[100, 5], None);
        check(0, &[0, 0], &[0, 0], Some(&[0, 0]));
        check(7, &[1, 1, 1], &[9, 9, 2], Some(&[3, 2, 2]));
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_total_and_stay_within_one_of_their_share(total in any::<u64>(), weights in vec(0_u64..1 << 40, 1..9)) {
            let parts = by_largest_remainder(total, &weights);
            let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
            if sum > 0 {
                prop_assert_eq!(parts.iter().map(|&part| u128::from(part)).sum::<u128>(), u128::from(total));
                for (&part, &weight) in parts.iter().zip(&weights) {
                    let exact = u128::from(total) * u128::from(weight);
                    prop_assert!((u128::from(part) * sum).abs_diff(exact) < sum);
                }
            }
        }

        #[test]
        fn parts_under_ceilings_keep_the_sum_and_every_ceiling(
            sources in vec((0_u64..1 << 30, 0_u32..5), 1..9), share in 0_u64..=1000,
        ) {
            let supplies: Vec<u64> = sources.iter().map(|source| source.0).collect();
            let ceilings: Vec<u128> = sources.iter().map(|&(supply, epochs)| u128::from(supply) * u128::from(epochs)).collect();
            let room: u128 = ceilings.iter().sum();
            let total = (room * u128::from(share) / 1000) as u64;
            let parts = under_ceilings(total, &supplies, &ceilings).expect("the total is within the ceilings");
            prop_assert_eq!(parts.iter().sum::<u64>(), total);
            for (&part, &ceiling) in parts.iter().zip(&ceilings) {
                prop_assert!(u128::from(part) <= ceiling);
            }
            prop_assert!(under_ceilings(room as u64 + 1, &supplies, &ceilings).is_none());
        }
    }
}
