/* A store in front of another one: it keeps the requests that a test wants kept until the test lets go of them, with
 * dmc_io_resume(). */
#ifndef HOLDING_STORE_H
#define HOLDING_STORE_H

#include "store/io_internal.h"

struct holding_store {
    struct dmc_store store;
    struct dmc_store *inner;
    /* A request is started, on the thread that does. true: it is kept; that it was let go of already does no harm. */
    bool (*hold)(void *user, struct dmc_request *request);
    void *user;
};

static inline enum dmc_start holding_resume(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    struct holding_store *holding = (struct holding_store *)store;
    request->holder = holding->inner;
    return holding->inner->ops->start(holding->inner, io, request);
}

static inline enum dmc_start holding_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    struct holding_store *holding = (struct holding_store *)store;
    request->holder = store;
    return holding->hold(holding->user, request) ? DMC_START_PENDING : holding_resume(store, io, request);
}

static inline struct holding_store holding_store_over(struct dmc_store *inner,
                                                      bool (*hold)(void *user, struct dmc_request *request), void *user)
{
    static const struct dmc_store_ops ops = {.scheme = "holding", .start = holding_start, .resume = holding_resume};
    return (struct holding_store){{.ops = &ops}, inner, hold, user};
}

#endif
