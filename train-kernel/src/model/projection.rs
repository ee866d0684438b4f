//! One group of projections with its adapters: y = W x + (alpha / r) B A dropout(x), forward and backward.
//!
//! The adapter's inner values are computed again in the backward: they cost r / C of the projection itself.

use super::weights::{Group, Places};
use super::workspace::AdapterBuffers;
use super::{Gradients, Model};
use crate::lora::{Adapters, Target};
use crate::ops::dropout::Mask;
use crate::ops::gemm::{Matrix, MatrixMut, multiply};
use crate::parameters::Parameters;
use crate::random::{Purpose, Stream};
use crate::real::Real;
use crate::shape::Shape;

/// The weights of one pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights<'a, R: Real> {
    pub(crate) shape: &'a Shape,
    pub(crate) places: &'a Places,
    pub(crate) parameters: &'a Parameters<R>,
    pub(crate) adapters: Option<&'a Adapters<R>>,
}

/// One adapter of a group.
struct Adapter<'a, R: Real> {
    a: &'a [R],
    b: &'a [R],
    /// The layout's index of A; that of B is one more.
    index: usize,
    rank: usize,
    input: usize,
    output: usize,
    /// Its first column in the group's output.
    column: usize,
    scale: R,
    mask: Option<Mask>,
}

impl<'a, R: Real> Weights<'a, R> {
    /// The weights of this model, checked.
    ///
    /// # Panics
    /// When parameters or adapters have another layout than the model's.
    pub(crate) fn new(model: &'a Model, parameters: &'a Parameters<R>, adapters: Option<&'a Adapters<R>>) -> Self {
        let fits = super::same_layout(parameters, &model.layout);
        assert!(fits, "model: the parameters have another layout than the model's shape");
        if let Some(adapters) = adapters {
            let length = adapters.spec.parameter_count(&model.shape) as usize;
            let fits = adapters.parameters.data.len() == length && adapters.spec.check().is_ok();
            assert!(fits, "model: the adapters do not fit the model's shape");
        }
        Self { shape: &model.shape, places: &model.places, parameters, adapters }
    }

    /// The matrix or norm at this place.
    pub(crate) fn at(&self, place: std::ops::Range<usize>) -> &'a [R] {
        &self.parameters.data[place]
    }

    /// `y (n, out) = W x + beta y` with `x (n, in)`, adapters added.
    pub(crate) fn project(&self, (layer, group): (usize, Group), x: &[R], beta: R, y: &mut [R], buffers: &mut AdapterBuffers<R>) {
        let (output, input) = group.extents(self.shape);
        let rows = x.len() / input;
        let matrix = Matrix::new(self.at(self.places.group(layer, group)), output, input);
        multiply(R::ONE, Matrix::new(x, rows, input), matrix.transposed(), beta, MatrixMut::new(y, rows, output));
        for adapter in self.group_adapters(layer, group) {
            adapter.lower(x, rows, buffers);
            let low = Matrix::new(&buffers.low[..rows * adapter.rank], rows, adapter.rank);
            let columns = MatrixMut::strided(&mut y[adapter.column..], rows, adapter.output, output);
            multiply(adapter.scale, low, adapter.b().transposed(), R::ONE, columns);
        }
    }

    /// Given `dy (n, out)`: `dx (n, in) =` the gradient with respect to the input.
    pub(crate) fn input_gradient(&self, (layer, group): (usize, Group), dy: &[R], dx: &mut [R], buffers: &mut AdapterBuffers<R>) {
        let (output, input) = group.extents(self.shape);
        let rows = dy.len() / output;
        let matrix = Matrix::new(self.at(self.places.group(layer, group)), output, input);
        multiply(R::ONE, Matrix::new(dy, rows, output), matrix, R::ZERO, MatrixMut::new(dx, rows, input));
        for adapter in self.group_adapters(layer, group) {
            adapter.input_gradient(adapter.columns(dy, output), dx, buffers);
        }
    }

    /// Given `x (n, in)` and `dy (n, out)`: the gradients of the weights, or of the adapters, `+=`.
    pub(crate) fn weight_gradients(
        &self,
        (layer, group): (usize, Group),
        (x, dy): (&[R], &[R]),
        gradients: &mut Gradients<'_, R>,
        buffers: &mut AdapterBuffers<R>,
    ) {
        let (output, input) = group.extents(self.shape);
        let rows = x.len() / input;
        match gradients {
            Gradients::Full(gradients) => {
                let place = self.places.group(layer, group);
                let target = MatrixMut::new(&mut gradients.data[place], output, input);
                let dy = Matrix::new(dy, rows, output).transposed();
                multiply(R::ONE, dy, Matrix::new(x, rows, input), R::ONE, target);
            }
            Gradients::Adapters(gradients) => {
                for adapter in self.group_adapters(layer, group) {
                    adapter.weight_gradients(x, adapter.columns(dy, output), gradients, buffers);
                }
            }
        }
    }

    fn group_adapters(&self, layer: usize, group: Group) -> impl Iterator<Item = Adapter<'a, R>> {
        let (shape, adapters) = (self.shape, self.adapters);
        let mut column = 0;
        group.targets().iter().filter_map(move |&target| {
            let first = column;
            column += target.extents(shape).0;
            Adapter::new(shape, adapters?, layer, target, first)
        })
    }
}

impl<'a, R: Real> Adapter<'a, R> {
    fn new(shape: &Shape, adapters: &'a Adapters<R>, layer: usize, target: Target, column: usize) -> Option<Self> {
        let index = adapters.index(layer, target)?;
        let (output, input) = target.extents(shape);
        let spec = &adapters.spec;
        let mask = adapters.dropout.filter(|_| spec.dropout > 0.0).map(|key| {
            let stream = Stream::new(key.seed, Purpose::Dropout, key.step, index);
            Mask::new(stream, key.first_row, spec.dropout)
        });
        Some(Self {
            a: adapters.parameters.slice(index),
            b: adapters.parameters.slice(index + 1),
            index,
            rank: spec.rank,
            input,
            output,
            column,
            scale: R::from_f64(spec.scale()),
            mask,
        })
    }

    fn a(&self) -> Matrix<'a, R> {
        Matrix::new(self.a, self.rank, self.input)
    }

    fn b(&self) -> Matrix<'a, R> {
        Matrix::new(self.b, self.output, self.rank)
    }

    /// `buffers.low (n, r) =` A dropout(x); `buffers.input =` dropout(x) where there is dropout.
    fn lower(&self, x: &[R], rows: usize, buffers: &mut AdapterBuffers<R>) {
        let input = match self.mask {
            Some(mask) => {
                mask.forward(x, &mut buffers.input[..x.len()], self.input);
                &buffers.input[..x.len()]
            }
            None => x,
        };
        let low = MatrixMut::new(&mut buffers.low[..rows * self.rank], rows, self.rank);
        multiply(R::ONE, Matrix::new(input, rows, self.input), self.a().transposed(), R::ZERO, low);
    }

    /// Its columns of the group's `dy (n, width)`.
    fn columns<'d>(&self, dy: &'d [R], width: usize) -> Matrix<'d, R> {
        Matrix::strided(&dy[self.column..], dy.len() / width, self.output, width)
    }

    /// `buffers.dlow (n, r) =` the gradient of A dropout(x), given the adapter's columns of dy.
    fn low_gradient(&self, dy: Matrix<'_, R>, buffers: &mut AdapterBuffers<R>) {
        let rows = dy.rows();
        let target = MatrixMut::new(&mut buffers.dlow[..rows * self.rank], rows, self.rank);
        multiply(self.scale, dy, self.b(), R::ZERO, target);
    }

    /// `dx (n, in) +=`
    fn input_gradient(&self, dy: Matrix<'_, R>, dx: &mut [R], buffers: &mut AdapterBuffers<R>) {
        let rows = dy.rows();
        self.low_gradient(dy, buffers);
        let dlow = Matrix::new(&buffers.dlow[..rows * self.rank], rows, self.rank);
        match self.mask {
            Some(mask) => {
                let dinput = &mut buffers.dinput[..dx.len()];
                multiply(R::ONE, dlow, self.a(), R::ZERO, MatrixMut::new(dinput, rows, self.input));
                mask.backward(dinput, dx, self.input);
            }
            None => multiply(R::ONE, dlow, self.a(), R::ONE, MatrixMut::new(dx, rows, self.input)),
        }
    }

    /// The gradients of A and B `+=`
    fn weight_gradients(&self, x: &[R], dy: Matrix<'_, R>, gradients: &mut Parameters<R>, buffers: &mut AdapterBuffers<R>) {
        let rows = dy.rows();
        self.lower(x, rows, buffers);
        let low = Matrix::new(&buffers.low[..rows * self.rank], rows, self.rank);
        let target = MatrixMut::new(gradients.slice_mut(self.index + 1), self.output, self.rank);
        multiply(self.scale, dy.transposed(), low, R::ONE, target);
        self.low_gradient(dy, buffers);
        let input = if self.mask.is_some() { &buffers.input[..x.len()] } else { x };
        let dlow = Matrix::new(&buffers.dlow[..rows * self.rank], rows, self.rank);
        let target = MatrixMut::new(gradients.slice_mut(self.index), self.rank, self.input);
        multiply(R::ONE, dlow.transposed(), Matrix::new(input, rows, self.input), R::ONE, target);
    }
}
