// Conversions, packs and fixed-order reductions that kernels share.
#pragma once

#include <ptx.cuh>

FUNCTION float to_f32(bf16 value) { return __uint_as_float(u32(value.bits) << 16); }

FUNCTION bf16 to_bf16(float value) { return bf16{u16(pack_bf16(value, 0.0f))}; }

// The values of a pack of 8 bf16.
FUNCTION void unpack(Pack pack, float (&out)[8]) {
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
        out[2 * i] = __uint_as_float(pack.words[i] << 16);
        out[2 * i + 1] = __uint_as_float(pack.words[i] & 0xffff0000u);
    }
}

FUNCTION Pack to_pack(const float (&values)[8]) {
    Pack pack;
#pragma unroll
    for (u32 i = 0; i < 4; ++i) pack.words[i] = pack_bf16(values[2 * i], values[2 * i + 1]);
    return pack;
}

// The values of a pack of 4 f32.
FUNCTION void unpack(Pack pack, float (&out)[4]) {
#pragma unroll
    for (u32 i = 0; i < 4; ++i) out[i] = __uint_as_float(pack.words[i]);
}

FUNCTION Pack to_pack(const float (&values)[4]) {
    Pack pack;
#pragma unroll
    for (u32 i = 0; i < 4; ++i) pack.words[i] = __float_as_uint(values[i]);
    return pack;
}

FUNCTION u32 lane() { return threadIdx.x % 32; }
FUNCTION u32 warp() { return threadIdx.x / 32; }

// The largest element; a NaN is passed over.
FUNCTION float larger(float a, float b) { return fmaxf(a, b); }

// The sum over a warp, in every lane; a butterfly, so its order is fixed and every lane has the same bits.
template <class T>
FUNCTION T warp_sum(T value) {
#pragma unroll
    for (u32 distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
    return value;
}

FUNCTION float warp_maximum(float value) {
#pragma unroll
    for (u32 distance = 16; distance > 0; distance /= 2) value = larger(value, __shfl_xor_sync(0xffffffffu, value, distance));
    return value;
}

// Whether any lane says so.
FUNCTION bool warp_any(bool said) { return __any_sync(0xffffffffu, said) != 0; }

// The sum over the block, in every thread: warps first, then their sums in order. `scratch` holds a value a warp; every
// thread calls it, and may use the scratch again after the next barrier.
template <class T>
FUNCTION T block_sum(T value, Shared<T> scratch) {
    value = warp_sum(value);
    if (lane() == 0) scratch.set(warp(), value);
    __syncthreads();
    T total = scratch[0];
    for (u32 i = 1; i < THREADS / 32; ++i) total += scratch[i];
    return total;
}

FUNCTION float block_maximum(float value, Shared<float> scratch) {
    value = warp_maximum(value);
    if (lane() == 0) scratch.set(warp(), value);
    __syncthreads();
    float most = scratch[0];
    for (u32 i = 1; i < THREADS / 32; ++i) most = larger(most, scratch[i]);
    return most;
}
