/* damacy_wait: which of its things hold, and when it ends.
 *
 * Method: a store whose reads wait until the test says go, and one thread that waits. No result depends on how long anything
 * takes. */
#include "base/error.h"
#include "support/pipeline_world.h"

static const int64_t sample_shape[] = {4};
static struct zw_array array = {.name = "a", .number = 5, .dtype = DAMACY_U8, .rank = 1, .shape = {100}, .chunk = {10}};

static enum dmc_fault hang_chunks(void *user, uint64_t n, const char *key)
{
    (void)n;
    return *(_Atomic bool *)user && strstr(key, "/c/") ? DMC_FAULT_HANG : DMC_FAULT_NONE;
}

struct setup {
    struct dmc_store *memory, *faulty;
    struct damacy *pipeline;
    _Atomic bool hang;
};

static void begin(struct setup *setup, bool hang)
{
    struct damacy_error error;
    atomic_init(&setup->hang, hang);
    setup->memory = pw_memory();
    zw_write(&array, &(struct zw_sink){.memory = setup->memory});
    pw_ok(dmc_store_fault_create(setup->memory, hang_chunks, &setup->hang, &setup->faulty, &error), &error);
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 2, 1, sample_shape, DAMACY_U8);
    config.tuning.batch_slots = 2;
    config.tuning.lookahead_samples = 4;
    config.tuning.prefetch_samples = 2;
    setup->pipeline = pw_create(&config, setup->faulty);
}

static void end(struct setup *setup)
{
    damacy_destroy(setup->pipeline);
    dmc_store_destroy(setup->faulty);
    dmc_store_destroy(setup->memory);
}

static uint32_t wait_now(struct damacy *pipeline, uint32_t what, enum damacy_status expected, uint64_t timeout_ns)
{
    uint32_t happened = 77;
    struct damacy_error error;
    assert_int_equal(damacy_wait(pipeline, what, timeout_ns, &happened, &error), expected);
    return happened;
}

/* Push until AGAIN; how many were taken. */
static uint32_t push_all(struct damacy *pipeline)
{
    struct pw_sample sample = {.arrays = {&array}, .begin = {{7}}};
    struct damacy_error error;
    uint32_t count = 0;
    while (pw_try_push(pipeline, "memory://", &sample, &error) == DAMACY_OK)
        count++;
    return count;
}

static void test_arguments(void **state)
{
    (void)state;
    struct setup setup;
    begin(&setup, false);
    assert_int_equal(wait_now(setup.pipeline, 0, DAMACY_INVAL, 0), 0);
    assert_int_equal(wait_now(setup.pipeline, 4, DAMACY_INVAL, 0), 0);
    assert_int_equal(wait_now(setup.pipeline, DAMACY_WAIT_POP, DAMACY_TIMEOUT, 0), 0);
    assert_int_equal(wait_now(setup.pipeline, DAMACY_WAIT_POP, DAMACY_TIMEOUT, 1000000), 0);
    assert_int_equal(wait_now(setup.pipeline, DAMACY_WAIT_PUSH, DAMACY_OK, 0), DAMACY_WAIT_PUSH);
    assert_int_equal(wait_now(setup.pipeline, DAMACY_WAIT_PUSH | DAMACY_WAIT_POP, DAMACY_OK, 0), DAMACY_WAIT_PUSH);
    assert_int_equal(damacy_wait(setup.pipeline, DAMACY_WAIT_PUSH, 0, NULL, NULL), DAMACY_OK);
    assert_int_equal(damacy_wait(NULL, DAMACY_WAIT_PUSH, 0, NULL, NULL), DAMACY_INVAL);
    pw_flush(setup.pipeline); /* END is news for pop */
    assert_int_equal(wait_now(setup.pipeline, DAMACY_WAIT_POP, DAMACY_OK, 0), DAMACY_WAIT_POP);
    end(&setup);
}

/* Both directions: room comes when batches are planned, a batch when it is done, STARVED when all are held. */
static void test_states(void **state)
{
    (void)state;
    struct setup setup;
    begin(&setup, false);
    struct damacy_batch *batches[2];
    struct damacy_error error;
    uint32_t total = 0;
    for (int i = 0; i < 2; i++) {
        total += push_all(setup.pipeline);
        assert_true(wait_now(setup.pipeline, DAMACY_WAIT_POP, DAMACY_OK, PW_LONG) & DAMACY_WAIT_POP);
        pw_ok(damacy_pop(setup.pipeline, 0, &batches[i], &error), &error);
    }
    /* Both slots are held: STARVED, which pop would say; room comes up to where the ring is full. */
    assert_int_equal(wait_now(setup.pipeline, DAMACY_WAIT_POP, DAMACY_OK, 0), DAMACY_WAIT_POP);
    for (int i = 0; i < 4 && total < 10; i++) {
        total += push_all(setup.pipeline);
        if (total < 10) /* 4 delivered, 2 with the prefetcher, 4 in the lookahead */
            assert_int_equal(wait_now(setup.pipeline, DAMACY_WAIT_PUSH, DAMACY_OK, PW_LONG), DAMACY_WAIT_PUSH);
    }
    assert_int_equal(total, 10);
    assert_int_equal(wait_now(setup.pipeline, DAMACY_WAIT_PUSH, DAMACY_TIMEOUT, 0), 0);
    damacy_release(batches[0]);
    assert_int_equal(wait_now(setup.pipeline, DAMACY_WAIT_PUSH, DAMACY_OK, PW_LONG), DAMACY_WAIT_PUSH);
    damacy_release(batches[1]);
    assert_true(wait_now(setup.pipeline, DAMACY_WAIT_POP, DAMACY_OK, PW_LONG) & DAMACY_WAIT_POP);
    end(&setup);
}

static uint64_t lookahead_samples(struct damacy *pipeline)
{
    struct damacy_stats stats = DAMACY_STATS_INIT;
    struct damacy_error error;
    pw_ok(damacy_stats_get(pipeline, &stats, &error), &error);
    return stats.lookahead_samples;
}

/* While batches are being made a producer is told of half the lookahead, not of each place. */
static void test_room_is_told_by_halves(void **state)
{
    (void)state;
    struct setup setup;
    begin(&setup, true);
    struct pw_sample sample = {.arrays = {&array}, .begin = {{7}}};
    struct damacy_error error;
    /* 4 in batches that hang, 2 with the prefetcher, 2 of 4 in the lookahead. */
    for (uint32_t pushed = 0; pushed < 8;) {
        if (pw_try_push(setup.pipeline, "memory://", &sample, &error) == DAMACY_OK)
            pushed++;
        else
            assert_int_equal(wait_now(setup.pipeline, DAMACY_WAIT_PUSH, DAMACY_OK, PW_LONG), DAMACY_WAIT_PUSH);
    }
    while (lookahead_samples(setup.pipeline) != 2)
        pw_nap(1000000);
    assert_int_equal(wait_now(setup.pipeline, DAMACY_WAIT_PUSH, DAMACY_OK, 0), DAMACY_WAIT_PUSH);
    pw_ok(pw_try_push(setup.pipeline, "memory://", &sample, &error), &error);
    assert_int_equal(wait_now(setup.pipeline, DAMACY_WAIT_PUSH, DAMACY_TIMEOUT, 0), 0);
    pw_ok(pw_try_push(setup.pipeline, "memory://", &sample, &error), &error);
    assert_int_equal(pw_try_push(setup.pipeline, "memory://", &sample, &error), DAMACY_AGAIN);
    end(&setup);
}

static void *wait_for_shutdown(void *argument)
{
    struct setup *setup = argument;
    struct damacy_error error;
    uint32_t happened = 77;
    zw_require(damacy_wait(setup->pipeline, DAMACY_WAIT_POP, DAMACY_FOREVER, &happened, &error) == DAMACY_SHUTDOWN);
    zw_require(happened == 0);
    zw_require(error.status == DAMACY_SHUTDOWN && error.message[0]);
    return NULL;
}

static uint32_t inside(struct damacy *pipeline)
{
    dmc_mutex_lock(&pipeline->home->lock);
    uint32_t count = pipeline->inside;
    dmc_mutex_unlock(&pipeline->home->lock);
    return count;
}

static void test_shutdown(void **state)
{
    (void)state;
    struct setup setup;
    begin(&setup, true);
    push_all(setup.pipeline);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, wait_for_shutdown, &setup), 0);
    while (inside(setup.pipeline) < 3)
        pw_nap(1000000);
    end(&setup);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_arguments), cmocka_unit_test(test_states),
                                       cmocka_unit_test(test_room_is_told_by_halves), cmocka_unit_test(test_shutdown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
