//! `LLaMA` (Touvron and others 2023) on a backend: loss, gradients, updates and logits of one model in one arena.
//!
//! An engine lays out every buffer before the first step, so that memory runs out when it is made or never. Files of this
//! folder: what it is made for (`spec`), the buffers (`buffers`), the places of the weights (`places`), a group of projections
//! with adapters (`projection`), one `layer`, the `head` with its loss, the forward with a cache (`decode`), weights and
//! optimizer state in and out (`state`). Which data, when to update and when to stop is the trainer's.

mod buffers;
mod decode;
mod head;
mod layer;
mod loss;
pub(crate) mod places;
mod projection;
mod spec;
mod state;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use loss::{LossSum, SourceLoss};
pub use spec::{EngineSpec, Precision, Purpose, Recompute};
pub use state::{State, Tensors};

use crate::backend::{AllocationError, ArenaPlan, Backend, Buffer, Cpu};
use crate::batch::Batch;
use crate::lora::DropoutKey;
use crate::model::Model;
use crate::real::Real;
use buffers::Buffers;
use state::Trainable;

/// One model on one backend.
#[derive(Debug)]
pub struct Engine<E: Real> {
    backend: Box<dyn Backend<E>>,
    model: Arc<Model>,
    spec: EngineSpec,
    plan: ArenaPlan,
    base: Trainable,
    adapters: Option<Trainable>,
    buffers: Buffers,
    /// Dropout of the pass in progress.
    dropout: Option<DropoutKey>,
    /// Losses of a batch, `(N)`.
    losses: Vec<E>,
}

impl<E: Real> Engine<E> {
    /// Lays out and allocates the buffers of `model` for what `spec` says. Weights are zero until they are loaded.
    ///
    /// # Errors
    /// [`AllocationError`] with every part's bytes when the device has not enough memory.
    pub fn new(mut backend: Box<dyn Backend<E>>, model: Arc<Model>, spec: EngineSpec) -> Result<Self, AllocationError> {
        let mut plan = ArenaPlan::new(backend.element_bytes());
        let base = Trainable::new(&mut plan, model.layout(), &spec, spec.trains_base());
        let lora = spec.lora.as_ref().map(|lora| Arc::new(lora.layout(model.shape())));
        let adapters = lora.map(|layout| Trainable::new(&mut plan, &layout, &spec, spec.trains_adapters()));
        let buffers = Buffers::new(&mut plan, model.shape(), &spec);
        backend.plan_scratch(&mut plan, spec.extent());
        backend.allocate(&plan)?;
        let losses = vec![E::ZERO; spec.rows];
        Ok(Self { backend, model, spec, plan, base, adapters, buffers, dropout: None, losses })
    }

    /// The same on the processor.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn on_cpu(model: Arc<Model>, spec: EngineSpec) -> Result<Self, AllocationError> {
        let backend = Cpu::new(model.shape());
        Self::new(Box::new(backend), model, spec)
    }

    /// Its model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// What it was made for.
    pub fn spec(&self) -> &EngineSpec {
        &self.spec
    }

    /// Its memory, by part.
    pub fn memory(&self) -> &ArenaPlan {
        &self.plan
    }

    /// The sum of the cross-entropy over the batch's targets. With a key, adapters drop out as they do in
    /// [`Self::accumulate`]: the same loss, bit for bit.
    ///
    /// # Panics
    /// When the batch does not fit the engine ([`Batch::check`] finds out beforehand).
    pub fn loss(&mut self, batch: &Batch, dropout: Option<DropoutKey>) -> LossSum {
        self.forward(batch, dropout);
        self.head(batch.rows(), None);
        self.sum_losses(batch)
    }

    /// The sum of the cross-entropy over the batch's targets; adds the gradients of `scale` times that sum to those of the step.
    /// With `scale` = 1 / G, G the targets of all micro-batches of a step, the gradients of a step are those of its mean loss
    /// however it is cut.
    ///
    /// # Panics
    /// As [`Self::loss`], and when the engine is not made for training.
    pub fn accumulate(&mut self, batch: &Batch, scale: f64, dropout: Option<DropoutKey>) -> LossSum {
        assert!(self.spec.trains(), "engine: made without a backward");
        self.forward(batch, dropout);
        self.head(batch.rows(), Some(scale));
        for layer in (0..self.model.shape().layers).rev() {
            self.layer_backward(layer, batch.rows());
        }
        if let Some(gradient) = self.base.gradient() {
            let dstream = self.buffers.dstream.first(batch.rows() * self.model.shape().width);
            let dtable = gradient.part(self.model.places().embedding());
            self.backend.embed_backward(dstream, dtable);
        }
        self.sum_losses(batch)
    }

    /// The logits of every position, `(B, T, V)`, padding included (where they mean nothing). They are held whole:
    /// for tests, exports and short texts, not for training.
    ///
    /// # Panics
    /// As [`Self::loss`].
    pub fn logits(&mut self, batch: &Batch) -> Vec<E> {
        self.forward(batch, None);
        self.all_logits(batch.rows())
    }

    /// Leaves the last residual's two halves in the last layer's buffers.
    fn forward(&mut self, batch: &Batch, dropout: Option<DropoutKey>) {
        if let Err(error) = batch.check(self.model.shape()) {
            panic!("{error}");
        }
        assert!(!self.spec.decodes(), "engine: made for decoding");
        let (rows, length) = (batch.rows(), batch.sequence_length());
        assert!(
            rows <= self.spec.rows && length <= self.spec.positions,
            "engine: made for {} rows of documents of up to {} tokens, the batch has {rows} of {length}",
            self.spec.rows,
            self.spec.positions
        );
        self.dropout = dropout;
        self.backend.load_batch(batch);
        for layer in 0..self.model.shape().layers {
            self.layer_forward(layer, rows);
        }
    }

    /// Sums in row order.
    fn sum_losses(&mut self, batch: &Batch) -> LossSum {
        let losses = &mut self.losses[..batch.rows()];
        self.backend.download(self.buffers.losses.first(batch.rows()), losses);
        let mut total = LossSum::default();
        for ((loss, &counted), &source) in losses.iter().zip(batch.loss_mask()).zip(batch.token_sources()) {
            if counted {
                total.add(source, loss.to_f64());
            }
        }
        total
    }

    /// A weight of the base that the model computes with.
    fn weight(&self, place: std::ops::Range<usize>) -> Buffer {
        self.base.working().part(place)
    }

    /// Where the gradient of a weight of the base goes, when it is trained.
    fn gradient(&self, place: std::ops::Range<usize>) -> Option<Buffer> {
        self.base.gradient().map(|gradient| gradient.part(place))
    }
}
