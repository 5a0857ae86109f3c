/* Delays every request of another store: a timer thread holds them in a list sorted by when they are due, then sends them back
 * to their owner, which starts them there. For tests, and for measuring how latency is hidden. */
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "store/io_internal.h"

struct delay_store {
    struct dmc_store store;
    /* constant */
    struct dmc_store *inner;
    uint64_t (*delay_ns)(void *user, const char *key);
    void *user;
    pthread_t thread;
    /* shared */
    struct dmc_mutex lock;
    struct dmc_cond changed;                               /* the first of the list is another, or stop */
    struct dmc_request *shared_first DMC_GUARDED_BY(lock); /* by due_ns; equal ones in order of start */
    bool shared_stop DMC_GUARDED_BY(lock);
};

static struct delay_store *of(struct dmc_store *store)
{
    return (struct delay_store *)store;
}

static void *delay_run(void *argument)
{
    struct delay_store *delay = argument;
    dmc_mutex_lock(&delay->lock);
    while (!delay->shared_stop) {
        struct dmc_request *request = delay->shared_first;
        if (!request) {
            dmc_cond_wait(&delay->changed, &delay->lock);
        } else if (dmc_clock_ns() < request->due_ns) {
            dmc_cond_wait_until(&delay->changed, &delay->lock, request->due_ns);
        } else {
            delay->shared_first = request->next;
            dmc_io_resume(request);
        }
    }
    dmc_mutex_unlock(&delay->lock);
    return NULL;
}

static enum dmc_start delay_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    (void)io;
    struct delay_store *delay = of(store);
    request->holder = store;
    request->due_ns = dmc_clock_deadline(delay->delay_ns(delay->user, request->key));
    dmc_mutex_lock(&delay->lock);
    struct dmc_request **link = &delay->shared_first;
    while (*link && (*link)->due_ns <= request->due_ns)
        link = &(*link)->next;
    request->next = *link;
    *link = request;
    if (delay->shared_first == request)
        dmc_cond_signal(&delay->changed);
    dmc_mutex_unlock(&delay->lock);
    return DMC_START_PENDING;
}

static enum dmc_start delay_resume(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    struct delay_store *delay = of(store);
    if (request->cancelled) {
        dmc_request_fail_cancelled(request);
        return DMC_START_DONE;
    }
    request->holder = delay->inner;
    return delay->inner->ops->start(delay->inner, io, request);
}

static void delay_cancel(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    (void)io;
    struct delay_store *delay = of(store);
    dmc_mutex_lock(&delay->lock);
    struct dmc_request **link = &delay->shared_first;
    while (*link && *link != request)
        link = &(*link)->next;
    bool found = *link != NULL;
    if (found)
        *link = request->next;
    dmc_mutex_unlock(&delay->lock);
    if (found) { /* else it is on its way back and will find that it was cancelled */
        dmc_request_fail_cancelled(request);
        dmc_io_complete(request);
    }
}

static void delay_finish(struct dmc_store *store, struct dmc_request *request)
{
    struct dmc_store *inner = of(store)->inner;
    if (inner->ops->finish)
        inner->ops->finish(inner, request);
}

static enum damacy_status delay_list(struct dmc_store *store, const char *prefix, dmc_store_child_fn child, void *user,
                                     struct damacy_error *error)
{
    return dmc_store_list(of(store)->inner, prefix, child, user, error);
}

static void delay_hint(struct dmc_store *store, struct dmc_store_hint *hint)
{
    *hint = dmc_store_hint_of(of(store)->inner);
}

static void delay_destroy(struct dmc_store *store)
{
    struct delay_store *delay = of(store);
    dmc_mutex_lock(&delay->lock);
    delay->shared_stop = true;
    dmc_cond_signal(&delay->changed);
    dmc_mutex_unlock(&delay->lock);
    pthread_join(delay->thread, NULL);
    dmc_cond_deinit(&delay->changed);
    dmc_mutex_deinit(&delay->lock);
    dmc_free(delay);
}

static const struct dmc_store_ops delay_ops = {.scheme = "delay",
                                               .start = delay_start,
                                               .resume = delay_resume,
                                               .cancel = delay_cancel,
                                               .finish = delay_finish,
                                               .list = delay_list,
                                               .hint = delay_hint,
                                               .destroy = delay_destroy};

enum damacy_status dmc_store_delay_create(struct dmc_store *inner, uint64_t (*delay_ns)(void *user, const char *key),
                                          void *user, struct dmc_store **store, struct damacy_error *error)
{
    struct delay_store *delay = dmc_calloc(1, sizeof *delay);
    if (!delay)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the delay store");
    delay->store.ops = &delay_ops;
    delay->inner = inner;
    delay->delay_ns = delay_ns;
    delay->user = user;
    dmc_mutex_init(&delay->lock);
    dmc_cond_init(&delay->changed);
    int os_error = dmc_thread_start(&delay->thread, "dmc-delay", delay_run, delay);
    if (os_error) {
        dmc_cond_deinit(&delay->changed);
        dmc_mutex_deinit(&delay->lock);
        dmc_free(delay);
        return dmc_error_set_os(error, DAMACY_IO, "config", os_error, "cannot start the timer thread");
    }
    *store = &delay->store;
    return DAMACY_OK;
}
