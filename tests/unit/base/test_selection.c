/* Goal: a fragment is taken as one only if it is one; what it says is what was written; what is wrong in it is told.
 *
 * Method: tables of uris; random texts must never crash, and whatever is not a fragment stays part of the path. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/selection.h"
#include "support/test_seed.h"

/* Is nothing picked at all? */
static bool is_empty(const struct dmc_selection *selection)
{
    return !dmc_selection_needs_group(selection) && !selection->member[0];
}

static struct dmc_selection parse(const char *uri, size_t expected_bytes)
{
    struct dmc_selection selection;
    struct damacy_error error;
    size_t bytes = 0;
    if (dmc_selection_parse(uri, &selection, &bytes, &error) != DAMACY_OK)
        fail_msg("%s: %s", uri, error.message);
    if (bytes != expected_bytes)
        fail_msg("%s: %zu, expected %zu", uri, bytes, expected_bytes);
    return selection;
}

static void test_none(void **state)
{
    (void)state;
    static const char *const uris[] = {"/a/b.zarr",
                                       "",
                                       "/a#b",
                                       "/a#",
                                       "#",
                                       "/a#level",
                                       "/a#Level=2",
                                       "/a#level=2&x=1",
                                       "/a#x=1&level=2",
                                       "/a#level=2&",
                                       "/a#&level=2",
                                       "/a#1/b.zarr",
                                       "/a#level=2/c#d",
                                       "s3://b/k#part"};
    for (size_t i = 0; i < sizeof uris / sizeof *uris; i++) {
        struct dmc_selection selection = parse(uris[i], strlen(uris[i]));
        assert_true(is_empty(&selection));
        assert_false(dmc_selection_needs_group(&selection));
    }
}

static void test_values(void **state)
{
    (void)state;
    struct dmc_selection s = parse("/a#level=2", 2);
    assert_true(s.has_level && s.level == 2 && !s.has_field && dmc_selection_needs_group(&s));
    s = parse("/a#b#level=0", 4); /* only the last '#' begins a fragment */
    assert_true(s.has_level && s.level == 0);
    s = parse("/a#member=outer.inner", 2);
    assert_string_equal(s.member, "outer.inner");
    assert_false(dmc_selection_needs_group(&s));
    assert_false(is_empty(&s));
    s = parse("/a#member=a%26b%23%25%c3%A9", 2);
    assert_string_equal(s.member, "a&b#%\xc3\xa9");
    s = parse("p#well=B/03&field=12&label=nuclei&level=1", 1);
    assert_string_equal(s.well, "B/03");
    assert_string_equal(s.label, "nuclei");
    assert_true(s.has_field && s.field == 12 && s.level == 1);
    s = parse("p#member=a=b", 1); /* a value may have '=' in it */
    assert_string_equal(s.member, "a=b");
}

static void test_scale(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } cases[] = {{"0.5", 0.5},   {"2", 2},        {".25", .25},           {"3.", 3},
                 {"1e-3", 1e-3}, {"1.5E+2", 150}, {"0.108333", 0.108333}, {"6.25e2", 625}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char uri[64];
        snprintf(uri, sizeof uri, "a#scale=%s", cases[i].text);
        struct dmc_selection s = parse(uri, 1);
        assert_int_equal(s.scale_count, 1);
        assert_true(s.scale[0] > cases[i].value * (1 - 1e-14) && s.scale[0] < cases[i].value * (1 + 1e-14));
    }
    struct dmc_selection s = parse("a#scale=2,0.5,.25&label=x", 1);
    assert_int_equal(s.scale_count, 3);
    assert_true(s.scale[0] == 2 && s.scale[1] == 0.5 && s.scale[2] == 0.25);
}

static void test_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *uri, *part;
    } cases[] = {
        {"a#level=", "level is wrong"},
        {"a#level=x", "level is wrong: found x, expected a number from 0 to 65535"},
        {"a#level=-1", "level is wrong"},
        {"a#level=1.5", "level is wrong"},
        {"a#level=65536", "level is wrong"},
        {"a#level=99999999999999999999", "level is wrong"},
        {"a#field=1x", "field is wrong"},
        {"a#member=", "member is wrong"},
        {"a#member=%", "member is wrong"},
        {"a#member=%4", "member is wrong"},
        {"a#member=%zz", "member is wrong"},
        {"a#member=%00", "member is wrong"},
        {"a#scale=", "scale is wrong"},
        {"a#scale=0", "scale is wrong"},
        {"a#scale=-1", "scale is wrong"},
        {"a#scale=nan", "scale is wrong"},
        {"a#scale=inf", "scale is wrong"},
        {"a#scale=1e400", "scale is wrong"},
        {"a#scale=1e", "scale is wrong"},
        {"a#scale=1..2", "scale is wrong"},
        {"a#scale=0x10", "scale is wrong"},
        {"a#scale=1,", "scale is wrong"},
        {"a#scale=1,,2", "scale is wrong"},
        {"a#scale=1;2", "scale is wrong"},
        {"a#scale=.", "scale is wrong"},
        {"a#scale=1,2,3,4,5,6,7,8,9", "at most 8 numbers"},
        {"a#scale=99999999999999999999999999999999999999999", "scale is wrong"},
        {"a#level=1&level=1", "says level twice"},
        {"a#level=1&scale=1", "both level and scale"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dmc_selection selection;
        struct damacy_error error = {0};
        size_t bytes;
        enum damacy_status status = dmc_selection_parse(cases[i].uri, &selection, &bytes, &error);
        if (status != DAMACY_INVAL || !strstr(error.message, cases[i].part))
            fail_msg("%s: %s %s", cases[i].uri, damacy_status_str(status), error.message);
        assert_int_equal(dmc_selection_parse(cases[i].uri, &selection, &bytes, NULL), DAMACY_INVAL);
    }
    for (int extra = 0; extra < 2; extra++) {
        char uri[300], filler[200];
        memset(filler, 'x', sizeof filler);
        snprintf(uri, sizeof uri, "a#member=%.*s", 127 + extra, filler);
        struct dmc_selection selection;
        size_t bytes;
        assert_int_equal(dmc_selection_parse(uri, &selection, &bytes, NULL), extra ? DAMACY_INVAL : DAMACY_OK);
    }
}

static void test_random(void **state)
{
    (void)state;
    static const char *const pieces[] = {"level=", "scale=", "label=", "well=", "field=", "member=", "#",   "&",
                                         "=",      "1",      "0.5",    ",",     "%41",    "%",       "a/b", "e5"};
    srandom((unsigned)seed_of_test("test_random", 20240817));
    for (int i = 0; i < 50000; i++) {
        char uri[256] = "p#";
        for (int k = (int)(random() % 9); k > 0; k--)
            strcat(uri, pieces[(size_t)random() % (sizeof pieces / sizeof *pieces)]);
        struct dmc_selection selection;
        struct damacy_error error = {0};
        size_t bytes = 0;
        enum damacy_status status = dmc_selection_parse(uri, &selection, &bytes, &error);
        assert_true(status == DAMACY_OK || (status == DAMACY_INVAL && error.message[0]));
        if (status != DAMACY_OK)
            continue;
        assert_true(bytes == strlen(uri) ? is_empty(&selection) : uri[bytes] == '#' && !is_empty(&selection));
    }
}

/* What is said of a uri at which nothing is. */
static void test_doubt(void **state)
{
    (void)state;
    static const struct {
        const char *uri, *says;
    } cases[] = {
        {"~/data/a.zarr", "expanduser"},
        {"/data/a.zarr#lvel=1", "level=, scale="},
        {"s3://b/a.zarr#level=1&x=2", "'#'"},
        {"data/a.zarr", "in which the program runs"},
        {"a#level=1", "in which the program"},
        {"s3:/bucket/a.zarr", "as a str"},
        {"a.zarr#level", "'#'"},
        {"a.zarr#level=1&", "'#'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *doubt = dmc_selection_doubt(cases[i].uri);
        assert_int_equal(strncmp(doubt, "; ", 2), 0);
        assert_non_null(strstr(doubt, cases[i].says));
        assert_true(strlen(doubt) < 128); /* it stands behind another hint */
    }
    static const char *const sure[] = {"/data/a.zarr", "/data/a.zarr#level=1", "/data/run#3/a.zarr", "s3://bucket/~a",
                                       "file:///a"};
    for (size_t i = 0; i < sizeof sure / sizeof *sure; i++)
        assert_string_equal(dmc_selection_doubt(sure[i]), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none),  cmocka_unit_test(test_values), cmocka_unit_test(test_scale),
        cmocka_unit_test(test_wrong), cmocka_unit_test(test_random), cmocka_unit_test(test_doubt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
