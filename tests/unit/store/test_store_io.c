/* Goal: a dmc_io wakes, waits and ends as promised, and faults come out as what they are.
 * Method: wakes and completions from other threads, stores of the test's own that hang, every kind of fault over every kind of
 * inner store. Nothing is timed; a lost wake-up would be a test that never ends. */
#include "store_fixture.h"

#include "base/mem.h"
#include "store/io_internal.h"

/* --- waking --- */

static void *wake_later(void *io)
{
    struct timespec pause = {.tv_nsec = 20000000};
    nanosleep(&pause, NULL);
    dmc_io_wake(io);
    return NULL;
}

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void check_wakes(struct dmc_io *io)
{
    /* A wake before the wait; polls do not use it up. */
    dmc_io_wake(io);
    dmc_io_wake(io);
    assert_null(dmc_io_wait(io, 0));
    assert_null(dmc_io_wait(io, UINT64_MAX));
    /* None left: the deadline ends the wait. */
    uint64_t deadline_ns = dmc_clock_deadline(5000000);
    assert_null(dmc_io_wait(io, deadline_ns));
    assert_true(dmc_clock_ns() >= deadline_ns);
    assert_null(dmc_io_wait(io, 1));
    /* And it sleeps until then: not the time is judged, but that the processor had little to do. What a machine takes away for
     * others in such a moment may be counted, too, so one of a few waits will do. */
    uint64_t least_ns = UINT64_MAX;
    for (int i = 0; i < 5 && least_ns >= 5000000; i++) {
        uint64_t begin_ns = cpu_ns();
        assert_null(dmc_io_wait(io, dmc_clock_deadline(100000000)));
        uint64_t busy_ns = cpu_ns() - begin_ns;
        least_ns = busy_ns < least_ns ? busy_ns : least_ns;
    }
    assert_true(least_ns < 5000000);
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        assert_int_equal(dmc_thread_start(&thread, "waker", wake_later, io), 0);
        assert_null(dmc_io_wait(io, UINT64_MAX));
        pthread_join(thread, NULL);
    }
}

static void test_wake(void **state)
{
    (void)state;
    struct dmc_store *store;
    struct dmc_io *io = io_make(4, false);
    assert_int_equal(dmc_store_file_create(NULL, &store, NULL), DAMACY_OK);
    check_wakes(io);
    /* Again with a ring. */
    char path[400];
    unsigned char data[5000];
    struct one_read read;
    write_file(in_folder(path, sizeof path, "ring"), 1, 100000);
    drop_file(path);
    read_span(&read, io, store, path, 0, data, sizeof data);
    assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
    check_wakes(io);
    /* A finished read does not hide a wake, and a wake does not hide a read. */
    drop_file(path);
    bool pending =
        dmc_store_start(io, prepare(&read, store, path, DMC_RANGE_SPAN, 50000, data, sizeof data)) == DMC_START_PENDING;
    dmc_io_wake(io);
    struct dmc_request *request = dmc_io_wait(io, UINT64_MAX);
    if (pending && request)
        assert_null(dmc_io_wait(io, UINT64_MAX));
    else if (pending)
        assert_ptr_equal(wait_any(io), &read.request);
    assert_int_equal(dmc_io_pending(io), 0);
    io_end(io);
    dmc_store_destroy(store);
}

/* A store whose reads are of a pipe, through the ring: under way for as long as nothing is written. */
struct pipe_store {
    struct dmc_store store;
    int ends[2];
};

static enum dmc_start pipe_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    return dmc_io_read(io, request, ((struct pipe_store *)store)->ends[0], 0);
}

static enum dmc_start pipe_resume(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    (void)store;
    (void)io;
    request->outcome = request->result == 1 ? DMC_OUTCOME_OK : DMC_OUTCOME_FAILED;
    return DMC_START_DONE;
}

/* With a read under way the owner sleeps in the ring, and without one elsewhere: also when the ring was left by the read's end,
 * so that it would still be woken through its eventfd. */
static void test_wake_beside_a_read(void **state)
{
    (void)state;
    if (dmc_io_uring_probe(NULL) != DAMACY_OK)
        skip();
    static const struct dmc_store_ops ops = {.scheme = "pipe", .start = pipe_start, .resume = pipe_resume};
    struct pipe_store store = {.store = {&ops}};
    assert_int_equal(pipe(store.ends), 0);
    struct dmc_io *io = io_make(2, false);
    struct one_read read;
    unsigned char byte;
    for (unsigned char i = 1; i < 3; i++) {
        assert_int_equal(dmc_store_start(io, prepare(&read, &store.store, "x", DMC_RANGE_SPAN, 0, &byte, 1)),
                         DMC_START_PENDING);
        check_wakes(io);
        assert_int_equal(dmc_io_pending(io), 1);
        assert_int_equal(write(store.ends[1], &i, 1), 1);
        assert_ptr_equal(wait_any(io), &read.request);
        assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
        assert_int_equal(byte, i);
        check_wakes(io);
    }
    io_end(io);
    close(store.ends[0]);
    close(store.ends[1]);
}

/* Two threads send each other wakes; each waits for the other's. */
struct player {
    struct dmc_io *own, *other;
    _Atomic uint32_t *ball;
    uint32_t parity;
};
enum { ROUNDS = 2000 };

static void *play(void *argument)
{
    struct player *player = argument;
    for (uint32_t turn = player->parity; turn < ROUNDS; turn += 2) {
        while (atomic_load(player->ball) != turn)
            dmc_io_wait(player->own, UINT64_MAX);
        atomic_store(player->ball, turn + 1);
        dmc_io_wake(player->other);
    }
    return NULL;
}

static void test_no_wake_is_lost(void **state)
{
    (void)state;
    _Atomic uint32_t ball = 0;
    struct dmc_io *a = io_make(1, false), *b = io_make(1, true);
    struct player players[2] = {{a, b, &ball, 0}, {b, a, &ball, 1}};
    pthread_t thread;
    assert_int_equal(dmc_thread_start(&thread, "player", play, &players[1]), 0);
    play(&players[0]);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&ball), ROUNDS);
    io_end(a);
    io_end(b);
}

/* --- completions of other threads --- */

/* A store whose requests a thread completes. */
struct thread_store {
    struct dmc_store store;
    struct dmc_mutex lock;
    struct dmc_cond filled;
    struct dmc_request *first;
    bool stop;
    pthread_t thread;
};

static void *completer(void *argument)
{
    struct thread_store *store = argument;
    dmc_mutex_lock(&store->lock);
    for (;;) {
        struct dmc_request *request = store->first;
        if (request) {
            store->first = request->next;
            dmc_mutex_unlock(&store->lock);
            *(unsigned char *)request->parts[0].iov_base = 1;
            request->bytes_read = 1;
            dmc_io_complete(request);
            dmc_mutex_lock(&store->lock);
        } else if (store->stop) {
            break;
        } else {
            dmc_cond_wait(&store->filled, &store->lock);
        }
    }
    dmc_mutex_unlock(&store->lock);
    return NULL;
}

static enum dmc_start thread_start(struct dmc_store *base, struct dmc_io *io, struct dmc_request *request)
{
    (void)io;
    struct thread_store *store = (struct thread_store *)base;
    dmc_mutex_lock(&store->lock);
    request->next = store->first;
    store->first = request;
    dmc_cond_signal(&store->filled);
    dmc_mutex_unlock(&store->lock);
    return DMC_START_PENDING;
}

/* The dmc_io goes away as soon as the last request is back, while its sender may still be inside dmc_io_complete. */
static void test_completion_by_another_thread(void **state)
{
    (void)state;
    static const struct dmc_store_ops ops = {.scheme = "thread", .start = thread_start};
    struct thread_store store = {.store.ops = &ops};
    dmc_mutex_init(&store.lock);
    dmc_cond_init(&store.filled);
    assert_int_equal(dmc_thread_start(&store.thread, "completer", completer, &store), 0);
    for (int round = 0; round < 300; round++) {
        enum { COUNT = 8 };
        struct dmc_io *io = io_make(COUNT, false);
        struct one_read reads[COUNT];
        unsigned char data[COUNT] = {0};
        for (int i = 0; i < COUNT; i++)
            assert_int_equal(dmc_store_start(io, prepare(&reads[i], &store.store, "x", DMC_RANGE_SPAN, 0, &data[i], 1)),
                             DMC_START_PENDING);
        for (int i = 0; i < COUNT; i++)
            assert_int_equal(wait_any(io)->bytes_read, 1);
        for (int i = 0; i < COUNT; i++)
            assert_int_equal(data[i], 1);
        io_end(io);
    }
    dmc_mutex_lock(&store.lock);
    store.stop = true;
    dmc_cond_signal(&store.filled);
    dmc_mutex_unlock(&store.lock);
    pthread_join(store.thread, NULL);
    dmc_cond_deinit(&store.filled);
    dmc_mutex_deinit(&store.lock);
}

/* --- ending --- */

static enum dmc_start stuck_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    (void)store;
    (void)io;
    (void)request;
    return DMC_START_PENDING;
}

/* Left behind with what is stuck, on purpose: here the sanitizer finds it. */
static struct dmc_io *left_behind;

static void test_destroy_leaves_what_is_stuck(void **state)
{
    (void)state;
    static const struct dmc_store_ops ops = {.scheme = "stuck", .start = stuck_start};
    static struct dmc_store store = {.ops = &ops};
    static struct one_read stuck, fine;
    static unsigned char data[2];
    struct dmc_store *memory, *delay;
    assert_int_equal(dmc_store_memory_create(&memory, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_memory_put(memory, "x", "x", 1, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_delay_create(memory, NULL, NULL, &delay, NULL), DAMACY_OK);
    left_behind = io_make(4, false);
    assert_int_equal(dmc_store_start(left_behind, prepare(&stuck, &store, "x", DMC_RANGE_SPAN, 0, data, 1)), DMC_START_PENDING);
    assert_int_equal(dmc_store_start(left_behind, prepare(&fine, memory, "x", DMC_RANGE_SPAN, 0, data + 1, 1)), DMC_START_DONE);
    damacy_set_log_quiet(true);
    uint64_t deadline_ns = dmc_clock_deadline(30000000);
    assert_false(dmc_io_destroy(left_behind, deadline_ns));
    assert_true(dmc_clock_ns() >= deadline_ns);
    damacy_set_log_quiet(false);
    dmc_store_destroy(delay);
    dmc_store_destroy(memory);
    assert_true(dmc_io_destroy(NULL, 0));
    dmc_store_destroy(NULL);
}

static enum dmc_fault always(void *user, uint64_t n, const char *key)
{
    (void)n;
    (void)key;
    return *(enum dmc_fault *)user;
}

static uint64_t for_ever(void *user, const char *key)
{
    (void)user;
    (void)key;
    return UINT64_MAX;
}

static void test_destroy_cancels_what_hangs(void **state)
{
    (void)state;
    enum dmc_fault hang = DMC_FAULT_HANG;
    struct dmc_store *memory, *fault, *delay;
    assert_int_equal(dmc_store_memory_create(&memory, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_fault_create(memory, always, &hang, &fault, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_delay_create(memory, for_ever, NULL, &delay, NULL), DAMACY_OK);
    struct dmc_io *io = io_make(6, false);
    struct one_read reads[6];
    unsigned char data;
    for (int i = 0; i < 6; i++)
        assert_int_equal(dmc_store_start(io, prepare(&reads[i], i % 2 ? fault : delay, "x", DMC_RANGE_SPAN, 0, &data, 1)),
                         DMC_START_PENDING);
    assert_int_equal(dmc_io_pending(io), 6);
    assert_null(dmc_io_wait(io, 0));
    dmc_store_cancel(io, &reads[1].request);
    dmc_store_cancel(io, &reads[2].request);
    for (int i = 0; i < 2; i++) {
        struct dmc_request *request = wait_any(io);
        assert_true(request == &reads[1].request || request == &reads[2].request);
        assert_int_equal(request->status, DAMACY_SHUTDOWN);
    }
    assert_int_equal(dmc_io_pending(io), 4);
    assert_true(dmc_io_destroy(io, UINT64_MAX));
    dmc_store_destroy(delay);
    dmc_store_destroy(fault);
    dmc_store_destroy(memory);
}

/* The thread that read is gone when its dmc_io is destroyed: the kernel may have cancelled its reads or not. */
struct leaver {
    struct dmc_store *store;
    struct dmc_io *io;
    const char *path;
    struct one_read reads[8];
    unsigned char data[8][30000];
};

static void *start_and_leave(void *argument)
{
    struct leaver *leaver = argument;
    for (uint64_t i = 0; i < 8; i++)
        dmc_store_start(leaver->io, prepare(&leaver->reads[i], leaver->store, leaver->path, DMC_RANGE_SPAN, i * 60000,
                                            leaver->data[i], 30000));
    dmc_io_wait(leaver->io, dmc_clock_ns() + 1); /* leaves the eventfd armed in the ring */
    return NULL;
}

static void test_destroy_after_the_owner_ended(void **state)
{
    (void)state;
    static struct leaver leaver;
    char path[400];
    write_file(in_folder(path, sizeof path, "left"), 1, 500000);
    for (int pool = 0; pool < 2; pool++) {
        drop_file(path);
        leaver.path = path;
        leaver.io = io_make(8, pool);
        assert_int_equal(dmc_store_file_create(NULL, &leaver.store, NULL), DAMACY_OK);
        pthread_t thread;
        assert_int_equal(dmc_thread_start(&thread, "leaver", start_and_leave, &leaver), 0);
        pthread_join(thread, NULL);
        io_end(leaver.io);
        dmc_store_destroy(leaver.store);
    }
}

/* Cancelled when the timer has sent it back already. */
static uint64_t no_delay(void *user, const char *key)
{
    (void)user;
    (void)key;
    return 0;
}
static void test_cancel_on_the_way_back(void **state)
{
    (void)state;
    struct dmc_store *memory, *delay;
    assert_int_equal(dmc_store_memory_create(&memory, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_memory_put(memory, "x", "x", 1, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_delay_create(memory, no_delay, NULL, &delay, NULL), DAMACY_OK);
    struct dmc_io *io = io_make(2, false);
    struct one_read read;
    char data;
    assert_int_equal(dmc_store_start(io, prepare(&read, delay, "x", DMC_RANGE_SPAN, 0, &data, 1)), DMC_START_PENDING);
    while (atomic_load(&read.request.state) == 1) /* PENDING, until the timer posts it */
        usleep(1000);
    dmc_store_cancel(io, &read.request);
    assert_ptr_equal(wait_any(io), &read.request);
    assert_int_equal(read.request.status, DAMACY_SHUTDOWN);
    io_end(io);
    dmc_store_destroy(delay);
    dmc_store_destroy(memory);
}

/* --- faults --- */

static uint64_t one_ms(void *user, const char *key)
{
    (void)user;
    (void)key;
    return 1000000;
}

static void check_fault(struct dmc_store *store, const char *key, uint64_t seed, enum dmc_fault fault, enum dmc_range_kind kind)
{
    unsigned char data[1200];
    uint64_t bytes = kind == DMC_RANGE_WHOLE ? sizeof data : 1000, begin = 0;
    struct dmc_io *io = io_make(2, false);
    struct one_read read;
    /* Two parts, unless one is asked for. */
    struct iovec parts[2] = {{data, kind == DMC_RANGE_WHOLE ? bytes : 300}, {data + 300, 700}};
    prepare(&read, store, key, kind, begin, NULL, 0);
    read.request.parts = parts;
    read.request.part_count = kind == DMC_RANGE_WHOLE ? 1 : 2;
    complete(io, &read.request);
    struct dmc_request *request = &read.request;
    switch (fault) {
    case DMC_FAULT_NONE:
        assert_int_equal(request->outcome, DMC_OUTCOME_OK);
        assert_true(bytes_match(data, seed, 0, 1000));
        break;
    case DMC_FAULT_FAIL:
        assert_int_equal(request->outcome, DMC_OUTCOME_FAILED);
        assert_int_equal(request->status, DAMACY_IO);
        assert_int_equal(read.error.os_error, EIO);
        break;
    case DMC_FAULT_ABSENT:
        assert_int_equal(request->outcome, DMC_OUTCOME_ABSENT);
        break;
    case DMC_FAULT_SHORT:
        assert_int_equal(request->outcome, DMC_OUTCOME_TRUNCATED);
        assert_int_equal(request->bytes_read, 500);
        break;
    case DMC_FAULT_FLIP:
        assert_int_equal(request->outcome, DMC_OUTCOME_OK);
        assert_int_equal(request->bytes_read, 1000);
        for (uint64_t i = 0; i < 1000; i++)
            assert_int_equal(data[i] != byte_at(seed, i), i == 500);
        break;
    case DMC_FAULT_HANG:
        break;
    }
    io_end(io);
}

static void test_faults(void **state)
{
    (void)state;
    char path[400];
    unsigned char data[1000];
    write_file(in_folder(path, sizeof path, "faulty"), 9, 1000);
    fill_bytes(data, 9, 0, 1000);
    enum dmc_fault fault;
    struct dmc_store *memory, *file, *delay_memory, *fault_stores[3], *delay_fault;
    assert_int_equal(dmc_store_memory_create(&memory, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_memory_put(memory, path, data, 1000, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_file_create(NULL, &file, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_delay_create(memory, one_ms, NULL, &delay_memory, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_fault_create(memory, always, &fault, &fault_stores[0], NULL), DAMACY_OK);
    assert_int_equal(dmc_store_fault_create(file, always, &fault, &fault_stores[1], NULL), DAMACY_OK);
    assert_int_equal(dmc_store_fault_create(delay_memory, always, &fault, &fault_stores[2], NULL), DAMACY_OK);
    assert_int_equal(dmc_store_delay_create(fault_stores[1], one_ms, NULL, &delay_fault, NULL), DAMACY_OK);
    for (int f = DMC_FAULT_NONE; f <= DMC_FAULT_FLIP; f++) {
        fault = (enum dmc_fault)f;
        for (int kind = 0; kind < 3; kind++) {
            for (int i = 0; i < 3; i++) {
                drop_file(path);
                check_fault(fault_stores[i], path, 9, fault, (enum dmc_range_kind)kind);
            }
            drop_file(path);
            check_fault(delay_fault, path, 9, fault, (enum dmc_range_kind)kind);
        }
    }
    dmc_store_destroy(delay_fault);
    for (int i = 0; i < 3; i++)
        dmc_store_destroy(fault_stores[i]);
    dmc_store_destroy(delay_memory);
    dmc_store_destroy(file);
    dmc_store_destroy(memory);
}

/* The n-th request and no other. */
static enum dmc_fault third_only(void *user, uint64_t n, const char *key)
{
    (void)user;
    (void)key;
    return n == 2 ? DMC_FAULT_FAIL : DMC_FAULT_NONE;
}

static void test_fault_counts_requests(void **state)
{
    (void)state;
    struct dmc_store *memory, *fault;
    assert_int_equal(dmc_store_memory_create(&memory, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_memory_put(memory, "x", "abc", 3, NULL), DAMACY_OK);
    assert_int_equal(dmc_store_fault_create(memory, third_only, NULL, &fault, NULL), DAMACY_OK);
    struct dmc_io *io = io_make(2, false);
    for (int i = 0; i < 5; i++) {
        char data[3];
        struct one_read read;
        read_span(&read, io, fault, "x", 0, data, 3);
        assert_int_equal(read.request.outcome, i == 2 ? DMC_OUTCOME_FAILED : DMC_OUTCOME_OK);
    }
    io_end(io);
    dmc_store_destroy(fault);
    dmc_store_destroy(memory);
}

static void test_io_uring_probe(void **state)
{
    (void)state;
    struct damacy_error error;
    enum damacy_status status = dmc_io_uring_probe(&error);
    assert_true(status == DAMACY_OK || (status == DAMACY_UNSUPPORTED && error.os_error != 0));
}

/* Whichever allocation fails, making the decorators answers OOM and leaks nothing. */
static void test_allocations_that_fail(void **state)
{
    (void)state;
    for (uint64_t n = 1; n < 8; n++) {
        struct dmc_store *memory = NULL, *delay = NULL, *fault = NULL;
        struct dmc_stores *stores = NULL;
        dmc_mem_fail_at(n);
        enum damacy_status status = dmc_store_memory_create(&memory, NULL);
        if (status == DAMACY_OK)
            status = dmc_store_memory_put(memory, "key", "value", 5, NULL);
        if (status == DAMACY_OK)
            status = dmc_store_delay_create(memory, one_ms, NULL, &delay, NULL);
        if (status == DAMACY_OK)
            status = dmc_store_fault_create(memory, third_only, NULL, &fault, NULL);
        if (status == DAMACY_OK)
            status = dmc_stores_create(NULL, &stores, NULL);
        dmc_mem_fail_at(0);
        assert_true(status == DAMACY_OOM || status == DAMACY_OK);
        dmc_stores_destroy(stores);
        dmc_store_destroy(fault);
        dmc_store_destroy(delay);
        dmc_store_destroy(memory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_wake),
                                       cmocka_unit_test(test_wake_beside_a_read),
                                       cmocka_unit_test(test_no_wake_is_lost),
                                       cmocka_unit_test(test_completion_by_another_thread),
                                       cmocka_unit_test(test_destroy_leaves_what_is_stuck),
                                       cmocka_unit_test(test_destroy_cancels_what_hangs),
                                       cmocka_unit_test(test_destroy_after_the_owner_ended),
                                       cmocka_unit_test(test_cancel_on_the_way_back),
                                       cmocka_unit_test(test_faults),
                                       cmocka_unit_test(test_fault_counts_requests),
                                       cmocka_unit_test(test_io_uring_probe),
                                       cmocka_unit_test(test_allocations_that_fail)};
    return cmocka_run_group_tests(tests, folder_setup, folder_teardown);
}
