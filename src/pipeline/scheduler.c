/* When is the next batch planned? A step function, not a thread. It runs on the prefetcher's thread (from its hooks), so that
 * neither a training step that releases a batch nor a worker in the middle of its decoding pays for planning: about 0.1
 * microseconds a chunk, so 0.6 milliseconds for a batch of 6,000 (bench_plan). */
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/nvtx.h"
#include "base/trace.h"
#include "pipeline/pipeline.h"

void dmc_scheduler_close_locked(struct damacy *pipeline)
{
    pipeline->closed[pipeline->closed_count % pipeline->lookahead.capacity] =
        (struct dmc_closed_batch){pipeline->open_first, pipeline->open_count};
    pipeline->closed_count++;
    pipeline->open_count = 0;
}

bool dmc_scheduler_batch_full_ready(const struct damacy *pipeline)
{
    if (pipeline->planned_count == pipeline->closed_count)
        return false;
    const struct dmc_closed_batch *closed = &pipeline->closed[pipeline->planned_count % pipeline->lookahead.capacity];
    return pipeline->lookahead.resolved >= closed->first_ordinal + closed->count;
}

/* Take a batch slot, or "not yet". */
static struct dmc_batch_slot *plan_reserve(struct damacy *pipeline)
{
    struct dmc_batch_slot *slot = NULL;
    for (uint32_t i = 0; !slot && !pipeline->arena_short && i < pipeline->config.tuning.batch_slots; i++)
        if (pipeline->slots[i].state == DMC_SLOT_FREE)
            slot = &pipeline->slots[i];
    if (slot) {
        slot->state = DMC_SLOT_PLANNING;
        if (pipeline->slot_wait_begin_ns) {
            pipeline->totals.slot_wait.count++;
            pipeline->totals.slot_wait.time_ns += dmc_clock_ns() - pipeline->slot_wait_begin_ns;
            pipeline->slot_wait_begin_ns = 0;
        }
    } else if (!pipeline->slot_wait_begin_ns) {
        pipeline->slot_wait_begin_ns = dmc_clock_ns();
    }
    return slot;
}

/* Plans of batches that are over keep their memory for the next; when memory is short they give it back. */
static void trim_arenas(struct damacy *pipeline)
{
    for (uint32_t i = 0; i < pipeline->config.tuning.batch_slots; i++)
        if (pipeline->slots[i].state != DMC_SLOT_RUNNING)
            dmc_arena_deinit(&pipeline->slots[i].arena);
}

/* Publish the plan: the samples' places in the ring are free, the watermark moves. */
static void plan_commit(struct damacy *pipeline, struct dmc_batch_slot *slot, uint32_t count)
{
    pipeline->in_order[pipeline->planned_count % pipeline->config.tuning.batch_slots] = slot->batch->slot;
    slot->state = DMC_SLOT_RUNNING;
    pipeline->running_count++;
    slot->range = dmc_nvtx_start("batch", slot->batch->batch_id);
    dmc_lookahead_planned(&pipeline->lookahead, count);
    pipeline->planned_count++;
    dmc_push_tell(pipeline);
    dmc_prefetcher_again(pipeline->prefetcher);
}

/* Announcements that stores are to remember at the same time, of all batches together. */
#define ANNOUNCED_READS_MAX 4096u
/* Crops of 16x128x128 out of two arrays of 512 MiB, rounds of 32 batches: with 8 batches ahead, two looked at with each plan,
 * 90 in 100 chunks were decoded of those that are when nothing is kept; with 24 ahead 88, 84 and 83 at two, four and eight with
 * each plan, and the 32 MiB for them were full. */
#define PREVIEW_BATCHES_MAX 24u
#define PREVIEWS_AT_ONCE 4u /* no batch waits long for those of later ones, the first for none; one for each suffices later */

/* Tell networks what will be asked for, so that bytes which come for an earlier batch need not come again. */
static void announce_reads(const struct dmc_backend_batch *run)
{
    for (uint32_t i = 0; i < run->plan.guest_begin; i++) {
        const struct dmc_read *read = &run->plan.reads[i];
        const struct dmc_backend_object *object = &run->objects[read->object];
        const struct dmc_backend_array *array = run->plan.objects[read->object].array->user;
        if (array->store->ops->expect && !read->whole)
            array->store->ops->expect(array->store, object->key, object->key_hash, read->offset, read->length);
    }
}

struct dmc_preview {
    uint64_t batch_id;
    struct dmc_closed_batch closed;
};

/* Batches that have no slot yet but all their metadata, and were not announced: their reads are known as soon as those of the
 * next one are, and what they share with batches under way is read and decoded only once if that is known in time. */
static uint32_t take_previews_locked(struct damacy *pipeline, struct dmc_preview *previews)
{
    uint64_t batches = ANNOUNCED_READS_MAX / dmc_max_u64(pipeline->usual_reads, 1), slots = pipeline->config.tuning.batch_slots;
    uint64_t ahead = batches > slots ? dmc_min_u64(batches - slots, PREVIEW_BATCHES_MAX) : 0;
    uint64_t end = dmc_min_u64(pipeline->closed_count, pipeline->planned_count + 1 + ahead);
    uint64_t next = dmc_max_u64(pipeline->previewed_count, pipeline->planned_count + 1);
    uint32_t count = 0;
    while (pipeline->usual_reads > 0 && count < PREVIEWS_AT_ONCE && next < end) {
        struct dmc_closed_batch closed = pipeline->closed[next % pipeline->lookahead.capacity];
        if (pipeline->lookahead.resolved < closed.first_ordinal + closed.count)
            break;
        previews[count++] = (struct dmc_preview){next, closed};
        pipeline->previewed_count = ++next;
    }
    return count;
}

static void take_running_locked(const struct damacy *pipeline, struct dmc_running *running)
{
    running->count = 0;
    running->oldest = pipeline->planned_count;
    for (uint64_t id = pipeline->planned_count; id > pipeline->popped_count; id--) {
        uint32_t slot = pipeline->in_order[(id - 1) % pipeline->config.tuning.batch_slots];
        if (pipeline->slots[slot].state != DMC_SLOT_RUNNING)
            continue;
        running->oldest = id - 1;
        if (running->count < DMC_RUNNING_MAX)
            running->slots[running->count++] = &pipeline->slots[slot];
    }
}

void dmc_scheduler_step_locked(struct damacy *pipeline)
{
    while (!pipeline->planning && !pipeline->shutting_down && dmc_scheduler_batch_full_ready(pipeline)) {
        struct dmc_batch_slot *slot = plan_reserve(pipeline);
        if (!slot)
            break;
        uint64_t batch_id = pipeline->planned_count;
        struct dmc_closed_batch closed = pipeline->closed[batch_id % pipeline->lookahead.capacity];
        struct damacy_error error;
        bool announced = batch_id < pipeline->previewed_count;
        struct dmc_preview previews[PREVIEWS_AT_ONCE];
        uint32_t preview_count = take_previews_locked(pipeline, previews);
        struct dmc_running running;
        take_running_locked(pipeline, &running);
        pipeline->planning = true;
        dmc_mutex_unlock(&pipeline->home->lock);

        for (uint32_t i = 0; i < preview_count; i++)
            if (dmc_plan_preview(pipeline, slot, previews[i].batch_id, &previews[i].closed, &running)) {
                announce_reads(&slot->run);
                dmc_plan_preview_end(slot);
            }
        dmc_nvtx_push("plan", batch_id);
        uint64_t begin_ns = dmc_clock_ns();
        enum damacy_status status = dmc_plan_run(pipeline, slot, batch_id, &closed, &running, &error);
        uint64_t end_ns = dmc_clock_ns();
        dmc_nvtx_pop();
        dmc_trace_span("plan", begin_ns, end_ns, batch_id);

        dmc_mutex_lock(&pipeline->home->lock);
        pipeline->totals.plan.count++;
        pipeline->totals.plan.time_ns += end_ns - begin_ns;
        if (status != DAMACY_OK) {    /* no memory for the plan; beyond its own bound (BUDGET) none will come */
            if (status == DAMACY_OOM) /* a bound is each slot's own: what others hold does not matter to it */
                trim_arenas(pipeline);
            pipeline->planning = false;
            slot->state = DMC_SLOT_FREE;
            if (status == DAMACY_OOM && pipeline->running_count) {
                pipeline->arena_short = true; /* dmc_scheduler_done tries again */
                dmc_log(DMC_PIPELINE, DAMACY_LOG_INFO, "the plan of batch %llu waits for memory", (unsigned long long)batch_id);
                break;
            }
            slot->state = DMC_SLOT_PLANNING;
            dmc_plan_nothing(pipeline, slot, batch_id, &closed, &error);
        }
        plan_commit(pipeline, slot, closed.count);
        pipeline->totals.plan.bytes += slot->run.plan.bytes_needed;
        pipeline->totals.bytes_needed += slot->run.plan.bytes_needed;
        pipeline->usual_reads = slot->run.plan.read_count;
        dmc_mutex_unlock(&pipeline->home->lock);
        if (!announced)
            announce_reads(&slot->run);
        if (!pipeline->backend->ops->binds)
            dmc_scheduler_bind(pipeline, &slot->run);
        pipeline->backend->ops->submit(pipeline->backend, &slot->run); /* may call dmc_scheduler_done at once */
        dmc_mutex_lock(&pipeline->home->lock);
        pipeline->planning = false;
    }
}

uint8_t *dmc_scheduler_bind(void *user, struct dmc_backend_batch *run)
{
    struct damacy *pipeline = user;
    dmc_mutex_lock(&pipeline->home->lock);
    uint8_t *memory = dmc_batch_bind_locked(pipeline, run->user);
    dmc_mutex_unlock(&pipeline->home->lock);
    return memory;
}

void dmc_scheduler_done(void *user, struct dmc_backend_batch *run)
{
    struct damacy *pipeline = user;
    struct dmc_batch_slot *slot = run->user;
    for (uint32_t i = 0; i < slot->array_count; i++)
        dmc_array_release(slot->arrays[i]);
    slot->array_count = 0;
    dmc_plan_leave_kept(&run->plan);
    if (!atomic_load_explicit(&run->memory, memory_order_acquire)) /* nothing was written: no tasks, or all of them failed */
        dmc_scheduler_bind(pipeline, run);
    bool whole = dmc_batch_finish(slot->batch, pipeline->backend, pipeline->config.on_error);
    dmc_nvtx_end(slot->range);
    if (!whole) /* it stays as it is until destroy: pop says that the device is lost */
        return;
    dmc_trace_span("batch", slot->planned_ns, dmc_clock_ns(), slot->batch->batch_id);
    dmc_mutex_lock(&pipeline->home->lock);
    slot->state = DMC_SLOT_READY;
    pipeline->ready_count++;
    pipeline->running_count--;
    if (pipeline->arena_short && !pipeline->shutting_down) /* then destroy may be done with the prefetcher already */
        dmc_prefetcher_wake(pipeline->prefetcher);
    pipeline->arena_short = false;
    dmc_mutex_unlock(&pipeline->home->lock);
    /* Without the lock, into which who waits would run at once. The pipeline is there: workers end last. */
    dmc_cond_broadcast(&pipeline->changed);
}

void dmc_scheduler_broken(void *user, const struct damacy_error *error)
{
    struct damacy *pipeline = user;
    dmc_mutex_lock(&pipeline->home->lock);
    pipeline->broken = true;
    pipeline->broken_error = *error;
    dmc_cond_broadcast(&pipeline->changed);
    dmc_mutex_unlock(&pipeline->home->lock);
}

void dmc_scheduler_unfenced(void *user, void *cookie)
{
    struct damacy *pipeline = user;
    struct dmc_batch_slot *slot = cookie;
    dmc_mutex_lock(&pipeline->home->lock);
    dmc_slot_free_locked(pipeline, slot);
    dmc_cond_broadcast(&pipeline->changed);
    if (!pipeline->shutting_down)
        dmc_prefetcher_wake(pipeline->prefetcher); /* there the next batch is planned */
    dmc_mutex_unlock(&pipeline->home->lock);
}

void dmc_scheduler_fail(void *user, struct dmc_backend_batch *run, uint32_t row, uint32_t field, uint64_t order,
                        const struct damacy_error *error)
{
    struct damacy *pipeline = user;
    struct dmc_batch_slot *slot = run->user;
    struct damacy_error named = *error;
    dmc_error_field(&named, pipeline->home->fields[field].name);
    dmc_mutex_lock(&pipeline->home->lock);
    dmc_row_fail(slot->batch, row, field, order, &named);
    dmc_mutex_unlock(&pipeline->home->lock);
}
