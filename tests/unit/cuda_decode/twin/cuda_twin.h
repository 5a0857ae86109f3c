// Enough of CUDA for the CPU to run the decoder's kernels: a test tool.
//
// Every GPU thread of a thread block is a fiber of one CPU thread; it runs until it meets the others (a barrier, a ballot, a
// shuffle), then the next one runs. Between two meetings the order of a warp's lanes is random, so that what was left
// unordered by mistake shows. Meetings of lanes that are not at the same operation end the test: that would hang on a GPU.
// Thread blocks run one after another.
#pragma once
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))

struct dmc_twin_dim {
    uint32_t x;
};
extern dmc_twin_dim threadIdx, blockIdx, blockDim, gridDim;

struct __align__(8) uint2
{
    uint32_t x, y;
};
struct __align__(16) uint4
{
    uint32_t x, y, z, w;
};
static inline uint2 make_uint2(uint32_t x, uint32_t y)
{
    return uint2{x, y};
}

// Shared memory of the block that runs.
uint32_t *dmc_twin_dynamic_shared();
uint32_t dmc_twin_shared_address(const void *p);
uint32_t dmc_twin_shared_load(uint32_t address);
void dmc_twin_shared_store16(uint32_t address, const uint8_t *from);

// Meetings. Lanes must agree on the line.
uint32_t dmc_twin_ballot(bool value, uint32_t line);
uint32_t dmc_twin_shuffle(uint32_t value, uint32_t from, uint32_t line);
void dmc_twin_warp_barrier(uint32_t line);
bool dmc_twin_block_or(bool value, uint32_t line);

static inline uint32_t dmc_twin_shuffle_up(uint32_t value, uint32_t d, uint32_t line)
{
    uint32_t lane = threadIdx.x & 31;
    return dmc_twin_shuffle(value, lane >= d ? lane - d : lane, line);
}
#define __ballot_sync(mask, value) dmc_twin_ballot((value) != 0, __LINE__)
#define __any_sync(mask, value) (dmc_twin_ballot((value) != 0, __LINE__) != 0)
#define __all_sync(mask, value) (dmc_twin_ballot((value) != 0, __LINE__) == 0xFFFFFFFFu)
#define __shfl_sync(mask, value, from) dmc_twin_shuffle(value, (uint32_t)(from)&31, __LINE__)
#define __shfl_up_sync(mask, value, d) dmc_twin_shuffle_up(value, d, __LINE__)
#define __syncwarp() dmc_twin_warp_barrier(__LINE__)
#define __syncthreads() ((void)dmc_twin_block_or(false, __LINE__))
#define __syncthreads_or(value) dmc_twin_block_or((value) != 0, __LINE__)
static inline void __threadfence_block() {}

static inline uint32_t atomicOr(uint32_t *p, uint32_t v)
{
    uint32_t old = *p;
    *p = old | v;
    return old;
}
static inline int __clz(int v)
{
    return v ? __builtin_clz((unsigned)v) : 32;
}
static inline int __ffs(int v)
{
    return __builtin_ffs(v);
}
static inline uint32_t __funnelshift_l(uint32_t lo, uint32_t hi, uint32_t s)
{
    s &= 31;
    return s ? hi << s | lo >> (32 - s) : hi;
}
static inline uint32_t __funnelshift_r(uint32_t lo, uint32_t hi, uint32_t s)
{
    s &= 31;
    return s ? lo >> s | hi << (32 - s) : lo;
}
static inline uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t s)
{
    uint64_t ab = a | (uint64_t)b << 32;
    uint32_t r = 0;
    for (int i = 0; i < 4; i++)
        r |= (uint32_t)(ab >> 8 * (s >> 4 * i & 7) & 255) << 8 * i;
    return r;
}
