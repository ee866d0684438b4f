//! `B3SUMS`: BLAKE3 digests of the files of a folder with weights, as `b3sum --check` reads them.
//!
//! Tensor files carry no checksum of their own: a flipped bit loads as another weight. Folders that this program writes list their
//! files, and weights that are listed are hashed before they are believed. Folders of others have no list.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use mellama_storage::{Key, Store, StoreError};

use crate::checkpoint::tensor_file::TensorFileError;

/// Name of the list.
pub const SUMS: &str = "B3SUMS";
/// Largest list that is read.
const LIMIT_BYTES: u64 = 16 << 20;
/// Bytes hashed at a time.
const BLOCK_BYTES: usize = 1 << 20;
/// Hexadecimal digits of a digest.
const DIGEST_DIGITS: usize = 64;

/// The list of files and digests, a line each, in the order of the names.
pub fn encode<'e>(entries: impl IntoIterator<Item = (&'e str, &'e str)>) -> Vec<u8> {
    let sorted: BTreeMap<&str, &str> = entries.into_iter().collect();
    sorted.into_iter().flat_map(|(file, digest)| [digest, "  ", file, "\n"]).collect::<String>().into_bytes()
}

/// Digests by file name.
#[derive(Debug, Default)]
pub(super) struct Sums(BTreeMap<String, String>);

impl Sums {
    /// The list under a folder, a prefix without a trailing slash; an empty one where there is none.
    ///
    /// # Errors
    /// [`TensorFileError::Sums`] for what is no list, else I/O.
    pub(super) fn read(store: &Arc<dyn Store>, folder: &str) -> Result<Self, TensorFileError> {
        let key = key(folder, SUMS).map_err(|error| of_store(SUMS, error))?;
        let meta = match store.head(&key) {
            Ok(meta) => meta,
            Err(error) if error.is_not_found() => return Ok(Self::default()),
            Err(error) => return Err(of_store(SUMS, error)),
        };
        let refuse = |problem: String| TensorFileError::Sums { problem };
        if meta.size_bytes > LIMIT_BYTES {
            return Err(refuse(format!("{} bytes, expected at most {LIMIT_BYTES}", meta.size_bytes)));
        }
        let bytes = store.read(&key, None, Some(&meta.etag)).map_err(|error| of_store(SUMS, error))?;
        let text = String::from_utf8(bytes).map_err(|_| refuse("not UTF-8".to_owned()))?;
        let entry = |(number, line): (usize, &str)| {
            let is_digest = |text: &str| text.len() == DIGEST_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let parts = line.split_once("  ").filter(|(digest, file)| is_digest(digest) && !file.is_empty());
            let (digest, file) = parts.ok_or_else(|| refuse(format!("line {}: expected a digest and a file", number + 1)))?;
            Ok((file.trim_start_matches("./").to_owned(), digest.to_ascii_lowercase()))
        };
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(entry).collect::<Result<_, _>>().map(Self)
    }

    /// Compares a file with the list; one that is not listed is taken as it is.
    ///
    /// # Errors
    /// [`TensorFileError::Digest`] when it differs, else I/O.
    pub(super) fn check(&self, store: &Arc<dyn Store>, folder: &str, file: &str) -> Result<(), TensorFileError> {
        let Some(expected) = self.0.get(file) else { return Ok(()) };
        let mut stream = key(folder, file).and_then(|key| store.open(&key, None)).map_err(|error| of_store(file, error))?;
        let (mut hasher, mut block) = (blake3::Hasher::new(), vec![0; BLOCK_BYTES]);
        loop {
            let read = stream.read(&mut block).map_err(|source| TensorFileError::Io { file: file.to_owned(), source })?;
            if read == 0 {
                break;
            }
            hasher.update(&block[..read]);
        }
        let got = hasher.finalize().to_hex().to_string();
        if got == *expected {
            return Ok(());
        }
        Err(TensorFileError::Digest { file: file.to_owned(), got, expected: expected.clone() })
    }
}

fn key(folder: &str, file: &str) -> Result<Key, StoreError> {
    Key::new(if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") })
}

fn of_store(file: &str, error: StoreError) -> TensorFileError {
    TensorFileError::Io { file: file.to_owned(), source: io::Error::other(error) }
}

/// A writer that hashes what goes through it.
pub(super) struct Hashing<W> {
    inner: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Hashing<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, hasher: blake3::Hasher::new() }
    }

    /// The writer, and the digest in hexadecimal.
    pub(super) fn finish(self) -> (W, String) {
        (self.inner, self.hasher.finalize().to_hex().to_string())
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mellama_storage::{Key, MemoryStore, Store};

    use super::{SUMS, Sums, encode};
    use crate::checkpoint::tensor_file::TensorFileError;

    #[test]
    fn a_listed_file_that_changed_is_found_and_others_are_taken_as_they_are() {
        let memory = MemoryStore::new("sums");
        let put = |name: &str, body: &[u8]| memory.overwrite(&Key::new(name).unwrap(), body);
        let digest = blake3::hash(b"weights").to_hex().to_string();
        put("m/model.safetensors", b"weights");
        put("m/other.safetensors", b"anything");
        put(&format!("m/{SUMS}"), &encode([("model.safetensors", digest.as_str())]));
        let store: Arc<dyn Store> = Arc::new(memory.clone());
        let sums = Sums::read(&store, "m").unwrap();
        sums.check(&store, "m", "model.safetensors").unwrap();
        sums.check(&store, "m", "other.safetensors").unwrap();
        put("m/model.safetensors", b"wejghts");
        assert!(matches!(sums.check(&store, "m", "model.safetensors"), Err(TensorFileError::Digest { .. })));
        put(&format!("m/{SUMS}"), b"no list\n");
        assert!(matches!(Sums::read(&store, "m"), Err(TensorFileError::Sums { .. })));
        Sums::read(&store, "elsewhere").unwrap().check(&store, "m", "model.safetensors").unwrap();
    }
}
