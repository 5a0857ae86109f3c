/* Headers of blosc chunks: what passes must keep the promises of blosc_layout.h. */
#include "codec/blosc_layout.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct dmc_blosc_layout layout;
    struct damacy_error error;
    if (dmc_blosc_layout_parse(data, bytes, &layout, &error) != DAMACY_OK)
        return 0;
    bool good = layout.typesize > 0 && layout.block_bytes > 0 && !(layout.byte_shuffle && layout.bit_shuffle) &&
                layout.stored_bytes >= DMC_BLOSC_HEADER_BYTES + 4 * layout.block_count;
    if (!layout.memcpyed)
        good = good && layout.block_count * layout.block_bytes >= layout.bytes && layout.inner <= DMC_BLOSC_ZSTD &&
               (!layout.split || (layout.typesize <= 16 && layout.block_bytes % layout.typesize == 0));
    if (!good)
        abort();
    return 0;
}
