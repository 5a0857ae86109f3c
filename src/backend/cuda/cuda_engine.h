/* The inside of the CUDA backend: what readers and submitter share. Private to src/backend/cuda. */
#ifndef DMC_CUDA_ENGINE_H
#define DMC_CUDA_ENGINE_H

#include "backend/claim.h"
#include "backend/counter.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/cuda_placement.h"
#include "backend/cuda/decode_gap.h"
#include "base/thread.h"

/* A claimed task on its way into a wave: a read, or a group of absent chunks. */
struct dmc_cuda_job {
    struct dmc_backend_batch *batch;
    uint32_t read; /* DMC_WAVE_READ_NONE: absent chunks */
    bool cpu;      /* decode on the CPU, whatever the array: the device could not */
    bool cores;    /* decode on the CPU: placement says so */
    bool shared;   /* its request counts in its batch's share of this reader */
    uint32_t chunk, chunk_end;
    uint32_t piece;      /* of the chunk: pieces before it are in waves */
    uint32_t full_count; /* how often the decoder found its table full for this chunk */
    struct dmc_request request;
    struct iovec part; /* the store changes it */
    uint8_t *data;     /* the read's bytes: in `memory`, or in a wave */
    uint8_t *memory;   /* kept for the next read */
    uint64_t memory_bytes;
    bool landed;                                /* the bytes go, or went, into a wave: there, from.. to.. is reserved */
    struct dmc_wave_place landing, landing_end; /* of what is not used yet */
    struct damacy_error error;                  /* of the request */
};

/* A read that is claimed but not under way: there was no memory, or it must be started again with a longer buffer. */
struct dmc_cuda_held {
    struct dmc_backend_batch *batch;
    uint32_t read;
    uint32_t chunk_begin, chunk_end; /* of the read's */
    bool cpu;
    bool aside; /* not straight into a wave */
    uint64_t bytes;
    bool cores; /* as in the job */
    bool host;  /* not by the device itself: that was tried */
};

#define DMC_CUDA_REFUSALS 16u

struct dmc_cuda_reader {
    /* constant */
    struct dmc_cuda_engine *engine;
    uint32_t index;
    pthread_t thread;
    struct dmc_io *io;
    /* the reader's own */
    struct dmc_codec_context *codec;
    struct dmc_cuda_job *jobs; /* ring_of() of them */
    uint32_t *idle;            /* a stack: the job used last has the warmest memory */
    uint32_t idle_count;
    uint32_t *parked; /* a FIFO: jobs whose bytes are there but that found no room in a wave */
    uint32_t parked_begin, parked_count;
    uint32_t reading;           /* jobs with a request pending */
    struct dmc_cuda_held *held; /* ring_of() + 1 */
    uint32_t held_count;
    uint64_t memory_bytes; /* of all jobs */
    bool remote;           /* the read started last goes over a network */
    const struct dmc_codec_chain *refused[DMC_CUDA_REFUSALS], *direct_refused[DMC_CUDA_REFUSALS];
    struct dmc_claimant claimant;
    struct damacy_error error;
    /* shared_ : engine->lock */
    bool wants_room;
    _Atomic bool computing; /* for destroy: decoding, not in a call that may hang */
    /* counters */
    struct dmc_counter read, read_wait, decode, fill, idle_time, bind_wait;
    struct dmc_counter direct_read, direct_fallback;
    struct dmc_placement_waits waits; /* all of them, for placement */
    _Atomic uint64_t whole_bytes;
};

/* A chunk to be read again and decoded by the CPU. */
struct dmc_cuda_retry {
    struct dmc_backend_batch *batch;
    uint32_t read;
    uint32_t chunk;
};

struct dmc_cuda_engine {
    struct dmc_backend base;
    /* constant */
    struct dmc_cuda_options options;
    struct dmc_backend_hooks hooks;
    struct dmc_budget *budget;
    struct dmc_cuda_device *device;
    struct dmc_cuda_reader *readers;
    uint32_t started; /* readers whose thread runs */
    pthread_t submitter;
    bool submitter_started;
    struct dmc_wave *waves;
    struct dmc_placement placement; /* atomics, and what is the submitter's */
    /* shared by submit and the readers */
    struct dmc_claim_ring ring;
    _Atomic bool stop;
    /* shared_ : lock */
    struct dmc_mutex lock;
    /* For the submitter: a wave is full, its last writer is gone, all readers idle, something is fenced, stop. */
    struct dmc_cond changed;
    struct dmc_wave *filling;
    uint32_t idle_readers;
    struct dmc_cuda_retry *retries; /* a stack that grows */
    uint32_t retry_count, retry_capacity;
    struct {
        struct dmc_backend_memory *memory;
        void *cookie;
    } * fenced; /* batches_max of them */
    uint32_t fenced_count;
    bool broken;
    /* for the rows of finished batches; rows_lock, under which the driver is called */
    struct dmc_mutex rows_lock;
    dmc_cu_stream rows;
    /* the submitter's counters */
    struct dmc_decode_gap gap;
    struct dmc_counter transfer, device_decode, device_assemble, retry, post_decode;
    struct dmc_counter decode_gap;          /* what `gap` has come to */
    _Atomic uint64_t device_decode_busy_ns; /* the same */
};

void *dmc_cuda_reader_run(void *reader);
enum damacy_status dmc_cuda_reader_init(struct dmc_cuda_reader *reader, struct dmc_cuda_engine *engine, uint32_t index,
                                        struct damacy_error *error);
void dmc_cuda_reader_deinit(struct dmc_cuda_reader *reader);

/* A task, or a part of one, is over. */
void dmc_cuda_finish(struct dmc_cuda_engine *engine, struct dmc_backend_batch *batch);

#endif
