/* See chunk_check.h. */
#include "backend/chunk_check.h"
#include "base/bytes.h"
#include "base/error.h"

#include <stdio.h>

static enum dmc_chunk_verdict wrong_size(struct damacy_error *error, const char *what, const char *bound,
                                         uint64_t expected_bytes, const char *unit, uint64_t found_bytes)
{
    char expected[64], found[64];
    snprintf(expected, sizeof expected, "%s%llu%s", bound, (unsigned long long)expected_bytes, unit);
    snprintf(found, sizeof found, "%llu", (unsigned long long)found_bytes);
    dmc_error_set(error, DAMACY_DECODE, "read", "%s", what);
    dmc_error_expected(error, expected, found);
    return DMC_CHUNK_FAIL;
}

/* The request has brought bytes: are those of the chunk among them? */
static enum dmc_chunk_verdict check_bytes(const struct dmc_backend_batch *batch, const struct dmc_read *read,
                                          const struct dmc_chunk *chunk, const struct dmc_request *request,
                                          struct damacy_error *error)
{
    const struct dmc_backend_array *array = chunk->array->user;
    const struct dmc_codec_chain *chain = array->chain;
    uint64_t stored_bytes = dmc_chunk_stored_bytes(read, chunk, request);
    if (chunk->stored_offset + stored_bytes > request->bytes_read) /* it may end before the read begins */
        return wrong_size(error, "the object ends before the chunk does", "",
                          read->offset + chunk->stored_offset + stored_bytes, " bytes",
                          dmc_min_u64(read->offset + request->bytes_read, request->object_bytes));
    bool sharded = batch->plan.objects[read->object].sharded;
    if (chain->raw && !sharded && request->object_bytes != UINT64_MAX && request->object_bytes != chunk->chunk_bytes)
        return wrong_size(error, "an uncompressed chunk has the wrong size", "", chunk->chunk_bytes, " bytes",
                          request->object_bytes);
    return DMC_CHUNK_USE;
}

void dmc_chunk_where(const struct dmc_backend_batch *batch, const struct dmc_read *read, const struct dmc_chunk *chunk,
                     uint64_t stored_bytes, struct damacy_error *error)
{
    const struct dmc_backend_array *array = chunk->array->user;
    uint64_t begin = read->offset + chunk->stored_offset;
    const char *key = batch->objects[read->object].key + array->root_bytes + 1; /* "0/c/1/2" where a group led to "0" */
    dmc_error_where(error, array->uri, key, begin, begin + stored_bytes);
}

enum dmc_chunk_verdict dmc_chunk_check(const struct dmc_backend_batch *batch, const struct dmc_read *read,
                                       const struct dmc_chunk *chunk, const struct dmc_request *request,
                                       const struct damacy_error *request_error, struct damacy_error *error)
{
    enum dmc_chunk_verdict verdict = DMC_CHUNK_FAIL;
    uint64_t whole_bytes = 0; /* how long a whole object is, if known */
    switch (request->outcome) {
    case DMC_OUTCOME_OK:
    case DMC_OUTCOME_TRUNCATED:
        verdict = check_bytes(batch, read, chunk, request, error);
        whole_bytes = request->bytes_read;
        break;
    case DMC_OUTCOME_ABSENT:
        if (!batch->plan.objects[read->object].sharded)
            return DMC_CHUNK_FILL;
        dmc_error_set(error, DAMACY_IO, "read", "the shard was there when its index was read and is gone now");
        dmc_error_hint(error, "the array must not change while it is read");
        break;
    case DMC_OUTCOME_TOO_LONG:
        whole_bytes = request->object_bytes;
        wrong_size(error, "the object is longer than any encoding of its chunk", "at most ", read->length, " bytes",
                   whole_bytes);
        break;
    case DMC_OUTCOME_FAILED:
        *error = *request_error;
        break;
    }
    if (verdict == DMC_CHUNK_FAIL)
        dmc_chunk_where(batch, read, chunk, read->whole ? whole_bytes : chunk->stored_bytes, error);
    return verdict;
}

void dmc_chunk_fail(const struct dmc_backend_hooks *hooks, struct dmc_backend_batch *batch, const struct dmc_chunk *chunk,
                    const struct damacy_error *error)
{
    const struct dmc_piece *pieces = batch->plan.pieces;
    for (uint32_t i = chunk->piece_begin; i < chunk->piece_end;) {
        const struct dmc_piece *piece = &pieces[i];
        uint64_t order = UINT64_MAX;
        for (; i < chunk->piece_end && pieces[i].row == piece->row && pieces[i].field == piece->field; i++)
            order = dmc_min_u64(order, pieces[i].target_offset);
        hooks->fail(hooks->user, batch, piece->row, piece->field, order, error);
    }
}

uint64_t dmc_read_first_guess(const struct dmc_backend_batch *batch, const struct dmc_read *read)
{
    if (!read->whole)
        return read->length;
    const struct dmc_backend_array *array = batch->plan.chunks[read->chunk_begin].array->user;
    uint64_t array_bytes = array->chain->array_bytes;
    uint64_t likely = array_bytes > UINT64_MAX / 2 ? array_bytes : array_bytes + array_bytes / 64 + 4096;
    return dmc_min_u64(likely, read->length);
}
