/* Fill values. Zarr v3 core specification, "fill_value" under "Data types", and v2's "Fill value encoding":
 *
 *     bool             true, false
 *     integers         a number without fraction, in range
 *     floats           a number; "NaN", "Infinity", "-Infinity"; "0x7fc00001", the bits as a big-endian number
 *     complex          a list of two floats
 *     datetime64, ...  an integer, or "NaT"
 *     structured       {"x": 1.0, "y": 2}; or the record in base64
 *     v2: all          null, which is 0 (NaT) here: nobody wrote what is there; base64 of the bytes
 *
 * Beyond it, what can mean one thing only: 1.0 for an integer, 0 and 1 for bool, bare NaN and Infinity; in v2 numbers as
 * strings, and a plain number for a complex one, which zarr-python 2 wrote for the default of 0. */
#include "zarr/zarr_parse.h"

#include "base/bytes.h"
#include "base/dtype.h"
#include "base/error.h"
#include "base/mem.h"

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

static uint16_t bf16_bits(double number)
{
    /* By way of f32 it would be rounded twice; with the bits that f32 has no room for folded into its last one, once is enough.
     */
    float narrow = (float)number;
    uint32_t bits;
    memcpy(&bits, &narrow, 4);
    if ((bits & 0x7fffffff) >= 0x7f800000)
        return (uint16_t)(bits >> 16);
    double back = (double)narrow, magnitude = number < 0 ? -number : number, back_magnitude = back < 0 ? -back : back;
    if (back_magnitude > magnitude)
        bits--; /* towards zero, so that the bit set next says "a little more" */
    if (back != number)
        bits |= 1;
    uint32_t kept = bits >> 16, rest = bits & 0xffff;
    return (uint16_t)(kept + (rest > 0x8000 || (rest == 0x8000 && (kept & 1))));
}

/* --- what is stored in a byte --- */

/* Small floats, as zarr-extensions and ml_dtypes define them. */
static const struct small_float {
    const char *name;
    uint8_t sign, exponent, mantissa; /* bits */
    int8_t bias;
    uint8_t nan;   /* the code of NaN; 0: there is none */
    bool infinity; /* the largest exponent is for infinity and NaN */
} small_floats[] = {
    {"float8_e3m4", 1, 3, 4, 3, 0x78, true},          {"float8_e4m3", 1, 4, 3, 7, 0x7c, true},
    {"float8_e4m3b11fnuz", 1, 4, 3, 11, 0x80, false}, {"float8_e4m3fn", 1, 4, 3, 7, 0x7f, false},
    {"float8_e4m3fnuz", 1, 4, 3, 8, 0x80, false},     {"float8_e5m2", 1, 5, 2, 15, 0x7e, true},
    {"float8_e5m2fnuz", 1, 5, 2, 16, 0x80, false},    {"float8_e8m0fnu", 0, 8, 0, 127, 0xff, false},
    {"float4_e2m1fn", 1, 2, 1, 1, 0, false},          {"float6_e2m3fn", 1, 2, 3, 1, 0, false},
    {"float6_e3m2fn", 1, 3, 2, 3, 0, false},
};

static const struct small_float *small_float_find(const char *name)
{
    for (size_t i = 0; i < sizeof small_floats / sizeof *small_floats; i++)
        if (strcmp(small_floats[i].name, name) == 0)
            return &small_floats[i];
    return NULL;
}

static double power_of_two(int exponent)
{
    double result = 1;
    for (; exponent > 0; exponent--)
        result *= 2;
    for (; exponent < 0; exponent++)
        result /= 2;
    return result;
}

static double small_float_value(const struct small_float *kind, uint32_t code)
{
    uint32_t mantissa = code & ((1u << kind->mantissa) - 1), exponent = code >> kind->mantissa & ((1u << kind->exponent) - 1);
    bool negative = kind->sign && (code >> (kind->mantissa + kind->exponent) & 1);
    uint32_t unsigned_nan = kind->nan & ~(kind->sign && kind->nan != 0x80 ? 0x80u : 0u);
    bool nan = kind->nan && (kind->nan == 0x80 || !kind->sign ? code == kind->nan : (code & 0x7f) == unsigned_nan);
    if (kind->infinity && exponent == (1u << kind->exponent) - 1) {
        if (mantissa)
            return __builtin_nan("");
        return negative ? -__builtin_inf() : __builtin_inf();
    }
    if (nan)
        return __builtin_nan("");
    double magnitude = !kind->sign     ? power_of_two((int)exponent - kind->bias) /* e8m0: no zero, no subnormals */
                       : exponent == 0 ? (double)mantissa * power_of_two(1 - kind->bias - kind->mantissa)
                                       : (double)(mantissa + (1u << kind->mantissa)) *
                                             power_of_two((int)exponent - kind->bias - kind->mantissa);
    return negative ? -magnitude : magnitude;
}

/* The nearest value that the type has, of two the even one. False: beyond the largest. */
static bool small_float_round(const struct small_float *kind, double number, double *rounded)
{
    uint32_t count = 1u << (kind->sign + kind->exponent + kind->mantissa);
    double best = __builtin_inf(), largest = 0;
    for (uint32_t code = 0; code < count; code++) {
        double value = small_float_value(kind, code), distance = number > value ? number - value : value - number;
        if (value != value || value - value != 0)
            continue;
        largest = value > largest ? value : largest;
        bool same_sign = !__builtin_signbit(value) == !__builtin_signbit(number);
        if (distance < best || (distance == best && (value == 0 ? same_sign : !(code & 1)))) {
            best = distance;
            *rounded = value;
        }
    }
    return number <= largest && number >= (kind->sign ? -largest : 0);
}

/* --- numbers --- */

static bool is_special(dmc_json *value, double *number)
{
    if (dmc_zarr_string_is(value, "NaN"))
        *number = __builtin_nan("");
    else if (dmc_zarr_string_is(value, "Infinity"))
        *number = __builtin_inf();
    else if (dmc_zarr_string_is(value, "-Infinity"))
        *number = -__builtin_inf();
    else
        return false;
    return true;
}

/* A float of `dtype` as its bits. The specification's NaN: sign 0, the first bit of the mantissa, and nothing else. A number
 * beyond the type's largest becomes infinity, which is also what zarr-python and tensorstore read. */
static uint64_t float_bits(enum damacy_dtype dtype, double number)
{
    bool nan = number != number;
    switch (dtype) {
    case DAMACY_F16:
        return nan ? 0x7e00 : f16_bits(number);
    case DAMACY_BF16:
        return nan ? 0x7fc0 : bf16_bits(number);
    case DAMACY_F32:
        return nan ? 0x7fc00000 : f32_bits(number);
    default:
        return nan ? UINT64_C(0x7ff8000000000000) : f64_bits(number);
    }
}

static enum damacy_status read_float(dmc_json *value, enum damacy_dtype dtype, uint8_t fill[8], struct damacy_error *error)
{
    size_t item_bytes = damacy_dtype_bytes(dtype), text_bytes;
    double number = 0;
    uint64_t bits;
    const char *text;
    if (dmc_json_string(value, &text, &text_bytes) && read_hex(text, text_bytes, item_bytes, &bits)) {
        store(fill, bits);
        return DAMACY_OK;
    }
    if (!is_special(value, &number) && !dmc_json_f64(value, &number)) {
        char expected[120];
        snprintf(expected, sizeof expected,
                 "a number, \"NaN\", \"Infinity\", \"-Infinity\", or \"0x\" with %zu hexadecimal digits", 2 * item_bytes);
        return dmc_zarr_wrong(error, DAMACY_DECODE, "fill_value", expected, value);
    }
    store(fill, float_bits(dtype, number));
    return DAMACY_OK;
}

static enum damacy_status read_small_float(dmc_json *value, const struct small_float *kind, uint8_t fill[8],
                                           struct damacy_error *error)
{
    double number = 0, rounded = 0;
    uint64_t code;
    const char *text;
    size_t text_bytes;
    char expected[100];
    if (dmc_json_string(value, &text, &text_bytes) && read_hex(text, text_bytes, 1, &code)) {
        rounded = small_float_value(kind, (uint32_t)code); /* bits that the type does not have are ignored, as in chunks */
    } else if (is_special(value, &number) || dmc_json_f64(value, &number)) {
        bool finite = number - number == 0, nan = number != number;
        rounded = number;
        if (nan ? !kind->nan : !finite ? !kind->infinity : !small_float_round(kind, number, &rounded))
            goto wrong;
    } else {
        goto wrong;
    }
    store(fill, float_bits(DAMACY_F32, rounded));
    return DAMACY_OK;
wrong:
    snprintf(expected, sizeof expected, "a value that %s has, or \"0x\" with 2 hexadecimal digits", kind->name);
    return dmc_zarr_wrong(error, DAMACY_DECODE, "fill_value", expected, value);
}

/* int2, int4, uint2, uint4 */
static enum damacy_status read_small_integer(dmc_json *value, const char *name, uint8_t fill[8], struct damacy_error *error)
{
    bool negative = name[0] == 'i';
    int bits = name[strlen(name) - 1] - '0';
    int64_t number = 0, max = (1 << (negative ? bits - 1 : bits)) - 1, min = negative ? -max - 1 : 0;
    if (!dmc_zarr_i64(value, &number) || number < min || number > max) {
        char expected[64];
        snprintf(expected, sizeof expected, "an integer from %d to %d", (int)min, (int)max);
        return dmc_zarr_wrong(error, DAMACY_DECODE, "fill_value", expected, value);
    }
    store(fill, (uint64_t)number);
    return DAMACY_OK;
}

#define NOT_A_TIME (UINT64_C(1) << 63)

static enum damacy_status read_time(dmc_json *value, uint8_t fill[8], struct damacy_error *error)
{
    int64_t number;
    if (dmc_zarr_string_is(value, "NaT"))
        number = INT64_MIN;
    else if (!dmc_zarr_i64(value, &number))
        return dmc_zarr_wrong(error, DAMACY_DECODE, "fill_value", "a number of ticks, or \"NaT\"", value);
    store(fill, (uint64_t)number);
    return DAMACY_OK;
}

/* One element. */
static enum damacy_status read_element(dmc_json *value, const struct dmc_zarr_dtype *type, uint8_t fill[8],
                                       struct damacy_error *error)
{
    if (type->how == DMC_ZARR_TIME)
        return read_time(value, fill, error);
    if (type->how == DMC_ZARR_WIDEN) {
        const struct small_float *kind = small_float_find(type->name);
        return kind ? read_small_float(value, kind, fill, error) : read_small_integer(value, type->name, fill, error);
    }
    if (type->dtype == DAMACY_BOOL)
        return read_bool(value, fill, error);
    if (dmc_dtype_is_float(type->dtype))
        return read_float(value, type->dtype, fill, error);
    if (type->dtype >= DAMACY_I8 && type->dtype <= DAMACY_I64)
        return read_signed(value, type->dtype, fill, error);
    return read_unsigned(value, type->dtype, fill, error);
}

/* --- bytes in base64 --- */

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c ? strchr(digits, c) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* Bytes that the text stands for; SIZE_MAX: it is none, or `out` has room for fewer. Without the '=' at its end it is none
 * either. */
static size_t base64_decode(const char *text, size_t text_bytes, uint8_t *out, size_t capacity)
{
    if (text_bytes % 4 != 0)
        return SIZE_MAX;
    size_t padding = 0, count = 0;
    while (padding < 2 && padding < text_bytes && text[text_bytes - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < text_bytes; i += 4) {
        uint32_t bits = 0;
        size_t kept = i + 4 == text_bytes ? 3 - padding : 3;
        for (size_t k = 0; k < 4; k++) {
            int digit = i + k >= text_bytes - padding ? 0 : base64_digit(text[i + k]);
            if (digit < 0)
                return SIZE_MAX;
            bits = bits << 6 | (uint32_t)digit;
        }
        for (size_t k = 0; k < kept; k++) {
            if (count == capacity)
                return SIZE_MAX;
            out[count++] = (uint8_t)(bits >> (16 - 8 * k));
        }
    }
    return count;
}

/* Stored bytes of one scalar to elements. */
static void from_stored(const uint8_t *stored, const struct dmc_zarr_dtype *type, bool big_endian, uint8_t fill[16])
{
    size_t element = type->stored_bytes / type->parts;
    for (size_t part = 0; part < type->parts; part++) {
        uint8_t bytes[8] = {0};
        for (size_t i = 0; i < element; i++)
            bytes[i] = stored[part * element + (big_endian ? element - 1 - i : i)];
        if (type->how == DMC_ZARR_WIDEN) {
            const struct small_float *kind = small_float_find(type->name);
            uint32_t bits = (uint32_t)(type->name[strlen(type->name) - 1] - '0'), code = bytes[0];
            uint32_t low = code & ((1u << (bits & 7)) - 1), top = 1u << ((bits & 7) - 1);
            store(bytes, kind                   ? float_bits(DAMACY_F32, small_float_value(kind, code))
                         : type->name[0] == 'i' ? (uint64_t)((int64_t)(low ^ top) - (int64_t)top)
                                                : low);
        }
        memcpy(fill + part * damacy_dtype_bytes(type->dtype), bytes, damacy_dtype_bytes(type->dtype));
    }
}

static enum damacy_status read_record(const char *text, size_t text_bytes, const struct dmc_zarr_draft *draft, uint8_t fill[16],
                                      struct damacy_error *error)
{
    const struct dmc_zarr_member *member = &draft->member;
    uint8_t *record = dmc_malloc(member->record_bytes + 1);
    if (!record)
        return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for the fill value of a record");
    enum damacy_status status = DAMACY_OK;
    size_t bytes = base64_decode(text, text_bytes, record, member->record_bytes), scalar = draft->type->stored_bytes;
    if (bytes != member->record_bytes) {
        char expected[64], quoted[DMC_ZARR_QUOTE_BYTES];
        snprintf(expected, sizeof expected, "a record of %u bytes in base64", member->record_bytes);
        status = dmc_zarr_wrong_text(error, DAMACY_DECODE, "fill_value", expected, dmc_zarr_quote(quoted, text, text_bytes));
    }
    for (size_t at = scalar; !status && at < member->bytes; at += scalar)
        if (memcmp(record + member->offset, record + member->offset + at, scalar) != 0)
            status = dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata",
                                   "fill_value: the elements of member '%s' have different fill values",
                                   member->path[member->path_count - 1]);
    if (!status)
        from_stored(record + member->offset, draft->type, draft->big_endian, fill);
    dmc_free(record);
    return status;
}

/* --- the whole --- */

static void store_default(const struct dmc_zarr_dtype *type, uint8_t fill[16])
{
    memset(fill, 0, 16);
    if (type->how == DMC_ZARR_TIME)
        store(fill, NOT_A_TIME); /* as zarr-python does where v2 has null, or a record's fill value leaves a member out */
}

static enum damacy_status read_scalar(dmc_json *value, const struct dmc_zarr_dtype *type, uint8_t fill[16],
                                      struct damacy_error *error)
{
    uint8_t parts[2][8] = {{0}};
    if (type->parts == 1)
        return read_element(value, type, fill, error);
    if (dmc_json_type(value) != DMC_JSON_ARRAY || dmc_json_count(value) != 2)
        return dmc_zarr_wrong(error, DAMACY_DECODE, "fill_value", "a list of a real and an imaginary part", value);
    size_t bytes = damacy_dtype_bytes(type->dtype);
    for (uint32_t part = 0; part < 2; part++) {
        enum damacy_status status = read_element(dmc_json_at(value, part), type, parts[part], error);
        if (status)
            return status;
        memcpy(fill + part * bytes, parts[part], bytes);
    }
    return DAMACY_OK;
}

/* A string of v2 that is none of the words: base64, or a number in quotation marks. */
static enum damacy_status read_string_v2(dmc_json *value, const struct dmc_zarr_draft *draft, uint8_t fill[16],
                                         struct damacy_error *error)
{
    const struct dmc_zarr_dtype *type = draft->type;
    const char *text;
    size_t text_bytes;
    uint8_t stored[16];
    dmc_json_string(value, &text, &text_bytes);
    /* A number has no '=', and base64 of 1, 2, 4, 8 or 16 bytes always has. */
    if (text_bytes > 0 && text[text_bytes - 1] == '=' &&
        base64_decode(text, text_bytes, stored, sizeof stored) == type->stored_bytes) {
        from_stored(stored, type, draft->big_endian, fill);
        return DAMACY_OK;
    }
    bool digits = text_bytes > 0 && text_bytes < 64 && strchr("-0123456789", text[0]) && text[text_bytes - 1] != 'y';
    struct dmc_json_doc *document;
    enum damacy_status status = type->parts == 1 && digits ? dmc_json_parse(text, text_bytes, &document, error) : DAMACY_DECODE;
    if (status == DAMACY_OK) {
        status = read_element(dmc_json_root(document), type, fill, error);
        dmc_json_free(document);
        return status;
    }
    if (status == DAMACY_OOM)
        return status;
    return read_scalar(value, type, fill, error);
}

static enum damacy_status read_member(dmc_json *value, uint32_t format, const struct dmc_zarr_draft *draft, uint8_t fill[16],
                                      struct damacy_error *error)
{
    const char *text;
    size_t text_bytes;
    uint64_t zero;
    if (dmc_json_string(value, &text, &text_bytes))
        return read_record(text, text_bytes, draft, fill, error);
    if (format == 2 && dmc_zarr_u64(value, &zero) && zero == 0) { /* zarr-python 2 took 0 for records, too */
        memset(fill, 0, 16);
        return DAMACY_OK;
    }
    for (uint32_t i = 0; i < draft->member.path_count; i++) {
        if (dmc_json_type(value) != DMC_JSON_OBJECT)
            return dmc_zarr_wrong(error, DAMACY_DECODE, "fill_value",
                                  "an object with a value for each member, or a record in base64", value);
        value = dmc_json_get(value, draft->member.path[i]);
        if (!value) {
            store_default(draft->type, fill);
            return DAMACY_OK;
        }
    }
    return read_scalar(value, draft->type, fill, error);
}

enum damacy_status dmc_zarr_fill_read(dmc_json *value, uint32_t format, struct dmc_zarr_draft *draft,
                                      struct damacy_error *error)
{
    uint8_t *fill = draft->array.fill;
    double real;
    memset(fill, 0, 16);
    if (format == 2 && dmc_json_type(value) == DMC_JSON_NULL) {
        store_default(draft->type, fill);
        return DAMACY_OK;
    }
    if (draft->member.chosen)
        return read_member(value, format, draft, fill, error);
    if (format == 2 && dmc_json_type(value) == DMC_JSON_STRING)
        return read_string_v2(value, draft, fill, error);
    if (format == 2 && draft->type->parts == 2 && dmc_json_f64(value, &real))
        return read_element(value, draft->type, fill, error);
    return read_scalar(value, draft->type, fill, error);
}
