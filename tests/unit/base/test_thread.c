/* Goal: deadlines hold on the monotonic clock, threads keep signals away from themselves, a child knows that it was forked.
 * Method: try each; waits that must time out are short, waits that must not are endless. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/thread.h"
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct meeting {
    struct dmc_mutex lock;
    struct dmc_cond changed;
    int shared_turn;
    bool shared_end;
};

static void *answer(void *argument)
{
    struct meeting *meeting = argument;
    dmc_mutex_lock(&meeting->lock);
    while (!meeting->shared_end) {
        if (meeting->shared_turn % 2 == 1) {
            meeting->shared_turn++;
            dmc_cond_broadcast(&meeting->changed);
        }
        dmc_cond_wait(&meeting->changed, &meeting->lock);
    }
    dmc_mutex_unlock(&meeting->lock);
    return NULL;
}

static void test_cond(void **state)
{
    (void)state;
    struct meeting meeting = {.shared_turn = 0};
    dmc_mutex_init(&meeting.lock);
    dmc_cond_init(&meeting.changed);
    dmc_mutex_lock(&meeting.lock);
    uint64_t deadline = dmc_clock_deadline(20000000);
    while (dmc_cond_wait_until(&meeting.changed, &meeting.lock, deadline))
        ;
    assert_true(dmc_clock_ns() >= deadline);
    assert_false(dmc_cond_wait_until(&meeting.changed, &meeting.lock, 0));
    dmc_mutex_unlock(&meeting.lock);

    pthread_t thread;
    assert_int_equal(dmc_thread_start(&thread, "answer", answer, &meeting), 0);
    dmc_mutex_lock(&meeting.lock);
    for (int i = 0; i < 100; i++) {
        meeting.shared_turn++;
        dmc_cond_signal(&meeting.changed);
        while (meeting.shared_turn % 2 == 1)
            assert_true(
                dmc_cond_wait_until(&meeting.changed, &meeting.lock, i % 2 ? UINT64_MAX : dmc_clock_deadline(60000000000)));
    }
    dmc_mutex_unlock(&meeting.lock);
    assert_false(dmc_thread_join_until(thread, 0));
    assert_false(dmc_thread_join_until(thread, dmc_clock_deadline(1000000)));
    dmc_mutex_lock(&meeting.lock);
    meeting.shared_end = true;
    dmc_cond_broadcast(&meeting.changed);
    dmc_mutex_unlock(&meeting.lock);
    assert_true(dmc_thread_join_until(thread, dmc_clock_deadline(60000000000)));
    dmc_cond_deinit(&meeting.changed);
    dmc_mutex_deinit(&meeting.lock);
}

static void *count_turns(void *argument)
{
    struct meeting *meeting = argument;
    for (bool end = false; !end;) {
        dmc_mutex_lock(&meeting->lock);
        meeting->shared_turn++;
        end = meeting->shared_end;
        dmc_mutex_unlock(&meeting->lock);
    }
    return NULL;
}

/* Who asks with a deadline that has passed keeps the mutex: another thread that wants it never gets a turn in between. */
static void test_asking(void **state)
{
    (void)state;
    struct meeting meeting = {.shared_turn = 0};
    dmc_mutex_init(&meeting.lock);
    dmc_cond_init(&meeting.changed);
    pthread_t thread;
    assert_int_equal(dmc_thread_start(&thread, "counter", count_turns, &meeting), 0);
    int moved = 0;
    for (int round = 0; round < 20; round++) {
        dmc_mutex_lock(&meeting.lock);
        int turn = meeting.shared_turn;
        for (int i = 0; i < 200; i++)
            assert_false(dmc_cond_wait_until(&meeting.changed, &meeting.lock, dmc_clock_ns()));
        moved += meeting.shared_turn != turn;
        meeting.shared_end = round == 19;
        dmc_mutex_unlock(&meeting.lock);
        sched_yield();
    }
    assert_true(dmc_thread_join_until(thread, dmc_clock_deadline(60000000000)));
    assert_int_equal(moved, 0);
    dmc_cond_deinit(&meeting.changed);
    dmc_mutex_deinit(&meeting.lock);
}

static void *sleep_a_little(void *argument)
{
    (void)argument;
    usleep(300000);
    return NULL;
}

/* Longer than the step in which the wall clock is consulted. */
static void test_long_join(void **state)
{
    (void)state;
    pthread_t thread;
    assert_int_equal(dmc_thread_start(&thread, "sleeper", sleep_a_little, NULL), 0);
    assert_true(dmc_thread_join_until(thread, dmc_clock_deadline(60000000000)));
}

static void *look_at_mask(void *argument)
{
    pthread_sigmask(SIG_BLOCK, NULL, argument);
    return NULL;
}

static void test_signals_and_name(void **state)
{
    (void)state;
    sigset_t mask, own_before, own_after;
    pthread_t thread;
    pthread_sigmask(SIG_BLOCK, NULL, &own_before);
    assert_int_equal(dmc_thread_start(&thread, "a name much longer than fifteen", look_at_mask, &mask), 0);
    char name[32] = "";
    int named = pthread_getname_np(thread, name, sizeof name);
    assert_true(dmc_thread_join_until(thread, UINT64_MAX));
    if (named == 0) /* not when the thread was quicker */
        assert_string_equal(name, "a name much lon");
    pthread_sigmask(SIG_BLOCK, NULL, &own_after);
    assert_true(sigismember(&mask, SIGINT));
    assert_true(sigismember(&mask, SIGTERM));
    assert_true(sigismember(&mask, SIGALRM));
    assert_false(sigismember(&mask, SIGSEGV));
    assert_int_equal(sigismember(&own_before, SIGINT), sigismember(&own_after, SIGINT));
}

static void test_machine(void **state)
{
    (void)state;
    uint32_t cores = dmc_cores_allowed();
    assert_true(cores >= 1 && cores <= 65536);
    assert_true(dmc_memory_allowed() >= 64 << 20);
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &before)) {
            CPU_SET(i, &one);
            break;
        }
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(dmc_cores_allowed(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_int_equal(dmc_cores_allowed(), cores);
}

/* Truth: the largest of the caches that the kernel lists for the first processor. */
static void test_last_cache(void **state)
{
    (void)state;
    FILE *list = popen("cat /sys/devices/system/cpu/cpu0/cache/index*/size 2>/dev/null", "r");
    assert_non_null(list);
    unsigned long long largest = 0, kib;
    while (fscanf(list, "%lluK", &kib) == 1)
        largest = kib > largest ? kib : largest;
    pclose(list);
    if (largest == 0)
        skip(); /* a machine that does not tell */
    assert_int_equal(dmc_last_cache_bytes(), largest << 10);
}

static void test_fork(void **state)
{
    (void)state;
    uint64_t generation = dmc_fork_generation();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool first = dmc_fork_generation() == generation + 1;
        pid_t grandchild = fork();
        if (grandchild == 0)
            _exit(dmc_fork_generation() == generation + 2 ? 0 : 1);
        int status = 1;
        waitpid(grandchild, &status, 0);
        _exit(first && status == 0 && dmc_fork_generation() == generation + 1 ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(dmc_fork_generation(), generation);
}

static void test_clock(void **state)
{
    (void)state;
    uint64_t before = dmc_clock_ns();
    assert_true(dmc_clock_ns() >= before);
    assert_true(dmc_clock_deadline(5) >= before + 5);
    assert_true(dmc_clock_deadline(UINT64_MAX) == UINT64_MAX);
    assert_true(dmc_clock_deadline(UINT64_MAX - 1) == UINT64_MAX);
}

/* --- a thread that computes is waited for, one that hangs is not --- */

struct computation {
    _Atomic bool computing;
    _Atomic bool go_on;
};

static void *compute(void *argument)
{
    struct computation *computation = argument;
    uint64_t end_ns = dmc_clock_ns() + 300000000;
    while (dmc_clock_ns() < end_ns)
        sched_yield();
    atomic_store(&computation->computing, false);
    return NULL;
}

static void *hang(void *argument)
{
    struct computation *computation = argument;
    while (!atomic_load(&computation->go_on))
        usleep(1000);
    return NULL;
}

static void test_join_computing(void **state)
{
    (void)state;
    struct computation computation = {.computing = true};
    pthread_t thread;
    assert_int_equal(dmc_thread_start(&thread, "compute", compute, &computation), 0);
    bool joined = dmc_thread_join_computing(thread, 0, &computation.computing);
    assert_false(atomic_load(&computation.computing));
    if (!joined) /* what it has left to do took long, on a machine that halts threads */
        assert_true(dmc_thread_join_until(thread, UINT64_MAX));
    assert_int_equal(dmc_thread_start(&thread, "hang", hang, &computation), 0);
    assert_false(dmc_thread_join_computing(thread, 0, &computation.computing));
    atomic_store(&computation.go_on, true);
    assert_true(dmc_thread_join_until(thread, UINT64_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_join_computing),
                                       cmocka_unit_test(test_cond),
                                       cmocka_unit_test(test_asking),
                                       cmocka_unit_test(test_long_join),
                                       cmocka_unit_test(test_signals_and_name),
                                       cmocka_unit_test(test_machine),
                                       cmocka_unit_test(test_last_cache),
                                       cmocka_unit_test(test_fork),
                                       cmocka_unit_test(test_clock)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
