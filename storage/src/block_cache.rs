//! Blocks of remote objects on this machine's disk, so that an object that is read again and again, in whatever order, is asked
//! for once. A copy of what a store gave for one state of an object, in files without a name that go with the process; never a
//! source of truth: who reads checks what it reads as it would without it.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use bytes::Bytes;

use crate::error::StoreError;
use crate::key::ETag;

/// Bytes that objects may have in one file before the next is begun.
const FILE_BYTES: u64 = 4 << 30;

/// What one object is in one state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject {
    /// Store and key.
    pub(crate) object: String,
    /// ETag, or the digest of the content where that is known.
    pub(crate) state: String,
    pub(crate) size_bytes: u64,
}

/// Keeps blocks, at most so many bytes of them. The file in which objects were first read longest ago goes first.
#[derive(Debug)]
pub struct BlockCache {
    folder: PathBuf,
    limit_bytes: u64,
    block_bytes: u64,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    files: VecDeque<CacheFile>,
    objects: BTreeMap<Subject, Object>,
    next_file: u64,
}

#[derive(Debug)]
struct CacheFile {
    number: u64,
    file: Arc<File>,
    /// Bytes that are reserved in it.
    reserved_bytes: u64,
}

/// The first block of an object and the state that it is of.
#[derive(Debug)]
pub(crate) struct First {
    pub(crate) bytes: Vec<u8>,
    pub(crate) etag: ETag,
}

/// Where an object is kept.
struct Place {
    number: u64,
    file: Arc<File>,
    start: u64,
}

#[derive(Clone, Debug)]
struct Object {
    file: u64,
    start: u64,
    /// The state that its first block was of.
    etag: Option<ETag>,
    blocks: Vec<Block>,
}

impl Object {
    fn is_at(&self, place: (u64, u64)) -> bool {
        (self.file, self.start) == place
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Absent,
    Coming,
    Here,
}

impl BlockCache {
    /// Keeps at most `limit_bytes` in files of `folder`; nothing is created before the first block.
    pub fn new(folder: PathBuf, limit_bytes: u64, block_bytes: u64) -> Self {
        Self { folder, limit_bytes, block_bytes: block_bytes.max(1), state: Mutex::default(), arrived: Condvar::new() }
    }

    /// The bytes of `range` of an object in the state of `etag`, those blocks that are not here fetched by `fetch`; `None` where
    /// the object is too large to be kept, and where the disk takes or gives nothing: a cache that does not work is no reason to
    /// fail.
    pub(crate) fn read(
        &self,
        subject: &Subject,
        etag: &ETag,
        range: &Range<u64>,
        fetch: &dyn Fn(Range<u64>) -> Result<Vec<u8>, StoreError>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Ok(Some(Place { number, file, start })) = self.admit(subject, Some(etag)) else { return Ok(None) };
        for block in range.start / self.block_bytes..range.end.div_ceil(self.block_bytes) {
            if !self.claim(subject, (number, start), block) {
                continue;
            }
            let of_block = block * self.block_bytes..subject.size_bytes.min((block + 1) * self.block_bytes);
            let fetched = fetch(of_block.clone());
            let kept = fetched.as_ref().is_ok_and(|bytes| file.write_all_at(bytes, start + of_block.start).is_ok());
            self.settle(subject, (number, start), block, kept);
            fetched?;
            if !kept {
                return Ok(None);
            }
        }
        let mut bytes = vec![0; (range.end - range.start) as usize];
        Ok(file.read_exact_at(&mut bytes, start + range.start).is_ok().then_some(bytes))
    }

    /// The ETag of an object of known content, which its first block tells: `fetch` gives both, or nothing where the object turns
    /// out to be another one. `None` then, and where nothing can be kept.
    pub(crate) fn opened(
        &self,
        subject: &Subject,
        fetch: &dyn Fn(Range<u64>) -> Result<Option<First>, StoreError>,
    ) -> Result<Option<ETag>, StoreError> {
        let Ok(Some(Place { number, file, start })) = self.admit(subject, None) else { return Ok(None) };
        if !self.claim(subject, (number, start), 0) {
            return Ok(self.lock().objects.get(subject).and_then(|object| object.etag.clone()));
        }
        let first = fetch(0..subject.size_bytes.min(self.block_bytes));
        let kept = matches!(&first, Ok(Some(First { bytes, .. })) if file.write_all_at(bytes, start).is_ok());
        let etag = first.as_ref().ok().and_then(|first| first.as_ref()).map(|first| first.etag.clone()).filter(|_| kept);
        if let Some(object) = self.lock().objects.get_mut(subject).filter(|object| object.is_at((number, start))) {
            object.etag.clone_from(&etag);
        }
        self.settle(subject, (number, start), 0, kept);
        first.map(|_| etag)
    }

    /// Keeps an object as it was written, where there is room for it: nothing goes for what may never be read.
    pub(crate) fn keep(&self, subject: &Subject, etag: &ETag, bytes: &dyn Fn(Range<u64>) -> io::Result<Bytes>) {
        if subject.size_bytes == 0 || self.lock().reserved_bytes() + subject.size_bytes > self.limit_bytes {
            return;
        }
        let Ok(Some(Place { number, file, start })) = self.admit(subject, None) else { return };
        let copied = (0..subject.size_bytes).step_by(self.block_bytes as usize).try_for_each(|first| {
            let block = first..subject.size_bytes.min(first + self.block_bytes);
            file.write_all_at(&bytes(block)?, start + first)
        });
        let mut state = self.lock();
        if let Some(object) = state.objects.get_mut(subject).filter(|object| object.is_at((number, start)) && copied.is_ok()) {
            object.etag = Some(etag.clone());
            // Whoever fetches one meanwhile writes the same bytes.
            object.blocks.iter_mut().filter(|block| **block == Block::Absent).for_each(|block| *block = Block::Here);
        }
    }

    /// Keeps nothing of an object any more: what is kept was found to be damaged.
    pub(crate) fn forget(&self, subject: &Subject) {
        self.lock().objects.remove(subject);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Whether an object of this length is kept at all.
    pub(crate) fn fits(&self, size_bytes: u64) -> bool {
        size_bytes <= self.limit_bytes
    }

    /// The file of an object and where it begins there; it is given a place where it has none.
    fn admit(&self, subject: &Subject, etag: Option<&ETag>) -> io::Result<Option<Place>> {
        // Others take from the same disk: once less than our own share is left, nothing more is kept.
        let is_short = || rustix::fs::statvfs(&self.folder).is_ok_and(|disk| disk.f_bavail * disk.f_frsize < self.limit_bytes);
        if !self.fits(subject.size_bytes) {
            return Ok(None);
        }
        let mut state = self.lock();
        if let Some(object) = state.objects.get_mut(subject) {
            object.etag = object.etag.take().or_else(|| etag.cloned());
            let (number, start) = (object.file, object.start);
            let found = state.files.iter().find(|file| file.number == number);
            return Ok(found.map(|found| Place { number, file: Arc::clone(&found.file), start }));
        }
        if is_short() {
            return Ok(None);
        }
        while state.reserved_bytes() + subject.size_bytes > self.limit_bytes {
            state.forget_oldest();
        }
        if state.files.back().is_none_or(|last| last.reserved_bytes >= FILE_BYTES.min(self.limit_bytes / 4)) {
            let file = Arc::new(tempfile::tempfile_in(&self.folder)?);
            let number = state.next_file;
            state.next_file += 1;
            state.files.push_back(CacheFile { number, file, reserved_bytes: 0 });
        }
        let last = state.files.back_mut().expect("one was just pushed");
        let (file, number, start) = (Arc::clone(&last.file), last.number, last.reserved_bytes);
        last.reserved_bytes += subject.size_bytes;
        let blocks = vec![Block::Absent; subject.size_bytes.div_ceil(self.block_bytes) as usize];
        state.objects.insert(subject.clone(), Object { file: number, start, etag: etag.cloned(), blocks });
        Ok(Some(Place { number, file, start }))
    }

    /// Whether the caller is to fetch a block. Waits for one that comes already.
    fn claim(&self, subject: &Subject, place: (u64, u64), block: u64) -> bool {
        let mut state = self.lock();
        loop {
            // An object that was forgotten meanwhile still has its file here: it is filled for this reader alone.
            let Some(found) = state.block(subject, place, block) else { return true };
            match *found {
                Block::Here => return false,
                Block::Absent => {
                    *found = Block::Coming;
                    return true;
                }
                Block::Coming => state = self.arrived.wait(state).expect("no holder panics"),
            }
        }
    }

    fn settle(&self, subject: &Subject, place: (u64, u64), block: u64, is_here: bool) {
        let mut state = self.lock();
        if let Some(found) = state.block(subject, place, block) {
            *found = if is_here { Block::Here } else { Block::Absent };
        }
        drop(state);
        self.arrived.notify_all();
    }
}

impl State {
    /// A block of an object, if that is still in this place: the number of its file and where it begins there.
    fn block(&mut self, subject: &Subject, place: (u64, u64), block: u64) -> Option<&mut Block> {
        let object = self.objects.get_mut(subject).filter(|object| object.is_at(place))?;
        object.blocks.get_mut(block as usize)
    }

    fn reserved_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.reserved_bytes).sum()
    }

    /// Readers that hold the file go on; its space is free when the last of them ends.
    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.files.pop_front() {
            self.objects.retain(|_, object| object.file != oldest.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn subject(name: &str, size_bytes: u64) -> Subject {
        Subject { object: name.into(), state: "1".into(), size_bytes }
    }

    fn body(range: Range<u64>) -> Vec<u8> {
        range.map(|position| (position % 251) as u8).collect()
    }

    #[test]
    fn each_block_is_fetched_once_whatever_the_order() {
        let cache = BlockCache::new(std::env::temp_dir(), 1 << 20, 100);
        let fetched = AtomicU64::new(0);
        let fetch = |range: Range<u64>| {
            fetched.fetch_add(1, Ordering::Relaxed);
            Ok(body(range))
        };
        for range in [950..1000, 0..10, 90..110, 0..1000, 500..500, 999..1000] {
            let read = cache.read(&subject("a", 1000), &ETag::new("e"), &range, &fetch).unwrap();
            assert_eq!(read, Some(body(range.clone())), "{range:?}");
        }
        assert_eq!(fetched.load(Ordering::Relaxed), 10);
        let other = Subject { state: "2".into(), ..subject("a", 1000) };
        cache.read(&other, &ETag::new("e"), &(0..10), &fetch).unwrap();
        assert_eq!(fetched.load(Ordering::Relaxed), 11, "another state is another object");
    }

    #[test]
    fn what_does_not_fit_is_not_kept_and_the_oldest_goes_first() {
        let cache = BlockCache::new(std::env::temp_dir(), 1000, 100);
        let fetched = AtomicU64::new(0);
        let fetch = |range: Range<u64>| {
            fetched.fetch_add(1, Ordering::Relaxed);
            Ok(body(range))
        };
        assert_eq!(cache.read(&subject("large", 1001), &ETag::new("e"), &(0..10), &fetch).unwrap(), None);
        for name in ["a", "b", "c", "d"] {
            assert_eq!(cache.read(&subject(name, 300), &ETag::new("e"), &(0..300), &fetch).unwrap(), Some(body(0..300)));
        }
        assert_eq!(fetched.load(Ordering::Relaxed), 12);
        cache.read(&subject("d", 300), &ETag::new("e"), &(0..300), &fetch).unwrap();
        assert_eq!(fetched.load(Ordering::Relaxed), 12, "the newest is here");
        cache.read(&subject("a", 300), &ETag::new("e"), &(0..100), &fetch).unwrap();
        assert_eq!(fetched.load(Ordering::Relaxed), 13, "the oldest is not");
    }

    #[test]
    fn a_failed_block_is_fetched_again() {
        let cache = BlockCache::new(std::env::temp_dir(), 1000, 100);
        let failing = |_| Err(StoreError::Truncated { object: "a".into(), expected: 1, got: 0 });
        assert!(cache.read(&subject("a", 300), &ETag::new("e"), &(0..300), &failing).is_err());
        assert_eq!(
            cache.read(&subject("a", 300), &ETag::new("e"), &(0..300), &|range| Ok(body(range))).unwrap(),
            Some(body(0..300))
        );
    }

    #[test]
    fn an_object_is_opened_by_its_first_block_and_once() {
        let cache = BlockCache::new(std::env::temp_dir(), 1000, 100);
        let fetched = AtomicU64::new(0);
        let fetch = |range: Range<u64>| {
            fetched.fetch_add(1, Ordering::Relaxed);
            Ok(Some(First { bytes: body(range), etag: ETag::new("e") }))
        };
        assert_eq!(cache.opened(&subject("a", 300), &fetch).unwrap(), Some(ETag::new("e")));
        assert_eq!(cache.opened(&subject("a", 300), &fetch).unwrap(), Some(ETag::new("e")));
        let rest = |range: Range<u64>| {
            assert!(range.start > 0, "the first block is here");
            Ok(body(range))
        };
        assert_eq!(cache.read(&subject("a", 300), &ETag::new("e"), &(0..300), &rest).unwrap(), Some(body(0..300)));
        assert_eq!(fetched.load(Ordering::Relaxed), 1);
        assert_eq!(cache.opened(&subject("b", 300), &|_| Ok(None)).unwrap(), None, "another object than expected");
        assert_eq!(cache.opened(&subject("b", 300), &fetch).unwrap(), Some(ETag::new("e")), "and looked at again");
        assert_eq!(cache.opened(&subject("large", 1001), &fetch).unwrap(), None);
    }

    #[test]
    fn an_object_that_comes_back_after_its_place_went_is_known_by_the_state_that_is_read() {
        let cache = BlockCache::new(std::env::temp_dir(), 1000, 100);
        let fetch = |range: Range<u64>| Ok(body(range));
        for name in ["a", "b", "c", "d"] {
            cache.read(&subject(name, 300), &ETag::new("e"), &(0..300), &fetch).unwrap();
        }
        // The first went for the last; whoever had it open reads on, and who opens it need not look at it.
        cache.read(&subject("a", 300), &ETag::new("e"), &(0..300), &fetch).unwrap();
        assert_eq!(cache.opened(&subject("a", 300), &|_| panic!("it is here")).unwrap(), Some(ETag::new("e")));
        cache.forget(&subject("a", 300));
        assert_eq!(cache.opened(&subject("a", 300), &|_| Ok(None)).unwrap(), None, "nothing is kept of it");
    }

    #[test]
    fn what_was_written_is_kept_where_there_is_room() {
        let cache = BlockCache::new(std::env::temp_dir(), 1000, 100);
        let never = |range: Range<u64>| -> Result<Vec<u8>, StoreError> { panic!("{range:?} is here") };
        cache.keep(&subject("a", 730), &ETag::new("e"), &|range| Ok(body(range).into()));
        assert_eq!(cache.read(&subject("a", 730), &ETag::new("e"), &(0..730), &never).unwrap(), Some(body(0..730)));
        assert_eq!(cache.opened(&subject("a", 730), &|_| panic!("it is open")).unwrap(), Some(ETag::new("e")));
        cache.keep(&subject("b", 400), &ETag::new("e"), &|range| Ok(body(range).into()));
        assert_eq!(
            cache.read(&subject("a", 730), &ETag::new("e"), &(0..730), &never).unwrap(),
            Some(body(0..730)),
            "nothing goes for it"
        );
        cache.keep(&subject("c", 200), &ETag::new("e"), &|_| Err(io::ErrorKind::Other.into()));
        let fetch = |range: Range<u64>| Ok(body(range));
        assert_eq!(
            cache.read(&subject("c", 200), &ETag::new("e"), &(0..200), &fetch).unwrap(),
            Some(body(0..200)),
            "a failed copy is none"
        );
    }

    #[test]
    fn a_disk_that_takes_nothing_keeps_nothing_and_fails_nothing() {
        let cache = BlockCache::new("/dev/null/none".into(), 1000, 100);
        assert_eq!(cache.read(&subject("a", 300), &ETag::new("e"), &(0..300), &|range| Ok(body(range))).unwrap(), None);
    }

    #[test]
    fn readers_at_once_fetch_each_block_once() {
        let cache = BlockCache::new(std::env::temp_dir(), 1 << 20, 100);
        let fetched = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let fetch = |range: Range<u64>| {
                        fetched.fetch_add(1, Ordering::Relaxed);
                        std::thread::yield_now();
                        Ok(body(range))
                    };
                    for start in 0..900 {
                        let range = start..start + 100;
                        assert_eq!(cache.read(&subject("a", 1000), &ETag::new("e"), &range, &fetch).unwrap(), Some(body(range)));
                    }
                });
            }
        });
        assert_eq!(fetched.load(Ordering::Relaxed), 10);
    }
}
