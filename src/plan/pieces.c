#include "plan/pieces.h"

#include "base/error.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

uint32_t dmc_piece_dims_max(uint32_t rank, const uint64_t *extent)
{
    uint32_t count = 1; /* the last axis may stay with extent 1 */
    for (uint32_t a = 0; a + 1 < rank; a++)
        count += extent[a] > 1;
    return count;
}

uint32_t dmc_piece_dims(uint32_t rank, const uint64_t *extent, const uint64_t *source_strides, const uint64_t *target_strides,
                        uint32_t source_item, uint32_t target_item, struct dmc_piece_dim *dims)
{
    uint32_t count = 0;
    for (uint32_t a = 0; a < rank; a++) {
        if (extent[a] == 1)
            continue;
        int64_t source = (int64_t)source_strides[a], target = (int64_t)target_strides[a], axis = (int64_t)extent[a];
        uint64_t outer = 1;
        if (count > 0 && dims[count - 1].source_stride == source * axis && dims[count - 1].target_stride == target * axis)
            outer = dims[--count].extent;
        dims[count++] = (struct dmc_piece_dim){outer * extent[a], source, target};
    }
    if (count == 0 || dims[count - 1].target_stride != target_item)
        dims[count++] = (struct dmc_piece_dim){1, source_item, target_item};
    return count;
}

static void region_take_back(struct dmc_plan_work *work, uint32_t touch_begin, uint32_t dim_begin)
{
    while (work->touch_count > touch_begin) {
        const struct dmc_touch *touch = &work->touches[--work->touch_count];
        struct dmc_grid_chunk *chunk = &work->table.chunks[touch->chunk];
        chunk->last_touch = touch->previous;
        chunk->touch_count--;
    }
    work->dim_count = dim_begin;
}

/* What is wrong with an entry of a shard index, or NULL. Raw chunks have one right length, coded ones a range. An empty one
 * holds no coded chunk; that an end beyond 2^64 is none is checked here since the index may have been decoded without the
 * object's size. */
static const char *entry_fault(const struct dmc_grid_array *array, struct dmc_shard_entry entry, char *expected,
                               size_t capacity)
{
    uint64_t end;
    if (!dmc_add_u64(entry.offset, entry.length, &end)) {
        snprintf(expected, capacity, "a range that ends before 2^64");
        return "reaches beyond every object";
    }
    if (array->array->raw && entry.length != array->chunk_bytes) {
        snprintf(expected, capacity, "%" PRIu64 " bytes", array->chunk_bytes);
        return "has another length than an uncompressed chunk";
    }
    if (entry.length > array->array->stored_bytes_max) {
        snprintf(expected, capacity, "at most %" PRIu64 " bytes", array->array->stored_bytes_max);
        return "is longer than any encoding of a chunk";
    }
    if (entry.length == 0) {
        snprintf(expected, capacity, "at least 1 byte");
        return "is empty";
    }
    return NULL;
}

static __attribute__((noinline, cold)) void fail_damaged(const struct dmc_plan_work *work, const struct dmc_plan_region *region,
                                                         const struct dmc_grid_object *object, uint64_t number)
{
    struct dmc_shard_entry entry = object->entries[number];
    struct damacy_error error;
    char expected[64], found[64], key[sizeof error.key] = "";
    const char *fault = entry_fault(object->array, entry, expected, sizeof expected);
    snprintf(found, sizeof found, "%" PRIu64 " bytes at %" PRIu64, entry.length, entry.offset);
    dmc_error_set(&error, DAMACY_DECODE, "index", "the shard index's entry for inner chunk %" PRIu64 " %s", number, fault);
    dmc_error_expected(&error, expected, found);
    const struct dmc_plan_array *array = object->array->array;
    size_t path_bytes = 0;
    if (array->path && array->path[0])
        path_bytes = (size_t)snprintf(key, sizeof key, "%s/", array->path);
    if (path_bytes < sizeof key)
        dmc_zarr_chunk_key(array->zarr, object->coordinates, key + path_bytes, sizeof key - path_bytes);
    uint64_t end;
    if (!dmc_add_u64(entry.offset, entry.length, &end))
        end = UINT64_MAX;
    dmc_error_where(&error, NULL, key, entry.offset, end);
    work->failure->fail_region(work->failure->user, region->row, region->field, &error);
}

/* Where a chunk's bytes are; false when its entry is damaged. */
static inline bool chunk_place(const struct dmc_grid_object *object, uint64_t number, struct dmc_grid_chunk *chunk)
{
    const struct dmc_grid_array *array = object->array;
    chunk->offset = 0;
    chunk->length = array->array->raw ? object->chunk_bytes : UINT64_MAX;
    if (object->state == DMC_GRID_ABSENT) {
        chunk->offset = UINT64_MAX;
        chunk->length = 0;
    } else if (object->entries) {
        struct dmc_shard_entry entry = object->entries[number];
        chunk->offset = entry.offset;
        chunk->length = entry.length;
        char expected[64];
        return dmc_shard_entry_absent(entry) || !entry_fault(array, entry, expected, sizeof expected);
    }
    return true;
}

/* Find or enter the chunk at `inner` of an object; DMC_ID_NONE when its entry is damaged (such a chunk never enters the table,
 * so each region that touches it fails for itself). */
static inline uint32_t chunk_find(struct dmc_plan_work *work, uint32_t object_id, const struct dmc_grid_walk *inner,
                                  uint64_t number)
{
    uint32_t *slot = dmc_chunk_table_slot(&work->table, object_id, number);
    if (*slot != 0)
        return *slot - 1;
    const struct dmc_grid_object *object = &work->table.objects[object_id];
    struct dmc_grid_chunk found;
    if (!chunk_place(object, number, &found))
        return DMC_ID_NONE;
    found.object = object_id;
    found.number = number;
    found.touch_count = 0;
    found.last_touch = DMC_ID_NONE;
    found.index = object->index_base;
    for (uint32_t a = 0; a < inner->rank; a++)
        found.index += inner->at[a] * object->array->index_steps[a];
    if (!object->array->numbered)
        found.index = DMC_CHUNK_INDEX_NONE;
    *dmc_chunk_table_enter(&work->table, slot) = found;
    return work->table.chunk_count - 1;
}

static inline void touch_add(struct dmc_plan_work *work, const struct dmc_plan_region *region,
                             const struct dmc_grid_array *array, const struct dmc_grid_walk *outer,
                             const struct dmc_grid_walk *inner, uint32_t chunk_id)
{
    const struct dmc_plan_target *target = &work->targets[region->field];
    struct dmc_touch *touch = &work->touches[work->touch_count];
    uint64_t source_begin = 0, source_last = 0, elements = 1, target_offset = region->row * target->row_bytes;
    uint64_t own_strides[DAMACY_RANK_MAX];
    const uint64_t *byte_strides = array->byte_strides;
    if (__builtin_expect(array->edges != NULL, 0)) {
        dmc_grid_strides(array, outer->at, own_strides);
        byte_strides = own_strides;
    }
    for (uint32_t a = 0; a < inner->rank; a++) {
        source_begin += inner->local_begin[a] * byte_strides[a];
        source_last += (inner->extent[a] - 1) * byte_strides[a];
        target_offset += (outer->target[a] + inner->target[a]) * target->strides[a];
        elements *= inner->extent[a];
    }
    uint32_t item = array->array->zarr->item_bytes;
    struct dmc_grid_chunk *chunk = &work->table.chunks[chunk_id];
    touch->piece = (struct dmc_piece){
        .row = region->row,
        .field = region->field,
        .source_offset = source_begin,
        .target_offset = target_offset,
        .elements = elements,
        .dim_begin = work->dim_count,
        .dim_count = dmc_piece_dims(inner->rank, inner->extent, byte_strides, target->strides, item,
                                    target->field->output_item_bytes, &work->dims[work->dim_count]),
    };
    touch->chunk = chunk_id;
    touch->previous = chunk->last_touch;
    touch->source_end = source_begin + source_last + item;
    chunk->last_touch = work->touch_count++;
    chunk->touch_count++;
    work->dim_count += touch->piece.dim_count;
}

/* The chunks of one object. false: an entry is damaged, and *damaged tells which. */
static bool object_walk(struct dmc_plan_work *work, const struct dmc_plan_region *region, const struct dmc_grid_array *array,
                        const struct dmc_grid_walk *outer, uint32_t object_id, uint64_t *damaged)
{
    const struct dmc_zarr_array *zarr = array->array->zarr;
    struct dmc_grid_walk inner;
    uint64_t own_steps[DAMACY_RANK_MAX];
    const uint64_t *steps = array->steps;
    if (__builtin_expect(zarr->chunk_edges != NULL, 0) && zarr->sharded) {
        dmc_grid_shard_steps(zarr, outer->at, own_steps);
        steps = own_steps;
    }
    dmc_grid_walk_init(&inner, outer->rank, outer->local_begin, outer->extent, zarr->chunk_shape, NULL, NULL);
    do {
        uint64_t number = 0;
        for (uint32_t a = 0; a < inner.rank; a++)
            number += inner.at[a] * steps[a];
        uint32_t chunk = chunk_find(work, object_id, &inner, number);
        if (chunk == DMC_ID_NONE) {
            *damaged = number;
            return false;
        }
        touch_add(work, region, array, outer, &inner, chunk);
    } while (dmc_grid_walk_next(&inner));
    return true;
}

bool dmc_pieces_of_region(struct dmc_plan_work *work, const struct dmc_plan_region *region)
{
    const struct dmc_grid_array *array = dmc_chunk_table_array(&work->table, region->array);
    if (!array)
        return false;
    const struct dmc_zarr_array *zarr = region->array->zarr;
    uint64_t begin[DAMACY_RANK_MAX], extent[DAMACY_RANK_MAX];
    for (uint32_t a = 0; a < zarr->rank; a++) {
        begin[a] = (uint64_t)region->aabb[a].begin;
        extent[a] = (uint64_t)(region->aabb[a].end - region->aabb[a].begin);
    }
    uint32_t touch_begin = work->touch_count, dim_begin = work->dim_count;
    struct dmc_grid_walk outer;
    dmc_grid_walk_init(&outer, zarr->rank, begin, extent, zarr->grid_shape, zarr->chunk_edges, zarr->edge_counts);
    do {
        uint32_t object_id = dmc_chunk_table_object(&work->table, array, outer.at, work->lookup);
        if (object_id == DMC_ID_NONE)
            return false;
        const struct dmc_grid_object *object = &work->table.objects[object_id];
        uint64_t damaged;
        if (object->state == DMC_GRID_FAILED) {
            region_take_back(work, touch_begin, dim_begin);
            work->failure->fail_region(work->failure->user, region->row, region->field, NULL);
            return true;
        }
        if (!object_walk(work, region, array, &outer, object_id, &damaged)) {
            region_take_back(work, touch_begin, dim_begin);
            fail_damaged(work, region, object, damaged);
            return true;
        }
    } while (dmc_grid_walk_next(&outer));
    return true;
}
