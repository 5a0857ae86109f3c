#include "plan/chunk_table.h"

#include "base/bytes.h"
#include <assert.h>

/* At most half of the slots are ever taken, which keeps the probes short. */
static uint32_t *slots_alloc(struct dmc_plan_memory *memory, uint32_t max, uint64_t *mask)
{
    uint64_t count = 16;
    while (count < 2 * (uint64_t)max)
        count *= 2;
    uint32_t *slots = dmc_plan_alloc(memory, uint32_t, count);
    if (slots)
        memset(slots, 0, count * sizeof *slots);
    *mask = count - 1;
    return slots;
}

bool dmc_chunk_table_init(struct dmc_chunk_table *table, struct dmc_plan_memory *memory, uint32_t array_max,
                          uint32_t object_max, uint32_t chunk_max, const struct dmc_plan_options *options)
{
    *table = (struct dmc_chunk_table){
        .memory = memory, .options = options, .array_max = array_max, .object_max = object_max, .chunk_max = chunk_max};
    table->arrays = dmc_plan_alloc(memory, struct dmc_grid_array, array_max);
    table->objects = dmc_plan_alloc(memory, struct dmc_grid_object, object_max);
    table->chunks = dmc_plan_alloc(memory, struct dmc_grid_chunk, chunk_max);
    table->array_slots = slots_alloc(memory, array_max, &table->array_mask);
    table->object_slots = slots_alloc(memory, object_max, &table->object_mask);
    table->chunk_slots = slots_alloc(memory, chunk_max, &table->chunk_mask);
    return table->arrays && table->objects && table->chunks && table->array_slots && table->object_slots && table->chunk_slots;
}

static struct dmc_plan_limits limits_of(const struct dmc_plan_array *array, const struct dmc_plan_options *options)
{
    struct dmc_plan_limits limits = {options->coalesce_gap_bytes, options->span_gap_bytes, options->coalesce_read_bytes_max};
    if (array->coalesce_gap_bytes)
        limits.gap_bytes = limits.span_gap_bytes = array->coalesce_gap_bytes;
    if (limits.span_gap_bytes == 0)
        limits.span_gap_bytes = limits.gap_bytes;
    if (array->coalesce_read_bytes_max)
        limits.read_bytes_max = array->coalesce_read_bytes_max;
    return limits;
}

/* The products over the axes, innermost first. Those over a grid chunk fit because the metadata said so (chunks_per_shard); the
 * one over the array may not, and then its chunks have no number. */
static bool grid_array_init(struct dmc_grid_array *grid, const struct dmc_plan_array *array, struct dmc_plan_memory *memory,
                            const struct dmc_plan_options *options)
{
    const struct dmc_zarr_array *zarr = array->zarr;
    uint32_t rank = zarr->rank;
    uint64_t *numbers = dmc_plan_alloc(memory, uint64_t, (size_t)rank * 4);
    if (!numbers)
        return false;
    *grid = (struct dmc_grid_array){.array = array,
                                    .limits = limits_of(array, options),
                                    .edges = zarr->sharded ? NULL : zarr->chunk_edges,
                                    .chunk_bytes = zarr->chunk_elements * zarr->item_bytes,
                                    .cut = array->raw && !options->whole_chunks,
                                    .numbered = true,
                                    .counts = numbers,
                                    .steps = numbers + rank,
                                    .index_steps = numbers + 2 * rank,
                                    .byte_strides = numbers + 3 * rank};
    uint64_t step = 1, index_step = 1;
    for (uint32_t a = rank; a-- > 0;) {
        grid->counts[a] = zarr->sharded ? zarr->grid_shape[a] / zarr->chunk_shape[a] : 1;
        grid->index_steps[a] = index_step;
        grid->byte_strides[a] = (uint64_t)array->strides[a] * zarr->item_bytes;
        uint64_t cells =
            grid->edges && grid->edges[a] ? zarr->edge_counts[a] : dmc_ceil_div(zarr->shape[a], zarr->chunk_shape[a]);
        grid->numbered &= dmc_mul_u64(index_step, cells, &index_step);
    }
    for (uint32_t i = rank; i-- > 0;) { /* a shard counts its chunks in its own order of axes */
        uint32_t a = zarr->shard_order ? zarr->shard_order[i] : i;
        grid->steps[a] = step;
        step *= grid->counts[a];
    }
    return true;
}

void dmc_grid_shard_steps(const struct dmc_zarr_array *zarr, const uint64_t *coordinates, uint64_t *steps)
{
    uint64_t step = 1;
    for (uint32_t i = zarr->rank; i-- > 0;) {
        uint32_t a = zarr->shard_order ? zarr->shard_order[i] : i;
        steps[a] = step;
        step *= dmc_zarr_grid_extent(zarr, a, coordinates[a]) / zarr->chunk_shape[a];
    }
}

void dmc_grid_strides(const struct dmc_grid_array *array, const uint64_t *coordinates, uint64_t *strides)
{
    const struct dmc_zarr_array *zarr = array->array->zarr;
    uint64_t bytes = zarr->item_bytes;
    for (uint32_t i = zarr->rank; i-- > 0;) {
        uint32_t a = array->array->axes ? array->array->axes[i] : i;
        strides[a] = bytes;
        bytes *= dmc_grid_cell(zarr->chunk_shape, array->edges, coordinates, a);
    }
}

static uint64_t chunk_bytes_at(const struct dmc_grid_array *array, const uint64_t *coordinates)
{
    const struct dmc_zarr_array *zarr = array->array->zarr;
    if (!array->edges)
        return array->chunk_bytes;
    uint64_t bytes = zarr->item_bytes; /* no more than the largest chunk's: that was checked when the metadata were read */
    for (uint32_t a = 0; a < zarr->rank; a++)
        bytes *= dmc_grid_cell(zarr->chunk_shape, array->edges, coordinates, a);
    return bytes;
}

const struct dmc_grid_array *dmc_chunk_table_array(struct dmc_chunk_table *table, const struct dmc_plan_array *array)
{
    uint64_t i = dmc_hash_u64((uintptr_t)array, 0) & table->array_mask;
    for (; table->array_slots[i] != 0; i = (i + 1) & table->array_mask) {
        const struct dmc_grid_array *grid = &table->arrays[table->array_slots[i] - 1];
        if (grid->array == array)
            return grid;
    }
    assert(table->array_count < table->array_max);
    struct dmc_grid_array *grid = &table->arrays[table->array_count];
    if (!grid_array_init(grid, array, table->memory, table->options))
        return NULL;
    table->array_slots[i] = ++table->array_count;
    return grid;
}

static void object_look_up(struct dmc_grid_object *object, const struct dmc_plan_lookup *lookup)
{
    const struct dmc_plan_array *array = object->array->array;
    object->state = DMC_GRID_PRESENT;
    if (!array->zarr->sharded)
        return;
    bool failed = false;
    object->entries = lookup->shard(lookup->user, array, object->coordinates, &failed);
    if (failed)
        object->state = DMC_GRID_FAILED;
    else if (!object->entries)
        object->state = DMC_GRID_ABSENT;
}

uint32_t dmc_chunk_table_object(struct dmc_chunk_table *table, const struct dmc_grid_array *array, const uint64_t *coordinates,
                                const struct dmc_plan_lookup *lookup)
{
    uint32_t rank = array->array->zarr->rank;
    uint64_t hash = (uint64_t)(array - table->arrays);
    for (uint32_t a = 0; a < rank; a++)
        hash = dmc_hash_u64(coordinates[a], hash);
    uint64_t i = hash & table->object_mask;
    for (; table->object_slots[i] != 0; i = (i + 1) & table->object_mask) {
        const struct dmc_grid_object *object = &table->objects[table->object_slots[i] - 1];
        if (object->array == array && memcmp(object->coordinates, coordinates, rank * sizeof *coordinates) == 0)
            return table->object_slots[i] - 1;
    }
    assert(table->object_count < table->object_max);
    uint64_t *copy = dmc_plan_alloc(table->memory, uint64_t, rank);
    if (!copy)
        return DMC_ID_NONE;
    memcpy(copy, coordinates, rank * sizeof *copy);
    struct dmc_grid_object *object = &table->objects[table->object_count];
    *object = (struct dmc_grid_object){.array = array, .coordinates = copy, .chunk_bytes = chunk_bytes_at(array, copy)};
    const struct dmc_zarr_array *zarr = array->array->zarr;
    bool uneven = zarr->sharded && zarr->chunk_edges;
    for (uint32_t a = 0; a < rank; a++) { /* wraps only where the array is not numbered */
        uint64_t first =
            uneven ? dmc_zarr_grid_begin(zarr, a, coordinates[a]) / zarr->chunk_shape[a] : coordinates[a] * array->counts[a];
        object->index_base += first * array->index_steps[a];
    }
    object_look_up(object, lookup);
    table->object_slots[i] = ++table->object_count;
    return table->object_count - 1;
}
