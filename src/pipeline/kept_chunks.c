#include "pipeline/kept_chunks.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"

/* Wishes of all batches together, and chunks that are kept. A batch of 8 crops of 16x128x128 has 140 chunks of 128 KiB. */
#define WANTS_MAX 8192u
#define KEPT_MAX 4096u
#define BUCKETS 4096u /* of each table; a power of two */
#define ALIGN 64u
/* Numbers in lists are index + 1; 0 ends a list. */

struct key {
    const struct dmc_zarr_array *zarr;
    uint64_t index, offset, stored_bytes;
};

struct want {
    struct key key;
    uint64_t batch_id;
    uint64_t need_begin, need_end;
    uint32_t previous, next; /* in its bucket */
};

struct entry {
    struct dmc_kept kept; /* first: what others see */
    struct key key;
    struct dmc_array *array; /* retained, so that no other one gets its address; NULL: the entry is free */
    uint64_t maker;
    uint64_t place, bytes;   /* of the room; bytes 0: it has none any more, but the maker may still look at the entry */
    uint32_t previous, next; /* in its bucket; of a free one: next of those */
    uint32_t lower, higher;  /* neighbours in order of place */
};

struct dmc_kept_chunks {
    uint64_t map_bytes, room_bytes;
    uint8_t *room;
    uint64_t failed_bytes;           /* there was no room for so many since any was given back; 0: there was */
    uint64_t wants_first, wants_end; /* a ring: numbers of wishes, oldest first */
    uint32_t entry_top;              /* entries from here on were never used */
    uint32_t free_entry;
    uint32_t lowest, cursor; /* in order of place: the first, and where the search for room begins; 0: at the bottom */
    _Atomic uint64_t touched_bytes;
    uint32_t want_buckets[BUCKETS], entry_buckets[BUCKETS];
    struct want wants[WANTS_MAX];
    struct entry entries[KEPT_MAX];
};

_Static_assert(sizeof(struct dmc_kept_chunks) <= DMC_KEPT_CHUNKS_LEAST / 2, "as much is left for chunks");

enum damacy_status dmc_kept_chunks_create(uint64_t bytes, struct dmc_kept_chunks **out, struct damacy_error *error)
{
    uint64_t tables = dmc_round_up(sizeof(struct dmc_kept_chunks), 4096);
    *out = NULL;
    if (bytes == 0)
        return DAMACY_OK;
    struct dmc_kept_chunks *chunks = dmc_pages_map(bytes);
    if (!chunks)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for %llu bytes of decoded chunks",
                             (unsigned long long)bytes);
    chunks->map_bytes = bytes;
    chunks->room_bytes = bytes - tables;
    chunks->room = (uint8_t *)chunks + tables;
    atomic_init(&chunks->touched_bytes, tables);
    *out = chunks;
    return DAMACY_OK;
}

void dmc_kept_chunks_destroy(struct dmc_kept_chunks *chunks)
{
    if (!chunks)
        return;
    for (uint32_t i = 0; i < chunks->entry_top; i++)
        if (chunks->entries[i].array)
            dmc_array_release(chunks->entries[i].array);
    dmc_pages_unmap(chunks, chunks->map_bytes);
}

uint64_t dmc_kept_chunks_bytes(const struct dmc_kept_chunks *chunks)
{
    return chunks ? atomic_load_explicit(&chunks->touched_bytes, memory_order_relaxed) : 0;
}

static struct key key_of(const struct dmc_chunk_ask *ask)
{
    return (struct key){ask->array->zarr, ask->index, ask->offset, ask->stored_bytes};
}

static bool same(const struct key *a, const struct key *b)
{
    return a->zarr == b->zarr && a->index == b->index && a->offset == b->offset && a->stored_bytes == b->stored_bytes;
}

static uint32_t bucket_of(const struct key *key)
{
    return (uint32_t)dmc_hash_u64(key->index, (uintptr_t)key->zarr) & (BUCKETS - 1);
}

/* --- wishes --- */

static struct want *want_at(struct dmc_kept_chunks *chunks, uint32_t number)
{
    return &chunks->wants[number - 1];
}

void dmc_kept_chunks_want(struct dmc_kept_chunks *chunks, uint64_t batch_id, const struct dmc_chunk_ask *ask)
{
    if (chunks->wants_end - chunks->wants_first == WANTS_MAX)
        return;
    uint32_t number = (uint32_t)(chunks->wants_end++ % WANTS_MAX) + 1;
    struct want *want = want_at(chunks, number);
    *want = (struct want){key_of(ask), batch_id, ask->need_begin, ask->need_end, 0, 0};
    uint32_t *bucket = &chunks->want_buckets[bucket_of(&want->key)];
    want->next = *bucket;
    if (want->next)
        want_at(chunks, want->next)->previous = number;
    *bucket = number;
}

/* The next wish for a chunk from this one on, itself included, whatever its batch. */
static const struct want *next_want(const struct dmc_kept_chunks *chunks, const struct key *key, uint32_t number)
{
    for (; number; number = chunks->wants[number - 1].next)
        if (same(&chunks->wants[number - 1].key, key))
            return &chunks->wants[number - 1];
    return NULL;
}

static const struct want *first_want(const struct dmc_kept_chunks *chunks, const struct key *key)
{
    return next_want(chunks, key, chunks->want_buckets[bucket_of(key)]);
}

bool dmc_kept_chunks_expected(const struct dmc_kept_chunks *chunks, uint64_t batch_id, const struct dmc_chunk_ask *ask)
{
    struct key key = key_of(ask);
    if (chunks->failed_bytes)
        return false;
    for (const struct want *want = first_want(chunks, &key); want; want = next_want(chunks, &key, want->next))
        if (want->batch_id < batch_id)
            return true;
    return false;
}

static void forget_want(struct dmc_kept_chunks *chunks)
{
    struct want *want = &chunks->wants[chunks->wants_first++ % WANTS_MAX];
    if (want->previous)
        want_at(chunks, want->previous)->next = want->next;
    else
        chunks->want_buckets[bucket_of(&want->key)] = want->next;
    if (want->next)
        want_at(chunks, want->next)->previous = want->previous;
}

/* --- room --- */

static struct entry *entry_at(struct dmc_kept_chunks *chunks, uint32_t number)
{
    return &chunks->entries[number - 1];
}

/* Where the gap above an entry begins and ends; of none: the lowest gap. */
static uint64_t gap_above(struct dmc_kept_chunks *chunks, uint32_t number, uint64_t *end)
{
    uint32_t higher = number ? entry_at(chunks, number)->higher : chunks->lowest;
    *end = higher ? entry_at(chunks, higher)->place : chunks->room_bytes;
    return number ? entry_at(chunks, number)->place + entry_at(chunks, number)->bytes : 0;
}

/* The lowest gap that is wide enough, so that as little memory as can be goes round: more of it stays in the last cache. Gaps
 * below the cursor are mostly too small to be looked at each time; they are once nothing else is left. false: there is none. */
static bool room_take(struct dmc_kept_chunks *chunks, struct entry *entry, uint64_t bytes)
{
    uint32_t number = (uint32_t)(entry - chunks->entries) + 1;
    if (chunks->failed_bytes && bytes >= chunks->failed_bytes)
        return false;
    for (uint32_t at = chunks->cursor, higher;; at = higher) {
        uint64_t end, begin = gap_above(chunks, at, &end);
        higher = at ? entry_at(chunks, at)->higher : chunks->lowest;
        if (end - begin < bytes) {
            if (higher)
                continue;
            if (chunks->cursor == 0)
                break;
            chunks->cursor = 0;
            continue;
        }
        entry->place = begin;
        entry->bytes = bytes;
        entry->lower = at;
        entry->higher = higher;
        *(at ? &entry_at(chunks, at)->higher : &chunks->lowest) = number;
        if (higher)
            entry_at(chunks, higher)->lower = number;
        chunks->cursor = number;
        uint64_t touched = (uint64_t)(chunks->room - (uint8_t *)chunks) + begin + bytes;
        if (touched > dmc_kept_chunks_bytes(chunks))
            atomic_store_explicit(&chunks->touched_bytes, touched, memory_order_relaxed);
        return true;
    }
    chunks->failed_bytes = bytes;
    return false;
}

static void room_give(struct dmc_kept_chunks *chunks, struct entry *entry)
{
    *(entry->lower ? &entry_at(chunks, entry->lower)->higher : &chunks->lowest) = entry->higher;
    if (entry->higher)
        entry_at(chunks, entry->higher)->lower = entry->lower;
    if (chunks->cursor && entry->place <= entry_at(chunks, chunks->cursor)->place)
        chunks->cursor = entry->lower;
    entry->bytes = 0;
    chunks->failed_bytes = 0;
}

/* --- what is kept --- */

static uint32_t entry_new(struct dmc_kept_chunks *chunks)
{
    uint32_t number = chunks->free_entry;
    if (number)
        chunks->free_entry = entry_at(chunks, number)->next;
    else if (chunks->entry_top < KEPT_MAX)
        number = ++chunks->entry_top;
    return number;
}

static void entry_free(struct dmc_kept_chunks *chunks, uint32_t number)
{
    struct entry *entry = entry_at(chunks, number);
    if (entry->bytes)
        room_give(chunks, entry);
    if (entry->array) {
        dmc_array_release(entry->array);
        *(entry->previous ? &entry_at(chunks, entry->previous)->next : &chunks->entry_buckets[bucket_of(&entry->key)]) =
            entry->next;
        if (entry->next)
            entry_at(chunks, entry->next)->previous = entry->previous;
        entry->array = NULL;
    }
    entry->next = chunks->free_entry;
    chunks->free_entry = number;
}

/* Does it have room for all of this? */
static bool covers(const struct entry *entry, const struct key *key, uint64_t begin, uint64_t end)
{
    return entry->bytes && same(&entry->key, key) && entry->kept.begin <= begin && end <= entry->kept.end;
}

struct dmc_kept *dmc_kept_chunks_find(const struct dmc_kept_chunks *chunks, const struct dmc_chunk_ask *ask, bool coming)
{
    struct key key = key_of(ask);
    for (uint32_t number = chunks->entry_buckets[bucket_of(&key)]; number; number = chunks->entries[number - 1].next) {
        const struct entry *entry = &chunks->entries[number - 1];
        if (!covers(entry, &key, ask->need_begin, ask->need_end))
            continue;
        uint32_t state = dmc_kept_state(&entry->kept);
        if (state == DMC_KEPT_WHOLE || (coming && state != DMC_KEPT_NEVER))
            return (struct dmc_kept *)&entry->kept;
    }
    return NULL;
}

/* Give up smaller rooms for the chunk that nobody has begun to fill. false: a room that is large enough is there. */
static bool make_way(struct dmc_kept_chunks *chunks, const struct key *key, uint64_t begin, uint64_t end)
{
    for (uint32_t number = chunks->entry_buckets[bucket_of(key)]; number; number = entry_at(chunks, number)->next) {
        struct entry *entry = entry_at(chunks, number);
        if (covers(entry, key, begin, end) && dmc_kept_state(&entry->kept) != DMC_KEPT_NEVER)
            return false;
        if (entry->bytes && same(&entry->key, key) && dmc_kept_cancel(&entry->kept))
            room_give(chunks, entry);
    }
    return true;
}

struct dmc_kept *dmc_kept_chunks_make(struct dmc_kept_chunks *chunks, uint64_t maker, const struct dmc_chunk_ask *own,
                                      bool picks, struct dmc_array *array)
{
    struct key key = key_of(own);
    uint64_t begin = UINT64_MAX, end = 0;
    for (const struct want *want = first_want(chunks, &key); want; want = next_want(chunks, &key, want->next)) {
        if (want->batch_id <= maker)
            continue;
        begin = dmc_min_u64(begin, want->need_begin);
        end = dmc_max_u64(end, want->need_end);
    }
    if (begin >= end)
        return NULL;
    uint64_t both = dmc_max_u64(end, own->need_end) - dmc_min_u64(begin, own->need_begin);
    if ((picks && both > end - begin + own->need_end - own->need_begin) || !make_way(chunks, &key, begin, end))
        return NULL;
    uint32_t number = entry_new(chunks);
    if (!number)
        return NULL;
    struct entry *entry = entry_at(chunks, number);
    entry->bytes = 0;
    entry->array = NULL;
    if (!room_take(chunks, entry, dmc_round_up(end - begin, ALIGN))) {
        entry_free(chunks, number);
        return NULL;
    }
    dmc_array_retain(array);
    entry->array = array;
    entry->key = key;
    entry->maker = maker;
    entry->kept.memory = chunks->room + entry->place;
    entry->kept.begin = begin;
    entry->kept.end = end;
    atomic_store_explicit(&entry->kept.state, DMC_KEPT_PENDING, memory_order_relaxed); /* published with the host's pointer */
    atomic_store_explicit(&entry->kept.users, 0, memory_order_relaxed);
    uint32_t *bucket = &chunks->entry_buckets[bucket_of(&key)];
    entry->previous = 0;
    entry->next = *bucket;
    if (entry->next)
        entry_at(chunks, entry->next)->previous = number;
    *bucket = number;
    return &entry->kept;
}

void dmc_kept_chunks_planned(struct dmc_kept_chunks *chunks, uint64_t batch_id, uint64_t oldest)
{
    while (chunks->wants_first < chunks->wants_end && chunks->wants[chunks->wants_first % WANTS_MAX].batch_id <= batch_id)
        forget_want(chunks);
    for (uint32_t number = 1; number <= chunks->entry_top; number++) {
        struct entry *entry = entry_at(chunks, number);
        if (!entry->array || dmc_kept_used(&entry->kept))
            continue;
        uint32_t state = dmc_kept_state(&entry->kept);
        bool over = entry->maker < oldest; /* its maker will not look at it again */
        if (state == DMC_KEPT_PENDING && !over && !first_want(chunks, &entry->key) && dmc_kept_cancel(&entry->kept))
            room_give(chunks, entry);
        else if (state == DMC_KEPT_NEVER && entry->bytes) /* it failed, or was given up just now */
            room_give(chunks, entry);
        if (state == DMC_KEPT_WHOLE ? !first_want(chunks, &entry->key) : over && state != DMC_KEPT_WRITING)
            entry_free(chunks, number);
    }
}
