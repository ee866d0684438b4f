//! Matrix products on strided views.
//!
//! A product is cut into tiles that depend on its extents alone and are computed in parallel; each element of the result
//! is summed inside one tile, in an order that its inner extent and the machine's type fix. The tiles are faer's.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator, ParallelSliceMut};

use crate::ops::reduce::dot;
use crate::ops::rounding::Rounding;
use crate::real::Real;

/// Multiply-adds of one tile: about a millisecond of one processor.
const TILE_WORK: usize = 1 << 25;
/// No tile is cut below this extent: packing its operands would cost more than it saves.
const TILE_EXTENT: usize = 128;
/// Tiles begin at multiples of this, the largest register block of the product.
const TILE_ALIGNMENT: usize = 32;

/// Columns that one task of a single row's product takes.
const ROW_COLUMNS: usize = 64;

/// A row-major matrix to read, whose rows begin `row_stride` elements apart.
///
/// # Panics
/// When the data end before the last row does, or rows would overlap.
pub fn matrix<R: Real>(data: &[R], rows: usize, columns: usize, row_stride: usize) -> MatRef<'_, R> {
    assert!(columns <= row_stride, "matrix: rows of {columns} begin {row_stride} elements apart");
    MatRef::from_column_major_slice_with_stride(data, columns, rows, row_stride).transpose()
}

/// The same to write.
///
/// # Panics
/// As [`matrix`].
pub fn matrix_mut<R: Real>(data: &mut [R], rows: usize, columns: usize, row_stride: usize) -> MatMut<'_, R> {
    assert!(columns <= row_stride, "matrix: rows of {columns} begin {row_stride} elements apart");
    // Not `from_row_major_slice_with_stride_mut`, which in faer 0.24.4 exchanges the strides and leaves the slice.
    MatMut::from_column_major_slice_with_stride_mut(data, columns, rows, row_stride).transpose_mut()
}

/// The rows of a row-major matrix as slices.
///
/// # Panics
/// When the elements of a row have gaps between them.
pub fn rows_mut<R: Real>(matrix: MatMut<'_, R>) -> impl Iterator<Item = &mut [R]> {
    matrix.row_iter_mut().map(|row| row.try_as_row_major_mut().expect("rows of a row-major matrix have no gaps").as_slice_mut())
}

/// The rows of a row-major matrix as slices.
///
/// # Panics
/// When the elements of a row have gaps between them.
pub fn rows<R: Real>(matrix: MatRef<'_, R>) -> impl Iterator<Item = &[R]> {
    matrix.row_iter().map(|row| row.try_as_row_major().expect("rows of a row-major matrix have no gaps").as_slice())
}

/// A product's factor, whether it is added, and how the result is rounded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms<R> {
    /// Factor.
    pub alpha: R,
    /// Whether `c` keeps what it holds.
    pub accumulate: bool,
    /// What `c` holds.
    pub rounding: Rounding,
}

impl<R: Real> Terms<R> {
    /// The plain product, not rounded.
    pub fn plain() -> Self {
        Self { alpha: R::ONE, accumulate: false, rounding: Rounding::Exact }
    }

    /// The product times `alpha`, not rounded.
    pub fn scaled(alpha: R) -> Self {
        Self { alpha, ..Self::plain() }
    }

    /// The same, added.
    #[must_use]
    pub fn added(self) -> Self {
        Self { accumulate: true, ..self }
    }
}

/// `c = alpha a b`, or `c += alpha a b`, in parallel; `c`, row-major, is read only where the product is added.
///
/// # Panics
/// When the extents do not fit together.
pub fn multiply<R: Real>(terms: Terms<R>, a: MatRef<'_, R>, b: MatRef<'_, R>, mut c: MatMut<'_, R>) {
    check_extents(a, b, &c);
    if c.nrows() == 1 && multiply_row(terms, a, b, c.as_mut()) {
        return;
    }
    let (tile_rows, tile_columns) = tile(c.nrows(), c.ncols(), a.ncols());
    let mut tiles = Vec::new();
    for (row, band) in cut_rows(c, tile_rows) {
        tiles.extend(cut_columns(band, tile_columns).map(|(column, tile)| (row, column, tile)));
    }
    let compute = |(row, column, tile): (usize, usize, MatMut<'_, R>)| {
        let (rows, columns) = (tile.nrows(), tile.ncols());
        multiply_serial(terms, a.subrows(row, rows), b.subcols(column, columns), tile);
    };
    if tiles.len() == 1 {
        tiles.into_iter().for_each(compute);
    } else {
        tiles.into_par_iter().for_each(compute);
    }
}

/// The same on the calling thread, for the small products inside a parallel task.
///
/// # Panics
/// When the extents do not fit together.
pub fn multiply_serial<R: Real>(terms: Terms<R>, a: MatRef<'_, R>, b: MatRef<'_, R>, mut c: MatMut<'_, R>) {
    check_extents(a, b, &c);
    let accumulate = if terms.accumulate { Accum::Add } else { Accum::Replace };
    matmul(c.as_mut(), accumulate, a, b, terms.alpha, Par::Seq);
    if terms.rounding.rounds() {
        rows_mut(c).for_each(|row| terms.rounding.apply(row));
    }
}

/// Bands of `height` rows with the row each begins at.
fn cut_rows<R: Real>(c: MatMut<'_, R>, height: usize) -> impl Iterator<Item = (usize, MatMut<'_, R>)> {
    let mut rest = Some(c);
    let mut row = 0;
    std::iter::from_fn(move || {
        let matrix = rest.take().filter(|matrix| matrix.nrows() > 0)?;
        let size = matrix.nrows().min(height);
        let (band, below) = matrix.split_at_row_mut(size);
        rest = Some(below);
        row += size;
        Some((row - size, band))
    })
}

/// Blocks of `width` columns with the column each begins at.
pub fn cut_columns<R: Real>(c: MatMut<'_, R>, width: usize) -> impl Iterator<Item = (usize, MatMut<'_, R>)> {
    let mut rest = Some(c);
    let mut column = 0;
    std::iter::from_fn(move || {
        let matrix = rest.take().filter(|matrix| matrix.ncols() > 0)?;
        let size = matrix.ncols().min(width);
        let (block, right) = matrix.split_at_col_mut(size);
        rest = Some(right);
        column += size;
        Some((column - size, block))
    })
}

/// One row times a matrix whose columns are contiguous, as in generation token by token: scalar products, since packing
/// the matrix would cost more than the product. False when the operands lie otherwise.
fn multiply_row<R: Real>(terms: Terms<R>, a: MatRef<'_, R>, b: MatRef<'_, R>, c: MatMut<'_, R>) -> bool {
    let Some(row) = a.row(0).try_as_row_major() else { return false };
    let columns = b.transpose();
    if columns.ncols() > 1 && columns.col_stride() != 1 {
        return false;
    }
    let row = row.as_slice();
    let Some(out) = rows_mut(c).next() else { return false };
    out.par_chunks_mut(ROW_COLUMNS).enumerate().for_each(|(block, out)| {
        let first = block * ROW_COLUMNS;
        let columns = columns.subrows(first, out.len());
        for (out, column) in out.iter_mut().zip(rows(columns)) {
            let product = terms.alpha * dot(row, column);
            *out = if terms.accumulate { *out + product } else { product };
        }
        terms.rounding.apply(out);
    });
    true
}

fn check_extents<R: Real>(a: MatRef<'_, R>, b: MatRef<'_, R>, c: &MatMut<'_, R>) {
    assert!(
        a.nrows() == c.nrows() && b.ncols() == c.ncols() && a.ncols() == b.nrows(),
        "matrix product: {}x{} by {}x{} into {}x{}",
        a.nrows(),
        a.ncols(),
        b.nrows(),
        b.ncols(),
        c.nrows(),
        c.ncols()
    );
}

/// The tile of a product of these extents: the longer side is halved until the work fits.
fn tile(rows: usize, columns: usize, inner: usize) -> (usize, usize) {
    let (mut high, mut wide) = (rows.max(1), columns.max(1));
    while high.saturating_mul(wide).saturating_mul(inner) > TILE_WORK && high.max(wide) > TILE_EXTENT {
        let longer = if high >= wide { &mut high } else { &mut wide };
        *longer = longer.div_ceil(2).next_multiple_of(TILE_ALIGNMENT);
        // Rounding up must not stop the halving.
        if *longer <= TILE_EXTENT {
            *longer = TILE_EXTENT;
        }
    }
    (high, wide)
}

#[cfg(test)]
mod tests {
    use super::{Rounding, TILE_EXTENT, TILE_WORK, Terms, cut_columns, matrix, matrix_mut, multiply, multiply_serial, tile};
    use crate::random::{Purpose, Stream};
    use crate::real::Real;

    fn random<R: Real>(tensor: usize, length: usize) -> Vec<R> {
        let stream = Stream::new(3, Purpose::Initialisation, 0, tensor);
        (0..length as u64).map(|element| R::from_f64(stream.normal(element))).collect()
    }

    fn naive(a: &[f64], b: &[f64], extents: [usize; 3], row: usize, column: usize) -> f64 {
        let [_, n, k] = extents;
        (0..k).map(|inner| a[row * k + inner] * b[inner * n + column]).sum()
    }

    #[test]
    fn products_of_odd_extents_match_the_definition() {
        for extents in [[1, 1, 1], [3, 5, 7], [17, 33, 9], [130, 65, 257], [0, 3, 2], [2, 3, 0]] {
            let [m, n, k] = extents;
            let (a, b, before) = (random::<f64>(1, m * k), random::<f64>(2, k * n), random::<f64>(3, m * n));
            let (mut added, mut written) = (before.clone(), vec![f64::NAN; m * n]);
            let (left, right) = (matrix(&a, m, k, k), matrix(&b, k, n, n));
            multiply(Terms::scaled(2.0).added(), left, right, matrix_mut(&mut added, m, n, n));
            multiply(Terms::scaled(2.0), left, right, matrix_mut(&mut written, m, n, n));
            for row in 0..m {
                for column in 0..n {
                    let product = 2.0 * naive(&a, &b, extents, row, column);
                    let at = row * n + column;
                    // k products of size about 1, each rounded: k times 2^-52 with room for their spread.
                    let bound = 1e-14 * (k as f64 + 4.0);
                    assert!((added[at] - before[at] - product).abs() < bound, "{extents:?}");
                    assert!((written[at] - product).abs() < bound, "{extents:?}: what was there is not read");
                }
            }
        }
    }

    #[test]
    fn views_transpose_and_select_columns() {
        let (m, n, k) = (6, 4, 5);
        let (a, b) = (random::<f64>(1, m * k), random::<f64>(2, n * k));
        // b is [n, k]: its transpose is read; c is the middle columns of a matrix of width 9.
        let mut wide = vec![7.0; m * 9];
        let target = matrix_mut(&mut wide[2..], m, n, 9);
        multiply(Terms::plain(), matrix(&a, m, k, k), matrix(&b, n, k, k).transpose(), target);
        let mut plain = vec![0.0; m * n];
        let bt: Vec<f64> = (0..k * n).map(|i| b[i % n * k + i / n]).collect();
        multiply_serial(Terms::plain(), matrix(&a, m, k, k), matrix(&bt, k, n, n), matrix_mut(&mut plain, m, n, n));
        for row in 0..m {
            for column in 0..n {
                assert!((wide[row * 9 + 2 + column] - plain[row * n + column]).abs() < 1e-14);
            }
            assert_eq!(wide[row * 9..row * 9 + 2], [7.0, 7.0]);
            assert_eq!(wide[row * 9 + 6..row * 9 + 9], [7.0, 7.0, 7.0]);
        }
    }

    #[test]
    fn a_single_row_is_the_same_product() {
        for (n, k) in [(1, 1), (70, 33), (200, 64)] {
            let (a, b, before) = (random::<f64>(1, k), random::<f64>(2, n * k), random::<f64>(3, n));
            let (mut row, mut tile) = (before.clone(), before);
            let columns = matrix(&b, n, k, k).transpose();
            let terms = Terms::scaled(2.0).added();
            multiply(terms, matrix(&a, 1, k, k), columns, matrix_mut(&mut row, 1, n, n));
            multiply_serial(terms, matrix(&a, 1, k, k), columns, matrix_mut(&mut tile, 1, n, n));
            for (row, tile) in row.iter().zip(&tile) {
                assert!((row - tile).abs() < 1e-14 * k as f64);
            }
            row.fill(f64::NAN);
            multiply(Terms::plain(), matrix(&a, 1, k, k), columns, matrix_mut(&mut row, 1, n, n));
            assert!(row.iter().all(|value| value.is_finite()), "what was there is not read");
        }
    }

    #[test]
    fn results_are_rounded_once_where_asked() {
        let (m, n, k) = (9, 300, 70);
        let (a, b) = (random::<f32>(1, m * k), random::<f32>(2, n * k));
        let product = |rounding: Rounding, rows: usize| {
            let mut c = vec![0.0; rows * n];
            let terms = Terms { rounding, ..Terms::plain() };
            multiply(terms, matrix(&a, rows, k, k), matrix(&b, n, k, k).transpose(), matrix_mut(&mut c, rows, n, n));
            c
        };
        for rows in [1, m] {
            let mut exact = product(Rounding::Exact, rows);
            let rounded = product(Rounding::Bf16, rows);
            assert_ne!(exact, rounded);
            Rounding::Bf16.apply(&mut exact);
            assert_eq!(exact, rounded);
        }
    }

    #[test]
    fn determinism_of_a_product_in_many_tiles() {
        let (m, n, k) = (700, 650, 300);
        assert_ne!(tile(m, n, k), (m, n), "the product must be cut for this test to show anything");
        let (a, b) = (random::<f32>(1, m * k), random::<f32>(2, k * n));
        let product = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut c = vec![0.0; m * n];
            pool.install(|| {
                multiply(Terms::plain(), matrix(&a, m, k, k), matrix(&b, k, n, n), matrix_mut(&mut c, m, n, n));
            });
            c
        };
        let alone = product(1);
        assert_eq!(alone, product(2));
        assert_eq!(alone, product(4));
        let (a, b): (Vec<f64>, Vec<f64>) = (a.iter().map(|x| f64::from(*x)).collect(), b.iter().map(|x| f64::from(*x)).collect());
        for (row, column) in [(0, 0), (699, 649), (351, 326), (352, 0)] {
            let error = (f64::from(alone[row * n + column]) - naive(&a, &b, [m, n, k], row, column)).abs();
            assert!(error < 1e-4, "{row} {column}: {error}");
        }
    }

    #[test]
    fn tiles_bound_the_work_and_cover_the_product() {
        for (m, n, k) in [(1, 1, 1), (2048, 256, 256), (32_000, 64, 256), (256, 32_000, 4096), (1, 1_000_000, 4096)] {
            let (high, wide) = tile(m, n, k);
            assert!(high <= m.max(TILE_EXTENT) && wide <= n.max(TILE_EXTENT), "{m} {n} {k}");
            assert!(high * wide * k <= TILE_WORK || high.max(wide) <= TILE_EXTENT, "{m} {n} {k}: {high} {wide}");
        }
    }

    #[test]
    fn columns_are_cut_without_rest() {
        let mut data = [0.0_f32; 14];
        let widths: Vec<(usize, usize)> =
            cut_columns(matrix_mut(&mut data, 2, 7, 7), 3).map(|(column, block)| (column, block.ncols())).collect();
        assert_eq!(widths, [(0, 3), (3, 3), (6, 1)]);
    }

    #[test]
    #[should_panic(expected = "matrix product: 2x3 by 2x2 into 2x2")]
    fn extents_that_do_not_fit_are_refused() {
        let data = [0.0_f32; 6];
        let mut c = [0.0; 4];
        multiply(Terms::plain(), matrix(&data, 2, 3, 3), matrix(&data, 2, 2, 2), matrix_mut(&mut c, 2, 2, 2));
    }

    #[test]
    #[should_panic(expected = "last < len")]
    fn a_view_past_its_data_is_refused() {
        let _ = matrix(&[0.0_f32; 5], 2, 3, 3);
    }

    #[test]
    #[should_panic(expected = "rows of 3 begin 2 elements apart")]
    fn rows_that_overlap_are_refused() {
        let _ = matrix(&[0.0_f32; 9], 2, 3, 2);
    }
}
