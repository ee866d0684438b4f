//! Requests and bytes by kind, counted where they are made: what a run costs, and whether it asks for more than it must.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

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

/// What was asked of object stores: attempts, the failed ones included. Serialized as one flat map, kinds in lower case first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    requests: [u64; Request::ALL.len()],
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
    /// An attempt with a body of so many bytes, sent or asked for.
    pub(crate) fn request(&self, kind: Request, body_bytes: u64) {
        self.requests[kind as usize].fetch_add(1, Ordering::Relaxed);
        if matches!(kind, Request::Put | Request::Part) {
            self.written_bytes.fetch_add(body_bytes, Ordering::Relaxed);
        }
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
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Usage {
            requests: std::array::from_fn(|kind| count(&self.requests[kind])),
            read_bytes: count(&self.read_bytes),
            written_bytes: count(&self.written_bytes),
            retries: count(&self.retries),
            throttled: count(&self.throttled),
        }
    }
}

impl Usage {
    /// Requests of one kind.
    pub fn of(&self, kind: Request) -> u64 {
        self.requests[kind as usize]
    }

    /// Requests of every kind.
    pub fn requests(&self) -> u64 {
        self.requests.iter().sum()
    }

    /// What was asked since `before`.
    #[must_use]
    pub fn since(&self, before: &Usage) -> Usage {
        Usage {
            requests: std::array::from_fn(|kind| self.requests[kind] - before.requests[kind]),
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
}

impl Serialize for Usage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for kind in Request::ALL {
            map.serialize_entry(&kind, &self.of(kind))?;
        }
        map.serialize_entry("read_bytes", &self.read_bytes)?;
        map.serialize_entry("written_bytes", &self.written_bytes)?;
        map.serialize_entry("retries", &self.retries)?;
        map.serialize_entry("throttled", &self.throttled)?;
        map.end()
    }
}
