/* One exchange with a server. What is asked follows from what the transfer lacks; what the answer means is judged when its
 * headers are there (struct dmc_attempt's verdict), before any byte of a body is used.
 *
 * An answer is believed only as far as it agrees with the question: a 206 must say which range it has, and that must be the one
 * asked for (or its beginning, where the object ends); a 200 to a question for a range is the whole object, whose beginning is
 * thrown away. */
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "store/io_internal.h"
#include "store/net_engine_impl.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* libcurl's, one for each transfer under way. For answers of 110 KB nothing from 16 to 256 KiB takes measurably less time. */
#define RECEIVE_BUFFER_BYTES (128L << 10)
#define DRAIN_BYTES 65536u       /* cheaper to read to the end than to open a new connection */
#define HEADERS_MAX (256u << 10) /* less than newer versions of libcurl take, and older ones take any amount */

/* --- headers of the question --- */

void dmc_net_header(struct dmc_net_headers *headers, const char *format, ...)
{
    if (headers->count == DMC_NET_HEADERS_MAX) {
        headers->failed = true;
        return;
    }
    char small[512], *line = small;
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int bytes = vsnprintf(small, sizeof small, format, arguments);
    va_end(arguments);
    if (bytes >= (int)sizeof small && (line = dmc_malloc((size_t)bytes + 1)))
        vsnprintf(line, (size_t)bytes + 1, format, again);
    va_end(again);
    headers->failed |= bytes < 0 || !line;
    if (line && bytes >= 0) {
        headers->offsets[headers->count++] = headers->text.length;
        dmc_text_bytes(&headers->text, line, (size_t)bytes + 1);
        explicit_bzero(line, (size_t)bytes + 1);
    }
    if (line != small)
        dmc_free(line);
}

static struct curl_slist *link_headers(struct dmc_net_headers *headers)
{
    if (headers->text.failed || headers->count == 0)
        return NULL;
    for (uint32_t i = 0; i < headers->count; i++) {
        headers->nodes[i].data = headers->text.data + headers->offsets[i];
        headers->nodes[i].next = i + 1 < headers->count ? &headers->nodes[i + 1] : NULL;
    }
    return headers->nodes;
}

/* --- where bytes go --- */

static void seek(struct dmc_attempt *attempt, uint64_t position)
{
    const struct dmc_transfer *transfer = attempt->transfer;
    attempt->position = position;
    attempt->part = 0;
    while (attempt->part < transfer->part_count && position >= transfer->parts[attempt->part].iov_len)
        position -= transfer->parts[attempt->part++].iov_len;
    attempt->part_offset = position;
}

static void store_bytes(struct dmc_attempt *attempt, const char *from, uint64_t bytes)
{
    struct dmc_transfer *transfer = attempt->transfer;
    attempt->position += bytes;
    while (bytes > 0) {
        assert(attempt->part < transfer->part_count);
        const struct iovec *part = &transfer->parts[attempt->part];
        uint64_t count = dmc_min_u64(bytes, part->iov_len - attempt->part_offset);
        memcpy((char *)part->iov_base + attempt->part_offset, from, count);
        from += count;
        bytes -= count;
        attempt->part_offset += count;
        while (attempt->part < transfer->part_count && attempt->part_offset == transfer->parts[attempt->part].iov_len) {
            attempt->part++;
            attempt->part_offset = 0;
        }
    }
    transfer->covered = dmc_max_u64(transfer->covered, attempt->position);
}

/* --- judging --- */

static enum dmc_verdict refuse(struct dmc_transfer *transfer, enum dmc_verdict verdict, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static enum dmc_verdict refuse(struct dmc_transfer *transfer, enum dmc_verdict verdict, const char *format, ...)
{
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    dmc_error_set(&transfer->error, DAMACY_IO, "read", "%s", what);
    return verdict;
}

static enum dmc_verdict changed(struct dmc_transfer *transfer)
{
    refuse(transfer, DMC_VERDICT_FAILED, "the object changed while it was in use");
    dmc_error_hint(&transfer->error,
                   "open it anew, or set check_versions to false where servers disagree about tags of one object");
    return DMC_VERDICT_FAILED;
}

/* The object is the one that was seen before, in this transfer and in earlier ones. */
static bool same_version(struct dmc_net_engine *engine, struct dmc_transfer *transfer, const struct dmc_http_response *response,
                         uint64_t object_bytes)
{
    uint64_t tag = response->version_tag;
    bool size_differs =
        object_bytes != UINT64_MAX && transfer->object_bytes != UINT64_MAX && object_bytes != transfer->object_bytes;
    if (transfer->settings->check_versions && (size_differs || dmc_http_tags_differ(transfer->version_tag, tag) ||
                                               !dmc_engine_version(engine, transfer->object_hash, tag)))
        return false;
    if (object_bytes != UINT64_MAX)
        transfer->object_bytes = object_bytes;
    if (tag) {
        transfer->version_tag = tag;
        memcpy(transfer->etag, response->etag, sizeof transfer->etag);
    }
    return true;
}

/* The range ends where the object does. Of what was to come along nothing is missed. */
static void cut_at_end(struct dmc_transfer *transfer, uint64_t object_bytes)
{
    uint64_t there = object_bytes > transfer->absolute ? object_bytes - transfer->absolute : 0;
    if (there < transfer->length) {
        transfer->length = there;
        transfer->truncated = there < transfer->own_bytes;
    }
}

/* A suffix: now it is known where it begins, and that its last `sent` bytes come. false: the object is shorter. Before this no
 * byte of the range was stored, so less may come along than there is room for. */
static bool place_suffix(struct dmc_transfer *transfer, uint64_t object_bytes, uint64_t sent)
{
    if (object_bytes < transfer->own_bytes)
        return false;
    uint64_t most = dmc_min_u64(object_bytes, dmc_max_u64(sent, transfer->own_bytes));
    if (most < transfer->capacity) {
        transfer->ahead_parts[0].iov_len = most - transfer->own_bytes;
        transfer->capacity = transfer->length = most;
    }
    transfer->absolute = object_bytes - transfer->capacity;
    return true;
}

static enum dmc_verdict judge_whole(struct dmc_net_engine *engine, struct dmc_attempt *attempt)
{
    struct dmc_transfer *transfer = attempt->transfer;
    const struct dmc_http_response *response = &attempt->response;
    uint64_t size = response->content_length;
    if (response->encoded)
        return refuse(transfer, DMC_VERDICT_FAILED,
                      "the server sends the object with a Content-Encoding (or Transfer-Encoding): its bytes are not those "
                      "that were stored");
    if (!same_version(engine, transfer, response, size))
        return changed(transfer);
    if (attempt->head)
        return DMC_VERDICT_SIZE;
    if (transfer->kind == DMC_RANGE_WHOLE) {
        if (size != DMC_HTTP_UNKNOWN) {
            if (size > transfer->capacity)
                return DMC_VERDICT_TOO_LONG;
            transfer->length = size;
        }
        attempt->skip = attempt->position;
        attempt->asked_end = transfer->length;
        return DMC_VERDICT_BODY;
    }
    /* A range was asked for, but the server knows none. */
    if (transfer->kind == DMC_RANGE_SUFFIX && transfer->absolute == UINT64_MAX) {
        if (size == DMC_HTTP_UNKNOWN)
            return refuse(transfer, DMC_VERDICT_FAILED,
                          "the server ignores byte ranges and does not tell how long the object is");
        if (!place_suffix(transfer, size, size))
            return DMC_VERDICT_TRUNCATED;
    }
    uint64_t limit = transfer->settings->whole_object_bytes_max;
    if (size == DMC_HTTP_UNKNOWN ? transfer->absolute + transfer->length > limit
                                 : dmc_min_u64(size, transfer->absolute + transfer->length) > limit) {
        if (transfer->ahead && transfer->kind == DMC_RANGE_SPAN)
            return DMC_VERDICT_ALONE;
        refuse(transfer, DMC_VERDICT_FAILED,
               "the server ignores byte ranges, and %llu bytes of the object are more than whole_object_bytes_max (%llu)",
               (unsigned long long)dmc_min_u64(size, transfer->absolute + transfer->length), (unsigned long long)limit);
        dmc_error_hint(&transfer->error, "use a server that knows byte ranges, or raise whole_object_bytes_max");
        return DMC_VERDICT_FAILED;
    }
    if (size != DMC_HTTP_UNKNOWN)
        cut_at_end(transfer, size);
    attempt->asked_end = transfer->length;
    attempt->skip = transfer->absolute + attempt->position;
    return transfer->covered >= transfer->length ? DMC_VERDICT_ENDED : DMC_VERDICT_BODY;
}

static enum dmc_verdict judge_part(struct dmc_net_engine *engine, struct dmc_attempt *attempt)
{
    struct dmc_transfer *transfer = attempt->transfer;
    const struct dmc_http_response *response = &attempt->response;
    if (response->encoded)
        return refuse(transfer, DMC_VERDICT_FAILED,
                      "the server sends the object with a Content-Encoding (or Transfer-Encoding): its bytes are not those "
                      "that were stored");
    if (response->multipart || !response->has_range || response->range_malformed || !attempt->ranged)
        return refuse(transfer, DMC_VERDICT_BROKEN, "the server answers 206 without saying which range it sends");
    uint64_t object_bytes = response->object_bytes;
    if (!same_version(engine, transfer, response, object_bytes))
        return changed(transfer);
    if (transfer->kind == DMC_RANGE_SUFFIX && transfer->absolute == UINT64_MAX) {
        uint64_t sent = response->range_end - response->range_begin;
        bool all = transfer->ahead && response->range_begin == 0 && sent >= transfer->own_bytes;
        if (object_bytes == UINT64_MAX && (sent == transfer->capacity || all))
            object_bytes = transfer->object_bytes = response->range_end; /* "*": a suffix ends where the object does */
        if (object_bytes == UINT64_MAX)
            return refuse(transfer, DMC_VERDICT_BROKEN,
                          "the server sends the end of the object without saying how long the object is");
        if (!place_suffix(transfer, object_bytes, sent)) /* a server may send less than it was asked for */
            return DMC_VERDICT_TRUNCATED;
    }
    uint64_t begin = transfer->absolute + attempt->asked_begin;
    uint64_t end = transfer->length == UINT64_MAX ? UINT64_MAX : transfer->absolute + transfer->length;
    if (response->range_begin != begin || response->range_end > end)
        return refuse(transfer, DMC_VERDICT_BROKEN, "the server sends bytes [%llu, %llu) instead of [%llu, %llu)",
                      (unsigned long long)response->range_begin, (unsigned long long)response->range_end,
                      (unsigned long long)begin, (unsigned long long)end);
    uint64_t bytes = response->range_end - response->range_begin;
    if (response->content_length != DMC_HTTP_UNKNOWN && response->content_length != bytes)
        return refuse(transfer, DMC_VERDICT_BROKEN, "the server announces %llu bytes for a range of %llu",
                      (unsigned long long)response->content_length, (unsigned long long)bytes);
    if (transfer->kind == DMC_RANGE_WHOLE) {
        if (object_bytes != UINT64_MAX)
            transfer->length = object_bytes;
        if (object_bytes != UINT64_MAX && object_bytes > transfer->capacity)
            return DMC_VERDICT_TOO_LONG;
    } else if (object_bytes != UINT64_MAX) {
        cut_at_end(transfer, object_bytes);
    }
    attempt->asked_end = attempt->asked_begin + bytes;
    return DMC_VERDICT_BODY;
}

/* 416: the range begins behind the end. */
static enum dmc_verdict judge_unsatisfied(struct dmc_net_engine *engine, struct dmc_attempt *attempt)
{
    struct dmc_transfer *transfer = attempt->transfer;
    uint64_t object_bytes = attempt->response.unsatisfied ? attempt->response.object_bytes : UINT64_MAX;
    (void)engine;
    if (transfer->kind == DMC_RANGE_SUFFIX && transfer->absolute == UINT64_MAX) {
        if (transfer->ahead) /* some know no suffix that is longer than the object */
            return DMC_VERDICT_ALONE;
        /* only nothing has no last byte */
        transfer->object_bytes = 0;
        return DMC_VERDICT_TRUNCATED;
    }
    if (object_bytes == UINT64_MAX)
        return DMC_VERDICT_ASK_SIZE;
    if (transfer->object_bytes != UINT64_MAX && transfer->object_bytes != object_bytes)
        return changed(transfer);
    uint64_t begin = transfer->absolute + attempt->asked_begin;
    if (object_bytes > begin)
        return refuse(transfer, DMC_VERDICT_BROKEN, "the server refuses a range that lies inside the object's %llu bytes",
                      (unsigned long long)object_bytes);
    transfer->object_bytes = object_bytes;
    if (transfer->kind == DMC_RANGE_WHOLE)
        transfer->length = object_bytes;
    else
        cut_at_end(transfer, object_bytes);
    return transfer->covered >= transfer->length ? DMC_VERDICT_ENDED : changed(transfer);
}

static enum dmc_verdict judge(struct dmc_net_engine *engine, struct dmc_attempt *attempt)
{
    const struct dmc_http_response *response = &attempt->response;
    switch (response->status) {
    case 200:
    case 203:
        return judge_whole(engine, attempt);
    case 206:
        return judge_part(engine, attempt);
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
        return attempt->transfer->store->service->redirects ? DMC_VERDICT_REDIRECT : DMC_VERDICT_STATUS;
    case 412:
        return changed(attempt->transfer);
    case 416:
        return attempt->ranged ? judge_unsatisfied(engine, attempt) : DMC_VERDICT_STATUS;
    default:
        return DMC_VERDICT_STATUS;
    }
}

/* --- libcurl's callbacks --- */

/* Whose attempt is it, and which engine's. */
static struct dmc_net_engine *engine_of(struct dmc_attempt *attempt)
{
    return attempt->transfer->store->engine;
}

static void note_sent(struct dmc_net_engine *engine, struct dmc_attempt *attempt, uint64_t now_ns)
{
    long connects = 0;
    attempt->sent_ns = now_ns;
    attempt->fresh = engine->curl->easy_getinfo(attempt->easy, CURLINFO_NUM_CONNECTS, &connects) == CURLE_OK && connects > 0;
}

#if LIBCURL_VERSION_NUM >= 0x075000
/* There is a connection, and the question goes out. */
static int on_sent(void *user, char *ip, char *local_ip, int port, int local_port)
{
    struct dmc_attempt *attempt = user;
    (void)ip;
    (void)local_ip;
    (void)port;
    (void)local_port;
    if (!attempt->transfer)
        return CURL_PREREQFUNC_ABORT;
    note_sent(engine_of(attempt), attempt, dmc_clock_ns());
    dmc_transfer_plan_timer(engine_of(attempt), attempt->transfer); /* now it is known when its answer is late */
    return CURL_PREREQFUNC_OK;
}
#endif

static size_t on_header(char *line, size_t one, size_t bytes, void *user)
{
    struct dmc_attempt *attempt = user;
    (void)one;
    if (!attempt->transfer)
        return 0;
    uint64_t date = 0;
    if (bytes > 12 && (line[0] == 'R' || line[0] == 'r')) /* Retry-After may be a date */
        date = (uint64_t)time(NULL);
    dmc_http_response_line(&attempt->response, line, bytes, date);
    if (attempt->verdict != DMC_VERDICT_NONE)
        return bytes;
    attempt->header_bytes += bytes;
    if (attempt->header_bytes > HEADERS_MAX) {
        attempt->verdict =
            refuse(attempt->transfer, DMC_VERDICT_BROKEN, "the answer's headers are longer than %u KiB", HEADERS_MAX / 1024);
        return 0;
    }
    if (!attempt->response.ended)
        return bytes;
    uint64_t now_ns = dmc_clock_ns();
    attempt->first_ns = attempt->window_ns = now_ns;
    attempt->window_bytes = 0;
    if (attempt->sent_ns == 0) /* an older libcurl does not tell */
        note_sent(engine_of(attempt), attempt, attempt->begin_ns);
    dmc_net_endpoint_first_byte(attempt->transfer->endpoint, attempt->transfer->lane, attempt->fresh, now_ns - attempt->sent_ns,
                                now_ns);
    attempt->verdict = judge(engine_of(attempt), attempt);
    if (attempt->verdict == DMC_VERDICT_BODY || attempt->head)
        return bytes;
    bool short_body = attempt->response.content_length != DMC_HTTP_UNKNOWN && attempt->response.content_length <= DRAIN_BYTES;
    bool wanted = attempt->verdict == DMC_VERDICT_STATUS; /* the body says why */
    return short_body || wanted ? bytes : 0;
}

/* Bytes of an object. What it returns goes to libcurl. */
static size_t take_body(struct dmc_attempt *attempt, const char *data, size_t bytes)
{
    struct dmc_transfer *transfer = attempt->transfer;
    uint64_t skip = dmc_min_u64(attempt->skip, bytes);
    attempt->skip -= skip;
    uint64_t left = bytes - skip;
    uint64_t end = dmc_min_u64(attempt->asked_end, transfer->capacity);
    uint64_t count = dmc_min_u64(left, end - attempt->position);
    store_bytes(attempt, data + skip, count);
    if (count == left)
        return bytes;
    if (attempt->response.status == 206 || attempt->response.content_length != DMC_HTTP_UNKNOWN) {
        bool whole = attempt->response.status != 206;
        attempt->overrun = !whole;
        return whole && attempt->response.content_length - attempt->body_bytes <= DRAIN_BYTES ? bytes : 0;
    }
    if (transfer->kind != DMC_RANGE_WHOLE)
        return 0;              /* the rest of a whole object: not wanted */
    transfer->too_long = true; /* go on, to learn how long it is */
    return attempt->body_bytes <= transfer->settings->whole_object_bytes_max ? bytes : 0;
}

static size_t on_body(char *data, size_t one, size_t bytes, void *user)
{
    struct dmc_attempt *attempt = user;
    (void)one;
    if (!attempt->transfer)
        return 0;
    attempt->body_bytes += bytes;
    if (attempt->verdict == DMC_VERDICT_BODY)
        return take_body(attempt, data, bytes);
    size_t keep = dmc_min_u64(bytes, DMC_NET_BODY_KEPT - attempt->kept_bytes);
    memcpy(attempt->kept + attempt->kept_bytes, data, keep);
    attempt->kept_bytes += (uint32_t)keep;
    if (attempt->verdict == DMC_VERDICT_NONE) /* a body without headers: no HTTP, and these bytes show what it is */
        return 0;
    return attempt->body_bytes <= DRAIN_BYTES ? bytes : 0;
}

/* --- life --- */

static void set_constant_options(struct dmc_net_engine *engine, struct dmc_attempt *attempt)
{
    const struct dmc_curl *curl = engine->curl;
    CURL *easy = attempt->easy;
    curl->easy_setopt(easy, CURLOPT_PRIVATE, (void *)attempt);
    curl->easy_setopt(easy, CURLOPT_ERRORBUFFER, attempt->curl_error);
    curl->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl->easy_setopt(easy, CURLOPT_WRITEDATA, attempt);
    curl->easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl->easy_setopt(easy, CURLOPT_HEADERDATA, attempt);
    curl->easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, dmc_engine_socket_opened);
    curl->easy_setopt(easy, CURLOPT_SOCKOPTDATA, engine);
    curl->easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, dmc_engine_socket_close);
    curl->easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, engine);
    curl->easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl->easy_setopt(easy, CURLOPT_NOPROGRESS, 1L);
    curl->easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L); /* ours, since credentials must not follow */
    curl->easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl->easy_setopt(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    curl->easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 1L); /* on_body() refuses it, and can say what came */
    curl->easy_setopt(easy, CURLOPT_BUFFERSIZE, RECEIVE_BUFFER_BYTES);
    curl->easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl->easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl->easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    if (curl->http2)
        curl->easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
#if LIBCURL_VERSION_NUM >= 0x075000
    if (curl->version >= 0x075000) {
        curl->easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_sent);
        curl->easy_setopt(easy, CURLOPT_PREREQDATA, attempt);
    }
#endif
#if LIBCURL_VERSION_NUM >= 0x075500
    if (curl->version >= 0x075500)
        curl->easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
    if (curl->version >= 0x075700)
        curl->easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* do not wait for a name server that does not answer */
#endif
}

struct dmc_attempt *dmc_attempt_take(struct dmc_net_engine *engine)
{
    struct dmc_attempt *attempt = engine->free_attempts;
    if (attempt) {
        engine->free_attempts = attempt->next;
        engine->attempts_out++;
        return attempt;
    }
    attempt = dmc_calloc(1, sizeof *attempt);
    if (!attempt)
        return NULL;
    attempt->easy = engine->curl->easy_init();
    if (!attempt->easy) {
        dmc_free(attempt);
        return NULL;
    }
    engine->attempts_out++;
    engine->attempts_made++;
    return attempt;
}

void dmc_attempt_give_back(struct dmc_net_engine *engine, struct dmc_attempt *attempt)
{
    attempt->transfer = NULL; /* first: removing may call back */
    if (attempt->running)
        engine->curl->multi_remove_handle(engine->multi, attempt->easy);
    attempt->running = false;
    engine->attempts_out--;
    if (engine->attempts_made > dmc_engine_attempts_max(engine)) { /* its memory went to something else meanwhile */
        dmc_attempt_free(engine, attempt);
        return;
    }
    attempt->next = engine->free_attempts;
    engine->free_attempts = attempt;
}

void dmc_attempt_free(struct dmc_net_engine *engine, struct dmc_attempt *attempt)
{
    engine->attempts_made--;
    engine->curl->easy_cleanup(attempt->easy);
    dmc_text_free(&attempt->url);
    dmc_text_free(&attempt->headers.text);
    dmc_free(attempt);
}

static void add_range(struct dmc_attempt *attempt, const struct dmc_transfer *transfer)
{
    struct dmc_net_headers *headers = &attempt->headers;
    attempt->ranged = false;
    if (attempt->head || (transfer->kind == DMC_RANGE_WHOLE && transfer->covered == 0))
        return;
    attempt->ranged = true;
    if (transfer->absolute == UINT64_MAX)
        dmc_net_header(headers, "Range: bytes=-%llu", (unsigned long long)transfer->capacity);
    else if (transfer->length == UINT64_MAX)
        dmc_net_header(headers, "Range: bytes=%llu-", (unsigned long long)(transfer->absolute + transfer->covered));
    else
        dmc_net_header(headers, "Range: bytes=%llu-%llu", (unsigned long long)(transfer->absolute + transfer->covered),
                       (unsigned long long)(transfer->absolute + transfer->length - 1));
    /* What is there already must be continued, not mixed with another version. */
    if (transfer->covered > 0 && transfer->etag[0] == '"' && transfer->settings->check_versions)
        dmc_net_header(headers, "If-Match: %s", transfer->etag);
}

/* What stays the same for all of a store's requests, of which libcurl copies each text anew. What another store set must not
 * linger. false: no memory. */
static bool apply_settings(struct dmc_net_engine *engine, struct dmc_attempt *attempt, const struct dmc_net_settings *settings)
{
    const struct dmc_curl *curl = engine->curl;
    CURL *easy = attempt->easy;
    curl->easy_reset(easy);
    set_constant_options(engine, attempt);
    curl->easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(settings->connect_timeout_ns / 1000000u));
    return curl->easy_setopt(easy, CURLOPT_USERAGENT, settings->user_agent) == CURLE_OK &&
           (!settings->ca_bundle || curl->easy_setopt(easy, CURLOPT_CAINFO, settings->ca_bundle) == CURLE_OK) &&
           curl->easy_setopt(easy, CURLOPT_PROXY, settings->proxy) == CURLE_OK;
}

enum dmc_net_prepared dmc_attempt_start(struct dmc_net_engine *engine, struct dmc_attempt *attempt,
                                        struct dmc_transfer *transfer, uint64_t now_ns)
{
    const struct dmc_curl *curl = engine->curl;
    const struct dmc_net_settings *settings = transfer->settings;
    struct dmc_net_headers *headers = &attempt->headers;
    attempt->head = transfer->ask_size;
    struct dmc_net_ask ask = {.key = transfer->request->key,
                              .query = transfer->query,
                              .head = attempt->head,
                              .redirect = transfer->redirect.length ? transfer->redirect.data : NULL};
    dmc_text_clear(&attempt->url);
    dmc_text_clear(&headers->text);
    headers->count = 0;
    headers->failed = false;
    enum dmc_net_prepared prepared =
        transfer->store->service->prepare(transfer->store, &ask, &attempt->url, headers, &transfer->error);
    if (prepared != DMC_NET_READY)
        return prepared;
    add_range(attempt, transfer);
    CURL *easy = attempt->easy;
    bool whole = !attempt->url.failed && !headers->text.failed && !headers->failed;
    if (attempt->settings != settings) {
        whole = whole && apply_settings(engine, attempt, settings);
        attempt->settings = whole ? settings : NULL;
    }
    if (attempt->head)
        curl->easy_setopt(easy, CURLOPT_NOBODY, 1L);
    else
        curl->easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    whole = whole && curl->easy_setopt(easy, CURLOPT_URL, attempt->url.data) == CURLE_OK;
    curl->easy_setopt(easy, CURLOPT_HTTPHEADER, link_headers(headers));
    /* Rather share a connection that is being made than open one for each. Without TLS there is no HTTP/2 to share it, and all
     * would wait in vain for the first answer. */
    bool may_multiplex = whole && curl->http2 && strncasecmp(attempt->url.data, "https:", 6) == 0;
    curl->easy_setopt(easy, CURLOPT_PIPEWAIT, may_multiplex ? 1L : 0L);
    curl->easy_setopt(easy, CURLOPT_FRESH_CONNECT, attempt->hedge && transfer->endpoint->http2 ? 1L : 0L);
    if (!whole) {
        dmc_error_set(&transfer->error, DAMACY_OOM, "read", "no memory for a network request");
        return DMC_NET_FAILED;
    }
    attempt->transfer = transfer;
    attempt->verdict = DMC_VERDICT_NONE;
    attempt->overrun = false;
    dmc_http_response_reset(&attempt->response);
    attempt->asked_begin = transfer->covered;
    attempt->asked_end = transfer->length;
    attempt->skip = 0;
    attempt->header_bytes = 0;
    attempt->body_bytes = 0;
    attempt->kept_bytes = 0;
    attempt->begin_ns = attempt->window_ns = now_ns;
    attempt->window_bytes = 0;
    attempt->first_ns = attempt->sent_ns = 0;
    attempt->fresh = false;
    attempt->curl_error[0] = 0;
    seek(attempt, transfer->covered);
    if (curl->multi_add_handle(engine->multi, easy) != CURLM_OK) {
        attempt->transfer = NULL;
        dmc_error_set(&transfer->error, DAMACY_OOM, "read", "no memory for a network request");
        return DMC_NET_FAILED;
    }
    attempt->running = true;
    return DMC_NET_READY;
}
