/* Filling the shard_index_cache: one ranged read of the end (or the beginning) of a shard.
 *
 * The key of an entry has, beside uri and coordinates, the fingerprint of the metadata and the number of entries: when an array
 * was replaced while we run, and its metadata were read again, no index of the old shape is ever used for the new one.
 *
 *     | uri, 0 | fingerprint u64 | chunks per shard u64 | coordinate u64 ... | */
#include "prefetch/metadata_fetch.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

uint32_t dmc_shard_index_key_head(const struct dmc_array *array, uint8_t *key)
{
    uint32_t at = array->uri_bytes + 1;
    memcpy(key, array->uri, at);
    memcpy(key + at, &array->fingerprint, 8);
    memcpy(key + at + 8, &array->zarr->chunks_per_shard, 8);
    return at + 16;
}

uint32_t dmc_shard_index_key(const struct dmc_array *array, uint32_t head_bytes, const uint64_t *coordinates, uint8_t *key)
{
    memcpy(key + head_bytes, coordinates, array->zarr->rank * sizeof *coordinates);
    return head_bytes + array->zarr->rank * (uint32_t)sizeof *coordinates;
}

/* Bytes of a value; UINT64_MAX if no memory could hold it. */
static uint64_t value_bytes(uint64_t entry_count)
{
    uint64_t bytes;
    if (!dmc_mul_u64(entry_count, sizeof(struct dmc_shard_entry), &bytes) ||
        !dmc_add_u64(bytes, sizeof(struct dmc_shard_index), &bytes))
        return UINT64_MAX;
    return bytes;
}

uint64_t dmc_shard_index_reserve(const struct dmc_array *array, uint32_t key_bytes)
{
    return dmc_prefetch_cache_reserve(key_bytes, value_bytes(array->zarr->chunks_per_shard));
}

void dmc_shard_index_free(void *index)
{
    dmc_free(index);
}

enum dmc_fetch_step dmc_shard_index_begin(struct dmc_fetch *fetch, const uint64_t *coordinates)
{
    const struct dmc_array *array = fetch->array;
    fetch->uri = array->uri;
    fetch->request.store = array->store;
    fetch->prefix_bytes = array->prefix_bytes;
    fetch->root_bytes = array->root_bytes;
    fetch->twin_name = NULL;
    memcpy(fetch->key, array->prefix, array->prefix_bytes);
    fetch->key[array->prefix_bytes] = '/';
    dmc_zarr_chunk_key(array->zarr, coordinates, fetch->key + array->prefix_bytes + 1, DMC_ZARR_KEY_BYTES_MAX);
    return dmc_fetch_ask(fetch, NULL, array->zarr->index_at_start ? DMC_RANGE_SPAN : DMC_RANGE_SUFFIX, 0,
                         dmc_shard_index_bytes(array->zarr, dmc_zarr_shard_chunks(array->zarr, coordinates)));
}

/* Where the index is in the object, as far as that is known. */
static void index_range(const struct dmc_fetch *fetch, uint64_t *begin, uint64_t *end)
{
    uint64_t object_bytes = fetch->request.object_bytes;
    *begin = *end = 0;
    if (fetch->array->zarr->index_at_start) {
        *end = fetch->want_bytes;
    } else if (object_bytes != UINT64_MAX && object_bytes >= fetch->want_bytes) {
        *begin = object_bytes - fetch->want_bytes;
        *end = object_bytes;
    }
}

static struct dmc_shard_index *make_index(const struct dmc_fetch *fetch, uint64_t entry_count)
{
    struct dmc_shard_index *index = dmc_malloc(value_bytes(entry_count));
    if (!index)
        return NULL;
    index->absent = entry_count == 0;
    index->object_bytes = fetch->request.object_bytes;
    index->version_tag = fetch->request.version_tag;
    return index;
}

static enum dmc_fetch_step decode(struct dmc_fetch *fetch, bool absent)
{
    const struct dmc_zarr_array *zarr = fetch->array->zarr;
    uint64_t count = absent ? 0 : fetch->want_bytes / sizeof(struct dmc_shard_entry), begin, end; /* beside a checksum of 4 */
    struct dmc_shard_index *index = make_index(fetch, count);
    index_range(fetch, &begin, &end);
    if (!index) {
        dmc_error_set(&fetch->error, DAMACY_OOM, "index", "no memory for a shard index of %llu entries",
                      (unsigned long long)count);
        return dmc_fetch_fail(fetch, begin, end);
    }
    if (!absent && dmc_shard_index_decode(zarr, count, fetch->buffer, fetch->request.bytes_read, fetch->request.object_bytes,
                                          index->entries, &fetch->error)) {
        dmc_free(index);
        return dmc_fetch_fail(fetch, begin, end);
    }
    dmc_prefetch_cache_finish(fetch->cache, fetch->entry, index,
                              dmc_prefetch_cache_held(fetch->entry->key_bytes, value_bytes(count)));
    return DMC_FETCH_ENDED;
}

static enum dmc_fetch_step fail_truncated(struct dmc_fetch *fetch)
{
    const struct dmc_request *request = &fetch->request;
    char expected[64], found[64];
    uint64_t there = request->object_bytes != UINT64_MAX ? request->object_bytes : request->bytes_read;
    snprintf(expected, sizeof expected, "at least the %llu bytes of its index", (unsigned long long)fetch->want_bytes);
    snprintf(found, sizeof found, "%llu bytes", (unsigned long long)there);
    if (there < fetch->want_bytes)
        dmc_error_set(&fetch->error, DAMACY_DECODE, "index", "the shard is too short for its index");
    else
        dmc_error_set(&fetch->error, DAMACY_DECODE, "index", "the shard's index ended after %llu bytes while it was read",
                      (unsigned long long)request->bytes_read);
    dmc_error_expected(&fetch->error, expected, found);
    return dmc_fetch_fail(fetch, 0, there < fetch->want_bytes ? there : 0);
}

enum dmc_fetch_step dmc_shard_index_next(struct dmc_fetch *fetch)
{
    switch (fetch->request.outcome) {
    case DMC_OUTCOME_OK:
        return decode(fetch, false);
    case DMC_OUTCOME_ABSENT:
        return decode(fetch, true);
    case DMC_OUTCOME_TRUNCATED:
        return fail_truncated(fetch);
    case DMC_OUTCOME_TOO_LONG: /* only of WHOLE */
    case DMC_OUTCOME_FAILED:
        break;
    }
    uint64_t begin, end;
    index_range(fetch, &begin, &end);
    return dmc_fetch_fail(fetch, begin, end);
}
