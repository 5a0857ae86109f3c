/* The CUDA driver, found at run time: nothing of CUDA is needed to build or to start this library. One table of functions,
 * filled from libcuda.so.1, or by tests with a driver of their own. The types are those of the driver's ABI, which is the same
 * on all machines that we build for; names end in _v2 where the driver's do, so that each entry is one symbol for ever. */
#ifndef DMC_CUDA_DRIVER_H
#define DMC_CUDA_DRIVER_H

#include "damacy/damacy.h"

typedef int dmc_cu_result;       /* CUresult */
typedef int dmc_cu_device;       /* CUdevice */
typedef uint64_t dmc_cu_address; /* CUdeviceptr */
typedef void *dmc_cu_context;    /* CUcontext */
typedef void *dmc_cu_stream;     /* CUstream */
typedef void *dmc_cu_event;      /* CUevent */
typedef void *dmc_cu_module;     /* CUmodule */
typedef void *dmc_cu_function;   /* CUfunction */

enum {
    DMC_CU_SUCCESS = 0,
    DMC_CU_OUT_OF_MEMORY = 2,
    DMC_CU_NO_DEVICE = 100,
    DMC_CU_NOT_READY = 600,
};
enum { /* CUdevice_attribute */
       DMC_CU_MULTIPROCESSOR_COUNT = 16,
       DMC_CU_COMPUTE_MAJOR = 75,
       DMC_CU_COMPUTE_MINOR = 76,
       DMC_CU_SHARED_BYTES_BLOCK_OPTIN = 97,
};
enum { /* CUfunction_attribute */
       DMC_CU_FUNC_DYNAMIC_SHARED_BYTES = 8,
       DMC_CU_FUNC_SHARED_CARVEOUT = 9,
};
enum { DMC_CU_STREAM_NON_BLOCKING = 1, DMC_CU_EVENT_DISABLE_TIMING = 2, DMC_CU_HOST_ALLOC_PORTABLE = 1 };
/* The legacy default stream, by its explicit name. */
#define DMC_CU_STREAM_LEGACY ((dmc_cu_stream)(uintptr_t)1)

/* X(member, symbol, arguments) */
#define DMC_CUDA_DRIVER_FUNCTIONS(X)                                                                                           \
    X(init, cuInit, (unsigned flags))                                                                                          \
    X(driver_version, cuDriverGetVersion, (int *version))                                                                      \
    X(error_name, cuGetErrorName, (dmc_cu_result result, const char **text))                                                   \
    X(error_string, cuGetErrorString, (dmc_cu_result result, const char **text))                                               \
    X(device_count, cuDeviceGetCount, (int *count))                                                                            \
    X(device_get, cuDeviceGet, (dmc_cu_device * device, int ordinal))                                                          \
    X(device_pci_bus_id, cuDeviceGetPCIBusId, (char *text, int capacity, dmc_cu_device device))                                \
    X(device_attribute, cuDeviceGetAttribute, (int *value, int attribute, dmc_cu_device device))                               \
    X(primary_retain, cuDevicePrimaryCtxRetain, (dmc_cu_context * context, dmc_cu_device device))                              \
    X(primary_release, cuDevicePrimaryCtxRelease_v2, (dmc_cu_device device))                                                   \
    X(context_current, cuCtxGetCurrent, (dmc_cu_context * context))                                                            \
    X(context_push, cuCtxPushCurrent_v2, (dmc_cu_context context))                                                             \
    X(context_pop, cuCtxPopCurrent_v2, (dmc_cu_context * context))                                                             \
    X(context_device, cuCtxGetDevice, (dmc_cu_device * device))                                                                \
    X(memory_info, cuMemGetInfo_v2, (size_t * free_bytes, size_t * total_bytes))                                               \
    X(memory_alloc, cuMemAlloc_v2, (dmc_cu_address * address, size_t bytes))                                                   \
    X(memory_free, cuMemFree_v2, (dmc_cu_address address))                                                                     \
    X(host_alloc, cuMemHostAlloc, (void **memory, size_t bytes, unsigned flags))                                               \
    X(host_free, cuMemFreeHost, (void *memory))                                                                                \
    X(copy_to_device, cuMemcpyHtoDAsync_v2, (dmc_cu_address to, const void *from, size_t bytes, dmc_cu_stream stream))         \
    X(copy_to_host, cuMemcpyDtoHAsync_v2, (void *to, dmc_cu_address from, size_t bytes, dmc_cu_stream stream))                 \
    X(copy_on_device, cuMemcpyDtoDAsync_v2, (dmc_cu_address to, dmc_cu_address from, size_t bytes, dmc_cu_stream stream))      \
    X(set_u8, cuMemsetD8Async, (dmc_cu_address to, unsigned char value, size_t count, dmc_cu_stream stream))                   \
    X(set_u16, cuMemsetD16Async, (dmc_cu_address to, unsigned short value, size_t count, dmc_cu_stream stream))                \
    X(set_u32, cuMemsetD32Async, (dmc_cu_address to, unsigned value, size_t count, dmc_cu_stream stream))                      \
    X(stream_create, cuStreamCreate, (dmc_cu_stream * stream, unsigned flags))                                                 \
    X(stream_destroy, cuStreamDestroy_v2, (dmc_cu_stream stream))                                                              \
    X(stream_query, cuStreamQuery, (dmc_cu_stream stream))                                                                     \
    X(stream_synchronize, cuStreamSynchronize, (dmc_cu_stream stream))                                                         \
    X(stream_wait, cuStreamWaitEvent, (dmc_cu_stream stream, dmc_cu_event event, unsigned flags))                              \
    X(event_create, cuEventCreate, (dmc_cu_event * event, unsigned flags))                                                     \
    X(event_destroy, cuEventDestroy_v2, (dmc_cu_event event))                                                                  \
    X(event_record, cuEventRecord, (dmc_cu_event event, dmc_cu_stream stream))                                                 \
    X(event_query, cuEventQuery, (dmc_cu_event event))                                                                         \
    X(event_elapsed, cuEventElapsedTime, (float *milliseconds, dmc_cu_event begin, dmc_cu_event end))                          \
    X(module_load, cuModuleLoadData, (dmc_cu_module * module, const void *image))                                              \
    X(module_unload, cuModuleUnload, (dmc_cu_module module))                                                                   \
    X(module_function, cuModuleGetFunction, (dmc_cu_function * function, dmc_cu_module module, const char *name))              \
    X(function_attribute, cuFuncSetAttribute, (dmc_cu_function function, int attribute, int value))                            \
    X(launch, cuLaunchKernel,                                                                                                  \
      (dmc_cu_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,        \
       unsigned block_z, unsigned shared_bytes, dmc_cu_stream stream, void **arguments, void **extra))

struct dmc_cuda_driver {
#define DMC_CUDA_DRIVER_MEMBER(member, symbol, arguments) dmc_cu_result(*member) arguments;
    DMC_CUDA_DRIVER_FUNCTIONS(DMC_CUDA_DRIVER_MEMBER)
#undef DMC_CUDA_DRIVER_MEMBER
    /* cuCtxRecordEvent, which drivers have from 12.5 on; NULL before */
    dmc_cu_result (*context_record)(dmc_cu_context context, dmc_cu_event event);
};

/* The machine's driver, loaded and initialised once a process.
 *
 * Returns OK; UNSUPPORTED with the reason when there is no driver, no device, or a driver too old. Threads: any. */
enum damacy_status dmc_cuda_driver_load(const struct dmc_cuda_driver **driver, struct damacy_error *error);

/* Set an error for a failed call: "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY (out of memory)". Returns CUDA, or OOM for what the
 * name says. */
enum damacy_status dmc_cuda_error(const struct dmc_cuda_driver *driver, dmc_cu_result result, const char *call,
                                  struct damacy_error *error);

#endif
