/* lz4: blocks, for the codec and for the streams inside blosc. The only file that knows liblz4.
 *
 * The codec is numcodecs': the decoded size as four little-endian bytes, then one block. */
#include "codec/codec_impl.h"
#include <limits.h>
#include <lz4.h>

#define LZ4_HEADER_BYTES 4

enum damacy_status dmc_lz4_decode(const uint8_t *source, uint64_t source_bytes, uint8_t *target, uint64_t target_bytes,
                                  struct damacy_error *error)
{
    /* Always whole: LZ4_decompress_safe_partial() copies the match it stops in byte by byte, and the long runs of shuffled data
     * make that ten times slower than decoding all of it. The callers have checked that the sizes are below INT_MAX. */
    int decoded = LZ4_decompress_safe((const char *)source, (char *)target, (int)source_bytes, (int)target_bytes);
    if (decoded >= 0 && (uint64_t)decoded == target_bytes)
        return DAMACY_OK;
    if (decoded < 0)
        return dmc_error_set(error, DAMACY_DECODE, "decode",
                             "lz4: a stream of %llu bytes is corrupt, or longer than %llu bytes",
                             (unsigned long long)source_bytes, (unsigned long long)target_bytes);
    return dmc_codec_size_error(error, "lz4", "wrong decoded size", "", target_bytes, (uint64_t)decoded);
}

static enum damacy_status lz4_decode(struct dmc_codec_context *context, struct dmc_codec_job *job, struct damacy_error *error)
{
    (void)context;
    if (job->source_bytes < LZ4_HEADER_BYTES)
        return dmc_error_set(error, DAMACY_DECODE, "decode", "lz4: %llu bytes are too few for the header of %d",
                             (unsigned long long)job->source_bytes, LZ4_HEADER_BYTES);
    uint64_t bytes = dmc_load_u32le(job->source), stored_bytes = job->source_bytes - LZ4_HEADER_BYTES;
    enum damacy_status status = dmc_codec_job_done(job, "lz4: header", bytes, error);
    if (status)
        return status;
    if (bytes > LZ4_MAX_INPUT_SIZE || stored_bytes > INT_MAX)
        return dmc_codec_size_error(error, "lz4", "wrong size of a block", "at most ", LZ4_MAX_INPUT_SIZE,
                                    dmc_max_u64(bytes, stored_bytes));
    return dmc_lz4_decode(job->source + LZ4_HEADER_BYTES, stored_bytes, job->target, bytes, error);
}

const struct dmc_codec_ops dmc_codec_lz4_ops = {
    .name = "lz4",
    .configure = dmc_codec_configure_nothing,
    .encoded_bytes = dmc_codec_compressed_bytes_max,
    .decode = lz4_decode,
};
