/* A launcher that runs kernels on the CPU, at once, in the order of the calls. */
#ifndef DMC_CUDA_TWIN_LAUNCH_H
#define DMC_CUDA_TWIN_LAUNCH_H

#include "backend/cuda/cuda_decoder.h"

#ifdef __cplusplus
extern "C" {
#endif

/* shared_bytes_block: what a block may have of shared memory; less than 200 KiB makes the decoder do without its widest kernel.
 */
struct dmc_cuda_launcher dmc_twin_launcher(uint32_t multiprocessors, uint32_t shared_bytes_block);
/* The order of lanes follows from this. */
void dmc_twin_seed(uint64_t seed);

#ifdef __cplusplus
}
#endif
#endif
