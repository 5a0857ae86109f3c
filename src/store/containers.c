#include "store/containers.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "store/file_handles.h"
#include "store/inflated.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUCKETS 1024u

struct container {
    struct container *next;
    uint64_t hash; /* of the path */
    uint64_t version_tag;
    struct dmc_store *inner; /* the store that it reads */
    struct dmc_store *store;
    size_t bytes;
    char path[];
};

struct dmc_containers {
    struct dmc_stores *stores; /* constant */
    struct dmc_inflated *inflated;
    struct dmc_budget budget;
    _Atomic bool stopping;
    struct dmc_mutex lock; /* held while a container is opened, so that it is opened once */
    uint32_t shared_count DMC_GUARDED_BY(lock);
    struct container *shared_buckets[BUCKETS] DMC_GUARDED_BY(lock);
};

enum damacy_status dmc_containers_create(struct dmc_stores *stores, uint64_t bytes_max, struct dmc_containers **out,
                                         struct damacy_error *error)
{
    struct dmc_containers *containers = dmc_calloc(1, sizeof *containers);
    if (!containers)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the stores");
    enum damacy_status status = dmc_inflated_create(bytes_max / 4, &containers->inflated, error);
    if (status) {
        dmc_free(containers);
        return status;
    }
    containers->stores = stores;
    dmc_budget_init(&containers->budget, bytes_max - bytes_max / 4);
    dmc_mutex_init(&containers->lock);
    *out = containers;
    return DAMACY_OK;
}

void dmc_containers_destroy(struct dmc_containers *containers)
{
    if (!containers)
        return;
    dmc_inflated_destroy(containers->inflated); /* first: its cells know their entries */
    for (uint32_t i = 0; i < BUCKETS; i++)
        for (struct container *at = containers->shared_buckets[i], *next; at; at = next) {
            next = at->next;
            dmc_store_destroy(at->store);
            dmc_free(at);
        }
    dmc_mutex_deinit(&containers->lock);
    dmc_free(containers);
}

void dmc_containers_stop(struct dmc_containers *containers)
{
    atomic_store_explicit(&containers->stopping, true, memory_order_relaxed);
}

static enum damacy_status read_file(void *user, uint64_t offset, void *to, size_t bytes, struct damacy_error *error)
{
    int fd = *(const int *)user;
    unsigned char *at = to;
    while (bytes > 0) {
        ssize_t got = pread(fd, at, bytes < 1u << 30 ? bytes : 1u << 30, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return dmc_error_set_os(error, DAMACY_IO, "metadata", errno, "cannot read the file");
        if (got == 0)
            return dmc_error_set(error, DAMACY_IO, "metadata", "the file became shorter while it was read");
        at += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return DAMACY_OK;
}

/* --- opening --- */

enum kind { NONE, ZIP, KERCHUNK, PARQUET };

static enum kind kind_of(const char *name, size_t bytes)
{
    static const struct {
        const char *ending;
        enum kind kind;
    } endings[] = {{".zip", ZIP}, {".ozx", ZIP}, {".json", KERCHUNK}, {".parq", PARQUET}, {".parquet", PARQUET}};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        size_t ending_bytes = strlen(endings[i].ending);
        if (bytes > ending_bytes && strncasecmp(name + bytes - ending_bytes, endings[i].ending, ending_bytes) == 0)
            return endings[i].kind;
    }
    return NONE;
}

static enum damacy_status open_kind(const struct dmc_container_source *source, enum kind kind, struct dmc_store **store,
                                    struct damacy_error *error)
{
    return kind == ZIP ? dmc_store_zip_open(source, store, error) : dmc_store_kerchunk_open(source, store, error);
}

static enum damacy_status open_file(struct dmc_containers *containers, struct container *container, enum kind kind,
                                    struct damacy_error *error)
{
    /* O_NONBLOCK: a FIFO that took the file's place since the stat is not waited for. */
    int fd = open(container->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat facts;
    if (fd < 0 || fstat(fd, &facts) < 0) {
        int os_error = errno;
        if (fd >= 0)
            close(fd);
        return dmc_error_set_os(error, DAMACY_IO, "metadata", os_error, "cannot open '%s'", container->path);
    }
    enum damacy_status status;
    if (!S_ISREG(facts.st_mode)) {
        status = dmc_error_set(error, DAMACY_IO, "metadata", "'%s' is not a regular file", container->path);
    } else {
        container->version_tag =
            dmc_file_version_tag((uint64_t)facts.st_size, facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec, (uint64_t)facts.st_ino);
        struct dmc_container_source source = {.path = container->path,
                                              .path_hash = container->hash,
                                              .read = read_file,
                                              .read_user = &fd,
                                              .bytes = (uint64_t)facts.st_size,
                                              .version_tag = container->version_tag,
                                              .file = container->inner,
                                              .stores = containers->stores,
                                              .budget = &containers->budget,
                                              .inflated = containers->inflated};
        status = open_kind(&source, kind, &container->store, error);
    }
    close(fd);
    return status;
}

/* An object that is read by a thread that waits for it. */
struct remote_object {
    struct dmc_containers *containers;
    struct dmc_store *store;
    const char *key;
    struct dmc_io *io;
};

/* Look now and then whether the answer is still wanted. */
#define LOOK_NS 100000000ull

static void ask_object(struct remote_object *object, uint64_t offset, struct iovec *part, struct damacy_error *error,
                       struct dmc_request *request)
{
    *request = (struct dmc_request){.store = object->store,
                                    .key = object->key,
                                    .kind = DMC_RANGE_SPAN,
                                    .offset = offset,
                                    .parts = part,
                                    .part_count = 1,
                                    .error = error,
                                    .metadata = true};
    if (dmc_store_start(object->io, request) == DMC_START_DONE)
        return;
    while (!dmc_io_wait(object->io, dmc_clock_deadline(LOOK_NS)))
        if (atomic_load_explicit(&object->containers->stopping, memory_order_relaxed))
            dmc_store_cancel(object->io, request);
}

static enum damacy_status read_object(void *user, uint64_t offset, void *to, size_t bytes, struct damacy_error *error)
{
    struct remote_object *object = user;
    struct iovec part = {to, bytes};
    struct dmc_request request;
    if (bytes == 0)
        return DAMACY_OK;
    ask_object(object, offset, &part, error, &request);
    switch (request.outcome) {
    case DMC_OUTCOME_OK:
        return DAMACY_OK;
    case DMC_OUTCOME_FAILED:
        return request.status;
    default:
        return dmc_error_set(error, DAMACY_IO, "metadata", "the object changed while it was read");
    }
}

/* Is there an object of that key, and how long is it? A byte of it tells. */
static enum damacy_status find_object(struct remote_object *object, bool *found, uint64_t *bytes, struct damacy_error *error)
{
    unsigned char first;
    struct iovec part = {&first, 1};
    struct dmc_request request;
    ask_object(object, 0, &part, error, &request);
    *found = request.outcome != DMC_OUTCOME_ABSENT;
    *bytes = request.object_bytes;
    if (request.outcome == DMC_OUTCOME_FAILED)
        return request.status;
    if (*found && *bytes == UINT64_MAX)
        return dmc_error_set(error, DAMACY_IO, "metadata", "the server does not tell how long '%s' is", object->key);
    return DAMACY_OK;
}

/* *found false: there is no such object, and nothing was opened. */
static enum damacy_status open_object(struct dmc_containers *containers, struct container *container, enum kind kind,
                                      bool *found, struct damacy_error *error)
{
    struct remote_object object = {.containers = containers, .store = container->inner, .key = container->path};
    struct dmc_io_options options = {.depth = 1, .io_uring_never = true};
    struct dmc_container_source source = {.path = container->path,
                                          .path_hash = container->hash,
                                          .read = read_object,
                                          .read_user = &object,
                                          .remote = true,
                                          .file = container->inner,
                                          .stores = containers->stores,
                                          .budget = &containers->budget,
                                          .inflated = containers->inflated};
    enum damacy_status status = dmc_io_create(&options, &object.io, error);
    if (status)
        return status;
    status = find_object(&object, found, &source.bytes, error);
    if (!status && *found)
        status = open_kind(&source, kind, &container->store, error);
    dmc_io_destroy(object.io, UINT64_MAX);
    return status;
}

/* For an object *store stays NULL where there is none. */
static enum damacy_status get_locked(struct dmc_containers *containers, struct dmc_store *file, const char *path, size_t bytes,
                                     enum kind kind, bool remote, uint64_t version_tag, struct dmc_store **store,
                                     struct damacy_error *error) DMC_REQUIRES(containers->lock);
static enum damacy_status get_locked(struct dmc_containers *containers, struct dmc_store *file, const char *path, size_t bytes,
                                     enum kind kind, bool remote, uint64_t version_tag, struct dmc_store **store,
                                     struct damacy_error *error)
{
    uint64_t hash = dmc_hash_bytes(path, bytes, 0);
    struct container **bucket = &containers->shared_buckets[hash % BUCKETS];
    for (struct container *at = *bucket; at; at = at->next)
        if (at->hash == hash && at->bytes == bytes && memcmp(at->path, path, bytes) == 0 && at->version_tag == version_tag &&
            at->inner == file) {
            *store = at->store;
            return DAMACY_OK;
        }
    if (containers->shared_count == DMC_CONTAINERS_MAX)
        return dmc_error_set(error, DAMACY_BUDGET, "metadata", "more than %u zip and reference files", DMC_CONTAINERS_MAX);
    size_t memory_bytes = sizeof(struct container) + bytes + 1;
    if (!dmc_budget_reserve(&containers->budget, memory_bytes))
        return dmc_error_set(error, DAMACY_BUDGET, "metadata",
                             "the tables of zip and reference files exceed the %llu bytes for them",
                             (unsigned long long)containers->budget.limit_bytes);
    struct container *made = dmc_calloc(1, memory_bytes);
    enum damacy_status status = DAMACY_OOM;
    bool found = true;
    if (!made) {
        dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for a container");
    } else {
        made->hash = hash;
        made->inner = file;
        made->bytes = bytes;
        memcpy(made->path, path, bytes);
        status = remote ? open_object(containers, made, kind, &found, error) : open_file(containers, made, kind, error);
    }
    if (status || !found) {
        dmc_budget_unreserve(&containers->budget, memory_bytes);
        dmc_free(made);
        return status;
    }
    made->next = *bucket;
    *bucket = made;
    containers->shared_count++;
    *store = made->store;
    return DAMACY_OK;
}

static enum damacy_status refuse_parquet(struct damacy_error *error)
{
    dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "kerchunk references in parquet are not read");
    dmc_error_hint(error, "write the references as JSON");
    return DAMACY_UNSUPPORTED;
}

/* What the component that ends at `bytes` is. false: no container, go on. `path` is the caller's to cut for a moment. */
static bool look(struct dmc_containers *containers, struct dmc_store *file, char *path, size_t bytes, enum kind kind,
                 struct dmc_store **store, enum damacy_status *status, struct damacy_error *error)
{
    struct stat facts;
    char cut = path[bytes];
    path[bytes] = 0;
    bool found = stat(path, &facts) == 0;
    bool folder = found && S_ISDIR(facts.st_mode);
    if (folder && kind == PARQUET && bytes + sizeof "/.zmetadata" <= DAMACY_URI_BYTES_MAX) {
        char metadata[DAMACY_URI_BYTES_MAX + 1];
        memcpy(metadata, path, bytes);
        memcpy(metadata + bytes, "/.zmetadata", sizeof "/.zmetadata");
        if (access(metadata, F_OK) == 0) {
            *status = refuse_parquet(error);
            path[bytes] = cut;
            return true;
        }
    }
    path[bytes] = cut;
    if (!found || folder)
        return false;
    if (!S_ISREG(facts.st_mode)) {
        *status = dmc_error_set(error, DAMACY_IO, "metadata", "'%.*s' is a FIFO, socket or device, not a file",
                                bytes > 512 ? 512 : (int)bytes, path);
        return true;
    }
    if (kind == PARQUET) {
        *status = refuse_parquet(error);
        return true;
    }
    uint64_t version_tag =
        dmc_file_version_tag((uint64_t)facts.st_size, facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec, (uint64_t)facts.st_ino);
    dmc_mutex_lock(&containers->lock);
    *status = get_locked(containers, file, path, bytes, kind, false, version_tag, store, error);
    dmc_mutex_unlock(&containers->lock);
    return true;
}

static bool look_remote(struct dmc_containers *containers, struct dmc_store *remote, char *key, size_t bytes, enum kind kind,
                        struct dmc_store **store, enum damacy_status *status, struct damacy_error *error)
{
    if (kind == PARQUET) /* a folder of many objects: what lies in it is found to be no array */
        return false;
    dmc_mutex_lock(&containers->lock);
    *status = get_locked(containers, remote, key, bytes, kind, true, 0, store, error);
    dmc_mutex_unlock(&containers->lock);
    return *status || *store;
}

static enum damacy_status find(struct dmc_containers *containers, struct dmc_store *inner, const char *path, bool remote,
                               struct dmc_store **store, const char **inside, struct damacy_error *error)
{
    *store = NULL;
    size_t length = strlen(path);
    if (length > DAMACY_URI_BYTES_MAX)
        return DAMACY_OK;
    char copy[DAMACY_URI_BYTES_MAX + 1];
    bool copied = false;
    for (size_t begin = 0, end; begin < length; begin = end + 1) {
        const char *slash = strchr(path + begin, '/');
        end = slash ? (size_t)(slash - path) : length;
        enum kind kind = kind_of(path + begin, end - begin);
        if (kind == NONE)
            continue;
        if (!copied)
            memcpy(copy, path, length + 1);
        copied = true;
        enum damacy_status status = DAMACY_OK;
        if (!(remote ? look_remote : look)(containers, inner, copy, end, kind, store, &status, error))
            continue;
        *inside = path + end + (path[end] == '/');
        return status;
    }
    return DAMACY_OK;
}

enum damacy_status dmc_containers_find(struct dmc_containers *containers, struct dmc_store *file, const char *path,
                                       struct dmc_store **store, const char **inside, struct damacy_error *error)
{
    return find(containers, file, path, false, store, inside, error);
}

enum damacy_status dmc_containers_find_remote(struct dmc_containers *containers, struct dmc_store *remote, const char *key,
                                              struct dmc_store **store, const char **inside, struct damacy_error *error)
{
    return find(containers, remote, key, true, store, inside, error);
}
