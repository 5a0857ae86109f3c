/* Goal: the GPU decoders give libzstd's, lz4's and blosc's bytes where blocks are odd, shuffled or mixed in a wave, and in
 * waves too small for some. Method: that of test_cuda_decode.c. */
#include "support/decode_world.h"

/* Blocks of odd sizes, repeated tables and trees, windows larger than a block, long mode. */
static void test_zstd_blocks(void **state)
{
    (void)state;
    uint8_t *data = malloc(600000);
    for (int round = 0; round < 30; round++) {
        size_t bytes = 1 + below(round % 10 == 0 ? 600000 : 60000);
        fill(data, bytes, (enum content)below(CONTENTS));
        struct frame_options options = {
            .level = (int)below(12) - 2,
            .checksum = below(2),
            .no_size = below(2),
            .window_log = below(2) ? 10 + (int)below(12) : 0,
            .flush_every = below(2) ? 50 + below(20000) : 0,
            .long_mode = below(4) == 0,
        };
        zstd_add(data, bytes, &options, below(2));
    }
    shared_block = below(2) ? H100_SHARED : 48 << 10;
    decode_all(16 << 20);
    for (uint32_t i = 0; i < item_count; i++)
        item_check(&items[i], "blocks", (int)i, 0);
    items_free();
    free(data);
    shared_block = H100_SHARED;
}

static void test_blosc(void **state)
{
    (void)state;
    static const size_t typesizes[] = {1, 2, 3, 4, 8, 12, 16, 17};
    uint8_t *data = malloc(300000);
    for (int shuffle = 0; shuffle <= 2; shuffle++) {
        for (int inner = 0; inner < 2; inner++) {
            for (size_t t = 0; t < sizeof typesizes / sizeof *typesizes; t++) {
                for (int round = 0; round < 3; round++) {
                    size_t bytes = 1 + below(round == 0 ? 3000 : round == 1 ? 40000 : 200000);
                    if (round == 1 || below(2))
                        bytes = (bytes / typesizes[t] / 8 + 1) * typesizes[t] * 8;
                    fill(data, bytes, (enum content)below(CONTENTS));
                    blosc_add(data, bytes, inner ? "zstd" : "lz4", shuffle, typesizes[t], (int)below(inner ? 6 : 10),
                              below(2) ? 0 : 1000 + below(20000), (int)below(2));
                }
            }
            decode_all(16 << 20);
            for (uint32_t i = 0; i < item_count; i++)
                item_check(&items[i], "blosc shuffle, inner", shuffle, inner);
            items_free();
        }
    }
    fill(data, 1000, TEXT);
    blosc_add(data, 1000, "zlib", 1, 2, 5, 0, 0);
    blosc_add(data, 1000, "blosclz", 1, 2, 5, 0, 0);
    decode_all(1 << 20);
    assert_int_equal(items[0].verdict, DMC_CUDA_UNSUPPORTED);
    assert_int_equal(items[1].verdict, DMC_CUDA_UNSUPPORTED);
    items_free();
    free(data);
    print_message("%u blosc chunks left in planes\n", left_in_planes);
    assert_true(left_in_planes > 0);
}

static void test_lz4(void **state)
{
    (void)state;
    uint8_t *data = malloc(300000), *out = malloc(310000);
    for (int content = 0; content < CONTENTS; content++) {
        for (int i = 0; i < 6; i++) {
            size_t bytes = 1 + below(i < 2 ? 100 : i < 4 ? 5000 : 140000);
            fill(data, bytes, (enum content)content);
            int stored = LZ4_compress_fast((const char *)data, (char *)out, (int)bytes, 310000, 1 + (int)below(3));
            struct item *item = item_add(DMC_CUDA_LZ4, out, (size_t)stored, data, bytes);
            if (i & 1)
                part_choose(item);
            item = item_add(DMC_CUDA_COPY, data, bytes, data, bytes);
            if (i & 1)
                part_choose(item);
        }
        decode_all(1 << 20);
        for (uint32_t i = 0; i < item_count; i++)
            item_check(&items[i], "lz4", content, (int)i);
        items_free();
    }
    free(data);
    free(out);
}

/* Chunks of every kind and size in one wave, in waves that are too small for some, and in both ways of executing. */
static void test_waves(void **state)
{
    (void)state;
    uint8_t *data = malloc(140000), *out = malloc(150000);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 50; i++) {
            size_t bytes = 1 + below(i % 16 == 0 ? 140000 : 6000);
            fill(data, bytes, (enum content)below(CONTENTS));
            switch (below(4)) {
            case 0:
                blosc_add(data, bytes, below(2) ? "zstd" : "lz4", (int)below(3), 1 + below(8), 4, 0, (int)below(2));
                break;
            case 1: {
                int stored = LZ4_compress_default((const char *)data, (char *)out, (int)bytes, 150000);
                item_add(DMC_CUDA_LZ4, out, (size_t)stored, data, bytes);
                break;
            }
            default:
                zstd_add(data, bytes, &(struct frame_options){.level = 2, .checksum = below(2)}, below(2));
            }
        }
        sm_count = round & 1 ? 1 : 132;
        uint64_t scratch = round < 2 ? 4 << 20 : 60000;
        decode_all(scratch);
        for (uint32_t i = 0; i < item_count; i++) {
            if (items[i].verdict == DMC_CUDA_FULL)
                assert_true(scratch < 100000 && items[i].bytes > 10000);
            else
                item_check(&items[i], "wave", round, (int)i);
        }
        items_free();
    }
    sm_count = 132;
    struct dmc_cuda_wave *wave;
    struct dmc_cuda_wave_info info;
    assert_int_equal(dmc_cuda_wave_create(4, &wave, NULL), DAMACY_OK);
    struct dmc_cuda_launcher launcher = dmc_twin_launcher(132, H100_SHARED);
    dmc_cuda_wave_begin(wave, NULL, 0, 0);
    dmc_cuda_wave_close(wave, &info);
    assert_int_equal(info.table_bytes, 0);
    assert_int_equal(dmc_cuda_wave_enqueue(wave, &launcher, 0, 0, wave, NULL), 0);
    dmc_cuda_wave_destroy(wave);
    free(data);
    free(out);
}

int main(void)
{
    decode_begin();
    const struct CMUnitTest tests[] = {
        TEST(test_zstd_blocks),
        TEST(test_blosc),
        TEST(test_lz4),
        TEST(test_waves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
