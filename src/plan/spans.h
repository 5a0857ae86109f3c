/* Raw chunks (nothing to decode or check) are cut: only the spans of bytes that pieces use are read.
 *
 *     chunk in memory  |..xxxx....xxxx....xxxx........|   a piece: rows with gaps; large gaps cut it into parts,
 *     parts               [--)    [--)    [--)            small ones do not
 *     another piece    |...............yyyy...........|
 *     spans               [--)    [--)    [-----)         parts sorted and merged where they are near
 *
 * Neither a part nor a span is longer than coalesce_read_bytes_max; where overlapping parts together would be, both are read.
 * A part is a piece of its own, with fewer dims. Cutting goes by the order of axes in the chunk's memory, so that transposed
 * chunks are cut as well as others. */
#ifndef DMC_SPANS_H
#define DMC_SPANS_H

#include "plan/plan_work.h"

/* A piece is cut into at most so many parts; beyond that, gaps are read. */
#define DMC_SPAN_PARTS_MAX 4096

/* Fill work->units: one for each chunk that is still touched, or one for each span of a raw one that is present. May replace
 * work->dims by a larger copy. Returns OK, BUDGET when there are too many units to number, or OOM when the arena is short. */
enum damacy_status dmc_plan_units(struct dmc_plan_work *work);

#endif
