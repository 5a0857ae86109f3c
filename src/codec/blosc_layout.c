#include "codec/blosc_layout.h"
#include "base/bytes.h"
#include "base/error.h"
#include <limits.h>
#include <stdio.h>

#define BLOSC_FORMAT_VERSION 2                             /* of all of c-blosc 1.x; c-blosc2 writes 3 and up */
#define BLOSC_INNER_VERSION 1                              /* of every inner codec so far */
#define BLOSC_BYTES_MAX (INT_MAX - DMC_BLOSC_HEADER_BYTES) /* what c-blosc accepts */
#define BLOSC_SPLIT_TYPESIZE_MAX 16
#define BLOSC_SPLIT_ELEMENTS_MIN 128

enum {
    FLAG_BYTE_SHUFFLE = 0x01,
    FLAG_MEMCPYED = 0x02,
    FLAG_BIT_SHUFFLE = 0x04,
    FLAG_RESERVED = 0x08,
    FLAG_NOT_SPLIT = 0x10,
};

static enum damacy_status header_error(struct damacy_error *error, const char *member, const char *expected, uint64_t found)
{
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)found);
    dmc_error_set(error, DAMACY_DECODE, "decode", "blosc: header: wrong %s", member);
    dmc_error_expected(error, expected, text);
    return DAMACY_DECODE;
}

static enum damacy_status sizes_check(const struct dmc_blosc_layout *layout, struct damacy_error *error)
{
    char expected[64];
    if (layout->typesize == 0)
        return header_error(error, "typesize", "1 to 255", 0);
    if (layout->bytes > BLOSC_BYTES_MAX) {
        snprintf(expected, sizeof expected, "at most %d", BLOSC_BYTES_MAX);
        return header_error(error, "nbytes", expected, layout->bytes);
    }
    if (layout->stored_bytes > INT_MAX) {
        snprintf(expected, sizeof expected, "at most %d", INT_MAX);
        return header_error(error, "cbytes", expected, layout->stored_bytes);
    }
    /* An empty chunk says blocksize 1. */
    if (layout->block_bytes == 0 || (layout->block_bytes > layout->bytes && layout->bytes > 0)) {
        snprintf(expected, sizeof expected, "1 to %llu (nbytes)", (unsigned long long)layout->bytes);
        return header_error(error, "blocksize", expected, layout->block_bytes);
    }
    if (layout->memcpyed || layout->bytes == 0) {
        if (layout->stored_bytes != layout->bytes + DMC_BLOSC_HEADER_BYTES) {
            snprintf(expected, sizeof expected, "%llu (nbytes and header)",
                     (unsigned long long)(layout->bytes + DMC_BLOSC_HEADER_BYTES));
            return header_error(error, "cbytes of an uncompressed chunk", expected, layout->stored_bytes);
        }
        return DAMACY_OK;
    }
    uint64_t table_end = DMC_BLOSC_HEADER_BYTES + 4 * layout->block_count;
    if (layout->stored_bytes < table_end) {
        snprintf(expected, sizeof expected, "at least %llu (header and %llu blocks)", (unsigned long long)table_end,
                 (unsigned long long)layout->block_count);
        return header_error(error, "cbytes", expected, layout->stored_bytes);
    }
    if (layout->split && layout->block_bytes % layout->typesize) {
        snprintf(expected, sizeof expected, "a multiple of typesize %u, as blocks are split", layout->typesize);
        return header_error(error, "blocksize", expected, layout->block_bytes);
    }
    return DAMACY_OK;
}

enum damacy_status dmc_blosc_layout_parse(const void *data, size_t bytes, struct dmc_blosc_layout *layout,
                                          struct damacy_error *error)
{
    const uint8_t *header = data;
    if (bytes < DMC_BLOSC_HEADER_BYTES)
        return dmc_error_set(error, DAMACY_DECODE, "decode", "blosc: %zu bytes are too few for the header of %d", bytes,
                             DMC_BLOSC_HEADER_BYTES);
    if (header[0] != BLOSC_FORMAT_VERSION) {
        if (header[0] > BLOSC_FORMAT_VERSION && header[0] <= 6)
            return dmc_error_set(error, DAMACY_UNSUPPORTED, "decode",
                                 "blosc: format version %u is c-blosc2's, which Zarr's blosc codec does not use", header[0]);
        return header_error(error, "version", "2", header[0]);
    }
    uint32_t flags = header[2];
    uint32_t inner = flags >> 5;
    *layout = (struct dmc_blosc_layout){
        .memcpyed = flags & FLAG_MEMCPYED,
        .typesize = header[3],
        .bytes = dmc_load_u32le(header + 4),
        .block_bytes = dmc_load_u32le(header + 8),
        .stored_bytes = dmc_load_u32le(header + 12),
    };
    if (flags & FLAG_RESERVED)
        return header_error(error, "flags", "the reserved flag 8 to be 0", flags);
    if (!layout->memcpyed) {
        if (inner > DMC_BLOSC_ZSTD)
            return header_error(error, "inner codec", "0 (blosclz), 1 (lz4), 2 (snappy), 3 (zlib) or 4 (zstd)", inner);
        if (header[1] != BLOSC_INNER_VERSION)
            return header_error(error, "inner format version", "1", header[1]);
        layout->inner = (enum dmc_blosc_inner)inner;
        layout->byte_shuffle = (flags & FLAG_BYTE_SHUFFLE) && layout->typesize > 1;
        layout->bit_shuffle = (flags & FLAG_BIT_SHUFFLE) && !layout->byte_shuffle;
        layout->split = !(flags & FLAG_NOT_SPLIT) && layout->bytes > 0 && layout->typesize > 0 &&
                        layout->typesize <= BLOSC_SPLIT_TYPESIZE_MAX &&
                        layout->block_bytes / layout->typesize >= BLOSC_SPLIT_ELEMENTS_MIN;
        if (layout->block_bytes > 0)
            layout->block_count = dmc_ceil_div(layout->bytes, layout->block_bytes);
    }
    return sizes_check(layout, error);
}
