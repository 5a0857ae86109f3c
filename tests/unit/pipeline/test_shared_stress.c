/* Many batches under way at once, under random settings, against one at a time: rows, statuses and messages are the same,
 * whatever is shared between batches, whatever is broken, and however the caller holds on to batches.
 *
 * Method: each round makes a few small arrays of random formats, breaks some of their objects (a flipped bit, an end missing, a
 * request that fails), and streams the same overlapping crops twice: once pushing a batch when the one before has been popped,
 * so that nothing is ever shared, and once pushing all as far as there is room, while batches are held and released in random
 * order. Then once more with allocations that fail, with requests that never end, or destroyed in the middle: what is said to
 * be right must be. DAMACY_TEST_ROUNDS asks for other than the usual number. */
#include "base/dtype.h"
#include "base/mem.h"
#include "support/pipeline_world.h"

#define ROUNDS 30
#define ARRAYS 3
#define BATCHES_MAX 40u
#define SAMPLES_MAX 5u
#define HELD_MAX 8u
#define EXTENT_MAX 20000u /* of a crop */
#define GIVE_UP_NS 3000000u

static enum damacy_dtype random_source(struct pw_random *random)
{
    return (enum damacy_dtype)pw_between(random, DAMACY_BOOL, DAMACY_F64);
}

/* `large`: chunks of which few can be kept at once. */
static void random_array(struct pw_random *random, uint32_t number, uint32_t rank, bool large, struct zw_array *array)
{
    static const uint64_t extents_max[] = {0, 20000, 150, 24};
    *array = (struct zw_array){.number = number, .dtype = random_source(random), .rank = rank};
    snprintf(array->name, sizeof array->name, "a%u", number);
    bool sharded = pw_chance(random, 50);
    for (uint32_t a = 0; a < rank; a++) {
        array->shape[a] = large ? pw_between(random, 200000, 400000) : pw_between(random, 2, extents_max[rank]);
        array->chunk[a] =
            pw_between(random, 1 + array->shape[a] / 6, pw_chance(random, 20) ? array->shape[a] + 3 : 1 + array->shape[a] / 2);
        array->shard[a] = sharded ? array->chunk[a] * pw_between(random, 1, 4) : 0;
        array->order[a] = array->shard_order[a] = a;
    }
    array->transposed = pw_chance(random, 30);
    pw_shuffle(random, array->order, rank);
    array->shard_transposed = sharded && pw_chance(random, 30);
    pw_shuffle(random, array->shard_order, rank);
    array->big_endian = pw_chance(random, 20);
    array->compressor = (enum zw_compressor)pw_between(random, 0, ZW_BLOSC);
    if (pw_chance(random, 30))
        array->compressor = ZW_BLOSC;
    if (large) {
        array->dtype = DAMACY_F64;
        array->compressor = (enum zw_compressor)pw_between(random, ZW_ZSTD, ZW_BLOSC);
    }
    pw_random_frame(random, array);
    array->index_at_start = pw_chance(random, 40);
    array->index_crc32c = pw_chance(random, 70);
    array->fill_nonzero = pw_chance(random, 60);
    array->missing_chunks = pw_chance(random, 40) ? (uint32_t)pw_between(random, 1, 40) : 0;
    array->missing_shards = pw_chance(random, 30) ? (uint32_t)pw_between(random, 1, 40) : 0;
}

struct trouble {
    uint64_t seed;
    uint32_t broken, failing, absent, hanging; /* percent of the chunks' objects */
};

static bool spoil(void *user, const char *key, uint8_t *data, size_t *bytes)
{
    const struct trouble *trouble = user;
    uint64_t hash = dmc_hash_bytes(key, strlen(key), trouble->seed);
    if (strstr(key, "zarr.json") || *bytes == 0 || hash % 100 >= trouble->broken)
        return true;
    if (hash >> 8 & 1)
        data[(hash >> 16) % *bytes] ^= (uint8_t)(1u << (hash >> 60 & 7));
    else /* an end is missing */
        *bytes -= (hash >> 16) % *bytes;
    return true;
}

static enum dmc_fault choose(void *user, uint64_t n, const char *key)
{
    const struct trouble *trouble = user;
    (void)n;
    uint64_t hash = dmc_hash_bytes(key, strlen(key), trouble->seed + 1);
    if (strstr(key, "zarr.json"))
        return DMC_FAULT_NONE;
    if ((hash >> 20) % 100 < trouble->hanging)
        return DMC_FAULT_HANG;
    return hash % 100 < trouble->failing                     ? DMC_FAULT_FAIL
           : hash % 100 < trouble->failing + trouble->absent ? DMC_FAULT_ABSENT
                                                             : DMC_FAULT_NONE;
}

static uint64_t delay_ns(void *user, const char *key)
{
    static _Atomic uint32_t count;
    (void)user;
    return strstr(key, "zarr.json") ? 0 : zw_hash(count++, 5) % 4 * 60000;
}

/* What came of the n-th batch. */
struct outcome {
    enum damacy_status status; /* of pop */
    char message[sizeof((struct damacy_error *)0)->message];
    uint32_t row_count;
    struct {
        enum damacy_status status;
        uint64_t tag;
        char message[sizeof((struct damacy_error *)0)->message];
    } rows[SAMPLES_MAX];
    uint8_t *bytes[PW_FIELDS];
    uint64_t byte_counts[PW_FIELDS];
};

struct stream {
    struct damacy_config config;
    struct dmc_store *store;
    struct pw_sample samples[BATCHES_MAX * SAMPLES_MAX];
    uint32_t ends[BATCHES_MAX]; /* samples of the batches up to this one */
    uint32_t batch_count;
    bool raw; /* some of the arrays */
};

static void record(struct damacy_batch *batch, struct outcome *outcome)
{
    struct damacy_batch_info info = pw_info(batch);
    outcome->row_count = info.row_count;
    for (uint32_t i = 0; i < info.row_count; i++) {
        outcome->rows[i].status = info.rows[i].status;
        outcome->rows[i].tag = info.rows[i].tag;
        snprintf(outcome->rows[i].message, sizeof outcome->rows[i].message, "%s",
                 info.rows[i].error ? info.rows[i].error->message : "");
    }
    for (uint32_t f = 0; f < info.field_count; f++) {
        uint64_t bytes = info.tensors[f].bytes;
        outcome->byte_counts[f] = bytes;
        outcome->bytes[f] = malloc(bytes + 1);
        memcpy(outcome->bytes[f], pw_readable(info.tensors[f].data, bytes), bytes);
    }
}

static void forget(struct outcome *outcomes, uint32_t count)
{
    for (uint32_t b = 0; b < count; b++)
        for (uint32_t f = 0; f < PW_FIELDS; f++)
            free(outcomes[b].bytes[f]);
    free(outcomes);
}

/* Spans of one raw chunk are read in any order; the first of them to find out what is wrong with it has the word. */
static bool same_message(bool raw, const char *is, const char *should)
{
    const char *range = strstr(should, " [");
    if (!raw || !range)
        return strcmp(is, should) == 0;
    return strncmp(is, should, (size_t)(range - should)) == 0;
}

static void same(const struct stream *stream, const struct outcome *is, const struct outcome *should, uint32_t count, bool oom)
{
    for (uint32_t b = 0; b < count; b++) {
        if (oom && (is[b].status || is[b].row_count != should[b].row_count))
            continue;
        if (is[b].status != should[b].status || !same_message(stream->raw, is[b].message, should[b].message))
            fail_msg("batch %u: %d %s\n  expected %d %s", b, is[b].status, is[b].message, should[b].status, should[b].message);
        if (is[b].row_count != should[b].row_count)
            fail_msg("batch %u of %u: %u rows, expected %u; on_error %d status %d slots %u workers %u", b, count,
                     is[b].row_count, should[b].row_count, stream->config.on_error, is[b].status,
                     stream->config.tuning.batch_slots, stream->config.tuning.worker_count);
        for (uint32_t i = 0; i < is[b].row_count; i++) {
            if (oom && is[b].rows[i].status != should[b].rows[i].status) {
                zw_require(is[b].rows[i].status == DAMACY_OOM || is[b].rows[i].status == DAMACY_BUDGET);
                continue;
            }
            if (is[b].rows[i].status != should[b].rows[i].status ||
                (!oom && !same_message(stream->raw, is[b].rows[i].message, should[b].rows[i].message)))
                fail_msg("batch %u row %u: %d %s\n  expected %d %s", b, i, is[b].rows[i].status, is[b].rows[i].message,
                         should[b].rows[i].status, should[b].rows[i].message);
            assert_int_equal(is[b].rows[i].tag, should[b].rows[i].tag);
            for (uint32_t f = 0; f < stream->config.field_count; f++) {
                uint64_t row = is[b].row_count ? is[b].byte_counts[f] / is[b].row_count : 0;
                assert_int_equal(is[b].byte_counts[f], should[b].byte_counts[f]);
                if (oom && is[b].rows[i].status) /* what it is filled with may be what was not known */
                    continue;
                if (memcmp(is[b].bytes[f] + i * row, should[b].bytes[f] + i * row, row) != 0)
                    fail_msg("batch %u row %u field %u differs, status %d", b, i, f, is[b].rows[i].status);
            }
        }
    }
}

struct totals {
    uint64_t shared, failed, rows, kept_bytes;
    uint32_t kept_runs;
};

/* `ahead`: batches that may be under way at most. `stop`: destroyed after so many. `fail_at`: an allocation fails, and from
 * then on one every so often; 0: none. `hanging`: some requests never end, so the caller gives up before long. How many were
 * popped. */
static uint32_t run(struct stream *stream, struct pw_random *random, uint32_t ahead, uint32_t stop, uint64_t fail_at,
                    bool hanging, struct outcome *outcomes, struct totals *totals)
{
    struct dmc_pipeline_extras extras = {
        .memory_store = stream->store, .streamed = pw_chance(random, 40), .try_writes = pw_chance(random, 30)};
    struct damacy *pipeline = NULL;
    struct damacy_error error;
    struct damacy_batch *held[HELD_MAX];
    uint32_t held_count = 0, held_max = (uint32_t)pw_between(random, 0, stream->config.tuning.batch_slots - 1), pushed = 0,
             popped = 0, flushed = 0;
    struct damacy_config placed = pw_placed(&stream->config, &extras);
    held_max = held_max < HELD_MAX ? held_max : HELD_MAX;
    dmc_mem_fail_at(fail_at);
    enum damacy_status status = dmc_pipeline_create(&placed, &extras, &pipeline, &error);
    for (; !fail_at && status == DAMACY_BUDGET && placed.max_host_memory_bytes < (128u << 20);
         status = dmc_pipeline_create(&placed, &extras, &pipeline, &error)) {
        placed.max_host_memory_bytes = placed.max_host_memory_bytes * 5 / 4;
        stream->config.max_host_memory_bytes = placed.max_host_memory_bytes; /* for the other runs, too */
    }
    if (status && !fail_at)
        fail_msg("%s", error.message);
    if (status != DAMACY_OK) {
        zw_require(fail_at && (status == DAMACY_OOM || status == DAMACY_BUDGET));
        dmc_mem_fail_at(0);
        return 0;
    }
    uint32_t total = stream->ends[stream->batch_count - 1];
    uint64_t table_bytes = dmc_kept_chunks_bytes(pipeline->kept_chunks);
    while (popped < stop) {
        uint32_t end = popped + ahead < stream->batch_count ? stream->ends[popped + ahead - 1] : total;
        bool full = false;
        while (pushed < end && !full) {
            status = pw_try_push(pipeline, "memory://", &stream->samples[pushed], &error);
            if (status == DAMACY_OOM && fail_at)
                continue;
            zw_require(status == DAMACY_OK || status == DAMACY_AGAIN);
            full = status == DAMACY_AGAIN;
            if (!full && ++pushed == stream->ends[flushed]) {
                pw_flush(pipeline);
                flushed++;
            }
        }
        if (held_count && (held_count >= held_max || pw_chance(random, 30))) {
            uint32_t which = (uint32_t)pw_between(random, 0, held_count - 1);
            damacy_release(held[which]);
            held[which] = held[--held_count];
        }
        if (full) {
            uint32_t happened;
            status =
                damacy_wait(pipeline, DAMACY_WAIT_POP | DAMACY_WAIT_PUSH, hanging ? GIVE_UP_NS : PW_LONG, &happened, &error);
            if (hanging && status == DAMACY_TIMEOUT)
                break;
            pw_ok(status, &error);
            if (!(happened & DAMACY_WAIT_POP))
                continue;
        }
        struct damacy_batch *batch = NULL;
        status = damacy_pop(pipeline, hanging ? GIVE_UP_NS : PW_LONG, &batch, &error);
        if (hanging && status == DAMACY_TIMEOUT)
            break;
        outcomes[popped].status = status;
        if (status == DAMACY_OK) {
            record(batch, &outcomes[popped]);
            if (held_max)
                held[held_count++] = batch;
            else
                damacy_release(batch);
        } else {
            zw_require(status != DAMACY_TIMEOUT && status != DAMACY_END);
            snprintf(outcomes[popped].message, sizeof outcomes[popped].message, "%s", error.message);
        }
        popped++;
        if (fail_at)
            dmc_mem_fail_at(pw_between(random, 1, 60));
        if (pw_chance(random, 5))
            damacy_stats_reset(pipeline, NULL);
    }
    dmc_mem_fail_at(0);
    uint64_t shared = pw_stats(pipeline).decode_shared.count;
    if (ahead == 1)
        assert_int_equal(shared, 0);
    totals->shared += shared;
    uint64_t kept_bytes = dmc_kept_chunks_bytes(pipeline->kept_chunks) - table_bytes; /* of room: once touched, it counts */
    if (ahead == 1 || stream->config.tuning.kept_chunk_bytes == 1)
        assert_int_equal(kept_bytes, 0);
    zw_require(table_bytes + kept_bytes <= pipeline->layout.kept_bytes);
    totals->kept_bytes += kept_bytes;
    totals->kept_runs += kept_bytes > 0;
    bool before = pw_chance(random, 50);
    for (uint32_t i = 0; before && i < held_count; i++)
        damacy_release(held[i]);
    damacy_destroy(pipeline);
    for (uint32_t i = 0; !before && i < held_count; i++)
        damacy_release(held[i]);
    return popped;
}

static enum damacy_dtype random_output(struct pw_random *random, const struct zw_array *arrays)
{
    for (int tries = 0; tries < 20; tries++) {
        enum damacy_dtype output = (enum damacy_dtype)pw_between(random, DAMACY_BOOL, DAMACY_F64);
        bool fits = true;
        for (uint32_t i = 0; i < ARRAYS; i++)
            fits &= dmc_dtype_converts(arrays[i].dtype, output);
        if (fits)
            return output;
    }
    return DAMACY_F32;
}

static void random_stream(struct pw_random *random, const struct zw_array *arrays, struct damacy_field *fields,
                          int64_t shapes[][ZW_RANK], struct stream *stream)
{
    static const uint32_t workers[] = {1, 2, 3, 4, 16};
    static const uint64_t gaps[] = {0, 1, 50, 100000}, reads[] = {0, 1, 64, 1000, 1000000}, buffers[] = {0, 1, 4096, 20000};
    static const char *const names[] = {"x", "y"};
    static const uint64_t kept[] = {0, 0, DMC_KEPT_CHUNKS_LEAST, 1};
    struct damacy_config *config = &stream->config;
    uint32_t rank = arrays[0].rank;
    *config = (struct damacy_config)DAMACY_CONFIG_INIT;
    config->samples_per_batch = (uint32_t)pw_between(random, 1, SAMPLES_MAX);
    config->field_count = (uint32_t)pw_between(random, 1, 2);
    config->fields = fields;
    config->max_host_memory_bytes = pw_chance(random, 30) ? 2u << 20 : 256u << 20;
    config->on_error = (enum damacy_on_error)pw_between(random, 0, 2);
    config->verify = pw_chance(random, 30) ? DAMACY_VERIFY_FULL : DAMACY_VERIFY_NEEDED;
    for (uint32_t f = 0; f < config->field_count; f++) {
        for (uint32_t a = 0; a < rank; a++) {
            uint64_t least = UINT64_MAX;
            for (uint32_t i = 0; i < ARRAYS; i++)
                least = arrays[i].shape[a] < least ? arrays[i].shape[a] : least;
            uint64_t most = pw_chance(random, 50) ? least : 1 + least / 3;
            shapes[f][a] = (int64_t)pw_between(random, 1, most < EXTENT_MAX ? most : EXTENT_MAX);
        }
        fields[f] = (struct damacy_field){names[f], rank, shapes[f], random_output(random, arrays)};
    }
    struct damacy_tuning *tuning = &config->tuning;
    tuning->worker_count = workers[pw_between(random, 0, 4)];
    /* With few slots most batches are previewed before they have one, and chunks are kept for them. */
    tuning->batch_slots = (uint32_t)pw_between(random, 2, pw_chance(random, 50) ? 3 : pw_chance(random, 30) ? 64 : 8);
    tuning->kept_chunk_bytes = kept[pw_between(random, 0, 3)];
    tuning->coalesce_gap_bytes = gaps[pw_between(random, 0, 3)];
    tuning->coalesce_read_bytes_max = reads[pw_between(random, 0, 4)];
    tuning->worker_bytes = buffers[pw_between(random, 0, 3)];
    tuning->reads_in_flight = (uint32_t)pw_between(random, 0, 3);
    tuning->lookahead_samples = pw_chance(random, 70) ? 2 * BATCHES_MAX * SAMPLES_MAX : (uint32_t)pw_between(random, 0, 12);
    stream->batch_count = (uint32_t)pw_between(random, 2, BATCHES_MAX);
    uint32_t count = 0;
    bool few = pw_chance(random, 50), ragged = pw_chance(random, 50);
    for (uint32_t b = 0; b < stream->batch_count; b++) {
        uint32_t rows = ragged && pw_chance(random, 30) ? (uint32_t)pw_between(random, 1, config->samples_per_batch)
                                                        : config->samples_per_batch;
        for (uint32_t i = 0; i < rows; i++, count++) {
            struct pw_sample *sample = &stream->samples[count];
            if (count && pw_chance(random, 10)) {
                *sample = stream->samples[pw_between(random, 0, count - 1)];
                sample->tag = count;
                continue;
            }
            *sample = (struct pw_sample){.tag = count};
            for (uint32_t f = 0; f < config->field_count; f++) {
                const struct zw_array *array = &arrays[few ? 0 : pw_between(random, 0, ARRAYS - 1)];
                sample->arrays[f] = array;
                for (uint32_t a = 0; a < rank; a++)
                    sample->begin[f][a] = (int64_t)pw_between(random, 0, array->shape[a] - (uint64_t)shapes[f][a]);
            }
        }
        stream->ends[b] = count;
    }
}

static void run_round(uint64_t seed, struct totals *totals)
{
    struct pw_random random = {seed};
    struct trouble trouble = {.seed = seed};
    if (pw_chance(&random, 70)) {
        trouble.broken = pw_chance(&random, 60) ? (uint32_t)pw_between(&random, 1, 60) : 0;
        trouble.failing = pw_chance(&random, 30) ? (uint32_t)pw_between(&random, 1, 40) : 0;
        trouble.absent = pw_chance(&random, 30) ? (uint32_t)pw_between(&random, 1, 20) : 0;
    }
    struct dmc_store *memory = pw_memory(), *late = NULL, *bad = NULL;
    struct damacy_error error;
    pw_ok(dmc_store_delay_create(memory, delay_ns, NULL, &late, &error), &error);
    pw_ok(dmc_store_fault_create(pw_chance(&random, 60) ? late : memory, choose, &trouble, &bad, &error), &error);
    struct zw_sink sink = {.memory = memory, .alter = spoil, .user = &trouble};
    struct zw_array arrays[ARRAYS];
    bool large = pw_chance(&random, 20);
    uint32_t rank = large ? 1 : (uint32_t)pw_between(&random, 1, 3);
    for (uint32_t i = 0; i < ARRAYS; i++) {
        random_array(&random, i, rank, large, &arrays[i]);
        zw_write(&arrays[i], &sink);
    }
    struct damacy_field fields[PW_FIELDS];
    int64_t shapes[PW_FIELDS][ZW_RANK];
    struct stream *stream = calloc(1, sizeof *stream);
    random_stream(&random, arrays, fields, shapes, stream);
    if (large) {
        stream->config.max_host_memory_bytes = 256u << 20;
        stream->config.tuning.batch_slots = (uint32_t)pw_between(&random, 2, 3);
        stream->config.tuning.kept_chunk_bytes = DMC_KEPT_CHUNKS_LEAST;
        stream->config.tuning.lookahead_samples = 2 * BATCHES_MAX * SAMPLES_MAX;
    }
    stream->store = bad;
    for (uint32_t i = 0; i < ARRAYS; i++)
        stream->raw |= arrays[i].compressor == ZW_RAW && !arrays[i].crc32c;
    uint32_t count = stream->batch_count, part;
    struct outcome *alone = calloc(count, sizeof *alone), *together = calloc(count, sizeof *together);
    run(stream, &random, 1, count, 0, false, alone, totals);
    for (uint32_t b = 0; b < count; b++) {
        totals->rows += alone[b].row_count;
        totals->failed += alone[b].status != 0;
        for (uint32_t i = 0; i < alone[b].row_count; i++)
            totals->failed += alone[b].rows[i].status != 0;
    }
    run(stream, &random, count, count, 0, false, together, totals);
    same(stream, together, alone, count, false);
    forget(together, count);
    together = calloc(count, sizeof *together);
    uint32_t stop = pw_chance(&random, 50) ? count : (uint32_t)pw_between(&random, 0, count);
    uint64_t fail_at = pw_chance(&random, 50) ? pw_between(&random, 1, 1500) : 0;
    trouble.hanging = pw_chance(&random, 30) ? (uint32_t)pw_between(&random, 1, 30) : 0;
    part = run(stream, &random, count, stop, fail_at, trouble.hanging > 0, together, totals);
    same(stream, together, alone, part, fail_at != 0);
    forget(together, count);
    forget(alone, count);
    free(stream);
    dmc_store_destroy(bad);
    dmc_store_destroy(late);
    dmc_store_destroy(memory);
}

static void test_stress(void **state)
{
    (void)state;
    /* The same rounds every time, unless asked for others: what varies is who comes first. */
    uint64_t seed = seed_of_test("test_stress", 20261123);
    struct totals totals = {0};
    uint32_t rounds = getenv("DAMACY_TEST_ROUNDS") ? (uint32_t)strtoul(getenv("DAMACY_TEST_ROUNDS"), NULL, 10) : ROUNDS;
    for (uint32_t i = 0; i < rounds; i++)
        run_round(zw_hash(seed, i), &totals);
    /* That it was not all for nothing; how much is shared is up to the threads. */
    printf("%llu rows, %llu failed; %llu chunks shared; in %u of %u runs %llu KiB of room for what was kept\n",
           (unsigned long long)totals.rows, (unsigned long long)totals.failed, (unsigned long long)totals.shared,
           totals.kept_runs, 3 * rounds, (unsigned long long)totals.kept_bytes >> 10);
    assert_true(totals.rows > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_stress)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
