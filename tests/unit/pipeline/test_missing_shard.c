/* What is definitely absent is the fill value; what is gone, cut or unreadable is an error.
 *
 * Method: on a real file system shard files and chunk files are unlinked; in the memory store index entries are empty, shards
 * vanish after their index was read, and the index read fails. */
#include "support/pipeline_world.h"

static struct zw_array make_array(const char *name, bool sharded)
{
    struct zw_array array = {.number = 7,
                             .dtype = DAMACY_U16,
                             .rank = 2,
                             .shape = {64, 64},
                             .chunk = {16, 16},
                             .compressor = ZW_ZSTD,
                             .index_crc32c = true,
                             .fill_nonzero = true};
    if (sharded)
        array.shard[0] = array.shard[1] = 32;
    snprintf(array.name, sizeof array.name, "%s", name);
    return array;
}

/* Crops of 40 x 40 from (10, 10), of which [hole_begin, hole_end) in both axes is the fill value. */
static void check_hole(const struct damacy_batch *batch, const struct zw_array *array, uint64_t row_begin, uint64_t row_end,
                       uint64_t column_begin, uint64_t column_end)
{
    struct damacy_batch_info info = pw_info(batch);
    assert_int_equal(info.row_count, 1);
    const float *found = (const void *)pw_readable(info.tensors[0].data, info.tensors[0].bytes);
    uint8_t fill[8];
    zw_fill(array, fill);
    uint32_t holes = 0;
    for (uint64_t y = 10; y < 50; y++) {
        for (uint64_t x = 10; x < 50; x++) {
            float expected;
            bool hole = y >= row_begin && y < row_end && x >= column_begin && x < column_end;
            if (hole)
                zw_convert(fill, array->dtype, (uint8_t *)&expected, DAMACY_F32);
            else
                zw_expect(array, (uint64_t[]){y, x}, DAMACY_F32, (uint8_t *)&expected);
            holes += hole;
            if (*found != expected)
                fail_msg("element %llu %llu is %f, expected %f", (unsigned long long)y, (unsigned long long)x, *found,
                         expected);
            found++;
        }
    }
    assert_true(holes > 0);
}

static const int64_t sample_shape[] = {40, 40};

static void check_unlinked(bool sharded, const char *victim, uint64_t row_begin, uint64_t row_end, uint64_t column_begin,
                           uint64_t column_end)
{
    char folder[64], prefix[80], path[256];
    pw_make_folder(folder);
    struct zw_array array = make_array("image", sharded);
    zw_write(&array, &(struct zw_sink){.folder = folder});
    snprintf(path, sizeof path, "%s/image/%s", folder, victim);
    assert_int_equal(unlink(path), 0);

    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 1, 2, sample_shape, DAMACY_F32);
    struct damacy *pipeline = pw_create(&config, NULL);
    snprintf(prefix, sizeof prefix, "%s/", folder);
    struct pw_sample sample = {.arrays = {&array}, .begin = {{10, 10}}};
    for (int i = 0; i < 3; i++) { /* the second time from the caches */
        pw_push(pipeline, prefix, &sample);
        struct damacy_batch *batch = pw_pop(pipeline);
        check_hole(batch, &array, row_begin, row_end, column_begin, column_end);
        damacy_release(batch);
    }
    damacy_destroy(pipeline);
    pw_remove_folder(folder);
}

static void test_missing_shard_fills(void **state)
{
    (void)state;
    check_unlinked(true, "c/0/1", 0, 32, 32, 64);
    check_unlinked(true, "c/1/1", 32, 64, 32, 64);
}

static void test_missing_chunk_fills(void **state)
{
    (void)state;
    check_unlinked(false, "c/1/2", 16, 32, 32, 48);
}

/* Half of the inner chunks have empty index entries, also a whole shard of them. */
static void test_empty_entries_fill(void **state)
{
    (void)state;
    struct dmc_store *memory = pw_memory();
    struct zw_array array = make_array("image", true);
    array.missing_chunks = 50;
    zw_write(&array, &(struct zw_sink){.memory = memory});
    struct zw_array empty = make_array("empty", true);
    empty.missing_chunks = 100;
    zw_write(&empty, &(struct zw_sink){.memory = memory});
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 2, 2, sample_shape, DAMACY_F32);
    struct damacy *pipeline = pw_create(&config, memory);
    struct pw_sample samples[] = {{.arrays = {&array}, .begin = {{10, 10}}}, {.arrays = {&empty}, .begin = {{24, 0}}}};
    pw_push(pipeline, "memory://", &samples[0]);
    pw_push(pipeline, "memory://", &samples[1]);
    struct damacy_batch *batch = pw_pop(pipeline);
    assert_true(pw_batch_matches(batch, samples, 2));
    damacy_release(batch);
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

/* A shard that vanishes after its index was read is an error, not a hole. */
static void test_vanished_shard_is_an_error(void **state)
{
    (void)state;
    struct dmc_store *memory = pw_memory();
    struct zw_array array = make_array("image", true);
    zw_write(&array, &(struct zw_sink){.memory = memory});
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 1, 2, sample_shape, DAMACY_F32);
    struct damacy *pipeline = pw_create(&config, memory);
    struct pw_sample sample = {.arrays = {&array}, .begin = {{10, 10}}};
    pw_push(pipeline, "memory://", &sample);
    damacy_release(pw_pop(pipeline));
    struct damacy_error error;
    pw_ok(dmc_store_memory_put(memory, "image/c/1/0", NULL, 0, &error), &error);
    pw_push(pipeline, "memory://", &sample);
    struct damacy_batch *batch = NULL;
    assert_int_equal(damacy_pop(pipeline, PW_LONG, &batch, &error), DAMACY_IO);
    assert_string_equal(error.uri, "memory://image");
    assert_string_equal(error.key, "c/1/0");
    assert_non_null(strstr(error.message, "gone"));
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

static enum dmc_fault fail_shards(void *user, uint64_t n, const char *key)
{
    (void)n;
    return strstr(key, "/c/") ? *(enum dmc_fault *)user : DMC_FAULT_NONE;
}

/* Failed is not absent: an index or a chunk that cannot be read is an error. */
static void test_failed_is_not_absent(void **state)
{
    (void)state;
    for (int sharded = 0; sharded < 2; sharded++) {
        enum dmc_fault fault = DMC_FAULT_FAIL;
        struct dmc_store *memory = pw_memory(), *faulty;
        struct damacy_error error;
        pw_ok(dmc_store_fault_create(memory, fail_shards, &fault, &faulty, &error), &error);
        struct zw_array array = make_array("image", sharded);
        zw_write(&array, &(struct zw_sink){.memory = memory});
        struct damacy_field field;
        struct damacy_config config = pw_config(&field, 1, 2, sample_shape, DAMACY_F32);
        struct damacy *pipeline = pw_create(&config, faulty);
        struct pw_sample sample = {.arrays = {&array}, .begin = {{10, 10}}};
        pw_push(pipeline, "memory://", &sample);
        struct damacy_batch *batch = NULL;
        assert_int_equal(damacy_pop(pipeline, PW_LONG, &batch, &error), DAMACY_IO);
        assert_string_equal(error.key, "c/0/0");
        assert_int_equal(error.os_error, EIO);
        damacy_destroy(pipeline);
        dmc_store_destroy(faulty);
        dmc_store_destroy(memory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missing_shard_fills),  cmocka_unit_test(test_missing_chunk_fills),
        cmocka_unit_test(test_empty_entries_fill),   cmocka_unit_test(test_vanished_shard_is_an_error),
        cmocka_unit_test(test_failed_is_not_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
