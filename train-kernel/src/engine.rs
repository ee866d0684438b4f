//! `LLaMA` (Touvron and others 2023) on a backend: loss, gradients, updates and logits of one model in one arena.
//!
//! An engine lays out every buffer before the first step, so that memory runs out when it is made or never. Files of this
//! folder: what it is made for (`spec`), the buffers (`buffers`), the places of the weights (`places`), a group of projections
//! with adapters (`projection`), one `layer`, the `head` with its loss, the forward with a cache (`decode`), weights and
//! optimizer state in and out (`state`). Which data, when to update and when to stop is the trainer's.

mod buffers;
mod decode;
mod fit;
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

pub use fit::check_fit;
pub use loss::{LossSum, SourceLoss};
pub use spec::{EngineSpec, MomentPrecision, Precision, Purpose, Recompute};
pub use state::{State, Tensors};

use crate::backend::{ArenaPlan, Backend, Buffer, Cpu, DeviceError, Pass, Ticket};
use crate::batch::Batch;
use crate::lora::DropoutKey;
use crate::model::Model;
use crate::real::Real;
use buffers::Buffers;
use state::Trainable;

/// Losses of a batch that a device may still be computing.
#[derive(Debug)]
#[must_use = "losses stay with the device until they are collected"]
pub struct PendingLoss {
    ticket: Ticket,
    rows: usize,
}

/// Passes that a backend may record: those of one kind and one number of rows are always the same.
#[derive(Clone, Copy, Debug)]
enum PassKind {
    Loss = 0,
    DroppedLoss = 1,
    Gradient = 2,
    DroppedGradient = 3,
}

impl PassKind {
    fn key(self, batch: &Batch) -> u64 {
        (batch.rows() as u64) << 2 | self as u64
    }
}

/// An arena, and what lies where in it.
struct LaidOut {
    plan: ArenaPlan,
    base: Trainable,
    adapters: Option<Trainable>,
    buffers: Buffers,
}

impl LaidOut {
    /// Plans the arena of a model for what `spec` says; the backend's scratch is then that of this arena.
    fn new<E: Real>(backend: &mut dyn Backend<E>, model: &Model, spec: &EngineSpec) -> Self {
        let mut plan = ArenaPlan::new(backend.element_bytes());
        let base = Trainable::new(&mut plan, model.layout(), spec, spec.trains_base());
        let lora = spec.lora.as_ref().map(|lora| Arc::new(lora.layout(model.shape())));
        let adapters = lora.map(|layout| Trainable::new(&mut plan, &layout, spec, spec.trains_adapters()));
        let buffers = Buffers::new(&mut plan, model.shape(), spec, backend.head_rows(model.shape().vocabulary));
        backend.plan_scratch(&mut plan, spec.extent());
        Self { plan, base, adapters, buffers }
    }
}

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
    /// Seed of the dropout of the pass in progress, where it has one.
    dropout_seed: Option<u64>,
    /// Losses of a batch, `(N)`.
    losses: Vec<E>,
}

impl<E: Real> Engine<E> {
    /// Lays out and allocates the buffers of `model` for what `spec` says. Weights are zero until they are loaded.
    ///
    /// # Errors
    /// [`DeviceError`]: with every part's bytes, and what would fit, when the device has not enough memory.
    pub fn new(mut backend: Box<dyn Backend<E>>, model: Arc<Model>, spec: EngineSpec) -> Result<Self, DeviceError> {
        if !backend.computes_in(spec.precision.dtype()) {
            return Err(DeviceError::Unfit { what: "precision", got: "f32".to_owned(), expected: "bf16" });
        }
        let LaidOut { plan, base, adapters, buffers } = LaidOut::new(&mut *backend, &model, &spec);
        if let Err(error) = backend.allocate(&plan) {
            return Err(fit::with_what_fits(error, &mut *backend, (&model, &spec)));
        }
        base.initial().chain(adapters.iter().flat_map(Trainable::initial)).for_each(|buffer| backend.zero(buffer));
        let losses = vec![E::ZERO; spec.rows];
        Ok(Self { backend, model, spec, plan, base, adapters, buffers, dropout_seed: None, losses })
    }

    /// The same on the processor.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn on_cpu(model: Arc<Model>, spec: EngineSpec) -> Result<Self, DeviceError> {
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

    /// Whether what was asked of it goes on while the caller does something else.
    pub fn works_ahead(&self) -> bool {
        self.backend.works_ahead()
    }

    /// What its device chose by itself so far, that results depend on.
    pub fn choices(&self) -> Option<serde_json::Value> {
        self.backend.choices()
    }

    /// What its device has the user know and has not told yet, a line each.
    pub fn take_warnings(&mut self) -> Vec<String> {
        self.backend.take_warnings()
    }

    /// Its memory, by part.
    pub fn memory(&self) -> &ArenaPlan {
        &self.plan
    }

    /// The sum of the cross-entropy over the batch's targets. With a key, adapters drop out as they do in
    /// [`Self::accumulate`]: the same loss, bit for bit.
    ///
    /// # Errors
    /// [`DeviceError`] when the device fails.
    ///
    /// # Panics
    /// When the batch does not fit the engine ([`Batch::check`] finds out beforehand).
    pub fn loss(&mut self, batch: &Batch, dropout: Option<DropoutKey>) -> Result<LossSum, DeviceError> {
        let kind = if dropout.is_some() { PassKind::DroppedLoss } else { PassKind::Loss };
        self.load_batch(batch, 1.0, dropout);
        if self.backend.begin_pass(kind.key(batch)) {
            self.forward(batch.rows());
            self.head(batch.rows(), false);
            self.backend.end_pass();
        }
        let pending = self.pending(batch);
        self.collect(pending, batch)
    }

    /// The sum of the cross-entropy over the batch's targets, to be collected later; adds the gradients of `scale` times that sum
    /// to those of the step. With `scale` = 1 / G, G the targets of all micro-batches of a step, the gradients of a step are those
    /// of its mean loss however it is cut.
    ///
    /// # Panics
    /// As [`Self::loss`], and when the engine is not made for training.
    pub fn accumulate(&mut self, batch: &Batch, scale: f64, dropout: Option<DropoutKey>) -> PendingLoss {
        assert!(self.spec.trains(), "engine: made without a backward");
        let kind = if dropout.is_some() { PassKind::DroppedGradient } else { PassKind::Gradient };
        self.load_batch(batch, scale, dropout);
        if self.backend.begin_pass(kind.key(batch)) {
            self.forward(batch.rows());
            self.backward(batch.rows());
            self.backend.end_pass();
        }
        self.pending(batch)
    }

    /// The losses of a batch that was accumulated.
    ///
    /// # Errors
    /// [`DeviceError`] when the device failed.
    ///
    /// # Panics
    /// When it is another batch.
    #[expect(clippy::needless_pass_by_value, reason = "losses are collected once")]
    pub fn collect(&mut self, pending: PendingLoss, batch: &Batch) -> Result<LossSum, DeviceError> {
        let PendingLoss { ticket, rows } = pending;
        assert_eq!(rows, batch.rows(), "engine: losses of another batch");
        let losses = &mut self.losses[..rows];
        self.backend.collect(ticket, losses)?;
        // In row order.
        let mut total = LossSum::default();
        for ((loss, &counted), &source) in losses.iter().zip(batch.loss_mask()).zip(batch.token_sources()) {
            if counted {
                total.add(source, loss.to_f64());
            }
        }
        Ok(total)
    }

    /// The logits of every position, `(B, T, V)`, padding included (where they mean nothing). They are held whole:
    /// for tests, exports and short texts, not for training.
    ///
    /// # Errors
    /// [`DeviceError`] when the device fails.
    ///
    /// # Panics
    /// As [`Self::loss`].
    pub fn logits(&mut self, batch: &Batch) -> Result<Vec<E>, DeviceError> {
        self.load_batch(batch, 1.0, None);
        self.forward(batch.rows());
        self.all_logits(batch.rows())
    }

    /// Makes a batch the one that is computed.
    fn load_batch(&mut self, batch: &Batch, scale: f64, dropout: Option<DropoutKey>) {
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
        self.dropout_seed = dropout.map(|key| key.seed);
        let (step, first_row) = dropout.map_or((0, 0), |key| (key.step, key.first_row));
        self.backend.load_batch(batch, Pass { scale, step, first_row });
    }

    /// Leaves the last residual's two halves in the last layer's buffers.
    fn forward(&mut self, rows: usize) {
        for layer in 0..self.model.shape().layers {
            self.layer_forward(layer, rows);
        }
    }

    /// From the losses to the gradients of everything that is trained, `+=`.
    fn backward(&mut self, rows: usize) {
        self.head(rows, true);
        for layer in (0..self.model.shape().layers).rev() {
            self.layer_backward(layer, rows);
        }
        if let Some(gradient) = self.base.gradient() {
            let dstream = self.buffers.dstream.first(rows * self.model.shape().width);
            let dtable = gradient.part(self.model.places().embedding());
            self.backend.embed_backward(dstream, dtable);
        }
    }

    fn pending(&mut self, batch: &Batch) -> PendingLoss {
        let rows = batch.rows();
        PendingLoss { ticket: self.backend.fetch(self.buffers.losses.first(rows)), rows }
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
