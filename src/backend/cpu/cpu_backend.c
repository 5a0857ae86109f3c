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
    dmc_codec_context_destroy(worker->codec);
    dmc_read_buffer_deinit(&worker->buffer, worker->backend->budget);
    if (worker->decoded) {
        dmc_pages_unmap(worker->decoded, worker->decoded_bytes);
        dmc_budget_unreserve(worker->backend->budget, worker->decoded_bytes);
    }
    dmc_free(worker->slots);
    dmc_free(worker->waiting);
}

static enum damacy_status worker_init(struct dmc_cpu_worker *worker, struct dmc_cpu_backend *backend, uint32_t index,
                                      struct damacy_error *error)
{
    const struct dmc_cpu_options *options = &backend->options;
    struct dmc_io_options io = {.depth = options->reads_in_flight, .io_uring_never = options->io_uring_never};
    worker->backend = backend;
    worker->index = index;
    enum damacy_status status = dmc_io_create(&io, &worker->io, error);
    if (status == DAMACY_OK)
        status = dmc_codec_context_create(backend->budget, &worker->codec, error);
    if (status == DAMACY_OK)
        status = dmc_read_buffer_grow(&worker->buffer, options->worker_bytes, backend->budget, error);
    if (status != DAMACY_OK)
        return status;
    worker->slots = dmc_calloc(options->reads_in_flight, sizeof *worker->slots);
    worker->waiting = dmc_calloc(options->reads_in_flight + 1, sizeof *worker->waiting);
    if (!worker->slots || !worker->waiting)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for a worker");
    return DAMACY_OK;
}

enum damacy_status dmc_cpu_create(const struct dmc_cpu_options *options, const struct dmc_cpu_hooks *hooks, struct dmc_budget *budget,
                                  struct dmc_cpu_backend **out, struct damacy_error *error)
{
    struct dmc_cpu_backend *backend = dmc_calloc(1, sizeof *backend);
    if (!backend)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the CPU backend");
    backend->options = *options;
    backend->hooks = *hooks;
    backend->budget = budget;
    backend->workers = dmc_calloc(options->worker_count, sizeof *backend->workers);
    backend->batches = dmc_calloc(options->batches_max, sizeof *backend->batches);
    enum damacy_status status = DAMACY_OK;
    if (!backend->workers || !backend->batches)
        status = dmc_error_set(error, DAMACY_OOM, "config", "no memory for the CPU backend");
    for (uint32_t i = 0; status == DAMACY_OK && i < options->worker_count; i++)
        status = worker_init(&backend->workers[i], backend, i, error);
    for (uint32_t i = 0; status == DAMACY_OK && i < options->worker_count; i++) {
        char name[32];
        snprintf(name, sizeof name, "damacy-cpu-%u", i);
        int failed = dmc_thread_start(&backend->workers[i].thread, name, dmc_cpu_worker_run, &backend->workers[i]);
        if (failed)
            status = dmc_error_set_os(error, DAMACY_IO, "config", failed, "cannot start worker %u of %u", i + 1, options->worker_count);
        else
            backend->started++;
    }
    if (status != DAMACY_OK) {
        dmc_cpu_stop(backend);
        dmc_cpu_destroy(backend, UINT64_MAX);
        return status;
    }
    *out = backend;
    return DAMACY_OK;
}

void dmc_cpu_submit(struct dmc_cpu_backend *backend, struct dmc_cpu_batch *batch)
{
    uint32_t tasks = batch->plan.read_count + dmc_cpu_fill_tasks(&batch->plan);
    if (tasks == 0) {
        backend->hooks.done(backend->hooks.user, batch);
        return;
    }
    atomic_store_explicit(&batch->remaining, tasks, memory_order_relaxed);
    atomic_store_explicit(&batch->claim, (uint64_t)tasks << 32, memory_order_release); /* partner: claim_task */
    uint64_t number = atomic_load_explicit(&backend->submitted, memory_order_relaxed);
    atomic_store_explicit(&backend->batches[number % backend->options.batches_max], batch, memory_order_release);
    atomic_store_explicit(&backend->submitted, number + 1, memory_order_release);
    for (uint32_t i = 0; i < backend->started; i++) /* all: which of them are busy with a long decode cannot be told cheaply */
        dmc_io_wake(backend->workers[i].io);
}

void dmc_cpu_stop(struct dmc_cpu_backend *backend)
{
    atomic_store(&backend->stop, true);
    for (uint32_t i = 0; i < backend->started; i++)
        dmc_io_wake(backend->workers[i].io);
}

bool dmc_cpu_destroy(struct dmc_cpu_backend *backend, uint64_t deadline_ns)
{
    if (!backend)
        return true;
    dmc_cpu_stop(backend);
    bool whole = true;
    for (uint32_t i = 0; i < backend->started; i++) {
        if (!dmc_thread_join_until(backend->workers[i].thread, deadline_ns)) {
            dmc_log(DMC_BACKEND, DAMACY_LOG_WARN, "worker %u is stuck in the kernel; it is left behind with its buffers", i);
            whole = false;
        }
    }
    for (uint32_t i = 0; whole && backend->workers && i < backend->options.worker_count; i++) {
        struct dmc_cpu_worker *worker = &backend->workers[i];
        if (worker->io && !dmc_io_destroy(worker->io, deadline_ns)) {
            dmc_log(DMC_BACKEND, DAMACY_LOG_WARN, "a read of worker %u is stuck in the kernel; it is left behind with its buffers", i);
            whole = false;
        }
    }
    if (!whole)
        return false; /* what is stuck may still write into the buffers */
    for (uint32_t i = 0; backend->workers && i < backend->options.worker_count; i++)
        if (backend->workers[i].backend)
            worker_deinit(&backend->workers[i]);
    dmc_free(backend->workers);
    dmc_free((void *)backend->batches);
    dmc_free(backend);
    return true;
}

static void add_counter(struct damacy_metric *metric, const struct dmc_worker_counter *counter)
{
    metric->count += atomic_load_explicit(&counter->count, memory_order_relaxed);
    metric->bytes += atomic_load_explicit(&counter->bytes, memory_order_relaxed);
    metric->time_ns += atomic_load_explicit(&counter->time_ns, memory_order_relaxed);
}

void dmc_cpu_stats_get(const struct dmc_cpu_backend *backend, struct dmc_cpu_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    for (uint32_t i = 0; i < backend->started; i++) {
        const struct dmc_cpu_worker *worker = &backend->workers[i];
        add_counter(&stats->read, &worker->read);
        add_counter(&stats->read_wait, &worker->read_wait);
        add_counter(&stats->decode, &worker->decode);
        add_counter(&stats->assemble, &worker->assemble);
        add_counter(&stats->fill, &worker->fill);
        add_counter(&stats->worker_idle, &worker->idle);
        stats->whole_bytes += atomic_load_explicit(&worker->whole_bytes, memory_order_relaxed);
    }
}
