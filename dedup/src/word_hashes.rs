//! Hashes of the words of one block, those of like length one after the other.
//!
//! XXH3 takes another way for 1 to 3, 4 to 8 and more bytes. In the order of a text no processor foresees which comes
//! next, and a wrong guess costs more than the hash; so the words are first told apart without a branch. The results are
//! in the order of the text.

use crate::shingle::word_hash;

/// Room for the hashes of a block, used again for the next.
#[derive(Default)]
pub(crate) struct WordHashes {
    /// Positions of the words of each way of hashing; what is behind the counted ones is left over.
    by_length: [Vec<u32>; 3],
    hashes: Vec<u64>,
}

impl WordHashes {
    /// The hash of `bytes[start..end]` for each word `[start, end]`; no word is empty.
    pub(crate) fn hash(&mut self, bytes: &[u8], words: &[[usize; 2]]) -> &[u64] {
        if self.hashes.len() < words.len() {
            self.hashes.resize(words.len(), 0);
            self.by_length.iter_mut().for_each(|positions| positions.resize(words.len(), 0));
        }
        let counts = self.tell_apart(words);
        for (positions, count) in self.by_length.iter().zip(counts) {
            for &position in &positions[..count] {
                let [start, end] = words[position as usize];
                self.hashes[position as usize] = word_hash(&bytes[start..end]);
            }
        }
        &self.hashes[..words.len()]
    }

    /// Writes each position to all three lists and moves on in one of them. Returns how many there are in each.
    fn tell_apart(&mut self, words: &[[usize; 2]]) -> [usize; 3] {
        let [short, middle, long] = &mut self.by_length;
        let (mut shorts, mut middles, mut longs) = (0, 0, 0);
        for (position, &[start, end]) in (0u32..).zip(words) {
            let length = end - start;
            short[shorts] = position;
            middle[middles] = position;
            long[longs] = position;
            shorts += usize::from(length < 4);
            middles += usize::from((4..=8).contains(&length));
            longs += usize::from(length > 8);
        }
        [shorts, middles, longs]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lengths: &[usize], hashes: &mut WordHashes) {
        let bytes: Vec<u8> = (0..lengths.iter().sum::<usize>()).map(|i| b'a' + (i * i % 26) as u8).collect();
        let mut start = 0;
        let mut words = Vec::new();
        for length in lengths {
            words.push([start, start + length]);
            start += length;
        }
        let expected: Vec<u64> = words.iter().map(|&[start, end]| word_hash(&bytes[start..end])).collect();
        assert_eq!(hashes.hash(&bytes, &words), expected);
    }

    #[test]
    fn hashes_stand_in_the_order_of_the_words() {
        let mut hashes = WordHashes::default();
        check(&[], &mut hashes);
        check(&[3, 4, 8, 9, 1, 16, 17, 2, 128, 129, 5, 240, 241, 1000], &mut hashes);
        check(&[7, 2], &mut hashes);
        check(&(1..300).map(|i| i * 7 % 13 + 1).collect::<Vec<_>>(), &mut hashes);
        check(&[9; 50], &mut hashes);
    }
}
