//! Recompute modes change memory and nothing else; bf16 rounds and stays close.

use super::{KEY, accumulated, adapters, batch, difference, engine, gradients, judged, model, weights, wide};
use crate::backend::{ArenaPlan, ElementBytes, Limits, Part};
use crate::engine::state::Trainable;
use crate::engine::{Engine, EngineSpec, LossSum, MomentPrecision, Precision, Recompute, State, Tensors};
use crate::lora::Adapters;
use crate::optimizer::AdamWConstants;
use crate::parameters::Parameters;
use crate::real::Real;

fn run<E: Real>(engine: &mut Engine<E>) -> (LossSum, Parameters<E>) {
    engine.begin_step();
    let loss = accumulated(engine, &batch(), 0.125, Some(KEY));
    (loss, gradients(engine))
}

#[test]
fn every_recompute_mode_gives_the_same_bits_and_less_memory() {
    let model = model(true);
    let parameters = weights(model.shape()).cast::<f32>();
    for precision in [Precision::F32, Precision::Bf16] {
        for adapters in [None, Some(adapters(model.shape(), 0.3))] {
            let mut kept = Vec::new();
            let mut results = Vec::new();
            for recompute in Recompute::ALL {
                let spec = EngineSpec { precision, recompute, ..EngineSpec::train(3, 11) };
                let mut engine = engine(&model, spec, &parameters, adapters.as_ref());
                kept.push(engine.memory().part_bytes(Part::Activations));
                results.push(run(&mut engine));
            }
            assert!(kept.windows(2).all(|pair| pair[1] < pair[0]), "{kept:?}");
            assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{precision:?}");
        }
    }
}

#[test]
fn activations_kept_are_those_of_the_reference_table() {
    // Elements of a layer and token: training.md 2 without its factor of 2 bytes, with LSE and roots as one element each.
    let model = model(false);
    let (c, f, h, kv, rows) = (24, 41, 4, 12, 33);
    let full = c;
    let sel_b = full + (c + 2 * kv) + c + h + c + 2;
    let sel_a = sel_b + 2 * f;
    let none = sel_a + 2 * c + f;
    let mut works = Vec::new();
    for (recompute, expected) in Recompute::ALL.into_iter().zip([none, sel_a, sel_b, full]) {
        let spec = EngineSpec { recompute, ..EngineSpec::train(3, 11) };
        let engine = Engine::<f64>::on_cpu(model.clone(), spec).unwrap();
        let bytes = engine.memory().part_bytes(Part::Activations);
        let exact = (2 * 8 * rows * expected) as u64;
        // Two layers of at most eleven buffers, each rounded up to 256 bytes.
        assert!(bytes >= exact && bytes < exact + 2 * 11 * 256, "{recompute:?}: {bytes} for {exact}");
        // What a mode does not keep exists once for all layers; what it keeps has no second place.
        works.push(engine.memory().part_bytes(Part::Work) as i64 - i64::from(8 * rows * (none - expected)));
    }
    assert!(works.iter().all(|work| (work - works[0]).abs() < 11 * 256), "{works:?}");
}

#[test]
fn rounding_to_bf16_shows_and_stays_close() {
    let model = model(false);
    let exact = weights(model.shape());
    let narrow = exact.cast::<f32>();
    let with = |precision: Precision, adapters: Option<&Adapters<f32>>| {
        let spec = EngineSpec { precision, ..EngineSpec::train(3, 11) };
        run(&mut engine(&model, spec, &narrow, adapters))
    };
    let (loss, gradient) = with(Precision::F32, None);
    let (rounded_loss, rounded) = with(Precision::Bf16, None);
    assert_ne!(loss, rounded_loss);
    // Each of some twenty roundings in a row is off by at most 2^-9 relative; the weights are large and amplify them.
    assert!((loss.sum / rounded_loss.sum - 1.0).abs() < 0.02, "{} {}", loss.sum, rounded_loss.sum);
    for (index, tensor) in gradient.layout.tensors().iter().enumerate() {
        let error = difference(&wide(gradient.slice(index)), &wide(rounded.slice(index)));
        assert!(error < 0.15, "{}: {error}", tensor.name);
    }
}

#[test]
fn masters_stay_exact_under_bf16_and_the_working_weights_are_their_rounding() {
    let model = model(false);
    let narrow = weights(model.shape()).cast::<f32>();
    let spec = EngineSpec { precision: Precision::Bf16, ..EngineSpec::train(3, 11) };
    let mut engine = engine(&model, spec, &narrow, None);
    assert_eq!(engine.read((Tensors::Base, State::Weights)).unwrap(), narrow, "masters are what was loaded");
    run(&mut engine);
    assert!(judged(&mut engine, Limits { clip: 1.0, skip_above: f64::INFINITY }).finite);
    // A step far below half a bf16 spacing of most weights: masters move, their roundings mostly do not.
    engine.update(AdamWConstants { betas: [0.9, 0.95], epsilon: 1e-8, weight_decay: 0.0 }, 1e-6, 1);
    let moved = engine.read((Tensors::Base, State::Weights)).unwrap();
    let changed = moved.data.iter().zip(&narrow.data).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    assert!(changed > narrow.data.len() * 9 / 10, "{changed}");
    let logits = engine.logits(&batch()).unwrap();
    let rounded = Parameters { data: moved.data.iter().map(|value| value.to_bf16_away()).collect(), ..moved };
    let spec = EngineSpec { precision: Precision::Bf16, ..EngineSpec::evaluate(3, 11) };
    assert_eq!(logits, super::engine(&model, spec, &rounded, None).logits(&batch()).unwrap());
}

#[test]
fn trained_weights_take_six_bytes_with_their_remainders_and_moments_four_or_eight() {
    let model = model(false);
    let length = model.layout().length() as u64;
    let bytes = ElementBytes { f32: 4, bf16: 2 };
    let check = |moments: MomentPrecision, expected: u64| {
        let mut plan = ArenaPlan::new(bytes);
        let spec = EngineSpec { precision: Precision::Bf16, moments, ..EngineSpec::train(3, 11) };
        Trainable::new(&mut plan, model.layout(), &spec, true);
        let parts = [Part::Weights, Part::Master, Part::Gradients, Part::Moments].map(|part| plan.part_bytes(part));
        for (part, each) in parts.into_iter().zip([2, 2, 4, expected]) {
            // Each of at most two buffers is rounded up to 256 bytes.
            assert!((each * length..each * length + 512).contains(&part), "{parts:?}: {each} bytes a weight");
        }
    };
    check(MomentPrecision::F32, 8);
    check(MomentPrecision::Bf16, 4);
}

#[test]
fn moments_in_bf16_are_bf16_and_weights_stay_close() {
    let model = model(false);
    let narrow = weights(model.shape()).cast::<f32>();
    let constants = AdamWConstants { betas: [0.9, 0.95], epsilon: 1e-8, weight_decay: 0.0 };
    let trained = |moments: MomentPrecision, seed: u64| {
        let spec = EngineSpec { precision: Precision::Bf16, moments, seed, ..EngineSpec::train(3, 11) };
        let mut engine = engine(&model, spec, &narrow, None);
        for update in 1..=3 {
            run(&mut engine);
            assert!(judged(&mut engine, Limits { clip: 1.0, skip_above: f64::INFINITY }).finite);
            engine.update(constants, 1e-3, update);
        }
        [State::Weights, State::First, State::Second].map(|state| engine.read((Tensors::Base, state)).unwrap())
    };
    let exact = trained(MomentPrecision::F32, 1);
    let rounded = trained(MomentPrecision::Bf16, 1);
    assert!(rounded[1..].iter().all(|moments| moments.data.iter().all(|value| value.to_bits().trailing_zeros() >= 16)));
    assert_ne!(exact[0], rounded[0]);
    assert_eq!(rounded, trained(MomentPrecision::Bf16, 1), "the same seed gives the same bits");
    assert_ne!(rounded, trained(MomentPrecision::Bf16, 2));
    // What two stored updates are off, at most 2^-7 of each moment, makes 2 % of a direction after the corrections; the rest are
    // elements whose gradients are no larger than the rounding of activations, and follow the working weights.
    let square = |value: f32| f64::from(value) * f64::from(value);
    let distance = |a: &Parameters<f32>, b: &Parameters<f32>| a.data.iter().zip(&b.data).map(|(a, b)| square(a - b)).sum::<f64>();
    let apart = distance(&exact[0], &rounded[0]) / distance(&exact[0], &narrow);
    assert!(apart.sqrt() < 0.02, "{}", apart.sqrt());
}

#[test]
fn steps_that_are_judged_bad_change_nothing() {
    let model = model(false);
    let narrow = weights(model.shape()).cast::<f32>();
    let constants = AdamWConstants { betas: [0.9, 0.95], epsilon: 1e-8, weight_decay: 0.1 };
    let mut engine = engine(&model, EngineSpec::train(3, 11), &narrow, None);
    run(&mut engine);
    let judgement = judged(&mut engine, Limits { clip: 0.0, skip_above: 1e-9 });
    assert!(judgement.finite && judgement.factor == 0.0 && judgement.norm > 0.0);
    engine.update(constants, 0.1, 1);
    assert_eq!(engine.read((Tensors::Base, State::Weights)).unwrap(), narrow);
    let mut broken = narrow.clone();
    broken.slice_mut(0).fill(f32::NAN);
    engine.load((Tensors::Base, State::Weights), &broken);
    run(&mut engine);
    let judgement = judged(&mut engine, Limits { clip: 1.0, skip_above: f64::INFINITY });
    assert!(!judgement.finite && judgement.factor == 0.0);
    // The next step is judged by itself.
    engine.load((Tensors::Base, State::Weights), &narrow);
    run(&mut engine);
    assert!(judged(&mut engine, Limits { clip: 1.0, skip_above: f64::INFINITY }).finite);
    engine.update(constants, 0.1, 1);
    assert_ne!(engine.read((Tensors::Base, State::Weights)).unwrap(), narrow);
}
