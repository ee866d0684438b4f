//! Times optimizer steps of a fresh model on the processor and prints one JSON object: seconds of each step, and of each
//! operation with `--table`. The other half of `bench/train-cpu`.
//!
//! Not a training run: the batch is random and always the same.

mod timed;

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use mellama_train::backend::{Backend, Cpu, Limits};
use mellama_train::engine::{Precision, State, Tensors};
use mellama_train::optimizer::AdamWConstants;
use mellama_train::{Batch, Engine, EngineSpec, Model, Parameters, SequenceParts, Shape};
use timed::Timed;

const USAGE: &str = "train-speed WIDTH FEED_FORWARD LAYERS HEADS KV_HEADS VOCABULARY SEQUENCES LENGTH STEPS [--bf16] [--table]";

fn main() -> Result<(), Box<dyn Error>> {
    let (flags, sizes): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let sizes = sizes.iter().map(|size| size.parse::<usize>()).collect::<Result<Vec<_>, _>>()?;
    let [width, feed_forward, layers, heads, kv_heads, vocabulary, sequences, length, steps] = sizes[..] else {
        return Err(USAGE.into());
    };
    let tiny = Shape::named("tiny", vocabulary)?;
    let shape = Shape { width, feed_forward, layers, heads, kv_heads, max_positions: length, ..tiny };
    let model = Arc::new(Model::new(shape)?);
    let precision = if flags.iter().any(|flag| flag == "--bf16") { Precision::Bf16 } else { Precision::F32 };
    let spec = EngineSpec { precision, ..EngineSpec::train(sequences, length) };
    let times = timed::Times::default();
    let cpu: Box<dyn Backend<f32>> = Box::new(Cpu::new(model.shape()));
    let mut engine = Engine::new(Box::new(Timed::new(cpu, times.clone())), Arc::clone(&model), spec)?;
    engine.load((Tensors::Base, State::Weights), &Parameters::initialised(model.shape(), 1));
    let batch = random_batch(vocabulary, sequences, length)?;
    let mut seconds = Vec::new();
    for step in 0..steps as u64 {
        if step == 1 {
            times.clear();
        }
        let start = Instant::now();
        engine.begin_step();
        let pending = engine.accumulate(&batch, 1.0 / batch.loss_tokens() as f64, None);
        let loss = engine.collect(pending, &batch)?;
        let judged = engine.judge(Limits { clip: 1.0, skip_above: f64::INFINITY });
        engine.judgement(judged)?;
        engine.update(AdamWConstants { betas: [0.9, 0.95], epsilon: 1e-8, weight_decay: 1e-5 }, 1e-3, step + 1);
        seconds.push(start.elapsed().as_secs_f64());
        std::hint::black_box(loss);
    }
    let table = flags.iter().any(|flag| flag == "--table").then(|| times.table());
    let parameters = model.shape().parameter_count();
    let report = serde_json::json!({
        "parameters": parameters, "tokens": sequences * length, "seconds": seconds, "seconds_by_operation": table
    });
    println!("{report}");
    Ok(())
}

/// Sequences of one document each; token ids from a multiplicative generator.
fn random_batch(vocabulary: usize, sequences: usize, length: usize) -> Result<Batch, Box<dyn Error>> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % vocabulary as u64) as u32
    };
    let tokens: Vec<u32> = (0..sequences * length).map(|_| next()).collect();
    let segments = [(length as u32, 0)];
    let part = |tokens| SequenceParts { tokens, segments: &segments, loss_mask: None };
    Ok(Batch::from_parts(&tokens.chunks(length).map(part).collect::<Vec<_>>())?)
}
