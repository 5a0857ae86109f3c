/* sharding_indexed as a codec: shards that the planner does not know as a level of the grid, because they lie inside a chunk
 * (shards in shards) or inside other codecs. Each is decoded as a whole, inner chunk by inner chunk, those outside the needed
 * range left out.
 *
 * The shard is the inner chunks' bytes in any order, and before or behind them the index:
 *
 *     for each inner chunk, in C order: u64 offset, u64 bytes; both all ones: absent, the fill value.    [u32 crc32c of these]
 *
 * src/zarr puts the fill value into the configuration as "damacy.fill", hexadecimal, since a codec is not told of it otherwise.
 */
#include "base/crc32c.h"
#include "base/mem.h"
#include "codec/codec_impl.h"

#define FILL_BYTES_MAX 16
#define INNER_CODECS_MAX 16

struct sharding_config {
    struct dmc_codec_chain *inner; /* owned */
    uint32_t rank, item_bytes, level;
    bool index_at_start, index_checked, index_swap;
    uint64_t inner_count;
    uint64_t shape[DAMACY_RANK_MAX + 1];       /* of the shard */
    uint64_t inner_shape[DAMACY_RANK_MAX + 1]; /* of a chunk in it */
    uint64_t counts[DAMACY_RANK_MAX + 1];      /* chunks along each axis */
    int64_t strides[DAMACY_RANK_MAX + 1];      /* of the shard's elements, in bytes */
    int64_t inner_strides[DAMACY_RANK_MAX + 1];
    int64_t fill_strides[DAMACY_RANK_MAX + 1]; /* within `fill` */
    uint32_t fill_bytes;
    uint8_t fill[FILL_BYTES_MAX];
};

/* ---- decoding ---- */

static uint64_t entry_load(const struct sharding_config *config, const uint8_t *at)
{
    uint64_t value = dmc_load_u64le(at);
    return config->index_swap ? __builtin_bswap64(value) : value;
}

static enum damacy_status index_find(const struct sharding_config *config, const struct dmc_codec_job *job,
                                     const uint8_t **index, struct damacy_error *error)
{
    uint64_t bytes = 16 * config->inner_count, all = bytes + (config->index_checked ? 4 : 0);
    if (job->source_bytes < all)
        return dmc_codec_size_error(error, "sharding_indexed", "too short for its index", "at least ", all, job->source_bytes);
    *index = job->source + (config->index_at_start ? 0 : job->source_bytes - all);
    if (config->index_checked && dmc_crc32c(*index, bytes) != dmc_load_u32le(*index + bytes))
        return dmc_error_set(error, DAMACY_DECODE, "decode",
                             "sharding_indexed: the index of a shard inside a chunk fails its checksum");
    return DAMACY_OK;
}

/* Put the inner chunk's elements, or the fill value, where they belong. */
static void inner_place(const struct sharding_config *config, const uint8_t *decoded, uint8_t *target)
{
    if (decoded) {
        dmc_codec_box_copy(config->rank, config->inner_shape, config->item_bytes, config->inner->swap, target, config->strides,
                           decoded, config->inner_strides);
        return;
    }
    dmc_codec_box_copy(config->rank, config->inner_shape, config->item_bytes, false, target, config->strides, config->fill,
                       config->fill_strides);
}

static enum damacy_status inner_decode(struct dmc_codec_context *context, const struct sharding_config *config,
                                       struct dmc_codec_job *job, const uint8_t *entry, uint8_t *target,
                                       struct damacy_error *error)
{
    uint64_t offset = entry_load(config, entry), bytes = entry_load(config, entry + 8);
    if (offset == UINT64_MAX && bytes == UINT64_MAX) {
        inner_place(config, NULL, target);
        return DAMACY_OK;
    }
    if (offset > job->source_bytes || bytes > job->source_bytes - offset)
        return dmc_codec_size_error(error, "sharding_indexed", "an inner chunk ends behind its shard", "at most ",
                                    job->source_bytes, offset > UINT64_MAX - bytes ? UINT64_MAX : offset + bytes);
    const struct dmc_codec_chain *inner = config->inner;
    if (inner->raw && bytes == inner->chunk_bytes) { /* where it lies */
        inner_place(config, job->source + offset, target);
        return DAMACY_OK;
    }
    struct dmc_codec_buffer *buffer = &context->levels[config->level].inner;
    enum damacy_status status = dmc_codec_buffer_reserve(context, buffer, inner->chunk_bytes, error);
    if (status)
        return status;
    const struct dmc_decode decode = {
        .source = job->source + offset,
        .source_bytes = bytes,
        .target = buffer->memory,
        .need_end = inner->chunk_bytes,
        .verify_full = job->verify_full,
    };
    uint32_t level = context->level;
    context->level = config->level + 1;
    status = dmc_codec_decode(inner, context, &decode, error);
    context->level = level;
    if (!status)
        inner_place(config, buffer->memory, target);
    return status;
}

static enum damacy_status sharding_decode(struct dmc_codec_context *context, struct dmc_codec_job *job,
                                          struct damacy_error *error)
{
    const struct sharding_config *config = job->config;
    const uint8_t *index = NULL;
    uint64_t at[DAMACY_RANK_MAX + 1] = {0};
    enum damacy_status status = index_find(config, job, &index, error);
    uint64_t span = config->item_bytes; /* from the first to behind the last byte of an inner chunk within the shard */
    for (uint32_t i = 0; i < config->rank; i++)
        span += (config->inner_shape[i] - 1) * (uint64_t)config->strides[i];
    for (uint64_t chunk = 0; !status && chunk < config->inner_count; chunk++) {
        uint64_t begin = 0;
        for (uint32_t i = 0; i < config->rank; i++)
            begin += at[i] * config->inner_shape[i] * (uint64_t)config->strides[i];
        if (begin < job->need_end && begin + span > job->need_begin)
            status = inner_decode(context, config, job, index + 16 * chunk, job->target + begin, error);
        for (uint32_t i = config->rank; i-- > 0;) {
            if (++at[i] < config->counts[i])
                break;
            at[i] = 0;
        }
    }
    return status ? status : dmc_codec_job_done(job, "sharding_indexed", job->target_bytes, error);
}

static uint64_t sharding_encoded_bytes(const void *data, uint64_t decoded_bytes)
{
    const struct sharding_config *config = data;
    uint64_t bytes;
    (void)decoded_bytes;
    /* Unused space between inner chunks is allowed: as much again, and something. */
    if (!dmc_mul_u64(config->inner->stored_bytes_max, config->inner_count, &bytes) ||
        !dmc_add_u64(bytes, 16 * config->inner_count + 4, &bytes))
        return UINT64_MAX;
    return dmc_codec_compressed_bytes_max(NULL, bytes);
}

static void sharding_scratch(const void *data, struct dmc_codec_scratch *scratch)
{
    const struct sharding_config *config = data;
    scratch->bytes[DMC_CODEC_SCRATCH_INNER + config->level] = dmc_codec_buffer_bytes(config->inner->chunk_bytes);
    dmc_codec_scratch_raise(scratch, &config->inner->scratch);
}

static void sharding_release(void *data)
{
    dmc_codec_chain_free(((struct sharding_config *)data)->inner);
}

static const struct dmc_codec_ops sharding_step_ops = {
    .name = "sharding_indexed",
    .partial = true,
    .picks = true,
    .shaped = true,
    .encoded_bytes = sharding_encoded_bytes,
    .scratch = sharding_scratch,
    .decode = sharding_decode,
    .config_release = sharding_release,
};

/* ---- the configuration ---- */

/* {"name": ..., "configuration": ...}, or the bare name. The texts live in the document or are owned by *owned. */
static bool codec_read(dmc_json *value, struct dmc_codec_desc *desc, char **owned, enum damacy_status *status)
{
    *owned = NULL;
    *desc = (struct dmc_codec_desc){NULL, NULL};
    if (dmc_json_string(value, &desc->name, NULL))
        return true;
    if (!dmc_json_string(dmc_json_get(value, "name"), &desc->name, NULL))
        return false;
    dmc_json *configuration = dmc_json_get(value, "configuration");
    if (!configuration)
        return true;
    *owned = dmc_json_dump(configuration);
    if (!*owned)
        *status = DAMACY_OOM;
    desc->configuration = *owned;
    return *owned != NULL;
}

static enum damacy_status inner_chain_build(struct dmc_codec_build *build, dmc_json *codecs, struct sharding_config *config,
                                            struct damacy_error *error)
{
    struct dmc_codec_desc descs[INNER_CODECS_MAX];
    char *owned[INNER_CODECS_MAX];
    uint32_t count = 0;
    enum damacy_status status = DAMACY_OK;
    if (dmc_json_type(codecs) != DMC_JSON_ARRAY || dmc_json_count(codecs) == 0 || dmc_json_count(codecs) > INNER_CODECS_MAX)
        return dmc_codec_config_error(error, build->name, "codecs", "a list of 1 to 16 codecs", codecs);
    for (; !status && count < dmc_json_count(codecs); count++) {
        if (!codec_read(dmc_json_at(codecs, count), &descs[count], &owned[count], &status) && !status)
            status =
                dmc_codec_config_error(error, build->name, "codecs", "codecs with their names", dmc_json_at(codecs, count));
    }
    if (status == DAMACY_OOM)
        dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for the codecs inside '%s'", build->name);
    const struct dmc_codec_inner inner = {
        .type = build->type, .rank = build->rank, .shape = config->inner_shape, .level = build->level + 1};
    if (!status)
        status = dmc_codec_chain_build(descs, count, &inner, &config->inner, error);
    for (uint32_t i = 0; i < count; i++)
        dmc_free(owned[i]);
    return status;
}

/* bytes, or bytes and crc32c; missing: little-endian and checked, as every writer writes it. */
static enum damacy_status index_read(const struct dmc_codec_build *build, dmc_json *configuration,
                                     struct sharding_config *config, struct damacy_error *error)
{
    static const char expected[] = "bytes, or bytes and crc32c";
    dmc_json *codecs = dmc_json_get(configuration, "index_codecs"), *location = dmc_json_get(configuration, "index_location");
    size_t count = dmc_json_count(codecs);
    const char *text = NULL;
    config->index_checked = !codecs;
    if (codecs && (dmc_json_type(codecs) != DMC_JSON_ARRAY || count == 0 || count > 2))
        return dmc_codec_config_error(error, build->name, "index_codecs", expected, codecs);
    for (size_t i = 0; i < count; i++) {
        dmc_json *codec = dmc_json_at(codecs, i),
                 *name = dmc_json_type(codec) == DMC_JSON_OBJECT ? dmc_json_get(codec, "name") : codec;
        if (!dmc_json_string(name, &text, NULL) || strcmp(text, i == 0 ? "bytes" : "crc32c") != 0)
            return dmc_codec_config_error(error, build->name, "index_codecs", expected, codecs);
        config->index_checked = i == 1;
        dmc_json *endian = dmc_json_get(dmc_json_get(codec, "configuration"), "endian");
        if (i == 0 && dmc_json_type(endian) != DMC_JSON_NULL) {
            if (!dmc_json_string(endian, &text, NULL) || (strcmp(text, "little") != 0 && strcmp(text, "big") != 0))
                return dmc_codec_config_error(error, build->name, "index_codecs", "\"little\" or \"big\"", codecs);
            config->index_swap = (strcmp(text, "big") == 0) != (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
        }
    }
    if (dmc_json_type(location) == DMC_JSON_NULL)
        return DAMACY_OK;
    if (!dmc_json_string(location, &text, NULL) || (strcmp(text, "start") != 0 && strcmp(text, "end") != 0))
        return dmc_codec_config_error(error, build->name, "index_location", "\"start\" or \"end\"", location);
    config->index_at_start = strcmp(text, "start") == 0;
    return DAMACY_OK;
}

static int hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    digit |= 0x20;
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* One element, or two that take turns along the last axis. */
static bool fill_read(dmc_json *value, struct sharding_config *config)
{
    const char *text = NULL;
    config->fill_bytes = config->item_bytes;
    if (!value)
        return config->item_bytes <= FILL_BYTES_MAX;
    if (!dmc_json_string(value, &text, NULL))
        return false;
    size_t bytes = strlen(text) / 2;
    if (strlen(text) % 2 || bytes > FILL_BYTES_MAX || (bytes != config->item_bytes && bytes != 2 * (size_t)config->item_bytes))
        return false;
    for (size_t i = 0; i < bytes; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        config->fill[i] = (uint8_t)(high << 4 | low);
    }
    if (bytes == config->item_bytes)
        return true;
    if (config->rank == 0 || config->inner_shape[config->rank - 1] != 2)
        return false;
    config->fill_strides[config->rank - 1] = config->item_bytes;
    return true;
}

static enum damacy_status shape_read(const struct dmc_codec_build *build, dmc_json *value, struct sharding_config *config,
                                     struct damacy_error *error)
{
    static const char expected[] = "extents that divide those of the shard";
    if (dmc_json_type(value) != DMC_JSON_ARRAY || dmc_json_count(value) != build->rank)
        return dmc_codec_config_error(error, build->name, "chunk_shape", expected, value);
    config->inner_count = 1;
    int64_t stride = build->type.bytes;
    for (uint32_t i = build->rank; i-- > 0;) {
        uint64_t extent = 0;
        if (!dmc_json_u64(dmc_json_at(value, i), &extent) || extent == 0 || build->shape[i] % extent || build->shape[i] == 0)
            return dmc_codec_config_error(error, build->name, "chunk_shape", expected, value);
        config->shape[i] = build->shape[i];
        config->inner_shape[i] = extent;
        config->counts[i] = build->shape[i] / extent;
        config->inner_count *= config->counts[i]; /* at most the elements of the shard, which were counted */
        config->strides[i] = stride;
        stride *= (int64_t)build->shape[i];
    }
    if (config->inner_count > UINT64_C(1) << 28)
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "codec '%s': more than 2^28 chunks in a shard",
                             build->name);
    return DAMACY_OK;
}

static enum damacy_status sharding_configure(struct dmc_codec_build *build, dmc_json *configuration, struct damacy_error *error)
{
    struct sharding_config config = {.rank = build->rank, .item_bytes = build->type.bytes, .level = build->level};
    if (build->level + 1 >= DMC_CODEC_LEVELS)
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata",
                             "codec '%s': shards within shards more than %d deep are not read", build->name,
                             DMC_CODEC_LEVELS - 1);
    if (build->trail || (build->type.dtype == DAMACY_NATIVE && build->level == 0 && build->step_count))
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "codec '%s': not for elements of this type", build->name);
    enum damacy_status status = shape_read(build, dmc_json_get(configuration, "chunk_shape"), &config, error);
    if (!status && !fill_read(dmc_json_get(configuration, "damacy.fill"), &config))
        status = dmc_codec_config_error(error, build->name, "damacy.fill", "one element, hexadecimal",
                                        dmc_json_get(configuration, "damacy.fill"));
    if (!status)
        status = index_read(build, configuration, &config, error);
    if (!status)
        status = inner_chain_build(build, dmc_json_get(configuration, "codecs"), &config, error);
    if (status)
        return status;
    for (uint32_t i = 0; i < config.rank; i++)
        config.inner_strides[i] = config.inner->strides[i] * (int64_t)config.item_bytes;
    build->extra_bytes += config.inner->memory_bytes;
    status = dmc_codec_step_add(build, &sharding_step_ops, &config, sizeof config, error);
    if (status)
        dmc_codec_chain_free(config.inner);
    return status;
}

const struct dmc_codec_ops dmc_codec_sharding_ops = {
    .name = "sharding_indexed",
    .configure = sharding_configure,
    .configures_steps = true,
};
