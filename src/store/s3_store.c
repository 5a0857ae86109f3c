/* S3 and what speaks like it, Google's store among them: where a bucket is, signed requests, and what errors mean. */
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/http_url.h"
#include "store/net_store_impl.h"
#include "store/s3_credentials.h"
#include "store/s3_list.h"
#include "store/s3_sign.h"
#include "store/s3_xml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BUCKET_BYTES_MAX 255u
#define SKEW_NOTICED_S 60

struct dmc_s3 {
    /* constant */
    const struct dmc_net_options *options;
    enum dmc_net_family family;
    bool anonymous;
    char region[64];
    char *endpoint; /* "https://host:port/base", no slash at its end; NULL: AWS, by region */
    struct dmc_s3_credentials *credentials;
    struct signer *signers; /* one for each engine */
    uint32_t signer_count;
};

/* All of it is the event thread's. */
struct signer {
    int64_t clock_ahead_s; /* of the server before ours */
    struct dmc_sign_key sign_key;
    struct dmc_text scratch, authorization, path;
    struct dmc_s3_keys keys;
};

struct s3_store {
    struct dmc_net_store net;
    const struct dmc_s3 *s3;
    struct signer *signer;
    char bucket[BUCKET_BYTES_MAX + 1];
    bool virtual_host;
    /* the event thread's */
    char region[64]; /* the bucket's, as learnt */
};

/* --- where --- */

static const char *environment(const char *name)
{
    const char *text = getenv(name);
    return text && *text ? text : NULL;
}

static bool use_virtual_host(const struct dmc_s3 *s3, const char *bucket)
{
    if (s3->options->addressing != DMC_S3_ADDRESS_AUTO)
        return s3->options->addressing == DMC_S3_ADDRESS_VIRTUAL;
    if (s3->endpoint) /* servers of one's own rarely have a name for each bucket */
        return false;
    for (const char *c = bucket; *c; c++) /* certificates have one level, and names in DNS no capitals */
        if (!((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '-'))
            return false;
    return true;
}

/* Scheme, host and path in front of the key: "https://bucket.s3.region.amazonaws.com", "http://127.0.0.1:9000/bucket". The host
 * alone goes to `host` as the header has it, the path to `path`. */
static void place(const struct dmc_s3 *s3, const char *bucket, const char *region, bool virtual_host, struct dmc_text *url,
                  struct dmc_text *host, struct dmc_text *path)
{
    struct dmc_text aws = {0};
    const char *endpoint = s3->endpoint;
    if (!endpoint) {
        dmc_text_format(&aws, "https://s3.%s.amazonaws.com%s", region, strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
        endpoint = aws.failed ? "" : aws.data;
    }
    struct dmc_http_url parts;
    if (dmc_http_url_parse(endpoint, &parts)) { /* checked at create: only memory may be short */
        url->failed = true;
    } else {
        struct dmc_text authority = {0};
        if (virtual_host)
            dmc_text_format(&authority, "%s.", bucket);
        dmc_text_add(&authority, parts.host);
        if (parts.port != (parts.tls ? 443 : 80))
            dmc_text_format(&authority, ":%u", parts.port);
        dmc_text_add(url, parts.tls ? "https://" : "http://");
        dmc_text_add(url, authority.failed ? "" : authority.data);
        url->failed |= authority.failed;
        if (host)
            dmc_text_add(host, authority.failed ? "" : authority.data);
        if (path) {
            dmc_text_bytes(path, parts.path, parts.path_bytes);
            if (!virtual_host) {
                dmc_text_add(path, "/");
                dmc_text_encoded(path, bucket, strlen(bucket), false);
            }
        }
        dmc_text_free(&authority);
    }
    dmc_text_free(&aws);
}

static bool copy_bucket(const char *from, size_t bytes, char to[BUCKET_BYTES_MAX + 1])
{
    if (bytes < 3 || bytes > BUCKET_BYTES_MAX)
        return false;
    for (size_t i = 0; i < bytes; i++) {
        char c = from[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'))
            return false;
    }
    memcpy(to, from, bytes);
    to[bytes] = 0;
    return true;
}

enum damacy_status dmc_s3_place(struct dmc_s3 *s3, const char *bucket, size_t bytes, struct dmc_text *identity,
                                struct dmc_text *origin, struct damacy_error *error)
{
    char name[BUCKET_BYTES_MAX + 1];
    if (!copy_bucket(bucket, bytes, name)) {
        if (memchr(bucket, '@', bytes)) { /* not quoted: it is keys, most likely */
            dmc_error_set(error, DAMACY_INVAL, "config", "there is something in front of the bucket's name");
            dmc_error_hint(error, "a uri looks like s3://bucket/path/array.zarr; keys belong into storage_options");
        } else {
            dmc_error_set(error, DAMACY_INVAL, "config", "'%.*s' is no bucket's name", bytes > 80 ? 80 : (int)bytes, bucket);
            dmc_error_hint(error, "a uri looks like s3://bucket/path/array.zarr");
        }
        return DAMACY_INVAL;
    }
    place(s3, name, s3->region, use_virtual_host(s3, name), origin, NULL, NULL);
    dmc_text_format(identity, "%s://", s3->family == DMC_NET_GS ? "gs" : "s3");
    dmc_text_add(identity, s3->endpoint ? s3->endpoint : "aws");
    dmc_text_format(identity, "/%s", name);
    if (identity->failed || origin->failed)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for a network store");
    return DAMACY_OK;
}

/* --- asking --- */

static enum dmc_net_prepared sign(struct s3_store *store, const struct dmc_net_ask *ask, const char *host,
                                  struct dmc_net_headers *headers, struct damacy_error *error)
{
    const struct dmc_s3 *s3 = store->s3;
    struct signer *signer = store->signer;
    enum dmc_net_prepared prepared = dmc_s3_credentials_get(s3->credentials, &signer->keys, error);
    if (prepared != DMC_NET_READY)
        return prepared;
    char time_text[DMC_SIGN_TIME_BYTES];
    uint64_t time_s = (uint64_t)((int64_t)time(NULL) + signer->clock_ahead_s);
    dmc_sign_time(time_s, time_text);
    struct dmc_sign_header signed_headers[5];
    uint32_t count = 0;
    signed_headers[count++] = (struct dmc_sign_header){"host", host};
    signed_headers[count++] = (struct dmc_sign_header){"x-amz-content-sha256", DMC_S3_UNSIGNED};
    signed_headers[count++] = (struct dmc_sign_header){"x-amz-date", time_text};
    if (s3->options->requester_pays)
        signed_headers[count++] = (struct dmc_sign_header){"x-amz-request-payer", "requester"};
    if (signer->keys.token[0])
        signed_headers[count++] = (struct dmc_sign_header){"x-amz-security-token", signer->keys.token};
    struct dmc_sign_request request = {.method = ask->head ? "HEAD" : "GET",
                                       .path = signer->path.data,
                                       .query = ask->query ? ask->query : "",
                                       .headers = signed_headers,
                                       .header_count = count,
                                       .payload = DMC_S3_UNSIGNED,
                                       .time_s = time_s,
                                       .region = store->region,
                                       .service = "s3"};
    dmc_text_clear(&signer->authorization);
    if (!dmc_sign(&request, signer->keys.key, signer->keys.secret, &signer->sign_key, &signer->scratch,
                  &signer->authorization)) {
        dmc_error_set(error, DAMACY_OOM, "read", "no memory to sign a request");
        return DMC_NET_FAILED;
    }
    for (uint32_t i = 1; i < count; i++) /* libcurl writes the host */
        dmc_net_header(headers, "%s: %s", signed_headers[i].name, signed_headers[i].value);
    dmc_net_header(headers, "Authorization: %s", signer->authorization.data);
    return DMC_NET_READY;
}

static enum dmc_net_prepared s3_prepare(struct dmc_net_store *net, const struct dmc_net_ask *ask, struct dmc_text *url,
                                        struct dmc_net_headers *headers, struct damacy_error *error)
{
    struct s3_store *store = (struct s3_store *)(void *)net;
    const struct dmc_s3 *s3 = store->s3;
    struct signer *signer = store->signer;
    struct dmc_text host = {0};
    dmc_text_clear(&signer->path);
    place(s3, store->bucket, store->region, store->virtual_host, url, &host, &signer->path);
    if (!ask->query) {
        const char *key = ask->key + (ask->key[0] == '/');
        dmc_text_add(&signer->path, "/");
        dmc_text_encoded(&signer->path, key, strlen(key), true);
    } else if (signer->path.length == 0) {
        dmc_text_add(&signer->path, "/");
    }
    enum dmc_net_prepared prepared = DMC_NET_READY;
    if (url->failed || host.failed || signer->path.failed) {
        dmc_error_set(error, DAMACY_OOM, "read", "no memory for a network request");
        prepared = DMC_NET_FAILED;
    } else {
        dmc_text_add(url, signer->path.data);
        if (ask->query) {
            dmc_text_add(url, "?");
            dmc_text_add(url, ask->query);
        }
        if (!s3->anonymous)
            prepared = sign(store, ask, host.data, headers, error);
        else if (s3->options->requester_pays)
            dmc_net_header(headers, "x-amz-request-payer: requester");
    }
    dmc_text_free(&host);
    for (uint32_t i = 0; prepared == DMC_NET_READY && i < s3->options->header_count; i++)
        dmc_net_header(headers, "%s: %s", s3->options->headers[i].name, s3->options->headers[i].value);
    return prepared;
}

/* --- what errors mean --- */

struct s3_error {
    char code[64];
    char message[256];
    char region[64];
};

static void keep_printable(char *to, size_t capacity, const char *from)
{
    size_t bytes = 0;
    for (; *from && bytes + 1 < capacity; from++)
        to[bytes++] = (unsigned char)*from < ' ' ? ' ' : *from;
    to[bytes] = 0;
}

static bool take_error(void *user, const struct dmc_s3_element *element)
{
    struct s3_error *found = user;
    if (strcmp(element->path, "Error/Code") == 0)
        keep_printable(found->code, sizeof found->code, element->text);
    else if (strcmp(element->path, "Error/Message") == 0)
        keep_printable(found->message, sizeof found->message, element->text);
    else if (strcmp(element->path, "Error/Region") == 0)
        keep_printable(found->region, sizeof found->region, element->text);
    return true;
}

/* The bucket is elsewhere: go there from now on. false: that is not new. */
static bool move_to_region(struct s3_store *store, const char *region)
{
    size_t bytes = strlen(region);
    bool fits = bytes > 0 && bytes < sizeof store->region && strcmp(region, store->region) != 0;
    for (size_t i = 0; i < bytes; i++)
        fits = fits && ((region[i] >= 'a' && region[i] <= 'z') || (region[i] >= '0' && region[i] <= '9') || region[i] == '-');
    if (!fits)
        return false;
    dmc_log(DMC_STORE, DAMACY_LOG_INFO, "bucket %s is in region %s, not %s", store->bucket, region, store->region);
    memcpy(store->region, region, bytes + 1);
    return true;
}

static bool correct_clock(struct signer *signer, const struct dmc_http_response *response)
{
    if (response->date_s == DMC_HTTP_UNKNOWN)
        return false;
    int64_t ahead_s = (int64_t)response->date_s - (int64_t)time(NULL), change_s = ahead_s - signer->clock_ahead_s;
    if (change_s < SKEW_NOTICED_S && change_s > -SKEW_NOTICED_S)
        return false;
    dmc_log(DMC_STORE, DAMACY_LOG_WARN,
            "this machine's clock differs from the S3 server's by %lld s; requests are signed with the server's",
            (long long)ahead_s);
    signer->clock_ahead_s = ahead_s;
    return true;
}

static enum dmc_net_advice s3_advise(struct dmc_net_store *net, const struct dmc_http_response *response, const char *body,
                                     struct damacy_error *error)
{
    struct s3_store *store = (struct s3_store *)(void *)net;
    struct s3_error found = {{0}, {0}, {0}};
    char copy[2049], says[400];
    dmc_text_copy(copy, sizeof copy, body);
    dmc_s3_xml(copy, strlen(copy), take_error, &found, NULL); /* as far as it goes: long bodies were cut */
    snprintf(says, sizeof says, "%s%s%s", found.code, found.message[0] ? ": " : "", found.message);
    const char *code = found.code;
    if (strcmp(code, "NoSuchBucket") == 0) {
        dmc_error_set(error, DAMACY_IO, "read", "the bucket '%.100s' does not exist", store->bucket);
        return DMC_NET_PERMANENT;
    }
    if (strcmp(code, "RequestTimeTooSkewed") == 0 && correct_clock(store->signer, response))
        return DMC_NET_MENDED;
    bool elsewhere = response->status == 301 || response->status == 307 || response->status == 400;
    if (elsewhere && (move_to_region(store, response->region) || move_to_region(store, found.region)))
        return DMC_NET_MENDED;
    if (!store->s3->anonymous && (strcmp(code, "ExpiredToken") == 0 || strcmp(code, "TokenRefreshRequired") == 0) &&
        dmc_s3_credentials_renew(store->s3->credentials, store->signer->keys.key))
        return DMC_NET_MENDED;
    enum dmc_net_advice advice = dmc_http_advise(store->net.settings, response->status, says, error);
    if (strcmp(code, "RequestTimeout") == 0) /* a 400, but no fault of the question */
        return DMC_NET_TRANSIENT;
    if (advice != DMC_NET_PERMANENT)
        return advice;
    if (response->status == 403 && store->s3->anonymous)
        dmc_error_hint(error, "requests are not signed (anon)");
    else if (response->status == 403 && (!code[0] || strcmp(code, "AccessDenied") == 0))
        dmc_error_hint(
            error, "S3 says this also of objects that are not there to whoever may not list the bucket; if they are meant, set "
                   "missing_is_403");
    else if (strcmp(code, "ExpiredToken") == 0)
        dmc_error_hint(error, "the credentials given have run out; those of a profile or a role are renewed");
    else if (elsewhere && response->status != 400)
        dmc_error_hint(error, "set region or endpoint_url to those of the bucket");
    return advice;
}

static const struct dmc_net_service s3_service = {.prepare = s3_prepare, .advise = s3_advise, .redirects = false};

/* --- life --- */

static enum damacy_status s3_list(struct dmc_store *store, const char *prefix, dmc_store_child_fn child, void *user,
                                  struct damacy_error *error)
{
    return dmc_s3_list((struct dmc_net_store *)(void *)store, prefix, child, user, error);
}

static void s3_store_destroy(struct dmc_store *store)
{
    dmc_free(store);
}

static const struct dmc_store_ops s3_ops = {.scheme = "s3",
                                            .start = dmc_net_start,
                                            .cancel = dmc_net_cancel,
                                            .list = s3_list,
                                            .expect = dmc_net_expect,
                                            .ahead = dmc_net_ahead,
                                            .hint = dmc_net_hint,
                                            .destroy = s3_store_destroy};

struct dmc_net_store *dmc_s3_store(struct dmc_s3 *s3, uint32_t engine, const char *bucket, size_t bytes)
{
    struct s3_store *store = dmc_calloc(1, sizeof *store);
    if (!store)
        return NULL;
    store->net.store.ops = &s3_ops;
    store->net.service = &s3_service;
    store->net.bytes = sizeof *store;
    store->s3 = s3;
    store->signer = &s3->signers[engine];
    memcpy(store->bucket, bucket, bytes); /* dmc_s3_place has checked it */
    memcpy(store->region, s3->region, sizeof store->region);
    store->virtual_host = use_virtual_host(s3, store->bucket);
    return &store->net;
}

static enum damacy_status set_endpoint(struct dmc_s3 *s3, const char *endpoint, struct damacy_error *error)
{
    struct dmc_http_url url;
    const char *wrong = dmc_http_url_parse(endpoint, &url);
    if (!wrong && (url.user_bytes || url.query))
        wrong = "it has a user name or a query";
    if (wrong)
        return dmc_error_set(error, DAMACY_INVAL, "config", "endpoint_url makes no sense: %s", wrong);
    if (!url.tls && !s3->options->plain_http)
        return dmc_error_set(error, DAMACY_INVAL, "config", "endpoint_url is http, and allow_http is false");
    struct dmc_text text = {0};
    dmc_http_origin(&url, &text);
    size_t path_bytes = url.path_bytes;
    while (path_bytes > 0 && url.path[path_bytes - 1] == '/')
        path_bytes--;
    dmc_http_path(&text, url.path, path_bytes);
    s3->endpoint = text.failed ? NULL : dmc_strdup(text.data);
    dmc_text_free(&text);
    return s3->endpoint ? DAMACY_OK : dmc_error_set(error, DAMACY_OOM, "config", "no memory for a network store");
}

/* Options come first, then the environment, then the profile, then what is usual. */
static enum damacy_status settle(struct dmc_s3 *s3, struct damacy_error *error)
{
    const struct dmc_net_options *options = s3->options;
    const char *region = options->region, *endpoint = options->endpoint_url;
    struct dmc_s3_profile *profile = NULL;
    if (s3->family == DMC_NET_GS) {
        region = region ? region : "auto";
        endpoint = endpoint ? endpoint : "https://storage.googleapis.com";
        s3->anonymous = options->anon || !options->key; /* keys of AWS in the environment are none for Google */
    } else {
        s3->anonymous = options->anon;
        region = region ? region : environment("AWS_REGION");
        region = region ? region : environment("AWS_DEFAULT_REGION");
        endpoint = endpoint ? endpoint : environment("AWS_ENDPOINT_URL_S3");
        endpoint = endpoint ? endpoint : environment("AWS_ENDPOINT_URL");
        if (!region || !endpoint) {
            profile = dmc_malloc(sizeof *profile);
            if (!profile)
                return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the shared config file");
            dmc_s3_profile_load(options, profile);
            region = region || !profile->region[0] ? region : profile->region;
            endpoint = endpoint || !profile->endpoint_url[0] ? endpoint : profile->endpoint_url;
        }
    }
    enum damacy_status status = DAMACY_OK;
    region = region ? region : "us-east-1";
    bool fits = strlen(region) < sizeof s3->region;
    for (const char *c = region; *c; c++)
        fits = fits &&
               ((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '-' || *c == '_');
    if (!fits)
        status = dmc_error_set(error, DAMACY_INVAL, "config", "'%.60s' is no region", region);
    else
        memcpy(s3->region, region, strlen(region) + 1);
    if (status == DAMACY_OK && endpoint)
        status = set_endpoint(s3, endpoint, error);
    if (profile)
        explicit_bzero(profile, sizeof *profile);
    dmc_free(profile);
    return status;
}

enum damacy_status dmc_s3_create(const struct dmc_net_options *options, enum dmc_net_family family,
                                 const struct dmc_net_engines *engines, struct dmc_s3 **out, struct damacy_error *error)
{
    struct dmc_s3 *s3 = dmc_calloc(1, sizeof *s3);
    if (s3)
        s3->signers = dmc_calloc(engines->count, sizeof *s3->signers);
    if (!s3 || !s3->signers) {
        dmc_free(s3);
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for a network store");
    }
    s3->signer_count = engines->count;
    s3->options = options;
    s3->family = family;
    enum damacy_status status = settle(s3, error);
    if (status == DAMACY_OK && !s3->anonymous)
        status = dmc_s3_credentials_create(options, s3->region, engines, &s3->credentials, error);
    if (status != DAMACY_OK) {
        dmc_s3_destroy(s3);
        return status;
    }
    *out = s3;
    return DAMACY_OK;
}

void dmc_s3_stop(struct dmc_s3 *s3)
{
    if (s3)
        dmc_s3_credentials_stop(s3->credentials);
}

void dmc_s3_destroy(struct dmc_s3 *s3)
{
    if (!s3)
        return;
    dmc_s3_credentials_destroy(s3->credentials);
    for (uint32_t i = 0; i < s3->signer_count; i++) {
        dmc_text_free(&s3->signers[i].scratch);
        dmc_text_free(&s3->signers[i].authorization);
        dmc_text_free(&s3->signers[i].path);
    }
    explicit_bzero(s3->signers, s3->signer_count * sizeof *s3->signers);
    dmc_free(s3->signers);
    dmc_free(s3->endpoint);
    dmc_free(s3);
}
