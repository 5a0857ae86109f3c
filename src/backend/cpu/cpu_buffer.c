/* The space that reads land in: see struct dmc_read_buffer. */
#include "backend/cpu/cpu_worker.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"

#include <string.h>

/* Reads start on a cache line: decoders and row loops then never share one with a neighbour's read. */
#define DMC_READ_ALIGN 64u

bool dmc_read_buffer_init(struct dmc_read_buffer *buffer, uint32_t reads_max)
{
    *buffer = (struct dmc_read_buffer){.free = dmc_calloc((size_t)reads_max + 1, sizeof *buffer->free)};
    return buffer->free != NULL;
}

bool dmc_read_buffer_take(struct dmc_read_buffer *buffer, uint64_t bytes, struct dmc_extent *room)
{
    if (bytes > buffer->bytes)
        return false;
    uint64_t size = dmc_round_up(bytes ? bytes : 1, DMC_READ_ALIGN); /* buffer->bytes is a multiple, too */
    struct dmc_extent *free = buffer->free, *end = free + buffer->free_count;
    while (free < end && free->end - free->begin < size)
        free++;
    if (free == end)
        return false;
    *room = (struct dmc_extent){free->begin, free->begin + size};
    free->begin = room->end;
    if (free->begin == free->end) {
        memmove(free, free + 1, (size_t)(end - free - 1) * sizeof *free);
        buffer->free_count--;
    }
    buffer->outstanding++;
    return true;
}

void dmc_read_buffer_give(struct dmc_read_buffer *buffer, struct dmc_extent room)
{
    struct dmc_extent *next = buffer->free, *end = next + buffer->free_count;
    while (next < end && next->end < room.begin)
        next++;
    buffer->outstanding--;
    if (next < end && next->end == room.begin) {
        next->end = room.end;
        if (next + 1 < end && next[1].begin == room.end) {
            next->end = next[1].end;
            memmove(next + 1, next + 2, (size_t)(end - next - 2) * sizeof *next);
            buffer->free_count--;
        }
    } else if (next < end && next->begin == room.end) {
        next->begin = room.begin;
    } else {
        memmove(next + 1, next, (size_t)(end - next) * sizeof *next);
        *next = room;
        buffer->free_count++;
    }
}

enum damacy_status dmc_read_buffer_grow(struct dmc_read_buffer *buffer, uint64_t bytes, struct dmc_budget *budget,
                                        struct damacy_error *error)
{
    uint64_t size = dmc_round_up(bytes, 4096);
    if (size <= buffer->bytes)
        return DAMACY_OK;
    dmc_read_buffer_trim(buffer, budget);
    if (!dmc_budget_reserve(budget, size))
        return dmc_error_set(error, DAMACY_BUDGET, "read",
                             "a read of %llu bytes does not fit max_host_memory_bytes (%llu bytes, %llu in use); raise it or "
                             "lower batch_slots or worker_count",
                             (unsigned long long)bytes, (unsigned long long)budget->limit_bytes,
                             (unsigned long long)dmc_budget_used(budget));
    buffer->memory = dmc_pages_map(size);
    if (!buffer->memory) {
        dmc_budget_unreserve(budget, size);
        return dmc_error_set(error, DAMACY_OOM, "read", "no memory for a read of %llu bytes", (unsigned long long)bytes);
    }
    buffer->bytes = size;
    buffer->free[0] = (struct dmc_extent){0, size};
    buffer->free_count = 1;
    return DAMACY_OK;
}

void dmc_read_buffer_trim(struct dmc_read_buffer *buffer, struct dmc_budget *budget)
{
    if (buffer->memory) {
        dmc_pages_unmap(buffer->memory, buffer->bytes);
        dmc_budget_unreserve(budget, buffer->bytes);
    }
    *buffer = (struct dmc_read_buffer){.free = buffer->free};
}

void dmc_read_buffer_deinit(struct dmc_read_buffer *buffer, struct dmc_budget *budget)
{
    dmc_read_buffer_trim(buffer, budget);
    dmc_free(buffer->free);
    buffer->free = NULL;
}
