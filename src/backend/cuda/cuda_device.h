/* One device as one pipeline uses it: its context, its kernels, and memory under a hard cap.
 *
 * Counted: the backend holds one reference, and so does every batch buffer, which may outlive it. Calls of the driver need the
 * context current on their thread: dmc_cuda_enter() and dmc_cuda_leave() go round them, and long-lived threads enter once. */
#ifndef DMC_CUDA_DEVICE_H
#define DMC_CUDA_DEVICE_H

#include "backend/backend.h"
#include "backend/cuda/cuda_decoder.h"
#include "backend/cuda/cuda_driver.h"
#include "backend/cuda/cuda_nvcomp.h"

struct dmc_cuda_device {
    /* constant */
    const struct dmc_cuda_driver *driver;
    dmc_cu_context context;
    dmc_cu_device handle;
    int32_t ordinal;
    bool primary; /* retained by us */
    uint32_t multiprocessors;
    uint32_t shared_bytes_block;
    int numa_node;       /* -1: not known */
    uint64_t free_bytes; /* when it was opened */
    dmc_cu_module module;
    dmc_cu_function assemble;
    dmc_cu_function kernels[DMC_CUDA_KERNEL_COUNT];
    const struct dmc_cuda_nvcomp *nvcomp; /* set before anything is started: instead of the machine's */
    bool nvcomp_never;                    /* the same: do not look for the machine's */
    /* shared */
    _Atomic bool nvcomp_failed; /* it refused once: no more */
    struct dmc_budget budget;   /* of device memory */
    _Atomic uint32_t references;
};

/* sysfs        NULL, or a test's folder: see base/numa.h.
 * ordinal      -1: the current context and its device, or device 0 where there is none; else a device in its primary context.
 * image        the embedded module.
 * limit_bytes  cap on device memory; 0: a quarter of what is free now. */
enum damacy_status dmc_cuda_device_open(const struct dmc_cuda_driver *driver, const void *image, const char *sysfs,
                                        int32_t ordinal, uint64_t limit_bytes, struct dmc_cuda_device **device,
                                        struct damacy_error *error);
void dmc_cuda_device_retain(struct dmc_cuda_device *device);
void dmc_cuda_device_release(struct dmc_cuda_device *device); /* NULL allowed */

/* Make the device's context current on this thread, and put back what was. */
enum damacy_status dmc_cuda_enter(struct dmc_cuda_device *device, struct damacy_error *error);
void dmc_cuda_leave(struct dmc_cuda_device *device);

/* nvcomp, if it is here and has not failed; NULL, and *reason (NULL: not wanted). Any thread. */
const struct dmc_cuda_nvcomp *dmc_cuda_device_nvcomp(struct dmc_cuda_device *device, const char **reason);

/* Device memory, 256-byte aligned; BUDGET names max_gpu_memory_bytes. Inside enter and leave. */
enum damacy_status dmc_cuda_memory_alloc(struct dmc_cuda_device *device, uint64_t bytes, const char *what,
                                         dmc_cu_address *address, struct damacy_error *error);
void dmc_cuda_memory_free(struct dmc_cuda_device *device, dmc_cu_address address, uint64_t bytes);

/* Pinned host memory, drawn from the host budget. */
enum damacy_status dmc_cuda_pinned_alloc(struct dmc_cuda_device *device, struct dmc_budget *budget, uint64_t bytes,
                                         const char *what, void **memory, struct damacy_error *error);
void dmc_cuda_pinned_free(struct dmc_cuda_device *device, struct dmc_budget *budget, void *memory, uint64_t bytes);

/* A batch buffer with its fences (struct dmc_backend_memory); any thread. */
enum damacy_status dmc_cuda_batch_alloc(struct dmc_cuda_device *device, uint64_t bytes, struct dmc_backend_memory *memory,
                                        struct damacy_error *error);
/* Has all that was fenced passed? OK; AGAIN: not yet; CUDA: the device is lost. Inside enter and leave. */
enum damacy_status dmc_cuda_batch_passed(const struct dmc_backend_memory *memory, struct damacy_error *error);

#endif
