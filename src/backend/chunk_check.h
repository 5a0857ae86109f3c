/* What becomes of a chunk when its read is done, and who is told when it is bad. The same for every backend, to the letter of
 * the message. */
#ifndef DMC_CHUNK_CHECK_H
#define DMC_CHUNK_CHECK_H

#include "backend/backend.h"

enum dmc_chunk_verdict {
    DMC_CHUNK_USE,  /* its bytes are there */
    DMC_CHUNK_FILL, /* its object is absent: the fill value */
    DMC_CHUNK_FAIL, /* `error` says why and where */
};

/* request_error  what the request's `error` points to.
 * error          out, for FAIL. */
enum dmc_chunk_verdict dmc_chunk_check(const struct dmc_backend_batch *batch, const struct dmc_read *read,
                                       const struct dmc_chunk *chunk, const struct dmc_request *request,
                                       const struct damacy_error *request_error, struct damacy_error *error);

/* Bytes of the chunk in the read. */
static inline uint64_t dmc_chunk_stored_bytes(const struct dmc_read *read, const struct dmc_chunk *chunk,
                                              const struct dmc_request *request)
{
    return read->whole ? request->bytes_read : chunk->stored_bytes;
}

/* Put the chunk's place in front of `error`. */
void dmc_chunk_where(const struct dmc_backend_batch *batch, const struct dmc_read *read, const struct dmc_chunk *chunk,
                     uint64_t stored_bytes, struct damacy_error *error);

/* Tell the owner of the batch, once a row and field: pieces of a chunk are sorted by (row, field). The order of a failure is
 * where in the field's tensor the chunk begins to be missed, which no two chunks of a row share, nor two spans of one chunk. */
void dmc_chunk_fail(const struct dmc_backend_hooks *hooks, struct dmc_backend_batch *batch, const struct dmc_chunk *chunk,
                    const struct damacy_error *error);

/* How many bytes to ask room for. A whole object is first tried with what nearly every encoder stays within; the store's answer
 * tells the size when that was too little. */
uint64_t dmc_read_first_guess(const struct dmc_backend_batch *batch, const struct dmc_read *read);

#endif
