//! Models in the folder layout of Hugging Face: `config.json` and one or several safetensors files.
//!
//! The tensors are kept as they stand in the files: rotation is half-split natively, so no permutation exists
//! here (llama2.c's files, which need one, are `llama2c`). Training state is `checkpoint`.

pub mod adapter;
mod config;
mod digest;
mod load;
mod save;
mod sums;

pub use config::{ConfigError, ModelConfig, SpecialTokens};
pub use digest::weights_digest;
pub use load::{HfError, HfModel, load, load_folder};
pub use save::{INDEX, SaveError, WeightForm, index_json, save};

pub use sums::{SUMS, encode as encode_sums};

pub use crate::checkpoint::tensor_file::Dtype;
