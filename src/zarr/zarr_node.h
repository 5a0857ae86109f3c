/* What a node is and what it says besides its numbers, for describing a hierarchy: attributes, names of dimensions, members of
 * a structured dtype, and the parts of the metadata as they are written.
 *
 * Pure: text in, struct out. */
#ifndef DMC_ZARR_NODE_H
#define DMC_ZARR_NODE_H

#include "zarr/consolidated.h"

/* One allocation of names; the views point into the text that was given, which must stay. A view of what is not there is {NULL,
 * 0}. */
struct dmc_node {
    enum dmc_metadata_kind kind;
    struct dmc_text attributes; /* of a .zattrs: the whole */
    struct dmc_text data_type;  /* v2: dtype */
    struct dmc_text fill_value;
    struct dmc_text codecs;                     /* v3 */
    struct dmc_text chunk_grid;                 /* v3; v2: chunks */
    struct dmc_text chunk_key_encoding;         /* v3; v2: dimension_separator */
    struct dmc_text order, filters, compressor; /* v2 */
    bool consolidated;                          /* a v3 group with inline consolidated metadata */
    /* dimension_names of v3; or _ARRAY_DIMENSIONS among the attributes, which xarray writes into v2. NULL: no name. */
    uint32_t dimension_count;
    const char *const *dimensions;
    /* What #member= may name: "x", "outer.inner", in order. */
    uint32_t member_count;
    const char *const *members;
};

/* `file` says which object the text is of: NULL tells by itself (a zarr.json is an array or a group; of v2 .zarray has `shape`,
 * .zgroup only zarr_format). Returns OK; DECODE: no JSON object, or not what `file` says; OOM. Wrong values are left to who
 * needs them. */
enum damacy_status dmc_node_parse(const char *text, size_t bytes, const char *file, struct dmc_node **node,
                                  struct damacy_error *error);
void dmc_node_free(struct dmc_node *node);

#endif
