/* Goal: names, sizes and the conversion rule of every pair of types. Method: the rule is recomputed from value ranges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/dtype.h"
#include <math.h>

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t bytes;
    } wanted[DAMACY_DTYPE_COUNT] = {{"native", 0}, {"bool", 1}, {"i8", 1},  {"i16", 2}, {"i32", 4},  {"i64", 8}, {"u8", 1},
                                    {"u16", 2},    {"u32", 4},  {"u64", 8}, {"f16", 2}, {"bf16", 2}, {"f32", 4}, {"f64", 8}};
    for (int i = 0; i < DAMACY_DTYPE_COUNT; i++) {
        assert_string_equal(damacy_dtype_str((enum damacy_dtype)i), wanted[i].name);
        assert_int_equal(damacy_dtype_bytes((enum damacy_dtype)i), wanted[i].bytes);
        assert_int_equal(dmc_dtype_is_float((enum damacy_dtype)i), i >= DAMACY_F16);
    }
    for (int i = -1; i <= DAMACY_DTYPE_COUNT; i += DAMACY_DTYPE_COUNT + 1) {
        assert_string_equal(damacy_dtype_str((enum damacy_dtype)i), "?");
        assert_int_equal(damacy_dtype_bytes((enum damacy_dtype)i), 0);
        assert_false(dmc_dtype_is_float((enum damacy_dtype)i));
        assert_false(dmc_dtype_converts((enum damacy_dtype)i, DAMACY_F32));
        assert_false(dmc_dtype_converts(DAMACY_U8, (enum damacy_dtype)i));
    }
}

/* The least and the greatest value of an integer type or bool. */
static void range(enum damacy_dtype dtype, long double *least, long double *greatest)
{
    int bits = 8 * (int)damacy_dtype_bytes(dtype);
    bool is_signed = dtype >= DAMACY_I8 && dtype <= DAMACY_I64;
    *least = is_signed ? -ldexpl(1, bits - 1) : 0;
    *greatest = dtype == DAMACY_BOOL ? 1 : is_signed ? ldexpl(1, bits - 1) - 1 : ldexpl(1, bits) - 1;
}

static void test_converts(void **state)
{
    (void)state;
    for (int s = 0; s < DAMACY_DTYPE_COUNT; s++)
        for (int o = 0; o < DAMACY_DTYPE_COUNT; o++) {
            enum damacy_dtype source = (enum damacy_dtype)s, output = (enum damacy_dtype)o;
            bool wanted;
            if (source == DAMACY_NATIVE)
                wanted = false;
            else if (output == DAMACY_NATIVE || source == output || dmc_dtype_is_float(output))
                wanted = true;
            else if (dmc_dtype_is_float(source))
                wanted = false;
            else {
                long double source_least, source_greatest, least, greatest;
                range(source, &source_least, &source_greatest);
                range(output, &least, &greatest);
                wanted = least <= source_least && source_greatest <= greatest;
            }
            if (dmc_dtype_converts(source, output) != wanted)
                fail_msg("%s to %s: expected %d", damacy_dtype_str(source), damacy_dtype_str(output), wanted);
        }
}

static void test_statuses(void **state)
{
    (void)state;
    static const char *const names[] = {"OK",          "AGAIN",    "INVAL",  "NOTFOUND", "DTYPE", "RANK",
                                        "UNSUPPORTED", "IO",       "DECODE", "CUDA",     "OOM",   "BUDGET",
                                        "STARVED",     "SHUTDOWN", "FORKED", "TIMEOUT",  "END",   "INTERNAL"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_string_equal(damacy_status_str((enum damacy_status)i), names[i]);
    assert_string_equal(damacy_status_str((enum damacy_status)18), "?");
    assert_string_equal(damacy_status_str((enum damacy_status) - 1), "?");
    static const char *const bottlenecks[] = {"none", "storage", "decode", "consumer", "producer"};
    for (size_t i = 0; i < sizeof bottlenecks / sizeof *bottlenecks; i++)
        assert_string_equal(damacy_bottleneck_str((enum damacy_bottleneck)i), bottlenecks[i]);
    assert_string_equal(damacy_bottleneck_str((enum damacy_bottleneck)5), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_converts),
                                       cmocka_unit_test(test_statuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
