/* A sample's way through the stages. Two rules make what happens to it independent of timing:
 *
 * - A stage asks for everything that its samples need, in push order, also when something has failed already; only BUDGET stops
 *   a sample, and that is decided when nothing of that cache is being filled, so from settled charges alone.
 * - A failure is looked at when all that the stage asked for has come; then the lowest in (field, shard) order is taken. A
 * field that failed ends the sample's interest in the fields behind it, not in those before. */
#include "prefetch/prefetcher_impl.h"

#include "base/error.h"
#include "base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

bool dmc_stages_room(const struct dmc_prefetcher *prefetcher)
{
    return prefetcher->taken - prefetcher->oldest < prefetcher->work_capacity;
}

bool dmc_stages_watermark(struct dmc_prefetcher *prefetcher)
{
    uint64_t watermark = prefetcher->hooks.watermark(prefetcher->hooks.user);
    if (watermark <= prefetcher->watermark)
        return false;
    prefetcher->watermark = watermark;
    for (uint32_t i = 0; i < DMC_METADATA_COUNT; i++)
        dmc_prefetch_cache_watermark(prefetcher->caches[i], watermark);
    return true;
}

void dmc_stages_admit(struct dmc_prefetcher *prefetcher, struct dmc_sample_slot *slot)
{
    /* Once a batch, so that failures that may pass are unpinned even where the caches are never full. */
    if (slot->batch_id != prefetcher->batch_newest) {
        prefetcher->batch_newest = slot->batch_id;
        dmc_stages_watermark(prefetcher);
    }
    prefetcher->works[prefetcher->taken % prefetcher->work_capacity] =
        (struct dmc_sample_work){.slot = slot, .field_end = prefetcher->options.field_count};
    prefetcher->taken++;
    atomic_fetch_add_explicit(&prefetcher->samples, 1, memory_order_relaxed);
}

/* `field` failed. Callers see to it that the lowest one is told last. */
static void fail_sample(struct dmc_sample_work *work, uint32_t field, const struct damacy_error *error)
{
    assert(field <= work->field_end);
    work->field_end = field;
    work->status = error->status;
    if (!work->error)
        work->error = dmc_malloc(sizeof *work->error);
    if (work->error)
        *work->error = *error;
}

/* --- resolving --- */

static void hand_on(struct dmc_prefetcher *prefetcher, struct dmc_sample_work *work)
{
    struct dmc_sample_slot *slot = work->slot;
    slot->error = work->error;
    slot->error_field = work->error ? work->field_end : 0;
    work->error = NULL;
    work->stage = DMC_STAGE_RESOLVED;
    while (prefetcher->oldest < prefetcher->taken &&
           prefetcher->works[prefetcher->oldest % prefetcher->work_capacity].stage == DMC_STAGE_RESOLVED)
        prefetcher->oldest++;
    prefetcher->hooks.resolved(prefetcher->hooks.user, slot);
}

static void resolve(struct dmc_prefetcher *prefetcher, struct dmc_sample_work *work)
{
    if (work->status && !work->error) {
        /* Without its error it would pass for a good one, so it waits until there is memory to say at least this. */
        work->error = dmc_malloc(sizeof *work->error);
        if (!work->error) {
            prefetcher->starved_count += work->stage != DMC_STAGE_STARVED;
            work->stage = DMC_STAGE_STARVED;
            return;
        }
        dmc_error_set(work->error, work->status, "metadata", "memory was too short to say what failed");
        dmc_error_where(work->error, work->slot->regions[work->field_end].uri, NULL, 0, 0);
    }
    prefetcher->starved_count -= work->stage == DMC_STAGE_STARVED;
    hand_on(prefetcher, work);
}

static void retry_starved(struct dmc_prefetcher *prefetcher)
{
    for (uint64_t seq = prefetcher->oldest; prefetcher->starved_count > 0 && seq < prefetcher->taken; seq++) {
        struct dmc_sample_work *work = &prefetcher->works[seq % prefetcher->work_capacity];
        if (work->stage == DMC_STAGE_STARVED)
            resolve(prefetcher, work);
    }
}

/* --- checks of a region against its array --- */

/* "[0, 16) x [4, 8)", or the extents when `shape` is given. Cut where it does not fit. */
static void describe(char *text, size_t capacity, uint32_t rank, const struct damacy_interval *aabb, const uint64_t *shape)
{
    size_t at = 0;
    text[0] = 0;
    for (uint32_t axis = 0; axis < rank && at < capacity; axis++) {
        int bytes = aabb ? snprintf(text + at, capacity - at, "%s[%lld, %lld)", axis ? " x " : "", (long long)aabb[axis].begin,
                                    (long long)aabb[axis].end)
                         /* cppcheck-suppress nullPointer; one of the two is given */
                         : snprintf(text + at, capacity - at, "%s%llu", axis ? " x " : "", (unsigned long long)shape[axis]);
        at += (size_t)bytes;
    }
}

static bool inside(const struct damacy_interval *interval, uint64_t extent)
{
    return interval->begin >= 0 && interval->begin < interval->end && (uint64_t)interval->end <= extent;
}

static enum damacy_status check_region(const struct dmc_slot_region *region, const struct dmc_array *array, uint32_t rank,
                                       struct damacy_error *error)
{
    const struct dmc_zarr_array *zarr = array->zarr;
    char expected[128], found[128];
    if (zarr->rank != rank) {
        dmc_error_set(error, DAMACY_RANK, "metadata", "the array has another number of axes than the field's samples");
        snprintf(expected, sizeof expected, "%u axes", rank);
        snprintf(found, sizeof found, "%u", zarr->rank);
        dmc_error_expected(error, expected, found);
        dmc_error_where(error, region->uri, array->metadata_key, 0, 0);
        return DAMACY_RANK;
    }
    for (uint32_t axis = 0; axis < rank; axis++) {
        if (inside(&region->aabb[axis], zarr->shape[axis]))
            continue;
        char box[512], shape[512];
        describe(box, sizeof box, rank, region->aabb, NULL);
        describe(shape, sizeof shape, rank, NULL, zarr->shape);
        dmc_error_set(error, DAMACY_RANK, "metadata", "axis %u of the box is outside the array (box %s, array shape %s)", axis,
                      box, shape);
        snprintf(expected, sizeof expected, "indices in [0, %llu)", (unsigned long long)zarr->shape[axis]);
        snprintf(found, sizeof found, "[%lld, %lld)", (long long)region->aabb[axis].begin, (long long)region->aabb[axis].end);
        dmc_error_expected(error, expected, found);
        dmc_error_where(error, region->uri, NULL, 0, 0);
        return DAMACY_RANK;
    }
    return DAMACY_OK;
}

/* --- shards of a box, in C order --- */

static void first_shard(const struct dmc_zarr_array *zarr, const struct damacy_interval *aabb, uint64_t *shard)
{
    for (uint32_t axis = 0; axis < zarr->rank; axis++)
        shard[axis] = dmc_zarr_grid_coordinate(zarr, axis, (uint64_t)aabb[axis].begin);
}

static bool next_shard(const struct dmc_zarr_array *zarr, const struct damacy_interval *aabb, uint64_t *shard)
{
    for (uint32_t axis = zarr->rank; axis-- > 0;) {
        if (shard[axis] < dmc_zarr_grid_coordinate(zarr, axis, (uint64_t)(aabb[axis].end - 1))) {
            shard[axis]++;
            return true;
        }
        shard[axis] = dmc_zarr_grid_coordinate(zarr, axis, (uint64_t)aabb[axis].begin);
    }
    return false;
}

/* --- the end of a stage --- */

/* Which array failed, or does not fit its box? */
static void settle_arrays(struct dmc_prefetcher *prefetcher, struct dmc_sample_work *work)
{
    for (uint32_t field = 0; field < work->field_end; field++) {
        struct dmc_slot_region *region = &work->slot->regions[field];
        if (region->array->state == DMC_ENTRY_FAILED) {
            fail_sample(work, field, region->array->error);
        } else if (check_region(region, dmc_prefetcher_array(region), prefetcher->ranks[field], &prefetcher->error)) {
            fail_sample(work, field, &prefetcher->error);
        }
    }
}

/* Which was the first shard whose index failed? The entries are pinned, so they are all still there. */
static void settle_indices(struct dmc_prefetcher *prefetcher, struct dmc_sample_work *work)
{
    uint8_t key[DMC_SHARD_INDEX_KEY_BYTES];
    uint64_t shard[DAMACY_RANK_MAX];
    for (uint32_t field = 0; field <= work->field_end && field < prefetcher->options.field_count; field++) {
        const struct dmc_slot_region *region = &work->slot->regions[field];
        const struct dmc_array *array =
            field == work->field_end && work->shards_asked == 0 ? NULL : dmc_prefetcher_array(region);
        if (!array || !array->zarr->sharded)
            continue;
        uint64_t left = field == work->field_end ? work->shards_asked : UINT64_MAX;
        uint32_t head_bytes = dmc_shard_index_key_head(array, key);
        first_shard(array->zarr, region->aabb, shard);
        do {
            uint32_t bytes = dmc_shard_index_key(array, head_bytes, shard, key);
            const struct dmc_prefetch_entry *entry =
                dmc_prefetch_cache_find(prefetcher->caches[DMC_METADATA_INDEX], key, bytes);
            if (entry && entry->state == DMC_ENTRY_FAILED) {
                fail_sample(work, field, entry->error);
                return;
            }
        } while (--left > 0 && next_shard(array->zarr, region->aabb, shard));
    }
}

static void settle_layouts(struct dmc_prefetcher *prefetcher, struct dmc_sample_work *work)
{
    for (uint32_t field = 0; field < work->field_end; field++) {
        const struct dmc_slot_region *region = &work->slot->regions[field];
        const struct dmc_prefetch_entry *entry =
            dmc_prefetch_cache_find(prefetcher->caches[DMC_METADATA_LAYOUT], region->uri, region->uri_bytes);
        if (entry && entry->state == DMC_ENTRY_FAILED) {
            fail_sample(work, field, entry->error);
            return;
        }
    }
}

static bool any_sharded(const struct dmc_sample_work *work)
{
    for (uint32_t field = 0; field < work->field_end; field++)
        if (dmc_prefetcher_array(&work->slot->regions[field])->zarr->sharded)
            return true;
    return false;
}

/* Everything that the stage asked for has come. */
static void end_stage(struct dmc_prefetcher *prefetcher, struct dmc_sample_work *work)
{
    bool need_index = false;
    if (work->stage == DMC_METADATA_ARRAY) {
        settle_arrays(prefetcher, work);
        need_index = any_sharded(work);
    } else if (work->fetch_failed) {
        if (work->stage == DMC_METADATA_INDEX)
            settle_indices(prefetcher, work);
        else
            settle_layouts(prefetcher, work);
    }
    if (need_index)
        work->stage = DMC_METADATA_INDEX;
    else if (prefetcher->options.want_layout && work->status == DAMACY_OK && work->stage != DMC_METADATA_LAYOUT)
        work->stage = DMC_METADATA_LAYOUT;
    else {
        resolve(prefetcher, work);
        return;
    }
    work->asked = false;
    work->fetch_failed = false;
    work->shards_asked = 0;
}

void dmc_stages_wake(struct dmc_prefetcher *prefetcher, uint32_t place, bool failed)
{
    struct dmc_sample_work *work = &prefetcher->works[place];
    assert(work->outstanding > 0);
    work->outstanding--;
    work->fetch_failed |= failed;
    if (work->asked && work->outstanding == 0)
        end_stage(prefetcher, work);
}

/* --- asking --- */

enum asked {
    ASKED_OK,
    ASKED_LATER, /* the stage stands still until something ends or the watermark moves */
    ASKED_NEVER  /* prefetcher->error tells why */
};

/* What a new fetch is about, beside its key. */
struct subject {
    const struct dmc_array *array;
    const uint64_t *shard;
    const struct damacy_interval *aabb;
};

static void begin_fetch(struct dmc_prefetcher *prefetcher, enum dmc_metadata metadata, struct dmc_prefetch_entry *entry,
                        const struct subject *subject)
{
    struct dmc_fetch *fetch = dmc_fetch_pop(&prefetcher->free);
    fetch->metadata = metadata;
    fetch->cache = prefetcher->caches[metadata];
    fetch->entry = entry;
    fetch->array = subject->array;
    entry->fill = fetch;
    prefetcher->filling[metadata]++;
    enum dmc_fetch_step step;
    if (metadata == DMC_METADATA_ARRAY)
        step = dmc_array_meta_begin(fetch, &prefetcher->env);
    else if (metadata == DMC_METADATA_INDEX)
        step = dmc_shard_index_begin(fetch, &prefetcher->env, subject->shard, subject->aabb);
    else
        step = dmc_chunk_layout_begin(fetch, &prefetcher->env, subject->aabb);
    dmc_fetch_run(prefetcher, fetch, step);
}

/* Ask a cache for one thing that a sample needs. `uri` is for messages. */
static enum asked ask(struct dmc_prefetcher *prefetcher, struct dmc_sample_work *work, enum dmc_metadata metadata,
                      const void *key, uint32_t key_bytes, uint64_t reserve_bytes, const char *uri,
                      const struct subject *subject, struct dmc_prefetch_entry **out)
{
    static const char *const what[] = {"array metadata", "shard indices", "chunk layouts"};
    static const char *const stages[] = {"metadata", "index", "metadata"};
    struct dmc_prefetch_cache *cache = prefetcher->caches[metadata];
    struct dmc_prefetch_entry *entry;
    if (prefetcher->free.count == 0) {
        /* Only what is there can be had now, and a failure might have to be made anew. */
        entry = dmc_prefetch_cache_find(cache, key, key_bytes);
        if (!entry || entry->state == DMC_ENTRY_FAILED)
            return ASKED_LATER;
    }
    uint64_t batch = work->slot->batch_id;
    enum dmc_acquire acquired;
    do
        acquired = dmc_prefetch_cache_acquire(cache, key, key_bytes, reserve_bytes, batch, &entry);
    while (acquired == DMC_ACQUIRE_FULL && dmc_stages_watermark(prefetcher));
    switch (acquired) {
    case DMC_ACQUIRE_FULL:
        if (batch > prefetcher->watermark || prefetcher->filling[metadata] > 0)
            return ASKED_LATER;
        __attribute__((fallthrough)); /* nothing will ever make room */
    case DMC_ACQUIRE_TOO_BIG:
        dmc_prefetch_cache_refuse(cache, what[metadata], stages[metadata], reserve_bytes, &prefetcher->error);
        dmc_error_where(&prefetcher->error, uri, NULL, 0, 0);
        return ASKED_NEVER;
    case DMC_ACQUIRE_OOM:
        dmc_error_set(&prefetcher->error, DAMACY_OOM, stages[metadata], "no memory for the %s", what[metadata]);
        dmc_error_where(&prefetcher->error, uri, NULL, 0, 0);
        return ASKED_NEVER;
    case DMC_ACQUIRE_MADE:
        begin_fetch(prefetcher, metadata, entry, subject);
        break;
    case DMC_ACQUIRE_FOUND:
        break;
    }
    *out = entry;
    if (entry->state == DMC_ENTRY_FAILED)
        work->fetch_failed = true;
    if (entry->state != DMC_ENTRY_FILLING)
        return ASKED_OK;
    uint32_t place = (uint32_t)(work - prefetcher->works);
    uint64_t *word = &((struct dmc_fetch *)entry->fill)->waiting[place / 64], bit = UINT64_C(1) << place % 64;
    work->outstanding += !(*word & bit); /* two fields may name one array */
    *word |= bit;
    return ASKED_OK;
}

/* Each of these asks for all that the sample needs of a stage, from where its cursor stands; false: later. */

static bool ask_arrays(struct dmc_prefetcher *prefetcher, struct dmc_stage_cursor *cursor, struct dmc_sample_work *work)
{
    for (; cursor->field < work->field_end; cursor->field++) {
        struct dmc_slot_region *region = &work->slot->regions[cursor->field];
        enum asked asked = ask(prefetcher, work, DMC_METADATA_ARRAY, region->uri, region->uri_bytes,
                               dmc_array_meta_reserve(region->uri_bytes), region->uri, &(struct subject){0}, &region->array);
        if (asked == ASKED_LATER)
            return false;
        if (asked == ASKED_NEVER)
            fail_sample(work, cursor->field, &prefetcher->error);
    }
    return true;
}

static bool ask_indices(struct dmc_prefetcher *prefetcher, struct dmc_stage_cursor *cursor, struct dmc_sample_work *work)
{
    for (; cursor->field < work->field_end; cursor->field++) {
        const struct dmc_slot_region *region = &work->slot->regions[cursor->field];
        const struct dmc_array *array = dmc_prefetcher_array(region);
        if (!array->zarr->sharded)
            continue;
        if (!cursor->inside) {
            first_shard(array->zarr, region->aabb, cursor->shard);
            cursor->head_bytes = dmc_shard_index_key_head(array, cursor->key);
            cursor->shard_count = 0;
            cursor->inside = true;
        }
        do {
            uint32_t key_bytes = dmc_shard_index_key(array, cursor->head_bytes, cursor->shard, cursor->key);
            struct dmc_prefetch_entry *entry;
            enum asked asked =
                ask(prefetcher, work, DMC_METADATA_INDEX, cursor->key, key_bytes, dmc_shard_index_reserve(array, key_bytes),
                    region->uri, &(struct subject){.array = array, .shard = cursor->shard, .aabb = region->aabb}, &entry);
            if (asked == ASKED_LATER)
                return false;
            if (asked == ASKED_NEVER) {
                work->shards_asked = cursor->shard_count;
                fail_sample(work, cursor->field, &prefetcher->error);
                return true;
            }
            cursor->shard_count++;
        } while (next_shard(array->zarr, region->aabb, cursor->shard));
        cursor->inside = false;
    }
    return true;
}

static bool ask_layouts(struct dmc_prefetcher *prefetcher, struct dmc_stage_cursor *cursor, struct dmc_sample_work *work)
{
    for (; cursor->field < work->field_end; cursor->field++) {
        const struct dmc_slot_region *region = &work->slot->regions[cursor->field];
        struct dmc_prefetch_entry *entry;
        enum asked asked = ask(prefetcher, work, DMC_METADATA_LAYOUT, region->uri, region->uri_bytes,
                               dmc_chunk_layout_reserve(region->uri_bytes), region->uri,
                               &(struct subject){.array = dmc_prefetcher_array(region), .aabb = region->aabb}, &entry);
        if (asked == ASKED_LATER)
            return false;
        if (asked == ASKED_NEVER)
            fail_sample(work, cursor->field, &prefetcher->error);
    }
    return true;
}

/* Let one stage go on as far as it can; true: something moved. */
static bool pump_stage(struct dmc_prefetcher *prefetcher, enum dmc_metadata metadata)
{
    struct dmc_stage_cursor *cursor = &prefetcher->cursors[metadata];
    bool moved = false;
    if (cursor->seq < prefetcher->oldest)
        cursor->seq = prefetcher->oldest; /* those passed were resolved without this stage: no cursor stands inside them */
    while (cursor->seq < prefetcher->taken && !dmc_prefetcher_stopping(prefetcher)) {
        struct dmc_sample_work *work = &prefetcher->works[cursor->seq % prefetcher->work_capacity];
        if (work->stage < metadata)
            break;
        if (work->stage == metadata) {
            bool all = metadata == DMC_METADATA_ARRAY   ? ask_arrays(prefetcher, cursor, work)
                       : metadata == DMC_METADATA_INDEX ? ask_indices(prefetcher, cursor, work)
                                                        : ask_layouts(prefetcher, cursor, work);
            if (!all)
                break;
            work->asked = true;
        }
        cursor->seq++;
        cursor->field = 0;
        cursor->inside = false;
        moved = true;
        if (work->stage == metadata && work->outstanding == 0)
            end_stage(prefetcher, work);
    }
    return moved;
}

void dmc_stages_pump(struct dmc_prefetcher *prefetcher)
{
    if (prefetcher->starved_count > 0)
        retry_starved(prefetcher);
    bool moved;
    do {
        /* Later stages first: free requests go to the samples that are nearest to the end. */
        moved = pump_stage(prefetcher, DMC_METADATA_LAYOUT);
        moved |= pump_stage(prefetcher, DMC_METADATA_INDEX);
        moved |= pump_stage(prefetcher, DMC_METADATA_ARRAY);
    } while (moved && !dmc_prefetcher_stopping(prefetcher));
}
