#include "codec/element_type.h"
#include "base/bytes.h"
#include "base/dtype.h"

/* ---- names ---- */

bool dmc_element_type_v3(const char *name, enum damacy_dtype *dtype)
{
    static const struct {
        const char *name;
        enum damacy_dtype dtype;
    } names[] = {
        {"bool", DAMACY_BOOL},     {"int8", DAMACY_I8},     {"int16", DAMACY_I16},   {"int32", DAMACY_I32},
        {"int64", DAMACY_I64},     {"uint8", DAMACY_U8},    {"uint16", DAMACY_U16},  {"uint32", DAMACY_U32},
        {"uint64", DAMACY_U64},    {"float16", DAMACY_F16}, {"float32", DAMACY_F32}, {"float64", DAMACY_F64},
        {"bfloat16", DAMACY_BF16},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i].name, name) == 0) {
            *dtype = names[i].dtype;
            return true;
        }
    }
    return false;
}

bool dmc_element_type_numpy(const char *text, struct dmc_element_type *type)
{
    static const struct {
        const char *code;
        enum damacy_dtype dtype;
    } codes[] = {
        {"b1", DAMACY_BOOL}, {"?", DAMACY_BOOL}, {"i1", DAMACY_I8},  {"i2", DAMACY_I16}, {"i4", DAMACY_I32},
        {"i8", DAMACY_I64},  {"u1", DAMACY_U8},  {"u2", DAMACY_U16}, {"u4", DAMACY_U32}, {"u8", DAMACY_U64},
        {"f2", DAMACY_F16},  {"f4", DAMACY_F32}, {"f8", DAMACY_F64},
    };
    type->swap = false;
    if (dmc_element_type_v3(text, &type->dtype))
        return type->dtype != DAMACY_BF16; /* numpy has none */
    bool big_machine = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
    if (*text == '<' || *text == '>')
        type->swap = (*text == '>') != big_machine;
    if (*text == '<' || *text == '>' || *text == '|' || *text == '=')
        text++;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (strcmp(codes[i].code, text) == 0) {
            type->dtype = codes[i].dtype;
            type->swap = type->swap && damacy_dtype_bytes(type->dtype) > 1;
            return true;
        }
    }
    return false;
}

bool dmc_element_is_integer(enum damacy_dtype dtype)
{
    return dtype != DAMACY_NATIVE && !dmc_dtype_is_float(dtype);
}

bool dmc_element_is_signed(enum damacy_dtype dtype)
{
    return dtype == DAMACY_I8 || dtype == DAMACY_I16 || dtype == DAMACY_I32 || dtype == DAMACY_I64;
}

static enum damacy_dtype float_of(size_t bytes)
{
    return bytes <= 2 ? DAMACY_F16 : bytes == 4 ? DAMACY_F32 : DAMACY_F64;
}

/* The least float that holds an integer's values, as numpy sees it. */
static size_t float_bytes_for(enum damacy_dtype dtype)
{
    size_t bytes = damacy_dtype_bytes(dtype);
    return dmc_dtype_is_float(dtype) ? bytes : bytes == 1 ? 2 : bytes == 2 ? 4 : 8;
}

enum damacy_dtype dmc_element_promote(enum damacy_dtype a, enum damacy_dtype b)
{
    static const enum damacy_dtype signed_of[] = {[1] = DAMACY_I8, [2] = DAMACY_I16, [4] = DAMACY_I32, [8] = DAMACY_I64};
    if (dmc_dtype_is_float(a) || dmc_dtype_is_float(b))
        return float_of(dmc_max_u64(float_bytes_for(a), float_bytes_for(b)));
    if (a == DAMACY_BOOL)
        return b;
    if (b == DAMACY_BOOL)
        return a;
    size_t a_bytes = damacy_dtype_bytes(a), b_bytes = damacy_dtype_bytes(b);
    if (dmc_element_is_signed(a) == dmc_element_is_signed(b))
        return a_bytes >= b_bytes ? a : b;
    size_t signed_bytes = dmc_element_is_signed(a) ? a_bytes : b_bytes,
           unsigned_bytes = dmc_element_is_signed(a) ? b_bytes : a_bytes;
    if (signed_bytes > unsigned_bytes)
        return signed_of[signed_bytes];
    return unsigned_bytes == 8 ? DAMACY_F64 : signed_of[2 * unsigned_bytes];
}

/* ---- numbers ---- */

double dmc_half_to_double(uint16_t half)
{
    uint64_t sign = (uint64_t)(half >> 15) << 63, exponent = half >> 10 & 31, mantissa = half & 1023, bits;
    double value;
    if (exponent == 0) { /* zero and subnormals: exact products */
        value = (double)mantissa * 0x1p-24;
        return sign ? -value : value;
    }
    if (exponent == 31)
        bits = sign | UINT64_C(0x7ff) << 52 | mantissa << 42;
    else
        bits = sign | (exponent + 1023 - 15) << 52 | mantissa << 42;
    memcpy(&value, &bits, 8);
    return value;
}

uint16_t dmc_double_to_half(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, 8);
    uint16_t sign = (uint16_t)(bits >> 48 & 0x8000);
    uint64_t mantissa = bits & ((UINT64_C(1) << 52) - 1);
    int exponent = (int)(bits >> 52 & 0x7ff);
    if (exponent == 0x7ff) {
        uint16_t payload = (uint16_t)(mantissa >> 42);
        return (uint16_t)(sign | 0x7c00 | (mantissa && !payload ? 1 : payload)); /* a NaN stays one */
    }
    exponent += 15 - 1023;
    if (exponent >= 31)
        return sign | 0x7c00;
    int shift = 42;
    uint64_t kept = 0;
    if (exponent <= 0) { /* subnormal: the leading one becomes a bit of the mantissa */
        if (exponent < -10)
            return sign;
        mantissa |= UINT64_C(1) << 52;
        shift += 1 - exponent;
    } else {
        kept = (uint64_t)exponent << 10;
    }
    uint64_t rest = mantissa & ((UINT64_C(1) << shift) - 1), middle = UINT64_C(1) << (shift - 1);
    kept += mantissa >> shift;
    kept += rest > middle || (rest == middle && (kept & 1)); /* a carry into the exponent is right, up to infinity */
    return (uint16_t)(sign | kept);
}

static inline int32_t to_i32(double value)
{
    return value > -2147483649.0 && value < 2147483648.0 ? (int32_t)value : INT32_MIN;
}

static inline int64_t to_i64(double value)
{
    return value >= -9223372036854775808.0 && value < 9223372036854775808.0 ? (int64_t)value : INT64_MIN;
}

static inline uint64_t to_u64(double value)
{
    return value >= 0x1p63 ? (uint64_t)to_i64(value - 0x1p63) ^ UINT64_C(1) << 63 : (uint64_t)to_i64(value);
}

/* ---- blocks ---- */

static inline uint16_t get16(const uint8_t *at, bool swap)
{
    uint16_t bits = dmc_load_u16le(at);
    return swap ? __builtin_bswap16(bits) : bits;
}

static inline uint32_t get32(const uint8_t *at, bool swap)
{
    uint32_t bits = dmc_load_u32le(at);
    return swap ? __builtin_bswap32(bits) : bits;
}

static inline uint64_t get64(const uint8_t *at, bool swap)
{
    uint64_t bits = dmc_load_u64le(at);
    return swap ? __builtin_bswap64(bits) : bits;
}

static inline void put16(uint8_t *at, uint16_t bits, bool swap)
{
    bits = swap ? __builtin_bswap16(bits) : bits;
    memcpy(at, &bits, 2);
}

static inline void put32(uint8_t *at, uint32_t bits, bool swap)
{
    bits = swap ? __builtin_bswap32(bits) : bits;
    memcpy(at, &bits, 4);
}

static inline void put64(uint8_t *at, uint64_t bits, bool swap)
{
    bits = swap ? __builtin_bswap64(bits) : bits;
    memcpy(at, &bits, 8);
}

static inline float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline double double_of_bits(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

static inline uint32_t bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static inline uint64_t bits_of_double(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, 8);
    return bits;
}

#define EACH(expression)                                                                                                       \
    for (size_t i = 0; i < count; i++) {                                                                                       \
        expression;                                                                                                            \
    }                                                                                                                          \
    break

void dmc_element_load_integer(struct dmc_element_type type, const uint8_t *source, size_t count, uint64_t *to)
{
    bool swap = type.swap;
    switch (type.dtype) {
    case DAMACY_BOOL:
        EACH(to[i] = source[i] != 0);
    case DAMACY_U8:
        EACH(to[i] = source[i]);
    case DAMACY_I8:
        EACH(to[i] = (uint64_t)(int64_t)(int8_t)source[i]);
    case DAMACY_U16:
        EACH(to[i] = get16(source + 2 * i, swap));
    case DAMACY_I16:
        EACH(to[i] = (uint64_t)(int64_t)(int16_t)get16(source + 2 * i, swap));
    case DAMACY_U32:
        EACH(to[i] = get32(source + 4 * i, swap));
    case DAMACY_I32:
        EACH(to[i] = (uint64_t)(int64_t)(int32_t)get32(source + 4 * i, swap));
    default:
        EACH(to[i] = get64(source + 8 * i, swap));
    }
}

void dmc_element_load_double(struct dmc_element_type type, const uint8_t *source, size_t count, double *to)
{
    bool swap = type.swap;
    switch (type.dtype) {
    case DAMACY_BOOL:
        EACH(to[i] = source[i] != 0);
    case DAMACY_U8:
        EACH(to[i] = source[i]);
    case DAMACY_I8:
        EACH(to[i] = (int8_t)source[i]);
    case DAMACY_U16:
        EACH(to[i] = get16(source + 2 * i, swap));
    case DAMACY_I16:
        EACH(to[i] = (int16_t)get16(source + 2 * i, swap));
    case DAMACY_U32:
        EACH(to[i] = get32(source + 4 * i, swap));
    case DAMACY_I32:
        EACH(to[i] = (int32_t)get32(source + 4 * i, swap));
    case DAMACY_U64:
        EACH(to[i] = (double)get64(source + 8 * i, swap));
    case DAMACY_I64:
        EACH(to[i] = (double)(int64_t)get64(source + 8 * i, swap));
    case DAMACY_F16:
        EACH(to[i] = dmc_half_to_double(get16(source + 2 * i, swap)));
    case DAMACY_BF16:
        EACH(to[i] = float_of_bits((uint32_t)get16(source + 2 * i, swap) << 16));
    case DAMACY_F32:
        EACH(to[i] = float_of_bits(get32(source + 4 * i, swap)));
    default:
        EACH(to[i] = double_of_bits(get64(source + 8 * i, swap)));
    }
}

void dmc_element_store_double(struct dmc_element_type type, const double *from, size_t count, uint8_t *target)
{
    bool swap = type.swap;
    switch (type.dtype) {
    case DAMACY_BOOL:
        EACH(target[i] = from[i] != 0);
    case DAMACY_U8:
    case DAMACY_I8:
        EACH(target[i] = (uint8_t)to_i32(from[i]));
    case DAMACY_U16:
    case DAMACY_I16:
        EACH(put16(target + 2 * i, (uint16_t)to_i32(from[i]), swap));
    case DAMACY_U32:
        EACH(put32(target + 4 * i, (uint32_t)to_i64(from[i]), swap));
    case DAMACY_I32:
        EACH(put32(target + 4 * i, (uint32_t)to_i32(from[i]), swap));
    case DAMACY_U64:
        EACH(put64(target + 8 * i, to_u64(from[i]), swap));
    case DAMACY_I64:
        EACH(put64(target + 8 * i, (uint64_t)to_i64(from[i]), swap));
    case DAMACY_F16:
        EACH(put16(target + 2 * i, dmc_double_to_half(from[i]), swap));
    case DAMACY_F32:
        EACH(put32(target + 4 * i, bits_of_float((float)from[i]), swap));
    default:
        EACH(put64(target + 8 * i, bits_of_double(from[i]), swap));
    }
}

/* Rounded once to a float, as numpy does also on the way to a half. */
static inline float float_of_integer(uint64_t value, bool is_signed)
{
    return is_signed ? (float)(int64_t)value : (float)value;
}

void dmc_element_store_integer(struct dmc_element_type type, const uint64_t *from, bool is_signed, size_t count,
                               uint8_t *target)
{
    bool swap = type.swap;
    switch (type.dtype) {
    case DAMACY_BOOL:
        EACH(target[i] = from[i] != 0);
    case DAMACY_U8:
    case DAMACY_I8:
        EACH(target[i] = (uint8_t)from[i]);
    case DAMACY_U16:
    case DAMACY_I16:
        EACH(put16(target + 2 * i, (uint16_t)from[i], swap));
    case DAMACY_U32:
    case DAMACY_I32:
        EACH(put32(target + 4 * i, (uint32_t)from[i], swap));
    case DAMACY_F16:
        EACH(put16(target + 2 * i, dmc_double_to_half(float_of_integer(from[i], is_signed)), swap));
    case DAMACY_F32:
        EACH(put32(target + 4 * i, bits_of_float(float_of_integer(from[i], is_signed)), swap));
    case DAMACY_F64:
        EACH(put64(target + 8 * i, bits_of_double(is_signed ? (double)(int64_t)from[i] : (double)from[i]), swap));
    default:
        EACH(put64(target + 8 * i, from[i], swap));
    }
}
