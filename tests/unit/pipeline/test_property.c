/* Random arrays and random crops against the naive reader, under random settings: worker counts, verify, coalescing limits,
 * buffers of one page, small caches.
 *
 * Method: each round makes a few arrays (rank 1 to 5, any dtype, complex numbers, chunks and shards that do not divide,
 * rectilinear grids of chunks and of shards, every codec, both byte orders, transposed inside shards and around them, index at
 * either end, missing chunks and shards, fill values), streams crops of them through pipelines with different settings, and
 * compares every element. Since all must equal the naive reader, all are equal. */
#include "base/dtype.h"
#include "support/pipeline_world.h"

#define ROUNDS 300
#define PIPELINES 2
#define ARRAYS 4
#define BATCHES 4
#define SAMPLES_MAX 6

static enum damacy_dtype random_source(struct pw_random *random)
{
    static const enum damacy_dtype types[] = {DAMACY_BOOL, DAMACY_I8,  DAMACY_I16, DAMACY_I32, DAMACY_I64,
                                              DAMACY_U8,   DAMACY_U16, DAMACY_U32, DAMACY_U64, DAMACY_F16,
                                              DAMACY_F32,  DAMACY_F64, DAMACY_BF16};
    return types[pw_between(random, 0, 12)];
}

/* One that every array's values may become; f16 and bf16 only from themselves, see zw_convert(). */
static enum damacy_dtype random_output(struct pw_random *random, const struct zw_array *arrays)
{
    for (int tries = 0; tries < 20; tries++) {
        enum damacy_dtype output = (enum damacy_dtype)pw_between(random, 0, DAMACY_F64);
        bool fits = true;
        for (uint32_t i = 0; i < ARRAYS; i++) {
            enum damacy_dtype source = arrays[i].dtype;
            fits &= output == DAMACY_NATIVE ? source == arrays[0].dtype : dmc_dtype_converts(source, output);
            if (output == DAMACY_F16 || output == DAMACY_BF16)
                fits &= source == output;
        }
        if (fits)
            return output;
    }
    return DAMACY_F32;
}

/* Chunks of random extents along an axis, which may reach beyond the end; shards of random numbers of chunks. */
static void random_cells(struct pw_random *random, struct zw_array *array, uint32_t axis)
{
    uint64_t step = zw_sharded(array) ? array->chunk[axis] : 1;
    uint64_t end = 0, longest = 0, most = zw_grid(array)[axis] / step;
    uint32_t count = 0;
    while (end < array->shape[axis] || (count < ZW_CELLS && pw_chance(random, 20))) {
        bool rest = count + 1 == ZW_CELLS && end < array->shape[axis];
        uint64_t extent = rest ? (array->shape[axis] - end + step - 1) / step * step : step * pw_between(random, 1, most);
        longest = extent > longest ? extent : longest;
        array->cells[axis][count++] = extent;
        end += extent;
    }
    array->cell_count[axis] = count;
    *(zw_sharded(array) ? &array->shard[axis] : &array->chunk[axis]) = longest;
}

/* `pairs`: complex numbers, whose parts are the last axis. */
static void random_array(struct pw_random *random, uint32_t number, uint32_t rank, enum damacy_dtype dtype, bool pairs,
                         struct zw_array *array)
{
    static const uint64_t extents_max[] = {0, 700, 40, 14, 8, 6};
    *array = (struct zw_array){.number = number, .dtype = dtype, .rank = rank, .complex = pairs};
    uint32_t key_rank = zw_key_rank(array);
    snprintf(array->name, sizeof array->name, "a%u", number);
    bool sharded = pw_chance(random, 60);
    for (uint32_t a = 0; a < rank; a++) {
        array->shape[a] = pw_between(random, 2, extents_max[rank]);
        array->chunk[a] = pw_between(random, 1, pw_chance(random, 20) ? array->shape[a] + 3 : 1 + array->shape[a] / 2);
        array->shard[a] = sharded ? array->chunk[a] * pw_between(random, 1, 4) : 0;
        array->order[a] = array->shard_order[a] = a;
    }
    if (pairs) {
        array->shape[key_rank] = array->chunk[key_rank] = 2;
        array->shard[key_rank] = sharded ? 2 : 0;
    }
    array->transposed = pw_chance(random, 30);
    pw_shuffle(random, array->order, key_rank);
    array->shard_transposed = sharded && pw_chance(random, 30);
    pw_shuffle(random, array->shard_order, key_rank);
    array->rectilinear = pw_chance(random, sharded ? 30 : 50);
    for (uint32_t a = 0; array->rectilinear && a < key_rank; a++)
        if (pw_chance(random, 70))
            random_cells(random, array, a);
    array->big_endian = pw_chance(random, 30);
    array->compressor = (enum zw_compressor)pw_between(random, 0, ZW_BLOSC);
    pw_random_frame(random, array);
    array->index_at_start = pw_chance(random, 30);
    array->index_crc32c = pw_chance(random, 70);
    array->index_big_endian = pw_chance(random, 10);
    array->v2_keys = pw_chance(random, 30);
    array->separator = pw_chance(random, 30) ? '.' : pw_chance(random, 30) ? '/' : 0;
    array->fill_nonzero = pw_chance(random, 60);
    array->missing_chunks = pw_chance(random, 40) ? (uint32_t)pw_between(random, 1, 60) : 0;
    array->missing_shards = pw_chance(random, 30) ? (uint32_t)pw_between(random, 1, 60) : 0;
}

static void random_tuning(struct pw_random *random, struct damacy_config *config)
{
    static const uint32_t workers[] = {1, 2, 3, 6};
    static const uint64_t gaps[] = {0, 1, 2, 50, 100000}, reads[] = {0, 1, 64, 1000}, buffers[] = {0, 1, 4096, 20000};
    struct damacy_tuning *tuning = &config->tuning;
    tuning->worker_count = workers[pw_between(random, 0, 3)];
    tuning->batch_slots = (uint32_t)pw_between(random, 2, 4);
    tuning->coalesce_gap_bytes = gaps[pw_between(random, 0, 4)];
    tuning->coalesce_read_bytes_max = reads[pw_between(random, 0, 3)];
    tuning->worker_bytes = buffers[pw_between(random, 0, 3)];
    tuning->reads_in_flight = (uint32_t)pw_between(random, 0, 3);
    tuning->metadata_reads_in_flight = (uint32_t)pw_between(random, 0, 3);
    tuning->lookahead_samples = (uint32_t)pw_between(random, 0, 5);
    tuning->prefetch_samples = pw_chance(random, 50) ? config->samples_per_batch : 0;
    if (pw_chance(random, 40)) { /* a batch's metadata fit, and not many more */
        tuning->array_meta_cache_bytes = 400u << 10;
        tuning->shard_index_cache_bytes = 600u << 10;
    }
    config->verify = pw_chance(random, 50) ? DAMACY_VERIFY_FULL : DAMACY_VERIFY_NEEDED;
}

static void stream(struct pw_random *random, const char *prefix, struct dmc_store *memory, const struct zw_array *arrays)
{
    int64_t shape[ZW_RANK];
    uint32_t rank = arrays[0].rank;
    for (uint32_t a = 0; a < rank; a++) {
        uint64_t least = UINT64_MAX;
        for (uint32_t i = 0; i < ARRAYS; i++)
            least = arrays[i].shape[a] < least ? arrays[i].shape[a] : least;
        shape[a] = (int64_t)pw_between(random, 1, pw_chance(random, 30) ? least : 1 + least / 2);
    }
    struct damacy_field field;
    struct damacy_config config =
        pw_config(&field, (uint32_t)pw_between(random, 1, SAMPLES_MAX), rank, shape, random_output(random, arrays));
    random_tuning(random, &config);
    struct damacy *pipeline = pw_create(&config, memory);
    uint32_t total = config.samples_per_batch * BATCHES - (uint32_t)pw_between(random, 0, config.samples_per_batch - 1),
             pushed = 0, popped = 0;
    struct pw_sample samples[BATCHES * SAMPLES_MAX];
    for (uint32_t i = 0; i < total; i++) {
        const struct zw_array *array = &arrays[pw_between(random, 0, ARRAYS - 1)];
        samples[i] = (struct pw_sample){.arrays = {array}, .tag = pw_next(random)};
        for (uint32_t a = 0; a < rank; a++)
            samples[i].begin[0][a] = (int64_t)pw_between(random, 0, array->shape[a] - (uint64_t)shape[a]);
    }
    struct damacy_error error;
    while (popped < total) {
        enum damacy_status status = DAMACY_OK;
        while (pushed < total && (status = pw_try_push(pipeline, prefix, &samples[pushed], &error)) == DAMACY_OK)
            pushed++;
        zw_require(status == DAMACY_OK || status == DAMACY_AGAIN);
        if (pushed == total)
            pw_flush(pipeline);
        uint32_t happened;
        pw_ok(damacy_wait(pipeline, DAMACY_WAIT_POP | (pushed < total ? DAMACY_WAIT_PUSH : 0), PW_LONG, &happened, &error),
              &error);
        if (!(happened & DAMACY_WAIT_POP))
            continue;
        struct damacy_batch *batch = pw_pop(pipeline);
        uint32_t count = total - popped < config.samples_per_batch ? total - popped : config.samples_per_batch;
        assert_true(pw_batch_matches(batch, samples + popped, count));
        damacy_release(batch);
        popped += count;
    }
    struct damacy_batch *none;
    assert_int_equal(damacy_pop(pipeline, 0, &none, &error), DAMACY_END);
    damacy_destroy(pipeline);
}

static void run_round(uint64_t seed, bool files)
{
    struct pw_random random = {seed};
    struct zw_array arrays[ARRAYS];
    struct dmc_store *memory = NULL;
    char folder[64], prefix[80] = "memory://";
    struct zw_sink sink = {0};
    if (files) {
        pw_make_folder(folder);
        sink.folder = folder;
        snprintf(prefix, sizeof prefix, "%s/", folder);
    } else {
        sink.memory = memory = pw_memory();
    }
    uint32_t rank = (uint32_t)pw_between(&random, 1, ZW_RANK);
    enum damacy_dtype dtype = random_source(&random);
    bool mixed = pw_chance(&random, 40), numbers = rank >= 2 && pw_chance(&random, 25);
    static const enum damacy_dtype parts[] = {DAMACY_F32, DAMACY_F64, DAMACY_F16, DAMACY_BF16};
    if (numbers)
        dtype = parts[pw_between(&random, 0, 3)];
    for (uint32_t i = 0; i < ARRAYS; i++) {
        bool pairs = numbers && (!mixed || i % 2 == 0); /* beside real arrays of as many axes */
        enum damacy_dtype other = pairs ? parts[pw_between(&random, 0, 3)] : random_source(&random);
        random_array(&random, i, rank, mixed ? other : dtype, pairs, &arrays[i]);
        zw_write(&arrays[i], &sink);
    }
    for (uint32_t i = 0; i < PIPELINES; i++)
        stream(&random, prefix, memory, arrays);
    dmc_store_destroy(memory);
    if (files)
        pw_remove_folder(folder);
}

/* DAMACY_TEST_ROUNDS asks for other than the usual number: fewer where each kernel runs under a checker. */
static uint32_t rounds(void)
{
    const char *text = getenv("DAMACY_TEST_ROUNDS");
    return text ? (uint32_t)strtoul(text, NULL, 10) : ROUNDS;
}

static void test_random_arrays(void **state)
{
    (void)state;
    uint64_t seed = pw_seed("test_random_arrays");
    for (uint32_t i = 0; i < rounds(); i++)
        run_round(zw_hash(seed, i), false);
}

static void test_random_files(void **state)
{
    (void)state;
    uint64_t seed = pw_seed("test_random_files");
    for (uint32_t i = 0; i < (rounds() + 9) / 10; i++)
        run_round(zw_hash(seed, 1000000 + i), true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_arrays), cmocka_unit_test(test_random_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
