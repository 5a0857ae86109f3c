/* A server of the test's own (net_server.h), a store over it, and reads whose bytes are looked at. */
#ifndef NET_WORLD_H
#define NET_WORLD_H

#include "net_server.h"

#include "base/mem.h"
#include "store/net_store.h"

#define OBJECT_BYTES 300007u
#define SEED 99u

struct world {
    struct server server;
    struct dmc_net *net;
    struct dmc_store *store;
    struct dmc_io *io;
    char prefix[DAMACY_URI_BYTES_MAX + 1];
};

/* Short times, so that what is repaired is repaired soon. */
#define QUICK "\"backoff_min\": 0.005, \"backoff_max\": 0.02"

/* Stores over the server that was started, which `uri` leads to. */
static inline void world_open(struct world *world, const char *options, const char *uri)
{
    struct damacy_error error = {0};
    if (dmc_net_create(options, DMC_NETWORK_BYTES_DEFAULT, &world->net, &error) != DAMACY_OK)
        fail_msg("%s", error.message);
    if (dmc_net_resolve(world->net, uri, &world->store, world->prefix, sizeof world->prefix, &error) != DAMACY_OK)
        fail_msg("%s", error.message);
    world->io = io_make(256, true);
}

static inline void world_close(struct world *world)
{
    io_end(world->io);
    dmc_net_destroy(world->net);
}

static inline void world_make(struct world *world, bool (*answer)(struct server *, int, const struct question *), void *user,
                              const char *options, const char *path)
{
    memset(world, 0, sizeof *world);
    server_start(&world->server, answer, user);
    char uri[512];
    snprintf(uri, sizeof uri, "http://127.0.0.1:%u/%s", world->server.port, path);
    world_open(world, options, uri);
}

static inline void world_end(struct world *world)
{
    world_close(world);
    server_end(&world->server);
}

/* Of the only server that anything was asked of. */
static inline struct damacy_server_stats server_stats(struct world *world)
{
    struct damacy_server_stats server;
    struct damacy_remote_stats stats = DAMACY_REMOTE_STATS_INIT;
    stats.servers = &server;
    stats.server_capacity = 1;
    dmc_net_stats(world->net, &stats);
    assert_int_equal(stats.server_count, 1);
    return server;
}

static inline bool well(struct server *server, int fd, const struct question *question)
{
    (void)server;
    if (strstr(question->target, "absent"))
        return send_text(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnope\n");
    return answer_well(fd, question, SEED, strstr(question->target, "empty") ? 0 : OBJECT_BYTES, "ETag: \"v1\"\r\n");
}

static unsigned char data[OBJECT_BYTES + 100];

static inline struct dmc_request *read_one(struct world *world, struct one_read *read, const char *key,
                                           enum dmc_range_kind kind, uint64_t offset, size_t bytes)
{
    memset(data, 0, sizeof data);
    struct dmc_request *request = prepare(read, world->store, key, kind, offset, data, bytes);
    complete(world->io, request);
    return request;
}

static inline void expect_span(struct world *world, const char *key, uint64_t offset, size_t bytes)
{
    struct one_read read;
    struct dmc_request *request = read_one(world, &read, key, DMC_RANGE_SPAN, offset, bytes);
    if (request->outcome != DMC_OUTCOME_OK)
        fail_msg("outcome %d: %s", request->outcome, read.error.message);
    assert_int_equal(request->bytes_read, bytes);
    assert_true(bytes_match(data, SEED, offset, bytes));
}

static inline void expect_failure(struct world *world, const char *key, uint64_t offset, size_t bytes, const char *says)
{
    struct one_read read;
    struct dmc_request *request = read_one(world, &read, key, DMC_RANGE_SPAN, offset, bytes);
    assert_int_equal(request->outcome, DMC_OUTCOME_FAILED);
    assert_int_equal(request->status, DAMACY_IO);
    if (!strstr(read.error.message, says))
        fail_msg("'%s' does not say '%s'", read.error.message, says);
}

/* Each allocation of a store's making and of `reads` of its objects fails once: an answer that says so, or the right bytes.
 * Returns how often there was one that says so. */
static inline uint32_t refusals_for_memory(struct world *world, const char *options, const char *uri, uint32_t reads)
{
    uint32_t refusals = 0;
    for (uint64_t n = 1;; n++) {
        assert_true(n < 1000);
        struct dmc_net *net = NULL;
        struct dmc_store *store = NULL;
        struct damacy_error error = {0};
        char prefix[100];
        uint64_t before = dmc_mem_count();
        dmc_mem_fail_at(n);
        enum damacy_status status = dmc_net_create(options, DMC_NETWORK_BYTES_DEFAULT, &net, &error);
        if (status == DAMACY_OK)
            status = dmc_net_resolve(net, uri, &store, prefix, sizeof prefix, &error);
        for (uint32_t i = 0; status == DAMACY_OK && i < reads; i++) {
            struct one_read read;
            char key[16];
            snprintf(key, sizeof key, "x/%u", i);
            complete(world->io, prepare(&read, store, key, DMC_RANGE_SPAN, 10, data, 1000));
            status = read.request.outcome == DMC_OUTCOME_FAILED ? read.request.status : DAMACY_OK;
            if (status == DAMACY_OK)
                assert_true(bytes_match(data, SEED, 10, 1000));
        }
        uint64_t count = dmc_mem_count() - before;
        dmc_mem_fail_at(0);
        dmc_net_destroy(net);
        refusals += status == DAMACY_OOM;
        assert_true(status == DAMACY_OK || status == DAMACY_OOM);
        if (count < n)
            return refusals;
    }
}

#endif
