/* See assemble.h. The walk is an odometer over the axes outside the two that the row functions do. */
#include "backend/cpu/assemble.h"

#include <stdlib.h>
#include <string.h>

struct walk {
    const struct dmc_piece_dim *dims; /* the outer ones */
    uint32_t count;
    uint64_t at[DAMACY_RANK_MAX + 1];
    int64_t source, target; /* bytes from the piece's beginning */
};

/* To the next position of the outer axes; false when all have been visited. */
static bool walk_on(struct walk *walk)
{
    for (uint32_t d = walk->count; d-- > 0;) {
        const struct dmc_piece_dim *dim = &walk->dims[d];
        walk->source += dim->source_stride;
        walk->target += dim->target_stride;
        if (++walk->at[d] < dim->extent)
            return true;
        walk->at[d] = 0;
        walk->source -= (int64_t)dim->extent * dim->source_stride;
        walk->target -= (int64_t)dim->extent * dim->target_stride;
    }
    return false;
}

/* Field by field: most of `at` is never used. */
static void walk_begin(struct walk *walk, const struct dmc_piece_dim *dims, uint32_t count)
{
    walk->dims = dims;
    walk->count = count;
    walk->source = walk->target = 0;
    for (uint32_t d = 0; d < count; d++)
        walk->at[d] = 0;
}

/* A piece of one axis is one row. */
static struct dmc_piece_dim rows_of(const struct dmc_piece *piece, const struct dmc_piece_dim *dims)
{
    return piece->dim_count > 1 ? dims[piece->dim_count - 2] : (struct dmc_piece_dim){1, 0, 0};
}

/* Which axis the row functions do beside the last one: the next to last, unless the source is transposed. Then it is the axis
 * along which neighbours lie closest in the source, so that whole cache lines are used; twice as fast (bench_scatter,
 * transposed). */
static uint32_t row_axis(const struct dmc_piece_dim *dims, uint32_t count)
{
    uint32_t best = count - 2;
    int64_t closest = llabs(dims[count - 1].source_stride);
    for (uint32_t d = count - 1; d-- > 0;)
        if (llabs(dims[d].source_stride) < closest && dims[d].extent > 1) {
            closest = llabs(dims[d].source_stride);
            best = d;
        }
    return best;
}

void dmc_assemble_piece(const struct dmc_piece *piece, const struct dmc_piece_dim *all_dims, dmc_scatter_rows rows,
                        const void *decoded, void *tensor)
{
    const struct dmc_piece_dim *dims = all_dims + piece->dim_begin, *outer = dims;
    const uint32_t count = piece->dim_count;
    const struct dmc_piece_dim columns = dims[count - 1];
    struct dmc_piece_dim row = rows_of(piece, dims), exchanged[DAMACY_RANK_MAX];
    if (count > 2) {
        uint32_t axis = row_axis(dims, count);
        if (axis != count - 2) { /* the next to last takes its place in the walk */
            memcpy(exchanged, dims, (count - 2) * sizeof *exchanged);
            exchanged[axis] = row;
            row = dims[axis];
            outer = exchanged;
        }
    }
    uintptr_t source = (uintptr_t)decoded + piece->source_offset; /* decoded may lie before the bytes that are there */
    uint8_t *target = (uint8_t *)tensor + piece->target_offset;
    struct walk walk;
    walk_begin(&walk, outer, count > 2 ? count - 2 : 0);
    do
        rows(target + walk.target, row.target_stride, (const void *)(source + (uintptr_t)walk.source), row.source_stride,
             columns.source_stride, row.extent, columns.extent);
    while (walk_on(&walk));
}

void dmc_assemble_fill(const struct dmc_piece *piece, const struct dmc_piece_dim *all_dims, enum damacy_dtype output,
                       struct dmc_scatter_element element, void *tensor)
{
    const struct dmc_piece_dim *dims = all_dims + piece->dim_begin;
    const struct dmc_piece_dim columns = dims[piece->dim_count - 1], row = rows_of(piece, dims);
    uint8_t *target = (uint8_t *)tensor + piece->target_offset;
    struct walk walk;
    walk_begin(&walk, dims, piece->dim_count > 2 ? piece->dim_count - 2 : 0);
    do
        dmc_scatter_fill(target + walk.target, row.target_stride, row.extent, columns.extent, output, element);
    while (walk_on(&walk));
}
