/* nvcomp, found at run time: the library that decodes raw deflate streams (of gzip and zlib chunks) on the device, and, where
 * DAMACY_GPU_DECODER asks for it, those of zstd and lz4 in place of our own decoder. One table of functions, filled from
 * libnvcomp.so.6, or by tests with a library of their own. Only this major: names and arguments change with it. Without it
 * gzip and zlib chunks are decoded on the CPU. */
#ifndef DMC_CUDA_NVCOMP_H
#define DMC_CUDA_NVCOMP_H

#include "backend/cuda/cuda_decoder.h"

#include <stddef.h>

/* Names a file to load instead of looking for one. */
#define DMC_NVCOMP_VARIABLE "DAMACY_NVCOMP"
/* own (or unset), nvcomp: who decodes zstd and lz4 on the device. For measuring, and for finding out whose fault it is. */
#define DMC_GPU_DECODER_VARIABLE "DAMACY_GPU_DECODER"
#define DMC_NVCOMP_MEND "pip install damacy[cuda13], or name the file libnvcomp.so.6 in " DMC_NVCOMP_VARIABLE

enum { DMC_NVCOMP_SUCCESS = 0, DMC_NVCOMP_MAJOR = 6 }; /* nvcompStatus_t is an int */

struct dmc_nvcomp_properties {
    uint32_t version; /* 1000 * major + 100 * minor + patch */
    uint32_t cudart_version;
};

/* nvcompBatchedDeflateDecompressOpts_t and its relatives, which are alike; passed by value. */
struct dmc_nvcomp_options {
    int32_t backend; /* 0: the library's choice, 2: kernels. The engine that newest devices have wants memory of its own kind */
    int32_t sort;
    char reserved[56];
};
#define DMC_NVCOMP_BACKEND_KERNELS 2

/* The same for every codec; a stream is a cudaStream_t, which is a CUstream. */
typedef int dmc_nvcomp_get_properties(struct dmc_nvcomp_properties *properties);
typedef int dmc_nvcomp_get_temp_bytes(size_t count, size_t chunk_bytes_max, struct dmc_nvcomp_options options,
                                      size_t *temp_bytes, size_t all_bytes_max, void *stream);
typedef int dmc_nvcomp_decode_batch(const void *const *sources, const size_t *source_bytes, const size_t *capacities,
                                    size_t *decoded, size_t count, void *temp, size_t temp_bytes, void *const *targets,
                                    struct dmc_nvcomp_options options, int *statuses, void *stream);

/* X(type, member, symbol) */
#define DMC_NVCOMP_FUNCTIONS(X)                                                                                                \
    X(dmc_nvcomp_get_properties, properties, nvcompGetProperties)                                                              \
    X(dmc_nvcomp_get_temp_bytes, temp_bytes[DMC_CUDA_FOREIGN_DEFLATE], nvcompBatchedDeflateDecompressGetTempSize)              \
    X(dmc_nvcomp_decode_batch, decode[DMC_CUDA_FOREIGN_DEFLATE], nvcompBatchedDeflateDecompressAsync)                          \
    X(dmc_nvcomp_get_temp_bytes, temp_bytes[DMC_CUDA_FOREIGN_ZSTD], nvcompBatchedZstdDecompressGetTempSize)                    \
    X(dmc_nvcomp_decode_batch, decode[DMC_CUDA_FOREIGN_ZSTD], nvcompBatchedZstdDecompressAsync)                                \
    X(dmc_nvcomp_get_temp_bytes, temp_bytes[DMC_CUDA_FOREIGN_LZ4], nvcompBatchedLZ4DecompressGetTempSize)                      \
    X(dmc_nvcomp_decode_batch, decode[DMC_CUDA_FOREIGN_LZ4], nvcompBatchedLZ4DecompressAsync)

struct dmc_cuda_nvcomp {
    dmc_nvcomp_get_properties *properties;
    dmc_nvcomp_get_temp_bytes *temp_bytes[DMC_CUDA_FOREIGN_CODECS];
    dmc_nvcomp_decode_batch *decode[DMC_CUDA_FOREIGN_CODECS];
};

/* The machine's library, loaded once a process: the file that DAMACY_NVCOMP names; else nvidia/libnvcomp beside the Python
 * package of damacy; else what the loader finds. The first call without it writes a debug line.
 *
 * Returns NULL where there is none; *reason (NULL: not wanted) then says why, and stays. Threads: any. */
const struct dmc_cuda_nvcomp *dmc_cuda_nvcomp_load(const char **reason);
/* The same from one file, not remembered. For tests of the search. `text` takes the reason. */
bool dmc_cuda_nvcomp_load_file(const char *path, struct dmc_cuda_nvcomp *table, char *text, size_t text_bytes);

/* launcher.foreign: in parts if the library wants more memory than there is. false: it refused, and was told of in the log. */
bool dmc_cuda_nvcomp_decode(const struct dmc_cuda_nvcomp *nvcomp, const struct dmc_cuda_foreign *foreign, void *stream);

/* How waves should be whose zstd streams it decodes. */
struct dmc_cuda_wishes {
    uint32_t wave_chunks; /* of 128 KiB, decoded */
    uint32_t waves;
    uint64_t scratch_bytes; /* for such a wave */
};
/* Its kernels are bound by latency, so several launches at once are what fills the device; each wants three times of what it
 * decodes. `wave_chunks`: a smaller wave than the best one, 0: that one. false: it does not say. */
bool dmc_cuda_nvcomp_wishes(const struct dmc_cuda_nvcomp *nvcomp, uint32_t wave_chunks, struct dmc_cuda_wishes *wishes);

#endif
