#include "base/arena.h"
#include "base/bytes.h"
#include "base/mem.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#define BLOCK_ALIGN 64
#define BLOCK_BYTES_MIN 4096
#define BLOCK_BYTES_STEP_MAX ((uint64_t)4 << 20) /* blocks double up to here, so that waste stays bounded */

/* One piece of heap: this header, then room to align, then `capacity` bytes that start 64-byte aligned. */
struct dmc_arena_block {
    struct dmc_arena_block *next;
    uint64_t total_bytes; /* of the heap piece: what counts against the budget */
    uint64_t capacity;
    uint64_t used;
    unsigned char *data;
};

#define BLOCK_OVERHEAD (sizeof(struct dmc_arena_block) + BLOCK_ALIGN)

void dmc_arena_init(struct dmc_arena *arena, struct dmc_budget *budget)
{
    *arena = (struct dmc_arena){.budget = budget};
}

static bool reserve(struct dmc_arena *arena, uint64_t bytes)
{
    if (arena->budget && !dmc_budget_reserve(arena->budget, bytes))
        return false;
    arena->reserved_bytes += bytes;
    return true;
}

static void unreserve(struct dmc_arena *arena, uint64_t bytes)
{
    if (arena->budget)
        dmc_budget_unreserve(arena->budget, bytes);
    arena->reserved_bytes -= bytes;
}

/* Heap for a block whose bytes are reserved already. */
static struct dmc_arena_block *block_make(uint64_t total_bytes)
{
    struct dmc_arena_block *block = dmc_malloc(total_bytes);
    if (!block)
        return NULL;
    uintptr_t data = dmc_round_up((uintptr_t)(block + 1), BLOCK_ALIGN);
    *block = (struct dmc_arena_block){
        .total_bytes = total_bytes, .capacity = total_bytes - BLOCK_OVERHEAD, .data = (unsigned char *)data};
    return block;
}

static void free_blocks(struct dmc_arena *arena)
{
    for (struct dmc_arena_block *block = arena->first, *next; block; block = next) {
        next = block->next;
        dmc_free(block);
    }
    arena->first = arena->current = NULL;
}

void dmc_arena_deinit(struct dmc_arena *arena)
{
    free_blocks(arena);
    unreserve(arena, arena->reserved_bytes);
    arena->used_bytes = 0;
}

void dmc_arena_reset(struct dmc_arena *arena)
{
    for (struct dmc_arena_block *block = arena->first; block; block = block->next)
        block->used = 0;
    arena->current = arena->first;
    arena->used_bytes = 0;
}

/* One block in place of several. It is as large as all of them with their headers, so what fitted them fits it. The reservation
 * is kept across the exchange: nobody else can take the bytes meanwhile. */
static bool merge(struct dmc_arena *arena)
{
    uint64_t total_bytes = arena->reserved_bytes;
    free_blocks(arena);
    struct dmc_arena_block *block = block_make(total_bytes);
    if (!block) {
        unreserve(arena, total_bytes);
        return false;
    }
    arena->first = arena->current = block;
    return true;
}

/* Append a block with room for `bytes`; larger than asked if the budget allows. */
static bool grow(struct dmc_arena *arena, uint64_t bytes)
{
    uint64_t exact, wish;
    if (!dmc_add_u64(bytes, BLOCK_OVERHEAD, &exact) || exact > SIZE_MAX / 2)
        return false;
    wish = dmc_min_u64(dmc_max_u64(arena->reserved_bytes, BLOCK_BYTES_MIN), BLOCK_BYTES_STEP_MAX);
    wish = dmc_max_u64(wish, exact);
    if (!reserve(arena, wish)) {
        wish = exact;
        if (!reserve(arena, wish))
            return false;
    }
    struct dmc_arena_block *block = block_make(wish);
    if (!block) {
        unreserve(arena, wish);
        return false;
    }
    if (arena->current)
        arena->current->next = block;
    else
        arena->first = block;
    arena->current = block;
    return true;
}

void dmc_arena_reset_whole(struct dmc_arena *arena)
{
    dmc_arena_deinit(arena);
    uint64_t left = arena->budget ? arena->budget->limit_bytes - dmc_budget_used(arena->budget) : 0;
    if (left > BLOCK_OVERHEAD)
        grow(arena, left - BLOCK_OVERHEAD);
}

void *dmc_arena_alloc(struct dmc_arena *arena, size_t bytes, size_t align)
{
    assert(align > 0 && align <= BLOCK_ALIGN && (align & (align - 1)) == 0);
    if (bytes == 0)
        bytes = 1; /* distinct pointers, also for empty things */
    if (arena->used_bytes == 0 && arena->first && arena->first->next && !merge(arena))
        return NULL;
    struct dmc_arena_block *block = arena->current;
    uint64_t begin = block ? dmc_round_up(block->used, align) : 0;
    if (!block || begin > block->capacity || bytes > block->capacity - begin) {
        if (!grow(arena, bytes))
            return NULL;
        block = arena->current;
        begin = 0;
    }
    arena->used_bytes += begin + bytes - block->used;
    block->used = begin + bytes;
    return block->data + begin;
}

char *dmc_arena_strdup(struct dmc_arena *arena, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = dmc_arena_alloc(arena, bytes, 1);
    if (copy)
        memcpy(copy, text, bytes);
    return copy;
}

void *dmc_arena_alloc_array(struct dmc_arena *arena, size_t count, size_t bytes, size_t align)
{
    size_t product;
    if (__builtin_mul_overflow(count, bytes, &product))
        return NULL;
    return dmc_arena_alloc(arena, product, align);
}
