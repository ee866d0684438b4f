// Root-mean-square norm (Zhang and Sennrich 2019) with the residual addition before it; twin: ops/norm.rs.
//
// One block a row. A row is CHUNKS times what the block reads at once (8 bf16 a thread), so that it stays in registers between
// its sum of squares and its scaling. The gradient takes STRIP rows a block: each thread keeps the weight gradient of its own
// columns in registers over them and writes one partial sum, which norm_weight adds up in order. No atomics.
#include <core.cuh>

struct Norm {
    Global<bf16> x;       // (N, C)
    Global<bf16> delta;   // (N, C); null: sum = x
    Global<bf16> sum;     // (N, C) =; null with delta
    Global<bf16> weight;  // (C)
    Global<bf16> out;     // (N, C) =
    Global<float> rstd;   // (N) =
    u32 width;
    float epsilon;
};

// The row's values of this thread's chunk, 8 from column `first` on.
FUNCTION u32 column_of(u32 chunk) { return (chunk * THREADS + threadIdx.x) * 8; }

// out = weight · (x · rstd), in this order wherever it is computed again.
FUNCTION Pack scaled(const float (&x)[8], Pack weight, float rstd) {
    float w[8], y[8];
    unpack(weight, w);
#pragma unroll
    for (u32 i = 0; i < 8; ++i) y[i] = w[i] * (x[i] * rstd);
    return to_pack(y);
}

// Grid: N blocks.
KERNEL(norm_forward, Norm) {
    SharedMemory memory;
    const Shared<float> scratch = memory.take<float>(THREADS / 32);
    const u64 row = u64(blockIdx.x) * arguments.width;
    const bool adds = arguments.delta.exists();
    // All of the row is asked for before any of it is used.
    Pack given[CHUNKS], delta[CHUNKS];
#pragma unroll
    for (u32 chunk = 0; chunk < CHUNKS; ++chunk) {
        const u32 column = column_of(chunk);
        given[chunk] = delta[chunk] = Pack{{0, 0, 0, 0}};
        if (column >= arguments.width) continue;
        given[chunk] = arguments.x.pack(row + column);
        if (adds) delta[chunk] = arguments.delta.pack(row + column);
    }
    float x[CHUNKS][8];
    float squares = 0.0f;
#pragma unroll
    for (u32 chunk = 0; chunk < CHUNKS; ++chunk) {
        const u32 column = column_of(chunk);
        unpack(given[chunk], x[chunk]);
        if (adds) {
            float added[8];
            unpack(delta[chunk], added);
#pragma unroll
            for (u32 i = 0; i < 8; ++i) x[chunk][i] += added[i];
            const Pack sum = to_pack(x[chunk]);
            if (column < arguments.width) arguments.sum.set_pack(row + column, sum);
            unpack(sum, x[chunk]);
        }
#pragma unroll
        for (u32 i = 0; i < 8; ++i) squares += x[chunk][i] * x[chunk][i];
    }
    const float mean = block_sum(squares, scratch) / float(arguments.width);
    const float rstd = 1.0f / sqrtf(mean + arguments.epsilon);
    if (threadIdx.x == 0) arguments.rstd.set(blockIdx.x, rstd);
#pragma unroll
    for (u32 chunk = 0; chunk < CHUNKS; ++chunk) {
        const u32 column = column_of(chunk);
        if (column >= arguments.width) continue;
        arguments.out.set_pack(row + column, scaled(x[chunk], arguments.weight.pack(column), rstd));
    }
}

struct NormRebuild {
    Global<bf16> x;       // (N, C)
    Global<bf16> weight;  // (C)
    Global<float> rstd;   // (N)
    Global<bf16> out;     // (N, C) =
    u32 width;
};

// Grid: N blocks.
KERNEL(norm_rebuild, NormRebuild) {
    const u64 row = u64(blockIdx.x) * arguments.width;
    const float rstd = arguments.rstd[blockIdx.x];
    for (u32 column = threadIdx.x * 8; column < arguments.width; column += THREADS * 8) {
        float x[8];
        unpack(arguments.x.pack(row + column), x);
        arguments.out.set_pack(row + column, scaled(x, arguments.weight.pack(column), rstd));
    }
}

struct NormBackward {
    Global<bf16> x;          // (N, C)
    Global<bf16> weight;     // (C)
    Global<float> rstd;      // (N)
    Global<bf16> dout;       // (N, C)
    Global<bf16> dx;         // (N, C) +=
    Global<float> partials;  // (⌈N / STRIP⌉, C) =; null when the weight is frozen
    u32 rows;
    u32 width;
};

// Grid: ⌈N / STRIP⌉ blocks.
KERNEL(norm_backward, NormBackward) {
    SharedMemory memory;
    // Two, in turn: a row's sum is read while the next row's is written.
    const Shared<float> scratch = memory.take<float>(2 * (THREADS / 32));
    float dweight[CHUNKS][8];
#pragma unroll
    for (u32 chunk = 0; chunk < CHUNKS; ++chunk) {
#pragma unroll
        for (u32 i = 0; i < 8; ++i) dweight[chunk][i] = 0.0f;
    }
    const u32 first = blockIdx.x * STRIP;
    const u32 end = first + STRIP < arguments.rows ? first + STRIP : arguments.rows;
    for (u32 index = first; index < end; ++index) {
        const u64 row = u64(index) * arguments.width;
        const float rstd = arguments.rstd[index];
        Pack x[CHUNKS], dout[CHUNKS], stream[CHUNKS];
#pragma unroll
        for (u32 chunk = 0; chunk < CHUNKS; ++chunk) {
            const u32 column = column_of(chunk);
            if (column >= arguments.width) continue;
            x[chunk] = arguments.x.pack(row + column);
            dout[chunk] = arguments.dout.pack(row + column);
            stream[chunk] = arguments.dx.pack(row + column);
        }
        float product = 0.0f;
#pragma unroll
        for (u32 chunk = 0; chunk < CHUNKS; ++chunk) {
            const u32 column = column_of(chunk);
            if (column >= arguments.width) continue;
            float a[8], b[8], w[8];
            unpack(x[chunk], a);
            unpack(dout[chunk], b);
            unpack(arguments.weight.pack(column), w);
#pragma unroll
            for (u32 i = 0; i < 8; ++i) {
                product += w[i] * b[i] * a[i];
                dweight[chunk][i] += b[i] * (a[i] * rstd);
            }
        }
        const float total = block_sum(product, scratch.from(index % 2 * (THREADS / 32)));
        const float pull = total / float(arguments.width) * rstd * rstd * rstd;
#pragma unroll
        for (u32 chunk = 0; chunk < CHUNKS; ++chunk) {
            const u32 column = column_of(chunk);
            if (column >= arguments.width) continue;
            float a[8], b[8], w[8], dx[8];
            unpack(x[chunk], a);
            unpack(dout[chunk], b);
            unpack(arguments.weight.pack(column), w);
            unpack(stream[chunk], dx);
#pragma unroll
            for (u32 i = 0; i < 8; ++i) dx[i] += rstd * (w[i] * b[i]) - pull * a[i];
            arguments.dx.set_pack(row + column, to_pack(dx));
        }
    }
    if (!arguments.partials.exists()) return;
#pragma unroll
    for (u32 chunk = 0; chunk < CHUNKS; ++chunk) {
        const u32 column = column_of(chunk);
        if (column >= arguments.width) continue;
        const u64 at = u64(blockIdx.x) * arguments.width + column;
        const float low[4] = {dweight[chunk][0], dweight[chunk][1], dweight[chunk][2], dweight[chunk][3]};
        const float high[4] = {dweight[chunk][4], dweight[chunk][5], dweight[chunk][6], dweight[chunk][7]};
        arguments.partials.set_pack(at, to_pack(low));
        arguments.partials.set_pack(at + 4, to_pack(high));
    }
}

struct NormWeight {
    Global<float> partials;  // (strips, C)
    Global<float> dweight;   // (C) +=
    u32 strips;
    u32 width;
};

// Grid: ⌈C / 32⌉ blocks. A lane takes a column, a warp every (THREADS / 32)-th strip.
KERNEL(norm_weight, NormWeight) {
    SharedMemory memory;
    const Shared<float> sums = memory.take<float>(THREADS);
    const u32 column = blockIdx.x * 32 + lane();
    float sum = 0.0f;
    if (column < arguments.width) {
#pragma unroll 8
        for (u32 strip = warp(); strip < arguments.strips; strip += THREADS / 32)
            sum += arguments.partials[u64(strip) * arguments.width + column];
    }
    sums.set(threadIdx.x, sum);
    __syncthreads();
    if (warp() != 0 || column >= arguments.width) return;
#pragma unroll
    for (u32 of_warp = 1; of_warp < THREADS / 32; ++of_warp) sum += sums[of_warp * 32 + lane()];
    arguments.dweight.set(column, arguments.dweight[column] + sum);
}
