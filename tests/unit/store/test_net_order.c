/* Goal: of what waits for a server the oldest batch's requests go out first, also those that a thread asks for late; and where
 * the lane is full of later batches' they may pass them, within bounds.
 * Method: a server in this process that answers nothing until the test opens the gate. When all requests are counted they are
 * in the lane, since the network's thread takes them in before it looks at any answer. */
#include "net_world.h"

#include "base/clock.h"

#define READS 120
#define BYTES 100

struct gate {
    _Atomic bool open;
    _Atomic uint32_t begun, asked;
    char targets[READS][16]; /* in the order of questions */
};

static bool gated(struct server *server, int fd, const struct question *question)
{
    struct gate *gate = server->user;
    snprintf(gate->targets[atomic_fetch_add(&gate->begun, 1)], sizeof gate->targets[0], "%.15s", question->target);
    atomic_fetch_add(&gate->asked, 1);
    while (!atomic_load(&gate->open) && !atomic_load(&server->stop))
        usleep(500);
    return well(server, fd, question);
}

static struct gate gate;
static struct one_read reads[READS];
static unsigned char buffers[READS][BYTES];
static char keys[READS][16];
static uint32_t read_count;

static void begin(struct world *world, const char *options)
{
    memset(&gate, 0, sizeof gate);
    read_count = 0;
    world_make(world, gated, &gate, options, "");
}

/* Some reads, numbered [first, end), of a batch that began at `begin_ns`. */
static void start_part(struct world *world, char name, uint64_t begin_ns, uint32_t first, uint32_t end)
{
    for (uint32_t i = first; i < end; i++, read_count++) {
        struct one_read *read = &reads[read_count];
        snprintf(keys[read_count], sizeof keys[0], "%c%u", name, i);
        prepare(read, world->store, keys[read_count], DMC_RANGE_SPAN, 1000, buffers[read_count], BYTES);
        read->request.begin_ns = begin_ns;
        assert_int_equal(dmc_store_start(world->io, &read->request), DMC_START_PENDING);
    }
}

/* All that was started has been taken in, and so many of it have come to the server. */
static void wait_until_asked(struct world *world, uint32_t count)
{
    uint64_t deadline_ns = dmc_clock_deadline(PATIENCE_NS);
    while (server_stats(world).requests < read_count || atomic_load(&gate.asked) < count) {
        assert_true(dmc_clock_ns() < deadline_ns);
        usleep(500);
    }
}

static void answer_all(struct world *world)
{
    atomic_store(&gate.open, true);
    for (uint32_t i = 0; i < read_count; i++) {
        struct dmc_request *request = wait_any(world->io);
        assert_int_equal(request->outcome, DMC_OUTCOME_OK);
        assert_true(bytes_match(request->parts[0].iov_base, SEED, 1000, BYTES));
    }
    assert_int_equal(atomic_load(&gate.asked), read_count);
    world_end(world);
}

static uint32_t asked_of(char name)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < atomic_load(&gate.asked); i++)
        count += gate.targets[i][1] == name;
    return count;
}

/* One at a time: the order is seen from outside. */
static void test_oldest_first(void **state)
{
    (void)state;
    static const char *const order[] = {"/c0", "/a0", "/a1", "/b0", "/b1", "/b2", "/b3", "/c1", "/c2"};
    struct world world;
    uint64_t now_ns = dmc_clock_ns();
    begin(&world, "{\"concurrency_max\": 1, \"hedge_share\": 0, \"stall_timeout\": 300}");
    start_part(&world, 'c', now_ns + 3, 0, 3);
    wait_until_asked(&world, 1);
    start_part(&world, 'b', now_ns + 2, 0, 2);
    start_part(&world, 'a', now_ns + 1, 0, 2);
    start_part(&world, 'b', now_ns + 2, 2, 4);
    wait_until_asked(&world, 1);
    answer_all(&world);
    for (uint32_t i = 0; i < sizeof order / sizeof order[0]; i++)
        assert_string_equal(gate.targets[i], order[i]);
}

/* 64 requests fill the lane at first. Half as many more may pass, if they are of an older batch. */
static void test_late_part(void **state)
{
    (void)state;
    struct world world;
    uint64_t now_ns = dmc_clock_ns();
    begin(&world, "{\"network_threads\": 1, \"hedge_share\": 0, \"stall_timeout\": 300}");
    start_part(&world, 'b', now_ns + 2, 0, 70);
    wait_until_asked(&world, 64);
    start_part(&world, 'a', now_ns + 1, 0, 40);
    wait_until_asked(&world, 96);
    assert_int_equal(asked_of('b'), 64);
    assert_int_equal(asked_of('a'), 32);
    answer_all(&world);
}

/* But never more than concurrency_max. */
static void test_most(void **state)
{
    (void)state;
    struct world world;
    uint64_t now_ns = dmc_clock_ns();
    begin(&world, "{\"concurrency_max\": 4, \"hedge_share\": 0, \"stall_timeout\": 300}");
    start_part(&world, 'b', now_ns + 2, 0, 6);
    start_part(&world, 'a', now_ns + 1, 0, 6);
    wait_until_asked(&world, 4);
    assert_int_equal(asked_of('b'), 4);
    answer_all(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oldest_first),
        cmocka_unit_test(test_late_part),
        cmocka_unit_test(test_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
