#include "base/cgroup.h"
#include "base/bytes.h"
#include "base/system_file.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_BYTES 4096

/* A decimal number; "max", "-1" and anything else are none. */
static bool read_number(const char *folder, const char *file, uint64_t *number)
{
    char line[64], *end;
    if (!dmc_system_line(folder, file, line, sizeof line) || line[0] < '0' || line[0] > '9')
        return false;
    *number = strtoull(line, &end, 10);
    return true;
}

static uint64_t cores_of(const char *folder)
{
    char line[64];
    unsigned long long quota, period;
    if (dmc_system_line(folder, "cpu.max", line, sizeof line)) { /* v2: "QUOTA PERIOD" or "max PERIOD" */
        if (sscanf(line, "%llu %llu", &quota, &period) != 2)
            return UINT64_MAX;
    } else {
        uint64_t quota_us, period_us;
        if (!read_number(folder, "cpu.cfs_quota_us", &quota_us) || !read_number(folder, "cpu.cfs_period_us", &period_us))
            return UINT64_MAX;
        quota = quota_us;
        period = period_us;
    }
    if (quota == 0 || period == 0)
        return UINT64_MAX;
    return dmc_ceil_div(quota, period);
}

static uint64_t memory_of(const char *folder)
{
    /* memory.high counts as well: a process above it is slowed down until it is useless. */
    static const char *const files[] = {"memory.max", "memory.high", "memory.limit_in_bytes"};
    uint64_t least = UINT64_MAX, number;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (read_number(folder, files[i], &number) && number > 0)
            least = dmc_min_u64(least, number);
    return least;
}

/* The tightest of `limit_of` from MOUNT/HIERARCHY/GROUP up to MOUNT/HIERARCHY. In a container the group's name is often that
 * of the host and does not exist inside; then only the levels that exist count. */
static uint64_t walk_up(const char *mount, const char *hierarchy, const char *group, uint64_t (*limit_of)(const char *))
{
    char root[PATH_BYTES], folder[2 * PATH_BYTES];
    snprintf(root, sizeof root, "%s%s%s", mount, hierarchy[0] ? "/" : "", hierarchy);
    snprintf(folder, sizeof folder, "%s%s", root, group);
    uint64_t least = UINT64_MAX;
    for (size_t length = strlen(folder); length >= strlen(root);) {
        folder[length] = 0;
        least = dmc_min_u64(least, limit_of(folder));
        if (length == strlen(root))
            break;
        while (length > strlen(root) && folder[--length] != '/')
            ;
    }
    return least;
}

/* Does the comma-separated list name the controller? */
static bool lists(const char *controllers, const char *controller)
{
    size_t bytes = strlen(controller);
    for (const char *at = controllers; at; at = strchr(at, ','), at = at ? at + 1 : NULL)
        if (strncmp(at, controller, bytes) == 0 && (at[bytes] == ',' || at[bytes] == 0))
            return true;
    return false;
}

/* Lines of the membership file are "ID:CONTROLLERS:/GROUP"; v2 has no controllers. */
static uint64_t tightest(const char *membership, const char *mount, const char *controller, uint64_t (*limit_of)(const char *))
{
    FILE *stream = fopen(membership, "re");
    if (!stream)
        return UINT64_MAX;
    uint64_t least = UINT64_MAX;
    char line[PATH_BYTES];
    while (fgets(line, sizeof line, stream)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *controllers++ = 0;
        *group++ = 0;
        if (strcmp(group, "/") == 0)
            group[0] = 0;
        if (controllers[0] == 0) {
            least = dmc_min_u64(least, walk_up(mount, "", group, limit_of));
            least = dmc_min_u64(least, walk_up(mount, "unified", group, limit_of)); /* beside v1 */
        } else if (lists(controllers, controller)) {
            least = dmc_min_u64(least, walk_up(mount, controller, group, limit_of));
            least = dmc_min_u64(least, walk_up(mount, controllers, group, limit_of)); /* mounted as "cpu,cpuacct" */
        }
    }
    fclose(stream);
    return least;
}

uint32_t dmc_cgroup_cores(const char *membership, const char *mount)
{
    return (uint32_t)dmc_min_u64(tightest(membership, mount, "cpu", cores_of), UINT32_MAX);
}

uint64_t dmc_cgroup_memory(const char *membership, const char *mount)
{
    return tightest(membership, mount, "memory", memory_of);
}
