/* The loop of a worker: claim, start, finish. See cpu_backend.h for the picture. */
#include "backend/chunk_check.h"
#include "backend/cpu/cpu_worker.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/nvtx.h"
#include "base/trace.h"

static void release_slot(struct dmc_cpu_worker *worker, struct dmc_read_slot *slot)
{
    dmc_read_buffer_give(&worker->buffer, slot->room);
    slot->next = worker->slots_free;
    worker->slots_free = slot;
}

static void wait_with(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, uint32_t read, uint64_t bytes)
{
    worker->waiting[worker->waiting_count++] = (struct dmc_waiting_read){batch, read, bytes};
}

/* The request of a slot is done: use it, or start it again with the length that the store told. */
static void finish_read(struct dmc_cpu_worker *worker, struct dmc_read_slot *slot)
{
    const struct dmc_read *read = &slot->batch->plan.reads[slot->read];
    struct dmc_request *request = &slot->request;
    if (slot->shared)
        dmc_claim_share_remove(&worker->claimant, slot->batch);
    if (request->outcome == DMC_OUTCOME_TOO_LONG && request->object_bytes <= read->length &&
        request->object_bytes > slot->part.iov_len) {
        uint64_t object_bytes = request->object_bytes;
        struct dmc_backend_batch *batch = slot->batch;
        uint32_t index = slot->read;
        release_slot(worker, slot);
        if (worker->oversize_bytes)
            dmc_worker_oversize_end(worker);
        wait_with(worker, batch, index, object_bytes);
        return;
    }
    dmc_counter_add(&worker->read, 0, request->bytes_read, 0);
    if (read->whole)
        atomic_fetch_add_explicit(&worker->whole_bytes, request->bytes_read, memory_order_relaxed);
    dmc_cpu_execute_read(worker, slot->batch, slot->read, request, &slot->error, worker->buffer.memory + slot->room.begin);
    release_slot(worker, slot);
    if (worker->oversize_bytes)
        dmc_worker_oversize_end(worker);
}

/* Start a read of `bytes`; when there is no room for it now it waits. */
static void start_read(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, uint32_t read_index, uint64_t bytes)
{
    struct dmc_extent room;
    switch (dmc_worker_make_space(worker, batch, read_index, bytes, &room)) {
    case DMC_SPACE_MADE:
        break;
    case DMC_SPACE_LATER:
        wait_with(worker, batch, read_index, bytes);
        return;
    case DMC_SPACE_NEVER:
        dmc_cpu_execute_failure(worker, batch, read_index, &worker->read_error);
        return;
    case DMC_SPACE_STOPPED:
        return;
    }
    const struct dmc_read *read = &batch->plan.reads[read_index];
    const struct dmc_backend_array *array = batch->plan.objects[read->object].array->user;
    struct dmc_read_slot *slot = worker->slots_free;
    worker->slots_free = slot->next;
    slot->batch = batch;
    slot->read = read_index;
    slot->room = room;
    slot->shared = false;
    slot->part = (struct iovec){worker->buffer.memory + room.begin, bytes};
    dmc_batch_request(batch, read, &slot->part, &slot->error, worker->looked_ns, slot, &slot->request);
    worker->remote = array->store->ops->hint && dmc_store_hint_of(array->store).remote;
    enum dmc_start started = dmc_store_start(worker->io, &slot->request);
    dmc_counter_add(&worker->read, 1, 0, dmc_worker_lap(worker));
    if (started == DMC_START_DONE) {
        finish_read(worker, slot);
    } else if (worker->remote) {
        slot->shared = true;
        dmc_claim_share_add(&worker->claimant, batch);
    }
}

static bool slot_free(const struct dmc_cpu_worker *worker)
{
    const struct dmc_cpu_options *options = &worker->backend->options;
    return worker->buffer.outstanding < (worker->remote ? dmc_cpu_reads(options) : options->reads_in_flight);
}

/* Start something, if there is anything to start and room for it. */
static bool start_next(struct dmc_cpu_worker *worker)
{
    if (!slot_free(worker) || worker->oversize_bytes)
        return false;
    if (worker->waiting_count) {
        struct dmc_waiting_read waiting = worker->waiting[--worker->waiting_count];
        start_read(worker, waiting.batch, waiting.read, waiting.bytes);
        return worker->waiting_count == 0 || worker->buffer.outstanding == 0;
    }
    struct dmc_backend_batch *batch;
    uint32_t task;
    const struct dmc_guest *stray = dmc_stray_take(&worker->backend->strays); /* first: its batch is late already */
    if (stray) {
        batch = stray->batch;
        task = stray->read;
    } else if (!dmc_claim_task(&worker->backend->ring, &worker->claimant, worker->backend->options.worker_count, &batch,
                               &task)) {
        return false;
    }
    uint32_t own_count = batch->plan.guest_begin, kept_count = batch->plan.read_count - batch->plan.kept_begin;
    if (stray || task < own_count)
        start_read(worker, batch, task, dmc_read_first_guess(batch, &batch->plan.reads[task]));
    else if (task - own_count < kept_count)
        dmc_cpu_execute_kept(worker, batch, task - own_count + batch->plan.kept_begin);
    else
        dmc_cpu_execute_fill(worker, batch, task - own_count - kept_count);
    return worker->waiting_count == 0 || worker->buffer.outstanding == 0;
}

/* Nothing to start: sleep until a read is finished, or until submit or stop wake us. */
static struct dmc_request *wait_for_anything(struct dmc_cpu_worker *worker)
{
    bool reading = worker->buffer.outstanding != 0;
    const char *name = reading ? "read_wait" : "idle";
    dmc_nvtx_push(name, worker->index);
    uint64_t begin_ns = worker->looked_ns;
    struct dmc_request *request = dmc_io_wait(worker->io, UINT64_MAX);
    dmc_nvtx_pop();
    dmc_counter_add(reading ? &worker->read_wait : &worker->idle, 1, 0, dmc_worker_lap(worker));
    dmc_trace_span(name, begin_ns, worker->looked_ns, worker->index);
    return request;
}

void *dmc_cpu_worker_run(void *argument)
{
    struct dmc_cpu_worker *worker = argument;
    struct dmc_cpu_backend *backend = worker->backend;
    worker->looked_ns = dmc_clock_ns();
    while (!atomic_load_explicit(&backend->stop, memory_order_relaxed)) {
        if (worker->remote && start_next(worker)) /* what a server is asked for first it answers while others are decoded */
            continue;
        struct dmc_request *request = NULL;
        if (worker->buffer.outstanding)
            request = dmc_io_wait(worker->io, 0);
        if (!request) {
            if (start_next(worker))
                continue;
            request = wait_for_anything(worker);
        }
        if (request)
            finish_read(worker, request->user);
    }
    return NULL;
}
