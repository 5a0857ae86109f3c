/* Goal: every node of consolidated metadata is called back with its own text; a node says what it is, how its axes are called,
 * and which members it has; broken documents and paths that lead out are told.
 *
 * Method: small documents of both formats against a list of lines; every cut and every changed byte; the n-th allocation fails.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "zarr/zarr_node.h"

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

/* --- nodes --- */

static struct dmc_node *node_of(const char *text, const char *file)
{
    struct dmc_node *node = NULL;
    struct damacy_error error;
    if (dmc_node_parse(text, strlen(text), file, &node, &error) != DAMACY_OK)
        fail_msg("%s: %s", text, error.message);
    return node;
}

static void check(struct dmc_text view, const char *expected)
{
    if (!expected)
        assert_null(view.text);
    else if (!dmc_text_is(view, expected))
        fail_msg("got %.*s, expected %s", (int)view.bytes, view.text ? view.text : "", expected);
}

static void test_nodes(void **state)
{
    (void)state;
    struct dmc_node *node = node_of(
        "{\"zarr_format\":3,\"node_type\":\"array\",\"attributes\": {\"a\":[1]} "
        ",\"data_type\":\"int8\",\"fill_value\":0,\"codecs\":[\"bytes\"],"
        "\"chunk_grid\":{\"name\":\"regular\"},\"chunk_key_encoding\":\"default\",\"dimension_names\":[\"y\",null,\"x\"]}",
        "zarr.json");
    assert_int_equal(node->kind, DMC_METADATA_ARRAY);
    check(node->attributes, "{\"a\":[1]}");
    check(node->data_type, "\"int8\"");
    check(node->fill_value, "0");
    check(node->codecs, "[\"bytes\"]");
    check(node->chunk_grid, "{\"name\":\"regular\"}");
    check(node->chunk_key_encoding, "\"default\"");
    check(node->order, NULL);
    assert_int_equal(node->dimension_count, 3);
    assert_string_equal(node->dimensions[0], "y");
    assert_null(node->dimensions[1]);
    dmc_node_free(node);

    node = node_of("{\"zarr_format\":2,\"shape\":[1],\"chunks\":[1],\"dtype\":[[\"x\",\"<f4\"],[\"\",\"|V2\"],[\"p\",[[\"q\","
                   "\"|u1\"],[\"r\",\"|u1\"]]]],\"compressor\":null,"
                   "\"filters\":[],\"order\":\"F\",\"dimension_separator\":\"/\",\"fill_value\":null}",
                   NULL);
    assert_int_equal(node->kind, DMC_METADATA_V2_ARRAY);
    check(node->compressor, "null");
    check(node->filters, "[]");
    check(node->order, "\"F\"");
    check(node->chunk_key_encoding, "\"/\"");
    check(node->chunk_grid, "[1]");
    check(node->fill_value, "null");
    assert_int_equal(node->member_count, 3);
    assert_string_equal(node->members[0], "x");
    assert_string_equal(node->members[1], "p.q");
    assert_string_equal(node->members[2], "p.r");
    dmc_node_free(node);

    node = node_of("{\"zarr_format\":2}", NULL);
    assert_int_equal(node->kind, DMC_METADATA_V2_GROUP);
    dmc_node_free(node);
    node = node_of("{\"_ARRAY_DIMENSIONS\":[\"time\",\"lat\"],\"units\":\"K\"}", ".zattrs");
    assert_int_equal(node->kind, DMC_METADATA_V2_ATTRIBUTES);
    assert_int_equal(node->dimension_count, 2);
    assert_string_equal(node->dimensions[1], "lat");
    check(node->attributes, "{\"_ARRAY_DIMENSIONS\":[\"time\",\"lat\"],\"units\":\"K\"}");
    dmc_node_free(node);
    node = node_of(V3("{}"), "zarr.json");
    assert_int_equal(node->kind, DMC_METADATA_GROUP);
    assert_true(node->consolidated);
    dmc_node_free(node);
    node = node_of(
        "{\"zarr_format\":3,\"node_type\":\"array\",\"dimension_names\":null,\"attributes\":{\"_ARRAY_DIMENSIONS\":[\"t\"]},"
        "\"data_type\":{\"name\":\"struct\",\"configuration\":{\"fields\":[{\"name\":\"x\",\"data_type\":\"int8\"}]}}}",
        NULL);
    assert_int_equal(node->dimension_count, 1);
    assert_int_equal(node->member_count, 1);
    dmc_node_free(node);

    static const struct {
        const char *text, *file;
        enum damacy_status status;
    } wrong[] = {{"[]", NULL, DAMACY_DECODE},
                 {"{", NULL, DAMACY_DECODE},
                 {"{\"zarr_format\":3}", NULL, DAMACY_DECODE},
                 {"{\"zarr_format\":2}", "zarr.json", DAMACY_UNSUPPORTED},
                 {"{}", ".zarray", DAMACY_DECODE},
                 {"{\"zarr_format\":3,\"node_type\":\"array\"}", ".zarray", DAMACY_UNSUPPORTED}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct damacy_error error = {0};
        node = NULL;
        assert_int_equal(dmc_node_parse(wrong[i].text, strlen(wrong[i].text), wrong[i].file, &node, &error), wrong[i].status);
        assert_true(error.message[0] && !node);
    }
}

static void test_allocations_fail(void **state)
{
    (void)state;
    const char *text =
        "{\"zarr_format\":2,\"shape\":[1],\"dtype\":[[\"x\",\"<f4\"]],\"attributes\":{\"_ARRAY_DIMENSIONS\":[\"t\"]}}";
    for (uint64_t n = 1;; n++) {
        struct dmc_node *node = NULL;
        struct damacy_error error = {0};
        dmc_mem_fail_at(n);
        enum damacy_status status = dmc_node_parse(text, strlen(text), NULL, &node, &error);
        dmc_mem_fail_at(0);
        if (status == DAMACY_OK) {
            assert_true(n > 3);
            dmc_node_free(node);
            break;
        }
        assert_int_equal(status, DAMACY_OOM);
        assert_null(node);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_consolidated), cmocka_unit_test(test_broken),           cmocka_unit_test(test_cut_and_changed),
        cmocka_unit_test(test_nodes),        cmocka_unit_test(test_allocations_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
