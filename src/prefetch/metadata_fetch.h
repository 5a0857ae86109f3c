/* What the prefetcher and the three users of prefetch_cache share: a fetch, which fills one cache entry.
 *
 *     begin --> START --(request done)--> next --> START ... --> ENDED (the entry is finished or failed)
 *
 * begin and next only say what to read; buffers, the budget, delays, and waking who waits are the prefetcher's (prefetcher.c).
 * All of this runs on the prefetcher's thread. Private to src/prefetch. */
#ifndef DMC_METADATA_FETCH_H
#define DMC_METADATA_FETCH_H

#include "base/selection.h"
#include "prefetch/prefetcher.h"

/* The order is that in which a sample passes them. */
enum dmc_metadata { DMC_METADATA_ARRAY, DMC_METADATA_INDEX, DMC_METADATA_LAYOUT, DMC_METADATA_COUNT };

enum dmc_fetch_step {
    DMC_FETCH_START, /* request.kind, request.offset, key and want_bytes say what to read */
    DMC_FETCH_ENDED
};

#define DMC_FETCH_PREFIX_BYTES (DAMACY_URI_BYTES_MAX + 1)

/* First try for a zarr.json: larger ones are rare and cost a second request. */
#define DMC_ARRAY_META_READ_BYTES 16384

/* Set aside for good, so that usual metadata can always be read and parsed, one at a time, however short the budget is. */
#define DMC_METADATA_READ_RESERVE DMC_ARRAY_META_READ_BYTES
#define DMC_METADATA_PARSE_RESERVE (UINT64_C(256) << 10)

struct dmc_fetch {
    struct dmc_request request; /* user points back to the fetch */
    /* the user of the cache */
    enum dmc_metadata metadata;
    struct dmc_prefetch_cache *cache;
    struct dmc_prefetch_entry *entry;
    const struct dmc_array *array; /* index, layout: pinned by the samples that wait */
    const char *uri;
    uint64_t want_bytes;   /* to read: the size of the buffer */
    uint64_t inside_count; /* index: chunks of the shard that the array reaches */
    uint32_t prefix_bytes; /* of key: the array's; an object's relative key begins one further */
    uint32_t root_bytes;   /* of key: the uri's own, from which messages tell the key */
    uint32_t attempt;      /* array: which object is being asked for, and how often */
    uint32_t tries;
    uint32_t steps;                 /* array: from group to group */
    bool guessed;                   /* array: a step was taken without metadata ... */
    bool careful;                   /* ... and none is any more, as the last try found nothing */
    struct dmc_selection selection; /* array: what is left of the uri's fragment */
    /* array: the twin, another object of the same node that is asked for at the same time. It has no reserve and no second try:
     * without memory it is not asked for, and what is not answered well is asked again by itself. */
    const char *twin_name; /* NULL: there is none */
    uint32_t twin_attempt;
    struct dmc_request twin; /* answered when the fetch's own request is */
    /* the prefetcher */
    struct iovec part;
    uint8_t *buffer;
    uint64_t buffer_bytes;
    bool buffer_reserved; /* counted by the reserve, not drawn from the budget */
    uint32_t pending;     /* requests: of the fetch itself, of its twin */
    struct iovec twin_part;
    uint8_t *twin_buffer;
    uint64_t twin_buffer_bytes;
    struct dmc_fetch *next; /* free, stalled or delayed */
    uint64_t due_ns;
    uint64_t *waiting; /* bit set of samples in work */
    /* large and rarely touched */
    struct damacy_error error;
    char key[DMC_FETCH_PREFIX_BYTES + 1 + DMC_ZARR_KEY_BYTES_MAX];
    char twin_key[DMC_FETCH_PREFIX_BYTES + 16];
};

/* Which format the arrays in a folder had: where v2 was seen its objects are asked for at once. Folders share places, so this
 * is a matter of speed only. */
#define DMC_FORMAT_HINTS 1024
struct dmc_format_hints {
    uint64_t folders[DMC_FORMAT_HINTS]; /* hash of store and folder; its last bit: v2 */
};

/* How long stored chunks of a kind (dtype, chunk shape, codecs) are, by the longest shards seen of late: with that many small
 * shards have their chunks read along with their index. Kinds share places, so this is a matter of speed only. */
#define DMC_CHUNK_SIZES 256
struct dmc_chunk_sizes {
    uint64_t kinds[DMC_CHUNK_SIZES]; /* hash; 0: free */
    uint64_t bytes[DMC_CHUNK_SIZES]; /* of a chunk, on average over a shard */
};

/* What fetches need of the prefetcher. */
struct dmc_fetch_env {
    struct dmc_stores *stores;
    struct dmc_budget *budget;
    uint64_t metadata_object_bytes_max;
    uint64_t parse_bytes;
    const struct dmc_prefetch_cache *shard_indices;
    struct dmc_format_hints *hints;
    struct dmc_chunk_sizes *chunk_sizes;
    uint64_t coalesce_gap_bytes; /* 0: as the store says */
};

/* Ask next for `bytes` of the object `name` of the fetch's array (name NULL: key is complete already). */
enum dmc_fetch_step dmc_fetch_ask(struct dmc_fetch *fetch, const char *name, enum dmc_range_kind kind, uint64_t offset,
                                  uint64_t bytes);
/* fetch->error is set: add where it happened and the stage, and fail the entry. A range of 0, 0 is none. */
enum dmc_fetch_step dmc_fetch_fail(struct dmc_fetch *fetch, uint64_t range_begin, uint64_t range_end);

/* --- array_meta_cache: uri -> struct dmc_array. The key is the uri. --- */
uint64_t dmc_array_meta_reserve(uint32_t uri_bytes);
enum dmc_fetch_step dmc_array_meta_begin(struct dmc_fetch *fetch, const struct dmc_fetch_env *env);
enum dmc_fetch_step dmc_array_meta_next(struct dmc_fetch *fetch, const struct dmc_fetch_env *env);
void dmc_array_meta_free(void *array);

/* --- shard_index_cache: (uri, metadata, shard coordinates) -> struct dmc_shard_index --- */
#define DMC_SHARD_INDEX_KEY_BYTES (DAMACY_URI_BYTES_MAX + 1 + 16 + DAMACY_RANK_MAX * 8)
/* The part of the key that all shards of an array share; returns its length. */
uint32_t dmc_shard_index_key_head(const struct dmc_array *array, uint8_t *key);
/* Complete the key behind its head; returns the whole length. */
uint32_t dmc_shard_index_key(const struct dmc_array *array, uint32_t head_bytes, const uint64_t *coordinates, uint8_t *key);
uint64_t dmc_shard_index_reserve(const struct dmc_array *array, uint32_t key_bytes);
/* `aabb`: the box of the sample that asks. Where it needs most of a shard that is short, a store that can is asked for the
 * chunks, too. */
enum dmc_fetch_step dmc_shard_index_begin(struct dmc_fetch *fetch, const struct dmc_fetch_env *env, const uint64_t *coordinates,
                                          const struct damacy_interval *aabb);
enum dmc_fetch_step dmc_shard_index_next(struct dmc_fetch *fetch, const struct dmc_fetch_env *env);
void dmc_shard_index_free(void *index);

/* --- chunk_layout_cache: uri -> struct dmc_chunk_layout. The key is the uri. --- */
uint64_t dmc_chunk_layout_reserve(uint32_t uri_bytes);
/* `aabb`: the box of the sample that asks; its first chunk is looked at. */
enum dmc_fetch_step dmc_chunk_layout_begin(struct dmc_fetch *fetch, const struct dmc_fetch_env *env,
                                           const struct damacy_interval *aabb);
enum dmc_fetch_step dmc_chunk_layout_next(struct dmc_fetch *fetch);
void dmc_chunk_layout_free(void *layout);

#endif
