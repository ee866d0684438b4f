//! Token shards: from counted token runs to the exact mixture, its order, packed sequences and the files that hold them.
//!
//! It reads and writes through `mellama-storage` and knows neither documents' markup, nor recipes, nor a GPU.

pub mod apportion;
pub mod chunks;
mod columns;
mod continuity;
pub mod draw;
mod error;
pub mod export;
pub mod format;
pub mod interleave;
pub mod key;
pub mod lineage;
pub mod masks;
pub mod mixture;
pub mod order;
pub mod packing;
pub mod page_checksums;
mod page_headers;
pub mod prefix;
pub mod reader;
pub mod refill;
mod row_group;
mod run_index;
pub mod run_reader;
pub mod runs;
pub mod sequence;
pub mod set;
pub mod spread;
pub mod template;
#[cfg(test)]
mod testing;
pub mod token_object;
pub mod tokenizer;
pub mod verify;
pub mod writer;

pub use chunks::StoreChunks;
pub use error::ShardError;
pub use format::{Kind, Segment, Sequence, ShardHeader, ShardTotals, Width};
pub use key::{key_of_text, key_text};
pub use reader::ShardFile;
pub use run_reader::RunReader;
pub use runs::{NewRun, RunEntry, RunHeader, RunIndex, RunTotals, RunWriter};
pub use set::ShardSet;
pub use token_object::{RunBytes, RunPart, RunPlace, TokenObject};
pub use tokenizer::{CACHE_BYTES, Encoder, Tokenizer, TokenizerError};
pub use verify::{verify_sequence, verify_shard};
pub use writer::ShardWriter;
