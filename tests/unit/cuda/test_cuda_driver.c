/* Goal: the CUDA backend against a driver that fails, that is slow, and that has little memory: whichever call fails, create
 * fails clean or the pipeline ends with CUDA at pop, and what is delivered is right; nothing leaks or hangs; buffers are used
 * again only when streams and events allow it. Method: the fake driver (tests/support/fake_cuda.h); its n-th call fails, alone
 * or with all after it, for n = 1, 2, 3 ... until nothing does; consumers' streams that stand still until the test lets them
 * go.
 */
#define PW_CUDA
#include "backend/cuda/cuda_backend.h"
#include "support/pipeline_world.h"

#include <unistd.h>

static const int64_t shape[] = {20, 18};
static struct zw_array array = {.name = "a",
                                .number = 5,
                                .dtype = DAMACY_U16,
                                .rank = 2,
                                .shape = {64, 60},
                                .chunk = {16, 16},
                                .compressor = ZW_ZSTD,
                                .fill_nonzero = true};

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

/* --- calls that fail --- */

#define ROWS 4
#define BAD 1u     /* its chunks are damaged: the row gets the array's fill value */
#define UNKNOWN 2u /* there is no such array: zeros */

struct way {
    bool once;     /* else all calls after it fail, too */
    bool captured; /* the context is the caller's */
    enum damacy_on_error on_error;
    enum damacy_dtype dtype;
    dmc_cu_result with;
};

/* A batch that was delivered holds what it should. */
static void check_rows(const struct damacy_batch *batch, const struct way *way, uint32_t b)
{
    struct damacy_batch_info info = pw_info(batch);
    const uint64_t item = damacy_dtype_bytes(way->dtype), row_bytes = 20 * 18 * item;
    uint8_t fills[ROWS][8] = {{0}}, source[8];
    zw_fill(&array, source);
    dmc_scatter_fill(fills[BAD], 0, 1, 1, way->dtype, (struct dmc_scatter_element){array.dtype, 1, 0, source});
    assert_int_equal(info.row_count, way->on_error == DAMACY_FILL ? ROWS : ROWS - 2);
    assert_int_equal(info.device_ordinal, way->captured);
    for (uint32_t i = 0; i < info.row_count; i++) {
        const uint32_t pushed = (uint32_t)info.rows[i].tag % ROWS;
        struct pw_sample sample = sample_at(ROWS * b + pushed);
        assert_int_equal(info.rows[i].tag, sample.tag);
        assert_int_equal(info.rows[i].status != DAMACY_OK, pushed == BAD || pushed == UNKNOWN);
        if (info.rows[i].status == DAMACY_OK)
            assert_true(pw_row_matches(&info, i, &sample));
        for (uint64_t k = 0; info.rows[i].status != DAMACY_OK && k < 20 * 18; k++)
            assert_memory_equal((const uint8_t *)info.tensors[0].data + i * row_bytes + k * item, fills[pushed], item);
    }
}

/* Back by the stream of a tensor, or by an event. What cannot be released with an event can be without one. */
static void give_back(struct damacy_batch *batch, uint32_t b, dmc_cu_stream consumer, dmc_cu_event event)
{
    struct damacy_error error;
    if (b % 2 && damacy_release_event(batch, event, &error) == DAMACY_OK)
        return;
    pw_ok(damacy_batch_stream(batch, consumer, &error), &error);
    damacy_release(batch);
}

/* Create, read four batches in two slots, end. Where a call fails: CUDA, and nothing else. Returns the call that failed. */
static const char *run(struct dmc_store *memory, uint64_t fail_at, const struct way *way)
{
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, ROWS, 2, shape, way->dtype);
    struct damacy *pipeline = NULL;
    struct damacy_error error;
    dmc_cu_stream consumer = NULL;
    dmc_cu_event event = NULL;
    config.max_gpu_memory_bytes = 24u << 20;
    config.max_host_memory_bytes = 160u << 20;
    config.tuning.batch_slots = 2;
    config.on_error = way->on_error;
    config.device_ordinal = -1;
    fake_driver.context_push(NULL);
    assert_int_equal(fake_driver.stream_create(&consumer, DMC_CU_STREAM_NON_BLOCKING), DMC_CU_SUCCESS);
    assert_int_equal(fake_driver.event_create(&event, 0), DMC_CU_SUCCESS);
    fake_driver.context_pop(&(dmc_cu_context){0});
    fake.calls = 0;
    fake.failed = NULL;
    fake.fail_once = way->once;
    fake.fail_with = way->with;
    fake.current = way->captured ? &fake : NULL;
    fake.fail_at = fail_at;
    enum damacy_status status = create(&config, memory, &pipeline, &error);
    for (uint32_t b = 0; status == DAMACY_OK && b < 4; b++) {
        for (uint32_t i = 0; i < ROWS; i++) {
            struct pw_sample sample = sample_at(ROWS * b + i);
            sample.uri = i == BAD ? "memory://bad" : i == UNKNOWN ? "memory://none" : NULL;
            pw_push(pipeline, "memory://", &sample);
        }
        struct damacy_batch *batch;
        status = damacy_pop(pipeline, PW_LONG, &batch, &error);
        if (status != DAMACY_OK)
            break;
        check_rows(batch, way, b);
        give_back(batch, b, consumer, event);
    }
    if (status != DAMACY_OK) {
        assert_int_equal(status, pipeline || way->with != DMC_CU_OUT_OF_MEMORY ? DAMACY_CUDA : DAMACY_OOM);
        assert_non_null(strstr(error.message, way->with == DMC_CU_OUT_OF_MEMORY ? "OUT_OF_MEMORY" : "LAUNCH_FAILED"));
        if (pipeline) { /* and so it stays */
            struct damacy_batch *batch;
            assert_int_equal(damacy_pop(pipeline, PW_LONG, &batch, &error), DAMACY_CUDA);
        }
    }
    damacy_destroy(pipeline);
    fake.fail_at = 0;
    fake.broken = false;
    fake_driver.context_push(NULL);
    fake_driver.event_destroy(event);
    fake_driver.stream_destroy(consumer);
    fake_driver.context_pop(&(dmc_cu_context){0});
    if (fake.failed && strcmp(fake.failed, "fake_context_push") == 0)
        fake_forget(); /* a context that cannot be entered is gone with all that is in it */
    assert_true(fake_is_clean());
    fake.current = NULL;
    return fake.failed;
}

static struct dmc_store *make_store(void)
{
    struct dmc_store *memory = pw_memory();
    zw_write(&array, &(struct zw_sink){.memory = memory});
    struct zw_array bad = array;
    snprintf(bad.name, sizeof bad.name, "bad");
    zw_write(&bad, &(struct zw_sink){.memory = memory});
    for (uint32_t i = 0; i < 16; i++) {
        char key[32];
        snprintf(key, sizeof key, "bad/c/%u/%u", i / 4, i % 4);
        assert_int_equal(dmc_store_memory_put(memory, key, "rubbish", 7, NULL), DAMACY_OK);
    }
    return memory;
}

static const struct way ways[] = {
    {false, false, DAMACY_FILL, DAMACY_F64, FAKE_ERROR},
    {true, false, DAMACY_FILL, DAMACY_F64, FAKE_ERROR},
    {true, true, DAMACY_SKIP, DAMACY_F32, FAKE_ERROR},
    {true, true, DAMACY_FILL, DAMACY_U16, DMC_CU_OUT_OF_MEMORY},
};
#define WAYS (sizeof ways / sizeof ways[0])

static void test_every_call_fails(void **state)
{
    (void)state;
    struct dmc_store *memory = make_store();
    for (uint32_t w = 0; w < WAYS; w++) {
        uint64_t n = 1;
        while (run(memory, n, &ways[w]))
            n += 1 + n / 48;
        printf("way %u: %llu calls\n", w, (unsigned long long)n);
        assert_true(n > 100);
    }
    dmc_store_destroy(memory);
}

/* Each that the backend calls, so that none is forgotten that comes later. */
static void test_every_function_fails(void **state)
{
    (void)state;
    struct dmc_store *memory = make_store();
#define NAME(member, symbol, arguments) "fake_" #member,
    static const char *const functions[] = {DMC_CUDA_DRIVER_FUNCTIONS(NAME)};
#undef NAME
    static const char *const never[] = {"fake_init", "fake_driver_version", "fake_error_name", "fake_error_string",
                                        "fake_context_pop"};
    for (uint32_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        bool reached = false;
        for (uint32_t k = 0; k < sizeof never / sizeof never[0]; k++)
            reached = reached || strcmp(functions[i], never[k]) == 0;
        if (reached)
            continue;
        fake.only = functions[i];
        for (uint32_t w = 0; w < WAYS; w++)
            for (uint64_t n = 1; n <= 3 && run(memory, n, &ways[w]); n += 2)
                reached = true;
        fake.only = NULL;
        if (!reached)
            fail_msg("%s was not called", functions[i]);
    }
    dmc_store_destroy(memory);
}

/* The message says what such kernels need, and what is here. */
static void test_kernels_are_refused(void **state)
{
    (void)state;
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 3, 2, shape, DAMACY_F32);
    struct damacy *pipeline = NULL;
    struct damacy_error error;
    fake.only = "fake_module_load";
    fake.calls = 0;
    fake.failed = NULL;
    fake.fail_once = true;
    fake.fail_with = FAKE_ERROR;
    fake.fail_at = 1;
    assert_int_equal(create(&config, NULL, &pipeline, &error), DAMACY_CUDA);
    fake.fail_at = 0;
    fake.only = NULL;
    assert_null(pipeline);
    assert_non_null(strstr(error.message, "cuModuleLoadData: CUDA_ERROR_LAUNCH_FAILED"));
    assert_non_null(strstr(error.hint, "compute capability 8.0"));
    assert_non_null(strstr(error.hint, "CUDA 13.0"));
    assert_true(fake_is_clean());
}

/* --- memory --- */

static void test_budget(void **state)
{
    (void)state;
    struct dmc_store *memory = pw_memory();
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 3, 2, shape, DAMACY_F32);
    struct damacy *pipeline = NULL;
    struct damacy_error error;
    fake.memory_bytes_most = 0;
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
    /* All that is on the device is counted, and what is pinned counts among the host's memory. */
    assert_true(fake.memory_bytes_most <= stats.gpu_bytes_committed && fake.memory_bytes + 4096 > stats.gpu_bytes_committed);
    assert_true(fake.pinned_bytes > 1u << 20 && fake.pinned_bytes <= stats.host_bytes_committed);
    damacy_destroy(pipeline);
    assert_true(fake_is_clean());
    /* Nothing said: a quarter of what is free, and of a large device no more than full waves and the batches take. */
    struct dmc_wave_limits full;
    uint32_t waves;
    assert_true(dmc_cuda_choose_waves(UINT64_MAX, UINT64_MAX, NULL, &waves, &full));
    for (uint32_t large = 0; large < 2; large++) {
        struct dmc_pipeline_extras extras = {.memory_store = memory, .cuda_driver = &fake_driver, .cuda_image = fake_image};
        const uint64_t free_bytes = fake.device_bytes;
        fake.device_bytes = large ? 1ull << 40 : 256u << 20;
        config.device = DAMACY_CUDA_DEVICE;
        config.max_gpu_memory_bytes = 0;
        pw_ok(dmc_pipeline_create(&config, &extras, &pipeline, &error), &error);
        pw_ok(damacy_stats_get(pipeline, &stats, &error), &error);
        assert_int_equal(stats.gpu_bytes_limit, fake.device_bytes / 4);
        assert_true(stats.gpu_bytes_committed <= stats.gpu_bytes_limit);
        assert_true(stats.gpu_bytes_committed <= waves * dmc_wave_device_bytes(&full) + 64 * 20 * 18 * 4 * 4);
        damacy_destroy(pipeline);
        fake.device_bytes = free_bytes;
    }
    dmc_store_destroy(memory);
}

/* --- who waits for what --- */

static void said_of_rank(int32_t ordinal, const char *rank, char text[4096])
{
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 3, 2, shape, DAMACY_F32);
    struct damacy *pipeline;
    struct damacy_error error;
    config.max_gpu_memory_bytes = 24u << 20;
    config.device_ordinal = ordinal;
    if (rank)
        setenv("LOCAL_RANK", rank, 1);
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    enum damacy_status status = create(&config, NULL, &pipeline, &error);
    dup2(saved, STDERR_FILENO);
    close(saved);
    unsetenv("LOCAL_RANK");
    rewind(file);
    text[fread(text, 1, 4095, file)] = 0;
    fclose(file);
    pw_ok(status, &error);
    damacy_destroy(pipeline);
}

static void test_local_rank(void **state)
{
    (void)state;
    char text[4096];
    said_of_rank(1, "0", text);
    assert_non_null(strstr(text, "LOCAL_RANK is 0, but this pipeline uses CUDA device 1"));
    said_of_rank(1, "1", text);
    assert_null(strstr(text, "LOCAL_RANK"));
    said_of_rank(1, NULL, text);
    assert_null(strstr(text, "LOCAL_RANK"));
    fake.current = &fake; /* of device 1 */
    said_of_rank(-1, "0", text);
    fake.current = NULL;
    assert_non_null(strstr(text, "LOCAL_RANK is 0, but this pipeline uses CUDA device 1"));
}

/* A stream that stands still until it is let go. */
static struct fake_mark *stand_still(dmc_cu_stream stream)
{
    struct fake_mark *mark = calloc(1, sizeof *mark);
    struct fake_event never = {mark};
    mark->references = 1;
    assert_int_equal(fake_driver.stream_wait(stream, &never, 0), DMC_CU_SUCCESS);
    return mark;
}
static void let_go(struct fake_mark *mark)
{
    pthread_mutex_lock(&fake.lock);
    mark->done = true;
    fake_mark_drop(mark);
    pthread_mutex_unlock(&fake.lock);
}

struct deleted { /* DLManagedTensor, whose tensor has 48 bytes */
    uint8_t description[48];
    void *context;
    void (*deleter)(void *);
};

/* One batch is held back by a stream that stands still: of the event it was released with, or of one of its two tensors, each
 * of which was given to a stream of its own. The other slot goes round and round meanwhile, and that one is not written before.
 */
static void check_held_back(struct dmc_store *memory, bool by_event, bool first_tensor)
{
    struct damacy_field fields[2] = {{"x", 2, shape, DAMACY_F32}, {"y", 2, shape, DAMACY_F32}};
    struct damacy_field unused;
    struct damacy_config config = pw_config(&unused, 1, 2, shape, DAMACY_F32);
    config.field_count = 2;
    config.fields = fields;
    config.tuning.batch_slots = 2;
    config.max_gpu_memory_bytes = 24u << 20;
    struct damacy *pipeline = pw_create(&config, memory);
    struct damacy_error error;
    dmc_cu_stream streams[2] = {NULL};
    dmc_cu_event event = NULL;
    float copy[20 * 18];
    struct pw_sample held_sample = {0};
    const void *held = NULL;
    struct fake_mark *mark = NULL;
    fake_driver.context_push(NULL);
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(fake_driver.stream_create(&streams[i], DMC_CU_STREAM_NON_BLOCKING), DMC_CU_SUCCESS);
    assert_int_equal(fake_driver.event_create(&event, 0), DMC_CU_SUCCESS);
    for (uint32_t i = 0; i < 30; i++) {
        struct pw_sample sample = {.arrays = {&array, &array}, .tag = i};
        for (uint32_t f = 0; f < 2; f++)
            memcpy(sample.begin[f], sample_at(i + f).begin[0], sizeof sample.begin[f]);
        pw_push(pipeline, "memory://", &sample);
        struct damacy_batch *batch = pw_pop(pipeline);
        struct damacy_batch_info info = pw_info(batch);
        assert_true(pw_row_matches(&info, 0, &sample));
        assert_ptr_not_equal(info.tensors[0].data, held);
        if (i != 3) {
            damacy_release(batch);
            continue;
        }
        uint32_t slow = first_tensor ? 0 : 1;
        held = info.tensors[0].data;
        held_sample = sample;
        mark = stand_still(streams[slow]);
        fake_driver.copy_to_host(copy, (uint64_t)(uintptr_t)info.tensors[slow].data, sizeof copy, streams[slow]);
        if (by_event) {
            fake_driver.event_record(event, streams[slow]);
            pw_ok(damacy_release_event(batch, event, &error), &error);
            continue;
        }
        struct deleted *tensors[2];
        for (uint32_t f = 0; f < 2; f++) {
            void *tensor;
            pw_ok(damacy_batch_stream(batch, streams[f], &error), &error);
            pw_ok(damacy_batch_dlpack(batch, f, false, &tensor, &error), &error);
            tensors[f] = tensor;
        }
        damacy_release(batch);
        for (uint32_t f = 0; f < 2; f++)
            tensors[f]->deleter(tensors[f]);
    }
    let_go(mark);
    fake_driver.stream_synchronize(streams[first_tensor ? 0 : 1]);
    held_sample.arrays[0] = &array;
    for (uint64_t k = 0; k < 20 * 18; k++) {
        const int64_t *begin = held_sample.begin[first_tensor ? 0 : 1];
        uint64_t position[2] = {(uint64_t)begin[0] + k / 18, (uint64_t)begin[1] + k % 18};
        uint8_t expected[8];
        zw_expect(&array, position, DAMACY_F32, expected);
        assert_memory_equal(expected, &copy[k], 4);
    }
    /* And now both slots can be had at once. */
    struct damacy_batch *both[2];
    for (uint32_t i = 0; i < 2; i++) {
        struct pw_sample sample = {.arrays = {&array, &array}, .tag = 100 + i};
        pw_push(pipeline, "memory://", &sample);
        both[i] = pw_pop(pipeline);
    }
    for (uint32_t i = 0; i < 2; i++)
        damacy_release(both[i]);
    damacy_destroy(pipeline);
    fake_driver.event_destroy(event);
    for (uint32_t i = 0; i < 2; i++)
        fake_driver.stream_destroy(streams[i]);
    fake_driver.context_pop(&(dmc_cu_context){0});
    assert_true(fake_is_clean());
}

static void test_one_slot_is_held_back(void **state)
{
    (void)state;
    struct dmc_store *memory = make_store();
    check_held_back(memory, true, true);
    check_held_back(memory, false, true);
    check_held_back(memory, false, false);
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
        cmocka_unit_test(test_every_function_fails),
        cmocka_unit_test(test_kernels_are_refused),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_local_rank),
        cmocka_unit_test(test_one_slot_is_held_back),
        cmocka_unit_test(test_fences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
