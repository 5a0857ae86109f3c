/* The index of a shard: for each inner chunk, in C order, where its bytes are in the shard object.
 *
 *     offset 0      8              16
 *     | offset u64  | length u64   |  ... one pair for each inner chunk ...  | crc32c u32 (optional) |
 *
 * both little-endian (or big, if the index's `bytes` codec says so); a pair of 2^64-1 means "no such chunk: fill value".
 * Source: Zarr v3 sharding-indexed codec, "Binary shard format". */
#ifndef DMC_ZARR_SHARD_INDEX_H
#define DMC_ZARR_SHARD_INDEX_H

#include "zarr/zarr_array.h"

struct dmc_shard_entry {
    uint64_t offset;
    uint64_t length; /* 0 with offset UINT64_MAX: absent */
};

static inline bool dmc_shard_entry_absent(struct dmc_shard_entry entry)
{
    return entry.offset == UINT64_MAX;
}

/* Bytes of the encoded index of one of this array's shards, checksum included; 0 when it has none. `chunk_count` is
 * dmc_zarr_shard_chunks(). */
uint64_t dmc_shard_index_bytes(const struct dmc_zarr_array *array, uint64_t chunk_count);

/* Decode an index.
 *
 * data, bytes   what was read: exactly dmc_shard_index_bytes().
 * object_bytes  size of the whole shard object; entries that reach beyond it are DECODE naming the inner chunk; UINT64_MAX:
 * unknown. entries       out: chunk_count of them, caller's memory; absent ones are {UINT64_MAX, 0}. Returns OK or DECODE
 * (short, checksum, range; only one of the two numbers all ones). An entry may legally overlap others. */
enum damacy_status dmc_shard_index_decode(const struct dmc_zarr_array *array, uint64_t chunk_count, const void *data,
                                          size_t bytes, uint64_t object_bytes, struct dmc_shard_entry *entries,
                                          struct damacy_error *error);

#endif
