/* tests/support/fake_cuda.h as a libcuda.so.1: with this on the loader path, programs that know nothing of tests, Python among
 * them, run device="cuda" where there is no GPU. Device memory is host memory, so whoever computes with it may. */
#include "support/fake_cuda.h"

#define FAKE_EXPORT(member, symbol, arguments)                                                                                 \
    extern __typeof__(fake_##member) symbol __attribute__((alias("fake_" #member), visibility("default")));
DMC_CUDA_DRIVER_FUNCTIONS(FAKE_EXPORT)

/* For tests that load this library: the n-th call from now on fails, alone or with all after it; 0: none does. */
__attribute__((visibility("default"))) void fake_fail_at(uint64_t n, bool once);
void fake_fail_at(uint64_t n, bool once)
{
    pthread_mutex_lock(&fake.lock);
    fake.calls = 0;
    fake.fail_at = n;
    fake.fail_once = once;
    fake.failed = NULL;
    fake.broken = false;
    pthread_mutex_unlock(&fake.lock);
}
