/* What a backend is: it executes plans. The pipeline fills a batch, submits it, and is told of bad rows and of the end. Two of
 * them, `cpu` and `cuda`, with the same results bit for bit; this header is what both share and all that the pipeline sees of
 * them.
 *
 *     pipeline --submit--> ring of batches --claim (one atomic add)--> backend's threads --hooks->fail, hooks->done--> pipeline
 */
#ifndef DMC_BACKEND_H
#define DMC_BACKEND_H

#include "backend/kernels/scatter.h"
#include "base/budget.h"
#include "codec/codec.h"
#include "plan/plan.h"
#include "store/store.h"

/* What dmc_plan_array.user points to: how to read and decode the chunks of one array. Lives in the batch's arena; the owner
 * keeps what it points to alive until done. */
struct dmc_backend_array {
    const struct dmc_zarr_array *zarr;
    const struct dmc_codec_chain *chain;
    struct dmc_store *store;
    const char *uri;              /* for messages */
    uint32_t root_bytes;          /* of the store's keys: what the uri names; messages tell a key from there on */
    const dmc_scatter_rows *rows; /* one a field; NULL where the field does not use this array */
};

/* Parallel to plan.objects: the store's key and its hash. */
struct dmc_backend_object {
    const char *key;
    uint64_t key_hash;
};

/* Where a field's tensor is in the batch's memory. */
struct dmc_backend_tensor {
    uint64_t offset;
    enum damacy_dtype dtype; /* not NATIVE */
};

/* backend/host.h */
struct dmc_host;
struct dmc_guest;

/* A batch in execution. The owner fills the first group and leaves it alone from submit until done. The memory of this struct
 * must stay for as long as the backend lives: a thread may look at `claim` of a batch that is over. */
struct dmc_backend_batch {
    struct dmc_plan plan;
    const struct dmc_backend_object *objects;
    const struct dmc_backend_tensor *tensors;
    uint64_t batch_id; /* for the trace */
    void *user;
    struct dmc_host *hosts;   /* parallel to plan.chunks, as far as guests may have any of them (dmc_host_count); NULL: none */
    struct dmc_guest *guests; /* parallel to plan.reads from plan.guest_begin to plan.kept_begin; filled by submit. Their
                               * plan.hosts are hosts of other batches, and those behind them kept chunks (backend/kept.h) */
    /* The batch's buffer, on the backend's device; NULL: it has none yet. Stored with release by hooks->bind, whoever calls it;
     * partner: dmc_batch_memory() */
    uint8_t *_Atomic memory;
    /* shared by the backend's threads */
    _Atomic uint64_t claim; /* tasks << 32 | next task to claim; published by submit (release), claimed with acquire */
    _Atomic uint32_t reads; /* tasks before this one are reads. A hint: who sees that of another plan claims too many or few */
    _Atomic uint32_t remaining; /* tasks not finished; the thread that makes it 0 (acq_rel) sees all others' writes */
    _Atomic uint64_t begin_ns;  /* when its first read was started; 0: not yet. Nothing else is published with it */
};

/* Called by the backend's threads. */
struct dmc_backend_hooks {
    void *user;
    /* A chunk failed: the sample of this row is bad. `order` makes the choice among several errors of one row deterministic
     * (least wins). */
    void (*fail)(void *user, struct dmc_backend_batch *batch, uint32_t row, uint32_t field, uint64_t order,
                 const struct damacy_error *error);
    /* The batch gets its memory now, if it has none: the buffer that was released last, which is the likeliest to be in a
     * cache. Any thread, any number of times from submit until done; returns what run->memory is from then on. */
    uint8_t *(*bind)(void *user, struct dmc_backend_batch *batch);
    /* Every task of the batch is finished; called once, on the thread that finished the last. */
    void (*done)(void *user, struct dmc_backend_batch *batch);
    /* The device is lost: no batch will ever be done again. Called once, by a thread of the backend. The CPU backend never
     * does. */
    void (*broken)(void *user, const struct damacy_error *error);
    /* What dmc_backend_memory.fenced was waiting for has happened: the memory may be used again. */
    void (*unfenced)(void *user, void *cookie);
};

struct dmc_backend_stats {
    struct damacy_metric read, read_wait, decode, assemble, fill, worker_idle;
    struct damacy_metric shared; /* guests that had their host's chunk, and kept chunks: bytes that were not decoded again */
    struct damacy_metric input_transfer; /* waves copied to the device: bytes, time on the device */
    struct damacy_metric device_decode;  /* chunks decoded there: decoded bytes, time on the device */
    struct damacy_metric device_assemble;
    struct damacy_metric retry;           /* chunks that the device gave back to the CPU */
    struct damacy_metric post_decode;     /* waves: from the device's end to the batches */
    struct damacy_metric decode_gap;      /* the device had nothing to decode although a wave was due */
    struct damacy_metric bind_wait;       /* threads had a chunk and no room in a wave */
    struct damacy_metric direct_read;     /* reads that the device did itself: bytes, time */
    struct damacy_metric direct_fallback; /* reads that it should have done */
    uint64_t device_decode_busy_ns;       /* of the union of all decodes */
    uint64_t host_bytes;                  /* that its threads now hold of the shares set aside for them */
    uint64_t whole_bytes;                 /* of reads of whole objects, whose length no plan knows */
    uint64_t device_bytes;                /* now allocated on the device */
    uint64_t device_bytes_limit;
};

/* The memory of a submitted batch, for who is about to write to it. */
static inline uint8_t *dmc_batch_memory(const struct dmc_backend_hooks *hooks, struct dmc_backend_batch *batch)
{
    uint8_t *memory = atomic_load_explicit(&batch->memory, memory_order_acquire); /* partner: hooks->bind */
    return memory ? memory : hooks->bind(hooks->user, batch);
}

struct dmc_backend_memory;

/* What can be done with a batch buffer after its backend is gone, too. */
struct dmc_backend_memory_ops {
    void (*free)(struct dmc_backend_memory *memory);
    /* Whoever used the memory on `stream` has enqueued its last work: the memory may be used again once that is done. */
    enum damacy_status (*fence_stream)(struct dmc_backend_memory *memory, uint64_t stream, struct damacy_error *error);
    /* The same for an event that was recorded. */
    enum damacy_status (*fence_event)(struct dmc_backend_memory *memory, uint64_t event, struct damacy_error *error);
};

/* Memory for one batch's tensors, on the device. */
struct dmc_backend_memory {
    const struct dmc_backend_memory_ops *ops; /* NULL: there is none */
    uint8_t *data;
    uint64_t bytes;
    void *owner; /* private to the backend */
};

struct dmc_backend;

struct dmc_backend_ops {
    enum damacy_device_type device;
    bool binds; /* it asks for a batch's memory when it has something to write there; false: the memory is there at submit */
    bool hosts; /* it executes plans with guests, and knows what batch.hosts are for */
    /* Execute a batch. Any thread, one at a time; batches are taken up in the order of submission. A batch without tasks is
     * done at once, inside the call. */
    void (*submit)(struct dmc_backend *backend, struct dmc_backend_batch *batch);
    /* Ask the threads to end soon; any thread. hooks->done is not called for what is left. */
    void (*stop)(struct dmc_backend *backend);
    /* Stop, join, free. false: a thread is stuck in the kernel at the deadline; then the backend and all that its reads point
     * to must be left behind, too. */
    bool (*destroy)(struct dmc_backend *backend, uint64_t deadline_ns);
    void (*stats)(const struct dmc_backend *backend, struct dmc_backend_stats *stats);
    /* What the threads that write batches have done since create: their processor time, and the bytes they wrote. Cost: a
     * system call a thread. NULL: there are no such threads. */
    void (*work)(const struct dmc_backend *backend, uint64_t *cpu_ns, uint64_t *bytes);
    enum damacy_status (*memory_alloc)(struct dmc_backend *backend, uint64_t bytes, struct dmc_backend_memory *memory,
                                       struct damacy_error *error);
    /* Is memory still in use by what was fenced? true: hooks->unfenced(cookie) will be called once it is not. Any thread; NULL:
     * never. */
    bool (*memory_fenced)(struct dmc_backend *backend, struct dmc_backend_memory *memory, void *cookie);
    /* For bad rows of a batch whose tasks are finished; done when the call returns. false: the device is lost, which
     * hooks->broken was told of; the rows are not what they should be, and nobody may see the batch. */
    bool (*row_fill)(struct dmc_backend *backend, void *target, uint64_t elements, enum damacy_dtype output,
                     struct dmc_scatter_element element); /* of dtype NATIVE: zeros; two elements: `elements` is even */
    bool (*row_move)(struct dmc_backend *backend, void *to, const void *from, uint64_t bytes); /* they do not overlap */
};

/* First member of every backend. */
struct dmc_backend {
    const struct dmc_backend_ops *ops;
    int32_t ordinal; /* of the device; 0 for the CPU */
};

#endif
