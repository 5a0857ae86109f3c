/* See cuda_driver.h. */
#include "backend/cuda/cuda_driver.h"
#include "base/error.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

/* Loaded once and kept: a driver is not unloaded while contexts may exist. */
static struct {
    pthread_once_t once;
    struct dmc_cuda_driver driver;
    enum damacy_status status;
    char reason[256];
} loaded = {.once = PTHREAD_ONCE_INIT};

static void load(void)
{
    loaded.status = DAMACY_UNSUPPORTED;
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(loaded.reason, sizeof loaded.reason, "the CUDA driver is not here (%s)", dlerror());
        return;
    }
#define FIND(member, symbol, arguments)                                                                                        \
    *(void **)&loaded.driver.member = dlsym(library, #symbol);                                                                 \
    if (!loaded.driver.member) {                                                                                               \
        snprintf(loaded.reason, sizeof loaded.reason, "the CUDA driver has no %s: it is too old", #symbol);                    \
        return;                                                                                                                \
    }
    DMC_CUDA_DRIVER_FUNCTIONS(FIND)
#undef FIND
    *(void **)&loaded.driver.context_record = dlsym(library, "cuCtxRecordEvent");
    dmc_cu_result result = loaded.driver.init(0);
    int count = 0;
    if (result == DMC_CU_SUCCESS)
        result = loaded.driver.device_count(&count);
    if (result == DMC_CU_SUCCESS && count == 0)
        result = DMC_CU_NO_DEVICE;
    if (result != DMC_CU_SUCCESS) {
        const char *name = NULL;
        loaded.driver.error_name(result, &name);
        snprintf(loaded.reason, sizeof loaded.reason, "the CUDA driver finds no device (%s)", name ? name : "unknown error");
        return;
    }
    loaded.status = DAMACY_OK;
}

enum damacy_status dmc_cuda_driver_load(const struct dmc_cuda_driver **driver, struct damacy_error *error)
{
    pthread_once(&loaded.once, load);
    if (loaded.status != DAMACY_OK) {
        dmc_error_set(error, loaded.status, "config", "%s", loaded.reason);
        dmc_error_hint(error, "use device=\"cpu\", or device=\"auto\" to take a GPU only where there is one");
        return loaded.status;
    }
    *driver = &loaded.driver;
    return DAMACY_OK;
}

enum damacy_status dmc_cuda_error(const struct dmc_cuda_driver *driver, dmc_cu_result result, const char *call,
                                  struct damacy_error *error)
{
    const char *name = NULL, *text = NULL;
    driver->error_name(result, &name);
    driver->error_string(result, &text);
    enum damacy_status status = result == DMC_CU_OUT_OF_MEMORY ? DAMACY_OOM : DAMACY_CUDA;
    return dmc_error_set(error, status, "device", "%s: %s (%s)", call, name ? name : "unknown error", text ? text : "no text");
}
