//! The stores of a process by their addresses: folders, and buckets that share connections, places and counters.
//! Nothing is connected before the first bucket is opened.

use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::block_cache::BlockCache;
use crate::error::StoreError;
use crate::local::LocalStore;
use crate::s3::{Attempts, Connection, READ_BYTES, S3Options, S3Store, SystemClock};
use crate::store::Store;
use crate::usage::{Meter, Usage};

/// The share of what is free in scratch that blocks may take: one of so many parts.
const CACHE_SHARE: u64 = 4;

/// Opens stores. Clones share connections and counters.
#[derive(Clone, Debug, Default)]
pub struct Stores {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    options: S3Options,
    meter: Arc<Meter>,
    /// With credentials, and without.
    servers: [Mutex<Option<Server>>; 2],
}

/// A connection and what limits its use.
#[derive(Clone, Debug)]
struct Server {
    connection: Connection,
    attempts: Arc<Attempts>,
    cache: Arc<BlockCache>,
}

impl Stores {
    /// Stores with these settings for buckets.
    pub fn new(options: S3Options) -> Self {
        Self { shared: Arc::new(Shared { options, ..Shared::default() }) }
    }

    /// Opens the store at `uri`: a path, a `file://` address, or `s3://BUCKET/PREFIX`. A folder is created; a bucket is not, and
    /// is not asked for either.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] for other schemes and for servers that are not used, otherwise the backend's.
    pub fn open(&self, uri: &str) -> Result<Arc<dyn Store>, StoreError> {
        match place(uri)? {
            Place::Folder(path) => Ok(Arc::new(LocalStore::open(path)?)),
            Place::Bucket => self.bucket(uri, self.shared.options.anonymous),
        }
    }

    /// As [`open`](Self::open), for a folder that must be there already: nothing is created.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the folder is absent, otherwise as [`open`](Self::open).
    pub fn open_existing(&self, uri: &str) -> Result<Arc<dyn Store>, StoreError> {
        match place(uri)? {
            Place::Folder(path) => Ok(Arc::new(LocalStore::open_existing(path)?)),
            Place::Bucket => self.bucket(uri, self.shared.options.anonymous),
        }
    }

    /// As [`open_existing`](Self::open_existing); a bucket is read without credentials.
    ///
    /// # Errors
    /// As [`open_existing`](Self::open_existing).
    pub fn open_anonymous(&self, uri: &str) -> Result<Arc<dyn Store>, StoreError> {
        match place(uri)? {
            Place::Folder(path) => Ok(Arc::new(LocalStore::open_existing(path)?)),
            Place::Bucket => self.bucket(uri, true),
        }
    }

    /// What was asked of all buckets so far.
    pub fn usage(&self) -> Usage {
        self.shared.meter.usage()
    }

    fn bucket(&self, uri: &str, anonymous: bool) -> Result<Arc<dyn Store>, StoreError> {
        let options = S3Options { anonymous, ..self.shared.options.clone() };
        let mut held = self.shared.servers[usize::from(anonymous)].lock().expect("no holder panics");
        let server = match &*held {
            Some(server) => server.clone(),
            None => held.insert(self.connect(&options)?).clone(),
        };
        drop(held);
        Ok(Arc::new(S3Store::open(uri, &server.connection, &server.attempts, &server.cache, &options)?))
    }

    fn connect(&self, options: &S3Options) -> Result<Server, StoreError> {
        let connection = Connection::open(options)?;
        let attempts = Attempts::new(
            Arc::new(SystemClock::new()),
            options.concurrency,
            Arc::clone(&self.shared.meter),
            options.interrupt.clone(),
            options.deadline,
        );
        let limit_bytes = options.cache_bytes.unwrap_or_else(|| free_bytes(&options.scratch) / CACHE_SHARE);
        let cache = Arc::new(BlockCache::new(options.scratch.clone(), limit_bytes, READ_BYTES));
        Ok(Server { connection, attempts: Arc::new(attempts), cache })
    }
}

/// Space that is free in a folder; none where nobody knows.
fn free_bytes(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(0, |space| space.f_bavail.saturating_mul(space.f_frsize))
}

/// Where an address leads.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Folder(&'a str),
    Bucket,
}

/// Whether an address names a bucket, and not a file or a folder.
pub fn is_bucket(uri: &str) -> bool {
    uri.starts_with("s3://")
}

/// The scheme of an address of which no store is made. More of it is not to be shown: it may carry credentials or a signature.
pub fn foreign_scheme(uri: &str) -> Option<&str> {
    let (scheme, _) = uri.split_once("://")?;
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    (is_scheme && !["s3", "file"].contains(&scheme)).then_some(scheme)
}

fn place(uri: &str) -> Result<Place<'_>, StoreError> {
    let unsupported = |remedy: &str| {
        // An address may carry credentials or a signature: only its scheme is shown.
        let scheme = uri.split("://").next().unwrap_or_default();
        Err(StoreError::Unsupported { subject: format!("{scheme}:// store"), remedy: remedy.to_owned() })
    };
    match uri.split_once("://") {
        None if uri.is_empty() => Err(StoreError::invalid(uri, "a store needs a folder or an address")),
        None => Ok(Place::Folder(uri)),
        Some(("file", path)) if path.starts_with('/') => Ok(Place::Folder(path)),
        Some(("file", _)) => unsupported("a file address names an absolute path without a host, file:///data/run"),
        Some(("s3", _)) => Ok(Place::Bucket),
        Some(_) => unsupported("give a folder, s3://BUCKET/PREFIX, or a file:// address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |uri: &str, expected: Option<Place<'_>>| assert_eq!(place(uri).ok(), expected, "{uri}");
        check("out/run", Some(Place::Folder("out/run")));
        check("/data/run", Some(Place::Folder("/data/run")));
        check("file:///data/run", Some(Place::Folder("/data/run")));
        check("file://host/run", None);
        check("s3://bucket/prefix", Some(Place::Bucket));
        check("https://host/x", None);
        check("", None);
    }

    #[test]
    fn an_unsupported_address_never_shows_its_user_or_query() {
        let message = Stores::default().open("https://user:secret@host/x?signature=abc").unwrap_err().to_string();
        assert!(!message.contains("secret") && !message.contains("abc"), "{message}");
    }
}
