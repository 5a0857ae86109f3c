/* Consolidated metadata: the metadata of a whole hierarchy in one document.
 *
 *     v2   .zmetadata   {"zarr_consolidated_format": 1, "metadata": {".zgroup": {...}, "a/.zarray": {...}, "a/.zattrs": {...}}}
 *     v3   zarr.json of a group, {..., "consolidated_metadata": {"kind": "inline", "metadata": {"a": {...}, "a/b": {...}}}}
 *
 * Pure: text in, calls back. No memory beyond what one key with escapes takes, one pass. */
#ifndef DMC_ZARR_CONSOLIDATED_H
#define DMC_ZARR_CONSOLIDATED_H

#include "damacy/damacy.h"
#include "zarr/json_skim.h"

/* Bytes of a path in the hierarchy; longer ones are DECODE. */
#define DMC_CONSOLIDATED_PATH_BYTES_MAX 4095

/* What a metadata text is, which is also the object that it would be on its own. */
enum dmc_metadata_kind {
    DMC_METADATA_ARRAY,        /* zarr.json of an array */
    DMC_METADATA_GROUP,        /* zarr.json of a group */
    DMC_METADATA_V2_ARRAY,     /* .zarray */
    DMC_METADATA_V2_GROUP,     /* .zgroup */
    DMC_METADATA_V2_ATTRIBUTES /* .zattrs */
};

struct dmc_consolidated_entry {
    const char *path; /* of the node from the group on, zero-terminated, "" for the group itself; gone after the call */
    size_t path_bytes;
    enum dmc_metadata_kind kind;
    struct dmc_text text; /* inside of the document */
};

/* False ends the walk. */
typedef bool (*dmc_consolidated_visit)(void *user, const struct dmc_consolidated_entry *entry);

/* Call back for each entry, in the document's order. A path that comes twice is called twice.
 *
 * text  a .zmetadata, or the zarr.json of a group.
 * Returns OK, also when `visit` ended it; NOTFOUND: a zarr.json without consolidated metadata (or with null); DECODE: broken,
 * or a path that is empty where none may be, absolute, or leads up; UNSUPPORTED: another consolidated format or kind, by name;
 * OOM. */
enum damacy_status dmc_consolidated_each(const char *text, size_t bytes, dmc_consolidated_visit visit, void *user,
                                         struct damacy_error *error);

/* May this be a path below a node? Relative, without empty, "." and ".." parts, without backslashes. Texts of strangers become
 * keys. */
bool dmc_path_is_inside(const char *path, size_t bytes);

#endif
