/* Goal: what a store advises about joining ranges is followed where the caller left the choice open, and nowhere else; the
 * data stay the same. Of a network, far more reads are under way, and each worker has its part of them.
 *
 * Method: a memory store that holds one sharded array gives hints, or none; the number of reads of one crop tells. */
#include "support/pipeline_world.h"

static struct dmc_store_hint advice;

static void give_advice(struct dmc_store *store, struct dmc_store_hint *hint)
{
    (void)store;
    *hint = advice;
}

struct tuning {
    uint64_t gap_bytes, read_bytes_max;
};

/* Reads of one crop, which needs one column of four chunks, so with gaps of 768 bytes between. */
static uint64_t reads_of(struct tuning tuning, const struct dmc_store_hint *hint)
{
    struct dmc_store *memory = pw_memory();
    zw_write(&pw_one_shard, &(struct zw_sink){.memory = memory});
    struct dmc_store_ops ops = *memory->ops;
    const struct dmc_store_ops *own = memory->ops;
    if (hint) {
        advice = *hint;
        ops.hint = give_advice;
        memory->ops = &ops;
    }
    const int64_t shape[2] = {32, 16};
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 1, 2, shape, DAMACY_F32);
    config.tuning.coalesce_gap_bytes = tuning.gap_bytes;
    config.tuning.coalesce_read_bytes_max = tuning.read_bytes_max;
    struct damacy *pipeline = pw_create(&config, memory);
    struct pw_sample sample = {.arrays = {&pw_one_shard}, .begin = {{0, 16}}};
    pw_push(pipeline, "memory://", &sample);
    struct damacy_batch *batch = pw_pop(pipeline);
    assert_true(pw_batch_matches(batch, &sample, 1));
    damacy_release(batch);
    struct damacy_stats stats = DAMACY_STATS_INIT;
    struct damacy_error error;
    pw_ok(damacy_stats_get(pipeline, &stats, &error), &error);
    damacy_destroy(pipeline);
    memory->ops = own;
    dmc_store_destroy(memory);
    return stats.read.count;
}

static void test_hints(void **state)
{
    (void)state;
    const struct tuning open = {0, 0};
    assert_int_equal(reads_of(open, NULL), 1); /* the default joins over a page */
    assert_int_equal(reads_of(open, &(struct dmc_store_hint){0}), 1);
    assert_int_equal(reads_of(open, &(struct dmc_store_hint){.coalesce_gap_bytes = 1}), 4);
    assert_int_equal(reads_of(open, &(struct dmc_store_hint){.coalesce_gap_bytes = 100000}), 1);
    assert_int_equal(reads_of(open, &(struct dmc_store_hint){.coalesce_read_bytes_max = 1500}), 2);
    assert_int_equal(reads_of(open, &(struct dmc_store_hint){.coalesce_gap_bytes = 100000, .coalesce_read_bytes_max = 256}), 4);
}

static void test_the_caller_goes_first(void **state)
{
    (void)state;
    assert_int_equal(reads_of((struct tuning){1, 0}, &(struct dmc_store_hint){.coalesce_gap_bytes = 100000}), 4);
    assert_int_equal(reads_of((struct tuning){5000, 0}, &(struct dmc_store_hint){.coalesce_gap_bytes = 1}), 1);
    assert_int_equal(reads_of((struct tuning){0, 256},
                              &(struct dmc_store_hint){.coalesce_gap_bytes = 100000, .coalesce_read_bytes_max = 1 << 20}),
                     4);
    assert_int_equal(reads_of((struct tuning){0, 1 << 20}, &(struct dmc_store_hint){.coalesce_read_bytes_max = 256}), 1);
}

/* --- how many reads are under way --- */

#define THREADS 4u

/* A store that keeps the reads of chunks until so many are under way, then answers all, and from then on at once. */
static struct {
    const struct dmc_store_ops *own;
    struct dmc_mutex lock;
    struct dmc_request *first; /* linked by store_data */
    uint32_t count, wanted;
    bool open;
    struct {
        const struct dmc_io *io;
        uint32_t count; /* held for it */
    } threads[THREADS];
} gate;

static void note_thread(const struct dmc_io *io)
{
    uint32_t i = 0;
    while (i < THREADS - 1 && gate.threads[i].count && gate.threads[i].io != io)
        i++;
    gate.threads[i].io = io;
    gate.threads[i].count++;
}

static enum dmc_start gate_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    enum dmc_start started = gate.own->start(store, io, request);
    assert_int_equal(started, DMC_START_DONE);
    dmc_mutex_lock(&gate.lock);
    bool held = !gate.open && request->kind == DMC_RANGE_SPAN && request->begin_ns != 0; /* of a batch */
    if (held) {
        request->store_data = gate.first;
        gate.first = request;
        note_thread(io);
        gate.open = ++gate.count == gate.wanted;
    }
    while (gate.open && gate.first) {
        struct dmc_request *next = gate.first->store_data;
        dmc_io_complete(gate.first);
        gate.first = next;
    }
    dmc_mutex_unlock(&gate.lock);
    return held ? DMC_START_PENDING : DMC_START_DONE;
}

/* One batch of 256 reads by so many workers, of which `wanted` must be under way before any is answered. */
static void read_gated(uint32_t workers, uint32_t wanted)
{
    const struct zw_array many = {.name = "m",
                                  .number = 6,
                                  .dtype = DAMACY_U16,
                                  .rank = 2,
                                  .shape = {256, 64},
                                  .chunk = {1, 16},
                                  .shard = {256, 64},
                                  .index_crc32c = true};
    struct dmc_store *memory = pw_memory();
    zw_write(&many, &(struct zw_sink){.memory = memory});
    struct dmc_store_ops ops = *memory->ops;
    advice = (struct dmc_store_hint){.remote = true, .coalesce_gap_bytes = 1};
    memset(&gate, 0, sizeof gate);
    gate.own = memory->ops;
    gate.wanted = wanted;
    dmc_mutex_init(&gate.lock);
    ops.hint = give_advice;
    ops.start = gate_start;
    memory->ops = &ops;
    const int64_t shape[2] = {256, 16};
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 1, 2, shape, DAMACY_F32);
    config.tuning.worker_count = workers;
    config.max_host_memory_bytes = 512u << 20;
    struct damacy *pipeline = pw_create(&config, memory);
    struct pw_sample sample = {.arrays = {&many}, .begin = {{0, 16}}};
    pw_push(pipeline, "memory://", &sample);
    struct damacy_batch *batch = pw_pop(pipeline); /* with too few reads under way it never comes */
    assert_true(pw_batch_matches(batch, &sample, 1));
    assert_int_equal(gate.count, gate.wanted);
    damacy_release(batch);
    damacy_destroy(pipeline);
    memory->ops = gate.own;
    dmc_mutex_deinit(&gate.lock);
    dmc_store_destroy(memory);
}

/* Over a network one worker has far more reads under way than on a disk: as many as the batches allow, or 256. */
static void test_remote_depth(void **state)
{
    (void)state;
    read_gated(1, 200);
}

/* Whoever starts a read decodes it: all workers start their part of a batch, though the first could start all of it. And they
 * do so before anything is answered. */
static void test_remote_shares(void **state)
{
    (void)state;
    read_gated(THREADS, 256);
    for (uint32_t i = 0; i < THREADS; i++)
        assert_int_equal(gate.threads[i].count, 256 / THREADS);
}

/* What is no whole number of reads for each is under way at once as well, and nobody has more than its part of it, rounded up.
 */
static void test_remote_shares_rounded(void **state)
{
    (void)state;
    read_gated(3, 256);
    for (uint32_t i = 0; i < 3; i++)
        assert_in_range(gate.threads[i].count, 256 - 2 * 86, 86);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hints), cmocka_unit_test(test_the_caller_goes_first),
                                       cmocka_unit_test(test_remote_depth), cmocka_unit_test(test_remote_shares),
                                       cmocka_unit_test(test_remote_shares_rounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
