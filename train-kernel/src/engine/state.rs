//! Weights, gradients and optimizer state of an engine: their buffers, their way in and out, their update.

use std::sync::Arc;

use super::Engine;
use super::spec::{EngineSpec, MomentPrecision};
use crate::backend::{AdamWStep, ArenaPlan, Buffer, DeviceError, Draw, Dtype, Judgement, Limits, Moments, Part, Ticket, Weights};
use crate::optimizer::{AdamWConstants, AdamWScalars};
use crate::parameters::{Layout, Parameters};
use crate::real::Real;

/// One of the two sets of tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tensors {
    /// The model's own.
    Base,
    /// The adapters'.
    Adapters,
}

/// What of a set of tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Weights, in full precision where they are trained.
    Weights,
    /// Gradients of the step.
    Gradients,
    /// First moments.
    First,
    /// Second moments.
    Second,
}

/// The buffers of one set of tensors, each flat over the layout.
#[derive(Debug, Clone)]
pub(super) struct Trainable {
    pub(super) layout: Arc<Layout>,
    weights: Weights,
    training: Option<TrainingBuffers>,
}

#[derive(Debug, Clone, Copy)]
struct TrainingBuffers {
    gradient: Buffer,
    moments: [Buffer; 2],
}

impl Trainable {
    pub(super) fn new(plan: &mut ArenaPlan, layout: &Arc<Layout>, spec: &EngineSpec, trained: bool) -> Self {
        let (dtype, length) = (spec.precision.dtype(), layout.length());
        let working = plan.buffer(Part::Weights, dtype, length);
        let weights = if trained && dtype == Dtype::Bf16 {
            Weights::Split { working, remainder: plan.buffer(Part::Master, Dtype::Remainder, length) }
        } else {
            Weights::Plain(working)
        };
        let training = trained.then(|| TrainingBuffers {
            gradient: plan.buffer(Part::Gradients, Dtype::F32, length),
            moments: [(); 2].map(|()| plan.buffer(Part::Moments, spec.moments.dtype(), length)),
        });
        Self { layout: Arc::clone(layout), weights, training }
    }

    /// Every buffer that is read before anything has to be written there.
    pub(super) fn initial(&self) -> impl Iterator<Item = Buffer> {
        self.weights.buffers().chain(self.training.into_iter().flat_map(|training| training.moments))
    }

    /// What the model computes with.
    pub(super) fn working(&self) -> Buffer {
        self.weights.working()
    }

    /// Gradients, when it is trained.
    pub(super) fn gradient(&self) -> Option<Buffer> {
        self.training.map(|training| training.gradient)
    }

    /// The buffer of a state that has one.
    fn of(&self, state: State) -> Option<Buffer> {
        let training = self.training?;
        match state {
            State::Weights => None,
            State::Gradients => Some(training.gradient),
            State::First => Some(training.moments[0]),
            State::Second => Some(training.moments[1]),
        }
    }
}

impl<E: Real> Engine<E> {
    /// The set of tensors that is trained: the adapters where there are any.
    pub fn trained(&self) -> Tensors {
        if self.adapters.is_some() { Tensors::Adapters } else { Tensors::Base }
    }

    /// The layout of a set of tensors.
    ///
    /// # Panics
    /// When the engine has no adapters and they are asked for.
    pub fn layout(&self, tensors: Tensors) -> &Arc<Layout> {
        &self.set(tensors).layout
    }

    /// Puts the weights or the state of one tensor in; weights of a trained set are kept in full precision, and those that the model
    /// computes with are their rounding.
    ///
    /// # Panics
    /// When the engine has no such set, state or tensor, or `values` has another length.
    pub fn load_tensor(&mut self, (tensors, state): (Tensors, State), index: usize, values: &[E]) {
        let set = self.set(tensors);
        let range = set.layout.tensors()[index].range();
        if state == State::Weights {
            let to = set.weights.part(range);
            self.backend.upload_weights(to, values);
        } else {
            let to = set.of(state).expect("the engine keeps this state").part(range);
            self.backend.upload(to, values);
        }
    }

    /// The weights or the state of one tensor.
    ///
    /// # Errors
    /// [`DeviceError`] when the device fails.
    ///
    /// # Panics
    /// As [`Self::load_tensor`].
    pub fn read_tensor(&mut self, (tensors, state): (Tensors, State), index: usize, out: &mut [E]) -> Result<(), DeviceError> {
        let set = self.set(tensors);
        let range = set.layout.tensors()[index].range();
        if state == State::Weights {
            let from = set.weights.part(range);
            return self.backend.download_weights(from, out);
        }
        let from = set.of(state).expect("the engine keeps this state").part(range);
        self.backend.download(from, out)
    }

    /// Puts every tensor of a set in.
    ///
    /// # Panics
    /// As [`Self::load_tensor`], and when the layouts differ.
    pub fn load(&mut self, (tensors, state): (Tensors, State), values: &Parameters<E>) {
        let layout = self.layout(tensors);
        assert!(*values.layout == **layout, "engine: the tensors have another layout than the model");
        for index in 0..values.layout.tensors().len() {
            self.load_tensor((tensors, state), index, values.slice(index));
        }
    }

    /// Every tensor of a set.
    ///
    /// # Errors
    /// [`DeviceError`] when the device fails.
    ///
    /// # Panics
    /// As [`Self::load_tensor`].
    pub fn read(&mut self, (tensors, state): (Tensors, State)) -> Result<Parameters<E>, DeviceError> {
        let mut values = Parameters::zeros(Arc::clone(self.layout(tensors)));
        for index in 0..values.layout.tensors().len() {
            self.read_tensor((tensors, state), index, values.slice_mut(index))?;
        }
        Ok(values)
    }

    /// Begins a step: no gradients, no losses.
    ///
    /// # Panics
    /// When the engine is not made for training.
    pub fn begin_step(&mut self) {
        let gradient = self.trained_gradient();
        self.backend.zero(gradient);
        self.backend.begin_step();
    }

    /// Measures the gradient and decides whether the step changes anything; what it finds can be read later.
    ///
    /// # Panics
    /// As [`Self::begin_step`].
    pub fn judge(&mut self, limits: Limits) -> Ticket {
        let gradient = self.trained_gradient();
        self.backend.judge(gradient, limits)
    }

    /// What [`Self::judge`] found, once.
    ///
    /// # Errors
    /// [`DeviceError`] when the device failed.
    pub fn judgement(&mut self, ticket: Ticket) -> Result<Judgement, DeviceError> {
        self.backend.judgement(ticket)
    }

    /// Applies the `updates`-th update, from 1, unless the step was judged not to change anything.
    ///
    /// # Panics
    /// As [`Self::begin_step`].
    pub fn update(&mut self, constants: AdamWConstants, learning_rate: f64, updates: u64) {
        let set = self.set(self.trained()).clone();
        let training = set.training.expect("the engine is made for training");
        for (range, decayed) in decay_ranges(&set.layout) {
            let moments = training.moments.map(|moment| moment.part(range.clone()));
            let draw = Draw { seed: self.spec.seed, update: updates, first_element: range.start as u64 };
            self.backend.adamw(AdamWStep {
                weights: set.weights.part(range.clone()),
                gradient: training.gradient.part(range.clone()),
                moments: match self.spec.moments {
                    MomentPrecision::F32 => Moments::Exact(moments),
                    MomentPrecision::Bf16 => Moments::Drawn(moments, draw),
                },
                scalars: AdamWScalars::new(constants, learning_rate, decayed, updates),
            });
        }
    }

    /// Measures the Euclidean norm of the trained weights; it can be read later.
    ///
    /// # Panics
    /// As [`Self::begin_step`].
    pub fn weight_norm(&mut self) -> Ticket {
        let weights = self.set(self.trained()).weights;
        self.backend.norm_of(weights)
    }

    /// What [`Self::weight_norm`] found, once.
    ///
    /// # Errors
    /// [`DeviceError`] when the device failed.
    pub fn found_norm(&mut self, ticket: Ticket) -> Result<f64, DeviceError> {
        self.backend.found_norm(ticket)
    }

    fn trained_gradient(&self) -> Buffer {
        self.set(self.trained()).gradient().expect("the engine is made for training")
    }

    fn set(&self, tensors: Tensors) -> &Trainable {
        match tensors {
            Tensors::Base => &self.base,
            Tensors::Adapters => self.adapters.as_ref().expect("the engine has adapters"),
        }
    }
}

/// Consecutive tensors that are all decayed or all not: matrices are, norms are not.
fn decay_ranges(layout: &Layout) -> Vec<(std::ops::Range<usize>, bool)> {
    let mut ranges: Vec<(std::ops::Range<usize>, bool)> = Vec::new();
    for tensor in layout.tensors() {
        match ranges.last_mut() {
            Some((range, decayed)) if *decayed == tensor.matrix => range.end = tensor.range().end,
            _ => ranges.push((tensor.range(), tensor.matrix)),
        }
    }
    ranges
}
