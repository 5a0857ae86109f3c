/* How kernels are launched; 0: chosen by what is to be decoded. Only benchmarks and tests change it. */
#ifndef DMC_DECODE_TUNING_H
#define DMC_DECODE_TUNING_H

#include <stdint.h>

struct dmc_gd_tuning {
    uint32_t huffman_group;     /* blocks a warp decodes at a time: 1, 2, 4 or 8 */
    uint32_t sequence_group;    /* 1, 2 or 4 */
    uint32_t wide_units_per_sm; /* up to so many large units per multiprocessor each gets a thread block, above a warp */
#define DMC_GD_NEVER_WIDE UINT32_MAX
};
extern struct dmc_gd_tuning dmc_gd_tuning;

#endif
