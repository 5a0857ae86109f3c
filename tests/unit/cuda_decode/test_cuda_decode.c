/* Goal: the GPU decoders give libzstd's, lz4's and blosc's bytes for whatever these can write, tell damage, and never touch
 * memory outside. Method: the kernels' twin on the CPU (twin/), thread by thread in random order, under sanitizers; buffers of
 * exactly the promised size; what is left in planes is put together by the code of the assemble kernel. Contents of many kinds,
 * sizes and levels; frames put together by hand; mutated and cut ones, which must end in a verdict, a status, or bytes that
 * libzstd gives, too. */
#include "backend/cuda/assemble_tile.h"
#include "backend/cuda/cuda_decoder.h"
#include "backend/cuda/decode/decode_tuning.h"
#include "cuda_twin_launch.h"
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
static uint32_t rnd(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32);
}
static uint32_t below(uint32_t n)
{
    return (uint32_t)((uint64_t)rnd() * n >> 32);
}
static double normal(void)
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

static void fill(uint8_t *v, size_t size, enum content content)
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

static struct item *item_add(enum dmc_cuda_format format, const void *stored, size_t stored_bytes, const uint8_t *expected,
                             size_t bytes)
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
static void item_from_planes(struct item *item)
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
static void decode_all(uint64_t scratch_bytes)
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

static void items_free(void)
{
    for (uint32_t i = 0; i < item_count; i++) {
        free(items[i].stored_base);
        free(items[i].expected);
        free(items[i].target);
    }
    item_count = 0;
}

static void item_check(const struct item *item, const char *what, int a, int b)
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

static void part_choose(struct item *item)
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

static size_t zstd_write(uint8_t *out, size_t capacity, const uint8_t *in, size_t bytes, const struct frame_options *options)
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

static void zstd_add(const uint8_t *data, size_t bytes, const struct frame_options *options, bool part)
{
    size_t capacity = ZSTD_compressBound(bytes) * 2 + 4096;
    uint8_t *out = malloc(capacity);
    size_t stored = zstd_write(out, capacity, data, bytes, options);
    struct item *item = item_add(DMC_CUDA_ZSTD, out, stored, data, bytes);
    if (part)
        part_choose(item);
    free(out);
}

static void test_zstd_contents(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 7, 33, 100, 257, 1000, 4096, 10001, 40000, 65536, 131072, 131073, 200001, 300000};
    static const int levels[] = {-7, -1, 1, 3, 5, 9, 13, 19, 22};
    uint8_t *data = malloc(300000);
    for (int content = 0; content < CONTENTS; content++) {
        for (int wide = 0; wide < 2; wide++) {
            shared_block = wide ? H100_SHARED : 48 << 10;
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                size_t bytes = sizes[i];
                if (bytes > 140000 && (content + wide + (int)i) % 3)
                    continue;
                fill(data, bytes, (enum content)content);
                struct frame_options options = {.level = levels[below(9)], .checksum = below(3) == 0, .no_size = below(3) == 0};
                if (bytes > 20000 && options.level > 13)
                    options.level = 13 + (int)below(3);
                zstd_add(data, bytes, &options, below(4) == 0);
            }
            decode_all(1 << 20);
            for (uint32_t i = 0; i < item_count; i++)
                item_check(&items[i], "content, wide", content, wide);
            items_free();
        }
    }
    free(data);
    shared_block = H100_SHARED;
}

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

/* ---- blosc and lz4 ---- */

static void blosc_add(const uint8_t *data, size_t bytes, const char *inner, int shuffle, size_t typesize, int level,
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

/* ---- waves ---- */

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

/* What decoding takes besides its result: every coded literal, and four bytes a sequence. Where nothing repeats that is all of
 * it; a sequence has a match of three bytes, so it is never more than four thirds. */
static void test_scratch(void **state)
{
    (void)state;
    static const struct {
        enum content content;
        double share;
    } most[] = {{IMAGE, 0.95}, {SHUFFLED, 0.55}, {FLOATS, 1.02}, {LABELS, 0.1}, {TEXT, 0.25}};
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

static int leftovers_free(void **state)
{
    (void)state;
    items_free();
    return 0;
}

int main(void)
{
    const char *seed = getenv("DAMACY_TEST_SEED");
    random_state = seed ? strtoull(seed, NULL, 0) : 20240611;
    printf("DAMACY_TEST_SEED=%llu\n", (unsigned long long)random_state);
    dmc_twin_seed(random_state);
#define TEST(name) cmocka_unit_test_teardown(name, leftovers_free)
    const struct CMUnitTest tests[] = {
        TEST(test_zstd_contents),
        TEST(test_zstd_blocks),
        TEST(test_zstd_frames),
        TEST(test_zstd_refused),
        TEST(test_zstd_prefix),
        TEST(test_zstd_damaged),
        TEST(test_blosc),
        TEST(test_lz4),
        TEST(test_lz4_damaged),
        TEST(test_blosc_damaged),
        TEST(test_scratch),
        TEST(test_waves),
        TEST(test_launch_errors_and_advice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
