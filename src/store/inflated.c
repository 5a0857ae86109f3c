#include "store/inflated.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/io_internal.h"

/* Jobs that are over are kept for the next, with buffers up to that size, so that reading chunk after chunk allocates nothing.
 */
#define IDLE_JOBS_MAX 32u
#define IDLE_STORED_BYTES_MAX (1u << 20)
#define JOB_BYTES (sizeof(struct dmc_inflate_job) + DMC_INFLATER_BYTES)

struct dmc_inflated {
    uint64_t bytes_max; /* constant */
    struct dmc_mutex lock;
    uint64_t shared_bytes DMC_GUARDED_BY(lock);
    uint32_t shared_running DMC_GUARDED_BY(lock); /* jobs that were handed out */
    uint32_t shared_pinned DMC_GUARDED_BY(lock);  /* cells in use that are ready */
    uint32_t shared_idle_count DMC_GUARDED_BY(lock);
    struct dmc_inflate_job *shared_idle DMC_GUARDED_BY(lock);
    struct dmc_inflated_cell *shared_newest DMC_GUARDED_BY(lock); /* all that are ready */
    struct dmc_inflated_cell *shared_oldest DMC_GUARDED_BY(lock);
    struct dmc_request *shared_waiters DMC_GUARDED_BY(lock); /* for memory */
};

enum damacy_status dmc_inflated_create(uint64_t bytes_max, struct dmc_inflated **out, struct damacy_error *error)
{
    struct dmc_inflated *inflated = dmc_calloc(1, sizeof *inflated);
    if (!inflated)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the stores");
    inflated->bytes_max = dmc_min_u64(bytes_max, UINT64_MAX / 4); /* sums cannot overflow */
    dmc_mutex_init(&inflated->lock);
    *out = inflated;
    return DAMACY_OK;
}

/* --- lists; all under the lock --- */

static void link_newest(struct dmc_inflated *inflated, struct dmc_inflated_cell *cell)
{
    cell->newer = NULL;
    cell->older = inflated->shared_newest;
    if (cell->older)
        cell->older->newer = cell;
    else
        inflated->shared_oldest = cell;
    inflated->shared_newest = cell;
}

static void unlink_cell(struct dmc_inflated *inflated, struct dmc_inflated_cell *cell)
{
    if (cell->newer)
        cell->newer->older = cell->older;
    else
        inflated->shared_newest = cell->older;
    if (cell->older)
        cell->older->newer = cell->newer;
    else
        inflated->shared_oldest = cell->newer;
}

static void free_cell(struct dmc_inflated *inflated, struct dmc_inflated_cell *cell)
{
    *cell->place = NULL;
    inflated->shared_bytes -= sizeof *cell + cell->bytes;
    dmc_free(cell->data);
    dmc_free(cell);
}

static void free_job(struct dmc_inflated *inflated, struct dmc_inflate_job *job)
{
    inflated->shared_bytes -= JOB_BYTES + job->stored_capacity;
    dmc_inflater_destroy(job->inflater);
    dmc_free(job->stored);
    dmc_free(job);
}

static void wake_all(struct dmc_request **waiters)
{
    while (*waiters) {
        struct dmc_request *request = *waiters;
        *waiters = request->next;
        dmc_io_resume(request);
    }
}

static bool unlink_waiter(struct dmc_request **link, const struct dmc_request *request)
{
    while (*link && *link != request)
        link = &(*link)->next;
    if (!*link)
        return false;
    *link = request->next;
    return true;
}

/* Let go of what is only kept until `bytes` fit. */
static bool make_room(struct dmc_inflated *inflated, uint64_t bytes)
{
    while (inflated->shared_bytes + bytes > inflated->bytes_max && inflated->shared_idle) {
        struct dmc_inflate_job *job = inflated->shared_idle;
        inflated->shared_idle = job->next;
        inflated->shared_idle_count--;
        free_job(inflated, job);
    }
    for (struct dmc_inflated_cell *cell = inflated->shared_oldest, *newer;
         cell && inflated->shared_bytes + bytes > inflated->bytes_max; cell = newer) {
        newer = cell->newer;
        if (cell->pins)
            continue;
        unlink_cell(inflated, cell);
        free_cell(inflated, cell);
    }
    return inflated->shared_bytes + bytes <= inflated->bytes_max;
}

/* --- jobs --- */

/* An idle job whose buffer is large enough. */
static struct dmc_inflate_job *take_idle(struct dmc_inflated *inflated, uint64_t stored_bytes)
{
    struct dmc_inflate_job **link = &inflated->shared_idle;
    while (*link && (*link)->stored_capacity < stored_bytes)
        link = &(*link)->next;
    struct dmc_inflate_job *job = *link;
    if (job) {
        *link = job->next;
        inflated->shared_idle_count--;
    }
    return job;
}

static struct dmc_inflate_job *make_job(struct dmc_inflated *inflated, uint64_t stored_bytes)
{
    struct dmc_inflate_job *job = dmc_calloc(1, sizeof *job);
    if (!job)
        return NULL;
    inflated->shared_bytes += JOB_BYTES + stored_bytes;
    job->stored_capacity = stored_bytes;
    job->inflater = dmc_inflater_create();
    job->stored = dmc_malloc(stored_bytes ? stored_bytes : 1);
    if (job->inflater && job->stored)
        return job;
    free_job(inflated, job);
    return NULL;
}

static struct dmc_inflated_cell *make_cell(struct dmc_inflated *inflated, struct dmc_inflated_cell **place, uint64_t bytes)
{
    struct dmc_inflated_cell *cell = dmc_calloc(1, sizeof *cell);
    unsigned char *data = dmc_malloc(bytes ? bytes : 1);
    if (!cell || !data) {
        dmc_free(cell);
        dmc_free(data);
        return NULL;
    }
    *cell = (struct dmc_inflated_cell){.data = data, .bytes = bytes, .place = place};
    inflated->shared_bytes += sizeof *cell + bytes;
    *place = cell;
    return cell;
}

static void give_back(struct dmc_inflated *inflated, struct dmc_inflate_job *job)
{
    inflated->shared_running--;
    if (inflated->shared_idle_count < IDLE_JOBS_MAX && job->stored_capacity <= IDLE_STORED_BYTES_MAX) {
        job->next = inflated->shared_idle;
        inflated->shared_idle = job;
        inflated->shared_idle_count++;
    } else {
        free_job(inflated, job);
    }
}

/* Small buffers come in steps, so that chunks of about the same size find each other's. */
static uint64_t stored_room(uint64_t bytes)
{
    uint64_t room = 4096;
    while (room < bytes && room < IDLE_STORED_BYTES_MAX)
        room *= 2;
    return dmc_max_u64(room, bytes);
}

static enum dmc_inflated_outcome begin_locked(struct dmc_inflated *inflated, struct dmc_inflated_cell **place,
                                              uint64_t stored_bytes, uint64_t object_bytes, bool direct,
                                              struct dmc_request *request, struct dmc_inflated_cell **cell,
                                              struct dmc_inflate_job **job) DMC_REQUIRES(inflated->lock);
static enum dmc_inflated_outcome begin_locked(struct dmc_inflated *inflated, struct dmc_inflated_cell **place,
                                              uint64_t stored_bytes, uint64_t object_bytes, bool direct,
                                              struct dmc_request *request, struct dmc_inflated_cell **cell,
                                              struct dmc_inflate_job **job)
{
    struct dmc_inflated_cell *there = *place;
    if (there && !there->ready) {
        request->next = there->waiters;
        there->waiters = request;
        return DMC_INFLATED_WAIT;
    }
    if (there) {
        unlink_cell(inflated, there);
        link_newest(inflated, there);
        inflated->shared_pinned += there->pins++ == 0;
        *cell = there;
        return DMC_INFLATED_READY;
    }
    uint64_t room = stored_room(stored_bytes), cell_bytes = direct ? 0 : object_bytes + sizeof(struct dmc_inflated_cell);
    uint64_t max = inflated->bytes_max;
    if (stored_bytes > max || (!direct && object_bytes > max) || room + JOB_BYTES + cell_bytes > max) {
        dmc_request_fail(request, DAMACY_BUDGET, 0, "the entry is too large to be inflated in the memory for containers");
        dmc_error_hint(request->error, "raise max_host_memory_bytes, or store the entry without compression");
        return DMC_INFLATED_FAILED;
    }
    struct dmc_inflate_job *taken = take_idle(inflated, stored_bytes);
    if (taken && !make_room(inflated, cell_bytes)) { /* it may be larger than what a new one would take */
        free_job(inflated, taken);
        taken = NULL;
    }
    if (!taken && !make_room(inflated, cell_bytes + room + JOB_BYTES)) {
        /* Someone else holds it, for the time of a read or a copy: an entry alone always fits. */
        request->next = inflated->shared_waiters;
        inflated->shared_waiters = request;
        return DMC_INFLATED_WAIT;
    }
    if (!taken)
        taken = make_job(inflated, room);
    if (taken)
        inflated->shared_running++;
    struct dmc_inflated_cell *made = taken && !direct ? make_cell(inflated, place, object_bytes) : NULL;
    if (!taken || (!direct && !made)) {
        if (taken)
            give_back(inflated, taken);
        dmc_request_fail(request, DAMACY_OOM, 0, "no memory to inflate the entry");
        return DMC_INFLATED_FAILED;
    }
    taken->cell = made;
    *job = taken;
    return DMC_INFLATED_JOB;
}

enum dmc_inflated_outcome dmc_inflated_begin(struct dmc_inflated *inflated, struct dmc_inflated_cell **place,
                                             uint64_t stored_bytes, uint64_t object_bytes, bool direct,
                                             struct dmc_request *request, struct dmc_inflated_cell **cell,
                                             struct dmc_inflate_job **job)
{
    dmc_mutex_lock(&inflated->lock);
    enum dmc_inflated_outcome outcome = begin_locked(inflated, place, stored_bytes, object_bytes, direct, request, cell, job);
    dmc_mutex_unlock(&inflated->lock);
    return outcome;
}

void dmc_inflated_end(struct dmc_inflated *inflated, struct dmc_inflate_job *job, bool keep)
{
    dmc_mutex_lock(&inflated->lock);
    struct dmc_inflated_cell *cell = job->cell;
    job->cell = NULL;
    if (cell) {
        wake_all(&cell->waiters);
        if (keep) {
            cell->ready = true;
            cell->pins = 1;
            inflated->shared_pinned++;
            link_newest(inflated, cell);
        } else {
            free_cell(inflated, cell);
        }
    }
    give_back(inflated, job);
    wake_all(&inflated->shared_waiters);
    dmc_mutex_unlock(&inflated->lock);
}

void dmc_inflated_unpin(struct dmc_inflated *inflated, struct dmc_inflated_cell *cell)
{
    dmc_mutex_lock(&inflated->lock);
    if (--cell->pins == 0) {
        inflated->shared_pinned--;
        wake_all(&inflated->shared_waiters);
    }
    dmc_mutex_unlock(&inflated->lock);
}

bool dmc_inflated_stop_waiting(struct dmc_inflated *inflated, struct dmc_inflated_cell **place, struct dmc_request *request)
{
    dmc_mutex_lock(&inflated->lock);
    bool was = (*place && unlink_waiter(&(*place)->waiters, request)) || unlink_waiter(&inflated->shared_waiters, request);
    dmc_mutex_unlock(&inflated->lock);
    return was;
}

void dmc_inflated_destroy(struct dmc_inflated *inflated)
{
    if (!inflated)
        return;
    dmc_mutex_lock(&inflated->lock);
    bool stuck = inflated->shared_running > 0;
    while (inflated->shared_oldest && !stuck) {
        struct dmc_inflated_cell *cell = inflated->shared_oldest;
        unlink_cell(inflated, cell);
        free_cell(inflated, cell);
    }
    while (inflated->shared_idle) {
        struct dmc_inflate_job *job = inflated->shared_idle;
        inflated->shared_idle = job->next;
        free_job(inflated, job);
    }
    dmc_mutex_unlock(&inflated->lock);
    if (stuck) {
        dmc_log(DMC_STORE, DAMACY_LOG_WARN, "reads of zip entries did not end; their buffers were left behind");
        return;
    }
    dmc_mutex_deinit(&inflated->lock);
    dmc_free(inflated);
}
