/* Filling the shard_index_cache: one ranged read of the end (or the beginning) of a shard. Over a network the sample's chunks
 * may come along with it, if it needs most of the shard and that is short: then the shard costs one request, not two.
 *
 * The key of an entry has, beside uri and coordinates, the fingerprint of the metadata and the number of entries: when an array
 * was replaced while we run, and its metadata were read again, no index of the old shape is ever used for the new one.
 *
 *     | uri, 0 | fingerprint u64 | chunks per shard u64 | coordinate u64 ... | */
#include "prefetch/metadata_fetch.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
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

/* --- what may come along --- */

/* What follows from box and shard, in a place where it is small: the chunks of the shard that the array reaches, those of them
 * that the box touches, and elements of the shard that the box does not want. */
struct need {
    uint64_t inside_count, touched_count, unwanted_elements;
};

static struct need need_of(const struct dmc_zarr_array *zarr, const uint64_t *shard, const struct damacy_interval *aabb)
{
    struct need need = {1, 1, 0};
    uint64_t inside = 1, wanted = 1; /* elements; at most 2^62 */
    for (uint32_t axis = 0; axis < zarr->rank; axis++) {
        uint64_t begin = dmc_zarr_grid_begin(zarr, axis, shard[axis]), chunk = zarr->chunk_shape[axis];
        uint64_t end = dmc_min_u64(begin + dmc_zarr_grid_extent(zarr, axis, shard[axis]), zarr->shape[axis]);
        uint64_t first = dmc_max_u64((uint64_t)aabb[axis].begin, begin), last = dmc_min_u64((uint64_t)aabb[axis].end, end);
        uint64_t chunks = dmc_ceil_div(end - begin, chunk);
        need.inside_count *= chunks;
        need.touched_count *= dmc_ceil_div(last - begin, chunk) - (first - begin) / chunk;
        inside *= chunks * chunk; /* stored chunks are whole */
        wanted *= last - first;
    }
    need.unwanted_elements = inside - wanted;
    return need;
}

static uint64_t kind_of(const struct dmc_array *array)
{
    const struct dmc_zarr_array *zarr = array->zarr;
    uint64_t hash = dmc_hash_u64((uintptr_t)array->store, (uint64_t)zarr->dtype << 32 | zarr->rank);
    hash = dmc_hash_bytes(zarr->chunk_shape, zarr->rank * sizeof *zarr->chunk_shape, hash);
    for (uint32_t i = 0; i < zarr->codecs.count; i++)
        hash = dmc_hash_bytes(zarr->codecs.list[i].name, strlen(zarr->codecs.list[i].name), hash);
    return hash;
}

/* Codecs hardly make longer what they cannot make shorter. */
static uint64_t chunk_bytes_max(const struct dmc_zarr_array *zarr)
{
    uint64_t bytes = zarr->chunk_elements * zarr->item_bytes;
    return bytes + bytes / 128 + 64;
}

/* A chunk of this kind as it is stored, with some room: too little costs a request that could be saved, too much costs nothing
 * on the way, since no more comes than there is. */
static uint64_t chunk_bytes_guess(const struct dmc_array *array, const struct dmc_chunk_sizes *sizes)
{
    uint64_t kind = kind_of(array), place = kind % DMC_CHUNK_SIZES, most = chunk_bytes_max(array->zarr);
    if (array->chain->raw || sizes->kinds[place] != kind)
        return most;
    return dmc_min_u64(most, sizes->bytes[place] + sizes->bytes[place] / 8 + 64);
}

static void learn_chunk_bytes(const struct dmc_fetch *fetch, struct dmc_chunk_sizes *sizes)
{
    uint64_t object_bytes = fetch->request.object_bytes;
    if (fetch->array->chain->raw || object_bytes == UINT64_MAX || object_bytes < fetch->want_bytes)
        return;
    uint64_t kind = kind_of(fetch->array), *known = &sizes->bytes[kind % DMC_CHUNK_SIZES];
    uint64_t bytes = dmc_ceil_div(object_bytes - fetch->want_bytes, fetch->inside_count);
    if (sizes->kinds[kind % DMC_CHUNK_SIZES] != kind || bytes > *known)
        *known = bytes;
    else
        *known -= (*known - bytes) / 8; /* a long one is soon forgotten where they got shorter */
    sizes->kinds[kind % DMC_CHUNK_SIZES] = kind;
}

/* How much more than its index is worth asking for. Only if the sample needs nearly all of it: what it does not need may cost
 * no more than the request that is saved, by the same measure as gaps between chunks. */
static uint64_t ahead_bytes(const struct dmc_array *array, const struct dmc_fetch_env *env, const struct need *need)
{
    uint64_t chunk_bytes = chunk_bytes_guess(array, env->chunk_sizes), bytes, unwanted_bytes,
             gap_bytes = env->coalesce_gap_bytes;
    if ((double)need->touched_count < 0.8 * (double)need->inside_count ||
        !dmc_mul_u64(need->inside_count, chunk_bytes, &bytes) || bytes > array->store->ops->ahead(array->store))
        return 0;
    /* Of chunks that are stored as they are, only what is wanted would be read. */
    if (array->chain->raw)
        unwanted_bytes = need->unwanted_elements * array->zarr->item_bytes;
    else
        unwanted_bytes = (need->inside_count - need->touched_count) * chunk_bytes;
    if (gap_bytes == 0)
        gap_bytes = dmc_store_hint_of(array->store).coalesce_gap_bytes;
    return unwanted_bytes <= gap_bytes ? bytes : 0;
}

enum dmc_fetch_step dmc_shard_index_begin(struct dmc_fetch *fetch, const struct dmc_fetch_env *env, const uint64_t *coordinates,
                                          const struct damacy_interval *aabb)
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
    dmc_fetch_ask(fetch, NULL, array->zarr->index_at_start ? DMC_RANGE_SPAN : DMC_RANGE_SUFFIX, 0,
                  dmc_shard_index_bytes(array->zarr, dmc_zarr_shard_chunks(array->zarr, coordinates)));
    if (array->store->ops->ahead) {
        struct need need = need_of(array->zarr, coordinates, aabb);
        fetch->inside_count = need.inside_count;
        fetch->request.ahead_bytes = ahead_bytes(array, env, &need);
    }
    return DMC_FETCH_START;
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

static enum dmc_fetch_step decode(struct dmc_fetch *fetch, const struct dmc_fetch_env *env, bool absent)
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
    if (!absent && fetch->array->store->ops->ahead)
        learn_chunk_bytes(fetch, env->chunk_sizes);
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

enum dmc_fetch_step dmc_shard_index_next(struct dmc_fetch *fetch, const struct dmc_fetch_env *env)
{
    switch (fetch->request.outcome) {
    case DMC_OUTCOME_OK:
        return decode(fetch, env, false);
    case DMC_OUTCOME_ABSENT:
        return decode(fetch, env, true);
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
