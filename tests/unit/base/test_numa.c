/* Goal: threads and memory are placed on a device's node where a machine has several, everything is put back, and what is not
 * known, or not allowed, changes nothing.
 *
 * Method: a tree of files like the kernel's, whose two nodes share out the CPUs that this process may use; affinities are the
 * kernel's own. Which memory is taken cannot be seen on a machine with one node: only that the policy is put back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/numa.h"
#include "support/numa_tree.h"

#include <linux/mempolicy.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void test_lists(void **state)
{
    (void)state;
    struct dmc_numa_set set;
    assert_true(dmc_numa_parse_list("0-3,8,10-11\n", &set));
    assert_int_equal(dmc_numa_count(&set), 7);
    assert_true(dmc_numa_has(&set, 0) && dmc_numa_has(&set, 3) && dmc_numa_has(&set, 8) && dmc_numa_has(&set, 11));
    assert_false(dmc_numa_has(&set, 4) || dmc_numa_has(&set, 9) || dmc_numa_has(&set, UINT32_MAX));
    assert_true(dmc_numa_parse_list("\n", &set) && dmc_numa_count(&set) == 0); /* a node with memory only */
    assert_true(dmc_numa_parse_list("8191", &set) && dmc_numa_count(&set) == 1);
    static const char *const wrong[] = {"8192",          "3-1",  "a", "1-", "1;2", "-1", "99999999999999999999",
                                        "0-99999999999", "1,,2", " 1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(dmc_numa_parse_list(wrong[i], &set));
}

static void test_node_of_a_device(void **state)
{
    struct numa_tree *tree = *state;
    numa_tree_device(tree, "0000:3b:00.0", "1\n");
    numa_tree_device(tree, "0000:5e:00.0", "-1\n"); /* what the kernel says when the firmware tells nothing */
    numa_tree_device(tree, "0000:5f:00.0", "x\n");
    assert_int_equal(dmc_numa_node_of_pci(tree->sysfs, "0000:3B:00.0"), 1);
    assert_int_equal(dmc_numa_node_of_pci(tree->sysfs, "0000:5E:00.0"), -1);
    assert_int_equal(dmc_numa_node_of_pci(tree->sysfs, "0000:5F:00.0"), -1);
    assert_int_equal(dmc_numa_node_of_pci(tree->sysfs, "0000:FF:00.0"), -1);
    assert_int_equal(dmc_numa_node_of_pci(tree->sysfs, "0000:ff:00.0-which-is-no-id-at-all"), -1);
    assert_int_equal(dmc_numa_node_of_pci("/nowhere", "0000:3B:00.0"), -1);
}

static void *where_am_i(void *cpus)
{
    numa_affinity(0, cpus);
    return NULL;
}

static void check_untouched(const struct numa_tree *tree)
{
    struct dmc_numa_set now;
    numa_affinity(0, &now);
    assert_memory_equal(&now, &tree->allowed, sizeof now);
}

static void test_there_and_back(void **state)
{
    struct numa_tree *tree = *state;
    if (dmc_numa_count(&tree->allowed) < 2)
        skip(); /* nothing to share out */
    int before = -1, after = -1;
    long asked = syscall(SYS_get_mempolicy, &before, NULL, 0ul, NULL, 0ul);
    for (int node = 0; node < 2; node++) {
        struct dmc_numa_place place;
        struct dmc_numa_set here, thread_cpus;
        assert_int_equal(dmc_numa_enter(tree->sysfs, node, &place), dmc_numa_count(&tree->nodes[node]));
        numa_affinity(0, &here);
        assert_memory_equal(&here, &tree->nodes[node], sizeof here);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, where_am_i, &thread_cpus), 0);
        pthread_join(thread, NULL);
        assert_memory_equal(&thread_cpus, &tree->nodes[node], sizeof here);
        dmc_numa_leave(&place);
        check_untouched(tree);
        dmc_numa_leave(&place); /* once is enough */
        check_untouched(tree);
    }
    if (asked == 0) {
        assert_int_equal(syscall(SYS_get_mempolicy, &after, NULL, 0ul, NULL, 0ul), 0);
        assert_int_equal(after, before);
    }
}

static void test_nothing_is_done(void **state)
{
    struct numa_tree *tree = *state;
    struct dmc_numa_place place;
    assert_int_equal(dmc_numa_enter(tree->sysfs, -1, &place), 0);
    assert_int_equal(dmc_numa_enter(tree->sysfs, 5, &place), 0);
    assert_int_equal(dmc_numa_enter(tree->sysfs, 100000, &place), 0);
    assert_int_equal(dmc_numa_enter("/nowhere", 0, &place), 0);
    numa_tree_write(tree, "devices/system/node/node1/cpulist", "8000-8100\n"); /* CPUs of others */
    assert_int_equal(dmc_numa_enter(tree->sysfs, 1, &place), 0);
    numa_tree_write(tree, "devices/system/node/online", "0\n");
    assert_int_equal(dmc_numa_enter(tree->sysfs, 0, &place), 0);
    numa_tree_write(tree, "devices/system/node/online", "zero\n");
    assert_int_equal(dmc_numa_enter(tree->sysfs, 0, &place), 0);
    dmc_numa_leave(&place);
    check_untouched(tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),
        cmocka_unit_test_setup_teardown(test_node_of_a_device, numa_tree_setup, numa_tree_teardown),
        cmocka_unit_test_setup_teardown(test_there_and_back, numa_tree_setup, numa_tree_teardown),
        cmocka_unit_test_setup_teardown(test_nothing_is_done, numa_tree_setup, numa_tree_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
