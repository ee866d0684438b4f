//! A bounded memory of segments already encoded. It only saves time: whether a segment is found never changes an id.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Mutex;

use super::merge::NumberHasher;

/// Segments that one cache holds; at this number it starts again empty (about 6 MB a cache).
const SEGMENTS_MAX: usize = 1 << 16;
/// Longest segment that is remembered, in bytes: the key is 32 bytes, the last of which is the length.
const SEGMENT_BYTES_MAX: usize = 31;
/// Caches kept between calls; more than this many concurrent calls each begin with an empty one.
const CACHES_MAX: usize = 256;

/// Ids of short segments.
#[derive(Debug, Default)]
pub(super) struct SegmentCache {
    places: HashMap<[u64; 4], Place, BuildHasherDefault<NumberHasher>>,
    ids: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    start: u32,
    length: u32,
}

impl SegmentCache {
    /// Ids of `segment`, if they are remembered.
    pub(super) fn get(&self, segment: &str) -> Option<&[u32]> {
        let place = self.places.get(&key(segment)?)?;
        let start = place.start as usize;
        Some(&self.ids[start..start + place.length as usize])
    }

    /// Remembers the ids of `segment` if it is short.
    pub(super) fn insert(&mut self, segment: &str, ids: &[u32]) {
        let Some(key) = key(segment) else { return };
        if self.places.len() >= SEGMENTS_MAX {
            self.places.clear();
            self.ids.clear();
        }
        let place = Place { start: self.ids.len() as u32, length: ids.len() as u32 };
        self.ids.extend_from_slice(ids);
        self.places.insert(key, place);
    }
}

/// Caches that wait for the next call. Each call owns one while it runs, so calls never wait for each other's work.
#[derive(Debug, Default)]
pub(super) struct CachePool {
    idle: Mutex<Vec<SegmentCache>>,
}

impl CachePool {
    /// An idle cache, or a new one.
    pub(super) fn take(&self) -> SegmentCache {
        let idle = self.idle.lock().ok();
        idle.and_then(|mut idle| idle.pop()).unwrap_or_default()
    }

    /// Keeps a cache for the next call.
    pub(super) fn give_back(&self, cache: SegmentCache) {
        if let Ok(mut idle) = self.idle.lock()
            && idle.len() < CACHES_MAX
        {
            idle.push(cache);
        }
    }
}

fn key(segment: &str) -> Option<[u64; 4]> {
    let bytes = segment.as_bytes();
    if bytes.len() > SEGMENT_BYTES_MAX {
        return None;
    }
    let mut padded = [0_u8; 32];
    padded[..bytes.len()].copy_from_slice(bytes);
    padded[31] = bytes.len() as u8;
    let mut key = [0; 4];
    for (word, chunk) in key.iter_mut().zip(padded.chunks_exact(8)) {
        let mut raw = [0; 8];
        raw.copy_from_slice(chunk);
        *word = u64::from_le_bytes(raw);
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_short_segments_and_starts_again_when_full() {
        let mut cache = SegmentCache::default();
        for number in 0..=SEGMENTS_MAX as u32 {
            cache.insert(&format!("w{number}"), &[number, 7]);
            assert!(cache.places.len() <= SEGMENTS_MAX);
            assert_eq!(cache.get(&format!("w{number}")), Some(&[number, 7][..]));
        }
        assert_eq!(cache.get("w0"), None, "the cache was not emptied");
        let long = "x".repeat(SEGMENT_BYTES_MAX + 1);
        cache.insert(&long, &[1]);
        assert_eq!(cache.get(&long), None);
        cache.insert(&long[1..], &[2]);
        assert_eq!(cache.get(&long[1..]), Some(&[2][..]));
    }

    #[test]
    fn segments_that_differ_only_in_trailing_zero_bytes_are_told_apart() {
        let mut cache = SegmentCache::default();
        cache.insert("a", &[1]);
        cache.insert("a\0", &[2]);
        assert_eq!(cache.get("a"), Some(&[1][..]));
        assert_eq!(cache.get("a\0"), Some(&[2][..]));
    }
}
