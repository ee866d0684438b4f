// Rows by index, and the sum of their gradients; twin: ops/embedding.rs.
//
// The host sorts the rows by token, equal tokens in row order, and the backward gives each token that occurs to one block, which
// adds its rows in that order: no atomics, one result.
#include <core.cuh>

struct GatherRows {
    Global<bf16> from;  // (·, C)
    Global<u32> rows;   // (N), indices into `from`
    Global<bf16> out;   // (N, C) =
    u32 packs;          // N C / 8
    u32 width;          // C
};

// Grid: ⌈N C / 8 / THREADS⌉ blocks.
KERNEL(gather_rows, GatherRows) {
    const u32 index = blockIdx.x * THREADS + threadIdx.x;
    if (index >= arguments.packs) return;
    const u32 row_packs = arguments.width / 8, row = index / row_packs;
    const u64 from = u64(arguments.rows[row]) * arguments.width + (index - row * row_packs) * 8;
    arguments.out.set_pack(u64(index) * 8, arguments.from.pack(from));
}

struct EmbedBackward {
    Global<bf16> dout;     // (N, C)
    Global<u32> order;     // (N), rows by token
    Global<u32> tokens;    // (N), token of each row
    Global<u32> runs;      // (N + 1), the first place in `order` of each token that occurs, then N
    Global<float> dtable;  // (V, C) +=
    u32 width;             // C
};

// Grid: (N, ⌈C / 8 / THREADS⌉) blocks, of which those past the last run return at once.
KERNEL(embed_backward, EmbedBackward) {
    const u32 first = arguments.runs[blockIdx.x], end = arguments.runs[blockIdx.x + 1];
    if (first == end) return;
    const u32 column = (blockIdx.y * THREADS + threadIdx.x) * 8;
    if (column >= arguments.width) return;
    const u64 at = u64(arguments.tokens[arguments.order[first]]) * arguments.width + column;
    float low[4], high[4];
    unpack(arguments.dtable.pack(at), low);
    unpack(arguments.dtable.pack(at + 4), high);
#pragma unroll 4
    for (u32 place = first; place < end; ++place) {
        float row[8];
        unpack(arguments.dout.pack(u64(arguments.order[place]) * arguments.width + column), row);
#pragma unroll
        for (u32 i = 0; i < 4; ++i) {
            low[i] += row[i];
            high[i] += row[4 + i];
        }
    }
    arguments.dtable.set_pack(at, to_pack(low));
    arguments.dtable.set_pack(at + 4, to_pack(high));
}
