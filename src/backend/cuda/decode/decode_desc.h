/* Descriptors that the host writes and kernels read: plain structs, the same for a C compiler and nvcc.
 *
 * All of a wave lies in one table, copied to the device at once:
 *
 *     statuses     one u32 a chunk, 0; kernels write what went wrong
 *     records      a chunk's descriptors, kind by kind; written by dmc_cuda_wave_add()
 *     lists        per kind of work, references to descriptors; written by dmc_cuda_wave_close(), the longest work first
 *
 * A reference is a place in the table in units of 16 bytes. All sizes in here were checked by the host against the chunk's
 * stored and decoded bytes; what only the data themselves can say is checked by the kernels. */
#ifndef DMC_DECODE_DESC_H
#define DMC_DECODE_DESC_H

#include <stdint.h>

#define DMC_GD_BLOCK_BYTES_MAX 131072u /* RFC 8878: decoded bytes of a zstd block */
#define DMC_GD_NO_REF UINT32_MAX
#define DMC_GD_SEQUENCE_BYTES 3u /* in scratch memory; up to 4 bytes behind the last one are read */

enum { DMC_GD_RAW = 0, DMC_GD_RLE = 1, DMC_GD_COMPRESSED = 2 };                                         /* block types */
enum { DMC_GD_LITERALS_RAW = 0, DMC_GD_LITERALS_RLE, DMC_GD_LITERALS_CODED, DMC_GD_LITERALS_TREELESS }; /* RFC's numbers */
enum { DMC_GD_TABLE_DEFAULT = 0, DMC_GD_TABLE_RLE, DMC_GD_TABLE_CODED, DMC_GD_TABLE_REPEAT };
enum { DMC_GD_LITERAL_LENGTH = 0, DMC_GD_OFFSET, DMC_GD_MATCH_LENGTH, DMC_GD_TABLES }; /* the three codes, in RFC's order */

/* One block of a zstd frame. */
struct dmc_gd_block {
    uint64_t source;         /* its content */
    uint64_t literals;       /* where Huffman-coded ones decode to */
    uint64_t kept;           /* scratch: what the serial stage keeps of the sequences for the parallel one, 3 bytes each */
    uint32_t source_bytes;   /* RLE: 1 */
    uint32_t raw_bytes;      /* raw and RLE: decoded bytes */
    uint8_t type;            /* DMC_GD_RAW, ... */
    uint8_t literals_type;   /* DMC_GD_LITERALS_RAW, ... */
    uint8_t stream_count;    /* Huffman streams: 1 or 4 */
    uint8_t modes;           /* of the three tables, two bits each, as stored */
    uint32_t literal_bytes;  /* decoded */
    uint32_t literal_stored; /* tree and streams */
    uint32_t literal_at;     /* from source: tree, or raw literals, or the RLE byte */
    uint32_t table_at;       /* from source: the tables; the sequences' bits are what follows them */
    uint32_t sequence_count;
    uint32_t tree;                  /* reference to the block that holds the tree */
    uint32_t tables[DMC_GD_TABLES]; /* and to those that define the three tables */
    uint32_t chunk;                 /* whose status to write */
    uint32_t frame_first;           /* 1: history and offsets begin anew */
    int32_t first_bit;              /* written on the device: bit position, from source, of the first sequence */
    uint32_t literals_in_scratch;   /* literals is an offset into the scratch memory */
    uint32_t literals_placed; /* 1: no sequences, and literals is the block's place in the target: all is done with them */
    uint32_t reserved;
};

/* Blocks that decode one after another into one place: a frame, or several of unknown size. */
struct dmc_gd_unit {
    uint64_t target;
    uint32_t target_bytes; /* exactly what all blocks decode to; more is never written */
    uint32_t need_bytes;   /* may stop once this many are there */
    uint32_t blocks;       /* reference to the first; the others follow */
    uint32_t block_count;
    uint32_t chunk;
    uint32_t in_scratch; /* target is an offset into the scratch memory */
    uint32_t cut;        /* 1: the last blocks were left out, so the sum of all is not known */
    uint32_t sequence_count;
    uint32_t reserved[2];
};

/* An lz4 stream, or bytes to be copied. */
struct dmc_gd_stream {
    uint64_t source;
    uint64_t target;
    uint32_t source_bytes;
    uint32_t target_bytes;
    uint32_t need_bytes;
    uint32_t chunk;
    uint32_t in_scratch;
    uint32_t reserved[3];
};

/* XXH64 of decoded bytes: the content checksum of a zstd frame is its lower half. */
struct dmc_gd_checksum {
    uint64_t target;
    uint32_t target_bytes;
    uint32_t expected;
    uint32_t chunk;
    uint32_t in_scratch;
    uint32_t reserved[2];
};

/* A part of a shuffled blosc block: elements [begin, end) from scratch to the chunk. */
struct dmc_gd_unfilter {
    uint64_t source; /* scratch: the block */
    uint64_t target; /* of the block */
    uint32_t typesize;
    uint32_t elements; /* of the block */
    uint32_t begin, end;
    uint32_t bits;       /* 1: bitshuffle; begin, end and elements are multiples of 8 */
    uint32_t tail_bytes; /* behind the last element, to be copied as they are; 0 but in a block's last part */
    uint32_t chunk;
    uint32_t reserved;
};

/* A stream that a library decodes, and what is checked afterwards. */
struct dmc_gd_foreign {
    uint64_t source;
    uint64_t target;
    uint32_t source_bytes;
    uint32_t target_bytes;                        /* exactly */
    uint32_t expected;                            /* of the decoded bytes */
    uint8_t sum;                                  /* enum dmc_gd_sum */
    uint8_t codec;                                /* enum dmc_cuda_foreign_codec */
    uint8_t source_in_scratch, target_in_scratch; /* these are offsets into the scratch memory */
    uint32_t chunk;
    uint32_t reserved[3];
};
enum dmc_gd_sum { DMC_GD_SUM_CRC32, DMC_GD_SUM_ADLER32, DMC_GD_SUM_NONE };

/* Behind each list of foreign descriptors the table has room for what the library takes, an array each, written on the device:
 * five of u64 (source, its bytes, room in the target, bytes decoded, target) and one of u32 (status). */
#define DMC_GD_FOREIGN_ARRAYS(list, count) (((uint64_t)(list) + 4ull * (count) + 15) / 16 * 16)
#define DMC_GD_FOREIGN_ARRAY_BYTES 44u /* a stream */

/* What every kernel gets, by value. */
struct dmc_gd_job {
    uint64_t table;
    uint64_t scratch;
    uint32_t list; /* place in the table, in bytes, of the references to be done */
    uint32_t count;
    uint32_t group;        /* blocks that one warp decodes at a time: 1, 2, 4 or 8 */
    uint32_t window_bytes; /* EXECUTE_BLOCK: the largest unit, at most DMC_GD_BLOCK_BYTES_MAX */
};

#ifdef __cplusplus
#define DMC_GD_ASSERT_SIZE(type, bytes) static_assert(sizeof(type) == bytes, #type)
#else
#define DMC_GD_ASSERT_SIZE(type, bytes) _Static_assert(sizeof(type) == bytes, #type)
#endif
DMC_GD_ASSERT_SIZE(struct dmc_gd_block, 96);
DMC_GD_ASSERT_SIZE(struct dmc_gd_unit, 48);
DMC_GD_ASSERT_SIZE(struct dmc_gd_stream, 48);
DMC_GD_ASSERT_SIZE(struct dmc_gd_checksum, 32);
DMC_GD_ASSERT_SIZE(struct dmc_gd_unfilter, 48);
DMC_GD_ASSERT_SIZE(struct dmc_gd_foreign, 48);
DMC_GD_ASSERT_SIZE(struct dmc_gd_job, 32);

/* Shared memory, in 32-bit words. */
#define DMC_GD_HUFFMAN_WORDS 1172u  /* a block: the tree's table (11 bits), then a ring for each of four streams */
#define DMC_GD_SEQUENCE_WORDS 2816u /* a block: three tables (9, 8 and 9 bits), then the ring */
#define DMC_GD_EXECUTE_THREADS 1024u
#define DMC_GD_FOREIGN_THREADS 256u
/* EXECUTE_BLOCK: the block being made, a bit for each of its bytes, and working space. */
#define DMC_GD_WINDOW(bytes) ((((bytes) < DMC_GD_BLOCK_BYTES_MAX ? (bytes) : DMC_GD_BLOCK_BYTES_MAX) + 31u) / 32u * 32u + 32u)
#define DMC_GD_EXECUTE_SHARED(bytes)                                                                                           \
    (DMC_GD_WINDOW(bytes) + 64u + DMC_GD_WINDOW(bytes) / 8u + 64u + (96u + 5u * DMC_GD_EXECUTE_THREADS + 160u) * 4u)

#endif
