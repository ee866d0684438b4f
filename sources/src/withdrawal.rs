//! Notices that take earlier records back: deletions of an update file and retractions.
//!
//! A notice names a record and where it stands itself; which documents it reaches is decided over the whole source.

use serde::{Deserialize, Serialize};

/// Why a record is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WithdrawalReason {
    /// The source deleted the record (`DeleteCitation`). Reaches what stands before the notice; a later record of the
    /// same id is a new one.
    Deleted,
    /// The article was retracted. Reaches every record of that id, before the notice and behind it.
    Retracted,
}

impl WithdrawalReason {
    /// Kebab-case name, as in counters and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Retracted => "retracted",
        }
    }
}

/// A notice that takes records of one id back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Native id of the records that are meant.
    pub native_id: String,
    /// Offset of the notice in the decompressed stream of its object.
    pub byte_offset: u64,
    /// Why.
    pub reason: WithdrawalReason,
}
