/* Filling the array_meta_cache: the zarr.json of an array is read, parsed, and its codec chain built.
 *
 *     zarr.json --ok--> parse --> READY or FAILED
 *        |  \--too long--> the same again with a larger buffer
 *        \--absent--> .zarray --absent--> .zgroup --> FAILED
 *
 * The two files of Zarr v2 are asked for only to say what is there instead; whatever goes wrong with them goes unmentioned. */
#include "prefetch/metadata_fetch.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

/* Transient memory of a parse, in bytes a byte of text. The densest JSON is "[0,0,...": for two characters a node of 16 bytes,
 * and another 24 on a stack that doubles. */
#define PARSE_FACTOR 32

/* An object whose size is not told is asked for with a buffer twice as large each time. */
#define TRIES_MAX 40

enum { ATTEMPT_V3, ATTEMPT_V2_ARRAY, ATTEMPT_V2_GROUP };

void dmc_array_retain(struct dmc_array *array)
{
    atomic_fetch_add_explicit(&array->references, 1, memory_order_relaxed);
}

void dmc_array_release(struct dmc_array *array)
{
    /* Pairs with the other releases: the last one sees all that was done under the others. */
    if (!array || atomic_fetch_sub_explicit(&array->references, 1, memory_order_acq_rel) != 1)
        return;
    dmc_codec_chain_free(array->chain);
    dmc_zarr_array_free(array->zarr);
    dmc_free(array);
}

void dmc_array_meta_free(void *array)
{
    dmc_array_release(array);
}

uint64_t dmc_array_meta_reserve(uint32_t uri_bytes)
{
    return dmc_prefetch_cache_reserve(uri_bytes, sizeof(struct dmc_array) + uri_bytes + 1 + DMC_FETCH_PREFIX_BYTES +
                                                     dmc_zarr_array_memory_max() + dmc_codec_chain_memory_max());
}

enum dmc_fetch_step dmc_array_meta_begin(struct dmc_fetch *fetch, const struct dmc_fetch_env *env)
{
    fetch->uri = fetch->entry->key;
    fetch->key[0] = 0;
    fetch->prefix_bytes = 0;
    if (dmc_stores_resolve(env->stores, fetch->uri, &fetch->request.store, fetch->key, DMC_FETCH_PREFIX_BYTES, &fetch->error)) {
        fetch->key[0] = 0;
        return dmc_fetch_fail(fetch, 0, 0);
    }
    fetch->prefix_bytes = (uint32_t)strlen(fetch->key);
    fetch->attempt = ATTEMPT_V3;
    fetch->tries = 0;
    return dmc_fetch_ask(fetch, "zarr.json", DMC_RANGE_WHOLE, 0,
                         dmc_min_u64(DMC_ARRAY_META_READ_BYTES, env->metadata_object_bytes_max));
}

/* Parse, build the chain, and put it all into one dmc_array. */
static enum damacy_status make_array(struct dmc_fetch *fetch, struct dmc_array **out)
{
    const char *text = (const char *)fetch->buffer;
    uint64_t bytes = fetch->request.bytes_read;
    struct damacy_error *error = &fetch->error;
    struct dmc_zarr_array *zarr = NULL;
    enum damacy_status status = dmc_zarr_array_parse(text, bytes, NULL, &zarr, error);
    if (status)
        return status;
    struct dmc_codec_chain *chain = NULL;
    status = dmc_codec_chain_create(zarr->codecs.list, zarr->codecs.count, zarr->dtype, zarr->rank, zarr->chunk_shape, &chain,
                                    error);
    if (status) {
        dmc_zarr_array_free(zarr);
        return status;
    }
    uint32_t uri_bytes = fetch->entry->key_bytes;
    size_t own_bytes = sizeof(struct dmc_array) + uri_bytes + 1 + fetch->prefix_bytes + 1;
    struct dmc_array *array = dmc_malloc(own_bytes);
    if (!array) {
        dmc_codec_chain_free(chain);
        dmc_zarr_array_free(zarr);
        return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for the array's metadata");
    }
    char *uri = (char *)(array + 1), *prefix = uri + uri_bytes + 1;
    memcpy(uri, fetch->uri, uri_bytes + 1);
    memcpy(prefix, fetch->key, fetch->prefix_bytes);
    prefix[fetch->prefix_bytes] = 0;
    *array = (struct dmc_array){.zarr = zarr,
                                .chain = chain,
                                .store = fetch->request.store,
                                .uri = uri,
                                .prefix = prefix,
                                .uri_bytes = uri_bytes,
                                .prefix_bytes = fetch->prefix_bytes,
                                .fingerprint = dmc_hash_bytes(text, bytes, 0),
                                .memory_bytes = own_bytes + zarr->memory_bytes + chain->memory_bytes};
    atomic_init(&array->references, 1);
    *out = array;
    return DAMACY_OK;
}

static enum dmc_fetch_step parse(struct dmc_fetch *fetch, const struct dmc_fetch_env *env)
{
    uint64_t transient_bytes = fetch->request.bytes_read * PARSE_FACTOR;
    transient_bytes -= dmc_min_u64(transient_bytes, DMC_METADATA_PARSE_RESERVE);
    if (transient_bytes > env->parse_bytes) {
        dmc_error_set(&fetch->error, DAMACY_BUDGET, "metadata",
                      "%llu bytes more to parse the metadata exceed what max_host_memory_bytes leaves",
                      (unsigned long long)transient_bytes);
        dmc_error_hint(&fetch->error, "raise max_host_memory_bytes");
        return dmc_fetch_fail(fetch, 0, 0);
    }
    struct dmc_array *array = NULL;
    enum damacy_status status = make_array(fetch, &array);
    if (status)
        return dmc_fetch_fail(fetch, 0, 0);
    dmc_prefetch_cache_finish(fetch->cache, fetch->entry, array,
                              dmc_prefetch_cache_held(fetch->entry->key_bytes, array->memory_bytes));
    return DMC_FETCH_ENDED;
}

/* The buffer was too small: how large is it really? */
static enum dmc_fetch_step ask_for_more(struct dmc_fetch *fetch, const struct dmc_fetch_env *env)
{
    uint64_t bytes_max = env->metadata_object_bytes_max, object_bytes = fetch->request.object_bytes;
    bool told = object_bytes != UINT64_MAX;
    if (told ? object_bytes > bytes_max : fetch->want_bytes >= bytes_max) {
        char expected[64], found[64];
        snprintf(expected, sizeof expected, "at most %llu bytes", (unsigned long long)bytes_max);
        snprintf(found, sizeof found, told ? "%llu bytes" : "more", (unsigned long long)object_bytes);
        dmc_error_set(&fetch->error, DAMACY_BUDGET, "metadata", "the metadata are larger than metadata_object_bytes_max");
        dmc_error_expected(&fetch->error, expected, found);
        dmc_error_hint(&fetch->error, "raise metadata_object_bytes_max if this is meant");
        return dmc_fetch_fail(fetch, 0, 0);
    }
    if (++fetch->tries > TRIES_MAX) {
        dmc_error_set(&fetch->error, DAMACY_IO, "metadata", "the object keeps changing its size");
        return dmc_fetch_fail(fetch, 0, 0);
    }
    uint64_t bytes = told && object_bytes > fetch->want_bytes ? object_bytes : fetch->want_bytes * 2;
    return dmc_fetch_ask(fetch, NULL, DMC_RANGE_WHOLE, 0, dmc_min_u64(bytes, bytes_max));
}

static enum dmc_fetch_step fail_notfound(struct dmc_fetch *fetch, const char *instead, const char *hint)
{
    dmc_fetch_ask(fetch, "zarr.json", DMC_RANGE_WHOLE, 0, 0); /* the error is about this key, not the one tried last */
    dmc_error_set(&fetch->error, DAMACY_NOTFOUND, "metadata", "no zarr.json there%s", instead);
    dmc_error_hint(&fetch->error, "%s", hint);
    return dmc_fetch_fail(fetch, 0, 0);
}

/* An answer to the question whether an object of Zarr v2 is there. */
static enum dmc_fetch_step next_v2(struct dmc_fetch *fetch)
{
    bool there = fetch->request.outcome == DMC_OUTCOME_OK || fetch->request.outcome == DMC_OUTCOME_TRUNCATED;
    if (there && fetch->attempt == ATTEMPT_V2_ARRAY)
        return fail_notfound(fetch, ", only a .zarray: this is a Zarr v2 array", "convert the array to Zarr v3");
    if (there)
        return fail_notfound(fetch, ", only a .zgroup: this is a Zarr v2 group",
                             "name an array, and one in Zarr v3, not a group");
    if (fetch->attempt == ATTEMPT_V2_ARRAY) {
        fetch->attempt = ATTEMPT_V2_GROUP;
        return dmc_fetch_ask(fetch, ".zgroup", DMC_RANGE_SPAN, 0, 1);
    }
    return fail_notfound(fetch, "", "the uri must name an array, that is, what holds its zarr.json");
}

enum dmc_fetch_step dmc_array_meta_next(struct dmc_fetch *fetch, const struct dmc_fetch_env *env)
{
    const struct dmc_request *request = &fetch->request;
    if (fetch->attempt != ATTEMPT_V3)
        return next_v2(fetch);
    switch (request->outcome) {
    case DMC_OUTCOME_OK:
        return parse(fetch, env);
    case DMC_OUTCOME_ABSENT:
        fetch->attempt = ATTEMPT_V2_ARRAY;
        return dmc_fetch_ask(fetch, ".zarray", DMC_RANGE_SPAN, 0, 1);
    case DMC_OUTCOME_TOO_LONG:
        return ask_for_more(fetch, env);
    case DMC_OUTCOME_TRUNCATED:
        dmc_error_set(&fetch->error, DAMACY_DECODE, "metadata", "the object ended after %llu bytes while it was read",
                      (unsigned long long)request->bytes_read);
        break;
    case DMC_OUTCOME_FAILED:
        break; /* the store has told */
    }
    return dmc_fetch_fail(fetch, 0, 0);
}
