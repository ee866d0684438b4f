//! Attention against its definition, its gradient, its masks.

use std::ops::Range;

use super::{CachedText, Extents, Forward, backward, cached_scratch_length, forward, forward_cached, scratch_length};
use crate::ops::Heads;
use crate::ops::rounding::Rounding;
use crate::ops::vjp::{check_gradient, dot, random};

const HEADS: Heads = Heads { heads: 4, kv_heads: 2, head_width: 6 };
const ROWS: usize = 300;
/// Padding before, between and behind; documents of 100, 1 and 150 tokens, two of them longer than a block of queries.
const DOCUMENTS: [Range<usize>; 3] = [3..103, 103..104, 140..290];

fn extents(window: Option<usize>) -> Extents<'static> {
    Extents { heads: HEADS, window, documents: &DOCUMENTS }
}

fn attend(extents: Extents<'_>, fused: &[f64], rounding: Rounding) -> (Vec<f64>, Vec<f64>) {
    let mut out = vec![f64::NAN; ROWS * HEADS.width()];
    let mut lse = vec![f64::NAN; ROWS * HEADS.heads];
    let mut scratch = vec![f64::NAN; scratch_length(HEADS, ROWS)];
    forward(extents, fused, (&mut out, rounding), &mut lse, &mut scratch);
    (out, lse)
}

fn gradient(extents: Extents<'_>, fused: &[f64], dout: &[f64]) -> Vec<f64> {
    let (out, lse) = attend(extents, fused, Rounding::Exact);
    let mut dfused = vec![f64::NAN; fused.len()];
    let mut scratch = vec![f64::NAN; scratch_length(HEADS, ROWS)];
    let given = Forward { fused, out: &out, lse: &lse, dout };
    backward(extents, given, (&mut dfused, Rounding::Exact), &mut scratch);
    dfused
}

fn inputs() -> [Vec<f64>; 2] {
    [random(1, ROWS * HEADS.fused_width()), random(2, ROWS * HEADS.width())]
}

/// The definition, one query at a time.
fn naive(extents: Extents<'_>, fused: &[f64], row: usize, head: usize) -> Vec<f64> {
    let width = HEADS.head_width;
    let Some(document) = extents.documents.iter().find(|document| document.contains(&row)) else {
        return vec![0.0; width];
    };
    let part = |row: usize, first: usize| &fused[row * HEADS.fused_width() + first..][..width];
    let query = part(row, head * width);
    let lowest = extents.window.map_or(0, |window| (row + 1).saturating_sub(window)).max(document.start);
    let kv_head = head / 2;
    let score = |key: usize| (dot(query, part(key, (4 + kv_head) * width)) / (width as f64).sqrt()).exp();
    let weights: Vec<f64> = (lowest..=row).map(score).collect();
    let total: f64 = weights.iter().sum();
    let mut out = vec![0.0; width];
    for (key, weight) in (lowest..=row).zip(weights) {
        for (out, value) in out.iter_mut().zip(part(key, (6 + kv_head) * width)) {
            *out += weight / total * value;
        }
    }
    out
}

#[test]
fn mask_of_attention_is_the_definition() {
    let [fused, _] = inputs();
    for window in [None, Some(1), Some(7), Some(64), Some(130), Some(1000)] {
        let (out, _) = attend(extents(window), &fused, Rounding::Exact);
        for row in 0..ROWS {
            for head in 0..4 {
                let expected = naive(extents(window), &fused, row, head);
                let got = &out[row * HEADS.width() + head * 6..][..6];
                for (got, expected) in got.iter().zip(expected) {
                    assert!((got - expected).abs() < 1e-13, "window {window:?}, row {row}, head {head}");
                }
            }
        }
    }
}

#[test]
fn gradient_of_attention() {
    let [fused, dout] = inputs();
    for window in [None, Some(20)] {
        let dfused = gradient(extents(window), &fused, &dout);
        check_gradient("fused", &fused, &dfused, 1e-6, &|fused| dot(&attend(extents(window), fused, Rounding::Exact).0, &dout));
        // Each of queries, keys and values alone as well: the largest must not hide the others.
        for (name, columns) in [("queries", 0..24), ("keys", 24..36), ("values", 36..48)] {
            let of = |data: &[f64]| data.chunks_exact(48).flat_map(|row| row[columns.clone()].to_vec()).collect::<Vec<_>>();
            check_gradient(name, &of(&fused), &of(&dfused), 1e-6, &|part| {
                let mut moved = fused.clone();
                for (row, part) in moved.chunks_exact_mut(48).zip(part.chunks_exact(columns.len())) {
                    row[columns.clone()].copy_from_slice(part);
                }
                dot(&attend(extents(window), &moved, Rounding::Exact).0, &dout)
            });
        }
    }
}

#[test]
fn mask_isolates_documents_and_padding_bitwise() {
    let [mut fused, dout] = inputs();
    let (before, lse) = attend(extents(None), &fused, Rounding::Exact);
    let kept = [103..104, 140..290];
    for row in (0..ROWS).filter(|row| !kept.iter().any(|document| document.contains(row))) {
        let row = &mut fused[row * HEADS.fused_width()..][..HEADS.fused_width()];
        row[24] += 1e6;
        row[36] = f64::NAN;
    }
    let (after, _) = attend(extents(None), &fused, Rounding::Exact);
    for document in kept {
        let range = document.start * HEADS.width()..document.end * HEADS.width();
        assert_eq!(before[range.clone()], after[range]);
    }
    let dfused = gradient(extents(None), &inputs()[0], &dout);
    for row in (0..3).chain(104..140).chain(290..300) {
        assert!(dfused[row * 48..][..48].iter().all(|value| value.to_bits() == 0), "padding has no gradient");
        assert!(before[row * 24..][..24].iter().all(|value| value.to_bits() == 0), "padding has no output");
        assert!((0..4).all(|head| lse[head * ROWS + row].to_bits() == 0));
    }
}

#[test]
fn determinism_of_attention_for_any_number_of_threads() {
    let [fused, dout] = inputs();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| gradient(extents(None), &fused, &dout))
    };
    let alone = run(1);
    assert_eq!(alone, run(2));
    assert_eq!(alone, run(5));
}

#[test]
fn rounded_attention_stays_close_and_is_representable() {
    let [mut fused, _] = inputs();
    Rounding::Bf16.apply(&mut fused);
    let (exact, _) = attend(extents(None), &fused, Rounding::Exact);
    let (rounded, _) = attend(extents(None), &fused, Rounding::Bf16);
    let mut again = rounded.clone();
    Rounding::Bf16.apply(&mut again);
    assert_eq!(rounded, again);
    assert_ne!(exact, rounded);
    // Probabilities and outputs are each rounded by at most 2^-9 relative; values are below 5.
    for (exact, rounded) in exact.iter().zip(&rounded) {
        assert!((exact - rounded).abs() < 2.0 * 5.0 / 512.0, "{exact} {rounded}");
    }
}

#[test]
fn cached_texts_attend_as_whole_ones() {
    let [fused, _] = inputs();
    for window in [None, Some(20)] {
        let (whole, _) = attend(extents(window), &fused, Rounding::Exact);
        // The last 5 rows of the first document and the last 70 of the third, their keys and values in caches.
        let starts = [(3, 98, 103), (140, 220, 290)];
        let part = |first: usize, rows: Range<usize>| -> Vec<f64> {
            rows.flat_map(|row| fused[row * 48 + first..][..12].to_vec()).collect()
        };
        let caches = starts.map(|(begin, _, end)| (part(24, begin..end), part(36, begin..end)));
        let new: Vec<f64> = starts.iter().flat_map(|&(_, new, end)| fused[new * 48..end * 48].to_vec()).collect();
        let ranges = [0..5, 5..75];
        let texts: Vec<CachedText<'_, f64>> =
            caches.iter().zip(ranges).map(|((keys, values), rows)| CachedText { rows, keys, values }).collect();
        let mut out = vec![f64::NAN; 75 * 24];
        let mut scratch = vec![f64::NAN; cached_scratch_length(HEADS, 75, 150)];
        forward_cached((HEADS, window), &texts, &new, (&mut out, Rounding::Exact), &mut scratch);
        let expected: Vec<f64> = starts.iter().flat_map(|&(_, new, end)| whole[new * 24..end * 24].to_vec()).collect();
        for (got, expected) in out.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-13);
        }
    }
}
