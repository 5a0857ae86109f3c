#include "zarr/zarr_array.h"

#include "base/error.h"
#include "base/mem.h"
#include "zarr/zarr_parse.h"

#include <stdio.h>
#include <string.h>

/* An array in the group, where its metadata name one: the first level of an OME-Zarr image, or a member that is consolidated.
 */
static const char *array_in_group(dmc_json *root)
{
    const char *name;
    dmc_json *attributes = dmc_json_get(root, "attributes");
    dmc_json *ome = dmc_json_get(attributes, "ome");
    dmc_json *image = dmc_json_at(dmc_json_get(ome ? ome : attributes, "multiscales"), 0);
    if (dmc_json_string(dmc_json_get(dmc_json_at(dmc_json_get(image, "datasets"), 0), "path"), &name, NULL))
        return name;
    dmc_json *members = dmc_json_get(dmc_json_get(root, "consolidated_metadata"), "metadata"), *member;
    for (size_t i = 0; dmc_json_member(members, i, &name, &member); i++)
        if (dmc_zarr_string_is(dmc_json_get(member, "node_type"), "array"))
            return name;
    return NULL;
}

/* Is this the metadata of a Zarr v3 array at all? */
static enum damacy_status check_kind(dmc_json *root, struct damacy_error *error)
{
    enum damacy_status status = dmc_zarr_format_check(root, 3, error);
    if (status)
        return status;
    dmc_json *node = dmc_json_get(root, "node_type");
    if (dmc_zarr_string_is(node, "group")) {
        const char *name = array_in_group(root);
        char quoted[DMC_ZARR_QUOTE_BYTES];
        dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "is a group");
        if (name)
            dmc_error_hint(error, "name an array in it, for instance %s", dmc_zarr_quote(quoted, name, strlen(name)));
        else
            dmc_error_hint(error, "name an array in it");
        return DAMACY_UNSUPPORTED;
    }
    if (!dmc_zarr_string_is(node, "array"))
        return dmc_zarr_wrong(error, DAMACY_DECODE, "node_type", "\"array\"", node);
    return DAMACY_OK;
}

static enum damacy_status check_dimension_names(dmc_json *value, uint32_t rank, struct damacy_error *error)
{
    if (dmc_json_type(value) == DMC_JSON_NULL)
        return DAMACY_OK;
    if (dmc_json_type(value) != DMC_JSON_ARRAY || dmc_json_count(value) != rank) {
        char expected[64];
        snprintf(expected, sizeof expected, "a list of %u names, one for each axis of shape", rank);
        return dmc_zarr_wrong(error, DAMACY_DECODE, "dimension_names", expected, value);
    }
    for (uint32_t axis = 0; axis < rank; axis++) {
        dmc_json *name = dmc_json_at(value, axis);
        if (dmc_json_type(name) == DMC_JSON_NULL || dmc_json_type(name) == DMC_JSON_STRING)
            continue;
        char path[32];
        dmc_zarr_element_path(path, sizeof path, "dimension_names", axis);
        return dmc_zarr_wrong(error, DAMACY_DECODE, path, "a name or null", name);
    }
    return DAMACY_OK;
}

/* What does not change the data, as far as it must be right. */
static enum damacy_status check_side_members(dmc_json *root, uint32_t rank, struct damacy_error *error)
{
    dmc_json *attributes = dmc_json_get(root, "attributes");
    if (dmc_json_type(attributes) != DMC_JSON_NULL && dmc_json_type(attributes) != DMC_JSON_OBJECT)
        return dmc_zarr_wrong(error, DAMACY_DECODE, "attributes", "an object", attributes);

    dmc_json *transformers = dmc_json_get(root, "storage_transformers");
    if (dmc_json_type(transformers) != DMC_JSON_NULL && dmc_json_type(transformers) != DMC_JSON_ARRAY)
        return dmc_zarr_wrong(error, DAMACY_DECODE, "storage_transformers", "an empty list", transformers);
    if (dmc_json_count(transformers) > 0) {
        struct dmc_zarr_named named;
        enum damacy_status status = dmc_zarr_named_read(dmc_json_at(transformers, 0), "storage_transformers[0]", &named, error);
        if (status != DAMACY_OK)
            return status;
        char quoted[DMC_ZARR_QUOTE_BYTES];
        return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, "storage_transformers", "none",
                                   dmc_zarr_quote(quoted, named.name, strlen(named.name)));
    }
    return check_dimension_names(dmc_json_get(root, "dimension_names"), rank, error);
}

/* The order is that in which members need each other: the rank needs the dtype, extents the rank, sharding the grid. */
static enum damacy_status read_array(dmc_json *root, const struct dmc_selection *selection, struct dmc_zarr_draft *draft,
                                     struct damacy_error *error)
{
    static const char *const known[] = {"zarr_format",        "node_type",  "shape",  "data_type",  "chunk_grid",
                                        "chunk_key_encoding", "fill_value", "codecs", "attributes", "storage_transformers",
                                        "dimension_names",    NULL};
    draft->array.zarr_format = 3;
    enum damacy_status status = check_kind(root, error);
    if (status == DAMACY_OK)
        status = dmc_zarr_members_check(root, "", known, error);
    if (status == DAMACY_OK)
        status = dmc_zarr_dtype_read(dmc_json_get(root, "data_type"), 3, selection, draft, error);
    if (status == DAMACY_OK)
        status = dmc_zarr_shape_read(dmc_json_get(root, "shape"), draft, error);
    if (status == DAMACY_OK)
        status = check_side_members(root, draft->array.key_rank, error);
    if (status == DAMACY_OK)
        status = dmc_zarr_grid_read(dmc_json_get(root, "chunk_grid"), draft, error);
    if (status == DAMACY_OK)
        status = dmc_zarr_key_encoding_read(dmc_json_get(root, "chunk_key_encoding"), draft, error);
    if (status == DAMACY_OK)
        status = dmc_zarr_fill_read(dmc_json_get(root, "fill_value"), 3, draft, error);
    if (status == DAMACY_OK)
        status = dmc_zarr_codecs_read(dmc_json_get(root, "codecs"), draft, error);
    return status ? status : dmc_zarr_grid_finish(draft, error);
}

/* Moves a text of the draft to the copy of its texts. */
static const char *moved(const char *text, const struct dmc_zarr_draft *draft, const char *copy)
{
    return text ? copy + (text - draft->text) : NULL;
}

/* How a draft lies in one allocation: the struct, pointers to boundaries, extents, boundaries, their counts, the order of
 * shards, texts; wider things first, so that all are aligned. */
struct layout {
    size_t pointers, extents, edges, counts, order, text, bytes;
    bool rectilinear;
};

static struct layout layout_of(const struct dmc_zarr_draft *draft)
{
    size_t rank = draft->array.rank;
    struct layout layout = {.pointers = sizeof(struct dmc_zarr_array)};
    for (size_t axis = 0; axis < rank; axis++)
        layout.rectilinear = layout.rectilinear || draft->edge_counts[axis];
    layout.extents = layout.pointers + (layout.rectilinear ? rank * sizeof(uint64_t *) : 0);
    layout.edges = layout.extents + rank * (draft->array.sharded ? 3 : 2) * sizeof(uint64_t);
    layout.counts = layout.edges + draft->edge_total * sizeof(uint64_t);
    layout.order = layout.counts + (layout.rectilinear ? rank * sizeof(uint32_t) : 0);
    layout.text = layout.order + (draft->has_shard_order ? rank : 0);
    layout.bytes = layout.text + draft->text_bytes;
    return layout;
}

static void freeze_edges(const struct dmc_zarr_draft *draft, const struct layout *layout, struct dmc_zarr_array *array)
{
    char *base = (char *)array;
    const uint64_t **pointers = (const uint64_t **)(base + layout->pointers);
    uint64_t *edges = (uint64_t *)(base + layout->edges);
    uint32_t rank = array->rank, *counts = (uint32_t *)(base + layout->counts), used = 0;
    memcpy(edges, draft->edges, draft->edge_total * sizeof *edges);
    for (uint32_t axis = 0; axis < rank; axis++) {
        counts[axis] = draft->edge_counts[axis];
        pointers[axis] = counts[axis] ? edges + used : NULL;
        used += counts[axis] ? counts[axis] + 1 : 0;
    }
    array->chunk_edges = pointers;
    array->edge_counts = counts;
}

static struct dmc_zarr_array *freeze(const struct dmc_zarr_draft *draft)
{
    uint32_t rank = draft->array.rank;
    struct layout layout = layout_of(draft);
    struct dmc_zarr_array *array = dmc_malloc(layout.bytes);
    if (!array)
        return NULL;
    char *base = (char *)array;
    *array = draft->array;
    array->memory_bytes = layout.bytes;

    uint64_t *extents = (uint64_t *)(base + layout.extents);
    memcpy(extents, draft->shape, rank * sizeof *extents);
    memcpy(extents + rank, draft->chunk_shape, rank * sizeof *extents);
    array->shape = extents;
    array->chunk_shape = extents + rank;
    array->grid_shape = array->chunk_shape;
    if (array->sharded) {
        memcpy(extents + 2 * rank, draft->grid_shape, rank * sizeof *extents);
        array->grid_shape = extents + 2 * rank;
    }
    if (layout.rectilinear)
        freeze_edges(draft, &layout, array);
    if (draft->has_shard_order) {
        memcpy(base + layout.order, draft->shard_order, rank);
        array->shard_order = (const uint8_t *)(base + layout.order);
    }

    char *text = base + layout.text;
    memcpy(text, draft->text, draft->text_bytes);
    array->data_type = moved(array->data_type, draft, text);
    struct dmc_zarr_key_encoding *encoding = &array->key_encoding;
    encoding->text = moved(encoding->text, draft, text);
    encoding->joint = moved(encoding->joint, draft, text);
    encoding->prefix = moved(encoding->prefix, draft, text);
    encoding->suffix = moved(encoding->suffix, draft, text);
    for (uint32_t i = 0; i < array->codecs.count; i++) {
        struct dmc_codec_desc *codec = &array->codecs.list[i];
        codec->name = moved(codec->name, draft, text);
        codec->configuration = moved(codec->configuration, draft, text);
    }
    return array;
}

static enum damacy_status parse(const char *text, size_t bytes, uint32_t format, const struct dmc_selection *selection,
                                struct dmc_zarr_array **array, struct damacy_error *error)
{
    struct dmc_json_doc *document;
    enum damacy_status status = dmc_json_parse(text, bytes, &document, error);
    if (status != DAMACY_OK)
        return status;
    struct dmc_zarr_draft draft;
    memset(&draft, 0, offsetof(struct dmc_zarr_draft, text));
    dmc_json *root = dmc_json_root(document);
    status = format == 2 ? dmc_zarr_v2_read(root, selection, &draft, error) : read_array(root, selection, &draft, error);
    dmc_json_free(document);
    if (status == DAMACY_OK && draft.text_full) /* found where it happened, except for what the dtype needs */
        status = dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata",
                               "the names and configurations of all codecs may have %d bytes", DMC_ZARR_TEXT_BYTES_MAX);
    struct dmc_zarr_array *made = status == DAMACY_OK ? freeze(&draft) : NULL;
    if (status == DAMACY_OK && !made)
        status = dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for the metadata of an array");
    dmc_free(draft.edges);
    if (made)
        *array = made;
    return status;
}

enum damacy_status dmc_zarr_array_parse(const char *text, size_t bytes, const struct dmc_selection *selection,
                                        struct dmc_zarr_array **array, struct damacy_error *error)
{
    return parse(text, bytes, 3, selection, array, error);
}

enum damacy_status dmc_zarr_array_parse_v2(const char *text, size_t bytes, const struct dmc_selection *selection,
                                           struct dmc_zarr_array **array, struct damacy_error *error)
{
    return parse(text, bytes, 2, selection, array, error);
}

uint64_t dmc_zarr_edge_coordinate(const struct dmc_zarr_array *array, uint32_t axis, uint64_t position)
{
    const uint64_t *edges = array->chunk_edges[axis];
    uint64_t low = 0, high = array->edge_counts[axis]; /* edges[low] <= position < edges[high] */
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        *(edges[middle] <= position ? &low : &high) = middle;
    }
    return low;
}

uint64_t dmc_zarr_shard_chunks(const struct dmc_zarr_array *array, const uint64_t *coordinates)
{
    if (!array->chunk_edges)
        return array->chunks_per_shard;
    uint64_t count = 1; /* no more than chunks_per_shard, which was checked */
    for (uint32_t axis = 0; axis < array->rank; axis++)
        count *= dmc_zarr_grid_extent(array, axis, coordinates[axis]) / array->chunk_shape[axis];
    return count;
}

void dmc_zarr_array_free(struct dmc_zarr_array *array)
{
    dmc_free(array);
}

size_t dmc_zarr_array_memory_max(void)
{
    return sizeof(struct dmc_zarr_array) +
           DAMACY_RANK_MAX * (sizeof(uint64_t *) + 3 * sizeof(uint64_t) + sizeof(uint32_t) + 1) +
           DMC_ZARR_EDGES_MAX * sizeof(uint64_t) + DMC_ZARR_TEXT_BYTES_MAX;
}
