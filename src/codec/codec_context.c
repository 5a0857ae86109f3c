/* The decoder state of one thread: made on first use, kept for ever, drawn from the budget. */
#include "base/mem.h"
#include "codec/codec_impl.h"

#define BUFFER_STEP (UINT64_C(64) << 10)

enum damacy_status dmc_codec_budget_reserve(struct dmc_codec_context *context, uint64_t bytes, struct damacy_error *error)
{
    if (!context->budget || dmc_budget_reserve(context->budget, bytes))
        return DAMACY_OK;
    dmc_error_set(error, DAMACY_BUDGET, "decode", "a decoder needs %llu bytes more than the %llu of %llu in use",
                  (unsigned long long)bytes, (unsigned long long)dmc_budget_used(context->budget),
                  (unsigned long long)context->budget->limit_bytes);
    dmc_error_hint(error, "raise max_host_memory_bytes or worker_bytes");
    return DAMACY_BUDGET;
}

void dmc_codec_budget_unreserve(struct dmc_codec_context *context, uint64_t bytes)
{
    if (context->budget && bytes > 0)
        dmc_budget_unreserve(context->budget, bytes);
}

uint64_t dmc_codec_buffer_bytes(uint64_t bytes)
{
    return bytes > UINT64_MAX - BUFFER_STEP ? UINT64_MAX : dmc_round_up(bytes, BUFFER_STEP);
}

static void buffer_release(struct dmc_codec_context *context, struct dmc_codec_buffer *buffer)
{
    if (buffer->memory)
        dmc_pages_unmap(buffer->memory, buffer->bytes);
    dmc_codec_budget_unreserve(context, buffer->bytes);
    *buffer = (struct dmc_codec_buffer){0};
}

enum damacy_status dmc_codec_buffer_reserve(struct dmc_codec_context *context, struct dmc_codec_buffer *buffer, uint64_t bytes,
                                            struct damacy_error *error)
{
    if (bytes <= buffer->bytes)
        return DAMACY_OK;
    bytes = dmc_codec_buffer_bytes(bytes);
    buffer_release(context, buffer); /* first, so that growing never needs both */
    enum damacy_status status = dmc_codec_budget_reserve(context, bytes, error);
    if (status)
        return status;
    buffer->memory = dmc_pages_map(bytes);
    if (!buffer->memory) {
        dmc_codec_budget_unreserve(context, bytes);
        return dmc_error_set(error, DAMACY_OOM, "decode", "no memory for %llu bytes of decoder scratch",
                             (unsigned long long)bytes);
    }
    buffer->bytes = bytes;
    return DAMACY_OK;
}

enum damacy_status dmc_codec_arena_begin(struct dmc_codec_context *context, uint64_t bytes, struct damacy_error *error)
{
    context->arena_used = 0;
    return dmc_codec_buffer_reserve(context, &context->arena, bytes, error);
}

void *dmc_codec_arena_alloc(struct dmc_codec_context *context, uint64_t bytes)
{
    uint64_t at = context->arena_used;
    if (bytes > context->arena.bytes - at)
        return NULL;
    context->arena_used = dmc_min_u64(at + dmc_round_up(bytes, 16), context->arena.bytes);
    return context->arena.memory + at;
}

enum damacy_status dmc_codec_context_create(struct dmc_budget *budget, struct dmc_codec_context **context,
                                            struct damacy_error *error)
{
    struct dmc_codec_context *made = dmc_calloc(1, sizeof *made);
    if (!made)
        return dmc_error_set(error, DAMACY_OOM, "decode", "no memory for a decoder context");
    made->budget = budget;
    *context = made;
    return DAMACY_OK;
}

void dmc_codec_context_destroy(struct dmc_codec_context *context)
{
    if (!context)
        return;
    for (uint32_t i = 0; i < DMC_CODEC_LEVELS; i++) {
        buffer_release(context, &context->levels[i].between[0]);
        buffer_release(context, &context->levels[i].between[1]);
        buffer_release(context, &context->levels[i].inner);
    }
    buffer_release(context, &context->block);
    buffer_release(context, &context->arena);
    dmc_zstd_deinit(context);
    dmc_deflate_deinit(context);
    dmc_free(context);
}
