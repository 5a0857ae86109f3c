#include "cuda_twin.h"
#include "backend/cuda/decode/decode_kernels.cu"
#include "cuda_twin_launch.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#if defined(__SANITIZE_ADDRESS__)
#define TWIN_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TWIN_ASAN 1
#endif
#endif
#ifdef TWIN_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifndef __x86_64__
#include <ucontext.h>
#endif

static const uint32_t THREADS_MAX = 1024;
static const size_t STACK_BYTES = 64 << 10;

dmc_twin_dim threadIdx, blockIdx, blockDim, gridDim;

enum meeting { RUNNING, BALLOT, SHUFFLE, WARP_BARRIER, BLOCK_BARRIER, ENDED };

// ---- fibers ----

#ifdef __x86_64__
typedef void *context_t;
extern "C" void dmc_twin_switch(void **save, void *load);
asm(".text\n.globl dmc_twin_switch\n.type dmc_twin_switch,@function\ndmc_twin_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n.size dmc_twin_switch,.-dmc_twin_switch\n");
static void context_switch(context_t *from, context_t *to) { dmc_twin_switch(from, *to); }
static void context_make(context_t *context, void *stack, void (*entry)())
{
    void **top = (void **)((char *)stack + STACK_BYTES - 56); // as behind a call: 8 above a multiple of 16
    top[0] = nullptr;                        // where entry would return to; it never does
    top[-1] = (void *)(uintptr_t)entry;      // for ret
    *context = top - 7;                      // six registers below
    memset(top - 7, 0, 6 * sizeof *top);
}
#else
typedef ucontext_t context_t;
static void context_switch(context_t *from, context_t *to) { swapcontext(from, to); }
static void context_make(context_t *context, void *stack, void (*entry)())
{
    getcontext(context);
    context->uc_stack.ss_sp = stack, context->uc_stack.ss_size = STACK_BYTES, context->uc_link = nullptr;
    makecontext(context, entry, 0);
}
#endif

struct fiber {
    context_t context;
    void *stack;
    meeting at;
    uint32_t where; // the meeting's line
    uint32_t value, from;
    uint32_t result;
};
static fiber fibers[THREADS_MAX];
static context_t scheduler;
static uint32_t current;
static void (*kernel_now)(dmc_gd_job);
static dmc_gd_job job_now;
static uint64_t random_state = 1;
static uint32_t *shared_memory;
static uint32_t shared_bytes_now;
#ifdef TWIN_ASAN
static const void *scheduler_stack;
static size_t scheduler_stack_bytes;
#endif

static uint32_t random_next()
{
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32);
}
static void fail(const char *what)
{
    fprintf(stderr, "twin: %s (thread %u of block %u)\n", what, threadIdx.x, blockIdx.x);
    abort();
}

static void to_scheduler()
{
    fiber &f = fibers[current];
#ifdef TWIN_ASAN
    void *fake = nullptr;
    __sanitizer_start_switch_fiber(f.at == ENDED ? nullptr : &fake, scheduler_stack, scheduler_stack_bytes);
#endif
    context_switch(&f.context, &scheduler);
#ifdef TWIN_ASAN
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}
static void fiber_entry()
{
#ifdef TWIN_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
#endif
    kernel_now(job_now);
    fibers[current].at = ENDED;
    to_scheduler();
    abort();
}
static void fiber_run(uint32_t index)
{
    current = index, threadIdx.x = index;
    fibers[index].at = RUNNING;
#ifdef TWIN_ASAN
    void *fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, fibers[index].stack, STACK_BYTES);
#endif
    context_switch(&scheduler, &fibers[index].context);
#ifdef TWIN_ASAN
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

static uint32_t meet(meeting at, uint32_t where, uint32_t value, uint32_t from)
{
    fiber &f = fibers[current];
    f.at = at, f.where = where, f.value = value, f.from = from;
    to_scheduler();
    return fibers[current].result;
}
uint32_t dmc_twin_ballot(bool value, uint32_t line) { return meet(BALLOT, line, value, 0); }
uint32_t dmc_twin_shuffle(uint32_t value, uint32_t from, uint32_t line) { return meet(SHUFFLE, line, value, from); }
void dmc_twin_warp_barrier(uint32_t line) { meet(WARP_BARRIER, line, 0, 0); }
bool dmc_twin_block_or(bool value, uint32_t line) { return meet(BLOCK_BARRIER, line, value, 0) != 0; }

uint32_t *dmc_twin_dynamic_shared() { return shared_memory; }
uint32_t dmc_twin_shared_address(const void *p) { return (uint32_t)((const char *)p - (const char *)shared_memory); }
uint32_t dmc_twin_shared_load(uint32_t address)
{
    if (address % 4 || address + 4 > shared_bytes_now)
        fail("load outside of shared memory");
    return shared_memory[address / 4];
}
void dmc_twin_shared_store16(uint32_t address, const uint8_t *from)
{
    if (address % 16 || (uintptr_t)from % 16 || address + 16 > shared_bytes_now)
        fail("asynchronous copy to a wrong place");
    memcpy((char *)shared_memory + address, from, 16);
}

// Run the warp's lanes that can run; then, if all of them meet, let them exchange what they brought. False if nothing moved.
static bool warp_run(uint32_t first)
{
    bool moved = false;
    uint32_t turn = random_next(), step = (turn >> 5 & 31) | 1;
    for (uint32_t i = 0; i < 32; i++) {
        uint32_t index = first + ((turn + i * step) & 31);
        if (fibers[index].at == RUNNING)
            fiber_run(index), moved = true;
    }
    fiber &lead = fibers[first];
    if (lead.at == BLOCK_BARRIER || lead.at == ENDED) {
        for (uint32_t i = 0; i < 32; i++)
            if (fibers[first + i].at != BLOCK_BARRIER && fibers[first + i].at != ENDED)
                fail("a lane waits for a warp that is at the block's barrier or has ended");
        return moved;
    }
    uint32_t ballot = 0, values[32];
    for (uint32_t i = 0; i < 32; i++) {
        fiber &f = fibers[first + i];
        if (f.at != lead.at || f.where != lead.where)
            fail("lanes of a warp meet at different places");
        ballot |= (f.value & 1) << i, values[i] = f.value;
    }
    for (uint32_t i = 0; i < 32; i++) {
        fiber &f = fibers[first + i];
        f.result = f.at == SHUFFLE ? values[f.from] : ballot, f.at = RUNNING;
    }
    return true;
}

static void block_run(uint32_t threads)
{
    for (uint32_t i = 0; i < threads; i++) {
        if (!fibers[i].stack) {
            fibers[i].stack = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (fibers[i].stack == MAP_FAILED)
                abort();
        }
#ifdef TWIN_ASAN
        __asan_unpoison_memory_region(fibers[i].stack, STACK_BYTES);
#endif
        fibers[i].at = RUNNING;
        context_make(&fibers[i].context, fibers[i].stack, fiber_entry);
    }
    for (;;) {
        bool moved = false;
        uint32_t waiting = 0, ended = 0, warps = threads / 32, turn = random_next() % warps;
        for (uint32_t i = 0; i < warps; i++)
            moved |= warp_run((turn + i) % warps * 32);
        bool any = false;
        uint32_t where = 0;
        for (uint32_t i = 0; i < threads; i++) {
            ended += fibers[i].at == ENDED;
            if (fibers[i].at == BLOCK_BARRIER) {
                waiting++;
                any |= fibers[i].value != 0;
                if (where && where != fibers[i].where)
                    fail("threads of a block meet at different barriers");
                where = fibers[i].where;
            }
        }
        if (ended == threads)
            return;
        if (waiting + ended == threads) {
            for (uint32_t i = 0; i < threads; i++)
                if (fibers[i].at == BLOCK_BARRIER)
                    fibers[i].result = any, fibers[i].at = RUNNING;
        } else if (!moved) {
            fail("nothing moves");
        }
    }
}

static int twin_launch(void *, enum dmc_cuda_kernel kernel, uint32_t grid, uint32_t block, uint32_t shared_bytes, void *, void **args)
{
    static void (*const kernels[DMC_CUDA_KERNEL_COUNT])(dmc_gd_job) = {
        dmc_gd_huffman, dmc_gd_sequences, dmc_gd_execute_block,   dmc_gd_execute_warp,
        dmc_gd_lz4,     dmc_gd_copy,      dmc_gd_checksum_kernel, dmc_gd_unfilter_kernel,
        dmc_gd_foreign_tell, dmc_gd_foreign_check,
    };
    if (block % 32 || block > THREADS_MAX || shared_bytes > dmc_cuda_kernels[kernel].shared_bytes_max || grid == 0)
        fail("impossible launch");
    kernel_now = kernels[kernel], job_now = *(const dmc_gd_job *)args[0];
    blockDim.x = block, gridDim.x = grid, shared_bytes_now = shared_bytes;
    for (uint32_t i = 0; i < grid; i++) {
        // Of exactly that size, and with what nobody wrote in it.
        shared_memory = (uint32_t *)aligned_alloc(1024, (shared_bytes + 1023) / 1024 * 1024 + 1024);
        memset(shared_memory, 0xA5, shared_bytes);
#ifdef TWIN_ASAN
        __asan_poison_memory_region((char *)shared_memory + shared_bytes, (shared_bytes + 1023) / 1024 * 1024 + 1024 - shared_bytes);
#endif
        blockIdx.x = i;
        block_run(block);
#ifdef TWIN_ASAN
        __asan_unpoison_memory_region(shared_memory, (shared_bytes + 1023) / 1024 * 1024 + 1024);
#endif
        free(shared_memory);
    }
    return 0;
}
static int twin_order(void *, void *, void *) { return 0; }

extern "C" struct dmc_cuda_launcher dmc_twin_launcher(uint32_t multiprocessors, uint32_t shared_bytes_block)
{
    return dmc_cuda_launcher{nullptr, twin_launch, twin_order, nullptr, multiprocessors, shared_bytes_block};
}
extern "C" void dmc_twin_seed(uint64_t seed) { random_state = seed * 2 + 1; }
