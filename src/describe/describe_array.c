/* An array's metadata, twice: as they are written, for people, and as the library understands them, for those who want to read
 * it. What the library refuses is described all the same, as far as the document is one of an array. */
#include "describe/describe_impl.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"
#include "codec/codec.h"
#include "zarr/group_select.h"

#include <stdio.h>
#include <string.h>

/* Text of a value: a string's own, else JSON. */
static const char *text_of(struct dmc_tree *tree, dmc_json *value)
{
    const char *text;
    size_t bytes;
    if (!value)
        return "";
    if (dmc_json_string(value, &text, &bytes))
        return dmc_tree_text(tree, text, bytes);
    return dmc_tree_dump(tree, value);
}

static const char *json_of(struct dmc_tree *tree, dmc_json *value)
{
    return value ? dmc_tree_dump(tree, value) : "null";
}

/* A list of extents; NULL: it is none. */
static const uint64_t *extents_of(struct dmc_tree *tree, dmc_json *list, uint32_t *rank)
{
    size_t count = dmc_json_count(list);
    if (dmc_json_type(list) != DMC_JSON_ARRAY || count > DAMACY_RANK_MAX)
        return NULL;
    uint64_t *extents = dmc_arena_array(&tree->arena, uint64_t, count);
    if (!extents) {
        dmc_walk_fail_memory(tree);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        dmc_json *value = dmc_json_at(list, i);
        double real;
        if (dmc_json_u64(value, &extents[i]))
            continue;
        if (!dmc_json_f64(value, &real) || !(real >= 0 && real <= 9007199254740992.0) || (double)(uint64_t)real != real)
            return NULL;
        extents[i] = (uint64_t)real;
    }
    *rank = (uint32_t)count;
    return extents;
}

static const uint64_t *copy_extents(struct dmc_tree *tree, const uint64_t *extents, uint32_t rank)
{
    uint64_t *copy = dmc_arena_array(&tree->arena, uint64_t, rank);
    if (!copy)
        dmc_walk_fail_memory(tree);
    else if (rank)
        memcpy(copy, extents, rank * sizeof *copy);
    return copy;
}

/* As far as the document tells it by itself: for arrays that the library refuses. */
static void read_extents_v3(struct dmc_tree *tree, dmc_json *document, struct damacy_array_info *info)
{
    uint32_t rank;
    dmc_json *grid = dmc_json_get(dmc_json_get(document, "chunk_grid"), "configuration");
    const uint64_t *grid_shape = extents_of(tree, dmc_json_get(grid, "chunk_shape"), &rank);
    if (!grid_shape || rank != info->rank)
        return;
    info->chunk_shape = grid_shape;
    dmc_json *codecs = dmc_json_get(document, "codecs");
    for (size_t i = 0; i < dmc_json_count(codecs); i++) {
        const char *name;
        dmc_json *codec = dmc_json_at(codecs, i);
        if (!dmc_json_string(dmc_json_get(codec, "name"), &name, NULL) || strcmp(name, "sharding_indexed") != 0)
            continue;
        const uint64_t *inner = extents_of(tree, dmc_json_get(dmc_json_get(codec, "configuration"), "chunk_shape"), &rank);
        if (inner && rank == info->rank) {
            info->shard_shape = grid_shape;
            info->chunk_shape = inner;
        }
        return;
    }
}

/* The names in a structured data type: [["x", "<f4"], ...], in v3 {"configuration": {"fields": ...}}. */
static void read_members(struct dmc_tree *tree, dmc_json *data_type, struct damacy_array_info *info)
{
    dmc_json *fields = data_type;
    if (dmc_json_type(data_type) == DMC_JSON_OBJECT)
        fields = dmc_json_get(dmc_json_get(data_type, "configuration"), "fields");
    if (dmc_json_type(fields) != DMC_JSON_ARRAY)
        return;
    size_t count = dmc_json_count(fields);
    const char **members = dmc_arena_array(&tree->arena, const char *, count);
    if (!members) {
        dmc_walk_fail_memory(tree);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const char *name;
        size_t bytes;
        dmc_json *field = dmc_json_at(fields, i);
        dmc_json *value = dmc_json_type(field) == DMC_JSON_OBJECT ? dmc_json_get(field, "name") : dmc_json_at(field, 0);
        if (!dmc_json_string(value, &name, &bytes))
            return;
        members[i] = dmc_tree_text(tree, name, bytes);
    }
    info->members = members;
    info->member_count = (uint32_t)count;
}

/* Names from dimension_names (v3), or from the attribute that xarray writes (v2, but some wrote it into v3, too). */
static void read_axes(struct dmc_work *work, dmc_json *document, dmc_json *attributes, struct damacy_array_info *info)
{
    struct dmc_tree *tree = work->tree;
    struct damacy_axis *axes = dmc_arena_array(&tree->arena, struct damacy_axis, info->rank);
    if (!axes) {
        dmc_walk_fail_memory(tree);
        return;
    }
    dmc_json *names = dmc_json_get(document, "dimension_names");
    if (dmc_json_type(names) != DMC_JSON_ARRAY)
        names = dmc_json_get(attributes, "_ARRAY_DIMENSIONS");
    for (uint32_t axis = 0; axis < info->rank; axis++) {
        const char *name;
        size_t bytes;
        axes[axis] = axis < work->axis_count ? work->axes[axis] : (struct damacy_axis){"", "", ""};
        if (!axes[axis].name[0] && dmc_json_string(dmc_json_at(names, axis), &name, &bytes))
            axes[axis].name = dmc_tree_text(tree, name, bytes);
    }
    info->axes = axes;
}

/* A level's numbers, one for each axis of the image, and `rest` for an axis that only the array has. */
static const double *read_numbers(struct dmc_tree *tree, const double *numbers, uint32_t count, uint32_t rank, double rest)
{
    if (!numbers)
        return NULL;
    double *list = dmc_arena_array(&tree->arena, double, rank);
    if (!list) {
        dmc_walk_fail_memory(tree);
        return NULL;
    }
    for (uint32_t axis = 0; axis < rank; axis++)
        list[axis] = axis < count ? numbers[axis] : rest;
    return list;
}

/* What the library makes of it. */
static enum damacy_status understand(struct dmc_work *work, const char *text, size_t bytes, struct damacy_array_info *info,
                                     struct damacy_error *error)
{
    struct dmc_tree *tree = work->tree;
    struct dmc_zarr_array *zarr = NULL;
    struct dmc_codec_chain *chain = NULL;
    const struct dmc_selection *selection = work == tree->root ? &tree->selection : NULL;
    enum damacy_status status = work->node.zarr_format == 2 ? dmc_zarr_array_parse_v2(text, bytes, selection, &zarr, error)
                                                            : dmc_zarr_array_parse(text, bytes, selection, &zarr, error);
    if (status)
        return status;
    info->rank = zarr->rank;
    info->shape = copy_extents(tree, zarr->shape, zarr->rank);
    info->chunk_shape = copy_extents(tree, zarr->chunk_shape, zarr->rank);
    info->shard_shape = zarr->sharded ? copy_extents(tree, zarr->grid_shape, zarr->rank) : NULL;
    status = dmc_codec_chain_create(zarr->codecs.list, zarr->codecs.count, zarr->dtype, zarr->rank, zarr->chunk_shape, &chain,
                                    error);
    if (status == DAMACY_OK)
        info->dtype = zarr->dtype;
    if (status == DAMACY_OK && zarr->rank == 0)
        status = dmc_error_set(error, DAMACY_RANK, "metadata", "an array without axes cannot be sampled");
    dmc_codec_chain_free(chain);
    dmc_zarr_array_free(zarr);
    return status;
}

static uint64_t count_bytes(const struct damacy_array_info *info)
{
    uint64_t bytes = damacy_dtype_bytes(info->dtype);
    for (uint32_t axis = 0; axis < info->rank; axis++)
        if (info->shape[axis] == 0)
            return 0;
    for (uint32_t axis = 0; axis < info->rank; axis++)
        if (!dmc_mul_u64(bytes, info->shape[axis], &bytes))
            return UINT64_MAX;
    return bytes;
}

static const char *codecs_of_v2(struct dmc_tree *tree, dmc_json *document)
{
    static const char *const members[] = {"order", "filters", "compressor"};
    char *texts[3];
    size_t bytes = 3;
    bool whole = true;
    for (int i = 0; i < 3; i++) {
        dmc_json *value = dmc_json_get(document, members[i]);
        texts[i] = value ? dmc_json_dump(value) : dmc_strdup("null");
        whole &= texts[i] != NULL;
        bytes += strlen(members[i]) + 4 + (texts[i] ? strlen(texts[i]) : 0);
    }
    char *text = whole ? dmc_arena_alloc(&tree->arena, bytes, 1) : NULL;
    char *at = text;
    for (int i = 0; i < 3; i++) {
        if (text) {
            *at++ = i ? ',' : '{';
            *at++ = '"';
            at = stpcpy(at, members[i]);
            *at++ = '"';
            *at++ = ':';
            at = stpcpy(at, texts[i]);
        }
        dmc_free(texts[i]);
    }
    if (!text) {
        dmc_walk_fail_memory(tree);
        return "";
    }
    *at++ = '}';
    *at = 0;
    return text;
}

void dmc_describe_array(struct dmc_work *work, dmc_json *document, const char *text, size_t bytes, dmc_json *attributes)
{
    static const char *const keys[] = {".zarray", "zarr.json"};
    struct dmc_tree *tree = work->tree;
    bool v3 = work->node.zarr_format == 3;
    struct damacy_error error;
    struct damacy_array_info *info = dmc_arena_array(&tree->arena, struct damacy_array_info, 1);
    if (!info) {
        dmc_walk_fail_memory(tree);
        return;
    }
    *info = (struct damacy_array_info){0};
    if (work == tree->root && dmc_group_arrived(&tree->selection, &error)) {
        dmc_walk_fail(work, keys[v3], &error);
        return;
    }
    uint32_t rank;
    info->shape = extents_of(tree, dmc_json_get(document, "shape"), &info->rank);
    if (!info->shape) {
        dmc_error_set(&error, DAMACY_DECODE, "metadata", "shape is not a list of at most %d extents", DAMACY_RANK_MAX);
        dmc_walk_fail(work, keys[v3], &error);
        return;
    }
    dmc_json *data_type = dmc_json_get(document, v3 ? "data_type" : "dtype");
    info->data_type = text_of(tree, data_type);
    info->fill_value = json_of(tree, dmc_json_get(document, "fill_value"));
    if (v3) {
        info->codecs = json_of(tree, dmc_json_get(document, "codecs"));
        info->chunk_grid = json_of(tree, dmc_json_get(document, "chunk_grid"));
        info->chunk_key_encoding = json_of(tree, dmc_json_get(document, "chunk_key_encoding"));
        read_extents_v3(tree, document, info);
    } else {
        dmc_json *separator = dmc_json_get(document, "dimension_separator");
        info->codecs = codecs_of_v2(tree, document);
        info->chunk_grid = "";
        info->chunk_key_encoding = dmc_json_type(separator) == DMC_JSON_STRING ? text_of(tree, separator) : ".";
        const uint64_t *chunks = extents_of(tree, dmc_json_get(document, "chunks"), &rank);
        if (chunks && rank == info->rank)
            info->chunk_shape = chunks;
    }
    read_members(tree, data_type, info);
    enum damacy_status status = understand(work, text, bytes, info, &error);
    if (status && !work->node.status) {
        char message[sizeof error.message + 16];
        int length = snprintf(message, sizeof message, "%s: %s", keys[v3], error.message);
        work->node.status = status;
        work->node.message = dmc_tree_text(tree, message, (size_t)length);
    }
    if (!info->shape || tree->status || tree->walk->status)
        return; /* no memory, and noted */
    if (!info->chunk_shape)
        info->chunk_shape = info->shape;
    info->bytes = info->dtype == DAMACY_NATIVE ? 0 : count_bytes(info);
    read_axes(work, document, attributes, info);
    info->scale = read_numbers(tree, work->scale, work->axis_count, info->rank, 1);
    info->translation = read_numbers(tree, work->translation, work->axis_count, info->rank, 0);
    work->node.kind = DAMACY_NODE_ARRAY;
    work->node.array = info;
}
