/* The reference: the loops as every machine of the architecture runs them. */
#define DMC_TABLE dmc_scatter_plain
#include "backend/kernels/scatter_loops.h"
