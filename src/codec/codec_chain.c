/* Building a chain from metadata. */
#include "base/mem.h"
#include "codec/codec_impl.h"
#include <stdio.h>

/* ---- errors ---- */

enum damacy_status dmc_codec_config_error(struct damacy_error *error, const char *codec, const char *member,
                                          const char *expected, dmc_json *value)
{
    char *dump = value ? dmc_json_dump(value) : NULL;
    dmc_error_set(error, DAMACY_DECODE, "metadata", "codec '%s': member '%s' of its configuration is wrong", codec, member);
    dmc_error_expected(error, expected, dump ? dump : value ? dmc_json_type_str(value) : "nothing");
    dmc_free(dump);
    return DAMACY_DECODE;
}

enum damacy_status dmc_codec_configure_nothing(struct dmc_codec_build *build, dmc_json *configuration,
                                               struct damacy_error *error)
{
    (void)build;
    (void)configuration;
    (void)error;
    return DAMACY_OK;
}

static enum damacy_status unknown_error(struct damacy_error *error, const char *name)
{
    char known[1024] = "";
    const struct dmc_codec_info *info = dmc_codec_info_find(name);
    if (info) {
        dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "codec '%s' is %s: %s", name,
                      info->state == DMC_CODEC_LACKING ? "not in this build" : "not read", info->note);
        if (info->state != DMC_CODEC_NEVER)
            dmc_error_hint(error, "damacy_codec_register() in C or damacy.register_codec() in Python adds it");
        return DAMACY_UNSUPPORTED;
    }
    for (uint32_t i = 0; dmc_codec_name(i); i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", dmc_codec_name(i));
    }
    dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "codec '%s' is not known to this build", name);
    dmc_error_hint(error, "damacy_codec_register(), damacy.register_codec() in Python, adds codecs to %s", known);
    return DAMACY_UNSUPPORTED;
}

/* The order of codecs: any array->array, one array->bytes, any bytes->bytes. */
static enum damacy_status order_check(uint32_t kinds, const char *name, const char *serializer, struct damacy_error *error)
{
    if (serializer && !(kinds & DMC_CODEC_BYTES_BYTES)) {
        if (kinds & DMC_CODEC_ARRAY_BYTES)
            return dmc_error_set(error, DAMACY_DECODE, "metadata",
                                 "codec '%s' comes after '%s': only one may turn elements into bytes", name, serializer);
        return dmc_error_set(error, DAMACY_DECODE, "metadata",
                             "codec '%s' works on arrays but comes after '%s', which makes bytes", name, serializer);
    }
    if (!serializer && !(kinds & (DMC_CODEC_ARRAY_ARRAY | DMC_CODEC_ARRAY_BYTES)))
        return dmc_error_set(error, DAMACY_DECODE, "metadata", "codec '%s' works on bytes but comes before the codec 'bytes'",
                             name);
    return DAMACY_OK;
}

/* ---- sizes ---- */

uint64_t dmc_codec_compressed_bytes_max(const void *config, uint64_t decoded_bytes)
{
    const uint64_t slack = UINT64_C(64) << 10;
    (void)config;
    return decoded_bytes > (UINT64_MAX - slack) / 2 ? UINT64_MAX : 2 * decoded_bytes + slack;
}

uint64_t dmc_codec_same_bytes(const void *config, uint64_t decoded_bytes)
{
    (void)config;
    return decoded_bytes;
}

void dmc_codec_scratch_raise(struct dmc_codec_scratch *scratch, const struct dmc_codec_scratch *other)
{
    for (int i = 0; i < DMC_CODEC_SCRATCH_COUNT; i++)
        scratch->bytes[i] = dmc_max_u64(scratch->bytes[i], other->bytes[i]);
}

bool dmc_codec_scratch_within(const struct dmc_codec_scratch *scratch, const struct dmc_codec_scratch *other)
{
    bool within = true;
    for (int i = 0; i < DMC_CODEC_SCRATCH_COUNT; i++)
        within &= scratch->bytes[i] <= other->bytes[i];
    return within;
}

uint64_t dmc_codec_scratch_sum(const struct dmc_codec_scratch *scratch)
{
    uint64_t sum = 0;
    for (int i = 0; i < DMC_CODEC_SCRATCH_COUNT; i++) {
        if (!dmc_add_u64(sum, scratch->bytes[i], &sum))
            return UINT64_MAX;
    }
    return sum;
}

size_t dmc_codec_chain_memory_max(void)
{
    return DMC_CODEC_CHAIN_BYTES_MAX;
}

/* ---- steps ---- */

static size_t config_room(size_t bytes)
{
    return (bytes + 15) / 16 * 16;
}

/* Before each configuration in the build; in the chain there are only the configurations. */
struct config_head {
    size_t bytes;
    uint64_t pad;
};

static struct config_head *config_head(void *config)
{
    return (struct config_head *)config - 1;
}

static void config_drop(const struct dmc_codec_step *step)
{
    if (!step->config)
        return;
    if (step->ops->config_release)
        step->ops->config_release(step->config);
    dmc_free(config_head(step->config));
}

static void build_deinit(struct dmc_codec_build *build)
{
    for (uint32_t i = 0; i < build->step_count; i++)
        config_drop(&build->steps[i]);
    build->step_count = 0;
}

enum damacy_status dmc_codec_step_add(struct dmc_codec_build *build, const struct dmc_codec_ops *ops, const void *config,
                                      size_t config_bytes, struct damacy_error *error)
{
    if (build->step_count == DMC_CODEC_STEPS_MAX)
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "more than %d codecs to undo in one chain",
                             DMC_CODEC_STEPS_MAX);
    struct dmc_codec_step *step = &build->steps[build->step_count];
    *step = (struct dmc_codec_step){.ops = ops, .decoded_bytes = build->bytes, .exact = build->exact};
    if (config) {
        struct config_head *head = dmc_calloc(1, sizeof *head + config_room(config_bytes));
        if (!head)
            return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for the configuration of codec '%s'", build->name);
        head->bytes = config_bytes;
        step->config = head + 1;
        memcpy(step->config, config, config_bytes);
    }
    build->bytes = ops->encoded_bytes(step->config, build->bytes);
    build->exact = build->exact && ops->fixed_size && build->bytes != UINT64_MAX;
    build->step_count++;
    build->shaped = build->shaped || ops->shaped;
    return DAMACY_OK;
}

void dmc_codec_build_computes(struct dmc_codec_build *build)
{
    if (!build->serializer)
        build->native = true;
}

/* Parse the configuration text and let the codec look at it. */
static enum damacy_status codec_configure(const struct dmc_codec_ops *ops, const char *text, struct dmc_codec_build *build,
                                          struct damacy_error *error)
{
    if (!text)
        return ops->configure(build, NULL, error);
    struct dmc_json_doc *doc = NULL;
    struct damacy_error parse_error;
    enum damacy_status status = dmc_json_parse(text, strlen(text), &doc, &parse_error);
    if (status)
        return dmc_error_set(error, status, "metadata", "codec '%s': its configuration is no JSON: %.1024s", build->name,
                             parse_error.message);
    dmc_json *root = dmc_json_root(doc);
    enum dmc_json_type type = dmc_json_type(root);
    if (type != DMC_JSON_OBJECT && type != DMC_JSON_NULL) {
        dmc_error_set(error, DAMACY_DECODE, "metadata", "codec '%s': its configuration is wrong", build->name);
        dmc_error_expected(error, "an object", dmc_json_type_str(root));
        status = DAMACY_DECODE;
    } else {
        status = ops->configure(build, type == DMC_JSON_NULL ? NULL : root, error);
    }
    dmc_json_free(doc);
    return status;
}

/* One codec of the list: ours, or a user's. */
static enum damacy_status desc_read(const struct dmc_codec_desc *desc, struct dmc_codec_build *build,
                                    struct damacy_error *error)
{
    const struct dmc_codec_ops *ops = dmc_codec_find(desc->name);
    struct dmc_codec_user *user = ops ? NULL : dmc_codec_user_acquire(desc->name);
    if (!ops && !user)
        return unknown_error(error, desc->name);
    build->name = desc->name;
    uint32_t kinds = user ? dmc_codec_user_kinds(user) : dmc_codec_kinds(desc->name);
    enum damacy_status status = order_check(kinds, desc->name, build->serializer, error);
    bool serializes = !build->serializer && kinds & DMC_CODEC_ARRAY_BYTES;
    uint64_t array_bytes = build->bytes;
    if (!status && user)
        status = dmc_codec_user_add(build, user, desc->configuration, error);
    else if (!status)
        status = codec_configure(ops, desc->configuration, build, error);
    if (!status && ops && !ops->configures_steps && ops->decode)
        status = dmc_codec_step_add(build, ops, NULL, 0, error);
    if (user)
        dmc_codec_user_release(user);
    if (!status && serializes) {
        build->serializer = desc->name;
        build->array_bytes = build->exact ? build->bytes : array_bytes;
    }
    return status;
}

/* ---- chains ---- */

static enum damacy_status chunk_bytes_compute(const struct dmc_codec_build *build, uint64_t *bytes, struct damacy_error *error)
{
    *bytes = build->type.bytes;
    for (uint32_t i = 0; i < build->rank; i++) {
        /* Strides are signed, so half the range is the end; also for shapes with a zero, where the product forgets the rest. */
        if (!dmc_mul_u64(*bytes, dmc_max_u64(build->shape[i], 1), bytes) || *bytes > INT64_MAX)
            return dmc_error_set(error, DAMACY_DECODE, "metadata", "the chunk shape has more bytes than 63 bits can count");
    }
    for (uint32_t i = 0; i < build->rank; i++) {
        if (build->shape[i] == 0)
            *bytes = 0;
    }
    return DAMACY_OK;
}

/* What a context needs for the steps, which are in order of decoding. */
static void scratch_compute(struct dmc_codec_chain *chain, uint32_t level)
{
    struct dmc_codec_scratch *scratch = &chain->scratch;
    uint32_t turn = 0;
    for (uint32_t i = 0; i < chain->step_count; i++) {
        const struct dmc_codec_step *step = &chain->steps[i];
        uint64_t bytes = step->decoded_bytes, taken = dmc_codec_buffer_bytes(bytes);
        if (i + 1 < chain->step_count && !step->ops->is_view) {
            uint64_t *between = &scratch->bytes[DMC_CODEC_SCRATCH_BETWEEN + 2 * level + turn++ % 2];
            *between = dmc_max_u64(*between, taken);
        }
        struct dmc_codec_scratch own = {{0}};
        if (step->ops->needs_block)
            own.bytes[DMC_CODEC_SCRATCH_BLOCK] = taken;
        if (step->ops->needs_zstd)
            own.bytes[DMC_CODEC_SCRATCH_ZSTD] = dmc_zstd_context_bytes();
        if (step->ops->needs_deflate)
            own.bytes[DMC_CODEC_SCRATCH_DEFLATE] = dmc_deflate_context_bytes();
        if (step->ops->arena_bytes)
            own.bytes[DMC_CODEC_SCRATCH_ARENA] = dmc_codec_buffer_bytes(step->ops->arena_bytes(step->config, bytes));
        if (step->ops->scratch)
            step->ops->scratch(step->config, &own);
        dmc_codec_scratch_raise(scratch, &own);
    }
    chain->scratch_bytes = dmc_codec_scratch_sum(scratch);
}

static void strides_compute(struct dmc_codec_chain *chain, const struct dmc_codec_build *build, const uint64_t *chunk_shape)
{
    uint64_t stride = 1;
    memcpy(chain->axes, build->axes, sizeof chain->axes);
    for (uint32_t i = build->rank; i-- > 0;) {
        uint32_t axis = build->axes[i];
        chain->strides[axis] = (int64_t)stride;
        stride *= chunk_shape[axis];
    }
}

/* One allocation for the chain, its steps and their configurations; the build keeps nothing. */
static struct dmc_codec_chain *chain_pack(struct dmc_codec_build *build, size_t memory_bytes)
{
    struct dmc_codec_chain *chain = dmc_calloc(1, memory_bytes);
    if (!chain)
        return NULL;
    chain->steps = (struct dmc_codec_step *)(chain + 1);
    chain->step_count = build->step_count;
    uint8_t *configs = (uint8_t *)(chain + 1) + config_room(build->step_count * sizeof build->steps[0]);
    for (uint32_t i = 0; i < build->step_count; i++) { /* encoding order to decoding order */
        struct dmc_codec_step *step = &chain->steps[build->step_count - 1 - i];
        *step = build->steps[i];
        if (!step->config)
            continue;
        struct config_head *head = config_head(step->config);
        memcpy(configs, step->config, head->bytes);
        step->config = configs;
        configs += config_room(head->bytes);
        dmc_free(head);
    }
    build->step_count = 0;
    return chain;
}

static enum damacy_status chain_finish(struct dmc_codec_build *build, uint64_t chunk_bytes, const uint64_t *chunk_shape,
                                       uint32_t rank, struct dmc_codec_chain **chain, struct damacy_error *error)
{
    size_t memory_bytes = config_room(sizeof **chain) + config_room(build->step_count * sizeof build->steps[0]);
    for (uint32_t i = 0; i < build->step_count; i++)
        memory_bytes += build->steps[i].config ? config_room(config_head(build->steps[i].config)->bytes) : 0;
    if (memory_bytes + build->extra_bytes > DMC_CODEC_CHAIN_BYTES_MAX)
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata",
                             "the configurations of the codecs take more than %llu bytes",
                             (unsigned long long)DMC_CODEC_CHAIN_BYTES_MAX);
    struct dmc_codec_chain *made = chain_pack(build, memory_bytes);
    if (!made)
        return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for a codec chain of %zu bytes", memory_bytes);
    made->raw = made->step_count == 0;
    made->swap = build->swap;
    made->shaped = build->shaped;
    made->chunk_bytes = chunk_bytes;
    made->array_bytes = build->array_bytes;
    made->stored_bytes_max = build->bytes;
    made->stored_exact = build->exact;
    made->memory_bytes = memory_bytes + build->extra_bytes;
    for (uint32_t i = 0; i < made->step_count; i++)
        made->picks |= made->steps[i].ops->picks;
    made->partial = made->raw || made->steps[made->step_count - 1].ops->partial;
    scratch_compute(made, build->level);
    build->rank = rank;
    strides_compute(made, build, chunk_shape);
    *chain = made;
    return DAMACY_OK;
}

enum damacy_status dmc_codec_chain_build(const struct dmc_codec_desc *descs, uint32_t count,
                                         const struct dmc_codec_inner *inner, struct dmc_codec_chain **chain,
                                         struct damacy_error *error)
{
    struct dmc_codec_build build = {.type = inner->type, .rank = inner->rank, .level = inner->level, .exact = true};
    if (inner->rank > DAMACY_RANK_MAX + 1)
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "%u axes are more than the %d that are read", inner->rank,
                             DAMACY_RANK_MAX + 1);
    for (uint32_t i = 0; i < inner->rank; i++) {
        build.axes[i] = (uint8_t)i;
        build.shape[i] = inner->shape[i];
    }
    uint64_t chunk_bytes = 0;
    enum damacy_status status = chunk_bytes_compute(&build, &chunk_bytes, error);
    build.bytes = chunk_bytes;
    for (uint32_t i = 0; !status && i < count; i++)
        status = desc_read(&descs[i], &build, error);
    if (!status && !build.serializer)
        status = dmc_error_set(error, DAMACY_DECODE, "metadata", "no codec turns elements into bytes: 'bytes' is missing");
    if (!status)
        status = chain_finish(&build, chunk_bytes, inner->shape, inner->rank, chain, error);
    build_deinit(&build);
    return status;
}

enum damacy_status dmc_codec_chain_create(const struct dmc_codec_desc *descs, uint32_t count, enum damacy_dtype dtype,
                                          uint32_t rank, const uint64_t *chunk_shape, struct dmc_codec_chain **chain,
                                          struct damacy_error *error)
{
    uint32_t bytes = (uint32_t)damacy_dtype_bytes(dtype);
    bool is_signed = dtype == DAMACY_I8 || dtype == DAMACY_I16 || dtype == DAMACY_I32 || dtype == DAMACY_I64;
    const struct dmc_codec_inner inner = {
        .type = {.dtype = dtype, .bytes = bytes, .bits = dtype == DAMACY_BOOL ? 1 : 8 * bytes, .is_signed = is_signed},
        .rank = rank,
        .shape = chunk_shape,
    };
    return dmc_codec_chain_build(descs, count, &inner, chain, error);
}

void dmc_codec_chain_free(struct dmc_codec_chain *chain)
{
    if (!chain)
        return;
    for (uint32_t i = 0; i < chain->step_count; i++) {
        if (chain->steps[i].config && chain->steps[i].ops->config_release)
            chain->steps[i].ops->config_release(chain->steps[i].config);
    }
    dmc_free(chain);
}

const char *dmc_codec_step_name(const struct dmc_codec_chain *chain, uint32_t step)
{
    return step < chain->step_count ? chain->steps[step].ops->name : NULL;
}
