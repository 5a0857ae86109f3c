/* Which buffer a batch gets, and when: the one released last, once there is something to write to it.
 *
 * Method: buffers are told apart by where their tensors are. Batches of one sample are pushed one at a time, so that nothing
 * runs ahead; a store that keeps the reads of one array until told shows a batch without a buffer, overtaken by a later one;
 * threads that pop, hold and release at once check that no buffer is anybody else's. No result depends on how long anything
 * takes. */
#include "store/io_internal.h"
#include "support/pipeline_world.h"

#include <errno.h>

#define SLOTS 4u

static const int64_t sample_shape[] = {4, 3};
static struct zw_array array = {.name = "a", .number = 3, .dtype = DAMACY_U16, .rank = 2, .shape = {40, 20}, .chunk = {5, 4}};
static struct zw_array late = {
    .name = "late", .number = 4, .dtype = DAMACY_U16, .rank = 2, .shape = {40, 20}, .chunk = {40, 20}};

/* Keeps the reads of chunks of `late`, and fails those of chunks of `array` if told to. */
struct keeping {
    struct dmc_store store;
    struct dmc_store *inner;
    struct dmc_request *_Atomic kept; /* the worker's */
    _Atomic bool failing;
};

static enum dmc_start keeping_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    struct keeping *keeping = (struct keeping *)store;
    if (strstr(request->key, "late/c/")) {
        request->holder = store;
        zw_require(!atomic_exchange(&keeping->kept, request));
        return DMC_START_PENDING;
    }
    if (atomic_load(&keeping->failing) && strstr(request->key, "/c/")) {
        dmc_request_fail(request, DAMACY_IO, EIO, "cannot read the object");
        return DMC_START_DONE;
    }
    request->holder = keeping->inner;
    return keeping->inner->ops->start(keeping->inner, io, request);
}

static enum dmc_start keeping_resume(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    struct keeping *keeping = (struct keeping *)store;
    request->holder = keeping->inner;
    return keeping->inner->ops->start(keeping->inner, io, request);
}

static const struct dmc_store_ops keeping_ops = {.scheme = "keeping", .start = keeping_start, .resume = keeping_resume};

struct setup {
    struct dmc_store *memory;
    struct keeping keeping;
    struct damacy *pipeline;
};

static void begin(struct setup *setup, enum damacy_on_error on_error, uint32_t workers)
{
    *setup = (struct setup){.memory = pw_memory()};
    setup->keeping = (struct keeping){.store.ops = &keeping_ops, .inner = setup->memory};
    zw_write(&array, &(struct zw_sink){.memory = setup->memory});
    zw_write(&late, &(struct zw_sink){.memory = setup->memory});
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 1, 2, sample_shape, DAMACY_F32);
    config.on_error = on_error;
    config.tuning.batch_slots = SLOTS;
    config.tuning.worker_count = workers;
    setup->pipeline = pw_create(&config, &setup->keeping.store);
}

static void end(struct setup *setup)
{
    damacy_destroy(setup->pipeline);
    dmc_store_destroy(setup->memory);
}

static struct pw_sample sample_of(uint64_t i)
{
    return (struct pw_sample){
        .arrays = {&array}, .begin = {{(int64_t)(zw_hash(i, 1) % 37), (int64_t)(zw_hash(i, 2) % 18)}}, .tag = i};
}

static const void *buffer_of(const struct damacy_batch *batch)
{
    return pw_info(batch).tensors[0].data;
}

/* Push one batch, and pop it: it is right. */
static struct damacy_batch *next(struct damacy *pipeline, uint64_t i)
{
    struct pw_sample sample = sample_of(i);
    pw_push(pipeline, "memory://", &sample);
    struct damacy_batch *batch = pw_pop(pipeline);
    assert_true(pw_batch_matches(batch, &sample, 1));
    return batch;
}

static void test_released_last_taken_first(void **state)
{
    (void)state;
    struct pw_random random = {pw_seed("released_last")};
    struct setup setup;
    begin(&setup, DAMACY_RAISE, 2);
    struct damacy_batch *batches[SLOTS];
    uint64_t pushed = 0;
    for (uint32_t i = 0; i < SLOTS; i++) {
        batches[i] = next(setup.pipeline, pushed++);
        for (uint32_t j = 0; j < i; j++)
            assert_ptr_not_equal(buffer_of(batches[i]), buffer_of(batches[j]));
    }
    for (uint32_t round = 0; round < 50; round++) {
        const void *stack[SLOTS];
        uint32_t released = (uint32_t)pw_between(&random, 1, SLOTS);
        for (uint32_t i = 0; i < released; i++) { /* what is held is at the front of `batches` */
            uint32_t chosen = (uint32_t)pw_between(&random, 0, SLOTS - 1 - i);
            struct damacy_batch *batch = batches[chosen];
            batches[chosen] = batches[SLOTS - 1 - i];
            stack[i] = buffer_of(batch);
            damacy_release(batch);
        }
        for (uint32_t i = released; i-- > 0;) {
            batches[SLOTS - 1 - i] = next(setup.pipeline, pushed++);
            assert_ptr_equal(buffer_of(batches[SLOTS - 1 - i]), stack[i]);
        }
    }
    for (uint32_t i = 0; i < SLOTS; i++)
        damacy_release(batches[i]);
    end(&setup);
}

/* A caller that releases before it wants the next batch sees one buffer only; one that holds another back, no other than these
 * two. */
static void test_few_in_use(void **state)
{
    (void)state;
    struct setup setup;
    begin(&setup, DAMACY_RAISE, 2);
    struct damacy_batch *held = next(setup.pipeline, 0);
    const void *kept = buffer_of(held), *other = NULL;
    for (uint64_t i = 1; i < 20; i++) {
        struct damacy_batch *batch = next(setup.pipeline, i);
        other = other ? other : buffer_of(batch);
        assert_ptr_equal(buffer_of(batch), other);
        damacy_release(batch);
    }
    struct pw_sample sample = sample_of(0);
    assert_true(pw_batch_matches(held, &sample, 1));
    damacy_release(held);
    held = next(setup.pipeline, 20);
    assert_ptr_equal(buffer_of(held), kept);
    damacy_release(held);
    end(&setup);
}

static void wait_ready(struct damacy *pipeline, uint32_t count)
{
    for (;;) {
        dmc_mutex_lock(&pipeline->home->lock);
        uint32_t ready = pipeline->ready_count;
        dmc_mutex_unlock(&pipeline->home->lock);
        if (ready >= count)
            return;
        pw_nap(100000);
    }
}

/* Has the oldest batch that was not popped a buffer? */
static bool oldest_has_buffer(struct damacy *pipeline)
{
    dmc_mutex_lock(&pipeline->home->lock);
    const struct damacy_batch *batch = pipeline->slots[pipeline->in_order[pipeline->popped_count % SLOTS]].batch;
    bool has = batch->memory.ops != NULL;
    dmc_mutex_unlock(&pipeline->home->lock);
    return has;
}

static void test_bound_with_first_piece(void **state)
{
    (void)state;
    struct setup setup;
    begin(&setup, DAMACY_RAISE, 1);
    struct damacy_batch *first = next(setup.pipeline, 0), *second = next(setup.pipeline, 1);
    const void *below = buffer_of(first), *top = buffer_of(second);
    damacy_release(first);
    damacy_release(second);

    struct pw_sample waits = {.arrays = {&late}, .begin = {{1, 2}}}, goes = sample_of(2);
    pw_push(setup.pipeline, "memory://", &waits);
    while (!atomic_load(&setup.keeping.kept))
        pw_nap(100000);
    assert_false(oldest_has_buffer(setup.pipeline));
    pw_push(setup.pipeline, "memory://", &goes);
    wait_ready(setup.pipeline, 1);
    assert_false(oldest_has_buffer(setup.pipeline));
    dmc_io_resume(atomic_load(&setup.keeping.kept));
    first = pw_pop(setup.pipeline);
    second = pw_pop(setup.pipeline);
    assert_true(pw_batch_matches(first, &waits, 1));
    assert_true(pw_batch_matches(second, &goes, 1));
    assert_ptr_equal(buffer_of(first), below);
    assert_ptr_equal(buffer_of(second), top);
    damacy_release(second);
    damacy_release(first);
    end(&setup);
}

/* Nothing to read, or nothing that could be read: the batch has a buffer all the same, whose row is what the policy says. */
static void test_every_row_fails(void **state)
{
    (void)state;
    static const enum damacy_on_error policies[] = {DAMACY_RAISE, DAMACY_SKIP, DAMACY_FILL};
    for (uint32_t i = 0; i < 6; i++) {
        struct setup setup;
        begin(&setup, policies[i % 3], 2);
        struct damacy_batch *batch = next(setup.pipeline, 0);
        const void *top = buffer_of(batch);
        damacy_release(batch);
        struct pw_sample bad = sample_of(1);
        if (i < 3)
            bad.uri = "memory://nothing";
        atomic_store(&setup.keeping.failing, i >= 3);
        pw_push(setup.pipeline, "memory://", &bad);
        if (policies[i % 3] == DAMACY_RAISE) {
            struct damacy_error error;
            enum damacy_status status = damacy_pop(setup.pipeline, PW_LONG, &batch, &error);
            assert_int_equal(status, i < 3 ? DAMACY_NOTFOUND : DAMACY_IO);
        } else {
            batch = pw_pop(setup.pipeline);
            struct damacy_batch_info info = pw_info(batch);
            assert_ptr_equal(buffer_of(batch), top);
            assert_int_equal(info.row_count, policies[i % 3] == DAMACY_FILL);
            const float *row = (const float *)(const void *)pw_readable(top, 12 * sizeof(float));
            uint8_t fill[8];
            float expected = 0;
            zw_fill(&array, fill);
            if (i >= 3)
                zw_convert(fill, array.dtype, (uint8_t *)&expected, DAMACY_F32);
            for (uint32_t e = 0; e < 12 && info.row_count; e++)
                assert_true(row[e] == expected);
            damacy_release(batch);
        }
        atomic_store(&setup.keeping.failing, false);
        batch = next(setup.pipeline, 2);
        assert_ptr_equal(buffer_of(batch), top);
        damacy_release(batch);
        end(&setup);
    }
}

/* Held batches keep their buffers, ready ones and those on the stack go with the pipeline; so does one that has none yet. */
static void test_destroy_while_held(void **state)
{
    (void)state;
    for (uint32_t held = 0; held <= 2; held++) {
        struct setup setup;
        begin(&setup, DAMACY_RAISE, 1);
        struct damacy_batch *batches[2];
        for (uint32_t i = 0; i < 2; i++)
            batches[i] = next(setup.pipeline, i);
        for (uint32_t i = held; i < 2; i++)
            damacy_release(batches[i]);
        struct pw_sample waits = {.arrays = {&late}}, goes = sample_of(2);
        pw_push(setup.pipeline, "memory://", &waits);
        pw_push(setup.pipeline, "memory://", &goes);
        wait_ready(setup.pipeline, 1);
        while (!atomic_load(&setup.keeping.kept))
            pw_nap(100000);
        dmc_io_resume(atomic_load(&setup.keeping.kept)); /* it may end, or not, before the pipeline does */
        end(&setup);
        for (uint32_t i = 0; i < held; i++) {
            struct pw_sample sample = sample_of(i);
            assert_true(pw_batch_matches(batches[i], &sample, 1));
            damacy_release(batches[i]);
        }
    }
}

#define POPPERS 3u
#define BATCHES 600u

struct crowd {
    struct damacy *pipeline;
    pthread_mutex_t lock;
    const void *owned[SLOTS]; /* buffers that somebody holds; NULL: no entry */
    uint32_t seen[BATCHES];
};

/* Note a buffer as held, or as let go. */
static void own(struct crowd *crowd, const void *from, const void *to)
{
    zw_require(pthread_mutex_lock(&crowd->lock) == 0);
    uint32_t at = SLOTS;
    for (uint32_t i = 0; i < SLOTS; i++) {
        zw_require(!to || crowd->owned[i] != to);
        if (crowd->owned[i] == from)
            at = i;
    }
    zw_require(at < SLOTS);
    crowd->owned[at] = to;
    zw_require(pthread_mutex_unlock(&crowd->lock) == 0);
}

static void *pop_all(void *argument)
{
    struct crowd *crowd = argument;
    struct damacy_batch *batch;
    while (damacy_pop(crowd->pipeline, PW_LONG, &batch, NULL) == DAMACY_OK) {
        struct damacy_batch_info info = pw_info(batch);
        const void *buffer = info.tensors[0].data;
        own(crowd, NULL, buffer);
        struct pw_sample sample = sample_of(info.rows[0].tag);
        zw_require(pw_batch_matches(batch, &sample, 1));
        crowd->seen[info.batch_id]++;
        if (info.batch_id % 3 == 0)
            sched_yield(); /* others' batches are written meanwhile */
        zw_require(pw_batch_matches(batch, &sample, 1));
        own(crowd, buffer, NULL);
        damacy_release(batch);
    }
    return NULL;
}

static void test_many_threads(void **state)
{
    (void)state;
    struct setup setup;
    begin(&setup, DAMACY_RAISE, 3);
    static struct crowd crowd;
    crowd = (struct crowd){.pipeline = setup.pipeline, .lock = PTHREAD_MUTEX_INITIALIZER};
    for (uint32_t i = 0; i < SLOTS; i++) { /* before the poppers: else they are at the end at once */
        struct pw_sample sample = sample_of(i);
        pw_push_wait(setup.pipeline, "memory://", &sample);
    }
    pthread_t threads[POPPERS];
    for (uint32_t i = 0; i < POPPERS; i++)
        zw_require(pthread_create(&threads[i], NULL, pop_all, &crowd) == 0);
    for (uint32_t i = SLOTS; i < BATCHES; i++) {
        struct pw_sample sample = sample_of(i);
        pw_push_wait(setup.pipeline, "memory://", &sample);
    }
    pw_flush(setup.pipeline);
    for (uint32_t i = 0; i < POPPERS; i++)
        zw_require(pthread_join(threads[i], NULL) == 0);
    for (uint32_t i = 0; i < BATCHES; i++)
        assert_int_equal(crowd.seen[i], 1);
    end(&setup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_released_last_taken_first), cmocka_unit_test(test_few_in_use),
        cmocka_unit_test(test_bound_with_first_piece),    cmocka_unit_test(test_every_row_fails),
        cmocka_unit_test(test_destroy_while_held),        cmocka_unit_test(test_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
