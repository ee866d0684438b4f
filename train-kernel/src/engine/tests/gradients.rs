//! Every gradient of the whole model against central differences in f64.

use std::cell::RefCell;

use super::{KEY, accumulated, adapters, batch, engine, gradients, model, shape, weights};
use crate::engine::{Engine, EngineSpec, State};
use crate::lora::Adapters;
use crate::model::Model;
use crate::ops::vjp::check_gradient;
use crate::parameters::Parameters;
use crate::shape::{Llama3Scaling, RopeScaling, Shape};

const SCALE: f64 = 0.125;

/// Checks the gradient of every trained tensor of this engine.
fn check_every_tensor(engine: Engine<f64>) {
    let (engine, batch) = (RefCell::new(engine), batch());
    engine.borrow_mut().begin_step();
    accumulated(&mut engine.borrow_mut(), &batch, SCALE, Some(KEY));
    let found = gradients(&mut engine.borrow_mut());
    let trained = engine.borrow().trained();
    let weights = engine.borrow_mut().read((trained, State::Weights)).unwrap();
    for (index, tensor) in found.layout.tensors().iter().enumerate() {
        check_gradient(&tensor.name, weights.slice(index), found.slice(index), 1e-6, &|values| {
            let mut engine = engine.borrow_mut();
            engine.load_tensor((trained, State::Weights), index, values);
            let loss = engine.loss(&batch, Some(KEY)).unwrap().sum;
            engine.load_tensor((trained, State::Weights), index, weights.slice(index));
            SCALE * loss
        });
    }
}

fn check(shape: Shape, adapters: Option<&Adapters<f64>>) {
    let model = Model::new(shape).unwrap().into();
    check_every_tensor(engine(&model, EngineSpec::train(3, 11), &weights(model.shape()), adapters));
}

#[test]
fn gradient_of_every_tensor() {
    check(shape(false), None);
}

#[test]
fn gradient_of_every_tensor_with_tied_embeddings() {
    check(shape(true), None);
}

#[test]
fn gradient_of_every_tensor_with_a_window_and_scaled_rotation() {
    let scaling =
        Llama3Scaling { factor: 4.0, low_frequency_factor: 1.0, high_frequency_factor: 4.0, original_max_positions: 16 };
    check(Shape { window: Some(3), rope_scaling: Some(RopeScaling::Llama3(scaling)), ..shape(false) }, None);
}

#[test]
fn gradient_of_every_adapter() {
    for dropout in [0.0, 0.3] {
        check(shape(false), Some(&adapters(&shape(false), dropout)));
    }
}

#[test]
fn gradient_is_added_and_scaled() {
    let model = model(false);
    let (parameters, batch) = (weights(model.shape()), batch());
    let mut engine = engine(&model, EngineSpec::train(4, 20), &parameters, None);
    let mut of = |scales: &[f64]| -> (Vec<_>, Parameters<f64>) {
        engine.begin_step();
        let losses = scales.iter().map(|scale| accumulated(&mut engine, &batch, *scale, None)).collect();
        (losses, gradients(&mut engine))
    };
    let (loss, once) = of(&[1.0]);
    let (losses, thrice) = of(&[2.0, 1.0]);
    assert!(losses.iter().all(|other| *other == loss[0]), "the loss is not scaled");
    let tripled: Vec<f64> = once.data.iter().map(|gradient| 3.0 * gradient).collect();
    // Sums of a few hundred products, each rounded once or twice in another order.
    assert!(super::difference(&tripled, &thrice.data) < 1e-13);
}
