//! One file that a person named, read through the store of its folder: nothing of a work folder is opened past the store.

use std::path::Path;
use std::sync::Arc;

use mellama_storage::{Key, LocalStore, RangeReader, Store, StoreError};

/// Opens a file for random access.
///
/// # Errors
/// `StoreError::NotFound` when it is absent, otherwise the store's.
pub(crate) fn open(path: &Path) -> Result<RangeReader, StoreError> {
    let (store, key) = place(path)?;
    RangeReader::open(store, &key)
}

/// Reads a whole small file.
///
/// # Errors
/// As `open`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    let (store, key) = place(path)?;
    store.read(&key, None, None)
}

fn place(path: &Path) -> Result<(Arc<dyn Store>, Key), StoreError> {
    let absent = || StoreError::NotFound { object: path.display().to_string() };
    let real = path.canonicalize().map_err(|_| absent())?;
    let (Some(folder), Some(name)) = (real.parent(), real.file_name().and_then(|name| name.to_str())) else {
        return Err(absent());
    };
    Ok((Arc::new(LocalStore::open_existing(folder)?), Key::new(name)?))
}
