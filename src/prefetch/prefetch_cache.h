/* prefetch_cache: a bounded, pinned LRU with de-duplicated asynchronous fill. Three users: array_meta_cache, shard_index_cache,
 * chunk_layout_cache.
 *
 *     (none) --acquire--> FILLING --finish--> READY | FAILED --(unpinned, least recently used)--> (none)
 *
 * An entry is pinned while the batch that last asked for it has not been planned: `batch_last` >= the watermark. Below the
 * watermark the least recently used go first; what is FILLING stays. Failures are kept like results (a missing array is asked
 * for once) until evicted, but those that may pass (IO, OOM, BUDGET) are made anew once they are unpinned.
 *
 * Whether there is room must not depend on what happens to be there from earlier batches, or the same samples would fail in one
 * run and pass in the next. So the first use of an entry by a batch asks for the same room as making it anew: beside all that
 * is pinned if the entry was not, and in any case beside all that this batch has used so far. A batch fits by its own needs
 * alone.
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
    void *fill; /* the filler's, while FILLING */
    /* private to the cache */
    uint64_t hash;
    const void *key;
    uint32_t key_bytes;
    struct dmc_prefetch_entry *lru_newer, *lru_older, *bucket_next;
};

enum dmc_acquire {
    DMC_ACQUIRE_FOUND,   /* *entry is there, in whatever state; now pinned for `batch` */
    DMC_ACQUIRE_MADE,    /* *entry is new and FILLING: the caller starts the fill */
    DMC_ACQUIRE_FULL,    /* everything that could make room is pinned */
    DMC_ACQUIRE_TOO_BIG, /* charge alone exceeds the bound */
    DMC_ACQUIRE_OOM
};

/* name: for messages and logs, e.g. "array_meta_cache_bytes" (the setting). */
enum damacy_status dmc_prefetch_cache_create(const char *name, uint64_t bytes_max, void (*free_value)(void *value),
                                             struct dmc_prefetch_cache **cache, struct damacy_error *error);
void dmc_prefetch_cache_destroy(struct dmc_prefetch_cache *cache); /* entries still FILLING are freed without value */

/* What an entry counts: its table place, key and value. To reserve, a failure must fit, too, in place of the value. */
uint64_t dmc_prefetch_cache_held(uint32_t key_bytes, uint64_t value_bytes);
uint64_t dmc_prefetch_cache_reserve(uint32_t key_bytes, uint64_t value_bytes_max);

/* Look up, or make room for, `key` (copied, with a zero behind it). charge_bytes: upper bound of what the entry will hold, key
 * included. Batches come in order; one that is older than the newest seen counts as that one. */
enum dmc_acquire dmc_prefetch_cache_acquire(struct dmc_prefetch_cache *cache, const void *key, uint32_t key_bytes,
                                            uint64_t charge_bytes, uint64_t batch, struct dmc_prefetch_entry **entry);
/* Why FULL or TOO_BIG means that a batch alone exceeds the bound: BUDGET, naming the setting. `what`: e.g. "shard indices". */
enum damacy_status dmc_prefetch_cache_refuse(const struct dmc_prefetch_cache *cache, const char *what, const char *stage,
                                             uint64_t charge_bytes, struct damacy_error *error);
/* Only look; neither pins nor counts. NULL: none. */
struct dmc_prefetch_entry *dmc_prefetch_cache_find(const struct dmc_prefetch_cache *cache, const void *key, uint32_t key_bytes);

/* End a fill. charge_bytes: what it really holds, at most what was reserved. */
void dmc_prefetch_cache_finish(struct dmc_prefetch_cache *cache, struct dmc_prefetch_entry *entry, void *value,
                               uint64_t charge_bytes);
/* End a fill that failed; copies the error. */
void dmc_prefetch_cache_fail(struct dmc_prefetch_cache *cache, struct dmc_prefetch_entry *entry,
                             const struct damacy_error *error);

/* Entries whose batch_last is below it may be evicted. Never goes back. */
void dmc_prefetch_cache_watermark(struct dmc_prefetch_cache *cache, uint64_t batch);

struct dmc_prefetch_cache_stats {
    uint64_t hits, misses, evictions, bytes, bytes_pinned, entries, bytes_max;
};
void dmc_prefetch_cache_stats_get(const struct dmc_prefetch_cache *cache,
                                  struct dmc_prefetch_cache_stats *stats); /* any thread */

#endif
