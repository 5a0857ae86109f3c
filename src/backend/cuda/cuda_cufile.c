/* See cuda_cufile.h. */
#include "backend/cuda/cuda_cufile.h"
#include "backend/cuda/cuda_library.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIBRARY "libcufile.so.0"

/* --- the library --- */

/* Loaded once and kept: it has threads of its own. */
static struct {
    pthread_once_t once;
    struct dmc_cufile_library table;
    bool found;
    char reason[512];
} loaded = {.once = PTHREAD_ONCE_INIT};

static bool load_file(const char *path, char *text, size_t text_bytes)
{
    void *library = dmc_cuda_library_open(path, text, text_bytes);
    if (!library)
        return false;
    const char *missing = NULL;
#define FIND(returns, member, symbol, arguments)                                                                               \
    *(void **)&loaded.table.member = dlsym(library, #symbol);                                                                  \
    if (!loaded.table.member)                                                                                                  \
        missing = #symbol;
    DMC_CUFILE_FUNCTIONS(FIND)
#undef FIND
    if (!missing)
        return true;
    snprintf(text, text_bytes, "%s has no %s", path, missing);
    dlclose(library);
    return false;
}

static void load(void)
{
    static const char *const packages[] = {"nvidia/cu13/lib/" LIBRARY, "nvidia/cufile/lib/" LIBRARY};
    const char *named = getenv(DMC_CUFILE_VARIABLE);
    char path[4096], ignored[256];
    if (named && *named) {
        loaded.found = load_file(named, loaded.reason, sizeof loaded.reason);
        return;
    }
    for (size_t i = 0; !loaded.found && i < sizeof packages / sizeof packages[0]; i++)
        loaded.found = dmc_cuda_library_beside(packages[i], path, sizeof path) && load_file(path, ignored, sizeof ignored);
    loaded.found = loaded.found || load_file(LIBRARY, loaded.reason, sizeof loaded.reason);
}

enum damacy_status dmc_cufile_load(const struct dmc_cufile_library **library, struct damacy_error *error)
{
    pthread_once(&loaded.once, load);
    *library = &loaded.table;
    if (loaded.found)
        return DAMACY_OK;
    dmc_error_set(error, DAMACY_UNSUPPORTED, "config", "gpu_direct_storage is on, but " LIBRARY " is missing: %s",
                  loaded.reason);
    dmc_error_hint(error, "%s; or leave gpu_direct_storage off", DMC_CUFILE_MEND);
    return DAMACY_UNSUPPORTED;
}

/* Those that say something about a machine, a file, or memory. */
enum { DRIVER_NOT_INITIALIZED = 5001, CUDA_DRIVER_ERROR = 5011, DRIVER_ALREADY_OPEN = 5026 };
static const struct {
    int32_t error;
    const char *text;
} texts[] = {
    {DRIVER_NOT_INITIALIZED, "the kernel's module nvidia-fs is not loaded, and compatibility mode is not allowed"},
    {5004, "libcufile and the kernel's module nvidia-fs do not match"},
    {5005, "the version of the kernel's module nvidia-fs cannot be read"},
    {5007, "this platform is not supported"},
    {5008, "the file system is not supported"},
    {5009, "this GPU is not supported"},
    {5010, "the kernel's module nvidia-fs failed"},
    {CUDA_DRIVER_ERROR, "the CUDA driver failed"},
    {5016, "more device memory than may be pinned"},
    {5018, "no regular file"},
    {5019, "the file was opened in a way that is not supported"},
    {5020, "the file was not opened for direct I/O"},
    {5022, "invalid arguments"},
    {5025, "permission denied"},
    {5027, "the handle is not registered: seen where the file's disk is unknown to it"},
    {5030, "internal error"},
    {5033, "the kernel's module nvidia-fs could not be set up"},
    {5034, "switched off for this file in cufile.json"},
    {5036, "the device memory could not be pinned"},
    {5044, "input/output error"},
};

/* "cuFileHandleRegister: 5008 (the file system is not supported)" */
static const char *describe(const char *call, struct dmc_cufile_error result, char text[256])
{
    const char *what = "see CUfileOpError";
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].error == result.error)
            what = texts[i].text;
    if (result.error == CUDA_DRIVER_ERROR)
        snprintf(text, 256, "%s: %d (%s with %d)", call, result.error, what, result.cuda);
    else
        snprintf(text, 256, "%s: %d (%s)", call, result.error, what);
    return text;
}

/* --- files --- */

struct dmc_cufile {
    /* constant */
    const struct dmc_cufile_library *library;
    struct dmc_cuda_device *device;
    uint64_t device_bytes; /* drawn from the device's budget */
    uint32_t files_max;
    /* shared */
    _Atomic bool refused, failed; /* the first was told of */
    struct dmc_mutex lock;
    struct dmc_cufile_file **shared_files; /* files_max of them, in no order */
    uint32_t shared_count;
    uint64_t shared_uses;
};

static void close_file(struct dmc_cufile *cufile, struct dmc_cufile_file *file)
{
    if (!file)
        return;
    if (file->handle)
        cufile->library->file_deregister(file->handle);
    if (file->fd >= 0)
        close(file->fd);
    dmc_free(file->path);
    dmc_free(file);
}

static enum dmc_cufile_answer refuse(struct dmc_cufile *cufile, const char *path, const char *why)
{
    if (!atomic_exchange_explicit(&cufile->refused, true, memory_order_relaxed))
        dmc_log(DMC_BACKEND, DAMACY_LOG_WARN,
                "gpu_direct_storage: %s cannot be read so (%s); it and its like are read as usual, and counted in "
                "gpu_direct_fallback",
                path, why);
    return DMC_CUFILE_NEVER;
}

/* Bypassing the page cache is what makes a file one that the device can read. */
static enum dmc_cufile_answer open_fd(struct dmc_cufile *cufile, const char *path, struct dmc_cufile_file *file)
{
    struct stat facts;
    file->fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC | O_NONBLOCK);
    if (file->fd < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return DMC_CUFILE_ABSENT;
        if (errno == EINVAL && stat(path, &facts) == 0 && S_ISREG(facts.st_mode))
            return refuse(cufile, path, "its file system has no O_DIRECT");
        return DMC_CUFILE_NOT_NOW;
    }
    /* O_NONBLOCK is for what might be a FIFO; libcufile refuses files opened with it (5019, seen with 1.14 and 1.20). */
    if (fstat(file->fd, &facts) < 0 || !S_ISREG(facts.st_mode) || fcntl(file->fd, F_SETFL, O_DIRECT) < 0)
        return DMC_CUFILE_NOT_NOW;
    file->object_bytes = (uint64_t)facts.st_size;
    return DMC_CUFILE_OK;
}

static enum dmc_cufile_answer register_file(struct dmc_cufile *cufile, const char *path, struct dmc_cufile_file *file)
{
    struct dmc_cufile_file_descr descr = {.type = DMC_CUFILE_FILE_FD, .handle.fd = file->fd};
    char text[256];
    if (dmc_cuda_enter(cufile->device, NULL) != DAMACY_OK)
        return DMC_CUFILE_NOT_NOW;
    struct dmc_cufile_error result = cufile->library->file_register(&file->handle, &descr);
    dmc_cuda_leave(cufile->device);
    if (result.error == DMC_CUFILE_SUCCESS)
        return DMC_CUFILE_OK;
    file->handle = NULL;
    return refuse(cufile, path, describe("cuFileHandleRegister", result, text));
}

static enum dmc_cufile_answer open_file(struct dmc_cufile *cufile, const char *path, uint64_t hash,
                                        struct dmc_cufile_file **out)
{
    const size_t path_bytes = strlen(path) + 1;
    struct dmc_cufile_file *file = dmc_calloc(1, sizeof *file);
    if (!file)
        return DMC_CUFILE_NOT_NOW;
    *file = (struct dmc_cufile_file){.fd = -1, .hash = hash, .users = 1, .path = dmc_malloc(path_bytes)};
    enum dmc_cufile_answer answer = file->path ? open_fd(cufile, path, file) : DMC_CUFILE_NOT_NOW;
    if (answer == DMC_CUFILE_OK) {
        memcpy(file->path, path, path_bytes);
        answer = register_file(cufile, path, file);
    }
    if (answer == DMC_CUFILE_OK)
        *out = file;
    else
        close_file(cufile, file);
    return answer;
}

static struct dmc_cufile_file *find_locked(struct dmc_cufile *cufile, const char *path, uint64_t hash)
{
    for (uint32_t i = 0; i < cufile->shared_count; i++) {
        struct dmc_cufile_file *file = cufile->shared_files[i];
        if (file->hash == hash && strcmp(file->path, path) == 0) {
            file->users++;
            file->used = ++cufile->shared_uses;
            return file;
        }
    }
    return NULL;
}

/* Into the table, if there is a place in it; returns the one that had to go for it. */
static struct dmc_cufile_file *list_locked(struct dmc_cufile *cufile, struct dmc_cufile_file *file)
{
    struct dmc_cufile_file **oldest = NULL, *gone;
    file->used = ++cufile->shared_uses;
    file->listed = true;
    if (cufile->shared_count < cufile->files_max) {
        cufile->shared_files[cufile->shared_count++] = file;
        return NULL;
    }
    for (uint32_t i = 0; i < cufile->shared_count; i++)
        if (cufile->shared_files[i]->users == 0 && (!oldest || cufile->shared_files[i]->used < (*oldest)->used))
            oldest = &cufile->shared_files[i];
    if (!oldest) { /* all are in use: this one is its user's alone */
        file->listed = false;
        return NULL;
    }
    gone = *oldest;
    *oldest = file;
    return gone;
}

enum dmc_cufile_answer dmc_cufile_acquire(struct dmc_cufile *cufile, const char *path, uint64_t hash,
                                          struct dmc_cufile_file **out)
{
    dmc_mutex_lock(&cufile->lock);
    *out = find_locked(cufile, path, hash);
    dmc_mutex_unlock(&cufile->lock);
    if (*out)
        return DMC_CUFILE_OK;
    /* Without the lock: a file system may take its time. Of two threads that open the same file the later one takes the
     * other's.
     */
    struct dmc_cufile_file *file = NULL, *gone = NULL;
    enum dmc_cufile_answer answer = open_file(cufile, path, hash, &file);
    if (answer != DMC_CUFILE_OK)
        return answer;
    dmc_mutex_lock(&cufile->lock);
    *out = find_locked(cufile, path, hash);
    if (*out) {
        gone = file;
    } else {
        gone = list_locked(cufile, file);
        *out = file;
    }
    dmc_mutex_unlock(&cufile->lock);
    close_file(cufile, gone);
    return DMC_CUFILE_OK;
}

void dmc_cufile_release(struct dmc_cufile *cufile, struct dmc_cufile_file *file)
{
    dmc_mutex_lock(&cufile->lock);
    bool over = --file->users == 0 && !file->listed;
    dmc_mutex_unlock(&cufile->lock);
    if (over)
        close_file(cufile, file);
}

/* --- reading --- */

uint64_t dmc_cufile_read(struct dmc_cufile *cufile, const struct dmc_cufile_file *file, uint64_t offset, uint64_t bytes,
                         uint64_t base, uint64_t base_offset)
{
    if (dmc_cuda_enter(cufile->device, NULL) != DAMACY_OK)
        return 0;
    errno = 0;
    ssize_t result = cufile->library->read(file->handle, (void *)(uintptr_t)base, bytes, (off_t)offset, (off_t)base_offset);
    int os_error = errno;
    dmc_cuda_leave(cufile->device);
    if (result >= 0)
        return (uint64_t)result <= bytes ? (uint64_t)result : 0;
    if (!atomic_exchange_explicit(&cufile->failed, true, memory_order_relaxed)) {
        struct damacy_error error;
        char text[256];
        if (result == -1)
            dmc_error_set_os(&error, DAMACY_IO, "read", os_error, "cuFileRead");
        else
            dmc_error_set(&error, DAMACY_IO, "read", "%s",
                          describe("cuFileRead", (struct dmc_cufile_error){(int32_t)-result, 0}, text));
        dmc_error_where(&error, file->path, NULL, offset, offset + bytes);
        dmc_log(DMC_BACKEND, DAMACY_LOG_WARN, "gpu_direct_storage: %s; read as usual, and counted in gpu_direct_fallback",
                error.message);
    }
    return 0;
}

bool dmc_cufile_memory_register(struct dmc_cufile *cufile, uint64_t address, uint64_t bytes)
{
    struct dmc_cufile_error result = cufile->library->memory_register((const void *)(uintptr_t)address, bytes, 0);
    char text[256];
    if (result.error != DMC_CUFILE_SUCCESS)
        dmc_log(DMC_BACKEND, DAMACY_LOG_INFO, "gpu_direct_storage: %s; reads go through memory of libcufile's own",
                describe("cuFileBufRegister", result, text));
    return result.error == DMC_CUFILE_SUCCESS;
}

void dmc_cufile_memory_deregister(struct dmc_cufile *cufile, uint64_t address)
{
    cufile->library->memory_deregister((const void *)(uintptr_t)address);
}

/* --- making --- */

static enum damacy_status open_driver(struct dmc_cufile *cufile, struct damacy_error *error)
{
    struct dmc_cufile_properties properties = {0};
    char text[256];
    /* Not closed again: others of the process may have opened it, too, and it ends with the process. */
    const char *call = "cuFileDriverOpen";
    struct dmc_cufile_error result = cufile->library->driver_open();
    if (result.error == DMC_CUFILE_SUCCESS || result.error == DRIVER_ALREADY_OPEN) {
        call = "cuFileDriverGetProperties";
        result = cufile->library->driver_properties(&properties);
    }
    if (result.error != DMC_CUFILE_SUCCESS) {
        dmc_error_set(error, DAMACY_UNSUPPORTED, "config", "gpu_direct_storage is on, but libcufile does not start: %s",
                      describe(call, result, text));
        dmc_error_hint(error,
                       result.error == DRIVER_NOT_INITIALIZED
                           ? "load it (modprobe nvidia-fs), or set properties.allow_compat_mode in cufile.json, or leave "
                             "gpu_direct_storage off"
                           : "leave gpu_direct_storage off, or ask gdscheck -p, which comes with CUDA");
        return DAMACY_UNSUPPORTED;
    }
    uint64_t bytes = (uint64_t)properties.device_cache_kib * 1024;
    if (!dmc_budget_reserve(&cufile->device->budget, bytes)) {
        dmc_error_set(error, DAMACY_BUDGET, "config",
                      "libcufile may take %llu bytes of device memory, which do not fit max_gpu_memory_bytes (%llu)",
                      (unsigned long long)bytes, (unsigned long long)cufile->device->budget.limit_bytes);
        dmc_error_hint(error, "raise max_gpu_memory_bytes, lower properties.max_device_cache_size_kb in cufile.json, or leave "
                              "gpu_direct_storage off");
        return DAMACY_BUDGET;
    }
    cufile->device_bytes = bytes;
    if (properties.nvfs_major | properties.nvfs_minor)
        dmc_log(DMC_BACKEND, DAMACY_LOG_INFO, "gpu_direct_storage: nvidia-fs %u.%u", properties.nvfs_major,
                properties.nvfs_minor);
    else
        dmc_log(
            DMC_BACKEND, DAMACY_LOG_INFO,
            "gpu_direct_storage: nvidia-fs is not loaded; libcufile may read through the host's memory (compatibility mode)");
    return DAMACY_OK;
}

enum damacy_status dmc_cufile_create(const struct dmc_cufile_library *library, struct dmc_cuda_device *device,
                                     uint32_t files_max, struct dmc_cufile **out, struct damacy_error *error)
{
    struct dmc_cufile *cufile = dmc_calloc(1, sizeof *cufile);
    if (!cufile)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for gpu_direct_storage");
    cufile->library = library;
    cufile->device = device;
    cufile->files_max = files_max;
    dmc_cuda_device_retain(device);
    dmc_mutex_init(&cufile->lock);
    cufile->shared_files = dmc_calloc(files_max, sizeof *cufile->shared_files);
    enum damacy_status status = DAMACY_OK;
    if (!cufile->shared_files)
        status = dmc_error_set(error, DAMACY_OOM, "config", "no memory for the files of gpu_direct_storage");
    if (status == DAMACY_OK)
        status = dmc_cuda_enter(device, error);
    if (status == DAMACY_OK) {
        status = open_driver(cufile, error);
        dmc_cuda_leave(device);
    }
    if (status == DAMACY_OK)
        *out = cufile;
    else
        dmc_cufile_destroy(cufile);
    return status;
}

void dmc_cufile_destroy(struct dmc_cufile *cufile)
{
    if (!cufile)
        return;
    for (uint32_t i = 0; i < cufile->shared_count; i++)
        close_file(cufile, cufile->shared_files[i]);
    dmc_budget_unreserve(&cufile->device->budget, cufile->device_bytes);
    dmc_cuda_device_release(cufile->device);
    dmc_mutex_deinit(&cufile->lock);
    dmc_free(cufile->shared_files);
    dmc_free(cufile);
}
