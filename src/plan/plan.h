/* The plan of one batch: which bytes to read, which chunks they hold, which pieces of them go where.
 *
 * Pure functions over plain structs: no threads, files or devices. Everything lives in the arena that is given.
 *
 *     samples' boxes --(grid)--> pieces, grouped by chunk --(shard index)--> byte ranges --(sort, coalesce)--> reads
 *
 * Each chunk appears once however many samples share it, and so is read and decoded once. Order is deterministic: reads are
 * sorted by (object, offset), chunks by their place in the reads, pieces of a chunk by (row, field).
 *
 * A chunk which a batch under way is going to decode anyway (its *host*) is a *guest*: it has a read of its own, behind the
 * others, which is started only if the host cannot be had. Behind them are reads of chunks that an earlier batch has decoded
 * and that were *kept*, which are not read at all. The other reads are the same as without hosts, but for those that would hold
 * nothing but guests and kept chunks.
 *
 * Raw chunks (nothing to decode or check) are cut: only the spans of rows that a sample needs are read; each span is a chunk
 * entry of its own with part_begin > 0 possible. */
#ifndef DMC_PLAN_H
#define DMC_PLAN_H

#include "base/arena.h"
#include "damacy/damacy.h"
#include "zarr/shard_index.h"
#include "zarr/zarr_array.h"

/* --- input --- */

/* What the planner asks about one array. The same array must be the same pointer within a plan. */
struct dmc_plan_array {
    const struct dmc_zarr_array *zarr;
    const int64_t *strides; /* codec chain: elements, per axis, within a decoded chunk (transposed chunks are not C order) */
    bool raw;               /* codec chain: any byte range may be used as read */
    const uint8_t *axes; /* codec chain: axes[i] is the axis at place i of a decoded chunk, outermost first; NULL: C order. Used
                          * where chunks differ in shape, and `strides` are those of the largest */
    uint64_t stored_bytes_max;        /* codec chain */
    uint64_t coalesce_gap_bytes;      /* of the array's store, instead of both gaps of the options; 0: those of the options */
    uint64_t coalesce_read_bytes_max; /* likewise */
    const char *path; /* for messages: in front of the keys of its objects; "" or NULL: nothing, "0": a group led there */
    void *user;       /* comes back in dmc_chunk.array->user */
};

/* A row of a field. Samples that failed before are not passed. */
struct dmc_plan_region {
    uint32_t row;
    uint32_t field;
    const struct dmc_plan_array *array;
    const struct damacy_interval *aabb; /* rank intervals, checked: inside the array, sizes as the field's sample shape */
};

/* A field's tensor: C order, [rows, sample_shape...]. */
struct dmc_plan_field {
    uint32_t rank; /* without the batch axis */
    const int64_t *sample_shape;
    uint32_t output_item_bytes;
};

/* A chunk that must be decoded, and what a batch needs of it. It is the same chunk where the array's metadata are the same
 * object in memory, and its place in the array and that of its bytes are the same: an array that was described anew, or an
 * index that tells another place, makes it another one. */
struct dmc_chunk_ask {
    const struct dmc_plan_array *array;
    uint64_t index;        /* as in struct dmc_chunk; there is one */
    uint64_t offset;       /* of the stored bytes in their object */
    uint64_t stored_bytes; /* as in struct dmc_chunk */
    uint64_t need_begin;
    uint64_t need_end;
};

/* Who else decodes a chunk, or has decoded it. */
struct dmc_plan_source {
    void *host; /* for plan.hosts; NULL: nobody */
    bool kept;  /* it is decoded already */
};

/* How the planner learns where chunks of a sharded array are. */
struct dmc_plan_lookup {
    void *user;
    /* Entries of the shard at these grid coordinates (dmc_zarr_shard_chunks() of them), or NULL when the shard object is
     * absent. *failed (out) is set when the index could not be had: the planner then calls fail_region with a NULL error (the
     * owner knows why). */
    const struct dmc_shard_entry *(*shard)(void *user, const struct dmc_plan_array *array, const uint64_t *coordinates,
                                           bool *failed);
    /* Asked once for every chunk that must be decoded and has an index. A NULL function: there is nobody. */
    struct dmc_plan_source (*source)(void *user, const struct dmc_chunk_ask *ask);
};

struct dmc_plan_options {
    uint64_t coalesce_gap_bytes;      /* ranges closer than this are read as one; touching ones always are */
    uint64_t span_gap_bytes;          /* the same between the spans of one raw chunk; 0: coalesce_gap_bytes */
    uint64_t coalesce_read_bytes_max; /* no read is longer, but of one chunk, or of chunks that are the same bytes */
    bool whole_chunks;                /* verify="full": no cutting of raw chunks, need is always the whole chunk */
};

/* --- output --- */

/* An object of a store: a shard, or an unsharded chunk. */
struct dmc_plan_object {
    const struct dmc_plan_array *array;
    const char *key; /* relative to the array: "c/0/3" */
    bool sharded; /* false: an absent object is the fill value of its chunk; true: its index said it is there, so absent is an
                     error */
};

/* One request to a store. */
struct dmc_read {
    uint32_t object;
    uint32_t chunk_begin; /* chunks in plan->chunks, half-open; they lie in order of offset and may overlap */
    uint32_t chunk_end;
    bool whole; /* the whole object of unknown length (an unsharded, not raw chunk); offset 0, length = buffer bound */
    uint64_t offset;
    uint64_t length;
};

#define DMC_READ_NONE UINT32_MAX
#define DMC_CHUNK_INDEX_NONE UINT64_MAX

/* One chunk, or one span of a raw chunk. */
struct dmc_chunk {
    const struct dmc_plan_array *array;
    uint32_t read;        /* DMC_READ_NONE: absent, pieces take the fill value */
    uint32_t piece_begin; /* pieces in plan->pieces, half-open */
    uint32_t piece_end;
    uint64_t stored_offset; /* of its bytes within the read */
    uint64_t stored_bytes;  /* for a whole read: unknown, 0 */
    uint64_t chunk_bytes;   /* of the whole chunk, decoded */
    uint64_t part_begin;    /* raw: which decoded bytes of the chunk the stored bytes are, from here; else 0 */
    uint64_t need_begin;    /* decoded bytes of the chunk that pieces use, hull */
    uint64_t need_end;
    uint64_t index; /* linear number of the chunk in its array, C order of chunk coordinates: what finds its host.
                     * DMC_CHUNK_INDEX_NONE where an array has more chunks than that. */
};

/* Intersection of one chunk with one sample's box. Axes that are contiguous on both sides are merged, axes of extent 1 dropped.
 */
struct dmc_piece {
    uint32_t row;
    uint32_t field;
    uint64_t source_offset; /* bytes within the decoded chunk (subtract part_begin for raw spans) */
    uint64_t target_offset; /* bytes within the field's tensor */
    uint64_t elements;
    uint32_t dim_begin; /* in plan->dims; outermost first */
    uint32_t dim_count; /* at least 1 */
};
struct dmc_piece_dim {
    uint64_t extent;
    int64_t source_stride; /* bytes */
    int64_t target_stride; /* bytes; the last dim's is the output item size */
};

struct dmc_plan {
    uint32_t object_count, read_count, chunk_count, piece_count, dim_count;
    struct dmc_plan_object *objects;
    struct dmc_read *reads;
    uint32_t guest_begin;     /* reads from here on are of one chunk each, which has a host */
    uint32_t kept_begin;      /* and from here on, which is kept; these are never started */
    void **hosts;             /* of the reads from guest_begin on: what dmc_plan_lookup.source said */
    struct dmc_chunk *chunks; /* those with a read first, in order of reads; then the absent ones */
    uint32_t absent_begin;    /* chunks from here on are absent */
    struct dmc_piece *pieces;
    struct dmc_piece_dim *dims;
    uint64_t bytes_needed; /* stored bytes of the chunks or spans that are needed, without gaps (whole reads count when read) */
    uint64_t bytes_read;   /* sum of read lengths without whole reads and guests */
    uint64_t decoded_bytes_max; /* largest decoded chunk among those that are not raw */
    uint64_t read_bytes_max;    /* longest read, whole ones by their bound */
};

/* A region that cannot be planned. */
struct dmc_plan_failure {
    void *user;
    void (*fail_region)(void *user, uint32_t row, uint32_t field, const struct damacy_error *error);
};

/* Make the plan.
 *
 * arena   everything the plan points to; the caller resets it when the batch is done.
 * plan    out.
 * Returns OK, OOM, or BUDGET when the arena's budget is short. A region whose shard index failed is left out, the others are
 * planned; damaged data (an entry that is empty, longer than stored_bytes_max, or of a raw chunk and not as long as it) fails
 * its regions with DECODE, key and range set, uri left to the owner. fail_region is called at most once a region, in order of
 * (row, field), also when the plan then comes out BUDGET or OOM; *plan is then all zero. Regions may come in any order. Nothing
 * is allocated outside the arena. Time: linear in chunks, plus a sort; bench_plan measures about 100 ns a chunk. */
enum damacy_status dmc_plan_make(const struct dmc_plan_region *regions, uint32_t region_count,
                                 const struct dmc_plan_field *fields, uint32_t field_count,
                                 const struct dmc_plan_lookup *lookup, const struct dmc_plan_failure *failure,
                                 const struct dmc_plan_options *options, struct dmc_arena *arena, struct dmc_plan *plan,
                                 struct damacy_error *error);

#endif
