/* Bodies that were read for one request and will be asked for by another: kept for as long as it takes.
 *
 * The reads of a batch are announced when its metadata are there, many batches before they are started. So when bytes arrive it
 * is known whether anyone else will want them, and only those are kept: ten in a hundred, and hardly anything is copied in
 * vain.
 *
 *     announced --asked for-------------------------------------------> forgotten
 *        \--another transfer brings its bytes--> body --asked for------> a copy, without a request
 *                                                 \--room is needed----> announced, without a body
 *
 * Where a transfer brings only the beginning or the end of what was announced, that end is kept, and the request asks for the
 * rest.
 *
 * Both tables are rings whose oldest entry goes: announcements of batches that never came to be read need no withdrawal. Bodies
 * lie one behind the other in a ring of memory, each behind its object's key. */
#include "base/bytes.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/thread.h"
#include "store/net_engine_impl.h"

#include <string.h>

#define EXPECTED_MAX 8192u /* powers of two */
#define BUCKETS 2048u
#define HELD_MAX 1024u
/* As in net_share.c: an announcement stands in the bucket of the block where its range begins. */
#define BLOCK_SHIFT 20
#define OFFERED_BYTES_MAX (32ull << BLOCK_SHIFT)
#define NONE UINT32_MAX

struct expected {
    uint64_t object_hash; /* 0: free */
    uint64_t begin, end;
    /* Numbers of the bodies of its ends; the head may be all of it. 0: none, or gone when it is not in the ring any more. */
    uint64_t held[DMC_RANGE_ENDS];
    uint32_t previous, next;
};

struct held {
    uint64_t place, bytes; /* in the memory, with the key */
    uint64_t tag, object_bytes;
    uint64_t key_bytes; /* with its zero */
    bool taken;
};

struct dmc_net_hold {
    struct dmc_mutex lock;
    uint64_t memory_bytes;
    unsigned char *memory; /* touched as bodies come */
    struct expected shared_expected[EXPECTED_MAX] DMC_GUARDED_BY(lock);
    uint32_t shared_expected_next DMC_GUARDED_BY(lock);
    uint32_t shared_buckets[BUCKETS] DMC_GUARDED_BY(lock);
    struct held shared_held[HELD_MAX] DMC_GUARDED_BY(lock);
    uint64_t shared_held_first, shared_held_end DMC_GUARDED_BY(lock); /* numbers from 1 on */
    uint64_t shared_place DMC_GUARDED_BY(lock);                       /* of the next body */
};

uint64_t dmc_hold_table_bytes(void)
{
    return sizeof(struct dmc_net_hold);
}

struct dmc_net_hold *dmc_hold_create(uint64_t body_bytes)
{
    struct dmc_net_hold *hold = dmc_calloc(1, sizeof *hold);
    if (!hold)
        return NULL;
    hold->memory_bytes = body_bytes;
    hold->memory = dmc_pages_map(body_bytes);
    if (!hold->memory) {
        dmc_free(hold);
        return NULL;
    }
    dmc_mutex_init(&hold->lock);
    dmc_mutex_lock(&hold->lock);
    memset(hold->shared_buckets, 0xff, sizeof hold->shared_buckets);
    hold->shared_held_first = hold->shared_held_end = 1;
    dmc_mutex_unlock(&hold->lock);
    return hold;
}

void dmc_hold_destroy(struct dmc_net_hold *hold)
{
    if (!hold)
        return;
    dmc_mutex_deinit(&hold->lock);
    dmc_pages_unmap(hold->memory, hold->memory_bytes);
    dmc_free(hold);
}

/* --- what is expected --- */

static uint32_t *bucket_locked(struct dmc_net_hold *hold, uint64_t object_hash, uint64_t block) DMC_REQUIRES(hold->lock)
{
    return &hold->shared_buckets[dmc_hash_u64(object_hash, block) & (BUCKETS - 1)];
}

static void forget_locked(struct dmc_net_hold *hold, uint32_t index) DMC_REQUIRES(hold->lock)
{
    struct expected *expected = &hold->shared_expected[index];
    if (expected->previous != NONE)
        hold->shared_expected[expected->previous].next = expected->next;
    else
        *bucket_locked(hold, expected->object_hash, expected->begin >> BLOCK_SHIFT) = expected->next;
    if (expected->next != NONE)
        hold->shared_expected[expected->next].previous = expected->previous;
    expected->object_hash = 0;
}

static uint64_t expected_bytes_max(const struct dmc_net_hold *hold)
{
    return hold->memory_bytes / 4;
}

void dmc_hold_expect(struct dmc_net_hold *hold, uint64_t object_hash, uint64_t begin, uint64_t end)
{
    if (!hold || end <= begin || end - begin > expected_bytes_max(hold))
        return;
    dmc_mutex_lock(&hold->lock);
    uint32_t index = hold->shared_expected_next++ % EXPECTED_MAX;
    if (hold->shared_expected[index].object_hash)
        forget_locked(hold, index);
    uint32_t *first = bucket_locked(hold, object_hash, begin >> BLOCK_SHIFT);
    hold->shared_expected[index] =
        (struct expected){.object_hash = object_hash, .begin = begin, .end = end, .previous = NONE, .next = *first};
    if (*first != NONE)
        hold->shared_expected[*first].previous = index;
    *first = index;
    dmc_mutex_unlock(&hold->lock);
}

/* --- bodies --- */

static struct held *body_locked(struct dmc_net_hold *hold, const struct expected *expected, enum dmc_range_end which)
    DMC_REQUIRES(hold->lock)
{
    uint64_t number = expected->held[which];
    return number >= hold->shared_held_first ? &hold->shared_held[number % HELD_MAX] : NULL;
}

static uint64_t body_bytes_locked(struct dmc_net_hold *hold, const struct expected *expected, enum dmc_range_end which)
    DMC_REQUIRES(hold->lock)
{
    const struct held *held = body_locked(hold, expected, which);
    return held ? held->bytes - held->key_bytes : 0;
}

/* Room for so many bytes in a row, at the cost of the oldest. */
static uint64_t make_room_locked(struct dmc_net_hold *hold, uint64_t bytes) DMC_REQUIRES(hold->lock)
{
    if (hold->shared_held_first == hold->shared_held_end) /* pages that are in use already */
        hold->shared_place = 0;
    if (bytes > hold->memory_bytes - hold->shared_place) {
        /* What lies between here and the end goes, as it is older than what lies at the beginning. */
        while (hold->shared_held_first < hold->shared_held_end &&
               hold->shared_held[hold->shared_held_first % HELD_MAX].place >= hold->shared_place)
            hold->shared_held_first++;
        hold->shared_place = 0;
    }
    uint64_t place = hold->shared_place;
    while (hold->shared_held_first < hold->shared_held_end) {
        const struct held *oldest = &hold->shared_held[hold->shared_held_first % HELD_MAX];
        bool apart = oldest->place >= place + bytes || oldest->place + oldest->bytes <= place;
        if (apart && hold->shared_held_end - hold->shared_held_first < HELD_MAX)
            break;
        hold->shared_held_first++;
    }
    hold->shared_place = place + bytes;
    return place;
}

/* Not needed any more. The ring gives its memory back from its oldest end only. */
static void drop_body_locked(struct dmc_net_hold *hold, struct expected *expected, enum dmc_range_end which)
    DMC_REQUIRES(hold->lock)
{
    struct held *held = body_locked(hold, expected, which);
    expected->held[which] = 0;
    if (held)
        held->taken = true;
    while (hold->shared_held_first < hold->shared_held_end && hold->shared_held[hold->shared_held_first % HELD_MAX].taken)
        hold->shared_held_first++;
}

/* Of a transfer's range that begins at `begin` in its object, `bytes` are there: keep what an announcement lacks of them. */
static void keep_locked(struct dmc_net_hold *hold, struct expected *expected, const struct dmc_transfer *transfer,
                        uint64_t bytes) DMC_REQUIRES(hold->lock)
{
    uint64_t begin = dmc_max_u64(expected->begin, transfer->absolute);
    uint64_t end = dmc_min_u64(expected->end, transfer->absolute + bytes);
    if (begin >= end || (begin > expected->begin && end < expected->end))
        return;
    enum dmc_range_end which = begin == expected->begin ? DMC_RANGE_HEAD : DMC_RANGE_TAIL;
    uint64_t key_bytes = strlen(transfer->request->key) + 1, body_bytes = end - begin;
    if (body_bytes_locked(hold, expected, DMC_RANGE_HEAD) == expected->end - expected->begin ||
        body_bytes_locked(hold, expected, which) >= body_bytes || key_bytes + body_bytes > hold->memory_bytes)
        return;
    drop_body_locked(hold, expected, which);
    uint64_t place = make_room_locked(hold, key_bytes + body_bytes);
    memcpy(hold->memory + place, transfer->request->key, key_bytes);
    struct iovec body = {hold->memory + place + key_bytes, body_bytes};
    dmc_share_copy_parts(transfer->parts, begin - transfer->absolute, &body, 0, body_bytes);
    expected->held[which] = hold->shared_held_end++;
    hold->shared_held[expected->held[which] % HELD_MAX] = (struct held){.place = place,
                                                                        .bytes = key_bytes + body_bytes,
                                                                        .tag = transfer->version_tag,
                                                                        .object_bytes = transfer->object_bytes,
                                                                        .key_bytes = key_bytes};
}

void dmc_hold_offer(struct dmc_net_hold *hold, const struct dmc_transfer *transfer, uint64_t bytes)
{
    if (!hold || transfer->kind != DMC_RANGE_SPAN || transfer->lane != DMC_NET_BULK || transfer->version_tag == 0 ||
        bytes > OFFERED_BYTES_MAX)
        return;
    uint64_t end = transfer->absolute + bytes, longest = expected_bytes_max(hold);
    uint64_t block = (transfer->absolute - dmc_min_u64(transfer->absolute, longest)) >> BLOCK_SHIFT;
    dmc_mutex_lock(&hold->lock);
    for (; block << BLOCK_SHIFT < end; block++) {
        uint32_t index = *bucket_locked(hold, transfer->object_hash, block);
        for (; index != NONE; index = hold->shared_expected[index].next)
            if (hold->shared_expected[index].object_hash == transfer->object_hash)
                keep_locked(hold, &hold->shared_expected[index], transfer, bytes);
    }
    dmc_mutex_unlock(&hold->lock);
}

/* Of several announcements of the same range the one that has most of it. */
static uint32_t find_locked(struct dmc_net_hold *hold, const struct dmc_transfer *transfer) DMC_REQUIRES(hold->lock)
{
    uint64_t begin = transfer->absolute, end = begin + transfer->capacity, most = 0;
    uint32_t found = NONE, index = *bucket_locked(hold, transfer->object_hash, begin >> BLOCK_SHIFT);
    for (; index != NONE; index = hold->shared_expected[index].next) {
        const struct expected *expected = &hold->shared_expected[index];
        if (expected->object_hash != transfer->object_hash || expected->begin != begin || expected->end != end)
            continue;
        uint64_t bytes = body_bytes_locked(hold, expected, DMC_RANGE_HEAD) + body_bytes_locked(hold, expected, DMC_RANGE_TAIL);
        if (found != NONE && bytes <= most)
            continue;
        found = index;
        most = bytes;
    }
    return found;
}

/* Copy a kept end into the transfer's parts. How many bytes it has; 0: there is none, of this object and of one version. */
static uint64_t take_end_locked(struct dmc_net_hold *hold, const struct expected *expected, enum dmc_range_end which,
                                struct dmc_transfer *transfer) DMC_REQUIRES(hold->lock)
{
    const struct held *held = body_locked(hold, expected, which);
    const unsigned char *memory = held ? hold->memory + held->place : NULL;
    if (!held || strcmp((const char *)memory, transfer->request->key) != 0 ||
        (transfer->version_tag && transfer->version_tag != held->tag))
        return 0;
    uint64_t bytes = held->bytes - held->key_bytes;
    struct iovec body = {hold->memory + held->place + held->key_bytes, bytes};
    dmc_share_copy_parts(&body, 0, transfer->parts, which == DMC_RANGE_HEAD ? 0 : transfer->capacity - bytes, bytes);
    transfer->version_tag = held->tag;
    transfer->object_bytes = held->object_bytes;
    return bytes;
}

bool dmc_hold_take(struct dmc_net_hold *hold, struct dmc_transfer *transfer)
{
    if (!hold || transfer->kind != DMC_RANGE_SPAN || transfer->lane != DMC_NET_BULK || transfer->ask_size)
        return false;
    uint64_t head_bytes = 0, tail_bytes = 0;
    dmc_mutex_lock(&hold->lock);
    uint32_t found = find_locked(hold, transfer);
    if (found != NONE) {
        struct expected *expected = &hold->shared_expected[found];
        head_bytes = take_end_locked(hold, expected, DMC_RANGE_HEAD, transfer);
        tail_bytes = take_end_locked(hold, expected, DMC_RANGE_TAIL, transfer);
        for (uint32_t i = 0; i < DMC_RANGE_ENDS; i++)
            drop_body_locked(hold, expected, (enum dmc_range_end)i);
        forget_locked(hold, found);
    }
    dmc_mutex_unlock(&hold->lock);
    transfer->covered = head_bytes;
    transfer->tail_bytes = dmc_min_u64(tail_bytes, transfer->capacity - head_bytes);
    transfer->length = transfer->capacity - transfer->tail_bytes;
    return transfer->covered == transfer->length;
}
