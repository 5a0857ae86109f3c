/* A .zarray, the metadata of a Zarr v2 array:
 *
 *     {"zarr_format": 2, "shape": [60, 250], "chunks": [16, 64], "dtype": "<u2", "order": "C", "fill_value": 0,
 *      "filters": null, "compressor": {"id": "blosc", "cname": "lz4", "shuffle": 1}, "dimension_separator": "/"}
 *
 * Unlike v3's, unknown members are ignored: the specification says so, and netCDF-C (_nczarr_array), N5 tools and others add
 * some. */
#include "zarr/zarr_parse.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

/* zarr-python from 2.8 on, tensorstore and others write it; before, it was always a dot. */
static enum damacy_status read_separator(dmc_json *value, struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    struct dmc_zarr_key_encoding *encoding = &draft->array.key_encoding;
    *encoding = (struct dmc_zarr_key_encoding){.kind = DMC_ZARR_KEYS_V2, .separator = '.'};
    if (dmc_json_type(value) == DMC_JSON_NULL || dmc_zarr_string_is(value, "."))
        return DAMACY_OK;
    if (!dmc_zarr_string_is(value, "/"))
        return dmc_zarr_wrong(error, DAMACY_DECODE, "dimension_separator", "\".\" or \"/\"", value);
    encoding->separator = '/';
    return DAMACY_OK;
}

enum damacy_status dmc_zarr_v2_read(dmc_json *root, const struct dmc_selection *selection, struct dmc_zarr_draft *draft,
                                    struct damacy_error *error)
{
    draft->array.zarr_format = 2;
    enum damacy_status status = dmc_zarr_format_check(root, 2, error);
    if (!status)
        status = dmc_zarr_dtype_read(dmc_json_get(root, "dtype"), 2, selection, draft, error);
    if (!status)
        status = dmc_zarr_shape_read(dmc_json_get(root, "shape"), draft, error);
    if (!status)
        status = dmc_zarr_chunks_read_v2(dmc_json_get(root, "chunks"), draft, error);
    if (!status)
        status = read_separator(dmc_json_get(root, "dimension_separator"), draft, error);
    if (!status)
        status = dmc_zarr_fill_read(dmc_json_get(root, "fill_value"), 2, draft, error);
    if (!status)
        status = dmc_zarr_codecs_read_v2(root, draft, error);
    return status ? status : dmc_zarr_grid_finish(draft, error);
}
