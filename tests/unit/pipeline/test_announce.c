/* Goal: stores hear of each read once, before it is started, and of batches that have no slot yet as soon as their metadata are
 * there.
 *
 * Method: a memory store with one sharded array notes what it is told to expect and what it is asked for; two slots, of which
 * the caller holds one or both. */
#include "support/pipeline_world.h"

#include <pthread.h>
#include <unistd.h>

#define BATCHES 12u
#define SLOTS 2u
#define READS 4u /* of a batch */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const struct dmc_store_ops *memory_ops;
static uint32_t expected, started, unexpected;
static uint32_t outstanding[4096]; /* announced and not started, by the offset in the shard */

static void note_expected(struct dmc_store *store, const char *key, uint64_t key_hash, uint64_t offset, uint64_t bytes)
{
    (void)store;
    pthread_mutex_lock(&lock);
    expected++;
    unexpected += !strstr(key, "a/c/0/0") || key_hash != dmc_hash_bytes(key, strlen(key), 0) || bytes != 256 || offset >= 4096;
    if (offset < 4096)
        outstanding[offset]++;
    pthread_mutex_unlock(&lock);
}

static enum dmc_start note_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    if (!request->metadata) {
        pthread_mutex_lock(&lock);
        started++;
        if (request->offset < 4096 && outstanding[request->offset] > 0)
            outstanding[request->offset]--;
        else
            unexpected++;
        pthread_mutex_unlock(&lock);
    }
    return memory_ops->start(store, io, request);
}

static void give_advice(struct dmc_store *store, struct dmc_store_hint *hint)
{
    (void)store;
    *hint = (struct dmc_store_hint){.coalesce_gap_bytes = 1}; /* each chunk is a read */
}

static uint32_t expected_now(void)
{
    pthread_mutex_lock(&lock);
    uint32_t count = expected;
    pthread_mutex_unlock(&lock);
    return count;
}

static void wait_until_resolved(struct damacy *pipeline)
{
    uint64_t resolved;
    do {
        usleep(1000);
        dmc_mutex_lock(&pipeline->home->lock);
        resolved = pipeline->lookahead.resolved;
        dmc_mutex_unlock(&pipeline->home->lock);
    } while (resolved < BATCHES);
}

static void test_announce(void **state)
{
    (void)state;
    struct dmc_store *memory = pw_memory();
    zw_write(&pw_one_shard, &(struct zw_sink){.memory = memory});
    struct dmc_store_ops ops = *(memory_ops = memory->ops);
    ops.expect = note_expected;
    ops.start = note_start;
    ops.hint = give_advice;
    memory->ops = &ops;
    const int64_t shape[2] = {32, 16};
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 1, 2, shape, DAMACY_F32);
    config.tuning.batch_slots = SLOTS;
    config.tuning.kept_chunk_bytes = 1; /* else what an earlier batch decodes would not be announced again */
    struct damacy *pipeline = pw_create(&config, memory);
    struct pw_sample samples[BATCHES];
    for (uint32_t i = 0; i < BATCHES; i++) {
        samples[i] = (struct pw_sample){.arrays = {&pw_one_shard}, .begin = {{0, 16 * (i % 4)}}};
        pw_push(pipeline, "memory://", &samples[i]);
    }
    struct damacy_batch *held[SLOTS];
    uint32_t ahead_most = 0;
    for (uint32_t i = 0; i < BATCHES; i++) {
        held[i % SLOTS] = pw_pop(pipeline);
        assert_true(pw_batch_matches(held[i % SLOTS], &samples[i], 1));
        uint32_t ahead = expected_now() / READS - (i + 1);
        ahead_most = ahead > ahead_most ? ahead : ahead_most;
        if (i + 1 == SLOTS) /* both are held: all others get their metadata, and wait for a slot */
            wait_until_resolved(pipeline);
        if (i + 1 >= SLOTS)
            damacy_release(held[(i + 1) % SLOTS]);
    }
    assert_true(ahead_most > SLOTS); /* of batches that could not be planned when their reads were announced */
    damacy_release(held[(BATCHES - 1) % SLOTS]);
    damacy_destroy(pipeline);
    assert_int_equal(unexpected, 0);
    assert_int_equal(started, BATCHES * READS);
    assert_int_equal(expected, started);
    memory->ops = memory_ops;
    dmc_store_destroy(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_announce)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
