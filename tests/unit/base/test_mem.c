/* Goal: allocations are counted and the n-th can fail, once; page buffers are aligned and zeroed; a budget is never exceeded.
 * Method: try. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/budget.h"
#include "base/mem.h"
#include "base/thread.h"
#include <assert.h>
#include <string.h>
#include <unistd.h>

static void test_count_and_fail(void **state)
{
    (void)state;
    uint64_t before = dmc_mem_count();
    char *a = dmc_malloc(0), *b = dmc_calloc(3, 5), *c = dmc_strdup("text");
    assert_non_null(a);
    assert_non_null(b);
    assert_string_equal(c, "text");
    for (int i = 0; i < 15; i++)
        assert_int_equal(b[i], 0);
    a = dmc_realloc(a, 100);
    assert_non_null(a);
    assert_int_equal(dmc_mem_count() - before, 4);
    char *none = dmc_calloc(0, 5);
    assert_non_null(none);
    dmc_free(none);
    dmc_mem_fail_at(3);
    char *d = dmc_malloc(1), *e = dmc_malloc(1);
    assert_non_null(d);
    assert_non_null(e);
    assert_null(dmc_malloc(1));
    char *f = dmc_malloc(1); /* only once */
    assert_non_null(f);
    dmc_mem_fail_at(1);
    assert_null(dmc_realloc(a, 200)); /* a is still ours */
    a[99] = 1;
    dmc_mem_fail_at(1);
    assert_null(dmc_calloc(1, 1));
    dmc_mem_fail_at(1);
    assert_null(dmc_strdup("x"));
    dmc_mem_fail_at(1);
    assert_null(dmc_pages_map(1));
    dmc_mem_fail_at(5);
    dmc_mem_fail_at(0);
    for (int i = 0; i < 10; i++) {
        char *g = dmc_malloc(1);
        assert_non_null(g);
        dmc_free(g);
    }
    dmc_free(a);
    dmc_free(b);
    dmc_free(c);
    dmc_free(d);
    dmc_free(e);
    dmc_free(f);
    dmc_free(NULL);
}

static void test_pages(void **state)
{
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), huge = (size_t)2 << 20;
    size_t sizes[] = {0, 1, page, page + 1, huge - 1, huge, huge + 1, 3 * huge + page};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *pages = dmc_pages_map(sizes[i]);
        assert_non_null(pages);
        assert_int_equal((uintptr_t)pages % (sizes[i] >= huge ? huge : page), 0);
        for (size_t k = 0; k < sizes[i]; k += 997)
            assert_int_equal(pages[k], 0);
        memset(pages, 1, sizes[i]);
        dmc_pages_unmap(pages, sizes[i]);
    }
    assert_null(dmc_pages_map(SIZE_MAX));
    assert_null(dmc_pages_map(SIZE_MAX / 2));
    dmc_pages_unmap(NULL, 5);
}

static struct dmc_budget shared_budget;

static void *draw(void *argument)
{
    uint64_t *taken = argument;
    for (int i = 0; i < 20000; i++)
        if (dmc_budget_reserve(&shared_budget, 3)) {
            *taken += 3;
            assert(dmc_budget_used(&shared_budget) <= 1000);
            if (i % 3) {
                dmc_budget_unreserve(&shared_budget, 3);
                *taken -= 3;
            }
        }
    return NULL;
}

static void test_budget(void **state)
{
    (void)state;
    dmc_budget_init(&shared_budget, 1000);
    assert_false(dmc_budget_reserve(&shared_budget, 1001));
    assert_false(dmc_budget_reserve(&shared_budget, UINT64_MAX));
    assert_true(dmc_budget_reserve(&shared_budget, 1000));
    assert_true(dmc_budget_reserve(&shared_budget, 0));
    assert_false(dmc_budget_reserve(&shared_budget, 1));
    assert_false(dmc_budget_reserve(&shared_budget, UINT64_MAX)); /* no wrapping round */
    dmc_budget_unreserve(&shared_budget, 1000);
    uint64_t taken[3] = {0};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(dmc_thread_start(&threads[i], "draw", draw, &taken[i]), 0);
    for (int i = 0; i < 3; i++)
        assert_true(dmc_thread_join_until(threads[i], UINT64_MAX));
    assert_int_equal(dmc_budget_used(&shared_budget), taken[0] + taken[1] + taken[2]);
    assert_int_equal(dmc_budget_used(&shared_budget), 999); /* 333 times 3: the threads kept drawing until no more fits */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_count_and_fail), cmocka_unit_test(test_pages),
                                       cmocka_unit_test(test_budget)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
