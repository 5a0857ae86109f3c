/* Goal: the disk cache delivers what the inner store would, whatever happens to its folder, and stays below its cap.
 * Method: random reads compared byte by byte over a memory store that counts its requests; several processes on one folder,
 * killed at random moments; files of the cache damaged, cut and removed; failing writes; objects that change. */
#include "store_fixture.h"

#include "base/mem.h"
#include "store/cache_file.h"
#include "store/cache_store.h"

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>

#define OBJECTS 12u
#define OBJECT_MAX 400000u

/* A memory store with objects of known bytes, delayed or not, that counts what is asked of it. */
struct world {
    struct dmc_store *memory, *delay, *counting, *store;
    struct dmc_cache *cache;
    struct dmc_io *io;
    _Atomic uint64_t asked;
    uint64_t sizes[OBJECTS];
    uint64_t seed;
};

static enum dmc_fault count_only(void *user, uint64_t n, const char *key)
{
    struct world *world = user;
    (void)n;
    (void)key;
    atomic_fetch_add(&world->asked, 1);
    return DMC_FAULT_NONE;
}

static uint64_t delay_a_little(void *user, const char *key)
{
    (void)user;
    return dmc_hash_bytes(key, strlen(key), 5) % 100000;
}

static const char *key_of(char key[64], uint32_t object)
{
    snprintf(key, 64, "array/c/%u with space+\xc3\xa4", object);
    return key;
}

static void put_object(struct world *world, uint32_t object, uint64_t seed, uint64_t bytes)
{
    char key[64];
    unsigned char *data = malloc(bytes + 1);
    assert_non_null(data);
    fill_bytes(data, seed, 0, bytes);
    assert_int_equal(dmc_store_memory_put(world->memory, key_of(key, object), data, bytes, NULL), DAMACY_OK);
    world->sizes[object] = bytes;
    free(data);
}

static void open_cache(struct world *world, const struct dmc_cache_options *options)
{
    assert_int_equal(dmc_cache_create(options, &world->cache, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_cache_create(world->cache, world->counting, "memory://test", &world->store, NULL), DAMACY_OK);
}

static void close_cache(struct world *world)
{
    dmc_store_destroy(world->store);
    dmc_cache_destroy(world->cache);
}

static void world_make(struct world *world, uint64_t seed, bool delayed)
{
    memset(world, 0, sizeof *world);
    world->seed = seed;
    assert_int_equal(dmc_store_memory_create(&world->memory, NULL), DAMACY_OK);
    struct dmc_store *inner = world->memory;
    if (delayed) {
        assert_int_equal(dmc_store_delay_create(inner, delay_a_little, NULL, &world->delay, NULL), DAMACY_OK);
        inner = world->delay;
    }
    assert_int_equal(dmc_store_fault_create(inner, count_only, world, &world->counting, NULL), DAMACY_OK);
    for (uint32_t i = 0; i < OBJECTS; i++)
        put_object(world, i, 100 + i, i == 0 ? 1 : i == 1 ? 4096 : i == 2 ? 4097 : dmc_hash_u64(9, i) % OBJECT_MAX + 1);
    world->io = io_make(64, false);
}

static void world_end(struct world *world)
{
    io_end(world->io);
    dmc_store_destroy(world->counting);
    dmc_store_destroy(world->delay);
    dmc_store_destroy(world->memory);
}

static struct dmc_cache_options in_cache(const char *name)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/%s", fixture_folder, name);
    return (struct dmc_cache_options){.folder = path, .bytes_max = 64u << 20, .max_age_s = UINT64_MAX};
}

static struct dmc_cache_stats stats_of(struct world *world)
{
    struct dmc_cache_stats stats;
    dmc_cache_stats_get(world->cache, &stats);
    return stats;
}

/* One read of [offset, offset + bytes), checked against what the object holds. */
static void read_checked(struct world *world, uint32_t object, uint64_t offset, uint64_t bytes)
{
    static unsigned char data[OBJECT_MAX + 100];
    char key[64];
    struct one_read read;
    memset(data, 0xee, bytes);
    struct dmc_request *request = read_span(&read, world->io, world->store, key_of(key, object), offset, data, bytes);
    if (request->outcome == DMC_OUTCOME_FAILED)
        printf("failed: %s\n", read.error.message);
    assert_int_equal(request->outcome, DMC_OUTCOME_OK);
    assert_int_equal(request->bytes_read, bytes);
    assert_int_equal(request->object_bytes, world->sizes[object]);
    assert_true(request->version_tag != 0);
    assert_true(bytes_match(data, 100 + object, offset, bytes));
}

/* What will be asked for is told to the inner store. */
static void test_expected(void **state)
{
    (void)state;
    struct world world;
    struct dmc_cache_options options = in_cache("expected");
    struct dmc_store_ops ops;
    world_make(&world, 1, false);
    open_cache(&world, &options);
    world.store->ops->expect(world.store, "a/b", 7, 100, 50); /* this one expects nothing */
    listen_to(world.counting, &ops);
    world.store->ops->expect(world.store, "a/b", 7, 100, 50);
    assert_int_equal(told.count, 1);
    assert_string_equal(told.key, "a/b");
    assert_true(told.key_hash == 7 && told.offset == 100 && told.bytes == 50);
    close_cache(&world);
    world_end(&world);
}

/* A random request of any kind, through one to four parts. Also ranges that go beyond the end. */
static void read_random(struct world *world, uint64_t random)
{
    static unsigned char data[OBJECT_MAX + 4000];
    char key[64];
    uint32_t object = (uint32_t)(random % OBJECTS);
    uint64_t size = world->sizes[object], r = dmc_hash_u64(random, 1), bytes = dmc_hash_u64(random, 2) % 70000 + 1, begin = 0;
    struct one_read read;
    struct iovec parts[4];
    prepare(&read, world->store, key_of(key, object), DMC_RANGE_SPAN, 0, data, 0);
    switch (dmc_hash_u64(random, 3) % 6) {
    case 0:
        read.request.kind = DMC_RANGE_WHOLE;
        bytes = r % 3 ? size + r % 4000 : bytes;
        break;
    case 1:
        read.request.kind = DMC_RANGE_SUFFIX;
        bytes = bytes % 5000 + 1;
        begin = size > bytes ? size - bytes : 0;
        break;
    default:
        begin = read.request.offset = r % (size + 10);
    }
    uint32_t count = (uint32_t)(dmc_hash_u64(random, 4) % 4 + 1);
    uint64_t at = 0;
    if (read.request.kind == DMC_RANGE_WHOLE)
        count = 1;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t take = i + 1 == count ? bytes - at : (bytes - at) / 3;
        parts[i] = (struct iovec){data + at, take};
        at += take;
    }
    read.request.parts = parts;
    read.request.part_count = count;
    memset(data, 0xdd, bytes);
    complete(world->io, &read.request);
    const struct dmc_request *request = &read.request;
    uint64_t there = begin < size ? size - begin : 0;
    if (request->kind == DMC_RANGE_WHOLE) {
        assert_int_equal(request->outcome, bytes < size ? DMC_OUTCOME_TOO_LONG : DMC_OUTCOME_OK);
        assert_int_equal(request->object_bytes, size);
        if (bytes < size)
            return;
        assert_int_equal(request->bytes_read, size);
    } else if (request->kind == DMC_RANGE_SUFFIX && bytes > size) {
        assert_int_equal(request->outcome, DMC_OUTCOME_TRUNCATED);
        return;
    } else {
        assert_int_equal(request->outcome, there < bytes ? DMC_OUTCOME_TRUNCATED : DMC_OUTCOME_OK);
        assert_int_equal(request->bytes_read, there < bytes ? there : bytes);
    }
    assert_true(bytes_match(data, 100 + object, begin, request->bytes_read));
}

/* --- what it is for --- */

static void test_second_epoch_asks_nothing(void **state)
{
    (void)state;
    struct world world;
    uint64_t seed = test_seed();
    for (int delayed = 0; delayed < 2; delayed++) {
        char name[32];
        snprintf(name, sizeof name, "epochs%d", delayed);
        struct dmc_cache_options options = in_cache(name);
        world_make(&world, seed, delayed);
        open_cache(&world, &options);
        uint64_t total = 0, asked = 0;
        for (int epoch = 0; epoch < 3; epoch++) {
            if (epoch == 2) { /* a new process would see the same */
                close_cache(&world);
                open_cache(&world, &options);
            }
            for (uint32_t i = 0; i < 200; i++) {
                uint64_t random = dmc_hash_u64(seed, i);
                uint32_t object = (uint32_t)(random % OBJECTS);
                uint64_t begin = dmc_hash_u64(random, 1) % world.sizes[object];
                uint64_t bytes = dmc_hash_u64(random, 2) % 60000 + 1;
                bytes = bytes < world.sizes[object] - begin ? bytes : world.sizes[object] - begin;
                total += epoch == 0 ? bytes : 0;
                read_checked(&world, object, begin, bytes);
            }
            dmc_cache_flush(world.cache);
            if (epoch == 0)
                asked = world.asked;
            /* Of blocks with two stretches apart only one is kept, so a few reads may miss once more. */
            assert_true(world.asked <= asked + 40);
        }
        struct dmc_cache_stats stats = stats_of(&world);
        assert_true(stats.hits >= 180 && stats.damaged == 0 && stats.changed == 0 && !stats.writes_off);
        assert_true(stats.hit_bytes > total / 2);
        assert_true(stats.used_bytes > 0 && stats.used_bytes <= options.bytes_max);
        close_cache(&world);
        world_end(&world);
    }
}

static void test_random_reads(void **state)
{
    (void)state;
    struct world world;
    uint64_t seed = test_seed();
    for (int round = 0; round < 4; round++) {
        struct dmc_cache_options options = in_cache(round < 2 ? "random" : "tight");
        if (round >= 2)
            options.bytes_max = 1u << 20; /* far too little: evicts all the time */
        options.open_files_max = round % 2 ? 8 : 0;
        world_make(&world, seed, round % 2);
        open_cache(&world, &options);
        for (uint32_t i = 0; i < 1500; i++) {
            read_random(&world, dmc_hash_u64(seed + (uint64_t)round, i % 700));
            if (i % 50 == 0)
                dmc_cache_flush(world.cache);
        }
        struct dmc_cache_stats stats = stats_of(&world);
        assert_true(stats.hits > 0 && (stats.misses > 0 || round == 1) && stats.damaged == 0);
        close_cache(&world);
        world_end(&world);
    }
}

/* Many requests in flight on one thread, some told to end early. */
static void test_in_flight_and_cancelled(void **state)
{
    (void)state;
    enum { DEPTH = 32, BYTES = 30000 };
    static struct one_read reads[DEPTH];
    static unsigned char data[DEPTH][BYTES];
    static char keys[OBJECTS][64];
    struct world world;
    uint64_t seed = test_seed();
    struct dmc_cache_options options = in_cache("flight");
    world_make(&world, seed, true);
    open_cache(&world, &options);
    for (uint32_t i = 0; i < OBJECTS; i++)
        key_of(keys[i], i);
    for (uint32_t round = 0; round < 30; round++) {
        uint32_t pending = 0;
        for (uint32_t i = 0; i < DEPTH; i++) {
            uint64_t random = dmc_hash_u64(seed + round % 7, i);
            uint32_t object = (uint32_t)(3 + random % (OBJECTS - 3));
            uint64_t bytes = world.sizes[object] < BYTES ? world.sizes[object] : BYTES;
            uint64_t begin = (random >> 8) % (world.sizes[object] - bytes + 1);
            struct dmc_request *request = prepare(&reads[i], world.store, keys[object], DMC_RANGE_SPAN, begin, data[i], bytes);
            request->user = (void *)(uintptr_t)(object * 2 + (random >> 40) % 2);
            bool is_pending = dmc_store_start(world.io, request) == DMC_START_PENDING;
            pending += is_pending;
            if (is_pending && (random >> 40) % 2 && round % 2)
                dmc_store_cancel(world.io, request);
        }
        while (pending-- > 0)
            wait_any(world.io);
        if (round % 4 == 0)
            dmc_cache_flush(world.cache);
        for (uint32_t i = 0; i < DEPTH; i++) {
            const struct dmc_request *request = &reads[i].request;
            uint32_t object = (uint32_t)((uintptr_t)request->user / 2);
            if (request->outcome == DMC_OUTCOME_OK) {
                assert_true(bytes_match(data[i], 100 + object, request->offset, request->bytes_read));
            } else {
                assert_int_equal(request->status, DAMACY_SHUTDOWN);
                assert_true((uintptr_t)request->user % 2 == 1);
            }
        }
    }
    assert_true(stats_of(&world).hits > 100);
    close_cache(&world);
    world_end(&world);
}

static void test_warm_reads_allocate_nothing(void **state)
{
    (void)state;
    struct world world;
    struct dmc_cache_options options = in_cache("steady");
    world_make(&world, 1, false);
    open_cache(&world, &options);
    /* Where the page cache lets go of the file a ring is made, which is warm only then. */
    uint64_t cost = 1;
    for (int round = 0; cost > 0; round++) {
        assert_true(round < 20);
        uint64_t before = dmc_mem_count();
        for (int i = 0; i < 20; i++) {
            read_checked(&world, 5, 0, world.sizes[5] / 2);
            dmc_cache_flush(world.cache);
        }
        cost = dmc_mem_count() - before;
    }
    close_cache(&world);
    world_end(&world);
}

static void test_metadata_and_absence_are_not_kept(void **state)
{
    (void)state;
    struct world world;
    struct dmc_cache_options options = in_cache("metadata");
    world_make(&world, 1, false);
    open_cache(&world, &options);
    static const char *const keys[] = {"a/zarr.json", "zarr.json", "a/.zarray", ".zmetadata", "nothing/here"};
    for (size_t k = 0; k < 5; k++) {
        if (k < 4)
            assert_int_equal(dmc_store_memory_put(world.memory, keys[k], "{}", 2, NULL), DAMACY_OK);
        for (uint64_t n = 1; n <= 3; n++) {
            uint64_t asked = world.asked;
            char data[10];
            struct one_read read;
            complete(world.io, prepare(&read, world.store, keys[k], DMC_RANGE_WHOLE, 0, data, sizeof data));
            assert_int_equal(read.request.outcome, k < 4 ? DMC_OUTCOME_OK : DMC_OUTCOME_ABSENT);
            assert_int_equal(world.asked, asked + 1);
            dmc_cache_flush(world.cache);
        }
    }
    assert_int_equal(stats_of(&world).stored_bytes, 0);
    assert_int_equal(stats_of(&world).bypassed, 12);
    close_cache(&world);
    world_end(&world);
}

/* Of a range of which a part is there only the rest is asked for. */
static void test_partly_there(void **state)
{
    (void)state;
    static const struct {
        uint64_t have[2][2], want[2], asked_bytes;
    } cases[] = {
        {{{0, 60000}, {0, 0}}, {10000, 100000}, 40000},      /* the block at the end of what is there is not all there */
        {{{60000, 100000}, {0, 0}}, {10000, 100000}, 50000}, /* 60000 lies inside a block, too */
        {{{0, 40000}, {80000, 120000}}, {0, 120000}, 40000}, {{{0, 40000}, {80000, 120000}}, {20000, 100000}, 40000},
        {{{30000, 31000}, {0, 0}}, {0, 100000}, 100000}, /* in the middle: not worth it */
        {{{0, 10000}, {0, 0}}, {0, 100000}, 100000},     /* less than a quarter */
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        for (int delayed = 0; delayed < 2; delayed++) {
            struct world world;
            char name[32];
            snprintf(name, sizeof name, "partly%zu-%d", c, delayed);
            struct dmc_cache_options options = in_cache(name);
            world_make(&world, 1, delayed);
            put_object(&world, 5, 105, 200000);
            open_cache(&world, &options);
            for (int h = 0; h < 2; h++)
                if (cases[c].have[h][1])
                    read_checked(&world, 5, cases[c].have[h][0], cases[c].have[h][1] - cases[c].have[h][0]);
            dmc_cache_flush(world.cache);
            uint64_t before = stats_of(&world).miss_bytes, asked = world.asked;
            read_checked(&world, 5, cases[c].want[0], cases[c].want[1] - cases[c].want[0]);
            uint64_t bytes = stats_of(&world).miss_bytes - before;
            assert_true(bytes <= cases[c].asked_bytes + 8192 && bytes + 4096 >= cases[c].asked_bytes);
            assert_int_equal(world.asked, asked + 1);
            assert_int_equal(stats_of(&world).partial, bytes < cases[c].want[1] - cases[c].want[0]);
            dmc_cache_flush(world.cache);
            read_checked(&world, 5, cases[c].want[0], cases[c].want[1] - cases[c].want[0]);
            assert_int_equal(world.asked, asked + 1);
            /* The object changes: the part that is there and the rest do not belong together. */
            if (bytes < 80000) {
                static unsigned char data[200000];
                struct one_read read;
                char key[64];
                put_object(&world, 5, 777, delayed ? 200000 : 125000);
                read_span(&read, world.io, world.store, key_of(key, 5), cases[c].want[0], data, 125000 - cases[c].want[0]);
                if (read.request.outcome == DMC_OUTCOME_OK) /* all of it was there, and is trusted */
                    assert_true(bytes_match(data, 105, cases[c].want[0], 125000 - cases[c].want[0]));
                else
                    assert_non_null(strstr(read.error.message, "changed while it was in use"));
                read_span(&read, world.io, world.store, key, cases[c].want[0], data, 125000 - cases[c].want[0]);
                assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
                assert_true(bytes_match(data, 777, cases[c].want[0], 125000 - cases[c].want[0]));
            }
            close_cache(&world);
            world_end(&world);
        }
    }
}

/* --- versions --- */

static void test_a_change_is_told(void **state)
{
    (void)state;
    struct world world;
    struct dmc_cache_options options = in_cache("change");
    world_make(&world, 1, false);
    open_cache(&world, &options);
    char key[64];
    static unsigned char data[5000];
    struct one_read read;
    /* Bytes of the old version were delivered: the first read that meets the new one fails, and later ones see it alone. */
    put_object(&world, 5, 105, 100000);
    read_checked(&world, 5, 0, 5000);
    dmc_cache_flush(world.cache);
    read_checked(&world, 5, 100, 4000);
    assert_int_equal(stats_of(&world).hits, 1);
    put_object(&world, 5, 777, 100000);
    read_span(&read, world.io, world.store, key_of(key, 5), 50000, data, sizeof data);
    assert_int_equal(read.request.outcome, DMC_OUTCOME_FAILED);
    assert_int_equal(read.request.status, DAMACY_IO);
    assert_non_null(strstr(read.error.message, "changed while it was in use"));
    for (int i = 0; i < 2; i++) {
        read_span(&read, world.io, world.store, key, 0, data, sizeof data);
        assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
        assert_true(bytes_match(data, 777, 0, sizeof data));
        dmc_cache_flush(world.cache);
    }
    assert_int_equal(stats_of(&world).changed, 1);
    /* Nothing was delivered of the old one: the new one takes its place. Also when it has another size. */
    put_object(&world, 6, 106, 100000);
    read_checked(&world, 6, 0, 5000);
    dmc_cache_flush(world.cache);
    put_object(&world, 6, 106, 90000);
    read_checked(&world, 6, 20000, 5000);
    dmc_cache_flush(world.cache);
    uint64_t hits = stats_of(&world).hits;
    read_checked(&world, 6, 20000, 5000);
    assert_int_equal(stats_of(&world).hits, hits + 1);
    /* It was removed. */
    assert_int_equal(dmc_store_memory_put(world.memory, key_of(key, 6), NULL, 0, NULL), DAMACY_OK);
    read_span(&read, world.io, world.store, key, 60000, data, sizeof data);
    assert_int_equal(read.request.outcome, DMC_OUTCOME_ABSENT);
    read_span(&read, world.io, world.store, key, 20000, data, sizeof data);
    assert_int_equal(read.request.outcome, DMC_OUTCOME_ABSENT);
    close_cache(&world);
    world_end(&world);
}

/* Make every file of the cache look as if it had been confirmed long ago. */
static int age_one(const char *path, const struct stat *facts, int type, struct FTW *walk)
{
    (void)facts;
    (void)walk;
    const char *name = strrchr(path, '/') + 1;
    if (type == FTW_F && strlen(name) == 32) {
        uint64_t long_ago = (uint64_t)time(NULL) - 1000;
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, &long_ago, 8, 4088), 8);
        close(fd);
    }
    return 0;
}

static void test_age(void **state)
{
    (void)state;
    static const struct {
        uint64_t max_age_s;
        bool asks;
    } cases[] = {{UINT64_MAX, false}, {2000, false}, {500, true}, {0, true}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct world world;
        char name[32];
        snprintf(name, sizeof name, "age%zu", c);
        struct dmc_cache_options options = in_cache(name);
        options.max_age_s = cases[c].max_age_s;
        world_make(&world, 1, false);
        open_cache(&world, &options);
        read_checked(&world, 5, 0, 5000);
        read_checked(&world, 6, 0, 5000);
        dmc_cache_flush(world.cache); /* closing waits for what is under way, but not for ever */
        close_cache(&world);
        nftw(options.folder, age_one, 16, FTW_PHYS);
        open_cache(&world, &options);
        put_object(&world, 6, 106, world.sizes[6]); /* the same bytes, but another version */
        uint64_t asked = world.asked;
        read_checked(&world, 5, 0, 5000);
        assert_int_equal(world.asked, asked + cases[c].asks);
        assert_int_equal(stats_of(&world).revalidated, cases[c].asks);
        read_checked(&world, 5, 0, 5000);
        assert_int_equal(world.asked, asked + cases[c].asks);
        read_checked(&world, 6, 0, 5000);
        assert_int_equal(world.asked, asked + 2 * cases[c].asks);
        assert_int_equal(stats_of(&world).changed, cases[c].asks);
        close_cache(&world);
        world_end(&world);
    }
}

/* --- several processes, killed ones --- */

/* Reads for ever, or `reads` times; ends with 0 if all bytes were right. */
static void child_reads(const struct dmc_cache_options *options, uint64_t seed, uint64_t reads)
{
    struct world world;
    world_make(&world, seed, false);
    open_cache(&world, options);
    for (uint64_t i = 0; i < reads; i++)
        read_random(&world, dmc_hash_u64(seed, i % 400));
    close_cache(&world);
    world_end(&world);
    fflush(NULL);
    _exit(0);
}

static uint64_t folder_bytes;
static int add_up(const char *path, const struct stat *facts, int type, struct FTW *walk)
{
    (void)path;
    (void)walk;
    if (type == FTW_F)
        folder_bytes += (uint64_t)facts->st_blocks * 512;
    return 0;
}

static void test_processes_share_and_are_killed(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct dmc_cache_options options = in_cache("shared");
    options.bytes_max = 2u << 20; /* they need more: they evict each other's files */
    for (int round = 0; round < 6; round++) {
        pid_t children[3];
        bool kill_them = round % 2;
        fflush(NULL);
        for (uint64_t i = 0; i < 3; i++) {
            children[i] = fork();
            assert_true(children[i] >= 0);
            if (children[i] == 0)
                child_reads(&options, seed + i % 2, kill_them ? UINT64_MAX : 400);
        }
        if (kill_them) {
            usleep(20000 + (useconds_t)(dmc_hash_u64(seed, (uint64_t)round) % 60000));
            for (int i = 0; i < 3; i++)
                kill(children[i], SIGKILL);
        }
        for (int i = 0; i < 3; i++) {
            int status;
            assert_int_equal(waitpid(children[i], &status, 0), children[i]);
            if (!kill_them)
                assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        }
        folder_bytes = 0;
        nftw(options.folder, add_up, 16, FTW_PHYS);
        printf("%llu bytes in the folder of %llu\n", (unsigned long long)folder_bytes, (unsigned long long)options.bytes_max);
        assert_true(folder_bytes <= options.bytes_max);
    }
    /* What they left behind is right, or is not there. */
    struct world world;
    world_make(&world, seed, false);
    open_cache(&world, &options);
    for (uint64_t i = 0; i < 400; i++)
        read_random(&world, dmc_hash_u64(seed, i));
    assert_true(stats_of(&world).hits > 0);
    close_cache(&world);
    world_end(&world);
}

/* --- damage --- */

static uint64_t damage_seed;
static int damage_kind, damage_count;
static int damage_one(const char *path, const struct stat *facts, int type, struct FTW *walk)
{
    (void)walk;
    const char *name = strrchr(path, '/') + 1;
    if (type != FTW_F || strlen(name) != 32)
        return 0;
    uint64_t random = dmc_hash_u64(damage_seed, (uint64_t)damage_count++);
    uint64_t size = (uint64_t)facts->st_size;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    unsigned char byte;
    switch (damage_kind) {
    case 0: /* a bit of every block of the data */
        for (uint64_t at = size > 8192 ? 8192 + random % 4096 : size - 1; at < size; at += 1000) {
            assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
            byte ^= (unsigned char)(1u << random % 8);
            assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
        }
        break;
    case 1: /* the table */
        for (uint64_t at = 4096 + random % 5; at < 4096 + 800 && at < size; at += 5) {
            byte = (unsigned char)(random >> at % 50);
            assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
        }
        break;
    case 2: /* the header */
        byte = (unsigned char)random;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)(random % 120)), 1);
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)(random / 128 % 40)), 1);
        break;
    case 3: /* cut */
        assert_int_equal(ftruncate(fd, (off_t)(random % size)), 0);
        break;
    case 4: /* holes: what a power cut leaves of bytes that were not on the disk yet */
        assert_int_equal(ftruncate(fd, (off_t)(4096 + random % (size - 4096))), 0);
        assert_int_equal(ftruncate(fd, (off_t)size), 0);
        break;
    default: /* gone */
        unlink(path);
    }
    close(fd);
    return 0;
}

static void test_damage_is_never_delivered(void **state)
{
    (void)state;
    struct world world;
    damage_seed = test_seed();
    world_make(&world, damage_seed, false);
    for (damage_kind = 0; damage_kind < 6; damage_kind++) {
        for (int while_open = 0; while_open < 2; while_open++) {
            struct dmc_cache_options options = in_cache("damage");
            open_cache(&world, &options);
            for (uint32_t i = 3; i < OBJECTS; i++)
                read_checked(&world, i, 0, world.sizes[i]);
            dmc_cache_flush(world.cache);
            if (!while_open)
                close_cache(&world);
            damage_count = 0;
            nftw(options.folder, damage_one, 16, FTW_PHYS);
            assert_true(damage_count >= (int)OBJECTS - 3);
            if (!while_open)
                open_cache(&world, &options);
            uint64_t asked = world.asked;
            for (int pass = 0; pass < 2; pass++) {
                for (uint32_t i = 3; i < OBJECTS; i++)
                    read_checked(&world, i, 0, world.sizes[i]);
                dmc_cache_flush(world.cache);
            }
            if (damage_kind == 0) {
                assert_true(stats_of(&world).damaged >= OBJECTS - 3);
                assert_int_equal(world.asked, asked + OBJECTS - 3); /* each once: it was repaired */
            }
            close_cache(&world);
        }
    }
    world_end(&world);
}

/* --- a folder that does not work --- */

static int fail_from(void *user, uint64_t n)
{
    return n >= *(uint64_t *)user ? ENOSPC : 0;
}

static void test_full_disk(void **state)
{
    (void)state;
    for (uint64_t fail_at = 0; fail_at < 12; fail_at++) {
        struct world world;
        char name[32];
        snprintf(name, sizeof name, "full%llu", (unsigned long long)fail_at);
        struct dmc_cache_options options = in_cache(name);
        options.write_fault = fail_from;
        options.write_fault_user = &fail_at;
        world_make(&world, 1, false);
        open_cache(&world, &options);
        for (int pass = 0; pass < 3; pass++) {
            for (uint32_t i = 3; i < OBJECTS; i++)
                read_checked(&world, i, 0, world.sizes[i]);
            dmc_cache_flush(world.cache);
        }
        assert_true(stats_of(&world).writes_off);
        assert_true(stats_of(&world).dropped_bytes > 0);
        close_cache(&world);
        /* What was written before is of use. */
        open_cache(&world, &options);
        for (uint32_t i = 3; i < OBJECTS; i++)
            read_checked(&world, i, 0, world.sizes[i]);
        if (fail_at >= 3)
            assert_true(stats_of(&world).hits > 0);
        close_cache(&world);
        world_end(&world);
    }
}

static void test_unusable_folders(void **state)
{
    (void)state;
    char file[300], inside[400];
    write_file(in_folder(file, sizeof file, "a file"), 1, 10);
    snprintf(inside, sizeof inside, "%s/below", file);
    const char *const folders[] = {file, inside, "/proc/self/nothing", "/dev/null/x"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        struct world world;
        struct dmc_cache_options options = {.folder = folders[i], .bytes_max = 8u << 20};
        world_make(&world, 1, false);
        open_cache(&world, &options);
        for (int n = 0; n < 2; n++)
            read_checked(&world, 5, 0, 1000);
        struct dmc_cache_stats stats = stats_of(&world);
        assert_true(stats.writes_off && stats.hits == 0 && stats.bypassed == 2);
        close_cache(&world);
        world_end(&world);
    }
    /* The folder goes away while it is in use. */
    struct world world;
    struct dmc_cache_options options = in_cache("goes");
    world_make(&world, 1, false);
    open_cache(&world, &options);
    read_checked(&world, 5, 0, 1000);
    dmc_cache_flush(world.cache);
    assert_int_equal(nftw(options.folder, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    for (uint32_t i = 3; i < OBJECTS; i++)
        read_checked(&world, i, 0, world.sizes[i]);
    close_cache(&world);
    world_end(&world);
    struct dmc_cache *cache = NULL;
    struct damacy_error error;
    options.bytes_max = 1000;
    assert_int_equal(dmc_cache_create(&options, &cache, &error), DAMACY_INVAL);
    options.folder = "";
    assert_int_equal(dmc_cache_create(&options, &cache, &error), DAMACY_INVAL);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct world world;
    struct dmc_cache_options options = in_cache("memory");
    world_make(&world, 1, false);
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        struct damacy_error error;
        world.cache = NULL;
        world.store = NULL;
        dmc_mem_fail_at(n);
        enum damacy_status status = dmc_cache_create(&options, &world.cache, &error);
        if (status == DAMACY_OK)
            status = dmc_store_cache_create(world.cache, world.counting, "x", &world.store, &error);
        if (status != DAMACY_OK) {
            dmc_mem_fail_at(0);
            assert_int_equal(status, DAMACY_OOM);
            dmc_cache_destroy(world.cache);
            continue;
        }
        read_checked(&world, 5, 0, 1000);
        dmc_cache_flush(world.cache);
        read_checked(&world, 5, 0, 1000);
        dmc_cache_flush(world.cache);
        done = stats_of(&world).hits == 1 && n > 6;
        assert_true(n < 50);
        dmc_mem_fail_at(0);
        close_cache(&world);
        nftw(options.folder, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
    world_end(&world);
}

/* Until files that are written from now on have another time than those before. */
static void wait_for_another_file_time(void)
{
    struct timespec before, now;
    clock_gettime(CLOCK_REALTIME_COARSE, &before);
    do {
        usleep(500);
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
    } while (now.tv_sec == before.tv_sec && now.tv_nsec == before.tv_nsec);
}

/* The oldest go first, and the cap holds all the time. */
static void test_cap_and_order(void **state)
{
    (void)state;
    enum { FILES = 40, BYTES = 100000 };
    struct world world;
    struct dmc_cache_options options = in_cache("cap");
    options.bytes_max = 1u << 20;
    world_make(&world, 1, false);
    unsigned char *data = malloc(BYTES);
    assert_non_null(data);
    char key[64];
    struct one_read read;
    open_cache(&world, &options);
    for (uint64_t i = 0; i < FILES; i++) {
        snprintf(key, sizeof key, "o%llu", (unsigned long long)i);
        fill_bytes(data, i, 0, BYTES);
        assert_int_equal(dmc_store_memory_put(world.memory, key, data, BYTES, NULL), DAMACY_OK);
        read_span(&read, world.io, world.store, key, 0, data, BYTES);
        assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
        dmc_cache_flush(world.cache);
        folder_bytes = 0;
        nftw(options.folder, add_up, 16, FTW_PHYS);
        assert_true(folder_bytes <= options.bytes_max);
        wait_for_another_file_time();
    }
    struct dmc_cache_stats stats = stats_of(&world);
    assert_true(stats.evicted_bytes > 2000000 && stats.used_bytes <= options.bytes_max && stats.used_bytes >= BYTES);
    close_cache(&world);
    open_cache(&world, &options);
    uint64_t asked = world.asked;
    read_span(&read, world.io, world.store, key, 0, data, BYTES); /* the last one is still there */
    assert_int_equal(world.asked, asked);
    assert_true(bytes_match(data, FILES - 1, 0, BYTES));
    read_span(&read, world.io, world.store, "o0", 0, data, BYTES);
    assert_int_equal(world.asked, asked + 1);
    assert_true(bytes_match(data, 0, 0, BYTES));
    free(data);
    close_cache(&world);
    world_end(&world);
}

/* More than the queue takes at once is not kept, and nobody waits. */
static void test_small_queue(void **state)
{
    (void)state;
    struct world world;
    struct dmc_cache_options options = in_cache("queue");
    options.queue_bytes = 65536;
    world_make(&world, 1, false);
    put_object(&world, 7, 107, 300000);
    open_cache(&world, &options);
    read_checked(&world, 7, 0, 200000);
    assert_int_equal(stats_of(&world).dropped_bytes, 200000);
    for (uint64_t i = 0; i < 300; i++)
        read_checked(&world, 7, i % 90 * 3000, 3000);
    dmc_cache_flush(world.cache);
    uint64_t hits = 0;
    for (int pass = 0; pass < 4;
         pass++) { /* what was refused comes in with a later read; on a busy machine perhaps not the next one */
        hits = stats_of(&world).hits;
        for (uint64_t i = 0; i < 90; i++) {
            read_checked(&world, 7, i * 3000, 3000);
            dmc_cache_flush(world.cache);
        }
    }
    assert_int_equal(stats_of(&world).hits, hits + 90);
    close_cache(&world);
    world_end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_processes_share_and_are_killed), /* forks, so before threads */
                                       cmocka_unit_test(test_second_epoch_asks_nothing),
                                       cmocka_unit_test(test_expected),
                                       cmocka_unit_test(test_random_reads),
                                       cmocka_unit_test(test_in_flight_and_cancelled),
                                       cmocka_unit_test(test_warm_reads_allocate_nothing),
                                       cmocka_unit_test(test_metadata_and_absence_are_not_kept),
                                       cmocka_unit_test(test_partly_there),
                                       cmocka_unit_test(test_a_change_is_told),
                                       cmocka_unit_test(test_age),
                                       cmocka_unit_test(test_damage_is_never_delivered),
                                       cmocka_unit_test(test_full_disk),
                                       cmocka_unit_test(test_unusable_folders),
                                       cmocka_unit_test(test_no_memory),
                                       cmocka_unit_test(test_cap_and_order),
                                       cmocka_unit_test(test_small_queue)};
    return cmocka_run_group_tests(tests, folder_setup, folder_teardown);
}
