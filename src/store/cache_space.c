#include "store/cache_space.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/cache_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define USAGE_MAGIC 0x31455341435f434du
#define CANDIDATES_MAX 262144u /* files looked at by one round of eviction; of more, those used last are left alone */
#define ABANDONED_S 3600       /* a file that is being made for longer was left by a killed process */

struct usage {
    uint64_t magic, used;
};

struct candidate {
    int64_t used_ns; /* when it was last used */
    uint64_t bytes;
    char path[36]; /* ab/HEX */
};

/* The lock is held for a few system calls; who holds it longer is stopped, and not waited for. */
static bool lock_usage(const struct dmc_cache_space *space)
{
    for (int attempt = 0; attempt < 50; attempt++) {
        if (flock(space->usage_fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return false;
}

static void unlock_usage(const struct dmc_cache_space *space)
{
    flock(space->usage_fd, LOCK_UN);
}

/* false: it was never counted, or is damaged. */
static bool read_usage(const struct dmc_cache_space *space, uint64_t *used)
{
    struct usage usage;
    if (dmc_cache_read(space->usage_fd, &usage, sizeof usage, 0) != sizeof usage || usage.magic != USAGE_MAGIC)
        return false;
    *used = usage.used;
    return true;
}

static bool write_usage(const struct dmc_cache_space *space, uint64_t used)
{
    struct usage usage = {USAGE_MAGIC, used};
    return dmc_cache_write(space->usage_fd, &usage, sizeof usage, 0) == 0;
}

int dmc_cache_space_init(struct dmc_cache_space *space, int folder_fd, uint64_t cap_bytes)
{
    *space = (struct dmc_cache_space){.folder_fd = folder_fd, .cap_bytes = cap_bytes, .evict_fd = -1};
    uint64_t lease = cap_bytes / 256;
    space->lease_bytes = lease < 65536 ? 65536 : dmc_min_u64(lease, 64u << 20);
    space->usage_fd = openat(folder_fd, "usage", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (space->usage_fd < 0)
        return errno;
    space->evict_fd = openat(folder_fd, "evict.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (space->evict_fd < 0) {
        int os_error = errno;
        dmc_cache_space_deinit(space);
        return os_error;
    }
    return 0;
}

void dmc_cache_space_deinit(struct dmc_cache_space *space)
{
    uint64_t used;
    if (space->cap_bytes == 0)
        return;
    if (space->usage_fd >= 0) {
        if (space->lease_left && lock_usage(space)) {
            if (read_usage(space, &used))
                write_usage(space, used > space->lease_left ? used - space->lease_left : 0);
            unlock_usage(space);
        }
        close(space->usage_fd);
    }
    if (space->evict_fd >= 0)
        close(space->evict_fd);
    *space = (struct dmc_cache_space){.usage_fd = -1, .evict_fd = -1};
}

uint64_t dmc_cache_space_used(const struct dmc_cache_space *space)
{
    uint64_t used;
    return space->usage_fd >= 0 && read_usage(space, &used) ? used : 0;
}

/* --- making room --- */

static int by_use(const void *a, const void *b)
{
    const struct candidate *left = a, *right = b;
    if (left->used_ns != right->used_ns)
        return left->used_ns < right->used_ns ? -1 : 1;
    return memcmp(left->path, right->path, sizeof left->path);
}

/* Names of files being made that nobody is making any more. */
static void remove_abandoned(int folder_fd)
{
    int fd = openat(folder_fd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (!folder) {
        if (fd >= 0)
            close(fd);
        return;
    }
    time_t now = time(NULL);
    for (const struct dirent *entry; (entry = readdir(folder));) {
        struct stat facts;
        if (entry->d_name[0] != '.' && fstatat(fd, entry->d_name, &facts, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(facts.st_mode) &&
            facts.st_mtime < now - ABANDONED_S)
            unlinkat(fd, entry->d_name, 0);
    }
    closedir(folder);
}

struct census {
    struct candidate *candidates;
    uint32_t count;
    uint64_t bytes;
};

static void count_file(struct census *census, int folder, const char *sub, const char *name)
{
    struct stat facts;
    if (strlen(name) != 32 || fstatat(folder, name, &facts, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(facts.st_mode))
        return;
    uint64_t bytes = (uint64_t)facts.st_blocks * 512;
    census->bytes += bytes;
    if (census->count == CANDIDATES_MAX) {
        qsort(census->candidates, census->count, sizeof *census->candidates, by_use);
        census->count /= 2;
    }
    struct candidate *candidate = &census->candidates[census->count++];
    memset(candidate, 0, sizeof *candidate);
    candidate->used_ns = (int64_t)facts.st_mtim.tv_sec * 1000000000 + facts.st_mtim.tv_nsec;
    candidate->bytes = bytes;
    snprintf(candidate->path, sizeof candidate->path, "%s/%s", sub, name);
}

static bool take_census(const struct dmc_cache_space *space, struct census *census)
{
    *census = (struct census){.candidates = dmc_malloc(CANDIDATES_MAX * sizeof(struct candidate))};
    if (!census->candidates)
        return false;
    for (uint32_t i = 0; i < 256; i++) {
        char sub[3];
        snprintf(sub, sizeof sub, "%02x", i);
        int fd = openat(space->folder_fd, sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        DIR *folder = fd < 0 ? NULL : fdopendir(fd);
        if (!folder) {
            if (fd >= 0)
                close(fd);
            continue;
        }
        for (const struct dirent *entry; (entry = readdir(folder));)
            count_file(census, fd, sub, entry->d_name);
        closedir(folder);
    }
    return true;
}

/* Cutting frees the space at once, whoever has the file open; they find nothing in its table any more. */
static bool remove_file(const struct dmc_cache_space *space, const char *path)
{
    int fd = openat(space->folder_fd, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0) {
        if (ftruncate(fd, 0) < 0)
            dmc_log(DMC_STORE, DAMACY_LOG_DEBUG, "cache: cannot cut %s", path);
        close(fd);
    }
    return unlinkat(space->folder_fd, path, 0) == 0;
}

/* Count what is there, and remove the least recently used down to three quarters. false: someone else is at it, or it failed.
 */
static bool make_room(struct dmc_cache_space *space)
{
    if (flock(space->evict_fd, LOCK_EX | LOCK_NB) < 0)
        return false;
    remove_abandoned(space->folder_fd);
    struct census census;
    bool counted = take_census(space, &census);
    if (counted) {
        uint64_t target = space->cap_bytes / 4 * 3;
        if (census.bytes > target)
            qsort(census.candidates, census.count, sizeof *census.candidates, by_use);
        for (uint32_t i = 0; i < census.count && census.bytes > target; i++) {
            const struct candidate *candidate = &census.candidates[i];
            if (remove_file(space, candidate->path)) {
                census.bytes -= candidate->bytes;
                space->evicted_bytes += candidate->bytes;
            }
        }
        dmc_log(DMC_STORE, DAMACY_LOG_DEBUG, "cache: %llu bytes in use", (unsigned long long)census.bytes);
        counted = lock_usage(space);
        if (counted) {
            counted = write_usage(space, census.bytes + space->lease_left);
            unlock_usage(space);
        }
    }
    dmc_free(census.candidates);
    flock(space->evict_fd, LOCK_UN);
    return counted;
}

static bool take_lease(struct dmc_cache_space *space, uint64_t bytes)
{
    uint64_t want = dmc_max_u64(bytes - space->lease_left, space->lease_bytes), used;
    if (!lock_usage(space))
        return false;
    bool fits = read_usage(space, &used) && used <= UINT64_MAX - want && used + want <= space->cap_bytes / 16 * 15 &&
                write_usage(space, used + want);
    unlock_usage(space);
    if (fits)
        space->lease_left += want;
    return fits;
}

bool dmc_cache_space_reserve(struct dmc_cache_space *space, uint64_t bytes)
{
    if (bytes > space->cap_bytes / 8)
        return false;
    if (space->lease_left < bytes && !take_lease(space, bytes) && (!make_room(space) || !take_lease(space, bytes)))
        return false;
    space->lease_left -= bytes;
    return true;
}
