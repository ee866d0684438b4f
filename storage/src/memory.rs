//! A store in memory, for tests and small trials: the same answers as the others, gone with the process.
//! It is the reference implementation of the contract, so it does nothing clever.

use crate::error::{StoreError, object_name};
use crate::key::{AttemptId, ETag, Key, ObjectMeta, PutOutcome, outcome_of_existing};
use crate::store::{Store, Upload, check_put_limit};
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Write};
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

/// Objects in a sorted map. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    uri: String,
    objects: Objects,
}

type Objects = Arc<Mutex<BTreeMap<Key, Object>>>;

#[derive(Clone)]
struct Object {
    body: Arc<[u8]>,
    etag: ETag,
    modified: SystemTime,
}

/// Without the body: it may be a document.
impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, {}", self.body.len(), self.etag)
    }
}

impl Object {
    /// The ETag is the head of the content's BLAKE3, as a bucket's would be.
    fn new(body: Vec<u8>) -> Self {
        let etag = ETag::new(&blake3::hash(&body).to_hex()[..32]);
        Self { body: body.into(), etag, modified: SystemTime::now() }
    }

    fn meta(&self, key: &Key) -> ObjectMeta {
        ObjectMeta { key: key.clone(), size_bytes: self.body.len() as u64, etag: self.etag.clone() }
    }
}

impl MemoryStore {
    /// An empty store with the URI `memory://NAME`.
    pub fn new(name: &str) -> Self {
        Self { uri: format!("memory://{name}"), objects: Objects::default() }
    }

    /// Replaces an object as a damaged disk or a careless hand would, which no method of [`Store`] does.
    pub fn overwrite(&self, key: &Key, body: &[u8]) {
        lock(&self.objects).insert(key.clone(), Object::new(body.to_vec()));
    }

    /// Everything published, sorted by key.
    pub fn snapshot(&self) -> BTreeMap<Key, Vec<u8>> {
        lock(&self.objects).iter().map(|(key, object)| (key.clone(), object.body.to_vec())).collect()
    }

    fn find(&self, key: &Key, pinned: Option<&ETag>) -> Result<Object, StoreError> {
        let name = || object_name(&self.uri, key);
        let object = lock(&self.objects).get(key).cloned().ok_or_else(|| StoreError::NotFound { object: name() })?;
        match pinned {
            Some(expected) if *expected != object.etag => {
                Err(StoreError::Changed { object: name(), expected: expected.clone(), found: object.etag })
            }
            _ => Ok(object),
        }
    }
}

fn lock(objects: &Objects) -> MutexGuard<'_, BTreeMap<Key, Object>> {
    objects.lock().expect("no code panics while it holds the map")
}

impl Store for MemoryStore {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn head(&self, key: &Key) -> Result<ObjectMeta, StoreError> {
        Ok(self.find(key, None)?.meta(key))
    }

    fn read(&self, key: &Key, range: Option<Range<u64>>, pinned: Option<&ETag>) -> Result<Vec<u8>, StoreError> {
        let body = self.find(key, pinned)?.body;
        let size = body.len() as u64;
        let range = range.unwrap_or(0..size);
        if range.end > size || range.start > range.end {
            let expected = range.end.saturating_sub(range.start);
            let got = size.saturating_sub(range.start).min(expected);
            return Err(StoreError::Truncated { object: object_name(&self.uri, key), expected, got });
        }
        Ok(body[range.start as usize..range.end as usize].to_vec())
    }

    fn open(&self, key: &Key, pinned: Option<&ETag>) -> Result<Box<dyn Read + Send>, StoreError> {
        Ok(Box::new(Cursor::new(self.find(key, pinned)?.body)))
    }

    fn put_new(&self, key: &Key, body: &[u8], attempt: &AttemptId) -> Result<PutOutcome, StoreError> {
        check_put_limit(&self.uri, key, body.len())?;
        let mut objects = lock(&self.objects);
        if let Some(existing) = objects.get(key) {
            return Ok(outcome_of_existing(&existing.body, body, attempt));
        }
        objects.insert(key.clone(), Object::new(body.to_vec()));
        Ok(PutOutcome::Created)
    }

    fn upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(MemoryUpload { uri: self.uri.clone(), objects: self.objects.clone(), body: Vec::new() }))
    }

    fn list(&self, prefix: &str, start_after: Option<&Key>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        let objects = lock(&self.objects);
        let from = match start_after {
            Some(key) if key.as_str() >= prefix => Bound::Excluded(key.as_str()),
            _ => Bound::Included(prefix),
        };
        Ok(objects
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.as_str().starts_with(prefix))
            .take(limit)
            .map(|(key, object)| object.meta(key))
            .collect())
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        lock(&self.objects).remove(key);
        Ok(())
    }

    fn modified(&self, key: &Key) -> Result<SystemTime, StoreError> {
        Ok(self.find(key, None)?.modified)
    }
}

struct MemoryUpload {
    uri: String,
    objects: Objects,
    body: Vec<u8>,
}

impl Write for MemoryUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.body.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Upload for MemoryUpload {
    fn finish(self: Box<Self>, key: &Key) -> Result<ObjectMeta, StoreError> {
        let mut objects = lock(&self.objects);
        if let Some(existing) = objects.get(key) {
            return if *existing.body == *self.body {
                Ok(existing.meta(key))
            } else {
                Err(StoreError::Exists { object: object_name(&self.uri, key) })
            };
        }
        let object = Object::new(self.body);
        let meta = object.meta(key);
        objects.insert(key.clone(), object);
        Ok(meta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    #[test]
    fn contract_memory() {
        contract::run_all(&|| Arc::new(MemoryStore::new("contract")) as Arc<dyn Store>);
    }

    #[test]
    fn debug_shows_no_body() {
        let store = MemoryStore::new("m");
        store.overwrite(&Key::new("k").unwrap(), b"canary");
        assert!(!format!("{store:?}").contains("canary"));
    }
}
