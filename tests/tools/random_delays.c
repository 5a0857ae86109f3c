/* A machine on which any thread may stop for a while at any place where it meets others: for finding tests, and code, that hold
 * only while everybody is quick. Preloaded into a test it lets a thread sleep before and after some of its locks, waits, reads,
 * writes and so on, drawn at random: mostly for milliseconds, rarely for seconds.
 *
 *     ninja -C build/release random_delays
 *     for i in $(seq 30); do
 *         LD_PRELOAD=$PWD/build/release/librandom_delays.so build/release/test_net_http >log 2>&1 || { cat log; break; }
 *     done
 *
 * One call in RANDOM_DELAYS_ONE_IN (150) sleeps for up to RANDOM_DELAYS_US (50000) microseconds, one in
 * RANDOM_DELAYS_LONG_ONE_IN (6000) for RANDOM_DELAYS_LONG_US (1500000); 0 means never. A test that locks a million times wants
 * less of it. With ThreadSanitizer take the library of the release build, and `setarch -R` if that is needed. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static struct {
    _Atomic bool ready;
    uint64_t one_in, us, long_one_in, long_us, seed;
} settings;

static __thread uint64_t state;

static uint64_t setting(const char *name, uint64_t usual)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : usual;
}

__attribute__((constructor)) static void read_settings(void)
{
    settings.one_in = setting("RANDOM_DELAYS_ONE_IN", 150);
    settings.us = setting("RANDOM_DELAYS_US", 50000);
    settings.long_one_in = setting("RANDOM_DELAYS_LONG_ONE_IN", 6000);
    settings.long_us = setting("RANDOM_DELAYS_LONG_US", 1500000);
    settings.seed = setting("RANDOM_DELAYS_SEED", (uint64_t)time(NULL) * 1000003u + (uint64_t)getpid());
    atomic_store(&settings.ready, true);
}

static void perhaps_sleep(void)
{
    if (!atomic_load(&settings.ready))
        return;
    if (state == 0)
        state = (settings.seed ^ (uint64_t)syscall(SYS_gettid) * 0xbf58476d1ce4e5b9u) | 1;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    uint64_t random = state * 0x2545f4914f6cdd1du >> 16, us = 0;
    if (settings.long_one_in && random % settings.long_one_in == 0)
        us = settings.long_us;
    else if (settings.one_in && settings.us && random % settings.one_in == 0)
        us = (random >> 16) % settings.us;
    if (us == 0)
        return;
    int saved = errno;
    struct timespec pause = {(time_t)(us / 1000000), (long)(us % 1000000 * 1000)};
    syscall(SYS_nanosleep, &pause, NULL);
    errno = saved;
}

#define DELAYED(returns, name, parameters, arguments)                                                                          \
    __attribute__((visibility("default"))) returns name parameters                                                             \
    {                                                                                                                          \
        static void *_Atomic found;                                                                                            \
        if (!atomic_load(&found))                                                                                              \
            atomic_store(&found, dlsym(RTLD_NEXT, #name));                                                                     \
        perhaps_sleep();                                                                                                       \
        returns result = ((returns(*) parameters)atomic_load(&found))arguments;                                                \
        perhaps_sleep();                                                                                                       \
        return result;                                                                                                         \
    }

DELAYED(int, pthread_mutex_lock, (pthread_mutex_t * mutex), (mutex))
DELAYED(int, pthread_mutex_unlock, (pthread_mutex_t * mutex), (mutex))
DELAYED(int, pthread_cond_signal, (pthread_cond_t * cond), (cond))
DELAYED(int, pthread_cond_broadcast, (pthread_cond_t * cond), (cond))
DELAYED(int, pthread_cond_wait, (pthread_cond_t * cond, pthread_mutex_t *mutex), (cond, mutex))
DELAYED(int, pthread_cond_timedwait, (pthread_cond_t * cond, pthread_mutex_t *mutex, const struct timespec *until),
        (cond, mutex, until))
DELAYED(ssize_t, read, (int fd, void *data, size_t bytes), (fd, data, bytes))
DELAYED(ssize_t, write, (int fd, const void *data, size_t bytes), (fd, data, bytes))
DELAYED(ssize_t, pread, (int fd, void *data, size_t bytes, off_t offset), (fd, data, bytes, offset))
DELAYED(ssize_t, pwrite, (int fd, const void *data, size_t bytes, off_t offset), (fd, data, bytes, offset))
DELAYED(ssize_t, preadv2, (int fd, const struct iovec *parts, int count, off_t offset, int flags),
        (fd, parts, count, offset, flags))
DELAYED(ssize_t, send, (int fd, const void *data, size_t bytes, int flags), (fd, data, bytes, flags))
DELAYED(ssize_t, recv, (int fd, void *data, size_t bytes, int flags), (fd, data, bytes, flags))
DELAYED(int, accept, (int fd, struct sockaddr *address, socklen_t *bytes), (fd, address, bytes))
DELAYED(int, epoll_wait, (int fd, struct epoll_event *events, int most, int timeout), (fd, events, most, timeout))
