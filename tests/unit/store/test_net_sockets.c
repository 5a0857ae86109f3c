/* Goal: a connection's socket is entered into the epoll once, not for each request; the server's goodbye takes it out, and so
 * does closing, before another socket gets its number. An entry that outlived its socket would be reported without end wherever
 * a forked child still has that socket open.
 * Method: epoll_ctl() is this file's, and counts; a server of the test's own. Hedges are off: they open connections of their
 * own. */
#include "net_world.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

#define OPTIONS "{\"network_threads\": 1, \"hedge_share\": 0, \"stall_timeout\": 300, \"request_timeout\": 300}"

static _Atomic int32_t entries, entered, taken_out;

/* In front of libc's. */
int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    int result = (int)syscall(SYS_epoll_ctl, epoll, operation, fd, event);
    if (result == 0 && operation == EPOLL_CTL_ADD) {
        atomic_fetch_add(&entries, 1);
        atomic_fetch_add(&entered, 1);
    }
    if (result == 0 && operation == EPOLL_CTL_DEL) {
        atomic_fetch_sub(&entries, 1);
        atomic_fetch_add(&taken_out, 1);
    }
    return result;
}

static void test_once(void **state)
{
    (void)state;
    struct world world;
    int32_t before = atomic_load(&entries);
    world_make(&world, well, NULL, OPTIONS, "");
    int32_t own = atomic_load(&entries) - before; /* what wakes the thread */
    expect_span(&world, "some/object", 10, 1000);
    int32_t first = atomic_load(&entered);
    for (uint32_t i = 0; i < 20; i++)
        expect_span(&world, "some/object", 10 + i, 200000);
    assert_int_equal(atomic_load(&world.server.connections), 1);
    assert_int_equal(atomic_load(&entered), first);
    assert_int_equal(atomic_load(&entries) - before, own + 1);
    world_end(&world);
    assert_int_equal(atomic_load(&entries) - before, own); /* that one goes with the epoll itself */
}

static bool answer_and_close(struct server *server, int fd, const struct question *question)
{
    (void)server;
    answer_well(fd, question, SEED, OBJECT_BYTES, "ETag: \"v1\"\r\n");
    return false;
}

static void test_goodbye(void **state)
{
    (void)state;
    struct world world;
    int32_t before = atomic_load(&entries);
    world_make(&world, answer_and_close, NULL, OPTIONS, "");
    int32_t own = atomic_load(&entries) - before;
    for (uint32_t i = 0; i < 20; i++) {
        int32_t gone = atomic_load(&taken_out);
        expect_span(&world, "some/object", 10 + i, 1000);
        for (uint32_t ms = 0; atomic_load(&taken_out) == gone; ms++) { /* nobody asks for anything meanwhile */
            assert_true(ms < 60000);
            usleep(1000);
        }
    }
    assert_int_equal(atomic_load(&world.server.connections), 20);
    assert_int_equal(atomic_load(&entries) - before, own);
    world_end(&world);
    assert_int_equal(atomic_load(&entries) - before, own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_once), cmocka_unit_test(test_goodbye)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
