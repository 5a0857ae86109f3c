/* From create to destroy in every state, by one thread and by many: who is woken, what stays valid, what END and STARVED mean.
 *
 * Method: a store whose reads may hang for ever; threads that wait in pop while the pipeline is destroyed; batches and tensors
 * that are read after it; pushers and poppers that run at once and count what they saw. */
#include "support/pipeline_world.h"

static const int64_t sample_shape[] = {6, 7};
static struct zw_array array = {.name = "a",
                                .number = 9,
                                .dtype = DAMACY_U16,
                                .rank = 2,
                                .shape = {50, 40},
                                .chunk = {8, 8},
                                .shard = {16, 16},
                                .compressor = ZW_BLOSC,
                                .index_crc32c = true,
                                .missing_chunks = 10};

struct setup {
    struct dmc_store *memory, *faulty;
    struct damacy *pipeline;
    const char *hang; /* keys with this in them hang */
};

static enum dmc_fault choose(void *user, uint64_t n, const char *key)
{
    (void)n;
    const struct setup *setup = user;
    return setup->hang && strstr(key, setup->hang) ? DMC_FAULT_HANG : DMC_FAULT_NONE;
}

static void begin(struct setup *setup, const char *hang, uint32_t samples, uint32_t slots)
{
    struct damacy_error error;
    *setup = (struct setup){.memory = pw_memory(), .hang = hang};
    zw_write(&array, &(struct zw_sink){.memory = setup->memory});
    pw_ok(dmc_store_fault_create(setup->memory, choose, setup, &setup->faulty, &error), &error);
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, samples, 2, sample_shape, DAMACY_F32);
    config.tuning.batch_slots = slots;
    config.tuning.lookahead_samples = 8;
    setup->pipeline = pw_create(&config, setup->faulty);
}

static void end_stores(struct setup *setup)
{
    dmc_store_destroy(setup->faulty);
    dmc_store_destroy(setup->memory);
}

static void end(struct setup *setup)
{
    damacy_destroy(setup->pipeline);
    end_stores(setup);
}

static struct pw_sample sample_of(uint64_t i)
{
    return (struct pw_sample){
        .arrays = {&array}, .begin = {{(int64_t)(zw_hash(i, 1) % 45), (int64_t)(zw_hash(i, 2) % 34)}}, .tag = i};
}

static void push_count(struct damacy *pipeline, uint64_t first, uint64_t count)
{
    for (uint64_t i = first; i < first + count; i++) {
        struct pw_sample sample = sample_of(i);
        pw_push_wait(pipeline, "memory://", &sample);
    }
}

static void test_destroy_in_every_state(void **state)
{
    (void)state;
    struct setup setup;
    damacy_destroy(NULL);
    damacy_release(NULL);

    begin(&setup, NULL, 4, 2); /* nothing pushed */
    end(&setup);
    begin(&setup, NULL, 4, 2); /* an open batch */
    push_count(setup.pipeline, 0, 3);
    end(&setup);
    begin(&setup, NULL, 4, 2); /* a closed one in the works */
    push_count(setup.pipeline, 0, 9);
    pw_flush(setup.pipeline);
    end(&setup);
    begin(&setup, NULL, 4, 2); /* one ready, not popped */
    push_count(setup.pipeline, 0, 8);
    assert_int_equal(damacy_wait(setup.pipeline, DAMACY_WAIT_POP, PW_LONG, NULL, NULL), DAMACY_OK);
    end(&setup);
    begin(&setup, NULL, 4, 2); /* popped and released */
    push_count(setup.pipeline, 0, 8);
    damacy_release(pw_pop(setup.pipeline));
    end(&setup);
    begin(&setup, "zarr.json", 4, 2); /* metadata hang */
    push_count(setup.pipeline, 0, 8);
    end(&setup);
    begin(&setup, "/c/", 4, 2); /* indices hang */
    push_count(setup.pipeline, 0, 8);
    pw_nap(5000000);
    end(&setup);
}

/* Reads of chunks that hang, in both workers and in both slots. */
static void test_destroy_with_hanging_chunks(void **state)
{
    (void)state;
    struct setup setup;
    begin(&setup, NULL, 4, 2);
    push_count(setup.pipeline, 0, 4);
    damacy_release(pw_pop(setup.pipeline)); /* the metadata and some indices are cached now */
    setup.hang = "/c/";
    push_count(setup.pipeline, 0, 8);
    struct damacy_batch *batch;
    assert_int_equal(damacy_pop(setup.pipeline, 20000000, &batch, NULL), DAMACY_TIMEOUT);
    end(&setup);
}

static uint32_t inside(struct damacy *pipeline)
{
    dmc_mutex_lock(&pipeline->home->lock);
    uint32_t count = pipeline->inside;
    dmc_mutex_unlock(&pipeline->home->lock);
    return count;
}

static void *pop_until_shutdown(void *argument)
{
    struct setup *setup = argument;
    struct damacy_batch *batch = NULL;
    struct damacy_error error;
    zw_require(damacy_pop(setup->pipeline, DAMACY_FOREVER, &batch, &error) == DAMACY_SHUTDOWN);
    zw_require(!batch && error.status == DAMACY_SHUTDOWN && strstr(error.message, "destroyed"));
    return NULL;
}

static void test_waiters_get_shutdown(void **state)
{
    (void)state;
    static const char *const hangs[] = {NULL, "zarr.json", "/c/"};
    for (int i = 0; i < 3; i++) {
        struct setup setup;
        begin(&setup, hangs[i], 4, 2);
        if (hangs[i])
            push_count(setup.pipeline, 0, 8);
        pthread_t threads[4];
        for (int t = 0; t < 4; t++)
            assert_int_equal(pthread_create(&threads[t], NULL, pop_until_shutdown, &setup), 0);
        while (inside(setup.pipeline) < 4)
            pw_nap(1000000);
        end(&setup);
        for (int t = 0; t < 4; t++)
            pthread_join(threads[t], NULL);
    }
}

/* The first members of DLPack's structs, as its header has them. */
struct dl_tensor {
    void *data;
    int32_t device_type, device_id, ndim;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape, *strides;
    uint64_t byte_offset;
};
struct dl_managed {
    struct dl_tensor tensor;
    void *context;
    void (*deleter)(struct dl_managed *);
};
struct dl_versioned {
    uint32_t major, minor;
    void *context;
    void (*deleter)(struct dl_versioned *);
    uint64_t flags;
    struct dl_tensor tensor;
};

static void check_tensor(const struct dl_tensor *tensor, const struct pw_sample *samples, uint32_t count)
{
    assert_int_equal(tensor->device_type, PW_DLPACK_DEVICE);
    assert_int_equal(tensor->ndim, 3);
    assert_int_equal(tensor->code, 2);
    assert_int_equal(tensor->bits, 32);
    assert_int_equal(tensor->lanes, 1);
    assert_int_equal(tensor->byte_offset, 0);
    assert_int_equal((uintptr_t)tensor->data % 64, 0);
    assert_int_equal(tensor->shape[0], count);
    assert_int_equal(tensor->shape[1], 6);
    assert_int_equal(tensor->shape[2], 7);
    assert_int_equal(tensor->strides[0], 42);
    assert_int_equal(tensor->strides[1], 7);
    assert_int_equal(tensor->strides[2], 1);
    struct damacy_tensor_info info = {.data = tensor->data, .dtype = DAMACY_F32, .rank = 3, .shape = {count, 6, 7}};
    struct damacy_batch_info batch = {.field_count = 1, .row_count = count, .tensors = &info};
    for (uint32_t i = 0; i < count; i++)
        assert_true(pw_row_matches(&batch, i, &samples[i]));
}

/* Held batches and exported tensors outlive release and destroy; each keeps its own buffer, and dropping them in any order
 * frees it. */
static void test_tensors_outlive_everything(void **state)
{
    (void)state;
    for (int order = 0; order < 4; order++) {
        struct setup setup;
        struct damacy_error error;
        begin(&setup, NULL, 3, 3);
        struct pw_sample samples[6];
        for (uint64_t i = 0; i < 6; i++)
            samples[i] = sample_of(i);
        push_count(setup.pipeline, 0, 6);
        struct damacy_batch *first = pw_pop(setup.pipeline), *second = pw_pop(setup.pipeline);
        struct dl_managed *managed;
        struct dl_versioned *versioned;
        void *tensor;
        pw_ok(damacy_batch_dlpack(first, 0, false, &tensor, &error), &error);
        managed = tensor;
        pw_ok(damacy_batch_dlpack(second, 0, true, &tensor, &error), &error);
        versioned = tensor;
        assert_int_equal(versioned->major, 1);
        assert_int_equal(versioned->flags, 0);
        if (order & 1) /* released, but the tensor keeps it: its buffer is not used again */
            damacy_release(first);
        push_count(setup.pipeline, 100, 6);
        struct damacy_batch *third = pw_pop(setup.pipeline), *none;
        assert_int_equal(damacy_pop(setup.pipeline, DAMACY_FOREVER, &none, &error), DAMACY_STARVED);
        check_tensor(&managed->tensor, samples, 3);
        check_tensor(&versioned->tensor, samples + 3, 3);
        if (order & 2)
            versioned->deleter(versioned);
        end(&setup);
        check_tensor(&managed->tensor, samples, 3);
        assert_true(pw_batch_matches(second, samples + 3, 3));
        if (!(order & 2)) {
            damacy_release(second);
            check_tensor(&versioned->tensor, samples + 3, 3);
            versioned->deleter(versioned);
        } else {
            damacy_release(second);
        }
        managed->deleter(managed);
        if (!(order & 1)) {
            assert_true(pw_batch_matches(first, samples, 3));
            damacy_release(first);
        }
        damacy_release(third);
    }
}

static void test_end(void **state)
{
    (void)state;
    struct setup setup;
    struct damacy_batch *batch;
    struct damacy_error error;
    begin(&setup, NULL, 4, 3);
    assert_int_equal(damacy_pop(setup.pipeline, 0, &batch, &error), DAMACY_TIMEOUT); /* nothing was flushed */
    pw_flush(setup.pipeline);
    assert_int_equal(damacy_pop(setup.pipeline, DAMACY_FOREVER, &batch, &error), DAMACY_END);
    assert_int_equal(damacy_pop(setup.pipeline, 0, &batch, &error), DAMACY_END); /* and stays so */
    push_count(setup.pipeline, 0, 4); /* a whole batch, not flushed: pop waits for more afterwards */
    batch = pw_pop(setup.pipeline);
    assert_int_equal(damacy_pop(setup.pipeline, 1000000, NULL, &error), DAMACY_INVAL);
    struct damacy_batch *none;
    assert_int_equal(damacy_pop(setup.pipeline, 1000000, &none, &error), DAMACY_TIMEOUT);
    pw_flush(setup.pipeline); /* an empty batch is not closed */
    assert_int_equal(damacy_pop(setup.pipeline, DAMACY_FOREVER, &none, &error), DAMACY_END);
    damacy_release(batch);

    /* Ragged batches in the middle, with their true first dimension and successive ids. */
    static const uint32_t counts[] = {1, 4, 3, 2, 4, 1};
    uint64_t next = 0;
    struct pw_sample samples[4];
    for (uint64_t b = 0; b < 6; b++) {
        for (uint32_t i = 0; i < counts[b]; i++)
            samples[i] = sample_of(next + i);
        push_count(setup.pipeline, next, counts[b]);
        if (counts[b] < 4) {
            assert_int_equal(damacy_pop(setup.pipeline, 0, &none, &error), DAMACY_TIMEOUT); /* still open */
            pw_flush(setup.pipeline);
            pw_flush(setup.pipeline);
        }
        batch = pw_pop(setup.pipeline);
        struct damacy_batch_info info = pw_info(batch);
        assert_int_equal(info.batch_id, 1 + b);
        assert_int_equal(info.tensors[0].shape[0], counts[b]);
        assert_int_equal(info.tensors[0].bytes, counts[b] * 42 * 4);
        assert_int_equal(info.rows[0].ordinal, 4 + next);
        assert_true(pw_batch_matches(batch, samples, counts[b]));
        damacy_release(batch);
        next += counts[b];
    }
    assert_int_equal(damacy_pop(setup.pipeline, DAMACY_FOREVER, &none, &error), DAMACY_END);
    /* END with batches held is END, not STARVED. */
    push_count(setup.pipeline, 0, 12);
    pw_flush(setup.pipeline);
    struct damacy_batch *held[3];
    for (int i = 0; i < 3; i++)
        held[i] = pw_pop(setup.pipeline);
    assert_int_equal(damacy_pop(setup.pipeline, DAMACY_FOREVER, &none, &error), DAMACY_END);
    push_count(setup.pipeline, 0, 1);
    assert_int_equal(damacy_pop(setup.pipeline, DAMACY_FOREVER, &none, &error), DAMACY_STARVED);
    for (int i = 0; i < 3; i++)
        damacy_release(held[i]);
    end(&setup);
}

/* Several threads push, several pop, others release. */
#define PUSHERS 3
#define POPPERS 3
#define EACH 400
struct traffic {
    struct setup setup;
    _Atomic uint32_t next_pusher;
    _Atomic uint8_t seen_sample[PUSHERS * EACH];
    _Atomic uint8_t seen_batch[PUSHERS * EACH];
    struct damacy_batch *_Atomic to_release;
    _Atomic uint32_t rows;
};

static void *push_traffic(void *argument)
{
    struct traffic *traffic = argument;
    uint32_t who = atomic_fetch_add(&traffic->next_pusher, 1);
    for (uint64_t i = 0; i < EACH; i++) {
        struct pw_sample sample = sample_of(who * EACH + i);
        pw_push_wait(traffic->setup.pipeline, "memory://", &sample);
        if (i % 97 == 0)
            pw_flush(traffic->setup.pipeline);
    }
    return NULL;
}

static void *pop_traffic(void *argument)
{
    struct traffic *traffic = argument;
    int64_t last = -1;
    for (;;) {
        struct damacy_batch *batch;
        struct damacy_error error;
        enum damacy_status status = damacy_pop(traffic->setup.pipeline, PW_LONG, &batch, &error);
        if (status == DAMACY_END) { /* for now, perhaps */
            if (atomic_load(&traffic->rows) == PUSHERS * EACH)
                return NULL;
            pw_nap(200000);
            continue;
        }
        if (status == DAMACY_STARVED) {
            damacy_release(atomic_exchange(&traffic->to_release, NULL));
            continue;
        }
        pw_ok(status, &error);
        struct damacy_batch_info info = pw_info(batch);
        zw_require((int64_t)info.batch_id > last);
        last = (int64_t)info.batch_id;
        zw_require(info.batch_id < PUSHERS * EACH && atomic_exchange(&traffic->seen_batch[info.batch_id], 1) == 0);
        uint64_t previous[PUSHERS] = {0};
        for (uint32_t i = 0; i < info.row_count; i++) {
            uint64_t tag = info.rows[i].tag;
            struct pw_sample sample = sample_of(tag);
            zw_require(tag < PUSHERS * EACH && atomic_exchange(&traffic->seen_sample[tag], 1) == 0);
            zw_require(tag >= previous[tag / EACH]); /* each pusher's own order */
            previous[tag / EACH] = tag;
            zw_require(pw_row_matches(&info, i, &sample));
        }
        atomic_fetch_add(&traffic->rows, info.row_count);
        damacy_release(atomic_exchange(&traffic->to_release, batch)); /* somebody else's, mostly */
    }
}

static void test_concurrent_callers(void **state)
{
    (void)state;
    static struct traffic traffic;
    memset(&traffic, 0, sizeof traffic);
    begin(&traffic.setup, NULL, 5, 4);
    pthread_t pushers[PUSHERS], poppers[POPPERS];
    for (int i = 0; i < PUSHERS; i++)
        assert_int_equal(pthread_create(&pushers[i], NULL, push_traffic, &traffic), 0);
    for (int i = 0; i < POPPERS; i++)
        assert_int_equal(pthread_create(&poppers[i], NULL, pop_traffic, &traffic), 0);
    for (int i = 0; i < PUSHERS; i++)
        pthread_join(pushers[i], NULL);
    pw_flush(traffic.setup.pipeline);
    for (int i = 0; i < POPPERS; i++)
        pthread_join(poppers[i], NULL);
    damacy_release(atomic_exchange(&traffic.to_release, NULL));
    for (uint32_t i = 0; i < PUSHERS * EACH; i++)
        assert_int_equal(traffic.seen_sample[i], 1);
    end(&traffic.setup);
}

static void *release_batches(void *argument)
{
    struct damacy_batch **batches = argument;
    for (int i = 0; i < 3; i++)
        damacy_release(batches[i]);
    return NULL;
}

/* Batches are released by another thread while the pipeline is being destroyed. */
static void test_release_during_destroy(void **state)
{
    (void)state;
    for (int round = 0; round < 30; round++) {
        struct setup setup;
        begin(&setup, NULL, 2, 4);
        push_count(setup.pipeline, 0, 8);
        struct damacy_batch *batches[3];
        for (int i = 0; i < 3; i++)
            batches[i] = pw_pop(setup.pipeline);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, release_batches, batches), 0);
        end(&setup);
        pthread_join(thread, NULL);
    }
}

static void *own_pipeline(void *argument)
{
    (void)argument;
    struct setup setup;
    begin(&setup, NULL, 3, 2);
    for (uint64_t b = 0; b < 40; b++) {
        struct pw_sample samples[3];
        for (uint64_t i = 0; i < 3; i++)
            samples[i] = sample_of(b * 3 + i);
        push_count(setup.pipeline, b * 3, 3);
        struct damacy_batch *batch = pw_pop(setup.pipeline);
        zw_require(pw_batch_matches(batch, samples, 3));
        damacy_release(batch);
    }
    end(&setup);
    return NULL;
}

static void test_pipeline_per_thread(void **state)
{
    (void)state;
    pthread_t threads[6];
    for (int i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, own_pipeline, NULL), 0);
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_destroy_in_every_state),
        cmocka_unit_test(test_destroy_with_hanging_chunks),
        cmocka_unit_test(test_waiters_get_shutdown),
        cmocka_unit_test(test_tensors_outlive_everything),
        cmocka_unit_test(test_end),
        cmocka_unit_test(test_concurrent_callers),
        cmocka_unit_test(test_release_during_destroy),
        cmocka_unit_test(test_pipeline_per_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
