//! `merge`: adapters folded into the weights that they were trained on, as a checkpoint folder of its own.

use std::path::Path;
use std::sync::Arc;

use mellama_storage::{Key, LocalStore, Store, Stores};
use mellama_train::checkpoint::CheckpointManifest;
use mellama_train::engine::{State, Tensors};
use mellama_train::hf::{Dtype, HfModel, ModelConfig, WeightForm, adapter, load_folder, save};
use mellama_train::lora::{Adapters, merge};
use mellama_train::{Batch, Engine, EngineSpec, Model, Parameters, SequenceParts};
use serde::Serialize;

use crate::failure::{Failure, chain};
use crate::import::{keep_tokenizer, put_beside};
use crate::location::Location;
use crate::model_card;
use crate::training::checkpoint_sensitivity;

/// Tokens that the merged model is compared on.
const PROBE_TOKENS: usize = 64;

/// What was merged.
#[derive(Debug, Clone, Serialize)]
pub struct Merged {
    /// The folder written.
    pub folder: String,
    /// Parameters.
    pub parameters: u64,
    /// Parameters of the adapters.
    pub adapter_parameters: u64,
    /// What the weights are stored as.
    pub dtype: &'static str,
    /// The largest change of any weight before rounding.
    pub max_change: f64,
    /// The largest difference of a logit from the unmerged model's, over 64 tokens.
    pub max_logit_difference: f64,
    /// Mean divergence of the merged model's next-token distribution from the unmerged one's, in nats, over 64 tokens.
    pub mean_divergence: f64,
    /// Highest sensitivity of weights and adapters: `open`, `dua` or `phi`.
    pub sensitivity: &'static str,
}

impl Merged {
    /// For people.
    pub fn text(&self) -> String {
        format!(
            "{}: {} parameters in {}, {} of adapters folded in, sensitivity {}; largest change of a weight {:.3e}, of a logit {:.3e}, \
             divergence {:.3e} nats over {PROBE_TOKENS} tokens",
            self.folder,
            self.parameters,
            self.dtype,
            self.adapter_parameters,
            self.sensitivity,
            self.max_change,
            self.max_logit_difference,
            self.mean_divergence
        )
    }
}

/// Folds the adapters of one folder into the weights of another: in f32 from the original weights, rounded once to the type that
/// they are stored as, or to another one.
///
/// # Errors
/// `Failure::Policy` when the folders do not fit each other, or the one to write holds a checkpoint.
pub fn run(checkpoint: &Path, adapters: &Path, to: &Path, dtype: Option<Dtype>) -> Result<Merged, Failure> {
    let model = load_folder(checkpoint).map_err(|e| Failure::loading(&e))?;
    let found = adapter::load_folder(adapters, &model.shape).map_err(|e| Failure::loading(&e))?;
    check_base(checkpoint, &model, adapters)?;
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(to)?);
    if store.head(&Key::new("config.json")?).is_ok() {
        return Err(Failure::Policy(format!("{}: holds a checkpoint already; give a new folder", to.display())));
    }
    let dtype = dtype.unwrap_or(model.dtype);
    let mut merged = merge(&model.shape, &model.parameters, &found).map_err(|e| Failure::Policy(chain(&e)))?;
    round(&mut merged.parameters, dtype);
    let (max_logit_difference, mean_divergence) = compare(&model, &found, &merged.parameters)?;
    let level = |folder| checkpoint_sensitivity(&Stores::default(), &Location::of(folder));
    let sensitivity = level(checkpoint).max(level(adapters));
    // The adapters were trained with the chat template that lies beside them.
    keep_tokenizer(&[adapters, checkpoint], &store)?;
    put_beside(
        &store,
        model_card::CARD,
        &model_card::write(
            "A merged model",
            "Adapters folded into the weights that they were trained on, by mellama.",
            sensitivity,
        ),
    )?;
    let config = ModelConfig { shape: model.shape.clone(), tokens: model.tokens };
    save(&store, "", &config, &merged.parameters, WeightForm::of(dtype)).map_err(|e| Failure::writing("", &e))?;
    Ok(Merged {
        folder: to.display().to_string(),
        parameters: model.shape.parameter_count(),
        adapter_parameters: found.spec.parameter_count(&model.shape),
        dtype: dtype.as_str(),
        max_change: merged.max_change,
        max_logit_difference,
        mean_divergence,
        sensitivity: sensitivity.as_str(),
    })
}

/// Refuses other weights than those that our adapters were trained on; the manifest beside them says which. Adapters of others say
/// nothing.
fn check_base(checkpoint: &Path, model: &HfModel, adapters: &Path) -> Result<(), Failure> {
    let bytes = match std::fs::read(adapters.join("manifest.json")) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::Policy(format!("{}/manifest.json: cannot be read: {error}", adapters.display()))),
    };
    let manifest: CheckpointManifest = mellama_storage::sealed::decode(&bytes)
        .map_err(|e| Failure::Verification(format!("{}/manifest.json: {}", adapters.display(), chain(&e))))?;
    if manifest.digests.base == model.digest {
        return Ok(());
    }
    Err(Failure::Policy(format!(
        "{}: weights {}, the adapters in {} were trained on {}; give those weights, as they were, and --dtype for another type",
        checkpoint.display(),
        model.digest,
        adapters.display(),
        manifest.digests.base
    )))
}

/// What storing and loading makes of the values.
fn round(parameters: &mut Parameters<f32>, dtype: Dtype) {
    for value in &mut parameters.data {
        *value = dtype.round(*value);
    }
}

/// The largest difference of a logit, and the mean divergence, of the merged from the unmerged model.
fn compare(model: &HfModel, adapters: &Adapters<f32>, merged: &Parameters<f32>) -> Result<(f64, f64), Failure> {
    let vocabulary = model.shape.vocabulary as u32;
    let count = PROBE_TOKENS.min(model.shape.max_positions);
    // Steps through the vocabulary by a share of it that visits every part.
    let tokens: Vec<u32> = (0..count as u64).map(|place| (place * 2_654_435_761 % u64::from(vocabulary)) as u32).collect();
    let part = SequenceParts { tokens: &tokens, segments: &[(count as u32, 0)], loss_mask: None };
    let batch = Batch::from_parts(&[part]).map_err(|e| Failure::Failed(chain(&e)))?;
    let network = Arc::new(Model::new(model.shape.clone()).map_err(|e| Failure::Policy(chain(&e)))?);
    let logits = |base: &Parameters<f32>, adapters: Option<&Adapters<f32>>| -> Result<Vec<f32>, Failure> {
        let spec = EngineSpec::evaluate(1, count).with_lora(adapters.map(|adapters| adapters.spec.clone()));
        let mut engine = Engine::on_cpu(Arc::clone(&network), spec).map_err(|e| Failure::Failed(chain(&e)))?;
        engine.load((Tensors::Base, State::Weights), base);
        if let Some(adapters) = adapters {
            engine.load((Tensors::Adapters, State::Weights), &adapters.parameters);
        }
        engine.logits(&batch).map_err(|e| Failure::Failed(chain(&e)))
    };
    let (apart, folded) = (logits(&model.parameters, Some(adapters))?, logits(merged, None)?);
    let largest = apart.iter().zip(&folded).fold(0.0_f64, |most, (a, b)| most.max(f64::from((a - b).abs())));
    let rows = apart.chunks_exact(vocabulary as usize).zip(folded.chunks_exact(vocabulary as usize));
    let divergence: f64 = rows.map(|(a, b)| divergence(a, b)).sum();
    Ok((largest, divergence / count as f64))
}

/// The Kullback–Leibler divergence of softmax(b) from softmax(a), in nats.
fn divergence(a: &[f32], b: &[f32]) -> f64 {
    let logarithm = |row: &[f32]| {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        f64::from(most) + row.iter().map(|value| f64::from(value - most).exp()).sum::<f64>().ln()
    };
    let (of_a, of_b) = (logarithm(a), logarithm(b));
    let terms = a.iter().zip(b).map(|(a, b)| {
        let (a, b) = (f64::from(*a) - of_a, f64::from(*b) - of_b);
        a.exp() * (a - b)
    });
    terms.sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::divergence;

    #[test]
    fn the_divergence_is_the_definition() {
        assert!(divergence(&[0.0, 1.0, 2.0], &[5.0, 6.0, 7.0]).abs() < 1e-12, "a shift changes nothing");
        // softmax of [ln 3, 0] is (3/4, 1/4), of [0, 0] is (1/2, 1/2).
        let expected = 0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln();
        assert!((divergence(&[3.0_f32.ln(), 0.0], &[0.0, 0.0]) - expected).abs() < 1e-7);
        assert!(divergence(&[0.0, 0.0], &[3.0, 0.0]) > 0.0);
    }
}
