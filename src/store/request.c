/* What every store does with a request: its parts, its failure, and the way into a store. */
#include "base/error.h"
#include "base/mem.h"
#include "store/io_internal.h"

#include <errno.h>
#include <sys/uio.h>

void dmc_request_fail(struct dmc_request *request, enum damacy_status status, int os_error, const char *what)
{
    request->outcome = DMC_OUTCOME_FAILED;
    request->status = status;
    if (os_error)
        dmc_error_set_os(request->error, status, "read", os_error, "%s", what);
    else
        dmc_error_set(request->error, status, "read", "%s", what);
}

void dmc_request_fail_cancelled(struct dmc_request *request)
{
    dmc_request_fail(request, DAMACY_SHUTDOWN, 0, "the read was cancelled");
}

int32_t dmc_request_preadv(struct dmc_request *request, int fd, uint64_t offset, int flags)
{
    uint32_t count = request->part_count - request->part_begin;
    ssize_t bytes;
    do {
        bytes = preadv2(fd, request->parts + request->part_begin,
                        (int)(count < DMC_READ_PARTS_MAX ? count : DMC_READ_PARTS_MAX), (off_t)offset, flags);
    } while (bytes < 0 && errno == EINTR);
    return bytes < 0 ? -errno : (int32_t)bytes;
}

void dmc_request_advance(struct dmc_request *request, uint64_t bytes)
{
    request->read_bytes += bytes;
    while (request->part_begin < request->part_count) {
        struct iovec *part = &request->parts[request->part_begin];
        if (bytes < part->iov_len) {
            part->iov_base = (char *)part->iov_base + bytes;
            part->iov_len -= bytes;
            return;
        }
        bytes -= part->iov_len;
        request->part_begin++;
    }
}

uint64_t dmc_request_asked(const struct dmc_request *request)
{
    uint64_t bytes = 0;
    for (uint32_t i = request->part_begin; i < request->part_count && i - request->part_begin < DMC_READ_PARTS_MAX; i++) {
        bytes += request->parts[i].iov_len;
        if (bytes >= DMC_READ_BYTES_MAX)
            return DMC_READ_BYTES_MAX;
    }
    return bytes;
}

uint64_t dmc_request_capacity(const struct dmc_request *request)
{
    uint64_t bytes = 0;
    for (uint32_t i = request->part_begin; i < request->part_count; i++)
        bytes += request->parts[i].iov_len;
    return bytes;
}

void dmc_store_destroy(struct dmc_store *store)
{
    if (store)
        store->ops->destroy(store);
}
