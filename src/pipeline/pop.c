/* Batches out, in the order of pushing; and waiting for things to happen. */
#include "base/clock.h"
#include "base/error.h"
#include "base/nvtx.h"
#include "base/trace.h"
#include "pipeline/pipeline.h"

static struct dmc_batch_slot *next_ready(const struct damacy *pipeline)
{
    if (pipeline->popped_count == pipeline->planned_count)
        return NULL;
    struct dmc_batch_slot *slot =
        &pipeline->slots[pipeline->in_order[pipeline->popped_count % pipeline->config.tuning.batch_slots]];
    return slot->state == DMC_SLOT_READY ? slot : NULL;
}

/* Everything pushed before the last flush was delivered, and nothing was pushed since. */
static bool at_end(const struct damacy *pipeline)
{
    return pipeline->flushed && pipeline->popped_count == pipeline->closed_count;
}

/* Nothing can come until the caller releases something. */
static bool starved(const struct damacy *pipeline)
{
    return pipeline->held_count == pipeline->config.tuning.batch_slots;
}

/* OK when pop has something to say, and what; TIMEOUT otherwise. */
static enum damacy_status pop_state(const struct damacy *pipeline)
{
    if (next_ready(pipeline))
        return DAMACY_OK;
    if (pipeline->broken)
        return DAMACY_CUDA;
    if (at_end(pipeline))
        return DAMACY_END;
    return starved(pipeline) ? DAMACY_STARVED : DAMACY_TIMEOUT;
}

/* Hand the slot's batch to the caller, or use it up with its error. */
static enum damacy_status take_batch(struct damacy *pipeline, struct dmc_batch_slot *slot, struct damacy_batch **out,
                                     struct damacy_error *error) DMC_REQUIRES(pipeline->home->lock);
static enum damacy_status take_batch(struct damacy *pipeline, struct dmc_batch_slot *slot, struct damacy_batch **out,
                                     struct damacy_error *error)
{
    struct damacy_batch *batch = slot->batch;
    uint32_t failed = dmc_batch_failed(batch);
    pipeline->popped_count++;
    pipeline->ready_count--;
    pipeline->totals.samples_failed += failed;
    if (failed && pipeline->config.on_error == DAMACY_RAISE) {
        enum damacy_status status = dmc_batch_raise(batch, error);
        dmc_batch_clear(batch);
        dmc_slot_free_locked(pipeline, slot);
        dmc_prefetcher_wake(pipeline->prefetcher);
        dmc_cond_broadcast(&pipeline->changed);
        return status;
    }
    slot->state = DMC_SLOT_HELD;
    pipeline->held_count++;
    atomic_store_explicit(&batch->references, 1, memory_order_relaxed);
    atomic_store_explicit(&batch->stream, 1, memory_order_relaxed); /* the legacy default stream */
    pipeline->totals.batches_delivered++;
    pipeline->totals.samples_delivered += batch->row_count;
    for (uint32_t f = 0; f < pipeline->home->field_count; f++)
        pipeline->totals.bytes_delivered += batch->tensors[f].bytes;
    if (starved(pipeline) || next_ready(pipeline) || at_end(pipeline)) /* others that wait in pop have news, too */
        dmc_cond_broadcast(&pipeline->changed);
    *out = batch;
    return DAMACY_OK;
}

/* Is the next batch late, or still open, so that waiting alone never ends? */
static enum damacy_status not_ready(const struct damacy *pipeline, struct damacy_error *error)
{
    unsigned long long batch_id = pipeline->popped_count;
    if (pipeline->popped_count < pipeline->closed_count)
        return dmc_error_set(error, DAMACY_TIMEOUT, "pop", "batch %llu was not ready in time", batch_id);
    dmc_error_set(error, DAMACY_TIMEOUT, "pop", "batch %llu was not ready in time: it has %u of %u samples", batch_id,
                  pipeline->open_count, pipeline->config.samples_per_batch);
    dmc_error_hint(error, "push more, or flush to have it as it is");
    return DAMACY_TIMEOUT;
}

enum damacy_status damacy_pop(struct damacy *pipeline, uint64_t timeout_ns, struct damacy_batch **batch,
                              struct damacy_error *error)
{
    enum damacy_status status = dmc_pipeline_enter(pipeline, error);
    if (status != DAMACY_OK)
        return status;
    dmc_pipeline_entered(pipeline);
    if (!batch) {
        dmc_pipeline_leave(pipeline);
        return dmc_error_set(error, DAMACY_INVAL, "pop", "batch is NULL");
    }
    uint64_t begin_ns = 0, deadline_ns = 0;
    enum damacy_status state;
    while ((state = pop_state(pipeline)) == DAMACY_TIMEOUT) {
        if (!begin_ns) {
            dmc_nvtx_push("pop_wait", pipeline->popped_count);
            begin_ns = dmc_clock_ns();
            deadline_ns = timeout_ns > UINT64_MAX - begin_ns ? UINT64_MAX : begin_ns + timeout_ns;
        }
        if (!dmc_cond_wait_until(&pipeline->changed, &pipeline->home->lock, deadline_ns) && !pipeline->shutting_down &&
            pop_state(pipeline) == DAMACY_TIMEOUT)
            break;
        if (pipeline->shutting_down) {
            dmc_nvtx_pop();
            dmc_pipeline_leave(pipeline);
            return dmc_error_set(error, DAMACY_SHUTDOWN, "pop", "the pipeline is being destroyed");
        }
    }
    if (begin_ns) {
        uint64_t end_ns = dmc_clock_ns();
        dmc_nvtx_pop();
        pipeline->totals.pop_wait.count++;
        pipeline->totals.pop_wait.time_ns += end_ns - begin_ns;
        dmc_trace_span("pop_wait", begin_ns, end_ns, pipeline->popped_count);
    }
    switch (state) {
    case DAMACY_OK:
        status = take_batch(pipeline, next_ready(pipeline), batch, error);
        break;
    case DAMACY_CUDA:
        if (error)
            *error = pipeline->broken_error;
        status = pipeline->broken_error.status;
        break;
    case DAMACY_END:
        status = dmc_error_set(error, DAMACY_END, "pop", "everything that was pushed has been delivered");
        break;
    case DAMACY_STARVED:
        status = dmc_error_set(error, DAMACY_STARVED, "pop", "all %u batch buffers are held by the caller",
                               pipeline->config.tuning.batch_slots);
        dmc_error_hint(error, "release batches and drop their tensors (copy what is to stay), or raise batch_slots");
        break;
    default:
        status = not_ready(pipeline, error);
        break;
    }
    dmc_pipeline_leave(pipeline);
    return status;
}

/* Which of the things in `what` hold now. */
static uint32_t wait_state(const struct damacy *pipeline, uint32_t what)
{
    uint32_t happened = 0;
    if ((what & DAMACY_WAIT_POP) && pop_state(pipeline) != DAMACY_TIMEOUT)
        happened |= DAMACY_WAIT_POP;
    if ((what & DAMACY_WAIT_PUSH) && dmc_push_welcome(pipeline))
        happened |= DAMACY_WAIT_PUSH;
    return happened;
}

enum damacy_status damacy_wait(struct damacy *pipeline, uint32_t what, uint64_t timeout_ns, uint32_t *happened,
                               struct damacy_error *error)
{
    if (happened)
        *happened = 0;
    enum damacy_status status = dmc_pipeline_enter(pipeline, error);
    if (status != DAMACY_OK)
        return status;
    dmc_pipeline_entered(pipeline);
    if (what == 0 || what & ~(DAMACY_WAIT_POP | DAMACY_WAIT_PUSH)) {
        dmc_pipeline_leave(pipeline);
        return dmc_error_set(error, DAMACY_INVAL, "pop", "what is %u, expected DAMACY_WAIT_POP, DAMACY_WAIT_PUSH or both",
                             what);
    }
    uint64_t deadline_ns = dmc_clock_deadline(timeout_ns);
    uint32_t state, push_waiters = what & DAMACY_WAIT_PUSH ? 1 : 0;
    pipeline->push_waiters += push_waiters;
    while (!(state = wait_state(pipeline, what))) {
        bool waited = dmc_cond_wait_until(&pipeline->changed, &pipeline->home->lock, deadline_ns);
        if (pipeline->shutting_down) {
            status = dmc_error_set(error, DAMACY_SHUTDOWN, "pop", "the pipeline is being destroyed");
            break;
        }
        if (!waited && !(state = wait_state(pipeline, what))) {
            status = dmc_error_set(error, DAMACY_TIMEOUT, "pop", "nothing happened in time");
            break;
        }
    }
    pipeline->push_waiters -= push_waiters;
    if (happened && status == DAMACY_OK)
        *happened = state;
    dmc_pipeline_leave(pipeline);
    return status;
}
