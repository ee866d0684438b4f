//! Embedding rows by token id, and the sum of their gradients.
//!
//! The backward sorts the rows by token and adds each token's in row order: no atomics, one result.

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSliceMut};

use crate::ops::ROW_BLOCK;
use crate::real::Real;

/// Table rows that one parallel task of the backward takes.
const TABLE_BLOCK: usize = 256;

/// `out (N, C) =` the rows of `table (V, C)` for `tokens (N)`.
///
/// # Panics
/// When a token is not below V.
pub fn forward<R: Real>(table: &[R], tokens: &[u32], out: &mut [R], width: usize) {
    assert_eq!(out.len(), tokens.len() * width, "embedding: output");
    out.par_chunks_mut(ROW_BLOCK * width).enumerate().for_each(|(block, out)| {
        let tokens = &tokens[block * ROW_BLOCK..];
        for (out, &token) in out.chunks_exact_mut(width).zip(tokens) {
            out.copy_from_slice(&table[token as usize * width..][..width]);
        }
    });
}

/// `dtable (V, C) +=` the rows of `dout (N, C)` by token; `order (N)` is scratch.
///
/// # Panics
/// When a token is not below V.
pub fn backward<R: Real>(tokens: &[u32], dout: &[R], order: &mut [u32], dtable: &mut [R], width: usize) {
    assert!(dout.len() == tokens.len() * width && order.len() == tokens.len(), "embedding backward: extents");
    for (index, place) in order.iter_mut().enumerate() {
        *place = index as u32;
    }
    // The index is part of the key: equal tokens stay in row order.
    order.sort_unstable_by_key(|&row| (tokens[row as usize], row));
    let order = &*order;
    if let Some(&last) = order.last() {
        assert!((tokens[last as usize] as usize + 1) * width <= dtable.len(), "embedding backward: token outside the table");
    }
    dtable.par_chunks_mut(TABLE_BLOCK * width).enumerate().for_each(|(block, dtable)| {
        let first = (block * TABLE_BLOCK) as u32;
        let begin = order.partition_point(|&row| tokens[row as usize] < first);
        for &row in &order[begin..] {
            let place = (tokens[row as usize] - first) as usize * width;
            let Some(dtable) = dtable.get_mut(place..place + width) else {
                break;
            };
            for (sum, gradient) in dtable.iter_mut().zip(&dout[row as usize * width..][..width]) {
                *sum += *gradient;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{backward, forward};
    use crate::ops::vjp::{check_gradient, dot, random};

    #[test]
    fn gradient_of_the_embedding() {
        let (vocabulary, width) = (700, 5);
        let tokens: Vec<u32> = (0..90).map(|row| [0, 699, 256, 255, 3, row * 7 % 700][row as usize % 6]).collect();
        let (table, dout) = (random(1, vocabulary * width), random(2, tokens.len() * width));
        let value = |table: &[f64]| {
            let mut out = vec![0.0; dout.len()];
            forward(table, &tokens, &mut out, width);
            dot(&out, &dout)
        };
        let (mut dtable, mut order) = (vec![0.0; table.len()], vec![0; tokens.len()]);
        backward(&tokens, &dout, &mut order, &mut dtable, width);
        check_gradient("table", &table, &dtable, 1e-7, &value);
        assert!(dtable[width..3 * width].iter().all(|gradient| *gradient == 0.0), "unused rows stay untouched");
    }

    #[test]
    #[should_panic(expected = "token outside the table")]
    fn a_token_outside_the_table_is_refused() {
        backward(&[4], &[1.0_f32], &mut [0], &mut [0.0; 4], 1);
    }
}
