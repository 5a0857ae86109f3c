/* Goal: errors say what and where, in this order, and never overflow. Method: build stories step by step, with texts that are
 * too long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_story(void **state)
{
    (void)state;
    struct damacy_error error;
    memset(&error, 0xee, sizeof error);
    assert_int_equal(dmc_error_set(&error, DAMACY_DECODE, "index", "shard index checksum is wrong"), DAMACY_DECODE);
    dmc_error_expected(&error, "0x00001234", "0xdeadbeef");
    dmc_error_where(&error, NULL, "c/0/3", 4096, 5120);
    dmc_error_where(&error, "brain.zarr/0", NULL, 0, 0);
    dmc_error_field(&error, "image");
    dmc_error_hint(&error, "write the shard %d again", 3);
    assert_int_equal(error.status, DAMACY_DECODE);
    assert_string_equal(error.stage, "index");
    assert_string_equal(error.uri, "brain.zarr/0");
    assert_string_equal(error.key, "c/0/3");
    assert_string_equal(error.field, "image");
    assert_string_equal(error.expected, "0x00001234");
    assert_string_equal(error.found, "0xdeadbeef");
    assert_string_equal(error.hint, "write the shard 3 again");
    assert_int_equal(error.range_begin, 4096);
    assert_int_equal(error.range_end, 5120);
    assert_string_equal(error.message, "field 'image': brain.zarr/0: c/0/3 [4096, 5120): shard index checksum is wrong: found "
                                       "0xdeadbeef, expected 0x00001234; write the shard 3 again");
}

static void test_places(void **state)
{
    (void)state;
    struct damacy_error error;
    dmc_error_set(&error, DAMACY_IO, "read", "no");
    dmc_error_where(&error, "u", "k", 0, 0);
    assert_string_equal(error.message, "u: k: no");
    dmc_error_where(&error, "u", "k", 0, 0); /* known already */
    dmc_error_where(&error, NULL, NULL, 0, 0);
    dmc_error_where(&error, "", "", 0, 0);
    dmc_error_field(&error, "");
    dmc_error_field(&error, NULL);
    assert_string_equal(error.message, "u: k: no");
    dmc_error_where(&error, NULL, NULL, 0, 10);
    assert_string_equal(error.message, "[0, 10): u: k: no");
    dmc_error_where(&error, "outer", NULL, 0, 0); /* the innermost place stays the member */
    assert_string_equal(error.uri, "u");
    assert_string_equal(error.message, "outer: [0, 10): u: k: no");
    dmc_error_set(&error, DAMACY_IO, NULL, "no");
    dmc_error_where(&error, "u", NULL, 1, 2);
    assert_string_equal(error.message, "u [1, 2): no");
    assert_string_equal(error.stage, "");
}

static void test_null(void **state)
{
    (void)state;
    assert_int_equal(dmc_error_set(NULL, DAMACY_OOM, "x", "y"), DAMACY_OOM);
    assert_int_equal(dmc_error_set_os(NULL, DAMACY_IO, "x", ENOENT, "y"), DAMACY_IO);
    dmc_error_where(NULL, "a", "b", 1, 2);
    dmc_error_field(NULL, "a");
    dmc_error_expected(NULL, "a", "b");
    dmc_error_hint(NULL, "a");
}

static void test_os(void **state)
{
    (void)state;
    struct damacy_error error;
    assert_int_equal(dmc_error_set_os(&error, DAMACY_IO, "read", ENOENT, "open %s", "x"), DAMACY_IO);
    assert_int_equal(error.os_error, ENOENT);
    assert_string_equal(error.message, "open x: No such file or directory");
}

static void test_cutting(void **state)
{
    (void)state;
    struct damacy_error *error = malloc(sizeof *error); /* on the heap, so that ASan sees an overrun */
    char *text = malloc(5001);
    memset(text, 'x', 5000);
    text[5000] = 0;
    dmc_error_set(error, DAMACY_IO, text, "%s", text);
    assert_int_equal(strlen(error->message), sizeof error->message - 1);
    assert_string_equal(error->message + sizeof error->message - 4, "...");
    assert_int_equal(strlen(error->stage), sizeof error->stage - 1);
    dmc_error_expected(error, text, text);
    dmc_error_hint(error, "%s", text);
    dmc_error_where(error, text, text, 1, UINT64_MAX);
    dmc_error_field(error, text);
    assert_int_equal(strlen(error->uri), sizeof error->uri - 1);
    assert_string_equal(error->uri + sizeof error->uri - 4, "...");
    assert_string_equal(error->key + sizeof error->key - 4, "...");
    assert_string_equal(error->field + sizeof error->field - 4, "...");
    assert_string_equal(error->hint + sizeof error->hint - 4, "...");
    assert_string_equal(error->found + sizeof error->found - 4, "...");
    assert_string_equal(error->message + sizeof error->message - 4, "...");

    /* The longest uri must not push the reason out of the message. */
    dmc_error_set(error, DAMACY_IO, "read", "the reason");
    dmc_error_where(error, text, text, 0, 0);
    assert_non_null(strstr(error->message, "the reason"));
    size_t before = strlen(error->message);
    dmc_error_where(error, text, text, 0, 0); /* cut, but still the same place */
    assert_int_equal(strlen(error->message), before);

    char small[8];
    dmc_text_copy(small, sizeof small, "1234567");
    assert_string_equal(small, "1234567");
    dmc_text_copy(small, sizeof small, "12345678");
    assert_string_equal(small, "1234...");
    dmc_text_copy(small, sizeof small, "123\u00b5\u00b5\u00b5"); /* the cut would fall inside a character */
    assert_string_equal(small, "123...");
    dmc_text_copy(small, 3, "abcdef");
    assert_string_equal(small, "..");
    dmc_text_copy(small, 1, "abcdef");
    assert_string_equal(small, "");
    dmc_text_copy(small, 0, "abcdef");
    free(text);
    free(error);
}

static void test_own_text(void **state)
{
    (void)state;
    struct damacy_error error;
    dmc_error_set(&error, DAMACY_IO, "read", "inner");
    dmc_error_set(&error, DAMACY_DECODE, error.stage, "outer of %s", error.message);
    assert_string_equal(error.message, "outer of inner");
}

/* What may be secret in a uri is not told. */
static void test_secret_uris(void **state)
{
    (void)state;
    static const struct {
        const char *uri, *shown;
    } uris[] = {
        {"https://me:sesame@host:8443/a.zarr", "https://***@host:8443/a.zarr"},
        {"https://host/a.zarr?sig=sesame&x=1", "https://host/a.zarr?***"},
        {"http://sesame@host/a@b?sesame", "http://***@host/a@b?***"},
        {"https://host/a@b", "https://host/a@b"},
        {"s3://bucket/what?", "s3://bucket/what?"},
        {"/data/a@b?c", "/data/a@b?c"},
        {"://x@y", "://x@y"},
        {"HTTPS://me@host/a.zarr?sig=sesame#level=2", "HTTPS://***@host/a.zarr?***#level=2"},
        {"https://host/a.zarr#scale=0.5?", "https://host/a.zarr#scale=0.5?"},
        {"https://me:ses/ame@host/a.zarr", "https://***"},
        {"https://me:ses#ame@host/a.zarr?x", "https://***"},
        {"https://[::1]:8443/a", "https://[::1]:8443/a"},
        {"http://host:8080/a:b", "http://host:8080/a:b"},
        {"ftp://me@host/a?sesame", "ftp://***@host/a?***"},
        {"file:///data/what?", "file:///data/what?"},
        {"s3://key:sesame@bucket/a.zarr", "s3://***@bucket/a.zarr"},
    };
    for (size_t i = 0; i < sizeof uris / sizeof uris[0]; i++) {
        struct damacy_error error;
        dmc_error_set(&error, DAMACY_IO, "read", "no");
        dmc_error_where(&error, uris[i].uri, "k", 0, 0);
        dmc_error_where(&error, uris[i].uri, "k", 0, 0);
        assert_string_equal(error.uri, uris[i].shown);
        char expected[200];
        snprintf(expected, sizeof expected, "%s: k: no", uris[i].shown);
        assert_string_equal(error.message, expected);
    }
    char small[16], whole[DAMACY_URI_BYTES_MAX + 1];
    damacy_uri_shown("https://host/a.zarr?sesame", small, sizeof small);
    assert_string_equal(small, "https://host...");
    memset(whole, 'x', sizeof whole);
    memcpy(whole, "https://me:sesame@", 18);
    whole[DAMACY_URI_BYTES_MAX] = 0;
    char shown[sizeof whole];
    damacy_uri_shown(whole, shown, sizeof shown);
    assert_int_equal(strncmp(shown, "https://***@xxx", 15), 0);
    assert_int_equal(strlen(shown), strlen(whole) - 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_story),      cmocka_unit_test(test_places),
                                       cmocka_unit_test(test_null),       cmocka_unit_test(test_os),
                                       cmocka_unit_test(test_cutting),    cmocka_unit_test(test_own_text),
                                       cmocka_unit_test(test_secret_uris)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
