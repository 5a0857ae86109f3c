/* numcodecs.shuffle: all first bytes of the elements, all second bytes, and so on; blosc's byte shuffle of one block. */
#include "codec/codec_impl.h"
#include "codec/unshuffle.h"

/* blosc's limit is 255, and no element that we deliver has more than 8; records may be longer. */
#define ELEMENT_BYTES_MAX DMC_UNSHUFFLE_TYPESIZE_MAX

static enum damacy_status shuffle_decode(struct dmc_codec_context *context, struct dmc_codec_job *job,
                                         struct damacy_error *error)
{
    uint32_t item = *(const uint32_t *)job->config;
    const uint8_t *planes[ELEMENT_BYTES_MAX];
    (void)context;
    enum damacy_status status = dmc_codec_job_done(job, "shuffle", job->source_bytes, error);
    if (status)
        return status;
    if (job->source_bytes % item)
        return dmc_error_set(error, DAMACY_DECODE, "decode", "shuffle: %llu bytes are no whole number of elements of %u",
                             (unsigned long long)job->source_bytes, item);
    uint64_t count = job->source_bytes / item, begin = job->need_begin / item;
    uint64_t end = dmc_min_u64(dmc_ceil_div(job->need_end, item), count);
    for (uint32_t b = 0; b < item; b++)
        planes[b] = job->source + b * count;
    if (begin < end)
        dmc_unshuffle_best()->bytes(planes, item, begin, end, job->target);
    return DAMACY_OK;
}

static const struct dmc_codec_ops shuffle_step_ops = {
    .name = "shuffle",
    .partial = true,
    .fixed_size = true,
    .encoded_bytes = dmc_codec_same_bytes,
    .decode = shuffle_decode,
};

static enum damacy_status shuffle_configure(struct dmc_codec_build *build, dmc_json *configuration, struct damacy_error *error)
{
    /* zarr-python fills in the size of the array's elements where it is missing; v2 always says it. */
    dmc_json *value = dmc_json_get(configuration, "elementsize");
    uint64_t bytes = build->type.bytes;
    if (dmc_json_type(value) != DMC_JSON_NULL && !dmc_json_u64(value, &bytes))
        return dmc_codec_config_error(error, build->name, "elementsize", "a number of bytes", value);
    if (bytes > ELEMENT_BYTES_MAX)
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "codec '%s': elements of more than %d bytes are not read",
                             build->name, ELEMENT_BYTES_MAX);
    if (bytes <= 1)
        return DAMACY_OK;
    const uint32_t item = (uint32_t)bytes;
    return dmc_codec_step_add(build, &shuffle_step_ops, &item, sizeof item, error);
}

const struct dmc_codec_ops dmc_codec_shuffle_ops = {
    .name = "shuffle",
    .configure = shuffle_configure,
    .configures_steps = true,
};
