/* Goal: the chunk layout is read for blosc, is "none" and never an error for everything else, and is not touched unless asked
 * for. Method: arrays in memory with hand-made blosc headers; requests are logged. */
#include "prefetch_world.h"

/* blosc 1.21, lz4, byte shuffle, typesize 2, 64 bytes in blocks of 32, 48 stored. */
static const uint8_t blosc_header[16] = {2, 1, 0x21, 2, 64, 0, 0, 0, 32, 0, 0, 0, 48, 0, 0, 0};

static struct world *begin(bool want_layout)
{
    struct world *world = world_new();
    world->options.want_layout = want_layout;
    return world;
}

static const struct dmc_chunk_layout *layout_of(struct world *world, uint64_t ordinal)
{
    assert_null(world_error(world, ordinal));
    struct dmc_array *array = dmc_prefetcher_array(world_region(world, ordinal, 0));
    assert_non_null(array);
    return dmc_prefetcher_layout(world->prefetcher, array);
}

static void assert_lz4(const struct dmc_chunk_layout *layout)
{
    assert_non_null(layout);
    assert_true(layout->known);
    assert_int_equal(layout->blosc.inner, DMC_BLOSC_LZ4);
    assert_true(layout->blosc.byte_shuffle);
    assert_int_equal(layout->blosc.bytes, 64);
    assert_int_equal(layout->blosc.block_bytes, 32);
    assert_int_equal(layout->blosc.typesize, 2);
}

static void test_blosc_layout_is_read_once(void **state)
{
    (void)state;
    struct world *world = begin(true);
    world_array(world, "b", 64, 8, 0, WORLD_BLOSC);
    uint8_t chunk[48] = {0};
    memcpy(chunk, blosc_header, sizeof blosc_header);
    world_put(world, "b/c/1/2", chunk, sizeof chunk);
    world_begin(world);
    for (int i = 0; i < 8; i++)
        world_push(world, "memory://b", 8, 12, 16, 20);
    world_wait(world, 8);
    assert_lz4(layout_of(world, 0));
    assert_lz4(layout_of(world, 7));
    assert_int_equal(world_requests(world, "b/c/1/2"), 1);
    world_free(world);
}

static void test_sharded_blosc_layout(void **state)
{
    (void)state;
    struct world *world = begin(true);
    world_array(world, "s", 64, 8, 16, WORLD_BLOSC);
    world_shard(world, "s", 1, 0, 4, 48, blosc_header, sizeof blosc_header);
    world_begin(world);
    world_push(world, "memory://s", 24, 28, 8, 12);
    world_wait(world, 1);
    assert_lz4(layout_of(world, 0));
    world_free(world);
}

static void test_non_blosc_codec_yields_no_layout(void **state)
{
    (void)state;
    struct world *world = begin(true);
    world_array(world, "z", 64, 8, 0, WORLD_ZSTD);
    world_array(world, "raw", 64, 8, 0, "");
    world_array(world, "sz", 64, 8, 16, WORLD_ZSTD);
    world_array(world, "crc", 64, 8, 0, "{\"name\":\"crc32c\"}");
    /* blosc inside, but not what a stored chunk begins with */
    world_array(world, "outer", 64, 8, 0, WORLD_BLOSC "," WORLD_ZSTD);
    world_put(world, "z/c/0/0", blosc_header, sizeof blosc_header);
    world_put(world, "raw/c/0/0", blosc_header, sizeof blosc_header);
    world_shard(world, "sz", 0, 0, 4, 48, blosc_header, sizeof blosc_header);
    world_begin(world);
    const char *const names[] = {"memory://z", "memory://raw", "memory://sz", "memory://crc", "memory://outer"};
    for (int i = 0; i < 5; i++)
        world_push(world, names[i], 0, 4, 0, 4);
    world_wait(world, 5);
    for (uint64_t i = 0; i < 5; i++) {
        const struct dmc_chunk_layout *layout = layout_of(world, i);
        assert_non_null(layout);
        assert_false(layout->known);
    }
    assert_int_equal(world_requests(world, "z/c/0/0"), 1); /* the index of sz, and nothing else: no chunk was looked at */
    assert_int_equal(world_requests(world, "/c/"), 1);
    world_free(world);
}

static void test_blosc_before_a_checksum(void **state)
{
    (void)state;
    struct world *world = begin(true);
    world_array(world, "b", 64, 8, 0, WORLD_BLOSC ",{\"name\":\"crc32c\"}");
    world_put(world, "b/c/0/0", blosc_header, sizeof blosc_header);
    world_begin(world);
    world_push(world, "memory://b", 0, 4, 0, 4);
    world_wait(world, 1);
    assert_lz4(layout_of(world, 0));
    world_free(world);
}

/* Whatever is wrong with the chunk that was looked at: no layout, no error. */
static void test_a_chunk_that_cannot_be_had_is_no_error(void **state)
{
    (void)state;
    struct world *world = begin(true);
    world_array(world, "absent", 64, 8, 0, WORLD_BLOSC);
    world_array(world, "short", 64, 8, 0, WORLD_BLOSC);
    world_put(world, "short/c/0/0", blosc_header, 5);
    world_array(world, "junk", 64, 8, 0, WORLD_BLOSC);
    world_put(world, "junk/c/0/0", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 16);
    world_array(world, "noshard", 64, 8, 16, WORLD_BLOSC);
    world_array(world, "tiny", 64, 8, 16, WORLD_BLOSC);
    world_shard(world, "tiny", 0, 0, 4, 3, blosc_header, 3);
    world_begin(world);
    const char *const names[] = {"memory://absent", "memory://short", "memory://junk", "memory://noshard", "memory://tiny"};
    for (int i = 0; i < 5; i++)
        world_push(world, names[i], 0, 4, 0, 4);
    world_wait(world, 5);
    for (uint64_t i = 0; i < 5; i++)
        assert_false(layout_of(world, i)->known);
    world_free(world);
}

/* The chunk under the box is absent: another of its shard tells. */
static void test_an_absent_chunk_of_a_shard_is_passed_over(void **state)
{
    (void)state;
    struct world *world = begin(true);
    world_array(world, "s", 64, 8, 16, WORLD_BLOSC);
    uint8_t shard[48 + 4 * 16 + 4];
    memset(shard, 0xff, sizeof shard);
    memcpy(shard, blosc_header, sizeof blosc_header);
    uint64_t entry[2] = {0, 48};
    memcpy(shard + 48 + 2 * 16, entry, 16);
    uint32_t crc = dmc_crc32c(shard + 48, 64);
    memcpy(shard + 48 + 64, &crc, 4);
    world_put(world, "s/c/0/0", shard, sizeof shard);
    world_begin(world);
    world_push(world, "memory://s", 0, 4, 0, 4);
    world_wait(world, 1);
    assert_lz4(layout_of(world, 0));
    world_free(world);
}

static void test_not_asked_for(void **state)
{
    (void)state;
    struct world *world = begin(false);
    world_array(world, "b", 64, 8, 0, WORLD_BLOSC);
    world_put(world, "b/c/0/0", blosc_header, sizeof blosc_header);
    world_begin(world);
    world_push(world, "memory://b", 0, 4, 0, 4);
    world_wait(world, 1);
    assert_null(layout_of(world, 0));
    assert_int_equal(world_requests(world, "b/c/0/0"), 0);
    struct dmc_prefetcher_stats stats;
    dmc_prefetcher_stats_get(world->prefetcher, &stats);
    assert_int_equal(stats.chunk_layout.misses, 0);
    world_free(world);
}

/* One batch asks for more layouts than fit: BUDGET names the setting; the next batch waits and then goes on. */
static void test_back_pressure_and_budget(void **state)
{
    (void)state;
    struct world *world = begin(true);
    char name[32], uri[32];
    for (int i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "a%d", i);
        world_array(world, name, 64, 8, 0, WORLD_ZSTD);
    }
    world->samples_per_batch = 3;
    world->options.chunk_layout_cache_bytes =
        dmc_chunk_layout_reserve(11) + dmc_prefetch_cache_held(11, sizeof(struct dmc_chunk_layout)) + 16; /* two */
    world_begin(world);
    for (int i = 0; i < 6; i++) {
        snprintf(uri, sizeof uri, "memory://a%d", i);
        world_push(world, uri, 0, 4, 0, 4);
    }
    world_wait(world, 3);
    assert_null(world_error(world, 0));
    assert_null(world_error(world, 1));
    const struct damacy_error *error = world_error(world, 2);
    assert_non_null(error);
    assert_int_equal(error->status, DAMACY_BUDGET);
    assert_non_null(strstr(error->message, "chunk_layout_cache_bytes"));
    assert_string_equal(error->uri, "memory://a2");
    world_stands_still(world, 3);
    world_plan(world);
    world_wait(world, 6);
    assert_null(world_error(world, 3));
    assert_null(world_error(world, 4));
    assert_int_equal(world_error(world, 5)->status, DAMACY_BUDGET);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blosc_layout_is_read_once),
        cmocka_unit_test(test_sharded_blosc_layout),
        cmocka_unit_test(test_non_blosc_codec_yields_no_layout),
        cmocka_unit_test(test_blosc_before_a_checksum),
        cmocka_unit_test(test_a_chunk_that_cannot_be_had_is_no_error),
        cmocka_unit_test(test_an_absent_chunk_of_a_shard_is_passed_over),
        cmocka_unit_test(test_not_asked_for),
        cmocka_unit_test(test_back_pressure_and_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
