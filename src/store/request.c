/* What every store does with a request: its parts, its failure, and the way into a store. */
#include "base/bytes.h"
#include "base/error.h"
#include "store/io_internal.h"

#include <errno.h>
#include <string.h>
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

void dmc_request_reset(struct dmc_request *request)
{
    request->outcome = DMC_OUTCOME_OK;
    request->status = DAMACY_OK;
    request->bytes_read = 0;
    request->object_bytes = UINT64_MAX;
    request->version_tag = 0;
    request->part_begin = 0;
    request->read_bytes = 0;
    request->store_data = NULL;
}

void dmc_request_answer(struct dmc_request *request, const void *object, uint64_t object_bytes)
{
    uint64_t capacity = dmc_request_capacity(request), begin = 0;
    request->object_bytes = object_bytes;
    if (request->kind == DMC_RANGE_SPAN)
        begin = dmc_min_u64(request->offset, object_bytes);
    if (request->kind == DMC_RANGE_WHOLE && object_bytes > capacity) {
        request->outcome = DMC_OUTCOME_TOO_LONG;
        return;
    }
    if (request->kind == DMC_RANGE_SUFFIX) {
        if (object_bytes < capacity) {
            request->outcome = DMC_OUTCOME_TRUNCATED;
            return;
        }
        begin = object_bytes - capacity;
    }
    uint64_t left = dmc_min_u64(capacity, object_bytes - begin);
    request->bytes_read = left;
    if (left < capacity && request->kind != DMC_RANGE_WHOLE)
        request->outcome = DMC_OUTCOME_TRUNCATED;
    for (const unsigned char *from = (const unsigned char *)object + begin; left > 0;) {
        const struct iovec *part = &request->parts[request->part_begin];
        uint64_t bytes = dmc_min_u64(left, part->iov_len);
        memcpy(part->iov_base, from, bytes);
        from += bytes;
        left -= bytes;
        request->part_begin++;
    }
}

enum damacy_status dmc_store_list(struct dmc_store *store, const char *prefix, dmc_store_child_fn child, void *user,
                                  struct damacy_error *error)
{
    if (!store->ops->list)
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "list", "a %s store cannot list what it has", store->ops->scheme);
    return store->ops->list(store, prefix, child, user, error);
}

struct dmc_store_hint dmc_store_hint_of(struct dmc_store *store)
{
    struct dmc_store_hint hint = {0};
    if (store->ops->hint)
        store->ops->hint(store, &hint);
    return hint;
}

void dmc_store_destroy(struct dmc_store *store)
{
    if (store)
        store->ops->destroy(store);
}
