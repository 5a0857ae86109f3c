/* See cuda_library.h. */
#include "backend/cuda/cuda_library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

bool dmc_cuda_library_beside(const char *place, char *path, size_t path_bytes)
{
    static const char here;
    Dl_info info;
    if (!dladdr(&here, &info) || !info.dli_fname)
        return false;
    int written = snprintf(path, path_bytes, "%s", info.dli_fname);
    if (written < 0 || (size_t)written >= path_bytes)
        return false;
    for (int level = 0; level < 2; level++) {
        char *slash = strrchr(path, '/');
        if (!slash)
            return false;
        *slash = 0;
    }
    size_t used = strlen(path);
    written = snprintf(path + used, path_bytes - used, "/%s", place);
    return written > 0 && (size_t)written < path_bytes - used;
}

void *dmc_cuda_library_open(const char *path, char *text, size_t text_bytes)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        snprintf(text, text_bytes, "%s", why ? why : path);
    }
    return library;
}
