/* Claiming tasks: the ring of submitted batches, shared by all threads of a backend. A batch's tasks are its plan's reads but
 * for those of guests, then its kept chunks, then groups of its absent chunks. Claiming one is one atomic add; oldest batch
 * first. */
#ifndef DMC_CLAIM_H
#define DMC_CLAIM_H

#include "backend/backend.h"

struct dmc_claim_ring {
    uint32_t capacity;                          /* most batches submitted and not done */
    struct dmc_backend_batch *_Atomic *batches; /* by submission number */
    _Atomic uint64_t submitted;                 /* release by submit, acquire by claim */
};

/* How many absent chunks make one task: filling one takes about as long as claiming it. */
#define DMC_FILLS_PER_TASK 8u

static inline uint32_t dmc_claim_tasks(const struct dmc_plan *plan)
{
    return plan->guest_begin + plan->read_count - plan->kept_begin +
           (plan->chunk_count - plan->absent_begin + DMC_FILLS_PER_TASK - 1) / DMC_FILLS_PER_TASK;
}

/* Before anything of a batch may be finished. `guests`: what must be finished beside its tasks. */
static inline void dmc_claim_begin(struct dmc_backend_batch *batch, uint32_t tasks, uint32_t guests)
{
    atomic_store_explicit(&batch->remaining, tasks + guests, memory_order_relaxed);
    atomic_store_explicit(&batch->reads, batch->plan.guest_begin, memory_order_relaxed);
    atomic_store_explicit(&batch->begin_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&batch->claim, (uint64_t)tasks << 32, memory_order_release); /* partner: dmc_claim_task */
}

/* Publish a batch that has begun, and has at least one task. One thread at a time. */
static inline void dmc_claim_publish(struct dmc_claim_ring *ring, struct dmc_backend_batch *batch)
{
    uint64_t number = atomic_load_explicit(&ring->submitted, memory_order_relaxed);
    atomic_store_explicit(&ring->batches[number % ring->capacity], batch, memory_order_release);
    atomic_store_explicit(&ring->submitted, number + 1, memory_order_release);
}

/* How many reads of a batch one thread has under way over a network. */
struct dmc_claim_share {
    const struct dmc_backend_batch *batch;
    uint32_t reads;
};

/* One of the threads that claim; its own. `shares` has room for each batch of the ring. */
struct dmc_claimant {
    uint64_t cursor; /* submitted batches before it have no task left */
    struct dmc_claim_share *shares;
    uint32_t share_count;
};

/* A read was started that a server will answer, which the thread will finish. */
static inline void dmc_claim_share_add(struct dmc_claimant *claimant, const struct dmc_backend_batch *batch)
{
    uint32_t i = 0;
    while (i < claimant->share_count && claimant->shares[i].batch != batch)
        i++;
    if (i == claimant->share_count)
        claimant->shares[claimant->share_count++] = (struct dmc_claim_share){batch, 0};
    claimant->shares[i].reads++;
}

/* It is back. */
static inline void dmc_claim_share_remove(struct dmc_claimant *claimant, const struct dmc_backend_batch *batch)
{
    uint32_t i = 0;
    while (claimant->shares[i].batch != batch)
        i++;
    if (--claimant->shares[i].reads == 0)
        claimant->shares[i] = claimant->shares[--claimant->share_count];
}

/* Starting a read of a server takes microseconds, decoding what it answers a hundred times as long; whoever starts it does
 * both. So the first thread to see a new batch would start all of it, and then decode it alone. `threads` of them leave each
 * other an equal share of the reads, and look again when they have finished theirs. Other tasks are done when they are claimed,
 * and anyone's. */
static inline bool dmc_claim_share_full(const struct dmc_claimant *claimant, const struct dmc_backend_batch *batch,
                                        uint64_t reads, uint32_t threads)
{
    for (uint32_t i = 0; i < claimant->share_count; i++)
        if (claimant->shares[i].batch == batch)
            return claimant->shares[i].reads >= (reads + threads - 1) / threads;
    return false;
}

/* The oldest task that nobody has, of the batches of which the claimant may take more. `threads`: all that claim. The ring
 * entry of a batch that is long over may name a newer one: a claim on that is as good. */
static inline bool dmc_claim_task(struct dmc_claim_ring *ring, struct dmc_claimant *claimant, uint32_t threads,
                                  struct dmc_backend_batch **batch, uint32_t *task)
{
    uint64_t submitted = atomic_load_explicit(&ring->submitted, memory_order_acquire);
    if (submitted - claimant->cursor > ring->capacity)
        claimant->cursor = submitted - ring->capacity;
    for (uint64_t number = claimant->cursor; number < submitted; number++) {
        struct dmc_backend_batch *candidate =
            atomic_load_explicit(&ring->batches[number % ring->capacity], memory_order_acquire);
        uint64_t word = atomic_load_explicit(&candidate->claim, memory_order_relaxed);
        if ((uint32_t)word >= word >> 32) {
            claimant->cursor += number == claimant->cursor;
            continue;
        }
        uint32_t reads = atomic_load_explicit(&candidate->reads, memory_order_relaxed);
        if ((uint32_t)word < reads && dmc_claim_share_full(claimant, candidate, reads, threads))
            continue;
        /* Partner: the store in dmc_claim_publish. */
        word = atomic_fetch_add_explicit(&candidate->claim, 1, memory_order_acquire);
        if ((uint32_t)word >= word >> 32)
            continue;
        *batch = candidate;
        *task = (uint32_t)word;
        return true;
    }
    return false;
}

/* When the reading of the batch began: now, if nobody was quicker. For dmc_request.begin_ns. */
static inline uint64_t dmc_batch_begin(struct dmc_backend_batch *batch, uint64_t now_ns)
{
    uint64_t begin_ns = atomic_load_explicit(&batch->begin_ns, memory_order_relaxed);
    if (begin_ns == 0 && atomic_compare_exchange_strong_explicit(&batch->begin_ns, &begin_ns, now_ns, memory_order_relaxed,
                                                                 memory_order_relaxed))
        return now_ns;
    return begin_ns;
}

/* The request for a read of the batch's plan, into one part; `now_ns` is the time. */
static inline void dmc_batch_request(struct dmc_backend_batch *batch, const struct dmc_read *read, struct iovec *part,
                                     struct damacy_error *error, uint64_t now_ns, void *user, struct dmc_request *request)
{
    const struct dmc_backend_array *array = batch->plan.objects[read->object].array->user;
    *request = (struct dmc_request){
        .store = array->store,
        .key = batch->objects[read->object].key,
        .key_hash = batch->objects[read->object].key_hash,
        .kind = read->whole ? DMC_RANGE_WHOLE : DMC_RANGE_SPAN,
        .offset = read->offset,
        .parts = part,
        .part_count = 1,
        .error = error,
        .begin_ns = dmc_batch_begin(batch, now_ns),
        .user = user,
    };
}

#endif
