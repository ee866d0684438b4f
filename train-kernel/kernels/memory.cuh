// What kernels are made of: fixed-width types, bf16, and memory that can be watched.
//
// Kernels touch memory through Global and Shared only. On a card both are bare pointers and the watches are empty; in the
// emulation (emulation/emulate.h) every access is checked: bounds, memory that nobody has written, copies that nobody has
// waited for, and two threads at one place without a barrier between them.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifndef MELLAMA_EMULATED
#define FUNCTION __device__ __forceinline__
// NVRTC has no <math.h>.
#define INFINITY __int_as_float(0x7f800000)
// A kernel: one parameter, a struct of the same layout as its twin in gpu/arguments.rs.
#define KERNEL(name, Arguments) \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM) name(const __grid_constant__ Arguments arguments)
FUNCTION void watch_global_read(const void*, u32) {}
FUNCTION void watch_global_write(const void*, u32) {}
FUNCTION void watch_global_atomic(const void*, u32) {}
FUNCTION void watch_shared_read(const void*, u32) {}
FUNCTION void watch_shared_write(const void*, u32) {}
#endif

// A brain float: the upper half of an f32 (8 bits of exponent, 7 of fraction).
struct bf16 {
    u16 bits;
};

// 16 bytes that are read or written at once: 8 bf16 or 4 f32.
struct alignas(16) Pack {
    u32 words[4];
};

// Memory of the card. Indices count elements.
template <class T>
struct Global {
    T* data;

    FUNCTION T operator[](u64 index) const {
        watch_global_read(data + index, sizeof(T));
        return data[index];
    }
    FUNCTION void set(u64 index, T value) const {
        watch_global_write(data + index, sizeof(T));
        data[index] = value;
    }
    // 16 bytes from element `index` on, which lies at a multiple of 16 bytes.
    FUNCTION Pack pack(u64 index) const {
        watch_global_read(data + index, sizeof(Pack));
        return *reinterpret_cast<const Pack*>(data + index);
    }
    FUNCTION void set_pack(u64 index, Pack value) const {
        watch_global_write(data + index, sizeof(Pack));
        *reinterpret_cast<Pack*>(data + index) = value;
    }
    FUNCTION Global from(u64 index) const { return Global{data + index}; }
    FUNCTION bool exists() const { return data != nullptr; }
};

// Sets a word to 1, from any number of threads.
FUNCTION void set_flag(const Global<u32>& flags, u64 index) {
    watch_global_atomic(flags.data + index, sizeof(u32));
    atomicOr(flags.data + index, 1u);
}

// Adds to a value, from any number of threads: in no fixed order, so that the last bits of the sum differ from run to run.
FUNCTION void add_atomic(const Global<float>& values, u64 index, float value) {
    watch_global_atomic(values.data + index, sizeof(float));
    atomicAdd(values.data + index, value);
}

// Memory of a block.
template <class T>
struct Shared {
    T* data;

    FUNCTION T operator[](u32 index) const {
        watch_shared_read(data + index, sizeof(T));
        return data[index];
    }
    FUNCTION void set(u32 index, T value) const {
        watch_shared_write(data + index, sizeof(T));
        data[index] = value;
    }
    FUNCTION void set_pack(u32 index, Pack value) const {
        watch_shared_write(data + index, sizeof(Pack));
        *reinterpret_cast<Pack*>(data + index) = value;
    }
    FUNCTION Pack pack(u32 index) const {
        watch_shared_read(data + index, sizeof(Pack));
        return *reinterpret_cast<const Pack*>(data + index);
    }
    FUNCTION Shared from(u32 index) const { return Shared{data + index}; }
};

#ifndef MELLAMA_EMULATED
extern __shared__ __align__(1024) u8 shared_memory[];
FUNCTION u8* shared_base() { return shared_memory; }
#endif

// The block's shared memory, handed out from its beginning. Its size is that of the launch (gpu/kernels.rs).
struct SharedMemory {
    u32 used = 0;

    // `count` elements at a multiple of 128 bytes.
    template <class T>
    FUNCTION Shared<T> take(u32 count) {
        Shared<T> taken{reinterpret_cast<T*>(shared_base() + used)};
        used += (count * u32(sizeof(T)) + 127) / 128 * 128;
        return taken;
    }
};

// What differs from one pass over a micro-batch to the next, in the card's memory so that a recorded pass can be repeated.
// The twin of gpu/arguments.rs, PassScalars.
struct PassScalars {
    u64 first_row;
    u32 step;
    float scale;
};
