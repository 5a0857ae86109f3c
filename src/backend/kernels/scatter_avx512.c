/* The loops compiled for AVX-512 F, BW, VL and DQ (flags in CMakeLists.txt); run only where scatter.c found all of them. */
#if defined(__x86_64__)
#define DMC_TABLE dmc_scatter_avx512
#include "backend/kernels/scatter_loops.h"
#else
typedef int dmc_scatter_avx512_is_for_x86; /* a translation unit may not be empty */
#endif
