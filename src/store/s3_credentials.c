/* See s3_credentials.h. */
#include "store/s3_credentials.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/http_response.h"
#include "store/http_url.h"
#include "store/s3_xml.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILE_BYTES_MAX (1u << 20)
#define ANSWER_BYTES_MAX 65536u
#define EARLY_S 300u            /* fetched anew so long before they expire */
#define AGAIN_NS 10000000000ull /* after a failure */
#define CONNECT_MS 2000L
#define ANSWER_MS 5000L
#define TRIES 3u

struct dmc_s3_credentials {
    /* constant */
    const struct dmc_net_options *options;
    struct dmc_net_engines engines;
    const struct dmc_curl *curl;
    char region[64];
    /* of the event thread that set shared_starting */
    pthread_t thread;
    bool thread_started;
    /* shared */
    _Atomic bool stop;
    struct dmc_mutex lock;
    struct dmc_s3_keys shared_keys;
    bool shared_have, shared_fetching, shared_failed;
    bool shared_starting; /* an event thread is about to start a fetch */
    uint64_t shared_failed_ns;
    uint64_t shared_fetched_s;
    struct damacy_error shared_error;
};

static const char *environment(const char *name)
{
    const char *text = getenv(name);
    return text && *text ? text : NULL;
}

static bool put(char *to, size_t capacity, const char *from)
{
    size_t bytes = strlen(from);
    if (bytes >= capacity)
        return false;
    for (const char *c = from; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f) /* it becomes part of a header line */
            return false;
    memcpy(to, from, bytes + 1);
    return true;
}

/* --- files --- */

/* The whole file, zero-terminated; NULL: not there, not readable, too long. */
static char *read_file(const char *path, size_t *bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat facts;
    if (fd < 0)
        return NULL;
    char *text = NULL;
    if (fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode) && facts.st_size <= (off_t)FILE_BYTES_MAX)
        text = dmc_malloc((size_t)facts.st_size + 1);
    size_t length = 0;
    while (text && length < (size_t)facts.st_size) {
        ssize_t count = read(fd, text + length, (size_t)facts.st_size - length);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            break;
        length += (size_t)count;
    }
    close(fd);
    if (text)
        text[length] = 0;
    *bytes = length;
    return text;
}

static void read_shared_file(const char *variable, const char *name, const char *section, bool config,
                             struct dmc_s3_profile *profile)
{
    char path[4096];
    const char *named = environment(variable), *home = environment("HOME");
    if (!named && !home)
        return;
    int length = named ? snprintf(path, sizeof path, "%s", named) : snprintf(path, sizeof path, "%s/.aws/%s", home, name);
    if (length < 0 || (size_t)length >= sizeof path)
        return;
    size_t bytes;
    char *text = read_file(path, &bytes);
    if (!text)
        return;
    dmc_s3_profile_read(text, bytes, section, config, profile);
    explicit_bzero(text, bytes);
    dmc_free(text);
}

static const char *profile_name(const struct dmc_net_options *options)
{
    const char *name = options->profile ? options->profile : environment("AWS_PROFILE");
    if (!name)
        name = environment("AWS_DEFAULT_PROFILE");
    return name ? name : "default";
}

void dmc_s3_profile_load(const struct dmc_net_options *options, struct dmc_s3_profile *profile)
{
    const char *name = profile_name(options);
    memset(profile, 0, sizeof *profile);
    read_shared_file("AWS_SHARED_CREDENTIALS_FILE", "credentials", name, false, profile);
    read_shared_file("AWS_CONFIG_FILE", "config", name, true, profile);
}

/* --- providers: OK with keys; NOTFOUND: this is no source here; others: it is, and fails --- */

static enum damacy_status from_environment(struct dmc_s3_keys *keys, struct damacy_error *error)
{
    const char *key = environment("AWS_ACCESS_KEY_ID"), *secret = environment("AWS_SECRET_ACCESS_KEY");
    const char *token = environment("AWS_SESSION_TOKEN");
    if (!key || !secret)
        return DAMACY_NOTFOUND;
    if (!put(keys->key, sizeof keys->key, key) || !put(keys->secret, sizeof keys->secret, secret) ||
        (token && !put(keys->token, sizeof keys->token, token)))
        return dmc_error_set(error, DAMACY_INVAL, "config", "the credentials in the environment are no credentials");
    return DAMACY_OK;
}

static enum damacy_status from_files(const struct dmc_net_options *options, struct dmc_s3_keys *keys,
                                     struct damacy_error *error)
{
    struct dmc_s3_profile *profile = dmc_malloc(sizeof *profile);
    if (!profile)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the credentials file");
    dmc_s3_profile_load(options, profile);
    enum damacy_status status = DAMACY_NOTFOUND;
    const char *name = profile_name(options);
    if (profile->key[0] && profile->secret[0]) {
        memcpy(keys->key, profile->key, sizeof keys->key);
        memcpy(keys->secret, profile->secret, sizeof keys->secret);
        memcpy(keys->token, profile->token, sizeof keys->token);
        status = DAMACY_OK;
    } else if (profile->needs_other) {
        status = dmc_error_set(
            error, DAMACY_UNSUPPORTED, "config",
            "the profile '%.60s' gets its credentials by a role, single sign-on or a program, which is not done here", name);
        dmc_error_hint(error, "run `aws configure export-credentials --profile %.60s --format env` and set what it prints",
                       name);
    } else if (options->profile && !profile->found) {
        status = dmc_error_set(error, DAMACY_INVAL, "config",
                               "there is no profile '%.60s' in the shared config and credentials files", name);
    }
    explicit_bzero(profile, sizeof *profile);
    dmc_free(profile);
    return status;
}

/* --- asking a service; blocks, on the fetching thread --- */

struct answer {
    char text[ANSWER_BYTES_MAX + 1];
    size_t bytes;
    bool too_long;
};

static size_t on_answer(char *data, size_t one, size_t bytes, void *user)
{
    struct answer *answer = user;
    (void)one;
    if (bytes > ANSWER_BYTES_MAX - answer->bytes) {
        answer->too_long = true;
        return 0;
    }
    memcpy(answer->text + answer->bytes, data, bytes);
    answer->bytes += bytes;
    answer->text[answer->bytes] = 0;
    return bytes;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a;
    (void)b;
    (void)c;
    (void)d;
    return atomic_load_explicit(&((struct dmc_s3_credentials *)user)->stop, memory_order_relaxed);
}

/* One exchange, tried again where that may help. `header`: one line, NULL none. The HTTP status, or 0 with error set. */
static long ask(struct dmc_s3_credentials *credentials, const char *method, const char *url, const char *header, bool local,
                struct answer *answer, struct damacy_error *error)
{
    const struct dmc_curl *curl = credentials->curl;
    CURL *easy = curl->easy_init();
    long status = 0;
    if (!easy) {
        dmc_error_set(error, DAMACY_OOM, "config", "no memory to ask for credentials");
        return 0;
    }
    struct curl_slist line = {.data = (char *)(uintptr_t)header};
    char text[CURL_ERROR_SIZE];
    for (uint32_t attempt = 0; attempt < TRIES && !atomic_load_explicit(&credentials->stop, memory_order_relaxed); attempt++) {
        answer->bytes = 0;
        answer->text[0] = text[0] = 0;
        answer->too_long = false;
        curl->easy_reset(easy);
        curl->easy_setopt(easy, CURLOPT_URL, url);
        curl->easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
        curl->easy_setopt(easy, CURLOPT_HTTPHEADER, header ? &line : NULL);
        curl->easy_setopt(easy, CURLOPT_ERRORBUFFER, text);
        curl->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl->easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
        curl->easy_setopt(easy, CURLOPT_TIMEOUT_MS, ANSWER_MS);
        curl->easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
        curl->easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl->easy_setopt(easy, CURLOPT_XFERINFODATA, credentials);
        curl->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_answer);
        curl->easy_setopt(easy, CURLOPT_WRITEDATA, answer);
        curl->easy_setopt(easy, CURLOPT_USERAGENT, credentials->options->settings.user_agent);
        if (local) /* never through a proxy */
            curl->easy_setopt(easy, CURLOPT_PROXY, "");
        else if (credentials->options->settings.ca_bundle)
            curl->easy_setopt(easy, CURLOPT_CAINFO, credentials->options->settings.ca_bundle);
        CURLcode code = curl->easy_perform(easy);
        status = 0;
        if (code == CURLE_OK)
            curl->easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        else
            dmc_error_set(error, DAMACY_IO, "config", "%s", dmc_curl_reason(curl, text, code));
        if (status && status < 500 && status != 429)
            break;
        if (code == CURLE_COULDNT_CONNECT || code == CURLE_ABORTED_BY_CALLBACK) /* nobody is there */
            break;
        struct timespec pause = {.tv_nsec = 50000000L << attempt};
        nanosleep(&pause, NULL);
    }
    curl->easy_cleanup(easy);
    return status;
}

enum damacy_status dmc_s3_credentials_parse(const char *text, size_t bytes, struct dmc_s3_keys *keys,
                                            struct damacy_error *error)
{
    struct dmc_json_doc *document = NULL;
    struct damacy_error inner;
    explicit_bzero(keys, sizeof *keys);
    if (dmc_json_parse(text, bytes, &document, &inner) != DAMACY_OK) /* not passed on: it may quote a secret */
        return dmc_error_set(error, DAMACY_DECODE, "config", "the answer with credentials is no JSON");
    dmc_json *root = dmc_json_root(document);
    const char *key = NULL, *secret = NULL, *token = NULL, *expiration = NULL;
    size_t length = 0;
    bool whole = dmc_json_string(dmc_json_get(root, "AccessKeyId"), &key, NULL) &&
                 dmc_json_string(dmc_json_get(root, "SecretAccessKey"), &secret, NULL) &&
                 put(keys->key, sizeof keys->key, key) && put(keys->secret, sizeof keys->secret, secret) && *key && *secret;
    keys->token[0] = 0;
    if (whole && dmc_json_string(dmc_json_get(root, "Token"), &token, NULL))
        whole = put(keys->token, sizeof keys->token, token);
    keys->expires_s = UINT64_MAX;
    if (whole && dmc_json_string(dmc_json_get(root, "Expiration"), &expiration, &length))
        whole = dmc_http_date(expiration, length, &keys->expires_s);
    dmc_json_free(document);
    if (!whole) {
        explicit_bzero(keys, sizeof *keys);
        return dmc_error_set(error, DAMACY_DECODE, "config",
                             "the answer with credentials lacks AccessKeyId or SecretAccessKey, or they "
                             "are none");
    }
    return DAMACY_OK;
}

static enum damacy_status unexpected(struct damacy_error *error, const char *who, long status)
{
    return dmc_error_set(error, DAMACY_IO, "config", "the %s answered %ld", who, status);
}

/* Only where a credential may travel in the clear: this machine, and the addresses that AWS gives its own services. */
static bool may_be_asked(const char *url)
{
    static const char *const hosts[] = {"localhost", "[::1]", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"};
    struct dmc_http_url parts;
    if (dmc_http_url_parse(url, &parts))
        return false;
    bool fits = parts.tls || strncmp(parts.host, "127.", 4) == 0;
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++)
        fits = fits || strcmp(parts.host, hosts[i]) == 0;
    return fits;
}

static enum damacy_status from_container(struct dmc_s3_credentials *credentials, struct answer *answer,
                                         struct dmc_s3_keys *keys, struct damacy_error *error)
{
    const char *relative = environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = environment("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    const char *token = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    const char *token_file = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    if (!relative && !full)
        return DAMACY_NOTFOUND;
    struct dmc_text url = {0}, header = {0};
    if (relative)
        dmc_text_format(&url, "http://169.254.170.2%s%s", relative[0] == '/' ? "" : "/", relative);
    else
        dmc_text_add(&url, full);
    char *file = NULL;
    size_t bytes = 0;
    if (token_file && !relative)
        file = read_file(token_file, &bytes);
    if (file || token) {
        const char *value = file ? file : token;
        dmc_text_add(&header, "Authorization: ");
        dmc_text_bytes(&header, value, strcspn(value, "\r\n"));
    }
    enum damacy_status status;
    if (url.failed || header.failed) {
        status = dmc_error_set(error, DAMACY_OOM, "config", "no memory to ask for credentials");
    } else if (!may_be_asked(url.data)) {
        status = dmc_error_set(
            error, DAMACY_INVAL, "config",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI names a host that is not asked over http; use https or this machine");
    } else {
        long code = ask(credentials, "GET", url.data, header.length ? header.data : NULL, strncmp(url.data, "https", 5) != 0,
                        answer, error);
        status = code == 200 ? dmc_s3_credentials_parse(answer->text, answer->bytes, keys, error)
                 : code      ? unexpected(error, "container's credentials service", code)
                             : error->status;
    }
    if (file)
        explicit_bzero(file, bytes);
    dmc_free(file);
    dmc_text_free(&url);
    dmc_text_free(&header);
    return status;
}

static enum damacy_status from_instance(struct dmc_s3_credentials *credentials, struct answer *answer, struct dmc_s3_keys *keys,
                                        struct damacy_error *error)
{
    const char *disabled = environment("AWS_EC2_METADATA_DISABLED");
    const char *endpoint = environment("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    if (disabled && (strcmp(disabled, "true") == 0 || strcmp(disabled, "1") == 0))
        return DAMACY_NOTFOUND;
    if (!endpoint)
        endpoint = "http://169.254.169.254";
    size_t endpoint_bytes = strlen(endpoint);
    while (endpoint_bytes > 0 && endpoint[endpoint_bytes - 1] == '/')
        endpoint_bytes--;
    struct dmc_text url = {0}, header = {0};
    static const char roles[] = "/latest/meta-data/iam/security-credentials/";
    enum damacy_status status = DAMACY_NOTFOUND;
    dmc_text_bytes(&url, endpoint, endpoint_bytes);
    dmc_text_add(&url, "/latest/api/token");
    long code =
        url.failed ? 0 : ask(credentials, "PUT", url.data, "X-aws-ec2-metadata-token-ttl-seconds: 21600", true, answer, error);
    if (code != 200 || answer->bytes == 0)
        goto end; /* not on EC2 */
    dmc_text_add(&header, "X-aws-ec2-metadata-token: ");
    dmc_text_bytes(&header, answer->text, strcspn(answer->text, "\r\n"));
    dmc_text_clear(&url);
    dmc_text_bytes(&url, endpoint, endpoint_bytes);
    dmc_text_add(&url, roles);
    code = url.failed || header.failed ? 0 : ask(credentials, "GET", url.data, header.data, true, answer, error);
    if (code == 404)
        goto end; /* no role is attached */
    size_t role_bytes = strcspn(answer->text, "\r\n");
    if (code != 200 || role_bytes == 0) {
        status = code ? unexpected(error, "instance metadata service", code) : DAMACY_IO;
        goto end;
    }
    dmc_text_encoded(&url, answer->text, role_bytes, false);
    code = url.failed ? 0 : ask(credentials, "GET", url.data, header.data, true, answer, error);
    status = code == 200 ? dmc_s3_credentials_parse(answer->text, answer->bytes, keys, error)
             : code      ? unexpected(error, "instance metadata service", code)
                         : DAMACY_IO;
end:
    dmc_text_free(&url);
    dmc_text_free(&header);
    return status;
}

static bool take_sts(void *user, const struct dmc_s3_element *element)
{
    struct dmc_s3_keys *keys = user;
    const char *name = strrchr(element->path, '/');
    if (!name)
        return true;
    if (strcmp(name, "/AccessKeyId") == 0)
        put(keys->key, sizeof keys->key, element->text);
    else if (strcmp(name, "/SecretAccessKey") == 0)
        put(keys->secret, sizeof keys->secret, element->text);
    else if (strcmp(name, "/SessionToken") == 0)
        put(keys->token, sizeof keys->token, element->text);
    else if (strcmp(name, "/Expiration") == 0)
        dmc_http_date(element->text, element->text_bytes, &keys->expires_s);
    return true;
}

static enum damacy_status from_web_identity(struct dmc_s3_credentials *credentials, struct answer *answer,
                                            struct dmc_s3_keys *keys, struct damacy_error *error)
{
    const char *path = environment("AWS_WEB_IDENTITY_TOKEN_FILE"), *role = environment("AWS_ROLE_ARN");
    const char *endpoint = environment("AWS_ENDPOINT_URL_STS"), *session = environment("AWS_ROLE_SESSION_NAME");
    if (!path || !role)
        return DAMACY_NOTFOUND;
    size_t bytes;
    char *token = read_file(path, &bytes);
    if (!token)
        return dmc_error_set(error, DAMACY_IO, "config", "cannot read the token that AWS_WEB_IDENTITY_TOKEN_FILE names");
    struct dmc_text url = {0};
    if (endpoint)
        dmc_text_add(&url, endpoint);
    else
        dmc_text_format(&url, "https://sts.%s.amazonaws.com%s", credentials->region,
                        strncmp(credentials->region, "cn-", 3) == 0 ? ".cn" : "");
    dmc_text_add(&url, "/?Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=");
    dmc_text_encoded(&url, role, strlen(role), false);
    dmc_text_add(&url, "&RoleSessionName=");
    dmc_text_encoded(&url, session ? session : "damacy", strlen(session ? session : "damacy"), false);
    dmc_text_add(&url, "&WebIdentityToken=");
    dmc_text_encoded(&url, token, strcspn(token, "\r\n"), false);
    explicit_bzero(token, bytes);
    dmc_free(token);
    enum damacy_status status;
    if (url.failed) {
        status = dmc_error_set(error, DAMACY_OOM, "config", "no memory to ask for credentials");
    } else if (!may_be_asked(url.data)) {
        status = dmc_error_set(error, DAMACY_INVAL, "config", "AWS_ENDPOINT_URL_STS must be https");
    } else {
        long code = ask(credentials, "GET", url.data, "Accept: application/xml", false, answer, error);
        keys->expires_s = UINT64_MAX;
        if (code == 200)
            status = dmc_s3_xml(answer->text, answer->bytes, take_sts, keys, error);
        else
            status = code ? unexpected(error, "security token service", code) : DAMACY_IO;
        if (status == DAMACY_OK && (!keys->key[0] || !keys->secret[0]))
            status = dmc_error_set(error, DAMACY_DECODE, "config", "the security token service's answer lacks keys");
    }
    dmc_text_free(&url);
    return status;
}

/* --- the chain --- */

static enum damacy_status fetch(struct dmc_s3_credentials *credentials, struct answer *answer, struct dmc_s3_keys *keys,
                                struct damacy_error *error)
{
    const struct dmc_net_options *options = credentials->options;
    enum damacy_status status = DAMACY_NOTFOUND;
    keys->expires_s = UINT64_MAX;
    if (!options->profile)
        status = from_environment(keys, error);
    if (status == DAMACY_NOTFOUND)
        status = from_files(options, keys, error);
    if (status == DAMACY_NOTFOUND)
        status = from_web_identity(credentials, answer, keys, error);
    if (status == DAMACY_NOTFOUND)
        status = from_container(credentials, answer, keys, error);
    if (status == DAMACY_NOTFOUND)
        status = from_instance(credentials, answer, keys, error);
    if (status == DAMACY_NOTFOUND) {
        dmc_error_set(error, DAMACY_IO, "read",
                      "no credentials for S3 were found: neither in storage_options, the environment, the shared "
                      "files, a container's service nor instance metadata");
        dmc_error_hint(error, "give key and secret, a profile, or anon=true for public data");
        status = DAMACY_IO;
    }
    return status;
}

static void *fetch_run(void *argument)
{
    struct dmc_s3_credentials *credentials = argument;
    struct dmc_s3_keys *keys = dmc_calloc(1, sizeof *keys);
    struct answer *answer = dmc_malloc(sizeof *answer);
    struct damacy_error error = {0};
    enum damacy_status status = keys && answer ? fetch(credentials, answer, keys, &error)
                                               : dmc_error_set(&error, DAMACY_OOM, "read", "no memory to ask for credentials");
    dmc_mutex_lock(&credentials->lock);
    credentials->shared_fetching = false;
    credentials->shared_failed = status != DAMACY_OK;
    if (status == DAMACY_OK) {
        credentials->shared_keys = *keys;
        credentials->shared_have = true;
        credentials->shared_fetched_s = (uint64_t)time(NULL);
    } else {
        credentials->shared_error = error;
        credentials->shared_failed_ns = dmc_clock_ns();
    }
    dmc_mutex_unlock(&credentials->lock);
    if (answer)
        explicit_bzero(answer, sizeof *answer);
    if (keys)
        explicit_bzero(keys, sizeof *keys);
    dmc_free(answer);
    dmc_free(keys);
    for (uint32_t i = 0; i < credentials->engines.count; i++)
        dmc_net_engine_credentials(credentials->engines.all[i]);
    return NULL;
}

/* Under the lock, which is let go for a moment to join a thread that is over. */
static void start_fetch_locked(struct dmc_s3_credentials *credentials) DMC_REQUIRES(credentials->lock)
{
    if (credentials->shared_fetching || credentials->shared_starting)
        return;
    credentials->shared_fetching = credentials->shared_starting = true;
    dmc_mutex_unlock(&credentials->lock);
    if (credentials->thread_started)
        pthread_join(credentials->thread, NULL);
    int os_error = dmc_thread_start(&credentials->thread, "dmc-keys", fetch_run, credentials);
    credentials->thread_started = os_error == 0;
    dmc_mutex_lock(&credentials->lock);
    credentials->shared_starting = false;
    if (os_error) {
        credentials->shared_fetching = false;
        credentials->shared_failed = true;
        credentials->shared_failed_ns = dmc_clock_ns();
        dmc_error_set_os(&credentials->shared_error, DAMACY_IO, "read", os_error,
                         "cannot start the thread that fetches credentials");
    }
}

enum dmc_net_prepared dmc_s3_credentials_get(struct dmc_s3_credentials *credentials, struct dmc_s3_keys *keys,
                                             struct damacy_error *error)
{
    enum dmc_net_prepared prepared = DMC_NET_WAIT;
    dmc_mutex_lock(&credentials->lock);
    uint64_t now_s = (uint64_t)time(NULL);
    uint64_t expires_s = credentials->shared_keys.expires_s;
    bool valid = credentials->shared_have && expires_s > now_s;
    /* Short-lived keys are not fetched anew all the time: half of their life is used. */
    uint64_t life_s = credentials->shared_have && expires_s != UINT64_MAX && expires_s > credentials->shared_fetched_s
                          ? expires_s - credentials->shared_fetched_s
                          : 0;
    bool early = valid && expires_s != UINT64_MAX && expires_s - now_s < dmc_min_u64(EARLY_S, life_s / 2 + 1);
    bool just_failed = credentials->shared_failed && dmc_clock_ns() - credentials->shared_failed_ns < AGAIN_NS;
    if ((!valid || early) && !just_failed)
        start_fetch_locked(credentials);
    if (valid) {
        *keys = credentials->shared_keys;
        prepared = DMC_NET_READY;
    } else if (!credentials->shared_fetching && credentials->shared_failed) {
        if (error)
            *error = credentials->shared_error;
        prepared = DMC_NET_FAILED;
    }
    dmc_mutex_unlock(&credentials->lock);
    return prepared;
}

bool dmc_s3_credentials_renew(struct dmc_s3_credentials *credentials, const char *key)
{
    if (credentials->options->key)
        return false;
    dmc_mutex_lock(&credentials->lock);
    bool same = strcmp(credentials->shared_keys.key, key) == 0;
    if (same) {
        credentials->shared_have = false;
        start_fetch_locked(credentials);
    }
    dmc_mutex_unlock(&credentials->lock);
    return true;
}

enum damacy_status dmc_s3_credentials_create(const struct dmc_net_options *options, const char *region,
                                             const struct dmc_net_engines *engines, struct dmc_s3_credentials **out,
                                             struct damacy_error *error)
{
    struct dmc_s3_credentials *credentials = dmc_calloc(1, sizeof *credentials);
    if (!credentials)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for credentials");
    enum damacy_status status = dmc_curl_load(&credentials->curl, error);
    credentials->options = options;
    if (engines)
        credentials->engines = *engines;
    dmc_text_copy(credentials->region, sizeof credentials->region, region);
    dmc_mutex_init(&credentials->lock);
    if (status == DAMACY_OK && options->key) {
        struct dmc_s3_keys *keys = &credentials->shared_keys;
        credentials->shared_have = put(keys->key, sizeof keys->key, options->key) &&
                                   put(keys->secret, sizeof keys->secret, options->secret) &&
                                   (!options->token || put(keys->token, sizeof keys->token, options->token));
        keys->expires_s = UINT64_MAX;
        if (!credentials->shared_have)
            status = dmc_error_set(error, DAMACY_INVAL, "config",
                                   "storage_options: 'key', 'secret' or 'token' is too long to be one");
    }
    if (status != DAMACY_OK) {
        dmc_s3_credentials_destroy(credentials);
        return status;
    }
    *out = credentials;
    return DAMACY_OK;
}

void dmc_s3_credentials_stop(struct dmc_s3_credentials *credentials)
{
    if (credentials)
        atomic_store_explicit(&credentials->stop, true, memory_order_relaxed);
}

void dmc_s3_credentials_destroy(struct dmc_s3_credentials *credentials)
{
    if (!credentials)
        return;
    if (credentials->thread_started)
        pthread_join(credentials->thread, NULL);
    dmc_mutex_deinit(&credentials->lock);
    explicit_bzero(credentials, sizeof *credentials);
    dmc_free(credentials);
}
