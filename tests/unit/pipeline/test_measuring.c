/* What is there for measuring: bypass_decode, metadata_latency_ns, counts of the device's stages, ranges for profilers.
 *
 * Method: arrays of every way that a chunk takes through the backends, one of them damaged, read with bypass_decode: batches
 * hold the fill value as if every chunk were absent, all that is stored was read (and brought to the device), and nothing was
 * decoded. A request that is a while late cannot have been answered before. */
#include "support/pipeline_world.h"

#include "support/fake_nvtx.h"

#define ARRAYS 6
#define SAMPLES 12

static const int64_t shape[] = {20, 18};
static const struct zw_array arrays[ARRAYS] = {
    {.name = "raw", .number = 1, .dtype = DAMACY_U16, .rank = 2, .shape = {64, 60}, .chunk = {16, 16}, .fill_nonzero = true},
    {.name = "zstd",
     .number = 2,
     .dtype = DAMACY_F32,
     .rank = 2,
     .shape = {64, 60},
     .chunk = {16, 16},
     .compressor = ZW_ZSTD,
     .missing_chunks = 20,
     .fill_nonzero = true},
    {.name = "sharded",
     .number = 3,
     .dtype = DAMACY_U8,
     .rank = 2,
     .shape = {64, 60},
     .chunk = {8, 8},
     .shard = {32, 32},
     .compressor = ZW_ZSTD_CHECKSUM,
     .index_crc32c = true,
     .fill_nonzero = true},
    {.name = "blosc",
     .number = 4,
     .dtype = DAMACY_I16,
     .rank = 2,
     .shape = {64, 60},
     .chunk = {16, 16},
     .compressor = ZW_BLOSC},
    {.name = "gzip", .number = 5, .dtype = DAMACY_U16, .rank = 2, .shape = {64, 60}, .chunk = {16, 16}, .compressor = ZW_GZIP},
    {.name = "damaged",
     .number = 6,
     .dtype = DAMACY_U16,
     .rank = 2,
     .shape = {64, 60},
     .chunk = {16, 16},
     .compressor = ZW_ZSTD,
     .fill_nonzero = true},
};

static bool damage(void *user, const char *key, uint8_t *data, size_t *bytes)
{
    (void)user;
    if (!strstr(key, "zarr.json"))
        memset(data, 0x5a, *bytes);
    return true;
}

static struct dmc_store *make_memory(void)
{
    struct dmc_store *memory = pw_memory();
    for (int i = 0; i < ARRAYS; i++)
        zw_write(&arrays[i], &(struct zw_sink){.memory = memory, .alter = strcmp(arrays[i].name, "damaged") ? NULL : damage});
    return memory;
}

static struct damacy_stats read_all(bool bypass, uint32_t array_count, bool verify_full)
{
    struct dmc_store *memory = make_memory();
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, SAMPLES, 2, shape, DAMACY_F32);
    config.tuning.bypass_decode = bypass;
    config.verify = verify_full ? DAMACY_VERIFY_FULL : DAMACY_VERIFY_NEEDED;
    struct damacy *pipeline = pw_create(&config, memory);
    struct zw_array as_read[ARRAYS];
    struct pw_sample samples[SAMPLES];
    for (uint32_t i = 0; i < array_count; i++) {
        as_read[i] = arrays[i];
        if (bypass)
            as_read[i].missing_chunks = 100;
    }
    for (uint32_t batch = 0; batch < 3; batch++) {
        for (uint32_t i = 0; i < SAMPLES; i++) {
            uint32_t at = batch * SAMPLES + i;
            samples[i] = (struct pw_sample){
                .arrays = {&as_read[at % array_count]}, .begin = {{(int64_t)(at * 7 % 44), (int64_t)(at * 5 % 42)}}, .tag = at};
            pw_push_wait(pipeline, "memory://", &samples[i]);
        }
        struct damacy_batch *popped = pw_pop(pipeline);
        assert_true(pw_batch_matches(popped, samples, SAMPLES));
        damacy_release(popped);
    }
    struct damacy_stats stats = pw_stats(pipeline);
    assert_int_equal(stats.samples_delivered, 3 * SAMPLES);
    assert_int_equal(stats.samples_failed, 0);
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
    return stats;
}

static void test_bypass(void **state)
{
    (void)state;
    struct damacy_stats all = read_all(true, ARRAYS, true);
    assert_int_equal(all.decode.count, 0);
    assert_int_equal(all.gpu_decode.count, 0);
    assert_int_equal(all.gpu_retry.count, 0);

    /* The same work but for decoding, with and without. */
    struct damacy_stats with = read_all(false, ARRAYS - 1, false), without = read_all(true, ARRAYS - 1, false);
    assert_true(with.decode.count + with.gpu_decode.count > 0);
    assert_int_equal(without.decode.count + without.gpu_decode.count, 0);
    assert_int_equal(without.read.bytes, with.read.bytes);
    assert_int_equal(without.read.count, with.read.count);
    assert_int_equal(without.fill.count, with.fill.count);
    assert_int_equal(without.assemble.count, with.assemble.count);
    assert_int_equal(without.assemble.bytes, with.assemble.bytes);
    assert_int_equal(without.gpu_assemble.count, with.gpu_assemble.count);
#if defined(PW_CUDA) || defined(PW_GPU)
    assert_true(without.input_transfer.bytes >= without.bytes_needed);
    assert_int_equal(without.decode_gap.count + without.decode_gap.time_ns + without.gpu_decode_busy_ns, 0);
#endif
}

/* The device's stages: what is counted is what was sent there, and all of it is. */
static void test_device_stages(void **state)
{
    (void)state;
    struct damacy_stats stats = read_all(false, ARRAYS - 1, false);
#if defined(PW_CUDA) || defined(PW_GPU)
    assert_int_equal(stats.post_decode.count, stats.input_transfer.count);
    assert_int_equal(stats.post_decode.bytes, stats.gpu_decode.bytes);
    assert_in_range(stats.decode_gap.count, 1, stats.input_transfer.count); /* nothing hides the first copy */
    assert_true(stats.decode_gap.time_ns > 0);
    assert_in_range(stats.gpu_decode_busy_ns, 1, stats.gpu_decode.time_ns);
    assert_true(stats.gpu_assemble.bytes >= stats.bytes_delivered); /* more where a chunk was placed twice */
#else
    assert_int_equal(stats.post_decode.count + stats.decode_gap.count + stats.bind_wait.count, 0);
    assert_true(stats.assemble.bytes < stats.bytes_delivered);
    assert_int_equal(stats.assemble.bytes + stats.fill.bytes, stats.bytes_delivered);
#endif
    assert_in_range(stats.plan.bytes, 1, stats.bytes_needed); /* how long whole objects are only their stores know */
}

static void test_metadata_latency(void **state)
{
    (void)state;
    struct dmc_store *memory = make_memory();
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 1, 2, shape, DAMACY_F32);
    config.tuning.metadata_latency_ns = 20000000;
    struct damacy *pipeline = pw_create(&config, memory);
    struct pw_sample sample = {.arrays = {&arrays[2]}, .begin = {{1, 1}}};
    uint64_t begin_ns = dmc_clock_ns();
    pw_push(pipeline, "memory://", &sample);
    struct damacy_batch *batch = pw_pop(pipeline);
    assert_true(dmc_clock_ns() - begin_ns >= 40000000); /* the array's metadata, then the index of a shard */
    assert_true(pw_batch_matches(batch, &sample, 1));
    damacy_release(batch);
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

/* A profiler gets every range of a whole life, each ended. */
static void test_profiler(void **state)
{
    (void)state;
#ifdef FAKE_NVTX
    read_all(false, ARRAYS - 1, false);
    struct fake_nvtx seen = fake_nvtx_ask(FAKE_NVTX);
    uint64_t pushed = 0, started = 0;
    for (int i = 0; i < seen.count; i++) {
        pushed += seen.ranges[i].pushed;
        started += seen.ranges[i].started;
    }
    assert_int_equal(seen.wrong, 0);
    assert_int_equal(seen.popped, pushed);
    assert_int_equal(seen.ended, started);
    assert_true(fake_nvtx_range(&seen, "batch")->started >= 3 && fake_nvtx_range(&seen, "plan")->pushed >= 3);
    assert_non_null(fake_nvtx_range(&seen, "prefetch"));
    assert_non_null(fake_nvtx_range(&seen, "idle"));
#ifdef PW_CUDA
    assert_int_equal(fake_nvtx_range(&seen, "wave")->started, fake_nvtx_range(&seen, "launch")->pushed);
#else
    assert_non_null(fake_nvtx_range(&seen, "chunks"));
#endif
#else
    skip(); /* built without NVTX's headers */
#endif
}

int main(void)
{
#ifdef FAKE_NVTX
    setenv("NVTX_INJECTION64_PATH", FAKE_NVTX, 1);
#endif
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bypass), cmocka_unit_test(test_device_stages),
                                       cmocka_unit_test(test_metadata_latency), cmocka_unit_test(test_profiler)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
