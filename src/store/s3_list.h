/* ListObjectsV2: the children of a prefix, page by page. */
#ifndef DMC_S3_LIST_H
#define DMC_S3_LIST_H

#include "store/net_engine.h"

enum damacy_status dmc_s3_list(struct dmc_net_store *store, const char *prefix, dmc_store_child_fn child, void *user,
                               struct damacy_error *error);

#define DMC_S3_MARKER_BYTES 4096

/* One page. */
struct dmc_s3_page {
    const char *prefix; /* with its slash: what names begin with */
    dmc_store_child_fn child;
    void *user;
    uint64_t count; /* of children so far, over all pages */
    bool enough;    /* child said so */
    bool too_many;
    bool truncated; /* there is another page */
    char next[DMC_S3_MARKER_BYTES];
};

/* Parse a page in place (fuzzed); fields are for what it says. DECODE. */
enum damacy_status dmc_s3_page_read(char *xml, size_t bytes, struct dmc_s3_page *page, struct damacy_error *error);

#endif
