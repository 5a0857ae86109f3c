/* The loops that write around the cache, compiled for AVX2 with F16C (flags in CMakeLists.txt); run only where scatter.c found
 * both. Wider registers gain nothing here: a line leaves the core whole either way. */
#if defined(__x86_64__)
/* gcc reasons about rows of 2^58 elements, which no memory holds. */
#ifndef __clang__
#pragma GCC diagnostic ignored "-Waggressive-loop-optimizations"
#endif
#define DMC_STREAM
#define DMC_TABLE dmc_scatter_streamed
#include "backend/kernels/scatter_loops.h"
#else
typedef int dmc_scatter_streamed_is_for_x86; /* a translation unit may not be empty */
#endif
