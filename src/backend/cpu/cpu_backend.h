/* The CPU backend: worker threads that execute plans. A chunk goes from read to assemble on one worker, while it is in that core's
 * cache; there is no queue between the stages and no central I/O thread.
 *
 *     submit --> ring of batches --claim (one atomic add)--> worker: start read --+-- done at once --> decode --> assemble
 *                                                                                 +-- would block --> in flight --> (later) --^
 *
 * A worker claims tasks oldest batch first, keeps up to `reads_in_flight` reads outstanding, across batches, and always decodes
 * finished reads before it starts new ones. It never waits for a batch to end. The last task of a batch calls hooks->done.
 *
 * Measured (random 57 KB reads plus conversion, 2 cores, wall time a read, warm / cold, microseconds): this way 10.6 / 37; one
 * shared ring thread 16.4 / 72; blocking pread in the workers 10.6 / 87. */
#ifndef DMC_CPU_BACKEND_H
#define DMC_CPU_BACKEND_H

#include "backend/kernels/scatter.h"
#include "base/budget.h"
#include "codec/codec.h"
#include "plan/plan.h"
#include "store/store.h"

/* What dmc_plan_array.user points to: how to read and decode the chunks of one array. Lives in the batch's arena; the owner keeps
 * what it points to alive until done. */
struct dmc_cpu_array {
    const struct dmc_zarr_array *zarr;
    const struct dmc_codec_chain *chain;
    struct dmc_store *store;
    const char *uri;              /* for messages */
    const dmc_scatter_rows *rows; /* one a field; NULL where the field does not use this array */
};

/* Parallel to plan.objects: the store's key and its hash. */
struct dmc_cpu_object {
    const char *key;
    uint64_t key_hash;
};

/* Where a field's tensor is. */
struct dmc_cpu_tensor {
    void *data;
    enum damacy_dtype dtype; /* not NATIVE */
};

/* A batch in execution. The owner fills the first group and leaves it alone from submit until done. The memory of this struct
 * must stay for as long as the backend lives: a worker may look at `claim` of a batch that is over. */
struct dmc_cpu_batch {
    struct dmc_plan plan;
    const struct dmc_cpu_object *objects;
    const struct dmc_cpu_tensor *tensors;
    uint64_t batch_id; /* for the trace */
    void *user;
    /* shared by the workers */
    _Atomic uint64_t claim;     /* tasks << 32 | next task to claim; published by submit (release), claimed with acquire */
    _Atomic uint32_t remaining; /* tasks not finished; the worker that makes it 0 (acq_rel) sees all others' writes */
};

/* Called by workers. */
struct dmc_cpu_hooks {
    void *user;
    /* A chunk failed: the sample of this row is bad. `order` makes the choice among several errors of one row deterministic (least wins). */
    void (*fail)(void *user, struct dmc_cpu_batch *batch, uint32_t row, uint32_t field, uint64_t order, const struct damacy_error *error);
    /* Every task of the batch is finished; called once, on the worker that finished the last. */
    void (*done)(void *user, struct dmc_cpu_batch *batch);
};

struct dmc_cpu_options {
    uint32_t worker_count;
    uint32_t batches_max;     /* most batches submitted and not done */
    uint32_t reads_in_flight; /* per worker */
    uint64_t worker_bytes;    /* of reads in flight per worker; grows for a longer single read while the budget allows */
    bool verify_full;
    bool io_uring_never;
};

struct dmc_cpu_backend;

/* Start the workers. `budget` is borrowed: worker buffers are drawn from it as they grow. */
enum damacy_status dmc_cpu_create(const struct dmc_cpu_options *options, const struct dmc_cpu_hooks *hooks, struct dmc_budget *budget,
                                  struct dmc_cpu_backend **backend, struct damacy_error *error);

/* Execute a batch. Any thread, one at a time; batches are taken up in the order of submission. A batch without tasks is done at once,
 * inside the call. */
void dmc_cpu_submit(struct dmc_cpu_backend *backend, struct dmc_cpu_batch *batch);

/* Ask the workers to end after their current chunk; any thread. hooks->done is not called for what is left. */
void dmc_cpu_stop(struct dmc_cpu_backend *backend);
/* Stop, join, free. false: a worker is stuck in the kernel at the deadline; then the backend and all that its reads point to must be
 * left behind, too. */
bool dmc_cpu_destroy(struct dmc_cpu_backend *backend, uint64_t deadline_ns);

struct dmc_cpu_stats {
    struct damacy_metric read, read_wait, decode, assemble, fill, worker_idle;
    uint64_t whole_bytes; /* of reads of whole objects, whose length no plan knows */
};
void dmc_cpu_stats_get(const struct dmc_cpu_backend *backend, struct dmc_cpu_stats *stats);

#endif
