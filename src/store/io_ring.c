/* The one file that knows liburing: reads that would block, one ring per dmc_io.
 *
 * Each read is submitted at once: it only gets here after it was found to block, and the system call (under a microsecond) is
 * small beside the disk. The wake-up eventfd is read inside the ring, so that one wait waits for everything. */
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "store/io_internal.h"

#include <errno.h>
#include <liburing.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef IORING_SETUP_CLAMP
#define IORING_SETUP_CLAMP (1U << 4)
#endif

/* user_data of what is no request; requests are aligned, so no address is that small. */
enum { DATA_NOTHING = 0, DATA_WAKE = 1 };

struct dmc_ring {
    struct io_uring uring;
    int wake_fd;
    bool wake_armed;
    uint64_t wake_count; /* where the kernel puts the eventfd's counter */
    uint32_t in_flight;
};

static int ring_init(struct io_uring *uring, uint32_t depth)
{
    /* Two more for the eventfd and a cancel; the completion queue is twice as long, which holds the answers of all cancels. */
    uint32_t entries = depth > 32000 ? 32000 : depth + 2;
    return -io_uring_queue_init(entries, uring, IORING_SETUP_CLAMP);
}

int dmc_ring_create(uint32_t depth, int wake_fd, struct dmc_ring **out)
{
    struct dmc_ring *ring = dmc_calloc(1, sizeof *ring);
    if (!ring)
        return ENOMEM;
    int os_error = ring_init(&ring->uring, depth);
    if (os_error) {
        dmc_free(ring);
        return os_error;
    }
    ring->wake_fd = wake_fd;
    *out = ring;
    return 0;
}

enum damacy_status dmc_io_uring_probe(struct damacy_error *error)
{
    struct io_uring uring;
    int os_error = ring_init(&uring, 1);
    if (os_error)
        return dmc_error_set_os(error, DAMACY_UNSUPPORTED, "config", os_error, "io_uring cannot be used here");
    io_uring_queue_exit(&uring);
    return DAMACY_OK;
}

/* An entry of the submission queue, making room if need be. NULL: the kernel takes nothing now. */
static struct io_uring_sqe *ring_entry(struct dmc_ring *ring)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring->uring);
    if (!entry && io_uring_submit(&ring->uring) > 0)
        entry = io_uring_get_sqe(&ring->uring);
    return entry;
}

/* What the kernel does not take now stays in the queue and goes with the next submission or wait. */
static void ring_submit(struct dmc_ring *ring)
{
    while (io_uring_submit(&ring->uring) == -EINTR) {
    }
}

bool dmc_ring_read(struct dmc_ring *ring, struct dmc_request *request)
{
    struct io_uring_sqe *entry = ring_entry(ring);
    if (!entry)
        return false;
    uint32_t count = request->part_count - request->part_begin;
    io_uring_prep_readv(entry, request->fd, request->parts + request->part_begin,
                        count < DMC_READ_PARTS_MAX ? count : DMC_READ_PARTS_MAX, request->read_offset);
    io_uring_sqe_set_data(entry, request);
    ring->in_flight++;
    /* Partner of the acquire in dmc_ring_reap: sanitizers see no order through the kernel. */
    atomic_store_explicit(&request->state, DMC_REQUEST_PENDING, memory_order_release);
    ring_submit(ring);
    return true;
}

void dmc_ring_cancel(struct dmc_ring *ring, struct dmc_request *request)
{
    struct io_uring_sqe *entry = ring_entry(ring);
    if (!entry)
        return; /* then the read ends by itself */
    io_uring_prep_cancel(entry, request, 0);
    io_uring_sqe_set_data64(entry, DATA_NOTHING);
    ring_submit(ring);
}

struct dmc_request *dmc_ring_reap(struct dmc_ring *ring)
{
    struct io_uring_cqe *completion;
    while (ring->in_flight + ring->wake_armed && io_uring_peek_cqe(&ring->uring, &completion) == 0) {
        uint64_t data = io_uring_cqe_get_data64(completion);
        int32_t result = completion->res;
        io_uring_cqe_seen(&ring->uring, completion);
        if (data == DATA_WAKE)
            ring->wake_armed = false;
        if (data == DATA_WAKE || data == DATA_NOTHING)
            continue;
        struct dmc_request *request = (struct dmc_request *)(uintptr_t)data;
        (void)atomic_load_explicit(&request->state, memory_order_acquire);
        request->result = result;
        ring->in_flight--;
        return request;
    }
    return NULL;
}

bool dmc_ring_busy(const struct dmc_ring *ring)
{
    return ring->in_flight != 0;
}

void dmc_ring_sleep(struct dmc_ring *ring, uint64_t deadline_ns)
{
    struct io_uring_sqe *entry = ring->wake_armed ? NULL : ring_entry(ring);
    if (entry) {
        io_uring_prep_read(entry, ring->wake_fd, &ring->wake_count, sizeof ring->wake_count, 0);
        io_uring_sqe_set_data64(entry, DATA_WAKE);
        ring->wake_armed = true;
    }
    struct __kernel_timespec timeout, *limit = NULL;
    if (deadline_ns != UINT64_MAX) {
        uint64_t now = dmc_clock_ns(), left = deadline_ns > now ? deadline_ns - now : 0;
        timeout =
            (struct __kernel_timespec){.tv_sec = (long long)(left / 1000000000u), .tv_nsec = (long long)(left % 1000000000u)};
        limit = &timeout;
    }
    struct io_uring_cqe *completion;
    int result = io_uring_submit_and_wait_timeout(&ring->uring, &completion, 1, limit, NULL);
    if (result == -EAGAIN || result == -EBUSY || result == -ENOMEM) {
        /* The kernel is short of something: come back in a moment instead of spinning. */
        struct timespec pause = {.tv_nsec = 1000000};
        nanosleep(&pause, NULL);
    }
}

bool dmc_ring_destroy(struct dmc_ring *ring, uint64_t deadline_ns)
{
    if (!ring)
        return true;
    /* The kernel must not write to wake_count after the free: let its read of the eventfd end. */
    if (ring->wake_armed) {
        uint64_t one = 1;
        if (write(ring->wake_fd, &one, sizeof one) != sizeof one)
            return false;
    }
    while (ring->wake_armed) {
        dmc_ring_reap(ring);
        if (!ring->wake_armed)
            break;
        if (dmc_clock_ns() >= deadline_ns)
            return false;
        dmc_ring_sleep(ring, deadline_ns);
    }
    io_uring_queue_exit(&ring->uring);
    dmc_free(ring);
    return true;
}
