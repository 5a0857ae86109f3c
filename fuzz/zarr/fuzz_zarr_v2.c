/* Any bytes as a .zarray: an error with a message, or an array that keeps the promises of zarr_array.h. */
#include "fuzz_zarr_common.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    run(dmc_zarr_array_parse_v2, data, bytes);
    return 0;
}
