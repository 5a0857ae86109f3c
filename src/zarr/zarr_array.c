#include "zarr/zarr_array.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"
#include "zarr/zarr_parse.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    enum damacy_dtype dtype;
} data_types[] = {
    {"bool", DAMACY_BOOL},  {"int8", DAMACY_I8},     {"int16", DAMACY_I16},   {"int32", DAMACY_I32},
    {"int64", DAMACY_I64},  {"uint8", DAMACY_U8},    {"uint16", DAMACY_U16},  {"uint32", DAMACY_U32},
    {"uint64", DAMACY_U64}, {"float16", DAMACY_F16}, {"float32", DAMACY_F32}, {"float64", DAMACY_F64},
};

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
    if (dmc_json_type(root) != DMC_JSON_OBJECT)
        return dmc_zarr_wrong(error, DAMACY_DECODE, "the document", "the metadata object of a Zarr array", root);

    dmc_json *format = dmc_json_get(root, "zarr_format");
    uint64_t number;
    if (!dmc_zarr_u64(format, &number))
        return dmc_zarr_wrong(error, DAMACY_DECODE, "zarr_format", "3", format);
    if (number != 3)
        return dmc_zarr_wrong(error, DAMACY_UNSUPPORTED, "zarr_format", "3", format);

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

static enum damacy_status read_data_type(dmc_json *value, struct dmc_zarr_array *array, struct damacy_error *error)
{
    static const char *const known[] = {NULL};
    struct dmc_zarr_named named;
    enum damacy_status status = dmc_zarr_named_read(value, "data_type", &named, error);
    if (status != DAMACY_OK)
        return status;
    for (size_t i = 0; i < sizeof data_types / sizeof *data_types; i++) {
        if (strcmp(named.name, data_types[i].name) != 0)
            continue;
        array->dtype = data_types[i].dtype;
        array->item_bytes = (uint32_t)damacy_dtype_bytes(array->dtype);
        return dmc_zarr_members_check(named.configuration, "data_type.configuration", known, error);
    }
    char quoted[DMC_ZARR_QUOTE_BYTES];
    return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, "data_type",
                               "bool, int8 to int64, uint8 to uint64, float16, float32 or float64",
                               dmc_zarr_quote(quoted, named.name, strlen(named.name)));
}

static enum damacy_status read_shape(dmc_json *value, struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    size_t rank = dmc_json_count(value);
    if (dmc_json_type(value) != DMC_JSON_ARRAY)
        return dmc_zarr_wrong(error, DAMACY_DECODE, "shape", "a list of integers", value);
    if (rank > DAMACY_RANK_MAX) {
        char expected[32], found[32];
        snprintf(expected, sizeof expected, "at most %d axes", DAMACY_RANK_MAX);
        snprintf(found, sizeof found, "%zu axes", rank);
        return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, "shape", expected, found);
    }
    draft->array.rank = draft->array.key_rank = (uint32_t)rank;
    draft->array.zarr_format = 3;
    draft->array.fill_count = 1;
    draft->array.data_type = "";
    return dmc_zarr_extents_read(value, "shape", draft->array.rank, 0, draft->shape, error);
}

/* The product of the extents; false when it, times item_bytes, exceeds what positions in a chunk may be. */
static bool count_elements(const uint64_t *extents, uint32_t rank, uint32_t item_bytes, uint64_t *elements)
{
    uint64_t bytes = item_bytes;
    for (uint32_t axis = 0; axis < rank; axis++)
        if (!dmc_mul_u64(bytes, extents[axis], &bytes) || bytes > DMC_ZARR_CHUNK_BYTES_MAX)
            return false;
    *elements = bytes / item_bytes;
    return true;
}

/* The number of an array's chunks, those past its end included, must be countable: messages and planning number them. */
static bool grid_is_countable(const uint64_t *shape, const uint64_t *chunk_shape, uint32_t rank, uint64_t elements_per_chunk)
{
    uint64_t count = elements_per_chunk;
    for (uint32_t axis = 0; axis < rank; axis++)
        if (!dmc_mul_u64(count, dmc_max_u64(1, dmc_ceil_div(shape[axis], chunk_shape[axis])), &count) || count > INT64_MAX)
            return false;
    return true;
}

static enum damacy_status read_grid(dmc_json *value, struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    static const char *const known[] = {"chunk_shape", NULL};
    static const char member[] = "chunk_grid.configuration.chunk_shape";
    struct dmc_zarr_array *array = &draft->array;
    struct dmc_zarr_named named;
    enum damacy_status status = dmc_zarr_named_read(value, "chunk_grid", &named, error);
    if (status != DAMACY_OK)
        return status;
    if (strcmp(named.name, "regular") != 0) {
        char quoted[DMC_ZARR_QUOTE_BYTES];
        return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, "chunk_grid", "regular",
                                   dmc_zarr_quote(quoted, named.name, strlen(named.name)));
    }
    status = dmc_zarr_members_check(named.configuration, "chunk_grid.configuration", known, error);
    if (status != DAMACY_OK)
        return status;
    status = dmc_zarr_extents_read(dmc_json_get(named.configuration, "chunk_shape"), member, array->rank, 1, draft->grid_shape,
                                   error);
    if (status != DAMACY_OK)
        return status;
    if (!count_elements(draft->grid_shape, array->rank, array->item_bytes, &array->chunk_elements))
        return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, member, "chunks of at most 2^62 bytes", "larger ones");
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

/* The order is that in which members need each other: extents need the rank, sizes the dtype, sharding the grid. */
static enum damacy_status read_array(dmc_json *root, struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    static const char *const known[] = {"zarr_format",        "node_type",  "shape",  "data_type",  "chunk_grid",
                                        "chunk_key_encoding", "fill_value", "codecs", "attributes", "storage_transformers",
                                        "dimension_names",    NULL};
    struct dmc_zarr_array *array = &draft->array;
    enum damacy_status status = check_kind(root, error);
    if (status == DAMACY_OK)
        status = dmc_zarr_members_check(root, "", known, error);
    if (status == DAMACY_OK)
        status = read_shape(dmc_json_get(root, "shape"), draft, error);
    if (status == DAMACY_OK)
        status = check_side_members(root, array->rank, error);
    if (status == DAMACY_OK)
        status = read_data_type(dmc_json_get(root, "data_type"), array, error);
    if (status == DAMACY_OK)
        status = read_grid(dmc_json_get(root, "chunk_grid"), draft, error);
    if (status == DAMACY_OK)
        status = dmc_zarr_key_encoding_read(dmc_json_get(root, "chunk_key_encoding"), &array->key_encoding, error);
    if (status == DAMACY_OK)
        status = dmc_zarr_fill_read(dmc_json_get(root, "fill_value"), array->dtype, array->fill, error);
    if (status == DAMACY_OK)
        status = dmc_zarr_codecs_read(dmc_json_get(root, "codecs"), draft, error);
    if (status != DAMACY_OK)
        return status;

    if (array->sharded) /* chunks are smaller than the shard, which was checked: this cannot fail */
        count_elements(draft->chunk_shape, array->rank, array->item_bytes, &array->chunk_elements);
    if (!grid_is_countable(draft->shape, draft->grid_shape, array->rank, array->chunks_per_shard))
        return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, "shape", "an array of fewer than 2^63 chunks", "more");
    return DAMACY_OK;
}

/* From the draft to one allocation: the struct, the extents, the texts. */
static struct dmc_zarr_array *freeze(const struct dmc_zarr_draft *draft)
{
    uint32_t rank = draft->array.rank;
    size_t extent_count = (size_t)rank * (draft->array.sharded ? 3 : 2);
    size_t bytes = sizeof(struct dmc_zarr_array) + extent_count * sizeof(uint64_t) + draft->text_bytes;
    struct dmc_zarr_array *array = dmc_malloc(bytes);
    if (!array)
        return NULL;
    *array = draft->array;
    array->memory_bytes = bytes;

    uint64_t *extents = (uint64_t *)(array + 1);
    memcpy(extents, draft->shape, rank * sizeof *extents);
    memcpy(extents + rank, draft->chunk_shape, rank * sizeof *extents);
    array->shape = extents;
    array->chunk_shape = extents + rank;
    array->grid_shape = array->chunk_shape;
    if (array->sharded) {
        memcpy(extents + 2 * rank, draft->grid_shape, rank * sizeof *extents);
        array->grid_shape = extents + 2 * rank;
    }

    char *text = (char *)(extents + extent_count);
    memcpy(text, draft->text, draft->text_bytes);
    for (uint32_t i = 0; i < array->codecs.count; i++) {
        struct dmc_codec_desc *codec = &array->codecs.list[i];
        codec->name = text + (codec->name - draft->text);
        if (codec->configuration)
            codec->configuration = text + (codec->configuration - draft->text);
    }
    return array;
}

enum damacy_status dmc_zarr_array_parse_v2(const char *text, size_t bytes, const struct dmc_selection *selection,
                                           struct dmc_zarr_array **array, struct damacy_error *error)
{
    (void)text, (void)bytes, (void)selection, (void)array;
    return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "this is a Zarr v2 array");
}

enum damacy_status dmc_zarr_array_parse(const char *text, size_t bytes, const struct dmc_selection *selection,
                                        struct dmc_zarr_array **array, struct damacy_error *error)
{
    (void)selection;
    struct dmc_json_doc *document;
    enum damacy_status status = dmc_json_parse(text, bytes, &document, error);
    if (status != DAMACY_OK)
        return status;
    struct dmc_zarr_draft draft;
    memset(&draft, 0, offsetof(struct dmc_zarr_draft, text));
    status = read_array(dmc_json_root(document), &draft, error);
    dmc_json_free(document);
    if (status != DAMACY_OK)
        return status;
    struct dmc_zarr_array *made = freeze(&draft);
    if (!made)
        return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for the metadata of an array");
    *array = made;
    return DAMACY_OK;
}

void dmc_zarr_array_free(struct dmc_zarr_array *array)
{
    dmc_free(array);
}

size_t dmc_zarr_array_memory_max(void)
{
    return sizeof(struct dmc_zarr_array) + 3 * DAMACY_RANK_MAX * sizeof(uint64_t) + DMC_ZARR_TEXT_BYTES_MAX;
}
