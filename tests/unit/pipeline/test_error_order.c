/* Which of several errors of one sample a batch tells of does not depend on which read came back first: it is that of the
 * chunk, or of the span of an uncompressed one, that lies first in the sample.
 *
 * Method: an object that ends before any of the spans that a box needs, in a store that keeps the read of the first span, or of
 * the first chunk, until all other tasks of the batch are over. */
#include "support/holding_store.h"
#include "support/pipeline_world.h"

#define ROWS 4
#define WIDTH 65536 /* so far apart that no two rows of a box come in one read */

/* Keeps it until all others are over. */
static bool hold_first(void *user, struct dmc_request *request)
{
    struct dmc_request *_Atomic *held = user;
    bool first = strstr(request->key, "/c/0/0") && request->offset < WIDTH;
    if (first)
        zw_require(!atomic_exchange(held, request));
    return first;
}

/* Only the read that is held is missing. */
static bool all_others_over(const struct damacy *pipeline)
{
    for (uint32_t i = 0; i < pipeline->config.tuning.batch_slots; i++)
        if (atomic_load(&pipeline->slots[i].run.remaining) == 1)
            return true;
    return false;
}

/* The error of a box of four rows of an array whose chunks have `chunk_rows` rows, and objects of ten bytes. */
static struct damacy_error error_of(uint32_t chunk_rows)
{
    struct dmc_store *memory = pw_memory();
    struct zw_array array = {.name = "short",
                             .dtype = DAMACY_U8,
                             .rank = 2,
                             .shape = {ROWS, WIDTH},
                             .chunk = {chunk_rows, WIDTH},
                             .fill_nonzero = true};
    struct damacy_error error;
    zw_write_metadata(&array, &(struct zw_sink){.memory = memory});
    for (uint32_t i = 0; i < ROWS / chunk_rows; i++) {
        char key[32];
        snprintf(key, sizeof key, "short/c/%u/0", i);
        pw_ok(dmc_store_memory_put(memory, key, "0123456789", 10, &error), &error);
    }
    struct dmc_request *_Atomic held = NULL;
    struct holding_store holding = holding_store_over(memory, hold_first, &held);
    static const int64_t shape[] = {ROWS, 16};
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 1, 2, shape, DAMACY_U8);
    struct damacy *pipeline = pw_create(&config, &holding.store);
    struct pw_sample sample = {.arrays = {&array}, .begin = {{0, 1000}}};
    pw_push(pipeline, "memory://", &sample);
    while (!atomic_load(&held) || !all_others_over(pipeline))
        pw_nap(1000000);
    dmc_io_resume(held);
    struct damacy_batch *batch = NULL;
    assert_int_equal(damacy_pop(pipeline, PW_LONG, &batch, &error), DAMACY_DECODE);
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
    return error;
}

static void test_spans_of_a_chunk(void **state)
{
    (void)state;
    struct damacy_error error = error_of(ROWS);
    assert_string_equal(error.key, "c/0/0");
    assert_int_equal(error.range_begin, 1000);
    assert_int_equal(error.range_end, 1016);
    assert_string_equal(error.found, "10"); /* where it ends, although that lies in front of what was read */
}

static void test_chunks(void **state)
{
    (void)state;
    struct damacy_error error = error_of(1);
    assert_string_equal(error.key, "c/0/0");
    assert_int_equal(error.range_begin, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_spans_of_a_chunk), cmocka_unit_test(test_chunks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
