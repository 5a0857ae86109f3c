/* gzip (RFC 1952) and zlib (RFC 1950) around one raw deflate stream, and the size before an lz4 block: headers and trailers,
 * on the host. The stream itself is for a library behind the launcher, which wants it aligned: so it is copied into scratch
 * memory first, at the speed of memory. The checksum in the trailer is computed on the device. */
#include "base/bytes.h"
#include "decode_emit.h"

#define GZIP_HEADER_BYTES 10
#define GZIP_TRAILER_BYTES 8
#define ZLIB_HEADER_BYTES 2
#define ZLIB_TRAILER_BYTES 4

enum { GZIP_CHECKED = 2, GZIP_EXTRA = 4, GZIP_NAME = 8, GZIP_COMMENT = 16, GZIP_RESERVED = 0xE0 }; /* flags */

/* The byte behind a string that ends with a zero; `end` if none does. */
static uint64_t skip_string(const uint8_t *bytes, uint64_t at, uint64_t end)
{
    while (at < end && bytes[at] != 0)
        at++;
    return at < end ? at + 1 : end;
}

/* Where the deflate stream of the first member begins; 0: not as RFC 1952 says, or with a checksum of the header. */
static uint64_t gzip_stream_at(const uint8_t *bytes, uint64_t count)
{
    if (count < GZIP_HEADER_BYTES || bytes[0] != 0x1F || bytes[1] != 0x8B || bytes[2] != 8 ||
        (bytes[3] & (GZIP_RESERVED | GZIP_CHECKED)) != 0)
        return 0;
    uint64_t at = GZIP_HEADER_BYTES;
    if (bytes[3] & GZIP_EXTRA) {
        if (count - at < 2)
            return 0;
        at += 2ull + bytes[at] + 256u * bytes[at + 1];
    }
    if (bytes[3] & GZIP_NAME)
        at = skip_string(bytes, at, count);
    if (bytes[3] & GZIP_COMMENT)
        at = skip_string(bytes, at, count);
    return at < count ? at : 0;
}

static void emit_stream(struct dmc_gd_emit *emit, const struct dmc_gd_part *part, uint64_t begin, uint64_t end,
                        enum dmc_gd_sum sum, uint32_t expected)
{
    struct dmc_gd_part copy = {
        .source_device = part->source_device + begin,
        .source_bytes = end - begin,
        .target = dmc_gd_emit_scratch(emit, end - begin),
        .need_end = end - begin,
        .in_scratch = true,
    };
    dmc_gd_emit_copy(emit, &copy);
    const struct dmc_gd_part stream = {
        .source_device = copy.target,
        .source_bytes = end - begin,
        .target = part->target,
        .target_bytes = part->target_bytes,
        .in_scratch = part->in_scratch,
    };
    struct dmc_gd_foreign *foreign = dmc_gd_emit_foreign(emit, &stream, DMC_CUDA_FOREIGN_DEFLATE);
    foreign->source_in_scratch = 1;
    foreign->expected = expected;
    foreign->sum = (uint8_t)sum;
}

/* Several members have a size at the end that is not the chunk's, and padding has none: both are for the CPU. */
enum dmc_cuda_verdict dmc_gd_emit_gzip(struct dmc_gd_emit *emit, const struct dmc_gd_part *part)
{
    uint64_t at = gzip_stream_at(part->source, part->source_bytes);
    if (at == 0 || part->source_bytes - at <= GZIP_TRAILER_BYTES || part->source_bytes > UINT32_MAX)
        return DMC_CUDA_UNSUPPORTED;
    uint64_t end = part->source_bytes - GZIP_TRAILER_BYTES;
    uint32_t sum = dmc_load_u32le(part->source + end);
    if (dmc_load_u32le(part->source + end + 4) != part->target_bytes)
        return DMC_CUDA_UNSUPPORTED;
    emit_stream(emit, part, at, end, DMC_GD_SUM_CRC32, sum);
    return DMC_CUDA_OK;
}

enum dmc_cuda_verdict dmc_gd_emit_zlib(struct dmc_gd_emit *emit, const struct dmc_gd_part *part)
{
    const uint8_t *bytes = part->source;
    if (part->source_bytes <= ZLIB_HEADER_BYTES + ZLIB_TRAILER_BYTES || part->source_bytes > UINT32_MAX)
        return DMC_CUDA_DAMAGED;
    uint32_t method = bytes[0], flags = bytes[1];
    if ((method & 15) != 8 || method >> 4 > 7 || (method * 256 + flags) % 31 != 0)
        return DMC_CUDA_DAMAGED;
    if (flags & 32) /* a dictionary */
        return DMC_CUDA_UNSUPPORTED;
    uint64_t end = part->source_bytes - ZLIB_TRAILER_BYTES;
    emit_stream(emit, part, ZLIB_HEADER_BYTES, end, DMC_GD_SUM_ADLER32, __builtin_bswap32(dmc_load_u32le(bytes + end)));
    return DMC_CUDA_OK;
}

enum dmc_cuda_verdict dmc_gd_emit_lz4_sized(struct dmc_gd_emit *emit, const struct dmc_gd_part *part)
{
    const uint64_t header_bytes = 4;
    if (part->source_bytes <= header_bytes || dmc_load_u32le(part->source) != part->target_bytes)
        return DMC_CUDA_DAMAGED;
    struct dmc_gd_part block = *part;
    block.source += header_bytes;
    block.source_bytes -= header_bytes;
    block.source_device += header_bytes;
    return dmc_gd_emit_lz4(emit, &block);
}
