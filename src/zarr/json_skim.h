/* Where in a JSON text the members of an object are, without a tree: consolidated metadata hold thousands of documents, each of
 * which is parsed for itself later. One pass, no memory. What is inside a value is not checked beyond its brackets and strings:
 * whoever parses it does.
 *
 * Private to src/zarr. */
#ifndef DMC_ZARR_JSON_SKIM_H
#define DMC_ZARR_JSON_SKIM_H

#include <stdbool.h>
#include <stddef.h>

/* A view; never owns. `text` NULL: nothing. */
struct dmc_text {
    const char *text;
    size_t bytes;
};

struct dmc_skim {
    const char *at, *end;
    bool first, failed;
};

/* Begin at the object that `text` is; failed if it is none. */
struct dmc_skim dmc_skim_object(struct dmc_text text);

/* The next member: its key as written (without quotes, escapes unresolved) and its value without space around it. False at the
 * end, or when the text is broken: skim->failed tells. */
bool dmc_skim_next(struct dmc_skim *skim, struct dmc_text *key, struct dmc_text *value);

/* The value of a member whose key is written plainly; {NULL, 0}: no such member, or no object. */
struct dmc_text dmc_skim_get(struct dmc_text object, const char *key);

/* Is it exactly this text? */
bool dmc_text_is(struct dmc_text text, const char *expected);

#endif
