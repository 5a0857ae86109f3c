#include "plan/plan.h"

#include "base/error.h"
#include "plan/coalesce.h"
#include "plan/pieces.h"
#include "plan/plan_work.h"
#include "plan/spans.h"
#include <assert.h>

/* Ids and counts stay below 2^31, so that sums of two of them fit as well. */
#define COUNT_MAX INT32_MAX

static bool targets_init(struct dmc_plan_work *work, const struct dmc_plan_field *fields, uint32_t field_count)
{
    work->targets = dmc_plan_alloc(&work->memory, struct dmc_plan_target, field_count);
    if (!work->targets)
        return false;
    for (uint32_t f = 0; f < field_count; f++) {
        uint64_t *strides = dmc_plan_alloc(&work->memory, uint64_t, fields[f].rank);
        if (!strides)
            return false;
        uint64_t bytes = fields[f].output_item_bytes; /* the tensor is in memory already: no product here overflows */
        for (uint32_t a = fields[f].rank; a-- > 0;) {
            strides[a] = bytes;
            bytes *= (uint64_t)fields[f].sample_shape[a];
        }
        work->targets[f] = (struct dmc_plan_target){&fields[f], strides, bytes};
    }
    return true;
}

static void region_check(const struct dmc_plan_region *region, const struct dmc_plan_field *fields, uint32_t field_count)
{
    const struct dmc_zarr_array *zarr = region->array->zarr;
    assert(region->field < field_count);
    assert(zarr->rank >= 1 && zarr->rank <= DAMACY_RANK_MAX && zarr->rank == fields[region->field].rank);
    for (uint32_t a = 0; a < zarr->rank; a++) {
        struct damacy_interval axis = region->aabb[a];
        assert(axis.begin >= 0 && axis.begin < axis.end && (uint64_t)axis.end <= zarr->shape[a]);
        assert(axis.end - axis.begin == fields[region->field].sample_shape[a]);
        assert(region->array->strides[a] > 0);
        (void)axis;
    }
    (void)fields;
    (void)field_count;
    (void)zarr;
}

/* Upper bounds, as if no two regions shared anything: they size tables and lists once. */
struct bounds {
    uint64_t objects, touches, dims;
};

static bool bounds_add(struct bounds *bounds, const struct dmc_plan_region *region)
{
    const struct dmc_zarr_array *zarr = region->array->zarr;
    uint64_t begin[DAMACY_RANK_MAX], extent[DAMACY_RANK_MAX], objects, touches, dims;
    for (uint32_t a = 0; a < zarr->rank; a++) {
        begin[a] = (uint64_t)region->aabb[a].begin;
        extent[a] = (uint64_t)(region->aabb[a].end - region->aabb[a].begin);
    }
    /* Boundaries are those of grid chunks; chunks inside of shards are all alike. */
    const uint64_t *const *chunk_edges = zarr->sharded ? NULL : zarr->chunk_edges;
    if (!dmc_grid_walk_count(zarr->rank, begin, extent, zarr->chunk_shape, chunk_edges, zarr->edge_counts, &touches))
        return false;
    if (!zarr->sharded)
        objects = touches;
    else if (!dmc_grid_walk_count(zarr->rank, begin, extent, zarr->grid_shape, zarr->chunk_edges, zarr->edge_counts, &objects))
        return false;
    return dmc_mul_u64(touches, dmc_piece_dims_max(zarr->rank, extent), &dims) &&
           dmc_add_u64(dims, bounds->dims, &bounds->dims) && dmc_add_u64(touches, bounds->touches, &bounds->touches) &&
           dmc_add_u64(objects, bounds->objects, &bounds->objects) && bounds->touches <= COUNT_MAX && bounds->dims <= COUNT_MAX;
}

static bool tables_init(struct dmc_plan_work *work, const struct dmc_plan_region *regions, uint32_t region_count,
                        const struct dmc_plan_field *fields, uint32_t field_count)
{
    struct bounds bounds = {0};
    for (uint32_t r = 0; r < region_count; r++) {
        region_check(&regions[r], fields, field_count);
        if (!bounds_add(&bounds, &regions[r])) {
            work->memory.status = DAMACY_BUDGET;
            return false;
        }
    }
    work->touches = dmc_plan_alloc(&work->memory, struct dmc_touch, bounds.touches);
    work->dims = dmc_plan_alloc(&work->memory, struct dmc_piece_dim, bounds.dims);
    return work->touches && work->dims &&
           dmc_chunk_table_init(&work->table, &work->memory, region_count, (uint32_t)bounds.objects, (uint32_t)bounds.touches,
                                work->options);
}

/* Regions in order of (row, field), which is the order of pieces in each chunk. Mostly they come so. */
static const struct dmc_plan_key *regions_order(struct dmc_plan_work *work, const struct dmc_plan_region *regions,
                                                uint32_t region_count)
{
    struct dmc_plan_key *keys = dmc_plan_alloc(&work->memory, struct dmc_plan_key, region_count);
    struct dmc_plan_key *scratch = dmc_plan_alloc(&work->memory, struct dmc_plan_key, region_count);
    if (!keys || !scratch)
        return NULL;
    for (uint32_t r = 0; r < region_count; r++)
        keys[r] = (struct dmc_plan_key){.object = regions[r].row, .offset = regions[r].field, .id = r};
    dmc_plan_keys_sort(keys, scratch, region_count);
    return keys;
}

/* Units in the order of the plan: sorted by where they are, then the absent ones in order of first touch. */
static struct dmc_plan_key *units_order(struct dmc_plan_work *work, uint32_t *absent_begin)
{
    struct dmc_plan_key *keys = dmc_plan_alloc(&work->memory, struct dmc_plan_key, work->unit_count);
    struct dmc_plan_key *scratch = dmc_plan_alloc(&work->memory, struct dmc_plan_key, work->unit_count);
    if (!keys || !scratch)
        return NULL;
    uint32_t count = 0, absent = work->unit_count;
    for (uint32_t u = 0; u < work->unit_count; u++) {
        if (work->units[u].offset != UINT64_MAX) {
            uint32_t object = work->table.chunks[work->units[u].chunk].object;
            keys[count++] = (struct dmc_plan_key){.offset = work->units[u].offset, .object = object, .id = u};
        }
    }
    for (uint32_t u = work->unit_count; u-- > 0;)
        if (work->units[u].offset == UINT64_MAX)
            keys[--absent] = (struct dmc_plan_key){.id = u};
    assert(absent == count);
    dmc_plan_keys_sort(keys, scratch, count);
    *absent_begin = count;
    return keys;
}

/* What is needed of every unit. */
static void needs_find(struct dmc_plan_work *work)
{
    for (uint32_t u = 0; u < work->unit_count; u++) {
        struct dmc_plan_unit *unit = &work->units[u];
        if (work->options->whole_chunks) {
            unit->need_begin = 0;
            unit->need_end = work->table.objects[work->table.chunks[unit->chunk].object].chunk_bytes;
            continue;
        }
        unit->need_begin = UINT64_MAX;
        unit->need_end = 0;
        for (uint32_t i = 0, t = unit->last_touch; i < unit->touch_count; i++, t = unit->touches[t].previous) {
            unit->need_begin = dmc_min_u64(unit->need_begin, unit->touches[t].piece.source_offset);
            unit->need_end = dmc_max_u64(unit->need_end, unit->touches[t].source_end);
        }
    }
}

/* Find out who else decodes this unit. */
static void source_find(const struct dmc_plan_work *work, struct dmc_plan_unit *unit)
{
    const struct dmc_grid_chunk *chunk = &work->table.chunks[unit->chunk];
    const struct dmc_plan_array *array = work->table.objects[chunk->object].array->array;
    if (array->raw || chunk->index == DMC_CHUNK_INDEX_NONE)
        return;
    struct dmc_chunk_ask ask = {array,         chunk->index, unit->offset, unit->whole ? 0 : unit->length, unit->need_begin,
                                unit->need_end};
    unit->source = work->lookup->source(work->lookup->user, &ask);
}

/* Units that somebody else decodes leave the reads that were planned with them, to which no other chunk may be left; then
 * nothing is read. The others stay as they are: a network was told of them before anybody knew of hosts. */
static bool guests_part(struct dmc_plan_work *work, struct dmc_plan_key *keys, struct dmc_plan *plan)
{
    uint32_t guests = 0, kept = 0, own = 0, reads = 0;
    for (uint32_t c = 0; work->lookup->source && c < plan->absent_begin; c++) {
        struct dmc_plan_unit *unit = &work->units[keys[c].id];
        source_find(work, unit);
        guests += unit->source.host && !unit->source.kept;
        kept += unit->source.host && unit->source.kept;
    }
    plan->guest_begin = plan->kept_begin = plan->read_count;
    if (guests + kept == 0)
        return true;
    struct dmc_plan_key *parted = dmc_plan_alloc(&work->memory, struct dmc_plan_key, guests + kept);
    plan->hosts = dmc_plan_alloc(&work->memory, void *, guests + kept);
    if (!parted || !plan->hosts)
        return false;
    uint32_t next_guest = 0, next_kept = guests;
    for (uint32_t r = 0; r < plan->read_count; r++) {
        struct dmc_read read = plan->reads[r];
        uint32_t begin = own;
        for (uint32_t c = read.chunk_begin; c < read.chunk_end; c++) {
            struct dmc_plan_source source = work->units[keys[c].id].source;
            if (source.host)
                parted[source.kept ? next_kept++ : next_guest++] = keys[c];
            else
                keys[own++] = keys[c];
        }
        read.chunk_begin = begin;
        read.chunk_end = own;
        if (own > begin)
            plan->reads[reads++] = read;
    }
    plan->guest_begin = reads;
    plan->kept_begin = reads + guests;
    for (uint32_t g = 0; g < guests + kept; g++) {
        keys[own + g] = parted[g];
        plan->hosts[g] = work->units[parted[g].id].source.host;
        plan->reads[reads++] = dmc_read_of(work, keys, own + g);
    }
    plan->read_count = reads;
    return true;
}

/* Name the objects of the reads. */
static bool objects_write(struct dmc_plan_work *work, struct dmc_plan *plan)
{
    uint32_t count = 0, before = DMC_ID_NONE;
    for (uint32_t r = 0; r < plan->read_count; r++) {
        count += plan->reads[r].object != before;
        before = plan->reads[r].object;
    }
    plan->objects = dmc_plan_alloc(&work->memory, struct dmc_plan_object, count);
    if (!plan->objects)
        return false;
    before = DMC_ID_NONE;
    for (uint32_t r = 0; r < plan->read_count; r++) {
        struct dmc_read *read = &plan->reads[r];
        if (read->object != before) {
            before = read->object;
            const struct dmc_grid_object *object = &work->table.objects[read->object];
            const struct dmc_plan_array *array = object->array->array;
            char key[DMC_ZARR_KEY_BYTES_MAX];
            size_t bytes = dmc_zarr_chunk_key(array->zarr, object->coordinates, key, sizeof key) + 1;
            char *copy = dmc_plan_alloc(&work->memory, char, bytes);
            if (!copy)
                return false;
            memcpy(copy, key, bytes);
            plan->objects[plan->object_count++] = (struct dmc_plan_object){array, copy, array->zarr->sharded};
        }
        read->object = plan->object_count - 1;
    }
    return true;
}

static void pieces_write(const struct dmc_plan_unit *unit, struct dmc_plan *plan, struct dmc_chunk *chunk)
{
    chunk->piece_begin = plan->piece_count;
    chunk->piece_end = plan->piece_count += unit->touch_count;
    uint32_t t = unit->last_touch;
    for (uint32_t p = chunk->piece_end; p-- > chunk->piece_begin; t = unit->touches[t].previous)
        plan->pieces[p] = unit->touches[t].piece;
}

static void chunk_write(struct dmc_plan_work *work, const struct dmc_plan_unit *unit, struct dmc_plan *plan,
                        struct dmc_chunk *chunk)
{
    const struct dmc_grid_chunk *found = &work->table.chunks[unit->chunk];
    const struct dmc_grid_object *object = &work->table.objects[found->object];
    *chunk = (struct dmc_chunk){.array = object->array->array,
                                .read = DMC_READ_NONE,
                                .chunk_bytes = object->chunk_bytes,
                                .part_begin = unit->part_begin,
                                .need_begin = unit->need_begin,
                                .need_end = unit->need_end,
                                .index = found->index};
    pieces_write(unit, plan, chunk);
    if (unit->offset == UINT64_MAX)
        return;
    chunk->stored_bytes = unit->whole ? 0 : unit->length;
    plan->bytes_needed += unit->needed_bytes;
    if (!object->array->array->raw)
        plan->decoded_bytes_max = dmc_max_u64(plan->decoded_bytes_max, object->chunk_bytes);
}

static bool plan_write(struct dmc_plan_work *work, struct dmc_plan *plan)
{
    struct dmc_plan_key *keys = units_order(work, &plan->absent_begin);
    uint64_t piece_count = 0;
    for (uint32_t u = 0; u < work->unit_count; u++)
        piece_count += work->units[u].touch_count;
    plan->chunks = dmc_plan_alloc(&work->memory, struct dmc_chunk, work->unit_count);
    plan->reads = dmc_plan_alloc(&work->memory, struct dmc_read, plan->absent_begin);
    plan->pieces = dmc_plan_alloc(&work->memory, struct dmc_piece, piece_count);
    if (!keys || !plan->chunks || !plan->reads || !plan->pieces)
        return false;
    plan->dims = work->dims;
    plan->dim_count = work->dim_count;
    plan->chunk_count = work->unit_count;
    plan->read_count = dmc_coalesce(work, keys, plan->absent_begin, plan->reads);
    needs_find(work);
    if (!guests_part(work, keys, plan))
        return false;
    for (uint32_t c = 0; c < plan->chunk_count; c++)
        chunk_write(work, &work->units[keys[c].id], plan, &plan->chunks[c]);
    for (uint32_t r = 0; r < plan->read_count; r++) {
        const struct dmc_read *read = &plan->reads[r];
        plan->bytes_read += read->whole || r >= plan->guest_begin ? 0 : read->length;
        plan->read_bytes_max = dmc_max_u64(plan->read_bytes_max, read->length);
        for (uint32_t c = read->chunk_begin; c < read->chunk_end; c++) {
            plan->chunks[c].read = r;
            plan->chunks[c].stored_offset = keys[c].offset - read->offset;
        }
    }
    return objects_write(work, plan);
}

static bool plan_make(struct dmc_plan_work *work, const struct dmc_plan_region *regions, uint32_t region_count,
                      const struct dmc_plan_field *fields, uint32_t field_count, struct dmc_plan *plan)
{
    if (!targets_init(work, fields, field_count) || !tables_init(work, regions, region_count, fields, field_count))
        return false;
    const struct dmc_plan_key *order = regions_order(work, regions, region_count);
    if (!order)
        return false;
    for (uint32_t r = 0; r < region_count; r++)
        if (!dmc_pieces_of_region(work, &regions[order[r].id]))
            return false;
    return dmc_plan_units(work) == DAMACY_OK && plan_write(work, plan);
}

enum damacy_status dmc_plan_make(const struct dmc_plan_region *regions, uint32_t region_count,
                                 const struct dmc_plan_field *fields, uint32_t field_count,
                                 const struct dmc_plan_lookup *lookup, const struct dmc_plan_failure *failure,
                                 const struct dmc_plan_options *options, struct dmc_arena *arena, struct dmc_plan *plan,
                                 struct damacy_error *error)
{
    struct dmc_plan_work work = {.lookup = lookup, .failure = failure, .options = options, .memory = {.arena = arena}};
    *plan = (struct dmc_plan){0};
    if (plan_make(&work, regions, region_count, fields, field_count, plan))
        return DAMACY_OK;
    *plan = (struct dmc_plan){0};
    if (work.memory.status == DAMACY_OOM)
        return dmc_error_set(error, DAMACY_OOM, "plan", "no memory for the plan of a batch of %u regions", region_count);
    dmc_error_set(error, DAMACY_BUDGET, "plan", "the plan of a batch of %u regions does not fit its memory", region_count);
    dmc_error_hint(error, "raise max_host_memory_bytes, or make samples_per_batch or the samples smaller");
    return DAMACY_BUDGET;
}
