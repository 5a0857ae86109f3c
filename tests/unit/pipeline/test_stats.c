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
    pw_ok(damacy_stats_reset(pipeline, &error), &error);
    struct damacy_stats after = pw_stats(pipeline);
    assert_true(after.elapsed_ns < stats.elapsed_ns + 1000000000);
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
    (void)user;
    return strstr(key, "/c/") ? 10000000 : 0;
}

/* Reads that take far longer than anything else: storage. A caller that pushes late: producer. One that holds everything:
 * consumer. Each is so by a wide margin. */
static void test_bottlenecks(void **state)
{
    (void)state;
    struct dmc_store *memory = make_memory(), *delayed;
    struct damacy_error error;
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 4, 2, sample_shape, DAMACY_F32);
    config.tuning.worker_count = 1;
    config.tuning.batch_slots = 2;
    struct pw_sample sample = {.arrays = {&raw}, .begin = {{4, 4}}};

    pw_ok(dmc_store_delay_create(memory, slow, NULL, &delayed, &error), &error);
    struct damacy *pipeline = pw_create(&config, delayed);
    for (int i = 0; i < 24; i++)
        pw_push_wait(pipeline, "memory://", &sample);
    for (int i = 0; i < 6; i++)
        damacy_release(pw_pop(pipeline));
    struct damacy_stats stats = pw_stats(pipeline);
    assert_true(stats.read_wait.count > 0);
    assert_int_equal(stats.bottleneck, DAMACY_BOTTLENECK_STORAGE);
    damacy_destroy(pipeline);
    dmc_store_destroy(delayed);

    pipeline = pw_create(&config, memory);
    for (int b = 0; b < 5; b++) {
        pw_nap(30000000);
        for (int i = 0; i < 4; i++)
            pw_push_wait(pipeline, "memory://", &sample);
        damacy_release(pw_pop(pipeline));
    }
    assert_int_equal(pw_stats(pipeline).bottleneck, DAMACY_BOTTLENECK_PRODUCER);

    pw_ok(damacy_stats_reset(pipeline, &error), &error);
    for (int i = 0; i < 40; i++)
        pw_push_wait(pipeline, "memory://", &sample);
    for (int b = 0; b < 5; b++) {
        struct damacy_batch *batch = pw_pop(pipeline);
        pw_nap(40000000);
        damacy_release(batch);
    }
    stats = pw_stats(pipeline);
    assert_true(stats.slot_wait.time_ns > 0);
    assert_int_equal(stats.bottleneck, DAMACY_BOTTLENECK_CONSUMER);
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_counts), cmocka_unit_test(test_struct_size),
                                       cmocka_unit_test(test_bottlenecks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
