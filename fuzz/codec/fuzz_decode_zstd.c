/* zstd frames, whole and in part. */
#include "fuzz_decode_common.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    fuzz_decode("zstd", data, bytes);
    return 0;
}
