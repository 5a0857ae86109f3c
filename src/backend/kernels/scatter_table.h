/* The loops of one instruction set: [swap][source][output], NULL where a pair does not convert. scatter.c picks one. */
#ifndef DMC_SCATTER_TABLE_H
#define DMC_SCATTER_TABLE_H

#include "backend/kernels/scatter.h"

typedef dmc_scatter_rows dmc_scatter_table[2][DAMACY_DTYPE_COUNT][DAMACY_DTYPE_COUNT];

extern const dmc_scatter_table dmc_scatter_plain;
#if defined(__x86_64__)
extern const dmc_scatter_table dmc_scatter_avx2;
extern const dmc_scatter_table dmc_scatter_avx512;
extern const dmc_scatter_table dmc_scatter_stream_avx2;
extern const dmc_scatter_table dmc_scatter_stream_avx512;
#endif

#endif
