/* Stores: where objects live. Asynchronous, vectored, cancellable; written so that network stores fit.
 *
 * A thread that reads has a dmc_io of its own: its queue of outstanding requests, its ring, its wake-up. It starts requests
 * against any store; each either completes inside the start or is handed back later by dmc_io_wait() on the same dmc_io. Stores
 * that complete in threads of their own post to the dmc_io's inbox and wake it.
 *
 *     FREE --start--> PENDING --(kernel, network, timer)--> DONE --dmc_io_wait()--> FREE
 *        \____________ completes inside start: start says so, wait does not return it ____/
 *
 * `absent` is only what the store definitely says is not there; everything else is a failure. */
#ifndef DMC_STORE_H
#define DMC_STORE_H

#include "base/thread.h"
#include "damacy/damacy.h"
#include <stdatomic.h>
#include <sys/uio.h>

struct dmc_store;
struct dmc_io;

enum dmc_range_kind {
    DMC_RANGE_WHOLE, /* the whole object, into one iovec; longer than that is DMC_OUTCOME_TOO_LONG */
    DMC_RANGE_SPAN,  /* [offset, offset + sum of iovecs) */
    DMC_RANGE_SUFFIX /* the last (sum of iovecs) bytes; an object shorter than that is TRUNCATED, and nothing is read */
};

enum dmc_outcome {
    DMC_OUTCOME_OK,
    DMC_OUTCOME_ABSENT,    /* no such object */
    DMC_OUTCOME_TRUNCATED, /* the object ends before the range does; bytes_read tells how much there was */
    DMC_OUTCOME_TOO_LONG,  /* WHOLE: the object does not fit; object_bytes tells its size; nothing useful was read */
    DMC_OUTCOME_FAILED /* error is set: DAMACY_IO, DAMACY_SHUTDOWN when cancelled, or what a container says: DECODE, BUDGET, ...
                        */
};

/* What a store that reads in place of another one, or in several steps, keeps of a request meanwhile (redirect.h). */
#define DMC_REQUEST_FRAMES 2 /* so many such stores may be in one another */
struct dmc_request_frame {
    struct dmc_store *store; /* its resume is called when the step is over */
    const char *key;         /* what the request said before, and says again at the end */
    uint64_t key_hash;
    uint64_t offset;
    enum dmc_range_kind kind;
    uint32_t part_count;
    struct iovec *parts;
    uint64_t capacity;    /* of the parts */
    uint64_t length;      /* how much of it the object has */
    unsigned char *bytes; /* where the first part begins */
    void *data;           /* the store's, and so are the next three */
    uint32_t step;
    struct iovec part;
    unsigned char scratch[32];
};

/* One request. The caller fills the first group and keeps it and the buffers alive and unmoved until it is done. */
struct dmc_request {
    /* constant while outstanding */
    struct dmc_store *store;
    const char *key;   /* path of the object inside the store; '/' between parts; zero-terminated */
    uint64_t key_hash; /* dmc_hash_bytes(key, strlen(key), 0), so that hot paths hash once; 0: not known */
    enum dmc_range_kind kind;
    uint64_t offset;     /* SPAN */
    struct iovec *parts; /* where the bytes go, in order; the store may change them while it works */
    uint32_t part_count;
    struct damacy_error *error; /* the caller's, or NULL; written only for FAILED, without uri, which the caller adds */
    bool metadata;              /* small, and something waits for it: network stores let it pass chunks */
    uint64_t
        ahead_bytes; /* SUFFIX, SPAN, one part: so many bytes in front of the suffix, or behind the span, will be asked for
                      * soon. Where ops->ahead allows for it they come along; what the object lacks of them is not missed */
    uint64_t
        begin_ns; /* when the reading of what it belongs to (a batch) began, which network stores may bound; 0: no matter */
    void *user;
    /* the answer, valid once done */
    enum dmc_outcome outcome;
    enum damacy_status status; /* FAILED: the error's; else OK */
    uint64_t bytes_read;       /* TRUNCATED: how many bytes of the range there were (they are in the parts) */
    uint64_t object_bytes;     /* total size if the store told it, else UINT64_MAX */
    uint64_t version_tag;      /* changes when the object does (mtime and size, or ETag hash); 0: unknown */
    /* private to the stores and dmc_io (io_internal.h tells who may touch what when); set by dmc_store_start */
    struct dmc_request *next;
    struct dmc_io *io;
    uint64_t start_number;    /* of all that its dmc_io started */
    struct dmc_store *holder; /* of a chain of decorators, the store that works on it now */
    _Atomic uint32_t state;
    uint32_t pending_index; /* its place in the dmc_io's table */
    bool cancelled;
    uint8_t fault; /* enum dmc_fault still to be done to the answer, and where */
    unsigned char *fault_byte;
    int32_t result; /* of the last read: bytes, or -errno */
    int32_t fd;
    uint32_t part_begin;  /* first part that is not full yet */
    uint64_t read_offset; /* where in the file the read that is under way begins */
    uint64_t range_begin; /* where in the file the range begins */
    uint64_t length;      /* of the range */
    uint64_t read_bytes;  /* of the range, so far */
    uint64_t due_ns;
    void *store_data;
    void *cache_data; /* of the decorator that keeps ranges on disk; NULL at the start */
    uint32_t frame_count;
    struct dmc_request_frame frames[DMC_REQUEST_FRAMES];
};

enum dmc_start { DMC_START_DONE, DMC_START_PENDING };

/* Start a request. DONE: the answer is there now. PENDING: dmc_io_wait() will return it, exactly once. Never blocks for long:
 * what would block goes to the ring or a helper thread (opening a file is the exception that the file store documents). */
enum dmc_start dmc_store_start(struct dmc_io *io, struct dmc_request *request);

/* Ask that a pending request of this dmc_io ends early; it still comes back through dmc_io_wait(), FAILED with SHUTDOWN unless
 * it was quicker. Same thread as start. */
void dmc_store_cancel(struct dmc_io *io, struct dmc_request *request);

/* --- dmc_io: the reading end of one thread --- */

struct dmc_io_options {
    uint32_t depth;      /* most requests pending at once; starting more is a bug */
    bool io_uring_never; /* use the pool of blocking readers instead of a ring */
};

/* OK if this process may make an io_uring; else UNSUPPORTED with the reason (old kernel, seccomp, sysctl, ...). */
enum damacy_status dmc_io_uring_probe(struct damacy_error *error);

/* Made by any thread, then used by one at a time; the ring is set up at the first request that would block. Where io_uring is
 * not to be had, a few threads that block in its stead are started as they are needed. A thread should destroy its dmc_io
 * before it ends: the kernel cancels the reads of a thread that exits. */
enum damacy_status dmc_io_create(const struct dmc_io_options *options, struct dmc_io **io, struct damacy_error *error);

/* Cancels what is pending and waits for it until the deadline. What is still stuck then is left behind with its memory, and
 * false is returned: the caller must not free the buffers of those requests. */
bool dmc_io_destroy(struct dmc_io *io, uint64_t deadline_ns);

uint32_t dmc_io_pending(const struct dmc_io *io);

/* Of the finished requests the one that was started first, or NULL: they come back in any order, over a network far out of it,
 * and a batch that is waited for next must not stand behind later ones. Waits until one is finished, dmc_io_wake() was called,
 * or the deadline (0 polls). A wake is used up only by a wait with a deadline that returns NULL, so a poll or a finished
 * request never hides one. */
struct dmc_request *dmc_io_wait(struct dmc_io *io, uint64_t deadline_ns);

/* Make the current or the next dmc_io_wait() return. Any thread. One system call, and none while the owner is awake. */
void dmc_io_wake(struct dmc_io *io);

/* --- for stores: complete a pending request from another thread --- */
void dmc_io_complete(struct dmc_request *request);

/* --- stores --- */

/* How reads of a store are best put together; a 0 is no opinion. */
struct dmc_store_hint {
    uint64_t coalesce_gap_bytes;      /* reading that much in vain costs less than another request */
    uint64_t coalesce_read_bytes_max; /* a longer request gains nothing */
    bool remote;                      /* there is a network in between: requests are worth saving */
    bool files;                       /* keys are paths of files of this machine, which hold the objects as they are */
};

/* One child of a prefix: an object, or a prefix of further ones. The name is valid during the call. false: enough. */
typedef bool (*dmc_store_child_fn)(const char *name, bool is_prefix, void *user);

/* What a kind of store implements. A table and not a switch: tests add decorators. */
struct dmc_store_ops {
    const char *scheme; /* "file", "memory", ... for messages */
    enum dmc_start (*start)(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request);
    /* Go on with a request after dmc_io_read(), dmc_io_resume() or a step (redirect.h), on the thread of its dmc_io. NULL: uses
     * none. */
    enum dmc_start (*resume)(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request);
    /* The request is pending with this store: end it early with dmc_request_fail() and dmc_io_complete(). NULL: cannot. */
    void (*cancel)(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request);
    /* Decorators: a pending request is done; change the answer (after the inner store has). NULL: nothing to change. */
    void (*finish)(struct dmc_store *store, struct dmc_request *request);
    /* See dmc_store_list. NULL: cannot. */
    enum damacy_status (*list)(struct dmc_store *store, const char *prefix, dmc_store_child_fn child, void *user,
                               struct damacy_error *error);
    /* Someone will ask for [offset, offset + bytes) of an object soon. Any thread. What comes of it is the store's. NULL:
     * nothing. */
    void (*expect)(struct dmc_store *store, const char *key, uint64_t key_hash, uint64_t offset, uint64_t bytes);
    /* How long `ahead_bytes` of a request may be now for one request to be quicker than two, and for what comes along to be
     * kept until it is asked for; 0: they would be ignored. Any thread. NULL: 0. */
    uint64_t (*ahead)(struct dmc_store *store);
    /* Any thread, at any time: networks learn. NULL: no opinion. */
    void (*hint)(struct dmc_store *store, struct dmc_store_hint *hint);
    void (*destroy)(struct dmc_store *store);
};
struct dmc_store {
    const struct dmc_store_ops *ops;
};
/* NULL allowed. Nothing may be pending, except what a dmc_io_destroy() left behind: then the store is left behind, too. */
void dmc_store_destroy(struct dmc_store *store);

/* The immediate children of `prefix` (as dmc_stores_resolve wrote it: without a slash at its end; "" is the root), in no order.
 * A name may come twice, as an object and as a prefix. What is not there has no children. Blocks for as long as the store
 * takes. UNSUPPORTED: this store cannot list. BUDGET: more than DMC_STORE_LIST_MAX children. */
#define DMC_STORE_LIST_MAX 1000000u
enum damacy_status dmc_store_list(struct dmc_store *store, const char *prefix, dmc_store_child_fn child, void *user,
                                  struct damacy_error *error);

struct dmc_store_hint dmc_store_hint_of(struct dmc_store *store);

struct dmc_store_file_options {
    uint32_t open_files_max; /* most files open at once, least recently used closed first; fewer when the process runs out of
                              * descriptors. 0: the smaller of 8192 and half of RLIMIT_NOFILE */
};
/* Files. Keys are paths (absolute, or relative to the working directory). A folder, FIFO, socket or device in place of a file
 * is FAILED and never waited for. ENOENT and ENOTDIR are ABSENT; ELOOP, EACCES, EIO, ... are FAILED. Files are opened inside
 * start, which blocks for as long as the file system takes to look a name up; so is the reading of what is in the page cache.
 * When as many files are in use as may be open, a request waits for one to come free. A file stays the one that was opened,
 * also when its name is removed or given to another. */
enum damacy_status dmc_store_file_create(const struct dmc_store_file_options *options, struct dmc_store **store,
                                         struct damacy_error *error);

/* Objects in memory; reads complete inside start. put copies; a NULL data removes. Any thread. */
enum damacy_status dmc_store_memory_create(struct dmc_store **store, struct damacy_error *error);
enum damacy_status dmc_store_memory_put(struct dmc_store *store, const char *key, const void *data, size_t bytes,
                                        struct damacy_error *error);

/* --- decorators, for tests: wrap another store (not owned) --- */

/* Each request completes `delay_ns(user, key)` later, from a timer thread: out of order when delays differ. */
enum damacy_status dmc_store_delay_create(struct dmc_store *inner, uint64_t (*delay_ns)(void *user, const char *key),
                                          void *user, struct dmc_store **store, struct damacy_error *error);

enum dmc_fault { DMC_FAULT_NONE, DMC_FAULT_FAIL, DMC_FAULT_SHORT, DMC_FAULT_ABSENT, DMC_FAULT_FLIP, DMC_FAULT_HANG };
/* The n-th request (from 0, counted over all threads) suffers what `choose` says: it fails with EIO, is TRUNCATED half way, is
 * ABSENT, has one bit flipped in the middle, or hangs until cancelled. At most one such store in a chain of decorators. */
enum damacy_status dmc_store_fault_create(struct dmc_store *inner,
                                          enum dmc_fault (*choose)(void *user, uint64_t n, const char *key), void *user,
                                          struct dmc_store **store, struct damacy_error *error);

/* --- uris --- */

/* The stores of one pipeline, by scheme. A uri is a path (taken as it is), file://PATH or file:/PATH (absolute,
 * percent-decoded, empty or "localhost" host), or memory://NAME (only where a memory store was set).
 *
 * A component of a path that is a regular file, or an object behind a network, is a store of its own: a zip file (.zip, .ozx),
 * or kerchunk references (.json); the rest of the path lies inside. It is read at the first resolve that meets it, which waits
 * for it, and stays as it was then; each is one store, however often it is named, and there are at most 65536. */
struct dmc_stores;
struct dmc_stores_options {
    struct dmc_store_file_options file;
    const char *storage_options;  /* of the network stores: a JSON object as text, read at create; NULL: none */
    uint64_t container_bytes_max; /* most memory that tables of zip and reference files and inflated entries take; 0: 1 GiB */
    uint64_t
        network_bytes_max; /* most memory of the network stores: libcurl's, versions seen, the disk cache's queue; 0: 128 MiB */
};
#define DMC_CONTAINER_BYTES_DEFAULT (1ull << 30)
#define DMC_NETWORK_BYTES_DEFAULT (128ull << 20)
/* NULL options: all defaults. */
enum damacy_status dmc_stores_create(const struct dmc_stores_options *options, struct dmc_stores **stores,
                                     struct damacy_error *error);
void dmc_stores_destroy(struct dmc_stores *stores);
/* Whoever waits for a network in dmc_stores_resolve gives up soon, with SHUTDOWN. Any thread. */
void dmc_stores_stop(struct dmc_stores *stores);
/* Tests: use `store` (not owned) for `scheme` ("file" or "memory"). Before the first resolve. */
void dmc_stores_set(struct dmc_stores *stores, const char *scheme, struct dmc_store *store);

/* Of the network stores: fill all but struct_size. Any thread. */
void dmc_stores_remote_stats(struct dmc_stores *stores, struct damacy_remote_stats *stats);

/* Which store, and the key prefix of the array in it, written to `prefix` without a trailing slash (an object's key is prefix,
 * '/', name). UNSUPPORTED for another scheme, INVAL for a uri that makes no sense; for a zip or reference file whatever opening
 * it says. Any thread; the store stays as long as the stores. */
enum damacy_status dmc_stores_resolve(struct dmc_stores *stores, const char *uri, struct dmc_store **store, char *prefix,
                                      size_t capacity, struct damacy_error *error);

#endif
