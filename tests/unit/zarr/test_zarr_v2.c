/* Goal: what is in a .zarray is what the struct says, in v3's terms, and what is wrong in one is told by name.
 *
 * Method: one good text, changed in one member at a time, against the array as one line, or against the message; each thing
 * that some writer did and the specification does not say names the writer; every cut and every changed byte; the n-th
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

enum member { FORMAT, SHAPE, CHUNKS, DTYPE, COMPRESSOR, FILL, ORDER, FILTERS, SEPARATOR, MEMBER_COUNT };
static const char *const member_names[MEMBER_COUNT] = {
    "zarr_format", "shape", "chunks", "dtype", "compressor", "fill_value", "order", "filters", "dimension_separator"};

/* Members given as "name=value" (value missing: the member is left out), over these. */
static char *compose(const char *const *changes)
{
    const char *values[MEMBER_COUNT] = {"2", "[60,250]", "[16,64]", "\"<u2\"", "null", "0", "\"C\"", "null", NULL};
    size_t capacity = 4096;
    for (int i = 0; changes[i]; i++)
        capacity += strlen(changes[i]);
    for (; *changes; changes++) {
        const char *equals = strchr(*changes, '=');
        assert_non_null(equals);
        int m = 0;
        while (m < MEMBER_COUNT && strncmp(member_names[m], *changes, (size_t)(equals - *changes)) != 0)
            m++;
        assert_true(m < MEMBER_COUNT);
        values[m] = equals[1] ? equals + 1 : NULL;
    }
    char *text = malloc(capacity), *to = text;
    assert_non_null(text);
    to += sprintf(to, "{");
    for (int m = 0; m < MEMBER_COUNT; m++)
        if (values[m])
            to += sprintf(to, "%s\"%s\":%s", to == text + 1 ? "" : ",", member_names[m], values[m]);
    sprintf(to, "}");
    return text;
}

static struct dmc_selection selection_of(const char *member)
{
    struct dmc_selection selection = {0};
    snprintf(selection.member, sizeof selection.member, "%s", member ? member : "");
    return selection;
}

struct good {
    const char *expected; /* part of the line */
    const char *changes[5];
    const char *member; /* of a structured dtype */
};

static void expect_good(const struct good *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *text = compose(cases[i].changes);
        struct dmc_selection selection = selection_of(cases[i].member);
        struct dmc_zarr_array *array = NULL;
        struct damacy_error error;
        struct rendering line;
        if (dmc_zarr_array_parse_v2(text, strlen(text), &selection, &array, &error) != DAMACY_OK)
            fail_msg("%s: %s", text, error.message);
        assert_true(array->memory_bytes <= dmc_zarr_array_memory_max());
        render_array(&line, array);
        if (!strstr(line.text, cases[i].expected))
            fail_msg("%s:\n%s\nexpected %s", text, line.text, cases[i].expected);
        dmc_zarr_array_free(array);
        free(text);
    }
}

struct bad {
    enum damacy_status status;
    const char *part; /* of the message */
    const char *changes[5];
    const char *member;
};

static void expect_bad(const struct bad *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *text = compose(cases[i].changes);
        struct dmc_selection selection = selection_of(cases[i].member);
        struct dmc_zarr_array *array = NULL;
        struct damacy_error error = {0};
        enum damacy_status status = dmc_zarr_array_parse_v2(text, strlen(text), &selection, &array, &error);
        if (status != cases[i].status || error.status != status || !strstr(error.message, cases[i].part) || array)
            fail_msg("%.300s:\ngot %s \"%s\", expected %s with \"%s\"", text, damacy_status_str(status), error.message,
                     damacy_status_str(cases[i].status), cases[i].part);
        free(text);
    }
}

#define GOOD(...)                                                                                                              \
    do {                                                                                                                       \
        static const struct good cases[] = {__VA_ARGS__};                                                                      \
        expect_good(cases, sizeof cases / sizeof *cases);                                                                      \
    } while (0)
#define BAD(...)                                                                                                               \
    do {                                                                                                                       \
        static const struct bad cases[] = {__VA_ARGS__};                                                                       \
        expect_bad(cases, sizeof cases / sizeof *cases);                                                                       \
    } while (0)

static void test_plain(void **state)
{
    (void)state;
    GOOD({"v2 u16 [60,250] chunks [16,64] fill 0000 key 1.2 | bytes{\"endian\":\"little\"}", {NULL}, NULL},
         {"key 1/2 |", {"dimension_separator=\"/\""}, NULL}, {"key 1.2 |", {"dimension_separator=\".\""}, NULL},
         {"key 1.2 |", {"dimension_separator=null"}, NULL}, {"| transpose{\"order\":[1,0]} bytes{", {"order=\"F\""}, NULL},
         {"v2 u16 [5] chunks [2] fill 0000 key 1 | bytes{", {"order=\"F\"", "shape=[5]", "chunks=[2]"}, NULL},
         {"v2 u16 [] chunks [] fill 0000 key 0 | bytes", {"shape=[]", "chunks=[]"}, NULL},
         {"v2 u16 [0,3] chunks [2,2]", {"shape=[0,3]", "chunks=[2,2]"}, NULL},
         {"| bytes{\"endian\":\"big\"}", {"dtype=\">u2\""}, NULL});
    BAD({DAMACY_UNSUPPORTED, "zarr_format is not supported: found 3, expected 2", {"zarr_format=3"}, NULL},
        {DAMACY_DECODE, "zarr_format is wrong: found nothing", {"zarr_format="}, NULL},
        {DAMACY_DECODE, "shape is wrong: found nothing", {"shape="}, NULL},
        {DAMACY_DECODE, "chunks is wrong: found nothing", {"chunks="}, NULL},
        {DAMACY_DECODE, "dtype is wrong: found nothing", {"dtype="}, NULL},
        {DAMACY_DECODE, "shape[1] is wrong: found -1", {"shape=[60,-1]"}, NULL},
        {DAMACY_DECODE, "chunks is wrong: found a list of 1", {"chunks=[16]"}, NULL},
        {DAMACY_DECODE, "chunks[0] is wrong: found 0", {"chunks=[0,64]"}, NULL},
        {DAMACY_UNSUPPORTED, "chunks is not supported: found larger ones", {"chunks=[4611686018427387904,64]"}, NULL},
        {DAMACY_UNSUPPORTED, "fewer than 2^63 chunks", {"shape=[9223372036854775807,9223372036854775807]"}, NULL},
        {DAMACY_DECODE, "order is wrong: found \"A\"", {"order=\"A\""}, NULL},
        {DAMACY_DECODE, "dimension_separator is wrong: found \"-\"", {"dimension_separator=\"-\""}, NULL});
}

static void test_dtypes(void **state)
{
    (void)state;
    GOOD({"v2 bool [60,250] chunks [16,64] fill 00 key 1.2 | bytes", {"dtype=\"|b1\""}, NULL},
         {"v2 i8 ", {"dtype=\"|i1\""}, NULL}, {"v2 u8 ", {"dtype=\"|u1\""}, NULL}, {"v2 i16 ", {"dtype=\"<i2\""}, NULL},
         {"v2 i32 ", {"dtype=\">i4\""}, NULL}, {"v2 i64 ", {"dtype=\"<i8\""}, NULL}, {"v2 u32 ", {"dtype=\"<u4\""}, NULL},
         {"v2 u64 ", {"dtype=\"<u8\""}, NULL}, {"v2 f16 ", {"dtype=\"<f2\""}, NULL}, {"v2 f32 ", {"dtype=\"<f4\""}, NULL},
         {"v2 f64 ", {"dtype=\">f8\""}, NULL},
         /* z5 writes an order for single bytes */
         {"v2 u8 [60,250] chunks [16,64] fill 00 key 1.2 | bytes", {"dtype=\"<u1\""}, NULL}, {"v2 u8 ", {"dtype=\"u1\""}, NULL},
         /* times: the ticks, whatever the unit */
         {"v2 i64 [60,250] chunks [16,64] fill 0500000000000000 ", {"dtype=\"<M8[ns]\"", "fill_value=5"}, NULL},
         {"fill 0000000000000080 ", {"dtype=\"<m8[10us]\"", "fill_value=\"NaT\""}, NULL},
         {"fill 0000000000000080 ", {"dtype=\"<M8[D]\"", "fill_value=null"}, NULL}, {"v2 i64 ", {"dtype=\"<M8\""}, NULL},
         /* complex numbers: a last axis of two, which keys do not know and a transpose leaves in its place */
         {"v2 f32 [60,250,2] chunks [16,64,2] fill 0000803f00000040 key 1.2 | transpose{\"order\":[1,0,2]} "
          "bytes{\"endian\":\"little\"}",
          {"dtype=\"<c8\"", "fill_value=[1,2]", "order=\"F\""},
          NULL},
         {"v2 f64 [60,250,2] chunks [16,64,2] fill 000000000000f87f000000000000f0ff key 1.2 | bytes{\"endian\":\"big\"}",
          {"dtype=\">c16\"", "fill_value=[\"NaN\",\"-Infinity\"]"},
          NULL},
         {"fill 0000000000000000 ", {"dtype=\"<c8\"", "fill_value=null"}, NULL},
         {"fill 0000803f00000000 ", {"dtype=\"<c8\"", "fill_value=1.0"}, NULL}, /* zarr-python before 2.10 */
         {"v2 f64 [2] chunks [2] fill 00000000000000000000000000000000 key 0 |",
          {"dtype=\"<c16\"", "shape=[]", "chunks=[]", "fill_value=0"},
          NULL},
         /* tensorstore's names for what numpy has no string for */
         {"v2 bf16 [60,250] chunks [16,64] fill 803f key 1.2 | bytes{\"endian\":\"little\"}",
          {"dtype=\"bfloat16\"", "fill_value=1.0"},
          NULL},
         {"v2 f32 [60,250] chunks [16,64] fill 0000c07f key 1.2 | damacy.widen{\"from\":\"float8_e4m3fn\"} bytes",
          {"dtype=\"float8_e4m3fn\"", "fill_value=\"NaN\""},
          NULL},
         {"v2 i8 [60,250] chunks [16,64] fill ff key 1.2 | damacy.widen{\"from\":\"int4\"} bytes",
          {"dtype=\"int4\"", "fill_value=-1"},
          NULL});
    BAD({DAMACY_UNSUPPORTED, "dtype is not supported: found \"|O\"", {"dtype=\"|O\""}, NULL},
        {DAMACY_UNSUPPORTED, "found \"|S5\"", {"dtype=\"|S5\""}, NULL},
        {DAMACY_UNSUPPORTED, "found \"<U4\"", {"dtype=\"<U4\""}, NULL},
        {DAMACY_UNSUPPORTED, "found \"|V8\"", {"dtype=\"|V8\""}, NULL},
        {DAMACY_UNSUPPORTED, "found \"<f16\"", {"dtype=\"<f16\""}, NULL},
        {DAMACY_UNSUPPORTED, "found \"<c32\"", {"dtype=\"<c32\""}, NULL},
        {DAMACY_UNSUPPORTED, "found \"<M8ns\"", {"dtype=\"<M8ns\""}, NULL},
        {DAMACY_DECODE, "a byte order, < or >", {"dtype=\"u2\""}, NULL},
        {DAMACY_DECODE, "a byte order", {"dtype=\"|i4\""}, NULL}, {DAMACY_DECODE, "dtype is wrong: found 7", {"dtype=7"}, NULL},
        {DAMACY_UNSUPPORTED,
         "32 axes with those of the dtype",
         {"dtype=\"<c8\"", "shape=[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]"},
         NULL},
        {DAMACY_INVAL, "member \"x\" was asked for, but the dtype is not structured", {NULL}, "x"});
}

static void test_fills(void **state)
{
    (void)state;
    GOOD({"fill 0000 ", {"fill_value=null"}, NULL}, {"fill 0000 ", {"fill_value="}, NULL},
         {"fill 0700 ", {"fill_value=7.0"}, NULL},
         {"fill 0700 ", {"fill_value=\"7\""}, NULL}, /* a number in quotation marks, as NCZarr writes it */
         {"fill 0000c07f ", {"dtype=\"<f4\"", "fill_value=\"NaN\""}, NULL},
         {"fill 0000c07f ", {"dtype=\"<f4\"", "fill_value=NaN"}, NULL},
         {"fill 0000807f ", {"dtype=\"<f4\"", "fill_value=\"Infinity\""}, NULL},
         {"fill 000080ff ", {"dtype=\">f4\"", "fill_value=\"-Infinity\""}, NULL},
         {"fill 0000c03f ", {"dtype=\"<f4\"", "fill_value=\"1.5\""}, NULL},
         {"fill 0100c07f ", {"dtype=\"<f4\"", "fill_value=\"0x7fc00001\""}, NULL},
         {"fill 000000000000f83f ", {"dtype=\"<f8\"", "fill_value=\"AAAAAAAA+D8=\""}, NULL},
         {"fill 000000000000f83f ", {"dtype=\">f8\"", "fill_value=\"P/gAAAAAAAA=\""}, NULL},
         {"fill 003c ", {"dtype=\"<f2\"", "fill_value=\"ADw=\""}, NULL},
         {"fill 01 ", {"dtype=\"|b1\"", "fill_value=true"}, NULL}, {"fill 01 ", {"dtype=\"|b1\"", "fill_value=1"}, NULL},
         {"fill 00 ", {"dtype=\"|b1\"", "fill_value=null"}, NULL});
    BAD({DAMACY_DECODE, "fill_value is wrong: found 65536", {"fill_value=65536"}, NULL},
        {DAMACY_DECODE, "fill_value is wrong: found 1.5", {"fill_value=1.5"}, NULL},
        {DAMACY_DECODE, "fill_value is wrong: found \"NaN\"", {"fill_value=\"NaN\""}, NULL},
        {DAMACY_DECODE, "fill_value is wrong: found NaN", {"fill_value=NaN"}, NULL},
        {DAMACY_DECODE, "fill_value is wrong", {"fill_value=\"AAAA\"", "dtype=\"<f4\""}, NULL},
        {DAMACY_DECODE, "fill_value is wrong", {"fill_value=\"A*A=\"", "dtype=\"<f2\""}, NULL},
        {DAMACY_DECODE, "fill_value is wrong", {"fill_value=\"\""}, NULL},
        {DAMACY_DECODE, "a real and an imaginary part", {"fill_value=[1]", "dtype=\"<c8\""}, NULL},
        {DAMACY_DECODE, "number of ticks", {"fill_value=\"never\"", "dtype=\"<M8[s]\""}, NULL},
        {DAMACY_DECODE, "fill_value is wrong: found an object", {"fill_value={}"}, NULL});
}

static void test_codecs(void **state)
{
    (void)state;
    GOOD({"| bytes{\"endian\":\"little\"} numcodecs.zlib{\"level\":1}", {"compressor={\"id\":\"zlib\",\"level\":1}"}, NULL},
         {"} numcodecs.blosc{\"cname\":\"lz4\",\"clevel\":5,\"shuffle\":1,\"blocksize\":0}",
          {"compressor={\"cname\":\"lz4\",\"id\":\"blosc\",\"clevel\":5,\"shuffle\":1,\"blocksize\":0}"},
          NULL},
         {"| bytes{\"endian\":\"little\"} numcodecs.delta{\"dtype\":\"<u2\",\"astype\":\"<u2\"} "
          "numcodecs.shuffle{\"elementsize\":2} numcodecs.zstd{}",
          {"compressor={\"id\":\"zstd\"}",
           "filters=[{\"id\":\"delta\",\"dtype\":\"<u2\",\"astype\":\"<u2\"},{\"id\":\"shuffle\",\"elementsize\":2}]"},
          NULL},
         {"| bytes{\"endian\":\"little\"}", {"filters=[]"}, NULL},              /* zarr-python 2 */
         {"| bytes{\"endian\":\"little\"}", {"filters=", "compressor="}, NULL}, /* z5 leaves out what is null */
         {"| bytes{\"endian\":\"little\"}", {"order="}, NULL},                  /* z5 before 2.0, zarr.js */
         /* a shuffle that does not say of what: numcodecs' own default, not the dtype's size */
         {"numcodecs.shuffle{\"elementsize\":4}", {"filters=[{\"id\":\"shuffle\"}]"}, NULL},
         {"numcodecs.zlib{\"level\":1}", {"compressor={\"id\":\"numcodecs.zlib\",\"level\":1}"}, NULL},
         {"numcodecs.x{\"a\\\"\\\\\\u0001\":null}", {"compressor={\"id\":\"x\",\"a\\\"\\\\\\u0001\":null}"}, NULL});
    BAD({DAMACY_DECODE, "compressor is wrong: found \"zlib\", expected an object with an id", {"compressor=\"zlib\""}, NULL},
        {DAMACY_DECODE, "compressor.id is wrong: found nothing", {"compressor={}"}, NULL},
        {DAMACY_DECODE, "compressor.id is wrong: found 7", {"compressor={\"id\":7}"}, NULL},
        {DAMACY_DECODE, "filters is wrong: found an object", {"filters={\"id\":\"delta\"}"}, NULL},
        {DAMACY_DECODE, "filters[1] is wrong: found null", {"filters=[{\"id\":\"delta\"},null]"}, NULL},
        {DAMACY_UNSUPPORTED,
         "more than 16 codecs",
         {"filters=[{\"id\":\"a\"},{\"id\":\"a\"},{\"id\":\"a\"},{\"id\":\"a\"},{\"id\":\"a\"},{\"id\":\"a\"},{\"id\":\"a\"},{"
          "\"id\":\"a\"},"
          "{\"id\":\"a\"},{\"id\":\"a\"},{\"id\":\"a\"},{\"id\":\"a\"},{\"id\":\"a\"},{\"id\":\"a\"},{\"id\":\"a\"},{\"id\":"
          "\"a\"}]"},
         NULL});
    char filler[5000], change[6000];
    memset(filler, 'x', sizeof filler);
    snprintf(change, sizeof change, "compressor={\"id\":\"zlib\",\"a\":\"%.4200s\"}", filler);
    const struct bad longer = {
        DAMACY_UNSUPPORTED, "compressor: the configuration of codec \"zlib\" is too long", {change}, NULL};
    expect_bad(&longer, 1);
}

#define RECORD                                                                                                                 \
    "dtype=[[\"x\",\"<f4\"],[\"\",\"|V2\"],[\"y\",\">i2\"],[\"name\",\"|S3\"],[\"rgb\",\"|u1\",[3]],[\"p\",[[\"q\",\"<c8\"],[" \
    "\"x.y\",\"<u8\",[2,2]]]],[\"t\",\"<M8[s]\"]]"
/*            x 0     pad 4   y 6   name 8   rgb 11   p.q 14   p.x.y 22   t 54, 62 in all */

static void test_members(void **state)
{
    (void)state;
    GOOD({"v2 f32 [60,250] chunks [16,64] fill 00000000 key 1.2 | "
          "damacy.member{\"record_bytes\":62,\"offset\":0,\"item_bytes\":4,\"endian\":\"little\"} bytes",
          {RECORD, "fill_value=null"},
          "x"},
         {"| damacy.member{\"record_bytes\":62,\"offset\":6,\"item_bytes\":2,\"endian\":\"big\"} bytes", {RECORD}, "y"},
         {"v2 u8 [60,250,3] chunks [16,64,3] fill 00 key 1.2 | "
          "damacy.member{\"record_bytes\":62,\"offset\":11,\"item_bytes\":3} transpose{\"order\":[1,0,2]} bytes",
          {RECORD, "order=\"F\""},
          "rgb"},
         {"v2 f32 [60,250,2] chunks [16,64,2] fill 0000000000000000 key 1.2 | "
          "damacy.member{\"record_bytes\":62,\"offset\":14,\"item_bytes\":8,\"endian\":\"little\"}",
          {RECORD},
          "p.q"},
         {"v2 u64 [60,250,2,2] chunks [16,64,2,2] fill 0000000000000000 key 1.2 | "
          "damacy.member{\"record_bytes\":62,\"offset\":22,\"item_bytes\":32,\"endian\":\"little\"}",
          {RECORD},
          "p.x.y"},
         {"v2 i64 [60,250] chunks [16,64] fill 0000000000000080 ", {RECORD, "fill_value=null"}, "t"},
         /* the record in base64: x = 1.5, y = 258 */
         {"fill 0000c03f ", {"dtype=[[\"x\",\"<f4\"],[\"y\",\">i2\"]]", "fill_value=\"AADAPwEC\""}, "x"},
         {"fill 0201 ", {"dtype=[[\"x\",\"<f4\"],[\"y\",\">i2\"]]", "fill_value=\"AADAPwEC\""}, "y"},
         {"fill 01 ", {"dtype=[[\"x\",\"|u1\",[3]]]", "fill_value=\"AQEB\""}, "x"},
         /* the longest name counts */
         {"v2 i16 ", {"dtype=[[\"x.y\",\"<i2\"],[\"x\",[[\"y\",\"|u1\"]]]]"}, "x.y"},
         {"v2 i16 ", {"dtype=[[\"x\",[[\"y\",\"|u1\"]]],[\"x.y\",\"<i2\"]]"}, "x.y"},
         {"v2 u8 [60,250,3] ", {"dtype=[[\"x\",\"|u1\",3]]"}, "x"}); /* numpy wrote shapes of one axis so */
    BAD({DAMACY_UNSUPPORTED,
         "dtype is structured; one member at a time can be read; add #member=NAME to the uri; there are \"x\", \"y\"",
         {RECORD},
         NULL},
        {DAMACY_UNSUPPORTED, "add #member=p.NAME to the uri; there are \"q\", \"x.y\"", {RECORD}, "p"},
        {DAMACY_INVAL, "the structured dtype has no member \"z\"; there are \"x\"", {RECORD}, "z"},
        {DAMACY_INVAL, "no member \"p.z\"", {RECORD}, "p.z"},
        {DAMACY_INVAL, "member 'x' of the structured dtype has no members", {RECORD}, "x.z"},
        {DAMACY_UNSUPPORTED, "found \"|S3\"", {RECORD}, "name"},
        {DAMACY_UNSUPPORTED, "dtype[1] is not supported: found \"|O\"", {"dtype=[[\"x\",\"<f4\"],[\"o\",\"|O\"]]"}, "x"},
        {DAMACY_DECODE, "same name", {"dtype=[[\"x\",\"<f4\"],[\"x\",\"<f4\"]]"}, "x"},
        {DAMACY_DECODE, "dtype is wrong: found a list of 0", {"dtype=[]"}, "x"},
        {DAMACY_DECODE, "dtype[0] is wrong", {"dtype=[[\"x\"]]"}, "x"},
        {DAMACY_DECODE, "dtype[0] is wrong", {"dtype=[[\"x\",\"<f4\",[0]]]"}, "x"},
        {DAMACY_DECODE, "dtype[0] is wrong", {"dtype=[[\"x\",\"<f4\",[1048576]]]"}, "x"},
        {DAMACY_DECODE, "dtype[0] is wrong", {"dtype=[[\"x\",\"<f4\",[18446744073709551615,18446744073709551615]]]"}, "x"},
        {DAMACY_UNSUPPORTED, "records of at most 1 MiB", {"dtype=[[\"x\",\"|V1000000\"],[\"y\",\"|V1000000\"]]"}, "x"},
        {DAMACY_UNSUPPORTED,
         "inside one another",
         {"dtype=[[\"a\",[[\"a\",[[\"a\",[[\"a\",[[\"a\",[[\"a\",[[\"a\",[[\"a\",[[\"a\",\"|u1\"]]]]]]]]]]]]]]]]]]"},
         "a"},
        {DAMACY_DECODE,
         "a record of 6 bytes in base64",
         {"dtype=[[\"x\",\"<f4\"],[\"y\",\">i2\"]]", "fill_value=\"AADAPwE=\""},
         "x"},
        {DAMACY_UNSUPPORTED, "different fill values", {"dtype=[[\"x\",\"|u1\",[3]]]", "fill_value=\"AQEC\""}, "x"},
        {DAMACY_DECODE, "an object with a value for each member", {RECORD, "fill_value=1"}, "x"});
}

/* Members that the specification does not know are ignored; these were seen: netCDF-C, N5 tools, OME-Zarr converters. */
static void test_unknown_members(void **state)
{
    (void)state;
    const char *text =
        "{\"zarr_format\":2,\"shape\":[4],\"chunks\":[2],\"dtype\":\"<i4\",\"fill_value\":null,\"order\":\"C\",\"compressor\":"
        "null,"
        "\"filters\":null,\"_nczarr_array\":{\"dimrefs\":[\"/x\"],\"storage\":\"chunked\"},\"must_understand\":7}";
    struct dmc_zarr_array *array = NULL;
    struct damacy_error error;
    if (dmc_zarr_array_parse_v2(text, strlen(text), NULL, &array, &error) != DAMACY_OK)
        fail_msg("%s", error.message);
    assert_string_equal(array->data_type, "<i4");
    dmc_zarr_array_free(array);
}

/* zarr-python and dask wrote chunks of 0 on axes of extent 0, where there are none (chunks=-1). */
static void test_empty_axes(void **state)
{
    (void)state;
    GOOD({"v2 u16 [0,3] chunks [1,3] ", {"shape=[0,3]", "chunks=[0,3]"}, NULL});
}

static const char whole[] =
    "{\"zarr_format\":2,\"shape\":[60,250],\"chunks\":[16,64],\"dtype\":[[\"x\",\"<f4\"],[\"y\",\">i2\",[2]]],"
    "\"fill_value\":\"AAAAAAEBAQE=\",\"order\":\"F\",\"compressor\":{\"id\":\"blosc\",\"cname\":\"lz4\"},"
    "\"filters\":[{\"id\":\"delta\",\"dtype\":\"<u2\"}],\"dimension_separator\":\"/\"}";

static void test_cut_and_changed(void **state)
{
    (void)state;
    static const char replacements[] = "\0 0\"{[,:}]x\xff-";
    struct dmc_selection selection = selection_of("y");
    size_t bytes = sizeof whole - 1, good = 0;
    char *text = malloc(bytes);
    for (size_t i = 0; i < bytes; i++) {
        struct dmc_zarr_array *array = NULL;
        char *cut = malloc(i ? i : 1);
        memcpy(cut, whole, i);
        assert_int_equal(dmc_zarr_array_parse_v2(cut, i, &selection, &array, NULL), DAMACY_DECODE);
        free(cut);
        for (size_t r = 0; r < sizeof replacements - 1; r++) {
            memcpy(text, whole, bytes);
            text[i] = replacements[r];
            struct damacy_error error = {0};
            array = NULL;
            enum damacy_status status = dmc_zarr_array_parse_v2(text, bytes, &selection, &array, &error);
            assert_true(status == DAMACY_OK || status == DAMACY_DECODE || status == DAMACY_UNSUPPORTED ||
                        status == DAMACY_INVAL);
            assert_int_equal(status == DAMACY_OK, array != NULL);
            assert_true(status == DAMACY_OK || (error.status == status && error.message[0]));
            good += status == DAMACY_OK;
            dmc_zarr_array_free(array);
        }
    }
    free(text);
    assert_true(good > 50);
}

static void test_allocations_fail(void **state)
{
    (void)state;
    struct dmc_selection selection = selection_of("y");
    for (uint64_t n = 1;; n++) {
        struct dmc_zarr_array *array = NULL;
        struct damacy_error error = {0};
        dmc_mem_fail_at(n);
        enum damacy_status status = dmc_zarr_array_parse_v2(whole, sizeof whole - 1, &selection, &array, &error);
        dmc_mem_fail_at(0);
        if (status == DAMACY_OK) {
            assert_true(n > 5);
            dmc_zarr_array_free(array);
            break;
        }
        assert_int_equal(status, DAMACY_OOM);
        assert_int_equal(error.status, DAMACY_OOM);
        assert_null(array);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),      cmocka_unit_test(test_dtypes),          cmocka_unit_test(test_fills),
        cmocka_unit_test(test_codecs),     cmocka_unit_test(test_members),         cmocka_unit_test(test_unknown_members),
        cmocka_unit_test(test_empty_axes), cmocka_unit_test(test_cut_and_changed), cmocka_unit_test(test_allocations_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
