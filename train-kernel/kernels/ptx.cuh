// The instructions that CUDA C++ has no words for: the only file with inline PTX. The emulation replaces it by one of the same
// name (emulation/ptx.cuh), written from the PTX ISA, "Warp-level matrix instructions" and "Data movement".
//
// Layouts of a warp's fragments, with g = lane / 4 and t = lane % 4; each register holds two bf16, the lower column (or row,
// for B) in the lower half:
//   A (16 x 16)  a[0]: row g, columns 2t..; a[1]: row g + 8; a[2]: row g, columns 2t + 8..; a[3]: row g + 8, columns 2t + 8..
//   B (16 x 8)   b[0]: rows 2t.., column g; b[1]: rows 2t + 8..
//   D (16 x 8)   d[0], d[1]: row g, columns 2t, 2t + 1; d[2], d[3]: row g + 8
#pragma once

#include <memory.cuh>

FUNCTION u32 shared_address(const void* pointer) { return static_cast<u32>(__cvta_generic_to_shared(pointer)); }

// Four 8 x 8 matrices: lane 8m + r names row r of matrix m (8 elements, at a multiple of 16 bytes). Lane l gets of each matrix
// elements (l / 4, 2 (l % 4) ..).
FUNCTION void load_matrices(u32 (&out)[4], Shared<bf16> row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row.data)));
}

// The same matrices transposed: lane l gets elements (2 (l % 4) .., l / 4).
FUNCTION void load_matrices_transposed(u32 (&out)[4], Shared<bf16> row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row.data)));
}

// d += a b for A (16 x 16), B (16 x 8), summed in f32.
FUNCTION void multiply_add(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Begins to copy 16 bytes, or to write 16 zero bytes where `inside` is false; `from` has to be an address all the same.
FUNCTION void copy_async(Shared<bf16> to, Global<bf16> from, bool inside) {
    const u32 bytes = inside ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to.data)), "l"(from.data), "r"(bytes)
                 : "memory");
}

// Ends a group of this thread's copies.
FUNCTION void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `NEWEST` of this thread's groups are under way. Other threads see the copies after a barrier.
template <u32 NEWEST>
FUNCTION void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(NEWEST) : "memory");
}

// A barrier for the 64 threads of two warps, 2n and 2n + 1; barriers have numbers up to 15, and 0 is the block's: blocks of up to 960 threads.
FUNCTION void pair_barrier() { asm volatile("bar.sync %0, 64;" ::"r"(threadIdx.x / 64 + 1) : "memory"); }

// 2^x, at most 2 units in the last place off; results below 2^-126 are 0.
FUNCTION float exp2_approximate(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// 1 / x, at most 1 unit in the last place off; 0 for results below 2^-126.
FUNCTION float reciprocal_approximate(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Two values rounded to the nearest bf16, ties to even; the first in the lower half.
FUNCTION u32 pack_bf16(float low, float high) {
    u32 packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}
