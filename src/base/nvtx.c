#include "base/nvtx.h"

#ifdef DMC_HAVE_NVTX

#include <nvtx3/nvToolsExt.h>
#include <pthread.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static nvtxDomainHandle_t domain; /* constant after `once`; NULL: nobody listens */

static void start(void)
{
    domain = nvtxDomainCreateA("damacy");
}

bool dmc_nvtx_on(void)
{
    pthread_once(&once, start);
    return domain != NULL;
}

static nvtxEventAttributes_t attributes(const char *name, uint64_t number)
{
    nvtxEventAttributes_t event = {0};
    event.version = NVTX_VERSION;
    event.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    event.payloadType = NVTX_PAYLOAD_TYPE_UNSIGNED_INT64;
    event.payload.ullValue = number;
    event.messageType = NVTX_MESSAGE_TYPE_ASCII;
    event.message.ascii = name;
    return event;
}

void dmc_nvtx_push(const char *name, uint64_t number)
{
    if (!dmc_nvtx_on())
        return;
    nvtxEventAttributes_t event = attributes(name, number);
    nvtxDomainRangePushEx(domain, &event);
}

void dmc_nvtx_pop(void)
{
    if (dmc_nvtx_on())
        nvtxDomainRangePop(domain);
}

uint64_t dmc_nvtx_start(const char *name, uint64_t number)
{
    if (!dmc_nvtx_on())
        return 0;
    nvtxEventAttributes_t event = attributes(name, number);
    return nvtxDomainRangeStartEx(domain, &event);
}

void dmc_nvtx_end(uint64_t range)
{
    if (range)
        nvtxDomainRangeEnd(domain, range);
}

#else

bool dmc_nvtx_on(void)
{
    return false;
}
void dmc_nvtx_push(const char *name, uint64_t number)
{
    (void)name, (void)number;
}
void dmc_nvtx_pop(void) {}
uint64_t dmc_nvtx_start(const char *name, uint64_t number)
{
    (void)name, (void)number;
    return 0;
}
void dmc_nvtx_end(uint64_t range)
{
    (void)range;
}

#endif
