/* crc32c: the bytes, then their CRC-32C as four little-endian bytes. Always checked; stripping it costs no copy. */
#include "base/crc32c.h"
#include "codec/codec_impl.h"
#include <stdio.h>

#define CRC_BYTES 4

static uint64_t crc32c_encoded_bytes(const void *config, uint64_t decoded_bytes)
{
    (void)config;
    return decoded_bytes > UINT64_MAX - CRC_BYTES ? UINT64_MAX : decoded_bytes + CRC_BYTES;
}

static enum damacy_status crc32c_decode(struct dmc_codec_context *context, struct dmc_codec_job *job,
                                        struct damacy_error *error)
{
    (void)context;
    char expected[48], found[48];
    if (job->source_bytes < CRC_BYTES)
        return dmc_error_set(error, DAMACY_DECODE, "decode", "crc32c: %llu bytes are too few to hold a checksum of 4",
                             (unsigned long long)job->source_bytes);
    uint64_t bytes = job->source_bytes - CRC_BYTES;
    uint32_t stored = dmc_load_u32le(job->source + bytes);
    uint32_t computed = dmc_crc32c(job->source, bytes);
    if (stored != computed) {
        snprintf(expected, sizeof expected, "crc32c 0x%08x (stored)", stored);
        snprintf(found, sizeof found, "0x%08x", computed);
        dmc_error_set(error, DAMACY_DECODE, "decode", "crc32c: checksum mismatch over %llu bytes", (unsigned long long)bytes);
        dmc_error_expected(error, expected, found);
        return DAMACY_DECODE;
    }
    job->view = job->source;
    job->decoded_bytes = bytes;
    return DAMACY_OK;
}

const struct dmc_codec_ops dmc_codec_crc32c_ops = {
    .name = "crc32c",
    .partial = true,
    .is_view = true,
    .configure = dmc_codec_configure_nothing,
    .fixed_size = true,
    .encoded_bytes = crc32c_encoded_bytes,
    .decode = crc32c_decode,
};
