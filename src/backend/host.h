/* A chunk that several batches under way want is read and decoded once: by the oldest, its host. What the later ones want of it
 * are its guests.
 *
 *     host    OPEN (a list of guests, mostly empty) --about to be used--> CLOSED
 *
 *     guest   submit --host OPEN--> on its list --decoded, or absent--> its pieces are written, too: finished
 *                \--CLOSED--> stray  <--failed----/
 *                             a stray's read is started by the next thread that starts anything, as if it had always been a
 *                             task of its own batch: then its bytes, its errors and its time are its own
 *
 * Whoever uses a host's chunk closes it with one exchange, and thereby owns the list. The rest follows from the order in which
 * things end, without counting or locking:
 *
 * - A guest is one of the things that its batch waits for. So its batch, with the arena where the guest lies, is there until it
 *   has been finished; who finishes it looks at it no more.
 * - A host that is OPEN has not been used, so its batch is not done either, and all that it points to is there. A host that is
 *   CLOSED is memory and nothing else: plans of batches are in their slots' arenas, which only the thread that submits writes
 *   anew, and it does not do so between looking for a host and submitting the guest.
 * - Equal addresses are the same array (plan/host_table.h): both batches hold it, the guest's since it was planned, the host's
 *   until it is done. If the host's was done already, its array may have made room for another one at the same place; but then
 *   it is CLOSED.
 * - A guest waits for an older batch only, and no thread ever waits for a guest: so whatever lets the oldest batch go on lets
 *   all go on. */
#ifndef DMC_HOST_H
#define DMC_HOST_H

#include "backend/backend.h"
#include "backend/kept.h"
#include "base/thread.h"

struct dmc_guest {
    struct dmc_guest *next; /* of whoever has it: a host, the strays, the thread that finishes it */
    struct dmc_backend_batch *batch;
    uint32_t read; /* of its batch's plan: that of its one chunk */
};

/* Zeroed: OPEN, without guests. */
struct dmc_host {
    struct dmc_guest *_Atomic guests;
    struct dmc_kept *_Atomic kept; /* to be filled when the chunk is decoded; NULL: nobody asked before it was used. Set by the
                                    * planner, once, before the batch is submitted or while it runs */
};

#define DMC_HOST_CLOSED ((struct dmc_guest *)1)

static inline bool dmc_host_open(const struct dmc_host *host)
{
    return atomic_load_explicit(&host->guests, memory_order_relaxed) != DMC_HOST_CLOSED;
}

/* false: too late. */
static inline bool dmc_host_enter(struct dmc_host *host, struct dmc_guest *guest)
{
    guest->next = atomic_load_explicit(&host->guests, memory_order_relaxed);
    do {
        if (guest->next == DMC_HOST_CLOSED)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&host->guests, &guest->next, guest, memory_order_release,
                                                    memory_order_relaxed)); /* partner: dmc_host_close */
    return true;
}

/* NULL: the chunk is none that others may have. */
static inline struct dmc_host *dmc_host_of(const struct dmc_backend_batch *batch, const struct dmc_chunk *chunk)
{
    if (!batch->hosts || chunk->array->raw || chunk->read >= batch->plan.guest_begin)
        return NULL;
    return &batch->hosts[chunk - batch->plan.chunks];
}

/* Guests of a chunk, which are the caller's from now on. */
static inline struct dmc_guest *dmc_host_close(const struct dmc_backend_batch *batch, const struct dmc_chunk *chunk)
{
    struct dmc_host *host = dmc_host_of(batch, chunk);
    return host ? atomic_exchange_explicit(&host->guests, DMC_HOST_CLOSED, memory_order_acquire) : NULL;
}

/* What the decoded chunk is to be copied into, for who fills it; NULL: nothing, or not any more. Once for a chunk, which must
 * be closed. */
static inline struct dmc_kept *dmc_host_kept(const struct dmc_backend_batch *batch, const struct dmc_chunk *chunk)
{
    struct dmc_host *host = dmc_host_of(batch, chunk);
    struct dmc_kept *kept = host ? atomic_load_explicit(&host->kept, memory_order_acquire) : NULL; /* partner: the planner */
    return kept && dmc_kept_take(kept) ? kept : NULL;
}

/* Guests without a host, oldest first; they begin and end with the backend. */
struct dmc_strays {
    struct dmc_mutex lock;
    struct dmc_guest *shared_first DMC_GUARDED_BY(lock);
    struct dmc_guest *shared_last DMC_GUARDED_BY(lock);
    _Atomic bool some; /* a hint: who sees it late was woken, or comes by again. Nothing is published with it */
};

static inline void dmc_stray_add(struct dmc_strays *strays, struct dmc_guest *guest)
{
    guest->next = NULL;
    dmc_mutex_lock(&strays->lock);
    if (strays->shared_first)
        strays->shared_last->next = guest;
    else
        strays->shared_first = guest;
    strays->shared_last = guest;
    atomic_store_explicit(&strays->some, true, memory_order_relaxed);
    dmc_mutex_unlock(&strays->lock);
}

/* NULL: there is none. */
static inline struct dmc_guest *dmc_stray_take(struct dmc_strays *strays)
{
    if (!atomic_load_explicit(&strays->some, memory_order_relaxed))
        return NULL;
    dmc_mutex_lock(&strays->lock);
    struct dmc_guest *guest = strays->shared_first;
    if (guest)
        strays->shared_first = guest->next;
    atomic_store_explicit(&strays->some, strays->shared_first != NULL, memory_order_relaxed);
    dmc_mutex_unlock(&strays->lock);
    return guest;
}

#endif
