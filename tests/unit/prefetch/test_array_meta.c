/* Goal: a uri leads to the right array, whatever lies there: Zarr v3 or v2, both, an OME-Zarr image, a plate, a label image;
 * with as few requests as can be; and what leads nowhere says what is there. Method: hierarchies in a memory store that logs
 * every request, under delays and faults where those matter. */
#include "prefetch_world.h"

static const char v2_array[] = "{\"zarr_format\":2,\"shape\":[64,64],\"chunks\":[8,8],\"dtype\":\"<u2\",\"compressor\":null,"
                               "\"fill_value\":0,\"order\":\"C\",\"filters\":null}";

static void put_v2(struct world *world, const char *name)
{
    char key[256];
    snprintf(key, sizeof key, "%s/.zarray", name);
    world_put_text(world, key, v2_array);
}

static const struct dmc_array *array_of(struct world *world, uint64_t ordinal)
{
    const struct damacy_error *error = world_error(world, ordinal);
    if (error)
        print_message("sample %d: %s: %s\n", (int)ordinal, damacy_status_str(error->status), error->message);
    assert_null(error);
    return dmc_prefetcher_array(world_region(world, ordinal, 0));
}

static void assert_error(struct world *world, uint64_t ordinal, enum damacy_status status, const char *text)
{
    const struct damacy_error *error = world_error(world, ordinal);
    assert_non_null(error);
    if (error->status != status || !strstr(error->message, text))
        print_message("sample %d: %s: %s\n", (int)ordinal, damacy_status_str(error->status), error->message);
    assert_int_equal(error->status, status);
    assert_non_null(strstr(error->message, text));
}

/* Push one box of each uri and wait. */
static void push_all(struct world *world, const char *const *uris, uint64_t count)
{
    uint64_t first = world->ring.pushed;
    for (uint64_t i = 0; i < count; i++)
        world_push(world, uris[i], 0, 4, 0, 4);
    world_wait(world, first + count);
}

/* --- formats --- */

static void test_v2_arrays(void **state)
{
    (void)state;
    struct world *world = world_new();
    put_v2(world, "data/a");
    put_v2(world, "data/b");
    world_array(world, "data/c", 64, 8, 0, WORLD_ZSTD);
    world_begin(world);
    push_all(world, (const char *[]){"memory://data/a"}, 1);
    const struct dmc_array *array = array_of(world, 0);
    assert_int_equal(array->zarr->zarr_format, 2);
    assert_string_equal(array->prefix, "data/a");
    assert_string_equal(array->metadata_key, ".zarray");
    assert_int_equal(world_requests(world, "data/a/"), 2); /* zarr.json, then .zarray */
    /* From now on the folder is known for v2: both at once, and a v3 array there is found in the same round trip. */
    push_all(world, (const char *[]){"memory://data/b", "memory://data/c"}, 2);
    assert_int_equal(array_of(world, 1)->zarr->zarr_format, 2);
    assert_int_equal(array_of(world, 2)->zarr->zarr_format, 3);
    assert_string_equal(array_of(world, 2)->metadata_key, "zarr.json");
    assert_int_equal(world_requests(world, "data/b/"), 2);
    assert_int_equal(world_requests(world, "data/c/"), 2);
    world_free(world);
}

/* One round trip for each v2 array once its neighbourhood is known, also beside the folder of the first; one request for v3
 * ones. */
static uint64_t delay_of_a_round(struct world *world, const char *key)
{
    (void)world;
    (void)key;
    return 1000000;
}

static void test_rounds(void **state)
{
    (void)state;
    struct world *world = world_new();
    world->options.reads_in_flight = 1; /* so that rounds are one after another */
    world->delay_ns = delay_of_a_round;
    char name[64], uri[64];
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "v2/image%d.zarr/0", i);
        put_v2(world, name);
        snprintf(name, sizeof name, "v3/image%d.zarr/0", i);
        world_array(world, name, 64, 8, 0, WORLD_ZSTD);
    }
    world_begin(world);
    for (int i = 0; i < 20; i++)
        for (int v = 2; v <= 3; v++) {
            snprintf(uri, sizeof uri, "memory://v%d/image%d.zarr/0", v, i);
            world_push(world, uri, 0, 4, 0, 4);
        }
    world_wait(world, 40);
    for (uint64_t i = 0; i < 40; i++)
        assert_int_equal(array_of(world, i)->zarr->zarr_format, 2 + i % 2);
    assert_int_equal(world_requests(world, "v3/"), 20);
    assert_int_equal(world_requests(world, "v2/"), 40);
    /* The first one asked for .zarray after zarr.json had come, the others before. */
    world_free(world);
}

/* Where both formats are, zarr.json counts, whichever answer comes first and whatever was seen before. */
static uint64_t delay_zarr_json(struct world *world, const char *key)
{
    return world->user[0] == (uint64_t)(strstr(key, "zarr.json") != NULL) ? 3000000 : 0;
}

static void test_both_formats(void **state)
{
    (void)state;
    for (uint64_t late = 0; late < 2; late++) {
        struct world *world = world_new();
        world->user[0] = late;
        world->delay_ns = delay_zarr_json;
        put_v2(world, "d/first");
        put_v2(world, "d/both");
        world_array(world, "d/both", 64, 8, 0, WORLD_ZSTD);
        world_begin(world);
        push_all(world, (const char *[]){"memory://d/first"}, 1);
        push_all(world, (const char *[]){"memory://d/both"}, 1);
        assert_int_equal(array_of(world, 1)->zarr->zarr_format, 3);
        assert_int_equal(world_requests(world, "d/both/.zarray"), 1);
        world_free(world);
    }
}

/* A .zarray larger than the twin's buffer, and one that fails there, are asked for again by themselves. */
static enum dmc_fault fail_first_twin(struct world *world, uint64_t n, const char *key)
{
    (void)n;
    return strstr(key, "d/failing/.zarray") && world->user[1]++ == 0 ? DMC_FAULT_FAIL : DMC_FAULT_NONE;
}

static void test_a_twin_that_does_not_help(void **state)
{
    (void)state;
    struct world *world = world_new();
    world->choose = fail_first_twin;
    put_v2(world, "d/first");
    put_v2(world, "d/failing");
    size_t bytes = 40000;
    char *text = malloc(bytes);
    memset(text, ' ', bytes);
    memcpy(text, v2_array, sizeof v2_array - 1);
    world_put(world, "d/long/.zarray", text, bytes);
    free(text);
    world_begin(world);
    push_all(world, (const char *[]){"memory://d/first"}, 1);
    push_all(world, (const char *[]){"memory://d/failing", "memory://d/long"}, 2);
    array_of(world, 1);
    array_of(world, 2);
    world_free(world);
}

/* --- every read goes wrong once: no sample is wrong, none hangs --- */

static void test_the_nth_read_goes_wrong(void **state)
{
    (void)state;
    static const enum dmc_fault faults[] = {DMC_FAULT_FAIL, DMC_FAULT_SHORT, DMC_FAULT_ABSENT, DMC_FAULT_FLIP};
    for (size_t fault = 0; fault < sizeof faults / sizeof *faults; fault++)
        for (uint64_t n = 0;; n++) {
            struct world *world = world_new();
            world->choose = world_nth_fault;
            world->user[0] = n;
            world->user[1] = faults[fault];
            put_v2(world, "d/a");
            put_v2(world, "d/b");
            world_begin(world);
            push_all(world, (const char *[]){"memory://d/a"}, 1);
            push_all(world, (const char *[]){"memory://d/b"}, 1);
            for (uint64_t i = 0; i < 2; i++) {
                const struct damacy_error *error = world_error(world, i);
                if (error) {
                    assert_true(error->status == DAMACY_IO || error->status == DAMACY_DECODE ||
                                error->status == DAMACY_NOTFOUND || error->status == DAMACY_UNSUPPORTED);
                    assert_non_null(strstr(error->message, "memory://d/"));
                    assert_true(error->key[0] != 0);
                } else {
                    assert_int_equal(dmc_prefetcher_array(world_region(world, i, 0))->zarr->zarr_format, 2);
                }
            }
            bool through = atomic_load(&world->request_count) <= n;
            world_free(world);
            if (through)
                break;
        }
}

static void test_the_nth_allocation_fails(void **state)
{
    (void)state;
    for (uint64_t n = 1; n < 60; n++) {
        struct world *world = world_new();
        put_v2(world, "d/a");
        put_v2(world, "d/b");
        world_begin(world);
        push_all(world, (const char *[]){"memory://d/a"}, 1);
        dmc_mem_fail_at(n);
        push_all(world, (const char *[]){"memory://d/b"}, 1);
        dmc_mem_fail_at(0);
        const struct damacy_error *error = world_error(world, 1);
        if (error)
            assert_int_equal(error->status, DAMACY_OOM);
        world_free(world);
    }
}

/* --- fragments --- */

static void test_bad_fragments(void **state)
{
    (void)state;
    struct world *world = world_new();
    world_array(world, "a", 64, 8, 0, WORLD_ZSTD);
    world_array(world, "a#b", 64, 8, 0, WORLD_ZSTD);
    world_begin(world);
    push_all(world, (const char *[]){"memory://a#level=x", "memory://a#level=1", "memory://a#b", "memory://a#member=x"}, 4);
    assert_error(world, 0, DAMACY_INVAL, "level");
    assert_error(world, 1, DAMACY_INVAL, "memory://a#level=1: zarr.json: is an array");
    assert_string_equal(array_of(world, 2)->prefix, "a#b");
    assert_error(world, 3, DAMACY_INVAL, "member");
    world_free(world);
}

/* --- OME-Zarr --- */

#define MULTISCALES                                                                                                            \
    "\"multiscales\":[{\"version\":\"0.4\",\"axes\":[{\"name\":\"y\",\"type\":\"space\",\"unit\":\"micrometer\"},{\"name\":"   \
    "\"x\","                                                                                                                   \
    "\"type\":\"space\",\"unit\":\"micrometer\"}],\"datasets\":[{\"path\":\"0\",\"coordinateTransformations\":[{\"type\":"     \
    "\"scale\",\"scale\":[0.5,0.5]}]},{\"path\":\"1\",\"coordinateTransformations\":[{\"type\":\"scale\",\"scale\":[1,1]}]},{" \
    "\"path\":\"2\",\"coordinateTransformations\":[{\"type\":\"scale\",\"scale\":[2,2]}]}]}]"

/* An image of three levels. */
static void put_image(struct world *world, const char *name, bool v3)
{
    char key[256], level[200];
    snprintf(key, sizeof key, v3 ? "%s/zarr.json" : "%s/.zattrs", name);
    world_put_text(world, key,
                   v3 ? "{\"zarr_format\":3,\"node_type\":\"group\",\"attributes\":{\"ome\":{\"version\":\"0.5\"," MULTISCALES
                        "}}}"
                      : "{" MULTISCALES "}");
    snprintf(key, sizeof key, "%s/.zgroup", name);
    if (!v3)
        world_put_text(world, key, "{\"zarr_format\":2}");
    for (int i = 0; i < 3; i++) {
        snprintf(level, sizeof level, "%s/%d", name, i);
        if (v3)
            world_array(world, level, 64, 8, 0, WORLD_ZSTD);
        else
            put_v2(world, level);
    }
}

static void put_plate(struct world *world, bool v3)
{
    static const char plate[] =
        "\"plate\":{\"version\":\"0.4\",\"rows\":[{\"name\":\"A\"},{\"name\":\"B\"}],\"columns\":[{\"name\":\"01\"},{"
        "\"name\":\"02\"}],\"wells\":[{\"path\":\"A/01\",\"rowIndex\":0,\"columnIndex\":0},{\"path\":\"B/02\","
        "\"rowIndex\":1,\"columnIndex\":1}]}";
    static const char well[] = "\"well\":{\"version\":\"0.4\",\"images\":[{\"path\":\"f0\"},{\"path\":\"f1\"}]}";
    char text[1024];
    const char *frame = v3 ? "{\"zarr_format\":3,\"node_type\":\"group\",\"attributes\":{\"ome\":{%s}}}" : "{%s}";
    snprintf(text, sizeof text, frame, plate);
    world_put_text(world, v3 ? "plate/zarr.json" : "plate/.zattrs", text);
    snprintf(text, sizeof text, frame, well);
    world_put_text(world, v3 ? "plate/B/02/zarr.json" : "plate/B/02/.zattrs", text);
    put_image(world, "plate/B/02/f0", v3);
    put_image(world, "plate/B/02/f1", v3);
    put_image(world, "plate/B/02/f1/labels/nuclei", v3);
    snprintf(text, sizeof text, frame, "\"labels\":[\"nuclei\"]");
    world_put_text(world, v3 ? "plate/B/02/f1/labels/zarr.json" : "plate/B/02/f1/labels/.zattrs", text);
}

static void test_images(void **state)
{
    (void)state;
    for (int v3 = 0; v3 < 2; v3++) {
        struct world *world = world_new();
        put_image(world, "d/img", v3);
        world_begin(world);
        push_all(world,
                 (const char *[]){"memory://d/img", "memory://d/img#level=2", "memory://d/img#scale=1.5",
                                  "memory://d/img#level=3", "memory://d/img#label=nuclei", "memory://d/img#well=B/02",
                                  "memory://d/img#field=1", "memory://d/img#member=x"},
                 8);
        const struct dmc_array *array = array_of(world, 0);
        assert_string_equal(array->prefix, "d/img/0");
        assert_string_equal(array->uri, "memory://d/img");
        assert_int_equal(array->root_bytes, strlen("d/img"));
        assert_string_equal(array->metadata_key, v3 ? "0/zarr.json" : "0/.zarray");
        assert_string_equal(array_of(world, 1)->prefix, "d/img/2");
        assert_string_equal(array_of(world, 2)->prefix, "d/img/1");
        assert_error(world, 3, DAMACY_INVAL, "memory://d/img#level=3: ");
        assert_error(world, 4, DAMACY_NOTFOUND, "memory://d/img#label=nuclei: labels/zarr.json: ");
        assert_error(world, 5, DAMACY_INVAL, "well= picks out of a plate");
        assert_error(world, 6, DAMACY_INVAL, "field= picks out of a well");
        assert_error(world, 7, DAMACY_INVAL, "member");
        world_free(world);
    }
}

/* Requests: of v3 one for each node on the way. Of v2 two at once for each, after the first. */
static void test_requests_of_images(void **state)
{
    (void)state;
    for (int v3 = 0; v3 < 2; v3++) {
        struct world *world = world_new();
        put_image(world, "d/one", v3);
        put_image(world, "d/two", v3);
        world_begin(world);
        push_all(world, (const char *[]){"memory://d/one#level=1"}, 1);
        push_all(world, (const char *[]){"memory://d/two#level=1"}, 1);
        array_of(world, 0);
        array_of(world, 1);
        assert_int_equal(world_requests(world, "d/two/"), v3 ? 2 : 4);
        world_free(world);
    }
}

static void test_plates(void **state)
{
    (void)state;
    for (int v3 = 0; v3 < 2; v3++) {
        struct world *world = world_new();
        put_plate(world, v3);
        world_begin(world);
        push_all(world,
                 (const char *[]){"memory://plate#well=B/02&field=1&level=1", "memory://plate#well=B2&field=0",
                                  "memory://plate#well=B/2&field=0", "memory://plate#well=B/02&field=1&label=nuclei",
                                  "memory://plate", "memory://plate#well=B/02", "memory://plate#well=C/07&field=0",
                                  "memory://plate#well=B/02&field=2", "memory://plate/B/02#field=0",
                                  "memory://plate/B/02/f1/labels", "memory://plate/B/02/f1#label=cells",
                                  "memory://plate#well=../x&field=0"},
                 12);
        assert_string_equal(array_of(world, 0)->prefix, "plate/B/02/f1/1");
        assert_string_equal(array_of(world, 0)->metadata_key, v3 ? "B/02/f1/1/zarr.json" : "B/02/f1/1/.zarray");
        assert_string_equal(array_of(world, 1)->prefix, "plate/B/02/f0/0");
        assert_string_equal(array_of(world, 2)->prefix, "plate/B/02/f0/0");
        assert_string_equal(array_of(world, 3)->prefix, "plate/B/02/f1/labels/nuclei/0");
        assert_error(world, 4, DAMACY_NOTFOUND, "is a plate of wells (A/01, B/02), not an array; pick one with #well=");
        assert_error(world, 5, DAMACY_NOTFOUND, "is a well of several fields (f0, f1)");
        assert_error(world, 6, DAMACY_INVAL, "B/02");
        assert_error(world, 7, DAMACY_INVAL, "has 2 fields");
        assert_string_equal(array_of(world, 8)->prefix, "plate/B/02/f0/0");
        assert_error(world, 9, DAMACY_NOTFOUND, "(nuclei), not an array");
        assert_error(world, 10, DAMACY_INVAL, "label=cells: the image has no such labels (nuclei)");
        assert_error(world, 11, DAMACY_INVAL, "well");
        world_free(world);
    }
}

/* Metadata that go in circles, leave the group, or name what is not there. */
static void test_strange_groups(void **state)
{
    (void)state;
    struct world *world = world_new();
    char text[2048], key[256];
    const char *frame =
        "{\"zarr_format\":3,\"node_type\":\"group\",\"attributes\":{\"ome\":{\"version\":\"0.5\",\"multiscales\":[{\"axes\":[{"
        "\"name\":\"x\"}],\"datasets\":[{\"path\":\"%s\"}]}]}}}";
    snprintf(text, sizeof text, frame, "a");
    char at[200] = "loop";
    for (int i = 0; i < 12; i++) {
        snprintf(key, sizeof key, "%s/zarr.json", at);
        world_put_text(world, key, text);
        strcat(at, "/a");
    }
    snprintf(text, sizeof text, frame, "../other");
    world_put_text(world, "up/zarr.json", text);
    snprintf(text, sizeof text, frame, "gone");
    world_put_text(world, "gone/zarr.json", text);
    world_put_text(world, "series/zarr.json",
                   "{\"zarr_format\":3,\"node_type\":\"group\",\"attributes\":{\"ome\":{\"bioformats2raw.layout\":3}}}");
    world_put_text(
        world, "consolidated/zarr.json",
        "{\"zarr_format\":3,\"node_type\":\"group\",\"consolidated_metadata\":{\"kind\":\"inline\",\"must_understand\":false,"
        "\"metadata\":{\"temp\":{\"zarr_format\":3,\"node_type\":\"array\"}}}}");
    world_put_text(world, "attrs/.zattrs", "{\"title\":\"x\"}");
    world_put_text(world, "junk/.zattrs", "{");
    world_begin(world);
    push_all(world,
             (const char *[]){"memory://loop", "memory://up", "memory://gone", "memory://series", "memory://consolidated",
                              "memory://attrs", "memory://junk"},
             7);
    assert_error(world, 0, DAMACY_DECODE, "groups lead to groups");
    assert_error(world, 1, DAMACY_DECODE, "memory://up: zarr.json: ");
    assert_error(world, 2, DAMACY_NOTFOUND, "memory://gone: gone/zarr.json: ");
    assert_error(world, 3, DAMACY_NOTFOUND, "is a collection of images");
    assert_error(world, 4, DAMACY_NOTFOUND, "is a group (temp), not an array");
    assert_error(world, 5, DAMACY_NOTFOUND, "memory://attrs: .zattrs: is a group");
    assert_error(world, 6, DAMACY_DECODE, "memory://junk: .zattrs: ");
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v2_arrays),
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_both_formats),
        cmocka_unit_test(test_a_twin_that_does_not_help),
        cmocka_unit_test(test_the_nth_read_goes_wrong),
        cmocka_unit_test(test_the_nth_allocation_fails),
        cmocka_unit_test(test_bad_fragments),
        cmocka_unit_test(test_images),
        cmocka_unit_test(test_requests_of_images),
        cmocka_unit_test(test_plates),
        cmocka_unit_test(test_strange_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
