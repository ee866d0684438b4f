//! The distinct n-grams of one length, each with the benchmark parts that hold it.
//!
//! A sorted array with a directory over the top bits of the hash: a look-up that fails, which is nearly every look-up of
//! a corpus, reads one directory entry and about one hash.

/// Most bits of the directory; 2²⁴ entries take 64 MiB.
const MAX_DIRECTORY_BITS: u32 = 24;

/// n-grams of `words` words.
#[derive(Debug)]
pub(crate) struct GramTable {
    words: usize,
    /// Distinct hashes, ascending.
    hashes: Vec<u64>,
    /// `directory[p]..directory[p + 1]` are the hashes whose top `bits` bits are p.
    directory: Vec<u32>,
    bits: u32,
    /// `parts[starts[g]..starts[g + 1]]` hold gram g.
    starts: Vec<u32>,
    parts: Vec<u32>,
}

impl GramTable {
    /// Takes (hash, part) for each occurrence, in any order; at most `u32::MAX` of them.
    pub(crate) fn new(words: usize, mut occurrences: Vec<(u64, u32)>) -> Self {
        occurrences.sort_unstable();
        occurrences.dedup();
        let mut hashes: Vec<u64> = Vec::new();
        let mut starts = Vec::new();
        for (at, &(hash, _)) in (0u32..).zip(&occurrences) {
            if hashes.last() != Some(&hash) {
                hashes.push(hash);
                starts.push(at);
            }
        }
        starts.push(occurrences.len() as u32);
        let bits = hashes.len().next_power_of_two().ilog2().clamp(1, MAX_DIRECTORY_BITS);
        Self {
            words,
            directory: directory(&hashes, bits),
            hashes,
            bits,
            starts,
            parts: occurrences.into_iter().map(|(_, part)| part).collect(),
        }
    }

    /// Words of a gram.
    pub(crate) fn words(&self) -> usize {
        self.words
    }

    /// Number of distinct grams.
    pub(crate) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Position of a gram in the table.
    pub(crate) fn find(&self, hash: u64) -> Option<usize> {
        let prefix = (hash >> (64 - self.bits)) as usize;
        let start = self.directory[prefix] as usize;
        let end = self.directory[prefix + 1] as usize;
        let found = self.hashes[start..end].binary_search(&hash).ok()?;
        Some(start + found)
    }

    /// Parts that hold the gram at a position, ascending.
    pub(crate) fn parts(&self, gram: usize) -> &[u32] {
        &self.parts[self.starts[gram] as usize..self.starts[gram + 1] as usize]
    }
}

fn directory(hashes: &[u64], bits: u32) -> Vec<u32> {
    let mut directory = Vec::with_capacity((1 << bits) + 1);
    let mut at = 0;
    for prefix in 0..1u64 << bits {
        while at < hashes.len() && hashes[at] >> (64 - bits) < prefix {
            at += 1;
        }
        directory.push(at as u32);
    }
    directory.push(hashes.len() as u32);
    directory
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permutation::finalize;

    #[test]
    fn every_gram_is_found_with_its_parts_and_no_other_is() {
        for count in [0u64, 1, 2, 3, 1000] {
            let mut occurrences: Vec<(u64, u32)> = Vec::new();
            for i in 0..count {
                // Gram i is in parts i and i + 1, the first of them twice.
                occurrences.extend([i as u32 + 1, i as u32, i as u32].map(|p| (finalize(i), p)));
            }
            let table = GramTable::new(13, occurrences);
            assert_eq!((table.words(), table.len()), (13, count as usize));
            for i in 0..count {
                let gram = table.find(finalize(i)).unwrap();
                assert_eq!(table.parts(gram), [i as u32, i as u32 + 1]);
                assert_eq!(table.find(finalize(i + count)), None);
            }
            assert_eq!(table.find(u64::MAX), None);
        }
    }

    #[test]
    fn the_ends_of_the_hash_space() {
        let table = GramTable::new(8, vec![(u64::MAX, 7), (0, 9)]);
        assert_eq!(table.parts(table.find(0).unwrap()), [9]);
        assert_eq!(table.parts(table.find(u64::MAX).unwrap()), [7]);
        assert_eq!(table.find(1), None);
    }
}
