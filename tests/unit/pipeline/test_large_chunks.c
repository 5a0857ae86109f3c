/* Goal: chunks that fit the memory limit one at a time are read at any number of workers, and those that do not fit alone are
 * BUDGET at any number, also where chunks lie side by side and could be read together. Method: chunks far larger than a
 * worker's share, more workers than would fit at once, in shards and without; every sample is compared with the naive reader.
 * Without the token in cpu_memory.c, 3 to 6 workers failed most of the samples. */
#include "support/pipeline_world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SAMPLES 24

static struct zw_array large_array(uint64_t chunk_elements, enum zw_compressor compressor)
{
    struct zw_array array = {.name = "large", .number = 1, .dtype = DAMACY_U16, .rank = 1, .compressor = compressor};
    array.chunk[0] = chunk_elements;
    array.shape[0] = 3 * chunk_elements;
    return array;
}

/* How many of the samples came out right; the others must be BUDGET. */
static uint32_t good_samples(const struct zw_array *array, struct dmc_store *memory, uint32_t workers, uint64_t limit)
{
    int64_t shape[] = {64};
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 4, 1, shape, DAMACY_U16);
    config.on_error = DAMACY_FILL;
    config.max_host_memory_bytes = limit;
    config.tuning.worker_count = workers;
    config.tuning.worker_bytes = 64 * 1024;
    config.tuning.coalesce_read_bytes_max = 1u << 30;
    struct damacy *pipeline = pw_create(&config, memory);
    uint32_t good = 0;
    for (uint32_t i = 0; i < SAMPLES; i += 4) {
        struct pw_sample samples[4];
        for (uint32_t j = 0; j < 4; j++) {
            samples[j] = (struct pw_sample){
                .arrays = {array}, .begin = {{(int64_t)((i + j) % 3 * array->chunk[0] + 1000 * i)}}, .tag = i + j};
            pw_push_wait(pipeline, "memory://", &samples[j]);
        }
        pw_flush(pipeline);
        struct damacy_batch *batch = pw_pop(pipeline);
        struct damacy_batch_info info = pw_info(batch);
        for (uint32_t j = 0; j < 4; j++) {
            if (info.rows[j].status == DAMACY_OK)
                good += pw_row_matches(&info, j, &samples[j]);
            else
                assert_int_equal(info.rows[j].status, DAMACY_BUDGET);
        }
        damacy_release(batch);
    }
    damacy_destroy(pipeline);
    return good;
}

static void check_at_any_worker_count(enum zw_compressor compressor)
{
    struct dmc_store *memory = pw_memory();
    struct zw_array array =
        large_array(2u << 20, compressor); /* 4 MiB: two of them, stored and decoded, fit 36 MiB, four do not */
    struct zw_array larger = large_array(8u << 20, compressor); /* 16 MiB: not even one, stored and decoded */
    strcpy(larger.name, "larger");
    struct zw_array sharded = array; /* each of three chunks fits, and all together do not */
    strcpy(sharded.name, "sharded");
    sharded.shard[0] = sharded.shape[0];
    zw_write(&array, &(struct zw_sink){.memory = memory});
    zw_write(&larger, &(struct zw_sink){.memory = memory});
    zw_write(&sharded, &(struct zw_sink){.memory = memory});
    for (uint32_t workers = 1; workers <= 8; workers += workers == 1 ? 1 : 3) {
        assert_int_equal(good_samples(&array, memory, workers, 36u << 20), SAMPLES);
        assert_int_equal(good_samples(&sharded, memory, workers, 36u << 20), SAMPLES);
        assert_int_equal(good_samples(&larger, memory, workers, 36u << 20), 0);
    }
    dmc_store_destroy(memory);
}

static void test_large_zstd(void **state)
{
    (void)state;
    check_at_any_worker_count(ZW_ZSTD);
}

static void test_large_gzip(void **state)
{
    (void)state;
    check_at_any_worker_count(ZW_GZIP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_large_zstd), cmocka_unit_test(test_large_gzip)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
