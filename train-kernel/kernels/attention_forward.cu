// Causal attention inside documents: softmax(q k^T / sqrt D) v over the keys of the same document up to the query itself, or over
// the last `window` of them; twin: ops/attention.rs. Rows of padding get zeros.
//
// A block takes a tile of QUERY_ROWS queries of a head, 16 a warp, whose rows stay in registers. It walks the tiles of KEY_ROWS
// keys from right to left with a running softmax in f32, so that only the first tile or two, and those at the window's edge, need
// a mask. Keys are copied one tile ahead, values while the scores are computed. Probabilities are rounded before they are
// multiplied, their sum is of the unrounded ones.
#include <attention.cuh>

struct Attend {
    Global<bf16> fused;           // (N, (H + 2K) D)
    Global<AttentionTile> tiles;  // (tile_count), of QUERY_ROWS rows
    Global<u32> tile_count;       // (1)
    Global<bf16> out;             // (N, H D) =
    Global<float> lse;            // (H, N) =, natural logarithms; null: not kept
    u32 rows;                     // N
    u32 heads;                    // H
    u32 kv_heads;                 // K
    u32 window;                   // keys that a query sees; 0: all of its document
};

constexpr u32 KEY_GROUPS = KEY_ROWS / 16;
constexpr u32 KEY_TILE = KEY_ROWS * HEAD_WIDTH;
static_assert(THREADS == 2 * QUERY_ROWS, "a warp owns 16 queries");
static_assert(QUERY_ROWS <= 2 * KEY_ROWS, "queries, and later their outputs, lie in two key tiles");

// Writes what a warp has for its 16 queries.
FUNCTION void finish(const Attend& arguments, const AttentionTile& tile, u32 item, Running& running, Shared<bf16> room) {
    const u32 head = item % arguments.heads, query = tile.tile * QUERY_ROWS + 16 * warp();
    const u32 count = rows_before(tile.length, query);
    running.end();
    float share[2];
#pragma unroll
    for (u32 half = 0; half < 2; ++half) {
        share[half] = 1.0f / running.sum[half];
        const u32 row = lane() / 4 + 8 * half;
        if (lane() % 4 == 0 && row < count && arguments.lse.exists()) {
            const float lse = fmaf(running.most[half], LN_2, logf(running.sum[half]));
            arguments.lse.set(u64(head) * arguments.rows + tile.first + query + row, lse);
        }
    }
    const u32 stride = arguments.heads * HEAD_WIDTH;
    const Global<bf16> to = arguments.out.from(u64(tile.first + query) * stride + head * HEAD_WIDTH);
    store_rows(running.out, share, room, to, stride, count);
}

// One tile of queries of a head. `shared` holds three tiles of keys: two of keys, in turn, and one of values.
FUNCTION void attend_tile(const Attend& arguments, const AttentionTile& tile, u32 item, Shared<bf16> shared) {
    const u32 head = item % arguments.heads, kv_head = head * arguments.kv_heads / arguments.heads;
    const u32 reach = reach_of(arguments.window), length = tile.length, first = tile.tile * QUERY_ROWS;
    const u32 stride = (arguments.heads + 2 * arguments.kv_heads) * HEAD_WIDTH, to_values = arguments.kv_heads * HEAD_WIDTH;
    const Global<bf16> document = arguments.fused.from(u64(tile.first) * stride);
    const Global<bf16> keys = document.from((arguments.heads + kv_head) * HEAD_WIDTH);
    const u32 last_key = (smaller(first + QUERY_ROWS, length) - 1) / KEY_ROWS * KEY_ROWS;
    const u32 first_key = lowest_key(first, reach) / KEY_ROWS * KEY_ROWS;

    copy_rows<QUERY_ROWS>(shared.from(KEY_TILE), document.from(head * HEAD_WIDTH), stride, first, length);
    copy_async_commit();
    copy_rows<KEY_ROWS>(shared, keys, stride, last_key, length);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();
    KeptRows queries;
    queries.load(shared.from(KEY_TILE + 16 * warp() * HEAD_WIDTH));
    Running running;
    running.begin();

    const Shared<bf16> value_tile = shared.from(2 * KEY_TILE);
    u32 place_of_keys = 0;
    for (u32 key = last_key;; key -= KEY_ROWS) {
        copy_async_wait<0>();
        // The keys are there, and all warps have done with the tiles that are overwritten next.
        __syncthreads();
        copy_rows<KEY_ROWS>(value_tile, keys.from(to_values), stride, key, length);
        copy_async_commit();
        if (key > first_key) copy_rows<KEY_ROWS>(shared.from(KEY_TILE - place_of_keys), keys, stride, key - KEY_ROWS, length);
        copy_async_commit();

        const u32 query = first + 16 * warp();
        const Seen seen = query < length ? seen_keys(query, key, KEY_GROUPS, reach) : Seen{0, 0, false};
        float scores[2 * KEY_GROUPS][4];
        multiply_transposed<KEY_GROUPS>(scores, queries, shared.from(place_of_keys), seen);
        if (!seen.whole) mask<KEY_GROUPS, true>(scores, query + lane() / 4 - (key + lane() % 4 * 2), reach);
        running.add_scores<KEY_GROUPS>(scores);
        copy_async_wait<1>();
        __syncthreads();
        for_seen<KEY_GROUPS>(seen, [&](u32 group) {
            add_product(running.out, scores[2 * group], scores[2 * group + 1], value_tile.from(group * 16 * HEAD_WIDTH));
        });
        if (key <= first_key) break;
        place_of_keys = KEY_TILE - place_of_keys;
    }
    // Other warps may still read values; keys they no longer do.
    finish(arguments, tile, item, running, shared.from(16 * warp() * HEAD_WIDTH));
}

// Zeros for a tile of padding.
FUNCTION void clear_tile(const Attend& arguments, const AttentionTile& tile, u32 head) {
    const u32 first = tile.tile * QUERY_ROWS, count = smaller(tile.length - first, QUERY_ROWS), row = tile.first + first;
    const u32 stride = arguments.heads * HEAD_WIDTH;
    clear_rows(arguments.out.from(u64(row) * stride + head * HEAD_WIDTH), stride, count);
    if (arguments.lse.exists() && threadIdx.x < count) arguments.lse.set(u64(head) * arguments.rows + row + threadIdx.x, 0.0f);
}

// Grid: any number of blocks.
KERNEL(attend, Attend) {
    SharedMemory memory;
    const Shared<bf16> shared = memory.take<bf16>(3 * KEY_TILE);
    const u32 items = arguments.tile_count[0] * arguments.heads;
    for (u32 item = blockIdx.x; item < items; item += gridDim.x) {
        const AttentionTile tile = arguments.tiles[item / arguments.heads];
        if (tile.keys == 0) clear_tile(arguments, tile, item % arguments.heads);
        else attend_tile(arguments, tile, item, shared);
        __syncthreads();
    }
}
