#include "prefetch/prefetcher.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/nvtx.h"
#include "base/trace.h"
#include "prefetch/prefetcher_impl.h"

#include <assert.h>
#include <string.h>

#define SAMPLES_DEFAULT 256u
#define SAMPLES_MAX 1024u /* more would not read any faster, and each fetch looks through a bit for each when it ends */

/* How long a stop waits for reads that hang, where destroy does not give another deadline in time. */
#define STOP_NS UINT64_C(5000000000)
/* What the thread may take beyond its reads' deadline to come to an end. */
#define JOIN_NS UINT64_C(250000000)
/* Pause before memory that was short is asked for again. */
#define STARVED_NS UINT64_C(5000000)

/* --- create and destroy --- */

static uint32_t work_capacity(const struct dmc_prefetcher_options *options)
{
    return options->prefetch_samples ? (uint32_t)dmc_min_u64(options->prefetch_samples, SAMPLES_MAX) : SAMPLES_DEFAULT;
}

static uint32_t fetch_count(const struct dmc_prefetcher_options *options)
{
    return options->reads_in_flight ? options->reads_in_flight : 1;
}

static uint64_t waiting_words(const struct dmc_prefetcher_options *options)
{
    return dmc_ceil_div(work_capacity(options), 64);
}

uint64_t dmc_prefetcher_memory(const struct dmc_prefetcher_options *options)
{
    return sizeof(struct dmc_prefetcher) + (uint64_t)work_capacity(options) * sizeof(struct dmc_sample_work) +
           fetch_count(options) * (sizeof(struct dmc_fetch) + waiting_words(options) * sizeof(uint64_t)) +
           options->field_count * sizeof(uint32_t) + DMC_METADATA_READ_RESERVE + DMC_METADATA_PARSE_RESERVE;
}

uint64_t dmc_prefetcher_memory_transient(const struct dmc_prefetcher_options *options)
{
    return (uint64_t)fetch_count(options) * DMC_ARRAY_META_READ_BYTES + (UINT64_C(1) << 20);
}

/* The half-built accepted; the thread is not running. */
static void free_prefetcher(struct dmc_prefetcher *prefetcher)
{
    if (prefetcher->fetches)
        for (uint32_t i = 0; i < prefetcher->fetch_count; i++)
            dmc_fetch_drop_buffer(prefetcher, &prefetcher->fetches[i]);
    if (prefetcher->works)
        for (uint32_t i = 0; i < prefetcher->work_capacity; i++)
            dmc_free(prefetcher->works[i].error);
    for (uint32_t i = 0; i < DMC_METADATA_COUNT; i++)
        dmc_prefetch_cache_destroy(prefetcher->caches[i]);
    dmc_free(prefetcher->fetches);
    dmc_free(prefetcher->waiting_words);
    dmc_free(prefetcher->works);
    dmc_free(prefetcher->ranks);
    dmc_mutex_deinit(&prefetcher->wake_mutex);
    dmc_budget_unreserve(prefetcher->env.budget, prefetcher->memory_bytes);
    dmc_free(prefetcher);
}

static enum damacy_status make_caches(struct dmc_prefetcher *prefetcher, struct damacy_error *error)
{
    const struct dmc_prefetcher_options *options = &prefetcher->options;
    struct dmc_prefetch_cache **caches = prefetcher->caches;
    enum damacy_status status = dmc_prefetch_cache_create("array_meta_cache_bytes", options->array_meta_cache_bytes,
                                                          dmc_array_meta_free, &caches[DMC_METADATA_ARRAY], error);
    if (status == DAMACY_OK)
        status = dmc_prefetch_cache_create("shard_index_cache_bytes", options->shard_index_cache_bytes, dmc_shard_index_free,
                                           &caches[DMC_METADATA_INDEX], error);
    if (status == DAMACY_OK)
        status = dmc_prefetch_cache_create("chunk_layout_cache_bytes", options->chunk_layout_cache_bytes, dmc_chunk_layout_free,
                                           &caches[DMC_METADATA_LAYOUT], error);
    prefetcher->env.shard_indices = caches[DMC_METADATA_INDEX];
    return status;
}

static enum damacy_status make_tables(struct dmc_prefetcher *prefetcher, struct damacy_error *error)
{
    const struct dmc_prefetcher_options *options = &prefetcher->options;
    prefetcher->work_capacity = work_capacity(options);
    prefetcher->fetch_count = fetch_count(options);
    prefetcher->waiting_word_count = (uint32_t)waiting_words(options);
    prefetcher->works = dmc_calloc(prefetcher->work_capacity, sizeof *prefetcher->works);
    prefetcher->fetches = dmc_calloc(prefetcher->fetch_count, sizeof *prefetcher->fetches);
    prefetcher->waiting_words = dmc_calloc((size_t)prefetcher->fetch_count * prefetcher->waiting_word_count, sizeof(uint64_t));
    prefetcher->ranks = dmc_malloc(options->field_count * sizeof *prefetcher->ranks);
    if (!prefetcher->works || !prefetcher->fetches || !prefetcher->waiting_words || !prefetcher->ranks)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the prefetcher");
    memcpy(prefetcher->ranks, options->ranks, options->field_count * sizeof *prefetcher->ranks);
    prefetcher->options.ranks = prefetcher->ranks;
    prefetcher->options.sample_shapes = NULL; /* push has checked the boxes against them */
    for (uint32_t i = 0; i < prefetcher->fetch_count; i++) {
        prefetcher->fetches[i].waiting = prefetcher->waiting_words + (size_t)i * prefetcher->waiting_word_count;
        dmc_fetch_push(&prefetcher->free, &prefetcher->fetches[i]);
    }
    return DAMACY_OK;
}

static void *run(void *argument);

enum damacy_status dmc_prefetcher_create(const struct dmc_prefetcher_options *options, const struct dmc_prefetcher_hooks *hooks,
                                         struct dmc_stores *stores, struct dmc_budget *budget, struct dmc_prefetcher **out,
                                         struct damacy_error *error)
{
    uint64_t memory_bytes = dmc_prefetcher_memory(options);
    if (!dmc_budget_reserve(budget, memory_bytes)) {
        dmc_error_set(error, DAMACY_BUDGET, "config", "the prefetcher's %llu bytes exceed what max_host_memory_bytes leaves",
                      (unsigned long long)memory_bytes);
        dmc_error_hint(error, "raise max_host_memory_bytes, or lower prefetch_samples or metadata_reads_in_flight");
        return DAMACY_BUDGET;
    }
    struct dmc_prefetcher *prefetcher = dmc_calloc(1, sizeof *prefetcher);
    if (!prefetcher) {
        dmc_budget_unreserve(budget, memory_bytes);
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the prefetcher");
    }
    prefetcher->options = *options;
    prefetcher->hooks = *hooks;
    prefetcher->env = (struct dmc_fetch_env){.stores = stores,
                                             .budget = budget,
                                             .metadata_object_bytes_max = options->metadata_object_bytes_max,
                                             .parse_bytes = options->parse_bytes,
                                             .hints = &prefetcher->hints,
                                             .chunk_sizes = &prefetcher->chunk_sizes,
                                             .coalesce_gap_bytes = options->coalesce_gap_bytes};
    prefetcher->memory_bytes = memory_bytes;
    dmc_mutex_init(&prefetcher->wake_mutex);
    enum damacy_status status = make_caches(prefetcher, error);
    if (status == DAMACY_OK)
        status = make_tables(prefetcher, error);
    if (status == DAMACY_OK)
        status = dmc_io_create(
            &(struct dmc_io_options){.depth = 2 * prefetcher->fetch_count, .io_uring_never = options->io_uring_never},
            &prefetcher->io, error);
    if (status == DAMACY_OK) {
        prefetcher->wake_io = prefetcher->io;
        int failure = dmc_thread_start(&prefetcher->thread, "damacy-prefetch", run, prefetcher);
        if (failure) {
            status = dmc_error_set_os(error, DAMACY_IO, "config", failure, "the prefetcher's thread cannot be started");
            dmc_io_destroy(prefetcher->io, UINT64_MAX);
        }
    }
    if (status) {
        free_prefetcher(prefetcher);
        return status;
    }
    *out = prefetcher;
    return DAMACY_OK;
}

void dmc_prefetcher_wake(struct dmc_prefetcher *prefetcher)
{
    dmc_mutex_lock(&prefetcher->wake_mutex);
    if (prefetcher->wake_io)
        dmc_io_wake(prefetcher->wake_io);
    dmc_mutex_unlock(&prefetcher->wake_mutex);
}

void dmc_prefetcher_again(struct dmc_prefetcher *prefetcher)
{
    dmc_io_wake(prefetcher->io);
}

static void stop(struct dmc_prefetcher *prefetcher, uint64_t deadline_ns)
{
    atomic_store_explicit(&prefetcher->stop_deadline_ns, deadline_ns, memory_order_relaxed);
    /* Pairs with the loads in dmc_prefetcher_stopping(): who sees it sees the deadline. */
    atomic_store_explicit(&prefetcher->stop, true, memory_order_release);
    dmc_prefetcher_wake(prefetcher);
}

void dmc_prefetcher_stop(struct dmc_prefetcher *prefetcher)
{
    stop(prefetcher, dmc_clock_deadline(STOP_NS));
}

bool dmc_prefetcher_destroy(struct dmc_prefetcher *prefetcher, uint64_t deadline_ns)
{
    if (!prefetcher)
        return true;
    stop(prefetcher, deadline_ns);
    uint64_t join_ns = deadline_ns > UINT64_MAX - JOIN_NS ? UINT64_MAX : deadline_ns + JOIN_NS;
    if (!dmc_thread_join_until(prefetcher->thread, join_ns) || prefetcher->io_stuck) {
        dmc_log(DMC_PREFETCH, DAMACY_LOG_WARN, "a metadata read is stuck in the kernel; the prefetcher is left behind");
        return false;
    }
    free_prefetcher(prefetcher);
    return true;
}

/* --- the thread --- */

static uint64_t wait_until(const struct dmc_prefetcher *prefetcher)
{
    uint64_t deadline = prefetcher->delayed.count > 0 ? prefetcher->delayed.first->due_ns : UINT64_MAX;
    return prefetcher->starved_count > 0 ? dmc_min_u64(deadline, dmc_clock_ns() + STARVED_NS) : deadline;
}

/* Everything that can be done without waiting. A sample is taken only when those before it stand still or are through, so that
 * the first one is resolved as early as can be. */
static void work_now(struct dmc_prefetcher *prefetcher)
{
    while (!dmc_prefetcher_stopping(prefetcher)) {
        struct dmc_request *request;
        while (dmc_io_pending(prefetcher->io) > 0 && (request = dmc_io_wait(prefetcher->io, 0)))
            dmc_fetch_done(prefetcher, request->user);
        if (prefetcher->delayed.count > 0)
            dmc_fetch_run_delayed(prefetcher);
        if (prefetcher->stalled.count > 0)
            dmc_fetch_run_stalled(prefetcher);
        dmc_stages_pump(prefetcher);
        if (dmc_prefetcher_stopping(prefetcher) || !dmc_stages_room(prefetcher))
            return;
        struct dmc_sample_slot *slot = prefetcher->hooks.take(prefetcher->hooks.user);
        if (!slot)
            return;
        dmc_stages_admit(prefetcher, slot);
    }
}

static void *run(void *argument)
{
    struct dmc_prefetcher *prefetcher = argument;
    while (!dmc_prefetcher_stopping(prefetcher)) {
        dmc_nvtx_push("prefetch", prefetcher->taken);
        uint64_t begin_ns = dmc_clock_ns();
        dmc_stages_watermark(prefetcher);
        work_now(prefetcher);
        uint64_t end_ns = dmc_clock_ns();
        atomic_fetch_add_explicit(&prefetcher->busy_ns, end_ns - begin_ns, memory_order_relaxed);
        dmc_nvtx_pop();
        dmc_trace_span("prefetch", begin_ns, end_ns, prefetcher->taken);
        if (dmc_prefetcher_stopping(prefetcher))
            break;
        struct dmc_request *request = dmc_io_wait(prefetcher->io, wait_until(prefetcher));
        if (request)
            dmc_fetch_done(prefetcher, request->user);
    }
    dmc_mutex_lock(&prefetcher->wake_mutex);
    prefetcher->wake_io = NULL;
    dmc_mutex_unlock(&prefetcher->wake_mutex);
    /* Here and not in destroy: the kernel cancels the reads of a thread that ends, and would do so behind dmc_io's back. */
    uint64_t deadline_ns = atomic_load_explicit(&prefetcher->stop_deadline_ns, memory_order_relaxed);
    prefetcher->io_stuck = !dmc_io_destroy(prefetcher->io, deadline_ns);
    return NULL;
}

/* --- for the planner --- */

struct dmc_array *dmc_prefetcher_array(const struct dmc_slot_region *region)
{
    const struct dmc_prefetch_entry *entry = region->array;
    return entry && entry->state == DMC_ENTRY_READY ? entry->value : NULL;
}

const struct dmc_shard_index *dmc_prefetcher_shard(const struct dmc_prefetcher *prefetcher, const struct dmc_array *array,
                                                   const uint64_t *coordinates, const struct damacy_error **error)
{
    uint8_t key[DMC_SHARD_INDEX_KEY_BYTES];
    uint32_t bytes = dmc_shard_index_key(array, dmc_shard_index_key_head(array, key), coordinates, key);
    const struct dmc_prefetch_entry *entry = dmc_prefetch_cache_find(prefetcher->caches[DMC_METADATA_INDEX], key, bytes);
    assert(entry && entry->state != DMC_ENTRY_FILLING);
    if (error)
        *error = entry->state == DMC_ENTRY_FAILED ? entry->error : NULL;
    return entry->state == DMC_ENTRY_READY ? entry->value : NULL;
}

const struct dmc_chunk_layout *dmc_prefetcher_layout(const struct dmc_prefetcher *prefetcher, const struct dmc_array *array)
{
    if (!prefetcher->options.want_layout)
        return NULL;
    const struct dmc_prefetch_entry *entry =
        dmc_prefetch_cache_find(prefetcher->caches[DMC_METADATA_LAYOUT], array->uri, array->uri_bytes);
    return entry && entry->state == DMC_ENTRY_READY ? entry->value : NULL;
}

void dmc_prefetcher_stats_get(const struct dmc_prefetcher *prefetcher, struct dmc_prefetcher_stats *stats)
{
    *stats =
        (struct dmc_prefetcher_stats){.samples = atomic_load_explicit(&prefetcher->samples, memory_order_relaxed),
                                      .metadata_bytes = atomic_load_explicit(&prefetcher->metadata_bytes, memory_order_relaxed),
                                      .busy_ns = atomic_load_explicit(&prefetcher->busy_ns, memory_order_relaxed)};
    dmc_prefetch_cache_stats_get(prefetcher->caches[DMC_METADATA_ARRAY], &stats->array_meta);
    dmc_prefetch_cache_stats_get(prefetcher->caches[DMC_METADATA_INDEX], &stats->shard_index);
    dmc_prefetch_cache_stats_get(prefetcher->caches[DMC_METADATA_LAYOUT], &stats->chunk_layout);
}
