/* Reads that come back in any order are used in the order in which they were started: the batch that is waited for next is not
 * held up by later ones.
 *
 * Method: one worker, a chunk a batch, a store that keeps all reads of chunks until the last was started and then sends them
 * back in reverse, and a registered codec that notes which chunk it decodes. */
#include "support/holding_store.h"
#include "support/pipeline_world.h"

#define BATCHES 12u
#define ELEMENTS 16

struct held {
    struct dmc_request *requests[BATCHES]; /* the worker's */
    uint32_t count;
};

static bool hold_chunks(void *user, struct dmc_request *request)
{
    struct held *held = user;
    if (!strstr(request->key, "/c/"))
        return false;
    zw_require(held->count < BATCHES);
    held->requests[held->count++] = request;
    for (uint32_t i = BATCHES; held->count == BATCHES && i-- > 0;)
        dmc_io_resume(held->requests[i]);
    return true;
}

static uint8_t decoded[BATCHES];
static _Atomic uint32_t decoded_count;

static enum damacy_status noting_decode(void *user, const char *configuration, const void *source, size_t source_bytes,
                                        void *target, size_t target_bytes, size_t *decoded_bytes, char *message,
                                        size_t message_bytes)
{
    (void)user, (void)configuration, (void)message, (void)message_bytes;
    zw_require(source_bytes == target_bytes && decoded_count < BATCHES);
    memcpy(target, source, source_bytes);
    *decoded_bytes = source_bytes;
    decoded[atomic_fetch_add(&decoded_count, 1)] = *(const uint8_t *)source;
    return DAMACY_OK;
}

static void test_oldest_first(void **state)
{
    (void)state;
    struct damacy_codec codec = DAMACY_CODEC_INIT;
    struct damacy_error error;
    codec.decode = noting_decode;
    pw_ok(damacy_codec_register("test.noting", &codec, &error), &error);
    struct dmc_store *memory = pw_memory();
    static const char metadata[] =
        "{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[16],\"data_type\":\"uint8\",\"fill_value\":0,"
        "\"chunk_grid\":{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[16]}},"
        "\"chunk_key_encoding\":{\"name\":\"default\"},\"codecs\":[{\"name\":\"bytes\"},{\"name\":\"test.noting\"}]}";
    for (uint32_t i = 0; i < BATCHES; i++) {
        char key[32];
        uint8_t chunk[ELEMENTS];
        memset(chunk, (int)i, sizeof chunk);
        snprintf(key, sizeof key, "a%u/zarr.json", i);
        pw_ok(dmc_store_memory_put(memory, key, metadata, sizeof metadata - 1, &error), &error);
        snprintf(key, sizeof key, "a%u/c/0", i);
        pw_ok(dmc_store_memory_put(memory, key, chunk, sizeof chunk, &error), &error);
    }
    struct held held = {.count = 0};
    struct holding_store holding = holding_store_over(memory, hold_chunks, &held);

    static const int64_t shape[] = {ELEMENTS};
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 1, 1, shape, DAMACY_U8);
    config.tuning.worker_count = 1;
    config.tuning.batch_slots = BATCHES + 1;
    struct dmc_pipeline_extras extras = {.memory_store = &holding.store};
    struct damacy *pipeline;
    pw_ok(dmc_pipeline_create(&config, &extras, &pipeline, &error), &error);
    for (uint32_t i = 0; i < BATCHES; i++) {
        char uri[32];
        snprintf(uri, sizeof uri, "memory://a%u", i);
        struct damacy_interval box = {0, ELEMENTS};
        struct damacy_region region = {uri, 1, &box};
        struct damacy_sample sample = {&region, i};
        pw_ok(damacy_push(pipeline, (struct damacy_samples){&sample, 1}, NULL, &error), &error);
    }
    for (uint32_t i = 0; i < BATCHES; i++) {
        struct damacy_batch *batch;
        pw_ok(damacy_pop(pipeline, PW_LONG, &batch, &error), &error);
        assert_int_equal(*(const uint8_t *)pw_info(batch).tensors[0].data, i);
        damacy_release(batch);
    }
    assert_int_equal(decoded_count, BATCHES);
    for (uint32_t i = 0; i < BATCHES; i++)
        assert_int_equal(decoded[i], i);
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
    pw_ok(damacy_codec_unregister("test.noting", &error), &error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_oldest_first)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
