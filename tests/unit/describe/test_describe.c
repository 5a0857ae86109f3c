/* Goal: damacy_open() says what is there, of both formats, with and without consolidated metadata, listed or named; keeps its
 * limits; and whatever goes wrong becomes a status that names the place, never a crash, a hang or a leak. Method: hierarchies
 * in a memory store that counts requests, under faults, delays and failing allocations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "describe/describe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define V3_ARRAY(attributes)                                                                                                   \
    "{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[100,200],\"data_type\":\"uint16\",\"chunk_grid\":{\"name\":"        \
    "\"regular\",\"configuration\":{\"chunk_shape\":[10,20]}},\"chunk_key_encoding\":{\"name\":\"default\"},"                  \
    "\"fill_value\":7,\"codecs\":[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}}],\"attributes\":" attributes  \
    "}"
#define V2_ARRAY                                                                                                               \
    "{\"zarr_format\":2,\"shape\":[100,200],\"chunks\":[10,20],\"dtype\":\"<f4\",\"compressor\":{\"id\":\"zlib\",\"level\":1}" \
    ","                                                                                                                        \
    "\"fill_value\":\"NaN\",\"order\":\"F\",\"filters\":null,\"dimension_separator\":\"/\"}"
#define V3_GROUP(members) "{\"zarr_format\":3,\"node_type\":\"group\"" members "}"
#define OME(members) V3_GROUP(",\"attributes\":{\"ome\":{\"version\":\"0.5\"," members "}}")
#define MULTISCALES                                                                                                            \
    "\"multiscales\":[{\"version\":\"0.4\",\"axes\":[{\"name\":\"y\",\"type\":\"space\",\"unit\":\"micrometer\"},{\"name\":"   \
    "\"x\","                                                                                                                   \
    "\"type\":\"space\"}],\"datasets\":[{\"path\":\"0\",\"coordinateTransformations\":[{\"type\":\"scale\",\"scale\":[0.5,0."  \
    "25]},{"                                                                                                                   \
    "\"type\":\"translation\",\"translation\":[3,4]}]},{\"path\":\"1\",\"coordinateTransformations\":[{\"type\":\"scale\","    \
    "\"scale\":[1,"                                                                                                            \
    "0.5]}]}]}]"

struct world {
    struct dmc_store *memory, *delay, *fault;
    struct dmc_stores *stores;
    uint64_t requests;
    uint64_t fail_at; /* 1: the first */
    enum dmc_fault kind;
    const char *pattern; /* requests whose key holds it suffer `kind` */
    uint64_t delay_ns;
    struct damacy_open_options options;
};

static enum dmc_fault choose(void *user, uint64_t n, const char *key)
{
    struct world *world = user;
    world->requests++;
    bool chosen = world->pattern ? strstr(key, world->pattern) != NULL : n + 1 == world->fail_at;
    return chosen ? world->kind : DMC_FAULT_NONE;
}

static uint64_t delay_of(void *user, const char *key)
{
    (void)key;
    return ((struct world *)user)->delay_ns;
}

static void put(struct world *world, const char *key, const char *text)
{
    struct damacy_error error;
    assert_int_equal(dmc_store_memory_put(world->memory, key, text, strlen(text), &error), DAMACY_OK);
}

static struct world *world_new(uint64_t delay_ns)
{
    struct damacy_error error;
    struct world *world = calloc(1, sizeof *world);
    world->options = (struct damacy_open_options)DAMACY_OPEN_OPTIONS_INIT;
    world->delay_ns = delay_ns;
    assert_int_equal(dmc_store_memory_create(&world->memory, &error), DAMACY_OK);
    struct dmc_store *top = world->memory;
    if (delay_ns) {
        assert_int_equal(dmc_store_delay_create(top, delay_of, world, &world->delay, &error), DAMACY_OK);
        top = world->delay;
    }
    assert_int_equal(dmc_store_fault_create(top, choose, world, &world->fault, &error), DAMACY_OK);
    assert_int_equal(dmc_stores_create(NULL, &world->stores, &error), DAMACY_OK);
    dmc_stores_set(world->stores, "memory", world->fault);
    return world;
}

static void world_free(struct world *world)
{
    dmc_stores_destroy(world->stores);
    dmc_store_destroy(world->fault);
    dmc_store_destroy(world->delay);
    dmc_store_destroy(world->memory);
    free(world);
}

static enum damacy_status try_open(struct world *world, const char *uri, struct damacy_node **node, struct damacy_error *error)
{
    bool stuck;
    *node = NULL;
    enum damacy_status status = dmc_describe(world->stores, &uri, 1, &world->options, node, NULL, &stuck, error);
    assert_false(stuck);
    assert_int_equal(status == DAMACY_OK, *node != NULL);
    return status;
}

static struct damacy_node *open_ok(struct world *world, const char *uri)
{
    struct damacy_node *node;
    struct damacy_error error = {0};
    if (try_open(world, uri, &node, &error))
        print_message("%s: %s\n", damacy_status_str(error.status), error.message);
    assert_non_null(node);
    return node;
}

static void open_fails(struct world *world, const char *uri, enum damacy_status status, const char *text)
{
    struct damacy_node *node;
    struct damacy_error error = {0};
    enum damacy_status found = try_open(world, uri, &node, &error);
    if (found != status || !strstr(error.message, text))
        print_message("%s: %s\n", damacy_status_str(found), error.message);
    assert_int_equal(found, status);
    assert_non_null(strstr(error.message, text));
    assert_null(node);
}

static void put_image(struct world *world, const char *at, bool v3)
{
    char key[200];
    snprintf(key, sizeof key, v3 ? "%s/zarr.json" : "%s/.zattrs", at);
    put(world, key, v3 ? OME(MULTISCALES) : "{" MULTISCALES "}");
    for (int i = 0; i < 2; i++) {
        snprintf(key, sizeof key, v3 ? "%s/%d/zarr.json" : "%s/%d/.zarray", at, i);
        put(world, key, v3 ? V3_ARRAY("{}") : V2_ARRAY);
    }
    snprintf(key, sizeof key, "%s/.zgroup", at);
    if (!v3)
        put(world, key, "{\"zarr_format\":2}");
}

/* --- arrays --- */

static void test_a_v3_array(void **state)
{
    (void)state;
    struct world *world = world_new(0);
    put(world, "a/zarr.json", V3_ARRAY("{\"who\":\"me\"}"));
    struct damacy_node *node = open_ok(world, "memory://a");
    assert_int_equal(world->requests, 1);
    assert_int_equal(node->kind, DAMACY_NODE_ARRAY);
    assert_int_equal(node->zarr_format, 3);
    assert_string_equal(node->path, "");
    assert_string_equal(node->uri, "memory://a");
    assert_string_equal(node->attributes, "{\"who\":\"me\"}");
    const struct damacy_array_info *array = node->array;
    assert_int_equal(array->rank, 2);
    assert_int_equal(array->shape[1], 200);
    assert_int_equal(array->chunk_shape[1], 20);
    assert_null(array->shard_shape);
    assert_int_equal(array->dtype, DAMACY_U16);
    assert_int_equal(array->bytes, 40000);
    assert_string_equal(array->data_type, "uint16");
    assert_string_equal(array->fill_value, "7");
    assert_non_null(strstr(array->codecs, "\"bytes\""));
    assert_string_equal(array->axes[0].name, "");
    assert_null(array->scale);
    assert_int_equal(node->array_count, 1);
    assert_ptr_equal(node->arrays[0], node);
    damacy_node_free(node);
    world_free(world);
}

static void test_a_v2_array(void **state)
{
    (void)state;
    struct world *world = world_new(0);
    put(world, "d/a/.zarray", V2_ARRAY);
    put(world, "d/a/.zattrs", "{\"_ARRAY_DIMENSIONS\":[\"lat\",\"lon\"]}");
    struct damacy_node *node = open_ok(world, "memory://d/a");
    assert_int_equal(node->kind, DAMACY_NODE_ARRAY);
    assert_int_equal(node->zarr_format, 2);
    assert_int_equal(node->array->dtype, DAMACY_F32);
    assert_string_equal(node->array->data_type, "<f4");
    assert_string_equal(node->array->fill_value, "\"NaN\"");
    assert_string_equal(node->array->codecs, "{\"order\":\"F\",\"filters\":null,\"compressor\":{\"id\":\"zlib\",\"level\":1}}");
    assert_string_equal(node->array->chunk_key_encoding, "/");
    assert_string_equal(node->array->axes[1].name, "lon");
    damacy_node_free(node);
    world_free(world);
}

/* What cannot be read is described all the same. */
static void test_arrays_that_cannot_be_read(void **state)
{
    (void)state;
    struct world *world = world_new(0);
    put(world, "text/zarr.json",
        "{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[9],\"data_type\":\"string\",\"chunk_grid\":{\"name\":"
        "\"regular\","
        "\"configuration\":{\"chunk_shape\":[3]}},\"chunk_key_encoding\":{\"name\":\"default\"},\"fill_value\":\"\",\"codecs\":"
        "[{"
        "\"name\":\"vlen-utf8\"}]}");
    put(world, "records/.zarray",
        "{\"zarr_format\":2,\"shape\":[9],\"chunks\":[3],\"dtype\":[[\"x\",\"<f4\"],[\"y\",\"<i2\"]],\"compressor\":null,"
        "\"fill_value\":null,\"order\":\"C\",\"filters\":null}");
    struct damacy_node *node = open_ok(world, "memory://text");
    assert_int_equal(node->kind, DAMACY_NODE_ARRAY);
    assert_int_equal(node->status, DAMACY_UNSUPPORTED);
    assert_non_null(strstr(node->message, "string"));
    assert_int_equal(node->array->shape[0], 9);
    assert_int_equal(node->array->chunk_shape[0], 3);
    assert_int_equal(node->array->dtype, DAMACY_NATIVE);
    damacy_node_free(node);
    node = open_ok(world, "memory://records");
    assert_int_equal(node->array->member_count, 2);
    assert_string_equal(node->array->members[1], "y");
    assert_int_equal(node->status, DAMACY_UNSUPPORTED);
    damacy_node_free(node);
    node = open_ok(world, "memory://records#member=y");
    assert_int_equal(node->status, DAMACY_OK);
    assert_int_equal(node->array->dtype, DAMACY_I16);
    damacy_node_free(node);
    world_free(world);
}

/* --- hierarchies --- */

static void put_tree(struct world *world, const char *root, bool v3)
{
    static const char *const arrays[] = {"a2", "a10", "g/inner", "g/deep/er"};
    static const char *const groups[] = {"", "/g", "/g/deep"};
    char key[200];
    for (int i = 0; i < 3; i++) {
        snprintf(key, sizeof key, v3 ? "%s%s/zarr.json" : "%s%s/.zgroup", root, groups[i]);
        put(world, key, v3 ? V3_GROUP("") : "{\"zarr_format\":2}");
    }
    for (int i = 0; i < 4; i++) {
        snprintf(key, sizeof key, v3 ? "%s/%s/zarr.json" : "%s/%s/.zarray", root, arrays[i]);
        put(world, key, v3 ? V3_ARRAY("{}") : V2_ARRAY);
        snprintf(key, sizeof key, "%s/%s/c/0/0", root, arrays[i]);
        put(world, key, "chunk");
    }
}

static void check_tree(const struct damacy_node *root)
{
    assert_int_equal(root->array_count, 4);
    assert_string_equal(root->arrays[0]->path, "a2"); /* numbers count by value */
    assert_string_equal(root->arrays[1]->path, "a10");
    assert_string_equal(root->arrays[2]->path, "g/deep/er");
    assert_string_equal(root->arrays[3]->path, "g/inner");
    assert_int_equal(root->child_count, 3);
    assert_int_equal(root->children[2]->kind, DAMACY_NODE_GROUP);
    assert_int_equal(root->children[2]->child_count, 2);
    assert_false(root->cut);
}

static void test_listed_hierarchies(void **state)
{
    (void)state;
    for (int v3 = 0; v3 < 2; v3++) {
        struct world *world = world_new(v3 ? 100000 : 0);
        put_tree(world, "top", v3);
        struct damacy_node *node = open_ok(world, "memory://top/");
        assert_int_equal(node->kind, DAMACY_NODE_GROUP);
        check_tree(node);
        assert_string_equal(node->arrays[2]->uri, "memory://top/g/deep/er");
        if (v3)
            assert_int_equal(world->requests, 7);
        damacy_node_free(node);
        world->options.shallow = true;
        node = open_ok(world, "memory://top");
        assert_int_equal(node->child_count, 0);
        assert_int_equal(node->array_count, 0);
        damacy_node_free(node);
        world_free(world);
    }
}

/* A folder of stores, with things in it that are no Zarr. */
static void test_folders(void **state)
{
    (void)state;
    struct world *world = world_new(0);
    put_tree(world, "f/one.zarr", true);
    put_tree(world, "f/deep/two.zarr", false);
    put(world, "f/notes/readme.txt", "hello");
    put(world, "f/.git/zarr.json", V3_ARRAY("{}"));
    struct damacy_node *node = open_ok(world, "memory://f");
    assert_int_equal(node->kind, DAMACY_NODE_FOLDER);
    assert_int_equal(node->zarr_format, 0);
    assert_int_equal(node->array_count, 8);
    assert_int_equal(node->child_count, 2);
    assert_string_equal(node->children[0]->path, "deep");
    assert_int_equal(node->children[0]->kind, DAMACY_NODE_FOLDER);
    damacy_node_free(node);
    open_fails(world, "memory://f/notes", DAMACY_NOTFOUND, "memory://f/notes: there is a folder, but no Zarr");
    open_fails(world, "memory://g", DAMACY_NOTFOUND, "memory://g: there is no zarr.json");
    world_free(world);
}

static void test_consolidated(void **state)
{
    (void)state;
    struct world *world = world_new(0);
    put(world, "v3/zarr.json",
        V3_GROUP(",\"consolidated_metadata\":{\"kind\":\"inline\",\"must_understand\":false,\"metadata\":{\"g\":" V3_GROUP(
            "") ",\"g/inner\":" V3_ARRAY("{}") ",\"a2\":" V3_ARRAY("{\"n\":1}") ",\"a10\":" V3_ARRAY("{}") ",\"g/deep/"
                                                                                                           "er\":" V3_ARRAY(
                                                                                                               "{"
                                                                                                               "}") "}}"));
    put(world, "v2/.zgroup", "{\"zarr_format\":2}");
    put(world, "v2/.zmetadata",
        "{\"zarr_consolidated_format\":1,\"metadata\":{\".zgroup\":{\"zarr_format\":2},\"a2/.zattrs\":{\"n\":1},\"a2/"
        ".zarray\":" V2_ARRAY ",\"a10/.zarray\":" V2_ARRAY ",\"g/.zgroup\":{\"zarr_format\":2},\"g/inner/.zarray\":" V2_ARRAY
        ",\"g/deep/er/.zarray\":" V2_ARRAY "}}");
    for (int v3 = 0; v3 < 2; v3++) {
        world->requests = 0;
        struct damacy_node *node = open_ok(world, v3 ? "memory://v3" : "memory://v2");
        assert_true(node->consolidated);
        assert_int_equal(node->array_count, 4);
        assert_string_equal(node->arrays[0]->path, "a2");
        assert_string_equal(node->arrays[0]->attributes, "{\"n\":1}");
        assert_string_equal(node->arrays[0]->uri, v3 ? "memory://v3/a2" : "memory://v2/a2");
        assert_string_equal(node->arrays[2]->path, "g/deep/er");
        assert_string_equal(node->arrays[3]->path, "g/inner");
        assert_int_equal(node->arrays[3]->array->shape[1], 200);
        assert_int_equal(node->child_count, 3);
        assert_true(world->requests <= 5);
        damacy_node_free(node);
    }
    /* Broken ones are told of, and what is there is looked for. */
    put(world, "broken/zarr.json", V3_GROUP(",\"consolidated_metadata\":{\"kind\":\"outline\",\"metadata\":{}}"));
    put(world, "broken/a/zarr.json", V3_ARRAY("{}"));
    struct damacy_node *node = open_ok(world, "memory://broken");
    assert_int_equal(node->array_count, 1);
    assert_int_equal(node->status, DAMACY_UNSUPPORTED);
    damacy_node_free(node);
    world_free(world);
}

/* --- OME-Zarr --- */

static void check_image(const struct damacy_node *node, const char *uri)
{
    char level[200];
    assert_int_equal(node->level_count, 2);
    assert_int_equal(node->axis_count, 2);
    assert_string_equal(node->axes[0].name, "y");
    assert_string_equal(node->axes[0].unit, "micrometer");
    assert_string_equal(node->axes[1].unit, "");
    snprintf(level, sizeof level, "%s/1", uri);
    assert_string_equal(node->levels[1]->uri, level);
    const struct damacy_array_info *array = node->levels[0]->array;
    assert_non_null(array);
    assert_string_equal(array->axes[0].type, "space");
    assert_true(array->scale[0] == 0.5 && array->scale[1] == 0.25);
    assert_true(array->translation[0] == 3 && array->translation[1] == 4);
}

static void test_images(void **state)
{
    (void)state;
    for (int v3 = 0; v3 < 2; v3++) {
        struct world *world = world_new(0);
        put_image(world, "img", v3);
        put_image(world, "img/labels/cells", v3);
        put(world, v3 ? "img/labels/zarr.json" : "img/labels/.zattrs",
            v3 ? OME("\"labels\":[\"cells\"]") : "{\"labels\":[\"cells\"]}");
        struct damacy_node *node = open_ok(world, "memory://img");
        assert_int_equal(node->kind, DAMACY_NODE_IMAGE);
        assert_string_equal(node->ome_version, v3 ? "0.5" : "0.4");
        check_image(node, "memory://img");
        assert_int_equal(node->label_count, 1);
        assert_int_equal(node->labels[0]->kind, DAMACY_NODE_LABEL);
        assert_string_equal(node->labels[0]->path, "labels/cells");
        check_image(node->labels[0], "memory://img/labels/cells");
        assert_int_equal(node->array_count, 4);
        damacy_node_free(node);

        node = open_ok(world, "memory://img#level=0");
        assert_int_equal(node->kind, DAMACY_NODE_ARRAY);
        assert_string_equal(node->uri, "memory://img#level=0");
        assert_true(node->array->scale[1] == 0.25);
        assert_string_equal(node->array->axes[1].name, "x");
        damacy_node_free(node);

        node = open_ok(world, "memory://img#label=cells");
        check_image(node, "memory://img/labels/cells");
        damacy_node_free(node);
        open_fails(world, "memory://img#label=nuclei", DAMACY_INVAL, "the image has no such labels (cells)");
        open_fails(world, "memory://img#level=7", DAMACY_INVAL, "memory://img#level=7: ");
        open_fails(world, "memory://img/0#level=1", DAMACY_INVAL, "is an array");
        open_fails(world, "memory://img#level=x", DAMACY_INVAL, "level");

        /* A level that is not there says so in its own place. */
        assert_int_equal(dmc_store_memory_put(world->memory, v3 ? "img/1/zarr.json" : "img/1/.zarray", NULL, 0, NULL),
                         DAMACY_OK);
        node = open_ok(world, "memory://img");
        assert_int_equal(node->level_count, 2);
        assert_int_equal(node->levels[1]->status, DAMACY_NOTFOUND);
        assert_int_equal(node->array_count, 3);
        damacy_node_free(node);
        world_free(world);
    }
}

static void test_plates(void **state)
{
    (void)state;
    struct world *world = world_new(0);
    put(world, "p/zarr.json",
        OME("\"plate\":{\"rows\":[{\"name\":\"A\"}],\"columns\":[{\"name\":\"1\"},{\"name\":\"2\"}],\"wells\":[{\"path\":\"A/"
            "1\","
            "\"rowIndex\":0,\"columnIndex\":0},{\"path\":\"A/2\",\"rowIndex\":0,\"columnIndex\":1}]}"));
    put(world, "p/A/1/zarr.json", OME("\"well\":{\"images\":[{\"path\":\"0\"},{\"path\":\"1\"}]}"));
    put(world, "p/A/2/zarr.json", OME("\"well\":{\"images\":[{\"path\":\"0\"}]}"));
    put_image(world, "p/A/1/0", true);
    put_image(world, "p/A/1/1", true);
    put_image(world, "p/A/2/0", true);
    struct damacy_node *node = open_ok(world, "memory://p");
    assert_int_equal(node->kind, DAMACY_NODE_PLATE);
    assert_int_equal(node->well_count, 2);
    assert_string_equal(node->wells[1].path, "A/2");
    assert_string_equal(node->wells[1].uri, "memory://p/A/2");
    assert_int_equal(world->requests, 1);
    damacy_node_free(node);
    node = open_ok(world, "memory://p/A/1");
    assert_int_equal(node->kind, DAMACY_NODE_WELL);
    assert_int_equal(node->field_count, 2);
    assert_int_equal(node->array_count, 4);
    damacy_node_free(node);
    node = open_ok(world, "memory://p#well=A/1&field=1");
    check_image(node, "memory://p/A/1/1");
    damacy_node_free(node);
    world->options.wells = true;
    node = open_ok(world, "memory://p");
    assert_int_equal(node->array_count, 6);
    damacy_node_free(node);
    open_fails(world, "memory://p#field=0", DAMACY_NOTFOUND, "a plate of wells (A/1, A/2)");
    world_free(world);
}

/* --- limits, failures --- */

static void test_limits(void **state)
{
    (void)state;
    struct world *world = world_new(0);
    put_tree(world, "top", true);
    world->options.nodes_max = 3;
    struct damacy_node *node = open_ok(world, "memory://top");
    assert_true(node->cut);
    assert_non_null(strstr(node->message, "nodes_max"));
    damacy_node_free(node);
    world->options.nodes_max = 0;
    world->options.depth_max = 1;
    node = open_ok(world, "memory://top");
    assert_true(node->cut);
    assert_non_null(strstr(node->message, "depth_max"));
    assert_int_equal(node->array_count, 2);
    damacy_node_free(node);
    world->options.depth_max = 0;
    world->options.memory_max = 1 << 20;
    char key[64], *text = malloc(110000);
    int head = sprintf(text, "%s", "{\"zarr_format\":3,\"node_type\":\"group\",\"attributes\":{\"text\":\"");
    memset(text + head, 'x', 100000);
    strcpy(text + head + 100000, "\"}}");
    for (int i = 0; i < 12; i++) {
        snprintf(key, sizeof key, "top/long%d/zarr.json", i);
        put(world, key, text);
    }
    free(text);
    open_fails(world, "memory://top", DAMACY_BUDGET, "memory_max");
    world->options.memory_max = 0;
    world->options.struct_size = 0;
    open_fails(world, "memory://top", DAMACY_INVAL, "struct_size");
    world_free(world);
}

static bool never(void *user)
{
    ++*(int *)user;
    return false;
}

static void test_time_runs_out(void **state)
{
    (void)state;
    struct world *world = world_new(0);
    put_tree(world, "top", true);
    world->pattern = "g/inner";
    world->kind = DMC_FAULT_HANG;
    world->options.timeout_ns = 5000000;
    open_fails(world, "memory://top", DAMACY_TIMEOUT, "ran out");
    int asked = 0;
    world->options.timeout_ns = DAMACY_FOREVER;
    world->options.poll = never;
    world->options.poll_user = &asked;
    open_fails(world, "memory://top", DAMACY_SHUTDOWN, "cancelled");
    assert_true(asked > 0);
    world_free(world);
}

static void test_damaged_metadata(void **state)
{
    (void)state;
    struct world *world = world_new(0);
    put_tree(world, "top", true);
    put(world, "top/g/inner/zarr.json", "{\"zarr_format\":3,");
    put(world, "top/g/deep/er/zarr.json", "{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":\"x\"}");
    struct damacy_node *node = open_ok(world, "memory://top");
    assert_int_equal(node->array_count, 2);
    const struct damacy_node *group = node->children[2];
    assert_int_equal(group->child_count, 2);
    assert_int_equal(group->children[1]->status, DAMACY_DECODE);
    assert_non_null(strstr(group->children[1]->message, "zarr.json: JSON line 1"));
    damacy_node_free(node);
    open_fails(world, "memory://top/g/inner", DAMACY_DECODE, "memory://top/g/inner: zarr.json: JSON line 1");
    open_fails(world, "memory://top/g/deep/er", DAMACY_DECODE, "shape");
    open_fails(world, "gopher://x", DAMACY_UNSUPPORTED, "gopher");
    open_fails(world, "", DAMACY_INVAL, "");
    world_free(world);
}

static void put_all(struct world *world)
{
    put_tree(world, "top/three", true);
    put_tree(world, "top/two", false);
    put_image(world, "top/img", true);
    put_image(world, "top/old", false);
}

static void test_the_nth_read_goes_wrong(void **state)
{
    (void)state;
    static const enum dmc_fault faults[] = {DMC_FAULT_FAIL, DMC_FAULT_SHORT, DMC_FAULT_ABSENT, DMC_FAULT_FLIP};
    for (size_t kind = 0; kind < sizeof faults / sizeof *faults; kind++)
        for (uint64_t n = 1;; n++) {
            struct world *world = world_new(0);
            put_all(world);
            world->fail_at = n;
            world->kind = faults[kind];
            struct damacy_node *node;
            struct damacy_error error = {0};
            enum damacy_status status = try_open(world, "memory://top", &node, &error);
            if (status)
                assert_non_null(strstr(error.message, "memory://top"));
            else
                assert_true(node->array_count >= 8);
            damacy_node_free(node);
            bool through = world->requests < n;
            world_free(world);
            if (through)
                break;
        }
}

static void test_the_nth_allocation_fails(void **state)
{
    (void)state;
    struct world *world = world_new(0);
    put_all(world);
    uint64_t failed = 0;
    for (uint64_t n = 1;; n += 1 + n / 40) {
        struct damacy_node *node;
        struct damacy_error error = {0};
        uint64_t before = dmc_mem_count();
        dmc_mem_fail_at(n);
        enum damacy_status status = try_open(world, "memory://top", &node, &error);
        dmc_mem_fail_at(0);
        bool through = dmc_mem_count() - before < n;
        failed += status != DAMACY_OK;
        if (status)
            assert_int_equal(status, DAMACY_OOM);
        damacy_node_free(node);
        if (through)
            break;
    }
    assert_true(failed > 10);
    world_free(world);
}

static void test_many(void **state)
{
    (void)state;
    struct world *world = world_new(50000);
    put_all(world);
    const char *uris[] = {"memory://top/three/a2", "memory://nothing", "memory://top/two/a2", "memory://top/img#level=1", NULL};
    struct damacy_node *nodes[5];
    struct damacy_error errors[5], error;
    bool stuck;
    assert_int_equal(dmc_describe(world->stores, uris, 5, NULL, nodes, errors, &stuck, &error), DAMACY_NOTFOUND);
    assert_non_null(strstr(error.message, "memory://nothing"));
    assert_int_equal(nodes[0]->zarr_format, 3);
    assert_null(nodes[1]);
    assert_int_equal(errors[1].status, DAMACY_NOTFOUND);
    assert_int_equal(nodes[2]->zarr_format, 2);
    assert_true(nodes[3]->array->scale[0] == 1);
    assert_null(nodes[4]);
    assert_int_equal(errors[4].status, DAMACY_INVAL);
    for (int i = 0; i < 5; i++)
        damacy_node_free(nodes[i]);
    world_free(world);
}

/* The public functions, over files. */
static void test_files(void **state)
{
    (void)state;
    char folder[] = "/tmp/damacy-describe-XXXXXX", path[128], command[128];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "mkdir -p '%s/a b.zarr/x#1'", folder);
    assert_int_equal(system(path), 0);
    snprintf(path, sizeof path, "%s/a b.zarr/zarr.json", folder);
    FILE *file = fopen(path, "w");
    fputs(V3_GROUP(""), file);
    fclose(file);
    snprintf(path, sizeof path, "%s/a b.zarr/x#1/zarr.json", folder);
    file = fopen(path, "w");
    fputs(V3_ARRAY("{}"), file);
    fclose(file);
    for (int i = 0; i < 2; i++) {
        struct damacy_node *node = NULL, *again = NULL;
        struct damacy_error error;
        snprintf(path, sizeof path, i ? "file://%s/a%%20b.zarr" : "%s/a b.zarr", folder);
        assert_int_equal(damacy_open(path, NULL, &node, &error), DAMACY_OK);
        assert_int_equal(node->array_count, 1);
        assert_string_equal(node->arrays[0]->path, "x#1");
        assert_int_equal(damacy_open(node->arrays[0]->uri, NULL, &again, &error), DAMACY_OK); /* its uri means it */
        assert_int_equal(again->kind, DAMACY_NODE_ARRAY);
        damacy_node_free(again);
        damacy_node_free(node);
    }
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(damacy_open("/tmp", NULL, NULL, NULL), DAMACY_INVAL);
    assert_int_equal(damacy_open_many(NULL, 1, NULL, NULL, NULL, NULL), DAMACY_INVAL);
    assert_int_equal(damacy_open_many(NULL, 0, NULL, NULL, NULL, NULL), DAMACY_OK);
    damacy_node_free(NULL);
    assert_string_equal(damacy_node_kind_str(DAMACY_NODE_COLLECTION), "collection");
    assert_string_equal(damacy_node_kind_str((enum damacy_node_kind)99), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_v3_array),
        cmocka_unit_test(test_a_v2_array),
        cmocka_unit_test(test_arrays_that_cannot_be_read),
        cmocka_unit_test(test_listed_hierarchies),
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_consolidated),
        cmocka_unit_test(test_images),
        cmocka_unit_test(test_plates),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_time_runs_out),
        cmocka_unit_test(test_damaged_metadata),
        cmocka_unit_test(test_the_nth_read_goes_wrong),
        cmocka_unit_test(test_the_nth_allocation_fails),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
