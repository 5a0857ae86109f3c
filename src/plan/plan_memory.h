/* The arena, remembering why it came up short: a batch too large for its budget is the caller's business, memory that the
 * system does not give is not. */
#ifndef DMC_PLAN_MEMORY_H
#define DMC_PLAN_MEMORY_H

#include "base/arena.h"
#include "damacy/damacy.h"

struct dmc_plan_memory {
    struct dmc_arena *arena;
    enum damacy_status status; /* OK until an allocation failed; then BUDGET or OOM */
};

/* What the arena adds to a block, at most: tells a short budget from short memory. */
#define DMC_PLAN_BLOCK_OVERHEAD 256

static inline void *dmc_plan_alloc_array(struct dmc_plan_memory *memory, size_t count, size_t bytes, size_t align)
{
    void *array = dmc_arena_alloc_array(memory->arena, count, bytes, align);
    if (!array) {
        const struct dmc_budget *budget = memory->arena->budget;
        uint64_t left = budget ? budget->limit_bytes - dmc_budget_used(budget) : UINT64_MAX;
        /* In floating point the product needs no check, and nearly is enough for choosing a word. */
        memory->status = (double)count * (double)bytes + DMC_PLAN_BLOCK_OVERHEAD > (double)left ? DAMACY_BUDGET : DAMACY_OOM;
    }
    return array;
}

#define dmc_plan_alloc(memory, type, count) ((type *)dmc_plan_alloc_array((memory), (count), sizeof(type), _Alignof(type)))

#endif
