/* nvcomp, found at run time: the library that decodes raw deflate streams (of gzip and zlib chunks) on the device. One table of
 * functions, filled from libnvcomp.so.6, or by tests with a library of their own. Only this major: names and arguments change
 * with it. Without it such chunks are decoded on the CPU. */
#ifndef DMC_CUDA_NVCOMP_H
#define DMC_CUDA_NVCOMP_H

#include "backend/cuda/cuda_decoder.h"

#include <stddef.h>

/* Names a file to load instead of looking for one. */
#define DMC_NVCOMP_VARIABLE "DAMACY_NVCOMP"
#define DMC_NVCOMP_MEND "pip install damacy[cuda13], or name the file libnvcomp.so.6 in " DMC_NVCOMP_VARIABLE

enum { DMC_NVCOMP_SUCCESS = 0, DMC_NVCOMP_MAJOR = 6 }; /* nvcompStatus_t is an int */

struct dmc_nvcomp_properties {
    uint32_t version; /* 1000 * major + 100 * minor + patch */
    uint32_t cudart_version;
};

/* nvcompBatchedDeflateDecompressOpts_t, passed by value. */
struct dmc_nvcomp_deflate_options {
    int32_t backend; /* 2: kernels. The engine that newest devices have wants memory of its own kind */
    int32_t sort;
    char reserved[56];
};
#define DMC_NVCOMP_BACKEND_KERNELS 2

/* X(member, symbol, arguments); a stream is a cudaStream_t, which is a CUstream */
#define DMC_NVCOMP_FUNCTIONS(X)                                                                                                \
    X(properties, nvcompGetProperties, (struct dmc_nvcomp_properties * properties))                                            \
    X(deflate_temp_bytes, nvcompBatchedDeflateDecompressGetTempSize,                                                           \
      (size_t count, size_t chunk_bytes_max, struct dmc_nvcomp_deflate_options options, size_t * temp_bytes,                   \
       size_t all_bytes_max, void *stream))                                                                                    \
    X(deflate, nvcompBatchedDeflateDecompressAsync,                                                                            \
      (const void *const *sources, const size_t *source_bytes, const size_t *capacities, size_t *decoded, size_t count,        \
       void *temp, size_t temp_bytes, void *const *targets, struct dmc_nvcomp_deflate_options options, int *statuses,          \
       void *stream))

struct dmc_cuda_nvcomp {
#define DMC_NVCOMP_MEMBER(member, symbol, arguments) int(*member) arguments;
    DMC_NVCOMP_FUNCTIONS(DMC_NVCOMP_MEMBER)
#undef DMC_NVCOMP_MEMBER
};

/* The machine's library, loaded once a process: the file that DAMACY_NVCOMP names; else nvidia/libnvcomp beside the Python
 * package of damacy; else what the loader finds. The first call without it writes a debug line.
 *
 * Returns NULL where there is none; *reason (NULL: not wanted) then says why, and stays. Threads: any. */
const struct dmc_cuda_nvcomp *dmc_cuda_nvcomp_load(const char **reason);
/* The same from one file, not remembered. For tests of the search. `text` takes the reason. */
bool dmc_cuda_nvcomp_load_file(const char *path, struct dmc_cuda_nvcomp *table, char *text, size_t text_bytes);

/* launcher.inflate: in parts if the library wants more memory than there is. false: it refused, and was told of in the log. */
bool dmc_cuda_nvcomp_inflate(const struct dmc_cuda_nvcomp *nvcomp, const struct dmc_cuda_inflate *inflate, void *stream);

#endif
