/* The CPU backend: worker threads that execute plans. A chunk goes from read to assemble on one worker, while it is in that
 * core's cache; there is no queue between the stages and no central I/O thread.
 *
 *     submit --> ring of batches --claim (one atomic add)--> worker: start read --+-- done at once --> decode --> assemble
 *                                                                                 +-- would block --> in flight --> (later) --^
 *
 * A worker claims tasks oldest batch first, keeps up to `reads_in_flight` reads outstanding, across batches, and always decodes
 * finished reads before it starts new ones; over a network it starts first, up to its part of each batch (claim.h). It never
 * waits for a batch to end. The last task of a batch calls hooks->done.
 *
 * Measured (random 57 KB reads plus conversion, 2 cores, wall time a read, warm / cold, microseconds): this way 10.6 / 37; one
 * shared ring thread 16.4 / 72; blocking pread in the workers 10.6 / 87. */
#ifndef DMC_CPU_BACKEND_H
#define DMC_CPU_BACKEND_H

#include "backend/backend.h"

struct dmc_cpu_options {
    uint32_t worker_count;
    uint32_t batches_max;            /* most batches submitted and not done */
    uint32_t reads_in_flight;        /* per worker */
    uint32_t remote_reads_in_flight; /* the same while it reads over a network, whose latency wants more; less than
                                        reads_in_flight: that */
    uint64_t worker_bytes;           /* of reads in flight per worker */
    uint64_t
        share_bytes; /* of everything a worker may hold: reads in flight, a decoded chunk, scratch; at least worker_bytes */
    uint64_t oversize_bytes; /* beyond its share, of one worker at a time */
    bool verify_full;
    bool bypass_decode; /* chunks that were read are not decoded: their pieces get the fill value */
    bool io_uring_never;
};

/* Bytes of the workers' fixed tables, without what share_bytes bounds. */
uint64_t dmc_cpu_memory(const struct dmc_cpu_options *options);

/* The longest read of several chunks of one chain that a worker holds within its share, beside what decoding takes. */
uint64_t dmc_cpu_read_bytes_max(uint64_t share_bytes, const struct dmc_codec_chain *chain);

/* Start the workers. The shares, oversize_bytes and the tables are the caller's to set aside. */
enum damacy_status dmc_cpu_create(const struct dmc_cpu_options *options, const struct dmc_backend_hooks *hooks,
                                  struct dmc_backend **backend, struct damacy_error *error);

#endif
