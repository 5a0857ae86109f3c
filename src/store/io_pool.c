/* Threads that block in preadv, where io_uring is not to be had. A dmc_io starts its own one by one: another only when a read
 * is queued and all are busy, up to a few; that many keep a disk busy together with the other workers' (bench_store). They stay
 * until the dmc_io is destroyed. */
#include "base/mem.h"
#include "store/io_internal.h"

#define POOL_THREADS_MAX 8u

struct dmc_pool {
    /* constant */
    uint32_t thread_max;
    /* shared */
    struct dmc_mutex lock;
    struct dmc_cond filled; /* the queue has something, or stop */
    struct dmc_request *shared_first DMC_GUARDED_BY(lock);
    struct dmc_request *shared_last DMC_GUARDED_BY(lock);
    uint32_t shared_queued DMC_GUARDED_BY(lock);
    uint32_t shared_idle DMC_GUARDED_BY(lock); /* threads that wait for work */
    bool shared_stop DMC_GUARDED_BY(lock);
    /* owner */
    uint32_t thread_count;
    pthread_t threads[POOL_THREADS_MAX];
};

struct dmc_pool *dmc_pool_create(uint32_t depth)
{
    struct dmc_pool *pool = dmc_calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pool->thread_max = depth < POOL_THREADS_MAX ? depth : POOL_THREADS_MAX;
    dmc_mutex_init(&pool->lock);
    dmc_cond_init(&pool->filled);
    return pool;
}

/* Wait for the next read; NULL: stop. */
static struct dmc_request *pool_take(struct dmc_pool *pool)
{
    dmc_mutex_lock(&pool->lock);
    pool->shared_idle++;
    while (!pool->shared_first && !pool->shared_stop)
        dmc_cond_wait(&pool->filled, &pool->lock);
    pool->shared_idle--;
    struct dmc_request *request = pool->shared_first;
    if (request) {
        pool->shared_first = request->next;
        if (!pool->shared_first)
            pool->shared_last = NULL;
        pool->shared_queued--;
    }
    dmc_mutex_unlock(&pool->lock);
    return request;
}

static void *pool_run(void *argument)
{
    struct dmc_pool *pool = argument;
    struct dmc_request *request;
    while ((request = pool_take(pool))) {
        request->result = dmc_request_preadv(request, request->fd, request->read_offset, 0);
        dmc_io_resume(request);
    }
    return NULL;
}

bool dmc_pool_read(struct dmc_pool *pool, struct dmc_request *request)
{
    dmc_mutex_lock(&pool->lock);
    bool busy = pool->shared_queued >= pool->shared_idle;
    dmc_mutex_unlock(&pool->lock);
    if (busy && pool->thread_count < pool->thread_max &&
        dmc_thread_start(&pool->threads[pool->thread_count], "dmc-read", pool_run, pool) == 0)
        pool->thread_count++;
    if (pool->thread_count == 0)
        return false;
    dmc_mutex_lock(&pool->lock);
    request->next = NULL;
    if (pool->shared_last)
        pool->shared_last->next = request;
    else
        pool->shared_first = request;
    pool->shared_last = request;
    pool->shared_queued++;
    dmc_cond_signal(&pool->filled);
    dmc_mutex_unlock(&pool->lock);
    return true;
}

bool dmc_pool_take_back(struct dmc_pool *pool, struct dmc_request *request)
{
    dmc_mutex_lock(&pool->lock);
    struct dmc_request *before = NULL, *at = pool->shared_first;
    while (at && at != request) {
        before = at;
        at = at->next;
    }
    if (at) {
        if (before)
            before->next = at->next;
        else
            pool->shared_first = at->next;
        if (pool->shared_last == at)
            pool->shared_last = before;
        pool->shared_queued--;
    }
    dmc_mutex_unlock(&pool->lock);
    return at != NULL;
}

bool dmc_pool_destroy(struct dmc_pool *pool, uint64_t deadline_ns)
{
    if (!pool)
        return true;
    dmc_mutex_lock(&pool->lock);
    pool->shared_stop = true;
    dmc_cond_broadcast(&pool->filled);
    dmc_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->thread_count; i++)
        if (!dmc_thread_join_until(pool->threads[i], deadline_ns))
            return false;
    dmc_cond_deinit(&pool->filled);
    dmc_mutex_deinit(&pool->lock);
    dmc_free(pool);
    return true;
}
