#include "plan/grid_walk.h"

#include <assert.h>

static inline uint64_t cell_of(uint64_t position, uint64_t cell)
{
    return position < cell ? 0 : position / cell;
}

void dmc_grid_walk_init(struct dmc_grid_walk *walk, uint32_t rank, const uint64_t *begin, const uint64_t *extent,
                        const uint64_t *cell)
{
    assert(rank >= 1 && rank <= DAMACY_RANK_MAX);
    walk->rank = rank;
    walk->cell = cell;
    walk->box_extent = extent;
    for (uint32_t a = 0; a < rank; a++) {
        assert(extent[a] >= 1 && cell[a] >= 1);
        walk->first[a] = cell_of(begin[a], cell[a]);
        walk->last[a] = cell_of(begin[a] + (extent[a] - 1), cell[a]);
        walk->first_local[a] = begin[a] - walk->first[a] * cell[a];
        walk->at[a] = walk->first[a];
        walk->local_begin[a] = walk->first_local[a];
        walk->extent[a] = dmc_min_u64(cell[a] - walk->first_local[a], extent[a]);
        walk->target[a] = 0;
    }
}

bool dmc_grid_walk_count(uint32_t rank, const uint64_t *begin, const uint64_t *extent, const uint64_t *cell, uint64_t *count)
{
    *count = 1;
    for (uint32_t a = 0; a < rank; a++) {
        uint64_t cells = cell_of(begin[a] + (extent[a] - 1), cell[a]) - cell_of(begin[a], cell[a]) + 1;
        if (!dmc_mul_u64(*count, cells, count))
            return false;
    }
    return true;
}
