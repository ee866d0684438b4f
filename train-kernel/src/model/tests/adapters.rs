//! Identities of low-rank adapters on the whole model.

use super::{adapters, batch, difference, model, weights};
use crate::lora::{Adapters, DropoutKey, LoraSpec, Target, merge};
use crate::model::{Gradients, Workspace};

#[test]
fn fresh_adapters_equal_the_base_bitwise() {
    let model = model(false);
    let (parameters, batch) = (weights(model.shape()).cast::<f32>(), batch());
    let mut fresh = Adapters::initialised(model.shape(), LoraSpec::default(), 9).unwrap();
    fresh.dropout = Some(DropoutKey { seed: 1, step: 0, first_row: 0 });
    let mut workspace = Workspace::new(model.shape(), 3, 11);
    let base = model.logits(&parameters, None, &batch, &mut workspace);
    let adapted = model.logits(&parameters, Some(&fresh), &batch, &mut workspace);
    assert!(base.iter().zip(&adapted).all(|(a, b)| a.to_bits() == b.to_bits()));
    let changed = model.logits(&parameters, Some(&adapters(model.shape(), 0.0)), &batch, &mut workspace);
    assert_ne!(base, changed, "adapters that are not zero must show");
}

#[test]
fn merged_weights_equal_adapters() {
    let model = model(false);
    let batch = batch();
    let exact = weights(model.shape());
    let mut workspace = Workspace::forward_only(model.shape(), 3, 11);
    let adapted = model.logits(&exact, Some(&adapters(model.shape(), 0.0)), &batch, &mut workspace);
    let merged = merge(model.shape(), &exact, &adapters(model.shape(), 0.0)).unwrap();
    assert!(merged.max_change > 0.1);
    let logits = model.logits(&merged.parameters, None, &batch, &mut workspace);
    // In f64 both sum the same numbers in another order: a few hundred roundings of 1.1e-16.
    assert!(difference(&adapted, &logits) < 1e-13);

    // In f32 the bound is the same count of roundings of 6e-8, some 1e-5 relative to the largest logit.
    let narrow = exact.cast::<f32>();
    let mut workspace = Workspace::forward_only(model.shape(), 3, 11);
    let merged = merge(model.shape(), &narrow, &adapters(model.shape(), 0.0)).unwrap();
    let wide = |logits: Vec<f32>| logits.into_iter().map(f64::from).collect::<Vec<_>>();
    let unmerged = wide(model.logits(&narrow, Some(&adapters(model.shape(), 0.0)), &batch, &mut workspace));
    let logits = wide(model.logits(&merged.parameters, None, &batch, &mut workspace));
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
    let mut workspace = Workspace::forward_only(model.shape(), 3, 11);
    let first = model.logits(&parameters, Some(&some), &batch, &mut workspace);
    let second = model.logits(&parameters, Some(&zeroed), &batch, &mut workspace);
    assert_eq!(first, second);
}

#[test]
fn determinism_of_dropout_by_key() {
    let model = model(false);
    let (parameters, batch) = (weights(model.shape()), batch());
    let mut workspace = Workspace::new(model.shape(), 3, 11);
    let mut loss = |key: Option<DropoutKey>| {
        let mut adapters: Adapters<f64> = adapters(model.shape(), 0.3);
        adapters.dropout = key;
        model.loss(&parameters, Some(&adapters), &batch, &mut workspace).sum.to_bits()
    };
    let key = DropoutKey { seed: 3, step: 7, first_row: 0 };
    let first = loss(Some(key));
    assert_eq!(first, loss(Some(key)));
    let others = [
        Some(DropoutKey { seed: 4, ..key }),
        Some(DropoutKey { step: 8, ..key }),
        Some(DropoutKey { first_row: 33, ..key }),
        None,
    ];
    for other in others {
        assert_ne!(first, loss(other), "{other:?}");
    }
}

#[test]
fn the_base_is_not_touched_by_adapter_gradients() {
    let model = model(false);
    let (parameters, batch) = (weights(model.shape()), batch());
    let adapters: Adapters<f64> = adapters(model.shape(), 0.3);
    let mut workspace = Workspace::new(model.shape(), 3, 11);
    let mut gradients = adapters.parameters.zeros_like();
    let wanted = Gradients::Adapters(&mut gradients);
    let loss = model.loss_and_gradients(&parameters, Some(&adapters), &batch, 1.0, wanted, &mut workspace);
    // The same forward, whichever gradients are wanted.
    let mut full = parameters.zeros_like();
    let wanted = Gradients::Full(&mut full);
    let again = model.loss_and_gradients(&parameters, Some(&adapters), &batch, 1.0, wanted, &mut workspace);
    assert_eq!(loss, again);
    assert!(gradients.data.iter().all(|gradient| gradient.is_finite()));
}
