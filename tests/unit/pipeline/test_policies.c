/* Bad samples: every kind, under every policy, with the story that the caller gets.
 *
 * Method: one array for each thing that can be wrong, made by the writer and damaged on its way into a memory store. Each kind
 * is pushed between two good samples. The same errors must come out whatever the delays and however many workers there are. */
#include "support/pipeline_world.h"

static const int64_t sample_shape[] = {8, 8};

static struct zw_array good = {.name = "good",
                               .number = 1,
                               .dtype = DAMACY_U16,
                               .rank = 2,
                               .shape = {32, 32},
                               .chunk = {8, 8},
                               .shard = {16, 16},
                               .compressor = ZW_ZSTD,
                               .index_crc32c = true,
                               .fill_nonzero = true};

/* What is wrong, and what is said about it. */
struct kind {
    const char *name; /* of the array; also what damages it, see damage() */
    enum damacy_status status;
    const char *stage, *key, *message, *expected, *found;
    int64_t begin[2];
    bool fill_known;
};
static const struct kind kinds[] = {
    {"missing", DAMACY_NOTFOUND, "metadata", "zarr.json", "", NULL, NULL, {0, 0}, false},
    {"codec", DAMACY_UNSUPPORTED, "metadata", "zarr.json", "lz77", NULL, NULL, {0, 0}, false},
    {"json", DAMACY_DECODE, "metadata", "zarr.json", "", NULL, NULL, {0, 0}, false},
    {"rank", DAMACY_RANK, "metadata", "zarr.json", "axes", "2 axes", "3", {0, 0}, true},
    {"good", DAMACY_RANK, "metadata", "", "axis 1", "indices in [0, 32)", "[25, 33)", {0, 25}, true},
    {"dtype", DAMACY_DTYPE, "plan", "", "f32 cannot become i32", NULL, NULL, {0, 0}, false},
    {"checkindex", DAMACY_DECODE, "index", "c/0/0", "checksum", "crc32c 0x", "crc32c 0x", {0, 0}, true},
    {"short", DAMACY_DECODE, "index", "c/0/0", "too short", NULL, NULL, {0, 0}, true},
    {"beyond", DAMACY_DECODE, "index", "c/0/0", "entry", NULL, NULL, {0, 0}, true},
    {"truncated", DAMACY_DECODE, "read", "c/0/0", "", NULL, NULL, {0, 0}, true},
    {"corrupt", DAMACY_DECODE, "decode", "c/1/1", "zstd", NULL, NULL, {8, 8}, true},
    {"checksum", DAMACY_DECODE, "decode", "c/0/0", "crc32c", "0x", "0x", {0, 0}, true},
    {"bigindex", DAMACY_BUDGET, "index", "", "shard_index_cache_bytes", NULL, NULL, {0, 0}, true},
    {"bigchunk", DAMACY_BUDGET, "read", "c/0/0", "max_host_memory_bytes", NULL, NULL, {0, 0}, true},
};
#define KINDS (sizeof kinds / sizeof *kinds)

static bool damage(void *user, const char *key, uint8_t *data, size_t *bytes)
{
    (void)user;
    if (strstr(key, "json/zarr"))
        *bytes -= 5;
    if (strstr(key, "checkindex/c/"))
        data[*bytes - 10] ^= 1;
    if (strstr(key, "short/c/"))
        *bytes = 30;
    if (strstr(key, "beyond/c/"))
        *bytes -= *bytes / 3; /* the index is at the start and whole */
    if (strstr(key, "truncated/c/"))
        *bytes -= 1;
    if (strstr(key, "corrupt/c/1/1"))
        memset(data + 4, 0xff, *bytes - 4);
    if (strstr(key, "checksum/c/"))
        data[*bytes / 2] ^= 1;
    return true;
}

static void make_arrays(struct dmc_store *memory)
{
    struct zw_sink sink = {.memory = memory, .alter = damage};
    zw_write(&good, &sink);
    for (uint32_t i = 0; i < KINDS; i++) {
        struct zw_array array = good;
        const char *name = kinds[i].name;
        array.number = 10 + i;
        snprintf(array.name, sizeof array.name, "%s", name);
        if (!strcmp(name, "missing") || !strcmp(name, "good"))
            continue;
        if (!strcmp(name, "codec"))
            array.extra_codec = "{\"name\":\"lz77\"}";
        if (!strcmp(name, "rank")) {
            array.rank = 3;
            array.shape[2] = array.chunk[2] = array.shard[2] = 4;
        }
        if (!strcmp(name, "dtype"))
            array.dtype = DAMACY_F32;
        if (!strcmp(name, "beyond"))
            array.index_at_start = true;
        if (!strcmp(name, "truncated")) {
            array.compressor = ZW_RAW;
            memset(array.shard, 0, sizeof array.shard);
        }
        if (!strcmp(name, "corrupt") || !strcmp(name, "checksum"))
            memset(array.shard, 0, sizeof array.shard);
        if (!strcmp(name, "checksum"))
            array.crc32c = true;
        if (!strcmp(name, "bigindex")) {
            array.chunk[0] = array.chunk[1] = 1;
            array.shard[0] = array.shard[1] = 4096; /* 16 Mi entries of 16 bytes */
            zw_write_metadata(&array, &sink);
            continue;
        }
        if (!strcmp(name, "bigchunk")) {
            memset(array.shard, 0, sizeof array.shard);
            array.chunk[0] = array.chunk[1] = 1 << 14; /* 512 MiB decoded */
            zw_write_metadata(&array, &sink);
            zw_put(&sink, "bigchunk/c/0/0", (uint8_t *)"nothing of the kind", 19);
            continue;
        }
        zw_write(&array, &sink);
    }
}

static struct damacy *start(struct dmc_store *memory, enum damacy_on_error on_error, uint32_t samples)
{
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, samples, 2, sample_shape, DAMACY_I32);
    config.on_error = on_error;
    return pw_create(&config, memory);
}

static struct pw_sample good_sample(uint32_t i)
{
    return (struct pw_sample){.arrays = {&good}, .begin = {{i % 20, (i * 7) % 20}}, .tag = 100 + i};
}

static void push_kind(struct damacy *pipeline, const struct kind *kind, uint64_t tag)
{
    char uri[64];
    snprintf(uri, sizeof uri, "memory://%s", kind->name);
    struct pw_sample sample = {.begin = {{kind->begin[0], kind->begin[1]}}, .tag = tag, .uri = uri};
    pw_push(pipeline, "memory://", &sample);
}

static void check_story(const struct kind *kind, const struct damacy_error *error)
{
    char uri[64];
    snprintf(uri, sizeof uri, "memory://%s", kind->name);
    if (error->status != kind->status || strcmp(error->stage, kind->stage) || strcmp(error->uri, uri) ||
        strcmp(error->key, kind->key) || !strstr(error->message, kind->message) || !strstr(error->message, uri) ||
        (kind->expected && !strstr(error->expected, kind->expected)) || (kind->found && !strstr(error->found, kind->found)))
        fail_msg("%s: %s, stage '%s', uri '%s', key '%s', expected '%s', found '%s', message '%s'", kind->name,
                 damacy_status_str(error->status), error->stage, error->uri, error->key, error->expected, error->found,
                 error->message);
    if (!strcmp(kind->stage, "decode") || !strcmp(kind->stage, "read"))
        assert_true(error->range_end > error->range_begin || !strcmp(kind->name, "bigchunk"));
}

/* fill and skip: one batch with every kind, a good sample before and after each. */
static void check_policy(enum damacy_on_error on_error)
{
    struct dmc_store *memory = pw_memory();
    make_arrays(memory);
    struct damacy *pipeline = start(memory, on_error, 2 * KINDS + 1);
    for (int round = 0; round < 2; round++) { /* the second time with failures and metadata cached */
        struct pw_sample rows[2 * KINDS + 1];
        for (uint32_t i = 0; i < 2 * KINDS + 1; i++) {
            rows[i] = good_sample(i);
            if (i % 2)
                push_kind(pipeline, &kinds[i / 2], rows[i].tag);
            else
                pw_push(pipeline, "memory://", &rows[i]);
        }
        struct damacy_batch *batch = pw_pop(pipeline);
        struct damacy_batch_info info = pw_info(batch);
        assert_int_equal(info.row_count, on_error == DAMACY_SKIP ? KINDS + 1 : 2 * KINDS + 1);
        assert_int_equal(info.skipped_count, on_error == DAMACY_SKIP ? KINDS : 0);
        for (uint32_t i = 0; i < 2 * KINDS + 1; i++) {
            const struct damacy_row *row = on_error == DAMACY_FILL ? &info.rows[i]
                                           : i % 2                 ? &info.skipped[i / 2]
                                                                   : &info.rows[i / 2];
            assert_int_equal(row->tag, 100 + i);
            assert_int_equal(row->ordinal, (uint32_t)round * (2 * KINDS + 1) + i);
            if (i % 2 == 0) {
                assert_int_equal(row->status, DAMACY_OK);
                assert_null(row->error);
                assert_true(pw_row_matches(&info, on_error == DAMACY_FILL ? i : i / 2, &rows[i]));
                continue;
            }
            const struct kind *kind = &kinds[i / 2];
            assert_int_equal(row->status, kind->status);
            assert_non_null(row->error);
            check_story(kind, row->error);
            if (on_error == DAMACY_SKIP)
                continue;
            struct zw_array array = good;
            if (strcmp(kind->name, "good") != 0)
                array.number = 10 + i / 2;
            uint8_t fill[8] = {0};
            int32_t expected = 0;
            zw_fill(&array, fill);
            if (kind->fill_known)
                zw_convert(fill, DAMACY_U16, (uint8_t *)&expected, DAMACY_I32);
            const int32_t *found =
                (const int32_t *)(const void *)pw_readable(info.tensors[0].data, info.tensors[0].bytes) + (size_t)i * 64;
            for (uint32_t k = 0; k < 64; k++)
                assert_int_equal(found[k], expected);
        }
        damacy_release(batch);
    }
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

static void test_fill(void **state)
{
    (void)state;
    check_policy(DAMACY_FILL);
}

static void test_skip(void **state)
{
    (void)state;
    check_policy(DAMACY_SKIP);
}

static bool damage_chunks(void *user, const char *key, uint8_t *data, size_t *bytes)
{
    (void)user;
    if (!strstr(key, "zarr.json"))
        data[*bytes / 2] ^= 1;
    return true;
}

/* A bad row of a complex array holds both parts of the fill value in turn, or the one that its box has; whatever the size of a
 * part. */
static void test_fill_of_complex_rows(void **state)
{
    (void)state;
    static const struct {
        enum damacy_dtype parts, output;
    } types[] = {{DAMACY_BF16, DAMACY_BF16}, {DAMACY_F32, DAMACY_F32}, {DAMACY_F32, DAMACY_F64}, {DAMACY_F64, DAMACY_NATIVE}};
    for (uint32_t i = 0; i < 4 * 3; i++) {
        uint32_t part = i % 3; /* 2: both */
        struct zw_array array = {.name = "bad",
                                 .number = 3,
                                 .dtype = types[i / 3].parts,
                                 .rank = 3,
                                 .shape = {20, 7, 2},
                                 .chunk = {20, 7, 2},
                                 .complex = true,
                                 .crc32c = true,
                                 .fill_nonzero = true};
        struct dmc_store *memory = pw_memory();
        struct zw_sink sink = {.memory = memory, .alter = damage_chunks};
        zw_write(&array, &sink);
        const int64_t shape[3] = {11, 7, part == 2 ? 2 : 1};
        struct damacy_field field;
        struct damacy_config config = pw_config(&field, 2, 3, shape, types[i / 3].output);
        config.on_error = DAMACY_FILL;
        struct damacy *pipeline = pw_create(&config, memory);
        struct pw_sample sample = {.arrays = {&array}, .begin = {{3, 0, part == 2 ? 0 : part}}};
        pw_push(pipeline, "memory://", &sample);
        pw_push(pipeline, "memory://", &sample);
        struct damacy_batch *batch = pw_pop(pipeline);
        struct damacy_batch_info info = pw_info(batch);
        uint64_t item = damacy_dtype_bytes(info.tensors[0].dtype), row_elements = (uint64_t)(11 * 7 * shape[2]);
        const uint8_t *found = pw_readable(info.tensors[0].data, 2 * row_elements * item);
        for (uint64_t k = 0; k < 2 * row_elements; k++) {
            uint8_t fill[8], expected[8];
            zw_fill_part(&array, part == 2 ? k % 2 : part, fill);
            zw_convert(fill, array.dtype, expected, info.tensors[0].dtype);
            assert_memory_equal(found + k * item, expected, item);
        }
        assert_int_equal(info.rows[1].status, DAMACY_DECODE);
        damacy_release(batch);
        damacy_destroy(pipeline);
        dmc_store_destroy(memory);
    }
}

/* raise: the batch's pop fails with the first bad sample's story and names them all; the next pop goes on. */
static void test_raise(void **state)
{
    (void)state;
    struct dmc_store *memory = pw_memory();
    make_arrays(memory);
    struct damacy *pipeline = start(memory, DAMACY_RAISE, 4);
    uint64_t id = 0;
    for (uint32_t k = 0; k < KINDS; k++) {
        struct pw_sample rows[8];
        for (uint32_t i = 0; i < 8; i++)
            rows[i] = good_sample(i);
        pw_push(pipeline, "memory://", &rows[0]);
        push_kind(pipeline, &kinds[k], 1);
        push_kind(pipeline, &kinds[k], 2);
        pw_push(pipeline, "memory://", &rows[3]);
        for (uint32_t i = 4; i < 8; i++)
            pw_push(pipeline, "memory://", &rows[i]);
        struct damacy_batch *batch = (struct damacy_batch *)&id;
        struct damacy_error error;
        assert_int_equal(damacy_pop(pipeline, PW_LONG, &batch, &error), kinds[k].status);
        assert_ptr_equal(batch, &id); /* untouched */
        check_story(&kinds[k], &error);
        char names_all[96];
        snprintf(names_all, sizeof names_all, "batch %llu: 2 of 4 samples failed (%llu-%llu): ", (unsigned long long)id,
                 (unsigned long long)id * 4 + 1, (unsigned long long)id * 4 + 2);
        if (strncmp(error.message, names_all, strlen(names_all)) != 0)
            fail_msg("%s does not begin with %s", error.message, names_all);
        batch = pw_pop(pipeline);
        assert_int_equal(pw_info(batch).batch_id, id + 1);
        assert_true(pw_batch_matches(batch, rows + 4, 4));
        damacy_release(batch);
        id += 2;
    }
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

/* More bad samples than the message can list, in groups. */
static void test_raise_many(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    struct dmc_store *memory = pw_memory();
    make_arrays(memory);
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, COUNT, 2, sample_shape, DAMACY_I32);
    config.tuning.lookahead_samples = COUNT;
    struct damacy *pipeline = pw_create(&config, memory);
    struct pw_sample row = good_sample(0);
    for (uint32_t i = 0; i < COUNT; i++) {
        if (i % 2)
            push_kind(pipeline, &kinds[0], i);
        else
            pw_push(pipeline, "memory://", &row);
    }
    struct damacy_batch *batch;
    struct damacy_error error;
    assert_int_equal(damacy_pop(pipeline, PW_LONG, &batch, &error), DAMACY_NOTFOUND);
    assert_non_null(strstr(error.message, "batch 0: 500 of 1000 samples failed (1, 3, 5, "));
    assert_non_null(strstr(error.message, "...): memory://missing"));
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

/* Nothing but bad samples: a batch of no rows under skip. */
static void test_skip_all(void **state)
{
    (void)state;
    struct dmc_store *memory = pw_memory();
    make_arrays(memory);
    struct damacy *pipeline = start(memory, DAMACY_SKIP, 3);
    for (uint32_t i = 0; i < 3; i++)
        push_kind(pipeline, &kinds[10 + i % 2], i);
    struct damacy_batch *batch = pw_pop(pipeline);
    struct damacy_batch_info info = pw_info(batch);
    assert_int_equal(info.row_count, 0);
    assert_int_equal(info.skipped_count, 3);
    assert_int_equal(info.tensors[0].shape[0], 0);
    assert_int_equal(info.tensors[0].bytes, 0);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(info.skipped[i].ordinal, i);
    void *tensor;
    struct damacy_error error;
    pw_ok(damacy_batch_dlpack(batch, 0, true, &tensor, &error), &error);
    damacy_release(batch);
    struct versioned { /* of DLPack: the first members */
        uint32_t major, minor;
        void *context;
        void (*deleter)(void *);
    } *managed = tensor;
    managed->deleter(managed);
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

static uint64_t random_delay(void *user, const char *key)
{
    (void)key;
    return zw_hash(atomic_fetch_add((_Atomic uint64_t *)user, 1), 9) % 300000;
}

static bool damage_all(void *user, const char *key, uint8_t *data, size_t *bytes)
{
    (void)user;
    if (strstr(key, "/c/"))
        memset(data, 0xee, *bytes);
    return true;
}

/* A sample over nine chunks, all damaged: always the first one is told, whichever came first. */
static void test_deterministic(void **state)
{
    (void)state;
    struct dmc_store *memory = pw_memory(), *delayed;
    struct damacy_error error;
    _Atomic uint64_t count = pw_seed("test_deterministic");
    struct zw_array array = good;
    memset(array.shard, 0, sizeof array.shard);
    snprintf(array.name, sizeof array.name, "all");
    zw_write(&array, &(struct zw_sink){.memory = memory, .alter = damage_all});
    pw_ok(dmc_store_delay_create(memory, random_delay, &count, &delayed, &error), &error);
    static const int64_t wide[] = {16, 16};
    for (uint32_t workers = 1; workers <= 4; workers++) {
        struct damacy_field field;
        struct damacy_config config = pw_config(&field, 2, 2, wide, DAMACY_I32);
        config.tuning.worker_count = workers;
        struct damacy *pipeline = pw_create(&config, delayed);
        for (int i = 0; i < 30; i++) {
            struct pw_sample sample = {.arrays = {&array}, .begin = {{12, 11}}},
                             other = {.arrays = {&array}, .begin = {{4, 12}}};
            pw_push(pipeline, "memory://", i % 2 ? &other : &sample);
            pw_push(pipeline, "memory://", &sample);
            struct damacy_batch *batch;
            assert_int_equal(damacy_pop(pipeline, PW_LONG, &batch, &error), DAMACY_DECODE);
            assert_string_equal(error.key, i % 2 ? "c/0/1" : "c/1/1");
        }
        damacy_destroy(pipeline);
    }
    dmc_store_destroy(delayed);
    dmc_store_destroy(memory);
}

static bool damage_end(void *user, const char *key, uint8_t *data, size_t *bytes)
{
    (void)user;
    (void)data;
    if (strstr(key, "/c/"))
        *bytes -= 200;
    return true;
}

/* An end is missing behind what a sample needs: unnoticed with verify=needed, and the data are right; an error with full, and
 * where a checksum covers the chunk in any case. */
static void test_verify(void **state)
{
    (void)state;
    static const enum zw_compressor compressors[] = {ZW_ZSTD, ZW_ZSTD_CHECKSUM};
    for (int c = 0; c < 2; c++) {
        struct zw_array array = {.name = "large",
                                 .number = 77,
                                 .dtype = DAMACY_U32,
                                 .rank = 2,
                                 .shape = {1024, 1024},
                                 .chunk = {1024, 1024},
                                 .compressor = compressors[c]};
        struct dmc_store *memory = pw_memory();
        zw_write(&array, &(struct zw_sink){.memory = memory, .alter = damage_end});
        for (int verify = DAMACY_VERIFY_NEEDED; verify <= DAMACY_VERIFY_FULL; verify++) {
            struct damacy_field field;
            struct damacy_config config = pw_config(&field, 1, 2, sample_shape, DAMACY_U32);
            config.verify = verify;
            config.max_gpu_memory_bytes = 256 << 20; /* waves that hold such a chunk */
            struct damacy *pipeline = pw_create(&config, memory);
            struct pw_sample sample = {.arrays = {&array}, .begin = {{5, 900}}};
            pw_push(pipeline, "memory://", &sample);
            struct damacy_batch *batch;
            struct damacy_error error;
            enum damacy_status status = damacy_pop(pipeline, PW_LONG, &batch, &error);
            if (verify == DAMACY_VERIFY_FULL || compressors[c] == ZW_ZSTD_CHECKSUM) {
                assert_int_equal(status, DAMACY_DECODE);
            } else {
                assert_int_equal(status, DAMACY_OK);
                assert_true(pw_batch_matches(batch, &sample, 1));
                damacy_release(batch);
            }
            damacy_destroy(pipeline);
        }
        dmc_store_destroy(memory);
    }
}

int main(void)
{
    damacy_set_log_quiet(true);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fill),          cmocka_unit_test(test_fill_of_complex_rows),
        cmocka_unit_test(test_skip),          cmocka_unit_test(test_raise),
        cmocka_unit_test(test_raise_many),    cmocka_unit_test(test_skip_all),
        cmocka_unit_test(test_deterministic), cmocka_unit_test(test_verify),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
