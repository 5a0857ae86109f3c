#include "plan/grid_walk.h"

#include <assert.h>

static inline uint64_t cell_of(uint64_t position, uint64_t cell)
{
    return position < cell ? 0 : position / cell;
}

/* The last edge that is not behind `position`. */
static uint64_t edge_before(const uint64_t *edges, uint32_t count, uint64_t position)
{
    uint64_t low = 0, high = count;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (edges[middle] <= position)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void dmc_grid_walk_init(struct dmc_grid_walk *walk, uint32_t rank, const uint64_t *begin, const uint64_t *extent,
                        const uint64_t *cell, const uint64_t *const *edges, const uint32_t *edge_counts)
{
    assert(rank >= 1 && rank <= DAMACY_RANK_MAX);
    walk->rank = rank;
    walk->cell = cell;
    walk->edges = edges;
    walk->box_extent = extent;
    for (uint32_t a = 0; a < rank; a++) {
        assert(extent[a] >= 1 && cell[a] >= 1);
        uint64_t length = cell[a];
        if (__builtin_expect(edges != NULL, 0) && edges[a]) {
            walk->first[a] = edge_before(edges[a], edge_counts[a], begin[a]);
            walk->last[a] = edge_before(edges[a], edge_counts[a], begin[a] + (extent[a] - 1));
            walk->first_local[a] = begin[a] - edges[a][walk->first[a]];
            length = edges[a][walk->first[a] + 1] - edges[a][walk->first[a]];
        } else {
            walk->first[a] = cell_of(begin[a], cell[a]);
            walk->last[a] = cell_of(begin[a] + (extent[a] - 1), cell[a]);
            walk->first_local[a] = begin[a] - walk->first[a] * cell[a];
        }
        walk->at[a] = walk->first[a];
        walk->local_begin[a] = walk->first_local[a];
        walk->extent[a] = walk->first_extent[a] = dmc_min_u64(length - walk->first_local[a], extent[a]);
        walk->target[a] = 0;
    }
}

bool dmc_grid_walk_count(uint32_t rank, const uint64_t *begin, const uint64_t *extent, const uint64_t *cell,
                         const uint64_t *const *edges, const uint32_t *edge_counts, uint64_t *count)
{
    *count = 1;
    for (uint32_t a = 0; a < rank; a++) {
        uint64_t end = begin[a] + (extent[a] - 1), cells;
        if (edges && edges[a])
            cells = edge_before(edges[a], edge_counts[a], end) - edge_before(edges[a], edge_counts[a], begin[a]) + 1;
        else
            cells = cell_of(end, cell[a]) - cell_of(begin[a], cell[a]) + 1;
        if (!dmc_mul_u64(*count, cells, count))
            return false;
    }
    return true;
}
