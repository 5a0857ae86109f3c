/* NVTX ranges for NVIDIA's profilers (Nsight Systems and others): they show what damacy's threads do beside the GPU's work. The
 * profiler names a library in NVTX_INJECTION64_PATH, which NVTX loads at the first call; without one, or in a build without
 * NVTX's headers, a call costs a load and a branch. All ranges are in the domain "damacy". */
#ifndef DMC_BASE_NVTX_H
#define DMC_BASE_NVTX_H

#include <stdbool.h>
#include <stdint.h>

/* Does anybody listen? Decided at the first call. */
bool dmc_nvtx_on(void);

/* A range of this thread, inside those that it has pushed before. `name`: static storage; `number`: what it is about (a
 * batch_id, ...), shown as its payload. */
void dmc_nvtx_push(const char *name, uint64_t number);
void dmc_nvtx_pop(void);

/* A range that any thread may end. 0, which dmc_nvtx_end ignores, when nobody listens. */
uint64_t dmc_nvtx_start(const char *name, uint64_t number);
void dmc_nvtx_end(uint64_t range);

#endif
