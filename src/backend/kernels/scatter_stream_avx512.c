/* The loops that write around the cache, compiled as scatter_avx512.c is. */
#if defined(__x86_64__)
#define DMC_STREAM
#define DMC_TABLE dmc_scatter_stream_avx512
#include "backend/kernels/scatter_loops.h"
#else
typedef int dmc_scatter_stream_avx512_is_for_x86; /* a translation unit may not be empty */
#endif
