/* Filling the chunk_layout_cache: the 16 bytes in front of one blosc chunk, near where the first sample that asked is.
 *
 * A hint for sizing, so nothing that is wrong with the chunk is an error here: whoever reads the chunk will find out and tell.
 * For any codec but blosc the answer is "no layout", without a read. */
#include "prefetch/metadata_fetch.h"

#include "base/error.h"
#include "base/mem.h"

#include <string.h>

uint64_t dmc_chunk_layout_reserve(uint32_t uri_bytes)
{
    return dmc_prefetch_cache_reserve(uri_bytes, sizeof(struct dmc_chunk_layout));
}

void dmc_chunk_layout_free(void *layout)
{
    dmc_free(layout);
}

/* Does a stored chunk begin with a blosc header? A checksum goes behind what it covers. */
static bool begins_with_blosc(const struct dmc_zarr_codecs *codecs)
{
    uint32_t last = codecs->count;
    while (last > 0 && strcmp(codecs->list[last - 1].name, "crc32c") == 0)
        last--;
    const char *name = last > 0 ? codecs->list[last - 1].name : "";
    return strcmp(name, "blosc") == 0 || strcmp(name, "numcodecs.blosc") == 0;
}

/* `blosc` NULL: none is known. */
static enum dmc_fetch_step finish(struct dmc_fetch *fetch, const struct dmc_blosc_layout *blosc)
{
    struct dmc_chunk_layout *layout = dmc_calloc(1, sizeof *layout);
    if (!layout) {
        dmc_error_set(&fetch->error, DAMACY_OOM, "metadata", "no memory for a chunk layout");
        return dmc_fetch_fail(fetch, 0, 0);
    }
    if (blosc)
        *layout = (struct dmc_chunk_layout){.known = true, .blosc = *blosc};
    dmc_prefetch_cache_finish(fetch->cache, fetch->entry, layout,
                              dmc_prefetch_cache_held(fetch->entry->key_bytes, sizeof *layout));
    return DMC_FETCH_ENDED;
}

/* The stored bytes of the chunk that the box begins in or, if it is absent, of the shard's first one that is not. */
static struct dmc_shard_entry pick_entry(const struct dmc_array *array, const struct dmc_shard_index *index,
                                         const uint64_t *shard, const struct damacy_interval *aabb)
{
    const struct dmc_zarr_array *zarr = array->zarr;
    uint64_t linear = 0, chunk_count = dmc_zarr_shard_chunks(zarr, shard);
    for (uint32_t i = 0; i < zarr->rank; i++) {
        uint32_t axis = zarr->shard_order ? zarr->shard_order[i] : i;
        uint64_t begin = (uint64_t)aabb[axis].begin - dmc_zarr_grid_begin(zarr, axis, shard[axis]);
        uint64_t extent = dmc_zarr_grid_extent(zarr, axis, shard[axis]);
        linear = linear * (extent / zarr->chunk_shape[axis]) + begin / zarr->chunk_shape[axis];
    }
    if (!dmc_shard_entry_absent(index->entries[linear]))
        return index->entries[linear];
    for (uint64_t i = 0; i < chunk_count; i++)
        if (!dmc_shard_entry_absent(index->entries[i]))
            return index->entries[i];
    return index->entries[linear];
}

enum dmc_fetch_step dmc_chunk_layout_begin(struct dmc_fetch *fetch, const struct dmc_fetch_env *env,
                                           const struct damacy_interval *aabb)
{
    const struct dmc_array *array = fetch->array;
    const struct dmc_zarr_array *zarr = array->zarr;
    fetch->uri = array->uri;
    fetch->prefix_bytes = fetch->root_bytes = 0;
    fetch->twin_name = NULL;
    fetch->key[0] = 0;
    if (!begins_with_blosc(&zarr->codecs))
        return finish(fetch, NULL);
    uint64_t coordinates[DAMACY_RANK_MAX], offset = 0;
    for (uint32_t axis = 0; axis < zarr->rank; axis++)
        coordinates[axis] = dmc_zarr_grid_coordinate(zarr, axis, (uint64_t)aabb[axis].begin);
    if (zarr->sharded) {
        uint8_t key[DMC_SHARD_INDEX_KEY_BYTES];
        uint32_t bytes = dmc_shard_index_key(array, dmc_shard_index_key_head(array, key), coordinates, key);
        const struct dmc_prefetch_entry *found = dmc_prefetch_cache_find(env->shard_indices, key, bytes);
        const struct dmc_shard_index *index = found && found->state == DMC_ENTRY_READY ? found->value : NULL;
        if (!index || index->absent)
            return finish(fetch, NULL);
        struct dmc_shard_entry entry = pick_entry(array, index, coordinates, aabb);
        if (dmc_shard_entry_absent(entry) || entry.length < DMC_BLOSC_HEADER_BYTES)
            return finish(fetch, NULL);
        offset = entry.offset;
    }
    fetch->request.store = array->store;
    fetch->prefix_bytes = array->prefix_bytes;
    fetch->root_bytes = array->root_bytes;
    memcpy(fetch->key, array->prefix, array->prefix_bytes);
    fetch->key[array->prefix_bytes] = '/';
    dmc_zarr_chunk_key(zarr, coordinates, fetch->key + array->prefix_bytes + 1, DMC_ZARR_KEY_BYTES_MAX);
    return dmc_fetch_ask(fetch, NULL, DMC_RANGE_SPAN, offset, DMC_BLOSC_HEADER_BYTES);
}

enum dmc_fetch_step dmc_chunk_layout_next(struct dmc_fetch *fetch)
{
    struct dmc_blosc_layout blosc;
    bool known = fetch->request.outcome == DMC_OUTCOME_OK &&
                 dmc_blosc_layout_parse(fetch->buffer, fetch->request.bytes_read, &blosc, NULL) == DAMACY_OK;
    return finish(fetch, known ? &blosc : NULL);
}
