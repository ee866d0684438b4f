// Gradients of keys and values, and with ADDS_QUERIES of queries: see attention_backward.cuh.
#include <attention_backward.cuh>

// Two warps, a pair, own PAIR_ROWS keys. Each computes the scores of half of the queries, transposed; then they exchange them, and
// each sums the gradients of all the pair's keys and values in its half of the columns, which is what registers have room for.
constexpr u32 STRIPS = 2;
constexpr u32 PAIR_ROWS = 16 * STRIPS;
constexpr u32 WARP_QUERIES = STREAM_ROWS / 2;
constexpr u32 WARP_GROUPS = WARP_QUERIES / 16;
constexpr u32 HALF_PACKS = ROW_PACKS / 2;
// What a pair exchanges: probabilities and gradients of scores, of PAIR_ROWS keys by STREAM_ROWS queries each.
constexpr u32 EXCHANGE_TILE = PAIR_ROWS * STREAM_ROWS;
static_assert(BLOCK_ROWS == PAIRS * PAIR_ROWS && THREADS == PAIRS * 64, "a pair of warps owns two strips");
static_assert(STREAM_ROWS == 64, "a row of what is exchanged has 8 packs");
static_assert(2 * STREAM_ROWS <= THREADS, "a statistic a thread");

FUNCTION u32 pair() { return warp() / 2; }
FUNCTION u32 half_of_pair() { return warp() % 2; }

// Where a pack lies in an exchanged tile.
FUNCTION u32 place_of_exchange(u32 row, u32 pack) { return row * STREAM_ROWS + (pack ^ row % 8) * 8; }

// What a warp sums of its pair's keys and values, and what it exchanges for it.
struct KeyGradients {
    Sums<STRIPS, HALF_PACKS> keys;
    Sums<STRIPS, HALF_PACKS> values;

    FUNCTION void clear() {
        keys.clear();
        values.clear();
    }

    // += for one group of queries: the exchanged scores times the queries and the gradients of their outputs, a tile behind them.
    FUNCTION void add_group(Shared<bf16> exchanged, u32 group, Shared<bf16> queries) {
        u32 probabilities[STRIPS][4], dscores[STRIPS][4];
#pragma unroll
        for (u32 strip = 0; strip < STRIPS; ++strip) {
            const u32 at = place_of_exchange(lane() % 16, 2 * group + lane() / 16) + strip * 16 * STREAM_ROWS;
            load_matrices(probabilities[strip], exchanged.from(at));
            load_matrices(dscores[strip], exchanged.from(EXCHANGE_TILE + at));
        }
        const Shared<bf16> rows = queries.from(group * 16 * HEAD_WIDTH);
        values.add_product(probabilities, rows.from(STREAM_TILE), half_of_pair());
        keys.add_product(dscores, rows, half_of_pair());
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

// A row of scores is a key here, a column a query.
using WarpScores = Scores<STRIPS, WARP_GROUPS>;

// Leaves the warp's scores, rounded, where its pair finds them; `column` is the first of its queries.
FUNCTION void exchange(const WarpScores& scores, Shared<bf16> to, u32 column) {
    const Shared<u32> words{reinterpret_cast<u32*>(to.data)};
#pragma unroll
    for (u32 strip = 0; strip < STRIPS; ++strip) {
#pragma unroll
        for (u32 n = 0; n < 2 * WARP_GROUPS; ++n) {
#pragma unroll
            for (u32 lower = 0; lower < 2; ++lower) {
                const float(&values)[4] = scores.values[strip][n];
                const u32 at = place_of_exchange(16 * strip + lane() / 4 + 8 * lower, column / 8 + n);
                words.set(at / 2 + lane() % 4, pack_bf16(values[2 * lower], values[2 * lower + 1]));
            }
        }
    }
}

// Probabilities of the warp's queries, and the gradients of their scores, to its pair. The gradients of the queries' outputs lie
// a tile behind the queries.
FUNCTION void score_queries(const SharedRows& keys, const SharedRows& values, Shared<bf16> queries, Shared<float> statistics,
                            Seen seen, u32 distance, u32 reach, Shared<bf16> exchanged) {
    const Shared<float> of_lane = statistics.from(lane() % 4 * 4);
    const u32 column = half_of_pair() * WARP_QUERIES;
    WarpScores probabilities, dscores;
    probabilities.multiply(keys, queries, seen);
    if (!seen.whole) probabilities.mask<false>(distance, reach);
    dscores.multiply(values, queries.from(STREAM_TILE), seen);
#pragma unroll
    for (u32 n = 0; n < 2 * WARP_GROUPS; ++n) {
        float of_two[4];
        unpack(of_lane.pack(16 * n), of_two);
#pragma unroll
        for (u32 strip = 0; strip < STRIPS; ++strip) {
#pragma unroll
            for (u32 i = 0; i < 4; ++i) {
                float& p = probabilities.values[strip][n][i];
                p = probability(p, of_two[i % 2 * 2]);
                dscores.values[strip][n][i] = p * (dscores.values[strip][n][i] - of_two[i % 2 * 2 + 1]);
            }
        }
    }
    exchange(probabilities, exchanged, column);
    exchange(dscores, exchanged.from(EXCHANGE_TILE), column);
}

#ifdef ADDS_QUERIES
// Adds what the block's keys give to the gradients of a tile of queries: each warp 32 of them, in a part of the columns.
FUNCTION void add_to_queries(const AttendBackward& arguments, const AttentionTile& tile, const QueryStream& stream,
                             Shared<bf16> keys, Shared<bf16> exchanged) {
    constexpr u32 PARTS = THREADS / 64, PACKS = ROW_PACKS / PARTS;
    const u32 row = warp() % 2 * 32, part = warp() / 2;
    Sums<2, PACKS> sums;
    sums.clear();
#pragma unroll
    for (u32 group = 0; group < BLOCK_ROWS / 16; ++group) {
        const Shared<bf16> dscores = exchanged.from((group / 2 * 2 + 1) * EXCHANGE_TILE + group % 2 * 16 * STREAM_ROWS);
        u32 a[2][4];
#pragma unroll
        for (u32 strip = 0; strip < 2; ++strip) {
            const u32 pack = row / 8 + 2 * strip + lane() / 8 % 2;
            load_matrices_transposed(a[strip], dscores.from(place_of_exchange(lane() % 8 + lane() / 16 * 8, pack)));
        }
        sums.add_product(a, keys.from(group * 16 * HEAD_WIDTH), part);
    }
    const u32 width = arguments.heads * HEAD_WIDTH, column = stream.head * HEAD_WIDTH + part * PACKS * 8 + lane() % 4 * 2;
#pragma unroll
    for (u32 strip = 0; strip < 2; ++strip) {
#pragma unroll
        for (u32 lower = 0; lower < 2; ++lower) {
            const u32 query = stream.query + row + 16 * strip + lane() / 4 + 8 * lower;
            if (query >= tile.length) continue;
            const u64 at = u64(tile.first + query) * width + column;
#pragma unroll
            for (u32 n = 0; n < PACKS; ++n) {
#pragma unroll
                for (u32 i = 0; i < 2; ++i) add_atomic(arguments.dqueries, at + 8 * n + i, sums.values[strip][n][2 * lower + i]);
            }
        }
    }
}
#endif

// Writes a pair's rows of one of the gradients: each warp its columns.
FUNCTION void store_strips(const Sums<STRIPS, HALF_PACKS>& sums, float factor, Shared<bf16> room, Global<bf16> to, u32 stride,
                           u32 count) {
#pragma unroll
    for (u32 strip = 0; strip < STRIPS; ++strip) {
        const u32 rows = rows_before(count, 16 * strip);
        store_rows(sums.values[strip], {factor, factor}, room.from(strip * 16 * HEAD_WIDTH), half_of_pair(),
                   to.from(u64(16 * strip) * stride), stride, rows);
    }
}

// A block's shared memory.
struct KeysMemory {
    Shared<bf16> own;          // keys, then values
    Shared<bf16> streamed;     // twice queries and the gradients of their outputs
    Shared<bf16> exchanged;    // a pair after the other
    Shared<float> statistics;  // of both streamed tiles
};

// One tile of keys of a key-value head.
FUNCTION void keys_tile(const AttendBackward& arguments, const AttentionTile& tile, u32 kv_head, const KeysMemory& memory) {
    const Document document(arguments, tile);
    const u32 reach = reach_of(arguments.window), first = tile.tile * BLOCK_ROWS, key = first + PAIR_ROWS * pair();
    const u32 column = (arguments.heads + kv_head) * HEAD_WIDTH, to_values = arguments.kv_heads * HEAD_WIDTH;
    QueryStream stream(kv_head, document.group, first, tile.length, reach);
    copy_rows<BLOCK_ROWS>(memory.own, document.fused.from(column), document.stride, first, tile.length);
    copy_rows<BLOCK_ROWS>(memory.own.from(BLOCK_TILE), document.fused.from(column + to_values), document.stride, first, tile.length);
    copy_queries(document, stream, tile.length, memory.streamed);
    copy_async_commit();
    if (threadIdx.x < 2 * STREAM_ROWS) memory.statistics.set(threadIdx.x, statistic(arguments, tile, stream));

    const SharedRows keys(memory.own.from(PAIR_ROWS * pair() * HEAD_WIDTH)), values(keys.rows.from(BLOCK_TILE));
    const Shared<bf16> exchanged = memory.exchanged.from(pair() * 2 * EXCHANGE_TILE);
    const u32 own_queries = half_of_pair() * WARP_QUERIES;
    KeyGradients gradients;
    gradients.clear();
    for (u32 here = 0;; here = 1 - here) {
        copy_async_wait<0>();
        // The tile is there, and all warps have done with the one before it, whose place the next one takes.
        __syncthreads();
        const bool at_end = stream.at_end();
        const QueryStream next = stream.next();
        float of_next = 0.0f;
        if (!at_end) {
            copy_queries(document, next, tile.length, memory.streamed.from((1 - here) * 2 * STREAM_TILE));
            copy_async_commit();
            of_next = statistic(arguments, tile, next);
        }
        const Shared<bf16> queries = memory.streamed.from(here * 2 * STREAM_TILE);
        const Shared<float> of_queries = memory.statistics.from(here * 2 * STREAM_ROWS);
        const u32 query = stream.query + own_queries, distance = query + lane() % 4 * 2 - (key + lane() / 4);
        const Seen seen = seeing_queries(key, PAIR_ROWS, query, WARP_GROUPS, tile.length, reach);
#ifdef ADDS_QUERIES
        // What is not seen is exchanged too: zeros.
        score_queries(keys, values, queries.from(own_queries * HEAD_WIDTH), of_queries.from(2 * own_queries), seen, distance, reach,
                      exchanged);
        __syncthreads();
        add_to_queries(arguments, tile, stream, memory.own, memory.exchanged);
#else
        if (!seen.none()) {
            score_queries(keys, values, queries.from(own_queries * HEAD_WIDTH), of_queries.from(2 * own_queries), seen, distance,
                          reach, exchanged);
        }
        pair_barrier();
#endif
        for_seen<STREAM_GROUPS>(seeing_queries(key, PAIR_ROWS, stream.query, STREAM_GROUPS, tile.length, reach),
                                [&](u32 group) { gradients.add_group(exchanged, group, queries); });
        if (at_end) break;
        if (threadIdx.x < 2 * STREAM_ROWS) memory.statistics.set((1 - here) * 2 * STREAM_ROWS + threadIdx.x, of_next);
        stream = next;
    }
#ifdef ADDS_QUERIES
    // Others may still read the keys.
    __syncthreads();
#endif
    // Without it the pair has done with its rows of keys and values since the last barrier.
    const u32 count = key < tile.length ? tile.length - key : 0;
    const Global<bf16> to = arguments.dfused.from(u64(tile.first + key) * document.stride + column);
    store_strips(gradients.keys, SCALE, keys.rows, to, document.stride, count);
    store_strips(gradients.values, 1.0f, values.rows, to.from(to_values), document.stride, count);
}

// Grid: any number of blocks.
KERNEL(attend_backward_keys, AttendBackward) {
    SharedMemory memory;
    KeysMemory taken;
    taken.own = memory.take<bf16>(2 * BLOCK_TILE);
    taken.streamed = memory.take<bf16>(4 * STREAM_TILE);
    taken.exchanged = memory.take<bf16>(PAIRS * 2 * EXCHANGE_TILE);
    taken.statistics = memory.take<float>(4 * STREAM_ROWS);
    for_each_item(arguments.tile_count[0] * arguments.kv_heads, [&](u32 item) {
        const AttentionTile tile = arguments.tiles[item / arguments.kv_heads];
        const u32 kv_head = item % arguments.kv_heads;
        if (tile.keys == 0) {
            clear_tile(arguments, tile, (arguments.heads + kv_head) * HEAD_WIDTH);
            clear_tile(arguments, tile, (arguments.heads + arguments.kv_heads + kv_head) * HEAD_WIDTH);
        } else {
            keys_tile(arguments, tile, kv_head, taken);
        }
    });
}
