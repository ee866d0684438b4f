//! Every gradient of the whole model against central differences in f64.

use std::cell::RefCell;

use super::{adapters, batch, model, weights};
use crate::lora::Adapters;
use crate::model::{Gradients, Workspace};
use crate::ops::vjp::check_gradient;
use crate::parameters::Parameters;

const SCALE: f64 = 0.125;

fn check_full(tied: bool, adapters: Option<&Adapters<f64>>) {
    let model = model(tied);
    let (parameters, batch) = (weights(model.shape()), batch());
    let workspace = RefCell::new(Workspace::new(model.shape(), 3, 11));
    let mut gradients = parameters.zeros_like();
    let full = Gradients::Full(&mut gradients);
    model.loss_and_gradients(&parameters, adapters, &batch, SCALE, full, &mut workspace.borrow_mut());
    for (index, tensor) in parameters.layout.tensors().iter().enumerate() {
        check_gradient(&tensor.name, parameters.slice(index), gradients.slice(index), 1e-6, &|values| {
            let mut moved = parameters.clone();
            moved.slice_mut(index).copy_from_slice(values);
            SCALE * model.loss(&moved, adapters, &batch, &mut workspace.borrow_mut()).sum
        });
    }
}

#[test]
fn gradient_of_every_tensor() {
    check_full(false, None);
}

#[test]
fn gradient_of_every_tensor_with_tied_embeddings() {
    check_full(true, None);
}

#[test]
fn gradient_of_the_base_through_fixed_adapters() {
    check_full(false, Some(&adapters(&super::shape(false), 0.3)));
}

#[test]
fn gradient_of_every_adapter() {
    for dropout in [0.0, 0.3] {
        let model = model(false);
        let (parameters, batch) = (weights(model.shape()), batch());
        let adapters: Adapters<f64> = adapters(model.shape(), dropout);
        let workspace = RefCell::new(Workspace::new(model.shape(), 3, 11));
        let mut gradients = adapters.parameters.zeros_like();
        let wanted = Gradients::Adapters(&mut gradients);
        model.loss_and_gradients(&parameters, Some(&adapters), &batch, SCALE, wanted, &mut workspace.borrow_mut());
        for (index, tensor) in adapters.parameters.layout.tensors().iter().enumerate() {
            let point = adapters.parameters.slice(index);
            check_gradient(&tensor.name, point, gradients.slice(index), 1e-6, &|values| {
                let mut moved = adapters.clone();
                moved.parameters.slice_mut(index).copy_from_slice(values);
                SCALE * model.loss(&parameters, Some(&moved), &batch, &mut workspace.borrow_mut()).sum
            });
        }
    }
}

#[test]
fn gradient_is_added_and_scaled() {
    let model = model(false);
    let (parameters, batch) = (weights(model.shape()), batch());
    let mut workspace = Workspace::new(model.shape(), 4, 20);
    let mut add = |gradients: &mut Parameters<f64>, scale: f64| {
        model.loss_and_gradients(&parameters, None, &batch, scale, Gradients::Full(gradients), &mut workspace)
    };
    let mut once = parameters.zeros_like();
    let loss = add(&mut once, 1.0);
    let mut thrice = parameters.zeros_like();
    assert_eq!(loss, add(&mut thrice, 2.0), "the loss is not scaled");
    add(&mut thrice, 1.0);
    let tripled: Vec<f64> = once.data.iter().map(|gradient| 3.0 * gradient).collect();
    // Sums of a few hundred products, each rounded once or twice in another order.
    assert!(super::difference(&tripled, &thrice.data) < 1e-13);
}
