//! Operations on elements: conversions, the gated activation, rotation, dropout.

use super::{Checks, Finding, ONE_ROUNDING, Pair, Twins, shape, tokens};
use crate::backend::{Dropout, Pass, Turn};
use crate::gpu::Device;
use crate::shape::Shape;

/// Infinities, zeros of both signs, subnormal and largest numbers, ties to even.
pub(super) fn conversions<D: Device>(checks: &Checks<'_, D>) -> Vec<Finding> {
    let length = 4104;
    let mut twins = Twins::new(checks, &shape(64, 64, 50), 8, 1);
    let [wide, wide_again]: [Pair; 2] = std::array::from_fn(|_| twins.exact(length));
    let [narrow, copied]: [Pair; 2] = std::array::from_fn(|_| twins.values(length));
    twins.start();
    let odd = [f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e-40, f32::MAX, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0];
    let values: Vec<f32> = (0..length).map(|i| odd[i % odd.len()] * (1.0 + (i / odd.len()) as f32 * 1e-3)).collect();
    twins.fill(wide, &values);
    twins.run(|backend, at| {
        backend.convert(at(wide), at(narrow));
        backend.convert(at(narrow), at(wide_again));
        backend.convert(at(narrow), at(copied));
        backend.zero(at(wide).first(9));
    });
    for (operation, pair) in [("narrow", narrow), ("widen", wide_again), ("copy", copied), ("zero", wide)] {
        twins.assert_same(operation, pair, "odd values");
    }
    twins.findings
}

/// Forward, and the gradient with the activation written again.
pub(super) fn gated_activation<D: Device>(checks: &Checks<'_, D>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (order, (rows, width)) in [(1, 8), (7, 184), (5, 1032)].into_iter().enumerate() {
        let case = format!("{rows} rows of {width}");
        let mut twins = Twins::new(checks, &shape(64, width, 50), rows, order as u64);
        let [gate_up, dgate_up]: [Pair; 2] = std::array::from_fn(|_| twins.values(2 * rows * width));
        let [out, dout, again]: [Pair; 3] = std::array::from_fn(|_| twins.values(rows * width));
        twins.start();
        twins.fill_random(gate_up, 0, 4.0);
        twins.fill_random(dout, 1, 1.0);
        twins.run(|backend, at| {
            backend.swiglu(at(gate_up), at(out));
            backend.swiglu_backward(at(gate_up), at(dout), at(dgate_up), at(again));
        });
        twins.assert_rounded_alike("swiglu", out, &case);
        twins.assert_rounded_alike("swiglu_backward", dgate_up, &case);
        twins.assert_repeated("swiglu_backward", [out, again], &case);
        findings.append(&mut twins.findings);
    }
    findings
}

/// Gates so large that the exponential leaves the range: the activation saturates, and nothing is NaN.
pub(super) fn extreme_gates<D: Device>(checks: &Checks<'_, D>) -> Vec<Finding> {
    let mut twins = Twins::new(checks, &shape(64, 8, 50), 1, 0);
    let [gate_up, dgate_up]: [Pair; 2] = std::array::from_fn(|_| twins.values(16));
    let [out, dout]: [Pair; 2] = std::array::from_fn(|_| twins.values(8));
    twins.start();
    let gates = [1e4, -1e4, 100.0, -100.0, 88.0, -88.0, 0.0, -0.0];
    twins.fill(gate_up, &[gates, [1.0; 8]].concat());
    twins.fill(dout, &[1.0; 8]);
    twins.run(|backend, at| backend.swiglu_backward(at(gate_up), at(dout), at(dgate_up), at(out)));
    for pair in [out, dgate_up] {
        twins.assert_near("swiglu_backward", pair, (ONE_ROUNDING, 1e-30), "extreme gates");
        let [_, card] = twins.both(pair);
        assert!(card.iter().all(|value| value.is_finite()), "swiglu_backward, extreme gates: {card:?}");
    }
    twins.findings
}

/// Forward and back, with grouped queries; values stay as they are.
pub(super) fn rotation<D: Device>(checks: &Checks<'_, D>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (order, (head_width, heads, kv_heads)) in [(64, 3, 3), (64, 4, 1), (128, 2, 1)].into_iter().enumerate() {
        let rows = 21;
        let wide = Shape { heads, kv_heads, ..shape(heads * head_width, 64, 50) };
        let mut twins = Twins::new(checks, &wide, rows, order as u64);
        let fused = twins.values(rows * (heads + 2 * kv_heads) * head_width);
        twins.start();
        twins.fill_random(fused, 0, 1.0);
        twins.load(&tokens(rows, 50), rows, &[4, 20], Pass::default());
        for turn in [Turn::Forward, Turn::Back] {
            twins.run(|backend, at| backend.rotate(at(fused), turn));
            twins.assert_same("rotate", fused, &format!("{heads} heads of {head_width}, {turn:?}"));
        }
        findings.append(&mut twins.findings);
    }
    findings
}

/// The same elements are dropped, whatever the row of the step.
pub(super) fn dropout<D: Device>(checks: &Checks<'_, D>) -> Vec<Finding> {
    let (rows, width) = (9, 64);
    let mut twins = Twins::new(checks, &shape(64, 64, 50), rows, 2);
    let [x, out, dx]: [Pair; 3] = std::array::from_fn(|_| twins.values(rows * width));
    twins.start();
    twins.fill_random(x, 0, 1.0);
    twins.fill_random(dx, 1, 1.0);
    twins.load(&tokens(rows, 50), rows, &[9], Pass { scale: 1.0, step: 41, first_row: 1 << 33 });
    let dropout = Dropout { seed: 0x1234_5678_9abc_def0, tensor: 77, probability: 0.3, width };
    twins.run(|backend, at| {
        backend.drop_out(dropout, at(x), at(out));
        backend.drop_out_backward(dropout, at(x), at(dx));
    });
    twins.assert_same("drop_out", out, "9 rows of 64");
    twins.assert_same("drop_out_backward", dx, "9 rows of 64");
    let [_, card] = twins.both(out);
    let dropped = card.iter().filter(|value| **value == 0.0).count() as f64 / card.len() as f64;
    assert!((0.22..0.38).contains(&dropped), "drop_out: {dropped} of the elements are dropped, expected 0.3");
    twins.findings
}
