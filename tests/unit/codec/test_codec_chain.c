/* Goal: a chain tells the truth about its codecs (order of axes, byte order, bounds), and refuses metadata that make no sense,
 * naming the codec and the member.
 * Method: lists of codecs, good and bad; strides of random permutations against element addresses computed one axis at a time.
 */
#include "codec/codec_impl.h"
#include "codec_fixtures.h"

static enum damacy_status create(const struct dmc_codec_desc *descs, uint32_t count, enum damacy_dtype dtype, uint32_t rank,
                                 const uint64_t *shape, struct dmc_codec_chain **chain, struct damacy_error *error)
{
    memset(error, 0, sizeof *error);
    *chain = NULL;
    enum damacy_status status = dmc_codec_chain_create(descs, count, dtype, rank, shape, chain, error);
    if (status) {
        assert_null(*chain);
        assert_int_equal(error->status, status);
        assert_string_equal(error->stage, "metadata");
        /* The error is optional. */
        assert_int_equal(dmc_codec_chain_create(descs, count, dtype, rank, shape, chain, NULL), status);
    }
    return status;
}

static const struct dmc_codec_desc little = {"bytes", "{\"endian\": \"little\"}"};

static void test_chain_of_bytes_alone(void **state)
{
    (void)state;
    struct damacy_error error;
    struct dmc_codec_chain *chain;
    const uint64_t shape[] = {2, 3, 5};
    assert_int_equal(create(&little, 1, DAMACY_U16, 3, shape, &chain, &error), DAMACY_OK);
    assert_true(chain->raw);
    assert_true(chain->partial);
    assert_false(chain->swap);
    assert_int_equal(chain->chunk_bytes, 60);
    assert_int_equal(chain->stored_bytes_max, 60);
    assert_int_equal(chain->scratch_bytes, 0);
    assert_int_equal(chain->strides[0], 15);
    assert_int_equal(chain->strides[1], 5);
    assert_int_equal(chain->strides[2], 1);
    assert_true(chain->memory_bytes <= dmc_codec_chain_memory_max());
    dmc_codec_chain_free(chain);
    dmc_codec_chain_free(NULL);
    /* An array without axes has one element. */
    assert_int_equal(create(&little, 1, DAMACY_F64, 0, NULL, &chain, &error), DAMACY_OK);
    assert_int_equal(chain->chunk_bytes, 8);
    dmc_codec_chain_free(chain);
}

static void test_chain_byte_order(void **state)
{
    (void)state;
    static const struct {
        const char *configuration;
        enum damacy_dtype dtype;
        enum damacy_status status;
        bool swap;
    } cases[] = {
        {"{\"endian\":\"little\"}", DAMACY_F32, DAMACY_OK, false},
        {"{\"endian\":\"big\"}", DAMACY_F32, DAMACY_OK, true},
        {"{\"endian\":\"big\"}", DAMACY_U8, DAMACY_OK, false},
        {NULL, DAMACY_BOOL, DAMACY_OK, false},
        {"{}", DAMACY_I8, DAMACY_OK, false},
        {"{\"endian\":null}", DAMACY_I8, DAMACY_OK, false},
        {"null", DAMACY_U8, DAMACY_OK, false},
        {NULL, DAMACY_U16, DAMACY_DECODE, false},
        {"{}", DAMACY_F16, DAMACY_DECODE, false},
        {"{\"endian\":null}", DAMACY_F64, DAMACY_DECODE, false},
        {"{\"endian\":\"middle\"}", DAMACY_U8, DAMACY_DECODE, 0},
        {"{\"endian\":1}", DAMACY_U16, DAMACY_DECODE, false},
    };
    const uint64_t shape = 4;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct damacy_error error;
        struct dmc_codec_chain *chain;
        const struct dmc_codec_desc desc = {"bytes", cases[i].configuration};
        assert_int_equal(create(&desc, 1, cases[i].dtype, 1, &shape, &chain, &error), cases[i].status);
        if (cases[i].status) {
            assert_non_null(strstr(error.message, "'bytes'"));
            assert_non_null(strstr(error.message, "'endian'"));
            assert_string_equal(error.expected, "\"little\" or \"big\"");
        } else {
            assert_int_equal(chain->swap, cases[i].swap);
        }
        dmc_codec_chain_free(chain);
    }
}

/* Random transposes in a row: follow one element through them by hand. */
static void test_chain_transposes_compose(void **state)
{
    (void)state;
    fixture_seed(108);
    for (int round = 0; round < 500; round++) {
        uint32_t rank = (uint32_t)fixture_below(6), transposes = (uint32_t)fixture_below(4);
        uint64_t shape[6], encoded_shape[6];
        uint32_t index[6], encoded_index[6];
        char texts[4][64];
        struct dmc_codec_desc descs[5];
        struct damacy_error error;
        struct dmc_codec_chain *chain;
        for (uint32_t i = 0; i < rank; i++) {
            shape[i] = encoded_shape[i] = 1 + fixture_below(5);
            index[i] = encoded_index[i] = (uint32_t)fixture_below(shape[i]);
        }
        for (uint32_t t = 0; t < transposes; t++) {
            uint32_t order[6], moved_index[6];
            uint64_t moved_shape[6];
            for (uint32_t i = 0; i < rank; i++)
                order[i] = i;
            for (uint32_t i = rank; i-- > 1;) {
                uint32_t j = (uint32_t)fixture_below(i + 1), other = order[i];
                order[i] = order[j];
                order[j] = other;
            }
            int kind = (int)fixture_below(6);
            if (kind < 2) {
                for (uint32_t i = 0; i < rank; i++)
                    order[i] = kind ? rank - 1 - i : i;
                snprintf(texts[t], sizeof texts[t], "{\"order\":\"%s\"}", kind ? "F" : "C");
            } else {
                int used = snprintf(texts[t], sizeof texts[t], "{\"order\":[");
                for (uint32_t i = 0; i < rank; i++)
                    used += snprintf(texts[t] + used, sizeof texts[t] - (size_t)used, "%s%u", i ? "," : "", order[i]);
                snprintf(texts[t] + used, sizeof texts[t] - (size_t)used, "]}");
            }
            descs[t] = (struct dmc_codec_desc){"transpose", texts[t]};
            for (uint32_t i = 0; i < rank; i++) {
                moved_shape[i] = encoded_shape[order[i]];
                moved_index[i] = encoded_index[order[i]];
            }
            memcpy(encoded_shape, moved_shape, sizeof moved_shape);
            memcpy(encoded_index, moved_index, sizeof moved_index);
        }
        descs[transposes] = little;
        assert_int_equal(create(descs, transposes + 1, DAMACY_U16, rank, shape, &chain, &error), DAMACY_OK);
        int64_t expected = 0, found = 0;
        for (uint32_t i = 0; i < rank; i++) {
            expected = expected * (int64_t)encoded_shape[i] + encoded_index[i];
            found += chain->strides[i] * index[i];
        }
        assert_int_equal(found, expected);
        assert_true(chain->raw);
        dmc_codec_chain_free(chain);
    }
}

static void test_chain_bad_metadata(void **state)
{
    (void)state;
    static const struct {
        struct dmc_codec_desc descs[4];
        enum damacy_status status;
        const char *word, *other_word;
    } cases[] = {
        {{{NULL, NULL}}, DAMACY_DECODE, "'bytes' is missing", ""},
        {{{"zstd", NULL}}, DAMACY_DECODE, "'zstd'", "before"},
        {{{"transpose", "{\"order\":[1,0]}"}}, DAMACY_DECODE, "'bytes' is missing", ""},
        {{{"bytes", "{\"endian\":\"big\"}"}, {"bytes", "{\"endian\":\"big\"}"}}, DAMACY_DECODE, "only one", "'bytes'"},
        {{{"zstd", NULL}, {"bytes", "{\"endian\":\"big\"}"}}, DAMACY_DECODE, "'zstd'", "before"},
        {{{"bytes", "{\"endian\":\"big\"}"}, {"transpose", "{\"order\":[1,0]}"}},
         DAMACY_DECODE,
         "'transpose'",
         "after 'bytes'"},
        {{{"bytes", "{\"endian\":\"big\"}"}, {"lzx", "{}"}},
         DAMACY_UNSUPPORTED,
         "'lzx'",
         "transpose, zstd, gzip, blosc, crc32c"},
        {{{"sharding_indexed", "{}"}}, DAMACY_DECODE, "'sharding_indexed'", "'chunk_shape'"},
        {{{"", NULL}}, DAMACY_UNSUPPORTED, "''", ""},
        {{{"bytes", "{\"endian\":\"big\""}}, DAMACY_DECODE, "'bytes'", "no JSON"},
        {{{"bytes", "[]"}}, DAMACY_DECODE, "'bytes'", "an object"},
        {{{"bytes", "\"little\""}}, DAMACY_DECODE, "'bytes'", "an object"},
        {{{"transpose", NULL}}, DAMACY_DECODE, "'transpose'", "'order'"},
        {{{"transpose", "{\"order\":[0]}"}}, DAMACY_DECODE, "'order'", "permutation of the 2 axes"},
        {{{"transpose", "{\"order\":[0,0]}"}}, DAMACY_DECODE, "'order'", "[0,0]"},
        {{{"transpose", "{\"order\":[1,2]}"}}, DAMACY_DECODE, "'order'", ""},
        {{{"transpose", "{\"order\":[-1,0]}"}}, DAMACY_DECODE, "'order'", ""},
        {{{"transpose", "{\"order\":[1.0,0]}"}}, DAMACY_DECODE, "'order'", ""},
        {{{"transpose", "{\"order\":\"A\"}"}}, DAMACY_DECODE, "'order'", ""},
        {{{"transpose", "{\"order\":{}}"}}, DAMACY_DECODE, "'order'", ""},
        {{{"bytes", "{\"endian\":\"big\"}"}, {"blosc", "{\"cname\":\"lizard\"}"}}, DAMACY_DECODE, "'blosc'", "'cname'"},
        {{{"bytes", "{\"endian\":\"big\"}"}, {"blosc", "{\"shuffle\":\"yes\"}"}}, DAMACY_DECODE, "'blosc'", "'shuffle'"},
        {{{"bytes", "{\"endian\":\"big\"}"}, {"blosc", "{\"shuffle\":3}"}}, DAMACY_DECODE, "'blosc'", "'shuffle'"},
    };
    const uint64_t shape[] = {2, 3};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct damacy_error error;
        struct dmc_codec_chain *chain;
        uint32_t count = 0;
        while (count < 4 && cases[i].descs[count].name)
            count++;
        enum damacy_status status = create(cases[i].descs, count, DAMACY_U16, 2, shape, &chain, &error);
        if (status != cases[i].status || !strstr(error.message, cases[i].word) || !strstr(error.message, cases[i].other_word))
            fail_msg("case %zu: %d, %s", i, status, error.message);
    }
}

static void test_chain_good_configurations(void **state)
{
    (void)state;
    static const struct dmc_codec_desc good[] = {
        {"zstd", "{\"level\":0,\"checksum\":false}"},
        {"zstd", "{\"level\":-7}"},
        {"gzip", "{\"level\":5}"},
        {"blosc", "{\"typesize\":2,\"cname\":\"zstd\",\"clevel\":5,\"shuffle\":\"bitshuffle\",\"blocksize\":0}"},
        {"blosc", "{\"cname\":\"snappy\",\"shuffle\":-1}"},
        {"crc32c", "{}"},
        {"crc32c", NULL},
    };
    const uint64_t shape = 1000;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        const struct dmc_codec_desc descs[] = {little, good[i]};
        struct damacy_error error;
        struct dmc_codec_chain *chain;
        if (create(descs, 2, DAMACY_U16, 1, &shape, &chain, &error))
            fail_msg("%s", error.message);
        assert_false(chain->raw);
        assert_true(chain->stored_bytes_max >= 2000 + 4);
        assert_int_equal(chain->partial, strcmp(good[i].name, "gzip") != 0);
        dmc_codec_chain_free(chain);
    }
}

/* What matters to an encoder only is not looked at, whatever its type, as zarr-python does it: numcodecs 0.16 writes
 * "typesize": null for blosc, and takes a level of null or in quotation marks. */
static void test_chain_encoders_parameters(void **state)
{
    (void)state;
    static const struct dmc_codec_desc good[] = {
        {"zstd", "{\"level\":\"3\",\"checksum\":1}"},
        {"gzip", "{\"level\":null}"},
        {"numcodecs.zlib", "{\"level\":\"9\"}"},
        {"numcodecs.bz2", "{\"level\":1.5}"},
        {"https://codec.zarrs.dev/bytes_to_bytes/bz2", "{\"level\":1}"}, /* zarrs before 0.20 */
        {"https://codec.zarrs.dev/bytes_to_bytes/fletcher32", NULL},
        {"https://codec.zarrs.dev/array_to_array/bitround", "{\"keepbits\":10}"},
        {"numcodecs.lz4", "{\"acceleration\":[]}"},
        {"numcodecs.lzma", "{\"preset\":\"6\",\"check\":null}"},
        {"bitround", "{\"keepbits\":null}"},
        {"blosc", "{\"typesize\":null,\"blocksize\":0.5,\"clevel\":\"5\"}"},
    };
    const uint64_t shape = 1000;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        bool first = strstr(good[i].name, "bitround") != NULL;
        const struct dmc_codec_desc descs[] = {first ? good[i] : little, first ? little : good[i]};
        struct damacy_error error;
        struct dmc_codec_chain *chain;
        if (create(descs, 2, DAMACY_F32, 1, &shape, &chain, &error))
            fail_msg("%s", error.message);
        assert_int_equal(chain->raw, first);
        dmc_codec_chain_free(chain);
    }
}

static void test_chain_bounds(void **state)
{
    (void)state;
    struct damacy_error error;
    struct dmc_codec_chain *chain;
    struct dmc_codec_desc descs[2 + DMC_CODEC_STEPS_MAX] = {little};
    for (size_t i = 0; i <= DMC_CODEC_STEPS_MAX; i++)
        descs[1 + i] = (struct dmc_codec_desc){i % 2 ? "zstd" : "gzip", NULL};
    const uint64_t shape = 1000;
    assert_int_equal(create(descs, 1 + DMC_CODEC_STEPS_MAX, DAMACY_U8, 1, &shape, &chain, &error), DAMACY_OK);
    assert_true(chain->memory_bytes <= dmc_codec_chain_memory_max());
    assert_true(chain->scratch_bytes > 0);
    dmc_codec_chain_free(chain);
    assert_int_equal(create(descs, 2 + DMC_CODEC_STEPS_MAX, DAMACY_U8, 1, &shape, &chain, &error), DAMACY_UNSUPPORTED);
    /* Bounds saturate, sizes do not wrap. */
    const uint64_t huge[] = {UINT64_C(1) << 31, UINT64_C(1) << 31};
    assert_int_equal(create(descs, 3, DAMACY_U8, 2, huge, &chain, &error), DAMACY_OK);
    assert_true(chain->stored_bytes_max == UINT64_MAX);
    assert_true(chain->scratch_bytes >= UINT64_C(1) << 62);
    dmc_codec_chain_free(chain);
    const uint64_t too_much[][3] = {{UINT64_C(1) << 32, UINT64_C(1) << 31, 1},
                                    {UINT64_MAX, UINT64_MAX, UINT64_MAX},
                                    {UINT64_C(1) << 40, UINT64_C(1) << 40, 0}};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(create(descs, 3, DAMACY_U8, 3, too_much[i], &chain, &error), DAMACY_DECODE);
    uint64_t many[DAMACY_RANK_MAX + 2];
    for (size_t i = 0; i < DAMACY_RANK_MAX + 2; i++)
        many[i] = 1;
    assert_int_equal(create(&little, 1, DAMACY_U16, DAMACY_RANK_MAX + 1, many, &chain, &error), DAMACY_OK);
    dmc_codec_chain_free(chain);
    assert_int_equal(create(&little, 1, DAMACY_U16, DAMACY_RANK_MAX + 2, many, &chain, &error), DAMACY_UNSUPPORTED);
}

static void test_chain_allocation_failures(void **state)
{
    (void)state;
    const struct dmc_codec_desc descs[] = {{"transpose", "{\"order\":[1,0]}"}, little, {"zstd", "{\"level\":3}"}};
    const uint64_t shape[] = {4, 4};
    struct damacy_error error;
    for (uint64_t n = 1;; n++) {
        struct dmc_codec_chain *chain = NULL;
        dmc_mem_fail_at(n);
        enum damacy_status status = dmc_codec_chain_create(descs, 3, DAMACY_U16, 2, shape, &chain, &error);
        dmc_mem_fail_at(0);
        if (status == DAMACY_OK) {
            assert_true(n > 1);
            dmc_codec_chain_free(chain);
            return;
        }
        assert_int_equal(status, DAMACY_OOM);
        assert_null(chain);
    }
}

static void test_codec_names(void **state)
{
    (void)state;
    uint32_t count = 0;
    while (dmc_codec_name(count))
        count++;
    assert_true(count >= 8);
    assert_string_equal(dmc_codec_name(0), "bytes");
    assert_null(dmc_codec_name(1000));
    for (uint32_t i = 0; i < count; i++)
        assert_string_equal(dmc_codec_find(dmc_codec_name(i))->name, dmc_codec_name(i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain_of_bytes_alone),
        cmocka_unit_test(test_chain_byte_order),
        cmocka_unit_test(test_chain_transposes_compose),
        cmocka_unit_test(test_chain_bad_metadata),
        cmocka_unit_test(test_chain_good_configurations),
        cmocka_unit_test(test_chain_encoders_parameters),
        cmocka_unit_test(test_chain_bounds),
        cmocka_unit_test(test_chain_allocation_failures),
        cmocka_unit_test(test_codec_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
