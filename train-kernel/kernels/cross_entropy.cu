// Softmax cross-entropy of rows of logits: the loss, and its gradient in place of the logits; twin: ops/cross_entropy.rs.
//
// One block a row: a pass that keeps a running maximum and sum of exponentials for each thread, one that writes the gradient.
// Rows lie at multiples of 16 bytes when V is a multiple of 8; otherwise elements are taken one by one.
#include <core.cuh>

struct CrossEntropy {
    Global<PassScalars> pass;  // (1)
    Global<bf16> logits;       // (n, V); with a gradient =
    Global<u32> targets;       // (n)
    Global<u32> counted;       // (n), 0 where a row has no target
    Global<float> losses;      // (n) =, in nats
    Global<u32> not_finite;    // (1), set to 1 when a loss is not finite
    u32 vocabulary;            // V
    u32 gradient;              // whether logits become their gradient times the pass's scale
};

// A maximum and the sum of exponentials of what was seen, relative to it.
struct Partition {
    float most;
    float sum;

    FUNCTION void add(const float (&logits)[8]) {
        float peak = logits[0];
#pragma unroll
        for (u32 i = 1; i < 8; ++i) peak = larger(peak, logits[i]);
        if (peak > most) {
            sum *= expf(most - peak);
            most = peak;
        }
        // So far everything is minus infinity, which adds nothing, or no number.
        const float base = most == -INFINITY ? 0.0f : most;
#pragma unroll
        for (u32 i = 0; i < 8; ++i) sum += expf(logits[i] - base);
    }
    FUNCTION void add(float logit) {
        if (logit > most) {
            sum *= expf(most - logit);
            most = logit;
        }
        // Minus infinity adds nothing, and is no difference to take from itself.
        sum += logit == -INFINITY ? 0.0f : expf(logit - most);
    }
};

FUNCTION void clear_row(const Global<bf16>& logits, u64 row, u32 vocabulary, bool packed) {
    if (packed) {
        for (u32 at = threadIdx.x * 8; at < vocabulary; at += THREADS * 8) logits.set_pack(row + at, Pack{{0, 0, 0, 0}});
    } else {
        for (u32 at = threadIdx.x; at < vocabulary; at += THREADS) logits.set(row + at, bf16{0});
    }
}

FUNCTION Partition partition_of_thread(const Global<bf16>& logits, u64 row, u32 vocabulary, bool packed) {
    Partition partition{-INFINITY, 0.0f};
    if (packed) {
        for (u32 at = threadIdx.x * 8; at < vocabulary; at += THREADS * 8) {
            float values[8];
            unpack(logits.pack(row + at), values);
            partition.add(values);
        }
    } else {
        for (u32 at = threadIdx.x; at < vocabulary; at += THREADS) partition.add(to_f32(logits[row + at]));
    }
    return partition;
}

FUNCTION void write_gradient(const CrossEntropy& arguments, u64 row, u32 target, float most, float share, bool packed) {
    const float scale = arguments.pass[0].scale;
    const auto gradient = [&](float logit, u32 at) {
        const float value = expf(logit - most) * share;
        return at == target ? value - scale : value;
    };
    if (packed) {
        for (u32 at = threadIdx.x * 8; at < arguments.vocabulary; at += THREADS * 8) {
            float values[8];
            unpack(arguments.logits.pack(row + at), values);
#pragma unroll
            for (u32 i = 0; i < 8; ++i) values[i] = gradient(values[i], at + i);
            arguments.logits.set_pack(row + at, to_pack(values));
        }
    } else {
        for (u32 at = threadIdx.x; at < arguments.vocabulary; at += THREADS)
            arguments.logits.set(row + at, to_bf16(gradient(to_f32(arguments.logits[row + at]), at)));
    }
}

// Grid: n blocks.
KERNEL(cross_entropy, CrossEntropy) {
    SharedMemory memory;
    const Shared<float> maxima = memory.take<float>(THREADS / 32);
    const Shared<float> sums = memory.take<float>(THREADS / 32);
    const u32 vocabulary = arguments.vocabulary;
    const u64 row = u64(blockIdx.x) * vocabulary;
    const bool packed = vocabulary % 8 == 0;
    if (arguments.counted[blockIdx.x] == 0) {
        if (arguments.gradient) clear_row(arguments.logits, row, vocabulary, packed);
        if (threadIdx.x == 0) arguments.losses.set(blockIdx.x, 0.0f);
        return;
    }
    const u32 target = arguments.targets[blockIdx.x];
    const float of_target = to_f32(arguments.logits[row + target]);
    const Partition partition = partition_of_thread(arguments.logits, row, vocabulary, packed);
    const float most = block_maximum(partition.most, maxima);
    const float own = partition.sum == 0.0f ? 0.0f : partition.sum * expf(partition.most - most);
    const float total = block_sum(own, sums);
    if (threadIdx.x == 0) {
        const float loss = logf(total) + (most - of_target);
        arguments.losses.set(blockIdx.x, loss);
        // False for NaN too.
        if (!(fabsf(loss) < INFINITY)) set_flag(arguments.not_finite, 0);
    }
    if (arguments.gradient) write_gradient(arguments, row, target, most, arguments.pass[0].scale / total, packed);
}
