/* Goal: the planner's rules one by one: coalescing, cutting of raw chunks, absent and damaged things, limits, memory, order.
 *
 * Method: small arrays filled in by hand, with shard entries that need no data behind them unless the test reads them; the plan
 * is compared with what the rule says. Geometry in general is test_plan_random.c's. */
#include "plan_world.h"

#include "base/mem.h"
#include "plan/coalesce.h"
#include "plan/pieces.h"
#include "plan/spans.h"

#define ENTRIES 16
#define FAILURES 8

/* One array, up to 8 regions of one field, shard entries by shard number along axis 0. */
struct bench {
    struct world_array array;
    int64_t sample_shape[DAMACY_RANK_MAX];
    struct dmc_plan_field field;
    struct damacy_interval boxes[8][DAMACY_RANK_MAX];
    struct dmc_plan_region regions[8];
    uint32_t region_count;
    struct dmc_shard_entry entries[4][ENTRIES];
    bool shard_absent[4], shard_fails[4];
    uint32_t lookups[4];
    struct dmc_plan_options options;
    struct {
        uint32_t row, field;
        bool given;
        struct damacy_error error;
    } failures[FAILURES];
    uint32_t failure_count;
    struct dmc_arena arena;
    struct dmc_plan plan;
};

static const struct dmc_shard_entry *look_up(void *user, const struct dmc_plan_array *array, const uint64_t *at, bool *failed)
{
    struct bench *bench = user;
    (void)array;
    bench->lookups[at[0]]++;
    *failed = bench->shard_fails[at[0]];
    return bench->shard_absent[at[0]] ? NULL : bench->entries[at[0]];
}

static void note_failure(void *user, uint32_t row, uint32_t field, const struct damacy_error *error)
{
    struct bench *bench = user;
    assert_true(bench->failure_count < FAILURES);
    bench->failures[bench->failure_count].row = row;
    bench->failures[bench->failure_count].field = field;
    bench->failures[bench->failure_count].given = error != NULL;
    if (error)
        bench->failures[bench->failure_count].error = *error;
    bench->failure_count++;
}

static enum damacy_status make(struct bench *bench, struct damacy_error *error)
{
    struct dmc_plan_lookup lookup = {.user = bench, .shard = look_up};
    struct dmc_plan_failure failure = {.user = bench, .fail_region = note_failure};
    bench->failure_count = 0;
    memset(bench->lookups, 0, sizeof bench->lookups);
    dmc_arena_reset(&bench->arena);
    return dmc_plan_make(bench->regions, bench->region_count, &bench->field, 1, &lookup, &failure, &bench->options,
                         &bench->arena, &bench->plan, error);
}

static void make_ok(struct bench *bench)
{
    struct damacy_error error;
    assert_int_equal(make(bench, &error), DAMACY_OK);
}

/* A line of u16: 64 chunks of 8 (16 bytes decoded), 16 to a shard; samples of `extent`. */
static struct bench *line(bool sharded, bool raw, int64_t extent)
{
    struct bench *bench = calloc(1, sizeof *bench);
    bench->array.shape[0] = 512;
    bench->array.chunk[0] = 8;
    bench->array.grid[0] = 128;
    world_array_init(&bench->array, 0, 1, sharded, raw, 2, NULL);
    bench->array.plan.stored_bytes_max = 100;
    bench->sample_shape[0] = extent;
    bench->field = (struct dmc_plan_field){1, bench->sample_shape, 2};
    bench->options = (struct dmc_plan_options){.coalesce_gap_bytes = 1, .coalesce_read_bytes_max = 1 << 20};
    for (uint32_t s = 0; s < 4; s++)
        for (uint32_t e = 0; e < ENTRIES; e++) /* end to end */
            bench->entries[s][e] = (struct dmc_shard_entry){100 + 16 * e, 16};
    dmc_arena_init(&bench->arena, NULL);
    return bench;
}

static void add(struct bench *bench, uint32_t row, int64_t begin)
{
    uint32_t r = bench->region_count++;
    bench->boxes[r][0] = (struct damacy_interval){begin, begin + bench->sample_shape[0]};
    bench->regions[r] = (struct dmc_plan_region){.row = row, .array = &bench->array.plan, .aabb = bench->boxes[r]};
}

static void destroy(struct bench *bench)
{
    dmc_arena_deinit(&bench->arena);
    free(bench);
}

/* --- coalescing --- */

static void test_neighbours_become_one_read(void **state)
{
    (void)state;
    struct bench *bench = line(true, false, 64);
    add(bench, 0, 0);
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, 1);
    assert_int_equal(bench->plan.reads[0].offset, 100);
    assert_int_equal(bench->plan.reads[0].length, 8 * 16);
    assert_int_equal(bench->plan.chunk_count, 8);
    assert_int_equal(bench->plan.chunks[3].stored_offset, 3 * 16);
    assert_int_equal(bench->plan.bytes_needed, 128);
    assert_int_equal(bench->plan.decoded_bytes_max, 16);
    assert_int_equal(bench->plan.object_count, 1);
    assert_string_equal(bench->plan.objects[0].key, "c/0");
    assert_true(bench->plan.objects[0].sharded);
    destroy(bench);
}

static void test_gap_limit(void **state)
{
    (void)state;
    struct bench *bench = line(true, false, 16);
    bench->entries[0][1].offset = bench->entries[0][0].offset + 16 + 9; /* 9 bytes that nobody needs */
    add(bench, 0, 0);
    bench->options.coalesce_gap_bytes = 9; /* closer than this: no */
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, 2);
    assert_int_equal(bench->plan.bytes_read, 32);
    bench->options.coalesce_gap_bytes = 10;
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, 1);
    assert_int_equal(bench->plan.bytes_read, 41);
    assert_int_equal(bench->plan.bytes_needed, 32);
    assert_int_equal(bench->plan.chunks[1].stored_offset, 25);
    destroy(bench);
}

static void test_read_limit(void **state)
{
    (void)state;
    struct bench *bench = line(true, false, 64);
    bench->options.coalesce_read_bytes_max = 48;
    add(bench, 0, 0);
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, 3); /* 3 + 3 + 2 chunks */
    assert_int_equal(bench->plan.read_bytes_max, 48);
    bench->options.coalesce_read_bytes_max = 15; /* a single chunk may be longer */
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, 8);
    destroy(bench);
}

static void test_chunks_that_name_the_same_bytes(void **state)
{
    (void)state;
    struct bench *bench = line(true, false, 32);
    for (uint32_t e = 0; e < 4; e++)
        bench->entries[0][e] = (struct dmc_shard_entry){e == 3 ? 110 : 100, 60};
    bench->options.coalesce_read_bytes_max = 50; /* the same bytes are read once whatever the limit */
    add(bench, 0, 0);
    make_ok(bench);
    assert_int_equal(bench->plan.chunk_count, 4);
    assert_int_equal(bench->plan.read_count, 2);
    assert_int_equal(bench->plan.reads[0].chunk_end, 3);
    assert_int_equal(bench->plan.reads[1].offset, 110);
    bench->options.coalesce_read_bytes_max = 70;
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, 1);
    assert_int_equal(bench->plan.bytes_read, 70);
    assert_int_equal(bench->plan.chunks[3].stored_offset, 10);
    bench->entries[0][3].length = 10; /* inside of the others, which are longer than the limit: it is not to need their room */
    bench->options.coalesce_read_bytes_max = 50;
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, 2);
    assert_int_equal(bench->plan.reads[1].length, 10);
    bench->options.coalesce_read_bytes_max = 60;
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, 1);
    destroy(bench);
}

static void test_reads_follow_offsets_not_coordinates(void **state)
{
    (void)state;
    struct bench *bench = line(true, false, 128);
    for (uint32_t e = 0; e < ENTRIES; e++) /* written backwards */
        bench->entries[0][e].offset = 1000 - 20 * e;
    add(bench, 0, 0);
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, ENTRIES);
    for (uint32_t c = 0; c < ENTRIES; c++) {
        assert_int_equal(bench->plan.chunks[c].index, ENTRIES - 1 - c);
        assert_int_equal(bench->plan.reads[c].offset, 1000 - 20 * (ENTRIES - 1 - c));
    }
    destroy(bench);
}

static void test_keys_sort(void **state)
{
    (void)state;
    for (uint32_t count = 0; count < 300; count++) {
        struct dmc_plan_key keys[300], scratch[300];
        world_seed = count;
        for (uint32_t i = 0; i < count; i++)
            keys[i] = (struct dmc_plan_key){.object = (uint32_t)(world_random() % 3), .offset = world_random() % 50, .id = i};
        dmc_plan_keys_sort(keys, scratch, count);
        bool seen[300] = {false};
        for (uint32_t i = 0; i < count; i++) {
            assert_false(seen[keys[i].id]);
            seen[keys[i].id] = true;
            if (i == 0)
                continue;
            const struct dmc_plan_key *a = &keys[i - 1], *b = &keys[i];
            assert_true(a->object < b->object ||
                        (a->object == b->object && (a->offset < b->offset || (a->offset == b->offset && a->id < b->id))));
        }
    }
}

/* --- what is shared, absent or damaged --- */

static void test_samples_share_chunks(void **state)
{
    (void)state;
    struct bench *bench = line(true, false, 16);
    add(bench, 0, 4);  /* chunks 0, 1, 2 */
    add(bench, 1, 12); /* 1, 2, 3 */
    add(bench, 2, 4);
    make_ok(bench);
    assert_int_equal(bench->plan.chunk_count, 4);
    assert_int_equal(bench->plan.piece_count, 9);
    const struct dmc_chunk *chunk = &bench->plan.chunks[1];
    assert_int_equal(chunk->piece_end - chunk->piece_begin, 3);
    for (uint32_t row = 0; row < 3; row++)
        assert_int_equal(bench->plan.pieces[chunk->piece_begin + row].row, row);
    assert_int_equal(bench->plan.chunks[0].need_begin, 8); /* bytes: the second half of the chunk */
    assert_int_equal(bench->plan.chunks[0].need_end, 16);
    assert_int_equal(bench->plan.chunks[3].need_begin, 0);
    assert_int_equal(bench->plan.chunks[3].need_end, 8);
    assert_int_equal(bench->lookups[0], 1);
    bench->options.whole_chunks = true;
    make_ok(bench);
    assert_int_equal(bench->plan.chunks[0].need_begin, 0);
    assert_int_equal(bench->plan.chunks[3].need_end, 16);
    destroy(bench);
}

static void test_absent_shard_and_entry(void **state)
{
    (void)state;
    struct bench *bench = line(true, false, 16);
    bench->shard_absent[0] = true;
    bench->entries[1][0] = (struct dmc_shard_entry){UINT64_MAX, 0};
    add(bench, 0, 116); /* two chunks of shard 0, one of shard 1 */
    add(bench, 1, 124); /* one of shard 0, two of shard 1 */
    make_ok(bench);
    assert_int_equal(bench->failure_count, 0);
    assert_int_equal(bench->plan.chunk_count, 4);
    assert_int_equal(bench->plan.absent_begin, 1);
    assert_int_equal(bench->plan.chunks[0].index, 17);
    assert_int_equal(bench->plan.chunks[1].index, 14);
    assert_int_equal(bench->plan.chunks[2].index, 15);
    assert_int_equal(bench->plan.chunks[3].index, 16);
    for (uint32_t c = 1; c < 4; c++)
        assert_int_equal(bench->plan.chunks[c].read, DMC_READ_NONE);
    assert_int_equal(bench->plan.object_count, 1); /* no reads of an absent shard */
    assert_string_equal(bench->plan.objects[0].key, "c/1");
    destroy(bench);
}

static void test_failing_index_leaves_its_regions_out(void **state)
{
    (void)state;
    struct bench *bench = line(true, false, 16);
    bench->shard_fails[1] = true;
    add(bench, 3, 120); /* one chunk of shard 0, one of shard 1 */
    add(bench, 5, 112); /* shard 0 only */
    add(bench, 7, 200);
    make_ok(bench);
    assert_int_equal(bench->failure_count, 2);
    assert_int_equal(bench->failures[0].row, 3);
    assert_int_equal(bench->failures[1].row, 7);
    assert_false(bench->failures[0].given || bench->failures[1].given);
    assert_int_equal(bench->lookups[1], 1);
    assert_int_equal(bench->plan.piece_count, 2); /* row 5 stays, in chunks that row 3 touched too */
    assert_int_equal(bench->plan.pieces[0].row, 5);
    assert_int_equal(bench->plan.pieces[1].row, 5);
    bench->shard_fails[0] = true;
    make_ok(bench);
    assert_int_equal(bench->failure_count, 3);
    assert_int_equal(bench->plan.chunk_count + bench->plan.read_count + bench->plan.object_count + bench->plan.piece_count, 0);
    destroy(bench);
}

static void check_damage(struct bench *bench, struct dmc_shard_entry entry, const char *message)
{
    bench->entries[0][2] = entry;
    make_ok(bench);
    assert_int_equal(bench->failure_count, 1);
    const struct damacy_error *error = &bench->failures[0].error;
    assert_true(bench->failures[0].given);
    assert_int_equal(error->status, DAMACY_DECODE);
    assert_string_equal(error->key, "c/0");
    assert_int_equal(error->range_begin, entry.offset);
    assert_string_equal(error->message, message);
    assert_int_equal(bench->plan.piece_count, 1); /* row 1, which does not touch chunk 2 */
    assert_int_equal(bench->plan.chunk_count, 1);
}

static void test_damaged_entries_fail_their_regions(void **state)
{
    (void)state;
    struct bench *bench = line(true, false, 8);
    bench->boxes[0][0] = (struct damacy_interval){0, 0};
    add(bench, 0, 12); /* chunks 1 and 2 */
    add(bench, 1, 0);
    check_damage(
        bench, (struct dmc_shard_entry){132, 101},
        "c/0 [132, 233): the shard index's entry for inner chunk 2 is longer than any encoding of a chunk: found 101 bytes at "
        "132, expected at most 100 bytes");
    check_damage(
        bench, (struct dmc_shard_entry){132, 0},
        "c/0 [132, 132): the shard index's entry for inner chunk 2 is empty: found 0 bytes at 132, expected at least 1 byte");
    check_damage(
        bench, (struct dmc_shard_entry){UINT64_MAX - 9, 10},
        "c/0 [18446744073709551606, 18446744073709551615): the shard index's entry for inner chunk 2 reaches beyond every "
        "object: found 10 bytes at 18446744073709551606, expected a range that ends before 2^64");
    bench->array.plan.raw = true;
    check_damage(
        bench, (struct dmc_shard_entry){132, 15},
        "c/0 [132, 147): the shard index's entry for inner chunk 2 has another length than an uncompressed chunk: found 15 "
        "bytes at 132, expected 16 bytes");
    destroy(bench);
}

/* --- unsharded --- */

static void test_unsharded_chunks_are_whole_reads(void **state)
{
    (void)state;
    struct bench *bench = line(false, false, 12);
    add(bench, 0, 6); /* chunks 0, 1, 2 */
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, 3);
    for (uint32_t r = 0; r < 3; r++) {
        char key[8];
        snprintf(key, sizeof key, "c/%u", r);
        assert_string_equal(bench->plan.objects[r].key, key);
        assert_false(bench->plan.objects[r].sharded);
        assert_true(bench->plan.reads[r].whole);
        assert_int_equal(bench->plan.reads[r].length, 100);
        assert_int_equal(bench->plan.chunks[r].stored_bytes, 0);
    }
    assert_int_equal(bench->plan.bytes_read, 0); /* unknown until read */
    assert_int_equal(bench->plan.read_bytes_max, 100);
    destroy(bench);
}

static void test_unsharded_raw_chunks_are_exact_reads(void **state)
{
    (void)state;
    struct bench *bench = line(false, true, 12);
    add(bench, 0, 6);
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, 3);
    assert_int_equal(bench->plan.reads[0].offset, 12);
    assert_int_equal(bench->plan.reads[0].length, 4);
    assert_int_equal(bench->plan.chunks[0].part_begin, 12);
    assert_int_equal(bench->plan.reads[2].length, 4);
    assert_false(bench->plan.reads[0].whole);
    assert_int_equal(bench->plan.decoded_bytes_max, 0);
    bench->options.whole_chunks = true;
    make_ok(bench);
    assert_int_equal(bench->plan.reads[0].offset, 0);
    assert_int_equal(bench->plan.reads[0].length, 16);
    assert_int_equal(bench->plan.chunks[0].part_begin, 0);
    destroy(bench);
}

/* --- cutting raw chunks --- */

/* One raw chunk of `rows` x `columns` bytes, and a sample of `height` x `width`. */
static struct bench *plane(uint64_t rows, uint64_t columns, int64_t height, int64_t width, bool transposed)
{
    struct bench *bench = calloc(1, sizeof *bench);
    uint32_t order[2] = {1, 0};
    bench->array.shape[0] = bench->array.chunk[0] = rows;
    bench->array.shape[1] = bench->array.chunk[1] = columns;
    world_array_init(&bench->array, 0, 2, false, true, 1, transposed ? order : NULL);
    bench->sample_shape[0] = height;
    bench->sample_shape[1] = width;
    bench->field = (struct dmc_plan_field){2, bench->sample_shape, 1};
    bench->options = (struct dmc_plan_options){.coalesce_gap_bytes = 16, .coalesce_read_bytes_max = 1 << 20};
    dmc_arena_init(&bench->arena, NULL);
    return bench;
}

static void add_at(struct bench *bench, uint32_t row, int64_t y, int64_t x)
{
    uint32_t r = bench->region_count++;
    bench->boxes[r][0] = (struct damacy_interval){y, y + bench->sample_shape[0]};
    bench->boxes[r][1] = (struct damacy_interval){x, x + bench->sample_shape[1]};
    bench->regions[r] = (struct dmc_plan_region){.row = row, .array = &bench->array.plan, .aabb = bench->boxes[r]};
}

static void test_raw_rows_with_large_gaps_are_read_alone(void **state)
{
    (void)state;
    struct bench *bench = plane(10, 100, 4, 20, false);
    add_at(bench, 0, 2, 30);
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, 4);
    assert_int_equal(bench->plan.bytes_read, 80);
    assert_int_equal(bench->plan.bytes_needed, 80);
    for (uint32_t c = 0; c < 4; c++) {
        const struct dmc_chunk *chunk = &bench->plan.chunks[c];
        assert_int_equal(chunk->part_begin, (2 + c) * 100 + 30);
        assert_int_equal(chunk->stored_bytes, 20);
        assert_int_equal(bench->plan.pieces[chunk->piece_begin].elements, 20);
        assert_int_equal(bench->plan.pieces[chunk->piece_begin].target_offset, c * 20);
    }
    bench->options.coalesce_gap_bytes = 81;
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, 1);
    assert_int_equal(bench->plan.piece_count, 1);
    assert_int_equal(bench->plan.bytes_read, 320);
    assert_int_equal(bench->plan.bytes_needed, 80);
    destroy(bench);
}

static void test_raw_transposed_chunks_are_cut_in_memory_order(void **state)
{
    (void)state;
    struct bench *bench = plane(100, 10, 20, 4, true); /* columns lie together */
    add_at(bench, 0, 30, 2);
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, 4);
    assert_int_equal(bench->plan.piece_count, 4); /* a column each, not an element each */
    assert_int_equal(bench->plan.bytes_read, 80);
    const struct dmc_piece *piece = &bench->plan.pieces[1];
    const struct dmc_piece_dim *dims = &bench->plan.dims[piece->dim_begin];
    assert_int_equal(piece->dim_count, 2);
    assert_int_equal(piece->target_offset, 1);
    assert_int_equal(dims[0].extent, 20);
    assert_int_equal(dims[0].source_stride, 1);
    assert_int_equal(dims[0].target_stride, 4);
    assert_int_equal(dims[1].extent, 1);
    destroy(bench);
}

static void test_raw_overlapping_samples_share_spans(void **state)
{
    (void)state;
    struct bench *bench = plane(10, 100, 4, 20, false);
    add_at(bench, 0, 2, 30);
    add_at(bench, 1, 3, 40);
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, 5);
    assert_int_equal(bench->plan.piece_count, 8);
    assert_int_equal(bench->plan.bytes_read, 20 + 3 * 30 + 20);
    assert_int_equal(bench->plan.bytes_needed, bench->plan.bytes_read);
    assert_int_equal(bench->plan.pieces[1].row, 0); /* in order of rows, though row 1 could come first */
    assert_int_equal(bench->plan.pieces[2].row, 1);
    destroy(bench);
}

static void test_raw_reads_stay_within_the_limit(void **state)
{
    (void)state;
    struct bench *bench = plane(10, 100, 10, 100, false); /* all of it: 1000 bytes in a row */
    bench->options.coalesce_read_bytes_max = 300;
    add_at(bench, 0, 0, 0);
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, 4);
    assert_int_equal(bench->plan.read_bytes_max, 300);
    assert_int_equal(bench->plan.bytes_read, 1000);
    destroy(bench);
}

static void test_raw_pieces_are_cut_into_a_bounded_number(void **state)
{
    (void)state;
    struct bench *bench = plane(10000, 100, 10000, 20, false);
    add_at(bench, 0, 0, 0);
    bench->options.coalesce_gap_bytes = 1;
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, 1); /* 10,000 rows are too many: gaps are read */
    bench->options.coalesce_read_bytes_max = 100;
    add_at(bench, 1, 0, 0); /* what lies inside that span joins it, though it is longer than reads should be */
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, 1);
    assert_int_equal(bench->plan.chunk_count, 1);
    assert_int_equal(bench->plan.piece_count, 2);
    bench->region_count = 1;
    bench->sample_shape[0] = DMC_SPAN_PARTS_MAX;
    bench->boxes[0][0].end = DMC_SPAN_PARTS_MAX;
    make_ok(bench);
    assert_int_equal(bench->plan.read_count, DMC_SPAN_PARTS_MAX);
    destroy(bench);
}

/* --- pieces --- */

static void test_piece_dims(void **state)
{
    (void)state;
    struct dmc_piece_dim dims[4];
    const uint64_t source[4] = {2400, 240, 24, 2}, target[4] = {480, 48, 24, 4};
    assert_int_equal(dmc_piece_dims(4, (uint64_t[]){2, 10, 10, 12}, source, (uint64_t[]){4800, 480, 48, 4}, 2, 4, dims), 1);
    assert_int_equal(dims[0].extent, 2400); /* all contiguous on both sides */
    assert_int_equal(dmc_piece_dims(4, (uint64_t[]){1, 5, 1, 6}, source, target, 2, 4, dims), 2);
    assert_int_equal(dims[0].extent, 5);
    assert_int_equal(dims[0].source_stride, 240);
    assert_int_equal(dims[1].extent, 6);
    assert_int_equal(dmc_piece_dims(4, (uint64_t[]){1, 5, 1, 1}, source, target, 2, 4, dims), 2); /* the last axis must stay */
    assert_int_equal(dims[1].extent, 1);
    assert_int_equal(dims[1].target_stride, 4);
    assert_int_equal(dmc_piece_dims(4, (uint64_t[]){1, 1, 1, 1}, source, target, 2, 4, dims), 1);
    assert_int_equal(dmc_piece_dims(2, (uint64_t[]){5, 1}, (uint64_t[]){24, 2}, (uint64_t[]){4, 4}, 2, 4, dims), 1);
    assert_int_equal(dims[0].source_stride, 24); /* a sample with one column: its rows are the elements */
}

static void test_huge_arrays(void **state)
{
    (void)state;
    struct bench *bench = calloc(1, sizeof *bench);
    struct dmc_zarr_array *zarr = &bench->array.zarr;
    uint64_t shape[DAMACY_RANK_MAX], chunk[DAMACY_RANK_MAX], grid[DAMACY_RANK_MAX];
    int64_t strides[DAMACY_RANK_MAX];
    for (uint32_t a = 0; a < DAMACY_RANK_MAX; a++) {
        shape[a] = (uint64_t)1 << 63;
        chunk[a] = a < 20 ? 3 : 1;
        grid[a] = a == 0 ? (uint64_t)3 << 61 : chunk[a];
        bench->sample_shape[a] = a < 4 ? 2 : 1;
    }
    int64_t elements = 1;
    for (uint32_t a = DAMACY_RANK_MAX; a-- > 0; elements *= (int64_t)chunk[a])
        strides[a] = elements;
    *zarr = (struct dmc_zarr_array){.rank = DAMACY_RANK_MAX,
                                    .key_rank = DAMACY_RANK_MAX,
                                    .sharded = false,
                                    .key_encoding = {.separator = '/'},
                                    .shape = shape,
                                    .chunk_shape = chunk,
                                    .grid_shape = chunk,
                                    .chunk_elements = (uint64_t)elements,
                                    .chunks_per_shard = 1,
                                    .item_bytes = 1};
    bench->array.plan = (struct dmc_plan_array){.zarr = zarr, .strides = strides, .stored_bytes_max = UINT64_MAX / 4};
    bench->field = (struct dmc_plan_field){DAMACY_RANK_MAX, bench->sample_shape, 1};
    bench->options = (struct dmc_plan_options){.coalesce_gap_bytes = 1, .coalesce_read_bytes_max = 1 << 20};
    for (uint32_t a = 0; a < DAMACY_RANK_MAX;
         a++) { /* at the far end, across two chunks along axes 0 to 3 where 3 | begin + 1 */
        int64_t begin = INT64_MAX - 2;
        bench->boxes[0][a] = (struct damacy_interval){begin, begin + bench->sample_shape[a]};
        bench->boxes[1][a] = (struct damacy_interval){0, bench->sample_shape[a]};
    }
    for (uint32_t r = 0; r < 2; r++)
        bench->regions[r] = (struct dmc_plan_region){.row = r, .array = &bench->array.plan, .aabb = bench->boxes[r]};
    bench->region_count = 2;
    dmc_arena_init(&bench->arena, NULL);
    make_ok(bench);
    uint64_t elements_seen = 0;
    for (uint32_t p = 0; p < bench->plan.piece_count; p++)
        elements_seen += bench->plan.pieces[p].elements;
    assert_int_equal(elements_seen, 32);
    assert_int_equal(bench->plan.chunks[0].index, UINT64_MAX); /* no number fits */
    zarr->sharded = true; /* shards as long as they come: every chunk of the first one absent */
    zarr->grid_shape = grid;
    zarr->chunks_per_shard = (uint64_t)1 << 61;
    bench->shard_absent[0] = bench->shard_absent[1] = true;
    make_ok(bench);
    assert_int_equal(bench->plan.absent_begin, 0);
    assert_true(bench->plan.chunk_count >= 2);
    destroy(bench);
}

/* --- memory and order --- */

static struct bench *busy(void)
{
    struct bench *bench = line(true, true, 40);
    for (uint32_t r = 0; r < 6; r++)
        add(bench, r, 37 * r + 3);
    bench->options.coalesce_read_bytes_max = 24; /* cuts pieces, so that spans.c allocates as well */
    return bench;
}

static void test_short_memory_at_every_allocation(void **state)
{
    (void)state;
    struct bench *bench = busy();
    make_ok(bench);
    uint32_t reads = bench->plan.read_count;
    bool done = false;
    uint64_t n = 1;
    for (; !done; n++) {
        struct damacy_error error;
        dmc_arena_deinit(&bench->arena); /* fresh, so that it has to grow */
        dmc_arena_init(&bench->arena, NULL);
        dmc_mem_fail_at(n);
        enum damacy_status status = make(bench, &error);
        dmc_mem_fail_at(0);
        done = status == DAMACY_OK;
        if (!done) {
            assert_int_equal(status, DAMACY_OOM);
            assert_int_equal(error.status, DAMACY_OOM);
            assert_null(bench->plan.reads);
            assert_int_equal(bench->plan.read_count, 0);
        }
    }
    assert_true(n > 2);
    assert_int_equal(bench->plan.read_count, reads);
    destroy(bench);
}

static void test_short_budget_at_every_size(void **state)
{
    (void)state;
    struct bench *bench = busy();
    uint64_t limit = 0;
    enum damacy_status status;
    do {
        struct damacy_error error;
        struct dmc_budget budget;
        dmc_arena_deinit(&bench->arena);
        dmc_budget_init(&budget, limit);
        dmc_arena_init(&bench->arena, &budget);
        status = make(bench, &error);
        if (status != DAMACY_OK) {
            assert_int_equal(status, DAMACY_BUDGET);
            assert_non_null(strstr(error.message, "max_host_memory_bytes"));
            assert_int_equal(bench->plan.read_count, 0);
        }
        dmc_arena_deinit(&bench->arena);
        assert_int_equal(dmc_budget_used(&budget), 0);
        dmc_arena_init(&bench->arena, NULL);
        limit += 64;
        assert_true(limit < 1 << 20);
    } while (status != DAMACY_OK);
    assert_true(limit > 1000);
    destroy(bench);
}

static void test_warm_arena_costs_no_malloc(void **state)
{
    (void)state;
    struct bench *bench = busy();
    make_ok(bench);
    make_ok(bench); /* here the arena's blocks become one */
    uint64_t before = dmc_mem_count();
    make_ok(bench);
    assert_int_equal(dmc_mem_count(), before);
    destroy(bench);
}

static void test_more_pieces_than_ids_is_budget(void **state)
{
    (void)state;
    struct bench *bench = line(false, false, INT64_MAX);
    bench->array.shape[0] = INT64_MAX;
    struct damacy_error error;
    add(bench, 0, 0);
    assert_int_equal(make(bench, &error), DAMACY_BUDGET);
    destroy(bench);
}

static void test_order_of_regions_does_not_matter(void **state)
{
    (void)state;
    struct bench *one = busy(), *other = busy();
    for (uint32_t r = 0; r < other->region_count; r++) {
        other->regions[r] = one->regions[one->region_count - 1 - r];
        other->regions[r].array = &other->array.plan;
    }
    make_ok(one);
    make_ok(other);
    assert_int_equal(one->plan.chunk_count, other->plan.chunk_count);
    assert_int_equal(one->plan.piece_count, other->plan.piece_count);
    assert_memory_equal(one->plan.pieces, other->plan.pieces, one->plan.piece_count * sizeof *one->plan.pieces);
    assert_memory_equal(one->plan.dims, other->plan.dims, one->plan.dim_count * sizeof *one->plan.dims);
    for (uint32_t c = 0; c < one->plan.chunk_count; c++)
        assert_int_equal(one->plan.chunks[c].index, other->plan.chunks[c].index);
    destroy(one);
    destroy(other);
}

static void test_no_regions(void **state)
{
    (void)state;
    struct bench *bench = line(true, false, 8);
    make_ok(bench);
    assert_int_equal(bench->plan.read_count + bench->plan.chunk_count + bench->plan.piece_count + bench->plan.object_count, 0);
    destroy(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_neighbours_become_one_read),
        cmocka_unit_test(test_gap_limit),
        cmocka_unit_test(test_read_limit),
        cmocka_unit_test(test_chunks_that_name_the_same_bytes),
        cmocka_unit_test(test_reads_follow_offsets_not_coordinates),
        cmocka_unit_test(test_keys_sort),
        cmocka_unit_test(test_samples_share_chunks),
        cmocka_unit_test(test_absent_shard_and_entry),
        cmocka_unit_test(test_failing_index_leaves_its_regions_out),
        cmocka_unit_test(test_damaged_entries_fail_their_regions),
        cmocka_unit_test(test_unsharded_chunks_are_whole_reads),
        cmocka_unit_test(test_unsharded_raw_chunks_are_exact_reads),
        cmocka_unit_test(test_raw_rows_with_large_gaps_are_read_alone),
        cmocka_unit_test(test_raw_transposed_chunks_are_cut_in_memory_order),
        cmocka_unit_test(test_raw_overlapping_samples_share_spans),
        cmocka_unit_test(test_raw_reads_stay_within_the_limit),
        cmocka_unit_test(test_raw_pieces_are_cut_into_a_bounded_number),
        cmocka_unit_test(test_piece_dims),
        cmocka_unit_test(test_huge_arrays),
        cmocka_unit_test(test_short_memory_at_every_allocation),
        cmocka_unit_test(test_short_budget_at_every_size),
        cmocka_unit_test(test_warm_arena_costs_no_malloc),
        cmocka_unit_test(test_more_pieces_than_ids_is_budget),
        cmocka_unit_test(test_order_of_regions_does_not_matter),
        cmocka_unit_test(test_no_regions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
