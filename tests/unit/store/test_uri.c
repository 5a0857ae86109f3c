/* Goal: each uri leads to the right store and key, or to an error that says what is wrong with it.
 * Method: tables. */
#include "store_fixture.h"

static struct dmc_stores *stores;
static struct dmc_store *memory;

static int stores_setup(void **state)
{
    (void)state;
    return dmc_stores_create(NULL, &stores, NULL) == DAMACY_OK && dmc_store_memory_create(&memory, NULL) == DAMACY_OK ? 0 : -1;
}

static int stores_teardown(void **state)
{
    (void)state;
    dmc_stores_destroy(stores);
    dmc_store_destroy(memory);
    return 0;
}

static void test_good_uris(void **state)
{
    (void)state;
    static const struct {
        const char *uri, *prefix;
        bool memory;
    } cases[] = {{"/data/a.zarr", "/data/a.zarr", false},
                 {"/data/a.zarr///", "/data/a.zarr", false},
                 {"/", "", false},
                 {"relative/a.zarr", "relative/a.zarr", false},
                 {"../up/./a.zarr/", "../up/./a.zarr", false},
                 {".", ".", false},
                 {"/with space/100%/%41", "/with space/100%/%41", false},
                 {"/a://b", "/a://b", false},
                 {"./s3://b", "./s3://b", false},
                 {"c:/windows", "c:/windows", false},
                 {"9p://x", "9p://x", false}, /* no scheme begins with a digit */
                 {"://x", "://x", false},
                 {"file:///data/a.zarr", "/data/a.zarr", false},
                 {"FILE:///data/a.zarr/", "/data/a.zarr", false},
                 {"file://localhost/data/a.zarr", "/data/a.zarr", false},
                 {"file://LocalHost/x", "/x", false},
                 {"file:/data/a.zarr", "/data/a.zarr", false},
                 {"file:///", "", false},
                 {"file:///with%20space/%c3%A9%25/%2F", "/with space/\xc3\xa9%", false},
                 {"file:///a/../b", "/a/../b", false},
                 {"file:///a?b#c", "/a?b#c", false},
                 {"memory://name", "name", true},
                 {"memory://a/b%20/", "a/b%20", true}};
    dmc_stores_set(stores, "memory", memory);
    struct dmc_store *file = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char prefix[256];
        struct dmc_store *store = NULL;
        struct damacy_error error = {0};
        enum damacy_status status = dmc_stores_resolve(stores, cases[i].uri, &store, prefix, sizeof prefix, &error);
        if (status != DAMACY_OK)
            fail_msg("%s: %s", cases[i].uri, error.message);
        assert_string_equal(prefix, cases[i].prefix);
        assert_int_equal(store == memory, cases[i].memory);
        if (!cases[i].memory) {
            assert_true(!file || store == file);
            file = store;
            assert_string_equal(store->ops->scheme, "file");
        }
    }
    dmc_stores_set(stores, "memory", NULL);
}

static void test_bad_uris(void **state)
{
    (void)state;
    static const struct {
        const char *uri;
        enum damacy_status status;
        const char *word;
    } cases[] = {{NULL, DAMACY_INVAL, "empty"},
                 {"", DAMACY_INVAL, "empty"},
                 {"ftp://host/a", DAMACY_UNSUPPORTED, "'ftp://'"},
                 {"http:///a", DAMACY_INVAL, "no host"},
                 {"https://host:0/a", DAMACY_INVAL, "port"},
                 {"s3://a/b", DAMACY_INVAL, "no bucket's name"},
                 {"gcs://bucket/a", DAMACY_UNSUPPORTED, "is gs:// here"},
                 {"az://container/a", DAMACY_UNSUPPORTED, "the https:// uri does"},
                 {"a+b.c-1://x", DAMACY_UNSUPPORTED, "'a+b.c-1://'"},
                 {"memory://a", DAMACY_UNSUPPORTED, "'memory://'"},
                 {"file://", DAMACY_INVAL, "no path"},
                 {"file://localhost", DAMACY_INVAL, "no path"},
                 {"file://relative/a", DAMACY_INVAL, "'relative'"},
                 {"file://localhosts/a", DAMACY_INVAL, "'localhosts'"},
                 {"file:///a%", DAMACY_INVAL, "hex"},
                 {"file:///a%4", DAMACY_INVAL, "hex"},
                 {"file:///a%4g", DAMACY_INVAL, "hex"},
                 {"file:///a%00b", DAMACY_INVAL, "hex"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char prefix[256];
        struct dmc_store *store = NULL;
        struct damacy_error error = {0};
        assert_int_equal(dmc_stores_resolve(stores, cases[i].uri, &store, prefix, sizeof prefix, &error), cases[i].status);
        assert_int_equal(error.status, cases[i].status);
        if (!strstr(error.message, cases[i].word))
            fail_msg("'%s' does not say '%s'", error.message, cases[i].word);
        assert_int_equal(dmc_stores_resolve(stores, cases[i].uri, &store, prefix, sizeof prefix, NULL), cases[i].status);
    }
    dmc_stores_set(stores, "memory", memory);
    char prefix[16];
    struct dmc_store *store;
    assert_int_equal(dmc_stores_resolve(stores, "memory://", &store, prefix, sizeof prefix, NULL), DAMACY_INVAL);
    dmc_stores_set(stores, "memory", NULL);
    dmc_stores_set(stores, "nonsense", memory);
}

static void test_lengths(void **state)
{
    (void)state;
    static char uri[DAMACY_URI_BYTES_MAX + 2], prefix[DAMACY_URI_BYTES_MAX + 1];
    struct dmc_store *store;
    memset(uri, 'a', DAMACY_URI_BYTES_MAX);
    assert_int_equal(dmc_stores_resolve(stores, uri, &store, prefix, sizeof prefix, NULL), DAMACY_OK);
    assert_int_equal(strlen(prefix), DAMACY_URI_BYTES_MAX);
    assert_int_equal(dmc_stores_resolve(stores, uri, &store, prefix, sizeof prefix - 1, NULL), DAMACY_INVAL);
    uri[DAMACY_URI_BYTES_MAX] = 'a';
    assert_int_equal(dmc_stores_resolve(stores, uri, &store, prefix, sizeof prefix, NULL), DAMACY_INVAL);
    char small[4];
    assert_int_equal(dmc_stores_resolve(stores, "/ab", &store, small, sizeof small, NULL), DAMACY_OK);
    assert_string_equal(small, "/ab");
    assert_int_equal(dmc_stores_resolve(stores, "/abc", &store, small, sizeof small, NULL), DAMACY_INVAL);
    assert_int_equal(dmc_stores_resolve(stores, "/abc", &store, small, 0, NULL), DAMACY_INVAL);
}

static void test_file_store_can_be_replaced(void **state)
{
    (void)state;
    struct dmc_stores *own;
    struct dmc_store *store;
    char prefix[16];
    assert_int_equal(dmc_stores_create(NULL, &own, NULL), DAMACY_OK);
    dmc_stores_set(own, "file", memory);
    assert_int_equal(dmc_stores_resolve(own, "file:///a", &store, prefix, sizeof prefix, NULL), DAMACY_OK);
    assert_ptr_equal(store, memory);
    assert_int_equal(dmc_stores_resolve(own, "/a", &store, prefix, sizeof prefix, NULL), DAMACY_OK);
    assert_ptr_equal(store, memory);
    dmc_stores_destroy(own);
    dmc_stores_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good_uris), cmocka_unit_test(test_bad_uris),
                                       cmocka_unit_test(test_lengths), cmocka_unit_test(test_file_store_can_be_replaced)};
    return cmocka_run_group_tests(tests, stores_setup, stores_teardown);
}
