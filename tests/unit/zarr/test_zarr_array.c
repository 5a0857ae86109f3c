/* Goal: what is in a zarr.json is what the struct says, and what is wrong in one is told by name.
 *
 * Method: texts that zarr-python wrote, against what zarr-python reads from them (zarr_examples.h); one good text, changed in
 * one place at a time, against the message; every cut and every changed byte of a good text; the n-th allocation fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "unit/zarr/zarr_examples.h"
#include "zarr/zarr_array.h"
#include "zarr/zarr_parse.h"

static struct dmc_zarr_array *parse_good(const char *name, const char *text)
{
    struct dmc_zarr_array *array = NULL;
    struct damacy_error error;
    if (dmc_zarr_array_parse(text, strlen(text), NULL, &array, &error) != DAMACY_OK)
        fail_msg("%s: %s", name, error.message);
    assert_true(array->memory_bytes <= dmc_zarr_array_memory_max());
    return array;
}

static uint64_t product(const uint64_t *extents, uint32_t rank)
{
    uint64_t result = 1;
    for (uint32_t axis = 0; axis < rank; axis++)
        result *= extents[axis];
    return result;
}

static void check_example(const struct zarr_example *example)
{
    struct dmc_zarr_array *array = parse_good(example->name, example->text);
    uint32_t rank = example->rank;
    print_message("%s\n", example->name);
    assert_int_equal(array->rank, rank);
    assert_int_equal(array->dtype, example->dtype);
    assert_int_equal(array->item_bytes, example->item_bytes);
    assert_memory_equal(array->shape, example->shape, rank * sizeof(uint64_t));
    assert_memory_equal(array->chunk_shape, example->chunk_shape, rank * sizeof(uint64_t));
    assert_memory_equal(array->grid_shape, example->grid_shape, rank * sizeof(uint64_t));
    assert_memory_equal(array->fill, example->fill, array->item_bytes);
    assert_int_equal(array->sharded, example->sharded);
    assert_int_equal(array->index_at_start, example->index_at_start);
    assert_int_equal(array->index_crc32c, example->index_crc32c);
    assert_int_equal(array->index_big_endian, example->index_big_endian);
    assert_int_equal(array->chunk_elements, product(array->chunk_shape, rank));
    assert_int_equal(array->chunks_per_shard, product(array->grid_shape, rank) / product(array->chunk_shape, rank));

    char names[200] = "";
    for (uint32_t i = 0; i < array->codecs.count; i++) {
        strcat(strcat(names, i ? " " : ""), array->codecs.list[i].name);
        const char *configuration = array->codecs.list[i].configuration;
        assert_true(!configuration || configuration[0] == '{');
    }
    assert_string_equal(names, example->codec_names);

    char key[DMC_ZARR_KEY_BYTES_MAX];
    assert_int_equal(dmc_zarr_chunk_key(array, example->last, key, sizeof key), strlen(example->last_key));
    assert_string_equal(key, example->last_key);
    dmc_zarr_array_free(array);
}

static void test_zarr_python_examples(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof zarr_examples / sizeof *zarr_examples; i++)
        check_example(&zarr_examples[i]);
}

/* --- one good text with places to change --- */

#define GRID "{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[16,32]}}"
#define KEYS "{\"name\":\"default\"}"
#define BYTES "{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}}"
#define INDEX "[" BYTES ",\"crc32c\"]"
#define SHARDED(shape, codecs, index, more)                                                                                    \
    "[{\"name\":\"sharding_indexed\",\"configuration\":{\"chunk_shape\":" shape ",\"codecs\":" codecs                          \
    ",\"index_codecs\":" index more "}}]"

enum member { FORMAT, NODE, SHAPE, TYPE, CHUNK_GRID, KEY, FILL, CODECS, MEMBER_COUNT };
static const char *const member_names[MEMBER_COUNT] = {"zarr_format", "node_type",          "shape",      "data_type",
                                                       "chunk_grid",  "chunk_key_encoding", "fill_value", "codecs"};
static const char *const member_texts[MEMBER_COUNT] = {"3",  "\"array\"", "[64,64]", "\"uint16\"",
                                                       GRID, KEYS,        "0",       "[" BYTES "]"};

/* The good text with `value` for one member (NULL: without it), and `more` at the end. */
static char *compose(enum member changed, const char *value, const char *more)
{
    size_t capacity = 2048 + (value ? strlen(value) : 0) + strlen(more);
    char *text = malloc(capacity), *to = text;
    assert_non_null(text);
    to += sprintf(to, "{");
    const char *comma = "";
    for (int i = 0; i < MEMBER_COUNT; i++) {
        if (i == (int)changed && !value)
            continue;
        to += sprintf(to, "%s\"%s\":%s", comma, member_names[i], i == (int)changed ? value : member_texts[i]);
        comma = ",";
    }
    sprintf(to, "%s}", more);
    return text;
}

static void expect_failure(const char *text, size_t bytes, enum damacy_status status, const char *part)
{
    struct dmc_zarr_array *array = NULL;
    struct damacy_error error = {0};
    enum damacy_status got = dmc_zarr_array_parse(text, bytes, NULL, &array, &error);
    if (got != status || error.status != status || !strstr(error.message, part) || array)
        fail_msg("%.300s:\ngot %s \"%s\", expected %s with \"%s\"", text, damacy_status_str(got), error.message,
                 damacy_status_str(status), part);
    assert_int_equal(dmc_zarr_array_parse(text, bytes, NULL, &array, NULL), status); /* the error is optional */
}

static void expect_member(enum member changed, const char *value, enum damacy_status status, const char *part)
{
    char *text = compose(changed, value, "");
    expect_failure(text, strlen(text), status, part);
    free(text);
}

static struct dmc_zarr_array *parse_member(enum member changed, const char *value)
{
    char *text = compose(changed, value, "");
    struct dmc_zarr_array *array = parse_good(text, text);
    free(text);
    return array;
}

static void test_missing_members(void **state)
{
    (void)state;
    for (int i = 0; i < MEMBER_COUNT; i++)
        expect_member((enum member)i, NULL, DAMACY_DECODE, member_names[i]);
    expect_member(SHAPE, NULL, DAMACY_DECODE, "shape is wrong: found nothing, expected a list of integers");
}

static void test_kind(void **state)
{
    (void)state;
    expect_failure("[]", 2, DAMACY_DECODE, "found a list of 0");
    expect_failure("", 0, DAMACY_DECODE, "");
    expect_failure("{", 1, DAMACY_DECODE, "");
    expect_failure("null", 4, DAMACY_DECODE, "");
    expect_failure("{}", 2, DAMACY_DECODE, "zarr_format is wrong: found nothing, expected 3");
    expect_member(FORMAT, "2", DAMACY_UNSUPPORTED, "zarr_format is not supported: found 2, expected 3");
    expect_member(FORMAT, "\"3\"", DAMACY_DECODE, "found \"3\"");
    expect_member(NODE, "\"table\"", DAMACY_DECODE, "node_type is wrong: found \"table\", expected \"array\"");
    expect_member(NODE, "\"group\"", DAMACY_UNSUPPORTED, "is a group; name an array in it");
    const char *ome = "{\"zarr_format\":3,\"node_type\":\"group\",\"attributes\":{\"ome\":{\"multiscales\":[{\"datasets\":"
                      "[{\"path\":\"s0\"}]}]}}}";
    expect_failure(ome, strlen(ome), DAMACY_UNSUPPORTED, "is a group; name an array in it, for instance \"s0\"");
    const char *consolidated = "{\"zarr_format\":3,\"node_type\":\"group\",\"consolidated_metadata\":{\"metadata\":{\"g\":"
                               "{\"node_type\":\"group\"},\"g/a\":{\"node_type\":\"array\"}}}}";
    expect_failure(consolidated, strlen(consolidated), DAMACY_UNSUPPORTED, "for instance \"g/a\"");
}

static void test_shape(void **state)
{
    (void)state;
    expect_member(SHAPE, "64", DAMACY_DECODE, "shape is wrong: found 64, expected a list of integers");
    expect_member(SHAPE, "[64,-1]", DAMACY_DECODE, "shape[1] is wrong: found -1, expected an integer from 0 to 2^63-1");
    expect_member(SHAPE, "[64,1.5]", DAMACY_DECODE, "shape[1] is wrong: found 1.5");
    expect_member(SHAPE, "[64,\"64\"]", DAMACY_DECODE, "found \"64\"");
    expect_member(SHAPE, "[64,null]", DAMACY_DECODE, "shape[1] is wrong: found null");
    expect_member(SHAPE, "[64,9223372036854775808]", DAMACY_DECODE, "found 9223372036854775808");
    expect_member(SHAPE, "[64,1e30]", DAMACY_DECODE, "shape[1]");
    expect_member(SHAPE, "[64]", DAMACY_DECODE, "chunk_shape is wrong: found a list of 2, expected a list of 1 integers");
    expect_member(SHAPE, "[9223372036854775807,9223372036854775807]", DAMACY_UNSUPPORTED, "fewer than 2^63 chunks");
    expect_member(SHAPE, "[9223372036854775807,512]", DAMACY_UNSUPPORTED, "shape is not supported: found more"); /* 2^63 */
    dmc_zarr_array_free(parse_member(SHAPE, "[9223372036854775807,480]"));
    expect_member(SHAPE, "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", DAMACY_UNSUPPORTED,
                  "found 32 axes, expected at most 31 axes");

    struct dmc_zarr_array *array = parse_member(SHAPE, "[9223372036854775807,0]");
    assert_int_equal(array->shape[0], INT64_MAX);
    assert_int_equal(array->shape[1], 0);
    dmc_zarr_array_free(array);
    array = parse_member(SHAPE, "[64.0,6e1]");
    assert_int_equal(array->shape[0], 64);
    assert_int_equal(array->shape[1], 60);
    dmc_zarr_array_free(array);
}

static void test_data_type(void **state)
{
    (void)state;
    expect_member(TYPE, "\"string\"", DAMACY_UNSUPPORTED, "data_type is not supported: found \"string\", expected bool, int8");
    expect_member(TYPE, "\"r16\"", DAMACY_UNSUPPORTED, "r16");
    expect_member(TYPE, "\"<u2\"", DAMACY_UNSUPPORTED, "<u2");
    expect_member(TYPE, "\"uint16\\u0000\"", DAMACY_DECODE, "data_type is wrong: found \"uint16\\x00\"");
    expect_member(TYPE, "7", DAMACY_DECODE, "data_type is wrong: found 7");
    expect_member(TYPE, "{\"name\":\"fixed_length_utf32\",\"configuration\":{\"length_bytes\":16}}", DAMACY_UNSUPPORTED,
                  "fixed_length_utf32");
    expect_member(TYPE, "{\"name\":\"uint16\",\"configuration\":{\"unit\":\"s\"}}", DAMACY_UNSUPPORTED,
                  "data_type.configuration: member \"unit\"");
    struct dmc_zarr_array *array = parse_member(TYPE, "{\"name\":\"uint16\",\"configuration\":{}}");
    assert_int_equal(array->dtype, DAMACY_U16);
    dmc_zarr_array_free(array);
}

static void test_grid(void **state)
{
    (void)state;
#define REGULAR(shape) "{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":" shape "}}"
    expect_member(CHUNK_GRID, "\"regular\"", DAMACY_DECODE, "chunk_grid.configuration.chunk_shape is wrong: found nothing");
    expect_member(CHUNK_GRID, "{\"name\":\"hexagonal\",\"configuration\":{}}", DAMACY_UNSUPPORTED,
                  "chunk_grid is not supported: found \"hexagonal\", expected regular or rectilinear");
    expect_member(CHUNK_GRID, "{\"configuration\":{}}", DAMACY_DECODE, "chunk_grid.name is wrong: found nothing");
    expect_member(CHUNK_GRID, "{\"name\":\"regular\",\"configuration\":[1]}", DAMACY_DECODE,
                  "chunk_grid.configuration is wrong");
    expect_member(CHUNK_GRID, "{\"name\":\"regular\",\"extra\":1}", DAMACY_UNSUPPORTED, "chunk_grid: member \"extra\"");
    expect_member(CHUNK_GRID, "{\"name\":\"regular\",\"must_understand\":1,\"configuration\":{\"chunk_shape\":[1,1]}}",
                  DAMACY_DECODE, "chunk_grid.must_understand is wrong: found 1, expected true or false");
    expect_member(CHUNK_GRID, REGULAR("[16]"), DAMACY_DECODE, "expected a list of 2 integers, one for each axis of shape");
    expect_member(CHUNK_GRID, REGULAR("[16,0]"), DAMACY_DECODE,
                  "chunk_grid.configuration.chunk_shape[1] is wrong: found 0, expected an integer from 1 to 2^63-1");
    expect_member(CHUNK_GRID, REGULAR("[16,-3]"), DAMACY_DECODE, "chunk_shape[1]");
    expect_member(CHUNK_GRID, REGULAR("[[16],32]"), DAMACY_DECODE, "chunk_shape[0] is wrong: found a list of 1");
    expect_member(CHUNK_GRID, REGULAR("[4294967296,4294967296]"), DAMACY_UNSUPPORTED, "at most 2^62 bytes");
    expect_member(CHUNK_GRID, REGULAR("[2147483648,1073741825]"), DAMACY_UNSUPPORTED, "at most 2^62 bytes");
    expect_member(CHUNK_GRID, REGULAR("[9223372036854775807,9223372036854775807]"), DAMACY_UNSUPPORTED, "at most 2^62 bytes");
    struct dmc_zarr_array *array = parse_member(CHUNK_GRID, REGULAR("[2147483648,1073741824]"));
    assert_int_equal(array->chunk_elements, UINT64_C(1) << 61);
    assert_ptr_equal(array->grid_shape, array->chunk_shape);
    dmc_zarr_array_free(array);
}

static void test_key_encoding(void **state)
{
    (void)state;
    expect_member(KEY, "{\"name\":\"hashed\"}", DAMACY_UNSUPPORTED, "found \"hashed\", expected default, v2, suffix");
    expect_member(KEY, "{\"name\":\"v2\",\"configuration\":{\"separator\":\"-\"}}", DAMACY_DECODE,
                  "chunk_key_encoding.configuration.separator is wrong: found \"-\", expected \"/\" or \".\"");
    expect_member(KEY, "{\"name\":\"v2\",\"configuration\":{\"separator\":\"\"}}", DAMACY_DECODE, "separator");
    expect_member(KEY, "{\"name\":\"v2\",\"configuration\":{\"separator\":null}}", DAMACY_DECODE,
                  "separator is wrong: found null");
    expect_member(KEY, "{\"name\":\"v2\",\"configuration\":{\"prefix\":\"x\"}}", DAMACY_UNSUPPORTED, "member \"prefix\"");

    static const struct {
        const char *text, *key;
    } cases[] = {{"\"default\"", "c/7/18446744073709551615"},
                 {"\"v2\"", "7.18446744073709551615"},
                 {"{\"name\":\"default\",\"configuration\":{\"separator\":\".\"}}", "c.7.18446744073709551615"},
                 {"{\"name\":\"v2\",\"configuration\":{\"separator\":\"/\"}}", "7/18446744073709551615"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dmc_zarr_array *array = parse_member(KEY, cases[i].text);
        const uint64_t at[2] = {7, UINT64_MAX};
        char key[DMC_ZARR_KEY_BYTES_MAX];
        size_t length = dmc_zarr_chunk_key(array, at, key, sizeof key);
        assert_string_equal(key, cases[i].key);
        assert_int_equal(length, strlen(key));

        /* Too small: the length says so, and what is there is a cut text. */
        memset(key, 'x', sizeof key);
        assert_int_equal(dmc_zarr_chunk_key(array, at, key, 4), length);
        assert_memory_equal(key, cases[i].key, 3);
        assert_int_equal(key[3], 0);
        assert_int_equal(key[4], 'x');
        assert_int_equal(dmc_zarr_chunk_key(array, at, NULL, 0), length);
        assert_int_equal(dmc_zarr_chunk_key(array, at, key, length), length); /* the zero needs a place, too */
        assert_int_equal(strlen(key), length - 1);
        dmc_zarr_array_free(array);
    }
}

static void test_longest_key(void **state)
{
    (void)state;
    struct dmc_zarr_array array = {.rank = DAMACY_RANK_MAX, .key_rank = DAMACY_RANK_MAX, .key_encoding = {.separator = '/'}};
    uint64_t at[DAMACY_RANK_MAX];
    memset(at, 0xff, sizeof at);
    char key[DMC_ZARR_KEY_BYTES_MAX];
    size_t length = dmc_zarr_chunk_key(&array, at, key, sizeof key);
    assert_int_equal(length, 1 + DAMACY_RANK_MAX * 21);
    assert_true(length < sizeof key);
    assert_int_equal(strlen(key), length);
}

static void test_codecs(void **state)
{
    (void)state;
    expect_member(CODECS, "null", DAMACY_DECODE, "codecs is wrong: found null, expected a list of codecs");
    expect_member(CODECS, "[]", DAMACY_DECODE, "codecs is wrong: found a list of 0");
    expect_member(CODECS, "[3]", DAMACY_DECODE, "codecs[0] is wrong: found 3");
    expect_member(CODECS, "[\"bytes\",{\"name\":\"\"}]", DAMACY_DECODE, "codecs[1].name is wrong: found \"\"");
    expect_member(CODECS, "[\"bytes\",{\"name\":\"gzip\",\"configuration\":3}]", DAMACY_DECODE,
                  "codecs[1].configuration is wrong");
    expect_member(CODECS, "[\"bytes\",{\"name\":\"gzip\",\"level\":3}]", DAMACY_UNSUPPORTED, "codecs[1]: member \"level\"");
    expect_member(CODECS,
                  "[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\"]",
                  DAMACY_UNSUPPORTED, "found a list of 17, expected at most 16 codecs");

    struct dmc_zarr_array *array = parse_member(CODECS, "[ {\"name\": \"bytes\"}, \"zstd\", {\"name\": \"gzip\", "
                                                        "\"configuration\": { \"level\" : 5 }, \"must_understand\": false}]");
    assert_int_equal(array->codecs.count, 3);
    assert_string_equal(array->codecs.list[0].name, "bytes");
    assert_null(array->codecs.list[0].configuration);
    assert_string_equal(array->codecs.list[1].name, "zstd");
    assert_null(array->codecs.list[1].configuration);
    assert_string_equal(array->codecs.list[2].name, "gzip");
    assert_string_equal(array->codecs.list[2].configuration, "{\"level\":5}");
    dmc_zarr_array_free(array);

    /* As much text as there may be, and a byte more; in the name and in the configuration. */
    for (int extra = 0; extra < 2; extra++) {
        enum { LIMIT = DMC_ZARR_TEXT_BYTES_MAX - sizeof "uint16" }; /* the dtype's name is a text, too */
        char text[LIMIT + 300], filler[LIMIT + 100];
        memset(filler, 'n', sizeof filler);
        snprintf(text, sizeof text, "[{\"name\":\"%.*s\"}]", LIMIT - 1 + extra, filler);
        if (extra)
            expect_member(CODECS, text, DAMACY_UNSUPPORTED, "is too long");
        else
            dmc_zarr_array_free(parse_member(CODECS, text));
        snprintf(text, sizeof text, "[{\"name\":\"x\",\"configuration\":{\"a\":\"%.*s\"}}]", LIMIT - 2 - 1 - 8 + extra, filler);
        if (extra)
            expect_member(CODECS, text, DAMACY_UNSUPPORTED, "codecs[0]: the configuration of codec \"x\" is too long");
        else
            dmc_zarr_array_free(parse_member(CODECS, text));
    }
}

static void test_sharding(void **state)
{
    (void)state;
    const char *path = "codecs[0].configuration";
    expect_member(CODECS, "[\"sharding_indexed\"]", DAMACY_DECODE, path);
    expect_member(CODECS, SHARDED("[8]", "[\"bytes\"]", INDEX, ""), DAMACY_DECODE,
                  "codecs[0].configuration.chunk_shape is wrong: found a list of 1, expected a list of 2");
    expect_member(CODECS, SHARDED("[8,0]", "[\"bytes\"]", INDEX, ""), DAMACY_DECODE, "chunk_shape[1] is wrong: found 0");
    expect_member(CODECS, SHARDED("[8,12]", "[\"bytes\"]", INDEX, ""), DAMACY_DECODE,
                  "codecs[0].configuration.chunk_shape[1] is wrong: found 12, expected a divisor of 32");
    expect_member(CODECS, SHARDED("[32,32]", "[\"bytes\"]", INDEX, ""), DAMACY_DECODE, "found 32, expected a divisor of 16");
    expect_member(CODECS, SHARDED("[8,8]", "[]", INDEX, ""), DAMACY_DECODE, "codecs[0].configuration.codecs is wrong");
    expect_member(CODECS, SHARDED("[8,8]", "[\"bytes\"]", "[]", ""), DAMACY_DECODE, "index_codecs is wrong: found a list of 0");
    expect_member(CODECS, SHARDED("[8,8]", "[\"bytes\"]", "[\"bytes\"]", ""), DAMACY_DECODE,
                  "index_codecs[0].configuration.endian is wrong: found nothing, expected \"little\" or \"big\"");
    expect_member(CODECS, SHARDED("[8,8]", "[\"bytes\"]", "[\"crc32c\"]", ""), DAMACY_UNSUPPORTED,
                  "index_codecs[0] is not supported: found \"crc32c\"");
    expect_member(CODECS, SHARDED("[8,8]", "[\"bytes\"]", "[" BYTES ",\"zstd\"]", ""), DAMACY_UNSUPPORTED,
                  "index_codecs[1] is not supported: found \"zstd\", expected bytes, or bytes and crc32c");
    expect_member(CODECS, SHARDED("[8,8]", "[\"bytes\"]", "[" BYTES ",\"crc32c\",\"crc32c\"]", ""), DAMACY_UNSUPPORTED,
                  "index_codecs[2]");
    expect_member(CODECS, SHARDED("[8,8]", "[\"bytes\"]", INDEX, ",\"index_location\":\"middle\""), DAMACY_DECODE,
                  "index_location is wrong: found \"middle\", expected \"start\" or \"end\"");
    expect_member(CODECS, SHARDED("[8,8]", "[\"bytes\"]", INDEX, ",\"order\":\"morton\""), DAMACY_UNSUPPORTED,
                  "member \"order\"");
    struct dmc_zarr_array *array = parse_member(CODECS, SHARDED("[8,8]", "[\"bytes\",\"zstd\"]", INDEX, ""));
    assert_true(array->sharded && !array->index_at_start && array->index_crc32c && !array->index_big_endian);
    assert_int_equal(array->chunks_per_shard, 8);
    assert_int_equal(array->chunk_elements, 64);
    assert_int_equal(array->grid_shape[1], 32);
    assert_int_equal(array->chunk_shape[1], 8);
    dmc_zarr_array_free(array);
}

/* Shards of 2^28 inner chunks are read, those of more are not. */
static void test_index_size(void **state)
{
    (void)state;
    const char *format = "{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[%llu],\"data_type\":\"uint8\",\"fill_value\":0,"
                         "\"chunk_key_encoding\":\"default\",\"chunk_grid\":{\"name\":\"regular\",\"configuration\":"
                         "{\"chunk_shape\":[%llu]}},\"codecs\":%s}";
    char text[1024];
    unsigned long long limit = 1ull << 28;
    snprintf(text, sizeof text, format, limit, limit, SHARDED("[1]", "[\"bytes\"]", INDEX, ""));
    dmc_zarr_array_free(parse_good("largest index", text));
    snprintf(text, sizeof text, format, limit, limit + 1, SHARDED("[1]", "[\"bytes\"]", INDEX, ""));
    expect_failure(text, strlen(text), DAMACY_UNSUPPORTED,
                   "found 268435457, expected at most 268435456 inner chunks in a shard");
    snprintf(text, sizeof text, format, limit, 1ull << 62, SHARDED("[1]", "[\"bytes\"]", INDEX, ""));
    expect_failure(text, strlen(text), DAMACY_UNSUPPORTED, "inner chunks in a shard");
}

static void test_unknown_members(void **state)
{
    (void)state;
    static const struct {
        const char *more;
        enum damacy_status status;
        const char *part;
    } cases[] = {
        {",\"extension\":{\"must_understand\":false}", DAMACY_OK, ""},
        {",\"extension\":{\"must_understand\":false,\"name\":\"x\"},\"other\":{\"must_understand\":false}", DAMACY_OK, ""},
        {",\"extension\":{\"must_understand\":true}", DAMACY_UNSUPPORTED, "member \"extension\" is not known"},
        {",\"extension\":{\"must_understand\":\"false\"}", DAMACY_UNSUPPORTED, "extension"},
        {",\"extension\":{}", DAMACY_UNSUPPORTED, "extension"},
        {",\"extension\":false", DAMACY_UNSUPPORTED, "extension"},
        {",\"a\\u0007\\\"b\":1", DAMACY_UNSUPPORTED, "a\\x07"},
        {",\"attributes\":{\"a\":[NaN,{\"b\":null}]}", DAMACY_OK, ""},
        {",\"attributes\\u0000x\":{}", DAMACY_UNSUPPORTED, "member \"attributes\""},
        {",\"attributes\":null", DAMACY_OK, ""},
        {",\"attributes\":[]", DAMACY_DECODE, "attributes is wrong: found a list of 0, expected an object"},
        {",\"dimension_names\":null", DAMACY_OK, ""},
        {",\"dimension_names\":[\"y\",null]", DAMACY_OK, ""},
        {",\"dimension_names\":[\"y\"]", DAMACY_DECODE,
         "dimension_names is wrong: found a list of 1, expected a list of 2 names"},
        {",\"dimension_names\":[\"y\",1]", DAMACY_DECODE, "dimension_names[1] is wrong: found 1, expected a name or null"},
        {",\"dimension_names\":\"yx\"", DAMACY_DECODE, "dimension_names"},
        {",\"storage_transformers\":[]", DAMACY_OK, ""},
        {",\"storage_transformers\":{}", DAMACY_DECODE, "storage_transformers"},
        {",\"storage_transformers\":[{\"name\":\"chunk-manifest-json\"}]", DAMACY_UNSUPPORTED,
         "storage_transformers is not supported: found \"chunk-manifest-json\", expected none"},
        {",\"storage_transformers\":[7]", DAMACY_DECODE, "storage_transformers[0] is wrong: found 7"},
        {",\"shape\":[1,1]", DAMACY_DECODE, "twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = compose(MEMBER_COUNT, "", cases[i].more);
        if (cases[i].status == DAMACY_OK)
            dmc_zarr_array_free(parse_good(cases[i].more, text));
        else
            expect_failure(text, strlen(text), cases[i].status, cases[i].part);
        free(text);
    }
}

/* Texts of strangers come into messages cut, and in one line. */
static void test_long_names_are_cut(void **state)
{
    (void)state;
    char value[5000];
    memset(value, 0, sizeof value);
    strcpy(value, "\"");
    for (int i = 0; i < 1500; i++)
        strcat(value, "\u00e9"); /* two bytes each, so that a cut could fall inside */
    strcat(value, "\"");
    for (int shift = 0; shift < 2; shift++) {
        char *text = compose(TYPE, value, "");
        struct dmc_zarr_array *array = NULL;
        struct damacy_error error;
        assert_int_equal(dmc_zarr_array_parse(text, strlen(text), NULL, &array, &error), DAMACY_UNSUPPORTED);
        assert_true(strlen(error.message) < 400);
        const char *end = strstr(error.message, "...");
        assert_non_null(end);
        assert_int_equal((unsigned char)end[-2], 0xc3);
        assert_int_equal((unsigned char)end[-1], 0xa9);
        free(text);
        memmove(value + 2, value + 1, strlen(value)); /* the same one byte further on */
        value[1] = 'x';
    }
}

static void expect_deep(const char *open, const char *close)
{
    enum { DEPTH = 1000000 };
    size_t open_bytes = strlen(open), close_bytes = strlen(close);
    char *value = malloc(DEPTH * (open_bytes + close_bytes) + 64);
    assert_non_null(value);
    char *to = value + sprintf(value, ",\"attributes\":{\"a\":");
    for (int i = 0; i < DEPTH; i++, to += open_bytes)
        memcpy(to, open, open_bytes);
    char *middle = to;
    to += sprintf(to, "1");
    for (int i = 0; i < DEPTH; i++, to += close_bytes)
        memcpy(to, close, close_bytes);
    strcpy(to, "}");
    char *text = compose(MEMBER_COUNT, "", value);
    expect_failure(text, strlen(text), DAMACY_DECODE, "");
    free(text);
    *middle = '\0'; /* and never closed */
    text = compose(MEMBER_COUNT, "", value);
    expect_failure(text, strlen(text), DAMACY_DECODE, "");
    free(text);
    free(value);
}

static void test_nested_a_million_deep(void **state)
{
    (void)state;
    expect_deep("[", "]");
    expect_deep("{\"a\":", "}");
}

/* Any cut of a good text is DECODE, never an array. */
static void test_cut_texts(void **state)
{
    (void)state;
    const char *text = zarr_examples[1].text;
    for (size_t bytes = 0; bytes < strlen(text); bytes++) {
        char *exact = malloc(bytes ? bytes : 1);
        memcpy(exact, text, bytes);
        struct dmc_zarr_array *array = NULL;
        assert_int_equal(dmc_zarr_array_parse(exact, bytes, NULL, &array, NULL), DAMACY_DECODE);
        free(exact);
    }
}

/* Any changed byte gives an array or an error, and the status fits. */
static void test_changed_bytes(void **state)
{
    (void)state;
    static const char replacements[] = "\0 0\"{[,:}]x\xff-";
    size_t bytes = strlen(zarr_examples[2].text), good = 0;
    char *text = malloc(bytes);
    for (size_t i = 0; i < bytes; i++) {
        for (size_t r = 0; r < sizeof replacements - 1; r++) {
            memcpy(text, zarr_examples[2].text, bytes);
            text[i] = replacements[r];
            struct dmc_zarr_array *array = NULL;
            struct damacy_error error = {0};
            enum damacy_status status = dmc_zarr_array_parse(text, bytes, NULL, &array, &error);
            assert_true(status == DAMACY_OK || status == DAMACY_DECODE || status == DAMACY_UNSUPPORTED);
            assert_int_equal(status == DAMACY_OK, array != NULL);
            assert_true(status == DAMACY_OK || (error.status == status && error.message[0]));
            good += status == DAMACY_OK;
            dmc_zarr_array_free(array);
        }
    }
    free(text);
    assert_true(good > 100 && good < bytes * (sizeof replacements - 1) / 2);
}

/* The array is one allocation, and each allocation on the way may fail. */
static void test_allocations_fail(void **state)
{
    (void)state;
    const char *text = zarr_examples[1].text;
    for (uint64_t n = 1;; n++) {
        struct dmc_zarr_array *array = NULL;
        struct damacy_error error = {0};
        uint64_t before = dmc_mem_count();
        dmc_mem_fail_at(n);
        enum damacy_status status = dmc_zarr_array_parse(text, strlen(text), NULL, &array, &error);
        dmc_mem_fail_at(0);
        if (status == DAMACY_OK) {
            assert_true(n > 2 && dmc_mem_count() - before < n);
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
        cmocka_unit_test(test_zarr_python_examples),
        cmocka_unit_test(test_missing_members),
        cmocka_unit_test(test_kind),
        cmocka_unit_test(test_shape),
        cmocka_unit_test(test_data_type),
        cmocka_unit_test(test_grid),
        cmocka_unit_test(test_key_encoding),
        cmocka_unit_test(test_longest_key),
        cmocka_unit_test(test_codecs),
        cmocka_unit_test(test_sharding),
        cmocka_unit_test(test_index_size),
        cmocka_unit_test(test_unknown_members),
        cmocka_unit_test(test_long_names_are_cut),
        cmocka_unit_test(test_nested_a_million_deep),
        cmocka_unit_test(test_cut_texts),
        cmocka_unit_test(test_changed_bytes),
        cmocka_unit_test(test_allocations_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
