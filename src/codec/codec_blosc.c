/* blosc (version 1), for every inner codec. The only file that knows c-blosc.
 *
 * Chunks of lz4, zlib and zstd are read by ourselves: with the thread's own decoders instead of new ones for every block, only
 * the blocks and the parts of streams that are needed, and with streams that were stored uncompressed left where they are. For
 * blosclz and snappy libblosc decodes whole chunks (it allocates on each call), behind the same checks of header, table and
 * stream sizes. bench_codec compares the two. The format is in blosc_layout.h. */
#include "codec/blosc_layout.h"
#include "codec/codec_impl.h"
#include "codec/unshuffle.h"
#include <blosc.h>
#include <stdio.h>

#define SPLIT_MAX 16 /* streams of a split block; see dmc_blosc_layout_parse() */

/* One chunk being decoded. */
struct blosc_chunk {
    struct dmc_codec_context *context;
    const struct dmc_blosc_layout *layout;
    const struct dmc_unshuffle_ops *unshuffle;
    const uint8_t *source;
    uint8_t *target;
};

struct blosc_stream {
    const uint8_t *data;
    uint64_t stored_bytes;
};

/* Put "blosc: block 3 of 8: " in front of the message. */
static enum damacy_status block_error(const struct blosc_chunk *chunk, uint64_t block, enum damacy_status status,
                                      struct damacy_error *error)
{
    if (!error)
        return status;
    char where[96];
    int length = snprintf(where, sizeof where, "blosc: block %llu of %llu: ", (unsigned long long)block,
                          (unsigned long long)chunk->layout->block_count);
    size_t kept = strnlen(error->message, sizeof error->message - 1 - (size_t)length);
    memmove(error->message + length, error->message, kept);
    memcpy(error->message, where, (size_t)length);
    error->message[(size_t)length + kept] = 0;
    return status;
}

static enum damacy_status range_error(struct damacy_error *error, const char *what, uint64_t begin, uint64_t end,
                                      uint64_t found)
{
    char expected[64], text[32];
    snprintf(expected, sizeof expected, "%llu to %llu", (unsigned long long)begin, (unsigned long long)end);
    snprintf(text, sizeof text, "%llu", (unsigned long long)found);
    dmc_error_set(error, DAMACY_DECODE, "decode", "wrong %s", what);
    dmc_error_expected(error, expected, text);
    return DAMACY_DECODE;
}

/* Where a block's first stream begins. */
static enum damacy_status block_begin(const struct blosc_chunk *chunk, uint64_t block, uint64_t *position,
                                      struct damacy_error *error)
{
    uint64_t table_end = DMC_BLOSC_HEADER_BYTES + 4 * chunk->layout->block_count;
    *position = dmc_load_u32le(chunk->source + DMC_BLOSC_HEADER_BYTES + 4 * block);
    if (*position < table_end || *position > chunk->layout->stored_bytes)
        return range_error(error, "start", table_end, chunk->layout->stored_bytes, *position);
    return DAMACY_OK;
}

/* The stream at `position`, which moves behind it. */
static enum damacy_status stream_next(const struct blosc_chunk *chunk, uint64_t *position, struct blosc_stream *stream,
                                      struct damacy_error *error)
{
    uint64_t left = chunk->layout->stored_bytes - *position;
    if (left < 4)
        return range_error(error, "position of a stream's size", 0, chunk->layout->stored_bytes - 4, *position);
    stream->stored_bytes = dmc_load_u32le(chunk->source + *position);
    stream->data = chunk->source + *position + 4;
    if (stream->stored_bytes > left - 4)
        return range_error(error, "stored size of a stream", 0, left - 4, stream->stored_bytes);
    *position += 4 + stream->stored_bytes;
    return DAMACY_OK;
}

/* A compressed stream of `target_bytes`, at least its first `need_bytes`. */
static enum damacy_status stream_decode(const struct blosc_chunk *chunk, const struct blosc_stream *stream, uint8_t *target,
                                        uint64_t target_bytes, uint64_t need_bytes, struct damacy_error *error)
{
    switch (chunk->layout->inner) {
    case DMC_BLOSC_LZ4:
        return dmc_lz4_decode(stream->data, stream->stored_bytes, target, target_bytes, error);
    case DMC_BLOSC_ZLIB:
        return dmc_zlib_decode(chunk->context, stream->data, stream->stored_bytes, target, target_bytes, error);
    case DMC_BLOSC_ZSTD:
        return dmc_zstd_decode(chunk->context, stream->data, stream->stored_bytes, target, target_bytes, need_bytes, error);
    default:
        return dmc_error_set(error, DAMACY_INTERNAL, "decode", "inner codec %d has no decoder of ours", chunk->layout->inner);
    }
}

/* A block without filter: each stream is a part of it, decoded in place. [begin, end) is what is needed of the block. */
static enum damacy_status plain_block_decode(const struct blosc_chunk *chunk, uint64_t position, uint8_t *target,
                                             uint32_t stream_count, uint64_t stream_bytes, uint64_t begin, uint64_t end,
                                             struct damacy_error *error)
{
    for (uint32_t i = 0; i < stream_count && i * stream_bytes < end; i++) {
        struct blosc_stream stream;
        enum damacy_status status = stream_next(chunk, &position, &stream, error);
        if (status)
            return status;
        uint64_t part = i * stream_bytes;
        if (part + stream_bytes <= begin)
            continue;
        uint64_t need_begin = begin > part ? begin - part : 0;
        uint64_t need_end = dmc_min_u64(end - part, stream_bytes);
        if (stream.stored_bytes == stream_bytes)
            memcpy(target + part + need_begin, stream.data + need_begin, need_end - need_begin);
        else
            status = stream_decode(chunk, &stream, target + part, stream_bytes, need_end, error);
        if (status)
            return status;
    }
    return DAMACY_OK;
}

/* Undo the filter of a block of which `parts` are the streams: one a byte of the element, or one in all. */
static void block_unfilter(const struct blosc_chunk *chunk, const uint8_t *const *parts, bool split, uint64_t block_bytes,
                           uint64_t begin, uint64_t end, uint8_t *target)
{
    const struct dmc_blosc_layout *layout = chunk->layout;
    const uint8_t *planes[DMC_UNSHUFFLE_TYPESIZE_MAX];
    size_t typesize = layout->typesize, elements = block_bytes / typesize;
    for (size_t b = 0; b < typesize; b++)
        planes[b] = split ? parts[b] : parts[0] + b * elements;
    size_t element_begin = begin / typesize;
    size_t element_end = dmc_min_u64(dmc_ceil_div(end, typesize), elements);
    if (layout->byte_shuffle) {
        if (element_begin < element_end)
            chunk->unshuffle->bytes(planes, typesize, element_begin, element_end, target);
    } else {
        element_begin = element_begin / 8 * 8;
        element_end = dmc_round_up(element_end, 8); /* `elements` is a multiple of 8 */
        if (element_begin < element_end)
            chunk->unshuffle->bits(planes, typesize, elements, element_begin, element_end, target);
    }
    uint64_t tail = elements * typesize; /* what is less than an element was not shuffled; never in split blocks */
    if (end > tail)
        memcpy(target + tail, parts[0] + tail, block_bytes - tail);
}

static enum damacy_status filtered_block_decode(const struct blosc_chunk *chunk, uint64_t position, uint8_t *target,
                                                uint32_t stream_count, uint64_t stream_bytes, uint64_t begin, uint64_t end,
                                                struct damacy_error *error)
{
    const struct dmc_blosc_layout *layout = chunk->layout;
    const uint8_t *parts[SPLIT_MAX];
    uint8_t *block = chunk->context->block.memory;
    bool split = stream_count > 1;
    /* The first elements' bytes are the first of each stream; their bits, or the planes of an unsplit block, are all over it.
     */
    uint64_t need_bytes = split && layout->byte_shuffle ? dmc_ceil_div(end, layout->typesize) : stream_bytes;
    for (uint32_t i = 0; i < stream_count; i++) {
        struct blosc_stream stream;
        enum damacy_status status = stream_next(chunk, &position, &stream, error);
        if (status)
            return status;
        if (stream.stored_bytes == stream_bytes) {
            parts[i] = stream.data;
            continue;
        }
        parts[i] = block + i * stream_bytes;
        status = stream_decode(chunk, &stream, block + i * stream_bytes, stream_bytes, need_bytes, error);
        if (status)
            return status;
    }
    block_unfilter(chunk, parts, split, stream_bytes * stream_count, begin, end, target);
    return DAMACY_OK;
}

static uint64_t block_bytes_at(const struct dmc_blosc_layout *layout, uint64_t block)
{
    return dmc_min_u64(layout->block_bytes, layout->bytes - block * layout->block_bytes);
}

static uint32_t stream_count_at(const struct dmc_blosc_layout *layout, uint64_t block)
{
    return layout->split && block_bytes_at(layout, block) == layout->block_bytes ? layout->typesize : 1;
}

/* The bytes [begin, end) of block `block`. */
static enum damacy_status block_decode(const struct blosc_chunk *chunk, uint64_t block, uint64_t begin, uint64_t end,
                                       struct damacy_error *error)
{
    const struct dmc_blosc_layout *layout = chunk->layout;
    uint64_t position, bytes = block_bytes_at(layout, block);
    uint32_t stream_count = stream_count_at(layout, block);
    uint64_t stream_bytes = bytes / stream_count; /* whole: the layout was checked */
    uint64_t elements = bytes / layout->typesize;
    bool filtered = elements > 0 && (layout->byte_shuffle || (layout->bit_shuffle && elements % 8 == 0));
    uint8_t *target = chunk->target + block * layout->block_bytes;
    enum damacy_status status = block_begin(chunk, block, &position, error);
    if (!status)
        status = (filtered ? filtered_block_decode : plain_block_decode)(chunk, position, target, stream_count, stream_bytes,
                                                                         begin, end, error);
    return status ? block_error(chunk, block, status, error) : DAMACY_OK;
}

static enum damacy_status blocks_decode(const struct blosc_chunk *chunk, uint64_t need_begin, uint64_t need_end,
                                        struct damacy_error *error)
{
    const struct dmc_blosc_layout *layout = chunk->layout;
    if (layout->byte_shuffle || layout->bit_shuffle) {
        enum damacy_status status =
            dmc_codec_buffer_reserve(chunk->context, &chunk->context->block, layout->block_bytes, error);
        if (status)
            return status;
    }
    for (uint64_t block = need_begin / layout->block_bytes; block * layout->block_bytes < need_end; block++) {
        uint64_t block_at = block * layout->block_bytes;
        uint64_t begin = need_begin > block_at ? need_begin - block_at : 0;
        uint64_t end = dmc_min_u64(need_end - block_at, layout->block_bytes);
        enum damacy_status status = block_decode(chunk, block, begin, end, error);
        if (status)
            return status;
    }
    return DAMACY_OK;
}

/* The whole chunk by libblosc, once every stream is known to lie within it. */
static enum damacy_status library_decode(const struct blosc_chunk *chunk, struct damacy_error *error)
{
    const struct dmc_blosc_layout *layout = chunk->layout;
    for (uint64_t block = 0; block < layout->block_count; block++) {
        uint64_t position;
        enum damacy_status status = block_begin(chunk, block, &position, error);
        for (uint32_t i = 0; !status && i < stream_count_at(layout, block); i++) {
            struct blosc_stream stream;
            status = stream_next(chunk, &position, &stream, error);
        }
        if (status)
            return block_error(chunk, block, status, error);
    }
    const char *inner = layout->inner == DMC_BLOSC_SNAPPY ? "snappy" : "blosclz";
    int decoded = blosc_decompress_ctx(chunk->source, chunk->target, layout->bytes, 1);
    if (decoded < 0 || (uint64_t)decoded != layout->bytes)
        return dmc_error_set(error, DAMACY_DECODE, "decode", "blosc: the %s data are corrupt (libblosc answers %d)", inner,
                             decoded);
    return DAMACY_OK;
}

static enum damacy_status size_error(struct damacy_error *error, const char *what, const char *bound, uint64_t expected_bytes,
                                     uint64_t found_bytes)
{
    char expected[64], found[48];
    snprintf(expected, sizeof expected, "%s%llu bytes", bound, (unsigned long long)expected_bytes);
    snprintf(found, sizeof found, "%llu bytes", (unsigned long long)found_bytes);
    dmc_error_set(error, DAMACY_DECODE, "decode", "blosc: header: wrong %s", what);
    dmc_error_expected(error, expected, found);
    return DAMACY_DECODE;
}

static enum damacy_status blosc_decode(struct dmc_codec_context *context, struct dmc_codec_job *job, struct damacy_error *error)
{
    struct dmc_blosc_layout layout;
    enum damacy_status status = dmc_blosc_layout_parse(job->source, job->source_bytes, &layout, error);
    if (status)
        return status;
    if (layout.stored_bytes != job->source_bytes)
        return size_error(error, "stored size (cbytes)", "", job->source_bytes, layout.stored_bytes);
    if (job->exact ? layout.bytes != job->target_bytes : layout.bytes > job->target_bytes)
        return size_error(error, "decoded size (nbytes)", job->exact ? "" : "at most ", job->target_bytes, layout.bytes);
    job->decoded_bytes = layout.bytes;
    bool whole = !job->exact || job->verify_full;
    uint64_t need_begin = whole ? 0 : job->need_begin, need_end = whole ? layout.bytes : job->need_end;
    if (need_begin == need_end)
        return DAMACY_OK;
    if (layout.memcpyed) {
        memcpy(job->target + need_begin, job->source + DMC_BLOSC_HEADER_BYTES + need_begin, need_end - need_begin);
        return DAMACY_OK;
    }
    const struct blosc_chunk chunk = {context, &layout, dmc_unshuffle_best(), job->source, job->target};
    if (layout.inner == DMC_BLOSC_BLOSCLZ || layout.inner == DMC_BLOSC_SNAPPY)
        return library_decode(&chunk, error);
    return blocks_decode(&chunk, need_begin, need_end, error);
}

static bool is_one_of(const char *text, const char *const *names)
{
    for (; *names; names++) {
        if (strcmp(text, *names) == 0)
            return true;
    }
    return false;
}

/* Each chunk's header says how it was made; the configuration is only checked. Version 2 of Zarr numbers the shuffles. */
static enum damacy_status blosc_configure(struct dmc_codec_build *build, dmc_json *configuration, struct damacy_error *error)
{
    static const char *const inners[] = {"blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd", NULL};
    static const char *const shuffles[] = {"noshuffle", "shuffle", "bitshuffle", NULL};
    (void)build;
    const char *text = NULL;
    int64_t number = 0;
    dmc_json *inner = dmc_json_get(configuration, "cname");
    if (inner && (!dmc_json_string(inner, &text, NULL) || !is_one_of(text, inners)))
        return dmc_codec_config_error(error, "blosc", "cname", "blosclz, lz4, lz4hc, snappy, zlib or zstd", inner);
    dmc_json *shuffle = dmc_json_get(configuration, "shuffle");
    if (shuffle && !(dmc_json_string(shuffle, &text, NULL) && is_one_of(text, shuffles)) &&
        !(dmc_json_i64(shuffle, &number) && number >= -1 && number <= 2))
        return dmc_codec_config_error(error, "blosc", "shuffle", "noshuffle, shuffle or bitshuffle", shuffle);
    /* The rest is not looked at. numcodecs 0.16 writes "typesize": null; tensorstore writes one other than the item size. The
     * chunks know better. */
    return DAMACY_OK;
}

const struct dmc_codec_ops dmc_codec_blosc_ops = {
    .name = "blosc",
    .partial = true,
    .picks = true,
    .needs_block = true,
    .needs_zstd = true,
    .needs_deflate = true,
    .configure = blosc_configure,
    .encoded_bytes = dmc_codec_compressed_bytes_max,
    .decode = blosc_decode,
};
