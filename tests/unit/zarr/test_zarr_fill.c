/* Goal: every form of a fill value becomes the right bits, and others are refused.
 *
 * Method: through whole metadata texts; the ends of every integer type; all 65536 values of f16 and the midpoints between them;
 * forms that must fail. (zarr-python's own reading of many forms is checked in test_zarr_array.c.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "zarr/zarr_array.h"

static enum damacy_status parse(const char *type, const char *fill, uint64_t *bits, struct damacy_error *error)
{
    char text[1024];
    snprintf(text, sizeof text,
             "{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[4],\"data_type\":\"%s\",\"fill_value\":%s,"
             "\"chunk_key_encoding\":\"default\",\"chunk_grid\":{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[2]}},"
             "\"codecs\":[\"bytes\"]}",
             type, fill);
    struct dmc_zarr_array *array = NULL;
    enum damacy_status status = dmc_zarr_array_parse(text, strlen(text), NULL, &array, error);
    if (status == DAMACY_OK) {
        *bits = 0;
        memcpy(bits, array->fill, array->item_bytes);
        dmc_zarr_array_free(array);
    }
    return status;
}

static void expect(const char *type, const char *fill, uint64_t bits)
{
    uint64_t got;
    struct damacy_error error;
    if (parse(type, fill, &got, &error) != DAMACY_OK)
        fail_msg("%s %s: %s", type, fill, error.message);
    if (got != bits)
        fail_msg("%s %s: 0x%llx, expected 0x%llx", type, fill, (unsigned long long)got, (unsigned long long)bits);
}

static void refuse(const char *type, const char *fill, const char *part)
{
    uint64_t got;
    struct damacy_error error = {0};
    enum damacy_status status = parse(type, fill, &got, &error);
    if (status != DAMACY_DECODE || !strstr(error.message, "fill_value is wrong") || !strstr(error.message, part))
        fail_msg("%s %s: %s %s", type, fill, damacy_status_str(status), error.message);
}

static void test_bool(void **state)
{
    (void)state;
    expect("bool", "true", 1);
    expect("bool", "false", 0);
    expect("bool", "1", 1);
    expect("bool", "0", 0);
    refuse("bool", "2", "found 2, expected true or false");
    refuse("bool", "-1", "-1");
    refuse("bool", "null", "null");
    refuse("bool", "\"true\"", "\"true\"");
    refuse("bool", "0.5", "0.5");
}

static void test_integers(void **state)
{
    (void)state;
    static const struct {
        unsigned bits;
        const char *min, *below, *max, *above, *unsigned_max, *unsigned_above;
    } types[] = {
        {8, "-128", "-129", "127", "128", "255", "256"},
        {16, "-32768", "-32769", "32767", "32768", "65535", "65536"},
        {32, "-2147483648", "-2147483649", "2147483647", "2147483648", "4294967295", "4294967296"},
        {64, "-9223372036854775808", "-9223372036854775809", "9223372036854775807", "9223372036854775808",
         "18446744073709551615", "18446744073709551616"},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char type[16], utype[16];
        uint64_t all = UINT64_MAX >> (64 - types[i].bits), top = UINT64_C(1) << (types[i].bits - 1);
        snprintf(type, sizeof type, "int%u", types[i].bits);
        snprintf(utype, sizeof utype, "uint%u", types[i].bits);
        expect(type, types[i].min, top);
        expect(type, types[i].max, top - 1);
        expect(type, "-1", all);
        expect(type, "-1.0", all);
        expect(type, "1e2", 100);
        refuse(type, types[i].below, types[i].min);
        refuse(type, types[i].above, types[i].max);
        expect(utype, types[i].unsigned_max, all);
        expect(utype, "0", 0);
        expect(utype, "-0", 0);
        expect(utype, "100.0", 100);
        refuse(utype, types[i].unsigned_above, types[i].unsigned_max);
        refuse(utype, "-1", "expected an integer from 0");
        static const char *const others[] = {"1.5", "null",     "true",  "\"1\"", "\"0x01\"", "\"NaN\"",
                                             "NaN", "Infinity", "1e300", "[0]",   "{}"};
        for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
            refuse(type, others[k], "expected an integer from");
            refuse(utype, others[k], "expected an integer from");
        }
    }
    expect("int64", "9007199254740992.0", UINT64_C(1) << 53);
    refuse("int64", "9007199254740994.0", "integer"); /* not certain any more: it may have been rounded */
    refuse("uint64", "1e19", "integer");
}

static void test_floats(void **state)
{
    (void)state;
    static const struct {
        const char *fill;
        uint64_t f16, f32, f64;
    } cases[] = {
        {"0", 0, 0, 0},
        {"-0.0", 0x8000, 0x80000000, 0x8000000000000000},
        {"1", 0x3c00, 0x3f800000, 0x3ff0000000000000},
        {"-1.5", 0xbe00, 0xbfc00000, 0xbff8000000000000},
        {"0.1", 0x2e66, 0x3dcccccd, 0x3fb999999999999a},
        {"65504", 0x7bff, 0x477fe000, 0x40effc0000000000},
        {"1e400", 0x7c00, 0x7f800000, 0x7ff0000000000000},
        {"\"Infinity\"", 0x7c00, 0x7f800000, 0x7ff0000000000000},
        {"\"-Infinity\"", 0xfc00, 0xff800000, 0xfff0000000000000},
        {"\"NaN\"", 0x7e00, 0x7fc00000, 0x7ff8000000000000},
        {"NaN", 0x7e00, 0x7fc00000, 0x7ff8000000000000},
        {"-Infinity", 0xfc00, 0xff800000, 0xfff0000000000000},
        {"18446744073709551615", 0x7c00, 0x5f800000, 0x43f0000000000000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect("float16", cases[i].fill, cases[i].f16);
        expect("float32", cases[i].fill, cases[i].f32);
        expect("float64", cases[i].fill, cases[i].f64);
    }
    expect("float16", "\"0x7e01\"", 0x7e01);
    expect("float32", "\"0xFfc00001\"", 0xffc00001);
    expect("float64", "\"0x7ff8000000000abc\"", 0x7ff8000000000abc);
    expect("float64", "\"0x0000000000000000\"", 0);

    static const char *const types[] = {"float16", "float32", "float64"};
    static const char *const others[] = {"null",
                                         "true",
                                         "\"nan\"",
                                         "\"inf\"",
                                         "\"+Infinity\"",
                                         "\"\"",
                                         "\"1.0\"",
                                         "[1]",
                                         "{}",
                                         "\"0x\"",
                                         "\"0x7\"",
                                         "\"0x7fc000\"",
                                         "\"NaN\\u0000\"",
                                         "\"0xg000\"",
                                         "\"0xg0000000\"",
                                         "\"0X7e00\"",
                                         "\"0xg000000000000000\"",
                                         "\"0x7fc0000000000000000000000000\""};
    for (size_t t = 0; t < 3; t++)
        for (size_t k = 0; k < sizeof others / sizeof *others; k++)
            refuse(types[t], others[k], "hexadecimal digits");
    refuse("float16", "\"0x7fc00000\"", "\"0x\" with 4 hexadecimal digits");
    refuse("float32", "\"0x7e00\"", "\"0x\" with 8 hexadecimal digits");
    refuse("float64", "\"0x7fc00000\"", "\"0x\" with 16 hexadecimal digits");
}

static double half_value(unsigned bits)
{
    int exponent = (int)(bits >> 10 & 31);
    double mantissa = bits & 1023;
    double value = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    return bits & 0x8000 ? -value : value;
}

/* The next double away from zero (1) or towards it (-1); `value` is positive. */
static double neighbour(double value, int64_t step)
{
    uint64_t bits;
    memcpy(&bits, &value, 8);
    bits += (uint64_t)step;
    memcpy(&value, &bits, 8);
    return value;
}

static void expect_half(double value, unsigned bits)
{
    char fill[64];
    snprintf(fill, sizeof fill, "%.17g", value);
    if (fill[strspn(fill, "-0")] == '\0')
        strcat(fill, ".0"); /* "-0" would be an integer */
    expect("float16", fill, bits);
}

/* Finite f16 values are themselves; a midpoint goes to the even neighbour, the doubles beside it to the nearer one. Every value
 * around zero, the subnormals' end and the largest; every 37th elsewhere. */
static void test_f16_rounding(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 0x7c00; bits += bits < 64 || (bits > 1000 && bits < 1100) || bits > 0x7b80 ? 1 : 37) {
        double low = half_value(bits), high = bits == 0x7bff ? 65536 : half_value(bits + 1);
        double middle = (low + high) / 2;
        for (unsigned sign = 0; sign < 2; sign++) {
            double s = sign ? -1 : 1;
            unsigned top = sign << 15;
            expect_half(s * low, top | bits);
            expect_half(s * middle, top | (bits + (bits & 1)));
            expect_half(s * neighbour(middle, -1), top | bits);
            expect_half(s * neighbour(middle, 1), top | (bits + 1));
        }
    }
    expect_half(ldexp(1, -26), 0);
    expect_half(5e-324, 0);
    expect_half(1e300, 0x7c00);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bool),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_floats),
        cmocka_unit_test(test_f16_rounding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
