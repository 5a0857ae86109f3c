/* See cuda_device.h. */
#include "backend/cuda/cuda_device.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/numa.h"
#include "base/thread.h"

#include <stdlib.h>

#define ALIGN 256u

/* --- context and module --- */

static enum damacy_status find_context(struct dmc_cuda_device *device, int32_t ordinal, struct damacy_error *error)
{
    const struct dmc_cuda_driver *driver = device->driver;
    dmc_cu_context current = NULL;
    dmc_cu_result result = DMC_CU_SUCCESS;
    if (ordinal < 0) {
        result = driver->context_current(&current);
        if (result != DMC_CU_SUCCESS)
            return dmc_cuda_error(driver, result, "cuCtxGetCurrent", error);
    }
    if (current) {
        device->context = current;
        result = driver->context_device(&device->handle);
        if (result != DMC_CU_SUCCESS)
            return dmc_cuda_error(driver, result, "cuCtxGetDevice", error);
        device->ordinal = device->handle; /* a CUdevice is its ordinal */
        return DAMACY_OK;
    }
    device->ordinal = ordinal < 0 ? 0 : ordinal;
    int count = 0;
    result = driver->device_count(&count);
    if (result != DMC_CU_SUCCESS)
        return dmc_cuda_error(driver, result, "cuDeviceGetCount", error);
    if (device->ordinal >= count)
        return dmc_error_set(error, DAMACY_INVAL, "config", "there is no CUDA device %d: this process sees %d", device->ordinal,
                             count);
    result = driver->device_get(&device->handle, device->ordinal);
    if (result != DMC_CU_SUCCESS)
        return dmc_cuda_error(driver, result, "cuDeviceGet", error);
    result = driver->primary_retain(&device->context, device->handle);
    if (result != DMC_CU_SUCCESS)
        return dmc_cuda_error(driver, result, "cuDevicePrimaryCtxRetain", error);
    device->primary = true;
    return DAMACY_OK;
}

static enum damacy_status load_kernels(struct dmc_cuda_device *device, const void *image, struct damacy_error *error)
{
    const struct dmc_cuda_driver *driver = device->driver;
    dmc_cu_result result = driver->module_load(&device->module, image);
    if (result != DMC_CU_SUCCESS) {
        device->module = NULL;
        enum damacy_status status = dmc_cuda_error(driver, result, "cuModuleLoadData", error);
        int version = 0;
        driver->driver_version(&version);
        if (status == DAMACY_CUDA)
            dmc_error_hint(
                error,
                "the kernels of this build need a GPU of compute capability 8.0 or newer, and a driver as new as the "
                "toolkit that they were built with; this one is of CUDA %d.%d: update it, or use device=\"cpu\"",
                version / 1000, version % 1000 / 10);
        return status;
    }
    result = driver->module_function(&device->assemble, device->module, "dmc_assemble");
    for (int i = 0; result == DMC_CU_SUCCESS && i < DMC_CUDA_KERNEL_COUNT; i++) {
        const struct dmc_cuda_kernel_info *info = &dmc_cuda_kernels[i];
        result = driver->module_function(&device->kernels[i], device->module, info->name);
        if (result == DMC_CU_SUCCESS && info->shared_bytes_max > 48 * 1024)
            result = driver->function_attribute(device->kernels[i], DMC_CU_FUNC_DYNAMIC_SHARED_BYTES,
                                                (int)dmc_min_u64(info->shared_bytes_max, device->shared_bytes_block));
        if (result == DMC_CU_SUCCESS && info->carveout >= 0)
            result = driver->function_attribute(device->kernels[i], DMC_CU_FUNC_SHARED_CARVEOUT, info->carveout);
    }
    if (result != DMC_CU_SUCCESS)
        return dmc_cuda_error(driver, result, "cuModuleGetFunction", error);
    return DAMACY_OK;
}

static enum damacy_status read_facts(struct dmc_cuda_device *device, uint64_t limit_bytes, struct damacy_error *error)
{
    const struct dmc_cuda_driver *driver = device->driver;
    int multiprocessors = 0, shared_bytes = 0;
    size_t free_bytes = 0, total_bytes = 0;
    dmc_cu_result result = driver->device_attribute(&multiprocessors, DMC_CU_MULTIPROCESSOR_COUNT, device->handle);
    if (result == DMC_CU_SUCCESS)
        result = driver->device_attribute(&shared_bytes, DMC_CU_SHARED_BYTES_BLOCK_OPTIN, device->handle);
    if (result != DMC_CU_SUCCESS)
        return dmc_cuda_error(driver, result, "cuDeviceGetAttribute", error);
    result = driver->memory_info(&free_bytes, &total_bytes);
    if (result != DMC_CU_SUCCESS)
        return dmc_cuda_error(driver, result, "cuMemGetInfo", error);
    device->multiprocessors = (uint32_t)multiprocessors;
    device->shared_bytes_block = (uint32_t)shared_bytes;
    device->free_bytes = free_bytes;
    dmc_budget_init(&device->budget, limit_bytes ? limit_bytes : free_bytes / 4);
    return DAMACY_OK;
}

/* Under torchrun every process should use the device of its rank. */
static void warn_of_rank(const struct dmc_cuda_device *device)
{
    const char *rank = getenv("LOCAL_RANK");
    int count = 0;
    device->driver->device_count(&count);
    if (rank && *rank && count > 1 && atoi(rank) != device->ordinal)
        dmc_log(DMC_BACKEND, DAMACY_LOG_WARN, "LOCAL_RANK is %s, but this pipeline uses CUDA device %d", rank, device->ordinal);
}

/* Only of use on machines with several nodes, and never a reason to fail. */
static int find_numa_node(const struct dmc_cuda_device *device, const char *sysfs)
{
    char id[32] = "";
    if (device->driver->device_pci_bus_id(id, sizeof id, device->handle) != DMC_CU_SUCCESS)
        return -1;
    return dmc_numa_node_of_pci(sysfs, id);
}

enum damacy_status dmc_cuda_device_open(const struct dmc_cuda_driver *driver, const void *image, const char *sysfs,
                                        int32_t ordinal, uint64_t limit_bytes, struct dmc_cuda_device **out,
                                        struct damacy_error *error)
{
    struct dmc_cuda_device *device = dmc_calloc(1, sizeof *device);
    if (!device)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for a CUDA device");
    device->driver = driver;
    atomic_init(&device->references, 1);
    enum damacy_status status = find_context(device, ordinal, error);
    if (status == DAMACY_OK)
        status = dmc_cuda_enter(device, error);
    if (status == DAMACY_OK) {
        status = read_facts(device, limit_bytes, error);
        if (status == DAMACY_OK)
            status = load_kernels(device, image, error);
        dmc_cuda_leave(device);
    }
    if (status != DAMACY_OK) {
        dmc_cuda_device_release(device);
        return status;
    }
    warn_of_rank(device);
    device->numa_node = find_numa_node(device, sysfs);
    *out = device;
    return DAMACY_OK;
}

void dmc_cuda_device_retain(struct dmc_cuda_device *device)
{
    atomic_fetch_add_explicit(&device->references, 1, memory_order_relaxed);
}

void dmc_cuda_device_release(struct dmc_cuda_device *device)
{
    if (!device || atomic_fetch_sub_explicit(&device->references, 1, memory_order_acq_rel) != 1)
        return;
    if (device->module && dmc_cuda_enter(device, NULL) == DAMACY_OK) {
        device->driver->module_unload(device->module);
        dmc_cuda_leave(device);
    }
    if (device->primary)
        device->driver->primary_release(device->handle);
    dmc_free(device);
}

enum damacy_status dmc_cuda_enter(struct dmc_cuda_device *device, struct damacy_error *error)
{
    dmc_cu_result result = device->driver->context_push(device->context);
    return result == DMC_CU_SUCCESS ? DAMACY_OK : dmc_cuda_error(device->driver, result, "cuCtxPushCurrent", error);
}

void dmc_cuda_leave(struct dmc_cuda_device *device)
{
    dmc_cu_context popped;
    device->driver->context_pop(&popped);
}

const struct dmc_cuda_nvcomp *dmc_cuda_device_nvcomp(struct dmc_cuda_device *device, const char **reason)
{
    if (atomic_load_explicit(&device->nvcomp_failed, memory_order_relaxed)) {
        if (reason)
            *reason = "it failed before; see the log";
        return NULL;
    }
    if (device->nvcomp || !device->nvcomp_never)
        return device->nvcomp ? device->nvcomp : dmc_cuda_nvcomp_load(reason);
    if (reason)
        *reason = "it is left out";
    return NULL;
}

/* --- memory --- */

enum damacy_status dmc_cuda_memory_alloc(struct dmc_cuda_device *device, uint64_t bytes, const char *what,
                                         dmc_cu_address *address, struct damacy_error *error)
{
    uint64_t size = dmc_round_up(bytes ? bytes : 1, ALIGN);
    if (!dmc_budget_reserve(&device->budget, size)) {
        dmc_error_set(error, DAMACY_BUDGET, "config",
                      "%llu bytes of device memory for %s do not fit max_gpu_memory_bytes (%llu, %llu in use)",
                      (unsigned long long)bytes, what, (unsigned long long)device->budget.limit_bytes,
                      (unsigned long long)dmc_budget_used(&device->budget));
        dmc_error_hint(error, "raise max_gpu_memory_bytes, or lower batch_slots or samples_per_batch");
        return DAMACY_BUDGET;
    }
    dmc_cu_result result = device->driver->memory_alloc(address, size);
    if (result == DMC_CU_SUCCESS)
        return DAMACY_OK;
    dmc_budget_unreserve(&device->budget, size);
    enum damacy_status status = dmc_cuda_error(device->driver, result, "cuMemAlloc", error);
    dmc_error_hint(error, "%llu bytes were asked for %s; lower max_gpu_memory_bytes or free memory of the device",
                   (unsigned long long)size, what);
    return status;
}

void dmc_cuda_memory_free(struct dmc_cuda_device *device, dmc_cu_address address, uint64_t bytes)
{
    if (!address)
        return;
    device->driver->memory_free(address);
    dmc_budget_unreserve(&device->budget, dmc_round_up(bytes ? bytes : 1, ALIGN));
}

enum damacy_status dmc_cuda_pinned_alloc(struct dmc_cuda_device *device, struct dmc_budget *budget, uint64_t bytes,
                                         const char *what, void **memory, struct damacy_error *error)
{
    if (!dmc_budget_reserve(budget, bytes)) {
        dmc_error_set(error, DAMACY_BUDGET, "config",
                      "%llu bytes of pinned memory for %s do not fit max_host_memory_bytes (%llu, %llu in use)",
                      (unsigned long long)bytes, what, (unsigned long long)budget->limit_bytes,
                      (unsigned long long)dmc_budget_used(budget));
        dmc_error_hint(error, "raise max_host_memory_bytes");
        return DAMACY_BUDGET;
    }
    dmc_cu_result result = device->driver->host_alloc(memory, bytes, DMC_CU_HOST_ALLOC_PORTABLE);
    if (result == DMC_CU_SUCCESS)
        return DAMACY_OK;
    dmc_budget_unreserve(budget, bytes);
    *memory = NULL;
    return dmc_cuda_error(device->driver, result, "cuMemHostAlloc", error);
}

void dmc_cuda_pinned_free(struct dmc_cuda_device *device, struct dmc_budget *budget, void *memory, uint64_t bytes)
{
    if (!memory)
        return;
    device->driver->host_free(memory);
    dmc_budget_unreserve(budget, bytes);
}

/* --- batch buffers --- */

/* A stream of its own per buffer, on which nothing runs: it only waits for what is fenced, so that one buffer's fences never
 * hold up another's. `event` marks the consumer's stream (producer: the consumer's kernels; consumer: `stream`; protects: the
 * buffer). */
struct batch_owner {
    struct dmc_cuda_device *device;
    dmc_cu_stream stream;
    dmc_cu_event event;
    struct dmc_mutex lock; /* recording the event and waiting for it are one step: tensors may end on several threads */
};

static void batch_free(struct dmc_backend_memory *memory)
{
    struct batch_owner *owner = memory->owner;
    if (!owner)
        return;
    struct dmc_cuda_device *device = owner->device;
    if (dmc_cuda_enter(device, NULL) == DAMACY_OK) {
        if (owner->stream) {
            device->driver->stream_synchronize(owner->stream); /* what is fenced may still read the buffer */
            device->driver->stream_destroy(owner->stream);
        }
        if (owner->event)
            device->driver->event_destroy(owner->event);
        dmc_cuda_memory_free(device, (dmc_cu_address)(uintptr_t)memory->data, memory->bytes);
        dmc_cuda_leave(device);
    }
    dmc_cuda_device_release(device);
    dmc_mutex_deinit(&owner->lock);
    dmc_free(owner);
    *memory = (struct dmc_backend_memory){0};
}

static enum damacy_status fence_event(struct dmc_backend_memory *memory, uint64_t event, struct damacy_error *error)
{
    struct batch_owner *owner = memory->owner;
    enum damacy_status status = dmc_cuda_enter(owner->device, error);
    if (status != DAMACY_OK)
        return status;
    dmc_cu_result result = owner->device->driver->stream_wait(owner->stream, (dmc_cu_event)(uintptr_t)event, 0);
    if (result != DMC_CU_SUCCESS)
        status = dmc_cuda_error(owner->device->driver, result, "cuStreamWaitEvent", error);
    dmc_cuda_leave(owner->device);
    return status;
}

/* After all that `stream` has been given by now. The default streams are always there; any other may have been destroyed by
 * now, and a driver crashes on the handle of one that is gone, though its work may go on. So there the whole context's work is
 * waited for, our own waves of that moment included, which is some milliseconds more; drivers before 12.5 cannot. */
static dmc_cu_result record_end(const struct dmc_cuda_device *device, dmc_cu_event event, uint64_t stream)
{
    const bool always_there = stream <= 2; /* null, legacy, per thread */
    if (!always_there && device->driver->context_record &&
        device->driver->context_record(device->context, event) == DMC_CU_SUCCESS)
        return DMC_CU_SUCCESS;
    return device->driver->event_record(event, (dmc_cu_stream)(uintptr_t)stream);
}

static enum damacy_status fence_stream(struct dmc_backend_memory *memory, uint64_t stream, struct damacy_error *error)
{
    struct batch_owner *owner = memory->owner;
    const struct dmc_cuda_driver *driver = owner->device->driver;
    enum damacy_status status = dmc_cuda_enter(owner->device, error);
    if (status != DAMACY_OK)
        return status;
    dmc_mutex_lock(&owner->lock);
    dmc_cu_result result = record_end(owner->device, owner->event, stream);
    if (result == DMC_CU_SUCCESS)
        result = driver->stream_wait(owner->stream, owner->event, 0);
    dmc_mutex_unlock(&owner->lock);
    if (result != DMC_CU_SUCCESS)
        status = dmc_cuda_error(driver, result, "cuEventRecord", error);
    dmc_cuda_leave(owner->device);
    return status;
}

enum damacy_status dmc_cuda_batch_passed(const struct dmc_backend_memory *memory, struct damacy_error *error)
{
    const struct batch_owner *owner = memory->owner;
    dmc_cu_result result = owner->device->driver->stream_query(owner->stream);
    if (result == DMC_CU_NOT_READY)
        return DAMACY_AGAIN;
    return result == DMC_CU_SUCCESS ? DAMACY_OK : dmc_cuda_error(owner->device->driver, result, "cuStreamQuery", error);
}

static const struct dmc_backend_memory_ops batch_ops = {batch_free, fence_stream, fence_event};

enum damacy_status dmc_cuda_batch_alloc(struct dmc_cuda_device *device, uint64_t bytes, struct dmc_backend_memory *memory,
                                        struct damacy_error *error)
{
    struct batch_owner *owner = dmc_calloc(1, sizeof *owner);
    if (!owner)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for a batch buffer");
    enum damacy_status status = dmc_cuda_enter(device, error);
    if (status != DAMACY_OK) {
        dmc_free(owner);
        return status;
    }
    dmc_cuda_device_retain(device);
    dmc_mutex_init(&owner->lock);
    owner->device = device;
    *memory = (struct dmc_backend_memory){.ops = &batch_ops, .bytes = bytes, .owner = owner};
    dmc_cu_result result = device->driver->stream_create(&owner->stream, DMC_CU_STREAM_NON_BLOCKING);
    if (result == DMC_CU_SUCCESS)
        result = device->driver->event_create(&owner->event, DMC_CU_EVENT_DISABLE_TIMING);
    if (result != DMC_CU_SUCCESS)
        status = dmc_cuda_error(device->driver, result, "cuStreamCreate", error);
    dmc_cu_address address = 0;
    if (status == DAMACY_OK)
        status = dmc_cuda_memory_alloc(device, bytes, "a batch buffer", &address, error);
    memory->data = (uint8_t *)(uintptr_t)address;
    dmc_cuda_leave(device);
    if (status != DAMACY_OK)
        batch_free(memory);
    return status;
}
