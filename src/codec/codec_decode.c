/* Running a chain: its steps, one after the other, between buffers of the context. */
#include "codec/codec_impl.h"
#include <stdio.h>

enum damacy_status dmc_codec_size_error(struct damacy_error *error, const char *codec, const char *what, const char *bound,
                                        uint64_t expected_bytes, uint64_t found_bytes)
{
    char expected[64], found[48];
    snprintf(expected, sizeof expected, "%s%llu bytes", bound, (unsigned long long)expected_bytes);
    if (found_bytes == UINT64_MAX)
        snprintf(found, sizeof found, "more");
    else
        snprintf(found, sizeof found, "%llu bytes", (unsigned long long)found_bytes);
    dmc_error_set(error, DAMACY_DECODE, "decode", "%s%s%s", codec, *codec ? ": " : "", what);
    dmc_error_expected(error, expected, found);
    return DAMACY_DECODE;
}

enum damacy_status dmc_codec_job_done(struct dmc_codec_job *job, const char *codec, uint64_t decoded_bytes,
                                      struct damacy_error *error)
{
    job->decoded_bytes = decoded_bytes;
    if (job->exact ? decoded_bytes != job->target_bytes : decoded_bytes > job->target_bytes)
        return dmc_codec_size_error(error, codec, "wrong decoded size", job->exact ? "" : "at most ", job->target_bytes,
                                    decoded_bytes);
    return DAMACY_OK;
}

/* The decoded bytes lie at `view`, of the wrong or the right size: copy what is needed. */
static enum damacy_status view_copy(const struct dmc_decode *decode, uint64_t chunk_bytes, const uint8_t *view,
                                    uint64_t view_bytes, struct damacy_error *error)
{
    if (view_bytes != chunk_bytes)
        return dmc_codec_size_error(error, "", "wrong size of an uncompressed chunk", "", chunk_bytes, view_bytes);
    uint64_t begin = decode->verify_full ? 0 : decode->need_begin;
    uint64_t end = decode->verify_full ? chunk_bytes : decode->need_end;
    memcpy(decode->target + begin, view + begin, end - begin);
    return DAMACY_OK;
}

/* What one run needs to know of each step beside the chain. */
struct step_range {
    uint64_t decoded_bytes;
    uint64_t need_begin, need_end;
};

/* From the array towards the store: the sizes of this chunk, and the range of each step's output that the next one needs.
 * Returns the bound of the stored bytes. */
static uint64_t ranges_compute(const struct dmc_codec_chain *chain, const struct dmc_decode *decode, uint64_t chunk_bytes,
                               struct step_range *ranges)
{
    bool usual = chunk_bytes == chain->chunk_bytes;
    uint64_t bytes = chunk_bytes, begin = decode->need_begin, end = decode->need_end;
    if (decode->verify_full) {
        begin = 0;
        end = chunk_bytes;
    }
    for (uint32_t i = chain->step_count; i-- > 0;) {
        const struct dmc_codec_step *step = &chain->steps[i];
        if (usual)
            bytes = step->decoded_bytes;
        if (!step->exact) {
            begin = 0;
            end = bytes;
        }
        ranges[i] = (struct step_range){bytes, begin, end};
        if (i == 0 && usual)
            break;
        if (!usual)
            bytes = step->ops->encoded_bytes(step->config, bytes);
        if (i == 0)
            break;
        uint64_t source_bytes = usual ? chain->steps[i - 1].decoded_bytes : bytes;
        if (step->ops->need) {
            step->ops->need(step->config, &begin, &end);
            end = dmc_min_u64(end, source_bytes);
        } else {
            begin = 0;
            end = source_bytes;
        }
    }
    return usual ? chain->stored_bytes_max : bytes;
}

enum damacy_status dmc_codec_decode(const struct dmc_codec_chain *chain, struct dmc_codec_context *context,
                                    const struct dmc_decode *decode, struct damacy_error *error)
{
    const uint8_t *source = decode->source;
    uint64_t source_bytes = decode->source_bytes;
    uint64_t chunk_bytes = decode->chunk_bytes ? decode->chunk_bytes : chain->chunk_bytes;
    struct step_range ranges[DMC_CODEC_STEPS_MAX];
    uint32_t turn = 0;
    if (chunk_bytes != chain->chunk_bytes && (chain->shaped || chunk_bytes > chain->chunk_bytes))
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "decode",
                             "a chunk of %llu bytes, where those of the codec '%s' have %llu: it depends on their shape",
                             (unsigned long long)chunk_bytes,
                             chain->raw ? "bytes" : chain->steps[chain->step_count - 1].ops->name,
                             (unsigned long long)chain->chunk_bytes);
    uint64_t stored_bytes_max = ranges_compute(chain, decode, chunk_bytes, ranges);
    if (source_bytes > stored_bytes_max)
        return dmc_codec_size_error(
            error, "", chain->raw ? "wrong size of an uncompressed chunk" : "the stored chunk is too long for its shape",
            chain->raw ? "" : "at most ", stored_bytes_max, source_bytes);
    if (chain->stored_exact && source_bytes != stored_bytes_max) /* the first step relies on it */
        return dmc_codec_size_error(error, "", "wrong size of an uncompressed chunk", "", stored_bytes_max, source_bytes);
    for (uint32_t i = 0; i < chain->step_count; i++) {
        const struct dmc_codec_step *step = &chain->steps[i];
        bool last = i + 1 == chain->step_count;
        struct dmc_codec_job job = {
            .config = step->config,
            .source = source,
            .source_bytes = source_bytes,
            .target = decode->target,
            .target_bytes = ranges[i].decoded_bytes,
            .exact = step->exact,
            .verify_full = decode->verify_full,
            .need_begin = ranges[i].need_begin,
            .need_end = ranges[i].need_end,
        };
        if (!last && !step->ops->is_view) {
            struct dmc_codec_buffer *between = &context->levels[context->level].between[turn++ % 2];
            enum damacy_status status = dmc_codec_buffer_reserve(context, between, step->decoded_bytes, error);
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
        if (!last && step->exact && source_bytes != job.target_bytes) /* the next step relies on it */
            return dmc_codec_size_error(error, step->ops->name, "wrong decoded size", "", job.target_bytes, source_bytes);
    }
    return view_copy(decode, chunk_bytes, source, source_bytes, error);
}

static void box_copy_row(uint64_t count, uint32_t item_bytes, bool swap, uint8_t *target, int64_t target_stride,
                         const uint8_t *source, int64_t source_stride)
{
    if (!swap && target_stride == (int64_t)item_bytes && source_stride == (int64_t)item_bytes) {
        memcpy(target, source, count * item_bytes);
        return;
    }
    for (uint64_t i = 0; i < count; i++, target += target_stride, source += source_stride) {
        if (!swap) {
            switch (item_bytes) {
            case 1:
                *target = *source;
                break;
            case 2:
                memcpy(target, source, 2);
                break;
            case 4:
                memcpy(target, source, 4);
                break;
            case 8:
                memcpy(target, source, 8);
                break;
            default:
                memcpy(target, source, item_bytes);
            }
            continue;
        }
        for (uint32_t b = 0; b < item_bytes; b++)
            target[b] = source[item_bytes - 1 - b];
    }
}

void dmc_codec_box_copy(uint32_t rank, const uint64_t *extents, uint32_t item_bytes, bool swap, uint8_t *target,
                        const int64_t *target_strides, const uint8_t *source, const int64_t *source_strides)
{
    uint64_t at[DAMACY_RANK_MAX + 2] = {0};
    for (uint32_t i = 0; i < rank; i++) {
        if (extents[i] == 0)
            return;
    }
    if (rank == 0) {
        box_copy_row(1, item_bytes, swap, target, 0, source, 0);
        return;
    }
    uint32_t row = rank - 1;
    for (;;) {
        box_copy_row(extents[row], item_bytes, swap, target, target_strides[row], source, source_strides[row]);
        uint32_t axis = row;
        for (;;) {
            if (axis-- == 0)
                return;
            target += target_strides[axis];
            source += source_strides[axis];
            if (++at[axis] < extents[axis])
                break;
            target -= (int64_t)at[axis] * target_strides[axis];
            source -= (int64_t)at[axis] * source_strides[axis];
            at[axis] = 0;
        }
    }
}
