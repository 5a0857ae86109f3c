/* What tests/support/fake_nvtx.c has seen. */
#ifndef FAKE_NVTX_H
#define FAKE_NVTX_H

#include <assert.h>
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

#define FAKE_NVTX_NAMES 32

struct fake_nvtx_range {
    char name[32];
    uint64_t pushed, started;
    uint64_t payload; /* of the last one */
};

struct fake_nvtx {
    char domain[32];
    struct fake_nvtx_range ranges[FAKE_NVTX_NAMES];
    int count;
    uint64_t popped, ended;
    uint64_t open_sum; /* the last number given */
    uint64_t wrong;    /* calls that make no sense: a pop without a push, another domain, ... */
};

/* Ask the library, which NVTX must have loaded. */
static inline struct fake_nvtx fake_nvtx_ask(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    assert(library);
    struct fake_nvtx (*get)(void) = (struct fake_nvtx(*)(void))dlsym(library, "fake_nvtx_get");
    assert(get);
    struct fake_nvtx seen = get();
    dlclose(library);
    return seen;
}

/* NULL: there was none of that name. */
static inline const struct fake_nvtx_range *fake_nvtx_range(const struct fake_nvtx *seen, const char *name)
{
    for (int i = 0; i < seen->count; i++)
        if (strcmp(seen->ranges[i].name, name) == 0)
            return &seen->ranges[i];
    return NULL;
}

#endif
