/* Filling the array_meta_cache: the metadata of an array are found, parsed, and its codec chain built.
 *
 *        .------------------------ a group that leads on: its path, again from the start ------------------------.
 *        v                                                                                                      |
 *     zarr.json --ok--> array: READY or FAILED; group: one step further, as the uri's fragment says ----------->+
 *        |  \--too long--> the same again with a larger buffer (so with all of them)                            |
 *        \--absent--> .zarray --ok--> array                                                                     |
 *                        \--absent--> .zattrs --ok--> group -------------------------------------------------->-+
 *                                        \--absent--> .zgroup --> FAILED, saying what is there
 *
 * A v3 array is one request. Of a v2 array zarr.json and .zarray are asked for at once where a neighbour, or one of the
 * neighbours of its folders, was of v2; zarr.json counts where both are there, whatever came first. */
#include "prefetch/metadata_fetch.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "zarr/group_select.h"

#include <stdio.h>
#include <string.h>

/* Transient memory of a parse, in bytes a byte of text. The densest JSON is "[0,0,...": for two characters a node of 16 bytes,
 * and another 24 on a stack that doubles. */
#define PARSE_FACTOR 32

/* An object whose size is not told is asked for with a buffer twice as large each time. */
#define TRIES_MAX 40

/* The object that is being asked for. */
enum { ASK_ZARR_JSON, ASK_ZARRAY, ASK_ZATTRS, ASK_ZGROUP };
static const char *const names[] = {"zarr.json", ".zarray", ".zattrs", ".zgroup"};

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
    /* The key of the metadata repeats a part of the prefix. */
    return dmc_prefetch_cache_reserve(uri_bytes, sizeof(struct dmc_array) + uri_bytes + 1 + 2 * DMC_FETCH_PREFIX_BYTES + 16 +
                                                     dmc_zarr_array_memory_max() + dmc_codec_chain_memory_max());
}

/* --- which format the neighbours had --- */

#define ANCESTORS 4

/* The table's word for a folder: its hash, with the last bit free. */
static uint64_t folder_hash(const struct dmc_store *store, const char *prefix, size_t bytes)
{
    return dmc_hash_bytes(prefix, bytes, (uint64_t)(uintptr_t)store) & ~UINT64_C(1);
}

/* The folder above; 0 bytes: the root. */
static size_t parent_bytes(const char *prefix, size_t bytes)
{
    while (bytes > 0 && prefix[bytes - 1] != '/')
        bytes--;
    return bytes > 0 ? bytes - 1 : 0;
}

/* Hashes of the folders around a node, the nearest first; returns how many. */
static uint32_t hints_folders(const struct dmc_fetch *fetch, uint64_t hashes[ANCESTORS])
{
    size_t bytes = fetch->prefix_bytes;
    uint32_t count = 0;
    while (count < ANCESTORS && bytes > 0) {
        bytes = parent_bytes(fetch->key, bytes);
        if (bytes == 0 && count > 0)
            break; /* the root is no neighbourhood, unless it is the folder itself */
        hashes[count++] = folder_hash(fetch->request.store, fetch->key, bytes);
    }
    return count;
}

static void hints_note(struct dmc_format_hints *hints, const struct dmc_fetch *fetch, bool v2)
{
    uint64_t hashes[ANCESTORS];
    uint32_t count = hints_folders(fetch, hashes);
    for (uint32_t i = 0; i < count; i++)
        hints->folders[hashes[i] / 2 % DMC_FORMAT_HINTS] = hashes[i] | v2;
}

static bool hints_say_v2(const struct dmc_format_hints *hints, const struct dmc_fetch *fetch)
{
    uint64_t hashes[ANCESTORS];
    uint32_t count = hints_folders(fetch, hashes);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t word = hints->folders[hashes[i] / 2 % DMC_FORMAT_HINTS];
        if ((word & ~UINT64_C(1)) == hashes[i])
            return word & 1;
    }
    return false;
}

/* --- asking --- */

static enum dmc_fetch_step ask_for(struct dmc_fetch *fetch, const struct dmc_fetch_env *env, uint32_t attempt)
{
    fetch->attempt = attempt;
    fetch->tries = 0;
    fetch->twin_name = NULL;
    if (attempt == ASK_ZGROUP) /* whether it is there is all that matters */
        return dmc_fetch_ask(fetch, names[attempt], DMC_RANGE_SPAN, 0, 1);
    return dmc_fetch_ask(fetch, names[attempt], DMC_RANGE_WHOLE, 0,
                         dmc_min_u64(DMC_ARRAY_META_READ_BYTES, env->metadata_object_bytes_max));
}

/* The node at the fetch's prefix. */
static enum dmc_fetch_step ask_for_node(struct dmc_fetch *fetch, const struct dmc_fetch_env *env, bool v2)
{
    enum dmc_fetch_step step = ask_for(fetch, env, ASK_ZARR_JSON);
    if (v2 || hints_say_v2(env->hints, fetch)) {
        /* What picks among arrays names a group: its attributes are what is needed. */
        fetch->twin_attempt = dmc_selection_needs_group(&fetch->selection) ? ASK_ZATTRS : ASK_ZARRAY;
        fetch->twin_name = names[fetch->twin_attempt];
    }
    return step;
}

/* Go on below the node. false: the path is too long, the error is set. */
static bool descend(struct dmc_fetch *fetch, const char *path)
{
    size_t bytes = strlen(path);
    if (++fetch->steps > DMC_GROUP_STEPS_MAX) {
        dmc_error_set(&fetch->error, DAMACY_DECODE, "metadata", "groups lead to groups and never to an array (%u steps)",
                      (unsigned)DMC_GROUP_STEPS_MAX);
        return false;
    }
    if (fetch->prefix_bytes + 1 + bytes >= DMC_FETCH_PREFIX_BYTES) {
        dmc_error_set(&fetch->error, DAMACY_INVAL, "metadata", "the path of the array is longer than %d bytes",
                      DAMACY_URI_BYTES_MAX);
        return false;
    }
    fetch->key[fetch->prefix_bytes] = '/';
    memcpy(fetch->key + fetch->prefix_bytes + 1, path, bytes + 1);
    fetch->prefix_bytes += 1 + (uint32_t)bytes;
    return true;
}

/* Forget all steps: the uri's own place, and all of its fragment. */
static bool locate(struct dmc_fetch *fetch)
{
    size_t bytes;
    fetch->prefix_bytes = fetch->root_bytes;
    fetch->key[fetch->root_bytes] = 0;
    fetch->steps = 0;
    return dmc_selection_parse(fetch->uri, &fetch->selection, &bytes, &fetch->error) == DAMACY_OK;
}

/* The steps that need no metadata. */
static bool descend_known(struct dmc_fetch *fetch)
{
    char path[DMC_GROUP_PATH_BYTES];
    while (!fetch->careful && dmc_group_step_known(&fetch->selection, path)) {
        fetch->guessed = true;
        if (!descend(fetch, path))
            return false;
    }
    return true;
}

enum dmc_fetch_step dmc_array_meta_begin(struct dmc_fetch *fetch, const struct dmc_fetch_env *env)
{
    size_t bytes;
    fetch->uri = fetch->entry->key;
    fetch->key[0] = 0;
    fetch->prefix_bytes = fetch->root_bytes = 0;
    fetch->guessed = fetch->careful = false;
    bool located = dmc_selection_parse(fetch->uri, &fetch->selection, &bytes, &fetch->error) == DAMACY_OK;
    if (located) {
        char *place = fetch->twin_key; /* not in use yet, and as long as a uri */
        memcpy(place, fetch->uri, bytes);
        place[bytes] = 0;
        located = dmc_stores_resolve(env->stores, place, &fetch->request.store, fetch->key, DMC_FETCH_PREFIX_BYTES,
                                     &fetch->error) == DAMACY_OK;
    }
    if (!located) {
        fetch->key[0] = 0;
        return dmc_fetch_fail(fetch, 0, 0);
    }
    fetch->root_bytes = (uint32_t)strlen(fetch->key);
    if (!locate(fetch) || !descend_known(fetch))
        return dmc_fetch_fail(fetch, 0, 0);
    return ask_for_node(fetch, env, false);
}

/* --- an array --- */

/* What was read: of the fetch itself, or of its twin. */
struct text {
    const char *at;
    uint64_t bytes;
    uint32_t attempt;
};

static bool may_parse(struct dmc_fetch *fetch, const struct dmc_fetch_env *env, const struct text *text)
{
    uint64_t transient_bytes = text->bytes * PARSE_FACTOR;
    transient_bytes -= dmc_min_u64(transient_bytes, DMC_METADATA_PARSE_RESERVE);
    if (transient_bytes <= env->parse_bytes)
        return true;
    dmc_error_set(&fetch->error, DAMACY_BUDGET, "metadata",
                  "%llu bytes more to parse the metadata exceed what max_host_memory_bytes leaves",
                  (unsigned long long)transient_bytes);
    dmc_error_hint(&fetch->error, "raise max_host_memory_bytes");
    return false;
}

/* Build the chain, and put it all into one dmc_array. Takes over `zarr`. */
static enum damacy_status make_array(struct dmc_fetch *fetch, const struct text *text, struct dmc_zarr_array *zarr,
                                     struct dmc_array **out)
{
    struct damacy_error *error = &fetch->error;
    struct dmc_codec_chain *chain = NULL;
    enum damacy_status status = dmc_codec_chain_create(zarr->codecs.list, zarr->codecs.count, zarr->dtype, zarr->rank,
                                                       zarr->chunk_shape, &chain, error);
    if (status) {
        dmc_zarr_array_free(zarr);
        return status;
    }
    const char *path = fetch->key + fetch->root_bytes + (fetch->prefix_bytes > fetch->root_bytes);
    uint32_t uri_bytes = fetch->entry->key_bytes, path_bytes = fetch->prefix_bytes - (uint32_t)(path - fetch->key);
    size_t name_bytes = strlen(names[text->attempt]) + 1;
    size_t own_bytes = sizeof(struct dmc_array) + uri_bytes + 1 + fetch->prefix_bytes + 1 + path_bytes + 1 + name_bytes;
    struct dmc_array *array = dmc_malloc(own_bytes);
    if (!array) {
        dmc_codec_chain_free(chain);
        dmc_zarr_array_free(zarr);
        return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for the array's metadata");
    }
    char *uri = (char *)(array + 1), *prefix = uri + uri_bytes + 1, *key = prefix + fetch->prefix_bytes + 1;
    memcpy(uri, fetch->uri, uri_bytes + 1);
    memcpy(prefix, fetch->key, fetch->prefix_bytes);
    prefix[fetch->prefix_bytes] = 0;
    memcpy(key, path, path_bytes);
    if (path_bytes)
        key[path_bytes++] = '/';
    memcpy(key + path_bytes, names[text->attempt], name_bytes);
    *array = (struct dmc_array){.zarr = zarr,
                                .chain = chain,
                                .store = fetch->request.store,
                                .uri = uri,
                                .prefix = prefix,
                                .metadata_key = key,
                                .uri_bytes = uri_bytes,
                                .prefix_bytes = fetch->prefix_bytes,
                                .root_bytes = fetch->root_bytes,
                                .fingerprint = dmc_hash_bytes(text->at, text->bytes, 0),
                                .memory_bytes = own_bytes + zarr->memory_bytes + chain->memory_bytes};
    atomic_init(&array->references, 1);
    *out = array;
    return DAMACY_OK;
}

static enum dmc_fetch_step finish_array(struct dmc_fetch *fetch, const struct text *text, struct dmc_zarr_array *zarr)
{
    struct dmc_array *array = NULL;
    if (dmc_group_arrived(&fetch->selection, &fetch->error)) {
        dmc_zarr_array_free(zarr);
        return dmc_fetch_fail(fetch, 0, 0);
    }
    if (make_array(fetch, text, zarr, &array))
        return dmc_fetch_fail(fetch, 0, 0);
    dmc_prefetch_cache_finish(fetch->cache, fetch->entry, array,
                              dmc_prefetch_cache_held(fetch->entry->key_bytes, array->memory_bytes));
    return DMC_FETCH_ENDED;
}

/* --- a group --- */

/* Of a group: one step further. `text` NULL: it has no attributes. */
static enum dmc_fetch_step follow(struct dmc_fetch *fetch, const struct dmc_fetch_env *env, const struct text *text, bool v2)
{
    char path[DMC_GROUP_PATH_BYTES];
    if (dmc_group_step(text ? text->at : NULL, text ? text->bytes : 0, &fetch->selection, path, &fetch->error) ||
        !descend(fetch, path) || !descend_known(fetch))
        return dmc_fetch_fail(fetch, 0, 0);
    return ask_for_node(fetch, env, v2);
}

/* A zarr.json: arrays are what is usual, so it is parsed as one first. */
static enum dmc_fetch_step take_zarr_json(struct dmc_fetch *fetch, const struct dmc_fetch_env *env, const struct text *text)
{
    struct dmc_zarr_array *zarr = NULL;
    hints_note(env->hints, fetch, false);
    if (dmc_zarr_array_parse(text->at, text->bytes, &fetch->selection, &zarr, &fetch->error) == DAMACY_OK)
        return finish_array(fetch, text, zarr);
    struct dmc_json_doc *document;
    const char *type = "";
    if (fetch->error.status == DAMACY_OOM || dmc_json_parse(text->at, text->bytes, &document, NULL))
        return dmc_fetch_fail(fetch, 0, 0); /* what is wrong was told already */
    dmc_json_string(dmc_json_get(dmc_json_root(document), "node_type"), &type, NULL);
    bool group = strcmp(type, "group") == 0;
    dmc_json_free(document);
    return group ? follow(fetch, env, text, false) : dmc_fetch_fail(fetch, 0, 0);
}

static enum dmc_fetch_step take_zarray(struct dmc_fetch *fetch, const struct dmc_fetch_env *env, const struct text *text)
{
    struct dmc_zarr_array *zarr = NULL;
    hints_note(env->hints, fetch, true);
    if (dmc_zarr_array_parse_v2(text->at, text->bytes, &fetch->selection, &zarr, &fetch->error))
        return dmc_fetch_fail(fetch, 0, 0);
    return finish_array(fetch, text, zarr);
}

static enum dmc_fetch_step take(struct dmc_fetch *fetch, const struct dmc_fetch_env *env, const struct text *text)
{
    if (text->attempt != fetch->attempt) { /* the twin's: messages are about its object */
        fetch->attempt = text->attempt;
        dmc_fetch_ask(fetch, names[text->attempt], DMC_RANGE_WHOLE, 0, 0);
    }
    if (!may_parse(fetch, env, text))
        return dmc_fetch_fail(fetch, 0, 0);
    switch (text->attempt) {
    case ASK_ZARR_JSON:
        return take_zarr_json(fetch, env, text);
    case ASK_ZARRAY:
        return take_zarray(fetch, env, text);
    default:
        return follow(fetch, env, text, true);
    }
}

/* --- answers --- */

/* The buffer was too small: how large is it really? */
static enum dmc_fetch_step ask_for_more(struct dmc_fetch *fetch, const struct dmc_fetch_env *env)
{
    uint64_t bytes_max = env->metadata_object_bytes_max, object_bytes = fetch->request.object_bytes;
    bool told = object_bytes != UINT64_MAX;
    fetch->twin_name = NULL;
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

/* None of them is there. The error is about the object that most arrays have. */
static enum dmc_fetch_step fail_notfound(struct dmc_fetch *fetch, const struct dmc_fetch_env *env)
{
    if (fetch->guessed && !fetch->careful) {
        /* A well or a label may be elsewhere than where its name says; and if not, the group can say what there is. */
        fetch->careful = true;
        return locate(fetch) ? ask_for_node(fetch, env, false) : dmc_fetch_fail(fetch, 0, 0);
    }
    dmc_fetch_ask(fetch, names[ASK_ZARR_JSON], DMC_RANGE_WHOLE, 0, 0);
    dmc_error_set(&fetch->error, DAMACY_NOTFOUND, "metadata", "no zarr.json there, and no .zarray either");
    if (fetch->prefix_bytes > fetch->root_bytes)
        dmc_error_hint(&fetch->error, "%s", dmc_selection_astray(&fetch->selection));
    else
        dmc_error_hint(&fetch->error, "the uri must name an array, that is, what holds its zarr.json or .zarray%s",
                       dmc_selection_doubt(fetch->uri));
    return dmc_fetch_fail(fetch, 0, 0);
}

/* Do these attributes lead to what the uri picks? If not, only a look for .zarray can tell what is there. */
static bool leads_on(struct dmc_fetch *fetch, const struct dmc_fetch_env *env, const struct text *text)
{
    char path[DMC_GROUP_PATH_BYTES];
    struct dmc_selection selection = fetch->selection;
    return may_parse(fetch, env, text) && dmc_group_step(text->at, text->bytes, &selection, path, NULL) == DAMACY_OK;
}

/* The object `absent` is not there; the twin may know about the next one. */
static enum dmc_fetch_step ask_for_next(struct dmc_fetch *fetch, const struct dmc_fetch_env *env, uint32_t absent)
{
    if (absent == ASK_ZARR_JSON && fetch->twin_name) {
        const struct dmc_request *twin = &fetch->twin;
        bool there = twin->outcome == DMC_OUTCOME_OK;
        struct text text = {(const char *)fetch->twin_buffer, twin->bytes_read, fetch->twin_attempt};
        fetch->twin_name = NULL;
        if (there && text.attempt == ASK_ZARRAY)
            return take(fetch, env, &text);
        if (there && leads_on(fetch, env, &text))
            return take(fetch, env, &text);
        if (twin->outcome == DMC_OUTCOME_ABSENT && text.attempt == ASK_ZARRAY)
            return ask_for(fetch, env, ASK_ZATTRS);
    }
    switch (absent) {
    case ASK_ZARR_JSON:
        return ask_for(fetch, env, ASK_ZARRAY);
    case ASK_ZARRAY:
        return ask_for(fetch, env, ASK_ZATTRS);
    case ASK_ZATTRS:
        return ask_for(fetch, env, ASK_ZGROUP);
    default:
        return fail_notfound(fetch, env);
    }
}

enum dmc_fetch_step dmc_array_meta_next(struct dmc_fetch *fetch, const struct dmc_fetch_env *env)
{
    const struct dmc_request *request = &fetch->request;
    bool there = request->outcome == DMC_OUTCOME_OK || request->outcome == DMC_OUTCOME_TRUNCATED;
    if (fetch->attempt == ASK_ZGROUP && there) /* a group without attributes leads nowhere: let it say so */
        return follow(fetch, env, NULL, true);
    switch (request->outcome) {
    case DMC_OUTCOME_OK:
        return take(fetch, env, &(struct text){(const char *)fetch->buffer, request->bytes_read, fetch->attempt});
    case DMC_OUTCOME_ABSENT:
        return ask_for_next(fetch, env, fetch->attempt);
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
