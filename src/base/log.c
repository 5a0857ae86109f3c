#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const room_names[DMC_ROOM_COUNT] = {"base", "zarr",     "codec",   "store",
                                                       "plan", "prefetch", "backend", "pipeline"};
static const char *const level_names[] = {"ERROR", "WARN", "INFO", "DEBUG"};

/* What each room may say: the settings folded into one number, so that asking costs one load. -1 is silence. */
static _Atomic int thresholds[DMC_ROOM_COUNT] = {DAMACY_LOG_WARN, DAMACY_LOG_WARN, DAMACY_LOG_WARN, DAMACY_LOG_WARN,
                                                 DAMACY_LOG_WARN, DAMACY_LOG_WARN, DAMACY_LOG_WARN, DAMACY_LOG_WARN};

static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER; /* guards the settings */
static int shared_level = DAMACY_LOG_WARN;
static bool shared_quiet;
static bool shared_debug[DMC_ROOM_COUNT]; /* from the environment */

static void fold_locked(void)
{
    for (int room = 0; room < DMC_ROOM_COUNT; room++) {
        int threshold = shared_quiet ? -1 : shared_debug[room] ? DAMACY_LOG_DEBUG : shared_level;
        atomic_store_explicit(&thresholds[room], threshold, memory_order_relaxed);
    }
}

/* DAMACY_LOG=store,plan is read once, when the library is loaded. */
__attribute__((constructor)) static void read_environment(void)
{
    const char *text = getenv("DAMACY_LOG");
    while (text && *text) {
        size_t bytes = strcspn(text, ",");
        bool all = bytes == 3 && strncmp(text, "all", 3) == 0, known = all || bytes == 0;
        for (int room = 0; room < DMC_ROOM_COUNT; room++)
            if (all || (bytes == strlen(room_names[room]) && strncmp(text, room_names[room], bytes) == 0))
                shared_debug[room] = known = true;
        if (!known)
            dmc_log_write(DMC_BASE, DAMACY_LOG_WARN,
                          "DAMACY_LOG: '%.*s' is none of base, zarr, codec, store, plan, prefetch, backend, pipeline, all",
                          bytes < 64 ? (int)bytes : 64, text);
        text += bytes + (text[bytes] == ',');
    }
    fold_locked();
}

void damacy_set_log_level(enum damacy_log_level level)
{
    int clamped = (int)level < DAMACY_LOG_ERROR   ? DAMACY_LOG_ERROR
                  : (int)level > DAMACY_LOG_DEBUG ? DAMACY_LOG_DEBUG
                                                  : (int)level;
    pthread_mutex_lock(&shared_lock);
    shared_level = clamped;
    fold_locked();
    pthread_mutex_unlock(&shared_lock);
}

void damacy_set_log_quiet(bool quiet)
{
    pthread_mutex_lock(&shared_lock);
    shared_quiet = quiet;
    fold_locked();
    pthread_mutex_unlock(&shared_lock);
}

bool dmc_log_wanted(enum dmc_room room, enum damacy_log_level level)
{
    return (int)level <= atomic_load_explicit(&thresholds[room], memory_order_relaxed);
}

void dmc_log_write(enum dmc_room room, enum damacy_log_level level, const char *format, ...)
{
    char line[2600]; /* a whole damacy_error message and what surrounds it */
    int prefix = snprintf(line, sizeof line, "damacy %s %s: ", level_names[level], room_names[room]);
    size_t capacity = sizeof line - (size_t)prefix - 1; /* room for the newline */
    va_list arguments;
    va_start(arguments, format);
    int bytes = vsnprintf(line + prefix, capacity, format, arguments);
    va_end(arguments);
    if (bytes < 0)
        return;
    size_t length = (size_t)prefix + (size_t)bytes;
    if ((size_t)bytes >= capacity) {
        length = (size_t)prefix + capacity - 1;
        memcpy(line + length - 3, "...", 3);
    }
    line[length++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, length); /* one write a line, so that threads do not mix */
    (void)written;                                        /* a closed stderr is no reason to fail */
}
