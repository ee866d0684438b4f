//! The `MinHash` signatures of datatrove 0.10, to compare with its runs. For tests and measurements alone.
//!
//! They are no sketches: nothing in the crate joins or verifies by them, they belong to no version of its specification,
//! and they are not fast. Words come already split, because datatrove takes them from a tokenizer of the text's language.

use xxhash_rust::xxh64::xxh64;

use crate::datatrove_constants::{INCREMENTS, MULTIPLIERS};

/// Rows of a signature: datatrove's 14 buckets of 8.
pub const ROWS: usize = 112;

/// Words of a shingle.
pub const SHINGLE_WORDS: usize = 5;

/// The prime 2⁶¹ − 1.
const PRIME: u64 = (1 << 61) - 1;

/// The hashes of all runs of [`SHINGLE_WORDS`] words, in their order, repeated ones too: XXH64, seed 0, of the UTF-8 of
/// the words with one space between two. Empty if there are fewer words. The words are used as they are, so the caller
/// folds case and numbers as datatrove would.
pub fn shingles<S: AsRef<str>>(words: &[S]) -> Vec<u64> {
    let mut joined = String::new();
    let hash = |run: &[S]| {
        joined.clear();
        for (index, word) in run.iter().enumerate() {
            joined.push_str(if index > 0 { " " } else { "" });
            joined.push_str(word.as_ref());
        }
        xxh64(joined.as_bytes(), 0)
    };
    words.windows(SHINGLE_WORDS).map(hash).collect()
}

/// The signature of a text: row i is the least `((aᵢ·s + bᵢ) mod 2⁶⁴) mod (2⁶¹ − 1)` over its shingles s, so less than
/// 2⁶¹ − 1. None for fewer than [`SHINGLE_WORDS`] words, which datatrove passes over.
pub fn signature<S: AsRef<str>>(words: &[S]) -> Option<[u64; ROWS]> {
    let shingles = shingles(words);
    if shingles.is_empty() {
        return None;
    }
    let mut rows = [u64::MAX; ROWS];
    for ((row, multiplier), increment) in rows.iter_mut().zip(MULTIPLIERS).zip(INCREMENTS) {
        let hash = |shingle: &u64| multiplier.wrapping_mul(*shingle).wrapping_add(increment) % PRIME;
        *row = shingles.iter().map(hash).fold(*row, u64::min);
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    const ASPIRIN: [&str; 6] = ["the", "patient", "was", "given", "aspirin", "daily"];

    #[test]
    fn golden_constants() {
        let bytes: Vec<u8> = MULTIPLIERS.iter().chain(&INCREMENTS).flat_map(|constant| constant.to_le_bytes()).collect();
        let digest = format!("{:x}", Sha256::digest(&bytes));
        assert_eq!(digest, "3b8ce0e5ff06d6950b72f62ef5ff619cfa984cd0c52ce62b94ae10ded4e80c8d");
    }

    #[test]
    fn golden_shingles_of_datatrove() {
        assert_eq!(shingles(&ASPIRIN), [0xa35b_955a_71bc_64a5, 0x8735_804b_2550_d2ec]);
    }

    #[test]
    fn golden_rows_of_datatrove() {
        let rows = signature(&ASPIRIN).unwrap();
        assert_eq!(rows[0], 560_275_007_019_045_035);
        assert_eq!(rows[7], 1_006_952_185_451_015_800);
        assert!(rows.iter().all(|&row| row < PRIME));
    }

    #[test]
    fn texts_under_five_words_have_no_signature() {
        assert_eq!(signature(&ASPIRIN[..4]), None);
        assert_eq!(signature::<&str>(&[]), None);
        assert!(signature(&ASPIRIN[..5]).is_some());
    }

    #[test]
    fn a_row_is_the_least_over_the_shingles() {
        let (first, second) = (signature(&ASPIRIN[..5]).unwrap(), signature(&ASPIRIN[1..]).unwrap());
        let least: Vec<u64> = first.iter().zip(second).map(|(&a, b)| a.min(b)).collect();
        assert_eq!(signature(&ASPIRIN).unwrap()[..], least);
        assert_ne!(signature(&ASPIRIN).unwrap(), first);
    }
}
