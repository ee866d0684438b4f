//! Rotary positions (Su and others 2021) in the half-split layout of Hugging Face: for i below D/2, the
//! elements i and i + D/2 turn together by position · frequency i, which is theta^(-2i/D) before any scaling.
//!
//! The position counts inside the document; where documents begin is the caller's knowledge. Angles are computed in f64 and
//! kept in the width of the backend, also where values are bf16.

use std::f64::consts::PI;

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSlice, ParallelSliceMut};

use crate::backend::Turn;
use crate::ops::rounding::Rounding;
use crate::ops::{Heads, ROW_BLOCK};
use crate::real::Real;
use crate::shape::{RopeScaling, Shape};

/// Cosines and sines of every position and pair, `(positions, D/2)`.
#[derive(Clone, Debug)]
pub struct RotationTable<R> {
    half: usize,
    cosines: Vec<R>,
    sines: Vec<R>,
}

impl<R: Real> RotationTable<R> {
    /// The table of a model for documents of up to `positions` tokens.
    pub fn new(shape: &Shape, positions: usize) -> Self {
        let frequencies = frequencies(shape);
        let angles = (0..positions).flat_map(|position| frequencies.iter().map(move |f| position as f64 * f));
        let (sines, cosines) = angles.map(f64::sin_cos).map(|(sine, cosine)| (R::from_f64(sine), R::from_f64(cosine))).unzip();
        Self { half: shape.head_width() / 2, cosines, sines }
    }

    /// `(positions, D/2)`
    pub(crate) fn cosines(&self) -> &[R] {
        &self.cosines
    }

    /// `(positions, D/2)`
    pub(crate) fn sines(&self) -> &[R] {
        &self.sines
    }

    /// Turns queries and keys of `fused (N, (H + 2K) D)` in place by `positions (N)`; rounded.
    ///
    /// # Panics
    /// When the extents do not fit together, or a position is past the table.
    pub fn rotate(&self, heads: Heads, positions: &[u32], (fused, rounding): (&mut [R], Rounding), turn: Turn) {
        let row = heads.fused_width();
        let turned = heads.width() + heads.kv_width();
        assert_eq!(fused.len(), positions.len() * row, "rotation: rows");
        let sign = match turn {
            Turn::Forward => R::ONE,
            Turn::Back => -R::ONE,
        };
        fused.par_chunks_mut(ROW_BLOCK * row).zip(positions.par_chunks(ROW_BLOCK)).for_each(|(fused, positions)| {
            for (fused, &position) in fused.chunks_exact_mut(row).zip(positions) {
                let fused = &mut fused[..turned];
                fused.chunks_exact_mut(heads.head_width).for_each(|head| self.turn(position, head, sign));
                rounding.apply(fused);
            }
        });
    }

    /// Turns one head's row in place.
    #[inline]
    fn turn(&self, position: u32, head: &mut [R], sign: R) {
        let half = self.half;
        let start = position as usize * half;
        let (cosines, sines) = (&self.cosines[start..start + half], &self.sines[start..start + half]);
        let (first, second) = head[..2 * half].split_at_mut(half);
        for i in 0..half {
            let (cosine, sine) = (cosines[i], sign * sines[i]);
            let (x, y) = (first[i], second[i]);
            first[i] = x * cosine - y * sine;
            second[i] = y * cosine + x * sine;
        }
    }
}

/// The frequency of each pair, `(D/2)`.
fn frequencies(shape: &Shape) -> Vec<f64> {
    let width = shape.head_width();
    let plain = (0..width / 2).map(|i| shape.rope_theta.powf(-2.0 * i as f64 / width as f64));
    match &shape.rope_scaling {
        None => plain.collect(),
        Some(RopeScaling::Linear { factor }) => plain.map(|frequency| frequency / factor).collect(),
        Some(RopeScaling::Llama3(scaling)) => plain.map(|frequency| scaling.apply(frequency)).collect(),
    }
}

impl crate::shape::Llama3Scaling {
    /// The scaled frequency, as Hugging Face's `rope_type = "llama3"`: waves longer than the original context divided by the
    /// low factor are slowed by the whole factor, those shorter than it divided by the high factor not at all, and what
    /// lies between goes smoothly from one to the other.
    fn apply(&self, frequency: f64) -> f64 {
        let original = self.original_max_positions as f64;
        let waves = original * frequency / (2.0 * PI);
        if waves < self.low_frequency_factor {
            return frequency / self.factor;
        }
        if waves > self.high_frequency_factor {
            return frequency;
        }
        let smooth = (waves - self.low_frequency_factor) / (self.high_frequency_factor - self.low_frequency_factor);
        (1.0 - smooth) * frequency / self.factor + smooth * frequency
    }
}

#[cfg(test)]
mod tests {
    use super::{RotationTable, frequencies};
    use crate::backend::Turn;
    use crate::ops::Heads;
    use crate::ops::rounding::Rounding;
    use crate::ops::vjp::{check_gradient, dot, random};
    use crate::shape::{Llama3Scaling, RopeScaling, Shape};

    const HEADS: Heads = Heads { heads: 4, kv_heads: 2, head_width: 6 };

    fn shape(theta: f64) -> Shape {
        let tiny = Shape::named("tiny", 10).unwrap();
        Shape { width: 24, heads: 4, kv_heads: 2, max_positions: 64, rope_theta: theta, ..tiny }
    }

    fn rotate(table: &RotationTable<f64>, fused: &[f64], positions: &[u32], turn: Turn) -> Vec<f64> {
        let mut turned = fused.to_vec();
        table.rotate(HEADS, positions, (&mut turned, Rounding::Exact), turn);
        turned
    }

    #[test]
    fn gradient_of_the_rotation() {
        let table = RotationTable::new(&shape(100.0), 64);
        let positions: Vec<u32> = (0..70).map(|row| [0, 1, 2, 0, 1, 0, 1, 2, 3, 7][row % 10]).collect();
        let fused = random(1, positions.len() * HEADS.fused_width());
        let dout = random(2, fused.len());
        let dfused = rotate(&table, &dout, &positions, Turn::Back);
        check_gradient("fused", &fused, &dfused, 1e-7, &|fused| dot(&rotate(&table, fused, &positions, Turn::Forward), &dout));
    }

    #[test]
    fn pairs_turn_by_the_published_angle_and_values_stay() {
        let table = RotationTable::new(&shape(10_000.0), 64);
        let fused: Vec<f64> = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0].repeat(8);
        let turned = rotate(&table, &fused, &[3], Turn::Forward);
        for (i, angle) in [3.0, 3.0 * 10_000_f64.powf(-1.0 / 3.0), 3.0 * 10_000_f64.powf(-2.0 / 3.0)].iter().enumerate() {
            for head in 0..6 {
                let head = &turned[head * 6..];
                assert!((head[i] - angle.cos()).abs() < 1e-15 && (head[i + 3] - angle.sin()).abs() < 1e-15, "{i}");
            }
        }
        assert_eq!(turned[36..], fused[36..]);
    }

    #[test]
    fn scalar_products_depend_on_the_distance_alone() {
        let table = RotationTable::new(&shape(10_000.0), 64);
        let (q, k) = (random(1, HEADS.fused_width()), random(2, HEADS.fused_width()));
        let product = |first: u32, second: u32| {
            let turned = [(&q, first), (&k, second)].map(|(row, at)| rotate(&table, row, &[at], Turn::Forward));
            dot(&turned[0][..6], &turned[1][..6])
        };
        assert!((product(7, 3) - product(49, 45)).abs() < 1e-12);
        assert!((product(7, 3) - product(49, 44)).abs() > 1e-3);
    }

    #[test]
    fn golden_frequencies_of_llama_3_1() {
        // inv_freq of transformers 5.23.0, which computes in f32, for theta 500,000, factor 8, low 1, high 4, 8,192 positions and
        // D = 128: short waves, the step between, long waves.
        const GOLDEN: [(usize, f64); 10] = [
            (0, 1.0),
            (16, 0.037_606_030_702_590_94),
            (28, 0.003_211_446_106_433_868_4),
            (29, 0.002_166_570_629_924_535_8),
            (30, 0.001_371_893_682_517_111_3),
            (32, 0.000_524_846_022_017_300_1),
            (34, 0.000_178_507_791_133_597_5),
            (36, 7.784_655_463_183_299e-5),
            (48, 6.647_869_668_086_059e-6),
            (63, 3.068_925_877_869_333e-7),
        ];
        let scaling =
            Llama3Scaling { factor: 8.0, low_frequency_factor: 1.0, high_frequency_factor: 4.0, original_max_positions: 8192 };
        let shape = Shape {
            rope_theta: 500_000.0,
            rope_scaling: Some(RopeScaling::Llama3(scaling)),
            ..Shape::named("llama-2-7b", 32_000).unwrap()
        };
        let got = frequencies(&shape);
        for (pair, expected) in GOLDEN {
            // f32 keeps 24 bits, and a power and some quotients lose a few.
            assert!((got[pair] / expected - 1.0).abs() < 1e-6, "pair {pair}: {} {expected}", got[pair]);
        }
    }

    #[test]
    fn linear_scaling_divides_positions() {
        let scaled = Shape { rope_scaling: Some(RopeScaling::Linear { factor: 4.0 }), ..shape(10_000.0) };
        let (scaled, plain) = (RotationTable::new(&scaled, 64), RotationTable::new(&shape(10_000.0), 64));
        let fused = random(3, HEADS.fused_width());
        let (slow, fast) = (rotate(&scaled, &fused, &[40], Turn::Forward), rotate(&plain, &fused, &[10], Turn::Forward));
        assert!(slow.iter().zip(&fast).all(|(slow, fast)| (slow - fast).abs() < 1e-13));
    }
}
