#include "base/thread.h"
#include "base/bytes.h"
#include "base/cgroup.h"
#include "base/clock.h"
#include "base/system_file.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Mutex and condition calls fail only for misuse, which is our bug; the results are checked where asserts are on. */
static void must(int result)
{
    assert(result == 0);
    (void)result;
}

void dmc_mutex_init(struct dmc_mutex *mutex)
{
    must(pthread_mutex_init(&mutex->native, NULL));
}
void dmc_mutex_deinit(struct dmc_mutex *mutex)
{
    must(pthread_mutex_destroy(&mutex->native));
}
void dmc_mutex_lock(struct dmc_mutex *mutex) DMC_NO_TSA
{
    must(pthread_mutex_lock(&mutex->native));
}
void dmc_mutex_unlock(struct dmc_mutex *mutex) DMC_NO_TSA
{
    must(pthread_mutex_unlock(&mutex->native));
}

void dmc_cond_init(struct dmc_cond *cond)
{
    pthread_condattr_t attributes;
    must(pthread_condattr_init(&attributes));
    must(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC));
    must(pthread_cond_init(&cond->native, &attributes));
    pthread_condattr_destroy(&attributes);
}
void dmc_cond_deinit(struct dmc_cond *cond)
{
    must(pthread_cond_destroy(&cond->native));
}
void dmc_cond_signal(struct dmc_cond *cond)
{
    must(pthread_cond_signal(&cond->native));
}
void dmc_cond_broadcast(struct dmc_cond *cond)
{
    must(pthread_cond_broadcast(&cond->native));
}
void dmc_cond_wait(struct dmc_cond *cond, struct dmc_mutex *mutex)
{
    must(pthread_cond_wait(&cond->native, &mutex->native));
}

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
}

bool dmc_cond_wait_until(struct dmc_cond *cond, struct dmc_mutex *mutex, uint64_t deadline_ns)
{
    if (deadline_ns == UINT64_MAX) {
        dmc_cond_wait(cond, mutex);
        return true;
    }
    if (dmc_clock_ns() >= deadline_ns) /* a question, no wait: the system would let go of the lock, and of the core */
        return false;
    struct timespec deadline = timespec_of(deadline_ns);
    int result = pthread_cond_timedwait(&cond->native, &mutex->native, &deadline);
    assert(result == 0 || result == ETIMEDOUT);
    return result != ETIMEDOUT;
}

int dmc_thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *argument)
{
    /* The new thread inherits the mask. Signals that report a thread's own fault stay open, so that handlers which print a
     * trace (Python's faulthandler) see them. */
    static const int own_faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof own_faults / sizeof *own_faults; i++)
        sigdelset(&blocked, own_faults[i]);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    int result = pthread_create(thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result == 0) {
        char cut[16];
        snprintf(cut, sizeof cut, "%s", name);
        pthread_setname_np(*thread, cut);
    }
    return result;
}

bool dmc_thread_join_until(pthread_t thread, uint64_t deadline_ns)
{
    if (deadline_ns == UINT64_MAX) {
        must(pthread_join(thread, NULL));
        return true;
    }
    /* pthread_timedjoin_np goes by the wall clock, which may jump: so in steps, and our own clock decides. (Its sibling with a
     * clock argument is unknown to ThreadSanitizer, which would then miss what a join orders.) */
    const uint64_t step_ns = 200000000u;
    for (;;) {
        uint64_t now = dmc_clock_ns();
        uint64_t wait_ns = deadline_ns > now ? dmc_min_u64(deadline_ns - now, step_ns) : 0;
        struct timespec wall;
        clock_gettime(CLOCK_REALTIME, &wall);
        wall = timespec_of((uint64_t)wall.tv_sec * 1000000000u + (uint64_t)wall.tv_nsec + wait_ns);
        int result = pthread_timedjoin_np(thread, NULL, &wall);
        if (result == 0)
            return true;
        assert(result == ETIMEDOUT);
        if (wait_ns == 0)
            return false;
    }
}

/* How long a thread may take to end once it has said that it does not compute any more. */
#define AFTER_COMPUTING_NS 500000000ull

bool dmc_thread_join_computing(pthread_t thread, uint64_t deadline_ns, const _Atomic bool *computing)
{
    if (dmc_thread_join_until(thread, deadline_ns))
        return true;
    bool computed;
    do {
        computed = atomic_load_explicit(computing, memory_order_relaxed);
        if (dmc_thread_join_until(thread, dmc_clock_deadline(AFTER_COMPUTING_NS)))
            return true;
    } while (computed);
    return false;
}

static uint32_t cores_of_affinity(void)
{
    /* The kernel refuses a set that is smaller than its own. */
    for (int count = CPU_SETSIZE; count <= 1 << 20; count *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)count);
        if (!set)
            break;
        int result = sched_getaffinity(0, CPU_ALLOC_SIZE((size_t)count), set);
        int cores = result == 0 ? CPU_COUNT_S(CPU_ALLOC_SIZE((size_t)count), set) : 0;
        CPU_FREE(set);
        if (result == 0 && cores > 0)
            return (uint32_t)cores;
        if (result != 0 && errno != EINVAL)
            break;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (uint32_t)online : 1;
}

uint32_t dmc_cores_allowed(void)
{
    uint64_t cores = dmc_min_u64(cores_of_affinity(), dmc_cgroup_cores("/proc/self/cgroup", "/sys/fs/cgroup"));
    return cores > 0 ? (uint32_t)cores : 1;
}

uint64_t dmc_memory_allowed(void)
{
    uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    return dmc_min_u64(machine, dmc_cgroup_memory("/proc/self/cgroup", "/sys/fs/cgroup"));
}

/* The kernel says what cores share, the C library of some machines what all caches of a processor are together (320 MiB where
 * it is ten of 32). */
uint64_t dmc_last_cache_bytes(void)
{
    enum { LEVELS_MAX = 8 };
    for (int index = LEVELS_MAX - 1; index >= 0; index--) {
        char name[32], line[32], unit;
        unsigned long long size;
        snprintf(name, sizeof name, "index%d/size", index);
        if (dmc_system_line("/sys/devices/system/cpu/cpu0/cache", name, line, sizeof line) &&
            sscanf(line, "%llu%c", &size, &unit) == 2 && size && (unit == 'K' || unit == 'M'))
            return size << (unit == 'K' ? 10 : 20);
    }
#ifdef _SC_LEVEL3_CACHE_SIZE
    long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
    return bytes > 0 ? (uint64_t)bytes : 0;
#else
    return 0;
#endif
}

static _Atomic uint64_t fork_generation;

static void in_child(void)
{
    atomic_fetch_add_explicit(&fork_generation, 1, memory_order_relaxed);
}

__attribute__((constructor)) static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, in_child);
}

uint64_t dmc_fork_generation(void)
{
    return atomic_load_explicit(&fork_generation, memory_order_relaxed);
}
