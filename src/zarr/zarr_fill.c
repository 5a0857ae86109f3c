/* Fill values. Zarr v3 core specification, "fill_value" under "Data types":
 *
 *     bool             true, false
 *     integers         a number without fraction, in range
 *     floats           a number; "NaN", "Infinity", "-Infinity"; "0x7fc00001", the bits as a big-endian number
 *
 * Beyond it, what can mean one thing only: 1.0 for an integer, 0 and 1 for bool, bare NaN and Infinity. */
#include "zarr/zarr_parse.h"

#include "base/dtype.h"
#include "base/error.h"

#include <stdio.h>
#include <string.h>

/* Both are x86-64's and aarch64's byte order, so that the low bytes of a register are the element. */
static void store(uint8_t fill[8], uint64_t bits)
{
    memcpy(fill, &bits, 8);
}

static enum damacy_status read_bool(dmc_json *value, uint8_t fill[8], struct damacy_error *error)
{
    bool truth;
    uint64_t number;
    if (dmc_json_bool(value, &truth))
        number = truth;
    else if (!dmc_zarr_u64(value, &number) || number > 1)
        return dmc_zarr_wrong(error, DAMACY_DECODE, "fill_value", "true or false", value);
    store(fill, number);
    return DAMACY_OK;
}

static enum damacy_status read_signed(dmc_json *value, enum damacy_dtype dtype, uint8_t fill[8], struct damacy_error *error)
{
    int64_t max = (int64_t)(UINT64_MAX >> (65 - 8 * damacy_dtype_bytes(dtype)));
    int64_t number;
    if (!dmc_zarr_i64(value, &number) || number < -max - 1 || number > max) {
        char expected[80];
        snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)(-max - 1), (long long)max);
        return dmc_zarr_wrong(error, DAMACY_DECODE, "fill_value", expected, value);
    }
    store(fill, (uint64_t)number);
    return DAMACY_OK;
}

static enum damacy_status read_unsigned(dmc_json *value, enum damacy_dtype dtype, uint8_t fill[8], struct damacy_error *error)
{
    uint64_t max = UINT64_MAX >> (64 - 8 * damacy_dtype_bytes(dtype));
    uint64_t number;
    if (!dmc_zarr_u64(value, &number) || number > max) {
        char expected[80];
        snprintf(expected, sizeof expected, "an integer from 0 to %llu", (unsigned long long)max);
        return dmc_zarr_wrong(error, DAMACY_DECODE, "fill_value", expected, value);
    }
    store(fill, number);
    return DAMACY_OK;
}

static uint64_t f64_bits(double number)
{
    uint64_t bits;
    memcpy(&bits, &number, 8);
    return bits;
}

static uint32_t f32_bits(double number)
{
    float narrow = (float)number;
    uint32_t bits;
    memcpy(&bits, &narrow, 4);
    return bits;
}

/* One rounding to nearest even; not by way of f32, which would be a second one. Not for NaN. */
static uint16_t f16_bits(double number)
{
    uint64_t bits = f64_bits(number);
    uint16_t sign = (uint16_t)(bits >> 48 & 0x8000);
    int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
    uint64_t mantissa = (bits & 0xfffffffffffff) | UINT64_C(1) << 52;
    if (exponent > 15)
        return sign | 0x7c00;
    if (exponent < -25) /* below half of the smallest subnormal */
        return sign;
    int shift = exponent < -14 ? 42 - 14 - exponent : 42; /* subnormals keep fewer bits */
    uint64_t kept = mantissa >> shift;
    uint64_t rest = mantissa & ((UINT64_C(1) << shift) - 1);
    uint64_t half = UINT64_C(1) << (shift - 1);
    kept += rest > half || (rest == half && (kept & 1));
    if (exponent >= -14)
        kept +=
            (uint64_t)(exponent + 14) << 10; /* the leading bit of `kept` adds the missing one; a carry goes on to infinity */
    return sign | (uint16_t)kept;
}

/* "0x" and exactly the digits of the type: of a shorter text nobody can tell which end is missing. */
static bool read_hex(const char *text, size_t bytes, size_t item_bytes, uint64_t *bits)
{
    if (bytes != 2 + 2 * item_bytes || text[0] != '0' || text[1] != 'x')
        return false;
    *bits = 0;
    for (size_t i = 2; i < bytes; i++) {
        char c = text[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                : 16;
        if (digit == 16)
            return false;
        *bits = *bits << 4 | digit;
    }
    return true;
}

static enum damacy_status read_float(dmc_json *value, enum damacy_dtype dtype, uint8_t fill[8], struct damacy_error *error)
{
    size_t item_bytes = damacy_dtype_bytes(dtype);
    double number = 0;
    uint64_t bits;
    const char *text;
    size_t text_bytes;
    if (dmc_json_string(value, &text, &text_bytes)) {
        if (read_hex(text, text_bytes, item_bytes, &bits)) {
            store(fill, bits);
            return DAMACY_OK;
        }
        if (dmc_zarr_string_is(value, "NaN"))
            number = __builtin_nan("");
        else if (dmc_zarr_string_is(value, "Infinity"))
            number = __builtin_inf();
        else if (dmc_zarr_string_is(value, "-Infinity"))
            number = -__builtin_inf();
        else
            goto wrong;
    } else if (!dmc_json_f64(value, &number)) {
        goto wrong;
    }

    /* The specification's NaN: sign 0, the first bit of the mantissa, and nothing else. A number beyond the type's largest
     * becomes infinity, which is also what zarr-python and tensorstore read. */
    bool nan = number != number;
    if (dtype == DAMACY_F16)
        store(fill, nan ? 0x7e00 : f16_bits(number));
    else if (dtype == DAMACY_F32)
        store(fill, nan ? 0x7fc00000 : f32_bits(number));
    else
        store(fill, nan ? UINT64_C(0x7ff8000000000000) : f64_bits(number));
    return DAMACY_OK;

wrong:;
    char expected[120];
    snprintf(expected, sizeof expected, "a number, \"NaN\", \"Infinity\", \"-Infinity\", or \"0x\" with %zu hexadecimal digits",
             2 * item_bytes);
    return dmc_zarr_wrong(error, DAMACY_DECODE, "fill_value", expected, value);
}

enum damacy_status dmc_zarr_fill_read(dmc_json *value, enum damacy_dtype dtype, uint8_t fill[8], struct damacy_error *error)
{
    if (dtype == DAMACY_BOOL)
        return read_bool(value, fill, error);
    if (dmc_dtype_is_float(dtype))
        return read_float(value, dtype, fill, error);
    if (dtype >= DAMACY_I8 && dtype <= DAMACY_I64)
        return read_signed(value, dtype, fill, error);
    return read_unsigned(value, dtype, fill, error);
}
