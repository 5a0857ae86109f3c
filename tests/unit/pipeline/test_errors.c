/* Each public status with its message, the checks of the configuration, and what is said before anything is allocated.
 *
 * Method: a table of wrong configurations, each with the words that its message must have; one situation for each status of a
 * running pipeline. (What is wrong with data is test_policies, FORKED is test_fork, SHUTDOWN of pop is test_lifecycle.) */
#include "support/pipeline_world.h"

#include <limits.h>

static const int64_t shape2[] = {4, 6};
static const int64_t zero_shape[] = {4, 0};
static const int64_t huge_shape[] = {INT64_MAX, INT64_MAX};
static const int64_t long_shape[] = {1ll << 40, 1 << 12};

static struct damacy_config base(struct damacy_field *field)
{
    return pw_config(field, 4, 2, shape2, DAMACY_F32);
}

/* What create, describe and the defaults answer to a configuration, which must be the same. */
static void check_config(const struct damacy_config *config, enum damacy_status status, const char *words)
{
    struct damacy *pipeline = (struct damacy *)config;
    struct damacy_error errors[3];
    struct damacy_tuning tuning;
    assert_int_equal(damacy_create(config, &pipeline, &errors[0]), status);
    assert_ptr_equal(pipeline, config); /* untouched */
    assert_int_equal(damacy_config_describe(config, NULL, 0, NULL, &errors[1]), status);
    assert_int_equal(damacy_tuning_defaults(config, &tuning, &errors[2]), status);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(errors[i].status, status);
        assert_string_equal(errors[i].stage, "config");
        if (!strstr(errors[i].message, words))
            fail_msg("'%s' is not in '%s'", words, errors[i].message);
    }
    assert_int_equal(damacy_create(config, &pipeline, NULL), status); /* nobody wants to know */
}

static void test_config_errors(void **state)
{
    (void)state;
    struct damacy_field field, pair[2];
    struct damacy_config config;
    char long_name[80];
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = 0;

    check_config(NULL, DAMACY_INVAL, "NULL");
#define WRONG(change, status, words)                                                                                           \
    config = base(&field);                                                                                                     \
    change;                                                                                                                    \
    check_config(&config, status, words)
    WRONG(config.struct_size--, DAMACY_INVAL, "struct_size");
    WRONG(config.samples_per_batch = 0, DAMACY_INVAL, "samples_per_batch is 0");
    WRONG(config.samples_per_batch = (1u << 24) + 1, DAMACY_INVAL, "samples_per_batch is 16777217, at most 2^24");
    WRONG(config.field_count = 0, DAMACY_INVAL, "at least one field");
    WRONG(config.fields = NULL, DAMACY_INVAL, "at least one field");
    WRONG(field.rank = 0, DAMACY_INVAL, "0 axes");
    WRONG(field.rank = 32, DAMACY_INVAL, "32 axes");
    WRONG(field.rank = UINT32_MAX, DAMACY_INVAL, "axes");
    WRONG(field.sample_shape = NULL, DAMACY_INVAL, "sample_shape");
    WRONG(field.sample_shape = zero_shape, DAMACY_INVAL, "sample_shape[1] is 0");
    WRONG(field.name = "image"; field.sample_shape = zero_shape, DAMACY_INVAL, "field 'image': sample_shape[1] is 0");
    WRONG(field.sample_shape = huge_shape, DAMACY_INVAL, "do not fit any memory");
    WRONG(field.dtype = 14, DAMACY_INVAL, "dtype 14");
    WRONG(field.dtype = (enum damacy_dtype) - 1, DAMACY_INVAL, "dtype");
    WRONG(field.name = long_name, DAMACY_INVAL, "79 bytes, at most 63");
    WRONG(config.on_error = 3, DAMACY_INVAL, "on_error is 3");
    WRONG(config.numa = 3, DAMACY_INVAL, "numa is 3");
    WRONG(config.gpu_direct_storage = 2, DAMACY_INVAL, "gpu_direct_storage is 2");
    WRONG(config.gpu_direct_storage = 1, DAMACY_INVAL, "device is cpu");
    WRONG(config.verify = 2, DAMACY_INVAL, "verify is 2");
    if (dmc_config_device(DAMACY_AUTO_DEVICE) == DAMACY_CPU) {
        WRONG(config.device = DAMACY_CUDA_DEVICE, DAMACY_UNSUPPORTED, "CUDA");
    }
    WRONG(config.tuning.batch_slots = 1, DAMACY_INVAL, "batch_slots is 1");
    WRONG(config.tuning.worker_count = 1025, DAMACY_INVAL, "worker_count is 1025");
    WRONG(config.tuning.prefetch_samples = 3, DAMACY_INVAL, "samples_per_batch (4)");
    WRONG(config.tuning.reads_in_flight = 5000, DAMACY_INVAL, "reads_in_flight");
    WRONG(config.tuning.lookahead_samples = UINT32_MAX, DAMACY_INVAL, "lookahead_samples");
    WRONG(config.tuning.batch_slots = UINT32_MAX, DAMACY_INVAL, "batch_slots");
    WRONG(config.tuning.io_uring = 3, DAMACY_INVAL, "io_uring is 3");
    WRONG(config.tuning.bypass_decode = 2, DAMACY_INVAL, "bypass_decode is 2");
    /* Bounds of bytes may be anything: too much is BUDGET, however much it is. */
    WRONG(field.sample_shape = long_shape, DAMACY_BUDGET, "batch_slots");
    WRONG(config.max_host_memory_bytes = 1, DAMACY_BUDGET, "max_host_memory_bytes");
    WRONG(config.tuning.worker_bytes = UINT64_MAX, DAMACY_BUDGET, "worker_bytes");
    WRONG(config.tuning.worker_bytes = UINT64_MAX / 2 + 1, DAMACY_BUDGET, "worker_bytes");
    WRONG(config.tuning.array_meta_cache_bytes = UINT64_MAX, DAMACY_BUDGET, "array_meta_cache_bytes");
    WRONG(config.tuning.shard_index_cache_bytes = UINT64_MAX - 1000, DAMACY_BUDGET, "shard_index_cache_bytes");
    WRONG(config.tuning.chunk_layout_cache_bytes = UINT64_MAX, DAMACY_BUDGET, "chunk_layout_cache_bytes");
    WRONG(config.tuning.batch_slots = 65536; config.samples_per_batch = 1u << 24, DAMACY_BUDGET, "batch_slots 65536");

    /* Names: unique, given when there are several; what printf would take for orders is text. */
    const struct damacy_field unnamed = {"", 2, shape2, DAMACY_F32}, strange = {"%s%n 100% \xc3\xa9", 2, shape2, DAMACY_F32};
    pair[0] = pair[1] = strange;
    WRONG(config.fields = pair; config.field_count = 2, DAMACY_INVAL, "two fields are called '%s%n 100% \xc3\xa9'");
    pair[1] = unnamed;
    WRONG(config.fields = pair; config.field_count = 2, DAMACY_INVAL, "field 1 of 2 has no name");
    pair[0].rank = 0;
    WRONG(config.fields = pair; config.field_count = 2, DAMACY_INVAL, "field '%s%n 100% \xc3\xa9'");
    pair[0].rank = 2;
    pair[0].sample_shape = zero_shape;
    WRONG(config.fields = pair; config.field_count = 2, DAMACY_INVAL, "field '%s%n 100% \xc3\xa9': sample_shape[1] is 0");

    struct damacy_error error;
    config = base(&field);
    assert_int_equal(damacy_create(&config, NULL, &error), DAMACY_INVAL);
    assert_int_equal(damacy_tuning_defaults(&config, NULL, &error), DAMACY_INVAL);
}

static void test_describe(void **state)
{
    (void)state;
    struct damacy_field field;
    struct damacy_config config = base(&field);
    struct damacy_error error;
    char text[4096], cut[50], none[1] = {7};
    size_t length, again;
    pw_ok(damacy_config_describe(&config, text, sizeof text, &length, &error), &error);
    assert_int_equal(strlen(text), length);
    static const char *const words[] = {"4 samples a batch", "1 field,",  "2 workers", "batch buffers", "worker buffers",
                                        "metadata caches",   "lookahead", "together",  "limit",         "256.0 MiB"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strstr(text, words[i]))
            fail_msg("'%s' is not in:\n%s", words[i], text);
    pw_ok(damacy_config_describe(&config, cut, sizeof cut, &again, &error), &error);
    assert_int_equal(again, length);
    assert_int_equal(strlen(cut), sizeof cut - 1);
    assert_memory_equal(cut, text, sizeof cut - 1);
    pw_ok(damacy_config_describe(&config, none, 1, NULL, NULL), &error);
    assert_int_equal(none[0], 0);
    pw_ok(damacy_config_describe(&config, NULL, 0, &again, NULL), &error);
    assert_int_equal(again, length);

    /* Over budget: the text is there all the same, and the error has the breakdown. */
    config.max_host_memory_bytes = 1 << 20;
    assert_int_equal(damacy_config_describe(&config, text, sizeof text, NULL, &error), DAMACY_BUDGET);
    assert_non_null(strstr(text, "1.0 MiB"));
    for (int i = 3; i < 9; i++)
        assert_non_null(strstr(error.message, words[i]));
}

static void test_tuning_defaults(void **state)
{
    (void)state;
    struct damacy_field field;
    struct damacy_config config = base(&field);
    config.tuning.worker_count = 0;
    struct damacy_tuning tuning;
    struct damacy_error error;
    pw_ok(damacy_tuning_defaults(&config, &tuning, &error), &error);
    assert_int_equal(tuning.struct_size, sizeof tuning);
    assert_int_equal(tuning.worker_count, dmc_cores_allowed());
    assert_true(tuning.batch_slots >= 2 && tuning.lookahead_samples >= 4 && tuning.prefetch_samples >= 4);
    assert_true(tuning.reads_in_flight && tuning.metadata_reads_in_flight && tuning.coalesce_gap_bytes &&
                tuning.coalesce_read_bytes_max);
    assert_true(tuning.array_meta_cache_bytes && tuning.shard_index_cache_bytes && tuning.chunk_layout_cache_bytes);
    assert_true(tuning.metadata_object_bytes_max && tuning.worker_bytes);
    /* What is set stays; the completed ones make the same pipeline. */
    config.tuning = tuning;
    config.tuning.batch_slots = 7;
    pw_ok(damacy_tuning_defaults(&config, &tuning, &error), &error);
    assert_int_equal(tuning.batch_slots, 7);
    assert_memory_equal(&tuning, &config.tuning, sizeof tuning);
    /* A zeroed tuning is complete, too. */
    memset(&config.tuning, 0, sizeof config.tuning);
    pw_ok(damacy_tuning_defaults(&config, &tuning, &error), &error);
    /* Where memory is tight, fewer slots. */
    config.max_host_memory_bytes = 28u << 20;
    config.tuning.worker_count = 2; /* however many cores there are */
    static const int64_t large[] = {1 << 20};
    field.rank = 1;
    field.sample_shape = large; /* 4 samples of 4 MiB: not even two slots */
    assert_int_equal(damacy_tuning_defaults(&config, &tuning, &error), DAMACY_BUDGET);
    config.samples_per_batch = 1;
    pw_ok(damacy_tuning_defaults(&config, &tuning, &error), &error);
    assert_true(tuning.batch_slots >= 2 && tuning.batch_slots < 4);
    struct damacy *pipeline;
    pw_ok(damacy_create(&config, &pipeline, &error), &error);
    damacy_destroy(pipeline);
}

static struct zw_array array = {
    .name = "a", .number = 3, .dtype = DAMACY_U8, .rank = 2, .shape = {30, 30}, .chunk = {10, 10}, .compressor = ZW_ZSTD};

struct setup {
    struct dmc_store *memory;
    struct damacy *pipeline;
};

static struct setup begin(void)
{
    struct setup setup = {.memory = pw_memory()};
    zw_write(&array, &(struct zw_sink){.memory = setup.memory});
    struct damacy_field field;
    struct damacy_config config = base(&field);
    config.samples_per_batch = 2;
    config.tuning.lookahead_samples = 4;
    config.tuning.prefetch_samples = 2;
    config.tuning.batch_slots = 2;
    field.name = "the%dfield";
    setup.pipeline = pw_create(&config, setup.memory);
    return setup;
}

static void end(struct setup *setup)
{
    damacy_destroy(setup->pipeline);
    dmc_store_destroy(setup->memory);
}

/* Samples that are wrong in themselves: those before are taken, the rest comes back. */
static void test_push_errors(void **state)
{
    (void)state;
    struct setup setup = begin();
    static char too_long[DAMACY_URI_BYTES_MAX + 2];
    memset(too_long, 'u', sizeof too_long - 1);
    const struct damacy_interval box[] = {{0, 4}, {1, 7}}, flat[] = {{0, 4}, {1, 6}}, negative[] = {{-1, 3}, {0, 6}},
                                 far[] = {{INT64_MIN, INT64_MAX}, {0, 6}}, backwards[] = {{4, 0}, {0, 6}};
    const struct damacy_region right = {"memory://a", 2, box};
    const struct {
        struct damacy_region region;
        enum damacy_status status;
        const char *words;
    } wrong[] = {
        {{NULL, 2, box}, DAMACY_INVAL, "without a uri"},
        {{"", 2, box}, DAMACY_INVAL, "without a uri"},
        {{too_long, 2, box}, DAMACY_INVAL, "more than 4095 bytes"},
        {{"memory://a", 3, box}, DAMACY_RANK, "3 axes, the sample shape has 2; both need every axis"},
        {{"memory://a", 2, NULL}, DAMACY_INVAL, "without a box"},
        {{"memory://%s%n", 2, flat}, DAMACY_RANK, "memory://%s%n: axis 1 of the box is [1, 6), the sample shape has 6"},
        {{"memory://a", 2, negative}, DAMACY_INVAL, "begins at -1"},
        {{"memory://a", 2, far}, DAMACY_RANK, "axis 0"},
        {{"memory://a", 2, backwards}, DAMACY_RANK, "[4, 0)"},
    };
    struct damacy_error error;
    struct damacy_samples rest;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct damacy_sample samples[3] = {{&right, 1}, {&wrong[i].region, 2}, {&right, 3}};
        assert_int_equal(damacy_push(setup.pipeline, (struct damacy_samples){samples, 3}, &rest, &error), wrong[i].status);
        assert_int_equal(rest.count, 2);
        assert_ptr_equal(rest.data, &samples[1]);
        assert_string_equal(error.stage, "push");
        assert_string_equal(error.field, "the%dfield");
        assert_non_null(strstr(error.message, "field 'the%dfield': "));
        if (!strstr(error.message, wrong[i].words))
            fail_msg("'%s' is not in '%s'", wrong[i].words, error.message);
        pw_ok(damacy_push(setup.pipeline, (struct damacy_samples){samples + 2, 1}, &rest, &error), &error);
        assert_int_equal(rest.count, 0);
        struct damacy_batch *batch = pw_pop(setup.pipeline);
        struct damacy_batch_info info = pw_info(batch);
        assert_int_equal(info.rows[0].tag, 1);
        assert_int_equal(info.rows[1].tag, 3);
        damacy_release(batch);
    }
    struct damacy_sample without = {NULL, 0};
    assert_int_equal(damacy_push(setup.pipeline, (struct damacy_samples){&without, 1}, NULL, &error), DAMACY_INVAL);
    assert_int_equal(damacy_push(setup.pipeline, (struct damacy_samples){NULL, 1}, &rest, &error), DAMACY_INVAL);
    assert_int_equal(rest.count, 1);
    assert_int_equal(damacy_push(setup.pipeline, (struct damacy_samples){NULL, 0}, &rest, &error), DAMACY_OK);
    assert_int_equal(damacy_push(NULL, (struct damacy_samples){&without, 1}, &rest, &error), DAMACY_INVAL);
    assert_int_equal(rest.count, 1);
    end(&setup);
}

/* AGAIN, TIMEOUT, STARVED, END, INVAL of a running pipeline. */
static void test_running(void **state)
{
    (void)state;
    struct setup setup = begin();
    struct damacy_error error;
    struct damacy_batch *batches[2], *none = NULL;
    struct pw_sample sample = {.arrays = {&array}, .begin = {{2, 3}}};
    assert_int_equal(damacy_pop(setup.pipeline, 0, &none, &error), DAMACY_TIMEOUT);
    assert_non_null(strstr(error.message, "batch 0 was not ready in time: it has 0 of 2 samples; push more, or flush"));
    assert_int_equal(damacy_pop(setup.pipeline, 1000, &none, &error), DAMACY_TIMEOUT);
    assert_int_equal(damacy_pop(setup.pipeline, 0, NULL, &error), DAMACY_INVAL);
    assert_int_equal(damacy_pop(NULL, 0, &none, &error), DAMACY_INVAL);

    for (int i = 0; i < 2; i++) {
        pw_push_wait(setup.pipeline, "memory://", &sample);
        pw_push_wait(setup.pipeline, "memory://", &sample);
        batches[i] = pw_pop(setup.pipeline);
    }
    assert_int_equal(damacy_pop(setup.pipeline, DAMACY_FOREVER, &none, &error), DAMACY_STARVED);
    assert_non_null(strstr(error.message, "2 batch buffers"));
    assert_non_null(strstr(error.hint, "batch_slots"));
    enum damacy_status status;
    uint32_t pushed = 0;
    while ((status = pw_try_push(setup.pipeline, "memory://", &sample, &error)) == DAMACY_OK || pushed < 6)
        pushed += status == DAMACY_OK;
    assert_int_equal(status, DAMACY_AGAIN);
    assert_int_equal(pushed, 6);
    assert_non_null(strstr(error.message, "4 samples"));
    assert_null(none);

    struct damacy_batch_info info;
    void *tensor;
    assert_int_equal(damacy_batch_info(NULL, &info, &error), DAMACY_INVAL);
    assert_int_equal(damacy_batch_info(batches[0], NULL, &error), DAMACY_INVAL);
    assert_int_equal(damacy_batch_dlpack(NULL, 0, true, &tensor, &error), DAMACY_INVAL);
    assert_int_equal(damacy_batch_dlpack(batches[0], 0, true, NULL, &error), DAMACY_INVAL);
    assert_int_equal(damacy_batch_dlpack(batches[0], 1, true, &tensor, &error), DAMACY_INVAL);
    assert_non_null(strstr(error.message, "field 1 of 1"));
    assert_int_equal(damacy_flush(NULL, &error), DAMACY_INVAL);
    enum damacy_device_type type = DAMACY_CUDA_DEVICE;
    int32_t ordinal = 5;
    assert_int_equal(damacy_get_device(NULL, &type, &ordinal, &error), DAMACY_INVAL);
    pw_ok(damacy_get_device(setup.pipeline, &type, &ordinal, &error), &error);
    assert_int_equal(type, DAMACY_CPU);
    assert_int_equal(ordinal, 0);
    pw_ok(damacy_get_device(setup.pipeline, NULL, NULL, &error), &error);

    damacy_release(batches[0]);
    damacy_release(batches[1]);
    damacy_release(NULL);
    pw_flush(setup.pipeline);
    for (int i = 0; i < 3; i++)
        damacy_release(pw_pop(setup.pipeline));
    assert_int_equal(damacy_pop(setup.pipeline, DAMACY_FOREVER, &none, &error), DAMACY_END);
    end(&setup);
}

/* No memory at create: OOM, or BUDGET where an arena was refused, and nothing left behind (the sanitizer looks). */
static void test_create_without_memory(void **state)
{
    (void)state;
    struct damacy_field field;
    struct damacy_config config = base(&field);
    struct damacy_error error;
    struct damacy *pipeline = NULL;
    uint32_t failures = 0;
    for (uint64_t n = 1;; n++) {
        dmc_mem_fail_at(n);
        enum damacy_status status = damacy_create(&config, &pipeline, &error);
        dmc_mem_fail_at(0);
        if (status == DAMACY_OK)
            break;
        assert_int_equal(status, DAMACY_OOM);
        assert_true(error.message[0]);
        assert_null(pipeline);
        failures++;
    }
    assert_true(failures > 20);
    damacy_destroy(pipeline);
}

/* Uris that no store knows, or that make no sense. */
static void test_uris(void **state)
{
    (void)state;
    struct setup setup = begin();
    static const struct {
        const char *uri;
        enum damacy_status status;
    } uris[] = {
        {"ftp://bucket/a", DAMACY_UNSUPPORTED}, {"file://elsewhere/a", DAMACY_INVAL}, {"memory://", DAMACY_INVAL},
        {"file:///%zz", DAMACY_INVAL},          {"/nowhere/at all", DAMACY_NOTFOUND}, {"memory://b", DAMACY_NOTFOUND},
    };
    for (size_t i = 0; i < sizeof uris / sizeof *uris; i++) {
        struct pw_sample sample = {.arrays = {&array}, .uri = uris[i].uri};
        struct damacy_batch *batch;
        struct damacy_error error;
        pw_push(setup.pipeline, "memory://", &sample);
        pw_push(setup.pipeline, "memory://", &sample);
        assert_int_equal(damacy_pop(setup.pipeline, PW_LONG, &batch, &error), uris[i].status);
        assert_string_equal(error.uri, uris[i].uri);
        assert_non_null(strstr(error.message, uris[i].uri));
    }
    end(&setup);
}

/* What only the data tell: a bound of the settings that one object exceeds. */
static void test_object_bounds(void **state)
{
    (void)state;
    struct dmc_store *memory = pw_memory();
    zw_write(&array, &(struct zw_sink){.memory = memory});
    struct damacy_field field;
    struct damacy_batch *batch;
    struct damacy_error error;
    struct pw_sample sample = {.arrays = {&array}};
    for (int i = 0; i < 2; i++) {
        struct damacy_config config = base(&field);
        config.samples_per_batch = 1;
        if (i == 0)
            config.tuning.metadata_object_bytes_max = 100;
        else
            config.tuning.array_meta_cache_bytes = 1000;
        struct damacy *pipeline = pw_create(&config, memory);
        pw_push(pipeline, "memory://", &sample);
        assert_int_equal(damacy_pop(pipeline, PW_LONG, &batch, &error), DAMACY_BUDGET);
        assert_non_null(strstr(error.message, i == 0 ? "metadata_object_bytes_max" : "array_meta_cache_bytes"));
        assert_string_equal(error.uri, "memory://a");
        damacy_destroy(pipeline);
    }
    dmc_store_destroy(memory);
}

/* io_uring: never and require; the latter is refused only where there is none. */
static void test_io_uring(void **state)
{
    (void)state;
    struct damacy_error error;
    bool there = dmc_io_uring_probe(&error) == DAMACY_OK;
    for (uint32_t i = 0; i < 3; i++) {
        struct damacy_field field;
        struct damacy_config config = base(&field);
        struct damacy *pipeline = NULL;
        config.tuning.io_uring = i;
        enum damacy_status status = damacy_create(&config, &pipeline, &error);
        assert_int_equal(status, i == 1 && !there ? DAMACY_UNSUPPORTED : DAMACY_OK);
        damacy_destroy(pipeline);
    }
}

static void test_names(void **state)
{
    (void)state;
    static const char *const statuses[] = {"OK",          "AGAIN",    "INVAL",  "NOTFOUND", "DTYPE", "RANK",
                                           "UNSUPPORTED", "IO",       "DECODE", "CUDA",     "OOM",   "BUDGET",
                                           "STARVED",     "SHUTDOWN", "FORKED", "TIMEOUT",  "END",   "INTERNAL"};
    for (int i = 0; i <= DAMACY_INTERNAL; i++)
        assert_string_equal(damacy_status_str(i), statuses[i]);
    assert_string_equal(damacy_status_str(99), "?");
    assert_string_equal(damacy_status_str(-1), "?");
    static const char *const bottlenecks[] = {"none", "storage", "decode", "consumer", "producer"};
    for (int i = 0; i < 5; i++)
        assert_string_equal(damacy_bottleneck_str(i), bottlenecks[i]);
}

int main(void)
{
    damacy_set_log_quiet(true);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config_errors), cmocka_unit_test(test_describe), cmocka_unit_test(test_tuning_defaults),
        cmocka_unit_test(test_push_errors),   cmocka_unit_test(test_running),  cmocka_unit_test(test_create_without_memory),
        cmocka_unit_test(test_uris),          cmocka_unit_test(test_names),    cmocka_unit_test(test_object_bounds),
        cmocka_unit_test(test_io_uring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
