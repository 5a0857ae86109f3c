/* dmc_io: the reading end of one thread.
 *
 * The owner takes finished reads from its own ring; everything else comes through the inbox, a short list behind a small lock.
 * Waking costs a system call only if the owner sleeps: in the ring, when that has a read that may end, or else on a futex,
 * which is sleep_state itself and costs both sides less:
 *
 *       /--nothing to do, reads in the ring--> IN_RING --wake: write eventfd---\
 *     AWAKE--nothing to do-------------------> PARKED ---wake: futex----------> NOTIFIED --owner--> AWAKE
 *       \-------------------------------wake: no system call-------------------/
 *
 * Whoever puts something into the inbox does so, and wakes, under the lock: once the owner has got a request, its sender is
 * done with the dmc_io, which may then be destroyed. */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/io_internal.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

enum sleep_state { AWAKE, IN_RING, PARKED, NOTIFIED };

struct request_queue {
    struct dmc_request *first, *last;
};

struct dmc_io {
    /* constant */
    uint32_t depth;
    bool io_uring_never;
    int wake_fd;
    /* shared */
    struct dmc_mutex lock;
    struct request_queue shared_inbox DMC_GUARDED_BY(lock);
    _Atomic bool inbox_filled;    /* written under the lock; lets the owner look without it */
    _Atomic uint32_t sleep_state; /* enum sleep_state; partners: notify() and go_to_sleep() */
    _Atomic bool wake_wanted;     /* set by dmc_io_wake, used up by dmc_io_wait */
    /* owner */
    struct dmc_ring *ring;
    struct dmc_pool *pool;
    bool ring_refused;
    struct request_queue done; /* finished, not yet handed out; those started first come first */
    uint64_t started;
    uint32_t pending;
    struct dmc_request *table[]; /* the pending ones */
};

static void queue_append(struct request_queue *queue, struct dmc_request *request)
{
    request->next = NULL;
    if (queue->last)
        queue->last->next = request;
    else
        queue->first = request;
    queue->last = request;
}

/* Behind those that were started before it. */
static void queue_insert(struct request_queue *queue, struct dmc_request *request)
{
    if (!queue->last || queue->last->start_number < request->start_number) {
        queue_append(queue, request);
        return;
    }
    struct dmc_request **link = &queue->first;
    while ((*link)->start_number < request->start_number)
        link = &(*link)->next;
    request->next = *link;
    *link = request;
}

static struct dmc_request *queue_take(struct request_queue *queue)
{
    struct dmc_request *request = queue->first;
    if (request) {
        queue->first = request->next;
        if (!queue->first)
            queue->last = NULL;
        request->next = NULL;
    }
    return request;
}

enum damacy_status dmc_io_create(const struct dmc_io_options *options, struct dmc_io **out, struct damacy_error *error)
{
    uint32_t depth = options->depth ? options->depth : 1;
    struct dmc_io *io = dmc_calloc(1, sizeof *io + depth * sizeof io->table[0]);
    if (!io)
        return dmc_error_set(error, DAMACY_OOM, "read", "no memory for a queue of %u reads", depth);
    io->depth = depth;
    io->io_uring_never = options->io_uring_never;
    /* Without EFD_NONBLOCK: io_uring would refuse to wait for it. It is read only when there is something to read. */
    io->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (io->wake_fd < 0) {
        int os_error = errno;
        dmc_free(io);
        return dmc_error_set_os(error, DAMACY_IO, "read", os_error, "cannot create an eventfd");
    }
    dmc_mutex_init(&io->lock);
    *out = io;
    return DAMACY_OK;
}

uint32_t dmc_io_pending(const struct dmc_io *io)
{
    return io->pending;
}

/* --- waking --- */

static void notify(struct dmc_io *io)
{
    uint64_t one = 1;
    switch (atomic_exchange_explicit(&io->sleep_state, NOTIFIED, memory_order_acq_rel)) {
    case IN_RING:
        while (write(io->wake_fd, &one, sizeof one) < 0 && errno == EINTR) {
        }
        break;
    case PARKED:
        syscall(SYS_futex, &io->sleep_state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        break;
    default:
        break;
    }
}

void dmc_io_wake(struct dmc_io *io)
{
    atomic_store_explicit(&io->wake_wanted, true, memory_order_release);
    notify(io);
}

static void post(struct dmc_request *request, enum dmc_request_state state)
{
    struct dmc_io *io = request->io;
    atomic_store_explicit(&request->state, state, memory_order_release);
    dmc_mutex_lock(&io->lock);
    queue_append(&io->shared_inbox, request);
    atomic_store_explicit(&io->inbox_filled, true, memory_order_release);
    notify(io);
    dmc_mutex_unlock(&io->lock);
}

void dmc_io_complete(struct dmc_request *request)
{
    post(request, DMC_REQUEST_DONE);
}
void dmc_io_resume(struct dmc_request *request)
{
    post(request, DMC_REQUEST_RESUME);
}

/* Sleep while the state is PARKED, until the deadline or a signal. */
static void park(struct dmc_io *io, uint64_t deadline_ns)
{
    struct timespec deadline = {.tv_sec = (time_t)(deadline_ns / 1000000000u), .tv_nsec = (long)(deadline_ns % 1000000000u)};
    /* This form takes a moment of CLOCK_MONOTONIC, as deadlines are. */
    syscall(SYS_futex, &io->sleep_state, FUTEX_WAIT_BITSET_PRIVATE, PARKED, deadline_ns == UINT64_MAX ? NULL : &deadline, NULL,
            FUTEX_BITSET_MATCH_ANY);
}

/* Returns at once if anyone notified since the state was last AWAKE; the caller looks again. */
static void go_to_sleep(struct dmc_io *io, uint64_t deadline_ns)
{
    bool in_ring = io->ring && dmc_ring_busy(io->ring);
    uint32_t expected = AWAKE;
    if (atomic_compare_exchange_strong_explicit(&io->sleep_state, &expected, in_ring ? IN_RING : PARKED, memory_order_acq_rel,
                                                memory_order_acquire)) {
        if (in_ring)
            dmc_ring_sleep(io->ring, deadline_ns);
        else
            park(io, deadline_ns);
    }
    /* An exchange, not a store: it must see what the notifier did before. */
    atomic_exchange_explicit(&io->sleep_state, AWAKE, memory_order_acq_rel);
}

/* --- starting, finishing --- */

enum dmc_start dmc_store_start(struct dmc_io *io, struct dmc_request *request)
{
    struct dmc_store *store = request->store;
    dmc_request_reset(request);
    request->next = NULL;
    request->io = io;
    request->start_number = io->started++;
    request->holder = store;
    request->cancelled = false;
    request->fault = DMC_FAULT_NONE;
    request->frame_count = 0;
    request->cache_data = NULL;
    atomic_store_explicit(&request->state, DMC_REQUEST_PENDING, memory_order_relaxed);
    if (store->ops->start(store, io, request) == DMC_START_DONE) {
        atomic_store_explicit(&request->state, DMC_REQUEST_FREE, memory_order_relaxed);
        return DMC_START_DONE;
    }
    /* Its completion may lie in the inbox already; only this thread takes it from there. */
    assert(io->pending < io->depth);
    request->pending_index = io->pending;
    io->table[io->pending++] = request;
    return DMC_START_PENDING;
}

void dmc_store_cancel(struct dmc_io *io, struct dmc_request *request)
{
    if (request->cancelled)
        return;
    bool done = atomic_load_explicit(&request->state, memory_order_acquire) == DMC_REQUEST_DONE;
    if (done && request->frame_count == 0)
        return;
    request->cancelled = true; /* of a step that is done the store that goes on finds out */
    if (!done && request->holder->ops->cancel)
        request->holder->ops->cancel(request->holder, io, request);
}

static void finish(struct dmc_io *io, struct dmc_request *request)
{
    while (request->frame_count > 0) { /* a step is done: on to the store that asked for it */
        uint32_t frame_count = request->frame_count;
        struct dmc_store *store = request->frames[frame_count - 1].store;
        request->holder = store;
        atomic_store_explicit(&request->state, DMC_REQUEST_PENDING, memory_order_relaxed);
        if (store->ops->resume(store, io, request) == DMC_START_PENDING)
            return;
        assert(request->frame_count < frame_count);
        (void)frame_count;
    }
    if (request->store->ops->finish)
        request->store->ops->finish(request->store, request);
    atomic_store_explicit(&request->state, DMC_REQUEST_DONE, memory_order_relaxed);
    queue_insert(&io->done, request);
}

static void resume(struct dmc_io *io, struct dmc_request *request)
{
    /* Partner of the release in post() or dmc_ring_read(). */
    if (atomic_load_explicit(&request->state, memory_order_acquire) == DMC_REQUEST_DONE) {
        finish(io, request);
        return;
    }
    atomic_store_explicit(&request->state, DMC_REQUEST_PENDING, memory_order_relaxed);
    if (request->holder->ops->resume(request->holder, io, request) == DMC_START_DONE)
        finish(io, request);
}

static struct dmc_request *take_done(struct dmc_io *io)
{
    struct dmc_request *request = queue_take(&io->done);
    if (request) {
        struct dmc_request *moved = io->table[--io->pending];
        io->table[request->pending_index] = moved;
        moved->pending_index = request->pending_index;
        atomic_store_explicit(&request->state, DMC_REQUEST_FREE, memory_order_relaxed);
    }
    return request;
}

/* Whatever has come back since the last look. */
static void collect(struct dmc_io *io)
{
    struct dmc_request *request;
    if (io->ring)
        while ((request = dmc_ring_reap(io->ring)))
            resume(io, request);
    if (atomic_load_explicit(&io->inbox_filled, memory_order_acquire)) {
        dmc_mutex_lock(&io->lock);
        struct request_queue inbox = io->shared_inbox;
        io->shared_inbox = (struct request_queue){NULL, NULL};
        atomic_store_explicit(&io->inbox_filled, false, memory_order_relaxed);
        dmc_mutex_unlock(&io->lock);
        while ((request = queue_take(&inbox)))
            resume(io, request);
    }
}

struct dmc_request *dmc_io_wait(struct dmc_io *io, uint64_t deadline_ns)
{
    for (;;) {
        collect(io);
        struct dmc_request *request = take_done(io);
        if (request)
            return request;
        if (deadline_ns == 0 || atomic_exchange_explicit(&io->wake_wanted, false, memory_order_acq_rel))
            return NULL;
        if (deadline_ns != UINT64_MAX && dmc_clock_ns() >= deadline_ns)
            return NULL;
        go_to_sleep(io, deadline_ns);
    }
}

/* --- reading --- */

static bool has_ring(struct dmc_io *io)
{
    if (io->ring || io->io_uring_never || io->ring_refused)
        return io->ring != NULL;
    int os_error = dmc_ring_create(io->depth, io->wake_fd, &io->ring);
    if (os_error) {
        io->ring_refused = true;
        dmc_log(DMC_STORE, DAMACY_LOG_INFO, "no io_uring (error %d): reading with threads that block", os_error);
    }
    return io->ring != NULL;
}

enum dmc_start dmc_io_read(struct dmc_io *io, struct dmc_request *request, int fd, uint64_t offset)
{
    request->fd = fd;
    request->read_offset = offset;
    if (has_ring(io)) {
        if (dmc_ring_read(io->ring, request))
            return DMC_START_PENDING;
    } else {
        if (!io->pool)
            io->pool = dmc_pool_create(io->depth);
        if (io->pool && dmc_pool_read(io->pool, request))
            return DMC_START_PENDING;
    }
    request->result = dmc_request_preadv(request, fd, offset, 0);
    return DMC_START_DONE;
}

void dmc_io_read_cancel(struct dmc_io *io, struct dmc_request *request)
{
    if (io->ring) {
        dmc_ring_cancel(io->ring, request);
    } else if (io->pool && dmc_pool_take_back(io->pool, request)) {
        request->result = -ECANCELED;
        dmc_io_resume(request);
    }
}

/* --- the end --- */

bool dmc_io_destroy(struct dmc_io *io, uint64_t deadline_ns)
{
    if (!io)
        return true;
    for (uint32_t i = 0; i < io->pending; i++)
        dmc_store_cancel(io, io->table[i]);
    while (io->pending) {
        if (!dmc_io_wait(io, deadline_ns) && (deadline_ns == 0 || dmc_clock_ns() >= deadline_ns))
            break;
    }
    /* Nothing in flight: the ring and idle threads only have to say good-bye, which may take longer than a deadline of now. */
    uint64_t last_ns = dmc_clock_deadline(10000000000u);
    if (deadline_ns != UINT64_MAX && deadline_ns > last_ns)
        last_ns = deadline_ns;
    bool stuck = io->pending != 0;
    /* A ring with reads in flight stays: closing it would not stop them. Reader threads that are idle can go in any case. */
    if (!stuck && !dmc_ring_destroy(io->ring, last_ns))
        stuck = true;
    if (!dmc_pool_destroy(io->pool, stuck ? deadline_ns : last_ns))
        stuck = true;
    if (stuck) {
        dmc_log(DMC_STORE, DAMACY_LOG_WARN, "%u reads did not end in time and were left behind with their buffers",
                io->pending);
        return false;
    }
    /* A sender whose request has been handed out may still be on its way out of the lock. */
    dmc_mutex_lock(&io->lock);
    dmc_mutex_unlock(&io->lock);
    dmc_mutex_deinit(&io->lock);
    close(io->wake_fd);
    dmc_free(io);
    return true;
}
