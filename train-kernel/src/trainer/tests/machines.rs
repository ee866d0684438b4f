//! Machines that fail or choose as a card may: the processor behind them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::backend::{
    AdamWStep, ArenaPlan, Attention, AttentionBackward, Backend, Buffer, CachedAttention, Cpu, CrossEntropy, DecodeRows,
    DeviceError, Dropout, Dtype, ElementBytes, Extent, Judgement, Limits, Machine, Norm, NormBackward, Pass, Product, Ticket,
    Turn, Weights,
};
use crate::batch::Batch;
use crate::shape::Shape;

/// A machine that counts what is asked of it, and is lost when that comes to a number. It works ahead.
#[derive(Debug)]
pub(super) struct Fragile {
    /// Calls until it is lost.
    most: u64,
    asked: Arc<AtomicU64>,
    /// What it was to go on with, each time.
    given: Mutex<Vec<Option<Value>>>,
    /// What it says that it chose; nothing when it chooses nothing.
    chooses: Option<Value>,
}

impl Fragile {
    /// Lost at this call, counted from 0.
    pub(super) fn lost_at(call: u64) -> Arc<Self> {
        Arc::new(Self { most: call, asked: Arc::default(), given: Mutex::default(), chooses: None })
    }

    /// Never lost.
    pub(super) fn healthy() -> Arc<Self> {
        Self::lost_at(u64::MAX)
    }

    /// Never lost; chooses this unless it is given a choice that it can read, which is an object.
    pub(super) fn choosing(choice: Value) -> Arc<Self> {
        Arc::new(Self { most: u64::MAX, asked: Arc::default(), given: Mutex::default(), chooses: Some(choice) })
    }

    /// Calls so far.
    pub(super) fn calls(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// What it was to go on with, each time that a backend was made.
    pub(super) fn given(&self) -> Vec<Option<Value>> {
        self.given.lock().unwrap().clone()
    }
}

impl Machine for Fragile {
    fn backend(&self, shape: &Shape, choices: Option<&Value>) -> Result<Box<dyn Backend<f32>>, DeviceError> {
        self.given.lock().unwrap().push(choices.cloned());
        let taken = choices.filter(|choices| choices.is_object()).cloned();
        let warnings = match (&self.chooses, choices, &taken) {
            (Some(_), Some(_), None) => vec!["GPU: algorithms are chosen again".to_owned()],
            _ => Vec::new(),
        };
        Ok(Box::new(FragileBackend {
            inner: Cpu::working_ahead(shape),
            most: self.most,
            asked: Arc::clone(&self.asked),
            choices: self.chooses.as_ref().map(|choice| taken.unwrap_or_else(|| json!({ "chosen": choice }))),
            warnings,
        }))
    }
}

#[derive(Debug)]
struct FragileBackend {
    inner: Cpu<f32>,
    most: u64,
    asked: Arc<AtomicU64>,
    choices: Option<Value>,
    warnings: Vec<String>,
}

impl FragileBackend {
    /// Does an operation, unless it is lost.
    fn ask(&mut self, operation: impl FnOnce(&mut Cpu<f32>)) {
        if self.asked.fetch_add(1, Ordering::Relaxed) < self.most {
            operation(&mut self.inner);
        }
    }

    /// What gives a value back, unless it is lost.
    fn give<T>(&mut self, operation: impl FnOnce(&mut Cpu<f32>) -> Result<T, DeviceError>) -> Result<T, DeviceError> {
        if self.asked.fetch_add(1, Ordering::Relaxed) < self.most {
            return operation(&mut self.inner);
        }
        Err(DeviceError::Lost { operation: "a copy from the card", reason: "CUDA_ERROR_LAUNCH_FAILED".to_owned() })
    }

    /// A ticket, which is worth nothing when it is lost.
    fn send(&mut self, operation: impl FnOnce(&mut Cpu<f32>) -> Ticket) -> Ticket {
        let is_lost = self.asked.fetch_add(1, Ordering::Relaxed) >= self.most;
        if is_lost { Ticket(u64::MAX) } else { operation(&mut self.inner) }
    }
}

impl Backend<f32> for FragileBackend {
    fn element_bytes(&self) -> ElementBytes {
        self.inner.element_bytes()
    }

    fn works_ahead(&self) -> bool {
        self.inner.works_ahead()
    }

    fn choices(&self) -> Option<Value> {
        self.choices.clone()
    }

    fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn computes_in(&self, dtype: Dtype) -> bool {
        self.inner.computes_in(dtype)
    }

    fn plan_scratch(&mut self, plan: &mut ArenaPlan, extent: Extent) {
        self.inner.plan_scratch(plan, extent);
    }

    fn allocate(&mut self, plan: &ArenaPlan) -> Result<(), DeviceError> {
        self.inner.allocate(plan)
    }

    fn head_rows(&self, vocabulary: usize) -> usize {
        self.inner.head_rows(vocabulary)
    }

    fn upload(&mut self, to: Buffer, values: &[f32]) {
        self.ask(|inner| inner.upload(to, values));
    }

    fn download(&mut self, from: Buffer, out: &mut [f32]) -> Result<(), DeviceError> {
        self.give(|inner| inner.download(from, out))
    }

    fn upload_weights(&mut self, to: Weights, values: &[f32]) {
        self.ask(|inner| inner.upload_weights(to, values));
    }

    fn download_weights(&mut self, from: Weights, out: &mut [f32]) -> Result<(), DeviceError> {
        self.give(|inner| inner.download_weights(from, out))
    }

    fn fetch(&mut self, from: Buffer) -> Ticket {
        self.send(|inner| inner.fetch(from))
    }

    fn collect(&mut self, ticket: Ticket, out: &mut [f32]) -> Result<(), DeviceError> {
        self.give(|inner| inner.collect(ticket, out))
    }

    fn zero(&mut self, buffer: Buffer) {
        self.ask(|inner| inner.zero(buffer));
    }

    fn convert(&mut self, from: Buffer, to: Buffer) {
        self.ask(|inner| inner.convert(from, to));
    }

    fn load_batch(&mut self, batch: &Batch, pass: Pass) {
        self.ask(|inner| inner.load_batch(batch, pass));
    }

    fn load_decode(&mut self, rows: &DecodeRows) {
        self.ask(|inner| inner.load_decode(rows));
    }

    fn embed(&mut self, table: Buffer, out: Buffer) {
        self.ask(|inner| inner.embed(table, out));
    }

    fn embed_backward(&mut self, dout: Buffer, dtable: Buffer) {
        self.ask(|inner| inner.embed_backward(dout, dtable));
    }

    fn norm(&mut self, norm: Norm) {
        self.ask(|inner| inner.norm(norm));
    }

    fn norm_rebuild(&mut self, x: Buffer, weight: Buffer, rstd: Buffer, out: Buffer) {
        self.ask(|inner| inner.norm_rebuild(x, weight, rstd, out));
    }

    fn norm_backward(&mut self, norm: NormBackward) {
        self.ask(|inner| inner.norm_backward(norm));
    }

    fn rotate(&mut self, fused: Buffer, turn: Turn) {
        self.ask(|inner| inner.rotate(fused, turn));
    }

    fn attend(&mut self, attention: Attention) {
        self.ask(|inner| inner.attend(attention));
    }

    fn attend_backward(&mut self, attention: AttentionBackward) {
        self.ask(|inner| inner.attend_backward(attention));
    }

    fn attend_cached(&mut self, attention: CachedAttention) {
        self.ask(|inner| inner.attend_cached(attention));
    }

    fn swiglu(&mut self, gate_up: Buffer, out: Buffer) {
        self.ask(|inner| inner.swiglu(gate_up, out));
    }

    fn swiglu_backward(&mut self, gate_up: Buffer, dout: Buffer, dgate_up: Buffer, out: Buffer) {
        self.ask(|inner| inner.swiglu_backward(gate_up, dout, dgate_up, out));
    }

    fn multiply(&mut self, product: Product) {
        self.ask(|inner| inner.multiply(product));
    }

    fn drop_out(&mut self, dropout: Dropout, x: Buffer, out: Buffer) {
        self.ask(|inner| inner.drop_out(dropout, x, out));
    }

    fn drop_out_backward(&mut self, dropout: Dropout, dout: Buffer, dx: Buffer) {
        self.ask(|inner| inner.drop_out_backward(dropout, dout, dx));
    }

    fn cross_entropy(&mut self, rows: CrossEntropy) {
        self.ask(|inner| inner.cross_entropy(rows));
    }

    fn gather(&mut self, from: Buffer, rows: &[u32], out: Buffer) {
        self.ask(|inner| inner.gather(from, rows, out));
    }

    fn begin_step(&mut self) {
        self.ask(Backend::begin_step);
    }

    fn judge(&mut self, gradient: Buffer, limits: Limits) -> Ticket {
        self.send(|inner| inner.judge(gradient, limits))
    }

    fn judgement(&mut self, ticket: Ticket) -> Result<Judgement, DeviceError> {
        self.give(|inner| inner.judgement(ticket))
    }

    fn adamw(&mut self, step: AdamWStep) {
        self.ask(|inner| inner.adamw(step));
    }

    fn norm_of(&mut self, weights: Weights) -> Ticket {
        self.send(|inner| inner.norm_of(weights))
    }

    fn found_norm(&mut self, ticket: Ticket) -> Result<f64, DeviceError> {
        self.give(|inner| inner.found_norm(ticket))
    }
}
