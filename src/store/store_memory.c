/* Objects in memory, for tests: a hash table behind a read-write lock. */
#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "store/child_list.h"
#include "store/io_internal.h"

#include <pthread.h>
#include <string.h>

#define BUCKETS 1024u

struct object {
    struct object *next;
    uint64_t hash;
    uint64_t bytes;
    uint64_t version;
    char *key;
    unsigned char data[];
};

struct memory_store {
    struct dmc_store store;
    pthread_rwlock_t lock; /* of all below */
    uint64_t version;
    struct object *buckets[BUCKETS];
};

static struct memory_store *of(struct dmc_store *store)
{
    return (struct memory_store *)store;
}

/* The link that points to the object, or the one at the end of its bucket. Under the lock. */
static struct object **find(struct memory_store *memory, const char *key)
{
    uint64_t hash = dmc_hash_bytes(key, strlen(key), 0);
    struct object **link = &memory->buckets[hash % BUCKETS];
    while (*link && ((*link)->hash != hash || strcmp((*link)->key, key) != 0))
        link = &(*link)->next;
    return link;
}

static enum dmc_start memory_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    (void)io;
    struct memory_store *memory = of(store);
    pthread_rwlock_rdlock(&memory->lock);
    const struct object *object = *find(memory, request->key);
    if (object) {
        request->version_tag = object->version;
        dmc_request_answer(request, object->data, object->bytes);
    } else {
        request->outcome = DMC_OUTCOME_ABSENT;
    }
    pthread_rwlock_unlock(&memory->lock);
    return DMC_START_DONE;
}

/* What the names are borrowed from stays while the lock is held, also during the calls: the callback may read, but not put. */
static enum damacy_status memory_list(struct dmc_store *store, const char *prefix, dmc_store_child_fn child, void *user,
                                      struct damacy_error *error)
{
    struct memory_store *memory = of(store);
    struct dmc_child_list list = {0};
    bool going = true;
    pthread_rwlock_rdlock(&memory->lock);
    for (uint32_t i = 0; i < BUCKETS && going; i++)
        for (const struct object *object = memory->buckets[i]; object && going; object = object->next)
            going = dmc_child_list_add(&list, prefix, object->key, strlen(object->key));
    enum damacy_status status = dmc_child_list_end(&list, child, user, error);
    pthread_rwlock_unlock(&memory->lock);
    return status;
}

static void object_free(struct object *object)
{
    if (!object)
        return;
    dmc_free(object->key);
    dmc_free(object);
}

static void memory_destroy(struct dmc_store *store)
{
    struct memory_store *memory = of(store);
    for (uint32_t i = 0; i < BUCKETS; i++) {
        for (struct object *object = memory->buckets[i], *next; object; object = next) {
            next = object->next;
            object_free(object);
        }
    }
    pthread_rwlock_destroy(&memory->lock);
    dmc_free(memory);
}

static const struct dmc_store_ops memory_ops = {
    .scheme = "memory", .start = memory_start, .list = memory_list, .destroy = memory_destroy};

enum damacy_status dmc_store_memory_create(struct dmc_store **store, struct damacy_error *error)
{
    struct memory_store *memory = dmc_calloc(1, sizeof *memory);
    if (!memory)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the memory store");
    memory->store.ops = &memory_ops;
    pthread_rwlock_init(&memory->lock, NULL);
    *store = &memory->store;
    return DAMACY_OK;
}

enum damacy_status dmc_store_memory_put(struct dmc_store *store, const char *key, const void *data, size_t bytes,
                                        struct damacy_error *error)
{
    struct memory_store *memory = of(store);
    struct object *object = NULL;
    if (data) {
        object = dmc_calloc(1, sizeof *object + bytes);
        if (object)
            object->key = dmc_strdup(key);
        if (!object || !object->key) {
            object_free(object);
            return dmc_error_set(error, DAMACY_OOM, "config", "no memory for an object of %zu bytes", bytes);
        }
        object->hash = dmc_hash_bytes(key, strlen(key), 0);
        object->bytes = bytes;
        memcpy(object->data, data, bytes);
    }
    pthread_rwlock_wrlock(&memory->lock);
    struct object **link = find(memory, key), *old = *link;
    if (object) {
        object->version = ++memory->version;
        object->next = old ? old->next : NULL;
        *link = object;
    } else if (old) {
        *link = old->next;
    }
    pthread_rwlock_unlock(&memory->lock);
    object_free(old);
    return DAMACY_OK;
}
