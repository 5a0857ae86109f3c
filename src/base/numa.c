/* See numa.h. */
#include "base/numa.h"
#include "base/log.h"
#include "base/system_file.h"

#include <ctype.h>
#include <errno.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORD_BITS (8 * sizeof(unsigned long))

static bool read_line(const char *sysfs, const char *name, char *line, size_t capacity)
{
    return dmc_system_line(sysfs ? sysfs : "/sys", name, line, capacity);
}

static bool parse_number(const char **text, uint32_t *number)
{
    if (!isdigit((unsigned char)**text))
        return false;
    uint64_t value = 0;
    for (; isdigit((unsigned char)**text) && value < DMC_NUMA_CPUS_MAX; ++*text)
        value = 10 * value + (uint64_t)(**text - '0');
    *number = (uint32_t)value;
    return value < DMC_NUMA_CPUS_MAX;
}

bool dmc_numa_parse_list(const char *text, struct dmc_numa_set *set)
{
    memset(set, 0, sizeof *set);
    while (*text && *text != '\n') {
        uint32_t begin, end;
        if (!parse_number(&text, &begin))
            return false;
        end = begin;
        if (*text == '-') {
            text++;
            if (!parse_number(&text, &end) || end < begin)
                return false;
        }
        for (uint32_t i = begin; i <= end; i++)
            set->bits[i / WORD_BITS] |= 1ul << (i % WORD_BITS);
        if (*text == ',')
            text++;
        else if (*text && *text != '\n')
            return false;
    }
    return true;
}

uint32_t dmc_numa_count(const struct dmc_numa_set *set)
{
    uint32_t count = 0;
    for (size_t i = 0; i < sizeof set->bits / sizeof set->bits[0]; i++)
        count += (uint32_t)__builtin_popcountl(set->bits[i]);
    return count;
}

bool dmc_numa_nodes(const char *sysfs, struct dmc_numa_set *nodes)
{
    char line[4096];
    return read_line(sysfs, "devices/system/node/online", line, sizeof line) && dmc_numa_parse_list(line, nodes) &&
           dmc_numa_count(nodes) > 0;
}

int dmc_numa_node_of_pci(const char *sysfs, const char *pci_bus_id)
{
    char id[32], name[80], line[32];
    size_t length = strlen(pci_bus_id);
    if (length >= sizeof id)
        return -1;
    for (size_t i = 0; i <= length; i++) /* CUDA writes capitals, Linux none */
        id[i] = (char)tolower((unsigned char)pci_bus_id[i]);
    snprintf(name, sizeof name, "bus/pci/devices/%s/numa_node", id);
    if (!read_line(sysfs, name, line, sizeof line))
        return -1;
    char *end;
    long node = strtol(line, &end, 10);
    return end != line && node >= 0 && node < (long)DMC_NUMA_NODES_MAX ? (int)node : -1;
}

static bool node_cpus(const char *sysfs, int node, struct dmc_numa_set *cpus)
{
    char name[64], line[4096];
    snprintf(name, sizeof name, "devices/system/node/node%d/cpulist", node);
    return read_line(sysfs, name, line, sizeof line) && dmc_numa_parse_list(line, cpus);
}

/* Only a preference, and not more than one: where containers forbid these calls, memory is still taken near the CPU that
 * touches it first, and that is on the node. */
static void bind_memory(int node, struct dmc_numa_place *place)
{
    unsigned long wanted[DMC_NUMA_NODES_MAX / WORD_BITS] = {0};
    wanted[(size_t)node / WORD_BITS] |= 1ul << ((size_t)node % WORD_BITS);
    if (syscall(SYS_get_mempolicy, &place->policy, place->nodes, (unsigned long)DMC_NUMA_NODES_MAX, NULL, 0ul) == 0 &&
        syscall(SYS_set_mempolicy, MPOL_PREFERRED, wanted, (unsigned long)DMC_NUMA_NODES_MAX) == 0)
        place->bound = true;
    else
        dmc_log(DMC_BASE, DAMACY_LOG_DEBUG, "NUMA: the kernel does not let us prefer memory of node %d: %s", node,
                strerror(errno));
}

uint32_t dmc_numa_enter(const char *sysfs, int node, struct dmc_numa_place *place)
{
    struct dmc_numa_set nodes, cpus;
    memset(place, 0, sizeof *place);
    if (node < 0 || node >= (int)DMC_NUMA_NODES_MAX || !dmc_numa_nodes(sysfs, &nodes) ||
        !dmc_numa_has(&nodes, (uint32_t)node) || !node_cpus(sysfs, node, &cpus)) {
        dmc_log(DMC_BASE, DAMACY_LOG_DEBUG, "NUMA: nothing is known of a node for this device; nothing is placed");
        return 0;
    }
    if (dmc_numa_count(&nodes) == 1) {
        dmc_log(DMC_BASE, DAMACY_LOG_DEBUG, "NUMA: this machine has one node; nothing is placed");
        return 0;
    }
    if (sched_getaffinity(0, sizeof place->cpus, (cpu_set_t *)(void *)&place->cpus) != 0) {
        dmc_log(DMC_BASE, DAMACY_LOG_DEBUG, "NUMA: sched_getaffinity: %s; nothing is placed", strerror(errno));
        return 0;
    }
    for (size_t i = 0; i < sizeof cpus.bits / sizeof cpus.bits[0]; i++)
        cpus.bits[i] &= place->cpus.bits[i];
    uint32_t count = dmc_numa_count(&cpus);
    if (count == 0 || sched_setaffinity(0, sizeof cpus, (const cpu_set_t *)(const void *)&cpus) != 0) {
        dmc_log(DMC_BASE, DAMACY_LOG_DEBUG, "NUMA: this process may not run on the CPUs of node %d; nothing is placed", node);
        return 0;
    }
    place->moved = true;
    bind_memory(node, place);
    dmc_log(DMC_BASE, DAMACY_LOG_DEBUG, "NUMA: threads and memory go to node %d, %u CPUs", node, count);
    return count;
}

void dmc_numa_leave(struct dmc_numa_place *place)
{
    if (place->bound && syscall(SYS_set_mempolicy, place->policy, place->policy == MPOL_DEFAULT ? NULL : place->nodes,
                                place->policy == MPOL_DEFAULT ? 0ul : (unsigned long)DMC_NUMA_NODES_MAX) != 0)
        dmc_log(DMC_BASE, DAMACY_LOG_WARN, "NUMA: the memory policy of this thread could not be put back: %s", strerror(errno));
    if (place->moved && sched_setaffinity(0, sizeof place->cpus, (const cpu_set_t *)(const void *)&place->cpus) != 0)
        dmc_log(DMC_BASE, DAMACY_LOG_WARN, "NUMA: the CPUs of this thread could not be put back: %s", strerror(errno));
    place->moved = place->bound = false;
}
