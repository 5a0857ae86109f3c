/* The network engine: a thread that drives transfers of a pipeline over libcurl's multi interface. A pipeline has one, or on
 * machines with many cores several, among which objects are dealt out by the hashes of their keys: so all requests for an
 * object meet in one engine, and engines share nothing but what struct dmc_net_endpoint says.
 *
 *     worker: start --inbox--> QUEUED (in a lane of its endpoint) --room in the lane--> RUNNING --all bytes-->
 * dmc_io_complete() ^                                  |  \--too slow--> another attempt beside it (hedge)         |
 * +--transient failure--> BACKOFF --time--+
 *                                 +------------------------------------------------------------------------- +
 *
 * A request whose range lies inside one under way takes its bytes from there, and so does an end of a range (net_share.c); and
 * what is expected to be asked for when it arrives for another one is kept until then (net_hold.c).
 *
 * Chunks of a small shard may come along with its index, and are kept until they are asked for (net_ahead.c).
 *
 * An endpoint is a scheme, host and port. Each has two lanes, metadata and bulk, so that metadata never queue behind chunks;
 * how many transfers a lane has under way adapts to how the endpoint bears it. Bodies go straight into the parts of the
 * request. A retry asks for the bytes that are still missing, and so does a hedge.
 *
 * Threads: start, cancel and the getters are for any thread and take the engine's lock for a moment; all else belongs to the
 * event thread, which never holds the lock while it works. Stores are the event thread's services: they write urls and headers
 * and say what an error of their protocol means. */
#ifndef DMC_NET_ENGINE_H
#define DMC_NET_ENGINE_H

#include "store/http_response.h"
#include "store/net_curl.h"
#include "store/net_endpoint.h"
#include "store/net_text.h"
#include "store/store.h"

struct dmc_net_engine;
struct dmc_net_store;

/* How transfers of a store behave. Times in nanoseconds. */
struct dmc_net_settings {
    uint64_t connect_timeout_ns;
    uint64_t request_timeout_ns; /* for a request with all its retries */
    uint64_t batch_timeout_ns;   /* for all requests of a batch together, from its first on; 0: none */
    uint64_t stall_window_ns;    /* an attempt that gets less than stall_bytes_per_s over it is given up and tried again */
    uint64_t stall_bytes_per_s;
    uint64_t backoff_min_ns, backoff_max_ns;
    uint32_t retries_max;            /* in a row without a byte of progress */
    uint32_t concurrency_max;        /* of bulk transfers with one endpoint */
    double hedge_share;              /* most hedges, as a share of all requests; 0: none */
    uint64_t index_ahead_bytes_max;  /* of chunks that may come along with the index of their shard; 0: none */
    uint64_t whole_object_bytes_max; /* of an object that a server without ranges may send whole, for the sake of a part */
    bool missing_is_403;             /* the store hides absence behind 403 */
    bool check_versions;             /* an object that changes while it is in use is an error */
    const char *ca_bundle;           /* NULL: libcurl's own */
    const char *proxy;               /* NULL: as the environment says; "" none */
    const char *user_agent;
};

/* Header lines of one attempt, in the form that libcurl takes. */
#define DMC_NET_HEADERS_MAX 40
struct dmc_net_headers {
    struct dmc_text text; /* zero-terminated lines, one behind the other */
    size_t offsets[DMC_NET_HEADERS_MAX];
    uint32_t count;
    bool failed;
    struct curl_slist nodes[DMC_NET_HEADERS_MAX];
};
void dmc_net_header(struct dmc_net_headers *headers, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What an attempt asks for. */
struct dmc_net_ask {
    const char *key;
    const char *query;    /* of a listing, encoded and in order; NULL: none */
    bool head;            /* HEAD instead of GET */
    const char *redirect; /* absolute url that an earlier answer led to; NULL: none */
};

enum dmc_net_prepared {
    DMC_NET_READY,
    DMC_NET_WAIT,  /* credentials are on their way: dmc_net_engine_credentials() will be called */
    DMC_NET_FAILED /* error is set */
};

enum dmc_net_advice {
    DMC_NET_PERMANENT, /* error is set */
    DMC_NET_TRANSIENT, /* error is set; worth trying again later */
    DMC_NET_MENDED,    /* what was wrong on our side was put right (region, clock, credentials): try again at once */
    DMC_NET_ABSENT
};

/* What the engine needs of a protocol. Event thread only. */
struct dmc_net_service {
    /* Write the url and the headers that the protocol wants (Range and If-Match are the engine's, and are not signed). */
    enum dmc_net_prepared (*prepare)(struct dmc_net_store *store, const struct dmc_net_ask *ask, struct dmc_text *url,
                                     struct dmc_net_headers *headers, struct damacy_error *error);
    /* What does this answer mean, which is neither success nor a plain redirect? `body` is its beginning, zero-terminated. */
    enum dmc_net_advice (*advise)(struct dmc_net_store *store, const struct dmc_http_response *response, const char *body,
                                  struct damacy_error *error);
    bool redirects; /* follow them */
};

/* Most engines of a pipeline. */
#define DMC_NET_ENGINES_MAX 16u

struct dmc_net_engines {
    uint32_t count;
    struct dmc_net_engine *all[DMC_NET_ENGINES_MAX];
};

/* The common part of network stores. One is made for each engine; the first is what the others' users see, and deals out. */
struct dmc_net_store {
    struct dmc_store store;
    struct dmc_net_engine *engine;
    struct dmc_net_endpoint *endpoint;
    const struct dmc_net_service *service;
    const struct dmc_net_settings *settings;
    uint64_t seed;  /* tells its objects from those of other stores */
    uint64_t bytes; /* what it takes, for dmc_net_store_enter() */
    /* of the first one: all of them, itself included; else none */
    uint32_t sibling_count;
    struct dmc_net_store *siblings[DMC_NET_ENGINES_MAX];
};

/* `memory_bytes`: how much its transfers and connections may take together; so many run at once, and the rest waits. `count`:
 * how many engines the pipeline has. */
enum damacy_status dmc_net_engine_create(const struct dmc_curl *curl, uint64_t memory_bytes, uint32_t count,
                                         struct dmc_net_engine **engine, struct damacy_error *error);
/* Have the thread end. Prompt, whatever is under way; what is still pending is left as it is. false: it is the parent's, and
 * all that it may touch must be left behind. */
bool dmc_net_engine_stop(struct dmc_net_engine *engine);
/* After stop: wait for its end. false: it is stuck in libcurl, and all that it may touch must be left behind. */
bool dmc_net_engine_join(struct dmc_net_engine *engine, uint64_t deadline_ns);
void dmc_net_engine_free(struct dmc_net_engine *engine); /* after join; NULL allowed */

/* Give the store its endpoint, that of an origin ("https://host:port"), made when it is new. What both take is taken off what
 * transfers may have, half of which is left to them. `first`: the endpoint in the first engine; NULL: this is it.
 * OOM, or BUDGET for more than DMC_NET_ENDPOINTS_MAX or than memory has room for; then nothing was taken. */
#define DMC_NET_ENDPOINTS_MAX 4096u
enum damacy_status dmc_net_store_enter(struct dmc_net_store *store, const char *origin, struct dmc_net_endpoint *first,
                                       struct damacy_error *error);
/* Before a store's end: its memory is free again, that of the endpoint is not. Nothing if it did not enter. */
void dmc_net_store_leave(struct dmc_net_store *store);

/* For dmc_store_ops of network stores. */
enum dmc_start dmc_net_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request);
void dmc_net_cancel(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request);
void dmc_net_expect(struct dmc_store *store, const char *key, uint64_t key_hash, uint64_t offset, uint64_t bytes);
uint64_t dmc_net_ahead(struct dmc_store *store);
void dmc_net_hint(struct dmc_store *store, struct dmc_store_hint *hint);

/* Fetch a small object whole, with a query; blocks. ABSENT and the rest as for a request. */
enum damacy_status dmc_net_fetch(struct dmc_net_store *store, const char *key, const char *query, char *buffer,
                                 uint64_t capacity, uint64_t *bytes, enum dmc_outcome *outcome, struct damacy_error *error);

/* Credentials came, or could not be had: transfers that wait for them go on. Any thread. */
void dmc_net_engine_credentials(struct dmc_net_engine *engine);

/* Call `visit` for each endpoint. Any thread. */
void dmc_net_engine_endpoints(struct dmc_net_engine *engine, void (*visit)(void *user, const struct dmc_net_endpoint *endpoint),
                              void *user);

#endif
