/* Where libraries lie that NVIDIA publishes as Python packages. */
#ifndef DMC_CUDA_LIBRARY_H
#define DMC_CUDA_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

/* site-packages/PLACE if this code is in site-packages/damacy: writes the path. false: it cannot be told. */
bool dmc_cuda_library_beside(const char *place, char *path, size_t path_bytes);

/* dlopen(), and why not in `text`. */
void *dmc_cuda_library_open(const char *path, char *text, size_t text_bytes);

#endif
