/* The kernel around assemble_tile.h: thread blocks take the tiles of a wave in turn. */
#include "backend/cuda/assemble_tile.h"

extern "C" __global__ void __launch_bounds__(DMC_TILE_THREADS, 2)
    dmc_assemble(const struct dmc_tile_index *index, uint32_t piece_count, const uint8_t *records, const uint32_t *statuses, uint64_t tile_count)
{
    for (uint64_t tile = blockIdx.x; tile < tile_count; tile += gridDim.x)
        dmc_tile_assemble(index, piece_count, records, statuses, tile, threadIdx.x, blockDim.x);
}
