/* A decoded chunk is kept for batches that were pushed but have no slot yet: it is read and decoded once, however far apart
 * they are, and each has the same rows and the same errors as if nothing were kept.
 *
 * Method: of two slots the caller holds both until all samples are resolved, and then gives back one. So from then on batches
 * run one after the other, each is previewed before the first of them is planned, and which chunk comes from where is certain.
 * A store in between counts the reads of chunks. Random crops of arrays that are partly broken are streamed with and without
 * keeping, and compared bit by bit and word by word. */
#include "base/bytes.h"
#include "pipeline/kept_chunks.h"
#include "support/holding_store.h"
#include "support/pipeline_world.h"

#define NONE_KEPT 1u /* kept_chunk_bytes */
#define BATCHES_MAX 12u
#define SAMPLES_MAX 3u /* of a batch */
#define ELEMENTS 64u   /* of a chunk, of two bytes */
#define MESSAGE_BYTES sizeof((struct damacy_error *)0)->message

/* What goes wrong with an object depends on its key, and perhaps on how often it was asked for. */
struct trouble {
    uint64_t seed;
    uint32_t broken, failing, absent; /* percent of the chunks' objects */
    const char *key;                  /* of one object that is worse */
    uint32_t fail_times;              /* the first so many reads of it fail */
    bool hang, gone;                  /* reads of it never end; it is absent */
    uint64_t cut_bytes;               /* its end is missing */
    _Atomic uint32_t asked;
};

static bool is_chunk(const char *key)
{
    return strstr(key, "/c/") && key[0] != 'z';
}

static bool spoil(void *user, const char *key, uint8_t *data, size_t *bytes)
{
    const struct trouble *trouble = user;
    uint64_t hash = dmc_hash_bytes(key, strlen(key), trouble->seed);
    if (trouble->key && strcmp(key, trouble->key) == 0)
        *bytes -= dmc_min_u64(trouble->cut_bytes, *bytes - 1);
    if (!is_chunk(key) || *bytes == 0 || hash % 100 >= trouble->broken)
        return true;
    if (hash >> 8 & 1)
        data[(hash >> 16) % *bytes] ^= (uint8_t)(1u << (hash >> 60 & 7));
    else
        *bytes -= (hash >> 16) % *bytes;
    return true;
}

static enum dmc_fault choose(void *user, uint64_t n, const char *key)
{
    struct trouble *trouble = user;
    (void)n;
    uint64_t hash = dmc_hash_bytes(key, strlen(key), trouble->seed + 1);
    if (!is_chunk(key))
        return DMC_FAULT_NONE;
    if (trouble->key && strcmp(key, trouble->key) == 0) {
        if (trouble->hang || trouble->gone)
            return trouble->hang ? DMC_FAULT_HANG : DMC_FAULT_ABSENT;
        if (atomic_fetch_add(&trouble->asked, 1) < trouble->fail_times)
            return DMC_FAULT_FAIL;
    }
    return hash % 100 < trouble->failing                     ? DMC_FAULT_FAIL
           : hash % 100 < trouble->failing + trouble->absent ? DMC_FAULT_ABSENT
                                                             : DMC_FAULT_NONE;
}

struct world {
    struct trouble trouble;
    struct dmc_store *memory, *bad;
    struct holding_store counting;
    _Atomic uint32_t reads;
    const char *hold_key; /* a chunk whose first read is kept back */
    struct dmc_request *_Atomic held;
    struct damacy_field fields[2];
    int64_t shapes[2][1];
    struct damacy_config config;
    struct zw_array blocker;
    struct damacy *pipeline;
    uint64_t pushed;
};

static bool count_read(void *user, struct dmc_request *request)
{
    struct world *world = user;
    if (request->metadata || !is_chunk(request->key))
        return false;
    atomic_fetch_add(&world->reads, 1);
    if (!world->hold_key || strcmp(request->key, world->hold_key) != 0 || atomic_load(&world->held))
        return false;
    atomic_store(&world->held, request);
    return true;
}

/* Crops of `extent` elements, `samples` in a batch. */
static void begin_world(struct world *world, uint32_t samples, int64_t extent)
{
    struct damacy_error error;
    *world = (struct world){.memory = pw_memory()};
    pw_ok(dmc_store_fault_create(world->memory, choose, &world->trouble, &world->bad, &error), &error);
    world->counting = holding_store_over(world->bad, count_read, world);
    world->blocker = (struct zw_array){.name = "z", .dtype = DAMACY_U16, .rank = 1, .compressor = ZW_RAW};
    world->blocker.shape[0] = world->blocker.chunk[0] = dmc_max_u64((uint64_t)extent, 200); /* of whichever field */
    zw_write(&world->blocker, &(struct zw_sink){.memory = world->memory});
    world->shapes[0][0] = world->shapes[1][0] = extent;
    world->config = pw_config(&world->fields[0], samples, 1, world->shapes[0], DAMACY_U16);
    world->fields[1] = world->fields[0];
    world->fields[0].name = "x";
    world->fields[1].name = "y";
    world->fields[1].sample_shape = world->shapes[1];
    world->config.on_error = DAMACY_FILL;
    world->config.tuning.batch_slots = 2;
    world->config.tuning.lookahead_samples = 2 * (BATCHES_MAX + 3) * SAMPLES_MAX;
}

static void end_world(struct world *world)
{
    dmc_store_destroy(world->bad);
    dmc_store_destroy(world->memory);
}

static struct zw_array write_array(struct world *world, const char *name, uint32_t number, enum zw_compressor compressor)
{
    struct zw_array array = {.number = number,
                             .dtype = DAMACY_U16,
                             .rank = 1,
                             .shape = {8 * ELEMENTS},
                             .chunk = {ELEMENTS},
                             .compressor = compressor,
                             .fill_nonzero = true};
    snprintf(array.name, sizeof array.name, "%s", name);
    zw_write(&array, &(struct zw_sink){.memory = world->memory, .alter = spoil, .user = &world->trouble});
    return array;
}

/* --- one stream --- */

static void wait_resolved(struct world *world)
{
    for (bool all = false; !all;) {
        dmc_mutex_lock(&world->pipeline->home->lock);
        all = world->pipeline->lookahead.resolved >= world->pushed;
        dmc_mutex_unlock(&world->pipeline->home->lock);
        if (!all)
            pw_nap(1000000);
    }
}

static void wait_planned(struct world *world, uint64_t count)
{
    for (bool all = false; !all;) {
        dmc_mutex_lock(&world->pipeline->home->lock);
        all = world->pipeline->planned_count == count && !world->pipeline->planning;
        dmc_mutex_unlock(&world->pipeline->home->lock);
        if (!all)
            pw_nap(1000000);
    }
}

static void push(struct world *world, const struct pw_sample *samples, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        pw_push(world->pipeline, "memory://", &samples[i]);
    world->pushed += count;
}

/* The caller holds every slot, and all batches that are to come are resolved. */
static void begin_stream(struct world *world, const struct pw_sample *samples, uint32_t batches, struct damacy_batch **held)
{
    uint32_t rows = world->config.samples_per_batch;
    struct pw_sample blocker = {.arrays = {&world->blocker, &world->blocker}};
    world->pushed = 0;
    atomic_store(&world->trouble.asked, 0);
    atomic_store(&world->reads, 0);
    atomic_store(&world->held, NULL);
    world->pipeline = pw_create(&world->config, &world->counting.store);
    for (uint32_t s = 0; s < world->config.tuning.batch_slots; s++) {
        for (uint32_t i = 0; i < rows; i++)
            push(world, &blocker, 1);
        held[s] = pw_pop(world->pipeline);
        zw_require(pw_info(held[s]).rows[0].status == DAMACY_OK); /* else no batch is previewed after it */
    }
    push(world, samples, batches * rows);
    wait_resolved(world);
}

struct outcome {
    enum damacy_status status[BATCHES_MAX]; /* of pop */
    enum damacy_status rows[BATCHES_MAX][SAMPLES_MAX];
    char messages[BATCHES_MAX][SAMPLES_MAX + 1][MESSAGE_BYTES]; /* the last: of pop */
    uint8_t *bytes[BATCHES_MAX][2];
    uint64_t byte_counts[BATCHES_MAX][2];
    struct damacy_stats stats;
    uint32_t reads;
    bool keeps; /* there was a table */
};

static void record(struct damacy_batch *batch, struct outcome *outcome, uint32_t b)
{
    struct damacy_batch_info info = pw_info(batch);
    for (uint32_t i = 0; i < info.row_count; i++) {
        outcome->rows[b][i] = info.rows[i].status;
        snprintf(outcome->messages[b][i], MESSAGE_BYTES, "%s", info.rows[i].error ? info.rows[i].error->message : "");
    }
    for (uint32_t f = 0; f < info.field_count; f++) {
        uint64_t bytes = outcome->byte_counts[b][f] = info.tensors[f].bytes;
        outcome->bytes[b][f] = malloc(bytes + 1);
        memcpy(outcome->bytes[b][f], pw_readable(info.tensors[f].data, bytes), bytes);
    }
}

static void check_memory(struct world *world, const struct damacy_stats *stats)
{
    assert_true(stats->host_bytes_committed <= world->pipeline->config.max_host_memory_bytes);
    assert_true(dmc_kept_chunks_bytes(world->pipeline->kept_chunks) <= world->pipeline->layout.kept_bytes);
}

/* All batches, one after the other. The outcome is forgotten with forget(). */
static struct outcome *stream(struct world *world, const struct pw_sample *samples, uint32_t batches, uint64_t kept_chunk_bytes)
{
    struct outcome *outcome = calloc(1, sizeof *outcome);
    struct damacy_batch *held[2], *batch;
    struct damacy_error error;
    zw_require(world->config.tuning.batch_slots == 2 && batches <= BATCHES_MAX);
    world->config.tuning.kept_chunk_bytes = kept_chunk_bytes;
    begin_stream(world, samples, batches, held);
    damacy_release(held[1]);
    for (uint32_t b = 0; b < batches; b++) {
        outcome->status[b] = damacy_pop(world->pipeline, PW_LONG, &batch, &error);
        if (outcome->status[b]) {
            zw_require(outcome->status[b] != DAMACY_TIMEOUT);
            snprintf(outcome->messages[b][SAMPLES_MAX], MESSAGE_BYTES, "%s", error.message);
            continue;
        }
        record(batch, outcome, b);
        damacy_release(batch);
    }
    outcome->keeps = world->pipeline->kept_chunks != NULL;
    outcome->stats = pw_stats(world->pipeline);
    outcome->reads = atomic_load(&world->reads);
    check_memory(world, &outcome->stats);
    damacy_release(held[0]);
    damacy_destroy(world->pipeline);
    return outcome;
}

static void forget(struct outcome *outcome)
{
    for (uint32_t b = 0; b < BATCHES_MAX; b++)
        for (uint32_t f = 0; f < 2; f++)
            free(outcome->bytes[b][f]);
    free(outcome);
}

static void same(const struct outcome *is, const struct outcome *should)
{
    assert_memory_equal(is->status, should->status, sizeof is->status);
    assert_memory_equal(is->rows, should->rows, sizeof is->rows);
    for (uint32_t b = 0; b < BATCHES_MAX; b++) {
        for (uint32_t i = 0; i <= SAMPLES_MAX; i++)
            assert_string_equal(is->messages[b][i], should->messages[b][i]);
        for (uint32_t f = 0; f < 2; f++) {
            assert_int_equal(is->byte_counts[b][f], should->byte_counts[b][f]);
            if (is->byte_counts[b][f])
                assert_memory_equal(is->bytes[b][f], should->bytes[b][f], is->byte_counts[b][f]);
        }
    }
}

/* The rows that came well are what the naive reader says. */
static void right(const struct world *world, const struct outcome *outcome, const struct pw_sample *samples, uint32_t batches)
{
    uint32_t rows = world->config.samples_per_batch;
    for (uint32_t b = 0; b < batches; b++)
        for (uint32_t i = 0; i < rows; i++)
            for (uint32_t f = 0; f < world->config.field_count; f++) {
                int64_t extent = world->shapes[f][0];
                const struct pw_sample *sample = &samples[b * rows + i];
                for (int64_t e = 0; e < extent; e++) {
                    uint64_t at = (uint64_t)(sample->begin[f][0] + e);
                    uint8_t expected[8];
                    zw_expect(sample->arrays[f], &at, DAMACY_U16, expected);
                    if (outcome->rows[b][i] == DAMACY_OK)
                        assert_memory_equal(outcome->bytes[b][f] + 2 * (i * extent + e), expected, 2);
                }
            }
}

/* With keeping and without, which must be the same; what it did with is given back, and *without are the reads without it. */
static struct outcome *compare(struct world *world, const struct pw_sample *samples, uint32_t batches, uint32_t *without)
{
    struct outcome *alone = stream(world, samples, batches, NONE_KEPT);
    struct outcome *kept = stream(world, samples, batches, 0);
    assert_false(alone->keeps);
    assert_true(kept->keeps);
    assert_int_equal(alone->stats.decode_shared.count, 0);
    same(kept, alone);
    if (without)
        *without = alone->reads;
    forget(alone);
    return kept;
}

#define AT(of, position) ((struct pw_sample){.arrays = {&(of), &(of)}, .begin = {{position}, {position}}})

/* --- what must be kept --- */

/* Six batches, of which all but the first read nothing; at any number of workers and both ways of writing a batch. */
static void test_once(void **state)
{
    (void)state;
    static const enum zw_compressor compressors[] = {ZW_ZSTD, ZW_ZSTD_CHECKSUM, ZW_GZIP, ZW_BLOSC};
    for (uint32_t i = 0; i < 4; i++) {
        struct world world;
        begin_world(&world, 1, 20);
        world.config.tuning.worker_count = 1 + i;
        struct zw_array a = write_array(&world, "a", 1, compressors[i]);
        struct pw_sample samples[6];
        for (uint32_t b = 0; b < 6; b++)
            samples[b] = AT(a, 30);
        uint32_t without;
        struct outcome *kept = compare(&world, samples, 6, &without);
        right(&world, kept, samples, 6);
        assert_int_equal(without, 6);
        assert_int_equal(kept->reads, 1);
        assert_int_equal(kept->stats.decode.count, 1);
        assert_int_equal(kept->stats.decode_shared.count, 5);
        assert_int_equal(kept->stats.decode_shared.bytes, 5 * 2 * 20);
        forget(kept);
        end_world(&world);
    }
}

/* Each needs another part of the chunk: the first decodes what all of them want. A checksum wants the whole. */
static void test_needs(void **state)
{
    (void)state;
    for (uint32_t full = 0; full < 2; full++) {
        struct world world;
        begin_world(&world, 1, 10);
        world.config.verify = full ? DAMACY_VERIFY_FULL : DAMACY_VERIFY_NEEDED;
        struct zw_array a = write_array(&world, "a", 1, ZW_ZSTD_CHECKSUM);
        struct pw_sample samples[] = {AT(a, 20), AT(a, 2), AT(a, 50), AT(a, 25), AT(a, 2)};
        struct outcome *kept = compare(&world, samples, 5, NULL);
        right(&world, kept, samples, 5);
        assert_int_equal(kept->reads, 1);
        assert_int_equal(kept->stats.decode.count, 1);
        assert_int_equal(kept->stats.decode.bytes, full ? 2 * ELEMENTS : 2 * 58);
        assert_int_equal(kept->stats.decode_shared.count, 4);
        forget(kept);
        end_world(&world);
    }
}

/* A crop of two chunks, of which each was another batch's. */
static void test_several_chunks(void **state)
{
    (void)state;
    struct world world;
    begin_world(&world, 1, 40);
    struct zw_array a = write_array(&world, "a", 1, ZW_ZSTD);
    /* chunks 0; 1; 0 and 1; 1 and 2; 2; 0 */
    struct pw_sample samples[] = {AT(a, 0), AT(a, 64), AT(a, 50), AT(a, 100), AT(a, 140), AT(a, 10)};
    struct outcome *kept = compare(&world, samples, 5, NULL);
    right(&world, kept, samples, 5);
    assert_int_equal(kept->reads, 3);
    assert_int_equal(kept->stats.decode.count, 3);
    assert_int_equal(kept->stats.decode_shared.count, 4);
    forget(kept);
    end_world(&world);
}

/* A decoder that picks blocks is not made to decode what lies between. */
static void test_far_apart(void **state)
{
    (void)state;
    for (uint32_t blosc = 0; blosc < 2; blosc++) {
        struct world world;
        begin_world(&world, 1, 100);
        struct zw_array a = {.name = "a",
                             .dtype = DAMACY_U16,
                             .rank = 1,
                             .shape = {100000},
                             .chunk = {100000},
                             .compressor = blosc ? ZW_BLOSC : ZW_ZSTD};
        zw_write(&a, &(struct zw_sink){.memory = world.memory});
        struct pw_sample samples[] = {AT(a, 0), AT(a, 99900), AT(a, 99850)};
        struct outcome *kept = compare(&world, samples, 3, NULL);
        right(&world, kept, samples, 3);
        assert_int_equal(kept->reads, 1 + blosc);
        assert_int_equal(kept->stats.decode.count, 1 + blosc);
        assert_int_equal(kept->stats.decode.bytes, blosc ? 2 * 250 : 2 * 100000);
        assert_int_equal(kept->stats.decode_shared.count, 2 - blosc);
        forget(kept);
        end_world(&world);
    }
}

static void test_raw(void **state)
{
    (void)state;
    struct world world;
    begin_world(&world, 1, 20);
    struct zw_array a = write_array(&world, "a", 1, ZW_RAW);
    struct pw_sample samples[] = {AT(a, 0), AT(a, 0), AT(a, 0)};
    struct outcome *kept = compare(&world, samples, 3, NULL);
    right(&world, kept, samples, 3);
    assert_int_equal(kept->reads, 3);
    assert_int_equal(kept->stats.decode_shared.count, 0);
    forget(kept);
    end_world(&world);
}

/* --- what goes wrong --- */

/* The end of the stored chunk is missing: those that need the beginning have it, the others have the same error each. */
static void test_broken_beyond(void **state)
{
    (void)state;
    struct world world;
    begin_world(&world, 1, 10);
    struct zw_array a = {.name = "a",
                         .dtype = DAMACY_U16,
                         .rank = 1,
                         .shape = {400000},
                         .chunk = {400000}, /* several blocks of zstd */
                         .compressor = ZW_ZSTD};
    world.trouble.key = "a/c/0";
    world.trouble.cut_bytes = 100;
    zw_write(&a, &(struct zw_sink){.memory = world.memory, .alter = spoil, .user = &world.trouble});
    world.trouble.key = NULL;
    struct pw_sample samples[] = {AT(a, 0), AT(a, 399990), AT(a, 5), AT(a, 399980), AT(a, 2)};
    struct outcome *kept = compare(&world, samples, 5, NULL);
    right(&world, kept, samples, 5);
    for (uint32_t b = 0; b < 5; b++)
        assert_int_equal(kept->rows[b][0], b % 2 ? DAMACY_DECODE : DAMACY_OK);
    forget(kept);
    end_world(&world);
}

static void test_broken(void **state)
{
    (void)state;
    static const enum zw_compressor compressors[] = {ZW_ZSTD, ZW_ZSTD_CHECKSUM, ZW_GZIP, ZW_BLOSC};
    for (uint32_t i = 0; i < 4; i++) {
        struct world world;
        begin_world(&world, 1, 10);
        world.trouble.key = "a/c/0";
        world.trouble.cut_bytes = 100000; /* a byte is left */
        struct zw_array a = write_array(&world, "a", 1, compressors[i]);
        struct pw_sample samples[] = {AT(a, 10), AT(a, 0), AT(a, 50), AT(a, 10)};
        uint32_t without;
        struct outcome *kept = compare(&world, samples, 4, &without);
        for (uint32_t b = 0; b < 4; b++)
            assert_int_equal(kept->rows[b][0], DAMACY_DECODE);
        assert_int_equal(without, 4);
        assert_int_equal(kept->reads, 4);
        assert_int_equal(kept->stats.decode_shared.count, 0);
        forget(kept);
        end_world(&world);
    }
}

static void test_absent(void **state)
{
    (void)state;
    struct world world;
    begin_world(&world, 1, 10);
    struct zw_array a = write_array(&world, "a", 1, ZW_ZSTD);
    world.trouble.key = "a/c/0";
    world.trouble.gone = true;
    struct pw_sample samples[] = {AT(a, 0), AT(a, 60), AT(a, 10), AT(a, 64)};
    struct outcome *kept = compare(&world, samples, 4, NULL);
    for (uint32_t b = 0; b < 4; b++)
        assert_int_equal(kept->rows[b][0], DAMACY_OK);
    assert_int_equal(kept->reads, 3 + 1);
    assert_int_equal(kept->stats.decode_shared.count, 1); /* chunk 1, of the last */
    forget(kept);
    end_world(&world);
}

/* The first to read it fails, the second has it and keeps it for the others; under each policy. */
static void test_first_read_fails(void **state)
{
    (void)state;
    static const enum damacy_on_error policies[] = {DAMACY_RAISE, DAMACY_SKIP, DAMACY_FILL};
    for (uint32_t i = 0; i < 3; i++) {
        struct world world;
        begin_world(&world, 1, 10);
        world.config.on_error = policies[i];
        struct zw_array a = write_array(&world, "a", 1, ZW_ZSTD);
        world.trouble.key = "a/c/0";
        world.trouble.fail_times = 1;
        struct pw_sample samples[] = {AT(a, 0), AT(a, 0), AT(a, 3), AT(a, 3)};
        uint32_t without;
        struct outcome *kept = compare(&world, samples, 4, &without);
        if (policies[i] == DAMACY_RAISE)
            assert_int_equal(kept->status[0], DAMACY_IO);
        if (policies[i] == DAMACY_FILL) {
            assert_int_equal(kept->rows[0][0], DAMACY_IO);
            right(&world, kept, samples, 4);
        }
        assert_int_equal(without, 4);
        assert_int_equal(kept->reads, 2);
        assert_int_equal(kept->stats.decode.count, 1);
        assert_int_equal(kept->stats.decode_shared.count, 2);
        forget(kept);
        end_world(&world);
    }
}

/* --- bounds --- */

/* With little memory nothing is kept, and all is as ever; with much of it no more than its part. */
static void test_memory(void **state)
{
    (void)state;
    static const uint64_t limits[] = {16u << 20, 64u << 20, 100u << 20, 192u << 20, 1u << 30};
    struct world world;
    begin_world(&world, 1, 10);
    struct zw_array a = write_array(&world, "a", 1, ZW_ZSTD);
    struct pw_sample samples[] = {AT(a, 0), AT(a, 5), AT(a, 10), AT(a, 15)};
    for (uint32_t i = 0; i < 5; i++)
        for (uint32_t huge = 0; huge < 2; huge++) {
            struct damacy_config complete;
            struct dmc_config_layout layout;
            struct damacy_error error;
            world.config.max_host_memory_bytes = limits[i];
            world.config.tuning.kept_chunk_bytes = huge ? 1ull << 50 : 0;
            pw_ok(dmc_config_complete(&world.config, &complete, &layout, &error), &error);
            assert_true(layout.kept_bytes <= limits[i] / 32);
            assert_true(layout.kept_bytes == 0 || layout.kept_bytes >= DMC_KEPT_CHUNKS_LEAST);
            assert_int_equal(layout.kept_bytes > 0, i >= 3);
            struct outcome *kept = stream(&world, samples, 4, world.config.tuning.kept_chunk_bytes);
            right(&world, kept, samples, 4);
            assert_int_equal(kept->keeps, layout.kept_bytes > 0);
            assert_int_equal(kept->reads, layout.kept_bytes > 0 ? 1 : 4);
            forget(kept);
        }
    end_world(&world);
}

/* What is larger than the room goes without, and what fits beside it is kept. */
static void test_too_large(void **state)
{
    (void)state;
    struct world world;
    begin_world(&world, 1, 100000);
    struct zw_array large = {.name = "l",
                             .number = 7,
                             .dtype = DAMACY_U16,
                             .rank = 1,
                             .shape = {2200000},
                             .chunk = {2200000},
                             .compressor = ZW_ZSTD};
    struct zw_array small = {
        .name = "s", .number = 8, .dtype = DAMACY_U16, .rank = 1, .shape = {200000}, .chunk = {200000}, .compressor = ZW_ZSTD};
    zw_write(&large, &(struct zw_sink){.memory = world.memory});
    zw_write(&small, &(struct zw_sink){.memory = world.memory});
    /* Of the large one the first would have to keep both ends, for which there is no room; the third only one of them. */
    struct pw_sample samples[] = {AT(large, 0), AT(small, 0), AT(large, 0), AT(large, 2100000), AT(small, 50000)};
    struct outcome *kept = stream(&world, samples, 5, DMC_KEPT_CHUNKS_LEAST);
    right(&world, kept, samples, 5);
    assert_true(kept->keeps);
    assert_int_equal(kept->stats.decode_shared.count, 2);
    assert_int_equal(kept->reads, 3);
    forget(kept);
    end_world(&world);
}

/* Twice as much as there is room for, but never at once: what its last batch has left makes room for the next. */
static void test_room_comes_back(void **state)
{
    (void)state;
    struct world world;
    begin_world(&world, 1, 500000);
    struct zw_array a = {
        .name = "a", .dtype = DAMACY_U16, .rank = 1, .shape = {3000000}, .chunk = {500000}, .compressor = ZW_ZSTD};
    zw_write(&a, &(struct zw_sink){.memory = world.memory});
    struct pw_sample samples[BATCHES_MAX];
    for (uint32_t b = 0; b < BATCHES_MAX; b++)
        samples[b] = AT(a, b / 2 * 500000);
    struct outcome *kept = stream(&world, samples, BATCHES_MAX, DMC_KEPT_CHUNKS_LEAST);
    right(&world, kept, samples, BATCHES_MAX);
    assert_int_equal(kept->stats.decode.count, BATCHES_MAX / 2);
    assert_int_equal(kept->stats.decode_shared.count, BATCHES_MAX / 2);
    forget(kept);
    end_world(&world);
}

/* --- beside guests, and in the middle --- */

/* One batch has a chunk that was kept, and is a guest of another one under way. */
static void test_beside_guests(void **state)
{
    (void)state;
    struct world world;
    struct damacy_batch *held[3];
    begin_world(&world, 1, 40);
    struct zw_array a = write_array(&world, "a", 1, ZW_ZSTD);
    struct pw_sample samples[] = {AT(a, 0), AT(a, 64), AT(a, 50)};
    world.config.tuning.batch_slots = 3;
    world.hold_key = "a/c/1";
    begin_stream(&world, samples, 3, held);
    damacy_release(held[1]);
    struct damacy_batch *batch = pw_pop(world.pipeline);
    assert_true(pw_batch_matches(batch, &samples[0], 1));
    damacy_release(batch);
    wait_planned(&world, 5);
    while (!atomic_load(&world.held))
        pw_nap(1000000);
    damacy_release(held[2]);
    wait_planned(&world, 6);
    dmc_io_resume(atomic_load(&world.held));
    for (uint32_t b = 1; b < 3; b++) {
        batch = pw_pop(world.pipeline);
        assert_true(pw_batch_matches(batch, &samples[b], 1));
        damacy_release(batch);
    }
    struct damacy_stats stats = pw_stats(world.pipeline);
    assert_int_equal(atomic_load(&world.reads), 2);
    assert_int_equal(stats.decode.count, 2);
    assert_int_equal(stats.decode_shared.count, 2);
    assert_int_equal(stats.decode_shared.bytes, 2 * 14 + 2 * 26);
    damacy_release(held[0]);
    damacy_destroy(world.pipeline);
    end_world(&world);
}

/* Destroyed while a chunk is to be kept whose read never ends, and while others are kept for batches that never come. */
static void test_destroy(void **state)
{
    (void)state;
    struct world world;
    struct damacy_batch *held[2];
    begin_world(&world, 1, 40);
    struct zw_array a = write_array(&world, "a", 1, ZW_ZSTD);
    struct pw_sample samples[] = {AT(a, 0), AT(a, 64), AT(a, 50), AT(a, 10)};
    world.trouble.key = "a/c/1";
    world.trouble.hang = true;
    for (uint32_t popped = 0; popped < 2; popped++) {
        begin_stream(&world, samples, 4, held);
        damacy_release(held[1]);
        if (popped) {
            struct damacy_batch *batch = pw_pop(world.pipeline);
            assert_true(pw_batch_matches(batch, &samples[0], 1));
            damacy_release(batch);
        }
        wait_planned(&world, 3 + popped);
        damacy_release(held[0]); /* and then the next is planned, or not */
        damacy_destroy(world.pipeline);
    }
    end_world(&world);
}

/* --- at random --- */

#define ROUNDS 60

static uint64_t run_round(uint64_t seed)
{
    struct pw_random random = {seed};
    struct world world;
    uint32_t batches = (uint32_t)pw_between(&random, 3, BATCHES_MAX), rows = (uint32_t)pw_between(&random, 1, SAMPLES_MAX);
    begin_world(&world, rows, (int64_t)pw_between(&random, 1, 150));
    world.shapes[1][0] = (int64_t)pw_between(&random, 1, 100);
    world.config.field_count = pw_chance(&random, 40) ? 2 : 1;
    world.config.on_error = (enum damacy_on_error)pw_between(&random, 0, 2);
    world.config.verify = pw_chance(&random, 30) ? DAMACY_VERIFY_FULL : DAMACY_VERIFY_NEEDED;
    world.config.tuning.worker_count = (uint32_t)pw_between(&random, 1, 3);
    world.trouble.seed = seed;
    if (pw_chance(&random, 60)) {
        world.trouble.broken = pw_chance(&random, 60) ? (uint32_t)pw_between(&random, 1, 40) : 0;
        world.trouble.failing = pw_chance(&random, 30) ? (uint32_t)pw_between(&random, 1, 20) : 0;
        world.trouble.absent = pw_chance(&random, 30) ? (uint32_t)pw_between(&random, 1, 20) : 0;
    }
    struct zw_array arrays[2];
    for (uint32_t i = 0; i < 2; i++) {
        arrays[i] = (struct zw_array){.number = i, .dtype = DAMACY_U16, .rank = 1, .shape = {600}, .fill_nonzero = true};
        snprintf(arrays[i].name, sizeof arrays[i].name, "a%u", i);
        arrays[i].chunk[0] = pw_between(&random, 40, 300);
        arrays[i].shard[0] = pw_chance(&random, 40) ? 2 * arrays[i].chunk[0] : 0;
        arrays[i].compressor = (enum zw_compressor)pw_between(&random, ZW_ZSTD, ZW_BLOSC);
        pw_random_frame(&random, &arrays[i]);
        arrays[i].big_endian = pw_chance(&random, 20);
        arrays[i].index_crc32c = pw_chance(&random, 70);
        arrays[i].missing_chunks = pw_chance(&random, 30) ? 20 : 0;
        zw_write(&arrays[i], &(struct zw_sink){.memory = world.memory, .alter = spoil, .user = &world.trouble});
    }
    struct pw_sample samples[BATCHES_MAX * SAMPLES_MAX];
    for (uint32_t i = 0; i < batches * rows; i++) {
        samples[i] = (struct pw_sample){.tag = i};
        for (uint32_t f = 0; f < 2; f++) {
            samples[i].arrays[f] = &arrays[pw_between(&random, 0, 1)];
            samples[i].begin[f][0] = (int64_t)pw_between(&random, 0, (uint64_t)(600 - world.shapes[f][0]));
        }
    }
    struct outcome *kept = compare(&world, samples, batches, NULL);
    if (!world.trouble.broken && !world.trouble.absent && world.config.on_error == DAMACY_FILL)
        right(&world, kept, samples, batches);
    uint64_t shared = kept->stats.decode_shared.count;
    forget(kept);
    end_world(&world);
    return shared;
}

static void test_same_without(void **state)
{
    (void)state;
    uint64_t seed = pw_seed("test_same_without"), shared = 0;
    for (uint32_t i = 0; i < ROUNDS; i++)
        shared += run_round(zw_hash(seed, i));
    printf("%llu chunks kept\n", (unsigned long long)shared);
    assert_true(shared > ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_once),          cmocka_unit_test(test_needs),     cmocka_unit_test(test_several_chunks),
        cmocka_unit_test(test_far_apart),     cmocka_unit_test(test_raw),       cmocka_unit_test(test_broken_beyond),
        cmocka_unit_test(test_broken),        cmocka_unit_test(test_absent),    cmocka_unit_test(test_first_read_fails),
        cmocka_unit_test(test_memory),        cmocka_unit_test(test_too_large), cmocka_unit_test(test_room_comes_back),
        cmocka_unit_test(test_beside_guests), cmocka_unit_test(test_destroy),   cmocka_unit_test(test_same_without),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
