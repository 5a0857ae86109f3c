/* The memory layout of DLPack's managed tensors, both kinds (https://github.com/dmlc/dlpack, version 1.0). */
#ifndef DMC_PYTHON_DLPACK_H
#define DMC_PYTHON_DLPACK_H

#include <stdint.h>

#define DMC_DLPACK_CPU 1
#define DMC_DLPACK_CUDA 2
#define DMC_DLPACK_FLAG_COPIED 2u

struct dmc_dlpack_tensor {
    void *data;
    int32_t device_type;
    int32_t device_id;
    int32_t ndim;
    uint8_t dtype_code;
    uint8_t dtype_bits;
    uint16_t dtype_lanes;
    int64_t *shape;
    int64_t *strides; /* in elements */
    uint64_t byte_offset;
};

struct dmc_dlpack_managed { /* the older one: "dltensor" */
    struct dmc_dlpack_tensor tensor;
    void *context;
    void (*deleter)(struct dmc_dlpack_managed *);
};

struct dmc_dlpack_versioned { /* "dltensor_versioned" */
    uint32_t major, minor;
    void *context;
    void (*deleter)(struct dmc_dlpack_versioned *);
    uint64_t flags;
    struct dmc_dlpack_tensor tensor;
};

#endif
