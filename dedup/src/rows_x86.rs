//! Minimum hashes with the vector instructions of x86-64.
//!
//! The loop order: the minima of a few registers of rows stay in registers while the shingles, which lie in the nearest
//! cache, are broadcast one by one. The other order (a row broadcast, shingles side by side) needs a last step across the
//! lanes for every row and block. Nothing here knows what the rows mean.
#![expect(unsafe_code, reason = "vector loads and functions for processors that have the instructions")]

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_add_epi64, _mm256_blendv_epi8, _mm256_cmpgt_epi64, _mm256_loadu_si256, _mm256_mul_epu32,
    _mm256_set1_epi64x, _mm256_slli_epi64, _mm256_srli_epi64, _mm256_storeu_si256, _mm256_xor_si256, _mm512_add_epi64,
    _mm512_loadu_si512, _mm512_min_epu64, _mm512_mullo_epi64, _mm512_set1_epi64, _mm512_storeu_si512,
};

use crate::rows::{RowLanes, Rows};

/// Rows of a register of AVX2.
type HalfLanes = [u64; 4];

/// Registers of minima that AVX-512 keeps; with the multipliers and increments 21 of its 32 registers.
const AVX512_GROUP: usize = 7;

/// Registers of minima that AVX2 keeps; multipliers and increments are read again for each shingle.
const AVX2_GROUP: usize = 4;

/// Says that the processor has AVX-512 with 64-bit multiplication (F and DQ). Only [`Self::detect`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq")).then_some(Self(()))
    }

    /// Lowers each row's minimum by the shingles.
    #[expect(clippy::unused_self, reason = "it is the proof that the processor has the instructions")]
    pub(crate) fn lower(self, rows: &Rows, minima: &mut [RowLanes], shingles: &[u64]) {
        // SAFETY: `self` was made by `detect`, so the processor has the features that the function asks for.
        unsafe { lower_avx512(rows, minima, shingles) }
    }
}

/// Says that the processor has AVX2. Only [`Self::detect`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    /// Lowers each row's minimum by the shingles.
    #[expect(clippy::unused_self, reason = "it is the proof that the processor has the instructions")]
    pub(crate) fn lower(self, rows: &Rows, minima: &mut [RowLanes], shingles: &[u64]) {
        // SAFETY: `self` was made by `detect`, so the processor has the feature that the function asks for.
        unsafe { lower_avx2(rows, minima, shingles) }
    }
}

#[target_feature(enable = "avx512f,avx512dq")]
fn lower_avx512(rows: &Rows, minima: &mut [RowLanes], shingles: &[u64]) {
    let (groups, rest) = minima.as_chunks_mut::<AVX512_GROUP>();
    let (multipliers, rest_multipliers) = rows.multipliers.as_chunks();
    let (increments, rest_increments) = rows.increments.as_chunks();
    for (group, (multipliers, increments)) in groups.iter_mut().zip(multipliers.iter().zip(increments)) {
        lower_group_avx512(multipliers, increments, group, shingles);
    }
    for (lanes, (multipliers, increments)) in rest.iter_mut().zip(rest_multipliers.iter().zip(rest_increments)) {
        lower_group_avx512(&[*multipliers], &[*increments], std::array::from_mut(lanes), shingles);
    }
}

#[target_feature(enable = "avx512f,avx512dq")]
fn lower_group_avx512<const N: usize>(
    multipliers: &[RowLanes; N],
    increments: &[RowLanes; N],
    minima: &mut [RowLanes; N],
    shingles: &[u64],
) {
    let (mut factors, mut terms, mut least) = ([_mm512_set1_epi64(0); N], [_mm512_set1_epi64(0); N], [_mm512_set1_epi64(0); N]);
    for i in 0..N {
        factors[i] = load_512(&multipliers[i]);
        terms[i] = load_512(&increments[i]);
        least[i] = load_512(&minima[i]);
    }
    for &shingle in shingles {
        let shingle = _mm512_set1_epi64(shingle.cast_signed());
        for i in 0..N {
            let hash = _mm512_add_epi64(_mm512_mullo_epi64(factors[i], shingle), terms[i]);
            least[i] = _mm512_min_epu64(least[i], hash);
        }
    }
    for i in 0..N {
        // SAFETY: a `RowLanes` has the 64 bytes that are written; the instruction asks for no alignment.
        unsafe { _mm512_storeu_si512(minima[i].as_mut_ptr().cast(), least[i]) };
    }
}

#[target_feature(enable = "avx512f,avx512dq")]
fn load_512(lanes: &RowLanes) -> __m512i {
    // SAFETY: a `RowLanes` has the 64 bytes that are read; the instruction asks for no alignment.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn lower_avx2(rows: &Rows, minima: &mut [RowLanes], shingles: &[u64]) {
    let (minima, _) = minima.as_flattened_mut().as_chunks_mut::<4>();
    let (multipliers, _) = rows.multipliers.as_flattened().as_chunks::<4>();
    let (increments, _) = rows.increments.as_flattened().as_chunks::<4>();
    let (groups, rest) = minima.as_chunks_mut::<AVX2_GROUP>();
    let (multipliers, rest_multipliers) = multipliers.as_chunks();
    let (increments, rest_increments) = increments.as_chunks();
    for (group, (multipliers, increments)) in groups.iter_mut().zip(multipliers.iter().zip(increments)) {
        lower_group_avx2(multipliers, increments, group, shingles);
    }
    for (lanes, (multipliers, increments)) in rest.iter_mut().zip(rest_multipliers.iter().zip(rest_increments)) {
        lower_group_avx2(&[*multipliers], &[*increments], std::array::from_mut(lanes), shingles);
    }
}

/// AVX2 multiplies 32 by 32 bits and compares signed numbers alone. So the product of a and s mod 2⁶⁴ is
/// `lo(a)·lo(s) + ((hi(a)·lo(s) + lo(a)·hi(s)) << 32)`, and everything that is compared has its highest bit turned over:
/// in the increment before the loop (adding 2⁶³ turns it too) and in the minima before and after it.
#[target_feature(enable = "avx2")]
fn lower_group_avx2<const N: usize>(
    multipliers: &[HalfLanes; N],
    increments: &[HalfLanes; N],
    minima: &mut [HalfLanes; N],
    shingles: &[u64],
) {
    let zero = _mm256_set1_epi64x(0);
    let sign = _mm256_set1_epi64x(i64::MIN);
    let (mut low, mut high, mut terms, mut least) = ([zero; N], [zero; N], [zero; N], [zero; N]);
    for i in 0..N {
        low[i] = load_256(&multipliers[i]);
        high[i] = _mm256_srli_epi64::<32>(low[i]);
        terms[i] = _mm256_xor_si256(load_256(&increments[i]), sign);
        least[i] = _mm256_xor_si256(load_256(&minima[i]), sign);
    }
    for &shingle in shingles {
        let shingle_low = _mm256_set1_epi64x(shingle.cast_signed());
        let shingle_high = _mm256_set1_epi64x((shingle >> 32).cast_signed());
        for i in 0..N {
            let cross = _mm256_add_epi64(_mm256_mul_epu32(high[i], shingle_low), _mm256_mul_epu32(low[i], shingle_high));
            let product = _mm256_add_epi64(_mm256_mul_epu32(low[i], shingle_low), _mm256_slli_epi64::<32>(cross));
            let hash = _mm256_add_epi64(product, terms[i]);
            least[i] = _mm256_blendv_epi8(least[i], hash, _mm256_cmpgt_epi64(least[i], hash));
        }
    }
    for i in 0..N {
        let least = _mm256_xor_si256(least[i], sign);
        // SAFETY: a `HalfLanes` has the 32 bytes that are written; the instruction asks for no alignment.
        unsafe { _mm256_storeu_si256(minima[i].as_mut_ptr().cast(), least) };
    }
}

#[target_feature(enable = "avx2")]
fn load_256(lanes: &HalfLanes) -> __m256i {
    // SAFETY: a `HalfLanes` has the 32 bytes that are read; the instruction asks for no alignment.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}
