#include "../cuda_decoder.h"

#include <string.h>

const struct dmc_cuda_codec dmc_cuda_codecs[] = {
    {"zstd", DMC_CUDA_ZSTD, false, "without dictionaries"},
    {"blosc", DMC_CUDA_BLOSC, false, "zstd, lz4 and lz4hc inside; all shuffles"},
    {"lz4", DMC_CUDA_LZ4_SIZED, false, "all"},
    {"gzip", DMC_CUDA_GZIP, true, "with nvcomp; one member"},
    {"zlib", DMC_CUDA_ZLIB, true, "with nvcomp; without dictionaries"},
    {0},
};

const struct dmc_cuda_codec *dmc_cuda_codec_find(const char *codec)
{
    for (const struct dmc_cuda_codec *row = dmc_cuda_codecs; row->codec; row++)
        if (strcmp(row->codec, codec) == 0)
            return row;
    return NULL;
}
