// Attention of new rows to cached keys and values; twin: ops/attention.rs, forward_cached.
//
// What counts is to read the cache once, in 16 bytes a lane. One block takes a row and a key-value head, with up to 16 of the
// query heads that share it as the rows of tensor core products; its warps take 16 keys in turn, each with a running softmax, and
// merge in order at the end. What was read is B of the products as it lies in the registers, because the order of a sum's terms
// and of the columns is free: scores sum over packs of a row, lane by lane, in both factors; and a lane's column of out is one
// element of its pack.
#include <attention.cuh>

struct CacheAppend {
    Global<bf16> fused;     // (N, (H + 2K) D)
    Global<u32> slots;      // (N)
    Global<u32> positions;  // (N)
    Global<bf16> keys;      // (slots, capacity, K D), of the new rows =
    Global<bf16> values;    // (slots, capacity, K D), of the new rows =
    u32 packs;              // N K D / 8
    u32 heads;              // H
    u32 kv_heads;           // K
    u32 capacity;
};

// Grid: ⌈packs / THREADS⌉ blocks.
KERNEL(cache_append, CacheAppend) {
    const u32 index = blockIdx.x * THREADS + threadIdx.x;
    if (index >= arguments.packs) return;
    const u32 row_packs = arguments.kv_heads * ROW_PACKS;
    const u32 row = index / row_packs, column = (index - row * row_packs) * 8, width = row_packs * 8;
    const u64 cached = u64(arguments.slots[row]) * arguments.capacity + arguments.positions[row];
    const u64 from = u64(row) * (arguments.heads * HEAD_WIDTH + 2 * width) + arguments.heads * HEAD_WIDTH + column;
    arguments.keys.set_pack(cached * width + column, arguments.fused.pack(from));
    arguments.values.set_pack(cached * width + column, arguments.fused.pack(from + width));
}

struct AttendCached {
    Global<bf16> fused;     // (N, (H + 2K) D)
    Global<u32> slots;      // (N)
    Global<u32> positions;  // (N)
    Global<bf16> keys;      // (slots, capacity, K D), of each row's slot up to its position
    Global<bf16> values;    // (slots, capacity, K D), likewise
    Global<bf16> out;       // (N, H D) =
    u32 heads;              // H
    u32 kv_heads;           // K
    u32 capacity;
    u32 window;             // keys that a query sees; 0: all up to its own
};

constexpr u32 WARPS = THREADS / 32;
constexpr u32 QUARTERS = HEAD_WIDTH / 32;
constexpr u32 HALVES = HEAD_WIDTH / 64;
// A warp's sums of outputs.
constexpr u32 WARP_OUT = 16 * HEAD_WIDTH;

// Queries of two heads, lane / 4 and lane / 4 + 8 of the 16: pack 4 j + lane % 4 of each.
struct HeadQueries {
    Pack packs[QUARTERS][2];

    FUNCTION void load(Global<bf16> row, u32 count) {
#pragma unroll
        for (u32 j = 0; j < QUARTERS; ++j) {
#pragma unroll
            for (u32 half = 0; half < 2; ++half) {
                const u32 head = lane() / 4 + 8 * half;
                packs[j][half] = Pack{{0, 0, 0, 0}};
                if (head < count) packs[j][half] = row.pack(head * HEAD_WIDTH + (4 * j + lane() % 4) * 8);
            }
        }
    }
};

// What a lane reads of 16 keys and their values.
struct CachedRows {
    // Of keys lane / 4 and lane / 4 + 8: packs 4 j + lane % 4.
    Pack keys[2][QUARTERS];
    // Of keys 2 (lane % 4), the next, and both of these + 8: packs 8 h + lane / 4.
    Pack values[4][HALVES];

    // Keys behind `last` are read as that one, and masked later.
    FUNCTION void load(const Global<bf16>& all_keys, const Global<bf16>& all_values, u32 width, u32 key, u32 last) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            const u64 row = u64(smaller(key + lane() / 4 + 8 * half, last)) * width;
#pragma unroll
            for (u32 j = 0; j < QUARTERS; ++j) keys[half][j] = all_keys.pack(row + (4 * j + lane() % 4) * 8);
        }
#pragma unroll
        for (u32 i = 0; i < 4; ++i) {
            const u64 row = u64(smaller(key + lane() % 4 * 2 + i % 2 + i / 2 * 8, last)) * width;
#pragma unroll
            for (u32 h = 0; h < HALVES; ++h) values[i][h] = all_values.pack(row + (8 * h + lane() / 4) * 8);
        }
    }

    // scores (16 heads, 16 keys) =
    FUNCTION void score(float (&scores)[2][4], const HeadQueries& queries) const {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
#pragma unroll
            for (u32 i = 0; i < 4; ++i) scores[half][i] = 0.0f;
#pragma unroll
            for (u32 j = 0; j < QUARTERS; ++j) {
#pragma unroll
                for (u32 word = 0; word < 4; word += 2) {
                    const u32 a[4] = {queries.packs[j][0].words[word], queries.packs[j][1].words[word],
                                      queries.packs[j][0].words[word + 1], queries.packs[j][1].words[word + 1]};
                    multiply_add(scores[half], a, keys[half][j].words[word], keys[half][j].words[word + 1]);
                }
            }
        }
    }

    // out (16 heads, D) += probabilities (16 heads, 16 keys), rounded, times the values. Column c of block 8 h + i of `out` is
    // element i of pack 8 h + c.
    FUNCTION void add_values(float (&out)[ROW_PACKS][4], const float (&p)[2][4]) const {
        const u32 a[4] = {pack_bf16(p[0][0], p[0][1]), pack_bf16(p[0][2], p[0][3]), pack_bf16(p[1][0], p[1][1]),
                          pack_bf16(p[1][2], p[1][3])};
#pragma unroll
        for (u32 h = 0; h < HALVES; ++h) {
#pragma unroll
            for (u32 word = 0; word < 4; ++word) {
                u32 even[2], odd[2];
#pragma unroll
                for (u32 half = 0; half < 2; ++half) {
                    const u32 first = values[2 * half][h].words[word], second = values[2 * half + 1][h].words[word];
                    even[half] = (first & 0xffffu) | second << 16;
                    odd[half] = first >> 16 | (second & 0xffff0000u);
                }
                multiply_add(out[8 * h + 2 * word], a, even[0], even[1]);
                multiply_add(out[8 * h + 2 * word + 1], a, odd[0], odd[1]);
            }
        }
    }
};

// Minus infinity for keys behind `last`. All rows of scores are of one query.
FUNCTION void hide_behind(float (&scores)[2][4], u32 key, u32 last) {
#pragma unroll
    for (u32 half = 0; half < 2; ++half) {
#pragma unroll
        for (u32 i = 0; i < 4; ++i) {
            if (key + 8 * half + lane() % 4 * 2 + i % 2 > last) scores[half][i] = -INFINITY;
        }
    }
}

// Leaves what a warp has where the block merges it.
FUNCTION void leave(Running<1>& running, Shared<float> outs, Shared<float> most, Shared<float> sums) {
    running.end();
#pragma unroll
    for (u32 n = 0; n < ROW_PACKS; ++n) {
#pragma unroll
        for (u32 i = 0; i < 4; ++i) outs.set(warp() * WARP_OUT + (n * 4 + i) * 32 + lane(), running.out.values[0][n][i]);
    }
    if (lane() % 4 != 0) return;
#pragma unroll
    for (u32 half = 0; half < 2; ++half) {
        most.set(warp() * 16 + lane() / 4 + 8 * half, running.most[0][half]);
        sums.set(warp() * 16 + lane() / 4 + 8 * half, running.sum[0][half]);
    }
}

// out (count, D) = what the warps left, in their order; eight elements of a lane's are a pack.
FUNCTION void merge(Shared<float> outs, Shared<float> most, Shared<float> sums, Global<bf16> out, u32 count) {
    for (u32 index = threadIdx.x; index < 32 * 4 * HALVES; index += THREADS) {
        const u32 of_lane = index % 32, i = index / 32 % 4, h = index / 128, head = of_lane / 4 + i / 2 * 8;
        if (head >= count) continue;
        float peak = -INFINITY;
        for (u32 w = 0; w < WARPS; ++w) peak = larger(peak, most[w * 16 + head]);
        float total = 0.0f, values[8] = {};
        for (u32 w = 0; w < WARPS; ++w) {
            const float fade = exp2_approximate(most[w * 16 + head] - peak);
            total = fmaf(sums[w * 16 + head], fade, total);
#pragma unroll
            for (u32 n = 0; n < 8; ++n)
                values[n] = fmaf(outs[w * WARP_OUT + ((8 * h + n) * 4 + i) * 32 + of_lane], fade, values[n]);
        }
        const float share = 1.0f / total;
#pragma unroll
        for (u32 n = 0; n < 8; ++n) values[n] *= share;
        out.set_pack(head * HEAD_WIDTH + (8 * h + of_lane % 4 * 2 + i % 2) * 8, to_pack(values));
    }
}

// Grid: (N, K) blocks.
KERNEL(attend_cached, AttendCached) {
    SharedMemory memory;
    const Shared<float> outs = memory.take<float>(WARPS * WARP_OUT);
    const Shared<float> most = memory.take<float>(WARPS * 16);
    const Shared<float> sums = memory.take<float>(WARPS * 16);
    const u32 row = blockIdx.x, kv_head = blockIdx.y, group = arguments.heads / arguments.kv_heads;
    const u32 width = arguments.kv_heads * HEAD_WIDTH, last = arguments.positions[row];
    const u32 lowest = lowest_key(last, reach_of(arguments.window));
    const u64 cache = u64(arguments.slots[row]) * arguments.capacity * width + kv_head * HEAD_WIDTH;
    const Global<bf16> keys = arguments.keys.from(cache), values = arguments.values.from(cache);
    const Global<bf16> fused = arguments.fused.from(u64(row) * (arguments.heads * HEAD_WIDTH + 2 * width));
    const Global<bf16> out = arguments.out.from(u64(row) * arguments.heads * HEAD_WIDTH);

    for (u32 member = 0; member < group; member += 16) {
        const u32 column = (kv_head * group + member) * HEAD_WIDTH, count = smaller(group - member, 16);
        HeadQueries queries;
        queries.load(fused.from(column), count);
        Running<1> running;
        running.begin();
        for (u32 key = lowest + 16 * warp(); key <= last; key += 16 * WARPS) {
            CachedRows cached;
            cached.load(keys, values, width, key, last);
            Scores<1, 1> scores;
            cached.score(scores.values[0], queries);
            if (key + 15 > last) hide_behind(scores.values[0], key, last);
            running.add_scores(scores);
            cached.add_values(running.out.values[0], scores.values[0]);
        }
        leave(running, outs, most, sums);
        __syncthreads();
        merge(outs, most, sums, out.from(column), count);
        __syncthreads();
    }
}
