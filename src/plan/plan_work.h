/* What the files of this room share while they make one plan. All of it lies in the plan's arena and is forgotten with it.
 *
 *     plan_make.c   order the regions, count, walk them (pieces.c), gather units (spans.c), sort and coalesce them
 * (coalesce.c), and write the plan
 *
 * A *touch* is a piece on its way; a *unit* is what becomes one dmc_chunk: a chunk, or one span of a raw chunk. */
#ifndef DMC_PLAN_WORK_H
#define DMC_PLAN_WORK_H

#include "plan/chunk_table.h"
#include "plan/plan.h"

struct dmc_touch {
    struct dmc_piece piece;
    uint32_t chunk;      /* id in the table; of a part of a cut piece: its unit */
    uint32_t previous;   /* the one before of the same chunk or unit; valid up to its count */
    uint64_t source_end; /* one past the last decoded byte that it uses */
};

struct dmc_plan_unit {
    uint32_t chunk;
    uint32_t touch_count;
    uint32_t last_touch;
    bool whole;
    const struct dmc_touch *touches; /* what last_touch and previous number */
    uint64_t offset;                 /* in the object; UINT64_MAX: absent */
    uint64_t length;                 /* whole: the buffer's bound */
    uint64_t part_begin;
    uint64_t needed_bytes; /* of `length` */
    uint64_t need_begin;   /* decoded bytes of the chunk that its touches use, hull */
    uint64_t need_end;
    struct dmc_plan_source source;
};

/* A field, with the strides of its tensor. */
struct dmc_plan_target {
    const struct dmc_plan_field *field;
    uint64_t *strides; /* bytes, per axis of a sample */
    uint64_t row_bytes;
};

struct dmc_plan_work {
    const struct dmc_plan_lookup *lookup;
    const struct dmc_plan_failure *failure;
    const struct dmc_plan_options *options;
    struct dmc_plan_memory memory;
    struct dmc_plan_target *targets;
    struct dmc_chunk_table table;
    struct dmc_touch *touches;
    struct dmc_piece_dim *dims;
    uint32_t touch_count, dim_count;
    struct dmc_plan_unit *units;
    uint32_t unit_count;
};

/* Ranges closer than this are read as one; touching ones always are. */
static inline bool dmc_plan_gap_small(uint64_t gap, uint64_t limit)
{
    return gap == 0 || gap < limit;
}

#endif
