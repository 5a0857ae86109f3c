/* Decoded chunks that are kept for batches to come: who wants them is known, since samples are pushed long before there is a
 * slot for their batch.
 *
 *     preview of a batch    dmc_kept_chunks_want     it will want this chunk
 *     plan of an earlier    dmc_kept_chunks_make     memory for a chunk that it decodes and a later one wants
 *     a worker              (backend/kept.h)         copies the chunk there once it is decoded
 *     plan of the batch     dmc_kept_chunks_find     the chunk is there: nothing to read or decode
 *                           dmc_kept_chunks_planned  forgets its wishes, and what nobody wants any more
 *
 * Crops drawn at random from few arrays, or tiles that overlap, meet in the same chunks again and again, mostly in batches that
 * are further apart than there are slots. Every wish is a certain batch's, so what is kept is used, and then its room is free
 * again; nothing is kept on the chance that somebody may come. Where the memory is full wishes go without, which costs what it
 * would have cost without all this.
 *
 * The planner's own: one call at a time. Workers see struct dmc_kept and nothing else. */
#ifndef DMC_KEPT_CHUNKS_H
#define DMC_KEPT_CHUNKS_H

#include "backend/kept.h"
#include "plan/plan.h"
#include "prefetch/prefetcher.h"

struct dmc_kept_chunks;

/* With less, tables and all, nothing is kept. */
#define DMC_KEPT_CHUNKS_LEAST (4ull << 20)

/* `bytes`: of all of it, tables and chunks, touched as they are needed; 0, or at least DMC_KEPT_CHUNKS_LEAST. *chunks becomes
 * NULL for 0, and then there is nothing to call but destroy. OK or OOM. */
enum damacy_status dmc_kept_chunks_create(uint64_t bytes, struct dmc_kept_chunks **chunks, struct damacy_error *error);
/* Nobody uses any of them any more. */
void dmc_kept_chunks_destroy(struct dmc_kept_chunks *chunks);

/* Batch `batch_id` will want the chunk; it is none before those that wanted one so far. Where the table is full that is
 * forgotten. */
void dmc_kept_chunks_want(struct dmc_kept_chunks *chunks, uint64_t batch_id, const struct dmc_chunk_ask *ask);

/* Will a batch that comes before `batch_id`, and is not planned yet, decode the chunk and then leave it, as there is room? */
bool dmc_kept_chunks_expected(const struct dmc_kept_chunks *chunks, uint64_t batch_id, const struct dmc_chunk_ask *ask);

/* All that is asked for is there, or with `coming` is going to be; NULL: it is not. */
struct dmc_kept *dmc_kept_chunks_find(const struct dmc_kept_chunks *chunks, const struct dmc_chunk_ask *ask, bool coming);

/* Room for a chunk that batch `maker` decodes, as long as all later ones want of it; `own` is what the maker itself asks for,
 * and `array` the one of `own`. A smaller room for the same chunk, if nobody has begun to fill it, is given up. NULL: nobody
 * wants it or there is no room, or a decoder that picks blocks would do more work for both than for each alone. */
struct dmc_kept *dmc_kept_chunks_make(struct dmc_kept_chunks *chunks, uint64_t maker, const struct dmc_chunk_ask *own,
                                      bool picks, struct dmc_array *array);

/* Batches up to `batch_id` are planned; those before `oldest` are done. */
void dmc_kept_chunks_planned(struct dmc_kept_chunks *chunks, uint64_t batch_id, uint64_t oldest);

/* Bytes that it has touched so far, at most. Any thread. */
uint64_t dmc_kept_chunks_bytes(const struct dmc_kept_chunks *chunks);

#endif
