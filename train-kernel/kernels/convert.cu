// Copies between f32 and bf16, rounded to the nearest, ties to even. Eight elements a thread.
#include <core.cuh>

struct Narrow {
    Global<float> from;  // (length)
    Global<bf16> to;     // (length) =
    u64 length;          // a multiple of 8
};

// Grid: ⌈length / 8 / THREADS⌉ blocks.
KERNEL(narrow, Narrow) {
    const u64 at = (u64(blockIdx.x) * THREADS + threadIdx.x) * 8;
    if (at >= arguments.length) return;
    float low[4], high[4];
    unpack(arguments.from.pack(at), low);
    unpack(arguments.from.pack(at + 4), high);
    const float values[8] = {low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]};
    arguments.to.set_pack(at, to_pack(values));
}

struct Widen {
    Global<bf16> from;  // (length)
    Global<float> to;   // (length) =
    u64 length;         // a multiple of 8
};

// Grid: ⌈length / 8 / THREADS⌉ blocks.
KERNEL(widen, Widen) {
    const u64 at = (u64(blockIdx.x) * THREADS + threadIdx.x) * 8;
    if (at >= arguments.length) return;
    float values[8];
    unpack(arguments.from.pack(at), values);
    const float low[4] = {values[0], values[1], values[2], values[3]};
    const float high[4] = {values[4], values[5], values[6], values[7]};
    arguments.to.set_pack(at, to_pack(low));
    arguments.to.set_pack(at + 4, to_pack(high));
}
