/* The n-th allocation fails, for n = 1, 2, 3 ...; the n-th read fails, is short, absent, flipped, or late, for every n. Nothing
 * leaks (the sanitizer looks), hangs (ctest looks) or lies: each row holds the right data or says that it is bad.
 *
 * Method: a small pipeline over arrays whose every byte is under a checksum, so that no flip may pass; the whole run from
 * create to destroy is repeated for each n until one run is undisturbed. */
#include "support/pipeline_world.h"

static const int64_t sample_shape[] = {10, 9};
#define ARRAYS 3
#define BATCHES 3
#define SAMPLES 3

static struct zw_array arrays[ARRAYS] = {
    {.name = "sharded",
     .number = 1,
     .dtype = DAMACY_U16,
     .rank = 2,
     .shape = {24, 20},
     .chunk = {6, 5},
     .shard = {12, 10},
     .compressor = ZW_ZSTD_CHECKSUM,
     .crc32c = true,
     .index_crc32c = true},
    {.name = "plain",
     .number = 2,
     .dtype = DAMACY_F32,
     .rank = 2,
     .shape = {24, 20},
     .chunk = {8, 7},
     .compressor = ZW_BLOSC,
     .crc32c = true},
    {.name = "raw",
     .number = 3,
     .dtype = DAMACY_I32,
     .rank = 2,
     .shape = {24, 20},
     .chunk = {24, 20},
     .shard = {24, 20},
     .crc32c = true,
     .index_at_start = true,
     .index_crc32c = true},
};

static struct pw_sample sample_of(uint32_t i)
{
    return (struct pw_sample){.arrays = {&arrays[i % ARRAYS]}, .begin = {{(i * 5) % 14, (i * 3) % 11}}, .tag = i};
}

/* The metadata have no checksum, and a flip may hit a space; only there may a row fail in some other way. */
static bool row_is_honest(const struct damacy_batch_info *info, uint32_t row, const struct pw_sample *sample)
{
    return info->rows[row].status == DAMACY_OK ? pw_row_matches(info, row, sample)
                                               : info->rows[row].error && info->rows[row].error->message[0];
}

struct result {
    uint32_t failed;           /* rows */
    bool whole;                /* everything was said to be right */
    enum damacy_status status; /* of the first bad row, or of what else failed */
    struct damacy_error error;
};

/* From create to destroy. Says what went wrong; requires that whatever is said to be right is right. */
static struct result run(struct dmc_store *store, uint32_t workers)
{
    struct result result = {0};
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, SAMPLES, 2, sample_shape, DAMACY_F64);
    config.on_error = DAMACY_FILL;
    config.tuning.worker_count = workers;
    config.tuning.batch_slots = 2;
    struct dmc_pipeline_extras extras = {.memory_store = store};
    struct damacy *pipeline = NULL;
    struct damacy_config placed = pw_placed(&config, &extras);
    result.status = dmc_pipeline_create(&placed, &extras, &pipeline, &result.error);
    if (result.status != DAMACY_OK) {
        assert_null(pipeline);
        return result;
    }
    struct pw_sample samples[BATCHES * SAMPLES];
    uint32_t count = 0;
    result.whole = true;
    for (uint32_t b = 0; b < BATCHES; b++) {
        for (uint32_t i = 0; i < SAMPLES; i++, count++) {
            samples[count] = sample_of(count);
            pw_push_wait(pipeline, "memory://", &samples[count]);
        }
        struct damacy_batch *batch = NULL;
        struct damacy_error error;
        enum damacy_status status = damacy_pop(pipeline, PW_LONG, &batch, &error);
        if (status != DAMACY_OK)
            fail_msg("pop: %s: %s", damacy_status_str(status), error.message);
        struct damacy_batch_info info = pw_info(batch);
        assert_int_equal(info.batch_id, b);
        assert_int_equal(info.row_count, SAMPLES);
        for (uint32_t i = 0; i < SAMPLES; i++) {
            assert_int_equal(info.rows[i].tag, b * SAMPLES + i);
            assert_true(row_is_honest(&info, i, &samples[b * SAMPLES + i]));
            if (info.rows[i].status != DAMACY_OK) {
                if (result.whole) {
                    result.status = info.rows[i].status;
                    result.error = *info.rows[i].error;
                }
                result.whole = false;
                result.failed++;
            }
        }
        void *tensor;
        if (damacy_batch_dlpack(batch, 0, false, &tensor, &error) == DAMACY_OK) {
            struct managed { /* DLManagedTensor, whose tensor has 48 bytes */
                uint8_t description[48];
                void *context;
                void (*deleter)(void *);
            } *managed = tensor;
            managed->deleter(managed);
        } else {
            result.whole = false;
            result.status = error.status;
        }
        damacy_release(batch);
    }
    damacy_destroy(pipeline);
    return result;
}

static struct dmc_store *make_memory(void)
{
    struct dmc_store *memory = pw_memory();
    for (uint32_t i = 0; i < ARRAYS; i++)
        zw_write(&arrays[i], &(struct zw_sink){.memory = memory});
    return memory;
}

static void test_nth_allocation_fails(void **state)
{
    (void)state;
    struct dmc_store *memory = make_memory();
    uint32_t at_create = 0, later = 0;
    for (uint64_t n = 1;; n++) {
        assert_true(n < 5000);
        dmc_mem_fail_at(n);
        struct result result = run(memory, 1 + n % 2);
        dmc_mem_fail_at(0);
        if (result.whole) {
            /* Threads make the number of allocations vary by a few: go on until the end is surely reached. */
            if (n > 400)
                break;
            continue;
        }
        if (result.status != DAMACY_OOM && result.status != DAMACY_BUDGET)
            fail_msg("allocation %llu: %s: %s", (unsigned long long)n, damacy_status_str(result.status), result.error.message);
        at_create += result.failed == 0;
        later += result.failed != 0;
    }
    assert_true(at_create > 20);
    assert_true(later > 5);
    dmc_store_destroy(memory);
}

struct plan {
    uint64_t n;
    enum dmc_fault fault;
    char key[128]; /* what was hit */
    bool hit;
};

static enum dmc_fault choose(void *user, uint64_t n, const char *key)
{
    struct plan *plan = user;
    if (n != plan->n)
        return DMC_FAULT_NONE;
    snprintf(plan->key, sizeof plan->key, "%s", key);
    plan->hit = true;
    return plan->fault;
}

static void check_nth_read(enum dmc_fault fault)
{
    struct dmc_store *memory = make_memory();
    uint32_t detected = 0;
    for (uint64_t n = 0;; n++) {
        struct plan plan = {.n = n, .fault = fault};
        struct dmc_store *faulty;
        struct damacy_error error;
        pw_ok(dmc_store_fault_create(memory, choose, &plan, &faulty, &error), &error);
        struct result result = run(faulty, 1 + n % 2);
        dmc_store_destroy(faulty);
        if (!plan.hit) {
            assert_true(result.whole);
            assert_true(n > 10);
            break;
        }
        bool metadata = strstr(plan.key, "zarr.json") != NULL, chunk_file = strncmp(plan.key, "plain/c", 7) == 0;
        switch (fault) {
        case DMC_FAULT_FAIL:
            assert_false(result.whole);
            assert_int_equal(result.status, DAMACY_IO);
            break;
        case DMC_FAULT_SHORT:
            assert_false(result.whole);
            if (result.status != DAMACY_DECODE && result.status != DAMACY_IO)
                fail_msg("short %s: %s: %s", plan.key, damacy_status_str(result.status), result.error.message);
            break;
        case DMC_FAULT_FLIP:
            if (chunk_file) /* whole objects; a read of a shard may have a gap in its middle, and then nothing is wrong */
                assert_false(result.whole);
            if (!metadata && !result.whole)
                assert_int_equal(result.status, DAMACY_DECODE);
            detected += !metadata && !result.whole;
            break;
        default:
            break;
        }
        if (!result.whole) { /* of exactly that array */
            char uri[160];
            snprintf(uri, sizeof uri, "memory://%.*s", (int)strcspn(plan.key, "/"), plan.key);
            assert_string_equal(result.error.uri, uri);
            if (!metadata && !chunk_file)
                assert_true(result.failed <= BATCHES); /* only this array's samples: every third one */
        }
    }
    assert_true(fault != DMC_FAULT_FLIP || detected > 10);
    dmc_store_destroy(memory);
}

static void test_nth_read_fails(void **state)
{
    (void)state;
    check_nth_read(DMC_FAULT_FAIL);
}

static void test_nth_read_is_short(void **state)
{
    (void)state;
    check_nth_read(DMC_FAULT_SHORT);
}

static void test_nth_read_is_flipped(void **state)
{
    (void)state;
    check_nth_read(DMC_FAULT_FLIP);
}

/* An absent object is what the format says: no array, the fill value for a chunk or a shard. A shard whose chunk is absent
 * although its index was there is an error. */
static void test_nth_read_is_absent(void **state)
{
    (void)state;
    struct dmc_store *memory = make_memory();
    for (uint64_t n = 0;; n++) {
        struct plan plan = {.n = n, .fault = DMC_FAULT_ABSENT};
        struct dmc_store *faulty;
        struct damacy_error error;
        pw_ok(dmc_store_fault_create(memory, choose, &plan, &faulty, &error), &error);
        static const int64_t shape[] = {24, 20};
        struct damacy_field field;
        struct damacy_config config = pw_config(&field, ARRAYS, 2, shape, DAMACY_F64);
        config.on_error = DAMACY_FILL;
        struct damacy *pipeline = pw_create(&config, faulty);
        struct pw_sample samples[ARRAYS];
        for (uint32_t i = 0; i < ARRAYS; i++) {
            samples[i] = (struct pw_sample){.arrays = {&arrays[i]}};
            pw_push(pipeline, "memory://", &samples[i]);
        }
        struct damacy_batch *batch = pw_pop(pipeline);
        struct damacy_batch_info info = pw_info(batch);
        for (uint32_t i = 0; i < ARRAYS; i++) {
            bool hit = plan.hit && strncmp(plan.key, arrays[i].name, strlen(arrays[i].name)) == 0;
            if (!hit) {
                assert_int_equal(info.rows[i].status, DAMACY_OK);
                assert_true(pw_row_matches(&info, i, &samples[i]));
            } else if (strstr(plan.key, "zarr.json")) {
                assert_int_equal(info.rows[i].status, DAMACY_NOTFOUND);
            } else if (info.rows[i].status == DAMACY_OK) { /* zeros in one chunk or shard, the rest is right */
                const void *row = (const double *)info.tensors[0].data + (size_t)i * 480;
                const double *found = (const void *)pw_readable(row, 480 * sizeof(double));
                uint32_t unequal = 0;
                for (uint64_t k = 0; k < 480; k++) {
                    double expected;
                    zw_expect(&arrays[i], (uint64_t[]){k / 20, k % 20}, DAMACY_F64, (uint8_t *)&expected);
                    bool equal = memcmp(&expected, &found[k], sizeof expected) == 0;
                    assert_true(equal || found[k] == 0);
                    unequal += !equal;
                }
                assert_true(unequal > 0);
            } else {
                assert_int_equal(info.rows[i].status, DAMACY_IO);
                assert_true(arrays[i].shard[0] != 0);
            }
        }
        damacy_release(batch);
        damacy_destroy(pipeline);
        dmc_store_destroy(faulty);
        if (!plan.hit)
            break;
    }
    dmc_store_destroy(memory);
}

struct late {
    _Atomic uint64_t count;
    uint64_t n;
};

static uint64_t late_delay(void *user, const char *key)
{
    (void)key;
    struct late *late = user;
    return atomic_fetch_add(&late->count, 1) == late->n ? 20000000 : 0;
}

static void test_nth_read_is_late(void **state)
{
    (void)state;
    struct dmc_store *memory = make_memory();
    for (uint64_t n = 0; n < 30; n++) {
        struct late late = {.n = n};
        struct dmc_store *delayed;
        struct damacy_error error;
        pw_ok(dmc_store_delay_create(memory, late_delay, &late, &delayed, &error), &error);
        assert_true(run(delayed, 2).whole);
        dmc_store_destroy(delayed);
    }
    dmc_store_destroy(memory);
}

/* Faults at random, many at once, out of order. */
struct storm {
    uint64_t seed;
};
static enum dmc_fault storm_choose(void *user, uint64_t n, const char *key)
{
    struct storm *storm = user;
    bool metadata = strstr(key, "zarr.json") != NULL;
    uint64_t hash = zw_hash(n, storm->seed);
    if (hash % 5)
        return DMC_FAULT_NONE;
    static const enum dmc_fault faults[] = {DMC_FAULT_FAIL, DMC_FAULT_SHORT, DMC_FAULT_FLIP};
    return faults[(hash >> 8) % (metadata ? 2 : 3)];
}
static uint64_t storm_delay(void *user, const char *key)
{
    return zw_hash(*(uint64_t *)user, strlen(key)) % 200000;
}

static void test_storm(void **state)
{
    (void)state;
    uint64_t seed = pw_seed("test_storm");
    struct dmc_store *memory = make_memory();
    for (uint32_t i = 0; i < 60; i++) {
        struct storm storm = {zw_hash(seed, i)};
        struct dmc_store *faulty, *delayed;
        struct damacy_error error;
        pw_ok(dmc_store_fault_create(memory, storm_choose, &storm, &faulty, &error), &error);
        pw_ok(dmc_store_delay_create(faulty, storm_delay, &storm.seed, &delayed, &error), &error);
        run(delayed, 1 + i % 3);
        dmc_store_destroy(delayed);
        dmc_store_destroy(faulty);
    }
    dmc_store_destroy(memory);
}

int main(void)
{
    damacy_set_log_quiet(true);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nth_allocation_fails),
        cmocka_unit_test(test_nth_read_fails),
        cmocka_unit_test(test_nth_read_is_short),
        cmocka_unit_test(test_nth_read_is_flipped),
        cmocka_unit_test(test_nth_read_is_absent),
        cmocka_unit_test(test_nth_read_is_late),
        cmocka_unit_test(test_storm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
