//! Norms, the judgement of a step, and updates of weights in two halves.

use std::cell::RefCell;

use super::{Checks, Finding, Pair, SplitPair, Twins, shape};
use crate::backend::{AdamWStep, Backend, Buffer, Draw, Judgement, Limits, Moments};
use crate::gpu::Device;
use crate::optimizer::{AdamWConstants, AdamWScalars};

/// Two chunks of the norm, and a rest that is no multiple of what a block reads at once.
const LENGTH: usize = 65_536 + 1_032;
const CONSTANTS: AdamWConstants = AdamWConstants { betas: [0.9, 0.95], epsilon: 1e-8, weight_decay: 0.1 };
const NO_LIMITS: Limits = Limits { clip: 0.0, skip_above: f64::INFINITY };
/// Far enough into a set of tensors that both words of a block's number count.
const FIRST_ELEMENT: u64 = (8 << 32) + 64;

/// What an update changes.
struct Trained {
    weights: SplitPair,
    gradient: Pair,
    moments: [Pair; 2],
    /// Whether moments are bf16.
    drawn: bool,
}

impl Trained {
    fn new<D: Device>(twins: &mut Twins<D>, length: usize, drawn: bool) -> Self {
        let moments = [(); 2].map(|()| if drawn { twins.values(length) } else { twins.exact(length) });
        Self { weights: twins.split(length), gradient: twins.exact(length), moments, drawn }
    }

    fn step(&self, at: &dyn Fn(Pair) -> Buffer, learning_rate: f64, updates: u64) -> AdamWStep {
        let draw = Draw { seed: 0x1234_5678_9abc_def0, update: updates, first_element: FIRST_ELEMENT };
        let moments = self.moments.map(at);
        AdamWStep {
            weights: self.weights.at(at),
            gradient: at(self.gradient),
            moments: if self.drawn { Moments::Drawn(moments, draw) } else { Moments::Exact(moments) },
            scalars: AdamWScalars::new(CONSTANTS, learning_rate, true, updates),
        }
    }
}

/// Judges a step; returns both judgements.
fn judge<D: Device>(twins: &mut Twins<D>, gradient: Pair, limits: Limits) -> [Judgement; 2] {
    let judged = RefCell::new(Vec::new());
    twins.run(|backend, at| {
        backend.begin_step();
        judged.borrow_mut().push(backend.judge(at(gradient), limits));
    });
    let judged = judged.into_inner();
    let cpu = twins.cpu.judgement(judged[0]).expect("the processor does not fail");
    [cpu, twins.gpu.judgement(judged[1]).unwrap_or_else(|error| panic!("{error}"))]
}

/// Unclipped, clipped, and judged away; moments in f32 and in bf16.
pub(super) fn updates<D: Device>(checks: &Checks<'_, D>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for drawn in [false, true] {
        let mut twins = Twins::new(checks, &shape(64, 64, 50), 8, 1);
        let trained = Trained::new(&mut twins, LENGTH, drawn);
        twins.start();
        let weights = twins.random(LENGTH, 0, 0.02);
        twins.fill_weights(trained.weights, &weights);
        for pair in trained.moments {
            twins.fill(pair, &vec![0.0; LENGTH]);
        }
        let limits = [(0.0, f64::INFINITY), (1.0, f64::INFINITY), (1.0, 1e-3)];
        for (index, (clip, skip_above)) in limits.into_iter().enumerate() {
            twins.fill_random(trained.gradient, 1 + index, 0.1);
            let [cpu, card] = judge(&mut twins, trained.gradient, Limits { clip, skip_above });
            twins.run(|backend, at| backend.adamw(trained.step(at, 1e-3, index as u64 + 1)));
            assert!((cpu.norm - card.norm).abs() <= 1e-12 * cpu.norm && cpu.finite == card.finite, "judge: {cpu:?}, {card:?}");
            assert!((cpu.factor - card.factor).abs() <= 1e-7 * cpu.factor, "judge: {cpu:?}, {card:?}");
            assert_eq!(card.factor == 0.0, index == 2, "judge: {card:?}");
            // The norms may differ in their last bits, hence factors in theirs; where they do not, nothing may.
            let same_factor = (cpu.factor as f32).to_bits() == (card.factor as f32).to_bits();
            compare(
                &mut twins,
                &trained,
                same_factor,
                &format!("step {index}, moments in {}", if drawn { "bf16" } else { "f32" }),
            );
        }
        norms(&mut twins, &trained);
        findings.append(&mut twins.findings);
    }
    findings
}

fn compare<D: Device>(twins: &mut Twins<D>, trained: &Trained, same_factor: bool, case: &str) {
    let named = [("adamw: first moment", trained.moments[0]), ("adamw: second moment", trained.moments[1])];
    if same_factor {
        twins.assert_same_weights("adamw: weights", trained.weights, case);
        for (operation, pair) in named {
            twins.assert_same(operation, pair, case);
        }
        return;
    }
    twins.assert_rounded_alike("adamw: weights", trained.weights.working, case);
    for (operation, pair) in named {
        if trained.drawn {
            twins.assert_rounded_alike(operation, pair, case);
        } else {
            twins.assert_near(operation, pair, (1e-6, 1e-12), case);
        }
    }
}

/// The norm of whole weights.
fn norms<D: Device>(twins: &mut Twins<D>, trained: &Trained) {
    let asked = (twins.cpu.norm_of(trained.weights.at(|pair| pair.cpu)), twins.gpu.norm_of(trained.weights.at(|pair| pair.gpu)));
    let cpu = twins.cpu.found_norm(asked.0).expect("the processor does not fail");
    let card = twins.gpu.found_norm(asked.1).unwrap_or_else(|error| panic!("{error}"));
    // Squares of weights that may differ by 1e-6, summed in f64.
    assert!((cpu - card).abs() < 1e-6 * cpu, "norm_of: {cpu}, {card}");
}

/// Every upper half of a weight, with ties and what lies around them: put in, read back, and through an update that moves nothing,
/// then the last bits.
pub(super) fn patterns<D: Device>(checks: &Checks<'_, D>) -> Vec<Finding> {
    let lows = [0, 0x7fff, 0x8000, 0xffff_u32];
    let weights: Vec<f32> = (0..=u16::MAX).flat_map(|high| lows.map(|low| f32::from_bits(u32::from(high) << 16 | low))).collect();
    let mut twins = Twins::new(checks, &shape(64, 64, 50), 8, 1);
    let trained = Trained::new(&mut twins, weights.len(), false);
    twins.start();
    twins.fill_weights(trained.weights, &weights);
    for pair in [trained.gradient, trained.moments[0], trained.moments[1]] {
        twins.fill(pair, &vec![0.0; weights.len()]);
    }
    twins.assert_same_weights("weights in two halves", trained.weights, "put in");
    let [_, card] = twins.both_weights(trained.weights);
    for (given, read) in weights.iter().zip(&card) {
        let same = given.to_bits() == read.to_bits() || given.is_nan() && read.to_bits() == 0x7fc0_0000;
        assert!(same, "weights in two halves: {:08x} comes back as {:08x}", given.to_bits(), read.to_bits());
    }
    judge(&mut twins, trained.gradient, NO_LIMITS);
    twins.run(|backend, at| backend.adamw(trained.step(at, 0.0, 1)));
    twins.assert_same_weights("weights in two halves", trained.weights, "nothing moves");
    let [_, card] = twins.both_weights(trained.weights);
    let moved = |(given, read): (&f32, &f32)| given.is_finite() && given.to_bits() != read.to_bits();
    assert!(!weights.iter().zip(&card).any(moved), "weights in two halves: an update by nothing changes bits");
    twins.run(|backend, at| backend.adamw(trained.step(at, 1e-6, 1)));
    twins.assert_same_weights("weights in two halves", trained.weights, "last bits move");
    twins.findings
}

/// Every bf16 as a moment, NaN and infinities among them; and the same random numbers whatever part a launch is of.
pub(super) fn drawn_moments<D: Device>(checks: &Checks<'_, D>) -> Vec<Finding> {
    let every: Vec<f32> = (0..=u16::MAX).map(|high| f32::from_bits(u32::from(high) << 16)).collect();
    let length = every.len();
    let mut twins = Twins::new(checks, &shape(64, 64, 50), 8, 1);
    let trained = Trained::new(&mut twins, length, true);
    twins.start();
    let weights = twins.random(length, 0, 0.02);
    twins.fill_weights(trained.weights, &weights);
    twins.fill_random(trained.gradient, 1, 1e-3);
    for pair in trained.moments {
        twins.fill(pair, &every);
    }
    judge(&mut twins, trained.gradient, NO_LIMITS);
    // The processor takes all at once, the card three parts, the last one first.
    twins.cpu.adamw(trained.step(&|pair| pair.cpu, 1e-3, 7));
    let whole = trained.step(&|pair| pair.gpu, 1e-3, 7);
    let Moments::Drawn(moments, draw) = whole.moments else { panic!("these moments are bf16") };
    for range in [40_008..length, 8..40_008, 0..8] {
        let first_element = draw.first_element + range.start as u64;
        twins.gpu.adamw(AdamWStep {
            weights: whole.weights.part(range.clone()),
            gradient: whole.gradient.part(range.clone()),
            moments: Moments::Drawn(moments.map(|moment| moment.part(range.clone())), Draw { first_element, ..draw }),
            ..whole
        });
    }
    compare(&mut twins, &trained, true, "every bf16, in parts");
    twins.findings
}

/// A gradient with one NaN or infinity changes nothing.
pub(super) fn not_finite<D: Device>(checks: &Checks<'_, D>) -> Vec<Finding> {
    let mut twins = Twins::new(checks, &shape(64, 64, 50), 8, 1);
    let trained = Trained::new(&mut twins, 64, false);
    twins.start();
    for bad in [f32::NAN, f32::INFINITY] {
        let weights = twins.random(64, 0, 1.0);
        twins.fill_weights(trained.weights, &weights);
        let mut values = [0.5; 64];
        values[63] = bad;
        twins.fill(trained.gradient, &values);
        for pair in trained.moments {
            twins.fill(pair, &[0.25; 64]);
        }
        let [_, card] = judge(&mut twins, trained.gradient, Limits { clip: 1.0, skip_above: f64::INFINITY });
        twins.run(|backend, at| backend.adamw(trained.step(at, 1e-3, 1)));
        assert!(!card.finite && card.factor == 0.0, "judge: {card:?}");
        assert_eq!(
            twins.both_weights(trained.weights),
            [weights.clone(), weights],
            "adamw: changed weights in a step with {bad}"
        );
        twins.assert_same_weights("adamw: left out", trained.weights, &format!("{bad}"));
    }
    twins.findings
}
