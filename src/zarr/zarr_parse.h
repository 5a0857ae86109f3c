/* What the files that parse a zarr.json share: the half-made array, and how a wrong member is reported.
 *
 * A parse fills a draft on the stack, of fixed size, and copies it into one allocation of exactly the right size at the end:
 * nothing has to be undone on the many ways out, and what stays in the cache is compact.
 *
 * Private to src/zarr. */
#ifndef DMC_ZARR_PARSE_H
#define DMC_ZARR_PARSE_H

#include "base/json.h"
#include "zarr/zarr_array.h"

/* Names and configurations of all codecs of one array, with their zeros. Real chains need 200 bytes. */
#define DMC_ZARR_TEXT_BYTES_MAX 2048

/* Bytes of a decoded chunk, and of a decoded shard: below this, sums of two byte positions cannot overflow. */
#define DMC_ZARR_CHUNK_BYTES_MAX (UINT64_C(1) << 62)

/* Bytes of the entries of a shard index; a writer that reaches this has confused shards and chunks. */
#define DMC_ZARR_INDEX_BYTES_MAX (UINT64_C(1) << 32)

struct dmc_zarr_draft {
    struct dmc_zarr_array array; /* its pointers are set at the end; codecs point into `text` */
    uint64_t shape[DAMACY_RANK_MAX];
    uint64_t chunk_shape[DAMACY_RANK_MAX];
    uint64_t grid_shape[DAMACY_RANK_MAX];
    uint32_t text_bytes; /* of `text` that are used */
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

/* Is `value` the string `text`? */
bool dmc_zarr_string_is(dmc_json *value, const char *text);

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

/* --- one topic each --- */

/* zarr_fill.c: the fill value as one element in this machine's byte order. */
enum damacy_status dmc_zarr_fill_read(dmc_json *value, enum damacy_dtype dtype, uint8_t fill[8], struct damacy_error *error);

/* zarr_key.c */
enum damacy_status dmc_zarr_key_encoding_read(dmc_json *value, struct dmc_zarr_key_encoding *encoding,
                                              struct damacy_error *error);

/* zarr_codecs.c: a plain chain, or sharding with its inner chain. Sets `codecs` and the members about sharding; rank, dtype and
 * grid_shape are known. */
enum damacy_status dmc_zarr_codecs_read(dmc_json *value, struct dmc_zarr_draft *draft, struct damacy_error *error);

#endif
