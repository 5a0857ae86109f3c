/* What metadata may name and what becomes of it: data types, chunk grids, key encodings. The parsers read these tables, and so
 * may whoever documents them: docs/formats.md is made from them. Each table ends with an entry whose name is NULL. */
#ifndef DMC_ZARR_TABLES_H
#define DMC_ZARR_TABLES_H

#include "damacy/damacy.h"

enum dmc_zarr_how {
    DMC_ZARR_AS_IS,  /* stored as `dtype` */
    DMC_ZARR_WIDEN,  /* one byte per stored element, which becomes an element of `dtype`: codec damacy.widen */
    DMC_ZARR_TIME,   /* ticks as integers; the smallest means "not a time" */
    DMC_ZARR_RECORD, /* structured: one member at a time */
    DMC_ZARR_REFUSED /* UNSUPPORTED, by name */
};

struct dmc_zarr_dtype {
    const char *name;        /* in a zarr.json */
    const char *v2;          /* in a .zarray without the byte order: "u2"; NULL: not in v2 */
    enum damacy_dtype dtype; /* what is delivered; NATIVE where nothing is */
    uint8_t stored_bytes;    /* of one stored element; 0 where nothing is delivered */
    uint8_t parts;           /* 2 for complex numbers, else 1; 0 where nothing is delivered */
    uint8_t how;             /* enum dmc_zarr_how */
    const char *delivered;   /* for people */
};
extern const struct dmc_zarr_dtype dmc_zarr_dtypes[];

struct dmc_zarr_name {
    const char *name;
    bool supported;
    const char *note; /* for people */
};
extern const struct dmc_zarr_name dmc_zarr_grids[];
extern const struct dmc_zarr_name dmc_zarr_key_encodings[];
extern const struct dmc_zarr_name dmc_zarr_storage_transformers[];

/* The row of a name, which needs no zero at its end; NULL: none. */
const struct dmc_zarr_dtype *dmc_zarr_dtype_find(const char *name, size_t bytes);

/* The row of v2's "u2" (what follows the byte order), or of a name that v2 writers borrowed from v3 ("bfloat16"); NULL: none.
 */
const struct dmc_zarr_dtype *dmc_zarr_dtype_find_v2(const char *name, size_t bytes);

#endif
