/* What waits to be written to the cache, and the thread that does it.
 *
 * The queue is one piece of memory used round and round: a worker takes room for a job under the lock, fills it without, and
 * marks it full; the thread takes jobs in the order in which their room was taken. No room: the bytes are not kept. */
#ifndef DMC_CACHE_WRITER_H
#define DMC_CACHE_WRITER_H

#include "store/cache_file.h"
#include "store/cache_space.h"

struct dmc_cache_queue;

struct dmc_cache_queue_options {
    struct dmc_cache_files *files;
    struct dmc_cache_space *space; /* the thread's alone until it is stopped */
    uint64_t bytes;
    int (*write_fault)(void *user, uint64_t n);
    void *write_fault_user;
};

/* Counted by the thread; any thread may read. */
struct dmc_cache_queue_counts {
    _Atomic uint64_t stored_bytes, dropped_bytes, evicted_bytes;
    _Atomic bool writes_off; /* a write failed: nothing is kept any more */
};

enum damacy_status dmc_cache_queue_create(const struct dmc_cache_queue_options *options, struct dmc_cache_queue **queue,
                                          struct damacy_error *error);
/* Writes what is queued until the deadline, drops the rest. */
void dmc_cache_queue_destroy(struct dmc_cache_queue *queue, uint64_t deadline_ns);
struct dmc_cache_queue_counts *dmc_cache_queue_counts(struct dmc_cache_queue *queue);

/* Keep [begin, begin + bytes) of an object, copied from the parts. Never waits. Any thread. */
void dmc_cache_queue_put(struct dmc_cache_queue *queue, const struct dmc_cache_name *name, uint64_t tag, uint64_t object_bytes,
                         uint64_t begin, const struct iovec *parts, uint32_t part_count, uint64_t bytes);
/* Wait until the queue is empty. */
void dmc_cache_queue_flush(struct dmc_cache_queue *queue);

#endif
