/* Strict JSON, read only.
 *
 * Integers are exact from INT64_MIN to UINT64_MAX and anything outside is a double (never clipped); control characters and
 * bytes that are not UTF-8 in strings, trailing text and duplicate keys of one object are errors; bare NaN, Infinity and
 * -Infinity are taken (xarray writes them into attributes); nesting and size are bounded. Values are borrowed from the
 * document.
 *
 * A parser of our own, not json-c: closing json-c's gaps (it clips large integers, takes control characters and duplicate keys)
 * takes a scan of the whole text, which is most of a parser. 8.5 MB of consolidated metadata: 16 ms here, 96 ms there (the
 * strict scan not counted). And here every byte comes from base/mem.h, so that it can be counted and made to fail. */
#ifndef DMC_BASE_JSON_H
#define DMC_BASE_JSON_H

#include "damacy/damacy.h"

/* Containers inside one another. */
#define DMC_JSON_DEPTH_MAX 64

struct dmc_json_doc;
typedef const struct dmc_json dmc_json; /* one value; opaque */

enum dmc_json_type { DMC_JSON_NULL, DMC_JSON_BOOL, DMC_JSON_NUMBER, DMC_JSON_STRING, DMC_JSON_ARRAY, DMC_JSON_OBJECT };

/* Parse `bytes` of `text`, which may go afterwards. On failure DAMACY_DECODE with line and column, or DAMACY_OOM. */
enum damacy_status dmc_json_parse(const char *text, size_t bytes, struct dmc_json_doc **doc, struct damacy_error *error);
void dmc_json_free(struct dmc_json_doc *doc); /* NULL allowed */
dmc_json *dmc_json_root(const struct dmc_json_doc *doc);

enum dmc_json_type dmc_json_type(dmc_json *value); /* NULL counts as DMC_JSON_NULL */
const char *dmc_json_type_str(dmc_json *value);    /* "null", "a number", "an object", ... for messages */

dmc_json *dmc_json_get(dmc_json *object, const char *key); /* NULL: no object, or no such key. A JSON null is a value. */
size_t dmc_json_count(dmc_json *array_or_object);          /* 0 for others */
dmc_json *dmc_json_at(dmc_json *array, size_t index);      /* NULL out of range */
/* The index-th member of an object, in the order of the text; false out of range. */
bool dmc_json_member(dmc_json *object, size_t index, const char **key, dmc_json **value);

/* Each returns false, and leaves `out` alone, when the value is not exactly that. A whole double (1.0) is no integer. */
bool dmc_json_i64(dmc_json *value, int64_t *out);
bool dmc_json_u64(dmc_json *value, uint64_t *out);
bool dmc_json_f64(dmc_json *value, double *out); /* any number; integers are rounded to nearest */
bool dmc_json_bool(dmc_json *value, bool *out);
/* Zero-terminated UTF-8, borrowed; *bytes (optional) tells of zeros inside. */
bool dmc_json_string(dmc_json *value, const char **text, size_t *bytes);

/* Compact text of a value, in the document's memory or freshly made; free with dmc_free(). NULL when memory is short. */
char *dmc_json_dump(dmc_json *value);

#endif
