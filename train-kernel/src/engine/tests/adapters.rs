//! Identities of low-rank adapters on the whole model.

use super::{KEY, accumulated, adapters, batch, difference, engine, gradients, model, weights, wide};
use crate::engine::{EngineSpec, State, Tensors};
use crate::lora::{Adapters, DropoutKey, LoraSpec, Target, merge};

#[test]
fn fresh_adapters_equal_the_base_bitwise() {
    let model = model(false);
    let (parameters, batch) = (weights(model.shape()).cast::<f32>(), batch());
    let fresh = Adapters::initialised(model.shape(), LoraSpec::default(), 9).unwrap();
    let spec = EngineSpec::train(3, 11);
    let base = engine(&model, spec.clone(), &parameters, None).logits(&batch).unwrap();
    let mut adapted = engine(&model, spec.clone(), &parameters, Some(&fresh));
    assert!(base.iter().zip(adapted.logits(&batch).unwrap()).all(|(a, b)| a.to_bits() == b.to_bits()));
    let plain = engine(&model, spec.clone(), &parameters, None).loss(&batch, None).unwrap();
    assert_eq!(plain, adapted.loss(&batch, Some(KEY)).unwrap());
    let changed = engine(&model, spec, &parameters, Some(&adapters(model.shape(), 0.0))).logits(&batch).unwrap();
    assert_ne!(base, changed, "adapters that are not zero must show");
}

#[test]
fn merged_weights_equal_adapters() {
    let model = model(false);
    let (batch, spec) = (batch(), EngineSpec::evaluate(3, 11));
    let exact = weights(model.shape());
    let adapted = engine(&model, spec.clone(), &exact, Some(&adapters(model.shape(), 0.0))).logits(&batch).unwrap();
    let merged = merge(model.shape(), &exact, &adapters(model.shape(), 0.0)).unwrap();
    assert!(merged.max_change > 0.1);
    let logits = engine(&model, spec.clone(), &merged.parameters, None).logits(&batch).unwrap();
    // In f64 both sum the same numbers in another order: a few hundred roundings of 1.1e-16.
    assert!(difference(&adapted, &logits) < 1e-13);

    // In f32 the bound is the same count of roundings of 6e-8, some 1e-5 relative to the largest logit.
    let narrow = exact.cast::<f32>();
    let merged = merge(model.shape(), &narrow, &adapters(model.shape(), 0.0)).unwrap();
    let unmerged = wide(&engine(&model, spec.clone(), &narrow, Some(&adapters(model.shape(), 0.0))).logits(&batch).unwrap());
    let logits = wide(&engine(&model, spec, &merged.parameters, None).logits(&batch).unwrap());
    assert!(difference(&unmerged, &logits) < 1e-5, "{}", difference(&unmerged, &logits));
}

#[test]
fn some_targets_only_are_the_others_left_at_zero() {
    let model = model(false);
    let (parameters, batch) = (weights(model.shape()), batch());
    let all: Adapters<f64> = adapters(model.shape(), 0.0);
    let targets = vec![Target::Down, Target::Value];
    let mut some = Adapters::initialised(model.shape(), LoraSpec { targets: targets.clone(), ..all.spec.clone() }, 1).unwrap();
    let mut zeroed = all.clone();
    for layer in 0..model.shape().layers {
        for target in Target::ALL {
            let from = all.index(layer, target).unwrap();
            if let Some(to) = some.index(layer, target) {
                for factor in 0..2 {
                    some.parameters.slice_mut(to + factor).copy_from_slice(all.parameters.slice(from + factor));
                }
            } else {
                zeroed.parameters.slice_mut(from + 1).fill(0.0);
            }
        }
    }
    let first = engine(&model, EngineSpec::evaluate(3, 11), &parameters, Some(&some)).logits(&batch).unwrap();
    let second = engine(&model, EngineSpec::evaluate(3, 11), &parameters, Some(&zeroed)).logits(&batch).unwrap();
    assert_eq!(first, second);
}

#[test]
fn determinism_of_dropout_by_key() {
    let model = model(false);
    let (parameters, batch) = (weights(model.shape()), batch());
    let adapters = adapters(model.shape(), 0.3);
    let mut engine = engine(&model, EngineSpec::train(3, 11), &parameters, Some(&adapters));
    let mut loss = |key: Option<DropoutKey>| engine.loss(&batch, key).unwrap().sum.to_bits();
    let first = loss(Some(KEY));
    assert_eq!(first, loss(Some(KEY)));
    let others = [
        Some(DropoutKey { seed: 4, ..KEY }),
        Some(DropoutKey { step: 8, ..KEY }),
        Some(DropoutKey { first_row: 33, ..KEY }),
        None,
    ];
    for other in others {
        assert_ne!(first, loss(other), "{other:?}");
    }
}

#[test]
fn the_base_stays_and_a_replayed_loss_is_the_same() {
    let model = model(false);
    let (parameters, batch) = (weights(model.shape()), batch());
    let adapters = adapters(model.shape(), 0.3);
    let mut engine = engine(&model, EngineSpec::train(3, 11), &parameters, Some(&adapters));
    engine.begin_step();
    let loss = accumulated(&mut engine, &batch, 1.0, Some(KEY));
    assert_eq!(loss, engine.loss(&batch, Some(KEY)).unwrap());
    assert!(gradients(&mut engine).data.iter().all(|gradient| gradient.is_finite()));
    assert_eq!(engine.read((Tensors::Base, State::Weights)).unwrap(), parameters);
}
