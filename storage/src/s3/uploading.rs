//! An object of any length on its way into a bucket: in one request where it is short, else in parts sent side by side. Whatever
//! ends it, no upload is left open by a process that lives; what a dead one left is found by its age.

use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::remote::PartTag;
use super::spool::Spool;
use super::trouble::Kind;
use super::{MOST_UPLOADS, S3Store};
use crate::block_cache::Subject;
use crate::error::StoreError;
use crate::key::{ETag, Key, ObjectMeta};
use crate::store::Upload;
use crate::usage::Request;

/// Longest body of one request; a longer object is sent in parts.
const SINGLE_BYTES: u64 = 16 << 20;
/// Length of a part, doubled as often as the object needs to have no more than [`MOST_PARTS`].
const PART_BYTES: u64 = 8 << 20;
/// Parts of one object at most, the limit of S3.
const MOST_PARTS: u64 = 10_000;
/// Parts of one object under way at once.
const PARTS_AT_ONCE: usize = 4;

/// An upload: spooled until its name is known.
pub(super) struct S3Upload {
    store: S3Store,
    spool: Spool,
}

impl S3Upload {
    pub(super) fn new(store: S3Store) -> Self {
        let spool = Spool::new(store.inner.scratch.clone());
        Self { store, spool }
    }

    fn error(&self, key: &Key, operation: &'static str, source: io::Error) -> StoreError {
        StoreError::from_io(self.store.object(key), operation, source)
    }

    /// What stands under the name already: success where it is the same.
    fn settled(&self, key: &Key) -> Result<Option<ObjectMeta>, StoreError> {
        let meta = match crate::store::Store::head(&self.store, key) {
            Err(error) if error.is_not_found() => return Ok(None),
            meta => meta?,
        };
        let theirs = crate::store::Store::open(&self.store, key, Some(&meta.etag))?;
        if self.spool.holds(theirs).map_err(|e| self.error(key, "comparing", e))? {
            return Ok(Some(meta));
        }
        Err(StoreError::Exists { object: self.store.object(key) })
    }

    /// Sends all in one request; `None` where the name was taken and is free again.
    fn single(&self, key: &Key) -> Result<Option<ObjectMeta>, StoreError> {
        let name = self.store.inner.address.name(key)?;
        let size = self.spool.size_bytes();
        let body = self.spool.bytes(0, size).map_err(|e| self.error(key, "reading from scratch", e))?;
        match self.store.make(Request::Put, size, || self.store.remote().put_new(&name, body.clone())) {
            Ok(etag) => Ok(Some(self.meta(key, etag))),
            Err(given_up) if given_up.trouble.kind == Kind::Precondition => self.settled(key),
            Err(given_up) => Err(self.store.write_failed(key, "writing", given_up)),
        }
    }

    /// Sends the parts and makes the object of them; `None` where it has to be done again.
    fn multipart(&self, key: &Key) -> Result<Option<ObjectMeta>, StoreError> {
        let name = self.store.inner.address.name(key)?;
        let begun = self.store.make(Request::Begin, 0, || self.store.remote().begin(&name));
        let upload = begun.map_err(|given_up| self.begin_failed(key, given_up))?;
        let outcome = self.parts(key, &name, &upload).and_then(|parts| self.complete(key, &name, &upload, &parts));
        if !matches!(outcome, Ok(Some(_))) {
            // Where this fails too, `gc` finds the upload by its age.
            let _ = self.store.inner.attempts.last(Request::Abort, || self.store.remote().abort(&name, &upload));
        }
        outcome
    }

    /// Nothing is published by a beginning, so its outcome is never unknown.
    fn begin_failed(&self, key: &Key, given_up: super::GivenUp) -> StoreError {
        self.store.failed(super::Subject { name: Some(key), operation: "beginning an upload" }, given_up)
    }

    fn parts(&self, key: &Key, name: &str, upload: &str) -> Result<Vec<PartTag>, StoreError> {
        let part_bytes = part_bytes(self.spool.size_bytes());
        let count = self.spool.size_bytes().div_ceil(part_bytes) as usize;
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let done: Mutex<Vec<PartTag>> = Mutex::default();
        let error: Mutex<Option<StoreError>> = Mutex::default();
        let worker = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count || failed.load(Ordering::Relaxed) {
                    return;
                }
                match self.part(key, name, upload, (index as u64, part_bytes)) {
                    Ok(tag) => done.lock().expect("no holder panics").push(tag),
                    Err(found) => {
                        failed.store(true, Ordering::Relaxed);
                        error.lock().expect("no holder panics").get_or_insert(found);
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..PARTS_AT_ONCE.min(count) {
                scope.spawn(worker);
            }
            worker();
        });
        if let Some(error) = error.into_inner().expect("no holder panics") {
            return Err(error);
        }
        let mut parts = done.into_inner().expect("no holder panics");
        parts.sort_by_key(|part| part.number);
        Ok(parts)
    }

    fn part(&self, key: &Key, name: &str, upload: &str, (index, part_bytes): (u64, u64)) -> Result<PartTag, StoreError> {
        let body = self.spool.bytes(index * part_bytes, part_bytes);
        let body = body.map_err(|e| self.error(key, "reading from scratch", e))?;
        let number = index as u32 + 1;
        let sent =
            self.store.make(Request::Part, body.len() as u64, || self.store.remote().part(name, upload, number, body.clone()));
        sent.map_err(|given_up| self.begin_failed(key, given_up))
    }

    fn complete(&self, key: &Key, name: &str, upload: &str, parts: &[PartTag]) -> Result<Option<ObjectMeta>, StoreError> {
        let mut conflict = false;
        let made = self.store.make(Request::Complete, 0, || {
            let outcome = self.store.remote().complete(name, upload, parts);
            // "Conflict" here means that the whole upload is void: it is not asked for again.
            conflict = outcome.as_ref().is_err_and(|trouble| trouble.kind == Kind::Conflict);
            if conflict { Ok(None) } else { outcome.map(Some) }
        });
        match made {
            Ok(etag) => Ok(etag.map(|etag| self.meta(key, etag))),
            // The name is taken, or an earlier attempt ended the upload and its answer was lost.
            Err(given_up) if matches!(given_up.trouble.kind, Kind::Precondition | Kind::NoUpload | Kind::NotFound) => {
                self.settled(key)
            }
            // Some servers say so in other words.
            Err(given_up) if given_up.may_have_taken_effect && given_up.trouble.kind == Kind::Denied => self.settled(key),
            Err(given_up) => Err(self.store.write_failed(key, "completing an upload", given_up)),
        }
    }

    fn meta(&self, key: &Key, etag: ETag) -> ObjectMeta {
        ObjectMeta { key: key.clone(), size_bytes: self.spool.size_bytes(), etag }
    }
}

/// Requests that write an object of this length: one where it is short, else one for each part, its beginning and its end.
pub fn requests_to_write(size_bytes: u64) -> u64 {
    if size_bytes <= SINGLE_BYTES { 1 } else { size_bytes.div_ceil(part_bytes(size_bytes)) + 2 }
}

/// Length of the parts of an object.
fn part_bytes(size_bytes: u64) -> u64 {
    let mut length = PART_BYTES;
    while size_bytes.div_ceil(length) > MOST_PARTS {
        length *= 2;
    }
    length
}

impl Write for S3Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.spool.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.spool.flush()
    }
}

impl Upload for S3Upload {
    fn finish(mut self: Box<Self>, key: &Key) -> Result<ObjectMeta, StoreError> {
        self.send(key)
    }

    fn finish_as(mut self: Box<Self>, key: &Key, blake3: &str) -> Result<ObjectMeta, StoreError> {
        let meta = self.send(key)?;
        if let Some(cache) = &self.store.inner.cache {
            let object = self.store.object(key);
            let subject = Subject { object, state: blake3.to_owned(), size_bytes: meta.size_bytes };
            cache.keep(&subject, &meta.etag, &|range| self.spool.bytes(range.start, range.end - range.start));
        }
        Ok(meta)
    }
}

impl S3Upload {
    fn send(&mut self, key: &Key) -> Result<ObjectMeta, StoreError> {
        if let Err(source) = self.spool.settle() {
            return Err(self.error(key, "writing to scratch", source));
        }
        for _ in 0..MOST_UPLOADS {
            let made = if self.spool.size_bytes() <= SINGLE_BYTES { self.single(key) } else { self.multipart(key) }?;
            if let Some(meta) = made {
                return Ok(meta);
            }
        }
        let source = io::Error::other("other requests came between, again and again");
        Err(StoreError::Unknown { object: self.store.object(key), operation: "writing", source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_with_the_object() {
        let check = |size: u64, expected: u64| assert_eq!(part_bytes(size), expected, "{size}");
        check(0, PART_BYTES);
        check(PART_BYTES * MOST_PARTS, PART_BYTES);
        check(PART_BYTES * MOST_PARTS + 1, 2 * PART_BYTES);
        // The largest object of S3, 5 TiB, in parts of less than 5 GiB.
        check(5 << 40, 1 << 30);
    }
}
