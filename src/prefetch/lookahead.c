/* The ring of samples; see lookahead.h. All of it is one allocation:
 *
 *     | slots | marks | regions | boxes | uris |
 *
 * The uris of a sample lie together in the byte ring: where they do not fit before its end they begin again at its start, and
 * the gap belongs to the sample. Since the ring holds four times the longest, an empty one always has room. */
#include "prefetch/lookahead.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"

#include <assert.h>
#include <string.h>

struct geometry {
    uint64_t capacity, boxes_per_sample, uri_capacity;
    uint64_t marks_at, regions_at, boxes_at, uris_at, bytes; /* offsets in the allocation */
};

static struct geometry measure(uint32_t lookahead_samples, uint32_t prefetch_samples, uint32_t field_count,
                               const uint32_t *ranks)
{
    struct geometry g = {.capacity = (uint64_t)lookahead_samples + prefetch_samples};
    for (uint32_t field = 0; field < field_count; field++)
        g.boxes_per_sample += ranks[field];
    __uint128_t usual = (__uint128_t)g.capacity * 128 * field_count;
    uint64_t longest = 4 * (uint64_t)field_count * (DAMACY_URI_BYTES_MAX + 1);
    g.uri_capacity = usual > INT64_MAX ? INT64_MAX : dmc_max_u64((uint64_t)usual, longest);
    /* 32-bit counts of samples and fields: a product of three can overflow, so it is done with care. */
    __uint128_t at = (__uint128_t)g.capacity * sizeof(struct dmc_sample_slot);
    __uint128_t marks = at, regions = marks + (__uint128_t)g.capacity * sizeof(uint64_t);
    __uint128_t boxes = regions + (__uint128_t)g.capacity * field_count * sizeof(struct dmc_slot_region);
    __uint128_t uris = boxes + (__uint128_t)g.capacity * g.boxes_per_sample * sizeof(struct damacy_interval);
    __uint128_t bytes = uris + g.uri_capacity;
    g.bytes = bytes > INT64_MAX ? UINT64_MAX : (uint64_t)bytes;
    g.marks_at = (uint64_t)marks;
    g.regions_at = (uint64_t)regions;
    g.boxes_at = (uint64_t)boxes;
    g.uris_at = (uint64_t)uris;
    return g;
}

uint64_t dmc_lookahead_memory(uint32_t lookahead_samples, uint32_t prefetch_samples, uint32_t field_count,
                              const uint32_t *ranks)
{
    return measure(lookahead_samples, prefetch_samples, field_count, ranks).bytes;
}

enum damacy_status dmc_lookahead_init(struct dmc_lookahead *lookahead, uint32_t lookahead_samples, uint32_t prefetch_samples,
                                      uint32_t field_count, const uint32_t *ranks, struct damacy_error *error)
{
    *lookahead = (struct dmc_lookahead){0};
    struct geometry g = measure(lookahead_samples, prefetch_samples, field_count, ranks);
    if (lookahead_samples == 0 || prefetch_samples == 0 || field_count == 0 || g.capacity > UINT32_MAX)
        return dmc_error_set(error, DAMACY_INVAL, "config",
                             "lookahead_samples %u and prefetch_samples %u: at least 1 each, below 2^32 in all",
                             lookahead_samples, prefetch_samples);
    char *memory = g.bytes == UINT64_MAX ? NULL : dmc_calloc(1, g.bytes);
    if (!memory)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for a ring of %llu samples (%llu bytes)",
                             (unsigned long long)g.capacity, (unsigned long long)g.bytes);
    lookahead->capacity = (uint32_t)g.capacity;
    lookahead->lookahead_samples = lookahead_samples;
    lookahead->field_count = field_count;
    lookahead->uri_capacity = g.uri_capacity;
    lookahead->slots = (struct dmc_sample_slot *)memory;
    lookahead->uri_marks = (uint64_t *)(memory + g.marks_at);
    lookahead->regions = (struct dmc_slot_region *)(memory + g.regions_at);
    lookahead->boxes = (struct damacy_interval *)(memory + g.boxes_at);
    lookahead->boxes_per_sample = (uint32_t)g.boxes_per_sample;
    lookahead->uris = memory + g.uris_at;
    lookahead->memory_bytes = g.bytes;
    struct damacy_interval *box = lookahead->boxes;
    for (uint32_t i = 0; i < lookahead->capacity; i++) {
        lookahead->slots[i].regions = lookahead->regions + (size_t)i * field_count;
        for (uint32_t field = 0; field < field_count; field++) {
            lookahead->slots[i].regions[field].aabb = box;
            box += ranks[field];
        }
    }
    return DAMACY_OK;
}

void dmc_lookahead_deinit(struct dmc_lookahead *lookahead)
{
    if (lookahead->slots)
        for (uint64_t at = lookahead->planned; at < lookahead->pushed; at++)
            dmc_free(dmc_lookahead_slot(lookahead, at)->error);
    dmc_free(lookahead->slots);
    *lookahead = (struct dmc_lookahead){0};
}

/* Where uris of `bytes` in all would begin, as a cursor. */
static uint64_t uris_begin(const struct dmc_lookahead *lookahead, uint64_t bytes)
{
    uint64_t rest = lookahead->uri_capacity - lookahead->uri_end % lookahead->uri_capacity;
    return bytes <= rest ? lookahead->uri_end : lookahead->uri_end + rest;
}

bool dmc_lookahead_room(const struct dmc_lookahead *lookahead, uint64_t uri_bytes)
{
    return lookahead->pushed - lookahead->taken < lookahead->lookahead_samples &&
           lookahead->pushed - lookahead->planned < lookahead->capacity && uri_bytes <= lookahead->uri_capacity &&
           uris_begin(lookahead, uri_bytes) + uri_bytes - lookahead->uri_begin <= lookahead->uri_capacity;
}

void dmc_lookahead_push(struct dmc_lookahead *lookahead, const struct damacy_sample *sample, uint64_t batch_id)
{
    uint32_t index = (uint32_t)(lookahead->pushed % lookahead->capacity);
    struct dmc_sample_slot *slot = &lookahead->slots[index];
    slot->ordinal = lookahead->pushed;
    slot->batch_id = batch_id;
    slot->tag = sample->tag;
    slot->resolved = false;
    slot->error = NULL;
    slot->error_field = 0;
    uint64_t bytes = 0;
    for (uint32_t field = 0; field < lookahead->field_count; field++) {
        slot->regions[field].uri_bytes = (uint32_t)strlen(sample->regions[field].uri);
        bytes += slot->regions[field].uri_bytes + 1;
    }
    assert(dmc_lookahead_room(lookahead, bytes));
    uint64_t at = uris_begin(lookahead, bytes);
    for (uint32_t field = 0; field < lookahead->field_count; field++) {
        struct dmc_slot_region *region = &slot->regions[field];
        const struct damacy_region *from = &sample->regions[field];
        char *uri = lookahead->uris + at % lookahead->uri_capacity;
        memcpy(uri, from->uri, region->uri_bytes + 1);
        at += region->uri_bytes + 1;
        region->uri = uri;
        region->uri_hash = dmc_hash_bytes(uri, region->uri_bytes, 0);
        region->array = NULL;
        memcpy(region->aabb, from->aabb, from->rank * sizeof *from->aabb);
    }
    lookahead->uri_end = at;
    lookahead->uri_marks[index] = at;
    lookahead->pushed++;
}

bool dmc_lookahead_takeable(const struct dmc_lookahead *lookahead)
{
    return lookahead->taken != lookahead->pushed &&
           lookahead->taken - lookahead->planned < lookahead->capacity - lookahead->lookahead_samples;
}

struct dmc_sample_slot *dmc_lookahead_take(struct dmc_lookahead *lookahead)
{
    return dmc_lookahead_takeable(lookahead) ? dmc_lookahead_slot(lookahead, lookahead->taken++) : NULL;
}

void dmc_lookahead_resolve(struct dmc_lookahead *lookahead, struct dmc_sample_slot *slot)
{
    assert(slot->ordinal >= lookahead->resolved && slot->ordinal < lookahead->taken && !slot->resolved);
    slot->resolved = true;
    while (lookahead->resolved < lookahead->taken && dmc_lookahead_slot(lookahead, lookahead->resolved)->resolved)
        lookahead->resolved++;
}

struct dmc_sample_slot *dmc_lookahead_slot(const struct dmc_lookahead *lookahead, uint64_t ordinal)
{
    assert(ordinal >= lookahead->planned && ordinal < lookahead->pushed);
    return &lookahead->slots[ordinal % lookahead->capacity];
}

void dmc_lookahead_planned(struct dmc_lookahead *lookahead, uint64_t count)
{
    assert(count <= lookahead->resolved - lookahead->planned);
    if (count == 0)
        return;
    lookahead->planned += count;
    lookahead->uri_begin = lookahead->uri_marks[(lookahead->planned - 1) % lookahead->capacity];
}
