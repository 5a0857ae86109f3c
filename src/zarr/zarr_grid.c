/* Shapes and chunk grids.
 *
 *     regular       {"chunk_shape": [16, 32]}
 *     rectilinear   {"kind": "inline", "chunk_shapes": [4, [1, 2, 3], [[4, 2]], [[1, 3], 3]]}
 *                   for each axis the extent of all its chunks, or a list of extents, in which [v, n] stands for n times v;
 * they may reach beyond the end of the axis, also by whole chunks, of which nobody asks
 *
 * Source: zarr-extensions, chunk-grids/rectilinear. */
#include "zarr/zarr_parse.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define GRID_PATH "chunk_grid.configuration"

static enum damacy_status too_large(const char *member, struct damacy_error *error)
{
    return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, member, "chunks of at most 2^62 bytes", "larger ones");
}

/* The product of the extents; false when it, times item_bytes, exceeds what positions in a chunk may be. */
static bool count_elements(const uint64_t *extents, uint32_t rank, uint32_t item_bytes, uint64_t *elements)
{
    uint64_t bytes = item_bytes;
    for (uint32_t axis = 0; axis < rank; axis++)
        if (!dmc_mul_u64(bytes, extents[axis], &bytes) || bytes > DMC_ZARR_CHUNK_BYTES_MAX)
            return false;
    *elements = bytes / item_bytes;
    return true;
}

enum damacy_status dmc_zarr_shape_read(dmc_json *value, struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    size_t key_rank = dmc_json_count(value), rank = key_rank + draft->trailing;
    if (dmc_json_type(value) != DMC_JSON_ARRAY)
        return dmc_zarr_wrong(error, DAMACY_DECODE, "shape", "a list of integers", value);
    if (rank > DAMACY_RANK_MAX) {
        char expected[32], found[48];
        snprintf(expected, sizeof expected, "at most %d axes", DAMACY_RANK_MAX);
        snprintf(found, sizeof found, draft->trailing ? "%zu axes with those of the dtype" : "%zu axes", rank);
        return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, "shape", expected, found);
    }
    draft->array.key_rank = (uint32_t)key_rank;
    draft->array.rank = (uint32_t)rank;
    memcpy(draft->shape + key_rank, draft->trailing_extents, draft->trailing * sizeof *draft->shape);
    return dmc_zarr_extents_read(value, "shape", draft->array.key_rank, 0, draft->shape, error);
}

/* The grid's extents of the first key_rank axes are known: the rest of them, and whether a chunk has a size. */
static enum damacy_status extents_finish(struct dmc_zarr_draft *draft, const char *member, struct damacy_error *error)
{
    struct dmc_zarr_array *array = &draft->array;
    uint64_t records;
    memcpy(draft->grid_shape + array->key_rank, draft->trailing_extents, draft->trailing * sizeof *draft->grid_shape);
    if (!count_elements(draft->grid_shape, array->rank, array->item_bytes, &array->chunk_elements))
        return too_large(member, error);
    if (draft->member.chosen && !count_elements(draft->grid_shape, array->key_rank, draft->member.record_bytes, &records))
        return too_large(member, error);
    return DAMACY_OK;
}

/* Extents of chunks. zarr-python and dask wrote 0 on axes of extent 0, which have no chunks (chunks=-1): read as 1, or as the
 * inner chunk's extent. zarr-python 2 also wrote `true` there for 1. */
static enum damacy_status chunk_extents_read(dmc_json *value, const char *member, struct dmc_zarr_draft *draft,
                                             struct damacy_error *error)
{
    uint32_t rank = draft->array.key_rank;
    enum damacy_status status = dmc_zarr_extents_read(value, member, rank, 0, draft->grid_shape, error);
    for (uint32_t axis = 0; !status && axis < rank; axis++) {
        if (draft->grid_shape[axis])
            continue;
        if (draft->shape[axis]) {
            char path[160];
            dmc_zarr_element_path(path, sizeof path, member, axis);
            return dmc_zarr_wrong(error, DAMACY_DECODE, path, "an integer from 1 to 2^63-1", dmc_json_at(value, axis));
        }
        draft->grid_shape[axis] = 1;
        draft->any_extent[axis] = true;
    }
    return status ? status : extents_finish(draft, member, error);
}

/* --- rectilinear --- */

static enum damacy_status edge_append(struct dmc_zarr_draft *draft, uint64_t boundary, struct damacy_error *error)
{
    if (!draft->edges) {
        draft->edges = dmc_malloc(DMC_ZARR_EDGES_MAX * sizeof *draft->edges);
        if (!draft->edges)
            return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for the boundaries of the chunk grid");
    }
    if (draft->edge_total == DMC_ZARR_EDGES_MAX) {
        char expected[64];
        snprintf(expected, sizeof expected, "at most %d boundaries of chunks", DMC_ZARR_EDGES_MAX);
        return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, GRID_PATH ".chunk_shapes", expected, "more");
    }
    draft->edges[draft->edge_total++] = boundary;
    return DAMACY_OK;
}

/* An entry: a number, or [v, n]. */
static bool read_run(dmc_json *entry, uint64_t *extent, uint64_t *count)
{
    *count = 1;
    if (dmc_json_type(entry) == DMC_JSON_ARRAY)
        return dmc_json_count(entry) == 2 && dmc_zarr_u64(dmc_json_at(entry, 0), extent) &&
               dmc_zarr_u64(dmc_json_at(entry, 1), count) && *extent >= 1 && *extent <= INT64_MAX && *count >= 1;
    return dmc_zarr_u64(entry, extent) && *extent >= 1 && *extent <= INT64_MAX;
}

/* The list of one axis. Runs are not unrolled beyond the end of the axis, so that "[1, 2^60]" costs nothing; and where all
 * chunks that count have one extent, the axis is a regular one. */
static enum damacy_status axis_read(dmc_json *list, uint32_t axis, const char *path, struct dmc_zarr_draft *draft,
                                    struct damacy_error *error)
{
    uint64_t end = draft->shape[axis], at = 0, largest = 0, first = 0;
    uint32_t begin = draft->edge_total;
    bool uniform = true;
    enum damacy_status status = edge_append(draft, 0, error);
    for (size_t i = 0; !status && i < dmc_json_count(list); i++) {
        uint64_t extent = 0, count = 0;
        if (!read_run(dmc_json_at(list, i), &extent, &count)) {
            char entry[180];
            dmc_zarr_element_path(entry, sizeof entry, path, i);
            return dmc_zarr_wrong(error, DAMACY_DECODE, entry,
                                  "an extent from 1 to 2^63-1, or a list of an extent and how often it comes",
                                  dmc_json_at(list, i));
        }
        first = first ? first : extent;
        if (at >= end) { /* of chunks wholly beyond the end nothing counts; on an axis of extent 0 the first says a size */
            largest = largest ? largest : extent;
            continue;
        }
        uniform = uniform && extent == first;
        largest = dmc_max_u64(largest, extent);
        if (uniform) { /* no boundaries yet: all are multiples */
            uint64_t needed = dmc_ceil_div(end - at, extent), taken = dmc_min_u64(needed, count), sum;
            if (!dmc_mul_u64(taken, extent, &sum) || !dmc_add_u64(at, sum, &at) || at > (uint64_t)INT64_MAX * 2)
                at = UINT64_MAX;
            continue;
        }
        if (draft->edge_total == begin + 1) { /* the first that differs: what came before, one by one */
            uint64_t before = at;
            for (uint64_t k = first; !status && k <= before; k += first)
                status = edge_append(draft, k, error);
        }
        for (; !status && count > 0 && at < end; count--) {
            if (!dmc_add_u64(at, extent, &at))
                at = UINT64_MAX;
            status = edge_append(draft, at, error);
        }
    }
    if (status)
        return status;
    largest = largest || end ? largest : 1; /* no chunks, no elements */
    if (at < end || !largest) {
        char expected[80], found[48];
        snprintf(expected, sizeof expected, "chunks that reach to the end of the axis, %llu", (unsigned long long)end);
        snprintf(found, sizeof found, "ones that reach to %llu", (unsigned long long)at);
        return dmc_zarr_wrong_text(error, DAMACY_DECODE, path, expected, found);
    }
    draft->grid_shape[axis] = largest;
    draft->edge_counts[axis] = uniform ? 0 : draft->edge_total - begin - 1;
    if (uniform)
        draft->edge_total = begin;
    return DAMACY_OK;
}

static enum damacy_status rectilinear_read(dmc_json *configuration, struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    static const char *const known[] = {"kind", "chunk_shapes", NULL};
    static const char member[] = GRID_PATH ".chunk_shapes";
    enum damacy_status status = dmc_zarr_members_check(configuration, GRID_PATH, known, error);
    if (status)
        return status;
    dmc_json *kind = dmc_json_get(configuration, "kind"), *shapes = dmc_json_get(configuration, "chunk_shapes");
    if (!dmc_zarr_string_is(kind, "inline"))
        return dmc_zarr_wrong(error, dmc_json_type(kind) == DMC_JSON_STRING ? DAMACY_UNSUPPORTED : DAMACY_DECODE,
                              GRID_PATH ".kind", "\"inline\"", kind);
    uint32_t rank = draft->array.key_rank;
    if (dmc_json_type(shapes) != DMC_JSON_ARRAY || dmc_json_count(shapes) != rank) {
        char expected[80];
        snprintf(expected, sizeof expected, "a list of %u entries, one for each axis of shape", rank);
        return dmc_zarr_wrong(error, DAMACY_DECODE, member, expected, shapes);
    }
    for (uint32_t axis = 0; !status && axis < rank; axis++) {
        dmc_json *entry = dmc_json_at(shapes, axis);
        char path[160];
        dmc_zarr_element_path(path, sizeof path, member, axis);
        if (dmc_json_type(entry) == DMC_JSON_ARRAY) {
            status = axis_read(entry, axis, path, draft, error);
        } else if (!dmc_zarr_u64(entry, &draft->grid_shape[axis]) || draft->grid_shape[axis] < 1 ||
                   draft->grid_shape[axis] > INT64_MAX) {
            return dmc_zarr_wrong(error, DAMACY_DECODE, path, "an extent from 1 to 2^63-1, or a list of them", entry);
        }
    }
    return status ? status : extents_finish(draft, member, error);
}

enum damacy_status dmc_zarr_grid_read(dmc_json *value, struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    static const char *const known[] = {"chunk_shape", NULL};
    struct dmc_zarr_named named;
    enum damacy_status status = dmc_zarr_named_read(value, "chunk_grid", &named, error);
    if (status)
        return status;
    if (strcmp(named.name, "rectilinear") == 0)
        return rectilinear_read(named.configuration, draft, error);
    if (strcmp(named.name, "regular") != 0) {
        char quoted[DMC_ZARR_QUOTE_BYTES];
        return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, "chunk_grid", "regular or rectilinear",
                                   dmc_zarr_quote(quoted, named.name, strlen(named.name)));
    }
    status = dmc_zarr_members_check(named.configuration, GRID_PATH, known, error);
    return status
               ? status
               : chunk_extents_read(dmc_json_get(named.configuration, "chunk_shape"), GRID_PATH ".chunk_shape", draft, error);
}

enum damacy_status dmc_zarr_chunks_read_v2(dmc_json *value, struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    return chunk_extents_read(value, "chunks", draft, error);
}

/* The number of an array's chunks, those past its end included, must be countable: messages and planning number them. */
static bool grid_is_countable(const struct dmc_zarr_draft *draft)
{
    uint64_t count = draft->array.chunks_per_shard;
    for (uint32_t axis = 0; axis < draft->array.rank; axis++) {
        uint64_t chunks =
            draft->edge_counts[axis] ? draft->edge_counts[axis] : dmc_ceil_div(draft->shape[axis], draft->grid_shape[axis]);
        if (!dmc_mul_u64(count, dmc_max_u64(1, chunks), &count) || count > INT64_MAX)
            return false;
    }
    return true;
}

enum damacy_status dmc_zarr_grid_finish(struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    struct dmc_zarr_array *array = &draft->array;
    if (array->sharded) /* chunks are smaller than the shard, which was checked: this cannot fail */
        count_elements(draft->chunk_shape, array->rank, array->item_bytes, &array->chunk_elements);
    if (!grid_is_countable(draft))
        return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, "shape", "an array of fewer than 2^63 chunks", "more");
    return DAMACY_OK;
}
