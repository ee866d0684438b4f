// The gradient of attention_forward.cu, the same bits in every run: sums are taken in fixed order, and no two blocks add to one
// place; twin: ops/attention.rs. Rows of padding get zeros.
//
// Two kernels compute the probabilities again, each for the gradients that it alone writes. A block keeps a tile of BLOCK_ROWS
// rows, 16 a warp, and goes over tiles of STREAM_ROWS rows, which are copied one tile ahead:
// attend_backward_keys keeps keys and values and goes over the queries that see them, head by head of the group that shares them.
// Its scores are transposed, so that they are A of the products that sum over queries.
// attend_backward_queries keeps queries and goes over the keys that they see.
#include <attention.cuh>

constexpr u32 STREAM_GROUPS = STREAM_ROWS / 16;
// Queries whose scores attend_backward_keys holds at once, beside the gradients of 16 keys and values: what the registers allow.
constexpr u32 QUERIES_AT_ONCE = STREAM_ROWS < 32 ? STREAM_ROWS : 32;
constexpr u32 QUERY_GROUPS = QUERIES_AT_ONCE / 16;
constexpr u32 BLOCK_TILE = BLOCK_ROWS * HEAD_WIDTH;
constexpr u32 STREAM_TILE = STREAM_ROWS * HEAD_WIDTH;
static_assert(THREADS == 2 * BLOCK_ROWS, "a warp owns 16 rows");
static_assert(STREAM_ROWS <= BLOCK_ROWS && BLOCK_ROWS <= 2 * STREAM_ROWS, "a statistic a thread; gradients lie in two tiles");

struct AttendDelta {
    Global<bf16> out;     // (N, H D)
    Global<bf16> dout;    // (N, H D)
    Global<float> delta;  // (H, N) =, the sum of their products
    u64 packs;            // N H D / 8
    u32 rows;             // N
    u32 heads;            // H
};

// Grid: ⌈packs / THREADS⌉ blocks.
KERNEL(attend_delta, AttendDelta) {
    const u64 index = u64(blockIdx.x) * THREADS + threadIdx.x;
    const bool inside = index < arguments.packs;
    float sum = 0.0f;
    if (inside) {
        float out[8], dout[8];
        unpack(arguments.out.pack(index * 8), out);
        unpack(arguments.dout.pack(index * 8), dout);
#pragma unroll
        for (u32 i = 0; i < 8; ++i) sum = fmaf(out[i], dout[i], sum);
    }
#pragma unroll
    for (u32 distance = ROW_PACKS / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (!inside || threadIdx.x % ROW_PACKS != 0) return;
    const u32 of_row = u32(index / ROW_PACKS), row = of_row / arguments.heads;
    arguments.delta.set(u64(of_row % arguments.heads) * arguments.rows + row, sum);
}

struct AttendBackward {
    Global<bf16> fused;           // (N, (H + 2K) D)
    Global<bf16> dout;            // (N, H D)
    Global<float> lse;            // (H, N)
    Global<float> delta;          // (H, N)
    Global<AttentionTile> tiles;  // (tile_count), of BLOCK_ROWS rows
    Global<u32> tile_count;       // (1)
    Global<bf16> dfused;          // (N, (H + 2K) D), the first H D columns = by attend_backward_queries, the others by .._keys
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

// The gradients of a warp's 16 keys and values.
struct KeyGradients {
    float keys[ROW_PACKS][4];
    float values[ROW_PACKS][4];

    FUNCTION void begin() {
#pragma unroll
        for (u32 n = 0; n < ROW_PACKS; ++n) {
#pragma unroll
            for (u32 i = 0; i < 4; ++i) keys[n][i] = values[n][i] = 0.0f;
        }
    }
};

// The tiles of queries that see any key of a tile: those of the group's first head, then of the next.
struct QueryStream {
    u32 head;
    u32 query;
    u32 last_head;
    u32 first_query;
    u32 last_query;

    FUNCTION QueryStream(u32 kv_head, u32 group, u32 key, u32 length, u32 reach) {
        const u32 last_key = smaller(key + BLOCK_ROWS, length) - 1;
        head = kv_head * group;
        last_head = head + group - 1;
        query = first_query = key / STREAM_ROWS * STREAM_ROWS;
        last_query = (smaller(last_key + reach, length) - 1) / STREAM_ROWS * STREAM_ROWS;
    }
    FUNCTION bool at_end() const { return query == last_query && head == last_head; }
    FUNCTION QueryStream next() const {
        QueryStream further = *this;
        further.query = query == last_query ? first_query : query + STREAM_ROWS;
        further.head = query == last_query ? head + 1 : head;
        return further;
    }
};

// Begins to copy a tile of queries and, behind it, of the gradients of their outputs.
FUNCTION void copy_queries(const Document& document, const QueryStream& stream, u32 length, Shared<bf16> tiles) {
    const u32 column = stream.head * HEAD_WIDTH;
    copy_rows<STREAM_ROWS>(tiles, document.fused.from(column), document.stride, stream.query, length);
    copy_rows<STREAM_ROWS>(tiles.from(STREAM_TILE), document.dout.from(column), document.out_stride, stream.query, length);
}

// This thread's part of a tile's statistics: of row r, the shift at 2r and delta at 2r + 1.
FUNCTION float statistic(const AttendBackward& arguments, const AttentionTile& tile, const QueryStream& stream) {
    const u32 row = stream.query + threadIdx.x / 2;
    const bool inside = row < tile.length;
    const u64 at = u64(stream.head) * arguments.rows + tile.first + row;
    if (threadIdx.x >= 2 * STREAM_ROWS) return 0.0f;
    if (threadIdx.x % 2 == 0) return shift_of(arguments.lse, at, inside);
    return inside ? arguments.delta[at] : 0.0f;
}

// What some queries add to the gradients of the warp's keys and values; a row of scores is a key here, a column a query. The
// gradients of the queries' outputs lie a tile behind them.
FUNCTION void add_queries(KeyGradients& gradients, const SharedRows& keys, const SharedRows& values, Shared<bf16> queries,
                          Shared<float> statistics, Seen seen, u32 distance, u32 reach) {
    const Shared<bf16> dout = queries.from(STREAM_TILE);
    const Shared<float> of_lane = statistics.from(lane() % 4 * 4);
    float probabilities[2 * QUERY_GROUPS][4], dscores[2 * QUERY_GROUPS][4];
    multiply_transposed<QUERY_GROUPS>(probabilities, keys, queries, seen);
    if (!seen.whole) mask<QUERY_GROUPS, false>(probabilities, distance, reach);
    multiply_transposed<QUERY_GROUPS>(dscores, values, dout, seen);
#pragma unroll
    for (u32 n = 0; n < 2 * QUERY_GROUPS; ++n) {
        float of_two[4];
        unpack(of_lane.pack(16 * n), of_two);
#pragma unroll
        for (u32 i = 0; i < 4; ++i) {
            probabilities[n][i] = probability(probabilities[n][i], of_two[i % 2 * 2]);
            dscores[n][i] = probabilities[n][i] * (dscores[n][i] - of_two[i % 2 * 2 + 1]);
        }
    }
    for_seen<QUERY_GROUPS>(seen, [&](u32 group) {
        const u32 rows = group * 16 * HEAD_WIDTH;
        add_product(gradients.values, probabilities[2 * group], probabilities[2 * group + 1], dout.from(rows));
        add_product(gradients.keys, dscores[2 * group], dscores[2 * group + 1], queries.from(rows));
    });
}

// One tile of keys of a key-value head. `own` holds two block tiles, `streamed` twice two stream tiles.
FUNCTION void keys_tile(const AttendBackward& arguments, const AttentionTile& tile, u32 kv_head, Shared<bf16> own,
                        Shared<bf16> streamed, Shared<float> statistics) {
    const Document document(arguments, tile);
    const u32 reach = reach_of(arguments.window), first = tile.tile * BLOCK_ROWS, key = first + 16 * warp();
    const u32 column = (arguments.heads + kv_head) * HEAD_WIDTH, to_values = arguments.kv_heads * HEAD_WIDTH;
    QueryStream stream(kv_head, document.group, first, tile.length, reach);
    copy_rows<BLOCK_ROWS>(own, document.fused.from(column), document.stride, first, tile.length);
    copy_rows<BLOCK_ROWS>(own.from(BLOCK_TILE), document.fused.from(column + to_values), document.stride, first, tile.length);
    copy_queries(document, stream, tile.length, streamed);
    copy_async_commit();
    if (threadIdx.x < 2 * STREAM_ROWS) statistics.set(threadIdx.x, statistic(arguments, tile, stream));

    const SharedRows keys{own.from(16 * warp() * HEAD_WIDTH)}, values{keys.rows.from(BLOCK_TILE)};
    KeyGradients gradients;
    gradients.begin();
    for (u32 here = 0;; here = 1 - here) {
        copy_async_wait<0>();
        // The tile is there, and all warps have done with the one before it, whose place the next one takes.
        __syncthreads();
        const bool at_end = stream.at_end();
        const QueryStream next = stream.next();
        float of_next = 0.0f;
        if (!at_end) {
            copy_queries(document, next, tile.length, streamed.from((1 - here) * 2 * STREAM_TILE));
            copy_async_commit();
            of_next = statistic(arguments, tile, next);
        }
        const Shared<bf16> queries = streamed.from(here * 2 * STREAM_TILE);
        const Shared<float> of_queries = statistics.from(here * 2 * STREAM_ROWS);
#pragma unroll 1
        for (u32 row = 0; row < STREAM_ROWS; row += QUERIES_AT_ONCE) {
            const u32 query = stream.query + row, distance = query + lane() % 4 * 2 - (key + lane() / 4);
            const Seen seen = seeing_queries(key, query, QUERY_GROUPS, tile.length, reach);
            if (seen.begin >= seen.end) continue;
            add_queries(gradients, keys, values, queries.from(row * HEAD_WIDTH), of_queries.from(2 * row), seen, distance, reach);
        }
        if (at_end) break;
        if (threadIdx.x < 2 * STREAM_ROWS) statistics.set((1 - here) * 2 * STREAM_ROWS + threadIdx.x, of_next);
        stream = stream.next();
    }
    // The warp's own rows of keys and values are read by no other.
    const u32 count = rows_before(tile.length, key);
    const Global<bf16> to = arguments.dfused.from(u64(tile.first + key) * document.stride + column);
    store_rows(gradients.keys, {SCALE, SCALE}, keys.rows, to, document.stride, count);
    store_rows(gradients.values, {1.0f, 1.0f}, values.rows, to.from(to_values), document.stride, count);
}

// The rows of a tile of padding.
FUNCTION void clear_tile(const AttendBackward& arguments, const AttentionTile& tile, u32 column) {
    const u32 stride = (arguments.heads + 2 * arguments.kv_heads) * HEAD_WIDTH, first = tile.tile * BLOCK_ROWS;
    const Global<bf16> to = arguments.dfused.from(u64(tile.first + first) * stride + column);
    clear_rows(to, stride, smaller(tile.length - first, BLOCK_ROWS));
}

// Grid: any number of blocks.
KERNEL(attend_backward_keys, AttendBackward) {
    SharedMemory memory;
    const Shared<bf16> own = memory.take<bf16>(2 * BLOCK_TILE);
    const Shared<bf16> streamed = memory.take<bf16>(4 * STREAM_TILE);
    const Shared<float> statistics = memory.take<float>(4 * STREAM_ROWS);
    const u32 items = arguments.tile_count[0] * arguments.kv_heads;
    for (u32 item = blockIdx.x; item < items; item += gridDim.x) {
        const AttentionTile tile = arguments.tiles[item / arguments.kv_heads];
        const u32 kv_head = item % arguments.kv_heads;
        if (tile.keys == 0) {
            clear_tile(arguments, tile, (arguments.heads + kv_head) * HEAD_WIDTH);
            clear_tile(arguments, tile, (arguments.heads + arguments.kv_heads + kv_head) * HEAD_WIDTH);
        } else {
            keys_tile(arguments, tile, kv_head, own, streamed, statistics);
        }
        __syncthreads();
    }
}

// A warp's 16 queries.
struct Queries {
    KeptRows queries;
    KeptRows dout;
    // Of rows lane / 4 and lane / 4 + 8.
    float shift[2];
    float delta[2];
    float gradients[ROW_PACKS][4];

    FUNCTION void begin(const AttendBackward& arguments, const AttentionTile& tile, u32 head, u32 query, Shared<bf16> rows) {
        queries.load(rows);
        dout.load(rows.from(BLOCK_TILE));
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            const u32 row = query + lane() / 4 + 8 * half;
            const bool inside = row < tile.length;
            const u64 at = u64(head) * arguments.rows + tile.first + row;
            shift[half] = shift_of(arguments.lse, at, inside);
            delta[half] = inside ? arguments.delta[at] : 0.0f;
        }
#pragma unroll
        for (u32 n = 0; n < ROW_PACKS; ++n) {
#pragma unroll
            for (u32 i = 0; i < 4; ++i) gradients[n][i] = 0.0f;
        }
    }

    // What a tile of keys, with its values behind it, adds to the gradients.
    FUNCTION void add_keys(Shared<bf16> keys, Seen seen, u32 distance, u32 reach) {
        float probabilities[2 * STREAM_GROUPS][4], dscores[2 * STREAM_GROUPS][4];
        multiply_transposed<STREAM_GROUPS>(probabilities, queries, keys, seen);
        if (!seen.whole) mask<STREAM_GROUPS, true>(probabilities, distance, reach);
        multiply_transposed<STREAM_GROUPS>(dscores, dout, keys.from(STREAM_TILE), seen);
        const auto add = [&](u32 group) {
#pragma unroll
            for (u32 n = 2 * group; n < 2 * group + 2; ++n) {
#pragma unroll
                for (u32 i = 0; i < 4; ++i)
                    dscores[n][i] = probability(probabilities[n][i], shift[i / 2]) * (dscores[n][i] - delta[i / 2]);
            }
            add_product(gradients, dscores[2 * group], dscores[2 * group + 1], keys.from(group * 16 * HEAD_WIDTH));
        };
        for_seen<STREAM_GROUPS>(seen, add);
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
    Queries own;
    own.begin(arguments, tile, head, query, second.from(16 * warp() * HEAD_WIDTH));

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
        const Seen seen = query < tile.length ? seen_keys(query, key, STREAM_GROUPS, reach) : Seen{0, 0, false};
        own.add_keys(shared.from(here), seen, query + lane() / 4 - (key + lane() % 4 * 2), reach);
        here = 2 * STREAM_TILE - here;
    }
    // Into the place that the last tile is not in: other warps may still read that one.
    const Shared<bf16> room = shared.from(here + 16 * warp() * HEAD_WIDTH);
    const Global<bf16> to = arguments.dfused.from(u64(tile.first + query) * document.stride + column);
    store_rows(own.gradients, {SCALE, SCALE}, room, to, document.stride, rows_before(tile.length, query));
}

// Grid: any number of blocks.
KERNEL(attend_backward_queries, AttendBackward) {
    SharedMemory memory;
    const Shared<bf16> shared = memory.take<bf16>(2 * STREAM_TILE + 2 * BLOCK_TILE);
    const u32 items = arguments.tile_count[0] * arguments.heads;
    for (u32 item = blockIdx.x; item < items; item += gridDim.x) {
        const AttentionTile tile = arguments.tiles[item / arguments.heads];
        const u32 head = item % arguments.heads;
        if (tile.keys == 0) clear_tile(arguments, tile, head * HEAD_WIDTH);
        else queries_tile(arguments, tile, head, shared);
        __syncthreads();
    }
}
