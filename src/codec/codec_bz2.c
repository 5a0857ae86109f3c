/* bz2, by libbz2, one or more streams behind one another. The only file that knows libbz2; without it the codec is not in the
 * table.
 *
 * A decoder takes up to 3.7 MB for each chunk, which comes from the context's arena. */
#include "codec/codec_impl.h"

#ifdef DMC_HAVE_BZ2
#include <bzlib.h>
#include <limits.h>

/* The state, and 4 bytes for each of the at most 900,000 bytes of a block. */
#define BZ2_ARENA_BYTES (3600000u + (128u << 10))

static void *bz2_alloc(void *opaque, int count, int bytes)
{
    if (count < 0 || bytes < 0)
        return NULL;
    return dmc_codec_arena_alloc(opaque, (uint64_t)count * (uint64_t)bytes);
}

static void bz2_free(void *opaque, void *memory)
{
    (void)opaque; /* it goes with the arena */
    (void)memory;
}

static enum damacy_status bz2_error(struct damacy_error *error, const struct dmc_codec_job *job, int code, uint64_t taken)
{
    if (code == BZ_MEM_ERROR)
        return dmc_error_set(error, DAMACY_DECODE, "decode", "bz2: the stream wants more memory than the format allows");
    return dmc_error_set(error, DAMACY_DECODE, "decode", "bz2: the data are %s at byte %llu of %llu (libbz2 answers %d)",
                         code == BZ_OK ? "truncated" : "corrupt", (unsigned long long)taken,
                         (unsigned long long)job->source_bytes, code);
}

/* One stream from byte *taken of the source to byte *decoded of the target. */
static enum damacy_status stream_decode(struct dmc_codec_context *context, struct dmc_codec_job *job, uint64_t *taken,
                                        uint64_t *decoded, struct damacy_error *error)
{
    bz_stream stream = {.bzalloc = bz2_alloc, .bzfree = bz2_free, .opaque = context};
    enum damacy_status status = dmc_codec_arena_begin(context, BZ2_ARENA_BYTES, error);
    if (status)
        return status;
    int code = BZ2_bzDecompressInit(&stream, 0, 0);
    if (code != BZ_OK)
        return bz2_error(error, job, code, *taken);
    while (code == BZ_OK) {
        stream.next_in = (char *)job->source + *taken; /* libbz2 only reads it */
        stream.avail_in = (unsigned)dmc_min_u64(job->source_bytes - *taken, INT_MAX);
        stream.next_out = (char *)job->target + *decoded;
        stream.avail_out = (unsigned)dmc_min_u64(job->target_bytes - *decoded, INT_MAX);
        unsigned in = stream.avail_in, out = stream.avail_out;
        code = BZ2_bzDecompress(&stream);
        *taken += in - stream.avail_in;
        *decoded += out - stream.avail_out;
        if (code == BZ_OK && in == stream.avail_in && out == stream.avail_out)
            break; /* nothing moves: too little source, or no target left */
    }
    BZ2_bzDecompressEnd(&stream);
    if (code == BZ_STREAM_END)
        return DAMACY_OK;
    if (code == BZ_OK && *decoded == job->target_bytes && *taken < job->source_bytes)
        return dmc_codec_size_error(error, "bz2", "wrong decoded size", "", job->target_bytes, UINT64_MAX);
    return bz2_error(error, job, code, *taken);
}

static enum damacy_status bz2_decode(struct dmc_codec_context *context, struct dmc_codec_job *job, struct damacy_error *error)
{
    uint64_t taken = 0, decoded = 0;
    enum damacy_status status = DAMACY_OK;
    do
        status = stream_decode(context, job, &taken, &decoded, error);
    while (!status && taken < job->source_bytes);
    return status ? status : dmc_codec_job_done(job, "bz2", decoded, error);
}

static uint64_t bz2_arena_bytes(const void *config, uint64_t decoded_bytes)
{
    (void)config;
    (void)decoded_bytes;
    return BZ2_ARENA_BYTES;
}

const struct dmc_codec_ops dmc_codec_bz2_ops = {
    .name = "bz2",
    .configure = dmc_codec_configure_nothing,
    .encoded_bytes = dmc_codec_compressed_bytes_max,
    .arena_bytes = bz2_arena_bytes,
    .decode = bz2_decode,
};
#endif
