//! Objects as files under one folder. It gives the answers a bucket would: an object appears complete or not at all, durable,
//! and is never replaced. It keeps no state but the files, and follows no link out of its folder.
//!
//! ```text
//! ROOT/.mellama-tmp/ATTEMPT.XXXXXX   0700 / 0600, locked by its writer
//!        → fsync → rename without replacing → ROOT/KEY → fsync of the folder
//! ```

mod confine;
mod staging;
mod stream;
mod walk;

use crate::error::{StoreError, object_name};
use crate::key::{AttemptId, ETag, Key, ObjectMeta, PutOutcome, outcome_of_existing};
use crate::store::{Stale, Store, Upload, check_put_limit, sweep};
use confine::Root;
use staging::{Placed, Staged};
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Bytes gathered before an upload writes to its file.
const WRITE_BUFFER_BYTES: usize = 256 << 10;

/// A folder as a store. Needs a file system with atomic rename or hard links; any number of processes may share it.
#[derive(Clone, Debug)]
pub struct LocalStore {
    root: Arc<Root>,
}

impl LocalStore {
    /// Opens the folder and creates it where it is missing. Temporary files of processes that are no longer alive are removed.
    ///
    /// # Errors
    /// [`StoreError::Denied`], [`StoreError::NoSpace`] or [`StoreError::Io`] as the file system says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        fs::create_dir_all(path).map_err(|e| StoreError::from_io(path.display().to_string(), "creating the folder", e))?;
        let store = Self::open_existing(path)?;
        // Sweeping is a courtesy to the disk: where the folder cannot be written, nothing was left there by us either.
        let _swept = sweep(&store);
        Ok(store)
    }

    /// As [`open`](Self::open), for a folder that must be there already. Creates and removes nothing, so inputs and read-only
    /// folders are opened with it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such folder, otherwise as [`open`](Self::open).
    pub fn open_existing(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Ok(Self { root: Arc::new(Root::new(path.as_ref())?) })
    }

    /// The folder, absolute and without links.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    fn error(&self, key: &Key, operation: &'static str, source: io::Error) -> StoreError {
        confine::error(&object_name(self.root.uri(), key), key, operation, source)
    }

    /// Opens an object's file and checks that it is in the pinned state.
    fn open_file(&self, key: &Key, pinned: Option<&ETag>) -> Result<(File, Metadata), StoreError> {
        let path = self.root.existing(key)?;
        let file = File::open(path).map_err(|e| self.error(key, "opening", e))?;
        let metadata = file.metadata().map_err(|e| self.error(key, "reading", e))?;
        let found = etag_of(&metadata);
        match pinned {
            Some(expected) if *expected != found => {
                Err(StoreError::Changed { object: object_name(self.root.uri(), key), expected: expected.clone(), found })
            }
            _ => Ok((file, metadata)),
        }
    }

    /// Publishes a staged file. The file is durable before its name is, and the name before this returns.
    fn publish(&self, staged: Staged, key: &Key) -> Result<Placed, StoreError> {
        let folder = self.root.create_parents(key)?;
        let path = folder.join(key.segments().next_back().expect("a key has at least one segment"));
        let placed = staged.place(&path, self.root.file_mode()).map_err(|e| {
            match self.error(key, "publishing", e) {
                // A disk that fails during the rename may have done it.
                StoreError::Io { object, operation, source } => StoreError::Unknown { object, operation, source },
                error => error,
            }
        })?;
        if matches!(placed, Placed::Exists(_)) && path.is_dir() {
            return Err(self.error(key, "publishing", io::ErrorKind::IsADirectory.into()));
        }
        if matches!(placed, Placed::Created) {
            confine::sync_folder(&folder).map_err(|source| StoreError::Unknown {
                object: object_name(self.root.uri(), key),
                operation: "syncing the folder",
                source,
            })?;
        }
        Ok(placed)
    }
}

impl Store for LocalStore {
    fn uri(&self) -> &str {
        self.root.uri()
    }

    fn head(&self, key: &Key) -> Result<ObjectMeta, StoreError> {
        let path = self.root.existing(key)?;
        let metadata = fs::metadata(path).map_err(|e| self.error(key, "reading", e))?;
        Ok(meta_of(key, &metadata))
    }

    fn read(&self, key: &Key, range: Option<Range<u64>>, pinned: Option<&ETag>) -> Result<Vec<u8>, StoreError> {
        let (file, before) = self.open_file(key, pinned)?;
        let range = range.unwrap_or(0..before.len());
        let expected = range.end.saturating_sub(range.start);
        let truncated = |got: u64| StoreError::Truncated { object: object_name(self.root.uri(), key), expected, got };
        if range.end > before.len() || range.start > range.end {
            return Err(truncated(before.len().saturating_sub(range.start).min(expected)));
        }
        let mut bytes = vec![0; expected as usize];
        file.read_exact_at(&mut bytes, range.start).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => truncated(0),
            _ => self.error(key, "reading", e),
        })?;
        let after = file.metadata().map_err(|e| self.error(key, "reading", e))?;
        stream::unchanged(&object_name(self.root.uri(), key), &etag_of(&before), &after)?;
        Ok(bytes)
    }

    fn open(&self, key: &Key, pinned: Option<&ETag>) -> Result<Box<dyn Read + Send>, StoreError> {
        let (file, metadata) = self.open_file(key, pinned)?;
        Ok(Box::new(stream::CheckedFile::new(object_name(self.root.uri(), key), file, &metadata)))
    }

    fn put_new(&self, key: &Key, body: &[u8], attempt: &AttemptId) -> Result<PutOutcome, StoreError> {
        check_put_limit(self.root.uri(), key, body.len())?;
        match self.head(key) {
            Ok(_) => {
                return Ok(outcome_of_existing(&self.read(key, None, None)?, body, attempt));
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let mut staged = Staged::create(&self.root)?;
        staged.file_mut().write_all(body).map_err(|e| self.error(key, "writing", e))?;
        match self.publish(staged, key)? {
            Placed::Created => Ok(PutOutcome::Created),
            Placed::Exists(_) => Ok(outcome_of_existing(&self.read(key, None, None)?, body, attempt)),
        }
    }

    fn upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        let staged = Staged::create(&self.root)?;
        Ok(Box::new(LocalUpload { store: self.clone(), file: BufWriter::with_capacity(WRITE_BUFFER_BYTES, staged) }))
    }

    fn list(&self, prefix: &str, start_after: Option<&Key>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        walk::list(&self.root, prefix, start_after, limit)
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let Some(path) = self.root.removable(key)? else {
            return Ok(());
        };
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.error(key, "deleting", error)),
        }
        let folder = path.parent().expect("an object's path has a folder");
        confine::sync_folder(folder).map_err(|e| self.error(key, "syncing the folder", e))
    }

    fn modified(&self, key: &Key) -> Result<SystemTime, StoreError> {
        let path = self.root.existing(key)?;
        fs::metadata(path).and_then(|metadata| metadata.modified()).map_err(|e| self.error(key, "reading", e))
    }

    /// A lock tells the living, so age does not matter.
    fn stale(&self, _older_than: Duration) -> Result<Vec<Stale>, StoreError> {
        staging::stale(&self.root)
    }

    fn remove_stale(&self, stale: &Stale) -> Result<(), StoreError> {
        staging::remove_stale(&self.root, &stale.name)
    }
}

/// A local file's ETag: size, modification time in nanoseconds and inode, in hexadecimal.
fn etag_of(metadata: &Metadata) -> ETag {
    let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    let since_epoch = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    ETag::new(format!("{:x}-{since_epoch:x}-{:x}", metadata.len(), metadata.ino()))
}

fn meta_of(key: &Key, metadata: &Metadata) -> ObjectMeta {
    ObjectMeta { key: key.clone(), size_bytes: metadata.len(), etag: etag_of(metadata) }
}

struct LocalUpload {
    store: LocalStore,
    file: BufWriter<Staged>,
}

impl Write for LocalUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Upload for LocalUpload {
    fn finish(self: Box<Self>, key: &Key) -> Result<ObjectMeta, StoreError> {
        let Self { store, file } = *self;
        let staged = file.into_inner().map_err(|e| store.error(key, "writing", e.into_error()))?;
        match store.publish(staged, key)? {
            Placed::Created => store.head(key),
            Placed::Exists(mut ours) => {
                let meta = store.head(key)?;
                let theirs = store.open(key, Some(&meta.etag))?;
                let same = ours.holds(theirs).map_err(|e| store.error(key, "comparing", e))?;
                if same { Ok(meta) } else { Err(StoreError::Exists { object: object_name(store.root.uri(), key) }) }
            }
        }
    }
}

#[cfg(test)]
mod tests;
