/* Goal and method: those of test_cuda_decode.c, with frames executed by thread blocks, a program of its own for the time that a
 * thousand fibers take. */
#include "support/decode_world.h"

static void test_zstd_contents(void **state)
{
    (void)state;
    zstd_contents(true);
}

int main(void)
{
    decode_begin();
    const struct CMUnitTest tests[] = {
        TEST(test_zstd_contents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
