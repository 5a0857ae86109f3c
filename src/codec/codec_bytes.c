/* bytes: elements in C order, in one byte order. Not executed as a rule: assemble swaps while it copies. Only below a codec
 * that computes with elements swapping is a step.
 *
 * Elements of which only the bytes count (records, widened types) say by themselves what their order is. */
#include "codec/codec_impl.h"

static enum damacy_status swap_decode(struct dmc_codec_context *context, struct dmc_codec_job *job, struct damacy_error *error)
{
    (void)context;
    (void)error;
    uint32_t item = *(const uint32_t *)job->config;
    uint64_t begin = job->need_begin / item * item, end = dmc_min_u64(dmc_round_up(job->need_end, item), job->source_bytes);
    job->decoded_bytes = job->source_bytes;
    switch (item) {
    case 2:
        for (uint64_t i = begin; i + 2 <= end; i += 2) {
            uint16_t value = __builtin_bswap16(dmc_load_u16le(job->source + i));
            memcpy(job->target + i, &value, 2);
        }
        break;
    case 4:
        for (uint64_t i = begin; i + 4 <= end; i += 4) {
            uint32_t value = __builtin_bswap32(dmc_load_u32le(job->source + i));
            memcpy(job->target + i, &value, 4);
        }
        break;
    default:
        for (uint64_t i = begin; i + 8 <= end; i += 8) {
            uint64_t value = __builtin_bswap64(dmc_load_u64le(job->source + i));
            memcpy(job->target + i, &value, 8);
        }
    }
    return DAMACY_OK;
}

static void swap_need(const void *config, uint64_t *begin, uint64_t *end)
{
    uint32_t item = *(const uint32_t *)config;
    *begin = *begin / item * item;
    *end = dmc_round_up(*end, item);
}

static const struct dmc_codec_ops swap_ops = {
    .name = "byte order",
    .partial = true,
    .fixed_size = true,
    .encoded_bytes = dmc_codec_same_bytes,
    .need = swap_need,
    .decode = swap_decode,
};

static enum damacy_status bytes_configure(struct dmc_codec_build *build, dmc_json *configuration, struct damacy_error *error)
{
    dmc_json *value = dmc_json_get(configuration, "endian");
    const char *endian = NULL;
    if (dmc_json_type(value) == DMC_JSON_NULL) {
        /* Missing (or null, as some writers put it) is right where there is no order to speak of. */
        if (build->type.bytes > 1 && build->type.dtype != DAMACY_NATIVE)
            return dmc_codec_config_error(error, build->name, "endian", "\"little\" or \"big\"", value);
        return DAMACY_OK;
    }
    if (!dmc_json_string(value, &endian, NULL) || (strcmp(endian, "little") != 0 && strcmp(endian, "big") != 0))
        return dmc_codec_config_error(error, build->name, "endian", "\"little\" or \"big\"", value);
    bool big_machine = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
    if (build->type.bytes == 1 || build->type.dtype == DAMACY_NATIVE || (strcmp(endian, "big") == 0) == big_machine)
        return DAMACY_OK;
    if (build->native)
        return dmc_codec_step_add(build, &swap_ops, &build->type.bytes, sizeof build->type.bytes, error);
    build->swap = true;
    return DAMACY_OK;
}

const struct dmc_codec_ops dmc_codec_bytes_ops = {
    .name = "bytes",
    .configure = bytes_configure,
    .configures_steps = true,
};
