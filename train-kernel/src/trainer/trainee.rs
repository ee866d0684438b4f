//! What is being trained: all weights of a model, or adapters on frozen ones.

use std::sync::Arc;

use super::job::TrainError;
use crate::batch::Batch;
use crate::lora::{Adapters, DropoutKey, LoraSpec};
use crate::model::{Gradients, LossSum, Model, Workspace};
use crate::optimizer::DecayRange;
use crate::parameters::Parameters;

/// The weights that change, and those that they stand on.
#[derive(Debug)]
pub(crate) struct Trainee {
    /// Weights of the model; frozen when there are adapters.
    pub(crate) base: Parameters<f32>,
    /// Adapters in training.
    pub(crate) adapters: Option<Adapters<f32>>,
}

impl Trainee {
    pub(crate) fn new(model: &Model, base: Parameters<f32>, lora: Option<&LoraSpec>, seed: u64) -> Result<Self, TrainError> {
        let adapters = lora.map(|spec| Adapters::initialised(model.shape(), spec.clone(), seed)).transpose()?;
        Ok(Self { base, adapters })
    }

    /// The weights that change.
    pub(crate) fn weights(&self) -> &Parameters<f32> {
        self.adapters.as_ref().map_or(&self.base, |adapters| &adapters.parameters)
    }

    /// The weights that change, to change.
    pub(crate) fn weights_mut(&mut self) -> &mut Parameters<f32> {
        match &mut self.adapters {
            Some(adapters) => &mut adapters.parameters,
            None => &mut self.base,
        }
    }

    /// Where weight decay applies: to matrices. Adapter factors are matrices.
    pub(crate) fn decay_ranges(&self) -> Vec<DecayRange> {
        let layout = Arc::clone(&self.weights().layout);
        let range = |tensor: &crate::parameters::TensorSpec| DecayRange { elements: tensor.range(), decayed: tensor.matrix };
        layout.tensors().iter().map(range).collect()
    }

    /// Adds the gradients of `scale` times the loss to `gradients`; returns the loss, not scaled.
    pub(crate) fn loss_and_gradients(
        &mut self,
        model: &Model,
        batch: &Batch,
        (scale, dropout): (f64, DropoutKey),
        gradients: &mut Parameters<f32>,
        workspace: &mut Workspace<f32>,
    ) -> LossSum {
        match &mut self.adapters {
            Some(adapters) => {
                adapters.dropout = Some(dropout);
                let into = Gradients::Adapters(gradients);
                model.loss_and_gradients(&self.base, Some(adapters), batch, scale, into, workspace)
            }
            None => model.loss_and_gradients(&self.base, None, batch, scale, Gradients::Full(gradients), workspace),
        }
    }

    /// The loss, without dropout.
    pub(crate) fn loss(&mut self, model: &Model, batch: &Batch, workspace: &mut Workspace<f32>) -> LossSum {
        if let Some(adapters) = &mut self.adapters {
            adapters.dropout = None;
        }
        model.loss(&self.base, self.adapters.as_ref(), batch, workspace)
    }
}
