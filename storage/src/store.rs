//! The one interface to stored objects, what every implementation promises, and the functions that need no more than it.
//! Blocking throughout: a backend that is asynchronous inside keeps that to itself.

use crate::error::{StoreError, object_name};
use crate::key::{AttemptId, ETag, Key, ObjectMeta, PutOutcome};
use std::io::{Read, Write};
use std::ops::Range;
use std::time::{Duration, SystemTime};

use crate::block_cache::BlockCache;
use crate::usage::Meter;

/// Longest body of one [`Store::put_new`], in bytes; anything longer is an upload.
pub const PUT_LIMIT_BYTES: usize = 64 << 20;

/// Objects asked for in one page by [`list_all`].
pub const LIST_PAGE: usize = 10_000;

/// Immutable objects under validated keys.
///
/// Requirements, each checked by one function of [`contract`](crate::contract):
/// an object appears complete or not at all; it is never replaced by [`put_new`](Store::put_new) or by an upload;
/// a read returns the exact range or an error; a pinned read refuses any other state of the object; a listing is sorted
/// by key bytes and never shows what is not published. Decisions are made by reading an object back, never from a listing.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Where this store is: an absolute folder, or a scheme and a name. It carries no credentials.
    fn uri(&self) -> &str;

    /// Size and ETag of an object.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when nothing is published under the key, otherwise the backend's.
    fn head(&self, key: &Key) -> Result<ObjectMeta, StoreError>;

    /// The bytes of `range` (the whole object when `None`), held in memory.
    ///
    /// # Errors
    /// [`StoreError::Changed`] when the object is not in the `pinned` state or changed during the read;
    /// [`StoreError::Truncated`] when it ends before the range does; otherwise the backend's.
    fn read(&self, key: &Key, range: Option<Range<u64>>, pinned: Option<&ETag>) -> Result<Vec<u8>, StoreError>;

    /// The bytes of `range`, at most [`block_bytes`](Store::block_bytes) of them, and the state that they are of.
    ///
    /// # Errors
    /// As [`read`](Store::read).
    fn read_state(&self, key: &Key, range: Range<u64>) -> Result<(Vec<u8>, ObjectMeta), StoreError> {
        let meta = self.head(key)?;
        let bytes = self.read(key, Some(range.start..range.end.min(meta.size_bytes)), Some(&meta.etag))?;
        Ok((bytes, meta))
    }

    /// The whole object as a stream in bounded memory. The stream checks at its end that the object did not change and
    /// has its full length; such a failure is an `io::Error` that [`StoreError::from_io`] takes apart again.
    ///
    /// # Errors
    /// As [`read`](Store::read).
    fn open(&self, key: &Key, pinned: Option<&ETag>) -> Result<Box<dyn Read + Send>, StoreError>;

    /// Publishes `body` (at most [`PUT_LIMIT_BYTES`]) unless the key exists; durable when it returns.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] when it may have taken effect: read back. Otherwise nothing was published.
    fn put_new(&self, key: &Key, body: &[u8], attempt: &AttemptId) -> Result<PutOutcome, StoreError>;

    /// Begins a large object; nothing is visible until [`Upload::finish`].
    ///
    /// # Errors
    /// The backend's; nothing was published.
    fn upload(&self) -> Result<Box<dyn Upload>, StoreError>;

    /// At most `limit` objects whose keys begin with `prefix` (bytes, not segments) and come after `start_after`, sorted by
    /// key bytes. Fewer than `limit` means that there are no more.
    ///
    /// # Errors
    /// The backend's; [`StoreError::InvalidKey`] when a file's name cannot be a key, for it would be passed over silently.
    fn list(&self, prefix: &str, start_after: Option<&Key>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError>;

    /// Removes an object; its absence is success.
    ///
    /// # Errors
    /// The backend's.
    fn delete(&self, key: &Key) -> Result<(), StoreError>;

    /// When the object was published, by the store's clock. For garbage collection only, never for an output.
    ///
    /// # Errors
    /// As [`head`](Store::head).
    fn modified(&self, key: &Key) -> Result<SystemTime, StoreError>;

    /// What attempts left unpublished and nobody will finish any more: in a folder the temporary files of processes that are no
    /// longer alive, in a bucket the multipart uploads that were begun longer ago than `older_than`, for no server knows who lives.
    ///
    /// # Errors
    /// The backend's.
    fn stale(&self, older_than: Duration) -> Result<Vec<Stale>, StoreError> {
        let _ = older_than;
        Ok(Vec::new())
    }

    /// Removes one of these; its absence is success, and what turns out to be alive stays.
    ///
    /// # Errors
    /// The backend's.
    fn remove_stale(&self, stale: &Stale) -> Result<(), StoreError> {
        let _ = stale;
        Ok(())
    }

    /// Bytes that are best asked for at once, in sequential reading.
    fn block_bytes(&self) -> u64 {
        1 << 20
    }

    /// Where blocks of its objects are kept for reading again, if they are.
    fn cache(&self) -> Option<&BlockCache> {
        None
    }

    /// What was asked of the server, where there is one.
    fn meter(&self) -> Option<&Meter> {
        None
    }
}

/// Something that an attempt left unpublished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// The temporary file's name, or the object's that was to be made.
    pub name: String,
    /// Which upload of that name; empty for a file.
    pub id: String,
    /// When it was begun, by the store's clock, where it is known.
    pub began: Option<SystemTime>,
}

/// Removes what dead processes left; what only age could tell stays.
///
/// # Errors
/// The store's; what could not be removed is left for the next time.
pub fn sweep(store: &dyn Store) -> Result<u64, StoreError> {
    let stale = store.stale(Duration::MAX)?;
    stale.iter().try_for_each(|stale| store.remove_stale(stale))?;
    Ok(stale.len() as u64)
}

/// A large object on its way. Dropping it aborts and leaves nothing.
pub trait Upload: Write + Send {
    /// Makes the object durable and publishes it under `key`. When the same bytes are already there, that is success and the
    /// object there stays as it is.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when other bytes are there; [`StoreError::Unknown`] when it may have taken effect: read back.
    fn finish(self: Box<Self>, key: &Key) -> Result<ObjectMeta, StoreError>;

    /// As [`finish`](Upload::finish), of bytes with this BLAKE3 (hexadecimal). A store that keeps blocks keeps these, so that
    /// what a process wrote it need not ask for.
    ///
    /// # Errors
    /// As [`finish`](Upload::finish).
    fn finish_as(self: Box<Self>, key: &Key, blake3: &str) -> Result<ObjectMeta, StoreError> {
        let _ = blake3;
        self.finish(key)
    }
}

/// All objects whose keys begin with `prefix`, sorted by key bytes, page by page in bounded memory.
/// The iterator ends after its first error.
pub fn list_all<'a>(store: &'a dyn Store, prefix: &str) -> impl Iterator<Item = Result<ObjectMeta, StoreError>> + use<'a> {
    let prefix = prefix.to_owned();
    let mut page = Vec::new().into_iter();
    let mut last: Option<Key> = None;
    let mut more = true;
    std::iter::from_fn(move || {
        if page.len() == 0 && more {
            match store.list(&prefix, last.as_ref(), LIST_PAGE) {
                Ok(objects) => {
                    more = objects.len() == LIST_PAGE;
                    last = objects.last().map(|object| object.key.clone());
                    page = objects.into_iter();
                }
                Err(error) => {
                    more = false;
                    return Some(Err(error));
                }
            }
        }
        page.next().map(Ok)
    })
}

/// Proves before any work that the store can be read and written and honours put-if-absent, with one small object that it
/// removes again.
///
/// # Errors
/// The first refusal of the store; [`StoreError::Unsupported`] when a second conditional put replaces or claims the first.
pub fn preflight(store: &dyn Store) -> Result<(), StoreError> {
    let attempt = AttemptId::generate();
    let key = Key::new(format!(".probe/{attempt}"))?;
    let unsupported = |what: &str| StoreError::Unsupported {
        subject: object_name(store.uri(), &key),
        remedy: format!("{what}; use a store with conditional writes"),
    };
    // With the attempt in it, so that a put whose answer was lost is recognised.
    let body = format!("first {attempt}");
    let first = store.put_new(&key, body.as_bytes(), &attempt);
    let verdict = first.and_then(|first| {
        let second = store.put_new(&key, b"second", &AttemptId::generate())?;
        let found = store.read(&key, None, None)?;
        match (first, second) {
            (PutOutcome::Created | PutOutcome::SameAttempt, PutOutcome::Other) if found == body.as_bytes() => Ok(()),
            _ if found == b"second" => Err(unsupported("it replaced an object by a conditional put")),
            _ => Err(unsupported("it answers conditional puts wrongly")),
        }
    });
    let removed = store.delete(&key);
    verdict.and(removed)
}

/// Refuses a body that is too long for one put.
pub(crate) fn check_put_limit(uri: &str, key: &Key, length: usize) -> Result<(), StoreError> {
    if length <= PUT_LIMIT_BYTES {
        return Ok(());
    }
    Err(StoreError::TooLarge { object: object_name(uri, key), size_bytes: length as u64, limit_bytes: PUT_LIMIT_BYTES as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;

    #[test]
    fn case_11_list_all_reads_each_of_many_keys_once_in_order() {
        for count in [0, 1, LIST_PAGE - 1, LIST_PAGE, LIST_PAGE + 1, 100_000] {
            let store = MemoryStore::new("many");
            for number in 0..count {
                store.overwrite(&Key::new(format!("k/{number:06}")).unwrap(), b"x");
            }
            let keys: Vec<String> = list_all(&store, "k/").map(|object| object.unwrap().key.into()).collect();
            assert_eq!(keys.len(), count);
            assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{count}");
        }
    }

    #[test]
    fn preflight_leaves_nothing_behind() {
        let store = MemoryStore::new("probe");
        preflight(&store).unwrap();
        assert_eq!(list_all(&store, "").count(), 0);
    }
}
