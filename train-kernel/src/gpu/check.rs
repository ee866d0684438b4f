//! Every operation of the card against its twin on the processor, on inputs that are hard to get right: for the tests, on the
//! emulated card, and for `bench/gpu`, on a real one.

mod attention;
mod elementwise;
mod model;
mod optimizer;
mod rows;

use crate::backend::{ArenaPlan, Backend, Buffer, Cpu, Dtype, Extent, Part, Pass, Weights};
use crate::batch::{Batch, SequenceParts};
use crate::gpu::{Device, Gpu, SumOrder};
use crate::random::{Purpose, Stream};
use crate::shape::Shape;

/// The same buffer on both.
#[derive(Clone, Copy, Debug)]
struct Pair {
    cpu: Buffer,
    gpu: Buffer,
}

/// The same weights in two halves on both.
#[derive(Clone, Copy, Debug)]
struct SplitPair {
    working: Pair,
    remainder: Pair,
}

impl SplitPair {
    /// Those of one of them.
    fn at(self, at: impl Fn(Pair) -> Buffer) -> Weights {
        Weights::Split { working: at(self.working), remainder: at(self.remainder) }
    }
}

/// How far an operation was off.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What was computed.
    pub operation: &'static str,
    /// On what.
    pub case: String,
    /// The largest difference, as a share of what the derivation allows; above 1 it is wrong. 0 is the same bits.
    pub share_of_bound: f64,
    /// The largest difference over the largest value.
    pub relative: f64,
    /// Of the card's bits: the same whatever the order of its threads. 0 where none were read.
    pub digest: u64,
}

/// A check with its name.
pub type NamedCheck<C> = (&'static str, fn(&C) -> Vec<Finding>);

/// Where and how operations are checked.
pub struct Checks<'a, D: Device> {
    /// A new card; the number decides the order of an emulated one's threads.
    pub card: &'a dyn Fn(u64) -> D,
    /// Whether outputs are NaN beforehand, so that what is not written is seen. An emulated card sees it by itself.
    pub poison: bool,
    /// Of the inputs.
    pub seed: u64,
}

impl<D: Device + 'static> Checks<'_, D> {
    /// Every check, by name.
    ///
    /// # Panics
    /// Never here; a check panics when an operation is wrong, and names it with the element.
    pub fn all(&self) -> Vec<NamedCheck<Self>> {
        vec![
            ("embedding", rows::embedding),
            ("norm", rows::norms),
            ("frozen norm", rows::frozen_norm),
            ("cross-entropy", rows::cross_entropy),
            ("conversion", elementwise::conversions),
            ("gated activation", elementwise::gated_activation),
            ("extreme gates", elementwise::extreme_gates),
            ("rotation", elementwise::rotation),
            ("dropout", elementwise::dropout),
            ("attention", attention::attention),
            ("attention in any order", attention::attention_in_any_order),
            ("cached attention", attention::cached),
            ("update", optimizer::updates),
            ("every pattern of a weight", optimizer::patterns),
            ("moments in bf16", optimizer::drawn_moments),
            ("update of what is no number", optimizer::not_finite),
            ("model", model::training),
        ]
    }
}

/// Both backends, with the same buffers.
struct Twins<D: Device> {
    cpu: Cpu<f32>,
    gpu: Gpu<D>,
    plans: [ArenaPlan; 2],
    extent: Extent,
    seed: u64,
    poison: bool,
    pairs: Vec<Pair>,
    findings: Vec<Finding>,
}

/// A model of heads of 64.
fn shape(width: usize, feed_forward: usize, vocabulary: usize) -> Shape {
    let heads = width / 64;
    let tiny = Shape::named("tiny", vocabulary).expect("there is a shape of this name");
    Shape { width, feed_forward, heads, kv_heads: heads, layers: 1, max_positions: 512, ..tiny }
}

impl<D: Device> Twins<D> {
    /// For up to `rows` rows; the number decides the order of emulated threads.
    fn new(checks: &Checks<'_, D>, shape: &Shape, rows: usize, order: u64) -> Self {
        Self::summing(checks, shape, rows, (order, SumOrder::Fixed))
    }

    /// The same, with sums in this order.
    fn summing(checks: &Checks<'_, D>, shape: &Shape, rows: usize, (order, sums): (u64, SumOrder)) -> Self {
        let gpu = Gpu::new((checks.card)(order), shape).expect("shapes of checks fit the kernels").with_order(sums);
        let cpu = Cpu::new(shape);
        let plans = [cpu.element_bytes(), gpu.element_bytes()].map(ArenaPlan::new);
        let (seed, poison) = (checks.seed, checks.poison);
        let extent = Extent { rows, positions: 512, cache_capacity: None };
        Self { cpu, gpu, plans, extent, seed, poison, pairs: Vec::new(), findings: Vec::new() }
    }

    fn buffer(&mut self, dtype: Dtype, length: usize) -> Pair {
        let [cpu, gpu] = &mut self.plans;
        let pair = Pair { cpu: cpu.buffer(Part::Weights, dtype, length), gpu: gpu.buffer(Part::Weights, dtype, length) };
        self.pairs.push(pair);
        pair
    }

    fn values(&mut self, length: usize) -> Pair {
        self.buffer(Dtype::Bf16, length)
    }

    fn exact(&mut self, length: usize) -> Pair {
        self.buffer(Dtype::F32, length)
    }

    fn split(&mut self, length: usize) -> SplitPair {
        let working = self.values(length);
        SplitPair { working, remainder: self.buffer(Dtype::Remainder, length) }
    }

    /// Allocates what was asked for.
    fn start(&mut self) {
        let extent = self.extent;
        let [cpu, gpu] = &mut self.plans;
        self.cpu.plan_scratch(cpu, extent);
        self.gpu.plan_scratch(gpu, extent);
        self.cpu.allocate(cpu).expect("checks are small");
        self.gpu.allocate(gpu).expect("checks are small");
        if self.poison {
            // Remainders are never written without their weights, which show what is not.
            for pair in self.pairs.clone().into_iter().filter(|pair| pair.gpu.dtype() != Dtype::Remainder) {
                self.gpu.upload(pair.gpu, &vec![f32::NAN; pair.gpu.length()]);
            }
        }
    }

    fn fill(&mut self, pair: Pair, values: &[f32]) {
        self.cpu.upload(pair.cpu, values);
        self.gpu.upload(pair.gpu, values);
    }

    fn fill_weights(&mut self, weights: SplitPair, values: &[f32]) {
        self.cpu.upload_weights(weights.at(|pair| pair.cpu), values);
        self.gpu.upload_weights(weights.at(|pair| pair.gpu), values);
    }

    /// Normal values times `scale`, of a stream of their own.
    fn fill_random(&mut self, pair: Pair, stream: usize, scale: f64) {
        let values = self.random(pair.cpu.length(), stream, scale);
        self.fill(pair, &values);
    }

    /// The same values.
    fn random(&self, length: usize, stream: usize, scale: f64) -> Vec<f32> {
        let stream = Stream::new(self.seed, Purpose::Initialisation, 0, stream);
        (0..length).map(|i| (scale * stream.normal(i as u64)) as f32).collect()
    }

    /// Asks the same of both.
    fn run(&mut self, operation: impl Fn(&mut dyn Backend<f32>, &dyn Fn(Pair) -> Buffer)) {
        operation(&mut self.cpu, &|pair| pair.cpu);
        operation(&mut self.gpu, &|pair| pair.gpu);
    }

    fn both(&mut self, pair: Pair) -> [Vec<f32>; 2] {
        let mut values = [vec![0.0; pair.cpu.length()], vec![0.0; pair.cpu.length()]];
        self.cpu.download(pair.cpu, &mut values[0]).expect("the processor does not fail");
        self.gpu.download(pair.gpu, &mut values[1]).unwrap_or_else(|error| panic!("{error}"));
        values
    }

    fn both_weights(&mut self, weights: SplitPair) -> [Vec<f32>; 2] {
        let mut values = [(); 2].map(|()| vec![0.0; weights.working.cpu.length()]);
        self.cpu.download_weights(weights.at(|pair| pair.cpu), &mut values[0]).expect("the processor does not fail");
        self.gpu.download_weights(weights.at(|pair| pair.gpu), &mut values[1]).unwrap_or_else(|error| panic!("{error}"));
        values
    }

    /// Both hold the same bits.
    fn assert_same(&mut self, operation: &'static str, pair: Pair, case: &str) {
        let both = self.both(pair);
        self.assert_same_bits(operation, &both, case);
    }

    /// Both hold the same bits, in both halves.
    fn assert_same_weights(&mut self, operation: &'static str, weights: SplitPair, case: &str) {
        let both = self.both_weights(weights);
        self.assert_same_bits(operation, &both, case);
        self.assert_same(operation, weights.working, case);
    }

    fn assert_same_bits(&mut self, operation: &'static str, [cpu, gpu]: &[Vec<f32>; 2], case: &str) {
        for (index, (cpu, gpu)) in cpu.iter().zip(gpu).enumerate() {
            let same = cpu.to_bits() == gpu.to_bits();
            assert!(same, "{operation}, {case}: element {index}: {cpu:e} on the processor, {gpu:e} on the card");
        }
        self.findings.push(Finding { operation, case: case.to_owned(), share_of_bound: 0.0, relative: 0.0, digest: digest(gpu) });
    }

    /// Elements differ by at most `relative` of the larger and `absolute`.
    fn assert_near(&mut self, operation: &'static str, pair: Pair, (relative, absolute): (f32, f32), case: &str) {
        let [cpu, gpu] = self.both(pair);
        let (mut worst, mut largest, mut most) = (0.0_f32, 0.0_f32, 0.0_f32);
        for (index, (cpu, gpu)) in cpu.iter().zip(&gpu).enumerate() {
            let bound = relative * cpu.abs().max(gpu.abs()) + absolute;
            let error = if cpu.to_bits() == gpu.to_bits() { 0.0 } else { (cpu - gpu).abs() };
            assert!(
                error <= bound,
                "{operation}, {case}: element {index}: {cpu:e} on the processor, {gpu:e} on the card, bound {bound:e}"
            );
            worst = worst.max(if bound > 0.0 { error / bound } else { 0.0 });
            largest = largest.max(error);
            most = most.max(cpu.abs());
        }
        let digest = digest(&gpu);
        let relative = if most > 0.0 { f64::from(largest / most) } else { 0.0 };
        self.findings.push(Finding { operation, case: case.to_owned(), share_of_bound: f64::from(worst), relative, digest });
    }

    /// bf16 results of f32 sums that differ in their last bits: the next bf16 at most, and that seldom.
    fn assert_rounded_alike(&mut self, operation: &'static str, pair: Pair, case: &str) {
        self.assert_rounded_within(operation, pair, 1e-6, case);
    }

    /// The same of f32 sums that differ by up to `absolute`, which counts where terms cancel.
    fn assert_rounded_within(&mut self, operation: &'static str, pair: Pair, absolute: f32, case: &str) {
        self.assert_near(operation, pair, (ONE_ROUNDING, absolute), case);
        let [cpu, gpu] = self.both(pair);
        let different = cpu.iter().zip(&gpu).filter(|(cpu, gpu)| cpu.to_bits() != gpu.to_bits()).count();
        let allowed = 2 + cpu.len() / 100;
        assert!(different <= allowed, "{operation}, {case}: {different} of {} elements are rounded otherwise", cpu.len());
    }

    /// The card wrote the same bits to both.
    fn assert_repeated(&mut self, operation: &'static str, [first, second]: [Pair; 2], case: &str) {
        let [[_, first], [_, second]] = [self.both(first), self.both(second)];
        let same = first.iter().zip(&second).all(|(first, second)| first.to_bits() == second.to_bits());
        assert!(same, "{operation}, {case}: computed again to other bits");
    }

    /// Makes sequences of `length` tokens the rows, with these ends of documents each.
    fn load(&mut self, tokens: &[u32], length: usize, ends: &[u32], pass: Pass) {
        let segments: Vec<(u32, u16)> = ends.iter().map(|end| (*end, 0)).collect();
        let part = |tokens| SequenceParts { tokens, segments: &segments, loss_mask: None };
        let parts: Vec<SequenceParts<'_>> = tokens.chunks_exact(length).map(part).collect();
        let batch = Batch::from_parts(&parts).expect("documents follow each other");
        self.run(|backend, _| backend.load_batch(&batch, pass));
    }
}

fn digest(values: &[f32]) -> u64 {
    let digest = blake3::hash(bytemuck::cast_slice(values));
    let (first, _) = digest.as_bytes().split_at(8);
    u64::from_le_bytes(first.try_into().expect("eight bytes"))
}

/// One rounding to bf16 apart: 2^-8 of the larger at most, or 2^-7 across a power of two.
const ONE_ROUNDING: f32 = 1.0 / 128.0;

/// Token ids below `vocabulary`, some of them often.
fn tokens(count: usize, vocabulary: u32) -> Vec<u32> {
    let stream = Stream::new(5, Purpose::Sampling, 0, 0);
    (0..count as u64).map(|i| if stream.bits(i).is_multiple_of(3) { 7 } else { stream.bits(i) / 3 % vocabulary }).collect()
}
