/* Making, feeding and ending the workers. */
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/cpu_worker.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static void worker_deinit(struct dmc_cpu_worker *worker)
{
    dmc_worker_memory_deinit(worker);
    dmc_free(worker->slots);
    dmc_free(worker->waiting);
    dmc_free(worker->claimant.shares);
}

uint64_t dmc_cpu_memory(const struct dmc_cpu_options *options)
{
    uint64_t reads = dmc_cpu_reads(options);
    return options->worker_count * (sizeof(struct dmc_cpu_worker) + reads * sizeof(struct dmc_read_slot) +
                                    (reads + 1) * (sizeof(struct dmc_waiting_read) + sizeof(struct dmc_extent)) +
                                    options->batches_max * sizeof(struct dmc_claim_share));
}

static enum damacy_status worker_init(struct dmc_cpu_worker *worker, struct dmc_cpu_backend *backend, uint32_t index,
                                      struct damacy_error *error)
{
    const struct dmc_cpu_options *options = &backend->options;
    struct dmc_io_options io = {.depth = dmc_cpu_reads(options), .io_uring_never = options->io_uring_never};
    worker->backend = backend;
    worker->index = index;
    enum damacy_status status = dmc_io_create(&io, &worker->io, error);
    dmc_budget_init(&worker->share, options->share_bytes);
    if (status == DAMACY_OK)
        status = dmc_codec_context_create(&worker->share, &worker->codec, error);
    if (status != DAMACY_OK)
        return status;
    uint32_t reads = dmc_cpu_reads(options);
    worker->slots = dmc_calloc(reads, sizeof *worker->slots);
    worker->waiting = dmc_calloc((size_t)reads + 1, sizeof *worker->waiting);
    worker->claimant.shares = dmc_calloc(options->batches_max, sizeof *worker->claimant.shares);
    bool buffer = dmc_read_buffer_init(&worker->buffer, reads);
    if (!worker->slots || !worker->waiting || !worker->claimant.shares || !buffer)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for a worker");
    for (uint32_t i = reads; i-- > 0;) {
        worker->slots[i].next = worker->slots_free;
        worker->slots_free = &worker->slots[i];
    }
    return dmc_read_buffer_grow(&worker->buffer, options->worker_bytes, &worker->share, error);
}

static struct dmc_cpu_backend *cpu_of(struct dmc_backend *backend)
{
    return (struct dmc_cpu_backend *)backend;
}

void dmc_cpu_wake(struct dmc_cpu_backend *backend)
{
    for (uint32_t i = 0; i < backend->started; i++)
        dmc_io_wake(backend->workers[i].io);
}

static void cpu_submit(struct dmc_backend *base, struct dmc_backend_batch *batch)
{
    struct dmc_cpu_backend *backend = cpu_of(base);
    const struct dmc_plan *plan = &batch->plan;
    uint32_t tasks = dmc_claim_tasks(plan), guests = plan->kept_begin - plan->guest_begin;
    if (tasks + guests == 0) {
        backend->hooks.done(backend->hooks.user, batch);
        return;
    }
    dmc_claim_begin(batch, tasks, guests);
    if (tasks)
        dmc_claim_publish(&backend->ring, batch);
    /* The batch may be done as soon as the last guest has found a place: nothing of it is looked at afterwards but this. */
    for (uint32_t i = 0; i < guests; i++) {
        struct dmc_guest *guest = &batch->guests[i];
        *guest = (struct dmc_guest){NULL, batch, plan->guest_begin + i};
        if (!dmc_host_enter(plan->hosts[i], guest))
            dmc_stray_add(&backend->strays, guest);
    }
    dmc_cpu_wake(backend);
}

static void cpu_stop(struct dmc_backend *base)
{
    struct dmc_cpu_backend *backend = cpu_of(base);
    atomic_store(&backend->stop, true);
    dmc_mutex_lock(&backend->token_lock);
    dmc_cond_broadcast(&backend->token_free);
    dmc_mutex_unlock(&backend->token_lock);
    dmc_cpu_wake(backend);
}

static bool cpu_destroy(struct dmc_backend *base, uint64_t deadline_ns)
{
    if (!base)
        return true;
    struct dmc_cpu_backend *backend = cpu_of(base);
    cpu_stop(base);
    bool whole = true;
    for (uint32_t i = 0; i < backend->started; i++) {
        if (!dmc_thread_join_computing(backend->workers[i].thread, deadline_ns, &backend->workers[i].computing)) {
            dmc_log(DMC_BACKEND, DAMACY_LOG_WARN, "worker %u is stuck in the kernel; it is left behind with its buffers", i);
            whole = false;
        }
    }
    for (uint32_t i = 0; whole && backend->workers && i < backend->options.worker_count; i++) {
        struct dmc_cpu_worker *worker = &backend->workers[i];
        if (worker->io && !dmc_io_destroy(worker->io, deadline_ns)) {
            dmc_log(DMC_BACKEND, DAMACY_LOG_WARN,
                    "a read of worker %u is stuck in the kernel; it is left behind with its buffers", i);
            whole = false;
        }
    }
    if (!whole)
        return false; /* what is stuck may still write into the buffers */
    for (uint32_t i = 0; backend->workers && i < backend->options.worker_count; i++)
        if (backend->workers[i].backend)
            worker_deinit(&backend->workers[i]);
    dmc_cond_deinit(&backend->token_free);
    dmc_mutex_deinit(&backend->token_lock);
    dmc_mutex_deinit(&backend->strays.lock);
    dmc_free(backend->workers);
    dmc_free((void *)backend->ring.batches);
    dmc_free(backend);
    return true;
}

static void cpu_stats(const struct dmc_backend *base, struct dmc_backend_stats *stats)
{
    const struct dmc_cpu_backend *backend = (const struct dmc_cpu_backend *)base;
    memset(stats, 0, sizeof *stats);
    for (uint32_t i = 0; i < backend->started; i++) {
        const struct dmc_cpu_worker *worker = &backend->workers[i];
        dmc_counter_sum(&stats->read, &worker->read);
        dmc_counter_sum(&stats->read_wait, &worker->read_wait);
        dmc_counter_sum(&stats->decode, &worker->decode);
        dmc_counter_sum(&stats->shared, &worker->shared);
        dmc_counter_sum(&stats->assemble, &worker->assemble);
        dmc_counter_sum(&stats->fill, &worker->fill);
        dmc_counter_sum(&stats->worker_idle, &worker->idle);
        stats->host_bytes += dmc_budget_used(&worker->share);
        stats->whole_bytes += atomic_load_explicit(&worker->whole_bytes, memory_order_relaxed);
    }
}

static void cpu_work(const struct dmc_backend *base, uint64_t *cpu_ns, uint64_t *bytes)
{
    const struct dmc_cpu_backend *backend = (const struct dmc_cpu_backend *)base;
    *cpu_ns = *bytes = 0;
    for (uint32_t i = 0; i < backend->started; i++) {
        const struct dmc_cpu_worker *worker = &backend->workers[i];
        struct timespec used = {0};
        clock_gettime(worker->cpu_clock, &used);
        *cpu_ns += (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
        *bytes += atomic_load_explicit(&worker->assemble.bytes, memory_order_relaxed) +
                  atomic_load_explicit(&worker->fill.bytes, memory_order_relaxed);
    }
}

/* --- memory of batches --- */

static void memory_free(struct dmc_backend_memory *memory)
{
    if (memory->data)
        dmc_pages_unmap(memory->data, memory->bytes);
    *memory = (struct dmc_backend_memory){0};
}

static const struct dmc_backend_memory_ops memory_ops = {.free = memory_free};

static enum damacy_status cpu_memory_alloc(struct dmc_backend *backend, uint64_t bytes, struct dmc_backend_memory *memory,
                                           struct damacy_error *error)
{
    (void)backend;
    *memory = (struct dmc_backend_memory){.ops = &memory_ops, .data = dmc_pages_map(bytes), .bytes = bytes};
    if (!memory->data)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for a batch buffer of %llu bytes",
                             (unsigned long long)bytes);
    return DAMACY_OK;
}

static bool cpu_row_fill(struct dmc_backend *backend, void *target, uint64_t elements, enum damacy_dtype output,
                         struct dmc_scatter_element element)
{
    (void)backend;
    if (element.dtype == DAMACY_NATIVE)
        memset(target, 0, elements * damacy_dtype_bytes(output));
    else
        dmc_scatter_fill(target, 0, 1, elements, output, element);
    return true;
}

static bool cpu_row_move(struct dmc_backend *backend, void *to, const void *from, uint64_t bytes)
{
    (void)backend;
    memcpy(to, from, bytes);
    return true;
}

static const struct dmc_backend_ops cpu_ops = {
    .device = DAMACY_CPU,
    .binds = true,
    .hosts = true,
    .submit = cpu_submit,
    .stop = cpu_stop,
    .destroy = cpu_destroy,
    .stats = cpu_stats,
    .work = cpu_work,
    .memory_alloc = cpu_memory_alloc,
    .row_fill = cpu_row_fill,
    .row_move = cpu_row_move,
};

/* --- making --- */

enum damacy_status dmc_cpu_create(const struct dmc_cpu_options *options, const struct dmc_backend_hooks *hooks,
                                  struct dmc_backend **out, struct damacy_error *error)
{
    struct dmc_cpu_backend *backend = dmc_calloc(1, sizeof *backend);
    if (!backend)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the CPU backend");
    backend->base.ops = &cpu_ops;
    backend->options = *options;
    backend->hooks = *hooks;
    dmc_mutex_init(&backend->token_lock);
    dmc_mutex_init(&backend->strays.lock);
    dmc_cond_init(&backend->token_free);
    backend->workers = dmc_calloc(options->worker_count, sizeof *backend->workers);
    backend->ring.batches = dmc_calloc(options->batches_max, sizeof *backend->ring.batches);
    backend->ring.capacity = options->batches_max;
    enum damacy_status status = DAMACY_OK;
    if (!backend->workers || !backend->ring.batches)
        status = dmc_error_set(error, DAMACY_OOM, "config", "no memory for the CPU backend");
    for (uint32_t i = 0; status == DAMACY_OK && i < options->worker_count; i++)
        status = worker_init(&backend->workers[i], backend, i, error);
    for (uint32_t i = 0; status == DAMACY_OK && i < options->worker_count; i++) {
        char name[32];
        snprintf(name, sizeof name, "damacy-cpu-%u", i);
        int failed = dmc_thread_start(&backend->workers[i].thread, name, dmc_cpu_worker_run, &backend->workers[i]);
        if (failed)
            status = dmc_error_set_os(error, DAMACY_IO, "config", failed, "cannot start worker %u of %u", i + 1,
                                      options->worker_count);
        else if ((failed = pthread_getcpuclockid(backend->workers[backend->started++].thread, &backend->workers[i].cpu_clock)))
            status = dmc_error_set_os(error, DAMACY_IO, "config", failed, "cannot read the processor time of worker %u of %u",
                                      i + 1, options->worker_count);
    }
    if (status != DAMACY_OK) {
        cpu_destroy(&backend->base, UINT64_MAX);
        return status;
    }
    *out = &backend->base;
    return DAMACY_OK;
}
