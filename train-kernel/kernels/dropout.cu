// Dropout from the counter generator (random.rs: Philox-4x32-10, Salmon and others, SC 2011); twin: ops/dropout.rs. An element
// is kept or not by its address (seed, step, tensor, row of the step, column), never by the order of computation.
#include <core.cuh>
#include <random.cuh>

struct Dropout {
    Global<PassScalars> pass;  // (1)
    Global<bf16> input;        // (N, C)
    Global<bf16> output;       // (N, C): = the kept elements; of the backward +=
    u32 packs;                 // N C / 8
    u32 width;                 // C
    u32 key[2];                // the seed
    u32 place;                 // purpose and tensor
    u32 threshold;             // numbers below it are dropped
    float factor;              // 1 / share kept
};

// The factor of each of the 8 elements of a pack: that of the kept, or 0.
FUNCTION void factors(const Dropout& arguments, u32 index, float (&out)[8]) {
    const u64 element = arguments.pass[0].first_row * arguments.width + u64(index) * 8;
    const u32 step = arguments.pass[0].step;
#pragma unroll
    for (u32 half = 0; half < 2; ++half) {
        const u64 block = element / 4 + half;
        const u32 counter[4] = {u32(block), u32(block >> 32), step, arguments.place};
        u32 bits[4];
        philox(counter, arguments.key, bits);
#pragma unroll
        for (u32 i = 0; i < 4; ++i) out[4 * half + i] = bits[i] >= arguments.threshold ? arguments.factor : 0.0f;
    }
}

// Grid: ⌈N C / 8 / THREADS⌉ blocks.
KERNEL(drop_out, Dropout) {
    const u32 index = blockIdx.x * THREADS + threadIdx.x;
    if (index >= arguments.packs) return;
    float x[8], factor[8];
    unpack(arguments.input.pack(u64(index) * 8), x);
    factors(arguments, index, factor);
#pragma unroll
    for (u32 i = 0; i < 8; ++i) x[i] = factor[i] == 0.0f ? 0.0f : x[i] * factor[i];
    arguments.output.set_pack(u64(index) * 8, to_pack(x));
}

// Grid: ⌈N C / 8 / THREADS⌉ blocks.
KERNEL(drop_out_backward, Dropout) {
    const u32 index = blockIdx.x * THREADS + threadIdx.x;
    if (index >= arguments.packs) return;
    float dout[8], dx[8], factor[8];
    unpack(arguments.input.pack(u64(index) * 8), dout);
    unpack(arguments.output.pack(u64(index) * 8), dx);
    factors(arguments, index, factor);
#pragma unroll
    for (u32 i = 0; i < 8; ++i) dx[i] += factor[i] == 0.0f ? 0.0f : dout[i] * factor[i];
    arguments.output.set_pack(u64(index) * 8, to_pack(dx));
}
