/* Goal: what a chain of codecs of arrays says of itself is true (facts, steps, sizes, scratch), chunks of a smaller size decode
 * where that makes sense, and metadata that make none, or ask for what is not read, are refused by name. Method: lists of
 * codecs, good and bad; a chunk of a rectilinear grid; contexts that meet chains of different kinds. */
#include "codec/codec_impl.h"
#include "codec_fixtures.h"
#include <zstd.h>

#define LITTLE                                                                                                                 \
    {                                                                                                                          \
        "bytes", "{\"endian\":\"little\"}"                                                                                     \
    }
#define BIG                                                                                                                    \
    {                                                                                                                          \
        "bytes", "{\"endian\":\"big\"}"                                                                                        \
    }
#define DELTA                                                                                                                  \
    {                                                                                                                          \
        "numcodecs.delta", "{\"dtype\":\"<i2\"}"                                                                               \
    }
#define TURN                                                                                                                   \
    {                                                                                                                          \
        "transpose", "{\"order\":[1,0]}"                                                                                       \
    }

static enum damacy_status create(const struct dmc_codec_desc *descs, enum damacy_dtype dtype, struct dmc_codec_chain **chain,
                                 struct damacy_error *error)
{
    static const uint64_t shape[] = {4, 6};
    uint32_t count = 0;
    while (count < 8 && descs[count].name)
        count++;
    memset(error, 0, sizeof *error);
    *chain = NULL;
    return dmc_codec_chain_create(descs, count, dtype, 2, shape, chain, error);
}

/* Where nothing above depends on it, transposing and swapping cost nothing; else they are steps. */
static void test_arrays_facts_and_steps(void **state)
{
    (void)state;
    static const struct {
        struct dmc_codec_desc descs[8];
        const char *steps[6];
        bool swap, shaped;
        int64_t stride; /* of axis 0 */
    } cases[] = {
        {{TURN, BIG}, {NULL}, true, false, 1},
        {{TURN, BIG, {"numcodecs.zstd", NULL}}, {"zstd"}, true, false, 1},
        {{DELTA, LITTLE}, {"delta"}, false, false, 6},
        {{DELTA, BIG}, {"byte order", "delta"}, false, false, 6},
        {{TURN, DELTA, BIG}, {"byte order", "delta"}, false, false, 1},
        {{DELTA, TURN, BIG}, {"byte order", "transpose", "delta"}, false, true, 6},
        {{DELTA, TURN, TURN, LITTLE}, {"transpose", "transpose", "delta"}, false, true, 6},
        {{BIG, {"numcodecs.delta", "{\"dtype\":\">i2\"}"}, {"numcodecs.zlib", NULL}}, {"zlib", "delta"}, true, false, 6},
        {{{"numcodecs.bitround", "{\"keepbits\":3}"}, TURN, LITTLE}, {NULL}, false, false, 1},
        {{{"numcodecs.astype", "{\"encode_dtype\":\"<i2\",\"decode_dtype\":\"<i2\"}"}, LITTLE}, {NULL}, false, false, 6},
        {{{"numcodecs.fixedscaleoffset", "{\"scale\":2,\"offset\":1,\"astype\":\"|u1\"}"}, TURN, LITTLE},
         {"fixedscaleoffset"},
         false,
         false,
         1},
        {{LITTLE, {"numcodecs.shuffle", "{\"elementsize\":1}"}}, {NULL}, false, false, 6},
        {{LITTLE, {"numcodecs.crc32", NULL}, {"gzip", NULL}}, {"gzip", "checksum"}, false, false, 6},
        {{{"sharding_indexed", "{\"chunk_shape\":[2,3],\"codecs\":[\"bytes\"]}"}}, {NULL}, false, false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dmc_codec_chain *chain;
        struct damacy_error error;
        enum damacy_status status = create(cases[i].descs, DAMACY_I16, &chain, &error);
        if (cases[i].stride == 0) { /* elements of two bytes, and no byte order */
            assert_int_equal(status, DAMACY_DECODE);
            continue;
        }
        if (status)
            fail_msg("case %zu: %s", i, error.message);
        uint32_t step = 0;
        for (; cases[i].steps[step]; step++) {
            const char *name = dmc_codec_step_name(chain, step);
            if (!name || strcmp(name, cases[i].steps[step]) != 0)
                fail_msg("case %zu, step %u: %s", i, step, name ? name : "none");
        }
        assert_null(dmc_codec_step_name(chain, step));
        assert_int_equal(chain->raw, step == 0);
        assert_int_equal(chain->swap, cases[i].swap);
        assert_int_equal(chain->shaped, cases[i].shaped);
        assert_int_equal(chain->strides[0], cases[i].stride);
        assert_int_equal(chain->axes[0], cases[i].stride == 1);
        assert_true(chain->memory_bytes <= dmc_codec_chain_memory_max());
        assert_int_equal(chain->scratch_bytes, dmc_codec_scratch_sum(&chain->scratch));
        dmc_codec_chain_free(chain);
    }
}

static void test_arrays_refused(void **state)
{
    (void)state;
    static const struct {
        struct dmc_codec_desc descs[8];
        enum damacy_status status;
        const char *words[3];
    } cases[] = {
        {{LITTLE, {"numcodecs.pcodec", "{}"}},
         DAMACY_UNSUPPORTED,
         {"'numcodecs.pcodec'", "not read", "damacy.register_codec()"}},
        {{LITTLE, {"zfpy", "{}"}}, DAMACY_UNSUPPORTED, {"'zfpy'", "not read", "damacy_codec_register()"}},
        {{{"imagecodecs_jpegxl", "{}"}}, DAMACY_UNSUPPORTED, {"images need", "not read", "damacy_codec_register()"}},
        {{LITTLE, {"https://codec.zarrs.dev/array_to_bytes/pcodec", "{}"}}, DAMACY_UNSUPPORTED, {"pcodec'", "not read", ""}},
        {{{"numcodecs.vlen-utf8", NULL}}, DAMACY_UNSUPPORTED, {"'numcodecs.vlen-utf8'", "strings", ""}},
        {{LITTLE, {"numcodecs.nothing", NULL}},
         DAMACY_UNSUPPORTED,
         {"'numcodecs.nothing'", "not known", "damacy_codec_register"}},
        {{{"shuffle", NULL}, LITTLE}, DAMACY_DECODE, {"'shuffle'", "before", ""}},
        {{LITTLE, {"scale_offset", NULL}}, DAMACY_DECODE, {"'scale_offset'", "after", ""}},
        {{LITTLE, {"numcodecs.lzma", "{\"format\":4}"}}, DAMACY_DECODE, {"'numcodecs.lzma'", "'format'", "4"}},
        {{LITTLE, {"numcodecs.lzma", "{\"format\":3}"}}, DAMACY_DECODE, {"'numcodecs.lzma'", "'filters'", "raw"}},
        {{LITTLE, {"numcodecs.lzma", "{\"format\":3,\"filters\":[{\"id\":99}]}"}}, DAMACY_DECODE, {"'filters'", "", ""}},
        {{LITTLE, {"numcodecs.lzma", "{\"format\":3,\"filters\":[{\"id\":33,\"lc\":4,\"lp\":1}]}"}},
         DAMACY_DECODE,
         {"'filters'", "", ""}},
        {{LITTLE, {"numcodecs.lzma", "{\"filters\":1}"}}, DAMACY_DECODE, {"'filters'", "", ""}},
        {{LITTLE, {"numcodecs.crc32", "{\"location\":\"middle\"}"}},
         DAMACY_DECODE,
         {"'numcodecs.crc32'", "'location'", "\"start\""}},
        {{LITTLE, {"numcodecs.jenkins_lookup3", "{\"initval\":-1}"}}, DAMACY_DECODE, {"'initval'", "", ""}},
        {{LITTLE, {"numcodecs.jenkins_lookup3", "{\"prefix\":\"x\"}"}}, DAMACY_UNSUPPORTED, {"'prefix'", "", ""}},
        {{LITTLE, {"numcodecs.shuffle", "{\"elementsize\":-2}"}}, DAMACY_DECODE, {"'elementsize'", "", ""}},
        {{LITTLE, {"numcodecs.shuffle", "{\"elementsize\":5000}"}}, DAMACY_UNSUPPORTED, {"'numcodecs.shuffle'", "255", ""}},
        {{{"numcodecs.delta", "{\"dtype\":\"<i4\"}"}, LITTLE}, DAMACY_DECODE, {"'numcodecs.delta'", "4 bytes", "have 2"}},
        {{{"numcodecs.delta", "{\"dtype\":2}"}, LITTLE}, DAMACY_DECODE, {"'dtype'", "numpy type", ""}},
        {{{"numcodecs.delta", "{\"dtype\":\"<M8[D]\"}"}, LITTLE}, DAMACY_UNSUPPORTED, {"<M8[D]", "'dtype'", ""}},
        {{LITTLE, {"numcodecs.delta", "{\"dtype\":\"|b1\"}"}}, DAMACY_UNSUPPORTED, {"bool", "", ""}},
        {{LITTLE, {"numcodecs.astype", "{\"decode_dtype\":\"<f4\"}"}}, DAMACY_DECODE, {"'encode_dtype'", "nothing", ""}},
        {{LITTLE, {"numcodecs.fixedscaleoffset", "{\"scale\":\"10\",\"offset\":1}"}},
         DAMACY_DECODE,
         {"'scale'", "a number", ""}},
        {{LITTLE, {"numcodecs.fixedscaleoffset", "{\"scale\":10}"}}, DAMACY_DECODE, {"'offset'", "nothing", ""}},
        {{LITTLE, {"numcodecs.quantize", "{\"digits\":3,\"dtype\":\"<i2\"}"}},
         DAMACY_DECODE,
         {"'numcodecs.quantize'", "floats", ""}},
        {{{"numcodecs.packbits", NULL}, LITTLE}, DAMACY_DECODE, {"'numcodecs.packbits'", "bool", "i16"}},
        {{{"packbits", "{\"padding_encoding\":1}"}}, DAMACY_DECODE, {"'padding_encoding'", "", ""}},
        {{{"packbits", "{\"first_bit\":16}"}}, DAMACY_DECODE, {"'first_bit'", "16", ""}},
        {{{"packbits", "{\"first_bit\":5,\"last_bit\":4}"}}, DAMACY_DECODE, {"'last_bit'", "", ""}},
        {{{"scale_offset", "{\"scale\":0}"}, LITTLE}, DAMACY_DECODE, {"'scale'", "other than 0", ""}},
        {{{"cast_value", "{}"}, LITTLE}, DAMACY_DECODE, {"'data_type'", "", ""}},
        {{{"cast_value", "{\"data_type\":\"string\"}"}, LITTLE}, DAMACY_UNSUPPORTED, {"'string'", "i16", ""}},
        {{{"cast_value", "{\"data_type\":\"int8\",\"rounding\":\"up\"}"}, LITTLE}, DAMACY_DECODE, {"'rounding'", "\"up\"", ""}},
        {{{"cast_value", "{\"data_type\":\"int8\",\"scalar_map\":{}}"}, LITTLE}, DAMACY_UNSUPPORTED, {"'scalar_map'", "", ""}},
        {{{"damacy.widen", "{\"from\":\"float9\"}"}, {"bytes", NULL}}, DAMACY_UNSUPPORTED, {"'float9'", "", ""}},
        {{{"damacy.member", "{\"record_bytes\":4,\"offset\":3,\"item_bytes\":2}"}, {"bytes", NULL}},
         DAMACY_DECODE,
         {"record", "", ""}},
        {{{"damacy.member", "{\"record_bytes\":40,\"offset\":0,\"item_bytes\":10}"}, {"bytes", NULL}},
         DAMACY_DECODE,
         {"last axes", "", ""}},
        {{{"sharding_indexed", "{\"chunk_shape\":[3,3],\"codecs\":[\"bytes\"]}"}},
         DAMACY_DECODE,
         {"'chunk_shape'", "divide", "[3,3]"}},
        {{{"sharding_indexed", "{\"chunk_shape\":[2],\"codecs\":[\"bytes\"]}"}}, DAMACY_DECODE, {"'chunk_shape'", "", ""}},
        {{{"sharding_indexed", "{\"chunk_shape\":[2,0],\"codecs\":[\"bytes\"]}"}}, DAMACY_DECODE, {"'chunk_shape'", "", ""}},
        {{{"sharding_indexed", "{\"chunk_shape\":[2,3]}"}}, DAMACY_DECODE, {"'codecs'", "", ""}},
        {{{"sharding_indexed", "{\"chunk_shape\":[2,3],\"codecs\":[{}]}"}}, DAMACY_DECODE, {"'codecs'", "", ""}},
        {{{"sharding_indexed", "{\"chunk_shape\":[2,3],\"codecs\":[{\"name\":\"zstd\"}]}"}},
         DAMACY_DECODE,
         {"'zstd'", "before", ""}},
        {{{"sharding_indexed", "{\"chunk_shape\":[2,3],\"codecs\":[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"big\"}}]"
                               ",\"index_codecs\":[\"zstd\"]}"}},
         DAMACY_DECODE,
         {"'index_codecs'", "", ""}},
        {{{"sharding_indexed", "{\"chunk_shape\":[2,3],\"codecs\":[\"bytes\"],\"damacy.fill\":\"123\"}"}},
         DAMACY_DECODE,
         {"'damacy.fill'", "", ""}},
        {{{"sharding_indexed", "{\"chunk_shape\":[2,3],\"codecs\":[\"bytes\"],\"index_location\":\"top\"}"}},
         DAMACY_DECODE,
         {"'index_location'", "", ""}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dmc_codec_chain *chain;
        struct damacy_error error;
        enum damacy_status status = create(cases[i].descs, DAMACY_I16, &chain, &error);
        dmc_codec_chain_free(chain);
        bool said = true;
        for (int word = 0; word < 3; word++)
            said = said && (!cases[i].words[word] || strstr(error.message, cases[i].words[word]));
        if (status == DAMACY_UNSUPPORTED && strstr(error.message, "not in this build"))
            continue; /* bz2 or lzma, without the library */
        if (status != cases[i].status || !said)
            fail_msg("case %zu: %d, %s", i, status, error.message);
    }
}

/* Shards in shards: four levels are read, a fifth is refused; bounds saturate. */
static void test_arrays_nesting(void **state)
{
    (void)state;
    char text[4096] = "[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}}]";
    for (int depth = 1; depth <= 5; depth++) {
        char outer[4096];
        snprintf(outer, sizeof outer, "{\"chunk_shape\":[2,3],\"codecs\":%.3000s}", text);
        const struct dmc_codec_desc descs[8] = {{"sharding_indexed", outer}};
        struct dmc_codec_chain *chain;
        struct damacy_error error;
        assert_int_equal(create(descs, DAMACY_I16, &chain, &error), depth <= 4 ? DAMACY_OK : DAMACY_UNSUPPORTED);
        assert_true(depth > 4 || chain->memory_bytes <= dmc_codec_chain_memory_max());
        dmc_codec_chain_free(chain);
        snprintf(text, sizeof text, "[{\"name\":\"sharding_indexed\",\"configuration\":%.3900s}]", outer);
    }
}

/* A chunk at the ragged edge of a rectilinear grid is shorter than the chain's. */
static void test_arrays_smaller_chunks(void **state)
{
    (void)state;
    enum { COUNT = 1000, FEWER = 600 };
    static const uint64_t shape = COUNT;
    static const struct dmc_codec_desc chains[][3] = {{DELTA, BIG, {"zstd", NULL}},
                                                      {LITTLE, {"zstd", NULL}, {NULL, NULL}},
                                                      {DELTA, LITTLE, {"crc32c", NULL}},
                                                      {LITTLE, {NULL, NULL}, {NULL, NULL}}};
    struct dmc_codec_context *context = fixture_context(NULL);
    struct damacy_error error;
    int16_t elements[COUNT], encoded[COUNT], target[COUNT];
    uint8_t stored[4 * COUNT];
    for (int i = 0; i < COUNT; i++)
        elements[i] = (int16_t)(i * i);
    for (size_t c = 0; c < 4; c++) {
        struct dmc_codec_chain *chain = NULL;
        uint32_t count = chains[c][1].name ? chains[c][2].name ? 3 : 2 : 1;
        assert_int_equal(dmc_codec_chain_create(chains[c], count, DAMACY_I16, 1, &shape, &chain, &error), DAMACY_OK);
        for (int i = 0; i < FEWER; i++) {
            bool delta = c == 0 || c == 2;
            encoded[i] = delta && i > 0 ? (int16_t)(elements[i] - elements[i - 1]) : elements[i];
            if (c == 0)
                encoded[i] = (int16_t)__builtin_bswap16((uint16_t)encoded[i]);
        }
        size_t bytes = c < 2 ? ZSTD_compress(stored, sizeof stored, encoded, 2 * FEWER, 1) : 2 * FEWER;
        if (c >= 2)
            memcpy(stored, encoded, 2 * FEWER);
        if (c == 2) {
            uint32_t sum = 0;
            struct damacy_error wrong;
            uint8_t probe[2 * FEWER + 4];
            memcpy(probe, encoded, 2 * FEWER);
            memset(probe + 2 * FEWER, 0, 4);
            const struct dmc_decode decode = {probe, sizeof probe, (uint8_t *)target, 0, 2 * FEWER, false, 2 * FEWER};
            assert_int_equal(dmc_codec_decode(chain, context, &decode, &wrong), DAMACY_DECODE);
            assert_true(sscanf(wrong.found, "0x%x", &sum) == 1); /* what it should have been */
            memcpy(stored + bytes, &sum, 4);
            bytes += 4;
        }
        for (int part = 0; part < 2; part++) {
            memset(target, 0x33, sizeof target);
            const struct dmc_decode decode = {stored, bytes,    (uint8_t *)target, part ? 301 : 0, part ? 777 : 2 * FEWER,
                                              false,  2 * FEWER};
            if (dmc_codec_decode(chain, context, &decode, &error))
                fail_msg("chain %zu: %s", c, error.message);
            assert_memory_equal((uint8_t *)target + decode.need_begin, (uint8_t *)elements + decode.need_begin,
                                decode.need_end - decode.need_begin);
        }
        const struct dmc_decode whole = {stored, bytes, (uint8_t *)target, 0, 2 * COUNT, false, 0};
        assert_int_equal(dmc_codec_decode(chain, context, &whole, &error), DAMACY_DECODE);
        const struct dmc_decode larger = {stored, bytes, (uint8_t *)target, 0, 10, false, 2 * COUNT + 2};
        assert_int_equal(dmc_codec_decode(chain, context, &larger, &error), DAMACY_UNSUPPORTED);
        dmc_codec_chain_free(chain);
    }
    /* What depends on the shape cannot be told by bytes alone. */
    static const struct dmc_codec_desc turned[8] = {DELTA, TURN, LITTLE};
    struct dmc_codec_chain *chain;
    assert_int_equal(create(turned, DAMACY_I16, &chain, &error), DAMACY_OK);
    const struct dmc_decode smaller = {stored, 24, (uint8_t *)target, 0, 24, false, 24};
    assert_int_equal(dmc_codec_decode(chain, context, &smaller, &error), DAMACY_UNSUPPORTED);
    dmc_codec_chain_free(chain);
    dmc_codec_context_destroy(context);
}

/* A context that meets many chains holds at most the sum of the largest parts, and that can be more than the largest sum. */
static void test_arrays_scratch_by_parts(void **state)
{
    (void)state;
    enum { LARGE = 2 << 20 };
    static const char *const names[][4] = {
        {"zstd", "gzip", NULL}, {"blosc", NULL}, {"crc32c", "zstd", NULL}, {"bz2", NULL}, {"gzip", "gzip", "gzip", NULL}};
    struct dmc_codec_scratch most = {{0}};
    uint64_t largest = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!dmc_codec_find(names[i][0]))
            continue;
        struct dmc_codec_chain *chain = fixture_chain(i % 2 ? LARGE : 1000, names[i]);
        assert_int_equal(chain->scratch_bytes, dmc_codec_scratch_sum(&chain->scratch));
        dmc_codec_scratch_raise(&most, &chain->scratch);
        assert_true(dmc_codec_scratch_within(&chain->scratch, &most));
        largest = largest > chain->scratch_bytes ? largest : chain->scratch_bytes;
        dmc_codec_chain_free(chain);
    }
    assert_true(dmc_codec_scratch_sum(&most) > largest);
    most.bytes[0] = UINT64_MAX;
    assert_true(dmc_codec_scratch_sum(&most) == UINT64_MAX);
}

/* A header that claims 4 GB, and one that is too short for itself. */
static void test_arrays_headers_that_lie(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint8_t bytes[16];
        size_t count;
    } cases[] = {
        {"lz4", {0xff, 0xff, 0xff, 0xff, 0x10}, 5},
        {"lz4", {0xe8, 3, 0}, 3},
        {"lz4", {0}, 0},
        {"bz2", {'B', 'Z', 'h', '9', 0x31}, 5},
        {"bz2", {'B'}, 1},
        {"bz2", {0}, 0},
        {"lzma", {0xfd, '7', 'z', 'X', 'Z'}, 5},
        {"lzma", {0xfd, '7', 'z', 'X', 'Z', 0, 0, 4, 0xe6, 0xd6, 0xb4, 0x46, 0xff}, 13},
        {"lzma", {0}, 0},
        {"zlib", {0x78, 0x9c}, 2},
        {"zlib", {0}, 0},
        {"numcodecs.crc32", {1, 2, 3}, 3},
        {"numcodecs.fletcher32", {0}, 0},
    };
    struct dmc_codec_context *context = fixture_context(NULL);
    struct damacy_error error;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (!dmc_codec_find(cases[i].name))
            continue;
        struct dmc_codec_chain *chain = fixture_chain_of(1000, cases[i].name);
        assert_int_equal(fixture_decode(chain, context, cases[i].bytes, cases[i].count, 0, 1000, false, NULL, &error),
                         DAMACY_DECODE);
        dmc_codec_chain_free(chain);
    }
    dmc_codec_context_destroy(context);
}

/* Every name of the table is found, and no two are the same. */
static void test_arrays_table(void **state)
{
    (void)state;
    const struct dmc_codec_info *info;
    uint32_t read = 0;
    for (uint32_t i = 0; (info = dmc_codec_info_at(i)); i++) {
        assert_ptr_equal(dmc_codec_info_find(info->name), info);
        assert_true((info->state == DMC_CODEC_READ) == (info->ops != NULL));
        assert_true(info->kind && *info->kind && info->note && info->library);
        assert_true(info->state == DMC_CODEC_READ || *info->note);
        for (int a = 0; a < DMC_CODEC_ALIASES_MAX && info->aliases[a]; a++)
            assert_ptr_equal(dmc_codec_info_find(info->aliases[a]), info);
        read += info->state == DMC_CODEC_READ;
    }
    assert_true(read >= 26);
    assert_non_null(dmc_codec_name(read - 1));
    assert_null(dmc_codec_name(read));
    assert_int_equal(dmc_codec_kinds("numcodecs.delta"), DMC_CODEC_ARRAY_ARRAY | DMC_CODEC_BYTES_BYTES);
    assert_int_equal(dmc_codec_kinds("nothing"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arrays_facts_and_steps),
        cmocka_unit_test(test_arrays_refused),
        cmocka_unit_test(test_arrays_nesting),
        cmocka_unit_test(test_arrays_smaller_chunks),
        cmocka_unit_test(test_arrays_scratch_by_parts),
        cmocka_unit_test(test_arrays_headers_that_lie),
        cmocka_unit_test(test_arrays_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
