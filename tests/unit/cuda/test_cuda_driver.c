/* Goal: the CUDA backend against a driver that fails, that is slow, and that has little memory: create fails clean, a lost
 * device ends the pipeline with CUDA at pop, nothing leaks or hangs; buffers are used again only when streams and events allow
 * it. Method: the fake driver (tests/support/fake_cuda.h); its n-th call fails and all after it, for n = 1, 2, 3 ... until
 * nothing does. */
#define PW_CUDA
#include "support/pipeline_world.h"

static const int64_t shape[] = {20, 18};
static struct zw_array array = {
    .name = "a", .number = 5, .dtype = DAMACY_U16, .rank = 2, .shape = {64, 60}, .chunk = {16, 16}, .compressor = ZW_ZSTD};

static struct pw_sample sample_at(uint32_t i)
{
    return (struct pw_sample){.arrays = {&array}, .begin = {{(int64_t)(i * 7 % 44), (int64_t)(i * 5 % 42)}}, .tag = i};
}

static enum damacy_status create(const struct damacy_config *config, struct dmc_store *memory, struct damacy **pipeline,
                                 struct damacy_error *error)
{
    struct dmc_pipeline_extras extras = {.memory_store = memory};
    struct damacy_config placed = pw_placed(config, &extras);
    return dmc_pipeline_create(&placed, &extras, pipeline, error);
}

/* Create, read two batches, end. Where a call fails: CUDA, and nothing else. */
static bool run(struct dmc_store *memory, uint64_t fail_at)
{
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 3, 2, shape, DAMACY_F32);
    struct damacy *pipeline = NULL;
    struct damacy_error error;
    config.max_gpu_memory_bytes = 24u << 20;
    config.max_host_memory_bytes = 160u << 20;
    fake.calls = 0;
    fake.broken = false;
    fake.fail_at = fail_at;
    enum damacy_status status = create(&config, memory, &pipeline, &error);
    for (uint32_t b = 0; status == DAMACY_OK && b < 2; b++) {
        struct pw_sample samples[3];
        for (uint32_t i = 0; i < 3; i++) {
            samples[i] = sample_at(3 * b + i);
            pw_push(pipeline, "memory://", &samples[i]);
        }
        struct damacy_batch *batch;
        status = damacy_pop(pipeline, PW_LONG, &batch, &error);
        if (status != DAMACY_OK)
            break;
        assert_true(pw_batch_matches(batch, samples, 3));
        damacy_release(batch);
    }
    if (status != DAMACY_OK) {
        assert_int_equal(status, DAMACY_CUDA);
        assert_non_null(strstr(error.message, "CUDA_ERROR_LAUNCH_FAILED"));
        if (pipeline) { /* and so it stays */
            struct damacy_batch *batch;
            assert_int_equal(damacy_pop(pipeline, PW_LONG, &batch, &error), DAMACY_CUDA);
        }
    }
    damacy_destroy(pipeline);
    bool failed = fake.broken;
    assert_true(fake_is_clean());
    fake.fail_at = 0;
    fake.broken = false;
    return failed || status != DAMACY_OK;
}

static void test_every_call_fails(void **state)
{
    (void)state;
    struct dmc_store *memory = pw_memory();
    zw_write(&array, &(struct zw_sink){.memory = memory});
    uint64_t n = 1;
    while (run(memory, n))
        n += n < 120 ? 1 : 7;
    printf("%llu calls\n", (unsigned long long)n);
    assert_true(n > 40);
    dmc_store_destroy(memory);
}

static void test_budget(void **state)
{
    (void)state;
    struct dmc_store *memory = pw_memory();
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 3, 2, shape, DAMACY_F32);
    struct damacy *pipeline = NULL;
    struct damacy_error error;
    config.max_gpu_memory_bytes = 1u << 20;
    assert_int_equal(create(&config, memory, &pipeline, &error), DAMACY_BUDGET);
    assert_non_null(strstr(error.message, "max_gpu_memory_bytes"));
    assert_true(fake_is_clean());
    config.max_gpu_memory_bytes = 48u << 20;
    pw_ok(create(&config, memory, &pipeline, &error), &error);
    struct damacy_stats stats = DAMACY_STATS_INIT;
    pw_ok(damacy_stats_get(pipeline, &stats, &error), &error);
    assert_true(stats.gpu_bytes_committed > 1u << 20 && stats.gpu_bytes_committed <= 48u << 20);
    assert_int_equal(stats.gpu_bytes_limit, 48u << 20);
    damacy_destroy(pipeline);
    assert_true(fake_is_clean());
    dmc_store_destroy(memory);
}

/* A buffer that the consumer's stream still reads is not written; one that was released with an event waits for that event
 * alone. */
static void test_fences(void **state)
{
    (void)state;
    struct dmc_store *memory = pw_memory();
    zw_write(&array, &(struct zw_sink){.memory = memory});
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 1, 2, shape, DAMACY_F32);
    config.tuning.batch_slots = 2;
    struct damacy *pipeline = pw_create(&config, memory);
    struct damacy_error error;
    fake_driver.context_push(NULL);
    dmc_cu_stream consumer = NULL;
    dmc_cu_event event = NULL;
    assert_int_equal(fake_driver.stream_create(&consumer, DMC_CU_STREAM_NON_BLOCKING), DMC_CU_SUCCESS);
    assert_int_equal(fake_driver.event_create(&event, 0), DMC_CU_SUCCESS);
    static float copies[60][20 * 18];
    for (uint32_t i = 0; i < 60; i++) {
        struct pw_sample sample = sample_at(i);
        pw_push(pipeline, "memory://", &sample);
        struct damacy_batch *batch = pw_pop(pipeline);
        struct damacy_batch_info info = pw_info(batch);
        assert_true(pw_row_matches(&info, 0, &sample));
        assert_int_equal(info.device, DAMACY_CUDA_DEVICE);
        /* the consumer's work: late, and long after release */
        static uint32_t other;
        for (int k = 0; k < 200; k++)
            fake_driver.copy_to_host(&other, (uint64_t)(uintptr_t)info.tensors[0].data, sizeof other, consumer);
        fake_driver.copy_to_host(copies[i], (uint64_t)(uintptr_t)info.tensors[0].data, sizeof copies[i], consumer);
        if (i % 2) {
            fake_driver.event_record(event, consumer);
            pw_ok(damacy_release_event(batch, event, &error), &error);
        } else {
            pw_ok(damacy_batch_stream(batch, consumer, &error), &error);
            damacy_release(batch);
        }
    }
    fake_driver.stream_synchronize(consumer);
    for (uint32_t i = 0; i < 60; i++) {
        struct pw_sample sample = sample_at(i);
        uint64_t position[2];
        for (uint32_t y = 0; y < 20; y++)
            for (uint32_t x = 0; x < 18; x++) {
                uint8_t expected[8];
                position[0] = (uint64_t)sample.begin[0][0] + y;
                position[1] = (uint64_t)sample.begin[0][1] + x;
                zw_expect(&array, position, DAMACY_F32, expected);
                assert_memory_equal(expected, &copies[i][y * 18 + x], 4);
            }
    }
    damacy_destroy(pipeline);
    fake_driver.event_destroy(event);
    fake_driver.stream_destroy(consumer);
    fake_driver.context_pop(&(dmc_cu_context){0});
    assert_true(fake_is_clean());
    dmc_store_destroy(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call_fails),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_fences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
