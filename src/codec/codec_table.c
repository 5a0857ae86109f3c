/* The codecs that this build knows. A new one is a file and a line here. */
#include "codec/codec_impl.h"

static const struct dmc_codec_ops *const codec_table[] = {
    &dmc_codec_bytes_ops, &dmc_codec_transpose_ops, &dmc_codec_zstd_ops,
    &dmc_codec_gzip_ops,  &dmc_codec_blosc_ops,     &dmc_codec_crc32c_ops,
};
#define CODEC_COUNT (sizeof codec_table / sizeof codec_table[0])

const struct dmc_codec_ops *dmc_codec_find(const char *name)
{
    for (size_t i = 0; i < CODEC_COUNT; i++) {
        if (strcmp(codec_table[i]->name, name) == 0)
            return codec_table[i];
    }
    return NULL;
}

const char *dmc_codec_name(uint32_t index)
{
    return index < CODEC_COUNT ? codec_table[index]->name : NULL;
}
