/* What the files that parse a zarr.json or a .zarray share: the half-made array, and how a wrong member is reported.
 *
 * A parse fills a draft on the stack, of fixed size, and copies it into one allocation of exactly the right size at the end:
 * nothing has to be undone on the many ways out, and what stays in the cache is compact. Extents, texts and codecs are read in
 * the order in which they need each other: dtype (which may add trailing axes), shape, grid, keys, fill value, codecs.
 *
 * Private to src/zarr. */
#ifndef DMC_ZARR_PARSE_H
#define DMC_ZARR_PARSE_H

#include "base/json.h"
#include "zarr/zarr_array.h"
#include "zarr/zarr_tables.h"

/* All texts of one array, with their zeros: names and configurations of its codecs, its data type, its keys. Real ones need
 * 300. */
#define DMC_ZARR_TEXT_BYTES_MAX 4096

/* Bytes of the text of the data type, with its zero; longer ones are cut: they are for people. */
#define DMC_ZARR_DATA_TYPE_BYTES 160

/* Bytes of a key that are not coordinates: prefix, suffix and template, all together. */
#define DMC_ZARR_KEY_TEXT_BYTES_MAX 256

/* Bytes of a decoded chunk, and of a decoded shard: below this, sums of two byte positions cannot overflow. */
#define DMC_ZARR_CHUNK_BYTES_MAX (UINT64_C(1) << 62)

/* Bytes of the entries of a shard index; a writer that reaches this has confused shards and chunks. */
#define DMC_ZARR_INDEX_BYTES_MAX (UINT64_C(1) << 32)

/* Structured dtypes inside structured dtypes, and members of one of them. */
#define DMC_ZARR_RECORD_DEPTH_MAX 8
#define DMC_ZARR_RECORD_MEMBERS_MAX 1024

/* A member of a structured dtype. */
struct dmc_zarr_member {
    bool chosen;
    uint32_t record_bytes, offset, bytes; /* bytes: all its elements */
    uint32_t path_count;                  /* the names that lead to it, borrowed from the document */
    const char *path[DMC_ZARR_RECORD_DEPTH_MAX];
};

struct dmc_zarr_draft {
    struct dmc_zarr_array array;       /* its pointers are set at the end; codecs and keys point into `text` */
    const struct dmc_zarr_dtype *type; /* of the elements, or of those of the member */
    bool big_endian;                   /* v2: their byte order, which v3 has in the codec `bytes` */
    struct dmc_zarr_member member;
    uint32_t trailing; /* axes that the dtype adds: rank = key_rank + trailing */
    uint64_t trailing_extents[DAMACY_RANK_MAX];
    uint64_t shape[DAMACY_RANK_MAX];
    uint64_t chunk_shape[DAMACY_RANK_MAX];
    uint64_t grid_shape[DAMACY_RANK_MAX];
    bool any_extent[DAMACY_RANK_MAX]; /* the chunk extent was 0 on an axis of extent 0: whatever fits */
    bool has_shard_order;
    uint8_t shard_order[DAMACY_RANK_MAX];
    uint64_t *edges; /* rectilinear: boundaries of all axes, one axis behind the other; to be freed */
    uint32_t edge_total;
    uint32_t edge_counts[DAMACY_RANK_MAX]; /* chunks along the axis; 0: regular */
    uint32_t text_bytes;                   /* of `text` that are used */
    bool text_full;                        /* something did not fit */
    char text[DMC_ZARR_TEXT_BYTES_MAX];
};

/* A thing that metadata name: "bytes", or {"name": "bytes", "configuration": {...}}. Borrowed from the document. */
struct dmc_zarr_named {
    const char *name;
    dmc_json *configuration; /* an object, or NULL */
};

/* --- zarr_parse.c --- */

/* The path of the index-th element, "MEMBER[INDEX]". Fits `capacity` or is cut. */
void dmc_zarr_element_path(char *path, size_t capacity, const char *member, size_t index);

/* Text in quotation marks for a message: control characters escaped, long texts cut. Returns `out`. */
#define DMC_ZARR_QUOTE_BYTES 100
const char *dmc_zarr_quote(char out[DMC_ZARR_QUOTE_BYTES], const char *text, size_t bytes);

/* "MEMBER is wrong: found VALUE, expected EXPECTED" (DECODE), or "MEMBER is not supported: ..." (UNSUPPORTED). `value` NULL:
 * the member is missing. Returns `status`. */
enum damacy_status dmc_zarr_wrong(struct damacy_error *error, enum damacy_status status, const char *member,
                                  const char *expected, dmc_json *value);

/* The same where what was found is told in words. */
enum damacy_status dmc_zarr_wrong_text(struct damacy_error *error, enum damacy_status status, const char *member,
                                       const char *expected, const char *found);

/* An integer; 3.0 counts as 3 as long as a double is exact. */
bool dmc_zarr_u64(dmc_json *value, uint64_t *out);
bool dmc_zarr_i64(dmc_json *value, int64_t *out);

/* Is this an object with that `zarr_format`? */
enum damacy_status dmc_zarr_format_check(dmc_json *root, uint32_t format, struct damacy_error *error);

/* Is `value` the string `text`? */
bool dmc_zarr_string_is(dmc_json *value, const char *text);

/* A string that is not empty and has no zeros inside: such are compared, copied and printed as C strings. */
bool dmc_zarr_text(dmc_json *value, const char **text);

/* Read a name, or an object with a name. Members of it other than name, configuration and must_understand are UNSUPPORTED. */
enum damacy_status dmc_zarr_named_read(dmc_json *value, const char *member, struct dmc_zarr_named *named,
                                       struct damacy_error *error);

/* UNSUPPORTED for the first member of `object` (NULL: none) that is not in `known`, a list that ends in NULL. A member that is
 * an object with "must_understand": false may be ignored, and is. */
enum damacy_status dmc_zarr_members_check(dmc_json *object, const char *member, const char *const *known,
                                          struct damacy_error *error);

/* Read a list of `rank` integers from minimum to INT64_MAX. */
enum damacy_status dmc_zarr_extents_read(dmc_json *value, const char *member, uint32_t rank, uint64_t minimum,
                                         uint64_t *extents, struct damacy_error *error);

/* Append to the draft's text what is read as one text: begin, then as many puts as it takes, then end, which puts the zero and
 * returns it; NULL when something did not fit. */
uint32_t dmc_zarr_text_begin(const struct dmc_zarr_draft *draft);
void dmc_zarr_text_put(struct dmc_zarr_draft *draft, const char *text);
void dmc_zarr_text_format(struct dmc_zarr_draft *draft, const char *format, ...) __attribute__((format(printf, 2, 3)));
enum damacy_status dmc_zarr_text_put_json(struct dmc_zarr_draft *draft, dmc_json *value, struct damacy_error *error);
const char *dmc_zarr_text_end(struct dmc_zarr_draft *draft, uint32_t begin);

/* --- one topic each --- */

/* zarr_dtype.c: sets type, big_endian, member, and the trailing axes; and in the array dtype, item_bytes, fill_count,
 * data_type. `format` is 2 or 3. */
enum damacy_status dmc_zarr_dtype_read(dmc_json *value, uint32_t format, const struct dmc_selection *selection,
                                       struct dmc_zarr_draft *draft, struct damacy_error *error);

/* zarr_fill.c: the fill value in this machine's byte order. The dtype is known. */
enum damacy_status dmc_zarr_fill_read(dmc_json *value, uint32_t format, struct dmc_zarr_draft *draft,
                                      struct damacy_error *error);

/* zarr_key.c: rank is known. */
enum damacy_status dmc_zarr_key_encoding_read(dmc_json *value, struct dmc_zarr_draft *draft, struct damacy_error *error);

/* zarr_grid.c. Shapes of a document have key_rank axes; these put the trailing ones behind them. */
enum damacy_status dmc_zarr_shape_read(dmc_json *value, struct dmc_zarr_draft *draft, struct damacy_error *error);
enum damacy_status dmc_zarr_grid_read(dmc_json *value, struct dmc_zarr_draft *draft, struct damacy_error *error);
enum damacy_status dmc_zarr_chunks_read_v2(dmc_json *value, struct dmc_zarr_draft *draft, struct damacy_error *error);
/* What is left once codecs are known: the counts, and whether they can be counted. */
enum damacy_status dmc_zarr_grid_finish(struct dmc_zarr_draft *draft, struct damacy_error *error);

/* zarr_codecs.c: a plain chain, or sharding with its inner chain. Sets `codecs` and the members about sharding; rank, dtype and
 * grid_shape are known. */
enum damacy_status dmc_zarr_codecs_read(dmc_json *value, struct dmc_zarr_draft *draft, struct damacy_error *error);
/* The same of v2: order, filters and compressor. */
enum damacy_status dmc_zarr_codecs_read_v2(dmc_json *root, struct dmc_zarr_draft *draft, struct damacy_error *error);

/* zarr_v2.c: fill the draft from the root of a .zarray. */
enum damacy_status dmc_zarr_v2_read(dmc_json *root, const struct dmc_selection *selection, struct dmc_zarr_draft *draft,
                                    struct damacy_error *error);

#endif
