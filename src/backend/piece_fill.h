/* What the pieces of an absent chunk are filled with: the same for every backend. */
#ifndef DMC_PIECE_FILL_H
#define DMC_PIECE_FILL_H

#include "backend/backend.h"

/* The fill value of a piece: one element, or the two parts of a complex number in turn along the piece's last dim.
 *
 * Complex arrays have a trailing axis of two parts. It is a whole number of steps of that axis from byte 0 of the decoded chunk
 * to a piece, so the piece's place tells which part it begins with; and no other dim changes the part. Only the last dim can be
 * that axis (boxes are in the order of the axes), alone or merged with those before it: then its source steps from part to
 * part. It is another axis where the box, or a cut of an uncompressed chunk, takes one part alone; a cut may also begin with
 * the second part. */
static inline struct dmc_scatter_element dmc_piece_fill(const struct dmc_backend_array *array, const struct dmc_piece *piece,
                                                        const struct dmc_piece_dim *dims)
{
    const struct dmc_zarr_array *zarr = array->zarr;
    struct dmc_scatter_element element = {zarr->dtype, 1, 0, zarr->fill};
    if (zarr->fill_count < 2)
        return element;
    int64_t step = array->chain->strides[zarr->rank - 1] * (int64_t)zarr->item_bytes;
    const struct dmc_piece_dim *last = &dims[piece->dim_begin + piece->dim_count - 1];
    element.first = (uint32_t)(piece->source_offset / (uint64_t)step % 2);
    if (last->extent > 1 && last->source_stride == step) {
        element.count = 2;
    } else {
        element.elements = zarr->fill + element.first * zarr->item_bytes;
        element.first = 0;
    }
    return element;
}

#endif
