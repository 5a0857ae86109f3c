/* Goal: a profiler that NVTX_INJECTION64_PATH names gets every range, with name, number and domain, from any thread; without
 * one nothing happens. Method: an injection library of our own (tests/support/fake_nvtx.c), and a child process without it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/nvtx.h"
#include "support/fake_nvtx.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Before anything else of this process calls NVTX. */
static void test_nobody_listens(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        unsetenv("NVTX_INJECTION64_PATH");
        dmc_nvtx_push("alone", 1);
        dmc_nvtx_pop();
        uint64_t range = dmc_nvtx_start("alone", 2);
        dmc_nvtx_end(range);
        _exit(range == 0 && !dmc_nvtx_on() ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#ifdef FAKE_NVTX

static void *other_thread(void *range)
{
    dmc_nvtx_end(*(uint64_t *)range);
    dmc_nvtx_push("thread", 7);
    dmc_nvtx_pop();
    return NULL;
}

static void test_ranges(void **state)
{
    (void)state;
    setenv("NVTX_INJECTION64_PATH", FAKE_NVTX, 1);
    assert_true(dmc_nvtx_on());
    uint64_t range = dmc_nvtx_start("batch", UINT64_MAX), second = dmc_nvtx_start("batch", 4);
    assert_true(range != 0 && second != range);
    dmc_nvtx_push("outer", 1);
    dmc_nvtx_push("inner", 2);
    dmc_nvtx_pop();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, other_thread, &range), 0);
    pthread_join(thread, NULL);
    dmc_nvtx_pop();
    dmc_nvtx_end(second);
    dmc_nvtx_end(0);
    struct fake_nvtx seen = fake_nvtx_ask(FAKE_NVTX);
    assert_string_equal(seen.domain, "damacy");
    assert_int_equal(seen.wrong, 0);
    assert_int_equal(seen.count, 4);
    assert_int_equal(seen.popped, 3);
    assert_int_equal(seen.ended, 2);
    assert_int_equal(fake_nvtx_range(&seen, "batch")->started, 2);
    assert_int_equal(fake_nvtx_range(&seen, "batch")->payload, 4);
    assert_int_equal(fake_nvtx_range(&seen, "outer")->pushed, 1);
    assert_int_equal(fake_nvtx_range(&seen, "inner")->payload, 2);
    assert_int_equal(fake_nvtx_range(&seen, "thread")->payload, 7);
}

#else

static void test_ranges(void **state)
{
    (void)state;
    skip(); /* built without NVTX's headers */
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nobody_listens), cmocka_unit_test(test_ranges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
