/* One worker of the CPU backend: its buffers, its reads in flight, its counters. Private to src/backend/cpu. */
#ifndef DMC_CPU_WORKER_H
#define DMC_CPU_WORKER_H

#include "backend/claim.h"
#include "backend/counter.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/host.h"
#include "base/bytes.h"
#include "base/clock.h"

struct dmc_extent {
    uint64_t begin, end;
};

/* Buffer space for reads, given out at the lowest free place that is long enough and taken back in any order: a read that is
 * late holds its own bytes and no others. Low places first, because warm reads then use the same few pages again and again,
 * which stay in the core's cache.
 *
 *     0                                              bytes
 *     | in use | free[0] | in use | in use | free[1] |  */
struct dmc_read_buffer {
    uint8_t *memory;
    uint64_t bytes;
    struct dmc_extent *free; /* by address; no two touch, so that one more than there may be reads is room enough */
    uint32_t free_count;
    uint32_t outstanding;
};

/* A read in flight. */
struct dmc_read_slot {
    struct dmc_request request;
    struct iovec part;
    struct dmc_backend_batch *batch;
    uint32_t read;
    struct dmc_extent room; /* of the buffer */
    bool shared;            /* counts in its batch's share of this worker */
    struct damacy_error error;
    struct dmc_read_slot *next; /* while it is free */
};

/* A read that is claimed but not under way: there was no room, or it must be started again with a longer buffer. */
struct dmc_waiting_read {
    struct dmc_backend_batch *batch;
    uint32_t read;
    uint64_t bytes;
};

struct dmc_cpu_worker {
    /* constant */
    struct dmc_cpu_backend *backend;
    uint32_t index;
    pthread_t thread;
    clockid_t cpu_clock; /* of the thread's processor time */
    struct dmc_io *io;
    /* the worker's own */
    struct dmc_budget
        share; /* what the next four are drawn from; limit: options.share_bytes, more while oversize_bytes is not 0 */
    struct dmc_codec_context *codec;
    struct dmc_read_buffer buffer;
    uint8_t *decoded; /* one decoded chunk */
    uint64_t decoded_bytes;
    struct dmc_codec_scratch scratch; /* what the codecs may have taken */
    _Atomic uint64_t
        oversize_bytes; /* the token is here, for what exceeds the share by so much; 0: it is not. Read by stats, too */
    struct dmc_read_slot *slots;
    struct dmc_read_slot *slots_free; /* the one that was used last is first, as it is in the cache */
    struct dmc_waiting_read *waiting; /* dmc_cpu_reads + 1: one that found no room, and those that came back too long */
    uint32_t waiting_count;
    bool remote; /* the read started last goes over a network */
    struct dmc_claimant claimant;
    struct damacy_error error;
    struct damacy_error read_error; /* of the read that is being started */
    _Atomic bool computing;         /* for destroy: decoding or assembling, not in a call that may hang */
    uint64_t looked_ns;             /* when it looked at the clock last */
    /* counters */
    struct dmc_counter read, read_wait, decode, shared, assemble, fill, idle;
    _Atomic uint64_t whole_bytes;
};

struct dmc_cpu_backend {
    struct dmc_backend base;
    /* constant */
    struct dmc_cpu_options options;
    struct dmc_backend_hooks hooks;
    struct dmc_cpu_worker *workers;
    uint32_t started; /* workers whose thread runs */
    /* shared by submit and the workers */
    struct dmc_claim_ring ring;
    struct dmc_strays strays;
    _Atomic bool stop;
    struct dmc_mutex token_lock; /* the token for reads that exceed a worker's share: see cpu_memory.c */
    struct dmc_cond token_free;
    bool token_taken DMC_GUARDED_BY(token_lock);
};

/* Slots of a worker. */
static inline uint32_t dmc_cpu_reads(const struct dmc_cpu_options *options)
{
    return (uint32_t)dmc_max_u64(options->remote_reads_in_flight, options->reads_in_flight);
}

/* How long it is since the worker looked at the clock last; it looks. What begins now is measured from here: a look between two
 * stages, not two: a warm read of uncompressed bytes is short enough for looks to be seen in a profile. */
static inline uint64_t dmc_worker_lap(struct dmc_cpu_worker *worker)
{
    uint64_t before_ns = worker->looked_ns;
    worker->looked_ns = dmc_clock_ns();
    return worker->looked_ns - before_ns;
}

void *dmc_cpu_worker_run(void *worker);

/* There is something to start. All are woken: which of them are busy with a long decode cannot be told cheaply. */
void dmc_cpu_wake(struct dmc_cpu_backend *backend);

/* cpu_execute.c: all chunks of a read whose request is done. */
void dmc_cpu_execute_read(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, uint32_t read_index,
                          const struct dmc_request *request, const struct damacy_error *request_error, const uint8_t *data);
/* The chunk of a read from plan.kept_begin on. */
void dmc_cpu_execute_kept(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, uint32_t read_index);
/* A group of absent chunks, counted from plan.absent_begin. */
void dmc_cpu_execute_fill(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, uint32_t group);
/* The samples of a read that never got started. */
void dmc_cpu_execute_failure(struct dmc_cpu_worker *worker, struct dmc_backend_batch *batch, uint32_t read_index,
                             struct damacy_error *error);

/* cpu_memory.c */
enum dmc_space {
    DMC_SPACE_MADE,   /* *room of the buffer is taken, and decoding will find its memory */
    DMC_SPACE_LATER,  /* when what is in flight has finished */
    DMC_SPACE_NEVER,  /* worker->read_error says why */
    DMC_SPACE_STOPPED /* the backend stops */
};
enum dmc_space dmc_worker_make_space(struct dmc_cpu_worker *worker, const struct dmc_backend_batch *batch, uint32_t read_index,
                                     uint64_t bytes, struct dmc_extent *room);
/* The read that exceeded the share is over. */
void dmc_worker_oversize_end(struct dmc_cpu_worker *worker);
void dmc_worker_memory_deinit(struct dmc_cpu_worker *worker);

/* cpu_buffer.c */
/* `reads_max`: outstanding at once. false: no memory. */
bool dmc_read_buffer_init(struct dmc_read_buffer *buffer, uint32_t reads_max);
/* Room for a read of `bytes`. false: none now (or, with nothing outstanding, ever at this size). */
bool dmc_read_buffer_take(struct dmc_read_buffer *buffer, uint64_t bytes, struct dmc_extent *room);
/* What was taken. */
void dmc_read_buffer_give(struct dmc_read_buffer *buffer, struct dmc_extent room);
/* Make the buffer at least `bytes` long; nothing may be outstanding. OK, OOM or BUDGET. */
enum damacy_status dmc_read_buffer_grow(struct dmc_read_buffer *buffer, uint64_t bytes, struct dmc_budget *budget,
                                        struct damacy_error *error);
/* Give its memory back; nothing is in flight. */
void dmc_read_buffer_trim(struct dmc_read_buffer *buffer, struct dmc_budget *budget);
void dmc_read_buffer_deinit(struct dmc_read_buffer *buffer, struct dmc_budget *budget);

#endif
