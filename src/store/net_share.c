/* One transfer for several requests that want the same bytes at the same time. Crops of neighbouring batches touch the same
 * chunks, and several batches are under way at once: without this each of them reads such a chunk for itself.
 *
 *     new request: does its range lie inside that of a transfer under way?
 *       no  -> QUEUED, and others may follow it
 *       yes -> FOLLOWING --leader has its answer------------------> a copy of its part
 *                        --leader failed--------------------------> the same error
 *                        --leader was cancelled, or out of time---> QUEUED
 *                        --its own deadline, or cancelled---------> its own end
 *
 * Bytes are copied out of the leader's parts before the leader's owner has them back, so following takes no memory. Only ranges
 * of known place are shared, and only among bulk transfers: metadata wait for nobody, and are read once anyway. */
#include "base/bytes.h"
#include "base/hash.h"
#include "store/net_engine_impl.h"

#include <assert.h>
#include <string.h>

/* A leader stands in the bucket of the block where its range begins, so whoever looks for one need not look further back than
 * the longest range that is listed. */
#define BLOCK_SHIFT 22
#define SHARED_BYTES_MAX (8ull << BLOCK_SHIFT)

static struct dmc_transfer **bucket_of(struct dmc_net_engine *engine, uint64_t object_hash, uint64_t block)
{
    return &engine->sharing[dmc_hash_u64(object_hash, block) & (DMC_SHARE_BUCKETS - 1)];
}

static bool may_share(const struct dmc_transfer *transfer)
{
    return transfer->kind == DMC_RANGE_SPAN && transfer->lane == DMC_NET_BULK && !transfer->ask_size &&
           transfer->capacity <= SHARED_BYTES_MAX;
}

static bool covers(const struct dmc_transfer *leader, const struct dmc_transfer *transfer)
{
    return leader->object_hash == transfer->object_hash && leader->absolute <= transfer->absolute &&
           leader->absolute + leader->capacity >= transfer->absolute + transfer->capacity && leader->store == transfer->store &&
           strcmp(leader->request->key, transfer->request->key) == 0;
}

static struct dmc_transfer *find_leader(struct dmc_net_engine *engine, const struct dmc_transfer *transfer)
{
    uint64_t end = transfer->absolute + transfer->capacity, block = transfer->absolute >> BLOCK_SHIFT;
    uint64_t last = end > SHARED_BYTES_MAX ? (end - SHARED_BYTES_MAX) >> BLOCK_SHIFT : 0;
    for (;; block--) {
        for (struct dmc_transfer *leader = *bucket_of(engine, transfer->object_hash, block); leader;
             leader = leader->share_next)
            if (covers(leader, transfer))
                return leader;
        if (block == last)
            return NULL;
    }
}

bool dmc_share_follow(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    assert(!transfer->leader && !transfer->followers && !transfer->share_listed);
    if (!may_share(transfer))
        return false;
    struct dmc_transfer *leader = find_leader(engine, transfer);
    struct dmc_transfer **list =
        leader ? &leader->followers : bucket_of(engine, transfer->object_hash, transfer->absolute >> BLOCK_SHIFT);
    if (leader) {
        transfer->leader = leader;
        transfer->previous = NULL;
        transfer->next = *list;
        if (*list)
            (*list)->previous = transfer;
    } else {
        transfer->share_listed = true;
        transfer->share_previous = NULL;
        transfer->share_next = *list;
        if (*list)
            (*list)->share_previous = transfer;
    }
    *list = transfer;
    return leader != NULL;
}

void dmc_share_unfollow(struct dmc_transfer *transfer)
{
    if (transfer->previous)
        transfer->previous->next = transfer->next;
    else
        transfer->leader->followers = transfer->next;
    if (transfer->next)
        transfer->next->previous = transfer->previous;
    transfer->previous = transfer->next = transfer->leader = NULL;
}

void dmc_share_close(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    if (!transfer->share_listed)
        return;
    transfer->share_listed = false;
    if (transfer->share_previous)
        transfer->share_previous->share_next = transfer->share_next;
    else
        *bucket_of(engine, transfer->object_hash, transfer->absolute >> BLOCK_SHIFT) = transfer->share_next;
    if (transfer->share_next)
        transfer->share_next->share_previous = transfer->share_previous;
    transfer->share_previous = transfer->share_next = NULL;
}

void dmc_share_copy_parts(const struct iovec *from, uint64_t skip, const struct iovec *to, uint64_t bytes)
{
    uint64_t source_offset = skip, target_offset = 0;
    while (bytes > 0) {
        if (source_offset >= from->iov_len) {
            source_offset -= from->iov_len;
            from++;
        } else if (target_offset == to->iov_len) {
            target_offset = 0;
            to++;
        } else {
            uint64_t count = dmc_min_u64(bytes, from->iov_len - source_offset);
            count = dmc_min_u64(count, to->iov_len - target_offset);
            memcpy((char *)to->iov_base + target_offset, (const char *)from->iov_base + source_offset, count);
            source_offset += count;
            target_offset += count;
            bytes -= count;
        }
    }
}

uint64_t dmc_share_copy(const struct dmc_transfer *leader, uint64_t bytes_read, const struct dmc_transfer *follower)
{
    uint64_t skip = follower->absolute - leader->absolute;
    uint64_t bytes = bytes_read > skip ? dmc_min_u64(bytes_read - skip, follower->capacity) : 0;
    dmc_share_copy_parts(leader->parts, skip, follower->parts, bytes);
    return bytes;
}
