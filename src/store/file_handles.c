#include "store/file_handles.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "store/io_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Enough for thousands of small arrays, a file each: with 1,024 the 2,000 of bench's `small` cost 1.5 % more core time (median
 * of 9 rounds; quartiles 5 % apart). A handle takes about 200 bytes here and a kilobyte in the kernel. */
#define OPEN_FILES_DEFAULT 8192u
#define OPEN_FILES_LIMIT 65536u
#define SET_ENTRIES 8u /* one cache line */
#define FILE_SYSTEMS_MAX 64u
#define NO_SLOT UINT32_MAX

/* Eight places for handles whose hashes share the lower bits. An entry is the hash's upper half and slot + 1; 0 is none. */
struct handle_set {
    _Alignas(64) _Atomic uint64_t entries[SET_ENTRIES];
};

struct dmc_file_handles {
    /* constant */
    uint32_t slot_max;
    uint32_t set_mask;
    struct dmc_file_handle *slots;
    struct handle_set *sets; /* read without the lock, written under it */
    /* shared */
    _Atomic uint32_t waiting; /* length of the list of waiters; partner: the references (see enqueue_locked) */
    struct dmc_mutex lock;
    struct dmc_request *shared_waiters_first DMC_GUARDED_BY(lock);
    struct dmc_request *shared_waiters_last DMC_GUARDED_BY(lock);
    uint32_t shared_slots_used DMC_GUARDED_BY(lock); /* slots from here on were never used */
    uint32_t shared_free DMC_GUARDED_BY(lock);       /* list of free slots */
    uint32_t shared_hand DMC_GUARDED_BY(lock);
    uint32_t shared_open DMC_GUARDED_BY(lock);    /* slots that hold a file */
    uint32_t shared_opening DMC_GUARDED_BY(lock); /* slots taken, file not open yet */
    uint32_t shared_file_system_count DMC_GUARDED_BY(lock);
    struct dmc_file_system file_systems[FILE_SYSTEMS_MAX]; /* those that are published are constant but for their atomics */
    struct dmc_file_system file_system_other;              /* for all that do not fit */
};

/* --- create, destroy --- */

static uint32_t open_files_default(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        return OPEN_FILES_DEFAULT;
    uint64_t half = limit.rlim_cur / 2; /* the rest is the program's */
    return half < 1 ? 1 : (uint32_t)dmc_min_u64(half, OPEN_FILES_DEFAULT);
}

enum damacy_status dmc_file_handles_create(uint32_t open_files_max, struct dmc_file_handles **out, struct damacy_error *error)
{
    uint32_t slot_max = open_files_max ? open_files_max : open_files_default();
    if (slot_max > OPEN_FILES_LIMIT)
        slot_max = OPEN_FILES_LIMIT;
    uint32_t set_count = 1;
    while (set_count * SET_ENTRIES < slot_max * 2)
        set_count *= 2;
    size_t set_bytes = set_count * sizeof(struct handle_set);
    struct dmc_file_handles *handles = dmc_calloc(1, sizeof *handles);
    struct dmc_file_handle *slots = dmc_calloc(slot_max, sizeof *slots);
    struct handle_set *sets = dmc_pages_map(set_bytes); /* aligned and zeroed */
    if (!handles || !slots || !sets) {
        dmc_free(handles);
        dmc_free(slots);
        if (sets)
            dmc_pages_unmap(sets, set_bytes);
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for %u file handles", slot_max);
    }
    handles->slot_max = slot_max;
    handles->set_mask = set_count - 1;
    handles->slots = slots;
    handles->sets = sets;
    handles->shared_free = NO_SLOT;
    dmc_mutex_init(&handles->lock);
    *out = handles;
    return DAMACY_OK;
}

static void forget_path(struct dmc_file_handle *handle)
{
    if (handle->path != handle->path_inline)
        dmc_free(handle->path);
    handle->path = NULL;
}

static bool any_in_use(struct dmc_file_handles *handles)
{
    dmc_mutex_lock(&handles->lock);
    bool any = handles->shared_opening > 0 || handles->shared_waiters_first;
    for (uint32_t i = 0; i < handles->shared_slots_used && !any; i++) {
        uint32_t references = atomic_load(&handles->slots[i].references);
        any = handles->slots[i].listed ? references > 1 : references > 0;
    }
    dmc_mutex_unlock(&handles->lock);
    return any;
}

bool dmc_file_handles_destroy(struct dmc_file_handles *handles)
{
    if (!handles)
        return true;
    if (any_in_use(handles))
        return false;
    dmc_mutex_lock(&handles->lock);
    for (uint32_t i = 0; i < handles->shared_slots_used; i++) {
        if (atomic_load(&handles->slots[i].references) == 0)
            continue;
        close(handles->slots[i].fd);
        forget_path(&handles->slots[i]);
    }
    dmc_mutex_unlock(&handles->lock);
    dmc_mutex_deinit(&handles->lock);
    dmc_pages_unmap(handles->sets, (handles->set_mask + 1) * sizeof(struct handle_set));
    dmc_free(handles->slots);
    dmc_free(handles);
    return true;
}

uint32_t dmc_file_handles_open(struct dmc_file_handles *handles)
{
    dmc_mutex_lock(&handles->lock);
    uint32_t count = handles->shared_open;
    dmc_mutex_unlock(&handles->lock);
    return count;
}

/* --- waiters --- */

static void wake_one_locked(struct dmc_file_handles *handles) DMC_REQUIRES(handles->lock);
static void wake_one_locked(struct dmc_file_handles *handles)
{
    struct dmc_request *waiter = handles->shared_waiters_first;
    if (!waiter)
        return;
    handles->shared_waiters_first = waiter->next;
    if (!handles->shared_waiters_first)
        handles->shared_waiters_last = NULL;
    atomic_fetch_sub(&handles->waiting, 1);
    dmc_io_resume(waiter);
}

void dmc_file_handles_pass_on(struct dmc_file_handles *handles)
{
    if (atomic_load(&handles->waiting) == 0)
        return;
    dmc_mutex_lock(&handles->lock);
    wake_one_locked(handles);
    dmc_mutex_unlock(&handles->lock);
}

static bool unlink_waiter_locked(struct dmc_file_handles *handles, struct dmc_request *waiter) DMC_REQUIRES(handles->lock);
static bool unlink_waiter_locked(struct dmc_file_handles *handles, struct dmc_request *waiter)
{
    struct dmc_request *before = NULL, *at = handles->shared_waiters_first;
    while (at && at != waiter) {
        before = at;
        at = at->next;
    }
    if (!at)
        return false;
    if (before)
        before->next = at->next;
    else
        handles->shared_waiters_first = at->next;
    if (handles->shared_waiters_last == at)
        handles->shared_waiters_last = before;
    atomic_fetch_sub(&handles->waiting, 1);
    return true;
}

bool dmc_file_handles_stop_waiting(struct dmc_file_handles *handles, struct dmc_request *waiter)
{
    dmc_mutex_lock(&handles->lock);
    bool was = unlink_waiter_locked(handles, waiter);
    dmc_mutex_unlock(&handles->lock);
    return was;
}

static void enqueue_locked(struct dmc_file_handles *handles, struct dmc_request *waiter) DMC_REQUIRES(handles->lock);
static void enqueue_locked(struct dmc_file_handles *handles, struct dmc_request *waiter)
{
    waiter->next = NULL;
    if (handles->shared_waiters_last)
        handles->shared_waiters_last->next = waiter;
    else
        handles->shared_waiters_first = waiter;
    handles->shared_waiters_last = waiter;
    /* Sequentially consistent, as is the decrement of a release: either the release sees a waiter, or whoever enqueued it and
     * then looks for idle handles once more sees the release. */
    atomic_fetch_add(&handles->waiting, 1);
}

/* --- slots --- */

static struct handle_set *set_of(struct dmc_file_handles *handles, uint64_t hash)
{
    return &handles->sets[(uint32_t)hash & handles->set_mask];
}

static uint64_t entry_of(uint64_t hash, uint32_t slot)
{
    return (hash >> 32 << 32) | (slot + 1);
}

static void free_slot_locked(struct dmc_file_handles *handles, struct dmc_file_handle *handle) DMC_REQUIRES(handles->lock);
static void free_slot_locked(struct dmc_file_handles *handles, struct dmc_file_handle *handle)
{
    forget_path(handle);
    handle->listed = false;
    handle->next_free = handles->shared_free;
    handles->shared_free = (uint32_t)(handle - handles->slots);
}

/* Take an idle handle out of the table. true: its slot is free and *fd is the caller's to close. */
static bool evict_locked(struct dmc_file_handles *handles, struct dmc_file_handle *handle, int *fd) DMC_REQUIRES(handles->lock);
static bool evict_locked(struct dmc_file_handles *handles, struct dmc_file_handle *handle, int *fd)
{
    uint32_t idle = 1;
    if (!handle->listed || !atomic_compare_exchange_strong(&handle->references, &idle, 0))
        return false;
    struct handle_set *set = set_of(handles, handle->hash);
    uint64_t entry = entry_of(handle->hash, (uint32_t)(handle - handles->slots));
    for (uint32_t i = 0; i < SET_ENTRIES; i++)
        if (atomic_load_explicit(&set->entries[i], memory_order_relaxed) == entry)
            atomic_store_explicit(&set->entries[i], 0, memory_order_release);
    *fd = handle->fd;
    handles->shared_open--;
    free_slot_locked(handles, handle);
    return true;
}

/* Move the hand until it finds a handle that is not in use and was not used lately. */
static bool evict_any_locked(struct dmc_file_handles *handles, int *fd) DMC_REQUIRES(handles->lock);
static bool evict_any_locked(struct dmc_file_handles *handles, int *fd)
{
    uint32_t used = handles->shared_slots_used;
    for (uint64_t step = 0; step < 2 * (uint64_t)used; step++) {
        struct dmc_file_handle *handle = &handles->slots[handles->shared_hand];
        handles->shared_hand = handles->shared_hand + 1 < used ? handles->shared_hand + 1 : 0;
        if (atomic_load(&handle->references) != 1)
            continue;
        if (atomic_load_explicit(&handle->recent, memory_order_relaxed))
            atomic_store_explicit(&handle->recent, false, memory_order_relaxed);
        else if (evict_locked(handles, handle, fd))
            return true;
    }
    return false;
}

/* A free slot, at the cost of an idle handle if need be (*fd is then to be closed, else -1). NULL: all are in use. */
static struct dmc_file_handle *take_slot_locked(struct dmc_file_handles *handles, int *fd) DMC_REQUIRES(handles->lock);
static struct dmc_file_handle *take_slot_locked(struct dmc_file_handles *handles, int *fd)
{
    *fd = -1;
    if (handles->shared_free == NO_SLOT && handles->shared_slots_used < handles->slot_max)
        return &handles->slots[handles->shared_slots_used++];
    if (handles->shared_free == NO_SLOT && !evict_any_locked(handles, fd))
        return NULL;
    struct dmc_file_handle *handle = &handles->slots[handles->shared_free];
    handles->shared_free = handle->next_free;
    return handle;
}

/* One reference more, unless there is none. */
static bool try_retain(struct dmc_file_handle *handle)
{
    uint32_t references = atomic_load_explicit(&handle->references, memory_order_relaxed);
    while (references > 0)
        if (atomic_compare_exchange_weak_explicit(&handle->references, &references, references + 1, memory_order_acquire,
                                                  memory_order_relaxed))
            return true;
    return false;
}

void dmc_file_handle_release(struct dmc_file_handles *handles, struct dmc_file_handle *handle)
{
    uint32_t before = atomic_fetch_sub(&handle->references, 1);
    if (before == 1) { /* a private one */
        close(handle->fd);
        dmc_mutex_lock(&handles->lock);
        handles->shared_open--;
        free_slot_locked(handles, handle);
        wake_one_locked(handles);
        dmc_mutex_unlock(&handles->lock);
    } else if (before == 2) {
        dmc_file_handles_pass_on(handles);
    }
}

/* --- lookup --- */

static struct dmc_file_handle *lookup(struct dmc_file_handles *handles, const char *path, uint64_t hash)
{
    struct handle_set *set = set_of(handles, hash);
    for (uint32_t i = 0; i < SET_ENTRIES; i++) {
        uint64_t entry = atomic_load_explicit(&set->entries[i], memory_order_acquire);
        if (!entry || (entry ^ hash) >> 32)
            continue;
        /* The slot may hold another file by now: only a reference makes it safe to look, and only the path tells. */
        struct dmc_file_handle *handle = &handles->slots[(uint32_t)entry - 1];
        if (!try_retain(handle))
            continue;
        if (handle->hash == hash && handle->path && strcmp(handle->path, path) == 0) {
            if (!atomic_load_explicit(&handle->recent, memory_order_relaxed))
                atomic_store_explicit(&handle->recent, true, memory_order_relaxed);
            return handle;
        }
        dmc_file_handle_release(handles, handle);
    }
    return NULL;
}

/* --- file systems --- */

static struct dmc_file_system *file_system_of_locked(struct dmc_file_handles *handles, uint64_t device)
    DMC_REQUIRES(handles->lock);
static struct dmc_file_system *file_system_of_locked(struct dmc_file_handles *handles, uint64_t device)
{
    for (uint32_t i = 0; i < handles->shared_file_system_count; i++)
        if (handles->file_systems[i].device == device)
            return &handles->file_systems[i];
    if (handles->shared_file_system_count == FILE_SYSTEMS_MAX)
        return &handles->file_system_other;
    struct dmc_file_system *file_system = &handles->file_systems[handles->shared_file_system_count++];
    file_system->device = device;
    return file_system;
}

static enum dmc_read_mode mode_of_refusing(int fd)
{
    struct statfs facts;
    if (fstatfs(fd, &facts) < 0)
        return DMC_READ_RING;
    switch ((uint32_t)facts.f_type) {
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
    case HUGETLBFS_MAGIC:
        return DMC_READ_INLINE;
    case FUSE_SUPER_MAGIC:
    case NFS_SUPER_MAGIC:
    case SMB_SUPER_MAGIC:
    case CIFS_SUPER_MAGIC:
    case SMB2_SUPER_MAGIC:
    case CEPH_SUPER_MAGIC:
    case V9FS_MAGIC:
    case AFS_SUPER_MAGIC:
    case AFS_FS_MAGIC:
    case CODA_SUPER_MAGIC:
    case OCFS2_SUPER_MAGIC:
    case 0x0bd00bd0: /* Lustre */
    case 0x47504653: /* GPFS */
    case 0x01161970: /* GFS2 */
    case 0x19830326: /* BeeGFS */
        return DMC_READ_RING;
    default:
        return DMC_READ_MIXED;
    }
}

enum dmc_read_mode dmc_file_system_refused(struct dmc_file_system *file_system, int fd)
{
    enum dmc_read_mode mode = mode_of_refusing(fd);
    atomic_store_explicit(&file_system->mode, mode, memory_order_relaxed);
    return mode;
}

uint64_t dmc_file_version_tag(uint64_t bytes, int64_t mtime_s, int64_t mtime_ns, uint64_t inode)
{
    return dmc_hash_u64(dmc_hash_u64(bytes, inode), (uint64_t)mtime_s * 1000000000u + (uint64_t)mtime_ns);
}

/* --- opening --- */

static const char *not_a_file(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return NULL;
    case S_IFDIR:
        return "it is a folder, not a file";
    case S_IFIFO:
        return "it is a FIFO, not a file";
    case S_IFSOCK:
        return "it is a socket, not a file";
    case S_IFCHR:
    case S_IFBLK:
        return "it is a device, not a file";
    default:
        return "it is not a file";
    }
}

/* Open and look. Returns 0; or an errno, with *what set when the answer is not just the errno's text. */
static int open_file(const char *path, int *fd, struct stat *facts, const char **what)
{
    *what = NULL;
    /* O_NONBLOCK: a FIFO without a writer must not block. */
    do {
        *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    } while (*fd < 0 && errno == EINTR);
    if (*fd < 0) {
        int os_error = errno;
        if (os_error == ENXIO && stat(path, facts) == 0) /* sockets cannot even be opened */
            *what = not_a_file(facts->st_mode);
        return os_error;
    }
    int os_error = 0;
    if (fstat(*fd, facts) < 0)
        os_error = errno;
    else if ((*what = not_a_file(facts->st_mode)))
        os_error = EINVAL;
    if (os_error)
        close(*fd);
    return os_error;
}

/* Files are opened with O_NONBLOCK, which plain reads do not look at. io_uring takes it by its word and would not wait for the
 * disk. Most files never get there, so it is taken off only then; should that fail, the ring's -EAGAIN is followed by a plain
 * read. */
void dmc_file_handle_wait(struct dmc_file_handle *handle)
{
    if (atomic_load_explicit(&handle->waits, memory_order_acquire)) /* with the store below, which others may do as well */
        return;
    fcntl(handle->fd, F_SETFL, 0);
    atomic_store_explicit(&handle->waits, true, memory_order_release);
}

static void set_path(struct dmc_file_handle *handle, const char *path)
{
    size_t bytes = strlen(path) + 1;
    handle->path = bytes <= sizeof handle->path_inline ? handle->path_inline : dmc_malloc(bytes);
    if (handle->path)
        memcpy(handle->path, path, bytes);
}

/* Enter an opened handle into the table, or leave it private when its set is full of handles in use. */
static void publish_locked(struct dmc_file_handles *handles, struct dmc_file_handle *handle, int *close_fd)
    DMC_REQUIRES(handles->lock);
static void publish_locked(struct dmc_file_handles *handles, struct dmc_file_handle *handle, int *close_fd)
{
    struct handle_set *set = set_of(handles, handle->hash);
    _Atomic uint64_t *place = NULL;
    for (uint32_t i = 0; i < SET_ENTRIES && !place && handle->path; i++)
        if (!atomic_load_explicit(&set->entries[i], memory_order_relaxed))
            place = &set->entries[i];
    for (uint32_t i = 0; i < SET_ENTRIES && !place && handle->path; i++) {
        uint32_t slot = (uint32_t)atomic_load_explicit(&set->entries[i], memory_order_relaxed) - 1;
        if (evict_locked(handles, &handles->slots[slot], close_fd))
            place = &set->entries[i];
    }
    handles->shared_open++;
    handle->listed = place != NULL;
    atomic_store_explicit(&handle->recent, false, memory_order_relaxed);
    atomic_store_explicit(&handle->references, place ? 2 : 1, memory_order_release);
    if (place)
        atomic_store_explicit(place, entry_of(handle->hash, (uint32_t)(handle - handles->slots)), memory_order_release);
}

/* Is a file in use, or being opened, by someone else, so that waiting makes sense? */
static bool others_busy_locked(struct dmc_file_handles *handles) DMC_REQUIRES(handles->lock);
static bool others_busy_locked(struct dmc_file_handles *handles)
{
    if (handles->shared_opening > 1)
        return true;
    for (uint32_t i = 0; i < handles->shared_slots_used; i++) {
        uint32_t references = atomic_load(&handles->slots[i].references);
        if (handles->slots[i].listed ? references > 1 : references > 0)
            return true;
    }
    return false;
}

/* The process is out of descriptors. OK: one was closed, open again. WAIT, or FAILED: give up the slot. */
static enum dmc_handle_outcome make_room(struct dmc_file_handles *handles, struct dmc_file_handle *handle,
                                         struct dmc_request *waiter)
{
    int fd = -1;
    enum dmc_handle_outcome outcome = DMC_HANDLE_OK;
    dmc_mutex_lock(&handles->lock);
    if (!evict_any_locked(handles, &fd)) {
        outcome = DMC_HANDLE_FAILED;
        if (others_busy_locked(handles)) {
            enqueue_locked(handles, waiter);
            outcome = DMC_HANDLE_WAIT;
            /* Look again, as whoever was busy may have released before it could see the waiter. */
            if ((evict_any_locked(handles, &fd) || !others_busy_locked(handles)) && unlink_waiter_locked(handles, waiter))
                outcome = DMC_HANDLE_OK;
        }
        if (outcome != DMC_HANDLE_OK) {
            handles->shared_opening--;
            free_slot_locked(handles, handle);
        }
        if (outcome == DMC_HANDLE_FAILED)
            wake_one_locked(handles); /* this request may have used up the wake-up of one that waits */
    }
    dmc_mutex_unlock(&handles->lock);
    if (fd >= 0)
        close(fd);
    return outcome;
}

static enum dmc_handle_outcome fail(struct dmc_request *waiter, int os_error, const char *what)
{
    if (os_error == ENOENT || os_error == ENOTDIR)
        return DMC_HANDLE_ABSENT;
    if (what)
        dmc_request_fail(waiter, DAMACY_IO, 0, what);
    else
        dmc_request_fail(waiter, DAMACY_IO, os_error, "cannot open the file");
    if (os_error == EMFILE || os_error == ENFILE)
        dmc_error_hint(waiter->error, "raise the limit on open files (ulimit -n), or lower open_files_max");
    return DMC_HANDLE_FAILED;
}

enum dmc_handle_outcome dmc_file_handles_acquire(struct dmc_file_handles *handles, const char *path, uint64_t hash,
                                                 struct dmc_request *waiter, struct dmc_file_handle **out)
{
    if ((*out = lookup(handles, path, hash)))
        return DMC_HANDLE_OK;

    int close_fd;
    dmc_mutex_lock(&handles->lock);
    struct dmc_file_handle *handle = take_slot_locked(handles, &close_fd);
    if (!handle) {
        enqueue_locked(handles, waiter);
        handle = take_slot_locked(handles, &close_fd);
        if (handle) {
            bool was = unlink_waiter_locked(handles, waiter);
            assert(was);
            (void)was;
        }
    }
    if (handle)
        handles->shared_opening++;
    dmc_mutex_unlock(&handles->lock);
    if (!handle)
        return DMC_HANDLE_WAIT;
    if (close_fd >= 0)
        close(close_fd);

    struct stat facts;
    const char *what;
    int os_error;
    while ((os_error = open_file(path, &handle->fd, &facts, &what)) == EMFILE || os_error == ENFILE) {
        enum dmc_handle_outcome outcome = make_room(handles, handle, waiter);
        if (outcome == DMC_HANDLE_FAILED)
            return fail(waiter, os_error, what);
        if (outcome == DMC_HANDLE_WAIT)
            return DMC_HANDLE_WAIT;
    }
    if (os_error) {
        dmc_mutex_lock(&handles->lock);
        handles->shared_opening--;
        free_slot_locked(handles, handle);
        wake_one_locked(handles);
        dmc_mutex_unlock(&handles->lock);
        return fail(waiter, os_error, what);
    }
    handle->hash = hash;
    atomic_store_explicit(&handle->waits, false, memory_order_relaxed);
    handle->object_bytes = (uint64_t)facts.st_size;
    handle->version_tag =
        dmc_file_version_tag((uint64_t)facts.st_size, facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec, (uint64_t)facts.st_ino);
    set_path(handle, path);

    close_fd = -1;
    dmc_mutex_lock(&handles->lock);
    handles->shared_opening--;
    struct dmc_file_handle *other = NULL;
    struct handle_set *set = set_of(handles, hash);
    for (uint32_t i = 0; i < SET_ENTRIES && !other; i++) {
        uint64_t entry = atomic_load_explicit(&set->entries[i], memory_order_relaxed);
        if (!entry || (entry ^ hash) >> 32)
            continue;
        struct dmc_file_handle *candidate = &handles->slots[(uint32_t)entry - 1];
        if (candidate->hash == hash && handle->path && strcmp(candidate->path, path) == 0 && try_retain(candidate))
            other = candidate;
    }
    if (other) { /* another thread was quicker */
        close_fd = handle->fd;
        free_slot_locked(handles, handle);
        wake_one_locked(handles);
        handle = other;
    } else {
        handle->file_system = file_system_of_locked(handles, (uint64_t)facts.st_dev);
        publish_locked(handles, handle, &close_fd);
        if (close_fd >= 0)
            wake_one_locked(handles); /* closing one in the same set made room */
    }
    dmc_mutex_unlock(&handles->lock);
    if (close_fd >= 0)
        close(close_fd);
    *out = handle;
    return other ? DMC_HANDLE_OK : DMC_HANDLE_OPENED;
}
