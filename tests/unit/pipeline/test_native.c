/* dtype native: the dtype of the field's first sample, in push order, that resolved, for good; others are DTYPE at pop.
 *
 * Method: arrays of several types, a first sample that does not resolve, delays that make the wrong one resolve first. */
#include "support/pipeline_world.h"

static const int64_t sample_shape[] = {5, 6};

static struct zw_array make_array(const char *name, enum damacy_dtype dtype, bool big)
{
    struct zw_array array = {.number = dtype,
                             .dtype = dtype,
                             .rank = 2,
                             .shape = {20, 20},
                             .chunk = {8, 8},
                             .big_endian = big,
                             .compressor = ZW_GZIP};
    snprintf(array.name, sizeof array.name, "%s", name);
    return array;
}

static uint64_t slow_u16(void *user, const char *key)
{
    (void)user;
    return strncmp(key, "u16", 3) == 0 ? 20000000 : 0;
}

static void test_first_resolved_decides(void **state)
{
    (void)state;
    struct dmc_store *memory = pw_memory(), *delayed;
    struct damacy_error error;
    struct zw_array u16 = make_array("u16", DAMACY_U16, true), f64 = make_array("f64", DAMACY_F64, false);
    zw_write(&u16, &(struct zw_sink){.memory = memory});
    zw_write(&f64, &(struct zw_sink){.memory = memory});
    pw_ok(dmc_store_delay_create(memory, slow_u16, NULL, &delayed, &error), &error);
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 4, 2, sample_shape, DAMACY_NATIVE);
    config.on_error = DAMACY_SKIP;
    struct damacy *pipeline = pw_create(&config, delayed);
    struct pw_sample none = {.arrays = {NULL}, .tag = 1}, first = {.arrays = {&u16}, .begin = {{3, 4}}, .tag = 2},
                     other = {.arrays = {&f64}, .begin = {{3, 4}}, .tag = 3},
                     last = {.arrays = {&u16}, .begin = {{15, 14}}, .tag = 4};
    for (int i = 0; i < 2; i++) {
        pw_push(pipeline, "memory://", &none);
        pw_push(pipeline, "memory://", i ? &other : &first);
        pw_push(pipeline, "memory://", i ? &first : &other); /* in the second batch the other one is first, and still wrong */
        pw_push(pipeline, "memory://", &last);
        struct damacy_batch *batch = pw_pop(pipeline);
        struct damacy_batch_info info = pw_info(batch);
        assert_int_equal(info.tensors[0].dtype, DAMACY_U16);
        assert_int_equal(info.tensors[0].bytes, 2 * 30 * 2);
        assert_int_equal(info.skipped_count, 2);
        assert_int_equal(info.skipped[0].status, DAMACY_NOTFOUND);
        assert_int_equal(info.skipped[1].status, DAMACY_DTYPE);
        assert_int_equal(info.skipped[1].tag, 3);
        assert_non_null(strstr(info.skipped[1].error->message, "f64 cannot become u16"));
        assert_non_null(strstr(info.skipped[1].error->hint, "native"));
        struct pw_sample rows[] = {first, last};
        assert_true(pw_batch_matches(batch, rows, 2));
        damacy_release(batch);
    }
    damacy_destroy(pipeline);
    dmc_store_destroy(delayed);
    dmc_store_destroy(memory);
}

/* Every type as itself, whatever its byte order. */
static void test_every_type(void **state)
{
    (void)state;
    static const enum damacy_dtype types[] = {DAMACY_BOOL, DAMACY_I8,  DAMACY_I16, DAMACY_I32, DAMACY_I64, DAMACY_U8,
                                              DAMACY_U16,  DAMACY_U32, DAMACY_U64, DAMACY_F16, DAMACY_F32, DAMACY_F64};
    for (uint32_t i = 0; i < 24; i++) {
        struct dmc_store *memory = pw_memory();
        struct zw_array array = make_array("a", types[i / 2], i & 1);
        zw_write(&array, &(struct zw_sink){.memory = memory});
        struct damacy_field field;
        struct damacy_config config = pw_config(&field, 1, 2, sample_shape, DAMACY_NATIVE);
        struct damacy *pipeline = pw_create(&config, memory);
        struct pw_sample sample = {.arrays = {&array}, .begin = {{15, 7}}};
        pw_push(pipeline, "memory://", &sample);
        struct damacy_batch *batch = pw_pop(pipeline);
        assert_int_equal(pw_info(batch).tensors[0].dtype, types[i / 2]);
        assert_true(pw_batch_matches(batch, &sample, 1));
        damacy_release(batch);
        damacy_destroy(pipeline);
        dmc_store_destroy(memory);
    }
}

/* Nothing has resolved yet: zeros of some type, and the next batch decides. */
static void test_nothing_resolved_yet(void **state)
{
    (void)state;
    struct dmc_store *memory = pw_memory();
    struct zw_array array = make_array("a", DAMACY_I64, false);
    zw_write(&array, &(struct zw_sink){.memory = memory});
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 2, 2, sample_shape, DAMACY_NATIVE);
    config.on_error = DAMACY_FILL;
    struct damacy *pipeline = pw_create(&config, memory);
    struct pw_sample none = {.arrays = {NULL}}, good = {.arrays = {&array}, .begin = {{1, 1}}};
    pw_push(pipeline, "memory://", &none);
    pw_push(pipeline, "memory://", &none);
    pw_push(pipeline, "memory://", &good);
    pw_push(pipeline, "memory://", &good);
    struct damacy_batch *batch = pw_pop(pipeline);
    struct damacy_batch_info info = pw_info(batch);
    assert_int_equal(info.row_count, 2);
    assert_int_not_equal(info.tensors[0].dtype, DAMACY_NATIVE);
    const uint8_t *found = pw_readable(info.tensors[0].data, info.tensors[0].bytes);
    for (uint64_t i = 0; i < info.tensors[0].bytes; i++)
        assert_int_equal(found[i], 0);
    damacy_release(batch);
    batch = pw_pop(pipeline);
    assert_int_equal(pw_info(batch).tensors[0].dtype, DAMACY_I64);
    struct pw_sample rows[] = {good, good};
    assert_true(pw_batch_matches(batch, rows, 2));
    damacy_release(batch);
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_first_resolved_decides), cmocka_unit_test(test_every_type),
                                       cmocka_unit_test(test_nothing_resolved_yet)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
