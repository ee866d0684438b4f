//! Names of objects, the tags that pin one state of them, and the ids of attempts to write them.
//! Nothing here touches a disk or a network.

use crate::error::StoreError;
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest key in bytes of UTF-8, the limit of S3.
pub const MAX_KEY_BYTES: usize = 1024;

/// First segment under which a local store keeps what is not published yet; no key may begin with it.
pub(crate) const TEMPORARY_FOLDER: &str = ".mellama-tmp";

/// The name of an object: UTF-8 segments joined by `/`, relative to the store's root. Ordered by bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

impl Key {
    /// Checks a name and makes it a key.
    ///
    /// # Errors
    /// [`StoreError::InvalidKey`] when it is empty, longer than [`MAX_KEY_BYTES`], holds a NUL, begins with `/`, has a
    /// segment that is empty, `.` or `..`, or begins with the reserved segment `.mellama-tmp`.
    pub fn new(name: impl Into<String>) -> Result<Self, StoreError> {
        let name = name.into();
        let problem = if name.is_empty() {
            "it is empty"
        } else if name.len() > MAX_KEY_BYTES {
            "it is longer than 1024 bytes"
        } else if name.starts_with('/') {
            "it begins with '/'; keys are relative to the store"
        } else if name.contains('\0') {
            "it holds a NUL byte"
        } else if name.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            "a segment is empty, '.' or '..'"
        } else if name.split('/').next() == Some(TEMPORARY_FOLDER) {
            "'.mellama-tmp' is reserved for files that are not published yet"
        } else {
            return Ok(Self(name));
        };
        Err(StoreError::invalid(&name, problem))
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments between the slashes; at least one, none empty.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Sound for maps: a key is ordered, compared and hashed as its text is.
impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Key {
    type Error = StoreError;

    fn try_from(name: String) -> Result<Self, StoreError> {
        Self::new(name)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

/// An opaque tag of one state of an object: equal tags, same bytes as far as the store can tell without reading them.
///
/// A local store makes it of size, modification time and inode; BLAKE3 in the manifests has the last word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ETag(String);

impl ETag {
    /// Takes a tag as a store gave it, or as a plan froze it.
    pub fn new(tag: impl Into<String>) -> Self {
        Self(tag.into())
    }

    /// The tag as the store gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a store knows of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectMeta {
    /// Its name.
    pub key: Key,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// The tag of its present state.
    pub etag: ETag,
}

/// Names one try at one task, so that a store can tell a writer's own object from another's.
///
/// It holds a process id and the time: provenance, never part of a digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptId(String);

impl AttemptId {
    /// A new id, `PID-COUNTER-NANOSECONDS` in hexadecimal, distinct within a process and across processes of one machine.
    pub fn generate() -> Self {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        Self(format!("{:x}-{count:x}-{nanoseconds:x}", std::process::id()))
    }

    /// An id made elsewhere: the `attempt` of a commit.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a put-if-absent found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// Nothing was there; the body is published now.
    Created,
    /// Exactly this body, naming this attempt, was already there: an earlier call took effect.
    SameAttempt,
    /// Another attempt's object is there; the caller reads it back and compares.
    Other,
}

/// What a put is answered that finds `existing` under its name: the attempt's own object, or another's.
pub(crate) fn outcome_of_existing(existing: &[u8], body: &[u8], attempt: &AttemptId) -> PutOutcome {
    let id = attempt.as_str().as_bytes();
    let named = !id.is_empty() && body.windows(id.len()).any(|window| window == id);
    if named && existing == body { PutOutcome::SameAttempt } else { PutOutcome::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_12_names_that_leave_the_root_are_no_keys() {
        let check = |name: &str, valid: bool| assert_eq!(Key::new(name).is_ok(), valid, "{name:?}");
        check("a", true);
        check("commits/ingest/00007.json", true);
        check("odd/ %é\n*?\\:.json", true);
        check("...", true);
        check("a/.mellama-tmp", true);
        check(&"k".repeat(1024), true);
        check(&"k".repeat(1025), false);
        check(&"é".repeat(513), false);
        check("", false);
        check("/etc/passwd", false);
        check("a//b", false);
        check("a/", false);
        check(".", false);
        check("a/./b", false);
        check("..", false);
        check("../x", false);
        check("a/../../x", false);
        check("a/..", false);
        check("nul\0", false);
        check(".mellama-tmp", false);
        check(".mellama-tmp/x", false);
    }

    #[test]
    fn keys_are_ordered_by_bytes() {
        let mut keys: Vec<Key> = ["a0", "a/b", "a-b", "B", "é"].map(|k| Key::new(k).unwrap()).into();
        keys.sort();
        assert_eq!(keys.iter().map(Key::as_str).collect::<Vec<_>>(), ["B", "a-b", "a/b", "a0", "é"]);
    }

    #[test]
    fn a_key_is_checked_when_it_is_read_from_json() {
        assert!(serde_json::from_str::<Key>("\"a/b\"").is_ok());
        assert!(serde_json::from_str::<Key>("\"../b\"").is_err());
    }

    #[test]
    fn long_and_odd_names_are_cut_and_escaped_in_messages() {
        let message = Key::new(format!("/\n{}", "x".repeat(2000))).unwrap_err().to_string();
        assert!(message.starts_with("\"/\\nxxx") && message.len() < 250, "{message}");
    }

    #[test]
    fn attempts_are_distinct() {
        assert_ne!(AttemptId::generate(), AttemptId::generate());
    }

    #[test]
    fn only_the_same_body_with_the_attempt_in_it_is_the_same_attempt() {
        let attempt = AttemptId::new("7-1");
        let check = |existing: &str, body: &str, expected| {
            assert_eq!(outcome_of_existing(existing.as_bytes(), body.as_bytes(), &attempt), expected, "{existing} {body}");
        };
        check("a 7-1", "a 7-1", PutOutcome::SameAttempt);
        check("a", "a", PutOutcome::Other);
        check("b 7-1", "a 7-1", PutOutcome::Other);
        check("a 7-2", "a 7-1", PutOutcome::Other);
    }
}
