//! One group of projections with its adapters: y = W x + (alpha / r) B A dropout(x), forward and backward.
//!
//! The adapter's inner values are computed again in the backward: they cost r / C of the projection itself.

use std::ops::Range;

use super::Engine;
use super::buffers::AdapterBuffers;
use super::places::Group;
use crate::backend::{Buffer, Dropout, Matrix, Product};
use crate::lora::Target;
use crate::real::Real;

/// A group of projections of one layer.
pub(super) type Projection = (usize, Group);

/// One adapter of a group.
#[derive(Clone, Debug)]
struct Adapter {
    /// Places of A and B in the adapters' layout.
    a: Range<usize>,
    b: Range<usize>,
    rank: usize,
    input: usize,
    output: usize,
    /// Columns of the group's output.
    width: usize,
    /// Its first column in the group's output.
    column: usize,
    scale: f64,
    dropout: Option<Dropout>,
}

impl<E: Real> Engine<E> {
    /// `y (n, out) = W x` with `x (n, in)`, adapters added.
    pub(super) fn project(&mut self, projection: Projection, x: Buffer, y: Buffer) {
        let (layer, group) = projection;
        let (output, input) = group.extents(self.model.shape());
        let rows = x.length() / input;
        let weight = Matrix::new(self.weight(self.model.places().group(layer, group)), output, input);
        let (x_rows, y_rows) = (Matrix::new(x, rows, input), Matrix::new(y, rows, output));
        self.product(1.0, x_rows, weight.transposed(), (y_rows, false));
        for adapter in self.group_adapters(projection) {
            self.lower(&adapter, x, rows);
            let (low, b) = (self.low(&adapter, rows), self.adapter_matrix(&adapter.b, adapter.output, adapter.rank));
            self.product(adapter.scale, low, b.transposed(), (adapter.columns(y, rows), true));
        }
    }

    /// Given `dy (n, out)`: `dx (n, in) =` the gradient with respect to the input.
    pub(super) fn input_gradient(&mut self, projection: Projection, dy: Buffer, dx: Buffer) {
        let (layer, group) = projection;
        let (output, input) = group.extents(self.model.shape());
        let rows = dy.length() / output;
        let weight = Matrix::new(self.weight(self.model.places().group(layer, group)), output, input);
        self.product(1.0, Matrix::new(dy, rows, output), weight, (Matrix::new(dx, rows, input), false));
        for adapter in self.group_adapters(projection) {
            let dlow = self.low_gradient(&adapter, dy, rows);
            let a = self.adapter_matrix(&adapter.a, adapter.rank, input);
            match adapter.dropout {
                Some(dropout) => {
                    let dinput = self.adapter_buffers().dinput.first(rows * input);
                    self.product(1.0, dlow, a, (Matrix::new(dinput, rows, input), false));
                    self.backend.drop_out_backward(dropout, dinput, dx);
                }
                None => self.product(1.0, dlow, a, (Matrix::new(dx, rows, input), true)),
            }
        }
    }

    /// Given `x (n, in)` and `dy (n, out)`: the gradients of the weights, or of the adapters, `+=`.
    pub(super) fn weight_gradients(&mut self, projection: Projection, x: Buffer, dy: Buffer) {
        let (layer, group) = projection;
        let (output, input) = group.extents(self.model.shape());
        let rows = x.length() / input;
        if let Some(gradient) = self.gradient(self.model.places().group(layer, group)) {
            let dy = Matrix::new(dy, rows, output).transposed();
            self.product(1.0, dy, Matrix::new(x, rows, input), (Matrix::new(gradient, output, input), true));
        }
        let Some(gradient) = self.adapters.as_ref().and_then(super::state::Trainable::gradient) else { return };
        for adapter in self.group_adapters(projection) {
            self.lower(&adapter, x, rows);
            let low = self.low(&adapter, rows);
            let columns = adapter.columns(dy, rows).transposed();
            let db = Matrix::new(gradient.part(adapter.b.clone()), adapter.output, adapter.rank);
            self.product(adapter.scale, columns, low, (db, true));
            let dlow = self.low_gradient(&adapter, dy, rows).transposed();
            let input = match adapter.dropout {
                Some(_) => self.adapter_buffers().input.first(rows * adapter.input),
                None => x,
            };
            let da = Matrix::new(gradient.part(adapter.a.clone()), adapter.rank, adapter.input);
            self.product(1.0, dlow, Matrix::new(input, rows, adapter.input), (da, true));
        }
    }

    /// `c = alpha a b`, or `+=`.
    pub(super) fn product(&mut self, alpha: f64, a: Matrix, b: Matrix, (c, accumulate): (Matrix, bool)) {
        self.backend.multiply(Product { alpha, a, b, c, accumulate });
    }

    /// `low (n, r) =` A dropout(x); `input =` dropout(x) where there is dropout.
    fn lower(&mut self, adapter: &Adapter, x: Buffer, rows: usize) {
        let input = match adapter.dropout {
            Some(dropout) => {
                let dropped = self.adapter_buffers().input.first(x.length());
                self.backend.drop_out(dropout, x, dropped);
                dropped
            }
            None => x,
        };
        let (low, a) = (self.low(adapter, rows), self.adapter_matrix(&adapter.a, adapter.rank, adapter.input));
        self.product(1.0, Matrix::new(input, rows, adapter.input), a.transposed(), (low, false));
    }

    /// The gradient of A dropout(x), `(n, r)`, `=`.
    fn low_gradient(&mut self, adapter: &Adapter, dy: Buffer, rows: usize) -> Matrix {
        let b = self.adapter_matrix(&adapter.b, adapter.output, adapter.rank);
        let dlow = Matrix::new(self.adapter_buffers().dlow, rows, adapter.rank);
        self.product(adapter.scale, adapter.columns(dy, rows), b, (dlow, false));
        dlow
    }

    fn low(&self, adapter: &Adapter, rows: usize) -> Matrix {
        Matrix::new(self.adapter_buffers().low, rows, adapter.rank)
    }

    fn adapter_matrix(&self, place: &Range<usize>, rows: usize, columns: usize) -> Matrix {
        let adapters = self.adapters.as_ref().expect("an adapter belongs to a set");
        Matrix::new(adapters.working().part(place.clone()), rows, columns)
    }

    fn adapter_buffers(&self) -> AdapterBuffers {
        self.buffers.adapters.expect("an engine with adapters has their buffers")
    }

    /// The adapters of a group, in the order of their columns.
    fn group_adapters(&self, (layer, group): Projection) -> Vec<Adapter> {
        let Some(set) = &self.adapters else { return Vec::new() };
        let spec = self.spec.lora.as_ref().expect("an engine with adapters has their specification");
        let shape = self.model.shape();
        let (width, _) = group.extents(shape);
        let mut column = 0;
        let mut adapters = Vec::new();
        for &target in group.targets() {
            let (output, input) = target.extents(shape);
            if let Some(index) = spec.index(layer, target) {
                let place = |at: usize| set.layout.tensors()[at].range();
                let (a, b, rank, scale) = (place(index), place(index + 1), spec.rank, spec.scale());
                let dropout = self.dropout_of(spec.dropout, index, target);
                adapters.push(Adapter { a, b, rank, input, output, width, column, scale, dropout });
            }
            column += output;
        }
        adapters
    }

    fn dropout_of(&self, probability: f64, index: usize, target: Target) -> Option<Dropout> {
        let seed = self.dropout_seed.filter(|_| probability > 0.0)?;
        let (_, width) = target.extents(self.model.shape());
        Some(Dropout { seed, tensor: index, probability, width })
    }
}

impl Adapter {
    /// Its columns of the group's `y (n, width)`.
    fn columns(&self, y: Buffer, rows: usize) -> Matrix {
        Matrix::columns_of(y, rows, self.width, self.column, self.output)
    }
}
