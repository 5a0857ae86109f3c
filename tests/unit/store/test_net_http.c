/* Goal: the http store gives exactly the bytes asked for, or says why not, whatever the server does.
 * Method: a server in this process whose every answer is scripted: well-behaved, without ranges, lying, slow, cut, throttling,
 * redirecting, changing. */
#include "net_world.h"

#include <malloc.h>

/* What a well-behaved server, and one without ranges, must both give. */
static void check_ranges(struct world *world)
{
    struct one_read read;
    expect_span(world, "a/b", 0, 1);
    expect_span(world, "a/b", 0, OBJECT_BYTES);
    expect_span(world, "a/b", 12345, 100000);
    expect_span(world, "a/b", OBJECT_BYTES - 1, 1);
    expect_span(world, "a/b", 5, 0);
    struct dmc_request *request = read_one(world, &read, "a/b", DMC_RANGE_SPAN, OBJECT_BYTES - 10, 50);
    assert_int_equal(request->outcome, DMC_OUTCOME_TRUNCATED);
    assert_int_equal(request->bytes_read, 10);
    assert_int_equal(request->object_bytes, OBJECT_BYTES);
    assert_true(bytes_match(data, SEED, OBJECT_BYTES - 10, 10));
    request = read_one(world, &read, "a/b", DMC_RANGE_SPAN, OBJECT_BYTES + 10, 50);
    assert_int_equal(request->outcome, DMC_OUTCOME_TRUNCATED);
    assert_int_equal(request->bytes_read, 0);
    assert_int_equal(request->object_bytes, OBJECT_BYTES);
    request = read_one(world, &read, "a/b", DMC_RANGE_SPAN, UINT64_MAX - 100, 50);
    assert_int_equal(request->outcome, DMC_OUTCOME_TRUNCATED);

    request = read_one(world, &read, "a/b", DMC_RANGE_SUFFIX, 0, 4444);
    assert_int_equal(request->outcome, DMC_OUTCOME_OK);
    assert_int_equal(request->object_bytes, OBJECT_BYTES);
    assert_true(bytes_match(data, SEED, OBJECT_BYTES - 4444, 4444));
    request = read_one(world, &read, "a/b", DMC_RANGE_SUFFIX, 0, OBJECT_BYTES + 1);
    assert_int_equal(request->outcome, DMC_OUTCOME_TRUNCATED);
    assert_int_equal(request->bytes_read, 0);
    assert_int_equal(request->object_bytes, OBJECT_BYTES);
    request = read_one(world, &read, "empty", DMC_RANGE_SUFFIX, 0, 10);
    assert_int_equal(request->outcome, DMC_OUTCOME_TRUNCATED);

    request = read_one(world, &read, "a/b", DMC_RANGE_WHOLE, 0, OBJECT_BYTES);
    assert_int_equal(request->outcome, DMC_OUTCOME_OK);
    assert_int_equal(request->bytes_read, OBJECT_BYTES);
    assert_true(bytes_match(data, SEED, 0, OBJECT_BYTES));
    assert_true(request->version_tag != 0);
    request = read_one(world, &read, "a/b", DMC_RANGE_WHOLE, 0, OBJECT_BYTES - 1);
    assert_int_equal(request->outcome, DMC_OUTCOME_TOO_LONG);
    assert_int_equal(request->object_bytes, OBJECT_BYTES);
    request = read_one(world, &read, "empty", DMC_RANGE_WHOLE, 0, 10);
    assert_int_equal(request->outcome, DMC_OUTCOME_OK);
    assert_int_equal(request->bytes_read, 0);

    for (int kind = DMC_RANGE_WHOLE; kind <= DMC_RANGE_SUFFIX; kind++) {
        request = read_one(world, &read, "absent", (enum dmc_range_kind)kind, 0, 10);
        assert_int_equal(request->outcome, DMC_OUTCOME_ABSENT);
    }
}

static void test_ranges(void **state)
{
    (void)state;
    struct world world;
    world_make(&world, well, NULL, "{\"hedge_share\": 0}", "some/where");
    assert_string_equal(world.prefix, "some/where");
    check_ranges(&world);
    assert_true(atomic_load(&world.server.connections) <= 4); /* they are kept, but where a body was not wanted */
    world_end(&world);
}

/* 200 and the whole object, whatever was asked; with a length, or in pieces without one. */
static bool no_ranges(struct server *server, int fd, const struct question *question)
{
    struct question plain = *question;
    plain.ranged = false;
    return well(server, fd, &plain);
}

static void test_server_without_ranges(void **state)
{
    (void)state;
    struct world world;
    world_make(&world, no_ranges, NULL, "{\"whole_object_bytes_max\": 300007}", "");
    check_ranges(&world);
    world_end(&world);
    world_make(&world, no_ranges, NULL, "{\"whole_object_bytes_max\": 300006}", "");
    expect_span(&world, "a", 1000, 2000);
    expect_failure(&world, "a", OBJECT_BYTES - 10, 10, "ignores byte ranges");
    assert_int_equal(atomic_load(&world.server.questions), 2); /* it is not asked again */
    world_end(&world);
}

static bool chunked(struct server *server, int fd, const struct question *question)
{
    (void)server;
    (void)question;
    char line[32];
    unsigned char block[1000];
    if (!send_text(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
        return false;
    for (uint64_t begin = 0; begin < 10500; begin += sizeof block) {
        uint64_t count = 10500 - begin < sizeof block ? 10500 - begin : sizeof block;
        fill_bytes(block, SEED, begin, count);
        snprintf(line, sizeof line, "%lx\r\n", count);
        if (!send_text(fd, line) || !send_all(fd, block, count) || !send_text(fd, "\r\n"))
            return false;
    }
    return send_text(fd, "0\r\n\r\n");
}

static void test_unknown_length(void **state)
{
    (void)state;
    struct world world;
    struct one_read read;
    world_make(&world, chunked, NULL, "{" QUICK "}", "");
    expect_span(&world, "a", 3000, 4000);
    struct dmc_request *request = read_one(&world, &read, "a", DMC_RANGE_SPAN, 10000, 4000);
    assert_int_equal(request->outcome, DMC_OUTCOME_TRUNCATED);
    assert_int_equal(request->bytes_read, 500);
    assert_true(bytes_match(data, SEED, 10000, 500));
    request = read_one(&world, &read, "a", DMC_RANGE_WHOLE, 0, 20000);
    assert_int_equal(request->outcome, DMC_OUTCOME_OK);
    assert_int_equal(request->bytes_read, 10500);
    request = read_one(&world, &read, "a", DMC_RANGE_WHOLE, 0, 10499);
    assert_int_equal(request->outcome, DMC_OUTCOME_TOO_LONG);
    assert_int_equal(request->object_bytes, 10500);
    request = read_one(&world, &read, "a", DMC_RANGE_SUFFIX, 0, 100);
    assert_int_equal(request->outcome, DMC_OUTCOME_FAILED);
    world_end(&world);
}

/* --- the deadline of a batch --- */

static bool silent(struct server *server, int fd, const struct question *question)
{
    _Atomic uint32_t *quick = server->user;
    if (strstr(question->target, "quick")) {
        atomic_fetch_add(quick, 1);
        return answer_well(fd, question, SEED, OBJECT_BYTES, "ETag: \"v1\"\r\n");
    }
    server_dawdle(server, 60000);
    return false;
}

/* A read of a batch ends with the batch's time, however long it has had itself; one that comes too late is not even asked. */
static void test_batch_deadline(void **state)
{
    (void)state;
    struct world world;
    struct one_read read;
    _Atomic uint32_t quick = 0;
    world_make(&world, silent, &quick, "{\"batch_timeout\": 60, \"stall_timeout\": 300, \"hedge_share\": 0}", "");
    struct dmc_request *request = prepare(&read, world.store, "quick", DMC_RANGE_SPAN, 0, data, 1000);
    request->begin_ns = dmc_clock_ns();
    complete(world.io, request);
    assert_int_equal(request->outcome, DMC_OUTCOME_OK);
    request = prepare(&read, world.store, "slow", DMC_RANGE_SPAN, 0, data, 1000);
    uint64_t begin_ns = request->begin_ns = dmc_clock_ns() - 60ull * SECOND_NS + SECOND_NS * 3 / 10; /* nearly over */
    complete(world.io, request);
    assert_int_equal(request->outcome, DMC_OUTCOME_FAILED);
    assert_int_equal(request->status, DAMACY_IO);
    assert_non_null(strstr(read.error.message, "batch_timeout (60 s)"));
    assert_true(dmc_clock_ns() - begin_ns >= 60ull * SECOND_NS);
    request = prepare(&read, world.store, "quick", DMC_RANGE_SPAN, 0, data, 1000);
    request->begin_ns = begin_ns; /* of the same batch */
    complete(world.io, request);
    assert_int_equal(request->outcome, DMC_OUTCOME_FAILED);
    assert_non_null(strstr(read.error.message, "batch_timeout"));
    expect_span(&world, "quick", 0, 1000); /* of no batch */
    assert_int_equal(atomic_load(&quick), 2);
    world_end(&world);
}

/* --- little memory --- */

struct crowd {
    _Atomic uint32_t now, most;
};

static bool counted(struct server *server, int fd, const struct question *question)
{
    struct crowd *crowd = server->user;
    uint32_t now = atomic_fetch_add(&crowd->now, 1) + 1, most = atomic_load(&crowd->most);
    while (now > most && !atomic_compare_exchange_weak(&crowd->most, &most, now)) {
    }
    while (atomic_load(&crowd->most) < 2 && !atomic_load(&server->stop)) /* until another one is there, too */
        usleep(500);
    server_dawdle(server, 2);
    /* Before the answer: whoever has read it may ask again before this thread goes on. */
    atomic_fetch_sub(&crowd->now, 1);
    return server->stop ? false : answer_well(fd, question, SEED, OBJECT_BYTES, "ETag: \"v1\"\r\n");
}

/* Two servers, and memory for a few transfers with both together: no more run at once, and both get their turn. */
static void test_little_memory(void **state)
{
    (void)state;
    enum { READS = 60, BYTES = 100, ALLOWED = 8 };
    static unsigned char bytes[2][READS][BYTES];
    static struct one_read reads[2][READS];
    struct crowd crowd = {0};
    struct server servers[2];
    struct dmc_net *net;
    struct dmc_store *stores[2];
    char uri[64], prefix[DAMACY_URI_BYTES_MAX + 1];
    /* 64 KiB of it are for versions, the rest is eight times 192 KiB. */
    assert_int_equal(
        dmc_net_create("{\"hedge_share\": 0, \"stall_timeout\": 300}", 64 * 1024 + ALLOWED * 192 * 1024, &net, NULL),
        DAMACY_OK);
    for (int s = 0; s < 2; s++) {
        server_start(&servers[s], counted, &crowd);
        snprintf(uri, sizeof uri, "http://127.0.0.1:%u/x", servers[s].port);
        assert_int_equal(dmc_net_resolve(net, uri, &stores[s], prefix, sizeof prefix, NULL), DAMACY_OK);
    }
    struct dmc_io *io = io_make(2 * READS, true);
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < READS; i++) {
            struct dmc_request *request =
                prepare(&reads[s][i], stores[s], "x", DMC_RANGE_SPAN, (uint64_t)i * 1000, bytes[s][i], BYTES);
            request->metadata = i % 3 == 0;
            assert_int_equal(dmc_store_start(io, request), DMC_START_PENDING);
        }
    for (int i = 0; i < 2 * READS; i++)
        wait_any(io);
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < READS; i++) {
            assert_int_equal(reads[s][i].request.outcome, DMC_OUTCOME_OK);
            assert_true(bytes_match(bytes[s][i], SEED, (uint64_t)i * 1000, BYTES));
        }
    assert_in_range(atomic_load(&crowd.most), 2, ALLOWED);
    io_end(io);
    dmc_net_destroy(net);
    server_end(&servers[0]);
    server_end(&servers[1]);
}

/* Servers take memory, too: so many as have room in half of it, and the transfers have the other half. What a failed resolve
 * took is given back. */
static void test_many_servers(void **state)
{
    (void)state;
    enum { READS = 40, BYTES = 100, ALLOWED = 16 };
    static unsigned char bytes[READS][BYTES];
    static struct one_read reads[READS];
    struct crowd crowd = {0};
    struct world world;
    struct dmc_store *store = NULL;
    struct damacy_error error = {0};
    char uri[64], prefix[DAMACY_URI_BYTES_MAX + 1];
    const uint64_t memory_bytes = 64 * 1024 + ALLOWED * 192 * 1024;
    memset(&world, 0, sizeof world);
    server_start(&world.server, counted, &crowd);
    assert_int_equal(dmc_net_create("{\"hedge_share\": 0, \"stall_timeout\": 300}", memory_bytes, &world.net, NULL), DAMACY_OK);
    snprintf(uri, sizeof uri, "http://127.0.0.1:%u/", world.server.port);
    assert_int_equal(dmc_net_resolve(world.net, uri, &world.store, world.prefix, sizeof world.prefix, NULL), DAMACY_OK);
    uint32_t servers = 1;
    size_t heap_bytes = mallinfo2().uordblks; /* 0 with a sanitizer's allocator, all the time */
    enum damacy_status status = DAMACY_OK;
    while (status == DAMACY_OK) {
        dmc_mem_fail_at(servers % 7 + 1); /* a store takes fewer */
        do {
            snprintf(uri, sizeof uri, "http://server-%u.example/", servers);
            status = dmc_net_resolve(world.net, uri, &store, prefix, sizeof prefix, &error);
        } while (status == DAMACY_OOM);
        dmc_mem_fail_at(0);
        servers += status == DAMACY_OK;
    }
    assert_int_equal(status, DAMACY_BUDGET);
    assert_non_null(strstr(error.message, "no room for another server"));
    assert_non_null(strstr(error.hint, "max_host_memory_bytes"));
    assert_true(mallinfo2().uordblks - heap_bytes <= memory_bytes / 2);
    assert_in_range(servers, 300, 600);
    snprintf(uri, sizeof uri, "http://server-%u.example/again", servers / 2); /* a known one takes nothing */
    assert_int_equal(dmc_net_resolve(world.net, uri, &store, prefix, sizeof prefix, &error), DAMACY_OK);
    world.io = io_make(READS, true);
    for (int i = 0; i < READS; i++) {
        prepare(&reads[i], world.store, "x", DMC_RANGE_SPAN, (uint64_t)i * 1000, bytes[i], BYTES)->metadata = true;
        assert_int_equal(dmc_store_start(world.io, &reads[i].request), DMC_START_PENDING);
    }
    for (int i = 0; i < READS; i++)
        assert_int_equal(wait_any(world.io)->outcome, DMC_OUTCOME_OK);
    assert_true(atomic_load(&crowd.most) <= ALLOWED / 2);
    world_end(&world);
}

/* --- what the url says --- */

static bool echo(struct server *server, int fd, const struct question *question)
{
    char answer[20000], value[200] = "";
    (void)server;
    question_header(question, "Authorization", value, sizeof value);
    char body[10000];
    snprintf(body, sizeof body, "%s|%s", question->target, value);
    snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
    return send_text(fd, answer);
}

static void test_urls(void **state)
{
    (void)state;
    struct world world;
    struct one_read read;
    world_make(&world, echo, NULL, "{\"headers\": {\"X-Mine\": \"1\"}}", "with%20blank/and+plus?sig=a%2Fb&x=1#frag");
    assert_string_equal(world.prefix, "with%20blank/and+plus");
    struct dmc_request *request = read_one(&world, &read, "with%20blank/and+plus/c/\xc3\xa4 #?.z", DMC_RANGE_WHOLE, 0, 1000);
    assert_int_equal(request->outcome, DMC_OUTCOME_OK);
    data[request->bytes_read] = 0;
    assert_string_equal((char *)data, "/with%20blank/and+plus/c/%C3%A4%20%23%3F.z?sig=a%2Fb&x=1|");
    char uri[200];
    snprintf(uri, sizeof uri, "http://me:pa%%3Ass@127.0.0.1:%u/x/", world.server.port);
    assert_int_equal(dmc_net_resolve(world.net, uri, &world.store, world.prefix, sizeof world.prefix, NULL), DAMACY_OK);
    request = read_one(&world, &read, "x/y", DMC_RANGE_WHOLE, 0, 1000);
    data[request->bytes_read] = 0;
    assert_string_equal((char *)data, "/x/y|Basic bWU6cGE6c3M=");
    world_end(&world);
}

/* --- what goes wrong, and is put right --- */

struct script {
    _Atomic uint32_t count; /* of questions that were answered badly */
    uint32_t bad;           /* so many are */
    int what;
    uint16_t other_port;
};

enum {
    CUT,         /* the body ends early */
    CLOSED,      /* no answer at all */
    BUSY,        /* 503 */
    BUSY_LATER,  /* 503 with Retry-After */
    WRONG_RANGE, /* another range than asked for */
    NO_RANGE,    /* 206 without Content-Range */
    TOO_MUCH,    /* a longer range */
    HANG,        /* never answers */
    DRIP,        /* a few bytes, then nothing */
    TIMEOUT_408,
    STRAY,         /* bytes that are no answer */
    STRAY_BINARY,  /* the same, as TLS says that it does not understand */
    OTHER_VERSION, /* an answer in a version that does not exist */
    LONG_HEADERS,  /* lines of headers without end */
    LONG_LINE,     /* one line of headers without end */
    BAD_KINDS,
    BUSY_LONG = BAD_KINDS /* 503 with a Retry-After beyond any patience */
};

static bool answer_badly(struct server *server, int fd, const struct question *question, int what)
{
    char head[512];
    uint64_t count = question->last - question->begin + 1;
    switch (what) {
    case CUT:
    case DRIP: {
        unsigned char some[3000];
        snprintf(head, sizeof head,
                 "HTTP/1.1 206 P\r\nContent-Length: %lu\r\nContent-Range: bytes %lu-%lu/%u\r\nETag: \"v1\"\r\n\r\n", count,
                 question->begin, question->last, OBJECT_BYTES);
        fill_bytes(some, SEED, question->begin, sizeof some);
        send_text(fd, head);
        send_all(fd, some, count < 3000 ? count / 2 : 3000);
        if (what == DRIP)
            server_dawdle(server, 60000);
        return false;
    }
    case CLOSED:
        return false;
    case BUSY:
        return send_text(fd, "HTTP/1.1 503 Slow Down\r\nContent-Length: 3\r\n\r\nno\n");
    case BUSY_LATER:
        return send_text(fd, "HTTP/1.1 503 Slow Down\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
    case BUSY_LONG:
        return send_text(fd, "HTTP/1.1 503 Slow Down\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n");
    case TIMEOUT_408:
        return send_text(fd, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n");
    case STRAY:
        return send_text(fd, "+++ gone? key=hidden\r\n");
    case STRAY_BINARY:
        return send_all(fd, "\x15\x03\x03\0\x02\x02\x28", 7);
    case OTHER_VERSION:
        return send_text(fd, "HTTP/7.0 200 OK\r\nContent-Length: 1\r\n\r\nx");
    case LONG_HEADERS:
    case LONG_LINE:
        memset(head, 'x', sizeof head);
        memcpy(head, "\r\nX-Filler: ", 12);
        bool more = send_text(fd, "HTTP/1.1 200 OK\r\nX-Filler: ");
        for (uint32_t i = 0; more && i < (8u << 20) / sizeof head; i++)
            more = what == LONG_HEADERS ? send_all(fd, head, sizeof head) : send_all(fd, head + 12, sizeof head - 12);
        return false;
    case WRONG_RANGE:
        snprintf(head, sizeof head, "HTTP/1.1 206 P\r\nContent-Length: 1\r\nContent-Range: bytes %lu-%lu/%u\r\n\r\nx",
                 question->begin + 1, question->begin + 1, OBJECT_BYTES);
        return send_text(fd, head);
    case NO_RANGE:
        return send_text(fd, "HTTP/1.1 206 P\r\nContent-Length: 1\r\n\r\nx");
    case TOO_MUCH:
        snprintf(head, sizeof head, "HTTP/1.1 206 P\r\nContent-Length: %lu\r\nContent-Range: bytes %lu-%lu/%u\r\n\r\n",
                 count + 5, question->begin, question->last + 5, OBJECT_BYTES);
        return send_text(fd, head) && false;
    case HANG:
        server_dawdle(server, 60000);
        return false;
    }
    return false;
}

static bool scripted(struct server *server, int fd, const struct question *question)
{
    struct script *script = server->user;
    if (atomic_fetch_add(&script->count, 1) < script->bad)
        return answer_badly(server, fd, question, script->what);
    return well(server, fd, question);
}

static void test_transient(void **state)
{
    (void)state;
    for (int what = 0; what < BAD_KINDS; what++) {
        struct script script = {.bad = what == BUSY_LATER ? 1 : 2, .what = what};
        bool stalls = what == HANG || what == DRIP;
        struct world world;
        world_make(&world, well, NULL,
                   stalls ? "{" QUICK ", \"stall_timeout\": 0.5, \"stall_bytes_per_s\": 100000, \"retries_max\": 100, "
                            "\"hedge_share\": 0}"
                          : "{" QUICK ", \"stall_timeout\": 300, \"hedge_share\": 0}",
                   "");
        expect_span(&world, "other", 0, 10); /* it is known to be there */
        world.server.user = &script;
        world.server.answer = scripted;
        uint64_t begin_ns = dmc_clock_ns();
        expect_span(&world, "a", 20000, 10000);
        uint64_t took_ns = dmc_clock_ns() - begin_ns;
        uint32_t count = atomic_load(&script.count);
        assert_true(stalls ? count > script.bad : count == script.bad + 1); /* a good answer may come so late that it stalls */
        if (what == BUSY_LATER)                                             /* the least, so no flaky bound */
            assert_true(took_ns >= SECOND_NS);
        world_end(&world);
    }
}

/* A retry asks only for what is missing, and only of the same object. */
static bool resumed(struct server *server, int fd, const struct question *question)
{
    uint64_t *begins = server->user;
    char match[100] = "";
    begins[question->number] = question->begin;
    question_header(question, "If-Match", match, sizeof match);
    if (question->number > 0)
        assert_string_equal(match, "\"v1\"");
    if (question->number < 3)
        return answer_badly(server, fd, question, CUT);
    return well(server, fd, question);
}

static void test_resume(void **state)
{
    (void)state;
    uint64_t begins[10] = {0};
    struct world world;
    world_make(&world, resumed, begins, "{" QUICK "}", "");
    expect_span(&world, "a", 1000, 50000);
    assert_int_equal(begins[0], 1000);
    assert_int_equal(begins[1], 4000);
    assert_int_equal(begins[2], 7000);
    assert_int_equal(begins[3], 10000);
    assert_int_equal(atomic_load(&world.server.questions), 4);
    world_end(&world);
}

static void test_gives_up(void **state)
{
    (void)state;
    struct script script = {.bad = 1000, .what = BUSY};
    struct world world;
    world_make(&world, scripted, &script, "{" QUICK ", \"retries_max\": 3}", "");
    expect_failure(&world, "a", 0, 10, "503");
    assert_int_equal(atomic_load(&script.count), 4);
    script.what = HANG;
    world_end(&world);
    world_make(&world, scripted, &script, "{" QUICK ", \"request_timeout\": 0.3}", "");
    expect_failure(&world, "a", 0, 10, "request_timeout");
    world_end(&world);
    struct script later = {.bad = 1000, .what = BUSY_LONG};
    world_make(&world, scripted, &later, "{" QUICK ", \"request_timeout\": 600}", "");
    expect_failure(&world, "a", 0, 10, "left alone");
    world_end(&world);
}

/* What is no HTTP at all, again and again: the error shows what it is, and no more of it. */
static void test_no_http(void **state)
{
    (void)state;
    static const struct {
        int what;
        const char *says;
    } kinds[] = {{STRAY, "\"+++\" instead of \"HTTP/\""},
                 {STRAY_BINARY, "\"\\x15\\x03\\x03\\x00\\x02\\x02(\" instead"},
                 {OTHER_VERSION, "no answer in HTTP/1 or HTTP/2"}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct script script = {.bad = 1000, .what = kinds[i].what};
        struct world world;
        struct one_read read;
        world_make(&world, scripted, &script, "{" QUICK "}", "");
        expect_failure(&world, "a", 0, 10, kinds[i].says);
        assert_int_equal(atomic_load(&script.count), 4); /* as of any server that never answered */
        assert_int_equal(read_one(&world, &read, "a", DMC_RANGE_SPAN, 0, 10)->outcome, DMC_OUTCOME_FAILED);
        assert_non_null(strstr(read.error.message, "(4 attempts"));
        assert_non_null(strstr(read.error.hint, "http or https"));
        assert_null(strstr(read.error.message, "hidden"));
        world_end(&world);
    }
}

/* Headers without end, whether in lines or not, are the server's fault, and no matter of memory. */
static void test_long_headers(void **state)
{
    (void)state;
    static const struct {
        int what;
        const char *says;
    } kinds[] = {{LONG_HEADERS, "the answer's headers are longer than 256 KiB"},
                 {LONG_LINE, "the answer's headers have a line of more than 100 KiB"}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct script script = {.bad = 1000, .what = kinds[i].what};
        struct world world;
        struct one_read read;
        world_make(&world, scripted, &script, "{" QUICK ", \"hedge_share\": 0}", "");
        assert_int_equal(read_one(&world, &read, "a", DMC_RANGE_SPAN, 0, 10)->outcome, DMC_OUTCOME_FAILED);
        assert_int_equal(read.error.status, DAMACY_IO);
        assert_non_null(strstr(read.error.message, kinds[i].says));
        assert_int_equal(atomic_load(&script.count), 4); /* as of any server that never answered */
        world_end(&world);
    }
}

/* A proxy that does not lead to the server: asked again where that may pass. */
static bool refusing_proxy(struct server *server, int fd, const struct question *question)
{
    char answer[100];
    assert_string_equal(question->method, "CONNECT");
    snprintf(answer, sizeof answer, "HTTP/1.1 %s No\r\nContent-Length: 0\r\n\r\n", (const char *)server->user);
    return send_text(fd, answer);
}

static void test_proxy_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *status, *says;
        uint32_t questions;
    } kinds[] = {{"407", "it answered 407; the proxy wants credentials", 1},
                 {"403", "the proxy does not lead to the server: it answered 403", 1},
                 {"503", "503", 4}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct world world = {0};
        char options[200];
        server_start(&world.server, refusing_proxy, (void *)(uintptr_t)kinds[i].status);
        snprintf(options, sizeof options, "{" QUICK ", \"proxy\": \"http://127.0.0.1:%u\"}", world.server.port);
        world_open(&world, options, "https://store.example");
        expect_failure(&world, "a", 0, 10, kinds[i].says);
        assert_int_equal(atomic_load(&world.server.questions), kinds[i].questions);
        world_end(&world);
    }
}

static bool status_of_path(struct server *server, int fd, const struct question *question)
{
    (void)server;
    char answer[200];
    snprintf(answer, sizeof answer, "HTTP/1.1 %.3s Status\r\nContent-Length: 0\r\n\r\n", question->target + 1);
    return send_text(fd, answer);
}

static void test_permanent(void **state)
{
    (void)state;
    static const char *const permanent[] = {"400", "401", "403", "405", "501", "304", "418"};
    struct world world;
    struct one_read read;
    world_make(&world, status_of_path, NULL, "{" QUICK "}", "");
    for (size_t i = 0; i < sizeof permanent / sizeof permanent[0]; i++) {
        uint32_t before = atomic_load(&world.server.questions);
        expect_failure(&world, permanent[i], 0, 10, permanent[i]);
        assert_int_equal(atomic_load(&world.server.questions), before + 1);
    }
    assert_int_equal(read_one(&world, &read, "410", DMC_RANGE_SPAN, 0, 10)->outcome, DMC_OUTCOME_ABSENT);
    world_end(&world);
    world_make(&world, status_of_path, NULL, "{\"missing_is_403\": true}", "");
    assert_int_equal(read_one(&world, &read, "403", DMC_RANGE_SPAN, 0, 10)->outcome, DMC_OUTCOME_ABSENT);
    world_end(&world);
}

/* --- redirects --- */

static bool redirecting(struct server *server, int fd, const struct question *question)
{
    struct script *script = server->user;
    char answer[1000];
    static const char *const targets[] = {"/there", "//127.0.0.1:%u/there", "ftp://127.0.0.1/x", "file:///etc/passwd", "/loop",
                                          NULL};
    const char *target = NULL;
    for (int i = 0; targets[i]; i++)
        if (question->target[1] == '0' + i)
            target = targets[i];
    if (strcmp(question->target, "/loop") == 0)
        target = "/loop";
    if (!target)
        return strcmp(question->target, "/echo") == 0 ? echo(server, fd, question) : well(server, fd, question);
    char location[300];
    snprintf(location, sizeof location, target, script->other_port);
    snprintf(answer, sizeof answer, "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", location);
    return send_text(fd, answer);
}

static void test_redirects(void **state)
{
    (void)state;
    struct server other;
    server_start(&other, echo, NULL);
    struct script script = {.other_port = other.port};
    struct world world;
    struct one_read read;
    world_make(&world, redirecting, &script, "{\"headers\": {\"Authorization\": \"secret\"}}", "");
    expect_span(&world, "0", 100, 5000);
    struct dmc_request *request = read_one(&world, &read, "1", DMC_RANGE_WHOLE, 0, 1000);
    assert_int_equal(request->outcome, DMC_OUTCOME_OK);
    data[request->bytes_read] = 0;
    assert_string_equal((char *)data, "/there|"); /* another port is another host: no credentials */
    request = read_one(&world, &read, "echo", DMC_RANGE_WHOLE, 0, 1000);
    data[request->bytes_read] = 0;
    assert_string_equal((char *)data, "/echo|secret");
    expect_failure(&world, "2", 0, 10, "another scheme");
    expect_failure(&world, "3", 0, 10, "another scheme");
    expect_failure(&world, "4", 0, 10, "too many");
    world_end(&world);
    server_end(&other);
}

/* --- versions --- */

static bool versions(struct server *server, int fd, const struct question *question)
{
    const char *const *tag = server->user;
    return answer_well(fd, question, SEED, OBJECT_BYTES, *tag);
}

static void test_change(void **state)
{
    (void)state;
    const char *tag = "ETag: \"one\"\r\n";
    struct world world;
    world_make(&world, versions, &tag, "{" QUICK "}", "");
    expect_span(&world, "a", 0, 10);
    expect_span(&world, "b", 0, 10);
    tag = "ETag: W/\"one\"\r\n";
    expect_span(&world, "a", 10, 10);
    tag = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    expect_span(&world, "c", 10, 10);
    tag = "ETag: \"two\"\r\n";
    expect_failure(&world, "a", 0, 10, "changed while it was in use");
    expect_failure(&world, "a", 0, 10, "changed while it was in use");
    expect_span(&world, "d", 0, 10);
    tag = "Last-Modified: Mon, 07 Nov 1994 08:49:37 GMT\r\n";
    expect_failure(&world, "c", 0, 10, "changed");
    world_end(&world);
    tag = "ETag: \"one\"\r\n";
    world_make(&world, versions, &tag, "{\"check_versions\": false}", "");
    expect_span(&world, "a", 0, 10);
    tag = "ETag: \"two\"\r\n";
    expect_span(&world, "a", 0, 10);
    world_end(&world);
}

/* --- many at once, cancelling, ending --- */

static bool slow_or_not(struct server *server, int fd, const struct question *question)
{
    if (strstr(question->target, "never"))
        server_dawdle(server, 60000);
    return well(server, fd, question);
}

static void test_many_at_once(void **state)
{
    (void)state;
    enum { READS = 200, BYTES = 3000, ROUNDS = 5 };
    static struct one_read reads[READS];
    static unsigned char buffers[READS][BYTES];
    struct world world;
    world_make(&world, well, NULL, "{\"concurrency_max\": 16, \"hedge_share\": 0, \"stall_timeout\": 300}", "");
    uint64_t seed = test_seed();
    for (int round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < READS; i++) {
            uint64_t offset = dmc_hash_u64(seed, i + round * 1000) % (OBJECT_BYTES - BYTES);
            prepare(&reads[i], world.store, i % 2 ? "a" : "b", DMC_RANGE_SPAN, offset, buffers[i], BYTES);
            reads[i].request.metadata = i % 5 == 0;
            assert_int_equal(dmc_store_start(world.io, &reads[i].request), DMC_START_PENDING);
        }
        for (uint32_t i = 0; i < READS; i++) {
            struct dmc_request *request = wait_any(world.io);
            assert_int_equal(request->outcome, DMC_OUTCOME_OK);
            assert_true(bytes_match(request->parts[0].iov_base, SEED, request->offset, BYTES));
        }
    }
    assert_true(atomic_load(&world.server.connections) <= 32); /* two lanes of 16 */
    world_end(&world);
}

/* A server that speaks HTTP/1.0, closes each connection, and lets few wait. */
struct closing {
    _Atomic int32_t running, most;
};

static bool closing(struct server *server, int fd, const struct question *question)
{
    struct closing *seen = server->user;
    int32_t running = atomic_fetch_add(&seen->running, 1) + 1, most = atomic_load(&seen->most);
    while (running > most && !atomic_compare_exchange_weak(&seen->most, &most, running)) {
    }
    server_dawdle(server, 5); /* so that others, if there were any, would come meanwhile */
    char head[200];
    unsigned char bytes[100];
    snprintf(head, sizeof head, "HTTP/1.0 206 Part\r\nContent-Length: 100\r\nContent-Range: bytes %lu-%lu/%u\r\n\r\n",
             question->begin, question->last, OBJECT_BYTES);
    fill_bytes(bytes, SEED, question->begin, sizeof bytes);
    atomic_fetch_sub(&seen->running, 1); /* before the answer: the next one comes when it is there */
    return send_text(fd, head) && send_all(fd, bytes, sizeof bytes) && false;
}

static void test_one_answer_a_connection(void **state)
{
    (void)state;
    enum { READS = 60, BYTES = 100 };
    static struct one_read reads[READS];
    static unsigned char buffers[READS][BYTES];
    for (uint32_t threads = 1; threads <= 2; threads++) {
        struct closing seen = {0};
        struct world world;
        char options[200];
        snprintf(options, sizeof options, "{\"hedge_share\": 0, \"stall_timeout\": 300, \"network_threads\": %u, " QUICK "}",
                 threads);
        world_make(&world, closing, &seen, options, "");
        expect_span(&world, "first", 0, BYTES);
        for (uint32_t i = 0; i < READS; i++) {
            prepare(&reads[i], world.store, i % 2 ? "a" : "b", DMC_RANGE_SPAN, i * 5000, buffers[i], BYTES);
            assert_int_equal(dmc_store_start(world.io, &reads[i].request), DMC_START_PENDING);
        }
        for (uint32_t i = 0; i < READS; i++) {
            struct dmc_request *request = wait_any(world.io);
            assert_int_equal(request->outcome, DMC_OUTCOME_OK);
            assert_true(bytes_match(request->parts[0].iov_base, SEED, request->offset, BYTES));
        }
        assert_in_range(atomic_load(&seen.most), 1, 4);
        world_end(&world);
    }
}

static void test_cancel(void **state)
{
    (void)state;
    enum { READS = 64 };
    static struct one_read reads[READS];
    static unsigned char buffers[READS][100];
    struct world world;
    world_make(&world, slow_or_not, NULL, "{\"concurrency_max\": 8}", "");
    for (int round = 0; round < 10; round++) {
        for (uint32_t i = 0; i < READS; i++) {
            prepare(&reads[i], world.store, i % 2 ? "never" : "soon", DMC_RANGE_SPAN, i, buffers[i], 100);
            assert_int_equal(dmc_store_start(world.io, &reads[i].request), DMC_START_PENDING);
            if (i % 3 == 0 && round % 2)
                dmc_store_cancel(world.io, &reads[i].request);
        }
        for (uint32_t i = 0; i < READS; i++)
            if (i % 2)
                dmc_store_cancel(world.io, &reads[i].request);
        for (uint32_t i = 0; i < READS; i++) {
            struct dmc_request *request = wait_any(world.io);
            bool never = request->key[0] == 'n';
            if (never || request->outcome == DMC_OUTCOME_FAILED)
                assert_int_equal(request->status, DAMACY_SHUTDOWN);
            else
                assert_true(bytes_match(request->parts[0].iov_base, SEED, request->offset, 100));
        }
    }
    /* The end with everything under way: the dmc_io cancels. */
    for (uint32_t i = 0; i < READS; i++) {
        prepare(&reads[i], world.store, "never", DMC_RANGE_SPAN, i, buffers[i], 100);
        assert_int_equal(dmc_store_start(world.io, &reads[i].request), DMC_START_PENDING);
    }
    world_end(&world);
}

/* Nobody listens: a failure, and soon. */
static void test_nobody_there(void **state)
{
    (void)state;
    struct world world;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    char uri[64];
    int nobody = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* the port is taken, so that nobody else listens there */
    assert_int_equal(bind(nobody, (struct sockaddr *)&address, length), 0);
    assert_int_equal(getsockname(nobody, (struct sockaddr *)&address, &length), 0);
    snprintf(uri, sizeof uri, "http://127.0.0.1:%u/", ntohs(address.sin_port));
    memset(&world, 0, sizeof world);
    world_open(&world, "{" QUICK "}", uri);
    expect_failure(&world, "a", 0, 10, "4 attempts");
    world_close(&world);
    close(nobody);
}

/* One answer in fifty hangs: another question hides it, and hedges are few. */
static bool sometimes_late(struct server *server, int fd, const struct question *question)
{
    usleep(2000);
    if (question->number > 100 && question->number % 50 == 0)
        server_dawdle(server, 60000);
    return well(server, fd, question);
}

static void test_hedging(void **state)
{
    (void)state;
    enum { READS = 400, LATE = 5 }; /* so many of the first READS questions, at least */
    struct world world;
    world_make(&world, sometimes_late, NULL, "{\"hedge_share\": 0.05}", "");
    for (uint32_t i = 0; i < READS; i++)
        expect_span(&world, "a", (uint64_t)i * 100, 500);
    /* Each late one costs one more; the allowance is five in a hundred. Where a slow machine has used that up for answers that
     * were not lost, a stall ends the wait instead. */
    struct damacy_server_stats stats = server_stats(&world);
    uint64_t more = stats.hedges + stats.retries;
    assert_true(stats.hedges <= READS / 20 && more >= LATE);
    assert_in_range(atomic_load(&world.server.questions), READS + LATE, READS + more);
    world_end(&world);
}

/* Of the questions for bytes from 1000 * i on of "lost" the first lost[i] get no answer. */
#define LOST_MAX 4u
struct loss {
    uint32_t lost[LOST_MAX];
    _Atomic uint32_t asked[LOST_MAX];
};

static bool loses(struct server *server, int fd, const struct question *question)
{
    struct loss *loss = server->user;
    uint64_t which = question->begin / 1000;
    if (strstr(question->target, "lost") && atomic_fetch_add(&loss->asked[which], 1) < loss->lost[which]) {
        server_dawdle(server, 60000);
        return false;
    }
    return well(server, fd, question);
}

/* Other requests go on until all of the world's are back: they earn what hedges cost. */
static void ask_others(struct world *world)
{
    uint64_t deadline_ns = dmc_clock_deadline(PATIENCE_NS);
    struct dmc_io *others = io_make(4, true);
    for (uint32_t i = 0; dmc_io_pending(world->io) > 0; i++) {
        struct one_read other;
        unsigned char byte;
        complete(others, prepare(&other, world->store, "a", DMC_RANGE_SPAN, i, &byte, 1));
        assert_int_equal(other.request.outcome, DMC_OUTCOME_OK);
        dmc_io_wait(world->io, 0);
        usleep(500);
        assert_true(dmc_clock_ns() < deadline_ns);
    }
    io_end(others);
}

/* The answer to a hedge is lost, too: a third attempt brings the bytes while the first two still wait. Which of them the server
 * meets last is its threads' affair, so more than one round may be needed until it is a hedge. */
static void lost_twice(const char *options)
{
    struct world world;
    struct loss loss = {.lost = {2, 2, 2, 2}};
    struct damacy_server_stats server = {0};
    static unsigned char bytes[500];
    world_make(&world, loses, &loss, options, "");
    for (int i = 0; i < 50; i++)
        expect_span(&world, "a", (uint64_t)i * 100, 500);
    for (uint32_t round = 0; server.hedges_won == 0; round++) {
        struct one_read read;
        assert_true(round < LOST_MAX);
        uint64_t before = server_stats(&world).hedges;
        prepare(&read, world.store, "lost", DMC_RANGE_SPAN, 1000 * round, bytes, sizeof bytes);
        assert_int_equal(dmc_store_start(world.io, &read.request), DMC_START_PENDING);
        ask_others(&world);
        assert_int_equal(read.request.outcome, DMC_OUTCOME_OK);
        assert_true(bytes_match(bytes, SEED, 1000 * round, sizeof bytes));
        assert_int_equal(atomic_load(&loss.asked[round]), 3);
        server = server_stats(&world);
        assert_true(server.hedges >= before + 2);
        assert_int_equal(server.retries, 0);
    }
    world_end(&world);
}

static void test_lost_twice(void **state)
{
    (void)state;
    lost_twice("{\"hedge_share\": 1, \"stall_timeout\": 300, \"network_threads\": 1}");
    /* "a" and "lost" belong to two threads: the other one knows what is late, too. */
    lost_twice("{\"hedge_share\": 1, \"stall_timeout\": 300, \"network_threads\": 3}");
}

/* No allowance is left when an answer is late: it gets its hedge as soon as other requests have earned one. */
static void allowance_later(const char *options)
{
    struct world world;
    struct loss loss = {.lost = {2, 1, 1, 1}};
    struct one_read lost[LOST_MAX];
    static unsigned char bytes[LOST_MAX][500];
    world_make(&world, loses, &loss, options, "");
    for (int i = 0; i < 30; i++) /* earn one and a half, four and one are needed */
        expect_span(&world, "a", (uint64_t)i * 100, 500);
    for (uint32_t i = 0; i < LOST_MAX; i++) {
        prepare(&lost[i], world.store, "lost", DMC_RANGE_SPAN, 1000 * i, bytes[i], 500);
        assert_int_equal(dmc_store_start(world.io, &lost[i].request), DMC_START_PENDING);
    }
    ask_others(&world);
    for (uint32_t i = 0; i < LOST_MAX; i++) {
        assert_int_equal(lost[i].request.outcome, DMC_OUTCOME_OK);
        assert_true(bytes_match(bytes[i], SEED, 1000 * i, 500));
    }
    struct damacy_server_stats server = server_stats(&world);
    assert_true((double)server.hedges <= 0.05 * (double)server.requests);
    world_end(&world);
}

static void test_allowance_later(void **state)
{
    (void)state;
    allowance_later("{\"hedge_share\": 0.05, \"stall_timeout\": 300, \"network_threads\": 1}");
    allowance_later(
        "{\"hedge_share\": 0.05, \"stall_timeout\": 300, \"network_threads\": 3}"); /* one earns, another one spends */
}

/* Every allocation fails once: an answer that says so, nothing leaks (the sanitizer looks), nothing hangs. */
static void test_short_memory(void **state)
{
    (void)state;
    struct world world;
    world_make(&world, well, NULL, NULL, "");
    char uri[100];
    snprintf(uri, sizeof uri, "http://127.0.0.1:%u/x?query", world.server.port);
    assert_true(refusals_for_memory(&world, "{\"headers\": {\"A\": \"b\"}, \"network_threads\": 3}", uri, 1) > 10);
    world_end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),         cmocka_unit_test(test_server_without_ranges),
        cmocka_unit_test(test_unknown_length), cmocka_unit_test(test_little_memory),
        cmocka_unit_test(test_batch_deadline), cmocka_unit_test(test_urls),
        cmocka_unit_test(test_transient),      cmocka_unit_test(test_resume),
        cmocka_unit_test(test_gives_up),       cmocka_unit_test(test_permanent),
        cmocka_unit_test(test_redirects),      cmocka_unit_test(test_change),
        cmocka_unit_test(test_many_at_once),   cmocka_unit_test(test_one_answer_a_connection),
        cmocka_unit_test(test_cancel),         cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_short_memory),   cmocka_unit_test(test_hedging),
        cmocka_unit_test(test_lost_twice),     cmocka_unit_test(test_allowance_later),
        cmocka_unit_test(test_many_servers),   cmocka_unit_test(test_no_http),
        cmocka_unit_test(test_long_headers),   cmocka_unit_test(test_proxy_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
