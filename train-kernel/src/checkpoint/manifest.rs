//! The manifest of a checkpoint, `manifest.json`, and the names of checkpoint folders.
//!
//! It holds everything a resumed run needs besides tensors, and nothing that differs between two runs of the same thing.

use mellama_storage::ObjectEntry;
use serde::{Deserialize, Serialize};

use super::pieces::Partition;
use crate::guard::Guard;
use crate::lora::LoraSpec;
use crate::shape::Shape;
use crate::trainer::Kind;

/// Version of the checkpoint format that is written; those before it are read. 2 added the partition, tensors in several files and
/// the model card.
pub const FORMAT_VERSION: u32 = 2;

/// Where a run stands in its data; follows from the step, and is stored so that others need not know how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Global position of the next sequence.
    pub position: u64,
    /// Pass over the data that it belongs to, from 0.
    pub epoch: u64,
    /// Its place within the pass, in training order.
    pub index: u64,
}

/// What a checkpoint was made from; a run with other digests does not resume from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digests {
    /// Hyper-parameters, kind, seed and number of steps.
    pub settings: String,
    /// Manifest of the shards.
    pub data: String,
    /// Weights that training started from.
    pub base: String,
}

/// The sealed `manifest.json` of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointManifest {
    /// [`FORMAT_VERSION`] of the program that wrote it.
    pub format: u32,
    /// Which training.
    pub kind: Kind,
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Updates applied; steps done less steps skipped.
    pub updates: u64,
    /// Next sequence.
    pub cursor: Cursor,
    /// The recipe's seed.
    pub seed: u64,
    /// Highest sensitivity of the data and the base: `open`, `dua` or `phi`.
    pub sensitivity: String,
    /// What it was made from.
    pub digests: Digests,
    /// How ranks share the tensors.
    #[serde(default)]
    pub partition: Partition,
    /// Sizes of the model.
    pub shape: Shape,
    /// The adapters, when adapters were trained.
    pub lora: Option<LoraSpec>,
    /// Steps passed over.
    pub guard: Guard,
    /// What the device chose by itself and results depend on, such as algorithms of matrix products; a run goes on with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<serde_json::Value>,
    /// Every file, manifest excepted.
    pub objects: Vec<ObjectEntry>,
}

impl CheckpointManifest {
    /// Whether the run is over.
    pub fn is_final(&self) -> bool {
        self.step == self.total_steps
    }

    /// The folder of this checkpoint, relative to the work folder.
    pub fn folder(&self) -> String {
        folder(self.kind, self.step)
    }

    /// The entry of a file, by its name inside the folder.
    pub fn entry(&self, file: &str) -> Option<&ObjectEntry> {
        let key = format!("{}/{file}", self.folder());
        self.objects.iter().find(|entry| entry.key == key)
    }
}

/// Folder of the checkpoint after `step` steps, for example `checkpoints/cpt/step-00000100`.
pub fn folder(kind: Kind, step: u64) -> String {
    format!("checkpoints/{}/step-{step:08}", kind.as_str())
}

/// What the folders of all checkpoints of a kind begin with.
pub(super) fn kind_folder(kind: Kind) -> String {
    format!("checkpoints/{}/step-", kind.as_str())
}

/// The step of a key inside a checkpoint folder of this kind, with the rest of the key.
pub fn parse_step(kind: Kind, key: &str) -> Option<(u64, &str)> {
    let rest = key.strip_prefix("checkpoints/")?.strip_prefix(kind.as_str())?.strip_prefix("/step-")?;
    let (digits, file) = rest.split_once('/')?;
    let plain = digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let step = digits.parse().ok().filter(|_| plain)?;
    (format!("{step:08}") == digits).then_some((step, file))
}

#[cfg(test)]
mod tests {
    use super::{folder, parse_step};
    use crate::trainer::Kind;

    #[test]
    fn folder_names_read_back() {
        for step in [0, 1, 100, 99_999_999, 100_000_000] {
            let key = format!("{}/a/b.json", folder(Kind::Cpt, step));
            assert_eq!(parse_step(Kind::Cpt, &key), Some((step, "a/b.json")));
            assert_eq!(parse_step(Kind::Instruct, &key), None);
        }
        assert_eq!(folder(Kind::Instruct, 100), "checkpoints/instruct/step-00000100");
        for key in [
            "checkpoints/cpt/step-100/manifest.json",
            "checkpoints/cpt/step-000000100/manifest.json",
            "checkpoints/cpt/step-0000010x/manifest.json",
            "checkpoints/cpt/step-00000100",
            "checkpoints/cpt/merged/manifest.json",
        ] {
            assert_eq!(parse_step(Kind::Cpt, key), None, "{key}");
        }
    }
}
