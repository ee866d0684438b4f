//! Objects in an S3 bucket. It gives the answers a folder would: an object appears complete or not at all, is never replaced,
//! and is read in one state or not at all. Every request is checked here: what an answer leaves open is read back, an ETag is
//! compared even where the server ignores the condition, and a cut body is resumed in the same state.
//!
//! ```text
//! caller → S3Store → Attempts (retries, deadline, places) → Remote (one attempt: AwsRemote, or a simulated server in tests)
//! ```

mod address;
mod attempts;
mod aws;
mod clock;
mod credentials;
mod governor;
mod listing;
mod network;
mod options;
mod reading;
mod remote;
#[cfg(test)]
mod simulated;
mod spool;
mod trouble;
mod uploading;

use std::io::Read;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::block_cache::BlockCache;
use crate::error::{StoreError, object_name};
use crate::key::{AttemptId, ETag, Key, ObjectMeta, PutOutcome, outcome_of_existing};
use crate::store::{Stale, Store, Upload, check_put_limit};
use crate::usage::{Meter, Request};
use address::Address;
use attempts::GivenUp;
use remote::{From, Remote};
use trouble::Kind;

pub use address::check as check_endpoint;
pub(crate) use attempts::Attempts;
pub(crate) use aws::Connection;
pub(crate) use clock::SystemClock;
pub use options::{AccessKeys, Checksum, Encryption, Held, Interrupt, S3Options};
pub use reading::{READ_BYTES, requests_to_read};
pub use uploading::requests_to_write;

/// Whole multipart uploads of one object, where the server says that another request came between.
const MOST_UPLOADS: u32 = 4;

/// A bucket, or a prefix of one, as a store. Clones share connections and counters.
#[derive(Clone, Debug)]
pub struct S3Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    uri: String,
    address: Address,
    remote: Box<dyn Remote>,
    attempts: Arc<Attempts>,
    scratch: PathBuf,
    cache: Option<Arc<BlockCache>>,
}

/// What is to be said of a request that failed.
#[derive(Clone, Copy)]
struct Subject<'a> {
    name: Option<&'a Key>,
    operation: &'static str,
}

impl S3Store {
    /// The store at `s3://BUCKET/PREFIX` over a connection that others share.
    pub(crate) fn open(
        uri: &str,
        connection: &Connection,
        attempts: &Arc<Attempts>,
        cache: &Arc<BlockCache>,
        options: &S3Options,
    ) -> Result<Self, StoreError> {
        let address = Address::parse(uri)?;
        let remote = Box::new(connection.bucket(&address.bucket));
        let (uri, attempts) = (address.uri(), Arc::clone(attempts));
        let cache = Some(Arc::clone(cache));
        Ok(Self { inner: Arc::new(Inner { uri, address, remote, attempts, scratch: options.scratch.clone(), cache }) })
    }

    #[cfg(test)]
    fn over(address: Address, remote: Box<dyn Remote>, attempts: Arc<Attempts>, scratch: PathBuf) -> Self {
        Self { inner: Arc::new(Inner { uri: address.uri(), address, remote, attempts, scratch, cache: None }) }
    }

    fn object(&self, key: &Key) -> String {
        object_name(&self.inner.uri, key)
    }

    fn remote(&self) -> &dyn Remote {
        &*self.inner.remote
    }

    /// One request with its retries.
    fn make<T>(
        &self,
        kind: Request,
        body_bytes: u64,
        attempt: impl FnMut() -> Result<T, trouble::Trouble>,
    ) -> Result<T, GivenUp> {
        self.inner.attempts.make(kind, body_bytes, &|| self.remote().renew(), attempt)
    }

    /// The error of a request that was given up and had no effect.
    fn failed(&self, subject: Subject<'_>, given_up: GivenUp) -> StoreError {
        let GivenUp { trouble, tries, time, was_heard, .. } = given_up;
        let object = subject.name.map_or_else(|| self.inner.uri.clone(), |key| self.object(key));
        let operation = subject.operation;
        let unsupported = |remedy: &str| StoreError::Unsupported { subject: object.clone(), remedy: remedy.to_owned() };
        match trouble.kind {
            Kind::NotFound => StoreError::NotFound { object },
            Kind::NoBucket => StoreError::NoBucket { bucket: self.inner.address.bucket.clone() },
            Kind::Denied | Kind::NoCredentials | Kind::Expired => {
                let remedy = self.remote().remedy(&trouble);
                StoreError::Denied { object, operation, remedy, source: trouble.into_io() }
            }
            Kind::Clock => StoreError::Clock { object, ahead_seconds: trouble.clock_ahead_seconds },
            Kind::Full => StoreError::NoSpace { object, operation, source: trouble.into_io() },
            Kind::Elsewhere => {
                unsupported("the bucket is in another region or behind another address; set AWS_REGION or endpoint")
            }
            Kind::NotImplemented => unsupported("the server does not have this request; use one that does"),
            Kind::Interrupted => StoreError::Interrupted { object },
            Kind::NotSent if !was_heard => {
                let server = self.remote().server();
                StoreError::NoServer { object, operation, server, source: trouble.into_io() }
            }
            Kind::Broken if !was_heard => StoreError::Io { object, operation, source: trouble.into_io() },
            Kind::Throttled | Kind::Server | Kind::Timeout | Kind::Conflict | Kind::NotSent | Kind::Broken => {
                let (tries, seconds) = (tries, time.as_secs());
                StoreError::Unavailable { object, operation, tries, seconds, source: trouble.into_io() }
            }
            _ => StoreError::Io { object, operation, source: trouble.into_io() },
        }
    }

    /// The error of a write that was given up: unknown, where an attempt may have taken effect.
    fn write_failed(&self, key: &Key, operation: &'static str, given_up: GivenUp) -> StoreError {
        // Asked to stop is asked to stop: the same command finds out what is there.
        if given_up.may_have_taken_effect && given_up.trouble.kind != Kind::Interrupted {
            return StoreError::Unknown { object: self.object(key), operation, source: given_up.trouble.into_io() };
        }
        self.failed(Subject { name: Some(key), operation }, given_up)
    }

    fn look(&self, key: &Key, operation: &'static str) -> Result<remote::Head, StoreError> {
        let name = self.inner.address.name(key)?;
        let answered = self.make(Request::Head, 0, || self.remote().head(&name));
        answered.map_err(|given_up| self.failed(Subject { name: Some(key), operation }, given_up))
    }

    /// One page of names behind one, and where the next begins.
    fn page(&self, prefix: &str, from: &From, most: usize) -> Result<remote::Page, StoreError> {
        let prefix = format!("{}{prefix}", self.inner.address.prefix);
        let answered = self.make(Request::List, 0, || self.remote().list(&prefix, from, most));
        let failed = |given_up: GivenUp| match given_up.trouble.kind {
            // There is no object to be missing.
            Kind::NotFound => StoreError::NoBucket { bucket: self.inner.address.bucket.clone() },
            _ => self.failed(Subject { name: None, operation: "listing" }, given_up),
        };
        answered.map_err(failed)
    }
}

impl Store for S3Store {
    fn uri(&self) -> &str {
        &self.inner.uri
    }

    fn head(&self, key: &Key) -> Result<ObjectMeta, StoreError> {
        let head = self.look(key, "reading")?;
        Ok(ObjectMeta { key: key.clone(), size_bytes: head.size_bytes, etag: head.etag })
    }

    fn read(&self, key: &Key, range: Option<Range<u64>>, pinned: Option<&ETag>) -> Result<Vec<u8>, StoreError> {
        reading::read(self, key, range, pinned)
    }

    fn read_state(&self, key: &Key, range: Range<u64>) -> Result<(Vec<u8>, ObjectMeta), StoreError> {
        reading::read_state(self, key, range)
    }

    fn open(&self, key: &Key, pinned: Option<&ETag>) -> Result<Box<dyn Read + Send>, StoreError> {
        Ok(Box::new(reading::Stream::open(self.clone(), key, pinned)?))
    }

    fn put_new(&self, key: &Key, body: &[u8], attempt: &AttemptId) -> Result<PutOutcome, StoreError> {
        check_put_limit(&self.inner.uri, key, body.len())?;
        let name = self.inner.address.name(key)?;
        let bytes = Bytes::copy_from_slice(body);
        for _ in 0..MOST_UPLOADS {
            match self.make(Request::Put, body.len() as u64, || self.remote().put_new(&name, bytes.clone())) {
                Ok(_) => return Ok(PutOutcome::Created),
                // Somebody's object, or our own that an earlier attempt made and whose answer was lost.
                Err(given_up) if given_up.trouble.kind == Kind::Precondition => match self.read(key, None, None) {
                    Ok(existing) => return Ok(outcome_of_existing(&existing, body, attempt)),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error),
                },
                Err(given_up) => return Err(self.write_failed(key, "writing", given_up)),
            }
        }
        let source = std::io::Error::other("it exists for writers and not for readers, again and again");
        Err(StoreError::Unknown { object: self.object(key), operation: "writing", source })
    }

    fn upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(uploading::S3Upload::new(self.clone())))
    }

    fn list(&self, prefix: &str, start_after: Option<&Key>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        // No key begins so; some servers take such a prefix for none at all.
        if prefix.starts_with('/') || prefix.contains("//") || prefix.contains('\0') {
            return Ok(Vec::new());
        }
        let own = self.inner.address.prefix.len();
        let mut objects: Vec<ObjectMeta> = Vec::new();
        let mut from = match start_after {
            Some(key) => From::After(self.inner.address.name(key)?),
            None => From::Start,
        };
        while objects.len() < limit {
            let page = self.page(prefix, &from, limit - objects.len())?;
            for (name, size_bytes, etag) in page.objects {
                // What consoles make for an empty folder is no object.
                let is_marker = name.ends_with('/') && size_bytes == 0;
                if is_marker || name.len() == own || !name.get(own..).is_some_and(|name| name.starts_with(prefix)) {
                    continue;
                }
                let key = Key::new(name.get(own..).unwrap_or_default())?;
                if objects.last().is_some_and(|last| last.key >= key) || start_after.is_some_and(|after| *after >= key) {
                    let remedy = "it lists objects in another order than that of their bytes; use a general purpose bucket";
                    return Err(StoreError::Unsupported { subject: self.inner.uri.clone(), remedy: remedy.to_owned() });
                }
                let etag = match etag {
                    Some(etag) => etag,
                    None => self.look(&key, "listing")?.etag,
                };
                objects.push(ObjectMeta { key, size_bytes, etag });
                if objects.len() == limit {
                    return Ok(objects);
                }
            }
            match page.next {
                Some(token) => from = From::Token(token),
                None => break,
            }
        }
        Ok(objects)
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let name = self.inner.address.name(key)?;
        match self.make(Request::Delete, 0, || self.remote().delete(&name)) {
            Ok(()) => Ok(()),
            Err(given_up) => Err(self.write_failed(key, "deleting", given_up)),
        }
    }

    fn modified(&self, key: &Key) -> Result<SystemTime, StoreError> {
        Ok(self.look(key, "reading")?.modified)
    }

    fn stale(&self, older_than: Duration) -> Result<Vec<Stale>, StoreError> {
        let Some(limit) = SystemTime::now().checked_sub(older_than) else { return Ok(Vec::new()) };
        let mut stale = Vec::new();
        let mut from = None;
        loop {
            let prefix = &self.inner.address.prefix;
            let page = match self.make(Request::List, 0, || self.remote().uploads(prefix, from.as_ref())) {
                Ok(page) => page,
                // Such a server lists none; its own rules have to remove them.
                Err(given_up) if given_up.trouble.kind == Kind::NotImplemented => return Ok(stale),
                Err(given_up) => return Err(self.failed(Subject { name: None, operation: "listing uploads" }, given_up)),
            };
            let old = page.uploads.into_iter().filter(|upload| upload.began <= limit && upload.name.starts_with(prefix));
            stale.extend(old.map(|upload| Stale { name: upload.name, id: upload.id, began: Some(upload.began) }));
            match page.next {
                Some(next) if from.as_ref() != Some(&next) => from = Some(next),
                _ => return Ok(stale),
            }
        }
    }

    fn remove_stale(&self, stale: &Stale) -> Result<(), StoreError> {
        let made = self.make(Request::Abort, 0, || self.remote().abort(&stale.name, &stale.id));
        made.map_err(|given_up| self.failed(Subject { name: None, operation: "aborting an upload" }, given_up))
    }

    fn block_bytes(&self) -> u64 {
        READ_BYTES
    }

    fn cache(&self) -> Option<&BlockCache> {
        self.inner.cache.as_deref()
    }

    fn meter(&self) -> Option<&Meter> {
        Some(&self.inner.attempts.meter)
    }
}

#[cfg(test)]
mod tests;
