/* Memory for deflated entries, bounded, shared by all zip files of a pipeline.
 *
 * A read that wants all of an entry has it inflated straight into its own buffer; this is how chunks and metadata are read.
 * Only what is wanted in parts (a shard, an index at its end) is inflated into a cell and kept for the next read, least
 * recently used first out. Who finds an entry being inflated by another waits for it.
 *
 *     no cell --begin: JOB--> FILLING --end--> READY, pinned while copied from --evicted--> no cell
 *                                \--end, failed--> no cell, those who waited try for themselves
 *
 * All memory of a job (stored bytes, and the cell) is taken at its beginning, so no job waits for another; who finds too little
 * waits with nothing in his hands. What exceeds the bound by itself is an error. */
#ifndef DMC_INFLATED_H
#define DMC_INFLATED_H

#include "store/inflate.h"
#include "store/store.h"

struct dmc_inflated;

struct dmc_inflated_cell {
    unsigned char *data;
    uint64_t bytes;
    /* under the lock */
    struct dmc_inflated_cell **place; /* who points here */
    struct dmc_inflated_cell *newer, *older;
    struct dmc_request *waiters;
    uint32_t pins;
    bool ready;
};

struct dmc_inflate_job {
    struct dmc_inflate_job *next;
    struct dmc_inflater *inflater;
    unsigned char *stored; /* room for the stored bytes */
    uint64_t stored_capacity;
    struct dmc_inflated_cell *cell; /* to inflate into; NULL: the request's own buffer */
    const void *entry;              /* the caller's */
};

enum damacy_status dmc_inflated_create(uint64_t bytes_max, struct dmc_inflated **inflated, struct damacy_error *error);
/* A job that never ended, because its read did not, is left behind with its memory. */
void dmc_inflated_destroy(struct dmc_inflated *inflated);

enum dmc_inflated_outcome {
    DMC_INFLATED_READY, /* *cell is pinned: copy, then unpin */
    DMC_INFLATED_JOB,   /* *job is the caller's until dmc_inflated_end */
    DMC_INFLATED_WAIT,  /* dmc_io_resume() will be called: try again then */
    DMC_INFLATED_FAILED /* the answer of the request says why */
};
/* `place` is where the entry keeps its cell; `direct` asks for a job without one. */
enum dmc_inflated_outcome dmc_inflated_begin(struct dmc_inflated *inflated, struct dmc_inflated_cell **place,
                                             uint64_t stored_bytes, uint64_t object_bytes, bool direct,
                                             struct dmc_request *request, struct dmc_inflated_cell **cell,
                                             struct dmc_inflate_job **job);
/* The job is over. keep: its cell is READY, and pinned for the caller. */
void dmc_inflated_end(struct dmc_inflated *inflated, struct dmc_inflate_job *job, bool keep);
void dmc_inflated_unpin(struct dmc_inflated *inflated, struct dmc_inflated_cell *cell);
/* true: it was still waiting and is the caller's again. */
bool dmc_inflated_stop_waiting(struct dmc_inflated *inflated, struct dmc_inflated_cell **place, struct dmc_request *request);

#endif
