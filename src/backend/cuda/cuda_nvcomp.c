/* See cuda_nvcomp.h. */
#include "backend/cuda/cuda_nvcomp.h"
#include "backend/cuda/cuda_library.h"
#include "base/log.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define LIBRARY "libnvcomp.so.6"

/* What its codecs are called, and by whom its streams are decoded if it fails. */
static const struct {
    const char *name, *instead;
    int32_t backend;
} codecs[DMC_CUDA_FOREIGN_CODECS] = {
    [DMC_CUDA_FOREIGN_DEFLATE] = {"Deflate", "gzip and zlib chunks are decoded on the CPU", DMC_NVCOMP_BACKEND_KERNELS},
    [DMC_CUDA_FOREIGN_ZSTD] = {"Zstd", "zstd chunks are decoded by damacy's own decoder", 0},
    [DMC_CUDA_FOREIGN_LZ4] = {"LZ4", "lz4 chunks are decoded by damacy's own decoder", DMC_NVCOMP_BACKEND_KERNELS},
};

/* Loaded once and kept: kernels of the library may run until the process ends. */
static struct {
    pthread_once_t once;
    struct dmc_cuda_nvcomp table;
    bool found;
    char reason[512];
} loaded = {.once = PTHREAD_ONCE_INIT};

bool dmc_cuda_nvcomp_load_file(const char *path, struct dmc_cuda_nvcomp *table, char *text, size_t text_bytes)
{
    void *library = dmc_cuda_library_open(path, text, text_bytes);
    if (!library)
        return false;
    const char *missing = NULL;
#define FIND(type, member, symbol)                                                                                             \
    *(void **)&table->member = dlsym(library, #symbol);                                                                        \
    if (!table->member)                                                                                                        \
        missing = #symbol;
    DMC_NVCOMP_FUNCTIONS(FIND)
#undef FIND
    struct dmc_nvcomp_properties properties = {0};
    if (missing) {
        snprintf(text, text_bytes, "%s has no %s", path, missing);
    } else if (table->properties(&properties) != DMC_NVCOMP_SUCCESS || properties.version / 1000 != DMC_NVCOMP_MAJOR) {
        snprintf(text, text_bytes, "%s is version %u.%u, expected %d", path, properties.version / 1000,
                 properties.version % 1000 / 100, DMC_NVCOMP_MAJOR);
    } else {
        return true;
    }
    dlclose(library);
    return false;
}

static void load(void)
{
    const char *named = getenv(DMC_NVCOMP_VARIABLE);
    char path[4096], ignored[256];
    if (named && *named)
        loaded.found = dmc_cuda_nvcomp_load_file(named, &loaded.table, loaded.reason, sizeof loaded.reason);
    else
        loaded.found = (dmc_cuda_library_beside("nvidia/libnvcomp/lib64/" LIBRARY, path, sizeof path) &&
                        dmc_cuda_nvcomp_load_file(path, &loaded.table, ignored, sizeof ignored)) ||
                       dmc_cuda_nvcomp_load_file(LIBRARY, &loaded.table, loaded.reason, sizeof loaded.reason);
    if (!loaded.found)
        dmc_log(DMC_BACKEND, DAMACY_LOG_DEBUG, "nvcomp is not here (%s): gzip and zlib chunks are decoded on the CPU; %s",
                loaded.reason, DMC_NVCOMP_MEND);
}

const struct dmc_cuda_nvcomp *dmc_cuda_nvcomp_load(const char **reason)
{
    pthread_once(&loaded.once, load);
    if (loaded.found)
        return &loaded.table;
    if (reason)
        *reason = loaded.reason;
    return NULL;
}

/* How many streams at once the memory suffices for; 0: not even for one. */
static int streams_at_once(const struct dmc_cuda_nvcomp *nvcomp, const struct dmc_cuda_foreign *foreign,
                           struct dmc_nvcomp_options options, void *stream, uint32_t *at_once, size_t *temp_bytes)
{
    for (uint32_t count = foreign->count; count > 0; count /= 2) {
        uint64_t all = (uint64_t)count * foreign->target_bytes_max;
        int status = nvcomp->temp_bytes[foreign->codec](count, foreign->target_bytes_max, options, temp_bytes,
                                                        all < foreign->target_bytes ? all : foreign->target_bytes, stream);
        if (status != DMC_NVCOMP_SUCCESS)
            return status;
        *at_once = count;
        if (*temp_bytes <= foreign->temp_bytes)
            return DMC_NVCOMP_SUCCESS;
    }
    *at_once = 0;
    return DMC_NVCOMP_SUCCESS;
}

#define DEVICE(type, array, first) ((type)(uintptr_t)((array) + (uint64_t)(first) * sizeof(uint64_t)))

bool dmc_cuda_nvcomp_decode(const struct dmc_cuda_nvcomp *nvcomp, const struct dmc_cuda_foreign *foreign, void *stream)
{
    const struct dmc_nvcomp_options options = {.backend = codecs[foreign->codec].backend};
    uint32_t at_once = 0;
    size_t temp_bytes = 0;
    const char *call = "GetTempSize";
    int status = streams_at_once(nvcomp, foreign, options, stream, &at_once, &temp_bytes);
    if (status == DMC_NVCOMP_SUCCESS && at_once == 0) {
        dmc_log(DMC_BACKEND, DAMACY_LOG_WARN,
                "nvcomp wants %llu bytes for a chunk of %llu, and %llu are free: %s; raise max_gpu_memory_bytes",
                (unsigned long long)temp_bytes, (unsigned long long)foreign->target_bytes_max,
                (unsigned long long)foreign->temp_bytes, codecs[foreign->codec].instead);
        return false;
    }
    for (uint32_t first = 0; status == DMC_NVCOMP_SUCCESS && first < foreign->count; first += at_once) {
        uint32_t left = foreign->count - first;
        call = "Async";
        status = nvcomp->decode[foreign->codec](
            DEVICE(const void *const *, foreign->sources, first), DEVICE(const size_t *, foreign->source_bytes, first),
            DEVICE(const size_t *, foreign->capacities, first), DEVICE(size_t *, foreign->decoded, first),
            left < at_once ? left : at_once, (void *)(uintptr_t)foreign->temp, temp_bytes,
            DEVICE(void *const *, foreign->targets, first), options,
            (int *)(uintptr_t)(foreign->statuses + (uint64_t)first * sizeof(uint32_t)), stream);
    }
    if (status != DMC_NVCOMP_SUCCESS)
        dmc_log(DMC_BACKEND, DAMACY_LOG_WARN, "nvcompBatched%sDecompress%s failed with %d: %s", codecs[foreign->codec].name,
                call, status, codecs[foreign->codec].instead);
    return status == DMC_NVCOMP_SUCCESS;
}

bool dmc_cuda_nvcomp_wishes(const struct dmc_cuda_nvcomp *nvcomp, uint32_t wave_chunks, struct dmc_cuda_wishes *wishes)
{
    const struct dmc_nvcomp_options options = {.backend = codecs[DMC_CUDA_FOREIGN_ZSTD].backend};
    const size_t usual_chunk = 128 * 1024;
    size_t temp_bytes = 0;
    *wishes = (struct dmc_cuda_wishes){.wave_chunks = wave_chunks ? wave_chunks : 2048, .waves = 6};
    /* As for chunks of half that size: what it wants beside three times their bytes is so much for each. */
    if (nvcomp->temp_bytes[DMC_CUDA_FOREIGN_ZSTD](2 * (size_t)wishes->wave_chunks, usual_chunk / 2, options, &temp_bytes,
                                                  wishes->wave_chunks * usual_chunk, NULL) != DMC_NVCOMP_SUCCESS)
        return false;
    wishes->scratch_bytes = temp_bytes;
    return true;
}
