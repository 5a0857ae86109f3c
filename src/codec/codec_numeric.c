/* Codecs that compute with elements, one by one or in a row: astype, quantize, bitround, delta, fixedscaleoffset as numcodecs
 * defines them, and scale_offset and cast_value of zarr-extensions.
 *
 * numcodecs' filters say what the elements are: in v2 they stand behind `bytes` and see bytes, so the byte order that their
 * type strings say is that of the bytes. In v3 they stand before `bytes` and get elements; there only the kind and size of a
 * type count. Results are those of numpy (2.x, where it differs from 1.x), to the bit; tests/data/codec_vectors.py asks
 * it. */
#include "base/dtype.h"
#include "codec/codec_impl.h"
#include "codec/element_type.h"
#include <float.h>
#include <math.h>
#include <stdio.h>

enum rounding { NEAREST_EVEN, TOWARDS_ZERO, TOWARDS_POSITIVE, TOWARDS_NEGATIVE, NEAREST_AWAY };
enum out_of_range { RANGE_ERROR, RANGE_CLAMP, RANGE_WRAP };

struct numeric_config {
    struct dmc_element_type in, out; /* stored and decoded */
    uint32_t in_bytes, out_bytes;
    enum damacy_dtype work; /* delta: of the running sum; scales: of the arithmetic */
    double scale, offset;
    int64_t integer_scale, integer_offset;
    enum rounding rounding;
    enum out_of_range out_of_range;
};

union block {
    double numbers[DMC_ELEMENT_BLOCK];
    uint64_t integers[DMC_ELEMENT_BLOCK];
};

/* ---- what all share ---- */

static uint64_t numeric_encoded_bytes(const void *data, uint64_t decoded_bytes)
{
    const struct numeric_config *config = data;
    uint64_t bytes;
    return dmc_mul_u64(decoded_bytes / config->out_bytes, config->in_bytes, &bytes) ? bytes : UINT64_MAX;
}

static void numeric_need(const void *data, uint64_t *begin, uint64_t *end)
{
    const struct numeric_config *config = data;
    *begin = *begin / config->out_bytes * config->in_bytes;
    *end = dmc_ceil_div(*end, config->out_bytes) * config->in_bytes;
}

/* Elements of a job: those that are needed. */
struct span {
    uint64_t begin, end;
};

static enum damacy_status job_span(struct dmc_codec_job *job, const char *name, struct span *span, struct damacy_error *error)
{
    const struct numeric_config *config = job->config;
    uint64_t count = job->source_bytes / config->in_bytes, bytes = 0;
    if (job->source_bytes % config->in_bytes)
        return dmc_error_set(error, DAMACY_DECODE, "decode", "%s: %llu bytes are no whole number of elements of %u", name,
                             (unsigned long long)job->source_bytes, config->in_bytes);
    if (!dmc_mul_u64(count, config->out_bytes, &bytes))
        bytes = UINT64_MAX;
    enum damacy_status status = dmc_codec_job_done(job, name, bytes, error);
    span->begin = job->need_begin / config->out_bytes;
    span->end = dmc_min_u64(dmc_ceil_div(job->need_end, config->out_bytes), count);
    return status;
}

static size_t block_count(const struct span *span, uint64_t at)
{
    return (size_t)dmc_min_u64(span->end - at, DMC_ELEMENT_BLOCK);
}

/* A type member of numcodecs; `fallback` where it may be missing. */
static enum damacy_status type_read(const struct dmc_codec_build *build, dmc_json *configuration, const char *member,
                                    const struct dmc_element_type *fallback, struct dmc_element_type *type,
                                    struct damacy_error *error)
{
    dmc_json *value = dmc_json_get(configuration, member);
    const char *text = NULL;
    if (dmc_json_type(value) == DMC_JSON_NULL && fallback) {
        *type = *fallback;
        return DAMACY_OK;
    }
    if (!dmc_json_string(value, &text, NULL))
        return dmc_codec_config_error(error, build->name, member, "a numpy type as text, e.g. \"<f4\"", value);
    if (!dmc_element_type_numpy(text, type)) {
        dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "codec '%s': type '%.64s' of its member '%s' is not read",
                      build->name, text, member);
        dmc_error_hint(error, "bool, integers and floats of 16, 32 and 64 bits are");
        return DAMACY_UNSUPPORTED;
    }
    if (!build->serializer)
        type->swap = false;
    return DAMACY_OK;
}

/* What elements are where a codec does not say it; NULL where that is not known. */
static const struct dmc_element_type *type_around(const struct dmc_codec_build *build, struct dmc_element_type *type)
{
    *type = (struct dmc_element_type){build->type.dtype, build->serializer && build->swap && build->type.bytes > 1};
    return build->type.dtype == DAMACY_NATIVE || build->type.dtype == DAMACY_BF16 ? NULL : type;
}

/* Append the step; config's `in` and `out` are set. */
static enum damacy_status numeric_add(struct dmc_codec_build *build, const struct dmc_codec_ops *ops,
                                      struct numeric_config *config, struct damacy_error *error)
{
    config->in_bytes = (uint32_t)damacy_dtype_bytes(config->in.dtype);
    config->out_bytes = (uint32_t)damacy_dtype_bytes(config->out.dtype);
    if (!build->serializer && config->out_bytes != build->type.bytes)
        return dmc_error_set(error, DAMACY_DECODE, "metadata",
                             "codec '%s': it gives elements of %u bytes, but those before it have %u", build->name,
                             config->out_bytes, build->type.bytes);
    if (build->exact && build->bytes % config->out_bytes)
        return dmc_error_set(error, DAMACY_DECODE, "metadata",
                             "codec '%s': a chunk of %llu bytes is no whole number of its elements of %u", build->name,
                             (unsigned long long)build->bytes, config->out_bytes);
    dmc_codec_build_computes(build);
    build->type = (struct dmc_codec_type){.dtype = config->in.dtype,
                                          .bytes = config->in_bytes,
                                          .bits = config->in.dtype == DAMACY_BOOL ? 1 : 8 * config->in_bytes,
                                          .is_signed = dmc_element_is_signed(config->in.dtype)};
    return dmc_codec_step_add(build, ops, config, sizeof *config, error);
}

/* ---- astype, quantize, bitround ---- */

static enum damacy_status convert_decode(struct dmc_codec_context *context, struct dmc_codec_job *job,
                                         struct damacy_error *error)
{
    const struct numeric_config *config = job->config;
    union block block;
    struct span span = {0, 0};
    (void)context;
    enum damacy_status status = job_span(job, "astype", &span, error);
    for (uint64_t at = span.begin; !status && at < span.end; at += DMC_ELEMENT_BLOCK) {
        const uint8_t *source = job->source + at * config->in_bytes;
        uint8_t *target = job->target + at * config->out_bytes;
        size_t count = block_count(&span, at);
        if (dmc_element_is_integer(config->in.dtype)) {
            dmc_element_load_integer(config->in, source, count, block.integers);
            dmc_element_store_integer(config->out, block.integers, dmc_element_is_signed(config->in.dtype), count, target);
        } else {
            dmc_element_load_double(config->in, source, count, block.numbers);
            dmc_element_store_double(config->out, block.numbers, count, target);
        }
    }
    return status;
}

static const struct dmc_codec_ops convert_step_ops = {
    .name = "astype",
    .partial = true,
    .fixed_size = true,
    .encoded_bytes = numeric_encoded_bytes,
    .need = numeric_need,
    .decode = convert_decode,
};

static enum damacy_status convert_add(struct dmc_codec_build *build, struct numeric_config *config, struct damacy_error *error)
{
    if (config->in.dtype == config->out.dtype && config->in.swap == config->out.swap)
        return DAMACY_OK;
    return numeric_add(build, &convert_step_ops, config, error);
}

static enum damacy_status astype_configure(struct dmc_codec_build *build, dmc_json *configuration, struct damacy_error *error)
{
    struct numeric_config config = {0};
    struct dmc_element_type around;
    enum damacy_status status = type_read(build, configuration, "encode_dtype", NULL, &config.in, error);
    if (!status)
        status = type_read(build, configuration, "decode_dtype", type_around(build, &around), &config.out, error);
    return status ? status : convert_add(build, &config, error);
}

const struct dmc_codec_ops dmc_codec_astype_ops = {
    .name = "numcodecs.astype",
    .configure = astype_configure,
    .configures_steps = true,
};

/* Lossy in the encoder; here it only says with which type it stored the floats. */
static enum damacy_status quantize_configure(struct dmc_codec_build *build, dmc_json *configuration, struct damacy_error *error)
{
    struct numeric_config config = {0};
    struct dmc_element_type around;
    enum damacy_status status = type_read(build, configuration, "dtype", type_around(build, &around), &config.out, error);
    if (!status)
        status = type_read(build, configuration, "astype", &config.out, &config.in, error);
    if (!status && (!dmc_dtype_is_float(config.in.dtype) || !dmc_dtype_is_float(config.out.dtype)))
        return dmc_codec_config_error(error, build->name, dmc_dtype_is_float(config.out.dtype) ? "astype" : "dtype",
                                      "a type of floats", dmc_json_get(configuration, "dtype"));
    return status ? status : convert_add(build, &config, error);
}

const struct dmc_codec_ops dmc_codec_quantize_ops = {
    .name = "numcodecs.quantize",
    .configure = quantize_configure,
    .configures_steps = true,
};

/* Lossy in the encoder, and nothing to undo. */
const struct dmc_codec_ops dmc_codec_bitround_ops = {
    .name = "bitround",
    .configure = dmc_codec_configure_nothing,
    .configures_steps = true,
};

/* ---- delta ---- */

/* The running sum, in the type that numpy adds the two in, stored as the output type. */
static enum damacy_status delta_decode(struct dmc_codec_context *context, struct dmc_codec_job *job, struct damacy_error *error)
{
    const struct numeric_config *config = job->config;
    union block block;
    struct span span = {0, 0};
    uint64_t integer = 0;
    double number = 0;
    (void)context;
    enum damacy_status status = job_span(job, "delta", &span, error);
    for (uint64_t at = 0; !status && at < span.end; at += DMC_ELEMENT_BLOCK) {
        const uint8_t *source = job->source + at * config->in_bytes;
        uint8_t *target = job->target + at * config->out_bytes;
        size_t count = block_count(&span, at), first = 0;
        if (dmc_element_is_integer(config->work)) {
            dmc_element_load_integer(config->in, source, count, block.integers);
            for (size_t i = 0; i < count; i++)
                block.integers[i] = integer += block.integers[i];
            dmc_element_store_integer(config->out, block.integers, dmc_element_is_signed(config->work), count, target);
            continue;
        }
        dmc_element_load_double(config->in, source, count, block.numbers);
        if (at == 0 && count > 0) { /* the first is no sum: a -0.0 stays one */
            number = block.numbers[0];
            if (config->work == DAMACY_F32)
                number = (float)number;
            else if (config->work == DAMACY_F16)
                number = dmc_half_to_double(dmc_double_to_half(number));
            block.numbers[0] = number;
            first = 1;
        }
        switch (config->work) {
        case DAMACY_F16: /* each sum is rounded to float, then to half */
            for (size_t i = first; i < count; i++) {
                double term = dmc_half_to_double(dmc_double_to_half(block.numbers[i]));
                block.numbers[i] = number = dmc_half_to_double(dmc_double_to_half((float)number + (float)term));
            }
            break;
        case DAMACY_F32:
            for (size_t i = first; i < count; i++)
                block.numbers[i] = number = (float)number + (float)block.numbers[i];
            break;
        default:
            for (size_t i = first; i < count; i++)
                block.numbers[i] = number = number + block.numbers[i];
        }
        dmc_element_store_double(config->out, block.numbers, count, target);
    }
    return status;
}

static void delta_need(const void *data, uint64_t *begin, uint64_t *end)
{
    numeric_need(data, begin, end);
    *begin = 0;
}

static const struct dmc_codec_ops delta_step_ops = {
    .name = "delta",
    .partial = true,
    .fixed_size = true,
    .encoded_bytes = numeric_encoded_bytes,
    .need = delta_need,
    .decode = delta_decode,
};

static enum damacy_status delta_configure(struct dmc_codec_build *build, dmc_json *configuration, struct damacy_error *error)
{
    struct numeric_config config = {0};
    struct dmc_element_type around;
    enum damacy_status status = type_read(build, configuration, "dtype", type_around(build, &around), &config.out, error);
    if (!status)
        status = type_read(build, configuration, "astype", &config.out, &config.in, error);
    if (status)
        return status;
    if (config.out.dtype == DAMACY_BOOL) /* numpy's differences of bools cannot be summed up again */
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "codec '%s': a delta of bool is not read", build->name);
    config.work = dmc_element_promote(config.in.dtype, config.out.dtype);
    build->arranged = build->arranged || !build->serializer;
    return numeric_add(build, &delta_step_ops, &config, error);
}

const struct dmc_codec_ops dmc_codec_delta_ops = {
    .name = "numcodecs.delta",
    .configure = delta_configure,
    .configures_steps = true,
};

/* ---- fixedscaleoffset, scale_offset ---- */

/* value / scale + offset, each operation rounded in the work type. */
static void scale_block(const struct numeric_config *config, double *numbers, size_t count)
{
    double scale = config->scale, offset = config->offset;
    switch (config->work) {
    case DAMACY_F16:
        for (size_t i = 0; i < count; i++) {
            double quotient = dmc_half_to_double(dmc_double_to_half((float)numbers[i] / (float)scale));
            numbers[i] = dmc_half_to_double(dmc_double_to_half((float)quotient + (float)offset));
        }
        break;
    case DAMACY_F32:
        for (size_t i = 0; i < count; i++)
            numbers[i] = (float)numbers[i] / (float)scale + (float)offset;
        break;
    default:
        for (size_t i = 0; i < count; i++)
            numbers[i] = numbers[i] / scale + offset;
    }
}

static enum damacy_status scale_decode(struct dmc_codec_context *context, struct dmc_codec_job *job, struct damacy_error *error)
{
    const struct numeric_config *config = job->config;
    union block block;
    struct span span = {0, 0};
    (void)context;
    enum damacy_status status = job_span(job, "fixedscaleoffset", &span, error);
    for (uint64_t at = span.begin; !status && at < span.end; at += DMC_ELEMENT_BLOCK) {
        size_t count = block_count(&span, at);
        dmc_element_load_double(config->in, job->source + at * config->in_bytes, count, block.numbers);
        scale_block(config, block.numbers, count);
        dmc_element_store_double(config->out, block.numbers, count, job->target + at * config->out_bytes);
    }
    return status;
}

static const struct dmc_codec_ops scale_step_ops = {
    .name = "fixedscaleoffset",
    .partial = true,
    .fixed_size = true,
    .encoded_bytes = numeric_encoded_bytes,
    .need = numeric_need,
    .decode = scale_decode,
};

/* A number of the configuration; `fallback` where it is missing. */
static enum damacy_status number_read(const struct dmc_codec_build *build, dmc_json *configuration, const char *member,
                                      bool required, double *number, struct damacy_error *error)
{
    dmc_json *value = dmc_json_get(configuration, member);
    if (!value && !required)
        return DAMACY_OK;
    if (!dmc_json_f64(value, number))
        return dmc_codec_config_error(error, build->name, member, "a number", value);
    return DAMACY_OK;
}

/* The scale as the work type has it: half and float round it first. */
static double in_work_type(enum damacy_dtype work, double number)
{
    return work == DAMACY_F16   ? dmc_half_to_double(dmc_double_to_half(number))
           : work == DAMACY_F32 ? (double)(float)number
                                : number;
}

static enum damacy_status scale_add(struct dmc_codec_build *build, struct numeric_config *config, struct damacy_error *error)
{
    config->work = dmc_dtype_is_float(config->in.dtype) ? config->in.dtype : DAMACY_F64;
    config->scale = in_work_type(config->work, config->scale);
    config->offset = in_work_type(config->work, config->offset);
    return numeric_add(build, &scale_step_ops, config, error);
}

static enum damacy_status fixedscaleoffset_configure(struct dmc_codec_build *build, dmc_json *configuration,
                                                     struct damacy_error *error)
{
    struct numeric_config config = {0};
    struct dmc_element_type around;
    enum damacy_status status = number_read(build, configuration, "scale", true, &config.scale, error);
    if (!status)
        status = number_read(build, configuration, "offset", true, &config.offset, error);
    if (!status)
        status = type_read(build, configuration, "dtype", type_around(build, &around), &config.out, error);
    if (!status)
        status = type_read(build, configuration, "astype", &config.out, &config.in, error);
    return status ? status : scale_add(build, &config, error);
}

const struct dmc_codec_ops dmc_codec_fixedscaleoffset_ops = {
    .name = "numcodecs.fixedscaleoffset",
    .configure = fixedscaleoffset_configure,
    .configures_steps = true,
};

/* Integers of scale_offset: what was encoded is a multiple of the scale. */
static enum damacy_status integer_scale_decode(struct dmc_codec_context *context, struct dmc_codec_job *job,
                                               struct damacy_error *error)
{
    const struct numeric_config *config = job->config;
    union block block;
    struct span span = {0, 0};
    bool is_signed = dmc_element_is_signed(config->in.dtype);
    (void)context;
    enum damacy_status status = job_span(job, "scale_offset", &span, error);
    for (uint64_t at = span.begin; !status && at < span.end; at += DMC_ELEMENT_BLOCK) {
        size_t count = block_count(&span, at);
        uint64_t scale = (uint64_t)config->integer_scale, remainder = 0;
        dmc_element_load_integer(config->in, job->source + at * config->in_bytes, count, block.integers);
        for (size_t i = 0; i < count && scale != 1; i++) {
            uint64_t value = block.integers[i];
            bool negative = is_signed && ((int64_t)value < 0) != (config->integer_scale < 0);
            uint64_t size = is_signed && (int64_t)value < 0 ? 0 - value : value,
                     by = config->integer_scale < 0 ? 0 - scale : scale;
            remainder |= size % by;
            block.integers[i] = negative ? 0 - size / by : size / by;
        }
        if (remainder)
            return dmc_error_set(error, DAMACY_DECODE, "decode",
                                 "scale_offset: not all elements are multiples of the scale %lld",
                                 (long long)config->integer_scale);
        for (size_t i = 0; i < count; i++)
            block.integers[i] += (uint64_t)config->integer_offset;
        dmc_element_store_integer(config->out, block.integers, is_signed, count, job->target + at * config->out_bytes);
    }
    return status;
}

static const struct dmc_codec_ops integer_scale_step_ops = {
    .name = "scale_offset",
    .partial = true,
    .fixed_size = true,
    .encoded_bytes = numeric_encoded_bytes,
    .need = numeric_need,
    .decode = integer_scale_decode,
};

static enum damacy_status scale_offset_configure(struct dmc_codec_build *build, dmc_json *configuration,
                                                 struct damacy_error *error)
{
    struct numeric_config config = {.scale = 1, .integer_scale = 1};
    enum damacy_dtype dtype = build->type.dtype;
    enum damacy_status status = DAMACY_OK;
    if (dtype == DAMACY_NATIVE || dtype == DAMACY_BF16 || dtype == DAMACY_BOOL)
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "codec '%s' is not read for elements of this type",
                             build->name);
    config.in.dtype = config.out.dtype = dtype;
    if (!dmc_element_is_integer(dtype)) {
        status = number_read(build, configuration, "scale", false, &config.scale, error);
        if (!status)
            status = number_read(build, configuration, "offset", false, &config.offset, error);
        return status ? status : scale_add(build, &config, error);
    }
    dmc_json *scale = dmc_json_get(configuration, "scale"), *offset = dmc_json_get(configuration, "offset");
    if (scale && (!dmc_json_i64(scale, &config.integer_scale) || config.integer_scale == 0))
        return dmc_codec_config_error(error, build->name, "scale", "an integer other than 0", scale);
    if (offset && !dmc_json_i64(offset, &config.integer_offset) && !dmc_json_u64(offset, (uint64_t *)&config.integer_offset))
        return dmc_codec_config_error(error, build->name, "offset", "an integer", offset);
    return numeric_add(build, &integer_scale_step_ops, &config, error);
}

const struct dmc_codec_ops dmc_codec_scale_offset_ops = {
    .name = "scale_offset",
    .configure = scale_offset_configure,
    .configures_steps = true,
};

/* ---- cast_value ---- */

/* Least and greatest value of a type, as doubles that compare right with every double: the greatest of 64 bits is one too far.
 */
struct limits {
    double least, above; /* half-open for integers */
};

static struct limits limits_of(enum damacy_dtype dtype)
{
    int bits = 8 * (int)damacy_dtype_bytes(dtype);
    if (dmc_element_is_signed(dtype))
        return (struct limits){-ldexp(1, bits - 1), ldexp(1, bits - 1)};
    return (struct limits){0, ldexp(1, bits)};
}

static double rounded(double value, enum rounding rounding)
{
    switch (rounding) {
    case TOWARDS_ZERO:
        return trunc(value);
    case TOWARDS_POSITIVE:
        return ceil(value);
    case TOWARDS_NEGATIVE:
        return floor(value);
    case NEAREST_AWAY:
        return round(value);
    default:
        return nearbyint(value); /* the default rounding of this thread: ties to even */
    }
}

/* A float as an integer of the output type, in 64 bits. false: it has none. */
static bool integer_of(const struct numeric_config *config, double value, uint64_t *integer)
{
    const struct limits limits = limits_of(config->out.dtype);
    value = rounded(value, config->rounding);
    if (!(value >= limits.least && value < limits.above)) {
        if (isnan(value) || config->out_of_range == RANGE_ERROR || (isinf(value) && config->out_of_range == RANGE_WRAP))
            return false;
        if (config->out_of_range == RANGE_CLAMP) {
            uint64_t greatest = dmc_element_is_signed(config->out.dtype) ? (uint64_t)INT64_MAX : UINT64_MAX;
            int spare = 64 - 8 * (int)config->out_bytes;
            if (value < limits.least)
                *integer = dmc_element_is_signed(config->out.dtype) ? (uint64_t)(int64_t)limits.least : 0;
            else
                *integer = greatest >> spare;
            return true;
        }
        *integer = (uint64_t)fmod(fabs(value), 0x1p64); /* a multiple of every type's modulus */
        *integer = value < 0 ? 0 - *integer : *integer;
        return true;
    }
    *integer = value < 0 ? (uint64_t)(int64_t)value : (uint64_t)value;
    return true;
}

/* An integer of the input type as one of the output type. */
static bool integer_fits(const struct numeric_config *config, uint64_t *integer)
{
    bool in_signed = dmc_element_is_signed(config->in.dtype), out_signed = dmc_element_is_signed(config->out.dtype);
    int spare = 64 - 8 * (int)config->out_bytes;
    uint64_t greatest = (out_signed ? (uint64_t)INT64_MAX : UINT64_MAX) >> spare;
    bool negative = in_signed && (int64_t)*integer < 0;
    bool low = negative && (!out_signed || (int64_t)*integer < -(int64_t)greatest - 1), high = !negative && *integer > greatest;
    if (!(low || high) || config->out_of_range == RANGE_WRAP)
        return true;
    if (config->out_of_range == RANGE_ERROR)
        return false;
    *integer = high ? greatest : out_signed ? (uint64_t)(-(int64_t)greatest - 1) : 0;
    return true;
}

/* A finite value that became an infinite one. */
static bool float_fits(const struct numeric_config *config, double *value)
{
    double greatest = config->out.dtype == DAMACY_F16 ? 65504.0 : config->out.dtype == DAMACY_F32 ? (double)FLT_MAX : DBL_MAX;
    if (!isfinite(*value) || !isinf(in_work_type(config->out.dtype, *value)))
        return true;
    if (config->out_of_range != RANGE_CLAMP)
        return false;
    *value = *value < 0 ? -greatest : greatest;
    return true;
}

static enum damacy_status cast_decode(struct dmc_codec_context *context, struct dmc_codec_job *job, struct damacy_error *error)
{
    const struct numeric_config *config = job->config;
    union block in, out;
    struct span span = {0, 0};
    bool in_integer = dmc_element_is_integer(config->in.dtype), out_integer = dmc_element_is_integer(config->out.dtype);
    (void)context;
    enum damacy_status status = job_span(job, "cast_value", &span, error);
    for (uint64_t at = span.begin; !status && at < span.end; at += DMC_ELEMENT_BLOCK) {
        const uint8_t *source = job->source + at * config->in_bytes;
        uint8_t *target = job->target + at * config->out_bytes;
        size_t count = block_count(&span, at);
        bool good = true;
        if (in_integer)
            dmc_element_load_integer(config->in, source, count, in.integers);
        else
            dmc_element_load_double(config->in, source, count, in.numbers);
        if (in_integer && out_integer) {
            for (size_t i = 0; i < count; i++)
                good &= integer_fits(config, &in.integers[i]);
        } else if (out_integer) {
            for (size_t i = 0; i < count; i++)
                good &= integer_of(config, in.numbers[i], &out.integers[i]);
        } else if (!in_integer) {
            for (size_t i = 0; i < count; i++)
                good &= float_fits(config, &in.numbers[i]);
        }
        if (!good)
            return dmc_error_set(error, DAMACY_DECODE, "decode", "cast_value: an element is no value of %s",
                                 damacy_dtype_str(config->out.dtype));
        if (out_integer)
            dmc_element_store_integer(config->out, in_integer ? in.integers : out.integers, true, count, target);
        else if (in_integer)
            dmc_element_store_integer(config->out, in.integers, dmc_element_is_signed(config->in.dtype), count, target);
        else
            dmc_element_store_double(config->out, in.numbers, count, target);
    }
    return status;
}

static const struct dmc_codec_ops cast_step_ops = {
    .name = "cast_value",
    .partial = true,
    .fixed_size = true,
    .encoded_bytes = numeric_encoded_bytes,
    .need = numeric_need,
    .decode = cast_decode,
};

/* One of the texts; missing: the first. */
static enum damacy_status choice_read(const struct dmc_codec_build *build, dmc_json *configuration, const char *member,
                                      const char *const *texts, const char *expected, int *choice, struct damacy_error *error)
{
    dmc_json *value = dmc_json_get(configuration, member);
    const char *text = NULL;
    *choice = 0;
    if (!value)
        return DAMACY_OK;
    if (dmc_json_string(value, &text, NULL)) {
        for (int i = 0; texts[i]; i++) {
            *choice = i;
            if (strcmp(texts[i], text) == 0)
                return DAMACY_OK;
        }
    }
    return dmc_codec_config_error(error, build->name, member, expected, value);
}

static enum damacy_status cast_value_configure(struct dmc_codec_build *build, dmc_json *configuration,
                                               struct damacy_error *error)
{
    static const char *const roundings[] = {"nearest-even",     "towards-zero", "towards-positive",
                                            "towards-negative", "nearest-away", NULL};
    static const char *const ranges[] = {"error", "clamp", "wrap", NULL};
    struct numeric_config config = {.out.dtype = build->type.dtype};
    dmc_json *value = dmc_json_get(configuration, "data_type");
    const char *text = NULL;
    int choice = 0;
    if (dmc_json_get(configuration, "scalar_map"))
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "codec '%s': its member 'scalar_map' is not read",
                             build->name);
    if (!dmc_json_string(value, &text, NULL))
        return dmc_codec_config_error(error, build->name, "data_type", "the name of a data type", value);
    if (!dmc_element_type_v3(text, &config.in.dtype) || config.in.dtype == DAMACY_BOOL || config.out.dtype == DAMACY_NATIVE ||
        config.out.dtype == DAMACY_BF16 || config.out.dtype == DAMACY_BOOL)
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "codec '%s': from '%.64s' to %s is not read", build->name,
                             text, damacy_dtype_str(config.out.dtype));
    enum damacy_status status =
        choice_read(build, configuration, "rounding", roundings,
                    "nearest-even, towards-zero, towards-positive, towards-negative or nearest-away", &choice, error);
    config.rounding = (enum rounding)choice;
    if (!status)
        status = choice_read(build, configuration, "out_of_range", ranges, "error, clamp or wrap", &choice, error);
    config.out_of_range = (enum out_of_range)choice;
    return status ? status : numeric_add(build, &cast_step_ops, &config, error);
}

const struct dmc_codec_ops dmc_codec_cast_value_ops = {
    .name = "cast_value",
    .configure = cast_value_configure,
    .configures_steps = true,
};
