/* Goal: every node of consolidated metadata is called back with its own text; broken documents and paths that lead out are
 * told.
 *
 * Method: small documents of both formats against a list of lines; every cut and every changed byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "zarr/consolidated.h"

struct seen {
    char text[2000];
    size_t count, stop_at;
};

static bool visit(void *user, const struct dmc_consolidated_entry *entry)
{
    static const char *const kinds[] = {"array", "group", ".zarray", ".zgroup", ".zattrs"};
    struct seen *seen = user;
    assert_int_equal(strlen(entry->path), entry->path_bytes);
    size_t used = strlen(seen->text);
    snprintf(seen->text + used, sizeof seen->text - used, "%s %s %.*s\n", entry->path, kinds[entry->kind],
             (int)entry->text.bytes, entry->text.text);
    return ++seen->count != seen->stop_at;
}

static void good(const char *text, const char *expected)
{
    struct seen seen = {0};
    struct damacy_error error;
    if (dmc_consolidated_each(text, strlen(text), visit, &seen, &error) != DAMACY_OK)
        fail_msg("%s: %s", text, error.message);
    assert_string_equal(seen.text, expected);
}

static void bad(enum damacy_status expected, const char *part, const char *text)
{
    struct seen seen = {0};
    struct damacy_error error = {0};
    enum damacy_status status = dmc_consolidated_each(text, strlen(text), visit, &seen, &error);
    if (status != expected || !strstr(error.message, part))
        fail_msg("%s: %s %s, expected %s", text, damacy_status_str(status), error.message, part);
}

#define V2(metadata) "{\"metadata\": " metadata ", \"zarr_consolidated_format\": 1}"
#define V3(metadata)                                                                                                           \
    "{\"zarr_format\":3,\"node_type\":\"group\",\"consolidated_metadata\":{\"kind\":\"inline\",\"must_understand\":false,"     \
    "\"metadata\":" metadata "}}"

static void test_consolidated(void **state)
{
    (void)state;
    good(V2("{ \".zgroup\" : {\"zarr_format\": 2} , \".zattrs\": "
            "{\"x\":\"}\\\"{\"},\n\"a/b/.zarray\":{\"shape\":[1,[2]]},\"a/.zgroup\":{}, \"a/other\":7}"),
         " .zgroup {\"zarr_format\": 2}\n .zattrs {\"x\":\"}\\\"{\"}\na/b .zarray {\"shape\":[1,[2]]}\na .zgroup {}\n");
    good(V3("{\"a\":{\"node_type\":\"array\",\"shape\":[1]},\"a b/\\u00e9\":{ \"node_type\" : "
            "\"group\"},\"t\":{\"node_type\":\"table\"}}"),
         "a array {\"node_type\":\"array\",\"shape\":[1]}\na b/\xc3\xa9 group { \"node_type\" : \"group\"}\n");
    good(V2("{}"), "");
    good(V3("{}"), "");
    struct seen seen = {.stop_at = 1};
    const char *two = V2("{\".zgroup\":{},\"a/.zgroup\":{}}");
    assert_int_equal(dmc_consolidated_each(two, strlen(two), visit, &seen, NULL), DAMACY_OK);
    assert_int_equal(seen.count, 1);
}

static void test_broken(void **state)
{
    (void)state;
    bad(DAMACY_NOTFOUND, "no consolidated metadata", "{\"zarr_format\":3,\"node_type\":\"group\"}");
    bad(DAMACY_NOTFOUND, "no consolidated metadata", "{\"consolidated_metadata\":null}");
    bad(DAMACY_UNSUPPORTED, "kind", "{\"consolidated_metadata\":{\"kind\":\"elsewhere\",\"metadata\":{}}}");
    bad(DAMACY_UNSUPPORTED, "zarr_consolidated_format", "{\"zarr_consolidated_format\":2,\"metadata\":{}}");
    bad(DAMACY_DECODE, "no object", "{\"zarr_consolidated_format\":1}");
    bad(DAMACY_DECODE, "no object", V2("[]"));
    bad(DAMACY_DECODE, "no JSON object", "[]");
    bad(DAMACY_DECODE, "no JSON object", "");
    bad(DAMACY_DECODE, "no JSON", "{\"zarr_consolidated_format\":1,\"metadata\":{\"a\" 1}}");
    static const char *const paths[] = {"../a/.zarray", "/a/.zarray",    "a//.zarray",
                                        "a/../.zarray", "a/./b/.zarray", "a\\\\b/.zarray"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char text[200];
        snprintf(text, sizeof text, V2("{\"%s\":{}}"), paths[i]);
        bad(DAMACY_DECODE, "is no path in the hierarchy", text);
    }
    bad(DAMACY_DECODE, "zero", V2("{\"a\\u0000/.zarray\":{}}"));
    char *text = malloc(6000);
    int used = sprintf(text, "{\"zarr_consolidated_format\":1,\"metadata\":{\"");
    memset(text + used, 'a', 4096);
    strcpy(text + used + 4096, "\":{}}}");
    bad(DAMACY_DECODE, "longer than 4095", text);
    free(text);
}

/* Any text at all: no crash, and views that lie inside of it. */
static bool inside(void *user, const struct dmc_consolidated_entry *entry)
{
    const struct dmc_text *all = user;
    assert_true(entry->text.text >= all->text && entry->text.text + entry->text.bytes <= all->text + all->bytes &&
                entry->text.bytes > 0);
    return true;
}

static void test_cut_and_changed(void **state)
{
    (void)state;
    static const char replacements[] = "\0 0\"{[,:}]x\xff-\\";
    static const char *const wholes[] = {V2("{\".zgroup\":{\"zarr_format\":2},\"a/.zarray\":{\"shape\":[1,2]}}"),
                                         V3("{\"a\":{\"node_type\":\"array\"},\"a\\\\u0062\":{\"node_type\":\"group\"}}")};
    for (size_t w = 0; w < 2; w++) {
        size_t bytes = strlen(wholes[w]);
        for (size_t i = 0; i <= bytes; i++) {
            char *cut = malloc(i ? i : 1);
            memcpy(cut, wholes[w], i);
            struct dmc_text all = {cut, i};
            dmc_consolidated_each(cut, i, inside, &all, NULL);
            free(cut);
            for (size_t r = 0; i < bytes && r < sizeof replacements - 1; r++) {
                char *text = malloc(bytes);
                memcpy(text, wholes[w], bytes);
                text[i] = replacements[r];
                all = (struct dmc_text){text, bytes};
                struct damacy_error error = {0};
                enum damacy_status status = dmc_consolidated_each(text, bytes, inside, &all, &error);
                assert_true(status == DAMACY_OK || error.message[0]);
                free(text);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_consolidated), cmocka_unit_test(test_broken),
                                       cmocka_unit_test(test_cut_and_changed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
