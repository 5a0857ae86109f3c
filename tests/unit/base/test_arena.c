/* Goal: aligned, disjoint, budgeted memory that is reused without malloc. Method: patterns in every piece; allocations counted
 * and failed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/mem.h"
#include <string.h>

/* Allocate a fixed odd sequence and write it all; returns the number of mallocs it took. */
static uint64_t fill(struct dmc_arena *arena)
{
    uint64_t before = dmc_mem_count();
    unsigned char *pieces[300];
    size_t sizes[300];
    for (size_t i = 0; i < 300; i++) {
        sizes[i] = i * 37 % 1501;
        size_t align = (size_t)1 << i % 7;
        pieces[i] = dmc_arena_alloc(arena, sizes[i], align);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % align, 0);
        memset(pieces[i], (int)i, sizes[i]);
    }
    for (size_t i = 0; i < 300; i++)
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(pieces[i][k], (unsigned char)i);
    return dmc_mem_count() - before;
}

static void test_reuse(void **state)
{
    (void)state;
    struct dmc_arena arena;
    dmc_arena_init(&arena, NULL);
    assert_true(fill(&arena) > 1);
    uint64_t used = arena.used_bytes;
    assert_true(used > 0 && used <= arena.reserved_bytes);
    dmc_arena_reset(&arena);
    assert_int_equal(arena.used_bytes, 0);
    assert_int_equal(fill(&arena), 1); /* the merge */
    for (int i = 0; i < 3; i++) {
        dmc_arena_reset(&arena);
        assert_int_equal(fill(&arena), 0);
    }
    dmc_arena_deinit(&arena);
    dmc_arena_deinit(&arena); /* an empty one is fine */
    struct dmc_arena zeroed = {0};
    dmc_arena_deinit(&zeroed);
}

static void test_budget(void **state)
{
    (void)state;
    struct dmc_budget budget;
    struct dmc_arena arena;
    dmc_budget_init(&budget, 20000);
    dmc_arena_init(&arena, &budget);
    assert_non_null(dmc_arena_alloc(&arena, 100, 8));
    assert_int_equal(dmc_budget_used(&budget), arena.reserved_bytes);
    assert_null(dmc_arena_alloc(&arena, 30000, 8));
    assert_non_null(dmc_arena_alloc(&arena, 15000, 8)); /* exactly as much as needed when doubling is too much */
    assert_int_equal(dmc_budget_used(&budget), arena.reserved_bytes);
    assert_null(dmc_arena_alloc(&arena, 8000, 8));
    assert_null(dmc_arena_alloc(&arena, SIZE_MAX, 8));
    assert_null(dmc_arena_alloc(&arena, SIZE_MAX - 64, 1));
    dmc_arena_reset(&arena);
    uint64_t reserved = arena.reserved_bytes;
    assert_non_null(dmc_arena_alloc(&arena, 15000, 8));
    assert_int_equal(arena.reserved_bytes, reserved); /* merged, not grown */
    dmc_arena_deinit(&arena);
    assert_int_equal(dmc_budget_used(&budget), 0);
}

static void test_arrays(void **state)
{
    (void)state;
    struct dmc_arena arena;
    dmc_arena_init(&arena, NULL);
    assert_null(dmc_arena_alloc_array(&arena, SIZE_MAX / 4, 8, 8));
    uint64_t *numbers = dmc_arena_array(&arena, uint64_t, 1000);
    assert_non_null(numbers);
    numbers[999] = 1;
    assert_non_null(dmc_arena_array(&arena, uint64_t, 0));
    assert_string_equal(dmc_arena_strdup(&arena, "hello"), "hello");
    assert_true(dmc_arena_alloc(&arena, 0, 1) != dmc_arena_alloc(&arena, 0, 1));
    dmc_arena_deinit(&arena);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct dmc_budget budget;
    struct dmc_arena arena;
    dmc_budget_init(&budget, 1 << 20);
    dmc_arena_init(&arena, &budget);
    dmc_mem_fail_at(1);
    assert_null(dmc_arena_strdup(&arena, "x"));
    assert_int_equal(dmc_budget_used(&budget), 0);
    assert_non_null(dmc_arena_alloc(&arena, 4000, 1));
    assert_non_null(dmc_arena_alloc(&arena, 4000, 1));
    dmc_arena_reset(&arena);
    dmc_mem_fail_at(1); /* the merge fails */
    assert_null(dmc_arena_alloc(&arena, 10, 1));
    assert_int_equal(dmc_budget_used(&budget), 0);
    assert_non_null(dmc_arena_alloc(&arena, 10, 1)); /* and the arena still works */
    dmc_arena_deinit(&arena);
    assert_int_equal(dmc_budget_used(&budget), 0);
}

/* Whatever was there before, all that the budget leaves is one block; without memory for that it grows as usual. */
static void test_reset_whole(void **state)
{
    (void)state;
    struct dmc_budget budget;
    struct dmc_arena arena;
    dmc_budget_init(&budget, 100000);
    dmc_arena_init(&arena, &budget);
    while (dmc_arena_alloc(&arena, 7000, 1))
        continue;
    dmc_arena_reset_whole(&arena);
    for (uint32_t i = 0; i < 14; i++)
        assert_non_null(dmc_arena_alloc(&arena, 7000, 1));
    assert_int_equal(dmc_budget_used(&budget), 100000);
    dmc_mem_fail_at(1);
    dmc_arena_reset_whole(&arena);
    dmc_mem_fail_at(0);
    assert_int_equal(dmc_budget_used(&budget), 0);
    assert_non_null(dmc_arena_alloc(&arena, 10000, 1));
    dmc_arena_deinit(&arena);
    assert_int_equal(dmc_budget_used(&budget), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reuse), cmocka_unit_test(test_budget),
                                       cmocka_unit_test(test_arrays), cmocka_unit_test(test_no_memory),
                                       cmocka_unit_test(test_reset_whole)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
