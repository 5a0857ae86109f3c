/* Goal: with gpu_direct_storage the device reads uncompressed chunks of files itself, and nothing else, with the same bits; its
 * reads are not copied again; whatever libcufile refuses is read as usual, with the same bits or the same errors; files that
 * are kept open are bounded; what is missing is named.
 *
 * Method: a libcufile that preads into the fake device's memory (tests/support/fake_cufile.h), arrays in files of every layout
 * that matters, compared with the naive reader; each function of the library fails in turn. */
#define PW_CUDA
#include "support/fake_cufile.h"
#include "support/pipeline_world.h"

#include <fcntl.h>

#define SAMPLES 4
#define BATCHES 8
static const int64_t sample_shape[] = {100, 90};

enum { SHARDED, INDEX_FIRST, FILES, HOLES, SWAPPED, DIRECT_KINDS, ZSTD = DIRECT_KINDS, CHECKED, KINDS };
static struct zw_array arrays[KINDS];
static char folder[64];

static int make_arrays(void **state)
{
    (void)state;
    pw_make_folder(folder);
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        arrays[kind] = (struct zw_array){.number = 300 + kind,
                                         .dtype = DAMACY_U16,
                                         .rank = 2,
                                         .shape = {250, 230},
                                         .chunk = {32, 48},
                                         .compressor = kind == ZSTD ? ZW_ZSTD : ZW_RAW,
                                         .crc32c = kind == CHECKED,
                                         .big_endian = kind == SWAPPED,
                                         .index_at_start = kind == INDEX_FIRST,
                                         .fill_nonzero = true,
                                         .missing_chunks = kind == HOLES ? 30 : 0};
        if (kind == SHARDED || kind == INDEX_FIRST || kind == SWAPPED || kind == CHECKED) {
            arrays[kind].shard[0] = 128;
            arrays[kind].shard[1] = 144;
        }
        snprintf(arrays[kind].name, sizeof arrays[kind].name, "kind%u", kind);
        zw_write(&arrays[kind], &(struct zw_sink){.folder = folder});
    }
    return 0;
}

static int remove_arrays(void **state)
{
    (void)state;
    pw_remove_folder(folder);
    return 0;
}

/* Where files cannot be opened for direct I/O there is nothing to test. */
static int before_each(void **state)
{
    (void)state;
    char path[128];
    fake_cufile_reset();
    snprintf(path, sizeof path, "%s/kind0/zarr.json", folder);
    int fd = open(path, O_RDONLY | O_DIRECT);
    if (fd >= 0)
        close(fd);
    *state = fd < 0 ? "skip" : NULL;
    return 0;
}
#define NEEDS_DIRECT_IO                                                                                                        \
    if (*state)                                                                                                                \
    skip()

struct wanted {
    bool off;
    uint32_t open_files_max, workers;
    enum damacy_on_error on_error;
};

static enum damacy_status try_start(const struct wanted *wanted, struct damacy **pipeline, struct damacy_error *error)
{
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, SAMPLES, 2, sample_shape, DAMACY_F32);
    config.tuning.open_files_max = wanted->open_files_max;
    config.tuning.worker_count = wanted->workers ? wanted->workers : 2;
    config.max_gpu_memory_bytes = 24 << 20; /* waves of the smallest size */
    config.on_error = wanted->on_error;
    config.gpu_direct_storage = !wanted->off;
    struct dmc_pipeline_extras extras = {.cuda_cufile = &fake_cufile};
    struct damacy_config placed = pw_placed(&config, &extras);
    return dmc_pipeline_create(&placed, &extras, pipeline, error);
}

static struct damacy *start(const struct wanted *wanted)
{
    struct damacy *pipeline = NULL;
    struct damacy_error error;
    pw_ok(try_start(wanted, &pipeline, &error), &error);
    return pipeline;
}

/* End it; everything was given back. */
static void finish(struct damacy *pipeline, struct damacy_stats *stats)
{
    struct damacy_error error;
    *stats = (struct damacy_stats)DAMACY_STATS_INIT;
    pw_ok(damacy_stats_get(pipeline, stats, &error), &error);
    damacy_destroy(pipeline);
    assert_true(fake_is_clean());
    assert_int_equal(fake_cufile_state.files, 0);
    assert_int_equal(fake_cufile_state.memories, 0);
}

/* Samples of kinds [begin, end) in turn, compared with what they should be. */
static struct damacy_stats stream(const struct wanted *wanted, uint32_t begin, uint32_t end)
{
    char prefix[80];
    struct damacy *pipeline = start(wanted);
    struct pw_sample samples[SAMPLES * BATCHES];
    uint32_t pushed = 0;
    snprintf(prefix, sizeof prefix, "%s/", folder);
    for (uint32_t batch = 0; batch < BATCHES; batch++) {
        for (; pushed < SAMPLES * BATCHES && pushed < (batch + 2) * SAMPLES; pushed++) {
            samples[pushed] = (struct pw_sample){.arrays = {&arrays[begin + pushed % (end - begin)]},
                                                 .begin = {{pushed * 31 % 150, pushed * 17 % 140}},
                                                 .tag = pushed};
            pw_push_wait(pipeline, prefix, &samples[pushed]);
        }
        struct damacy_batch *popped = pw_pop(pipeline);
        assert_true(pw_batch_matches(popped, &samples[batch * SAMPLES], SAMPLES));
        damacy_release(popped);
    }
    struct damacy_stats stats;
    finish(pipeline, &stats);
    return stats;
}

static void test_each_kind(void **state)
{
    NEEDS_DIRECT_IO;
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        fake_cufile_reset();
        struct damacy_stats with = stream(&(struct wanted){0}, kind, kind + 1);
        uint64_t reads = fake_cufile_state.calls[FAKE_CUFILE_READ];
        struct damacy_stats without = stream(&(struct wanted){.off = true}, kind, kind + 1);
        assert_int_equal(fake_cufile_state.calls[FAKE_CUFILE_READ], reads);
        assert_int_equal(with.gpu_direct_read.count, reads);
        assert_int_equal(with.gpu_direct_fallback.count, 0);
        assert_int_equal(without.gpu_direct_read.count, 0);
        assert_int_equal(with.read.bytes, without.read.bytes);
        if (kind < DIRECT_KINDS) { /* all of them, and none is copied */
            assert_true(reads > 0);
            assert_int_equal(with.gpu_direct_read.bytes, with.read.bytes);
            assert_true(with.input_transfer.bytes + with.gpu_direct_read.bytes <= without.input_transfer.bytes);
        } else {
            assert_int_equal(reads, 0);
        }
    }
}

static void test_mixed(void **state)
{
    NEEDS_DIRECT_IO;
    for (uint32_t workers = 1; workers <= 4; workers += 3) {
        struct damacy_stats stats = stream(&(struct wanted){.workers = workers}, 0, KINDS);
        assert_true(stats.gpu_direct_read.count > 0 && stats.gpu_direct_read.count < stats.read.count);
        assert_int_equal(stats.gpu_direct_fallback.count, 0);
    }
}

static void test_bounded(void **state)
{
    NEEDS_DIRECT_IO;
    stream(&(struct wanted){.open_files_max = 8}, FILES, FILES + 1);
    assert_true(fake_cufile_state.calls[FAKE_CUFILE_FILE] > 8);
    assert_in_range(fake_cufile_state.files_most, 2, 4); /* a quarter, and those that two readers are opening */
    fake_cufile_reset();
    stream(&(struct wanted){0}, FILES, FILES + 1);
    assert_in_range(fake_cufile_state.calls[FAKE_CUFILE_FILE], 2, 8 * 5 * 2); /* each chunk's file once, or by both readers */
}

/* What starting the library says. */
static void test_start_fails(void **state)
{
    (void)state;
    static const struct {
        enum fake_cufile_call call;
        int32_t error;
        const char *words[2];
    } cases[] = {
        {FAKE_CUFILE_OPEN, 5001, {"nvidia-fs is not loaded", "modprobe nvidia-fs"}},
        {FAKE_CUFILE_OPEN, 5007, {"cuFileDriverOpen: 5007 (this platform", "gdscheck"}},
        {FAKE_CUFILE_OPEN, 5011, {"the CUDA driver failed with 0", "gpu_direct_storage off"}},
        {FAKE_CUFILE_PROPERTIES, 5022, {"cuFileDriverGetProperties: 5022", "gpu_direct_storage is on"}},
    };
    struct damacy *pipeline = NULL;
    struct damacy_error error;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fake_cufile_reset();
        fake_cufile_state.fail_at[cases[i].call] = 1;
        fake_cufile_state.error = cases[i].error;
        assert_int_equal(try_start(&(struct wanted){0}, &pipeline, &error), DAMACY_UNSUPPORTED);
        assert_non_null(strstr(error.message, cases[i].words[0]));
        assert_non_null(strstr(error.message, cases[i].words[1]));
        assert_true(fake_is_clean());
    }
    fake_cufile_reset();
    fake_cufile_state.device_cache_kib = 32 << 10; /* more than there is */
    assert_int_equal(try_start(&(struct wanted){0}, &pipeline, &error), DAMACY_BUDGET);
    assert_non_null(strstr(error.message, "max_device_cache_size_kb"));
    fake_cufile_state.device_cache_kib = 23 << 10; /* leaves too little for waves */
    assert_int_equal(try_start(&(struct wanted){0}, &pipeline, &error), DAMACY_BUDGET);
    assert_non_null(strstr(error.message, "max_gpu_memory_bytes"));
    assert_true(fake_is_clean());
    fake_cufile_reset();
    fake_cufile_state.fail_at[FAKE_CUFILE_OPEN] = 1;
    fake_cufile_state.error = 5026; /* somebody else has opened it: fine */
    stream(&(struct wanted){0}, SHARDED, SHARDED + 1);
}

static void test_memory_refused(void **state)
{
    NEEDS_DIRECT_IO;
    fake_cufile_state.fail_at[FAKE_CUFILE_MEMORY] = 2;
    struct damacy_stats stats = stream(&(struct wanted){0}, 0, DIRECT_KINDS);
    assert_true(stats.gpu_direct_read.count > 0);
    assert_int_equal(stats.gpu_direct_fallback.count, 0);
}

/* Files refused: from the first, and from some on. An array of which one was is not tried again by the same reader. */
static void test_files_refused(void **state)
{
    NEEDS_DIRECT_IO;
    fake_cufile_state.fail_at[FAKE_CUFILE_FILE] = 1;
    struct damacy_stats stats = stream(&(struct wanted){0}, FILES, FILES + 1);
    assert_int_equal(stats.gpu_direct_read.count, 0);
    assert_int_equal(stats.gpu_direct_fallback.count, stats.read.count);
    assert_in_range(fake_cufile_state.calls[FAKE_CUFILE_FILE], 1, 2); /* readers */
    fake_cufile_reset();
    fake_cufile_state.fail_at[FAKE_CUFILE_FILE] = 10;
    stats = stream(&(struct wanted){0}, 0, KINDS);
    assert_true(stats.gpu_direct_read.count > 0 && stats.gpu_direct_fallback.count > 0);
}

static void test_reads_fail(void **state)
{
    NEEDS_DIRECT_IO;
    for (uint64_t n = 1; n < 30; n += 7)
        for (int32_t error = 1; error < 6000; error += 5007) {
            fake_cufile_reset();
            fake_cufile_state.fail_at[FAKE_CUFILE_READ] = n;
            fake_cufile_state.error = error;
            struct damacy_stats stats = stream(&(struct wanted){0}, 0, KINDS);
            assert_int_equal(stats.gpu_direct_read.count, n - 1);
            assert_true(stats.gpu_direct_fallback.count > 0);
        }
    fake_cufile_reset();
    fake_cufile_state.bytes_short = DMC_CUFILE_ALIGN; /* the last page of each is missing */
    struct damacy_stats stats = stream(&(struct wanted){0}, 0, KINDS);
    assert_true(stats.gpu_direct_fallback.count > 0);
}

/* The same message as without. */
static void damaged(const char *path, bool off, struct damacy_error *error)
{
    char prefix[80];
    struct damacy *pipeline = start(&(struct wanted){.off = off, .workers = 1});
    struct damacy_batch *batch;
    struct damacy_stats stats;
    snprintf(prefix, sizeof prefix, "%s/", folder);
    for (uint32_t i = 0; i < SAMPLES; i++)
        pw_push_wait(pipeline, prefix,
                     &(struct pw_sample){.arrays = {&arrays[strstr(path, "kind0") ? SHARDED : FILES]}, .begin = {{0, 0}}});
    assert_true(damacy_pop(pipeline, PW_LONG, &batch, error) != DAMACY_OK);
    finish(pipeline, &stats);
}

static void test_damaged_files(void **state)
{
    NEEDS_DIRECT_IO;
    static const char *const objects[] = {"kind2/c/0/0", "kind2/c/0/0", "kind0/c/0/0"};
    static const int64_t sizes[] = {1000, 10000, 4500}; /* cut, too long, and a shard cut off before its index is read */
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char path[160], saved[200], command[400];
        struct damacy_error with, without;
        snprintf(path, sizeof path, "%s/%s", folder, objects[i]);
        snprintf(saved, sizeof saved, "%s.saved", path);
        snprintf(command, sizeof command, "cp '%s' '%s'", path, saved);
        zw_require(system(command) == 0);
        zw_require(truncate(path, sizes[i]) == 0);
        damaged(path, false, &with);
        damaged(path, true, &without);
        assert_string_equal(with.message, without.message);
        assert_non_null(strstr(with.message, "c/0/0"));
        zw_require(rename(saved, path) == 0);
    }
    stream(&(struct wanted){0}, 0, KINDS);
}

/* A folder in place of a file, and a file that may not be read: what the ordinary read says. */
static void test_not_a_file(void **state)
{
    NEEDS_DIRECT_IO;
    char path[160], saved[200];
    struct damacy_error with, without;
    snprintf(path, sizeof path, "%s/kind2/c/0/0", folder);
    snprintf(saved, sizeof saved, "%s.saved", path);
    zw_require(rename(path, saved) == 0 && mkdir(path, 0777) == 0);
    damaged(path, false, &with);
    damaged(path, true, &without);
    assert_string_equal(with.message, without.message);
    zw_require(rmdir(path) == 0 && rename(saved, path) == 0);
}

/* The n-th call of the driver fails, and all after it: an end, not a crash, and nothing is left. */
static void test_driver_fails(void **state)
{
    (void)state;
    char prefix[80];
    snprintf(prefix, sizeof prefix, "%s/", folder);
    for (uint64_t n = 1; n < 400; n = n * 5 / 4 + 1) {
        struct damacy *pipeline = NULL;
        struct damacy_error error;
        fake_cufile_reset();
        fake.calls = 0;
        fake.fail_at = n;
        if (try_start(&(struct wanted){0}, &pipeline, &error) == DAMACY_OK) {
            struct damacy_batch *batch = NULL;
            for (uint32_t i = 0; i < SAMPLES; i++)
                pw_push_wait(pipeline, prefix, &(struct pw_sample){.arrays = {&arrays[i]}});
            if (damacy_pop(pipeline, PW_LONG, &batch, &error) == DAMACY_OK)
                damacy_release(batch);
            damacy_destroy(pipeline);
        }
        if (fake.failed && strcmp(fake.failed, "fake_context_push") == 0) {
            fake_forget(); /* a context that cannot be entered is gone with all that is in it */
            fake_cufile_state.memories = 0;
        }
        fake.fail_at = 0;
        fake.broken = false;
        fake.failed = NULL;
        assert_true(fake_is_clean());
        assert_int_equal(fake_cufile_state.files + fake_cufile_state.memories, 0);
    }
}

static void test_library_missing(void **state)
{
    (void)state;
    const struct dmc_cufile_library *library;
    struct damacy_error error;
    setenv(DMC_CUFILE_VARIABLE, "/nowhere/libcufile.so.0", 1);
    assert_int_equal(dmc_cufile_load(&library, &error), DAMACY_UNSUPPORTED);
    assert_non_null(strstr(error.message, "/nowhere/libcufile.so.0"));
    assert_non_null(strstr(error.message, "pip install nvidia-cufile"));
    assert_non_null(strstr(error.message, "gpu_direct_storage off"));
}

#define TEST(name) cmocka_unit_test_setup(name, before_each)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_each_kind),      TEST(test_mixed),         TEST(test_bounded),         TEST(test_start_fails),
        TEST(test_memory_refused), TEST(test_files_refused), TEST(test_reads_fail),      TEST(test_damaged_files),
        TEST(test_not_a_file),     TEST(test_driver_fails),  TEST(test_library_missing),
    };
    return cmocka_run_group_tests(tests, make_arrays, remove_arrays);
}
