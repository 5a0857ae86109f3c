/* GPUDirect Storage: files that are read into the device's memory without passing through the host's, by libcufile, found at
 * run time. One table of functions, filled from libcufile.so.0, or by tests with functions of their own.
 *
 * Off unless asked for. Only what the host need not look at is read so. Whatever libcufile refuses (a file, or a read) is no
 * error here: the caller reads as usual, which finds the bytes, or says what is wrong with the file.
 *
 *     dmc_cufile_load() -> dmc_cufile_create() -> acquire a file (kept open, bounded, least recently used goes) -> read ->
 * release
 *
 * Facts of the interface: NVIDIA, cuFile API Reference Guide, docs.nvidia.com/gpudirect-storage/api-reference-guide, and the
 * header of its release 1.20. */
#ifndef DMC_CUDA_CUFILE_H
#define DMC_CUDA_CUFILE_H

#include "backend/cuda/cuda_device.h"

#include <sys/types.h>

/* Names a file to load instead of looking for one. */
#define DMC_CUFILE_VARIABLE "DAMACY_CUFILE"
#define DMC_CUFILE_MEND                                                                                                        \
    "pip install nvidia-cufile (nvidia-cufile-cu12 for CUDA 12), or name the file libcufile.so.0 in " DMC_CUFILE_VARIABLE

enum { DMC_CUFILE_SUCCESS = 0, DMC_CUFILE_FILE_FD = 1 };

/* CUfileError_t, returned by value. */
struct dmc_cufile_error {
    int32_t error; /* CUfileOpError */
    int32_t cuda;  /* CUresult, for one of the errors */
};

/* CUfileDescr_t */
struct dmc_cufile_file_descr {
    int32_t type; /* DMC_CUFILE_FILE_FD */
    union {
        int fd;
        void *other;
    } handle;
    const void *operations;
};

/* CUfileDrvProps_t, and room for what later releases may put behind it. */
struct dmc_cufile_properties {
    uint32_t nvfs_major, nvfs_minor; /* of the kernel's module; 0.0: not loaded */
    size_t poll_threshold_kib, direct_io_kib_max;
    uint32_t status_flags, control_flags;
    uint32_t feature_flags;
    uint32_t device_cache_kib; /* most device memory that the library takes for itself */
    uint32_t buffer_cache_kib, pinned_kib_max, batch_max, batch_timeout_ms;
    char reserved[256];
};

/* X(returns, member, symbol, arguments) */
#define DMC_CUFILE_FUNCTIONS(X)                                                                                                \
    X(struct dmc_cufile_error, driver_open, cuFileDriverOpen, (void))                                                          \
    X(struct dmc_cufile_error, driver_properties, cuFileDriverGetProperties, (struct dmc_cufile_properties * properties))      \
    X(struct dmc_cufile_error, file_register, cuFileHandleRegister, (void **handle, struct dmc_cufile_file_descr *descr))      \
    X(void, file_deregister, cuFileHandleDeregister, (void *handle))                                                           \
    X(struct dmc_cufile_error, memory_register, cuFileBufRegister, (const void *base, size_t bytes, int flags))                \
    X(struct dmc_cufile_error, memory_deregister, cuFileBufDeregister, (const void *base))                                     \
    X(ssize_t, read, cuFileRead, (void *handle, void *base, size_t bytes, off_t file_offset, off_t base_offset))

struct dmc_cufile_library {
#define DMC_CUFILE_MEMBER(returns, member, symbol, arguments) returns(*member) arguments;
    DMC_CUFILE_FUNCTIONS(DMC_CUFILE_MEMBER)
#undef DMC_CUFILE_MEMBER
};

/* The machine's library, loaded once a process: the file that DAMACY_CUFILE names; else NVIDIA's package beside the Python
 * package of damacy; else what the loader finds. UNSUPPORTED with the reason where there is none. Threads: any. */
enum damacy_status dmc_cufile_load(const struct dmc_cufile_library **library, struct damacy_error *error);

/* Offsets in files and addresses of device memory are multiples of this, or libcufile reads to somewhere else first. */
#define DMC_CUFILE_ALIGN 4096u

/* Files of one pipeline. */
struct dmc_cufile;

/* Start the library. What it may take of device memory for itself is drawn from the device's budget.
 *
 * files_max  most files open at once, besides those in use; at least 1
 * Returns OK; UNSUPPORTED where the library does not start on this machine, BUDGET, OOM. */
enum damacy_status dmc_cufile_create(const struct dmc_cufile_library *library, struct dmc_cuda_device *device,
                                     uint32_t files_max, struct dmc_cufile **cufile, struct damacy_error *error);
/* NULL allowed. No file is in use; memory was deregistered. */
void dmc_cufile_destroy(struct dmc_cufile *cufile);

/* Tell of device memory that is read into often; false: it was refused, and reads into it take longer. Inside dmc_cuda_enter().
 */
bool dmc_cufile_memory_register(struct dmc_cufile *cufile, uint64_t address, uint64_t bytes);
void dmc_cufile_memory_deregister(struct dmc_cufile *cufile, uint64_t address);

struct dmc_cufile_file {
    void *handle; /* of the library */
    int fd;
    uint64_t object_bytes; /* when it was opened */
    uint64_t hash;
    char *path;
    /* shared_ : the table's lock */
    bool listed; /* in the table; else its last user closes it */
    uint32_t users;
    uint64_t used; /* when, counted in uses */
};

enum dmc_cufile_answer {
    DMC_CUFILE_OK,
    DMC_CUFILE_ABSENT,  /* there is no such file */
    DMC_CUFILE_NOT_NOW, /* this one file could not be opened */
    DMC_CUFILE_NEVER    /* its kind is refused, and others near it will be */
};
/* A file by its path, whose hash is dmc_hash_bytes(path). As with all that is kept open: it stays the one that was opened. The
 * first refusal is told of in the log. Any thread. */
enum dmc_cufile_answer dmc_cufile_acquire(struct dmc_cufile *cufile, const char *path, uint64_t hash,
                                          struct dmc_cufile_file **file);
void dmc_cufile_release(struct dmc_cufile *cufile, struct dmc_cufile_file *file);

/* Read [offset, offset + bytes) to base + base_offset, all three and the address multiples of DMC_CUFILE_ALIGN; what lies
 * behind the end of the file is not written. Blocks; when it returns, the bytes are there for whatever the device does next.
 * Returns how many there were; 0 where the library failed, which is told of in the log once. Any thread. */
uint64_t dmc_cufile_read(struct dmc_cufile *cufile, const struct dmc_cufile_file *file, uint64_t offset, uint64_t bytes,
                         uint64_t base, uint64_t base_offset);

#endif
