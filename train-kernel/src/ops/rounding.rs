//! Rounding to what a buffer holds: the processor keeps every value in its own width and rounds where a GPU would store bf16.

use crate::backend::Dtype;
use crate::real::Real;

/// What is done to values when they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Nothing.
    Exact,
    /// To the nearest bf16, ties to even.
    Bf16,
}

impl Rounding {
    /// That of a buffer's type.
    pub fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 | Dtype::Remainder => Self::Exact,
            Dtype::Bf16 => Self::Bf16,
        }
    }

    /// Whether it changes anything.
    pub fn rounds(self) -> bool {
        self == Self::Bf16
    }

    /// Rounds values in place.
    #[inline]
    pub fn apply<R: Real>(self, values: &mut [R]) {
        if self.rounds() {
            for value in values {
                *value = value.to_bf16();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rounding;
    use crate::real::Real;

    #[test]
    fn bf16_rounding_is_that_of_the_half_crate() {
        // Every upper half with the lower halves around a tie, NaN and infinities included.
        for high in 0..=u16::MAX {
            for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff_u32] {
                let value = f32::from_bits(u32::from(high) << 16 | low);
                let expected = half::bf16::from_f32(value).to_f32();
                let got = value.to_bf16();
                assert!(got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(), "{value:e}: {got:e}");
                assert_eq!(f64::from(value).to_bf16().is_nan(), expected.is_nan());
            }
        }
        let mut values = [1.0_f32, 1.0 + 1.0 / 512.0, -1.0 - 3.0 / 512.0];
        Rounding::Exact.apply(&mut values);
        assert_eq!(values[1].to_bits(), (1.0_f32 + 1.0 / 512.0).to_bits());
        Rounding::Bf16.apply(&mut values);
        assert_eq!(values.map(f32::to_bits), [1.0_f32, 1.0, -1.0 - 1.0 / 128.0].map(f32::to_bits));
    }
}
