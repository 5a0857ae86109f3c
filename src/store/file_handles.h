/* Open files, kept for the next read of the same path: a bounded cache shared by all threads of a file store.
 *
 * A hit takes no lock: one look at a line of eight entries, one increment, one comparison of paths. A miss takes the lock for a
 * moment and opens the file outside it. Which handle is closed to make room is found by a clock hand over the ones not in use
 * that spares those used since its last round: nearly least recently used, without a list that every hit would have to write.
 *
 *     FREE (0 references) --open--> IDLE (1: the cache's) <--acquire/release--> IN USE (1 + users)
 *       \--open, no place in the table--> PRIVATE (its users only; closed by the last release)
 */
#ifndef DMC_FILE_HANDLES_H
#define DMC_FILE_HANDLES_H

#include "base/thread.h"
#include "store/store.h"

#define DMC_HANDLE_PATH_BYTES 208 /* paths up to one less cost no malloc */

/* How files of one file system (st_dev) are read. */
enum dmc_read_mode {
    DMC_READ_NOWAIT, /* try RWF_NOWAIT; what would block goes to the ring. Every file system until it refuses */
    DMC_READ_INLINE, /* refuses RWF_NOWAIT, but lies in memory: plain preadv */
    DMC_READ_MIXED,  /* refuses it, local: plain preadv, through the ring while those turn out slow */
    DMC_READ_RING    /* refuses it, and may be far away: never here */
};
struct dmc_file_system {
    uint64_t device;              /* constant once published */
    _Atomic uint32_t mode;        /* enum dmc_read_mode; only ever leaves NOWAIT, once */
    _Atomic uint32_t slow_credit; /* MIXED: so many reads go to the ring before the next plain one */
};

struct dmc_file_handle {
    _Atomic uint32_t references;
    _Atomic bool recent; /* used since the clock hand passed */
    bool listed;         /* under the cache's lock */
    _Atomic bool waits;  /* O_NONBLOCK is off, see dmc_file_handle_wait() */
    int fd;              /* this and the rest are constant while there are references */
    uint64_t hash;
    uint64_t object_bytes; /* as found when opened */
    uint64_t version_tag;
    struct dmc_file_system *file_system;
    char *path; /* path_inline, or from the heap, or NULL: not known, so never found */
    uint32_t next_free;
    char path_inline[DMC_HANDLE_PATH_BYTES];
};

struct dmc_file_handles;

enum damacy_status dmc_file_handles_create(uint32_t open_files_max, struct dmc_file_handles **handles,
                                           struct damacy_error *error);
/* Closes everything. false: some handle is still in use, all was left as it is. */
bool dmc_file_handles_destroy(struct dmc_file_handles *handles);

enum dmc_handle_outcome {
    DMC_HANDLE_OK,
    DMC_HANDLE_OPENED, /* the same, and its facts are those of this very moment */
    DMC_HANDLE_ABSENT,
    DMC_HANDLE_WAIT,  /* as many files are in use as can be; dmc_io_resume() will be called on the waiter: try again then */
    DMC_HANDLE_FAILED /* the answer of the waiter says why */
};

/* A handle for `path`, whose hash is dmc_hash_bytes(path). `waiter` is the request it is for. */
enum dmc_handle_outcome dmc_file_handles_acquire(struct dmc_file_handles *handles, const char *path, uint64_t hash,
                                                 struct dmc_request *waiter, struct dmc_file_handle **handle);
void dmc_file_handle_release(struct dmc_file_handles *handles, struct dmc_file_handle *handle);

/* true: it was still waiting and is the caller's again. */
bool dmc_file_handles_stop_waiting(struct dmc_file_handles *handles, struct dmc_request *waiter);
/* A waiter that was resumed does not want a handle any more: wake the next one. */
void dmc_file_handles_pass_on(struct dmc_file_handles *handles);

/* Before the ring reads from it. */
void dmc_file_handle_wait(struct dmc_file_handle *handle);

/* The file system of `fd` refused RWF_NOWAIT: decide, once and for all of its files, how it is read. */
enum dmc_read_mode dmc_file_system_refused(struct dmc_file_system *file_system, int fd);

uint64_t dmc_file_version_tag(uint64_t bytes, int64_t mtime_s, int64_t mtime_ns, uint64_t inode);

/* Tests: how many are open now; the cache of a file store. */
uint32_t dmc_file_handles_open(struct dmc_file_handles *handles);
struct dmc_file_handles *dmc_store_file_handles(struct dmc_store *store);

#endif
