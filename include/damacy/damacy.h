/* damacy: batches of nD crops out of many Zarr arrays, as DLPack tensors.
 *
 * The whole life of a pipeline:
 *
 *     struct damacy_config config = DAMACY_CONFIG_INIT;      // what a batch looks like
 *     damacy_create(&config, &pipeline, &error);             // threads and buffers
 *     damacy_push(pipeline, samples, &rest, &error);         // which crops; never waits
 *     damacy_flush(pipeline, &error);                        // close a ragged last batch
 *     damacy_pop(pipeline, DAMACY_FOREVER, &batch, &error);  // the next batch, in push order
 *     damacy_release(batch);                                 // its buffer goes back to the pool
 *     damacy_destroy(pipeline);
 *
 * Conventions. Functions that can fail return `enum damacy_status` and fill an optional `struct damacy_error`, which the
 * caller owns and which is touched only on failure. Ranges are half-open. Sizes are bytes where the name says so, elements
 * otherwise. Every function may be called from any thread, also at once, except damacy_destroy(), after which the handle is
 * gone. After fork() the child may not use what it inherited: every call on it answers DAMACY_FORKED at once.
 */
#ifndef DAMACY_DAMACY_H
#define DAMACY_DAMACY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DAMACY_VERSION_MAJOR 0
#define DAMACY_VERSION_MINOR 1
#define DAMACY_VERSION_PATCH 0

#if defined(__GNUC__)
#define DAMACY_API __attribute__((visibility("default")))
#else
#define DAMACY_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Axes of a sample, without the batch axis. */
#define DAMACY_RANK_MAX 31

/* Bytes of a uri, without the terminating zero. Longer ones are INVAL at push. */
#define DAMACY_URI_BYTES_MAX 4095

/* A timeout that never comes. */
#define DAMACY_FOREVER UINT64_MAX

enum damacy_status {
    DAMACY_OK = 0,
    DAMACY_AGAIN = 1,       /* the lookahead is full: push the rest later */
    DAMACY_INVAL = 2,       /* an argument or a setting makes no sense */
    DAMACY_NOTFOUND = 3,    /* no such array */
    DAMACY_DTYPE = 4,       /* the array's dtype cannot become the field's */
    DAMACY_RANK = 5,        /* number of axes, box against sample shape, or box against array shape */
    DAMACY_UNSUPPORTED = 6, /* valid data that this build does not read: codec, grid, extension */
    DAMACY_IO = 7,          /* the store failed */
    DAMACY_DECODE = 8,      /* bytes that are there but are not what they should be */
    DAMACY_CUDA = 9,        /* the CUDA driver failed */
    DAMACY_OOM = 10,        /* the system gave no memory */
    DAMACY_BUDGET = 11,     /* something exceeds a configured bound; the message names the setting */
    DAMACY_STARVED = 12,    /* every batch buffer is held by the caller: nothing can come until one is released */
    DAMACY_SHUTDOWN = 13,   /* the pipeline is being destroyed */
    DAMACY_FORKED = 14,     /* used in a child of the process that made it */
    DAMACY_TIMEOUT = 15,    /* the time given ran out */
    DAMACY_END = 16,        /* everything pushed before the last flush was delivered, and nothing was pushed since */
    DAMACY_INTERNAL = 17    /* a bug of damacy */
};

/* The name without prefix, e.g. "NOTFOUND"; "?" for a number that is none. Static storage. Threads: any. */
DAMACY_API const char *damacy_status_str(enum damacy_status status);

/* What failed, where, what was expected and found, and what to do. Caller-owned, no pointers inside: copy it freely.
 * `message` says it all in one text; the other members repeat its parts for programs. Texts that do not fit are cut and
 * end in "...". A member that does not apply is empty; a range that does not apply has range_begin == range_end == 0.
 */
struct damacy_error {
    enum damacy_status status;
    int os_error;         /* errno of the failing system call, or 0 */
    uint64_t range_begin; /* bytes of the object that were concerned, half-open */
    uint64_t range_end;
    char stage[16];     /* config, push, metadata, index, plan, read, decode, assemble, pop */
    char field[64];     /* name of the field; empty for the unnamed one */
    char uri[1024];     /* the array */
    char key[256];      /* the object inside it, e.g. "zarr.json" or "c/0/3" */
    char expected[128]; /* e.g. "crc32c 0x00001234" */
    char found[128];
    char hint[256]; /* what to do about it */
    char message[2048];
};

/* A uri as errors and logs show it: the name and password in front of its host, and the query of an http(s) uri, which are
 * often what gives access, become "***". Nothing else changes. A text that does not fit is cut and ends in "...".
 *
 * uri, text  not NULL; `text` gets at most `capacity` bytes with its zero. Threads: any.
 */
DAMACY_API void damacy_uri_shown(const char *uri, char *text, size_t capacity);

/* Element types. Sources may be any but NATIVE; outputs may be any. */
enum damacy_dtype {
    DAMACY_NATIVE = 0, /* the dtype of the field's first sample, in push order, that resolved */
    DAMACY_BOOL = 1,
    DAMACY_I8 = 2,
    DAMACY_I16 = 3,
    DAMACY_I32 = 4,
    DAMACY_I64 = 5,
    DAMACY_U8 = 6,
    DAMACY_U16 = 7,
    DAMACY_U32 = 8,
    DAMACY_U64 = 9,
    DAMACY_F16 = 10,
    DAMACY_BF16 = 11,
    DAMACY_F32 = 12,
    DAMACY_F64 = 13
};
#define DAMACY_DTYPE_COUNT 14

/* Short name ("f32", "bool", "native"); "?" for a number that is none. Static storage. Threads: any. */
DAMACY_API const char *damacy_dtype_str(enum damacy_dtype dtype);

/* Bytes of one element; 0 for NATIVE. Threads: any. */
DAMACY_API size_t damacy_dtype_bytes(enum damacy_dtype dtype);

enum damacy_device_type {
    DAMACY_CPU = 0,
    DAMACY_CUDA_DEVICE = 1,
    DAMACY_AUTO_DEVICE = 2 /* in a configuration: a CUDA device if there is one, else the CPU */
};

/* Where chunks are decoded when batches are on a CUDA device. */
enum damacy_decode {
    DAMACY_DECODE_AUTO = 0, /* on the device what it can decode, or part of it where cores are faster by measured rates */
    DAMACY_DECODE_GPU = 1,
    DAMACY_DECODE_CPU = 2
};

/* On which NUMA node workers run and host memory lies, on machines with several. */
enum damacy_numa {
    DAMACY_NUMA_AUTO = 0, /* on that of the CUDA device, as far as the system tells; batches on the CPU: nothing is placed */
    DAMACY_NUMA_OFF = 1,  /* wherever the system puts them */
    DAMACY_NUMA_NODE = 2  /* on damacy_config.numa_node */
};

/* What pop does with a batch that has bad samples. */
enum damacy_on_error {
    DAMACY_RAISE = 0, /* that pop fails and names every bad sample; the next pop goes on */
    DAMACY_FILL = 1,  /* bad samples hold the fill value of their array, or 0 where that is not known or no value of the output
                       * dtype; they are marked in damacy_batch_info */
    DAMACY_SKIP = 2   /* bad samples are left out: the batch is shorter, order kept, damacy_batch_info names them */
};

/* How much of a chunk is checked. */
enum damacy_verify {
    DAMACY_VERIFY_NEEDED = 0, /* decode only as far as samples need; damage elsewhere may pass unnoticed */
    DAMACY_VERIFY_FULL = 1    /* decode and check whole chunks */
};

/* A half-open interval of indices along one axis. */
struct damacy_interval {
    int64_t begin;
    int64_t end;
};

/* One tensor of a batch. */
struct damacy_field {
    const char *name;            /* NULL or "" for the single unnamed field; otherwise unique, at most 63 bytes */
    uint32_t rank;               /* axes of a sample, 1 to DAMACY_RANK_MAX; the tensor has one more */
    const int64_t *sample_shape; /* `rank` extents, each at least 1 */
    enum damacy_dtype dtype;
};

/* Every knob, each with a default that was measured (docs/guide.md). 0 means "choose for me" throughout.
 * Fill it with damacy_tuning_defaults() to see the choices, or zero it.
 */
struct damacy_tuning {
    size_t struct_size;
    uint32_t worker_count;             /* threads that read, decode and assemble; default: one per allowed core */
    uint32_t batch_slots;              /* batch buffers: in flight, ready or held by the caller; at least 2 */
    uint32_t lookahead_samples;        /* pushed samples that wait for the prefetcher */
    uint32_t prefetch_samples;         /* samples that the prefetcher works on or has resolved, not yet planned */
    uint32_t reads_in_flight;          /* reads that one worker may have outstanding when the store blocks */
    uint32_t metadata_reads_in_flight; /* outstanding metadata requests of the prefetcher */
    uint64_t coalesce_gap_bytes;      /* two needed ranges closer than this are read as one; 1 means touching only. The defaults
                                       * of this and the next are for files: stores in a network find their own */
    uint64_t coalesce_read_bytes_max; /* no coalesced read is longer, nor than a worker can hold; a single chunk may be */
    uint64_t array_meta_cache_bytes;  /* bounds of the three metadata caches */
    uint64_t shard_index_cache_bytes;
    uint64_t chunk_layout_cache_bytes;
    uint64_t metadata_object_bytes_max; /* largest zarr.json that is accepted */
    uint64_t worker_bytes;              /* buffers of one worker: reads in flight, decoded chunk, scratch */
    uint64_t kept_chunk_bytes; /* CPU: decoded chunks that wait for batches which were pushed but have no slot yet; 1: none.
                                * Taken from what the rest leaves of the memory, of which it gets at most one part of 32; less
                                * than 4 MiB: none */
    uint32_t open_files_max;   /* file handles kept open */
    uint32_t io_uring;         /* 0 auto, 1 require, 2 never */
    /* For measuring; 0 otherwise. */
    uint32_t bypass_decode;       /* 1: everything but decoding runs; every chunk counts as its array's fill value */
    uint32_t metadata_latency_ns; /* added to every metadata request of the prefetcher, as if its store were that far away */
};
#define DAMACY_TUNING_INIT                                                                                                     \
    {                                                                                                                          \
        .struct_size = sizeof(struct damacy_tuning)                                                                            \
    }

struct damacy_config {
    size_t struct_size;
    uint32_t samples_per_batch;        /* at least 1 */
    uint32_t field_count;              /* at least 1 */
    const struct damacy_field *fields; /* read during the call only */
    enum damacy_device_type device;
    int32_t device_ordinal; /* of CUDA devices; -1: the current context's device, else 0 */
    enum damacy_on_error on_error;
    enum damacy_verify verify;
    uint64_t
        max_host_memory_bytes;     /* hard limit per pipeline; 0: a quarter of the memory allowed, used only as far as needed */
    uint64_t max_gpu_memory_bytes; /* hard limit on device memory; 0: a quarter of what is free at create */
    enum damacy_decode decode;
    enum damacy_numa numa;
    uint32_t numa_node; /* for DAMACY_NUMA_NODE */
    /* 1: a CUDA device reads uncompressed chunks of local files itself, by GPUDirect Storage (libcufile, which must be there)
     * where a file allows it; 0: off */
    uint32_t gpu_direct_storage;
    const char
        *storage_options; /* of network stores: a JSON object as text (docs/remote.md); NULL: none. Read during the call only */
    struct damacy_tuning tuning;
};
#define DAMACY_CONFIG_INIT                                                                                                     \
    {                                                                                                                          \
        .struct_size = sizeof(struct damacy_config), .tuning = DAMACY_TUNING_INIT                                              \
    }

/* For one field of one sample: which array, and which box of it in the array's own axis order. */
struct damacy_region {
    const char *uri; /* zero-terminated; a path, file://PATH, https://HOST/PATH, s3://BUCKET/KEY, gs://BUCKET/KEY. Of what is no
                      * array, its fragment picks one: #level=2 or #scale=0.5 (default level 0), #label=NAME, #well=B/03&field=0
                      * of OME-Zarr groups; #member=NAME of structured arrays */
    uint32_t rank;
    const struct damacy_interval *aabb; /* `rank` intervals; end - begin equals the field's sample shape */
};

/* One request: a region per field, in the order of the configuration, and a tag that comes back with the row. */
struct damacy_sample {
    const struct damacy_region *regions; /* field_count of them */
    uint64_t tag;
};

/* A view of samples; owns nothing. */
struct damacy_samples {
    const struct damacy_sample *data;
    size_t count;
};

struct damacy;       /* a pipeline */
struct damacy_batch; /* a popped batch */

/* Make a pipeline: threads, queues and batch buffers.
 *
 * config    read during the call only. Zero members take defaults.
 * pipeline  out: yours until damacy_destroy(); untouched on failure.
 * Returns OK; INVAL for a setting that makes no sense; BUDGET, with a breakdown in the message, when the configuration alone
 * exceeds max_host_memory_bytes; UNSUPPORTED for a device that this build or machine does not have; CUDA; OOM; IO if threads
 * cannot be started.
 */
DAMACY_API enum damacy_status damacy_create(const struct damacy_config *config, struct damacy **pipeline,
                                            struct damacy_error *error);

/* Stop and free everything but the batches and tensors that are still held; those stay valid until they are dropped.
 *
 * Waiters in other threads return SHUTDOWN first. A read that is stuck in the kernel is left behind with its buffer, and
 * reported in the log. NULL is allowed. In a forked child: does nothing.
 */
DAMACY_API void damacy_destroy(struct damacy *pipeline);

/* Queue as many samples as fit; never waits.
 *
 * samples  copied as needed: strings and boxes may go when the call returns.
 * rest     out, optional: the suffix of `samples` that was not taken. Set on every status.
 * Returns OK (all taken); AGAIN (the lookahead is full); INVAL or RANK for the first sample of `rest`, which is wrong in itself
 * (those before it are taken); BUDGET (the uris of the open batch alone fill the lookahead); SHUTDOWN; FORKED.
 * Cost: no allocation.
 */
DAMACY_API enum damacy_status damacy_push(struct damacy *pipeline, struct damacy_samples samples, struct damacy_samples *rest,
                                          struct damacy_error *error);

/* Close the open batch, so that it comes out with the samples it has. Nothing happens if it is empty. */
DAMACY_API enum damacy_status damacy_flush(struct damacy *pipeline, struct damacy_error *error);

/* Wait for the next finished batch, in the order of pushing.
 *
 * timeout_ns  nanoseconds; 0 polls, DAMACY_FOREVER waits.
 * batch       out: yours on OK until damacy_release(); untouched otherwise.
 * Returns OK; END; STARVED; TIMEOUT; SHUTDOWN; FORKED; or, under DAMACY_RAISE, the status of the first bad sample of the batch,
 * which is then used up: the next pop goes on with the next one.
 * Threads: concurrent callers get successive batches.
 * Cost: neither copies nor allocates once warm.
 */
DAMACY_API enum damacy_status damacy_pop(struct damacy *pipeline, uint64_t timeout_ns, struct damacy_batch **batch,
                                         struct damacy_error *error);

/* What damacy_wait() can wait for. */
#define DAMACY_WAIT_POP 1u  /* pop would not time out: a batch is ready, or it would say END or STARVED */
#define DAMACY_WAIT_PUSH 2u /* the lookahead has room: for half of it, or, while no batch is being made, for a sample */

/* Wait until one of the things named in `what` holds.
 *
 * happened  out, optional: which of them hold; 0 unless OK.
 * Returns OK, TIMEOUT, INVAL, SHUTDOWN or FORKED. Takes nothing: another thread may be quicker.
 */
DAMACY_API enum damacy_status damacy_wait(struct damacy *pipeline, uint32_t what, uint64_t timeout_ns, uint32_t *happened,
                                          struct damacy_error *error);

/* Give a batch back. Its buffer is used again once every tensor exported from it is gone, too.
 *
 * May be called after damacy_destroy(). NULL is allowed. In a forked child: does nothing.
 */
DAMACY_API void damacy_release(struct damacy_batch *batch);

/* The same for work that is still under way on a CUDA device: the buffer is used again only after `event` (a CUevent or
 * cudaEvent_t that was recorded) has fired. Nothing waits here, and no other batch's buffer waits for it. The event may be
 * destroyed at once.
 *
 * Returns OK; INVAL for a batch on the CPU; CUDA if the driver refuses the event: then the batch is not released. */
DAMACY_API enum damacy_status damacy_release_event(struct damacy_batch *batch, void *event, struct damacy_error *error);

/* Name the CUDA stream on which this batch is used from now on (a CUstream or cudaStream_t; NULL: the legacy default stream).
 * When the batch is released, and again when a tensor is dropped, what was put into that stream by then is waited for, on the
 * device, before the buffer is used again. A tensor remembers the stream that was named before it was made, so that each may go
 * to a stream of its own; when it is dropped, both that and the one named last count. The streams must live until then. Without
 * a call it is the legacy default stream. A popped batch is complete: no stream has to wait for it. On the CPU: does nothing.
 * Returns OK, INVAL or FORKED. */
DAMACY_API enum damacy_status damacy_batch_stream(struct damacy_batch *batch, void *stream, struct damacy_error *error);

/* One row of a batch, or one skipped sample. */
struct damacy_row {
    uint64_t ordinal; /* position in push order, from 0 */
    uint64_t tag;
    enum damacy_status status;        /* OK, or what went wrong with this sample */
    const struct damacy_error *error; /* NULL if OK; lives as long as the batch */
};

/* One tensor of a batch: C order, 64-byte aligned. */
struct damacy_tensor_info {
    const char *name; /* "" for the unnamed field */
    void *data;
    uint64_t bytes;
    enum damacy_dtype dtype;
    uint32_t rank;                      /* with the batch axis */
    int64_t shape[DAMACY_RANK_MAX + 1]; /* shape[0] is row_count */
};

/* A batch, described. Everything it points to lives until damacy_release(). */
struct damacy_batch_info {
    uint64_t batch_id;
    enum damacy_device_type device;
    int32_t device_ordinal;
    uint32_t field_count;
    uint32_t row_count;
    uint32_t skipped_count;
    const struct damacy_tensor_info *tensors; /* field_count of them */
    const struct damacy_row *rows;            /* row_count of them */
    const struct damacy_row *skipped;         /* skipped_count samples that were left out (DAMACY_SKIP) */
};

/* Describe a batch. Returns OK, INVAL or FORKED. Threads: any, while the batch is held. */
DAMACY_API enum damacy_status damacy_batch_info(const struct damacy_batch *batch, struct damacy_batch_info *info,
                                                struct damacy_error *error);

/* Export one field of a batch as a DLPack managed tensor that shares the batch's memory.
 *
 * field      index of the field.
 * versioned  true: `*tensor` is a DLManagedTensorVersioned (DLPack 1.0); false: the older DLManagedTensor.
 * tensor     out: call its deleter when done, from any thread, also after damacy_release() and damacy_destroy().
 * Returns OK, INVAL, OOM or FORKED.
 */
DAMACY_API enum damacy_status damacy_batch_dlpack(struct damacy_batch *batch, uint32_t field, bool versioned, void **tensor,
                                                  struct damacy_error *error);

/* Where batches are. `ordinal` is 0 for the CPU. */
DAMACY_API enum damacy_status damacy_get_device(const struct damacy *pipeline, enum damacy_device_type *type, int32_t *ordinal,
                                                struct damacy_error *error);

/* Set every member to what damacy_create() would choose on this machine for `config`. */
DAMACY_API enum damacy_status damacy_tuning_defaults(const struct damacy_config *config, struct damacy_tuning *tuning,
                                                     struct damacy_error *error);

/* Say what damacy_create() would allocate and why, as text, before anything is allocated.
 *
 * text, capacity  where the zero-terminated text goes; cut if it does not fit. NULL and 0 ask for the length.
 * length          out, optional: bytes of the whole text without the zero.
 * Returns what damacy_create() would, as far as the configuration decides it.
 */
DAMACY_API enum damacy_status damacy_config_describe(const struct damacy_config *config, char *text, size_t capacity,
                                                     size_t *length, struct damacy_error *error);

/* Counts, bytes and busy time of one stage since create or the last reset. */
struct damacy_metric {
    uint64_t count;
    uint64_t bytes;
    uint64_t time_ns; /* summed over threads */
};

enum damacy_bottleneck {
    DAMACY_BOTTLENECK_NONE = 0,     /* nothing was delivered yet */
    DAMACY_BOTTLENECK_STORAGE = 1,  /* workers wait for reads */
    DAMACY_BOTTLENECK_DECODE = 2,   /* workers, or the device, are busy computing */
    DAMACY_BOTTLENECK_CONSUMER = 3, /* batches lie ready, the caller is slower */
    DAMACY_BOTTLENECK_PRODUCER = 4  /* samples are not pushed fast enough */
};

/* "storage", "decode", "consumer", "producer" or "none". Static storage. */
DAMACY_API const char *damacy_bottleneck_str(enum damacy_bottleneck bottleneck);

struct damacy_stats {
    size_t struct_size;
    uint64_t elapsed_ns; /* since create or the last reset */
    uint64_t samples_pushed;
    uint64_t samples_delivered;
    uint64_t samples_failed;
    uint64_t batches_delivered;
    uint64_t bytes_delivered;
    uint64_t lookahead_samples;       /* now waiting in the lookahead */
    uint64_t batches_ready;           /* now ready to be popped */
    uint64_t batches_held;            /* now held by the caller */
    struct damacy_metric metadata;    /* prefetcher: samples resolved, metadata bytes read */
    struct damacy_metric plan;        /* plans made; stored bytes that they need, without objects read whole; time */
    struct damacy_metric read;        /* reads done, bytes asked of stores; time inside calls */
    struct damacy_metric read_wait;   /* times workers had nothing but reads in flight to wait for */
    struct damacy_metric decode;      /* chunks, decoded bytes */
    struct damacy_metric assemble;    /* pieces, delivered bytes */
    struct damacy_metric fill;        /* absent chunks */
    struct damacy_metric worker_idle; /* workers had nothing to do at all */
    struct damacy_metric pop_wait;    /* pops that waited */
    struct damacy_metric slot_wait;   /* time in which planning waited for a free batch slot */
    uint64_t bytes_needed;            /* stored bytes that the samples needed; read.bytes / bytes_needed is the amplification */
    uint64_t array_meta_hits, array_meta_misses;
    uint64_t shard_index_hits, shard_index_misses;
    uint64_t host_bytes_committed; /* memory that counts against max_host_memory_bytes */
    uint64_t host_bytes_limit;
    enum damacy_bottleneck bottleneck;
    /* CUDA only: 0 on the CPU */
    uint64_t gpu_bytes_committed; /* device memory that counts against max_gpu_memory_bytes */
    uint64_t gpu_bytes_limit;
    struct damacy_metric input_transfer; /* waves copied to the device: bytes, time there */
    struct damacy_metric gpu_decode;     /* chunks decoded there: decoded bytes, time there */
    struct damacy_metric gpu_assemble;   /* pieces, delivered bytes; time there */
    struct damacy_metric gpu_retry;      /* chunks that the device gave back to the CPU */
    struct damacy_metric post_decode; /* waves, decoded bytes; from when the device was done with one until its batches know */
    struct damacy_metric decode_gap;  /* times that the device decoded nothing although a wave was due; how long in all */
    struct damacy_metric bind_wait;   /* times a worker had read a chunk and found no room in a wave; time until there was */
    uint64_t gpu_decode_busy_ns;      /* time in which the device decoded: less than gpu_decode's where waves overlap */
    struct damacy_metric gpu_direct_read;     /* reads that the device did itself, also in `read`: bytes, time */
    struct damacy_metric gpu_direct_fallback; /* reads that it was to do, and that were done as usual */
    /* on the CPU again */
    struct damacy_metric decode_shared; /* chunks that a batch got from an older one, which decoded them for both, or that were
                                         * kept for it: decoded bytes that `decode` would have had more; no time */
};
#define DAMACY_STATS_INIT                                                                                                      \
    {                                                                                                                          \
        .struct_size = sizeof(struct damacy_stats)                                                                             \
    }

/* Take a snapshot. stats->struct_size must be set. Threads: any; cheap enough for once a batch. */
DAMACY_API enum damacy_status damacy_stats_get(const struct damacy *pipeline, struct damacy_stats *stats,
                                               struct damacy_error *error);

/* One server that a pipeline reads from over a network, since create. */
struct damacy_server_stats {
    char origin[272];  /* "https://host:port" */
    uint64_t requests; /* of the pipeline: ranges, objects, listings */
    uint64_t attempts; /* what went out for them: retries, hedges and redirects are among them */
    uint64_t retries;
    uint64_t hedges;     /* further attempts beside late ones */
    uint64_t hedges_won; /* those that were quicker */
    uint64_t throttled;  /* answers 429 and 503 */
    uint64_t stalls;     /* attempts given up because nothing moved */
    uint64_t redirects;
    uint64_t failures;                                       /* requests that failed in the end */
    uint64_t bytes_received;                                 /* of bodies */
    uint64_t bytes_used;                                     /* those that went into answers */
    uint64_t latency_p50_ns, latency_p90_ns, latency_p99_ns; /* of requests with all that was done for them; within a tenth */
    uint64_t first_byte_ns;                                  /* usual time to an answer's first byte, of late */
    uint64_t bytes_per_s;                                    /* usual rate of one body, of late; 0: not known yet */
    uint64_t concurrency;                                    /* how many bulk requests it may get at once now */
};

/* The network side of a pipeline, since create; damacy_stats_reset() leaves it alone. */
struct damacy_remote_stats {
    size_t struct_size;
    struct damacy_server_stats *servers; /* in: where the first server_capacity of them go; NULL: nowhere */
    uint64_t server_capacity;            /* in */
    uint64_t server_count;               /* out: all there are */
    /* the cache on disk (storage_options' cache_dir); 0 without */
    uint64_t cache_hits, cache_hit_bytes;
    uint64_t cache_misses, cache_miss_bytes;
    uint64_t cache_used_bytes, cache_bytes_max; /* of the folder, all processes together */
    /* requests that were answered by what went over the network for others, and the bytes that came that way, for them and for
     * ends of others */
    uint64_t shared_requests, shared_bytes;
};
#define DAMACY_REMOTE_STATS_INIT                                                                                               \
    {                                                                                                                          \
        .struct_size = sizeof(struct damacy_remote_stats)                                                                      \
    }

/* Take a snapshot. Threads: any. Returns OK, INVAL, SHUTDOWN or FORKED. */
DAMACY_API enum damacy_status damacy_remote_stats_get(const struct damacy *pipeline, struct damacy_remote_stats *stats,
                                                      struct damacy_error *error);

/* Start counting anew. */
DAMACY_API enum damacy_status damacy_stats_reset(struct damacy *pipeline, struct damacy_error *error);

/* A codec of the user's own: how chunks that were encoded with it are decoded.
 *
 * By default it turns bytes into bytes and stands behind `bytes` in the list of codecs; a v2 compressor or filter {"id": "x",
 * ...} is looked for as "numcodecs.x". With array_to_bytes it stands in the place of `bytes` and gives the elements of the
 * chunk in C order and this machine's byte order. Its functions are called from many threads at once, decode once a chunk, and
 * must not call damacy; they may block (a decoder in an interpreter), at the cost of the worker that waits.
 *
 * configuration  the JSON text of the configuration as in the metadata (v2: without "id"); NULL if there is none.
 * message        where a failure is described, zero-terminated; it reaches the user behind the codec's name. May be left alone.
 */
struct damacy_codec {
    size_t struct_size;
    void *user; /* given to each function */
    /* Decode `source` (at any address, not to be written) into `target`; sets *decoded_bytes to at most target_bytes. When the
     * decoded size is known, which it is for the codec nearest to `bytes`, that is target_bytes, and any other is an error.
     * Returns OK, or DECODE, UNSUPPORTED, OOM or BUDGET; anything else counts as DECODE. */
    enum damacy_status (*decode)(void *user, const char *configuration, const void *source, size_t source_bytes, void *target,
                                 size_t target_bytes, size_t *decoded_bytes, char *message, size_t message_bytes);
    /* Optional: at most how many bytes so many are encoded to. Stored chunks that are longer are errors. Without: twice the
     * bytes and 64 KiB. Must not decrease with decoded_bytes, and UINT64_MAX is allowed. */
    uint64_t (*encoded_bytes_max)(void *user, const char *configuration, uint64_t decoded_bytes);
    /* Optional: look at a configuration when an array is opened. Returns as decode does. */
    enum damacy_status (*check)(void *user, const char *configuration, char *message, size_t message_bytes);
    /* Optional: nothing will call the codec's functions again. Called once, by any thread. */
    void (*release)(void *user);
    bool array_to_bytes;
};
#define DAMACY_CODEC_INIT                                                                                                      \
    {                                                                                                                          \
        .struct_size = sizeof(struct damacy_codec)                                                                             \
    }

/* Make a codec known to the process, for arrays opened from now on. Register before creating a pipeline that reads such arrays:
 * an array that could not be opened is remembered by the pipelines that tried.
 *
 * name   as in v3 metadata, or "numcodecs.ID"; copied. A built-in one, or one that is registered, is INVAL: what a codec means
 * does not change while arrays are read. Names that damacy knows but does not read ("numcodecs.pcodec") may be registered.
 * codec  copied.
 * Returns OK, INVAL or OOM. Threads: any. After fork() the child has what was registered before, if the functions can stand
 * that. */
DAMACY_API enum damacy_status damacy_codec_register(const char *name, const struct damacy_codec *codec,
                                                    struct damacy_error *error);

/* Forget a registered codec: the name is free at once. Arrays that are open go on using it; `release` is called when the last
 * of them is gone, at the latest inside the damacy_destroy() of the last pipeline that has one, or right here. Returns OK or
 * NOTFOUND. Threads: any. */
DAMACY_API enum damacy_status damacy_codec_unregister(const char *name, struct damacy_error *error);

/* --- What is at a uri --- */

enum damacy_node_kind {
    DAMACY_NODE_FOLDER = 0, /* holds others, but is no Zarr node itself */
    DAMACY_NODE_ARRAY = 1,
    DAMACY_NODE_GROUP = 2,     /* a group that is none of those below */
    DAMACY_NODE_IMAGE = 3,     /* OME-Zarr: a multiscale image */
    DAMACY_NODE_LABEL = 4,     /* OME-Zarr: a multiscale image whose elements are labels */
    DAMACY_NODE_LABELS = 5,    /* OME-Zarr: the group that holds an image's label images */
    DAMACY_NODE_PLATE = 6,     /* OME-Zarr: a plate of wells */
    DAMACY_NODE_WELL = 7,      /* OME-Zarr: a well, which holds images, its fields */
    DAMACY_NODE_COLLECTION = 8 /* OME-Zarr: several images side by side (bioformats2raw) */
};

/* "array", "image", ...; "?" for a number that is none. Static storage. Threads: any. */
DAMACY_API const char *damacy_node_kind_str(enum damacy_node_kind kind);

/* What metadata say about an axis; "" where they say nothing. */
struct damacy_axis {
    const char *name; /* e.g. "z" */
    const char *type; /* e.g. "space", "time", "channel" */
    const char *unit; /* e.g. "micrometer" */
};

/* An array. Lists have one entry an axis. Where it is delivered otherwise than it is stored (complex numbers have one more axis
 * of extent 2) the lists tell what is delivered. */
struct damacy_array_info {
    uint32_t rank;
    const uint64_t *shape;
    const uint64_t *chunk_shape;    /* the inner chunks' where there are shards; the largest extents of an irregular grid */
    const uint64_t *shard_shape;    /* NULL: not sharded */
    enum damacy_dtype dtype;        /* what a field of dtype NATIVE gets; NATIVE where the array cannot be read */
    uint64_t bytes;                 /* of all elements as `dtype`; UINT64_MAX: beyond counting; 0 where dtype is NATIVE */
    const char *data_type;          /* as written: "uint16", "<u2", or JSON */
    const char *fill_value;         /* JSON, as written */
    const char *codecs;             /* JSON: v3 the list as written, v2 an object of order, filters and compressor */
    const char *chunk_grid;         /* v3: JSON, as written; v2: "" */
    const char *chunk_key_encoding; /* v3: JSON, as written; v2: the separator */
    const struct damacy_axis *axes; /* of the array, or of the image whose level it is */
    const double *scale;            /* of a level: physical size of an element along each axis; NULL: none is told */
    const double *translation;      /* of a level: where its origin is; NULL: none is told */
    uint32_t member_count;          /* members of a structured data type; URI#member=NAME reads one of them as an array */
    const char *const *members;
};

/* A well of a plate. */
struct damacy_well {
    const char *path; /* e.g. "B/03" */
    const char *uri;  /* for damacy_open() */
};

/* A node of a hierarchy. Made by damacy_open(), constant, freed as a whole with its root. Texts are never NULL. */
struct damacy_node {
    enum damacy_node_kind kind;
    enum damacy_status status;             /* OK, or why this node cannot be read; its other members tell as much as is known */
    const char *message;                   /* the same in words; "" if OK */
    const char *path;                      /* from the root; "" for the root itself */
    const char *uri;                       /* to push it (arrays, images: their first level) or to open it */
    uint32_t zarr_format;                  /* 2 or 3; 0 for folders */
    const char *attributes;                /* JSON object; "{}": none, or not asked for */
    const struct damacy_array_info *array; /* of arrays; else NULL */
    /* images and labels */
    const char *ome_version; /* e.g. "0.4"; "" for what is not of OME-Zarr */
    uint32_t axis_count;
    const struct damacy_axis *axes;
    uint32_t level_count;
    const struct damacy_node *const *levels; /* arrays, finest first; they are among the children, too */
    uint32_t label_count;
    const struct damacy_node *const *labels; /* label images; also of the group of labels */
    /* plates and wells */
    uint32_t well_count;
    const struct damacy_well *wells;
    uint32_t field_count;
    const char *const *fields; /* paths of a well's images */
    /* what lies below, by name, a level's arrays by resolution */
    uint64_t child_count;
    const struct damacy_node *const *children;
    bool consolidated; /* the children are known from consolidated metadata */
    /* the root only */
    uint64_t array_count; /* all arrays of the hierarchy, in the order of the children */
    const struct damacy_node *const *arrays;
    bool cut; /* a limit of the options was reached: there may be more; `message` tells which although `status` is OK */
};

/* How damacy_open() goes about it. Zero takes defaults. */
struct damacy_open_options {
    size_t struct_size;
    const char *storage_options;   /* as in damacy_config */
    uint64_t timeout_ns;           /* of the whole call; 0: 60 seconds; DAMACY_FOREVER */
    bool shallow;                  /* children are not looked for, except an image's levels and labels */
    bool wells;                    /* the images of all wells of plates, too */
    bool attributes_never;         /* spares reading the attributes of v2 arrays, which are objects of their own */
    uint32_t depth_max;            /* of the hierarchy; 0: 16 */
    uint64_t nodes_max;            /* looked at; 0: 200,000 */
    uint64_t memory_max;           /* bytes of the result; 0: 1 GiB; at least 1 MiB. More is BUDGET */
    uint32_t reads_in_flight;      /* requests at once; 0: 64 */
    bool (*poll)(void *poll_user); /* called ten times a second; false ends the call with SHUTDOWN. NULL: none */
    void *poll_user;
};
#define DAMACY_OPEN_OPTIONS_INIT                                                                                               \
    {                                                                                                                          \
        .struct_size = sizeof(struct damacy_open_options)                                                                      \
    }

/* Say what is at a uri: an array, a group with all that is below it, an OME-Zarr image, plate or well, or a folder of such.
 *
 * uri      as for push, and also of what cannot be pushed: groups, plates, folders.
 * options  NULL: all defaults.
 * node     out: yours until damacy_node_free(); untouched on failure.
 * Returns OK; NOTFOUND; INVAL for a uri that makes no sense; UNSUPPORTED for a scheme without a store; IO; DECODE for metadata
 * of the root that are damaged (deeper ones say so in their own node); TIMEOUT; SHUTDOWN; BUDGET; OOM. An array that is well
 * described but cannot be read (an unknown codec, ...) is no failure: its node says so. Threads: any; needs no pipeline and
 * starts no thread that outlives the call. Stores that block (listing a folder, opening a file) may hold the call beyond its
 * timeout. Cost: one request for a v3 array, two round trips for a v2 one; requests overlap. Children come from consolidated
 * metadata where there are some, else from listing the store; names that begin with a dot are passed over.
 */
DAMACY_API enum damacy_status damacy_open(const char *uri, const struct damacy_open_options *options, struct damacy_node **node,
                                          struct damacy_error *error);

/* The same for many uris at once, with one set of connections and requests that overlap.
 *
 * nodes   out: `count` of them, NULL where a uri failed; free each.
 * errors  optional: `count` of them, filled where a uri failed.
 * Returns OK if none failed; else the status of the first that did; TIMEOUT, SHUTDOWN or OOM, with all nodes NULL, when the
 * whole call failed.
 */
DAMACY_API enum damacy_status damacy_open_many(const char *const *uris, size_t count, const struct damacy_open_options *options,
                                               struct damacy_node **nodes, struct damacy_error *errors,
                                               struct damacy_error *error);

/* Free a root with all below it. NULL is allowed. */
DAMACY_API void damacy_node_free(struct damacy_node *node);

enum damacy_log_level { DAMACY_LOG_ERROR = 0, DAMACY_LOG_WARN = 1, DAMACY_LOG_INFO = 2, DAMACY_LOG_DEBUG = 3 };

/* What goes to stderr; default WARN. The environment's DAMACY_LOG=store,plan raises these rooms to DEBUG. Process-wide. */
DAMACY_API void damacy_set_log_level(enum damacy_log_level level);

/* true: nothing at all goes to stderr. Process-wide. */
DAMACY_API void damacy_set_log_quiet(bool quiet);

#ifdef __cplusplus
}
#endif
#endif
