/* The event thread: inbox, timers, and libcurl's sockets in an epoll. See net_engine.h and net_engine_impl.h. */
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/io_internal.h"
#include "store/net_engine_impl.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_MAX 128
#define CONNECTIONS_KEPT_MAX 512u
/* What one attempt takes: libcurl's buffer of 128 KiB, which older versions have for each, its handle and our own of 16 KiB,
 * and a connection with its TLS state. */
#define ATTEMPT_BYTES (192ull << 10)
#define ATTEMPTS_MIN 4u
#define ATTEMPTS_MAX 16384u
/* What stores and endpoints may have of that: with 128 MiB there is room for as many as there may be at all. */
#define STORES_PART 2u
#define SERVER_BYTES 512u /* what libcurl knows of a server: its address, a TLS session; and the allocator's own */
#define MIB 1048576.0
/* With HTTP/2 so many requests share a connection, not all: a lost packet holds up everything behind it on the same one. */
#define STREAMS_MAX 32L
/* Of bodies that a later batch will ask for again: crops of 2 MiB, 7 batches of 8 of them under way, had up to 2 MiB of them.
 */
#define HOLD_BYTES_MIN (1ull << 20)
#define HOLD_BYTES_MAX (16ull << 20)
/* Of what comes along with indices: it waits for as long as samples are resolved before they are read, some hundred of them. No
 * body takes more than a part of what all engines have. */
#define AHEAD_BYTES_MAX (64ull << 20)
#define AHEAD_PART 8u

/* --- timers: a heap by due_ns --- */

static void heap_place(struct dmc_net_engine *engine, uint32_t at, struct dmc_transfer *transfer)
{
    engine->heap[at] = transfer;
    transfer->timer = at;
}

static void heap_up(struct dmc_net_engine *engine, uint32_t at, struct dmc_transfer *transfer)
{
    while (at > 0 && engine->heap[(at - 1) / 2]->due_ns > transfer->due_ns) {
        heap_place(engine, at, engine->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_place(engine, at, transfer);
}

static void heap_down(struct dmc_net_engine *engine, uint32_t at, struct dmc_transfer *transfer)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= engine->heap_count)
            break;
        if (child + 1 < engine->heap_count && engine->heap[child + 1]->due_ns < engine->heap[child]->due_ns)
            child++;
        if (engine->heap[child]->due_ns >= transfer->due_ns)
            break;
        heap_place(engine, at, engine->heap[child]);
        at = child;
    }
    heap_place(engine, at, transfer);
}

void dmc_engine_timer_off(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    uint32_t at = transfer->timer;
    if (at == DMC_NET_NO_TIMER)
        return;
    transfer->timer = DMC_NET_NO_TIMER;
    struct dmc_transfer *last = engine->heap[--engine->heap_count];
    if (last == transfer)
        return;
    if (at > 0 && engine->heap[(at - 1) / 2]->due_ns > last->due_ns)
        heap_up(engine, at, last);
    else
        heap_down(engine, at, last);
}

void dmc_engine_timer(struct dmc_net_engine *engine, struct dmc_transfer *transfer, uint64_t due_ns)
{
    if (transfer->timer != DMC_NET_NO_TIMER && transfer->due_ns == due_ns)
        return;
    dmc_engine_timer_off(engine, transfer);
    transfer->due_ns = due_ns;
    assert(engine->heap_count < engine->heap_capacity);
    heap_up(engine, engine->heap_count++, transfer);
}

/* --- small things --- */

double dmc_engine_random(struct dmc_net_engine *engine)
{
    engine->random = dmc_hash_u64(engine->random, 0x6a09e667f3bcc909u);
    return (double)(engine->random >> 11) * 0x1p-53;
}

bool dmc_engine_version(struct dmc_net_engine *engine, uint64_t object_hash, uint64_t tag)
{
    if (tag == 0)
        return true;
    struct dmc_version_set *set = &engine->versions[object_hash & (engine->version_sets - 1)];
    uint32_t place = 3;
    for (uint32_t i = 0; i < 4; i++)
        if (set->hashes[i] == object_hash)
            place = i;
    bool known = set->hashes[place] == object_hash;
    if (known && dmc_http_tags_differ(set->tags[place], tag))
        return false;
    for (; place > 0; place--) { /* to the front; what falls out is the one not seen for longest */
        set->hashes[place] = set->hashes[place - 1];
        set->tags[place] = set->tags[place - 1];
    }
    set->hashes[0] = object_hash;
    set->tags[0] = tag;
    return true;
}

static void wake(struct dmc_net_engine *engine)
{
    uint64_t one = 1;
    while (write(engine->wake_fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

/* --- in and out --- */

/* Under the lock. true: the thread sleeps and must be woken, outside the lock. */
static bool list_locked(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    if (!transfer->shared_listed) {
        transfer->shared_listed = true;
        transfer->shared_next = NULL;
        if (engine->shared_inbox_last)
            engine->shared_inbox_last->shared_next = transfer;
        else
            engine->shared_inbox_first = transfer;
        engine->shared_inbox_last = transfer;
    }
    bool asleep = engine->shared_asleep;
    engine->shared_asleep = false;
    return asleep;
}

static void *engine_run(void *argument);

/* What is left for attempts. Those that are under way already end first. */
static void fit_attempts_locked(struct dmc_net_engine *engine)
{
    uint64_t taken =
        engine->shared_store_bytes + engine->shared_transfer_count * (sizeof(struct dmc_transfer) + sizeof(void *));
    uint64_t attempts = (engine->transfers_bytes - dmc_min_u64(engine->transfers_bytes, taken)) / ATTEMPT_BYTES;
    uint32_t most = (uint32_t)dmc_max_u64(ATTEMPTS_MIN, dmc_min_u64(attempts, ATTEMPTS_MAX));
    atomic_store_explicit(&engine->attempts_max, most, memory_order_relaxed);
}

/* A transfer from the pool, or a new one. The heap has room for every transfer that exists, so that no timer ever lacks it. */
static struct dmc_transfer *take_locked(struct dmc_net_engine *engine)
{
    struct dmc_transfer *transfer = engine->shared_free;
    if (transfer) {
        engine->shared_free = transfer->shared_next;
        return transfer;
    }
    if (engine->shared_transfer_count == engine->shared_heap_capacity) {
        uint32_t capacity = engine->shared_heap_capacity ? 2 * engine->shared_heap_capacity : 64;
        struct dmc_transfer **heap = dmc_malloc(capacity * sizeof *heap);
        if (!heap)
            return NULL;
        dmc_free(engine->shared_heap); /* one that the thread has not fetched yet */
        engine->shared_heap = heap;
        engine->shared_heap_capacity = capacity;
    }
    transfer = dmc_calloc(1, sizeof *transfer);
    if (transfer) {
        transfer->timer = DMC_NET_NO_TIMER;
        engine->shared_transfer_count++;
        fit_attempts_locked(engine);
    }
    return transfer;
}

/* Whose object it is. */
static struct dmc_net_store *sibling_of(struct dmc_store *first, const char *key, uint64_t key_hash)
{
    struct dmc_net_store *net = (struct dmc_net_store *)(void *)first;
    if (net->sibling_count < 2)
        return net;
    if (!key_hash)
        key_hash = dmc_hash_bytes(key, strlen(key), 0);
    return net->siblings[key_hash % net->sibling_count];
}

static enum dmc_start start(struct dmc_net_store *store, struct dmc_request *request, const char *query)
{
    struct dmc_net_engine *engine = store->engine;
    if (engine->fork_generation != dmc_fork_generation()) {
        dmc_request_fail(request, DAMACY_FORKED, 0, "the process was forked after this store was made");
        return DMC_START_DONE;
    }
    dmc_mutex_lock(&engine->lock);
    int os_error = 0;
    if (!engine->shared_started) {
        os_error = dmc_thread_start(&engine->thread, "dmc-net", engine_run, engine);
        engine->shared_started = os_error == 0;
    }
    struct dmc_transfer *transfer = os_error ? NULL : take_locked(engine);
    bool asleep = false;
    if (transfer) {
        request->holder = &store->store;
        request->store_data = transfer;
        transfer->shared_request = request;
        transfer->shared_cancel = false;
        transfer->shared_new = true;
        transfer->store = store;
        transfer->query = query;
        asleep = list_locked(engine, transfer);
    }
    dmc_mutex_unlock(&engine->lock);
    if (asleep)
        wake(engine);
    if (transfer)
        return DMC_START_PENDING;
    dmc_request_fail(request, os_error ? DAMACY_IO : DAMACY_OOM, os_error,
                     os_error ? "cannot start the network thread" : "no memory for a network request");
    return DMC_START_DONE;
}

enum dmc_start dmc_net_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    (void)io;
    return start(sibling_of(store, request->key, request->key_hash), request, NULL);
}

void dmc_net_expect(struct dmc_store *store, const char *key, uint64_t key_hash, uint64_t offset, uint64_t bytes)
{
    if (!key_hash)
        key_hash = dmc_hash_bytes(key, strlen(key), 0);
    const struct dmc_net_store *net = sibling_of(store, key, key_hash);
    uint64_t object_hash = dmc_hash_u64(key_hash, net->seed);
    dmc_hold_expect(net->engine->hold, object_hash, offset, offset + bytes);
    dmc_ahead_expect(net->engine->ahead, object_hash, offset, offset + bytes);
}

/* The request is pending with this store, its holder, or just came back: the lock tells, since completion clears shared_request
 * under it. */
void dmc_net_cancel(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    (void)io;
    struct dmc_net_engine *engine = ((struct dmc_net_store *)store)->engine;
    if (engine->fork_generation != dmc_fork_generation())
        return;
    dmc_mutex_lock(&engine->lock);
    struct dmc_transfer *transfer = request->store_data;
    bool asleep = false;
    if (transfer && transfer->shared_request == request) {
        transfer->shared_cancel = true;
        asleep = list_locked(engine, transfer);
    }
    dmc_mutex_unlock(&engine->lock);
    if (asleep)
        wake(engine);
}

void dmc_engine_complete(struct dmc_net_engine *engine, struct dmc_transfer *transfer)
{
    struct dmc_request *request = transfer->request;
    dmc_engine_timer_off(engine, transfer);
    transfer->request = NULL;
    if (transfer->ahead) {
        dmc_ahead_drop(engine->ahead, transfer->ahead);
        transfer->ahead = NULL;
    }
    dmc_mutex_lock(&engine->lock);
    transfer->shared_request = NULL;
    request->store_data = NULL;
    if (!transfer->shared_listed) { /* else the inbox frees it */
        transfer->shared_next = engine->shared_free;
        engine->shared_free = transfer;
    }
    dmc_mutex_unlock(&engine->lock);
    dmc_io_complete(request);
}

/* Take in what came. false: stop. */
static bool read_inbox(struct dmc_net_engine *engine)
{
    bool credentials;
    for (;;) {
        dmc_mutex_lock(&engine->lock);
        if (engine->shared_heap_capacity > engine->heap_capacity) {
            struct dmc_transfer **old = engine->heap;
            if (engine->heap_count)
                memcpy(engine->shared_heap, old, engine->heap_count * sizeof *old);
            engine->heap = engine->shared_heap;
            engine->heap_capacity = engine->shared_heap_capacity;
            engine->shared_heap = NULL;
            dmc_free(old);
        }
        bool stop = engine->shared_stop;
        credentials = engine->shared_credentials;
        engine->shared_credentials = false;
        struct dmc_transfer *transfer = stop ? NULL : engine->shared_inbox_first;
        bool is_new = false, cancel = false;
        if (transfer) {
            engine->shared_inbox_first = transfer->shared_next;
            if (!engine->shared_inbox_first)
                engine->shared_inbox_last = NULL;
            transfer->shared_listed = false;
            is_new = transfer->shared_new;
            cancel = transfer->shared_cancel;
            transfer->shared_new = false;
            if (!transfer->shared_request) { /* cancelled when it was over already */
                transfer->shared_next = engine->shared_free;
                engine->shared_free = transfer;
                is_new = cancel = false;
            } else if (is_new) {
                transfer->request = transfer->shared_request;
            }
        }
        dmc_mutex_unlock(&engine->lock);
        if (stop)
            return false;
        if (credentials) {
            struct dmc_transfer *next = engine->waiting_first;
            while (next) {
                struct dmc_transfer *waiting = next;
                next = waiting->next;
                dmc_transfer_unqueue(engine, waiting);
                dmc_transfer_queue(engine, waiting);
            }
        }
        if (!transfer)
            return true;
        if (is_new)
            dmc_transfer_begin(engine, transfer);
        if (cancel)
            dmc_transfer_cancel(engine, transfer);
        else if (is_new)
            dmc_transfer_enter(engine, transfer);
    }
}

void dmc_net_engine_credentials(struct dmc_net_engine *engine)
{
    dmc_mutex_lock(&engine->lock);
    engine->shared_credentials = true;
    bool asleep = engine->shared_asleep;
    engine->shared_asleep = false;
    dmc_mutex_unlock(&engine->lock);
    if (asleep)
        wake(engine);
}

/* --- lanes --- */

/* A quarter of what memory allows is kept for metadata, for which everything else waits. */
static bool has_room(struct dmc_net_engine *engine, enum dmc_net_lane_kind kind)
{
    uint32_t most = dmc_engine_attempts_max(engine);
    return engine->attempts_out < (kind == DMC_NET_METADATA ? most : most - most / 4);
}

/* What waits in front may run, as far as the server goes. What is tried again is no late comer: it may have failed for too much
 * being under way. */
static bool lane_goes_on(const struct dmc_net_lane *lane)
{
    const struct dmc_transfer *first = lane->first;
    return first && dmc_net_endpoint_has_room(lane, dmc_transfer_has_waited(first) ? UINT64_MAX : first->age_ns);
}

static void pump_one(struct dmc_net_engine *engine, struct dmc_net_endpoint *endpoint)
{
    uint64_t pause_until_ns = atomic_load_explicit(&endpoint->first->shared_pause_until_ns, memory_order_relaxed);
    if (pause_until_ns && dmc_clock_ns() < pause_until_ns) {
        engine->pause_due_ns = dmc_min_u64(engine->pause_due_ns, pause_until_ns);
        return;
    }
    if (endpoint->pumping)
        return;
    endpoint->pumping = true;
    for (uint32_t i = 0; i < DMC_NET_LANES; i++) {
        struct dmc_net_lane *lane = &endpoint->lanes[i];
        while (lane_goes_on(lane) && has_room(engine, (enum dmc_net_lane_kind)i)) {
            struct dmc_transfer *transfer = lane->first;
            dmc_transfer_unqueue(engine, transfer);
            dmc_transfer_start(engine, transfer);
        }
        engine->crowded |= lane_goes_on(lane);
    }
    endpoint->pumping = false;
}

static struct dmc_net_endpoint *endpoints_of(struct dmc_net_engine *engine)
{
    dmc_mutex_lock(&engine->lock);
    struct dmc_net_endpoint *first = engine->shared_endpoints; /* only ever grows at this end */
    dmc_mutex_unlock(&engine->lock);
    return first;
}

void dmc_engine_pump(struct dmc_net_engine *engine, struct dmc_net_endpoint *endpoint)
{
    if (!engine->crowded || engine->pumping_all) {
        pump_one(engine, endpoint);
        return;
    }
    engine->pumping_all = true;
    /* The one whose attempt ended comes last, so that whoever waits for its room gets it. */
    engine->crowded = false;
    for (struct dmc_net_endpoint *other = endpoint->next; other; other = other->next)
        pump_one(engine, other);
    for (struct dmc_net_endpoint *other = endpoints_of(engine); other != endpoint; other = other->next)
        pump_one(engine, other);
    pump_one(engine, endpoint);
    engine->pumping_all = false;
}

static void pump_paused(struct dmc_net_engine *engine)
{
    engine->pause_due_ns = UINT64_MAX;
    for (struct dmc_net_endpoint *endpoint = endpoints_of(engine); endpoint; endpoint = endpoint->next)
        if (atomic_load_explicit(&endpoint->first->shared_pause_until_ns, memory_order_relaxed))
            pump_one(engine, endpoint);
}

/* --- libcurl --- */

/* NULL: one that is watched only while libcurl asks for it. */
static struct dmc_net_socket *told_socket(struct dmc_net_engine *engine, curl_socket_t socket)
{
    return socket >= 0 && socket < DMC_NET_SOCKETS_MAX && engine->sockets[socket].told ? &engine->sockets[socket] : NULL;
}

static void unwatch(struct dmc_net_engine *engine, curl_socket_t socket)
{
    epoll_ctl(engine->epoll_fd, EPOLL_CTL_DEL, socket, NULL);
    struct dmc_net_socket *told = told_socket(engine, socket);
    if (told)
        told->watched = 0;
}

int dmc_engine_socket_opened(void *user, curl_socket_t socket, curlsocktype purpose)
{
    (void)purpose;
    struct dmc_net_engine *engine = user;
    if (socket >= 0 && socket < DMC_NET_SOCKETS_MAX)
        engine->sockets[socket] = (struct dmc_net_socket){.told = true};
    return CURL_SOCKOPT_OK;
}

/* Closing alone would leave it in the epoll where a forked child still has it open. */
int dmc_engine_socket_close(void *user, curl_socket_t socket)
{
    struct dmc_net_engine *engine = user;
    struct dmc_net_socket *told = told_socket(engine, socket);
    if (told && told->watched)
        unwatch(engine, socket);
    if (told)
        told->told = false;
    return close(socket);
}

static int socket_wanted(CURL *easy, curl_socket_t socket, int what, void *user, void *socket_user)
{
    (void)easy;
    (void)socket_user;
    struct dmc_net_engine *engine = user;
    struct dmc_net_socket *told = told_socket(engine, socket);
    if (told) {
        told->idle = what == CURL_POLL_REMOVE;
        if (told->idle || told->watched == what)
            return 0;
    } else if (what == CURL_POLL_REMOVE) {
        unwatch(engine, socket);
        return 0;
    }
    struct epoll_event event = {.data.fd = socket};
    if (what & CURL_POLL_IN)
        event.events |= EPOLLIN;
    if (what & CURL_POLL_OUT)
        event.events |= EPOLLOUT;
    int failed = epoll_ctl(engine->epoll_fd, EPOLL_CTL_MOD, socket, &event);
    if (failed && errno == ENOENT)
        failed = epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, socket, &event);
    if (told)
        told->watched = failed ? 0 : (uint8_t)what;
    return 0;
}

static int timer_wanted(CURLM *multi, long timeout_ms, void *user)
{
    (void)multi;
    struct dmc_net_engine *engine = user;
    engine->curl_due_ns = timeout_ms < 0 ? UINT64_MAX : dmc_clock_ns() + (uint64_t)timeout_ms * 1000000u;
    return 0;
}

static void collect(struct dmc_net_engine *engine)
{
    int left;
    CURLMsg *message;
    while ((message = engine->curl->multi_info_read(engine->multi, &left))) {
        if (message->msg != CURLMSG_DONE)
            continue;
        char *attempt = NULL;
        CURLcode code = message->data.result;
        engine->curl->easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &attempt);
        dmc_transfer_attempt_over(engine, (struct dmc_attempt *)(void *)attempt, code);
    }
}

static int timeout_ms(const struct dmc_net_engine *engine)
{
    uint64_t due_ns = dmc_min_u64(engine->curl_due_ns, engine->pause_due_ns);
    if (engine->heap_count)
        due_ns = dmc_min_u64(due_ns, engine->heap[0]->due_ns);
    if (due_ns == UINT64_MAX)
        return -1;
    uint64_t now_ns = dmc_clock_ns();
    return due_ns <= now_ns ? 0 : (int)dmc_min_u64((due_ns - now_ns + 999999) / 1000000, 60000);
}

static void step(struct dmc_net_engine *engine)
{
    struct epoll_event events[EVENTS_MAX];
    int running;
    int timeout = timeout_ms(engine);
    if (timeout != 0) { /* else what came meanwhile is found in the next round */
        dmc_mutex_lock(&engine->lock);
        bool sleep = !engine->shared_inbox_first && !engine->shared_stop && !engine->shared_credentials;
        engine->shared_asleep = sleep;
        dmc_mutex_unlock(&engine->lock);
        if (!sleep)
            timeout = 0;
    }
    int count = epoll_wait(engine->epoll_fd, events, EVENTS_MAX, timeout);
    if (timeout != 0) {
        dmc_mutex_lock(&engine->lock);
        engine->shared_asleep = false;
        dmc_mutex_unlock(&engine->lock);
    }
    for (int i = 0; i < count; i++) {
        uint64_t woken;
        if (events[i].data.fd == engine->wake_fd) {
            if (read(engine->wake_fd, &woken, sizeof woken) < 0)
                assert(errno == EINTR || errno == EAGAIN);
            continue;
        }
        const struct dmc_net_socket *told = told_socket(engine, events[i].data.fd);
        if (told && told->idle) { /* libcurl looks whether the server is still there before it asks again */
            unwatch(engine, events[i].data.fd);
            continue;
        }
        int what = 0;
        if (events[i].events & EPOLLIN)
            what |= CURL_CSELECT_IN;
        if (events[i].events & EPOLLOUT)
            what |= CURL_CSELECT_OUT;
        if (events[i].events & (EPOLLERR | EPOLLHUP))
            what |= CURL_CSELECT_ERR;
        engine->curl->multi_socket_action(engine->multi, events[i].data.fd, what, &running);
    }
    uint64_t now_ns = dmc_clock_ns();
    if (engine->curl_due_ns <= now_ns) {
        engine->curl_due_ns = UINT64_MAX;
        engine->curl->multi_socket_action(engine->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    collect(engine);
    while (engine->heap_count && engine->heap[0]->due_ns <= now_ns) {
        struct dmc_transfer *transfer = engine->heap[0];
        dmc_engine_timer_off(engine, transfer);
        dmc_transfer_due(engine, transfer);
    }
    if (engine->pause_due_ns <= now_ns)
        pump_paused(engine);
}

static void *engine_run(void *argument)
{
    struct dmc_net_engine *engine = argument;
    while (read_inbox(engine))
        step(engine);
    return NULL;
}

/* --- life --- */

static bool make_multi(struct dmc_net_engine *engine)
{
    const struct dmc_curl *curl = engine->curl;
    engine->multi = curl->multi_init();
    if (!engine->multi)
        return false;
    curl->multi_setopt(engine->multi, CURLMOPT_SOCKETFUNCTION, socket_wanted);
    curl->multi_setopt(engine->multi, CURLMOPT_SOCKETDATA, engine);
    curl->multi_setopt(engine->multi, CURLMOPT_TIMERFUNCTION, timer_wanted);
    curl->multi_setopt(engine->multi, CURLMOPT_TIMERDATA, engine);
    curl->multi_setopt(engine->multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
    curl->multi_setopt(engine->multi, CURLMOPT_MAXCONNECTS,
                       (long)dmc_min_u64(CONNECTIONS_KEPT_MAX / engine->count, dmc_engine_attempts_max(engine)));
    curl->multi_setopt(engine->multi, CURLMOPT_MAX_CONCURRENT_STREAMS,
                       STREAMS_MAX); /* unknown to libcurl before 7.67: no harm */
    return true;
}

void dmc_net_engine_free(struct dmc_net_engine *engine)
{
    if (!engine)
        return;
    for (uint32_t i = 0; i < engine->heap_count; i++) /* what was left behind: its request stays as it is */
        for (uint32_t a = 0; a < DMC_NET_ATTEMPTS; a++)
            if (engine->heap[i]->attempts[a])
                dmc_attempt_give_back(engine, engine->heap[i]->attempts[a]);
    for (struct dmc_attempt *attempt = engine->free_attempts, *next; attempt; attempt = next) {
        next = attempt->next;
        dmc_attempt_free(engine, attempt);
    }
    if (engine->multi)
        engine->curl->multi_cleanup(engine->multi);
    for (struct dmc_transfer *transfer = engine->shared_free, *next; transfer; transfer = next) {
        next = transfer->shared_next;
        dmc_text_free(&transfer->redirect);
        dmc_free(transfer);
    }
    for (struct dmc_net_endpoint *endpoint = engine->shared_endpoints, *next; endpoint; endpoint = next) {
        next = endpoint->next;
        dmc_free(endpoint->origin);
        dmc_free(endpoint);
    }
    dmc_free(engine->shared_heap);
    dmc_free(engine->heap);
    dmc_hold_destroy(engine->hold);
    dmc_ahead_destroy(engine->ahead);
    dmc_pages_unmap(engine->versions, engine->version_sets * sizeof *engine->versions);
    if (engine->epoll_fd >= 0)
        close(engine->epoll_fd);
    if (engine->wake_fd >= 0)
        close(engine->wake_fd);
    dmc_mutex_deinit(&engine->lock);
    dmc_free(engine);
}

/* Share the memory out: a sixteenth for the versions of objects, three more for bodies that are kept for a while where that is
 * worth it, the rest for what is under way. */
static void divide(struct dmc_net_engine *engine, uint64_t memory_bytes)
{
    engine->version_sets = DMC_VERSION_SETS_MIN;
    while (engine->version_sets < DMC_VERSION_SETS_MAX &&
           2ull * engine->version_sets * sizeof *engine->versions <= memory_bytes / 16)
        engine->version_sets *= 2;
    uint64_t versions_bytes = engine->version_sets * sizeof *engine->versions;
    engine->hold_bytes = memory_bytes / 16 >= HOLD_BYTES_MIN ? dmc_min_u64(memory_bytes / 16, HOLD_BYTES_MAX) : 0;
    engine->ahead_bytes_max = engine->hold_bytes ? dmc_min_u64(memory_bytes / 8, AHEAD_BYTES_MAX) : 0;
    uint64_t hold_bytes = engine->hold_bytes ? engine->hold_bytes + dmc_hold_table_bytes() + engine->ahead_bytes_max : 0;
    engine->transfers_bytes = memory_bytes - dmc_min_u64(memory_bytes, versions_bytes + hold_bytes);
    fit_attempts_locked(engine);
}

enum damacy_status dmc_net_engine_create(const struct dmc_curl *curl, uint64_t memory_bytes, uint32_t count,
                                         struct dmc_net_engine **out, struct damacy_error *error)
{
    struct dmc_net_engine *engine = dmc_calloc(1, sizeof *engine);
    if (!engine)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the network engine");
    engine->curl = curl;
    engine->count = count;
    divide(engine, memory_bytes);
    engine->fork_generation = dmc_fork_generation();
    engine->curl_due_ns = engine->pause_due_ns = UINT64_MAX;
    engine->random = dmc_hash_u64(dmc_clock_ns(), (uintptr_t)engine);
    dmc_mutex_init(&engine->lock);
    engine->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    engine->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = engine->wake_fd};
    if (engine->epoll_fd < 0 || engine->wake_fd < 0 ||
        epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, engine->wake_fd, &event) < 0) {
        int os_error = errno;
        dmc_net_engine_free(engine);
        return dmc_error_set_os(error, DAMACY_IO, "config", os_error, "cannot create the network engine's epoll");
    }
    engine->versions =
        dmc_pages_map(engine->version_sets * sizeof *engine->versions); /* pages are touched as objects are seen */
    engine->hold = engine->hold_bytes ? dmc_hold_create(engine->hold_bytes) : NULL;
    engine->ahead = engine->ahead_bytes_max ? dmc_ahead_create(engine->ahead_bytes_max) : NULL;
    if (!engine->versions || (engine->hold_bytes && !engine->hold) || (engine->ahead_bytes_max && !engine->ahead) ||
        !make_multi(engine)) {
        dmc_net_engine_free(engine);
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the network engine");
    }
    *out = engine;
    return DAMACY_OK;
}

bool dmc_net_engine_stop(struct dmc_net_engine *engine)
{
    if (engine->fork_generation != dmc_fork_generation())
        return false; /* thread, sockets and locks are the parent's */
    dmc_mutex_lock(&engine->lock);
    engine->shared_stop = true;
    dmc_mutex_unlock(&engine->lock);
    wake(engine);
    return true;
}

bool dmc_net_engine_join(struct dmc_net_engine *engine, uint64_t deadline_ns)
{
    dmc_mutex_lock(&engine->lock);
    bool started = engine->shared_started;
    dmc_mutex_unlock(&engine->lock);
    if (started && !dmc_thread_join_until(engine->thread, deadline_ns)) {
        dmc_log(DMC_STORE, DAMACY_LOG_WARN, "the network thread did not end in time and was left behind");
        return false;
    }
    return true;
}

static struct dmc_net_endpoint *make_endpoint(const struct dmc_net_store *store, const char *origin,
                                              struct dmc_net_endpoint *first)
{
    struct dmc_net_endpoint *endpoint = dmc_calloc(1, sizeof *endpoint);
    char *copy = endpoint ? dmc_strdup(origin) : NULL;
    if (!copy) {
        dmc_free(endpoint);
        return NULL;
    }
    dmc_net_endpoint_init(endpoint, store->settings->concurrency_max, store->engine->count, store->settings->hedge_share);
    endpoint->origin = copy;
    if (first)
        endpoint->first = first;
    return endpoint;
}

/* Has the engine room for so much more of stores and endpoints? */
static enum damacy_status check_room_locked(const struct dmc_net_engine *engine, uint64_t bytes, struct damacy_error *error)
{
    uint64_t most = engine->transfers_bytes / STORES_PART;
    if (bytes <= most - dmc_min_u64(most, engine->shared_store_bytes))
        return DAMACY_OK;
    dmc_error_set(error, DAMACY_BUDGET, "config",
                  "no room for another server: what is known of %u servers takes %.1f MiB of the %.1f MiB there are for it",
                  engine->shared_endpoint_count, (double)(engine->shared_store_bytes * engine->count) / MIB,
                  (double)(most * engine->count) / MIB);
    dmc_error_hint(error, "raise max_host_memory_bytes");
    return DAMACY_BUDGET;
}

static enum damacy_status enter_locked(struct dmc_net_store *store, const char *origin, struct dmc_net_endpoint *first,
                                       struct damacy_error *error)
{
    struct dmc_net_engine *engine = store->engine;
    struct dmc_net_endpoint *endpoint = engine->shared_endpoints;
    uint64_t bytes = store->bytes;
    while (endpoint && strcmp(endpoint->origin, origin) != 0)
        endpoint = endpoint->next;
    if (!endpoint) {
        if (engine->shared_endpoint_count >= DMC_NET_ENDPOINTS_MAX)
            return dmc_error_set(error, DAMACY_BUDGET, "config", "more than %u servers", DMC_NET_ENDPOINTS_MAX);
        bytes += sizeof *endpoint + strlen(origin) + 1 + SERVER_BYTES;
    }
    enum damacy_status status = check_room_locked(engine, bytes, error);
    if (status != DAMACY_OK)
        return status;
    if (!endpoint) {
        endpoint = make_endpoint(store, origin, first);
        if (!endpoint)
            return dmc_error_set(error, DAMACY_OOM, "config", "no memory for a network store");
        endpoint->next = engine->shared_endpoints;
        engine->shared_endpoints = endpoint;
        engine->shared_endpoint_count++;
    }
    store->endpoint = endpoint;
    engine->shared_store_bytes += bytes;
    fit_attempts_locked(engine);
    return DAMACY_OK;
}

enum damacy_status dmc_net_store_enter(struct dmc_net_store *store, const char *origin, struct dmc_net_endpoint *first,
                                       struct damacy_error *error)
{
    dmc_mutex_lock(&store->engine->lock);
    enum damacy_status status = enter_locked(store, origin, first, error);
    dmc_mutex_unlock(&store->engine->lock);
    return status;
}

void dmc_net_store_leave(struct dmc_net_store *store)
{
    if (!store->endpoint)
        return;
    struct dmc_net_engine *engine = store->engine;
    dmc_mutex_lock(&engine->lock);
    engine->shared_store_bytes -= store->bytes;
    fit_attempts_locked(engine);
    dmc_mutex_unlock(&engine->lock);
}

void dmc_net_engine_endpoints(struct dmc_net_engine *engine, void (*visit)(void *user, const struct dmc_net_endpoint *endpoint),
                              void *user)
{
    dmc_mutex_lock(&engine->lock);
    const struct dmc_net_endpoint *endpoint = engine->shared_endpoints;
    dmc_mutex_unlock(&engine->lock);
    for (; endpoint; endpoint = endpoint->next)
        visit(user, endpoint);
}

/* --- what follows from what was learnt --- */

/* A request more costs a first byte's wait, shared by all that are under way at the same time. Reading so many bytes in vain
 * instead costs the same: what one connection brings in that time. Never less than what the work for a request costs on both
 * sides even without any latency (50 to 80 us, in which 16 KiB or more would have come), and never so much that amplification
 * gets out of hand. Crops out of chunks of 57 KB: limits of 16 to 48 KiB lead to the same requests, 96 KiB to 29 % fewer for
 * 16 % more bytes, which takes as much processor time. */
#define GAP_MIN (16u << 10)
#define GAP_MAX (32u << 10)
#define READ_MIN (1u << 20)
#define READ_MAX (8u << 20)

/* The first of the engines that knows the server stands for all. */
struct learnt {
    uint64_t first_ns, mib_ns; /* 0: not known yet */
    uint32_t limit;            /* of all together */
    bool ahead_refused;
};

static struct learnt learnt_of(const struct dmc_net_store *net)
{
    struct learnt learnt = {0};
    for (uint32_t i = 0; i < net->sibling_count; i++) {
        const struct dmc_net_endpoint *endpoint = net->siblings[i]->endpoint;
        uint64_t first_ns = atomic_load_explicit(&endpoint->first_byte_ns, memory_order_relaxed);
        learnt.limit += atomic_load_explicit(&endpoint->limit, memory_order_relaxed);
        learnt.ahead_refused |= atomic_load_explicit(&endpoint->ahead_refused, memory_order_relaxed);
        if (first_ns && (learnt.first_ns == 0 || learnt.mib_ns == 0)) {
            learnt.first_ns = first_ns;
            learnt.mib_ns = atomic_load_explicit(&endpoint->mib_ns, memory_order_relaxed);
        }
    }
    return learnt;
}

/* Bytes that one connection brings while it would wait; 0: not known yet. */
static uint64_t bytes_of_a_wait(const struct learnt *learnt)
{
    if (learnt->first_ns == 0 || learnt->mib_ns == 0)
        return 0;
    return (uint64_t)((double)learnt->first_ns * 1048576.0 / (double)learnt->mib_ns);
}

/* A request that takes as long to come as to begin uses half of what a connection can do; four times that is nearly all. */
static uint64_t read_bytes_max(const struct learnt *learnt)
{
    return dmc_max_u64(READ_MIN, dmc_min_u64(4 * bytes_of_a_wait(learnt), READ_MAX));
}

void dmc_net_hint(struct dmc_store *store, struct dmc_store_hint *hint)
{
    struct learnt learnt = learnt_of((const struct dmc_net_store *)store);
    uint64_t gap_bytes = bytes_of_a_wait(&learnt) / (learnt.limit ? learnt.limit : 1);
    hint->remote = true;
    hint->coalesce_gap_bytes = dmc_max_u64(GAP_MIN, dmc_min_u64(gap_bytes, GAP_MAX));
    hint->coalesce_read_bytes_max = read_bytes_max(&learnt);
}

/* With an index, what would be one request by itself: then one for both is quicker than two by a whole first byte, at any
 * latency and rate. What would be several at the same time is not worth waiting for in a row. */
uint64_t dmc_net_ahead(struct dmc_store *store)
{
    const struct dmc_net_store *net = (const struct dmc_net_store *)store;
    const struct dmc_net_engine *engine = net->engine;
    uint64_t most = dmc_min_u64(engine->ahead_bytes_max * engine->count / AHEAD_PART, engine->ahead_bytes_max / 2), room = 0;
    struct learnt learnt = learnt_of(net);
    if (most == 0 || learnt.ahead_refused)
        return 0;
    most = dmc_min_u64(dmc_min_u64(most, net->settings->index_ahead_bytes_max), read_bytes_max(&learnt));
    for (uint32_t i = 0; i < net->sibling_count; i++) /* whose object it will be is not known here: it may have less */
        room = dmc_max_u64(room, dmc_ahead_room(net->siblings[i]->engine->ahead));
    return dmc_min_u64(most, room);
}

/* --- a fetch that waits --- */

struct fetch {
    struct dmc_store store; /* whose start knows the query */
    struct dmc_net_store *inner;
    const char *query;
};

static enum dmc_start fetch_start(struct dmc_store *store, struct dmc_io *io, struct dmc_request *request)
{
    (void)io;
    struct fetch *fetch = (struct fetch *)store;
    return start(fetch->inner, request, fetch->query);
}

static const struct dmc_store_ops fetch_ops = {.scheme = "fetch", .start = fetch_start};

enum damacy_status dmc_net_fetch(struct dmc_net_store *store, const char *key, const char *query, char *buffer,
                                 uint64_t capacity, uint64_t *bytes, enum dmc_outcome *outcome, struct damacy_error *error)
{
    struct dmc_io *io = NULL;
    struct dmc_io_options options = {.depth = 1, .io_uring_never = true};
    enum damacy_status status = dmc_io_create(&options, &io, error);
    if (status != DAMACY_OK)
        return status;
    struct fetch fetch = {.store.ops = &fetch_ops, .inner = store, .query = query};
    struct iovec part = {buffer, capacity};
    struct dmc_request request = {.store = &fetch.store,
                                  .key = key,
                                  .kind = DMC_RANGE_WHOLE,
                                  .parts = &part,
                                  .part_count = 1,
                                  .error = error,
                                  .metadata = true};
    if (dmc_store_start(io, &request) == DMC_START_PENDING)
        while (!dmc_io_wait(io, UINT64_MAX)) {
        }
    dmc_io_destroy(io, UINT64_MAX);
    *bytes = request.bytes_read;
    *outcome = request.outcome;
    return request.outcome == DMC_OUTCOME_FAILED ? request.status : DAMACY_OK;
}
