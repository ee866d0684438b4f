//! Rotary positions (Su and others 2021) in the half-split layout of Hugging Face: for i below D/2, the
//! elements i and i + D/2 turn together by position theta^(-2i/D).
//!
//! Rotation is fused with the change of layout between projections (token-major) and attention (head-major). The position
//! counts inside the document; where documents begin is the caller's knowledge.

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSliceMut};

use crate::ops::ROW_BLOCK;
use crate::real::Real;

/// Cosines and sines of every position and pair, `(positions, D/2)`, computed in f64.
#[derive(Clone, Debug)]
pub struct RotationTable {
    half: usize,
    cosines: Vec<f64>,
    sines: Vec<f64>,
}

/// The extents of the heads of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Query heads (H).
    pub heads: usize,
    /// Key-value heads (K).
    pub kv_heads: usize,
    /// Head width (D).
    pub head_width: usize,
    /// Tokens of a sequence (T).
    pub length: usize,
}

impl Heads {
    /// Width of a token-major row of queries, keys and values, (H + 2K) D.
    pub fn fused_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_width
    }
}

impl RotationTable {
    /// The table for `positions` positions of heads of width `head_width` (even).
    pub fn new(positions: usize, head_width: usize, theta: f64) -> Self {
        let half = head_width / 2;
        let frequencies: Vec<f64> = (0..half).map(|i| theta.powf(-2.0 * i as f64 / head_width as f64)).collect();
        let angles = (0..positions).flat_map(|position| frequencies.iter().map(move |f| position as f64 * f));
        let (sines, cosines) = angles.map(f64::sin_cos).unzip();
        Self { half, cosines, sines }
    }

    /// `out (D) =` the row turned forward by its position.
    #[inline]
    fn turn<R: Real>(&self, position: u32, row: &[R], out: &mut [R]) {
        self.turn_signed(position, row, out, R::ONE);
    }

    /// `out (D) =` the row turned back, which is the gradient of [`Self::turn`].
    #[inline]
    fn turn_back<R: Real>(&self, position: u32, row: &[R], out: &mut [R]) {
        self.turn_signed(position, row, out, -R::ONE);
    }

    #[inline]
    fn turn_signed<R: Real>(&self, position: u32, row: &[R], out: &mut [R], sign: R) {
        let half = self.half;
        let start = position as usize * half;
        let (cosines, sines) = (&self.cosines[start..start + half], &self.sines[start..start + half]);
        let (first, second) = (&row[..half], &row[half..2 * half]);
        let (out_first, out_second) = out[..2 * half].split_at_mut(half);
        for i in 0..half {
            let (cosine, sine) = (R::from_f64(cosines[i]), sign * R::from_f64(sines[i]));
            out_first[i] = first[i] * cosine - second[i] * sine;
            out_second[i] = second[i] * cosine + first[i] * sine;
        }
    }

    /// Splits `fused (B, T, (H + 2K) D)` into `q (B, H, T, D) =`, `k (B, K, T, D) =`, both turned by `positions (B, T)`,
    /// and `v (B, K, T, D) =`.
    ///
    /// # Panics
    /// When the extents do not fit together.
    pub fn split<R: Real>(&self, heads: Heads, fused: &[R], positions: &[u32], (q, k, v): (&mut [R], &mut [R], &mut [R])) {
        let (h, kv) = (heads.heads, heads.kv_heads);
        let turned = Some(positions);
        let parts = [(q, 0, h, turned), (k, h, kv, turned), (v, h + kv, kv, None)];
        for (out, first_head, count, positions) in parts {
            assert_eq!(out.len() * heads.fused_width(), fused.len() * count * heads.head_width, "rotation: heads");
            self.split_part(heads, fused, positions, out, [first_head, count]);
        }
    }

    /// One of queries, keys and values; turned where there are positions.
    fn split_part<R: Real>(
        &self,
        heads: Heads,
        fused: &[R],
        positions: Option<&[u32]>,
        out: &mut [R],
        [first_head, count]: [usize; 2],
    ) {
        let (length, width, row) = (heads.length, heads.head_width, heads.fused_width());
        out.par_chunks_mut(length * width).enumerate().for_each(|(task, out)| {
            let (sequence, head) = (task / count, first_head + task % count);
            for (place, out) in out.chunks_exact_mut(width).enumerate() {
                let token = sequence * length + place;
                let input = &fused[token * row + head * width..][..width];
                match positions {
                    Some(positions) => self.turn(positions[token], input, out),
                    None => out.copy_from_slice(input),
                }
            }
        });
    }

    /// `fused (B, T, (H + 2K) D) =` the gradient of [`Self::split`], from `dq`, `dk` and `dv` of the same layout.
    ///
    /// # Panics
    /// When the extents do not fit together.
    pub fn join<R: Real>(&self, heads: Heads, (dq, dk, dv): (&[R], &[R], &[R]), positions: &[u32], fused: &mut [R]) {
        let (h, kv) = (heads.heads, heads.kv_heads);
        let (length, width, row) = (heads.length, heads.head_width, heads.fused_width());
        assert_eq!(fused.len(), positions.len() * row, "rotation backward: rows");
        fused.par_chunks_mut(ROW_BLOCK * row).enumerate().for_each(|(block, fused)| {
            for (index, fused) in fused.chunks_exact_mut(row).enumerate() {
                let token = block * ROW_BLOCK + index;
                let (sequence, place) = (token / length, token % length);
                let at = |heads: usize, head: usize| ((sequence * heads + head) * length + place) * width;
                for (head, out) in fused.chunks_exact_mut(width).enumerate() {
                    if head < h {
                        self.turn_back(positions[token], &dq[at(h, head)..][..width], out);
                    } else if head < h + kv {
                        self.turn_back(positions[token], &dk[at(kv, head - h)..][..width], out);
                    } else {
                        out.copy_from_slice(&dv[at(kv, head - h - kv)..][..width]);
                    }
                }
            }
        });
    }
}

/// `out (B, T, H D) =` the rows of `heads_major (B, H, T, D)`, token by token.
///
/// # Panics
/// When the extents do not fit together.
pub fn to_tokens<R: Real>(heads: Heads, head_major: &[R], out: &mut [R]) {
    let (h, length, width) = (heads.heads, heads.length, heads.head_width);
    let row = h * width;
    assert_eq!(head_major.len(), out.len(), "layout change: extents");
    out.par_chunks_mut(ROW_BLOCK * row).enumerate().for_each(|(block, out)| {
        for (index, out) in out.chunks_exact_mut(row).enumerate() {
            let token = block * ROW_BLOCK + index;
            let (sequence, place) = (token / length, token % length);
            for (head, out) in out.chunks_exact_mut(width).enumerate() {
                out.copy_from_slice(&head_major[((sequence * h + head) * length + place) * width..][..width]);
            }
        }
    });
}

/// `out (B, H, T, D) =` the heads of `token_major (B, T, H D)`: the inverse of [`to_tokens`], and its gradient.
///
/// # Panics
/// When the extents do not fit together.
pub fn to_heads<R: Real>(heads: Heads, token_major: &[R], out: &mut [R]) {
    let (h, length, width) = (heads.heads, heads.length, heads.head_width);
    assert_eq!(token_major.len(), out.len(), "layout change: extents");
    out.par_chunks_mut(length * width).enumerate().for_each(|(task, out)| {
        let (sequence, head) = (task / h, task % h);
        for (place, out) in out.chunks_exact_mut(width).enumerate() {
            out.copy_from_slice(&token_major[((sequence * length + place) * h + head) * width..][..width]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{Heads, RotationTable, to_heads, to_tokens};
    use crate::ops::vjp::{check_gradient, dot, random};

    const HEADS: Heads = Heads { heads: 4, kv_heads: 2, head_width: 6, length: 5 };

    fn split(table: &RotationTable, fused: &[f64], positions: &[u32]) -> [Vec<f64>; 3] {
        let tokens = positions.len();
        let [mut q, mut k, mut v] = [4, 2, 2].map(|heads| vec![0.0; tokens * heads * 6]);
        table.split(HEADS, fused, positions, (&mut q, &mut k, &mut v));
        [q, k, v]
    }

    #[test]
    fn gradient_of_the_rotation() {
        let table = RotationTable::new(8, 6, 100.0);
        let positions = [0, 1, 2, 0, 1, 0, 1, 2, 3, 7];
        let fused = random(1, positions.len() * HEADS.fused_width());
        let [dq, dk, dv] = [(2, 4), (3, 2), (4, 2)].map(|(tensor, heads)| random(tensor, positions.len() * heads * 6));
        let mut dfused = vec![0.0; fused.len()];
        table.join(HEADS, (&dq, &dk, &dv), &positions, &mut dfused);
        check_gradient("fused", &fused, &dfused, 1e-7, &|fused| {
            let [q, k, v] = split(&table, fused, &positions);
            dot(&q, &dq) + dot(&k, &dk) + dot(&v, &dv)
        });
    }

    #[test]
    fn pairs_turn_by_the_published_angle() {
        let table = RotationTable::new(4, 6, 10_000.0);
        let mut out = [0.0; 6];
        table.turn(3, &[1.0_f64, 1.0, 1.0, 0.0, 0.0, 0.0], &mut out);
        for (i, angle) in [3.0, 3.0 * 10_000_f64.powf(-1.0 / 3.0), 3.0 * 10_000_f64.powf(-2.0 / 3.0)].iter().enumerate() {
            assert!((out[i] - angle.cos()).abs() < 1e-15 && (out[i + 3] - angle.sin()).abs() < 1e-15, "{i}");
        }
    }

    #[test]
    fn scalar_products_depend_on_the_distance_alone() {
        let table = RotationTable::new(50, 6, 10_000.0);
        let (q, k) = (random(1, 6), random(2, 6));
        let product = |first: u32, second: u32| {
            let (mut a, mut b) = ([0.0; 6], [0.0; 6]);
            table.turn(first, &q, &mut a);
            table.turn(second, &k, &mut b);
            dot(&a, &b)
        };
        assert!((product(7, 3) - product(49, 45)).abs() < 1e-12);
        assert!((product(7, 3) - product(49, 44)).abs() > 1e-3);
    }

    #[test]
    fn layout_changes_are_inverse() {
        let tokens = random(1, 10 * 24);
        let (mut heads, mut back) = (vec![0.0; tokens.len()], vec![0.0; tokens.len()]);
        to_heads(HEADS, &tokens, &mut heads);
        assert_ne!(heads, tokens);
        to_tokens(HEADS, &heads, &mut back);
        assert_eq!(back, tokens);
        // Sequence 1, head 2, place 3, element 4.
        assert_eq!(heads[((4 + 2) * 5 + 3) * 6 + 4].to_bits(), tokens[(5 + 3) * 24 + 2 * 6 + 4].to_bits());
    }
}
