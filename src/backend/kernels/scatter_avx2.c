/* The loops compiled for AVX2 with F16C (flags in CMakeLists.txt); run only where scatter.c found both. */
#if defined(__x86_64__)
#define DMC_TABLE dmc_scatter_avx2
#include "backend/kernels/scatter_loops.h"
#else
typedef int dmc_scatter_avx2_is_for_x86; /* a translation unit may not be empty */
#endif
