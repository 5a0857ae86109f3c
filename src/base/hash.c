#include "base/hash.h"
#include "base/bytes.h"

#define SECRET_0 0xa0761d6478bd642fu
#define SECRET_1 0xe7037ed1a0b428dbu

/* Multiply to 128 bits and fold: every input bit reaches every output bit. */
static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t dmc_hash_bytes(const void *data, size_t bytes, uint64_t seed)
{
    const uint8_t *at = data;
    uint64_t state = seed ^ mix(seed ^ SECRET_0, (uint64_t)bytes ^ SECRET_1);
    size_t left = bytes;
    for (; left >= 8; left -= 8, at += 8)
        state = mix(state ^ SECRET_0, dmc_load_u64le(at) ^ SECRET_1);
    uint64_t tail = 0;
    for (size_t i = 0; i < left; i++)
        tail |= (uint64_t)at[i] << (8 * i);
    state = mix(state ^ SECRET_1, tail ^ SECRET_0); /* the length is in the state, so a short tail is not ambiguous */
    state = mix(state ^ SECRET_0, (uint64_t)bytes ^ SECRET_1);
    return state ? state : 1;
}
