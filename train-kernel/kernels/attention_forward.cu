// Causal attention inside documents: softmax(q k^T / sqrt D) v over the keys of the same document up to the query itself, or over
// the last `window` of them; twin: ops/attention.rs. Rows of padding get zeros.
//
// A block takes a tile of QUERY_ROWS queries of a head, STRIPS strips of 16 a warp. It walks the tiles of KEY_ROWS keys from right
// to left with a running softmax in f32, so that only the first tile or two, and those at the window's edge, need a mask. Values
// are copied while scores are computed, the next keys while values are added. Probabilities are rounded before they are
// multiplied, their sum is of the unrounded ones. The bits of a row do not depend on QUERY_ROWS, only on KEY_ROWS.
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

constexpr u32 STRIPS = QUERY_ROWS / (THREADS / 2);
constexpr u32 WARP_ROWS = 16 * STRIPS;
constexpr u32 KEY_GROUPS = KEY_ROWS / 16;
constexpr u32 QUERY_TILE = QUERY_ROWS * HEAD_WIDTH;
constexpr u32 KEY_TILE = KEY_ROWS * HEAD_WIDTH;
static_assert(QUERY_ROWS == STRIPS * (THREADS / 2), "a warp owns whole strips of 16 queries");

// Writes what a warp has for its queries. `room` is its rows of the query tile, which no other warp reads.
FUNCTION void finish(const Attend& arguments, const AttentionTile& tile, u32 item, Running<STRIPS>& running, Shared<bf16> room) {
    const u32 head = item % arguments.heads, stride = arguments.heads * HEAD_WIDTH;
    running.end();
#pragma unroll
    for (u32 strip = 0; strip < STRIPS; ++strip) {
        const u32 query = tile.tile * QUERY_ROWS + warp() * WARP_ROWS + 16 * strip, count = rows_before(tile.length, query);
        float share[2];
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            share[half] = 1.0f / running.sum[strip][half];
            const u32 row = lane() / 4 + 8 * half;
            if (lane() % 4 == 0 && row < count && arguments.lse.exists()) {
                const float lse = fmaf(running.most[strip][half], LN_2, logf(running.sum[strip][half]));
                arguments.lse.set(u64(head) * arguments.rows + tile.first + query + row, lse);
            }
        }
        const Global<bf16> to = arguments.out.from(u64(tile.first + query) * stride + head * HEAD_WIDTH);
        store_rows(running.out.values[strip], share, room.from(strip * 16 * HEAD_WIDTH), 0, to, stride, count);
    }
}

// One tile of queries of a head. `shared` holds the queries, then a tile of keys and one of values.
FUNCTION void attend_tile(const Attend& arguments, const AttentionTile& tile, u32 item, Shared<bf16> shared) {
    const u32 head = item % arguments.heads, kv_head = head * arguments.kv_heads / arguments.heads;
    const u32 reach = reach_of(arguments.window), length = tile.length, first = tile.tile * QUERY_ROWS;
    const u32 stride = (arguments.heads + 2 * arguments.kv_heads) * HEAD_WIDTH, to_values = arguments.kv_heads * HEAD_WIDTH;
    const Global<bf16> document = arguments.fused.from(u64(tile.first) * stride);
    const Global<bf16> keys = document.from((arguments.heads + kv_head) * HEAD_WIDTH);
    const u32 last_key = (smaller(first + QUERY_ROWS, length) - 1) / KEY_ROWS * KEY_ROWS;
    const u32 first_key = lowest_key(first, reach) / KEY_ROWS * KEY_ROWS;
    const Shared<bf16> key_tile = shared.from(QUERY_TILE), value_tile = key_tile.from(KEY_TILE);

    copy_rows<QUERY_ROWS>(shared, document.from(head * HEAD_WIDTH), stride, first, length);
    copy_rows<KEY_ROWS>(key_tile, keys, stride, last_key, length);
    copy_async_commit();
    const Shared<bf16> own = shared.from(warp() * WARP_ROWS * HEAD_WIDTH);
    const SharedRows queries(own);
    Running<STRIPS> running;
    running.begin();

    const u32 query = first + warp() * WARP_ROWS;
    for (u32 key = last_key;; key -= KEY_ROWS) {
        copy_async_wait<0>();
        // Queries and keys are there, and all warps have done with the values before.
        __syncthreads();
        copy_rows<KEY_ROWS>(value_tile, keys.from(to_values), stride, key, length);
        copy_async_commit();

        const Seen seen = seen_keys(query, WARP_ROWS, key, KEY_GROUPS, length, reach);
        Scores<STRIPS, KEY_GROUPS> scores;
        scores.multiply(queries, key_tile, seen);
        if (!seen.whole) scores.template mask<true>(query + lane() / 4 - (key + lane() % 4 * 2), reach);
        running.add_scores(scores);
        const Rounded<STRIPS, KEY_GROUPS> probabilities(scores);
        copy_async_wait<0>();
        // The values are there, and all warps have done with the keys.
        __syncthreads();
        if (key > first_key) copy_rows<KEY_ROWS>(key_tile, keys, stride, key - KEY_ROWS, length);
        copy_async_commit();
        for_seen<KEY_GROUPS>(seen, [&](u32 group) {
            running.out.add_product(probabilities.values[group], value_tile.from(group * 16 * HEAD_WIDTH), 0);
        });
        if (key <= first_key) break;
    }
    finish(arguments, tile, item, running, own);
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
    const Shared<bf16> shared = memory.take<bf16>(QUERY_TILE + 2 * KEY_TILE);
    for_each_item(arguments.tile_count[0] * arguments.heads, [&](u32 item) {
        const AttentionTile tile = arguments.tiles[item / arguments.heads];
        if (tile.keys == 0) clear_tile(arguments, tile, item % arguments.heads);
        else attend_tile(arguments, tile, item, shared);
    });
}
