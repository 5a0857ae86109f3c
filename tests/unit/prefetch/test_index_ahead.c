/* Goal: an index is asked for with the chunks of its shard exactly where that pays: the store can, the sample needs nearly all
 * of the shard, what it does not need is worth a request, and the shard is as short as the store allows, by its shape or by
 * what shards of its kind were.
 * Method: a store over the prefetcher's world that says what it allows and notes what it is asked for. */
#include "prefetch_world.h"

#define RAW_BYTES 128u                    /* of a chunk of 8 x 8 x uint16 */
#define MOST_BYTES (RAW_BYTES + 1u + 64u) /* of such a chunk, stored */

struct asking_store {
    struct dmc_store store;
    struct dmc_store *inner;
    uint64_t allowed, gap_bytes;
    uint64_t ahead_bytes[64]; /* of the requests for objects of grid chunks, in order */
    enum dmc_range_kind kinds[64];
    uint32_t count;
};

static enum dmc_start asking_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    struct asking_store *asking = (struct asking_store *)store;
    if (strstr(request->key, "/c/")) {
        assert_true(asking->count < 64);
        asking->kinds[asking->count] = request->kind;
        asking->ahead_bytes[asking->count++] = request->ahead_bytes;
    } else {
        assert_int_equal(request->ahead_bytes, 0);
    }
    request->holder = asking->inner;
    return asking->inner->ops->start(asking->inner, io, request);
}

static void asking_finish(struct dmc_store *store, struct dmc_request *request)
{
    struct dmc_store *inner = ((struct asking_store *)store)->inner;
    if (inner->ops->finish)
        inner->ops->finish(inner, request);
}

static uint64_t asking_ahead(struct dmc_store *store)
{
    return ((struct asking_store *)store)->allowed;
}

static void asking_hint(struct dmc_store *store, struct dmc_store_hint *hint)
{
    hint->coalesce_gap_bytes = ((struct asking_store *)store)->gap_bytes;
}

static const struct dmc_store_ops asking_ops = {
    .scheme = "asking", .start = asking_start, .finish = asking_finish, .ahead = asking_ahead, .hint = asking_hint};

static struct asking_store asking;

static struct world *begin_with(uint64_t gap_bytes, const char *codec, uint64_t extent, uint64_t shard)
{
    struct damacy_error error;
    struct world *world = world_new();
    world->options.coalesce_gap_bytes = gap_bytes;
    world_array(world, "a", extent, 8, shard, codec);
    world_prepare(world);
    asking =
        (struct asking_store){.store.ops = &asking_ops, .inner = world->fault, .allowed = UINT64_MAX, .gap_bytes = UINT64_MAX};
    dmc_stores_set(world->stores, "memory", &asking.store);
    assert_int_equal(world_start(world, &error), DAMACY_OK);
    return world;
}

static struct world *begin(const char *codec, uint64_t extent, uint64_t shard)
{
    return begin_with(0, codec, extent, shard);
}

/* With how much is the index of a box's only shard asked for? */
static uint64_t ahead_of(struct world *world, const char *uri, int64_t y0, int64_t y1, int64_t x0, int64_t x1)
{
    uint32_t count = asking.count;
    world_wait(world, world_push(world, uri, y0, y1, x0, x1) + 1);
    assert_int_equal(asking.count, count + 1);
    return asking.ahead_bytes[count];
}

/* Shards are cached, so each question is about another one. */
static uint64_t ahead_of_next(struct world *world, uint64_t *shard, int64_t rows, int64_t columns)
{
    int64_t at = (int64_t)(*shard)++ * 40;
    return ahead_of(world, "memory://a", 0, rows, at, at + columns);
}

static void test_how_much_of_the_shard(void **state)
{
    (void)state;
    struct world *world = begin(WORLD_ZSTD, 40 * 12 + 12, 40); /* 25 chunks a shard */
    uint64_t shard = 0;
    assert_int_equal(ahead_of_next(world, &shard, 40, 40), 25 * MOST_BYTES);
    assert_int_equal(asking.kinds[0], DMC_RANGE_SUFFIX);
    assert_int_equal(ahead_of_next(world, &shard, 33, 33), 25 * MOST_BYTES); /* touches all */
    assert_int_equal(ahead_of_next(world, &shard, 32, 40), 25 * MOST_BYTES); /* 20 of 25 */
    assert_int_equal(ahead_of_next(world, &shard, 24, 40), 0);
    assert_int_equal(ahead_of_next(world, &shard, 8, 8), 0);
    asking.gap_bytes = 5 * MOST_BYTES;
    assert_int_equal(ahead_of_next(world, &shard, 32, 40), 25 * MOST_BYTES);
    asking.gap_bytes--;
    assert_int_equal(ahead_of_next(world, &shard, 32, 40), 0);
    asking.gap_bytes = 0;
    assert_int_equal(ahead_of_next(world, &shard, 40, 40), 25 * MOST_BYTES);
    asking.allowed = 25 * MOST_BYTES - 1;
    assert_int_equal(ahead_of_next(world, &shard, 40, 40), 0);
    asking.allowed++;
    assert_int_equal(ahead_of_next(world, &shard, 40, 40), 25 * MOST_BYTES);
    asking.allowed = UINT64_MAX;
    /* What lies outside of the array is not stored: 12 columns are two chunks wide. */
    assert_int_equal(ahead_of(world, "memory://a", 0, 40, 480, 492), 10 * MOST_BYTES);
    assert_int_equal(ahead_of(world, "memory://a", 480, 492, 484, 492), 4 * MOST_BYTES);
    world_free(world);
}

/* Who says how long gaps may be says it for this, too. */
static void test_a_gap_of_the_user(void **state)
{
    (void)state;
    struct world *world = begin_with(5 * MOST_BYTES, WORLD_ZSTD, 40 * 12, 40);
    uint64_t shard = 0;
    asking.gap_bytes = 0;
    assert_int_equal(ahead_of_next(world, &shard, 32, 40), 25 * MOST_BYTES);
    world_free(world);
    world = begin_with(5 * MOST_BYTES - 1, WORLD_ZSTD, 40 * 12, 40);
    shard = 0;
    assert_int_equal(ahead_of_next(world, &shard, 32, 40), 0);
    world_free(world);
}

/* Of chunks that are stored as they are only what is wanted would be read, so the rest counts. */
static void test_uncompressed(void **state)
{
    (void)state;
    struct world *world = begin("", 40 * 12 + 12, 40);
    uint64_t shard = 0;
    asking.gap_bytes = 0;
    assert_int_equal(ahead_of_next(world, &shard, 40, 40), 25 * MOST_BYTES);
    assert_int_equal(ahead_of_next(world, &shard, 40, 39), 0);
    asking.gap_bytes = 80;
    assert_int_equal(ahead_of_next(world, &shard, 40, 39), 25 * MOST_BYTES);
    asking.gap_bytes = 79;
    assert_int_equal(ahead_of_next(world, &shard, 40, 39), 0);
    assert_int_equal(ahead_of(world, "memory://a", 0, 40, 480, 492), 0); /* half of its last column is padding */
    world_free(world);
}

/* Long shards are believed at once, short ones by and by, across arrays of a kind and for other shapes of shards. */
static void test_what_is_learnt(void **state)
{
    (void)state;
    struct world *world = begin(WORLD_ZSTD, 40 * 12, 40);
    world_array(world, "b", 40 * 12, 8, 16, WORLD_ZSTD);
    world_array(world, "c", 40 * 12, 8, 16, WORLD_BLOSC);
    world_shard(world, "a", 0, 1, 25, 16, "x", 1);
    world_shard(world, "a", 0, 3, 25, 48, "x", 1);
    world_shard(world, "a", 0, 5, 25, 16, "x", 1);
    world_shard(world, "a", 0, 7, 25, 1000, "x", 1);
    uint64_t shard = 0;
    assert_int_equal(ahead_of_next(world, &shard, 40, 40), 25 * MOST_BYTES); /* absent: nothing was learnt */
    assert_int_equal(ahead_of_next(world, &shard, 8, 8), 0);
    assert_int_equal(ahead_of_next(world, &shard, 40, 40), 25 * (16 + 2 + 64));
    assert_int_equal(ahead_of(world, "memory://b", 0, 16, 0, 16), 4 * (16 + 2 + 64));
    assert_int_equal(ahead_of(world, "memory://c", 0, 16, 0, 16), 4 * MOST_BYTES);
    assert_int_equal(ahead_of_next(world, &shard, 40, 40), 25 * (16 + 2 + 64));
    assert_int_equal(ahead_of_next(world, &shard, 40, 40), 25 * (48 + 6 + 64));
    assert_int_equal(ahead_of_next(world, &shard, 40, 40), 25 * (48 + 6 + 64));
    assert_int_equal(ahead_of_next(world, &shard, 40, 40), 25 * (44 + 5 + 64));
    assert_int_equal(ahead_of_next(world, &shard, 40, 40), 25 * (44 + 5 + 64));
    assert_int_equal(ahead_of_next(world, &shard, 40, 40), 25 * MOST_BYTES); /* never more than they can be */
    world_free(world);
}

static void test_an_index_at_the_start(void **state)
{
    (void)state;
    struct world *world = begin(WORLD_ZSTD, 40, 40);
    char text[4096];
    world_array_text(text, sizeof text, 40, 8, 40, WORLD_ZSTD, true);
    world_put_text(world, "s/zarr.json", text);
    assert_int_equal(ahead_of(world, "memory://s", 0, 40, 0, 40), 25 * MOST_BYTES);
    assert_int_equal(asking.kinds[0], DMC_RANGE_SPAN);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_how_much_of_the_shard), cmocka_unit_test(test_a_gap_of_the_user),
        cmocka_unit_test(test_uncompressed),          cmocka_unit_test(test_what_is_learnt),
        cmocka_unit_test(test_an_index_at_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
