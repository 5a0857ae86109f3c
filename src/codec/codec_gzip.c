/* gzip, zlib (also the streams inside blosc) and two checksums, by libdeflate. The only file that knows libdeflate.
 *
 * A gzip chunk may be several members behind one another, as the format allows; zero bytes after the last are padding. Each
 * member has a CRC-32, so that a chunk is always decoded whole. */
#include "base/mem.h"
#include "codec/codec_impl.h"
#include <libdeflate.h>

/* libdeflate does not say how large its state is; 1.14 takes about 11 KiB. */
#define DEFLATE_CONTEXT_BYTES (16u << 10)

uint64_t dmc_deflate_context_bytes(void)
{
    return DEFLATE_CONTEXT_BYTES;
}

static enum damacy_status deflate_prepare(struct dmc_codec_context *context, struct damacy_error *error)
{
    if (context->deflate)
        return DAMACY_OK;
    enum damacy_status status = dmc_codec_budget_reserve(context, DEFLATE_CONTEXT_BYTES, error);
    if (status)
        return status;
    context->deflate = libdeflate_alloc_decompressor();
    if (!context->deflate) {
        dmc_codec_budget_unreserve(context, DEFLATE_CONTEXT_BYTES);
        return dmc_error_set(error, DAMACY_OOM, "decode", "no memory for a deflate decoder");
    }
    context->deflate_bytes = DEFLATE_CONTEXT_BYTES;
    return DAMACY_OK;
}

void dmc_deflate_deinit(struct dmc_codec_context *context)
{
    libdeflate_free_decompressor(context->deflate);
    dmc_codec_budget_unreserve(context, context->deflate_bytes);
    context->deflate = NULL;
    context->deflate_bytes = 0;
}

uint32_t dmc_deflate_crc32(const void *data, size_t bytes)
{
    return libdeflate_crc32(0, data, bytes);
}

uint32_t dmc_deflate_adler32(const void *data, size_t bytes)
{
    return libdeflate_adler32(1, data, bytes);
}

/* One zlib stream into at most `capacity` bytes. */
static enum damacy_status stream_decode(struct dmc_codec_context *context, const uint8_t *source, uint64_t source_bytes,
                                        uint8_t *target, uint64_t capacity, uint64_t *decoded_bytes, struct damacy_error *error)
{
    enum damacy_status status = deflate_prepare(context, error);
    if (status)
        return status;
    size_t taken = 0, decoded = 0;
    switch (libdeflate_zlib_decompress_ex(context->deflate, source, source_bytes, target, capacity, &taken, &decoded)) {
    case LIBDEFLATE_SUCCESS:
        if (taken != source_bytes)
            return dmc_error_set(error, DAMACY_DECODE, "decode", "zlib: the stream ends after %zu of its %llu bytes", taken,
                                 (unsigned long long)source_bytes);
        break;
    case LIBDEFLATE_INSUFFICIENT_SPACE:
        return dmc_codec_size_error(error, "zlib", "wrong decoded size", "", capacity, UINT64_MAX);
    default:
        return dmc_error_set(error, DAMACY_DECODE, "decode", "zlib: the data are truncated, corrupt or fail their checksum");
    }
    *decoded_bytes = decoded;
    return DAMACY_OK;
}

enum damacy_status dmc_zlib_decode(struct dmc_codec_context *context, const uint8_t *source, uint64_t source_bytes,
                                   uint8_t *target, uint64_t target_bytes, struct damacy_error *error)
{
    uint64_t decoded = 0;
    enum damacy_status status = stream_decode(context, source, source_bytes, target, target_bytes, &decoded, error);
    if (status || decoded == target_bytes)
        return status;
    return dmc_codec_size_error(error, "zlib", "wrong decoded size", "", target_bytes, decoded);
}

static enum damacy_status zlib_decode(struct dmc_codec_context *context, struct dmc_codec_job *job, struct damacy_error *error)
{
    uint64_t decoded = 0;
    enum damacy_status status =
        stream_decode(context, job->source, job->source_bytes, job->target, job->target_bytes, &decoded, error);
    return status ? status : dmc_codec_job_done(job, "zlib", decoded, error);
}

static bool all_zero(const uint8_t *bytes, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        if (bytes[i])
            return false;
    }
    return true;
}

static enum damacy_status gzip_decode(struct dmc_codec_context *context, struct dmc_codec_job *job, struct damacy_error *error)
{
    enum damacy_status status = deflate_prepare(context, error);
    if (status)
        return status;
    uint64_t begin = 0, decoded = 0;
    for (uint32_t member = 0; begin < job->source_bytes || member == 0; member++) {
        size_t member_bytes = 0, member_decoded = 0;
        if (member > 0 && job->source[begin] == 0 && all_zero(job->source + begin, job->source_bytes - begin))
            break;
        switch (libdeflate_gzip_decompress_ex(context->deflate, job->source + begin, job->source_bytes - begin,
                                              job->target + decoded, job->target_bytes - decoded, &member_bytes,
                                              &member_decoded)) {
        case LIBDEFLATE_SUCCESS:
            break;
        case LIBDEFLATE_INSUFFICIENT_SPACE:
            return dmc_codec_size_error(error, "gzip", "wrong decoded size", "", job->target_bytes, UINT64_MAX);
        default:
            return dmc_error_set(error, DAMACY_DECODE, "decode",
                                 "gzip: the member at byte %llu of %llu is truncated, corrupt or fails its checksum",
                                 (unsigned long long)begin, (unsigned long long)job->source_bytes);
        }
        begin += member_bytes;
        decoded += member_decoded;
    }
    return dmc_codec_job_done(job, "gzip", decoded, error);
}

const struct dmc_codec_ops dmc_codec_gzip_ops = {
    .name = "gzip",
    .needs_deflate = true,
    .configure = dmc_codec_configure_nothing,
    .encoded_bytes = dmc_codec_compressed_bytes_max,
    .decode = gzip_decode,
};

const struct dmc_codec_ops dmc_codec_zlib_ops = {
    .name = "zlib",
    .needs_deflate = true,
    .configure = dmc_codec_configure_nothing,
    .encoded_bytes = dmc_codec_compressed_bytes_max,
    .decode = zlib_decode,
};
