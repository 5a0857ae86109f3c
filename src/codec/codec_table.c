/* The codecs that this build knows. A new one is a file and a line here. */
#include "codec/codec_impl.h"

#define AA DMC_CODEC_ARRAY_ARRAY
#define AB DMC_CODEC_ARRAY_BYTES
#define BB DMC_CODEC_BYTES_BYTES

extern const struct dmc_codec_ops dmc_codec_bytes_ops, dmc_codec_transpose_ops, dmc_codec_zstd_ops, dmc_codec_gzip_ops,
    dmc_codec_blosc_ops, dmc_codec_crc32c_ops, dmc_codec_lz4_ops, dmc_codec_zlib_ops;

static const struct dmc_codec_info codec_table[] = {
    {"bytes", {"endian"}, "array -> bytes", "damacy", DMC_CODEC_READ, "", &dmc_codec_bytes_ops, AB},
    {"transpose", {NULL}, "array -> array", "damacy", DMC_CODEC_READ, "", &dmc_codec_transpose_ops, AA},
    {"zstd", {"numcodecs.zstd"}, "bytes -> bytes", "libzstd", DMC_CODEC_READ, "", &dmc_codec_zstd_ops, BB},
    {"gzip", {"numcodecs.gzip"}, "bytes -> bytes", "libdeflate", DMC_CODEC_READ, "", &dmc_codec_gzip_ops, BB},
    {"blosc", {"numcodecs.blosc"}, "bytes -> bytes", "damacy", DMC_CODEC_READ, "", &dmc_codec_blosc_ops, BB},
    {"crc32c", {NULL}, "bytes -> bytes", "isa-l", DMC_CODEC_READ, "", &dmc_codec_crc32c_ops, BB},
    {"lz4", {"numcodecs.lz4"}, "bytes -> bytes", "liblz4", DMC_CODEC_READ, "", &dmc_codec_lz4_ops, BB},
    {"zlib", {"numcodecs.zlib"}, "bytes -> bytes", "libdeflate", DMC_CODEC_READ, "", &dmc_codec_zlib_ops, BB},
};
#define CODEC_COUNT (sizeof codec_table / sizeof codec_table[0])

const struct dmc_codec_info *dmc_codec_info_at(uint32_t index)
{
    return index < CODEC_COUNT ? &codec_table[index] : NULL;
}

const struct dmc_codec_info *dmc_codec_info_find(const char *name)
{
    for (size_t i = 0; i < CODEC_COUNT; i++) {
        const struct dmc_codec_info *info = &codec_table[i];
        if (strcmp(info->name, name) == 0)
            return info;
        for (size_t a = 0; a < DMC_CODEC_ALIASES_MAX && info->aliases[a]; a++) {
            if (strcmp(info->aliases[a], name) == 0)
                return info;
        }
    }
    return NULL;
}

const char *dmc_codec_state_str(enum dmc_codec_state state)
{
    return state == DMC_CODEC_READ ? "read" : state == DMC_CODEC_LACKING ? "not in this build" : "refused";
}

const struct dmc_codec_ops *dmc_codec_find(const char *name)
{
    const struct dmc_codec_info *info = dmc_codec_info_find(name);
    return info ? info->ops : NULL;
}

uint32_t dmc_codec_kinds(const char *name)
{
    const struct dmc_codec_info *info = dmc_codec_info_find(name);
    return info ? info->kinds : 0;
}

const char *dmc_codec_name(uint32_t index)
{
    return index < CODEC_COUNT && codec_table[index].ops ? codec_table[index].name : NULL;
}
