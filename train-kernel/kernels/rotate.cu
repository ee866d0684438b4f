// Rotary positions (Su and others 2021), half-split: for i < D/2 the elements i and i + D/2 of a head turn together by the angle
// of the row's position; twin: ops/rope.rs. Eight pairs a thread; the table is f32.
#include <core.cuh>

struct Rotate {
    Global<bf16> fused;     // (N, (H + 2K) D), queries and keys turned in place
    Global<float> cosines;  // (positions, D/2)
    Global<float> sines;    // (positions, D/2)
    Global<u32> positions;  // (N)
    u32 packs;              // N (H + K) D / 16
    u32 row_width;          // (H + 2K) D
    u32 turned_heads;       // H + K
    float sign;             // -1 turns back
};

// Grid: ⌈packs / THREADS⌉ blocks.
KERNEL(rotate, Rotate) {
    constexpr u32 HALF = HEAD_WIDTH / 2;
    const u32 index = blockIdx.x * THREADS + threadIdx.x;
    if (index >= arguments.packs) return;
    const u32 row_packs = arguments.turned_heads * (HALF / 8), row = index / row_packs, in_row = index - row * row_packs;
    const u32 pair = in_row % (HALF / 8) * 8;
    const u64 at = u64(row) * arguments.row_width + in_row / (HALF / 8) * HEAD_WIDTH + pair;
    const u64 angle = u64(arguments.positions[row]) * HALF + pair;
    float x[8], y[8];
    unpack(arguments.fused.pack(at), x);
    unpack(arguments.fused.pack(at + HALF), y);
#pragma unroll
    for (u32 half = 0; half < 2; ++half) {
        float cosine[4], sine[4];
        unpack(arguments.cosines.pack(angle + 4 * half), cosine);
        unpack(arguments.sines.pack(angle + 4 * half), sine);
#pragma unroll
        for (u32 i = 0; i < 4; ++i) {
            const float s = arguments.sign * sine[i], a = x[4 * half + i], b = y[4 * half + i];
            x[4 * half + i] = a * cosine[i] - b * s;
            y[4 * half + i] = b * cosine[i] + a * s;
        }
    }
    arguments.fused.set_pack(at, to_pack(x));
    arguments.fused.set_pack(at + HALF, to_pack(y));
}
