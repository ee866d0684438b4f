// The gated activation (Shazeer 2020, "GLU variants improve Transformer"): a = silu(g) u, silu(g) = g / (1 + e^-g); twin:
// ops/swiglu.rs. Eight columns a thread; the backward writes the activation again, to the same bits.
#include <core.cuh>

struct Swiglu {
    Global<bf16> gate_up;  // (N, 2F)
    Global<bf16> out;      // (N, F) =
    u32 packs;             // N F / 8
    u32 width;             // F
};

// Two or three units in the last place off, far below the rounding of what comes of it.
FUNCTION float sigmoid(float x) { return reciprocal_approximate(1.0f + exp2_approximate(x * -1.4426950408889634f)); }

// Grid: ⌈N F / 8 / THREADS⌉ blocks.
KERNEL(swiglu, Swiglu) {
    const u32 index = blockIdx.x * THREADS + threadIdx.x;
    if (index >= arguments.packs) return;
    const u32 row = index / (arguments.width / 8);
    // A row has as many gates before its ups.
    const u64 at = u64(index) * 8, gate_at = at + u64(row) * arguments.width;
    float gate[8], up[8], out[8];
    unpack(arguments.gate_up.pack(gate_at), gate);
    unpack(arguments.gate_up.pack(gate_at + arguments.width), up);
#pragma unroll
    for (u32 i = 0; i < 8; ++i) out[i] = gate[i] * sigmoid(gate[i]) * up[i];
    arguments.out.set_pack(at, to_pack(out));
}

struct SwigluBackward {
    Global<bf16> gate_up;   // (N, 2F)
    Global<bf16> dout;      // (N, F)
    Global<bf16> dgate_up;  // (N, 2F) =
    Global<bf16> out;       // (N, F) =
    u32 packs;              // N F / 8
    u32 width;              // F
};

// Grid: ⌈N F / 8 / THREADS⌉ blocks.
KERNEL(swiglu_backward, SwigluBackward) {
    const u32 index = blockIdx.x * THREADS + threadIdx.x;
    if (index >= arguments.packs) return;
    const u32 row = index / (arguments.width / 8);
    // A row has as many gates before its ups.
    const u64 at = u64(index) * 8, gate_at = at + u64(row) * arguments.width;
    float gate[8], up[8], dout[8], out[8], dgate[8], dup[8];
    unpack(arguments.gate_up.pack(gate_at), gate);
    unpack(arguments.gate_up.pack(gate_at + arguments.width), up);
    unpack(arguments.dout.pack(at), dout);
#pragma unroll
    for (u32 i = 0; i < 8; ++i) {
        const float s = sigmoid(gate[i]);
        const float silu = gate[i] * s;
        out[i] = silu * up[i];
        dup[i] = dout[i] * silu;
        dgate[i] = dout[i] * up[i] * (s * (1.0f + gate[i] * (1.0f - s)));
    }
    arguments.out.set_pack(at, to_pack(out));
    arguments.dgate_up.set_pack(gate_at, to_pack(dgate));
    arguments.dgate_up.set_pack(gate_at + arguments.width, to_pack(dup));
}
