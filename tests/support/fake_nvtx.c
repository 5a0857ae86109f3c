/* What a profiler loads into a process: an NVTX injection library that counts. Tests ask it through fake_nvtx_get(). */
#include <nvtx3/nvToolsExt.h>

#include "support/fake_nvtx.h"

#include <pthread.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fake_nvtx seen;
static _Thread_local int depth;

static struct fake_nvtx_range *find(const char *name)
{
    for (int i = 0; i < seen.count; i++)
        if (strcmp(seen.ranges[i].name, name) == 0)
            return &seen.ranges[i];
    if (seen.count == FAKE_NVTX_NAMES)
        return NULL;
    strncpy(seen.ranges[seen.count].name, name, sizeof seen.ranges[0].name - 1);
    return &seen.ranges[seen.count++];
}

static nvtxDomainHandle_t domain_create(const char *name)
{
    strncpy(seen.domain, name, sizeof seen.domain - 1);
    return (nvtxDomainHandle_t)&seen;
}

static void note(nvtxDomainHandle_t domain, const nvtxEventAttributes_t *event, int started)
{
    struct fake_nvtx_range *range = find(event->message.ascii);
    seen.wrong +=
        domain != (nvtxDomainHandle_t)&seen || event->version != NVTX_VERSION || event->size != sizeof *event || !range;
    if (range) {
        range->pushed += !started;
        range->started += started;
        range->payload = event->payload.ullValue;
    }
}

static int range_push(nvtxDomainHandle_t domain, const nvtxEventAttributes_t *event)
{
    pthread_mutex_lock(&lock);
    note(domain, event, 0);
    pthread_mutex_unlock(&lock);
    return depth++;
}

static int range_pop(nvtxDomainHandle_t domain)
{
    pthread_mutex_lock(&lock);
    seen.popped++;
    seen.wrong += depth == 0 || domain != (nvtxDomainHandle_t)&seen;
    pthread_mutex_unlock(&lock);
    return --depth;
}

static nvtxRangeId_t range_start(nvtxDomainHandle_t domain, const nvtxEventAttributes_t *event)
{
    pthread_mutex_lock(&lock);
    note(domain, event, 1);
    nvtxRangeId_t id = ++seen.open_sum;
    pthread_mutex_unlock(&lock);
    return id;
}

static void range_end(nvtxDomainHandle_t domain, nvtxRangeId_t id)
{
    pthread_mutex_lock(&lock);
    seen.ended++;
    seen.wrong += id == 0 || id > seen.open_sum || domain != (nvtxDomainHandle_t)&seen;
    pthread_mutex_unlock(&lock);
}

__attribute__((visibility("default"))) struct fake_nvtx fake_nvtx_get(void);
struct fake_nvtx fake_nvtx_get(void)
{
    pthread_mutex_lock(&lock);
    struct fake_nvtx copy = seen;
    pthread_mutex_unlock(&lock);
    return copy;
}

/* Called by NVTX once the library is loaded. */
__attribute__((visibility("default"))) int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table);
int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table)
{
    const NvtxExportTableCallbacks *callbacks = get_table(NVTX_ETID_CALLBACKS);
    NvtxFunctionTable table;
    unsigned count;
    if (!callbacks || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &count) ||
        count <= NVTX_CBID_CORE2_DomainCreateA)
        return 0;
    *table[NVTX_CBID_CORE2_DomainCreateA] = (NvtxFunctionPointer)domain_create;
    *table[NVTX_CBID_CORE2_DomainRangePushEx] = (NvtxFunctionPointer)range_push;
    *table[NVTX_CBID_CORE2_DomainRangePop] = (NvtxFunctionPointer)range_pop;
    *table[NVTX_CBID_CORE2_DomainRangeStartEx] = (NvtxFunctionPointer)range_start;
    *table[NVTX_CBID_CORE2_DomainRangeEnd] = (NvtxFunctionPointer)range_end;
    return 1;
}
