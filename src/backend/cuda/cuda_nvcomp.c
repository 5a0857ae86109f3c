/* See cuda_nvcomp.h. */
#include "backend/cuda/cuda_nvcomp.h"
#include "backend/cuda/cuda_library.h"
#include "base/log.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define LIBRARY "libnvcomp.so.6"

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
#define FIND(member, symbol, arguments)                                                                                        \
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
static int streams_at_once(const struct dmc_cuda_nvcomp *nvcomp, const struct dmc_cuda_inflate *inflate,
                           struct dmc_nvcomp_deflate_options options, void *stream, uint32_t *at_once, size_t *temp_bytes)
{
    for (uint32_t count = inflate->count; count > 0; count /= 2) {
        uint64_t all = (uint64_t)count * inflate->target_bytes_max;
        int status = nvcomp->deflate_temp_bytes(count, inflate->target_bytes_max, options, temp_bytes,
                                                all < inflate->target_bytes ? all : inflate->target_bytes, stream);
        if (status != DMC_NVCOMP_SUCCESS)
            return status;
        *at_once = count;
        if (*temp_bytes <= inflate->temp_bytes)
            return DMC_NVCOMP_SUCCESS;
    }
    *at_once = 0;
    return DMC_NVCOMP_SUCCESS;
}

#define DEVICE(type, array, first) ((type)(uintptr_t)((array) + (uint64_t)(first) * sizeof(uint64_t)))

bool dmc_cuda_nvcomp_inflate(const struct dmc_cuda_nvcomp *nvcomp, const struct dmc_cuda_inflate *inflate, void *stream)
{
    const struct dmc_nvcomp_deflate_options options = {.backend = DMC_NVCOMP_BACKEND_KERNELS};
    uint32_t at_once = 0;
    size_t temp_bytes = 0;
    const char *call = "nvcompBatchedDeflateDecompressGetTempSize";
    int status = streams_at_once(nvcomp, inflate, options, stream, &at_once, &temp_bytes);
    if (status == DMC_NVCOMP_SUCCESS && at_once == 0) {
        dmc_log(DMC_BACKEND, DAMACY_LOG_WARN,
                "nvcomp wants %llu bytes for a chunk of %llu, and %llu are free: gzip and zlib chunks are decoded on the CPU; "
                "raise max_gpu_memory_bytes",
                (unsigned long long)temp_bytes, (unsigned long long)inflate->target_bytes_max,
                (unsigned long long)inflate->temp_bytes);
        return false;
    }
    for (uint32_t first = 0; status == DMC_NVCOMP_SUCCESS && first < inflate->count; first += at_once) {
        uint32_t left = inflate->count - first;
        call = "nvcompBatchedDeflateDecompressAsync";
        status = nvcomp->deflate(DEVICE(const void *const *, inflate->sources, first),
                                 DEVICE(const size_t *, inflate->source_bytes, first),
                                 DEVICE(const size_t *, inflate->capacities, first), DEVICE(size_t *, inflate->decoded, first),
                                 left < at_once ? left : at_once, (void *)(uintptr_t)inflate->temp, temp_bytes,
                                 DEVICE(void *const *, inflate->targets, first), options,
                                 (int *)(uintptr_t)(inflate->statuses + (uint64_t)first * sizeof(uint32_t)), stream);
    }
    if (status != DMC_NVCOMP_SUCCESS)
        dmc_log(DMC_BACKEND, DAMACY_LOG_WARN, "%s failed with %d: gzip and zlib chunks are decoded on the CPU", call, status);
    return status == DMC_NVCOMP_SUCCESS;
}
