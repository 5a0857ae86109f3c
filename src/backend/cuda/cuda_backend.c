/* Making and ending the backend, and its submitter: the one thread that calls the driver in the steady state. */
#include "backend/cuda/cuda_backend.h"
#include "backend/chunk_check.h"
#include "backend/cuda/cuda_engine.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/nvtx.h"
#include "base/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How often the submitter looks at events while waves fly. A decode takes milliseconds; a look about a microsecond. */
#define POLL_NS 50000u

static struct dmc_cuda_engine *engine_of(struct dmc_backend *backend)
{
    return (struct dmc_cuda_engine *)backend;
}

/* --- the submitter --- */

/* Whatever the driver's word for it (a launch may find no memory, too): from now on pop says CUDA. */
static void break_down(struct dmc_cuda_engine *engine, const struct damacy_error *error)
{
    struct damacy_error lost = *error;
    lost.status = DAMACY_CUDA;
    dmc_mutex_lock(&engine->lock);
    bool first = !engine->broken;
    engine->broken = true;
    dmc_mutex_unlock(&engine->lock);
    if (!first)
        return;
    dmc_log(DMC_BACKEND, DAMACY_LOG_ERROR, "%s", error->message);
    if (!atomic_load_explicit(&engine->stop, memory_order_relaxed) && engine->hooks.broken)
        engine->hooks.broken(engine->hooks.user, &lost);
}

/* A free slot becomes the filling one, and readers that wait for room go on. */
static void open_wave_locked(struct dmc_cuda_engine *engine)
{
    for (uint32_t i = 0; !engine->filling && i < engine->options.wave_count; i++)
        if (engine->waves[i].state == DMC_WAVE_FREE) {
            dmc_wave_open_locked(&engine->waves[i]);
            engine->filling = &engine->waves[i];
        }
    if (!engine->filling)
        return;
    for (uint32_t i = 0; i < engine->started; i++)
        if (engine->readers[i].wants_room) {
            engine->readers[i].wants_room = false;
            dmc_io_wake(engine->readers[i].io);
        }
}

/* Is it time to close the filling wave?
 *   full                                      nothing more fits
 *   all readers have nothing to do            nothing more will come before something is finished
 *   the device has nothing to do at all       better a small wave than none
 *   it decodes one wave, has nothing to copy, and a quarter is full     so that copying hides behind decoding
 * Where the device is what limits, two waves are always under way, and so the filling one becomes full: large waves decode
 * fastest. */
static bool close_wanted_locked(const struct dmc_cuda_engine *engine)
{
    const struct dmc_wave *wave = engine->filling;
    if (!wave || wave->piece_count == 0)
        return false;
    if (wave->full || engine->idle_readers == engine->started)
        return true;
    if (wave->written == 0) /* nothing is there yet: room that reads are to fill */
        return false;
    uint32_t busy = 0, copying = 0;
    for (uint32_t i = 0; i < engine->options.wave_count; i++) {
        const struct dmc_wave *other = &engine->waves[i];
        busy += other->state == DMC_WAVE_CLOSED || other->state == DMC_WAVE_FLYING;
        copying += other->state == DMC_WAVE_CLOSED || (other->state == DMC_WAVE_FLYING && other->copying);
    }
    if (busy == 0)
        return true;
    return busy == 1 && copying == 0 &&
           (dmc_wave_stored_taken_locked(wave) >= wave->limits.stored_bytes / 4 ||
            wave->decoded_used >= wave->limits.decoded_bytes / 4);
}

/* A chunk that the device gave back: a reader shall read it again. */
static void give_back(struct dmc_cuda_engine *engine, const struct dmc_wave_entry *entry, uint32_t status)
{
    dmc_log(DMC_BACKEND, DAMACY_LOG_DEBUG, "batch %llu: the device gave a chunk back (%s)",
            (unsigned long long)entry->batch->batch_id, dmc_cuda_status_name(status));
    dmc_counter_add(&engine->retry, 1, 0, 0);
    dmc_mutex_lock(&engine->lock);
    bool room = engine->retry_count < engine->retry_capacity;
    if (!room) {
        uint32_t capacity = 2 * engine->retry_capacity + 64;
        struct dmc_cuda_retry *grown = dmc_realloc(engine->retries, capacity * sizeof *grown);
        if (grown) {
            engine->retries = grown;
            engine->retry_capacity = capacity;
            room = true;
        }
    }
    if (room)
        engine->retries[engine->retry_count++] = (struct dmc_cuda_retry){entry->batch, entry->read, entry->chunk};
    dmc_mutex_unlock(&engine->lock);
    if (!room) {
        const struct dmc_chunk *chunk = &entry->batch->plan.chunks[entry->chunk];
        struct damacy_error error;
        dmc_error_set(&error, DAMACY_OOM, "decode", "no memory to decode a chunk again");
        dmc_chunk_where(entry->batch, &entry->batch->plan.reads[entry->read], chunk, chunk->stored_bytes, &error);
        dmc_chunk_fail(&engine->hooks, entry->batch, chunk, &error);
        dmc_cuda_finish(engine, entry->batch);
        return;
    }
    for (uint32_t i = 0; i < engine->started; i++)
        dmc_io_wake(engine->readers[i].io);
}

/* Count what the device did for a wave, and when. A wave's stream is empty when it is launched, so its first event fires then;
 * from there on the events tell durations. */
static void count_device(struct dmc_cuda_engine *engine, struct dmc_wave *wave, uint64_t *end_ns)
{
    uint64_t copy_ns, decode_ns, assemble_ns;
    dmc_wave_times(wave, &copy_ns, &decode_ns, &assemble_ns);
    uint64_t decode_at = wave->enqueued_ns + copy_ns, assemble_at = decode_at + decode_ns;
    *end_ns = assemble_at + assemble_ns;
    dmc_counter_add(&engine->transfer, 1, wave->stored_used + wave->records_used + wave->info.table_bytes, copy_ns);
    dmc_counter_add(&engine->device_decode, wave->info.chunk_count, wave->info.decoded_bytes, decode_ns);
    dmc_counter_add(&engine->device_assemble, wave->piece_count, wave->target_bytes, assemble_ns);
    struct dmc_decode_gap *gap = &engine->gap;
    uint64_t gaps = gap->gap_count, gaps_ns = gap->gap_ns;
    dmc_decode_gap_end(gap, wave->flight, decode_at, wave->info.chunk_count ? assemble_at : decode_at);
    dmc_counter_add(&engine->decode_gap, gap->gap_count - gaps, 0, gap->gap_ns - gaps_ns);
    atomic_store_explicit(&engine->device_decode_busy_ns, gap->busy_ns, memory_order_relaxed);
    if (dmc_trace_on()) {
        dmc_trace_span("wave", wave->enqueued_ns, dmc_clock_ns(), wave->number);
        dmc_trace_span("copy", wave->enqueued_ns, decode_at, wave->number);
        dmc_trace_span("decode", decode_at, assemble_at, wave->number);
        dmc_trace_span("assemble", assemble_at, *end_ns, wave->number);
    }
}

/* How busy the cores and the device were, for placement. */
static void observe(struct dmc_cuda_engine *engine)
{
    struct dmc_placement_sums sums = {.now_ns = dmc_clock_ns(), .device_busy_ns = engine->gap.busy_ns};
    for (uint32_t i = 0; i < engine->started; i++)
        sums.waited_ns += dmc_placement_waited_ns(&engine->readers[i].waits, sums.now_ns);
    dmc_placement_observe(&engine->placement, &sums);
}

/* The device has done its part. */
static void finish_wave(struct dmc_cuda_engine *engine, struct dmc_wave *wave)
{
    uint64_t device_end_ns;
    dmc_nvtx_end(wave->range);
    count_device(engine, wave, &device_end_ns);
    observe(engine);
    dmc_counter_add(&engine->post_decode, 1, wave->info.decoded_bytes, 0); /* before those who ask can know of it */
    for (uint32_t i = 0; i < wave->entry_count; i++) {
        const struct dmc_wave_entry *entry = &wave->entries[i];
        if (!entry->batch)
            continue;
        uint32_t status = entry->status == DMC_PIECE_STATUS_NONE ? 0 : dmc_wave_status(wave, entry->status);
        if (status != 0)
            give_back(engine, entry, status);
        else
            dmc_cuda_finish(engine, entry->batch);
    }
    uint64_t now = dmc_clock_ns();
    dmc_counter_add(&engine->post_decode, 0, 0, now > device_end_ns ? now - device_end_ns : 0);
}

/* Look at the waves that fly. false: the device is lost. */
static bool poll_waves(struct dmc_cuda_engine *engine)
{
    for (uint32_t i = 0; i < engine->options.wave_count; i++) {
        struct dmc_wave *wave = &engine->waves[i];
        if (wave->state != DMC_WAVE_FLYING) /* only this thread makes it so, or ends it */
            continue;
        struct damacy_error error;
        enum damacy_status status = dmc_wave_poll(wave, &error);
        if (status == DAMACY_AGAIN)
            continue;
        if (status != DAMACY_OK) {
            break_down(engine, &error);
            return false;
        }
        finish_wave(engine, wave);
        dmc_mutex_lock(&engine->lock);
        wave->state = DMC_WAVE_FREE;
        dmc_mutex_unlock(&engine->lock);
    }
    return true;
}

/* Tell of buffers whose fences have passed. false: the device is lost. */
static bool poll_fenced(struct dmc_cuda_engine *engine)
{
    for (uint32_t i = 0;;) {
        struct damacy_error error;
        dmc_mutex_lock(&engine->lock);
        bool more = i < engine->fenced_count;
        enum damacy_status passed = more ? dmc_cuda_batch_passed(engine->fenced[i].memory, &error) : DAMACY_AGAIN;
        void *cookie = more ? engine->fenced[i].cookie : NULL;
        if (passed == DAMACY_OK)
            engine->fenced[i] = engine->fenced[--engine->fenced_count];
        dmc_mutex_unlock(&engine->lock);
        if (!more)
            return true;
        if (passed == DAMACY_AGAIN) {
            i++;
        } else if (passed != DAMACY_OK) {
            break_down(engine, &error);
            return false;
        } else if (!atomic_load_explicit(&engine->stop, memory_order_relaxed))
            engine->hooks.unfenced(engine->hooks.user, cookie);
    }
}

/* Launch a closed wave that is complete; false: the device is lost. */
static bool enqueue_wave(struct dmc_cuda_engine *engine, struct dmc_wave *wave)
{
    struct damacy_error error;
    wave->copying = true;
    wave->range = dmc_nvtx_start("wave", wave->number);
    wave->flight = dmc_decode_gap_begin(&engine->gap, wave->closed_ns);
    dmc_nvtx_push("launch", wave->number);
    enum damacy_status status = dmc_wave_enqueue(wave, &error);
    dmc_nvtx_pop();
    if (status != DAMACY_OK) {
        break_down(engine, &error);
        return false;
    }
    dmc_mutex_lock(&engine->lock);
    wave->state = DMC_WAVE_FLYING;
    dmc_mutex_unlock(&engine->lock);
    return true;
}

/* Close, open, and say which closed wave is complete. */
static struct dmc_wave *step_locked(struct dmc_cuda_engine *engine)
{
    if (close_wanted_locked(engine)) {
        engine->filling->state = DMC_WAVE_CLOSED;
        engine->filling->closed_ns = dmc_clock_ns();
        engine->filling = NULL;
    }
    if (!engine->filling)
        open_wave_locked(engine);
    for (uint32_t i = 0; i < engine->options.wave_count; i++)
        if (engine->waves[i].state == DMC_WAVE_CLOSED && engine->waves[i].writers == 0)
            return &engine->waves[i];
    return NULL;
}

static bool flying_locked(const struct dmc_cuda_engine *engine)
{
    bool any = engine->fenced_count != 0;
    for (uint32_t i = 0; i < engine->options.wave_count; i++)
        any = any || engine->waves[i].state == DMC_WAVE_FLYING;
    return any;
}

static void *submitter_run(void *argument)
{
    struct dmc_cuda_engine *engine = argument;
    struct damacy_error error;
    if (dmc_cuda_enter(engine->device, &error) != DAMACY_OK) {
        break_down(engine, &error);
        return NULL;
    }
    bool alive = true;
    while (alive && !atomic_load_explicit(&engine->stop, memory_order_relaxed)) {
        alive = poll_waves(engine) && poll_fenced(engine);
        dmc_mutex_lock(&engine->lock);
        struct dmc_wave *complete = step_locked(engine);
        if (!complete && alive && !atomic_load_explicit(&engine->stop, memory_order_relaxed)) {
            if (flying_locked(engine))
                dmc_cond_wait_until(&engine->changed, &engine->lock, dmc_clock_ns() + POLL_NS);
            else if (!close_wanted_locked(engine))
                dmc_cond_wait(&engine->changed, &engine->lock);
        }
        dmc_mutex_unlock(&engine->lock);
        if (complete && alive)
            alive = enqueue_wave(engine, complete);
    }
    dmc_cuda_leave(engine->device);
    return NULL;
}

/* --- the table --- */

static void wake_readers(struct dmc_cuda_engine *engine)
{
    for (uint32_t i = 0; i < engine->started; i++)
        dmc_io_wake(engine->readers[i].io);
}

static void cuda_submit(struct dmc_backend *backend, struct dmc_backend_batch *batch)
{
    struct dmc_cuda_engine *engine = engine_of(backend);
    uint32_t tasks = dmc_claim_tasks(&batch->plan);
    if (tasks == 0) {
        engine->hooks.done(engine->hooks.user, batch);
        return;
    }
    dmc_claim_begin(batch, tasks, 0);
    dmc_claim_publish(&engine->ring, batch);
    wake_readers(engine);
}

static void cuda_stop(struct dmc_backend *backend)
{
    struct dmc_cuda_engine *engine = engine_of(backend);
    atomic_store(&engine->stop, true);
    wake_readers(engine);
    dmc_mutex_lock(&engine->lock);
    dmc_cond_broadcast(&engine->changed);
    dmc_mutex_unlock(&engine->lock);
}

static void free_engine(struct dmc_cuda_engine *engine)
{
    bool entered = dmc_cuda_enter(engine->device, NULL) == DAMACY_OK;
    for (uint32_t i = 0; engine->waves && i < engine->options.wave_count; i++)
        dmc_wave_deinit(&engine->waves[i], entered);
    if (engine->rows && entered)
        engine->device->driver->stream_destroy(engine->rows);
    dmc_cufile_destroy(engine->options.cufile);
    if (entered)
        dmc_cuda_leave(engine->device);
    for (uint32_t i = 0; engine->readers && i < engine->options.reader_count; i++)
        if (engine->readers[i].engine)
            dmc_cuda_reader_deinit(&engine->readers[i]);
    dmc_cuda_device_release(engine->device);
    dmc_cond_deinit(&engine->changed);
    dmc_mutex_deinit(&engine->lock);
    dmc_mutex_deinit(&engine->rows_lock);
    dmc_free(engine->readers);
    dmc_free(engine->waves);
    dmc_free(engine->retries);
    dmc_free(engine->fenced);
    dmc_free((void *)engine->ring.batches);
    dmc_free(engine);
}

static bool cuda_destroy(struct dmc_backend *backend, uint64_t deadline_ns)
{
    if (!backend)
        return true;
    struct dmc_cuda_engine *engine = engine_of(backend);
    cuda_stop(backend);
    bool whole = true;
    if (engine->submitter_started && !dmc_thread_join_until(engine->submitter, deadline_ns)) {
        dmc_log(DMC_BACKEND, DAMACY_LOG_WARN, "the CUDA driver does not answer; its thread is left behind");
        whole = false;
    }
    for (uint32_t i = 0; i < engine->started; i++)
        if (!dmc_thread_join_computing(engine->readers[i].thread, deadline_ns, &engine->readers[i].computing)) {
            dmc_log(DMC_BACKEND, DAMACY_LOG_WARN, "reader %u is stuck in the kernel; it is left behind with its buffers", i);
            whole = false;
        }
    for (uint32_t i = 0; whole && engine->readers && i < engine->options.reader_count; i++)
        if (engine->readers[i].io && !dmc_io_destroy(engine->readers[i].io, deadline_ns)) {
            dmc_log(DMC_BACKEND, DAMACY_LOG_WARN,
                    "a read of reader %u is stuck in the kernel; it is left behind with its buffers", i);
            whole = false;
        }
    if (whole)
        free_engine(engine);
    return whole;
}

static void cuda_stats(const struct dmc_backend *backend, struct dmc_backend_stats *stats)
{
    const struct dmc_cuda_engine *engine = (const struct dmc_cuda_engine *)backend;
    memset(stats, 0, sizeof *stats);
    for (uint32_t i = 0; i < engine->started; i++) {
        const struct dmc_cuda_reader *reader = &engine->readers[i];
        dmc_counter_sum(&stats->read, &reader->read);
        dmc_counter_sum(&stats->read_wait, &reader->read_wait);
        dmc_counter_sum(&stats->decode, &reader->decode);
        dmc_counter_sum(&stats->fill, &reader->fill);
        dmc_counter_sum(&stats->worker_idle, &reader->idle_time);
        dmc_counter_sum(&stats->bind_wait, &reader->bind_wait);
        dmc_counter_sum(&stats->direct_read, &reader->direct_read);
        dmc_counter_sum(&stats->direct_fallback, &reader->direct_fallback);
        stats->whole_bytes += atomic_load_explicit(&reader->whole_bytes, memory_order_relaxed);
    }
    dmc_counter_sum(&stats->input_transfer, &engine->transfer);
    dmc_counter_sum(&stats->device_decode, &engine->device_decode);
    dmc_counter_sum(&stats->device_assemble, &engine->device_assemble);
    dmc_counter_sum(&stats->retry, &engine->retry);
    dmc_counter_sum(&stats->post_decode, &engine->post_decode);
    dmc_counter_sum(&stats->decode_gap, &engine->decode_gap);
    stats->device_decode_busy_ns = atomic_load_explicit(&engine->device_decode_busy_ns, memory_order_relaxed);
    stats->device_bytes = dmc_budget_used(&engine->device->budget);
    stats->device_bytes_limit = engine->device->budget.limit_bytes;
}

static enum damacy_status cuda_memory_alloc(struct dmc_backend *backend, uint64_t bytes, struct dmc_backend_memory *memory,
                                            struct damacy_error *error)
{
    return dmc_cuda_batch_alloc(engine_of(backend)->device, bytes, memory, error);
}

static bool cuda_memory_fenced(struct dmc_backend *backend, struct dmc_backend_memory *memory, void *cookie)
{
    struct dmc_cuda_engine *engine = engine_of(backend);
    if (dmc_cuda_enter(engine->device, NULL) == DAMACY_OK) { /* else the submitter finds out what is wrong */
        bool passed = dmc_cuda_batch_passed(memory, NULL) == DAMACY_OK;
        dmc_cuda_leave(engine->device);
        if (passed)
            return false;
    }
    dmc_mutex_lock(&engine->lock);
    engine->fenced[engine->fenced_count].memory = memory;
    engine->fenced[engine->fenced_count++].cookie = cookie;
    dmc_cond_signal(&engine->changed);
    dmc_mutex_unlock(&engine->lock);
    return true;
}

/* --- rows of a finished batch: nothing else touches its buffer now --- */

/* Enqueues what fills `elements` of `item_bytes` from bits[0] and bits[1] by turns. */
static dmc_cu_result enqueue_fill(const struct dmc_cuda_engine *engine, dmc_cu_address address, uint64_t elements,
                                  uint64_t item_bytes, const uint64_t bits[2])
{
    const struct dmc_cuda_driver *driver = engine->device->driver;
    const uint64_t bytes = elements * item_bytes;
    if ((bits[0] | bits[1]) == 0)
        return driver->set_u8(address, 0, bytes, engine->rows);
    if (item_bytes == 1)
        return driver->set_u8(address, (unsigned char)bits[0], elements, engine->rows);
    if (item_bytes == 2)
        return driver->set_u16(address, (unsigned short)bits[0], elements, engine->rows);
    unsigned words[4] = {0}; /* what repeats */
    uint32_t count = 0;
    for (uint32_t i = 0; i < 2; i++)
        for (uint64_t part = 0; part < item_bytes; part += 4)
            words[count++] = (unsigned)(bits[i] >> 8 * part);
    bool same = true;
    for (uint32_t i = 1; i < count; i++)
        same = same && words[i] == words[0];
    if (same)
        return driver->set_u32(address, words[0], bytes / 4, engine->rows);
    uint64_t there = dmc_min_u64(4 * (uint64_t)count, bytes);
    dmc_cu_result result = DMC_CU_SUCCESS;
    for (uint64_t i = 0; result == DMC_CU_SUCCESS && i < there / 4; i++)
        result = driver->set_u32(address + 4 * i, words[i], 1, engine->rows);
    for (; result == DMC_CU_SUCCESS && there < bytes; there *= 2) /* double what is there */
        result = driver->copy_on_device(address + there, address, dmc_min_u64(there, bytes - there), engine->rows);
    return result;
}

/* Before a row; dmc_cuda_leave() afterwards. false: the device is lost, whether or not the submitter would see it, too. */
static bool rows_enter(struct dmc_cuda_engine *engine)
{
    struct damacy_error error;
    if (dmc_cuda_enter(engine->device, &error) == DAMACY_OK)
        return true;
    break_down(engine, &error);
    return false;
}

/* Was that enough? If not, the same. */
static bool rows_done(struct dmc_cuda_engine *engine, const char *call, dmc_cu_result result)
{
    struct damacy_error error;
    if (result == DMC_CU_SUCCESS)
        return true;
    dmc_cuda_error(engine->device->driver, result, call, &error);
    break_down(engine, &error);
    return false;
}

static bool cuda_row_fill(struct dmc_backend *backend, void *target, uint64_t elements, enum damacy_dtype output,
                          struct dmc_scatter_element element)
{
    struct dmc_cuda_engine *engine = engine_of(backend);
    const struct dmc_cuda_driver *driver = engine->device->driver;
    uint64_t item_bytes = damacy_dtype_bytes(output), bits[2] = {0, 0};
    if (element.dtype != DAMACY_NATIVE)
        dmc_scatter_fill_bits(output, element, bits);
    if (bits[0] != bits[1] && item_bytes < 4) { /* two elements are one, twice as wide */
        bits[0] |= bits[1] << 8 * item_bytes;
        bits[1] = bits[0];
        item_bytes *= 2;
        elements /= 2;
    }
    if (!rows_enter(engine))
        return false;
    dmc_mutex_lock(&engine->rows_lock);
    dmc_cu_result result = enqueue_fill(engine, (dmc_cu_address)(uintptr_t)target, elements, item_bytes, bits);
    if (result == DMC_CU_SUCCESS)
        result = driver->stream_synchronize(engine->rows);
    dmc_mutex_unlock(&engine->rows_lock);
    dmc_cuda_leave(engine->device);
    return rows_done(engine, "filling a row", result);
}

static bool cuda_row_move(struct dmc_backend *backend, void *to, const void *from, uint64_t bytes)
{
    struct dmc_cuda_engine *engine = engine_of(backend);
    const struct dmc_cuda_driver *driver = engine->device->driver;
    if (!rows_enter(engine))
        return false;
    dmc_mutex_lock(&engine->rows_lock);
    dmc_cu_result result =
        driver->copy_on_device((dmc_cu_address)(uintptr_t)to, (dmc_cu_address)(uintptr_t)from, bytes, engine->rows);
    if (result == DMC_CU_SUCCESS)
        result = driver->stream_synchronize(engine->rows);
    dmc_mutex_unlock(&engine->rows_lock);
    dmc_cuda_leave(engine->device);
    return rows_done(engine, "moving a row", result);
}

static const struct dmc_backend_ops cuda_ops = {
    .device = DAMACY_CUDA_DEVICE,
    .submit = cuda_submit,
    .stop = cuda_stop,
    .destroy = cuda_destroy,
    .stats = cuda_stats,
    .memory_alloc = cuda_memory_alloc,
    .memory_fenced = cuda_memory_fenced,
    .row_fill = cuda_row_fill,
    .row_move = cuda_row_move,
};

/* --- making --- */

enum damacy_status dmc_cuda_choose_decoder(struct dmc_cuda_device *device, const struct dmc_cuda_nvcomp **nvcomp,
                                           struct damacy_error *error)
{
    const char *wanted = getenv(DMC_GPU_DECODER_VARIABLE), *reason = "";
    *nvcomp = NULL;
    if (!wanted || !*wanted || strcmp(wanted, "own") == 0)
        return DAMACY_OK;
    if (strcmp(wanted, "nvcomp") != 0)
        return dmc_error_set(error, DAMACY_INVAL, "config", "%s is \"%s\", expected own or nvcomp", DMC_GPU_DECODER_VARIABLE,
                             wanted);
    *nvcomp = dmc_cuda_device_nvcomp(device, &reason);
    struct dmc_cuda_wishes wishes;
    if (*nvcomp && dmc_cuda_nvcomp_wishes(*nvcomp, 0, &wishes))
        return DAMACY_OK;
    if (*nvcomp)
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "config",
                             "%s asks for nvcomp, which does not say how much memory it wants for zstd",
                             DMC_GPU_DECODER_VARIABLE);
    dmc_error_set(error, DAMACY_UNSUPPORTED, "config", "%s asks for nvcomp, which is missing: %s", DMC_GPU_DECODER_VARIABLE,
                  reason);
    dmc_error_hint(error, "%s; or leave %s unset", DMC_NVCOMP_MEND, DMC_GPU_DECODER_VARIABLE);
    return DAMACY_UNSUPPORTED;
}

bool dmc_cuda_choose_waves(uint64_t device_bytes, uint64_t pinned_bytes, const struct dmc_cuda_nvcomp *nvcomp,
                           uint32_t *wave_count, struct dmc_wave_limits *limits)
{
    const uint64_t usual_chunk = 128 * 1024, smallest = 1024 * 1024;
    /* 4,096 usual chunks saturate our decoder on the largest device; one slot more than decode and copy need is being filled.
     */
    struct dmc_cuda_wishes wishes = {.wave_chunks = 4096, .waves = 4};
    if (nvcomp && !dmc_cuda_nvcomp_wishes(nvcomp, 0, &wishes))
        return false;
    const uint32_t least = nvcomp ? 4 : 3; /* slots, where waves are not small */
    for (uint64_t decoded = wishes.wave_chunks * usual_chunk; decoded >= smallest; decoded = decoded / 4 * 3) {
        uint32_t chunks = (uint32_t)dmc_max_u64(decoded / usual_chunk, 1);
        struct dmc_cuda_advice zstd, blosc;
        if (nvcomp && !dmc_cuda_nvcomp_wishes(nvcomp, chunks, &wishes))
            return false;
        dmc_cuda_advise_count(DMC_CUDA_ZSTD, usual_chunk, usual_chunk * 9 / 20, chunks, &zstd);
        dmc_cuda_advise_count(DMC_CUDA_BLOSC, usual_chunk, usual_chunk * 9 / 20, chunks, &blosc);
        *limits = (struct dmc_wave_limits){
            .stored_bytes = dmc_round_up(dmc_max_u64(decoded / 2, smallest), 4096),
            .decoded_bytes = dmc_round_up(dmc_max_u64(decoded, smallest), 4096),
            .scratch_bytes =
                dmc_round_up(dmc_max_u64(dmc_max_u64(zstd.scratch_bytes, blosc.scratch_bytes), wishes.scratch_bytes), 4096),
            .table_bytes = dmc_round_up(dmc_max_u64(zstd.table_bytes, blosc.table_bytes), 4096),
            .chunk_max = (uint32_t)(decoded / (8 * 1024)) + 64,
            .piece_max = (uint32_t)(decoded / (8 * 1024)) + 1024,
        };
        limits->records_bytes = limits->piece_max * (sizeof(struct dmc_tile_piece) + 3 * sizeof(struct dmc_tile_dim));
        for (uint32_t count = wishes.waves; count >= (decoded > 64 * usual_chunk ? least : 2u); count--)
            if (count * dmc_wave_device_bytes(limits) <= device_bytes &&
                count * dmc_wave_pinned_bytes(limits) <= pinned_bytes) {
                *wave_count = count;
                return true;
            }
    }
    return false;
}

#ifndef DMC_CUDA_KERNELS
static enum damacy_status no_kernels(struct damacy_error *error)
{
    dmc_error_set(error, DAMACY_UNSUPPORTED, "config", "this build of damacy has no CUDA kernels: nvcc was not there");
    dmc_error_hint(error, "build it again with CUDA_HOME=/usr/local/cuda (where bin/nvcc is), or use device=\"cpu\"");
    return DAMACY_UNSUPPORTED;
}
#endif

enum damacy_status dmc_cuda_available(struct damacy_error *error)
{
#ifdef DMC_CUDA_KERNELS
    const struct dmc_cuda_driver *driver;
    return dmc_cuda_driver_load(&driver, error);
#else
    return no_kernels(error);
#endif
}

enum damacy_status dmc_cuda_open(const struct dmc_cuda_driver *driver, const void *image, const char *sysfs, int32_t ordinal,
                                 uint64_t limit_bytes, struct dmc_cuda_device **device, struct damacy_error *error)
{
    if (!image) {
#ifdef DMC_CUDA_KERNELS
        image = dmc_cuda_fatbin;
#else
        return no_kernels(error);
#endif
    }
    enum damacy_status status = driver ? DAMACY_OK : dmc_cuda_driver_load(&driver, error);
    return status == DAMACY_OK ? dmc_cuda_device_open(driver, image, sysfs, ordinal, limit_bytes, device, error) : status;
}

static enum damacy_status allocate(struct dmc_cuda_engine *engine, struct damacy_error *error)
{
    const struct dmc_cuda_options *options = &engine->options;
    engine->readers = dmc_calloc(options->reader_count, sizeof *engine->readers);
    engine->waves = dmc_calloc(options->wave_count, sizeof *engine->waves);
    engine->fenced = dmc_calloc(options->batches_max, sizeof *engine->fenced);
    engine->ring.batches = dmc_calloc(options->batches_max, sizeof *engine->ring.batches);
    engine->ring.capacity = options->batches_max;
    if (!engine->readers || !engine->waves || !engine->fenced || !engine->ring.batches)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the CUDA backend");
    enum damacy_status status = dmc_cuda_enter(engine->device, error);
    if (status != DAMACY_OK)
        return status;
    dmc_cu_result result = engine->device->driver->stream_create(&engine->rows, DMC_CU_STREAM_NON_BLOCKING);
    if (result != DMC_CU_SUCCESS)
        status = dmc_cuda_error(engine->device->driver, result, "cuStreamCreate", error);
    for (uint32_t i = 0; status == DAMACY_OK && i < options->wave_count; i++) {
        engine->waves[i].number = i;
        engine->waves[i].fills_only = options->bypass_decode;
        engine->waves[i].cufile = options->cufile;
        status = dmc_wave_init(&engine->waves[i], engine->device, engine->budget, &options->wave, error);
    }
    dmc_cuda_leave(engine->device);
    for (uint32_t i = 0; status == DAMACY_OK && i < options->reader_count; i++)
        status = dmc_cuda_reader_init(&engine->readers[i], engine, i, error);
    return status;
}

static enum damacy_status start_threads(struct dmc_cuda_engine *engine, struct damacy_error *error)
{
    dmc_mutex_lock(&engine->lock);
    open_wave_locked(engine);
    engine->started = engine->options.reader_count; /* readers look at it; put right below if one does not start */
    dmc_mutex_unlock(&engine->lock);
    uint32_t count = 0;
    int failed = 0;
    for (; !failed && count < engine->options.reader_count; count += !failed) {
        char name[32];
        snprintf(name, sizeof name, "damacy-read-%u", count);
        failed = dmc_thread_start(&engine->readers[count].thread, name, dmc_cuda_reader_run, &engine->readers[count]);
    }
    if (!failed) {
        failed = dmc_thread_start(&engine->submitter, "damacy-cuda", submitter_run, engine);
        engine->submitter_started = !failed;
    }
    if (!failed)
        return DAMACY_OK;
    dmc_mutex_lock(&engine->lock);
    engine->started = count;
    dmc_mutex_unlock(&engine->lock);
    return dmc_error_set_os(error, DAMACY_IO, "config", failed, "cannot start thread %u of %u", count + 1,
                            engine->options.reader_count + 1);
}

enum damacy_status dmc_cuda_create(const struct dmc_cuda_options *options, const struct dmc_backend_hooks *hooks,
                                   struct dmc_budget *budget, struct dmc_cuda_device *device, struct dmc_backend **backend,
                                   struct damacy_error *error)
{
    struct dmc_cuda_engine *engine = dmc_calloc(1, sizeof *engine);
    if (!engine)
        dmc_cufile_destroy(options->cufile);
    if (!engine)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the CUDA backend");
    engine->base = (struct dmc_backend){&cuda_ops, device->ordinal};
    engine->options = *options;
    engine->hooks = *hooks;
    engine->budget = budget;
    engine->device = device;
    dmc_placement_init(&engine->placement, options->reader_count, dmc_clock_ns());
    dmc_cuda_device_retain(device);
    dmc_mutex_init(&engine->lock);
    dmc_mutex_init(&engine->rows_lock);
    dmc_cond_init(&engine->changed);
    enum damacy_status status = allocate(engine, error);
    if (status == DAMACY_OK)
        status = start_threads(engine, error);
    if (status != DAMACY_OK) {
        cuda_destroy(&engine->base, UINT64_MAX);
        return status;
    }
    *backend = &engine->base;
    return DAMACY_OK;
}
