#include "store/cache_writer.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define ALIGN 64u

enum job_state { JOB_FILLING, JOB_FULL, JOB_SKIP };

/* At a multiple of ALIGN of the queue's memory; behind it the name (identity, key, each with its zero), then the data. */
struct job {
    uint64_t room;                      /* of all of it */
    uint32_t state;                     /* under the lock */
    uint32_t identity_bytes, key_bytes; /* with their zeros */
    uint64_t tag, object_bytes, begin, bytes;
};

struct dmc_cache_queue {
    /* constant */
    struct dmc_cache_files *files;
    struct dmc_cache_space *space;
    unsigned char *memory;
    uint64_t bytes;
    pthread_t thread;
    struct dmc_cache_queue_counts counts;
    /* shared */
    struct dmc_mutex lock;
    struct dmc_cond filled, emptied;
    uint64_t shared_head DMC_GUARDED_BY(lock), shared_tail
        DMC_GUARDED_BY(lock);                     /* positions, modulo `bytes`; room is taken at the head */
    uint64_t shared_stop_ns DMC_GUARDED_BY(lock); /* 0: go on */
    /* the thread's */
    struct dmc_cache_writer writer;
};

static struct job *job_at(struct dmc_cache_queue *queue, uint64_t position)
{
    return (struct job *)(void *)(queue->memory + position % queue->bytes);
}

/* --- putting --- */

static struct job *take_room(struct dmc_cache_queue *queue, uint64_t room)
{
    struct job *job = NULL;
    dmc_mutex_lock(&queue->lock);
    uint64_t left = queue->bytes - (queue->shared_head - queue->shared_tail);
    uint64_t to_end = queue->bytes - queue->shared_head % queue->bytes;
    uint64_t skip = to_end < room ? to_end : 0;
    if (room <= queue->bytes && room + skip <= left && !queue->shared_stop_ns) {
        if (skip) { /* always a multiple of ALIGN, so that there is room for this much of a job */
            struct job *filler = job_at(queue, queue->shared_head);
            filler->room = skip;
            filler->state = JOB_SKIP;
            queue->shared_head += skip;
        }
        job = job_at(queue, queue->shared_head);
        job->room = room;
        job->state = JOB_FILLING;
        queue->shared_head += room;
    }
    dmc_mutex_unlock(&queue->lock);
    return job;
}

void dmc_cache_queue_put(struct dmc_cache_queue *queue, const struct dmc_cache_name *name, uint64_t tag, uint64_t object_bytes,
                         uint64_t begin, const struct iovec *parts, uint32_t part_count, uint64_t bytes)
{
    if (bytes == 0)
        return;
    size_t identity_bytes = strlen(name->identity) + 1, key_bytes = strlen(name->key) + 1;
    struct job *job = NULL;
    if (!atomic_load_explicit(&queue->counts.writes_off, memory_order_relaxed) && bytes <= queue->bytes / 2 &&
        object_bytes <= DMC_CACHE_OBJECT_MAX)
        job = take_room(queue, dmc_round_up(sizeof *job + identity_bytes + key_bytes + bytes, ALIGN));
    if (!job) {
        atomic_fetch_add_explicit(&queue->counts.dropped_bytes, bytes, memory_order_relaxed);
        return;
    }
    job->identity_bytes = (uint32_t)identity_bytes;
    job->key_bytes = (uint32_t)key_bytes;
    job->tag = tag;
    job->object_bytes = object_bytes;
    job->begin = begin;
    job->bytes = bytes;
    unsigned char *next = (unsigned char *)(job + 1);
    memcpy(next, name->identity, identity_bytes);
    memcpy(next + identity_bytes, name->key, key_bytes);
    next += identity_bytes + key_bytes;
    for (uint32_t i = 0; i < part_count && bytes; i++) {
        uint64_t take = dmc_min_u64(parts[i].iov_len, bytes);
        if (take)
            memcpy(next, parts[i].iov_base, take);
        next += take;
        bytes -= take;
    }
    dmc_mutex_lock(&queue->lock);
    job->state = JOB_FULL;
    dmc_cond_signal(&queue->filled);
    dmc_mutex_unlock(&queue->lock);
}

/* --- the thread --- */

static bool reserve(void *user, uint64_t bytes)
{
    struct dmc_cache_queue *queue = user;
    bool reserved = dmc_cache_space_reserve(queue->space, bytes);
    atomic_store_explicit(&queue->counts.evicted_bytes, queue->space->evicted_bytes, memory_order_relaxed);
    return reserved;
}

/* Nothing is kept any more; said once. */
static void give_up(struct dmc_cache_queue *queue, int os_error)
{
    char text[96] = "";
    if (atomic_exchange_explicit(&queue->counts.writes_off, true, memory_order_relaxed))
        return;
    dmc_log(DMC_STORE, DAMACY_LOG_WARN, "the disk cache cannot be written (%s): nothing new is kept from now on",
            strerror_r(os_error, text, sizeof text));
}

/* The file to write to; one of another tag gives way. NULL: there is none, errno tells why (0: no room). */
static struct dmc_cache_file *file_for(struct dmc_cache_queue *queue, const struct job *job, const struct dmc_cache_name *name,
                                       uint64_t now_s)
{
    struct dmc_cache_file *file = dmc_cache_file_acquire(queue->files, name);
    if (file && (file->tag != job->tag || file->object_bytes != job->object_bytes)) {
        dmc_cache_file_discard(queue->files, file);
        dmc_cache_file_release(queue->files, file);
        file = NULL;
    }
    if (file && !dmc_cache_file_alive(file)) {
        dmc_cache_file_release(queue->files, file);
        file = NULL;
    }
    if (file)
        return file;
    if (!reserve(queue, 3ull * DMC_CACHE_BLOCK)) {
        errno = 0; /* whatever it was, another process holds a lock more often than not: the next bytes may find room */
        return NULL;
    }
    int os_error = queue->writer.write_fault ? queue->writer.write_fault(queue->writer.user, queue->writer.count++) : 0;
    if (os_error) {
        errno = os_error;
        return NULL;
    }
    return dmc_cache_file_make(queue->files, name, job->tag, job->object_bytes, now_s);
}

static void work_on(struct dmc_cache_queue *queue, const struct job *job)
{
    const char *identity = (const char *)(job + 1), *key = identity + job->identity_bytes;
    const unsigned char *data = (const unsigned char *)key + job->key_bytes;
    struct dmc_cache_name name;
    uint64_t now_s = (uint64_t)time(NULL), stored = 0;
    enum dmc_cache_wrote wrote = DMC_CACHE_NO_ROOM;
    struct dmc_cache_file *file = NULL;
    if (!atomic_load_explicit(&queue->counts.writes_off, memory_order_relaxed) && dmc_cache_name_make(identity, key, &name))
        file = file_for(queue, job, &name, now_s);
    else
        errno = 0;
    if (file && file->writable) {
        wrote = dmc_cache_file_write(file, &queue->writer, job->begin, data, job->bytes, &stored);
        if (wrote == DMC_CACHE_WROTE)
            dmc_cache_file_confirm(file, now_s);
    }
    int os_error = errno;
    if (wrote == DMC_CACHE_WRITE_FAILED ||
        (!file && os_error != 0 && os_error != EMFILE && os_error != ENFILE && os_error != ENOMEM))
        give_up(queue, os_error);
    if (file)
        dmc_cache_file_release(queue->files, file);
    atomic_fetch_add_explicit(&queue->counts.stored_bytes, stored, memory_order_relaxed);
    if (wrote != DMC_CACHE_WROTE)
        atomic_fetch_add_explicit(&queue->counts.dropped_bytes, job->bytes - dmc_min_u64(stored, job->bytes),
                                  memory_order_relaxed);
}

/* The next job that is full; what was skipped is passed over. NULL: none now. */
static struct job *next_job_locked(struct dmc_cache_queue *queue) DMC_REQUIRES(queue->lock);
static struct job *next_job_locked(struct dmc_cache_queue *queue)
{
    while (queue->shared_tail != queue->shared_head) {
        struct job *job = job_at(queue, queue->shared_tail);
        if (job->state != JOB_SKIP)
            return job->state == JOB_FULL ? job : NULL;
        queue->shared_tail += job->room;
    }
    return NULL;
}

static void *queue_run(void *argument)
{
    struct dmc_cache_queue *queue = argument;
    dmc_mutex_lock(&queue->lock);
    for (;;) {
        struct job *job = next_job_locked(queue);
        bool stopping = queue->shared_stop_ns != 0;
        if (!job && stopping) /* whoever filled jobs has gone: what is not full stays so */
            break;
        if (!job) {
            if (queue->shared_tail == queue->shared_head)
                dmc_cond_broadcast(&queue->emptied);
            dmc_cond_wait(&queue->filled, &queue->lock);
            continue;
        }
        if (stopping && dmc_clock_ns() >= queue->shared_stop_ns)
            break;
        uint64_t room = job->room;
        dmc_mutex_unlock(&queue->lock);
        work_on(queue, job);
        dmc_mutex_lock(&queue->lock);
        queue->shared_tail += room;
    }
    dmc_cond_broadcast(&queue->emptied);
    dmc_mutex_unlock(&queue->lock);
    return NULL;
}

void dmc_cache_queue_flush(struct dmc_cache_queue *queue)
{
    dmc_mutex_lock(&queue->lock);
    while (queue->shared_tail != queue->shared_head && !queue->shared_stop_ns)
        dmc_cond_wait(&queue->emptied, &queue->lock);
    dmc_mutex_unlock(&queue->lock);
}

struct dmc_cache_queue_counts *dmc_cache_queue_counts(struct dmc_cache_queue *queue)
{
    return &queue->counts;
}

enum damacy_status dmc_cache_queue_create(const struct dmc_cache_queue_options *options, struct dmc_cache_queue **out,
                                          struct damacy_error *error)
{
    uint64_t bytes = dmc_round_up(dmc_max_u64(options->bytes, 65536), 4096);
    struct dmc_cache_queue *queue = dmc_calloc(1, sizeof *queue);
    if (queue)
        queue->memory = dmc_pages_map(bytes);
    if (!queue || !queue->memory) {
        dmc_free(queue);
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the disk cache's queue of %llu bytes",
                             (unsigned long long)bytes);
    }
    queue->files = options->files;
    queue->space = options->space;
    queue->bytes = bytes;
    queue->writer = (struct dmc_cache_writer){
        .write_fault = options->write_fault, .user = options->write_fault_user, .reserve = reserve, .reserve_user = queue};
    dmc_mutex_init(&queue->lock);
    dmc_cond_init(&queue->filled);
    dmc_cond_init(&queue->emptied);
    int os_error = dmc_thread_start(&queue->thread, "dmc-cache", queue_run, queue);
    if (os_error) {
        dmc_cond_deinit(&queue->emptied);
        dmc_cond_deinit(&queue->filled);
        dmc_mutex_deinit(&queue->lock);
        dmc_pages_unmap(queue->memory, bytes);
        dmc_free(queue);
        return dmc_error_set_os(error, DAMACY_IO, "config", os_error, "cannot start the disk cache's thread");
    }
    *out = queue;
    return DAMACY_OK;
}

void dmc_cache_queue_destroy(struct dmc_cache_queue *queue, uint64_t deadline_ns)
{
    if (!queue)
        return;
    dmc_mutex_lock(&queue->lock);
    queue->shared_stop_ns = deadline_ns ? deadline_ns : 1;
    dmc_cond_signal(&queue->filled);
    dmc_mutex_unlock(&queue->lock);
    pthread_join(queue->thread, NULL);
    dmc_cond_deinit(&queue->emptied);
    dmc_cond_deinit(&queue->filled);
    dmc_mutex_deinit(&queue->lock);
    dmc_pages_unmap(queue->memory, queue->bytes);
    dmc_free(queue);
}
