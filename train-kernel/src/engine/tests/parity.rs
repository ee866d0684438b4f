//! The model against transformers: logits, loss, gradients and ten steps of AdamW, as `tests/parity/llama.py` wrote them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Engine, EngineSpec, State, Tensors, accumulated, gradients, judged, wide};
use crate::backend::Limits;
use crate::batch::{Batch, SequenceParts};
use crate::checkpoint::tensor_file::TensorFile;
use crate::engine::Precision;
use crate::hf::{HfModel, load_folder};
use crate::model::Model;
use crate::optimizer::AdamWConstants;
use crate::schedule::Schedule;

const NAMES: [&str; 3] = ["llama-2", "llama-3", "mistral"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/models").join(name)
}

/// What transformers computed.
struct Expected(TensorFile<File>);

impl Expected {
    fn open(name: &str) -> Self {
        let path = folder(name).join("expected.safetensors");
        Self(TensorFile::open(name, File::open(path).unwrap()).unwrap())
    }

    fn read(&mut self, name: &str) -> Vec<f32> {
        let shape: Vec<usize> = self.0.tensors()[name].shape.iter().map(|&size| size as usize).collect();
        let mut values = vec![0.0; shape.iter().product()];
        self.0.read(name, &shape, &mut values).unwrap();
        values
    }

    /// The packed batch.
    fn batch(&mut self) -> Batch {
        let [rows, length] = self.0.tensors()["tokens"].shape[..] else { panic!("tokens of a batch") };
        let length = length as usize;
        let tokens: Vec<u32> = self.read("tokens").iter().map(|&token| token as u32).collect();
        let documents = self.read("documents");
        let ends = |row: usize| -> Vec<(u32, u16)> {
            let documents = &documents[row * length..][..length];
            (1..=length)
                .filter(|&end| {
                    documents[end - 1] >= 0.0
                        && documents.get(end).is_none_or(|next| next.to_bits() != documents[end - 1].to_bits())
                })
                .map(|end| (end as u32, 0))
                .collect()
        };
        let ends: Vec<Vec<(u32, u16)>> = (0..rows as usize).map(ends).collect();
        let parts = tokens.chunks_exact(length).zip(&ends);
        let parts: Vec<SequenceParts<'_>> =
            parts.map(|(tokens, segments)| SequenceParts { tokens, segments, loss_mask: None }).collect();
        Batch::from_parts(&parts).unwrap()
    }
}

/// The largest difference relative to the largest value, rows of padding left out.
fn difference(got: &[f32], expected: &[f32]) -> f64 {
    super::difference(&wide(expected), &wide(got))
}

fn loaded(name: &str, spec: EngineSpec) -> Engine<f32> {
    let HfModel { shape, parameters, .. } = load_folder(&folder(name)).unwrap();
    let mut engine = Engine::on_cpu(Arc::new(Model::new(shape).unwrap()), spec).unwrap();
    engine.load((Tensors::Base, State::Weights), &parameters);
    engine
}

#[test]
fn parity_of_logits_loss_and_every_gradient() {
    for name in NAMES {
        let mut expected = Expected::open(name);
        let batch = expected.batch();
        let mut engine = loaded(name, EngineSpec::train(3, 24));
        let (logits, theirs) = (engine.logits(&batch).unwrap(), expected.read("logits"));
        let rows: Vec<usize> = (0..3)
            .flat_map(|s| batch.segments(s).iter().flat_map(move |d| d.start..d.end).map(move |row| s * 24 + row as usize))
            .collect();
        assert_eq!(rows.len(), 65);
        let of = |logits: &[f32]| rows.iter().flat_map(|row| logits[row * 61..][..61].to_vec()).collect::<Vec<f32>>();
        let error = difference(&of(&logits), &of(&theirs));
        assert!(error < 1e-5, "{name}: logits {error:e}");
        print!("{name}: logits {error:.1e}");
        engine.begin_step();
        let loss = accumulated(&mut engine, &batch, 1.0 / batch.loss_tokens() as f64, None).mean().unwrap();
        let expected_loss = f64::from(expected.read("loss")[0]);
        assert!((loss / expected_loss - 1.0).abs() < 1e-5, "{name}: loss {loss} {expected_loss}");
        let found = gradients(&mut engine);
        let mut worst = 0.0_f64;
        for (index, tensor) in found.layout.tensors().iter().enumerate() {
            let error = difference(found.slice(index), &expected.read(&format!("gradient.{}", tensor.name)));
            assert!(error < 1e-4, "{name}: gradient of {}: {error:e}", tensor.name);
            worst = worst.max(error);
        }
        println!(", loss {:.1e}, gradients {worst:.1e}", (loss / expected_loss - 1.0).abs());
    }
}

#[test]
fn parity_of_a_whole_text_with_their_own_mask() {
    for name in NAMES {
        let mut expected = Expected::open(name);
        let tokens: Vec<u32> = expected.read("tokens")[24..48].iter().map(|&token| token as u32).collect();
        let part = SequenceParts { tokens: &tokens, segments: &[(24, 0)], loss_mask: None };
        let logits = loaded(name, EngineSpec::evaluate(1, 24)).logits(&Batch::from_parts(&[part]).unwrap()).unwrap();
        let error = difference(&logits, &expected.read("own_mask_logits"));
        assert!(error < 1e-5, "{name}: {error:e}");
    }
}

#[test]
fn parity_of_ten_steps_with_clipping_warm_up_and_cosine() {
    let constants = AdamWConstants { betas: [0.9, 0.95], epsilon: 1e-8, weight_decay: 0.1 };
    let schedule = Schedule { peak: 1e-2, floor: 1e-3, warmup_steps: 3, total_steps: 10 };
    for name in NAMES {
        let mut expected = Expected::open(name);
        let batch = expected.batch();
        let mut engine = loaded(name, EngineSpec::train(3, 24));
        let scale = 1.0 / batch.loss_tokens() as f64;
        let (losses, norms) = (expected.read("losses"), expected.read("norms"));
        for step in 0..10_u64 {
            engine.begin_step();
            let loss = accumulated(&mut engine, &batch, scale, None).mean().unwrap();
            let judgement = judged(&mut engine, Limits { clip: 1.0, skip_above: f64::INFINITY });
            engine.update(constants, schedule.learning_rate(step), step + 1);
            let (their_loss, their_norm) = (f64::from(losses[step as usize]), f64::from(norms[step as usize]));
            assert!((loss / their_loss - 1.0).abs() < 1e-5, "{name}: loss {loss} {their_loss} of step {step}");
            assert!((judgement.norm / their_norm - 1.0).abs() < 1e-4, "{name}: norm of step {step}");
        }
        assert!(norms.iter().any(|norm| *norm > 1.0), "{name}: clipping must show");
        let trained = engine.read((Tensors::Base, State::Weights)).unwrap();
        let mut worst = 0.0_f64;
        for (index, tensor) in trained.layout.tensors().iter().enumerate() {
            let error = difference(trained.slice(index), &expected.read(&format!("trained.{}", tensor.name)));
            assert!(error < 1e-4, "{name}: {}: {error:e}", tensor.name);
            worst = worst.max(error);
        }
        println!("{name}: weights after ten steps {worst:.1e}");
    }
}

#[test]
fn parity_of_adapters_that_peft_wrote() {
    let mut expected = Expected::open("adapters");
    let tokens: Vec<u32> = expected.read("tokens").iter().map(|&token| token as u32).collect();
    let part = SequenceParts { tokens: &tokens, segments: &[(24, 0)], loss_mask: None };
    let batch = Batch::from_parts(&[part]).unwrap();
    let HfModel { shape, parameters, .. } = load_folder(&folder("llama-2")).unwrap();
    let adapters = crate::hf::adapter::load_folder(&folder("adapters"), &shape).unwrap();
    assert_eq!((adapters.spec.targets.len(), adapters.spec.rslora), (4, true));
    let model = Arc::new(Model::new(shape).unwrap());
    let apart = super::engine(&model, EngineSpec::evaluate(1, 24), &parameters, Some(&adapters)).logits(&batch).unwrap();
    let merged = crate::lora::merge(model.shape(), &parameters, &adapters).unwrap();
    let folded = super::engine(&model, EngineSpec::evaluate(1, 24), &merged.parameters, None).logits(&batch).unwrap();
    let theirs = expected.read("logits");
    let plain = super::engine(&model, EngineSpec::evaluate(1, 24), &parameters, None).logits(&batch).unwrap();
    assert!(difference(&plain, &theirs) > 1e-2, "the adapters must show");
    for (name, logits) in [("apart", apart), ("merged", folded)] {
        let error = difference(&logits, &theirs);
        assert!(error < 1e-5, "{name}: {error:e}");
        println!("adapters {name}: logits {error:.1e}");
    }
}

#[test]
fn parity_in_bf16_within_its_rounding() {
    for name in NAMES {
        let mut expected = Expected::open(name);
        let batch = expected.batch();
        let mut engine = loaded(name, EngineSpec { precision: Precision::Bf16, ..EngineSpec::train(3, 24) });
        let loss = engine.loss(&batch, None).unwrap().mean().unwrap();
        // A loss of about 4.5, from logits that are each off by a few 2^-9: they average out over 62 targets.
        let expected_loss = f64::from(expected.read("loss")[0]);
        assert!((loss / expected_loss - 1.0).abs() < 2e-2, "{name}: {loss} {expected_loss}");
    }
}
