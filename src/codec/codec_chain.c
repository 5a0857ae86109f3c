/* Building a chain from metadata, and running it. */
#include "base/mem.h"
#include "codec/codec_impl.h"
#include <stdio.h>

/* ---- errors of configurations ---- */

enum damacy_status dmc_codec_config_error(struct damacy_error *error, const char *codec, const char *member,
                                          const char *expected, dmc_json *value)
{
    char *dump = value ? dmc_json_dump(value) : NULL;
    dmc_error_set(error, DAMACY_DECODE, "metadata", "codec '%s': member '%s' of its configuration is wrong", codec, member);
    dmc_error_expected(error, expected, dump ? dump : value ? dmc_json_type_str(value) : "nothing");
    dmc_free(dump);
    return DAMACY_DECODE;
}

enum damacy_status dmc_codec_config_integer(struct damacy_error *error, const char *codec, dmc_json *configuration,
                                            const char *member)
{
    dmc_json *value = dmc_json_get(configuration, member);
    int64_t number;
    if (value && !dmc_json_i64(value, &number))
        return dmc_codec_config_error(error, codec, member, "an integer", value);
    return DAMACY_OK;
}

/* ---- building ---- */

uint64_t dmc_codec_compressed_bytes_max(uint64_t decoded_bytes)
{
    const uint64_t slack = UINT64_C(64) << 10;
    return decoded_bytes > (UINT64_MAX - slack) / 2 ? UINT64_MAX : 2 * decoded_bytes + slack;
}

static uint64_t add_saturating(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

size_t dmc_codec_chain_memory_max(void)
{
    return sizeof(struct dmc_codec_chain) + DMC_CODEC_STEPS_MAX * sizeof(struct dmc_codec_step);
}

/* The order of codecs: any array->array, one array->bytes, any bytes->bytes. */
static enum damacy_status order_check(enum dmc_codec_kind kind, const char *name, const char *serializer,
                                      struct damacy_error *error)
{
    switch (kind) {
    case DMC_CODEC_ARRAY_ARRAY:
        if (serializer)
            return dmc_error_set(error, DAMACY_DECODE, "metadata",
                                 "codec '%s' works on arrays but comes after '%s', which makes bytes", name, serializer);
        break;
    case DMC_CODEC_ARRAY_BYTES:
        if (serializer)
            return dmc_error_set(error, DAMACY_DECODE, "metadata",
                                 "codec '%s' comes after '%s': only one may turn elements into bytes", name, serializer);
        break;
    case DMC_CODEC_BYTES_BYTES:
        if (!serializer)
            return dmc_error_set(error, DAMACY_DECODE, "metadata",
                                 "codec '%s' works on bytes but comes before the codec 'bytes'", name);
        break;
    }
    return DAMACY_OK;
}

static enum damacy_status unknown_error(struct damacy_error *error, const char *name)
{
    char known[128] = "";
    for (uint32_t i = 0; dmc_codec_name(i); i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", dmc_codec_name(i));
    }
    dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "codec '%s' is not known to this build", name);
    dmc_error_hint(error, "it reads %s", known);
    return DAMACY_UNSUPPORTED;
}

/* Parse the configuration text and let the codec look at it. */
static enum damacy_status codec_configure(const struct dmc_codec_ops *ops, const char *text, struct dmc_codec_draft *draft,
                                          struct damacy_error *error)
{
    if (!text)
        return ops->configure(draft, NULL, error);
    struct dmc_json_doc *doc = NULL;
    struct damacy_error parse_error;
    enum damacy_status status = dmc_json_parse(text, strlen(text), &doc, &parse_error);
    if (status)
        return dmc_error_set(error, status, "metadata", "codec '%s': its configuration is no JSON: %.1024s", ops->name,
                             parse_error.message);
    dmc_json *root = dmc_json_root(doc);
    enum dmc_json_type type = dmc_json_type(root);
    if (type != DMC_JSON_OBJECT && type != DMC_JSON_NULL) {
        dmc_error_set(error, DAMACY_DECODE, "metadata", "codec '%s': its configuration is wrong", ops->name);
        dmc_error_expected(error, "an object", dmc_json_type_str(root));
        status = DAMACY_DECODE;
    } else {
        status = ops->configure(draft, type == DMC_JSON_NULL ? NULL : root, error);
    }
    dmc_json_free(doc);
    return status;
}

/* Fill draft and steps from the list. */
static enum damacy_status descs_read(const struct dmc_codec_desc *descs, uint32_t count, struct dmc_codec_draft *draft,
                                     struct dmc_codec_step *steps, uint32_t *step_count, struct damacy_error *error)
{
    const char *serializer = NULL;
    *step_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct dmc_codec_ops *ops = dmc_codec_find(descs[i].name);
        if (!ops)
            return unknown_error(error, descs[i].name);
        enum damacy_status status = order_check(ops->kind, ops->name, serializer, error);
        if (!status)
            status = codec_configure(ops, descs[i].configuration, draft, error);
        if (status)
            return status;
        if (ops->kind == DMC_CODEC_ARRAY_BYTES)
            serializer = ops->name;
        if (ops->kind != DMC_CODEC_BYTES_BYTES)
            continue;
        if (*step_count == DMC_CODEC_STEPS_MAX)
            return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "more than %d codecs of bytes in one chain",
                                 DMC_CODEC_STEPS_MAX);
        steps[(*step_count)++].ops = ops;
    }
    if (!serializer)
        return dmc_error_set(error, DAMACY_DECODE, "metadata", "no codec turns elements into bytes: 'bytes' is missing");
    return DAMACY_OK;
}

static enum damacy_status chunk_bytes_compute(const struct dmc_codec_draft *draft, const uint64_t *chunk_shape, uint64_t *bytes,
                                              struct damacy_error *error)
{
    *bytes = damacy_dtype_bytes(draft->dtype);
    for (uint32_t i = 0; i < draft->rank; i++) {
        /* Strides are signed, so half the range is the end; also for shapes with a zero, where the product forgets the rest. */
        if (!dmc_mul_u64(*bytes, dmc_max_u64(chunk_shape[i], 1), bytes) || *bytes > INT64_MAX)
            return dmc_error_set(error, DAMACY_DECODE, "metadata", "the chunk shape has more bytes than 63 bits can count");
    }
    for (uint32_t i = 0; i < draft->rank; i++) {
        if (chunk_shape[i] == 0)
            *bytes = 0;
    }
    return DAMACY_OK;
}

/* Bounds of every step, from the array to the store, and what a context needs for them. */
static void bounds_compute(struct dmc_codec_chain *chain)
{
    uint64_t bytes = chain->chunk_bytes, scratch = 0;
    uint64_t between[2] = {0, 0}, block = 0;
    bool zstd = false, deflate = false;
    uint32_t turn = 0;
    for (uint32_t i = chain->step_count; i-- > 0;) {
        struct dmc_codec_step *step = &chain->steps[i];
        step->decoded_bytes_max = bytes;
        if (i + 1 < chain->step_count && !step->ops->is_view) {
            between[turn % 2] = dmc_max_u64(between[turn % 2], dmc_codec_buffer_bytes(bytes));
            turn++;
        }
        if (step->ops->needs_block)
            block = dmc_max_u64(block, dmc_codec_buffer_bytes(bytes));
        zstd = zstd || step->ops->needs_zstd;
        deflate = deflate || step->ops->needs_deflate;
        bytes = step->ops->stored_bytes_max(bytes);
    }
    chain->stored_bytes_max = bytes;
    scratch = add_saturating(add_saturating(between[0], between[1]), block);
    scratch = add_saturating(scratch, zstd ? dmc_zstd_context_bytes() : 0);
    chain->scratch_bytes = add_saturating(scratch, deflate ? dmc_deflate_context_bytes() : 0);
}

static void strides_compute(struct dmc_codec_chain *chain, const struct dmc_codec_draft *draft, const uint64_t *chunk_shape)
{
    uint64_t stride = 1;
    for (uint32_t i = draft->rank; i-- > 0;) {
        uint32_t axis = draft->axes[i];
        chain->strides[axis] = (int64_t)stride;
        stride *= chunk_shape[axis];
    }
}

enum damacy_status dmc_codec_chain_create(const struct dmc_codec_desc *descs, uint32_t count, enum damacy_dtype dtype,
                                          uint32_t rank, const uint64_t *chunk_shape, struct dmc_codec_chain **chain,
                                          struct damacy_error *error)
{
    struct dmc_codec_draft draft = {.dtype = dtype, .rank = rank};
    struct dmc_codec_step steps[DMC_CODEC_STEPS_MAX];
    uint32_t step_count = 0;
    uint64_t chunk_bytes = 0;
    if (rank > DAMACY_RANK_MAX + 1)
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "%u axes are more than the %d that are read", rank,
                             DAMACY_RANK_MAX + 1);
    for (uint32_t i = 0; i < rank; i++)
        draft.axes[i] = (uint8_t)i;
    enum damacy_status status = descs_read(descs, count, &draft, steps, &step_count, error);
    if (!status)
        status = chunk_bytes_compute(&draft, chunk_shape, &chunk_bytes, error);
    if (status)
        return status;
    size_t memory_bytes = sizeof **chain + step_count * sizeof steps[0];
    struct dmc_codec_chain *made = dmc_calloc(1, memory_bytes);
    if (!made)
        return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for a codec chain of %zu bytes", memory_bytes);
    made->raw = step_count == 0;
    made->swap = draft.swap;
    made->chunk_bytes = chunk_bytes;
    made->memory_bytes = memory_bytes;
    made->steps = (struct dmc_codec_step *)(made + 1);
    made->step_count = step_count;
    for (uint32_t i = 0; i < step_count; i++) /* encoding order to decoding order */
        made->steps[i] = steps[step_count - 1 - i];
    made->partial = step_count == 0 || made->steps[step_count - 1].ops->partial;
    bounds_compute(made);
    strides_compute(made, &draft, chunk_shape);
    *chain = made;
    return DAMACY_OK;
}

void dmc_codec_chain_free(struct dmc_codec_chain *chain)
{
    dmc_free(chain);
}

const char *dmc_codec_step_name(const struct dmc_codec_chain *chain, uint32_t step)
{
    return step < chain->step_count ? chain->steps[step].ops->name : NULL;
}

/* ---- running ---- */

static enum damacy_status bytes_error(struct damacy_error *error, const char *what, const char *bound, uint64_t expected_bytes,
                                      uint64_t found_bytes)
{
    char expected[64], found[48];
    snprintf(expected, sizeof expected, "%s%llu bytes", bound, (unsigned long long)expected_bytes);
    snprintf(found, sizeof found, "%llu bytes", (unsigned long long)found_bytes);
    dmc_error_set(error, DAMACY_DECODE, "decode", "%s", what);
    dmc_error_expected(error, expected, found);
    return DAMACY_DECODE;
}

/* The decoded bytes lie at `view`, of the wrong or the right size: copy what is needed. */
static enum damacy_status view_copy(const struct dmc_codec_chain *chain, const struct dmc_decode *decode, const uint8_t *view,
                                    uint64_t view_bytes, struct damacy_error *error)
{
    if (view_bytes != chain->chunk_bytes)
        return bytes_error(error, "wrong size of an uncompressed chunk", "", chain->chunk_bytes, view_bytes);
    uint64_t begin = decode->verify_full ? 0 : decode->need_begin;
    uint64_t end = decode->verify_full ? chain->chunk_bytes : decode->need_end;
    memcpy(decode->target + begin, view + begin, end - begin);
    return DAMACY_OK;
}

enum damacy_status dmc_codec_decode(const struct dmc_codec_chain *chain, struct dmc_codec_context *context,
                                    const struct dmc_decode *decode, struct damacy_error *error)
{
    const uint8_t *source = decode->source;
    uint64_t source_bytes = decode->source_bytes;
    uint32_t turn = 0;
    if (source_bytes > chain->stored_bytes_max)
        return bytes_error(error,
                           chain->raw ? "wrong size of an uncompressed chunk" : "the stored chunk is too long for its shape",
                           chain->raw ? "" : "at most ", chain->stored_bytes_max, source_bytes);
    for (uint32_t i = 0; i < chain->step_count; i++) {
        const struct dmc_codec_step *step = &chain->steps[i];
        bool last = i + 1 == chain->step_count;
        struct dmc_codec_job job = {
            .source = source,
            .source_bytes = source_bytes,
            .target = decode->target,
            .target_bytes = step->decoded_bytes_max,
            .exact = last,
            .verify_full = decode->verify_full,
            .need_begin = last ? decode->need_begin : 0,
            .need_end = last ? decode->need_end : step->decoded_bytes_max,
        };
        if (!last && !step->ops->is_view) {
            struct dmc_codec_buffer *between = &context->between[turn++ % 2];
            enum damacy_status status = dmc_codec_buffer_reserve(context, between, step->decoded_bytes_max, error);
            if (status)
                return status;
            job.target = between->memory;
        }
        enum damacy_status status = step->ops->decode(context, &job, error);
        if (status)
            return status;
        if (last && !job.view)
            return DAMACY_OK;
        source = job.view ? job.view : job.target;
        source_bytes = job.decoded_bytes;
    }
    return view_copy(chain, decode, source, source_bytes, error);
}
