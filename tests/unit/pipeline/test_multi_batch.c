/* Many batches whose samples' metadata and data come out of order: batches come in push order, rows in push order, each with
 * the right content.
 *
 * Method: some dozen arrays behind a store that delays every request by a random time, many prefetch slots, two or more
 * workers. Shown by hand to fail without admit_seq: with a dmc_lookahead_resolve() that counts completions (resolved++ for
 * whichever sample came) instead of moving over the samples in push order, plan_run meets samples that are not resolved: each
 * of five runs of test_multi_batch ended in a crash on the array that was not there yet, or in the prefetcher's assertion that
 * a shard index is not being filled any more. */
#include "support/pipeline_world.h"

#define ARRAYS 24
#define BATCHES 60
#define SAMPLES 7

static struct zw_array arrays[ARRAYS];

static uint64_t random_delay(void *user, const char *key)
{
    (void)key;
    _Atomic uint64_t *count = user;
    uint64_t n = atomic_fetch_add(count, 1);
    return zw_hash(n, 5) % 2000000; /* up to 2 ms */
}

/* Early samples are slow, late ones quick: completion order is about the reverse of push order. */
static uint64_t reverse_delay(void *user, const char *key)
{
    (void)user;
    unsigned number = 0;
    sscanf(key, "a%u/", &number);
    return (uint64_t)(ARRAYS - number) * 400000;
}

static void make_arrays(struct dmc_store *memory)
{
    struct zw_sink sink = {.memory = memory};
    for (uint32_t i = 0; i < ARRAYS; i++) {
        struct zw_array *array = &arrays[i];
        *array = (struct zw_array){.number = i,
                                   .dtype = i % 3 ? DAMACY_U16 : DAMACY_I32,
                                   .rank = 2,
                                   .shape = {60 + i, 50},
                                   .chunk = {16, 16},
                                   .compressor = i % 2 ? ZW_ZSTD : ZW_BLOSC,
                                   .index_crc32c = true,
                                   .missing_chunks = 10};
        if (i % 4)
            array->shard[0] = array->shard[1] = 32;
        snprintf(array->name, sizeof array->name, "a%u", i);
        zw_write(array, &sink);
    }
}

static void stream(uint64_t (*delay)(void *, const char *), uint32_t batches, uint64_t seed, uint32_t metadata_latency_ns,
                   struct dmc_pipeline_extras extras)
{
    _Atomic uint64_t count = 0;
    struct dmc_store *memory = pw_memory(), *delayed;
    struct damacy_error error;
    make_arrays(memory);
    pw_ok(dmc_store_delay_create(memory, delay, &count, &delayed, &error), &error);

    static const int64_t shape[] = {20, 18};
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, SAMPLES, 2, shape, DAMACY_F32);
    config.tuning.prefetch_samples = 64;
    config.tuning.lookahead_samples = 16;
    config.tuning.metadata_latency_ns = metadata_latency_ns;
    struct damacy *pipeline;
    extras.memory_store = delayed;
    config = pw_placed(&config, &extras);
    pw_ok(dmc_pipeline_create(&config, &extras, &pipeline, &error), &error);

    uint32_t total = batches * SAMPLES, pushed = 0;
    struct pw_sample *samples = calloc(total, sizeof *samples);
    struct pw_random random = {seed};
    for (uint32_t i = 0; i < total; i++) {
        const struct zw_array *array = &arrays[delay == reverse_delay ? i % ARRAYS : pw_between(&random, 0, ARRAYS - 1)];
        samples[i] = (struct pw_sample){.arrays = {array}, .tag = 1000 + i};
        for (uint32_t a = 0; a < 2; a++)
            samples[i].begin[0][a] = (int64_t)pw_between(&random, 0, array->shape[a] - (uint64_t)shape[a]);
    }
    for (uint32_t b = 0; b < batches; b++) {
        while (pushed < total) {
            enum damacy_status status = pw_try_push(pipeline, "memory://", &samples[pushed], &error);
            if (status == DAMACY_AGAIN)
                break;
            pw_ok(status, &error);
            pushed++;
        }
        struct damacy_batch *batch;
        enum damacy_status status;
        /* Room and batches come in any order: push whatever fits while waiting. */
        for (;;) {
            uint32_t what = DAMACY_WAIT_POP | (pushed < total ? DAMACY_WAIT_PUSH : 0), happened;
            pw_ok(damacy_wait(pipeline, what, PW_LONG, &happened, &error), &error);
            while (pushed < total && (status = pw_try_push(pipeline, "memory://", &samples[pushed], &error)) == DAMACY_OK)
                pushed++;
            if (happened & DAMACY_WAIT_POP)
                break;
        }
        pw_ok(damacy_pop(pipeline, 0, &batch, &error), &error);
        struct damacy_batch_info info = pw_info(batch);
        assert_int_equal(info.batch_id, b);
        for (uint32_t i = 0; i < info.row_count; i++)
            assert_int_equal(info.rows[i].ordinal, b * SAMPLES + i);
        assert_true(pw_batch_matches(batch, samples + b * SAMPLES, SAMPLES));
        damacy_release(batch);
    }
    damacy_destroy(pipeline);
    dmc_store_destroy(delayed);
    dmc_store_destroy(memory);
    free(samples);
}

static void test_multi_batch(void **state)
{
    (void)state;
    stream(random_delay, BATCHES, pw_seed("test_multi_batch"), 0, (struct dmc_pipeline_extras){0});
}

static void test_multi_batch_reverse(void **state)
{
    (void)state;
    stream(reverse_delay, BATCHES, 11, 0, (struct dmc_pipeline_extras){0});
}

/* With the third cache in use, too, and every metadata request a millisecond late. */
static void test_multi_batch_layouts(void **state)
{
    (void)state;
    stream(random_delay, BATCHES / 2, pw_seed("test_multi_batch_layouts"), 1000000,
           (struct dmc_pipeline_extras){.want_layout = true});
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_multi_batch), cmocka_unit_test(test_multi_batch_reverse),
                                       cmocka_unit_test(test_multi_batch_layouts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
