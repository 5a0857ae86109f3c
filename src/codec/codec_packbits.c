/* Packed bits, of two kinds.
 *
 * numcodecs.packbits: bools, eight a byte, the first in the highest bit; a first byte says how many bits of the last one are
 * padding.
 *
 * packbits of zarr-extensions, in the place of `bytes`: of each element the bits first_bit to last_bit, from the lowest, one
 * behind the other, the first in the lowest bit of a byte; the count of padding bits may stand in front, behind, or nowhere.
 * Decoded elements are in this machine's byte order. */
#include "codec/codec_impl.h"

/* ---- numcodecs.packbits ---- */

static enum damacy_status bools_decode(struct dmc_codec_context *context, struct dmc_codec_job *job, struct damacy_error *error)
{
    (void)context;
    if (job->source_bytes == 0 || job->source[0] > 7 || (job->source_bytes == 1 && job->source[0] > 0))
        return dmc_error_set(error, DAMACY_DECODE, "decode", "packbits: %u padding bits in %llu bytes",
                             job->source_bytes ? job->source[0] : 0, (unsigned long long)job->source_bytes);
    uint64_t count = job->source_bytes - 1 > UINT64_MAX / 8 ? UINT64_MAX : 8 * (job->source_bytes - 1) - job->source[0];
    enum damacy_status status = dmc_codec_job_done(job, "packbits", count, error);
    if (status)
        return status;
    uint64_t end = dmc_min_u64(job->need_end, count);
    for (uint64_t i = job->need_begin; i < end; i++)
        job->target[i] = job->source[1 + i / 8] >> (7 - i % 8) & 1;
    return DAMACY_OK;
}

static uint64_t bools_encoded_bytes(const void *config, uint64_t decoded_bytes)
{
    (void)config;
    return 1 + dmc_ceil_div(decoded_bytes, 8);
}

static void bools_need(const void *config, uint64_t *begin, uint64_t *end)
{
    (void)config;
    *begin = 0; /* the padding counts */
    *end = 1 + dmc_ceil_div(*end, 8);
}

static const struct dmc_codec_ops bools_step_ops = {
    .name = "numcodecs.packbits",
    .partial = true,
    .fixed_size = true,
    .encoded_bytes = bools_encoded_bytes,
    .need = bools_need,
    .decode = bools_decode,
};

static enum damacy_status bools_configure(struct dmc_codec_build *build, dmc_json *configuration, struct damacy_error *error)
{
    (void)configuration;
    if (!build->serializer && build->type.dtype != DAMACY_BOOL)
        return dmc_error_set(error, DAMACY_DECODE, "metadata", "codec '%s' packs bool, but the elements are %s", build->name,
                             damacy_dtype_str(build->type.dtype));
    enum damacy_status status = dmc_codec_step_add(build, &bools_step_ops, NULL, 0, error);
    if (build->serializer)
        return status;
    build->type = (struct dmc_codec_type){.dtype = DAMACY_U8, .bytes = 1, .bits = 8};
    build->arranged = true; /* what follows is a list of bytes */
    build->rank = 1;
    build->trail = 0;
    build->shape[0] = build->bytes;
    return status;
}

const struct dmc_codec_ops dmc_codec_packbits_bool_ops = {
    .name = "numcodecs.packbits",
    .configure = bools_configure,
    .configures_steps = true,
};

/* ---- packbits ---- */

enum padding { PADDING_NONE, PADDING_FIRST, PADDING_LAST };

struct packbits_config {
    uint32_t item_bytes;
    uint32_t first_bit, bits; /* of each element */
    uint64_t signed_fill;     /* what a set last bit puts above it; 0: nothing */
    enum padding padding;
};

static uint64_t packed_bytes(const struct packbits_config *config, uint64_t count)
{
    uint64_t bits;
    return dmc_mul_u64(count, config->bits, &bits) ? dmc_ceil_div(bits, 8) : UINT64_MAX - 1;
}

static uint64_t packbits_encoded_bytes(const void *data, uint64_t decoded_bytes)
{
    const struct packbits_config *config = data;
    return packed_bytes(config, decoded_bytes / config->item_bytes) + (config->padding != PADDING_NONE);
}

static void packbits_need(const void *data, uint64_t *begin, uint64_t *end)
{
    const struct packbits_config *config = data;
    if (config->padding == PADDING_LAST) {
        *begin = 0; /* the count is behind: all of it */
        *end = UINT64_MAX;
        return;
    }
    *begin = 0;
    *end = packed_bytes(config, dmc_ceil_div(*end, config->item_bytes)) + (config->padding == PADDING_FIRST);
}

/* `bits` (1 to 64) from bit `at` on. */
static inline uint64_t bits_load(const uint8_t *data, uint64_t data_bytes, uint64_t at, uint32_t bits)
{
    uint64_t byte = at / 8, low = 0;
    uint32_t shift = at % 8;
    memcpy(&low, data + byte, dmc_min_u64(8, data_bytes - byte));
    low >>= shift;
    if (shift + bits > 64)
        low |= (uint64_t)data[byte + 8] << (64 - shift);
    return bits == 64 ? low : low & ((UINT64_C(1) << bits) - 1);
}

static enum damacy_status packbits_decode(struct dmc_codec_context *context, struct dmc_codec_job *job,
                                          struct damacy_error *error)
{
    const struct packbits_config *config = job->config;
    uint64_t extra = config->padding != PADDING_NONE, count = job->target_bytes / config->item_bytes;
    (void)context;
    /* The number of elements is known from the chunk: nothing but exact sizes come before the codec that makes bytes. */
    uint64_t packed = packed_bytes(config, count);
    if (job->source_bytes != packed + extra)
        return dmc_codec_size_error(error, "packbits", "wrong size", "", packed + extra, job->source_bytes);
    const uint8_t *data = job->source + (config->padding == PADDING_FIRST);
    uint32_t padding = extra ? job->source[config->padding == PADDING_FIRST ? 0 : packed] : 0;
    if (extra && padding != packed * 8 - count * config->bits)
        return dmc_error_set(error, DAMACY_DECODE, "decode", "packbits: %u padding bits are noted, but there are %llu", padding,
                             (unsigned long long)(packed * 8 - count * config->bits));
    enum damacy_status status = dmc_codec_job_done(job, "packbits", count * config->item_bytes, error);
    if (status)
        return status;
    uint64_t begin = job->need_begin / config->item_bytes;
    uint64_t end = dmc_min_u64(dmc_ceil_div(job->need_end, config->item_bytes), count);
    for (uint64_t i = begin; i < end; i++) {
        uint64_t value = bits_load(data, packed, i * config->bits, config->bits);
        if (config->signed_fill && value >> (config->bits - 1))
            value |= config->signed_fill;
        value <<= config->first_bit;
        memcpy(job->target + i * config->item_bytes, &value, config->item_bytes);
    }
    return DAMACY_OK;
}

static const struct dmc_codec_ops packbits_step_ops = {
    .name = "packbits",
    .partial = true,
    .fixed_size = true,
    .encoded_bytes = packbits_encoded_bytes,
    .need = packbits_need,
    .decode = packbits_decode,
};

static enum damacy_status bit_read(const struct dmc_codec_build *build, dmc_json *configuration, const char *member,
                                   uint32_t least, uint32_t *bit, struct damacy_error *error)
{
    dmc_json *value = dmc_json_get(configuration, member);
    uint64_t number;
    if (dmc_json_type(value) == DMC_JSON_NULL)
        return DAMACY_OK;
    if (!dmc_json_u64(value, &number) || number < least || number >= build->type.bits)
        return dmc_codec_config_error(error, build->name, member, "a bit of the elements, last_bit not below first_bit", value);
    *bit = (uint32_t)number;
    return DAMACY_OK;
}

static enum damacy_status packbits_configure(struct dmc_codec_build *build, dmc_json *configuration, struct damacy_error *error)
{
    struct packbits_config config = {.item_bytes = build->type.bytes, .padding = PADDING_NONE};
    dmc_json *padding = dmc_json_get(configuration, "padding_encoding");
    const char *text = NULL;
    uint32_t last_bit = build->type.bits - 1;
    if (build->type.bytes > 8)
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "codec '%s': elements of %u bytes are not read",
                             build->name, build->type.bytes);
    if (padding) {
        bool known = dmc_json_string(padding, &text, NULL);
        if (known && (strcmp(text, "first_byte") == 0 || strcmp(text, "start_byte") == 0))
            config.padding = PADDING_FIRST;
        else if (known && (strcmp(text, "last_byte") == 0 || strcmp(text, "end_byte") == 0))
            config.padding = PADDING_LAST;
        else if (!known || strcmp(text, "none") != 0)
            return dmc_codec_config_error(error, build->name, "padding_encoding", "first_byte, last_byte or none", padding);
    }
    enum damacy_status status = bit_read(build, configuration, "first_bit", 0, &config.first_bit, error);
    if (!status)
        status = bit_read(build, configuration, "last_bit", config.first_bit, &last_bit, error);
    if (status)
        return status;
    config.bits = last_bit - config.first_bit + 1;
    if (build->type.is_signed && config.bits < 64)
        config.signed_fill = UINT64_MAX << config.bits;
    return dmc_codec_step_add(build, &packbits_step_ops, &config, sizeof config, error);
}

const struct dmc_codec_ops dmc_codec_packbits_ops = {
    .name = "packbits",
    .configure = packbits_configure,
    .configures_steps = true,
};
