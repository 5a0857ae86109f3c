/* The prefetcher from inside: what its thread owns. Private to src/prefetch.
 *
 *     prefetcher.c      create, destroy, the thread's loop, answers for the planner
 *     sample_stages.c   a sample's way through the stages, in push order
 *     metadata_fetch.c  one fetch from start to end: buffers, delays, who waits
 *
 * A sample in work has a number (seq: the order of taking) and the place seq % work_capacity. Its stages are those of enum
 * dmc_metadata; each stage has a cursor, the sample that may ask now:
 *
 *        oldest        next[LAYOUT]     next[INDEX]      next[ARRAY]     taken
 *     -----+-- waiting ----+--- waiting ----+--- waiting -----+--- to do ---+----> seq
 *
 * A sample passes a cursor when it has asked for all it needs of that stage, and enters the next stage when all of that has
 * come. */
#ifndef DMC_PREFETCHER_IMPL_H
#define DMC_PREFETCHER_IMPL_H

#include "base/thread.h"
#include "prefetch/metadata_fetch.h"

enum {
    DMC_STAGE_STARVED = DMC_METADATA_COUNT, /* failed, but there is no memory to say why: tried again later */
    DMC_STAGE_RESOLVED
};

struct dmc_sample_work {
    struct dmc_sample_slot *slot;
    uint8_t stage;             /* enum dmc_metadata, or one of those above */
    bool asked;                /* everything of this stage was asked for */
    bool fetch_failed;         /* something of this stage failed: look what, once all has come */
    enum damacy_status status; /* why field_end failed; OK: nothing has so far */
    uint32_t outstanding;      /* fetches it waits for */
    uint32_t field_end;        /* fields from here on do not matter any more: this one failed */
    uint64_t shards_asked;     /* of field field_end, when asking failed half way */
    struct damacy_error *error;
};

/* Where asking stands within the sample whose turn it is. */
struct dmc_stage_cursor {
    uint64_t seq;
    uint32_t field;
    bool inside;          /* INDEX: `shard` and the key's head are those of `field` */
    uint64_t shard_count; /* of this field, asked for so far */
    uint64_t shard[DAMACY_RANK_MAX];
    uint32_t head_bytes;
    uint8_t key[DMC_SHARD_INDEX_KEY_BYTES];
};

struct dmc_fetch_list {
    struct dmc_fetch *first, *last;
    uint32_t count;
};

struct dmc_prefetcher {
    /* constant */
    struct dmc_prefetcher_options options; /* its pointers: `ranks` is ours, sample_shapes is not kept */
    uint32_t *ranks;
    struct dmc_prefetcher_hooks hooks;
    struct dmc_fetch_env env;
    struct dmc_prefetch_cache *caches[DMC_METADATA_COUNT];
    uint64_t memory_bytes; /* drawn from the budget */
    pthread_t thread;
    /* shared, by wake_mutex: a leaf, since wake may hold the owner's lock */
    struct dmc_mutex wake_mutex;
    struct dmc_io *wake_io; /* the thread's `io`; NULL once the thread is about to end */
    /* shared: atomics. stop pairs with the thread's check; the counters with nothing, they are only read for stats */
    _Atomic bool stop;
    _Atomic uint64_t stop_deadline_ns; /* for the reads that hang; written before stop */
    _Atomic uint64_t samples, metadata_bytes, busy_ns;
    /* the thread's; the owner's again once it is joined */
    struct dmc_io *io;
    bool io_stuck;
    uint64_t watermark;
    uint64_t batch_newest;  /* taken so far */
    uint64_t oldest, taken; /* seq */
    uint32_t work_capacity;
    struct dmc_sample_work *works;
    struct dmc_stage_cursor cursors[DMC_METADATA_COUNT];
    uint32_t starved_count;
    uint32_t fetch_count;
    struct dmc_fetch *fetches;
    uint64_t *waiting_words;
    uint32_t waiting_word_count; /* a fetch */
    struct dmc_fetch_list free, stalled, delayed;
    bool reserve_taken;                   /* a fetch reads into DMC_METADATA_READ_RESERVE */
    uint32_t filling[DMC_METADATA_COUNT]; /* fetches in use, by cache */
    struct dmc_format_hints hints;
    struct dmc_chunk_sizes chunk_sizes;
    struct damacy_error error; /* scratch */
};

/* --- metadata_fetch.c --- */

/* Run a fetch as far as it goes now. */
void dmc_fetch_run(struct dmc_prefetcher *prefetcher, struct dmc_fetch *fetch, enum dmc_fetch_step step);
/* One of its requests is done. */
void dmc_fetch_done(struct dmc_prefetcher *prefetcher, struct dmc_fetch *fetch);
/* Go on with those whose delay is over, and those that waited for memory. */
void dmc_fetch_run_delayed(struct dmc_prefetcher *prefetcher);
void dmc_fetch_run_stalled(struct dmc_prefetcher *prefetcher);
struct dmc_fetch *dmc_fetch_pop(struct dmc_fetch_list *list);
void dmc_fetch_push(struct dmc_fetch_list *list, struct dmc_fetch *fetch);
/* Let go of the buffer. */
void dmc_fetch_drop_buffer(struct dmc_prefetcher *prefetcher, struct dmc_fetch *fetch);

/* --- sample_stages.c --- */

bool dmc_stages_room(const struct dmc_prefetcher *prefetcher);
void dmc_stages_admit(struct dmc_prefetcher *prefetcher, struct dmc_sample_slot *slot);
/* Let every stage ask for what it may. */
void dmc_stages_pump(struct dmc_prefetcher *prefetcher);
/* A fetch that the sample at this place waited for has ended. */
void dmc_stages_wake(struct dmc_prefetcher *prefetcher, uint32_t place, bool failed);
/* Ask the owner for the watermark; true: it moved. */
bool dmc_stages_watermark(struct dmc_prefetcher *prefetcher);

static inline bool dmc_prefetcher_stopping(struct dmc_prefetcher *prefetcher)
{
    return atomic_load_explicit(&prefetcher->stop, memory_order_acquire);
}

#endif
