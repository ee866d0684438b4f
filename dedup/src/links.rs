//! What records say of each other: the names they go by, and the names of what stands for them.
//!
//! Names are hashed at once; the joins never see them.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Hash of a name such as `pmid:123`: XXH3-64 of its UTF-8 bytes. Two names that clash propose a pair, which is compared.
pub fn name_hash(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

/// The hashed names of one record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// Names that it goes by. An abridged record may be removed for a full text that goes by one of them.
    pub names: Vec<u64>,
    /// Names of the article that this preprint became.
    pub preprint_of: Vec<u64>,
    /// Names of the preprint that this article was published from.
    pub published_from: Vec<u64>,
}

impl Links {
    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.preprint_of.is_empty() && self.published_from.is_empty()
    }
}

/// Why a link proposes that a document stands for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKind {
    /// An abstract and its full text.
    FullText,
    /// A preprint and its article.
    Preprint,
}

/// A pair that the records themselves propose, by document numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The document that may go.
    pub dependent: u32,
    /// The document that stands for it.
    pub owner: u32,
    /// What the records say.
    pub kind: LinkKind,
}
