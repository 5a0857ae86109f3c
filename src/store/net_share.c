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
 * Where only the beginning or the end of a new range is under way, it asks for the rest and borrows that end:
 *
 *     QUEUED .. RUNNING --its own bytes are there, the borrowed ones are not--> BORROWING --they came--> its end
 *                       \--a lender has not got them (failed, cancelled)-------> it reads them itself
 *
 * So a read of two chunks, of which a neighbour reads one, costs no bytes twice, and no request more. A piece out of the middle
 * would cost one. Lenders and leaders began before those that depend on them, so nobody waits for himself.
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

static bool same_object(const struct dmc_transfer *one, const struct dmc_transfer *other)
{
    return one->object_hash == other->object_hash && one->store == other->store &&
           strcmp(one->request->key, other->request->key) == 0;
}

static bool covers(const struct dmc_transfer *leader, const struct dmc_transfer *transfer)
{
    return leader->absolute <= transfer->absolute &&
           leader->absolute + leader->capacity >= transfer->absolute + transfer->capacity && same_object(leader, transfer);
}

/* Rather one that reads all its bytes itself than one that waits for others. */
static struct dmc_transfer *find_leader(struct dmc_net_engine *engine, const struct dmc_transfer *transfer)
{
    struct dmc_transfer *found = NULL;
    uint64_t end = transfer->absolute + transfer->capacity, block = transfer->absolute >> BLOCK_SHIFT;
    uint64_t last = end > SHARED_BYTES_MAX ? (end - SHARED_BYTES_MAX) >> BLOCK_SHIFT : 0;
    for (;; block--) {
        for (struct dmc_transfer *leader = *bucket_of(engine, transfer->object_hash, block); leader;
             leader = leader->share_next)
            if (covers(leader, transfer)) {
                found = leader;
                if (!dmc_share_waits(leader))
                    return leader;
            }
        if (block == last)
            return found;
    }
}

bool dmc_share_follow(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    assert(!transfer->leader && !transfer->followers && !transfer->lent && !transfer->share_listed);
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

/* --- borrowing --- */

static void borrow(struct dmc_transfer *transfer, enum dmc_range_end which, struct dmc_transfer *lender, uint64_t begin,
                   uint64_t bytes)
{
    struct dmc_borrowed *borrowed = &transfer->borrowed[which];
    *borrowed =
        (struct dmc_borrowed){.borrower = transfer, .lender = lender, .next = lender->lent, .begin = begin, .bytes = bytes};
    if (lender->lent)
        lender->lent->previous = borrowed;
    lender->lent = borrowed;
}

static void unlink_borrowed(struct dmc_borrowed *borrowed)
{
    if (!borrowed->lender)
        return;
    if (borrowed->previous)
        borrowed->previous->next = borrowed->next;
    else
        borrowed->lender->lent = borrowed->next;
    if (borrowed->next)
        borrowed->next->previous = borrowed->previous;
    borrowed->previous = borrowed->next = NULL;
    borrowed->lender = NULL;
}

void dmc_share_borrow(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    if (!transfer->share_listed)
        return;
    uint64_t begin = transfer->absolute, end = begin + transfer->capacity;
    uint64_t head_bytes = transfer->covered, tail_bytes = transfer->tail_bytes;
    struct dmc_transfer *head = NULL, *tail = NULL;
    uint64_t last = begin > SHARED_BYTES_MAX ? (begin - SHARED_BYTES_MAX) >> BLOCK_SHIFT : 0;
    for (uint64_t block = (end - 1) >> BLOCK_SHIFT;; block--) {
        struct dmc_transfer *other = *bucket_of(engine, transfer->object_hash, block);
        for (; other; other = other->share_next) {
            uint64_t its_begin = other->absolute, its_end = its_begin + other->capacity;
            if (other == transfer || its_begin >= end || its_end <= begin || !same_object(other, transfer))
                continue;
            if (its_begin <= begin && its_end - begin > head_bytes) {
                head_bytes = its_end - begin;
                head = other;
            } else if (its_end >= end && end - its_begin > tail_bytes) {
                tail_bytes = end - its_begin;
                tail = other;
            }
        }
        if (block == last)
            break;
    }
    if (head)
        borrow(transfer, DMC_RANGE_HEAD, head, 0, head_bytes);
    transfer->covered = head_bytes;
    tail_bytes = dmc_min_u64(tail_bytes, transfer->capacity - head_bytes); /* both may bring what is in the middle */
    if (tail && tail_bytes > transfer->tail_bytes)
        borrow(transfer, DMC_RANGE_TAIL, tail, transfer->capacity - tail_bytes, tail_bytes);
    transfer->tail_bytes = tail_bytes;
    transfer->length = transfer->capacity - tail_bytes;
}

void dmc_share_forget(struct dmc_transfer *transfer, enum dmc_range_end which)
{
    unlink_borrowed(&transfer->borrowed[which]);
}

bool dmc_share_lend(const struct dmc_transfer *lender, uint64_t bytes_read, struct dmc_borrowed *borrowed)
{
    struct dmc_transfer *transfer = borrowed->borrower;
    uint64_t skip = transfer->absolute + borrowed->begin - lender->absolute;
    unlink_borrowed(borrowed);
    if (bytes_read < skip + borrowed->bytes ||
        (transfer->settings->check_versions && dmc_http_tags_differ(transfer->version_tag, lender->version_tag)))
        return false;
    dmc_share_copy_parts(lender->parts, skip, transfer->parts, borrowed->begin, borrowed->bytes);
    if (transfer->version_tag == 0)
        transfer->version_tag = lender->version_tag;
    if (transfer->object_bytes == UINT64_MAX)
        transfer->object_bytes = lender->object_bytes;
    return true;
}

void dmc_share_close(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    for (uint32_t i = 0; i < DMC_RANGE_ENDS; i++)
        unlink_borrowed(&transfer->borrowed[i]);
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

void dmc_share_copy_parts(const struct iovec *from, uint64_t skip, const struct iovec *to, uint64_t offset, uint64_t bytes)
{
    uint64_t source_offset = skip, target_offset = offset;
    while (bytes > 0) {
        if (source_offset >= from->iov_len) {
            source_offset -= from->iov_len;
            from++;
        } else if (target_offset >= to->iov_len) {
            target_offset -= to->iov_len;
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
    dmc_share_copy_parts(leader->parts, skip, follower->parts, 0, bytes);
    return bytes;
}
