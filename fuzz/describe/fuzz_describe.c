/* damacy_open() over metadata from outside: whatever they say, the tree is whole, and all of it can be walked.
 *
 *     | which object | which fragment | the object's text ... */
#include "base/error.h"
#include "describe/describe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static volatile uint64_t walk_sum; /* so that the walk is not left out */

static const char level[] =
    "{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[4,4],\"data_type\":\"uint8\",\"chunk_grid\":{\"name\":"
    "\"regular\",\"configuration\":{\"chunk_shape\":[2,2]}},\"chunk_key_encoding\":{\"name\":\"default\"},"
    "\"fill_value\":0,\"codecs\":[{\"name\":\"bytes\"}]}";

static uint64_t walk(const struct damacy_node *node, uint32_t depth)
{
    uint64_t sum =
        strlen(node->path) + strlen(node->uri) + strlen(node->message) + strlen(node->attributes) + strlen(node->ome_version);
    if (depth > 70)
        abort();
    if (node->array) {
        const struct damacy_array_info *array = node->array;
        sum += strlen(array->data_type) + strlen(array->fill_value) + strlen(array->codecs) + strlen(array->chunk_grid) +
               strlen(array->chunk_key_encoding) + array->bytes;
        for (uint32_t axis = 0; axis < array->rank; axis++) {
            sum += array->shape[axis] + array->chunk_shape[axis] + (array->shard_shape ? array->shard_shape[axis] : 0);
            sum += strlen(array->axes[axis].name) + strlen(array->axes[axis].type) + strlen(array->axes[axis].unit);
            sum += array->scale && array->scale[axis] > 0 && array->translation && array->translation[axis] > 0;
        }
        for (uint32_t i = 0; i < array->member_count; i++)
            sum += strlen(array->members[i]);
    }
    for (uint32_t i = 0; i < node->axis_count; i++)
        sum += strlen(node->axes[i].name);
    for (uint32_t i = 0; i < node->level_count; i++)
        sum += strlen(node->levels[i]->path);
    for (uint32_t i = 0; i < node->label_count; i++)
        sum += strlen(node->labels[i]->path);
    for (uint32_t i = 0; i < node->well_count; i++)
        sum += strlen(node->wells[i].path) + strlen(node->wells[i].uri);
    for (uint32_t i = 0; i < node->field_count; i++)
        sum += strlen(node->fields[i]);
    for (uint64_t i = 0; i < node->child_count; i++)
        sum += walk(node->children[i], depth + 1);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char *const names[] = {"a/zarr.json", "a/.zarray", "a/.zattrs", "a/.zmetadata"};
    static const char *const uris[] = {"memory://a",         "memory://a#level=1",           "memory://a#scale=0.5",
                                       "memory://a#label=x", "memory://a#well=B/03&field=0", "memory://a#member=x"};
    static struct dmc_store *memory;
    static struct dmc_stores *stores;
    struct damacy_error error;
    if (!stores) {
        if (dmc_store_memory_create(&memory, &error) || dmc_stores_create(NULL, &stores, &error))
            abort();
        dmc_stores_set(stores, "memory", memory);
        dmc_store_memory_put(memory, "a/0/zarr.json", level, sizeof level - 1, &error);
    }
    if (bytes < 2)
        return 0;
    const char *name = names[data[0] % 4], *uri = uris[data[1] % 6];
    struct damacy_open_options options = DAMACY_OPEN_OPTIONS_INIT;
    options.nodes_max = 500;
    options.wells = true;
    options.memory_max = 64 << 20;
    options.reads_in_flight = 2;
    if (dmc_store_memory_put(memory, name, data + 2, bytes - 2, &error))
        abort();
    struct damacy_node *node = NULL;
    bool stuck;
    if (dmc_describe(stores, &uri, 1, &options, &node, NULL, &stuck, &error) == DAMACY_OK)
        walk_sum = walk_sum + walk(node, 0);
    else if (!error.message[0])
        abort();
    damacy_node_free(node);
    dmc_store_memory_put(memory, name, NULL, 0, &error);
    return 0;
}
