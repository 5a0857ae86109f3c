/* Goal: the zstd codec decodes whatever libzstd writes, whole or as far as needed, and refuses everything else with a reason.
 * Method: frames made with libzstd at several levels and with every combination of checksum and content size, concatenated and
 * skippable frames; every range of small chunks against the original; truncation at every byte, seeded mutations. */
#define ZSTD_STATIC_LINKING_ONLY
#include "codec_fixtures.h"
#include <zdict.h>
#include <zstd.h>

static struct dmc_codec_context *context;
static ZSTD_CCtx *cctx;

static int setup(void **state)
{
    (void)state;
    fixture_seed(101);
    context = fixture_context(NULL);
    cctx = ZSTD_createCCtx();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dmc_codec_context_destroy(context);
    ZSTD_freeCCtx(cctx);
    return 0;
}

static size_t encode(uint8_t *to, size_t room, const uint8_t *from, size_t bytes, int level, int checksum, int content_size)
{
    ZSTD_CCtx_reset(cctx, ZSTD_reset_session_and_parameters);
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_checksumFlag, checksum);
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_contentSizeFlag, content_size);
    size_t result = ZSTD_compress2(cctx, to, room, from, bytes);
    assert_false(ZSTD_isError(result));
    return result;
}

static size_t skippable(uint8_t *to, uint32_t bytes)
{
    const uint32_t magic = 0x184d2a53;
    memcpy(to, &magic, 4);
    memcpy(to + 4, &bytes, 4);
    memset(to + 8, 0xee, bytes);
    return 8 + bytes;
}

static void test_zstd_all_kinds(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 17, 1000, 4096, 131072, 131073, 400000};
    static const int levels[] = {-5, 1, 3, 9};
    uint8_t *original = malloc(400000), *stored = malloc(800000);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        struct dmc_codec_chain *chain = fixture_chain_of(sizes[s], "zstd");
        assert_true(chain->partial);
        assert_false(chain->raw);
        for (size_t k = 0; k < 4 * 4 * CONTENT_COUNT; k++) {
            int level = levels[k % 4], checksum = k / 4 & 1, content_size = k / 8 & 1;
            fixture_fill(original, sizes[s], 2, (enum fixture_content)(k / 16));
            size_t bytes = encode(stored, 800000, original, sizes[s], level, checksum, content_size);
            assert_true(bytes <= chain->stored_bytes_max);
            fixture_ranges(chain, context, stored, bytes, original, sizes[s] <= 17 ? SIZE_MAX : 6);
        }
        dmc_codec_chain_free(chain);
    }
    free(original);
    free(stored);
}

/* With 128 KiB blocks: damage behind the block that has the last needed byte goes unnoticed unless all is verified or summed.
 */
static void test_zstd_prefix_stops_at_its_block(void **state)
{
    (void)state;
    enum { BYTES = 1 << 20 };
    uint8_t *original = malloc(BYTES), *stored = malloc(2 * BYTES);
    struct damacy_error error;
    struct dmc_codec_chain *chain = fixture_chain_of(BYTES, "zstd");
    fixture_fill(original, BYTES, 2, CONTENT_IMAGE);
    size_t bytes = encode(stored, 2 * BYTES, original, BYTES, 3, 0, 1);
    for (uint64_t need = 0; need <= BYTES; need += 65536 + 1)
        fixture_decode_ok(chain, context, stored, bytes, 0, need, original);
    /* Cut the last tenth off: the first half decodes all the same, the whole does not. */
    size_t cut = bytes - bytes / 10;
    fixture_decode_ok(chain, context, stored, cut, 0, BYTES / 2, original);
    assert_int_equal(fixture_decode(chain, context, stored, cut, 0, BYTES, false, NULL, &error), DAMACY_DECODE);
    assert_int_equal(fixture_decode(chain, context, stored, cut, 0, BYTES / 2, true, NULL, &error), DAMACY_DECODE);
    assert_non_null(strstr(error.message, "does not end"));
    /* The same with a checksum: always whole. */
    bytes = encode(stored, 2 * BYTES, original, BYTES, 3, 1, 1);
    fixture_decode_ok(chain, context, stored, bytes, 0, 100, original);
    stored[bytes - 1] ^= 1;
    assert_int_equal(fixture_decode(chain, context, stored, bytes, 0, 100, false, NULL, &error), DAMACY_DECODE);
    assert_non_null(strstr(error.message, "checksum"));
    dmc_codec_chain_free(chain);
    free(original);
    free(stored);
}

static void test_zstd_several_frames(void **state)
{
    (void)state;
    enum { BYTES = 3000 };
    uint8_t original[BYTES], stored[4 * BYTES];
    struct damacy_error error;
    struct dmc_codec_chain *chain = fixture_chain_of(BYTES, "zstd");
    fixture_fill(original, BYTES, 1, CONTENT_TEXT);
    for (int kind = 0; kind < 8; kind++) {
        size_t at = 0;
        at += kind & 1 ? skippable(stored, 13) : 0;
        at += encode(stored + at, BYTES, original, 1000, 3, kind >> 1 & 1, kind >> 2 & 1);
        at += kind & 1 ? skippable(stored + at, 0) : 0;
        at += encode(stored + at, BYTES, original + 1000, 2000, 3, 0, 1);
        at += encode(stored + at, BYTES, original, 0, 3, 0, 1); /* an empty one */
        at += kind & 1 ? skippable(stored + at, 5) : 0;
        fixture_ranges(chain, context, stored, at, original, 50);
        fixture_mutations(chain, context, stored, at, 500);
    }
    /* One whole frame between skippable ones may still stop early. */
    size_t at = skippable(stored, 3);
    at += encode(stored + at, BYTES, original, BYTES, 3, 0, 1);
    at += skippable(stored + at, 3);
    fixture_ranges(chain, context, stored, at, original, 50);
    /* Rubbish behind the frame is seen when all is decoded. */
    at = encode(stored, BYTES, original, BYTES, 3, 0, 1);
    memcpy(stored + at, "rubbish!", 8);
    assert_int_equal(fixture_decode(chain, context, stored, at + 8, 0, BYTES, false, NULL, &error), DAMACY_DECODE);
    dmc_codec_chain_free(chain);
}

static void test_zstd_wrong_sizes(void **state)
{
    (void)state;
    enum { BYTES = 1000 };
    uint8_t original[2 * BYTES], stored[4 * BYTES];
    struct damacy_error error;
    struct dmc_codec_chain *chain = fixture_chain_of(BYTES, "zstd");
    fixture_fill(original, 2 * BYTES, 1, CONTENT_TEXT);
    static const size_t sizes[] = {0, 1, BYTES - 1, BYTES + 1, 2 * BYTES};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int content_size = 0; content_size < 2; content_size++) {
            size_t bytes = encode(stored, sizeof stored, original, sizes[i], 3, 0, content_size);
            assert_int_equal(fixture_decode(chain, context, stored, bytes, 0, 1, false, NULL, &error), DAMACY_DECODE);
            assert_string_equal(error.expected, "1000 bytes");
            assert_string_equal(error.stage, "decode");
            if (content_size) { /* refused by the header alone */
                char found[32];
                snprintf(found, sizeof found, "%zu bytes", sizes[i]);
                assert_string_equal(error.found, found);
                assert_non_null(strstr(error.message, "declared"));
            }
        }
    }
    /* A header that lies, too long or too short, is found out while decoding. */
    size_t bytes = encode(stored, sizeof stored, original, BYTES, 3, 0, 1);
    struct dmc_codec_chain *longer = fixture_chain_of(BYTES + 1, "zstd");
    assert_int_equal(stored[4] & 0xe0, 0x60); /* single segment, two bytes of content size, less 256 */
    stored[5]++;
    assert_int_equal(fixture_decode(longer, context, stored, bytes, 0, BYTES + 1, false, NULL, &error), DAMACY_DECODE);
    dmc_codec_chain_free(longer);
    /* Longer than any chunk of this chain. */
    uint8_t *long_source = calloc(1, chain->stored_bytes_max + 1);
    assert_int_equal(fixture_decode(chain, context, long_source, chain->stored_bytes_max + 1, 0, 1, false, NULL, &error),
                     DAMACY_DECODE);
    assert_non_null(strstr(error.message, "too long"));
    free(long_source);
    dmc_codec_chain_free(chain);
}

static void test_zstd_dictionary_is_refused_by_name(void **state)
{
    (void)state;
    enum { BYTES = 2000, SAMPLES = 200 };
    uint8_t original[BYTES], stored[4 * BYTES], dictionary[4096];
    uint8_t *samples = malloc(SAMPLES * 100);
    size_t sample_bytes[SAMPLES];
    struct damacy_error error;
    for (int i = 0; i < SAMPLES; i++) {
        sample_bytes[i] = 100;
        fixture_fill(samples + i * 100, 100, 1, CONTENT_TEXT);
        for (int k = 0; k < 10; k++)
            samples[i * 100 + fixture_below(100)] = (uint8_t)fixture_random();
    }
    size_t dictionary_bytes = ZDICT_trainFromBuffer(dictionary, sizeof dictionary, samples, sample_bytes, SAMPLES);
    assert_false(ZDICT_isError(dictionary_bytes));
    fixture_fill(original, BYTES, 1, CONTENT_TEXT);
    size_t bytes = ZSTD_compress_usingDict(cctx, stored, sizeof stored, original, BYTES, dictionary, dictionary_bytes, 3);
    struct dmc_codec_chain *chain = fixture_chain_of(BYTES, "zstd");
    assert_int_equal(fixture_decode(chain, context, stored, bytes, 0, BYTES, false, NULL, &error), DAMACY_UNSUPPORTED);
    assert_non_null(strstr(error.message, "dictionary"));
    dmc_codec_chain_free(chain);
    free(samples);
}

static void test_zstd_truncations_and_mutations(void **state)
{
    (void)state;
    enum { BYTES = 1500 };
    uint8_t original[BYTES], stored[4 * BYTES];
    struct dmc_codec_chain *chain = fixture_chain_of(BYTES, "zstd");
    for (int kind = 0; kind < 4 * CONTENT_COUNT; kind++) {
        fixture_fill(original, BYTES, 2, (enum fixture_content)(kind / 4));
        size_t bytes = encode(stored, sizeof stored, original, BYTES, 3, kind & 1, kind >> 1 & 1);
        fixture_truncations(chain, context, stored, bytes);
        fixture_mutations(chain, context, stored, bytes, 1000);
        /* The context is as good as new after all that. */
        fixture_decode_ok(chain, context, stored, bytes, 0, BYTES, original);
    }
    dmc_codec_chain_free(chain);
}

/* A frame with several blocks, damaged: the prefix decoder meets every kind of it. */
static void test_zstd_mutated_prefix(void **state)
{
    (void)state;
    enum { BYTES = 300000 };
    uint8_t *original = malloc(BYTES), *stored = malloc(2 * BYTES);
    struct dmc_codec_chain *chain = fixture_chain_of(BYTES, "zstd");
    fixture_fill(original, BYTES, 2, CONTENT_IMAGE);
    for (size_t i = 0; i < BYTES / 3; i++)
        original[i] = 5; /* so that a run-length block is among them */
    size_t bytes = encode(stored, 2 * BYTES, original, BYTES, 3, 0, 1);
    fixture_mutations(chain, context, stored, bytes, 300);
    fixture_ranges(chain, context, stored, bytes, original, 20);
    dmc_codec_chain_free(chain);
    free(original);
    free(stored);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zstd_all_kinds),
        cmocka_unit_test(test_zstd_prefix_stops_at_its_block),
        cmocka_unit_test(test_zstd_several_frames),
        cmocka_unit_test(test_zstd_wrong_sizes),
        cmocka_unit_test(test_zstd_dictionary_is_refused_by_name),
        cmocka_unit_test(test_zstd_truncations_and_mutations),
        cmocka_unit_test(test_zstd_mutated_prefix),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
