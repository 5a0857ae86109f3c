/* Goal: quotas of v1 and v2 at every level are found. Method: folders that look like /sys/fs/cgroup, in a temporary place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cgroup.h"
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];

static void put(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static uint32_t cores(void)
{
    char membership[128], mount[128];
    snprintf(membership, sizeof membership, "%s/self", root);
    snprintf(mount, sizeof mount, "%s/fs", root);
    return dmc_cgroup_cores(membership, mount);
}

static uint64_t memory(void)
{
    char membership[128], mount[128];
    snprintf(membership, sizeof membership, "%s/self", root);
    snprintf(mount, sizeof mount, "%s/fs", root);
    return dmc_cgroup_memory(membership, mount);
}

static int remove_one(const char *path, const struct stat *status, int flag, struct FTW *walk)
{
    (void)status;
    (void)flag;
    (void)walk;
    return remove(path);
}

static int setup(void **state)
{
    (void)state;
    strcpy(root, "/tmp/damacy_cgroup_XXXXXX");
    return mkdtemp(root) ? 0 : 1;
}

static int teardown(void **state)
{
    (void)state;
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void test_none(void **state)
{
    (void)state;
    assert_true(cores() == UINT32_MAX); /* no membership file at all */
    assert_true(memory() == UINT64_MAX);
    put("self", "nonsense\n0::/\n");
    assert_true(cores() == UINT32_MAX);
    put("fs/cpu.max", "max 100000\n");
    put("fs/memory.max", "max\n");
    assert_true(cores() == UINT32_MAX);
    assert_true(memory() == UINT64_MAX);
    put("fs/cpu.max", "0 0\n");
    assert_true(cores() == UINT32_MAX);
    put("fs/cpu.max", "garbage");
    put("fs/memory.max", "");
    assert_true(cores() == UINT32_MAX);
    assert_true(memory() == UINT64_MAX);
}

static void test_v2(void **state)
{
    (void)state;
    put("self", "0::/a/b\n");
    put("fs/a/b/cpu.max", "400000 100000\n");
    put("fs/a/b/memory.max", "4000000000\n");
    assert_int_equal(cores(), 4);
    assert_true(memory() == 4000000000u);
    put("fs/a/cpu.max", "150000 100000\n"); /* the parent is tighter, and 1.5 cores are 2 threads */
    put("fs/a/memory.high", "3000000000\n");
    assert_int_equal(cores(), 2);
    assert_true(memory() == 3000000000u);
    put("fs/cpu.max", "50000 100000\n");
    assert_int_equal(cores(), 1);
    put("self", "0::/not/here\n"); /* the name that the host knows */
    assert_int_equal(cores(), 1);
}

static void test_v1(void **state)
{
    (void)state;
    put("self", "5:memory:/m\n4:cpu,cpuacct:/g\n0::/\n");
    put("fs/cpu,cpuacct/g/cpu.cfs_quota_us", "300000\n");
    put("fs/cpu,cpuacct/g/cpu.cfs_period_us", "100000\n");
    put("fs/memory/m/memory.limit_in_bytes", "1000000\n");
    assert_int_equal(cores(), 3);
    assert_true(memory() == 1000000);
    put("fs/cpu/g/cpu.cfs_quota_us", "200000\n");
    put("fs/cpu/g/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cores(), 2);
    put("fs/cpu/g/cpu.cfs_quota_us", "-1\n");
    assert_int_equal(cores(), 3);
    put("self", "4:cpuset,cpuacct:/g\n"); /* a name that only begins alike */
    assert_true(cores() == UINT32_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_none, setup, teardown),
                                       cmocka_unit_test_setup_teardown(test_v2, setup, teardown),
                                       cmocka_unit_test_setup_teardown(test_v1, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
