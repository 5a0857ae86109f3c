/* Little-endian loads from unaligned memory, and arithmetic that tells when it overflows. */
#ifndef DMC_BASE_BYTES_H
#define DMC_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t dmc_load_u16le(const void *p)
{
    const uint8_t *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}
static inline uint32_t dmc_load_u32le(const void *p)
{
    uint32_t v;
    memcpy(&v, p, 4); /* x86-64 and aarch64 are little-endian; a big-endian port starts here */
    return v;
}
static inline uint64_t dmc_load_u64le(const void *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

/* false: the result does not fit; *out is then unspecified. */
static inline bool dmc_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool dmc_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline uint64_t dmc_min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}
static inline uint64_t dmc_max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}
static inline uint64_t dmc_ceil_div(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}
static inline uint64_t dmc_round_up(uint64_t a, uint64_t to)
{
    return (a + to - 1) / to * to;
}

#endif
