/* One fetch from start to end. Buffers are drawn from the pipeline's budget; a fetch that finds it short waits until another
 * one has given its buffer back, and fails only when there is none to wait for. */
#include "prefetch/prefetcher_impl.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#include <assert.h>
#include <string.h>

enum dmc_fetch_step dmc_fetch_ask(struct dmc_fetch *fetch, const char *name, enum dmc_range_kind kind, uint64_t offset,
                                  uint64_t bytes)
{
    if (name) {
        fetch->key[fetch->prefix_bytes] = '/';
        memcpy(fetch->key + fetch->prefix_bytes + 1, name, strlen(name) + 1);
    }
    fetch->request.kind = kind;
    fetch->request.offset = offset;
    fetch->request.ahead_bytes = 0;
    fetch->want_bytes = bytes;
    return DMC_FETCH_START;
}

enum dmc_fetch_step dmc_fetch_fail(struct dmc_fetch *fetch, uint64_t range_begin, uint64_t range_end)
{
    const char *stage = fetch->metadata == DMC_METADATA_INDEX ? "index" : "metadata";
    dmc_text_copy(fetch->error.stage, sizeof fetch->error.stage, stage);
    const char *key = fetch->key[fetch->root_bytes] ? fetch->key + fetch->root_bytes + 1 : NULL;
    dmc_error_where(&fetch->error, fetch->uri, key, range_begin, range_end);
    dmc_prefetch_cache_fail(fetch->cache, fetch->entry, &fetch->error);
    return DMC_FETCH_ENDED;
}

struct dmc_fetch *dmc_fetch_pop(struct dmc_fetch_list *list)
{
    struct dmc_fetch *fetch = list->first;
    list->first = fetch->next;
    if (!list->first)
        list->last = NULL;
    list->count--;
    fetch->next = NULL;
    return fetch;
}

void dmc_fetch_push(struct dmc_fetch_list *list, struct dmc_fetch *fetch)
{
    fetch->next = NULL;
    if (list->last)
        list->last->next = fetch;
    else
        list->first = fetch;
    list->last = fetch;
    list->count++;
}

static void drop_twin_buffer(struct dmc_prefetcher *prefetcher, struct dmc_fetch *fetch)
{
    if (fetch->twin_buffer_bytes == 0)
        return;
    dmc_free(fetch->twin_buffer);
    dmc_budget_unreserve(prefetcher->env.budget, fetch->twin_buffer_bytes);
    fetch->twin_buffer = NULL;
    fetch->twin_buffer_bytes = 0;
}

void dmc_fetch_drop_buffer(struct dmc_prefetcher *prefetcher, struct dmc_fetch *fetch)
{
    drop_twin_buffer(prefetcher, fetch);
    if (fetch->buffer_bytes == 0)
        return;
    dmc_free(fetch->buffer);
    if (fetch->buffer_reserved)
        prefetcher->reserve_taken = false;
    else
        dmc_budget_unreserve(prefetcher->env.budget, fetch->buffer_bytes);
    fetch->buffer = NULL;
    fetch->buffer_bytes = 0;
    fetch->buffer_reserved = false;
}

/* Free fetches are reused last in, first out: a local array takes one and the same, which stays in the processor's cache. */
static void give_back(struct dmc_prefetcher *prefetcher, struct dmc_fetch *fetch)
{
    dmc_fetch_drop_buffer(prefetcher, fetch);
    prefetcher->filling[fetch->metadata]--;
    fetch->entry = NULL;
    fetch->next = prefetcher->free.first;
    prefetcher->free.first = fetch;
    if (!prefetcher->free.last)
        prefetcher->free.last = fetch;
    prefetcher->free.count++;
}

static void end(struct dmc_prefetcher *prefetcher, struct dmc_fetch *fetch)
{
    bool failed = fetch->entry->state == DMC_ENTRY_FAILED;
    give_back(prefetcher, fetch); /* first: who is woken may ask for something else */
    for (uint32_t i = 0; i < prefetcher->waiting_word_count; i++)
        while (fetch->waiting[i]) {
            uint32_t bit = (uint32_t)__builtin_ctzll(fetch->waiting[i]);
            fetch->waiting[i] &= fetch->waiting[i] - 1;
            dmc_stages_wake(prefetcher, i * 64 + bit, failed);
        }
}

enum buffer { BUFFER_READY, BUFFER_LATER, BUFFER_NEVER };

static enum buffer need_buffer(struct dmc_prefetcher *prefetcher, struct dmc_fetch *fetch)
{
    if (fetch->buffer_bytes >= fetch->want_bytes)
        return BUFFER_READY;
    dmc_fetch_drop_buffer(prefetcher, fetch);
    if (!dmc_budget_reserve(prefetcher->env.budget, fetch->want_bytes)) {
        uint32_t running = prefetcher->fetch_count - prefetcher->free.count - prefetcher->stalled.count - 1;
        if (fetch->want_bytes <= DMC_METADATA_READ_RESERVE && !prefetcher->reserve_taken) {
            fetch->buffer_reserved = prefetcher->reserve_taken = true;
        } else if (running > 0) {
            return BUFFER_LATER;
        } else {
            dmc_error_set(&fetch->error, DAMACY_BUDGET, "metadata",
                          "%llu bytes to read them exceed what max_host_memory_bytes leaves",
                          (unsigned long long)fetch->want_bytes);
            dmc_error_hint(&fetch->error, "raise max_host_memory_bytes");
            return BUFFER_NEVER;
        }
    }
    fetch->buffer = dmc_malloc(fetch->want_bytes);
    fetch->buffer_bytes = fetch->want_bytes;
    if (fetch->buffer)
        return BUFFER_READY;
    dmc_fetch_drop_buffer(prefetcher, fetch);
    dmc_error_set(&fetch->error, DAMACY_OOM, "metadata", "no memory to read %llu bytes", (unsigned long long)fetch->want_bytes);
    return BUFFER_NEVER;
}

static enum dmc_fetch_step next_step(struct dmc_prefetcher *prefetcher, struct dmc_fetch *fetch)
{
    switch (fetch->metadata) {
    case DMC_METADATA_ARRAY:
        return dmc_array_meta_next(fetch, &prefetcher->env);
    case DMC_METADATA_INDEX:
        return dmc_shard_index_next(fetch, &prefetcher->env);
    default:
        return dmc_chunk_layout_next(fetch);
    }
}

/* The answer is there, or as if it were not yet (latency_ns). true: go on now. */
static bool answered(struct dmc_prefetcher *prefetcher, struct dmc_fetch *fetch)
{
    uint64_t bytes = fetch->request.outcome == DMC_OUTCOME_OK ? fetch->request.bytes_read : 0;
    if (fetch->twin_name && fetch->twin.outcome == DMC_OUTCOME_OK)
        bytes += fetch->twin.bytes_read;
    atomic_fetch_add_explicit(&prefetcher->metadata_bytes, bytes, memory_order_relaxed);
    if (prefetcher->options.latency_ns == 0)
        return true;
    fetch->due_ns = dmc_clock_ns() + prefetcher->options.latency_ns; /* never before the one in front of it */
    dmc_fetch_push(&prefetcher->delayed, fetch);
    return false;
}

static void start(struct dmc_prefetcher *prefetcher, struct dmc_fetch *fetch, struct dmc_request *request, struct iovec *part)
{
    request->key_hash = 0;
    request->parts = part;
    request->part_count = 1;
    request->user = fetch;
    request->metadata = true;
    fetch->pending += dmc_store_start(prefetcher->io, request) == DMC_START_PENDING;
}

/* Ask for the twin, too, if there is memory for it. */
static void start_twin(struct dmc_prefetcher *prefetcher, struct dmc_fetch *fetch)
{
    uint64_t bytes = dmc_min_u64(DMC_ARRAY_META_READ_BYTES, prefetcher->env.metadata_object_bytes_max);
    if (!fetch->twin_buffer && dmc_budget_reserve(prefetcher->env.budget, bytes)) {
        fetch->twin_buffer = dmc_malloc(bytes);
        fetch->twin_buffer_bytes = bytes;
        if (!fetch->twin_buffer)
            drop_twin_buffer(prefetcher, fetch);
    }
    if (!fetch->twin_buffer) {
        fetch->twin_name = NULL;
        return;
    }
    memcpy(fetch->twin_key, fetch->key, fetch->prefix_bytes);
    fetch->twin_key[fetch->prefix_bytes] = '/';
    dmc_text_copy(fetch->twin_key + fetch->prefix_bytes + 1, sizeof fetch->twin_key - fetch->prefix_bytes - 1,
                  fetch->twin_name);
    fetch->twin_part = (struct iovec){.iov_base = fetch->twin_buffer, .iov_len = fetch->twin_buffer_bytes};
    fetch->twin.store = fetch->request.store;
    fetch->twin.key = fetch->twin_key;
    fetch->twin.kind = DMC_RANGE_WHOLE;
    fetch->twin.error = NULL;
    start(prefetcher, fetch, &fetch->twin, &fetch->twin_part);
}

void dmc_fetch_run(struct dmc_prefetcher *prefetcher, struct dmc_fetch *fetch, enum dmc_fetch_step step)
{
    while (step == DMC_FETCH_START) {
        switch (need_buffer(prefetcher, fetch)) {
        case BUFFER_LATER:
            dmc_fetch_push(&prefetcher->stalled, fetch);
            return;
        case BUFFER_NEVER:
            step = dmc_fetch_fail(fetch, 0, 0);
            continue;
        case BUFFER_READY:
            break;
        }
        fetch->part = (struct iovec){.iov_base = fetch->buffer, .iov_len = fetch->want_bytes};
        fetch->request.key = fetch->key;
        fetch->request.error = &fetch->error;
        start(prefetcher, fetch, &fetch->request, &fetch->part);
        if (fetch->twin_name)
            start_twin(prefetcher, fetch);
        if (fetch->pending > 0 || !answered(prefetcher, fetch))
            return;
        step = next_step(prefetcher, fetch);
    }
    end(prefetcher, fetch);
}

void dmc_fetch_done(struct dmc_prefetcher *prefetcher, struct dmc_fetch *fetch)
{
    if (--fetch->pending == 0 && answered(prefetcher, fetch))
        dmc_fetch_run(prefetcher, fetch, next_step(prefetcher, fetch));
}

void dmc_fetch_run_delayed(struct dmc_prefetcher *prefetcher)
{
    while (prefetcher->delayed.count > 0 && prefetcher->delayed.first->due_ns <= dmc_clock_ns()) {
        struct dmc_fetch *fetch = dmc_fetch_pop(&prefetcher->delayed);
        dmc_fetch_run(prefetcher, fetch, next_step(prefetcher, fetch));
    }
}

void dmc_fetch_run_stalled(struct dmc_prefetcher *prefetcher)
{
    for (uint32_t left = prefetcher->stalled.count; left > 0; left--)
        dmc_fetch_run(prefetcher, dmc_fetch_pop(&prefetcher->stalled), DMC_FETCH_START);
}
