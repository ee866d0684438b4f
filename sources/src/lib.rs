//! Reads raw medical and general text into [`Document`]s or [`Reject`]s, and cleans it.
//!
//! It touches no network, thread, clock or recipe: bytes come in as an [`Input`], items go out in order.
//! Bad data is never an error but a reject with its place; errors are failures of the machine.

pub mod archive;
mod archive_reader;
mod batch_rows;
pub mod clean;
mod compression;
pub mod conversation;
pub mod csv;
mod csv_records;
pub mod decoded;
pub mod document;
mod entities;
mod frame;
pub mod input;
pub mod jats;
mod json;
pub mod jsonl;
pub mod key;
mod keyed_text_reader;
pub mod language;
mod licence;
mod line;
mod lines;
mod markup;
mod mathml;
mod member;
#[cfg(test)]
mod member_tests;
pub mod mimic;
pub mod mimic_cxr;
mod names;
pub mod options;
mod pages;
mod parquet_chunks;
mod parquet_columns;
pub mod parquet_reader;
mod part;
pub mod phi;
pub mod pile;
pub mod pmc_tar;
mod prose;
pub mod pubmed;
pub mod reader;
#[cfg(test)]
mod reader_tests;
pub mod record_names;
mod records;
pub mod redpajama;
mod references;
pub mod reject;
mod row;
pub mod s2orc;
pub mod sections;
pub mod sequential;
pub mod split;
mod table;
mod tar;
mod tar_header;
mod tar_parts;
pub mod text;
mod withdrawal;
mod xml;
#[cfg(test)]
mod xml_tests;
mod zip;
mod zip_directory;
mod zstd_frames;

pub use archive::{ArchiveError, DocumentReader, DocumentWriter};
pub use clean::{
    Change, Changes, Cleaned, Cleaner, Cleaning, CleaningError, Deidentification, DropReason, PhiFindings, PhiPolicies,
    PhiPolicy, Spaces, Verdict,
};
pub use compression::StreamFault;
pub use conversation::{Conversation, ConversationItem, ConversationReader, Role, Turn, open_conversations};
pub use decoded::{DecodedBlock, DecodedBlocks};
pub use document::{Document, Domain, Origin, Sensitivity, document_id, text_id};
pub use input::{ByteStream, Input, RangeRead};
pub use key::{CONVERSATION_VERSION, document_key};
pub use options::{Formulas, Markers, ReadOptions, Retracted, SubArticles, Tables};
pub use part::Part;
pub use phi::{PhiHit, PhiKind};
pub use reader::{Fields, Format, FormatError, Item, Limits, ReadError, Reader, SourceContext, open};
pub use reject::{Reject, RejectReason, write_rejects};
pub use sections::Section;
pub use sequential::SequentialReader;
pub use withdrawal::{Withdrawal, WithdrawalReason};
