/* From create to destroy, and the door that every call goes through. */
#include "backend/cpu/cpu_backend.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/numa.h"
#include "base/trace.h"
#include "pipeline/pipeline.h"

#include <string.h>

/* How long destroy waits for a thread or a read that does not answer; then it is left behind. Longer than a busy machine makes
 * a thread wait for its turn. */
#define STUCK_NS 10000000000ull

/* Batch buffers that together exceed this, which is what a core has to itself, are written around the cache. Further out it is
 * up to the neighbours what remains of them: into the cache takes somewhat less than around it while all buffers stay in the
 * last one and several times as much when they do not (bench_scatter, cache and stream), and then what decoding needs is driven
 * out, too. Compressed chunks gain a few percent so, also with a caller on the same core that sums up every batch; uncompressed
 * ones into few and small buffers lose. So it is tried (write_choice.h). */
#define CACHE_BYTES (1ull << 20)
/* Buffers that go round where the caller keeps up: one being written, one being read, one between them. */
#define BUFFERS_IN_USE 3u
/* One worker begins with the way into the cache where they take no more than this part of it: it finds its own lines there.
 * Uncompressed chunks, batches of 8 MiB, 300 MiB of cache: a fifth to a quarter less time than around it, as
 * DAMACY_LOG=pipeline says of a trial. With 4 and 16 workers, whose lines are in each other's caches, around it takes up to a
 * tenth less. */
#define ONE_WORKER_PART 8u
/* Less processor time than this is no measurement: the scheduler's ticks and the caches' ups and downs are milliseconds. */
#define WRITE_WINDOW_NS 20000000u

/* --- home --- */

struct dmc_home *dmc_home_create(const struct damacy_config *config)
{
    struct dmc_home *home = dmc_calloc(1, sizeof *home);
    if (!home)
        return NULL;
    home->fork_generation = dmc_fork_generation();
    home->samples_per_batch = config->samples_per_batch;
    atomic_init(&home->references, 1);
    dmc_mutex_init(&home->lock);
    home->fields = dmc_calloc(config->field_count, sizeof *home->fields);
    bool whole = home->fields != NULL;
    for (uint32_t f = 0; whole && f < config->field_count; f++) {
        const struct damacy_field *from = &config->fields[f];
        int64_t *shape = dmc_malloc(from->rank * sizeof *shape);
        char *name = dmc_strdup(from->name ? from->name : "");
        if (shape)
            memcpy(shape, from->sample_shape, from->rank * sizeof *shape);
        home->fields[f] = (struct damacy_field){name, from->rank, shape, from->dtype};
        home->field_count++;
        whole = shape && name;
    }
    if (!whole) {
        dmc_home_release(home);
        return NULL;
    }
    return home;
}

void dmc_home_retain(struct dmc_home *home)
{
    atomic_fetch_add_explicit(&home->references, 1, memory_order_relaxed);
}

void dmc_home_release(struct dmc_home *home)
{
    if (atomic_fetch_sub_explicit(&home->references, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t f = 0; f < home->field_count; f++) {
        dmc_free((void *)home->fields[f].name);
        dmc_free((void *)home->fields[f].sample_shape);
    }
    dmc_free(home->fields);
    dmc_mutex_deinit(&home->lock);
    dmc_free(home);
}

/* --- the prefetcher's questions --- */

static struct dmc_sample_slot *take_sample(void *user)
{
    struct damacy *pipeline = user;
    dmc_mutex_lock(&pipeline->home->lock);
    dmc_scheduler_step_locked(pipeline);
    struct dmc_sample_slot *slot = pipeline->shutting_down ? NULL : dmc_lookahead_take(&pipeline->lookahead);
    if (slot) {
        dmc_push_tell(pipeline);
        if (pipeline->starve_begin_ns) {
            pipeline->starve_ns += dmc_clock_ns() - pipeline->starve_begin_ns;
            pipeline->starve_begin_ns = 0;
        }
    } else if (!pipeline->starve_begin_ns && pipeline->lookahead.pushed == pipeline->lookahead.planned) {
        pipeline->starve_begin_ns = dmc_clock_ns();
    }
    dmc_mutex_unlock(&pipeline->home->lock);
    return slot;
}

static void sample_resolved(void *user, struct dmc_sample_slot *slot)
{
    struct damacy *pipeline = user;
    dmc_mutex_lock(&pipeline->home->lock);
    dmc_lookahead_resolve(&pipeline->lookahead, slot);
    dmc_scheduler_step_locked(pipeline);
    dmc_mutex_unlock(&pipeline->home->lock);
}

static uint64_t watermark(void *user)
{
    struct damacy *pipeline = user;
    dmc_mutex_lock(&pipeline->home->lock);
    dmc_scheduler_step_locked(pipeline);
    uint64_t planned = pipeline->planned_count;
    dmc_mutex_unlock(&pipeline->home->lock);
    return planned;
}

/* --- create --- */

static enum damacy_status create_stores(struct damacy *pipeline, const char *storage_options,
                                        const struct dmc_pipeline_extras *extras, struct damacy_error *error)
{
    struct dmc_stores_options options = {.file.open_files_max = pipeline->config.tuning.open_files_max,
                                         .storage_options = storage_options,
                                         .container_bytes_max = dmc_max_u64(pipeline->layout.container_bytes, 1),
                                         .network_bytes_max = pipeline->layout.network_bytes};
    enum damacy_status status = dmc_stores_create(&options, &pipeline->stores, error);
    if (status == DAMACY_OK && extras->file_store)
        dmc_stores_set(pipeline->stores, "file", extras->file_store);
    if (status == DAMACY_OK && extras->memory_store)
        dmc_stores_set(pipeline->stores, "memory", extras->memory_store);
    return status;
}

static enum damacy_status create_tables(struct damacy *pipeline, struct damacy_error *error)
{
    const struct dmc_home *home = pipeline->home;
    const struct damacy_tuning *tuning = &pipeline->config.tuning;
    pipeline->ranks = dmc_calloc(home->field_count, sizeof *pipeline->ranks);
    pipeline->sample_shapes = dmc_calloc(home->field_count, sizeof *pipeline->sample_shapes);
    pipeline->tensor_offsets = dmc_calloc(home->field_count, sizeof *pipeline->tensor_offsets);
    pipeline->native = dmc_calloc(home->field_count, sizeof *pipeline->native);
    pipeline->slots = dmc_calloc(tuning->batch_slots, sizeof *pipeline->slots);
    pipeline->free_memory = dmc_calloc(tuning->batch_slots, sizeof *pipeline->free_memory);
    pipeline->in_order = dmc_calloc(tuning->batch_slots, sizeof *pipeline->in_order);
    if (!pipeline->ranks || !pipeline->sample_shapes || !pipeline->tensor_offsets || !pipeline->native || !pipeline->slots ||
        !pipeline->free_memory || !pipeline->in_order)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the pipeline");
    uint64_t offset = 0;
    for (uint32_t f = 0; f < home->field_count; f++) {
        pipeline->ranks[f] = home->fields[f].rank;
        pipeline->sample_shapes[f] = home->fields[f].sample_shape;
        pipeline->tensor_offsets[f] = offset;
        offset += dmc_config_tensor_bytes(&pipeline->config, f);
    }
    enum damacy_status status = dmc_lookahead_init(&pipeline->lookahead, tuning->lookahead_samples, tuning->prefetch_samples,
                                                   home->field_count, pipeline->ranks, error);
    if (status != DAMACY_OK)
        return status;
    pipeline->closed = dmc_calloc(pipeline->lookahead.capacity, sizeof *pipeline->closed);
    if (!pipeline->closed)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the pipeline");
    for (uint32_t i = 0; i < tuning->batch_slots; i++) {
        dmc_budget_init(&pipeline->slots[i].plan_budget, pipeline->layout.plan_bytes);
        dmc_arena_init(&pipeline->slots[i].arena, &pipeline->slots[i].plan_budget);
        status = dmc_batch_create(pipeline, i, &pipeline->slots[i].batch, error);
        if (status == DAMACY_OK)
            status = pipeline->backend->ops->memory_alloc(pipeline->backend, pipeline->layout.batch_bytes,
                                                          &pipeline->free_memory[i], error);
        if (status != DAMACY_OK)
            return status;
        pipeline->free_memory_count++;
    }
    return DAMACY_OK;
}

uint32_t dmc_pipeline_numa_enter(const struct damacy *pipeline, const struct dmc_pipeline_extras *extras, int node,
                                 struct dmc_numa_place *place)
{
    const struct damacy_config *config = &pipeline->config;
    uint32_t workers = config->tuning.worker_count, cores = dmc_cores_allowed();
    *place = (struct dmc_numa_place){0};
    if (config->numa == DAMACY_NUMA_OFF || (config->numa == DAMACY_NUMA_AUTO && config->device == DAMACY_CPU))
        return workers;
    if (config->numa == DAMACY_NUMA_NODE)
        node = (int)dmc_min_u64(config->numa_node, INT32_MAX);
    uint32_t node_cores = dmc_numa_enter(extras->sysfs, node, place);
    return node_cores && workers == cores ? (uint32_t)dmc_min_u64(workers, node_cores) : workers;
}

/* A node that somebody asked for must be one. */
static enum damacy_status check_numa(const struct damacy_config *config, const struct dmc_pipeline_extras *extras,
                                     struct damacy_error *error)
{
    struct dmc_numa_set nodes;
    if (config->numa != DAMACY_NUMA_NODE || !dmc_numa_nodes(extras->sysfs, &nodes) || dmc_numa_has(&nodes, config->numa_node))
        return DAMACY_OK;
    return dmc_error_set(error, DAMACY_INVAL, "config", "numa is node %u, but this machine has %u node%s, counted from 0",
                         config->numa_node, dmc_numa_count(&nodes), dmc_numa_count(&nodes) == 1 ? "" : "s");
}

static enum damacy_status create_backend(struct damacy *pipeline, const struct dmc_pipeline_extras *extras,
                                         struct damacy_error *error)
{
    if (pipeline->config.device == DAMACY_CUDA_DEVICE)
        return dmc_pipeline_create_cuda(pipeline, extras, error);
    struct dmc_cpu_options cpu;
    dmc_config_cpu(&pipeline->config, &pipeline->layout, &cpu);
    struct dmc_backend_hooks hooks = {
        .user = pipeline, .fail = dmc_scheduler_fail, .bind = dmc_scheduler_bind, .done = dmc_scheduler_done};
    struct dmc_numa_place place;
    cpu.worker_count = dmc_pipeline_numa_enter(pipeline, extras, -1, &place);
    enum damacy_status status = dmc_cpu_create(&cpu, &hooks, &pipeline->backend, error);
    dmc_numa_leave(&place);
    return status;
}

/* Only a backend that knows hosts fills what is kept. */
static enum damacy_status create_kept_chunks(struct damacy *pipeline, struct damacy_error *error)
{
    if (!pipeline->backend->ops->hosts || pipeline->config.tuning.bypass_decode)
        return DAMACY_OK;
    pipeline->decode_slow = true; /* until it is known, so that small runs have it, too */
    return dmc_kept_chunks_create(pipeline->layout.kept_bytes, &pipeline->kept_chunks, error);
}

static enum damacy_status create_prefetcher(struct damacy *pipeline, const struct dmc_pipeline_extras *extras,
                                            struct damacy_error *error)
{
    struct dmc_prefetcher_options options;
    dmc_config_prefetcher(&pipeline->config, pipeline->ranks, pipeline->sample_shapes, &options);
    if (!pipeline->layout.gap_open)
        options.coalesce_gap_bytes = pipeline->config.tuning.coalesce_gap_bytes;
    options.want_layout = extras->want_layout;
    options.parse_bytes = pipeline->layout.parse_bytes;
    struct dmc_prefetcher_hooks hooks = {pipeline, take_sample, sample_resolved, watermark};
    return dmc_prefetcher_create(&options, &hooks, pipeline->stores, &pipeline->metadata_budget, &pipeline->prefetcher, error);
}

/* Free what there is. Threads have ended, or were never started. */
static void free_pipeline(struct damacy *pipeline)
{
    for (uint32_t i = 0; pipeline->slots && i < pipeline->config.tuning.batch_slots; i++) {
        struct dmc_batch_slot *slot = &pipeline->slots[i];
        for (uint32_t a = 0; a < slot->array_count; a++)
            dmc_array_release(slot->arrays[a]);
        dmc_arena_deinit(&slot->arena);
        if (slot->state != DMC_SLOT_HELD)
            dmc_batch_free(slot->batch);
    }
    for (uint32_t i = 0; i < pipeline->free_memory_count; i++)
        pipeline->free_memory[i].ops->free(&pipeline->free_memory[i]);
    dmc_lookahead_deinit(&pipeline->lookahead);
    dmc_kept_chunks_destroy(pipeline->kept_chunks);
    dmc_stores_destroy(pipeline->stores);
    dmc_cond_deinit(&pipeline->changed);
    dmc_home_release(pipeline->home);
    dmc_free(pipeline->ranks);
    dmc_free(pipeline->sample_shapes);
    dmc_free(pipeline->tensor_offsets);
    dmc_free(pipeline->native);
    dmc_free(pipeline->slots);
    dmc_free(pipeline->free_memory);
    dmc_free(pipeline->in_order);
    dmc_free(pipeline->closed);
    dmc_free(pipeline);
}

/* Around the cache, unless all buffers fit into a core's own; both are tried where those in use may stay in the last cache. */
static void choose_writing(struct damacy *pipeline, const struct dmc_pipeline_extras *extras)
{
    const struct damacy_tuning *tuning = &pipeline->config.tuning;
    const uint64_t batch_bytes = pipeline->layout.batch_bytes, last_cache = dmc_last_cache_bytes();
    const uint64_t in_use = dmc_min_u64(tuning->batch_slots, BUFFERS_IN_USE) * batch_bytes;
    bool large = extras->streamed || tuning->batch_slots * batch_bytes > CACHE_BYTES;
    bool tries = !extras->streamed && large && in_use <= last_cache;
    bool begins_into = tries && tuning->worker_count == 1 && in_use <= last_cache / ONE_WORKER_PART;
    dmc_write_choice_init(&pipeline->write_choice, large && !begins_into,
                          pipeline->config.device == DAMACY_CPU && (tries || extras->try_writes), tuning->batch_slots,
                          extras->try_writes ? 1 : WRITE_WINDOW_NS);
}

enum damacy_status dmc_pipeline_create(const struct damacy_config *config, const struct dmc_pipeline_extras *extras,
                                       struct damacy **out, struct damacy_error *error)
{
    struct damacy_config complete;
    struct dmc_config_layout layout;
    if (!out)
        return dmc_error_set(error, DAMACY_INVAL, "config", "pipeline is NULL");
    enum damacy_status status = dmc_config_complete(config, &complete, &layout, error);
    if (status == DAMACY_OK && complete.tuning.io_uring == 1)
        status = dmc_io_uring_probe(error);
    if (status == DAMACY_OK)
        status = check_numa(&complete, extras, error);
    if (status != DAMACY_OK)
        return status;
    struct damacy *pipeline = dmc_calloc(1, sizeof *pipeline);
    if (!pipeline || !(pipeline->home = dmc_home_create(&complete))) {
        dmc_free(pipeline);
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the pipeline");
    }
    if (complete.tuning.bypass_decode)
        dmc_log(DMC_PIPELINE, DAMACY_LOG_WARN, "bypass_decode is set: batches hold fill values instead of data");
    pipeline->config = complete;
    pipeline->config.fields = pipeline->home->fields;
    pipeline->config.storage_options = NULL; /* the caller's, and secret */
    pipeline->layout = layout;
    choose_writing(pipeline, extras);
    pipeline->base.elapsed_ns = dmc_clock_ns();
    dmc_cond_init(&pipeline->changed);
    /* The workers hold their shares, the prefetcher draws its own part. The check above has made sure that all of it fits. */
    uint64_t create_bytes =
        layout.fixed_bytes - layout.prefetcher_bytes - complete.tuning.worker_count * complete.tuning.worker_bytes;
    uint64_t cuda_bytes = layout.limit_bytes - create_bytes - layout.metadata_bytes - layout.parse_bytes -
                          layout.container_bytes - layout.network_bytes - complete.tuning.batch_slots * layout.plan_bytes;
    dmc_budget_init(&pipeline->budget, create_bytes + (complete.device == DAMACY_CUDA_DEVICE ? cuda_bytes : 0));
    dmc_budget_reserve(&pipeline->budget, create_bytes);
    dmc_budget_init(&pipeline->metadata_budget, layout.metadata_bytes);

    status = create_stores(pipeline, complete.storage_options, extras, error);
    if (status == DAMACY_OK)
        status = create_backend(pipeline, extras, error);
    if (status == DAMACY_OK)
        status = create_tables(pipeline, error);
    if (status == DAMACY_OK)
        status = create_kept_chunks(pipeline, error);
    if (status == DAMACY_OK) {
        pipeline->home->device = pipeline->backend->ops->device;
        pipeline->home->device_ordinal = pipeline->backend->ordinal;
        dmc_mutex_lock(&pipeline->home->lock);
        pipeline->home->pipeline = pipeline;
        dmc_mutex_unlock(&pipeline->home->lock);
        status = create_prefetcher(pipeline, extras, error);
    }
    if (status != DAMACY_OK) {
        if (pipeline->backend)
            pipeline->backend->ops->destroy(pipeline->backend, UINT64_MAX);
        free_pipeline(pipeline);
        return status;
    }
    dmc_log(DMC_PIPELINE, DAMACY_LOG_INFO, "%u workers, %u batch slots of %llu bytes, limit %llu bytes",
            complete.tuning.worker_count, pipeline->config.tuning.batch_slots, (unsigned long long)layout.batch_bytes,
            (unsigned long long)layout.limit_bytes);
    *out = pipeline;
    return DAMACY_OK;
}

enum damacy_status damacy_create(const struct damacy_config *config, struct damacy **pipeline, struct damacy_error *error)
{
    return dmc_pipeline_create(config, &(struct dmc_pipeline_extras){0}, pipeline, error);
}

/* --- destroy --- */

void damacy_destroy(struct damacy *pipeline)
{
    if (!pipeline || pipeline->home->fork_generation != dmc_fork_generation())
        return;
    struct dmc_home *home = pipeline->home;
    dmc_mutex_lock(&home->lock);
    pipeline->shutting_down = true;
    dmc_cond_broadcast(&pipeline->changed);
    dmc_stores_stop(pipeline->stores);
    dmc_prefetcher_stop(pipeline->prefetcher);
    pipeline->backend->ops->stop(pipeline->backend);
    while (pipeline->inside) /* they only wait for the lock, or for what was just broadcast */
        dmc_cond_wait(&pipeline->changed, &home->lock);
    /* From here on the last reference of a held batch frees it, and does not touch what is freed below. */
    home->pipeline = NULL;
    dmc_mutex_unlock(&home->lock);

    uint64_t deadline_ns = dmc_clock_deadline(STUCK_NS);
    bool prefetcher_ended = dmc_prefetcher_destroy(pipeline->prefetcher, deadline_ns);
    bool backend_ended = pipeline->backend->ops->destroy(pipeline->backend, deadline_ns);

    dmc_trace_flush();
    if (!prefetcher_ended || !backend_ended) {
        dmc_log(DMC_PIPELINE, DAMACY_LOG_WARN, "a read is stuck in the kernel; the pipeline's memory is left behind");
        return;
    }
    free_pipeline(pipeline);
}

/* --- the door --- */

enum damacy_status dmc_pipeline_enter(struct damacy *pipeline, struct damacy_error *error)
{
    if (!pipeline)
        return dmc_error_set(error, DAMACY_INVAL, "config", "pipeline is NULL");
    if (pipeline->home->fork_generation != dmc_fork_generation())
        return dmc_error_set(error, DAMACY_FORKED, "config",
                             "this pipeline was inherited through fork(); make one in the child");
    dmc_mutex_lock(&pipeline->home->lock);
    if (pipeline->shutting_down) {
        dmc_mutex_unlock(&pipeline->home->lock);
        return dmc_error_set(error, DAMACY_SHUTDOWN, "config", "the pipeline is being destroyed");
    }
    pipeline->inside++;
    return DAMACY_OK;
}

void dmc_pipeline_leave(struct damacy *pipeline)
{
    struct dmc_home *home = pipeline->home;
    if (--pipeline->inside == 0 && pipeline->shutting_down)
        dmc_cond_broadcast(&pipeline->changed);
    dmc_mutex_unlock(&home->lock);
}

void dmc_pipeline_wake_and_leave(struct damacy *pipeline)
{
    dmc_prefetcher_wake(pipeline->prefetcher); /* it is there as long as somebody is inside */
    dmc_mutex_lock(&pipeline->home->lock);
    dmc_pipeline_leave(pipeline);
}

void dmc_pipeline_leave_and_wake(struct damacy *pipeline)
{
    dmc_mutex_unlock(&pipeline->home->lock);
    dmc_pipeline_wake_and_leave(pipeline);
}

enum damacy_status damacy_get_device(const struct damacy *pipeline, enum damacy_device_type *type, int32_t *ordinal,
                                     struct damacy_error *error)
{
    if (!pipeline)
        return dmc_error_set(error, DAMACY_INVAL, "config", "pipeline is NULL");
    if (pipeline->home->fork_generation != dmc_fork_generation())
        return dmc_error_set(error, DAMACY_FORKED, "config",
                             "this pipeline was inherited through fork(); make one in the child");
    if (type)
        *type = pipeline->config.device;
    if (ordinal)
        *ordinal = pipeline->backend->ordinal;
    return DAMACY_OK;
}
