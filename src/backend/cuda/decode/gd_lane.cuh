// What one lane of a warp can do: the few machine operations that the decoder's kernels use, for the GPU and for its twin.
//
// The twin (tests/unit/cuda_decode/twin) compiles the same kernels for the CPU, where sanitizers see every access; there each
// GPU thread is a fiber, and what is written with asm below has a plain equivalent.
#pragma once
#include "../cuda_status.h"
#include "decode_desc.h"

#define DMC_DEVICE __device__ __forceinline__

namespace dmc_gd {

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

static const u32 ALL = ~0u; // all lanes of the warp

// An address of global memory. That it is one is said, because loads and stores that might be of shared memory cost more.
template <class T> DMC_DEVICE T *at(u64 address)
{
    T *p = reinterpret_cast<T *>(static_cast<uintptr_t>(address));
#ifdef __CUDACC__
    __builtin_assume(__isGlobal(p));
#endif
    return p;
}
template <class T> DMC_DEVICE T *entry(const dmc_gd_job &job, u32 index)
{
    u32 reference = at<const u32>(job.table + job.list)[index];
    return at<T>(job.table + 16ull * reference);
}
DMC_DEVICE const dmc_gd_block *block_at(const dmc_gd_job &job, u32 reference)
{
    return at<const dmc_gd_block>(job.table + 16ull * reference);
}
DMC_DEVICE u32 status_get(const dmc_gd_job &job, u32 chunk)
{
    return *const_cast<volatile u32 *>(at<u32>(job.table) + chunk);
}
// Several lanes may report at once; whichever stays, it is not 0.
DMC_DEVICE void status_set(const dmc_gd_job &job, u32 chunk, u32 status)
{
    *const_cast<volatile u32 *>(at<u32>(job.table) + chunk) = status;
}
template <class T> DMC_DEVICE T *target_of(const dmc_gd_job &job, u64 target, u32 in_scratch)
{
    return at<T>(in_scratch ? job.scratch + target : target);
}

DMC_DEVICE u32 minu(u32 a, u32 b) { return a < b ? a : b; }
DMC_DEVICE int mini(int a, int b) { return a < b ? a : b; }
DMC_DEVICE int maxi(int a, int b) { return a > b ? a : b; }

DMC_DEVICE u32 highest_bit(u32 v) { return 31 - (u32)__clz((int)v); }
// The upper word of (hi:lo) << s.
DMC_DEVICE u32 funnel_left(u32 lo, u32 hi, u32 s) { return __funnelshift_l(lo, hi, s); }
// The lower word of (hi:lo) >> s. In both, s modulo 32 counts.
DMC_DEVICE u32 funnel_right(u32 lo, u32 hi, u32 s) { return __funnelshift_r(lo, hi, s); }

// The low n & 31 bits.
DMC_DEVICE u32 low_bits(u32 v, u32 n)
{
#ifdef __CUDACC__
    u32 d;
    asm("szext.wrap.u32 %0, %1, %2;" : "=r"(d) : "r"(v), "r"(n));
    return d;
#else
    return v & ((1u << (n & 31)) - 1);
#endif
}
// v >> (n & 31).
DMC_DEVICE u32 shift_right(u32 v, u32 n)
{
#ifdef __CUDACC__
    return __funnelshift_r(v, 0, n);
#else
    return v >> (n & 31);
#endif
}
// v << (n & 31).
DMC_DEVICE u32 shift_left(u32 v, u32 n)
{
#ifdef __CUDACC__
    return __funnelshift_l(0, v, n);
#else
    return v << (n & 31);
#endif
}
// Bits 8 to 15.
DMC_DEVICE u32 second_byte(u32 v)
{
#ifdef __CUDACC__
    return __byte_perm(v, 0, 0x4441);
#else
    return v >> 8 & 255;
#endif
}
// The upper n bits; all from 32 on.
DMC_DEVICE u32 top_bits(u32 v, u32 n)
{
#ifdef __CUDACC__
    return __funnelshift_lc(v, 0, n);
#else
    return n >= 32 ? v : n ? v >> (32 - n) : 0;
#endif
}

// Shared memory by its own 32-bit addresses: half the arithmetic of generic pointers.
DMC_DEVICE u32 shared_address(const void *p)
{
#ifdef __CUDACC__
    return (u32)__cvta_generic_to_shared(p);
#else
    return dmc_twin_shared_address(p);
#endif
}
DMC_DEVICE u32 shared_load(u32 address)
{
    u32 v;
#ifdef __CUDACC__
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(address));
#else
    v = dmc_twin_shared_load(address);
#endif
    return v;
}
// Two neighbours, only a multiple of 4: the upper one, then the one before it.
DMC_DEVICE void shared_load_down(u32 address, u32 *x, u32 *y)
{
#ifdef __CUDACC__
    asm volatile("ld.shared.u32 %0, [%2]; ld.shared.u32 %1, [%2 + -4];" : "=r"(*x), "=r"(*y) : "r"(address));
#else
    *x = dmc_twin_shared_load(address), *y = dmc_twin_shared_load(address - 4);
#endif
}
DMC_DEVICE uint2 shared_load_v2(u32 address)
{
    uint2 v;
#ifdef __CUDACC__
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(address));
#else
    v.x = dmc_twin_shared_load(address), v.y = dmc_twin_shared_load(address + 4);
#endif
    return v;
}
// 16 bytes from global to shared memory, some time before async_wait; both addresses are multiples of 16.
DMC_DEVICE void async_copy16(u32 shared, const u8 *global)
{
#ifdef __CUDACC__
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
#else
    dmc_twin_shared_store16(shared, global);
#endif
}
DMC_DEVICE void async_commit()
{
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// All groups but the last one are there.
DMC_DEVICE void async_wait_but_one()
{
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group 1;" ::: "memory");
#endif
}
DMC_DEVICE void async_wait_all()
{
#ifdef __CUDACC__
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}
// What this thread did before is seen by its thread block before what it does behind. Cheaper than __threadfence_block(), which
// also puts the fences of all threads into one order.
DMC_DEVICE void block_fence()
{
#ifdef __CUDACC__
    asm volatile("fence.acq_rel.cta;" ::: "memory");
#else
    __threadfence_block();
#endif
}

DMC_DEVICE u32 inclusive_sum(u32 v, u32 lane)
{
#pragma unroll
    for (u32 d = 1; d < 32; d *= 2) {
        u32 x = __shfl_up_sync(ALL, v, d);
        if (lane >= d)
            v += x;
    }
    return v;
}

// ---- bytes: loads are of aligned words, so that any address costs the same; up to 3 bytes around what is asked for are read ----

// Four bytes from anywhere.
DMC_DEVICE u32 load4(const u8 *p)
{
    u32 skew = (u32)(uintptr_t)p & 3;
    const u32 *w = (const u32 *)(p - skew);
    return skew ? funnel_right(w[0], w[1], 8 * skew) : w[0];
}

// n of the 8 bytes lo, hi to anywhere; n <= 8.
DMC_DEVICE void store_upto8(u8 *d, u32 lo, u32 hi, int n)
{
    if (((uintptr_t)d & 1) && n > 0) {
        *d++ = (u8)lo;
        lo = funnel_right(lo, hi, 8), hi >>= 8, --n;
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        u32 v = k == 0 ? lo : k == 1 ? lo >> 16 : k == 2 ? hi : hi >> 16;
        if (n >= 2 * k + 2)
            *(u16 *)(d + 2 * k) = (u16)v;
        else if (n == 2 * k + 1)
            d[2 * k] = (u8)v;
    }
}

// A copy by a whole warp. Source and target do not overlap.
DMC_DEVICE void warp_copy(u8 *d, const u8 *s, u32 n, u32 lane)
{
    u32 head = (u32)(-(uintptr_t)d & 3);
    if (head > n)
        head = n;
    if (lane < head)
        d[lane] = s[lane];
    d += head, s += head, n -= head;
    u32 words = n / 4, skew = (u32)(uintptr_t)s & 3;
    const u32 *w = (const u32 *)(s - skew);
    for (u32 i = lane; i < words; i += 128) {
        u32 v[4];
#pragma unroll
        for (u32 k = 0; k < 4; ++k)
            if (i + 32 * k < words)
                v[k] = skew ? funnel_right(w[i + 32 * k], w[i + 32 * k + 1], 8 * skew) : w[i + 32 * k];
#pragma unroll
        for (u32 k = 0; k < 4; ++k)
            if (i + 32 * k < words)
                ((u32 *)d)[i + 32 * k] = v[k];
    }
    u32 rest = n & 3;
    if (lane < rest)
        d[4 * words + lane] = s[4 * words + lane];
}
// n bytes that repeat the four of `word`.
DMC_DEVICE void warp_fill_word(u8 *d, u32 word, u32 n, u32 lane)
{
    const u32 head = minu((u32)(-(uintptr_t)d & 3), n), words = (n - head) / 4, rest = (n - head) & 3;
    if (lane < head)
        d[lane] = (u8)(word >> 8 * lane);
    word = funnel_right(word, word, 8 * head);
    for (u32 i = lane; i < words; i += 32)
        ((u32 *)(d + head))[i] = word;
    if (lane < rest)
        d[head + 4 * words + lane] = (u8)(word >> 8 * lane);
}
DMC_DEVICE void warp_fill(u8 *d, u8 value, u32 n, u32 lane) { warp_fill_word(d, value * 0x01010101u, n, lane); }
// A match by a whole warp: n bytes from `distance` before d, which may be bytes that the match itself makes.
DMC_DEVICE void warp_match(u8 *d, u32 distance, u32 n, u32 lane)
{
    if (distance < n && distance <= 4 && distance != 3) {
        const volatile u8 *s = d - distance;
        const u32 mask = distance - 1;
        warp_fill_word(d, s[0] | s[1 & mask] << 8 | s[2 & mask] << 16 | (u32)s[3 & mask] << 24, n, lane);
        return;
    }
    for (u32 reach = distance, bytes;; reach += bytes) { // twice as much each time
        bytes = minu(n, reach);
        warp_copy(d, d - reach, bytes, lane);
        d += bytes, n -= bytes;
        if (!n)
            return;
        __syncwarp();
    }
}

} // namespace dmc_gd
