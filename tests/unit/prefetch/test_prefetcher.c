/* Goal: samples resolve rightly whatever the timing, requests are shared and in order, caches push back or say BUDGET, every
 * damage becomes the right error of the right sample, and nothing hangs or leaks.
 * Method: a memory store under a gate (holds chosen requests), a delay and a fault decorator; random runs of one and the same
 * workload under different delays, depths and planning must come out alike. */
#include "prefetch_world.h"

static const struct dmc_shard_index *shard_of(struct world *world, uint64_t ordinal, uint64_t row, uint64_t column)
{
    struct dmc_array *array = dmc_prefetcher_array(world_region(world, ordinal, 0));
    const struct damacy_error *error = NULL;
    const struct dmc_shard_index *index = dmc_prefetcher_shard(world->prefetcher, array, (uint64_t[]){row, column}, &error);
    assert_null(error);
    assert_non_null(index);
    return index;
}

static void assert_error(struct world *world, uint64_t ordinal, enum damacy_status status, const char *text)
{
    const struct damacy_error *error = world_error(world, ordinal);
    assert_non_null(error);
    if (error->status != status || !strstr(error->message, text))
        print_message("sample %d: %s: %s\n", (int)ordinal, damacy_status_str(error->status), error->message);
    assert_int_equal(error->status, status);
    assert_non_null(strstr(error->message, text));
}

/* --- what resolves --- */

static void test_a_sample_resolves(void **state)
{
    (void)state;
    struct world *world = world_new();
    world_array(world, "a", 64, 8, 16, WORLD_ZSTD);
    world_shard(world, "a", 0, 1, 4, 100, "x", 1);
    world_shard(world, "a", 1, 1, 4, 50, "x", 1);
    world_begin(world);
    world_push(world, "memory://a", 8, 20, 16, 40); /* shards (0..1, 1..2) */
    world_wait(world, 1);
    assert_null(world_error(world, 0));
    struct dmc_array *array = dmc_prefetcher_array(world_region(world, 0, 0));
    assert_string_equal(array->uri, "memory://a");
    assert_string_equal(array->prefix, "a");
    assert_int_equal(array->prefix_bytes, 1);
    assert_int_equal(array->zarr->rank, 2);
    assert_int_equal(array->chain->chunk_bytes, 128);
    const struct dmc_shard_index *index = shard_of(world, 0, 0, 1);
    assert_false(index->absent);
    assert_int_equal(index->object_bytes, 4 * 100 + 68);
    assert_int_equal(index->entries[3].offset, 300);
    assert_int_equal(index->entries[3].length, 100);
    assert_int_equal(shard_of(world, 0, 1, 1)->entries[2].offset, 100);
    assert_true(shard_of(world, 0, 0, 2)->absent);
    assert_true(shard_of(world, 0, 1, 2)->absent);
    assert_int_equal(world_requests(world, "a/c/"), 4);
    /* A plan may hold the array longer than the cache does. */
    dmc_array_retain(array);
    world_free(world);
    assert_string_equal(array->uri, "memory://a");
    dmc_array_release(array);
}

static void test_an_index_at_the_start(void **state)
{
    (void)state;
    struct world *world = world_new();
    char text[4096];
    world_array_text(text, sizeof text, 64, 8, 16, WORLD_ZSTD, true);
    world_put_text(world, "a/zarr.json", text);
    uint8_t shard[68 + 10];
    memset(shard, 0xff, sizeof shard);
    uint64_t entry[2] = {68, 10};
    memcpy(shard + 16, entry, 16);
    uint32_t crc = dmc_crc32c(shard, 64);
    memcpy(shard + 64, &crc, 4);
    world_put(world, "a/c/0/0", shard, sizeof shard);
    world_put(world, "a/c/0/1", shard, 30);
    world_begin(world);
    world_push(world, "memory://a", 0, 8, 0, 16);
    world_push(world, "memory://a", 0, 8, 16, 32);
    world_wait(world, 2);
    const struct dmc_shard_index *index = shard_of(world, 0, 0, 0);
    assert_int_equal(index->entries[0].offset, UINT64_MAX);
    assert_int_equal(index->entries[1].offset, 68);
    assert_error(world, 1, DAMACY_DECODE, "too short for its index");
    assert_string_equal(world_error(world, 1)->stage, "index");
    world_free(world);
}

static void test_requests_are_shared(void **state)
{
    (void)state;
    struct world *world = world_new();
    world_array(world, "a", 64, 8, 16, WORLD_ZSTD);
    world_array(world, "b", 64, 8, 0, WORLD_ZSTD);
    world->gate.pattern = "zarr.json"; /* all ask while nothing has come yet */
    world_begin(world);
    for (int i = 0; i < 20; i++)
        world_push(world, i % 2 ? "memory://a" : "memory://b", 0, 16, 0, 32);
    gate_wait(&world->gate, 2);
    gate_open(&world->gate, "zarr.json");
    world_wait(world, 20);
    assert_int_equal(world_requests(world, "zarr.json"), 2);
    assert_int_equal(world_requests(world, "a/c/0/0"), 1);
    assert_int_equal(world_requests(world, "a/c/0/1"), 1);
    assert_int_equal(world_requests(world, ""), 4);
    struct dmc_prefetcher_stats stats;
    dmc_prefetcher_stats_get(world->prefetcher, &stats);
    assert_int_equal(stats.samples, 20);
    assert_int_equal(stats.array_meta.misses, 2);
    assert_int_equal(stats.array_meta.hits, 18);
    assert_true(stats.metadata_bytes > 0);
    world_free(world);
}

/* --- order --- */

static void test_readiness_keeps_push_order(void **state)
{
    (void)state;
    struct world *world = world_new();
    world_array(world, "slow", 64, 8, 0, WORLD_ZSTD);
    world_array(world, "fast", 64, 8, 0, WORLD_ZSTD);
    world->gate.pattern = "slow";
    world_begin(world);
    world_push(world, "memory://slow", 0, 4, 0, 4);
    world_push(world, "memory://fast", 0, 4, 0, 4);
    world_push(world, "memory://fast", 0, 4, 0, 4);
    world_wait_count(world, 2);
    dmc_mutex_lock(&world->lock);
    assert_int_equal(world->resolve_log[0], 1); /* the fast ones came first ... */
    assert_int_equal(world->resolve_log[1], 2);
    assert_int_equal(world->ring.resolved, 0); /* ... and are not handed on */
    dmc_mutex_unlock(&world->lock);
    gate_wait(&world->gate, 1);
    gate_open(&world->gate, "slow");
    world_wait(world, 3);
    world_free(world);
}

static void test_a_stage_asks_in_push_order(void **state)
{
    (void)state;
    struct world *world = world_new();
    world_array(world, "p", 64, 8, 16, WORLD_ZSTD);
    world_array(world, "q", 64, 8, 16, WORLD_ZSTD);
    world->gate.pattern = "p/zarr.json";
    world_begin(world);
    world_push(world, "memory://p", 0, 4, 0, 4);
    world_push(world, "memory://q", 0, 4, 0, 4);
    gate_wait(&world->gate, 1);
    world_stands_still(world, 0); /* q's metadata are there, but p's index goes first */
    assert_int_equal(world_requests(world, "/c/"), 0);
    gate_open(&world->gate, "p/zarr.json");
    world_wait(world, 2);
    assert_int_equal(world->request_count, 4);
    assert_string_equal(world->request_log[2], "p/c/0/0");
    assert_string_equal(world->request_log[3], "q/c/0/0");
    world_free(world);
}

static void test_fetches_overlap(void **state)
{
    (void)state;
    struct world *world = world_new();
    char name[32], uri[64];
    for (int i = 0; i < 12; i++) {
        snprintf(name, sizeof name, "a%d", i);
        world_array(world, name, 64, 8, 0, WORLD_ZSTD);
    }
    world->options.reads_in_flight = 7;
    world->gate.pattern = "zarr.json";
    world_begin(world);
    for (int i = 0; i < 12; i++) {
        snprintf(uri, sizeof uri, "memory://a%d", i);
        world_push(world, uri, 0, 4, 0, 4);
    }
    gate_wait(&world->gate, 7);
    world_stands_still(world, 0);
    assert_int_equal(world->request_count, 7); /* and not more */
    dmc_mutex_lock(&world->gate.lock);
    world->gate.pattern = NULL;
    dmc_mutex_unlock(&world->gate.lock);
    gate_open(&world->gate, "zarr.json");
    world_wait(world, 12);
    world_free(world);
}

/* What is in work is bounded; the ring may be longer. */
static void test_more_samples_than_places(void **state)
{
    (void)state;
    struct world *world = world_new();
    world_array(world, "a", 64, 8, 16, WORLD_ZSTD);
    world->options.prefetch_samples = 3;
    world_begin(world);
    for (int i = 0; i < 200; i++)
        world_push(world, "memory://a", i % 60, i % 60 + 4, 0, 64);
    world_wait(world, 200);
    for (uint64_t i = 0; i < 200; i++)
        assert_null(world_error(world, i));
    world_free(world);
}

/* --- errors of data --- */

static void test_missing_arrays(void **state)
{
    (void)state;
    struct world *world = world_new();
    world_put_text(world, "v2/.zarray", "{}");
    world_put_text(world, "v2group/.zgroup", "{}");
    world_begin(world);
    world_push(world, "memory://nothing", 0, 4, 0, 4);
    world_push(world, "memory://v2", 0, 4, 0, 4);
    world_push(world, "memory://v2group", 0, 4, 0, 4);
    world_push(world, "memory://nothing", 0, 4, 0, 4);
    world_push(world, "gopher://x", 0, 4, 0, 4);
    world_wait(world, 5);
    assert_error(world, 0, DAMACY_NOTFOUND,
                 "memory://nothing: zarr.json: no zarr.json there, and no .zarray either; the uri must name an array");
    assert_string_equal(world_error(world, 0)->key, "zarr.json");
    assert_string_equal(world_error(world, 0)->uri, "memory://nothing");
    assert_string_equal(world_error(world, 0)->stage, "metadata");
    assert_error(world, 1, DAMACY_DECODE, "memory://v2: .zarray: ");
    assert_error(world, 2, DAMACY_NOTFOUND, "memory://v2group: .zgroup: is a group");
    assert_error(world, 3, DAMACY_NOTFOUND, "no zarr.json there");
    assert_int_equal(world_requests(world, "nothing/zarr.json"), 1);
    assert_error(world, 4, DAMACY_UNSUPPORTED, "gopher");
    assert_null(dmc_prefetcher_array(world_region(world, 0, 0)));
    world_free(world);
}

static void test_bad_metadata(void **state)
{
    (void)state;
    struct world *world = world_new();
    world_put_text(world, "junk/zarr.json", "{\"zarr_format\":3,");
    world_put_text(world, "empty/zarr.json", "");
    world_put_text(world, "group/zarr.json", "{\"zarr_format\":3,\"node_type\":\"group\"}");
    world_array(world, "codec", 64, 8, 0, "{\"name\":\"wavelet9\",\"configuration\":{}}");
    world_begin(world);
    world_push(world, "memory://junk", 0, 4, 0, 4);
    world_push(world, "memory://empty", 0, 4, 0, 4);
    world_push(world, "memory://group", 0, 4, 0, 4);
    world_push(world, "memory://codec", 0, 4, 0, 4);
    world_push(world, "memory://codec", 0, 4, 0, 4);
    world_wait(world, 5);
    assert_error(world, 0, DAMACY_DECODE, "memory://junk: zarr.json: JSON line 1");
    assert_error(world, 1, DAMACY_DECODE, "memory://empty: zarr.json: ");
    assert_error(world, 2, DAMACY_NOTFOUND, "memory://group: zarr.json: is a group");
    assert_error(world, 3, DAMACY_UNSUPPORTED, "wavelet9");
    assert_error(world, 4, DAMACY_UNSUPPORTED, "wavelet9");
    assert_int_equal(world_requests(world, "codec/zarr.json"), 1); /* a failure is kept like a result */
    world_free(world);
}

/* Larger than the first buffer, larger than allowed, and a size that the store tells wrongly. */
static void test_large_metadata(void **state)
{
    (void)state;
    struct world *world = world_new();
    size_t bytes = 300000;
    char *text = malloc(bytes + 1);
    world_array_text(text, bytes, 64, 8, 0, WORLD_ZSTD, false);
    size_t at = strlen(text) - 2; /* before the last "}}" */
    at += (size_t)sprintf(text + at, "\"filler\":\"");
    memset(text + at, 'x', bytes - at);
    strcpy(text + bytes - 3, "\"}}");
    world_put(world, "large/zarr.json", text, bytes);
    world_put(world, "huge/zarr.json", text, bytes);
    world->options.metadata_object_bytes_max = bytes;
    world_begin(world);
    world_push(world, "memory://large", 0, 4, 0, 4);
    world_wait(world, 1);
    assert_null(world_error(world, 0));
    assert_int_equal(world_requests(world, "large/zarr.json"), 2);
    text[bytes - 1] = ' ';
    text = realloc(text, bytes + 2);
    strcpy(text + bytes, "}");
    world_put(world, "huge/zarr.json", text, bytes + 1);
    world_push(world, "memory://huge", 0, 4, 0, 4);
    world_wait(world, 2);
    assert_error(world, 1, DAMACY_BUDGET, "larger than metadata_object_bytes_max");
    assert_string_equal(world_error(world, 1)->found, "300001 bytes");
    free(text);
    world_free(world);
}

static void test_boxes_that_do_not_fit(void **state)
{
    (void)state;
    struct world *world = world_new();
    world_array(world, "a", 64, 8, 0, WORLD_ZSTD);
    world_begin(world);
    world_push(world, "memory://a", 0, 4, 60, 68);
    world_push(world, "memory://a", -4, 0, 0, 4);
    world_push(world, "memory://a", 60, 64, 60, 64);
    world_push(world, "memory://a", INT64_MAX - 4, INT64_MAX, 0, 4);
    world_wait(world, 4);
    assert_error(world, 0, DAMACY_RANK,
                 "memory://a: axis 1 of the box is outside the array (box [0, 4) x [60, 68), array shape 64 x 64)");
    assert_string_equal(world_error(world, 0)->expected, "indices in [0, 64)");
    assert_error(world, 1, DAMACY_RANK, "axis 0");
    assert_null(world_error(world, 2));
    assert_error(world, 3, DAMACY_RANK, "axis 0");
    world_free(world);
    world = world_new();
    world->ranks[0] = 1;
    world_array(world, "a", 64, 8, 0, WORLD_ZSTD);
    world_begin(world);
    world_push(world, "memory://a", 0, 4, 0, 4);
    world_wait(world, 1);
    assert_error(world, 0, DAMACY_RANK, "found 2, expected 1 axes");
    world_free(world);
}

static void test_bad_shards(void **state)
{
    (void)state;
    struct world *world = world_new();
    world_array(world, "a", 128, 8, 16, WORLD_ZSTD);
    world_shard(world, "a", 0, 0, 4, 100, "x", 1);
    world_put_text(world, "a/c/0/1", "much too short");
    uint8_t junk[468];
    memset(junk, 7, sizeof junk);
    world_put(world, "a/c/0/2", junk, sizeof junk);
    world_begin(world);
    world_push(world, "memory://a", 0, 16, 0, 16);
    world_push(world, "memory://a", 0, 16, 16, 32);
    world_push(world, "memory://a", 0, 16, 32, 48);
    world_push(world, "memory://a", 0, 16, 0, 64); /* has both: the first in C order tells */
    world_wait(world, 4);
    assert_null(world_error(world, 0));
    assert_error(world, 1, DAMACY_DECODE, "memory://a: c/0/1 [0, 14): the shard is too short for its index");
    assert_string_equal(world_error(world, 1)->expected, "at least the 68 bytes of its index");
    assert_string_equal(world_error(world, 1)->found, "14 bytes");
    assert_error(world, 2, DAMACY_DECODE, "memory://a: c/0/2 [400, 468): shard index checksum");
    assert_int_equal(world_error(world, 2)->range_begin, 400);
    assert_int_equal(world_error(world, 2)->range_end, 468);
    assert_string_equal(world_error(world, 2)->stage, "index");
    assert_error(world, 3, DAMACY_DECODE, "c/0/1");
    world_free(world);
}

/* An index entry count that no memory could hold must be refused by the bound, not tried. */
static void test_an_enormous_index_is_budget(void **state)
{
    (void)state;
    struct world *world = world_new();
    world_array(world, "a", 1 << 20, 1, 8192, WORLD_ZSTD); /* 64 Mi entries: 1 GiB */
    world_put_text(world, "a/c/0/0", "x");
    world_begin(world);
    world_push(world, "memory://a", 0, 4, 0, 4);
    world_wait(world, 1);
    assert_error(world, 0, DAMACY_BUDGET, "alone exceed shard_index_cache_bytes");
    world_free(world);
}

/* Of several bad things the first field's counts, however they come in: also when a later stage of an earlier field fails. */
static void test_the_lowest_field_tells(void **state)
{
    (void)state;
    for (int order = 0; order < 2; order++) {
        struct world *world = world_new();
        world->options.field_count = 3;
        world->ranks[1] = world->ranks[2] = 2;
        world_array(world, "good", 64, 8, 0, WORLD_ZSTD);
        world_array(world, "s", 64, 8, 16, WORLD_ZSTD);
        world_put_text(world, "s/c/0/0", "short");
        world_put_text(world, "s/c/1/0", "short");
        world->gate.pattern = "/";
        world_begin(world);
        struct damacy_interval boxes[3][2] = {{{0, 4}, {0, 4}}, {{0, 20}, {0, 4}}, {{0, 4}, {0, 4}}};
        const char *uris[3] = {"memory://good", "memory://s", "memory://missing"};
        world_push_fields(world, uris, (const struct damacy_interval(*)[2])boxes);
        const char *uris2[3] = {"memory://good", "memory://missing", "memory://missing"};
        world_push_fields(world, uris2, (const struct damacy_interval(*)[2])boxes);
        gate_wait(&world->gate, 3);
        const char *const first[2] = {"missing/zarr.json", "s/zarr.json"};
        gate_open(&world->gate, first[order]);
        if (order == 0)
            for (int i = 0; i < 3; i++) { /* .zarray, .zattrs, .zgroup */
                gate_wait(&world->gate, 3);
                gate_open(&world->gate, "missing/");
            }
        gate_open(&world->gate, "good");
        gate_open(&world->gate, "s/zarr.json");
        if (order == 1)
            for (int i = 0; i < 4; i++) {
                gate_wait(&world->gate, 1);
                gate_open(&world->gate, "missing/");
            }
        gate_wait(&world->gate, 2);
        gate_open(&world->gate, order ? "s/c/1/0" : "s/c/0/0");
        gate_open(&world->gate, "s/c/");
        world_wait(world, 2);
        assert_error(world, 0, DAMACY_DECODE, "memory://s: c/0/0");
        assert_int_equal(dmc_lookahead_slot(&world->ring, 0)->error_field, 1);
        assert_error(world, 1, DAMACY_NOTFOUND, "memory://missing");
        assert_int_equal(dmc_lookahead_slot(&world->ring, 1)->error_field, 1);
        world_free(world);
    }
}

static void test_one_array_in_two_fields(void **state)
{
    (void)state;
    struct world *world = world_new();
    world->options.field_count = 2;
    world->ranks[1] = 2;
    world_array(world, "a", 64, 8, 16, WORLD_ZSTD);
    world->gate.pattern = "zarr.json";
    world_begin(world);
    world_push(world, "memory://a", 0, 32, 0, 32);
    gate_wait(&world->gate, 1);
    gate_open(&world->gate, "zarr.json");
    world_wait(world, 1);
    assert_null(world_error(world, 0));
    assert_int_equal(world->request_count, 5);
    world_free(world);
}

/* --- bounds --- */

static void make_arrays(struct world *world, int count, uint64_t shard)
{
    char name[32];
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "a%02d", i);
        world_array(world, name, 64, 8, shard, WORLD_ZSTD);
    }
}

static void push_array(struct world *world, int i, int64_t end)
{
    char uri[64];
    snprintf(uri, sizeof uri, "memory://a%02d", i);
    world_push(world, uri, 0, end, 0, end);
}

/* What one of make_arrays() holds in the cache. */
static uint64_t array_bytes(void)
{
    struct world *world = world_new();
    make_arrays(world, 1, 0);
    world_begin(world);
    push_array(world, 0, 4);
    world_wait(world, 1);
    struct dmc_prefetcher_stats stats;
    dmc_prefetcher_stats_get(world->prefetcher, &stats);
    uint64_t bytes = stats.array_meta.bytes;
    world_free(world);
    return bytes;
}

static void test_array_cache_back_pressure(void **state)
{
    (void)state;
    struct world *world = world_new();
    make_arrays(world, 8, 0);
    world->samples_per_batch = 4;
    world->options.array_meta_cache_bytes = dmc_array_meta_reserve(12) + 3 * array_bytes() + 64; /* four */
    world_begin(world);
    for (int i = 0; i < 8; i++)
        push_array(world, i, 4);
    world_wait(world, 4);
    world_stands_still(world, 4); /* the next batch waits for this one */
    world_plan(world);
    world_wait(world, 8);
    for (uint64_t i = 4; i < 8; i++)
        assert_null(world_error(world, i));
    struct dmc_prefetcher_stats stats;
    dmc_prefetcher_stats_get(world->prefetcher, &stats);
    assert_true(stats.array_meta.evictions >= 3);
    assert_true(stats.array_meta.bytes <= stats.array_meta.bytes_max);
    world_free(world);
}

static void test_array_cache_budget(void **state)
{
    (void)state;
    struct world *world = world_new();
    make_arrays(world, 8, 0);
    world->samples_per_batch = 8;
    world->options.array_meta_cache_bytes = dmc_array_meta_reserve(12) + 3 * array_bytes() + 64;
    world_begin(world);
    for (int i = 0; i < 8; i++)
        push_array(world, i, 4);
    push_array(world, 0, 4);
    world_wait(world, 8);
    for (uint64_t i = 0; i < 4; i++)
        assert_null(world_error(world, i));
    for (uint64_t i = 4; i < 8; i++)
        assert_error(world, i, DAMACY_BUDGET, "array metadata of one batch exceed array_meta_cache_bytes");
    assert_string_equal(world_error(world, 4)->uri, "memory://a04");
    assert_non_null(strstr(world_error(world, 4)->hint, "array_meta_cache_bytes"));
    world_free(world);
    world = world_new();
    make_arrays(world, 1, 0);
    world->options.array_meta_cache_bytes = 100;
    world_begin(world);
    push_array(world, 0, 4);
    world_wait(world, 1);
    assert_error(world, 0, DAMACY_BUDGET, "alone exceed array_meta_cache_bytes");
    world_free(world);
}

#define SHARD_KEY_BYTES (12 + 1 + 16 + 16)

static void test_shard_cache_back_pressure_and_budget(void **state)
{
    (void)state;
    struct world *world = world_new();
    make_arrays(world, 3, 16);
    world->samples_per_batch = 1;
    uint64_t held = dmc_prefetch_cache_held(SHARD_KEY_BYTES, sizeof(struct dmc_shard_index));           /* of an absent shard */
    world->options.shard_index_cache_bytes = dmc_prefetch_cache_reserve(SHARD_KEY_BYTES, 0) + 5 * held; /* six */
    world_begin(world);
    push_array(world, 0, 32); /* 4 shards */
    push_array(world, 1, 32); /* 4 more: must wait */
    push_array(world, 2, 48); /* 9 alone */
    world_wait(world, 1);
    world_stands_still(world, 1);
    world_plan(world);
    world_wait(world, 2);
    assert_null(world_error(world, 1));
    world_stands_still(world, 2);
    world_plan(world);
    world_wait(world, 3);
    assert_error(world, 2, DAMACY_BUDGET, "shard indices of one batch exceed shard_index_cache_bytes");
    assert_string_equal(world_error(world, 2)->stage, "index");
    world_free(world);
}

static uint64_t wild_delay(struct world *world, const char *key)
{
    uint64_t random = dmc_hash_bytes(key, strlen(key), world->seed);
    return random % 4 ? random % 300000 : random % 2000000;
}

/* BUDGET strikes the same samples whatever finishes first. */
static void test_budget_does_not_depend_on_timing(void **state)
{
    (void)state;
    uint64_t seed = world_test_seed();
    for (int round = 0; round < 12; round++) {
        struct world *world = world_new();
        make_arrays(world, 24, 16);
        world->seed = world_random(&seed);
        world->delay_ns = round ? wild_delay : NULL;
        world->samples_per_batch = 12;
        world->options.array_meta_cache_bytes = dmc_array_meta_reserve(12) + 9 * array_bytes() + 512;
        world->options.shard_index_cache_bytes = dmc_prefetch_cache_reserve(SHARD_KEY_BYTES, 0) +
                                                 19 * dmc_prefetch_cache_held(SHARD_KEY_BYTES, sizeof(struct dmc_shard_index));
        world->options.reads_in_flight = 1 + (uint32_t)(world_random(&seed) % 16);
        world_begin(world);
        for (int i = 0; i < 24; i++)
            push_array(world, i, 32); /* 10 arrays and 20 shards fit: the first five samples, then arrays only */
        for (uint64_t batch = 0; batch < 2; batch++) {
            world_wait(world, 12 * (batch + 1));
            for (uint64_t i = 0; i < 12; i++) {
                const char *setting = i < 5 ? NULL : i < 10 ? "shard_index_cache_bytes" : "array_meta_cache_bytes";
                if (setting)
                    assert_error(world, 12 * batch + i, DAMACY_BUDGET, setting);
                else
                    assert_null(world_error(world, 12 * batch + i));
            }
            world_plan(world);
        }
        world_free(world);
    }
}

/* The pipeline's budget is short: fetches wait for each other's buffers, and fail only when one alone cannot be had. */
static void test_transient_buffers_come_from_the_budget(void **state)
{
    (void)state;
    struct world *world = world_new();
    make_arrays(world, 8, 0);
    world->gate.pattern = "zarr.json";
    world->budget_bytes = dmc_prefetcher_memory(&world->options) + DMC_ARRAY_META_READ_BYTES + 100;
    world_begin(world);
    for (int i = 0; i < 8; i++)
        push_array(world, i, 4);
    gate_wait(&world->gate, 2); /* one from the budget, one from what is set aside */
    world_stands_still(world, 0);
    assert_int_equal(world->request_count, 2);
    assert_true(dmc_budget_used(&world->budget) <= world->budget_bytes);
    dmc_mutex_lock(&world->gate.lock);
    world->gate.pattern = NULL;
    dmc_mutex_unlock(&world->gate.lock);
    gate_open(&world->gate, "zarr.json");
    world_wait(world, 8);
    for (uint64_t i = 0; i < 8; i++)
        assert_null(world_error(world, i));
    assert_int_equal(dmc_budget_used(&world->budget), dmc_prefetcher_memory(&world->options));
    world_free(world);

    /* Usual metadata can always be read; an index of 64 KiB cannot, until there is room for it. */
    world = world_new();
    world->samples_per_batch = 1;
    world_array(world, "big", 8192, 1, 64, WORLD_ZSTD);
    world->budget_bytes = dmc_prefetcher_memory(&world->options) + 70000;
    world_begin(world);
    assert_true(dmc_budget_reserve(&world->budget, 70000));
    world_push(world, "memory://big", 0, 4, 0, 4);
    world_wait(world, 1);
    assert_error(world, 0, DAMACY_BUDGET, "max_host_memory_bytes");
    dmc_budget_unreserve(&world->budget, 70000);
    world_plan(world);
    world_push(world, "memory://big", 0, 4, 0, 4);
    world_wait(world, 2);
    assert_null(world_error(world, 1));
    world_free(world);

    world = world_new();
    struct damacy_error error;
    world->budget_bytes = dmc_prefetcher_memory(&world->options) - 1;
    world_prepare(world);
    assert_int_equal(world_start(world, &error), DAMACY_BUDGET);
    assert_int_equal(dmc_budget_used(&world->budget), 0);
    world_free(world);
}

/* An array is replaced by one with more chunks in a shard while its old index is cached: the index must not be used for it. */
static void test_an_index_of_replaced_metadata_is_not_used(void **state)
{
    (void)state;
    struct world *world = world_new();
    make_arrays(world, 2, 16);
    world_shard(world, "a00", 0, 0, 4, 10, "x", 1);
    world->samples_per_batch = 1;
    world->options.array_meta_cache_bytes = dmc_array_meta_reserve(12); /* one */
    world_begin(world);
    push_array(world, 0, 4);
    world_wait(world, 1);
    assert_int_equal(shard_of(world, 0, 0, 0)->entries[3].offset, 30);
    world_array(world, "a00", 64, 4, 32, WORLD_ZSTD);
    world_shard(world, "a00", 0, 0, 64, 10, "x", 1);
    push_array(world, 1, 4); /* makes a00's metadata go */
    push_array(world, 0, 4);
    world_plan(world);
    world_wait(world, 2);
    world_plan(world);
    world_wait(world, 3);
    assert_null(world_error(world, 2));
    assert_int_equal(dmc_prefetcher_array(world_region(world, 2, 0))->zarr->chunks_per_shard, 64);
    assert_int_equal(shard_of(world, 2, 0, 0)->entries[63].offset, 630);
    world_free(world);
}

/* --- faults --- */

static void test_the_nth_read_goes_wrong(void **state)
{
    (void)state;
    const enum dmc_fault faults[] = {DMC_FAULT_FAIL, DMC_FAULT_SHORT, DMC_FAULT_ABSENT, DMC_FAULT_FLIP};
    for (int kind = 0; kind < 4; kind++)
        for (uint64_t n = 0; n < 10; n++)
            for (int late = 0; late < 2; late++) {
                struct world *world = world_new();
                make_arrays(world, 2, 16);
                world_shard(world, "a00", 0, 0, 4, 10, "x", 1);
                world_shard(world, "a01", 1, 1, 4, 10, "x", 1);
                world->choose = world_nth_fault;
                world->delay_ns = late ? wild_delay : NULL;
                world->user[0] = n;
                world->user[1] = faults[kind];
                world_begin(world);
                for (int i = 0; i < 2; i++) {
                    push_array(world, i, 32);
                    push_array(world, i, 4);
                }
                world_wait(world, 4);
                int failed = 0;
                for (uint64_t i = 0; i < 4; i++) {
                    const struct damacy_error *error = world_error(world, i);
                    if (!error)
                        continue;
                    failed++;
                    assert_true(error->uri[0] && error->message[0] && error->stage[0] && error->key[0]);
                    if (faults[kind] == DMC_FAULT_FAIL)
                        assert_int_equal(error->status, DAMACY_IO);
                    else if (faults[kind] == DMC_FAULT_ABSENT)
                        assert_int_equal(error->status, DAMACY_NOTFOUND);
                    else
                        assert_true(error->status == DAMACY_DECODE || error->status == DAMACY_UNSUPPORTED ||
                                    error->status == DAMACY_RANK);
                }
                if (faults[kind] == DMC_FAULT_FAIL && n < world->request_count)
                    assert_true(failed >= 1);
                world_free(world);
            }
}

static void test_destroy_with_hanging_requests(void **state)
{
    (void)state;
    for (uint64_t n = 0; n < 8; n++) {
        struct world *world = world_new();
        make_arrays(world, 4, 16);
        world->choose = world_nth_fault;
        world->user[0] = n;
        world->user[1] = DMC_FAULT_HANG;
        world_begin(world);
        for (int i = 0; i < 4; i++)
            push_array(world, i, 32);
        uint64_t deadline = dmc_clock_deadline(WORLD_LONG_NS);
        while (atomic_load(&world->request_count) <= n)
            assert_true(dmc_clock_ns() < deadline);
        if (n % 2) {
            dmc_prefetcher_stop(world->prefetcher);
            dmc_prefetcher_wake(world->prefetcher);
        }
        world_free(world); /* asserts that destroy was prompt and clean */
    }
    struct world *world = world_new(); /* and with nothing at all to do */
    world_begin(world);
    world_free(world);
    assert_true(dmc_prefetcher_destroy(NULL, 0));
}

static void test_an_io_error_is_tried_again_by_a_later_batch(void **state)
{
    (void)state;
    struct world *world = world_new();
    make_arrays(world, 1, 0);
    world->samples_per_batch = 1;
    world->choose = world_nth_fault;
    world->user[0] = 0;
    world->user[1] = DMC_FAULT_FAIL;
    world_begin(world);
    push_array(world, 0, 4);
    world_wait(world, 1);
    assert_error(world, 0, DAMACY_IO, "memory://a00: zarr.json");
    world_plan(world);
    push_array(world, 0, 4);
    world_wait(world, 2);
    assert_null(world_error(world, 1));
    world_free(world);
}

static void test_the_nth_allocation_fails(void **state)
{
    (void)state;
    bool all_done = false;
    for (uint64_t n = 1; !all_done; n++) {
        assert_true(n < 2000);
        struct world *world = world_new();
        make_arrays(world, 3, 16);
        world_shard(world, "a00", 0, 0, 4, 10, "x", 1);
        world_put_text(world, "a01/c/0/0", "short");
        world->options.want_layout = true;
        world_prepare(world);
        for (int i = 0; i < 3; i++)
            push_array(world, i, 32);
        world_push(world, "memory://missing", 0, 4, 0, 4);
        struct damacy_error error;
        uint64_t before = dmc_mem_count();
        dmc_mem_fail_at(n);
        enum damacy_status status = world_start(world, &error);
        if (status == DAMACY_OK) {
            world_wait(world, 4);
            for (uint64_t i = 0; i < 4; i++) {
                const struct damacy_error *failure = world_error(world, i);
                enum damacy_status good = i == 1 ? DAMACY_DECODE : i == 3 ? DAMACY_NOTFOUND : DAMACY_OK;
                if (failure)
                    assert_true(failure->status == good || failure->status == DAMACY_OOM);
                else
                    assert_int_equal(good, DAMACY_OK);
            }
        } else {
            assert_int_equal(status, DAMACY_OOM);
        }
        all_done = status == DAMACY_OK && dmc_mem_count() - before < n;
        dmc_mem_fail_at(0);
        world_free(world);
    }
}

/* The second allocation from here is that of the sample's error: first when its missing array is found out, then again when it
 * is about to be resolved. */
static enum dmc_fault short_of_memory(struct world *world, uint64_t n, const char *key)
{
    (void)world;
    (void)n;
    if (strstr(key, ".zgroup") || strstr(key, "s/c/0/0"))
        dmc_mem_fail_at(2);
    return DMC_FAULT_NONE;
}

/* Without memory for its error a failed sample must not pass for a good one: it waits, and tells once there is some. */
static void test_no_memory_for_the_error_itself(void **state)
{
    (void)state;
    struct world *world = world_new();
    world->options.field_count = 2;
    world->ranks[1] = 2;
    world->choose = short_of_memory;
    world_array(world, "s", 64, 8, 16, WORLD_ZSTD);
    world_begin(world);
    struct damacy_interval boxes[2][2] = {{{0, 4}, {0, 4}}, {{0, 4}, {0, 4}}};
    world_push_fields(world, (const char *[]){"memory://s", "memory://missing"}, (const struct damacy_interval(*)[2])boxes);
    world_wait(world, 1);
    assert_error(world, 0, DAMACY_NOTFOUND, "memory://missing: memory was too short to say what failed");
    assert_int_equal(dmc_lookahead_slot(&world->ring, 0)->error_field, 1);
    world_free(world);
}

static void test_latency_is_added_to_every_request(void **state)
{
    (void)state;
    struct world *world = world_new();
    make_arrays(world, 20, 16);
    world->options.latency_ns = 3000000;
    world_begin(world);
    uint64_t begin = dmc_clock_ns();
    for (int i = 0; i < 20; i++)
        push_array(world, i, 32);
    world_wait(world, 20);
    assert_true(dmc_clock_ns() - begin >= 6000000);
    for (uint64_t i = 0; i < 20; i++)
        assert_null(world_error(world, i));
    world_free(world);
    world = world_new(); /* nothing waits for it at the end */
    make_arrays(world, 1, 0);
    world->options.latency_ns = 4000000000u;
    world_begin(world);
    push_array(world, 0, 4);
    uint64_t deadline = dmc_clock_deadline(WORLD_LONG_NS);
    while (atomic_load(&world->request_count) == 0)
        assert_true(dmc_clock_ns() < deadline);
    world_free(world);
}

/* --- what is warm allocates nothing --- */

static void test_cached_samples_allocate_nothing(void **state)
{
    (void)state;
    struct world *world = world_new();
    make_arrays(world, 4, 16);
    world_begin(world);
    for (int i = 0; i < 4; i++)
        push_array(world, i, 64);
    world_wait(world, 4);
    world_plan(world);
    uint64_t before = dmc_mem_count();
    for (int i = 0; i < 400; i++)
        push_array(world, i % 4, 64);
    world_wait(world, 404);
    assert_int_equal(dmc_mem_count(), before);
    world_free(world);
}

/* --- everything at once: the same workload must come out alike under any timing --- */

enum { RUN_SAMPLES = 240, RUN_ARRAYS = 30 };

struct outcome {
    enum damacy_status status;
    uint32_t field;
    char text[200];
};

static enum dmc_fault run_fault(struct world *world, uint64_t n, const char *key)
{
    (void)n; /* by key, so that it does not depend on timing */
    return dmc_hash_bytes(key, strlen(key), world->user[0]) % 12 == 0 ? DMC_FAULT_SHORT : DMC_FAULT_NONE;
}

struct planner {
    struct world *world;
    struct outcome *outcomes;
    uint64_t touched; /* sum over the shards, so that they are really read */
};

/* Plans batches as they get ready, on a thread of its own, looking at every shard of every good sample. */
static void *plan_all(void *argument)
{
    struct planner *planner = argument;
    struct world *world = planner->world;
    for (uint64_t ordinal = 0; ordinal < RUN_SAMPLES; ordinal++) {
        world_wait(world, ordinal + 1);
        dmc_mutex_lock(&world->lock);
        struct dmc_sample_slot *slot = dmc_lookahead_slot(&world->ring, ordinal);
        dmc_mutex_unlock(&world->lock);
        struct outcome *outcome = &planner->outcomes[ordinal];
        *outcome = (struct outcome){0};
        if (slot->error) {
            outcome->status = slot->error->status;
            outcome->field = slot->error_field;
            dmc_text_copy(outcome->text, sizeof outcome->text, slot->error->message);
        } else {
            for (uint32_t field = 0; field < 2; field++) {
                const struct dmc_slot_region *region = &slot->regions[field];
                struct dmc_array *array = dmc_prefetcher_array(region);
                if (!array->zarr->sharded)
                    continue;
                uint64_t at[2];
                for (at[0] = (uint64_t)region->aabb[0].begin / 16; at[0] <= (uint64_t)(region->aabb[0].end - 1) / 16; at[0]++)
                    for (at[1] = (uint64_t)region->aabb[1].begin / 16; at[1] <= (uint64_t)(region->aabb[1].end - 1) / 16;
                         at[1]++) {
                        const struct damacy_error *error;
                        const struct dmc_shard_index *index = dmc_prefetcher_shard(world->prefetcher, array, at, &error);
                        assert_non_null(index);
                        planner->touched += index->absent ? 1 : index->entries[3].offset;
                    }
            }
        }
        if (ordinal % world->samples_per_batch == world->samples_per_batch - 1)
            world_plan(world);
    }
    return NULL;
}

static void run_workload(uint64_t content, uint64_t timing, bool oracle, struct outcome *outcomes)
{
    uint64_t random = content;
    struct world *world = world_new();
    world->options.field_count = 2;
    world->ranks[1] = 2;
    world->samples_per_batch = 1 + (uint32_t)(world_random(&random) % 12);
    while (RUN_SAMPLES % world->samples_per_batch)
        world->samples_per_batch--;
    for (int i = 0; i < RUN_ARRAYS; i++) {
        char name[32];
        snprintf(name, sizeof name, "a%02d", i);
        uint64_t kind = world_random(&random) % 10;
        if (kind > 0) /* else missing */
            world_array(world, name, kind == 1 ? 24 : 64, 8, kind < 4 ? 0 : 16,
                        kind == 2 ? "{\"name\":\"nothing\"}" : WORLD_ZSTD);
        for (int shard = 0; shard < 16; shard++) {
            uint64_t what = world_random(&random) % 8;
            char key[64];
            snprintf(key, sizeof key, "%s/c/%d/%d", name, shard / 4, shard % 4);
            if (what == 0)
                world_put_text(world, key, "short");
            else if (what < 6)
                world_shard(world, name, (uint64_t)shard / 4, (uint64_t)shard % 4, 4, 10, "x", 1);
        }
    }
    world->options.array_meta_cache_bytes = dmc_array_meta_reserve(12) + (4 + world_random(&random) % 10) * array_bytes();
    world->options.shard_index_cache_bytes =
        dmc_prefetch_cache_reserve(SHARD_KEY_BYTES, 64 + 24) +
        (8 + world_random(&random) % 60) * dmc_prefetch_cache_held(SHARD_KEY_BYTES, 64 + 24);
    world->user[0] = world_random(&random);
    world->choose = run_fault;
    world->options.want_layout = world_random(&random) % 2;
    world->seed = timing;
    world->delay_ns = oracle ? NULL : wild_delay;
    world->options.reads_in_flight = oracle ? 1 : 1 + (uint32_t)(world_random(&timing) % 20);
    world->options.prefetch_samples = oracle ? 1 : 1 + (uint32_t)(world_random(&timing) % 80);
    world_begin(world);
    struct planner planner = {world, outcomes, 0};
    pthread_t thread;
    assert_int_equal(dmc_thread_start(&thread, "planner", plan_all, &planner), 0);
    for (int i = 0; i < RUN_SAMPLES; i++) {
        char text[2][32];
        const char *uris[2];
        struct damacy_interval boxes[2][2];
        for (int field = 0; field < 2; field++) {
            snprintf(text[field], sizeof text[field], "memory://a%02d", (int)(world_random(&random) % RUN_ARRAYS));
            uris[field] = text[field];
            for (int axis = 0; axis < 2; axis++) {
                int64_t begin = (int64_t)(world_random(&random) % 44);
                boxes[field][axis] = (struct damacy_interval){begin, begin + 20};
            }
        }
        world_push_fields(world, uris, (const struct damacy_interval(*)[2])boxes);
    }
    assert_true(dmc_thread_join_until(thread, dmc_clock_deadline(WORLD_LONG_NS)));
    world_free(world);
}

static void test_outcomes_do_not_depend_on_timing(void **state)
{
    (void)state;
    uint64_t seed = world_test_seed();
    static struct outcome expected[RUN_SAMPLES], found[RUN_SAMPLES];
    uint64_t statuses[32] = {0};
    for (int round = 0; round < 8; round++) {
        uint64_t content = world_random(&seed);
        run_workload(content, 0, true, expected);
        for (int i = 0; i < RUN_SAMPLES; i++)
            statuses[expected[i].status]++;
        for (int again = 0; again < 2; again++) {
            run_workload(content, world_random(&seed), false, found);
            for (int i = 0; i < RUN_SAMPLES; i++) {
                if (expected[i].status != found[i].status || expected[i].field != found[i].field ||
                    strcmp(expected[i].text, found[i].text))
                    print_message("round %d, sample %d: expected %s, found %s\n", round, i, expected[i].text, found[i].text);
                assert_int_equal(expected[i].status, found[i].status);
                assert_int_equal(expected[i].field, found[i].field);
                assert_string_equal(expected[i].text, found[i].text);
            }
        }
    }
    assert_true(statuses[DAMACY_OK] && statuses[DAMACY_NOTFOUND] && statuses[DAMACY_DECODE] && statuses[DAMACY_RANK]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_sample_resolves),
        cmocka_unit_test(test_an_index_at_the_start),
        cmocka_unit_test(test_requests_are_shared),
        cmocka_unit_test(test_readiness_keeps_push_order),
        cmocka_unit_test(test_a_stage_asks_in_push_order),
        cmocka_unit_test(test_fetches_overlap),
        cmocka_unit_test(test_more_samples_than_places),
        cmocka_unit_test(test_missing_arrays),
        cmocka_unit_test(test_bad_metadata),
        cmocka_unit_test(test_large_metadata),
        cmocka_unit_test(test_boxes_that_do_not_fit),
        cmocka_unit_test(test_bad_shards),
        cmocka_unit_test(test_an_enormous_index_is_budget),
        cmocka_unit_test(test_the_lowest_field_tells),
        cmocka_unit_test(test_one_array_in_two_fields),
        cmocka_unit_test(test_array_cache_back_pressure),
        cmocka_unit_test(test_array_cache_budget),
        cmocka_unit_test(test_shard_cache_back_pressure_and_budget),
        cmocka_unit_test(test_budget_does_not_depend_on_timing),
        cmocka_unit_test(test_transient_buffers_come_from_the_budget),
        cmocka_unit_test(test_an_index_of_replaced_metadata_is_not_used),
        cmocka_unit_test(test_the_nth_read_goes_wrong),
        cmocka_unit_test(test_destroy_with_hanging_requests),
        cmocka_unit_test(test_an_io_error_is_tried_again_by_a_later_batch),
        cmocka_unit_test(test_the_nth_allocation_fails),
        cmocka_unit_test(test_no_memory_for_the_error_itself),
        cmocka_unit_test(test_latency_is_added_to_every_request),
        cmocka_unit_test(test_cached_samples_allocate_nothing),
        cmocka_unit_test(test_outcomes_do_not_depend_on_timing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
