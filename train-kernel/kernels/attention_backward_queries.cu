// Gradients of queries: see attention_backward.cuh.
#include <attention_backward.cuh>

static_assert(THREADS == 2 * BLOCK_ROWS, "a warp owns 16 rows");
static_assert(STREAM_ROWS <= BLOCK_ROWS && BLOCK_ROWS <= 2 * STREAM_ROWS, "queries lie in two tiles");

// A warp's 16 queries.
struct Queries {
    KeptRows<1> queries;
    KeptRows<1> dout;
    // Of rows lane / 4 and lane / 4 + 8.
    float shift[2];
    float delta[2];
    Sums<1, ROW_PACKS> gradients;

    FUNCTION Queries(const AttendBackward& arguments, const AttentionTile& tile, u32 head, u32 query, Shared<bf16> rows)
        : queries(rows), dout(rows.from(BLOCK_TILE)) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            const u32 row = query + lane() / 4 + 8 * half;
            const bool inside = row < tile.length;
            const u64 at = u64(head) * arguments.rows + tile.first + row;
            shift[half] = shift_of(arguments.lse, at, inside);
            delta[half] = inside ? arguments.delta[at] : 0.0f;
        }
        gradients.clear();
    }

    // What a tile of keys, with its values behind it, adds to the gradients.
    FUNCTION void add_keys(Shared<bf16> keys, Seen seen, u32 distance, u32 reach) {
        Scores<1, STREAM_GROUPS> probabilities, dscores;
        probabilities.multiply(queries, keys, seen);
        if (!seen.whole) probabilities.mask<true>(distance, reach);
        dscores.multiply(dout, keys.from(STREAM_TILE), seen);
        for_seen<STREAM_GROUPS>(seen, [&](u32 group) {
            u32 a[1][4];
#pragma unroll
            for (u32 i = 0; i < 4; ++i) {
                float two[2];
#pragma unroll
                for (u32 j = 0; j < 2; ++j) {
                    const float p = probability(probabilities.values[0][2 * group + i / 2][i % 2 * 2 + j], shift[i % 2]);
                    two[j] = p * (dscores.values[0][2 * group + i / 2][i % 2 * 2 + j] - delta[i % 2]);
                }
                a[0][i] = pack_bf16(two[0], two[1]);
            }
            gradients.add_product(a, keys.from(group * 16 * HEAD_WIDTH), 0);
        });
    }
};

// Begins to copy a tile of keys and, behind it, of values.
FUNCTION void copy_keys(Global<bf16> keys, u32 to_values, u32 stride, u32 key, u32 length, Shared<bf16> tiles) {
    copy_rows<STREAM_ROWS>(tiles, keys, stride, key, length);
    copy_rows<STREAM_ROWS>(tiles.from(STREAM_TILE), keys.from(to_values), stride, key, length);
}

// One tile of queries of a head. `shared` holds two tiles of keys and values; queries and the gradients of their outputs come
// into the place of the second, and may need more of it.
FUNCTION void queries_tile(const AttendBackward& arguments, const AttentionTile& tile, u32 head, Shared<bf16> shared) {
    const Document document(arguments, tile);
    const u32 reach = reach_of(arguments.window), first = tile.tile * BLOCK_ROWS, query = first + 16 * warp();
    const Global<bf16> keys = document.fused.from((arguments.heads + head * arguments.kv_heads / arguments.heads) * HEAD_WIDTH);
    const u32 to_values = arguments.kv_heads * HEAD_WIDTH, column = head * HEAD_WIDTH;
    const u32 last_key = (smaller(first + BLOCK_ROWS, tile.length) - 1) / STREAM_ROWS * STREAM_ROWS;
    const u32 first_key = lowest_key(first, reach) / STREAM_ROWS * STREAM_ROWS;
    const Shared<bf16> second = shared.from(2 * STREAM_TILE);
    copy_rows<BLOCK_ROWS>(second, document.fused.from(column), document.stride, first, tile.length);
    copy_rows<BLOCK_ROWS>(second.from(BLOCK_TILE), document.dout.from(column), document.out_stride, first, tile.length);
    copy_async_commit();
    copy_keys(keys, to_values, document.stride, last_key, tile.length, shared);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();
    Queries own(arguments, tile, head, query, second.from(16 * warp() * HEAD_WIDTH));

    u32 here = 0;
    for (u32 key = last_key; key + STREAM_ROWS > first_key; key -= STREAM_ROWS) {
        copy_async_wait<0>();
        // The tile is there, and all warps have done with what was in the other place.
        __syncthreads();
        const Shared<bf16> other = shared.from(2 * STREAM_TILE - here);
        if (key > first_key) {
            copy_keys(keys, to_values, document.stride, key - STREAM_ROWS, tile.length, other);
            copy_async_commit();
        }
        const Seen seen = seen_keys(query, 16, key, STREAM_GROUPS, tile.length, reach);
        own.add_keys(shared.from(here), seen, query + lane() / 4 - (key + lane() % 4 * 2), reach);
        here = 2 * STREAM_TILE - here;
    }
    // Into the place that the last tile is not in: other warps may still read that one.
    const Shared<bf16> room = shared.from(here + 16 * warp() * HEAD_WIDTH);
    const Global<bf16> to = arguments.dfused.from(u64(tile.first + query) * document.stride + column);
    store_rows(own.gradients.values[0], {SCALE, SCALE}, room, 0, to, document.stride, rows_before(tile.length, query));
}

// Grid: any number of blocks.
KERNEL(attend_backward_queries, AttendBackward) {
    SharedMemory memory;
    const Shared<bf16> shared = memory.take<bf16>(2 * STREAM_TILE + 2 * BLOCK_TILE);
    for_each_item(arguments.tile_count[0] * arguments.heads, [&](u32 item) {
        const AttentionTile tile = arguments.tiles[item / arguments.heads];
        const u32 head = item % arguments.heads;
        if (tile.keys == 0) clear_tile(arguments, tile, head * HEAD_WIDTH);
        else queries_tile(arguments, tile, head, shared);
    });
}
