/* Several fields: image and label of other rank, shape and dtype; a sample fails in all its fields or in none.
 *
 * Method: three fields over four arrays, one of which may be missing or damaged; every row is compared in every field. */
#include "support/pipeline_world.h"

static const int64_t image_shape[] = {4, 12, 10}, label_shape[] = {12, 10}, mask_shape[] = {7};
static const struct damacy_field fields[] = {
    {"image", 3, image_shape, DAMACY_F32}, {"label", 2, label_shape, DAMACY_I64}, {"mask 100%s", 1, mask_shape, DAMACY_NATIVE}};

static struct zw_array image = {.name = "image",
                                .number = 1,
                                .dtype = DAMACY_U16,
                                .rank = 3,
                                .shape = {9, 40, 33},
                                .chunk = {4, 16, 16},
                                .shard = {8, 32, 32},
                                .compressor = ZW_BLOSC,
                                .blosc_shuffle = 1,
                                .index_crc32c = true};
static struct zw_array label = {.name = "label",
                                .number = 2,
                                .dtype = DAMACY_U32,
                                .rank = 2,
                                .shape = {40, 33},
                                .chunk = {10, 10},
                                .compressor = ZW_ZSTD,
                                .fill_nonzero = true,
                                .missing_chunks = 20};
static struct zw_array mask = {.name = "mask", .number = 3, .dtype = DAMACY_BOOL, .rank = 1, .shape = {50}, .chunk = {50}};
static struct zw_array broken = {.name = "broken",
                                 .number = 4,
                                 .dtype = DAMACY_U32,
                                 .rank = 2,
                                 .shape = {40, 33},
                                 .chunk = {40, 33},
                                 .compressor = ZW_ZSTD,
                                 .crc32c = true};

static bool damage(void *user, const char *key, uint8_t *data, size_t *bytes)
{
    (void)user;
    if (strstr(key, "broken/c/"))
        data[*bytes / 2] ^= 4;
    return true;
}

static struct damacy *start(struct dmc_store *memory, enum damacy_on_error on_error, uint32_t samples)
{
    struct zw_sink sink = {.memory = memory, .alter = damage};
    zw_write(&image, &sink);
    zw_write(&label, &sink);
    zw_write(&mask, &sink);
    zw_write(&broken, &sink);
    struct damacy_config config = DAMACY_CONFIG_INIT;
    config.samples_per_batch = samples;
    config.field_count = 3;
    config.fields = fields;
    config.on_error = on_error;
    config.max_host_memory_bytes = 256u << 20;
    config.tuning.worker_count = 2;
    return pw_create(&config, memory);
}

static struct pw_sample make_sample(struct pw_random *random, const struct zw_array *labels)
{
    struct pw_sample sample = {.arrays = {&image, labels, &mask}, .tag = pw_next(random)};
    sample.begin[0][0] = (int64_t)pw_between(random, 0, 5);
    sample.begin[0][1] = sample.begin[1][0] = (int64_t)pw_between(random, 0, 28);
    sample.begin[0][2] = sample.begin[1][1] = (int64_t)pw_between(random, 0, 23);
    sample.begin[2][0] = (int64_t)pw_between(random, 0, 43);
    return sample;
}

static void test_fields_match(void **state)
{
    (void)state;
    struct dmc_store *memory = pw_memory();
    struct damacy *pipeline = start(memory, DAMACY_RAISE, 5);
    struct pw_random random = {pw_seed("test_fields_match")};
    for (int b = 0; b < 20; b++) {
        struct pw_sample samples[5];
        uint32_t count = b == 19 ? 3 : 5;
        for (uint32_t i = 0; i < count; i++) {
            samples[i] = make_sample(&random, &label);
            pw_push(pipeline, "memory://", &samples[i]);
        }
        if (count < 5)
            pw_flush(pipeline);
        struct damacy_batch *batch = pw_pop(pipeline);
        struct damacy_batch_info info = pw_info(batch);
        assert_int_equal(info.field_count, 3);
        assert_string_equal(info.tensors[0].name, "image");
        assert_string_equal(info.tensors[2].name, "mask 100%s");
        assert_int_equal(info.tensors[0].rank, 4);
        assert_int_equal(info.tensors[1].rank, 3);
        assert_int_equal(info.tensors[1].dtype, DAMACY_I64);
        assert_int_equal(info.tensors[2].dtype, DAMACY_BOOL);
        for (uint32_t f = 0; f < 3; f++) {
            assert_int_equal((uintptr_t)info.tensors[f].data % 64, 0);
            assert_int_equal(info.tensors[f].shape[0], count);
        }
        assert_true(pw_batch_matches(batch, samples, count));
        damacy_release(batch);
    }
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

/* A bad label spoils the row in every field; the others are untouched. */
static void test_all_fields_or_none(void **state)
{
    (void)state;
    for (int policy = DAMACY_FILL; policy <= DAMACY_SKIP; policy++) {
        struct dmc_store *memory = pw_memory();
        struct damacy *pipeline = start(memory, policy, 4);
        struct pw_random random = {3};
        struct pw_sample samples[4];
        for (uint32_t i = 0; i < 4; i++) {
            samples[i] = make_sample(&random, i == 1 ? &broken : i == 2 ? NULL : &label);
            pw_push(pipeline, "memory://", &samples[i]);
        }
        struct damacy_batch *batch = pw_pop(pipeline);
        struct damacy_batch_info info = pw_info(batch);
        const struct damacy_row *bad = policy == DAMACY_FILL ? info.rows + 1 : info.skipped;
        assert_int_equal(bad[0].status, DAMACY_DECODE);
        assert_string_equal(bad[0].error->field, "label");
        assert_string_equal(bad[0].error->uri, "memory://broken");
        assert_string_equal(bad[0].error->key, "c/0/0");
        assert_non_null(strstr(bad[0].error->message, "field 'label'"));
        assert_int_equal(bad[1].status, DAMACY_NOTFOUND);
        assert_string_equal(bad[1].error->field, "label");
        if (policy == DAMACY_FILL) {
            assert_int_equal(info.row_count, 4);
            assert_true(pw_row_matches(&info, 0, &samples[0]));
            assert_true(pw_row_matches(&info, 3, &samples[3]));
            for (uint32_t row = 1; row < 3; row++) { /* all these arrays' fill values are 0 */
                for (uint32_t f = 0; f < 3; f++) {
                    const struct damacy_tensor_info *tensor = &info.tensors[f];
                    uint64_t row_bytes = tensor->bytes / info.row_count;
                    const uint8_t *found = pw_readable((const uint8_t *)tensor->data + row * row_bytes, row_bytes);
                    for (uint64_t i = 0; i < row_bytes; i++)
                        assert_int_equal(found[i], 0);
                }
            }
        } else {
            assert_int_equal(info.row_count, 2);
            assert_int_equal(info.skipped_count, 2);
            struct pw_sample good[] = {samples[0], samples[3]};
            assert_true(pw_batch_matches(batch, good, 2));
        }
        damacy_release(batch);
        damacy_destroy(pipeline);
        dmc_store_destroy(memory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fields_match), cmocka_unit_test(test_all_fields_or_none)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
