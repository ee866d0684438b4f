//! One bit a document.

/// A set of document numbers that grows at its end.
#[derive(Debug, Default)]
pub(crate) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// Adds a number.
    pub(crate) fn insert(&mut self, number: u32) {
        let word = number as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (number % 64);
    }

    /// Whether the number is in the set.
    pub(crate) fn contains(&self, number: u32) -> bool {
        self.words.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_apart() {
        let mut bits = Bits::default();
        for number in [0, 63, 64, 1000] {
            bits.insert(number);
        }
        let found: Vec<u32> = (0..2000).filter(|&number| bits.contains(number)).collect();
        assert_eq!(found, [0, 63, 64, 1000]);
    }
}
