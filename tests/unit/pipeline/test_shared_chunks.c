/* A chunk that several batches under way want is read and decoded once; whatever becomes of the batch that does it, the others
 * get the same rows and the same errors as if each had been alone.
 *
 * Method: a store that keeps back the reads of chunks until all batches are submitted, and a codec that counts: so it is known
 * what must be shared. And random crops under faults that depend on the object only, once with many batches under way and once
 * with one at a time, compared bit by bit and word by word. */
#include "base/bytes.h"
#include "store/io_internal.h"
#include "support/pipeline_world.h"

/* --- one after the other against all at once --- */

#define ARRAYS 3
#define BATCHES 8u
#define SAMPLES 3u
#define ROUNDS 60

/* An object goes wrong every time or never. */
struct trouble {
    uint64_t seed;
    uint32_t percent;
    bool sharded; /* then no fault that depends on what is read together */
};

static enum dmc_fault choose(void *user, uint64_t n, const char *key)
{
    static const enum dmc_fault faults[] = {DMC_FAULT_FAIL, DMC_FAULT_ABSENT, DMC_FAULT_SHORT, DMC_FAULT_FLIP};
    const struct trouble *trouble = user;
    (void)n;
    uint64_t hash = dmc_hash_bytes(key, strlen(key), trouble->seed);
    if (!strstr(key, "/c/") || hash % 100 >= trouble->percent)
        return DMC_FAULT_NONE;
    return faults[(hash >> 32) % (trouble->sharded ? 1 : 4)];
}

static uint64_t delay_ns(void *user, const char *key)
{
    static _Atomic uint32_t count;
    (void)user;
    return strstr(key, "/c/") ? count++ % 4 * 100000 : 0;
}

struct outcome {
    enum damacy_status status[BATCHES * SAMPLES];
    char message[BATCHES * SAMPLES][sizeof((struct damacy_error *)0)->message];
    uint8_t *rows;
    uint64_t row_bytes;
};

/* `ahead`: batches that are pushed before the first is popped. */
static void run(const struct damacy_config *config, struct dmc_store *store, const struct pw_sample *samples, uint32_t ahead,
                struct outcome *outcome)
{
    struct damacy *pipeline = pw_create(config, store);
    uint32_t pushed = 0;
    for (uint32_t b = 0; b < BATCHES; b++) {
        for (; pushed < BATCHES * SAMPLES && pushed < (b + ahead) * SAMPLES; pushed++)
            pw_push(pipeline, "memory://", &samples[pushed]);
        struct damacy_batch *batch = pw_pop(pipeline);
        struct damacy_batch_info info = pw_info(batch);
        assert_int_equal(info.row_count, SAMPLES);
        outcome->row_bytes = info.tensors[0].bytes / SAMPLES;
        if (!outcome->rows)
            outcome->rows = calloc(BATCHES * SAMPLES, outcome->row_bytes);
        memcpy(outcome->rows + b * info.tensors[0].bytes, pw_readable(info.tensors[0].data, info.tensors[0].bytes),
               info.tensors[0].bytes);
        for (uint32_t i = 0; i < SAMPLES; i++) {
            outcome->status[b * SAMPLES + i] = info.rows[i].status;
            snprintf(outcome->message[b * SAMPLES + i], sizeof outcome->message[0], "%s",
                     info.rows[i].error ? info.rows[i].error->message : "");
        }
        damacy_release(batch);
    }
    if (ahead == 1)
        assert_int_equal(pw_stats(pipeline).decode_shared.count, 0);
    damacy_destroy(pipeline);
}

static void run_round(uint64_t seed)
{
    struct pw_random random = {seed};
    struct dmc_store *memory = pw_memory(), *late = NULL, *bad = NULL;
    struct trouble trouble = {seed, pw_chance(&random, 70) ? (uint32_t)pw_between(&random, 1, 20) : 0, pw_chance(&random, 50)};
    struct damacy_error error;
    pw_ok(dmc_store_delay_create(memory, delay_ns, NULL, &late, &error), &error);
    pw_ok(dmc_store_fault_create(pw_chance(&random, 50) ? late : memory, choose, &trouble, &bad, &error), &error);
    struct zw_sink sink = {.memory = memory};
    struct zw_array arrays[ARRAYS];
    static const enum zw_compressor compressors[] = {ZW_ZSTD, ZW_ZSTD_CHECKSUM, ZW_BLOSC};
    for (uint32_t i = 0; i < ARRAYS; i++) {
        arrays[i] = (struct zw_array){.number = i, .dtype = DAMACY_U16, .rank = 2, .shape = {40, 60}, .chunk = {13, 25}};
        snprintf(arrays[i].name, sizeof arrays[i].name, "a%u", i);
        arrays[i].compressor = compressors[pw_between(&random, 0, 2)];
        arrays[i].crc32c = true; /* a flipped bit never passes, and partial decoding is tried where there is none */
        if (trouble.percent == 0)
            arrays[i].crc32c = pw_chance(&random, 50);
        arrays[i].shard[0] = trouble.sharded ? 26 : 0;
        arrays[i].shard[1] = trouble.sharded ? 25 : 0;
        arrays[i].missing_chunks = pw_chance(&random, 30) ? 20 : 0;
        arrays[i].fill_nonzero = true;
        zw_write(&arrays[i], &sink);
    }
    static const int64_t shape[] = {9, 20};
    struct pw_sample samples[BATCHES * SAMPLES];
    for (uint32_t i = 0; i < BATCHES * SAMPLES; i++) {
        samples[i] = (struct pw_sample){.arrays = {&arrays[pw_between(&random, 0, ARRAYS - 1)]}, .tag = i};
        samples[i].begin[0][0] = (int64_t)pw_between(&random, 0, 31);
        samples[i].begin[0][1] = (int64_t)pw_between(&random, 0, 40);
    }
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, SAMPLES, 2, shape, DAMACY_F32);
    config.on_error = DAMACY_FILL;
    config.verify = pw_chance(&random, 20) ? DAMACY_VERIFY_FULL : DAMACY_VERIFY_NEEDED;
    config.tuning.worker_count = (uint32_t)pw_between(&random, 1, 4);
    config.tuning.batch_slots = (uint32_t)pw_between(&random, 2, BATCHES + 2);
    config.tuning.lookahead_samples = 2 * BATCHES * SAMPLES;
    static const uint64_t gaps[] = {1, 100, 100000};
    config.tuning.coalesce_gap_bytes = gaps[pw_between(&random, 0, 2)];
    struct outcome alone = {.rows = NULL}, together = {.rows = NULL};
    run(&config, bad, samples, 1, &alone);
    run(&config, bad, samples, BATCHES, &together);
    for (uint32_t i = 0; i < BATCHES * SAMPLES; i++) {
        assert_int_equal(alone.status[i], together.status[i]);
        assert_string_equal(alone.message[i], together.message[i]);
    }
    assert_memory_equal(alone.rows, together.rows, BATCHES * SAMPLES * alone.row_bytes);
    free(alone.rows);
    free(together.rows);
    dmc_store_destroy(bad);
    dmc_store_destroy(late);
    dmc_store_destroy(memory);
}

static void test_same_as_alone(void **state)
{
    (void)state;
    uint64_t seed = pw_seed("test_same_as_alone");
    for (uint32_t i = 0; i < ROUNDS; i++)
        run_round(zw_hash(seed, i));
}

/* --- what must be shared --- */

#define ELEMENTS 16
#define CHUNKS 4
#define TOGETHER 4u /* batches */

enum answer { ANSWER_BYTES, ANSWER_FAILED, ANSWER_ABSENT };

/* Reads of chunks are kept until let go; then their answers are what `answer` was at that moment. */
struct gate {
    struct dmc_store store;
    struct dmc_store *inner;
    struct damacy *pipeline;
    struct dmc_mutex lock;
    bool open;
    enum answer answer;
    struct dmc_request *held[64];
    uint32_t held_count;
    uint32_t started;  /* reads of chunks */
    bool late;         /* announcing reads of the second batch lets the first batch get ready before that one is submitted */
    uint32_t expected; /* announcements */
};

static struct gate *gate_of(struct dmc_store *store)
{
    return (struct gate *)store;
}

static enum dmc_start gate_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    struct gate *gate = gate_of(store);
    if (strstr(request->key, "/c/") && request->kind != DMC_RANGE_SUFFIX) { /* that is a shard's index */
        dmc_mutex_lock(&gate->lock);
        gate->started++;
        bool hold = !gate->open;
        if (hold) {
            zw_require(gate->held_count < sizeof gate->held / sizeof *gate->held);
            gate->held[gate->held_count++] = request;
            request->holder = store;
        }
        dmc_mutex_unlock(&gate->lock);
        if (hold)
            return DMC_START_PENDING;
    }
    request->holder = gate->inner;
    return gate->inner->ops->start(gate->inner, io, request);
}

static enum dmc_start gate_resume(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    struct gate *gate = gate_of(store);
    dmc_mutex_lock(&gate->lock);
    enum answer answer = gate->answer;
    dmc_mutex_unlock(&gate->lock);
    if (answer == ANSWER_BYTES) {
        request->holder = gate->inner;
        return gate->inner->ops->start(gate->inner, io, request);
    }
    if (answer == ANSWER_FAILED)
        dmc_request_fail(request, DAMACY_IO, EIO, "cannot read the object");
    else
        request->outcome = DMC_OUTCOME_ABSENT;
    return DMC_START_DONE;
}

static void gate_cancel(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    (void)store, (void)io;
    dmc_request_fail_cancelled(request);
    dmc_io_complete(request);
}

/* What was kept goes on; what comes later is kept, or not. */
static void gate_let_go(struct gate *gate, enum answer answer, bool open)
{
    dmc_mutex_lock(&gate->lock);
    gate->answer = answer;
    gate->open = open;
    for (uint32_t i = 0; i < gate->held_count; i++)
        dmc_io_resume(gate->held[i]);
    gate->held_count = 0;
    dmc_mutex_unlock(&gate->lock);
}

static uint32_t gate_started(struct gate *gate)
{
    dmc_mutex_lock(&gate->lock);
    uint32_t started = gate->started;
    dmc_mutex_unlock(&gate->lock);
    return started;
}

/* Batches that are ready, or were. */
static uint64_t done_count(struct damacy *pipeline)
{
    dmc_mutex_lock(&pipeline->home->lock);
    uint64_t count = pipeline->ready_count + pipeline->popped_count;
    dmc_mutex_unlock(&pipeline->home->lock);
    return count;
}

/* Called between planning and submitting, without a lock. */
static void gate_expect(struct dmc_store *store, const char *key, uint64_t key_hash, uint64_t offset, uint64_t bytes)
{
    struct gate *gate = gate_of(store);
    (void)key, (void)key_hash, (void)offset, (void)bytes;
    if (!gate->late || gate->expected++ == 0)
        return;
    gate_let_go(gate, ANSWER_BYTES, true);
    while (done_count(gate->pipeline) == 0)
        pw_nap(1000000);
}

static const struct dmc_store_ops gate_ops = {
    .scheme = "gate", .start = gate_start, .resume = gate_resume, .cancel = gate_cancel, .expect = gate_expect};

static _Atomic uint32_t decodes, decodes_to_fail;

static enum damacy_status counting_decode(void *user, const char *configuration, const void *source, size_t source_bytes,
                                          void *target, size_t target_bytes, size_t *decoded_bytes, char *message,
                                          size_t message_bytes)
{
    (void)user, (void)configuration;
    if (atomic_fetch_add(&decodes, 1) < decodes_to_fail) {
        snprintf(message, message_bytes, "as the test wants it");
        return DAMACY_DECODE;
    }
    zw_require(source_bytes == target_bytes);
    memcpy(target, source, source_bytes);
    *decoded_bytes = source_bytes;
    return DAMACY_OK;
}

struct shared {
    struct dmc_store *memory;
    struct gate gate;
    struct damacy *pipeline;
};

/* An array of CHUNKS chunks whose element i is i. */
static void begin(struct shared *shared, uint32_t workers, int64_t extent)
{
    static int64_t shape[1];
    static const char metadata[] =
        "{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[64],\"data_type\":\"uint8\",\"fill_value\":77,"
        "\"chunk_grid\":{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[16]}},"
        "\"chunk_key_encoding\":{\"name\":\"default\"},\"codecs\":[{\"name\":\"bytes\"},{\"name\":\"test.counting\"}]}";
    struct damacy_codec codec = DAMACY_CODEC_INIT;
    struct damacy_error error;
    *shared = (struct shared){.memory = pw_memory()};
    shared->gate = (struct gate){.store.ops = &gate_ops, .inner = shared->memory};
    dmc_mutex_init(&shared->gate.lock);
    decodes = decodes_to_fail = 0;
    codec.decode = counting_decode;
    pw_ok(damacy_codec_register("test.counting", &codec, &error), &error);
    pw_ok(dmc_store_memory_put(shared->memory, "a/zarr.json", metadata, sizeof metadata - 1, &error), &error);
    for (uint32_t c = 0; c < CHUNKS; c++) {
        char key[32];
        uint8_t chunk[ELEMENTS];
        for (uint32_t i = 0; i < ELEMENTS; i++)
            chunk[i] = (uint8_t)(c * ELEMENTS + i);
        snprintf(key, sizeof key, "a/c/%u", c);
        pw_ok(dmc_store_memory_put(shared->memory, key, chunk, sizeof chunk, &error), &error);
    }
    struct damacy_field field;
    shape[0] = extent;
    struct damacy_config config = pw_config(&field, 1, 1, shape, DAMACY_U8);
    config.on_error = DAMACY_FILL;
    config.tuning.worker_count = workers;
    config.tuning.batch_slots = TOGETHER + 1;
    shared->pipeline = shared->gate.pipeline = pw_create(&config, &shared->gate.store);
}

static void end(struct shared *shared)
{
    struct damacy_error error;
    damacy_destroy(shared->pipeline);
    dmc_mutex_deinit(&shared->gate.lock);
    dmc_store_destroy(shared->memory);
    pw_ok(damacy_codec_unregister("test.counting", &error), &error);
}

static void push(struct shared *shared, int64_t at)
{
    struct damacy_error error;
    struct damacy_interval box = {at, at + shared->pipeline->home->fields[0].sample_shape[0]};
    struct damacy_region region = {"memory://a", 1, &box};
    struct damacy_sample sample = {&region, (uint64_t)at};
    pw_ok(damacy_push(shared->pipeline, (struct damacy_samples){&sample, 1}, NULL, &error), &error);
}

/* All of them planned, and their guests where they belong. */
static void wait_submitted(struct shared *shared, uint64_t count)
{
    for (bool all = false; !all;) {
        dmc_mutex_lock(&shared->pipeline->home->lock);
        all = shared->pipeline->planned_count == count && !shared->pipeline->planning;
        dmc_mutex_unlock(&shared->pipeline->home->lock);
        if (!all)
            pw_nap(1000000);
    }
}

/* The next batch holds these bytes, or the fill value where there is a hole. */
static void pop_right(struct shared *shared, int64_t at, bool hole)
{
    struct damacy_batch *batch = pw_pop(shared->pipeline);
    struct damacy_batch_info info = pw_info(batch);
    assert_int_equal(info.rows[0].status, DAMACY_OK);
    const uint8_t *data = info.tensors[0].data;
    for (int64_t i = 0; i < info.tensors[0].shape[1]; i++)
        assert_int_equal(data[i], hole ? 77 : at + i);
    damacy_release(batch);
}

static void pop_wrong(struct shared *shared, enum damacy_status status)
{
    struct damacy_batch *batch = pw_pop(shared->pipeline);
    struct damacy_batch_info info = pw_info(batch);
    assert_int_equal(info.rows[0].status, status);
    assert_non_null(strstr(info.rows[0].error->message, "c/0"));
    damacy_release(batch);
}

/* Four batches want different parts of one chunk; the first is kept from reading it until all are under way. */
static void begin_together(struct shared *shared, uint32_t workers)
{
    begin(shared, workers, 10);
    for (uint32_t b = 0; b < TOGETHER; b++)
        push(shared, b);
    wait_submitted(shared, TOGETHER);
    while (gate_started(&shared->gate) == 0) /* a worker that is slow to begin would find the gate as it is left */
        pw_nap(1000000);
}

static void test_decoded_once(void **state)
{
    (void)state;
    for (uint32_t workers = 1; workers <= 3; workers += 2) {
        struct shared shared;
        begin_together(&shared, workers);
        gate_let_go(&shared.gate, ANSWER_BYTES, true);
        for (uint32_t b = 0; b < TOGETHER; b++)
            pop_right(&shared, b, false);
        struct damacy_stats stats = pw_stats(shared.pipeline);
        assert_int_equal(decodes, 1);
        assert_int_equal(gate_started(&shared.gate), 1);
        assert_int_equal(stats.decode.count, 1);
        assert_int_equal(stats.decode.bytes, 13); /* what all of them need */
        assert_int_equal(stats.decode_shared.count, TOGETHER - 1);
        assert_int_equal(stats.decode_shared.bytes, (TOGETHER - 1) * 10);
        end(&shared);
    }
}

/* A batch has chunks of its own beside guests, and is a host of later ones for those. */
static void test_chain_of_hosts(void **state)
{
    (void)state;
    struct shared shared;
    begin(&shared, 2, 20);
    push(&shared, 4);  /* chunks 0 and 1 */
    push(&shared, 20); /* 1 and 2 */
    push(&shared, 40); /* 2 and 3 */
    push(&shared, 12); /* 0 and 1 */
    wait_submitted(&shared, 4);
    gate_let_go(&shared.gate, ANSWER_BYTES, true);
    pop_right(&shared, 4, false);
    pop_right(&shared, 20, false);
    pop_right(&shared, 40, false);
    pop_right(&shared, 12, false);
    assert_int_equal(decodes, 4);
    assert_int_equal(gate_started(&shared.gate), 4);
    assert_int_equal(pw_stats(shared.pipeline).decode_shared.count, 4);
    end(&shared);
}

static void test_host_cannot_be_read(void **state)
{
    (void)state;
    for (uint32_t workers = 1; workers <= 3; workers += 2) {
        struct shared shared;
        begin_together(&shared, workers);
        gate_let_go(&shared.gate, ANSWER_FAILED, true);
        pop_wrong(&shared, DAMACY_IO);
        for (uint32_t b = 1; b < TOGETHER; b++)
            pop_right(&shared, b, false);
        assert_int_equal(gate_started(&shared.gate), TOGETHER);
        assert_int_equal(decodes, TOGETHER - 1);
        assert_int_equal(pw_stats(shared.pipeline).decode_shared.count, 0);
        end(&shared);
    }
}

/* Once for all of them together; and once more for the host itself. */
static void test_host_cannot_be_decoded(void **state)
{
    (void)state;
    for (uint32_t fails = 1; fails <= 2; fails++) {
        struct shared shared;
        begin_together(&shared, 2);
        decodes_to_fail = fails;
        gate_let_go(&shared.gate, ANSWER_BYTES, true);
        if (fails == 1)
            pop_right(&shared, 0, false);
        else
            pop_wrong(&shared, DAMACY_DECODE);
        for (uint32_t b = 1; b < TOGETHER; b++)
            pop_right(&shared, b, false);
        assert_int_equal(decodes, 2 + TOGETHER - 1);
        assert_int_equal(pw_stats(shared.pipeline).decode_shared.count, 0);
        end(&shared);
    }
}

static void test_host_is_absent(void **state)
{
    (void)state;
    struct shared shared;
    begin_together(&shared, 2);
    gate_let_go(&shared.gate, ANSWER_ABSENT, true);
    for (uint32_t b = 0; b < TOGETHER; b++)
        pop_right(&shared, b, true);
    assert_int_equal(gate_started(&shared.gate), 1);
    assert_int_equal(decodes, 0);
    assert_int_equal(pw_stats(shared.pipeline).fill.count, TOGETHER);
    end(&shared);
}

/* The host is done, and its batch ready, between planning and submitting the guest. */
static void test_host_is_gone(void **state)
{
    (void)state;
    struct shared shared;
    begin(&shared, 2, 20);
    shared.gate.late = true;
    static const char metadata[] =
        "{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[64],\"data_type\":\"uint8\",\"fill_value\":77,"
        "\"chunk_grid\":{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[64]}},"
        "\"chunk_key_encoding\":{\"name\":\"default\"},\"codecs\":[{\"name\":\"sharding_indexed\",\"configuration\":{"
        "\"chunk_shape\":[16],\"codecs\":[{\"name\":\"bytes\"},{\"name\":\"test.counting\"}],\"index_location\":\"end\","
        "\"index_codecs\":[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}}]}}]}";
    struct damacy_error error;
    uint8_t shard[CHUNKS * ELEMENTS + CHUNKS * 16];
    for (uint32_t i = 0; i < CHUNKS * ELEMENTS; i++)
        shard[i] = (uint8_t)i;
    for (uint32_t c = 0; c < CHUNKS; c++) {
        uint64_t entry[] = {c * ELEMENTS, ELEMENTS};
        memcpy(shard + CHUNKS * ELEMENTS + c * sizeof entry, entry, sizeof entry);
    }
    pw_ok(dmc_store_memory_put(shared.memory, "a/zarr.json", metadata, sizeof metadata - 1, &error), &error);
    pw_ok(dmc_store_memory_put(shared.memory, "a/c/0", shard, sizeof shard, &error), &error);
    push(&shared, 0);
    push(&shared, 16);
    pop_right(&shared, 0, false);
    pop_right(&shared, 16, false);
    assert_int_equal(gate_started(&shared.gate), 3);
    assert_int_equal(decodes, 4);
    assert_int_equal(pw_stats(shared.pipeline).decode_shared.count, 0);
    end(&shared);
}

/* One shard of many small chunks in place of the array; element i is i, as far as a byte goes. */
#define WIDE_CHUNKS 256u
#define WIDE_ELEMENTS 2048
static void begin_wide(struct shared *shared)
{
    static const char metadata[] =
        "{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[4096],\"data_type\":\"uint8\",\"fill_value\":77,"
        "\"chunk_grid\":{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[4096]}},"
        "\"chunk_key_encoding\":{\"name\":\"default\"},\"codecs\":[{\"name\":\"sharding_indexed\",\"configuration\":{"
        "\"chunk_shape\":[16],\"codecs\":[{\"name\":\"bytes\"},{\"name\":\"test.counting\"}],\"index_location\":\"end\","
        "\"index_codecs\":[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}}]}}]}";
    static uint8_t shard[WIDE_CHUNKS * (ELEMENTS + 16)];
    struct damacy_error error;
    for (uint32_t i = 0; i < WIDE_CHUNKS * ELEMENTS; i++)
        shard[i] = (uint8_t)i;
    for (uint64_t c = 0; c < WIDE_CHUNKS; c++) {
        uint64_t entry[] = {c * ELEMENTS, ELEMENTS};
        memcpy(shard + WIDE_CHUNKS * ELEMENTS + c * sizeof entry, entry, sizeof entry);
    }
    begin(shared, 2, WIDE_ELEMENTS);
    pw_ok(dmc_store_memory_put(shared->memory, "a/zarr.json", metadata, sizeof metadata - 1, &error), &error);
    pw_ok(dmc_store_memory_put(shared->memory, "a/c/0", shard, sizeof shard, &error), &error);
}

/* The next batch is right, which is true, or has no room for its plan. */
static bool pop_fits(struct shared *shared, int64_t at)
{
    struct damacy_batch *batch = pw_pop(shared->pipeline);
    struct damacy_batch_info info = pw_info(batch);
    const uint8_t *data = info.tensors[0].data;
    bool fits = info.rows[0].status == DAMACY_OK;
    if (!fits)
        assert_int_equal(info.rows[0].status, DAMACY_BUDGET);
    for (int64_t i = 0; i < WIDE_ELEMENTS && fits; i++)
        assert_int_equal(data[i], (uint8_t)(at + i));
    damacy_release(batch);
    return fits;
}

/* With little memory for the plan of a batch that has guests, they are not lost with what only later batches would have use
 * for. And whether there is enough does not depend on who else is under way, nor on what the slot was used for before.
 *
 * Method: the bound of a slot goes down step by step, by less than its hosts take, until nothing fits any more. The same crop
 * is planned beside another batch, and afterwards alone, where the plan before has been. */
static void test_little_memory(void **state)
{
    (void)state;
    static const int64_t at[] = {0, 1600}; /* 28 guests, and 100 chunks of its own */
    uint64_t limit_bytes = UINT64_MAX;
    bool fits = true;
    for (uint32_t tries = 0; fits; tries++) {
        struct shared shared;
        assert_true(tries < 1000);
        begin_wide(&shared);
        push(&shared, at[0]);
        wait_submitted(&shared, 1);
        struct dmc_budget *budget = &shared.pipeline->slots[1].plan_budget;
        if (limit_bytes != UINT64_MAX)
            dmc_budget_init(budget, limit_bytes);
        push(&shared, at[1]);
        wait_submitted(&shared, 2);
        if (limit_bytes == UINT64_MAX)
            limit_bytes = dmc_budget_used(budget);
        gate_let_go(&shared.gate, ANSWER_BYTES, true);
        struct damacy_batch *first = pw_pop(shared.pipeline); /* its slot stays taken */
        fits = pop_fits(&shared, at[1]);
        assert_true(tries > 0 || pw_stats(shared.pipeline).decode_shared.count == 28);
        push(&shared, at[1]);
        assert_int_equal(pop_fits(&shared, at[1]), fits);
        damacy_release(first);
        end(&shared);
        limit_bytes -= dmc_min_u64(limit_bytes, 512);
    }
}

/* Destroyed while guests wait, and while those are under way that lost their hosts. */
static void test_destroy(void **state)
{
    (void)state;
    for (uint32_t lost = 0; lost < 2; lost++) {
        struct shared shared;
        begin_together(&shared, 2);
        if (lost) {
            gate_let_go(&shared.gate, ANSWER_FAILED, false);
            while (gate_started(&shared.gate) < TOGETHER)
                pw_nap(1000000);
        }
        end(&shared);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_alone),
        cmocka_unit_test(test_decoded_once),
        cmocka_unit_test(test_chain_of_hosts),
        cmocka_unit_test(test_host_cannot_be_read),
        cmocka_unit_test(test_host_cannot_be_decoded),
        cmocka_unit_test(test_host_is_absent),
        cmocka_unit_test(test_host_is_gone),
        cmocka_unit_test(test_little_memory),
        cmocka_unit_test(test_destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
