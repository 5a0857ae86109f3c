/* The orchestrator's own header: what lifecycle, push, scheduler, batch_plan, pop, batch and stats share.
 *
 *     push.c           samples into the ring                          (any thread, lock)
 *     scheduler.c      the gate, plan_reserve / run / commit          (prefetcher's thread, a step at a time)
 *     batch_plan.c     plan_run: resolved samples -> plan             (the same, without the lock)
 *     kept_chunks.c    decoded chunks for batches without a slot      (the same)
 *     write_choice.c   around the cache or into it, by trying         (the same)
 *     batch.c          a batch's buffer, rows and references          (see the struct)
 *     pop.c            ready batches out, in order; wait              (any thread, lock)
 *
 * A batch slot goes round:
 *
 *     FREE --plan_reserve--> PLANNING --plan_commit--> RUNNING --last task--> READY --pop--> HELD --last reference--> FREE
 *               \______ plan_commit gives back when memory is short and something is in flight _____/
 *
 * A slot has a batch buffer from the first piece that is written (in a batch without any: from its end) until it is free again.
 * Buffers without a slot are on a stack: the one released last, which is the likeliest to be in a cache, goes to the batch that
 * is the next to have something to write. There are as many as slots, so there is one for whoever asks; where the caller keeps
 * up, few of them are in use.
 *
 *     slot      FREE, PLANNING     RUNNING                      READY, HELD, FENCED     FREE
 *     buffer    on the stack       -> hooks->bind (once)        the slot's              -> on top of the stack
 *
 * A backend that does not bind (CUDA) has the buffer from submit on. On a CUDA device a slot is FENCED between HELD and FREE
 * while the consumer's work on the device still uses its buffer.
 *
 * Lock order: home->lock only; nothing else is taken under it but the wake-ups of prefetcher and workers, which are leaves. */
#ifndef DMC_PIPELINE_H
#define DMC_PIPELINE_H

#include "backend/backend.h"
#include "base/arena.h"
#include "base/thread.h"
#include "damacy/damacy.h"
#include "pipeline/kept_chunks.h"
#include "pipeline/write_choice.h"
#include "plan/host_table.h"
#include "prefetch/prefetcher.h"

/* What batches and the pipeline share, so that a batch may outlive its pipeline. Counted: the pipeline, and each batch. */
struct dmc_home {
    /* constant */
    uint64_t fork_generation;
    uint32_t field_count;
    uint32_t samples_per_batch;
    struct damacy_field *fields;    /* deep copy */
    enum damacy_device_type device; /* set once the backend is there */
    int32_t device_ordinal;
    /* shared */
    _Atomic uint32_t references;
    struct dmc_mutex lock;                        /* the pipeline's lock */
    struct damacy *pipeline DMC_GUARDED_BY(lock); /* NULL once destroyed */
};
struct dmc_home *dmc_home_create(const struct damacy_config *config);
void dmc_home_retain(struct dmc_home *home);
void dmc_home_release(struct dmc_home *home);

/* What a bad row is filled with (DAMACY_FILL). */
struct dmc_row_fill {
    uint8_t elements[16];    /* one, or the two parts of a complex number */
    enum damacy_dtype dtype; /* NATIVE: nothing is known, zeros */
    uint32_t count;
};

/* A row as pushed, and how it went. */
struct dmc_row_state {
    uint64_t ordinal;
    uint64_t tag;
    enum damacy_status status;  /* this and the next: lock while RUNNING; the batch's own afterwards */
    struct damacy_error *error; /* owned; NULL although the row is bad: there was no memory for it */
    uint32_t error_field;       /* where the error came from: the least (field, order) wins, whatever the timing */
    uint64_t error_order;
};

/* A batch's lasting part: rows, and the buffer while it has one. Owned by the pipeline until popped; then by the references:
 * the caller's (until release) and one for each exported tensor. At zero it goes home, or is freed if there is no home any
 * more. */
struct damacy_batch {
    /* constant */
    struct dmc_home *home;
    uint32_t slot;
    /* pipeline's until popped, then constant until it goes home */
    struct dmc_backend_memory memory; /* all tensors, each 64-byte aligned; on the backend's device. ops NULL: there is none.
                                         While RUNNING and before: lock */
    uint64_t batch_id;
    uint32_t row_count;
    uint32_t skipped_count;
    struct damacy_tensor_info *tensors; /* field_count */
    struct damacy_row *rows;            /* samples_per_batch: rows, then skipped ones from the end */
    struct dmc_row_state *states;       /* by row as pushed */
    struct dmc_row_fill *fills;         /* samples_per_batch * field_count */
    uint32_t pushed_count;              /* rows as pushed */
    /* shared */
    _Atomic uint32_t references;
    _Atomic uint64_t stream; /* on which the caller uses it; 1: the legacy default stream */
};

enum dmc_slot_state { DMC_SLOT_FREE, DMC_SLOT_PLANNING, DMC_SLOT_RUNNING, DMC_SLOT_READY, DMC_SLOT_HELD, DMC_SLOT_FENCED };

struct dmc_batch_slot {
    enum dmc_slot_state state;  /* lock */
    struct damacy_batch *batch; /* constant; freed by its last reference if that is after destroy */
    struct dmc_budget plan_budget;
    /* the planner's while PLANNING, constant while RUNNING */
    struct dmc_arena arena;
    struct dmc_backend_batch run;
    struct dmc_host_table hosts; /* which of run.hosts is which chunk; the planner's, also while RUNNING */
    struct dmc_array **arrays;   /* retained for the run; in the arena */
    uint32_t array_count;
    uint64_t planned_ns;
    uint64_t range; /* of NVTX, from then until it is ready */
};

/* A closed batch that is not planned yet. */
struct dmc_closed_batch {
    uint64_t first_ordinal;
    uint32_t count;
};

/* How max_host_memory_bytes is divided (config.c). */
struct dmc_config_layout {
    uint64_t batch_bytes; /* of one batch buffer */
    uint64_t fixed_bytes; /* all that create commits */
    uint64_t lookahead_bytes;
    uint64_t prefetcher_bytes;
    uint64_t share_bytes;     /* CPU: what one worker may hold; worker_bytes of it are in fixed_bytes */
    uint64_t oversize_bytes;  /* CPU: for the one chunk at a time that exceeds a share */
    uint64_t pinned_bytes;    /* CUDA: most host memory that waves may pin */
    uint64_t plan_bytes;      /* of one batch's plan */
    uint64_t metadata_bytes;  /* metadata being read; prefetcher_bytes is in it */
    uint64_t parse_bytes;     /* metadata being parsed */
    uint64_t kept_bytes;      /* CPU: decoded chunks that are kept for later batches */
    uint64_t container_bytes; /* tables of zip and reference files, inflated entries */
    uint64_t network_bytes;   /* libcurl's buffers and connections, versions of objects, the disk cache's queue */
    uint64_t reserve_bytes;   /* kept for plans and metadata in transit */
    uint64_t limit_bytes;
    uint64_t default_limit_bytes;
    uint32_t batch_slots_least; /* CUDA may go down to these where device memory is short; 0: the caller chose */
    bool gap_open;              /* coalesce_gap_bytes is the default, which is for files: what a store advises goes before it */
    bool read_max_open;         /* likewise coalesce_read_bytes_max */
};

struct damacy {
    /* constant */
    struct dmc_home *home;
    struct damacy_config config; /* fields point into home; tuning complete */
    uint32_t *ranks;
    const int64_t **sample_shapes;
    uint64_t *tensor_offsets; /* per field, in a batch's memory */
    struct dmc_config_layout layout;
    struct dmc_budget budget; /* of what is allocated at create, and on CUDA of what readers and waves hold */
    struct dmc_budget metadata_budget;
    struct dmc_stores *stores;
    struct dmc_prefetcher *prefetcher;
    struct dmc_backend *backend;
    /* the planner's: one at a time, see `planning` */
    enum damacy_dtype *native;           /* per field: what NATIVE turned out to be; NATIVE until then */
    struct dmc_kept_chunks *kept_chunks; /* NULL: none are kept */
    struct damacy_metric decode_before;  /* what had been decoded when it was last looked at how fast that goes */
    bool decode_slow;                    /* so slow that decoding a chunk takes longer than to write it and read it again */
    struct dmc_write_choice write_choice;
    /* shared_ : home->lock */
    struct dmc_cond changed; /* a batch is ready, room in the lookahead, everything held, shutdown, the last caller left */
    struct dmc_lookahead lookahead;
    struct dmc_batch_slot *slots;
    struct dmc_backend_memory *free_memory; /* of no slot, the one released last on top; batch_slots at most */
    uint32_t free_memory_count;
    uint32_t *in_order;              /* ring of batch_slots: slot of batch_id, for planned and not popped batches */
    struct dmc_closed_batch *closed; /* ring of lookahead.capacity, by batch_id */
    uint64_t closed_count;           /* batches closed: also the batch_id of the open one */
    uint64_t planned_count;          /* batches planned: the watermark */
    uint64_t previewed_count;        /* of batches before this one, those that were not planned then are announced */
    uint32_t usual_reads;            /* of the batch that was planned last */
    uint64_t popped_count;
    uint64_t open_first; /* ordinal of the open batch's first sample */
    uint32_t open_count;
    bool flushed;        /* a flush came after the last push */
    uint32_t held_count; /* slots HELD */
    uint32_t ready_count;
    uint32_t running_count; /* slots RUNNING */
    uint32_t inside;        /* calls that are using this pipeline */
    uint32_t push_waiters;  /* of them: those that wait for room in the lookahead */
    bool planning;
    bool shutting_down;
    bool broken; /* the device is lost: pop says broken_error */
    struct damacy_error broken_error;
    bool arena_short;            /* the last plan was given back for want of memory: wait until a batch is done */
    uint64_t slot_wait_begin_ns; /* a batch could be planned but no slot is free, since; 0: not so */
    uint64_t starve_begin_ns;    /* nothing to plan because nothing is pushed, since; 0: not so */
    /* shared_ : counters */
    struct damacy_stats totals;         /* those counted by the pipeline itself, since create */
    struct damacy_stats base;           /* everything at the last reset */
    uint64_t starve_ns, starve_base_ns; /* time with nothing pushed; the same at the last reset */
};

/* Tests and measurements may replace parts. Zeroed: nothing special. */
struct dmc_pipeline_extras {
    struct dmc_store *file_store;   /* instead of the real one; not owned */
    struct dmc_store *memory_store; /* for memory:// uris; not owned */
    const void *cuda_driver;        /* struct dmc_cuda_driver instead of the machine's, with its module; not owned */
    const void *cuda_image;
    const void *cuda_nvcomp; /* struct dmc_cuda_nvcomp; NULL with a driver of one's own: none */
    const void *cuda_cufile; /* struct dmc_cufile_library instead of the machine's; not owned */
    const char *sysfs;       /* the files of another machine instead of /sys, for its NUMA nodes */
    bool want_layout;
    bool streamed;   /* write batches around the cache, however small */
    bool try_writes; /* try both ways of writing, however small, with windows as short as can be */
};
DAMACY_API enum damacy_status dmc_pipeline_create(const struct damacy_config *config, const struct dmc_pipeline_extras *extras,
                                                  struct damacy **pipeline, struct damacy_error *error);

/* lifecycle.c: a call begins: not forked, not shutting down. With OK the lock is held and dmc_pipeline_leave() must follow. */
enum damacy_status dmc_pipeline_enter(struct damacy *pipeline, struct damacy_error *error) DMC_NO_TSA;
void dmc_pipeline_leave(struct damacy *pipeline) DMC_NO_TSA;
/* The same, and wake the prefetcher: without the lock, into which it would run at once. */
void dmc_pipeline_leave_and_wake(struct damacy *pipeline) DMC_NO_TSA;
/* The same for who is inside, but without the lock. */
void dmc_pipeline_wake_and_leave(struct damacy *pipeline) DMC_NO_TSA;
/* clang cannot follow a lock that is taken on success only: this tells it, and does nothing. */
static inline void dmc_pipeline_entered(const struct damacy *pipeline) DMC_ASSERTS(pipeline->home->lock);
static inline void dmc_pipeline_entered(const struct damacy *pipeline)
{
    (void)pipeline;
}

/* create_cuda.c */
enum damacy_status dmc_pipeline_create_cuda(struct damacy *pipeline, const struct dmc_pipeline_extras *extras,
                                            struct damacy_error *error);
/* lifecycle.c: go to the node that the configuration wants, before threads and memory of a backend are made; dmc_numa_leave()
 * goes back. `node`: the device's, or -1. Returns how many workers to start: where the default is one per core, one per core
 * of the node. */
struct dmc_numa_place;
uint32_t dmc_pipeline_numa_enter(const struct damacy *pipeline, const struct dmc_pipeline_extras *extras, int node,
                                 struct dmc_numa_place *place);

enum damacy_device_type dmc_config_device(enum damacy_device_type wanted); /* AUTO becomes one of the others */

/* config.c: check, and complete what is 0. `complete` borrows the fields. */
enum damacy_status dmc_config_complete(const struct damacy_config *config, struct damacy_config *complete,
                                       struct dmc_config_layout *layout, struct damacy_error *error);
uint64_t dmc_config_row_bytes(const struct damacy_field *field);
uint64_t dmc_config_tensor_bytes(const struct damacy_config *config, uint32_t field); /* rounded up to 64 */
uint64_t dmc_config_lookahead_bytes(const struct damacy_config *config);
/* What the prefetcher is made with; the fields' pointers are borrowed and may be NULL for measuring its memory. */
void dmc_config_prefetcher(const struct damacy_config *config, const uint32_t *ranks, const int64_t *const *sample_shapes,
                           struct dmc_prefetcher_options *options);
/* Most reads that one worker may have outstanding over a network. */
uint32_t dmc_config_remote_reads(const struct damacy_config *config);
struct dmc_cpu_options;
void dmc_config_cpu(const struct damacy_config *config, const struct dmc_config_layout *layout,
                    struct dmc_cpu_options *options);
void dmc_config_breakdown(const struct damacy_config *config, const struct dmc_config_layout *layout, char *text,
                          size_t capacity);

/* push.c: the ring has no room for these uris and never will, since the open batch alone fills it. */
bool dmc_push_never_fits(const struct damacy *pipeline, uint64_t uri_bytes);
/* Is it worth while to push now? There is room for the longest uris, namely half of the lookahead, so that a producer comes for
 * many samples at once; while no batch is running any room will do, since nothing else need ever happen. Or the open batch
 * alone is in the way, which push has to say. */
bool dmc_push_welcome(const struct damacy *pipeline);
/* Something changed for that: wake those that wait for it. With the lock. */
void dmc_push_tell(struct damacy *pipeline);

/* scheduler.c */
void dmc_scheduler_step_locked(struct damacy *pipeline) DMC_REQUIRES(pipeline->home->lock); /* may drop and retake the lock */
void dmc_scheduler_close_locked(struct damacy *pipeline);                                   /* close the open batch */
/* The gate: the next batch is closed, and each of its samples is resolved or failed. */
bool dmc_scheduler_batch_full_ready(const struct damacy *pipeline);
uint8_t *dmc_scheduler_bind(void *pipeline, struct dmc_backend_batch *run); /* backend hook */
void dmc_scheduler_done(void *pipeline, struct dmc_backend_batch *run);     /* backend hook */
void dmc_scheduler_fail(void *pipeline, struct dmc_backend_batch *run, uint32_t row, uint32_t field, uint64_t order,
                        const struct damacy_error *error); /* backend hook */

void dmc_scheduler_broken(void *pipeline, const struct damacy_error *error); /* backend hook */
void dmc_scheduler_unfenced(void *pipeline, void *slot);                     /* backend hook */

/* Slots RUNNING when a batch begins to be planned, the newest first: where its chunks look for hosts. Their tables and plans
 * stay as they are while it is planned and submitted, since only the planner writes them, one batch at a time. */
#define DMC_RUNNING_MAX 8u
struct dmc_running {
    const struct dmc_batch_slot *slots[DMC_RUNNING_MAX];
    uint32_t count;
    uint64_t oldest; /* batches before this one are done, those that are not listed, too */
};

/* batch_plan.c: fill slot->run and the batch's rows from the closed batch's samples. Failures become row errors; a status other
 * than OK means that nothing could be planned for want of memory (BUDGET or OOM), with the samples untouched. */
enum damacy_status dmc_plan_run(struct damacy *pipeline, struct dmc_batch_slot *slot, uint64_t batch_id,
                                const struct dmc_closed_batch *closed, const struct dmc_running *running,
                                struct damacy_error *error);
/* The batch is done: chunks that were kept for it are needed no more. */
void dmc_plan_leave_kept(const struct dmc_plan *plan);
/* What a batch that cannot be planned yet will read and decode, if anyone is interested. Its chunks will be kept, or are now
 * expected of batches before it; slot->run has reads (up to plan.guest_begin: those that are left to itself) and objects until
 * dmc_plan_preview_end(). The slot is one that is being planned, for another batch. false: there is nothing to know, or no
 * memory. Neither the samples nor any batch change. */
bool dmc_plan_preview(struct damacy *pipeline, struct dmc_batch_slot *slot, uint64_t batch_id,
                      const struct dmc_closed_batch *closed, const struct dmc_running *running);
void dmc_plan_preview_end(struct dmc_batch_slot *slot);
/* As dmc_plan_run() when there is no memory for a plan and none will come: every sample fails with `error`. */
void dmc_plan_nothing(struct damacy *pipeline, struct dmc_batch_slot *slot, uint64_t batch_id,
                      const struct dmc_closed_batch *closed, const struct damacy_error *error);
/* Note an error of a row; copies it. The least (field, order) wins. */
void dmc_row_fail(struct damacy_batch *batch, uint32_t row, uint32_t field, uint64_t order, const struct damacy_error *error);

/* batch.c */
enum damacy_status dmc_batch_create(struct damacy *pipeline, uint32_t slot, struct damacy_batch **batch,
                                    struct damacy_error *error);
void dmc_batch_free(struct damacy_batch *batch); /* no references, not in the pipeline */
/* The batch of this slot gets the buffer that was released last, unless it has one; where that is. */
uint8_t *dmc_batch_bind_locked(struct damacy *pipeline, struct dmc_batch_slot *slot) DMC_REQUIRES(pipeline->home->lock);
/* Nobody has the slot's batch any more: its buffer goes onto the stack. */
void dmc_slot_free_locked(struct damacy *pipeline, struct dmc_batch_slot *slot) DMC_REQUIRES(pipeline->home->lock);
/* Fill or compact bad rows, write infos. false: the device was lost meanwhile, and the batch must not be seen. */
bool dmc_batch_finish(struct damacy_batch *batch, struct dmc_backend *backend, enum damacy_on_error on_error);
void dmc_batch_clear(struct damacy_batch *batch);            /* drop row errors */
uint32_t dmc_batch_failed(const struct damacy_batch *batch); /* bad rows */
enum damacy_status dmc_batch_raise(const struct damacy_batch *batch,
                                   struct damacy_error *error); /* the error that names them all */

#endif
