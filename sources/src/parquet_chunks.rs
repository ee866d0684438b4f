//! An object with random access as the `parquet` crate wants it, with the store's failures kept apart from damaged files.
//!
//! A few blocks are kept, because page headers and pages of several columns are read in turn.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use crate::input::RangeRead;

/// Bytes fetched at least at a time, the end of the object aside.
const BLOCK_BYTES: u64 = 1 << 20;
/// Blocks kept.
const BLOCKS: usize = 8;

#[derive(Default)]
struct Cache {
    blocks: Vec<(u64, Bytes)>,
    oldest: usize,
    failure: Option<io::Error>,
}

/// Ranges of one object. Clones share their cache.
#[derive(Clone)]
pub(crate) struct Chunks {
    object: Arc<dyn RangeRead>,
    cache: Arc<Mutex<Cache>>,
}

impl Chunks {
    pub(crate) fn new(object: Box<dyn RangeRead>) -> Self {
        Self { object: object.into(), cache: Arc::default() }
    }

    /// The failure of the store that made a call fail, once; `None` where the file itself is to blame.
    pub(crate) fn take_failure(&self) -> Option<io::Error> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).failure.take()
    }

    fn bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.object.len());
        let Some(end) = end else {
            return Err(ParquetError::EOF("range past the end of the object".to_owned()));
        };
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let held = cache.blocks.iter().find(|(at, block)| *at <= start && end <= *at + block.len() as u64);
        if let Some((at, block)) = held {
            let from = (start - at) as usize;
            return Ok(block.slice(from..from + length));
        }
        let wanted = (end - start).max(BLOCK_BYTES).min(self.object.len() - start);
        let block = match self.object.read_at(start, wanted as usize) {
            Ok(bytes) if bytes.len() as u64 == wanted => Bytes::from(bytes),
            Ok(_) => return Err(keep(&mut cache, io::ErrorKind::UnexpectedEof.into())),
            Err(error) => return Err(keep(&mut cache, error)),
        };
        let slice = block.slice(..length);
        let oldest = cache.oldest;
        if oldest < cache.blocks.len() {
            cache.blocks[oldest] = (start, block);
        } else {
            cache.blocks.push((start, block));
        }
        cache.oldest = (oldest + 1) % BLOCKS;
        Ok(slice)
    }
}

fn keep(cache: &mut Cache, error: io::Error) -> ParquetError {
    cache.failure = Some(error);
    ParquetError::General("the object cannot be read".to_owned())
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.object.len()
    }
}

impl ChunkReader for Chunks {
    type T = ChunkRead;

    fn get_read(&self, start: u64) -> Result<ChunkRead> {
        Ok(ChunkRead { chunks: self.clone(), place: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.bytes(start, length)
    }
}

/// The object from one place on.
pub(crate) struct ChunkRead {
    chunks: Chunks,
    place: u64,
}

impl Read for ChunkRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.chunks.object.len().saturating_sub(self.place);
        let length = rest.min(buffer.len() as u64) as usize;
        let bytes = self.chunks.bytes(self.place, length).map_err(io::Error::other)?;
        buffer[..length].copy_from_slice(&bytes);
        self.place += length as u64;
        Ok(length)
    }
}
