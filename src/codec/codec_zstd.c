/* zstd, for the codec and for the streams inside blosc. The only file that knows libzstd.
 *
 * A chunk is one frame as a rule, but may be several, with skippable ones between. We walk them ourselves: a size that cannot
 * be right, a dictionary and the formats from before 1.0 are refused before anything is decoded.
 *
 * Decoding a prefix goes block by block (at most 128 KiB each) with the bufferless functions of libzstd, which write straight
 * into the target: the streaming ones would decode into a window of their own and copy. They are "static only" in the header
 * but exported by every shared libzstd since 1.0. */
#define ZSTD_STATIC_LINKING_ONLY
#define ZSTD_DISABLE_DEPRECATE_WARNINGS
#include "base/mem.h"
#include "codec/codec_impl.h"
#include <stdio.h>
#include <zstd.h>
#include <zstd_errors.h>

static void *zstd_alloc(void *opaque, size_t bytes)
{
    (void)opaque;
    return dmc_malloc(bytes);
}

static void zstd_free(void *opaque, void *memory)
{
    (void)opaque;
    dmc_free(memory);
}

uint64_t dmc_zstd_context_bytes(void)
{
    return ZSTD_estimateDCtxSize();
}

static enum damacy_status zstd_prepare(struct dmc_codec_context *context, struct damacy_error *error)
{
    if (context->zstd)
        return DAMACY_OK;
    uint64_t bytes = dmc_zstd_context_bytes();
    enum damacy_status status = dmc_codec_budget_reserve(context, bytes, error);
    if (status)
        return status;
    context->zstd = ZSTD_createDCtx_advanced((ZSTD_customMem){zstd_alloc, zstd_free, NULL});
    if (!context->zstd) {
        dmc_codec_budget_unreserve(context, bytes);
        return dmc_error_set(error, DAMACY_OOM, "decode", "no memory for a zstd decoder");
    }
    context->zstd_bytes = bytes;
    return DAMACY_OK;
}

void dmc_zstd_deinit(struct dmc_codec_context *context)
{
    ZSTD_freeDCtx(context->zstd);
    dmc_codec_budget_unreserve(context, context->zstd_bytes);
    context->zstd = NULL;
    context->zstd_bytes = 0;
}

static enum damacy_status size_error(struct damacy_error *error, const char *what, uint64_t expected_bytes,
                                     uint64_t found_bytes)
{
    char expected[48], found[48];
    snprintf(expected, sizeof expected, "%llu bytes", (unsigned long long)expected_bytes);
    if (found_bytes == UINT64_MAX)
        snprintf(found, sizeof found, "more");
    else
        snprintf(found, sizeof found, "%llu bytes", (unsigned long long)found_bytes);
    dmc_error_set(error, DAMACY_DECODE, "decode", "zstd: %s", what);
    dmc_error_expected(error, expected, found);
    return DAMACY_DECODE;
}

static enum damacy_status truncated_error(struct damacy_error *error, uint64_t frame_begin, uint64_t source_bytes)
{
    return dmc_error_set(error, DAMACY_DECODE, "decode",
                         "zstd: the frame at byte %llu does not end within the %llu stored bytes",
                         (unsigned long long)frame_begin, (unsigned long long)source_bytes);
}

/* What libzstd says, in our words where it matters to a user. */
static enum damacy_status library_error(struct damacy_error *error, size_t code, uint64_t frame_begin, uint64_t source_bytes,
                                        uint64_t target_bytes)
{
    switch (ZSTD_getErrorCode(code)) {
    case ZSTD_error_dstSize_tooSmall:
        return size_error(error, "wrong decoded size", target_bytes, UINT64_MAX);
    case ZSTD_error_srcSize_wrong:
        return truncated_error(error, frame_begin, source_bytes);
    case ZSTD_error_checksum_wrong:
        return dmc_error_set(error, DAMACY_DECODE, "decode", "zstd: content checksum mismatch in the frame at byte %llu",
                             (unsigned long long)frame_begin);
    case ZSTD_error_memory_allocation:
        return dmc_error_set(error, DAMACY_OOM, "decode", "no memory for zstd");
    default:
        return dmc_error_set(error, DAMACY_DECODE, "decode", "zstd: the frame at byte %llu of %llu is corrupt: %s",
                             (unsigned long long)frame_begin, (unsigned long long)source_bytes, ZSTD_getErrorName(code));
    }
}

/* The frame's first blocks, until `need_bytes` are there. */
static enum damacy_status prefix_decode(ZSTD_DCtx *dctx, const uint8_t *source, uint64_t source_bytes, uint8_t *target,
                                        uint64_t target_bytes, uint64_t need_bytes, struct damacy_error *error)
{
    uint64_t taken = 0, decoded = 0;
    size_t result = ZSTD_decompressBegin(dctx);
    if (ZSTD_isError(result))
        return library_error(error, result, 0, source_bytes, target_bytes);
    while (decoded < need_bytes) {
        size_t next = ZSTD_nextSrcSizeToDecompress(dctx); /* a header or a block in turn; 0 behind the last block */
        if (next == 0)
            return size_error(error, "the frame ends before its declared size", target_bytes, decoded);
        if (next > source_bytes - taken)
            return truncated_error(error, 0, source_bytes);
        result = ZSTD_decompressContinue(dctx, target + decoded, target_bytes - decoded, source + taken, next);
        if (ZSTD_isError(result))
            return library_error(error, result, 0, source_bytes, target_bytes);
        taken += next;
        decoded += result;
    }
    return DAMACY_OK;
}

/* All frames of `source` into at most `capacity` bytes; exactly that many if `exact`. */
static enum damacy_status frames_decode(struct dmc_codec_context *context, const uint8_t *source, uint64_t source_bytes,
                                        uint8_t *target, uint64_t capacity, bool exact, uint64_t need_bytes, uint64_t *decoded,
                                        struct damacy_error *error)
{
    enum damacy_status status = zstd_prepare(context, error);
    if (status)
        return status;
    *decoded = 0;
    for (uint64_t begin = 0; begin < source_bytes || begin == 0;) {
        ZSTD_frameHeader header;
        const uint8_t *frame = source + begin;
        size_t result = ZSTD_getFrameHeader(&header, frame, source_bytes - begin);
        if (ZSTD_isError(result))
            return library_error(error, result, begin, source_bytes, capacity);
        if (result > 0) /* it wants more bytes than there are */
            return truncated_error(error, begin, source_bytes);
        if (header.frameType == ZSTD_frame && header.dictID != 0)
            return dmc_error_set(error, DAMACY_UNSUPPORTED, "decode",
                                 "zstd: the frame at byte %llu needs dictionary %u; Zarr's zstd codec has no dictionaries",
                                 (unsigned long long)begin, header.dictID);
        bool declared = header.frameType == ZSTD_frame && header.frameContentSize != ZSTD_CONTENTSIZE_UNKNOWN;
        if (declared && header.frameContentSize > capacity - *decoded)
            return size_error(error, "wrong declared content size", capacity, *decoded + header.frameContentSize);
        if (declared && exact && *decoded == 0 && header.frameContentSize == capacity && need_bytes < capacity &&
            !header.checksumFlag) {
            *decoded = capacity;
            return prefix_decode(context->zstd, frame, source_bytes - begin, target, capacity, need_bytes, error);
        }
        size_t frame_bytes = ZSTD_findFrameCompressedSize(frame, source_bytes - begin);
        if (ZSTD_isError(frame_bytes))
            return library_error(error, frame_bytes, begin, source_bytes, capacity);
        bool last = frame_bytes == source_bytes - begin;
        if (declared && exact && last && *decoded + header.frameContentSize != capacity)
            return size_error(error, "wrong declared content size", capacity, *decoded + header.frameContentSize);
        if (header.frameType == ZSTD_frame) {
            result = ZSTD_decompressDCtx(context->zstd, target + *decoded, capacity - *decoded, frame, frame_bytes);
            if (ZSTD_isError(result))
                return library_error(error, result, begin, source_bytes, capacity);
            *decoded += result;
        }
        begin += frame_bytes;
    }
    if (exact && *decoded != capacity)
        return size_error(error, "wrong decoded size", capacity, *decoded);
    return DAMACY_OK;
}

enum damacy_status dmc_zstd_decode(struct dmc_codec_context *context, const uint8_t *source, uint64_t source_bytes,
                                   uint8_t *target, uint64_t target_bytes, uint64_t need_bytes, struct damacy_error *error)
{
    uint64_t decoded = 0;
    return frames_decode(context, source, source_bytes, target, target_bytes, true, need_bytes, &decoded, error);
}

static enum damacy_status zstd_decode(struct dmc_codec_context *context, struct dmc_codec_job *job, struct damacy_error *error)
{
    uint64_t need_bytes = job->exact && !job->verify_full ? job->need_end : job->target_bytes;
    return frames_decode(context, job->source, job->source_bytes, job->target, job->target_bytes, job->exact, need_bytes,
                         &job->decoded_bytes, error);
}

const struct dmc_codec_ops dmc_codec_zstd_ops = {
    .name = "zstd",
    .partial = true,
    .needs_zstd = true,
    .configure = dmc_codec_configure_nothing,
    .encoded_bytes = dmc_codec_compressed_bytes_max,
    .decode = zstd_decode,
};
