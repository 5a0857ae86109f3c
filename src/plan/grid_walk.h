/* Which cells of a grid a box touches, and where they meet: an odometer over the cells in C order.
 *
 *     cells    |0        |1        |2        |3     ...      begin 7, extent 20, cell 10: cells 0, 1, 2
 *     box             [====================)                 local_begin 7, 0, 0   extent 3, 10, 7   target 0, 3, 13
 *
 * Used twice by the planner: shards in the array, then chunks in the shard. Positions stay below 2^63 and the box is inside the
 * array, so nothing here overflows; a cell may be as long as 2^64-1. Divisions happen only in init, and only along axes where
 * the box is not inside the first cell: they were most of the time of a walk over unsharded chunks.
 *
 * Along some axes of a rectilinear grid cells differ in length, and lie where a list of edges says; there init searches the
 * list by halving. */
#ifndef DMC_GRID_WALK_H
#define DMC_GRID_WALK_H

#include "base/bytes.h"
#include "damacy/damacy.h"

struct dmc_grid_walk {
    /* constant after init */
    uint32_t rank;
    const uint64_t *cell;
    const uint64_t *const *edges; /* NULL: cells are alike along all axes */
    const uint64_t *box_extent;
    uint64_t first[DAMACY_RANK_MAX]; /* cell coordinates, both ends included */
    uint64_t last[DAMACY_RANK_MAX];
    uint64_t first_local[DAMACY_RANK_MAX]; /* of the box within the first cell */
    uint64_t first_extent[DAMACY_RANK_MAX];
    /* the present cell */
    uint64_t at[DAMACY_RANK_MAX];          /* its coordinates */
    uint64_t local_begin[DAMACY_RANK_MAX]; /* the intersection, from the cell's begin */
    uint64_t extent[DAMACY_RANK_MAX];
    uint64_t target[DAMACY_RANK_MAX]; /* the intersection, from the box's begin */
};

/* Stand on the first cell. `begin`, `extent` (each at least 1), `cell` and, unless they are NULL, `edges` and `edge_counts` (as
 * in struct dmc_zarr_array) have `rank` elements; extent, cell and edges must outlive the walk. */
void dmc_grid_walk_init(struct dmc_grid_walk *walk, uint32_t rank, const uint64_t *begin, const uint64_t *extent,
                        const uint64_t *cell, const uint64_t *const *edges, const uint32_t *edge_counts);

/* How many cells a box touches; false when the number does not fit. */
bool dmc_grid_walk_count(uint32_t rank, const uint64_t *begin, const uint64_t *extent, const uint64_t *cell,
                         const uint64_t *const *edges, const uint32_t *edge_counts, uint64_t *count);

/* How long the cell at these coordinates is along an axis. */
static inline uint64_t dmc_grid_cell(const uint64_t *cell, const uint64_t *const *edges, const uint64_t *at, uint32_t axis)
{
    if (__builtin_expect(edges != NULL, 0) && edges[axis])
        return edges[axis][at[axis] + 1] - edges[axis][at[axis]];
    return cell[axis];
}

/* Go to the next cell in C order; false after the last. */
static inline bool dmc_grid_walk_next(struct dmc_grid_walk *walk)
{
    for (uint32_t a = walk->rank; a-- > 0;) {
        if (walk->at[a] < walk->last[a]) {
            walk->at[a]++;
            walk->target[a] += walk->extent[a];
            walk->local_begin[a] = 0;
            walk->extent[a] =
                dmc_min_u64(dmc_grid_cell(walk->cell, walk->edges, walk->at, a), walk->box_extent[a] - walk->target[a]);
            return true;
        }
        walk->at[a] = walk->first[a];
        walk->target[a] = 0;
        walk->local_begin[a] = walk->first_local[a];
        walk->extent[a] = walk->first_extent[a];
    }
    return false;
}

#endif
