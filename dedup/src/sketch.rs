//! The sketch of one document: its exact hash, its number of words and the keys of its bands.
//!
//! It keeps no text and decides nothing.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(crate) use crate::exact::exact_hash;
use crate::normal::NormalForm;
use crate::rows::{Instructions, Rows};
use crate::shingle::Shingler;
use crate::spec::{SketchSpec, SpecError};
use crate::word_hashes::WordHashes;
use crate::words::WordBlocks;

/// Most shingles hashed at once, so that a long document takes no more memory than a short one and all of them stay in
/// the nearest cache.
const BLOCK_SHINGLES: usize = 4096;

/// What the join needs of one document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sketch {
    /// First 16 bytes of BLAKE3 over the NFC text with each run of whitespace made one space and the ends trimmed;
    /// case is kept.
    pub exact: [u8; 16],
    /// Words of the normal form (at most `u32::MAX`).
    pub words: u32,
    /// One key a band; empty when the text has no words, and then only the exact hash counts.
    pub bands: Vec<u64>,
}

/// Makes sketches of one [`SketchSpec`]. Shared between threads.
#[derive(Clone, Debug)]
pub struct Sketcher {
    spec: SketchSpec,
    rows: Rows,
}

impl Sketcher {
    /// Draws the permutations of `spec`.
    ///
    /// # Errors
    /// The spec is out of its limits.
    pub fn new(spec: SketchSpec) -> Result<Self, SpecError> {
        Self::with_instructions(spec, Instructions::best())
    }

    /// As [`Self::new`], with instructions that need not be the fastest. For tests and measurements: every choice gives
    /// the same sketches.
    ///
    /// # Errors
    /// The spec is out of its limits.
    pub fn with_instructions(spec: SketchSpec, instructions: Instructions) -> Result<Self, SpecError> {
        spec.validate()?;
        Ok(Self { spec, rows: Rows::new(spec.signature_rows(), instructions) })
    }

    /// The setting this sketcher was made for.
    pub fn spec(&self) -> SketchSpec {
        self.spec
    }

    /// Exact hash, words and band keys of a text.
    pub fn sketch(&self, text: &str, form: NormalForm) -> Sketch {
        let (words, signature) = self.signed(text, form);
        Sketch { exact: exact_hash(text), words: u32::try_from(words).unwrap_or(u32::MAX), bands: self.band_keys(&signature) }
    }

    /// The minimum hashes, bands × rows of them in row order; empty when the text has no words.
    pub fn signature(&self, text: &str, form: NormalForm) -> Vec<u64> {
        self.signed(text, form).1
    }

    /// The minimum hashes of the shingles given, bands × rows of them in row order; `u64::MAX` each when there are none.
    pub fn signature_of_shingles(&self, shingles: &[u64]) -> Vec<u64> {
        let mut minima = self.rows.minima();
        shingles.chunks(BLOCK_SHINGLES).for_each(|block| self.rows.lower(&mut minima, block));
        self.rows.signature(&minima)
    }

    /// The distinct shingle hashes of a text, ascending. Takes 8 bytes a word.
    pub fn shingles(&self, text: &str, form: NormalForm) -> Vec<u64> {
        let mut shingles = Vec::new();
        self.for_each_block(text, form, |block| shingles.extend_from_slice(block));
        shingles.sort_unstable();
        shingles.dedup();
        shingles
    }

    /// Calls `visit` with the shingle hashes of a text in the order of their words, repeated ones too, up to 4,096 at a
    /// time. Returns the number of words.
    pub fn for_each_block(&self, text: &str, form: NormalForm, mut visit: impl FnMut(&[u64])) -> usize {
        let text = form.replace_placeholders(text);
        let mut shingler = Shingler::new(self.spec.shingle_words as usize);
        let mut blocks = WordBlocks::new(&text);
        let (mut hashes, mut shingles) = (WordHashes::default(), Vec::new());
        while blocks.advance() {
            shingles.clear();
            shingler.extend(hashes.hash(blocks.bytes(), blocks.words()), &mut shingles);
            shingles.chunks(BLOCK_SHINGLES).for_each(&mut visit);
        }
        if let Some(shingle) = shingler.short() {
            visit(&[shingle]);
        }
        shingler.words()
    }

    fn signed(&self, text: &str, form: NormalForm) -> (usize, Vec<u64>) {
        let mut minima = self.rows.minima();
        let words = self.for_each_block(text, form, |block| self.rows.lower(&mut minima, block));
        let signature = if words == 0 { Vec::new() } else { self.rows.signature(&minima) };
        (words, signature)
    }

    /// Key of band b: XXH3-64 with seed b of its rows as little-endian bytes.
    fn band_keys(&self, signature: &[u64]) -> Vec<u64> {
        let bytes = little_endian(signature);
        let bands = bytes.chunks_exact(self.spec.rows as usize * size_of::<u64>());
        bands.zip(0u64..).map(|(rows, band)| xxh3_64_with_seed(rows, band)).collect()
    }
}

/// Share of equal rows of two signatures of one spec, an estimate of the Jaccard similarity; 0 if either is empty.
pub fn estimate(a: &[u64], b: &[u64]) -> f64 {
    let rows = a.len().min(b.len());
    if rows == 0 {
        return 0.0;
    }
    equal_rows(a, b) as f64 / rows as f64
}

pub(crate) fn equal_rows(a: &[u64], b: &[u64]) -> usize {
    a.iter().zip(b).filter(|(x, y)| x == y).count()
}

fn little_endian(rows: &[u64]) -> Vec<u8> {
    rows.iter().flat_map(|row| row.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::permutation::permutations;

    const ASPIRIN: &str = "The patient was given Aspirin 81 mg daily.";

    fn sketcher(bands: u32, rows: u32, shingle_words: u32) -> Sketcher {
        let spec = SketchSpec { bands, rows, shingle_words };
        Sketcher::new(spec).unwrap()
    }

    fn sorted(mut hashes: Vec<u64>) -> Vec<u64> {
        hashes.sort_unstable();
        hashes
    }

    #[test]
    fn golden_shingles() {
        let shingles = sketcher(14, 8, 5).shingles(ASPIRIN, NormalForm::Plain);
        let expected = vec![0x475a_d21e_4945_b9c2, 0x24d0_e69c_4db6_50e6, 0x9330_aeb3_d748_b35b, 0x6927_2769_7282_713e];
        assert_eq!(shingles, sorted(expected));
        let two = sketcher(14, 8, 5).shingles("Two words", NormalForm::Plain);
        assert_eq!(two, [0x38d4_bc56_6310_6a46]);
    }

    #[test]
    fn golden_signature() {
        let sketcher = sketcher(14, 8, 5);
        let signature = sketcher.signature(ASPIRIN, NormalForm::Plain);
        assert_eq!(signature.len(), 112);
        assert_eq!(signature[0], 0x255f_c425_38e0_91cd);
        assert_eq!(signature[111], 0x02d3_c9ed_ff1e_ed9d);
        let bytes = little_endian(&signature);
        assert_eq!(bytes.len(), 896);
        let digest = format!("{:x}", Sha256::digest(&bytes));
        assert_eq!(digest, "aeb0bc05f8fd24251c7864d11b1f7e2468e0ddc8d7f6fb583c53791ade574d47");
        let two = sketcher.signature("Two words", NormalForm::Plain);
        assert_eq!(two[0], 0xc139_6be4_45ac_332d);
    }

    #[test]
    fn golden_band_keys() {
        let sketch = sketcher(14, 8, 5).sketch(ASPIRIN, NormalForm::Plain);
        assert_eq!((sketch.words, sketch.bands.len()), (8, 14));
        assert_eq!(sketch.bands[0], 0x8f2b_c245_9e3f_e918);
        assert_eq!(sketch.bands[13], 0x8441_5448_0c0a_cee4);
        let two = sketcher(14, 8, 5).sketch("Two words", NormalForm::Plain);
        assert_eq!((two.words, two.bands[0]), (2, 0x5465_af23_c7cb_d8ba));
    }

    #[test]
    fn a_text_without_words_has_no_bands() {
        for text in ["", "  \n", "--- !"] {
            let sketch = sketcher(14, 8, 5).sketch(text, NormalForm::Plain);
            assert_eq!((sketch.words, sketch.bands.len()), (0, 0), "{text:?}");
            assert_eq!(sketcher(14, 8, 5).signature(text, NormalForm::Plain), [0u64; 0]);
        }
    }

    #[test]
    fn other_bands_and_rows_cut_the_same_rows() {
        let long = sketcher(14, 8, 5).signature(ASPIRIN, NormalForm::Plain);
        for (bands, rows) in [(1, 1), (20, 5), (7, 16), (3, 8)] {
            let sketcher = sketcher(bands, rows, 5);
            let signature = sketcher.signature(ASPIRIN, NormalForm::Plain);
            assert_eq!(signature, long[..(bands * rows) as usize]);
            assert_eq!(sketcher.sketch(ASPIRIN, NormalForm::Plain).bands.len(), bands as usize);
        }
        // The first two bands of 8 rows have the keys that all 14 have.
        let keys = |b| sketcher(b, 8, 5).sketch(ASPIRIN, NormalForm::Plain).bands;
        assert_eq!(keys(2), keys(14)[..2]);
    }

    #[test]
    fn blocks_do_not_show() {
        // 10,000 words are three blocks; each minimum is over all of them.
        let words: Vec<String> = (0..10_000).map(|i| format!("word{i}")).collect();
        let text = words.join(" ");
        let sketcher = sketcher(2, 3, 5);
        let shingles = sketcher.shingles(&text, NormalForm::Plain);
        assert_eq!(shingles.len(), 9_996);
        assert_eq!(sketcher.signature_of_shingles(&shingles), sketcher.signature(&text, NormalForm::Plain));
        let expected: Vec<u64> = permutations(6)
            .iter()
            .map(|p| shingles.iter().map(|s| p.multiplier.wrapping_mul(*s).wrapping_add(p.increment)).min().unwrap())
            .collect();
        assert_eq!(sketcher.signature(&text, NormalForm::Plain), expected);
    }

    #[test]
    fn redeidentified_notes_have_one_sketch_but_two_exact_hashes() {
        let sketcher = sketcher(14, 8, 5);
        let of = |text| sketcher.sketch(text, NormalForm::Clinical);
        let third = of("Seen by Dr. [**Last Name 7**] on [**2151-7-16**] for chest pain.");
        let fourth = of("Seen by Dr. ___ on ___ for chest pain.");
        assert_eq!(third.bands, fourth.bands);
        assert_ne!(third.exact, fourth.exact);
        let plain = sketcher.sketch("Seen by Dr. ___ on ___ for chest pain.", NormalForm::Plain);
        assert_ne!(plain.bands, fourth.bands);
    }

    #[test]
    fn the_estimate_is_close_to_the_similarity() {
        // 2,000 words, the last 200 replaced: 1,796 common shingles of 2,196. Standard deviation sqrt(.82·.18/112) =
        // 0.036; four of them.
        let base: Vec<String> = (0..2000).map(|i| format!("w{i}")).collect();
        let other: Vec<String> = (0..2000).map(|i| if i < 1800 { format!("w{i}") } else { format!("v{i}") }).collect();
        let sketcher = sketcher(14, 8, 5);
        let signature = |words: &[String]| sketcher.signature(&words.join(" "), NormalForm::Plain);
        let got = estimate(&signature(&base), &signature(&other));
        assert!((got - 1796.0 / 2196.0).abs() < 0.146, "{got}");
        assert!(estimate(&signature(&base), &[]).abs() < f64::EPSILON);
    }

    #[test]
    fn all_instructions_give_the_same_sketches() {
        let words: Vec<String> = (0..9_000).map(|i| format!("Word{} µ{i}", i % 700)).collect();
        for (bands, rows) in [(14, 8), (20, 5), (3, 3)] {
            let spec = SketchSpec { bands, rows, shingle_words: 5 };
            for text in ["", "Two words", ASPIRIN, &words[..300].join(" "), &words.join(", ")] {
                let expected = sketcher(bands, rows, 5).sketch(text, NormalForm::Plain);
                for instructions in Instructions::available() {
                    let sketcher = Sketcher::with_instructions(spec, instructions).unwrap();
                    assert_eq!(sketcher.sketch(text, NormalForm::Plain), expected, "{}", instructions.name());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn case_and_punctuation_do_not_change_the_bands(text in "[a-z0-9]{1,8}( [a-z0-9]{1,8}){0,40}") {
            let sketcher = sketcher(14, 8, 5);
            let changed = format!("({})!", text.to_uppercase().replace(' ', ", "));
            let bands = |t: &str| sketcher.sketch(t, NormalForm::Plain).bands;
            assert_eq!(bands(&text), bands(&changed));
        }

        #[test]
        fn any_text_is_sketched(text in any::<String>()) {
            for form in [NormalForm::Plain, NormalForm::Clinical] {
                let sketch = sketcher(3, 2, 4).sketch(&text, form);
                assert_eq!(sketch.bands.is_empty(), sketch.words == 0);
            }
        }
    }
}
