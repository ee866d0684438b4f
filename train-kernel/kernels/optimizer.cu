// The norm of a vector, the judgement of a step, and AdamW (Loshchilov and Hutter 2019); twins: ops/adamw.rs, optimizer.rs.
//
// Nothing here waits for the host: the norm and what follows from it stay on the card, and an update that is judged away
// changes nothing.
#include <core.cuh>

struct SumOfSquares {
    Global<float> values;     // (length)
    Global<double> partials;  // (⌈length / CHUNK⌉) =
    u64 length;
};

// Grid: ⌈length / CHUNK⌉ blocks. The chunks, and the order of the sum inside, depend on the length alone.
KERNEL(sum_of_squares, SumOfSquares) {
    SharedMemory memory;
    const Shared<double> scratch = memory.take<double>(THREADS / 32);
    const u64 first = u64(blockIdx.x) * CHUNK;
    const u64 end = first + CHUNK < arguments.length ? first + CHUNK : arguments.length;
    double sum = 0.0;
    for (u64 at = first + threadIdx.x * 4; at < end; at += THREADS * 4) {
        if (at + 4 <= end) {
            float values[4];
            unpack(arguments.values.pack(at), values);
#pragma unroll
            for (u32 i = 0; i < 4; ++i) sum += double(values[i]) * double(values[i]);
        } else {
            for (u64 i = at; i < end; ++i) sum += double(arguments.values[i]) * double(arguments.values[i]);
        }
    }
    const double total = block_sum(sum, scratch);
    if (threadIdx.x == 0) arguments.partials.set(blockIdx.x, total);
}

// The twin of gpu/arguments.rs, DeviceJudgement.
struct Judgement {
    double norm;
    float factor;  // on every gradient; 0: nothing is updated
    u32 finite;
};

struct Judge {
    Global<double> partials;       // (count)
    Global<u32> not_finite;        // (1); null when only the norm is asked for
    Global<Judgement> judgement;   // (1) =
    double clip;                   // norm above which gradients are scaled down to it; 0 for none
    double skip_above;             // norm above which nothing is updated
    u64 count;
};

// Grid: 1 block.
KERNEL(judge, Judge) {
    SharedMemory memory;
    const Shared<double> scratch = memory.take<double>(THREADS / 32);
    double sum = 0.0;
    for (u64 at = threadIdx.x; at < arguments.count; at += THREADS) sum += arguments.partials[at];
    const double norm = sqrt(block_sum(sum, scratch));
    if (threadIdx.x != 0) return;
    const bool losses_finite = !arguments.not_finite.exists() || arguments.not_finite[0] == 0;
    const bool finite = norm < double(INFINITY) && losses_finite;
    const bool clipped = arguments.clip > 0.0 && norm > arguments.clip;
    const float factor = clipped ? float(arguments.clip / norm) : 1.0f;
    const bool applied = finite && norm <= arguments.skip_above;
    arguments.judgement.set(0, Judgement{norm, applied ? factor : 0.0f, finite ? 1u : 0u});
}

struct AdamW {
    Global<Judgement> judgement;  // (1)
    Global<float> master;         // (length), updated
    Global<bf16> working;         // (length) = the rounded master; null when the master is what the model computes with
    Global<float> gradient;       // (length)
    Global<float> first;          // (length), updated
    Global<float> second;         // (length), updated
    u64 length;
    float beta1, beta2, one_minus_beta1, one_minus_beta2;
    float correction1, correction2;
    float epsilon, learning_rate, decay;
};

FUNCTION void update(const AdamW& arguments, float factor, float& w, float& m, float& v, float gradient) {
    const float g = gradient * factor;
    m = arguments.beta1 * m + arguments.one_minus_beta1 * g;
    v = arguments.beta2 * v + arguments.one_minus_beta2 * g * g;
    const float direction = m * arguments.correction1 / (sqrtf(v * arguments.correction2) + arguments.epsilon);
    w -= arguments.learning_rate * (direction + arguments.decay * w);
}

// Grid: ⌈length / 8 / THREADS⌉ blocks.
KERNEL(adamw, AdamW) {
    const float factor = arguments.judgement[0].factor;
    if (factor == 0.0f) return;
    const u64 at = (u64(blockIdx.x) * THREADS + threadIdx.x) * 8;
    if (at >= arguments.length) return;
    float w[8];
#pragma unroll
    for (u32 half = 0; half < 2; ++half) {
        const u64 place = at + 4 * half;
        float part[4], m[4], v[4], g[4];
        unpack(arguments.master.pack(place), part);
        unpack(arguments.first.pack(place), m);
        unpack(arguments.second.pack(place), v);
        unpack(arguments.gradient.pack(place), g);
#pragma unroll
        for (u32 i = 0; i < 4; ++i) {
            update(arguments, factor, part[i], m[i], v[i], g[i]);
            w[4 * half + i] = part[i];
        }
        arguments.master.set_pack(place, to_pack(part));
        arguments.first.set_pack(place, to_pack(m));
        arguments.second.set_pack(place, to_pack(v));
    }
    if (arguments.working.exists()) arguments.working.set_pack(at, to_pack(w));
}
