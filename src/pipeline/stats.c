/* What the pipeline has done, and what holds it up. */
#include "base/clock.h"
#include "base/error.h"
#include "pipeline/pipeline.h"

#include <string.h>

/* Everything since create. */
static void collect(struct damacy *pipeline, struct damacy_stats *stats)
{
    struct dmc_prefetcher_stats prefetch;
    struct dmc_backend_stats backend;
    dmc_prefetcher_stats_get(pipeline->prefetcher, &prefetch);
    pipeline->backend->ops->stats(pipeline->backend, &backend);
    *stats = pipeline->totals;
    stats->metadata = (struct damacy_metric){prefetch.samples, prefetch.metadata_bytes, prefetch.busy_ns};
    stats->read = backend.read;
    stats->read_wait = backend.read_wait;
    stats->decode = backend.decode;
    stats->decode_shared = backend.shared;
    stats->assemble = backend.assemble;
    stats->fill = backend.fill;
    stats->worker_idle = backend.worker_idle;
    stats->bytes_needed += backend.whole_bytes;
    stats->input_transfer = backend.input_transfer;
    stats->gpu_decode = backend.device_decode;
    stats->gpu_assemble = backend.device_assemble;
    stats->gpu_retry = backend.retry;
    stats->post_decode = backend.post_decode;
    stats->decode_gap = backend.decode_gap;
    stats->bind_wait = backend.bind_wait;
    stats->gpu_decode_busy_ns = backend.device_decode_busy_ns;
    stats->gpu_direct_read = backend.direct_read;
    stats->gpu_direct_fallback = backend.direct_fallback;
    stats->gpu_bytes_committed = backend.device_bytes;
    stats->gpu_bytes_limit = backend.device_bytes_limit;
    stats->array_meta_hits = prefetch.array_meta.hits;
    stats->array_meta_misses = prefetch.array_meta.misses;
    stats->shard_index_hits = prefetch.shard_index.hits;
    stats->shard_index_misses = prefetch.shard_index.misses;
    uint64_t now = dmc_clock_ns();
    if (pipeline->slot_wait_begin_ns)
        stats->slot_wait.time_ns += now - pipeline->slot_wait_begin_ns;
    stats->host_bytes_committed = backend.host_bytes + dmc_kept_chunks_bytes(pipeline->kept_chunks);
    stats->elapsed_ns = now;
}

static void subtract_metric(struct damacy_metric *metric, const struct damacy_metric *base)
{
    metric->count -= base->count;
    metric->bytes -= base->bytes;
    metric->time_ns -= base->time_ns;
}

static void subtract(struct damacy_stats *stats, const struct damacy_stats *base)
{
    stats->elapsed_ns -= base->elapsed_ns;
    stats->samples_pushed -= base->samples_pushed;
    stats->samples_delivered -= base->samples_delivered;
    stats->samples_failed -= base->samples_failed;
    stats->batches_delivered -= base->batches_delivered;
    stats->bytes_delivered -= base->bytes_delivered;
    subtract_metric(&stats->metadata, &base->metadata);
    subtract_metric(&stats->plan, &base->plan);
    subtract_metric(&stats->read, &base->read);
    subtract_metric(&stats->read_wait, &base->read_wait);
    subtract_metric(&stats->decode, &base->decode);
    subtract_metric(&stats->assemble, &base->assemble);
    subtract_metric(&stats->fill, &base->fill);
    subtract_metric(&stats->worker_idle, &base->worker_idle);
    subtract_metric(&stats->pop_wait, &base->pop_wait);
    subtract_metric(&stats->slot_wait, &base->slot_wait);
    subtract_metric(&stats->input_transfer, &base->input_transfer);
    subtract_metric(&stats->gpu_decode, &base->gpu_decode);
    subtract_metric(&stats->gpu_assemble, &base->gpu_assemble);
    subtract_metric(&stats->gpu_retry, &base->gpu_retry);
    subtract_metric(&stats->post_decode, &base->post_decode);
    subtract_metric(&stats->decode_gap, &base->decode_gap);
    subtract_metric(&stats->gpu_direct_read, &base->gpu_direct_read);
    subtract_metric(&stats->gpu_direct_fallback, &base->gpu_direct_fallback);
    subtract_metric(&stats->bind_wait, &base->bind_wait);
    subtract_metric(&stats->decode_shared, &base->decode_shared);
    stats->gpu_decode_busy_ns -= base->gpu_decode_busy_ns;
    stats->bytes_needed -= base->bytes_needed;
    stats->array_meta_hits -= base->array_meta_hits;
    stats->array_meta_misses -= base->array_meta_misses;
    stats->shard_index_hits -= base->shard_index_hits;
    stats->shard_index_misses -= base->shard_index_misses;
}

/* Where did the workers' time go? Idle while a batch could have been planned but every slot was taken: the consumer. Idle with
 * nothing to plan: the producer, unless samples were waiting for their metadata, which is the storage's doing. */
static enum damacy_bottleneck find_bottleneck(const struct damacy_stats *stats, uint64_t starve_ns)
{
    if (stats->batches_delivered == 0)
        return DAMACY_BOTTLENECK_NONE;
    uint64_t compute = stats->decode.time_ns + stats->assemble.time_ns + stats->fill.time_ns +
                       stats->bind_wait.time_ns; /* without room in a wave: the device is what is waited for */
    uint64_t storage = stats->read.time_ns + stats->read_wait.time_ns;
    uint64_t idle = stats->worker_idle.time_ns;
    if (idle > compute + storage) {
        uint64_t consumer = stats->slot_wait.time_ns;
        uint64_t metadata = stats->elapsed_ns > consumer + starve_ns ? stats->elapsed_ns - consumer - starve_ns : 0;
        if (consumer >= starve_ns && consumer >= metadata)
            return DAMACY_BOTTLENECK_CONSUMER;
        return starve_ns >= metadata ? DAMACY_BOTTLENECK_PRODUCER : DAMACY_BOTTLENECK_STORAGE;
    }
    return compute >= storage ? DAMACY_BOTTLENECK_DECODE : DAMACY_BOTTLENECK_STORAGE;
}

enum damacy_status damacy_stats_get(const struct damacy *constant, struct damacy_stats *out, struct damacy_error *error)
{
    struct damacy *pipeline = (struct damacy *)constant; /* the lock is not part of what a reader sees */
    if (!out || out->struct_size == 0 || out->struct_size > sizeof *out)
        return dmc_error_set(error, DAMACY_INVAL, "config", "stats.struct_size is wrong; start from DAMACY_STATS_INIT");
    enum damacy_status status = dmc_pipeline_enter(pipeline, error);
    if (status != DAMACY_OK)
        return status;
    struct damacy_stats stats;
    collect(pipeline, &stats);
    subtract(&stats, &pipeline->base);
    uint64_t starve_ns = pipeline->starve_ns + (pipeline->starve_begin_ns ? dmc_clock_ns() - pipeline->starve_begin_ns : 0);
    stats.lookahead_samples = pipeline->lookahead.pushed - pipeline->lookahead.taken;
    stats.batches_ready = pipeline->ready_count;
    stats.batches_held = pipeline->held_count;
    stats.host_bytes_committed += dmc_budget_used(&pipeline->budget) + dmc_budget_used(&pipeline->metadata_budget);
    for (uint32_t i = 0; i < pipeline->config.tuning.batch_slots; i++) /* collect has put the workers' part there */
        stats.host_bytes_committed += dmc_budget_used(&pipeline->slots[i].plan_budget);
    stats.host_bytes_limit = pipeline->config.max_host_memory_bytes;
    stats.bottleneck = find_bottleneck(&stats, starve_ns - pipeline->starve_base_ns);
    dmc_pipeline_leave(pipeline);
    stats.struct_size = out->struct_size;
    memcpy(out, &stats, out->struct_size);
    return DAMACY_OK;
}

enum damacy_status damacy_remote_stats_get(const struct damacy *constant, struct damacy_remote_stats *out,
                                           struct damacy_error *error)
{
    struct damacy *pipeline = (struct damacy *)constant; /* as above */
    if (!out || out->struct_size != sizeof *out)
        return dmc_error_set(error, DAMACY_INVAL, "config", "stats.struct_size is wrong; start from DAMACY_REMOTE_STATS_INIT");
    enum damacy_status status = dmc_pipeline_enter(pipeline, error);
    if (status != DAMACY_OK)
        return status;
    dmc_stores_remote_stats(pipeline->stores, out);
    dmc_pipeline_leave(pipeline);
    return DAMACY_OK;
}

enum damacy_status damacy_stats_reset(struct damacy *pipeline, struct damacy_error *error)
{
    enum damacy_status status = dmc_pipeline_enter(pipeline, error);
    if (status != DAMACY_OK)
        return status;
    collect(pipeline, &pipeline->base);
    pipeline->starve_base_ns =
        pipeline->starve_ns + (pipeline->starve_begin_ns ? dmc_clock_ns() - pipeline->starve_begin_ns : 0);
    dmc_pipeline_leave(pipeline);
    return DAMACY_OK;
}
