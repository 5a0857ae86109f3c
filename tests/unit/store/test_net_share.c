/* Goal: requests for bytes that are on their way for another request, or came for one after they were announced, get them from
 * there, exactly; each keeps its own end (deadline, cancellation, error), and what is kept stays within its memory.
 * Method: a server in this process that holds answers back until the test opens the gate, and counts what it is asked; a
 * request for "now", which is answered at once, tells that all requests started before it have been taken in. */
#include "net_server.h"

#include "base/mem.h"
#include "store/net_store.h"

#define OBJECT_BYTES 300007u
#define SEED 5u

#define ASKED_MAX 64u

struct gate {
    _Atomic bool open;
    _Atomic uint32_t asked;                               /* questions that came to the gate */
    _Atomic uint64_t begins[ASKED_MAX], lasts[ASKED_MAX]; /* of the first ones, in no order */
    _Atomic uint64_t also;                                /* hold back these, too, but never refuse them */
    _Atomic uint64_t only;                                /* hold back those that begin here; UINT64_MAX: all */
    _Atomic bool refuse;                                  /* what was held back is forbidden */
    const char *headers;                                  /* of the answers behind it */
};

static bool gated(struct server *server, int fd, const struct question *question)
{
    struct gate *gate = server->user;
    const char *headers = "ETag: \"v1\"\r\n";
    if (!strstr(question->target, "now")) {
        uint64_t only = atomic_load(&gate->only);
        uint32_t number = atomic_fetch_add(&gate->asked, 1);
        if (number < ASKED_MAX) {
            atomic_store(&gate->begins[number], question->begin);
            atomic_store(&gate->lasts[number], question->last);
        }
        bool held = only == UINT64_MAX || only == question->begin;
        bool waits = held || (question->begin && question->begin == atomic_load(&gate->also));
        while (waits && !atomic_load(&gate->open) && !atomic_load(&server->stop))
            usleep(500);
        if (held && atomic_load(&gate->refuse))
            return send_text(fd, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        headers = gate->headers;
    }
    if (strstr(question->target, "absent"))
        return send_text(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    if (strstr(question->target, "forbidden"))
        return send_text(fd, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    return answer_well(fd, question, SEED, OBJECT_BYTES, headers);
}

struct world {
    struct gate gate;
    struct server server;
    struct dmc_net *net;
    struct dmc_store *store;
    struct dmc_io *io, *others; /* one that the test looks at, and one for what must not come in between */
};

/* All requests started so far, and cancellations, have been taken in. */
static void settle(struct world *world)
{
    struct one_read read;
    unsigned char byte;
    prepare(&read, world->store, "now", DMC_RANGE_SPAN, 0, &byte, 1);
    read.request.metadata = true; /* those do not queue behind the others */
    complete(world->others, &read.request);
    assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
}

/* With one thread, whose work settle() waits for: all that is shared for an object is so within one. */
static void world_make_in(struct world *world, const char *options, uint64_t memory_bytes)
{
    char text[200];
    snprintf(text, sizeof text, "{\"network_threads\": 1, %s", options + 1);
    memset(world, 0, sizeof *world);
    world->gate.only = UINT64_MAX;
    world->gate.headers = "ETag: \"v1\"\r\n";
    server_start(&world->server, gated, &world->gate);
    struct damacy_error error = {0};
    char uri[100], prefix[100];
    snprintf(uri, sizeof uri, "http://127.0.0.1:%u/", world->server.port);
    if (dmc_net_create(text, memory_bytes, &world->net, &error) != DAMACY_OK ||
        dmc_net_resolve(world->net, uri, &world->store, prefix, sizeof prefix, &error) != DAMACY_OK)
        fail_msg("%s", error.message);
    world->io = io_make(64, true);
    world->others = io_make(64, true);
}

static void world_make(struct world *world, const char *options)
{
    world_make_in(world, options, DMC_NETWORK_BYTES_DEFAULT);
}

static void world_end(struct world *world)
{
    io_end(world->io);
    io_end(world->others);
    dmc_net_destroy(world->net);
    server_end(&world->server);
}

#define READ_BYTES_MAX 20000u
struct shared_read {
    struct one_read one;
    uint64_t offset;
    unsigned char bytes[READ_BYTES_MAX];
};

static void start(struct world *world, struct shared_read *read, const char *key, uint64_t offset, size_t bytes)
{
    memset(read->bytes, 0, sizeof read->bytes);
    read->offset = offset;
    prepare(&read->one, world->store, key, DMC_RANGE_SPAN, offset, read->bytes, bytes);
    assert_int_equal(dmc_store_start(world->io, &read->one.request), DMC_START_PENDING);
}

static void wait_for_questions(struct world *world, uint32_t count)
{
    uint64_t deadline_ns = dmc_clock_deadline(PATIENCE_NS);
    while (atomic_load(&world->gate.asked) < count) {
        assert_true(dmc_clock_ns() < deadline_ns);
        usleep(500);
    }
}

static void finish_all(struct world *world)
{
    while (dmc_io_pending(world->io))
        wait_any(world->io);
}

/* The server answers what it was asked and what it will be, and every read ends. */
static void answer_all(struct world *world)
{
    settle(world);
    atomic_store(&world->gate.open, true);
    finish_all(world);
}

/* Three reads, each inside the one before, so that one question is asked for all. */
static void start_nested(struct world *world, struct shared_read *three, const char *key)
{
    for (uint32_t i = 0; i < 3; i++)
        start(world, &three[i], key, 10 * i, 1000 - 100 * i);
}

static void expect_failed(const struct shared_read *read, const char *words)
{
    assert_int_equal(read->one.request.outcome, DMC_OUTCOME_FAILED);
    assert_non_null(strstr(read->one.error.message, words));
}

static void expect_bytes(const struct shared_read *read, size_t bytes)
{
    if (read->one.request.outcome != DMC_OUTCOME_OK)
        fail_msg("outcome %d: %s", read->one.request.outcome, read->one.error.message);
    assert_int_equal(read->one.request.bytes_read, bytes);
    assert_int_equal(read->one.request.object_bytes, OBJECT_BYTES);
    assert_true(bytes_match(read->bytes, SEED, read->offset, bytes));
}

static struct damacy_remote_stats stats_of(struct world *world)
{
    struct damacy_remote_stats stats = DAMACY_REMOTE_STATS_INIT;
    dmc_net_stats(world->net, &stats);
    return stats;
}

static struct shared_read reads[12];

/* What lies inside a range under way comes with it; what does not, or is of another object, or is metadata, goes out. */
static void test_contained(void **state)
{
    (void)state;
    struct world world;
    struct iovec parts[3], its_parts[2];
    world_make(&world, "{\"hedge_share\": 0}");
    struct shared_read *leader = &reads[0];
    memset(leader, 0, sizeof *leader);
    leader->offset = 1000;
    prepare(&leader->one, world.store, "a", DMC_RANGE_SPAN, 1000, NULL, 0);
    parts[0] = (struct iovec){leader->bytes, 1500};
    parts[1] = (struct iovec){leader->bytes + 1500, 0};
    parts[2] = (struct iovec){leader->bytes + 1500, 2500};
    leader->one.request.parts = parts;
    leader->one.request.part_count = 3;
    assert_int_equal(dmc_store_start(world.io, &leader->one.request), DMC_START_PENDING);
    wait_for_questions(&world, 1);
    start(&world, &reads[1], "a", 1000, 4000);
    start(&world, &reads[2], "a", 2000, 1000);
    memset(&reads[3], 0, sizeof reads[3]);
    reads[3].offset = 2499;
    prepare(&reads[3].one, world.store, "a", DMC_RANGE_SPAN, 2499, NULL, 0);
    its_parts[0] = (struct iovec){reads[3].bytes, 2};
    its_parts[1] = (struct iovec){reads[3].bytes + 2, 500};
    reads[3].one.request.parts = its_parts;
    reads[3].one.request.part_count = 2;
    assert_int_equal(dmc_store_start(world.io, &reads[3].one.request), DMC_START_PENDING);
    settle(&world);
    assert_int_equal(atomic_load(&world.gate.asked), 1);
    start(&world, &reads[4], "a", 4000, 1001);
    start(&world, &reads[5], "a", 999, 4001);
    start(&world, &reads[6], "b", 1000, 4000);
    prepare(&reads[7].one, world.store, "a", DMC_RANGE_SPAN, 1000, reads[7].bytes, 4000);
    reads[7].offset = 1000;
    reads[7].one.request.metadata = true;
    assert_int_equal(dmc_store_start(world.io, &reads[7].one.request), DMC_START_PENDING);
    prepare(&reads[8].one, world.store, "a", DMC_RANGE_SUFFIX, 0, reads[8].bytes, 100);
    reads[8].offset = OBJECT_BYTES - 100;
    assert_int_equal(dmc_store_start(world.io, &reads[8].one.request), DMC_START_PENDING);
    wait_for_questions(&world, 6);
    atomic_store(&world.gate.open, true);
    finish_all(&world);
    static const size_t bytes[] = {4000, 4000, 1000, 502, 1001, 4001, 4000, 4000, 100};
    for (uint32_t i = 0; i < 9; i++)
        expect_bytes(&reads[i], bytes[i]);
    assert_int_equal(atomic_load(&world.gate.asked), 6);
    struct damacy_remote_stats stats = stats_of(&world);
    assert_int_equal(stats.shared_requests, 3);
    assert_int_equal(stats.shared_bytes, 4000 + 1000 + 502 + /* ends: */ 1000 + 4000);
    world_end(&world);
}

static bool was_asked(struct world *world, uint64_t begin, uint64_t bytes)
{
    for (uint32_t i = 0; i < ASKED_MAX && i < atomic_load(&world->gate.asked); i++)
        if (atomic_load(&world->gate.begins[i]) == begin && atomic_load(&world->gate.lasts[i]) == begin + bytes - 1)
            return true;
    return false;
}

/* What is under way is not asked for again by those that want more than that: they ask for what is missing at either end. */
static void test_ends(void **state)
{
    (void)state;
    struct world world;
    world_make(&world, "{\"hedge_share\": 0}");
    start(&world, &reads[0], "a", 1000, 4000);
    wait_for_questions(&world, 1);
    start(&world, &reads[1], "a", 4000, 3000);
    wait_for_questions(&world, 2);
    assert_true(was_asked(&world, 5000, 2000));
    start(&world, &reads[2], "a", 0, 1500);
    wait_for_questions(&world, 3);
    assert_true(was_asked(&world, 0, 1000));
    start(&world, &reads[3], "a", 500, 5500); /* its head of the third, its tail of the second */
    wait_for_questions(&world, 4);
    assert_true(was_asked(&world, 1500, 2500));
    start(&world, &reads[4], "a", 1200, 5600); /* the first and the second have all of it */
    start(&world, &reads[5], "a", 4500, 1000); /* inside of what another one borrows a part of */
    settle(&world);
    assert_int_equal(atomic_load(&world.gate.asked), 4);
    atomic_store(&world.gate.open, true);
    finish_all(&world);
    static const size_t bytes[] = {4000, 3000, 1500, 5500, 5600, 1000};
    for (uint32_t i = 0; i < 6; i++)
        expect_bytes(&reads[i], bytes[i]);
    assert_int_equal(atomic_load(&world.gate.asked), 4);
    struct damacy_remote_stats stats = stats_of(&world);
    assert_int_equal(stats.shared_requests, 2);
    assert_int_equal(stats.shared_bytes, 1000 + 500 + 1000 + 2000 + 5600 + 1000);
    world_end(&world);
}

/* The lender is cancelled or fails: who borrowed from it reads all by itself, whether its own bytes are there or not. */
static void test_lender_lost(void **state)
{
    (void)state;
    for (int cancelled = 0; cancelled < 2; cancelled++) {
        struct world world;
        world_make(&world, "{\"hedge_share\": 0}");
        atomic_store(&world.gate.only, 1000);
        atomic_store(&world.gate.also, 500);
        start(&world, &reads[0], "a", 1000, 4000);
        wait_for_questions(&world, 1);
        start(&world, &reads[1], "a", 4000, 3000); /* its own bytes are there at once */
        start(&world, &reads[2], "a", 500, 1000);  /* its own are not */
        wait_for_questions(&world, 3);
        start(&world, &reads[3], "a", 4500, 1000); /* inside of the second */
        start(&world, &reads[4], "a", 3000, 4500); /* borrows of the first, or of the second */
        wait_for_questions(&world, 4);
        settle(&world);
        atomic_store(&world.gate.refuse, !cancelled);
        if (cancelled) {
            dmc_store_cancel(world.io, &reads[0].one.request);
            assert_ptr_equal(wait_any(world.io), &reads[0].one.request);
            memset(reads[0].bytes, 0xee, sizeof reads[0].bytes); /* its memory is the caller's again */
        }
        atomic_store(&world.gate.open, true);
        finish_all(&world);
        assert_int_equal(reads[0].one.request.outcome, DMC_OUTCOME_FAILED);
        assert_int_equal(reads[0].one.request.status, cancelled ? DAMACY_SHUTDOWN : DAMACY_IO);
        expect_bytes(&reads[1], 3000);
        expect_bytes(&reads[2], 1000);
        expect_bytes(&reads[3], 1000);
        expect_bytes(&reads[4], 4500);
        assert_true(was_asked(&world, 4000, 3000) && was_asked(&world, 500, 1000));
        world_end(&world);
    }
}

/* The object ends inside of what is borrowed, which only the lender's answer tells, or inside of what is asked for. */
static void test_lender_too_short(void **state)
{
    (void)state;
    struct world world;
    world_make(&world, "{\"hedge_share\": 0}");
    start(&world, &reads[0], "a", OBJECT_BYTES - 100, 1000);
    start(&world, &reads[1], "b", OBJECT_BYTES - 300, 200);
    wait_for_questions(&world, 2);
    start(&world, &reads[2], "a", OBJECT_BYTES - 50, 2000);
    start(&world, &reads[3], "b", OBJECT_BYTES - 200, 1000);
    start(&world, &reads[4], "a", OBJECT_BYTES - 500, 1000);
    wait_for_questions(&world, 5);
    assert_true(was_asked(&world, OBJECT_BYTES - 100, 900) && was_asked(&world, OBJECT_BYTES - 500, 400));
    atomic_store(&world.gate.open, true);
    finish_all(&world);
    static const uint64_t there[] = {100, 200, 50, 200, 500};
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(reads[i].one.request.outcome, i == 1 ? DMC_OUTCOME_OK : DMC_OUTCOME_TRUNCATED);
        assert_int_equal(reads[i].one.request.bytes_read, there[i]);
        assert_int_equal(reads[i].one.request.object_bytes, OBJECT_BYTES);
        assert_true(bytes_match(reads[i].bytes, SEED, reads[i].offset, there[i]));
    }
    world_end(&world);
}

/* Who waits for borrowed bytes only is cancelled, or out of time, and its lender goes on. */
static void test_borrower_ends(void **state)
{
    (void)state;
    struct world world;
    world_make(&world, "{\"batch_timeout\": 30, \"hedge_share\": 0}");
    atomic_store(&world.gate.only, 1000);
    start(&world, &reads[0], "a", 1000, 4000);
    wait_for_questions(&world, 1);
    start(&world, &reads[1], "a", 4000, 3000);
    start(&world, &reads[3], "a", 200, 1000);
    start(&world, &reads[2], "a", 500, 1000); /* all of it comes with others */
    settle(&world);
    wait_for_questions(&world, 3); /* which are out; the server may not have read them yet */
    assert_int_equal(atomic_load(&world.gate.asked), 3);
    dmc_store_cancel(world.io, &reads[2].one.request);
    assert_ptr_equal(wait_any(world.io), &reads[2].one.request);
    assert_int_equal(reads[2].one.request.status, DAMACY_SHUTDOWN);
    memset(&reads[4], 0, sizeof reads[4]);
    prepare(&reads[4].one, world.store, "a", DMC_RANGE_SPAN, 0, reads[4].bytes, 2000);
    reads[4].one.request.begin_ns = dmc_clock_ns() - 30ull * SECOND_NS + SECOND_NS / 2; /* a batch with half a second left */
    assert_int_equal(dmc_store_start(world.io, &reads[4].one.request), DMC_START_PENDING);
    assert_ptr_equal(wait_any(world.io), &reads[4].one.request);
    assert_non_null(strstr(reads[4].one.error.message, "batch_timeout"));
    atomic_store(&world.gate.open, true);
    finish_all(&world);
    expect_bytes(&reads[0], 4000);
    expect_bytes(&reads[1], 3000);
    expect_bytes(&reads[3], 1000);
    world_end(&world);
}

/* Far into a large object, where leader and follower begin in different blocks of the table. */
static void test_places(void **state)
{
    (void)state;
    struct world world;
    world_make(&world, "{\"hedge_share\": 0}");
    for (uint32_t i = 0; i < 40; i++) { /* all behind the end: it is the table that is tested */
        uint64_t begin = (uint64_t)i * 0x3fffff + 0x100000;
        atomic_store(&world.gate.open, false);
        uint32_t asked = atomic_load(&world.gate.asked);
        unsigned char *large = malloc(9 << 20);
        assert_non_null(large);
        prepare(&reads[0].one, world.store, "a", DMC_RANGE_SPAN, begin, large, 9 << 20);
        assert_int_equal(dmc_store_start(world.io, &reads[0].one.request), DMC_START_PENDING);
        wait_for_questions(&world, asked + 1);
        start(&world, &reads[1], "a", begin + (9 << 20) - 10, 10);
        answer_all(&world);
        assert_int_equal(atomic_load(&world.gate.asked), asked + 1);
        assert_int_equal(reads[1].one.request.outcome, DMC_OUTCOME_TRUNCATED);
        free(large);
    }
    world_end(&world);
}

/* The object ends inside the leader's range: each follower is told how much of its own there is. */
static void test_truncated(void **state)
{
    (void)state;
    struct world world;
    world_make(&world, "{\"hedge_share\": 0}");
    start(&world, &reads[0], "a", OBJECT_BYTES - 100, 1000);
    wait_for_questions(&world, 1);
    start(&world, &reads[1], "a", OBJECT_BYTES - 50, 50);
    start(&world, &reads[2], "a", OBJECT_BYTES - 50, 51);
    start(&world, &reads[3], "a", OBJECT_BYTES + 50, 51);
    answer_all(&world);
    expect_bytes(&reads[1], 50);
    assert_int_equal(reads[2].one.request.outcome, DMC_OUTCOME_TRUNCATED);
    assert_int_equal(reads[2].one.request.bytes_read, 50);
    assert_true(bytes_match(reads[2].bytes, SEED, OBJECT_BYTES - 50, 50));
    assert_int_equal(reads[3].one.request.outcome, DMC_OUTCOME_TRUNCATED);
    assert_int_equal(reads[3].one.request.bytes_read, 0);
    assert_int_equal(atomic_load(&world.gate.asked), 1);
    world_end(&world);
}

static void test_failure(void **state)
{
    (void)state;
    struct world world;
    world_make(&world, "{\"hedge_share\": 0}");
    start_nested(&world, &reads[0], "forbidden");
    start_nested(&world, &reads[3], "absent");
    wait_for_questions(&world, 2);
    answer_all(&world);
    for (uint32_t i = 0; i < 3; i++) {
        expect_failed(&reads[i], "403");
        assert_int_equal(reads[i].one.request.status, DAMACY_IO);
        assert_int_equal(reads[i + 3].one.request.outcome, DMC_OUTCOME_ABSENT);
    }
    assert_int_equal(atomic_load(&world.gate.asked), 2);
    world_end(&world);
}

/* The object is another one than before: nobody gets its bytes. */
static void test_change(void **state)
{
    (void)state;
    struct world world;
    world_make(&world, "{\"hedge_share\": 0}");
    atomic_store(&world.gate.open, true);
    start(&world, &reads[0], "a", 0, 10);
    finish_all(&world);
    expect_bytes(&reads[0], 10);
    atomic_store(&world.gate.open, false);
    world.gate.headers = "ETag: \"v2\"\r\n";
    start_nested(&world, &reads[0], "a");
    wait_for_questions(&world, 2);
    answer_all(&world);
    for (uint32_t i = 0; i < 3; i++)
        expect_failed(&reads[i], "changed while it was in use");
    assert_int_equal(atomic_load(&world.gate.asked), 2);
    world_end(&world);
}

/* The leader is cancelled: who followed it reads for itself, and others follow that one. */
static void test_leader_cancelled(void **state)
{
    (void)state;
    struct world world;
    world_make(&world, "{\"concurrency_max\": 1, \"hedge_share\": 0}"); /* so it must also leave its place to its followers */
    start(&world, &reads[0], "a", 0, 5000);
    wait_for_questions(&world, 1);
    for (uint32_t i = 1; i < 5; i++)
        start(&world, &reads[i], "a", 100, 1000 + i);
    start(&world, &reads[5], "other", 100, 1000);
    dmc_store_cancel(world.io, &reads[0].one.request);
    assert_ptr_equal(wait_any(world.io), &reads[0].one.request);
    assert_int_equal(reads[0].one.request.status, DAMACY_SHUTDOWN);
    memset(reads[0].bytes, 0xee, sizeof reads[0].bytes); /* its memory is the caller's again */
    wait_for_questions(&world, 2);
    answer_all(&world);
    for (uint32_t i = 1; i < 5; i++)
        expect_bytes(&reads[i], 1000 + i);
    expect_bytes(&reads[5], 1000);
    assert_in_range(atomic_load(&world.gate.asked), 3, 6); /* the leader, those that no other one covers, and "other" */
    world_end(&world);
}

/* A follower that is cancelled comes back at once, and disturbs nobody. */
static void test_follower_cancelled(void **state)
{
    (void)state;
    struct world world;
    world_make(&world, "{\"hedge_share\": 0}");
    start(&world, &reads[0], "a", 0, 5000);
    wait_for_questions(&world, 1);
    for (uint32_t i = 1; i < 6; i++)
        start(&world, &reads[i], "a", i, 1000);
    settle(&world);
    for (uint32_t i = 1; i < 6; i += 2) { /* the first, the last and one in the middle of their list */
        dmc_store_cancel(world.io, &reads[i].one.request);
        assert_ptr_equal(wait_any(world.io), &reads[i].one.request);
        assert_int_equal(reads[i].one.request.status, DAMACY_SHUTDOWN);
    }
    start(&world, &reads[6], "a", 6, 1000);
    dmc_store_cancel(world.io, &reads[6].one.request); /* it comes with its cancellation */
    assert_ptr_equal(wait_any(world.io), &reads[6].one.request);
    atomic_store(&world.gate.open, true);
    finish_all(&world);
    expect_bytes(&reads[0], 5000);
    expect_bytes(&reads[2], 1000);
    expect_bytes(&reads[4], 1000);
    assert_int_equal(atomic_load(&world.gate.asked), 1);
    assert_int_equal(stats_of(&world).shared_requests, 2);
    world_end(&world);
}

/* Each has the deadline of its own batch: a leader that runs out of time takes nobody with it, nor does a follower wait longer
 * than it may. */
static void test_deadlines(void **state)
{
    (void)state;
    struct world world;
    world_make(&world, "{\"batch_timeout\": 30, \"hedge_share\": 0}");
    uint64_t soon_ns = dmc_clock_ns() - 30ull * SECOND_NS + SECOND_NS / 2; /* a batch with half a second left */
    prepare(&reads[0].one, world.store, "a", DMC_RANGE_SPAN, 0, reads[0].bytes, 5000);
    reads[0].one.request.begin_ns = soon_ns;
    assert_int_equal(dmc_store_start(world.io, &reads[0].one.request), DMC_START_PENDING);
    start(&world, &reads[1], "a", 100, 1000);
    start(&world, &reads[2], "b", 0, 5000);
    prepare(&reads[3].one, world.store, "b", DMC_RANGE_SPAN, 10, reads[3].bytes, 1000);
    reads[3].one.request.begin_ns = soon_ns;
    assert_int_equal(dmc_store_start(world.io, &reads[3].one.request), DMC_START_PENDING);
    settle(&world);
    for (uint32_t i = 0; i < 2; i++) {
        struct dmc_request *request = wait_any(world.io);
        assert_true(request == &reads[0].one.request || request == &reads[3].one.request);
        assert_int_equal(request->outcome, DMC_OUTCOME_FAILED);
        assert_non_null(strstr(request->error->message, "batch_timeout"));
    }
    wait_for_questions(&world, 3);
    atomic_store(&world.gate.open, true);
    finish_all(&world);
    expect_bytes(&reads[1], 1000);
    expect_bytes(&reads[2], 5000);
    assert_int_equal(atomic_load(&world.gate.asked), 3);
    world_end(&world);
}

/* --- announced before they are asked for --- */

static void expect_soon(struct world *world, const char *key, uint64_t offset, uint64_t bytes)
{
    world->store->ops->expect(world->store, key, 0, offset, bytes);
}

/* Read to the end: how many questions did that take? */
static uint32_t questions_of(struct world *world, const char *key, uint64_t offset, size_t bytes)
{
    uint32_t asked = atomic_load(&world->gate.asked);
    start(world, &reads[0], key, offset, bytes);
    finish_all(world);
    expect_bytes(&reads[0], bytes);
    return atomic_load(&world->gate.asked) - asked;
}

static void test_announced(void **state)
{
    (void)state;
    struct world world;
    world_make(&world, "{\"hedge_share\": 0}");
    atomic_store(&world.gate.open, true);
    expect_soon(&world, "a", 2000, 1000);
    expect_soon(&world, "a", 2000, 1000);
    expect_soon(&world, "a", 4500, 1000); /* sticks out of what comes */
    expect_soon(&world, "b", 2000, 1000);
    assert_int_equal(questions_of(&world, "a", 1000, 4000), 1);
    assert_int_equal(questions_of(&world, "a", 2000, 999), 1); /* nobody announced that one */
    assert_int_equal(questions_of(&world, "a", 2000, 1000), 0);
    assert_int_equal(questions_of(&world, "a", 2000, 1000), 0);
    assert_int_equal(questions_of(&world, "a", 2000, 1000), 1); /* announced twice */
    assert_int_equal(questions_of(&world, "a", 4500, 1000), 1);
    assert_true(was_asked(&world, 5000, 500));
    assert_int_equal(questions_of(&world, "b", 2000, 1000), 1); /* the announced one itself: nothing came before */
    assert_int_equal(questions_of(&world, "b", 2000, 1000), 1);
    struct damacy_remote_stats stats = stats_of(&world);
    assert_int_equal(stats.shared_requests, 2);
    assert_int_equal(stats.shared_bytes, 2000 + 500);
    /* The object is another one now: what came before belongs to the version that everything else was read from. */
    expect_soon(&world, "a", 100, 50);
    assert_int_equal(questions_of(&world, "a", 0, 1000), 1);
    world.gate.headers = "ETag: \"v2\"\r\n";
    assert_int_equal(questions_of(&world, "a", 100, 50), 0);
    start(&world, &reads[0], "a", 100, 50);
    finish_all(&world);
    assert_int_equal(reads[0].one.request.outcome, DMC_OUTCOME_FAILED);
    /* Nothing tells whether it is the same object: nothing is kept. */
    world.gate.headers = "";
    expect_soon(&world, "c", 100, 50);
    assert_int_equal(questions_of(&world, "c", 0, 1000), 1);
    assert_int_equal(questions_of(&world, "c", 100, 50), 1);
    world_end(&world);
}

/* Of what was announced only an end comes for another one, or both do: the request asks for the rest, if there is any. */
static void test_announced_ends(void **state)
{
    (void)state;
    struct world world;
    world_make(&world, "{\"hedge_share\": 0}");
    atomic_store(&world.gate.open, true);
    expect_soon(&world, "a", 500, 1000);
    expect_soon(&world, "a", 900, 5000);
    expect_soon(&world, "a", 1500, 4000);
    expect_soon(&world, "a", 1600, 3000);
    assert_int_equal(questions_of(&world, "a", 1000, 2000), 1);
    assert_int_equal(questions_of(&world, "a", 500, 1000), 1);
    assert_true(was_asked(&world, 500, 500));
    assert_int_equal(questions_of(&world, "a", 5000, 1000), 1); /* also those that it does not touch stay as they are */
    assert_int_equal(questions_of(&world, "a", 0, 1000), 1);
    assert_int_equal(questions_of(&world, "a", 900, 5000), 1);
    assert_true(was_asked(&world, 1500, 3500));
    assert_int_equal(questions_of(&world, "a", 1500, 4000), 0); /* that brought the whole of it */
    assert_int_equal(questions_of(&world, "a", 1600, 3000), 0);
    expect_soon(&world, "b", 1500, 4000);
    assert_int_equal(questions_of(&world, "b", 1000, 2000), 1);
    assert_int_equal(questions_of(&world, "b", 2900, 3000), 1);
    assert_int_equal(questions_of(&world, "b", 1500, 4000), 0); /* each brought more than half */
    /* An end of another version than the present one is not used. */
    expect_soon(&world, "c", 100, 1000);
    assert_int_equal(questions_of(&world, "c", 0, 500), 1);
    world.gate.headers = "ETag: \"v2\"\r\n";
    start(&world, &reads[0], "c", 100, 1000);
    finish_all(&world);
    assert_int_equal(reads[0].one.request.outcome, DMC_OUTCOME_FAILED);
    assert_non_null(strstr(reads[0].one.error.message, "changed while it was in use"));
    world_end(&world);
}

/* More is announced, and comes, than there is room for: the oldest goes, and is asked for. */
static void test_announced_too_much(void **state)
{
    (void)state;
    enum { MEMORY = 16 << 20, KEPT = MEMORY / 16, RANGES = 90, STEP = 3000, BYTES = 20000 };
    static unsigned char large[OBJECT_BYTES];
    struct world world;
    world_make_in(&world, "{\"hedge_share\": 0}", MEMORY);
    atomic_store(&world.gate.open, true);
    for (uint32_t round = 0; round < 3; round++) { /* the second and the third one begin somewhere in the memory */
        for (uint32_t i = 0; i < RANGES; i++)
            expect_soon(&world, "a", i * STEP, BYTES - i % 7);
        read_span(&reads[0].one, world.io, world.store, "a", 0, large, OBJECT_BYTES);
        uint32_t asked = 0;
        for (uint32_t i = 0; i < RANGES; i++)
            asked += questions_of(&world, "a", i * STEP, BYTES - i % 7);
        assert_in_range(RANGES - asked, KEPT / BYTES - 2, KEPT / (BYTES - 7));
    }
    /* Announcements are bounded, too. */
    for (uint32_t i = 0; i < 20000; i++)
        expect_soon(&world, "a", i, 10);
    read_span(&reads[0].one, world.io, world.store, "a", 0, large, OBJECT_BYTES);
    assert_int_equal(questions_of(&world, "a", 12000, 10), 0); /* of the last 8192 those that were announced first */
    assert_int_equal(questions_of(&world, "a", 0, 10), 1);
    world_end(&world);
}

/* Random ranges of few objects, random cancellations: every request comes back once, with its bytes or cancelled. The end comes
 * with everything under way. */
static void test_random(void **state)
{
    (void)state;
    enum { READS = 60, ROUNDS = 30 };
    static struct shared_read many[READS];
    struct world world;
    uint64_t seed = test_seed();
    world_make(&world, "{\"concurrency_max\": 3, \"hedge_share\": 0}");
    for (uint32_t round = 0; round < ROUNDS; round++) {
        atomic_store(&world.gate.open, round % 2);
        for (uint32_t i = 0; i < READS; i++) {
            uint64_t random = dmc_hash_u64(seed, round * 1000 + i), later = dmc_hash_u64(seed, round * 1000 + 1000 + i);
            start(&world, &many[i], random & 1 ? "a" : "b", (random >> 1) % 8 * 1000, 500 + (random >> 4) % 8 * 1000);
            if (later % 3 == 0)
                expect_soon(&world, later & 1 ? "a" : "b", (later >> 1) % 8 * 1000, 500 + (later >> 4) % 8 * 1000);
        }
        for (uint32_t i = 0; i < READS; i++)
            if (dmc_hash_u64(seed, ~(uint64_t)i - round * 1000) % 4 == 0)
                dmc_store_cancel(world.io, &many[i].one.request);
        atomic_store(&world.gate.open, true);
        finish_all(&world);
        for (uint32_t i = 0; i < READS; i++) {
            if (many[i].one.request.outcome == DMC_OUTCOME_FAILED)
                assert_int_equal(many[i].one.request.status, DAMACY_SHUTDOWN);
            else
                expect_bytes(&many[i], many[i].one.part.iov_len);
        }
    }
    assert_true(stats_of(&world).shared_requests > 0);
    atomic_store(&world.gate.open, false);
    for (uint32_t i = 0; i < READS; i++)
        start(&world, &many[i], "a", i, 8000 - 2 * i);
    world_end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contained),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_change),
        cmocka_unit_test(test_leader_cancelled),
        cmocka_unit_test(test_follower_cancelled),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_lender_lost),
        cmocka_unit_test(test_lender_too_short),
        cmocka_unit_test(test_borrower_ends),
        cmocka_unit_test(test_announced),
        cmocka_unit_test(test_announced_ends),
        cmocka_unit_test(test_announced_too_much),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
