/* Limits that control groups put on this process. Apart from thread.c so that tests can point it at folders of their own. */
#ifndef DMC_BASE_CGROUP_H
#define DMC_BASE_CGROUP_H

#include <stdint.h>

/* membership  the process's list, normally "/proc/self/cgroup"
 * mount       where the hierarchies are, normally "/sys/fs/cgroup"
 * Both look at v2 and v1 and at every level from the process's group up to the mount; the tightest bound wins. */

/* CPU quota in cores, rounded up; UINT32_MAX if there is none. */
uint32_t dmc_cgroup_cores(const char *membership, const char *mount);

/* Memory limit in bytes; UINT64_MAX if there is none. */
uint64_t dmc_cgroup_memory(const char *membership, const char *mount);

#endif
