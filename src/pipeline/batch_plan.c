/* plan_run: from a closed batch's resolved samples to an executable plan. No lock is held: the samples are the planner's until
 * they are planned, their metadata are pinned by the watermark, and one thread plans at a time. */
#include "backend/cpu/cpu_backend.h"
#include "backend/host.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/dtype.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "pipeline/pipeline.h"

#include <string.h>

/* One array of the batch, as plan, backend and this file see it. */
struct planned_array {
    struct dmc_plan_array plan; /* first: the planner's callbacks get a pointer to it */
    struct dmc_backend_array backend;
    struct dmc_array *array;
    dmc_scatter_rows *rows; /* one a field, made when first needed */
};

struct planning {
    struct damacy *pipeline;
    struct damacy_batch *batch; /* NULL: a preview, which has no rows */
    struct dmc_batch_slot *slot;
    struct dmc_arena *arena;
    const struct dmc_closed_batch *closed;
    uint64_t batch_id;
    const struct dmc_running *running; /* NULL: the batch decodes all by itself */
    enum damacy_dtype *outputs;        /* per field */
    struct planned_array **table;      /* open addressing by array */
    uint64_t table_mask;
    bool streamed; /* the batch is written around the cache */
};

/* The i-th sample of a closed batch. Not dmc_lookahead_slot(): without the lock its check of the cursors would race with push.
 */
static struct dmc_sample_slot *closed_sample(const struct damacy *pipeline, const struct dmc_closed_batch *closed, uint32_t i)
{
    return &pipeline->lookahead.slots[(closed->first_ordinal + i) % pipeline->lookahead.capacity];
}

/* What NATIVE is: decided by the first sample that resolved, for good, whether or not there is memory for a plan. */
static void decide_native(struct damacy *pipeline, const struct dmc_closed_batch *closed)
{
    for (uint32_t f = 0; f < pipeline->home->field_count; f++)
        for (uint32_t i = 0; pipeline->native[f] == DAMACY_NATIVE && i < closed->count; i++) {
            const struct dmc_sample_slot *sample = closed_sample(pipeline, closed, i);
            if (!sample->error)
                pipeline->native[f] = dmc_prefetcher_array(&sample->regions[f])->zarr->dtype;
        }
}

/* NATIVE as long as that is not decided. */
static enum damacy_dtype output_dtype(const struct damacy *pipeline, uint32_t field)
{
    enum damacy_dtype dtype = pipeline->home->fields[field].dtype;
    return dtype == DAMACY_NATIVE ? pipeline->native[field] : dtype;
}

/* How ranges of an array are joined, where that is the store's to say: at most reads of which a worker holds a few at once. And
 * whoever says it, never more than one can hold: else a chunk would fail for want of memory because of what is read with it. */
static void limit_reads(const struct damacy *pipeline, struct dmc_plan_array *plan, const struct dmc_array *array)
{
    const struct damacy_tuning *tuning = &pipeline->config.tuning;
    struct dmc_store_hint hint = dmc_store_hint_of(array->store);
    if (pipeline->layout.gap_open)
        plan->coalesce_gap_bytes = hint.coalesce_gap_bytes;
    if (pipeline->layout.read_max_open)
        plan->coalesce_read_bytes_max =
            dmc_min_u64(hint.coalesce_read_bytes_max, dmc_max_u64(tuning->coalesce_read_bytes_max, tuning->worker_bytes / 4));
    if (plan->coalesce_read_bytes_max == 0)
        plan->coalesce_read_bytes_max = tuning->coalesce_read_bytes_max;
    if (pipeline->config.device == DAMACY_CPU) {
        uint64_t held_max = dmc_cpu_read_bytes_max(pipeline->layout.share_bytes, array->chain);
        plan->coalesce_read_bytes_max = dmc_min_u64(plan->coalesce_read_bytes_max, dmc_max_u64(held_max, 1));
    }
}

/* Find or make the entry of an array. NULL: no memory. */
static struct planned_array *plan_array(struct planning *planning, struct dmc_array *array)
{
    struct damacy *pipeline = planning->pipeline;
    uint64_t at = dmc_hash_u64((uintptr_t)array, 0) & planning->table_mask;
    for (; planning->table[at]; at = (at + 1) & planning->table_mask)
        if (planning->table[at]->array == array)
            return planning->table[at];
    struct planned_array *entry = dmc_arena_array(planning->arena, struct planned_array, 1);
    dmc_scatter_rows *rows = dmc_arena_array(planning->arena, dmc_scatter_rows, pipeline->home->field_count);
    if (!entry || !rows)
        return NULL;
    memset(rows, 0, pipeline->home->field_count * sizeof *rows);
    *entry = (struct planned_array){
        .plan = {.zarr = array->zarr,
                 .strides = array->chain->strides,
                 .axes = array->chain->axes,
                 .raw = array->chain->raw,
                 .stored_bytes_max = array->chain->stored_bytes_max,
                 .path = array->prefix + array->root_bytes + (array->prefix_bytes > array->root_bytes),
                 .user = &entry->backend},
        .backend = {.zarr = array->zarr,
                    .chain = array->chain,
                    .store = array->store,
                    .uri = array->uri,
                    .root_bytes = array->root_bytes,
                    .rows = rows},
        .array = array,
        .rows = rows,
    };
    limit_reads(pipeline, &entry->plan, array);
    dmc_array_retain(array);
    planning->slot->arrays[planning->slot->array_count++] = array;
    planning->table[at] = entry;
    return entry;
}

static void fail_dtype(struct planning *planning, uint32_t row, uint32_t field, const struct dmc_array *array)
{
    const struct damacy_field *asked = &planning->pipeline->home->fields[field];
    struct damacy_error error;
    if (!planning->batch)
        return;
    dmc_error_set(&error, DAMACY_DTYPE, "plan", "dtype %s cannot become %s", damacy_dtype_str(array->zarr->dtype),
                  damacy_dtype_str(planning->outputs[field]));
    if (asked->dtype == DAMACY_NATIVE)
        dmc_error_hint(&error,
                       "dtype=native keeps the dtype of the first sample that resolved; name an output dtype to mix arrays");
    else
        dmc_error_hint(&error, "not every %s fits; choose a float or a wider integer", damacy_dtype_str(array->zarr->dtype));
    dmc_error_where(&error, array->uri, NULL, 0, 0);
    dmc_error_field(&error, asked->name);
    dmc_row_fail(planning->batch, row, field, 0, &error);
}

/* The fill value of an array as a box of these extents has it: of a complex array the parts that the box has of the last axis.
 * A box that does not fit the array may not tell: zeros. */
static struct dmc_row_fill fill_of(const struct dmc_zarr_array *zarr, const struct damacy_interval *aabb,
                                   const struct damacy_field *field)
{
    struct dmc_row_fill fill = {.dtype = zarr->dtype, .count = 1};
    uint32_t first = 0;
    if (zarr->fill_count > 1) {
        struct damacy_interval parts = aabb[field->rank - 1];
        if (field->rank != zarr->rank || parts.begin < 0 || parts.begin >= parts.end || parts.end > 2)
            return (struct dmc_row_fill){.dtype = DAMACY_NATIVE};
        first = (uint32_t)parts.begin;
        fill.count = (uint32_t)(parts.end - parts.begin);
    }
    memcpy(fill.elements, zarr->fill + first * zarr->item_bytes, fill.count * zarr->item_bytes);
    return fill;
}

/* What the row holds if it turns out bad: the array's fill value, where that is known and can be used, else 0; true: it is. */
static bool note_fill(const struct damacy *pipeline, const struct dmc_sample_slot *sample, uint32_t field,
                      struct dmc_row_fill *fill)
{
    *fill = (struct dmc_row_fill){.dtype = DAMACY_NATIVE};
    const struct dmc_array *array = dmc_prefetcher_array(&sample->regions[field]);
    enum damacy_dtype output = output_dtype(pipeline, field);
    if (!array || output == DAMACY_NATIVE)
        return false;
    enum damacy_dtype source = array->zarr->dtype;
    if (pipeline->home->fields[field].dtype == DAMACY_NATIVE ? source != output : !dmc_dtype_converts(source, output))
        return false;
    *fill = fill_of(array->zarr, sample->regions[field].aabb, &pipeline->home->fields[field]);
    return true;
}

/* Check one sample and list its regions. false: no memory. */
static bool plan_sample(struct planning *planning, struct dmc_sample_slot *sample, uint32_t row,
                        struct dmc_plan_region *regions, uint32_t *region_count)
{
    struct damacy *pipeline = planning->pipeline;
    uint32_t field_count = pipeline->home->field_count;
    uint32_t count = *region_count;
    bool good = true;
    for (uint32_t f = 0; f < field_count; f++) {
        struct dmc_row_fill fill;
        bool converts = note_fill(pipeline, sample, f, &fill);
        if (planning->batch)
            planning->batch->fills[row * field_count + f] = fill;
        if (sample->error)
            continue;
        struct dmc_array *array = dmc_prefetcher_array(&sample->regions[f]);
        enum damacy_dtype source = array->zarr->dtype, output = planning->outputs[f];
        if (!converts) {
            fail_dtype(planning, row, f, array);
            good = false;
            continue;
        }
        struct planned_array *entry = plan_array(planning, array);
        if (!entry)
            return false;
        if (!entry->rows[f])
            entry->rows[f] = planning->streamed ? dmc_scatter_select_streamed(source, array->chain->swap, output)
                                                : dmc_scatter_select(source, array->chain->swap, output);
        regions[count++] =
            (struct dmc_plan_region){.row = row, .field = f, .array = &entry->plan, .aabb = sample->regions[f].aabb};
    }
    if (good && !sample->error)
        *region_count = count; /* a sample is read in all its fields or in none */
    return true;
}

static const struct dmc_shard_entry *lookup_shard(void *user, const struct dmc_plan_array *array, const uint64_t *coordinates,
                                                  bool *failed)
{
    const struct planning *planning = user;
    const struct planned_array *entry = (const struct planned_array *)array;
    const struct damacy_error *error = NULL;
    const struct dmc_shard_index *index =
        dmc_prefetcher_shard(planning->pipeline->prefetcher, entry->array, coordinates, &error);
    *failed = !index;
    return index && !index->absent ? index->entries : NULL;
}

/* The newest batch comes first, as it is the likeliest not to have decoded the chunk yet. NULL: none is going to. */
static struct dmc_host *find_host(const struct planning *planning, const struct dmc_chunk_ask *ask,
                                  const struct dmc_batch_slot **slot)
{
    uint64_t hash = dmc_host_hash(ask->array, ask->index);
    for (uint32_t i = 0; i < planning->running->count; i++) {
        *slot = planning->running->slots[i];
        uint32_t chunk = dmc_host_find(&(*slot)->hosts, hash, ask);
        if (chunk != DMC_HOST_NONE && dmc_host_open(&(*slot)->run.hosts[chunk]))
            return &(*slot)->run.hosts[chunk];
    }
    return NULL;
}

/* Is a chunk of this array worth keeping? */
static bool keep_pays(const struct damacy *pipeline, const struct dmc_array *array)
{
    return pipeline->kept_chunks && !array->chain->raw && (pipeline->decode_slow || array->store->ops->expect);
}

static struct dmc_plan_source find_source(void *user, const struct dmc_chunk_ask *ask)
{
    const struct planning *planning = user;
    const struct dmc_kept_chunks *kept_chunks = planning->pipeline->kept_chunks;
    const struct dmc_batch_slot *slot;
    struct dmc_kept *kept = kept_chunks ? dmc_kept_chunks_find(kept_chunks, ask, false) : NULL;
    if (kept)
        return (struct dmc_plan_source){kept, true};
    return (struct dmc_plan_source){find_host(planning, ask, &slot), false};
}

/* A chunk that a batch decodes is copied for those that will want it. */
static struct dmc_kept *keep_chunk(struct damacy *pipeline, uint64_t batch_id, const struct dmc_plan *plan,
                                   struct dmc_host *host, const struct dmc_chunk *chunk)
{
    const struct planned_array *entry = (const struct planned_array *)chunk->array;
    struct dmc_chunk_ask own = dmc_host_ask(plan, chunk);
    if (!keep_pays(pipeline, entry->array))
        return NULL;
    struct dmc_kept *kept =
        dmc_kept_chunks_make(pipeline->kept_chunks, batch_id, &own, entry->array->chain->picks, entry->array);
    if (kept)
        atomic_store_explicit(&host->kept, kept, memory_order_release); /* partner: dmc_host_kept */
    return kept;
}

/* The same for a batch that is not planned yet: what it will hardly have to read itself. It wants the chunk, and a batch that
 * is going to decode it without knowing of that learns of it now. */
static struct dmc_plan_source foresee_source(void *user, const struct dmc_chunk_ask *ask)
{
    const struct planning *planning = user;
    struct damacy *pipeline = planning->pipeline;
    const struct dmc_batch_slot *slot;
    if (!keep_pays(pipeline, ((const struct planned_array *)ask->array)->array))
        return (struct dmc_plan_source){0};
    dmc_kept_chunks_want(pipeline->kept_chunks, planning->batch_id, ask);
    struct dmc_kept *kept = dmc_kept_chunks_find(pipeline->kept_chunks, ask, true);
    if (kept)
        return (struct dmc_plan_source){kept, true};
    struct dmc_host *host = find_host(planning, ask, &slot);
    if (host)
        kept = keep_chunk(pipeline, slot->run.batch_id, &slot->run.plan, host, &slot->run.plan.chunks[host - slot->run.hosts]);
    bool expected = kept || dmc_kept_chunks_expected(pipeline->kept_chunks, planning->batch_id, ask);
    return (struct dmc_plan_source){expected ? pipeline->kept_chunks : NULL, true};
}

static void fail_region(void *user, uint32_t row, uint32_t field, const struct damacy_error *error)
{
    struct planning *planning = user;
    struct damacy_error named;
    if (!planning->batch)
        return;
    if (error)
        named = *error;
    else /* samples whose index failed never get here */
        dmc_error_set(&named, DAMACY_INTERNAL, "plan", "a shard index is missing although its sample was resolved");
    const struct dmc_sample_slot *sample = closed_sample(planning->pipeline, planning->closed, row);
    dmc_error_where(&named, sample->regions[field].uri, NULL, 0, 0);
    dmc_error_field(&named, planning->pipeline->home->fields[field].name);
    dmc_row_fail(planning->batch, row, field, 0, &named);
}

/* The keys that the store wants: the array's prefix, '/', the object's key. */
static bool make_objects(struct planning *planning, struct dmc_backend_batch *run)
{
    struct dmc_backend_object *objects = dmc_arena_array(planning->arena, struct dmc_backend_object, run->plan.object_count);
    if (!objects)
        return false;
    for (uint32_t i = 0; i < run->plan.object_count; i++) {
        const struct dmc_plan_object *object = &run->plan.objects[i];
        const struct dmc_array *array = ((const struct planned_array *)object->array)->array;
        size_t key_bytes = strlen(object->key);
        char *key = dmc_arena_alloc(planning->arena, array->prefix_bytes + 1 + key_bytes + 1, 1);
        if (!key)
            return false;
        memcpy(key, array->prefix, array->prefix_bytes);
        key[array->prefix_bytes] = '/';
        memcpy(key + array->prefix_bytes + 1, object->key, key_bytes + 1);
        objects[i] = (struct dmc_backend_object){key, dmc_hash_bytes(key, array->prefix_bytes + 1 + key_bytes, 0)};
    }
    run->objects = objects;
    return true;
}

/* The batch's rows, before anything can fail. Errors of the prefetcher are copied here and dropped with the sample. */
static void begin_batch(struct planning *planning, uint64_t batch_id, const struct dmc_closed_batch *closed)
{
    struct damacy *pipeline = planning->pipeline;
    struct damacy_batch *batch = planning->batch;
    dmc_batch_clear(batch);
    batch->batch_id = batch_id;
    batch->pushed_count = closed->count;
    decide_native(pipeline, closed);
    for (uint32_t i = 0; i < closed->count; i++) {
        const struct dmc_sample_slot *sample = closed_sample(pipeline, closed, i);
        batch->states[i] = (struct dmc_row_state){.ordinal = sample->ordinal, .tag = sample->tag};
    }
}

/* The plan stands: what the prefetcher found wrong becomes the rows' errors. */
static void take_errors(struct planning *planning, const struct dmc_closed_batch *closed)
{
    for (uint32_t i = 0; i < closed->count; i++) {
        struct dmc_sample_slot *sample = closed_sample(planning->pipeline, closed, i);
        if (sample->error) {
            dmc_error_field(sample->error, planning->pipeline->home->fields[sample->error_field].name);
            dmc_free(planning->batch->states[i].error);
            planning->batch->states[i].error = sample->error;
            planning->batch->states[i].status = sample->error->status;
            sample->error = NULL;
        }
    }
}

static bool plan_all(struct planning *planning, const struct dmc_closed_batch *closed, struct damacy_error *error)
{
    struct damacy *pipeline = planning->pipeline;
    struct dmc_batch_slot *slot = planning->slot;
    struct dmc_arena *arena = planning->arena;
    uint32_t field_count = pipeline->home->field_count;
    uint64_t regions_max = (uint64_t)closed->count * field_count;
    uint64_t table_size = 4;
    while (table_size < 2 * regions_max)
        table_size *= 2;

    planning->outputs = dmc_arena_array(arena, enum damacy_dtype, field_count);
    planning->table = dmc_arena_array(arena, struct planned_array *, table_size);
    planning->table_mask = table_size - 1;
    slot->arrays = dmc_arena_array(arena, struct dmc_array *, regions_max);
    slot->array_count = 0;
    struct dmc_plan_region *regions = dmc_arena_array(arena, struct dmc_plan_region, regions_max);
    struct dmc_plan_field *fields = dmc_arena_array(arena, struct dmc_plan_field, field_count);
    struct dmc_backend_tensor *tensors = dmc_arena_array(arena, struct dmc_backend_tensor, field_count);
    if (!planning->outputs || !planning->table || !slot->arrays || !regions || !fields || !tensors)
        return false;
    memset(planning->table, 0, table_size * sizeof *planning->table);

    for (uint32_t f = 0; f < field_count; f++) {
        const struct damacy_field *field = &pipeline->home->fields[f];
        planning->outputs[f] = output_dtype(pipeline, f);
        uint32_t item_bytes = (uint32_t)damacy_dtype_bytes(planning->outputs[f]);
        fields[f] = (struct dmc_plan_field){field->rank, field->sample_shape, item_bytes};
        if (!planning->batch)
            continue;
        tensors[f] = (struct dmc_backend_tensor){pipeline->tensor_offsets[f], planning->outputs[f]};
        planning->batch->tensors[f].dtype = planning->outputs[f];
    }

    uint32_t region_count = 0;
    for (uint32_t i = 0; i < closed->count; i++) {
        struct dmc_sample_slot *sample = closed_sample(pipeline, closed, i);
        if (!plan_sample(planning, sample, i, regions, &region_count))
            return false;
    }

    struct dmc_plan_lookup lookup = {planning, lookup_shard, NULL};
    if (planning->running && planning->batch)
        lookup.source = find_source;
    else if (planning->running && pipeline->kept_chunks)
        lookup.source = foresee_source;
    struct dmc_plan_failure failure = {planning, fail_region};
    uint64_t gap = pipeline->config.tuning.coalesce_gap_bytes;
    struct dmc_plan_options options = {
        .coalesce_gap_bytes = gap,
        .span_gap_bytes = gap < 4096 ? gap : 4 * gap, /* measured: see COALESCE_GAP_BYTES */
        .coalesce_read_bytes_max = pipeline->config.tuning.coalesce_read_bytes_max,
        .whole_chunks = pipeline->config.verify == DAMACY_VERIFY_FULL,
    };
    if (dmc_plan_make(regions, region_count, fields, field_count, &lookup, &failure, &options, arena, &slot->run.plan, error) !=
        DAMACY_OK)
        return false;
    slot->run.tensors = tensors;
    slot->run.user = slot;
    slot->run.batch_id = planning->batch_id;
    return make_objects(planning, &slot->run);
}

static void drop_arrays(struct dmc_batch_slot *slot)
{
    for (uint32_t i = 0; i < slot->array_count; i++)
        dmc_array_release(slot->arrays[i]);
    slot->array_count = 0;
}

static void measure_work(void *user, struct dmc_write_work *work)
{
    const struct damacy *pipeline = user;
    pipeline->backend->ops->work(pipeline->backend, &work->cpu_ns, &work->bytes);
}

static void forget_hosts(struct dmc_batch_slot *slot)
{
    slot->hosts = (struct dmc_host_table){0};
    slot->run.hosts = NULL;
    slot->run.guests = NULL;
}

/* Room for the batch's guests. */
static bool make_guests(struct dmc_batch_slot *slot)
{
    uint32_t count = slot->run.plan.kept_begin - slot->run.plan.guest_begin;
    if (count)
        slot->run.guests = dmc_arena_array(&slot->arena, struct dmc_guest, count);
    return count == 0 || slot->run.guests;
}

/* Later batches may have guests in this one, if memory is left for that, and those that are known to want a chunk later than
 * that get it kept. */
static void make_hosts(struct damacy *pipeline, struct dmc_batch_slot *slot)
{
    const struct dmc_plan *plan = &slot->run.plan;
    dmc_host_table_init(&slot->hosts, plan, &slot->arena);
    if (!slot->hosts.plan)
        return;
    uint32_t count = dmc_host_count(plan);
    struct dmc_host *hosts = dmc_arena_array(&slot->arena, struct dmc_host, count);
    for (uint32_t i = 0; hosts && i < count; i++) {
        atomic_init(&hosts[i].guests, NULL);
        atomic_init(&hosts[i].kept, NULL);
        if (dmc_host_listed(&plan->chunks[i]))
            keep_chunk(pipeline, slot->run.batch_id, plan, &hosts[i], &plan->chunks[i]);
    }
    slot->run.hosts = hosts;
    if (!hosts) /* its own guests stay */
        slot->hosts = (struct dmc_host_table){0};
}

/* A chunk of 128 KiB that is kept costs 40 microseconds, or 0.3 nanoseconds a byte: what is written goes out of the caches, and
 * comes back when it is used. Decoding takes 0.2 (blosc with lz4), 0.6 (blosc with zstd) or 1.1 (zstd) in the same units;
 * keeping made 0.91, 1.05 and 1.06 of the speed with the eight next batches looked at. Chunks that come over a network are
 * worth more. */
#define DECODE_SLOW_PS 400u /* picoseconds a byte */
#define DECODE_SLOW_AGAIN_PS                                                                                                   \
    800u /* a thread that has to wait for its core seems to decode slowly, so this way it takes more                           \
          */
#define DECODE_WINDOW_BYTES (8ull << 20)

static void measure_decoding(struct damacy *pipeline)
{
    struct dmc_backend_stats stats;
    if (!pipeline->kept_chunks)
        return;
    pipeline->backend->ops->stats(pipeline->backend, &stats);
    uint64_t bytes = stats.decode.bytes - pipeline->decode_before.bytes;
    if (bytes < DECODE_WINDOW_BYTES)
        return;
    uint64_t ps = (stats.decode.time_ns - pipeline->decode_before.time_ns) * 1000 / bytes;
    pipeline->decode_slow = ps >= (pipeline->decode_slow ? DECODE_SLOW_PS : DECODE_SLOW_AGAIN_PS);
    pipeline->decode_before = stats.decode;
}

/* The chunks that the batch takes from what was kept stay until it is done. */
static void use_kept(struct damacy *pipeline, const struct dmc_plan *plan, uint64_t batch_id, const struct dmc_running *running)
{
    for (uint32_t r = plan->kept_begin; r < plan->read_count; r++)
        dmc_kept_use(plan->hosts[r - plan->guest_begin]);
    if (pipeline->kept_chunks)
        dmc_kept_chunks_planned(pipeline->kept_chunks, batch_id, running->oldest);
}

void dmc_plan_leave_kept(const struct dmc_plan *plan)
{
    for (uint32_t r = plan->kept_begin; r < plan->read_count; r++)
        dmc_kept_leave(plan->hosts[r - plan->guest_begin]);
}

enum damacy_status dmc_plan_run(struct damacy *pipeline, struct dmc_batch_slot *slot, uint64_t batch_id,
                                const struct dmc_closed_batch *closed, const struct dmc_running *running,
                                struct damacy_error *error)
{
    struct planning planning = {.pipeline = pipeline,
                                .batch = slot->batch,
                                .slot = slot,
                                .arena = &slot->arena,
                                .closed = closed,
                                .batch_id = batch_id,
                                .running = running->count || pipeline->kept_chunks ? running : NULL};
    dmc_arena_reset(&slot->arena);
    slot->array_count = 0;
    slot->planned_ns = dmc_clock_ns();
    forget_hosts(slot);
    begin_batch(&planning, batch_id, closed);
    error->status = DAMACY_OK;
    planning.streamed = dmc_write_choice_next(&pipeline->write_choice, measure_work, pipeline);
    bool planned = plan_all(&planning, closed, error) && make_guests(slot);
    if (!planned) {
        /* Guests take some memory, and so do the ends of blocks, as many as the slot's batches before have left. Whether a
         * batch has enough must depend on nothing but the batch. */
        drop_arrays(slot);
        dmc_arena_reset_whole(&slot->arena);
        planning.running = NULL;
        error->status = DAMACY_OK;
        planned = plan_all(&planning, closed, error);
    }
    if (!planned) {
        drop_arrays(slot);
        if (error->status == DAMACY_OK)
            dmc_error_set(error, DAMACY_BUDGET, "plan", "no room for the plan of batch %llu", (unsigned long long)batch_id);
        dmc_error_hint(error, "raise max_host_memory_bytes, or lower samples_per_batch or batch_slots");
        return error->status;
    }
    take_errors(&planning, closed);
    measure_decoding(pipeline);
    use_kept(pipeline, &slot->run.plan, batch_id, running);
    if (pipeline->backend->ops->hosts && !pipeline->config.tuning.bypass_decode)
        make_hosts(pipeline, slot);
    return DAMACY_OK;
}

/* Does anyone want to know what this batch will read or decode, and can it be told? */
static bool preview_pays(const struct damacy *pipeline, const struct dmc_closed_batch *closed)
{
    bool pays = false;
    for (uint32_t f = 0; f < pipeline->home->field_count; f++) {
        if (output_dtype(pipeline, f) == DAMACY_NATIVE)
            return false;
        for (uint32_t i = 0; i < closed->count && !pays; i++) {
            const struct dmc_sample_slot *sample = closed_sample(pipeline, closed, i);
            const struct dmc_array *array = sample->error ? NULL : dmc_prefetcher_array(&sample->regions[f]);
            pays = array && (array->store->ops->expect || keep_pays(pipeline, array));
        }
    }
    return pays;
}

bool dmc_plan_preview(struct damacy *pipeline, struct dmc_batch_slot *slot, uint64_t batch_id,
                      const struct dmc_closed_batch *closed, const struct dmc_running *running)
{
    struct planning planning = {
        .pipeline = pipeline, .slot = slot, .arena = &slot->arena, .closed = closed, .batch_id = batch_id, .running = running};
    struct damacy_error error;
    dmc_arena_reset(&slot->arena);
    slot->array_count = 0;
    if (!preview_pays(pipeline, closed))
        return false;
    if (plan_all(&planning, closed, &error))
        return true;
    drop_arrays(slot);
    return false;
}

void dmc_plan_preview_end(struct dmc_batch_slot *slot)
{
    drop_arrays(slot);
}

void dmc_plan_nothing(struct damacy *pipeline, struct dmc_batch_slot *slot, uint64_t batch_id,
                      const struct dmc_closed_batch *closed, const struct damacy_error *error)
{
    struct planning planning = {
        .pipeline = pipeline, .batch = slot->batch, .slot = slot, .arena = &slot->arena, .closed = closed};
    slot->array_count = 0;
    slot->run.plan = (struct dmc_plan){0};
    forget_hosts(slot);
    slot->run.user = slot;
    slot->run.batch_id = batch_id;
    begin_batch(&planning, batch_id, closed);
    for (uint32_t f = 0; f < pipeline->home->field_count; f++)
        slot->batch->tensors[f].dtype = output_dtype(pipeline, f);
    for (uint32_t i = 0; i < closed->count; i++) {
        dmc_row_fail(slot->batch, i, 0, 0, error);
        for (uint32_t f = 0; f < pipeline->home->field_count; f++)
            note_fill(pipeline, closed_sample(pipeline, closed, i), f,
                      &slot->batch->fills[i * pipeline->home->field_count + f]);
    }
    take_errors(&planning, closed);
}
