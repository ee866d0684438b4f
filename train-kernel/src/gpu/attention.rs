//! Attention on tiles: what its kernels are given. Grids are as large as the card holds blocks, whatever the batch: a recorded pass
//! finds the tiles of its batch in memory.

use super::Gpu;
use super::arguments as of;
use super::backend::TileList;
use super::device::{Access, Address, Device};
use super::kernels::{self, Kernel};
use super::operands::Operands;
use super::ops::packs_of;
use super::tiles::Tile;
use crate::backend::{Attention, AttentionBackward, CachedAttention};

use Access::{Read, Update, Write};

/// The width of a window as kernels take it: 0 for none.
fn window(window: Option<usize>) -> u32 {
    window.map_or(0, |window| u32::try_from(window).unwrap_or(0))
}

/// A list of tiles and their number. A pass that was recorded is repeated with the tiles of another batch, so the operand is the
/// whole list, whatever is in it now.
fn tile_list(operands: &mut Operands, list: TileList) -> (Address, Address) {
    let bytes = 4 * list.tiles.words.length();
    debug_assert!(list.count * size_of::<Tile>() <= bytes, "{} tiles: more than their list holds", list.count);
    let tiles = operands.table(list.tiles, Read, bytes);
    (tiles, operands.table(list.number, Read, 4))
}

impl<D: Device> Gpu<D> {
    /// A block for each place on the card.
    fn everywhere(&self, kernel: Kernel) -> [usize; 3] {
        [(self.device.properties().multiprocessors * kernel.module.blocks_per_multiprocessor) as usize, 1, 1]
    }

    pub(super) fn attention_forward(&mut self, op: Attention) {
        let (rows, heads) = (self.rows, self.heads);
        let mut operands = self.operands();
        let (tiles, tile_count) = tile_list(&mut operands, self.tables().attended_tiles);
        let arguments = of::Attend {
            fused: operands.values(op.fused, Read, rows * heads.fused_width()),
            tiles,
            tile_count,
            out: operands.values(op.out, Write, rows * heads.width()),
            lse: operands.exact(op.lse, Write, rows * heads.heads),
            rows: rows as u32,
            heads: heads.heads as u32,
            kv_heads: heads.kv_heads as u32,
            window: window(self.shape.window),
        };
        let kernel = kernels::attend(heads.head_width);
        self.launch(kernel, self.everywhere(kernel), &arguments, &operands);
    }

    pub(super) fn attention_backward(&mut self, op: AttentionBackward) {
        let (rows, heads, tables) = (self.rows, self.heads, self.tables());
        let mut operands = self.operands();
        let packs = rows * heads.width() / 8;
        let arguments = of::AttendDelta {
            out: operands.values(op.forward.out, Read, rows * heads.width()),
            dout: operands.values(op.dout, Read, rows * heads.width()),
            delta: operands.table(tables.delta, Write, 4 * rows * heads.heads),
            packs: packs_of(packs),
            rows: rows as u32,
            heads: heads.heads as u32,
            unused: 0,
        };
        let kernel = kernels::attend_delta(heads.head_width);
        self.launch(kernel, Self::flat(kernel, packs), &arguments, &operands);
        // Each writes its own columns of dfused; together they write it whole.
        match self.added_queries() {
            None => {
                self.backward_pass(op, kernels::attend_backward_keys(heads.head_width, false), tables.key_tiles);
                self.backward_pass(op, kernels::attend_backward_queries(heads.head_width), tables.query_tiles);
            }
            Some(dqueries) => {
                let bytes = 4 * rows * heads.width();
                self.device.clear(self.address(dqueries.words), bytes);
                self.backward_pass(op, kernels::attend_backward_keys(heads.head_width, true), tables.key_tiles);
                let mut operands = self.operands();
                let arguments = of::RoundQueries {
                    dqueries: operands.table(dqueries, Read, bytes),
                    dfused: operands.values(op.dfused, Update, rows * heads.fused_width()),
                    packs: packs_of(packs),
                    width: heads.width() as u32,
                    fused_width: heads.fused_width() as u32,
                    unused: 0,
                };
                let kernel = kernels::round_queries(heads.head_width);
                self.launch(kernel, Self::flat(kernel, packs), &arguments, &operands);
            }
        }
    }

    /// One of the kernels that compute probabilities again.
    fn backward_pass(&mut self, op: AttentionBackward, kernel: Kernel, list: TileList) {
        let (rows, heads, tables) = (self.rows, self.heads, self.tables());
        let mut operands = self.operands();
        let (tiles, tile_count) = tile_list(&mut operands, list);
        let dqueries = self.added_queries().map(|table| operands.table(table, Update, 4 * rows * heads.width()));
        let arguments = of::AttendBackward {
            fused: operands.values(op.forward.fused, Read, rows * heads.fused_width()),
            dout: operands.values(op.dout, Read, rows * heads.width()),
            lse: operands.exact(op.forward.lse, Read, rows * heads.heads),
            delta: operands.table(tables.delta, Read, 4 * rows * heads.heads),
            tiles,
            tile_count,
            dfused: operands.values(op.dfused, Update, rows * heads.fused_width()),
            dqueries: dqueries.unwrap_or_default(),
            rows: rows as u32,
            heads: heads.heads as u32,
            kv_heads: heads.kv_heads as u32,
            window: window(self.shape.window),
        };
        self.launch(kernel, self.everywhere(kernel), &arguments, &operands);
    }

    pub(super) fn cached_attention(&mut self, op: CachedAttention) {
        let (rows, heads, tables) = (self.rows, self.heads, self.tables());
        let cached = op.keys.length();
        let mut operands = self.operands();
        let packs = rows * heads.kv_width() / 8;
        let arguments = of::CacheAppend {
            fused: operands.values(op.fused, Read, rows * heads.fused_width()),
            slots: operands.table(tables.slots, Read, 4 * rows),
            positions: operands.table(tables.positions, Read, 4 * rows),
            keys: operands.values(op.keys, Update, cached),
            values: operands.values(op.values, Update, cached),
            packs: packs_of(packs),
            heads: heads.heads as u32,
            kv_heads: heads.kv_heads as u32,
            capacity: op.capacity as u32,
        };
        let kernel = kernels::cache_append(heads.head_width);
        self.launch(kernel, Self::flat(kernel, packs), &arguments, &operands);
        let mut operands = self.operands();
        let arguments = of::AttendCached {
            fused: operands.values(op.fused, Read, rows * heads.fused_width()),
            slots: operands.table(tables.slots, Read, 4 * rows),
            positions: operands.table(tables.positions, Read, 4 * rows),
            keys: operands.values(op.keys, Read, cached),
            values: operands.values(op.values, Read, cached),
            out: operands.values(op.out, Write, rows * heads.width()),
            heads: heads.heads as u32,
            kv_heads: heads.kv_heads as u32,
            capacity: op.capacity as u32,
            window: window(self.shape.window),
        };
        let kernel = kernels::attend_cached(heads.head_width);
        self.launch(kernel, [rows, heads.kv_heads, 1], &arguments, &operands);
    }
}
