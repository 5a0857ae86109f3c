/* Goal: the GPU decoders give libzstd's bytes for whatever it can write, refuse what is for the CPU, never touch memory
 * outside, and take the scratch memory that they promise. Method: the kernels' twin under sanitizers (support/decode_world.h),
 * frames executed by warps; frames put together by hand. Executed by thread blocks: test_cuda_decode_wide.c. */
#include "support/decode_world.h"

static void test_zstd_contents(void **state)
{
    (void)state;
    zstd_contents(false);
}

/* Several frames, of known size and not, with skippable ones between. */
static void test_zstd_frames(void **state)
{
    (void)state;
    uint8_t *data = malloc(400000), *out = malloc(1 << 20);
    for (int round = 0; round < 40; round++) {
        size_t bytes = 0, stored = 0;
        uint32_t frames = 1 + below(4), unsized = below(3);
        for (uint32_t f = 0; f < frames; f++) {
            if (below(3) == 0) {
                uint32_t skip[2] = {0x184D2A50u + below(16), below(40)};
                memcpy(out + stored, skip, 8);
                memset(out + stored + 8, 7, skip[1]);
                stored += 8 + skip[1];
            }
            size_t n = below(8) == 0 ? 0 : below(30000);
            fill(data + bytes, n, (enum content)below(CONTENTS));
            /* unsized 0: none, 1: all, 2: the last */
            struct frame_options options = {.level = 1 + (int)below(5),
                                            .no_size = unsized == 1 || (unsized == 2 && f + 1 == frames)};
            options.checksum = unsized != 1 && below(2);
            stored += zstd_write(out + stored, (1 << 20) - stored, data + bytes, n, &options);
            bytes += n;
        }
        if (bytes == 0)
            continue;
        struct item *item = item_add(DMC_CUDA_ZSTD, out, stored, data, bytes);
        if (below(2))
            part_choose(item);
    }
    decode_all(16 << 20);
    for (uint32_t i = 0; i < item_count; i++)
        item_check(&items[i], "frames", (int)i, 0);
    items_free();
    free(data);
    free(out);
}

/* What is for the CPU: dictionaries, other formats, sizes that differ, rubbish behind, checksums that are wrong. */
static void test_zstd_refused(void **state)
{
    (void)state;
    uint8_t data[20000], out[30000];
    fill(data, sizeof data, IMAGE);
    size_t stored = ZSTD_compress(out, sizeof out, data, sizeof data, 3);
    item_add(DMC_CUDA_ZSTD, out, stored, NULL, sizeof data - 1);
    item_add(DMC_CUDA_ZSTD, out, stored, NULL, sizeof data + 1);
    item_add(DMC_CUDA_ZSTD, out, stored - 1, NULL, sizeof data);
    out[stored] = 0;
    item_add(DMC_CUDA_ZSTD, out, stored + 1, NULL, sizeof data);
    item_add(DMC_CUDA_ZSTD, out, 0, NULL, sizeof data);
    item_add(DMC_CUDA_ZSTD, "rubbish rubbish", 15, NULL, sizeof data);
    uint32_t skip[2] = {0x184D2A50u, 0};
    item_add(DMC_CUDA_ZSTD, skip, 8, NULL, 10);
    uint8_t named[] = {0x28, 0xB5, 0x2F, 0xFD, 0x21, 77, 10, 0x51, 0, 0, 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a'};
    item_add(DMC_CUDA_ZSTD, named, sizeof named, NULL, 10);
    decode_all(1 << 20);
    for (uint32_t i = 0; i < item_count; i++)
        assert_int_not_equal(items[i].verdict, DMC_CUDA_OK);
    assert_int_equal(items[item_count - 1].verdict, DMC_CUDA_UNSUPPORTED);
    items_free();

    struct frame_options options = {.level = 3, .checksum = true};
    stored = zstd_write(out, sizeof out, data, sizeof data, &options);
    out[stored - 2] ^= 1;
    item_add(DMC_CUDA_ZSTD, out, stored, NULL, sizeof data);
    options = (struct frame_options){.level = 3, .no_size = true}; /* that the size is another shows on the device only */
    stored = zstd_write(out, sizeof out, data, sizeof data, &options);
    item_add(DMC_CUDA_ZSTD, out, stored, NULL, sizeof data - 1);
    item_add(DMC_CUDA_ZSTD, out, stored, NULL, sizeof data + 1);
    for (int wide = 0; wide < 2; wide++) {
        shared_block = wide ? H100_SHARED : 48 << 10;
        decode_all(1 << 20);
        for (uint32_t i = 0; i < item_count; i++) {
            assert_int_equal(items[i].verdict, DMC_CUDA_OK);
            assert_int_equal(items[i].status, i == 0 ? DMC_CUDA_STATUS_CHECKSUM : DMC_CUDA_STATUS_LENGTH);
            free(items[i].target);
            items[i].target = NULL;
        }
    }
    items_free();
}

/* A frame made against a prefix that is not there: its matches reach before its beginning; alone, and behind another frame,
 * whose bytes they must not reach. */
static void test_zstd_prefix(void **state)
{
    (void)state;
    uint8_t *data = malloc(140000), *out = malloc(160000);
    fill(data, 70000, NOISE);
    memcpy(data + 70000, data, 70000);
    for (int wide = 0; wide < 2; wide++) {
        shared_block = wide ? H100_SHARED : 48 << 10;
        struct frame_options options = {.level = 1, .no_size = true};
        size_t first = zstd_write(out, 160000, data, 70000, &options), stored = first;
        ZSTD_CCtx *context = ZSTD_createCCtx();
        ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, 3);
        ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
        ZSTD_CCtx_refPrefix(context, data, 70000);
        ZSTD_outBuffer output = {out + stored, 160000 - stored, 0};
        ZSTD_inBuffer input = {data + 70000, 70000, 0};
        assert_int_equal(ZSTD_compressStream2(context, &output, &input, ZSTD_e_end), 0);
        ZSTD_freeCCtx(context);
        assert_true(output.pos < 1000);
        stored += output.pos;
        item_add(DMC_CUDA_ZSTD, out + first, stored - first, NULL, 70000);
        item_add(DMC_CUDA_ZSTD, out, stored, NULL, 140000);
        decode_all(1 << 20);
        for (uint32_t i = 0; i < item_count; i++) {
            assert_int_equal(items[i].verdict, DMC_CUDA_OK);
            assert_int_equal(items[i].status, DMC_CUDA_STATUS_OFFSET);
        }
        items_free();
    }
    shared_block = H100_SHARED;
    free(data);
    free(out);
}

/* Blocks of nothing but literals decode right into their places as long as these are known: in front of the first sequence of
 * a frame and not behind it. Sequences before, between and behind; whole and in parts; over scratch memory by its size. */
static void test_zstd_literals_in_place(void **state)
{
    (void)state;
    enum { PART = 10000, PARTS = 3 };
    uint8_t *data = malloc(PARTS * PART), *out = malloc(2 * PARTS * PART);
    const struct frame_options options = {.level = 3, .flush_every = PART};
    for (uint32_t texts = 0; texts < 1 << PARTS; texts++) { /* a bit a block: text, or noise of seven bits a byte */
        uint64_t in_scratch = 0;
        for (uint32_t k = 0; k < PARTS; k++) {
            if (texts >> k & 1)
                fill(data + k * PART, PART, TEXT);
            for (uint32_t i = 0; !(texts >> k & 1) && i < PART; i++)
                data[k * PART + i] = rnd() & 127;
            in_scratch += !(texts >> k & 1) && texts & ((1u << k) - 1) ? PART : 0;
        }
        size_t stored = zstd_write(out, 2 * PARTS * PART, data, PARTS * PART, &options);
        item_add(DMC_CUDA_ZSTD, out, stored, data, PARTS * PART);
        part_choose(item_add(DMC_CUDA_ZSTD, out, stored, data, PARTS * PART));
        struct dmc_cuda_chunk chunk = {.format = DMC_CUDA_ZSTD,
                                       .stored = out,
                                       .stored_bytes = stored,
                                       .chunk_bytes = PARTS * PART,
                                       .need_end = PARTS * PART};
        struct dmc_cuda_cost cost;
        assert_int_equal(dmc_cuda_inspect(&chunk, &cost), DMC_CUDA_OK);
        assert_in_range(cost.scratch_bytes, in_scratch, in_scratch + PARTS * PART / 4);
    }
    for (int wide = 0; wide < 2; wide++) {
        shared_block = wide ? H100_SHARED : 48 << 10;
        decode_all(4 << 20);
        for (uint32_t i = 0; i < item_count; i++) {
            item_check(&items[i], "texts, wide", (int)i / 2, wide);
            free(items[i].target);
            items[i].target = NULL;
        }
    }
    items_free();
    shared_block = H100_SHARED;
    free(data);
    free(out);
}

/* What decoding takes besides its result: the coded literals whose places are not known yet, and three bytes a sequence. A
 * sequence has a match of three bytes, so that it is never more than what is decoded and the pads. In floats a match by chance
 * is what makes the difference between nothing and everything. */
static void test_scratch(void **state)
{
    (void)state;
    static const struct {
        enum content content;
        double share;
    } most[] = {{IMAGE, 0.80}, {SHUFFLED, 0.55}, {FLOATS, 1.01}, {LABELS, 0.05}, {TEXT, 0.17}};
    uint8_t *data = malloc(1 << 20), *out = malloc(2 << 20);
    for (uint32_t i = 0; i < sizeof most / sizeof most[0]; i++)
        for (size_t bytes = 16 << 10; bytes <= 1 << 20; bytes *= 8) {
            struct dmc_cuda_cost cost;
            fill(data, bytes, most[i].content);
            size_t stored = ZSTD_compress(out, 2 << 20, data, bytes, 3);
            struct dmc_cuda_chunk chunk = {
                .format = DMC_CUDA_ZSTD, .stored = out, .stored_bytes = stored, .chunk_bytes = bytes, .need_end = bytes};
            assert_int_equal(dmc_cuda_inspect(&chunk, &cost), DMC_CUDA_OK);
            assert_true((double)cost.scratch_bytes <= most[i].share * (double)bytes);
        }
    free(data);
    free(out);
}

static int failing_calls;
static int failing_launch(void *context, enum dmc_cuda_kernel kernel, uint32_t grid, uint32_t block, uint32_t shared_bytes,
                          void *stream, void **args)
{
    (void)context, (void)kernel, (void)grid, (void)block, (void)shared_bytes, (void)stream, (void)args;
    return ++failing_calls == 2 ? 719 : 0;
}

/* What a launch answers is passed on, and nothing is launched behind it. Advice covers what chunks really take. */
static void test_launch_errors_and_advice(void **state)
{
    (void)state;
    uint8_t *data = malloc(1 << 20), *out = malloc(2 << 20);
    static uint8_t table[1 << 20] __attribute__((aligned(256)));
    struct dmc_cuda_wave *wave;
    struct dmc_cuda_wave_info info;
    assert_int_equal(dmc_cuda_wave_create(4, &wave, NULL), DAMACY_OK);
    struct dmc_cuda_launcher launcher = dmc_twin_launcher(132, H100_SHARED);
    launcher.launch = failing_launch;
    fill(data, 50000, IMAGE);
    size_t stored = ZSTD_compress(out, 2 << 20, data, 50000, 3);
    struct dmc_cuda_chunk chunk = {
        .format = DMC_CUDA_ZSTD, .stored = out, .stored_bytes = stored, .chunk_bytes = 50000, .need_end = 50000};
    dmc_cuda_wave_begin(wave, table, sizeof table, 1 << 20);
    uint32_t index;
    assert_int_equal(dmc_cuda_wave_add(wave, &chunk, &index), DMC_CUDA_OK);
    dmc_cuda_wave_close(wave, &info);
    failing_calls = 0;
    assert_int_equal(dmc_cuda_wave_enqueue(wave, &launcher, 256, 256, wave, table), 719);
    assert_int_equal(failing_calls, 2);
    dmc_cuda_wave_destroy(wave);
    for (int round = 0; round < 12; round++) {
        size_t bytes = 4096u << (round % 9);
        bool shuffled = round & 1;
        fill(data, bytes, IMAGE);
        struct dmc_cuda_advice advice;
        struct dmc_cuda_cost cost;
        struct dmc_cuda_planes planes = {.element_bytes = 2};
        chunk = (struct dmc_cuda_chunk){.stored = out, .chunk_bytes = bytes, .need_end = bytes, .planes = &planes};
        if (shuffled) {
            chunk.format = DMC_CUDA_BLOSC;
            chunk.stored_bytes = (uint64_t)blosc_compress_ctx(5, 1, 2, bytes, data, out, 2 << 20, "zstd", 0, 1);
        } else {
            chunk.format = DMC_CUDA_ZSTD;
            chunk.stored_bytes = ZSTD_compress(out, 2 << 20, data, bytes, 3);
        }
        assert_int_equal(dmc_cuda_inspect(&chunk, &cost), DMC_CUDA_OK);
        dmc_cuda_advise(chunk.format, bytes, chunk.stored_bytes, 132, &advice);
        assert_true(advice.wave_chunks >= 1 && advice.waves >= 2);
        if (getenv("DAMACY_TEST_VERBOSE"))
            print_message("%s %zu bytes: scratch %.2f of decoded, advice %.2f; table %llu, advice %llu\n",
                          shuffled ? "blosc" : "zstd", bytes, (double)cost.scratch_bytes / (double)bytes,
                          (double)advice.scratch_bytes / advice.wave_chunks / (double)bytes,
                          (unsigned long long)cost.table_bytes, (unsigned long long)(advice.table_bytes / advice.wave_chunks));
        assert_true(cost.table_bytes * advice.wave_chunks <= advice.table_bytes);
        assert_true(cost.scratch_bytes * advice.wave_chunks <= advice.scratch_bytes);
    }
    free(data);
    free(out);
}

int main(void)
{
    decode_begin();
    const struct CMUnitTest tests[] = {
        TEST(test_zstd_contents),
        TEST(test_zstd_frames),
        TEST(test_zstd_refused),
        TEST(test_zstd_prefix),
        TEST(test_zstd_literals_in_place),
        TEST(test_scratch),
        TEST(test_launch_errors_and_advice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
