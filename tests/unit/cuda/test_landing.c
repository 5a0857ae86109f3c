/* Reads that go straight into a wave: many chunks a read, chunks that the decoder refuses, waves that get full in the middle of
 * a read, damage in the middle of a read, reads that end late and out of order, and no memory for what has to move out of a
 * wave.
 *
 * Method: shards of 256 small chunks that are read in one piece each, over a driver that keeps device memory on the host, with
 * so little device memory that a wave takes 192 chunks; compared with the naive reader. */
#define PW_CUDA
#include "support/pipeline_world.h"

#define SIDE 256
#define SAMPLES 4
#define BATCHES 6
static const int64_t sample_shape[] = {240, 240};

enum { PLAIN, CHECKED, BLOSC, REFUSED, UNCOMPRESSED, HOLES, KINDS };

static void describe(struct zw_array *array, uint32_t kind)
{
    *array = (struct zw_array){.number = 100 + kind,
                               .dtype = DAMACY_U16,
                               .rank = 2,
                               .shape = {SIDE, SIDE},
                               .chunk = {16, 16},
                               .shard = {SIDE, SIDE},
                               .compressor = kind == UNCOMPRESSED               ? ZW_RAW
                                             : kind == BLOSC || kind == REFUSED ? ZW_BLOSC
                                                                                : ZW_ZSTD,
                               .blosc_name = kind == REFUSED ? "zlib" : "lz4",
                               .blosc_shuffle = BLOSC_SHUFFLE,
                               .crc32c = kind == CHECKED,
                               .index_crc32c = true,
                               .fill_nonzero = true,
                               .missing_chunks = kind == HOLES ? 30 : 0};
    snprintf(array->name, sizeof array->name, "kind%u", kind);
}

static struct damacy *start(struct dmc_store *store, enum damacy_decode decode, uint64_t worker_bytes,
                            enum damacy_on_error on_error, uint32_t samples)
{
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, samples, 2, sample_shape, DAMACY_U16);
    config.tuning.worker_bytes = worker_bytes;
    config.tuning.coalesce_gap_bytes = 1 << 20;
    config.tuning.coalesce_read_bytes_max = 1 << 20;
    config.max_gpu_memory_bytes = 24 << 20; /* waves of the smallest size */
    config.on_error = on_error;
    config.decode = decode;
    return pw_create(&config, store);
}

static struct pw_sample sample_of(const struct zw_array *array, uint32_t i)
{
    return (struct pw_sample){.arrays = {array}, .begin = {{i % 17, i * 5 % 17}}, .tag = i};
}

/* Streams samples of all arrays and compares; returns the chunks that the CPU and the device decoded. */
static struct damacy_stats stream(struct dmc_store *store, enum damacy_decode decode, const struct zw_array *arrays,
                                  uint32_t count, uint64_t worker_bytes)
{
    struct damacy *pipeline = start(store, decode, worker_bytes, DAMACY_RAISE, SAMPLES);
    struct pw_sample samples[SAMPLES * BATCHES];
    uint32_t pushed = 0;
    for (uint32_t batch = 0; batch < BATCHES; batch++) {
        for (; pushed < SAMPLES * BATCHES && pushed < (batch + 2) * SAMPLES; pushed++) {
            samples[pushed] = sample_of(&arrays[pushed % count], pushed);
            pw_push_wait(pipeline, "memory://", &samples[pushed]);
        }
        struct damacy_batch *popped = pw_pop(pipeline);
        assert_true(pw_batch_matches(popped, &samples[batch * SAMPLES], SAMPLES));
        damacy_release(popped);
    }
    struct damacy_stats stats = DAMACY_STATS_INIT;
    struct damacy_error error;
    pw_ok(damacy_stats_get(pipeline, &stats, &error), &error);
    damacy_destroy(pipeline);
    return stats;
}

static void test_each_kind(void **state)
{
    (void)state;
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        struct dmc_store *memory = pw_memory();
        struct zw_array array;
        describe(&array, kind);
        zw_write(&array, &(struct zw_sink){.memory = memory});
        /* What the device can decode it does, however fast the cores are. */
        enum damacy_decode decode = kind == REFUSED ? DAMACY_DECODE_AUTO : DAMACY_DECODE_GPU;
        struct damacy_stats stats = stream(memory, decode, &array, 1, 0);
        if (kind == REFUSED || kind == UNCOMPRESSED)
            assert_int_equal(stats.gpu_decode.count, 0);
        else
            assert_true(stats.gpu_decode.count > stats.decode.count); /* a few do not fit the wave they were read into */
        dmc_store_destroy(memory);
    }
}

static uint64_t random_delay(void *user, const char *key)
{
    _Atomic uint64_t *number = user;
    return zw_hash(dmc_hash_bytes(key, strlen(key), 0), atomic_fetch_add(number, 1)) % 2000000;
}

static void test_late_reads(void **state)
{
    static _Atomic uint64_t number;
    (void)state;
    number = pw_seed("test_late_reads");
    struct zw_array arrays[KINDS];
    struct dmc_store *memory = pw_memory(), *late = NULL;
    struct damacy_error error;
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        describe(&arrays[kind], kind);
        zw_write(&arrays[kind], &(struct zw_sink){.memory = memory});
    }
    pw_ok(dmc_store_delay_create(memory, random_delay, (void *)&number, &late, &error), &error);
    stream(late, DAMACY_DECODE_AUTO, arrays, KINDS, 0);
    stream(late, DAMACY_DECODE_AUTO, arrays, KINDS, 1); /* one read at a time has memory outside a wave */
    dmc_store_destroy(late);
    dmc_store_destroy(memory);
}

static bool damage(void *user, const char *key, uint8_t *data, size_t *bytes)
{
    (void)user;
    if (strstr(key, "/c/"))
        memset(data + *bytes / 2, 0xa5, 256);
    return true;
}

static void test_damage_between(void **state)
{
    (void)state;
    static const uint32_t kinds[] = {PLAIN, CHECKED, BLOSC, REFUSED};
    struct dmc_store *memory = pw_memory();
    struct zw_array good, bad[4];
    describe(&good, UNCOMPRESSED);
    zw_write(&good, &(struct zw_sink){.memory = memory});
    for (uint32_t i = 0; i < 4; i++) {
        describe(&bad[i], kinds[i]);
        zw_write(&bad[i], &(struct zw_sink){.memory = memory, .alter = damage});
    }
    struct damacy *pipeline = start(memory, DAMACY_DECODE_AUTO, 0, DAMACY_SKIP, 8);
    struct pw_sample samples[8], expected[4];
    for (uint32_t i = 0; i < 8; i++) {
        samples[i] = sample_of(i % 2 ? &good : &bad[i / 2], i);
        pw_push_wait(pipeline, "memory://", &samples[i]);
        if (i % 2)
            expected[i / 2] = samples[i];
    }
    struct damacy_batch *popped = pw_pop(pipeline);
    assert_true(pw_batch_matches(popped, expected, 4));
    damacy_release(popped);
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_kind),
        cmocka_unit_test(test_late_reads),
        cmocka_unit_test(test_damage_between),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
