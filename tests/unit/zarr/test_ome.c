/* Goal: what OME-Zarr metadata of every version say is what the struct says; a level or a well is found as a user names it;
 * what is wrong is told by name, and paths that lead out of the group are refused.
 *
 * Method: the shapes of metadata that each version defines, and what known writers made of them; every cut and every changed
 * byte of one text; the n-th allocation fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "zarr/ome.h"

static struct dmc_ome *parse(const char *text)
{
    struct dmc_ome *ome = NULL;
    struct damacy_error error;
    if (dmc_ome_parse(text, strlen(text), &ome, &error) != DAMACY_OK)
        fail_msg("%s: %s", text, error.message);
    return ome;
}

static void bad(enum damacy_status expected, const char *part, const char *text)
{
    struct dmc_ome *ome = NULL;
    struct damacy_error error = {0};
    enum damacy_status status = dmc_ome_parse(text, strlen(text), &ome, &error);
    if (status != expected || !strstr(error.message, part) || ome)
        fail_msg("%.200s: %s %s, expected %s", text, damacy_status_str(status), error.message, part);
    assert_int_equal(dmc_ome_parse(text, strlen(text), &ome, NULL), expected);
}

#define AXES                                                                                                                   \
    "[{\"name\":\"c\",\"type\":\"channel\"},{\"name\":\"z\",\"type\":\"space\",\"unit\":\"micrometer\"},{\"name\":\"y\","      \
    "\"type\":\"space\","                                                                                                      \
    "\"unit\":\"micrometer\"},{\"name\":\"x\",\"type\":\"space\",\"unit\":\"micrometer\"}]"
#define LEVEL(path, scale) "{\"path\":\"" path "\",\"coordinateTransformations\":[{\"type\":\"scale\",\"scale\":" scale "}]}"
#define IMAGE(more)                                                                                                            \
    "\"multiscales\":[{\"version\":\"0.4\",\"name\":\"cells\",\"axes\":" AXES                                                  \
    ",\"datasets\":[" LEVEL("0", "[1,2,0.5,0.5]") "," LEVEL("1", "[1,2,1,1]") "," LEVEL("2", "[1,4,2,2]") "]" more "}]"

static void check_image(const struct dmc_ome *ome)
{
    assert_int_equal(ome->multiscale_count, 1);
    const struct dmc_ome_multiscale *image = ome->multiscales;
    assert_string_equal(image->name, "cells");
    assert_int_equal(image->axis_count, 4);
    assert_string_equal(image->axes[0].name, "c");
    assert_string_equal(image->axes[0].type, "channel");
    assert_string_equal(image->axes[0].unit, "");
    assert_string_equal(image->axes[3].unit, "micrometer");
    assert_string_equal(image->axes[2].name, "y");
    assert_int_equal(image->level_count, 3);
    assert_string_equal(image->levels[2].path, "2");
    assert_true(image->levels[2].scale[1] == 4 && image->levels[2].scale[3] == 2 && image->levels[2].translation[3] == 0);
}

static void test_versions(void **state)
{
    (void)state;
    struct dmc_ome *ome = parse("{" IMAGE("") "}"); /* 0.4: .zattrs */
    check_image(ome);
    assert_string_equal(ome->version, "0.4");
    dmc_ome_free(ome);
    /* 0.5: zarr.json */
    ome = parse("{\"zarr_format\":3,\"node_type\":\"group\",\"attributes\":{\"ome\":{\"version\":\"0.5\"," IMAGE("") "}}}");
    check_image(ome);
    assert_string_equal(ome->version, "0.5");
    dmc_ome_free(ome);
    /* 0.4 in a v3 group, as tools wrote it before 0.5 */
    ome = parse("{\"zarr_format\":3,\"node_type\":\"group\",\"attributes\":{" IMAGE("") "}}");
    check_image(ome);
    dmc_ome_free(ome);
    /* 0.3: axes are names; no scales */
    ome = parse("{\"multiscales\":[{\"version\":\"0.3\",\"axes\":[\"t\",\"y\",\"x\"],\"datasets\":[{\"path\":\"0\"}]}]}");
    assert_string_equal(ome->multiscales->axes[0].type, "time");
    assert_string_equal(ome->multiscales->axes[2].type, "space");
    assert_null(ome->multiscales->levels[0].scale);
    dmc_ome_free(ome);
    /* 0.1: no axes */
    ome = parse("{\"multiscales\":[{\"version\":\"0.1\",\"datasets\":[{\"path\":\"s0/\"},{\"path\":\"./s1\"}]}]}");
    assert_int_equal(ome->multiscales->axis_count, 5);
    assert_string_equal(ome->multiscales->axes[1].name, "c");
    assert_string_equal(ome->multiscales->levels[0].path, "s0");
    assert_string_equal(ome->multiscales->levels[1].path, "s1");
    dmc_ome_free(ome);
}

/* Drafts of 0.6: coordinate systems; a level's first transformation leads into the image's own. */
static void test_coordinate_systems(void **state)
{
    (void)state;
    static const char *const outputs[] = {"\"physical\"", "{\"name\":\"physical\"}"};
    for (size_t i = 0; i < 2; i++) {
        char text[2000];
        snprintf(
            text, sizeof text,
            "{\"attributes\":{\"ome\":{\"version\":\"0.6.dev3\",\"multiscales\":[{\"coordinateSystems\":[{\"name\":\"other\","
            "\"axes\":[]},"
            "{\"name\":\"physical\",\"axes\":[{\"name\":\"y\",\"type\":\"space\"},{\"name\":\"x\",\"type\":\"space\"}]}],"
            "\"datasets\":[{\"path\":\"0\",\"coordinateTransformations\":[{\"type\":\"sequence\",\"input\":\"0\",\"output\":%s,"
            "\"transformations\":[{\"type\":\"scale\",\"scale\":[2,3]},{\"type\":\"translation\",\"translation\":[10,20]}]},"
            "{\"type\":\"scale\",\"scale\":[7,7],\"output\":\"other\"}]}],"
            "\"coordinateTransformations\":[{\"type\":\"scale\",\"scale\":[9,9],\"input\":\"physical\",\"output\":\"other\"}]}]"
            "}},"
            "\"zarr_format\":3}",
            outputs[i]);
        struct dmc_ome *ome = parse(text);
        const struct dmc_ome_multiscale *image = ome->multiscales;
        assert_string_equal(ome->version, "0.6.dev3");
        assert_int_equal(image->axis_count, 2);
        assert_true(image->levels->scale[0] == 2 && image->levels->scale[1] == 3);
        assert_true(image->levels->translation[0] == 10 && image->levels->translation[1] == 20);
        dmc_ome_free(ome);
    }
}

static void test_transformations(void **state)
{
    (void)state;
    /* 0.4: those of the level, then those of all levels */
    struct dmc_ome *ome = parse("{\"multiscales\":[{\"axes\":[\"y\",\"x\"],\"datasets\":[{\"path\":\"0\","
                                "\"coordinateTransformations\":[{\"type\":\"scale\",\"scale\":[2,3]},"
                                "{\"type\":\"translation\",\"translation\":[1,1]}]}],\"coordinateTransformations\":[{\"type\":"
                                "\"scale\",\"scale\":[10,10]},{\"type\":\"identity\"}]}]}");
    const struct dmc_ome_level *level = ome->multiscales->levels;
    assert_true(level->scale[0] == 20 && level->scale[1] == 30 && level->translation[0] == 10 && level->translation[1] == 10);
    dmc_ome_free(ome);
    /* kinds that are not a scale per axis */
    ome = parse("{\"multiscales\":[{\"axes\":[\"y\",\"x\"],\"datasets\":[{\"path\":\"0\",\"coordinateTransformations\":[{"
                "\"type\":\"affine\",\"affine\":[[1,0,0],[0,1,0]]}]},"
                "{\"path\":\"1\",\"coordinateTransformations\":[{\"type\":\"scale\",\"path\":\"numbers\"}]}]}]}");
    assert_null(ome->multiscales->levels[0].scale);
    assert_null(ome->multiscales->levels[1].scale);
    dmc_ome_free(ome);
    bad(DAMACY_DECODE,
        "multiscales[0].datasets[0].coordinateTransformations[0].scale is wrong: found a list of 3, expected a list of 4 "
        "numbers",
        "{\"multiscales\":[{\"axes\":" AXES ",\"datasets\":[" LEVEL("0", "[1,2,3]") "]}]}");
    bad(DAMACY_DECODE, "scale is wrong: found \"1\"",
        "{\"multiscales\":[{\"axes\":[\"x\"],\"datasets\":[" LEVEL("0", "[\"1\"]") "]}]}");
    bad(DAMACY_DECODE, "scale is wrong: found NaN",
        "{\"multiscales\":[{\"axes\":[\"x\"],\"datasets\":[" LEVEL("0", "[NaN]") "]}]}");
}

static void expect_level(const struct dmc_ome *ome, uint32_t expected, uint32_t count, double a, double b, double c)
{
    struct dmc_selection selection = {.scale_count = count, .scale = {a, b, c}};
    struct damacy_error error;
    uint32_t level = 99;
    if (dmc_ome_level_select(ome->multiscales, &selection, &level, &error) != DAMACY_OK)
        fail_msg("%s", error.message);
    assert_int_equal(level, expected);
}

static void test_levels(void **state)
{
    (void)state;
    struct dmc_ome *ome = parse("{" IMAGE("") "}"); /* z, y, x: 2 .5 .5, 2 1 1, 4 2 2 */
    expect_level(ome, 0, 3, 2, 0.5, 0.5);
    expect_level(ome, 1, 3, 2, 1, 1);
    expect_level(ome, 0, 3, 2, 1, 0.9);
    expect_level(ome, 1, 3, 3, 5, 5);
    expect_level(ome, 2, 3, 4, 2, 2);
    expect_level(ome, 2, 1, 4, 0, 0);
    expect_level(ome, 1, 1, 3, 0, 0);
    expect_level(ome, 0, 1, 0.1, 0, 0);          /* finer than there is: the finest */
    expect_level(ome, 2, 3, 3.9999999999, 2, 2); /* written with fewer digits than it has */
    uint32_t level = 0;
    struct damacy_error error;
    struct dmc_selection selection = {.has_level = true, .level = 2};
    assert_int_equal(dmc_ome_level_select(ome->multiscales, &selection, &level, &error), DAMACY_OK);
    assert_int_equal(level, 2);
    assert_int_equal(dmc_ome_level_select(ome->multiscales, NULL, &level, &error), DAMACY_OK);
    assert_int_equal(level, 0);
    selection.level = 3;
    assert_int_equal(dmc_ome_level_select(ome->multiscales, &selection, &level, &error), DAMACY_INVAL);
    assert_non_null(strstr(error.message, "no such level: found 3, expected one from 0 to 2"));
    selection = (struct dmc_selection){.scale_count = 2, .scale = {1, 1}};
    assert_int_equal(dmc_ome_level_select(ome->multiscales, &selection, &level, &error), DAMACY_INVAL);
    assert_non_null(strstr(error.message, "found 2, expected one number, or 3"));
    dmc_ome_free(ome);
    ome = parse("{\"multiscales\":[{\"axes\":[\"y\",\"x\"],\"datasets\":[{\"path\":\"0\"}]}]}");
    selection.scale_count = 1;
    assert_int_equal(dmc_ome_level_select(ome->multiscales, &selection, &level, &error), DAMACY_INVAL);
    assert_non_null(strstr(error.message, "have no scale"));
    dmc_ome_free(ome);
    ome = parse("{\"multiscales\":[{\"axes\":[\"c\"],\"datasets\":[" LEVEL("0", "[1]") "]}]}");
    assert_int_equal(dmc_ome_level_select(ome->multiscales, &selection, &level, &error), DAMACY_INVAL);
    assert_non_null(strstr(error.message, "no axes of space"));
    dmc_ome_free(ome);
}

static void test_labels(void **state)
{
    (void)state;
    struct dmc_ome *ome = parse("{\"labels\":[\"nuclei\",\"cells/fine\"]}");
    assert_true(ome->is_labels);
    assert_int_equal(ome->label_count, 2);
    assert_string_equal(ome->labels[1], "cells/fine");
    dmc_ome_free(ome);
    ome = parse("{\"image-label\":{\"version\":\"0.4\"},\"multiscales\":[{\"axes\":[\"x\"],\"datasets\":[{\"path\":\"0\"}]}]}");
    assert_true(ome->is_label);
    assert_string_equal(ome->version, "0.4");
    dmc_ome_free(ome);
    ome = parse("{\"bioformats2raw.layout\":3}");
    assert_true(ome->is_series);
    dmc_ome_free(ome);
    bad(DAMACY_NOTFOUND, "no OME-Zarr metadata", "{\"a\":1}");
    bad(DAMACY_NOTFOUND, "no OME-Zarr metadata", "{\"labels\":{\"not\":\"a list\"}}");
    bad(DAMACY_DECODE, "labels[0] is wrong", "{\"labels\":[7]}");
}

static void test_plates(void **state)
{
    (void)state;
    struct dmc_ome *ome = parse(
        "{\"plate\":{\"name\":\"p\",\"version\":\"0.4\",\"rows\":[{\"name\":\"A\"},{\"name\":\"B\"}],\"columns\":[{\"name\":"
        "\"01\"},{\"name\":\"12\"}],"
        "\"wells\":[{\"path\":\"A/01\",\"rowIndex\":0,\"columnIndex\":0},{\"path\":\"B/12\",\"rowIndex\":1,\"columnIndex\":1},"
        "{\"path\":\"1/11\"},{\"path\":\"11/1\"}]}}");
    assert_true(ome->is_plate);
    assert_string_equal(ome->plate_name, "p");
    assert_int_equal(ome->well_count, 4);
    assert_string_equal(ome->wells[1].row, "B");
    assert_string_equal(ome->wells[1].column, "12");
    assert_string_equal(ome->wells[2].row, "");
    static const struct {
        const char *name;
        uint32_t index;
    } found[] = {{"A/01", 0}, {"A01", 0}, {"A1", 0}, {"A/1", 0}, {"B/12", 1}, {"B12", 1}, {"1/11", 2}, {"11/1", 3}};
    struct damacy_error error;
    uint32_t index;
    for (size_t i = 0; i < sizeof found / sizeof *found; i++) {
        assert_int_equal(dmc_ome_well_find(ome, found[i].name, &index, &error), DAMACY_OK);
        assert_int_equal(index, found[i].index);
    }
    static const char *const missing[] = {
        "C/01", "A", "", "A/10", "111", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA1"};
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) {
        assert_int_equal(dmc_ome_well_find(ome, missing[i], &index, &error), DAMACY_INVAL);
        assert_non_null(strstr(error.message, "it has 4, from A/01 to 11/1"));
    }
    dmc_ome_free(ome);
    ome = parse("{\"well\":{\"images\":[{\"path\":\"0\",\"acquisition\":1},{\"path\":\"1\"}]}}");
    assert_true(ome->is_well);
    assert_int_equal(ome->field_count, 2);
    assert_int_equal(ome->fields[0].acquisition, 1);
    assert_int_equal(ome->fields[1].acquisition, -1);
    dmc_ome_free(ome);
    bad(DAMACY_DECODE, "plate.wells is wrong: found nothing", "{\"plate\":{}}");
    bad(DAMACY_DECODE, "plate is wrong", "{\"plate\":[]}");
    bad(DAMACY_DECODE, "plate.wells[0].path is wrong", "{\"plate\":{\"wells\":[{\"path\":\"../x\"}]}}");
    bad(DAMACY_DECODE, "well.images is wrong", "{\"well\":{}}");
}

/* A path of a stranger's becomes a key: none may lead out of the group. */
static void test_paths(void **state)
{
    (void)state;
    static const char *const paths[] = {"..", "../a", "a/..",  "a/../b", "/a",     "",
                                        "/",  "a//b", "a/./b", ".",      "a\\\\b", "a\\u0000b"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char text[200];
        snprintf(text, sizeof text, "{\"multiscales\":[{\"axes\":[\"x\"],\"datasets\":[{\"path\":\"%s\"}]}]}", paths[i]);
        bad(DAMACY_DECODE, "multiscales[0].datasets[0].path is wrong", text);
    }
    bad(DAMACY_DECODE, "datasets[0].path is wrong: found nothing", "{\"multiscales\":[{\"datasets\":[7]}]}");
    bad(DAMACY_DECODE, "datasets is wrong: found a list of 0, expected at least one level",
        "{\"multiscales\":[{\"datasets\":[]}]}");
    bad(DAMACY_DECODE, "multiscales is wrong", "{\"multiscales\":{}}");
    bad(DAMACY_DECODE, "multiscales[0] is wrong", "{\"multiscales\":[7]}");
    bad(DAMACY_DECODE, "axes[0] is wrong", "{\"multiscales\":[{\"axes\":[7],\"datasets\":[{\"path\":\"0\"}]}]}");
    bad(DAMACY_DECODE, "document is wrong", "[]");
}

static void test_limits(void **state)
{
    (void)state;
    char *text = malloc(100 + 65537 * 16), *to = text;
    to += sprintf(to, "{\"well\":{\"images\":[");
    for (int i = 0; i < 65537; i++)
        to += sprintf(to, "%s{\"path\":\"0\"}", i ? "," : "");
    strcpy(to, "]}}");
    bad(DAMACY_UNSUPPORTED, "at most 65536 entries", text);
    to = text + sprintf(text, "{\"multiscales\":[{\"datasets\":[");
    for (int i = 0; i < 65; i++)
        to += sprintf(to, "%s{\"path\":\"%d\"}", i ? "," : "", i);
    strcpy(to, "]}]}");
    bad(DAMACY_UNSUPPORTED, "at most 64 entries", text);
    free(text);
}

static const char whole[] = "{\"zarr_format\":3,\"attributes\":{\"ome\":{\"version\":\"0.5\",\"labels\":[\"a\"],\"plate\":{"
                            "\"wells\":[{\"path\":\"A/1\"}]},"
                            "\"well\":{\"images\":[{\"path\":\"0\"}]}," IMAGE(
                                ",\"coordinateTransformations\":[{\"type\":\"scale\",\"scale\":[1,1,1,1]}]") "}}}";

static void test_cut_and_changed(void **state)
{
    (void)state;
    static const char replacements[] = "\0 0\"{[,:}]x\xff-";
    size_t bytes = sizeof whole - 1, good = 0;
    char *text = malloc(bytes);
    for (size_t i = 0; i < bytes; i++) {
        for (size_t r = 0; r < sizeof replacements - 1; r++) {
            memcpy(text, whole, bytes);
            text[i] = replacements[r];
            struct dmc_ome *ome = NULL;
            struct damacy_error error = {0};
            enum damacy_status status = dmc_ome_parse(text, bytes, &ome, &error);
            assert_int_equal(status == DAMACY_OK, ome != NULL);
            assert_true(status == DAMACY_OK || (error.status == status && error.message[0]));
            good += status == DAMACY_OK;
            dmc_ome_free(ome);
        }
    }
    free(text);
    assert_true(good > 100);
}

static void test_allocations_fail(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        struct dmc_ome *ome = NULL;
        struct damacy_error error = {0};
        dmc_mem_fail_at(n);
        enum damacy_status status = dmc_ome_parse(whole, sizeof whole - 1, &ome, &error);
        dmc_mem_fail_at(0);
        if (status == DAMACY_OK) {
            assert_true(n > 3);
            dmc_ome_free(ome);
            break;
        }
        assert_int_equal(status, DAMACY_OOM);
        assert_int_equal(error.status, DAMACY_OOM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions),        cmocka_unit_test(test_coordinate_systems),
        cmocka_unit_test(test_transformations), cmocka_unit_test(test_levels),
        cmocka_unit_test(test_labels),          cmocka_unit_test(test_plates),
        cmocka_unit_test(test_paths),           cmocka_unit_test(test_limits),
        cmocka_unit_test(test_cut_and_changed), cmocka_unit_test(test_allocations_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
