//! `LLaMA` (Touvron and others 2023) as one function: loss, gradients and logits of a batch under given weights.
//!
//! A model holds no weights and no state: sizes, the places of the tensors, and the rotation table. Files of this folder:
//! the buffers (`workspace`), the places (`weights`), a group of projections with adapters (`projection`), one `layer`, the
//! `head` with its loss. Optimizers, schedules and files are elsewhere.

mod head;
mod layer;
mod loss;
pub(crate) mod projection;
pub(crate) mod weights;
pub(crate) mod workspace;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use loss::{LossSum, SourceLoss};
pub use workspace::Workspace;

use crate::batch::Batch;
use crate::lora::{AdapterParameters, Adapters};
use crate::ops::embedding;
use crate::ops::rope::RotationTable;
use crate::parameters::{Layout, Parameters};
use crate::real::Real;
use crate::shape::{Shape, ShapeError};
use head::Wanted;
use layer::Layer;
use projection::Weights;
use weights::Places;

/// What gradients are accumulated into (`+=`).
#[derive(Debug)]
pub enum Gradients<'a, R: Real> {
    /// Of every base weight; adapters, if any, are held fixed.
    Full(&'a mut Parameters<R>),
    /// Of the adapters; the base is held fixed.
    Adapters(&'a mut AdapterParameters<R>),
}

/// A model of one shape.
#[derive(Clone, Debug)]
pub struct Model {
    shape: Shape,
    layout: Arc<Layout>,
    places: Places,
    rotation: RotationTable,
}

impl Model {
    /// Checks the shape and computes the places of its tensors and its rotation table.
    ///
    /// # Errors
    /// [`ShapeError`] when the shape is impossible.
    pub fn new(shape: Shape) -> Result<Self, ShapeError> {
        shape.check()?;
        let layout = Arc::new(Layout::of(&shape));
        let places = Places::new(&shape, &layout);
        let rotation = RotationTable::new(shape.max_positions, shape.head_width(), shape.rope_theta);
        Ok(Self { shape, layout, places, rotation })
    }

    /// Its sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The layout of its parameters.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The table that turns queries and keys.
    pub(crate) fn rotation(&self) -> &RotationTable {
        &self.rotation
    }

    /// The sum of the cross-entropy over the batch's targets, and the gradients of `scale` times that sum, added to
    /// `gradients`. With `scale` = 1 / G, G the targets of all micro-batches of a step, the gradients of a step are those
    /// of its mean loss however it is cut.
    ///
    /// # Panics
    /// When weights, gradients, adapters or workspace do not fit the model or the batch ([`Batch::check`] finds out
    /// beforehand), when the workspace keeps no layers, or when adapter gradients are asked for without adapters.
    #[expect(clippy::too_many_arguments, reason = "weights, data, destination and buffers are owned by four different parties")]
    pub fn loss_and_gradients<R: Real>(
        &self,
        parameters: &Parameters<R>,
        adapters: Option<&Adapters<R>>,
        batch: &Batch,
        scale: f64,
        mut gradients: Gradients<'_, R>,
        workspace: &mut Workspace<R>,
    ) -> LossSum {
        let weights = Weights::new(self, parameters, adapters);
        self.check_gradients(adapters, &gradients);
        assert!(workspace.keeps_all_layers(), "workspace: made for the forward only");
        self.forward(weights, batch, workspace);
        let Workspace { kept, scratch, head, adapters: buffers, .. } = workspace;
        let loss = head.run(weights, batch, scratch, Wanted::Gradients(scale, &mut gradients));
        for (index, kept) in kept.iter().enumerate().rev() {
            self.layer(index, weights, batch).backward(kept, scratch, &mut gradients, buffers);
        }
        if let Gradients::Full(gradients) = gradients {
            let (rows, width) = (batch.rows(), self.shape.width);
            let table = &mut gradients.data[self.places.embedding()];
            let dstream = &scratch.stream[..rows * width];
            embedding::backward(batch.tokens(), dstream, &mut scratch.order[..rows], table, width);
        }
        loss
    }

    /// The sum of the cross-entropy over the batch's targets; a workspace for the forward only is enough.
    ///
    /// # Panics
    /// As [`Self::loss_and_gradients`].
    pub fn loss<R: Real>(
        &self,
        parameters: &Parameters<R>,
        adapters: Option<&Adapters<R>>,
        batch: &Batch,
        workspace: &mut Workspace<R>,
    ) -> LossSum {
        let weights = Weights::new(self, parameters, adapters);
        self.forward(weights, batch, workspace);
        let Workspace { scratch, head, .. } = workspace;
        head.run(weights, batch, scratch, Wanted::Loss)
    }

    /// The logits of every position, `(B, T, V)`, padding included (where they mean nothing). They are allocated whole:
    /// for tests, exports and short texts, not for training.
    ///
    /// # Panics
    /// As [`Self::loss_and_gradients`].
    pub fn logits<R: Real>(
        &self,
        parameters: &Parameters<R>,
        adapters: Option<&Adapters<R>>,
        batch: &Batch,
        workspace: &mut Workspace<R>,
    ) -> Vec<R> {
        let weights = Weights::new(self, parameters, adapters);
        self.forward(weights, batch, workspace);
        let mut logits = vec![R::ZERO; batch.rows() * self.shape.vocabulary];
        let Workspace { scratch, head, .. } = workspace;
        head.logits(weights, batch, scratch, &mut logits);
        logits
    }

    /// Leaves the last residual in the workspace's stream.
    fn forward<R: Real>(&self, weights: Weights<'_, R>, batch: &Batch, workspace: &mut Workspace<R>) {
        if let Err(error) = batch.check(&self.shape) {
            panic!("{error}");
        }
        workspace.check(&self.shape, batch);
        if let Some(adapters) = weights.adapters {
            workspace.adapters.reserve(&self.shape, batch.rows(), adapters.spec.rank);
        }
        let Workspace { kept, scratch, adapters: buffers, .. } = workspace;
        let (rows, width) = (batch.rows(), self.shape.width);
        let table = weights.at(self.places.embedding());
        embedding::forward(table, batch.tokens(), &mut scratch.stream[..rows * width], width);
        let slots = kept.len();
        for index in 0..self.shape.layers {
            self.layer(index, weights, batch).forward(&mut kept[index % slots], scratch, buffers);
        }
    }

    fn layer<'a, R: Real>(&'a self, index: usize, weights: Weights<'a, R>, batch: &'a Batch) -> Layer<'a, R> {
        Layer { index, weights, rotation: &self.rotation, batch }
    }

    fn check_gradients<R: Real>(&self, adapters: Option<&Adapters<R>>, gradients: &Gradients<'_, R>) {
        match gradients {
            Gradients::Full(full) => {
                let fits = same_layout(full, &self.layout);
                assert!(fits, "model: the gradients have another layout than the model's shape");
            }
            Gradients::Adapters(given) => {
                let adapters = adapters.expect("gradients of adapters need adapters");
                let fits = same_layout(given, &adapters.parameters.layout);
                assert!(fits, "model: the gradients have another layout than the adapters");
            }
        }
    }
}

/// Whether parameters have this layout and as many elements as it says.
fn same_layout<R: Real>(parameters: &Parameters<R>, layout: &Arc<Layout>) -> bool {
    let same = Arc::ptr_eq(&parameters.layout, layout) || parameters.layout == *layout;
    same && parameters.data.len() == layout.length()
}
