/* Chunks that came along with the index of their shard, kept until they are asked for.
 *
 *     RESERVED --the answer's bytes are all there--> KEPT --announced, and all of that taken--> DONE --room is needed--> gone
 *         \----it failed, or the object has none-------|----------------------------------------------------------------> gone
 *                                                      \--never asked for, although many others came since--> DONE
 *
 * Room is reserved before such a request goes out, and what has not been used yet never makes room for more: bytes that came
 * are not fetched twice, and where a pipeline resolves samples long before it reads them, the later ones have their index read
 * alone. A body that is DONE still serves who comes before its room is needed. */
#include "base/bytes.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/thread.h"
#include "store/net_engine_impl.h"

#include <assert.h>
#include <string.h>

#define BUCKETS 1024u /* a power of two */
#define BODIES_MAX 2048u
/* What was not asked for while so many others wished for room will not be: its sample failed, or the object changed. Far more
 * than samples are resolved before they are read. */
#define FORGOTTEN_AFTER 8192u

struct dmc_ahead_body {
    struct dmc_ahead_body *older, *newer;
    struct dmc_ahead_body *previous, *next; /* in its bucket, once it is kept */
    uint64_t object_hash;
    uint64_t begin, end; /* of the object */
    uint64_t tag, object_bytes;
    uint64_t number;       /* of the wish for room that it came from */
    uint64_t charge_bytes; /* with this structure and the key */
    uint32_t expected;     /* announced and not taken yet */
    bool kept, done;
    unsigned char *bytes;
    char key[];
};

struct dmc_net_ahead {
    uint64_t bytes_max; /* constant */
    struct dmc_mutex lock;
    uint64_t shared_bytes DMC_GUARDED_BY(lock);      /* of all bodies */
    uint64_t shared_live_bytes DMC_GUARDED_BY(lock); /* of those that are not done */
    uint64_t shared_wishes DMC_GUARDED_BY(lock);
    uint32_t shared_count DMC_GUARDED_BY(lock);
    struct dmc_ahead_body *shared_oldest DMC_GUARDED_BY(lock), *shared_newest DMC_GUARDED_BY(lock);
    struct dmc_ahead_body *shared_buckets[BUCKETS] DMC_GUARDED_BY(lock);
};

struct dmc_net_ahead *dmc_ahead_create(uint64_t bytes_max)
{
    struct dmc_net_ahead *ahead = dmc_calloc(1, sizeof *ahead);
    if (!ahead)
        return NULL;
    ahead->bytes_max = bytes_max;
    dmc_mutex_init(&ahead->lock);
    return ahead;
}

static void free_body(struct dmc_ahead_body *body)
{
    dmc_free(body->bytes);
    dmc_free(body);
}

void dmc_ahead_destroy(struct dmc_net_ahead *ahead)
{
    if (!ahead)
        return;
    dmc_mutex_lock(&ahead->lock);
    for (struct dmc_ahead_body *body = ahead->shared_oldest, *newer; body; body = newer) {
        newer = body->newer;
        free_body(body);
    }
    dmc_mutex_unlock(&ahead->lock);
    dmc_mutex_deinit(&ahead->lock);
    dmc_free(ahead);
}

/* --- the list of all, and the table of those that are kept --- */

static struct dmc_ahead_body **bucket_locked(struct dmc_net_ahead *ahead, uint64_t object_hash) DMC_REQUIRES(ahead->lock)
{
    return &ahead->shared_buckets[object_hash & (BUCKETS - 1)];
}

static void finish_locked(struct dmc_net_ahead *ahead, struct dmc_ahead_body *body) DMC_REQUIRES(ahead->lock)
{
    if (body->done)
        return;
    body->done = true;
    ahead->shared_live_bytes -= body->charge_bytes;
}

static void remove_locked(struct dmc_net_ahead *ahead, struct dmc_ahead_body *body) DMC_REQUIRES(ahead->lock)
{
    finish_locked(ahead, body);
    *(body->older ? &body->older->newer : &ahead->shared_oldest) = body->newer;
    *(body->newer ? &body->newer->older : &ahead->shared_newest) = body->older;
    if (body->kept) {
        *(body->previous ? &body->previous->next : bucket_locked(ahead, body->object_hash)) = body->next;
        if (body->next)
            body->next->previous = body->previous;
    }
    ahead->shared_bytes -= body->charge_bytes;
    ahead->shared_count--;
    free_body(body);
}

/* --- room --- */

uint64_t dmc_ahead_room(struct dmc_net_ahead *ahead)
{
    if (!ahead)
        return 0;
    dmc_mutex_lock(&ahead->lock);
    uint64_t now = ++ahead->shared_wishes;
    for (struct dmc_ahead_body *body = ahead->shared_oldest; body && body->number + FORGOTTEN_AFTER < now; body = body->newer)
        if (body->kept)
            finish_locked(ahead, body);
    uint64_t room = ahead->bytes_max - ahead->shared_live_bytes;
    dmc_mutex_unlock(&ahead->lock);
    return room;
}

/* Have so many bytes more, at the cost of what is done. */
static bool make_room_locked(struct dmc_net_ahead *ahead, uint64_t bytes) DMC_REQUIRES(ahead->lock)
{
    if (bytes > ahead->bytes_max - ahead->shared_live_bytes)
        return false;
    for (struct dmc_ahead_body *body = ahead->shared_oldest, *newer;
         body && (ahead->shared_bytes + bytes > ahead->bytes_max || ahead->shared_count >= BODIES_MAX); body = newer) {
        newer = body->newer;
        if (body->done)
            remove_locked(ahead, body);
    }
    return ahead->shared_count < BODIES_MAX;
}

struct dmc_ahead_body *dmc_ahead_reserve(struct dmc_net_ahead *ahead, const char *key, uint64_t object_hash, uint64_t bytes)
{
    size_t key_bytes = strlen(key) + 1;
    if (!ahead)
        return NULL;
    struct dmc_ahead_body *body = dmc_calloc(1, sizeof *body + key_bytes);
    unsigned char *memory = body ? dmc_malloc(bytes) : NULL;
    if (!memory) {
        dmc_free(body);
        return NULL;
    }
    memcpy(body->key, key, key_bytes);
    body->bytes = memory;
    body->object_hash = object_hash;
    body->charge_bytes = sizeof *body + key_bytes + bytes;
    dmc_mutex_lock(&ahead->lock);
    bool room = make_room_locked(ahead, body->charge_bytes);
    if (room) {
        body->number = ahead->shared_wishes;
        body->older = ahead->shared_newest;
        *(body->older ? &body->older->newer : &ahead->shared_oldest) = body;
        ahead->shared_newest = body;
        ahead->shared_bytes += body->charge_bytes;
        ahead->shared_live_bytes += body->charge_bytes;
        ahead->shared_count++;
    }
    dmc_mutex_unlock(&ahead->lock);
    if (room)
        return body;
    free_body(body);
    return NULL;
}

unsigned char *dmc_ahead_bytes(const struct dmc_ahead_body *body)
{
    return body->bytes;
}

void dmc_ahead_drop(struct dmc_net_ahead *ahead, struct dmc_ahead_body *body)
{
    dmc_mutex_lock(&ahead->lock);
    remove_locked(ahead, body);
    dmc_mutex_unlock(&ahead->lock);
}

void dmc_ahead_keep(struct dmc_net_ahead *ahead, struct dmc_ahead_body *body, uint64_t begin, uint64_t bytes, uint64_t tag,
                    uint64_t object_bytes)
{
    if (bytes == 0) {
        dmc_ahead_drop(ahead, body);
        return;
    }
    uint64_t charge_bytes = sizeof *body + strlen(body->key) + 1 + bytes;
    unsigned char *memory = charge_bytes < body->charge_bytes ? dmc_realloc(body->bytes, bytes) : NULL;
    dmc_mutex_lock(&ahead->lock);
    if (memory) {
        body->bytes = memory;
        ahead->shared_bytes -= body->charge_bytes - charge_bytes;
        ahead->shared_live_bytes -= body->charge_bytes - charge_bytes;
        body->charge_bytes = charge_bytes;
    }
    body->begin = begin;
    body->end = begin + bytes;
    body->tag = tag;
    body->object_bytes = object_bytes;
    body->kept = true;
    struct dmc_ahead_body **first = bucket_locked(ahead, body->object_hash);
    body->next = *first;
    if (*first)
        (*first)->previous = body;
    *first = body;
    dmc_mutex_unlock(&ahead->lock);
}

void dmc_ahead_forget(struct dmc_net_ahead *ahead, uint64_t object_hash, bool all)
{
    if (!ahead)
        return;
    dmc_mutex_lock(&ahead->lock);
    for (struct dmc_ahead_body *body = *bucket_locked(ahead, object_hash), *next; body; body = next) {
        next = body->next;
        if (body->object_hash == object_hash && (all || body->tag == 0))
            remove_locked(ahead, body);
    }
    dmc_mutex_unlock(&ahead->lock);
}

/* --- who asks --- */

/* The newest one that has all of it. */
static struct dmc_ahead_body *find_locked(struct dmc_net_ahead *ahead, uint64_t object_hash, uint64_t begin, uint64_t end)
    DMC_REQUIRES(ahead->lock)
{
    struct dmc_ahead_body *body = *bucket_locked(ahead, object_hash);
    while (body && (body->object_hash != object_hash || body->begin > begin || body->end < end))
        body = body->next;
    return body;
}

void dmc_ahead_expect(struct dmc_net_ahead *ahead, uint64_t object_hash, uint64_t begin, uint64_t end)
{
    if (!ahead || end <= begin)
        return;
    dmc_mutex_lock(&ahead->lock);
    struct dmc_ahead_body *body = find_locked(ahead, object_hash, begin, end);
    if (body)
        body->expected++;
    dmc_mutex_unlock(&ahead->lock);
}

bool dmc_ahead_take(struct dmc_net_ahead *ahead, struct dmc_transfer *transfer)
{
    if (!ahead || transfer->kind != DMC_RANGE_SPAN || transfer->ask_size)
        return false;
    uint64_t begin = transfer->absolute, end = begin + transfer->capacity;
    dmc_mutex_lock(&ahead->lock);
    struct dmc_ahead_body *body = find_locked(ahead, transfer->object_hash, begin, end);
    bool taken = body && strcmp(body->key, transfer->request->key) == 0;
    if (taken) {
        struct iovec from = {body->bytes, body->end - body->begin};
        dmc_share_copy_parts(&from, begin - body->begin, transfer->parts, 0, transfer->capacity);
        transfer->version_tag = body->tag;
        transfer->object_bytes = body->object_bytes;
        if (body->expected > 0 && --body->expected == 0)
            finish_locked(ahead, body);
    }
    dmc_mutex_unlock(&ahead->lock);
    return taken;
}
