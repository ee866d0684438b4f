//! Operations on whole rows: embedding, norms, cross-entropy.

use super::{Checks, Finding, ONE_ROUNDING, Pair, Twins, shape, tokens};
use crate::backend::{CrossEntropy, Norm, NormBackward, Pass, Residual};
use crate::gpu::Device;

/// Rows of a table, and the sum of their gradients in row order: the same bits.
pub(super) fn embedding<D: Device>(checks: &Checks<'_, D>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (order, (rows, width)) in [(1, 64), (33, 192), (90, 2112)].into_iter().enumerate() {
        let mut twins = Twins::new(checks, &shape(width, 64, 50), rows, order as u64);
        let picked: Vec<u32> = [0, rows as u32 - 1, 0].into_iter().take(rows).collect();
        let (table, out) = (twins.values(50 * width), twins.values(rows * width));
        let (dout, dtable, chosen) = (twins.values(rows * width), twins.exact(50 * width), twins.values(picked.len() * width));
        twins.start();
        twins.fill_random(table, 0, 1.0);
        twins.fill_random(dout, 1, 1.0);
        twins.fill_random(dtable, 2, 1.0);
        twins.load(&tokens(rows, 50), rows, &[rows as u32], Pass::default());
        twins.run(|backend, at| {
            backend.embed(at(table), at(out));
            backend.embed_backward(at(dout), at(dtable));
            backend.gather(at(out), &picked, at(chosen));
        });
        let case = format!("{rows} rows of {width}");
        for (operation, pair) in [("embed", out), ("embed_backward", dtable), ("gather", chosen)] {
            twins.assert_same(operation, pair, &case);
        }
        findings.append(&mut twins.findings);
    }
    findings
}

/// One chunk of a row's values a thread, two with a rest, three of four, eight.
pub(super) fn norms<D: Device>(checks: &Checks<'_, D>) -> Vec<Finding> {
    let cases = [(1, 64), (17, 192), (33, 2112), (18, 5120), (2, 16384)];
    cases.into_iter().enumerate().flat_map(|(order, (rows, width))| norm(checks, order as u64, (rows, width))).collect()
}

fn norm<D: Device>(checks: &Checks<'_, D>, order: u64, (rows, width): (usize, usize)) -> Vec<Finding> {
    let case = format!("{rows} rows of {width}");
    let mut twins = Twins::new(checks, &shape(width, 64, 50), rows, order);
    let [x, delta, sum, out, again, plain, dout, dx]: [Pair; 8] = std::array::from_fn(|_| twins.values(rows * width));
    let (weight, rstd, plain_rstd, dweight) = (twins.values(width), twins.exact(rows), twins.exact(rows), twins.exact(width));
    twins.start();
    for (stream, pair) in [x, delta, weight, dout, dx, dweight].into_iter().enumerate() {
        twins.fill_random(pair, stream, 1.0);
    }
    twins.run(|backend, at| {
        let residual = Some(Residual { delta: at(delta), sum: at(sum) });
        let weight = at(weight);
        backend.norm(Norm { x: at(x), residual, weight, epsilon: 1e-5, out: at(out), rstd: at(rstd) });
        backend.norm(Norm { x: at(x), residual: None, weight, epsilon: 1e-5, out: at(plain), rstd: at(plain_rstd) });
        backend.norm_rebuild(at(sum), weight, at(rstd), at(again));
        let (x, rstd, dout, dx) = (at(sum), at(rstd), at(dout), at(dx));
        backend.norm_backward(NormBackward { x, weight, rstd, dout, dx, dweight: Some(at(dweight)) });
    });
    twins.assert_same("norm: sum", sum, &case);
    // C squares summed in two orders: each sum is off by at most the depth of its tree, at most 64 steps, times 2^-24.
    let depth = (64.0 / 16_777_216.0, 0.0);
    twins.assert_near("norm: rstd", rstd, depth, &case);
    twins.assert_near("norm: rstd", plain_rstd, depth, &case);
    twins.assert_rounded_alike("norm", out, &case);
    twins.assert_rounded_alike("norm", plain, &case);
    twins.assert_repeated("norm_rebuild", [out, again], &case);
    twins.assert_rounded_within("norm_backward: dx", dx, GRADIENT_OF_INPUT, &case);
    // Sums of up to 33 terms of size 1 in two orders.
    twins.assert_near("norm_backward: dweight", dweight, (1e-5, 1e-4), &case);
    twins.findings
}

/// What two sums of a row's gradient differ by: a mean of terms of size 1, off by at most 64 steps times 2^-24, times an element of up
/// to 5.
const GRADIENT_OF_INPUT: f32 = 5.0 * 64.0 / 16_777_216.0;

/// The gradient of the input alone.
pub(super) fn frozen_norm<D: Device>(checks: &Checks<'_, D>) -> Vec<Finding> {
    let (rows, width) = (19, 192);
    let mut twins = Twins::new(checks, &shape(width, 64, 50), rows, 3);
    let [x, dout, dx]: [Pair; 3] = std::array::from_fn(|_| twins.values(rows * width));
    let (weight, rstd) = (twins.values(width), twins.exact(rows));
    twins.start();
    for (stream, pair) in [x, dout, dx, weight, rstd].into_iter().enumerate() {
        twins.fill_random(pair, stream, 0.5);
    }
    twins.run(|backend, at| {
        let (x, weight, rstd, dout, dx) = (at(x), at(weight), at(rstd), at(dout), at(dx));
        backend.norm_backward(NormBackward { x, weight, rstd, dout, dx, dweight: None });
    });
    twins.assert_rounded_within("norm_backward: dx", dx, GRADIENT_OF_INPUT, "frozen weight");
    twins.findings
}

/// Vocabularies that are a multiple of a pack and not; extreme, equal and infinite logits; rows without a target.
pub(super) fn cross_entropy<D: Device>(checks: &Checks<'_, D>) -> Vec<Finding> {
    let cases = [9, 97, 512, 4104].into_iter().enumerate();
    cases.flat_map(|(order, vocabulary)| cross_entropy_of(checks, order as u64, vocabulary)).collect()
}

fn cross_entropy_of<D: Device>(checks: &Checks<'_, D>, order: u64, vocabulary: usize) -> Vec<Finding> {
    let (rows, case) = (12, format!("vocabulary {vocabulary}"));
    let mut twins = Twins::new(checks, &shape(64, 64, vocabulary), rows, order);
    // The gradient in two pieces, as the head takes them.
    let pieces = [(0, 7), (7, rows - 7)].map(|(first, count)| (first, count, twins.values(count * vocabulary)));
    let kept = twins.values(rows * vocabulary);
    let (losses, alone) = (twins.exact(rows), twins.exact(rows));
    twins.start();
    let ids = tokens(rows, vocabulary as u32);
    twins.load(&ids, rows, &[5, 10], Pass { scale: 0.25, step: 0, first_row: 0 });
    twins.fill_random(kept, 1, 3.0);
    let [mut values, _] = twins.both(kept);
    values[..vocabulary].fill(-1e30);
    values[vocabulary] = 90.0;
    values[2 * vocabulary..3 * vocabulary].fill(0.0);
    values[3 * vocabulary + 1] = f32::NEG_INFINITY;
    twins.fill(kept, &values);
    for (first, count, logits) in pieces {
        twins.fill(logits, &values[first * vocabulary..(first + count) * vocabulary]);
    }
    twins.run(|backend, at| {
        backend.begin_step();
        backend.cross_entropy(CrossEntropy { logits: at(kept), losses: at(alone), first_row: 0, gradient: false });
        for (first, count, logits) in pieces {
            let (logits, losses) = (at(logits), at(losses).part(first..first + count));
            backend.cross_entropy(CrossEntropy { logits, losses, first_row: first, gradient: true });
        }
    });
    // Sums of V exponentials of two libraries, each a unit in the last place off.
    twins.assert_near("cross_entropy: losses", losses, (1e-5, 1e-5), &case);
    twins.assert_near("cross_entropy: losses", alone, (1e-5, 1e-5), &case);
    twins.assert_same("cross_entropy: logits kept", kept, &case);
    for (_, _, logits) in pieces {
        twins.assert_near("cross_entropy: gradient", logits, (ONE_ROUNDING, 1e-9), &case);
    }
    twins.findings
}
