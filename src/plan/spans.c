#include "plan/spans.h"

#include "base/bytes.h"
#include "plan/coalesce.h"
#include <assert.h>

/* How a piece is cut. Its dims are ordered by their stride in the chunk's memory, outermost first: those before `level` are
 * taken apart index by index, the one at `level` in blocks, the others stay together. */
struct cut {
    uint32_t order[DAMACY_RANK_MAX + 1];
    uint32_t level;
    uint64_t block;
    uint64_t inner_bytes; /* hull of one index at `level` */
    uint64_t parts;       /* 1: not cut */
};

/* Where dims of extent 1 stand does not matter, but inside they are out of the way. */
static bool dim_outside(const struct dmc_piece_dim *a, const struct dmc_piece_dim *b)
{
    return a->extent > 1 && (b->extent == 1 || a->source_stride > b->source_stride);
}

static void cut_order(struct cut *cut, const struct dmc_piece_dim *dims, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = i;
        for (; at > 0 && dim_outside(&dims[i], &dims[cut->order[at - 1]]); at--)
            cut->order[at] = cut->order[at - 1];
        cut->order[at] = i;
    }
}

/* From the inside out, take dims together as long as the gaps between their indices are small and the hull is no longer than a
 * read may be; where it would be longer but gaps are small, as many indices as fit. Too many parts: take more together. */
static void cut_choose(struct cut *cut, const struct dmc_piece_dim *dims, uint32_t count, uint32_t item,
                       const struct dmc_plan_limits *limits)
{
    cut_order(cut, dims, count);
    uint64_t outer = 1, hull = item, read_max = limits->read_bytes_max;
    for (uint32_t i = 0; i < count; i++)
        outer *= dims[i].extent;
    for (uint32_t i = count; i-- > 0;) {
        const struct dmc_piece_dim *dim = &dims[cut->order[i]];
        uint64_t stride = (uint64_t)dim->source_stride, all = (dim->extent - 1) * stride + hull;
        outer /= dim->extent; /* indices of the dims outside of this one */
        if (dim->extent == 1)
            continue;
        bool small = stride <= hull || dmc_plan_gap_small(stride - hull, limits->span_gap_bytes);
        if (!small || all > read_max) {
            uint64_t block = small && read_max > hull ? (read_max - hull) / stride + 1 : 1;
            uint64_t parts = outer * dmc_ceil_div(dim->extent, block);
            if (parts <= DMC_SPAN_PARTS_MAX) {
                cut->level = i;
                cut->block = block;
                cut->inner_bytes = hull;
                cut->parts = parts;
                return;
            }
        }
        hull = all;
    }
    cut->parts = 1;
}

/* What all parts with the same extent at the level share. */
struct part_form {
    uint32_t dim_begin;
    uint32_t dim_count;
    uint64_t elements;
    uint64_t source_bytes; /* hull */
};

static struct part_form part_form(struct dmc_plan_work *work, const struct dmc_piece *piece, const struct cut *cut,
                                  uint64_t extent, uint32_t source_item)
{
    const struct dmc_piece_dim *dims = &work->dims[piece->dim_begin];
    struct dmc_piece_dim *out = &work->dims[work->dim_count];
    struct part_form form = {.dim_begin = work->dim_count, .elements = 1};
    bool stays[DAMACY_RANK_MAX + 1] = {false};
    for (uint32_t i = cut->level; i < piece->dim_count; i++)
        stays[cut->order[i]] = true;
    uint32_t level_dim = cut->order[cut->level];
    stays[level_dim] = extent > 1;
    for (uint32_t i = 0; i < piece->dim_count; i++) {
        if (!stays[i])
            continue;
        struct dmc_piece_dim dim = dims[i];
        if (i == level_dim)
            dim.extent = extent;
        form.elements *= dim.extent;
        out[form.dim_count++] = dim;
    }
    int64_t target_item = dims[piece->dim_count - 1].target_stride;
    if (form.dim_count == 0 || out[form.dim_count - 1].target_stride != target_item)
        out[form.dim_count++] = (struct dmc_piece_dim){1, source_item, target_item};
    form.source_bytes = (extent - 1) * (uint64_t)dims[level_dim].source_stride + cut->inner_bytes;
    work->dim_count += form.dim_count;
    return form;
}

/* Append the parts of a touch, in order of their place in the chunk. */
static void touch_cut(struct dmc_plan_work *work, const struct dmc_touch *touch, const struct dmc_grid_array *array,
                      struct dmc_touch *parts, uint32_t *part_count)
{
    const struct dmc_piece *piece = &touch->piece;
    uint32_t item = array->array->zarr->item_bytes;
    struct cut cut;
    cut_choose(&cut, &work->dims[piece->dim_begin], piece->dim_count, item, &array->limits);
    if (cut.parts == 1) {
        parts[(*part_count)++] = *touch;
        return;
    }
    struct dmc_piece_dim level = work->dims[piece->dim_begin + cut.order[cut.level]];
    uint64_t rest = level.extent % cut.block;
    struct part_form block = part_form(work, piece, &cut, cut.block, item);
    struct part_form last = rest ? part_form(work, piece, &cut, rest, item) : block;
    uint64_t at[DAMACY_RANK_MAX + 1] = {0};
    for (uint64_t n = 0; n < cut.parts; n++) {
        const struct part_form *form = at[cut.level] + cut.block > level.extent ? &last : &block;
        struct dmc_touch *part = &parts[(*part_count)++];
        *part = *touch;
        for (uint32_t i = 0; i <= cut.level; i++) {
            const struct dmc_piece_dim *dim = &work->dims[piece->dim_begin + cut.order[i]];
            part->piece.source_offset += at[i] * (uint64_t)dim->source_stride;
            part->piece.target_offset += at[i] * (uint64_t)dim->target_stride;
        }
        part->piece.elements = form->elements;
        part->piece.dim_begin = form->dim_begin;
        part->piece.dim_count = form->dim_count;
        part->source_end = part->piece.source_offset + form->source_bytes;
        for (uint32_t i = cut.level + 1; i-- > 0;) {
            at[i] += i == cut.level ? cut.block : 1;
            if (at[i] < work->dims[piece->dim_begin + cut.order[i]].extent)
                break;
            at[i] = 0;
        }
    }
}

/* Memory for cutting, shared by all raw chunks. */
struct cutter {
    struct dmc_touch *parts;
    uint32_t part_count;
    uint32_t *order; /* touches of one chunk */
    struct dmc_plan_key *keys, *scratch;
};

/* Merge sorted parts into spans, one unit each; parts[].chunk becomes the unit. */
static void parts_merge(struct dmc_plan_work *work, struct cutter *cutter, uint32_t chunk_id, uint32_t key_count)
{
    const struct dmc_grid_chunk *chunk = &work->table.chunks[chunk_id];
    const struct dmc_grid_array *array = work->table.objects[chunk->object].array;
    uint32_t item = array->array->zarr->item_bytes;
    struct dmc_plan_unit *unit = NULL;
    uint64_t unit_end = 0;
    for (uint32_t i = 0; i < key_count; i++) {
        struct dmc_touch *part = &cutter->parts[cutter->keys[i].id];
        uint64_t begin = part->piece.source_offset, end = dmc_max_u64(unit_end, part->source_end);
        bool joins = false;
        if (unit) {
            bool near = begin <= unit_end || dmc_plan_gap_small(begin - unit_end, array->limits.span_gap_bytes);
            joins = end == unit_end || (near && end - unit->part_begin <= array->limits.read_bytes_max);
        }
        if (!joins) {
            unit = &work->units[work->unit_count++];
            *unit = (struct dmc_plan_unit){.chunk = chunk_id,
                                           .last_touch = DMC_ID_NONE,
                                           .touches = cutter->parts,
                                           .offset = chunk->offset + begin,
                                           .part_begin = begin};
            end = part->source_end;
        }
        unit_end = end;
        unit->length = unit_end - unit->part_begin;
        unit->needed_bytes += part->piece.elements * item;
        part->chunk = (uint32_t)(unit - work->units);
    }
}

static void chunk_cut(struct dmc_plan_work *work, struct cutter *cutter, uint32_t chunk_id)
{
    const struct dmc_grid_chunk *chunk = &work->table.chunks[chunk_id];
    const struct dmc_grid_array *array = work->table.objects[chunk->object].array;
    uint32_t begin = cutter->part_count, unit_begin = work->unit_count;
    for (uint32_t i = chunk->touch_count, t = chunk->last_touch; i-- > 0; t = work->touches[t].previous)
        cutter->order[i] = t;
    for (uint32_t i = 0; i < chunk->touch_count; i++)
        touch_cut(work, &work->touches[cutter->order[i]], array, cutter->parts, &cutter->part_count);
    uint32_t count = cutter->part_count - begin;
    for (uint32_t i = 0; i < count; i++)
        cutter->keys[i] = (struct dmc_plan_key){.offset = cutter->parts[begin + i].piece.source_offset, .id = begin + i};
    dmc_plan_keys_sort(cutter->keys, cutter->scratch, count);
    parts_merge(work, cutter, chunk_id, count);
    for (uint32_t i = begin; i < cutter->part_count; i++) { /* in order of rows again */
        struct dmc_plan_unit *unit = &work->units[cutter->parts[i].chunk];
        cutter->parts[i].previous = unit->last_touch;
        unit->last_touch = i;
        unit->touch_count++;
    }
    for (uint32_t i = unit_begin; i < work->unit_count; i++) /* samples that overlap need the same bytes */
        work->units[i].needed_bytes = dmc_min_u64(work->units[i].needed_bytes, work->units[i].length);
}

static bool is_cut(const struct dmc_plan_work *work, const struct dmc_grid_chunk *chunk)
{
    return chunk->offset != UINT64_MAX && work->table.objects[chunk->object].array->cut;
}

/* What cutting will need, so that everything is allocated once. */
struct census {
    uint64_t units, parts, dims;
    uint64_t chunk_parts_max, chunk_touches_max;
};

static struct census take_census(const struct dmc_plan_work *work)
{
    struct census census = {0};
    for (uint32_t c = 0; c < work->table.chunk_count; c++) {
        const struct dmc_grid_chunk *chunk = &work->table.chunks[c];
        uint64_t parts = 0;
        if (chunk->touch_count == 0 || !is_cut(work, chunk)) {
            census.units += chunk->touch_count > 0;
            continue;
        }
        const struct dmc_grid_array *array = work->table.objects[chunk->object].array;
        uint32_t item = array->array->zarr->item_bytes;
        for (uint32_t i = chunk->touch_count, t = chunk->last_touch; i-- > 0; t = work->touches[t].previous) {
            const struct dmc_piece *piece = &work->touches[t].piece;
            struct cut cut;
            cut_choose(&cut, &work->dims[piece->dim_begin], piece->dim_count, item, &array->limits);
            parts += cut.parts;
            census.dims += cut.parts > 1 ? 2 * (uint64_t)piece->dim_count : 0;
        }
        census.parts += parts;
        census.units += parts;
        census.chunk_parts_max = dmc_max_u64(census.chunk_parts_max, parts);
        census.chunk_touches_max = dmc_max_u64(census.chunk_touches_max, chunk->touch_count);
    }
    return census;
}

static bool cutter_init(struct cutter *cutter, struct dmc_plan_work *work, const struct census *census)
{
    cutter->parts = dmc_plan_alloc(&work->memory, struct dmc_touch, census->parts);
    cutter->order = dmc_plan_alloc(&work->memory, uint32_t, census->chunk_touches_max);
    cutter->keys = dmc_plan_alloc(&work->memory, struct dmc_plan_key, census->chunk_parts_max);
    cutter->scratch = dmc_plan_alloc(&work->memory, struct dmc_plan_key, census->chunk_parts_max);
    if (!cutter->parts || !cutter->order || !cutter->keys || !cutter->scratch)
        return false;
    if (census->dims > 0) {
        struct dmc_piece_dim *dims = dmc_plan_alloc(&work->memory, struct dmc_piece_dim, work->dim_count + census->dims);
        if (!dims)
            return false;
        memcpy(dims, work->dims, work->dim_count * sizeof *dims);
        work->dims = dims;
    }
    return true;
}

enum damacy_status dmc_plan_units(struct dmc_plan_work *work)
{
    struct census census = take_census(work);
    if (census.units > INT32_MAX || census.parts > INT32_MAX || work->dim_count + census.dims > UINT32_MAX)
        return work->memory.status = DAMACY_BUDGET;
    struct cutter cutter = {0};
    work->units = dmc_plan_alloc(&work->memory, struct dmc_plan_unit, census.units);
    if (!work->units || (census.parts > 0 && !cutter_init(&cutter, work, &census)))
        return work->memory.status;
    for (uint32_t c = 0; c < work->table.chunk_count; c++) {
        const struct dmc_grid_chunk *chunk = &work->table.chunks[c];
        if (chunk->touch_count == 0)
            continue; /* only failed regions touched it */
        if (is_cut(work, chunk)) {
            chunk_cut(work, &cutter, c);
            continue;
        }
        bool whole = chunk->length == UINT64_MAX;
        uint64_t bound = work->table.objects[chunk->object].array->array->stored_bytes_max;
        work->units[work->unit_count++] = (struct dmc_plan_unit){.chunk = c,
                                                                 .touch_count = chunk->touch_count,
                                                                 .last_touch = chunk->last_touch,
                                                                 .whole = whole,
                                                                 .touches = work->touches,
                                                                 .offset = chunk->offset,
                                                                 .length = whole ? bound : chunk->length,
                                                                 .needed_bytes = whole ? 0 : chunk->length};
    }
    assert(work->unit_count <= census.units && cutter.part_count == census.parts);
    return DAMACY_OK;
}
