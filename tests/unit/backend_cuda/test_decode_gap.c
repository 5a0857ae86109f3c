/* Goal: gaps and busy time of the device's decoder are what a clock would have counted.
 *
 * Method: the cases of the header by hand; and random waves, overlapping, ending in any order, against a count of every
 * nanosecond. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/cuda/decode_gap.h"
#include "base/hash.h"
#include "support/test_seed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void test_by_hand(void **state)
{
    (void)state;
    struct dmc_decode_gap gap = {0};
    uint64_t a = dmc_decode_gap_begin(&gap, 100), b = dmc_decode_gap_begin(&gap, 120);
    dmc_decode_gap_end(&gap, b, 190, 200); /* nothing is told before the older one has ended */
    assert_int_equal(gap.gap_count + gap.gap_ns + gap.busy_ns, 0);
    dmc_decode_gap_end(&gap, a, 150, 180);
    assert_int_equal(gap.gap_count, 2);
    assert_int_equal(gap.gap_ns, 50 + 10);
    assert_int_equal(gap.busy_ns, 30 + 10);
    /* Not due before: the time with nothing to decode is nobody's gap. One that is hidden by another is none. */
    a = dmc_decode_gap_begin(&gap, 1000);
    b = dmc_decode_gap_begin(&gap, 1000);
    uint64_t c = dmc_decode_gap_begin(&gap, 1000);
    dmc_decode_gap_end(&gap, a, 1000, 1100);
    dmc_decode_gap_end(&gap, b, 1020, 1090);
    dmc_decode_gap_end(&gap, c, 1050, 1050); /* no chunks */
    assert_int_equal(gap.gap_count, 2);
    assert_int_equal(gap.busy_ns, 40 + 100);
    a = dmc_decode_gap_begin(&gap, 1080);
    dmc_decode_gap_end(&gap, a, 1107, 1110);
    assert_int_equal(gap.gap_ns, 60 + 7);
}

static void test_a_wave_that_outlasts_the_ring(void **state)
{
    (void)state;
    struct dmc_decode_gap gap = {0};
    uint64_t stuck = dmc_decode_gap_begin(&gap, 0);
    for (uint64_t i = 0; i < 3 * DMC_DECODE_FLIGHTS; i++) {
        uint64_t flight = dmc_decode_gap_begin(&gap, 10 * i);
        dmc_decode_gap_end(&gap, flight, 10 * i + 1, 10 * i + 9);
    }
    dmc_decode_gap_end(&gap, stuck, 0, 5);
    assert_int_equal(gap.busy_ns, 3 * DMC_DECODE_FLIGHTS * 8);
    assert_int_equal(gap.gap_ns, 3 * DMC_DECODE_FLIGHTS);
}

#define SPAN 4000u
#define WAVES 60u

static void test_random(void **state)
{
    (void)state;
    uint64_t seed = seed_of_test("test_random", 0);
    for (int round = 0; round < 200; round++) {
        struct dmc_decode_gap gap = {0};
        uint8_t busy[SPAN] = {0}, due[SPAN] = {0};
        uint64_t begin[WAVES], end[WAVES], flight[WAVES], at = 0, busy_until = 0;
        uint32_t order[WAVES];
        for (uint32_t i = 0; i < WAVES; i++) { /* begins in order, as one copy engine makes them */
            uint64_t due_ns = at + dmc_hash_u64(seed, i * 8) % 30;
            begin[i] = due_ns + dmc_hash_u64(seed, i * 8 + 1) % 30;
            end[i] = begin[i] + dmc_hash_u64(seed, i * 8 + 2) % 60;
            at = begin[i];
            flight[i] = dmc_decode_gap_begin(&gap, due_ns);
            order[i] = i;
            memset(busy + begin[i], 1, end[i] - begin[i]);
            if (end[i] > begin[i]) {
                for (uint64_t t = due_ns > busy_until ? due_ns : busy_until; t < begin[i]; t++)
                    due[t] = 1;
                busy_until = end[i] > busy_until ? end[i] : busy_until;
            }
        }
        for (uint32_t i = WAVES - 1; i > 0; i--) {
            uint32_t j = (uint32_t)(dmc_hash_u64(seed, 1000 + i) % (i + 1)), kept = order[i];
            order[i] = order[j];
            order[j] = kept;
        }
        for (uint32_t i = 0; i < WAVES; i++)
            dmc_decode_gap_end(&gap, flight[order[i]], begin[order[i]], end[order[i]]);
        uint64_t busy_ns = 0, gap_ns = 0;
        for (uint32_t t = 0; t < SPAN; t++) {
            busy_ns += busy[t];
            gap_ns += due[t] && !busy[t];
        }
        assert_int_equal(gap.busy_ns, busy_ns);
        assert_int_equal(gap.gap_ns, gap_ns);
        seed = dmc_hash_u64(seed, 99);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_by_hand), cmocka_unit_test(test_a_wave_that_outlasts_the_ring),
                                       cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
