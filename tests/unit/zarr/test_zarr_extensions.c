/* Goal: of Zarr v3 what lies beyond its core is read as the registry of extensions defines it: data types, grids, key
 * encodings, sharding inside of and around other codecs; and what writers wrote beyond it.
 *
 * Method: one good text with members replaced, against the array as one line (zarr_render.h), or against the message; key
 * encodings and grids also against the registry's own examples; small floats against a table made with ml_dtypes; the n-th
 * allocation fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "unit/zarr/zarr_render.h"
#include "zarr/zarr_tables.h"

struct text {
    const char *shape, *type, *grid, *keys, *fill, *codecs, *more, *member;
};

#define GRID "{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[16,32]}}"
#define BYTES "{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}}"
#define INDEX "[" BYTES ",\"crc32c\"]"

static const char * or (const char *value, const char *otherwise)
{
    return value ? value : otherwise;
}

static char *compose(const struct text *t)
{
    char *text = NULL;
    if (asprintf(&text,
                 "{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":%s,\"data_type\":%s,\"chunk_grid\":%s,\"chunk_key_"
                 "encoding\":%s,"
                 "\"fill_value\":%s,\"codecs\":%s%s}",
                 or (t->shape, "[64,64]"), or (t->type, "\"uint16\""), or (t->grid, GRID), or (t->keys, "\"default\""),
                 or (t->fill, "0"), or (t->codecs, "[" BYTES "]"), or (t->more, "")) < 0)
        abort();
    return text;
}

static enum damacy_status parse(const struct text *t, struct dmc_zarr_array **array, struct damacy_error *error)
{
    struct dmc_selection selection = {0};
    char *text = compose(t);
    snprintf(selection.member, sizeof selection.member, "%s", or (t->member, ""));
    *array = NULL;
    enum damacy_status status = dmc_zarr_array_parse(text, strlen(text), t->member ? &selection : NULL, array, error);
    free(text);
    return status;
}

static void good(const char *expected, struct text t)
{
    struct dmc_zarr_array *array;
    struct damacy_error error;
    struct rendering line;
    if (parse(&t, &array, &error) != DAMACY_OK)
        fail_msg("expected %s:\n%s", expected, error.message);
    assert_true(array->memory_bytes <= dmc_zarr_array_memory_max());
    render_array(&line, array);
    dmc_zarr_array_free(array);
    if (!strstr(line.text, expected))
        fail_msg("got %s\nexpected %s", line.text, expected);
}

static void bad(enum damacy_status expected, const char *part, struct text t)
{
    struct dmc_zarr_array *array;
    struct damacy_error error = {0};
    enum damacy_status status = parse(&t, &array, &error);
    if (status != expected || error.status != expected || !strstr(error.message, part) || array)
        fail_msg("got %s \"%s\", expected %s with \"%s\"", damacy_status_str(status), error.message,
                 damacy_status_str(expected), part);
}

#define T(...) ((struct text){__VA_ARGS__})

/* --- data types --- */

static void test_dtypes(void **state)
{
    (void)state;
    good("v3 bf16 [64,64] chunks [16,32] fill c07f key c/1/2 | bytes{\"endian\":\"little\"}",
         T(.type = "\"bfloat16\"", .fill = "\"NaN\""));
    good("fill 803f ", T(.type = "\"bfloat16\"", .fill = "1.00390625"));         /* a tie: to even */
    good("fill 813f ", T(.type = "\"bfloat16\"", .fill = "1.0039062500000002")); /* a little more, which f32 has no room for */
    good("fill 803f ", T(.type = "\"bfloat16\"", .fill = "1.0039062499999998"));
    good("fill 81bf ", T(.type = "\"bfloat16\"", .fill = "-1.0039062500000002"));
    good("fill 807f ", T(.type = "\"bfloat16\"", .fill = "1e39"));
    good("fill 0080 ", T(.type = "\"bfloat16\"", .fill = "-0.0"));
    good("fill 3412 ", T(.type = "\"bfloat16\"", .fill = "\"0x1234\""));
    good("v3 f32 [64,64,2] chunks [16,32,2] fill 0000803f000080ff key c/1/2 | bytes{",
         T(.type = "\"complex64\"", .fill = "[1,\"-Infinity\"]"));
    good("v3 f32 [64,64,2] ", T(.type = "\"complex_float32\"", .fill = "[0,0]"));
    good("v3 f64 [64,64,2] chunks [16,32,2] fill 010000000000f87f0000000000000040 ",
         T(.type = "\"complex128\"", .fill = "[\"0x7ff8000000000001\",2]"));
    good("v3 f16 [64,64,2] chunks [16,32,2] fill 003c0000 ", T(.type = "\"complex_float16\"", .fill = "[1,0]"));
    good("v3 f32 [64,64,2] chunks [16,32,2] fill 0000000000000000 key c/1/2 | transpose{\"order\":[1,0,2]} bytes{",
         T(.type = "\"complex64\"", .fill = "[0,0]",
           .codecs = "[{\"name\":\"transpose\",\"configuration\":{\"order\":[1,0]}}," BYTES "]"));
    bad(DAMACY_DECODE, "a real and an imaginary part", T(.type = "\"complex64\"", .fill = "0"));

    good(
        "v3 i64 [64,64] chunks [16,32] fill 0000000000000080 ",
        T(.type = "{\"name\":\"numpy.datetime64\",\"configuration\":{\"unit\":\"ns\",\"scale_factor\":1}}", .fill = "\"NaT\""));
    good("fill ffffffffffffffff ",
         T(.type = "{\"name\":\"numpy.timedelta64\",\"configuration\":{\"unit\":\"generic\",\"scale_factor\":1}}",
           .fill = "-1"));
    bad(DAMACY_DECODE, "data_type.configuration is wrong: found nothing, expected unit and scale_factor",
        T(.type = "\"numpy.datetime64\""));
    bad(DAMACY_DECODE, "data_type.configuration.scale_factor is wrong: found 0",
        T(.type = "{\"name\":\"numpy.datetime64\",\"configuration\":{\"unit\":\"s\",\"scale_factor\":0}}"));
    bad(DAMACY_UNSUPPORTED, "member \"calendar\"",
        T(.type = "{\"name\":\"numpy.datetime64\",\"configuration\":{\"unit\":\"s\",\"scale_factor\":1,\"calendar\":1}}"));

    good("v3 i8 [64,64] chunks [16,32] fill fe key c/1/2 | damacy.widen{\"from\":\"int2\"} bytes",
         T(.type = "\"int2\"", .fill = "-2", .codecs = "[\"bytes\"]"));
    good("v3 u8 [64,64] chunks [16,32] fill 0f key c/1/2 | damacy.widen{\"from\":\"uint4\"} bytes",
         T(.type = "\"uint4\"", .fill = "15", .codecs = "[\"bytes\"]"));
    bad(DAMACY_DECODE, "an integer from -2 to 1", T(.type = "\"int2\"", .fill = "2"));
    bad(DAMACY_DECODE, "an integer from -8 to 7", T(.type = "\"int4\"", .fill = "8"));
    bad(DAMACY_DECODE, "an integer from 0 to 3", T(.type = "\"uint2\"", .fill = "-1"));
    bad(DAMACY_DECODE, "an integer from 0 to 15", T(.type = "\"uint4\"", .fill = "16"));

    static const char *const refused[] = {
        "r8", "r16", "string", "bytes", "variable_length_bytes", "fixed_length_utf32", "raw_bytes", "int3", "float128"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char type[100], part[100];
        snprintf(type, sizeof type, "{\"name\":\"%s\",\"configuration\":{\"length_bytes\":4}}", refused[i]);
        snprintf(part, sizeof part, "data_type is not supported: found \"%s\"", refused[i]);
        bad(DAMACY_UNSUPPORTED, part, T(.type = type));
    }
}

/* Codes and values by ml_dtypes: float(np.array([code], np.uint8).view(type)[0]); "" for NaN. */
static void test_small_floats(void **state)
{
    (void)state;
    static const struct {
        const char *type, *code;
        float value;
    } cases[] = {
        {"float8_e3m4", "0x01", 0.015625f},
        {"float8_e3m4", "0x6f", 15.5f},
        {"float8_e3m4", "0xef", -15.5f},
        {"float8_e4m3", "0x01", 0.001953125f},
        {"float8_e4m3", "0x77", 240.0f},
        {"float8_e4m3", "0x38", 1.0f},
        {"float8_e4m3fn", "0x7e", 448.0f},
        {"float8_e4m3fn", "0xfe", -448.0f},
        {"float8_e4m3fnuz", "0x7f", 240.0f},
        {"float8_e4m3fnuz", "0x01", 0.0009765625f},
        {"float8_e4m3b11fnuz", "0x7f", 30.0f},
        {"float8_e5m2", "0x7b", 57344.0f},
        {"float8_e5m2", "0x01", 1.52587890625e-05f},
        {"float8_e5m2fnuz", "0x7f", 57344.0f},
        {"float8_e5m2fnuz", "0x01", 7.62939453125e-06f},
        {"float8_e8m0fnu", "0x7f", 1.0f},
        {"float8_e8m0fnu", "0x80", 2.0f},
        {"float8_e8m0fnu", "0x00", 5.877471754111438e-39f},
        {"float4_e2m1fn", "0x07", 6.0f},
        {"float4_e2m1fn", "0x01", 0.5f},
        {"float6_e2m3fn", "0x1f", 7.5f},
        {"float6_e3m2fn", "0x1f", 28.0f},
        {"float6_e3m2fn", "0x01", 0.0625f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char type[40], fill[40], expected[40];
        uint32_t bits;
        memcpy(&bits, &cases[i].value, 4);
        snprintf(expected, sizeof expected, "fill %08x ", __builtin_bswap32(bits));
        snprintf(type, sizeof type, "\"%s\"", cases[i].type);
        snprintf(fill, sizeof fill, "\"%s\"", cases[i].code);
        good(expected, T(.type = type, .fill = fill, .codecs = "[\"bytes\"]"));
        snprintf(fill, sizeof fill, "%.17g", (double)cases[i].value);
        good(expected, T(.type = type, .fill = fill, .codecs = "[\"bytes\"]"));
    }
    static const struct {
        const char *type, *nan, *beyond;
        bool infinity;
    } kinds[] = {{"float8_e3m4", "0x78", "16.1", true},       {"float8_e4m3", "0x7c", "248.1", true},
                 {"float8_e4m3b11fnuz", "0x80", "31", false}, {"float8_e4m3fn", "0x7f", "449", false},
                 {"float8_e4m3fnuz", "0x80", "241", false},   {"float8_e5m2", "0x7e", "57345", true},
                 {"float8_e5m2fnuz", "0x80", "57345", false}, {"float8_e8m0fnu", "0xff", "-1", false},
                 {"float4_e2m1fn", NULL, "6.5", false},       {"float6_e2m3fn", NULL, "7.6", false},
                 {"float6_e3m2fn", NULL, "29", false}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char type[40], fill[40];
        snprintf(type, sizeof type, "\"%s\"", kinds[i].type);
        bad(DAMACY_DECODE, "a value that float", T(.type = type, .fill = kinds[i].beyond));
        if (kinds[i].nan) {
            snprintf(fill, sizeof fill, "\"%s\"", kinds[i].nan);
            good("fill 0000c07f ", T(.type = type, .fill = fill));
            good("fill 0000c07f ", T(.type = type, .fill = "\"NaN\""));
        } else {
            bad(DAMACY_DECODE, "a value that float", T(.type = type, .fill = "\"NaN\""));
        }
        if (kinds[i].infinity)
            good("fill 000080ff ", T(.type = type, .fill = "\"-Infinity\""));
        else
            bad(DAMACY_DECODE, "a value that float", T(.type = type, .fill = "\"Infinity\""));
    }
    good("fill 0000803f ", T(.type = "\"float8_e4m3fn\"", .fill = "1.0624")); /* the nearest: 1, then 1.125 */
    good("fill 0000803f ", T(.type = "\"float8_e4m3fn\"", .fill = "1.0625")); /* a tie: to even */
    good("fill 0000a03f ", T(.type = "\"float8_e4m3fn\"", .fill = "1.1875"));
    good("fill 00000080 ", T(.type = "\"float8_e4m3fn\"", .fill = "-0.0"));
    good("fill 00000000 ", T(.type = "\"float8_e4m3fn\"", .fill = "0"));
}

/* --- structured --- */

#define FIELDS                                                                                                                 \
    "[{\"name\":\"x\",\"data_type\":\"float32\"},{\"name\":\"raw\",\"data_type\":\"r24\"},"                                    \
    "{\"name\":\"t\",\"data_type\":{\"name\":\"numpy.datetime64\",\"configuration\":{\"unit\":\"s\",\"scale_factor\":1}}},"    \
    "{\"name\":\"p\",\"data_type\":{\"name\":\"struct\",\"configuration\":{\"fields\":[{\"name\":\"a\",\"data_type\":"         \
    "\"uint8\"},"                                                                                                              \
    "{\"name\":\"b\",\"data_type\":\"complex64\"}]}}},{\"name\":\"f\",\"data_type\":\"float8_e5m2\"}]"
#define STRUCT(fields) "{\"name\":\"struct\",\"configuration\":{\"fields\":" fields "}}"
#define STRUCTURED                                                                                                             \
    "{\"name\":\"structured\",\"configuration\":{\"fields\":[[\"x\",\"float32\"],[\"y\",\"int16\"],[\"s\",{\"name\":\"fixed_"  \
    "length_utf32\",\"configuration\":{\"length_bytes\":8}}]]}}"

static void test_structured(void **state)
{
    (void)state;
    good("v3 f32 [64,64] chunks [16,32] fill 0000c03f key c/1/2 | "
         "damacy.member{\"record_bytes\":25,\"offset\":0,\"item_bytes\":4,\"endian\":\"little\"} bytes",
         T(.type = STRUCT(FIELDS), .fill = "{\"x\":1.5}", .member = "x"));
    good("v3 i64 [64,64] chunks [16,32] fill 0000000000000080 key c/1/2 | "
         "damacy.member{\"record_bytes\":25,\"offset\":7,\"item_bytes\":8,\"endian\":\"big\"} bytes zstd",
         T(.type = STRUCT(FIELDS), .fill = "{}", .member = "t",
           .codecs = "[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"big\"}},\"zstd\"]"));
    good("v3 u8 [64,64] chunks [16,32] fill 07 key c/1/2 | damacy.member{\"record_bytes\":25,\"offset\":15,\"item_bytes\":1} "
         "bytes",
         T(.type = STRUCT(FIELDS), .fill = "{\"p\":{\"a\":7}}", .member = "p.a"));
    good("v3 f32 [64,64,2] chunks [16,32,2] fill 0000803f00000040 key c/1/2 | "
         "damacy.member{\"record_bytes\":25,\"offset\":16,\"item_bytes\":8,\"endian\":\"little\"}",
         T(.type = STRUCT(FIELDS), .fill = "{\"p\":{\"b\":[1,2]}}", .member = "p.b"));
    good("v3 f32 [64,64] chunks [16,32] fill 0000803f key c/1/2 | damacy.widen{\"from\":\"float8_e5m2\"} "
         "damacy.member{\"record_bytes\":25,\"offset\":24,\"item_bytes\":1} bytes",
         T(.type = STRUCT(FIELDS), .fill = "{\"f\":1}", .member = "f"));
    /* zarr-python 3.0 and 3.1: pairs, the fill value in base64, bytes without endian */
    good("v3 i16 [64,64] chunks [16,32] fill 0201 key c/1/2 | "
         "damacy.member{\"record_bytes\":14,\"offset\":4,\"item_bytes\":2,\"endian\":\"little\"} bytes",
         T(.type = STRUCTURED, .fill = "\"AADAPwIBAAAAAAAAAAA=\"", .member = "y", .codecs = "[\"bytes\"]"));
    good("| damacy.member{\"record_bytes\":14,\"offset\":4,\"item_bytes\":2,\"endian\":\"little\"} transpose{\"order\":[1,0]} "
         "bytes zstd",
         T(.type = STRUCTURED, .fill = "{}", .member = "y",
           .codecs = "[{\"name\":\"transpose\",\"configuration\":{\"order\":[1,0]}}," BYTES ",\"zstd\"]"));
    bad(DAMACY_UNSUPPORTED,
        "data_type is structured; one member at a time can be read; add #member=NAME to the uri; there are \"x\", \"y\", \"s\"",
        T(.type = STRUCTURED));
    bad(DAMACY_UNSUPPORTED, "found \"fixed_length_utf32\"", T(.type = STRUCTURED, .member = "s"));
    bad(DAMACY_UNSUPPORTED, "found \"r24\"", T(.type = STRUCT(FIELDS), .member = "raw"));
    bad(DAMACY_INVAL, "no member \"z\"", T(.type = STRUCTURED, .member = "z"));
    bad(DAMACY_INVAL, "not structured", T(.member = "z"));
    bad(DAMACY_UNSUPPORTED, "fields[1] is not supported: found \"string\"",
        T(.type = STRUCT("[{\"name\":\"x\",\"data_type\":\"int8\"},{\"name\":\"s\",\"data_type\":\"string\"}]"),
          .member = "x"));
    bad(DAMACY_DECODE, "fields is wrong: found a list of 0", T(.type = STRUCT("[]"), .member = "x"));
    bad(DAMACY_DECODE, "same name", T(.type = STRUCT("[[\"x\",\"int8\"],[\"x\",\"int8\"]]"), .member = "x"));
    bad(DAMACY_DECODE, "fields[0] is wrong", T(.type = STRUCT("[[\"\",\"int8\"]]"), .member = "x"));
    bad(DAMACY_DECODE, "fields[0] is wrong", T(.type = STRUCT("[7]"), .member = "x"));
}

/* --- grids --- */

#define RECTILINEAR(shapes) "{\"name\":\"rectilinear\",\"configuration\":{\"kind\":\"inline\",\"chunk_shapes\":" shapes "}}"

static void test_rectilinear(void **state)
{
    (void)state;
    /* the registry's example */
    good("v3 u16 [6,6,6,6,6] chunks [4,3,4,3,4] edges - edges [0,1,3,6] edges - edges [0,1,2,3,6] edges - fill",
         T(.shape = "[6,6,6,6,6]", .grid = RECTILINEAR("[4,[1,2,3],[[4,2]],[[1,3],3],[4,4,4]]")));
    good("chunks [10,64] edges [0,10,15] edges - fill",
         T(.shape = "[12,64]", .grid = RECTILINEAR("[[10,5,100,[7,1000000]],64]")));
    good("chunks [5,64] edges [0,5,10,13] edges - ", T(.shape = "[12,64]", .grid = RECTILINEAR("[[[5,2],3],[64]]")));
    good("chunks [4611686018427387904,1] fill",
         T(.shape = "[12,64]", .grid = RECTILINEAR("[[[4611686018427387904,9223372036854775807]],[[1,9223372036854775807]]]"),
           .type = "\"uint8\"", .codecs = "[\"bytes\"]"));
    good("chunks [7,64] fill", T(.shape = "[0,64]", .grid = RECTILINEAR("[[7,9],[64]]"))); /* no chunks at all */
    good("chunks [1,64] fill", T(.shape = "[0,64]", .grid = RECTILINEAR("[[],[64]]")));
    good("v3 f32 [12,64,2] chunks [10,64,2] edges [0,10,15] edges - edges - fill",
         T(.shape = "[12,64]", .type = "\"complex64\"", .fill = "[0,0]", .grid = RECTILINEAR("[[10,5],64]")));
    bad(DAMACY_DECODE,
        "chunk_shapes[0] is wrong: found ones that reach to 11, expected chunks that reach to the end of the axis, 12",
        T(.shape = "[12,64]", .grid = RECTILINEAR("[[10,1],64]")));
    bad(DAMACY_DECODE, "chunk_shapes is wrong: found a list of 1", T(.grid = RECTILINEAR("[64]")));
    bad(DAMACY_DECODE, "chunk_shapes[0][1] is wrong: found 0", T(.grid = RECTILINEAR("[[64,0],64]")));
    bad(DAMACY_DECODE, "chunk_shapes[0][0] is wrong: found a list of 3", T(.grid = RECTILINEAR("[[[1,2,3]],64]")));
    bad(DAMACY_DECODE, "chunk_shapes[0][0] is wrong", T(.grid = RECTILINEAR("[[[64,0]],64]")));
    bad(DAMACY_DECODE, "chunk_shapes[1] is wrong: found \"64\"", T(.grid = RECTILINEAR("[64,\"64\"]")));
    bad(DAMACY_DECODE, "chunk_shapes[1] is wrong: found 0", T(.grid = RECTILINEAR("[64,0]")));
    bad(DAMACY_UNSUPPORTED, "kind is not supported: found \"reference\"",
        T(.grid = "{\"name\":\"rectilinear\",\"configuration\":{\"kind\":\"reference\",\"chunk_shapes\":[64,64]}}"));
    bad(DAMACY_DECODE, "kind is wrong: found nothing",
        T(.grid = "{\"name\":\"rectilinear\",\"configuration\":{\"chunk_shapes\":[64,64]}}"));
    bad(DAMACY_UNSUPPORTED, "at most 4096 boundaries of chunks",
        T(.shape = "[100000,64]", .grid = RECTILINEAR("[[2,[1,100000]],64]")));
    bad(DAMACY_UNSUPPORTED, "at most 4096 boundaries of chunks",
        T(.shape = "[100000,64]", .grid = RECTILINEAR("[[[1,50000],2,100000],64]")));
    /* shards that differ, as zarr-python 3.3 writes them: multiples of the inner chunk */
    good("chunks [4,64] shards [8,64] edges [0,8,12] edges - fill",
         T(.shape = "[12,64]", .grid = RECTILINEAR("[[8,4],64]"),
           .codecs = "[{\"name\":\"sharding_indexed\",\"configuration\":{\"chunk_shape\":[4,64],\"codecs\":[" BYTES
                     "],\"index_codecs\":" INDEX "}}]"));
    good("chunks [64,2] shards [64,8] order 10 edges - edges [0,2,10] fill",
         T(.shape = "[64,10]", .grid = RECTILINEAR("[64,[2,8]]"),
           .codecs = "[{\"name\":\"transpose\",\"configuration\":{\"order\":[1,0]}},"
                     "{\"name\":\"sharding_indexed\",\"configuration\":{\"chunk_shape\":[2,64],\"codecs\":[" BYTES
                     "],\"index_codecs\":" INDEX "}}]"));
    bad(DAMACY_DECODE, "chunk_shape[0] is wrong: found 4, expected a divisor of 6",
        T(.shape = "[14,64]", .grid = RECTILINEAR("[[8,6],64]"),
          .codecs = "[{\"name\":\"sharding_indexed\",\"configuration\":{\"chunk_shape\":[4,64],\"codecs\":[" BYTES
                    "],\"index_codecs\":" INDEX "}}]"));
    /* all chunks alike: a regular grid, which may be sharded */
    good("chunks [4,64] shards [8,64] fill",
         T(.shape = "[12,64]", .grid = RECTILINEAR("[[8,8],64]"),
           .codecs = "[{\"name\":\"sharding_indexed\",\"configuration\":{\"chunk_shape\":[4,64],\"codecs\":[" BYTES
                     "],\"index_codecs\":" INDEX "}}]"));
}

/* zarr-python wrote chunk extents of 0 on axes of extent 0 (chunks=-1, dask). */
static void test_empty_axes(void **state)
{
    (void)state;
    good("v3 u16 [0,64] chunks [1,32] fill",
         T(.shape = "[0,64]", .grid = "{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[0,32]}}"));
    good("v3 u16 [0,64] chunks [4,32] shards [4,32] fill",
         T(.shape = "[0,64]", .grid = "{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[0,32]}}",
           .codecs = "[{\"name\":\"sharding_indexed\",\"configuration\":{\"chunk_shape\":[4,32],\"codecs\":[" BYTES
                     "],\"index_codecs\":" INDEX "}}]"));
}

/* --- keys --- */

static void expect_key(const char *keys, const char *shape, const char *chunks, const uint64_t *at, const char *expected)
{
    char grid[200];
    struct dmc_zarr_array *array;
    struct damacy_error error;
    snprintf(grid, sizeof grid, "{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":%s}}", chunks);
    if (parse(&T(.shape = shape, .keys = keys, .grid = grid), &array, &error) != DAMACY_OK)
        fail_msg("%s: %s", keys, error.message);
    char key[DMC_ZARR_KEY_BYTES_MAX];
    size_t length = dmc_zarr_chunk_key(array, at, key, sizeof key);
    assert_string_equal(key, expected);
    assert_int_equal(length, strlen(expected));
    dmc_zarr_array_free(array);
}

#define CONFIGURED(name, configuration) "{\"name\":\"" name "\",\"configuration\":" configuration "}"

static void test_keys(void **state)
{
    (void)state;
    static const uint64_t at[] = {11, 22, 33}, fan[] = {1234, 5, 67890}, pad[] = {111, 2, 33}, none[1] = {0};
    const char *shape = "[1000,1000,1000]", *chunks = "[1,1,1]";
    expect_key(CONFIGURED("suffix", "{\"suffix\":\".tiff\",\"base_encoding\":{\"name\":\"default\"}}"), shape, chunks, at,
               "c/11/22/33.tiff");
    expect_key(CONFIGURED("suffix", "{\"suffix\":\".tiff\",\"base-encoding\":\"v2\"}"), shape, chunks, at, "11.22.33.tiff");
    expect_key(CONFIGURED("prefix", "{\"prefix\":\"x/\",\"base_encoding\":\"v2\"}"), shape, chunks, at, "x/11.22.33");
    expect_key(
        CONFIGURED("prefix",
                   "{\"prefix\":\"a\",\"base_encoding\":" CONFIGURED(
                       "prefix", "{\"prefix\":\"b\",\"base_encoding\":" CONFIGURED(
                                     "suffix", "{\"suffix\":\"c\",\"base_encoding\":" CONFIGURED(
                                                   "suffix", "{\"suffix\":\"d\",\"base_encoding\":\"v2\"}") "}") "}") "}"),
        shape, chunks, at, "ab11.22.33dc");
    expect_key(CONFIGURED("fanout", "{\"max_children\":101}"), "[2000,10,100000]", chunks, fan, "d0/12/34/d1/5/d2/6/78/90/c");
    expect_key("\"fanout\"", "[2000,10,100000]", chunks, fan, "d0/1/234/d1/5/d2/67/890/c");
    expect_key(CONFIGURED("fanout", "{\"max_children\":101}"), "[]", "[]", none, "c");
    expect_key(CONFIGURED("template", "{\"template\":\"c/{*}\",\"separator\":\"/\"}"), shape, chunks, at, "c/11/22/33");
    expect_key(CONFIGURED("template", "{\"template\":\"{*}\",\"separator\":\".\"}"), shape, chunks, at, "11.22.33");
    expect_key(CONFIGURED("template", "{\"template\":\"{*}.suffix\",\"separator\":\"_\"}"), shape, chunks, at,
               "11_22_33.suffix");
    expect_key(CONFIGURED("template", "{\"template\":\"{2}/{0}/{1}\",\"separator\":\".\"}"), shape, chunks, at, "33/11/22");
    expect_key(CONFIGURED("template", "{\"template\":\"{-1}/{*}\",\"separator\":\"/\"}"), shape, chunks, at, "33/11/22");
    expect_key(CONFIGURED("template", "{\"template\":\"{*:04}\",\"separator\":\"/\"}"), shape, chunks, at, "0011/0022/0033");
    expect_key(CONFIGURED("template", "{\"template\":\"{*:02}\",\"separator\":\"/\"}"), shape, chunks, pad, "111/02/33");
    expect_key(CONFIGURED("template", "{\"format\":\"{{{2}}}{0}_{1:05}\"}"), shape, chunks, at,
               "{33}11_00022"); /* as in the registry's examples */

    static const char *const wrong[] = {
        CONFIGURED("suffix", "{\"suffix\":\"../x\",\"base_encoding\":\"v2\"}"),
        CONFIGURED("suffix", "{\"suffix\":\"\",\"base_encoding\":\"v2\"}"),
        CONFIGURED("suffix", "{\"suffix\":\".x\"}"),
        CONFIGURED("suffix", "{\"base_encoding\":\"v2\"}"),
        CONFIGURED("prefix", "{\"prefix\":\"/x\",\"base_encoding\":\"v2\"}"),
        CONFIGURED("prefix", "{\"prefix\":\"zarr.json\",\"base_encoding\":\"v2\"}"),
        CONFIGURED("fanout", "{\"max_children\":3}"),
        CONFIGURED("fanout", "{\"max_children\":\"9\"}"),
        CONFIGURED("template", "{\"template\":\"{0}/{1}\"}"),
        CONFIGURED("template", "{\"template\":\"{*}\"}"),
        CONFIGURED("template", "{\"template\":\"{0}/{1}/{3}\"}"),
        CONFIGURED("template", "{\"template\":\"{0}/{0}/{1}\"}"),
        CONFIGURED("template", "{\"template\":\"{0}/{-3}/{1}\"}"),
        CONFIGURED("template", "{\"template\":\"{*}{*}\",\"separator\":\"/\"}"),
        CONFIGURED("template", "{\"template\":\"{0}{1}{2}{*}\",\"separator\":\"/\"}"),
        CONFIGURED("template", "{\"template\":\"{0}{1}{2\"}"),
        CONFIGURED("template", "{\"template\":\"{0}{1}{2}}\"}"),
        CONFIGURED("template", "{\"template\":\"{0:4}{1}{2}\"}"),
        CONFIGURED("template", "{\"template\":\"{0:099}{1}{2}\"}"),
        CONFIGURED("template", "{\"template\":\"../{0}{1}{2}\"}"),
        CONFIGURED("template", "{\"template\":\"{-0}{1}{2}\"}"),
        CONFIGURED("template", "{}"),
        CONFIGURED("template", "{\"template\":\"{*}\",\"separator\":\"12345\"}"),
        CONFIGURED("template", "{\"template\":\"{*}\",\"separator\":7}"),
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        bad(DAMACY_DECODE, "chunk_key_encoding.configuration",
            T(.shape = shape, .keys = wrong[i], .grid = "{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[1,1,1]}}"));
    bad(DAMACY_UNSUPPORTED, "member \"other\"",
        T(.keys = CONFIGURED("suffix", "{\"suffix\":\"x\",\"base_encoding\":\"v2\",\"other\":1}")));

    char deep[2000] = "\"v2\"", next[2100];
    for (int i = 0; i < 9; i++) {
        snprintf(next, sizeof next, CONFIGURED("suffix", "{\"suffix\":\"x\",\"base_encoding\":%s}"), deep);
        memcpy(deep, next, sizeof deep);
    }
    bad(DAMACY_UNSUPPORTED, "more than 8 encodings inside one another", T(.keys = deep));
    char filler[300];
    memset(filler, 'x', sizeof filler);
    snprintf(next, sizeof next, CONFIGURED("suffix", "{\"suffix\":\"%.256s\",\"base_encoding\":\"v2\"}"), filler);
    bad(DAMACY_UNSUPPORTED, "texts of at most 256 bytes", T(.keys = next));
}

/* The longest keys of all that a parse lets through fit. */
static void test_longest_keys(void **state)
{
    (void)state;
    struct dmc_zarr_array array = {.rank = DAMACY_RANK_MAX, .key_rank = DAMACY_RANK_MAX};
    uint64_t at[DAMACY_RANK_MAX] = {0};
    char key[DMC_ZARR_KEY_BYTES_MAX];
    array.key_encoding = (struct dmc_zarr_key_encoding){.kind = DMC_ZARR_KEYS_FANOUT, .base = 3};
    at[0] = INT64_MAX;
    assert_true(dmc_zarr_chunk_key(&array, at, key, sizeof key) < 400);
    for (int i = 0; i < DAMACY_RANK_MAX; i++)
        at[i] = 3; /* all above the base, and still fewer than 2^63 chunks */
    assert_true(dmc_zarr_chunk_key(&array, at, key, sizeof key) < 400);
    char template[400] = "{*:020}";
    array.key_encoding = (struct dmc_zarr_key_encoding){.kind = DMC_ZARR_KEYS_TEMPLATE, .text = template, .joint = "1234"};
    assert_true(dmc_zarr_chunk_key(&array, at, key, sizeof key) < DMC_ZARR_KEY_BYTES_MAX - 256);
}

/* --- sharding --- */

#define SHARDING(shape, codecs)                                                                                                \
    "{\"name\":\"sharding_indexed\",\"configuration\":{\"chunk_shape\":" shape ",\"codecs\":" codecs                           \
    ",\"index_codecs\":" INDEX "}}"
#define TRANSPOSE(order) "{\"name\":\"transpose\",\"configuration\":{\"order\":" order "}}"
#define BYTES_OUT "{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}}"
#define CRC_OUT "\"index_codecs\":[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}},\"crc32c\"]"

static void test_transposed_shards(void **state)
{
    (void)state;
    /* shard [16,32] is [32,16] to the sharding, whose chunks of [8,4] are [4,8] to the array */
    good("v3 u16 [64,64] chunks [4,8] shards [16,32] order 10 fill 0000 key c/1/2 | transpose{\"order\":[1,0]} "
         "bytes{\"endian\":\"little\"} zstd",
         T(.codecs = "[" TRANSPOSE("[1,0]") "," SHARDING("[8,4]", "[" BYTES ",\"zstd\"]") "]"));
    good("chunks [4,8] shards [16,32] order 10 fill 0000 key c/1/2 | transpose{\"order\":[1,0]} transpose{\"order\":[1,0]} "
         "bytes",
         T(.codecs = "[" TRANSPOSE("\"F\"") "," SHARDING("[8,4]", "[" TRANSPOSE("[1,0]") "," BYTES "]") "]"));
    good("chunks [8,4] shards [16,32] fill 0000 key c/1/2 | transpose{\"order\":[1,0]} transpose{\"order\":[1,0]} bytes",
         T(.codecs = "[" TRANSPOSE("[1,0]") "," TRANSPOSE("[1,0]") "," SHARDING("[8,4]", "[" BYTES "]") "]"));
    /* order [2,0,1], then [1,2,0]: axis 0 of the first is 2; of both 0, 1, 2 again */
    good("chunks [2,3,5] shards [4,6,10] order 201 fill",
         T(.shape = "[4,6,10]", .grid = "{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[4,6,10]}}",
           .codecs = "[" TRANSPOSE("[2,0,1]") "," SHARDING("[5,2,3]", "[" BYTES "]") "]"));
    good("chunks [2,3,5] shards [4,6,10] order 120 fill",
         T(.shape = "[4,6,10]", .grid = "{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[4,6,10]}}",
           .codecs = "[" TRANSPOSE("[2,0,1]") "," TRANSPOSE("[2,0,1]") "," SHARDING("[3,5,2]", "[" BYTES "]") "]"));
    /* two that do not commute: (1 0 2) makes a1 a0 a2 of a0 a1 a2, and (0 2 1) a1 a2 a0 of that */
    good("chunks [2,3,5] shards [4,6,10] order 120 fill",
         T(.shape = "[4,6,10]", .grid = "{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[4,6,10]}}",
           .codecs = "[" TRANSPOSE("[1,0,2]") "," TRANSPOSE("[0,2,1]") "," SHARDING("[3,5,2]", "[" BYTES "]") "]"));
    good(
        "v3 f32 [64,64,2] chunks [4,8,2] shards [16,32,2] order 102 fill 0000000000000000 key c/1/2 | "
        "transpose{\"order\":[1,0,2]} bytes",
        T(.type = "\"complex64\"", .fill = "[0,0]", .codecs = "[" TRANSPOSE("[1,0]") "," SHARDING("[8,4]", "[" BYTES "]") "]"));
    good("order 10 fill 00000000 key c/1/2 | "
         "damacy.member{\"record_bytes\":14,\"offset\":0,\"item_bytes\":4,\"endian\":\"big\"} transpose{\"order\":[1,0]} bytes "
         "zstd",
         T(.type = STRUCTURED, .fill = "{}", .member = "x",
           .codecs = "[" TRANSPOSE("[1,0]") "," SHARDING(
               "[8,4]", "[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"big\"}},\"zstd\"]") "]"));
    bad(DAMACY_DECODE, "codecs[1].configuration.chunk_shape[0] is wrong: found 5, expected a divisor of 32",
        T(.codecs = "[" TRANSPOSE("[1,0]") "," SHARDING("[5,4]", "[" BYTES "]") "]"));
    bad(DAMACY_DECODE, "codecs[0].configuration.order is wrong: found a list of 1",
        T(.codecs = "[" TRANSPOSE("[0]") "," SHARDING("[8,4]", "[" BYTES "]") "]"));
    bad(DAMACY_DECODE, "codecs[0].configuration.order is wrong: found 0", T(.codecs = "[" TRANSPOSE("[0,0]") "," BYTES "]"));
    bad(DAMACY_DECODE, "codecs[0].configuration.order is wrong: found 2, expected each axis from 0 to 1 once",
        T(.codecs = "[" TRANSPOSE("[0,2]") "," BYTES "]"));
    bad(DAMACY_DECODE, "codecs[0].configuration.order is wrong: found nothing", T(.codecs = "[\"transpose\"," BYTES "]"));
}

#define FILL_OUT(bytes) ",\"damacy.fill\":\"" bytes "\""

static void test_nested_sharding(void **state)
{
    (void)state;
    /* src/codec is told what absent inner chunks hold */
    good("chunks [8,8] shards [16,32] fill 0700 key c/1/2 | sharding_indexed{\"chunk_shape\":[4,4],\"codecs\":[" BYTES_OUT
         ",{\"name\":\"zstd\"}]," CRC_OUT FILL_OUT("0700") "}",
         T(.fill = "7", .codecs = "[" SHARDING("[8,8]", "[" SHARDING("[4,4]", "[" BYTES ",\"zstd\"]") "]") "]"));
    good("v3 u16 [64,64] chunks [16,32] fill 0000 key c/1/2 | sharding_indexed{\"chunk_shape\":[4,4],\"codecs\":[" BYTES_OUT
         "]," CRC_OUT FILL_OUT("0000") "} crc32c",
         T(.codecs = "[" SHARDING("[4,4]", "[" BYTES "]") ",\"crc32c\"]"));
    /* what the dtype needs goes to the innermost list */
    good("chunks [8,8,2] shards [16,32,2] fill 0000000000000000 key c/1/2 | "
         "sharding_indexed{\"chunk_shape\":[4,4,2],\"codecs\":[{\"name\":\"transpose\",\"configuration\":{\"order\":[1,0,2]}}"
         "," BYTES_OUT "]," CRC_OUT FILL_OUT("0000000000000000") "}",
         T(.type = "\"complex64\"", .fill = "[0,0]",
           .codecs = "[" SHARDING("[8,8]", "[" SHARDING("[4,4]", "[" TRANSPOSE("[1,0]") "," BYTES "]") "]") "]"));
    good("| "
         "sharding_indexed{\"chunk_shape\":[4,4],\"codecs\":[{\"name\":\"damacy.widen\",\"configuration\":{\"from\":\"int4\"}},"
         "{\"name\":\"bytes\"}]," CRC_OUT FILL_OUT("00") "} zstd",
         T(.type = "\"int4\"", .codecs = "[" SHARDING("[4,4]", "[\"bytes\"]") ",\"zstd\"]"));
    good("| transpose{\"order\":[1,0]} "
         "sharding_indexed{\"chunk_shape\":[4,4],\"codecs\":[{\"name\":\"damacy.member\",\"configuration\":{\"record_bytes\":"
         "14,\"offset\":4,\"item_bytes\":2,\"endian\":\"big\"}},{\"name\":\"bytes\"}]," CRC_OUT FILL_OUT("0000") "} zstd",
         T(.type = STRUCTURED, .fill = "{}", .member = "y",
           .codecs = "[" TRANSPOSE("[1,0]") "," SHARDING(
               "[4,4]", "[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"big\"}}]") ",\"zstd\"]"));
    bad(DAMACY_DECODE, "codecs[0].configuration.codecs[0].configuration.chunk_shape is wrong: found a list of 1",
        T(.codecs = "[" SHARDING("[8,8]", "[" SHARDING("[4]", "[" BYTES "]") "]") "]"));
    bad(DAMACY_UNSUPPORTED, "more than 4 levels",
        T(.grid = "{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[64,64]}}",
          .codecs = "[" SHARDING(
              "[32,32]",
              "[" SHARDING(
                  "[16,16]",
                  "[" SHARDING(
                      "[8,8]",
                      "[" SHARDING("[4,4]",
                                   "[" SHARDING("[2,2]", "[" SHARDING("[1,1]", "[" BYTES "]") "]") "]") "]") "]") "]") "]"));
    bad(DAMACY_UNSUPPORTED, "member 'order' is not known",
        T(.codecs = "[{\"name\":\"sharding_indexed\",\"configuration\":{\"chunk_shape\":[4,4],\"codecs\":[" BYTES
                    "],\"index_codecs\":" INDEX ",\"order\":1}},\"zstd\"]"));
    bad(DAMACY_DECODE, "codecs[0].configuration is wrong: found nothing", T(.codecs = "[\"sharding_indexed\",\"zstd\"]"));
}

/* --- what else writers wrote --- */

static void test_tolerance(void **state)
{
    (void)state;
    good("fill 0700 ", T(.fill = "7.0")); /* zarr-java and zarrita.js: floats for integers */
    good("| bytes{\"endian\":\"little\"}", T(.more = ",\"dimension_names\":null")); /* zarr-python 3.0 */
    good("| bytes{\"endian\":\"little\"} gzip",
         T(.codecs = "[" BYTES ",\"gzip\"]")); /* bare names: zarrs, core specification 3.1 */
    /* sharding without index_location (written before it existed), and an index without checksum (tensorstore on request) */
    good("chunks [8,8] shards [16,32] ",
         T(.codecs = "[{\"name\":\"sharding_indexed\",\"configuration\":{\"chunk_shape\":[8,8],\"codecs\":[" BYTES
                     "],\"index_codecs\":[" BYTES "]}}]"));
    good("v3 u16 ", T(.more = ",\"storage_transformers\":[]"));
    good("v3 u16 ", T(.more = ",\"x\":{\"must_understand\":false}"));
    bad(DAMACY_UNSUPPORTED, "storage_transformers is not supported: found \"concat-parts\"",
        T(.more = ",\"storage_transformers\":[\"concat-parts\"]"));
    good("| transpose{\"order\":[1,0]} bytes",
         T(.codecs = "[" TRANSPOSE("\"F\"") "," BYTES "]")); /* zarrita, zarr-python's v3 preview */
    good("| transpose{\"order\":[0,1]} bytes", T(.codecs = "[" TRANSPOSE("\"C\"") "," BYTES "]"));
}

static void test_data_type_text(void **state)
{
    (void)state;
    struct dmc_zarr_array *array;
    assert_int_equal(parse(&T(.type = "{ \"name\": \"uint16\" }"), &array, NULL), DAMACY_OK);
    assert_string_equal(array->data_type, "{\"name\":\"uint16\"}");
    dmc_zarr_array_free(array);
    assert_int_equal(parse(&T(.type = STRUCT(FIELDS), .fill = "{}", .member = "x"), &array, NULL), DAMACY_OK);
    assert_true(strlen(array->data_type) < 200);
    assert_string_equal(array->data_type + strlen(array->data_type) - 3, "...");
    dmc_zarr_array_free(array);
}

/* Every type that the table has can be parsed by its name, and every one that it refuses is refused. */
static void test_table(void **state)
{
    (void)state;
    for (const struct dmc_zarr_dtype *row = dmc_zarr_dtypes; row->name; row++) {
        char type[120];
        struct dmc_zarr_array *array;
        struct damacy_error error;
        assert_true(strlen(row->delivered) > 0);
        if (row->how == DMC_ZARR_TIME)
            snprintf(type, sizeof type, "{\"name\":\"%s\",\"configuration\":{\"unit\":\"s\",\"scale_factor\":1}}", row->name);
        else
            snprintf(type, sizeof type, "\"%s\"", row->name);
        enum damacy_status status = parse(&T(.type = type, .fill = row->parts == 2 ? "[1,1]" : "1"), &array, &error);
        if (row->how == DMC_ZARR_RECORD || row->how == DMC_ZARR_REFUSED) {
            assert_int_not_equal(status, DAMACY_OK);
            assert_int_equal(row->dtype, DAMACY_NATIVE);
            continue;
        }
        if (status != DAMACY_OK)
            fail_msg("%s: %s", row->name, error.message);
        assert_int_equal(array->dtype, row->dtype);
        assert_int_equal(array->fill_count, row->parts);
        if (row->how != DMC_ZARR_WIDEN)
            assert_int_equal(row->stored_bytes, row->parts * damacy_dtype_bytes(row->dtype));
        dmc_zarr_array_free(array);
    }
}

static void test_allocations_fail(void **state)
{
    (void)state;
    const struct text cases[] = {
        T(.shape = "[12,64]", .grid = RECTILINEAR("[[10,5],64]")),
        T(.type = STRUCTURED, .fill = "\"AADAPwIBAAAAAAAAAAA=\"", .member = "y",
          .codecs =
              "[" SHARDING("[8,8]", "[" SHARDING("[4,4]", "[" BYTES ",{\"name\":\"x\",\"configuration\":{\"a\":1}}]") "]") "]"),
        T(.keys = CONFIGURED("suffix", "{\"suffix\":\".tiff\",\"base_encoding\":\"v2\"}")),
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (uint64_t n = 1;; n++) {
            struct dmc_zarr_array *array;
            struct damacy_error error = {0};
            dmc_mem_fail_at(n);
            enum damacy_status status = parse(&cases[i], &array, &error);
            dmc_mem_fail_at(0);
            if (status == DAMACY_OK) {
                assert_true(n > 3);
                dmc_zarr_array_free(array);
                break;
            }
            assert_int_equal(status, DAMACY_OOM);
            assert_null(array);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dtypes),           cmocka_unit_test(test_small_floats),
        cmocka_unit_test(test_structured),       cmocka_unit_test(test_rectilinear),
        cmocka_unit_test(test_empty_axes),       cmocka_unit_test(test_keys),
        cmocka_unit_test(test_longest_keys),     cmocka_unit_test(test_transposed_shards),
        cmocka_unit_test(test_nested_sharding),  cmocka_unit_test(test_tolerance),
        cmocka_unit_test(test_data_type_text),   cmocka_unit_test(test_table),
        cmocka_unit_test(test_allocations_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
