//! Attention inside documents, forward and backward, and of new rows to a cache.

use super::{Checks, Finding, Pair, Twins, shape, tokens};
use crate::backend::{Attention, AttentionBackward, CacheSpan, CachedAttention, DecodeRows, Extent, Pass};
use crate::gpu::{Device, SumOrder};
use crate::shape::Shape;

/// Bound of outputs: probabilities are rounded to bf16 relative to a running maximum on the card and to the final one on the
/// processor, 2^-9 each of a weighted mean of values; then the result is rounded.
const FORWARD: (f32, f32) = (1.0 / 64.0, 1.0 / 64.0);
/// Bound of gradients: sums over up to 200 rows of such products.
const BACKWARD: (f32, f32) = (1.0 / 16.0, 1.0 / 16.0);

/// Head width, query heads, key-value heads, window, and the ends of the documents in sequences of 256 rows, or of the last end.
type Case = (usize, usize, usize, Option<usize>, &'static [u32]);

const CASES: [Case; 9] = [
    (64, 4, 4, None, &[256]),
    (128, 1, 1, None, &[512]),
    (64, 2, 1, Some(200), &[400, 512]),
    (64, 4, 2, None, &[1, 3, 18, 34, 51, 114, 178]),
    (128, 2, 1, None, &[65, 156, 256]),
    (128, 4, 1, None, &[128, 250]),
    (64, 2, 1, Some(1), &[130, 200]),
    (64, 2, 2, Some(100), &[256]),
    (128, 2, 2, Some(5), &[17, 250]),
];

/// Odd lengths, grouped queries, windows and padding.
pub(super) fn attention<D: Device>(checks: &Checks<'_, D>) -> Vec<Finding> {
    every_case(checks, SumOrder::Fixed)
}

/// The same with gradients of queries that are added up as blocks come.
pub(super) fn attention_in_any_order<D: Device>(checks: &Checks<'_, D>) -> Vec<Finding> {
    every_case(checks, SumOrder::Any)
}

fn every_case<D: Device>(checks: &Checks<'_, D>, sums: SumOrder) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (order, case) in CASES.into_iter().enumerate() {
        for scale in [1.0, 6.0] {
            findings.append(&mut attention_of(checks, (order as u64, sums), case, scale));
        }
    }
    findings
}

fn attention_of<D: Device>(checks: &Checks<'_, D>, order: (u64, SumOrder), case: Case, scale: f64) -> Vec<Finding> {
    let (head_width, heads, kv_heads, window, ends) = case;
    let (rows, length) = (512, ends.last().map_or(256, |end| (*end as usize).max(256)));
    let wide = Shape { heads, kv_heads, window, ..shape(heads * head_width, 64, 50) };
    let name =
        format!("{heads} heads of {head_width} on {kv_heads}, window {window:?}, documents to {ends:?}, values of {scale}");
    let mut twins = Twins::summing(checks, &wide, rows, order);
    let width = (heads + 2 * kv_heads) * head_width;
    let [fused, dfused] = std::array::from_fn(|_| twins.values(rows * width));
    let [out, dout] = std::array::from_fn(|_| twins.values(rows * heads * head_width));
    let lse = twins.exact(heads * rows);
    twins.start();
    twins.load(&tokens(rows, 50), length, ends, Pass::default());
    twins.fill_random(fused, 0, scale);
    twins.fill_random(dout, 1, 1.0);
    // dfused is written by two kernels, each its part.
    twins.fill_random(dfused, 2, 1.0);
    twins.run(|backend, at| {
        let forward = Attention { fused: at(fused), out: at(out), lse: at(lse) };
        backend.attend(forward);
        backend.attend_backward(AttentionBackward { forward, dout: at(dout), dfused: at(dfused) });
    });
    twins.assert_near("attention: lse", lse, (1e-5, 1e-4), &name);
    let size = scale as f32;
    twins.assert_near("attention", out, (FORWARD.0, FORWARD.1 * size), &name);
    twins.assert_near("attention: gradient", dfused, (BACKWARD.0, BACKWARD.1 * size), &name);
    let padding = ends.last().map_or(0, |end| *end as usize);
    for (pair, width) in [(out, heads * head_width), (dfused, width)] {
        let [_, card] = twins.both(pair);
        let rest = card.chunks_exact(width).enumerate().filter(|(row, _)| row % length >= padding);
        assert!(rest.flat_map(|(_, row)| row).all(|value| value.to_bits() == 0), "attention, {name}: padding is not zero");
    }
    twins.findings
}

/// Texts of several lengths, read in pieces; the cache is the same bits.
pub(super) fn cached<D: Device>(checks: &Checks<'_, D>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let cases: [(usize, usize, usize, Option<usize>); 4] =
        [(64, 4, 4, None), (64, 8, 2, Some(9)), (128, 2, 1, None), (64, 18, 1, None)];
    for (order, (head_width, heads, kv_heads, window)) in cases.into_iter().enumerate() {
        let wide = Shape { heads, kv_heads, window, ..shape(heads * head_width, 64, 50) };
        let name = format!("{heads} heads of {head_width} on {kv_heads}, window {window:?}");
        let mut twins = Twins::new(checks, &wide, 48, order as u64);
        twins.extent = Extent { rows: 48, positions: 96, cache_capacity: Some(96) };
        let cache = 3 * 96 * kv_heads * head_width;
        let [keys, values] = std::array::from_fn(|_| twins.values(cache));
        let pieces: [&[CacheSpan]; 3] = [
            &[span(0, 0, 33), span(2, 0, 1)],
            &[span(2, 1, 9), span(0, 33, 1), span(1, 0, 3)],
            &[span(0, 34, 1), span(1, 3, 1), span(2, 10, 1)],
        ];
        let width = (heads + 2 * kv_heads) * head_width;
        let count = |spans: &[CacheSpan]| spans.iter().map(|span| span.rows).sum::<usize>();
        let rows: Vec<[Pair; 2]> =
            pieces.map(|spans| [twins.values(count(spans) * width), twins.values(count(spans) * heads * head_width)]).into();
        twins.start();
        for pair in [keys, values] {
            twins.fill(pair, &vec![0.0; cache]);
        }
        for (index, (spans, [fused, out])) in pieces.into_iter().zip(rows).enumerate() {
            twins.fill_random(fused, index, 1.0);
            let new = DecodeRows { tokens: tokens(count(spans), 50), spans: spans.to_vec() };
            twins.run(|backend, at| {
                backend.load_decode(&new);
                let (fused, keys, values, out) = (at(fused), at(keys), at(values), at(out));
                backend.attend_cached(CachedAttention { fused, keys, values, capacity: 96, out });
            });
            twins.assert_near("cached attention", out, FORWARD, &name);
        }
        twins.assert_same("cached attention: keys", keys, &name);
        twins.assert_same("cached attention: values", values, &name);
        findings.append(&mut twins.findings);
    }
    findings
}

fn span(slot: usize, start: usize, rows: usize) -> CacheSpan {
    CacheSpan { slot, start, rows }
}
