//! The processor as a backend: every element in one width, rounded to bf16 where a buffer says so.
//!
//! Each operation borrows its buffers from the arena as disjoint slices, which proves that they do not overlap, and hands them
//! to its twin in `ops`. With bf16 buffers it rounds exactly where a GPU stores, so that it can stand in for one.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{
    AdamWStep, ArenaPlan, Attention, AttentionBackward, Backend, Buffer, CachedAttention, CrossEntropy, DecodeRows, DeviceError,
    Dropout, Dtype, ElementBytes, Judgement, Limits, Matrix, Moments, Norm, NormBackward, Part, Pass, Product, Residual, Ticket,
    Turn, Weights,
};
use crate::backend::Extent;
use crate::batch::Batch;
use crate::ops::attention::{self, CachedText, Extents};
use crate::ops::cross_entropy::{self, Targets};
use crate::ops::dropout::Mask;
use crate::ops::gemm::{self, Terms};
use crate::ops::norm::NormWeight;
use crate::ops::rope::RotationTable;
use crate::ops::rounding::Rounding;
use crate::ops::{Heads, adamw, embedding, norm, split, swiglu};
use crate::optimizer::clip_factor;
use crate::random::{Purpose, Stream};
use crate::real::Real;
use crate::shape::Shape;

/// The processor.
#[derive(Debug)]
pub struct Cpu<R: Real> {
    shape: Shape,
    heads: Heads,
    rotation: Option<RotationTable<R>>,
    arena: Vec<R>,
    scratch: Option<Scratch>,
    /// Rows by token, for the embedding's gradient.
    order: Vec<u32>,
    rows: Rows,
    pass: Pass,
    losses_finite: bool,
    judgement: Judgement,
    /// What was sent for and not collected, by ticket.
    fetched: BTreeMap<u64, Fetched<R>>,
    next_ticket: u64,
    /// What it says of itself; it never is.
    ahead: bool,
}

/// Logits that are held at a time.
const LOGITS_ELEMENTS: usize = 1 << 23;
/// Bounds on the rows of one chunk of logits: fewer waste the matrix product, more gain nothing.
const HEAD_ROWS: (usize, usize) = (64, 256);

/// What a ticket stands for.
#[derive(Debug)]
enum Fetched<R> {
    Values(Vec<R>),
    Judgement(Judgement),
    Norm(f64),
}

/// Scratch of the backend's own.
#[derive(Clone, Copy, Debug)]
struct Scratch {
    scores: Buffer,
    partials: Buffer,
}

/// The rows that operations are about.
#[derive(Debug, Default)]
struct Rows {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    targets: Vec<u32>,
    counted: Vec<bool>,
    documents: Vec<Range<usize>>,
    spans: Vec<super::CacheSpan>,
}

impl<R: Real> Cpu<R> {
    /// A backend for models of this shape.
    pub fn new(shape: &Shape) -> Self {
        Self {
            heads: Heads::of(shape),
            shape: shape.clone(),
            rotation: None,
            arena: Vec::new(),
            scratch: None,
            order: Vec::new(),
            rows: Rows::default(),
            pass: Pass::default(),
            fetched: BTreeMap::new(),
            next_ticket: 0,
            ahead: false,
            losses_finite: true,
            judgement: Judgement { norm: 0.0, finite: true, factor: 0.0 },
        }
    }

    /// The same, but it says that it works ahead: so that tests see what callers then do.
    #[cfg(test)]
    pub(crate) fn working_ahead(shape: &Shape) -> Self {
        Self { ahead: true, ..Self::new(shape) }
    }

    /// The elements of disjoint buffers, to change.
    fn views<const N: usize>(&mut self, buffers: [Buffer; N]) -> [&mut [R]; N] {
        self.arena.get_disjoint_mut(buffers.map(Buffer::elements)).expect("buffers of one operation lie apart in the arena")
    }

    fn scratch(&self) -> Scratch {
        self.scratch.expect("the engine plans the backend's scratch before it computes")
    }

    fn width(&self) -> usize {
        self.shape.width
    }

    fn keep(&mut self, fetched: Fetched<R>) -> Ticket {
        self.next_ticket += 1;
        self.fetched.insert(self.next_ticket, fetched);
        Ticket(self.next_ticket)
    }

    fn mask(&self, dropout: Dropout) -> Mask {
        let stream = Stream::new(dropout.seed, Purpose::Dropout, self.pass.step, dropout.tensor);
        Mask::new(stream, self.pass.first_row, dropout.probability)
    }

    fn norm_in_place(&mut self, buffer: Buffer) -> f64 {
        let [values] = self.views([buffer]);
        adamw::norm(values)
    }
}

/// A matrix over the elements of its buffer.
fn view<R: Real>(matrix: Matrix, data: &[R]) -> faer::MatRef<'_, R> {
    let view = gemm::matrix(data, matrix.rows, matrix.columns, matrix.row_stride);
    if matrix.transposed { view.transpose() } else { view }
}

impl<R: Real> Backend<R> for Cpu<R> {
    fn element_bytes(&self) -> ElementBytes {
        ElementBytes { f32: size_of::<R>(), bf16: size_of::<R>() }
    }

    fn works_ahead(&self) -> bool {
        self.ahead
    }

    fn computes_in(&self, _dtype: Dtype) -> bool {
        true
    }

    fn plan_scratch(&mut self, plan: &mut ArenaPlan, extent: Extent) {
        let Extent { rows, positions, cache_capacity } = extent;
        let scores = match cache_capacity {
            Some(capacity) => attention::cached_scratch_length(self.heads, rows, capacity),
            None => attention::scratch_length(self.heads, rows),
        };
        self.scratch = Some(Scratch {
            scores: plan.buffer(Part::Work, Dtype::F32, scores),
            partials: plan.buffer(Part::Work, Dtype::F32, norm::partials_length(rows, self.width())),
        });
        self.order = vec![0; rows];
        self.rotation = Some(RotationTable::new(&self.shape, positions));
    }

    fn head_rows(&self, vocabulary: usize) -> usize {
        (LOGITS_ELEMENTS / vocabulary).clamp(HEAD_ROWS.0, HEAD_ROWS.1)
    }

    fn allocate(&mut self, plan: &ArenaPlan) -> Result<(), DeviceError> {
        let elements = plan.total_bytes() / size_of::<R>();
        let mut arena = Vec::new();
        let reserved = arena.try_reserve_exact(elements);
        reserved.map_err(|_| plan.refused(None, "take a smaller model, micro-batch or recompute mode"))?;
        // Written now, so that memory that the system only promised is missed here and not in the middle of a run.
        arena.resize(elements, R::ZERO);
        self.arena = arena;
        Ok(())
    }

    fn upload(&mut self, to: Buffer, values: &[R]) {
        let [out] = self.views([to]);
        out.copy_from_slice(values);
        Rounding::of(to.dtype()).apply(out);
    }

    fn download(&mut self, from: Buffer, out: &mut [R]) -> Result<(), DeviceError> {
        let [values] = self.views([from]);
        out.copy_from_slice(values);
        Ok(())
    }

    fn upload_weights(&mut self, to: Weights, values: &[R]) {
        match to {
            Weights::Plain(to) => self.upload(to, values),
            Weights::Split { working, remainder } => {
                let [whole, working] = self.views([remainder, working]);
                whole.copy_from_slice(values);
                split::round(whole, working);
            }
        }
    }

    fn download_weights(&mut self, from: Weights, out: &mut [R]) -> Result<(), DeviceError> {
        self.download(whole(from), out)
    }

    fn fetch(&mut self, from: Buffer) -> Ticket {
        let [values] = self.views([from]);
        let values = values.to_vec();
        self.keep(Fetched::Values(values))
    }

    fn collect(&mut self, ticket: Ticket, out: &mut [R]) -> Result<(), DeviceError> {
        let Some(Fetched::Values(values)) = self.fetched.remove(&ticket.0) else { panic!("backend: a ticket is collected once") };
        out.copy_from_slice(&values);
        Ok(())
    }

    fn zero(&mut self, buffer: Buffer) {
        let [values] = self.views([buffer]);
        values.fill(R::ZERO);
    }

    fn convert(&mut self, from: Buffer, to: Buffer) {
        let [values, out] = self.views([from, to]);
        out.copy_from_slice(values);
        Rounding::of(to.dtype()).apply(out);
    }

    fn load_batch(&mut self, batch: &Batch, pass: Pass) {
        self.pass = pass;
        let rows = &mut self.rows;
        refill(&mut rows.tokens, batch.tokens());
        refill(&mut rows.positions, batch.positions());
        refill(&mut rows.targets, batch.targets());
        refill(&mut rows.counted, batch.loss_mask());
        rows.spans.clear();
        rows.documents.clear();
        for sequence in 0..batch.sequences() {
            let first = sequence * batch.sequence_length();
            let range = |span: &crate::batch::SegmentSpan| first + span.start as usize..first + span.end as usize;
            rows.documents.extend(batch.segments(sequence).iter().map(range));
        }
    }

    fn load_decode(&mut self, new: &DecodeRows) {
        let rows = &mut self.rows;
        rows.tokens.clone_from(&new.tokens);
        rows.spans.clone_from(&new.spans);
        rows.documents.clear();
        rows.positions.clear();
        for span in &new.spans {
            let first = rows.positions.len();
            rows.documents.push(first..first + span.rows);
            rows.positions.extend(span.start as u32..(span.start + span.rows) as u32);
        }
        assert_eq!(rows.positions.len(), rows.tokens.len(), "spans of new rows cover them all");
    }

    fn embed(&mut self, table: Buffer, out: Buffer) {
        let (width, tokens) = (self.width(), std::mem::take(&mut self.rows.tokens));
        let [table, out] = self.views([table, out]);
        embedding::forward(table, &tokens, out, width);
        self.rows.tokens = tokens;
    }

    fn embed_backward(&mut self, dout: Buffer, dtable: Buffer) {
        let (width, mut order) = (self.width(), std::mem::take(&mut self.order));
        let tokens = std::mem::take(&mut self.rows.tokens);
        let [dout, dtable] = self.views([dout, dtable]);
        embedding::backward(&tokens, dout, &mut order[..tokens.len()], dtable, width);
        (self.rows.tokens, self.order) = (tokens, order);
    }

    fn norm(&mut self, op: Norm) {
        let Norm { x, residual, weight, epsilon, out, rstd } = op;
        let rounding = Rounding::of(out.dtype());
        if let Some(Residual { delta, sum }) = residual {
            let roundings = [Rounding::of(sum.dtype()), rounding];
            let [x, delta, sum, weight, out, rstd] = self.views([x, delta, sum, weight, out, rstd]);
            norm::add_forward((x, delta), NormWeight { weight, epsilon }, roundings, sum, (out, rstd));
        } else {
            let [x, weight, out, rstd] = self.views([x, weight, out, rstd]);
            norm::forward(x, NormWeight { weight, epsilon }, rounding, out, rstd);
        }
    }

    fn norm_rebuild(&mut self, x: Buffer, weight: Buffer, rstd: Buffer, out: Buffer) {
        let rounding = Rounding::of(out.dtype());
        let [x, weight, rstd, out] = self.views([x, weight, rstd, out]);
        norm::rebuild(x, weight, rstd, rounding, out);
    }

    fn norm_backward(&mut self, op: NormBackward) {
        let NormBackward { x, weight, rstd, dout, dx, dweight } = op;
        let rounding = Rounding::of(dx.dtype());
        if let Some(dweight) = dweight {
            let partials = self.scratch().partials;
            let [x, rstd, dout, partials, dweight] = self.views([x, rstd, dout, partials, dweight]);
            norm::weight_backward(x, rstd, dout, partials, dweight);
        }
        let [x, weight, rstd, dout, dx] = self.views([x, weight, rstd, dout, dx]);
        norm::backward(x, weight, rstd, dout, (dx, rounding));
    }

    fn rotate(&mut self, fused: Buffer, turn: Turn) {
        let rounding = Rounding::of(fused.dtype());
        let rotation = self.rotation.take().expect("the engine plans the backend's scratch before it computes");
        let (heads, positions) = (self.heads, std::mem::take(&mut self.rows.positions));
        let [values] = self.views([fused]);
        rotation.rotate(heads, &positions, (values, rounding), turn);
        (self.rows.positions, self.rotation) = (positions, Some(rotation));
    }

    fn attend(&mut self, op: Attention) {
        let rounding = Rounding::of(op.out.dtype());
        let (heads, window, scores) = (self.heads, self.shape.window, self.scratch().scores);
        let documents = std::mem::take(&mut self.rows.documents);
        let [fused, out, lse, scores] = self.views([op.fused, op.out, op.lse, scores]);
        let extents = Extents { heads, window, documents: &documents };
        attention::forward(extents, fused, (out, rounding), lse, scores);
        self.rows.documents = documents;
    }

    fn attend_backward(&mut self, op: AttentionBackward) {
        let AttentionBackward { forward: Attention { fused, out, lse }, dout, dfused } = op;
        let rounding = Rounding::of(dfused.dtype());
        let (heads, window, scores) = (self.heads, self.shape.window, self.scratch().scores);
        let documents = std::mem::take(&mut self.rows.documents);
        let [fused, out, lse, dout, dfused, scores] = self.views([fused, out, lse, dout, dfused, scores]);
        let extents = Extents { heads, window, documents: &documents };
        let forward = attention::Forward { fused, out, lse, dout };
        attention::backward(extents, forward, (dfused, rounding), scores);
        self.rows.documents = documents;
    }

    fn attend_cached(&mut self, op: CachedAttention) {
        let rounding = Rounding::of(op.out.dtype());
        let (heads, window, scores) = (self.heads, self.shape.window, self.scratch().scores);
        let (documents, spans) = (std::mem::take(&mut self.rows.documents), std::mem::take(&mut self.rows.spans));
        let [fused, keys, values, out, scores] = self.views([op.fused, op.keys, op.values, op.out, scores]);
        let width = heads.kv_width();
        let mut texts = Vec::with_capacity(spans.len());
        for (span, rows) in spans.iter().zip(&documents) {
            let first = span.slot * op.capacity * width;
            append(heads, &fused[rows.start * heads.fused_width()..], span, &mut keys[first..], &mut values[first..]);
            texts.push((first..first + (span.start + span.rows) * width, rows.clone()));
        }
        let cached =
            |(range, rows): (Range<usize>, Range<usize>)| CachedText { rows, keys: &keys[range.clone()], values: &values[range] };
        let texts: Vec<CachedText<'_, R>> = texts.into_iter().map(cached).collect();
        attention::forward_cached((heads, window), &texts, fused, (out, rounding), scores);
        (self.rows.documents, self.rows.spans) = (documents, spans);
    }

    fn swiglu(&mut self, gate_up: Buffer, out: Buffer) {
        let (width, rounding) = (self.shape.feed_forward, Rounding::of(out.dtype()));
        let [gate_up, out] = self.views([gate_up, out]);
        swiglu::forward(gate_up, (out, rounding), width);
    }

    fn swiglu_backward(&mut self, gate_up: Buffer, dout: Buffer, dgate_up: Buffer, out: Buffer) {
        let roundings = [dgate_up, out].map(|buffer| Rounding::of(buffer.dtype()));
        let width = self.shape.feed_forward;
        let [gate_up, dout, dgate_up, out] = self.views([gate_up, dout, dgate_up, out]);
        swiglu::backward(gate_up, dout, (dgate_up, roundings[0]), (out, roundings[1]), width);
    }

    fn multiply(&mut self, product: Product) {
        let Product { alpha, a, b, c, accumulate } = product;
        let terms = Terms { alpha: R::from_f64(alpha), accumulate, rounding: Rounding::of(c.buffer.dtype()) };
        let [left, right, out] = self.views([a.buffer, b.buffer, c.buffer]);
        let out = gemm::matrix_mut(out, c.rows, c.columns, c.row_stride);
        gemm::multiply(terms, view(a, left), view(b, right), out);
    }

    fn drop_out(&mut self, dropout: Dropout, x: Buffer, out: Buffer) {
        let (rounding, mask) = (Rounding::of(out.dtype()), self.mask(dropout));
        let [x, out] = self.views([x, out]);
        mask.forward(x, (out, rounding), dropout.width);
    }

    fn drop_out_backward(&mut self, dropout: Dropout, dout: Buffer, dx: Buffer) {
        let (rounding, mask) = (Rounding::of(dx.dtype()), self.mask(dropout));
        let [dout, dx] = self.views([dout, dx]);
        mask.backward(dout, (dx, rounding), dropout.width);
    }

    fn cross_entropy(&mut self, op: CrossEntropy) {
        let CrossEntropy { logits, losses, first_row, gradient } = op;
        let scale = self.pass.scale;
        let rounding = Rounding::of(logits.dtype());
        let range = first_row..first_row + losses.length();
        let (tokens, counted) = (std::mem::take(&mut self.rows.targets), std::mem::take(&mut self.rows.counted));
        let targets = Targets { tokens: &tokens[range.clone()], counted: &counted[range] };
        let [logits, losses] = self.views([logits, losses]);
        if gradient {
            cross_entropy::forward_backward((logits, rounding), targets, scale, losses);
        } else {
            cross_entropy::forward(logits, targets, losses);
        }
        let finite = losses.iter().all(|loss| Real::is_finite(*loss));
        self.losses_finite &= finite;
        (self.rows.targets, self.rows.counted) = (tokens, counted);
    }

    fn gather(&mut self, from: Buffer, rows: &[u32], out: Buffer) {
        let width = self.width();
        let [from, out] = self.views([from, out]);
        embedding::forward(from, rows, out, width);
    }

    fn begin_step(&mut self) {
        self.losses_finite = true;
    }

    fn judge(&mut self, gradient: Buffer, limits: Limits) -> Ticket {
        let norm = self.norm_in_place(gradient);
        let finite = norm.is_finite() && self.losses_finite;
        let applied = finite && norm <= limits.skip_above;
        self.judgement = Judgement { norm, finite, factor: if applied { clip_factor(norm, limits.clip) } else { 0.0 } };
        self.keep(Fetched::Judgement(self.judgement))
    }

    fn judgement(&mut self, ticket: Ticket) -> Result<Judgement, DeviceError> {
        match self.fetched.remove(&ticket.0) {
            Some(Fetched::Judgement(judgement)) => Ok(judgement),
            _ => panic!("backend: a ticket is collected once"),
        }
    }

    fn adamw(&mut self, step: AdamWStep) {
        if self.judgement.factor == 0.0 {
            return;
        }
        let factor = self.judgement.factor;
        let ([first, second], draw) = match step.moments {
            Moments::Exact(moments) => (moments, None),
            Moments::Drawn(moments, draw) => (moments, Some(draw)),
        };
        let [master, first, second, gradient] = self.views([whole(step.weights), first, second, step.gradient]);
        adamw::update(adamw::Weights { master, first, second }, gradient, factor, step.scalars, draw);
        if let Weights::Split { working, remainder } = step.weights {
            let [whole, working] = self.views([remainder, working]);
            split::round(whole, working);
        }
    }

    fn norm_of(&mut self, weights: Weights) -> Ticket {
        let norm = self.norm_in_place(whole(weights));
        self.keep(Fetched::Norm(norm))
    }

    fn found_norm(&mut self, ticket: Ticket) -> Result<f64, DeviceError> {
        match self.fetched.remove(&ticket.0) {
            Some(Fetched::Norm(norm)) => Ok(norm),
            _ => panic!("backend: a ticket is collected once"),
        }
    }
}

/// Where whole weights lie: in the place of remainders, which have the width of all values here.
fn whole(weights: Weights) -> Buffer {
    match weights {
        Weights::Plain(buffer) | Weights::Split { remainder: buffer, .. } => buffer,
    }
}

/// Replaces the contents, in the memory that is there.
fn refill<T: Copy>(list: &mut Vec<T>, values: &[T]) {
    list.clear();
    list.extend_from_slice(values);
}

/// Adds the keys and values of a text's new rows to its cache; each slice begins with the text's own.
fn append<R: Real>(heads: Heads, fused: &[R], span: &super::CacheSpan, keys: &mut [R], values: &mut [R]) {
    let (width, first) = (heads.kv_width(), heads.width());
    for (row, fused) in fused.chunks_exact(heads.fused_width()).take(span.rows).enumerate() {
        let place = (span.start + row) * width;
        keys[place..place + width].copy_from_slice(&fused[first..first + width]);
        values[place..place + width].copy_from_slice(&fused[first + width..first + 2 * width]);
    }
}
