#include "zarr/zarr_node.h"

#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "zarr/zarr_parse.h"

#include <stdio.h>
#include <string.h>

/* The node and what its names need. */
struct owner {
    struct dmc_node node; /* first: what callers hold */
    struct dmc_arena arena;
    struct dmc_json_doc *document; /* while parsing */
    const char *members[DMC_ZARR_RECORD_MEMBERS_MAX];
};

static enum damacy_status oom(struct damacy_error *error)
{
    return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for a node's names");
}

static enum damacy_status read_dimensions(struct owner *owner, dmc_json *list, struct damacy_error *error)
{
    size_t count = dmc_json_count(list);
    if (dmc_json_type(list) != DMC_JSON_ARRAY || count == 0 || count > DAMACY_RANK_MAX)
        return DAMACY_OK;
    const char **names = dmc_arena_array(&owner->arena, const char *, count);
    if (!names)
        return oom(error);
    for (size_t i = 0; i < count; i++) {
        const char *name = NULL;
        names[i] = NULL;
        if (dmc_zarr_text(dmc_json_at(list, i), &name) && !(names[i] = dmc_arena_strdup(&owner->arena, name)))
            return oom(error);
    }
    owner->node.dimensions = names;
    owner->node.dimension_count = (uint32_t)count;
    return DAMACY_OK;
}

/* The fields of a structured dtype: v2's list itself; of v3 configuration.fields. NULL: not structured. */
static dmc_json *fields_of(dmc_json *type)
{
    if (dmc_json_type(type) == DMC_JSON_ARRAY)
        return type;
    dmc_json *name = dmc_json_get(type, "name");
    return dmc_zarr_string_is(name, "struct") || dmc_zarr_string_is(name, "structured")
               ? dmc_json_get(dmc_json_get(type, "configuration"), "fields")
               : NULL;
}

static enum damacy_status read_members(struct owner *owner, dmc_json *fields, const char *prefix, uint32_t depth,
                                       struct damacy_error *error)
{
    for (size_t i = 0; i < dmc_json_count(fields) && depth < DMC_ZARR_RECORD_DEPTH_MAX; i++) {
        dmc_json *field = dmc_json_at(fields, i);
        bool list = dmc_json_type(field) == DMC_JSON_ARRAY;
        const char *name;
        char path[256];
        if (!dmc_zarr_text(list ? dmc_json_at(field, 0) : dmc_json_get(field, "name"), &name) ||
            snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "", name) >= (int)sizeof path)
            continue;
        dmc_json *nested = fields_of(list ? dmc_json_at(field, 1) : dmc_json_get(field, "data_type"));
        if (nested) {
            enum damacy_status status = read_members(owner, nested, path, depth + 1, error);
            if (status)
                return status;
            continue;
        }
        if (owner->node.member_count == DMC_ZARR_RECORD_MEMBERS_MAX)
            return DAMACY_OK;
        char *kept = dmc_arena_strdup(&owner->arena, path);
        if (!kept)
            return oom(error);
        owner->members[owner->node.member_count++] = kept;
    }
    return DAMACY_OK;
}

static enum damacy_status kind_of(dmc_json *root, const char *file, enum dmc_metadata_kind *kind, struct damacy_error *error)
{
    uint64_t format = 0;
    dmc_json *node = dmc_json_get(root, "node_type");
    if (dmc_json_type(root) != DMC_JSON_OBJECT)
        return dmc_zarr_wrong(error, DAMACY_DECODE, "the document", "a JSON object", root);
    bool told = dmc_zarr_u64(dmc_json_get(root, "zarr_format"), &format);
    if (file ? strcmp(file, ".zattrs") == 0 : !told) {
        *kind = DMC_METADATA_V2_ATTRIBUTES;
        return DAMACY_OK;
    }
    bool v2 = file ? file[0] == '.' : format == 2;
    if (!told || format != (v2 ? 2 : 3))
        return dmc_zarr_wrong(error, told ? DAMACY_UNSUPPORTED : DAMACY_DECODE, "zarr_format", v2 ? "2" : "3",
                              dmc_json_get(root, "zarr_format"));
    if (v2)
        *kind = (file ? strcmp(file, ".zarray") == 0 : dmc_json_get(root, "shape") != NULL) ? DMC_METADATA_V2_ARRAY
                                                                                            : DMC_METADATA_V2_GROUP;
    else if (dmc_zarr_string_is(node, "array"))
        *kind = DMC_METADATA_ARRAY;
    else if (dmc_zarr_string_is(node, "group"))
        *kind = DMC_METADATA_GROUP;
    else
        return dmc_zarr_wrong(error, DAMACY_DECODE, "node_type", "\"array\" or \"group\"", node);
    return DAMACY_OK;
}

static void read_views(struct dmc_node *node, struct dmc_text text)
{
    struct dmc_skim skim = dmc_skim_object(text);
    struct dmc_text key, value;
    const struct {
        const char *name;
        struct dmc_text *view;
    } views[] = {{"attributes", &node->attributes},
                 {"data_type", &node->data_type},
                 {"dtype", &node->data_type},
                 {"fill_value", &node->fill_value},
                 {"codecs", &node->codecs},
                 {"chunk_grid", &node->chunk_grid},
                 {"chunks", &node->chunk_grid},
                 {"order", &node->order},
                 {"chunk_key_encoding", &node->chunk_key_encoding},
                 {"filters", &node->filters},
                 {"compressor", &node->compressor},
                 {"dimension_separator", &node->chunk_key_encoding}};
    while (dmc_skim_next(&skim, &key, &value))
        for (size_t i = 0; i < sizeof views / sizeof *views; i++)
            if (dmc_text_is(key, views[i].name))
                *views[i].view = value;
}

static enum damacy_status read_node(struct owner *owner, struct dmc_text text, const char *file, struct damacy_error *error)
{
    struct dmc_node *node = &owner->node;
    dmc_json *root = dmc_json_root(owner->document);
    enum damacy_status status = kind_of(root, file, &node->kind, error);
    if (status)
        return status;
    bool attributes_only = node->kind == DMC_METADATA_V2_ATTRIBUTES;
    if (attributes_only)
        node->attributes = text;
    else
        read_views(node, text);
    node->consolidated =
        node->kind == DMC_METADATA_GROUP && dmc_json_type(dmc_json_get(root, "consolidated_metadata")) == DMC_JSON_OBJECT;
    dmc_json *names = attributes_only ? NULL : dmc_json_get(root, "dimension_names");
    if (dmc_json_type(names) != DMC_JSON_ARRAY) /* xarray's, which some converters carried over to v3 */
        names = dmc_json_get(attributes_only ? root : dmc_json_get(root, "attributes"), "_ARRAY_DIMENSIONS");
    status = read_dimensions(owner, names, error);
    dmc_json *type = dmc_json_get(root, node->kind == DMC_METADATA_ARRAY ? "data_type" : "dtype");
    if (!status && (node->kind == DMC_METADATA_ARRAY || node->kind == DMC_METADATA_V2_ARRAY))
        status = read_members(owner, fields_of(type), "", 0, error);
    node->members = owner->members;
    return status;
}

enum damacy_status dmc_node_parse(const char *text, size_t bytes, const char *file, struct dmc_node **node,
                                  struct damacy_error *error)
{
    struct owner *owner = dmc_calloc(1, sizeof *owner);
    if (!owner)
        return oom(error);
    dmc_arena_init(&owner->arena, NULL);
    enum damacy_status status = dmc_json_parse(text, bytes, &owner->document, error);
    if (!status) {
        status = read_node(owner, (struct dmc_text){text, bytes}, file, error);
        dmc_json_free(owner->document);
        owner->document = NULL;
    }
    if (status)
        dmc_node_free(&owner->node);
    else
        *node = &owner->node;
    return status;
}

void dmc_node_free(struct dmc_node *node)
{
    struct owner *owner = (struct owner *)node;
    if (!owner)
        return;
    dmc_arena_deinit(&owner->arena);
    dmc_free(owner);
}
