/* A reader: claims tasks, reads, and hands each chunk to the filling wave (cuda_place.h). What need not be looked at by the CPU
 * is read straight into the wave; the rest into memory of the reader's own (small, so that it stays in the core's cache), and
 * is copied or decoded from there.
 *
 * A job whose bytes are there but that finds no room in a wave is parked; then nothing new is started until the submitter has
 * opened a wave and woken us. A reader never waits while it holds room in a wave, so every closed wave gets complete. */
#include "backend/chunk_check.h"
#include "backend/cuda/cuda_place.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/nvtx.h"
#include "base/trace.h"

#include <string.h>

/* Where reads that go straight into a wave may begin: the line of a cache. */
#define LANDING_ALIGN 64u

void dmc_cuda_finish(struct dmc_cuda_engine *engine, struct dmc_backend_batch *batch)
{
    if (atomic_fetch_sub_explicit(&batch->remaining, 1, memory_order_acq_rel) == 1 &&
        !atomic_load_explicit(&engine->stop, memory_order_relaxed))
        engine->hooks.done(engine->hooks.user, batch);
}

/* --- reads straight into a wave ---
 *
 * Where the bytes of a read are what the device gets (it decodes them, or they are not compressed), and they come from this
 * machine, they are read to where the copy to the device starts from. That needs room for all that the read's chunks take,
 * reserved before it is started. Copying the bytes once more, even from a buffer that fits the core's cache, would
 * cost the cores time for every byte. Over a network a read may take seconds, which a wave should not have to wait for. */

/* Chains whose chunks the decoder did not take, though their codec is one of its: blosc with zlib inside, ... Only a hint: a
 * chain that was freed may leave its address to another. */
static const struct dmc_codec_chain **refusal(const struct dmc_codec_chain **refused, const struct dmc_codec_chain *chain)
{
    return &refused[((uintptr_t)chain >> 6) % DMC_CUDA_REFUSALS];
}

/* Could this read go straight into an empty wave, and what would it take there? */
static bool landing_room(struct dmc_cuda_reader *reader, const struct dmc_cuda_held *wanted, struct dmc_wave_room *room)
{
    const struct dmc_backend_batch *batch = wanted->batch;
    const struct dmc_read *read = &batch->plan.reads[wanted->read];
    const struct dmc_wave_limits *limits = &reader->engine->options.wave;
    const struct dmc_backend_array *array =
        batch->plan.chunks[wanted->chunk_begin].array->user; /* of all chunks of an object */
    const struct dmc_codec_chain *chain = array->chain;
    if (read->whole || wanted->cpu || wanted->cores || wanted->aside || dmc_store_hint_of(array->store).remote)
        return false;
    if (!chain->raw && (*refusal(reader->refused, chain) == chain || !dmc_place_codec(reader->engine, chain)))
        return false;
    *room = (struct dmc_wave_room){.stored_bytes = wanted->bytes + LANDING_ALIGN,
                                   .entries = wanted->chunk_end - wanted->chunk_begin};
    for (uint32_t i = wanted->chunk_begin; i < wanted->chunk_end; i++) {
        const struct dmc_chunk *chunk = &batch->plan.chunks[i];
        if (dmc_wave_measure(limits, batch, chunk->piece_begin, chunk->piece_end, room) != chunk->piece_end)
            return false;
        if (!chain->raw)
            room->decoded_bytes += dmc_wave_decoded_bytes(dmc_min_u64(chunk->chunk_bytes, DMC_CUDA_CHUNK_BYTES_MAX));
    }
    return dmc_wave_fits(limits, room);
}

/* Where bytes from `offset` of a file go: at the same distance from a multiple of 64, so that elements stay aligned if they
 * were, and the kernel copies whole lines. */
static uint64_t landing_skew(uint64_t offset)
{
    return offset % LANDING_ALIGN;
}

/* --- jobs --- */

/* Jobs of a reader. */
static uint32_t ring_of(const struct dmc_cuda_options *options)
{
    return (uint32_t)dmc_max_u64(options->remote_reads_in_flight, options->reads_in_flight);
}

static uint32_t job_index(const struct dmc_cuda_reader *reader, const struct dmc_cuda_job *job)
{
    return (uint32_t)(job - reader->jobs);
}

/* Place a job whose bytes are there; afterwards it is idle again, or parked. */
static bool finish_job(struct dmc_cuda_reader *reader, struct dmc_cuda_job *job)
{
    if (!dmc_place_job(reader, job))
        return false;
    struct dmc_backend_batch *batch = job->batch;
    job->batch = NULL;
    reader->idle[reader->idle_count++] = job_index(reader, job);
    dmc_cuda_finish(reader->engine, batch);
    return true;
}

static void finish_or_park(struct dmc_cuda_reader *reader, struct dmc_cuda_job *job)
{
    uint32_t ring = ring_of(&reader->engine->options);
    if (reader->parked_count || !finish_job(reader, job)) /* those that wait already are older */
        reader->parked[(reader->parked_begin + reader->parked_count++) % ring] = job_index(reader, job);
}

/* Go on with the oldest parked job. */
static bool resume_parked(struct dmc_cuda_reader *reader)
{
    if (!reader->parked_count || !finish_job(reader, &reader->jobs[reader->parked[reader->parked_begin]]))
        return false;
    reader->parked_begin = (reader->parked_begin + 1) % ring_of(&reader->engine->options);
    reader->parked_count--;
    return true;
}

static void drop_memory(struct dmc_cuda_reader *reader, struct dmc_cuda_job *job)
{
    if (job->memory) {
        dmc_pages_unmap(job->memory, job->memory_bytes);
        dmc_budget_unreserve(reader->engine->budget, job->memory_bytes);
        reader->memory_bytes -= job->memory_bytes;
    }
    job->memory = NULL;
    job->memory_bytes = 0;
}

/* Memory for a read of `bytes`. AGAIN: when reads that are under way are done there will be some. */
static enum damacy_status job_memory(struct dmc_cuda_reader *reader, struct dmc_cuda_job *job, uint64_t bytes)
{
    struct dmc_cuda_engine *engine = reader->engine;
    /* More than is asked for, so that most later reads fit, too; but a network wants all jobs to have some. */
    uint64_t least = reader->remote ? engine->options.reader_bytes / ring_of(&engine->options) : 128 * 1024;
    uint64_t size = dmc_round_up(dmc_max_u64(bytes, dmc_min_u64(least, 128 * 1024)), 4096);
    if (bytes <= job->memory_bytes)
        return DAMACY_OK;
    drop_memory(reader, job);
    bool alone = reader->reading == 0 && reader->parked_count == 0;
    for (uint32_t i = 0; i < reader->idle_count && reader->memory_bytes + size > engine->options.reader_bytes; i++)
        drop_memory(reader, &reader->jobs[reader->idle[i]]);
    if (reader->memory_bytes + size > engine->options.reader_bytes && !alone)
        return DAMACY_AGAIN;
    if (!dmc_budget_reserve(engine->budget, size)) {
        if (!alone)
            return DAMACY_AGAIN;
        return dmc_error_set(
            &reader->error, DAMACY_BUDGET, "read",
            "a read of %llu bytes does not fit max_host_memory_bytes (%llu bytes, %llu in use); raise it or lower "
            "batch_slots or worker_count",
            (unsigned long long)bytes, (unsigned long long)engine->budget->limit_bytes,
            (unsigned long long)dmc_budget_used(engine->budget));
    }
    job->memory = dmc_pages_map(size);
    if (!job->memory) {
        dmc_budget_unreserve(engine->budget, size);
        return dmc_error_set(&reader->error, DAMACY_OOM, "read", "no memory for a read of %llu bytes",
                             (unsigned long long)bytes);
    }
    job->memory_bytes = size;
    reader->memory_bytes += size;
    return DAMACY_OK;
}

/* The rest of a job begins again, as a read of `bytes` into memory of our own. */
static void hold_rest(struct dmc_cuda_reader *reader, struct dmc_cuda_job *job, uint64_t bytes)
{
    reader->held[reader->held_count++] = (struct dmc_cuda_held){
        .batch = job->batch,
        .read = job->read,
        .chunk_begin = job->chunk,
        .chunk_end = job->chunk_end,
        .cpu = job->cpu,
        .cores = job->cores,
        .aside = true,
        .bytes = bytes,
    };
    reader->idle[reader->idle_count++] = job_index(reader, job);
}

/* Room in the filling wave for a job's read. */
static bool begin_landing(struct dmc_cuda_reader *reader, const struct dmc_wave_room *room, struct dmc_cuda_job *job)
{
    if (!dmc_place_reserve(reader, room, &job->landing))
        return false;
    job->landing_end = job->landing;
    job->landing_end.record += room->records_bytes;
    job->landing_end.tile_begin += room->tiles;
    job->landing_end.piece += room->pieces;
    return true;
}

/* What is left of it gets nothing. */
static void end_landing(struct dmc_cuda_reader *reader, struct dmc_cuda_job *job, bool full)
{
    const struct dmc_wave_room left = {
        .records_bytes = job->landing_end.record - job->landing.record,
        .tiles = job->landing_end.tile_begin - job->landing.tile_begin,
        .pieces = job->landing_end.piece - job->landing.piece,
    };
    dmc_wave_write_nothing(&job->landing, &left);
    job->landed = false;
    dmc_place_written(reader, &job->landing, full);
}

/* The bytes of a job are in a wave: place the chunks there. What finds no place is copied out, and goes on as if it had been
 * read into memory of our own; without memory it is read again. A wave must not wait for what comes after. */
static void finish_landed(struct dmc_cuda_reader *reader, struct dmc_cuda_job *job)
{
    bool full = false, whole = dmc_place_landed(reader, job, &full), copied = false;
    const uint64_t bytes = job->batch->plan.reads[job->read].length;
    if (!whole && !full) {
        const struct dmc_backend_array *array = job->batch->plan.chunks[job->chunk].array->user;
        *refusal(reader->refused, array->chain) = array->chain;
    }
    if (!whole && job_memory(reader, job, bytes) == DAMACY_OK) {
        memcpy(job->memory, job->data, job->request.bytes_read);
        job->data = job->memory;
        copied = true;
    }
    end_landing(reader, job, full);
    if (whole || copied)
        finish_or_park(reader, job);
    else
        hold_rest(reader, job, bytes);
}

/* The request of a job is done: use it, or start it again with the length that the store told. */
static void finish_read(struct dmc_cuda_reader *reader, struct dmc_cuda_job *job)
{
    const struct dmc_read *read = &job->batch->plan.reads[job->read];
    struct dmc_request *request = &job->request;
    if (request->outcome == DMC_OUTCOME_TOO_LONG && request->object_bytes <= read->length &&
        request->object_bytes > job->part.iov_len) { /* of whole reads only, which do not go into waves */
        hold_rest(reader, job, request->object_bytes);
        return;
    }
    dmc_counter_add(&reader->read, 0, request->bytes_read, 0);
    if (read->whole && !job->cpu)
        atomic_fetch_add_explicit(&reader->whole_bytes, request->bytes_read, memory_order_relaxed);
    if (job->landed)
        finish_landed(reader, job);
    else
        finish_or_park(reader, job);
}

/* The samples of a read that never got started. */
static void fail_read(struct dmc_cuda_reader *reader, const struct dmc_cuda_held *wanted)
{
    const struct dmc_read *read = &wanted->batch->plan.reads[wanted->read];
    for (uint32_t i = wanted->chunk_begin; i < wanted->chunk_end; i++) {
        const struct dmc_chunk *chunk = &wanted->batch->plan.chunks[i];
        struct damacy_error error = reader->error;
        dmc_chunk_where(wanted->batch, read, chunk, read->whole ? 0 : chunk->stored_bytes, &error);
        if (!atomic_load_explicit(&reader->engine->stop, memory_order_relaxed))
            dmc_chunk_fail(&reader->engine->hooks, wanted->batch, chunk, &error);
    }
    dmc_cuda_finish(reader->engine, wanted->batch);
}

static struct dmc_cuda_job *begin_job(struct dmc_cuda_reader *reader, const struct dmc_cuda_held *wanted)
{
    struct dmc_cuda_job *job = &reader->jobs[reader->idle[--reader->idle_count]];
    job->batch = wanted->batch;
    job->read = wanted->read;
    job->cpu = wanted->cpu;
    job->cores = wanted->cores;
    job->chunk = wanted->chunk_begin;
    job->chunk_end = wanted->chunk_end;
    job->piece = 0;
    job->full_count = 0;
    return job;
}

/* Room for the read in a wave, or memory. AGAIN: not now. */
static enum damacy_status find_place(struct dmc_cuda_reader *reader, const struct dmc_cuda_held *wanted,
                                     struct dmc_cuda_job *job)
{
    struct dmc_wave_room room;
    if (!landing_room(reader, wanted, &room)) {
        enum damacy_status status = job_memory(reader, job, wanted->bytes);
        job->data = job->memory;
        job->landed = false;
        return status;
    }
    if (!begin_landing(reader, &room, job))
        return DAMACY_AGAIN;
    job->data = dmc_wave_stored(&job->landing) + landing_skew(wanted->batch->plan.reads[wanted->read].offset);
    job->landed = true;
    return DAMACY_OK;
}

/* --- reads that the device does itself (gpu_direct_storage) ---
 *
 * Of a file of this machine, bytes that the host need not look at: chunks that are not compressed and carry no checksum (the
 * headers of all others are walked here). They go to where the copy of the wave would have brought them. Whatever is in the
 * way, a missing or short file among it, is left to an ordinary read, which knows the answer or the words for it. */

enum direct_answer { DIRECT_DONE, DIRECT_NO_ROOM, DIRECT_CANNOT };

/* A range of a file, widened so that nothing has to be moved on the way. */
struct direct_range {
    uint64_t begin, bytes;
};
static struct direct_range direct_range_of(uint64_t offset, uint64_t bytes)
{
    const uint64_t begin = offset - offset % DMC_CUFILE_ALIGN;
    return (struct direct_range){begin, dmc_round_up(offset + bytes, DMC_CUFILE_ALIGN) - begin};
}

/* Could the device do this read, and what would it take of an empty wave? */
static bool direct_room(struct dmc_cuda_reader *reader, const struct dmc_cuda_held *wanted, struct dmc_wave_room *room)
{
    const struct dmc_read *read = &wanted->batch->plan.reads[wanted->read];
    const struct dmc_backend_array *array = wanted->batch->plan.objects[read->object].array->user;
    if (!reader->engine->options.cufile || wanted->host || !array->chain->raw || !dmc_store_hint_of(array->store).files ||
        wanted->bytes == 0 || read->offset > INT64_MAX / 2 || wanted->bytes > INT64_MAX / 2 ||
        !landing_room(reader, wanted, room))
        return false;
    room->direct = true;
    room->stored_bytes = direct_range_of(read->offset, wanted->bytes).bytes + DMC_WAVE_DIRECT_ALIGN - 1;
    return dmc_wave_fits(&reader->engine->options.wave, room);
}

/* The read's file; arrays of which one file was refused are not tried again. */
static bool direct_file(struct dmc_cuda_reader *reader, const struct dmc_backend_object *object,
                        const struct dmc_codec_chain *chain, struct dmc_cufile_file **file)
{
    const struct dmc_codec_chain **refused = refusal(reader->direct_refused, chain);
    enum dmc_cufile_answer answer = DMC_CUFILE_NEVER;
    if (*refused != chain)
        answer = dmc_cufile_acquire(reader->engine->options.cufile, object->key, object->key_hash, file);
    if (answer == DMC_CUFILE_NEVER)
        *refused = chain;
    if (answer == DMC_CUFILE_NEVER || answer == DMC_CUFILE_NOT_NOW)
        dmc_counter_add(&reader->direct_fallback, 1, 0, 0);
    return answer == DMC_CUFILE_OK;
}

static enum direct_answer read_direct(struct dmc_cuda_reader *reader, const struct dmc_cuda_held *wanted)
{
    struct dmc_cufile *cufile = reader->engine->options.cufile;
    const struct dmc_read *read = &wanted->batch->plan.reads[wanted->read];
    const struct dmc_backend_array *array = wanted->batch->plan.objects[read->object].array->user;
    struct dmc_wave_room room;
    struct dmc_cufile_file *file;
    if (!direct_room(reader, wanted, &room) || !direct_file(reader, &wanted->batch->objects[read->object], array->chain, &file))
        return DIRECT_CANNOT;
    if (!begin_landing(reader, &room, &reader->jobs[reader->idle[reader->idle_count - 1]])) {
        dmc_cufile_release(cufile, file);
        return DIRECT_NO_ROOM;
    }
    struct dmc_cuda_job *job = begin_job(reader, wanted);
    const struct direct_range range = direct_range_of(read->offset, wanted->bytes);
    const struct dmc_wave *wave = job->landing.wave;
    const uint64_t object_bytes = file->object_bytes, begin_ns = dmc_clock_ns();
    dmc_nvtx_push("direct_read", reader->index);
    uint64_t found =
        dmc_cufile_read(cufile, file, range.begin, range.bytes, wave->memory, wave->stored_at + job->landing.stored);
    dmc_nvtx_pop();
    const uint64_t end_ns = dmc_clock_ns();
    dmc_trace_span("direct_read", begin_ns, end_ns, reader->index);
    dmc_cufile_release(cufile, file);
    if (found < read->offset - range.begin + wanted->bytes) {
        end_landing(reader, job, false);
        reader->idle[reader->idle_count++] = job_index(reader, job);
        dmc_counter_add(&reader->direct_fallback, 1, 0, 0);
        if (found == 0)
            *refusal(reader->direct_refused, array->chain) = array->chain;
        return DIRECT_CANNOT;
    }
    dmc_counter_add(&reader->read, 1, wanted->bytes, end_ns - begin_ns);
    dmc_counter_add(&reader->direct_read, 1, wanted->bytes, end_ns - begin_ns);
    job->request = (struct dmc_request){
        .outcome = DMC_OUTCOME_OK,
        .bytes_read = wanted->bytes,
        .object_bytes = object_bytes,
    };
    /* Only an address, from which the one on the device follows; the bytes are not here. */
    job->data = dmc_wave_stored(&job->landing) + (read->offset - range.begin);
    job->landed = true;
    finish_landed(reader, job);
    return DIRECT_DONE;
}

/* Start a read; false: there is no place for it now, and it waits. */
static bool start_read(struct dmc_cuda_reader *reader, struct dmc_cuda_held wanted)
{
    struct dmc_backend_batch *batch = wanted.batch;
    const struct dmc_read *read = &batch->plan.reads[wanted.read];
    const struct dmc_backend_array *array = batch->plan.objects[read->object].array->user;
    reader->remote = dmc_store_hint_of(array->store).remote;
    enum direct_answer direct = read_direct(reader, &wanted);
    if (direct == DIRECT_DONE)
        return true;
    enum damacy_status status = DAMACY_AGAIN;
    if (direct == DIRECT_CANNOT) {
        wanted.host = true;
        status = find_place(reader, &wanted, &reader->jobs[reader->idle[reader->idle_count - 1]]);
    }
    if (status == DAMACY_AGAIN) {
        reader->held[reader->held_count++] = wanted;
        return false;
    }
    if (status != DAMACY_OK) {
        fail_read(reader, &wanted);
        return true;
    }
    struct dmc_cuda_job *job = begin_job(reader, &wanted);
    job->part = (struct iovec){job->data, wanted.bytes};
    uint64_t begin_ns = dmc_clock_ns();
    dmc_batch_request(batch, read, &job->part, &job->error, begin_ns, job, &job->request);
    enum dmc_start started = dmc_store_start(reader->io, &job->request);
    dmc_counter_add(&reader->read, 1, 0, dmc_clock_ns() - begin_ns);
    if (started == DMC_START_DONE) {
        finish_read(reader, job);
        return true;
    }
    reader->reading++;
    job->shared = reader->remote;
    if (job->shared)
        dmc_claim_share_add(&reader->claimant, batch);
    return true;
}

/* Reads that the device could not decode come first: their batches are the oldest. */
static bool take_retry(struct dmc_cuda_reader *reader, struct dmc_cuda_retry *retry)
{
    struct dmc_cuda_engine *engine = reader->engine;
    dmc_mutex_lock(&engine->lock);
    bool found = engine->retry_count != 0;
    if (found)
        *retry = engine->retries[--engine->retry_count];
    dmc_mutex_unlock(&engine->lock);
    return found;
}

/* decode="auto": shall the cores decode this read's chunks, though the device could? */
static bool placed_on_cores(struct dmc_cuda_reader *reader, const struct dmc_backend_batch *batch, const struct dmc_read *read)
{
    struct dmc_cuda_engine *engine = reader->engine;
    if (engine->options.decode != DMC_CUDA_AUTO || engine->options.bypass_decode)
        return false;
    const struct dmc_codec_chain *chain =
        ((const struct dmc_backend_array *)batch->plan.chunks[read->chunk_begin].array->user)->chain;
    const struct dmc_cuda_codec *codec = dmc_place_codec(engine, chain);
    return codec && dmc_placement_on_cores(&engine->placement, dmc_placement_kind_of(codec->format, chain->chunk_bytes));
}

/* Start something, if there is anything to start and room for it. */
static bool start_next(struct dmc_cuda_reader *reader)
{
    struct dmc_cuda_engine *engine = reader->engine;
    uint32_t ring = ring_of(&engine->options), most = reader->remote ? ring : engine->options.reads_in_flight;
    if (ring - reader->idle_count >= most || reader->parked_count)
        return false;
    if (reader->held_count)
        return start_read(reader, reader->held[--reader->held_count]);
    struct dmc_cuda_held next = {0};
    struct dmc_cuda_retry retry;
    if (take_retry(reader, &retry)) {
        next.batch = retry.batch;
        next.read = retry.read;
        next.chunk_begin = retry.chunk;
        next.chunk_end = retry.chunk + 1;
        next.cpu = next.aside = true;
        next.bytes = dmc_read_first_guess(retry.batch, &retry.batch->plan.reads[retry.read]);
        return start_read(reader, next);
    }
    struct dmc_backend_batch *batch;
    uint32_t task;
    if (!dmc_claim_task(&engine->ring, &reader->claimant, engine->options.reader_count, &batch, &task))
        return false;
    next.batch = batch;
    if (task < batch->plan.read_count) {
        const struct dmc_read *read = &batch->plan.reads[task];
        next.read = task;
        next.chunk_begin = read->chunk_begin;
        next.chunk_end = read->chunk_end;
        next.bytes = dmc_read_first_guess(batch, read);
        next.cores = placed_on_cores(reader, batch, read);
        return start_read(reader, next);
    }
    next.read = DMC_WAVE_READ_NONE;
    next.chunk_begin = batch->plan.absent_begin + (task - batch->plan.read_count) * DMC_FILLS_PER_TASK;
    next.chunk_end = (uint32_t)dmc_min_u64((uint64_t)next.chunk_begin + DMC_FILLS_PER_TASK, batch->plan.chunk_count);
    next.aside = true;
    finish_or_park(reader, begin_job(reader, &next));
    return true;
}

/* Tell the submitter that nothing more will come from here for now. false: there is something to do after all. */
static bool become_idle(struct dmc_cuda_reader *reader)
{
    struct dmc_cuda_engine *engine = reader->engine;
    dmc_mutex_lock(&engine->lock);
    bool idle = engine->retry_count == 0;
    if (idle && ++engine->idle_readers == engine->started)
        dmc_cond_signal(&engine->changed);
    dmc_mutex_unlock(&engine->lock);
    return idle;
}

static void end_idle(struct dmc_cuda_reader *reader)
{
    dmc_mutex_lock(&reader->engine->lock);
    reader->engine->idle_readers--;
    dmc_mutex_unlock(&reader->engine->lock);
}

/* Sleep until a read is finished, room is opened, or submit, retry or stop wake us. */
static struct dmc_request *wait_for_anything(struct dmc_cuda_reader *reader)
{
    bool busy = reader->reading != 0 || reader->parked_count != 0 || reader->held_count != 0;
    if (!busy && !become_idle(reader))
        return NULL;
    /* A read that is held while none is under way waits for room, too: memory of its own it would have got. */
    bool room = reader->parked_count || (reader->held_count && !reader->reading);
    const char *name = room ? "bind_wait" : reader->reading ? "read_wait" : "idle";
    dmc_nvtx_push(name, reader->index);
    uint64_t begin_ns = dmc_clock_ns();
    dmc_placement_wait_begin(&reader->waits, begin_ns);
    struct dmc_request *request = dmc_io_wait(reader->io, UINT64_MAX);
    uint64_t end_ns = dmc_clock_ns();
    dmc_placement_wait_end(&reader->waits, end_ns);
    dmc_nvtx_pop();
    if (!busy)
        end_idle(reader);
    dmc_counter_add(room              ? &reader->bind_wait
                    : reader->reading ? &reader->read_wait
                                      : &reader->idle_time,
                    1, 0, end_ns - begin_ns);
    dmc_trace_span(name, begin_ns, end_ns, reader->index);
    return request;
}

void *dmc_cuda_reader_run(void *argument)
{
    struct dmc_cuda_reader *reader = argument;
    struct dmc_cuda_engine *engine = reader->engine;
    while (!atomic_load_explicit(&engine->stop, memory_order_relaxed)) {
        struct dmc_request *request = reader->reading ? dmc_io_wait(reader->io, 0) : NULL;
        if (!request) {
            if (resume_parked(reader) || start_next(reader))
                continue;
            request = wait_for_anything(reader);
        }
        if (request) {
            struct dmc_cuda_job *job = request->user;
            reader->reading--;
            if (job->shared)
                dmc_claim_share_remove(&reader->claimant, job->batch);
            finish_read(reader, job);
        }
    }
    return NULL;
}

/* --- making --- */

enum damacy_status dmc_cuda_reader_init(struct dmc_cuda_reader *reader, struct dmc_cuda_engine *engine, uint32_t index,
                                        struct damacy_error *error)
{
    const struct dmc_cuda_options *options = &engine->options;
    uint32_t ring = ring_of(options);
    struct dmc_io_options io = {.depth = ring, .io_uring_never = options->io_uring_never};
    reader->engine = engine;
    reader->index = index;
    enum damacy_status status = dmc_io_create(&io, &reader->io, error);
    if (status == DAMACY_OK)
        status = dmc_codec_context_create(engine->budget, &reader->codec, error);
    if (status != DAMACY_OK)
        return status;
    reader->jobs = dmc_calloc(ring, sizeof *reader->jobs);
    reader->idle = dmc_calloc(ring, sizeof *reader->idle);
    reader->parked = dmc_calloc(ring, sizeof *reader->parked);
    reader->held = dmc_calloc(ring + 1, sizeof *reader->held);
    reader->claimant.shares = dmc_calloc(options->batches_max, sizeof *reader->claimant.shares);
    if (!reader->jobs || !reader->idle || !reader->parked || !reader->held || !reader->claimant.shares)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for a reader");
    for (uint32_t i = 0; i < ring; i++)
        reader->idle[i] = ring - 1 - i;
    reader->idle_count = ring;
    return DAMACY_OK;
}

void dmc_cuda_reader_deinit(struct dmc_cuda_reader *reader)
{
    dmc_codec_context_destroy(reader->codec);
    for (uint32_t i = 0; reader->jobs && i < ring_of(&reader->engine->options); i++)
        drop_memory(reader, &reader->jobs[i]);
    dmc_free(reader->jobs);
    dmc_free(reader->idle);
    dmc_free(reader->parked);
    dmc_free(reader->held);
    dmc_free(reader->claimant.shares);
}
