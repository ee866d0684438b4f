//! A backend that notes how long each operation of another one takes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use mellama_train::backend::{
    AdamWStep, ArenaPlan, Attention, AttentionBackward, Backend, Buffer, CachedAttention, CrossEntropy, DecodeRows, DeviceError,
    Dropout, Dtype, ElementBytes, Extent, Judgement, Limits, Norm, NormBackward, Pass, Product, Ticket, Turn, Weights,
};
use mellama_train::{Batch, Real};

/// Seconds by operation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Arc<Mutex<BTreeMap<&'static str, f64>>>);

impl Times {
    /// Forgets what was noted.
    pub(crate) fn clear(&self) {
        self.0.lock().expect("nobody panics while noting").clear();
    }

    /// What was noted.
    pub(crate) fn table(&self) -> BTreeMap<&'static str, f64> {
        self.0.lock().expect("nobody panics while noting").clone()
    }

    fn note<T>(&self, name: &'static str, run: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = run();
        *self.0.lock().expect("nobody panics while noting").entry(name).or_default() += start.elapsed().as_secs_f64();
        result
    }
}

/// The backend with a clock.
#[derive(Debug)]
pub(crate) struct Timed<E: Real> {
    inner: Box<dyn Backend<E>>,
    times: Times,
}

impl<E: Real> Timed<E> {
    /// Notes the times of `inner`.
    pub(crate) fn new(inner: Box<dyn Backend<E>>, times: Times) -> Self {
        Self { inner, times }
    }
}

impl<E: Real> Backend<E> for Timed<E> {
    fn element_bytes(&self) -> ElementBytes {
        self.inner.element_bytes()
    }

    fn works_ahead(&self) -> bool {
        self.inner.works_ahead()
    }

    fn computes_in(&self, dtype: Dtype) -> bool {
        self.inner.computes_in(dtype)
    }

    fn head_rows(&self, vocabulary: usize) -> usize {
        self.inner.head_rows(vocabulary)
    }

    fn plan_scratch(&mut self, plan: &mut ArenaPlan, extent: Extent) {
        self.inner.plan_scratch(plan, extent);
    }

    fn allocate(&mut self, plan: &ArenaPlan) -> Result<(), DeviceError> {
        self.inner.allocate(plan)
    }

    fn upload(&mut self, to: Buffer, values: &[E]) {
        self.times.note("upload", || self.inner.upload(to, values));
    }

    fn download(&mut self, from: Buffer, out: &mut [E]) -> Result<(), DeviceError> {
        self.times.note("download", || self.inner.download(from, out))
    }

    fn upload_weights(&mut self, to: Weights, values: &[E]) {
        self.times.note("upload", || self.inner.upload_weights(to, values));
    }

    fn download_weights(&mut self, from: Weights, out: &mut [E]) -> Result<(), DeviceError> {
        self.times.note("download", || self.inner.download_weights(from, out))
    }

    fn fetch(&mut self, from: Buffer) -> Ticket {
        self.times.note("fetch", || self.inner.fetch(from))
    }

    fn collect(&mut self, ticket: Ticket, out: &mut [E]) -> Result<(), DeviceError> {
        self.times.note("collect", || self.inner.collect(ticket, out))
    }

    fn zero(&mut self, buffer: Buffer) {
        self.times.note("zero", || self.inner.zero(buffer));
    }

    fn convert(&mut self, from: Buffer, to: Buffer) {
        self.times.note("convert", || self.inner.convert(from, to));
    }

    fn load_batch(&mut self, batch: &Batch, pass: Pass) {
        self.times.note("load_batch", || self.inner.load_batch(batch, pass));
    }

    fn load_decode(&mut self, rows: &DecodeRows) {
        self.times.note("load_decode", || self.inner.load_decode(rows));
    }

    fn embed(&mut self, table: Buffer, out: Buffer) {
        self.times.note("embed", || self.inner.embed(table, out));
    }

    fn embed_backward(&mut self, dout: Buffer, dtable: Buffer) {
        self.times.note("embed_backward", || self.inner.embed_backward(dout, dtable));
    }

    fn norm(&mut self, norm: Norm) {
        self.times.note("norm", || self.inner.norm(norm));
    }

    fn norm_rebuild(&mut self, x: Buffer, weight: Buffer, rstd: Buffer, out: Buffer) {
        self.times.note("norm_rebuild", || self.inner.norm_rebuild(x, weight, rstd, out));
    }

    fn norm_backward(&mut self, norm: NormBackward) {
        self.times.note("norm_backward", || self.inner.norm_backward(norm));
    }

    fn rotate(&mut self, fused: Buffer, turn: Turn) {
        self.times.note("rotate", || self.inner.rotate(fused, turn));
    }

    fn attend(&mut self, attention: Attention) {
        self.times.note("attend", || self.inner.attend(attention));
    }

    fn attend_backward(&mut self, attention: AttentionBackward) {
        self.times.note("attend_backward", || self.inner.attend_backward(attention));
    }

    fn attend_cached(&mut self, attention: CachedAttention) {
        self.times.note("attend_cached", || self.inner.attend_cached(attention));
    }

    fn swiglu(&mut self, gate_up: Buffer, out: Buffer) {
        self.times.note("swiglu", || self.inner.swiglu(gate_up, out));
    }

    fn swiglu_backward(&mut self, gate_up: Buffer, dout: Buffer, dgate_up: Buffer, out: Buffer) {
        self.times.note("swiglu_backward", || self.inner.swiglu_backward(gate_up, dout, dgate_up, out));
    }

    fn multiply(&mut self, product: Product) {
        self.times.note("multiply", || self.inner.multiply(product));
    }

    fn drop_out(&mut self, dropout: Dropout, x: Buffer, out: Buffer) {
        self.times.note("drop_out", || self.inner.drop_out(dropout, x, out));
    }

    fn drop_out_backward(&mut self, dropout: Dropout, dout: Buffer, dx: Buffer) {
        self.times.note("drop_out_backward", || self.inner.drop_out_backward(dropout, dout, dx));
    }

    fn cross_entropy(&mut self, rows: CrossEntropy) {
        self.times.note("cross_entropy", || self.inner.cross_entropy(rows));
    }

    fn gather(&mut self, from: Buffer, rows: &[u32], out: Buffer) {
        self.times.note("gather", || self.inner.gather(from, rows, out));
    }

    fn begin_step(&mut self) {
        self.times.note("begin_step", || self.inner.begin_step());
    }

    fn judge(&mut self, gradient: Buffer, limits: Limits) -> Ticket {
        self.times.note("judge", || self.inner.judge(gradient, limits))
    }

    fn judgement(&mut self, ticket: Ticket) -> Result<Judgement, DeviceError> {
        self.times.note("judgement", || self.inner.judgement(ticket))
    }

    fn adamw(&mut self, step: AdamWStep) {
        self.times.note("adamw", || self.inner.adamw(step));
    }

    fn norm_of(&mut self, weights: Weights) -> Ticket {
        self.times.note("norm_of", || self.inner.norm_of(weights))
    }

    fn found_norm(&mut self, ticket: Ticket) -> Result<f64, DeviceError> {
        self.times.note("found_norm", || self.inner.found_norm(ticket))
    }
}
