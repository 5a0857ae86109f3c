/* Goal: the ring keeps push order and content, is bounded in each of its ways, and hands readiness on in order.
 * Method: small cases by hand, and a random walk against a model that keeps every sample in full. */
#include "prefetch_world.h"

static void make(struct dmc_lookahead *ring, uint32_t lookahead, uint32_t prefetch)
{
    struct damacy_error error;
    assert_int_equal(dmc_lookahead_init(ring, lookahead, prefetch, 1, (uint32_t[]){1}, &error), DAMACY_OK);
}

static void push(struct dmc_lookahead *ring, const char *uri, int64_t begin)
{
    struct damacy_interval box = {begin, begin + 4};
    struct damacy_region region = {uri, 1, &box};
    dmc_lookahead_push(ring, &(struct damacy_sample){&region, (uint64_t)begin}, 7);
}

static void test_push_copies(void **state)
{
    (void)state;
    struct dmc_lookahead ring;
    make(&ring, 4, 4);
    char uri[] = "/data/a";
    push(&ring, uri, 3);
    memset(uri, 'x', sizeof uri - 1);
    const struct dmc_sample_slot *slot = dmc_lookahead_slot(&ring, 0);
    assert_string_equal(slot->regions[0].uri, "/data/a");
    assert_int_equal(slot->regions[0].uri_bytes, 7);
    assert_int_equal(slot->regions[0].uri_hash, dmc_hash_bytes("/data/a", 7, 0));
    assert_int_equal(slot->regions[0].aabb[0].begin, 3);
    assert_int_equal(slot->regions[0].aabb[0].end, 7);
    assert_int_equal(slot->tag, 3);
    assert_int_equal(slot->batch_id, 7);
    assert_int_equal(slot->ordinal, 0);
    dmc_lookahead_deinit(&ring);
}

static void test_capacity(void **state)
{
    (void)state;
    struct dmc_lookahead ring;
    make(&ring, 3, 2);
    for (int i = 0; i < 3; i++) {
        assert_true(dmc_lookahead_room(&ring, 2));
        push(&ring, "u", i);
    }
    assert_false(dmc_lookahead_room(&ring, 2)); /* the lookahead is full, though the ring is not */
    assert_int_equal(dmc_lookahead_take(&ring)->ordinal, 0);
    assert_int_equal(dmc_lookahead_take(&ring)->ordinal, 1);
    assert_null(dmc_lookahead_take(&ring)); /* prefetch_samples are taken */
    push(&ring, "u", 3);
    push(&ring, "u", 4);
    assert_false(dmc_lookahead_room(&ring, 2));
    dmc_lookahead_resolve(&ring, dmc_lookahead_slot(&ring, 0));
    assert_null(dmc_lookahead_take(&ring));
    dmc_lookahead_planned(&ring, 1);
    assert_int_equal(dmc_lookahead_take(&ring)->ordinal, 2);
    assert_true(dmc_lookahead_room(&ring, 2));
    dmc_lookahead_deinit(&ring);
}

static void test_readiness_is_handed_on_in_order(void **state)
{
    (void)state;
    struct dmc_lookahead ring;
    make(&ring, 4, 4);
    for (int i = 0; i < 4; i++) {
        push(&ring, "u", i);
        dmc_lookahead_take(&ring);
    }
    dmc_lookahead_resolve(&ring, dmc_lookahead_slot(&ring, 2));
    dmc_lookahead_resolve(&ring, dmc_lookahead_slot(&ring, 1));
    assert_int_equal(ring.resolved, 0);
    dmc_lookahead_resolve(&ring, dmc_lookahead_slot(&ring, 0));
    assert_int_equal(ring.resolved, 3);
    dmc_lookahead_resolve(&ring, dmc_lookahead_slot(&ring, 3));
    assert_int_equal(ring.resolved, 4);
    dmc_lookahead_deinit(&ring);
}

static void test_longest_uris_always_fit_an_empty_ring(void **state)
{
    (void)state;
    struct dmc_lookahead ring;
    make(&ring, 1, 1);
    char *uri = malloc(DAMACY_URI_BYTES_MAX + 1);
    for (uint32_t i = 0; i < 100; i++) {
        uint32_t bytes = i % 3 ? DAMACY_URI_BYTES_MAX : 1 + i * 13;
        memset(uri, 'a' + (int)(i % 26), bytes);
        uri[bytes] = 0;
        assert_true(dmc_lookahead_room(&ring, bytes + 1));
        push(&ring, uri, i);
        struct dmc_sample_slot *slot = dmc_lookahead_take(&ring);
        assert_string_equal(slot->regions[0].uri, uri);
        dmc_lookahead_resolve(&ring, slot);
        dmc_lookahead_planned(&ring, 1);
    }
    free(uri);
    dmc_lookahead_deinit(&ring);
}

static void test_settings_that_make_no_sense(void **state)
{
    (void)state;
    struct dmc_lookahead ring;
    struct damacy_error error;
    assert_int_equal(dmc_lookahead_init(&ring, 0, 1, 1, (uint32_t[]){1}, &error), DAMACY_INVAL);
    dmc_lookahead_deinit(&ring);
    uint32_t ranks[64];
    for (int i = 0; i < 64; i++)
        ranks[i] = 31;
    assert_true(dmc_lookahead_memory(UINT32_MAX, 0, 64, ranks) > (UINT64_C(1) << 40));
    dmc_mem_fail_at(1);
    assert_int_equal(dmc_lookahead_init(&ring, 8, 8, 1, (uint32_t[]){1}, &error), DAMACY_OOM);
    dmc_mem_fail_at(0);
    make(&ring, 8, 8);
    assert_int_equal(ring.memory_bytes, dmc_lookahead_memory(8, 8, 1, (uint32_t[]){1}));
    dmc_lookahead_deinit(&ring);
}

/* Two fields of rank 2 and 3, uris of wild lengths, cursors moved at random; every sample in the ring is compared each time. */
static void test_random_walk(void **state)
{
    (void)state;
    uint64_t seed = world_test_seed();
    enum { MODEL = 64, FIELDS = 2 };
    static struct {
        char *uris[FIELDS];
        struct damacy_interval boxes[FIELDS][3];
        bool resolved;
    } model[MODEL];
    const uint32_t ranks[FIELDS] = {2, 3};
    for (int round = 0; round < 20; round++) {
        struct dmc_lookahead ring;
        struct damacy_error error;
        uint32_t lookahead = 1 + (uint32_t)(world_random(&seed) % 20), prefetch = 1 + (uint32_t)(world_random(&seed) % 20);
        assert_int_equal(dmc_lookahead_init(&ring, lookahead, prefetch, FIELDS, ranks, &error), DAMACY_OK);
        uint64_t pushed = 0, taken = 0, resolved = 0, planned = 0, refused_for_uris = 0;
        for (int step = 0; step < 2000; step++) {
            uint64_t what = world_random(&seed) % 4;
            if (what == 0) {
                struct damacy_region regions[FIELDS];
                char *uris[FIELDS];
                uint64_t bytes = 0;
                for (int f = 0; f < FIELDS; f++) {
                    uint64_t length = world_random(&seed) % 8 ? 1 + world_random(&seed) % 100
                                                              : 1 + world_random(&seed) % DAMACY_URI_BYTES_MAX;
                    uris[f] = malloc(length + 1);
                    memset(uris[f], 'a' + (int)(world_random(&seed) % 26), length);
                    uris[f][length] = 0;
                    bytes += length + 1;
                }
                bool room = dmc_lookahead_room(&ring, bytes);
                if (pushed - taken >= lookahead || pushed - planned >= lookahead + prefetch)
                    assert_false(room);
                else if (pushed == planned)
                    assert_true(room);
                else
                    refused_for_uris += !room;
                if (!room) {
                    free(uris[0]);
                    free(uris[1]);
                    continue;
                }
                for (int f = 0; f < FIELDS; f++) {
                    model[pushed % MODEL].uris[f] = uris[f];
                    for (uint32_t axis = 0; axis < ranks[f]; axis++)
                        model[pushed % MODEL].boxes[f][axis] =
                            (struct damacy_interval){(int64_t)world_random(&seed), (int64_t)world_random(&seed)};
                    regions[f] = (struct damacy_region){uris[f], ranks[f], model[pushed % MODEL].boxes[f]};
                }
                model[pushed % MODEL].resolved = false;
                dmc_lookahead_push(&ring, &(struct damacy_sample){regions, pushed * 3}, pushed / 5);
                pushed++;
            } else if (what == 1) {
                struct dmc_sample_slot *slot = dmc_lookahead_take(&ring);
                bool expected = taken < pushed && taken - planned < prefetch;
                assert_int_equal(slot != NULL, expected);
                if (slot)
                    assert_int_equal(slot->ordinal, taken++);
            } else if (what == 2 && taken > resolved) {
                uint64_t at = resolved + world_random(&seed) % (taken - resolved);
                if (!model[at % MODEL].resolved) {
                    model[at % MODEL].resolved = true;
                    dmc_lookahead_resolve(&ring, dmc_lookahead_slot(&ring, at));
                }
                while (resolved < taken && model[resolved % MODEL].resolved)
                    resolved++;
                assert_int_equal(ring.resolved, resolved);
            } else if (what == 3 && resolved > planned) {
                uint64_t count = 1 + world_random(&seed) % (resolved - planned);
                for (; count > 0; count--, planned++) {
                    for (int f = 0; f < FIELDS; f++)
                        free(model[planned % MODEL].uris[f]);
                    dmc_lookahead_planned(&ring, 1);
                }
            }
            for (uint64_t at = planned; at < pushed; at++) {
                const struct dmc_sample_slot *slot = dmc_lookahead_slot(&ring, at);
                assert_int_equal(slot->tag, at * 3);
                assert_int_equal(slot->batch_id, at / 5);
                for (int f = 0; f < FIELDS; f++) {
                    assert_string_equal(slot->regions[f].uri, model[at % MODEL].uris[f]);
                    assert_memory_equal(slot->regions[f].aabb, model[at % MODEL].boxes[f],
                                        ranks[f] * sizeof(struct damacy_interval));
                }
            }
        }
        for (; planned < pushed; planned++)
            for (int f = 0; f < FIELDS; f++)
                free(model[planned % MODEL].uris[f]);
        dmc_lookahead_deinit(&ring);
        (void)refused_for_uris;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_push_copies),
        cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_readiness_is_handed_on_in_order),
        cmocka_unit_test(test_longest_uris_always_fit_an_empty_ring),
        cmocka_unit_test(test_settings_that_make_no_sense),
        cmocka_unit_test(test_random_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
