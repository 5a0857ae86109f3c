/* Codec lists, and sharding, which is a codec by the specification but another level of the grid to us where it is the
 * outermost.
 *
 *     [transpose...] sharding_indexed                    planned: every inner chunk is one of the array's; the transposes move
 * into the inner chain, and say in which order a shard counts sharding_indexed inside an inner chain, or with    stays a codec:
 * src/codec decodes whole shards other codecs before or behind it
 *
 * Lists are copied into the draft's text. On the way they are put into one form: a `transpose` has a list and knows the axes
 * that the dtype adds, and what the dtype needs (damacy.widen, damacy.member) is put in front of the innermost list. */
#include "zarr/zarr_parse.h"

#include "base/error.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define SHARDING "sharding_indexed"
#define PATH_BYTES 240

static enum damacy_status too_long(const char *path, const char *name, struct damacy_error *error)
{
    char quoted[DMC_ZARR_QUOTE_BYTES];
    return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata",
                         "%s: the configuration of codec %s is too long: all names and "
                         "configurations of an array may have %d bytes",
                         path, dmc_zarr_quote(quoted, name, strlen(name)), DMC_ZARR_TEXT_BYTES_MAX);
}

static enum damacy_status too_many(struct damacy_error *error)
{
    return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "codecs: more than %d codecs with those that the dtype needs",
                         DMC_ZARR_CODECS_MAX);
}

/* --- transpose --- */

/* The order of a transpose over key_rank axes, those of the dtype behind them. "C" and "F" are from drafts of the
 * specification, and what zarrita and zarr-python's v3 preview wrote. */
static enum damacy_status order_read(dmc_json *configuration, const char *path, const struct dmc_zarr_draft *draft,
                                     uint8_t order[DAMACY_RANK_MAX], struct damacy_error *error)
{
    uint32_t key_rank = draft->array.key_rank, seen = 0;
    char member[PATH_BYTES], expected[64];
    dmc_json *value = dmc_json_get(configuration, "order");
    bool reverse = dmc_zarr_string_is(value, "F"), named = reverse || dmc_zarr_string_is(value, "C");
    snprintf(member, sizeof member, "%s.configuration.order", path);
    snprintf(expected, sizeof expected, "each axis from 0 to %d once", (int)key_rank - 1);
    if (!named && (dmc_json_type(value) != DMC_JSON_ARRAY || dmc_json_count(value) != key_rank))
        return dmc_zarr_wrong(error, DAMACY_DECODE, member, expected, value);
    for (uint32_t i = 0; i < draft->array.rank; i++) {
        uint64_t axis = reverse && i < key_rank ? key_rank - 1 - i : i;
        bool good = named || i >= key_rank || (dmc_zarr_u64(dmc_json_at(value, i), &axis) && axis < key_rank);
        if (!good || seen >> axis & 1)
            return dmc_zarr_wrong(error, DAMACY_DECODE, member, expected, dmc_json_at(value, i));
        seen |= UINT32_C(1) << axis;
        order[i] = (uint8_t)axis;
    }
    return DAMACY_OK;
}

static void put_order(struct dmc_zarr_draft *draft, const uint8_t *order)
{
    dmc_zarr_text_put(draft, "{\"order\":[");
    for (uint32_t i = 0; i < draft->array.rank; i++)
        dmc_zarr_text_format(draft, "%s%u", i ? "," : "", order[i]);
    dmc_zarr_text_put(draft, "]}");
}

/* --- what the dtype needs --- */

/* In `list`, is there a `bytes` whose endian a member of a record takes over? */
static enum damacy_status member_endian(dmc_json *list, const char *path, struct dmc_zarr_draft *draft,
                                        struct damacy_error *error)
{
    for (size_t i = 0; i < dmc_json_count(list); i++) {
        struct dmc_zarr_named named;
        char element[PATH_BYTES], member[PATH_BYTES + 32];
        dmc_zarr_element_path(element, sizeof element, path, i);
        enum damacy_status status = dmc_zarr_named_read(dmc_json_at(list, i), element, &named, error);
        if (status)
            return status;
        if (strcmp(named.name, "bytes") != 0)
            continue;
        dmc_json *endian = dmc_json_get(named.configuration, "endian");
        snprintf(member, sizeof member, "%s.configuration.endian", element);
        draft->big_endian = dmc_zarr_string_is(endian, "big");
        /* zarr-python 3.0 and 3.1 left it out for structured dtypes, and wrote little-endian (zarr-extensions,
         * data-types/structured). */
        if (endian && !draft->big_endian && !dmc_zarr_string_is(endian, "little") && dmc_json_type(endian) != DMC_JSON_NULL)
            return dmc_zarr_wrong(error, DAMACY_DECODE, member, "\"little\" or \"big\"", endian);
        return DAMACY_OK;
    }
    return DAMACY_OK;
}

/* Bytes of one stored element of a part: 1 has no order. */
static uint32_t part_bytes(const struct dmc_zarr_draft *draft)
{
    return draft->type->stored_bytes / draft->type->parts;
}

static void put_widen(struct dmc_zarr_draft *draft)
{
    dmc_zarr_text_put(draft, "{\"from\":\"");
    dmc_zarr_text_put(draft, draft->type->name);
    dmc_zarr_text_put(draft, "\"}");
}

static void put_member(struct dmc_zarr_draft *draft)
{
    const struct dmc_zarr_member *member = &draft->member;
    dmc_zarr_text_format(draft, "{\"record_bytes\":%u,\"offset\":%u,\"item_bytes\":%u", member->record_bytes, member->offset,
                         member->bytes);
    dmc_zarr_text_put(draft, part_bytes(draft) == 1 ? "}"
                             : draft->big_endian    ? ",\"endian\":\"big\"}"
                                                    : ",\"endian\":\"little\"}");
}

/* --- one codec, as text --- */

static enum damacy_status put_list(struct dmc_zarr_draft *draft, dmc_json *list, const char *path, uint32_t depth,
                                   struct damacy_error *error);

/* What inner chunks that are absent hold, as src/codec wants it: the bytes of the fill value, of both parts of a complex one.
 */
static void put_fill(struct dmc_zarr_draft *draft)
{
    dmc_zarr_text_put(draft, ",\"damacy.fill\":\"");
    for (uint32_t i = 0; i < draft->array.fill_count * draft->array.item_bytes; i++)
        dmc_zarr_text_format(draft, "%02x", draft->array.fill[i]);
    dmc_zarr_text_put(draft, "\"");
}

/* The configuration of sharding as a codec. */
static enum damacy_status put_sharding(struct dmc_zarr_draft *draft, dmc_json *configuration, const char *path, uint32_t depth,
                                       struct damacy_error *error)
{
    uint64_t extents[DAMACY_RANK_MAX];
    char member[PATH_BYTES];
    if (depth > DMC_ZARR_NESTING_MAX)
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata",
                             "%s: more than %d levels of " SHARDING " inside one another", path, DMC_ZARR_NESTING_MAX);
    snprintf(member, sizeof member, "%s.configuration", path);
    if (!configuration)
        return dmc_zarr_wrong(error, DAMACY_DECODE, member, "chunk_shape, codecs and index_codecs", NULL);
    snprintf(member, sizeof member, "%s.configuration.chunk_shape", path);
    enum damacy_status status =
        dmc_zarr_extents_read(dmc_json_get(configuration, "chunk_shape"), member, draft->array.key_rank, 1, extents, error);
    if (status)
        return status;
    dmc_zarr_text_put(draft, "{\"chunk_shape\":[");
    for (uint32_t i = 0; i < draft->array.rank; i++)
        dmc_zarr_text_format(
            draft, "%s%llu", i ? "," : "",
            (unsigned long long)(i < draft->array.key_rank ? extents[i] : draft->trailing_extents[i - draft->array.key_rank]));
    dmc_zarr_text_put(draft, "],\"codecs\":");
    snprintf(member, sizeof member, "%s.configuration.codecs", path);
    status = put_list(draft, dmc_json_get(configuration, "codecs"), member, depth + 1, error);
    const char *key;
    dmc_json *value;
    for (size_t i = 0; !status && dmc_json_member(configuration, i, &key, &value); i++) {
        if (strcmp(key, "chunk_shape") == 0 || strcmp(key, "codecs") == 0)
            continue;
        bool plain = strcmp(key, "index_codecs") == 0 || strcmp(key, "index_location") == 0;
        if (!plain)
            return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "%s.configuration: member '%.40s' is not known", path,
                                 key);
        dmc_zarr_text_format(draft, ",\"%s\":", key);
        status = dmc_zarr_text_put_json(draft, value, error);
    }
    put_fill(draft);
    dmc_zarr_text_put(draft, "}");
    return status;
}

/* The configuration of a codec, or nothing; `*some` tells which. */
static enum damacy_status put_configuration(struct dmc_zarr_draft *draft, const struct dmc_zarr_named *named, const char *path,
                                            uint32_t depth, bool *some, struct damacy_error *error)
{
    *some = true;
    if (strcmp(named->name, SHARDING) == 0)
        return put_sharding(draft, named->configuration, path, depth, error);
    if (strcmp(named->name, "transpose") == 0) {
        uint8_t order[DAMACY_RANK_MAX];
        enum damacy_status status = order_read(named->configuration, path, draft, order, error);
        if (!status)
            put_order(draft, order);
        return status;
    }
    *some = named->configuration && !(draft->member.chosen && strcmp(named->name, "bytes") == 0);
    return *some ? dmc_zarr_text_put_json(draft, named->configuration, error) : DAMACY_OK;
}

static enum damacy_status list_check(dmc_json *list, const char *path, struct damacy_error *error)
{
    if (dmc_json_type(list) != DMC_JSON_ARRAY || dmc_json_count(list) == 0)
        return dmc_zarr_wrong(error, DAMACY_DECODE, path, "a list of codecs", list);
    if (dmc_json_count(list) > DMC_ZARR_CODECS_MAX) {
        char expected[32];
        snprintf(expected, sizeof expected, "at most %d codecs", DMC_ZARR_CODECS_MAX);
        return dmc_zarr_wrong(error, DAMACY_UNSUPPORTED, path, expected, list);
    }
    return DAMACY_OK;
}

/* Is sharding among them? The first bad codec is an error. */
static enum damacy_status find_sharding(dmc_json *list, const char *path, bool *found, struct damacy_error *error)
{
    *found = false;
    for (size_t i = 0; i < dmc_json_count(list); i++) {
        struct dmc_zarr_named named;
        char element[PATH_BYTES];
        dmc_zarr_element_path(element, sizeof element, path, i);
        enum damacy_status status = dmc_zarr_named_read(dmc_json_at(list, i), element, &named, error);
        if (status)
            return status;
        *found = *found || strcmp(named.name, SHARDING) == 0;
    }
    return DAMACY_OK;
}

/* A list of codecs inside of sharding, as JSON. */
static enum damacy_status put_list(struct dmc_zarr_draft *draft, dmc_json *list, const char *path, uint32_t depth,
                                   struct damacy_error *error)
{
    bool sharding;
    const char *comma = "";
    enum damacy_status status = list_check(list, path, error);
    if (!status)
        status = find_sharding(list, path, &sharding, error);
    if (!status && !sharding && draft->member.chosen)
        status = member_endian(list, path, draft, error);
    if (status)
        return status;
    dmc_zarr_text_put(draft, "[");
    if (!sharding && draft->type->how == DMC_ZARR_WIDEN) {
        dmc_zarr_text_put(draft, "{\"name\":\"damacy.widen\",\"configuration\":");
        put_widen(draft);
        dmc_zarr_text_put(draft, "}");
        comma = ",";
    }
    if (!sharding && draft->member.chosen) {
        dmc_zarr_text_put(draft, comma);
        dmc_zarr_text_put(draft, "{\"name\":\"damacy.member\",\"configuration\":");
        put_member(draft);
        dmc_zarr_text_put(draft, "}");
        comma = ",";
    }
    for (size_t i = 0; !status && i < dmc_json_count(list); i++) {
        struct dmc_zarr_named named;
        char element[PATH_BYTES];
        dmc_json *value = dmc_json_at(list, i);
        dmc_zarr_element_path(element, sizeof element, path, i);
        status = dmc_zarr_named_read(value, element, &named, error);
        if (status)
            return status;
        dmc_zarr_text_put(draft, comma);
        comma = ",";
        dmc_zarr_text_put(draft, "{\"name\":");
        status =
            dmc_zarr_text_put_json(draft, dmc_json_type(value) == DMC_JSON_STRING ? value : dmc_json_get(value, "name"), error);
        bool some = strcmp(named.name, SHARDING) == 0 || strcmp(named.name, "transpose") == 0 ||
                    (named.configuration && !(draft->member.chosen && strcmp(named.name, "bytes") == 0));
        if (some)
            dmc_zarr_text_put(draft, ",\"configuration\":");
        if (!status)
            status = put_configuration(draft, &named, element, depth, &some, error);
        dmc_zarr_text_put(draft, "}");
    }
    dmc_zarr_text_put(draft, "]");
    return status;
}

/* --- the array's own list --- */

/* The next free codec of the draft, with its name. */
static struct dmc_codec_desc *append(struct dmc_zarr_draft *draft, const char *prefix, const char *name)
{
    struct dmc_zarr_codecs *codecs = &draft->array.codecs;
    if (codecs->count == DMC_ZARR_CODECS_MAX)
        return NULL;
    struct dmc_codec_desc *codec = &codecs->list[codecs->count++];
    uint32_t begin = dmc_zarr_text_begin(draft);
    dmc_zarr_text_put(draft, prefix);
    dmc_zarr_text_put(draft, name);
    *codec = (struct dmc_codec_desc){.name = dmc_zarr_text_end(draft, begin)};
    return codec;
}

/* What the dtype needs, first in the list. */
static enum damacy_status append_dtype(struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    if (draft->type->how == DMC_ZARR_WIDEN) {
        struct dmc_codec_desc *codec = append(draft, "damacy.", "widen");
        uint32_t begin = dmc_zarr_text_begin(draft);
        if (!codec)
            return too_many(error);
        put_widen(draft);
        codec->configuration = dmc_zarr_text_end(draft, begin);
    }
    if (draft->member.chosen) {
        struct dmc_codec_desc *codec = append(draft, "damacy.", "member");
        uint32_t begin = dmc_zarr_text_begin(draft);
        if (!codec)
            return too_many(error);
        put_member(draft);
        codec->configuration = dmc_zarr_text_end(draft, begin);
    }
    return DAMACY_OK;
}

/* Codecs [0, count) of a list. */
static enum damacy_status append_codecs(struct dmc_zarr_draft *draft, dmc_json *list, size_t count, const char *path,
                                        uint32_t depth, struct damacy_error *error)
{
    for (size_t i = 0; i < count; i++) {
        struct dmc_zarr_named named;
        char element[PATH_BYTES];
        bool some;
        dmc_zarr_element_path(element, sizeof element, path, i);
        enum damacy_status status = dmc_zarr_named_read(dmc_json_at(list, i), element, &named, error);
        if (status)
            return status;
        struct dmc_codec_desc *codec = append(draft, "", named.name);
        if (!codec)
            return too_many(error);
        uint32_t begin = dmc_zarr_text_begin(draft);
        status = put_configuration(draft, &named, element, depth, &some, error);
        if (status)
            return status;
        if (some)
            codec->configuration = dmc_zarr_text_end(draft, begin);
        if (draft->text_full)
            return too_long(element, named.name, error);
    }
    return DAMACY_OK;
}

/* A whole list, none of whose codecs is planned sharding. */
static enum damacy_status append_chain(struct dmc_zarr_draft *draft, dmc_json *list, const char *path, uint32_t depth,
                                       struct damacy_error *error)
{
    bool sharding = false;
    enum damacy_status status = list_check(list, path, error);
    if (!status)
        status = find_sharding(list, path, &sharding, error);
    if (!status && !sharding && draft->member.chosen)
        status = member_endian(list, path, draft, error);
    if (!status && !sharding)
        status = append_dtype(draft, error);
    return status ? status : append_codecs(draft, list, dmc_json_count(list), path, depth, error);
}

/* --- sharding that the planner knows --- */

/* The index is an array of u64: `bytes`, which says the order, and at most a checksum. Others would make its size unknown. */
static enum damacy_status read_index_codecs(dmc_json *value, const char *path, struct dmc_zarr_array *array,
                                            struct damacy_error *error)
{
    static const char *const bytes_known[] = {"endian", NULL};
    static const char *const crc_known[] = {NULL};
    static const char expected[] = "bytes, or bytes and crc32c";
    char member[PATH_BYTES], element[PATH_BYTES + 32], configuration[PATH_BYTES + 64];
    size_t count = dmc_json_count(value);
    snprintf(member, sizeof member, "%s.index_codecs", path);
    if (dmc_json_type(value) != DMC_JSON_ARRAY || count == 0)
        return dmc_zarr_wrong(error, DAMACY_DECODE, member, expected, value);
    for (size_t i = 0; i < count; i++) {
        struct dmc_zarr_named named;
        dmc_zarr_element_path(element, sizeof element, member, i);
        enum damacy_status status = dmc_zarr_named_read(dmc_json_at(value, i), element, &named, error);
        if (status != DAMACY_OK)
            return status;
        if (i > 1 || strcmp(named.name, i == 0 ? "bytes" : "crc32c") != 0) {
            char quoted[DMC_ZARR_QUOTE_BYTES];
            return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, element, expected,
                                       dmc_zarr_quote(quoted, named.name, strlen(named.name)));
        }
        snprintf(configuration, sizeof configuration, "%s.configuration", element);
        status = dmc_zarr_members_check(named.configuration, configuration, i == 0 ? bytes_known : crc_known, error);
        if (status != DAMACY_OK)
            return status;
        if (i == 1) {
            array->index_crc32c = true;
            continue;
        }
        dmc_json *endian = dmc_json_get(named.configuration, "endian");
        snprintf(configuration, sizeof configuration, "%s.configuration.endian", element);
        array->index_big_endian = dmc_zarr_string_is(endian, "big");
        if (!array->index_big_endian && !dmc_zarr_string_is(endian, "little"))
            return dmc_zarr_wrong(error, DAMACY_DECODE, configuration, "\"little\" or \"big\"", endian);
    }
    return DAMACY_OK;
}

/* An extent along `axis` of shards that inner chunks do not divide; 0: there is none. zarr-python from 3.3 on writes shards of
 * a rectilinear grid, too: each is a multiple of the inner chunk, so that inner chunks lie in a regular grid. */
static uint64_t undivided_extent(const struct dmc_zarr_draft *draft, uint32_t axis)
{
    const uint64_t *edges = draft->edges;
    uint64_t inner = draft->chunk_shape[axis];
    if (!draft->edge_counts[axis])
        return draft->grid_shape[axis] % inner ? draft->grid_shape[axis] : 0;
    for (uint32_t a = 0; a < axis; a++)
        edges += draft->edge_counts[a] ? draft->edge_counts[a] + 1 : 0;
    for (uint32_t i = 0; i < draft->edge_counts[axis]; i++)
        if ((edges[i + 1] - edges[i]) % inner)
            return edges[i + 1] - edges[i];
    return 0;
}

/* Inner chunks must divide the shard. Its bytes were checked, so the number of its chunks cannot overflow. `inner` counts axes
 * as the shard does, chunk_shape as the array does. */
static enum damacy_status divide_shard(struct dmc_zarr_draft *draft, const uint64_t *inner, const char *path,
                                       struct damacy_error *error)
{
    struct dmc_zarr_array *array = &draft->array;
    char member[PATH_BYTES], element[PATH_BYTES + 32], expected[100], found[32];
    snprintf(member, sizeof member, "%s.chunk_shape", path);
    array->chunks_per_shard = 1;
    for (uint32_t i = 0; i < array->rank; i++) {
        uint32_t axis = draft->shard_order[i];
        draft->chunk_shape[axis] = i < array->key_rank ? inner[i] : draft->trailing_extents[i - array->key_rank];
        if (draft->any_extent[axis])
            draft->grid_shape[axis] = draft->chunk_shape[axis];
        uint64_t undivided = undivided_extent(draft, axis);
        if (undivided) {
            dmc_zarr_element_path(element, sizeof element, member, i);
            snprintf(expected, sizeof expected, "a divisor of %llu, the extent of the shard", (unsigned long long)undivided);
            snprintf(found, sizeof found, "%llu", (unsigned long long)draft->chunk_shape[axis]);
            return dmc_zarr_wrong_text(error, DAMACY_DECODE, element, expected, found);
        }
        array->chunks_per_shard *= draft->grid_shape[axis] / draft->chunk_shape[axis];
    }
    if (array->chunks_per_shard > DMC_ZARR_INDEX_BYTES_MAX / 16) {
        snprintf(expected, sizeof expected, "at most %llu inner chunks in a shard",
                 (unsigned long long)(DMC_ZARR_INDEX_BYTES_MAX / 16));
        snprintf(found, sizeof found, "%llu", (unsigned long long)array->chunks_per_shard);
        return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, member, expected, found);
    }
    return DAMACY_OK;
}

/* The codecs before the sharding: all are transposes. What they make of the axes, one after the other. */
static enum damacy_status compose_order(struct dmc_zarr_draft *draft, dmc_json *list, size_t count, struct damacy_error *error)
{
    for (uint32_t i = 0; i < draft->array.rank; i++)
        draft->shard_order[i] = (uint8_t)i;
    for (size_t i = 0; i < count; i++) {
        struct dmc_zarr_named named;
        uint8_t order[DAMACY_RANK_MAX], composed[DAMACY_RANK_MAX];
        char element[PATH_BYTES];
        dmc_zarr_element_path(element, sizeof element, "codecs", i);
        enum damacy_status status = dmc_zarr_named_read(dmc_json_at(list, i), element, &named, error);
        if (!status)
            status = order_read(named.configuration, element, draft, order, error);
        if (status)
            return status;
        for (uint32_t axis = 0; axis < draft->array.rank; axis++)
            composed[axis] = draft->shard_order[order[axis]];
        memcpy(draft->shard_order, composed, draft->array.rank);
    }
    for (uint32_t i = 0; i < draft->array.rank; i++)
        draft->has_shard_order = draft->has_shard_order || draft->shard_order[i] != i;
    return DAMACY_OK;
}

/* `list` is transposes and, last, sharding with this configuration. */
static enum damacy_status read_sharding(dmc_json *list, dmc_json *configuration, struct dmc_zarr_draft *draft,
                                        struct damacy_error *error)
{
    static const char *const known[] = {"chunk_shape", "codecs", "index_codecs", "index_location", NULL};
    struct dmc_zarr_array *array = &draft->array;
    uint64_t inner[DAMACY_RANK_MAX];
    size_t before = dmc_json_count(list) - 1;
    char path[80], member[PATH_BYTES];
    snprintf(path, sizeof path, "codecs[%zu].configuration", before);
    array->sharded = true;
    if (!configuration)
        return dmc_zarr_wrong(error, DAMACY_DECODE, path, "chunk_shape, codecs and index_codecs", NULL);
    enum damacy_status status = dmc_zarr_members_check(configuration, path, known, error);
    if (status != DAMACY_OK)
        return status;

    /* Before ZEP 2 was accepted there was no index_location: it was at the end. tensorstore of that time leaves it out. */
    dmc_json *location = dmc_json_get(configuration, "index_location");
    array->index_at_start = dmc_zarr_string_is(location, "start");
    snprintf(member, sizeof member, "%s.index_location", path);
    if (location && !array->index_at_start && !dmc_zarr_string_is(location, "end"))
        return dmc_zarr_wrong(error, DAMACY_DECODE, member, "\"start\" or \"end\"", location);

    snprintf(member, sizeof member, "%s.chunk_shape", path);
    status = dmc_zarr_extents_read(dmc_json_get(configuration, "chunk_shape"), member, array->key_rank, 1, inner, error);
    if (status == DAMACY_OK)
        status = compose_order(draft, list, before, error);
    if (status == DAMACY_OK)
        status = divide_shard(draft, inner, path, error);
    if (status == DAMACY_OK)
        status = read_index_codecs(dmc_json_get(configuration, "index_codecs"), path, array, error);
    if (status != DAMACY_OK)
        return status;

    dmc_json *codecs = dmc_json_get(configuration, "codecs");
    bool sharding = false;
    snprintf(member, sizeof member, "%s.codecs", path);
    status = list_check(codecs, member, error);
    if (!status)
        status = find_sharding(codecs, member, &sharding, error);
    if (!status && !sharding && draft->member.chosen)
        status = member_endian(codecs, member, draft, error);
    if (!status && !sharding)
        status = append_dtype(draft, error);
    if (!status)
        status = append_codecs(draft, list, before, "codecs", 1, error);
    return status ? status : append_codecs(draft, codecs, dmc_json_count(codecs), member, 1, error);
}

enum damacy_status dmc_zarr_codecs_read(dmc_json *value, struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    size_t count = dmc_json_count(value);
    bool planned = dmc_json_type(value) == DMC_JSON_ARRAY && count > 0 && count <= DMC_ZARR_CODECS_MAX;
    struct dmc_zarr_named named = {0};
    for (size_t i = 0; planned && i < count; i++) {
        char element[PATH_BYTES];
        dmc_zarr_element_path(element, sizeof element, "codecs", i);
        enum damacy_status status = dmc_zarr_named_read(dmc_json_at(value, i), element, &named, error);
        if (status != DAMACY_OK)
            return status;
        planned = strcmp(named.name, i + 1 == count ? SHARDING : "transpose") == 0;
    }
    if (planned)
        return read_sharding(value, named.configuration, draft, error);
    draft->array.chunks_per_shard = 1;
    memcpy(draft->chunk_shape, draft->grid_shape, sizeof draft->chunk_shape);
    return append_chain(draft, value, "codecs", 1, error);
}

/* --- v2 --- */

/* A member's name as JSON. */
static void put_key(struct dmc_zarr_draft *draft, const char *key)
{
    dmc_zarr_text_put(draft, "\"");
    for (const char *p = key; *p && !draft->text_full; p++) {
        char one[2] = {*p, 0};
        if (*p == '"' || *p == '\\')
            dmc_zarr_text_put(draft, "\\");
        if ((unsigned char)*p < 0x20)
            dmc_zarr_text_format(draft, "\\u%04x", (unsigned char)*p);
        else
            dmc_zarr_text_put(draft, one);
    }
    dmc_zarr_text_put(draft, "\":");
}

/* {"id": "zlib", "level": 1} becomes numcodecs.zlib with what else is in the object. */
static enum damacy_status append_v2(struct dmc_zarr_draft *draft, dmc_json *value, const char *path, struct damacy_error *error)
{
    const char *id, *key, *comma = "";
    dmc_json *member;
    char id_path[PATH_BYTES];
    if (dmc_json_type(value) != DMC_JSON_OBJECT)
        return dmc_zarr_wrong(error, DAMACY_DECODE, path, "an object with an id", value);
    snprintf(id_path, sizeof id_path, "%s.id", path);
    if (!dmc_zarr_text(dmc_json_get(value, "id"), &id))
        return dmc_zarr_wrong(error, DAMACY_DECODE, id_path, "a name", dmc_json_get(value, "id"));
    /* Names that v3 gave to numcodecs' codecs were also written into v2 (zarr-python 3 with its own codec classes). */
    struct dmc_codec_desc *codec = append(draft, strncmp(id, "numcodecs.", 10) == 0 ? "" : "numcodecs.", id);
    if (!codec)
        return too_many(error);
    uint32_t begin = dmc_zarr_text_begin(draft);
    dmc_zarr_text_put(draft, "{");
    for (size_t i = 0; dmc_json_member(value, i, &key, &member); i++) {
        if (strcmp(key, "id") == 0)
            continue;
        dmc_zarr_text_put(draft, comma);
        comma = ",";
        put_key(draft, key);
        enum damacy_status status = dmc_zarr_text_put_json(draft, member, error);
        if (status)
            return status;
    }
    /* numcodecs' own default, whatever the dtype; in v3 zarr-python puts the dtype's size there. */
    if (strcmp(codec->name, "numcodecs.shuffle") == 0 && !dmc_json_get(value, "elementsize"))
        dmc_zarr_text_format(draft, "%s\"elementsize\":4", comma);
    dmc_zarr_text_put(draft, "}");
    codec->configuration = dmc_zarr_text_end(draft, begin);
    return draft->text_full ? too_long(path, id, error) : DAMACY_OK;
}

/* v2's order F is a transpose to v3: the axes in reverse. */
static enum damacy_status append_order_v2(struct dmc_zarr_draft *draft, dmc_json *order, struct damacy_error *error)
{
    uint32_t key_rank = draft->array.key_rank;
    bool reverse = dmc_zarr_string_is(order, "F");
    /* It is required, and C where a writer left it out (z5 before 2.0, zarr.js). */
    if (order && !reverse && !dmc_zarr_string_is(order, "C"))
        return dmc_zarr_wrong(error, DAMACY_DECODE, "order", "\"C\" or \"F\"", order);
    if (!reverse || key_rank < 2)
        return DAMACY_OK;
    uint8_t axes[DAMACY_RANK_MAX];
    for (uint32_t i = 0; i < draft->array.rank; i++)
        axes[i] = (uint8_t)(i < key_rank ? key_rank - 1 - i : i);
    struct dmc_codec_desc *codec = append(draft, "", "transpose");
    uint32_t begin = dmc_zarr_text_begin(draft);
    if (!codec)
        return too_many(error);
    put_order(draft, axes);
    codec->configuration = dmc_zarr_text_end(draft, begin);
    return DAMACY_OK;
}

enum damacy_status dmc_zarr_codecs_read_v2(dmc_json *root, struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    dmc_json *filters = dmc_json_get(root, "filters"), *compressor = dmc_json_get(root, "compressor");
    draft->array.chunks_per_shard = 1;
    memcpy(draft->chunk_shape, draft->grid_shape, sizeof draft->chunk_shape);
    enum damacy_status status = append_dtype(draft, error);
    if (!status)
        status = append_order_v2(draft, dmc_json_get(root, "order"), error);
    if (status)
        return status;
    struct dmc_codec_desc *codec = append(draft, "", "bytes");
    if (!codec)
        return too_many(error);
    if (!draft->member.chosen && part_bytes(draft) > 1) {
        uint32_t begin = dmc_zarr_text_begin(draft);
        dmc_zarr_text_put(draft, draft->big_endian ? "{\"endian\":\"big\"}" : "{\"endian\":\"little\"}");
        codec->configuration = dmc_zarr_text_end(draft, begin);
    }
    if (draft->text_full)
        return too_long("dtype", "bytes", error);
    /* No filters is null; zarr-python 2 also wrote [], and z5 leaves the member out. */
    if (dmc_json_type(filters) != DMC_JSON_NULL && dmc_json_type(filters) != DMC_JSON_ARRAY)
        return dmc_zarr_wrong(error, DAMACY_DECODE, "filters", "null or a list of codecs", filters);
    for (size_t i = 0; !status && i < dmc_json_count(filters); i++) {
        char path[PATH_BYTES];
        dmc_zarr_element_path(path, sizeof path, "filters", i);
        status = append_v2(draft, dmc_json_at(filters, i), path, error);
    }
    if (!status && dmc_json_type(compressor) != DMC_JSON_NULL)
        status = append_v2(draft, compressor, "compressor", error);
    return status;
}
