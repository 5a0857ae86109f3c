/* A machine of two NUMA nodes in a folder, for tests: the files of /sys that src/base/numa.c reads. Its nodes share out the
 * CPUs that this process may use, the first one to node 0 and the rest to node 1. */
#ifndef NUMA_TREE_H
#define NUMA_TREE_H

#include "base/numa.h"

#include <assert.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct numa_tree {
    char sysfs[64];
    struct dmc_numa_set allowed, nodes[2];
};

static inline void numa_affinity(int thread_id, struct dmc_numa_set *cpus)
{
    memset(cpus, 0, sizeof *cpus);
    int result = sched_getaffinity(thread_id, sizeof *cpus, (cpu_set_t *)(void *)cpus);
    assert(result == 0);
    (void)result;
}

static inline void numa_tree_write(const struct numa_tree *tree, const char *name, const char *text)
{
    char path[256], command[512];
    snprintf(path, sizeof path, "%s/%s", tree->sysfs, name);
    snprintf(command, sizeof command, "mkdir -p \"$(dirname '%s')\"", path);
    if (system(command) != 0)
        abort();
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0)
        abort();
}

static inline void numa_tree_device(const struct numa_tree *tree, const char *pci_bus_id, const char *node)
{
    char name[128];
    snprintf(name, sizeof name, "bus/pci/devices/%s/numa_node", pci_bus_id);
    numa_tree_write(tree, name, node);
}

/* cmocka's setup and teardown. */
static inline int numa_tree_setup(void **state)
{
    struct numa_tree *tree = calloc(1, sizeof *tree);
    snprintf(tree->sysfs, sizeof tree->sysfs, "/tmp/damacy-numa-XXXXXX");
    if (!mkdtemp(tree->sysfs))
        abort();
    numa_affinity(0, &tree->allowed);
    char text[2][DMC_NUMA_CPUS_MAX] = {"", ""};
    uint32_t seen = 0;
    for (uint32_t cpu = 0; cpu < DMC_NUMA_CPUS_MAX && seen < 512; cpu++) {
        if (!dmc_numa_has(&tree->allowed, cpu))
            continue;
        int node = seen++ > 0;
        size_t length = strlen(text[node]);
        snprintf(text[node] + length, sizeof text[node] - length, "%s%u", length ? "," : "", cpu);
        const uint32_t width = 8 * sizeof tree->nodes[node].bits[0];
        tree->nodes[node].bits[cpu / width] |= 1ul << (cpu % width);
    }
    numa_tree_write(tree, "devices/system/node/online", "0-1\n");
    numa_tree_write(tree, "devices/system/node/node0/cpulist", strcat(text[0], "\n"));
    numa_tree_write(tree, "devices/system/node/node1/cpulist", strcat(text[1], "\n"));
    *state = tree;
    return 0;
}

static inline int numa_tree_teardown(void **state)
{
    struct numa_tree *tree = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", tree->sysfs);
    int result = system(command);
    free(tree);
    return result;
}

#endif
