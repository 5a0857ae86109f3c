/* What a file system or a network may hand us: FIFOs, folders, endless files, nonsense in every place, no descriptors, too many
 * arrays, the longest uris. Nothing crashes, hangs (ctest looks) or eats memory; good samples beside bad ones are right.
 *
 * Method: see each test. Random ones print their seed. */
#include "support/pipeline_world.h"

#include <sys/resource.h>

static const int64_t sample_shape[] = {10, 10};
static const struct zw_array shape_of_all = {.name = "good",
                                             .number = 1,
                                             .dtype = DAMACY_U16,
                                             .rank = 2,
                                             .shape = {40, 40},
                                             .chunk = {8, 8},
                                             .shard = {16, 16},
                                             .compressor = ZW_ZSTD,
                                             .index_crc32c = true};

static struct damacy *start(struct dmc_store *memory, uint32_t samples, enum damacy_on_error on_error)
{
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, samples, 2, sample_shape, DAMACY_F32);
    config.on_error = on_error;
    return pw_create(&config, memory);
}

/* One sample of an array, in a batch of its own; its status, and that of a good sample beside it is OK. */
static enum damacy_status ask(struct damacy *pipeline, const char *prefix, const struct zw_array *good, const char *uri,
                              struct damacy_error *error)
{
    struct pw_sample rows[] = {{.arrays = {good}, .begin = {{3, 5}}}, {.arrays = {good}, .uri = uri, .tag = 1}};
    pw_push(pipeline, prefix, &rows[0]);
    pw_push(pipeline, prefix, &rows[1]);
    struct damacy_batch *batch = pw_pop(pipeline);
    struct damacy_batch_info info = pw_info(batch);
    assert_int_equal(info.rows[0].status, DAMACY_OK);
    assert_true(pw_row_matches(&info, 0, &rows[0]));
    enum damacy_status status = info.rows[1].status;
    if (status != DAMACY_OK)
        *error = *info.rows[1].error;
    damacy_release(batch);
    return status;
}

enum place { PLACE_FIFO, PLACE_FOLDER, PLACE_LOOP, PLACE_SPARSE, PLACE_EMPTY };

static void put_in_place(const char *path, enum place place)
{
    unlink(path);
    switch (place) {
    case PLACE_FIFO:
        assert_int_equal(mkfifo(path, 0666), 0);
        break;
    case PLACE_FOLDER:
        assert_int_equal(mkdir(path, 0777), 0);
        break;
    case PLACE_LOOP:
        assert_int_equal(symlink(path, path), 0);
        break;
    case PLACE_SPARSE:
    case PLACE_EMPTY: {
        int fd = open(path, O_CREAT | O_WRONLY, 0666);
        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, place == PLACE_SPARSE ? 10ll << 30 : 0), 0);
        close(fd);
        break;
    }
    }
}

/* In place of the metadata, of a shard, of a chunk. */
static void test_strange_files(void **state)
{
    (void)state;
    char folder[64], prefix[80], path[200], uri[128];
    pw_make_folder(folder);
    snprintf(prefix, sizeof prefix, "%s/", folder);
    zw_write(&shape_of_all, &(struct zw_sink){.folder = folder});
    struct damacy *pipeline = start(NULL, 2, DAMACY_FILL);
    static const char *const what[] = {"zarr.json", "c/0/0"};
    uint32_t number = 0;
    for (enum place place = PLACE_FIFO; place <= PLACE_EMPTY; place++) {
        for (int which = 0; which < 2; which++) {
            for (int sharded = 0; sharded < 2; sharded++) {
                struct zw_array array = shape_of_all;
                snprintf(array.name, sizeof array.name, "a%u", number++);
                if (!sharded)
                    memset(array.shard, 0, sizeof array.shard);
                zw_write(&array, &(struct zw_sink){.folder = folder});
                snprintf(uri, sizeof uri, "%s/%s", folder, array.name);
                snprintf(path, sizeof path, "%s/%s", uri, what[which]);
                put_in_place(path, place);
                struct damacy_error error;
                enum damacy_status status = ask(pipeline, prefix, &shape_of_all, uri, &error);
                if (status == DAMACY_OK)
                    fail_msg("place %d, %s, sharded %d passed", place, what[which], sharded);
                assert_string_equal(error.uri, uri);
                assert_string_equal(error.key, what[which]);
                if (place <= PLACE_LOOP)
                    assert_int_equal(status, DAMACY_IO);
                else if (status != DAMACY_DECODE && status != DAMACY_BUDGET)
                    fail_msg("place %d, %s: %s: %s", place, what[which], damacy_status_str(status), error.message);
            }
        }
    }
    damacy_destroy(pipeline);
    pw_remove_folder(folder);
}

/* An uncompressed chunk that claims 10 GiB, of which a little is wanted: spans of it are read, the hole reads as zeros. */
static void test_sparse_raw_chunk(void **state)
{
    (void)state;
    char folder[64], prefix[80], path[200];
    pw_make_folder(folder);
    snprintf(prefix, sizeof prefix, "%s/", folder);
    struct zw_array array = {.name = "sparse",
                             .number = 3,
                             .dtype = DAMACY_U8,
                             .rank = 2,
                             .shape = {10ull << 20, 1024},
                             .chunk = {10ull << 20, 1024},
                             .fill_nonzero = true};
    zw_write_metadata(&array, &(struct zw_sink){.folder = folder});
    snprintf(path, sizeof path, "%s/sparse/c", folder);
    assert_int_equal(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/sparse/c/0", folder);
    assert_int_equal(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/sparse/c/0/0", folder);
    put_in_place(path, PLACE_SPARSE);
    struct damacy *pipeline = start(NULL, 1, DAMACY_RAISE);
    struct pw_sample sample = {.arrays = {&array}, .begin = {{9000000, 500}}};
    pw_push(pipeline, prefix, &sample);
    struct damacy_batch *batch = pw_pop(pipeline);
    const float *found = (const void *)pw_readable(pw_info(batch).tensors[0].data, 100 * sizeof(float));
    for (int i = 0; i < 100; i++)
        assert_true(found[i] == 0);
    damacy_release(batch);
    damacy_destroy(pipeline);
    pw_remove_folder(folder);
}

/* A million opening brackets, and other texts that parsers have died of. */
static void test_deep_metadata(void **state)
{
    (void)state;
    enum { DEPTH = 1000000 };
    struct dmc_store *memory = pw_memory();
    struct zw_sink sink = {.memory = memory};
    zw_write(&shape_of_all, &sink);
    static const char *const units[] = {"[",        "{\"a\":", "{\"attributes\":{\"a\":[", "\"", "\\", "1", "-", "\x80",
                                        "\xff\xfe", " ",       "{\"codecs\":[{\"name\":"};
    struct damacy *pipeline = start(memory, 2, DAMACY_FILL);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t unit = strlen(units[i]), bytes = unit * DEPTH;
        if (bytes > 12u << 20)
            bytes = 12u << 20;
        uint8_t *text = malloc(bytes);
        for (size_t k = 0; k < bytes; k++)
            text[k] = (uint8_t)units[i][k % unit];
        char key[64], uri[64];
        snprintf(key, sizeof key, "deep%zu/zarr.json", i);
        snprintf(uri, sizeof uri, "memory://deep%zu", i);
        zw_put(&sink, key, text, bytes);
        free(text);
        struct damacy_error error;
        enum damacy_status status = ask(pipeline, "memory://", &shape_of_all, uri, &error);
        if ((status != DAMACY_DECODE && status != DAMACY_BUDGET) ||
            strcmp(error.key, "zarr.json") != 0) /* BUDGET: memory to parse it */
            fail_msg("%s ...: %s: %s", units[i], damacy_status_str(status), error.message);
    }
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

/* --- mutations --- */

struct mutator {
    struct pw_random random;
    const char *target; /* keys with this in them */
};

static bool mutate(void *user, const char *key, uint8_t *data, size_t *bytes)
{
    struct mutator *mutator = user;
    struct pw_random *random = &mutator->random;
    if (!strstr(key, mutator->target) || *bytes == 0)
        return true;
    uint32_t count = (uint32_t)pw_between(random, 1, 4);
    for (uint32_t i = 0; i < count && *bytes; i++) {
        uint64_t at = pw_next(random) % *bytes;
        static const uint64_t numbers[] = {0, 1, UINT64_MAX, INT64_MAX, 1ull << 63, 0xffffffff, 1ull << 32, 0x7fffffff};
        switch (pw_between(random, 0, 6)) {
        case 0:
            data[at] ^= (uint8_t)(1u << pw_between(random, 0, 7));
            break;
        case 1:
            data[at] = (uint8_t)pw_next(random);
            break;
        case 2:
            *bytes = at;
            break;
        case 3: /* a piece of it elsewhere */
            memmove(data + at, data + pw_next(random) % *bytes, pw_next(random) % 8 % (*bytes - at + 1) ? 1 : 0);
            break;
        case 4: /* numbers of which sizes and offsets are made, also at the end, where the index is */
            if (*bytes >= 40) {
                uint64_t place =
                    pw_chance(random, 50) ? *bytes - 12 - 8 * pw_between(random, 0, 3) : pw_next(random) % (*bytes - 8);
                memcpy(data + place, &numbers[pw_between(random, 0, 7)], 8);
            }
            break;
        case 5:
            data[at] = (uint8_t) "0123456789-{}[]\",:eE.n"[pw_between(random, 0, 21)];
            break;
        case 6:
            memset(data + at, (int)pw_next(random), *bytes - at < 16 ? *bytes - at : 16);
            break;
        }
    }
    return true;
}

/* Objects are damaged at random, checksums of indices off half of the time. Whatever comes out must come out. */
static void test_mutations(void **state)
{
    (void)state;
    uint64_t seed = pw_seed("test_mutations");
    static const char *const targets[] = {"zarr.json", "/c/", "/c/", "/"};
    uint32_t bad = 0, rows = 0;
    for (uint32_t round = 0; round < 60; round++) {
        struct mutator mutator = {{zw_hash(seed, round)}, "zarr.json"};
        struct dmc_store *memory = pw_memory();
        struct damacy *pipeline = start(memory, 4, DAMACY_SKIP);
        zw_write(&shape_of_all, &(struct zw_sink){.memory = memory});
        for (uint32_t i = 0; i < 16; i++) {
            struct zw_array array = shape_of_all;
            struct pw_random *random = &mutator.random;
            array.number = 2;
            snprintf(array.name, sizeof array.name, "m%u", i);
            array.compressor = (enum zw_compressor)(i % 5);
            static const char *const names[] = {"lz4", "zstd", "blosclz", "zlib"};
            array.blosc_name = names[pw_between(random, 0, 3)];
            array.blosc_shuffle = (int)pw_between(random, 0, 2);
            array.index_crc32c = pw_chance(random, 30);
            array.index_at_start = pw_chance(random, 50);
            array.crc32c = pw_chance(random, 20);
            if (pw_chance(random, 30))
                memset(array.shard, 0, sizeof array.shard);
            mutator.target = targets[pw_between(random, 0, 3)];
            zw_write(&array, &(struct zw_sink){.memory = memory, .alter = mutate, .user = &mutator});
            struct pw_sample samples[] = {
                {.arrays = {&array}, .begin = {{(int64_t)pw_between(random, 0, 30), 4}}, .tag = 1},
                {.arrays = {&shape_of_all}, .begin = {{30, (int64_t)pw_between(random, 0, 30)}}, .tag = 2},
                {.arrays = {&array}, .begin = {{30, 30}}, .tag = 3},
                {.arrays = {&shape_of_all}, .begin = {{0, 0}}, .tag = 4}};
            for (int k = 0; k < 4; k++)
                pw_push(pipeline, "memory://", &samples[k]);
            struct damacy_batch *batch = pw_pop(pipeline);
            struct damacy_batch_info info = pw_info(batch);
            assert_int_equal(info.row_count + info.skipped_count, 4);
            uint32_t good = 0;
            for (uint32_t k = 0; k < info.row_count; k++) {
                if (info.rows[k].tag % 2 == 0) {
                    assert_true(pw_row_matches(&info, k, &samples[info.rows[k].tag - 1]));
                    good++;
                }
            }
            assert_int_equal(good, 2);
            for (uint32_t k = 0; k < info.skipped_count; k++)
                assert_true(info.skipped[k].error->message[0]);
            bad += info.skipped_count;
            rows += 4;
            damacy_release(batch);
        }
        struct damacy_stats stats = DAMACY_STATS_INIT;
        assert_int_equal(damacy_stats_get(pipeline, &stats, NULL), DAMACY_OK);
        assert_true(stats.host_bytes_committed <= stats.host_bytes_limit);
        damacy_destroy(pipeline);
        dmc_store_destroy(memory);
    }
    assert_true(bad > rows / 20);
}

/* No file descriptor is left: errors or, once there are some again, data; never a hang. */
static void test_no_descriptors(void **state)
{
    (void)state;
    char folder[64], prefix[80];
    pw_make_folder(folder);
    snprintf(prefix, sizeof prefix, "%s/", folder);
    struct zw_array arrays[8];
    for (uint32_t i = 0; i < 8; i++) {
        arrays[i] = shape_of_all;
        arrays[i].number = i;
        snprintf(arrays[i].name, sizeof arrays[i].name, "a%u", i);
        zw_write(&arrays[i], &(struct zw_sink){.folder = folder});
    }
    struct damacy *pipeline = start(NULL, 4, DAMACY_FILL);
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (uint32_t spare = 0; spare < 5; spare++) {
        int lowest = dup(0); /* how many are in use */
        close(lowest);
        none = before;
        none.rlim_cur = (rlim_t)lowest + spare;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        struct pw_sample samples[4];
        for (uint32_t i = 0; i < 4; i++) {
            samples[i] = (struct pw_sample){.arrays = {&arrays[(spare * 3 + i) % 8]}, .begin = {{15, 15}}};
            pw_push(pipeline, prefix, &samples[i]);
        }
        struct damacy_batch *batch = pw_pop(pipeline);
        struct damacy_batch_info info = pw_info(batch);
        for (uint32_t i = 0; i < 4; i++) {
            if (info.rows[i].status == DAMACY_OK)
                assert_true(pw_row_matches(&info, i, &samples[i]));
            else
                assert_int_equal(info.rows[i].status, DAMACY_IO);
        }
        damacy_release(batch);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    }
    /* They are back, and so are the data: a failure is not remembered for ever. */
    struct pw_sample samples[4];
    for (uint32_t i = 0; i < 4; i++) {
        samples[i] = (struct pw_sample){.arrays = {&arrays[7 - i]}, .begin = {{15, 15}}};
        pw_push(pipeline, prefix, &samples[i]);
    }
    struct damacy_batch *batch = pw_pop(pipeline);
    assert_true(pw_batch_matches(batch, samples, 4));
    damacy_release(batch);
    /* And a pipeline cannot be made without any, or it works. */
    int lowest = dup(0);
    close(lowest);
    none.rlim_cur = (rlim_t)lowest;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 1, 2, sample_shape, DAMACY_F32);
    struct damacy *other = NULL;
    struct damacy_error error;
    enum damacy_status status = damacy_create(&config, &other, &error);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    if (status != DAMACY_OK)
        assert_true(error.message[0] && (status == DAMACY_IO || status == DAMACY_OOM));
    else
        damacy_destroy(other);
    damacy_destroy(pipeline);
    pw_remove_folder(folder);
}

/* Ten thousand arrays in one run, through caches that hold a small part of them. */
static void test_ten_thousand_arrays(void **state)
{
    (void)state;
    enum { ARRAYS = 10000, BATCH = 50 };
    struct dmc_store *memory = pw_memory();
    struct zw_sink sink = {.memory = memory};
    static struct zw_array arrays[ARRAYS];
    for (uint32_t i = 0; i < ARRAYS; i++) {
        arrays[i] = (struct zw_array){.number = i,
                                      .dtype = DAMACY_U8,
                                      .rank = 2,
                                      .shape = {10, 11},
                                      .chunk = {10, 11},
                                      .shard = {10, 11},
                                      .index_crc32c = true};
        snprintf(arrays[i].name, sizeof arrays[i].name, "many/of them/a%u", i);
        zw_write(&arrays[i], &sink);
    }
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, BATCH, 2, sample_shape, DAMACY_U8);
    config.max_host_memory_bytes = 64u << 20;
    struct damacy *pipeline = pw_create(&config, memory);
    static struct pw_sample samples[ARRAYS];
    uint32_t pushed = 0;
    struct damacy_error error;
    for (uint32_t b = 0; b < ARRAYS / BATCH; b++) {
        for (;;) {
            enum damacy_status status = DAMACY_OK;
            while (pushed < ARRAYS) {
                samples[pushed] = (struct pw_sample){.arrays = {&arrays[pushed]}, .begin = {{0, pushed % 2}}, .tag = pushed};
                if ((status = pw_try_push(pipeline, "memory://", &samples[pushed], &error)) != DAMACY_OK)
                    break;
                pushed++;
            }
            zw_require(status == DAMACY_OK || status == DAMACY_AGAIN);
            uint32_t happened;
            pw_ok(damacy_wait(pipeline, DAMACY_WAIT_POP | (pushed < ARRAYS ? DAMACY_WAIT_PUSH : 0), PW_LONG, &happened, &error),
                  &error);
            if (happened & DAMACY_WAIT_POP)
                break;
        }
        struct damacy_batch *batch = pw_pop(pipeline);
        assert_true(pw_batch_matches(batch, samples + b * BATCH, BATCH));
        damacy_release(batch);
    }
    struct damacy_stats stats = DAMACY_STATS_INIT;
    pw_ok(damacy_stats_get(pipeline, &stats, &error), &error);
    assert_int_equal(stats.array_meta_misses, ARRAYS);
    assert_true(stats.host_bytes_committed <= stats.host_bytes_limit);
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

/* The longest uris that push takes, more of them in a batch than the lookahead's ring holds: an error that names the setting
 * instead of AGAIN for ever, and with the setting raised it works. */
static void test_longest_uris(void **state)
{
    (void)state;
    enum { BATCH = 20 };
    struct dmc_store *memory = pw_memory();
    struct zw_array array = shape_of_all;
    static char uri[DAMACY_URI_BYTES_MAX + 1], key[DAMACY_URI_BYTES_MAX + 100];
    memset(uri, 'u', sizeof uri - 1);
    memcpy(uri, "memory://", 9);
    struct zw_sink sink = {.memory = memory};
    char text[4096];
    size_t bytes = zw_metadata(&array, text, sizeof text);
    snprintf(key, sizeof key, "%s/zarr.json", uri + 9);
    zw_put(&sink, key, (uint8_t *)text, bytes);
    for (uint64_t y = 0; y < 3; y++) {
        for (uint64_t x = 0; x < 3; x++) {
            snprintf(key, sizeof key, "%s/c/%u/%u", uri + 9, (unsigned)y, (unsigned)x);
            zw_write_shard(&array, &sink, (uint64_t[]){y, x}, key);
        }
    }
    struct pw_sample samples[BATCH];
    for (uint32_t i = 0; i < BATCH; i++)
        samples[i] = (struct pw_sample){.arrays = {&array}, .uri = uri, .begin = {{i, 30 - i}}, .tag = i};
    for (int large = 0; large < 2; large++) {
        struct damacy_field field;
        struct damacy_config config = pw_config(&field, BATCH, 2, sample_shape, DAMACY_F32);
        config.tuning.lookahead_samples = large ? 1000 : 30;
        config.tuning.prefetch_samples = 30;
        struct damacy *pipeline = pw_create(&config, memory);
        uint32_t pushed = 0;
        enum damacy_status status = DAMACY_OK;
        struct damacy_error error;
        for (; pushed < BATCH; pushed++) {
            while ((status = pw_try_push(pipeline, "memory://", &samples[pushed], &error)) == DAMACY_AGAIN)
                pw_ok(damacy_wait(pipeline, DAMACY_WAIT_PUSH, PW_LONG, NULL, &error), &error);
            if (status != DAMACY_OK)
                break;
        }
        if (large) {
            assert_int_equal(pushed, BATCH);
        } else {
            assert_int_equal(status, DAMACY_BUDGET);
            assert_true(pushed >= 3 && pushed < BATCH);
            assert_non_null(strstr(error.message, "lookahead_samples"));
            pw_ok(damacy_wait(pipeline, DAMACY_WAIT_PUSH, PW_LONG, NULL, &error), &error); /* push would answer at once */
            pw_flush(pipeline);
        }
        struct damacy_batch *batch = pw_pop(pipeline);
        assert_true(pw_batch_matches(batch, samples, pushed));
        damacy_release(batch);
        damacy_destroy(pipeline);
    }
    dmc_store_destroy(memory);
}

int main(void)
{
    damacy_set_log_quiet(true);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strange_files),  cmocka_unit_test(test_sparse_raw_chunk),
        cmocka_unit_test(test_deep_metadata),  cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_no_descriptors), cmocka_unit_test(test_ten_thousand_arrays),
        cmocka_unit_test(test_longest_uris),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
