/* What stores and the parts of a dmc_io share.
 *
 * A request is always touched by one thread at a time: its owner (the thread of its dmc_io), except between the moment its
 * store gives it away (to a ring, a reader thread, a timer, a list of waiters) and the moment it comes back through the dmc_io:
 *
 *     PENDING --dmc_io_resume(), or a ring's completion--> owner calls ops->resume --> PENDING again, or DONE
 *        \----dmc_io_complete()---------------------------> owner finds it DONE
 *
 * So a store does each of its steps on the owner's thread, where the ring is. */
#ifndef DMC_STORE_IO_INTERNAL_H
#define DMC_STORE_IO_INTERNAL_H

#include "store/store.h"

enum dmc_request_state { DMC_REQUEST_FREE, DMC_REQUEST_PENDING, DMC_REQUEST_RESUME, DMC_REQUEST_DONE };

/* No call reads more (the kernel's MAX_RW_COUNT) or takes more parts (IOV_MAX). */
#define DMC_READ_BYTES_MAX 0x7ffff000u
#define DMC_READ_PARTS_MAX 1024u

/* Owner: read from `fd` at `offset` into the parts from part_begin on. PENDING: resume is called later. DONE: neither ring nor
 * thread could be had, so it was read here. Either way request->result tells how it went; it may be short. */
enum dmc_start dmc_io_read(struct dmc_io *io, struct dmc_request *request, int fd, uint64_t offset);

/* Owner: ask that the read under way ends early. It still comes back through resume. */
void dmc_io_read_cancel(struct dmc_io *io, struct dmc_request *request);

/* Any thread that holds the request: have its owner call ops->resume of its holder. */
void dmc_io_resume(struct dmc_request *request);

/* Set the answer to FAILED. os_error 0: none. */
void dmc_request_fail(struct dmc_request *request, enum damacy_status status, int os_error, const char *what);
void dmc_request_fail_cancelled(struct dmc_request *request);

/* One call: the parts that are not full yet, with `flags` for preadv2. Bytes, or -errno; EINTR is retried. */
int32_t dmc_request_preadv(struct dmc_request *request, int fd, uint64_t offset, int flags);

/* `bytes` of the parts from part_begin on have been filled. */
void dmc_request_advance(struct dmc_request *request, uint64_t bytes);

/* How many bytes one call could read at most: what is missing in the parts, bounded by the kernel's limits. */
uint64_t dmc_request_asked(const struct dmc_request *request);

/* Sum of the parts' lengths. */
uint64_t dmc_request_capacity(const struct dmc_request *request);

/* No answer yet, nothing read yet. */
void dmc_request_reset(struct dmc_request *request);

/* Answer from an object that lies in memory; version_tag is the caller's to set. */
void dmc_request_answer(struct dmc_request *request, const void *object, uint64_t object_bytes);

/* --- io_ring.c: an io_uring; one thread at a time --- */

struct dmc_ring;

/* 0 or an errno. `wake_fd` is an eventfd that ends waits. */
int dmc_ring_create(uint32_t depth, int wake_fd, struct dmc_ring **ring);
/* Nothing may be in flight. false: the kernel did not let go in time, the ring was left behind. */
bool dmc_ring_destroy(struct dmc_ring *ring, uint64_t deadline_ns);
/* false: the kernel takes no more now. */
bool dmc_ring_read(struct dmc_ring *ring, struct dmc_request *request);
void dmc_ring_cancel(struct dmc_ring *ring, struct dmc_request *request);
/* The next request whose read is over, its result set, or NULL. No system call. */
struct dmc_request *dmc_ring_reap(struct dmc_ring *ring);
/* Is a read in flight? Otherwise nothing but the eventfd would end dmc_ring_sleep(). */
bool dmc_ring_busy(const struct dmc_ring *ring);
/* Sleep until a read is over, the eventfd is written, the deadline, or a signal. */
void dmc_ring_sleep(struct dmc_ring *ring, uint64_t deadline_ns);

/* --- io_pool.c: threads that block, for one dmc_io --- */

struct dmc_pool;

struct dmc_pool *dmc_pool_create(uint32_t depth); /* NULL: no memory */
/* false: a thread is stuck in a read; all is left behind. */
bool dmc_pool_destroy(struct dmc_pool *pool, uint64_t deadline_ns);
/* Queue the read; false: there is no thread and none can be started. */
bool dmc_pool_read(struct dmc_pool *pool, struct dmc_request *request);
/* true: it was still queued and is the caller's again. */
bool dmc_pool_take_back(struct dmc_pool *pool, struct dmc_request *request);

#endif
