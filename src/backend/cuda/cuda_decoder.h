/* Decoding of stored chunks on the GPU: what the wave engine needs to know of a decoder, and nothing of the CUDA driver.
 *
 * The idea: the host, which has the stored bytes in its cache anyway (it has just read them), walks all headers (frames,
 * blocks, blosc tables) and writes descriptors of fixed size into a table. So the exact scratch memory is known before anything
 * is launched, nothing can overflow on the device, and what the GPU cannot do is known per chunk before it is copied. The
 * device does what takes time: entropy decoding, copying of matches, undoing of the shuffle.
 *
 *     reader threads    dmc_cuda_inspect()      may this chunk go to the GPU, and what does it take there?
 *     reader threads    dmc_cuda_wave_add()     several at once: parse, and write the chunk's descriptors into the wave's table
 *     submitter         dmc_cuda_wave_close()   no more chunks: sort the work, say how many bytes of the table are to be copied
 *                       copy stored bytes and table to the device (one copy each)
 *                       dmc_cuda_wave_enqueue() launches; then copy back the statuses, the first 4 * chunk_count bytes of the
 *                                               table on the device
 *     submitter         a chunk whose status is not 0 is decoded again by the CPU, which is the authority on what is wrong
 *
 * A wave goes from open (begin, add) to closed (close, enqueue) and, when the stream has passed it, to open again (begin).
 * Device memory is given as addresses in uint64_t, streams are CUstream as void *. Nothing here allocates on the device. */
#ifndef DMC_CUDA_DECODER_H
#define DMC_CUDA_DECODER_H

#include "cuda_status.h"
#include "damacy/damacy.h"

#include <stdbool.h>

/* The codec whose bytes are decoded here. Checksums around it (crc32c) are checked and cut off by the caller. */
enum dmc_cuda_format {
    DMC_CUDA_ZSTD,      /* one or more zstd frames; skippable ones, too */
    DMC_CUDA_BLOSC,     /* blosc version 1; inner zstd, lz4, or uncompressed; byte shuffle and bitshuffle are undone */
    DMC_CUDA_LZ4,       /* one bare lz4 block */
    DMC_CUDA_COPY,      /* not compressed: target = stored */
    DMC_CUDA_LZ4_SIZED, /* the decoded size in four bytes, then one lz4 block */
    DMC_CUDA_GZIP,      /* one member; needs launcher.foreign */
    DMC_CUDA_ZLIB,      /* needs launcher.foreign */
};

/* The codecs whose chunks may go to the GPU, by their names in a chain; the last row's codec is NULL. Also for docs/formats.md.
 */
struct dmc_cuda_codec {
    const char *codec;
    enum dmc_cuda_format format;
    bool foreign;     /* needs launcher.foreign */
    const char *note; /* what of it, for people */
};
extern const struct dmc_cuda_codec dmc_cuda_codecs[];
const struct dmc_cuda_codec *dmc_cuda_codec_find(const char *codec); /* NULL: none */

/* May a chunk go to the GPU? What is not OK goes to the CPU (or, if FULL, to the next wave); none is an error of the chunk. */
enum dmc_cuda_verdict {
    DMC_CUDA_OK,
    DMC_CUDA_FULL,        /* dmc_cuda_wave_add() only: no room left in this wave's table, scratch memory or list of chunks */
    DMC_CUDA_UNSUPPORTED, /* sound as far as looked at, but nothing for this decoder: dictionaries, zlib inside blosc, ... */
    DMC_CUDA_DAMAGED,     /* headers that contradict each other or chunk_bytes: the CPU says what is wrong */
};
const char *dmc_cuda_verdict_name(enum dmc_cuda_verdict verdict);

/* Of enum dmc_cuda_status, in cuda_status.h. */
const char *dmc_cuda_status_name(uint32_t status);

/* Leave a shuffled blosc chunk in planes, for whoever loads its elements to put them together (assemble_tile.h). */
struct dmc_cuda_planes {
    uint32_t element_bytes; /* that the reader of the decoded bytes loads; shuffles of other sizes are undone here */
    uint32_t block_bytes;   /* out, of add: elements are shuffled in blocks of so many bytes, of which the last may be shorter;
                             * 0: the decoded bytes are as they should be */
    bool bits;              /* out: bit by bit */
};

/* One stored chunk. Its decoded bytes go to target_device. */
struct dmc_cuda_chunk {
    enum dmc_cuda_format format;
    const uint8_t *stored; /* on the host, for looking at headers; only used during the call */
    uint64_t stored_bytes;
    uint64_t stored_device; /* the same bytes on the device, at any address; 64 bytes before and behind must be readable (other
                             * chunks will do: pad the buffer that holds them at both ends) */
    uint64_t target_device; /* chunk_bytes are written, none outside; a multiple of 16 is best; the bytes up to the next
                             * multiple of 16 must be readable */
    uint64_t chunk_bytes;   /* of the decoded chunk, exactly; at most DMC_CUDA_CHUNK_BYTES_MAX */
    uint64_t need_begin;    /* decoded bytes that must be right afterwards; the others may or may not be written */
    uint64_t need_end;
    struct dmc_cuda_planes *planes; /* NULL: undo every shuffle */
    bool foreign;                   /* streams of zstd and lz4 are for launcher.foreign, too, as far as it can */
};
#define DMC_CUDA_CHUNK_BYTES_MAX (1u << 30)
#define DMC_CUDA_STORED_PAD_BYTES 64

/* What a chunk takes of a wave. */
struct dmc_cuda_cost {
    uint64_t table_bytes;
    uint64_t scratch_bytes;
    uint64_t sequence_count; /* of zstd; what its decoding time follows */
    uint64_t literal_bytes;  /* Huffman-coded ones */
};

/* Look at all headers of a chunk (about 100 ns a zstd block). The device addresses are not looked at.
 * Returns OK and *cost (NULL: not wanted), UNSUPPORTED or DAMAGED. Any bytes are safe. Threads: any. */
enum dmc_cuda_verdict dmc_cuda_inspect(const struct dmc_cuda_chunk *chunk, struct dmc_cuda_cost *cost);

/* How waves should be for chunks of one kind; to size slots by. A wave may hold chunks of any kinds, and fewer or more. */
struct dmc_cuda_advice {
    uint32_t wave_chunks; /* fills the device once; more gain little, fewer cost in proportion */
    uint32_t waves;       /* in flight: with this many, copies hide behind decoding */
    uint64_t table_bytes; /* for wave_chunks: usually enough, and add answers FULL where not */
    uint64_t scratch_bytes;
};
/* stored_bytes: of a usual chunk, 0 if unknown. multiprocessors: of the device. Pure. */
void dmc_cuda_advise(enum dmc_cuda_format format, uint64_t chunk_bytes, uint64_t stored_bytes, uint32_t multiprocessors,
                     struct dmc_cuda_advice *advice);
/* The same for a wave of `chunks`: table and scratch bytes in proportion. */
void dmc_cuda_advise_count(enum dmc_cuda_format format, uint64_t chunk_bytes, uint64_t stored_bytes, uint32_t chunks,
                           struct dmc_cuda_advice *advice);

/* The kernels of the decoder, in the embedded module (symbol dmc_cuda_fatbin), to be found by name once per context. */
enum dmc_cuda_kernel {
    DMC_CUDA_KERNEL_HUFFMAN,
    DMC_CUDA_KERNEL_SEQUENCES,
    DMC_CUDA_KERNEL_EXECUTE_BLOCK,
    DMC_CUDA_KERNEL_EXECUTE_WARP,
    DMC_CUDA_KERNEL_LZ4,
    DMC_CUDA_KERNEL_COPY,
    DMC_CUDA_KERNEL_CHECKSUM,
    DMC_CUDA_KERNEL_UNFILTER,
    DMC_CUDA_KERNEL_FOREIGN_TELL,
    DMC_CUDA_KERNEL_FOREIGN_CHECK,
    DMC_CUDA_KERNEL_COUNT
};
struct dmc_cuda_kernel_info {
    const char *name;          /* extern "C" */
    uint32_t shared_bytes_max; /* dynamic. If above 48 KiB: set MAX_DYNAMIC_SHARED_SIZE_BYTES to the smaller of this and the
                                * device's MAX_SHARED_MEMORY_PER_BLOCK_OPTIN */
    int carveout;              /* PREFERRED_SHARED_MEMORY_CARVEOUT to set, in per cent; -1: none */
};
extern const struct dmc_cuda_kernel_info dmc_cuda_kernels[DMC_CUDA_KERNEL_COUNT];

/* Streams that a library decodes are of these. */
enum dmc_cuda_foreign_codec {
    DMC_CUDA_FOREIGN_DEFLATE, /* raw */
    DMC_CUDA_FOREIGN_ZSTD,    /* one frame each */
    DMC_CUDA_FOREIGN_LZ4,     /* one block each */
    DMC_CUDA_FOREIGN_CODECS
};

/* Streams of one codec for the library: arrays on the device, `count` long. Sources of deflate streams are multiples of 16, and
 * up to 15 bytes behind each may be read; others are anywhere. Statuses are not 0 before, and must be 0 where a stream was
 * decoded. */
struct dmc_cuda_foreign {
    enum dmc_cuda_foreign_codec codec;
    uint32_t count;
    uint64_t sources, source_bytes, capacities; /* u64 each */
    uint64_t decoded;                           /* u64, out */
    uint64_t targets;                           /* u64 */
    uint64_t statuses;                          /* u32, out */
    uint64_t temp, temp_bytes;                  /* memory for the library's own use; 256-byte aligned */
    uint64_t target_bytes_max, target_bytes;    /* of the largest, of all */
};

/* How kernels get to the device: the engine fills this over its driver table; tests run them on the CPU. */
struct dmc_cuda_launcher {
    void *context;
    /* As cuLaunchKernel with one-dimensional grid and block; args point to the kernel's arguments. 0, or the driver's error. */
    int (*launch)(void *context, enum dmc_cuda_kernel kernel, uint32_t grid, uint32_t block, uint32_t shared_bytes,
                  void *stream, void **args);
    /* What is put into `later` from now on starts after what is in `earlier` by now (an event recorded and waited for). May be
     * NULL: then everything goes to one stream. 0, or the driver's error. */
    int (*order)(void *context, void *earlier, void *later);
    /* Decode these streams. A failure of the library is no error: their chunks then have a status. May be NULL: then so have
     * all. 0, or the driver's error. */
    int (*foreign)(void *context, const struct dmc_cuda_foreign *foreign, void *stream);
    uint32_t multiprocessors;
    uint32_t shared_bytes_block; /* most dynamic shared memory of a block (MAX_SHARED_MEMORY_PER_BLOCK_OPTIN) */
};

struct dmc_cuda_wave;

/* A wave of at most chunk_max chunks, with host memory of its own (a few dozen bytes a chunk). OK, OOM. */
enum damacy_status dmc_cuda_wave_create(uint32_t chunk_max, struct dmc_cuda_wave **wave, struct damacy_error *error);
void dmc_cuda_wave_destroy(struct dmc_cuda_wave *wave);

/* Open an empty wave.
 *
 * table           host memory that can be copied from asynchronously (pinned), 16-byte aligned; the wave writes it until close,
 *                 the caller keeps it until the copy is done.
 * scratch_bytes   of device memory that enqueue will be given (256-byte aligned), for this wave alone until it is done. */
void dmc_cuda_wave_begin(struct dmc_cuda_wave *wave, void *table, uint64_t table_bytes, uint64_t scratch_bytes);

/* Put a chunk into an open wave.
 *
 * index           out: its place among the statuses, from 0.
 * Returns OK; FULL (nothing is changed; other chunks may still fit; one for which an empty wave is too small is for the CPU);
 * UNSUPPORTED, DAMAGED. Threads: any, at once; none during begin, close and enqueue. */
enum dmc_cuda_verdict dmc_cuda_wave_add(struct dmc_cuda_wave *wave, const struct dmc_cuda_chunk *chunk, uint32_t *index);

/* What a wave holds; for stats, and for the copies. */
struct dmc_cuda_wave_info {
    uint32_t chunk_count;
    uint64_t table_bytes;   /* to be copied to the device, from the table's beginning */
    uint64_t status_bytes;  /* to be copied back afterwards, from the table's beginning on the device */
    uint64_t scratch_bytes; /* used */
    uint64_t decoded_bytes; /* sum of chunk_bytes */
    uint64_t sequence_count;
};

/* No more chunks: puts lists and statuses (0) into the table. An empty wave is fine: all numbers are 0. */
void dmc_cuda_wave_close(struct dmc_cuda_wave *wave, struct dmc_cuda_wave_info *info);

/* Launch the wave's kernels, after the copies that precede it in `stream`.
 *
 * table_device    where the table was copied to; 256-byte aligned.
 * scratch_device  see begin.
 * side            a second stream for what can run beside; NULL, or a launcher without `order`: all in `stream`. Work in `side`
 * is done when `stream` has passed. Returns 0, or what the launcher returned first (what was launched before it may still run).
 */
int dmc_cuda_wave_enqueue(struct dmc_cuda_wave *wave, const struct dmc_cuda_launcher *launcher, uint64_t table_device,
                          uint64_t scratch_device, void *stream, void *side);

/* The embedded module with all kernels of src/backend/cuda (several architectures and PTX); absent where the build had no nvcc
 * (then DMC_CUDA_KERNELS is not defined). For cuModuleLoadData / cuLibraryLoadData. */
#ifdef DMC_CUDA_KERNELS
extern const unsigned char dmc_cuda_fatbin[];
#endif

#endif
