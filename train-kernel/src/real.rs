//! The floating-point widths that the model computes in: `f32` for training, `f64` for gradient checks.
//!
//! Nothing here allocates or depends on the processor: `f32`'s exponential is a fixed sequence of IEEE additions and
//! multiplications, so it gives the same bits on every machine and vectorises in plain loops.

use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

mod sealed {
    /// Keeps [`super::Real`] to the two widths that the matrix product has a kernel for.
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A floating-point width: implemented by `f32` and `f64` alone.
pub trait Real:
    Copy
    + Default
    + PartialEq
    + PartialOrd
    + Debug
    + Display
    + Send
    + Sync
    + Sum
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + faer::traits::RealField
    + sealed::Sealed
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Minus infinity, the start of every maximum.
    const NEG_INFINITY: Self;
    /// The quiet NaN that stands for every other where NaN is stored.
    const QUIET_NAN: Self;
    /// `"f32"` or `"f64"`.
    const NAME: &'static str;

    /// The nearest value of this width.
    fn from_f64(value: f64) -> Self;
    /// Exact.
    fn to_f64(self) -> f64;
    /// e to the power of `self`; 0 far below the smallest normal number, infinity above the largest.
    #[must_use]
    fn exp(self) -> Self;
    /// The square root, correctly rounded.
    #[must_use]
    fn square_root(self) -> Self;
    /// Whether the value is neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// Whether the value is NaN.
    fn is_nan(self) -> bool;
    /// The nearest bf16, ties to even; NaN stays NaN. From f64 by way of f32.
    #[must_use]
    fn to_bf16(self) -> Self;
    /// The nearest bf16, ties away from zero; [`Self::QUIET_NAN`] for every NaN. From f64 by way of f32.
    #[must_use]
    fn to_bf16_away(self) -> Self;
    /// A bf16 next to the value: of the 65,536 values of `draw`, as many give the one farther from zero as the value is 65,536ths of
    /// the way there; [`Self::QUIET_NAN`] for every NaN. From f64 by way of f32.
    #[must_use]
    fn to_bf16_by(self, draw: u16) -> Self;

    /// The larger of the two; `self` when `other` is NaN.
    #[must_use]
    fn maximum(self, other: Self) -> Self {
        if other > self { other } else { self }
    }

    /// The absolute value.
    #[must_use]
    fn absolute(self) -> Self {
        if self < Self::ZERO { -self } else { self }
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f32::NEG_INFINITY;
    const QUIET_NAN: Self = f32::from_bits(0x7fc0_0000);
    const NAME: &'static str = "f32";

    fn from_f64(value: f64) -> Self {
        value as f32
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    #[inline]
    fn exp(self) -> Self {
        exp_f32(self)
    }

    #[inline]
    fn square_root(self) -> Self {
        f32::sqrt(self)
    }

    #[inline]
    fn is_finite(self) -> bool {
        f32::is_finite(self)
    }

    #[inline]
    fn is_nan(self) -> bool {
        f32::is_nan(self)
    }

    #[inline]
    fn to_bf16(self) -> Self {
        let bits = self.to_bits();
        // Half of the last place kept, less one where the place is even: the sum carries exactly when rounding up.
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
        f32::from_bits(if self.is_nan() { bits } else { rounded })
    }

    #[inline]
    fn to_bf16_away(self) -> Self {
        // Magnitudes grow with the bits: half of the last place kept carries on both sides of zero.
        if self.is_nan() { Self::QUIET_NAN } else { f32::from_bits(self.to_bits().wrapping_add(0x8000) & 0xffff_0000) }
    }

    #[inline]
    fn to_bf16_by(self, draw: u16) -> Self {
        if self.is_nan() { Self::QUIET_NAN } else { f32::from_bits(self.to_bits().wrapping_add(u32::from(draw)) & 0xffff_0000) }
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f64::NEG_INFINITY;
    const QUIET_NAN: Self = f64::NAN;
    const NAME: &'static str = "f64";

    fn from_f64(value: f64) -> Self {
        value
    }

    fn to_f64(self) -> f64 {
        self
    }

    #[inline]
    fn exp(self) -> Self {
        f64::exp(self)
    }

    #[inline]
    fn square_root(self) -> Self {
        f64::sqrt(self)
    }

    #[inline]
    fn is_finite(self) -> bool {
        f64::is_finite(self)
    }

    #[inline]
    fn is_nan(self) -> bool {
        f64::is_nan(self)
    }

    #[inline]
    fn to_bf16(self) -> Self {
        f64::from((self as f32).to_bf16())
    }

    #[inline]
    fn to_bf16_away(self) -> Self {
        f64::from((self as f32).to_bf16_away())
    }

    #[inline]
    fn to_bf16_by(self, draw: u16) -> Self {
        f64::from((self as f32).to_bf16_by(draw))
    }
}

/// ln 2 in two parts: the high one has 9 bits, so that its product with a whole exponent below 2^15 is exact.
const LN2_HIGH: f32 = 355.0 / 512.0;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Adding and subtracting 1.5 x 2^23 rounds a float below 2^22 to a whole number (to even at ties).
const ROUND: f32 = 12_582_912.0;

/// e^x without branches: x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial of degree 7 in r (Taylor, error below 6e-9
/// relative, under a tenth of a float's spacing), times 2^n in two factors so that the whole range is covered.
#[inline]
fn exp_f32(x: f32) -> f32 {
    // Beyond these bounds the result is 0 or infinity anyway; NaN passes both comparisons unchanged.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * (r * r) + r + 1.0;
    // The low bits of `rounded` are n, whole and within -151..=129: half of it, rounded down, and the rest are each a
    // normal exponent. For NaN they are anything, and p is NaN. Wrapping, so that the loop stays free of checks.
    let n = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    let first = f32::from_bits((half.wrapping_add(127) as u32) << 23);
    let second = f32::from_bits((n.wrapping_sub(half).wrapping_add(127) as u32) << 23);
    p * first * second
}

#[cfg(test)]
mod tests {
    use super::{Real, exp_f32};

    #[test]
    fn exp_is_within_two_spacings_of_the_f64_value() {
        let mut worst = 0.0_f64;
        for step in 0..2_000_000 {
            let x = -87.0 + 175.5 * (f64::from(step) / 2_000_000.0);
            let x = x as f32;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp_f32(x)) - exact).abs() / exact);
        }
        // A float's spacing is 2^-23 = 1.19e-7 relative; the polynomial's additions and the last two products each
        // round once (half a spacing).
        assert!(worst < 2.4e-7, "worst relative error {worst}");
    }

    #[test]
    fn exp_covers_the_whole_line() {
        let check = |x: f32, expected: f32| {
            assert_eq!(exp_f32(x).to_bits(), expected.to_bits(), "exp({x})");
        };
        check(0.0, 1.0);
        check(-0.0, 1.0);
        check(f32::NEG_INFINITY, 0.0);
        check(f32::INFINITY, f32::INFINITY);
        check(1000.0, f32::INFINITY);
        check(-1000.0, 0.0);
        assert!(exp_f32(f32::NAN).is_nan());
        assert!(exp_f32(-100.0) > 0.0, "subnormal results are kept");
    }

    #[test]
    fn maximum_and_absolute() {
        assert_eq!(Real::maximum(1.0_f64, 2.0).to_bits(), 2.0_f64.to_bits());
        assert_eq!(Real::maximum(1.0_f32, f32::NAN).to_bits(), 1.0_f32.to_bits());
        assert_eq!(Real::absolute(-3.5_f32).to_bits(), 3.5_f32.to_bits());
    }

    #[test]
    fn a_draw_decides_between_neighbours() {
        let by = |bits: u32, draw: u16| f32::from_bits(bits).to_bf16_by(draw).to_bits();
        // 0x4000 of 0x10000 of the way: the upper quarter of the draws goes on, on both sides of zero.
        for sign in [0, 0x8000_0000] {
            assert_eq!(by(sign | 0x3f80_4000, 0xbfff), sign | 0x3f80_0000);
            assert_eq!(by(sign | 0x3f80_4000, 0xc000), sign | 0x3f81_0000);
            assert_eq!(by(sign | 0x3f80_0000, 0xffff), sign | 0x3f80_0000, "a bf16 stays");
            assert_eq!(by(sign, 0xffff), sign, "so does zero");
            assert_eq!(by(sign | 0x7f80_0000, 0xffff), sign | 0x7f80_0000, "and infinity");
            assert_eq!(by(sign | 0x7f7f_8000, 0x7fff), sign | 0x7f7f_0000);
            assert_eq!(by(sign | 0x7f7f_8000, 0x8000), sign | 0x7f80_0000, "above the largest bf16 lies infinity");
            assert_eq!(by(sign | 0x7fff_ffff, 0xffff), 0x7fc0_0000);
            assert_eq!(by(sign | 0x7f80_0001, 0), 0x7fc0_0000);
        }
    }
}
