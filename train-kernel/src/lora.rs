//! Low-rank adapters (Hu and others, "`LoRA`", 2021): y = W x + (alpha / r) B A dropout(x), and their merge into weights.
//!
//! The base weights stay as they are; an adapter is a [`Parameters`] of its own with the names that PEFT writes. Where the
//! adapters enter the model's mathematics stands in `model`, reading and writing files elsewhere.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::checkpoint::TensorValues;
use crate::ops::gemm::{self, Terms, matrix, matrix_mut};
use crate::parameters::{Layout, Parameters, fill};
use crate::random::{Purpose, Stream};
use crate::real::Real;
use crate::shape::Shape;

/// A projection that adapters can be put on, in the order of [`Layout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Target {
    /// `self_attn.q_proj`
    #[serde(rename = "q_proj")]
    Query,
    /// `self_attn.k_proj`
    #[serde(rename = "k_proj")]
    Key,
    /// `self_attn.v_proj`
    #[serde(rename = "v_proj")]
    Value,
    /// `self_attn.o_proj`
    #[serde(rename = "o_proj")]
    Output,
    /// `mlp.gate_proj`
    #[serde(rename = "gate_proj")]
    Gate,
    /// `mlp.up_proj`
    #[serde(rename = "up_proj")]
    Up,
    /// `mlp.down_proj`
    #[serde(rename = "down_proj")]
    Down,
}

impl Target {
    /// All seven.
    pub const ALL: [Self; 7] = [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// Its module inside a layer, for example `self_attn.q_proj`.
    pub fn module(self) -> &'static str {
        match self {
            Self::Query => "self_attn.q_proj",
            Self::Key => "self_attn.k_proj",
            Self::Value => "self_attn.v_proj",
            Self::Output => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }

    /// Its name without its parent, for example `q_proj`, as PEFT matches it.
    pub fn name(self) -> &'static str {
        self.module().rsplit('.').next().unwrap_or_default()
    }

    /// (out, in) of the projection it adapts.
    pub fn extents(self, shape: &Shape) -> (usize, usize) {
        let [c, f, kv] = [shape.width, shape.feed_forward, shape.kv_width()];
        match self {
            Self::Query | Self::Output => (c, c),
            Self::Key | Self::Value => (kv, c),
            Self::Gate | Self::Up => (f, c),
            Self::Down => (c, f),
        }
    }
}

/// What adapters to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraSpec {
    /// Rank r, at least 1.
    pub rank: usize,
    /// The product is scaled by alpha / r.
    pub alpha: f64,
    /// Share of adapter inputs set to 0 in training, 0 to below 1.
    pub dropout: f64,
    /// The projections adapted, in every layer.
    pub targets: Vec<Target>,
    /// Whether the product is scaled by alpha / sqrt(r) instead (Kalajdzievski 2023).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rslora: bool,
}

impl Default for LoraSpec {
    /// Rank 16, alpha 32, dropout 0.05, all seven projections.
    fn default() -> Self {
        Self { rank: 16, alpha: 32.0, dropout: 0.05, targets: Target::ALL.to_vec(), rslora: false }
    }
}

/// What is wrong with a [`LoraSpec`], or with adapters for a model.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum LoraError {
    /// A field out of its range.
    #[error("adapters: {field}: got {got}, expected {expected}; correct the recipe's adapter table")]
    Field {
        /// The offending field.
        field: &'static str,
        /// Its value.
        got: String,
        /// What would be right.
        expected: &'static str,
    },
    /// Weights or adapters of another shape than the model's.
    #[error("adapters: {what}: got {got} elements, expected {expected}; use the model they were trained on")]
    Mismatch {
        /// "base weights" or "adapter weights".
        what: &'static str,
        /// Elements given.
        got: usize,
        /// Elements of the model's layout.
        expected: usize,
    },
}

impl LoraSpec {
    /// alpha / r, or alpha / sqrt(r).
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// Checks ranges, and that every projection stands at most once.
    ///
    /// # Errors
    /// [`LoraError::Field`].
    pub fn check(&self) -> Result<(), LoraError> {
        let field = |field, got: String, expected| Err(LoraError::Field { field, got, expected });
        if self.rank == 0 {
            return field("rank", self.rank.to_string(), "at least 1");
        }
        if !self.alpha.is_finite() || self.alpha <= 0.0 {
            return field("alpha", self.alpha.to_string(), "a positive finite number");
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return field("dropout", self.dropout.to_string(), "from 0 to below 1");
        }
        let mut sorted = self.targets.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.is_empty() || sorted.len() != self.targets.len() {
            return field("targets", format!("{:?}", self.targets), "one or more projections, each once");
        }
        Ok(())
    }

    /// The tensors of the adapters: for each layer, for each target in order, A `[r, in]` then B `[out, r]`, with the names
    /// of a PEFT file.
    pub fn layout(&self, shape: &Shape) -> Layout {
        Layout::from_tensors((0..shape.layers).flat_map(|layer| {
            self.targets.iter().flat_map(move |target| {
                let (output, input) = target.extents(shape);
                let name = |factor| format!("base_model.model.model.layers.{layer}.{}.lora_{factor}.weight", target.module());
                [(name("A"), vec![self.rank, input]), (name("B"), vec![output, self.rank])]
            })
        }))
    }

    /// The layout's index of A for this target in this layer, when it has an adapter; that of B is one more.
    pub fn index(&self, layer: usize, target: Target) -> Option<usize> {
        let place = self.targets.iter().position(|&other| other == target)?;
        Some(2 * (layer * self.targets.len() + place))
    }

    /// Number of adapter parameters, computed without allocating.
    pub fn parameter_count(&self, shape: &Shape) -> u64 {
        let widths: usize = self.targets.iter().map(|target| target.extents(shape)).map(|(o, i)| o + i).sum();
        self.rank as u64 * widths as u64 * shape.layers as u64
    }
}

/// Gradients or moments of adapters: the same type as the base's, on the adapters' layout.
pub type AdapterParameters<R> = Parameters<R>;

/// Addresses the dropout of one micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropoutKey {
    /// The run's seed.
    pub seed: u64,
    /// The optimizer step, from 0.
    pub step: u64,
    /// Rows (tokens) of this step before this micro-batch's first: with it, how a step is cut into micro-batches does not
    /// change what is dropped.
    pub first_row: u64,
}

/// Adapters for one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapters<R: Real> {
    /// What they are.
    pub spec: LoraSpec,
    /// A and B of every target.
    pub parameters: AdapterParameters<R>,
    /// Set for every training micro-batch; None (evaluation, generation) switches dropout off.
    pub dropout: Option<DropoutKey>,
}

impl<R: Real> Adapters<R> {
    /// Fresh adapters: A uniform within 1 / sqrt(in) (Kaiming uniform with a = sqrt 5), B zero, so that they change nothing.
    ///
    /// # Errors
    /// [`LoraError::Field`] when the specification is impossible.
    pub fn initialised(shape: &Shape, spec: LoraSpec, seed: u64) -> Result<Self, LoraError> {
        spec.check()?;
        let layout = Arc::new(spec.layout(shape));
        let mut parameters = Parameters::zeros(Arc::clone(&layout));
        for (index, tensor) in layout.tensors().iter().enumerate().step_by(2) {
            let bound = 1.0 / (tensor.shape[1] as f64).sqrt();
            let stream = Stream::new(seed, Purpose::AdapterInitialisation, 0, index);
            fill(parameters.slice_mut(index), |element| bound * (2.0 * stream.uniform(element) - 1.0));
        }
        Ok(Self { spec, parameters, dropout: None })
    }

    /// The layout's index of A for this target in this layer, when it has an adapter; that of B is one more.
    pub fn index(&self, layer: usize, target: Target) -> Option<usize> {
        self.spec.index(layer, target)
    }

    /// The same adapters in another width.
    pub fn cast<S: Real>(&self) -> Adapters<S> {
        Adapters { spec: self.spec.clone(), parameters: self.parameters.cast(), dropout: self.dropout }
    }
}

/// Weights with adapters folded in.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged<R: Real> {
    /// W + (alpha / r) B A where there is an adapter, W elsewhere.
    pub parameters: Parameters<R>,
    /// The largest change of any weight, max |delta W|.
    pub max_change: f64,
}

/// Original weights with adapters, folded one tensor at a time.
#[derive(Debug, Clone, Copy)]
pub struct Merge<'a, R: Real> {
    shape: &'a Shape,
    base: &'a Parameters<R>,
    spec: &'a LoraSpec,
    adapters: &'a Parameters<R>,
}

impl<'a, R: Real> Merge<'a, R> {
    /// Of weights and adapters that both have the model's shape.
    ///
    /// # Panics
    /// When they do not: [`merge`] finds out beforehand.
    pub fn new(shape: &'a Shape, base: &'a Parameters<R>, (spec, adapters): (&'a LoraSpec, &'a Parameters<R>)) -> Self {
        assert!(spec.layout(shape) == *adapters.layout, "merge: the adapters have another layout");
        Self { shape, base, spec, adapters }
    }

    /// What is added to the tensor at `index` of the base, where it has an adapter: computed in the width of the weights.
    fn change(&self, index: usize) -> Option<Vec<R>> {
        let rest = self.base.layout.tensors()[index].name.strip_prefix("model.layers.")?.strip_suffix(".weight")?;
        let (layer, module) = rest.split_once('.')?;
        let target = self.spec.targets.iter().find(|target| target.module() == module)?;
        let at = self.spec.index(layer.parse().ok()?, *target)?;
        let ((output, input), rank) = (target.extents(self.shape), self.spec.rank);
        let a = matrix(self.adapters.slice(at), rank, input, input);
        let b = matrix(self.adapters.slice(at + 1), output, rank, rank);
        let mut change = vec![R::ZERO; output * input];
        let scale = R::from_f64(self.spec.scale());
        gemm::multiply(Terms::scaled(scale), b, a, matrix_mut(&mut change, output, input, input));
        Some(change)
    }
}

impl TensorValues for Merge<'_, f32> {
    fn layout(&self) -> &Layout {
        &self.base.layout
    }

    fn values(&self, index: usize) -> Cow<'_, [f32]> {
        let base = self.base.slice(index);
        match self.change(index) {
            None => Cow::Borrowed(base),
            Some(change) => base.iter().zip(&change).map(|(weight, delta)| weight + delta).collect(),
        }
    }
}

/// Folds adapters into the original weights: each change is computed in the width of the weights and added once.
///
/// # Errors
/// [`LoraError::Mismatch`] when either does not have the model's shape, [`LoraError::Field`] for an impossible
/// specification.
pub fn merge<R: Real>(shape: &Shape, parameters: &Parameters<R>, adapters: &Adapters<R>) -> Result<Merged<R>, LoraError> {
    adapters.spec.check()?;
    let expected = Layout::of(shape).length();
    check_length("base weights", parameters.data.len(), expected)?;
    let expected = adapters.spec.layout(shape).length();
    check_length("adapter weights", adapters.parameters.data.len(), expected)?;
    let mut merged = parameters.clone();
    let mut max_change = R::ZERO;
    let folded = Merge::new(shape, parameters, (&adapters.spec, &adapters.parameters));
    for index in 0..parameters.layout.tensors().len() {
        let Some(change) = folded.change(index) else { continue };
        for (weight, delta) in merged.slice_mut(index).iter_mut().zip(&change) {
            *weight += *delta;
            max_change = max_change.maximum(delta.absolute());
        }
    }
    Ok(Merged { parameters: merged, max_change: max_change.to_f64() })
}

fn check_length(what: &'static str, got: usize, expected: usize) -> Result<(), LoraError> {
    if got == expected { Ok(()) } else { Err(LoraError::Mismatch { what, got, expected }) }
}

#[cfg(test)]
mod tests {
    use super::{Adapters, LoraError, LoraSpec, Target, merge};
    use crate::parameters::Parameters;
    use crate::shape::Shape;

    #[test]
    fn golden_adapter_counts() {
        let check = |name: &str, counts: [u64; 3]| {
            let shape = Shape::named(name, 32_000).unwrap();
            for (rank, expected) in [1, 8, 16].into_iter().zip(counts) {
                let spec = LoraSpec { rank, ..LoraSpec::default() };
                assert_eq!(spec.parameter_count(&shape), expected, "{name} rank {rank}");
                assert_eq!(spec.layout(&shape).length() as u64, expected, "{name} rank {rank}");
            }
        };
        check("llama-2-7b", [2_498_560, 19_988_480, 39_976_960]);
        check("llama-2-13b", [3_911_680, 31_293_440, 62_586_880]);
        check("llama-2-70b", [12_943_360, 103_546_880, 207_093_760]);
    }

    #[test]
    fn names_are_those_of_peft() {
        let shape = Shape::named("tiny", 10).unwrap();
        let spec = LoraSpec { targets: vec![Target::Value, Target::Down], ..LoraSpec::default() };
        let layout = spec.layout(&shape);
        let tensor = &layout.tensors()[4 + 3];
        assert_eq!(tensor.name, "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight");
        assert_eq!(tensor.shape, [96, 16]);
        let adapters = Adapters::<f32>::initialised(&shape, spec, 1).unwrap();
        assert_eq!(adapters.index(1, Target::Down), Some(6));
        assert_eq!(adapters.index(1, Target::Query), None);
    }

    #[test]
    fn impossible_specifications_are_refused() {
        let check = |change: &dyn Fn(&mut LoraSpec), expected: &str| {
            let mut spec = LoraSpec::default();
            change(&mut spec);
            match spec.check() {
                Err(LoraError::Field { field, .. }) => assert_eq!(field, expected),
                other => panic!("{expected}: {other:?}"),
            }
        };
        check(&|spec| spec.rank = 0, "rank");
        check(&|spec| spec.alpha = f64::INFINITY, "alpha");
        check(&|spec| spec.dropout = 1.0, "dropout");
        check(&|spec| spec.targets.clear(), "targets");
        check(&|spec| spec.targets.push(Target::Up), "targets");
        assert_eq!(LoraSpec::default().check(), Ok(()));
    }

    #[test]
    fn fresh_adapters_merge_to_the_base_bitwise() {
        let shape = Shape::named("tiny", 20).unwrap();
        let base = Parameters::<f32>::initialised(&shape, 1);
        let mut adapters = Adapters::initialised(&shape, LoraSpec::default(), 2).unwrap();
        let merged = merge(&shape, &base, &adapters).unwrap();
        assert_eq!(merged.parameters, base);
        assert_eq!(merged.max_change.to_bits(), 0.0_f64.to_bits());
        let b = adapters.index(0, Target::Query).unwrap() + 1;
        adapters.parameters.slice_mut(b)[0] = 1.0;
        let merged = merge(&shape, &base, &adapters).unwrap();
        // B is 1 at its first place alone: the change is alpha / r = 2 times the first row of A.
        let row = &adapters.parameters.slice(b - 1)[..shape.width];
        let expected = 2.0 * row.iter().fold(0.0_f32, |most, a| most.max(a.abs()));
        assert_eq!(merged.max_change.to_bits(), f64::from(expected).to_bits());
        let other = Shape { vocabulary: 21, ..shape };
        assert!(matches!(merge(&other, &base, &adapters), Err(LoraError::Mismatch { .. })));
    }
}
