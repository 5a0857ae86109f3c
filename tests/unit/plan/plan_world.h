/* A small world for tests of the planner: arrays whose every element has a known value, a store in memory that holds them, and
 * an interpreter that follows a plan literally (reads -> chunks -> pieces) and compares with a reader that knows one element at
 * a time.
 *
 * "Encoded" chunks are the decoded bytes xor 0x5a behind a few bytes of junk, so that their lengths differ. What a plan does
 * not claim to need is poisoned after decoding. */
#ifndef PLAN_WORLD_H
#define PLAN_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hash.h"
#include "plan/plan.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORLD_RANK 5
#define WORLD_ARRAYS 4
#define WORLD_REGIONS 16
#define WORLD_EDGES 80
#define WORLD_FILL 0xf1
#define WORLD_POISON 0xee
#define WORLD_JUNK_MAX 8

static uint64_t world_seed;

static inline uint64_t world_random(void)
{
    world_seed += 0x9e3779b97f4a7c15u;
    return dmc_hash_u64(world_seed, 7);
}
static inline uint64_t world_between(uint64_t low, uint64_t high)
{
    return low + world_random() % (high - low + 1);
}
static inline bool world_chance(uint64_t percent)
{
    return world_random() % 100 < percent;
}

struct world_object {
    uint64_t coordinates[WORLD_RANK];
    uint8_t *bytes;
    uint64_t size;
    bool absent;
    bool index_fails;
    struct dmc_shard_entry *entries; /* sharded */
    bool *damaged;                   /* per entry */
    uint32_t lookups;
    uint64_t chunk_bytes; /* not sharded */
};

struct world_array {
    struct dmc_zarr_array zarr;
    struct dmc_plan_array plan;
    uint32_t id;
    uint64_t shape[WORLD_RANK], chunk[WORLD_RANK], grid[WORLD_RANK];
    int64_t strides[WORLD_RANK];
    uint8_t axes[WORLD_RANK], shard_order[WORLD_RANK];
    bool permuted;    /* shards count their chunks by shard_order */
    bool rectilinear; /* chunks lie where `edges` say along the axes that have some; chunk is the largest extent */
    const uint64_t *edges[WORLD_RANK];
    uint32_t edge_counts[WORLD_RANK];
    uint64_t edge_lists[WORLD_RANK][WORLD_EDGES + 1];
    struct world_object *objects;
    uint64_t object_count;
    uint64_t chunk_bytes;
};

struct world {
    struct world_array arrays[WORLD_ARRAYS];
    uint32_t array_count;
    struct dmc_plan_field fields[2];
    int64_t sample_shapes[2][WORLD_RANK];
    uint32_t field_count;
    struct dmc_plan_region regions[WORLD_REGIONS];
    struct damacy_interval boxes[WORLD_REGIONS][WORLD_RANK];
    bool reported[WORLD_REGIONS];
    struct damacy_error errors[WORLD_REGIONS];
    bool error_given[WORLD_REGIONS];
    uint32_t region_count;
    uint32_t row_count;
    struct dmc_plan_options options;
    uint32_t hosts_percent; /* of the chunks that must be decoded */
};

/* Fill in everything that follows from rank, shape, chunk, grid, dtype size and the flags. `order[a]`: place of axis a in
 * memory, 0 outermost; NULL: C order. Edges and the order of shards are there before. */
static inline void world_array_init(struct world_array *array, uint32_t id, uint32_t rank, bool sharded, bool raw,
                                    uint32_t item, const uint32_t *order)
{
    uint64_t elements = 1, per_shard = 1;
    array->id = id;
    for (uint32_t place = rank; place-- > 0;) {
        for (uint32_t a = 0; a < rank; a++) {
            if ((order ? order[a] : a) != place)
                continue;
            array->axes[place] = (uint8_t)a;
            array->strides[a] = (int64_t)elements;
            elements *= array->chunk[a];
        }
    }
    for (uint32_t a = 0; a < rank; a++) {
        if (!sharded)
            array->grid[a] = array->chunk[a];
        per_shard *= array->grid[a] / array->chunk[a];
    }
    array->chunk_bytes = elements * item;
    array->zarr = (struct dmc_zarr_array){.rank = rank,
                                          .key_rank = rank,
                                          .dtype = DAMACY_U8,
                                          .sharded = sharded,
                                          .key_encoding = {.separator = '/'},
                                          .shape = array->shape,
                                          .chunk_shape = array->chunk,
                                          .grid_shape = array->grid,
                                          .chunk_elements = elements,
                                          .chunks_per_shard = per_shard,
                                          .shard_order = array->permuted ? array->shard_order : NULL,
                                          .chunk_edges = array->rectilinear ? array->edges : NULL,
                                          .edge_counts = array->edge_counts,
                                          .fill_count = 1,
                                          .item_bytes = item};
    array->plan = (struct dmc_plan_array){.zarr = &array->zarr,
                                          .strides = array->strides,
                                          .axes = array->axes,
                                          .raw = raw,
                                          .stored_bytes_max = array->chunk_bytes + (raw ? 0 : WORLD_JUNK_MAX),
                                          .user = array};
}

/* The value of an element, little-endian bytes. */
static inline void world_value(const struct world_array *array, const uint64_t *at, uint8_t *value)
{
    uint64_t hash = array->id + 1;
    for (uint32_t a = 0; a < array->zarr.rank; a++)
        hash = dmc_hash_u64(at[a], hash);
    memcpy(value, &hash, array->zarr.item_bytes);
}

static inline bool world_next(uint64_t *at, const uint64_t *extent, uint32_t rank)
{
    for (uint32_t a = rank; a-- > 0;) {
        if (++at[a] < extent[a])
            return true;
        at[a] = 0;
    }
    return false;
}

/* The cell of the chunk grid that an element is in along one axis: its number; where it begins and how long it is. */
static inline uint64_t world_cell(const struct world_array *array, uint32_t axis, uint64_t position, uint64_t *begin,
                                  uint64_t *extent)
{
    if (!array->rectilinear || !array->edges[axis]) {
        *begin = position / array->chunk[axis] * array->chunk[axis];
        *extent = array->chunk[axis];
        return position / array->chunk[axis];
    }
    uint64_t number = 0;
    while (array->edges[axis][number + 1] <= position)
        number++;
    *begin = array->edges[axis][number];
    *extent = array->edges[axis][number + 1] - *begin;
    return number;
}

/* The form of the chunk that an element is in; returns its bytes. `origin` and `strides` may be NULL. */
static inline uint64_t world_form(const struct world_array *array, const uint64_t *position, uint64_t *origin, uint64_t *extent,
                                  uint64_t *strides)
{
    uint64_t elements = 1, begin;
    for (uint32_t a = 0; a < array->zarr.rank; a++) {
        world_cell(array, a, position[a], &begin, &extent[a]);
        if (origin)
            origin[a] = begin;
    }
    for (uint32_t place = array->zarr.rank; place-- > 0;) {
        if (strides)
            strides[array->axes[place]] = elements;
        elements *= extent[array->axes[place]];
    }
    return elements * array->zarr.item_bytes;
}

/* The decoded bytes of the chunk whose first element is at `origin`; returns how many. */
static inline uint64_t world_chunk_bytes(const struct world_array *array, const uint64_t *origin, uint8_t *out)
{
    uint64_t at[WORLD_RANK] = {0}, position[WORLD_RANK], extent[WORLD_RANK], strides[WORLD_RANK];
    uint64_t bytes = world_form(array, origin, NULL, extent, strides);
    memset(out, WORLD_POISON, bytes);
    do {
        uint64_t element = 0;
        bool inside = true;
        for (uint32_t a = 0; a < array->zarr.rank; a++) {
            element += at[a] * strides[a];
            position[a] = origin[a] + at[a];
            inside &= position[a] < array->shape[a];
        }
        if (inside)
            world_value(array, position, out + element * array->zarr.item_bytes);
    } while (world_next(at, extent, array->zarr.rank));
    return bytes;
}

/* Append an encoded chunk to an object that has room. */
static inline uint64_t world_encode(const struct world_array *array, const uint64_t *origin, uint8_t *out)
{
    if (array->plan.raw) {
        return world_chunk_bytes(array, origin, out);
    }
    uint64_t junk = world_between(0, WORLD_JUNK_MAX);
    memset(out, 0x33, junk);
    uint64_t bytes = world_chunk_bytes(array, origin, out + junk);
    for (uint64_t i = 0; i < bytes; i++)
        out[junk + i] ^= 0x5a;
    return junk + bytes;
}

static inline void world_shard_write(struct world_array *array, struct world_object *object, uint64_t absent_percent,
                                     uint64_t gap_max, uint64_t damaged_percent)
{
    uint64_t count = array->zarr.chunks_per_shard, per_axis[WORLD_RANK], at[WORLD_RANK];
    for (uint32_t a = 0; a < array->zarr.rank; a++)
        per_axis[a] = array->grid[a] / array->chunk[a];
    object->entries = calloc(count, sizeof *object->entries);
    object->damaged = calloc(count, sizeof *object->damaged);
    object->bytes = malloc(count * (array->chunk_bytes + WORLD_JUNK_MAX + gap_max) + 1);
    uint64_t *order = malloc(count * sizeof *order);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t j = world_between(0, i);
        order[i] = order[j];
        order[j] = i;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t number = order[i], rest = number, origin[WORLD_RANK];
        for (uint32_t k = array->zarr.rank; k-- > 0;) {
            uint32_t a = array->permuted ? array->shard_order[k] : k;
            at[a] = rest % per_axis[a];
            rest /= per_axis[a];
            origin[a] = object->coordinates[a] * array->grid[a] + at[a] * array->chunk[a];
        }
        struct dmc_shard_entry *entry = &object->entries[number];
        *entry = (struct dmc_shard_entry){UINT64_MAX, 0};
        if (world_chance(absent_percent))
            continue;
        object->size += gap_max ? world_between(0, gap_max) : 0;
        entry->offset = object->size;
        entry->length = world_encode(array, origin, object->bytes + object->size);
        object->size += entry->length;
        if (world_chance(damaged_percent)) {
            object->damaged[number] = true;
            entry->length += array->plan.raw ? 1 : 2 * WORLD_JUNK_MAX + 1;
        }
    }
    free(order);
}

/* Write all objects of an array. */
static inline void world_array_write(struct world_array *array, uint64_t absent_percent, uint64_t gap_max,
                                     uint64_t fails_percent, uint64_t damaged_percent)
{
    uint64_t cells[WORLD_RANK], at[WORLD_RANK] = {0};
    array->object_count = 1;
    for (uint32_t a = 0; a < array->zarr.rank; a++) {
        cells[a] = array->rectilinear && array->edges[a] ? array->edge_counts[a]
                                                         : (array->shape[a] + array->grid[a] - 1) / array->grid[a];
        array->object_count *= cells[a];
    }
    array->objects = calloc(array->object_count, sizeof *array->objects);
    for (uint64_t i = 0; i < array->object_count; i++) {
        struct world_object *object = &array->objects[i];
        memcpy(object->coordinates, at, sizeof at);
        object->absent = world_chance(absent_percent);
        object->index_fails = array->zarr.sharded && world_chance(fails_percent);
        if (array->zarr.sharded) {
            world_shard_write(array, object, absent_percent, gap_max, damaged_percent);
        } else {
            uint64_t origin[WORLD_RANK];
            for (uint32_t a = 0; a < array->zarr.rank; a++)
                origin[a] = array->rectilinear && array->edges[a] ? array->edges[a][at[a]] : at[a] * array->chunk[a];
            object->bytes = malloc(array->chunk_bytes + WORLD_JUNK_MAX);
            object->size = world_encode(array, origin, object->bytes);
            uint64_t extent[WORLD_RANK];
            object->chunk_bytes = world_form(array, origin, NULL, extent, NULL);
        }
        world_next(at, cells, array->zarr.rank);
    }
}

static inline void world_free(struct world *world)
{
    for (uint32_t i = 0; i < world->array_count; i++) {
        struct world_array *array = &world->arrays[i];
        for (uint64_t o = 0; o < array->object_count; o++) {
            free(array->objects[o].bytes);
            free(array->objects[o].entries);
            free(array->objects[o].damaged);
        }
        free(array->objects);
    }
    free(world);
}

static inline struct world_object *world_object_at(struct world_array *array, const uint64_t *coordinates)
{
    for (uint64_t o = 0; o < array->object_count; o++)
        if (memcmp(array->objects[o].coordinates, coordinates, array->zarr.rank * sizeof *coordinates) == 0)
            return &array->objects[o];
    fail_msg("no such object");
    return NULL;
}

/* Where an element is stored: its object, and, if sharded, its entry there. */
static inline struct world_object *world_find(struct world_array *array, const uint64_t *position, uint64_t *number)
{
    uint64_t coordinates[WORLD_RANK], begin, extent;
    *number = 0;
    for (uint32_t a = 0; a < array->zarr.rank; a++)
        coordinates[a] =
            array->zarr.sharded ? position[a] / array->grid[a] : world_cell(array, a, position[a], &begin, &extent);
    for (uint32_t k = 0; array->zarr.sharded && k < array->zarr.rank; k++) {
        uint32_t a = array->permuted ? array->shard_order[k] : k;
        *number = *number * (array->grid[a] / array->chunk[a]) + position[a] % array->grid[a] / array->chunk[a];
    }
    return world_object_at(array, coordinates);
}

/* --- what the planner calls --- */

static inline const struct dmc_shard_entry *world_lookup(void *user, const struct dmc_plan_array *array,
                                                         const uint64_t *coordinates, bool *failed)
{
    (void)user;
    struct world_object *object = world_object_at(array->user, coordinates);
    assert_int_equal(object->lookups++, 0); /* once a plan */
    *failed = object->index_fails;
    return object->index_fails || object->absent ? NULL : object->entries;
}

static inline void world_fail(void *user, uint32_t row, uint32_t field, const struct damacy_error *error)
{
    struct world *world = user;
    for (uint32_t r = 0; r < world->region_count; r++) {
        if (world->regions[r].row != row || world->regions[r].field != field)
            continue;
        assert_false(world->reported[r]);
        world->reported[r] = true;
        world->error_given[r] = error != NULL;
        if (error)
            world->errors[r] = *error;
        return;
    }
    fail_msg("no region of row %u, field %u", row, field);
}

/* Some chunks have a host, a third of them are kept: by their name, so that it is known afterwards which. */
static inline struct dmc_plan_source world_source(void *user, const struct dmc_chunk_ask *ask)
{
    struct world *world = user;
    const struct world_array *of = ask->array->user;
    uint64_t hash = dmc_hash_u64(ask->index, of->id);
    assert_false(ask->array->raw);
    assert_true(ask->need_begin < ask->need_end);
    return (struct dmc_plan_source){hash % 100 < world->hosts_percent ? world : NULL, hash / 100 % 3 == 0};
}

static inline enum damacy_status world_plan(struct world *world, struct dmc_arena *arena, struct dmc_plan *plan,
                                            struct damacy_error *error)
{
    struct dmc_plan_lookup lookup = {world, world_lookup, world->hosts_percent ? world_source : NULL};
    struct dmc_plan_failure failure = {.user = world, .fail_region = world_fail};
    memset(world->reported, 0, sizeof world->reported);
    for (uint32_t i = 0; i < world->array_count; i++)
        for (uint64_t o = 0; o < world->arrays[i].object_count; o++)
            world->arrays[i].objects[o].lookups = 0;
    return dmc_plan_make(world->regions, world->region_count, world->fields, world->field_count, &lookup, &failure,
                         &world->options, arena, plan, error);
}

/* --- the interpreter --- */

static inline struct world_object *world_open(const struct dmc_plan_object *named)
{
    struct world_array *array = named->array->user;
    assert_int_equal(named->sharded, array->zarr.sharded);
    for (uint64_t o = 0; o < array->object_count; o++) {
        char key[DMC_ZARR_KEY_BYTES_MAX];
        dmc_zarr_chunk_key(&array->zarr, array->objects[o].coordinates, key, sizeof key);
        if (strcmp(key, named->key) == 0)
            return &array->objects[o];
    }
    fail_msg("no object %s", named->key);
    return NULL;
}

struct world_tensor {
    uint8_t *values;
    uint8_t *writes; /* per element */
    uint64_t row_elements;
};

/* `decoded` covers chunk bytes [have_begin, have_end), from its own begin; NULL: fill. */
static inline void world_piece(const struct world *world, const struct dmc_plan *plan, const struct dmc_chunk *chunk,
                               const struct dmc_piece *piece, const uint8_t *decoded, uint64_t have_begin, uint64_t have_end,
                               struct world_tensor *tensors)
{
    const struct dmc_piece_dim *dims = &plan->dims[piece->dim_begin];
    uint32_t source_item = chunk->array->zarr->item_bytes, target_item = world->fields[piece->field].output_item_bytes;
    uint64_t at[WORLD_RANK + 1] = {0}, extent[WORLD_RANK + 1], elements = 1;
    assert_in_range(piece->dim_count, 1, chunk->array->zarr->rank);
    assert_true(piece->dim_begin + piece->dim_count <= plan->dim_count);
    assert_int_equal(dims[piece->dim_count - 1].target_stride, target_item);
    for (uint32_t d = 0; d < piece->dim_count; d++) {
        elements *= extent[d] = dims[d].extent;
        assert_true(dims[d].extent > 1 || d == piece->dim_count - 1);
    }
    assert_int_equal(elements, piece->elements);
    struct world_tensor *tensor = &tensors[piece->field];
    do {
        uint64_t source = piece->source_offset, target = piece->target_offset, value = 0;
        for (uint32_t d = 0; d < piece->dim_count; d++) {
            source += at[d] * (uint64_t)dims[d].source_stride;
            target += at[d] * (uint64_t)dims[d].target_stride;
        }
        assert_true(source >= chunk->need_begin && source + source_item <= chunk->need_end);
        assert_int_equal(target % target_item, 0);
        assert_int_equal(target / target_item / tensor->row_elements, piece->row);
        if (decoded) {
            assert_true(source >= have_begin && source + source_item <= have_end);
            memcpy(&value, decoded + (source - have_begin), source_item);
        } else {
            memset(&value, WORLD_FILL, source_item);
        }
        memcpy(tensor->values + target, &value, target_item);
        tensor->writes[target / target_item]++;
    } while (world_next(at, extent, piece->dim_count));
}

static inline void world_run_chunk(const struct world *world, const struct dmc_plan *plan, const struct dmc_chunk *chunk,
                                   const uint8_t *read, uint64_t read_bytes, struct world_tensor *tensors)
{
    const struct world_array *array = chunk->array->user;
    uint8_t *decoded = NULL;
    uint64_t have_begin = 0, have_end = chunk->chunk_bytes;
    assert_true(chunk->chunk_bytes <= array->chunk_bytes);
    if (read) {
        uint64_t stored = plan->reads[chunk->read].whole ? read_bytes : chunk->stored_bytes;
        assert_true(chunk->stored_offset + stored <= read_bytes);
        decoded = malloc(chunk->chunk_bytes);
        if (array->plan.raw) {
            have_begin = chunk->part_begin;
            have_end = have_begin + stored;
            assert_true(have_end <= chunk->chunk_bytes);
            memcpy(decoded, read + chunk->stored_offset, stored);
        } else {
            assert_true(stored >= chunk->chunk_bytes && stored <= array->plan.stored_bytes_max);
            assert_int_equal(chunk->part_begin, 0);
            const uint8_t *body = read + chunk->stored_offset + (stored - chunk->chunk_bytes);
            for (uint64_t i = 0; i < chunk->chunk_bytes; i++)
                decoded[i] = i >= chunk->need_begin && i < chunk->need_end ? body[i] ^ 0x5a : WORLD_POISON;
        }
        assert_true(chunk->need_begin >= have_begin && chunk->need_end <= have_end);
    }
    for (uint32_t p = chunk->piece_begin; p < chunk->piece_end; p++)
        world_piece(world, plan, chunk, &plan->pieces[p], decoded, have_begin, have_end, tensors);
    free(decoded);
}

static inline void world_run(const struct world *world, const struct dmc_plan *plan, struct world_tensor *tensors)
{
    for (uint32_t r = 0; r < plan->read_count; r++) {
        const struct dmc_read *read = &plan->reads[r];
        const struct world_object *object = world_open(&plan->objects[read->object]);
        bool missing = object->absent && !plan->objects[read->object].sharded;
        assert_false(object->absent && !missing);
        uint64_t bytes = read->whole ? object->size : read->length;
        assert_true(read->offset + bytes <= object->size);
        assert_true(bytes <= read->length);
        uint8_t *buffer = malloc(bytes + 1); /* exact, so that ASan sees a step outside */
        memcpy(buffer, object->bytes + read->offset, bytes);
        for (uint32_t c = read->chunk_begin; c < read->chunk_end; c++) {
            if (!plan->objects[read->object].sharded)
                assert_int_equal(plan->chunks[c].chunk_bytes, object->chunk_bytes);
            world_run_chunk(world, plan, &plan->chunks[c], missing ? NULL : buffer, bytes, tensors);
        }
        free(buffer);
    }
    for (uint32_t c = plan->absent_begin; c < plan->chunk_count; c++)
        world_run_chunk(world, plan, &plan->chunks[c], NULL, 0, tensors);
}

/* --- the one-element reader --- */

/* Must this region fail? Then `by_index` tells whether a failing index comes first in C order of its chunks. */
static inline bool world_must_fail(const struct world *world, const struct dmc_plan_region *region, bool *by_index)
{
    struct world_array *array = region->array->user;
    uint64_t at[WORLD_RANK] = {0}, extent[WORLD_RANK], position[WORLD_RANK], best = UINT64_MAX;
    bool fails = false;
    (void)world;
    for (uint32_t a = 0; a < array->zarr.rank; a++)
        extent[a] = (uint64_t)(region->aabb[a].end - region->aabb[a].begin);
    do {
        uint64_t number;
        for (uint32_t a = 0; a < array->zarr.rank; a++)
            position[a] = (uint64_t)region->aabb[a].begin + at[a];
        struct world_object *object = world_find(array, position, &number);
        uint64_t place = (uint64_t)(object - array->objects);
        bool bad = object->index_fails || (object->entries && !object->absent && object->damaged[number]);
        if (bad && place < best) {
            best = place;
            *by_index = object->index_fails;
        }
        fails |= bad;
    } while (world_next(at, extent, array->zarr.rank));
    return fails;
}

static inline void world_compare_region(const struct world *world, const struct dmc_plan_region *region,
                                        const struct world_tensor *tensor, bool failed)
{
    struct world_array *array = region->array->user;
    uint32_t item = array->zarr.item_bytes, target_item = world->fields[region->field].output_item_bytes;
    uint64_t at[WORLD_RANK] = {0}, extent[WORLD_RANK], position[WORLD_RANK], element = region->row * tensor->row_elements;
    for (uint32_t a = 0; a < array->zarr.rank; a++)
        extent[a] = (uint64_t)(region->aabb[a].end - region->aabb[a].begin);
    do {
        uint64_t number, value = 0;
        for (uint32_t a = 0; a < array->zarr.rank; a++)
            position[a] = (uint64_t)region->aabb[a].begin + at[a];
        struct world_object *object = world_find(array, position, &number);
        if (object->absent || (object->entries && dmc_shard_entry_absent(object->entries[number])))
            memset(&value, WORLD_FILL, item);
        else
            world_value(array, position, (uint8_t *)&value);
        assert_int_equal(tensor->writes[element], !failed);
        if (!failed)
            assert_memory_equal(tensor->values + element * target_item, &value, target_item);
        element++;
    } while (world_next(at, extent, array->zarr.rank));
}

/* Follow the plan and compare everything. */
static inline void world_check(const struct world *world, const struct dmc_plan *plan)
{
    struct world_tensor tensors[2] = {0};
    for (uint32_t f = 0; f < world->field_count; f++) {
        tensors[f].row_elements = 1;
        for (uint32_t a = 0; a < world->fields[f].rank; a++)
            tensors[f].row_elements *= (uint64_t)world->sample_shapes[f][a];
        tensors[f].values = calloc(world->row_count * tensors[f].row_elements, world->fields[f].output_item_bytes);
        tensors[f].writes = calloc(world->row_count * tensors[f].row_elements, 1);
    }
    world_run(world, plan, tensors);
    for (uint32_t r = 0; r < world->region_count; r++) {
        bool by_index = false;
        bool failed = world_must_fail(world, &world->regions[r], &by_index);
        assert_int_equal(world->reported[r], failed);
        if (failed) {
            assert_int_equal(world->error_given[r], !by_index);
            if (!by_index)
                assert_int_equal(world->errors[r].status, DAMACY_DECODE);
        }
        world_compare_region(world, &world->regions[r], &tensors[world->regions[r].field], failed);
    }
    for (uint32_t f = 0; f < world->field_count; f++) {
        free(tensors[f].values);
        free(tensors[f].writes);
    }
}

#endif
