/* Goal: the body of the assemble kernel gives the same bits as the CPU's loops, for every pair of types, in both byte orders,
 * for any strides, addresses and sizes, with any number of threads, and touches nothing else; fills, pieces of bad chunks and
 * shuffled chunks likewise. Method: the body runs on the CPU, thread by thread, over random pieces of random bytes; the scatter
 * functions say what is right. DAMACY_TEST_SEED repeats a run. */
#include "backend/cuda/assemble_tile.h"

#include "backend/kernels/scatter.h"
#include "base/dtype.h"
#include "support/test_seed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t random_state;
static uint64_t random_below(uint64_t limit) /* xorshift64* */
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (random_state * UINT64_C(2685821657736338717) >> 11) % limit;
}

enum { SOURCE_BYTES = 1 << 18, TARGET_BYTES = 1 << 18 };

struct record {
    struct dmc_tile_piece piece;
    struct dmc_tile_dim dims[4];
};

static uint8_t source[SOURCE_BYTES + 64] __attribute__((aligned(64)));
static uint8_t target[TARGET_BYTES] __attribute__((aligned(64)));
static uint8_t expected[TARGET_BYTES] __attribute__((aligned(64)));

/* A random piece; false: it came out too large. */
static bool make_record(struct record *record, enum damacy_dtype from, enum damacy_dtype to, bool wide)
{
    int64_t in = (int64_t)damacy_dtype_bytes(from), out = (int64_t)damacy_dtype_bytes(to);
    *record = (struct record){0};
    struct dmc_tile_piece *piece = &record->piece;
    piece->columns = wide ? 1 + random_below(20000) : 1 + random_below(70);
    piece->dim_count = (uint8_t)random_below(4);
    piece->source_step = random_below(4) ? in : in * (int64_t)(1 + random_below(3));
    int64_t source_stride = piece->source_step * (int64_t)(piece->columns + random_below(5));
    int64_t target_stride = out * (int64_t)(piece->columns + random_below(9));
    piece->rows = 1;
    for (uint32_t d = piece->dim_count; d-- > 0;) {
        record->dims[d] = (struct dmc_tile_dim){1 + random_below(wide ? 3 : 9), source_stride, target_stride};
        source_stride *= (int64_t)(record->dims[d].extent + random_below(2));
        target_stride *= (int64_t)(record->dims[d].extent + random_below(2));
        piece->rows *= record->dims[d].extent;
    }
    int64_t shift = random_below(3) ? 0 : (int64_t)random_below(16); /* source at odd addresses */
    if (source_stride > SOURCE_BYTES - 1024 || target_stride > TARGET_BYTES - 1024 ||
        (piece->dim_count == 0 && (int64_t)piece->columns * (in > out ? in * 3 : out) > SOURCE_BYTES - 1024))
        return false;
    piece->source = (uint64_t)(uintptr_t)source + (uint64_t)shift;
    piece->target = (uint64_t)(uintptr_t)target + 64 + (uint64_t)out * random_below(16);
    piece->source_dtype = (uint8_t)from;
    piece->output_dtype = (uint8_t)to;
    piece->status = DMC_PIECE_STATUS_NONE;
    piece->flags = random_below(2) && in > 1 ? DMC_PIECE_SWAP : 0;
    if (shift % in != 0)
        piece->flags |= DMC_PIECE_UNALIGNED;
    return true;
}

/* What the CPU's loops make of it, row by row. */
static void expect(const struct record *record)
{
    const struct dmc_tile_piece *piece = &record->piece;
    dmc_scatter_rows rows = dmc_scatter_select(piece->source_dtype, (piece->flags & DMC_PIECE_SWAP) != 0, piece->output_dtype);
    for (uint64_t row = 0; row < piece->rows; row++) {
        uint64_t rest = row;
        int64_t from = 0, to = 0;
        for (uint32_t d = piece->dim_count; d-- > 0; rest /= record->dims[d].extent) {
            from += (int64_t)(rest % record->dims[d].extent) * record->dims[d].source_stride;
            to += (int64_t)(rest % record->dims[d].extent) * record->dims[d].target_stride;
        }
        uint8_t *place = expected + (piece->target - (uint64_t)(uintptr_t)target) + to;
        if ((piece->flags & DMC_PIECE_FILL) == 0)
            rows(place, 0, (const uint8_t *)(uintptr_t)piece->source + from, 0, piece->source_step, 1, piece->columns);
        else
            for (uint64_t c = 0; c < piece->columns; c++)
                memcpy(place + c * damacy_dtype_bytes(piece->output_dtype),
                       c % 2 ? (const void *)&piece->source_step : &piece->source, damacy_dtype_bytes(piece->output_dtype));
    }
}

static void run(struct record *record, const uint32_t *statuses)
{
    static const uint32_t thread_counts[] = {1, 3, 32, 256};
    struct dmc_tile_index index[3] = {{0, 0}, {0, 0}, {UINT64_MAX, 0}};
    uint64_t tiles = dmc_tile_cut(&record->piece);
    index[1].tile_begin = 5; /* tiles of a piece before it, which is not looked at */
    index[1].record = 0;
    uint32_t threads = thread_counts[random_below(4)];
    for (uint64_t tile = 0; tile < tiles; tile++)
        for (uint32_t thread = 0; thread < threads; thread++)
            dmc_tile_assemble(index, 3, (const uint8_t *)record, statuses, 5 + tile, thread, threads);
}

static void fill_random(uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i + 8 <= count; i += 8) {
        uint64_t value = random_below(UINT64_MAX) ^ random_below(UINT64_MAX) << 20;
        if (random_below(16) == 0) /* NaNs, infinities, zeros, ones */
            value |= UINT64_C(0x7c007f807ff07f80) << random_below(3);
        if (random_below(16) == 0)
            value = random_below(3);
        memcpy(bytes + i, &value, 8);
    }
}

static void pairs_agree(void **state)
{
    (void)state;
    fill_random(source, sizeof source);
    uint32_t pairs = 0;
    for (int from = 1; from < DAMACY_DTYPE_COUNT; from++)
        for (int to = 1; to < DAMACY_DTYPE_COUNT; to++) {
            if (!dmc_scatter_select(from, false, to))
                continue;
            pairs++;
            for (int round = 0; round < 24; round++) {
                struct record record;
                while (!make_record(&record, from, to, round % 4 == 0))
                    continue;
                memset(target, 0x5a, sizeof target);
                memset(expected, 0x5a, sizeof expected);
                expect(&record);
                run(&record, NULL);
                if (memcmp(target, expected, sizeof target) != 0)
                    fail_msg("%s to %s, round %d", damacy_dtype_str(from), damacy_dtype_str(to), round);
            }
        }
    assert_true(pairs > 80);
}

static void fills_agree(void **state)
{
    (void)state;
    for (int to = 1; to < DAMACY_DTYPE_COUNT; to++)
        for (int round = 0; round < 20; round++) {
            struct record record;
            while (!make_record(&record, to, to, round % 4 == 0))
                continue;
            record.piece.flags = DMC_PIECE_FILL;
            record.piece.source = random_below(UINT64_MAX);
            record.piece.source_step = (int64_t)(random_below(2) ? record.piece.source : random_below(UINT64_MAX));
            memset(target, 0, sizeof target);
            memset(expected, 0, sizeof expected);
            expect(&record);
            run(&record, NULL);
            assert_memory_equal(target, expected, sizeof target);
        }
}

static void bad_chunks_are_left_out(void **state)
{
    (void)state;
    const uint32_t statuses[] = {0, 7};
    for (uint32_t status = 0; status < 2; status++) {
        struct record record;
        while (!make_record(&record, DAMACY_U16, DAMACY_F32, false))
            continue;
        record.piece.status = status;
        memset(target, 0x5a, sizeof target);
        memset(expected, 0x5a, sizeof expected);
        if (status == 0)
            expect(&record);
        run(&record, statuses);
        assert_memory_equal(target, expected, sizeof target);
    }
}

/* `source` as blosc shuffles it, in blocks. */
static void shuffle(uint8_t *shuffled, uint32_t item_bytes, uint32_t block_bytes, bool bits)
{
    for (uint32_t begin = 0; begin < SOURCE_BYTES; begin += block_bytes) {
        uint32_t bytes = SOURCE_BYTES - begin < block_bytes ? SOURCE_BYTES - begin : block_bytes, n = bytes / item_bytes;
        memset(shuffled + begin, 0, bytes);
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t k = 0; k < item_bytes; k++) {
                uint8_t byte = source[begin + i * item_bytes + k];
                if (!bits)
                    shuffled[begin + k * n + i] = byte;
                for (uint32_t b = 0; bits && b < 8; b++)
                    shuffled[begin + (8 * k + b) * (n / 8) + i / 8] |= (uint8_t)((byte >> b & 1) << i % 8);
            }
    }
}

/* All pairs whose source has so many bytes. Returns how many pieces lay in a shuffled chunk. */
static uint32_t shuffled_pairs(const uint8_t *shuffled, uint32_t item_bytes, uint32_t block_bytes, bool bits)
{
    uint32_t pieces = 0;
    for (int from = 1; from < DAMACY_DTYPE_COUNT; from++)
        for (int to = 1; to < DAMACY_DTYPE_COUNT; to++) {
            struct record record;
            if (damacy_dtype_bytes(from) != item_bytes || !dmc_scatter_select(from, false, to))
                continue;
            do {
                while (!make_record(&record, from, to, random_below(4) == 0))
                    continue;
            } while ((record.piece.flags & DMC_PIECE_UNALIGNED) != 0);
            memset(target, 0x5a, sizeof target);
            memset(expected, 0x5a, sizeof expected);
            expect(&record);
            record.piece.source_at = (uint32_t)(record.piece.source - (uint64_t)(uintptr_t)source);
            record.piece.source = (uint64_t)(uintptr_t)shuffled;
            record.piece.block_bytes = block_bytes;
            record.piece.chunk_bytes = SOURCE_BYTES;
            record.piece.flags |= DMC_PIECE_PLANES | (bits ? DMC_PIECE_BIT_PLANES : 0);
            run(&record, NULL);
            if (memcmp(target, expected, sizeof target) != 0)
                fail_msg("%s to %s, %s in blocks of %u", damacy_dtype_str(from), damacy_dtype_str(to), bits ? "bits" : "bytes",
                         block_bytes);
            pieces++;
        }
    return pieces;
}

static void shuffled_chunks_agree(void **state)
{
    (void)state;
    uint8_t *shuffled = aligned_alloc(64, SOURCE_BYTES); /* to the byte, for the sanitizer */
    uint32_t pieces = 0;
    fill_random(source, sizeof source);
    for (uint32_t item_bytes = 1; item_bytes <= 8; item_bytes *= 2)
        for (uint32_t bits = item_bytes == 1; bits < 2; bits++)
            for (int round = 0; round < 8; round++) {
                uint32_t multiple = item_bytes * (bits ? 8 : 1);
                uint32_t blocks = (uint32_t)random_below(round % 2 ? 40 : SOURCE_BYTES / multiple);
                uint32_t block_bytes = round == 0 ? SOURCE_BYTES : (1 + blocks) * multiple;
                shuffle(shuffled, item_bytes, block_bytes, bits != 0);
                pieces += shuffled_pairs(shuffled, item_bytes, block_bytes, bits != 0);
            }
    assert_true(pieces > 500);
    free(shuffled);
}

int main(void)
{
    random_state = seed_of_test("test_assemble_tile", 0) | 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_agree),
        cmocka_unit_test(fills_agree),
        cmocka_unit_test(bad_chunks_are_left_out),
        cmocka_unit_test(shuffled_chunks_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
