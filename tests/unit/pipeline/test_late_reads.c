/* Goal: a read that hangs holds up its own bytes and its own slot, and no other read of its worker.
 *
 * Method: one worker, a read a batch, and a store that keeps the first read and the fourth until the last was started, and the
 * two between until the fourth was: so these end while an older and a newer one hang. Whatever they leave behind must do for
 * all that follow, as there is no more: either four slots, or a buffer for four reads, or a chunk that needs memory to be
 * decoded where none needed any before. What hangs too long fails the pop. */
#include "support/holding_store.h"
#include "support/pipeline_world.h"

#define READS 16u
#define BYTES 16384u

struct held {
    struct dmc_request *requests[4]; /* this and the count are the worker's */
    uint32_t count;
};

static bool hold_chunks(void *user, struct dmc_request *request)
{
    struct held *held = user;
    if (!strstr(request->key, "/c/"))
        return false;
    uint32_t number = held->count++;
    if (number < 4)
        held->requests[number] = request;
    else
        dmc_io_resume(request);
    if (number == 3) {
        dmc_io_resume(held->requests[1]);
        dmc_io_resume(held->requests[2]);
    }
    if (number + 1 == READS) {
        dmc_io_resume(held->requests[3]);
        dmc_io_resume(held->requests[0]);
    }
    return true;
}

/* The first sample is of the first array, the others are of the second. */
static void stream(const struct zw_array *arrays, uint32_t reads_in_flight, uint64_t worker_bytes)
{
    struct dmc_store *memory = pw_memory();
    for (uint32_t i = 0; i < 2; i++)
        zw_write(&arrays[i], &(struct zw_sink){.memory = memory});
    struct held held = {.count = 0};
    struct holding_store holding = holding_store_over(memory, hold_chunks, &held);
    static const int64_t shape[] = {BYTES};
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 1, 1, shape, DAMACY_U8);
    config.tuning.worker_count = 1;
    config.tuning.batch_slots = READS + 1;
    config.tuning.reads_in_flight = reads_in_flight;
    config.tuning.worker_bytes = worker_bytes;
    struct damacy *pipeline = pw_create(&config, &holding.store);
    struct pw_sample samples[READS];
    for (uint32_t i = 0; i < READS; i++) {
        samples[i] = (struct pw_sample){.arrays = {&arrays[i > 0]}, .begin = {{i * BYTES}}, .tag = i};
        pw_push(pipeline, "memory://", &samples[i]);
    }
    for (uint32_t i = 0; i < READS; i++) {
        struct damacy_batch *batch = pw_pop(pipeline);
        struct damacy_batch_info info = pw_info(batch);
        assert_true(pw_row_matches(&info, 0, &samples[i]));
        damacy_release(batch);
    }
    assert_int_equal(held.count, READS);
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

static struct zw_array chunks_of(const char *name, enum zw_compressor compressor)
{
    struct zw_array array = {.number = 1, .dtype = DAMACY_U8, .rank = 1, .compressor = compressor};
    strcpy(array.name, name);
    array.chunk[0] = BYTES;
    array.shape[0] = READS * BYTES;
    return array;
}

static void test_slots(void **state)
{
    (void)state;
    struct zw_array arrays[] = {chunks_of("a", ZW_RAW), chunks_of("b", ZW_RAW)};
    stream(arrays, 4, 1u << 20);
}

static void test_room(void **state)
{
    (void)state;
    struct zw_array arrays[] = {chunks_of("a", ZW_RAW), chunks_of("b", ZW_RAW)};
    stream(arrays, 2 * READS, 4 * BYTES);
}

static void test_decoding(void **state)
{
    (void)state;
    struct zw_array arrays[] = {chunks_of("a", ZW_RAW), chunks_of("b", ZW_ZSTD)};
    stream(arrays, 2 * READS, 1u << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_slots), cmocka_unit_test(test_room),
                                       cmocka_unit_test(test_decoding)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
