/* What the tests of the GPU decoders share: contents of many kinds, chunks in buffers of exactly the promised size, one wave of
 * them on the kernels' twin (unit/cuda_decode/twin), thread by thread in random order, and the comparison. What is left in
 * planes is put together by the code of the assemble kernel. */
#ifndef DECODE_WORLD_H
#define DECODE_WORLD_H

#include "backend/cuda/assemble_tile.h"
#include "backend/cuda/cuda_decoder.h"
#include "backend/cuda/decode/decode_tuning.h"
#include "cuda_twin_launch.h"
#include "support/test_seed.h"
#include <blosc.h>
#include <lz4.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

#define PAD DMC_CUDA_STORED_PAD_BYTES
#define H100_SHARED (227u << 10)

static uint64_t random_state;
static inline uint32_t rnd(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32);
}
static inline uint32_t below(uint32_t n)
{
    return (uint32_t)((uint64_t)rnd() * n >> 32);
}
static inline double normal(void)
{
    double sum = 0;
    for (int i = 0; i < 6; i++)
        sum += rnd() / 4294967296.0;
    return (sum - 3) * 1.41;
}

/* ---- contents ---- */

enum content {
    IMAGE,
    SHUFFLED,
    HALF_NOISE,
    TEXT,
    CONSTANT,
    NOISE,
    COPIES,
    RAMP,
    FLOATS,
    LABELS,
    RUNS,
    FAR,
    LITTLE_NOISE,
    CONTENTS
};

static inline void fill(uint8_t *v, size_t size, enum content content)
{
    static const char text[] =
        "the quick brown fox jumps over the lazy dog, again and again; {\"zarr_format\": 3, \"shape\": [64]} ";
    uint16_t *s = malloc(size + 8);
    size_t n = size / 2;
    switch (content) {
    case IMAGE:
    case SHUFFLED:
        for (size_t i = 0; i < n + 1; i++)
            s[i] = (uint16_t)(100 + 40 * (1 + sin((double)i * 1e-3)) + (i / 64 % 16 < 3 ? 60 : 0) + 6 * normal());
        memcpy(v, s, size);
        for (size_t i = 0; content == SHUFFLED && i < n; i++)
            v[i] = (uint8_t)s[i], v[n + i] = (uint8_t)(s[i] >> 8);
        break;
    case HALF_NOISE:
        for (size_t i = 0; i < size; i++)
            v[i] = rnd() & 1 ? 0 : (uint8_t)rnd();
        break;
    case TEXT:
        for (size_t i = 0; i < size; i++)
            v[i] = (uint8_t)text[(i + (below(50) == 0)) % (sizeof text - 1)];
        break;
    case CONSTANT:
        memset(v, (int)below(256), size);
        break;
    case NOISE:
        for (size_t i = 0; i < size; i++)
            v[i] = (uint8_t)rnd();
        break;
    case COPIES:
        for (size_t i = 0; i < size; i++)
            v[i] = i > 1000 && below(20) ? v[i - 1 - (below(3) ? 7 : below(900))] : (uint8_t)below(30);
        break;
    case RAMP:
        for (size_t i = 0; i < n + 1; i++)
            s[i] = (uint16_t)(1000 + i % 512 + (rnd() & 3));
        memcpy(v, s, size);
        break;
    case FLOATS:
        for (size_t i = 0; i < size; i += 4) {
            float f = (float)(sin((double)i * 1e-4) * 3 + 0.01 * normal());
            memcpy(v + i, &f, size - i < 4 ? size - i : 4);
        }
        break;
    case LABELS:
        for (size_t i = 0; i < size; i++)
            v[i] = i % 4 ? 0 : (uint8_t)(i / 4 % 256 / 40 + i / 16384);
        break;
    case RUNS:
        for (size_t i = 0; i < size;) {
            size_t length = 1 + below(below(8) ? 20 : 3000);
            uint8_t value = (uint8_t)below(5);
            for (; length > 0 && i < size; length--)
                v[i++] = value;
        }
        break;
    case FAR: /* long matches from far back, across blocks */
        for (size_t i = 0; i < size; i++)
            v[i] = i < 5000 || below(3000) == 0 ? (uint8_t)rnd() : v[i - 4999];
        break;
    case LITTLE_NOISE:
        for (size_t i = 0; i < size; i++)
            v[i] = (uint8_t)(below(7) ? 3 : below(12));
        break;
    case CONTENTS:
        break;
    }
    free(s);
}

/* ---- one wave on the twin ---- */

struct item {
    enum dmc_cuda_format format;
    uint8_t *stored; /* with PAD around, at an odd address */
    void *stored_base;
    size_t stored_bytes;
    uint8_t *expected; /* NULL: damaged on purpose */
    uint8_t *target;
    size_t bytes;
    size_t need_begin, need_end;
    struct dmc_cuda_planes planes; /* of elements of 0 bytes: none wanted */
    enum dmc_cuda_verdict verdict;
    uint32_t status;
};

#define ITEMS_MAX 64
static struct item items[ITEMS_MAX];
static uint32_t item_count;

static inline struct item *item_add(enum dmc_cuda_format format, const void *stored, size_t stored_bytes,
                                    const uint8_t *expected, size_t bytes)
{
    assert_true(item_count < ITEMS_MAX);
    struct item *item = &items[item_count++];
    uint32_t skew = below(16);
    uint8_t *base = malloc(stored_bytes + 2 * PAD + 16);
    memset(base, 0xEE, stored_bytes + 2 * PAD + 16);
    *item = (struct item){.format = format,
                          .stored_base = base,
                          .stored = base + PAD + skew,
                          .stored_bytes = stored_bytes,
                          .bytes = bytes,
                          .need_end = bytes};
    memcpy(item->stored, stored, stored_bytes);
    if (expected) {
        item->expected = malloc(bytes + 1);
        memcpy(item->expected, expected, bytes);
    }
    return item;
}

static uint32_t sm_count = 132, shared_block = H100_SHARED;

/* Bring what is needed of a chunk in planes into its order. */
static inline void item_from_planes(struct item *item)
{
    const uint32_t size = item->planes.element_bytes;
    const struct dmc_tile_piece piece = {
        .source = (uintptr_t)item->target,
        .block_bytes = item->planes.block_bytes,
        .chunk_bytes = (uint32_t)item->bytes,
        .flags = (uint8_t)(DMC_PIECE_PLANES | (item->planes.bits ? DMC_PIECE_BIT_PLANES : 0)),
    };
    uint8_t *ordered = malloc(item->bytes + 1);
    memset(ordered, 0, item->bytes + 1);
    for (size_t at = item->need_begin / size * size; at < item->need_end; at += size) {
        uint64_t bits = dmc_tile_load_planes(&piece, (uint32_t)at, size, false);
        memcpy(ordered + at, &bits, size);
    }
    memcpy(item->target, ordered, item->bytes);
    free(ordered);
}

static uint32_t left_in_planes; /* chunks, of bytes and bits */

/* Decode all items; a small scratch makes several waves of it. */
static inline void decode_all(uint64_t scratch_bytes)
{
    struct dmc_cuda_wave *wave;
    assert_int_equal(dmc_cuda_wave_create(ITEMS_MAX, &wave, NULL), DAMACY_OK);
    struct dmc_cuda_launcher launcher = dmc_twin_launcher(sm_count, shared_block);
    uint64_t table_bytes = 4 << 20;
    void *table = aligned_alloc(256, table_bytes);
    for (uint32_t next = 0; next < item_count;) {
        dmc_cuda_wave_begin(wave, table, table_bytes, scratch_bytes);
        uint32_t index[ITEMS_MAX], first = next;
        for (; next < item_count; next++) {
            struct item *item = &items[next];
            /* Up to the next multiple of 16 may be read. */
            item->target = aligned_alloc(16, (item->bytes + 15) / 16 * 16);
            memset(item->target, 0xCD, item->bytes + (16 - item->bytes % 16) % 16);
            struct dmc_cuda_chunk chunk = {
                .format = item->format,
                .stored = item->stored,
                .stored_bytes = item->stored_bytes,
                .stored_device = (uintptr_t)item->stored,
                .target_device = (uintptr_t)item->target,
                .chunk_bytes = item->bytes,
                .need_begin = item->need_begin,
                .need_end = item->need_end,
                .planes = item->planes.element_bytes ? &item->planes : NULL,
            };
            struct dmc_cuda_cost cost;
            item->verdict = dmc_cuda_inspect(&chunk, &cost);
            if (item->verdict) {
                free(item->target);
                item->target = NULL;
                continue;
            }
            enum dmc_cuda_verdict verdict = dmc_cuda_wave_add(wave, &chunk, &index[next]);
            if (verdict == DMC_CUDA_FULL) {
                free(item->target);
                item->target = NULL;
                assert_true(next > first || cost.scratch_bytes > scratch_bytes || cost.table_bytes + 1024 > table_bytes);
                if (next > first)
                    break;
                item->verdict = DMC_CUDA_FULL;
                continue;
            }
            assert_int_equal(verdict, DMC_CUDA_OK);
        }
        struct dmc_cuda_wave_info info;
        dmc_cuda_wave_close(wave, &info);
        /* Memory of exactly the size that is used, so that a sanitizer sees any access outside. */
        uint8_t *table_device = aligned_alloc(256, (info.table_bytes + 255) / 256 * 256 + 256);
        uint8_t *scratch = aligned_alloc(256, (info.scratch_bytes + 255) / 256 * 256 + 256);
        memcpy(table_device, table, info.table_bytes);
        memset(scratch, 0x5A, info.scratch_bytes);
        assert_int_equal(dmc_cuda_wave_enqueue(wave, &launcher, (uintptr_t)table_device, (uintptr_t)scratch, &launcher, table),
                         0);
        for (uint32_t i = first; i < next; i++) {
            if (items[i].verdict == DMC_CUDA_OK)
                memcpy(&items[i].status, table_device + 4 * index[i], 4);
            if (items[i].verdict == DMC_CUDA_OK && items[i].status == 0 && items[i].planes.block_bytes) {
                left_in_planes++;
                item_from_planes(&items[i]);
            }
        }
        free(table_device);
        free(scratch);
    }
    free(table);
    dmc_cuda_wave_destroy(wave);
}

static inline void items_free(void)
{
    for (uint32_t i = 0; i < item_count; i++) {
        free(items[i].stored_base);
        free(items[i].expected);
        free(items[i].target);
    }
    item_count = 0;
}

static inline void item_check(const struct item *item, const char *what, int a, int b)
{
    if (item->verdict || item->status) {
        print_error("%s %d %d: %zu bytes: %s, %s\n", what, a, b, item->bytes, dmc_cuda_verdict_name(item->verdict),
                    dmc_cuda_status_name(item->status));
        fail();
    }
    for (size_t i = item->need_begin; i < item->need_end; i++) {
        if (item->target[i] != item->expected[i]) {
            print_error("%s %d %d: byte %zu of %zu (need %zu to %zu) is %u, should be %u\n", what, a, b, i, item->bytes,
                        item->need_begin, item->need_end, item->target[i], item->expected[i]);
            fail();
        }
    }
    for (size_t i = item->bytes; i % 16; i++)
        assert_int_equal(item->target[i], 0xCD);
}

static inline void part_choose(struct item *item)
{
    item->need_begin = below((uint32_t)item->bytes);
    item->need_end = item->need_begin + 1 + below((uint32_t)(item->bytes - item->need_begin));
}

/* ---- zstd ---- */

struct frame_options {
    int level;
    bool checksum, no_size;
    int window_log;
    bool long_mode;
    size_t flush_every; /* blocks of that size */
};

static inline size_t zstd_write(uint8_t *out, size_t capacity, const uint8_t *in, size_t bytes,
                                const struct frame_options *options)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, options->level);
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, options->checksum);
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, !options->no_size);
    if (options->window_log)
        ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, options->window_log);
    ZSTD_CCtx_setParameter(context, ZSTD_c_enableLongDistanceMatching, options->long_mode);
    if (!options->no_size)
        ZSTD_CCtx_setPledgedSrcSize(context, bytes);
    ZSTD_outBuffer output = {out, capacity, 0};
    size_t step = options->flush_every ? options->flush_every : bytes;
    for (size_t at = 0;;) {
        size_t n = bytes - at < step ? bytes - at : step;
        ZSTD_inBuffer input = {in + at, n, 0};
        at += n;
        ZSTD_EndDirective directive = at == bytes ? ZSTD_e_end : ZSTD_e_flush;
        size_t left;
        do {
            left = ZSTD_compressStream2(context, &output, &input, directive);
            assert_false(ZSTD_isError(left));
        } while (left);
        if (directive == ZSTD_e_end)
            break;
    }
    ZSTD_freeCCtx(context);
    return output.pos;
}

static inline void zstd_add(const uint8_t *data, size_t bytes, const struct frame_options *options, bool part)
{
    size_t capacity = ZSTD_compressBound(bytes) * 2 + 4096;
    uint8_t *out = malloc(capacity);
    size_t stored = zstd_write(out, capacity, data, bytes, options);
    struct item *item = item_add(DMC_CUDA_ZSTD, out, stored, data, bytes);
    if (part)
        part_choose(item);
    free(out);
}

/* Frames of every content and many sizes and levels, executed by thread blocks or by warps. */
static inline void zstd_contents(bool wide)
{
    static const size_t sizes[] = {1, 2, 3, 7, 33, 100, 257, 1000, 4096, 10001, 40000, 65536, 131072, 131073, 200001, 300000};
    static const int levels[] = {-7, -1, 1, 3, 5, 9, 13, 19, 22};
    uint8_t *data = malloc(300000);
    for (int content = 0; content < CONTENTS; content++) {
        shared_block = wide ? H100_SHARED : 48 << 10;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            size_t bytes = sizes[i];
            if (bytes > 140000 && (content + (int)wide + (int)i) % 3)
                continue;
            fill(data, bytes, (enum content)content);
            struct frame_options options = {.level = levels[below(9)], .checksum = below(3) == 0, .no_size = below(3) == 0};
            if (bytes > 20000 && options.level > 13)
                options.level = 13 + (int)below(3);
            zstd_add(data, bytes, &options, below(4) == 0);
        }
        decode_all(1 << 20);
        for (uint32_t i = 0; i < item_count; i++)
            item_check(&items[i], "content, wide", content, (int)wide);
        items_free();
    }
    free(data);
    shared_block = H100_SHARED;
}

/* ---- blosc ---- */

static inline void blosc_add(const uint8_t *data, size_t bytes, const char *inner, int shuffle, size_t typesize, int level,
                             size_t block_bytes, int part)
{
    size_t capacity = bytes + BLOSC_MAX_OVERHEAD;
    uint8_t *out = malloc(capacity);
    int stored = blosc_compress_ctx(level, shuffle, typesize, bytes, data, out, capacity, inner, block_bytes, 1);
    assert_true(stored > 0);
    struct item *item = item_add(DMC_CUDA_BLOSC, out, (size_t)stored, data, bytes);
    if (part)
        part_choose(item);
    if (below(4)) /* sometimes not the size of what was shuffled */
        item->planes.element_bytes =
            below(3) && typesize <= 8 && (typesize & (typesize - 1)) == 0 ? (uint32_t)typesize : 1u << below(4);
    free(out);
}

static inline int leftovers_free(void **state)
{
    (void)state;
    items_free();
    return 0;
}

#define TEST(name) cmocka_unit_test_teardown(name, leftovers_free)

/* Before the tests of a program. */
static inline void decode_begin(void)
{
    random_state = seed_of_test("decode", 20240611);
    dmc_twin_seed(random_state);
}

#endif
