/* Codec lists, and sharding, which is a codec by the specification but another level of the grid to us. */
#include "zarr/zarr_parse.h"

#include "base/error.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define SHARDING "sharding_indexed"
#define SHARDING_PATH "codecs[0].configuration"

/* Put a text with its zero behind those that the draft has. NULL: no room. */
static const char *keep_text(struct dmc_zarr_draft *draft, const char *text)
{
    size_t bytes = strlen(text) + 1;
    if (bytes > sizeof draft->text - draft->text_bytes)
        return NULL;
    char *kept = draft->text + draft->text_bytes;
    memcpy(kept, text, bytes);
    draft->text_bytes += (uint32_t)bytes;
    return kept;
}

static enum damacy_status too_long(const char *path, const char *name, struct damacy_error *error)
{
    char quoted[DMC_ZARR_QUOTE_BYTES];
    return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata",
                         "%s: the configuration of codec %s is too long: all names and "
                         "configurations of an array may have %d bytes",
                         path, dmc_zarr_quote(quoted, name, strlen(name)), DMC_ZARR_TEXT_BYTES_MAX);
}

static enum damacy_status read_codec(dmc_json *value, const char *path, struct dmc_zarr_draft *draft,
                                     struct dmc_codec_desc *codec, struct damacy_error *error)
{
    struct dmc_zarr_named named;
    enum damacy_status status = dmc_zarr_named_read(value, path, &named, error);
    if (status != DAMACY_OK)
        return status;
    *codec = (struct dmc_codec_desc){.name = keep_text(draft, named.name)};
    if (!codec->name)
        return too_long(path, named.name, error);
    if (!named.configuration)
        return DAMACY_OK;
    char *configuration = dmc_json_dump(named.configuration);
    if (!configuration)
        return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for the configuration of a codec");
    codec->configuration = keep_text(draft, configuration);
    dmc_free(configuration);
    return codec->configuration ? DAMACY_OK : too_long(path, codec->name, error);
}

/* A list of codecs, none of which is sharding. */
static enum damacy_status read_chain(dmc_json *value, const char *member, bool nested, struct dmc_zarr_draft *draft,
                                     struct damacy_error *error)
{
    struct dmc_zarr_codecs *codecs = &draft->array.codecs;
    size_t count = dmc_json_count(value);
    if (dmc_json_type(value) != DMC_JSON_ARRAY || count == 0)
        return dmc_zarr_wrong(error, DAMACY_DECODE, member, "a list of codecs", value);
    if (count > DMC_ZARR_CODECS_MAX) {
        char expected[32];
        snprintf(expected, sizeof expected, "at most %d codecs", DMC_ZARR_CODECS_MAX);
        return dmc_zarr_wrong(error, DAMACY_UNSUPPORTED, member, expected, value);
    }
    for (size_t i = 0; i < count; i++) {
        char path[160];
        dmc_zarr_element_path(path, sizeof path, member, i);
        enum damacy_status status = read_codec(dmc_json_at(value, i), path, draft, &codecs->list[i], error);
        if (status != DAMACY_OK)
            return status;
        if (strcmp(codecs->list[i].name, SHARDING) != 0)
            continue;
        if (nested)
            return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "%s: " SHARDING " inside " SHARDING " is not supported",
                                 path);
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata",
                             "%s: " SHARDING " together with other codecs is not supported; they belong inside it", path);
    }
    codecs->count = (uint32_t)count;
    return DAMACY_OK;
}

/* The index is an array of u64: `bytes`, which says the order, and at most a checksum. Others would make its size unknown. */
static enum damacy_status read_index_codecs(dmc_json *value, struct dmc_zarr_array *array, struct damacy_error *error)
{
    static const char *const bytes_known[] = {"endian", NULL};
    static const char *const crc_known[] = {NULL};
    static const char member[] = SHARDING_PATH ".index_codecs";
    static const char expected[] = "bytes, or bytes and crc32c";
    size_t count = dmc_json_count(value);
    if (dmc_json_type(value) != DMC_JSON_ARRAY || count == 0)
        return dmc_zarr_wrong(error, DAMACY_DECODE, member, expected, value);
    for (size_t i = 0; i < count; i++) {
        char path[160], configuration_path[180];
        struct dmc_zarr_named named;
        dmc_zarr_element_path(path, sizeof path, member, i);
        enum damacy_status status = dmc_zarr_named_read(dmc_json_at(value, i), path, &named, error);
        if (status != DAMACY_OK)
            return status;
        if (i > 1 || strcmp(named.name, i == 0 ? "bytes" : "crc32c") != 0) {
            char quoted[DMC_ZARR_QUOTE_BYTES];
            return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, path, expected,
                                       dmc_zarr_quote(quoted, named.name, strlen(named.name)));
        }
        snprintf(configuration_path, sizeof configuration_path, "%s.configuration", path);
        status = dmc_zarr_members_check(named.configuration, configuration_path, i == 0 ? bytes_known : crc_known, error);
        if (status != DAMACY_OK)
            return status;
        if (i == 1) {
            array->index_crc32c = true;
            continue;
        }
        dmc_json *endian = dmc_json_get(named.configuration, "endian");
        array->index_big_endian = dmc_zarr_string_is(endian, "big");
        if (!array->index_big_endian && !dmc_zarr_string_is(endian, "little"))
            return dmc_zarr_wrong(error, DAMACY_DECODE, SHARDING_PATH ".index_codecs[0].configuration.endian",
                                  "\"little\" or \"big\"", endian);
    }
    return DAMACY_OK;
}

/* Inner chunks must divide the shard. Its bytes were checked, so the number of its chunks cannot overflow. */
static enum damacy_status divide_shard(struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    struct dmc_zarr_array *array = &draft->array;
    char path[80], expected[100], found[32];
    array->chunks_per_shard = 1;
    for (uint32_t axis = 0; axis < array->rank; axis++) {
        uint64_t inner = draft->chunk_shape[axis], outer = draft->grid_shape[axis];
        if (outer % inner != 0) {
            dmc_zarr_element_path(path, sizeof path, SHARDING_PATH ".chunk_shape", axis);
            snprintf(expected, sizeof expected, "a divisor of %llu, the extent of the shard", (unsigned long long)outer);
            snprintf(found, sizeof found, "%llu", (unsigned long long)inner);
            return dmc_zarr_wrong_text(error, DAMACY_DECODE, path, expected, found);
        }
        array->chunks_per_shard *= outer / inner;
    }
    if (array->chunks_per_shard > DMC_ZARR_INDEX_BYTES_MAX / 16) {
        snprintf(expected, sizeof expected, "at most %llu inner chunks in a shard",
                 (unsigned long long)(DMC_ZARR_INDEX_BYTES_MAX / 16));
        snprintf(found, sizeof found, "%llu", (unsigned long long)array->chunks_per_shard);
        return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, SHARDING_PATH ".chunk_shape", expected, found);
    }
    return DAMACY_OK;
}

static enum damacy_status read_sharding(dmc_json *configuration, struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    static const char *const known[] = {"chunk_shape", "codecs", "index_codecs", "index_location", NULL};
    struct dmc_zarr_array *array = &draft->array;
    array->sharded = true;
    if (!configuration)
        return dmc_zarr_wrong(error, DAMACY_DECODE, SHARDING_PATH, "chunk_shape, codecs and index_codecs", NULL);
    enum damacy_status status = dmc_zarr_members_check(configuration, SHARDING_PATH, known, error);
    if (status != DAMACY_OK)
        return status;

    dmc_json *location = dmc_json_get(configuration, "index_location");
    array->index_at_start = dmc_zarr_string_is(location, "start");
    if (location && !array->index_at_start && !dmc_zarr_string_is(location, "end"))
        return dmc_zarr_wrong(error, DAMACY_DECODE, SHARDING_PATH ".index_location", "\"start\" or \"end\"", location);

    status = dmc_zarr_extents_read(dmc_json_get(configuration, "chunk_shape"), SHARDING_PATH ".chunk_shape", array->rank, 1,
                                   draft->chunk_shape, error);
    if (status == DAMACY_OK)
        status = divide_shard(draft, error);
    if (status == DAMACY_OK)
        status = read_index_codecs(dmc_json_get(configuration, "index_codecs"), array, error);
    if (status == DAMACY_OK)
        status = read_chain(dmc_json_get(configuration, "codecs"), SHARDING_PATH ".codecs", true, draft, error);
    return status;
}

enum damacy_status dmc_zarr_codecs_read(dmc_json *value, struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    if (dmc_json_type(value) == DMC_JSON_ARRAY && dmc_json_count(value) == 1) {
        struct dmc_zarr_named only;
        enum damacy_status status = dmc_zarr_named_read(dmc_json_at(value, 0), "codecs[0]", &only, error);
        if (status != DAMACY_OK)
            return status;
        if (strcmp(only.name, SHARDING) == 0)
            return read_sharding(only.configuration, draft, error);
    }
    draft->array.chunks_per_shard = 1;
    memcpy(draft->chunk_shape, draft->grid_shape, sizeof draft->chunk_shape);
    return read_chain(value, "codecs", false, draft, error);
}
