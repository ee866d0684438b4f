//! Matrix products on strided views: the one place where raw pointers are used.
//!
//! A product is cut into tiles that depend on its extents alone and are computed in parallel; each element of the result
//! is summed inside one tile, in an order that its inner extent fixes. No allocation of its own.

use std::marker::PhantomData;

use rayon::prelude::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator, ParallelSliceMut};

use crate::ops::reduce::dot;
use crate::real::Real;

/// Multiply-adds of one tile: about a millisecond of one processor.
const TILE_WORK: usize = 1 << 25;
/// No tile is cut below this extent: packing its operands would cost more than it saves.
const TILE_EXTENT: usize = 128;
/// Tiles begin at multiples of this, the largest register block of the product.
const TILE_ALIGNMENT: usize = 32;

/// Columns that one task of a single row's product takes.
const ROW_COLUMNS: usize = 64;

/// A matrix to read: any strides.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, R> {
    data: &'a [R],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, R: Real> Matrix<'a, R> {
    /// A row-major matrix without gaps.
    ///
    /// # Panics
    /// When `data` does not have exactly `rows * columns` elements.
    pub fn new(data: &'a [R], rows: usize, columns: usize) -> Self {
        assert_eq!(Some(data.len()), rows.checked_mul(columns), "matrix of {rows} x {columns}");
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// A row-major matrix whose rows begin `row_stride` elements apart: columns of a wider one.
    ///
    /// # Panics
    /// When `data` ends before the last row does, or rows would overlap.
    pub fn strided(data: &'a [R], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, row_stride), "matrix outside its data");
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The same elements with rows and columns exchanged; nothing moves.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// A matrix to write, row-major.
#[derive(Debug)]
pub struct MatrixMut<'a, R> {
    data: &'a mut [R],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a, R: Real> MatrixMut<'a, R> {
    /// A row-major matrix without gaps.
    ///
    /// # Panics
    /// When `data` does not have exactly `rows * columns` elements.
    pub fn new(data: &'a mut [R], rows: usize, columns: usize) -> Self {
        assert_eq!(Some(data.len()), rows.checked_mul(columns), "matrix of {rows} x {columns}");
        Self { data, rows, columns, row_stride: columns }
    }

    /// Columns of a wider row-major matrix: rows begin `row_stride` elements apart.
    ///
    /// # Panics
    /// When `data` ends before the last row does, or rows would overlap.
    pub fn strided(data: &'a mut [R], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, row_stride), "matrix outside its data");
        Self { data, rows, columns, row_stride }
    }
}

/// Whether rows of a strided matrix neither overlap nor leave its data; every offset then fits an `isize`.
fn fits(length: usize, rows: usize, columns: usize, row_stride: usize) -> bool {
    let last = rows.saturating_sub(1).checked_mul(row_stride).and_then(|start| start.checked_add(columns));
    let inside = rows == 0 || columns == 0 || last.is_some_and(|last| last <= length);
    columns <= row_stride && isize::try_from(row_stride).is_ok() && inside
}

/// `c = alpha a b + beta c`, in parallel; `c` is not read when beta is 0.
///
/// # Panics
/// When the extents do not fit together.
pub fn multiply<R: Real>(alpha: R, a: Matrix<'_, R>, b: Matrix<'_, R>, beta: R, c: MatrixMut<'_, R>) {
    check_extents(&a, &b, &c);
    if a.rows == 1 && a.column_stride == 1 && b.row_stride == 1 {
        multiply_row(alpha, &a, &b, beta, &mut c.data[..c.columns]);
        return;
    }
    let target = Target::new(c);
    let (tile_rows, tile_columns) = tile(target.rows, target.columns, a.columns);
    let across = target.columns.div_ceil(tile_columns.max(1));
    let down = target.rows.div_ceil(tile_rows.max(1));
    let compute = |index: usize| {
        let row = index / across * tile_rows;
        let column = index % across * tile_columns;
        let rows = tile_rows.min(target.rows - row);
        let columns = tile_columns.min(target.columns - column);
        target.compute([row, column, rows, columns], alpha, &a, &b, beta);
    };
    if across * down == 1 {
        compute(0);
    } else {
        (0..across * down).into_par_iter().for_each(compute);
    }
}

/// One row times a matrix whose columns are contiguous, as in generation token by token: scalar products, since packing
/// the matrix would cost more than the product.
fn multiply_row<R: Real>(alpha: R, a: &Matrix<'_, R>, b: &Matrix<'_, R>, beta: R, c: &mut [R]) {
    let (inner, stride, data) = (a.columns, b.column_stride, b.data);
    let row = &a.data[..inner];
    c.par_chunks_mut(ROW_COLUMNS).enumerate().for_each(|(block, c)| {
        for (index, c) in c.iter_mut().enumerate() {
            let column = &data[(block * ROW_COLUMNS + index) * stride..][..inner];
            let product = alpha * dot(row, column);
            *c = if beta == R::ZERO { product } else { product + beta * *c };
        }
    });
}

/// `c = alpha a b + beta c` on the calling thread, for the small products inside a parallel task.
///
/// # Panics
/// When the extents do not fit together.
pub fn multiply_serial<R: Real>(alpha: R, a: Matrix<'_, R>, b: Matrix<'_, R>, beta: R, c: MatrixMut<'_, R>) {
    check_extents(&a, &b, &c);
    let target = Target::new(c);
    target.compute([0, 0, target.rows, target.columns], alpha, &a, &b, beta);
}

fn check_extents<R: Real>(a: &Matrix<'_, R>, b: &Matrix<'_, R>, c: &MatrixMut<'_, R>) {
    assert!(
        a.rows == c.rows && b.columns == c.columns && a.columns == b.rows,
        "matrix product: {}x{} by {}x{} into {}x{}",
        a.rows,
        a.columns,
        b.rows,
        b.columns,
        c.rows,
        c.columns
    );
}

/// The tile of a product of these extents: the longer side is halved until the work fits.
fn tile(rows: usize, columns: usize, inner: usize) -> (usize, usize) {
    let (mut high, mut wide) = (rows, columns);
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

/// Where a product is written: the elements of a [`MatrixMut`], borrowed for as long as it would be.
struct Target<'a, R> {
    pointer: *mut R,
    rows: usize,
    columns: usize,
    row_stride: usize,
    borrow: PhantomData<&'a mut [R]>,
}

#[expect(unsafe_code, reason = "the tiles of one product are written from several threads")]
// SAFETY: a Target holds the only borrow of its elements; `multiply`, the one function that shares it, lets each thread
// write tiles that no other thread touches; the pointer itself is plain data.
unsafe impl<R: Real> Sync for Target<'_, R> {}

impl<'a, R: Real> Target<'a, R> {
    fn new(c: MatrixMut<'a, R>) -> Self {
        let MatrixMut { data, rows, columns, row_stride } = c;
        Self { pointer: data.as_mut_ptr(), rows, columns, row_stride, borrow: PhantomData }
    }

    /// Computes the tile `[row, column, rows, columns]`, which must lie inside and be no other thread's.
    fn compute(&self, tile: [usize; 4], alpha: R, a: &Matrix<'_, R>, b: &Matrix<'_, R>, beta: R) {
        let [row, column, rows, columns] = tile;
        assert!(row + rows <= self.rows && column + columns <= self.columns, "tile outside its matrix");
        if rows == 0 || columns == 0 {
            return;
        }
        let a_data = a.data.get(row * a.row_stride..).unwrap_or_default();
        let b_data = b.data.get(column * b.column_stride..).unwrap_or_default();
        #[expect(unsafe_code, reason = "the matrix product takes pointers")]
        // SAFETY: the constructors of Matrix and MatrixMut checked that every element of a, b and c lies in
        // its slice, `check_extents` that the three fit together, and the tile was just checked to lie
        // inside c; a and b are only read (with an inner extent of 0 not even that); no other thread writes
        // this tile, and c, borrowed mutably, overlaps neither a nor b.
        unsafe {
            (R::GEMM)(
                rows,
                a.columns,
                columns,
                alpha,
                a_data.as_ptr(),
                a.row_stride as isize,
                a.column_stride as isize,
                b_data.as_ptr(),
                b.row_stride as isize,
                b.column_stride as isize,
                beta,
                self.pointer.add(row * self.row_stride + column),
                self.row_stride as isize,
                1,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Matrix, MatrixMut, TILE_EXTENT, TILE_WORK, fits, multiply, multiply_serial, tile};
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
            let mut c = before.clone();
            multiply(2.0, Matrix::new(&a, m, k), Matrix::new(&b, k, n), 0.5, MatrixMut::new(&mut c, m, n));
            for row in 0..m {
                for column in 0..n {
                    let expected = 2.0 * naive(&a, &b, extents, row, column) + 0.5 * before[row * n + column];
                    let error = (c[row * n + column] - expected).abs();
                    // k products of size about 1, each rounded: k times 2^-52 with room for their spread.
                    assert!(error < 1e-14 * (k as f64 + 4.0), "{extents:?}: {error}");
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
        let target = MatrixMut::strided(&mut wide[2..], m, n, 9);
        multiply(1.0, Matrix::new(&a, m, k), Matrix::new(&b, n, k).transposed(), 0.0, target);
        let mut plain = vec![0.0; m * n];
        let bt: Vec<f64> = (0..k * n).map(|i| b[i % n * k + i / n]).collect();
        multiply_serial(1.0, Matrix::new(&a, m, k), Matrix::new(&bt, k, n), 0.0, MatrixMut::new(&mut plain, m, n));
        for row in 0..m {
            assert_eq!(wide[row * 9 + 2..row * 9 + 2 + n], plain[row * n..][..n]);
            assert_eq!(wide[row * 9..row * 9 + 2], [7.0, 7.0]);
            assert_eq!(wide[row * 9 + 6..row * 9 + 9], [7.0, 7.0, 7.0]);
        }
    }

    #[test]
    fn a_single_row_is_the_same_product() {
        for (n, k) in [(1, 1), (70, 33), (200, 64)] {
            let (a, b, before) = (random::<f64>(1, k), random::<f64>(2, n * k), random::<f64>(3, n));
            let (mut row, mut tile) = (before.clone(), before);
            let matrix = Matrix::new(&b, n, k).transposed();
            multiply(2.0, Matrix::new(&a, 1, k), matrix, 0.5, MatrixMut::new(&mut row, 1, n));
            multiply_serial(2.0, Matrix::new(&a, 1, k), matrix, 0.5, MatrixMut::new(&mut tile, 1, n));
            for (row, tile) in row.iter().zip(&tile) {
                assert!((row - tile).abs() < 1e-14 * k as f64);
            }
            row.fill(f64::NAN);
            multiply(2.0, Matrix::new(&a, 1, k), matrix, 0.0, MatrixMut::new(&mut row, 1, n));
            assert!(row.iter().all(|value| value.is_finite()), "beta 0 does not read what was there");
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
                multiply(1.0, Matrix::new(&a, m, k), Matrix::new(&b, k, n), 0.0, MatrixMut::new(&mut c, m, n));
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
    #[should_panic(expected = "matrix product: 2x3 by 2x2 into 2x2")]
    fn extents_that_do_not_fit_are_refused() {
        let data = [0.0_f32; 6];
        let mut c = [0.0; 4];
        multiply(1.0, Matrix::new(&data, 2, 3), Matrix::new(&data[..4], 2, 2), 0.0, MatrixMut::new(&mut c, 2, 2));
    }

    #[test]
    #[should_panic(expected = "matrix outside its data")]
    fn a_view_past_its_data_is_refused() {
        let _ = Matrix::strided(&[0.0_f32; 6], 3, 2, 3);
    }

    #[test]
    #[should_panic(expected = "matrix of")]
    fn extents_that_overflow_are_refused() {
        let _ = Matrix::new(&[] as &[f32], 1 << 63, 2);
    }

    #[test]
    fn strided_views_are_checked_without_overflow() {
        let check = |arguments: [usize; 4], expected: bool| {
            let [length, rows, columns, stride] = arguments;
            assert_eq!(fits(length, rows, columns, stride), expected, "{arguments:?}");
        };
        check([8, 3, 2, 3], true);
        check([7, 3, 2, 3], false);
        check([9, 3, 3, 2], false);
        check([0, 0, 2, 2], true);
        check([0, 5, 0, 2], true);
        check([1, usize::MAX, 1, 2], false);
        check([1, 1, 1, usize::MAX], false);
        check([usize::MAX, 3, usize::MAX, usize::MAX], false);
    }
}
