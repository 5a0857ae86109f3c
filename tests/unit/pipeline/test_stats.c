/* Stats: what is counted is what happened.
 *
 * Method: arrays whose chunks and sizes are known, so that reads, chunks, pieces and bytes can be told beforehand; times and
 * the bottleneck are only checked where they cannot be otherwise. */
#include "support/pipeline_world.h"

static const int64_t sample_shape[] = {8, 8};
static struct zw_array raw = {.name = "raw", .number = 1, .dtype = DAMACY_U16, .rank = 2, .shape = {32, 32}, .chunk = {8, 8}};
static struct zw_array packed = {.name = "packed",
                                 .number = 2,
                                 .dtype = DAMACY_U16,
                                 .rank = 2,
                                 .shape = {32, 32},
                                 .chunk = {8, 8},
                                 .shard = {32, 32},
                                 .compressor = ZW_ZSTD_CHECKSUM,
                                 .index_crc32c = true};
static struct zw_array holes = {.name = "holes",
                                .number = 3,
                                .dtype = DAMACY_U16,
                                .rank = 2,
                                .shape = {32, 32},
                                .chunk = {8, 8},
                                .shard = {32, 32},
                                .compressor = ZW_ZSTD,
                                .missing_chunks = 100};

static struct dmc_store *make_memory(void)
{
    struct dmc_store *memory = pw_memory();
    struct zw_sink sink = {.memory = memory};
    zw_write(&raw, &sink);
    zw_write(&packed, &sink);
    zw_write(&holes, &sink);
    return memory;
}

static uint64_t stored_bytes(const struct zw_array *array, uint64_t y, uint64_t x)
{
    size_t bytes;
    free(zw_encode(array, (uint64_t[]){y, x}, &bytes));
    return bytes;
}

static void test_counts(void **state)
{
    (void)state;
    struct dmc_store *memory = make_memory();
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 4, 2, sample_shape, DAMACY_F32);
    config.tuning.coalesce_gap_bytes = 1;
    struct damacy *pipeline = pw_create(&config, memory);
    struct damacy_stats stats = pw_stats(pipeline);
    assert_int_equal(stats.samples_pushed, 0);
    assert_int_equal(stats.bottleneck, DAMACY_BOTTLENECK_NONE);
    assert_int_equal(stats.host_bytes_limit, config.max_host_memory_bytes);
    assert_true(stats.host_bytes_committed > 0 && stats.host_bytes_committed <= stats.host_bytes_limit);

    /* Two samples of one packed chunk, one of a raw chunk, one of a hole: aligned boxes, one piece each. */
    struct pw_sample samples[] = {{.arrays = {&packed}, .begin = {{8, 16}}},
                                  {.arrays = {&packed}, .begin = {{8, 16}}},
                                  {.arrays = {&raw}, .begin = {{0, 24}}},
                                  {.arrays = {&holes}, .begin = {{24, 0}}}};
    for (int i = 0; i < 4; i++)
        pw_push(pipeline, "memory://", &samples[i]);
    struct damacy_batch *batch = pw_pop(pipeline);
    assert_true(pw_batch_matches(batch, samples, 4));
    stats = pw_stats(pipeline);
    assert_int_equal(stats.samples_pushed, 4);
    assert_int_equal(stats.samples_delivered, 4);
    assert_int_equal(stats.samples_failed, 0);
    assert_int_equal(stats.batches_delivered, 1);
    assert_int_equal(stats.bytes_delivered, 4 * 64 * 4);
    assert_int_equal(stats.lookahead_samples, 0);
    assert_int_equal(stats.batches_ready, 0);
    assert_int_equal(stats.batches_held, 1);
    assert_int_equal(stats.metadata.count, 4);
    assert_true(stats.metadata.bytes > 1000);
    assert_int_equal(stats.plan.count, 1);
    assert_int_equal(stats.plan.bytes, stats.bytes_needed);
    assert_int_equal(stats.read.count, 2);
    assert_int_equal(stats.read.bytes, stored_bytes(&packed, 1, 2) + 128);
    assert_int_equal(stats.bytes_needed, stats.read.bytes);
    assert_int_equal(stats.decode.count, 1);
    assert_int_equal(stats.decode.bytes, 128);
    assert_int_equal(stats.assemble.count, 3);
    assert_int_equal(stats.assemble.bytes, 3 * 64 * 4);
    assert_int_equal(stats.fill.count, 1);
    assert_int_equal(stats.array_meta_misses, 3);
    assert_int_equal(stats.array_meta_hits, 1);
    assert_int_equal(stats.shard_index_misses, 2);
    assert_int_equal(stats.shard_index_hits, 1);
    assert_true(stats.elapsed_ns > 0);
    assert_int_not_equal(stats.bottleneck, DAMACY_BOTTLENECK_NONE);
    damacy_release(batch);
    assert_int_equal(pw_stats(pipeline).batches_held, 0);

    /* Reset: counts begin anew, states stay. */
    pw_push(pipeline, "memory://", &samples[0]);
    struct damacy_error error;
    uint64_t reset_ns = dmc_clock_ns();
    pw_ok(damacy_stats_reset(pipeline, &error), &error);
    struct damacy_stats after = pw_stats(pipeline);
    assert_true(after.elapsed_ns <= dmc_clock_ns() - reset_ns);
    assert_int_equal(after.samples_pushed, 0);
    assert_int_equal(after.batches_delivered, 0);
    assert_int_equal(after.bytes_needed, 0);
    assert_int_equal(after.read.count, 0);
    assert_int_equal(after.decode.bytes, 0);
    assert_int_equal(after.array_meta_misses, 0);
    assert_int_equal(after.host_bytes_limit, config.max_host_memory_bytes);
    assert_int_equal(after.bottleneck, DAMACY_BOTTLENECK_NONE);

    /* Failed samples are counted where they come out. */
    struct pw_sample none = {.arrays = {NULL}};
    pw_push(pipeline, "memory://", &none);
    pw_push(pipeline, "memory://", &none);
    pw_flush(pipeline);
    assert_int_equal(damacy_pop(pipeline, PW_LONG, &batch, &error), DAMACY_NOTFOUND);
    after = pw_stats(pipeline);
    assert_int_equal(after.samples_pushed, 2);
    assert_int_equal(after.samples_failed, 2);
    assert_int_equal(after.samples_delivered, 0);
    assert_int_equal(after.batches_delivered, 0);
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

/* An older caller's smaller struct is filled as far as it goes. */
static void test_struct_size(void **state)
{
    (void)state;
    struct dmc_store *memory = make_memory();
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 4, 2, sample_shape, DAMACY_F32);
    struct damacy *pipeline = pw_create(&config, memory);
    struct damacy_stats stats;
    struct damacy_error error;
    memset(&stats, 0x55, sizeof stats);
    stats.struct_size = offsetof(struct damacy_stats, bytes_delivered);
    pw_ok(damacy_stats_get(pipeline, &stats, &error), &error);
    assert_int_equal(stats.batches_delivered, 0);
    assert_int_equal(stats.bytes_delivered, 0x5555555555555555);
    assert_int_equal(stats.struct_size, offsetof(struct damacy_stats, bytes_delivered));
    stats.struct_size = 0;
    assert_int_equal(damacy_stats_get(pipeline, &stats, &error), DAMACY_INVAL);
    stats.struct_size = sizeof stats + 8;
    assert_int_equal(damacy_stats_get(pipeline, &stats, &error), DAMACY_INVAL);
    assert_int_equal(damacy_stats_get(pipeline, NULL, &error), DAMACY_INVAL);
    assert_int_equal(damacy_stats_get(NULL, &stats, &error), DAMACY_INVAL);
    assert_int_equal(damacy_stats_reset(NULL, &error), DAMACY_INVAL);
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

static uint64_t slow(void *user, const char *key)
{
    return strstr(key, "/c/") ? *(const uint64_t *)user : 0;
}

static struct damacy *make_narrow(struct dmc_store *store)
{
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 4, 2, sample_shape, DAMACY_F32);
    config.tuning.worker_count = 1;
    config.tuning.batch_slots = 2;
    return pw_create(&config, store);
}

static void push_narrow(struct damacy *pipeline, int batches)
{
    struct pw_sample sample = {.arrays = {&raw}, .begin = {{4, 4}}};
    for (int i = 0; i < 4 * batches; i++)
        pw_push_wait(pipeline, "memory://", &sample);
}

/* Reads that take so long. */
static enum damacy_bottleneck with_slow_storage(struct dmc_store *memory, uint64_t ns)
{
    struct dmc_store *delayed;
    struct damacy_error error;
    pw_ok(dmc_store_delay_create(memory, slow, &ns, &delayed, &error), &error);
    struct damacy *pipeline = make_narrow(delayed);
    push_narrow(pipeline, 6);
    for (int b = 0; b < 6; b++)
        damacy_release(pw_pop(pipeline));
    struct damacy_stats stats = pw_stats(pipeline);
    damacy_destroy(pipeline);
    dmc_store_destroy(delayed);
    return stats.read_wait.count > 0 ? stats.bottleneck : DAMACY_BOTTLENECK_NONE;
}

/* A caller that pushes so late. */
static enum damacy_bottleneck with_slow_producer(struct dmc_store *memory, uint64_t ns)
{
    struct damacy *pipeline = make_narrow(memory);
    for (int b = 0; b < 5; b++) {
        pw_nap(ns);
        push_narrow(pipeline, 1);
        damacy_release(pw_pop(pipeline));
    }
    struct damacy_stats stats = pw_stats(pipeline);
    damacy_destroy(pipeline);
    return stats.bottleneck;
}

/* One that holds everything for so long. */
static enum damacy_bottleneck with_slow_consumer(struct dmc_store *memory, uint64_t ns)
{
    struct damacy *pipeline = make_narrow(memory);
    struct damacy_error error;
    push_narrow(pipeline, 1);
    damacy_release(pw_pop(pipeline)); /* the metadata are known */
    pw_ok(damacy_stats_reset(pipeline, &error), &error);
    push_narrow(pipeline, 10);
    for (int b = 0; b < 5; b++) {
        struct damacy_batch *batch = pw_pop(pipeline);
        pw_nap(ns);
        damacy_release(batch);
    }
    struct damacy_stats stats = pw_stats(pipeline);
    damacy_destroy(pipeline);
    return stats.slot_wait.count > 0 ? stats.bottleneck : DAMACY_BOTTLENECK_NONE;
}

/* Whoever takes far longer than everything else is named. How long that must be on a machine that halts threads for seconds is
 * found out. */
static void test_bottlenecks(void **state)
{
    (void)state;
    static const struct {
        enum damacy_bottleneck (*run)(struct dmc_store *memory, uint64_t ns);
        enum damacy_bottleneck expected;
    } cases[] = {{with_slow_storage, DAMACY_BOTTLENECK_STORAGE},
                 {with_slow_producer, DAMACY_BOTTLENECK_PRODUCER},
                 {with_slow_consumer, DAMACY_BOTTLENECK_CONSUMER}};
    struct dmc_store *memory = make_memory();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (uint64_t ns = 20000000; cases[i].run(memory, ns) != cases[i].expected; ns *= 4)
            assert_true(ns < 5000000000);
    dmc_store_destroy(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_counts), cmocka_unit_test(test_struct_size),
                                       cmocka_unit_test(test_bottlenecks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
