//! Which files a checkpoint of a run holds, and their contents.
//!
//! A checkpoint of all weights is a model folder that loads by itself. One of adapters is a PEFT folder; the last one
//! has the merged model in a folder of its own, so that no reader takes the adapters for part of it.

use mellama_storage::{PartWriter, Workdir};

use super::job::{CheckpointInfo, Hooks, TrainError};
use super::record::{MetricLine, encode_lines};
use super::step::{Plan, State};
use crate::checkpoint::tensor_file::{Dtype, TensorFileError, write_header, write_values};
use crate::checkpoint::{CheckpointManifest, CheckpointWriter, Cursor, Digests, FORMAT_VERSION, Found, prune, publish};
use crate::engine::State as Of;
use crate::hf::adapter::config_json;
use crate::hf::{ModelConfig, write_weights};
use crate::lora::{Adapters, merge};
use crate::parameters::Parameters;

/// Writes the checkpoints of one run.
pub(super) struct Saver<'a> {
    pub(super) plan: &'a Plan<'a>,
    pub(super) workdir: &'a Workdir,
    pub(super) digests: Digests,
    pub(super) total_steps: u64,
    /// The original weights that adapters are merged into.
    pub(super) base: Option<Parameters<f32>>,
}

impl Saver<'_> {
    /// Writes the checkpoint after `state.step` steps and drops those that are no longer kept.
    pub(super) fn save(&self, state: &mut State, lines: &[MetricLine], hooks: &mut dyn Hooks) -> Result<Found, TrainError> {
        let (job, step) = (self.plan.job, state.step);
        let mut writer = CheckpointWriter::new(self.workdir, job.kind, step);
        let trained = state.engine.trained();
        let weights = state.engine.read((trained, Of::Weights));
        let moments = [Of::First, Of::Second].map(|moment| state.engine.read((trained, moment)));
        let lora = job.spec.lora.as_ref();
        let adapters = lora.map(|spec| Adapters { spec: spec.clone(), parameters: weights.clone(), dropout: None });
        match &adapters {
            None => self.put_model(&mut writer, "", &weights)?,
            Some(adapters) => self.put_adapters(&mut writer, adapters)?,
        }
        let tensors = weights.layout.tensors().len() as u64;
        writer.put("optimizer.safetensors", 2 * tensors, &|part| write_moments(part, &moments))?;
        if let (Some(adapters), Some(base)) = (adapters.filter(|_| step == self.total_steps), &self.base) {
            let merged = merge(self.plan.model.shape(), base, &adapters)?;
            self.put_model(&mut writer, "merged/", &merged.parameters)?;
        }
        let metrics = encode_lines(lines);
        writer.put_bytes("metrics.jsonl", lines.len() as u64, &metrics)?;
        if self.is_scheduled(step) {
            // Where pruning does not reach them.
            publish(self.workdir, &Self::metrics_key(job.kind, step), lines.len() as u64, &metrics)?;
        }
        let (manifest, digest) = writer.finish(self.manifest(state))?;
        hooks.on_checkpoint(&CheckpointInfo { step, folder: manifest.folder() });
        if let Some(keep) = job.spec.keep_last {
            prune(self.workdir, job.kind, (step, keep), &|step| self.is_scheduled(step))?;
        }
        Ok(Found { manifest, digest })
    }

    fn manifest(&self, state: &State) -> CheckpointManifest {
        let (plan, job) = (self.plan, self.plan.job);
        let position = plan.positions(state.step).start.min(plan.total_positions);
        CheckpointManifest {
            format: FORMAT_VERSION,
            kind: job.kind,
            step: state.step,
            total_steps: self.total_steps,
            updates: state.updates,
            cursor: Cursor { position, epoch: plan.order.epoch(position), index: position % plan.order.sequences },
            seed: job.seed,
            sensitivity: job.sensitivity.clone(),
            digests: self.digests.clone(),
            shape: plan.model.shape().clone(),
            lora: job.spec.lora.clone(),
            guard: state.guard.clone(),
            objects: Vec::new(),
        }
    }

    /// Weights, configuration and tokenizer files of a model that loads by itself, under `prefix` in the checkpoint.
    fn put_model(&self, writer: &mut CheckpointWriter<'_>, prefix: &str, parameters: &Parameters<f32>) -> Result<(), TrainError> {
        let base = &self.plan.job.base.model;
        let config = ModelConfig { shape: base.shape.clone(), tokens: base.tokens };
        let weights = "model.safetensors";
        let tensors = parameters.layout.tensors().len() as u64;
        writer.put(&format!("{prefix}{weights}"), tensors, &|part| write_weights(weights, part, parameters))?;
        writer.put_bytes(&format!("{prefix}config.json"), 1, &config.to_json(Dtype::F32))?;
        writer.put_bytes(&format!("{prefix}generation_config.json"), 1, &config.generation_json())?;
        for file in &self.plan.job.tokenizer_files {
            writer.put_bytes(&format!("{prefix}{}", file.name), 1, &file.bytes)?;
        }
        Ok(())
    }

    fn put_adapters(&self, writer: &mut CheckpointWriter<'_>, adapters: &Adapters<f32>) -> Result<(), TrainError> {
        let (weights, parameters) = ("adapter_model.safetensors", &adapters.parameters);
        let tensors = parameters.layout.tensors().len() as u64;
        writer.put(weights, tensors, &|part| write_weights(weights, part, parameters))?;
        let config = config_json(&adapters.spec, &self.plan.job.base.name);
        writer.put_bytes("adapter_config.json", 1, &config)?;
        Ok(())
    }
}

/// Both moments in one file, named after the tensors they belong to.
fn write_moments(part: &mut PartWriter, moments: &[Parameters<f32>; 2]) -> Result<(), TensorFileError> {
    let file = "optimizer.safetensors";
    let layout = &moments[0].layout;
    let named = |prefix: &str| layout.tensors().iter().map(|t| format!("{prefix}{}", t.name)).collect::<Vec<_>>();
    let names = [named("first."), named("second.")];
    let header: Vec<(&str, &[usize])> = names
        .iter()
        .flat_map(|names| names.iter().zip(layout.tensors()))
        .map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice()))
        .collect();
    write_header(file, part, (&header, Dtype::F32), &[("format", "mellama-moments-1")])?;
    moments.iter().try_for_each(|moment| write_values(file, part, Dtype::F32, &moment.data))
}
