/* Threads, locks that clang checks (-Wthread-safety), machine size, and the mark that tells a forked child. */
#ifndef DMC_BASE_THREAD_H
#define DMC_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__clang__)
#define DMC_TSA(x) __attribute__((x))
#else
#define DMC_TSA(x)
#endif
#define DMC_CAPABILITY(name) DMC_TSA(capability(name))
/* For the reader only: in C, clang 14 cannot name a lock that is a member of the same struct. What it does check are the
 * functions marked with the macros below, so members behind a lock are reached through functions that require it. */
#define DMC_GUARDED_BY(lock)
#define DMC_REQUIRES(...) DMC_TSA(requires_capability(__VA_ARGS__))
#define DMC_EXCLUDES(...) DMC_TSA(locks_excluded(__VA_ARGS__))
#define DMC_ACQUIRE(...) DMC_TSA(acquire_capability(__VA_ARGS__))
#define DMC_RELEASE(...) DMC_TSA(release_capability(__VA_ARGS__))
#define DMC_ASSERTS(...) DMC_TSA(assert_capability(__VA_ARGS__)) /* "it is held here, believe me" */
#define DMC_NO_TSA DMC_TSA(no_thread_safety_analysis)

struct DMC_CAPABILITY("mutex") dmc_mutex {
    pthread_mutex_t native;
};
struct dmc_cond {
    pthread_cond_t native; /* on CLOCK_MONOTONIC */
};

void dmc_mutex_init(struct dmc_mutex *mutex);
void dmc_mutex_deinit(struct dmc_mutex *mutex);
void dmc_mutex_lock(struct dmc_mutex *mutex) DMC_ACQUIRE(mutex);
void dmc_mutex_unlock(struct dmc_mutex *mutex) DMC_RELEASE(mutex);

void dmc_cond_init(struct dmc_cond *cond);
void dmc_cond_deinit(struct dmc_cond *cond);
void dmc_cond_signal(struct dmc_cond *cond);
void dmc_cond_broadcast(struct dmc_cond *cond);
void dmc_cond_wait(struct dmc_cond *cond, struct dmc_mutex *mutex) DMC_REQUIRES(mutex);
/* Until the deadline on dmc_clock_ns(); UINT64_MAX waits for ever. false: the deadline passed; if it had passed already, the
 * mutex was not let go of. Spurious wake-ups happen. */
bool dmc_cond_wait_until(struct dmc_cond *cond, struct dmc_mutex *mutex, uint64_t deadline_ns) DMC_REQUIRES(mutex);

/* Start a thread called `name` (15 bytes are kept) with all signals blocked but those of its own faults, so that handlers run
 * in the program's own threads. Returns 0 or an errno. */
int dmc_thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *argument);
/* Join until the deadline; false if the thread still runs then (it is left alone, not detached). */
bool dmc_thread_join_until(pthread_t thread, uint64_t deadline_ns);
/* The same for a thread that says while it computes: computing ends by itself, so it is waited for however long it takes, and
 * false means that the thread is stuck in a call. */
bool dmc_thread_join_computing(pthread_t thread, uint64_t deadline_ns, const _Atomic bool *computing);

/* Cores this process may use: affinity, and the cgroup's CPU quota rounded up. At least 1. */
uint32_t dmc_cores_allowed(void);
/* The last level of the cache, which cores share; 0: nobody says. A virtual machine may say more than it gets. */
uint64_t dmc_last_cache_bytes(void);
/* Bytes of memory this process may use: the smaller of the machine's and the cgroup's (v1 and v2, all levels). */
uint64_t dmc_memory_allowed(void);

/* Counts the forks between the first process and this one. An object that stores it at creation knows it was inherited when
 * the number differs. One relaxed load. The pthread_atfork handler is installed before main. */
uint64_t dmc_fork_generation(void);

#endif
