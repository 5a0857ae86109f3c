/* Any bytes as a shard index, against a plain reading of it.
 *
 *     byte 0      bit 0 big-endian, bit 1 checksum, bit 2 the checksum is made right, bit 3 the size of the object is known,
 *                 bit 4 the count of chunks is byte 1 instead of what fits
 *     byte 1      count of chunks, see bit 4
 *     bytes 2, 3  size of the object in units of 64 bytes
 *     the rest    the index */
#include "base/crc32c.h"
#include "zarr/shard_index.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(bool truth)
{
    if (!truth)
        abort();
}

static uint64_t load(const uint8_t *data, bool big)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value |= (uint64_t)data[i] << 8 * (big ? 7 - i : i);
    return value;
}

static bool entry_is_good(uint64_t offset, uint64_t length, uint64_t object_bytes)
{
    if (offset == UINT64_MAX && length == UINT64_MAX)
        return true;
    if (offset == UINT64_MAX || length == UINT64_MAX)
        return false;
    return offset <= object_bytes && length <= object_bytes - offset;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < 4)
        return 0;
    uint8_t flags = data[0];
    struct dmc_zarr_array array = {.sharded = true, .index_big_endian = flags & 1, .index_crc32c = flags & 2};
    uint64_t object_bytes = flags & 8 ? (data[2] | (uint64_t)data[3] << 8) * 64 : UINT64_MAX;
    size_t index_bytes = bytes - 4, crc_bytes = array.index_crc32c ? 4 : 0;
    array.chunks_per_shard = flags & 16 || index_bytes < 16 + crc_bytes ? data[1] + 1u : (index_bytes - crc_bytes) / 16;
    if (!(flags & 16) && index_bytes >= 16 + crc_bytes)
        index_bytes = array.chunks_per_shard * 16 + crc_bytes;

    uint8_t *index = malloc(index_bytes ? index_bytes : 1);
    struct dmc_shard_entry *entries = malloc(array.chunks_per_shard * sizeof *entries);
    require(index && entries);
    memcpy(index, data + 4, index_bytes);
    bool size_is_right = index_bytes == array.chunks_per_shard * 16 + crc_bytes, good = size_is_right;
    if (good && crc_bytes) {
        uint32_t crc = dmc_crc32c(index, index_bytes - 4), stored;
        if (flags & 4)
            memcpy(index + index_bytes - 4, &crc, 4);
        memcpy(&stored, index + index_bytes - 4, 4);
        good = stored == crc;
    }
    for (uint64_t i = 0; good && i < array.chunks_per_shard; i++)
        good = entry_is_good(load(index + 16 * i, array.index_big_endian), load(index + 16 * i + 8, array.index_big_endian),
                             object_bytes);

    struct damacy_error error = {0};
    enum damacy_status status =
        dmc_shard_index_decode(&array, array.chunks_per_shard, index, index_bytes, object_bytes, entries, &error);
    require(status == (good ? DAMACY_OK : DAMACY_DECODE));
    require(good || error.message[0] != '\0');
    for (uint64_t i = 0; good && i < array.chunks_per_shard; i++) {
        uint64_t offset = load(index + 16 * i, array.index_big_endian);
        require(entries[i].offset == offset);
        require(entries[i].length == (offset == UINT64_MAX ? 0 : load(index + 16 * i + 8, array.index_big_endian)));
    }
    free(entries);
    free(index);
    return 0;
}
