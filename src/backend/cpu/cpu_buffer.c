/* The space that reads land in: see struct dmc_read_buffer. */
#include "backend/cpu/cpu_worker.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"

/* Reads start on a cache line: decoders and row loops then never share one with a neighbour's read. */
#define DMC_READ_ALIGN 64u

bool dmc_read_buffer_take(struct dmc_read_buffer *buffer, uint64_t bytes, uint64_t *begin, uint64_t *end)
{
    if (bytes > buffer->bytes)
        return false;
    uint64_t size = dmc_round_up(bytes ? bytes : 1, DMC_READ_ALIGN); /* buffer->bytes is a multiple, too */
    if (buffer->outstanding == 0)
        buffer->head = buffer->tail = 0;
    uint64_t at = buffer->head;
    if (buffer->outstanding != 0 && buffer->head <= buffer->tail) { /* wrapped, or full */
        if (buffer->tail - buffer->head < size)
            return false;
    } else if (buffer->bytes - buffer->head < size) {
        if (buffer->tail < size)
            return false;
        at = 0;
    }
    *begin = at;
    *end = buffer->head = at + size;
    buffer->outstanding++;
    return true;
}

enum damacy_status dmc_read_buffer_grow(struct dmc_read_buffer *buffer, uint64_t bytes, struct dmc_budget *budget,
                                        struct damacy_error *error)
{
    uint64_t size = dmc_round_up(bytes, 4096);
    if (size <= buffer->bytes)
        return DAMACY_OK;
    dmc_read_buffer_deinit(buffer, budget);
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
    return DAMACY_OK;
}

void dmc_read_buffer_deinit(struct dmc_read_buffer *buffer, struct dmc_budget *budget)
{
    if (buffer->memory) {
        dmc_pages_unmap(buffer->memory, buffer->bytes);
        dmc_budget_unreserve(budget, buffer->bytes);
    }
    *buffer = (struct dmc_read_buffer){0};
}
