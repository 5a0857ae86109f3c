#include "zarr/shard_index.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/error.h"

#include <assert.h>
#include <stdio.h>

#define CRC_BYTES 4

uint64_t dmc_shard_index_bytes(const struct dmc_zarr_array *array, uint64_t chunk_count)
{
    if (!array->sharded)
        return 0;
    return chunk_count * sizeof(struct dmc_shard_entry) + (array->index_crc32c ? CRC_BYTES : 0);
}

static bool entry_is_bad(uint64_t offset, uint64_t length, uint64_t object_bytes)
{
    bool absent = (offset & length) == UINT64_MAX;
    bool half = (offset == UINT64_MAX) | (length == UINT64_MAX);
    bool beyond = (offset > object_bytes) | (length > object_bytes - offset);
    return !absent && (half | beyond);
}

/* No branches in the body: with them, a mixture of absent and present chunks would be mispredicted every other time. `swap` is
 * a constant at each call, so that this becomes two loops. */
static inline bool decode_entries(const uint8_t *data, uint64_t count, uint64_t object_bytes, struct dmc_shard_entry *entries,
                                  bool swap)
{
    bool bad = false;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t offset = dmc_load_u64le(data + 16 * i);
        uint64_t length = dmc_load_u64le(data + 16 * i + 8);
        if (swap) {
            offset = __builtin_bswap64(offset);
            length = __builtin_bswap64(length);
        }
        bad |= entry_is_bad(offset, length, object_bytes);
        uint64_t present = (offset & length) == UINT64_MAX ? 0 : UINT64_MAX;
        entries[i].offset = offset;
        entries[i].length = length & present;
    }
    return !bad;
}

/* The slow way, once it is known that something is wrong: which entry, and what. */
static enum damacy_status report_entry(const struct dmc_zarr_array *array, uint64_t chunk_count, const uint8_t *data,
                                       uint64_t object_bytes, struct damacy_error *error)
{
    for (uint64_t i = 0; i < chunk_count; i++) {
        uint64_t offset = dmc_load_u64le(data + 16 * i);
        uint64_t length = dmc_load_u64le(data + 16 * i + 8);
        if (array->index_big_endian) {
            offset = __builtin_bswap64(offset);
            length = __builtin_bswap64(length);
        }
        if (!entry_is_bad(offset, length, object_bytes))
            continue;
        char expected[96], found[96];
        if (object_bytes == UINT64_MAX)
            snprintf(expected, sizeof expected, "an offset and a length, or both 2^64-1");
        else
            snprintf(expected, sizeof expected, "bytes within the shard's %llu, or both 2^64-1",
                     (unsigned long long)object_bytes);
        snprintf(found, sizeof found, "offset %llu and length %llu", (unsigned long long)offset, (unsigned long long)length);
        dmc_error_set(error, DAMACY_DECODE, "index", "shard index entry of inner chunk %llu is wrong", (unsigned long long)i);
        dmc_error_expected(error, expected, found);
        break;
    }
    return DAMACY_DECODE;
}

enum damacy_status dmc_shard_index_decode(const struct dmc_zarr_array *array, uint64_t chunk_count, const void *data,
                                          size_t bytes, uint64_t object_bytes, struct dmc_shard_entry *entries,
                                          struct damacy_error *error)
{
    assert(array->sharded);
    char expected[48], found[48];
    uint64_t index_bytes = dmc_shard_index_bytes(array, chunk_count);
    if (bytes != index_bytes) {
        snprintf(expected, sizeof expected, "%llu bytes", (unsigned long long)index_bytes);
        snprintf(found, sizeof found, "%zu bytes", bytes);
        dmc_error_set(error, DAMACY_DECODE, "index", "shard index has the wrong size");
        dmc_error_expected(error, expected, found);
        return DAMACY_DECODE;
    }
    if (array->index_crc32c) {
        uint32_t stored = dmc_load_u32le((const uint8_t *)data + bytes - CRC_BYTES);
        uint32_t actual = dmc_crc32c(data, bytes - CRC_BYTES);
        if (stored != actual) {
            snprintf(expected, sizeof expected, "crc32c 0x%08x", stored);
            snprintf(found, sizeof found, "crc32c 0x%08x", actual);
            dmc_error_set(error, DAMACY_DECODE, "index", "shard index checksum does not match");
            dmc_error_expected(error, expected, found);
            return DAMACY_DECODE;
        }
    }
    bool good = array->index_big_endian ? decode_entries(data, chunk_count, object_bytes, entries, true)
                                        : decode_entries(data, chunk_count, object_bytes, entries, false);
    return good ? DAMACY_OK : report_entry(array, chunk_count, data, object_bytes, error);
}
