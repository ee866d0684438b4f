// The twin of kernels/ptx.cuh on the processor: the same names, the fragments laid out as the PTX ISA says ("Matrix fragments
// for mma.m16n8k16 with .bf16", "ldmatrix").
#pragma once

#include <memory.cuh>

namespace emulated {

inline float bf16_at(const void* pointer) {
    uint16_t bits;
    memcpy(&bits, pointer, 2);
    return __uint_as_float(uint32_t(bits) << 16);
}

// To the nearest bf16, ties to even; NaN stays NaN.
inline uint16_t round_to_bf16(float value) {
    const uint32_t bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return uint16_t((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

struct MatrixLane {
    const bf16* row;
    uint32_t* out;
};

// Rows of 16 bytes that begin in the same sixteenth of 128 bytes are read one after another.
inline void count_conflicts(MatrixLane** lanes) {
    for (uint32_t matrix = 0; matrix < 4; ++matrix) {
        uint32_t used[8] = {};
        uint32_t most = 0;
        for (uint32_t row = 0; row < 8; ++row) {
            const uint32_t bank = uint32_t(reinterpret_cast<uint64_t>(lanes[8 * matrix + row]->row) / 16 % 8);
            if (++used[bank] > most) most = used[bank];
        }
        block()->request->statistics.bank_conflicts += most - 1;
    }
}

inline void gather_matrices(u32 tag, u32 (&out)[4], const bf16* row, bool transposed) {
    shared_read(row, 16);
    MatrixLane mine{row, out};
    collective(tag, mine, [transposed](MatrixLane** lanes) {
        count_conflicts(lanes);
        for (uint32_t lane = 0; lane < 32; ++lane) {
            for (uint32_t matrix = 0; matrix < 4; ++matrix) {
                const uint32_t g = lane / 4, t = 2 * (lane % 4);
                u16 pair[2];
                for (uint32_t i = 0; i < 2; ++i)
                    pair[i] = transposed ? lanes[8 * matrix + t + i]->row[g].bits : lanes[8 * matrix + g]->row[t + i].bits;
                lanes[lane]->out[matrix] = uint32_t(pair[0]) | uint32_t(pair[1]) << 16;
            }
        }
    });
}

struct ProductLane {
    float* d;
    const u32* a;
    u32 b[2];
};

inline void multiply_lanes(ProductLane** lanes) {
    ++block()->request->statistics.matrix_products;
    float a[16][16], b[16][8];
    for (uint32_t lane = 0; lane < 32; ++lane) {
        const uint32_t g = lane / 4, t = lane % 4;
        for (uint32_t i = 0; i < 8; ++i) {
            const uint32_t row = g + (i == 2 || i == 3 || i == 6 || i == 7 ? 8 : 0), column = 2 * t + (i & 1) + (i >= 4 ? 8 : 0);
            const u32 word = lanes[lane]->a[i / 2];
            a[row][column] = __uint_as_float(i & 1 ? word & 0xffff0000u : word << 16);
        }
        for (uint32_t i = 0; i < 4; ++i) {
            const u32 word = lanes[lane]->b[i / 2];
            b[2 * t + (i & 1) + (i >= 2 ? 8 : 0)][g] = __uint_as_float(i & 1 ? word & 0xffff0000u : word << 16);
        }
    }
    for (uint32_t lane = 0; lane < 32; ++lane) {
        for (uint32_t i = 0; i < 4; ++i) {
            const uint32_t row = lane / 4 + (i >= 2 ? 8 : 0), column = 2 * (lane % 4) + (i & 1);
            float sum = lanes[lane]->d[i];
            for (uint32_t k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
            lanes[lane]->d[i] = sum;
        }
    }
}

}  // namespace emulated

#define load_matrices(out, row) emulated::gather_matrices(__LINE__, (out), (row).data, false)
#define load_matrices_transposed(out, row) emulated::gather_matrices(__LINE__, (out), (row).data, true)

inline void multiply_add(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    emulated::ProductLane mine{d, a, {b0, b1}};
    emulated::collective(0x10000 + __LINE__, mine, emulated::multiply_lanes);
}

inline void copy_async(Shared<bf16> to, Global<bf16> from, bool inside) { emulated::copy_async(to.data, from.data, inside); }
inline void copy_async_commit() { emulated::copy_async_commit(); }
template <u32 NEWEST>
inline void copy_async_wait() {
    emulated::copy_async_wait(NEWEST);
}

inline void pair_barrier() { emulated::pair_barrier(); }

inline float exp2_approximate(float x) {
    const float y = exp2f(x);
    return y < 1.17549435e-38f ? 0.0f : y;
}

inline float reciprocal_approximate(float x) {
    const float y = 1.0f / x;
    return fabsf(y) < 1.17549435e-38f ? 0.0f : y;
}

inline u32 pack_bf16(float low, float high) {
    return uint32_t(emulated::round_to_bf16(low)) | uint32_t(emulated::round_to_bf16(high)) << 16;
}
