/* How kernels are launched. Only benchmarks change it, to see what another choice would give. */
#ifndef DMC_DECODE_TUNING_H
#define DMC_DECODE_TUNING_H

#include <stdint.h>

struct dmc_gd_tuning {
    uint32_t huffman_group;     /* blocks a warp decodes at a time: 1, 2, 4 or 8 */
    uint32_t sequence_group;    /* 1, 2 or 4 */
    uint32_t wide_units_per_sm; /* up to so many large units per multiprocessor each gets a thread block, above a warp */
};
extern struct dmc_gd_tuning dmc_gd_tuning;

#endif
