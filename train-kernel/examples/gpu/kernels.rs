//! Each operation at the sizes of LLaMA-2-7B: seconds, and what of bytes or operations that makes a second.

use std::error::Error;

use mellama_train::backend::{
    AdamWStep, ArenaPlan, Attention, AttentionBackward, Backend, Buffer, CrossEntropy, Dtype, Extent, Limits, Matrix, Moments,
    Norm, NormBackward, Part, Pass, Product, Residual, Turn, Weights,
};
use mellama_train::gpu::{Device, Gpu, SumOrder};
use mellama_train::optimizer::{AdamWConstants, AdamWScalars};
use mellama_train::{Batch, SequenceParts, Shape};
use serde_json::{Value, json};

use crate::timing::{random_values, seconds};

/// Two sequences of 4,096 tokens.
const SEQUENCES: usize = 2;
/// Elements of the update: 2 GB of each f32 vector.
const UPDATED: usize = 1 << 29;

/// The buffers of a layer and its gradients.
struct Buffers {
    rows: Vec<Buffer>,
    fused: [Buffer; 2],
    gate_up: [Buffer; 2],
    activations: [Buffer; 2],
    exact: [Buffer; 2],
    lse: Buffer,
    logits: Buffer,
    weight: Buffer,
    vectors: Vec<Buffer>,
    weights: Weights,
    gradient: Buffer,
}

/// What an operation does.
#[derive(Clone, Copy)]
enum Work {
    Bytes(f64),
    Flops(f64),
}

struct Bench<D: Device> {
    gpu: Gpu<D>,
    shape: Shape,
    length: usize,
    buffers: Buffers,
    results: Vec<Value>,
}

/// Measures every operation.
pub(crate) fn measure<D: Device>(card: &dyn Fn(u64) -> D) -> Result<Value, Box<dyn Error>> {
    let emulated = card(0).properties().name == "emulated";
    let (shape, length) = if emulated { (small()?, 64) } else { (Shape::named("llama-2-7b", 32_000)?, 4096) };
    let mut bench = Bench::new(card(0), shape, length, if emulated { 4096 } else { UPDATED })?;
    bench.rowwise()?;
    bench.elementwise()?;
    bench.attention()?;
    bench.products()?;
    bench.optimizer()?;
    Ok(Value::Array(bench.results))
}

fn small() -> Result<Shape, Box<dyn Error>> {
    Ok(Shape { width: 128, feed_forward: 344, layers: 1, heads: 2, kv_heads: 2, ..Shape::named("tiny", 512)? })
}

impl<D: Device> Bench<D> {
    fn new(card: D, shape: Shape, length: usize, updated: usize) -> Result<Self, Box<dyn Error>> {
        let mut gpu = Gpu::new(card, &shape)?.with_order(SumOrder::Any);
        let mut plan = ArenaPlan::new(gpu.element_bytes());
        let (n, c, f) = (SEQUENCES * length, shape.width, shape.feed_forward);
        let fused = n * (c + 2 * shape.kv_width());
        let mut values = |length: usize| plan.buffer(Part::Weights, Dtype::Bf16, length);
        let rows = (0..6).map(|_| values(n * c)).collect();
        let (fused, gate_up) = ([values(fused), values(fused)], [values(2 * n * f), values(2 * n * f)]);
        let activations = [values(n * f), values(n * f)];
        let (logits, weight, working) = (values(n.min(4096) * shape.vocabulary), values(2 * f * c), values(updated));
        let weights = Weights::Split { working, remainder: plan.buffer(Part::Master, Dtype::Remainder, updated) };
        let mut exact = |length: usize| plan.buffer(Part::Weights, Dtype::F32, length);
        let buffers = Buffers {
            rows,
            fused,
            gate_up,
            activations,
            exact: [exact(n), exact(c)],
            lse: exact(n * shape.heads),
            logits,
            weight,
            vectors: (0..3).map(|_| exact(updated)).collect(),
            weights,
            gradient: exact(2 * f * c),
        };
        gpu.plan_scratch(&mut plan, Extent { rows: n, positions: length, cache_capacity: None });
        gpu.allocate(&plan)?;
        let mut bench = Self { gpu, shape, length, buffers, results: Vec::new() };
        bench.fill();
        Ok(bench)
    }

    fn fill(&mut self) {
        let Buffers { rows, fused, gate_up, activations, exact, lse, logits, weight, vectors, weights, gradient } = &self.buffers;
        let all = rows.iter().chain(fused).chain(gate_up).chain(activations).chain(exact).chain(vectors);
        let all: Vec<Buffer> = all.chain([lse, logits, weight, gradient]).copied().collect();
        let values = random_values(1 << 24, 3);
        for buffer in all {
            for first in (0..buffer.length()).step_by(values.len()) {
                let end = buffer.length().min(first + values.len());
                self.gpu.upload(buffer.part(first..end), &values[..end - first]);
            }
        }
        for first in (0..weights.length()).step_by(values.len()) {
            let end = weights.length().min(first + values.len());
            self.gpu.upload_weights(weights.part(first..end), &values[..end - first]);
        }
        let tokens: Vec<u32> = (0..(SEQUENCES * self.length) as u32).map(|i| i * 7919 % self.shape.vocabulary as u32).collect();
        let segments = [(self.length as u32, 0)];
        let part = |tokens| SequenceParts { tokens, segments: &segments, loss_mask: None };
        let parts: Vec<SequenceParts<'_>> = tokens.chunks_exact(self.length).map(part).collect();
        let batch = Batch::from_parts(&parts).expect("one document a sequence");
        self.gpu.load_batch(&batch, Pass { scale: 1e-4, step: 0, first_row: 0 });
        self.gpu.begin_step();
    }

    fn time(&mut self, name: &str, work: Work, mut call: impl FnMut(&mut dyn Backend<f32>)) -> Result<(), Box<dyn Error>> {
        let probe = self.buffers.exact[1].first(4);
        let seconds = seconds(&mut self.gpu, probe, (7, 10), &mut call)?;
        let (unit, rate) = match work {
            Work::Bytes(bytes) => ("bytes_per_second", bytes / seconds),
            Work::Flops(flops) => ("flops", flops / seconds),
        };
        self.results.push(json!({ "operation": name, "seconds": seconds, unit: rate }));
        Ok(())
    }

    fn n(&self) -> usize {
        SEQUENCES * self.length
    }

    fn rowwise(&mut self) -> Result<(), Box<dyn Error>> {
        let (n, c, v) = (self.n(), self.shape.width, self.shape.vocabulary);
        let [x, delta, sum, out, dout, dx] = std::array::from_fn(|index| self.buffers.rows[index]);
        let (rstd, dweight, weight) = (self.buffers.exact[0], self.buffers.exact[1], self.buffers.weight.first(c));
        let row = (2 * n * c) as f64;
        self.time("norm with residual", Work::Bytes(4.0 * row), |gpu| {
            let residual = Some(Residual { delta, sum });
            gpu.norm(Norm { x, residual, weight, epsilon: 1e-5, out, rstd });
        })?;
        self.time("norm_rebuild", Work::Bytes(2.0 * row), |gpu| gpu.norm_rebuild(x, weight, rstd, out))?;
        self.time("norm_backward", Work::Bytes(4.0 * row), |gpu| {
            gpu.norm_backward(NormBackward { x, weight, rstd, dout, dx, dweight: Some(dweight) });
        })?;
        let table = self.buffers.logits.first(v * c.min(self.buffers.logits.length() / v));
        if table.length() == v * c {
            self.time("embed", Work::Bytes(2.0 * row), |gpu| gpu.embed(table, out))?;
        }
        let rows = n.min(4096);
        let (logits, losses) = (self.buffers.logits.first(rows * v), self.buffers.lse.first(rows));
        self.time("cross_entropy", Work::Bytes(6.0 * (rows * v) as f64), |gpu| {
            gpu.cross_entropy(CrossEntropy { logits, losses, first_row: 0, gradient: true });
        })
    }

    fn elementwise(&mut self) -> Result<(), Box<dyn Error>> {
        let (n, c, f) = (self.n(), self.shape.width, self.shape.feed_forward);
        let ([gate_up, dgate_up], [out, dout]) = (self.buffers.gate_up, self.buffers.activations);
        let fused = self.buffers.fused[0];
        self.time("swiglu", Work::Bytes(6.0 * (n * f) as f64), |gpu| gpu.swiglu(gate_up, out))?;
        self.time("swiglu_backward", Work::Bytes(12.0 * (n * f) as f64), |gpu| {
            gpu.swiglu_backward(gate_up, dout, dgate_up, out);
        })?;
        let turned = n * (c + self.shape.kv_width());
        self.time("rotate", Work::Bytes(4.0 * turned as f64), |gpu| gpu.rotate(fused, Turn::Forward))
    }

    /// Causal: half of the squares; five products of the backward, as they are counted everywhere, whatever is computed.
    fn attention(&mut self) -> Result<(), Box<dyn Error>> {
        let ([fused, dfused], lse) = (self.buffers.fused, self.buffers.lse);
        let [out, dout] = std::array::from_fn(|index| self.buffers.rows[index]);
        let product = SEQUENCES as f64 * (self.length as f64).powi(2) * self.shape.width as f64;
        self.time("attention", Work::Flops(2.0 * product), |gpu| gpu.attend(Attention { fused, out, lse }))?;
        for (order, name) in [(SumOrder::Any, "attention backward, any order"), (SumOrder::Fixed, "attention backward")] {
            self.gpu.set_order(order);
            self.time(name, Work::Flops(5.0 * product), |gpu| {
                gpu.attend_backward(AttentionBackward { forward: Attention { fused, out, lse }, dout, dfused });
            })?;
        }
        Ok(())
    }

    /// The products of gate and up: forward, of the input's gradient, of the weight's.
    fn products(&mut self) -> Result<(), Box<dyn Error>> {
        let (n, c, f) = (self.n(), self.shape.width, self.shape.feed_forward);
        let x = Matrix::new(self.buffers.rows[0], n, c);
        let y = Matrix::new(self.buffers.gate_up[0], n, 2 * f);
        let (weight, gradient) = (Matrix::new(self.buffers.weight, 2 * f, c), Matrix::new(self.buffers.gradient, 2 * f, c));
        let flops = 4.0 * (n * f) as f64 * c as f64;
        let mut product = |name: &str, a: Matrix, b: Matrix, (c, accumulate): (Matrix, bool)| {
            self.time(name, Work::Flops(flops), |gpu| gpu.multiply(Product { alpha: 1.0, a, b, c, accumulate }))
        };
        product("product: gate and up", x, weight.transposed(), (y, false))?;
        product("product: gradient of the input", y, weight, (x, false))?;
        product("product: gradient of the weight", y.transposed(), x, (gradient, true))
    }

    fn optimizer(&mut self) -> Result<(), Box<dyn Error>> {
        let [gradient, first, second] = std::array::from_fn(|index| self.buffers.vectors[index]);
        let (weights, length) = (self.buffers.weights, self.buffers.weights.length() as f64);
        let constants = AdamWConstants { betas: [0.9, 0.95], epsilon: 1e-8, weight_decay: 1e-5 };
        let judged = self.gpu.judge(gradient, Limits { clip: 1.0, skip_above: f64::INFINITY });
        self.gpu.judgement(judged)?;
        let scalars = AdamWScalars::new(constants, 1e-5, true, 9);
        // Both halves of the weights and both moments are read and written, gradients read.
        self.time("adamw", Work::Bytes(28.0 * length), |gpu| {
            gpu.adamw(AdamWStep { weights, gradient, moments: Moments::Exact([first, second]), scalars });
        })
    }
}
