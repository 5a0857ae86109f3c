/* Goal: what comes along with an index is exactly the object's bytes, serves the reads that follow without a question, and
 * never costs the index anything: whatever the object's length, the server's habits, failures on the way and changes are, the
 * index's own answer is that of a request for it alone. What is kept stays within its room, and the room comes back.
 * Method: a server in this process whose habits the test sets, and which counts questions and the bytes that it sends. */
#include "net_world.h"

#define INDEX_BYTES 100u
#define AHEAD_BYTES 150000u

struct habits { /* atomics: an answer may still be on its way out when the test goes on */
    _Atomic uint64_t object_bytes;
    const char *_Atomic headers;
    _Atomic bool no_ranges;      /* 200 with all of it */
    _Atomic bool no_length;      /* and does not say how much */
    _Atomic bool no_total;       /* Content-Range ends in "*" */
    _Atomic bool short_suffixes; /* 416 for a suffix that is longer than the object */
    const char *_Atomic raw;     /* this whatever is asked, and 1000 bytes of the object's end; NULL: not so */
    _Atomic uint64_t suffix_max; /* no more of an end than this; 0: as much as is asked for */
    _Atomic bool hang;
    _Atomic uint32_t cuts; /* so many answers end after 1000 bytes */
    _Atomic uint32_t asked;
};

static bool answer_whole(int fd, const struct habits *habits)
{
    char head[256];
    static __thread unsigned char all[OBJECT_BYTES];
    uint64_t size = habits->object_bytes;
    bool no_length = habits->no_length;
    int bytes = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\n%s", habits->headers);
    if (no_length)
        snprintf(head + bytes, sizeof head - (size_t)bytes, "Connection: close\r\n\r\n");
    else
        snprintf(head + bytes, sizeof head - (size_t)bytes, "Content-Length: %lu\r\n\r\n", size);
    fill_bytes(all, SEED, 0, size);
    return send_text(fd, head) && send_all(fd, all, size) && !no_length;
}

/* The first `send` bytes of [begin, end) of `size`. */
static bool answer_part(int fd, const struct habits *habits, uint64_t size, uint64_t begin, uint64_t end, uint64_t send)
{
    char head[512], total[32] = "*";
    static __thread unsigned char part[OBJECT_BYTES];
    if (!habits->no_total)
        snprintf(total, sizeof total, "%lu", size);
    snprintf(head, sizeof head,
             "HTTP/1.1 206 Partial Content\r\n%sContent-Length: %lu\r\nContent-Range: bytes %lu-%lu/%s\r\n\r\n",
             habits->headers, end - begin, begin, end - 1, total);
    fill_bytes(part, SEED, begin, send);
    return send_text(fd, head) && send_all(fd, part, send) && send == end - begin;
}

static bool answer(struct server *server, int fd, const struct question *question)
{
    struct habits *habits = server->user;
    atomic_fetch_add(&habits->asked, 1);
    while (atomic_load(&habits->hang) && !atomic_load(&server->stop))
        usleep(500);
    if (strstr(question->target, "absent"))
        return send_text(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    const char *raw = habits->raw;
    if (raw) {
        unsigned char end[1000];
        fill_bytes(end, SEED, OBJECT_BYTES - sizeof end, sizeof end);
        return send_text(fd, raw) && send_all(fd, end, sizeof end) && false;
    }
    if (habits->no_ranges || !question->ranged)
        return answer_whole(fd, habits);
    uint64_t size = habits->object_bytes, suffix_max = habits->suffix_max;
    uint64_t begin = question->suffix ? size - (question->last < size ? question->last : size) : question->begin;
    uint64_t end = question->suffix || question->last >= size ? size : question->last + 1;
    if (question->suffix && suffix_max && end - begin > suffix_max)
        begin = end - suffix_max;
    if (begin >= end || (question->suffix && habits->short_suffixes && question->last > size)) {
        char head[200];
        snprintf(head, sizeof head, "HTTP/1.1 416 No\r\nContent-Range: bytes */%lu\r\nContent-Length: 0\r\n\r\n", size);
        return send_text(fd, head);
    }
    uint64_t send = end - begin;
    uint32_t cuts = atomic_load(&habits->cuts);
    if (cuts > 0 && send > 1000) {
        atomic_store(&habits->cuts, cuts - 1);
        send = 1000;
    }
    return answer_part(fd, habits, size, begin, end, send);
}

static struct habits habits;
static struct world world;

static void begin_with(const char *options)
{
    memset((void *)&habits, 0, sizeof habits);
    habits.object_bytes = OBJECT_BYTES;
    habits.headers = "ETag: \"v1\"\r\n";
    world_make(&world, answer, &habits, options, "");
}

static void begin(void)
{
    begin_with("{\"network_threads\": 1, \"hedge_share\": 0, " QUICK "}");
}

static uint32_t asked_since(uint32_t before)
{
    return atomic_load(&habits.asked) - before;
}

static unsigned char index_data[1 << 20];

/* Read the end of an object (or its beginning, `at_start`) with more. */
static struct dmc_request *read_index(struct one_read *read, const char *key, bool at_start, size_t bytes, uint64_t ahead_bytes)
{
    memset(index_data, 0, sizeof index_data);
    struct dmc_request *request =
        prepare(read, world.store, key, at_start ? DMC_RANGE_SPAN : DMC_RANGE_SUFFIX, 0, index_data, bytes);
    request->metadata = true;
    request->ahead_bytes = ahead_bytes;
    complete(world.io, request);
    return request;
}

static void expect_index(const char *key, bool at_start, uint64_t ahead_bytes)
{
    struct one_read read;
    struct dmc_request *request = read_index(&read, key, at_start, INDEX_BYTES, ahead_bytes);
    if (request->outcome != DMC_OUTCOME_OK)
        fail_msg("outcome %d: %s", request->outcome, read.error.message);
    assert_int_equal(request->bytes_read, INDEX_BYTES);
    if (!habits.no_length && (!habits.no_total || ahead_bytes))
        assert_int_equal(request->object_bytes, habits.object_bytes);
    assert_true(bytes_match(index_data, SEED, at_start ? 0 : habits.object_bytes - INDEX_BYTES, INDEX_BYTES));
    assert_ptr_equal(request->parts, &read.part); /* the caller's are as they were */
    assert_int_equal(read.part.iov_len, INDEX_BYTES);
}

/* How many questions does a read take? */
static uint32_t questions_of(const char *key, uint64_t offset, size_t bytes)
{
    uint32_t before = atomic_load(&habits.asked);
    expect_span(&world, key, offset, bytes);
    return asked_since(before);
}

static uint64_t received(struct damacy_remote_stats *stats)
{
    static struct damacy_server_stats server;
    *stats = (struct damacy_remote_stats)DAMACY_REMOTE_STATS_INIT;
    stats->servers = &server;
    stats->server_capacity = 1;
    dmc_net_stats(world.net, stats);
    return server.bytes_received;
}

/* What lies in front of the end comes with it, and only that. */
static void test_suffix(void **state)
{
    (void)state;
    begin();
    expect_index("a", false, AHEAD_BYTES);
    assert_int_equal(atomic_load(&habits.asked), 1);
    uint64_t kept = OBJECT_BYTES - INDEX_BYTES - AHEAD_BYTES;
    assert_int_equal(questions_of("a", kept, AHEAD_BYTES), 0);
    assert_int_equal(questions_of("a", kept + 17, 1000), 0);
    assert_int_equal(questions_of("a", OBJECT_BYTES - INDEX_BYTES - 1, 1), 0);
    assert_int_equal(questions_of("a", kept - 1, 2), 1);
    assert_int_equal(questions_of("a", OBJECT_BYTES - INDEX_BYTES - 1, 2), 1); /* the index itself is its caller's */
    assert_int_equal(questions_of("b", kept, 1000), 1);
    struct damacy_remote_stats stats;
    assert_int_equal(received(&stats), INDEX_BYTES + AHEAD_BYTES + 2 + 2 + 1000);
    assert_int_equal(stats.shared_requests, 3);
    assert_int_equal(stats.shared_bytes, AHEAD_BYTES + 1000 + 1);
    world_end(&world);
}

static void test_prefix(void **state)
{
    (void)state;
    begin();
    expect_index("a", true, AHEAD_BYTES);
    assert_int_equal(questions_of("a", INDEX_BYTES, AHEAD_BYTES), 0);
    assert_int_equal(questions_of("a", INDEX_BYTES, AHEAD_BYTES + 1), 1);
    assert_int_equal(questions_of("a", INDEX_BYTES - 1, 2), 1);
    habits.object_bytes = 1000;
    expect_index("short", true, AHEAD_BYTES);
    assert_int_equal(questions_of("short", INDEX_BYTES, 900), 0);
    world_end(&world);
}

/* Objects of all lengths around those of the index and of what may come along. */
static void test_lengths(void **state)
{
    (void)state;
    begin();
    static const uint64_t lengths[] = {INDEX_BYTES,
                                       INDEX_BYTES + 1,
                                       1000,
                                       INDEX_BYTES + AHEAD_BYTES - 1,
                                       INDEX_BYTES + AHEAD_BYTES,
                                       INDEX_BYTES + AHEAD_BYTES + 1,
                                       OBJECT_BYTES};
    for (uint32_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        for (uint32_t at_start = 0; at_start < 2; at_start++) {
            char key[16];
            snprintf(key, sizeof key, "%u-%u", i, at_start);
            habits.object_bytes = lengths[i];
            uint32_t before = atomic_load(&habits.asked);
            expect_index(key, at_start, AHEAD_BYTES);
            assert_int_equal(asked_since(before), 1);
            uint64_t more = lengths[i] - INDEX_BYTES;
            uint64_t kept = more < AHEAD_BYTES ? more : AHEAD_BYTES;
            if (kept)
                assert_int_equal(questions_of(key, at_start ? INDEX_BYTES : more - kept, kept), 0);
        }
    /* too short for the index: as without */
    for (uint32_t at_start = 0; at_start < 2; at_start++)
        for (uint64_t length = 0; length < INDEX_BYTES; length += INDEX_BYTES - 1) {
            struct one_read plain, longer;
            char key[16];
            snprintf(key, sizeof key, "s%lu-%u", length, at_start);
            habits.object_bytes = length;
            read_index(&plain, key, at_start, INDEX_BYTES, 0);
            read_index(&longer, key, at_start, INDEX_BYTES, AHEAD_BYTES);
            assert_int_equal(plain.request.outcome, DMC_OUTCOME_TRUNCATED);
            assert_int_equal(longer.request.outcome, DMC_OUTCOME_TRUNCATED);
            assert_int_equal(longer.request.bytes_read, plain.request.bytes_read);
            assert_int_equal(longer.request.object_bytes, plain.request.object_bytes);
        }
    struct one_read absent;
    read_index(&absent, "absent", false, INDEX_BYTES, AHEAD_BYTES);
    assert_int_equal(absent.request.outcome, DMC_OUTCOME_ABSENT);
    world_end(&world);
}

/* Servers without ranges, or with ideas of their own about them. */
static void test_servers(void **state)
{
    (void)state;
    for (uint32_t at_start = 0; at_start < 2; at_start++) {
        begin();
        habits.no_ranges = true;
        expect_index("a", at_start, AHEAD_BYTES);
        assert_int_equal(atomic_load(&habits.asked), 1);
        assert_int_equal(questions_of("a", at_start ? INDEX_BYTES : OBJECT_BYTES - INDEX_BYTES - 1000, 1000), 0);
        if (at_start) {
            habits.no_length = true;
            expect_index("b", true, AHEAD_BYTES);
            assert_int_equal(questions_of("b", INDEX_BYTES, 1000), 0);
            habits.object_bytes = 1000;
            expect_index("c", true, AHEAD_BYTES);
            assert_int_equal(questions_of("c", INDEX_BYTES, 900), 0);
        }
        world_end(&world);
        begin();
        habits.no_total = true;
        expect_index("a", at_start, at_start ? 0 : AHEAD_BYTES);
        habits.object_bytes = 1000;
        expect_index("b", at_start, at_start ? 0 : AHEAD_BYTES);
        if (!at_start)
            assert_int_equal(questions_of("b", 0, 900), 0);
        world_end(&world);
    }
    /* A whole object up to what is wanted may be too much, though its index alone is not. */
    begin_with("{\"whole_object_bytes_max\": 1000, \"hedge_share\": 0}");
    habits.no_ranges = true;
    expect_index("a", true, AHEAD_BYTES);
    assert_int_equal(atomic_load(&habits.asked), 2);
    world_end(&world);
}

/* Of an end less comes than was asked for: that is what came along. */
static void test_less(void **state)
{
    (void)state;
    begin();
    static const uint64_t most[] = {INDEX_BYTES, INDEX_BYTES + 1, 5000};
    for (uint32_t i = 0; i < sizeof most / sizeof most[0]; i++) {
        char key[16];
        snprintf(key, sizeof key, "%u", i);
        habits.suffix_max = most[i];
        uint32_t before = atomic_load(&habits.asked);
        expect_index(key, false, AHEAD_BYTES);
        assert_int_equal(asked_since(before), 1);
        if (most[i] > INDEX_BYTES)
            assert_int_equal(questions_of(key, OBJECT_BYTES - most[i], most[i] - INDEX_BYTES), 0);
        assert_int_equal(questions_of(key, OBJECT_BYTES - most[i] - 1, 1), 1);
    }
    assert_true(world.store->ops->ahead(world.store) > 0);
    world_end(&world);
}

/* Answers that make no sense: an error or the index, never more than there was room for, and all room comes back. */
static void test_nonsense(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "206 P\r\nContent-Range: bytes 299007-300006/9223372036854775807",
        "206 P\r\nContent-Range: bytes 9223372036854774807-9223372036854775806/9223372036854775807",
        "206 P\r\nContent-Range: bytes 9223372036854774807-9223372036854775806/*",
        "206 P\r\nContent-Range: bytes 18446744073709550616-18446744073709551615/*",
        "206 P\r\nContent-Range: bytes 299007-300006/-5",
        "206 P\r\nContent-Range: bytes -299007-300006/300007",
        "206 P\r\nContent-Range: bytes 299007-300006/100",
        "206 P\r\nContent-Range: bytes 300006-299007/300007",
        "206 P\r\nContent-Range: bytes 0-999/*",
        "206 P\r\nContent-Range: bytes 0-999/1000",
        "206 P\r\nContent-Range: bytes 0-299999999/300000000",
        "206 P\r\nContent-Range: bytes 299907-300006/300007",
        "206 P\r\nContent-Range: bytes 299908-300006/300007",
        "206 P\r\nContent-Range: bytes 0-0/1",
        "206 P\r\nContent-Range: bytes */300007",
        "206 P\r\nContent-Length: 1000",
        "206 P\r\nContent-Type: multipart/byteranges; boundary=x",
        "206 P\r\nContent-Encoding: gzip\r\nContent-Range: bytes 299007-300006/300007",
        "206 P\r\nTransfer-Encoding: gzip, chunked\r\nContent-Range: bytes 299007-300006/300007",
        "206 P\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 299007-300006/300007",
        "206 P\r\nContent-Length: 1000\r\nContent-Range: bytes 150000-300006/300007",
        "200 OK\r\nContent-Length: 9223372036854775807",
        "200 OK\r\nContent-Length: 18446744073709551615",
        "200 OK\r\nContent-Length: -1",
        "200 OK\r\nContent-Length: 50",
        "200 OK\r\nTransfer-Encoding: gzip",
        "200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1000",
        "200 OK",
        "204 No Content",
        "304 Not Modified",
        "416 No\r\nContent-Range: bytes */9223372036854775807",
        "416 No\r\nContent-Range: bytes */0",
        "416 No",
    };
    begin_with("{\"network_threads\": 1, \"hedge_share\": 0, \"retries_max\": 2, \"whole_object_bytes_max\": 2000000, " QUICK
               "}");
    expect_index("first", false, 0);
    uint64_t before = world.store->ops->ahead(world.store);
    static char raws[sizeof heads / sizeof heads[0]][300]; /* an answer may still be on its way out when the test goes on */
    for (uint32_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        snprintf(raws[i], sizeof raws[i], "HTTP/1.1 %s\r\nConnection: close\r\n\r\n", heads[i]);
    for (uint32_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        for (uint32_t at_start = 0; at_start < 2; at_start++) {
            char key[16];
            struct one_read read;
            snprintf(key, sizeof key, "%u-%u", i, at_start);
            habits.raw = raws[i];
            struct dmc_request *request = read_index(&read, key, at_start, INDEX_BYTES, AHEAD_BYTES);
            if (request->outcome == DMC_OUTCOME_OK)
                assert_int_equal(request->bytes_read, INDEX_BYTES);
            else
                assert_true(request->outcome == DMC_OUTCOME_FAILED || request->outcome == DMC_OUTCOME_TRUNCATED);
            if (strstr(heads[i], "gzip"))
                assert_int_equal(request->outcome, DMC_OUTCOME_FAILED);
            assert_int_equal(index_data[INDEX_BYTES], 0);
            habits.raw = NULL;
        }
    for (uint32_t i = 0; i < 9000; i++) /* what came along with those that went well is forgotten */
        world.store->ops->ahead(world.store);
    habits.object_bytes = OBJECT_BYTES;
    expect_index("last", false, 0);
    assert_true(before > 0 && world.store->ops->ahead(world.store) >= before);
    world_end(&world);
}

/* No suffix may be longer than the object: it is asked for alone, and then no more come along from there. */
static void test_refused(void **state)
{
    (void)state;
    begin();
    habits.short_suffixes = true;
    expect_index("a", false, AHEAD_BYTES); /* it is not longer */
    assert_int_equal(atomic_load(&habits.asked), 1);
    assert_true(world.store->ops->ahead(world.store) > 0);
    habits.object_bytes = 0;
    struct one_read empty;
    read_index(&empty, "empty", false, INDEX_BYTES, AHEAD_BYTES);
    assert_int_equal(empty.request.outcome, DMC_OUTCOME_TRUNCATED);
    assert_true(world.store->ops->ahead(world.store) > 0); /* which is no refusal */
    habits.object_bytes = 1000;
    uint32_t before = atomic_load(&habits.asked);
    expect_index("b", false, AHEAD_BYTES);
    assert_int_equal(asked_since(before), 2);
    assert_int_equal(questions_of("b", 0, 900), 1);
    assert_int_equal(world.store->ops->ahead(world.store), 0);
    world_end(&world);
}

/* Answers that break off are continued, wherever that is. */
static void test_cut(void **state)
{
    (void)state;
    begin();
    for (uint32_t at_start = 0; at_start < 2; at_start++) {
        const char *key = at_start ? "start" : "end";
        uint32_t before = atomic_load(&habits.asked);
        atomic_store(&habits.cuts, 3);
        expect_index(key, at_start, AHEAD_BYTES);
        assert_int_equal(asked_since(before), 4);
        assert_int_equal(questions_of(key, at_start ? INDEX_BYTES : OBJECT_BYTES - INDEX_BYTES - AHEAD_BYTES, AHEAD_BYTES), 0);
    }
    world_end(&world);
}

/* Bytes of a version that has passed are not delivered. */
static void test_change(void **state)
{
    (void)state;
    begin();
    expect_index("a", false, AHEAD_BYTES);
    assert_int_equal(questions_of("a", OBJECT_BYTES - 1000, 10), 0);
    habits.headers = "ETag: \"v2\"\r\n";
    expect_failure(&world, "a", 0, 10, "changed while it was in use");
    assert_int_equal(questions_of("a", OBJECT_BYTES - 1000, 10), 0); /* the version that is known is still v1 */
    struct one_read read;
    read_index(&read, "a", false, INDEX_BYTES, AHEAD_BYTES);
    assert_int_equal(read.request.outcome, DMC_OUTCOME_FAILED);
    assert_non_null(strstr(read.error.message, "changed while it was in use"));
    world_end(&world);
    begin();
    habits.headers = ""; /* no tag at all */
    expect_index("a", false, AHEAD_BYTES);
    assert_int_equal(questions_of("a", OBJECT_BYTES - 1000, 10), 0);
    expect_index("b", false, AHEAD_BYTES);
    expect_index("a", false,
                 0); /* a later index may be of a later version, and chunks of an earlier one are not mixed with it */
    assert_int_equal(questions_of("a", OBJECT_BYTES - 1000, 10), 1);
    assert_int_equal(questions_of("b", OBJECT_BYTES - 1000, 10), 0);
    world_end(&world);
    begin_with("{\"network_threads\": 1, \"hedge_share\": 0, \"check_versions\": false}"); /* nor where tags say nothing */
    expect_index("a", false, AHEAD_BYTES);
    assert_int_equal(questions_of("a", OBJECT_BYTES - 1000, 10), 0);
    habits.headers = "ETag: \"v2\"\r\n";
    expect_index("a", false, 0);
    assert_int_equal(questions_of("a", OBJECT_BYTES - 1000, 10), 1);
    world_end(&world);
}

/* --- room --- */

static void announce(const char *key, uint64_t offset, uint64_t bytes)
{
    world.store->ops->expect(world.store, key, 0, offset, bytes);
}

static uint64_t allowed(void)
{
    return world.store->ops->ahead(world.store);
}

/* What has not been used holds its room, and then the others have their index alone; what was announced and taken lets go. */
static void test_room(void **state)
{
    (void)state;
    enum { BODY_BYTES = 200000, BODIES = (16 << 20) / (BODY_BYTES + 400) };
    begin();
    char key[16];
    struct one_read read;
    for (uint32_t i = 0; i < BODIES + 5; i++) {
        snprintf(key, sizeof key, "%u", i);
        expect_index(key, false, BODY_BYTES);
    }
    uint64_t kept = OBJECT_BYTES - INDEX_BYTES - BODY_BYTES;
    uint32_t served = 0;
    for (uint32_t i = 0; i < BODIES + 5; i++) {
        snprintf(key, sizeof key, "%u", i);
        bool here = questions_of(key, kept, 1000) == 0;
        assert_true(!here || i == served); /* the first ones */
        served += here;
    }
    assert_in_range(served, BODIES - 1, BODIES + 1);
    assert_true(allowed() < BODY_BYTES + 400);
    /* Announced twice, taken twice; only then the room is there for others, and it is that one's which they get. */
    announce("5", kept, 5000);
    announce("5", kept + 5000, 5000);
    announce("6", kept, 5000);
    assert_int_equal(questions_of("5", kept, 5000), 0);
    assert_true(allowed() < BODY_BYTES + 400);
    assert_int_equal(questions_of("5", kept + 5000, 5000), 0);
    assert_true(allowed() >= BODY_BYTES);
    assert_int_equal(questions_of("5", kept, 5000), 0); /* it still serves */
    expect_index("new", false, BODY_BYTES);
    assert_int_equal(questions_of("new", kept, BODY_BYTES), 0);
    assert_int_equal(questions_of("5", kept, 5000), 1); /* gone */
    assert_true(allowed() < BODY_BYTES + 400);
    assert_int_equal(questions_of("0", kept, 5000), 0);
    assert_int_equal(questions_of("7", kept, 5000), 0);
    /* What nobody ever asks for is forgotten in the end. */
    for (uint32_t i = 0; i < 9000; i++)
        allowed();
    assert_true(allowed() >= BODY_BYTES);
    expect_index("newer", false, BODY_BYTES);
    assert_int_equal(questions_of("newer", kept, BODY_BYTES), 0);
    /* More than there is memory for, and more than the option allows. */
    read_index(&read, "big", false, INDEX_BYTES, 64 << 20);
    assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
    assert_int_equal(questions_of("big", kept, 5000), 1);
    world_end(&world);
}

/* What objects do not have takes no room once that is known. */
static void test_room_of_short_objects(void **state)
{
    (void)state;
    begin();
    habits.object_bytes = 1000;
    char key[16];
    for (uint32_t i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "%u", i);
        expect_index(key, false, 300000);
    }
    for (uint32_t i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "%u", i);
        assert_int_equal(questions_of(key, 0, 900), 0);
    }
    world_end(&world);
}

/* Requests that do not end well give their room back. */
static void test_room_comes_back(void **state)
{
    (void)state;
    begin_with("{\"network_threads\": 1, \"hedge_share\": 0, \"retries_max\": 1, " QUICK "}");
    expect_index("first", false, 0);
    uint64_t before = allowed();
    struct one_read reads[40];
    static unsigned char bytes[INDEX_BYTES];
    atomic_store(&habits.hang, true);
    for (uint32_t i = 0; i < 40; i++) {
        prepare(&reads[i], world.store, "a", DMC_RANGE_SUFFIX, 0, bytes, INDEX_BYTES);
        reads[i].request.metadata = true;
        reads[i].request.ahead_bytes = AHEAD_BYTES;
        assert_int_equal(dmc_store_start(world.io, &reads[i].request), DMC_START_PENDING);
    }
    for (uint32_t i = 0; i < 40; i++)
        dmc_store_cancel(world.io, &reads[i].request);
    while (dmc_io_pending(world.io))
        wait_any(world.io);
    atomic_store(&habits.hang, false);
    for (uint32_t i = 0; i < 60; i++) {
        struct one_read read;
        read_index(&read, "absent", false, INDEX_BYTES, AHEAD_BYTES);
        assert_int_equal(read.request.outcome, DMC_OUTCOME_ABSENT);
    }
    habits.object_bytes = 10;
    for (uint32_t i = 0; i < 60; i++) {
        struct one_read read;
        read_index(&read, "short", false, INDEX_BYTES, AHEAD_BYTES);
        assert_int_equal(read.request.outcome, DMC_OUTCOME_TRUNCATED);
    }
    habits.object_bytes = OBJECT_BYTES;
    atomic_store(&habits.cuts, 1000000);
    habits.headers = "";
    for (uint32_t i = 0; i < 60; i++) { /* never whole within its retries: each brings 1000 bytes, then the object changes */
        struct one_read read;
        habits.headers = i % 2 ? "ETag: \"x\"\r\n" : "ETag: \"y\"\r\n";
        read_index(&read, "changing", false, INDEX_BYTES, i == 0 ? 0 : AHEAD_BYTES);
        if (i > 0 && i % 2 == 1)
            assert_int_equal(read.request.outcome, DMC_OUTCOME_FAILED);
    }
    assert_true(allowed() >= before);
    assert_true(before > 0);
    world_end(&world);
}

/* How much may come along: what would be one request, nothing where it was switched off. */
static void test_allowed(void **state)
{
    (void)state;
    begin();
    assert_in_range(allowed(), 1 << 20, 2 << 20);
    world_end(&world);
    begin_with("{\"index_ahead_bytes_max\": 0}");
    expect_index("a", false, AHEAD_BYTES);
    assert_int_equal(allowed(), 0);
    assert_int_equal(questions_of("a", OBJECT_BYTES - 1000, 10), 1);
    world_end(&world);
    begin_with("{\"index_ahead_bytes_max\": 5000}");
    expect_index("a", false, 5000);
    assert_int_equal(allowed(), 5000);
    assert_int_equal(questions_of("a", OBJECT_BYTES - 1000, 10), 0);
    world_end(&world);
}

/* With a cache on disk as well: what came along is written there when it is asked for, and nothing comes along with the index
 * of an object that is there. */
static void test_cache_on_disk(void **state)
{
    (void)state;
    char options[512], folder[256];
    snprintf(options, sizeof options, "{\"hedge_share\": 0, \"cache_dir\": \"%s\"}", in_folder(folder, sizeof folder, "cache"));
    uint64_t kept = OBJECT_BYTES - INDEX_BYTES - AHEAD_BYTES;
    begin_with(options);
    assert_true(allowed() > 0);
    expect_index("a", false, AHEAD_BYTES);
    announce("a", kept, 100000);
    /* On the disk, and the index before it: closing writes what is left to be written, but not for ever. */
    struct damacy_remote_stats stats = {0};
    for (uint64_t deadline_ns = dmc_clock_deadline(PATIENCE_NS); stats.cache_hits == 0; received(&stats)) {
        assert_int_equal(questions_of("a", kept, 100000), 0);
        assert_true(dmc_clock_ns() < deadline_ns);
    }
    assert_int_equal(atomic_load(&habits.asked), 1);
    world_close(&world);
    char uri[64];
    snprintf(uri, sizeof uri, "http://127.0.0.1:%u/", world.server.port);
    world_open(&world, options, uri);
    expect_index("a", false, AHEAD_BYTES);
    assert_int_equal(questions_of("a", kept, 100000), 0);
    assert_int_equal(atomic_load(&habits.asked), 1);
    struct one_read read;
    read_index(&read, "a", false, 2 * INDEX_BYTES, AHEAD_BYTES); /* half of it is there */
    assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
    assert_int_equal(read.request.bytes_read, 2 * INDEX_BYTES);
    assert_int_equal(read.request.ahead_bytes, AHEAD_BYTES);
    assert_true(bytes_match(index_data, SEED, OBJECT_BYTES - 2 * INDEX_BYTES, 2 * INDEX_BYTES));
    assert_int_equal(questions_of("a", OBJECT_BYTES - 5000, 1000), 1);
    world_end(&world);
}

/* Any order of indices, announcements, reads and cancellations: right bytes, and each request comes back once. */
static void test_random(void **state)
{
    (void)state;
    enum { READS = 40, ROUNDS = 25 };
    static struct shared_read {
        struct one_read one;
        uint64_t offset;
        unsigned char bytes[20000];
    } many[READS];
    uint64_t seed = test_seed();
    begin_with("{\"network_threads\": 3, \"concurrency_max\": 5, " QUICK "}");
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < READS; i++) {
            uint64_t random = dmc_hash_u64(seed, round * 1000 + i);
            char *key = (char[]){(char)('a' + random % 5), 0};
            static const char *const keys[] = {"a", "b", "c", "d", "e"};
            struct shared_read *read = &many[i];
            bool index = random >> 8 & 1, suffix = random >> 9 & 1;
            size_t bytes = index ? INDEX_BYTES : 1 + (random >> 10) % 20000;
            read->offset = index ? suffix ? OBJECT_BYTES - bytes : 0 : (random >> 30) % (OBJECT_BYTES - 20000);
            prepare(&read->one, world.store, keys[key[0] - 'a'], index && suffix ? DMC_RANGE_SUFFIX : DMC_RANGE_SPAN,
                    read->offset, read->bytes, bytes);
            read->one.request.metadata = index;
            read->one.request.ahead_bytes = index ? (random >> 20) % 400000 : 0;
            if (!index)
                announce(read->one.request.key, read->offset, bytes);
            dmc_store_start(world.io, &read->one.request);
            if (random >> 50 & 1)
                atomic_store(&habits.cuts, 1);
        }
        for (uint32_t i = 0; i < READS; i++)
            if (dmc_hash_u64(seed, ~(uint64_t)i - round * 1000) % 6 == 0)
                dmc_store_cancel(world.io, &many[i].one.request);
        while (dmc_io_pending(world.io))
            wait_any(world.io);
        for (uint32_t i = 0; i < READS; i++) {
            struct shared_read *read = &many[i];
            if (read->one.request.outcome == DMC_OUTCOME_FAILED) {
                assert_int_equal(read->one.request.status, DAMACY_SHUTDOWN);
                continue;
            }
            assert_int_equal(read->one.request.outcome, DMC_OUTCOME_OK);
            assert_int_equal(read->one.request.bytes_read, read->one.part.iov_len);
            assert_true(bytes_match(read->bytes, SEED, read->offset, read->one.part.iov_len));
        }
    }
    struct damacy_remote_stats stats;
    received(&stats);
    assert_true(stats.shared_requests > 0);
    world_end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suffix),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_less),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_servers),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_change),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_room_of_short_objects),
        cmocka_unit_test(test_room_comes_back),
        cmocka_unit_test(test_allowed),
        cmocka_unit_test(test_cache_on_disk),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, folder_setup, folder_teardown);
}
