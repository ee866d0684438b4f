//! One page of a folder's objects in key order, without reading the folders that the page does not touch.
//! Memory is bounded by the folders on one path. Links to folders are not descended into, as they could form circles.

use super::confine::Root;
use super::meta_of;
use crate::error::{StoreError, object_name};
use crate::key::{Key, ObjectMeta, TEMPORARY_FOLDER};
use std::fs;
use std::io;
use std::path::Path;

/// An entry of one folder. `sort` is its name, with a slash behind it for a folder: keys are ordered as bytes, where `a-b`
/// comes before `a/b`, and `a/b` before `a0`.
struct Entry {
    sort: String,
    is_folder: bool,
}

pub(super) fn list(root: &Root, prefix: &str, start_after: Option<&Key>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
    let mut page = Page { root, prefix, start_after: start_after.map_or("", Key::as_str), limit, objects: Vec::new() };
    // Only the folder of the prefix can hold matches; a prefix that could be no key has none.
    let start = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
    if start.is_empty() || (Key::new(&start[..start.len() - 1]).is_ok() && !passes_link(root, start)?) {
        page.walk(start)?;
    }
    Ok(page.objects)
}

/// Whether a link lies on the way to a folder: what a listing of the root would not show, no prefix shows.
fn passes_link(root: &Root, folder: &str) -> Result<bool, StoreError> {
    let mut path = root.path().to_path_buf();
    for segment in folder.split('/').filter(|segment| !segment.is_empty()) {
        path.push(segment);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => return Ok(true),
            Ok(_) => {}
            Err(error) if is_absent(&error) => return Ok(false),
            Err(error) => {
                return Err(StoreError::from_io(path.display().to_string(), "listing", error));
            }
        }
    }
    Ok(false)
}

struct Page<'a> {
    root: &'a Root,
    prefix: &'a str,
    start_after: &'a str,
    limit: usize,
    objects: Vec<ObjectMeta>,
}

impl Page<'_> {
    /// Adds what matches under `folder` (empty, or ending in a slash), depth first in key order. An explicit stack holds the
    /// entries still to be visited, so deep trees cost memory and not stack frames.
    fn walk(&mut self, folder: &str) -> Result<(), StoreError> {
        let mut pending = vec![(folder.to_owned(), self.entries(folder)?.into_iter())];
        while let Some((folder, entries)) = pending.last_mut() {
            if self.objects.len() >= self.limit {
                return Ok(());
            }
            let Some(entry) = entries.next() else {
                pending.pop();
                continue;
            };
            let name = format!("{folder}{}", entry.sort);
            if entry.is_folder {
                if self.may_hold_matches(&name) {
                    let inner = self.entries(&name)?.into_iter();
                    pending.push((name, inner));
                }
            } else if name.starts_with(self.prefix) && name.as_str() > self.start_after {
                self.add(&name)?;
            }
        }
        Ok(())
    }

    /// Whether a key that begins with `folder` can match the prefix and come after the start.
    fn may_hold_matches(&self, folder: &str) -> bool {
        let within = folder.starts_with(self.prefix) || self.prefix.starts_with(folder);
        within && (folder > self.start_after || self.start_after.starts_with(folder))
    }

    fn add(&mut self, name: &str) -> Result<(), StoreError> {
        let key = Key::new(name)?;
        let metadata = self.root.existing(&key).and_then(|path| {
            fs::metadata(path).map_err(|e| StoreError::from_io(object_name(self.root.uri(), &key), "listing", e))
        });
        match metadata {
            Ok(metadata) => self.objects.push(meta_of(&key, &metadata)),
            // Deleted since the folder was read, a dangling link, a pipe: no object.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The entries of one folder in key order; an absent folder has none.
    fn entries(&self, folder: &str) -> Result<Vec<Entry>, StoreError> {
        let path = self.root.path().join(folder);
        let mut entries = match read_entries(&path) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => Vec::new(),
            Err(error) => {
                return Err(StoreError::from_io(path.display().to_string(), "listing", error));
            }
        };
        if folder.is_empty() {
            entries.retain(|(name, _)| name.as_os_str() != TEMPORARY_FOLDER);
        }
        let mut sorted = Vec::with_capacity(entries.len());
        for (name, is_folder) in entries {
            let Ok(mut sort) = name.into_string() else {
                return Err(StoreError::invalid(&path.to_string_lossy(), "a file name in this folder is not UTF-8; rename it"));
            };
            if is_folder {
                sort.push('/');
            }
            sorted.push(Entry { sort, is_folder });
        }
        sorted.sort_unstable_by(|a, b| a.sort.cmp(&b.sort));
        Ok(sorted)
    }
}

fn read_entries(path: &Path) -> io::Result<Vec<(std::ffi::OsString, bool)>> {
    fs::read_dir(path)?
        .map(|entry| {
            let entry = entry?;
            let kind = entry.file_type()?;
            Ok((entry.file_name(), kind.is_dir()))
        })
        .collect()
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename)
}
