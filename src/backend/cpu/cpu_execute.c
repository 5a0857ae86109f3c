/* What happens to a read once its bytes are there: decode each chunk, scatter its pieces, tell of failures. */
#include "backend/chunk_check.h"
#include "backend/cpu/assemble.h"
#include "backend/cpu/cpu_worker.h"
#include "backend/piece_fill.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/nvtx.h"

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
    uint64_t begin_ns = dmc_clock_ns();
    uint64_t bytes = fill_pieces(worker, batch, chunk);
    dmc_counter_add(&worker->fill, 1, bytes, dmc_clock_ns() - begin_ns);
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

static void execute_chunk(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, const struct dmc_read *read,
                          const struct dmc_chunk *chunk, const struct dmc_request *request, const uint8_t *data)
{
    const struct dmc_codec_chain *chain = array_of(chunk)->chain;
    uint64_t stored_bytes = dmc_chunk_stored_bytes(read, chunk, request);
    uint64_t begin_ns = dmc_clock_ns();
    const uint8_t *decoded;
    if (worker->backend->options.bypass_decode) { /* counted as assembled: nothing is absent */
        uint64_t bytes = fill_pieces(worker, batch, chunk);
        dmc_counter_add(&worker->assemble, chunk->piece_end - chunk->piece_begin, bytes, dmc_clock_ns() - begin_ns);
        return;
    }
    if (chain->raw) {
        /* The bytes lie where the whole chunk would have them, part_begin bytes in: only an address, never dereferenced before
         * it. */
        decoded = (const uint8_t *)((uintptr_t)data + chunk->stored_offset - chunk->part_begin);
    } else {
        struct dmc_decode decode = {
            .source = data + chunk->stored_offset,
            .source_bytes = stored_bytes,
            .target = worker->decoded, /* dmc_worker_make_space saw to it */
            .chunk_bytes = chunk->chunk_bytes,
            .need_begin = chunk->need_begin,
            .need_end = chunk->need_end,
            .verify_full = worker->backend->options.verify_full,
        };
        if (dmc_codec_decode(chain, worker->codec, &decode, &worker->error) != DAMACY_OK) {
            dmc_chunk_where(batch, read, chunk, stored_bytes, &worker->error);
            fail_chunk(worker, batch, chunk);
            return;
        }
        decoded = worker->decoded;
        uint64_t decoded_ns = dmc_clock_ns();
        dmc_counter_add(&worker->decode, 1, chunk->need_end - chunk->need_begin, decoded_ns - begin_ns);
        begin_ns = decoded_ns;
    }
    scatter_chunk(worker, batch, chunk, decoded);
    dmc_counter_add(&worker->assemble, 0, 0, dmc_clock_ns() - begin_ns);
}

/* One task of the batch is over. */
static void finish_task(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch)
{
    if (atomic_fetch_sub_explicit(&batch->remaining, 1, memory_order_acq_rel) == 1 &&
        !atomic_load_explicit(&worker->backend->stop, memory_order_relaxed))
        worker->backend->hooks.done(worker->backend->hooks.user, batch);
}

void dmc_cpu_execute_failure(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, uint32_t read_index,
                             struct damacy_error *error)
{
    const struct dmc_read *read = &batch->plan.reads[read_index];
    for (uint32_t i = read->chunk_begin; i < read->chunk_end; i++) {
        const struct dmc_chunk *chunk = &batch->plan.chunks[i];
        worker->error = *error;
        dmc_chunk_where(batch, read, chunk, read->whole ? 0 : chunk->stored_bytes, &worker->error);
        fail_chunk(worker, batch, chunk);
    }
    finish_task(worker, batch);
}

void dmc_cpu_execute_read(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, uint32_t read_index,
                          const struct dmc_request *request, const struct damacy_error *request_error, const uint8_t *data)
{
    const struct dmc_read *read = &batch->plan.reads[read_index];
    dmc_nvtx_push("chunks", batch->batch_id);
    atomic_store_explicit(&worker->computing, true, memory_order_relaxed);
    for (uint32_t i = read->chunk_begin; i < read->chunk_end; i++) {
        const struct dmc_chunk *chunk = &batch->plan.chunks[i];
        if (atomic_load_explicit(&worker->backend->stop, memory_order_relaxed))
            break; /* the batch never ends; destroy is waiting */
        switch (dmc_chunk_check(batch, read, chunk, request, request_error, &worker->error)) {
        case DMC_CHUNK_USE:
            execute_chunk(worker, batch, read, chunk, request, data);
            break;
        case DMC_CHUNK_FILL:
            fill_chunk(worker, batch, chunk);
            break;
        case DMC_CHUNK_FAIL:
            fail_chunk(worker, batch, chunk);
            break;
        }
    }
    dmc_scatter_streamed_end(); /* a few nanoseconds a read, whether or not anything was streamed */
    atomic_store_explicit(&worker->computing, false, memory_order_relaxed);
    dmc_nvtx_pop();
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
