/* The seed of a random test. */
#ifndef TEST_SEED_H
#define TEST_SEED_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* DAMACY_TEST_SEED where it is set, else `otherwise`, or for 0 another one in every run. It is printed, so that a failure can
 * be repeated. */
static inline uint64_t seed_of_test(const char *test, uint64_t otherwise)
{
    const char *text = getenv("DAMACY_TEST_SEED");
    uint64_t made = otherwise ? otherwise : (uint64_t)time(NULL) * 1000003u + (uint64_t)getpid();
    uint64_t seed = text ? strtoull(text, NULL, 0) : made;
    printf("%s: DAMACY_TEST_SEED=%llu\n", test, (unsigned long long)seed);
    fflush(stdout); /* before anything crashes */
    return seed;
}

#endif
