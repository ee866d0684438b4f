// What the gradient of attention does row by row, before (attend_delta) and after it (round_queries); twin: ops/attention.rs.
#include <attention.cuh>

struct AttendDelta {
    Global<bf16> out;     // (N, H D)
    Global<bf16> dout;    // (N, H D)
    Global<float> delta;  // (H, N) =, the sum of their products
    u32 packs;            // N H D / 8
    u32 rows;             // N
    u32 heads;            // H
};

// Grid: ⌈packs / THREADS⌉ blocks.
KERNEL(attend_delta, AttendDelta) {
    const u32 index = blockIdx.x * THREADS + threadIdx.x;
    const bool inside = index < arguments.packs;
    float sum = 0.0f;
    if (inside) {
        float out[8], dout[8];
        unpack(arguments.out.pack(u64(index) * 8), out);
        unpack(arguments.dout.pack(u64(index) * 8), dout);
#pragma unroll
        for (u32 i = 0; i < 8; ++i) sum = fmaf(out[i], dout[i], sum);
    }
#pragma unroll
    for (u32 distance = ROW_PACKS / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (!inside || threadIdx.x % ROW_PACKS != 0) return;
    const u32 of_row = index / ROW_PACKS, row = of_row / arguments.heads;
    arguments.delta.set(u64(of_row % arguments.heads) * arguments.rows + row, sum);
}

struct RoundQueries {
    Global<float> dqueries;  // (N, H D), not yet times SCALE
    Global<bf16> dfused;     // (N, (H + 2K) D), the first H D columns =
    u32 packs;               // N H D / 8
    u32 width;               // H D
    u32 fused_width;         // (H + 2K) D
};

// Grid: ⌈packs / THREADS⌉ blocks.
KERNEL(round_queries, RoundQueries) {
    const u32 index = blockIdx.x * THREADS + threadIdx.x;
    if (index >= arguments.packs) return;
    const u32 row_packs = arguments.width / 8, row = index / row_packs;
    float low[4], high[4], values[8];
    unpack(arguments.dqueries.pack(u64(index) * 8), low);
    unpack(arguments.dqueries.pack(u64(index) * 8 + 4), high);
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
        values[i] = low[i] * SCALE;
        values[4 + i] = high[i] * SCALE;
    }
    arguments.dfused.set_pack(u64(row) * arguments.fused_width + (index - row * row_packs) * 8, to_pack(values));
}
