/* A libcufile for tests, over the fake driver's memory: what the device would read itself is read there by pread(). It insists
 * on what the real one wants of its callers, counts what is registered, and each of its functions can be made to fail. */
#ifndef FAKE_CUFILE_H
#define FAKE_CUFILE_H

#include "backend/cuda/cuda_cufile.h"
#include "support/fake_cuda.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum fake_cufile_call {
    FAKE_CUFILE_OPEN,
    FAKE_CUFILE_PROPERTIES,
    FAKE_CUFILE_FILE,
    FAKE_CUFILE_MEMORY,
    FAKE_CUFILE_READ,
    FAKE_CUFILE_CALLS
};

static struct {
    pthread_mutex_t lock;
    uint64_t calls[FAKE_CUFILE_CALLS];
    uint64_t fail_at[FAKE_CUFILE_CALLS]; /* the n-th call and all after it fail; 0: none */
    int32_t error;                       /* with this; for reads 1 is an errno */
    uint64_t bytes_short;                /* each read brings so many bytes less; a multiple of a page, at most one */
    uint32_t device_cache_kib;
    uint64_t files, files_most, memories; /* registered now */
} fake_cufile_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct fake_cufile_handle {
    int fd;
};

static inline struct dmc_cufile_error fake_cufile_begin(enum fake_cufile_call call)
{
    assert(fake_entered > 0);
    pthread_mutex_lock(&fake_cufile_state.lock);
    uint64_t n = ++fake_cufile_state.calls[call], fail_at = fake_cufile_state.fail_at[call];
    return (struct dmc_cufile_error){fail_at && n >= fail_at ? fake_cufile_state.error : DMC_CUFILE_SUCCESS, 0};
}
static inline struct dmc_cufile_error fake_cufile_end(struct dmc_cufile_error result)
{
    pthread_mutex_unlock(&fake_cufile_state.lock);
    return result;
}

static struct dmc_cufile_error fake_cufile_driver_open(void)
{
    return fake_cufile_end(fake_cufile_begin(FAKE_CUFILE_OPEN));
}
static struct dmc_cufile_error fake_cufile_driver_properties(struct dmc_cufile_properties *properties)
{
    struct dmc_cufile_error result = fake_cufile_begin(FAKE_CUFILE_PROPERTIES);
    *properties = (struct dmc_cufile_properties){.nvfs_major = 2, .device_cache_kib = fake_cufile_state.device_cache_kib};
    return fake_cufile_end(result);
}
static struct dmc_cufile_error fake_cufile_file_register(void **handle, struct dmc_cufile_file_descr *descr)
{
    struct dmc_cufile_error result = fake_cufile_begin(FAKE_CUFILE_FILE);
    assert(descr->type == DMC_CUFILE_FILE_FD && descr->handle.fd >= 0 && !descr->operations);
    *handle = (void *)1; /* what a failed call leaves is not to be used */
    if (fcntl(descr->handle.fd, F_GETFL) & O_NONBLOCK)
        result.error = 5019; /* as the real one */
    if (result.error == DMC_CUFILE_SUCCESS) {
        struct fake_cufile_handle *made = calloc(1, sizeof *made);
        assert(made);
        made->fd = descr->handle.fd;
        *handle = made;
        if (++fake_cufile_state.files > fake_cufile_state.files_most)
            fake_cufile_state.files_most = fake_cufile_state.files;
    }
    return fake_cufile_end(result);
}
static void fake_cufile_file_deregister(void *handle)
{
    pthread_mutex_lock(&fake_cufile_state.lock);
    fake_cufile_state.files--;
    pthread_mutex_unlock(&fake_cufile_state.lock);
    free(handle);
}
static struct dmc_cufile_error fake_cufile_memory_register(const void *base, size_t bytes, int flags)
{
    struct dmc_cufile_error result = fake_cufile_begin(FAKE_CUFILE_MEMORY);
    assert(base && bytes > 0 && flags == 0);
    fake_cufile_state.memories += result.error == DMC_CUFILE_SUCCESS;
    return fake_cufile_end(result);
}
static struct dmc_cufile_error fake_cufile_memory_deregister(const void *base)
{
    assert(base);
    pthread_mutex_lock(&fake_cufile_state.lock);
    fake_cufile_state.memories--;
    return fake_cufile_end((struct dmc_cufile_error){0, 0});
}
static ssize_t fake_cufile_read(void *handle, void *base, size_t bytes, off_t file_offset, off_t base_offset)
{
    struct dmc_cufile_error result = fake_cufile_end(fake_cufile_begin(FAKE_CUFILE_READ));
    const struct fake_cufile_handle *file = handle;
    uint8_t *to = (uint8_t *)base + base_offset;
    assert((uintptr_t)to % DMC_CUFILE_ALIGN == 0 && bytes % DMC_CUFILE_ALIGN == 0 && file_offset % DMC_CUFILE_ALIGN == 0);
    if (result.error == 1)
        errno = EIO;
    if (result.error != DMC_CUFILE_SUCCESS)
        return -result.error;
    return pread(file->fd, to, bytes - fake_cufile_state.bytes_short, file_offset);
}

#define FAKE_CUFILE_MEMBER(returns, member, symbol, arguments) .member = fake_cufile_##member,
static const struct dmc_cufile_library fake_cufile = {DMC_CUFILE_FUNCTIONS(FAKE_CUFILE_MEMBER)};
#undef FAKE_CUFILE_MEMBER

/* As if it had just been loaded; everything that was registered has been given back. */
static inline bool fake_cufile_reset(void)
{
    bool clean = fake_cufile_state.files == 0 && fake_cufile_state.memories == 0;
    memset(fake_cufile_state.calls, 0, sizeof fake_cufile_state.calls);
    memset(fake_cufile_state.fail_at, 0, sizeof fake_cufile_state.fail_at);
    fake_cufile_state.bytes_short = fake_cufile_state.files = fake_cufile_state.files_most = fake_cufile_state.memories = 0;
    fake_cufile_state.device_cache_kib = 1024;
    fake_cufile_state.error = 5008;
    return clean;
}

#endif
