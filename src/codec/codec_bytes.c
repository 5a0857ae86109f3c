/* bytes: elements in C order, in one byte order. Not executed: assemble swaps while it copies. */
#include "codec/codec_impl.h"

static enum damacy_status bytes_configure(struct dmc_codec_draft *draft, dmc_json *configuration, struct damacy_error *error)
{
    dmc_json *value = dmc_json_get(configuration, "endian");
    const char *endian = NULL;
    if (dmc_json_type(value) == DMC_JSON_NULL) {
        /* Missing (or null, as some writers put it) is right where there is no order to speak of. */
        if (damacy_dtype_bytes(draft->dtype) > 1)
            return dmc_codec_config_error(error, "bytes", "endian", "\"little\" or \"big\"", value);
        return DAMACY_OK;
    }
    if (!dmc_json_string(value, &endian, NULL) || (strcmp(endian, "little") != 0 && strcmp(endian, "big") != 0))
        return dmc_codec_config_error(error, "bytes", "endian", "\"little\" or \"big\"", value);
    bool big_machine = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
    draft->swap = damacy_dtype_bytes(draft->dtype) > 1 && (strcmp(endian, "big") == 0) != big_machine;
    return DAMACY_OK;
}

const struct dmc_codec_ops dmc_codec_bytes_ops = {
    .name = "bytes",
    .kind = DMC_CODEC_ARRAY_BYTES,
    .configure = bytes_configure,
};
