/* The ring of samples in push order, and the lookahead, which is the part of it that the prefetcher has not taken yet.
 *
 *        planned        resolved          taken            pushed
 *           |  to be planned |  being resolved |   lookahead   |
 *     ------+----------------+-----------------+---------------+------> ordinal (admit_seq)
 *
 * All four cursors only grow. `resolved` moves over a sample when it and all before it are resolved or failed: readiness is
 * handed on in push order, whatever finishes first. Fixed memory: slots, boxes and a byte ring for uris are made at init.
 *
 * Threads: everything here is guarded by the pipeline's lock, except that the members marked so of a slot belong to the
 * prefetcher from take to resolve, and to the planner from then until planned. */
#ifndef DMC_LOOKAHEAD_H
#define DMC_LOOKAHEAD_H

#include "base/budget.h"
#include "damacy/damacy.h"

struct dmc_prefetch_entry;

/* One field of a sample. */
struct dmc_slot_region {
    const char *uri; /* in the byte ring; valid until planned */
    uint32_t uri_bytes;
    uint64_t uri_hash;
    struct damacy_interval *aabb;     /* the field's rank of them; valid until planned */
    struct dmc_prefetch_entry *array; /* prefetcher's: set when resolved; pinned until planned */
};

struct dmc_sample_slot {
    uint64_t ordinal; /* position in push order: admit_seq */
    uint64_t batch_id;
    uint64_t tag;
    bool resolved;                   /* lock: the prefetcher is done with it, well or not */
    struct damacy_error *error;      /* prefetcher's: what failed (dmc_malloc'd, moved to the batch by the planner), or NULL */
    uint32_t error_field;            /* prefetcher's: the field that it is about */
    struct dmc_slot_region *regions; /* field_count of them */
};

struct dmc_lookahead {
    uint32_t capacity;          /* slots in the ring: constant */
    uint32_t lookahead_samples; /* bound of pushed - taken: constant */
    uint32_t field_count;
    uint64_t uri_capacity;
    uint64_t pushed, taken, resolved, planned; /* cursors */
    uint64_t uri_begin, uri_end;               /* byte ring cursors */
    struct dmc_sample_slot *slots;
    struct dmc_slot_region *regions;
    struct damacy_interval *boxes;
    uint32_t boxes_per_sample;
    char *uris;
    uint64_t *uri_marks; /* per slot: uri_end after it */
    uint64_t memory_bytes;
};

/* Bytes that init will take. */
uint64_t dmc_lookahead_memory(uint32_t lookahead_samples, uint32_t prefetch_samples, uint32_t field_count,
                              const uint32_t *ranks);

/* The ring has lookahead_samples + prefetch_samples slots and 128 uri bytes a slot, at least four of the longest uris a field.
 */
enum damacy_status dmc_lookahead_init(struct dmc_lookahead *lookahead, uint32_t lookahead_samples, uint32_t prefetch_samples,
                                      uint32_t field_count, const uint32_t *ranks, struct damacy_error *error);
void dmc_lookahead_deinit(struct dmc_lookahead *lookahead);

/* Is there room for one sample with uris of `uri_bytes` in all (zeros included)? */
bool dmc_lookahead_room(const struct dmc_lookahead *lookahead, uint64_t uri_bytes);
/* Copy a sample (checked, and there is room) into the next slot. */
void dmc_lookahead_push(struct dmc_lookahead *lookahead, const struct damacy_sample *sample, uint64_t batch_id);
/* Would the next one get a sample? */
bool dmc_lookahead_takeable(const struct dmc_lookahead *lookahead);
/* The next sample for the prefetcher, now its own. NULL: none, or prefetch_samples are taken and not yet planned. */
struct dmc_sample_slot *dmc_lookahead_take(struct dmc_lookahead *lookahead);
/* The prefetcher is done with a taken slot; moves `resolved` as far as it goes. */
void dmc_lookahead_resolve(struct dmc_lookahead *lookahead, struct dmc_sample_slot *slot);
/* The slot of an ordinal in [planned, pushed). */
struct dmc_sample_slot *dmc_lookahead_slot(const struct dmc_lookahead *lookahead, uint64_t ordinal);
/* The first `count` resolved samples are planned: their slots and uris are free. Errors must have been moved out. */
void dmc_lookahead_planned(struct dmc_lookahead *lookahead, uint64_t count);

#endif
