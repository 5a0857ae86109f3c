/* Goal: every chunk that c-blosc 1.x writes decodes to what libblosc makes of it, whole or in part; nothing else gets through.
 * Method: chunks made by libblosc with each inner codec, shuffle, typesize, level and odd size, some with small forced blocks;
 * chunks put together by hand for what libblosc reads but no longer writes; random ranges; truncation at every byte; seeded
 * mutations, whose outcome is compared with libblosc's. */
#include "codec_fixtures.h"
#include <blosc.h>
#include <lz4.h>

static struct dmc_codec_context *context;
static const char *const inners[] = {"lz4", "lz4hc", "zlib", "zstd", "blosclz", "snappy"};
#define INNERS 6

static int setup(void **state)
{
    (void)state;
    fixture_seed(107);
    context = fixture_context(NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dmc_codec_context_destroy(context);
    return 0;
}

static size_t encode(uint8_t *to, size_t room, const uint8_t *from, size_t bytes, const char *inner, int shuffle,
                     size_t typesize, int level, size_t block_bytes)
{
    int result = blosc_compress_ctx(level, shuffle, typesize, bytes, from, to, room, inner, block_bytes, 1);
    assert_true(result > 0);
    return (size_t)result;
}

/* ---- chunks made by hand ---- */

/* Build an lz4 chunk from `from`, which is taken as shuffled already: `split` streams a whole block; odd ones stored. */
static size_t forge(uint8_t *to, const uint8_t *from, uint32_t bytes, uint32_t block_bytes, uint8_t flags, uint8_t typesize,
                    uint32_t split)
{
    uint32_t blocks = (bytes + block_bytes - 1) / block_bytes, at = 16 + 4 * blocks;
    memcpy(to, (uint8_t[]){2, 1, flags, typesize}, 4);
    memcpy(to + 4, &bytes, 4);
    memcpy(to + 8, &block_bytes, 4);
    for (uint32_t b = blocks; b-- > 0;) { /* the last first: the order of blocks is free */
        uint32_t begin = b * block_bytes, size = bytes - begin < block_bytes ? bytes - begin : block_bytes;
        uint32_t streams = size == block_bytes ? split : 1;
        memcpy(to + 16 + 4 * b, &at, 4);
        for (uint32_t s = 0; s < streams; s++) {
            uint32_t part = size / streams;
            uint32_t count = part;
            if (fixture_below(3) == 0)
                memcpy(to + at + 4, from + begin + s * part, part);
            else
                count = (uint32_t)LZ4_compress_default((const char *)from + begin + s * part, (char *)to + at + 4, (int)part,
                                                       LZ4_compressBound((int)part));
            if (count == part)
                memcpy(to + at + 4, from + begin + s * part, part);
            memcpy(to + at, &count, 4);
            at += 4 + count;
        }
    }
    memcpy(to + 12, &at, 4);
    return at;
}

/* ---- tests ---- */

static void test_blosc_all_kinds(void **state)
{
    (void)state;
    static const size_t typesizes[] = {1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 24, 32, 100, 255};
    static const size_t sizes[] = {1, 7, 16, 100, 127, 128, 256, 1000, 1024, 4096, 5001, 20000};
    static const size_t blocks[] = {0, 0, 256, 1024, 1001}; /* libblosc only heeds them for blocks that are not split */
    uint8_t *original = malloc(20000), *stored = malloc(60000);
    for (size_t i = 0; i < INNERS; i++) {
        for (size_t t = 0; t < sizeof typesizes / sizeof *typesizes; t++) {
            for (int shuffle = 0; shuffle < 3; shuffle++) {
                for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
                    enum fixture_content content =
                        fixture_below(3) ? CONTENT_IMAGE : (enum fixture_content)fixture_below(CONTENT_COUNT);
                    fixture_fill(original, sizes[s], typesizes[t], content);
                    size_t bytes = encode(stored, 60000, original, sizes[s], inners[i], shuffle, typesizes[t],
                                          (int)fixture_below(i == 0 ? 10 : 6), blocks[fixture_below(5)]);
                    struct dmc_codec_chain *chain = fixture_chain_of(sizes[s], "blosc");
                    assert_true(bytes <= chain->stored_bytes_max);
                    fixture_ranges(chain, context, stored, bytes, original, sizes[s] <= 16 ? SIZE_MAX : 4);
                    dmc_codec_chain_free(chain);
                }
            }
        }
    }
    free(original);
    free(stored);
}

/* Blocks and streams as large as in earnest. */
static void test_blosc_large(void **state)
{
    (void)state;
    enum { BYTES = (1 << 20) + 1234 };
    uint8_t *original = malloc(BYTES), *stored = malloc(2 * BYTES);
    struct dmc_codec_chain *chain = fixture_chain_of(BYTES, "blosc");
    assert_true(chain->partial);
    for (size_t i = 0; i < 4; i++) {
        for (int shuffle = 0; shuffle < 3; shuffle++) {
            for (size_t typesize = 1; typesize <= 8; typesize *= 2) {
                fixture_fill(original, BYTES, typesize, CONTENT_IMAGE);
                size_t bytes = encode(stored, 2 * BYTES, original, BYTES, inners[i], shuffle, typesize, i == 1 ? 1 : 5, 0);
                fixture_ranges(chain, context, stored, bytes, original, 3);
            }
        }
    }
    dmc_codec_chain_free(chain);
    free(original);
    free(stored);
}

/* Every range of a chunk of several small blocks with a short last one. */
static void test_blosc_every_range(void **state)
{
    (void)state;
    enum { BYTES = 600 };
    static uint8_t original[BYTES], stored[8 * BYTES];
    struct dmc_codec_chain *chain = fixture_chain_of(BYTES, "blosc");
    for (int shuffle = 0; shuffle < 3; shuffle++) {
        fixture_fill(original, BYTES, 2, CONTENT_IMAGE);
        size_t bytes = encode(stored, sizeof stored, original, BYTES, "zstd", shuffle, 2, 9, 256);
        fixture_ranges(chain, context, stored, bytes, original, SIZE_MAX);
    }
    static const uint8_t filters[] = {0, 1, 4};
    for (size_t i = 0; i < 3; i++) { /* split; libblosc makes no such small ones, but reads them */
        uint8_t expected[BYTES];
        size_t bytes = forge(stored, original, BYTES, 256, 0x20 | filters[i], 2, 2);
        assert_int_equal(blosc_decompress_ctx(stored, expected, BYTES, 1), BYTES);
        fixture_ranges(chain, context, stored, bytes, expected, SIZE_MAX);
    }
    dmc_codec_chain_free(chain);
}

/* Only the blocks that are needed are read: zero the rest. */
static void test_blosc_picks_blocks(void **state)
{
    (void)state;
    enum { BYTES = 1 << 20 };
    uint8_t *original = malloc(BYTES), *stored = malloc(2 * BYTES);
    struct damacy_error error;
    struct dmc_codec_chain *chain = fixture_chain_of(BYTES, "blosc");
    fixture_fill(original, BYTES, 2, CONTENT_IMAGE);
    size_t bytes = encode(stored, 2 * BYTES, original, BYTES, "lz4", BLOSC_SHUFFLE, 2, 5, 0);
    size_t decoded, compressed, block;
    blosc_cbuffer_sizes(stored, &decoded, &compressed, &block);
    assert_true(block * 3 <= BYTES);
    memset(stored + 16, 0, 4);
    memset(stored + 16 + 8, 0, 4);
    fixture_decode_ok(chain, context, stored, bytes, block, 2 * block, original);
    assert_int_equal(fixture_decode(chain, context, stored, bytes, block, 2 * block + 1, false, NULL, &error), DAMACY_DECODE);
    assert_non_null(strstr(error.message, "block 2 of"));
    assert_int_equal(fixture_decode(chain, context, stored, bytes, block - 1, 2 * block, false, NULL, &error), DAMACY_DECODE);
    assert_int_equal(fixture_decode(chain, context, stored, bytes, block, 2 * block, true, NULL, &error), DAMACY_DECODE);
    dmc_codec_chain_free(chain);
    free(original);
    free(stored);
}

/* What libblosc 1.21 makes of strange but legal headers is the truth: old splitting rules, both shuffles, odd block sizes. */
static void test_blosc_forged_as_libblosc_reads_them(void **state)
{
    (void)state;
    enum { ROOM = 1 << 20 };
    static uint8_t original[20000], stored[ROOM], expected[20000];
    size_t decoded_count = 0;
    for (int round = 0; round < 4000; round++) {
        uint32_t typesize = 1 + (uint32_t)fixture_below(fixture_below(2) ? 20 : 8);
        uint32_t elements = 1 + (uint32_t)fixture_below(300);
        uint32_t block = typesize * elements + (fixture_below(3) ? 0 : (uint32_t)fixture_below(typesize));
        uint32_t bytes = block * (1 + (uint32_t)fixture_below(4)) + (fixture_below(2) ? (uint32_t)fixture_below(block) : 0);
        uint8_t flags = (uint8_t)(0x20 | (fixture_random() & 0x15));
        bool split = !(flags & 0x10) && typesize <= 16 && block / typesize >= 128 && block % typesize == 0;
        if (bytes > sizeof original)
            continue;
        fixture_fill(original, bytes, typesize, (enum fixture_content)fixture_below(CONTENT_COUNT));
        size_t count = forge(stored, original, bytes, block, flags, (uint8_t)typesize, split ? typesize : 1);
        int library = blosc_decompress_ctx(stored, expected, bytes, 1);
        struct dmc_codec_chain *chain = fixture_chain_of(bytes, "blosc");
        struct damacy_error error;
        if (library == (int)bytes) {
            decoded_count++;
            if (count <= chain->stored_bytes_max)
                fixture_ranges(chain, context, stored, count, expected, 4);
        } else {
            assert_int_equal(fixture_decode(chain, context, stored, count, 0, bytes, false, NULL, &error), DAMACY_DECODE);
        }
        dmc_codec_chain_free(chain);
    }
    assert_true(decoded_count > 2000);
}

static void test_blosc_wrong_sizes(void **state)
{
    (void)state;
    uint8_t original[2000], stored[6000];
    struct damacy_error error;
    struct dmc_codec_chain *chain = fixture_chain_of(1000, "blosc");
    for (size_t i = 0; i < INNERS; i++) {
        fixture_fill(original, sizeof original, 2, CONTENT_ZERO);
        static const size_t sizes[] = {998, 1002, 2000, 20};
        for (size_t s = 0; s < 4; s++) {
            size_t bytes = encode(stored, sizeof stored, original, sizes[s], inners[i], 1, 2, 5, 0);
            assert_int_equal(fixture_decode(chain, context, stored, bytes, 0, 10, false, NULL, &error), DAMACY_DECODE);
            assert_string_equal(error.expected, "1000 bytes");
        }
        /* Bytes behind the chunk, or fewer than it says. */
        size_t bytes = encode(stored, sizeof stored, original, 1000, inners[i], 1, 2, 5, 0);
        assert_int_equal(fixture_decode(chain, context, stored, bytes + 1, 0, 10, false, NULL, &error), DAMACY_DECODE);
        assert_non_null(strstr(error.message, "cbytes"));
        fixture_truncations(chain, context, stored, bytes);
    }
    dmc_codec_chain_free(chain);
}

/* Mutations of the table of blocks and of the streams' sizes, for every inner codec: never more than an error, and where both
 * accept the damage, both see the same bytes. */
static void test_blosc_mutations(void **state)
{
    (void)state;
    enum { BYTES = 3000, ROUNDS = 1500 };
    uint8_t original[BYTES], stored[4 * BYTES], changed[4 * BYTES], expected[BYTES];
    struct dmc_codec_chain *chain = fixture_chain_of(BYTES, "blosc");
    struct damacy_error error;
    for (size_t i = 0; i < INNERS; i++) {
        for (int shuffle = 0; shuffle < 3; shuffle++) {
            fixture_fill(original, BYTES, 4, fixture_below(2) ? CONTENT_IMAGE : CONTENT_TEXT);
            size_t bytes = encode(stored, sizeof stored, original, BYTES, inners[i], shuffle, 4, 5, 256);
            if (i == 1) /* a split chunk of several blocks, which libblosc only makes of large ones */
                bytes = forge(stored, original, BYTES, 1024, (uint8_t[]){0x20, 0x21, 0x24}[shuffle], 4, 4);
            assert_int_equal(blosc_decompress_ctx(stored, original, BYTES, 1), BYTES);
            fixture_mutations(chain, context, stored, bytes, ROUNDS);
            for (int round = 0; i < 2 && round < ROUNDS; round++) {
                memcpy(changed, stored, bytes);
                size_t count = fixture_mutate(changed, bytes, sizeof changed);
                if (fixture_decode(chain, context, changed, count, 0, BYTES, true, NULL, &error) == DAMACY_OK) {
                    memset(expected, 0, BYTES);
                    assert_int_equal(blosc_decompress_ctx(changed, expected, BYTES, 1), BYTES);
                    fixture_decode_ok(chain, context, changed, count, 0, BYTES, expected);
                }
            }
            fixture_decode_ok(chain, context, stored, bytes, 0, BYTES, original);
        }
    }
    dmc_codec_chain_free(chain);
}

/* A table whose blocks all point at the same stream, and stream sizes at the edges of 32 bits. */
static void test_blosc_edge_numbers(void **state)
{
    (void)state;
    enum { BYTES = 4096 };
    static const uint32_t edges[] = {0, 1, 15, 16, 79, 0x7fffffff, 0x80000000u, 0xfffffffcu, 0xfffffffeu, 0xffffffffu};
    uint8_t original[BYTES], stored[4 * BYTES], changed[4 * BYTES];
    struct dmc_codec_chain *chain = fixture_chain_of(BYTES, "blosc");
    struct damacy_error error;
    for (size_t i = 0; i < INNERS; i++) {
        fixture_fill(original, BYTES, 4, CONTENT_TEXT);
        size_t bytes = encode(stored, sizeof stored, original, BYTES, inners[i], 1, 4, 5, 256);
        for (size_t e = 0; e < sizeof edges / sizeof *edges; e++) {
            for (int delta = -4; delta <= 0; delta++) {
                uint32_t starts[] = {edges[e], (uint32_t)bytes + (uint32_t)delta};
                for (int k = 0; k < 2; k++) {
                    memcpy(changed, stored, bytes);
                    memcpy(changed + 16 + 4, &starts[k], 4);
                    assert_int_equal(fixture_decode(chain, context, changed, bytes, 0, BYTES, false, NULL, &error),
                                     DAMACY_DECODE);
                    bool outside = starts[k] < 16 + 4 * (BYTES / 256) || starts[k] > bytes;
                    assert_int_equal(outside, strstr(error.message, "block 1 of 16: wrong start") != NULL);
                    memcpy(changed, stored, bytes);
                    uint32_t start;
                    memcpy(&start, changed + 16 + 4, 4);
                    memcpy(changed + start, &starts[k], 4);
                    if (fixture_decode(chain, context, changed, bytes, 0, BYTES, false, NULL, &error) != DAMACY_DECODE)
                        fail_msg("%s: a stream of %u bytes", inners[i], starts[k]);
                    if (starts[k] > bytes - start - 4)
                        assert_non_null(strstr(error.message, "wrong stored size of a stream"));
                    uint32_t too_long = (uint32_t)bytes - start - 4 + 1 - (uint32_t)delta; /* by 1 to 5 bytes */
                    memcpy(changed + start, &too_long, 4);
                    assert_int_equal(fixture_decode(chain, context, changed, bytes, 0, BYTES, false, NULL, &error),
                                     DAMACY_DECODE);
                    assert_non_null(strstr(error.message, "wrong stored size of a stream"));
                }
            }
        }
    }
    dmc_codec_chain_free(chain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blosc_all_kinds),
        cmocka_unit_test(test_blosc_large),
        cmocka_unit_test(test_blosc_every_range),
        cmocka_unit_test(test_blosc_picks_blocks),
        cmocka_unit_test(test_blosc_forged_as_libblosc_reads_them),
        cmocka_unit_test(test_blosc_wrong_sizes),
        cmocka_unit_test(test_blosc_mutations),
        cmocka_unit_test(test_blosc_edge_numbers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
