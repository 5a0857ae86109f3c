/* transpose: axis i of the encoded chunk is axis order[i] of what came before. Not executed as a rule: it becomes the chain's
 * strides. Only below a codec for which the order of elements counts it is a step. */
#include "codec/codec_impl.h"
#include <stdio.h>

struct transpose_config {
    uint32_t rank;
    uint32_t item_bytes;
    uint64_t extents[DAMACY_RANK_MAX + 1];       /* of the decoded side */
    int64_t target_strides[DAMACY_RANK_MAX + 1]; /* in bytes */
    int64_t source_strides[DAMACY_RANK_MAX + 1];
};

static enum damacy_status transpose_decode(struct dmc_codec_context *context, struct dmc_codec_job *job,
                                           struct damacy_error *error)
{
    const struct transpose_config *config = job->config;
    (void)context;
    (void)error;
    dmc_codec_box_copy(config->rank, config->extents, config->item_bytes, false, job->target, config->target_strides,
                       job->source, config->source_strides);
    job->decoded_bytes = job->source_bytes;
    return DAMACY_OK;
}

static const struct dmc_codec_ops transpose_step_ops = {
    .name = "transpose",
    .fixed_size = true,
    .shaped = true,
    .encoded_bytes = dmc_codec_same_bytes,
    .decode = transpose_decode,
};

/* `order` of the build's rank from "C", "F" (older writers) or a list; false if it is no permutation. */
static bool order_read(const struct dmc_codec_build *build, dmc_json *value, uint8_t *order)
{
    const char *text = NULL;
    uint32_t rank = build->rank, all = rank + build->trail; /* those of the trail stay where they are */
    if (dmc_json_string(value, &text, NULL)) {
        bool reversed = strcmp(text, "F") == 0;
        if (!reversed && strcmp(text, "C") != 0)
            return false;
        for (uint32_t i = 0; i < rank; i++)
            order[i] = (uint8_t)(reversed ? rank - 1 - i : i);
        return true;
    }
    if (dmc_json_type(value) != DMC_JSON_ARRAY || dmc_json_count(value) != all)
        return false;
    uint64_t seen = 0; /* a bit for each axis; rank is at most 32 */
    for (uint32_t i = 0; i < all; i++) {
        uint64_t axis = 0;
        if (!dmc_json_u64(dmc_json_at(value, i), &axis) || axis >= all || (seen >> axis & 1) || (i >= rank && axis != i))
            return false;
        seen |= UINT64_C(1) << axis;
        if (i < rank)
            order[i] = (uint8_t)axis;
    }
    return true;
}

static enum damacy_status step_add(struct dmc_codec_build *build, const uint8_t *order, struct damacy_error *error)
{
    struct transpose_config config = {.rank = build->rank, .item_bytes = build->type.bytes};
    int64_t target_stride = build->type.bytes;
    int64_t source_stride = target_stride;
    for (uint32_t i = build->rank; i-- > 0;) {
        config.extents[i] = build->shape[i];
        config.target_strides[i] = target_stride;
        config.source_strides[order[i]] = source_stride;
        target_stride *= (int64_t)build->shape[i];
        source_stride *= (int64_t)build->shape[order[i]];
    }
    return dmc_codec_step_add(build, &transpose_step_ops, &config, sizeof config, error);
}

static enum damacy_status transpose_configure(struct dmc_codec_build *build, dmc_json *configuration,
                                              struct damacy_error *error)
{
    uint8_t order[DAMACY_RANK_MAX + 1];
    uint8_t axes[DAMACY_RANK_MAX + 1];
    uint64_t shape[DAMACY_RANK_MAX + 1];
    dmc_json *value = dmc_json_get(configuration, "order");
    if (!order_read(build, value, order)) {
        char expected[96];
        snprintf(expected, sizeof expected, "a permutation of the %u axes, \"C\" or \"F\"", build->rank);
        return dmc_codec_config_error(error, build->name, "order", expected, value);
    }
    if (build->arranged) {
        enum damacy_status status = step_add(build, order, error);
        if (status)
            return status;
    }
    for (uint32_t i = 0; i < build->rank; i++) {
        axes[i] = build->axes[order[i]];
        shape[i] = build->shape[order[i]];
    }
    if (!build->arranged)
        memcpy(build->axes, axes, build->rank);
    memcpy(build->shape, shape, build->rank * sizeof shape[0]);
    return DAMACY_OK;
}

const struct dmc_codec_ops dmc_codec_transpose_ops = {
    .name = "transpose",
    .configure = transpose_configure,
    .configures_steps = true,
};
