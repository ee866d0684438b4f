// The counter generator (random.rs: Philox-4x32-10, Salmon and others, SC 2011).
#pragma once

#include <memory.cuh>

// The four numbers of a block: a pure function of its counter and key.
FUNCTION void philox(const u32 (&counter)[4], const u32 (&given)[2], u32 (&out)[4]) {
    u32 key[2] = {given[0], given[1]};
#pragma unroll
    for (u32 i = 0; i < 4; ++i) out[i] = counter[i];
#pragma unroll
    for (u32 round = 0; round < 10; ++round) {
        const u32 high0 = __umulhi(0xD2511F53u, out[0]), low0 = 0xD2511F53u * out[0];
        const u32 high1 = __umulhi(0xCD9E8D57u, out[2]), low1 = 0xCD9E8D57u * out[2];
        out[0] = high1 ^ out[1] ^ key[0];
        out[1] = low1;
        out[2] = high0 ^ out[3] ^ key[1];
        out[3] = low0;
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
}
