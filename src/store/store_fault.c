/* Makes chosen requests of another store go wrong, for tests. What changes the answer is done when the answer is there: at once
 * if the inner store completed inside start, else in finish. */
#include "base/error.h"
#include "base/mem.h"
#include "store/io_internal.h"

#include <errno.h>

struct fault_store {
    struct dmc_store store;
    struct dmc_store *inner;
    enum dmc_fault (*choose)(void *user, uint64_t n, const char *key);
    void *user;
    _Atomic uint64_t count; /* of requests so far */
};

static struct fault_store *of(struct dmc_store *store)
{
    return (struct fault_store *)store;
}

/* Where the middle of the answer will be. Before the inner store starts, as it may move the parts along. */
static unsigned char *middle_of(const struct dmc_request *request)
{
    if (request->kind == DMC_RANGE_WHOLE) /* known only when the object is: its beginning */
        return request->part_count ? request->parts[0].iov_base : NULL;
    uint64_t position = dmc_request_capacity(request) / 2;
    for (uint32_t i = 0; i < request->part_count; i++) {
        if (position < request->parts[i].iov_len)
            return (unsigned char *)request->parts[i].iov_base + position;
        position -= request->parts[i].iov_len;
    }
    return NULL;
}

static void spoil(struct dmc_request *request)
{
    enum dmc_fault fault = (enum dmc_fault)request->fault;
    request->fault = DMC_FAULT_NONE;
    if (request->outcome != DMC_OUTCOME_OK)
        return;
    if (fault == DMC_FAULT_SHORT) {
        request->outcome = DMC_OUTCOME_TRUNCATED;
        request->bytes_read /= 2;
    } else if (fault == DMC_FAULT_FLIP && request->bytes_read) {
        request->fault_byte[request->kind == DMC_RANGE_WHOLE ? request->bytes_read / 2 : 0] ^= 0x10;
    }
}

static enum dmc_start fault_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    struct fault_store *outer = of(store);
    uint64_t n = atomic_fetch_add_explicit(&outer->count, 1, memory_order_relaxed);
    enum dmc_fault fault = outer->choose(outer->user, n, request->key);
    switch (fault) {
    case DMC_FAULT_FAIL:
        dmc_request_fail(request, DAMACY_IO, EIO, "cannot read the object");
        return DMC_START_DONE;
    case DMC_FAULT_ABSENT:
        request->outcome = DMC_OUTCOME_ABSENT;
        return DMC_START_DONE;
    case DMC_FAULT_HANG:
        request->holder = store;
        return DMC_START_PENDING;
    case DMC_FAULT_NONE:
    case DMC_FAULT_SHORT:
    case DMC_FAULT_FLIP:
        break;
    }
    request->fault = (uint8_t)fault;
    request->fault_byte = middle_of(request);
    request->holder = outer->inner;
    enum dmc_start start = outer->inner->ops->start(outer->inner, io, request);
    if (start == DMC_START_DONE)
        spoil(request);
    return start;
}

/* Only what hangs is held here. */
static void fault_cancel(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    (void)store;
    (void)io;
    dmc_request_fail_cancelled(request);
    dmc_io_complete(request);
}

static void fault_finish(struct dmc_store *store, struct dmc_request *request)
{
    struct dmc_store *inner = of(store)->inner;
    if (inner->ops->finish)
        inner->ops->finish(inner, request);
    spoil(request);
}

static enum damacy_status fault_list(struct dmc_store *store, const char *prefix, dmc_store_child_fn child, void *user,
                                     struct damacy_error *error)
{
    return dmc_store_list(of(store)->inner, prefix, child, user, error);
}

static void fault_hint(struct dmc_store *store, struct dmc_store_hint *hint)
{
    *hint = dmc_store_hint_of(of(store)->inner);
}

static void fault_destroy(struct dmc_store *store)
{
    dmc_free(store);
}

static const struct dmc_store_ops fault_ops = {.scheme = "fault",
                                               .start = fault_start,
                                               .cancel = fault_cancel,
                                               .finish = fault_finish,
                                               .list = fault_list,
                                               .hint = fault_hint,
                                               .destroy = fault_destroy};

enum damacy_status dmc_store_fault_create(struct dmc_store *inner,
                                          enum dmc_fault (*choose)(void *user, uint64_t n, const char *key), void *user,
                                          struct dmc_store **store, struct damacy_error *error)
{
    struct fault_store *fault = dmc_calloc(1, sizeof *fault);
    if (!fault)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the fault store");
    fault->store.ops = &fault_ops;
    fault->inner = inner;
    fault->choose = choose;
    fault->user = user;
    *store = &fault->store;
    return DAMACY_OK;
}
