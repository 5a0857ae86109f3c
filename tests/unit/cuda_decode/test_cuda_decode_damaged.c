/* Goal: mutated and cut frames, blocks and blosc chunks end in a verdict, a status, or bytes that libzstd, liblz4 and blosc
 * give, too; nothing outside is touched, and everything ends. Method: that of test_cuda_decode.c, random damage. */
#include "support/decode_world.h"

static bool zstd_reference(const struct item *item, uint8_t *out)
{
    return ZSTD_decompress(out, item->bytes, item->stored, item->stored_bytes) == item->bytes;
}

/* Frames with random damage: nothing outside is touched, everything ends, and what is said to be good libzstd finds good, too,
 * and gives the same bytes; so no chunk is bad on one backend alone. */
static void test_zstd_damaged(void **state)
{
    (void)state;
    uint32_t accepted = 0, refused = 0, late = 0;
    uint8_t *data = malloc(40000), *out = malloc(80000), *reference = malloc(40000);
    for (int round = 0; round < 30; round++) {
        shared_block = round & 1 ? H100_SHARED : 48 << 10;
        dmc_gd_tuning.sequence_group = 1u << below(3);
        dmc_gd_tuning.huffman_group = 1u << below(4);
        for (int i = 0; i < 50; i++) {
            size_t bytes = 1 + below(below(4) ? 3000 : 40000);
            fill(data, bytes, (enum content)below(CONTENTS));
            struct frame_options options = {
                .level = (int)below(10) - 1, .no_size = below(3) == 0, .flush_every = below(3) ? 0 : 200 + below(3000)};
            size_t stored = zstd_write(out, 80000, data, bytes, &options);
            uint32_t flips = 1 + below(4);
            for (uint32_t f = 0; f < flips; f++) {
                uint32_t at = below(3) ? below((uint32_t)stored) : below(stored < 40 ? (uint32_t)stored : 40);
                out[at] = below(2) ? (uint8_t)rnd() : out[at] ^ (uint8_t)(1u << below(8));
            }
            if (below(10) == 0)
                stored = 1 + below((uint32_t)stored);
            item_add(DMC_CUDA_ZSTD, out, stored, NULL, bytes);
        }
        decode_all(8 << 20);
        for (uint32_t i = 0; i < item_count; i++) {
            bool good = zstd_reference(&items[i], reference);
            if (items[i].verdict) {
                refused++;
            } else if (items[i].status) {
                late++;
                assert_in_range(items[i].status, 1, DMC_CUDA_STATUS_CHECKSUM);
            } else {
                accepted++;
                assert_true(good);
                assert_memory_equal(reference, items[i].target, items[i].bytes);
            }
        }
        items_free();
    }
    print_message("damaged zstd: %u refused by the host, %u by the device, %u decoded\n", refused, late, accepted);
    assert_true(refused > 50 && late > 100 && accepted > 50);
    dmc_gd_tuning = (struct dmc_gd_tuning){0};
    shared_block = H100_SHARED;
    free(data);
    free(out);
    free(reference);
}

/* Bare lz4 blocks, and such behind their size: the same as for frames, by liblz4. */
static void test_lz4_damaged(void **state)
{
    (void)state;
    uint32_t accepted = 0, refused = 0;
    uint8_t *data = malloc(30000), *out = malloc(40000), *reference = malloc(30000);
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 50; i++) {
            bool sized = below(2);
            uint32_t bytes = 1 + below(below(4) ? 2000 : 30000), head = sized ? 4 : 0;
            fill(data, bytes, (enum content)below(CONTENTS));
            memcpy(out, &bytes, head);
            size_t stored = head + (size_t)LZ4_compress_fast((const char *)data, (char *)out + head, (int)bytes, 39000, 1);
            for (uint32_t f = 1 + below(3); f > 0; f--) {
                uint32_t at = below(3) ? below((uint32_t)stored) : below(stored < 20 ? (uint32_t)stored : 20);
                out[at] = below(2) ? (uint8_t)rnd() : out[at] ^ (uint8_t)(1u << below(8));
            }
            if (below(10) == 0)
                stored = 1 + below((uint32_t)stored);
            item_add(sized ? DMC_CUDA_LZ4_SIZED : DMC_CUDA_LZ4, out, stored, NULL, bytes);
        }
        decode_all(8 << 20);
        for (uint32_t i = 0; i < item_count; i++) {
            if (items[i].verdict || items[i].status) {
                refused++;
                continue;
            }
            size_t head = items[i].format == DMC_CUDA_LZ4_SIZED ? 4 : 0;
            accepted++;
            assert_int_equal(LZ4_decompress_safe((const char *)items[i].stored + head, (char *)reference,
                                                 (int)(items[i].stored_bytes - head), (int)items[i].bytes),
                             items[i].bytes);
            assert_memory_equal(reference, items[i].target, items[i].bytes);
        }
        items_free();
    }
    print_message("damaged lz4: %u refused, %u decoded\n", refused, accepted);
    assert_true(refused > 100 && accepted > 50);
    free(data);
    free(out);
    free(reference);
}

static void test_blosc_damaged(void **state)
{
    (void)state;
    uint32_t accepted = 0, refused = 0, late = 0;
    uint8_t *data = malloc(30000), *reference = malloc(30000);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 50; i++) {
            size_t bytes = 1 + below(30000);
            fill(data, bytes, (enum content)below(CONTENTS));
            blosc_add(data, bytes, below(2) ? "zstd" : "lz4", (int)below(3), 1 + below(9), 1 + (int)below(5),
                      below(2) ? 0 : 1000 + below(9000), 0);
            struct item *item = &items[item_count - 1];
            free(item->expected);
            item->expected = NULL;
            for (uint32_t f = 1 + below(4); f > 0; f--)
                item->stored[below(3) ? below((uint32_t)item->stored_bytes)
                                      : below(item->stored_bytes < 30 ? (uint32_t)item->stored_bytes : 30)] = (uint8_t)rnd();
            if (below(10) == 0)
                item->stored_bytes = 1 + below((uint32_t)item->stored_bytes);
        }
        decode_all(8 << 20);
        for (uint32_t i = 0; i < item_count; i++) {
            if (items[i].verdict)
                refused++;
            else if (items[i].status)
                late++;
            else {
                accepted++;
                size_t nbytes, cbytes, blocksize;
                blosc_cbuffer_sizes(items[i].stored, &nbytes, &cbytes, &blocksize);
                assert_true(nbytes == items[i].bytes && cbytes == items[i].stored_bytes);
                assert_int_equal(blosc_decompress_ctx(items[i].stored, reference, items[i].bytes, 1), items[i].bytes);
                assert_memory_equal(reference, items[i].target, items[i].bytes);
            }
        }
        items_free();
    }
    print_message("damaged blosc: %u refused by the host, %u by the device, %u decoded\n", refused, late, accepted);
    assert_true(refused > 50 && late > 50 && accepted > 50);
    free(data);
    free(reference);
}

int main(void)
{
    decode_begin();
    const struct CMUnitTest tests[] = {
        TEST(test_zstd_damaged),
        TEST(test_lz4_damaged),
        TEST(test_blosc_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
