/* How much of the cap is in use, and who has to go: for all processes that share the folder.
 *
 * FOLDER/usage holds one number, changed under flock. A process sets room aside in leases of 1/256 of the cap and writes within
 * them, so the number never lags behind the disk. It runs ahead of it when a process was killed or two wrote the same block;
 * the next one that finds the cap reached counts the files anew and removes the least recently used ones down to three
 * quarters. Leases are given out up to 15/16 of the cap: the rest covers those that are out while someone counts. No lock is
 * waited for: where another process holds one for long, bytes are not kept. */
#ifndef DMC_CACHE_SPACE_H
#define DMC_CACHE_SPACE_H

#include <stdbool.h>
#include <stdint.h>

struct dmc_cache_space {
    /* constant */
    int folder_fd; /* borrowed */
    int usage_fd, evict_fd;
    uint64_t cap_bytes, lease_bytes;
    /* the writing thread's */
    uint64_t lease_left;
    uint64_t evicted_bytes; /* since the last look */
};

/* 0 or an errno. */
int dmc_cache_space_init(struct dmc_cache_space *space, int folder_fd, uint64_t cap_bytes);
/* Gives back what is left of the lease. A zeroed or failed one is fine. */
void dmc_cache_space_deinit(struct dmc_cache_space *space);
/* Set aside; makes room if need be. One thread at a time. */
bool dmc_cache_space_reserve(struct dmc_cache_space *space, uint64_t bytes);
/* As FOLDER/usage has it. Any thread. */
uint64_t dmc_cache_space_used(const struct dmc_cache_space *space);

#endif
