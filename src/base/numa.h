/* NUMA: threads and memory near a device. Linux's own files and two system calls; a library for these would be one more thing
 * to ship.
 *
 * Threads inherit where they may run and where their memory comes from. So whoever makes threads and memory for a device goes
 * to its node before, and back afterwards:
 *
 *     dmc_numa_enter(sysfs, node, &place);  ... start threads, allocate ...  dmc_numa_leave(&place);
 *
 * `sysfs` is where the system's files are: NULL for this machine's, or a folder of a test. */
#ifndef DMC_BASE_NUMA_H
#define DMC_BASE_NUMA_H

#include <stdbool.h>
#include <stdint.h>

#define DMC_NUMA_CPUS_MAX 8192u
#define DMC_NUMA_NODES_MAX 1024u

/* CPUs or nodes. */
struct dmc_numa_set {
    unsigned long bits[DMC_NUMA_CPUS_MAX / (8 * sizeof(unsigned long))];
};
static inline bool dmc_numa_has(const struct dmc_numa_set *set, uint32_t number)
{
    const uint32_t width = 8 * sizeof set->bits[0];
    return number < DMC_NUMA_CPUS_MAX && (set->bits[number / width] >> (number % width) & 1);
}

/* Parse what the kernel calls a list: "0-3,8,10-11". false: it is none, or names a number that is too large. */
bool dmc_numa_parse_list(const char *text, struct dmc_numa_set *set);
uint32_t dmc_numa_count(const struct dmc_numa_set *set);

/* The nodes of this machine; false: nothing is known. */
bool dmc_numa_nodes(const char *sysfs, struct dmc_numa_set *nodes);

/* The node of a PCI device ("0000:3B:00.0"), or -1 when nothing is known. */
int dmc_numa_node_of_pci(const char *sysfs, const char *pci_bus_id);

/* What a thread was like before. */
struct dmc_numa_place {
    bool moved, bound;
    struct dmc_numa_set cpus;
    int policy;
    unsigned long nodes[DMC_NUMA_NODES_MAX / (8 * sizeof(unsigned long))];
};

/* Make this thread run on `node`, as far as it is allowed to, and its memory come from there while there is some. Returns on
 * how many CPUs that is; 0: nothing was done, because there is one node, nothing is known of this one, or this process may
 * not use its CPUs (logged at debug level). */
uint32_t dmc_numa_enter(const char *sysfs, int node, struct dmc_numa_place *place);
/* Back to what it was. Takes a place that was never entered, if it is zeroed. */
void dmc_numa_leave(struct dmc_numa_place *place);

#endif
