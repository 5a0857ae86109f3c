/* The one file of this room that knows libdeflate. */
#include "store/inflate.h"

#include <libdeflate.h>

/* What deflate can do at best is 1032 : 1, and libdeflate writes no byte beyond the target: nothing here can grow. */
struct dmc_inflater *dmc_inflater_create(void)
{
    return (struct dmc_inflater *)libdeflate_alloc_decompressor();
}

void dmc_inflater_destroy(struct dmc_inflater *inflater)
{
    libdeflate_free_decompressor((struct libdeflate_decompressor *)inflater);
}

bool dmc_inflate(struct dmc_inflater *inflater, const void *source, size_t source_bytes, void *target, size_t target_bytes)
{
    size_t taken = 0, given = 0;
    return libdeflate_deflate_decompress_ex((struct libdeflate_decompressor *)inflater, source, source_bytes, target,
                                            target_bytes, &taken, &given) == LIBDEFLATE_SUCCESS &&
           taken == source_bytes && given == target_bytes;
}

uint32_t dmc_crc32(const void *data, size_t bytes)
{
    return libdeflate_crc32(0, data, bytes);
}
