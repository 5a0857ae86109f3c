/* Goal: the gzip codec decodes members of any writer, alone, several in a row and padded, and refuses everything else.
 * Method: members made with libdeflate (and headers extended by hand), truncation at every byte, seeded mutations: a CRC-32
 * protects every member, so a mutation that decodes must give the original. */
#include "codec_fixtures.h"
#include <libdeflate.h>

static struct dmc_codec_context *context;

static int setup(void **state)
{
    (void)state;
    fixture_seed(102);
    context = fixture_context(NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dmc_codec_context_destroy(context);
    return 0;
}

static size_t encode(uint8_t *to, size_t room, const uint8_t *from, size_t bytes, int level)
{
    struct libdeflate_compressor *compressor = libdeflate_alloc_compressor(level);
    size_t result = libdeflate_gzip_compress(compressor, from, bytes, to, room);
    libdeflate_free_compressor(compressor);
    assert_true(result > 0);
    return result;
}

static void test_gzip_all_kinds(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 18, 1000, 65536, 200000};
    uint8_t *original = malloc(200000), *stored = malloc(400000);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        struct dmc_codec_chain *chain = fixture_chain_of(sizes[s], "gzip");
        assert_false(chain->partial);
        for (int k = 0; k < 4 * CONTENT_COUNT; k++) {
            fixture_fill(original, sizes[s], 2, (enum fixture_content)(k / 4));
            size_t bytes = encode(stored, 400000, original, sizes[s], k % 4 * 3);
            assert_true(bytes <= chain->stored_bytes_max);
            fixture_ranges(chain, context, stored, bytes, original, sizes[s] <= 18 ? SIZE_MAX : 4);
        }
        dmc_codec_chain_free(chain);
    }
    free(original);
    free(stored);
}

static void test_gzip_members_and_padding(void **state)
{
    (void)state;
    enum { BYTES = 3000 };
    uint8_t original[BYTES], stored[4 * BYTES];
    struct damacy_error error;
    struct dmc_codec_chain *chain = fixture_chain_of(BYTES, "gzip");
    fixture_fill(original, BYTES, 1, CONTENT_TEXT);
    size_t at = encode(stored, BYTES, original, 1000, 6);
    at += encode(stored + at, BYTES, original, 0, 6);
    at += encode(stored + at, BYTES, original + 1000, 2000, 1);
    fixture_ranges(chain, context, stored, at, original, 10);
    fixture_truncations(chain, context, stored, at);
    memset(stored + at, 0, 100);
    for (size_t padding = 0; padding <= 100; padding += 20)
        fixture_decode_ok(chain, context, stored, at + padding, 0, BYTES, original);
    stored[at + 50] = 1;
    assert_int_equal(fixture_decode(chain, context, stored, at + 100, 0, BYTES, false, NULL, &error), DAMACY_DECODE);
    /* A name and a comment in the header. */
    size_t bytes = encode(stored, BYTES, original, BYTES, 6);
    memmove(stored + 10 + 9, stored + 10, bytes - 10);
    memcpy(stored + 10, "name\0com", 9);
    stored[3] = 0x18;
    fixture_decode_ok(chain, context, stored, bytes + 9, 0, BYTES, original);
    dmc_codec_chain_free(chain);
}

static void test_gzip_wrong_sizes(void **state)
{
    (void)state;
    uint8_t original[2000], stored[4000];
    struct damacy_error error;
    struct dmc_codec_chain *chain = fixture_chain_of(1000, "gzip");
    fixture_fill(original, sizeof original, 1, CONTENT_TEXT);
    size_t bytes = encode(stored, sizeof stored, original, 999, 6);
    assert_int_equal(fixture_decode(chain, context, stored, bytes, 0, 1, false, NULL, &error), DAMACY_DECODE);
    assert_string_equal(error.expected, "1000 bytes");
    assert_string_equal(error.found, "999 bytes");
    bytes = encode(stored, sizeof stored, original, 1001, 6);
    assert_int_equal(fixture_decode(chain, context, stored, bytes, 0, 1, false, NULL, &error), DAMACY_DECODE);
    assert_string_equal(error.found, "more");
    dmc_codec_chain_free(chain);
}

static void test_gzip_truncations_and_mutations(void **state)
{
    (void)state;
    enum { BYTES = 1500 };
    uint8_t original[BYTES], stored[4 * BYTES], changed[4 * BYTES];
    struct damacy_error error;
    struct dmc_codec_chain *chain = fixture_chain_of(BYTES, "gzip");
    for (int k = 0; k < 2 * CONTENT_COUNT; k++) {
        fixture_fill(original, BYTES, 2, (enum fixture_content)(k / 2));
        size_t bytes = encode(stored, sizeof stored, original, BYTES, k % 2 * 6);
        fixture_truncations(chain, context, stored, bytes);
        for (int i = 0; i < 2000; i++) {
            memcpy(changed, stored, bytes);
            size_t count = fixture_mutate(changed, bytes, sizeof changed);
            fixture_decode(chain, context, changed, count, 0, BYTES, false, original, &error);
        }
        fixture_decode_ok(chain, context, stored, bytes, 0, BYTES, original);
    }
    dmc_codec_chain_free(chain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gzip_all_kinds),
        cmocka_unit_test(test_gzip_members_and_padding),
        cmocka_unit_test(test_gzip_wrong_sizes),
        cmocka_unit_test(test_gzip_truncations_and_mutations),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
