// The norm of a vector, the judgement of a step, and AdamW (Loshchilov and Hutter 2019); twins: ops/adamw.rs, optimizer.rs.
//
// Nothing here waits for the host: the norm and what follows from it stay on the card, and an update that is judged away
// changes nothing. A trained weight is two halves of 16 bits; its moments are f32, or bf16 rounded stochastically.
#include <core.cuh>
#include <random.cuh>

struct SumOfSquares {
    Global<float> values;     // (length)
    Global<double> partials;  // (⌈length / CHUNK⌉) =
    u64 length;
};

// The sum of this block's chunk: `add` adds the squares of up to STEP elements from one on, of those before the second number.
// The chunks, and the order of the sum inside, depend on the length alone.
template <u32 STEP, class Add>
FUNCTION void sum_chunk(const Global<double>& partials, u64 length, const Add& add) {
    SharedMemory memory;
    const Shared<double> scratch = memory.take<double>(THREADS / 32);
    const u64 first = u64(blockIdx.x) * CHUNK;
    const u64 end = first + CHUNK < length ? first + CHUNK : length;
    double sum = 0.0;
    for (u64 at = first + threadIdx.x * STEP; at < end; at += THREADS * STEP) add(sum, at, end);
    const double total = block_sum(sum, scratch);
    if (threadIdx.x == 0) partials.set(blockIdx.x, total);
}

FUNCTION void add_square(double& sum, float value) { sum += double(value) * double(value); }

// Grid: ⌈length / CHUNK⌉ blocks.
KERNEL(sum_of_squares, SumOfSquares) {
    sum_chunk<4>(arguments.partials, arguments.length, [&](double& sum, u64 at, u64 end) {
        if (at + 4 <= end) {
            float values[4];
            unpack(arguments.values.pack(at), values);
#pragma unroll
            for (u32 i = 0; i < 4; ++i) add_square(sum, values[i]);
        } else {
            for (u64 i = at; i < end; ++i) add_square(sum, arguments.values[i]);
        }
    });
}

// Weights in two halves (ops/split.rs): the bf16 that the model computes with, and the remainder that makes them whole.
struct Halves {
    Pack working, remainder;
};

// The 8 whole weights: bits = (working << 16) + signed remainder.
FUNCTION void unpack(const Halves& halves, float (&out)[8]) {
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
        const u32 working = halves.working.words[i], remainder = halves.remainder.words[i];
        out[2 * i] = __uint_as_float((working << 16) + u32(int(remainder << 16) >> 16));
        out[2 * i + 1] = __uint_as_float((working & 0xffff0000u) + u32(int(remainder) >> 16));
    }
}

// The bits of a value, of one quiet NaN for all of them: others would carry into numbers when they are rounded.
FUNCTION u32 bits_of(float value) { return value == value ? __float_as_uint(value) : 0x7fc00000u; }

// The halves of 8 weights: the working ones are rounded to nearest, ties away from zero.
FUNCTION Halves to_halves(const float (&weights)[8]) {
    Halves halves;
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
        const u32 low = bits_of(weights[2 * i]), high = bits_of(weights[2 * i + 1]);
        halves.working.words[i] = (low + 0x8000u) >> 16 | ((high + 0x8000u) & 0xffff0000u);
        halves.remainder.words[i] = (low & 0xffffu) | high << 16;
    }
    return halves;
}

struct SumOfSplitSquares {
    Global<bf16> working;     // (length)
    Global<u16> remainder;    // (length)
    Global<double> partials;  // (⌈length / CHUNK⌉) =
    u64 length;               // a multiple of 8
};

// Grid: ⌈length / CHUNK⌉ blocks.
KERNEL(sum_of_split_squares, SumOfSplitSquares) {
    sum_chunk<8>(arguments.partials, arguments.length, [&](double& sum, u64 at, u64) {
        float weights[8];
        unpack(Halves{arguments.working.pack(at), arguments.remainder.pack(at)}, weights);
#pragma unroll
        for (u32 i = 0; i < 8; ++i) add_square(sum, weights[i]);
    });
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

template <class Moment>
struct AdamW {
    Global<Judgement> judgement;  // (1)
    Global<bf16> working;         // (length), updated
    Global<u16> remainder;        // (length), updated
    Global<float> gradient;       // (length)
    Global<Moment> first;         // (length), updated
    Global<Moment> second;        // (length), updated
    u64 length;                   // a multiple of 8
    float beta1, beta2, one_minus_beta1, one_minus_beta2;
    float correction1, correction2;
    float epsilon, learning_rate, decay;
    // Of the random numbers that round bf16 moments: the update, the seed, purpose and moment, the block of the first 8 elements.
    u32 update;
    u32 key[2];
    u32 places[2];
    u64 first_block;
};

// 8 moments.
FUNCTION void load(const Global<float>& moments, u64 at, float (&out)[8]) {
    float low[4], high[4];
    unpack(moments.pack(at), low);
    unpack(moments.pack(at + 4), high);
#pragma unroll
    for (u32 i = 0; i < 4; ++i) out[i] = low[i], out[4 + i] = high[i];
}

FUNCTION void load(const Global<bf16>& moments, u64 at, float (&out)[8]) { unpack(moments.pack(at), out); }

// Stores 8 of the first moments (0) or the second (1) as they are.
FUNCTION void store(const AdamW<float>& arguments, u32 moment, u64 at, const float (&values)[8]) {
    const Global<float>& moments = moment == 0 ? arguments.first : arguments.second;
    const float low[4] = {values[0], values[1], values[2], values[3]};
    const float high[4] = {values[4], values[5], values[6], values[7]};
    moments.set_pack(at, to_pack(low));
    moments.set_pack(at + 4, to_pack(high));
}

// Rounded away from zero with the probability that keeps the mean: 16 bits of the generator for each, and the carry decides.
FUNCTION void store(const AdamW<bf16>& arguments, u32 moment, u64 at, const float (&values)[8]) {
    const Global<bf16>& moments = moment == 0 ? arguments.first : arguments.second;
    const u64 block = arguments.first_block + at / 8;
    const u32 counter[4] = {u32(block), u32(block >> 32), arguments.update, arguments.places[moment]};
    u32 draws[4];
    philox(counter, arguments.key, draws);
    Pack pack;
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
        const u32 low = bits_of(values[2 * i]), high = bits_of(values[2 * i + 1]);
        // NaN has no carry to give: its lower half is zero.
        pack.words[i] = (low + (draws[i] & 0xffffu)) >> 16 | ((high + (draws[i] >> 16)) & 0xffff0000u);
    }
    moments.set_pack(at, pack);
}

template <class Moment>
FUNCTION void update(const AdamW<Moment>& arguments, float factor, float& w, float& m, float& v, float gradient) {
    const float g = gradient * factor;
    m = arguments.beta1 * m + arguments.one_minus_beta1 * g;
    v = arguments.beta2 * v + arguments.one_minus_beta2 * g * g;
    const float direction = m * arguments.correction1 / (sqrtf(v * arguments.correction2) + arguments.epsilon);
    w -= arguments.learning_rate * (direction + arguments.decay * w);
}

// 8 weights a thread, which move by what the moments are before they are stored.
template <class Moment>
FUNCTION void update_weights(const AdamW<Moment>& arguments) {
    const float factor = arguments.judgement[0].factor;
    if (factor == 0.0f) return;
    const u64 at = (u64(blockIdx.x) * THREADS + threadIdx.x) * 8;
    if (at >= arguments.length) return;
    float w[8], m[8], v[8], g[8];
    unpack(Halves{arguments.working.pack(at), arguments.remainder.pack(at)}, w);
    load(arguments.gradient, at, g);
    load(arguments.first, at, m);
    load(arguments.second, at, v);
#pragma unroll
    for (u32 i = 0; i < 8; ++i) update(arguments, factor, w[i], m[i], v[i], g[i]);
    const Halves halves = to_halves(w);
    arguments.working.set_pack(at, halves.working);
    arguments.remainder.set_pack(at, halves.remainder);
    store(arguments, 0, at, m);
    store(arguments, 1, at, v);
}

// Moments in f32. Grid: ⌈length / 8 / THREADS⌉ blocks.
KERNEL(adamw, AdamW<float>) { update_weights(arguments); }

// Moments in bf16. Grid: likewise.
KERNEL(adamw_drawn, AdamW<bf16>) { update_weights(arguments); }
