/* Goal: several network threads behave as one. Every object is read right and by one thread alone, which the connections tell;
 * two requests for one range share a transfer; the counts of all threads come together, one entry a server; a server's wish for
 * quiet holds for all; there are fewer threads where memory or concurrency_max have no room for more; and reads from several
 * threads at once, some of them cancelled, all come back.
 * Method: a server of the test's own, and stores with network_threads set. */
#include "net_world.h"

#include "base/clock.h"
#include "base/hash.h"

#define THREADS 4
#define KEYS 24

static void key_of(char key[16], uint32_t i)
{
    snprintf(key, 16, "object-%u", i);
}

static uint32_t connections_with(const char *options)
{
    struct world world;
    world_make(&world, well, NULL, options, "");
    char key[16];
    for (uint32_t i = 0; i < KEYS; i++) {
        key_of(key, i);
        expect_span(&world, key, i * 100, 5000);
    }
    struct damacy_server_stats stats = server_stats(&world);
    assert_int_equal(stats.requests, KEYS);
    assert_int_equal(stats.bytes_used, KEYS * 5000);
    assert_true(stats.latency_p50_ns > 0 && stats.latency_p50_ns <= stats.latency_p99_ns);
    assert_true(stats.first_byte_ns > 0 || KEYS / THREADS < 8); /* known from eight answers on */
    assert_true(stats.concurrency >= 4 && stats.concurrency <= 256);
    uint32_t connections = atomic_load(&world.server.connections);
    world_end(&world);
    return connections;
}

/* Reads one after the other take one connection of each thread. */
static void test_dealt_out(void **state)
{
    (void)state;
    bool met[THREADS] = {false};
    uint32_t threads = 0;
    char key[16];
    for (uint32_t i = 0; i < KEYS; i++) {
        key_of(key, i);
        bool *its = &met[dmc_hash_bytes(key, strlen(key), 0) % THREADS];
        threads += !*its;
        *its = true;
    }
    assert_int_equal(threads, THREADS);
    assert_int_equal(connections_with("{\"network_threads\": 1, \"hedge_share\": 0}"), 1);
    assert_int_equal(connections_with("{\"network_threads\": 4, \"hedge_share\": 0}"), THREADS);
    assert_int_equal(connections_with("{\"network_threads\": 4, \"concurrency_max\": 16, \"hedge_share\": 0}"), 1);
}

/* Answers only when the test has let it. */
static bool gated(struct server *server, int fd, const struct question *question)
{
    const _Atomic bool *open = server->user;
    while (!atomic_load(open) && !atomic_load(&server->stop))
        usleep(500);
    return well(server, fd, question);
}

static void test_shared(void **state)
{
    (void)state;
    enum { READS = 40, BYTES = 4000 };
    static struct one_read reads[READS];
    static unsigned char buffers[READS][BYTES];
    char keys[READS][16];
    struct world world;
    _Atomic bool open = false;
    world_make(&world, gated, &open, "{\"network_threads\": 4, \"hedge_share\": 0, \"stall_timeout\": 300}", "");
    for (uint32_t i = 0; i < READS; i++) {
        key_of(keys[i], i / 2);
        prepare(&reads[i], world.store, keys[i], DMC_RANGE_SPAN, 1000, buffers[i], BYTES);
        assert_int_equal(dmc_store_start(world.io, &reads[i].request), DMC_START_PENDING);
    }
    /* Counted when a thread takes it in, and before the thread looks at any answer it knows who else wants that. */
    uint64_t deadline_ns = dmc_clock_deadline(PATIENCE_NS);
    while (server_stats(&world).requests < READS) {
        assert_true(dmc_clock_ns() < deadline_ns);
        usleep(500);
    }
    atomic_store(&open, true);
    for (uint32_t i = 0; i < READS; i++) {
        struct dmc_request *request = wait_any(world.io);
        assert_int_equal(request->outcome, DMC_OUTCOME_OK);
        assert_true(bytes_match(request->parts[0].iov_base, SEED, 1000, BYTES));
    }
    assert_int_equal(atomic_load(&world.server.questions), READS / 2);
    world_end(&world);
}

struct quiet {
    _Atomic uint64_t asked_ns, others_ns; /* when it asked for quiet, and when the first other question came */
};

static bool wants_quiet(struct server *server, int fd, const struct question *question)
{
    struct quiet *quiet = server->user;
    uint64_t none = 0;
    if (strstr(question->target, "busy") && atomic_load(&quiet->asked_ns) == 0) {
        atomic_store(&quiet->asked_ns, dmc_clock_ns());
        return send_text(fd, "HTTP/1.1 503 Slow Down\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
    }
    atomic_compare_exchange_strong(&quiet->others_ns, &none, dmc_clock_ns());
    return well(server, fd, question);
}

static void test_quiet(void **state)
{
    (void)state;
    enum { BYTES = 100 };
    static struct one_read reads[KEYS + 1];
    static unsigned char buffers[KEYS + 1][BYTES];
    char keys[KEYS][16];
    struct quiet quiet = {0};
    struct world world;
    world_make(&world, wants_quiet, &quiet, "{\"network_threads\": 4, \"hedge_share\": 0, " QUICK "}", "");
    prepare(&reads[KEYS], world.store, "busy", DMC_RANGE_SPAN, 0, buffers[KEYS], BYTES);
    assert_int_equal(dmc_store_start(world.io, &reads[KEYS].request), DMC_START_PENDING);
    uint64_t deadline_ns = dmc_clock_deadline(PATIENCE_NS);
    while (server_stats(&world).throttled == 0) {
        assert_true(dmc_clock_ns() < deadline_ns);
        usleep(1000);
    }
    for (uint32_t i = 0; i < KEYS; i++) {
        key_of(keys[i], i);
        prepare(&reads[i], world.store, keys[i], DMC_RANGE_SPAN, 0, buffers[i], BYTES);
        assert_int_equal(dmc_store_start(world.io, &reads[i].request), DMC_START_PENDING);
    }
    for (uint32_t i = 0; i < KEYS + 1; i++)
        assert_int_equal(wait_any(world.io)->outcome, DMC_OUTCOME_OK);
    assert_true(atomic_load(&quiet.others_ns) - atomic_load(&quiet.asked_ns) >= 1000000000u);
    world_end(&world);
}

/* With little memory there are fewer threads, rather than none that keeps what comes along with an index. */
static void test_little_memory(void **state)
{
    (void)state;
    for (uint64_t mebibytes = 8; mebibytes <= 128; mebibytes *= 2) {
        struct world world = {0};
        struct damacy_error error = {0};
        char uri[64], key[16];
        server_start(&world.server, well, NULL);
        snprintf(uri, sizeof uri, "http://127.0.0.1:%u/", world.server.port);
        assert_int_equal(dmc_net_create("{\"network_threads\": 4, \"hedge_share\": 0}", mebibytes << 20, &world.net, &error),
                         DAMACY_OK);
        assert_int_equal(dmc_net_resolve(world.net, uri, &world.store, world.prefix, sizeof world.prefix, &error), DAMACY_OK);
        world.io = io_make(4, true);
        for (uint32_t i = 0; i < 2 * KEYS; i++) {
            key_of(key, i % KEYS);
            expect_span(&world, key, i * 100, 40000);
        }
        assert_int_equal(atomic_load(&world.server.connections), mebibytes < 32 ? 1 : mebibytes < 64 ? 2 : 4);
        if (mebibytes >= 16)
            assert_true(world.store->ops->ahead(world.store) > 0);
        world_end(&world);
    }
}

struct reader {
    struct world *world;
    uint64_t seed;
    pthread_t thread;
    uint32_t wrong, done;
};

static void *read_much(void *argument)
{
    enum { READS = 32, BYTES = 2000, ROUNDS = 6 };
    struct reader *reader = argument;
    struct one_read *reads = calloc(READS, sizeof *reads);
    unsigned char(*buffers)[BYTES] = malloc(READS * sizeof *buffers);
    char keys[READS][16];
    struct dmc_io *io = io_make(READS, true);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < READS; i++) {
            uint64_t random = dmc_hash_u64(reader->seed, round * READS + i);
            key_of(keys[i], random % KEYS);
            prepare(&reads[i], reader->world->store, keys[i], DMC_RANGE_SPAN, (random >> 8) % (OBJECT_BYTES - BYTES),
                    buffers[i], BYTES);
            if (dmc_store_start(io, &reads[i].request) == DMC_START_PENDING && random >> 60 == 0)
                dmc_store_cancel(io, &reads[i].request);
        }
        for (uint32_t i = 0; i < READS; i++) {
            struct dmc_request *request = dmc_io_wait(io, UINT64_MAX);
            bool good =
                request->outcome == DMC_OUTCOME_OK && bytes_match(request->parts[0].iov_base, SEED, request->offset, BYTES);
            reader->wrong += !good && request->status != DAMACY_SHUTDOWN;
            reader->done += good;
        }
    }
    io_end(io);
    free(buffers);
    free(reads);
    return NULL;
}

static void test_many_readers(void **state)
{
    (void)state;
    struct world world;
    struct reader readers[4];
    uint64_t seed = test_seed();
    world_make(&world, well, NULL, "{\"network_threads\": 4}", "");
    for (uint32_t i = 0; i < 4; i++) {
        readers[i] = (struct reader){.world = &world, .seed = dmc_hash_u64(seed, i)};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_much, &readers[i]), 0);
    }
    for (uint32_t i = 0; i < 4; i++) {
        pthread_join(readers[i].thread, NULL);
        assert_int_equal(readers[i].wrong, 0);
        assert_true(readers[i].done > 100);
    }
    world_end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dealt_out),     cmocka_unit_test(test_shared),       cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_little_memory), cmocka_unit_test(test_many_readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
