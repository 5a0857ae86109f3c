/* What a worker's memory is, and how a chunk that is larger than its share gets read all the same.
 *
 * Each worker owns a share of the host budget, set aside at create: its read buffer, one decoded chunk and the codecs' scratch
 * are drawn from it, so that what one worker can hold never depends on what the others do. Room for a read is made before it
 * starts: then nothing can fail for want of memory while others are in flight.
 *
 * - What fits as it is starts. Decoding memory that is too small grows beside the reads in flight, if there is room for it.
 * - Else the reads in flight finish; then all grows, keeping what fits, or from nothing.
 * - What is larger than the share waits for the backend's one token, is read alone with options.oversize_bytes more, and gives
 *   all back.
 *
 * Chunks that are read together always fit the share: plans see to it (dmc_cpu_read_bytes_max). So the chunks that fail for
 * BUDGET are those that do not fit alone, at any number of workers, whatever else is read. */
#include "backend/cpu/cpu_worker.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"

#define PAGE 4096u

/* What must be there at once for one read. */
struct need {
    uint64_t read, decoded;
    struct dmc_codec_scratch scratch; /* by parts: chains that differ take different parts of one context */
};

/* What it takes to decode a chunk of the chain. */
static void need_chain(struct need *need, const struct dmc_codec_chain *chain)
{
    if (chain->raw)
        return;
    need->decoded = dmc_max_u64(need->decoded, dmc_round_up(chain->chunk_bytes, PAGE));
    dmc_codec_scratch_raise(&need->scratch, &chain->scratch);
}

static struct need need_of(const struct dmc_backend_batch *batch, const struct dmc_read *read, uint64_t bytes)
{
    struct need need = {.read = dmc_round_up(bytes ? bytes : 1, PAGE)};
    for (uint32_t i = read->chunk_begin; i < read->chunk_end; i++) {
        const struct dmc_backend_array *array = batch->plan.chunks[i].array->user;
        need_chain(&need, array->chain);
    }
    return need;
}

static uint64_t sum_of(const struct need *need)
{
    uint64_t sum = dmc_codec_scratch_sum(&need->scratch);
    return dmc_add_u64(sum, need->read, &sum) && dmc_add_u64(sum, need->decoded, &sum) ? sum : UINT64_MAX;
}

uint64_t dmc_cpu_read_bytes_max(uint64_t share_bytes, const struct dmc_codec_chain *chain)
{
    struct need need = {0};
    need_chain(&need, chain);
    uint64_t decoding = sum_of(&need);
    return decoding < share_bytes ? (share_bytes - decoding) / PAGE * PAGE : 0;
}

static void drop_decoded(struct dmc_cpu_worker *worker)
{
    if (worker->decoded)
        dmc_pages_unmap(worker->decoded, worker->decoded_bytes);
    dmc_budget_unreserve(&worker->share, worker->decoded_bytes);
    worker->decoded = NULL;
    worker->decoded_bytes = 0;
}

/* Give everything back; nothing is in flight. */
static void trim(struct dmc_cpu_worker *worker)
{
    dmc_read_buffer_trim(&worker->buffer, &worker->share);
    drop_decoded(worker);
    dmc_codec_context_destroy(worker->codec);
    worker->codec = NULL;
    worker->scratch = (struct dmc_codec_scratch){{0}};
}

static enum damacy_status grow(struct dmc_cpu_worker *worker, const struct need *need)
{
    struct damacy_error *error = &worker->read_error;
    enum damacy_status status = DAMACY_OK;
    if (!worker->codec)
        status = dmc_codec_context_create(&worker->share, &worker->codec, error);
    if (status == DAMACY_OK)
        status = dmc_read_buffer_grow(&worker->buffer, need->read, &worker->share, error);
    if (status == DAMACY_OK && need->decoded > worker->decoded_bytes) {
        drop_decoded(worker);
        if (!dmc_budget_reserve(&worker->share, need->decoded))
            return dmc_error_set(error, DAMACY_INTERNAL, "read", "a worker's share was exceeded");
        worker->decoded = dmc_pages_map(need->decoded);
        if (!worker->decoded) {
            dmc_budget_unreserve(&worker->share, need->decoded);
            return dmc_error_set(error, DAMACY_OOM, "decode", "no memory for a decoded chunk of %llu bytes",
                                 (unsigned long long)need->decoded);
        }
        worker->decoded_bytes = need->decoded;
    }
    dmc_codec_scratch_raise(&worker->scratch, &need->scratch);
    return status;
}

/* Wait for the token. false: the backend stops. */
static bool take_token(struct dmc_cpu_backend *backend)
{
    dmc_mutex_lock(&backend->token_lock);
    while (backend->token_taken && !atomic_load_explicit(&backend->stop, memory_order_relaxed))
        dmc_cond_wait(&backend->token_free, &backend->token_lock);
    bool taken = !backend->token_taken;
    backend->token_taken |= taken;
    dmc_mutex_unlock(&backend->token_lock);
    return taken;
}

static void give_token(struct dmc_cpu_backend *backend)
{
    dmc_mutex_lock(&backend->token_lock);
    backend->token_taken = false;
    dmc_cond_signal(&backend->token_free);
    dmc_mutex_unlock(&backend->token_lock);
}

void dmc_worker_oversize_end(struct dmc_cpu_worker *worker)
{
    trim(worker);
    worker->share.limit_bytes -= worker->oversize_bytes;
    worker->oversize_bytes = 0;
    give_token(worker->backend);
}

static enum dmc_space make_oversize_space(struct dmc_cpu_worker *worker, const struct need *need)
{
    struct dmc_cpu_backend *backend = worker->backend;
    uint64_t excess = sum_of(need) - worker->share.limit_bytes;
    if (excess > backend->options.oversize_bytes) {
        dmc_error_set(&worker->read_error, DAMACY_BUDGET, "read",
                      "a read of %llu bytes with a decoded chunk of %llu and %llu of scratch exceeds the %llu bytes that "
                      "max_host_memory_bytes leaves for one",
                      (unsigned long long)need->read, (unsigned long long)need->decoded,
                      (unsigned long long)dmc_codec_scratch_sum(&need->scratch),
                      (unsigned long long)(worker->share.limit_bytes + backend->options.oversize_bytes));
        dmc_error_hint(&worker->read_error, "raise max_host_memory_bytes, or lower batch_slots or worker_count");
        return DMC_SPACE_NEVER;
    }
    bool taken = take_token(backend);
    dmc_worker_lap(worker); /* waiting for others is not reading */
    if (!taken)
        return DMC_SPACE_STOPPED;
    worker->oversize_bytes = excess;
    worker->share.limit_bytes += excess;
    trim(worker);
    if (grow(worker, need) == DAMACY_OK)
        return DMC_SPACE_MADE;
    dmc_worker_oversize_end(worker);
    return DMC_SPACE_NEVER;
}

/* More memory to decode with, while reads are in flight: none of them is being decoded. What they count on stays until the new
 * is there. false: not beside that. */
static bool widen(struct dmc_cpu_worker *worker, const struct need *need)
{
    struct need all = {worker->buffer.bytes, worker->decoded_bytes, worker->scratch};
    dmc_codec_scratch_raise(&all.scratch, &need->scratch);
    uint64_t more = need->decoded > worker->decoded_bytes ? need->decoded : 0, sum;
    if (!dmc_add_u64(sum_of(&all), more, &sum) || sum > worker->share.limit_bytes)
        return false;
    if (more) {
        if (!dmc_budget_reserve(&worker->share, more))
            return false;
        uint8_t *decoded = dmc_pages_map(more);
        if (!decoded) {
            dmc_budget_unreserve(&worker->share, more);
            return false;
        }
        drop_decoded(worker);
        worker->decoded = decoded;
        worker->decoded_bytes = more;
    }
    worker->scratch = all.scratch;
    return true;
}

enum dmc_space dmc_worker_make_space(struct dmc_cpu_worker *worker, const struct dmc_backend_batch *batch, uint32_t read_index,
                                     uint64_t bytes, struct dmc_extent *room)
{
    const struct need need = need_of(batch, &batch->plan.reads[read_index], bytes);
    bool decodes =
        worker->codec && need.decoded <= worker->decoded_bytes && dmc_codec_scratch_within(&need.scratch, &worker->scratch);
    if (!decodes && worker->buffer.outstanding)
        decodes = widen(worker, &need);
    if (decodes && dmc_read_buffer_take(&worker->buffer, bytes, room))
        return DMC_SPACE_MADE;
    if (worker->buffer.outstanding)
        return DMC_SPACE_LATER;
    /* Room for several reads at once is kept if that fits beside the rest. */
    uint64_t usual =
        dmc_max_u64(dmc_max_u64(need.read, worker->buffer.bytes), dmc_round_up(worker->backend->options.worker_bytes, PAGE));
    struct need all = {usual, dmc_max_u64(need.decoded, worker->decoded_bytes), worker->scratch};
    dmc_codec_scratch_raise(&all.scratch, &need.scratch);
    enum dmc_space space = DMC_SPACE_MADE;
    if (sum_of(&all) <= worker->share.limit_bytes) {
        if (grow(worker, &all) != DAMACY_OK)
            space = DMC_SPACE_NEVER;
    } else if (sum_of(&need) <= worker->share.limit_bytes) {
        trim(worker);
        if (grow(worker, &need) != DAMACY_OK)
            space = DMC_SPACE_NEVER;
    } else {
        space = make_oversize_space(worker, &need);
    }
    if (space == DMC_SPACE_MADE)
        dmc_read_buffer_take(&worker->buffer, bytes, room);
    return space;
}

void dmc_worker_memory_deinit(struct dmc_cpu_worker *worker)
{
    if (worker->oversize_bytes) /* stopped in the middle of it */
        dmc_worker_oversize_end(worker);
    trim(worker);
    dmc_read_buffer_deinit(&worker->buffer, &worker->share);
}
