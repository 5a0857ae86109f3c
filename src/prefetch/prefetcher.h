/* The prefetcher: the metadata stage, on a thread of its own. Takes samples from the lookahead in push order and resolves what
 * each field needs: array metadata, then the shard indices that its box touches, then (only if asked) the chunk layout.
 *
 * Requests of one stage are issued strictly in push order, so what is pinned in a cache when a sample finds it full belongs to
 * its own batch or older ones: if its batch is the oldest unplanned one, the batch alone exceeds the cache and that is BUDGET
 * for the sample; otherwise it waits for the watermark. Fetches overlap and finish in any order; readiness is handed on by the
 * ring.
 *
 * A sample is resolved only when all its fetches have ended, also those that no longer matter: then the error that is lowest in
 * (field, shard) order is known whatever came first, and nothing below the watermark is still being filled.
 *
 * Its reads go through a dmc_io of its own, so metadata never queue behind bulk reads. */
#ifndef DMC_PREFETCHER_H
#define DMC_PREFETCHER_H

#include "base/budget.h"
#include "codec/blosc_layout.h"
#include "codec/codec.h"
#include "prefetch/lookahead.h"
#include "prefetch/prefetch_cache.h"
#include "store/store.h"
#include "zarr/shard_index.h"
#include "zarr/zarr_array.h"

/* Value of an array_meta_cache entry. Counted: the cache holds one reference, each plan that uses the array another. */
struct dmc_array {
    _Atomic uint32_t references;
    struct dmc_zarr_array *zarr;
    struct dmc_codec_chain *chain;
    struct dmc_store *store;
    const char *uri;          /* as pushed: for messages */
    const char *prefix;       /* key of the array in its store; an object's key is prefix, '/', chunk key */
    const char *metadata_key; /* of its zarr.json or .zarray, from the uri on: "zarr.json", "0/.zarray" */
    uint32_t uri_bytes;
    uint32_t prefix_bytes;
    uint32_t root_bytes;  /* of prefix: what the uri names; the rest is where a group there led to */
    uint64_t fingerprint; /* of the metadata's text: an index read for other metadata is never used for these */
    uint64_t memory_bytes;
};
void dmc_array_retain(struct dmc_array *array);
void dmc_array_release(struct dmc_array *array);

/* Value of a shard_index_cache entry: one entry for each inner chunk, or absent as a whole. */
struct dmc_shard_index {
    bool absent;
    uint64_t object_bytes; /* of the shard; UINT64_MAX: unknown */
    uint64_t version_tag;
    struct dmc_shard_entry entries[];
};

/* Value of a chunk_layout_cache entry. Chunks of one array may differ: a hint for sizing, every chunk's own header rules. It is
 * that of a chunk near the first sample that asked; one that cannot be had is no failure, since reading the chunks will tell.
 */
struct dmc_chunk_layout {
    bool known; /* false: not blosc, or the chunk is absent or unreadable */
    struct dmc_blosc_layout blosc;
};

struct dmc_prefetcher_options {
    uint32_t field_count;
    const uint32_t *ranks;               /* of the fields */
    const int64_t *const *sample_shapes; /* of the fields */
    uint32_t prefetch_samples;           /* most samples taken and not yet resolved; 0: 256 */
    uint32_t reads_in_flight;            /* 0: 1 */
    bool io_uring_never;
    bool want_layout; /* the backend asks for chunk layouts */
    uint64_t array_meta_cache_bytes, shard_index_cache_bytes, chunk_layout_cache_bytes;
    uint64_t metadata_object_bytes_max;
    uint64_t parse_bytes;        /* transient memory of a parse, beyond a fixed reserve; the caller has set it aside */
    uint64_t coalesce_gap_bytes; /* to be read in vain where that saves a request; 0: as the store says */
    uint32_t latency_ns;         /* injected into every metadata request, for measuring; 0: none */
};

/* What the prefetcher asks of its owner. All are called on the prefetcher's thread and may take the owner's lock. */
struct dmc_prefetcher_hooks {
    void *user;
    struct dmc_sample_slot *(*take)(void *user);                /* next sample, or NULL when the lookahead is empty */
    void (*resolved)(void *user, struct dmc_sample_slot *slot); /* slot->error or its regions' arrays are set */
    uint64_t (*watermark)(void *user);                          /* the oldest batch_id not yet planned */
};

struct dmc_prefetcher;

/* Bytes of its own fixed structures (samples in work, requests), which create draws from the budget; without the caches. */
uint64_t dmc_prefetcher_memory(const struct dmc_prefetcher_options *options);
/* What should be left free in the budget for transient read buffers and parsing, so that usual metadata flow at full depth. */
uint64_t dmc_prefetcher_memory_transient(const struct dmc_prefetcher_options *options);

/* Make it and start its thread. `stores` and `budget` are borrowed. The fixed structures and the transient read buffers are
 * drawn from the budget; the caches' bounds were reserved by the caller. */
enum damacy_status dmc_prefetcher_create(const struct dmc_prefetcher_options *options, const struct dmc_prefetcher_hooks *hooks,
                                         struct dmc_stores *stores, struct dmc_budget *budget,
                                         struct dmc_prefetcher **prefetcher, struct damacy_error *error);

/* There is a new sample, or the watermark moved. Any thread, may hold the owner's lock. */
void dmc_prefetcher_wake(struct dmc_prefetcher *prefetcher);

/* The same from one of its hooks: it will not wait before it has looked. */
void dmc_prefetcher_again(struct dmc_prefetcher *prefetcher);

/* Ask it to stop; any thread. It calls no hook after it has noticed. */
void dmc_prefetcher_stop(struct dmc_prefetcher *prefetcher);
/* Stop, join and free; false if its thread is stuck in the kernel at the deadline: then it is left behind, whole. */
bool dmc_prefetcher_destroy(struct dmc_prefetcher *prefetcher, uint64_t deadline_ns);

/* For the planner, any thread, about samples that are resolved and not yet planned. */
struct dmc_array *dmc_prefetcher_array(const struct dmc_slot_region *region);
/* The index of a shard that a resolved sample touches; never NULL for those. `error`: why it could not be had, else NULL. */
const struct dmc_shard_index *dmc_prefetcher_shard(const struct dmc_prefetcher *prefetcher, const struct dmc_array *array,
                                                   const uint64_t *coordinates, const struct damacy_error **error);
/* The layout of an array, if asked for; NULL otherwise. */
const struct dmc_chunk_layout *dmc_prefetcher_layout(const struct dmc_prefetcher *prefetcher, const struct dmc_array *array);

struct dmc_prefetcher_stats {
    struct dmc_prefetch_cache_stats array_meta, shard_index, chunk_layout;
    uint64_t samples, metadata_bytes, busy_ns;
};
void dmc_prefetcher_stats_get(const struct dmc_prefetcher *prefetcher, struct dmc_prefetcher_stats *stats);

#endif
