/* Pieces into tensors: walk the outer axes of a piece, hand its two innermost ones to a row function. */
#ifndef DMC_ASSEMBLE_H
#define DMC_ASSEMBLE_H

#include "backend/kernels/scatter.h"
#include "plan/plan.h"

/* Copy and convert one piece.
 *
 * dims     plan->dims, which the piece indexes.
 * rows     from dmc_scatter_select() for the array's and the field's dtype.
 * decoded  where byte 0 of the decoded chunk is, or would be (raw spans).
 * tensor   the field's tensor. */
void dmc_assemble_piece(const struct dmc_piece *piece, const struct dmc_piece_dim *dims, dmc_scatter_rows rows,
                        const void *decoded, void *tensor);

/* Fill one piece with an element, or with two in turn along its last dim. */
void dmc_assemble_fill(const struct dmc_piece *piece, const struct dmc_piece_dim *dims, enum damacy_dtype output,
                       struct dmc_scatter_element element, void *tensor);

#endif
