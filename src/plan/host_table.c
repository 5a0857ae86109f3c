#include "plan/host_table.h"

#include <string.h>

void dmc_host_table_init(struct dmc_host_table *table, const struct dmc_plan *plan, struct dmc_arena *arena)
{
    uint32_t end = dmc_host_count(plan), count = 0;
    *table = (struct dmc_host_table){0};
    for (uint32_t c = 0; c < end; c++)
        count += dmc_host_listed(&plan->chunks[c]);
    if (count == 0)
        return;
    uint64_t size = 16;
    while (size < 4 * (uint64_t)count) /* nearly all that are looked up are not here: that should be seen at once */
        size *= 2;
    table->entries = dmc_arena_array(arena, uint64_t, size);
    if (!table->entries)
        return;
    memset(table->entries, 0, size * sizeof *table->entries);
    table->mask = size - 1;
    table->plan = plan;
    for (uint32_t c = 0; c < end; c++) {
        if (!dmc_host_listed(&plan->chunks[c]))
            continue;
        uint64_t hash = dmc_host_hash(plan->chunks[c].array, plan->chunks[c].index), i = hash & table->mask;
        while (table->entries[i] != 0)
            i = (i + 1) & table->mask;
        table->entries[i] = hash >> 32 << 32 | (c + 1);
    }
}
