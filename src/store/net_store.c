/* The network stores of one pipeline: which store a uri means, and the one for http and https. */
#include "store/net_store.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/thread.h"
#include "store/cache_store.h"
#include "store/http_url.h"
#include "store/net_store_impl.h"

#include <stdio.h>

#define STORES_MAX 4096u
#define CACHE_QUEUE_MAX (16ull << 20)
#define ENTRY_BYTES 512u               /* what lists a store, the disk cache's own one over it, and the allocator's own */
#define DESTROY_WAIT_NS 10000000000ull /* longer than a busy machine makes a thread wait for its turn */

struct http_store {
    struct dmc_net_store net;
    char *origin;        /* "https://host:port" */
    char *query;         /* of every url, NULL none: signatures of shared links */
    char *authorization; /* header line, NULL none */
    const struct dmc_net_options *options;
};

struct entry {
    struct entry *next;
    char *identity;              /* what tells it from others; holds no secrets but may hold what is derived from them */
    struct dmc_net_store *store; /* the first of its siblings */
    struct dmc_store *cached;    /* NULL: no cache */
};

struct dmc_net {
    struct dmc_net_option_set options;
    uint64_t cache_queue_bytes;          /* 0: no cache was asked for */
    uint64_t engine_bytes;               /* of all engines together */
    struct dmc_s3 *s3[DMC_NET_FAMILIES]; /* what stores of a family share; NULL until needed */
    struct dmc_mutex lock;
    struct dmc_net_engines shared_engines; /* made by the first resolve */
    struct entry *shared_entries;
    uint32_t shared_count;
    struct dmc_cache *shared_cache;
    bool shared_cache_made;
};

/* --- http and https --- */

static enum dmc_net_prepared http_prepare(struct dmc_net_store *store, const struct dmc_net_ask *ask, struct dmc_text *url,
                                          struct dmc_net_headers *headers, struct damacy_error *error)
{
    (void)error;
    const struct http_store *http = (const struct http_store *)store;
    bool ours = true;
    if (ask->redirect) {
        struct dmc_http_url from, to;
        ours = !dmc_http_url_parse(http->origin, &from) && !dmc_http_url_parse(ask->redirect, &to);
        if (ours && !from.tls && from.port == 80 && to.tls && to.port == 443) { /* the same server, from now on encrypted */
            from.tls = true;
            from.port = 443;
        }
        ours = ours && dmc_http_same_origin(&from, &to);
        dmc_text_bytes(url, ask->redirect, strcspn(ask->redirect, "#"));
    } else {
        const char *key = ask->key + (ask->key[0] == '/');
        dmc_text_add(url, http->origin);
        dmc_text_add(url, "/");
        dmc_http_path(url, key, strlen(key));
        if (http->query) {
            dmc_text_add(url, "?");
            dmc_text_add(url, http->query);
        }
    }
    if (!ours) /* no password and no header of the user's for another host */
        return DMC_NET_READY;
    if (http->authorization)
        dmc_net_header(headers, "%s", http->authorization);
    for (uint32_t i = 0; i < http->options->header_count; i++)
        dmc_net_header(headers, "%s: %s", http->options->headers[i].name, http->options->headers[i].value);
    return DMC_NET_READY;
}

enum dmc_net_advice dmc_http_advise(const struct dmc_net_settings *settings, uint32_t status, const char *says,
                                    struct damacy_error *error)
{
    if (status == 404 || status == 410 || (status == 403 && settings->missing_is_403))
        return DMC_NET_ABSENT;
    dmc_error_set(error, DAMACY_IO, "read", "the server answered %u%s%s", status, says[0] ? ": " : "", says);
    switch (status) {
    case 401:
        if (!says[0])
            dmc_error_hint(error, "it wants credentials");
        return DMC_NET_PERMANENT;
    case 403:
        if (!says[0])
            dmc_error_hint(error, "no permission; if this server says so of objects that are not there, set missing_is_403");
        return DMC_NET_PERMANENT;
    case 407:
        dmc_error_hint(error, "the proxy wants credentials");
        return DMC_NET_PERMANENT;
    case 501:
    case 505:
        return DMC_NET_PERMANENT;
    case 408:
    case 425:
    case 429:
        return DMC_NET_TRANSIENT;
    default:
        return status >= 500 ? DMC_NET_TRANSIENT : DMC_NET_PERMANENT;
    }
}

static enum dmc_net_advice http_advise(struct dmc_net_store *store, const struct dmc_http_response *response, const char *body,
                                       struct damacy_error *error)
{
    (void)body; /* a page for people */
    return dmc_http_advise(store->settings, response->status, "", error);
}

static const struct dmc_net_service http_service = {.prepare = http_prepare, .advise = http_advise, .redirects = true};

static void http_destroy(struct dmc_store *store)
{
    struct http_store *http = (struct http_store *)(void *)store;
    dmc_free(http->origin);
    if (http->query)
        explicit_bzero(http->query, strlen(http->query));
    dmc_free(http->query);
    if (http->authorization)
        explicit_bzero(http->authorization, strlen(http->authorization));
    dmc_free(http->authorization);
    dmc_free(http);
}

static const struct dmc_store_ops http_ops = {.scheme = "http",
                                              .start = dmc_net_start,
                                              .cancel = dmc_net_cancel,
                                              .expect = dmc_net_expect,
                                              .ahead = dmc_net_ahead,
                                              .hint = dmc_net_hint,
                                              .destroy = http_destroy};

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "Authorization: Basic ..." of "name:password", which is percent-encoded in a url. */
static char *basic_authorization(const char *user, size_t bytes)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct dmc_text plain = {0}, line = {0};
    for (size_t i = 0; i < bytes; i++) {
        char c = user[i];
        if (c == '%' && i + 2 < bytes && hex_value(user[i + 1]) >= 0 && hex_value(user[i + 2]) >= 0) {
            c = (char)(hex_value(user[i + 1]) * 16 + hex_value(user[i + 2]));
            i += 2;
        }
        dmc_text_bytes(&plain, &c, 1);
    }
    if (!memchr(user, ':', bytes))
        dmc_text_add(&plain, ":");
    dmc_text_add(&line, "Authorization: Basic ");
    for (size_t i = 0; i < plain.length && !plain.failed; i += 3) {
        uint32_t left = (uint32_t)(plain.length - i), word = (uint32_t)(unsigned char)plain.data[i] << 16;
        word |= left > 1 ? (uint32_t)(unsigned char)plain.data[i + 1] << 8 : 0;
        word |= left > 2 ? (uint32_t)(unsigned char)plain.data[i + 2] : 0;
        char four[4] = {letters[word >> 18], letters[word >> 12 & 63], left > 1 ? letters[word >> 6 & 63] : '=',
                        left > 2 ? letters[word & 63] : '='};
        dmc_text_bytes(&line, four, 4);
    }
    char *copy = plain.failed || line.failed ? NULL : dmc_strdup(line.data);
    dmc_text_free(&plain);
    dmc_text_free(&line);
    return copy;
}

static char *copy_bytes(const char *from, size_t bytes)
{
    char *copy = dmc_malloc(bytes + 1);
    if (copy) {
        memcpy(copy, from, bytes);
        copy[bytes] = 0;
    }
    return copy;
}

static struct dmc_net_store *http_make(const struct dmc_net_options *options, const struct dmc_http_url *url)
{
    struct http_store *http = dmc_calloc(1, sizeof *http);
    struct dmc_text origin = {0};
    if (!http)
        return NULL;
    http->net.store.ops = &http_ops;
    http->net.service = &http_service;
    http->options = options;
    dmc_http_origin(url, &origin);
    http->origin = origin.failed ? NULL : dmc_strdup(origin.data);
    dmc_text_free(&origin);
    if (url->query)
        http->query = copy_bytes(url->query, url->query_bytes);
    if (url->user_bytes)
        http->authorization = basic_authorization(url->user, url->user_bytes);
    if (!http->origin || (url->query && !http->query) || (url->user_bytes && !http->authorization)) {
        http_destroy(&http->net.store);
        return NULL;
    }
    http->net.bytes = sizeof *http + strlen(http->origin) + (http->query ? strlen(http->query) : 0) +
                      (http->authorization ? strlen(http->authorization) : 0);
    return &http->net;
}

/* --- life --- */

enum damacy_status dmc_net_create(const char *storage_options, uint64_t memory_bytes, struct dmc_net **out,
                                  struct damacy_error *error)
{
    struct dmc_net *net = dmc_calloc(1, sizeof *net);
    if (!net)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the network stores");
    enum damacy_status status = dmc_net_options_parse(storage_options, &net->options, error);
    if (status != DAMACY_OK) {
        dmc_free(net);
        return status;
    }
    for (int i = 0; i < DMC_NET_FAMILIES; i++)
        if (net->options.families[i].cache_dir)
            net->cache_queue_bytes = dmc_min_u64(memory_bytes / 4, CACHE_QUEUE_MAX);
    net->engine_bytes = memory_bytes - net->cache_queue_bytes;
    dmc_mutex_init(&net->lock);
    *out = net;
    return DAMACY_OK;
}

static void siblings_destroy(struct dmc_net_store *first)
{
    for (uint32_t i = first ? first->sibling_count : 0; i-- > 0;) { /* the first one, which lists them, last */
        dmc_net_store_leave(first->siblings[i]);
        dmc_store_destroy(&first->siblings[i]->store);
    }
}

void dmc_net_destroy(struct dmc_net *net)
{
    if (!net)
        return;
    for (int i = 0; i < DMC_NET_FAMILIES; i++)
        dmc_s3_stop(net->s3[i]);
    bool stopped = true;
    for (uint32_t i = 0; i < net->shared_engines.count; i++)
        stopped &= dmc_net_engine_stop(net->shared_engines.all[i]);
    uint64_t deadline_ns = dmc_clock_deadline(DESTROY_WAIT_NS); /* of all together */
    for (uint32_t i = 0; stopped && i < net->shared_engines.count; i++)
        stopped = dmc_net_engine_join(net->shared_engines.all[i], deadline_ns);
    if (!stopped)
        return; /* its thread still uses the stores */
    for (struct entry *entry = net->shared_entries; entry; entry = entry->next)
        dmc_store_destroy(entry->cached);
    dmc_cache_destroy(net->shared_cache);
    for (struct entry *entry = net->shared_entries, *next; entry; entry = next) {
        next = entry->next;
        siblings_destroy(entry->store);
        dmc_free(entry->identity);
        dmc_free(entry);
    }
    for (int i = 0; i < DMC_NET_FAMILIES; i++)
        dmc_s3_destroy(net->s3[i]);                        /* waits for a fetch of credentials, which tells the engine */
    for (uint32_t i = net->shared_engines.count; i-- > 0;) /* endpoints point to those of the first */
        dmc_net_engine_free(net->shared_engines.all[i]);
    dmc_net_options_deinit(&net->options);
    dmc_mutex_deinit(&net->lock);
    dmc_free(net);
}

/* --- resolve --- */

/* One network thread decodes nothing, but copies what comes and speaks HTTP: on 2 cores 0.8 ms for a crop of which 1 MB came,
 * for which the workers took 3.1 ms. With less memory an engine would keep nothing for those who ask later. */
#define CORES_AN_ENGINE 4u
#define ENGINE_BYTES_MIN (16ull << 20)
#define ENGINE_CONCURRENCY_MIN 16u

static uint32_t engine_count(const struct dmc_net *net)
{
    uint64_t wanted = 0, most = dmc_min_u64(DMC_NET_ENGINES_MAX, net->engine_bytes / ENGINE_BYTES_MIN);
    for (int i = 0; i < DMC_NET_FAMILIES; i++) {
        wanted = dmc_max_u64(wanted, net->options.families[i].network_threads);
        most = dmc_min_u64(most, net->options.families[i].settings.concurrency_max / ENGINE_CONCURRENCY_MIN);
    }
    wanted = wanted ? wanted : dmc_cores_allowed() / CORES_AN_ENGINE;
    return (uint32_t)dmc_max_u64(1, dmc_min_u64(wanted, most));
}

static enum damacy_status make_engines_locked(struct dmc_net *net, struct damacy_error *error)
{
    const struct dmc_curl *curl;
    struct dmc_net_engines made = {.count = engine_count(net)};
    enum damacy_status status = dmc_curl_load(&curl, error);
    for (uint32_t i = 0; status == DAMACY_OK && i < made.count; i++)
        status = dmc_net_engine_create(curl, net->engine_bytes / made.count, made.count, &made.all[i], error);
    if (status == DAMACY_OK)
        net->shared_engines = made;
    for (uint32_t i = 0; status != DAMACY_OK && i < made.count; i++)
        dmc_net_engine_free(made.all[i]);
    return status;
}

/* libcurl, the engines and the cache, once somebody needs them. */
static enum damacy_status wake_up_locked(struct dmc_net *net, const struct dmc_net_options *options, struct damacy_error *error)
{
    enum damacy_status status = net->shared_engines.count ? DAMACY_OK : make_engines_locked(net, error);
    if (status == DAMACY_OK && options->cache_dir && !net->shared_cache_made) {
        struct dmc_cache_options cache = {.folder = options->cache_dir,
                                          .bytes_max = options->cache_bytes_max,
                                          .max_age_s = options->cache_max_age_s,
                                          .queue_bytes = net->cache_queue_bytes};
        status = dmc_cache_create(&cache, &net->shared_cache, error);
        net->shared_cache_made = status == DAMACY_OK;
    }
    return status;
}

static void entry_free(struct entry *entry)
{
    if (entry) {
        dmc_store_destroy(entry->cached);
        siblings_destroy(entry->store);
        dmc_free(entry->identity);
        dmc_free(entry);
    }
}

/* Makes one of a store's siblings. NULL: no memory. */
struct maker {
    struct dmc_net_store *(*make)(const struct maker *maker, uint32_t engine);
    const struct dmc_net_options *options;
    const struct dmc_http_url *url;
    struct dmc_s3 *s3;
    const char *bucket;
    size_t bucket_bytes;
};

static struct dmc_net_store *make_http(const struct maker *maker, uint32_t engine)
{
    (void)engine;
    return http_make(maker->options, maker->url);
}

static struct dmc_net_store *make_s3(const struct maker *maker, uint32_t engine)
{
    return dmc_s3_store(maker->s3, engine, maker->bucket, maker->bucket_bytes);
}

/* A store for each engine. */
static enum damacy_status make_siblings_locked(struct dmc_net *net, const struct maker *maker, const char *identity,
                                               const char *origin, struct entry *entry, struct damacy_error *error)
{
    const struct dmc_net_settings *settings = &maker->options->settings;
    enum damacy_status status = DAMACY_OK;
    for (uint32_t i = 0; status == DAMACY_OK && i < net->shared_engines.count; i++) {
        struct dmc_net_store *made = maker->make(maker, i);
        if (!made)
            return dmc_error_set(error, DAMACY_OOM, "config", "no memory for a network store");
        if (i == 0)
            entry->store = made;
        entry->store->siblings[entry->store->sibling_count++] = made;
        made->engine = net->shared_engines.all[i];
        made->settings = settings;
        made->seed = dmc_hash_bytes(identity, strlen(identity), 0x6e65747365656421u);
        made->bytes += i == 0 ? ENTRY_BYTES + 2 * strlen(identity) : 0; /* the cache has a copy, too */
        status = dmc_net_store_enter(made, origin, i == 0 ? NULL : entry->store->endpoint, error);
    }
    return status;
}

/* Make a store, and list it. */
static enum damacy_status enlist_locked(struct dmc_net *net, const struct maker *maker, const char *identity,
                                        const char *origin, struct entry **out, struct damacy_error *error)
{
    if (net->shared_count >= STORES_MAX)
        return dmc_error_set(error, DAMACY_BUDGET, "config", "more than %u network stores", STORES_MAX);
    struct entry *entry = dmc_calloc(1, sizeof *entry);
    if (entry)
        entry->identity = dmc_strdup(identity);
    if (!entry || !entry->identity) {
        entry_free(entry);
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for a network store");
    }
    enum damacy_status status = make_siblings_locked(net, maker, identity, origin, entry, error);
    if (status == DAMACY_OK && net->shared_cache && maker->options->cache_dir)
        status = dmc_store_cache_create(net->shared_cache, &entry->store->store, identity, &entry->cached, error);
    if (status != DAMACY_OK) {
        entry_free(entry);
        return status;
    }
    entry->next = net->shared_entries;
    net->shared_entries = entry;
    net->shared_count++;
    *out = entry;
    return DAMACY_OK;
}

static struct entry *find_locked(struct dmc_net *net, const char *identity)
{
    struct entry *entry = net->shared_entries;
    while (entry && strcmp(entry->identity, identity) != 0)
        entry = entry->next;
    return entry;
}

static enum damacy_status write_prefix(const char *path, size_t bytes, char *prefix, size_t capacity,
                                       struct damacy_error *error)
{
    if (bytes > 0 && *path == '/') {
        path++;
        bytes--;
    }
    while (bytes > 0 && path[bytes - 1] == '/')
        bytes--;
    if (bytes >= capacity)
        return dmc_error_set(error, DAMACY_INVAL, "config", "the uri is too long");
    memcpy(prefix, path, bytes);
    prefix[bytes] = 0;
    return DAMACY_OK;
}

static enum damacy_status resolve_http_locked(struct dmc_net *net, const char *uri, struct entry **entry, const char **path,
                                              size_t *path_bytes, struct damacy_error *error)
{
    const struct dmc_net_options *options = &net->options.families[DMC_NET_HTTP];
    struct dmc_http_url url;
    const char *nonsense = dmc_http_url_parse(uri, &url);
    if (nonsense)
        return dmc_error_set(error, DAMACY_INVAL, "config", "the uri makes no sense: %s", nonsense);
    if (!url.tls && !options->plain_http)
        return dmc_error_set(error, DAMACY_INVAL, "config", "http:// is not encrypted, and allow_http is false");
    *path = url.path;
    *path_bytes = url.path_bytes;
    /* A query and a password are told apart by their hashes: the identity also names files of the cache. */
    struct dmc_text identity = {0}, origin = {0};
    dmc_http_origin(&url, &origin);
    dmc_http_origin(&url, &identity);
    if (url.query)
        dmc_text_format(&identity, "?%016llx", (unsigned long long)dmc_hash_bytes(url.query, url.query_bytes, 1));
    if (url.user_bytes)
        dmc_text_format(&identity, "@%016llx", (unsigned long long)dmc_hash_bytes(url.user, url.user_bytes, 2));
    enum damacy_status status = DAMACY_OK;
    if (identity.failed || origin.failed)
        status = dmc_error_set(error, DAMACY_OOM, "config", "no memory for a network store");
    else if (!(*entry = find_locked(net, identity.data)))
        status = enlist_locked(net, &(struct maker){.make = make_http, .options = options, .url = &url}, identity.data,
                               origin.data, entry, error);
    dmc_text_free(&identity);
    dmc_text_free(&origin);
    return status;
}

static enum damacy_status resolve_s3_locked(struct dmc_net *net, enum dmc_net_family family, const char *rest,
                                            struct entry **entry, const char **path, size_t *path_bytes,
                                            struct damacy_error *error)
{
    const struct dmc_net_options *options = &net->options.families[family];
    enum damacy_status status = DAMACY_OK;
    if (!net->s3[family])
        status = dmc_s3_create(options, family, &net->shared_engines, &net->s3[family], error);
    if (status != DAMACY_OK)
        return status;
    size_t bucket = strcspn(rest, "/");
    *path = rest + bucket;
    *path_bytes = strlen(*path);
    struct dmc_text identity = {0}, origin = {0};
    status = dmc_s3_place(net->s3[family], rest, bucket, &identity, &origin, error);
    if (status == DAMACY_OK && !(*entry = find_locked(net, identity.data)))
        status = enlist_locked(
            net,
            &(struct maker){.make = make_s3, .options = options, .s3 = net->s3[family], .bucket = rest, .bucket_bytes = bucket},
            identity.data, origin.data, entry, error);
    dmc_text_free(&identity);
    dmc_text_free(&origin);
    return status;
}

enum damacy_status dmc_net_resolve(struct dmc_net *net, const char *uri, struct dmc_store **store, char *prefix,
                                   size_t capacity, struct damacy_error *error)
{
    size_t scheme = strcspn(uri, ":");
    bool http = strncasecmp(uri, "http", 4) == 0;
    enum dmc_net_family family = http ? DMC_NET_HTTP : strncasecmp(uri, "gs", 2) == 0 ? DMC_NET_GS : DMC_NET_S3;
    struct entry *entry = NULL;
    const char *path = NULL;
    size_t path_bytes = 0;
    dmc_mutex_lock(&net->lock);
    enum damacy_status status = wake_up_locked(net, &net->options.families[family], error);
    if (status == DAMACY_OK)
        status = http ? resolve_http_locked(net, uri, &entry, &path, &path_bytes, error)
                      : resolve_s3_locked(net, family, uri + scheme + 3, &entry, &path, &path_bytes, error);
    dmc_mutex_unlock(&net->lock);
    if (status == DAMACY_OK)
        status = write_prefix(path, path_bytes, prefix, capacity, error);
    if (status == DAMACY_OK)
        *store = entry->cached ? entry->cached : &entry->store->store;
    return status;
}

/* --- stats --- */

static uint64_t counted(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Of one server, in all engines. */
struct server_sums {
    const char *origin;
    struct damacy_server_stats *stats;
    struct dmc_histogram latency;
    uint64_t shared_requests, shared_bytes;
    uint64_t first_byte_ns, first_byte_count, mib_ns, mib_count; /* sums of those that are known */
};

static void add_server(void *user, const struct dmc_net_endpoint *endpoint)
{
    struct server_sums *sums = user;
    struct damacy_server_stats *stats = sums->stats;
    if (strcmp(endpoint->origin, sums->origin) != 0)
        return;
    sums->shared_requests += counted(&endpoint->shared);
    sums->shared_bytes += counted(&endpoint->shared_bytes);
    stats->requests += counted(&endpoint->requests);
    stats->attempts += counted(&endpoint->attempts);
    stats->retries += counted(&endpoint->retries);
    stats->hedges += counted(&endpoint->hedges);
    stats->hedges_won += counted(&endpoint->hedges_won);
    stats->throttled += counted(&endpoint->throttled);
    stats->stalls += counted(&endpoint->stalls);
    stats->redirects += counted(&endpoint->redirects);
    stats->failures += counted(&endpoint->failures);
    stats->bytes_received += counted(&endpoint->bytes_received);
    stats->bytes_used += counted(&endpoint->bytes_used);
    stats->concurrency += atomic_load_explicit(&endpoint->limit, memory_order_relaxed);
    dmc_histogram_merge(&sums->latency, &endpoint->latency);
    uint64_t first_byte_ns = counted(&endpoint->first_byte_ns), mib_ns = counted(&endpoint->mib_ns);
    sums->first_byte_ns += first_byte_ns;
    sums->first_byte_count += first_byte_ns != 0;
    sums->mib_ns += mib_ns;
    sums->mib_count += mib_ns != 0;
}

struct servers {
    const struct dmc_net_engines *engines;
    struct damacy_remote_stats *stats;
};

/* Called for the endpoints of the first engine, which has those of all. */
static void take_server(void *user, const struct dmc_net_endpoint *endpoint)
{
    const struct servers *servers = user;
    struct damacy_remote_stats *stats = servers->stats;
    struct damacy_server_stats server = {0};
    struct server_sums sums = {.origin = endpoint->origin, .stats = &server};
    for (uint32_t i = 0; i < servers->engines->count; i++)
        dmc_net_engine_endpoints(servers->engines->all[i], add_server, &sums);
    stats->shared_requests += sums.shared_requests;
    stats->shared_bytes += sums.shared_bytes;
    uint64_t index = stats->server_count++;
    if (!stats->servers || index >= stats->server_capacity)
        return;
    server.latency_p50_ns = dmc_histogram_quantile(&sums.latency, 0.5);
    server.latency_p90_ns = dmc_histogram_quantile(&sums.latency, 0.9);
    server.latency_p99_ns = dmc_histogram_quantile(&sums.latency, 0.99);
    server.first_byte_ns = sums.first_byte_count ? sums.first_byte_ns / sums.first_byte_count : 0;
    server.bytes_per_s = sums.mib_count ? (uint64_t)(1048576e9 * (double)sums.mib_count / (double)sums.mib_ns) : 0;
    dmc_text_copy(server.origin, sizeof server.origin, endpoint->origin);
    stats->servers[index] = server;
}

void dmc_net_stats(struct dmc_net *net, struct damacy_remote_stats *stats)
{
    dmc_mutex_lock(&net->lock);
    const struct dmc_net_engines engines = net->shared_engines;
    struct dmc_cache *cache = net->shared_cache;
    dmc_mutex_unlock(&net->lock);
    struct dmc_cache_stats found = {0};
    stats->server_count = stats->shared_requests = stats->shared_bytes = 0;
    if (engines.count)
        dmc_net_engine_endpoints(engines.all[0], take_server, &(struct servers){&engines, stats});
    if (cache)
        dmc_cache_stats_get(cache, &found);
    stats->cache_hits = found.hits;
    stats->cache_hit_bytes = found.hit_bytes;
    stats->cache_misses = found.misses;
    stats->cache_miss_bytes = found.miss_bytes;
    stats->cache_used_bytes = found.used_bytes;
    stats->cache_bytes_max = found.bytes_max;
}
