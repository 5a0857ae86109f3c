/* Goal: a header that passes tells what libblosc would understand, and one that lies does not pass, with the member named.
 * Method: headers from libblosc against blosc_cbuffer_metainfo(), each wrong member by hand, random headers. */
#include "codec/blosc_layout.h"
#include "codec_fixtures.h"
#include <blosc.h>

static void put(uint8_t *header, size_t at, uint32_t value)
{
    memcpy(header + at, &value, 4);
}

static void test_layout_of_real_chunks(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum dmc_blosc_inner inner;
    } inners[] = {{"blosclz", DMC_BLOSC_BLOSCLZ}, {"lz4", DMC_BLOSC_LZ4},   {"lz4hc", DMC_BLOSC_LZ4},
                  {"snappy", DMC_BLOSC_SNAPPY},   {"zlib", DMC_BLOSC_ZLIB}, {"zstd", DMC_BLOSC_ZSTD}};
    enum { BYTES = 100000 };
    static uint8_t original[BYTES], stored[2 * BYTES];
    fixture_seed(105);
    for (size_t i = 0; i < 6; i++) {
        for (int shuffle = 0; shuffle < 3; shuffle++) {
            for (size_t typesize = 1; typesize <= 32; typesize *= 2) {
                fixture_fill(original, BYTES, typesize, CONTENT_TEXT);
                int bytes =
                    blosc_compress_ctx(5, shuffle, typesize, BYTES, original, stored, sizeof stored, inners[i].name, 0, 1);
                size_t decoded, compressed, block;
                blosc_cbuffer_sizes(stored, &decoded, &compressed, &block);
                struct dmc_blosc_layout layout;
                struct damacy_error error;
                if (dmc_blosc_layout_parse(stored, 16, &layout, &error))
                    fail_msg("%s", error.message);
                assert_int_equal(layout.bytes, decoded);
                assert_int_equal(layout.stored_bytes, bytes);
                assert_int_equal(layout.block_bytes, block);
                assert_int_equal(layout.block_count, (decoded + block - 1) / block);
                assert_int_equal(layout.typesize, typesize);
                assert_int_equal(layout.inner, inners[i].inner);
                assert_int_equal(layout.byte_shuffle, shuffle == 1 && typesize > 1);
                assert_int_equal(layout.bit_shuffle, shuffle == 2);
                assert_false(layout.memcpyed);
                assert_int_equal(layout.split, typesize <= 16 && inners[i].inner != DMC_BLOSC_ZSTD);
            }
        }
    }
}

/* A good header with one wrong member: the message must have `word`. */
static void expect(size_t at, uint32_t value, size_t value_bytes, bool memcpyed, enum damacy_status status, const char *word)
{
    uint8_t header[16] = {2, 1, (uint8_t)(0x21 | memcpyed << 1), 4};
    put(header, 4, 4096);
    put(header, 8, 1024);
    put(header, 12, memcpyed ? 4112 : 3000);
    struct dmc_blosc_layout layout;
    struct damacy_error error;
    assert_int_equal(dmc_blosc_layout_parse(header, 16, &layout, NULL), DAMACY_OK);
    memcpy(header + at, &value, value_bytes);
    enum damacy_status found = dmc_blosc_layout_parse(header, 16, &layout, &error);
    if (found != status || (status && !strstr(error.message, word)))
        fail_msg("byte %zu = %u: %d, %s", at, value, found, found ? error.message : "");
    assert_int_equal(dmc_blosc_layout_parse(header, 16, &layout, NULL), status);
}

static void test_layout_lies(void **state)
{
    (void)state;
    expect(0, 1, 1, false, DAMACY_DECODE, "version");
    expect(0, 0, 1, false, DAMACY_DECODE, "version");
    expect(0, 255, 1, false, DAMACY_DECODE, "version");
    expect(0, 5, 1, false, DAMACY_UNSUPPORTED, "c-blosc2");
    expect(1, 2, 1, false, DAMACY_DECODE, "inner format version");
    expect(2, 0x29, 1, false, DAMACY_DECODE, "flags");
    expect(2, 0xa1, 1, false, DAMACY_DECODE, "inner codec");
    expect(3, 0, 1, false, DAMACY_DECODE, "typesize");
    expect(4, 0x80000000u, 4, false, DAMACY_DECODE, "nbytes");
    expect(4, 1023, 4, false, DAMACY_DECODE, "blocksize");
    expect(8, 0, 4, false, DAMACY_DECODE, "blocksize");
    expect(8, 4097, 4, false, DAMACY_DECODE, "blocksize");
    expect(8, 1026, 4, false, DAMACY_DECODE, "blocksize");
    expect(8, 1, 4, false, DAMACY_DECODE, "cbytes"); /* 4096 blocks have no room */
    expect(12, 16 + 15, 4, false, DAMACY_DECODE, "cbytes");
    expect(12, 0, 4, false, DAMACY_DECODE, "cbytes");
    expect(12, 0xffffffffu, 4, false, DAMACY_DECODE, "cbytes");
    expect(12, 4111, 4, true, DAMACY_DECODE, "cbytes");
    expect(12, 4113, 4, true, DAMACY_DECODE, "cbytes");
    expect(8, 0, 4, true, DAMACY_DECODE, "blocksize");
    expect(2, 0xe2, 1, true, DAMACY_OK, NULL); /* of a plain copy the inner codec says nothing */
    expect(1, 9, 1, true, DAMACY_OK, NULL);
    expect(12, 16 + 16, 4, false, DAMACY_OK, NULL);
    struct dmc_blosc_layout layout;
    struct damacy_error error;
    for (size_t bytes = 0; bytes < 16; bytes++)
        assert_int_equal(dmc_blosc_layout_parse("\2\1!\4............", bytes, &layout, &error), DAMACY_DECODE);
}

/* Whatever passes keeps the promises that decoding relies on. */
static void test_layout_random_headers(void **state)
{
    (void)state;
    fixture_seed(106);
    size_t passed = 0;
    for (int i = 0; i < 200000; i++) {
        uint8_t header[16] = {2, 1};
        header[2] = (uint8_t)fixture_random();
        header[3] = (uint8_t)fixture_below(40);
        for (size_t k = 4; k < 16; k++)
            header[k] = k % 4 < 2 ? (uint8_t)fixture_random() : 0;
        struct dmc_blosc_layout layout;
        if (dmc_blosc_layout_parse(header, 16, &layout, NULL))
            continue;
        passed++;
        assert_true(layout.typesize > 0 && layout.block_bytes > 0);
        assert_false(layout.byte_shuffle && layout.bit_shuffle);
        if (!layout.memcpyed) {
            assert_true(layout.block_bytes <= layout.bytes || layout.bytes == 0);
            assert_true(16 + 4 * layout.block_count <= layout.stored_bytes);
            assert_true(layout.block_count * layout.block_bytes >= layout.bytes);
            assert_true(!layout.split || (layout.typesize <= 16 && layout.block_bytes % layout.typesize == 0));
        }
    }
    assert_true(passed > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout_of_real_chunks),
        cmocka_unit_test(test_layout_lies),
        cmocka_unit_test(test_layout_random_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
