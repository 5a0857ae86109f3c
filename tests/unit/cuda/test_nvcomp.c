/* Goal: gzip and zlib chunks decoded on the device through nvcomp are right to the byte, and so are those of zstd, blosc and
 * lz4 with DAMACY_GPU_DECODER=nvcomp; whatever is wrong with them, with the library or with its memory ends as a status of the
 * chunk, never as wrong bytes; without the library the CPU decodes gzip, and decode="gpu" and DAMACY_GPU_DECODER say what is
 * missing. Method: a table of functions that decodes by libdeflate, libzstd and liblz4 (tests/support/fake_nvcomp.h), the
 * kernels' twin, the fake driver. */
#define PW_CUDA
#include "backend/cuda/cuda_backend.h"
#include "support/pipeline_world.h"

#include <blosc.h>
#include <unistd.h>

#define ITEMS 40
#define PAD DMC_CUDA_STORED_PAD_BYTES

static struct pw_random numbers;

struct item {
    enum dmc_cuda_format format;
    uint8_t *base, *stored, *expected, *target;
    size_t stored_bytes, bytes;
    bool foreign;    /* zstd and lz4 by the library, too */
    uint32_t wanted; /* status */
    enum dmc_cuda_verdict verdict;
    uint32_t status, index;
};
static struct item items[ITEMS];
static uint32_t item_count;

static uint8_t buffer[400000];

/* What is in `buffer` becomes its stored bytes, at an odd address. */
static void item_store(struct item *item)
{
    item->base = calloc(1, item->stored_bytes + 2 * PAD + 600);
    item->stored = item->base + PAD + pw_between(&numbers, 0, 15);
    memcpy(item->stored, buffer, item->stored_bytes);
}

static struct item *item_make(enum dmc_cuda_format format, size_t bytes)
{
    struct item *item = &items[item_count++];
    struct libdeflate_compressor *compressor = libdeflate_alloc_compressor(3);
    *item = (struct item){.format = format, .bytes = bytes};
    item->expected = malloc(bytes + 1);
    for (size_t i = 0; i < bytes; i++)
        item->expected[i] = (uint8_t)(pw_next(&numbers) >> 61 ? i / 7 : pw_next(&numbers) >> 40);
    if (format == DMC_CUDA_ZSTD)
        item->stored_bytes = ZSTD_compress(buffer, sizeof buffer, item->expected, bytes, 3);
    else if (format == DMC_CUDA_LZ4)
        item->stored_bytes = (size_t)LZ4_compress_default((char *)item->expected, (char *)buffer, (int)bytes, sizeof buffer);
    else if (format == DMC_CUDA_GZIP)
        item->stored_bytes = libdeflate_gzip_compress(compressor, item->expected, bytes, buffer, sizeof buffer);
    else
        item->stored_bytes = libdeflate_zlib_compress(compressor, item->expected, bytes, buffer, sizeof buffer);
    libdeflate_free_compressor(compressor);
    assert_true(item->stored_bytes > 0);
    item->foreign = format == DMC_CUDA_ZSTD || format == DMC_CUDA_LZ4;
    item_store(item);
    return item;
}

static void items_free(void)
{
    for (uint32_t i = 0; i < item_count; i++) {
        free(items[i].base);
        free(items[i].expected);
        free(items[i].target);
    }
    item_count = 0;
}

static bool library_works;
static int decode_foreign(void *context, const struct dmc_cuda_foreign *streams, void *stream)
{
    (void)context, (void)stream;
    library_works = dmc_cuda_nvcomp_decode(&fake_nvcomp, streams, NULL);
    return 0;
}

/* All items in one wave. */
static void decode(uint64_t extra_scratch, bool library)
{
    struct dmc_cuda_wave *wave;
    struct dmc_cuda_launcher launcher = dmc_twin_launcher(2, 227 * 1024);
    launcher.foreign = library ? decode_foreign : NULL;
    assert_int_equal(dmc_cuda_wave_create(ITEMS, &wave, NULL), DAMACY_OK);
    uint64_t scratch_bytes = extra_scratch;
    for (uint32_t i = 0; i < item_count; i++)
        scratch_bytes += items[i].stored_bytes + 16 + (items[i].foreign ? 2 * items[i].bytes + 4096 : 0);
    uint64_t table_bytes = 1 << 20;
    void *table = aligned_alloc(256, table_bytes);
    memset(table, 0xC3, table_bytes);
    dmc_cuda_wave_begin(wave, table, table_bytes, scratch_bytes);
    for (uint32_t i = 0; i < item_count; i++) {
        struct item *item = &items[i];
        free(item->target);
        item->target = aligned_alloc(16, (item->bytes + 15) / 16 * 16);
        memset(item->target, 0xCD, (item->bytes + 15) / 16 * 16);
        struct dmc_cuda_chunk chunk = {
            .format = item->format,
            .stored = item->stored,
            .stored_bytes = item->stored_bytes,
            .stored_device = (uintptr_t)item->stored,
            .target_device = (uintptr_t)item->target,
            .chunk_bytes = item->bytes,
            .need_begin = item->bytes / 2,
            .need_end = item->bytes,
            .foreign = item->foreign,
        };
        item->verdict = dmc_cuda_wave_add(wave, &chunk, &item->index);
    }
    struct dmc_cuda_wave_info info;
    dmc_cuda_wave_close(wave, &info);
    uint8_t *table_device = aligned_alloc(256, (info.table_bytes + 255) / 256 * 256 + 256);
    uint8_t *scratch = aligned_alloc(256, (scratch_bytes + 255) / 256 * 256 + 256);
    memcpy(table_device, table, info.table_bytes);
    memset(scratch, 0x5A, scratch_bytes);
    assert_int_equal(dmc_cuda_wave_enqueue(wave, &launcher, (uintptr_t)table_device, (uintptr_t)scratch, &launcher, table), 0);
    for (uint32_t i = 0; i < item_count; i++)
        if (items[i].verdict == DMC_CUDA_OK)
            memcpy(&items[i].status, table_device + 4 * items[i].index, 4);
    free(table_device);
    free(scratch);
    free(table);
    dmc_cuda_wave_destroy(wave);
}

static void expect_all(uint32_t status)
{
    for (uint32_t i = 0; i < item_count; i++) {
        assert_int_equal(items[i].verdict, DMC_CUDA_OK);
        assert_int_equal(items[i].status, status);
        if (status == DMC_CUDA_STATUS_OK) /* our own decoder leaves out what is not needed */
            assert_memory_equal(items[i].target + items[i].bytes / 2, items[i].expected + items[i].bytes / 2,
                                items[i].bytes - items[i].bytes / 2);
    }
}

static void make_many(void)
{
    static const size_t sizes[] = {1, 2, 3, 15, 16, 17, 255, 4095, 4096, 4097, 65536, 131072, 200003};
    items_free();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        item_make(DMC_CUDA_GZIP, sizes[i]);
        item_make(DMC_CUDA_ZLIB, sizes[i]);
    }
}

static void test_right(void **state)
{
    (void)state;
    make_many();
    decode(0, true);
    expect_all(DMC_CUDA_STATUS_OK);
}

/* Temporary memory: all at once, in parts, and none. */
static void test_memory(void **state)
{
    (void)state;
    make_many();
    fake_nvcomp_state.temp_bytes_each = 1000;
    fake_nvcomp_state.temp_bytes_least = 500;
    fake_nvcomp_state.streams = fake_nvcomp_state.calls = 0;
    decode(5000 + 512, true);
    expect_all(DMC_CUDA_STATUS_OK);
    assert_true(library_works && fake_nvcomp_state.calls > 6 && fake_nvcomp_state.streams == item_count);
    decode(500, true); /* less than for one, the 16 bytes for each stream included */
    expect_all(DMC_CUDA_STATUS_FOREIGN);
    assert_false(library_works);
    fake_nvcomp_state.temp_bytes_each = fake_nvcomp_state.temp_bytes_least = 0;
    decode(0, false); /* no library at the launcher */
    expect_all(DMC_CUDA_STATUS_FOREIGN);
}

static void test_calls_fail(void **state)
{
    (void)state;
    make_many();
    for (uint64_t n = 1; n <= 2; n++) {
        fake_nvcomp_state.calls = 0;
        fake_nvcomp_state.fail_at = n;
        decode(0, true);
        expect_all(DMC_CUDA_STATUS_FOREIGN);
        assert_false(library_works);
    }
    fake_nvcomp_state.fail_at = 0;
}

/* What the trailer says is checked, whatever the library says. */
static void test_damage(void **state)
{
    (void)state;
    items_free();
    for (uint32_t i = 0; i < 8; i++) {
        struct item *item = item_make(i % 2 ? DMC_CUDA_ZLIB : DMC_CUDA_GZIP, 5000 + 1111 * i);
        uint8_t *end = item->stored + item->stored_bytes;
        if (i < 4) { /* the checksum */
            end[(i % 2 ? -4 : -8) + (int)(i / 2)] ^= 0x10;
            item->wanted = DMC_CUDA_STATUS_CHECKSUM;
        } else if (i % 2) { /* another size: zlib does not say which */
            item->bytes += i == 5 ? 1 : 0;
            item->wanted = DMC_CUDA_STATUS_LENGTH;
            if (i == 7) {
                item->bytes -= 3;
                item->wanted = DMC_CUDA_STATUS_FOREIGN; /* no room */
            }
        } else { /* a block of a type that is none */
            item->stored[10] |= 7;
            item->wanted = DMC_CUDA_STATUS_FOREIGN;
        }
    }
    decode(0, true);
    for (uint32_t i = 0; i < item_count; i++) {
        assert_int_equal(items[i].verdict, DMC_CUDA_OK);
        assert_int_equal(items[i].status, items[i].wanted);
    }
}

/* Headers: optional parts are skipped; several members, padding, dictionaries and nonsense are for the CPU. */
static void test_headers(void **state)
{
    (void)state;
    static const uint8_t extra[] = {0x1F, 0x8B, 8, 4 | 8 | 16, 0, 0, 0, 0, 0, 3, 3, 0, 'a', 'b', 'c', 'n', 0, 'c', 'c', 0};
    items_free();
    struct item *item = item_make(DMC_CUDA_GZIP, 3000);
    memmove(item->stored + sizeof extra, item->stored + 10, item->stored_bytes - 10);
    memcpy(item->stored, extra, sizeof extra);
    item->stored_bytes += sizeof extra - 10;
    decode(0, true);
    expect_all(DMC_CUDA_STATUS_OK);
    size_t whole = item->stored_bytes;
    for (item->stored_bytes = 0; item->stored_bytes < whole; item->stored_bytes++) { /* cut off anywhere */
        decode(0, true);
        assert_true(item->verdict != DMC_CUDA_OK || item->status != 0);
        item->stored_bytes += item->stored_bytes > 40 ? 97 : 0;
    }
    for (uint32_t i = 0; i < 5; i++) {
        static const uint8_t at[] = {0, 1, 2, 3, 3}, value[] = {0, 0, 7, 2, 0x80};
        items_free();
        item = item_make(DMC_CUDA_GZIP, 100);
        item->stored[at[i]] = value[i];
        decode(0, true);
        assert_int_equal(item->verdict, DMC_CUDA_UNSUPPORTED);
    }
    items_free();
    item = item_make(DMC_CUDA_GZIP, 100);
    memcpy(item->stored + item->stored_bytes, item->stored, item->stored_bytes); /* two members */
    item->stored_bytes *= 2;
    item->bytes *= 2;
    decode(0, true);
    assert_int_equal(item->verdict, DMC_CUDA_UNSUPPORTED);
    items_free();
    item = item_make(DMC_CUDA_ZLIB, 100);
    item->stored[1] = (uint8_t)((item->stored[1] & 0xC0) | 0x20);
    item->stored[1] = (uint8_t)(item->stored[1] + 31 - (item->stored[0] * 256u + item->stored[1]) % 31);
    decode(0, true);
    assert_int_equal(item->verdict, DMC_CUDA_UNSUPPORTED);
    item->stored[1] ^= 1;
    decode(0, true);
    assert_int_equal(item->verdict, DMC_CUDA_DAMAGED);
}

/* --- zstd, blosc and lz4 --- */

/* Several frames one behind the other, each with a checksum, of known size or not. */
static struct item *item_frames(uint32_t frames, bool sized)
{
    struct item *item = item_make(DMC_CUDA_ZSTD, 30000 * frames);
    ZSTD_CCtx *context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, sized);
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, sized);
    item->stored_bytes = 0;
    for (uint32_t i = 0; i < frames; i++)
        item->stored_bytes += ZSTD_compress2(context, buffer + item->stored_bytes, sizeof buffer - item->stored_bytes,
                                             item->expected + 30000 * i, 30000);
    ZSTD_freeCCtx(context);
    free(item->base);
    item_store(item);
    return item;
}

static struct item *item_blosc(const char *inner, int shuffle, size_t typesize, size_t block_bytes, size_t bytes)
{
    struct item *item = item_make(DMC_CUDA_ZSTD, bytes);
    item->format = DMC_CUDA_BLOSC;
    for (size_t i = 0; i < bytes; i++)
        item->expected[i] = (uint8_t)(i % typesize ? i / 4096 : pw_next(&numbers) >> 60);
    item->stored_bytes =
        (size_t)blosc_compress_ctx(5, shuffle, typesize, bytes, item->expected, buffer, sizeof buffer, inner, block_bytes, 1);
    free(item->base);
    item_store(item);
    return item;
}

/* Frames, blocks and blosc's streams go to the library, one by one; what it cannot take is our own decoder's. */
static void test_zstd_and_lz4(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 17, 255, 4096, 4097, 65536, 131072, 200003};
    items_free();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        item_make(DMC_CUDA_ZSTD, sizes[i]);
        item_make(DMC_CUDA_LZ4, sizes[i]);
    }
    item_make(DMC_CUDA_GZIP, 5000);
    item_frames(3, true);
    for (uint32_t round = 0; round < 2; round++) { /* in one launch, and in several */
        memset(fake_nvcomp_state.by, 0, sizeof fake_nvcomp_state.by);
        fake_nvcomp_state.calls = 0;
        fake_nvcomp_state.temp_times = round ? 12 : 3;
        decode(round ? 1u << 20 : 3u << 20, true);
        expect_all(DMC_CUDA_STATUS_OK);
        assert_true(library_works);
        assert_int_equal(fake_nvcomp_state.by[DMC_CUDA_FOREIGN_DEFLATE], 1);
        assert_in_range(fake_nvcomp_state.by[DMC_CUDA_FOREIGN_ZSTD], 10, 11); /* of three frames two are needed */
        assert_int_equal(fake_nvcomp_state.by[DMC_CUDA_FOREIGN_LZ4], 9);
        assert_true(round ? fake_nvcomp_state.calls > 7 : fake_nvcomp_state.calls == 6);
    }
    /* Where one frame ends and the next begins only a decoder finds out. */
    items_free();
    item_frames(3, false);
    memset(fake_nvcomp_state.by, 0, sizeof fake_nvcomp_state.by);
    decode(0, true);
    expect_all(DMC_CUDA_STATUS_OK);
    assert_int_equal(fake_nvcomp_state.by[DMC_CUDA_FOREIGN_ZSTD], 0);
    items_free();
    item_frames(1, false);
    fake_nvcomp_state.temp_times = 3;
    decode(200000, true);
    expect_all(DMC_CUDA_STATUS_OK);
    assert_int_equal(fake_nvcomp_state.by[DMC_CUDA_FOREIGN_ZSTD], 1);
    fake_nvcomp_state.temp_times = 0;
}

static void test_blosc(void **state)
{
    (void)state;
    for (uint32_t inner = 0; inner < 2; inner++) {
        items_free();
        memset(fake_nvcomp_state.by, 0, sizeof fake_nvcomp_state.by);
        for (int shuffle = 0; shuffle <= 2; shuffle++)
            for (size_t typesize = 1; typesize <= 4; typesize++) { /* through scratch memory where shuffled */
                item_blosc(inner ? "zstd" : "lz4", shuffle, typesize, 0, 120000);
                item_blosc(inner ? "zstd" : "lz4", shuffle, typesize, 5000, 33333);
            }
        decode(0, true);
        expect_all(DMC_CUDA_STATUS_OK);
        assert_true(fake_nvcomp_state.by[inner ? DMC_CUDA_FOREIGN_ZSTD : DMC_CUDA_FOREIGN_LZ4] >= 24);
        assert_int_equal(fake_nvcomp_state.by[inner ? DMC_CUDA_FOREIGN_LZ4 : DMC_CUDA_FOREIGN_ZSTD], 0);
    }
}

/* Random damage: a verdict, a status, or the right bytes. The checksum of a frame is looked at here, not by the library. */
static void test_foreign_damage(void **state)
{
    (void)state;
    uint32_t refused = 0;
    for (uint32_t round = 0; round < 20; round++) {
        items_free();
        for (uint32_t i = 0; i < 20; i++) {
            struct item *item = i % 3 == 0   ? item_make(DMC_CUDA_ZSTD, pw_between(&numbers, 1, 20000))
                                : i % 3 == 1 ? item_make(DMC_CUDA_LZ4, pw_between(&numbers, 1, 20000))
                                             : item_blosc("zstd", 1, 2, 0, 20000);
            uint64_t least = i % 2 || item->stored_bytes < 40 ? 0 : item->stored_bytes - 30;
            item->stored[pw_between(&numbers, least, item->stored_bytes - 1)] ^= (uint8_t)(1u << pw_between(&numbers, 0, 7));
        }
        struct item *item = item_frames(2, true);
        item->stored[item->stored_bytes - 1] ^= 0x20;
        decode(0, true);
        assert_int_equal(item->verdict, DMC_CUDA_OK);
        assert_int_equal(item->status, DMC_CUDA_STATUS_FOREIGN); /* libzstd looks at it, too */
        for (uint32_t i = 0; i + 1 < item_count; i++) {
            refused += items[i].verdict || items[i].status;
            if (items[i].verdict || items[i].status || items[i].format == DMC_CUDA_LZ4)
                continue; /* in lz4 a literal may be anything */
            static uint8_t reference[20000];
            if (items[i].format == DMC_CUDA_BLOSC)
                assert_int_equal(blosc_decompress_ctx(items[i].stored, reference, items[i].bytes, 1), items[i].bytes);
            else
                assert_int_equal(ZSTD_decompress(reference, items[i].bytes, items[i].stored, items[i].stored_bytes),
                                 items[i].bytes);
            assert_memory_equal(items[i].target + items[i].bytes / 2, reference + items[i].bytes / 2,
                                items[i].bytes - items[i].bytes / 2);
        }
    }
    assert_true(refused > 50);
}

/* Waves are as the library wants them: six slots of 2,048 usual chunks with its scratch memory, at least four while memory
 * lasts for such of a fair size. */
static void test_wave_sizes(void **state)
{
    (void)state;
    struct dmc_wave_limits own, limits, small;
    uint32_t count;
    assert_true(dmc_cuda_choose_waves(UINT64_MAX, UINT64_MAX, NULL, &count, &own));
    assert_true(count == 4 && own.decoded_bytes == 4096ull * 131072);
    fake_nvcomp_state.temp_times = 3;
    fake_nvcomp_state.temp_bytes_each = 3000;
    assert_true(dmc_cuda_choose_waves(UINT64_MAX, UINT64_MAX, &fake_nvcomp, &count, &limits));
    assert_true(count == 6 && limits.decoded_bytes == 2048ull * 131072);
    assert_in_range(limits.scratch_bytes, 3 * limits.decoded_bytes + 2048 * 3000, 4 * limits.decoded_bytes);
    assert_true(dmc_cuda_choose_waves(4 * dmc_wave_device_bytes(&limits), UINT64_MAX, &fake_nvcomp, &count, &small));
    assert_true(count == 4 && small.decoded_bytes == limits.decoded_bytes);
    assert_true(dmc_cuda_choose_waves(1ull << 30, UINT64_MAX, &fake_nvcomp, &count, &small));
    assert_true(count >= 4 && small.scratch_bytes >= 3 * small.decoded_bytes);
    assert_true(count * dmc_wave_device_bytes(&small) <= 1ull << 30);
    fake_nvcomp_state.calls = 0;
    fake_nvcomp_state.fail_at = 1;
    assert_false(dmc_cuda_choose_waves(UINT64_MAX, UINT64_MAX, &fake_nvcomp, &count, &limits));
    fake_nvcomp_state.fail_at = 0;
    fake_nvcomp_state.temp_times = fake_nvcomp_state.temp_bytes_each = 0;
}

/* --- whole pipelines --- */

static const int64_t shape[] = {30, 30};
static struct zw_array array = {
    .name = "g", .number = 9, .dtype = DAMACY_U16, .rank = 2, .shape = {64, 64}, .chunk = {16, 16}, .compressor = ZW_GZIP};

static enum damacy_status create(struct dmc_store *memory, enum damacy_decode decode, const void *nvcomp,
                                 struct damacy_field *field, struct damacy **pipeline, struct damacy_error *error)
{
    struct damacy_config config = pw_config(field, 2, 2, shape, DAMACY_U16);
    struct dmc_pipeline_extras extras = {.memory_store = memory};
    struct damacy_config placed = pw_placed(&config, &extras);
    placed.decode = decode;
    extras.cuda_nvcomp = nvcomp;
    return dmc_pipeline_create(&placed, &extras, pipeline, error);
}

static struct damacy *start(struct dmc_store *memory, enum damacy_decode decode, const void *nvcomp, struct damacy_field *field)
{
    struct damacy *pipeline = NULL;
    struct damacy_error error;
    pw_ok(create(memory, decode, nvcomp, field, &pipeline, &error), &error);
    return pipeline;
}

static void read_all_of(struct damacy *pipeline, const struct zw_array *of, struct damacy_stats *stats)
{
    for (uint32_t b = 0; b < 16; b++) {
        struct pw_sample samples[2];
        for (uint32_t i = 0; i < 2; i++) {
            samples[i] = (struct pw_sample){.arrays = {of}, .begin = {{b * 5 % 34, (b + i) * 7 % 34}}, .tag = b};
            pw_push(pipeline, "memory://", &samples[i]);
        }
        struct damacy_batch *batch = pw_pop(pipeline);
        assert_true(pw_batch_matches(batch, samples, 2));
        damacy_release(batch);
    }
    struct damacy_error error;
    *stats = (struct damacy_stats)DAMACY_STATS_INIT;
    pw_ok(damacy_stats_get(pipeline, stats, &error), &error);
    damacy_destroy(pipeline);
    assert_true(fake_is_clean());
}

static void read_all(struct damacy *pipeline, struct damacy_stats *stats)
{
    read_all_of(pipeline, &array, stats);
}

static void test_pipelines(void **state)
{
    (void)state;
    struct dmc_store *memory = pw_memory();
    struct damacy_field field;
    struct damacy_stats stats;
    zw_write(&array, &(struct zw_sink){.memory = memory});
    read_all(start(memory, DAMACY_DECODE_GPU, &fake_nvcomp, &field), &stats);
    assert_true(stats.gpu_decode.count > 0);
    assert_int_equal(stats.decode.count, 0);
    read_all(start(memory, DAMACY_DECODE_AUTO, NULL, &field), &stats); /* no library */
    assert_int_equal(stats.gpu_decode.count, 0);
    assert_true(stats.decode.count > 0);
    read_all(start(memory, DAMACY_DECODE_AUTO, &fake_nvcomp, &field), &stats); /* one read in 64 explores the cores */
    assert_true(stats.gpu_decode.count > 0 && stats.decode.count > 0);
    fake_nvcomp_state.calls = 0;
    fake_nvcomp_state.fail_at = 3; /* one that breaks on the way */
    read_all(start(memory, DAMACY_DECODE_AUTO, &fake_nvcomp, &field), &stats);
    fake_nvcomp_state.fail_at = 0;
    assert_true(stats.decode.count > 0);

    struct damacy *pipeline = start(memory, DAMACY_DECODE_GPU, NULL, &field);
    for (uint32_t i = 0; i < 2; i++)
        pw_push(pipeline, "memory://", &(struct pw_sample){.arrays = {&array}});
    struct damacy_batch *batch;
    struct damacy_error error;
    assert_int_equal(damacy_pop(pipeline, PW_LONG, &batch, &error), DAMACY_UNSUPPORTED);
    assert_non_null(strstr(error.message, "nvcomp"));
    assert_non_null(strstr(error.message, "pip install damacy[cuda13]"));
    damacy_destroy(pipeline);
    assert_true(fake_is_clean());
    dmc_store_destroy(memory);
}

/* DAMACY_GPU_DECODER: the same bits from both, by whom it says; what it cannot be is told at create. */
static void test_choice(void **state)
{
    (void)state;
    struct zw_array arrays[] = {{.compressor = ZW_ZSTD},
                                {.compressor = ZW_ZSTD_CHECKSUM, .crc32c = true},
                                {.compressor = ZW_BLOSC, .blosc_name = "zstd", .blosc_shuffle = 1},
                                {.compressor = ZW_BLOSC, .blosc_name = "lz4", .blosc_shuffle = 2}};
    struct dmc_store *memory = pw_memory();
    struct damacy_field field;
    struct damacy_stats stats;
    struct damacy_error error;
    struct damacy *pipeline = NULL;
    char name[] = "z0";
    fake_nvcomp_state.temp_times = 3;
    for (uint32_t i = 0; i < 4; i++) {
        struct zw_array of = array;
        name[1] = (char)('0' + i);
        memcpy(of.name, name, sizeof name);
        of.chunk[0] = of.chunk[1] = 32; /* so large that blosc has something to gain */
        of.compressor = arrays[i].compressor;
        of.crc32c = arrays[i].crc32c;
        of.blosc_name = arrays[i].blosc_name;
        of.blosc_shuffle = arrays[i].blosc_shuffle;
        zw_write(&of, &(struct zw_sink){.memory = memory});
        for (uint32_t nvcomp = 0; nvcomp < 3; nvcomp++) { /* unset, own, nvcomp */
            memset(fake_nvcomp_state.by, 0, sizeof fake_nvcomp_state.by);
            if (nvcomp)
                setenv(DMC_GPU_DECODER_VARIABLE, nvcomp == 2 ? "nvcomp" : "own", 1);
            pipeline = start(memory, DAMACY_DECODE_GPU, &fake_nvcomp, &field);
            unsetenv(DMC_GPU_DECODER_VARIABLE);
            read_all_of(pipeline, &of, &stats);
            assert_true(stats.gpu_decode.count > 0 && stats.decode.count == 0);
            assert_int_equal(stats.gpu_retry.count, 0);
            assert_int_equal(fake_nvcomp_state.by[DMC_CUDA_FOREIGN_ZSTD] > 0, nvcomp == 2 && i < 3);
            assert_int_equal(fake_nvcomp_state.by[DMC_CUDA_FOREIGN_LZ4] > 0, nvcomp == 2 && i == 3);
        }
        /* One that breaks on the way: its chunks go to the CPU, those that follow to our own decoder. */
        setenv(DMC_GPU_DECODER_VARIABLE, "nvcomp", 1);
        pipeline = start(memory, DAMACY_DECODE_GPU, &fake_nvcomp, &field); /* whatever the cores could do */
        unsetenv(DMC_GPU_DECODER_VARIABLE);
        fake_nvcomp_state.calls = 0;
        fake_nvcomp_state.fail_at = 2;
        read_all_of(pipeline, &of, &stats);
        assert_true(stats.gpu_decode.count > 0 && stats.gpu_retry.count > 0);
        fake_nvcomp_state.fail_at = 0;
    }
    setenv(DMC_GPU_DECODER_VARIABLE, "nvcomp", 1);
    assert_int_equal(create(memory, DAMACY_DECODE_AUTO, NULL, &field, &pipeline, &error), DAMACY_UNSUPPORTED);
    assert_non_null(strstr(error.message, DMC_GPU_DECODER_VARIABLE " asks for nvcomp, which is missing"));
    assert_non_null(strstr(error.message, "pip install damacy[cuda13]"));
    fake_nvcomp_state.calls = 0;
    fake_nvcomp_state.fail_at = 1;
    assert_int_equal(create(memory, DAMACY_DECODE_AUTO, &fake_nvcomp, &field, &pipeline, &error), DAMACY_UNSUPPORTED);
    assert_non_null(strstr(error.message, "how much memory"));
    fake_nvcomp_state.fail_at = 0;
    setenv(DMC_GPU_DECODER_VARIABLE, "cuda", 1);
    assert_int_equal(create(memory, DAMACY_DECODE_AUTO, &fake_nvcomp, &field, &pipeline, &error), DAMACY_INVAL);
    assert_non_null(strstr(error.message, "is \"cuda\", expected own or nvcomp"));
    unsetenv(DMC_GPU_DECODER_VARIABLE);
    assert_true(fake_is_clean());
    fake_nvcomp_state.temp_times = 0;
    dmc_store_destroy(memory);
}

static void test_search(void **state)
{
    (void)state;
    struct dmc_cuda_nvcomp table;
    char text[512], path[64];
    const char *reason = NULL;
    assert_false(dmc_cuda_nvcomp_load_file("/nowhere/libnvcomp.so.6", &table, text, sizeof text));
    assert_non_null(strstr(text, "/nowhere/libnvcomp.so.6"));
    assert_false(dmc_cuda_nvcomp_load_file("libc.so.6", &table, text, sizeof text)); /* a library, but another */
    assert_non_null(strstr(text, "libc.so.6 has no nvcomp"));
    snprintf(path, sizeof path, "/nowhere/%d.so", (int)getpid());
    setenv(DMC_NVCOMP_VARIABLE, path, 1);
    assert_null(dmc_cuda_nvcomp_load(&reason));
    assert_non_null(strstr(reason, path));
    unsetenv(DMC_NVCOMP_VARIABLE);
    assert_null(dmc_cuda_nvcomp_load(NULL)); /* remembered */
}

static int leftovers_free(void **state)
{
    (void)state;
    items_free();
    return 0;
}

int main(void)
{
    numbers.state = pw_seed("test_nvcomp");
    dmc_twin_seed(numbers.state);
#define TEST(name) cmocka_unit_test_teardown(name, leftovers_free)
    const struct CMUnitTest tests[] = {
        TEST(test_right),      TEST(test_memory),       TEST(test_calls_fail), TEST(test_damage),
        TEST(test_headers),    TEST(test_zstd_and_lz4), TEST(test_blosc),      TEST(test_foreign_damage),
        TEST(test_wave_sizes), TEST(test_pipelines),    TEST(test_choice),     TEST(test_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
