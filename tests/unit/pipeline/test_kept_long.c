/* Chunks that are kept for later batches, over many batches, with far too little room for them: every row is right, and in the
 * end not an entry, a wish or a byte of room has gone astray.
 *
 * Method: random crops out of a few arrays of slow codecs, transposed, rectilinear, with absent and with damaged chunks, in two
 * fields of other dtypes; more batches under way than a plan looks at, of which the caller holds some for long. Some rows of
 * each batch are compared. Then everything that may be made in the table is made, and that is as much as in a new one. */
#include "pipeline/kept_chunks.h"
#include "support/pipeline_world.h"

#define KEPT_BYTES DMC_KEPT_CHUNKS_LEAST
#define BATCHES 3000u
#define SAMPLES 3u
#define ARRAYS 4u
#define HELD_MAX 5u
#define PROBES 5000u

static const struct zw_array arrays[ARRAYS] = {
    {.name = "a",
     .number = 1,
     .dtype = DAMACY_U16,
     .rank = 2,
     .shape = {700, 700},
     .chunk = {180, 180},
     .shard = {360, 360},
     .order = {1, 0},
     .transposed = true,
     .compressor = ZW_GZIP,
     .index_crc32c = true},
    {.name = "b",
     .number = 2,
     .dtype = DAMACY_U8,
     .rank = 2,
     .shape = {600, 500},
     .chunk = {250, 200},
     .order = {0, 1},
     .rectilinear = true,
     .cell_count = {3, 3},
     .cells = {{100, 250, 250}, {200, 150, 150}},
     .compressor = ZW_GZIP},
    {.name = "c",
     .number = 3,
     .dtype = DAMACY_U16,
     .rank = 2,
     .shape = {500, 700},
     .chunk = {120, 250},
     .order = {0, 1},
     .fill_nonzero = true,
     .missing_chunks = 30,
     .big_endian = true,
     .compressor = ZW_GZIP},
    {.name = "broken",
     .number = 4,
     .dtype = DAMACY_U16,
     .rank = 2,
     .shape = {400, 400},
     .chunk = {200, 200},
     .order = {0, 1},
     .crc32c = true,
     .compressor = ZW_GZIP},
};

static bool damage(void *user, const char *key, uint8_t *data, size_t *bytes)
{
    (void)user;
    if (strstr(key, "broken/c/0/1"))
        data[*bytes / 2] ^= 8;
    return true;
}

/* Does the sample need the chunk that is damaged? */
static bool spoiled(const struct pw_sample *sample, const struct damacy_field *fields, uint32_t field_count)
{
    for (uint32_t f = 0; f < field_count; f++)
        if (sample->arrays[f] == &arrays[3] && sample->begin[f][0] < 200 &&
            sample->begin[f][1] + fields[f].sample_shape[1] > 200)
            return true;
    return false;
}

/* How many chunks of `bytes` are kept if there are more than enough of them. */
static uint32_t probe(struct dmc_kept_chunks *chunks, uint64_t bytes, uint64_t batch_id)
{
    struct dmc_array array = {0};
    struct dmc_plan_array plan_array = {.zarr = NULL};
    uint32_t made = 0;
    atomic_init(&array.references, 1);
    for (uint32_t i = 0; i < PROBES; i++) {
        struct dmc_chunk_ask ask = {&plan_array, i, 0, 1, 0, bytes};
        dmc_kept_chunks_want(chunks, batch_id + 1, &ask);
        made += dmc_kept_chunks_make(chunks, batch_id, &ask, false, &array) != NULL;
    }
    dmc_kept_chunks_planned(chunks, batch_id + 1, batch_id + 2);
    assert_int_equal(atomic_load(&array.references), 1);
    return made;
}

static void same_as_new(struct dmc_kept_chunks *used, uint64_t batch_id)
{
    struct dmc_kept_chunks *new = NULL;
    struct damacy_error error;
    pw_ok(dmc_kept_chunks_create(KEPT_BYTES, &new, &error), &error);
    dmc_kept_chunks_planned(used, batch_id, batch_id + 1); /* what the last batches had is free now, too */
    static const uint64_t sizes[] = {1, 1000, 60000, 1u << 20};
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint32_t should = probe(new, sizes[i], 2 * i);
        assert_true(should > 0);
        assert_int_equal(probe(used, sizes[i], batch_id + 1 + 2 * i), should);
    }
    dmc_kept_chunks_destroy(new);
}

static void test_long(void **state)
{
    (void)state;
    struct pw_random random = {pw_seed("test_long")};
    struct dmc_store *memory = pw_memory();
    struct zw_sink sink = {.memory = memory, .alter = damage};
    for (uint32_t i = 0; i < ARRAYS; i++)
        zw_write(&arrays[i], &sink);
    static const int64_t wide[] = {20, 35}, small[] = {9, 9};
    static const struct damacy_field fields[] = {{"wide", 2, wide, DAMACY_F32}, {"small", 2, small, DAMACY_U16}};
    struct damacy_field unused;
    struct damacy_config config = pw_config(&unused, SAMPLES, 2, wide, DAMACY_F32);
    config.fields = fields;
    config.field_count = 2;
    config.on_error = DAMACY_FILL;
    config.tuning.worker_count = 4;
    config.tuning.batch_slots = 12;
    config.tuning.lookahead_samples = 128;
    config.tuning.kept_chunk_bytes = KEPT_BYTES;
    struct damacy *pipeline = pw_create(&config, memory);
    assert_non_null(pipeline->kept_chunks);
    static struct pw_sample samples[BATCHES * SAMPLES];
    for (uint32_t i = 0; i < BATCHES * SAMPLES; i++) {
        samples[i].tag = i;
        for (uint32_t f = 0; f < 2; f++) {
            const struct zw_array *array = &arrays[pw_between(&random, 0, pw_chance(&random, 10) ? ARRAYS - 1 : ARRAYS - 2)];
            samples[i].arrays[f] = array;
            for (uint32_t a = 0; a < 2; a++)
                samples[i].begin[f][a] = (int64_t)pw_between(&random, 0, array->shape[a] - (uint64_t)fields[f].sample_shape[a]);
        }
    }
    struct damacy_batch *held[HELD_MAX];
    uint32_t held_count = 0;
    for (uint32_t popped = 0, pushed = 0; popped < BATCHES; popped++) {
        struct damacy_error error;
        enum damacy_status status = DAMACY_OK;
        while (status == DAMACY_OK && pushed < BATCHES * SAMPLES)
            pushed += (status = pw_try_push(pipeline, "memory://", &samples[pushed], &error)) == DAMACY_OK;
        zw_require(status == DAMACY_OK || status == DAMACY_AGAIN);
        struct damacy_batch *batch = pw_pop(pipeline);
        struct damacy_batch_info info = pw_info(batch);
        assert_int_equal(info.row_count, SAMPLES);
        for (uint32_t i = 0; i < SAMPLES; i++) {
            const struct pw_sample *sample = &samples[popped * SAMPLES + i];
            assert_int_equal(info.rows[i].tag, sample->tag);
            assert_int_equal(info.rows[i].status, spoiled(sample, fields, 2) ? DAMACY_DECODE : DAMACY_OK);
            if (!info.rows[i].status)
                zw_require(pw_row_matches(&info, i, sample));
        }
        held[held_count++] = batch;
        while (held_count && (held_count == HELD_MAX || pw_chance(&random, 50))) {
            uint32_t which = (uint32_t)pw_between(&random, 0, held_count - 1);
            damacy_release(held[which]);
            held[which] = held[--held_count];
        }
    }
    while (held_count)
        damacy_release(held[--held_count]);
    printf("%llu chunks decoded, %llu shared\n", (unsigned long long)pw_stats(pipeline).decode.count,
           (unsigned long long)pw_stats(pipeline).decode_shared.count);
    dmc_mutex_lock(&pipeline->home->lock); /* nobody plans, as there is nothing to plan */
    same_as_new(pipeline->kept_chunks, BATCHES - 1);
    dmc_mutex_unlock(&pipeline->home->lock);
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_long)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
