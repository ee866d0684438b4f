//! What can go wrong with one call to a store, one variant for each thing a caller can do about it.
//! It holds no document text, no credentials and no signed addresses: an object's name, sizes and `ETags` only.

use crate::key::{ETag, Key};
use std::io;

/// A failed call to a [`Store`](crate::Store).
///
/// `object` is the store's URI and the key, control characters escaped, so that a message is one line whatever the name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Nothing is published under this name.
    #[error("{object}: no such object; check the name, or run the stage that writes it")]
    NotFound {
        /// Store and key.
        object: String,
    },
    /// The object is not the one that was listed or opened: somebody replaced or rewrote it.
    #[error(
        "{object}: changed while it was in use: got ETag {found}, expected {expected}; \
         leave inputs alone during a run, then plan again"
    )]
    Changed {
        /// Store and key.
        object: String,
        /// The pinned ETag.
        expected: ETag,
        /// The ETag that the store gives now.
        found: ETag,
    },
    /// Other bytes stand under a name that was to be published; published objects are never modified.
    #[error("{object}: exists with other bytes; run \"mellama verify\", and delete it if it is the damaged one")]
    Exists {
        /// Store and key.
        object: String,
    },
    /// The name cannot be a key of this store.
    #[error("{key}: not a valid key: {problem}")]
    InvalidKey {
        /// The offending name, control characters escaped, cut to 128 characters.
        key: String,
        /// What is wrong with it, and what a key may be.
        problem: String,
    },
    /// A symbolic link, or a folder on the way, leads out of the store's root.
    #[error("{object}: a symbolic link leads out of the store's folder; copy the data in, or open the folder it points to")]
    OutsideRoot {
        /// Store and key.
        object: String,
    },
    /// The body is longer than one put may be.
    #[error("{object}: {size_bytes} bytes in one put, at most {limit_bytes} expected; write it as an upload")]
    TooLarge {
        /// Store and key.
        object: String,
        /// Length of the body in bytes.
        size_bytes: u64,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// This store or this file system cannot do what was asked.
    #[error("{subject}: not supported: {remedy}")]
    Unsupported {
        /// What was asked for.
        subject: String,
        /// What to do instead.
        remedy: String,
    },
    /// Permissions or credentials refuse the call.
    #[error("{object}: {operation} was denied; {remedy}")]
    Denied {
        /// Store and key.
        object: String,
        /// What was being done.
        operation: &'static str,
        /// What to look at.
        remedy: String,
        /// The system's own error.
        #[source]
        source: io::Error,
    },
    /// The disk, the quota or the file-size limit is exhausted.
    #[error("{object}: {operation} found no space left; free some, or move the store to a larger disk")]
    NoSpace {
        /// Store and key.
        object: String,
        /// What was being done.
        operation: &'static str,
        /// The system's own error.
        #[source]
        source: io::Error,
    },
    /// A write failed in a way that leaves open whether it took effect: read back before trying again.
    #[error("{object}: {operation} failed with an unknown outcome; run the same command again")]
    Unknown {
        /// Store and key.
        object: String,
        /// What was being done.
        operation: &'static str,
        /// The system's own error.
        #[source]
        source: io::Error,
    },
    /// A body ended early or late: fewer or more bytes than were asked for or promised.
    #[error("{object}: got {got} bytes, expected {expected}; the object was cut, run \"mellama verify\"")]
    Truncated {
        /// Store and key.
        object: String,
        /// Bytes asked for or promised.
        expected: u64,
        /// Bytes there.
        got: u64,
    },
    /// There is no such bucket, or not for these credentials.
    #[error("s3://{bucket}: no such bucket; check its name, the region and the endpoint")]
    NoBucket {
        /// Its name.
        bucket: String,
    },
    /// The server refuses requests because this machine's clock is wrong.
    #[error("{object}: the clock of this machine is wrong{}; set it, for example with NTP", clock(*.ahead_seconds))]
    Clock {
        /// Store and key.
        object: String,
        /// By how many seconds the server's clock is ahead, where it said so.
        ahead_seconds: Option<i64>,
    },
    /// No server was ever there: a wrong address, or one that is down.
    #[error("{object}: {operation} failed; check the address of {server}, and whether it is up")]
    NoServer {
        /// Store and key.
        object: String,
        /// What was being done.
        operation: &'static str,
        /// Scheme, host and port.
        server: String,
        /// What the last attempt ended with.
        #[source]
        source: io::Error,
    },
    /// The server did not do it in the time and the tries that it has; later it may.
    #[error("{object}: {operation} failed {tries} times in {seconds} s; try again later, or give the store more time")]
    Unavailable {
        /// Store and key.
        object: String,
        /// What was being done.
        operation: &'static str,
        /// Attempts.
        tries: u32,
        /// Seconds from the first to the last.
        seconds: u64,
        /// What the last one ended with.
        #[source]
        source: io::Error,
    },
    /// The process was asked to stop; nothing was published by the call.
    #[error("{object}: stopped")]
    Interrupted {
        /// Store and key.
        object: String,
    },
    /// Any other failure of the machine; it had no effect on what is published.
    #[error("{object}: {operation} failed; check the disk or the network, then run the same command again")]
    Io {
        /// Store and key.
        object: String,
        /// What was being done.
        operation: &'static str,
        /// The system's own error.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// Sorts an I/O error of a call that had no visible effect into the variant that says what to do about it.
    ///
    /// `object` names store and key, `operation` what was being done ("reading", "creating the folder").
    pub fn from_io(object: String, operation: &'static str, source: io::Error) -> Self {
        // An error that already went through a store (a stream wraps them) keeps its own variant.
        let source = match source.downcast::<StoreError>() {
            Ok(inner) => return inner,
            Err(source) => source,
        };
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { object },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                let remedy = "check the permissions of the store for this user".to_owned();
                Self::Denied { object, operation, remedy, source }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::NoSpace { object, operation, source }
            }
            _ => Self::Io { object, operation, source },
        }
    }

    /// True for [`StoreError::NotFound`].
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// True when the call may have taken effect although it failed, so that the caller has to read back.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    pub(crate) fn invalid(key: &str, problem: impl Into<String>) -> Self {
        const SHOWN: usize = 128;
        let mut shown: String = key.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        if key.chars().nth(SHOWN).is_some() {
            shown.push('…');
        }
        Self::InvalidKey { key: format!("\"{shown}\""), problem: problem.into() }
    }
}

/// By how much a clock is wrong, as a message says it.
fn clock(ahead_seconds: Option<i64>) -> String {
    match ahead_seconds {
        Some(ahead) if ahead > 0 => format!(", {ahead} s behind the server's"),
        Some(ahead) => format!(", {} s ahead of the server's", -ahead),
        None => String::new(),
    }
}

/// Store and key as messages show them: one line, control characters escaped.
pub(crate) fn object_name(uri: &str, key: &Key) -> String {
    let shown: String = key
        .as_str()
        .chars()
        .flat_map(|c| -> Box<dyn Iterator<Item = char>> {
            if c.is_control() { Box::new(c.escape_default()) } else { Box::new(std::iter::once(c)) }
        })
        .collect();
    format!("{}/{shown}", uri.trim_end_matches('/'))
}

/// For `Read` and `Write`: the store error stays whole inside the I/O error, and [`StoreError::from_io`] takes it out again.
impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::NotFound { .. } | StoreError::NoBucket { .. } => io::ErrorKind::NotFound,
            StoreError::Denied { .. } | StoreError::OutsideRoot { .. } => io::ErrorKind::PermissionDenied,
            StoreError::NoSpace { .. } => io::ErrorKind::StorageFull,
            StoreError::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            StoreError::Changed { .. } => io::ErrorKind::InvalidData,
            StoreError::Exists { .. } => io::ErrorKind::AlreadyExists,
            StoreError::InvalidKey { .. } | StoreError::TooLarge { .. } => io::ErrorKind::InvalidInput,
            StoreError::Unsupported { .. } => io::ErrorKind::Unsupported,
            // Not the kind of that name: readers would go on where they were interrupted.
            StoreError::Unknown { .. }
            | StoreError::Io { .. }
            | StoreError::Clock { .. }
            | StoreError::NoServer { .. }
            | StoreError::Unavailable { .. }
            | StoreError::Interrupted { .. } => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(kind: io::ErrorKind) -> String {
        let error = StoreError::from_io("s/k".into(), "writing", io::Error::from(kind));
        format!("{error:?}").split([' ', '{']).next().unwrap().to_owned()
    }

    #[test]
    fn case_15_full_disks_and_permissions_have_their_own_variants() {
        let check = |kind, expected: &str| assert_eq!(variant(kind), expected, "{kind:?}");
        check(io::ErrorKind::StorageFull, "NoSpace");
        check(io::ErrorKind::QuotaExceeded, "NoSpace");
        check(io::ErrorKind::FileTooLarge, "NoSpace");
        check(io::ErrorKind::PermissionDenied, "Denied");
        check(io::ErrorKind::ReadOnlyFilesystem, "Denied");
        check(io::ErrorKind::NotFound, "NotFound");
        check(io::ErrorKind::Interrupted, "Io");
        check(io::ErrorKind::InvalidData, "Io");
    }

    #[test]
    fn a_store_error_survives_the_trip_through_an_io_error() {
        let inner = StoreError::Truncated { object: "s/k".into(), expected: 9, got: 4 };
        let outer = StoreError::from_io("other".into(), "reading", io::Error::from(inner));
        assert_eq!(outer.to_string(), "s/k: got 4 bytes, expected 9; the object was cut, run \"mellama verify\"");
    }

    #[test]
    fn object_names_are_one_line() {
        let key = Key::new("a/new\nline é").unwrap();
        assert_eq!(object_name("memory://m", &key), "memory://m/a/new\\nline é");
    }
}
