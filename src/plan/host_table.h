/* Which chunks a batch decodes: so the plan of a later batch finds those that it need not decode itself. Made with the plan, in
 * its arena, and not changed afterwards; a hash table with open addressing. */
#ifndef DMC_HOST_TABLE_H
#define DMC_HOST_TABLE_H

#include "base/hash.h"
#include "plan/plan.h"

struct dmc_host_table {
    const struct dmc_plan *plan; /* NULL: there is nothing in it */
    uint64_t *entries;           /* upper half of the hash << 32 | chunk + 1; 0: empty */
    uint64_t mask;
};

/* List the chunks of a plan that are read by itself and decoded. Where there are none, or the arena is short, the table is
 * empty. */
void dmc_host_table_init(struct dmc_host_table *table, const struct dmc_plan *plan, struct dmc_arena *arena);

/* Can a chunk of the plan's own reads be told from all others, and is it decoded? */
static inline bool dmc_host_listed(const struct dmc_chunk *chunk)
{
    return !chunk->array->raw && chunk->index != DMC_CHUNK_INDEX_NONE;
}

/* The chunks of a plan that may be listed are those before this. */
static inline uint32_t dmc_host_count(const struct dmc_plan *plan)
{
    return plan->guest_begin < plan->read_count ? plan->reads[plan->guest_begin].chunk_begin : plan->absent_begin;
}

static inline uint64_t dmc_host_hash(const struct dmc_plan_array *array, uint64_t index)
{
    return dmc_hash_u64(index, (uintptr_t)array->zarr);
}

/* What a batch needs of a chunk that it reads and decodes. */
static inline struct dmc_chunk_ask dmc_host_ask(const struct dmc_plan *plan, const struct dmc_chunk *chunk)
{
    return (struct dmc_chunk_ask){.array = chunk->array,
                                  .index = chunk->index,
                                  .offset = plan->reads[chunk->read].offset + chunk->stored_offset,
                                  .stored_bytes = chunk->stored_bytes,
                                  .need_begin = chunk->need_begin,
                                  .need_end = chunk->need_end};
}

#define DMC_HOST_NONE UINT32_MAX

/* Number of the chunk in the plan; DMC_HOST_NONE: it is not listed. `hash` is the chunk's, since mostly several tables are
 * asked. */
static inline uint32_t dmc_host_find(const struct dmc_host_table *table, uint64_t hash, const struct dmc_chunk_ask *ask)
{
    if (!table->plan)
        return DMC_HOST_NONE;
    for (uint64_t i = hash & table->mask; table->entries[i] != 0; i = (i + 1) & table->mask) {
        if (table->entries[i] >> 32 != hash >> 32)
            continue;
        uint32_t number = (uint32_t)table->entries[i] - 1;
        const struct dmc_chunk *chunk = &table->plan->chunks[number];
        if (chunk->array->zarr == ask->array->zarr && chunk->index == ask->index && chunk->stored_bytes == ask->stored_bytes &&
            table->plan->reads[chunk->read].offset + chunk->stored_offset == ask->offset)
            return number;
    }
    return DMC_HOST_NONE;
}

#endif
