/* The decorator.
 *
 *     start: known and trusted, and the table has all of the range? -yes-> read the file -> checksums right? -> done
 *               |\ most of it: read what is there -> checksums right? -> the inner store for the rest -> OK -> done
 *               |                                        | damaged, short, failed
 *               +--------------> the inner store for all <+ -> OK, with a tag: copy into the queue -> done
 */
#include "store/cache_store.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/cache_writer.h"
#include "store/io_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define PARTS_MAX 8u
#define PARTIAL_BYTES_MIN 32768u /* below that two reads cost more than bytes */
#define IDLE_READS_MAX 1024u     /* kept for the next requests */
#define CAP_MIN (1ull << 20)
#define DESTROY_WAIT_NS 2000000000u

/* What a request needs while it is under way. */
struct cache_read {
    struct cache_read *next;
    struct dmc_cache_file *file; /* NULL: none was known at the start */
    struct dmc_cache_name name;
    struct iovec *parts; /* the caller's */
    uint32_t part_count;
    enum dmc_range_kind kind; /* what the request said, too */
    uint64_t offset;
    uint64_t ahead_bytes;
    uint64_t begin, end;                 /* of the object, when it is read from the file */
    uint64_t missing_begin, missing_end; /* what of it is asked of the inner store; none: both are the end */
    uint64_t piece_begin, piece_end;     /* what of it is being read from the file */
    bool partial;                        /* the inner store was asked for the missing part only */
    struct iovec original[PARTS_MAX];
    struct iovec piece[PARTS_MAX];      /* those of the missing part, used up by the inner store */
    struct iovec whole[PARTS_MAX + 2];  /* of the piece, with the rest of its first and its last block */
    struct iovec moving[PARTS_MAX + 2]; /* the same, used up while reading */
    uint32_t whole_count;
    unsigned char head[DMC_CACHE_BLOCK], tail[DMC_CACHE_BLOCK];
};

struct dmc_cache {
    /* constant */
    int folder_fd; /* -1: there is no folder to use */
    uint64_t bytes_max, max_age_s, made_s;
    struct dmc_cache_files *files;
    struct dmc_cache_space space;
    struct dmc_cache_queue *queue;
    /* any thread */
    _Atomic bool no_nowait; /* the file system refuses RWF_NOWAIT */
    _Atomic uint64_t hits, hit_bytes, misses, miss_bytes, partial, bypassed, revalidated, changed, damaged;
    _Atomic uint32_t reads_out;
    /* shared */
    struct dmc_mutex lock;
    struct cache_read *shared_idle DMC_GUARDED_BY(lock);
    uint32_t shared_idle_count DMC_GUARDED_BY(lock);
};

struct cache_store {
    struct dmc_store store;
    struct dmc_store *inner;
    struct dmc_cache *cache;
    char identity[];
};

/* In request->cache_data: the answer came from here, so that the inner store has nothing to finish. */
static char answered_here;

static struct cache_store *of(struct dmc_store *store)
{
    return (struct cache_store *)store;
}

static void count(_Atomic uint64_t *counter, uint64_t amount)
{
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

/* --- reads under way --- */

static struct cache_read *read_take(struct dmc_cache *cache)
{
    dmc_mutex_lock(&cache->lock);
    struct cache_read *read = cache->shared_idle;
    if (read) {
        cache->shared_idle = read->next;
        cache->shared_idle_count--;
    }
    dmc_mutex_unlock(&cache->lock);
    if (!read)
        read = dmc_malloc(sizeof *read);
    if (read)
        atomic_fetch_add_explicit(&cache->reads_out, 1, memory_order_relaxed);
    return read;
}

static void read_end(struct dmc_cache *cache, struct cache_read *read)
{
    if (read->file)
        dmc_cache_file_release(cache->files, read->file);
    atomic_fetch_sub_explicit(&cache->reads_out, 1, memory_order_relaxed);
    dmc_mutex_lock(&cache->lock);
    bool keep = cache->shared_idle_count < IDLE_READS_MAX;
    if (keep) {
        read->next = cache->shared_idle;
        cache->shared_idle = read;
        cache->shared_idle_count++;
    }
    dmc_mutex_unlock(&cache->lock);
    if (!keep)
        dmc_free(read);
}

/* --- the inner store --- */

static bool is_trusted(const struct dmc_cache *cache, struct dmc_cache_file *file)
{
    uint64_t validated_s = atomic_load_explicit(&file->validated_s, memory_order_relaxed);
    if (cache->max_age_s == UINT64_MAX)
        return true;
    uint64_t now_s = (uint64_t)time(NULL);
    if (validated_s > now_s + 5) /* nonsense, or a clock that was set back */
        return false;
    if (cache->max_age_s == 0)
        return validated_s >= cache->made_s;
    return validated_s + cache->max_age_s >= now_s;
}

/* The object has another version than the one whose bytes are kept. */
static void changed(struct dmc_cache *cache, struct cache_read *read, struct dmc_request *request)
{
    count(&cache->changed, 1);
    if (atomic_load_explicit(&read->file->served, memory_order_relaxed) && request->outcome == DMC_OUTCOME_OK)
        dmc_request_fail(request, DAMACY_IO, 0,
                         "the object changed while it was in use: its version is not that of the bytes in the disk cache");
    dmc_cache_file_discard(cache->files, read->file);
}

/* Those parts, or parts of them, that hold [skip, skip + bytes) of what the request wants. */
static uint32_t slice(const struct cache_read *read, uint64_t skip, uint64_t bytes, struct iovec *parts)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < read->part_count && bytes; i++) {
        const struct iovec *part = &read->original[i];
        if (skip >= part->iov_len) {
            skip -= part->iov_len;
            continue;
        }
        size_t take = dmc_min_u64(part->iov_len - skip, bytes);
        parts[n++] = (struct iovec){(char *)part->iov_base + skip, take};
        bytes -= take;
        skip = 0;
    }
    return n;
}

/* The inner store has answered: keep what it gave. */
static void learn(struct dmc_cache *cache, struct cache_read *read, struct dmc_request *request)
{
    struct dmc_cache_file *file = read->file;
    if (request->outcome == DMC_OUTCOME_ABSENT && file)
        changed(cache, read, request);
    if (request->outcome != DMC_OUTCOME_OK)
        return;
    count(&cache->misses, 1);
    count(&cache->miss_bytes, request->bytes_read);
    if (request->version_tag == 0 || request->object_bytes == UINT64_MAX)
        return;
    if (file && (file->tag != request->version_tag || file->object_bytes != request->object_bytes)) {
        changed(cache, read, request);
        if (request->outcome != DMC_OUTCOME_OK)
            return;
    } else if (file) {
        if (!is_trusted(cache, file))
            count(&cache->revalidated, 1);
        dmc_cache_file_confirm(file, (uint64_t)time(NULL));
    }
    uint64_t begin = request->kind == DMC_RANGE_SPAN ? request->offset
                     : request->kind == DMC_RANGE_SUFFIX
                         ? request->object_bytes - dmc_min_u64(request->bytes_read, request->object_bytes)
                         : 0;
    struct iovec parts[PARTS_MAX];
    uint32_t part_count = slice(read, read->partial ? read->missing_begin - read->begin : 0, request->bytes_read, parts);
    if (begin <= request->object_bytes && request->bytes_read <= request->object_bytes - begin)
        dmc_cache_queue_put(cache->queue, &read->name, request->version_tag, request->object_bytes, begin, parts, part_count,
                            request->bytes_read);
}

/* The inner store is done. */
static void inner_answered(struct dmc_cache *cache, struct dmc_request *request)
{
    struct cache_read *read = request->cache_data;
    if (read->partial && request->outcome == DMC_OUTCOME_TRUNCATED)
        dmc_request_fail(request, DAMACY_IO, 0, "the object became shorter while it was in use");
    learn(cache, read, request);
    if (read->partial && request->outcome == DMC_OUTCOME_OK) {
        count(&cache->partial, 1);
        count(&cache->hit_bytes, read->end - read->begin - request->bytes_read);
        request->bytes_read = read->end - read->begin;
    }
    request->kind = read->kind;
    request->offset = read->offset;
    request->ahead_bytes = read->ahead_bytes;
    request->parts = read->parts;
    request->part_count = read->part_count;
    read_end(cache, read);
    request->cache_data = &answered_here;
}

static enum dmc_start start_inner(struct cache_store *self, struct dmc_io *io, struct dmc_request *request)
{
    dmc_request_reset(request);
    request->holder = self->inner;
    if (self->inner->ops->start(self->inner, io, request) == DMC_START_PENDING)
        return DMC_START_PENDING;
    inner_answered(self->cache, request);
    return DMC_START_DONE;
}

static enum dmc_start ask_inner(struct cache_store *self, struct dmc_io *io, struct dmc_request *request)
{
    struct cache_read *read = request->cache_data;
    request->parts = read->parts;
    request->part_count = read->part_count;
    return start_inner(self, io, request);
}

/* The rest of the range is there. */
static enum dmc_start ask_inner_for_missing(struct cache_store *self, struct dmc_io *io, struct dmc_request *request)
{
    struct cache_read *read = request->cache_data;
    read->partial = true;
    request->kind = DMC_RANGE_SPAN;
    request->offset = read->missing_begin;
    request->parts = read->piece;
    request->part_count = slice(read, read->missing_begin - read->begin, read->missing_end - read->missing_begin, read->piece);
    return start_inner(self, io, request);
}

/* --- the file --- */

static enum dmc_start answer(struct cache_store *self, struct dmc_request *request)
{
    struct cache_read *read = request->cache_data;
    request->parts = read->parts;
    request->part_count = read->part_count;
    if (request->outcome == DMC_OUTCOME_OK || request->outcome == DMC_OUTCOME_TOO_LONG) {
        request->object_bytes = read->file->object_bytes;
        request->version_tag = read->file->tag;
    }
    request->ahead_bytes = read->ahead_bytes;
    read_end(self->cache, read);
    request->cache_data = &answered_here;
    return DMC_START_DONE;
}

static enum dmc_start read_piece(struct cache_store *self, struct dmc_io *io, struct dmc_request *request, uint64_t begin,
                                 uint64_t end);

/* All bytes of the piece are there: are they the right ones? */
static enum dmc_start judge(struct cache_store *self, struct dmc_io *io, struct dmc_request *request)
{
    struct cache_read *read = request->cache_data;
    struct dmc_cache *cache = self->cache;
    switch (dmc_cache_file_check(read->file, read->piece_begin, read->piece_end, read->whole, read->whole_count)) {
    case DMC_CACHE_GOOD:
        atomic_store_explicit(&read->file->served, true, memory_order_relaxed);
        if (read->piece_end == read->missing_begin && read->missing_end < read->end)
            return read_piece(self, io, request, read->missing_end, read->end);
        if (read->missing_begin < read->missing_end)
            return ask_inner_for_missing(self, io, request);
        count(&cache->hits, 1);
        count(&cache->hit_bytes, read->end - read->begin);
        request->bytes_read = read->end - read->begin;
        return answer(self, request);
    case DMC_CACHE_DAMAGED:
        if (atomic_fetch_add_explicit(&cache->damaged, 1, memory_order_relaxed) == 0)
            dmc_log(DMC_STORE, DAMACY_LOG_WARN, "bytes in the disk cache do not match their checksum; they are read again");
        break;
    case DMC_CACHE_GONE:
        break;
    }
    return ask_inner(self, io, request);
}

/* Read until all is there, or something is pending, or it cannot be had. */
static enum dmc_start read_on(struct cache_store *self, struct dmc_io *io, struct dmc_request *request, bool here)
{
    struct cache_read *read = request->cache_data;
    struct dmc_cache *cache = self->cache;
    for (;;) {
        uint64_t offset = request->range_begin + request->read_bytes;
        if (request->cancelled) {
            dmc_request_fail_cancelled(request);
            return answer(self, request);
        }
        if (request->read_bytes == request->length)
            return judge(self, io, request);
        int32_t result;
        if (here) {
            bool nowait = !atomic_load_explicit(&cache->no_nowait, memory_order_relaxed);
            result = dmc_request_preadv(request, read->file->fd, offset, nowait ? RWF_NOWAIT : 0);
            if (nowait && (result == -EOPNOTSUPP || result == -ENOSYS)) {
                atomic_store_explicit(&cache->no_nowait, true, memory_order_relaxed);
                continue;
            }
            if (result == -EAGAIN || (nowait && result == 0)) {
                here = false;
                continue;
            }
        } else {
            if (dmc_io_read(io, request, read->file->fd, offset) == DMC_START_PENDING)
                return DMC_START_PENDING;
            result = request->result;
        }
        if (result <= 0) /* cut short by an eviction, or the disk fails */
            return ask_inner(self, io, request);
        dmc_request_advance(request, (uint64_t)result);
    }
}

static enum dmc_start cache_resume(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    struct cache_store *self = of(store);
    int32_t result = request->result;
    if (result == -EAGAIN || result == -EINVAL || result == -EOPNOTSUPP || result == -EINTR) {
        if (!request->cancelled) /* the ring cannot read this here and now; a plain read can */
            result = dmc_request_preadv(request, request->fd, request->read_offset, 0);
    }
    if (result > 0)
        dmc_request_advance(request, (uint64_t)result);
    else if (!request->cancelled)
        return ask_inner(self, io, request);
    return read_on(self, io, request, false);
}

/* The parts of a piece, and around them the rest of its first and its last block, which their checksums need. */
static enum dmc_start read_piece(struct cache_store *self, struct dmc_io *io, struct dmc_request *request, uint64_t begin,
                                 uint64_t end)
{
    struct cache_read *read = request->cache_data;
    uint64_t first = begin / DMC_CACHE_BLOCK * DMC_CACHE_BLOCK;
    uint64_t last = dmc_min_u64(dmc_round_up(end, DMC_CACHE_BLOCK), read->file->object_bytes);
    uint32_t n = 0;
    read->piece_begin = begin;
    read->piece_end = end;
    if (begin > first)
        read->whole[n++] = (struct iovec){read->head, begin - first};
    n += slice(read, begin - read->begin, end - begin, read->whole + n);
    if (last > end)
        read->whole[n++] = (struct iovec){read->tail, last - end};
    read->whole_count = n;
    memcpy(read->moving, read->whole, n * sizeof *read->whole);
    request->parts = read->moving;
    request->part_count = n;
    request->part_begin = 0;
    request->read_bytes = 0;
    request->length = last - first;
    request->range_begin = read->file->data_begin + first;
    return read_on(self, io, request, true);
}

/* --- start --- */

static bool is_metadata(const char *key)
{
    static const char *const names[] = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"};
    const char *slash = strrchr(key, '/'), *name = slash ? slash + 1 : key;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

enum find { FIND_READ, FIND_ANSWER, FIND_NOTHING };

/* Is what the request wants in the file? */
static enum find find(struct dmc_cache *cache, struct cache_read *read, struct dmc_request *request)
{
    uint64_t capacity = dmc_request_capacity(request), size = read->file->object_bytes;
    if (!is_trusted(cache, read->file) || capacity == 0)
        return FIND_NOTHING;
    if (request->kind == DMC_RANGE_SPAN) {
        if (request->offset > size || capacity > size - request->offset)
            return FIND_NOTHING;
        read->begin = request->offset;
        read->end = request->offset + capacity;
    } else if (request->kind == DMC_RANGE_SUFFIX) {
        if (capacity > size)
            return FIND_NOTHING;
        read->begin = size - capacity;
        read->end = size;
    } else {
        if (size > capacity) {
            request->outcome = DMC_OUTCOME_TOO_LONG;
            return FIND_ANSWER;
        }
        read->begin = 0;
        read->end = size;
    }
    dmc_cache_file_missing(read->file, read->begin, read->end, &read->missing_begin, &read->missing_end);
    uint64_t missing = read->missing_end - read->missing_begin, all = read->end - read->begin;
    return missing == 0 || (missing <= all - all / 4 && all >= PARTIAL_BYTES_MIN) ? FIND_READ : FIND_NOTHING;
}

static enum dmc_start cache_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    struct cache_store *self = of(store);
    struct dmc_cache *cache = self->cache;
    struct dmc_cache_name name;
    struct cache_read *read = NULL;
    if (cache->folder_fd >= 0 && request->part_count <= PARTS_MAX && !is_metadata(request->key) &&
        dmc_cache_name_make(self->identity, request->key, &name))
        read = read_take(cache);
    if (!read) {
        count(&cache->bypassed, 1);
        request->cache_data = NULL;
        request->holder = self->inner;
        return self->inner->ops->start(self->inner, io, request);
    }
    read->name = name;
    read->parts = request->parts;
    read->part_count = request->part_count;
    read->kind = request->kind;
    read->offset = request->offset;
    read->ahead_bytes = request->ahead_bytes;
    read->partial = false;
    if (request->part_count)
        memcpy(read->original, request->parts, request->part_count * sizeof *request->parts);
    request->cache_data = read;
    request->holder = store;
    read->file = dmc_cache_file_acquire(cache->files, &read->name);
    if (read->file) /* chunks of such an object are likely to be here as well */
        request->ahead_bytes = 0;
    switch (read->file ? find(cache, read, request) : FIND_NOTHING) {
    case FIND_READ:
        if (read->missing_begin == read->begin)
            return read_piece(self, io, request, read->missing_end, read->end);
        return read_piece(self, io, request, read->begin, read->missing_begin);
    case FIND_ANSWER:
        return answer(self, request);
    case FIND_NOTHING:
        break;
    }
    return ask_inner(self, io, request);
}

static void cache_cancel(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    (void)store;
    dmc_io_read_cancel(io, request); /* resume finds that it was cancelled */
}

static void cache_finish(struct dmc_store *store, struct dmc_request *request)
{
    struct cache_store *self = of(store);
    if (request->cache_data == &answered_here)
        return;
    if (self->inner->ops->finish)
        self->inner->ops->finish(self->inner, request);
    if (request->cache_data)
        inner_answered(self->cache, request);
}

static enum damacy_status cache_list(struct dmc_store *store, const char *prefix, dmc_store_child_fn child, void *user,
                                     struct damacy_error *error)
{
    return dmc_store_list(of(store)->inner, prefix, child, user, error);
}

/* Whatever is on the disk by then will not be asked for, and what is announced in vain costs the inner store hardly anything;
 * looking now would cost a read of the table for each announcement, in every epoch. */
static void cache_expect(struct dmc_store *store, const char *key, uint64_t key_hash, uint64_t offset, uint64_t bytes)
{
    struct dmc_store *inner = of(store)->inner;
    if (inner->ops->expect)
        inner->ops->expect(inner, key, key_hash, offset, bytes);
}

static uint64_t cache_ahead(struct dmc_store *store)
{
    struct dmc_store *inner = of(store)->inner;
    return inner->ops->ahead ? inner->ops->ahead(inner) : 0;
}

static void cache_hint(struct dmc_store *store, struct dmc_store_hint *hint)
{
    *hint = dmc_store_hint_of(of(store)->inner);
    hint->files = false;
}

static void cache_store_destroy(struct dmc_store *store)
{
    dmc_free(store);
}

static const struct dmc_store_ops cache_ops = {.scheme = "cache",
                                               .start = cache_start,
                                               .resume = cache_resume,
                                               .cancel = cache_cancel,
                                               .finish = cache_finish,
                                               .list = cache_list,
                                               .expect = cache_expect,
                                               .ahead = cache_ahead,
                                               .hint = cache_hint,
                                               .destroy = cache_store_destroy};

enum damacy_status dmc_store_cache_create(struct dmc_cache *cache, struct dmc_store *inner, const char *identity,
                                          struct dmc_store **store, struct damacy_error *error)
{
    size_t bytes = strlen(identity) + 1;
    struct cache_store *self = dmc_calloc(1, sizeof *self + bytes);
    if (!self)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for a store of the disk cache");
    self->store.ops = &cache_ops;
    self->inner = inner;
    self->cache = cache;
    memcpy(self->identity, identity, bytes);
    *store = &self->store;
    return DAMACY_OK;
}

/* --- the cache --- */

/* Make the folder and its parents. 0 or an errno. */
static int make_folder(const char *folder)
{
    char path[4096];
    size_t length = strlen(folder);
    if (length >= sizeof path)
        return ENAMETOOLONG;
    memcpy(path, folder, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != 0)
            continue;
        char kept = path[i];
        path[i] = 0;
        if (mkdir(path, 0700) < 0 && errno != EEXIST && errno != EROFS && errno != EACCES && errno != EPERM)
            return errno;
        path[i] = kept;
    }
    return 0;
}

/* Tell programs that make backups to leave this folder out. */
static void write_tag(int folder_fd)
{
    static const char text[] =
        "Signature: 8a477f597d28d172789f06886806bc55\n# Bytes that damacy has read before. May be removed at any time.\n";
    int fd = openat(folder_fd, "CACHEDIR.TAG", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (dmc_cache_write(fd, text, sizeof text - 1, 0) < 0)
        unlinkat(folder_fd, "CACHEDIR.TAG", 0);
    close(fd);
}

/* The folder, and whether it can be written: 0 or an errno. */
static int open_folder(struct dmc_cache *cache, const char *folder)
{
    int os_error = make_folder(folder);
    cache->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (cache->folder_fd < 0)
        return os_error ? os_error : errno;
    if (mkdirat(cache->folder_fd, "tmp", 0700) < 0 && errno != EEXIST)
        return errno;
    write_tag(cache->folder_fd);
    struct statvfs facts;
    if (cache->bytes_max == 0) {
        bool known = fstatvfs(cache->folder_fd, &facts) == 0;
        cache->bytes_max = dmc_max_u64(known ? (uint64_t)facts.f_blocks * facts.f_frsize / 10 : 0, CAP_MIN);
    }
    return dmc_cache_space_init(&cache->space, cache->folder_fd, cache->bytes_max);
}

static uint32_t open_files_limit(uint32_t wanted)
{
    struct rlimit limit;
    uint64_t most = 1024;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        most = dmc_min_u64(most, limit.rlim_cur / 8);
    return (uint32_t)dmc_max_u64(wanted ? wanted : most, 8);
}

void dmc_cache_destroy(struct dmc_cache *cache)
{
    if (!cache)
        return;
    dmc_cache_queue_destroy(cache->queue, dmc_clock_deadline(DESTROY_WAIT_NS));
    dmc_cache_space_deinit(&cache->space);
    bool left_behind = atomic_load_explicit(&cache->reads_out, memory_order_relaxed) != 0;
    if (!dmc_cache_files_destroy(cache->files) || left_behind) {
        dmc_log(DMC_STORE, DAMACY_LOG_WARN,
                "files of the disk cache are still in use by reads that did not end; they were left open");
        return;
    }
    for (struct cache_read *read = cache->shared_idle, *next; read; read = next) {
        next = read->next;
        dmc_free(read);
    }
    if (cache->folder_fd >= 0)
        close(cache->folder_fd);
    dmc_mutex_deinit(&cache->lock);
    dmc_free(cache);
}

enum damacy_status dmc_cache_create(const struct dmc_cache_options *options, struct dmc_cache **out, struct damacy_error *error)
{
    if (!options->folder || !*options->folder)
        return dmc_error_set(error, DAMACY_INVAL, "config", "the disk cache needs a folder");
    if (options->bytes_max && options->bytes_max < CAP_MIN)
        return dmc_error_set(error, DAMACY_INVAL, "config", "the disk cache needs at least %llu bytes", CAP_MIN);
    struct dmc_cache *cache = dmc_calloc(1, sizeof *cache);
    if (!cache)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the disk cache");
    dmc_mutex_init(&cache->lock);
    cache->folder_fd = -1;
    cache->bytes_max = options->bytes_max;
    cache->max_age_s = options->max_age_s;
    cache->made_s = (uint64_t)time(NULL);
    int os_error = open_folder(cache, options->folder);
    enum damacy_status status =
        dmc_cache_files_create(cache->folder_fd, open_files_limit(options->open_files_max), &cache->files, error);
    if (status == DAMACY_OK) {
        struct dmc_cache_queue_options queue = {.files = cache->files,
                                                .space = &cache->space,
                                                .bytes = options->queue_bytes ? options->queue_bytes : 16u << 20,
                                                .write_fault = options->write_fault,
                                                .write_fault_user = options->write_fault_user};
        status = dmc_cache_queue_create(&queue, &cache->queue, error);
    }
    if (status != DAMACY_OK) {
        dmc_cache_destroy(cache);
        return status;
    }
    if (os_error) {
        char text[96] = "";
        atomic_store_explicit(&dmc_cache_queue_counts(cache->queue)->writes_off, true, memory_order_relaxed);
        dmc_log(DMC_STORE, DAMACY_LOG_WARN, "the disk cache %s cannot be %s (%s): nothing new is kept", options->folder,
                cache->folder_fd < 0 ? "opened" : "written", strerror_r(os_error, text, sizeof text));
    }
    *out = cache;
    return DAMACY_OK;
}

void dmc_cache_stats_get(struct dmc_cache *cache, struct dmc_cache_stats *stats)
{
    struct dmc_cache_queue_counts *queue = dmc_cache_queue_counts(cache->queue);
#define LOAD(from) atomic_load_explicit(&(from), memory_order_relaxed)
    *stats = (struct dmc_cache_stats){.hits = LOAD(cache->hits),
                                      .hit_bytes = LOAD(cache->hit_bytes),
                                      .misses = LOAD(cache->misses),
                                      .miss_bytes = LOAD(cache->miss_bytes),
                                      .partial = LOAD(cache->partial),
                                      .bypassed = LOAD(cache->bypassed),
                                      .revalidated = LOAD(cache->revalidated),
                                      .changed = LOAD(cache->changed),
                                      .stored_bytes = LOAD(queue->stored_bytes),
                                      .dropped_bytes = LOAD(queue->dropped_bytes),
                                      .damaged = LOAD(cache->damaged),
                                      .evicted_bytes = LOAD(queue->evicted_bytes),
                                      .bytes_max = cache->bytes_max,
                                      .writes_off = LOAD(queue->writes_off)};
#undef LOAD
    if (cache->space.cap_bytes) /* constant from create on */
        stats->used_bytes = dmc_cache_space_used(&cache->space);
}

void dmc_cache_flush(struct dmc_cache *cache)
{
    dmc_cache_queue_flush(cache->queue);
}
