//! Norms, the judgement of a step, and updates.

use std::cell::RefCell;

use super::{Checks, Finding, Pair, Twins, shape};
use crate::backend::{AdamWStep, Backend, Judgement, Limits};
use crate::gpu::Device;
use crate::optimizer::{AdamWConstants, AdamWScalars};

/// Two chunks of the norm, and a rest that is no multiple of what a block reads at once.
const LENGTH: usize = 65_536 + 1_032;

/// What an update changes.
#[derive(Clone, Copy)]
struct Weights {
    master: Pair,
    working: Option<Pair>,
    gradient: Pair,
    moments: [Pair; 2],
}

/// Judges a step and updates; returns both judgements.
fn step<D: Device>(twins: &mut Twins<D>, weights: &Weights, limits: Limits, updates: u64) -> [Judgement; 2] {
    let judged = RefCell::new(Vec::new());
    let constants = AdamWConstants { betas: [0.9, 0.95], epsilon: 1e-8, weight_decay: 0.1 };
    twins.run(|backend, at| {
        backend.begin_step();
        judged.borrow_mut().push(backend.judge(at(weights.gradient), limits));
        backend.adamw(AdamWStep {
            master: at(weights.master),
            working: weights.working.map(at),
            gradient: at(weights.gradient),
            moments: weights.moments.map(at),
            scalars: AdamWScalars::new(constants, 1e-3, true, updates),
        });
    });
    let judged = judged.into_inner();
    let cpu = twins.cpu.judgement(judged[0]).expect("the processor does not fail");
    [cpu, twins.gpu.judgement(judged[1]).unwrap_or_else(|error| panic!("{error}"))]
}

/// Unclipped, clipped, and judged away.
pub(super) fn updates<D: Device>(checks: &Checks<'_, D>) -> Vec<Finding> {
    let mut twins = Twins::new(checks, &shape(64, 64, 50), 8, 1);
    let [master, gradient, first, second]: [Pair; 4] = std::array::from_fn(|_| twins.exact(LENGTH));
    let working = twins.values(LENGTH);
    twins.start();
    twins.fill_random(master, 0, 0.02);
    for pair in [first, second, working] {
        twins.fill(pair, &vec![0.0; LENGTH]);
    }
    let limits = [(0.0, f64::INFINITY), (1.0, f64::INFINITY), (1.0, 1e-3)];
    for (index, (clip, skip_above)) in limits.into_iter().enumerate() {
        twins.fill_random(gradient, 1 + index, 0.1);
        let weights = Weights { master, working: Some(working), gradient, moments: [first, second] };
        let [cpu, card] = step(&mut twins, &weights, Limits { clip, skip_above }, index as u64 + 1);
        assert!((cpu.norm - card.norm).abs() <= 1e-12 * cpu.norm && cpu.finite == card.finite, "judge: {cpu:?}, {card:?}");
        assert!((cpu.factor - card.factor).abs() <= 1e-7 * cpu.factor, "judge: {cpu:?}, {card:?}");
        assert_eq!(card.factor == 0.0, index == 2, "judge: {card:?}");
        let case = format!("step {index}");
        for (operation, pair) in [("adamw: weights", master), ("adamw: first moment", first), ("adamw: second moment", second)] {
            twins.assert_near(operation, pair, (1e-6, 1e-12), &case);
        }
        twins.assert_rounded_alike("adamw: working weights", working, &case);
    }
    let asked = (twins.cpu.norm_of(master.cpu), twins.gpu.norm_of(master.gpu));
    let cpu = twins.cpu.found_norm(asked.0).expect("the processor does not fail");
    let card = twins.gpu.found_norm(asked.1).unwrap_or_else(|error| panic!("{error}"));
    assert!((cpu - card).abs() < 1e-6 * cpu, "norm_of: {cpu}, {card}");
    twins.findings
}

/// A gradient with one NaN or infinity changes nothing.
pub(super) fn not_finite<D: Device>(checks: &Checks<'_, D>) -> Vec<Finding> {
    let mut twins = Twins::new(checks, &shape(64, 64, 50), 8, 1);
    let [master, gradient, first, second]: [Pair; 4] = std::array::from_fn(|_| twins.exact(64));
    twins.start();
    for bad in [f32::NAN, f32::INFINITY] {
        twins.fill_random(master, 0, 1.0);
        let mut values = [0.5; 64];
        values[63] = bad;
        twins.fill(gradient, &values);
        for pair in [first, second] {
            twins.fill(pair, &[0.25; 64]);
        }
        let before = twins.both(master);
        let weights = Weights { master, working: None, gradient, moments: [first, second] };
        let [_, card] = step(&mut twins, &weights, Limits { clip: 1.0, skip_above: f64::INFINITY }, 1);
        assert!(!card.finite && card.factor == 0.0, "judge: {card:?}");
        assert_eq!(twins.both(master), before, "adamw: changed weights in a step with {bad}");
        twins.assert_same("adamw: left out", master, &format!("{bad}"));
    }
    twins.findings
}
