/* Goal: kerchunk references are a store like any other; what is wrong with them is said by name, and secrets in urls are not.
 * Method: the conformance suite over ranges, whole files and inline bytes; tables of documents; every allocation fails once. */
#include "support/container_suite.h"

#include "base/budget.h"
#include "store/kerchunk_refs.h"

/* --- the suite --- */

static void write_base64(FILE *file, const unsigned char *data, uint64_t bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (uint64_t i = 0; i < bytes; i += 3) {
        uint32_t bits =
            (uint32_t)data[i] << 16 | (i + 1 < bytes ? (uint32_t)data[i + 1] << 8 : 0) | (i + 2 < bytes ? data[i + 2] : 0);
        fprintf(file, "%c%c%c%c", digits[bits >> 18], digits[bits >> 12 & 63], i + 1 < bytes ? digits[bits >> 6 & 63] : '=',
                i + 2 < bytes ? digits[bits & 63] : '=');
    }
}

/* All objects so far: in one file behind one another, in files of their own, or in the text. */
static void sync_references(struct conformance *suite)
{
    struct container_suite *subject = (struct container_suite *)suite;
    char name[64], path[400], prefix[512];
    uint32_t generation = subject->generation++;
    snprintf(name, sizeof name, "suite%u.bin", generation);
    in_folder(path, sizeof path, name);
    FILE *blob = fopen(path, "wb");
    snprintf(name, sizeof name, "suite%u.json", generation);
    FILE *text = fopen(in_folder(path, sizeof path, name), "w");
    assert_true(blob && text);
    fprintf(text, "{\"version\": 1, \"templates\": {\"here\": \"%s\"}, \"refs\": {\".zgroup\": {\"zarr_format\": 2}",
            fixture_folder);
    uint64_t offset = 0;
    for (uint32_t i = 0; i < subject->count; i++) {
        fprintf(text, ", \"in/side/%s\": ", subject->objects[i].name);
        if (i % 3 == 0) {
            fprintf(text, "[\"{{here}}/suite%u.bin\", %llu, %llu]", generation, (unsigned long long)offset,
                    (unsigned long long)subject->objects[i].bytes);
            fwrite(subject->objects[i].data, 1, subject->objects[i].bytes, blob);
            offset += subject->objects[i].bytes;
        } else if (i % 3 == 1) {
            snprintf(name, sizeof name, "own%u-%u", generation, i);
            write_bytes(in_folder(path, sizeof path, name), subject->objects[i].data, subject->objects[i].bytes);
            fprintf(text, "[\"file://%s\"]", path);
        } else {
            fprintf(text, "\"base64:");
            write_base64(text, subject->objects[i].data, subject->objects[i].bytes);
            fprintf(text, "\"");
        }
    }
    fprintf(text, "}}\n");
    assert_int_equal(fclose(text) | fclose(blob), 0);
    snprintf(name, sizeof name, "suite%u.json/in/side", generation);
    container_opened(subject, in_folder(prefix, sizeof prefix, name), "kerchunk");
}

static void run_suite(const char *name, bool delayed)
{
    struct container_suite subject = {.suite = {.name = name, .sync = sync_references}};
    container_suite_run(&subject, delayed, delayed);
}

static void test_suite(void **state)
{
    (void)state;
    run_suite("kerchunk", false);
}
static void test_suite_delayed(void **state)
{
    (void)state;
    run_suite("kerchunk over a delayed file store", true);
}

/* --- documents --- */

static struct opened open_text(const char *text, uint64_t container_bytes_max)
{
    return opened_from("json", text, strlen(text), container_bytes_max);
}

static void expect(struct opened *opened, const char *key, const char *text)
{
    char data[256];
    struct one_read read;
    complete(opened->io, prepare(&read, opened->store, key, DMC_RANGE_WHOLE, 0, data, sizeof data));
    if (!text) {
        assert_int_equal(read.request.outcome, DMC_OUTCOME_ABSENT);
        return;
    }
    if (read.request.outcome == DMC_OUTCOME_FAILED)
        fail_msg("%s: %s", key, read.error.message);
    assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
    assert_int_equal(read.request.bytes_read, strlen(text));
    assert_memory_equal(data, text, strlen(text));
}

static void expect_failure(struct opened *opened, const char *key, enum damacy_status status, const char *word)
{
    char data[256];
    struct one_read read;
    complete(opened->io, prepare(&read, opened->store, key, DMC_RANGE_WHOLE, 0, data, sizeof data));
    assert_int_equal(read.request.outcome, DMC_OUTCOME_FAILED);
    assert_int_equal(read.request.status, status);
    if (!strstr(read.error.message, word))
        fail_msg("'%s' does not say '%s'", read.error.message, word);
    assert_null(strstr(read.error.message, "SECRET"));
}

static void test_documents(void **state)
{
    (void)state;
    char path[400], text[4000];
    in_folder(path, sizeof path, "with space");
    write_bytes(path, "0123456789", 10);
    snprintf(text, sizeof text,
             "{\"version\":1, \"gen\": [], \"templates\":{\"d\":\"%s\",\"n\":\"space\"}, \"refs\":{"
             "\"zarr.json\":\"{}\", \"a/.zarray\":{\"x\":[1,2]}, \"a/0\":[\"{{d}}/with {{n}}\",2,3], "
             "\"a/1\":[\"file://%s/with%%20space\"],"
             "\"a/2\":[\"%s/with space\",10,0], \"a/3\":\"base64:\", \"a/4\":\"base64:QQ==\", \"a/5\":\"base64:QUI=\\n\","
             "\"a/6\":\"text \\u00e9\", \"bad/0\":[\"%s/with space\",8,3], \"bad/1\":[\"%s/missing\",0,1],"
             "\"bad/2\":[\"ftp://user:SECRET@host/path?key=SECRET\",0,1], \"bad/3\":[\"%s\"]}}",
             fixture_folder, fixture_folder, fixture_folder, fixture_folder, fixture_folder, fixture_folder);
    struct opened opened = open_text(text, 0);
    if (opened.status)
        fail_msg("%s", opened.error.message);
    expect(&opened, "/zarr.json", "{}");
    expect(&opened, "a/.zarray", "{\"x\":[1,2]}");
    expect(&opened, "a/0", "234");
    expect(&opened, "a/1", "0123456789");
    expect(&opened, "a/2", "");
    expect(&opened, "a/3", "");
    expect(&opened, "a/4", "A");
    expect(&opened, "a/5", "AB");
    expect(&opened, "a/6", "text \xc3\xa9");
    expect(&opened, "a/7", NULL);
    expect(&opened, "a", NULL);
    expect_failure(&opened, "bad/0", DAMACY_IO, "ends before");
    expect_failure(&opened, "bad/1", DAMACY_IO, "missing");
    expect_failure(&opened, "bad/2", DAMACY_UNSUPPORTED, "ftp://***@host/path");
    expect_failure(&opened, "bad/3", DAMACY_IO, "folder");
    char children[200] = "";
    assert_int_equal(dmc_store_list(opened.store, "a", container_collect, children, NULL), DAMACY_OK);
    assert_string_equal(children, ".zarray 0 1 2 3 4 5 6 ");
    children[0] = 0;
    assert_int_equal(dmc_store_list(opened.store, "", container_collect, children, NULL), DAMACY_OK);
    assert_string_equal(children, "a/ bad/ zarr.json ");
    assert_false(dmc_store_hint_of(opened.store).remote);
    opened_close(&opened);
    /* Version 0, and a path relative to the working directory. */
    opened = open_text("{\".zgroup\":\"{\\\"zarr_format\\\":2}\",\"a/0\":[\"{{d}}\",0,1]}", 0);
    assert_int_equal(opened.status, DAMACY_OK);
    expect(&opened, ".zgroup", "{\"zarr_format\":2}");
    expect_failure(&opened, "a/0", DAMACY_IO, "{{d}}");
    opened_close(&opened);
}

static void test_bad_documents(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum damacy_status status;
        const char *word;
    } cases[] = {
        {"", DAMACY_DECODE, "JSON"},
        {"{", DAMACY_DECODE, "JSON"},
        {"[]", DAMACY_DECODE, "not one of kerchunk"},
        {"{\"zarr_format\":3}", DAMACY_DECODE, "not one of kerchunk"},
        {"{\"version\":2,\"refs\":{}}", DAMACY_UNSUPPORTED, "version"},
        {"{\"version\":-1,\"refs\":{}}", DAMACY_UNSUPPORTED, "version"},
        {"{\"version\":1,\"refs\":[]}", DAMACY_DECODE, "refs"},
        {"{\"version\":1,\"refs\":{},\"gen\":[{}]}", DAMACY_UNSUPPORTED, "gen"},
        {"{\"refs\":{\"k\":5}}", DAMACY_DECODE, "'k'"},
        {"{\"refs\":{\"k\":null}}", DAMACY_DECODE, "'k'"},
        {"{\"refs\":{\"k\":[]}}", DAMACY_DECODE, "[url"},
        {"{\"refs\":{\"k\":[null,0,1]}}", DAMACY_DECODE, "[url"},
        {"{\"refs\":{\"k\":[\"\",0,1]}}", DAMACY_DECODE, "no url"},
        {"{\"refs\":{\"k\":[\"u\",0]}}", DAMACY_DECODE, "[url"},
        {"{\"refs\":{\"k\":[\"u\",-1,1]}}", DAMACY_DECODE, "offset"},
        {"{\"refs\":{\"k\":[\"u\",0,1.5]}}", DAMACY_DECODE, "offset"},
        {"{\"refs\":{\"k\":[\"u\",9223372036854775807,1]}}", DAMACY_DECODE, "offset"},
        {"{\"refs\":{\"k\":[\"u\",18446744073709551615,1]}}", DAMACY_DECODE, "offset"},
        {"{\"refs\":{\"k\":\"base64:A\"}}", DAMACY_DECODE, "base64"},
        {"{\"refs\":{\"k\":\"base64:QQ=\"}}", DAMACY_DECODE, "base64"},
        {"{\"refs\":{\"k\":\"base64:Q===\"}}", DAMACY_DECODE, "base64"},
        {"{\"refs\":{\"k\":\"base64:QQ==QQ==\"}}", DAMACY_DECODE, "base64"},
        {"{\"refs\":{\"k\":\"base64:Q-==\"}}", DAMACY_DECODE, "base64"},
        {"{\"refs\":{\"k\":\"base64:Q=Q=\"}}", DAMACY_DECODE, "base64"},
        {"{\"templates\":{\"u\":\"{{v}}\"},\"refs\":{\"k\":[\"{{u}}\"]}}", DAMACY_UNSUPPORTED, "jinja"},
        {"{\"templates\":{\"u\":\"x\"},\"refs\":{\"k\":[\"{{u(i=1)}}\"]}}", DAMACY_UNSUPPORTED, "'{{u(i=1)}}'"},
        {"{\"templates\":{\"u\":\"x\"},\"refs\":{\"k\":[\"{{u\"]}}", DAMACY_DECODE, "not closed"},
        {"{\"refs\":{\"k\":\"1\",\"k\":\"2\"}}", DAMACY_DECODE, "JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct opened opened = open_text(cases[i].text, 0);
        if (opened.status != cases[i].status || !strstr(opened.error.message, cases[i].word))
            fail_msg("%s: %d '%s'", cases[i].text, opened.status, opened.error.message);
        opened_close(&opened);
    }
    /* A url that grows beyond all bounds. */
    static char text[200000];
    size_t at = (size_t)snprintf(text, sizeof text, "{\"templates\":{\"u\":\"");
    memset(text + at, 'a', 4000);
    at += 4000;
    at += (size_t)snprintf(text + at, sizeof text - at, "\"},\"refs\":{\"k\":[\"");
    for (int i = 0; i < 1000; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "{{u}}");
    snprintf(text + at, sizeof text - at, "\"]}}");
    struct opened opened = open_text(text, 0);
    assert_int_equal(opened.status, DAMACY_DECODE);
    assert_non_null(strstr(opened.error.message, "too long"));
    opened_close(&opened);
    opened = open_text(text, 10000);
    assert_int_equal(opened.status, DAMACY_BUDGET);
    opened_close(&opened);
}

static void test_parquet(void **state)
{
    (void)state;
    char path[400], prefix[512];
    struct dmc_stores *stores;
    struct dmc_store *store;
    struct damacy_error error;
    assert_int_equal(dmc_stores_create(NULL, &stores, NULL), DAMACY_OK);
    assert_int_equal(mkdir(in_folder(path, sizeof path, "combined.parq"), 0700), 0);
    assert_int_equal(dmc_stores_resolve(stores, path, &store, prefix, sizeof prefix, &error), DAMACY_OK);
    write_bytes(in_folder(path, sizeof path, "combined.parq/.zmetadata"), "{}", 2);
    in_folder(path, sizeof path, "combined.parq/temp");
    assert_int_equal(dmc_stores_resolve(stores, path, &store, prefix, sizeof prefix, &error), DAMACY_UNSUPPORTED);
    assert_non_null(strstr(error.message, "parquet"));
    write_bytes(in_folder(path, sizeof path, "refs.parquet"), "PAR1", 4);
    assert_int_equal(dmc_stores_resolve(stores, path, &store, prefix, sizeof prefix, &error), DAMACY_UNSUPPORTED);
    dmc_stores_destroy(stores);
}

/* What will be asked for is told to the store that a reference leads to, as a range there. */
static void test_expected(void **state)
{
    (void)state;
    char path[400], text[1200];
    in_folder(path, sizeof path, "target.bin");
    snprintf(text, sizeof text,
             "{\"version\": 1, \"refs\": {\"range\": [\"%s\", 100, 500], \"whole\": [\"%s\"], \"inline\": \"text\"}}", path,
             path);
    write_bytes(path, text, strlen(text));
    char document[400];
    in_folder(document, sizeof document, "expected.json");
    write_bytes(document, text, strlen(text));
    struct listening listening;
    listening_open(&listening, document);
    struct dmc_store *store = listening.store;
    store->ops->expect(store, "range", 0, 10, 50);
    assert_int_equal(told.count, 1);
    assert_string_equal(told.key, path);
    assert_int_equal(told.key_hash, dmc_hash_bytes(path, strlen(path), 0));
    assert_true(told.offset == 110 && told.bytes == 50);
    store->ops->expect(store, "/range", 0, 480, 50);
    assert_true(told.count == 2 && told.offset == 580 && told.bytes == 20);
    store->ops->expect(store, "whole", 0, 480, 50);
    assert_true(told.count == 3 && told.offset == 480 && told.bytes == 50);
    store->ops->expect(store, "range", 0, 500, 50);
    store->ops->expect(store, "inline", 0, 1, 2);
    store->ops->expect(store, "absent", 0, 1, 2);
    assert_int_equal(told.count, 3);
    listening_close(&listening);
}

static void test_allocations_that_fail(void **state)
{
    (void)state;
    char path[400];
    static char text[20000];
    write_bytes(in_folder(path, sizeof path, "target"), "0123456789", 10);
    size_t at = (size_t)snprintf(text, sizeof text, "{\"refs\":{\"i\":\"base64:QUJD\",\"o\":{\"a\":1}");
    for (int i = 0; i < 60; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, ",\"k/%d\":[\"%s\",%d,2]", i, path, i % 8);
    snprintf(text + at, sizeof text - at, "}}");
    write_bytes(in_folder(path, sizeof path, "fails.json"), text, strlen(text));
    container_allocations_fail(path, "k/3", 0, "34", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_suite),
                                       cmocka_unit_test(test_suite_delayed),
                                       cmocka_unit_test(test_documents),
                                       cmocka_unit_test(test_bad_documents),
                                       cmocka_unit_test(test_expected),
                                       cmocka_unit_test(test_parquet),
                                       cmocka_unit_test(test_allocations_that_fail)};
    return cmocka_run_group_tests(tests, folder_setup, folder_teardown);
}
