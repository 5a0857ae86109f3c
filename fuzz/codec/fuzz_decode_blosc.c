/* blosc chunks, whole and in part: header, table of blocks, streams, filters. */
#include "fuzz_decode_common.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    fuzz_decode("blosc", data, bytes);
    return 0;
}
