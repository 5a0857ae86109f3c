/* A small world for the prefetcher's tests: a memory store under a gate, a delay and a fault decorator, an owner with its lock
 * and ring, and arrays made on the spot. The owner plans when the test says so. */
#ifndef PREFETCH_WORLD_H
#define PREFETCH_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "prefetch/metadata_fetch.h"
#include "store/io_internal.h"
#include "support/test_seed.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORLD_LONG_NS UINT64_C(60000000000) /* something hangs */
#define WORLD_FIELDS_MAX 4
#define WORLD_LOG_MAX 65536

/* --- a store that holds back requests until the test lets them go --- */

struct gate_store {
    struct dmc_store store;
    struct dmc_store *inner;
    struct dmc_mutex lock;
    struct dmc_cond changed;
    const char *pattern; /* keys that contain it are held; NULL: none */
    struct dmc_request *held[64];
    uint32_t held_count;
};

static inline enum dmc_start gate_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    struct gate_store *gate = (struct gate_store *)store;
    dmc_mutex_lock(&gate->lock);
    bool hold = gate->pattern && strstr(request->key, gate->pattern);
    if (hold) {
        request->holder = store;
        assert_true(gate->held_count < 64);
        gate->held[gate->held_count++] = request;
        dmc_cond_broadcast(&gate->changed);
    }
    dmc_mutex_unlock(&gate->lock);
    if (hold)
        return DMC_START_PENDING;
    request->holder = gate->inner;
    return gate->inner->ops->start(gate->inner, io, request);
}

static inline enum dmc_start gate_resume(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    struct gate_store *gate = (struct gate_store *)store;
    if (request->cancelled) {
        dmc_request_fail_cancelled(request);
        return DMC_START_DONE;
    }
    request->holder = gate->inner;
    return gate->inner->ops->start(gate->inner, io, request);
}

static inline void gate_cancel(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    (void)io;
    struct gate_store *gate = (struct gate_store *)store;
    dmc_mutex_lock(&gate->lock);
    bool found = false;
    for (uint32_t i = 0; i < gate->held_count; i++)
        if (gate->held[i] == request) {
            gate->held[i] = gate->held[--gate->held_count];
            found = true;
        }
    dmc_mutex_unlock(&gate->lock);
    if (found) {
        dmc_request_fail_cancelled(request);
        dmc_io_complete(request);
    }
}

static inline void gate_finish(struct dmc_store *store, struct dmc_request *request)
{
    struct dmc_store *inner = ((struct gate_store *)store)->inner;
    if (inner->ops->finish)
        inner->ops->finish(inner, request);
}

/* Let the held requests whose key contains `pattern` go. */
static inline void gate_open(struct gate_store *gate, const char *pattern)
{
    dmc_mutex_lock(&gate->lock);
    for (uint32_t i = 0; i < gate->held_count;)
        if (strstr(gate->held[i]->key, pattern)) {
            struct dmc_request *request = gate->held[i];
            gate->held[i] = gate->held[--gate->held_count];
            dmc_io_resume(request);
        } else {
            i++;
        }
    dmc_mutex_unlock(&gate->lock);
}

/* Wait until `count` requests are held. */
static inline void gate_wait(struct gate_store *gate, uint32_t count)
{
    uint64_t deadline = dmc_clock_deadline(WORLD_LONG_NS);
    dmc_mutex_lock(&gate->lock);
    while (gate->held_count < count)
        assert_true(dmc_cond_wait_until(&gate->changed, &gate->lock, deadline));
    dmc_mutex_unlock(&gate->lock);
}

/* --- the world --- */

struct world {
    /* what a test sets before world_begin */
    struct dmc_prefetcher_options options;
    uint32_t ranks[WORLD_FIELDS_MAX];
    uint32_t lookahead_samples, prefetch_samples, samples_per_batch;
    uint64_t budget_bytes;
    uint64_t (*delay_ns)(struct world *world, const char *key);
    enum dmc_fault (*choose)(struct world *world, uint64_t n, const char *key);
    uint64_t seed;
    uint64_t user[4];
    /* made */
    struct dmc_store *memory, *delay, *fault;
    struct gate_store gate;
    struct dmc_stores *stores;
    struct dmc_budget budget;
    struct dmc_prefetcher *prefetcher;
    /* shared_ */
    struct dmc_mutex lock;
    struct dmc_cond changed;
    struct dmc_lookahead ring;
    uint64_t planned_batches;
    uint64_t resolve_log[WORLD_LOG_MAX], resolve_count; /* ordinals as the hook told them */
    char *_Atomic request_log[WORLD_LOG_MAX];           /* NULL: about to be written */
    _Atomic uint64_t request_count;
};

static inline struct dmc_sample_slot *world_take(void *user)
{
    struct world *world = user;
    dmc_mutex_lock(&world->lock);
    struct dmc_sample_slot *slot = dmc_lookahead_take(&world->ring);
    dmc_mutex_unlock(&world->lock);
    return slot;
}

static inline void world_resolved(void *user, struct dmc_sample_slot *slot)
{
    struct world *world = user;
    dmc_mutex_lock(&world->lock);
    if (world->resolve_count < WORLD_LOG_MAX)
        world->resolve_log[world->resolve_count] = slot->ordinal;
    world->resolve_count++;
    dmc_lookahead_resolve(&world->ring, slot);
    dmc_cond_broadcast(&world->changed);
    dmc_mutex_unlock(&world->lock);
}

static inline uint64_t world_watermark(void *user)
{
    struct world *world = user;
    dmc_mutex_lock(&world->lock);
    uint64_t watermark = world->planned_batches;
    dmc_mutex_unlock(&world->lock);
    return watermark;
}

static inline uint64_t world_delay(void *user, const char *key)
{
    struct world *world = user;
    return world->delay_ns ? world->delay_ns(world, key) : 0;
}

/* For `choose`: read number user[0] goes wrong in the way user[1]. */
static inline enum dmc_fault world_nth_fault(struct world *world, uint64_t n, const char *key)
{
    (void)key;
    return n == world->user[0] ? (enum dmc_fault)world->user[1] : DMC_FAULT_NONE;
}

static inline enum dmc_fault world_choose(void *user, uint64_t n, const char *key)
{
    struct world *world = user;
    uint64_t at = atomic_fetch_add(&world->request_count, 1);
    if (at < WORLD_LOG_MAX)
        world->request_log[at] = strdup(key);
    return world->choose ? world->choose(world, n, key) : DMC_FAULT_NONE;
}

static const struct dmc_store_ops gate_ops = {
    .scheme = "gate", .start = gate_start, .resume = gate_resume, .cancel = gate_cancel, .finish = gate_finish};

/* Comfortable settings, one unnamed field of rank 2. */
static inline struct world *world_new(void)
{
    struct world *world = calloc(1, sizeof *world);
    struct damacy_error error;
    world->ranks[0] = 2;
    world->options = (struct dmc_prefetcher_options){.field_count = 1,
                                                     .prefetch_samples = 64,
                                                     .reads_in_flight = 16,
                                                     .array_meta_cache_bytes = 64 << 20,
                                                     .shard_index_cache_bytes = 64 << 20,
                                                     .chunk_layout_cache_bytes = 64 << 20,
                                                     .metadata_object_bytes_max = 1 << 20};
    world->lookahead_samples = 1024;
    world->prefetch_samples = 1024;
    world->samples_per_batch = 4;
    world->budget_bytes = 256 << 20;
    world->options.parse_bytes = 256 << 20;
    dmc_mutex_init(&world->lock);
    dmc_cond_init(&world->changed);
    assert_int_equal(dmc_store_memory_create(&world->memory, &error), DAMACY_OK);
    world->gate = (struct gate_store){.store.ops = &gate_ops, .inner = world->memory};
    dmc_mutex_init(&world->gate.lock);
    dmc_cond_init(&world->gate.changed);
    return world;
}

/* Everything but the prefetcher. */
static inline void world_prepare(struct world *world)
{
    struct damacy_error error;
    struct dmc_store *top = &world->gate.store;
    if (world->delay_ns) {
        assert_int_equal(dmc_store_delay_create(top, world_delay, world, &world->delay, &error), DAMACY_OK);
        top = world->delay;
    }
    assert_int_equal(dmc_store_fault_create(top, world_choose, world, &world->fault, &error), DAMACY_OK);
    assert_int_equal(dmc_stores_create(&(struct dmc_stores_options){.file.open_files_max = 16}, &world->stores, &error),
                     DAMACY_OK);
    dmc_stores_set(world->stores, "memory", world->fault);
    dmc_budget_init(&world->budget, world->budget_bytes);
    assert_int_equal(dmc_lookahead_init(&world->ring, world->lookahead_samples, world->prefetch_samples,
                                        world->options.field_count, world->ranks, &error),
                     DAMACY_OK);
}

static inline enum damacy_status world_start(struct world *world, struct damacy_error *error)
{
    struct dmc_prefetcher_hooks hooks = {world, world_take, world_resolved, world_watermark};
    world->options.ranks = world->ranks;
    return dmc_prefetcher_create(&world->options, &hooks, world->stores, &world->budget, &world->prefetcher, error);
}

static inline void world_begin(struct world *world)
{
    struct damacy_error error;
    world_prepare(world);
    assert_int_equal(world_start(world, &error), DAMACY_OK);
}

static inline void world_free(struct world *world)
{
    if (world->prefetcher) {
        assert_true(dmc_prefetcher_destroy(world->prefetcher, dmc_clock_deadline(WORLD_LONG_NS)));
        assert_int_equal(dmc_budget_used(&world->budget), 0);
    }
    dmc_lookahead_deinit(&world->ring);
    dmc_stores_destroy(world->stores);
    dmc_store_destroy(world->fault);
    dmc_store_destroy(world->delay);
    dmc_store_destroy(world->memory);
    dmc_mutex_deinit(&world->gate.lock);
    dmc_cond_deinit(&world->gate.changed);
    dmc_mutex_deinit(&world->lock);
    dmc_cond_deinit(&world->changed);
    for (uint64_t i = 0; i < world->request_count && i < WORLD_LOG_MAX; i++)
        free(world->request_log[i]);
    free(world);
}

static inline void world_put(struct world *world, const char *key, const void *data, size_t bytes)
{
    struct damacy_error error;
    assert_int_equal(dmc_store_memory_put(world->memory, key, data, bytes, &error), DAMACY_OK);
}

static inline void world_put_text(struct world *world, const char *key, const char *text)
{
    world_put(world, key, text, strlen(text));
}

/* zarr.json of a uint16 array of rank 2. `shard` 0: not sharded, chunks are square. codec: JSON after `bytes`, or "". */
static inline void world_array_text(char *text, size_t capacity, uint64_t extent, uint64_t chunk, uint64_t shard,
                                    const char *codec, bool index_at_start)
{
    char inner[512], codecs[1024];
    snprintf(inner, sizeof inner, "{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}}%s%s", *codec ? "," : "",
             codec);
    if (shard)
        snprintf(
            codecs, sizeof codecs,
            "{\"name\":\"sharding_indexed\",\"configuration\":{\"chunk_shape\":[%llu,%llu],\"codecs\":[%s],\"index_codecs\":"
            "[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}},{\"name\":\"crc32c\"}],\"index_location\":\"%s\"}"
            "}",
            (unsigned long long)chunk, (unsigned long long)chunk, inner, index_at_start ? "start" : "end");
    else
        snprintf(codecs, sizeof codecs, "%s", inner);
    uint64_t grid = shard ? shard : chunk;
    snprintf(
        text, capacity,
        "{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[%llu,%llu],\"data_type\":\"uint16\",\"chunk_grid\":{\"name\":"
        "\"regular\",\"configuration\":{\"chunk_shape\":[%llu,%llu]}},\"chunk_key_encoding\":{\"name\":\"default\","
        "\"configuration\":{\"separator\":\"/\"}},\"fill_value\":0,\"codecs\":[%s],\"attributes\":{}}",
        (unsigned long long)extent, (unsigned long long)extent, (unsigned long long)grid, (unsigned long long)grid, codecs);
}

static inline void world_array(struct world *world, const char *name, uint64_t extent, uint64_t chunk, uint64_t shard,
                               const char *codec)
{
    char text[4096], key[256];
    world_array_text(text, sizeof text, extent, chunk, shard, codec, false);
    snprintf(key, sizeof key, "%s/zarr.json", name);
    world_put_text(world, key, text);
}

/* A shard whose chunks are `chunk_bytes` each, filled with `data` (at most chunk_bytes); entry i begins at i * chunk_bytes. */
static inline void world_shard(struct world *world, const char *name, uint64_t row, uint64_t column, uint64_t chunks,
                               uint64_t chunk_bytes, const void *data, size_t data_bytes)
{
    size_t bytes = chunks * chunk_bytes + chunks * 16 + 4;
    uint8_t *shard = calloc(1, bytes), *index = shard + chunks * chunk_bytes;
    for (uint64_t i = 0; i < chunks; i++) {
        uint64_t offset = i * chunk_bytes;
        memcpy(shard + offset, data, data_bytes);
        memcpy(index + 16 * i, &offset, 8);
        memcpy(index + 16 * i + 8, &chunk_bytes, 8);
    }
    uint32_t crc = dmc_crc32c(index, chunks * 16);
    memcpy(index + chunks * 16, &crc, 4);
    char key[256];
    snprintf(key, sizeof key, "%s/c/%llu/%llu", name, (unsigned long long)row, (unsigned long long)column);
    world_put(world, key, shard, bytes);
    free(shard);
}

/* Push a sample of one rank-2 box per field; returns its ordinal. */
static inline uint64_t world_push_fields(struct world *world, const char *const *uris, const struct damacy_interval (*boxes)[2])
{
    struct damacy_region regions[WORLD_FIELDS_MAX];
    uint64_t bytes = 0;
    for (uint32_t field = 0; field < world->options.field_count; field++) {
        regions[field] = (struct damacy_region){uris[field], world->ranks[field], boxes[field]};
        bytes += strlen(uris[field]) + 1;
    }
    dmc_mutex_lock(&world->lock);
    assert_true(dmc_lookahead_room(&world->ring, bytes));
    uint64_t ordinal = world->ring.pushed;
    dmc_lookahead_push(&world->ring, &(struct damacy_sample){regions, ordinal}, ordinal / world->samples_per_batch);
    dmc_mutex_unlock(&world->lock);
    if (world->prefetcher)
        dmc_prefetcher_wake(world->prefetcher);
    return ordinal;
}

static inline uint64_t world_push(struct world *world, const char *uri, int64_t y0, int64_t y1, int64_t x0, int64_t x1)
{
    struct damacy_interval boxes[WORLD_FIELDS_MAX][2];
    const char *uris[WORLD_FIELDS_MAX];
    for (uint32_t field = 0; field < WORLD_FIELDS_MAX; field++) {
        uris[field] = uri;
        boxes[field][0] = (struct damacy_interval){y0, y1};
        boxes[field][1] = (struct damacy_interval){x0, x1};
    }
    return world_push_fields(world, uris, (const struct damacy_interval(*)[2])boxes);
}

/* Wait until all samples below `ordinal` are resolved, or (count) that many in any order. */
static inline void world_wait(struct world *world, uint64_t ordinal)
{
    uint64_t deadline = dmc_clock_deadline(WORLD_LONG_NS);
    dmc_mutex_lock(&world->lock);
    while (world->ring.resolved < ordinal)
        assert_true(dmc_cond_wait_until(&world->changed, &world->lock, deadline));
    dmc_mutex_unlock(&world->lock);
}

static inline void world_wait_count(struct world *world, uint64_t count)
{
    uint64_t deadline = dmc_clock_deadline(WORLD_LONG_NS);
    dmc_mutex_lock(&world->lock);
    while (world->resolve_count < count)
        assert_true(dmc_cond_wait_until(&world->changed, &world->lock, deadline));
    dmc_mutex_unlock(&world->lock);
}

/* A while in which nothing may be resolved beyond `count`. Too short a while lets a fault pass, it never invents one. */
static inline void world_stands_still(struct world *world, uint64_t count)
{
    uint64_t deadline = dmc_clock_deadline(20000000);
    dmc_mutex_lock(&world->lock);
    while (dmc_cond_wait_until(&world->changed, &world->lock, deadline))
        ;
    assert_int_equal(world->resolve_count, count);
    dmc_mutex_unlock(&world->lock);
}

/* The error of a resolved sample; NULL: none. */
static inline const struct damacy_error *world_error(struct world *world, uint64_t ordinal)
{
    dmc_mutex_lock(&world->lock);
    struct dmc_sample_slot *slot = dmc_lookahead_slot(&world->ring, ordinal);
    assert_true(slot->resolved);
    dmc_mutex_unlock(&world->lock);
    return slot->error;
}

static inline struct dmc_slot_region *world_region(struct world *world, uint64_t ordinal, uint32_t field)
{
    dmc_mutex_lock(&world->lock);
    struct dmc_slot_region *region = &dmc_lookahead_slot(&world->ring, ordinal)->regions[field];
    dmc_mutex_unlock(&world->lock);
    return region;
}

/* The next batch is planned: all its samples are resolved. */
static inline void world_plan(struct world *world)
{
    dmc_mutex_lock(&world->lock);
    uint64_t count = 0;
    while (world->ring.planned + count < world->ring.resolved) {
        struct dmc_sample_slot *slot = dmc_lookahead_slot(&world->ring, world->ring.planned + count);
        if (slot->batch_id != world->planned_batches)
            break;
        dmc_free(slot->error);
        slot->error = NULL;
        count++;
    }
    assert_true(count > 0);
    dmc_lookahead_planned(&world->ring, count);
    world->planned_batches++;
    dmc_mutex_unlock(&world->lock);
    dmc_prefetcher_wake(world->prefetcher);
}

static inline uint64_t world_requests(struct world *world, const char *pattern)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < world->request_count && i < WORLD_LOG_MAX; i++) {
        const char *key = atomic_load(&world->request_log[i]);
        count += key && strstr(key, pattern) != NULL;
    }
    return count;
}

static inline uint64_t world_test_seed(void)
{
    return seed_of_test("prefetch", 0);
}

static inline uint64_t world_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    return dmc_hash_u64(*state, 1);
}

#define WORLD_ZSTD "{\"name\":\"zstd\",\"configuration\":{\"level\":1,\"checksum\":false}}"
#define WORLD_BLOSC                                                                                                            \
    "{\"name\":\"blosc\",\"configuration\":{\"typesize\":2,\"cname\":\"lz4\",\"clevel\":5,\"shuffle\":\"shuffle\","            \
    "\"blocksize\":0}}"

#endif
