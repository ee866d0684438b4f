//! A place that a recipe or a command names: a file or folder of this machine, or an object or prefix of a bucket.
//! It says where; what is there is asked of a store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mellama_storage::{Key, RangeReader, Store, StoreError, Stores, is_bucket};

/// Where something lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// On this machine.
    Path(PathBuf),
    /// In a bucket: `s3://BUCKET/NAME`.
    Bucket(String),
}

impl Location {
    /// The place that a person typed.
    pub fn of(path: impl AsRef<Path>) -> Location {
        let path = path.as_ref();
        match path.to_str() {
            Some(text) if is_bucket(text) => Location::Bucket(text.trim_end_matches('/').to_owned()),
            Some(text) if text.starts_with("file:///") => Location::Path(PathBuf::from(&text["file://".len()..])),
            _ => Location::Path(path.to_owned()),
        }
    }

    /// A place below this one.
    pub(crate) fn join(&self, below: &str) -> Location {
        match self {
            Location::Path(path) => Location::Path(path.join(below)),
            Location::Bucket(uri) => Location::Bucket(format!("{uri}/{below}").trim_end_matches('/').to_owned()),
        }
    }

    /// The place as a store of its own. Nothing is created.
    ///
    /// # Errors
    /// `StoreError::NotFound` for a folder that is not there, otherwise the store's.
    pub(crate) fn store(&self, stores: &Stores) -> Result<Arc<dyn Store>, StoreError> {
        match self {
            // Not through its text: a path need not be UTF-8.
            Location::Path(path) => Ok(Arc::new(mellama_storage::LocalStore::open_existing(path)?)),
            Location::Bucket(uri) => stores.open_existing(uri),
        }
    }

    /// The place as one object: the store of the folder around it, and its name there. A link is followed.
    ///
    /// # Errors
    /// `StoreError::NotFound` for a file that is not there, otherwise the store's.
    pub(crate) fn object(&self, stores: &Stores) -> Result<(Arc<dyn Store>, Key), StoreError> {
        let absent = || StoreError::NotFound { object: self.to_string() };
        match self {
            Location::Path(path) => {
                let real = path.canonicalize().map_err(|_| absent())?;
                let (Some(folder), Some(name)) = (real.parent(), real.file_name().and_then(|name| name.to_str())) else {
                    return Err(absent());
                };
                Ok((Arc::new(mellama_storage::LocalStore::open_existing(folder)?), Key::new(name)?))
            }
            Location::Bucket(uri) => {
                let (folder, name) = uri.rsplit_once('/').ok_or_else(absent)?;
                if folder == "s3:/" {
                    return Err(absent());
                }
                Ok((stores.open_existing(folder)?, Key::new(name)?))
            }
        }
    }

    /// Opens the object for random access.
    ///
    /// # Errors
    /// `StoreError::NotFound` when it is absent, otherwise the store's.
    pub(crate) fn open(&self, stores: &Stores) -> Result<RangeReader, StoreError> {
        let (store, key) = self.object(stores)?;
        RangeReader::open(store, &key)
    }

    /// Reads the whole object, a small one.
    ///
    /// # Errors
    /// As `open`.
    pub(crate) fn read(&self, stores: &Stores) -> Result<Vec<u8>, StoreError> {
        let (store, key) = self.object(stores)?;
        store.read(&key, None, None)
    }

    /// The folder so many levels up, as a place.
    pub(crate) fn ancestor(&self, levels: usize) -> Option<Location> {
        match self {
            Location::Path(path) => Some(Location::Path(path.canonicalize().ok()?.ancestors().nth(levels)?.to_owned())),
            Location::Bucket(uri) => {
                let mut folder = uri.as_str();
                for _ in 0..levels {
                    folder = folder.rsplit_once('/')?.0;
                }
                (folder.len() > "s3://".len()).then(|| Location::Bucket(folder.to_owned()))
            }
        }
    }

    /// The last part of its name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Location::Path(path) => path.file_name().and_then(|name| name.to_str()).unwrap_or_default(),
            Location::Bucket(uri) => uri.rsplit('/').next().unwrap_or_default(),
        }
    }

    /// One name for one place, whichever way leads to it.
    pub(crate) fn canonical(&self) -> PathBuf {
        match self {
            Location::Path(path) => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                path.canonicalize().unwrap_or(path)
            }
            Location::Bucket(uri) => PathBuf::from(uri),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Path(path) => write!(f, "{}", path.display()),
            Location::Bucket(uri) => f.write_str(uri),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_parts_below_and_above() {
        let check = |location: &str, below: &str, expected: &str| {
            assert_eq!(Location::of(location).join(below).to_string(), expected);
        };
        check("a/b", "c", "a/b/c");
        check("s3://bucket", "c/d", "s3://bucket/c/d");
        check("s3://bucket/a/", "", "s3://bucket/a");
        let shard = Location::of("s3://bucket/run/shards/cpt/train-0.parquet");
        assert_eq!(shard.ancestor(3), Some(Location::of("s3://bucket/run")));
        assert_eq!(shard.name(), "train-0.parquet");
        assert_eq!(Location::of("s3://bucket/a").ancestor(1), Some(Location::of("s3://bucket")));
        assert_eq!(Location::of("s3://bucket").ancestor(1), None);
    }

    #[test]
    fn a_bucket_is_no_object() {
        let object = Location::of("s3://bucket").object(&Stores::default());
        assert!(matches!(object, Err(StoreError::NotFound { .. })));
    }
}
