/* A bump allocator: many small things that live and die together (those of one batch). Reset keeps the memory, so that
 * after two batches of the same size the next costs no malloc. One thread at a time. */
#ifndef DMC_BASE_ARENA_H
#define DMC_BASE_ARENA_H

#include "base/budget.h"
#include <stddef.h>
#include <stdint.h>

struct dmc_arena_block;
struct dmc_arena {
    struct dmc_arena_block *first;
    struct dmc_arena_block *current;
    struct dmc_budget *budget; /* blocks are drawn from it; NULL: unbounded */
    uint64_t reserved_bytes;   /* of all blocks */
    uint64_t used_bytes;       /* since the last reset */
};

void dmc_arena_init(struct dmc_arena *arena, struct dmc_budget *budget);
void dmc_arena_deinit(struct dmc_arena *arena);
/* Forget everything, keep the blocks; several blocks are merged into one by the next allocation. */
void dmc_arena_reset(struct dmc_arena *arena);
/* Forget everything, and have all that the budget leaves as one block, if there is memory for that: then what fits does not
 * depend on what was in the arena before, nor on what is lost at the ends of blocks. */
void dmc_arena_reset_whole(struct dmc_arena *arena);
/* `align` is a power of two, at most 64. NULL when memory or the budget is short. Not zeroed. `bytes` 0 gives a valid pointer.
 */
void *dmc_arena_alloc(struct dmc_arena *arena, size_t bytes, size_t align);
char *dmc_arena_strdup(struct dmc_arena *arena, const char *text);

#define dmc_arena_array(arena, type, count) ((type *)dmc_arena_alloc_array((arena), (count), sizeof(type), _Alignof(type)))
/* The same for `count` elements; an overflowing product gives NULL. */
void *dmc_arena_alloc_array(struct dmc_arena *arena, size_t count, size_t bytes, size_t align);

#endif
