#include "base/trace.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EVENTS_MIN 1024
#define EVENTS_MAX 65536 /* 2.5 MiB a thread */

struct event {
    const char *name;
    uint64_t begin_ns, end_ns, number;
    int thread_id; /* here and not in the buffer, which outlives its thread and serves the next */
};

/* Owned by one thread, which alone appends; the lock is for the flush and otherwise free. Buffers stay in the list for ever;
 * a thread that ends leaves its buffer, with the events, to the next one. */
struct buffer {
    struct buffer *next; /* constant once published */
    _Atomic bool taken;  /* by a living thread; released with the thread, acquired by the next */
    struct dmc_mutex lock;
    struct event *shared_events;
    uint32_t shared_count;
    uint32_t shared_capacity;
    uint64_t shared_dropped;
    int shared_thread_id;
    char shared_thread_name[16];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char *path; /* constant after `once`; NULL: tracing is off */
static uint64_t generation;
static pthread_key_t leave_key;
static _Atomic(struct buffer *) buffers;                          /* push with release, walk with acquire */
static struct dmc_mutex flush_lock = {PTHREAD_MUTEX_INITIALIZER}; /* one writer of the file at a time */
static _Thread_local struct buffer *mine;

static void leave(void *buffer)
{
    atomic_store_explicit(&((struct buffer *)buffer)->taken, false, memory_order_release);
}

static void start(void)
{
    const char *wanted = getenv("DAMACY_TRACE");
    if (!wanted || !wanted[0] || pthread_key_create(&leave_key, leave) != 0)
        return;
    generation = dmc_fork_generation();
    path = dmc_strdup(wanted);
    if (path)
        atexit(dmc_trace_flush);
}

bool dmc_trace_on(void)
{
    pthread_once(&once, start); /* after the first time: one load and a branch */
    return path != NULL;
}

/* A buffer for this thread: one that an ended thread left, or a new one. NULL when memory is short. */
static struct buffer *enter(void)
{
    struct buffer *buffer = atomic_load_explicit(&buffers, memory_order_acquire);
    for (; buffer; buffer = buffer->next) {
        bool taken = false;
        if (atomic_compare_exchange_strong_explicit(&buffer->taken, &taken, true, memory_order_acquire, memory_order_relaxed))
            break;
    }
    if (!buffer) {
        buffer = dmc_calloc(1, sizeof *buffer);
        if (!buffer)
            return NULL;
        dmc_mutex_init(&buffer->lock);
        atomic_init(&buffer->taken, true);
        struct buffer *head = atomic_load_explicit(&buffers, memory_order_relaxed);
        do
            buffer->next = head;
        while (!atomic_compare_exchange_weak_explicit(&buffers, &head, buffer, memory_order_release, memory_order_relaxed));
    }
    dmc_mutex_lock(&buffer->lock);
    buffer->shared_thread_id = (int)gettid();
    pthread_getname_np(pthread_self(), buffer->shared_thread_name, sizeof buffer->shared_thread_name);
    dmc_mutex_unlock(&buffer->lock);
    pthread_setspecific(leave_key, buffer);
    return buffer;
}

/* Make room for one event: double up to the bound, then drop the oldest half. */
static bool make_room_locked(struct buffer *buffer)
{
    if (buffer->shared_count < buffer->shared_capacity)
        return true;
    if (buffer->shared_capacity < EVENTS_MAX) {
        uint32_t capacity = buffer->shared_capacity ? buffer->shared_capacity * 2 : EVENTS_MIN;
        struct event *events = dmc_realloc(buffer->shared_events, capacity * sizeof *events);
        if (events) {
            buffer->shared_events = events;
            buffer->shared_capacity = capacity;
            return true;
        }
    }
    uint32_t dropped = buffer->shared_count / 2;
    if (dropped == 0) {
        buffer->shared_dropped++;
        return false;
    }
    buffer->shared_count -= dropped;
    memmove(buffer->shared_events, buffer->shared_events + dropped, buffer->shared_count * sizeof *buffer->shared_events);
    buffer->shared_dropped += dropped;
    return true;
}

void dmc_trace_span(const char *name, uint64_t begin_ns, uint64_t end_ns, uint64_t number)
{
    if (!dmc_trace_on() || dmc_fork_generation() != generation) /* a child may have inherited a locked buffer */
        return;
    if (!mine && !(mine = enter()))
        return;
    dmc_mutex_lock(&mine->lock);
    if (make_room_locked(mine))
        mine->shared_events[mine->shared_count++] = (struct event){name, begin_ns, end_ns, number, mine->shared_thread_id};
    dmc_mutex_unlock(&mine->lock);
}

static void write_buffer(FILE *file, struct buffer *buffer, const char **separator, uint64_t *dropped)
{
    int process_id = (int)getpid();
    dmc_mutex_lock(&buffer->lock);
    char name[sizeof buffer->shared_thread_name] = "";
    for (size_t i = 0; i + 1 < sizeof name && buffer->shared_thread_name[i]; i++) {
        char c = buffer->shared_thread_name[i];
        name[i] = c < ' ' || c == '"' || c == '\\' || c > '~' ? '_' : c;
    }
    fprintf(file, "%s{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":%d,\"tid\":%d,\"args\":{\"name\":\"%s\"}}", *separator,
            process_id, buffer->shared_thread_id, name);
    *separator = ",\n";
    for (uint32_t i = 0; i < buffer->shared_count; i++) {
        const struct event *event = &buffer->shared_events[i];
        uint64_t lasted = event->end_ns > event->begin_ns ? event->end_ns - event->begin_ns : 0;
        /* Microseconds, written as whole numbers and thousandths: doubles would lose digits, and locales know commas. */
        fprintf(file,
                ",\n{\"ph\":\"X\",\"name\":\"%s\",\"pid\":%d,\"tid\":%d,\"ts\":%llu.%03u,\"dur\":%llu.%03u,"
                "\"args\":{\"number\":%llu}}",
                event->name, process_id, event->thread_id, (unsigned long long)(event->begin_ns / 1000),
                (unsigned)(event->begin_ns % 1000), (unsigned long long)(lasted / 1000), (unsigned)(lasted % 1000),
                (unsigned long long)event->number);
    }
    *dropped += buffer->shared_dropped;
    dmc_mutex_unlock(&buffer->lock);
}

void dmc_trace_flush(void)
{
    if (!dmc_trace_on() || dmc_fork_generation() != generation) /* the file is the parent's */
        return;
    static bool told; /* guarded by flush_lock */
    dmc_mutex_lock(&flush_lock);
    FILE *file = fopen(path, "we");
    if (file) {
        uint64_t dropped = 0;
        const char *separator = "\n";
        fputs("{\"traceEvents\":[", file);
        for (struct buffer *buffer = atomic_load_explicit(&buffers, memory_order_acquire); buffer; buffer = buffer->next)
            write_buffer(file, buffer, &separator, &dropped);
        fprintf(file, "\n],\"otherData\":{\"dropped\":%llu}}\n", (unsigned long long)dropped);
        fclose(file);
    } else if (!told) { /* not by each pipeline, and at exit once more */
        told = true;
        dmc_log(DMC_BASE, DAMACY_LOG_WARN, "DAMACY_TRACE: cannot write the trace to %s: %s", path, strerror(errno));
    }
    dmc_mutex_unlock(&flush_lock);
}
