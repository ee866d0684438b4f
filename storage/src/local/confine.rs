//! The one place where a key becomes a path: nothing outside the root is opened, created or removed, whatever links lie in it.
//! Links that stay inside are followed; it guards against names and links, not against someone who rewrites the tree meanwhile.

use crate::error::{StoreError, object_name};
use crate::key::{Key, TEMPORARY_FOLDER};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// A canonical folder, and which folders in it are known to be durable.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    uri: String,
    /// Permission bits of the root: what is published under it is as readable as it is.
    mode: u32,
    durable: Mutex<BTreeSet<PathBuf>>,
}

impl Root {
    pub(super) fn new(path: &Path) -> Result<Self, StoreError> {
        let name = || path.display().to_string();
        let canonical = fs::canonicalize(path).map_err(|e| StoreError::from_io(name(), "opening", e))?;
        let metadata = fs::metadata(&canonical).map_err(|e| StoreError::from_io(name(), "opening", e))?;
        if !metadata.is_dir() {
            return Err(StoreError::Unsupported { subject: name(), remedy: "it is a file; give a folder".into() });
        }
        let Some(uri) = canonical.to_str().map(str::to_owned) else {
            return Err(StoreError::Unsupported {
                subject: name(),
                remedy: "the folder's path is not UTF-8; move or rename it".into(),
            });
        };
        Ok(Self { path: canonical, uri, mode: metadata.mode() & 0o777, durable: Mutex::default() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    pub(super) fn temporary(&self) -> PathBuf {
        self.path.join(TEMPORARY_FOLDER)
    }

    /// Permission bits of published files: the root's, without the execute bits; the owner can always read and write.
    pub(super) fn file_mode(&self) -> u32 {
        self.mode & 0o666 | 0o600
    }

    /// The file that holds an object, links inside the root resolved.
    pub(super) fn existing(&self, key: &Key) -> Result<PathBuf, StoreError> {
        let name = || object_name(&self.uri, key);
        let path = fs::canonicalize(self.path.join(key.as_str())).map_err(|e| absent(&name(), key, e))?;
        if !path.starts_with(&self.path) || path.starts_with(self.temporary()) {
            return Err(StoreError::OutsideRoot { object: name() });
        }
        // A folder, a pipe or a device is no object, and opening one may block.
        let metadata = fs::metadata(&path).map_err(|e| absent(&name(), key, e))?;
        if metadata.is_file() { Ok(path) } else { Err(StoreError::NotFound { object: name() }) }
    }

    /// The path whose removal deletes the object (a link, not its target), or `None` where there is nothing.
    pub(super) fn removable(&self, key: &Key) -> Result<Option<PathBuf>, StoreError> {
        let name = || object_name(&self.uri, key);
        let path = self.path.join(key.as_str());
        let folder = path.parent().expect("a key has at least one segment");
        let folder = match fs::canonicalize(folder).map_err(|e| absent(&name(), key, e)) {
            Ok(folder) => folder,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        if !folder.starts_with(&self.path) || folder.starts_with(self.temporary()) {
            return Err(StoreError::OutsideRoot { object: name() });
        }
        let path = folder.join(path.file_name().expect("a key's last segment is a file name"));
        match fs::symlink_metadata(&path).map_err(|e| absent(&name(), key, e)) {
            Ok(metadata) if metadata.is_dir() => Ok(None),
            Ok(_) => Ok(Some(path)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The folder for an object, created where it is missing, every folder on the way durable.
    pub(super) fn create_parents(&self, key: &Key) -> Result<PathBuf, StoreError> {
        let name = object_name(&self.uri, key);
        let mut folder = self.path.clone();
        let segments: Vec<&str> = key.segments().collect();
        for segment in &segments[..segments.len() - 1] {
            let next = folder.join(segment);
            if !self.is_durable(&next) {
                self.create_folder(&next).map_err(|e| error(&name, key, "creating the folder", e))?;
                sync_folder(&folder).map_err(|e| error(&name, key, "syncing the folder", e))?;
                self.set_durable(&next);
            }
            folder = fs::canonicalize(&next).map_err(|e| error(&name, key, "opening the folder", e))?;
            if !folder.starts_with(&self.path) || folder.starts_with(self.temporary()) {
                return Err(StoreError::OutsideRoot { object: name });
            }
        }
        Ok(folder)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(self.mode | 0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    /// A folder that was made durable and removed since is made again: presence is looked up, not remembered.
    fn is_durable(&self, path: &Path) -> bool {
        self.durable.lock().expect("no code panics while it holds the set").contains(path) && path.is_dir()
    }

    fn set_durable(&self, path: &Path) {
        self.durable.lock().expect("no code panics while it holds the set").insert(path.to_owned());
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// As [`error`], for a path that may be absent: below a file there is nothing either.
fn absent(name: &str, key: &Key, source: io::Error) -> StoreError {
    if source.kind() == io::ErrorKind::NotADirectory {
        return StoreError::NotFound { object: name.to_owned() };
    }
    error(name, key, "opening", source)
}

/// Sorts an I/O error about `key` into its variant; names that this file system cannot hold are invalid keys.
pub(super) fn error(name: &str, key: &Key, operation: &'static str, source: io::Error) -> StoreError {
    match source.kind() {
        io::ErrorKind::InvalidFilename => StoreError::invalid(
            key.as_str(),
            "a segment or the whole path is longer than this file system allows (mostly 255 bytes a segment)",
        ),
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::DirectoryNotEmpty => {
            StoreError::invalid(key.as_str(), "in a folder, one name cannot be both an object and a prefix of others")
        }
        io::ErrorKind::Unsupported | io::ErrorKind::CrossesDevices => StoreError::Unsupported {
            subject: format!("{name}: {operation}"),
            remedy: "this file system lacks atomic rename and hard links; put the store on a local disk".into(),
        },
        _ => StoreError::from_io(name.to_owned(), operation, source),
    }
}
