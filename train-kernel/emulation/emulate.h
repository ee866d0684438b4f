// CUDA on the processor, for tests: the kernels' own sources, compiled as C++ with this header in front (g++ -include).
//
// Every thread of a block is a fiber with a stack of its own; blocks run one after another, threads in an order that the seed
// decides, and switch only at barriers and warp operations. What a card would let pass, or do silently, is a fault here, with
// kernel, block and thread: accesses outside the operands of the launch, reads of memory that nobody has written, outputs left
// unwritten, copies that are read before they are waited for, two threads at one place of shared memory with no barrier between
// them, two blocks at one place of the card's memory, barriers and warp operations that not all threads reach.
//
// Not seen here: everything about time, registers and caches, the memory order of the hardware beyond barriers, and what
// ex2.approx and the tensor cores do in the last bit (they are summed here by rising k, in f32).
#pragma once

#define MELLAMA_EMULATED

#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <sys/mman.h>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#define FUNCTION inline
#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace emulated {

// One operand of a launch; the twin of gpu/device.rs, Region.
struct Region {
    uint64_t address;
    uint64_t bytes;
    uint32_t access;
    uint32_t unused;
};

enum Access : uint32_t { READ = 0, WRITE = 1, UPDATE = 2 };

// What is known of the card's memory, an entry for every two bytes.
struct Shadow {
    uint64_t base;
    uint64_t bytes;
    uint8_t* written;
    // launch << 32 | block + 1 of the last to write, and to read; the block is ALL_BLOCKS where it was several.
    uint64_t* writer;
    uint64_t* reader;
};

struct Statistics {
    uint64_t matrix_products;
    // Extra passes that the rows of ldmatrix need because they share banks.
    uint64_t bank_conflicts;
};

// One launch; the twin of gpu/emulated.rs, Request.
struct Request {
    void (*kernel)(const void*);
    const void* arguments;
    const Region* regions;
    uint64_t region_count;
    Shadow shadow;
    uint32_t grid[3];
    uint32_t threads;
    uint32_t shared_bytes;
    uint32_t launch;
    uint64_t seed;
    char* message;
    uint64_t message_bytes;
    Statistics statistics;
};

struct Coordinates {
    uint32_t x, y, z;
};

constexpr uint32_t STACK_BYTES = 128 * 1024;
// Accesses to memory and waits of a block, after which it is taken for one that never ends: some ten seconds. The kernels of the
// checks take less than a hundredth of it.
#ifndef MOST_STEPS
#define MOST_STEPS (1u << 28)
#endif
constexpr uint64_t ALL_BLOCKS = 0xffffffff;
constexpr uint16_t NOBODY = 0xffff;
constexpr uint16_t SEVERAL = 0xfffe;

#if defined(__x86_64__)
// Saves the registers that a call keeps on the stack, and continues on another stack.
typedef void* Context;
__attribute__((naked, noinline)) inline void switch_context(Context*, Context) {
    __asm__("pushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
            "movq %rsp, (%rdi)\n\tmovq %rsi, %rsp\n\t"
            "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n\tret");
}
#else
typedef ucontext_t Context;
#endif

// Every two bytes of shared memory.
struct Cell {
    uint32_t write_epoch, write_warp_epoch, write_pair_epoch, read_epoch, read_warp_epoch, read_pair_epoch;
    uint16_t writer, reader, reader_warp, reader_pair;
    uint8_t state;
};
enum CellState : uint8_t { UNWRITTEN = 0, WRITTEN = 1, COPYING = 2 };

struct Copy {
    uint8_t* to;
    const uint8_t* from;
    uint32_t group;
};

struct Thread {
    Context context;
    Coordinates index;
    bool finished;
    uint32_t group;
    std::vector<Copy> copies;
};

struct Warp {
    uint32_t arrived, tag, epoch;
    uint64_t generation;
    void* operands[32];
};

// Two warps with a barrier of their own.
struct Pair {
    uint32_t arrived, epoch;
};

struct Block {
    Request* request;
    Context scheduler;
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::vector<Pair> pairs;
    std::vector<Cell> cells;
    uint8_t* shared;
    uint8_t* stacks;
    Coordinates index;
    uint64_t number;
    uint32_t running, epoch, barrier_arrived, barrier_line, finished;
    uint64_t barrier_generation, steps;
    uint32_t last_region;
    bool progress, faulty;
};

inline Block*& block() {
    static thread_local Block* current = nullptr;
    return current;
}
inline Thread& thread() { return block()->threads[block()->running]; }

inline void leave() {
    Block& b = *block();
#if defined(__x86_64__)
    switch_context(&thread().context, b.scheduler);
#else
    swapcontext(&thread().context, &b.scheduler);
#endif
}

// Tells what is wrong, once, and leaves the block for good: kernels own nothing that would have to be given back.
[[noreturn]] inline void fault(const char* format, ...) {
    Block& b = *block();
    if (!b.faulty) {
        b.faulty = true;
        char text[512];
        va_list list;
        va_start(list, format);
        vsnprintf(text, sizeof text, format, list);
        va_end(list);
        snprintf(b.request->message, b.request->message_bytes, "block (%u, %u, %u), thread %u: %s", b.index.x, b.index.y,
                 b.index.z, b.running, text);
    }
    for (;;) leave();
}

// One more step of the block.
inline void count_step() {
    if (++block()->steps > MOST_STEPS) fault("no end after %llu accesses and waits", (unsigned long long)MOST_STEPS);
}

inline void yield() {
    count_step();
    leave();
}

inline const Region& region_of(const void* pointer, uint32_t bytes, const char* what) {
    Block& b = *block();
    const uint64_t address = reinterpret_cast<uint64_t>(pointer);
    for (uint32_t i = 0; i < b.request->region_count; ++i) {
        const uint32_t at = (b.last_region + i) % b.request->region_count;
        const Region& region = b.request->regions[at];
        if (address >= region.address && address + bytes <= region.address + region.bytes) {
            b.last_region = at;
            return region;
        }
    }
    uint64_t nearest = 0;
    int64_t distance = INT64_MAX;
    for (uint32_t i = 0; i < b.request->region_count; ++i) {
        const int64_t away = int64_t(address - b.request->regions[i].address);
        if (std::abs(away) < std::abs(distance)) distance = away, nearest = i;
    }
    fault("%s of %u bytes outside every operand: %lld bytes from the beginning of operand %llu, which has %llu", what, bytes,
          (long long)distance, (unsigned long long)nearest,
          (unsigned long long)(b.request->region_count ? b.request->regions[nearest].bytes : 0));
}

// The stamp of this block, or of several, in this launch.
inline uint64_t stamp(uint64_t block_number) { return uint64_t(block()->request->launch) << 32 | block_number; }

inline void global_read(const void* pointer, uint32_t bytes) {
    Block& b = *block();
    count_step();
    const Region& region = region_of(pointer, bytes, "read");
    if (reinterpret_cast<uint64_t>(pointer) % bytes) fault("read of %u bytes at no multiple of them", bytes);
    const Shadow& shadow = b.request->shadow;
    const uint64_t first = (reinterpret_cast<uint64_t>(pointer) - shadow.base) / 2, mine = stamp(b.number + 1);
    for (uint64_t i = first; i < first + bytes / 2; ++i) {
        if (!shadow.written[i]) fault("read of memory that nobody has written, %lld bytes into its operand",
                                      (long long)(2 * i + shadow.base - region.address));
        if (region.access == READ) continue;
        const uint64_t writer = shadow.writer[i];
        if (writer >> 32 == b.request->launch && writer != mine) fault("read of what another block writes");
        uint64_t& reader = shadow.reader[i];
        reader = reader >> 32 == b.request->launch && reader != mine ? stamp(ALL_BLOCKS) : mine;
    }
}

inline void global_write(const void* pointer, uint32_t bytes, bool atomic) {
    Block& b = *block();
    count_step();
    const Region& region = region_of(pointer, bytes, "write");
    if (reinterpret_cast<uint64_t>(pointer) % bytes) fault("write of %u bytes at no multiple of them", bytes);
    if (region.access == READ) fault("write to an operand that is only read");
    const Shadow& shadow = b.request->shadow;
    const uint64_t first = (reinterpret_cast<uint64_t>(pointer) - shadow.base) / 2;
    const uint64_t mine = stamp(atomic ? ALL_BLOCKS : b.number + 1);
    for (uint64_t i = first; i < first + bytes / 2; ++i) {
        uint64_t& writer = shadow.writer[i];
        const uint64_t reader = shadow.reader[i];
        if (writer >> 32 == b.request->launch && writer != mine) fault("write to where another block writes");
        if (atomic && !shadow.written[i]) fault("addition to memory that nobody has written");
        if (!atomic && reader >> 32 == b.request->launch && reader != mine) fault("write to what another block reads");
        writer = mine;
        shadow.written[i] = 1;
    }
}

inline uint64_t shared_offset(const void* pointer, uint32_t bytes, const char* what) {
    Block& b = *block();
    const uint64_t offset = static_cast<const uint8_t*>(pointer) - b.shared;
    count_step();
    if (offset + bytes > b.request->shared_bytes || offset > b.request->shared_bytes)
        fault("%s of %u bytes outside shared memory: at byte %lld of %u", what, bytes, (long long)offset,
              b.request->shared_bytes);
    if (offset % bytes) fault("%s of %u bytes of shared memory at no multiple of them: %llu", what, bytes,
                              (unsigned long long)offset);
    return offset;
}

// Whether the cell's last write is over for the running thread.
inline bool ordered(const Cell& cell) {
    Block& b = *block();
    const uint16_t other = cell.writer;
    if (other == b.running || cell.write_epoch < b.epoch) return true;
    if (other / 64 == b.running / 64 && cell.write_pair_epoch < b.pairs[b.running / 64].epoch) return true;
    return other / 32 == b.running / 32 && cell.write_warp_epoch < b.warps[b.running / 32].epoch;
}

inline void shared_read(const void* pointer, uint32_t bytes) {
    Block& b = *block();
    const uint64_t offset = shared_offset(pointer, bytes, "read");
    const uint16_t self = uint16_t(b.running), warp = self / 32, pair = self / 64;
    for (uint64_t i = offset / 2; i < (offset + bytes) / 2; ++i) {
        Cell& cell = b.cells[i];
        if (cell.state == UNWRITTEN) fault("read of shared memory that nobody has written, byte %llu", (unsigned long long)(2 * i));
        if (cell.state == COPYING) fault("read of shared memory before its copy was waited for, byte %llu", (unsigned long long)(2 * i));
        if (!ordered(cell))
            fault("read of shared memory that thread %u writes, no barrier between: byte %llu", cell.writer,
                  (unsigned long long)(2 * i));
        const bool fresh = cell.reader == NOBODY || cell.read_epoch < b.epoch;
        cell.reader = fresh || cell.reader == self ? self : SEVERAL;
        cell.reader_warp = fresh || cell.reader_warp == warp ? warp : SEVERAL;
        cell.reader_pair = fresh || cell.reader_pair == pair ? pair : SEVERAL;
        cell.read_epoch = b.epoch;
        cell.read_warp_epoch = b.warps[warp].epoch;
        cell.read_pair_epoch = b.pairs[pair].epoch;
    }
}

inline void shared_write(const void* pointer, uint32_t bytes, CellState state) {
    Block& b = *block();
    const uint64_t offset = shared_offset(pointer, bytes, "write");
    const uint16_t self = uint16_t(b.running), warp = self / 32, pair = self / 64;
    for (uint64_t i = offset / 2; i < (offset + bytes) / 2; ++i) {
        Cell& cell = b.cells[i];
        if (cell.state == COPYING && state == COPYING) fault("two copies to one place, byte %llu", (unsigned long long)(2 * i));
        if (cell.state != UNWRITTEN && !ordered(cell))
            fault("write to shared memory that thread %u writes, no barrier between: byte %llu", cell.writer,
                  (unsigned long long)(2 * i));
        const bool read_by_others = cell.reader != NOBODY && cell.reader != self && cell.read_epoch == b.epoch;
        const bool in_this_warp = cell.reader_warp == warp && cell.read_warp_epoch < b.warps[warp].epoch;
        const bool in_this_pair = cell.reader_pair == pair && cell.read_pair_epoch < b.pairs[pair].epoch;
        if (read_by_others && !in_this_warp && !in_this_pair)
            fault("write to shared memory that others read, no barrier between: byte %llu", (unsigned long long)(2 * i));
        cell.writer = self;
        cell.write_epoch = b.epoch;
        cell.write_warp_epoch = b.warps[warp].epoch;
        cell.write_pair_epoch = b.pairs[pair].epoch;
        cell.state = state;
    }
}

inline void barrier(uint32_t line) {
    Block& b = *block();
    if (b.finished) fault("line %u: a barrier that threads which have returned do not reach", line);
    if (b.barrier_arrived == 0) b.barrier_line = line;
    if (b.barrier_line != line) fault("line %u: a barrier, while others wait at the one of line %u", line, b.barrier_line);
    if (++b.barrier_arrived == b.request->threads) {
        b.barrier_arrived = 0;
        ++b.barrier_generation;
        ++b.epoch;
        b.progress = true;
        return;
    }
    const uint64_t generation = b.barrier_generation;
    while (b.barrier_generation == generation) yield();
}

inline void pair_barrier() {
    Block& b = *block();
    Pair& pair = b.pairs[b.running / 64];
    if (++pair.arrived == 64) {
        pair.arrived = 0;
        ++pair.epoch;
        b.progress = true;
        return;
    }
    const uint32_t epoch = pair.epoch;
    while (pair.epoch == epoch) yield();
}

// An operation of the whole warp: each lane leaves its operand, the last one computes for all.
template <class Operand, class Compute>
inline void collective(uint32_t tag, Operand& mine, Compute compute) {
    Block& b = *block();
    Warp& w = b.warps[b.running / 32];
    if (w.arrived == 0) w.tag = tag;
    if (w.tag != tag) fault("lanes of a warp at different operations: lines %u and %u", tag, w.tag);
    w.operands[b.running % 32] = &mine;
    if (++w.arrived == 32) {
        compute(reinterpret_cast<Operand**>(w.operands));
        w.arrived = 0;
        ++w.generation;
        b.progress = true;
        return;
    }
    const uint64_t generation = w.generation;
    while (w.generation == generation) yield();
}

inline void sync_warp(uint32_t tag) {
    uint32_t nothing = 0;
    collective(tag, nothing, [](uint32_t**) { ++block()->warps[block()->running / 32].epoch; });
}

template <class T>
inline T shuffle(uint32_t tag, uint32_t mask, T value, uint32_t source) {
    if (mask != 0xffffffffu) fault("line %u: a warp operation of some lanes only", tag);
    struct Operand {
        T value, result;
        uint32_t source;
    } mine{value, value, source % 32};
    collective(tag, mine, [](Operand** lanes) {
        for (uint32_t i = 0; i < 32; ++i) lanes[i]->result = lanes[lanes[i]->source]->value;
    });
    return mine.result;
}

inline int any(uint32_t tag, uint32_t mask, bool said) {
    if (mask != 0xffffffffu) fault("line %u: a warp operation of some lanes only", tag);
    struct Operand {
        bool said, result;
    } mine{said, false};
    collective(tag, mine, [](Operand** lanes) {
        bool found = false;
        for (uint32_t i = 0; i < 32; ++i) found = found || lanes[i]->said;
        for (uint32_t i = 0; i < 32; ++i) lanes[i]->result = found;
    });
    return mine.result;
}

inline void copy_async(void* to, const void* from, bool inside) {
    Thread& t = thread();
    if (inside) global_read(from, 16);
    shared_write(to, 16, COPYING);
    t.copies.push_back({static_cast<uint8_t*>(to), inside ? static_cast<const uint8_t*>(from) : nullptr, t.group});
}

inline void copy_async_commit() { ++thread().group; }

// Carries out the copies of all groups but the newest: not before, so that a wait too few is seen.
inline void copy_async_wait(uint32_t newest) {
    Thread& t = thread();
    std::vector<Copy> rest;
    for (const Copy& copy : t.copies) {
        if (copy.group + newest >= t.group) {
            rest.push_back(copy);
            continue;
        }
        shared_write(copy.to, 16, WRITTEN);
        if (copy.from) memcpy(copy.to, copy.from, 16);
        else memset(copy.to, 0, 16);
    }
    t.copies = rest;
}

inline void finish() {
    Block& b = *block();
    if (!thread().copies.empty()) fault("returns with copies that were not waited for");
    if (b.barrier_arrived) fault("returns while others wait at the barrier of line %u", b.barrier_line);
    thread().finished = true;
    ++b.finished;
    b.progress = true;
    for (;;) yield();
}

inline void enter() {
    Block& b = *block();
    b.request->kernel(b.request->arguments);
    finish();
}

inline void prepare(Thread& t, uint8_t* stack) {
#if defined(__x86_64__)
    // As if `enter` had been about to be called: six registers, then where to return to, then alignment.
    void** top = reinterpret_cast<void**>(stack + STACK_BYTES) - 2;
    *top = reinterpret_cast<void*>(&enter);
    t.context = top - 6;
    memset(t.context, 0, 6 * sizeof(void*));
#else
    getcontext(&t.context);
    t.context.uc_stack.ss_sp = stack;
    t.context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&t.context, enter, 0);
#endif
}

inline uint64_t next_random(uint64_t& state) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return state >> 33;
}

// A random order of 0..count; the given one for seed 0.
inline std::vector<uint64_t> order_of(uint64_t count, uint64_t seed) {
    std::vector<uint64_t> order(count);
    for (uint64_t i = 0; i < count; ++i) order[i] = i;
    for (uint64_t i = count; seed && i > 1; --i) std::swap(order[i - 1], order[next_random(seed) % i]);
    return order;
}

inline void run_block(Block& b, const std::vector<uint64_t>& order) {
    const Request& request = *b.request;
    b.epoch = 1;
    b.barrier_arrived = b.finished = 0;
    b.steps = 0;
    b.cells.assign(request.shared_bytes / 2 + 8, Cell{0, 0, 0, 0, 0, 0, NOBODY, NOBODY, NOBODY, NOBODY, UNWRITTEN});
    memset(b.shared, 0xff, request.shared_bytes);
    for (Warp& w : b.warps) w = Warp{};
    for (Pair& pair : b.pairs) pair = Pair{};
    for (uint32_t i = 0; i < request.threads; ++i) {
        Thread& t = b.threads[i];
        t.index = {i, 0, 0};
        t.finished = false;
        t.group = 0;
        t.copies.clear();
        prepare(t, b.stacks + uint64_t(i) * STACK_BYTES);
    }
    while (b.finished < request.threads && !b.faulty) {
        b.progress = false;
        for (const uint64_t i : order) {
            b.running = uint32_t(i);
            if (b.threads[i].finished) continue;
#if defined(__x86_64__)
            switch_context(&b.scheduler, b.threads[i].context);
#else
            swapcontext(&b.scheduler, &b.threads[i].context);
#endif
            if (b.faulty) return;
        }
        if (!b.progress) {
            b.faulty = true;
            snprintf(b.request->message, b.request->message_bytes,
                     "block (%u, %u, %u): no thread can go on: %u wait at the barrier of line %u, %u have returned, the others at "
                     "operations of a warp or a pair that not all lanes reach",
                     b.index.x, b.index.y, b.index.z, b.barrier_arrived, b.barrier_line, b.finished);
        }
    }
}

// Every output that is written has to be written whole.
inline void check_written(const Request& request) {
    for (uint64_t r = 0; r < request.region_count; ++r) {
        const Region& region = request.regions[r];
        if (region.access != WRITE) continue;
        const uint64_t first = (region.address - request.shadow.base) / 2;
        for (uint64_t i = 0; i < region.bytes / 2; ++i) {
            if (request.shadow.written[first + i]) continue;
            snprintf(request.message, request.message_bytes, "operand %llu of %llu bytes: byte %llu is not written",
                     (unsigned long long)r, (unsigned long long)region.bytes, (unsigned long long)(2 * i));
            return;
        }
    }
}

// Runs a launch; the message stays empty when nothing is wrong.
inline void run(Request& request) {
    request.message[0] = 0;
    request.statistics = Statistics{};
    if (request.threads == 0 || request.threads % 32 || request.threads > 1024) {
        snprintf(request.message, request.message_bytes, "%u threads: no multiple of 32 up to 1024", request.threads);
        return;
    }
    for (uint64_t r = 0; r < request.region_count; ++r) {
        const Region& region = request.regions[r];
        if (region.access == WRITE) memset(request.shadow.written + (region.address - request.shadow.base) / 2, 0, region.bytes / 2);
    }
    Block b{};
    b.request = &request;
    b.threads.resize(request.threads);
    b.warps.resize(request.threads / 32);
    b.pairs.resize((request.threads + 63) / 64);
    std::vector<uint8_t> shared(request.shared_bytes + 1024);
    b.shared = shared.data() + (1024 - reinterpret_cast<uint64_t>(shared.data()) % 1024) % 1024;
    const uint64_t stack_bytes = uint64_t(request.threads) * STACK_BYTES;
    void* stacks = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED) {
        snprintf(request.message, request.message_bytes, "no memory for the stacks of %u threads", request.threads);
        return;
    }
    b.stacks = static_cast<uint8_t*>(stacks);
    block() = &b;
    const uint64_t blocks = uint64_t(request.grid[0]) * request.grid[1] * request.grid[2];
    const std::vector<uint64_t> threads = order_of(request.threads, request.seed);
    for (const uint64_t number : order_of(blocks, request.seed)) {
        b.number = number;
        b.index = {uint32_t(number % request.grid[0]), uint32_t(number / request.grid[0] % request.grid[1]),
                   uint32_t(number / request.grid[0] / request.grid[1])};
        run_block(b, threads);
        if (b.faulty) break;
    }
    block() = nullptr;
    munmap(stacks, stack_bytes);
    if (!b.faulty) check_written(request);
}

inline Coordinates thread_index() { return thread().index; }
inline Coordinates block_index() { return block()->index; }
inline Coordinates grid_size() { return {block()->request->grid[0], block()->request->grid[1], block()->request->grid[2]}; }

}  // namespace emulated

EXPORTED inline __attribute__((used)) void emulate(emulated::Request* request) { emulated::run(*request); }

// The names of CUDA C++ that kernels use.
#define threadIdx (emulated::thread_index())
#define blockIdx (emulated::block_index())
#define gridDim (emulated::grid_size())
#define __syncthreads() emulated::barrier(__LINE__)
#define __syncwarp() emulated::sync_warp(__LINE__)
#define __any_sync(mask, said) emulated::any(__LINE__, (mask), (said))
#define __shfl_xor_sync(mask, value, distance) \
    emulated::shuffle(__LINE__, (mask), (value), emulated::thread_index().x % 32 ^ (distance))
#define __shfl_sync(mask, value, source) emulated::shuffle(__LINE__, (mask), (value), (source))

inline float __uint_as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
inline uint32_t __float_as_uint(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}
inline uint32_t atomicOr(uint32_t* at, uint32_t bits) {
    const uint32_t before = *at;
    *at |= bits;
    return before;
}
inline float atomicAdd(float* at, float value) {
    const float before = *at;
    *at += value;
    return before;
}
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return uint32_t(uint64_t(a) * b >> 32); }

// The hooks of memory.cuh.
#define KERNEL(name, Arguments)                                                                               \
    static void name(const Arguments& arguments);                                                             \
    EXPORTED void emulated_##name(const void* given) { name(*static_cast<const Arguments*>(given)); }         \
    EXPORTED const uint64_t argument_bytes_of_##name = sizeof(Arguments);                                     \
    EXPORTED const uint32_t threads_of_##name = THREADS;                                                      \
    static void name(const Arguments& arguments)

inline uint8_t* shared_base() { return emulated::block()->shared; }
inline void watch_global_read(const void* pointer, uint32_t bytes) { emulated::global_read(pointer, bytes); }
inline void watch_global_write(const void* pointer, uint32_t bytes) { emulated::global_write(pointer, bytes, false); }
inline void watch_global_atomic(const void* pointer, uint32_t bytes) { emulated::global_write(pointer, bytes, true); }
inline void watch_shared_read(const void* pointer, uint32_t bytes) { emulated::shared_read(pointer, bytes); }
inline void watch_shared_write(const void* pointer, uint32_t bytes) {
    emulated::shared_write(pointer, bytes, emulated::WRITTEN);
}
