//! Files on their way to being objects: private, exclusive, locked by their writer for as long as it lives.
//! The lock, which the system releases when a process ends in whatever way, is how a dead writer's file is known.

use super::confine::Root;
use crate::error::StoreError;
use crate::key::AttemptId;
use crate::store::Stale;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use tempfile::NamedTempFile;

/// Tries to create a temporary file while others sweep the folder.
const CREATE_ATTEMPTS: usize = 8;
/// Bytes compared at a time.
const COMPARE_BYTES: usize = 256 << 10;

/// A temporary file; dropping it removes it.
pub(super) struct Staged {
    file: NamedTempFile,
}

/// What became of a staged file that was to get its name.
pub(super) enum Placed {
    /// It has the name now.
    Created,
    /// The name was taken; the file is handed back for comparison.
    Exists(Staged),
}

impl Staged {
    pub(super) fn create(root: &Root) -> Result<Self, StoreError> {
        let folder = root.temporary();
        let error = |e| StoreError::from_io(folder.display().to_string(), "creating a temporary file", e);
        for _ in 0..CREATE_ATTEMPTS {
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(error(e)),
                _ => {}
            }
            confined(root, &folder)?;
            let file = tempfile::Builder::new()
                .prefix(&format!("{}.", AttemptId::generate()))
                .permissions(Permissions::from_mode(0o600))
                .tempfile_in(&folder)
                .map_err(error)?;
            match file.as_file().lock() {
                Ok(()) => {}
                // Without locks nobody sweeps either: `remove_stale` then finds no file that it may take.
                Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
                Err(e) => return Err(error(e)),
            }
            // A sweep may have removed the file between its creation and its lock.
            if file.as_file().metadata().map_err(error)?.nlink() > 0 {
                return Ok(Self { file });
            }
        }
        Err(error(io::Error::other("other processes keep removing it")))
    }

    pub(super) fn file_mut(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Syncs the file and gives it its name, unless that exists.
    pub(super) fn place(self, path: &Path, mode: u32) -> io::Result<Placed> {
        let file = self.file.as_file();
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        match self.file.persist_noclobber(path) {
            Ok(_) => Ok(Placed::Created),
            Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => {
                Ok(Placed::Exists(Self { file: refused.file }))
            }
            Err(refused) => Err(refused.error),
        }
    }

    /// Whether `other` streams exactly the bytes of this file.
    pub(super) fn holds(&mut self, mut other: impl Read) -> io::Result<bool> {
        let ours = self.file.as_file_mut();
        ours.seek(SeekFrom::Start(0))?;
        let (mut left, mut right) = (vec![0; COMPARE_BYTES], vec![0; COMPARE_BYTES]);
        loop {
            let length = fill(ours, &mut left)?;
            if fill(&mut other, &mut right)? != length || left[..length] != right[..length] {
                return Ok(false);
            }
            if length < COMPARE_BYTES {
                return Ok(true);
            }
        }
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads until the buffer is full or the stream ends.
fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The temporary folder must be a folder of the root itself, not a link to elsewhere.
fn confined(root: &Root, folder: &Path) -> Result<(), StoreError> {
    let name = || folder.display().to_string();
    let metadata = fs::symlink_metadata(folder).map_err(|e| StoreError::from_io(name(), "opening", e))?;
    if metadata.is_dir() && folder.starts_with(root.path()) { Ok(()) } else { Err(StoreError::OutsideRoot { object: name() }) }
}

/// The temporary files whose writers are no longer alive.
pub(super) fn stale(root: &Root) -> Result<Vec<Stale>, StoreError> {
    let folder = root.temporary();
    let error = |e| StoreError::from_io(folder.display().to_string(), "sweeping", e);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(error(e)),
    };
    confined(root, &folder)?;
    let mut stale = Vec::new();
    for entry in entries {
        let entry = entry.map_err(error)?;
        let is_file = match entry.file_type() {
            Ok(kind) => kind.is_file(),
            // Published or swept since the folder was read.
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(error(e)),
        };
        let name = entry.file_name().into_string();
        if let (true, Ok(name)) = (is_file, name)
            && let Some(locked) = abandoned(&entry.path())
        {
            let began = locked.metadata().and_then(|metadata| metadata.modified()).ok();
            stale.push(Stale { name, id: String::new(), began });
        }
    }
    stale.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(stale)
}

/// Removes one of them while its lock is held: a writer that is between creating and locking its file waits, and then sees whether
/// it is still there. One that lives keeps its file.
pub(super) fn remove_stale(root: &Root, name: &str) -> Result<(), StoreError> {
    let folder = root.temporary();
    confined(root, &folder)?;
    // The name is one of a listing, and a file of this folder alone.
    let Some(path) = Path::new(name).file_name().map(|name| folder.join(name)) else { return Ok(()) };
    let Some(_locked) = abandoned(&path) else { return Ok(()) };
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::from_io(folder.display().to_string(), "sweeping", e)),
        _ => Ok(()),
    }
}

/// The file with its lock, when nobody held it. A file that cannot be opened or locked is left alone.
fn abandoned(path: &Path) -> Option<File> {
    let file = File::options().read(true).write(true).open(path).ok()?;
    file.try_lock().ok().map(|()| file)
}
