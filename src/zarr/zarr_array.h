/* An array as its metadata describe it: shape, grid, dtype, fill value, codecs. Zarr v3 core specification,
 * https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html, and its sharding-indexed codec.
 *
 * Pure: text in, struct out. No files, no threads. */
#ifndef DMC_ZARR_ARRAY_H
#define DMC_ZARR_ARRAY_H

#include "base/codec_desc.h"
#include "damacy/damacy.h"

#define DMC_ZARR_CODECS_MAX 16

/* How chunk coordinates become a key. */
struct dmc_zarr_key_encoding {
    bool v2;        /* v2: "0.0", no prefix, "0" for rank 0; default: "c/0/0", "c" for rank 0 */
    char separator; /* '/' or '.' */
};

/* A list of codecs in the order of encoding. */
struct dmc_zarr_codecs {
    uint32_t count;
    struct dmc_codec_desc list[DMC_ZARR_CODECS_MAX];
};

/* One allocation; immutable once parsed, so any thread may read it.
 *
 * Terms: the *grid chunk* is what one object of the store holds. Without sharding it is the chunk. With sharding it is the
 * shard, and `chunk_shape` is that of the inner chunks; every inner chunk counts, also those past the end of the array. */
struct dmc_zarr_array {
    uint32_t rank;             /* 0 to DAMACY_RANK_MAX; a rank-0 array parses (and later fails as RANK) */
    enum damacy_dtype dtype;   /* of the stored elements; never NATIVE */
    bool sharded;
    bool index_at_start;       /* sharded: where the index is */
    bool index_crc32c;         /* sharded: 4 bytes of checksum follow the index */
    bool index_big_endian;     /* sharded: byte order of the index entries */
    struct dmc_zarr_key_encoding key_encoding;
    const uint64_t *shape;       /* rank extents; may be 0 */
    const uint64_t *chunk_shape; /* of chunks (inner ones when sharded); each at least 1 */
    const uint64_t *grid_shape;  /* of grid chunks: shards when sharded, else the same as chunk_shape */
    uint64_t chunk_elements;     /* product of chunk_shape; times item_bytes it fits 62 bits */
    uint64_t chunks_per_shard;   /* sharded: inner chunks in a shard; else 1 */
    uint32_t item_bytes;
    uint8_t fill[8];             /* the fill value as one element, in this machine's byte order */
    struct dmc_zarr_codecs codecs; /* of the chunks (the inner ones when sharded) */
    uint64_t memory_bytes;       /* of this allocation; at most dmc_zarr_array_memory_max() */
};

/* Parse the text of a zarr.json.
 *
 * array  out: freed with dmc_zarr_array_free().
 * Returns OK; DECODE (not JSON, or a member missing or wrong: the message names it, what was expected and what was found);
 * UNSUPPORTED (a group, v2, another grid, dtype, key encoding, extension with must_understand, storage transformer, nested
 * sharding, codecs around sharding: by name; more than 31 axes, chunks or shards of more than 2^62 bytes, shards of more than 2^28
 * chunks, 2^63 chunks in all); OOM. Codec names are not looked at here beyond sharding: src/codec does. */
enum damacy_status dmc_zarr_array_parse(const char *text, size_t bytes, struct dmc_zarr_array **array,
                                        struct damacy_error *error);
void dmc_zarr_array_free(struct dmc_zarr_array *array);

/* Upper bound of memory_bytes, for reserving before a parse. Longer codec configurations are UNSUPPORTED. */
size_t dmc_zarr_array_memory_max(void);

/* Write the key of a grid chunk relative to the array, zero-terminated, e.g. "c/0/3". Returns its length; when that is at least
 * `capacity` the key did not fit. DMC_ZARR_KEY_BYTES_MAX always fits. */
#define DMC_ZARR_KEY_BYTES_MAX 704
size_t dmc_zarr_chunk_key(const struct dmc_zarr_array *array, const uint64_t *coordinates, char *key, size_t capacity);

#endif
