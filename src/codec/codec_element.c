/* The two codecs that only src/zarr writes, always first in a list: damacy.member picks a member out of records, damacy.widen
 * turns elements of less than a byte, or of a float that no machine has, into elements of a usual type. */
#include "codec/codec_impl.h"
#include "codec/element_type.h"
#include <math.h>

/* ---- damacy.member ---- */

struct member_config {
    uint32_t record_bytes, offset, item_bytes;
};

static enum damacy_status member_decode(struct dmc_codec_context *context, struct dmc_codec_job *job,
                                        struct damacy_error *error)
{
    const struct member_config *config = job->config;
    uint64_t item = config->item_bytes, record = config->record_bytes, count = job->source_bytes / record, bytes = 0;
    (void)context;
    if (job->source_bytes % record || !dmc_mul_u64(count, item, &bytes))
        return dmc_error_set(error, DAMACY_DECODE, "decode", "%llu bytes are no whole number of records of %llu",
                             (unsigned long long)job->source_bytes, (unsigned long long)record);
    enum damacy_status status = dmc_codec_job_done(job, "records", bytes, error);
    if (status)
        return status;
    uint64_t begin = job->need_begin / item, end = dmc_min_u64(dmc_ceil_div(job->need_end, item), count);
    const uint8_t *source = job->source + begin * record + config->offset;
    uint8_t *target = job->target + begin * item;
    for (uint64_t i = begin; i < end; i++, source += record, target += item) {
        if (item == 4)
            memcpy(target, source, 4);
        else if (item == 8)
            memcpy(target, source, 8);
        else
            memcpy(target, source, item);
    }
    return DAMACY_OK;
}

static uint64_t member_encoded_bytes(const void *data, uint64_t decoded_bytes)
{
    const struct member_config *config = data;
    uint64_t bytes;
    return dmc_mul_u64(decoded_bytes / config->item_bytes, config->record_bytes, &bytes) ? bytes : UINT64_MAX;
}

static void member_need(const void *data, uint64_t *begin, uint64_t *end)
{
    const struct member_config *config = data;
    *begin = *begin / config->item_bytes * config->record_bytes;
    *end = dmc_ceil_div(*end, config->item_bytes) * config->record_bytes;
}

static const struct dmc_codec_ops member_step_ops = {
    .name = "damacy.member",
    .partial = true,
    .fixed_size = true,
    .encoded_bytes = member_encoded_bytes,
    .need = member_need,
    .decode = member_decode,
};

static bool u32_read(dmc_json *configuration, const char *member, uint32_t *number)
{
    uint64_t value;
    if (!dmc_json_u64(dmc_json_get(configuration, member), &value) || value > UINT32_MAX)
        return false;
    *number = (uint32_t)value;
    return true;
}

static enum damacy_status member_configure(struct dmc_codec_build *build, dmc_json *configuration, struct damacy_error *error)
{
    struct member_config config;
    const char *endian = NULL;
    uint64_t elements = 1, wanted;
    if (!u32_read(configuration, "record_bytes", &config.record_bytes) || !u32_read(configuration, "offset", &config.offset) ||
        !u32_read(configuration, "item_bytes", &config.item_bytes) || config.item_bytes == 0 ||
        config.offset > config.record_bytes || config.item_bytes > config.record_bytes - config.offset ||
        config.item_bytes % build->type.bytes)
        return dmc_error_set(error, DAMACY_DECODE, "metadata",
                             "a member of elements of %u bytes does not lie within its record", build->type.bytes);
    if (dmc_json_get(configuration, "endian") && dmc_json_string(dmc_json_get(configuration, "endian"), &endian, NULL)) {
        bool big_machine = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
        build->swap = build->type.bytes > 1 && (strcmp(endian, "big") == 0) != big_machine;
    }
    /* A member of several elements has the array's last axes: they lie inside the record. */
    for (wanted = config.item_bytes / build->type.bytes; elements < wanted && build->rank > 0; build->trail++)
        elements *= build->shape[--build->rank];
    if (elements != wanted || (build->exact && build->bytes % config.item_bytes))
        return dmc_error_set(error, DAMACY_DECODE, "metadata",
                             "a member of %u bytes is not what the last axes of the array say", config.item_bytes);
    build->type = (struct dmc_codec_type){.bytes = config.record_bytes, .bits = 8 * config.record_bytes};
    return dmc_codec_step_add(build, &member_step_ops, &config, sizeof config, error);
}

const struct dmc_codec_ops dmc_codec_member_ops = {
    .name = "damacy.member",
    .configure = member_configure,
    .configures_steps = true,
};

/* ---- damacy.widen ---- */

struct widen_config {
    uint32_t item_bytes;
    uint64_t table[256]; /* the element for each stored byte, in the low bytes */
};

/* A float of a few bits: sign, exponent, mantissa. */
struct small_float {
    const char *name;
    uint8_t exponent_bits, mantissa_bits;
    int16_t bias;
    enum { IEEE, FINITE_NAN, FINITE, UNSIGNED_ZERO, POWERS } kind; /* how the edges are used */
};

static const struct small_float small_floats[] = {
    {"float8_e4m3", 4, 3, 7, IEEE},
    {"float8_e3m4", 3, 4, 3, IEEE},
    {"float8_e5m2", 5, 2, 15, IEEE},
    {"float8_e4m3fn", 4, 3, 7, FINITE_NAN},      /* no infinities; all ones are NaN */
    {"float8_e4m3fnuz", 4, 3, 8, UNSIGNED_ZERO}, /* no infinities; minus zero is NaN */
    {"float8_e5m2fnuz", 5, 2, 16, UNSIGNED_ZERO},
    {"float8_e4m3b11fnuz", 4, 3, 11, UNSIGNED_ZERO},
    {"float8_e8m0fnu", 8, 0, 127, POWERS}, /* powers of two, 255 is NaN */
    {"float6_e2m3fn", 2, 3, 1, FINITE},
    {"float6_e3m2fn", 3, 2, 3, FINITE},
    {"float4_e2m1fn", 2, 1, 1, FINITE},
};

static double small_float_value(const struct small_float *format, uint32_t byte)
{
    if (format->kind == POWERS)
        return byte == 255 ? (double)NAN : ldexp(1, (int)byte - 127);
    uint32_t mantissa = byte & ((1u << format->mantissa_bits) - 1);
    uint32_t exponent = byte >> format->mantissa_bits & ((1u << format->exponent_bits) - 1);
    bool negative = byte >> (format->mantissa_bits + format->exponent_bits) & 1;
    bool top = exponent == (1u << format->exponent_bits) - 1, full = mantissa == (1u << format->mantissa_bits) - 1;
    double sign = negative ? -1 : 1;
    if (format->kind == UNSIGNED_ZERO && negative && exponent == 0 && mantissa == 0)
        return copysign((double)NAN, -1);
    if (format->kind == IEEE && top)
        return mantissa ? copysign((double)NAN, sign) : sign * (double)INFINITY;
    if (format->kind == FINITE_NAN && top && full)
        return copysign((double)NAN, sign);
    double value = exponent ? 1 + ldexp(mantissa, -format->mantissa_bits) : ldexp(mantissa, 1 - format->mantissa_bits);
    return sign * ldexp(value, (int)exponent - format->bias);
}

/* The table, and what stored elements are. false: no such type. */
static bool table_fill(const char *name, struct dmc_element_type out, struct widen_config *config,
                       struct dmc_codec_type *stored)
{
    static const struct {
        const char *name;
        uint8_t bits;
        bool is_signed;
    } integers[] = {{"int2", 2, true},   {"int4", 4, true},   {"uint2", 2, false},
                    {"uint4", 4, false}, {"uint1", 1, false}, {"int1", 1, true}};
    for (size_t f = 0; f < sizeof integers / sizeof integers[0]; f++) {
        uint32_t bits = integers[f].bits;
        if (strcmp(integers[f].name, name) != 0)
            continue;
        *stored = (struct dmc_codec_type){.bytes = 1, .bits = bits, .is_signed = integers[f].is_signed};
        for (uint32_t byte = 0; byte < 256; byte++) { /* the other bits say nothing */
            uint64_t value = byte & ((1u << bits) - 1);
            if (integers[f].is_signed && value >> (bits - 1))
                value |= UINT64_MAX << bits;
            dmc_element_store_integer(out, &value, integers[f].is_signed, 1, (uint8_t *)&config->table[byte]);
        }
        return true;
    }
    for (size_t f = 0; f < sizeof small_floats / sizeof small_floats[0]; f++) {
        const struct small_float *format = &small_floats[f];
        if (strcmp(format->name, name) != 0)
            continue;
        uint32_t bits = format->kind == POWERS ? 8u : 1u + format->exponent_bits + format->mantissa_bits;
        *stored = (struct dmc_codec_type){.bytes = 1, .bits = bits};
        for (uint32_t byte = 0; byte < 256; byte++) {
            double value = small_float_value(format, byte & ((1u << bits) - 1));
            dmc_element_store_double(out, &value, 1, (uint8_t *)&config->table[byte]);
        }
        return true;
    }
    return false;
}

static enum damacy_status widen_decode(struct dmc_codec_context *context, struct dmc_codec_job *job, struct damacy_error *error)
{
    const struct widen_config *config = job->config;
    uint64_t item = config->item_bytes, bytes = 0;
    (void)context;
    if (!dmc_mul_u64(job->source_bytes, item, &bytes))
        bytes = UINT64_MAX;
    enum damacy_status status = dmc_codec_job_done(job, "widen", bytes, error);
    if (status)
        return status;
    uint64_t begin = job->need_begin / item, end = dmc_min_u64(dmc_ceil_div(job->need_end, item), job->source_bytes);
    const uint8_t *source = job->source;
    uint8_t *target = job->target;
    switch (item) {
    case 1:
        for (uint64_t i = begin; i < end; i++)
            memcpy(target + i, &config->table[source[i]], 1);
        break;
    case 2:
        for (uint64_t i = begin; i < end; i++)
            memcpy(target + 2 * i, &config->table[source[i]], 2);
        break;
    case 4:
        for (uint64_t i = begin; i < end; i++)
            memcpy(target + 4 * i, &config->table[source[i]], 4);
        break;
    default:
        for (uint64_t i = begin; i < end; i++)
            memcpy(target + 8 * i, &config->table[source[i]], 8);
    }
    return DAMACY_OK;
}

static uint64_t widen_encoded_bytes(const void *data, uint64_t decoded_bytes)
{
    return decoded_bytes / ((const struct widen_config *)data)->item_bytes;
}

static void widen_need(const void *data, uint64_t *begin, uint64_t *end)
{
    uint32_t item = ((const struct widen_config *)data)->item_bytes;
    *begin = *begin / item;
    *end = dmc_ceil_div(*end, item);
}

static const struct dmc_codec_ops widen_step_ops = {
    .name = "damacy.widen",
    .partial = true,
    .fixed_size = true,
    .encoded_bytes = widen_encoded_bytes,
    .need = widen_need,
    .decode = widen_decode,
};

static enum damacy_status widen_configure(struct dmc_codec_build *build, dmc_json *configuration, struct damacy_error *error)
{
    struct widen_config config = {.item_bytes = build->type.bytes};
    const char *from = NULL;
    if (build->type.dtype == DAMACY_NATIVE || build->type.dtype == DAMACY_BF16)
        return dmc_error_set(error, DAMACY_DECODE, "metadata", "elements cannot be widened to %s",
                             damacy_dtype_str(build->type.dtype));
    if (!dmc_json_string(dmc_json_get(configuration, "from"), &from, NULL) ||
        !table_fill(from, (struct dmc_element_type){build->type.dtype, false}, &config, &build->type))
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "elements of type '%.64s' are not read", from ? from : "");
    return dmc_codec_step_add(build, &widen_step_ops, &config, sizeof config, error);
}

const struct dmc_codec_ops dmc_codec_widen_ops = {
    .name = "damacy.widen",
    .configure = widen_configure,
    .configures_steps = true,
};
