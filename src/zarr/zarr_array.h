/* An array as its metadata describe it: shape, grid, dtype, fill value, codecs. One form for both formats:
 *
 *     Zarr v3   zarr.json: core specification, https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html, its
 *               sharding-indexed codec, and what https://github.com/zarr-developers/zarr-extensions adds
 *     Zarr v2   .zarray: https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html
 *
 * Who reads the struct need not know which it was. zarr_tables.h lists data types, grids and key encodings.
 *
 * Pure: text in, struct out. No files, no threads. */
#ifndef DMC_ZARR_ARRAY_H
#define DMC_ZARR_ARRAY_H

#include "base/codec_desc.h"
#include "base/selection.h"
#include "damacy/damacy.h"

#define DMC_ZARR_CODECS_MAX 16

/* Sharding inside sharding: levels below the one that the planner knows. */
#define DMC_ZARR_NESTING_MAX 4

/* Boundaries of a rectilinear grid, of all axes together. */
#define DMC_ZARR_EDGES_MAX 4096

/* Bytes of the record of a structured dtype. */
#define DMC_ZARR_RECORD_BYTES_MAX (UINT32_C(1) << 20)

/* How chunk coordinates become a key. */
enum dmc_zarr_keys {
    DMC_ZARR_KEYS_DEFAULT, /* "c/0/0"; "c" for rank 0 */
    DMC_ZARR_KEYS_V2,      /* "0.0"; "0" for rank 0 */
    DMC_ZARR_KEYS_FANOUT,  /* "d0/12/34/d1/5/c": each coordinate in digits of base max_children - 1 */
    DMC_ZARR_KEYS_TEMPLATE /* "images/{-1}/{*:04}.jpeg" */
};

struct dmc_zarr_key_encoding {
    enum dmc_zarr_keys kind;
    char separator;     /* default, v2: between coordinates */
    uint32_t base;      /* fanout */
    const char *text;   /* template: its text; else NULL */
    const char *joint;  /* template: what stands between coordinates of {*}; else NULL */
    const char *prefix; /* in front of every key; NULL none */
    const char *suffix; /* behind every key, e.g. ".tiff"; NULL none */
};

/* A list of codecs in the order of encoding, as Zarr v3 has it. Names are those of v3; v2's are "numcodecs.ID". Of v2 the list
 * reads [damacy.member] [transpose] bytes, the filters, the compressor: v2's filters work on bytes.
 *
 * Besides the names that metadata use, there are two that only src/zarr writes, always first in the list:
 *
 *     damacy.widen    {"from":"float8_e4m3fn"}: stored elements of that type, one per byte, become elements of `dtype`
 *     damacy.member   {"record_bytes":N,"offset":o,"item_bytes":m,"endian":"big"}: of each record of N bytes the m at offset o
 *                     are the element; m may be several elements of `dtype` (complex, members with a shape), which then are
 *                     the trailing axes; "endian" is their byte order, missing for single bytes. `bytes` then has no endian.
 *
 * Sharding that is not the outermost level stays a codec, "sharding_indexed". Its configuration is that of the metadata, with
 * the trailing axes of complex numbers and members added to chunk_shape and to inner transposes, and with damacy.widen and
 * damacy.member first in the innermost chain instead of the outer one: so what is around them sees elements of `dtype`. One
 * more member, "damacy.fill", has what absent inner chunks hold: the bytes of the fill value in this machine's order, as
 * hexadecimal digits, fill_count elements. */
struct dmc_zarr_codecs {
    uint32_t count;
    struct dmc_codec_desc list[DMC_ZARR_CODECS_MAX];
};

/* One allocation; immutable once parsed, so any thread may read it.
 *
 * Terms: the *grid chunk* is what one object of the store holds. Without sharding it is the chunk. With sharding it is the
 * shard, and `chunk_shape` is that of the inner chunks; every inner chunk counts, also those past the end of the array.
 *
 * Complex numbers have one more, last, axis of extent 2 (real, imaginary), which lies whole in every chunk; a member of a
 * structured dtype that has a shape has its axes there. They count in rank and in every shape; keys know `key_rank` axes. */
struct dmc_zarr_array {
    uint32_t rank;           /* 0 to DAMACY_RANK_MAX; a rank-0 array parses (and later fails as RANK) */
    uint32_t key_rank;       /* axes that coordinates in keys have; at most rank */
    uint32_t zarr_format;    /* 2 or 3 */
    enum damacy_dtype dtype; /* of the elements once decoded; never NATIVE */
    bool sharded;
    bool index_at_start;   /* sharded: where the index is */
    bool index_crc32c;     /* sharded: 4 bytes of checksum follow the index */
    bool index_big_endian; /* sharded: byte order of the index entries */
    struct dmc_zarr_key_encoding key_encoding;
    const uint64_t *shape;       /* rank extents; may be 0 */
    const uint64_t *chunk_shape; /* of chunks (inner ones when sharded); each at least 1; of a rectilinear grid: the largest */
    const uint64_t *grid_shape;  /* of grid chunks: shards when sharded (the largest), else the same as chunk_shape */
    const uint8_t *shard_order; /* sharded: NULL, or the rank axes from slowest to fastest in which a shard counts its chunks */
    /* Rectilinear grid: rank pointers, each NULL (grid chunks of grid_shape's extent) or edge_counts + 1 rising boundaries of
     * grid chunks, the first 0, the last the first that is not below shape's extent. NULL for regular grids. When sharded they
     * are multiples of chunk_shape, so that inner chunks lie in a regular grid all the same. */
    const uint64_t *const *chunk_edges;
    const uint32_t *edge_counts; /* beside chunk_edges: chunks along an axis that has boundaries */
    uint64_t chunk_elements;     /* product of chunk_shape; times item_bytes it fits 62 bits */
    uint64_t chunks_per_shard;   /* sharded: inner chunks in a shard, where shards differ: at most; else 1 */
    uint32_t item_bytes;         /* of one element of dtype */
    uint32_t fill_count;         /* elements of the fill value: 2 for complex numbers, else 1 */
    uint8_t fill[16];            /* the fill value, in this machine's byte order; with fill_count 2 the last axis alternates */
    const char *data_type;       /* as in the metadata, for people: "uint16", "<u2"; objects as JSON, long ones cut */
    struct dmc_zarr_codecs codecs; /* of the chunks (the inner ones when sharded) */
    uint64_t memory_bytes;         /* of this allocation; at most dmc_zarr_array_memory_max() */
};

/* Parse the text of a zarr.json (dmc_zarr_array_parse) or of a .zarray (dmc_zarr_array_parse_v2).
 *
 * selection  NULL, or what the uri's fragment says; `member` names a member of a structured dtype, "outer.inner" one in a
 * nested one. The rest of it is not for here. array      out: freed with dmc_zarr_array_free(). Returns OK; DECODE (not JSON,
 * or a member missing or wrong: the message names it, what was expected and what was found); UNSUPPORTED by name: a group, the
 * other format, a dtype (strings, objects, raw bits, structured ones without a member named), a grid or key encoding that
 * zarr_tables.h has not, storage transformers, unknown members of zarr.json that do not say
 * must_understand false; more than 31 axes, chunks or shards of more than 2^62 bytes, shards of more than 2^28 chunks, 2^63
 * chunks in all, the limits above, names and configurations of more than 4 KB; INVAL: a member was named that the dtype has
 * not; OOM. Codec names are not looked at here beyond sharding and transpose: src/codec does. */
enum damacy_status dmc_zarr_array_parse(const char *text, size_t bytes, const struct dmc_selection *selection,
                                        struct dmc_zarr_array **array, struct damacy_error *error);
enum damacy_status dmc_zarr_array_parse_v2(const char *text, size_t bytes, const struct dmc_selection *selection,
                                           struct dmc_zarr_array **array, struct damacy_error *error);
void dmc_zarr_array_free(struct dmc_zarr_array *array);

/* The grid chunk along an axis that a position lies in. */
uint64_t dmc_zarr_edge_coordinate(const struct dmc_zarr_array *array, uint32_t axis, uint64_t position);
static inline uint64_t dmc_zarr_grid_coordinate(const struct dmc_zarr_array *array, uint32_t axis, uint64_t position)
{
    if (__builtin_expect(array->chunk_edges != NULL, 0) && array->chunk_edges[axis])
        return dmc_zarr_edge_coordinate(array, axis, position);
    return position / array->grid_shape[axis];
}

/* Where the grid chunk with this coordinate along an axis begins, and how long it is. */
static inline uint64_t dmc_zarr_grid_begin(const struct dmc_zarr_array *array, uint32_t axis, uint64_t coordinate)
{
    const uint64_t *edges = array->chunk_edges ? array->chunk_edges[axis] : NULL;
    return edges ? edges[coordinate] : coordinate * array->grid_shape[axis];
}
static inline uint64_t dmc_zarr_grid_extent(const struct dmc_zarr_array *array, uint32_t axis, uint64_t coordinate)
{
    const uint64_t *edges = array->chunk_edges ? array->chunk_edges[axis] : NULL;
    return edges ? edges[coordinate + 1] - edges[coordinate] : array->grid_shape[axis];
}

/* Inner chunks of the shard at these coordinates; at most chunks_per_shard. */
uint64_t dmc_zarr_shard_chunks(const struct dmc_zarr_array *array, const uint64_t *coordinates);

/* Upper bound of memory_bytes, for reserving before a parse. */
size_t dmc_zarr_array_memory_max(void);

/* Write the key of a grid chunk relative to the array, zero-terminated, e.g. "c/0/3". Reads key_rank coordinates. Returns its
 * length; when that is at least `capacity` the key did not fit. DMC_ZARR_KEY_BYTES_MAX fits every chunk of the grid. */
#define DMC_ZARR_KEY_BYTES_MAX 1024
size_t dmc_zarr_chunk_key(const struct dmc_zarr_array *array, const uint64_t *coordinates, char *key, size_t capacity);

#endif
