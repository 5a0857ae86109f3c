/* An nvcomp for tests, over the fake driver's memory and streams: it decodes by libdeflate, when the stream gets there. Each of
 * its calls can be made to fail, and it may want memory. */
#ifndef FAKE_NVCOMP_H
#define FAKE_NVCOMP_H

#include "backend/cuda/cuda_nvcomp.h"
#include "support/fake_cuda.h"

#include <libdeflate.h>

static struct {
    uint64_t calls, streams, fail_at; /* the n-th call and all after it fail */
    size_t temp_bytes_each;           /* wanted for each stream */
    size_t temp_bytes_least;
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
static int fake_nvcomp_temp(size_t count, size_t chunk_bytes_max, struct dmc_nvcomp_deflate_options options, size_t *temp_bytes,
                            size_t all_bytes_max, void *stream)
{
    (void)stream;
    assert(options.backend == DMC_NVCOMP_BACKEND_KERNELS && options.reserved[55] == 0 && all_bytes_max >= chunk_bytes_max);
    *temp_bytes = count * fake_nvcomp_state.temp_bytes_each + fake_nvcomp_state.temp_bytes_least;
    return fake_nvcomp_begin();
}

struct fake_inflate {
    const void *const *sources;
    const size_t *source_bytes, *capacities;
    size_t *decoded, count;
    uint8_t *temp;
    size_t temp_bytes;
    void *const *targets;
    int *statuses;
};

static void fake_inflate_run(void *argument)
{
    struct fake_inflate *job = argument;
    struct libdeflate_decompressor *decoder = libdeflate_alloc_decompressor();
    assert(decoder);
    for (size_t i = 0; i < job->temp_bytes; i++)
        job->temp[i] = 0xB7;
    for (size_t i = 0; i < job->count; i++) {
        size_t decoded = 0;
        assert((uintptr_t)job->sources[i] % 16 == 0);
        enum libdeflate_result result = libdeflate_deflate_decompress(decoder, job->sources[i], job->source_bytes[i],
                                                                      job->targets[i], job->capacities[i], &decoded);
        job->decoded[i] = decoded;
        job->statuses[i] = result == LIBDEFLATE_SUCCESS ? 0 : 12;
    }
    libdeflate_free_decompressor(decoder);
    free(job);
}

static int fake_nvcomp_deflate(const void *const *sources, const size_t *source_bytes, const size_t *capacities,
                               size_t *decoded, size_t count, void *temp, size_t temp_bytes, void *const *targets,
                               struct dmc_nvcomp_deflate_options options, int *statuses, void *stream)
{
    (void)options;
    int status = fake_nvcomp_begin();
    struct fake_inflate *job = calloc(1, sizeof *job);
    assert(job && count > 0);
    *job = (struct fake_inflate){sources, source_bytes, capacities, decoded, count, temp, temp_bytes, targets, statuses};
    if (status != DMC_NVCOMP_SUCCESS) {
        free(job);
        return status;
    }
    fake_nvcomp_state.streams += count;
    if (!stream) { /* a test without streams: now */
        fake_inflate_run(job);
        return status;
    }
    pthread_mutex_lock(&fake.lock);
    struct fake_op *op = fake_put(stream, FAKE_CALL);
    op->call = fake_inflate_run;
    op->argument = job;
    pthread_mutex_unlock(&fake.lock);
    return status;
}

static const struct dmc_cuda_nvcomp fake_nvcomp = {fake_nvcomp_properties, fake_nvcomp_temp, fake_nvcomp_deflate};

#endif
