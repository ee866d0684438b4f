// The gradient of attention_forward.cu; twin: ops/attention.rs. Rows of padding get zeros.
//
// A block keeps a tile of BLOCK_ROWS rows and goes over tiles of STREAM_ROWS rows, which are copied one tile ahead. By default the
// result is the same bits in every run: sums are taken in fixed order, and no two blocks add to one place. Two kernels compute the
// probabilities again, each for the gradients that it alone writes:
// attend_backward_keys keeps keys and values and goes over the queries that see them, head by head of the group that shares them.
// attend_backward_queries keeps queries and goes over the keys that they see.
//
// With ADDS_QUERIES attend_backward_keys adds the gradients of queries to sums in f32 as well: five products in place of seven,
// and an order of the additions, thus last bits, that differ from run to run.
#pragma once

#include <attention.cuh>

constexpr u32 BLOCK_TILE = BLOCK_ROWS * HEAD_WIDTH;
constexpr u32 STREAM_TILE = STREAM_ROWS * HEAD_WIDTH;
constexpr u32 STREAM_GROUPS = STREAM_ROWS / 16;

struct AttendBackward {
    Global<bf16> fused;           // (N, (H + 2K) D)
    Global<bf16> dout;            // (N, H D)
    Global<float> lse;            // (H, N)
    Global<float> delta;          // (H, N)
    Global<AttentionTile> tiles;  // (tile_count), of BLOCK_ROWS rows
    Global<u32> tile_count;       // (1)
    Global<bf16> dfused;          // (N, (H + 2K) D), the first H D columns = by attend_backward_queries, the others by .._keys
    Global<float> dqueries;       // (N, H D) += by attend_backward_keys with ADDS_QUERIES, not yet times SCALE; else null
    u32 rows;                     // N
    u32 heads;                    // H
    u32 kv_heads;                 // K
    u32 window;                   // keys that a query sees; 0: all of its document
};

// A document in memory.
struct Document {
    Global<bf16> fused;
    Global<bf16> dout;
    u32 stride;
    u32 out_stride;
    u32 group;

    FUNCTION explicit Document(const AttendBackward& arguments, const AttentionTile& tile) {
        stride = (arguments.heads + 2 * arguments.kv_heads) * HEAD_WIDTH;
        out_stride = arguments.heads * HEAD_WIDTH;
        fused = arguments.fused.from(u64(tile.first) * stride);
        dout = arguments.dout.from(u64(tile.first) * out_stride);
        group = arguments.heads / arguments.kv_heads;
    }
};

// The probability of a score, 0 where that is minus infinity; `shift` is minus the query's lse as a power of two.
FUNCTION float probability(float score, float shift) { return exp2_approximate(fmaf(score, SCALE_LOG2_E, shift)); }

// The shift of a query: minus infinity where it is not there, so that nothing comes of it.
FUNCTION float shift_of(const Global<float>& lse, u64 row, bool inside) { return inside ? -(lse[row] * LOG2_E) : -INFINITY; }

// The rows of a tile of padding.
FUNCTION void clear_tile(const AttendBackward& arguments, const AttentionTile& tile, u32 column) {
    const u32 stride = (arguments.heads + 2 * arguments.kv_heads) * HEAD_WIDTH, first = tile.tile * BLOCK_ROWS;
    const Global<bf16> to = arguments.dfused.from(u64(tile.first + first) * stride + column);
    clear_rows(to, stride, smaller(tile.length - first, BLOCK_ROWS));
}
