//! One layer of a decoder on a chunk of new tokens: the cache of keys and values, and the buffers.
//!
//! The same operations as in training; nothing is kept for a backward.

use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSlice, ParallelSliceMut};

use crate::model::Model;
use crate::model::projection::Weights;
use crate::model::weights::Group;
use crate::model::workspace::{AdapterBuffers, heads};
use crate::ops::attention::{Block, QUERY_BLOCK};
use crate::ops::rope::to_tokens;
use crate::ops::{norm, swiglu};
use crate::real::Real;
use crate::shape::Shape;

/// Keys and values of one layer, `(K, capacity, D)` each.
#[derive(Clone, Debug)]
pub(super) struct LayerCache<R> {
    pub(super) k: Vec<R>,
    pub(super) v: Vec<R>,
}

/// Buffers for one chunk of n tokens.
#[derive(Clone, Debug)]
pub(super) struct Buffers<R> {
    pub(super) positions: Vec<u32>,
    pub(super) stream: Vec<R>,
    pub(super) normed: Vec<R>,
    pub(super) rstd: Vec<R>,
    pub(super) fused: Vec<R>,
    pub(super) q: Vec<R>,
    pub(super) k: Vec<R>,
    pub(super) v: Vec<R>,
    pub(super) by_head: Vec<R>,
    pub(super) attended: Vec<R>,
    pub(super) lse: Vec<R>,
    pub(super) scores: Vec<R>,
    pub(super) gate_up: Vec<R>,
    pub(super) activation: Vec<R>,
    pub(super) adapters: AdapterBuffers<R>,
    pub(super) logits: Vec<R>,
}

impl<R: Real> LayerCache<R> {
    /// Adds keys and values `(K, rows, D)` after the first `start` tokens.
    fn append(&mut self, (k, v): (&[R], &[R]), (start, rows): (usize, usize), capacity: usize, width: usize) {
        for (new, cached) in [(k, &mut self.k), (v, &mut self.v)] {
            let heads = new.chunks_exact(rows * width).zip(cached.chunks_exact_mut(capacity * width));
            for (new, cached) in heads {
                cached[start * width..(start + rows) * width].copy_from_slice(new);
            }
        }
    }
}

impl<R: Real> Buffers<R> {
    /// Room for chunks of `rows` tokens in a text of `capacity`.
    pub(super) fn new(shape: &Shape, rows: usize, capacity: usize) -> Self {
        let zeros = |width: usize| vec![R::ZERO; rows * width];
        Self {
            positions: Vec::with_capacity(rows),
            stream: zeros(shape.width),
            normed: zeros(shape.width),
            rstd: zeros(1),
            fused: zeros(shape.qkv_width()),
            q: zeros(shape.width),
            k: zeros(shape.kv_width()),
            v: zeros(shape.kv_width()),
            by_head: zeros(shape.width),
            attended: zeros(shape.width),
            lse: zeros(shape.heads),
            scores: vec![R::ZERO; shape.heads * rows.min(QUERY_BLOCK) * capacity],
            gate_up: zeros(2 * shape.feed_forward),
            activation: zeros(shape.feed_forward),
            adapters: AdapterBuffers::empty(),
            logits: zeros(shape.vocabulary),
        }
    }

    /// Takes the residuals of `rows` tokens after the first `start` through a layer's attention, adding them to its cache.
    pub(super) fn attention(
        &mut self,
        model: &Model,
        weights: Weights<'_, R>,
        layer: usize,
        (start, rows): (usize, usize),
        (capacity, cache): (usize, &mut LayerCache<R>),
    ) {
        let shape = weights.shape;
        let (c, kv, width) = (rows * shape.width, rows * shape.kv_width(), shape.head_width());
        let heads = heads(shape, rows);
        let weight = weights.at(weights.places.input_norm(layer));
        let (stream, normed) = (&mut self.stream[..c], &mut self.normed[..c]);
        norm::forward(stream, weight, shape.norm_epsilon, normed, &mut self.rstd[..rows]);
        let fused = &mut self.fused[..rows * shape.qkv_width()];
        weights.project((layer, Group::Fused), normed, R::ZERO, fused, &mut self.adapters);
        let (q, k, v) = (&mut self.q[..c], &mut self.k[..kv], &mut self.v[..kv]);
        model.rotation().split(heads, fused, &self.positions, (&mut *q, &mut *k, &mut *v));
        cache.append((k, v), (start, rows), capacity, width);
        let by_head = &mut self.by_head[..c];
        let scores_length = self.scores.len() / shape.heads;
        by_head
            .par_chunks_mut(rows * width)
            .zip(self.lse.par_chunks_mut(rows))
            .zip(q.par_chunks(rows * width))
            .zip(self.scores.par_chunks_mut(scores_length))
            .enumerate()
            .for_each(|(head, (((out, lse), q), scores))| {
                let cached = head / shape.group() * capacity * width;
                for begin in (0..rows).step_by(QUERY_BLOCK) {
                    let end = rows.min(begin + QUERY_BLOCK);
                    let seen = cached..cached + (start + end) * width;
                    let block = Block {
                        queries: &q[begin * width..end * width],
                        keys: &cache.k[seen.clone()],
                        values: &cache.v[seen],
                        head_width: width,
                    };
                    block.attend(scores, &mut out[begin * width..end * width], &mut lse[begin..end]);
                }
            });
        let attended = &mut self.attended[..c];
        to_tokens(heads, by_head, attended);
        weights.project((layer, Group::Output), attended, R::ONE, stream, &mut self.adapters);
    }

    /// Takes the residuals of `rows` tokens through a layer's feed-forward.
    pub(super) fn feed_forward(&mut self, weights: Weights<'_, R>, layer: usize, rows: usize) {
        let shape = weights.shape;
        let (c, f) = (rows * shape.width, rows * shape.feed_forward);
        let weight = weights.at(weights.places.middle_norm(layer));
        let (stream, normed) = (&mut self.stream[..c], &mut self.normed[..c]);
        norm::forward(stream, weight, shape.norm_epsilon, normed, &mut self.rstd[..rows]);
        let gate_up = &mut self.gate_up[..2 * f];
        weights.project((layer, Group::GateUp), normed, R::ZERO, gate_up, &mut self.adapters);
        let activation = &mut self.activation[..f];
        swiglu::forward(gate_up, activation, shape.feed_forward);
        weights.project((layer, Group::Down), activation, R::ONE, stream, &mut self.adapters);
    }
}
