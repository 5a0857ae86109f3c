/* transpose: axis i of the encoded chunk is axis order[i] of what came before. Not executed: it becomes the chain's strides. */
#include "codec/codec_impl.h"
#include <stdio.h>

/* `order` of the draft's rank from "C", "F" (older writers) or a list; false if it is no permutation. */
static bool order_read(dmc_json *value, uint32_t rank, uint8_t *order)
{
    const char *text = NULL;
    if (dmc_json_string(value, &text, NULL)) {
        bool reversed = strcmp(text, "F") == 0;
        if (!reversed && strcmp(text, "C") != 0)
            return false;
        for (uint32_t i = 0; i < rank; i++)
            order[i] = (uint8_t)(reversed ? rank - 1 - i : i);
        return true;
    }
    if (dmc_json_type(value) != DMC_JSON_ARRAY || dmc_json_count(value) != rank)
        return false;
    uint64_t seen = 0; /* a bit for each axis; rank is at most 32 */
    for (uint32_t i = 0; i < rank; i++) {
        uint64_t axis = 0;
        if (!dmc_json_u64(dmc_json_at(value, i), &axis) || axis >= rank || (seen >> axis & 1))
            return false;
        seen |= UINT64_C(1) << axis;
        order[i] = (uint8_t)axis;
    }
    return true;
}

static enum damacy_status transpose_configure(struct dmc_codec_draft *draft, dmc_json *configuration,
                                              struct damacy_error *error)
{
    uint8_t order[DAMACY_RANK_MAX + 1];
    uint8_t axes[DAMACY_RANK_MAX + 1];
    dmc_json *value = dmc_json_get(configuration, "order");
    if (!order_read(value, draft->rank, order)) {
        char expected[96];
        snprintf(expected, sizeof expected, "a permutation of the %u axes, \"C\" or \"F\"", draft->rank);
        return dmc_codec_config_error(error, "transpose", "order", expected, value);
    }
    for (uint32_t i = 0; i < draft->rank; i++)
        axes[i] = draft->axes[order[i]];
    memcpy(draft->axes, axes, draft->rank);
    return DAMACY_OK;
}

const struct dmc_codec_ops dmc_codec_transpose_ops = {
    .name = "transpose",
    .kind = DMC_CODEC_ARRAY_ARRAY,
    .configure = transpose_configure,
};
