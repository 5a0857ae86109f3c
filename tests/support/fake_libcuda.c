/* tests/support/fake_cuda.h as a libcuda.so.1: with this on the loader path, programs that know nothing of tests, Python among
 * them, run device="cuda" where there is no GPU. Device memory is host memory, so whoever computes with it may. */
#include "support/fake_cuda.h"

#define FAKE_EXPORT(member, symbol, arguments)                                                                                 \
    extern __typeof__(fake_##member) symbol __attribute__((alias("fake_" #member), visibility("default")));
DMC_CUDA_DRIVER_FUNCTIONS(FAKE_EXPORT)
