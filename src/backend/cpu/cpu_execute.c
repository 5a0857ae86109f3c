/* What happens to a read once its bytes are there: decode each chunk, scatter its pieces, tell of failures. */
#include "backend/chunk_check.h"
#include "backend/cpu/assemble.h"
#include "backend/cpu/cpu_worker.h"
#include "backend/piece_fill.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/nvtx.h"

#include <string.h>

static const struct dmc_backend_array *array_of(const struct dmc_chunk *chunk)
{
    return chunk->array->user;
}

/* Tell the owner of worker->error, which has its place in front. */
static void fail_chunk(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, const struct dmc_chunk *chunk)
{
    if (!atomic_load_explicit(&worker->backend->stop, memory_order_relaxed))
        dmc_chunk_fail(&worker->backend->hooks, batch, chunk, &worker->error);
}

/* The fill value for all pieces of a chunk; how many bytes that were. */
static uint64_t fill_pieces(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, const struct dmc_chunk *chunk)
{
    uint8_t *memory = dmc_batch_memory(&worker->backend->hooks, batch);
    uint64_t bytes = 0;
    for (uint32_t i = chunk->piece_begin; i < chunk->piece_end; i++) {
        const struct dmc_piece *piece = &batch->plan.pieces[i];
        const struct dmc_backend_tensor *tensor = &batch->tensors[piece->field];
        struct dmc_scatter_element fill = dmc_piece_fill(array_of(chunk), piece, batch->plan.dims);
        dmc_assemble_fill(piece, batch->plan.dims, tensor->dtype, fill, memory + tensor->offset);
        bytes += piece->elements * damacy_dtype_bytes(tensor->dtype);
    }
    return bytes;
}

static void fill_chunk(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, const struct dmc_chunk *chunk)
{
    uint64_t bytes = fill_pieces(worker, batch, chunk);
    dmc_counter_add(&worker->fill, 1, bytes, dmc_worker_lap(worker));
}

static void scatter_chunk(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, const struct dmc_chunk *chunk,
                          const uint8_t *decoded)
{
    const struct dmc_backend_array *array = array_of(chunk);
    uint8_t *memory = dmc_batch_memory(&worker->backend->hooks, batch);
    uint64_t bytes = 0;
    for (uint32_t i = chunk->piece_begin; i < chunk->piece_end; i++) {
        const struct dmc_piece *piece = &batch->plan.pieces[i];
        const struct dmc_backend_tensor *tensor = &batch->tensors[piece->field];
        dmc_assemble_piece(piece, batch->plan.dims, array->rows[piece->field], decoded, memory + tensor->offset);
        bytes += piece->elements * damacy_dtype_bytes(tensor->dtype);
    }
    uint64_t pieces = chunk->piece_end - chunk->piece_begin;
    dmc_counter_add(&worker->assemble, pieces, bytes, 0); /* the caller adds the time */
}

/* What a thread has taken off the hosts of one read. */
struct guests {
    struct dmc_guest *served, *strays;
};

static void keep(struct dmc_guest **list, struct dmc_guest *guest)
{
    guest->next = *list;
    *list = guest;
}

static void keep_all(struct dmc_guest **list, struct dmc_guest *guests)
{
    for (struct dmc_guest *guest = guests, *next; guest; guest = next) {
        next = guest->next;
        keep(list, guest);
    }
}

static const struct dmc_chunk *chunk_of(const struct dmc_guest *guest)
{
    const struct dmc_plan *plan = &guest->batch->plan;
    return &plan->chunks[plan->reads[guest->read].chunk_begin];
}

/* Decode [begin, end) of the chunk into the worker's memory. */
static bool decode_chunk(struct dmc_cpu_worker *worker, const struct dmc_chunk *chunk, const uint8_t *stored,
                         uint64_t stored_bytes, uint64_t begin, uint64_t end)
{
    struct dmc_decode decode = {
        .source = stored,
        .source_bytes = stored_bytes,
        .target = worker->decoded, /* dmc_worker_make_space saw to it: whoever wants the chunk, it is the same */
        .chunk_bytes = chunk->chunk_bytes,
        .need_begin = begin,
        .need_end = end,
        .verify_full = worker->backend->options.verify_full,
    };
    enum damacy_status status = dmc_codec_decode(array_of(chunk)->chain, worker->codec, &decode, &worker->error);
    uint64_t lap_ns = dmc_worker_lap(worker);
    if (status != DAMACY_OK)
        return false;
    dmc_counter_add(&worker->decode, 1, end - begin, lap_ns);
    return true;
}

/* Take out of `waiting` the guests that are best decoded together with [*begin, *end), which is widened. A decoder that begins
 * at the beginning has them on the way, or makes the way for them; one that picks blocks would have to decode what lies
 * between. */
static struct dmc_guest *join_guests(const struct dmc_codec_chain *chain, struct dmc_guest **waiting, uint64_t *begin,
                                     uint64_t *end)
{
    struct dmc_guest *joined = NULL, *apart = NULL;
    for (struct dmc_guest *guest = *waiting, *next; guest; guest = next) {
        const struct dmc_chunk *chunk = chunk_of(guest);
        uint64_t both_begin = dmc_min_u64(*begin, chunk->need_begin), both_end = dmc_max_u64(*end, chunk->need_end);
        uint64_t sum = *end - *begin + chunk->need_end - chunk->need_begin;
        next = guest->next;
        if (chain->picks && both_end - both_begin > sum) {
            keep(&apart, guest);
            continue;
        }
        keep(&joined, guest);
        *begin = both_begin;
        *end = both_end;
    }
    *waiting = apart;
    return joined;
}

/* Write what is decoded into the guest's batch. `saved`: what decoding for it alone would have cost. */
static void scatter_guest(struct dmc_cpu_worker *worker, struct dmc_guest *guest, uint64_t saved, struct guests *guests)
{
    scatter_chunk(worker, guest->batch, chunk_of(guest), worker->decoded);
    dmc_counter_add(&worker->shared, 1, saved, 0);
    keep(&guests->served, guest);
}

/* Decode a chunk for its own batch, for the guests that wait for it and for batches to come. What cannot be decoded for all of
 * them together may be right as far as the batch itself needs it, and that counts; its guests get no error that they might not
 * meet by themselves. false: worker->error says what is wrong with the batch's own part. */
static bool decode_and_scatter(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, const struct dmc_chunk *chunk,
                               const uint8_t *stored, uint64_t stored_bytes, struct dmc_guest *waiting, struct guests *guests)
{
    uint64_t begin = chunk->need_begin, end = chunk->need_end;
    struct dmc_guest *joined = join_guests(array_of(chunk)->chain, &waiting, &begin, &end), *next;
    struct dmc_kept *kept = dmc_host_kept(batch, chunk);
    if (kept) {
        begin = dmc_min_u64(begin, kept->begin);
        end = dmc_max_u64(end, kept->end);
    }
    bool wider = begin < chunk->need_begin || end > chunk->need_end;
    if (!decode_chunk(worker, chunk, stored, stored_bytes, begin, end)) {
        keep_all(&guests->strays, joined);
        keep_all(&guests->strays, waiting);
        joined = waiting = NULL;
        if (kept)
            dmc_kept_give(kept, false);
        kept = NULL;
        if (!wider || !decode_chunk(worker, chunk, stored, stored_bytes, chunk->need_begin, chunk->need_end))
            return false;
    }
    scatter_chunk(worker, batch, chunk, worker->decoded);
    for (struct dmc_guest *guest = joined; guest; guest = next) {
        next = guest->next;
        scatter_guest(worker, guest, chunk_of(guest)->need_end - chunk_of(guest)->need_begin, guests);
    }
    if (kept) {
        memcpy(kept->memory, worker->decoded + kept->begin, kept->end - kept->begin);
        dmc_kept_give(kept, true);
    }
    dmc_counter_add(&worker->assemble, 0, 0, dmc_worker_lap(worker));
    for (struct dmc_guest *guest = waiting; guest; guest = next) { /* of the same bytes, but by themselves */
        const struct dmc_chunk *own = chunk_of(guest);
        next = guest->next;
        if (!decode_chunk(worker, own, stored, stored_bytes, own->need_begin, own->need_end)) {
            keep(&guests->strays, guest);
            continue;
        }
        scatter_guest(worker, guest, 0, guests);
        dmc_counter_add(&worker->assemble, 0, 0, dmc_worker_lap(worker));
    }
    return true;
}

/* The bytes of a chunk are there. */
static void execute_chunk(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, const struct dmc_read *read,
                          const struct dmc_chunk *chunk, const struct dmc_request *request, const uint8_t *data,
                          struct dmc_guest *waiting, struct guests *guests)
{
    uint64_t stored_bytes = dmc_chunk_stored_bytes(read, chunk, request);
    if (worker->backend->options.bypass_decode) { /* counted as assembled: nothing is absent. Such plans have no hosts */
        uint64_t bytes = fill_pieces(worker, batch, chunk);
        dmc_counter_add(&worker->assemble, chunk->piece_end - chunk->piece_begin, bytes, dmc_worker_lap(worker));
    } else if (array_of(chunk)->chain->raw) {
        /* The bytes lie where the whole chunk would have them, part_begin bytes in: only an address, never dereferenced before
         * it. */
        scatter_chunk(worker, batch, chunk, (const uint8_t *)((uintptr_t)data + chunk->stored_offset - chunk->part_begin));
        dmc_counter_add(&worker->assemble, 0, 0, dmc_worker_lap(worker));
    } else if (!decode_and_scatter(worker, batch, chunk, data + chunk->stored_offset, stored_bytes, waiting, guests)) {
        dmc_chunk_where(batch, read, chunk, stored_bytes, &worker->error);
        fail_chunk(worker, batch, chunk);
    }
}

/* The chunk's object is absent: for its guests, too. */
static void fill_chunk_and_guests(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, const struct dmc_chunk *chunk,
                                  struct dmc_guest *waiting, struct guests *guests)
{
    fill_chunk(worker, batch, chunk);
    for (struct dmc_guest *guest = waiting, *next; guest; guest = next) {
        next = guest->next;
        fill_chunk(worker, guest->batch, chunk_of(guest));
        dmc_counter_add(&worker->shared, 1, 0, 0);
        keep(&guests->served, guest);
    }
}

/* One task of the batch is over. */
static void finish_task(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch)
{
    if (atomic_fetch_sub_explicit(&batch->remaining, 1, memory_order_acq_rel) == 1 &&
        !atomic_load_explicit(&worker->backend->stop, memory_order_relaxed))
        worker->backend->hooks.done(worker->backend->hooks.user, batch);
}

/* Guests that were served are finished, the others are given up. Both may be the last that their batch waited for, and then it
 * is looked at no more. */
static void finish_guests(struct dmc_cpu_worker *worker, const struct guests *guests)
{
    for (struct dmc_guest *guest = guests->served, *next; guest; guest = next) {
        next = guest->next;
        finish_task(worker, guest->batch);
    }
    for (struct dmc_guest *guest = guests->strays, *next; guest; guest = next) {
        next = guest->next;
        dmc_stray_add(&worker->backend->strays, guest);
    }
    if (guests->strays) /* this worker may have its hands full for long, with reads that hang as the one that failed */
        dmc_cpu_wake(worker->backend);
}

void dmc_cpu_execute_failure(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, uint32_t read_index,
                             struct damacy_error *error)
{
    const struct dmc_read *read = &batch->plan.reads[read_index];
    struct guests guests = {0};
    for (uint32_t i = read->chunk_begin; i < read->chunk_end; i++) {
        const struct dmc_chunk *chunk = &batch->plan.chunks[i];
        worker->error = *error;
        dmc_chunk_where(batch, read, chunk, read->whole ? 0 : chunk->stored_bytes, &worker->error);
        fail_chunk(worker, batch, chunk);
        keep_all(&guests.strays, dmc_host_close(batch, chunk));
    }
    finish_guests(worker, &guests);
    finish_task(worker, batch);
}

void dmc_cpu_execute_read(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, uint32_t read_index,
                          const struct dmc_request *request, const struct damacy_error *request_error, const uint8_t *data)
{
    const struct dmc_read *read = &batch->plan.reads[read_index];
    struct guests guests = {0};
    dmc_nvtx_push("chunks", batch->batch_id);
    atomic_store_explicit(&worker->computing, true, memory_order_relaxed);
    for (uint32_t i = read->chunk_begin; i < read->chunk_end; i++) {
        const struct dmc_chunk *chunk = &batch->plan.chunks[i];
        if (atomic_load_explicit(&worker->backend->stop, memory_order_relaxed))
            break; /* the batch never ends; destroy is waiting */
        struct dmc_guest *waiting = dmc_host_close(batch, chunk);
        switch (dmc_chunk_check(batch, read, chunk, request, request_error, &worker->error)) {
        case DMC_CHUNK_USE:
            execute_chunk(worker, batch, read, chunk, request, data, waiting, &guests);
            break;
        case DMC_CHUNK_FILL:
            fill_chunk_and_guests(worker, batch, chunk, waiting, &guests);
            break;
        case DMC_CHUNK_FAIL:
            fail_chunk(worker, batch, chunk);
            keep_all(&guests.strays, waiting);
            break;
        }
    }
    dmc_scatter_streamed_end(); /* a few nanoseconds a read, whether or not anything was streamed */
    atomic_store_explicit(&worker->computing, false, memory_order_relaxed);
    dmc_nvtx_pop();
    finish_guests(worker, &guests);
    finish_task(worker, batch);
}

void dmc_cpu_execute_kept(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, uint32_t read_index)
{
    const struct dmc_plan *plan = &batch->plan;
    const struct dmc_chunk *chunk = &plan->chunks[plan->reads[read_index].chunk_begin];
    const struct dmc_kept *kept = plan->hosts[read_index - plan->guest_begin];
    atomic_store_explicit(&worker->computing, true, memory_order_relaxed);
    /* Where the whole chunk would begin: only an address, as with the spans of raw chunks. */
    scatter_chunk(worker, batch, chunk, (const uint8_t *)((uintptr_t)kept->memory - kept->begin));
    dmc_scatter_streamed_end();
    atomic_store_explicit(&worker->computing, false, memory_order_relaxed);
    dmc_counter_add(&worker->shared, 1, chunk->need_end - chunk->need_begin, 0);
    dmc_counter_add(&worker->assemble, 0, 0, dmc_worker_lap(worker));
    finish_task(worker, batch);
}

void dmc_cpu_execute_fill(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, uint32_t group)
{
    uint32_t begin = batch->plan.absent_begin + group * DMC_FILLS_PER_TASK;
    uint32_t end = (uint32_t)dmc_min_u64((uint64_t)begin + DMC_FILLS_PER_TASK, batch->plan.chunk_count);
    for (uint32_t i = begin; i < end; i++)
        fill_chunk(worker, batch, &batch->plan.chunks[i]);
    finish_task(worker, batch);
}
