/* Files.
 *
 *     start: handle -> [fstat, for WHOLE and SUFFIX, unless opening just did] -> preadv2(RWF_NOWAIT) -> all there: DONE
 *                \                                          \ part or none: the rest through ring or reader threads -> PENDING
 *                 \ all handles in use: wait -> PENDING
 *
 * A warm page is copied by the core that wants it; only what would block leaves it (bench_store). File systems that refuse
 * RWF_NOWAIT are remembered (file_handles.h). A read that is short goes on where it stopped; a read of nothing is the end of
 * the file, which decides what the answer is. A whole object has ended where its size said a moment before: chunks that are
 * files of their own cost an open, an fstat, a read and a close, as they cost the bare loop. */
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/file_handles.h"
#include "store/io_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct file_store {
    struct dmc_store store;
    struct dmc_file_handles *handles;
};

static struct file_store *of(struct dmc_store *store)
{
    return (struct file_store *)store;
}

/* A plain read that took longer than this and a copy at 2 GB/s has waited for a disk; then so many go through the ring. */
#define MIXED_SLOW_NS 40000u
#define MIXED_CREDIT 32u

/* --- the answer --- */

static enum dmc_start done(struct file_store *file, struct dmc_request *request)
{
    struct dmc_file_handle *handle = request->store_data;
    request->store_data = NULL;
    request->bytes_read = request->outcome == DMC_OUTCOME_FAILED ? 0 : request->read_bytes;
    if (handle)
        dmc_file_handle_release(file->handles, handle);
    return DMC_START_DONE;
}

static enum dmc_start done_failed(struct file_store *file, struct dmc_request *request, int os_error)
{
    if (request->cancelled)
        dmc_request_fail_cancelled(request);
    else
        dmc_request_fail(request, DAMACY_IO, os_error, "cannot read the file");
    return done(file, request);
}

/* Size and version as they are now. */
static int refresh(struct dmc_request *request, const struct dmc_file_handle *handle)
{
    struct stat facts;
    if (fstat(handle->fd, &facts) < 0)
        return errno;
    request->object_bytes = (uint64_t)facts.st_size;
    request->version_tag =
        dmc_file_version_tag((uint64_t)facts.st_size, facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec, (uint64_t)facts.st_ino);
    return 0;
}

/* Every part is full. */
static enum dmc_start done_full(struct file_store *file, struct dmc_request *request)
{
    const struct dmc_file_handle *handle = request->store_data;
    request->outcome = DMC_OUTCOME_OK;
    if (request->kind == DMC_RANGE_WHOLE) {
        /* The object fills the buffer to the brim: is there more, because it grew or is of a kind that has no size? */
        char next;
        ssize_t more = pread(handle->fd, &next, 1, (off_t)request->length);
        request->object_bytes = request->length;
        if (more > 0) {
            request->outcome = DMC_OUTCOME_TOO_LONG;
            refresh(request, handle);
            request->object_bytes = dmc_max_u64(request->object_bytes, request->length + 1);
        }
    }
    return done(file, request);
}

/* The file ends before the parts are full. */
static enum dmc_start done_at_end(struct file_store *file, struct dmc_request *request)
{
    if (request->kind == DMC_RANGE_WHOLE) {
        request->outcome = DMC_OUTCOME_OK;
        request->object_bytes = request->read_bytes;
        return done(file, request);
    }
    request->outcome = DMC_OUTCOME_TRUNCATED;
    int os_error = refresh(request, request->store_data);
    return os_error ? done_failed(file, request, os_error) : done(file, request);
}

/* --- reading --- */

enum step { STEP_HERE, STEP_AWAY, STEP_DONE };

/* Take note of what a read returned. HERE: more may be had at once; AWAY: the rest blocks; DONE: the request is. */
static enum step note(struct file_store *file, struct dmc_request *request, int32_t result, uint64_t asked, bool may_block)
{
    const struct dmc_file_handle *handle = request->store_data;
    if (result > 0) {
        dmc_request_advance(request, (uint64_t)result);
        if (request->read_bytes == request->length) {
            done_full(file, request);
            return STEP_DONE;
        }
        if ((uint64_t)result == asked)
            return STEP_HERE;
        if (request->kind == DMC_RANGE_WHOLE && request->read_bytes == request->object_bytes) {
            done_at_end(file, request);
            return STEP_DONE;
        }
        /* Short. At the end of the file one more read proves it; elsewhere the next page is missing. */
        return request->range_begin + request->read_bytes >= handle->object_bytes ? STEP_HERE : STEP_AWAY;
    }
    if (result == 0) {
        /* Linux 5.9 and 5.10 may answer 0 to RWF_NOWAIT before the end. */
        struct stat facts;
        if (!may_block && fstat(handle->fd, &facts) == 0 &&
            (uint64_t)facts.st_size > request->range_begin + request->read_bytes)
            return STEP_AWAY;
        done_at_end(file, request);
        return STEP_DONE;
    }
    if (result == -EAGAIN)
        return STEP_AWAY;
    done_failed(file, request, -result);
    return STEP_DONE;
}

/* Read on this thread for as long as that does not block. */
static enum step read_here(struct file_store *file, struct dmc_request *request)
{
    struct dmc_file_handle *handle = request->store_data;
    struct dmc_file_system *file_system = handle->file_system;
    enum step step = STEP_HERE;
    while (step == STEP_HERE) {
        uint32_t mode = atomic_load_explicit(&file_system->mode, memory_order_relaxed);
        uint64_t offset = request->range_begin + request->read_bytes, asked = dmc_request_asked(request), begin_ns = 0;
        if (mode == DMC_READ_RING)
            return STEP_AWAY;
        if (mode == DMC_READ_MIXED) {
            uint32_t credit = atomic_load_explicit(&file_system->slow_credit, memory_order_relaxed);
            if (credit) { /* a lost update only shifts the next probe */
                atomic_store_explicit(&file_system->slow_credit, credit - 1, memory_order_relaxed);
                return STEP_AWAY;
            }
            begin_ns = dmc_clock_ns();
        }
        int32_t result = dmc_request_preadv(request, handle->fd, offset, mode == DMC_READ_NOWAIT ? RWF_NOWAIT : 0);
        if (mode == DMC_READ_NOWAIT && (result == -EOPNOTSUPP || result == -ENOSYS)) {
            dmc_file_system_refused(file_system, handle->fd);
            continue;
        }
        if (mode == DMC_READ_MIXED && dmc_clock_ns() - begin_ns > MIXED_SLOW_NS + asked / 2)
            atomic_store_explicit(&file_system->slow_credit, MIXED_CREDIT, memory_order_relaxed);
        step = note(file, request, result, asked, mode != DMC_READ_NOWAIT);
    }
    return step;
}

/* Read through the ring or the reader threads until the request is done or pending. */
static enum dmc_start read_away(struct file_store *file, struct dmc_io *io, struct dmc_request *request)
{
    struct dmc_file_handle *handle = request->store_data;
    for (;;) {
        uint64_t asked = dmc_request_asked(request);
        if (request->cancelled)
            return done_failed(file, request, 0);
        dmc_file_handle_wait(handle);
        if (dmc_io_read(io, request, handle->fd, request->range_begin + request->read_bytes) == DMC_START_PENDING)
            return DMC_START_PENDING;
        if (note(file, request, request->result, asked, true) == STEP_DONE)
            return DMC_START_DONE;
    }
}

/* The handle is there: find out which bytes are meant, and begin. `opened`: just now, so that its facts are known. */
static enum dmc_start begin(struct file_store *file, struct dmc_io *io, struct dmc_request *request, bool opened)
{
    const struct dmc_file_handle *handle = request->store_data;
    request->object_bytes = handle->object_bytes;
    request->version_tag = handle->version_tag;
    int os_error = request->kind == DMC_RANGE_SPAN || opened ? 0 : refresh(request, handle);
    if (os_error)
        return done_failed(file, request, os_error);
    request->length = dmc_request_capacity(request);
    request->range_begin = request->kind == DMC_RANGE_SPAN ? request->offset : 0;
    if (request->kind == DMC_RANGE_WHOLE && request->object_bytes > request->length) {
        request->outcome = DMC_OUTCOME_TOO_LONG;
        return done(file, request);
    }
    if (request->kind == DMC_RANGE_SUFFIX) {
        if (request->object_bytes < request->length) {
            request->outcome = DMC_OUTCOME_TRUNCATED;
            return done(file, request);
        }
        request->range_begin = request->object_bytes - request->length;
    }
    if (request->length == 0)
        return done_full(file, request);
    /* The kernel takes no range that ends beyond this, and no file reaches there. */
    if (request->length > INT64_MAX || request->range_begin > INT64_MAX - request->length) {
        os_error = refresh(request, handle);
        if (!os_error && request->range_begin >= request->object_bytes)
            return done_at_end(file, request);
        return done_failed(file, request, os_error ? os_error : EOVERFLOW);
    }
    if (read_here(file, request) == STEP_DONE)
        return DMC_START_DONE;
    return read_away(file, io, request);
}

/* --- the store --- */

static enum dmc_start file_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    struct file_store *file = of(store);
    struct dmc_file_handle *handle;
    uint64_t hash = request->key_hash ? request->key_hash : dmc_hash_bytes(request->key, strlen(request->key), 0);
    enum dmc_handle_outcome outcome = dmc_file_handles_acquire(file->handles, request->key, hash, request, &handle);
    switch (outcome) {
    case DMC_HANDLE_OK:
    case DMC_HANDLE_OPENED:
        request->store_data = handle;
        return begin(file, io, request, outcome == DMC_HANDLE_OPENED);
    case DMC_HANDLE_ABSENT:
        request->outcome = DMC_OUTCOME_ABSENT;
        return DMC_START_DONE;
    case DMC_HANDLE_WAIT:
        return DMC_START_PENDING;
    case DMC_HANDLE_FAILED:
        break;
    }
    return DMC_START_DONE;
}

static enum dmc_start file_resume(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    struct file_store *file = of(store);
    if (!request->store_data) { /* it waited for a handle */
        if (!request->cancelled)
            return file_start(store, io, request);
        dmc_file_handles_pass_on(file->handles);
        return done_failed(file, request, 0);
    }
    if (request->result == -EAGAIN || request->result == -EINVAL || request->result == -EOPNOTSUPP) {
        /* The ring cannot read this here and now; a plain read can, or knows better why not. */
        if (!request->cancelled)
            request->result = dmc_request_preadv(request, request->fd, request->read_offset, 0);
    } else if (request->result == -EINTR) {
        return read_away(file, io, request);
    }
    enum step step = note(file, request, request->result, 0, true);
    if (step == STEP_HERE) /* at the end, as far as we know */
        step = read_here(file, request);
    return step == STEP_DONE ? DMC_START_DONE : read_away(file, io, request);
}

static void file_cancel(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    if (request->store_data) {
        dmc_io_read_cancel(io, request);
    } else if (dmc_file_handles_stop_waiting(of(store)->handles, request)) {
        dmc_request_fail_cancelled(request);
        dmc_io_complete(request);
    }
    /* Otherwise it is on its way back and will find that it was cancelled. */
}

/* --- listing --- */

/* Is the entry a folder, a file or neither, links followed (one that leads nowhere or round in circles is neither)? */
static bool entry_kind(int folder, const struct dirent *entry, bool *is_folder)
{
    if (entry->d_type == DT_DIR || entry->d_type == DT_REG) {
        *is_folder = entry->d_type == DT_DIR;
        return true;
    }
    struct stat facts;
    if ((entry->d_type != DT_LNK && entry->d_type != DT_UNKNOWN) || fstatat(folder, entry->d_name, &facts, 0) < 0)
        return false;
    *is_folder = S_ISDIR(facts.st_mode);
    return *is_folder || S_ISREG(facts.st_mode);
}

static enum damacy_status file_list(struct dmc_store *store, const char *prefix, dmc_store_child_fn child, void *user,
                                    struct damacy_error *error)
{
    (void)store;
    const char *path = *prefix ? prefix : "/";
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (!folder) {
        int os_error = errno;
        if (fd >= 0)
            close(fd);
        if (os_error == ENOENT || os_error == ENOTDIR)
            return DAMACY_OK;
        return dmc_error_set_os(error, os_error == ENOMEM ? DAMACY_OOM : DAMACY_IO, "list", os_error, "cannot open the folder");
    }
    enum damacy_status status = DAMACY_OK;
    uint32_t count = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (!entry) {
            if (errno)
                status = dmc_error_set_os(error, DAMACY_IO, "list", errno, "cannot read the folder");
            break;
        }
        bool is_folder;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || !entry_kind(fd, entry, &is_folder))
            continue;
        if (++count > DMC_STORE_LIST_MAX) {
            status = dmc_error_set(error, DAMACY_BUDGET, "list", "the folder has more than %u children", DMC_STORE_LIST_MAX);
            break;
        }
        if (!child(entry->d_name, is_folder, user))
            break;
    }
    closedir(folder);
    return status;
}

static void file_hint(struct dmc_store *store, struct dmc_store_hint *hint)
{
    (void)store;
    hint->files = true;
}

static void file_destroy(struct dmc_store *store)
{
    if (dmc_file_handles_destroy(of(store)->handles))
        dmc_free(store);
    else
        dmc_log(DMC_STORE, DAMACY_LOG_WARN, "files are still in use by reads that did not end; they were left open");
}

static const struct dmc_store_ops file_ops = {.scheme = "file",
                                              .start = file_start,
                                              .resume = file_resume,
                                              .cancel = file_cancel,
                                              .list = file_list,
                                              .hint = file_hint,
                                              .destroy = file_destroy};

struct dmc_file_handles *dmc_store_file_handles(struct dmc_store *store)
{
    return of(store)->handles;
}

enum damacy_status dmc_store_file_create(const struct dmc_store_file_options *options, struct dmc_store **store,
                                         struct damacy_error *error)
{
    struct file_store *file = dmc_calloc(1, sizeof *file);
    if (!file)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the file store");
    enum damacy_status status = dmc_file_handles_create(options ? options->open_files_max : 0, &file->handles, error);
    if (status != DAMACY_OK) {
        dmc_free(file);
        return status;
    }
    file->store.ops = &file_ops;
    *store = &file->store;
    return DAMACY_OK;
}
