/* From one region to its pieces: walk the shards and chunks that its box touches, enter each chunk into the table, and note the
 * intersection as a touch of that chunk. */
#ifndef DMC_PIECES_H
#define DMC_PIECES_H

#include "plan/grid_walk.h"
#include "plan/plan_work.h"

/* Walk one region. A region that cannot be planned is reported through work->failure and leaves no touch behind.
 * work->touches and work->dims have room for it. false: the arena is short. */
bool dmc_pieces_of_region(struct dmc_plan_work *work, const struct dmc_plan_region *region);

/* At most how many dims one piece of a box with these extents has. */
uint32_t dmc_piece_dims_max(uint32_t rank, const uint64_t *extent);

/* Write the dims of an intersection, outermost first, and return their number (at least 1).
 *
 * extent, source_strides, target_strides   per axis; strides in bytes.
 * source_item, target_item                 bytes of an element.
 * Axes that are contiguous on both sides are merged, those of extent 1 dropped; the last dim steps through the target element
 * by element, so the last axis stays, with extent 1, where no other one does. */
uint32_t dmc_piece_dims(uint32_t rank, const uint64_t *extent, const uint64_t *source_strides, const uint64_t *target_strides,
                        uint32_t source_item, uint32_t target_item, struct dmc_piece_dim *dims);

#endif
