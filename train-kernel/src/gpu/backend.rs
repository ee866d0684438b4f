//! The backend's state: its arena, the tables that kernels read beside the model's buffers, and the batch that is loaded.

use std::fmt::Debug;

use super::arguments::{DeviceJudgement, PassScalars};
use super::device::{Address, Device, DeviceError, DeviceMatrix, Launch, bytes_of};
use super::kernels::{self, Kernel};
use super::operands::{Operands, Table};
use super::tiles::{self, Tile};
use crate::backend::{ArenaPlan, Buffer, DecodeRows, Dtype, Extent, Matrix, Part, Pass};
use crate::batch::Batch;
use crate::ops::Heads;
use crate::ops::rope::RotationTable;
use crate::shape::Shape;

/// The most rows of logits that are computed together: 262 MB of them at 32,000 tokens.
pub(super) const HEAD_ROWS: usize = 4096;

/// In which order sums over several blocks of threads are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SumOrder {
    /// Always the same: the same bits in every run.
    #[default]
    Fixed,
    /// As blocks come: the gradients of attention take less time, and the last bits of a run are its own. They need
    /// `4 N C` bytes more, for N rows of a micro-batch of C columns.
    Any,
}

/// The operations of a model on a card.
#[derive(Debug)]
pub struct Gpu<D: Device> {
    pub(super) device: D,
    pub(super) shape: Shape,
    pub(super) heads: Heads,
    base: Address,
    tables: Option<Tables>,
    rotation: Option<RotationTable<f32>>,
    order: SumOrder,
    /// Rows that are loaded.
    pub(super) rows: usize,
}

/// Tiles of attention, up to N, and their number.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileList {
    pub(super) tiles: Table,
    pub(super) number: Table,
    /// Those that are loaded.
    pub(super) count: usize,
}

/// What kernels read and write beside the model's buffers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tables {
    /// [`PassScalars`]
    pub(super) pass: Table,
    /// Token ids, positions, targets and whether they count, `(N)` of u32 each.
    pub(super) tokens: Table,
    pub(super) positions: Table,
    pub(super) targets: Table,
    pub(super) counted: Table,
    /// Rows by token, `(N)`, and where each token's begin, `(N + 1)`.
    pub(super) order: Table,
    pub(super) runs: Table,
    /// Tiles of queries of the forward; of queries and keys of the backward.
    pub(super) attended_tiles: TileList,
    pub(super) query_tiles: TileList,
    pub(super) key_tiles: TileList,
    /// Slots of new rows, `(N)`.
    pub(super) slots: Table,
    /// Cosines and sines, `(positions, D/2)` of f32 each.
    pub(super) cosines: Table,
    pub(super) sines: Table,
    /// rowsum(dout · out), `(H, N)` of f32.
    pub(super) delta: Table,
    /// Gradients of queries, `(N, H D)` of f32, where they are added up in any order.
    pub(super) dqueries: Option<Table>,
    /// Partial sums of the gradient of a norm's weight, `(⌈N / strip⌉, C)` of f32.
    pub(super) norm_partials: Table,
    /// Partial sums of squares of a vector, f64.
    pub(super) square_partials: Table,
    /// Whether a loss of the step is not finite, u32.
    pub(super) not_finite: Table,
    /// [`DeviceJudgement`] of the step, and the norm of any vector.
    pub(super) judgement: Table,
    pub(super) other_norm: Table,
}

impl<D: Device> Gpu<D> {
    /// A backend for models of this shape.
    ///
    /// # Errors
    /// [`DeviceError::Unfit`] when the kernels are not made for it.
    pub fn new(device: D, shape: &Shape) -> Result<Self, DeviceError> {
        let heads = Heads::of(shape);
        let unfit = |what, got: usize, expected| Err(DeviceError::Unfit { what, got: got.to_string(), expected });
        if !matches!(heads.head_width, 64 | 128) {
            return unfit("head width", heads.head_width, "64 or 128");
        }
        if shape.width > kernels::MAX_WIDTH {
            return unfit("model width", shape.width, "at most 16384");
        }
        if !shape.feed_forward.is_multiple_of(8) {
            return unfit("feed-forward width", shape.feed_forward, "a multiple of 8");
        }
        let shared = kernels::attend_backward_keys(heads.head_width, false).shared_bytes;
        if shared > device.properties().shared_bytes {
            return unfit("head width", heads.head_width, "64 where a block has less than 161 KiB of shared memory");
        }
        let (base, order) = (Address::default(), SumOrder::default());
        Ok(Self { device, heads, shape: shape.clone(), base, tables: None, rotation: None, order, rows: 0 })
    }

    /// The same, with sums in this order; before anything is planned.
    #[must_use]
    pub fn with_order(self, order: SumOrder) -> Self {
        Self { order, ..self }
    }

    /// Goes on with sums in this order.
    ///
    /// # Panics
    /// When it was planned for [`SumOrder::Fixed`], and lacks the memory of the other.
    pub fn set_order(&mut self, order: SumOrder) {
        assert!(order == SumOrder::Fixed || self.tables().dqueries.is_some(), "sums in any order were not planned");
        self.order = order;
    }

    /// Where gradients of queries are added up.
    pub(super) fn added_queries(&self) -> Option<Table> {
        self.tables().dqueries.filter(|_| self.order == SumOrder::Any)
    }

    /// The card.
    pub fn device(&self) -> &D {
        &self.device
    }

    pub(super) fn tables(&self) -> Tables {
        self.tables.expect("the engine plans the backend's scratch before it computes")
    }

    pub(super) fn operands(&self) -> Operands {
        Operands::new(self.base)
    }

    pub(super) fn address(&self, buffer: Buffer) -> Address {
        self.base.plus(buffer.start_bytes())
    }

    pub(super) fn width(&self) -> usize {
        self.shape.width
    }

    /// Calls a kernel on a grid; not at all when the grid is empty.
    pub(super) fn launch<A: bytemuck::NoUninit>(&mut self, kernel: Kernel, grid: [usize; 3], arguments: &A, operands: &Operands) {
        if grid.contains(&0) {
            return;
        }
        let grid = grid.map(|blocks| u32::try_from(blocks).expect("a grid has fewer than 2^32 blocks"));
        self.device.launch(&Launch { kernel, grid, arguments: bytes_of(arguments), regions: operands.regions() });
    }

    /// A grid of enough blocks for so many threads.
    pub(super) fn flat(kernel: Kernel, threads: usize) -> [usize; 3] {
        [threads.div_ceil(kernel.module.threads as usize), 1, 1]
    }

    pub(super) fn matrix(&self, matrix: Matrix) -> DeviceMatrix {
        DeviceMatrix {
            address: self.address(matrix.buffer),
            dtype: matrix.buffer.dtype(),
            rows: matrix.rows,
            columns: matrix.columns,
            row_stride: matrix.row_stride,
            transposed: matrix.transposed,
        }
    }

    pub(super) fn plan_tables(&mut self, plan: &mut ArenaPlan, extent: Extent) {
        let Extent { rows, positions, .. } = extent;
        let half = self.heads.head_width / 2;
        // What is measured is trained, and has gradients in f32.
        let longest = [Part::Weights, Part::Gradients].map(|part| plan.part_bytes(part)).into_iter().max();
        let chunks = longest.unwrap_or(0).div_ceil(kernels::NORM_CHUNK * 4) as usize + 1;
        let mut words = |count: usize| Table { words: plan.buffer(Part::Work, Dtype::F32, count) };
        let tile_words = rows * size_of::<Tile>() / 4;
        self.tables = Some(Tables {
            pass: words(size_of::<PassScalars>() / 4),
            tokens: words(rows),
            positions: words(rows),
            targets: words(rows),
            counted: words(rows),
            order: words(rows),
            runs: words(rows + 1),
            attended_tiles: TileList { tiles: words(tile_words), number: words(1), count: 0 },
            query_tiles: TileList { tiles: words(tile_words), number: words(1), count: 0 },
            key_tiles: TileList { tiles: words(tile_words), number: words(1), count: 0 },
            slots: words(rows),
            cosines: words(positions * half),
            sines: words(positions * half),
            delta: words(self.heads.heads * rows),
            dqueries: (self.order == SumOrder::Any).then(|| words(self.heads.width() * rows)),
            norm_partials: words(rows.div_ceil(kernels::NORM_STRIP as usize) * self.shape.width),
            square_partials: words(2 * chunks),
            not_finite: words(1),
            judgement: words(size_of::<DeviceJudgement>() / 4),
            other_norm: words(size_of::<DeviceJudgement>() / 4),
        });
        self.rotation = Some(RotationTable::new(&self.shape, positions));
    }

    pub(super) fn allocate_arena(&mut self, plan: &ArenaPlan) -> Result<(), DeviceError> {
        // Kernels take memory too, and come first, so that the arena is measured against what is left.
        let kernels: Vec<Kernel> = kernels::of_model(self.shape.width, self.heads.head_width, self.order == SumOrder::Any);
        self.device.prepare(&kernels)?;
        let remedy = "take a smaller model, or a larger card";
        self.base = self.device.allocate(plan.total_bytes()).map_err(|available| plan.refused(Some(available), remedy))?;
        let (tables, rotation) = (self.tables(), self.rotation.take().expect("planned with the tables"));
        self.put(tables.cosines, rotation.cosines());
        self.put(tables.sines, rotation.sines());
        Ok(())
    }

    pub(super) fn put<T: bytemuck::NoUninit>(&mut self, table: Table, values: &[T]) {
        let bytes = bytemuck::cast_slice(values);
        assert!(bytes.len() <= 4 * table.words.length(), "table: {} bytes into {} words", bytes.len(), table.words.length());
        let to = self.address(table.words);
        self.device.upload(to, bytes);
    }

    pub(super) fn put_batch(&mut self, batch: &Batch, pass: Pass) {
        let tables = self.tables();
        self.rows = batch.rows();
        let step = u32::try_from(pass.step).expect("a run has fewer than 2^32 steps");
        self.put(tables.pass, &[PassScalars { first_row: pass.first_row, step, scale: pass.scale as f32 }]);
        self.put(tables.tokens, batch.tokens());
        self.put(tables.positions, batch.positions());
        self.put(tables.targets, batch.targets());
        let counted: Vec<u32> = batch.loss_mask().iter().map(|&counted| u32::from(counted)).collect();
        self.put(tables.counted, &counted);
        let (order, runs) = runs_by_token(batch.tokens());
        self.put(tables.order, &order);
        self.put(tables.runs, &runs);
        let spans = tiles::spans(batch);
        let window = self.shape.window;
        let attended_tiles = self.put_tiles(tables.attended_tiles, &tiles::queries(&spans, kernels::QUERY_ROWS, window));
        let query_tiles = self.put_tiles(tables.query_tiles, &tiles::queries(&spans, kernels::GRADIENT_QUERY_ROWS, window));
        let key_tiles = self.put_tiles(tables.key_tiles, &tiles::keys(&spans, kernels::GRADIENT_KEY_ROWS, window));
        self.tables = Some(Tables { attended_tiles, query_tiles, key_tiles, ..tables });
    }

    fn put_tiles(&mut self, list: TileList, tiles: &[Tile]) -> TileList {
        self.put(list.tiles, tiles);
        self.put(list.number, &[tiles.len() as u32]);
        TileList { count: tiles.len(), ..list }
    }

    pub(super) fn put_decode(&mut self, new: &DecodeRows) {
        let tables = self.tables();
        self.rows = new.tokens.len();
        let (mut positions, mut slots) = (Vec::with_capacity(self.rows), Vec::with_capacity(self.rows));
        for span in &new.spans {
            positions.extend(span.start as u32..(span.start + span.rows) as u32);
            slots.extend(std::iter::repeat_n(span.slot as u32, span.rows));
        }
        assert_eq!(positions.len(), self.rows, "spans of new rows cover them all");
        self.put(tables.tokens, &new.tokens);
        self.put(tables.positions, &positions);
        self.put(tables.slots, &slots);
    }
}

/// Rows by token, equal tokens in row order, and the first place of each token's, then their number for all the rest.
fn runs_by_token(tokens: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let mut order: Vec<u32> = (0..tokens.len() as u32).collect();
    order.sort_unstable_by_key(|&row| (tokens[row as usize], row));
    let token = |place: usize| tokens[order[place] as usize];
    let mut runs: Vec<u32> =
        (0..order.len()).filter(|&place| place == 0 || token(place) != token(place - 1)).map(|place| place as u32).collect();
    runs.resize(tokens.len() + 1, tokens.len() as u32);
    (order, runs)
}
