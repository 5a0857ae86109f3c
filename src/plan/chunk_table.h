/* What a batch touches, each thing once: arrays, grid chunks (shards, or unsharded chunks) and chunks.
 *
 * A chunk's name is (grid chunk, number inside it), and a grid chunk's is (array, coordinates): no number over a whole array is
 * ever needed, since with shapes up to 2^63 it would not fit 64 bits. Hash tables with open addressing in the arena, sized once
 * from counts that the planner knows beforehand, so they never grow. Ids are given in the order of first touch, which makes
 * every later order deterministic. */
#ifndef DMC_CHUNK_TABLE_H
#define DMC_CHUNK_TABLE_H

#include "base/hash.h"
#include "plan/grid_walk.h"
#include "plan/plan.h"
#include "plan/plan_memory.h"

#define DMC_ID_NONE UINT32_MAX

/* What may be read as one: the array's own limits, or those of the options. */
struct dmc_plan_limits {
    uint64_t gap_bytes;
    uint64_t span_gap_bytes;
    uint64_t read_bytes_max;
};

/* An array, with the products over its axes that the planner needs. */
struct dmc_grid_array {
    const struct dmc_plan_array *array;
    struct dmc_plan_limits limits;
    const uint64_t *const *edges; /* of chunks; NULL: all have one shape, as inside of shards */
    uint64_t chunk_bytes;         /* decoded; the largest where chunks differ */
    bool cut;                     /* raw, and spans may be read alone */
    bool numbered;                /* the number of its chunks fits 64 bits */
    uint64_t *counts;             /* chunks in a grid chunk, per axis */
    uint64_t *steps;              /* of a chunk's number within its grid chunk, per axis; where shards differ, see
                                   * dmc_grid_shard_steps() */
    uint64_t *index_steps;        /* of a chunk's number within the array, per axis */
    uint64_t *byte_strides;       /* within a decoded chunk, per axis; where chunks differ, see dmc_grid_strides() */
};

enum dmc_grid_state { DMC_GRID_PRESENT, DMC_GRID_ABSENT, DMC_GRID_FAILED };

/* A shard, or an unsharded chunk. */
struct dmc_grid_object {
    const struct dmc_grid_array *array;
    const uint64_t *coordinates;
    const struct dmc_shard_entry *entries; /* sharded and present */
    uint64_t index_base;                   /* number within the array of its first chunk */
    uint64_t chunk_bytes;                  /* decoded, of each of its chunks */
    enum dmc_grid_state state;
    uint32_t only_chunk; /* unsharded: slot of its one chunk */
};

/* A chunk. */
struct dmc_grid_chunk {
    uint32_t object;
    uint32_t touch_count;
    uint32_t last_touch; /* touches are chained backwards, so that those of a failed region come off the end */
    uint64_t number;     /* within its grid chunk */
    uint64_t index;      /* within the array, for messages */
    uint64_t offset;     /* of the stored bytes in the object; UINT64_MAX: absent */
    uint64_t length;     /* UINT64_MAX: known only after reading */
};

struct dmc_chunk_table {
    struct dmc_plan_memory *memory;
    const struct dmc_plan_options *options;
    struct dmc_grid_array *arrays;
    struct dmc_grid_object *objects;
    struct dmc_grid_chunk *chunks;
    uint32_t array_count, object_count, chunk_count;
    uint32_t array_max, object_max, chunk_max;
    uint32_t *array_slots, *object_slots, *chunk_slots; /* id + 1; 0: empty */
    uint64_t array_mask, object_mask, chunk_mask;
};

/* Make room for so many of each (below 2^31). false: the arena is short. */
bool dmc_chunk_table_init(struct dmc_chunk_table *table, struct dmc_plan_memory *memory, uint32_t array_max,
                          uint32_t object_max, uint32_t chunk_max, const struct dmc_plan_options *options);

/* Find or enter an array. NULL: the arena is short. */
const struct dmc_grid_array *dmc_chunk_table_array(struct dmc_chunk_table *table, const struct dmc_plan_array *array);

/* The steps of a chunk's number within the shard at these coordinates. */
void dmc_grid_shard_steps(const struct dmc_zarr_array *zarr, const uint64_t *coordinates, uint64_t *steps);

/* The byte strides within the decoded chunk at these coordinates of a grid whose chunks differ in shape. */
void dmc_grid_strides(const struct dmc_grid_array *array, const uint64_t *coordinates, uint64_t *strides);

/* Find or enter a grid chunk; the first time its shard is looked up. DMC_ID_NONE: the arena is short. */
uint32_t dmc_chunk_table_object(struct dmc_chunk_table *table, const struct dmc_grid_array *array, const uint64_t *coordinates,
                                const struct dmc_plan_lookup *lookup);

/* The slot of a chunk: id + 1, or 0 when it is new, and then dmc_chunk_table_enter() may fill it. */
static inline uint32_t *dmc_chunk_table_slot(struct dmc_chunk_table *table, uint32_t object, uint64_t number)
{
    if (!table->objects[object].array->array->zarr->sharded)
        return &table->objects[object].only_chunk;
    uint64_t i = dmc_hash_u64(number, object) & table->chunk_mask;
    while (table->chunk_slots[i] != 0) {
        const struct dmc_grid_chunk *chunk = &table->chunks[table->chunk_slots[i] - 1];
        if (chunk->number == number && chunk->object == object)
            break;
        i = (i + 1) & table->chunk_mask;
    }
    return &table->chunk_slots[i];
}

/* A new chunk in an empty slot. The caller fills it. */
static inline struct dmc_grid_chunk *dmc_chunk_table_enter(struct dmc_chunk_table *table, uint32_t *slot)
{
    struct dmc_grid_chunk *chunk = &table->chunks[table->chunk_count++];
    *slot = table->chunk_count;
    return chunk;
}

#endif
