/* Monotonic time. */
#ifndef DMC_BASE_CLOCK_H
#define DMC_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Nanoseconds of CLOCK_MONOTONIC. About 20 ns a call (vDSO). */
static inline uint64_t dmc_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The moment `timeout_ns` from now; UINT64_MAX stays for ever. */
static inline uint64_t dmc_clock_deadline(uint64_t timeout_ns)
{
    uint64_t now = dmc_clock_ns();
    return timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
}

#endif
