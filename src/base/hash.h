/* Hashing for tables inside the process; not stable across versions. */
#ifndef DMC_BASE_HASH_H
#define DMC_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Of a byte string: wyhash-like mixing, 8 bytes a step. Never returns 0, so 0 can mean "empty". */
uint64_t dmc_hash_bytes(const void *data, size_t bytes, uint64_t seed);

/* Of one or two numbers. Never returns 0. */
static inline uint64_t dmc_hash_u64(uint64_t a, uint64_t b)
{
    uint64_t x = a * 0x9e3779b97f4a7c15u ^ (b + 0x632be59bd9b4e019u) * 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 29;
    return x ? x : 1;
}

#endif
