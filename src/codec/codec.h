/* The codec chain of an array: from the stored bytes of a chunk back to its elements.
 *
 * A chain is built once an array from the metadata's list and then shared, immutable, by all threads. What a thread needs for
 * decoding (zstd and libdeflate contexts, scratch) is in its own dmc_codec_context, made lazily and reused for ever: c-blosc
 * and one-shot calls of the libraries would allocate per chunk. One file a codec or family; codec_table.c lists them.
 *
 * Where possible transpose and the byte order of `bytes` are not executed: they are reported as facts of the chain (the order
 * of axes in memory, swap), and assemble folds them into its copy. What decode runs, as steps, are the codecs of bytes, and
 * those of arrays that change values or the layout of elements (delta, packed bits, a member of a record, shards inside chunks,
 * ...); then transposes and swaps below such a step are steps, too. Elementwise steps hand needed ranges down, so that they
 * cost what is needed. */
#ifndef DMC_CODEC_H
#define DMC_CODEC_H

#include "base/budget.h"
#include "base/codec_desc.h"
#include "damacy/damacy.h"

/* Chains within one another, as sharding nests: that of the array and up to four below. */
#define DMC_CODEC_LEVELS 5

/* The parts of what a context holds, each of which grows to the most that any chain needs of it: so what several chains may
 * take of one context is the sum of the largest parts, not the largest sum. */
enum dmc_codec_scratch_part {
    DMC_CODEC_SCRATCH_BETWEEN = 0,                  /* outputs of steps: two a level */
    DMC_CODEC_SCRATCH_INNER = 2 * DMC_CODEC_LEVELS, /* one a level */
    DMC_CODEC_SCRATCH_BLOCK = 3 * DMC_CODEC_LEVELS,
    DMC_CODEC_SCRATCH_ARENA,
    DMC_CODEC_SCRATCH_ZSTD,
    DMC_CODEC_SCRATCH_DEFLATE,
    DMC_CODEC_SCRATCH_COUNT
};

struct dmc_codec_scratch {
    uint64_t bytes[DMC_CODEC_SCRATCH_COUNT];
};

/* Raise each part of `scratch` to that of `other`. */
void dmc_codec_scratch_raise(struct dmc_codec_scratch *scratch, const struct dmc_codec_scratch *other);
/* Is no part of `scratch` above that of `other`? */
bool dmc_codec_scratch_within(const struct dmc_codec_scratch *scratch, const struct dmc_codec_scratch *other);
/* All parts; saturates. */
uint64_t dmc_codec_scratch_sum(const struct dmc_codec_scratch *scratch);

struct dmc_codec_chain {
    bool raw;             /* nothing to decode and nothing to check: any byte range of a chunk may be used as it was read */
    bool swap;            /* elements lie in the other byte order than this machine's */
    bool partial;         /* decode can stop early or pick blocks: need_begin and need_end save work */
    bool picks;           /* decode leaves out what lies before need_begin: parts far from each other are cheaper apart */
    bool shaped;          /* a step depends on chunk_shape: chunks of other shapes (rectilinear grids) cannot be decoded */
    uint64_t chunk_bytes; /* of a decoded chunk */
    uint64_t array_bytes; /* what was compressed: differs from chunk_bytes where elements are stored in another size */
    bool stored_exact;    /* no codec compresses: a stored chunk has just stored_bytes_max */
    uint64_t
        stored_bytes_max; /* a stored chunk longer than this is damaged (generous: worst case of every codec, with slack) */
    struct dmc_codec_scratch scratch; /* most memory that a context may need beside input and output for a chunk of this chain;
                                       * what it takes is less where blosc blocks are shorter than their chunk */
    uint64_t scratch_bytes;           /* the sum of it */
    int64_t strides[DAMACY_RANK_MAX + 1]; /* in elements: of each of the array's axes within the decoded chunk */
    uint8_t axes[DAMACY_RANK_MAX + 1]; /* axes[i]: which of the array's axes is axis i of the decoded chunk, outermost first */
    uint64_t memory_bytes;             /* of this allocation, and of what hangs on it */
    struct dmc_codec_step *steps;      /* private to src/codec: in order of decoding */
    uint32_t step_count;
};

/* Upper bound of a chain's memory_bytes. */
size_t dmc_codec_chain_memory_max(void);

/* Build a chain.
 *
 * descs, count       in the order of encoding, as in the metadata (without the sharding_indexed that is a level of the grid).
 * dtype              of the elements.
 * rank, chunk_shape  of the chunk.
 * chain              out: freed with dmc_codec_chain_free().
 * Returns OK; UNSUPPORTED naming a codec that this build does not read, or one whose settings it does not; DECODE naming the
 * codec and the member of its configuration that is wrong, or codecs in an impossible order (bytes->bytes before `bytes`, two
 * of `bytes`, none); OOM. */
enum damacy_status dmc_codec_chain_create(const struct dmc_codec_desc *descs, uint32_t count, enum damacy_dtype dtype,
                                          uint32_t rank, const uint64_t *chunk_shape, struct dmc_codec_chain **chain,
                                          struct damacy_error *error);
void dmc_codec_chain_free(struct dmc_codec_chain *chain);

/* Name of what is undone as step number `step`, from 0 (nearest to the store); NULL behind the last. For backends with decoders
 * of their own. Codecs that are the same have one name, e.g. "zstd" for numcodecs.zstd, too. */
const char *dmc_codec_step_name(const struct dmc_codec_chain *chain, uint32_t step);

/* Decoder state of one thread. Memory grows to what the chains need and is drawn from `budget` (NULL: unbounded). */
struct dmc_codec_context;
enum damacy_status dmc_codec_context_create(struct dmc_budget *budget, struct dmc_codec_context **context,
                                            struct damacy_error *error);
void dmc_codec_context_destroy(struct dmc_codec_context *context);

/* One chunk to decode. */
struct dmc_decode {
    const uint8_t *source; /* the stored bytes */
    uint64_t source_bytes;
    uint8_t *target;      /* chunk_bytes are writable; bytes outside [need_begin, need_end) may or may not be written */
    uint64_t need_begin;  /* decoded bytes that must be right afterwards */
    uint64_t need_end;    /* at most chunk_bytes */
    bool verify_full;     /* decode and check everything */
    uint64_t chunk_bytes; /* 0: the chain's; else of a chunk of a rectilinear grid, at most the chain's */
};

/* Decode. `source` is untouched and may be at any address.
 *
 * Returns OK; DECODE (what is wrong with the bytes, with expected and found; a decoded size other than chunk_bytes);
 * UNSUPPORTED (a zstd dictionary, a chunk of c-blosc2); OOM; BUDGET. Any byte string is safe: no access outside the buffers,
 * time and memory bounded by chunk_bytes. A checksum is always checked: that of a frame by decoding it whole, that of crc32c
 * and its like before what it covers is decoded, as far as needed. Allocates only when the context meets a kind of decoder, or
 * a size of scratch, for the first time; blosc chunks of blosclz and snappy are the exception, as libblosc allocates on every
 * call. What codecs of users do is theirs. */
enum damacy_status dmc_codec_decode(const struct dmc_codec_chain *chain, struct dmc_codec_context *context,
                                    const struct dmc_decode *decode, struct damacy_error *error);

/* Names of the codecs that are read, in the table's order; NULL at the end. For messages; codec_tables.h tells more. */
const char *dmc_codec_name(uint32_t index);

#endif
