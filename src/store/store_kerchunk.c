/* Kerchunk references: keys that stand for bytes of other files, which may lie in any store; or for bytes of their own.
 *
 * Urls are taken as they are: a path without a scheme is relative to the working directory. References that came over a network
 * may lead to networks only, so that no server chooses files of this machine. A file is looked up at the first
 * reference to it that is read. That it is missing, or too short, is a failure and not an absent chunk. */
#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "store/child_list.h"
#include "store/containers.h"
#include "store/kerchunk_refs.h"
#include "store/redirect.h"

#include <stdio.h>
#include <string.h>

struct dmc_target {
    struct dmc_store *store;
    uint64_t key_hash;
    size_t memory_bytes;
    char key[];
};

struct kerchunk_store {
    struct dmc_store store;
    struct dmc_container_source source; /* but for `read` */
    struct dmc_references references;
};

static struct kerchunk_store *of(struct dmc_store *store)
{
    return (struct kerchunk_store *)store;
}

static enum damacy_status make_target(struct kerchunk_store *kerchunk, const char *url, struct dmc_target **out,
                                      struct damacy_error *error)
{
    char prefix[DAMACY_URI_BYTES_MAX + 1];
    struct dmc_store *store;
    enum damacy_status status = dmc_stores_resolve_plain(kerchunk->source.stores, url, &store, prefix, sizeof prefix, error);
    if (status)
        return status;
    if (kerchunk->source.remote && !dmc_store_hint_of(store).remote) {
        dmc_error_set(error, DAMACY_UNSUPPORTED, "read",
                      "references that came over a network name a file of this machine: they are not followed");
        dmc_error_hint(error, "write them with whole urls, or copy the references here");
        return DAMACY_UNSUPPORTED;
    }
    size_t key_bytes = strlen(prefix) + 1, memory_bytes = sizeof(struct dmc_target) + key_bytes;
    if (!dmc_budget_reserve(kerchunk->source.budget, memory_bytes))
        return dmc_error_set(error, DAMACY_BUDGET, "read",
                             "the references name more files than the memory for containers holds");
    struct dmc_target *target = dmc_malloc(memory_bytes);
    if (!target) {
        dmc_budget_unreserve(kerchunk->source.budget, memory_bytes);
        return dmc_error_set(error, DAMACY_OOM, "read", "no memory for a reference");
    }
    target->store = store;
    target->key_hash = dmc_hash_bytes(prefix, key_bytes - 1, 0);
    target->memory_bytes = memory_bytes;
    memcpy(target->key, prefix, key_bytes);
    *out = target;
    return DAMACY_OK;
}

static void free_target(struct kerchunk_store *kerchunk, struct dmc_target *target)
{
    if (!target)
        return;
    dmc_budget_unreserve(kerchunk->source.budget, target->memory_bytes);
    dmc_free(target);
}

/* Where the url leads. */
static enum damacy_status open_target(struct kerchunk_store *kerchunk, struct dmc_reference_target *entry,
                                      const struct dmc_target **out, struct damacy_error *error)
{
    struct dmc_target *target = atomic_load_explicit(&entry->opened, memory_order_acquire), *first = NULL;
    if (!target) {
        enum damacy_status status =
            make_target(kerchunk, dmc_object_map_name(&kerchunk->references.targets, entry), &target, error);
        if (status)
            return status;
        if (!atomic_compare_exchange_strong_explicit(&entry->opened, &first, target, memory_order_acq_rel,
                                                     memory_order_acquire)) {
            free_target(kerchunk, target); /* another thread was quicker */
            target = first;
        }
    }
    *out = target;
    return DAMACY_OK;
}

static struct dmc_redirect range_of(struct kerchunk_store *kerchunk, struct dmc_reference *reference,
                                    const struct dmc_target *target)
{
    return (struct dmc_redirect){.outer = &kerchunk->store,
                                 .inner = target->store,
                                 .key = target->key,
                                 .key_hash = target->key_hash,
                                 .begin = reference->begin,
                                 .bytes = reference->bytes,
                                 .what = "the file that the reference names",
                                 .data = reference};
}

static struct dmc_reference_target *target_of(struct kerchunk_store *kerchunk, const struct dmc_reference *reference)
{
    return dmc_object_map_at(&kerchunk->references.targets, reference->target - 1);
}

/* The message should say where the bytes were to come from. */
static void say_where(struct kerchunk_store *kerchunk, const struct dmc_reference *reference, struct dmc_request *request)
{
    if (request->outcome != DMC_OUTCOME_FAILED || request->status == DAMACY_SHUTDOWN)
        return;
    char url[200];
    damacy_uri_shown(dmc_object_map_name(&kerchunk->references.targets, target_of(kerchunk, reference)), url, sizeof url);
    dmc_error_hint(request->error, "the reference is to %s", url);
}

static enum dmc_start kerchunk_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    struct kerchunk_store *kerchunk = of(store);
    const char *name = request->key + (request->key[0] == '/'); /* of the root */
    struct dmc_reference *reference = dmc_object_map_get(&kerchunk->references.refs, name, strlen(name));
    if (!reference) {
        request->outcome = DMC_OUTCOME_ABSENT;
        return DMC_START_DONE;
    }
    if (!reference->target) {
        request->version_tag = kerchunk->source.version_tag;
        dmc_request_answer(request, kerchunk->references.refs.text + reference->begin, reference->bytes);
        return DMC_START_DONE;
    }
    const struct dmc_target *target = NULL;
    request->status = open_target(kerchunk, target_of(kerchunk, reference), &target, request->error);
    if (request->status) {
        request->outcome = DMC_OUTCOME_FAILED;
        say_where(kerchunk, reference, request);
        return DMC_START_DONE;
    }
    struct dmc_redirect to = range_of(kerchunk, reference, target);
    enum dmc_start start = dmc_redirect_start(&to, io, request);
    if (start == DMC_START_DONE)
        say_where(kerchunk, reference, request);
    return start;
}

static enum dmc_start kerchunk_resume(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    (void)io;
    struct kerchunk_store *kerchunk = of(store);
    struct dmc_reference *reference = dmc_request_frame(request)->data;
    const struct dmc_target *target = atomic_load_explicit(&target_of(kerchunk, reference)->opened, memory_order_acquire);
    struct dmc_redirect to = range_of(kerchunk, reference, target);
    dmc_redirect_resume(&to, request);
    say_where(kerchunk, reference, request);
    return DMC_START_DONE;
}

static enum damacy_status kerchunk_list(struct dmc_store *store, const char *prefix, dmc_store_child_fn child, void *user,
                                        struct damacy_error *error)
{
    return dmc_child_list_map(&of(store)->references.refs, prefix, child, user, error);
}

static void kerchunk_expect(struct dmc_store *store, const char *key, uint64_t key_hash, uint64_t offset, uint64_t bytes)
{
    (void)key_hash;
    struct kerchunk_store *kerchunk = of(store);
    const char *name = key + (key[0] == '/');
    struct dmc_reference *reference = dmc_object_map_get(&kerchunk->references.refs, name, strlen(name));
    const struct dmc_target *target = NULL;
    if (!reference || !reference->target || open_target(kerchunk, target_of(kerchunk, reference), &target, NULL) != DAMACY_OK)
        return; /* the read itself says what is wrong */
    struct dmc_redirect to = range_of(kerchunk, reference, target);
    dmc_redirect_expect(&to, offset, bytes);
}

/* That of the first file: references mostly lead to one place. */
static void kerchunk_hint(struct dmc_store *store, struct dmc_store_hint *hint)
{
    struct kerchunk_store *kerchunk = of(store);
    const struct dmc_target *target = NULL;
    if (kerchunk->references.targets.count > 0 &&
        open_target(kerchunk, dmc_object_map_at(&kerchunk->references.targets, 0), &target, NULL) == DAMACY_OK)
        *hint = dmc_store_hint_of(target->store);
}

static void kerchunk_destroy(struct dmc_store *store)
{
    struct kerchunk_store *kerchunk = of(store);
    for (uint32_t i = 0; i < kerchunk->references.targets.count; i++) {
        struct dmc_reference_target *entry = dmc_object_map_at(&kerchunk->references.targets, i);
        free_target(kerchunk, atomic_load(&entry->opened));
    }
    dmc_references_deinit(&kerchunk->references);
    dmc_free(kerchunk);
}

static const struct dmc_store_ops kerchunk_ops = {.scheme = "kerchunk",
                                                  .start = kerchunk_start,
                                                  .resume = kerchunk_resume,
                                                  .list = kerchunk_list,
                                                  .expect = kerchunk_expect,
                                                  .hint = kerchunk_hint,
                                                  .destroy = kerchunk_destroy};

static enum damacy_status read_references(struct kerchunk_store *kerchunk, const struct dmc_container_source *source,
                                          struct damacy_error *error)
{
    uint64_t transient_bytes = 0;
    if (!dmc_mul_u64(source->bytes, DMC_REFERENCES_PARSE_FACTOR + 1, &transient_bytes) ||
        !dmc_budget_reserve(source->budget, transient_bytes)) {
        dmc_error_set(error, DAMACY_BUDGET, "metadata",
                      "to read the %llu bytes of references takes more than the %llu for containers",
                      (unsigned long long)source->bytes, (unsigned long long)source->budget->limit_bytes);
        dmc_error_hint(error, "raise max_host_memory_bytes");
        return DAMACY_BUDGET;
    }
    char *text = dmc_malloc(source->bytes ? source->bytes : 1);
    enum damacy_status status = DAMACY_OOM;
    if (!text)
        dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for %llu bytes of references",
                      (unsigned long long)source->bytes);
    else if (!(status = source->read(source->read_user, 0, text, source->bytes, error)))
        status = dmc_references_parse(text, source->bytes, source->budget, &kerchunk->references, error);
    dmc_free(text);
    dmc_budget_unreserve(source->budget, transient_bytes);
    return status;
}

enum damacy_status dmc_store_kerchunk_open(const struct dmc_container_source *source, struct dmc_store **out,
                                           struct damacy_error *error)
{
    struct kerchunk_store *kerchunk = dmc_calloc(1, sizeof *kerchunk);
    if (!kerchunk)
        return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for the references");
    kerchunk->store.ops = &kerchunk_ops;
    kerchunk->source = *source;
    enum damacy_status status = read_references(kerchunk, source, error);
    if (status) {
        kerchunk_destroy(&kerchunk->store);
        return status;
    }
    *out = &kerchunk->store;
    return DAMACY_OK;
}
