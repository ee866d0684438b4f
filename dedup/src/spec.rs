//! The numbers of a sketch (bands, rows, words a shingle), their limits, and the S-curve that follows from them.
//!
//! It computes no hash: those are in `sketch`.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Version of the hash specification. Sketches of two versions never meet in one join.
pub const SPEC_VERSION: u32 = 1;

/// Most rows (bands × rows per band) of one signature; 4,096 rows are 32 KiB a document.
pub const MAX_ROWS: u32 = 4096;

/// Most words of one shingle.
pub const MAX_SHINGLE_WORDS: u32 = 64;

/// How a document is sketched: `bands` × `rows` minimum hashes over shingles of `shingle_words` words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SketchSpec {
    /// Bands of a signature; two documents are candidates when one band is equal.
    pub bands: u32,
    /// Rows of a band.
    pub rows: u32,
    /// Consecutive words of a shingle.
    pub shingle_words: u32,
}

impl Default for SketchSpec {
    /// 14 bands of 8 rows over 5-word shingles, the setting of `FineWeb`.
    fn default() -> Self {
        Self { bands: 14, rows: 8, shingle_words: 5 }
    }
}

impl SketchSpec {
    /// Checks the limits.
    ///
    /// # Errors
    /// Names the first number that is zero or too large.
    pub fn validate(&self) -> Result<(), SpecError> {
        let checks = [
            ("bands", self.bands, MAX_ROWS),
            ("rows", self.rows, MAX_ROWS),
            ("shingle_words", self.shingle_words, MAX_SHINGLE_WORDS),
        ];
        for (key, got, most) in checks {
            if got == 0 || got > most {
                return Err(SpecError::OutOfRange { key, got, most });
            }
        }
        let got = u64::from(self.bands) * u64::from(self.rows);
        if got > u64::from(MAX_ROWS) {
            return Err(SpecError::TooManyRows { got });
        }
        Ok(())
    }

    /// Minimum hashes of one signature: bands × rows.
    pub fn signature_rows(&self) -> usize {
        self.bands as usize * self.rows as usize
    }

    /// Probability that two documents of Jaccard similarity `s` share a band: 1 − (1 − sʳ)ᵇ.
    ///
    /// Plain multiplications in one fixed order, so the result is the same on every machine.
    pub fn candidate_probability(&self, s: f64) -> f64 {
        let band = power(s, self.rows);
        1.0 - power(1.0 - band, self.bands)
    }

    /// What a manifest prints: the effective setting and its curve at .5, .6, .7, .75, .8, .85, .9, .95.
    pub fn summary(&self) -> SketchSummary {
        let similarities = [0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95];
        let (major, minor, patch) = unicode_normalization::UNICODE_VERSION;
        let (std_major, std_minor, std_patch) = char::UNICODE_VERSION;
        SketchSummary {
            spec_version: SPEC_VERSION,
            bands: self.bands,
            rows: self.rows,
            shingle_words: self.shingle_words,
            permutations: self.signature_rows() as u64,
            unicode_normalization: format!("{major}.{minor}.{patch}"),
            unicode_letters: format!("{std_major}.{std_minor}.{std_patch}"),
            curve: similarities
                .map(|similarity| CurvePoint { similarity, probability: self.candidate_probability(similarity) })
                .to_vec(),
        }
    }
}

/// One point of the S-curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Jaccard similarity of the two shingle sets, 0 to 1.
    pub similarity: f64,
    /// Probability that the pair becomes a candidate, 0 to 1.
    pub probability: f64,
}

/// The effective sketch setting as a manifest records it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SketchSummary {
    /// [`SPEC_VERSION`] of the code that made the sketches.
    pub spec_version: u32,
    /// Bands of a signature.
    pub bands: u32,
    /// Rows of a band.
    pub rows: u32,
    /// Words of a shingle.
    pub shingle_words: u32,
    /// Bands × rows.
    pub permutations: u64,
    /// Unicode version of the normalization tables.
    pub unicode_normalization: String,
    /// Unicode version of the lowercase and letter tables.
    pub unicode_letters: String,
    /// Probability of a candidate pair by similarity.
    pub curve: Vec<CurvePoint>,
}

/// A sketch setting outside its limits.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SpecError {
    /// One number is zero or too large.
    #[error("dedup: {key}: got {got}, expected 1 to {most}; the default is 14 bands of 8 rows over 5 words")]
    OutOfRange {
        /// Name of the recipe key.
        key: &'static str,
        /// Its value.
        got: u32,
        /// Largest value allowed.
        most: u32,
    },
    /// The product is too large.
    #[error("dedup: bands × rows: got {got}, expected at most {MAX_ROWS}; use fewer bands or rows")]
    TooManyRows {
        /// Bands × rows.
        got: u64,
    },
}

fn power(base: f64, exponent: u32) -> f64 {
    (0..exponent).fold(1.0, |product, _| product * base)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_curve(bands: u32, rows: u32, thousandths: [u32; 8]) {
        let spec = SketchSpec { bands, rows, shingle_words: 5 };
        let rounded = |p: &CurvePoint| (p.probability * 1000.0).round() as u32;
        let got: Vec<u32> = spec.summary().curve.iter().map(rounded).collect();
        assert_eq!(got, thousandths, "{bands} x {rows}");
    }

    #[test]
    fn golden_curves() {
        check_curve(14, 8, [53, 211, 565, 772, 924, 988, 1000, 1000]);
        check_curve(26, 11, [13, 90, 405, 674, 903, 991, 1000, 1000]);
        check_curve(20, 13, [2, 26, 177, 382, 677, 924, 997, 1000]);
        // By hand: 0.95^13 = 0.5133 and 1 - 0.4867^9 = 0.99847.
        check_curve(9, 13, [1, 12, 84, 195, 399, 686, 929, 998]);
        check_curve(14, 9, [27, 132, 438, 665, 867, 975, 999, 1000]);
        check_curve(20, 5, [470, 802, 975, 996, 1000, 1000, 1000, 1000]);
    }

    fn check_refused(bands: u32, rows: u32, shingle_words: u32, expected: &str) {
        let spec = SketchSpec { bands, rows, shingle_words };
        let message = spec.validate().map_err(|e| e.to_string());
        match expected {
            "" => assert_eq!(message, Ok(())),
            _ => assert!(message.unwrap_err().contains(expected), "{spec:?}"),
        }
    }

    #[test]
    fn limits() {
        check_refused(14, 8, 5, "");
        check_refused(1, 1, 1, "");
        check_refused(64, 64, 64, "");
        check_refused(0, 8, 5, "bands: got 0");
        check_refused(14, 0, 5, "rows: got 0");
        check_refused(14, 8, 0, "shingle_words: got 0");
        check_refused(14, 8, 65, "shingle_words: got 65");
        check_refused(64, 65, 5, "bands × rows: got 4160");
        check_refused(u32::MAX, u32::MAX, 5, "bands: got 4294967295");
    }

    #[test]
    fn the_manifest_names_the_unicode_versions() {
        let summary = SketchSpec::default().summary();
        assert_eq!(summary.permutations, 112);
        for version in [summary.unicode_normalization, summary.unicode_letters] {
            let major: u32 = version.split('.').next().unwrap().parse().unwrap();
            assert!(major >= 15, "{version}");
        }
    }
}
