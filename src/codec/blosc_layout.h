/* What the 16-byte header of a blosc (version 1) chunk says, read by us: sizing, picking of blocks, and the GPU need it.
 *
 *     byte 0 version, 1 format version of the inner codec, 2 flags, 3 typesize, 4 nbytes u32, 8 blocksize u32, 12 cbytes u32
 *     flags: 0x1 byte shuffle, 0x2 memcpyed, 0x4 bitshuffle, 0x8 reserved, 0x10 blocks are not split, bits 5-7 inner codec
 *
 * All numbers are little-endian. If memcpyed, the decoded bytes follow, without any filter. Else:
 *
 *     one u32 a block: where its data begin, from the first byte of the chunk; blocks may lie in any order
 *     per block, one or `typesize` streams: u32 stored bytes, then these; as many as the stream decodes to: not compressed
 *
 * Source: c-blosc README_CHUNK_FORMAT.rst, and what libblosc 1.21 was seen to do with made-up chunks:
 *   - the last block is short when blocksize does not divide nbytes, and a short block is never split;
 *   - without flag 0x10 a block is split only if typesize <= 16 and blocksize / typesize >= 128 (chunks from before the flag);
 *   - with both shuffle flags, byte shuffle counts; with typesize 1 it changes nothing;
 *   - byte shuffle: of a block of n elements, all first bytes, all second bytes, ...; bytes behind the n-th element as they
 * are;
 *   - bitshuffle: for each byte of the element, for each of its bits from the lowest, n bits, lowest bit first. Only if n is a
 *     multiple of 8: otherwise the block is not filtered at all. Bytes behind the n-th element as they are. */
#ifndef DMC_BLOSC_LAYOUT_H
#define DMC_BLOSC_LAYOUT_H

#include "damacy/damacy.h"

#define DMC_BLOSC_HEADER_BYTES 16

enum dmc_blosc_inner { DMC_BLOSC_BLOSCLZ = 0, DMC_BLOSC_LZ4 = 1, DMC_BLOSC_SNAPPY = 2, DMC_BLOSC_ZLIB = 3, DMC_BLOSC_ZSTD = 4 };

struct dmc_blosc_layout {
    enum dmc_blosc_inner inner; /* says nothing if memcpyed */
    bool byte_shuffle;          /* to be undone; false where the flag has no effect. At most one of the two is set */
    bool bit_shuffle;
    bool memcpyed;
    bool split; /* each block (but a short last one) is `typesize` streams */
    uint32_t typesize;
    uint64_t bytes;       /* decoded */
    uint64_t block_bytes; /* decoded bytes of a block */
    uint64_t block_count; /* 0 if memcpyed: the table of blocks is not there then */
    uint64_t stored_bytes;
};

/* Parse and check a header; `bytes` is what is there (at least 16 or DECODE). A header that passes can be relied on: sizes are
 * in range and the table of blocks lies within stored_bytes. Chunks of c-blosc2 are UNSUPPORTED. */
enum damacy_status dmc_blosc_layout_parse(const void *data, size_t bytes, struct dmc_blosc_layout *layout,
                                          struct damacy_error *error);

#endif
