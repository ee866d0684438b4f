//! A set of shards as one long list of sequences: constant-time seek, decoded row groups kept, shared between threads.
//!
//! It reads in the order it is asked and shuffles nothing: the order was fixed when the shards were packed.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use mellama_storage::{ObjectEntry, RangeReader, Store, Workdir};

use crate::chunks::StoreChunks;
use crate::error::ShardError;
use crate::format::{Sequence, ShardHeader};
use crate::reader::{RowGroup, ShardFile};

/// Decoded row groups kept, by default. One holds 256 sequences.
pub const CACHED_ROW_GROUPS: usize = 4;

/// Open shards kept. One holds its footer.
pub const OPEN_SHARDS: usize = 16;

/// Sequences of all shards of a manifest, in its order.
#[derive(Debug)]
pub struct ShardSet {
    store: Arc<dyn Store>,
    objects: Vec<ObjectEntry>,
    /// `starts[i]` is the global index of the first sequence of shard `i`; one more entry for the end.
    starts: Vec<u64>,
    header: ShardHeader,
    cached_row_groups: usize,
    cache: Mutex<Cache>,
}

/// Most recently used first.
#[derive(Debug, Default)]
struct Cache {
    shards: VecDeque<(usize, ShardFile)>,
    groups: VecDeque<((usize, usize), Arc<RowGroup>)>,
}

impl ShardSet {
    /// Opens the shards that `objects` name, in this order. Only the first one's footer is read now; the others are opened
    /// when they are needed and must then have the same header.
    ///
    /// # Errors
    /// When there are no objects, the first cannot be opened, or its header is not a shard's.
    pub fn open(workdir: &Workdir, objects: &[ObjectEntry]) -> Result<Self, ShardError> {
        let store = Arc::clone(workdir.store());
        let first = objects.first().ok_or_else(|| ShardError::corrupt("shard set", "no shards, expected at least one"))?;
        let shard = open_shard(&store, first)?;
        let mut starts = vec![0_u64];
        for entry in objects {
            let start = starts[starts.len() - 1];
            let end = start.checked_add(entry.records);
            starts.push(end.ok_or_else(|| ShardError::corrupt(&entry.key, "more than 2^64 sequences in the set"))?);
        }
        let header = shard.header().clone();
        let cache = Cache { shards: VecDeque::from([(0, shard)]), groups: VecDeque::new() };
        let cached_row_groups = CACHED_ROW_GROUPS;
        Ok(Self { store, objects: objects.to_vec(), starts, header, cached_row_groups, cache: Mutex::new(cache) })
    }

    /// Keeps this many decoded row groups, at least 1. Each takes about 256 times T times the width in memory.
    #[must_use]
    pub fn with_cached_row_groups(mut self, row_groups: usize) -> Self {
        self.cached_row_groups = row_groups.max(1);
        self
    }

    /// The header that all shards share.
    pub fn header(&self) -> &ShardHeader {
        &self.header
    }

    /// The shards, in order.
    pub fn objects(&self) -> &[ObjectEntry] {
        &self.objects
    }

    /// Number of sequences.
    pub fn len(&self) -> u64 {
        self.starts[self.starts.len() - 1]
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shard and row of a global index.
    ///
    /// # Errors
    /// [`ShardError::OutOfRange`].
    pub fn locate(&self, global: u64) -> Result<(usize, u64), ShardError> {
        if global >= self.len() {
            let subject = "shard set".to_owned();
            return Err(ShardError::OutOfRange { subject, index: global, length: self.len() });
        }
        // The last shard that starts at or before it; shards without sequences start where the next one does.
        let shard = self.starts.partition_point(|&start| start <= global) - 1;
        Ok((shard, global - self.starts[shard]))
    }

    /// The sequence at a global index: one look into the index, and one ranged read when its row group is not kept.
    ///
    /// # Errors
    /// [`ShardError::OutOfRange`], or the damage found in the shard that holds it.
    pub fn sequence(&self, global: u64) -> Result<Sequence, ShardError> {
        let (shard, row) = self.locate(global)?;
        let rows = self.shard(shard)?.row_group_rows();
        let group = self.row_group(shard, row as usize / rows)?;
        group.sequence(row as usize % rows)
    }

    fn row_group(&self, shard: usize, index: usize) -> Result<Arc<RowGroup>, ShardError> {
        if let Some(group) = touch(&mut self.lock().groups, &(shard, index)) {
            return Ok(group);
        }
        // Decoded outside the lock: two threads may do the same work, none waits for another's read.
        let group = Arc::new(self.shard(shard)?.read_row_group(index)?);
        keep(&mut self.lock().groups, (shard, index), Arc::clone(&group), self.cached_row_groups);
        Ok(group)
    }

    /// Opens shard `index` of the set, or gives the one that is kept.
    ///
    /// # Errors
    /// When it cannot be opened, or its header, length or number of sequences is not what the set says.
    pub fn shard(&self, index: usize) -> Result<ShardFile, ShardError> {
        if let Some(shard) = touch(&mut self.lock().shards, &index) {
            return Ok(shard);
        }
        let entry = self.objects.get(index).ok_or_else(|| ShardError::OutOfRange {
            subject: "shards of the set".to_owned(),
            index: index as u64,
            length: self.objects.len() as u64,
        })?;
        let shard = open_shard(&self.store, entry)?;
        if shard.header() != &self.header {
            let problem = format!("header differs from that of {}, expected one header a set", self.objects[0].key);
            return Err(ShardError::corrupt(&entry.key, problem));
        }
        keep(&mut self.lock().shards, index, shard.clone(), OPEN_SHARDS);
        Ok(shard)
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        // A panic of another thread cannot leave the lists half changed: they are changed by single pushes and removals.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_shard(store: &Arc<dyn Store>, entry: &ObjectEntry) -> Result<ShardFile, ShardError> {
    let reader = RangeReader::of(Arc::clone(store), entry)?;
    if reader.size_bytes() != entry.bytes {
        let problem = format!("{} bytes, manifest lists {}", reader.size_bytes(), entry.bytes);
        return Err(ShardError::corrupt(&entry.key, problem));
    }
    let shard = ShardFile::open(&entry.key, StoreChunks(reader))?;
    if shard.rows() != entry.records {
        let problem = format!("{} sequences, manifest lists {}", shard.rows(), entry.records);
        return Err(ShardError::corrupt(&entry.key, problem));
    }
    Ok(shard)
}

fn touch<K: PartialEq, V: Clone>(list: &mut VecDeque<(K, V)>, key: &K) -> Option<V> {
    let at = list.iter().position(|(found, _)| found == key)?;
    let item = list.remove(at)?;
    let value = item.1.clone();
    list.push_front(item);
    Some(value)
}

fn keep<K: PartialEq, V>(list: &mut VecDeque<(K, V)>, key: K, value: V, limit: usize) {
    list.retain(|(found, _)| *found != key);
    list.push_front((key, value));
    list.truncate(limit);
}

/// Global indexes of one rank from `cursor` on: `cursor + rank`, then every `world`-th, below `end`.
///
/// Over all ranks every index of `cursor..end` comes exactly once, and at any step the ranks read neighbours.
///
/// # Panics
/// When `world` is 0 or `rank` is not below it.
pub fn rank_indices(cursor: u64, end: u64, rank: u32, world: u32) -> impl Iterator<Item = u64> + Send + 'static {
    assert!(rank < world, "rank {rank} of {world}");
    let first = cursor.checked_add(u64::from(rank));
    std::iter::successors(first, move |index| index.checked_add(u64::from(world))).take_while(move |&index| index < end)
}

/// Sequences read ahead by a thread of its own, in the order asked for.
#[derive(Debug)]
pub struct Prefetch {
    sequences: Option<Receiver<Result<Sequence, ShardError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Prefetch {
    /// Reads the sequences at `indices` from `set`, at most `ahead` of them before they are taken. It ends after an error.
    pub fn new(set: Arc<ShardSet>, indices: impl Iterator<Item = u64> + Send + 'static, ahead: usize) -> Self {
        let (sender, receiver) = sync_channel(ahead);
        let read = move || {
            for index in indices {
                let sequence = set.sequence(index);
                let failed = sequence.is_err();
                if sender.send(sequence).is_err() || failed {
                    return;
                }
            }
        };
        Self { sequences: Some(receiver), thread: Some(std::thread::spawn(read)) }
    }
}

impl Iterator for Prefetch {
    type Item = Result<Sequence, ShardError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.sequences.as_ref()?.recv().ok()
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        // Closing the channel first lets a reader that waits for room end.
        self.sequences = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the reader already ended the stream early; there is nobody to tell while dropping.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests;
