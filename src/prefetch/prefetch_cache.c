/* The table is chained and doubles; the list of all entries goes from the newest use to the oldest.
 *
 *     newest <-> ... <-> pinned_oldest <-> [ unpinned, or still FILLING ] <-> ... <-> oldest
 *
 * Batches come in order and every use moves an entry to the front, so batch_last never grows along the list and the watermark
 * is one place in it: moving it costs what it passes, and `evictable_bytes` tells in O(1) whether there is room. */
#include "prefetch/prefetch_cache.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/thread.h"

#include <assert.h>
#include <string.h>

#define BUCKETS_MIN 64u

struct dmc_prefetch_cache {
    /* constant */
    char name[48];
    uint64_t bytes_max;
    void (*free_value)(void *value);
    /* guarded by the mutex */
    struct dmc_mutex mutex;
    uint64_t bytes;           /* charged by all entries */
    uint64_t evictable_bytes; /* of them: by what is unpinned and not FILLING */
    uint64_t watermark;
    uint64_t batch_newest;
    uint64_t batch_bytes; /* of `bytes`: by what the newest batch has asked for */
    uint64_t entry_count, hits, misses, evictions;
    struct dmc_prefetch_entry **buckets;
    uint64_t bucket_count; /* a power of two */
    struct dmc_prefetch_entry *newest, *oldest;
    struct dmc_prefetch_entry *pinned_oldest; /* the last one, towards oldest, with batch_last >= watermark */
};

/* What a FAILED entry holds when there was not even memory for its error. Never written, never freed. */
static struct damacy_error error_oom = {
    .status = DAMACY_OOM, .stage = "metadata", .message = "out of memory while a failure was being recorded"};

uint64_t dmc_prefetch_cache_held(uint32_t key_bytes, uint64_t value_bytes)
{
    /* Two words of the table an entry: it doubles when it is full. */
    uint64_t overhead = sizeof(struct dmc_prefetch_entry) + 2 * sizeof(void *) + key_bytes + 1, held;
    return dmc_add_u64(overhead, value_bytes, &held) ? held : UINT64_MAX;
}

uint64_t dmc_prefetch_cache_reserve(uint32_t key_bytes, uint64_t value_bytes_max)
{
    return dmc_prefetch_cache_held(key_bytes, dmc_max_u64(value_bytes_max, sizeof(struct damacy_error)));
}

enum damacy_status dmc_prefetch_cache_create(const char *name, uint64_t bytes_max, void (*free_value)(void *value),
                                             struct dmc_prefetch_cache **cache, struct damacy_error *error)
{
    struct dmc_prefetch_cache *made = dmc_calloc(1, sizeof *made);
    struct dmc_prefetch_entry **buckets = made ? dmc_calloc(BUCKETS_MIN, sizeof(struct dmc_prefetch_entry *)) : NULL;
    if (!buckets) {
        dmc_free(made);
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for a metadata cache (%s)", name);
    }
    dmc_text_copy(made->name, sizeof made->name, name);
    made->bytes_max = bytes_max;
    made->free_value = free_value;
    made->buckets = buckets;
    made->bucket_count = BUCKETS_MIN;
    dmc_mutex_init(&made->mutex);
    *cache = made;
    return DAMACY_OK;
}

static void free_entry(const struct dmc_prefetch_cache *cache, struct dmc_prefetch_entry *entry)
{
    if (entry->state == DMC_ENTRY_READY && entry->value)
        cache->free_value(entry->value);
    if (entry->error != &error_oom)
        dmc_free(entry->error);
    dmc_free(entry);
}

/* Free a chain of entries linked by lru_older, after the lock was left: freeing an array takes a while. */
static void free_entries(const struct dmc_prefetch_cache *cache, struct dmc_prefetch_entry *entry)
{
    while (entry) {
        struct dmc_prefetch_entry *older = entry->lru_older;
        free_entry(cache, entry);
        entry = older;
    }
}

void dmc_prefetch_cache_destroy(struct dmc_prefetch_cache *cache)
{
    if (!cache)
        return;
    free_entries(cache, cache->newest);
    dmc_mutex_deinit(&cache->mutex);
    dmc_free(cache->buckets);
    dmc_free(cache);
}

static struct dmc_prefetch_entry *look_up_locked(const struct dmc_prefetch_cache *cache, uint64_t hash, const void *key,
                                                 uint32_t key_bytes)
{
    struct dmc_prefetch_entry *entry = cache->buckets[hash & (cache->bucket_count - 1)];
    while (entry && !(entry->hash == hash && entry->key_bytes == key_bytes && memcmp(entry->key, key, key_bytes) == 0))
        entry = entry->bucket_next;
    return entry;
}

static bool evictable_locked(const struct dmc_prefetch_cache *cache, const struct dmc_prefetch_entry *entry)
{
    return entry->state != DMC_ENTRY_FILLING && entry->batch_last < cache->watermark;
}

static void list_remove_locked(struct dmc_prefetch_cache *cache, struct dmc_prefetch_entry *entry)
{
    if (cache->pinned_oldest == entry)
        cache->pinned_oldest = entry->lru_newer;
    *(entry->lru_newer ? &entry->lru_newer->lru_older : &cache->newest) = entry->lru_older;
    *(entry->lru_older ? &entry->lru_older->lru_newer : &cache->oldest) = entry->lru_newer;
}

static void list_push_locked(struct dmc_prefetch_cache *cache, struct dmc_prefetch_entry *entry)
{
    entry->lru_newer = NULL;
    entry->lru_older = cache->newest;
    *(cache->newest ? &cache->newest->lru_newer : &cache->oldest) = entry;
    cache->newest = entry;
    if (!cache->pinned_oldest)
        cache->pinned_oldest = entry;
}

/* Take an evictable entry out; it is then the caller's. */
static void take_out_locked(struct dmc_prefetch_cache *cache, struct dmc_prefetch_entry *entry)
{
    struct dmc_prefetch_entry **at = &cache->buckets[entry->hash & (cache->bucket_count - 1)];
    while (*at != entry)
        at = &(*at)->bucket_next;
    *at = entry->bucket_next;
    list_remove_locked(cache, entry);
    cache->bytes -= entry->charge_bytes;
    cache->evictable_bytes -= entry->charge_bytes;
    cache->entry_count--;
    cache->evictions++;
}

/* Double the table. Without memory the chains just grow longer. */
static void grow_locked(struct dmc_prefetch_cache *cache)
{
    uint64_t count = cache->bucket_count * 2;
    struct dmc_prefetch_entry **buckets = dmc_calloc(count, sizeof(struct dmc_prefetch_entry *));
    if (!buckets)
        return;
    for (struct dmc_prefetch_entry *entry = cache->newest; entry; entry = entry->lru_older) {
        struct dmc_prefetch_entry **bucket = &buckets[entry->hash & (count - 1)];
        entry->bucket_next = *bucket;
        *bucket = entry;
    }
    dmc_free(cache->buckets);
    cache->buckets = buckets;
    cache->bucket_count = count;
}

/* Failures that another try may not have. */
static bool may_pass(const struct dmc_prefetch_entry *entry)
{
    if (entry->state != DMC_ENTRY_FAILED)
        return false;
    enum damacy_status status = entry->error->status;
    return status == DAMACY_IO || status == DAMACY_OOM || status == DAMACY_BUDGET;
}

/* A batch begins, unless this one or a newer one has. */
static void advance_locked(struct dmc_prefetch_cache *cache, uint64_t batch)
{
    if (batch <= cache->batch_newest)
        return;
    cache->batch_newest = batch;
    cache->batch_bytes = 0;
}

static enum dmc_acquire acquire_locked(struct dmc_prefetch_cache *cache, uint64_t hash, const void *key, uint32_t key_bytes,
                                       uint64_t charge_bytes, uint64_t batch, struct dmc_prefetch_entry **out,
                                       struct dmc_prefetch_entry **victims)
{
    advance_locked(cache, batch);
    struct dmc_prefetch_entry *entry = look_up_locked(cache, hash, key, key_bytes);
    bool pinned = entry && !evictable_locked(cache, entry);
    bool ours = entry && entry->batch_last == cache->batch_newest && pinned;
    if (!ours) {
        if (charge_bytes > cache->bytes_max)
            return DMC_ACQUIRE_TOO_BIG;
        uint64_t taken_bytes = pinned ? cache->batch_bytes : cache->bytes - cache->evictable_bytes;
        if (taken_bytes > cache->bytes_max - charge_bytes)
            return DMC_ACQUIRE_FULL;
    }
    if (entry && (pinned || !may_pass(entry))) {
        if (!pinned)
            cache->evictable_bytes -= entry->charge_bytes;
        if (!ours)
            cache->batch_bytes += entry->charge_bytes;
        entry->batch_last = cache->batch_newest;
        if (cache->newest != entry || !cache->pinned_oldest) {
            list_remove_locked(cache, entry);
            list_push_locked(cache, entry);
        }
        cache->hits++;
        *out = entry;
        return DMC_ACQUIRE_FOUND;
    }
    /* Memory first: without it nothing is evicted. */
    struct dmc_prefetch_entry *made = dmc_malloc(sizeof *made + key_bytes + 1);
    if (!made)
        return DMC_ACQUIRE_OOM;
    if (entry) {
        take_out_locked(cache, entry);
        entry->lru_older = *victims;
        *victims = entry;
    }
    for (struct dmc_prefetch_entry *old = cache->oldest; cache->bytes > cache->bytes_max - charge_bytes;) {
        struct dmc_prefetch_entry *newer = old->lru_newer;
        if (evictable_locked(cache, old)) {
            take_out_locked(cache, old);
            old->lru_older = *victims;
            *victims = old;
        }
        old = newer;
    }
    if (cache->entry_count >= cache->bucket_count)
        grow_locked(cache);
    char *copy = (char *)(made + 1);
    memcpy(copy, key, key_bytes);
    copy[key_bytes] = 0;
    *made = (struct dmc_prefetch_entry){.state = DMC_ENTRY_FILLING,
                                        .batch_last = cache->batch_newest,
                                        .charge_bytes = charge_bytes,
                                        .hash = hash,
                                        .key = copy,
                                        .key_bytes = key_bytes};
    struct dmc_prefetch_entry **bucket = &cache->buckets[hash & (cache->bucket_count - 1)];
    made->bucket_next = *bucket;
    *bucket = made;
    list_push_locked(cache, made);
    cache->bytes += charge_bytes;
    cache->batch_bytes += charge_bytes;
    cache->entry_count++;
    cache->misses++;
    *out = made;
    return DMC_ACQUIRE_MADE;
}

enum dmc_acquire dmc_prefetch_cache_acquire(struct dmc_prefetch_cache *cache, const void *key, uint32_t key_bytes,
                                            uint64_t charge_bytes, uint64_t batch, struct dmc_prefetch_entry **entry)
{
    uint64_t hash = dmc_hash_bytes(key, key_bytes, 0);
    struct dmc_prefetch_entry *victims = NULL;
    dmc_mutex_lock(&cache->mutex);
    enum dmc_acquire result = acquire_locked(cache, hash, key, key_bytes, charge_bytes, batch, entry, &victims);
    dmc_mutex_unlock(&cache->mutex);
    free_entries(cache, victims);
    return result;
}

struct dmc_prefetch_entry *dmc_prefetch_cache_find(const struct dmc_prefetch_cache *cache, const void *key, uint32_t key_bytes)
{
    uint64_t hash = dmc_hash_bytes(key, key_bytes, 0);
    struct dmc_mutex *mutex = (struct dmc_mutex *)&cache->mutex; /* looking changes nothing but the lock */
    dmc_mutex_lock(mutex);
    struct dmc_prefetch_entry *entry = look_up_locked(cache, hash, key, key_bytes);
    dmc_mutex_unlock(mutex);
    return entry;
}

/* End a fill: the charge shrinks to what is held, and the entry may be evictable from now on. */
static void settle_locked(struct dmc_prefetch_cache *cache, struct dmc_prefetch_entry *entry, enum dmc_entry_state state,
                          uint64_t charge_bytes)
{
    assert(entry->state == DMC_ENTRY_FILLING && charge_bytes <= entry->charge_bytes);
    cache->bytes -= entry->charge_bytes - charge_bytes;
    if (entry->batch_last == cache->batch_newest)
        cache->batch_bytes -= entry->charge_bytes - charge_bytes;
    entry->charge_bytes = charge_bytes;
    entry->state = state;
    entry->fill = NULL;
    if (evictable_locked(cache, entry))
        cache->evictable_bytes += charge_bytes;
}

void dmc_prefetch_cache_finish(struct dmc_prefetch_cache *cache, struct dmc_prefetch_entry *entry, void *value,
                               uint64_t charge_bytes)
{
    dmc_mutex_lock(&cache->mutex);
    entry->value = value;
    settle_locked(cache, entry, DMC_ENTRY_READY, charge_bytes);
    dmc_mutex_unlock(&cache->mutex);
}

void dmc_prefetch_cache_fail(struct dmc_prefetch_cache *cache, struct dmc_prefetch_entry *entry,
                             const struct damacy_error *error)
{
    struct damacy_error *copy = dmc_malloc(sizeof *copy);
    if (copy)
        *copy = *error;
    dmc_mutex_lock(&cache->mutex);
    entry->error = copy ? copy : &error_oom;
    settle_locked(cache, entry, DMC_ENTRY_FAILED,
                  dmc_min_u64(entry->charge_bytes, dmc_prefetch_cache_held(entry->key_bytes, sizeof *copy)));
    dmc_mutex_unlock(&cache->mutex);
}

void dmc_prefetch_cache_watermark(struct dmc_prefetch_cache *cache, uint64_t batch)
{
    dmc_mutex_lock(&cache->mutex);
    if (batch > cache->watermark) {
        cache->watermark = batch;
        advance_locked(cache, batch);
        struct dmc_prefetch_entry *entry = cache->pinned_oldest;
        for (; entry && entry->batch_last < batch; entry = entry->lru_newer)
            if (entry->state != DMC_ENTRY_FILLING)
                cache->evictable_bytes += entry->charge_bytes;
        cache->pinned_oldest = entry;
    }
    dmc_mutex_unlock(&cache->mutex);
}

enum damacy_status dmc_prefetch_cache_refuse(const struct dmc_prefetch_cache *cache, const char *what, const char *stage,
                                             uint64_t charge_bytes, struct damacy_error *error)
{
    struct dmc_prefetch_cache_stats stats;
    dmc_prefetch_cache_stats_get(cache, &stats);
    if (charge_bytes > cache->bytes_max)
        dmc_error_set(error, DAMACY_BUDGET, stage, "%llu bytes for the %s alone exceed %s (%llu bytes)",
                      (unsigned long long)charge_bytes, what, cache->name, (unsigned long long)cache->bytes_max);
    else
        dmc_error_set(error, DAMACY_BUDGET, stage,
                      "the %s of one batch exceed %s (%llu bytes): the batch holds %llu, %llu more are needed", what,
                      cache->name, (unsigned long long)cache->bytes_max, (unsigned long long)stats.bytes_pinned,
                      (unsigned long long)charge_bytes);
    dmc_error_hint(error, "raise %s or make batches smaller", cache->name);
    return DAMACY_BUDGET;
}

void dmc_prefetch_cache_stats_get(const struct dmc_prefetch_cache *cache, struct dmc_prefetch_cache_stats *stats)
{
    struct dmc_mutex *mutex = (struct dmc_mutex *)&cache->mutex;
    dmc_mutex_lock(mutex);
    *stats = (struct dmc_prefetch_cache_stats){.hits = cache->hits,
                                               .misses = cache->misses,
                                               .evictions = cache->evictions,
                                               .bytes = cache->bytes,
                                               .bytes_pinned = cache->bytes - cache->evictable_bytes,
                                               .entries = cache->entry_count,
                                               .bytes_max = cache->bytes_max};
    dmc_mutex_unlock(mutex);
}
