//! A bounded memory of segments already encoded. It only saves time: whether a segment is found never changes an id.
//!
//! Two tables of 64-byte places, one cache line each, whose addresses are a hash of the segment. A newcomer takes the
//! place of an older segment, so nothing grows and nothing is swept:
//!
//! | table | key | ids | segments a place |
//! |---|---|---|---|
//! | short | up to 15 bytes, then length and count in one byte | up to 4 | 2 |
//! | long | up to 31 bytes, then length and count in one byte | up to 8 | 1 |

/// Bytes of one cache, whatever it holds. There is one for each call of `encode` that runs at the same time as others.
pub const CACHE_BYTES: usize = (SHORT_PLACES + LONG_PLACES) * 64;
/// Longest segment of the short table, in bytes.
pub(super) const SHORT_BYTES: usize = 15;
/// Most ids of a segment in the short table.
pub(super) const SHORT_IDS: usize = 4;
/// Longest segment of the long table, in bytes.
const LONG_BYTES: usize = 31;
const LONG_IDS: usize = 8;
const SHORT_PLACES: usize = 1 << 16;
const LONG_PLACES: usize = 1 << 14;

/// Constants of the hash: fractional parts of the golden ratio and of the square root of three, made odd.
const MIX: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xbb67_ae85_84ca_a73b];
/// Bits of a short key above the text: four of the length, four of the number of ids.
const LENGTH_SHIFT: u32 = 120;
const COUNT_SHIFT: u32 = 124;
/// A short key without its number of ids.
const SHORT_KEY: u128 = u128::MAX >> 4;
/// Long keys keep the length in the low five bits of the last byte, the number of ids less one in the other three.
const LONG_COUNT_SHIFT: u32 = 125;

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Short {
    keys: [u128; 2],
    ids: [[u32; SHORT_IDS]; 2],
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Long {
    key: [u128; 2],
    ids: [u32; LONG_IDS],
}

/// Ids of short segments.
#[derive(Debug)]
pub(super) struct SegmentCache {
    short: Box<[Short]>,
    long: Box<[Long]>,
}

impl Default for SegmentCache {
    fn default() -> Self {
        Self {
            short: vec![Short { keys: [0; 2], ids: [[0; SHORT_IDS]; 2] }; SHORT_PLACES].into_boxed_slice(),
            long: vec![Long { key: [0; 2], ids: [0; LONG_IDS] }; LONG_PLACES].into_boxed_slice(),
        }
    }
}

/// Key of a segment of 1 to 15 bytes that begins `window`, whose other bytes don't matter.
#[inline]
pub(super) fn short_key(window: [u8; 16], length: usize) -> u128 {
    const MASKS: [u128; 16] = {
        let mut masks = [0; 16];
        let mut length = 1;
        while length < 16 {
            masks[length] = u128::MAX >> (128 - 8 * length);
            length += 1;
        }
        masks
    };
    u128::from_le_bytes(window) & MASKS[length & 15] | (length as u128) << LENGTH_SHIFT
}

impl SegmentCache {
    /// Ids of the segment with this key and how many of the four they are.
    #[inline]
    pub(super) fn short(&self, key: u128) -> Option<(&[u32; SHORT_IDS], usize)> {
        let place = &self.short[short_place(key)];
        let first = (place.keys[0] & SHORT_KEY) == key;
        let second = (place.keys[1] & SHORT_KEY) == key;
        if !(first | second) {
            return None;
        }
        let way = usize::from(!first);
        Some((&place.ids[way], (place.keys[way] >> COUNT_SHIFT) as usize))
    }

    /// Ids of `segment`, if they are remembered.
    pub(super) fn get(&self, segment: &[u8]) -> Option<&[u32]> {
        if let Some(key) = key_of_short(segment)
            && let Some((ids, count)) = self.short(key)
        {
            return Some(&ids[..count]);
        }
        let key = long_key(segment)?;
        let place = &self.long[long_place(key)];
        let same = place.key[0] == key[0] && (place.key[1] << 3) == (key[1] << 3);
        let count = (place.key[1] >> LONG_COUNT_SHIFT) as usize + 1;
        same.then(|| &place.ids[..count])
    }

    /// Remembers the ids of `segment` if both are short.
    pub(super) fn insert(&mut self, segment: &[u8], ids: &[u32]) {
        if ids.is_empty() || ids.len() > LONG_IDS {
            return;
        }
        if let Some(key) = key_of_short(segment).filter(|_| ids.len() <= SHORT_IDS) {
            let place = &mut self.short[short_place(key)];
            place.keys[1] = place.keys[0];
            place.ids[1] = place.ids[0];
            place.keys[0] = key | (ids.len() as u128) << COUNT_SHIFT;
            place.ids[0][..ids.len()].copy_from_slice(ids);
        } else if let Some([low, high]) = long_key(segment) {
            let place = &mut self.long[long_place([low, high])];
            place.key = [low, high | (ids.len() as u128 - 1) << LONG_COUNT_SHIFT];
            place.ids[..ids.len()].copy_from_slice(ids);
        }
    }
}

fn key_of_short(segment: &[u8]) -> Option<u128> {
    let mut window = [0; 16];
    if segment.is_empty() || segment.len() > SHORT_BYTES {
        return None;
    }
    window[..segment.len()].copy_from_slice(segment);
    Some(short_key(window, segment.len()))
}

fn long_key(segment: &[u8]) -> Option<[u128; 2]> {
    if segment.is_empty() || segment.len() > LONG_BYTES {
        return None;
    }
    let mut halves = [[0; 16]; 2];
    let (first, second) = segment.split_at(segment.len().min(16));
    halves[0][..first.len()].copy_from_slice(first);
    halves[1][..second.len()].copy_from_slice(second);
    halves[1][15] = segment.len() as u8;
    Some(halves.map(u128::from_le_bytes))
}

#[inline]
fn short_place(key: u128) -> usize {
    mixed(key as u64, (key >> 64) as u64) as usize & (SHORT_PLACES - 1)
}

fn long_place(key: [u128; 2]) -> usize {
    let half = |key: u128| mixed(key as u64, (key >> 64) as u64);
    mixed(half(key[0]), half(key[1])) as usize & (LONG_PLACES - 1)
}

/// Both halves of the 128-bit product, folded.
#[inline]
fn mixed(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ MIX[0]) * u128::from(b ^ MIX[1]);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_takes_the_bytes_that_its_constant_says() {
        let cache = SegmentCache::default();
        let bytes = size_of_val(&*cache.short) + size_of_val(&*cache.long);
        assert_eq!(bytes, CACHE_BYTES);
        assert_eq!((size_of::<Short>(), size_of::<Long>()), (64, 64), "a place is one cache line");
    }

    #[test]
    fn what_is_found_is_what_was_remembered_last() {
        let mut cache = SegmentCache::default();
        let ids: Vec<u32> = (1..=LONG_IDS as u32).collect();
        let segment = |number: u32| format!("{number}{}", "x".repeat(number as usize % 28));
        let count = |number: u32| number as usize % LONG_IDS + 1;
        for number in 0..300_000 {
            let text = segment(number);
            cache.insert(text.as_bytes(), &ids[..count(number)]);
            let found = cache.get(text.as_bytes());
            let short = text.len() <= LONG_BYTES;
            assert_eq!(found, short.then_some(&ids[..count(number)]), "{number}");
        }
        let kept = (0..300_000).filter(|number| {
            let found = cache.get(segment(*number).as_bytes());
            assert!(found.is_none_or(|found| found == &ids[..count(*number)]), "{number}");
            found.is_some()
        });
        let kept = kept.count();
        assert!((10_000..200_000).contains(&kept), "{kept} are kept");
    }

    #[test]
    fn long_segments_and_many_ids_are_not_kept() {
        let mut cache = SegmentCache::default();
        cache.insert(&[b'x'; LONG_BYTES + 1], &[1]);
        assert_eq!(cache.get(&[b'x'; LONG_BYTES + 1]), None);
        cache.insert(b"many", &[7; LONG_IDS + 1]);
        assert_eq!(cache.get(b"many"), None);
        cache.insert(b"", &[7]);
        assert_eq!(cache.get(b""), None);
        cache.insert(b"none", &[]);
        assert_eq!(cache.get(b"none"), None);
    }

    #[test]
    fn segments_that_differ_only_in_trailing_zero_bytes_are_told_apart() {
        let mut cache = SegmentCache::default();
        for length in 1..LONG_BYTES {
            let mut text = vec![b'a'; length];
            cache.insert(&text, &[length as u32; 2]);
            text.push(0);
            assert_eq!(cache.get(&text), None, "{length}");
            text.pop();
            assert_eq!(cache.get(&text), Some(&[length as u32; 2][..]), "{length}");
        }
    }
}
