/* Goal: arrays of Zarr v2, and arrays that a group leads to, come out of the whole pipeline to the bit.
 * Method: chunks of the v3 writer, whose metadata are replaced by a .zarray that describes the same bytes: orders, byte orders,
 * separators, compressors, fill values, missing chunks; some of them levels of OME-Zarr images. Compared with the naive reader.
 */
#include "support/pipeline_world.h"

#define ARRAYS 12

static const char *v2_dtype(const struct zw_array *array, char text[8])
{
    static const char *const letters[DAMACY_DTYPE_COUNT] = {[DAMACY_I16] = "i2", [DAMACY_U8] = "u1",  [DAMACY_U16] = "u2",
                                                            [DAMACY_I32] = "i4", [DAMACY_F32] = "f4", [DAMACY_F64] = "f8"};
    snprintf(text, 8, "%c%s",
             damacy_dtype_bytes(array->dtype) == 1 ? '|'
             : array->big_endian                   ? '>'
                                                   : '<',
             letters[array->dtype]);
    return text;
}

/* The fill value of an integer or a float that is 0 or has odd bits: as v2 writes the former, null for the latter's 0. */
static void put_zarray(const struct zw_array *array, struct dmc_store *memory)
{
    static const char *const compressors[] = {
        [ZW_RAW] = "null",
        [ZW_ZSTD] = "{\"id\":\"zstd\",\"level\":1}",
        [ZW_ZSTD_CHECKSUM] = "{\"id\":\"zstd\",\"level\":1,\"checksum\":true}",
        [ZW_GZIP] = "{\"id\":\"gzip\",\"level\":1}",
        [ZW_BLOSC] = "{\"id\":\"blosc\",\"cname\":\"lz4\",\"clevel\":5,\"shuffle\":1,\"blocksize\":0}"};
    char text[1024], key[128], shape[128] = "", chunks[128] = "", dtype[8];
    for (uint32_t a = 0; a < array->rank; a++) {
        snprintf(shape + strlen(shape), 32, "%s%llu", a ? "," : "", (unsigned long long)array->shape[a]);
        snprintf(chunks + strlen(chunks), 32, "%s%llu", a ? "," : "", (unsigned long long)array->chunk[a]);
    }
    snprintf(text, sizeof text,
             "{\"zarr_format\":2,\"shape\":[%s],\"chunks\":[%s],\"dtype\":\"%s\",\"compressor\":%s,\"fill_value\":%s,\"order\":"
             "\"%c\","
             "\"filters\":null%s}",
             shape, chunks, v2_dtype(array, dtype), compressors[array->compressor], array->number % 2 ? "null" : "0",
             array->transposed ? 'F' : 'C', array->separator == '/' ? ",\"dimension_separator\":\"/\"" : "");
    struct damacy_error error;
    snprintf(key, sizeof key, "%s/zarr.json", array->name);
    pw_ok(dmc_store_memory_put(memory, key, NULL, 0, &error), &error);
    snprintf(key, sizeof key, "%s/.zarray", array->name);
    pw_ok(dmc_store_memory_put(memory, key, text, strlen(text), &error), &error);
}

static void random_array(struct zw_array *array, struct pw_random *random, uint32_t number)
{
    static const enum damacy_dtype dtypes[] = {DAMACY_I16, DAMACY_U8, DAMACY_U16, DAMACY_I32, DAMACY_F32, DAMACY_F64};
    memset(array, 0, sizeof *array);
    array->number = number;
    array->rank = 3;
    array->dtype = dtypes[pw_next(random) % 6];
    for (uint32_t a = 0; a < 3; a++) {
        array->shape[a] = pw_between(random, 9, 40);
        array->chunk[a] = pw_between(random, 3, 16);
        array->order[a] = 2 - a;
    }
    array->transposed = pw_chance(random, 50);
    array->big_endian = damacy_dtype_bytes(array->dtype) > 1 && pw_chance(random, 30);
    static const enum zw_compressor compressors[] = {ZW_RAW, ZW_ZSTD, ZW_ZSTD_CHECKSUM, ZW_GZIP, ZW_BLOSC};
    array->compressor = compressors[pw_next(random) % 5];
    array->blosc_shuffle = BLOSC_SHUFFLE;
    array->v2_keys = true;
    array->separator = pw_chance(random, 50) ? '/' : '.';
    array->missing_chunks = 10;
}

static void stream(struct dmc_store *memory, const struct zw_array *arrays, const char *const *uris, struct pw_random *random)
{
    int64_t shape[] = {5, 6, 7};
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 4, 3, shape, DAMACY_F64);
    struct damacy *pipeline = pw_create(&config, memory);
    struct pw_sample samples[40];
    for (uint32_t i = 0; i < 40; i++) {
        uint32_t which = (uint32_t)(pw_next(random) % ARRAYS);
        samples[i] = (struct pw_sample){.arrays = {&arrays[which]}, .tag = i, .uri = uris[which]};
        for (uint32_t a = 0; a < 3; a++)
            samples[i].begin[0][a] = (int64_t)pw_between(random, 0, arrays[which].shape[a] - (uint64_t)shape[a]);
        pw_push_wait(pipeline, "memory://", &samples[i]);
    }
    for (uint32_t batch_id = 0; batch_id < 10; batch_id++) {
        struct damacy_batch *batch = pw_pop(pipeline);
        assert_true(pw_batch_matches(batch, &samples[batch_id * 4], 4));
        damacy_release(batch);
    }
    damacy_destroy(pipeline);
}

static void test_v2_arrays_and_levels(void **state)
{
    (void)state;
    struct pw_random random = {pw_seed("formats")};
    struct damacy_error error;
    static const char multiscales[] =
        "{\"multiscales\":[{\"version\":\"0.4\",\"axes\":[{\"name\":\"z\",\"type\":\"space\"},{\"name\":\"y\",\"type\":"
        "\"space\"},{\"name\":\"x\",\"type\":\"space\"}],\"datasets\":[{\"path\":\"0\"},{\"path\":\"1\"}]}]}";
    for (int round = 0; round < 5; round++) {
        struct dmc_store *memory = pw_memory();
        struct zw_array arrays[ARRAYS];
        char uris[ARRAYS][64];
        const char *list[ARRAYS];
        for (uint32_t i = 0; i < ARRAYS; i++) {
            random_array(&arrays[i], &random, i + 1);
            bool level = i < 6;
            snprintf(arrays[i].name, sizeof arrays[i].name, level ? "data/img%u.zarr/%u" : "data/array%u", level ? i / 2 : i,
                     i % 2);
            snprintf(uris[i], sizeof uris[i], "memory://data/img%u.zarr#level=%u", i / 2, i % 2);
            if (i % 2 == 0)
                snprintf(uris[i], sizeof uris[i], "memory://data/img%u.zarr", i / 2);
            list[i] = level ? uris[i] : NULL;
            zw_write(&arrays[i], &(struct zw_sink){.memory = memory});
            if (i != 11) /* one stays as it is: formats side by side */
                put_zarray(&arrays[i], memory);
            char key[64];
            snprintf(key, sizeof key, "data/img%u.zarr/.zattrs", i / 2);
            if (level)
                pw_ok(dmc_store_memory_put(memory, key, multiscales, sizeof multiscales - 1, &error), &error);
        }
        stream(memory, arrays, list, &random);
        dmc_store_destroy(memory);
    }
}

/* Errors of chunks that a group led to name the uri as pushed, and the key from there on. */
static void test_a_bad_chunk_of_a_level(void **state)
{
    (void)state;
    struct pw_random random = {1};
    struct damacy_error error;
    struct dmc_store *memory = pw_memory();
    struct zw_array array;
    random_array(&array, &random, 1);
    array.compressor = ZW_GZIP;
    array.missing_chunks = 0;
    array.separator = '/';
    snprintf(array.name, sizeof array.name, "img/0");
    zw_write(&array, &(struct zw_sink){.memory = memory});
    put_zarray(&array, memory);
    static const char multiscales[] =
        "{\"multiscales\":[{\"version\":\"0.4\",\"axes\":[{\"name\":\"z\",\"type\":\"space\"},{\"name\":\"y\",\"type\":"
        "\"space\"},{\"name\":\"x\",\"type\":\"space\"}],\"datasets\":[{\"path\":\"0\"}]}]}";
    pw_ok(dmc_store_memory_put(memory, "img/.zattrs", multiscales, sizeof multiscales - 1, &error), &error);
    pw_ok(dmc_store_memory_put(memory, "img/0/0/0/0", "junk", 4, &error), &error);
    int64_t shape[] = {1, 1, 1};
    struct damacy_field field;
    struct damacy_config config = pw_config(&field, 1, 3, shape, DAMACY_F64);
    struct damacy *pipeline = pw_create(&config, memory);
    struct pw_sample sample = {.arrays = {&array}, .uri = "memory://img"};
    pw_push(pipeline, "", &sample);
    struct damacy_batch *batch;
    assert_int_equal(damacy_pop(pipeline, PW_LONG, &batch, &error), DAMACY_DECODE);
    assert_string_equal(error.uri, "memory://img");
    assert_string_equal(error.key, "0/0/0/0");
    assert_non_null(strstr(error.message, "memory://img: 0/0/0/0 [0, 4): "));
    damacy_destroy(pipeline);
    dmc_store_destroy(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v2_arrays_and_levels),
        cmocka_unit_test(test_a_bad_chunk_of_a_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
