#include "zarr/zarr_tables.h"

#include <string.h>

#define AS_IS(name, v2, dtype, bytes, text)                                                                                    \
    {                                                                                                                          \
        name, v2, DAMACY_##dtype, bytes, 1, DMC_ZARR_AS_IS, text                                                               \
    }
#define PAIR(name, v2, dtype, bytes, text)                                                                                     \
    {                                                                                                                          \
        name, v2, DAMACY_##dtype, bytes, 2, DMC_ZARR_AS_IS, text ", real and imaginary part as a last axis of 2"               \
    }
#define WIDEN(name, dtype, text)                                                                                               \
    {                                                                                                                          \
        name, NULL, DAMACY_##dtype, 1, 1, DMC_ZARR_WIDEN, text                                                                 \
    }
#define REFUSED(name, v2, text)                                                                                                \
    {                                                                                                                          \
        name, v2, DAMACY_NATIVE, 0, 0, DMC_ZARR_REFUSED, text                                                                  \
    }

const struct dmc_zarr_dtype dmc_zarr_dtypes[] = {
    AS_IS("bool", "b1", BOOL, 1, "bool"),
    AS_IS("int8", "i1", I8, 1, "i8"),
    AS_IS("int16", "i2", I16, 2, "i16"),
    AS_IS("int32", "i4", I32, 4, "i32"),
    AS_IS("int64", "i8", I64, 8, "i64"),
    AS_IS("uint8", "u1", U8, 1, "u8"),
    AS_IS("uint16", "u2", U16, 2, "u16"),
    AS_IS("uint32", "u4", U32, 4, "u32"),
    AS_IS("uint64", "u8", U64, 8, "u64"),
    AS_IS("float16", "f2", F16, 2, "f16"),
    AS_IS("float32", "f4", F32, 4, "f32"),
    AS_IS("float64", "f8", F64, 8, "f64"),
    AS_IS("bfloat16", "bfloat16", BF16, 2, "bf16"),
    PAIR("complex64", "c8", F32, 8, "f32"),
    PAIR("complex128", "c16", F64, 16, "f64"),
    PAIR("complex_float16", NULL, F16, 4, "f16"),
    PAIR("complex_bfloat16", NULL, BF16, 4, "bf16"),
    PAIR("complex_float32", NULL, F32, 8, "f32"), /* the registry's name for complex64 */
    PAIR("complex_float64", NULL, F64, 16, "f64"),
    WIDEN("float8_e3m4", F32, "f32"),
    WIDEN("float8_e4m3", F32, "f32"),
    WIDEN("float8_e4m3b11fnuz", F32, "f32"),
    WIDEN("float8_e4m3fn", F32, "f32"),
    WIDEN("float8_e4m3fnuz", F32, "f32"),
    WIDEN("float8_e5m2", F32, "f32"),
    WIDEN("float8_e5m2fnuz", F32, "f32"),
    WIDEN("float8_e8m0fnu", F32, "f32"),
    WIDEN("float4_e2m1fn", F32, "f32"),
    WIDEN("float6_e2m3fn", F32, "f32"),
    WIDEN("float6_e3m2fn", F32, "f32"),
    WIDEN("int2", I8, "i8"),
    WIDEN("int4", I8, "i8"),
    WIDEN("uint2", U8, "u8"),
    WIDEN("uint4", U8, "u8"),
    {"numpy.datetime64", "M8", DAMACY_I64, 8, 1, DMC_ZARR_TIME, "i64: ticks of the dtype's unit since 1970; NaT is -2^63"},
    {"numpy.timedelta64", "m8", DAMACY_I64, 8, 1, DMC_ZARR_TIME, "i64: ticks of the dtype's unit; NaT is -2^63"},
    {"struct", "[...]", DAMACY_NATIVE, 0, 0, DMC_ZARR_RECORD,
     "one member as a tensor: uri#member=NAME, of a nested one uri#member=OUTER.INNER"},
    {"structured", NULL, DAMACY_NATIVE, 0, 0, DMC_ZARR_RECORD, "the same, as zarr-python 3.0 and 3.1 write it"},
    REFUSED("r8, r16, ...", "V", "raw bits; a member of a structured dtype may lie beside them"),
    REFUSED("raw_bytes", NULL, "raw bits"),
    REFUSED("fixed_length_utf32", "U", "text"),
    REFUSED("null_terminated_bytes", "S", "text"),
    REFUSED("string", "O", "text or objects of any length"),
    REFUSED("variable_length_bytes", NULL, "objects of any length"),
    REFUSED("bytes", NULL, "objects of any length"),
    {0},
};

const struct dmc_zarr_name dmc_zarr_grids[] = {
    {"regular", true, "every chunk has the same shape; also all that v2 has"},
    {"rectilinear", true, "boundaries for each axis (kind inline, run lengths), of chunks or of shards"},
    {0},
};

const struct dmc_zarr_name dmc_zarr_key_encodings[] = {
    {"default", true, "c/0/1; separator / or ."},
    {"v2", true, "0.1; separator . or /"},
    {"suffix", true, "a text behind the keys of another encoding"},
    {"prefix", true, "a text in front of the keys of another encoding"},
    {"fanout", true, "d0/12/34/d1/5/c: coordinates in digits, so that folders stay small"},
    {"template", true, "images/{-1}/{*:04}.jpeg"},
    {0},
};

const struct dmc_zarr_name dmc_zarr_storage_transformers[] = {
    {"(any)", false, "refused by name"},
    {0},
};

static bool is(const char *name, const char *text, size_t bytes)
{
    return name && strlen(name) == bytes && memcmp(name, text, bytes) == 0;
}

const struct dmc_zarr_dtype *dmc_zarr_dtype_find(const char *name, size_t bytes)
{
    for (const struct dmc_zarr_dtype *row = dmc_zarr_dtypes; row->name; row++)
        if (is(row->name, name, bytes))
            return row;
    return NULL;
}

const struct dmc_zarr_dtype *dmc_zarr_dtype_find_v2(const char *name, size_t bytes)
{
    for (const struct dmc_zarr_dtype *row = dmc_zarr_dtypes; row->name; row++)
        if (is(row->v2, name, bytes) || (row->how == DMC_ZARR_WIDEN && is(row->name, name, bytes)))
            return row;
    return NULL;
}
