//! Which files a checkpoint of a run holds, and their contents.
//!
//! A checkpoint of all weights is a model folder that loads by itself. One of adapters is a PEFT folder; the last one
//! has the merged model in a folder of its own, so that no reader takes the adapters for part of it.

use mellama_storage::Workdir;

use super::record::encode_lines;
use super::saving::Snapshot;
use super::spec::Kind;
use super::step::{Plan, State};
use crate::checkpoint::tensor_file::Dtype;
use crate::checkpoint::{
    CheckpointError, CheckpointManifest, CheckpointWriter, Cursor, Digests, FORMAT_VERSION, FileKind, Found, Partition, Share,
    TensorValues, prune, publish, put_tensors, sweep,
};
use crate::engine::MomentPrecision;
use crate::hf::adapter::config_json;
use crate::hf::{INDEX, ModelConfig, SUMS, encode_sums, index_json};
use crate::lora::{LoraSpec, Merge};
use crate::parameters::Parameters;

/// Stem of the files with weights of a model.
pub(super) const MODEL: &str = "model";
/// Stem of the files with weights of adapters, as PEFT has it.
pub(super) const ADAPTERS: &str = "adapter_model";
/// Folder of the merged model in the last checkpoint of adapters.
const MERGED: &str = "merged/";
/// Stem of the files with moments.
pub(super) const OPTIMIZER: &str = "optimizer";
/// The tensor format that older loaders of Hugging Face demand to be named.
const WEIGHTS_FORMAT: &str = "pt";
/// What moments are.
const MOMENTS_FORMAT: &str = "mellama-moments-1";

/// Weights are stored in full precision, whatever the model computes with.
fn weights_kind(stem: &str) -> FileKind<'_> {
    FileKind { stem, format: WEIGHTS_FORMAT, dtype: Dtype::F32 }
}

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
    /// Writes the checkpoint of a snapshot and drops those that are no longer kept. What a failed one wrote is removed.
    pub(super) fn write(&self, snapshot: &Snapshot) -> Result<Found, CheckpointError> {
        let (job, step) = (self.plan.job, snapshot.manifest.step);
        // Room for this one; what cannot be deleted now can be later.
        let _ = sweep(self.workdir, job.kind, step);
        let mut writer = CheckpointWriter::new(self.workdir, job.kind, step);
        let written = self.put_files(&mut writer, snapshot).and_then(|()| writer.finish(snapshot.manifest.clone()));
        let (manifest, digest) = match written {
            Ok(written) => written,
            Err(error) => {
                writer.abandon(&error);
                return Err(error);
            }
        };
        if let Some(keep) = job.spec.keep_last {
            // The checkpoint is there, whatever becomes of this; the next one drops what is left.
            let _ = prune(self.workdir, job.kind, (step, keep), &|step| self.is_scheduled(step));
        }
        Ok(Found { manifest, digest })
    }

    fn put_files(&self, writer: &mut CheckpointWriter<'_>, snapshot: &Snapshot) -> Result<(), CheckpointError> {
        let (job, step) = (self.plan.job, snapshot.manifest.step);
        let (weights, [first, second]) = (&snapshot.tensors.weights, &snapshot.tensors.moments);
        match &job.spec.lora {
            None => self.put_model(writer, "", weights)?,
            Some(lora) => self.put_adapters(writer, lora, weights)?,
        }
        let dtype = match job.spec.moments {
            MomentPrecision::F32 => Dtype::F32,
            MomentPrecision::Bf16 => Dtype::BF16,
        };
        let kind = FileKind { stem: OPTIMIZER, format: MOMENTS_FORMAT, dtype };
        put_tensors(writer, kind, &[("first.", first), ("second.", second)], self.share())?;
        if let (Some(lora), Some(base)) = (job.spec.lora.as_ref().filter(|_| step == self.total_steps), &self.base) {
            self.put_model(writer, MERGED, &Merge::new(self.plan.model.shape(), base, (lora, weights)))?;
        }
        writer.put_bytes("metrics.jsonl", snapshot.lines.len() as u64, &encode_lines(&snapshot.lines))?;
        for segment in &snapshot.segments {
            let key = Self::metrics_key(job.kind, segment.step);
            publish(self.workdir, &key, segment.lines.len() as u64, &encode_lines(&segment.lines))?;
        }
        Ok(())
    }

    /// The manifest of a checkpoint of this state, without objects.
    pub(super) fn manifest(&self, state: &State) -> CheckpointManifest {
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
            partition: self.share().partition,
            shape: plan.model.shape().clone(),
            lora: job.spec.lora.clone(),
            guard: state.guard.clone(),
            choices: state.engine.choices(),
            objects: Vec::new(),
        }
    }

    /// Whether a checkpoint belongs after this many steps whether or not the run is asked to stop.
    pub(super) fn is_scheduled(&self, step: u64) -> bool {
        step > 0 && (step == self.total_steps || step.is_multiple_of(self.plan.job.spec.checkpoint_every))
    }

    /// This program is the only rank.
    fn share(&self) -> Share {
        Share { partition: Partition::default(), rank: 0, limit_bytes: self.plan.job.file_limit_bytes }
    }

    /// The folder of metrics, beside the checkpoints so that pruning leaves them.
    fn metrics_key(kind: Kind, step: u64) -> String {
        format!("metrics/{}-{step:08}.jsonl", kind.as_str())
    }

    /// Weights, configuration and companions of a model that loads by itself, under `prefix` in the checkpoint.
    fn put_model(
        &self,
        writer: &mut CheckpointWriter<'_>,
        prefix: &str,
        values: &dyn TensorValues,
    ) -> Result<(), CheckpointError> {
        let base = &self.plan.job.base.model;
        let config = ModelConfig { shape: base.shape.clone(), tokens: base.tokens };
        let stem = format!("{prefix}{MODEL}");
        let mut files = put_tensors(writer, weights_kind(&stem), &[("", values)], self.share())?;
        for written in &mut files {
            written.file = written.file[prefix.len()..].to_owned();
        }
        if let Some(index) = index_json(&files, values.layout().length() as u64, Dtype::F32) {
            writer.put_bytes(&format!("{prefix}{INDEX}"), 1, &index)?;
        }
        writer.put_bytes(&format!("{prefix}config.json"), 1, &config.to_json(Dtype::F32))?;
        writer.put_bytes(&format!("{prefix}generation_config.json"), 1, &config.generation_json())?;
        self.put_companions(writer, prefix)?;
        Self::put_sums(writer, prefix)
    }

    /// PEFT knows one file of weights, however large.
    fn put_adapters(
        &self,
        writer: &mut CheckpointWriter<'_>,
        spec: &LoraSpec,
        weights: &Parameters<f32>,
    ) -> Result<(), CheckpointError> {
        put_tensors(writer, weights_kind(ADAPTERS), &[("", weights)], Share { limit_bytes: u64::MAX, ..self.share() })?;
        writer.put_bytes("adapter_config.json", 1, &config_json(spec, &self.plan.job.base.name))?;
        self.put_companions(writer, "")?;
        Self::put_sums(writer, "")
    }

    /// Digests of the files written under `prefix` so far, for whoever loads the folder by itself.
    fn put_sums(writer: &mut CheckpointWriter<'_>, prefix: &str) -> Result<(), CheckpointError> {
        let written = writer.written(prefix);
        let sums = encode_sums(written.iter().map(|(file, digest)| (file.as_str(), digest.as_str())));
        writer.put_bytes(&format!("{prefix}{SUMS}"), written.len() as u64, &sums)
    }

    fn put_companions(&self, writer: &mut CheckpointWriter<'_>, prefix: &str) -> Result<(), CheckpointError> {
        let job = self.plan.job;
        for file in if prefix == MERGED { &job.merged_companions } else { &job.companions } {
            writer.put_bytes(&format!("{prefix}{}", file.name), 1, &file.bytes)?;
        }
        Ok(())
    }
}
