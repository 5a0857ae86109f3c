/* prefetch_cache: a bounded, pinned LRU with de-duplicated asynchronous fill. Three users: array_meta_cache, shard_index_cache,
 * chunk_layout_cache.
 *
 *     (none) --acquire--> FILLING --finish--> READY | FAILED --(unpinned, least recently used)--> (none)
 *
 * An entry is pinned while the batch that last asked for it has not been planned: `batch_last` >= the watermark. Below the
 * watermark the least recently used go first. Failures are kept like results (a missing array is asked for once) until evicted.
 *
 * Threads: the prefetcher acquires, finishes and fails; the planner finds; stats come from any thread. One mutex inside guards
 * the table and the list. The members of a pinned entry that is READY or FAILED do not change, so the planner may read them
 * without the lock once the pipeline's lock has told it that the sample is resolved.
 */
#ifndef DMC_PREFETCH_CACHE_H
#define DMC_PREFETCH_CACHE_H

#include "base/budget.h"
#include "damacy/damacy.h"

struct dmc_prefetch_cache;

enum dmc_entry_state { DMC_ENTRY_FILLING, DMC_ENTRY_READY, DMC_ENTRY_FAILED };

struct dmc_prefetch_entry {
    enum dmc_entry_state state;
    void *value;                /* READY: owned by the entry, freed by the cache's free_value */
    struct damacy_error *error; /* FAILED: owned by the entry */
    uint64_t batch_last;        /* the newest batch that asked for it */
    uint64_t charge_bytes;
    void *fill;                 /* the filler's, while FILLING */
    void *waiters;              /* the prefetcher's list of what waits for it */
    /* private to the cache */
    uint64_t hash;
    const void *key;
    uint32_t key_bytes;
    struct dmc_prefetch_entry *lru_newer, *lru_older, *bucket_next;
};

enum dmc_acquire {
    DMC_ACQUIRE_FOUND,  /* *entry is there, in whatever state; now pinned for `batch` */
    DMC_ACQUIRE_MADE,   /* *entry is new and FILLING: the caller starts the fill */
    DMC_ACQUIRE_FULL,   /* everything that could make room is pinned */
    DMC_ACQUIRE_TOO_BIG,/* charge alone exceeds the bound */
    DMC_ACQUIRE_OOM
};

/* name: for messages and logs, e.g. "array_meta_cache_bytes" (the setting). */
enum damacy_status dmc_prefetch_cache_create(const char *name, uint64_t bytes_max, void (*free_value)(void *value),
                                             struct dmc_prefetch_cache **cache, struct damacy_error *error);
void dmc_prefetch_cache_destroy(struct dmc_prefetch_cache *cache); /* entries still FILLING are freed without value */

/* Look up, or make room for, `key` (copied). charge_bytes: upper bound of what the entry will hold, key included. */
enum dmc_acquire dmc_prefetch_cache_acquire(struct dmc_prefetch_cache *cache, const void *key, uint32_t key_bytes, uint64_t charge_bytes,
                                            uint64_t batch, struct dmc_prefetch_entry **entry);
/* Only look; neither pins nor counts. NULL: none. */
struct dmc_prefetch_entry *dmc_prefetch_cache_find(const struct dmc_prefetch_cache *cache, const void *key, uint32_t key_bytes);

/* End a fill. charge_bytes: what it really holds, at most what was reserved. */
void dmc_prefetch_cache_finish(struct dmc_prefetch_cache *cache, struct dmc_prefetch_entry *entry, void *value, uint64_t charge_bytes);
/* End a fill that failed; copies the error. */
void dmc_prefetch_cache_fail(struct dmc_prefetch_cache *cache, struct dmc_prefetch_entry *entry, const struct damacy_error *error);

/* Entries whose batch_last is below it may be evicted. Never goes back. */
void dmc_prefetch_cache_watermark(struct dmc_prefetch_cache *cache, uint64_t batch);

struct dmc_prefetch_cache_stats {
    uint64_t hits, misses, evictions, bytes, entries, bytes_max;
};
void dmc_prefetch_cache_stats_get(const struct dmc_prefetch_cache *cache, struct dmc_prefetch_cache_stats *stats); /* any thread */

#endif
