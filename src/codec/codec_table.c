/* The codecs that this build knows. A new one is a file and a line here. */
#include "codec/codec_impl.h"

#define AA DMC_CODEC_ARRAY_ARRAY
#define AB DMC_CODEC_ARRAY_BYTES
#define BB DMC_CODEC_BYTES_BYTES

extern const struct dmc_codec_ops dmc_codec_bytes_ops, dmc_codec_transpose_ops, dmc_codec_zstd_ops, dmc_codec_gzip_ops,
    dmc_codec_blosc_ops, dmc_codec_crc32c_ops, dmc_codec_lz4_ops, dmc_codec_zlib_ops, dmc_codec_bz2_ops, dmc_codec_lzma_ops,
    dmc_codec_crc32_ops, dmc_codec_numcodecs_crc32c_ops, dmc_codec_adler32_ops, dmc_codec_fletcher32_ops, dmc_codec_lookup3_ops,
    dmc_codec_shuffle_ops, dmc_codec_delta_ops, dmc_codec_fixedscaleoffset_ops, dmc_codec_quantize_ops, dmc_codec_bitround_ops,
    dmc_codec_astype_ops, dmc_codec_packbits_bool_ops, dmc_codec_packbits_ops, dmc_codec_scale_offset_ops,
    dmc_codec_cast_value_ops, dmc_codec_sharding_ops, dmc_codec_member_ops, dmc_codec_widen_ops;

static const char array_array[] = "array -> array", array_bytes[] = "array -> bytes", bytes_bytes[] = "bytes -> bytes";
static const char filter[] = "array -> array (v3), bytes -> bytes (v2)";

/* Before 0.20 zarrs named what had no registered name by a uri. */
#define ZARRS "https://codec.zarrs.dev/"

#define READ DMC_CODEC_READ
#define REFUSED DMC_CODEC_REFUSED
#define NEVER DMC_CODEC_NEVER
#ifdef DMC_HAVE_BZ2
#define BZ2_STATE READ, "", &dmc_codec_bz2_ops
#else
#define BZ2_STATE DMC_CODEC_LACKING, "libbz2 was not there when it was made", NULL
#endif
#ifdef DMC_HAVE_LZMA
#define LZMA_STATE READ, "formats xz, alone and raw", &dmc_codec_lzma_ops
#else
#define LZMA_STATE DMC_CODEC_LACKING, "liblzma was not there when it was made", NULL
#endif
static const char no_objects[] = "strings and objects are no numbers", is_image[] = "images need decoders of their own",
                  no_library[] = "there is no C library for it", not_built_in[] = "it is not built in";

static const struct dmc_codec_info codec_table[] = {
    {"bytes", {"endian"}, array_bytes, "damacy", READ, "assemble swaps bytes while it copies", &dmc_codec_bytes_ops, AB},
    {"transpose",
     {NULL},
     array_array,
     "damacy",
     READ,
     "folded into strides where nothing above depends on the order",
     &dmc_codec_transpose_ops,
     AA},
    {"zstd", {"numcodecs.zstd"}, bytes_bytes, "libzstd", READ, "without dictionaries", &dmc_codec_zstd_ops, BB},
    {"gzip", {"numcodecs.gzip"}, bytes_bytes, "libdeflate", READ, "", &dmc_codec_gzip_ops, BB},
    {"blosc",
     {"numcodecs.blosc"},
     bytes_bytes,
     "damacy, c-blosc",
     READ,
     "blosclz, lz4, lz4hc, snappy, zlib, zstd; all shuffles",
     &dmc_codec_blosc_ops,
     BB},
    {"crc32c", {NULL}, bytes_bytes, "isa-l", READ, "", &dmc_codec_crc32c_ops, BB},
    {"sharding_indexed",
     {NULL},
     array_bytes,
     "damacy",
     READ,
     "outermost as a level of the grid; nested up to four deep",
     &dmc_codec_sharding_ops,
     AB},
    {"lz4",
     {"numcodecs.lz4"},
     bytes_bytes,
     "liblz4",
     READ,
     "a block behind its size, as numcodecs writes it",
     &dmc_codec_lz4_ops,
     BB},
    {"zlib", {"numcodecs.zlib"}, bytes_bytes, "libdeflate", READ, "", &dmc_codec_zlib_ops, BB},
    {"bz2", {"numcodecs.bz2", ZARRS "bytes_to_bytes/bz2"}, bytes_bytes, "libbz2", BZ2_STATE, BB},
    {"lzma", {"numcodecs.lzma", "xz"}, bytes_bytes, "liblzma", LZMA_STATE, BB},
    {"numcodecs.crc32c", {NULL}, bytes_bytes, "isa-l", READ, "at the start or the end", &dmc_codec_numcodecs_crc32c_ops, BB},
    {"numcodecs.crc32", {"crc32"}, bytes_bytes, "libdeflate", READ, "at the start or the end", &dmc_codec_crc32_ops, BB},
    {"numcodecs.adler32", {"adler32"}, bytes_bytes, "libdeflate", READ, "at the start or the end", &dmc_codec_adler32_ops, BB},
    {"numcodecs.fletcher32",
     {"fletcher32", ZARRS "bytes_to_bytes/fletcher32"},
     bytes_bytes,
     "damacy",
     READ,
     "",
     &dmc_codec_fletcher32_ops,
     BB},
    {"numcodecs.jenkins_lookup3",
     {"jenkins_lookup3"},
     bytes_bytes,
     "damacy",
     READ,
     "without prefix",
     &dmc_codec_lookup3_ops,
     BB},
    {"shuffle", {"numcodecs.shuffle"}, bytes_bytes, "damacy", READ, "", &dmc_codec_shuffle_ops, BB},
    {"numcodecs.delta", {"delta"}, filter, "damacy", READ, "integers and floats", &dmc_codec_delta_ops, AA | BB},
    {"numcodecs.fixedscaleoffset", {"fixedscaleoffset"}, filter, "damacy", READ, "", &dmc_codec_fixedscaleoffset_ops, AA | BB},
    {"numcodecs.quantize",
     {"quantize"},
     filter,
     "damacy",
     READ,
     "nothing to undo but a change of type",
     &dmc_codec_quantize_ops,
     AA | BB},
    {"bitround",
     {"numcodecs.bitround", "zarrs.bitround", ZARRS "array_to_array/bitround"},
     filter,
     "damacy",
     READ,
     "nothing to undo",
     &dmc_codec_bitround_ops,
     AA | BB},
    {"numcodecs.astype", {"astype"}, filter, "damacy", READ, "bool, integers and floats", &dmc_codec_astype_ops, AA | BB},
    {"numcodecs.packbits", {NULL}, filter, "damacy", READ, "", &dmc_codec_packbits_bool_ops, AA | BB},
    {"packbits", {NULL}, array_bytes, "damacy", READ, "elements of up to 64 bits", &dmc_codec_packbits_ops, AB},
    {"scale_offset", {NULL}, array_array, "damacy", READ, "", &dmc_codec_scale_offset_ops, AA},
    {"cast_value",
     {NULL},
     array_array,
     "damacy",
     READ,
     "integers and floats, without scalar_map",
     &dmc_codec_cast_value_ops,
     AA},
    {"damacy.member",
     {NULL},
     array_array,
     "damacy",
     READ,
     "made by damacy: a member of a structured dtype",
     &dmc_codec_member_ops,
     AA},
    {"damacy.widen", {NULL}, array_array, "damacy", READ, "made by damacy: types of few bits", &dmc_codec_widen_ops, AA},
    {"numcodecs.pcodec", {"pcodec", "pco", ZARRS "array_to_bytes/pcodec"}, array_bytes, "", REFUSED, no_library, NULL, AB},
    {"numcodecs.zfpy",
     {"zfpy", "zfp", "zarrs.zfp", ZARRS "array_to_bytes/zfp"},
     array_bytes,
     "",
     REFUSED,
     not_built_in,
     NULL,
     AB},
    {"numcodecs.vlen-utf8", {"vlen-utf8", "numcodecs.vlen-bytes", "vlen-bytes"}, array_bytes, "", NEVER, no_objects, NULL, AB},
    {"numcodecs.vlen-array", {"vlen-array"}, array_bytes, "", NEVER, no_objects, NULL, AB},
    {"numcodecs.pickle", {"pickle"}, array_bytes, "", NEVER, no_objects, NULL, AB},
    {"numcodecs.json2", {"numcodecs.json", "json2", "json"}, array_bytes, "", NEVER, no_objects, NULL, AB},
    {"numcodecs.msgpack2", {"numcodecs.msgpack", "msgpack2", "msgpack"}, array_bytes, "", NEVER, no_objects, NULL, AB},
    {"numcodecs.categorize", {"categorize"}, filter, "", NEVER, no_objects, NULL, AA},
    {"numcodecs.base64", {"base64"}, filter, "", REFUSED, not_built_in, NULL, BB},
    {"numcodecs.n5_wrapper",
     {"n5_default", "n5_wrapper", "n5_varlen"},
     array_bytes,
     "",
     REFUSED,
     "chunks of N5 have headers of their own",
     NULL,
     AB},
    {"gdeflate",
     {"zarrs.gdeflate", "numcodecs.gdeflate", ZARRS "bytes_to_bytes/gdeflate"},
     bytes_bytes,
     "",
     REFUSED,
     "libdeflate does not decode its tiles",
     NULL,
     BB},
    {"jpeg", {"imagecodecs_jpeg", "numcodecs.imagecodecs_jpeg"}, array_bytes, "", REFUSED, is_image, NULL, AB},
    {"jpegxl", {"imagecodecs_jpegxl", "numcodecs.imagecodecs_jpegxl"}, array_bytes, "", REFUSED, is_image, NULL, AB},
    {"jpeg2k", {"imagecodecs_jpeg2k", "numcodecs.imagecodecs_jpeg2k"}, array_bytes, "", REFUSED, is_image, NULL, AB},
    {"png", {"imagecodecs_png", "numcodecs.imagecodecs_png"}, array_bytes, "", REFUSED, is_image, NULL, AB},
    {"webp", {"imagecodecs_webp", "numcodecs.imagecodecs_webp"}, array_bytes, "", REFUSED, is_image, NULL, AB},
    {"reshape", {NULL}, array_array, "", NEVER, "chunks keep the axes of their array here", NULL, AA},
    {"optional", {NULL}, array_bytes, "", NEVER, "missing values are no numbers", NULL, AB},
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
    for (size_t i = 0; i < CODEC_COUNT; i++) {
        if (codec_table[i].ops && index-- == 0)
            return codec_table[i].name;
    }
    return NULL;
}
