/* An nvcomp for tests, over the fake driver's memory and streams: it decodes by libdeflate, libzstd and liblz4, when the stream
 * gets there. Each of its calls can be made to fail, and it may want memory. */
#ifndef FAKE_NVCOMP_H
#define FAKE_NVCOMP_H

#include "backend/cuda/cuda_nvcomp.h"
#include "support/fake_cuda.h"

#include <libdeflate.h>
#include <lz4.h>
#include <zstd.h>

static struct {
    uint64_t calls, streams, fail_at; /* the n-th call and all after it fail */
    size_t temp_bytes_each;           /* wanted for each stream */
    size_t temp_bytes_least;
    size_t temp_times;                            /* wanted for each decoded byte, by zstd */
    _Atomic uint64_t by[DMC_CUDA_FOREIGN_CODECS]; /* streams decoded */
} fake_nvcomp_state;

static inline int fake_nvcomp_begin(void)
{
    return ++fake_nvcomp_state.calls >= fake_nvcomp_state.fail_at && fake_nvcomp_state.fail_at ? 10 : DMC_NVCOMP_SUCCESS;
}
static int fake_nvcomp_properties(struct dmc_nvcomp_properties *properties)
{
    *properties = (struct dmc_nvcomp_properties){6000, 13000};
    return DMC_NVCOMP_SUCCESS;
}
static int fake_temp(enum dmc_cuda_foreign_codec codec, size_t count, size_t chunk_bytes_max, struct dmc_nvcomp_options options,
                     size_t *temp_bytes, size_t all_bytes_max)
{
    assert(options.backend == (codec == DMC_CUDA_FOREIGN_ZSTD ? 0 : DMC_NVCOMP_BACKEND_KERNELS) && options.reserved[55] == 0);
    assert(all_bytes_max >= chunk_bytes_max);
    *temp_bytes = count * fake_nvcomp_state.temp_bytes_each + fake_nvcomp_state.temp_bytes_least;
    if (codec == DMC_CUDA_FOREIGN_ZSTD)
        *temp_bytes += fake_nvcomp_state.temp_times * all_bytes_max;
    return fake_nvcomp_begin();
}

struct fake_job {
    enum dmc_cuda_foreign_codec codec;
    const void *const *sources;
    const size_t *source_bytes, *capacities;
    size_t *decoded, count;
    uint8_t *temp;
    size_t temp_bytes;
    void *const *targets;
    int *statuses;
};

static int fake_decode_one(const struct fake_job *job, struct libdeflate_decompressor *inflater, size_t i, size_t *decoded)
{
    const void *source = job->sources[i];
    size_t bytes = job->source_bytes[i], capacity = job->capacities[i];
    *decoded = 0;
    if (job->codec == DMC_CUDA_FOREIGN_DEFLATE) {
        assert((uintptr_t)source % 16 == 0);
        return libdeflate_deflate_decompress(inflater, source, bytes, job->targets[i], capacity, decoded) ? 12 : 0;
    }
    if (job->codec == DMC_CUDA_FOREIGN_ZSTD) {
        size_t result = ZSTD_decompress(job->targets[i], capacity, source, bytes);
        *decoded = ZSTD_isError(result) ? 0 : result;
        return ZSTD_isError(result) ? 12 : 0;
    }
    int result = LZ4_decompress_safe(source, job->targets[i], (int)bytes, (int)capacity);
    *decoded = result < 0 ? 0 : (size_t)result;
    return result < 0 ? 12 : 0;
}

static void fake_decode_run(void *argument)
{
    struct fake_job *job = argument;
    struct libdeflate_decompressor *inflater = libdeflate_alloc_decompressor();
    assert(inflater);
    for (size_t i = 0; i < job->temp_bytes; i++)
        job->temp[i] = 0xB7;
    for (size_t i = 0; i < job->count; i++) {
        job->statuses[i] = fake_decode_one(job, inflater, i, &job->decoded[i]);
        fake_nvcomp_state.by[job->codec]++;
    }
    libdeflate_free_decompressor(inflater);
    free(job);
}

static int fake_decode(struct fake_job described, struct dmc_nvcomp_options options, void *stream)
{
    int status = fake_nvcomp_begin();
    struct fake_job *job = calloc(1, sizeof *job);
    (void)options;
    assert(job && described.count > 0);
    *job = described;
    if (status != DMC_NVCOMP_SUCCESS) {
        free(job);
        return status;
    }
    fake_nvcomp_state.streams += job->count;
    if (!stream) { /* a test without streams: now */
        fake_decode_run(job);
        return status;
    }
    pthread_mutex_lock(&fake.lock);
    struct fake_op *op = fake_put(stream, FAKE_CALL);
    op->call = fake_decode_run;
    op->argument = job;
    pthread_mutex_unlock(&fake.lock);
    return status;
}

#define FAKE_CODEC(name, codec)                                                                                                \
    static int fake_##name##_temp(size_t count, size_t chunk_bytes_max, struct dmc_nvcomp_options options, size_t *temp_bytes, \
                                  size_t all_bytes_max, void *stream)                                                          \
    {                                                                                                                          \
        (void)stream;                                                                                                          \
        return fake_temp(codec, count, chunk_bytes_max, options, temp_bytes, all_bytes_max);                                   \
    }                                                                                                                          \
    static int fake_##name##_decode(const void *const *sources, const size_t *source_bytes, const size_t *capacities,          \
                                    size_t *decoded, size_t count, void *temp, size_t temp_bytes, void *const *targets,        \
                                    struct dmc_nvcomp_options options, int *statuses, void *stream)                            \
    {                                                                                                                          \
        return fake_decode(                                                                                                    \
            (struct fake_job){codec, sources, source_bytes, capacities, decoded, count, temp, temp_bytes, targets, statuses},  \
            options, stream);                                                                                                  \
    }
FAKE_CODEC(deflate, DMC_CUDA_FOREIGN_DEFLATE)
FAKE_CODEC(zstd, DMC_CUDA_FOREIGN_ZSTD)
FAKE_CODEC(lz4, DMC_CUDA_FOREIGN_LZ4)

static const struct dmc_cuda_nvcomp fake_nvcomp = {
    .properties = fake_nvcomp_properties,
    .temp_bytes = {fake_deflate_temp, fake_zstd_temp, fake_lz4_temp},
    .decode = {fake_deflate_decode, fake_zstd_decode, fake_lz4_decode},
};

#endif
