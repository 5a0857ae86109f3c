#include "../cuda_decoder.h"

#include <string.h>

const struct dmc_cuda_codec dmc_cuda_codecs[] = {
    {"zstd", DMC_CUDA_ZSTD, "without dictionaries"},
    {"blosc", DMC_CUDA_BLOSC, "zstd, lz4 and lz4hc inside; all shuffles"},
    {0},
};

const struct dmc_cuda_codec *dmc_cuda_codec_find(const char *codec)
{
    for (const struct dmc_cuda_codec *row = dmc_cuda_codecs; row->codec; row++)
        if (strcmp(row->codec, codec) == 0)
            return row;
    return NULL;
}
