//! Requests and bytes by kind, counted where they are made: what a run costs, and whether it asks for more than it must.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// A kind of request, as object stores bill them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Reading an object or a range of it.
    Get,
    /// Size and version of an object.
    Head,
    /// One page of a listing.
    List,
    /// Writing an object in one go.
    Put,
    /// Beginning a multipart upload.
    Begin,
    /// A part of one.
    Part,
    /// Its end.
    Complete,
    /// Giving it up.
    Abort,
    /// Removing an object.
    Delete,
}

impl Request {
    /// All kinds in order.
    pub const ALL: [Self; 9] =
        [Self::Get, Self::Head, Self::List, Self::Put, Self::Begin, Self::Part, Self::Complete, Self::Abort, Self::Delete];
}

/// Counters that many threads add to.
#[derive(Debug, Default)]
pub struct Meter {
    requests: [AtomicU64; Request::ALL.len()],
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    retries: AtomicU64,
    throttled: AtomicU64,
}

/// What was asked of object stores: attempts, the failed ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Reads of objects or ranges.
    pub get: u64,
    /// Looks at size and version.
    pub head: u64,
    /// Pages of listings.
    pub list: u64,
    /// Writes in one go.
    pub put: u64,
    /// Multipart uploads begun.
    pub begin: u64,
    /// Parts of them.
    pub part: u64,
    /// Ends of them.
    pub complete: u64,
    /// Uploads given up.
    pub abort: u64,
    /// Objects removed.
    pub delete: u64,
    /// Bytes of bodies that came.
    pub read_bytes: u64,
    /// Bytes of bodies that were sent.
    pub written_bytes: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Answers that asked to slow down.
    pub throttled: u64,
}

impl Meter {
    pub(crate) fn request(&self, kind: Request, sent_bytes: u64) {
        self.requests[kind as usize].fetch_add(1, Ordering::Relaxed);
        self.written_bytes.fetch_add(sent_bytes, Ordering::Relaxed);
    }

    pub(crate) fn came(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn throttled(&self) {
        self.throttled.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts so far.
    pub fn usage(&self) -> Usage {
        let count = |kind: Request| self.requests[kind as usize].load(Ordering::Relaxed);
        Usage {
            get: count(Request::Get),
            head: count(Request::Head),
            list: count(Request::List),
            put: count(Request::Put),
            begin: count(Request::Begin),
            part: count(Request::Part),
            complete: count(Request::Complete),
            abort: count(Request::Abort),
            delete: count(Request::Delete),
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
        }
    }
}

impl Usage {
    /// What was asked since `before`.
    #[must_use]
    pub fn since(&self, before: &Usage) -> Usage {
        Usage {
            get: self.get - before.get,
            head: self.head - before.head,
            list: self.list - before.list,
            put: self.put - before.put,
            begin: self.begin - before.begin,
            part: self.part - before.part,
            complete: self.complete - before.complete,
            abort: self.abort - before.abort,
            delete: self.delete - before.delete,
            read_bytes: self.read_bytes - before.read_bytes,
            written_bytes: self.written_bytes - before.written_bytes,
            retries: self.retries - before.retries,
            throttled: self.throttled - before.throttled,
        }
    }

    /// Whether nothing was asked.
    pub fn is_nothing(&self) -> bool {
        *self == Usage::default()
    }

    /// Requests of every kind.
    pub fn requests(&self) -> u64 {
        self.get + self.head + self.list + self.put + self.begin + self.part + self.complete + self.abort + self.delete
    }
}
