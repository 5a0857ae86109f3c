/* What the 16-byte header of a blosc (version 1) chunk says, read by us: sizing, picking of blocks, and the GPU need it.
 *
 *     byte 0 version, 1 format version of the inner codec, 2 flags, 3 typesize, 4 nbytes u32, 8 blocksize u32, 12 cbytes u32
 *     flags: 0x1 byte shuffle, 0x2 memcpyed, 0x4 bitshuffle, 0x10 blocks are not split, bits 5-7 inner codec
 *
 * Source: c-blosc README_CHUNK_FORMAT.rst. Then (unless memcpyed) one u32 a block with the offset of its data. */
#ifndef DMC_BLOSC_LAYOUT_H
#define DMC_BLOSC_LAYOUT_H

#include "damacy/damacy.h"

#define DMC_BLOSC_HEADER_BYTES 16

enum dmc_blosc_inner { DMC_BLOSC_BLOSCLZ = 0, DMC_BLOSC_LZ4 = 1, DMC_BLOSC_SNAPPY = 2, DMC_BLOSC_ZLIB = 3, DMC_BLOSC_ZSTD = 4 };

struct dmc_blosc_layout {
    enum dmc_blosc_inner inner;
    bool byte_shuffle;
    bool bit_shuffle;
    bool memcpyed;
    bool split;           /* each block (but a short last one) is `typesize` streams */
    uint32_t typesize;
    uint64_t bytes;       /* decoded */
    uint64_t block_bytes; /* decoded bytes of a block */
    uint64_t stored_bytes;
};

/* Parse and check a header; `bytes` is what is there (at least 16 or DECODE). */
enum damacy_status dmc_blosc_layout_parse(const void *data, size_t bytes, struct dmc_blosc_layout *layout, struct damacy_error *error);

#endif
