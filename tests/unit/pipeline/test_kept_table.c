/* The table of kept chunks alone: what is found, made, given up and freed is what a naive model says, to the entry; room of
 * chunks that live never overlaps and is used whenever a gap is wide enough; nothing that a batch under way may still look at
 * becomes something else; and arrays are held exactly as long as chunks of them are.
 *
 * Method: batches are previewed, planned, run and done in random order, as a planner with a few workers might have it; each
 * answer is compared with that of lists which are searched from one end to the other. Chunks are filled with a pattern of their
 * own that must still be there when the last batch leaves them. Small chunks in great number fill the tables, large ones the
 * room; at the end each of that must have happened. */
#include "base/bytes.h"
#include "base/hash.h"
#include "base/mem.h"
#include "pipeline/kept_chunks.h"
#include "support/test_seed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define ARRAYS 3u
#define WANTS_MAX 8192u /* what the table has room for, see kept_chunks.c: more would be memory without a bound */
#define KEPT_MAX 4096u
#define ALIGN 64u
#define WINDOW 64u /* batches between the oldest that runs and the last that is previewed, at most */
#define ASKS_MAX 700u

struct random {
    uint64_t state;
};

static uint64_t between(struct random *random, uint64_t low, uint64_t high)
{
    return low + dmc_hash_u64(random->state++, 0x6b657074) % (high - low + 1);
}

static bool chance(struct random *random, uint32_t percent)
{
    return between(random, 0, 99) < percent;
}

struct ask {
    uint32_t key;
    uint64_t begin, end;
};

struct want {
    struct ask ask;
    uint64_t batch_id;
};

struct entry {
    struct dmc_kept *kept;
    struct ask ask;
    uint64_t maker, place, serial;
    uint32_t state, users;
    bool room;
};

struct batch {
    struct ask asks[ASKS_MAX];
    uint32_t ask_count;
    bool foreseen, previewed, done;
    struct dmc_kept *used[ASKS_MAX], *made[ASKS_MAX]; /* made: what its workers still have to look at, once */
    uint32_t used_count, made_count;
};

struct kind {
    uint32_t keys, asks_max, ahead_max, running_max, batches;
    uint64_t need_max;
};

struct world {
    struct random random;
    struct kind kind;
    struct dmc_kept_chunks *chunks;
    uint64_t map_bytes, room_begin;
    struct dmc_array arrays[ARRAYS];
    struct dmc_plan_array plan_arrays[ARRAYS];
    struct want wants[WANTS_MAX];
    struct entry entries[KEPT_MAX]; /* oldest first */
    struct batch batches[WINDOW];
    uint32_t want_count, entry_count;
    uint64_t failed_bytes, serial;
    uint64_t oldest, planned, previewed;
};

/* That everything which the test is about did happen. */
static struct {
    uint64_t found, made, covered, given_up, cancelled, picked, failed, freed;
    uint64_t no_room, no_entry, no_want;
} happened;

static struct dmc_chunk_ask chunk_ask(struct world *world, const struct ask *ask)
{
    /* The same chunk of several arrays, and of several places of its bytes, are others. */
    uint32_t rest = ask->key / ARRAYS;
    return (struct dmc_chunk_ask){
        &world->plan_arrays[ask->key % ARRAYS], rest / 4, rest % 2 * 1000, rest / 2 % 2 * 5, ask->begin, ask->end};
}

static struct batch *batch_at(struct world *world, uint64_t id)
{
    return &world->batches[id % WINDOW];
}

static uint8_t pattern(uint64_t serial, uint64_t position)
{
    return (uint8_t)(dmc_hash_u64(serial, 5) + position * 7);
}

static void check_pattern(const struct entry *entry)
{
    for (uint64_t i = 0; i < entry->ask.end - entry->ask.begin; i++)
        if (entry->kept->memory[i] != pattern(entry->serial, entry->ask.begin + i))
            fail_msg("chunk %u of batch %llu: byte %llu of %llu was overwritten", entry->ask.key,
                     (unsigned long long)entry->maker, (unsigned long long)i,
                     (unsigned long long)(entry->ask.end - entry->ask.begin));
}

static struct entry *entry_of(struct world *world, const struct dmc_kept *kept)
{
    for (uint32_t i = 0; i < world->entry_count; i++)
        if (world->entries[i].kept == kept)
            return &world->entries[i];
    return NULL;
}

static uint64_t room_of(const struct entry *entry)
{
    return dmc_round_up(entry->ask.end - entry->ask.begin, ALIGN);
}

static bool wanted(const struct world *world, uint32_t key)
{
    for (uint32_t i = 0; i < world->want_count; i++)
        if (world->wants[i].ask.key == key)
            return true;
    return false;
}

/* --- each call and the model's --- */

static void want(struct world *world, uint64_t batch_id, const struct ask *ask)
{
    struct dmc_chunk_ask asked = chunk_ask(world, ask);
    dmc_kept_chunks_want(world->chunks, batch_id, &asked);
    if (world->want_count == WANTS_MAX)
        happened.no_want++;
    else
        world->wants[world->want_count++] = (struct want){*ask, batch_id};
}

static void expect_earlier(struct world *world, uint64_t batch_id, const struct ask *ask)
{
    struct dmc_chunk_ask asked = chunk_ask(world, ask);
    bool expected = false;
    for (uint32_t i = 0; i < world->want_count; i++)
        expected |= world->wants[i].ask.key == ask->key && world->wants[i].batch_id < batch_id;
    assert_int_equal(dmc_kept_chunks_expected(world->chunks, batch_id, &asked), expected && world->failed_bytes == 0);
}

static bool covers(const struct entry *entry, uint32_t key, uint64_t begin, uint64_t end)
{
    return entry->room && entry->ask.key == key && entry->ask.begin <= begin && end <= entry->ask.end;
}

static struct dmc_kept *find(struct world *world, const struct ask *ask, bool coming)
{
    struct dmc_chunk_ask asked = chunk_ask(world, ask);
    struct dmc_kept *expected = NULL, *kept = dmc_kept_chunks_find(world->chunks, &asked, coming);
    for (uint32_t i = world->entry_count; !expected && i-- > 0;) {
        const struct entry *entry = &world->entries[i];
        if (covers(entry, ask->key, ask->begin, ask->end) &&
            (entry->state == DMC_KEPT_WHOLE || (coming && entry->state != DMC_KEPT_NEVER)))
            expected = entry->kept;
    }
    assert_ptr_equal(kept, expected);
    happened.found += kept != NULL && !coming;
    return kept;
}

static void give_room(struct world *world, struct entry *entry)
{
    entry->room = false;
    world->failed_bytes = 0;
}

static int by_place(const void *a, const void *b)
{
    const struct entry *const *x = a, *const *y = b;
    return ((*x)->place > (*y)->place) - ((*x)->place < (*y)->place);
}

static bool gap_is_there(struct world *world, uint64_t bytes)
{
    static const struct entry *sorted[KEPT_MAX];
    uint32_t count = 0;
    uint64_t begin = world->room_begin;
    for (uint32_t i = 0; i < world->entry_count; i++)
        if (world->entries[i].room)
            sorted[count++] = &world->entries[i];
    qsort(sorted, count, sizeof *sorted, by_place);
    for (uint32_t i = 0; i < count; i++) {
        if (sorted[i]->place - begin >= bytes)
            return true;
        begin = sorted[i]->place + room_of(sorted[i]);
    }
    return world->map_bytes - begin >= bytes;
}

static void check_new(struct world *world, const struct entry *new)
{
    assert_true(new->place >= world->room_begin &&new->place % ALIGN == world->room_begin % ALIGN);
    assert_true(new->place + room_of(new) <= world->map_bytes);
    for (uint32_t i = 0; i < world->entry_count; i++) {
        const struct entry *other = &world->entries[i];
        assert_ptr_not_equal(other->kept, new->kept);
        if (other->room && new->place < other->place + room_of(other) && other->place < new->place + room_of(new))
            fail_msg("room of chunk %u of batch %llu overlaps that of chunk %u of batch %llu", new->ask.key,
                     (unsigned long long)new->maker, other->ask.key, (unsigned long long)other->maker);
    }
    assert_int_equal(dmc_kept_state(new->kept), DMC_KEPT_PENDING);
    assert_false(dmc_kept_used(new->kept));
    assert_int_equal(new->kept->begin, new->ask.begin);
    assert_int_equal(new->kept->end, new->ask.end);
    assert_true(dmc_kept_chunks_bytes(world->chunks) >= new->place + room_of(new));
    assert_true(dmc_kept_chunks_bytes(world->chunks) <= world->map_bytes);
}

/* Should there be an entry for this? *room: as long as all later batches want of it. */
static bool should_make(struct world *world, uint64_t maker, const struct ask *own, bool picks, struct ask *room)
{
    *room = (struct ask){own->key, UINT64_MAX, 0};
    for (uint32_t i = 0; i < world->want_count; i++) {
        const struct want *want = &world->wants[i];
        if (want->ask.key != own->key || want->batch_id <= maker)
            continue;
        room->begin = dmc_min_u64(room->begin, want->ask.begin);
        room->end = dmc_max_u64(room->end, want->ask.end);
    }
    if (room->begin >= room->end)
        return false;
    uint64_t both = dmc_max_u64(room->end, own->end) - dmc_min_u64(room->begin, own->begin);
    if (picks && both > room->end - room->begin + own->end - own->begin) {
        happened.picked++;
        return false;
    }
    for (uint32_t i = world->entry_count; i-- > 0;) {
        struct entry *entry = &world->entries[i];
        if (covers(entry, own->key, room->begin, room->end) && entry->state != DMC_KEPT_NEVER) {
            happened.covered++;
            return false;
        }
        if (entry->room && entry->ask.key == own->key && entry->state == DMC_KEPT_PENDING) {
            entry->state = DMC_KEPT_NEVER;
            give_room(world, entry);
            happened.given_up++;
        }
    }
    if (world->entry_count == KEPT_MAX) {
        happened.no_entry++;
        return false;
    }
    uint64_t bytes = dmc_round_up(room->end - room->begin, ALIGN);
    if (gap_is_there(world, bytes))
        return true;
    world->failed_bytes = world->failed_bytes ? dmc_min_u64(world->failed_bytes, bytes) : bytes;
    happened.no_room++;
    return false;
}

static void make(struct world *world, uint64_t maker, const struct ask *own)
{
    bool picks = chance(&world->random, 40);
    struct dmc_chunk_ask asked = chunk_ask(world, own);
    struct ask room;
    bool should = should_make(world, maker, own, picks, &room);
    struct dmc_kept *kept = dmc_kept_chunks_make(world->chunks, maker, &asked, picks, &world->arrays[own->key % ARRAYS]);
    assert_int_equal(kept != NULL, should);
    if (!kept)
        return;
    struct entry new = {
        kept, room, maker, (uint64_t)(kept->memory - (uint8_t *)world->chunks), world->serial++, DMC_KEPT_PENDING, 0, true};
    check_new(world, &new);
    world->entries[world->entry_count++] = new;
    struct batch *batch = batch_at(world, maker);
    if (batch->made_count < ASKS_MAX)
        batch->made[batch->made_count++] = kept;
    happened.made++;
}

static void planned(struct world *world, uint64_t batch_id)
{
    uint32_t gone = 0, left = 0;
    dmc_kept_chunks_planned(world->chunks, batch_id, world->oldest);
    while (gone < world->want_count && world->wants[gone].batch_id <= batch_id)
        gone++;
    world->want_count -= gone;
    memmove(world->wants, world->wants + gone, world->want_count * sizeof *world->wants);
    for (uint32_t i = 0; i < world->entry_count; i++) {
        struct entry *entry = &world->entries[i];
        bool over = entry->maker < world->oldest, some = wanted(world, entry->ask.key), free = false;
        if (entry->users == 0) {
            free = entry->state == DMC_KEPT_WHOLE ? !some : over && entry->state != DMC_KEPT_WRITING;
            bool cancel = entry->state == DMC_KEPT_PENDING && !over && !some;
            happened.cancelled += cancel;
            if (entry->room && (free || cancel || entry->state == DMC_KEPT_NEVER))
                give_room(world, entry);
            if (cancel)
                entry->state = DMC_KEPT_NEVER;
        }
        if (free) {
            happened.freed++;
        } else {
            if (entry->state == DMC_KEPT_WHOLE)
                assert_true(entry->room);
            world->entries[left++] = *entry;
        }
    }
    world->entry_count = left;
}

/* Entries are what the model says, and arrays are held as often as that. */
static void check_all(struct world *world)
{
    uint32_t held[ARRAYS] = {0};
    for (uint32_t i = 0; i < world->entry_count; i++) {
        const struct entry *entry = &world->entries[i];
        assert_int_equal(dmc_kept_state(entry->kept), entry->state);
        assert_int_equal(dmc_kept_used(entry->kept), entry->users > 0);
        held[entry->ask.key % ARRAYS]++;
    }
    for (uint32_t i = 0; i < ARRAYS; i++)
        assert_int_equal(atomic_load(&world->arrays[i].references), 1 + held[i]);
}

/* --- a planner and its workers --- */

/* The range of one key is about the same for all, so that some cover others, or far away. */
static struct ask random_ask(struct world *world)
{
    struct random *random = &world->random;
    struct ask ask = {(uint32_t)between(random, 0, world->kind.keys - 1), 0, 0};
    ask.begin = chance(random, 30) ? 0 : between(random, 0, world->kind.need_max - 1);
    ask.end = chance(random, 30) ? world->kind.need_max : between(random, ask.begin + 1, world->kind.need_max);
    return ask;
}

static void begin_batch(struct world *world, uint64_t id)
{
    struct batch *batch = batch_at(world, id);
    *batch = (struct batch){.ask_count = (uint32_t)between(&world->random, 0, world->kind.asks_max)};
    for (uint32_t i = 0; i < batch->ask_count; i++)
        batch->asks[i] = random_ask(world);
}

/* A batch under way that has not decoded the chunk, and will. */
static uint64_t running_batch(struct world *world)
{
    uint64_t id = between(&world->random, world->oldest, world->planned);
    return id < world->planned && !batch_at(world, id)->done ? id : UINT64_MAX;
}

static void preview(struct world *world)
{
    uint64_t id = world->previewed++;
    struct batch *batch = batch_at(world, id);
    begin_batch(world, id);
    batch->previewed = chance(&world->random, 85);
    for (uint32_t i = 0; batch->previewed && i < batch->ask_count; i++) {
        const struct ask *ask = &batch->asks[i];
        want(world, id, ask);
        uint64_t maker = running_batch(world);
        if (!find(world, ask, true) && maker != UINT64_MAX && chance(&world->random, 50)) {
            struct ask own = random_ask(world);
            own.key = ask->key;
            make(world, maker, &own);
        }
        expect_earlier(world, id, ask);
    }
}

static void plan(struct world *world)
{
    uint64_t id = world->planned;
    struct batch *batch = batch_at(world, id);
    while (world->previewed <= id)
        preview(world);
    bool kept[ASKS_MAX] = {false};
    for (uint32_t i = 0; i < batch->ask_count; i++) {
        struct dmc_kept *found = find(world, &batch->asks[i], false);
        if (!found)
            continue;
        struct entry *entry = entry_of(world, found);
        check_pattern(entry);
        dmc_kept_use(found);
        entry->users++;
        batch->used[batch->used_count++] = found;
        kept[i] = true;
    }
    planned(world, id);
    world->planned++;
    for (uint32_t i = 0; i < batch->ask_count; i++)
        if (!kept[i])
            make(world, id, &batch->asks[i]);
}

/* A worker that has decoded a chunk looks whether it is to be kept; which it does once. */
static void look(struct world *world, struct batch *batch)
{
    struct dmc_kept *kept = batch->made[--batch->made_count];
    struct entry *entry = entry_of(world, kept);
    assert_non_null(entry);
    bool taken = dmc_kept_take(kept);
    assert_int_equal(taken, entry->state == DMC_KEPT_PENDING);
    if (!taken)
        return;
    entry->state = DMC_KEPT_WRITING;
    if (chance(&world->random, 20)) { /* planned meanwhile, or another room made: what is written stays, whoever wants it */
        struct ask own = random_ask(world);
        own.key = entry->ask.key;
        uint64_t other = running_batch(world);
        if (other != UINT64_MAX)
            make(world, other, &own);
        planned(world, world->planned - 1);
        assert_int_equal(dmc_kept_state(kept), DMC_KEPT_WRITING);
        entry = entry_of(world, kept);
        assert_true(entry && entry->room);
    }
    bool whole = chance(&world->random, 80);
    for (uint64_t i = 0; i < entry->ask.end - entry->ask.begin; i++)
        kept->memory[i] = pattern(entry->serial, entry->ask.begin + i);
    dmc_kept_give(kept, whole);
    entry->state = whole ? DMC_KEPT_WHOLE : DMC_KEPT_NEVER;
    happened.failed += !whole;
}

static void finish(struct world *world, uint64_t id)
{
    struct batch *batch = batch_at(world, id);
    while (batch->made_count && chance(&world->random, 90)) /* others were absent or failed */
        look(world, batch);
    batch->made_count = 0;
    while (batch->used_count) {
        struct dmc_kept *kept = batch->used[--batch->used_count];
        struct entry *entry = entry_of(world, kept);
        assert_non_null(entry);
        assert_int_equal(dmc_kept_state(kept), DMC_KEPT_WHOLE);
        check_pattern(entry);
        dmc_kept_leave(kept);
        entry->users--;
    }
    batch->done = true;
    while (world->oldest < world->planned && batch_at(world, world->oldest)->done)
        world->oldest++;
}

static void run(uint64_t seed, struct kind kind)
{
    struct world *world = calloc(1, sizeof *world);
    struct damacy_error error;
    world->random.state = seed;
    world->kind = kind;
    world->map_bytes = DMC_KEPT_CHUNKS_LEAST + between(&world->random, 0, 3) * 4096;
    assert_int_equal(dmc_kept_chunks_create(world->map_bytes, &world->chunks, &error), DAMACY_OK);
    world->room_begin = dmc_kept_chunks_bytes(world->chunks);
    assert_true(world->room_begin <= world->map_bytes / 2);
    for (uint32_t i = 0; i < ARRAYS; i++) {
        atomic_init(&world->arrays[i].references, 1);
        world->arrays[i].zarr = (struct dmc_zarr_array *)&world->arrays[i]; /* an address, nothing more */
        world->plan_arrays[i].zarr = world->arrays[i].zarr;
    }
    while (world->planned < kind.batches) {
        uint64_t id = running_batch(world);
        uint32_t what = (uint32_t)between(&world->random, 0, 3);
        if (what == 0 && world->previewed - world->planned < kind.ahead_max)
            preview(world);
        else if (what == 1 && world->planned - world->oldest < kind.running_max &&
                 (chance(&world->random, 10) || world->previewed - world->planned > kind.ahead_max / 2))
            plan(world);
        else if (what == 2 && id != UINT64_MAX)
            for (uint32_t i = 0; i < 1 + kind.asks_max / 4 && batch_at(world, id)->made_count; i++)
                look(world, batch_at(world, id));
        else if (what == 3 && id != UINT64_MAX)
            finish(world, id);
        if (chance(&world->random, 30))
            check_all(world);
    }
    check_all(world);
    dmc_kept_chunks_destroy(world->chunks); /* some pending, some wanted, some used by nobody that is left */
    for (uint32_t i = 0; i < ARRAYS; i++)
        assert_int_equal(atomic_load(&world->arrays[i].references), 1);
    free(world);
}

static void test_like_the_model(void **state)
{
    (void)state;
    static const struct kind kinds[] = {
        {.keys = 24, .asks_max = 8, .ahead_max = 12, .running_max = 5, .batches = 250, .need_max = 300},
        {.keys = 60, .asks_max = 12, .ahead_max = 24, .running_max = 4, .batches = 150, .need_max = 200000},
        {.keys = 5500, .asks_max = ASKS_MAX, .ahead_max = 44, .running_max = 16, .batches = 60, .need_max = 100},
        {.keys = 6, .asks_max = 4, .ahead_max = 24, .running_max = 8, .batches = 250, .need_max = 1200000},
    };
    uint64_t seed = seed_of_test("test_like_the_model", 0);
    memset(&happened, 0, sizeof happened);
    for (uint32_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        run(dmc_hash_u64(seed, i), kinds[i]);
    printf("found %llu made %llu covered %llu given up %llu cancelled %llu picked %llu failed %llu freed %llu no room %llu no "
           "entry %llu no wish %llu\n",
           (unsigned long long)happened.found, (unsigned long long)happened.made, (unsigned long long)happened.covered,
           (unsigned long long)happened.given_up, (unsigned long long)happened.cancelled, (unsigned long long)happened.picked,
           (unsigned long long)happened.failed, (unsigned long long)happened.freed, (unsigned long long)happened.no_room,
           (unsigned long long)happened.no_entry, (unsigned long long)happened.no_want);
    assert_true(happened.found && happened.made && happened.covered && happened.given_up && happened.cancelled);
    assert_true(happened.picked && happened.failed && happened.freed);
    assert_true(happened.no_room && happened.no_want);
}

/* A block decoder does no more for both than for each alone, or nothing is made. */
static void test_far_apart(void **state)
{
    (void)state;
    struct dmc_kept_chunks *chunks;
    struct damacy_error error;
    struct dmc_array array = {.references = 1};
    struct dmc_plan_array plan = {.zarr = (struct dmc_zarr_array *)&array};
    array.zarr = (struct dmc_zarr_array *)&array;
    struct dmc_chunk_ask own = {&plan, 3, 0, 100, 0, 1000}, later = {&plan, 3, 0, 100, 1000, 1500},
                         far = {&plan, 3, 0, 100, 2501, 3000};
    assert_int_equal(dmc_kept_chunks_create(DMC_KEPT_CHUNKS_LEAST, &chunks, &error), DAMACY_OK);
    assert_null(dmc_kept_chunks_make(chunks, 1, &own, false, &array)); /* nobody wants it */
    dmc_kept_chunks_want(chunks, 1, &later);
    assert_null(dmc_kept_chunks_make(chunks, 1, &own, false, &array)); /* but the batch itself */
    dmc_kept_chunks_want(chunks, 2, &later);
    struct dmc_kept *near = dmc_kept_chunks_make(chunks, 1, &own, true, &array);
    assert_non_null(near);
    assert_int_equal(near->begin, 1000);
    assert_int_equal(near->end, 1500);
    dmc_kept_chunks_want(chunks, 3, &far); /* now [1000, 3000) is wanted: 3000 for both, and for each alone 1000 + 2000 */
    struct dmc_kept *both = dmc_kept_chunks_make(chunks, 1, &own, true, &array);
    assert_non_null(both);
    assert_int_equal(dmc_kept_state(near), DMC_KEPT_NEVER);
    dmc_kept_chunks_planned(chunks, 2, 1);
    assert_null(dmc_kept_chunks_make(chunks, 2, &own, true, &array)); /* there is one that is large enough */
    assert_true(dmc_kept_cancel(both));
    assert_null(dmc_kept_chunks_make(chunks, 2, &own, true, &array)); /* [0, 1000) and [2501, 3000) */
    assert_non_null(dmc_kept_chunks_make(chunks, 2, &own, false, &array));
    assert_int_equal(atomic_load(&array.references), 4);
    dmc_kept_chunks_destroy(chunks);
    assert_int_equal(atomic_load(&array.references), 1);
}

/* As many wishes and entries as there is room for, and no more; all of them can be had again once they are over. */
static void test_full(void **state)
{
    (void)state;
    struct dmc_kept_chunks *chunks;
    struct damacy_error error;
    struct dmc_array array = {.references = 1};
    struct dmc_plan_array plan = {.zarr = (struct dmc_zarr_array *)&array};
    assert_int_equal(dmc_kept_chunks_create(DMC_KEPT_CHUNKS_LEAST, &chunks, &error), DAMACY_OK);
    for (uint64_t round = 0; round < 3; round++) {
        uint64_t maker = 10 * round, later = maker + 5;
        struct dmc_chunk_ask ask = {.array = &plan, .need_end = 1};
        for (ask.index = 0; ask.index < WANTS_MAX + 1; ask.index++) {
            dmc_kept_chunks_want(chunks, later, &ask);
            assert_int_equal(dmc_kept_chunks_expected(chunks, later + 1, &ask), ask.index < WANTS_MAX);
        }
        for (ask.index = 0; ask.index < KEPT_MAX + 1; ask.index++) {
            struct dmc_kept *kept = dmc_kept_chunks_make(chunks, maker, &ask, false, &array);
            assert_int_equal(kept != NULL, ask.index < KEPT_MAX);
            if (kept && round == 1)
                assert_true(dmc_kept_take(kept));
            if (kept && round == 1)
                dmc_kept_give(kept, ask.index % 2);
        }
        assert_int_equal(atomic_load(&array.references), 1 + KEPT_MAX);
        if (round == 1)
            dmc_kept_chunks_planned(chunks, later, maker); /* those that failed may be looked at until their batch is done */
        assert_int_equal(atomic_load(&array.references), 1 + KEPT_MAX / (round == 1 ? 2 : 1));
        dmc_kept_chunks_planned(chunks, later, maker + 1);
        assert_int_equal(atomic_load(&array.references), 1);
    }
    dmc_kept_chunks_destroy(chunks);
}

static void test_none(void **state)
{
    (void)state;
    struct dmc_kept_chunks *chunks = (struct dmc_kept_chunks *)&chunks;
    struct damacy_error error;
    assert_int_equal(dmc_kept_chunks_create(0, &chunks, &error), DAMACY_OK);
    assert_null(chunks);
    assert_int_equal(dmc_kept_chunks_bytes(NULL), 0);
    dmc_kept_chunks_destroy(NULL);
    dmc_mem_fail_at(1);
    assert_int_equal(dmc_kept_chunks_create(DMC_KEPT_CHUNKS_LEAST, &chunks, &error), DAMACY_OOM);
    dmc_mem_fail_at(0);
    assert_null(chunks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_the_model),
        cmocka_unit_test(test_far_apart),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
