/* A decoded chunk that is kept for batches which were pushed but have no slot yet. The planner, who knows what they will want,
 * asks the thread that decodes the chunk for a batch under way to copy it; when one of the later batches is planned the chunk
 * is there, and only its pieces are left to be written.
 *
 *     PENDING --taken--> WRITING --copied----> WHOLE
 *        |                  \-------failed---> NEVER
 *        \--the planner, or the thread, has no use for it--> NEVER
 *
 * Memory and range are the planner's. It takes them back (pipeline/kept_chunks.c) where nobody writes any more (WHOLE, NEVER,
 * or PENDING with a batch that is done) and nobody reads: `users` are batches that were planned with it and are not done. */
#ifndef DMC_KEPT_H
#define DMC_KEPT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { DMC_KEPT_PENDING, DMC_KEPT_WRITING, DMC_KEPT_WHOLE, DMC_KEPT_NEVER };

struct dmc_kept {
    uint8_t *memory; /* of the decoded bytes [begin, end) of the chunk */
    uint64_t begin;
    uint64_t end;
    _Atomic uint32_t state;
    _Atomic uint32_t users;
};

/* Who takes it fills it, and then says how that went. */
static inline bool dmc_kept_take(struct dmc_kept *kept)
{
    uint32_t pending = DMC_KEPT_PENDING;
    return atomic_compare_exchange_strong_explicit(&kept->state, &pending, DMC_KEPT_WRITING, memory_order_relaxed,
                                                   memory_order_relaxed);
}

static inline void dmc_kept_give(struct dmc_kept *kept, bool whole)
{
    /* Partner: dmc_kept_state. */
    atomic_store_explicit(&kept->state, whole ? DMC_KEPT_WHOLE : DMC_KEPT_NEVER, memory_order_release);
}

static inline uint32_t dmc_kept_state(const struct dmc_kept *kept)
{
    return atomic_load_explicit(&kept->state, memory_order_acquire);
}

/* Nobody wants it any more. false: too late, it is being filled or was. */
static inline bool dmc_kept_cancel(struct dmc_kept *kept)
{
    uint32_t pending = DMC_KEPT_PENDING;
    return atomic_compare_exchange_strong_explicit(&kept->state, &pending, DMC_KEPT_NEVER, memory_order_relaxed,
                                                   memory_order_relaxed);
}

/* A batch that uses it is planned, or is done. */
static inline void dmc_kept_use(struct dmc_kept *kept)
{
    atomic_fetch_add_explicit(&kept->users, 1, memory_order_relaxed);
}

static inline void dmc_kept_leave(struct dmc_kept *kept)
{
    atomic_fetch_sub_explicit(&kept->users, 1, memory_order_release); /* partner: dmc_kept_used */
}

static inline bool dmc_kept_used(const struct dmc_kept *kept)
{
    return atomic_load_explicit(&kept->users, memory_order_acquire) != 0;
}

#endif
