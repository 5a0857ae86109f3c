/* A codec as metadata name it: what src/zarr hands to src/codec, which do not know each other. */
#ifndef DMC_BASE_CODEC_DESC_H
#define DMC_BASE_CODEC_DESC_H

struct dmc_codec_desc {
    const char *name;          /* as in the metadata, e.g. "zstd" */
    const char *configuration; /* JSON text of the configuration object; NULL where there is none */
};

#endif
