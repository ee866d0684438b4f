//! A full-precision weight in two halves of 16 bits: the bf16 that the model computes with, and the remainder that makes it whole.
//!
//! The working half is the weight rounded to bf16, ties away from zero: `working = (bits + 0x8000) >> 16`. The remainder is the
//! lower half of the bits; read as a signed number it says how far the working half is off, also where rounding carried:
//! `bits = (working << 16) + signed remainder`, in 32 bits that wrap. Every pattern but NaN comes back bit for bit: zeros of both
//! signs, subnormal numbers, ties, infinities. Weights above the largest bf16 by half a spacing or more, 3.3961775e38, have the
//! infinity as their working half, as rounding to nearest gives, and come back finite. Every NaN is stored as one quiet NaN, for
//! the rounding of others would carry into a number.

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSliceMut};

use crate::ops::adamw::CHUNK;
use crate::real::Real;

/// A weight as a card stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halves {
    /// A bf16.
    pub working: u16,
    /// The lower half of the weight's bits.
    pub remainder: u16,
}

impl Halves {
    /// The halves of a weight.
    #[inline]
    pub fn of(weight: f32) -> Self {
        let bits = if weight.is_nan() { f32::QUIET_NAN } else { weight }.to_bits();
        Self { working: (bits.wrapping_add(0x8000) >> 16) as u16, remainder: bits as u16 }
    }

    /// The weight that they are of.
    #[inline]
    pub fn whole(self) -> f32 {
        let remainder = i32::from(self.remainder.cast_signed());
        f32::from_bits((u32::from(self.working) << 16).wrapping_add_signed(remainder))
    }
}

/// `working =` what [`Halves`] has of `whole`, in elements of one width; `whole` keeps all of the weights.
///
/// # Panics
/// When the lengths differ.
pub fn round<R: Real>(whole: &mut [R], working: &mut [R]) {
    assert_eq!(whole.len(), working.len(), "split: weights and their rounding");
    whole.par_chunks_mut(CHUNK).zip(working.par_chunks_mut(CHUNK)).for_each(|(whole, working)| {
        for (whole, working) in whole.iter_mut().zip(working) {
            *working = whole.to_bf16_away();
            if Real::is_nan(*whole) {
                *whole = R::QUIET_NAN;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{Halves, round};
    use crate::real::Real;

    fn check(bits: u32) {
        let weight = f32::from_bits(bits);
        let halves = Halves::of(weight);
        let expected = if weight.is_nan() { 0x7fc0_0000 } else { bits };
        assert_eq!(halves.whole().to_bits(), expected, "{bits:08x}");
        let working = f32::from_bits(u32::from(halves.working) << 16);
        assert_eq!(working.to_bits(), weight.to_bf16_away().to_bits(), "{bits:08x}");
        // The magnitude is rounded to nearest, ties up: in exact arithmetic, since spacings halve and double with the exponent.
        let (near, given) = (f64::from(working), f64::from(weight));
        if working.is_finite() && halves.remainder != 0x8000 {
            assert_eq!(working.to_bits(), half::bf16::from_f32(weight).to_f32().to_bits(), "{bits:08x}: nearest");
        } else if working.is_finite() {
            assert!(near.abs() > given.abs(), "{bits:08x}: a tie goes away from zero");
        }
    }

    #[test]
    fn every_weight_comes_back_bit_for_bit() {
        // Every upper half, with lower halves at and around the tie and at their ends: all ties, both signs, subnormal numbers,
        // overflow to infinity, infinities and NaN among them.
        for high in 0..=u16::MAX {
            for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                check(u32::from(high) << 16 | low);
            }
        }
        for index in 0..2_000_000_u32 {
            check(index.wrapping_mul(0x9e37_79b9));
        }
    }

    #[test]
    fn what_is_no_ordinary_number() {
        let halves = |bits: u32| {
            let Halves { working, remainder } = Halves::of(f32::from_bits(bits));
            (working, remainder)
        };
        assert_eq!(halves(0x7f7f_7fff), (0x7f7f, 0x7fff), "the last that rounds to the largest bf16");
        assert_eq!(halves(0x7f7f_8000), (0x7f80, 0x8000), "the first that rounds to infinity");
        assert_eq!(halves(f32::MAX.to_bits()), (0x7f80, 0xffff));
        assert_eq!(halves(f32::NEG_INFINITY.to_bits()), (0xff80, 0));
        assert_eq!(halves(0x8000_0001), (0x8000, 1), "a subnormal number rounds to zero of its sign");
        for nan in [0x7f80_0001, 0x7fff_ffff, 0xff80_0001, 0xffff_ffff] {
            assert_eq!(halves(nan), (0x7fc0, 0));
        }
    }

    #[test]
    fn one_width_keeps_the_whole_and_the_same_working_half() {
        let weights: Vec<f32> = (0..70_000_u32).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9))).collect();
        let (mut whole, mut working) = (weights.clone(), vec![0.0; weights.len()]);
        round(&mut whole, &mut working);
        for ((weight, whole), working) in weights.iter().zip(&whole).zip(&working) {
            let halves = Halves::of(*weight);
            assert_eq!(whole.to_bits(), halves.whole().to_bits());
            assert_eq!(working.to_bits(), u32::from(halves.working) << 16);
        }
    }
}
