#include "store/cache_file.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK DMC_CACHE_BLOCK
#define HEADER_BYTES 4096u
#define VALIDATED_AT 4088u
#define MAGIC "DMCCACH1"
#define STEP 512u /* entries handled at once: a page of the table */
#define CHAINS 4096u

struct entry {
    uint16_t begin, end;
    uint32_t check;
};

struct dmc_cache_files {
    /* constant */
    int folder_fd;
    uint32_t limit;
    /* shared */
    struct dmc_mutex lock;
    uint32_t shared_count DMC_GUARDED_BY(lock);
    uint64_t shared_made DMC_GUARDED_BY(lock); /* names of files being made */
    struct dmc_cache_file *shared_newest DMC_GUARDED_BY(lock), *shared_oldest DMC_GUARDED_BY(lock);
    struct dmc_cache_file *shared_chains[CHAINS] DMC_GUARDED_BY(lock);
};

/* --- system calls --- */

int dmc_cache_write(int fd, const void *data, uint64_t bytes, uint64_t offset)
{
    const char *next = data;
    while (bytes) {
        ssize_t wrote = pwrite(fd, next, bytes, (off_t)offset);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0) {
            if (wrote == 0)
                errno = ENOSPC;
            return -1;
        }
        next += wrote;
        bytes -= (uint64_t)wrote;
        offset += (uint64_t)wrote;
    }
    return 0;
}

int64_t dmc_cache_read(int fd, void *data, uint64_t bytes, uint64_t offset)
{
    char *next = data;
    uint64_t done = 0;
    while (done < bytes) {
        ssize_t got = pread(fd, next + done, bytes - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        done += (uint64_t)got;
    }
    return (int64_t)done;
}

/* --- names --- */

bool dmc_cache_name_make(const char *identity, const char *key, struct dmc_cache_name *name)
{
    size_t key_bytes = strlen(key), identity_bytes = strlen(identity);
    if (identity_bytes + 1 + key_bytes > DMC_CACHE_NAME_MAX)
        return false;
    name->identity = identity;
    name->key = key;
    name->bytes = (uint32_t)(identity_bytes + 1 + key_bytes);
    for (uint64_t i = 0; i < 2; i++)
        name->hash[i] = dmc_hash_bytes(key, key_bytes, dmc_hash_bytes(identity, identity_bytes, i + 1));
    return true;
}

#define PATH_BYTES 40
static void path_of(const uint64_t hash[2], char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%02x/%016llx%016llx", (unsigned)(hash[0] >> 56), (unsigned long long)hash[0],
             (unsigned long long)hash[1]);
}

/* --- the header --- */

static uint64_t data_begin_of(uint64_t object_bytes)
{
    return HEADER_BYTES + dmc_round_up(dmc_ceil_div(object_bytes, BLOCK) * sizeof(struct entry), BLOCK);
}

static void put_u32(unsigned char *to, uint32_t value)
{
    memcpy(to, &value, sizeof value);
}
static void put_u64(unsigned char *to, uint64_t value)
{
    memcpy(to, &value, sizeof value);
}

static void header_write(unsigned char header[HEADER_BYTES], const struct dmc_cache_name *name, uint64_t tag,
                         uint64_t object_bytes, uint64_t now_s)
{
    memset(header, 0, HEADER_BYTES);
    memcpy(header, MAGIC, 8);
    put_u32(header + 12, name->bytes);
    put_u64(header + 16, tag);
    put_u64(header + 24, object_bytes);
    size_t identity_bytes = strlen(name->identity);
    memcpy(header + 32, name->identity, identity_bytes);
    header[32 + identity_bytes] = '\n';
    memcpy(header + 33 + identity_bytes, name->key, name->bytes - identity_bytes - 1);
    put_u32(header + 8, dmc_crc32c(header + 12, VALIDATED_AT - 12));
    put_u64(header + VALIDATED_AT, now_s);
}

static bool header_read(const unsigned char header[HEADER_BYTES], const struct dmc_cache_name *name,
                        struct dmc_cache_file *file)
{
    size_t identity_bytes = strlen(name->identity);
    if (memcmp(header, MAGIC, 8) != 0 || dmc_load_u32le(header + 8) != dmc_crc32c(header + 12, VALIDATED_AT - 12) ||
        dmc_load_u32le(header + 12) != name->bytes || memcmp(header + 32, name->identity, identity_bytes) != 0 ||
        header[32 + identity_bytes] != '\n' ||
        memcmp(header + 33 + identity_bytes, name->key, name->bytes - identity_bytes - 1) != 0)
        return false;
    file->tag = dmc_load_u64le(header + 16);
    file->object_bytes = dmc_load_u64le(header + 24);
    if (file->tag == 0 || file->object_bytes == 0 || file->object_bytes > DMC_CACHE_OBJECT_MAX)
        return false;
    file->data_begin = data_begin_of(file->object_bytes);
    atomic_init(&file->validated_s, dmc_load_u64le(header + VALIDATED_AT));
    return true;
}

/* --- the table of open files --- */

enum damacy_status dmc_cache_files_create(int folder_fd, uint32_t open_files_max, struct dmc_cache_files **out,
                                          struct damacy_error *error)
{
    struct dmc_cache_files *files = dmc_calloc(1, sizeof *files);
    if (!files)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the disk cache");
    files->folder_fd = folder_fd;
    files->limit = open_files_max ? open_files_max : 1;
    dmc_mutex_init(&files->lock);
    *out = files;
    return DAMACY_OK;
}

static struct dmc_cache_file **chain_of(struct dmc_cache_files *files, const uint64_t hash[2])
{
    return &files->shared_chains[hash[0] % CHAINS];
}

static void unlist_locked(struct dmc_cache_files *files, struct dmc_cache_file *file) DMC_REQUIRES(files->lock);
static void unlist_locked(struct dmc_cache_files *files, struct dmc_cache_file *file)
{
    if (!file->listed)
        return;
    file->listed = false;
    files->shared_count--;
    struct dmc_cache_file **link = chain_of(files, file->hash);
    while (*link != file)
        link = &(*link)->chain;
    *link = file->chain;
    *(file->newer ? &file->newer->older : &files->shared_newest) = file->older;
    *(file->older ? &file->older->newer : &files->shared_oldest) = file->newer;
}

static void enlist_locked(struct dmc_cache_files *files, struct dmc_cache_file *file) DMC_REQUIRES(files->lock);
static void enlist_locked(struct dmc_cache_files *files, struct dmc_cache_file *file)
{
    struct dmc_cache_file **chain = chain_of(files, file->hash);
    file->listed = true;
    files->shared_count++;
    file->chain = *chain;
    *chain = file;
    file->newer = NULL;
    file->older = files->shared_newest;
    *(file->older ? &file->older->newer : &files->shared_oldest) = file;
    files->shared_newest = file;
}

static void touch_locked(struct dmc_cache_files *files, struct dmc_cache_file *file) DMC_REQUIRES(files->lock);
static void touch_locked(struct dmc_cache_files *files, struct dmc_cache_file *file)
{
    if (files->shared_newest == file)
        return;
    file->newer->older = file->older;
    *(file->older ? &file->older->newer : &files->shared_oldest) = file->newer;
    file->newer = NULL;
    file->older = files->shared_newest;
    files->shared_newest->newer = file;
    files->shared_newest = file;
}

static struct dmc_cache_file *find_locked(struct dmc_cache_files *files, const uint64_t hash[2]) DMC_REQUIRES(files->lock);
static struct dmc_cache_file *find_locked(struct dmc_cache_files *files, const uint64_t hash[2])
{
    struct dmc_cache_file *file = *chain_of(files, hash);
    while (file && (file->hash[0] != hash[0] || file->hash[1] != hash[1]))
        file = file->chain;
    return file;
}

static void file_close(struct dmc_cache_file *file)
{
    if (!file)
        return;
    close(file->fd);
    dmc_free(file);
}

/* Room for one more: unlists and returns the one that goes, or NULL; *full when all are in use. */
static struct dmc_cache_file *shrink_locked(struct dmc_cache_files *files, bool *full) DMC_REQUIRES(files->lock);
static struct dmc_cache_file *shrink_locked(struct dmc_cache_files *files, bool *full)
{
    *full = false;
    if (files->shared_count < files->limit)
        return NULL;
    struct dmc_cache_file *file = files->shared_oldest;
    while (file && file->references)
        file = file->newer;
    if (file)
        unlist_locked(files, file);
    else
        *full = true;
    return file;
}

/* List a file that was just opened or made. Another thread may have been quicker: then it is that one's, unless `replace`. */
static struct dmc_cache_file *publish(struct dmc_cache_files *files, struct dmc_cache_file *file, bool replace)
{
    struct dmc_cache_file *gone = NULL, *other;
    bool full = false;
    file->references = 1;
    dmc_mutex_lock(&files->lock);
    other = find_locked(files, file->hash);
    if (other && !replace && !atomic_load_explicit(&other->stale, memory_order_relaxed)) {
        other->references++;
        touch_locked(files, other);
        dmc_mutex_unlock(&files->lock);
        file_close(file);
        return other;
    }
    if (other) {
        atomic_store_explicit(&other->stale, true, memory_order_relaxed);
        unlist_locked(files, other);
        if (other->references)
            other = NULL; /* its last user closes it */
    }
    gone = shrink_locked(files, &full);
    if (!full)
        enlist_locked(files, file);
    dmc_mutex_unlock(&files->lock);
    file_close(other);
    file_close(gone);
    if (full) {
        file_close(file);
        errno = EMFILE;
        return NULL;
    }
    return file;
}

void dmc_cache_file_release(struct dmc_cache_files *files, struct dmc_cache_file *file)
{
    dmc_mutex_lock(&files->lock);
    bool last = --file->references == 0;
    if (last && atomic_load_explicit(&file->stale, memory_order_relaxed))
        unlist_locked(files, file);
    bool closing = last && !file->listed;
    dmc_mutex_unlock(&files->lock);
    if (closing)
        file_close(file);
}

bool dmc_cache_files_destroy(struct dmc_cache_files *files)
{
    if (!files)
        return true;
    dmc_mutex_lock(&files->lock);
    bool busy = false;
    for (struct dmc_cache_file *file = files->shared_newest, *older; file; file = older) {
        older = file->older;
        if (file->references) {
            busy = true;
            continue;
        }
        unlist_locked(files, file);
        file_close(file);
    }
    dmc_mutex_unlock(&files->lock);
    if (busy)
        return false;
    dmc_mutex_deinit(&files->lock);
    dmc_free(files);
    return true;
}

/* --- one file --- */

static uint64_t coarse_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return (uint64_t)now.tv_sec;
}

bool dmc_cache_file_alive(struct dmc_cache_file *file)
{
    struct stat facts;
    if (fstat(file->fd, &facts) == 0 && facts.st_nlink > 0 && (uint64_t)facts.st_size == file->data_begin + file->object_bytes)
        return true;
    atomic_store_explicit(&file->stale, true, memory_order_relaxed);
    return false;
}

/* Once a second a user looks whether the file is still the one of its name, and tells all processes that it is in use. */
static bool in_use(struct dmc_cache_file *file)
{
    uint64_t now_s = coarse_s();
    if (atomic_load_explicit(&file->stale, memory_order_relaxed))
        return false;
    if (atomic_exchange_explicit(&file->looked_s, now_s, memory_order_relaxed) == now_s)
        return true;
    if (!dmc_cache_file_alive(file))
        return false;
    futimens(file->fd, NULL); /* what cannot be touched (read-only) cannot be evicted either */
    return true;
}

static struct dmc_cache_file *open_file(struct dmc_cache_files *files, const struct dmc_cache_name *name)
{
    char path[PATH_BYTES];
    path_of(name->hash, path);
    bool writable = true;
    int fd = openat(files->folder_fd, path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && (errno == EACCES || errno == EROFS || errno == EPERM)) {
        writable = false;
        fd = openat(files->folder_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    }
    if (fd < 0)
        return NULL;
    unsigned char header[HEADER_BYTES];
    struct stat facts;
    struct dmc_cache_file *file = dmc_calloc(1, sizeof *file);
    bool fine = file && fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode) &&
                dmc_cache_read(fd, header, sizeof header, 0) == sizeof header && header_read(header, name, file) &&
                (uint64_t)facts.st_size == file->data_begin + file->object_bytes;
    if (!fine) {
        dmc_free(file);
        close(fd);
        return NULL;
    }
    memcpy(file->hash, name->hash, sizeof file->hash);
    file->fd = fd;
    file->writable = writable;
    return file;
}

struct dmc_cache_file *dmc_cache_file_acquire(struct dmc_cache_files *files, const struct dmc_cache_name *name)
{
    dmc_mutex_lock(&files->lock);
    struct dmc_cache_file *file = find_locked(files, name->hash);
    if (file) {
        file->references++;
        touch_locked(files, file);
    }
    dmc_mutex_unlock(&files->lock);
    if (file) {
        if (in_use(file))
            return file;
        dmc_cache_file_release(files, file);
    }
    file = open_file(files, name);
    if (file)
        file = publish(files, file, false);
    if (file && !in_use(file)) {
        dmc_cache_file_release(files, file);
        file = NULL;
    }
    return file;
}

void dmc_cache_file_discard(struct dmc_cache_files *files, struct dmc_cache_file *file)
{
    if (atomic_exchange_explicit(&file->stale, true, memory_order_relaxed))
        return;
    char path[PATH_BYTES];
    path_of(file->hash, path);
    struct stat named, own;
    /* Between the look and the removal another process may put a new file in its place; that one is then only missed. */
    if (fstatat(files->folder_fd, path, &named, AT_SYMLINK_NOFOLLOW) == 0 && fstat(file->fd, &own) == 0 &&
        named.st_ino == own.st_ino && named.st_dev == own.st_dev) {
        if (file->writable && ftruncate(file->fd, 0) < 0)
            errno = 0; /* then its space comes free when the last one closes it */
        unlinkat(files->folder_fd, path, 0);
    }
    dmc_mutex_lock(&files->lock);
    unlist_locked(files, file);
    dmc_mutex_unlock(&files->lock);
}

struct dmc_cache_file *dmc_cache_file_make(struct dmc_cache_files *files, const struct dmc_cache_name *name, uint64_t tag,
                                           uint64_t object_bytes, uint64_t now_s)
{
    char temporary[64], path[PATH_BYTES];
    unsigned char header[HEADER_BYTES];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    dmc_mutex_lock(&files->lock);
    uint64_t number = files->shared_made++;
    dmc_mutex_unlock(&files->lock);
    /* The time, as other containers on the same folder may have the same process numbers. */
    snprintf(temporary, sizeof temporary, "tmp/%d-%llu-%lld%09ld", (int)getpid(), (unsigned long long)number,
             (long long)now.tv_sec, now.tv_nsec);
    path_of(name->hash, path);
    struct dmc_cache_file *file = dmc_calloc(1, sizeof *file);
    if (!file) {
        errno = ENOMEM;
        return NULL;
    }
    file->fd = openat(files->folder_fd, temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file->fd < 0) {
        dmc_free(file);
        return NULL;
    }
    memcpy(file->hash, name->hash, sizeof file->hash);
    file->writable = true;
    file->tag = tag;
    file->object_bytes = object_bytes;
    file->data_begin = data_begin_of(object_bytes);
    atomic_init(&file->validated_s, now_s);
    header_write(header, name, tag, object_bytes, now_s);
    bool made = ftruncate(file->fd, (off_t)(file->data_begin + object_bytes)) == 0 &&
                dmc_cache_write(file->fd, header, sizeof header, 0) == 0;
    if (made && renameat(files->folder_fd, temporary, files->folder_fd, path) < 0) {
        char folder[3] = {path[0], path[1], 0};
        made = errno == ENOENT && (mkdirat(files->folder_fd, folder, 0700) == 0 || errno == EEXIST) &&
               renameat(files->folder_fd, temporary, files->folder_fd, path) == 0;
    }
    if (!made) {
        int os_error = errno;
        unlinkat(files->folder_fd, temporary, 0);
        file_close(file);
        errno = os_error;
        return NULL;
    }
    return publish(files, file, true);
}

void dmc_cache_file_confirm(struct dmc_cache_file *file, uint64_t now_s)
{
    unsigned char bytes[8];
    uint64_t before = atomic_exchange_explicit(&file->validated_s, now_s, memory_order_relaxed);
    /* The disk hears of it once a minute: that is for other processes, and a second more or less means nothing to them. */
    if (!file->writable || (before <= now_s && now_s - before < 60))
        return;
    put_u64(bytes, now_s);
    if (dmc_cache_write(file->fd, bytes, sizeof bytes, VALIDATED_AT) < 0)
        errno = 0; /* then they ask once more */
}

/* --- blocks --- */

static uint32_t check_of(const struct dmc_cache_file *file, uint64_t block, const unsigned char *data, uint32_t bytes)
{
    return dmc_crc32c(data, bytes) ^ (uint32_t)dmc_hash_u64(file->tag, block);
}

static uint64_t entry_at(uint64_t block)
{
    return HEADER_BYTES + block * sizeof(struct entry);
}

/* `count` entries from `first` on; false: the file was cut. */
static bool read_entries(const struct dmc_cache_file *file, uint64_t first, uint32_t count, struct entry *entries)
{
    return dmc_cache_read(file->fd, entries, count * sizeof *entries, entry_at(first)) == (int64_t)(count * sizeof *entries);
}

/* What of [begin, end) lies in a block, relative to it. */
static void part_of_block(uint64_t block, uint64_t begin, uint64_t end, uint32_t *from, uint32_t *to)
{
    uint64_t at = block * BLOCK;
    *from = begin > at ? (uint32_t)(begin - at) : 0;
    *to = (uint32_t)(dmc_min_u64(end, at + BLOCK) - at);
}

static bool holds(const struct entry *entry, uint32_t from, uint32_t to)
{
    return entry->end <= BLOCK && entry->begin <= from && entry->end >= to;
}

void dmc_cache_file_missing(struct dmc_cache_file *file, uint64_t begin, uint64_t end, uint64_t *missing_begin,
                            uint64_t *missing_end)
{
    struct entry entries[STEP];
    uint64_t block = begin / BLOCK, last = (end - 1) / BLOCK;
    *missing_begin = *missing_end = end;
    while (block <= last) {
        uint32_t count = (uint32_t)dmc_min_u64(last - block + 1, STEP), from, to;
        if (!read_entries(file, block, count, entries)) { /* it was cut */
            atomic_store_explicit(&file->stale, true, memory_order_relaxed);
            *missing_begin = begin;
            *missing_end = end;
            return;
        }
        for (uint32_t i = 0; i < count; i++, block++) {
            part_of_block(block, begin, end, &from, &to);
            if (holds(&entries[i], from, to))
                continue;
            *missing_begin = dmc_min_u64(*missing_begin, block * BLOCK + from);
            *missing_end = block * BLOCK + to;
        }
    }
}

/* Walks over parts block by block. */
struct gather {
    const struct iovec *parts;
    uint32_t count, index;
    size_t within;
    unsigned char scratch[BLOCK];
};

/* The next `bytes` bytes, in one piece; NULL: there are not so many. */
static const unsigned char *gather_next(struct gather *gather, uint32_t bytes)
{
    uint32_t copied = 0;
    while (copied < bytes) {
        if (gather->index == gather->count)
            return NULL;
        const struct iovec *part = &gather->parts[gather->index];
        size_t left = part->iov_len - gather->within;
        const unsigned char *at = (const unsigned char *)part->iov_base + gather->within;
        if (copied == 0 && left >= bytes) {
            gather->within += bytes;
            return at;
        }
        size_t take = left < bytes - copied ? left : bytes - copied;
        if (take)
            memcpy(gather->scratch + copied, at, take);
        copied += (uint32_t)take;
        gather->within += take;
        if (gather->within == part->iov_len) {
            gather->index++;
            gather->within = 0;
        }
    }
    return gather->scratch;
}

/* A block did not match the table: is it so in the file, too? The bytes were read first and the table later, and a writer that
 * added to the block in between had told the table of bytes that were not among those. */
static bool block_damaged(const struct dmc_cache_file *file, uint64_t block)
{
    unsigned char bytes[BLOCK];
    struct entry before, after;
    if (!read_entries(file, block, 1, &before) || before.end > BLOCK || before.begin >= before.end)
        return false;
    uint32_t length = before.end - before.begin;
    if (dmc_cache_read(file->fd, bytes, length, file->data_begin + block * BLOCK + before.begin) != (int64_t)length ||
        check_of(file, block, bytes, length) == before.check)
        return false;
    return read_entries(file, block, 1, &after) && memcmp(&before, &after, sizeof before) == 0;
}

enum dmc_cache_check dmc_cache_file_check(struct dmc_cache_file *file, uint64_t begin, uint64_t end, const struct iovec *parts,
                                          uint32_t part_count)
{
    struct entry entries[STEP];
    struct gather gather = {.parts = parts, .count = part_count};
    enum dmc_cache_check result = DMC_CACHE_GOOD;
    uint64_t block = begin / BLOCK, last = (end - 1) / BLOCK;
    while (block <= last) {
        uint64_t first = block;
        uint32_t count = (uint32_t)dmc_min_u64(last - block + 1, STEP), from, to;
        bool damaged = false;
        if (!read_entries(file, block, count, entries))
            return DMC_CACHE_GONE;
        for (uint32_t i = 0; i < count; i++, block++) {
            part_of_block(block, begin, end, &from, &to);
            uint32_t block_bytes = (uint32_t)(dmc_min_u64(file->object_bytes, (block + 1) * BLOCK) - block * BLOCK);
            const unsigned char *data = gather_next(&gather, block_bytes);
            struct entry *entry = &entries[i];
            if (!data || !holds(entry, from, to) || entry->end > block_bytes)
                return DMC_CACHE_GONE; /* taken out by someone since it was looked at */
            if (check_of(file, block, data + entry->begin, (uint32_t)(entry->end - entry->begin)) != entry->check) {
                if (!block_damaged(file, block))
                    return DMC_CACHE_GONE;
                *entry = (struct entry){0};
                damaged = true;
            }
        }
        if (damaged) {
            result = DMC_CACHE_DAMAGED;
            if (file->writable && dmc_cache_write(file->fd, entries, count * sizeof *entries, entry_at(first)) < 0)
                return result; /* then the next one finds it damaged, too */
        }
    }
    return result;
}

/* --- writing --- */

static int checked_write(struct dmc_cache_writer *writer, int fd, const void *data, uint64_t bytes, uint64_t offset)
{
    int os_error = writer->write_fault ? writer->write_fault(writer->user, writer->count++) : 0;
    if (os_error) {
        errno = os_error;
        return -1;
    }
    return dmc_cache_write(fd, data, bytes, offset);
}

/* The entry for a block of which [from, to) is about to be written, beside what is there already. false: leave it as it is. */
static bool merge(const struct dmc_cache_file *file, uint64_t block, uint32_t from, uint32_t to, const unsigned char *data,
                  struct entry *entry)
{
    unsigned char bytes[BLOCK];
    if (entry->end > BLOCK || entry->begin >= entry->end)
        *entry = (struct entry){0};
    if (entry->end && holds(entry, from, to))
        return false;
    bool apart = entry->end && (to < entry->begin || from > entry->end);
    if (apart && entry->end - entry->begin >= (int)(to - from))
        return false; /* an entry tells of one stretch: the longer one stays */
    bool touches = entry->end && !apart && (entry->begin < from || entry->end > to);
    if (touches) {
        /* What is there has to be right before it is vouched for once more. */
        uint32_t begin = entry->begin, end = entry->end;
        touches = dmc_cache_read(file->fd, bytes + begin, end - begin, file->data_begin + block * BLOCK + begin) ==
                      (int64_t)(end - begin) &&
                  check_of(file, block, bytes + begin, end - begin) == entry->check;
        if (touches) {
            memcpy(bytes + from, data, to - from);
            begin = begin < from ? begin : from;
            end = end > to ? end : to;
            *entry = (struct entry){(uint16_t)begin, (uint16_t)end, check_of(file, block, bytes + begin, end - begin)};
            return true;
        }
    }
    *entry = (struct entry){(uint16_t)from, (uint16_t)to, check_of(file, block, data, to - from)};
    return true;
}

enum dmc_cache_wrote dmc_cache_file_write(struct dmc_cache_file *file, struct dmc_cache_writer *writer, uint64_t begin,
                                          const unsigned char *data, uint64_t bytes, uint64_t *stored)
{
    struct entry entries[STEP];
    uint64_t end = begin + bytes, block = begin / BLOCK, last = (end - 1) / BLOCK;
    while (block <= last) {
        uint64_t first = block, new_blocks = 0, first_new = 0, last_new = 0, write_begin = end, write_end = begin;
        uint32_t count = (uint32_t)dmc_min_u64(last - block + 1, STEP);
        if (!read_entries(file, block, count, entries)) {
            errno = 0;
            return DMC_CACHE_NO_ROOM; /* it was removed meanwhile */
        }
        for (uint32_t i = 0; i < count; i++, block++) {
            uint32_t from, to;
            part_of_block(block, begin, end, &from, &to);
            uint64_t at = block * BLOCK + from;
            if (!merge(file, block, from, to, data + (at - begin), &entries[i]))
                continue;
            first_new = new_blocks++ ? first_new : block;
            last_new = block;
            write_begin = dmc_min_u64(write_begin, at);
            write_end = dmc_max_u64(write_end, block * BLOCK + to);
        }
        if (new_blocks == 0)
            continue;
        /* The blocks between the first and the last new one are there already; two pages of the table may be new. */
        if (!writer->reserve(writer->reserve_user, (new_blocks + 2) * BLOCK))
            return DMC_CACHE_NO_ROOM;
        if (checked_write(writer, file->fd, data + (write_begin - begin), write_end - write_begin,
                          file->data_begin + write_begin) < 0 ||
            checked_write(writer, file->fd, entries + (first_new - first), (last_new - first_new + 1) * sizeof *entries,
                          entry_at(first_new)) < 0)
            return DMC_CACHE_WRITE_FAILED;
        *stored += write_end - write_begin;
    }
    return DMC_CACHE_WROTE;
}
