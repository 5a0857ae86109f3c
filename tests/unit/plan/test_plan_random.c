/* Goal: whatever the geometry, a plan delivers each element once and right, reads nothing it should not, and keeps its promised
 * form.
 *
 * Method: every small geometry of rank 1 and 2, and thousands of random ones of rank 1 to 5 (ragged edges, shards, transposed
 * chunks, raw and encoded ones, gaps, absent and damaged things, samples that share chunks, hosts, two fields), each followed
 * literally by the interpreter of plan_world.h and compared with a reader of single elements. DAMACY_TEST_SEED repeats a run.
 */
#include "base/bytes.h"
#include "plan_world.h"

#include "plan/host_table.h"
#include "support/test_seed.h"

#include <inttypes.h>

#define RANDOM_CASES 5000

static struct dmc_arena arena;

/* --- promised form --- */

static void check_pieces(const struct world *world, const struct dmc_plan *plan)
{
    uint32_t pieces = 0;
    for (uint32_t c = 0; c < plan->chunk_count; c++) {
        const struct dmc_chunk *chunk = &plan->chunks[c];
        assert_int_equal(chunk->piece_begin, pieces);
        assert_true(chunk->piece_end > chunk->piece_begin); /* no chunk that nobody needs */
        pieces = chunk->piece_end;
        for (uint32_t p = chunk->piece_begin; p < chunk->piece_end; p++) {
            const struct dmc_piece *piece = &plan->pieces[p];
            const struct dmc_piece_dim *dims = &plan->dims[piece->dim_begin];
            if (p > chunk->piece_begin) {
                const struct dmc_piece *before = piece - 1;
                assert_true(before->row < piece->row || (before->row == piece->row && before->field <= piece->field));
            }
            for (uint32_t d = 1; d < piece->dim_count; d++) /* nothing left to merge */
                assert_false(dims[d].extent > 1 &&
                             dims[d - 1].source_stride == dims[d].source_stride * (int64_t)dims[d].extent &&
                             dims[d - 1].target_stride == dims[d].target_stride * (int64_t)dims[d].extent);
        }
        if (world->options.whole_chunks) {
            assert_int_equal(chunk->need_begin, 0);
            assert_int_equal(chunk->need_end, chunk->chunk_bytes);
        }
    }
    assert_int_equal(pieces, plan->piece_count);
}

/* What holds for an array. */
static uint64_t gap_of(const struct world *world, const struct dmc_plan_array *array)
{
    return array->coalesce_gap_bytes ? array->coalesce_gap_bytes : world->options.coalesce_gap_bytes;
}
static uint64_t read_max_of(const struct world *world, const struct dmc_plan_array *array)
{
    return array->coalesce_read_bytes_max ? array->coalesce_read_bytes_max : world->options.coalesce_read_bytes_max;
}

/* Each chunk once; spans of one do not overlap unless a limit forbade to join them. */
static void check_once(const struct world *world, const struct dmc_plan *plan)
{
    for (uint32_t c = 0; c < plan->chunk_count; c++) {
        for (uint32_t d = c + 1; d < plan->chunk_count; d++) {
            const struct dmc_chunk *a = &plan->chunks[c], *b = &plan->chunks[d];
            if (a->array != b->array || a->index != b->index)
                continue;
            assert_true(a->array->raw && !world->options.whole_chunks);
            assert_true(a->read != DMC_READ_NONE && b->read != DMC_READ_NONE);
            if (read_max_of(world, a->array) > 1 << 20)
                assert_true(a->part_begin + a->stored_bytes <= b->part_begin ||
                            b->part_begin + b->stored_bytes <= a->part_begin);
        }
    }
}

static void check_read(const struct world *world, const struct dmc_plan *plan, uint32_t r)
{
    const struct dmc_read *read = &plan->reads[r];
    uint64_t chunk_max = 0, before = 0, end = 0;
    assert_true(read->chunk_end > read->chunk_begin);
    for (uint32_t c = read->chunk_begin; c < read->chunk_end; c++) {
        const struct dmc_chunk *chunk = &plan->chunks[c];
        assert_int_equal(chunk->read, r);
        assert_ptr_equal(chunk->array, plan->objects[read->object].array);
        assert_true(chunk->stored_offset >= before);
        if (c > read->chunk_begin && chunk->stored_offset > end) {
            uint64_t gap = chunk->stored_offset - end;
            assert_true(gap < gap_of(world, chunk->array));
        }
        before = chunk->stored_offset;
        end = end > chunk->stored_offset + chunk->stored_bytes ? end : chunk->stored_offset + chunk->stored_bytes;
        chunk_max = chunk_max > chunk->stored_bytes ? chunk_max : chunk->stored_bytes;
    }
    if (read->whole) {
        assert_int_equal(read->chunk_end, read->chunk_begin + 1);
        assert_int_equal(read->offset, 0);
        assert_int_equal(read->length, plan->objects[read->object].array->stored_bytes_max);
        assert_false(plan->objects[read->object].sharded || plan->objects[read->object].array->raw);
        return;
    }
    assert_int_equal(end, read->length); /* begins and ends with something needed */
    assert_int_equal(plan->chunks[read->chunk_begin].stored_offset, 0);
    assert_true(read->length <= read_max_of(world, plan->objects[read->object].array) || read->length == chunk_max);
}

/* Guests stand alone behind the other reads, and kept chunks behind them; every chunk with a source is one of them. Hosts can
 * be found by what they are. */
static void check_guests(struct world *world, const struct dmc_plan *plan)
{
    struct dmc_host_table table;
    dmc_host_table_init(&table, plan, &arena);
    uint32_t host_count = dmc_host_count(plan);
    assert_int_equal(host_count, plan->absent_begin - (plan->read_count - plan->guest_begin));
    assert_true(plan->guest_begin <= plan->kept_begin && plan->kept_begin <= plan->read_count);
    for (uint32_t c = 0; c < plan->absent_begin; c++) {
        const struct dmc_chunk *chunk = &plan->chunks[c];
        const struct dmc_read *read = &plan->reads[chunk->read];
        struct dmc_chunk_ask ask = dmc_host_ask(plan, chunk);
        struct dmc_plan_source source = {0};
        assert_int_equal(ask.offset, read->offset + chunk->stored_offset);
        if (!chunk->array->raw && world->hosts_percent)
            source = world_source(world, &ask);
        assert_int_equal(source.host != NULL, chunk->read >= plan->guest_begin);
        if (source.host) {
            assert_int_equal(source.kept, chunk->read >= plan->kept_begin);
            assert_ptr_equal(plan->hosts[chunk->read - plan->guest_begin], world);
            assert_int_equal(read->chunk_end - read->chunk_begin, 1);
            assert_int_equal(chunk->stored_offset, 0);
        }
        uint64_t hash = dmc_host_hash(chunk->array, chunk->index);
        assert_int_equal(dmc_host_find(&table, hash, &ask), source.host || chunk->array->raw ? DMC_HOST_NONE : c);
        ask.offset++;
        assert_int_equal(dmc_host_find(&table, hash, &ask), DMC_HOST_NONE);
    }
}

/* Reads are what they would be without hosts, but for those without a chunk of their own. */
static void check_same_reads(struct world *world, const struct dmc_plan *plan)
{
    struct dmc_plan all;
    struct damacy_error error;
    uint32_t percent = world->hosts_percent, r = 0;
    world->hosts_percent = 0;
    assert_int_equal(world_plan(world, &arena, &all, &error), DAMACY_OK);
    world->hosts_percent = percent;
    for (uint32_t i = 0; i < all.read_count; i++) {
        const struct dmc_read *wanted = &all.reads[i];
        bool own = false;
        for (uint32_t c = wanted->chunk_begin; c < wanted->chunk_end; c++) {
            const struct dmc_chunk *chunk = &all.chunks[c];
            struct dmc_chunk_ask ask = dmc_host_ask(&all, chunk);
            own |= chunk->array->raw || !world_source(world, &ask).host;
        }
        if (!own)
            continue;
        const struct dmc_read *read = &plan->reads[r++];
        assert_string_equal(plan->objects[read->object].key, all.objects[wanted->object].key);
        assert_ptr_equal(plan->objects[read->object].array, all.objects[wanted->object].array);
        assert_true(read->offset == wanted->offset && read->length == wanted->length && read->whole == wanted->whole);
    }
    assert_int_equal(r, plan->guest_begin);
}

static void check_reads(const struct world *world, const struct dmc_plan *plan)
{
    uint32_t chunks = 0;
    uint64_t bytes = 0, longest = 0;
    for (uint32_t r = 0; r < plan->read_count; r++) {
        const struct dmc_read *read = &plan->reads[r];
        check_read(world, plan, r);
        assert_int_equal(read->chunk_begin, chunks);
        chunks = read->chunk_end;
        bytes += read->whole ? 0 : read->length;
        longest = longest > read->length ? longest : read->length;
        if (r == 0) {
            assert_int_equal(read->object, 0);
            continue;
        }
        const struct dmc_read *before = read - 1;
        assert_true(before->object + 1 == read->object || before->object == read->object);
        if (before->object != read->object)
            continue;
        assert_true(before->offset <= read->offset);
        bool near = read->offset <= before->offset + before->length ||
                    read->offset - before->offset - before->length < gap_of(world, plan->objects[read->object].array);
        uint64_t first = plan->chunks[read->chunk_begin].stored_bytes;
        if (near) /* then only the limit kept them apart */
            assert_true(dmc_max_u64(before->length, read->offset - before->offset + first) >
                        read_max_of(world, plan->objects[read->object].array));
    }
    assert_int_equal(chunks, plan->absent_begin);
    for (uint32_t c = chunks; c < plan->chunk_count; c++)
        assert_int_equal(plan->chunks[c].read, DMC_READ_NONE);
    assert_int_equal(plan->object_count, plan->read_count ? plan->reads[plan->read_count - 1].object + 1 : 0);
    assert_int_equal(bytes, plan->bytes_read);
    assert_int_equal(longest, plan->read_bytes_max);
}

static void mark_region(const struct dmc_plan_region *region, const struct world *world, uint8_t **marks)
{
    struct world_array *array = region->array->user;
    uint64_t at[WORLD_RANK] = {0}, extent[WORLD_RANK], position[WORLD_RANK];
    uint32_t item = array->zarr.item_bytes;
    for (uint32_t a = 0; a < array->zarr.rank; a++)
        extent[a] = (uint64_t)(region->aabb[a].end - region->aabb[a].begin);
    do {
        uint64_t number, element = 0, origin[WORLD_RANK], chunk_extent[WORLD_RANK], strides[WORLD_RANK];
        for (uint32_t a = 0; a < array->zarr.rank; a++)
            position[a] = (uint64_t)region->aabb[a].begin + at[a];
        uint64_t chunk_bytes = world_form(array, position, origin, chunk_extent, strides);
        for (uint32_t a = 0; a < array->zarr.rank; a++)
            element += (position[a] - origin[a]) * strides[a];
        struct world_object *object = world_find(array, position, &number);
        uint64_t begin = 0, length = chunk_bytes;
        if (array->zarr.sharded) {
            if (object->absent || dmc_shard_entry_absent(object->entries[number]))
                continue;
            begin = object->entries[number].offset;
            length = object->entries[number].length;
        } else if (!array->plan.raw) {
            continue;
        }
        if (array->plan.raw && !world->options.whole_chunks) {
            begin += element * item;
            length = item;
        }
        memset(marks[object - array->objects] + begin, 1, length);
    } while (world_next(at, extent, array->zarr.rank));
}

/* The bytes that no reader could do without, counted one by one. */
static uint64_t bytes_needed(const struct world *world)
{
    uint64_t needed = 0;
    for (uint32_t i = 0; i < world->array_count; i++) {
        const struct world_array *array = &world->arrays[i];
        uint8_t **marks = calloc(array->object_count, sizeof *marks);
        for (uint64_t o = 0; o < array->object_count; o++)
            marks[o] = calloc(array->objects[o].size + 1, 1);
        for (uint32_t r = 0; r < world->region_count; r++)
            if (world->regions[r].array == &array->plan && !world->reported[r])
                mark_region(&world->regions[r], world, marks);
        for (uint64_t o = 0; o < array->object_count; o++) {
            for (uint64_t b = 0; b < array->objects[o].size; b++)
                needed += marks[o][b];
            free(marks[o]);
        }
        free(marks);
    }
    return needed;
}

static void run_case(struct world *world)
{
    struct dmc_plan plan;
    struct damacy_error error;
    dmc_arena_reset(&arena);
    assert_int_equal(world_plan(world, &arena, &plan, &error), DAMACY_OK);
    check_pieces(world, &plan);
    check_once(world, &plan);
    check_reads(world, &plan);
    world_check(world, &plan);
    uint64_t needed = bytes_needed(world);
    assert_true(plan.bytes_read >= needed);
    check_guests(world, &plan);
    bool exact = true; /* nothing but what is needed may be read */
    for (uint32_t i = 0; i < world->array_count; i++) {
        const struct dmc_plan_array *array = &world->arrays[i].plan;
        exact &= gap_of(world, array) <= 1 && read_max_of(world, array) > 1 << 20;
    }
    if (exact) {
        assert_int_equal(plan.bytes_read, needed);
        assert_int_equal(plan.bytes_needed, needed);
    }
}

/* The same batch, while others under way decode some of its chunks. */
static void run_guests(struct world *world)
{
    struct dmc_plan plan;
    struct damacy_error error;
    world->hosts_percent = world_chance(20) ? 100 : 40;
    dmc_arena_reset(&arena);
    assert_int_equal(world_plan(world, &arena, &plan, &error), DAMACY_OK);
    check_pieces(world, &plan);
    check_once(world, &plan);
    check_guests(world, &plan);
    world_check(world, &plan);
    check_same_reads(world, &plan);
}

/* --- geometries --- */

/* Chunks of random extents along an axis, the last of which may reach beyond the array. */
static void random_edges(struct world_array *array, uint32_t axis)
{
    uint64_t *at = array->edge_lists[axis], count = 0, longest = 0;
    at[0] = 0;
    while (at[count] < array->shape[axis]) {
        uint64_t extent = count + 1 == WORLD_EDGES ? array->shape[axis] - at[count] : world_between(1, array->chunk[axis]);
        longest = longest > extent ? longest : extent;
        at[count + 1] = at[count] + extent;
        count++;
    }
    array->edges[axis] = at;
    array->edge_counts[axis] = (uint32_t)count;
    array->chunk[axis] = longest;
}

static void random_array(struct world_array *array, uint32_t id, uint32_t rank, const int64_t *sample_shape)
{
    static const uint32_t items[] = {1, 2, 4, 8};
    static const uint64_t extent_max[] = {0, 60, 20, 9, 6, 4};
    uint32_t order[WORLD_RANK];
    bool transposed = world_chance(40);
    for (uint32_t a = 0; a < rank; a++) {
        uint64_t most = extent_max[rank];
        array->shape[a] = (uint64_t)sample_shape[a] + world_between(0, most);
        array->chunk[a] = world_chance(15) ? world_between(1, 40 / rank) : world_between(1, most < 4 ? most : most / 2 + 1);
        array->grid[a] = array->chunk[a] * world_between(1, 3);
        uint32_t other = (uint32_t)world_between(0, a);
        order[a] = order[other];
        order[other] = a;
    }
    bool sharded = world_chance(60);
    array->permuted = sharded && world_chance(40);
    for (uint32_t a = 0; a < rank; a++) {
        uint32_t other = (uint32_t)world_between(0, a);
        array->shard_order[a] = array->shard_order[other];
        array->shard_order[other] = (uint8_t)a;
    }
    array->rectilinear = !sharded && world_chance(50);
    for (uint32_t a = 0; array->rectilinear && a < rank; a++)
        if (world_chance(75))
            random_edges(array, a);
    world_array_init(array, id, rank, sharded, world_chance(50), items[world_random() % 4], transposed ? order : NULL);
    static const uint64_t gaps[] = {1, 16, 1000}, limits[] = {1, 100, UINT64_MAX / 2};
    if (world_chance(30))
        array->plan.coalesce_gap_bytes = gaps[world_random() % 3];
    if (world_chance(30))
        array->plan.coalesce_read_bytes_max = limits[world_random() % 3];
    bool rough = world_chance(15);
    world_array_write(array, world_chance(40) ? 25 : 0, world_chance(60) ? 40 : 0, rough ? 10 : 0, rough ? 10 : 0);
}

static void random_region(struct world *world, uint32_t row, uint32_t field, uint32_t array)
{
    uint32_t r = world->region_count++;
    struct world_array *chosen = &world->arrays[array];
    for (uint32_t a = 0; a < chosen->zarr.rank; a++) {
        uint64_t room = chosen->shape[a] - (uint64_t)world->sample_shapes[field][a];
        int64_t begin = (int64_t)world_between(0, room);
        world->boxes[r][a] = (struct damacy_interval){begin, begin + world->sample_shapes[field][a]};
    }
    world->regions[r] = (struct dmc_plan_region){.row = row, .field = field, .array = &chosen->plan, .aabb = world->boxes[r]};
}

static struct world *random_world(void)
{
    static const uint64_t gaps[] = {0, 1, 2, 16, 100, 1 << 20};
    static const uint64_t limits[] = {1, 64, 500, UINT64_MAX / 2};
    static const int64_t sample_max[] = {0, 40, 12, 7, 4, 3};
    struct world *world = calloc(1, sizeof *world);
    world->options = (struct dmc_plan_options){.coalesce_gap_bytes = gaps[world_random() % 6],
                                               .coalesce_read_bytes_max = limits[world_chance(50) ? 3 : world_random() % 3],
                                               .whole_chunks = world_chance(15)};
    world->field_count = (uint32_t)world_between(1, 2);
    world->array_count = (uint32_t)world_between(world->field_count, WORLD_ARRAYS);
    world->row_count = (uint32_t)world_between(1, 6);
    bool shared = world_chance(40); /* both fields crop the same arrays */
    uint32_t step = shared ? 1 : world->field_count;
    for (uint32_t f = 0; f < world->field_count; f++) {
        uint32_t rank = f && shared ? world->fields[0].rank : (uint32_t)world_between(1, WORLD_RANK);
        for (uint32_t a = 0; a < rank; a++) {
            uint64_t most = f && shared ? (uint64_t)world->sample_shapes[0][a] : (uint64_t)sample_max[rank];
            world->sample_shapes[f][a] = (int64_t)world_between(1, most);
        }
        world->fields[f] = (struct dmc_plan_field){rank, world->sample_shapes[f], 8};
        for (uint32_t i = f; i < world->array_count && (f == 0 || !shared); i += step) /* arrays take turns */
            random_array(&world->arrays[i], i, rank, world->sample_shapes[f]);
    }
    if (world_chance(30) && world->array_count == world->field_count && !shared) /* the common case: one type throughout */
        for (uint32_t f = 0; f < world->field_count; f++)
            world->fields[f].output_item_bytes = world->arrays[f].zarr.item_bytes;
    for (uint32_t row = 0; row < world->row_count; row++) {
        for (uint32_t f = 0; f < world->field_count; f++) {
            uint32_t first = shared ? 0 : f, turns = (world->array_count - first + step - 1) / step;
            random_region(world, row, f, first + step * (uint32_t)(world_random() % turns));
        }
    }
    if (world_chance(30)) { /* order of the regions does not matter */
        for (uint32_t i = world->region_count; i-- > 1;) {
            uint32_t j = (uint32_t)world_between(0, i);
            struct dmc_plan_region swap = world->regions[i];
            world->regions[i] = world->regions[j];
            world->regions[j] = swap;
        }
    }
    return world;
}

static void test_random_geometries(void **state)
{
    (void)state;
    uint64_t seed = seed_of_test("test_random_geometries", 20260801);
    for (uint32_t n = 0; n < RANDOM_CASES; n++) {
        world_seed = dmc_hash_u64(seed, n);
        struct world *world = random_world();
        run_case(world);
        run_guests(world);
        world_free(world);
    }
}

static void small_case(uint32_t rank, const uint64_t *shape, const uint64_t *chunk, uint64_t shard, const uint64_t *begin,
                       const uint64_t *extent, uint32_t kind)
{
    static const uint64_t gaps[] = {1, 3, 1000};
    struct world *world = calloc(1, sizeof *world);
    struct world_array *array = &world->arrays[0];
    uint32_t order[2] = {1, 0};
    for (uint32_t a = 0; a < rank; a++) {
        array->shape[a] = shape[a];
        array->chunk[a] = chunk[a];
        array->grid[a] = chunk[a] * shard;
        world->sample_shapes[0][a] = (int64_t)extent[a];
        world->boxes[0][a] = (struct damacy_interval){(int64_t)begin[a], (int64_t)(begin[a] + extent[a])};
    }
    world_array_init(array, 0, rank, shard > 0, kind & 1, 2, rank == 2 && kind & 2 ? order : NULL);
    world_array_write(array, 0, kind & 1 ? 0 : 2, 0, 0);
    world->array_count = world->field_count = world->region_count = world->row_count = 1;
    world->fields[0] = (struct dmc_plan_field){rank, world->sample_shapes[0], 4};
    world->regions[0] = (struct dmc_plan_region){0, 0, &array->plan, world->boxes[0]};
    world->options =
        (struct dmc_plan_options){.coalesce_gap_bytes = gaps[kind / 4 % 3], .coalesce_read_bytes_max = UINT64_MAX / 2};
    run_case(world);
    world_free(world);
}

static void test_every_small_box(void **state)
{
    (void)state;
    world_seed = 1;
    for (uint64_t shape = 1; shape <= 6; shape++)
        for (uint64_t chunk = 1; chunk <= 4; chunk++)
            for (uint64_t shard = 0; shard <= 2; shard++)
                for (uint64_t begin = 0; begin < shape; begin++)
                    for (uint64_t extent = 1; begin + extent <= shape; extent++)
                        for (uint32_t kind = 0; kind < 12; kind++)
                            small_case(1, &shape, &chunk, shard, &begin, &extent, kind);
}

static void test_every_small_rectangle(void **state)
{
    (void)state;
    world_seed = 2;
    const uint64_t shape[2] = {4, 3};
    uint64_t limits[7] = {3, 3, 3, 4, 3, 4, 3}, n[7] = {0}; /* chunk 0, 1; shard; begin 0, 1; extent 0, 1 */
    uint32_t kind = 0;
    do {
        uint64_t chunk[2] = {n[0] + 1, n[1] + 1}, begin[2] = {n[3], n[4]}, extent[2] = {n[5] + 1, n[6] + 1};
        if (begin[0] + extent[0] > shape[0] || begin[1] + extent[1] > shape[1])
            continue;
        for (uint32_t k = 0; k < 4; k++) /* the gap limits take turns */
            small_case(2, shape, chunk, n[2], begin, extent, k + kind % 3 * 4);
        kind++;
    } while (world_next(n, limits, 7));
}

static int set_up(void **state)
{
    (void)state;
    dmc_arena_init(&arena, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    dmc_arena_deinit(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_small_box),
        cmocka_unit_test(test_every_small_rectangle),
        cmocka_unit_test(test_random_geometries),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
