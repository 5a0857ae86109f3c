/* From stored bytes to descriptors: the host's half of decoding on the GPU.
 *
 * One walk serves twice: first it only counts (what does the chunk take?), then, when that much is reserved, it writes. Should
 * the stored bytes have changed in between (a mapped file under somebody's pen), the second walk stops at what was reserved. */
#ifndef DMC_DECODE_EMIT_H
#define DMC_DECODE_EMIT_H

#include "../cuda_decoder.h"
#include "decode_desc.h"
#include <stdbool.h>

enum dmc_gd_kind {
    DMC_GD_UNITS,
    DMC_GD_BLOCKS,
    DMC_GD_LZ4S,
    DMC_GD_COPIES,
    DMC_GD_CHECKSUMS,
    DMC_GD_UNFILTERS,
    DMC_GD_FOREIGNS,
    DMC_GD_KINDS
};
extern const uint32_t dmc_gd_kind_bytes[DMC_GD_KINDS];

struct dmc_gd_counts {
    uint32_t of[DMC_GD_KINDS];
    uint32_t trees;             /* blocks with Huffman-coded literals */
    uint32_t sequence_blocks;   /* blocks with sequences */
    uint32_t plane_block_bytes; /* of a chunk that is left in planes; see struct dmc_cuda_planes */
    uint32_t plane_bits;
    uint64_t scratch_bytes;
    uint64_t sequences;
    uint64_t literals;
};

struct dmc_gd_emit {
    struct dmc_gd_counts now;
    /* When writing; NULL when counting. */
    uint8_t *table;
    const struct dmc_gd_counts *reserved;
    uint64_t first[DMC_GD_KINDS]; /* places in the table, in bytes */
    uint64_t scratch;             /* where the chunk's scratch memory begins */
    uint32_t chunk;
    uint32_t plane_element_bytes; /* 0: not to be left in planes */
    bool foreign;                 /* streams of zstd and lz4 are a library's */
    bool overflow;
    union {
        struct dmc_gd_unit unit;
        struct dmc_gd_block block;
        struct dmc_gd_stream stream;
        struct dmc_gd_checksum checksum;
        struct dmc_gd_unfilter unfilter;
        struct dmc_gd_foreign foreign;
    } nowhere; /* what is emitted while counting */
};

/* The next descriptor of a kind, zeroed. *reference (NULL: not wanted) is its place in the table. */
void *dmc_gd_emit_next(struct dmc_gd_emit *emit, enum dmc_gd_kind kind, uint32_t *reference);
/* Scratch memory, a multiple of 16. */
uint64_t dmc_gd_emit_scratch(struct dmc_gd_emit *emit, uint64_t bytes);

/* Bytes that decode to exactly target_bytes, of which [need_begin, need_end) are wanted. */
struct dmc_gd_part {
    const uint8_t *source;
    uint64_t source_bytes;
    uint64_t source_device;
    uint64_t target;
    uint64_t target_bytes;
    uint64_t need_begin;
    uint64_t need_end;
    bool in_scratch; /* target is an offset into the wave's scratch memory */
};

/* Walk, and emit. OK, UNSUPPORTED or DAMAGED; after the latter two, what was emitted is to be thrown away. */
enum dmc_cuda_verdict dmc_gd_emit_chunk(struct dmc_gd_emit *emit, const struct dmc_cuda_chunk *chunk);
enum dmc_cuda_verdict dmc_gd_emit_zstd(struct dmc_gd_emit *emit, const struct dmc_gd_part *part);
enum dmc_cuda_verdict dmc_gd_emit_blosc(struct dmc_gd_emit *emit, const struct dmc_gd_part *part);
enum dmc_cuda_verdict dmc_gd_emit_gzip(struct dmc_gd_emit *emit, const struct dmc_gd_part *part);
enum dmc_cuda_verdict dmc_gd_emit_zlib(struct dmc_gd_emit *emit, const struct dmc_gd_part *part);
enum dmc_cuda_verdict dmc_gd_emit_lz4_sized(struct dmc_gd_emit *emit, const struct dmc_gd_part *part);
enum dmc_cuda_verdict dmc_gd_emit_lz4(struct dmc_gd_emit *emit, const struct dmc_gd_part *part);
void dmc_gd_emit_copy(struct dmc_gd_emit *emit, const struct dmc_gd_part *part);
/* All of a part, one stream, by the launcher's library; whatever is needed of it. For who has a checksum to fill in. */
struct dmc_gd_foreign *dmc_gd_emit_foreign(struct dmc_gd_emit *emit, const struct dmc_gd_part *part,
                                           enum dmc_cuda_foreign_codec codec);

#endif
