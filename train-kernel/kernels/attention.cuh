// What the attention kernels share: the work list, tiles of rows in shared memory, products with them, masks, and the softmax.
//
// A tile is some rows of one head of one document in shared memory, in packs of 8 elements: pack c of row r lies at c xor
// (r mod 8), so that the rows of a matrix never share banks. A warp owns 16 rows and takes the rows of the others' tile in groups
// of 16. Scores stay in the warp's registers, laid out as D of the products, and are rounded to be A of the next one.
//
// Positions count from the document's beginning. A query sees a key when query - key < reach, without sign: keys behind the
// query wrap around to at least 2^31, which no reach exceeds.
#pragma once

#include <core.cuh>

static_assert(HEAD_WIDTH == 64 || HEAD_WIDTH == 128, "heads of 64 or 128");

constexpr u32 ROW_PACKS = HEAD_WIDTH / 8;
// Products along a row, 16 elements each.
constexpr u32 STEPS = HEAD_WIDTH / 16;
constexpr float SCALE = HEAD_WIDTH == 64 ? 0.125f : 0.08838834764831845f;
constexpr float LOG2_E = 1.4426950408889634f;
constexpr float LN_2 = 0.6931471805599453f;
constexpr float SCALE_LOG2_E = SCALE * LOG2_E;

// An entry of the work list, the twin of gpu/arguments.rs, AttentionTile. Longest work first; padding comes in tiles too.
struct alignas(16) AttentionTile {
    u32 first;   // the document's first row
    u32 length;  // its rows
    u32 tile;    // which of its tiles
    u32 keys;    // 0: rows of padding, which get zeros
};

// Keys that a query sees, itself included, where 0 stands for all of its document.
FUNCTION u32 reach_of(u32 window) { return window - 1 < 0x7fffffffu ? window : 0x80000000u; }

FUNCTION u32 smaller(u32 a, u32 b) { return a < b ? a : b; }

// The first key that a query sees.
FUNCTION u32 lowest_key(u32 query, u32 reach) { return query - smaller(query, reach - 1); }

// Where a pack lies in a tile.
FUNCTION u32 place(u32 row, u32 pack) { return row * HEAD_WIDTH + (pack ^ row % 8) * 8; }

// Where this lane's row of four matrices begins: those of A, and of B from rows that are summed over (transposed) ...
FUNCTION u32 place_down() { return place(lane() % 16, lane() / 16); }
// ... and those of B from rows that become columns.
FUNCTION u32 place_across() { return place(lane() % 8 + lane() / 16 * 8, lane() / 8 % 2); }

// From such a place, the same 16 elements in step `step` of the row and `further` elements on: the lane's part first, so that the
// rest is a constant of the instruction.
FUNCTION Shared<bf16> at_step(Shared<bf16> tile, u32 at, u32 step, u32 further) {
    return tile.from(at ^ step % 4 * 16).from(step / 4 * 64 + further);
}

// Begins to copy ROWS rows of a head, from row `first` of its document on; from row `end` on there are zeros.
template <u32 ROWS>
FUNCTION void copy_rows(Shared<bf16> tile, Global<bf16> head, u32 stride, u32 first, u32 end) {
    constexpr u32 AT_ONCE = THREADS / ROW_PACKS;
    static_assert(AT_ONCE % 8 == 0 && ROWS % AT_ONCE == 0, "each thread copies as much, and one pack of a row");
    const u32 in_tile = threadIdx.x / ROW_PACKS, pack = threadIdx.x % ROW_PACKS, row = first + in_tile;
    const Shared<bf16> to = tile.from(place(in_tile, pack));
    // Stays at a row of the document.
    Global<bf16> from = head.from(u64(smaller(row, end - 1)) * stride + pack * 8);
#pragma unroll
    for (u32 i = 0; i < ROWS; i += AT_ONCE) {
        copy_async(to.from(i * HEAD_WIDTH), from, row + i < end);
        from = from.from(row + i + AT_ONCE < end ? AT_ONCE * stride : 0);
    }
}

// What a warp sees of a tile: groups `begin` to `end`, in which a mask may still hide something, or all of it.
struct Seen {
    u32 begin;
    u32 end;
    bool whole;

    FUNCTION bool has(u32 group) const { return begin <= group && group < end; }
};

// Of `groups` groups of keys, by the 16 queries from `query` on.
FUNCTION Seen seen_keys(u32 query, u32 key, u32 groups, u32 reach) {
    const u32 begin = query >= key + 15 + reach ? (query - key - 15 - reach) / 16 + 1 : 0;
    const u32 end = query + 16 > key ? (query + 15 - key) / 16 + 1 : 0;
    return Seen{begin, smaller(end, groups), key + 16 * groups <= query + 1 && query + 15 - key < reach};
}

// Of `groups` groups of queries, to which the 16 keys from `key` on are shown; nothing where the document ends before.
FUNCTION Seen seeing_queries(u32 key, u32 query, u32 groups, u32 length, u32 reach) {
    if (key >= length || query >= length) return Seen{0, 0, false};
    const u32 there = smaller((length - query + 15) / 16, groups);
    const u32 begin = key > query ? (key - query) / 16 : 0;
    const u32 end = query < key + 15 + reach ? (key + 15 + reach - query + 15) / 16 : 0;
    const bool whole = key + 15 <= query && query + 16 * groups - 1 - key < reach && there == groups;
    return Seen{begin, smaller(end, there), whole};
}

// Rows of A that stay in registers, and rows that are read from a tile whenever they are needed.
struct KeptRows {
    u32 values[STEPS][4];

    FUNCTION void load(Shared<bf16> rows) {
        const u32 at = place_down();
#pragma unroll
        for (u32 step = 0; step < STEPS; ++step) load_matrices(values[step], at_step(rows, at, step, 0));
    }
    FUNCTION void get(u32 step, u32 (&a)[4]) const {
#pragma unroll
        for (u32 i = 0; i < 4; ++i) a[i] = values[step][i];
    }
};

struct SharedRows {
    Shared<bf16> rows;

    FUNCTION void get(u32 step, u32 (&a)[4]) const { load_matrices(a, at_step(rows, place_down(), step, 0)); }
};

// scores (16, 16 groups) += rows (16, D) times the transposed tile, in groups `begin` to `end`.
template <u32 GROUPS, class Rows>
FUNCTION void multiply_groups(float (&scores)[2 * GROUPS][4], const Rows& rows, Shared<bf16> tile, u32 begin, u32 end) {
    const u32 at = place_across();
#pragma unroll
    for (u32 step = 0; step < STEPS; ++step) {
        u32 a[4];
        rows.get(step, a);
#pragma unroll
        for (u32 group = begin; group < end; ++group) {
            u32 b[4];
            load_matrices(b, at_step(tile, at, step, group * 16 * HEAD_WIDTH));
            multiply_add(scores[2 * group], a, b[0], b[1]);
            multiply_add(scores[2 * group + 1], a, b[2], b[3]);
        }
    }
}

// scores (16, 16 GROUPS) = rows (16, D) times the transposed tile (16 GROUPS, D); 0 in groups that are not seen.
template <u32 GROUPS, class Rows>
FUNCTION void multiply_transposed(float (&scores)[2 * GROUPS][4], const Rows& rows, Shared<bf16> tile, Seen seen) {
#pragma unroll
    for (u32 n = 0; n < 2 * GROUPS; ++n) {
#pragma unroll
        for (u32 i = 0; i < 4; ++i) scores[n][i] = 0.0f;
    }
    if (seen.whole) {
        multiply_groups<GROUPS>(scores, rows, tile, 0, GROUPS);
        return;
    }
#pragma unroll
    for (u32 group = 0; group < GROUPS; ++group) {
        if (seen.has(group)) multiply_groups<GROUPS>(scores, rows, tile, group, group + 1);
    }
}

// Calls `add` with the groups that are seen; without branches between them where all are.
template <u32 GROUPS, class Add>
FUNCTION void for_seen(Seen seen, const Add& add) {
    if (seen.whole) {
#pragma unroll
        for (u32 group = 0; group < GROUPS; ++group) add(group);
        return;
    }
#pragma unroll
    for (u32 group = 0; group < GROUPS; ++group) {
        if (seen.has(group)) add(group);
    }
}

// sums (16, D) += values (16, 16), rounded, times 16 rows of a tile (16, D). The values are a group of scores.
FUNCTION void add_product(float (&sums)[ROW_PACKS][4], const float (&low)[4], const float (&high)[4], Shared<bf16> rows) {
    const u32 a[4] = {pack_bf16(low[0], low[1]), pack_bf16(low[2], low[3]), pack_bf16(high[0], high[1]),
                      pack_bf16(high[2], high[3])};
    const u32 at = place_down();
#pragma unroll
    for (u32 step = 0; step < STEPS; ++step) {
        u32 b[4];
        load_matrices_transposed(b, at_step(rows, at, step, 0));
        multiply_add(sums[2 * step], a, b[0], b[1]);
        multiply_add(sums[2 * step + 1], a, b[2], b[3]);
    }
}

// Minus infinity for what is not seen. `distance` is query - key of this lane's first score; QUERIES_DOWN: a row of scores is a
// query, and a column a key; otherwise the other way round.
template <u32 GROUPS, bool QUERIES_DOWN>
FUNCTION void mask(float (&scores)[2 * GROUPS][4], u32 distance, u32 reach) {
#pragma unroll
    for (u32 n = 0; n < 2 * GROUPS; ++n) {
#pragma unroll
        for (u32 i = 0; i < 4; ++i) {
            const u32 further = 8 * n + i % 2 - i / 2 * 8;
            if ((QUERIES_DOWN ? distance - further : distance + further) >= reach) scores[n][i] = -INFINITY;
        }
    }
}

// The attention of a warp's 16 queries to the keys so far. Each lane sums its own columns only.
struct Running {
    float out[ROW_PACKS][4];
    // Of rows lane / 4 and lane / 4 + 8: the largest score as a power of two, and the sum of exponentials relative to it.
    float most[2];
    float sum[2];

    FUNCTION void begin() {
#pragma unroll
        for (u32 n = 0; n < ROW_PACKS; ++n) {
#pragma unroll
            for (u32 i = 0; i < 4; ++i) out[n][i] = 0.0f;
        }
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            most[half] = -INFINITY;
            sum[half] = 0.0f;
        }
    }

    // Scores become probabilities relative to the new maximum; so does what was summed before. The maximum is rounded once, and
    // the same value is taken from every score, so its rounding cancels.
    template <u32 GROUPS>
    FUNCTION void add_scores(float (&scores)[2 * GROUPS][4]) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            float peak = larger(scores[0][2 * half], scores[0][2 * half + 1]);
#pragma unroll
            for (u32 n = 1; n < 2 * GROUPS; ++n) peak = larger(peak, larger(scores[n][2 * half], scores[n][2 * half + 1]));
            peak = larger(peak, __shfl_xor_sync(0xffffffffu, peak, 1));
            peak = larger(peak, __shfl_xor_sync(0xffffffffu, peak, 2));
            const float now = larger(most[half], peak * SCALE_LOG2_E);
            // Nothing seen yet: every exponential is 0, and not that of an infinity less itself.
            const float base = now == -INFINITY ? 0.0f : now;
            const float fade = exp2_approximate(most[half] - base);
            most[half] = now;
            sum[half] *= fade;
#pragma unroll
            for (u32 n = 0; n < 2 * GROUPS; ++n) {
#pragma unroll
                for (u32 i = 2 * half; i < 2 * half + 2; ++i) {
                    scores[n][i] = exp2_approximate(fmaf(scores[n][i], SCALE_LOG2_E, -base));
                    sum[half] += scores[n][i];
                }
            }
#pragma unroll
            for (u32 n = 0; n < ROW_PACKS; ++n) {
                out[n][2 * half] *= fade;
                out[n][2 * half + 1] *= fade;
            }
        }
    }

    // The whole rows' sums, in every lane of a row.
    FUNCTION void end() {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            sum[half] += __shfl_xor_sync(0xffffffffu, sum[half], 1);
            sum[half] += __shfl_xor_sync(0xffffffffu, sum[half], 2);
        }
    }
};

// Rounds a warp's sums (16, D), times the factors of rows lane / 4 and lane / 4 + 8, and writes the first `count` rows:
// to (count, D) =. `rows` is room of the warp's own for 16 rows of a tile.
FUNCTION void store_rows(const float (&sums)[ROW_PACKS][4], const float (&factor)[2], Shared<bf16> rows, Global<bf16> to,
                         u32 stride, u32 count) {
    const Shared<u32> words{reinterpret_cast<u32*>(rows.data)};
    __syncwarp();
#pragma unroll
    for (u32 n = 0; n < ROW_PACKS; ++n) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            const float low = sums[n][2 * half] * factor[half], high = sums[n][2 * half + 1] * factor[half];
            words.set(place(lane() / 4 + 8 * half, n) / 2 + lane() % 4, pack_bf16(low, high));
        }
    }
    __syncwarp();
#pragma unroll
    for (u32 i = 0; i < 16 * ROW_PACKS / 32; ++i) {
        const u32 row = lane() / ROW_PACKS + i * (32 / ROW_PACKS), pack = lane() % ROW_PACKS;
        if (row < count) to.set_pack(u64(row) * stride + pack * 8, rows.pack(place(row, pack)));
    }
}

// Of 16 rows from `first` on, those before `end`.
FUNCTION u32 rows_before(u32 end, u32 first) { return first < end ? smaller(end - first, 16) : 0; }

// Zeros in `count` rows of a head.
FUNCTION void clear_rows(Global<bf16> head, u32 stride, u32 count) {
    for (u32 index = threadIdx.x; index < count * ROW_PACKS; index += THREADS)
        head.set_pack(u64(index / ROW_PACKS) * stride + index % ROW_PACKS * 8, Pack{{0, 0, 0, 0}});
}
