//! Whole training steps: tokens per second, and utilization by three counts.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use mellama_train::backend::Limits;
use mellama_train::engine::{PendingLoss, State, Tensors};
use mellama_train::gpu::{Device, Gpu};
use mellama_train::optimizer::AdamWConstants;
use mellama_train::planner::TokenFlops;
use mellama_train::{Adapters, Batch, Engine, EngineSpec, LoraSpec, Model, Precision, SequenceParts, Shape};
use serde_json::{Value, json};

use crate::timing::random_values;

/// Steps that are measured, after two that are not.
const STEPS: u64 = 5;

/// What is asked for: `SHAPE:SEQUENCES:ACCUMULATION[:lora]`.
struct Asked {
    shape: Shape,
    sequences: usize,
    accumulation: usize,
    length: usize,
    lora: Option<LoraSpec>,
}

impl Asked {
    fn parse(text: &str) -> Result<Self, Box<dyn Error>> {
        let fields: Vec<&str> = text.split(':').collect();
        let [name, sequences, accumulation, rest @ ..] = fields.as_slice() else {
            return Err(format!("step: got {text}, expected SHAPE:SEQUENCES:ACCUMULATION[:lora]").into());
        };
        let small = *name == "small";
        let tiny = || {
            Ok::<_, Box<dyn Error>>(Shape { width: 128, feed_forward: 344, heads: 2, kv_heads: 2, ..Shape::named("tiny", 512)? })
        };
        let shape = if small { tiny()? } else { Shape::named(name, 32_000)? };
        let lora = (rest == ["lora"]).then(|| LoraSpec { dropout: 0.0, ..LoraSpec::default() });
        let (sequences, accumulation) = (sequences.parse()?, accumulation.parse()?);
        Ok(Self { shape, sequences, accumulation, length: if small { 64 } else { 4096 }, lora })
    }

    fn batch(&self) -> Result<Batch, Box<dyn Error>> {
        let tokens: Vec<u32> = (0..(self.sequences * self.length) as u64)
            .map(|i| (i * 2_654_435_761 % self.shape.vocabulary as u64) as u32)
            .collect();
        let segments = [(self.length as u32, 0)];
        let part = |tokens| SequenceParts { tokens, segments: &segments, loss_mask: None };
        Ok(Batch::from_parts(&tokens.chunks_exact(self.length).map(part).collect::<Vec<_>>())?)
    }
}

/// Times steps as a training run does them: each is asked for before the last one's losses are read.
pub(crate) fn measure<D: Device + 'static>(card: D, what: &str) -> Result<Value, Box<dyn Error>> {
    let asked = Asked::parse(what)?;
    let model = Arc::new(Model::new(asked.shape.clone())?);
    let spec = EngineSpec { precision: Precision::Bf16, ..EngineSpec::train(asked.sequences, asked.length) };
    let mut engine =
        Engine::new(Box::new(Gpu::new(card, &asked.shape)?), Arc::clone(&model), spec.with_lora(asked.lora.clone()))?;
    load(&mut engine, asked.lora.as_ref())?;
    let batch = asked.batch()?;
    let constants = AdamWConstants { betas: [0.9, 0.95], epsilon: 1e-8, weight_decay: 1e-5 };
    let scale = 1.0 / (batch.loss_tokens() as f64 * asked.accumulation as f64);
    let (mut before, mut losses, mut seconds): (Vec<PendingLoss>, Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new(), Vec::new());
    let mut mark = Instant::now();
    for step in 0..STEPS + 3 {
        engine.begin_step();
        let pending: Vec<PendingLoss> = (0..asked.accumulation).map(|_| engine.accumulate(&batch, scale, None)).collect();
        if step > 0 {
            let mut sum = 0.0;
            for loss in before.drain(..) {
                sum += engine.collect(loss, &batch)?.sum * scale;
            }
            losses.push(sum);
            // From the end of one step to the end of the next.
            seconds.push(mark.elapsed().as_secs_f64());
            mark = Instant::now();
        }
        before = pending;
        let judged = engine.judge(Limits { clip: 1.0, skip_above: f64::INFINITY });
        engine.update(constants, 1e-5, step + 1);
        if step == STEPS + 2 {
            engine.judgement(judged)?;
        }
    }
    seconds.drain(..2);
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let tokens = (asked.sequences * asked.length * asked.accumulation) as f64;
    let flops = flops(&asked);
    Ok(json!({
        "what": what,
        "parameters": asked.shape.parameter_count(),
        "arena_bytes": engine.memory().total_bytes(),
        "tokens_per_step": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / median,
        "flops_palm": flops.palm * tokens / median,
        "flops_6n": flops.six_n * tokens / median,
        "losses": losses,
    }))
}

struct Flops {
    palm: f64,
    six_n: f64,
}

fn flops(asked: &Asked) -> Flops {
    let length = asked.length as u64;
    let of = match &asked.lora {
        Some(lora) => TokenFlops::of_adapters(&asked.shape, length, lora.layout(&asked.shape).length() as u64),
        None => TokenFlops::of(&asked.shape, length),
    };
    Flops { palm: of.palm as f64, six_n: of.six_n as f64 }
}

/// Random weights: zeros would be faster than any model.
fn load(engine: &mut Engine<f32>, lora: Option<&LoraSpec>) -> Result<(), Box<dyn Error>> {
    let layout = Arc::clone(engine.layout(Tensors::Base));
    let longest = layout.tensors().iter().map(|tensor| tensor.length()).max().unwrap_or(0);
    let (values, ones) = (random_values(longest, 1), vec![1.0; engine.model().shape().width]);
    for (index, tensor) in layout.tensors().iter().enumerate() {
        let values = if tensor.matrix { &values } else { &ones };
        engine.load_tensor((Tensors::Base, State::Weights), index, &values[..tensor.length()]);
    }
    if let Some(lora) = lora {
        let adapters = Adapters::<f32>::initialised(engine.model().shape(), lora.clone(), 1)?;
        engine.load((Tensors::Adapters, State::Weights), &adapters.parameters);
    }
    Ok(())
}
