// What the attention kernels share: the work list, tiles of rows in shared memory, products with them, masks, and the softmax.
//
// A tile is some rows of one head of one document in shared memory, in packs of 8 elements: pack c of row r lies at c xor
// (r mod 8), so that the rows of a matrix never share banks. A warp owns one or two strips of 16 rows and takes the rows of the
// others' tile in groups of 16: what it reads of them serves all its strips, so that with two of them the tensor cores, and not
// shared memory, are what a product waits for. Scores stay in the warp's registers, laid out as D of the products, and are rounded
// to be A of the next one.
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
    FUNCTION bool none() const { return begin >= end; }
};

// Of `groups` groups of keys, by the `rows` queries from `query` on; nothing where the document ends before.
FUNCTION Seen seen_keys(u32 query, u32 rows, u32 key, u32 groups, u32 length, u32 reach) {
    if (query >= length) return Seen{0, 0, false};
    const u32 begin = query >= key + 15 + reach ? (query - key - 15 - reach) / 16 + 1 : 0;
    const u32 end = query + rows > key ? (query + rows - 1 - key) / 16 + 1 : 0;
    return Seen{begin, smaller(end, groups), key + 16 * groups <= query + 1 && query + rows - 1 - key < reach};
}

// Of `groups` groups of queries, to which the `rows` keys from `key` on are shown; nothing where the document ends before.
FUNCTION Seen seeing_queries(u32 key, u32 rows, u32 query, u32 groups, u32 length, u32 reach) {
    if (key >= length || query >= length) return Seen{0, 0, false};
    const u32 there = smaller((length - query + 15) / 16, groups), last = key + rows - 1;
    const u32 begin = key > query ? (key - query) / 16 : 0;
    const u32 end = query < last + reach ? (last + reach - query + 15) / 16 : 0;
    const bool whole = last <= query && query + 16 * groups - 1 - key < reach && there == groups;
    return Seen{begin, smaller(end, there), whole};
}

// Strips of A that stay in registers, and strips that are read from a tile whenever they are needed.
template <u32 STRIPS>
struct KeptRows {
    u32 values[STRIPS][STEPS][4];

    FUNCTION explicit KeptRows(Shared<bf16> rows) {
        const u32 at = place_down();
#pragma unroll
        for (u32 strip = 0; strip < STRIPS; ++strip) {
#pragma unroll
            for (u32 step = 0; step < STEPS; ++step)
                load_matrices(values[strip][step], at_step(rows, at, step, strip * 16 * HEAD_WIDTH));
        }
    }
    FUNCTION void get(u32 strip, u32 step, u32 (&a)[4]) const {
#pragma unroll
        for (u32 i = 0; i < 4; ++i) a[i] = values[strip][step][i];
    }
};

struct SharedRows {
    Shared<bf16> rows;

    FUNCTION explicit SharedRows(Shared<bf16> given) : rows(given) {}
    FUNCTION void get(u32 strip, u32 step, u32 (&a)[4]) const {
        load_matrices(a, at_step(rows, place_down(), step, strip * 16 * HEAD_WIDTH));
    }
};

// A warp's scores: of each strip 16 rows by 16 GROUPS columns.
template <u32 STRIPS, u32 GROUPS>
struct Scores {
    float values[STRIPS][2 * GROUPS][4];

    // += rows (16 STRIPS, D) times the transposed tile, in groups `begin` to `end`.
    template <class Rows>
    FUNCTION void multiply_groups(const Rows& rows, Shared<bf16> tile, u32 begin, u32 end) {
        const u32 at = place_across();
#pragma unroll
        for (u32 step = 0; step < STEPS; ++step) {
            u32 a[STRIPS][4];
#pragma unroll
            for (u32 strip = 0; strip < STRIPS; ++strip) rows.get(strip, step, a[strip]);
#pragma unroll
            for (u32 group = begin; group < end; ++group) {
                u32 b[4];
                load_matrices(b, at_step(tile, at, step, group * 16 * HEAD_WIDTH));
#pragma unroll
                for (u32 strip = 0; strip < STRIPS; ++strip) {
                    multiply_add(values[strip][2 * group], a[strip], b[0], b[1]);
                    multiply_add(values[strip][2 * group + 1], a[strip], b[2], b[3]);
                }
            }
        }
    }

    // = rows (16 STRIPS, D) times the transposed tile (16 GROUPS, D); 0 in groups that are not seen.
    template <class Rows>
    FUNCTION void multiply(const Rows& rows, Shared<bf16> tile, Seen seen) {
#pragma unroll
        for (u32 strip = 0; strip < STRIPS; ++strip) {
#pragma unroll
            for (u32 n = 0; n < 2 * GROUPS; ++n) {
#pragma unroll
                for (u32 i = 0; i < 4; ++i) values[strip][n][i] = 0.0f;
            }
        }
        if (seen.whole) {
            multiply_groups(rows, tile, 0, GROUPS);
            return;
        }
#pragma unroll
        for (u32 group = 0; group < GROUPS; ++group) {
            if (seen.has(group)) multiply_groups(rows, tile, group, group + 1);
        }
    }

    // Minus infinity for what is not seen. `distance` is query - key of this lane's first score; QUERIES_DOWN: a row of scores is
    // a query, and a column a key; otherwise the other way round.
    template <bool QUERIES_DOWN>
    FUNCTION void mask(u32 distance, u32 reach) {
#pragma unroll
        for (u32 strip = 0; strip < STRIPS; ++strip) {
#pragma unroll
            for (u32 n = 0; n < 2 * GROUPS; ++n) {
#pragma unroll
                for (u32 i = 0; i < 4; ++i) {
                    const u32 further = 8 * n + i % 2 - i / 2 * 8 - 16 * strip;
                    if ((QUERIES_DOWN ? distance - further : distance + further) >= reach) values[strip][n][i] = -INFINITY;
                }
            }
        }
    }
};

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

// Scores, rounded, as A of products: of each strip and group 16 rows by 16 columns.
template <u32 STRIPS, u32 GROUPS>
struct Rounded {
    u32 values[GROUPS][STRIPS][4];

    FUNCTION explicit Rounded(const Scores<STRIPS, GROUPS>& scores) {
#pragma unroll
        for (u32 group = 0; group < GROUPS; ++group) {
#pragma unroll
            for (u32 strip = 0; strip < STRIPS; ++strip) {
#pragma unroll
                for (u32 i = 0; i < 4; ++i) {
                    const float(&pair)[4] = scores.values[strip][2 * group + i / 2];
                    values[group][strip][i] = pack_bf16(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
                }
            }
        }
    }
};

// A warp's sums over groups: of each strip 16 rows by 8 PACKS columns, all of a row or a part.
template <u32 STRIPS, u32 PACKS>
struct Sums {
    float values[STRIPS][PACKS][4];

    FUNCTION void clear() {
#pragma unroll
        for (u32 strip = 0; strip < STRIPS; ++strip) {
#pragma unroll
            for (u32 n = 0; n < PACKS; ++n) {
#pragma unroll
                for (u32 i = 0; i < 4; ++i) values[strip][n][i] = 0.0f;
            }
        }
    }

    // += a (16 STRIPS, 16) times 16 rows of a tile, of which it takes the columns of part `part`.
    FUNCTION void add_product(const u32 (&a)[STRIPS][4], Shared<bf16> rows, u32 part) {
        const u32 first = part * PACKS / 2, at = place_down() ^ first % 4 * 16;
#pragma unroll
        for (u32 step = 0; step < PACKS / 2; ++step) {
            u32 b[4];
            load_matrices_transposed(b, at_step(rows.from(first / 4 * 64), at, step, 0));
#pragma unroll
            for (u32 strip = 0; strip < STRIPS; ++strip) {
                multiply_add(values[strip][2 * step], a[strip], b[0], b[1]);
                multiply_add(values[strip][2 * step + 1], a[strip], b[2], b[3]);
            }
        }
    }
};

// The attention of a warp's queries to the keys so far. Each lane sums its own columns only.
template <u32 STRIPS>
struct Running {
    Sums<STRIPS, ROW_PACKS> out;
    // Of rows lane / 4 and lane / 4 + 8 of each strip: the largest score as a power of two, and the sum of exponentials relative
    // to it.
    float most[STRIPS][2];
    float sum[STRIPS][2];

    FUNCTION void begin() {
        out.clear();
#pragma unroll
        for (u32 strip = 0; strip < STRIPS; ++strip) {
#pragma unroll
            for (u32 half = 0; half < 2; ++half) {
                most[strip][half] = -INFINITY;
                sum[strip][half] = 0.0f;
            }
        }
    }

    // Scores become probabilities relative to the new maximum; so does what was summed before. The maximum is rounded once, and
    // the same value is taken from every score, so its rounding cancels.
    template <u32 GROUPS>
    FUNCTION void add_scores(Scores<STRIPS, GROUPS>& scores) {
#pragma unroll
        for (u32 strip = 0; strip < STRIPS; ++strip) add_strip<GROUPS>(scores.values[strip], strip);
    }

    template <u32 GROUPS>
    FUNCTION void add_strip(float (&scores)[2 * GROUPS][4], u32 strip) {
        float fade[2];
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            float peak = larger(scores[0][2 * half], scores[0][2 * half + 1]);
#pragma unroll
            for (u32 n = 1; n < 2 * GROUPS; ++n) peak = larger(peak, larger(scores[n][2 * half], scores[n][2 * half + 1]));
            peak = larger(peak, __shfl_xor_sync(0xffffffffu, peak, 1));
            peak = larger(peak, __shfl_xor_sync(0xffffffffu, peak, 2));
            const float now = larger(most[strip][half], peak * SCALE_LOG2_E);
            // Nothing seen yet: every exponential is 0, and not that of an infinity less itself.
            const float base = now == -INFINITY ? 0.0f : now;
            fade[half] = exp2_approximate(most[strip][half] - base);
            most[strip][half] = now;
            sum[strip][half] *= fade[half];
#pragma unroll
            for (u32 n = 0; n < 2 * GROUPS; ++n) {
#pragma unroll
                for (u32 i = 2 * half; i < 2 * half + 2; ++i) {
                    scores[n][i] = exp2_approximate(fmaf(scores[n][i], SCALE_LOG2_E, -base));
                    sum[strip][half] += scores[n][i];
                }
            }
        }
        // After the first tiles a maximum seldom changes, and then there is nothing to multiply.
        if (!warp_any(fade[0] != 1.0f || fade[1] != 1.0f)) return;
#pragma unroll
        for (u32 n = 0; n < ROW_PACKS; ++n) {
#pragma unroll
            for (u32 i = 0; i < 4; ++i) out.values[strip][n][i] *= fade[i / 2];
        }
    }

    // The whole rows' sums, in every lane of a row.
    FUNCTION void end() {
#pragma unroll
        for (u32 strip = 0; strip < STRIPS; ++strip) {
#pragma unroll
            for (u32 half = 0; half < 2; ++half) {
                sum[strip][half] += __shfl_xor_sync(0xffffffffu, sum[strip][half], 1);
                sum[strip][half] += __shfl_xor_sync(0xffffffffu, sum[strip][half], 2);
            }
        }
    }
};

// Rounds a strip's sums (16, 8 PACKS), times the factors of rows lane / 4 and lane / 4 + 8, and writes the first `count` rows of
// part `part` of their columns: to (count, D) =. `rows` is room for 16 rows of a tile, this part of it the warp's own.
template <u32 PACKS>
FUNCTION void store_rows(const float (&sums)[PACKS][4], const float (&factor)[2], Shared<bf16> rows, u32 part, Global<bf16> to,
                         u32 stride, u32 count) {
    const Shared<u32> words{reinterpret_cast<u32*>(rows.data)};
    __syncwarp();
#pragma unroll
    for (u32 n = 0; n < PACKS; ++n) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            const float low = sums[n][2 * half] * factor[half], high = sums[n][2 * half + 1] * factor[half];
            words.set(place(lane() / 4 + 8 * half, part * PACKS + n) / 2 + lane() % 4, pack_bf16(low, high));
        }
    }
    __syncwarp();
#pragma unroll
    for (u32 i = 0; i < 16 * PACKS / 32; ++i) {
        const u32 row = lane() / PACKS + i * (32 / PACKS), pack = part * PACKS + lane() % PACKS;
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

// Calls `work` with the items that are this block's, whatever the number of blocks: in turn as they come and in reverse, so that
// no block always has the longest.
template <class Work>
FUNCTION void for_each_item(u32 items, const Work& work) {
    for (u32 begin = 0, round = 0; begin < items; begin += gridDim.x, ++round) {
        const u32 item = begin + (round % 2 == 0 ? blockIdx.x : gridDim.x - 1 - blockIdx.x);
        if (item < items) work(item);
        __syncthreads();
    }
}
