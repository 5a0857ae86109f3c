/* See net_options.h. */
#include "store/net_options.h"
#include "base/bytes.h"
#include "base/error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS 1000000000.0
#define OPTIONS_BYTES_MAX (1u << 20)

enum kind { TEXT, FLAG, COUNT, BYTES, TIME, SHARE };

struct option {
    const char *names[7]; /* the first is ours */
    enum kind kind;
    size_t offset;
    double least, most; /* of numbers */
};

#define AT(member) offsetof(struct dmc_net_options, member)

static const struct option options_known[] = {
    {{"key", "access_key_id", "aws_access_key_id", "access_key"}, TEXT, AT(key), 0, 0},
    {{"secret", "secret_access_key", "aws_secret_access_key", "secret_key"}, TEXT, AT(secret), 0, 0},
    {{"token", "session_token", "aws_session_token", "aws_token"}, TEXT, AT(token), 0, 0},
    {{"endpoint_url", "endpoint", "aws_endpoint", "aws_endpoint_url"}, TEXT, AT(endpoint_url), 0, 0},
    {{"region", "region_name", "aws_region", "default_region", "aws_default_region"}, TEXT, AT(region), 0, 0},
    {{"profile", "profile_name", "aws_profile"}, TEXT, AT(profile), 0, 0},
    {{"anon", "skip_signature", "aws_skip_signature", "anonymous"}, FLAG, AT(anon), 0, 0},
    {{"requester_pays", "request_payer", "aws_request_payer"}, FLAG, AT(requester_pays), 0, 0},
    {{"allow_http", "aws_allow_http"}, FLAG, AT(plain_http), 0, 0},
    {{"ca_bundle", "aws_ca_bundle", "ca_certificate"}, TEXT, AT(settings.ca_bundle), 0, 0},
    {{"proxy", "proxy_url"}, TEXT, AT(settings.proxy), 0, 0},
    {{"user_agent"}, TEXT, AT(settings.user_agent), 0, 0},
    {{"connect_timeout"}, TIME, AT(settings.connect_timeout_ns), 0.001, 3600},
    {{"request_timeout", "timeout", "read_timeout"}, TIME, AT(settings.request_timeout_ns), 0.001, 86400},
    {{"batch_timeout"}, TIME, AT(settings.batch_timeout_ns), 0, 86400},
    {{"stall_timeout"}, TIME, AT(settings.stall_window_ns), 0.001, 86400},
    {{"stall_bytes_per_s"}, BYTES, AT(settings.stall_bytes_per_s), 0, 1e12},
    {{"retries_max", "max_retries", "retries", "max_attempts"}, COUNT, AT(settings.retries_max), 0, 100},
    {{"backoff_min"}, TIME, AT(settings.backoff_min_ns), 0, 3600},
    {{"backoff_max"}, TIME, AT(settings.backoff_max_ns), 0, 3600},
    {{"concurrency_max", "max_concurrency", "max_pool_connections"}, COUNT, AT(settings.concurrency_max), 1, 4096},
    {{"network_threads"}, COUNT, AT(network_threads), 1, DMC_NET_ENGINES_MAX},
    {{"hedge_share"}, SHARE, AT(settings.hedge_share), 0, 1},
    {{"index_ahead_bytes_max"}, BYTES, AT(settings.index_ahead_bytes_max), 0, 1e9},
    {{"whole_object_bytes_max"}, BYTES, AT(settings.whole_object_bytes_max), 0, 1e15},
    {{"missing_is_403"}, FLAG, AT(settings.missing_is_403), 0, 0},
    {{"check_versions"}, FLAG, AT(settings.check_versions), 0, 0},
    {{"cache_dir", "cache_storage"}, TEXT, AT(cache_dir), 0, 0},
    {{"cache_bytes_max"}, BYTES, AT(cache_bytes_max), 0, 1e18},
    {{"cache_max_age", "expiry_time"}, TIME, AT(cache_max_age_s), 0, 1e15},
};
/* Keys with a meaning of their own. */
static const char *const keys_special[] = {"addressing_style",
                                           "virtual_hosted_style_request",
                                           "headers",
                                           "verify",
                                           "use_ssl",
                                           "client_kwargs",
                                           "config_kwargs",
                                           "s3",
                                           "gs",
                                           "gcs",
                                           "http",
                                           "https"};

static const char *const family_names[DMC_NET_FAMILIES] = {"http", "s3", "gs"};

static const struct option *find_option(const char *key)
{
    for (size_t i = 0; i < sizeof options_known / sizeof options_known[0]; i++)
        for (size_t n = 0; n < 7 && options_known[i].names[n]; n++)
            if (strcmp(options_known[i].names[n], key) == 0)
                return &options_known[i];
    return NULL;
}

/* --- what was meant? --- */

/* Insertions, deletions and changes of a letter between two words. Longer words than the table are far from each other. */
static uint32_t distance(const char *a, const char *b)
{
    enum { LONGEST = 40 };
    size_t m = strlen(a), n = strlen(b);
    uint32_t row[LONGEST + 1];
    if (m > LONGEST || n > LONGEST)
        return UINT32_MAX;
    for (size_t j = 0; j <= n; j++)
        row[j] = (uint32_t)j;
    for (size_t i = 1; i <= m; i++) {
        uint32_t corner = row[0];
        row[0] = (uint32_t)i;
        for (size_t j = 1; j <= n; j++) {
            uint32_t change = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            uint32_t shift = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = change < shift ? change : shift;
        }
    }
    return row[n];
}

static void consider(const char *key, const char *name, const char **best, uint32_t *least)
{
    uint32_t far = distance(key, name);
    if (far < *least) {
        *least = far;
        *best = name;
    }
}

static enum damacy_status unknown_key(const char *key, struct damacy_error *error)
{
    const char *best = NULL;
    uint32_t least = UINT32_MAX;
    for (size_t i = 0; i < sizeof options_known / sizeof options_known[0]; i++)
        for (size_t n = 0; n < 7 && options_known[i].names[n]; n++)
            consider(key, options_known[i].names[n], &best, &least);
    for (size_t i = 0; i < sizeof keys_special / sizeof keys_special[0]; i++)
        consider(key, keys_special[i], &best, &least);
    dmc_error_set(error, DAMACY_INVAL, "config", "storage_options: unknown key '%.60s'", key);
    if (best)
        dmc_error_hint(error, "the nearest known one is '%s'", best);
    return DAMACY_INVAL;
}

/* --- values --- */

static enum damacy_status wrong(const char *key, const char *expected, dmc_json *value, struct damacy_error *error)
{
    return dmc_error_set(error, DAMACY_INVAL, "config", "storage_options: '%s' is %s, expected %s", key,
                         dmc_json_type_str(value), expected);
}

/* true, false, and their names: obstore hands everything over as text. */
static bool read_flag(dmc_json *value, bool *flag)
{
    const char *text;
    if (dmc_json_bool(value, flag))
        return true;
    if (!dmc_json_string(value, &text, NULL))
        return false;
    *flag = strcmp(text, "true") == 0 || strcmp(text, "True") == 0 || strcmp(text, "requester") == 0;
    return *flag || strcmp(text, "false") == 0 || strcmp(text, "False") == 0;
}

/* Text that may become part of a header line, a path or a url. */
static bool read_text(dmc_json *value, const char **text)
{
    size_t bytes;
    if (!dmc_json_string(value, text, &bytes) || strlen(*text) != bytes)
        return false;
    for (const char *c = *text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return false;
    return true;
}

static enum damacy_status set_option(struct dmc_net_options *options, const struct option *option, const char *key,
                                     dmc_json *value, struct damacy_error *error)
{
    char *member = (char *)options + option->offset;
    double number;
    switch (option->kind) {
    case TEXT:
        if (dmc_json_type(value) == DMC_JSON_NULL)
            return DAMACY_OK;
        if (!read_text(value, (const char **)(void *)member))
            return wrong(key, "text without control characters", value, error);
        return DAMACY_OK;
    case FLAG:
        if (dmc_json_type(value) == DMC_JSON_NULL)
            return DAMACY_OK;
        if (!read_flag(value, (bool *)member))
            return wrong(key, "true or false", value, error);
        if (option->offset == AT(anon))
            options->anon_set = true;
        return DAMACY_OK;
    default:
        break;
    }
    if (dmc_json_type(value) == DMC_JSON_NULL)
        return DAMACY_OK;
    if (!dmc_json_f64(value, &number) || !isfinite(number))
        return wrong(key, "a number", value, error);
    if (number < option->least || number > option->most) {
        return dmc_error_set(error, DAMACY_INVAL, "config", "storage_options: '%.40s' must be from %g to %g", key,
                             option->least, option->most);
    }
    if (option->kind == COUNT)
        *(uint32_t *)(void *)member = (uint32_t)number;
    else if (option->kind == SHARE)
        *(double *)(void *)member = number;
    else if (option->kind == BYTES || option->offset == AT(cache_max_age_s))
        *(uint64_t *)(void *)member = (uint64_t)number;
    else
        *(uint64_t *)(void *)member = (uint64_t)(number * SECOND_NS);
    return DAMACY_OK;
}

static enum damacy_status set_headers(struct dmc_net_options *options, dmc_json *value, struct damacy_error *error)
{
    const char *name;
    dmc_json *text;
    if (dmc_json_type(value) != DMC_JSON_OBJECT)
        return wrong("headers", "an object of names and values", value, error);
    for (size_t i = 0; dmc_json_member(value, i, &name, &text); i++) {
        if (options->header_count == DMC_NET_USER_HEADERS_MAX)
            return dmc_error_set(error, DAMACY_INVAL, "config", "storage_options: more than %d headers",
                                 DMC_NET_USER_HEADERS_MAX);
        bool fits = *name != 0;
        for (const char *c = name; *c; c++)
            fits = fits && *c > ' ' && *c < 0x7f && !strchr("()<>@,;:\\\"/[]?={}", *c);
        if (!fits)
            return dmc_error_set(error, DAMACY_INVAL, "config", "storage_options: 'headers' has a name that no header has");
        if (!read_text(text, &options->headers[options->header_count].value))
            return dmc_error_set(error, DAMACY_INVAL, "config",
                                 "storage_options: header '%.60s' is no text without control characters", name);
        options->headers[options->header_count++].name = name;
    }
    return DAMACY_OK;
}

static enum damacy_status set_addressing(struct dmc_net_options *options, const char *key, dmc_json *value,
                                         struct damacy_error *error)
{
    const char *text;
    bool flag;
    if (strcmp(key, "virtual_hosted_style_request") == 0) {
        if (!read_flag(value, &flag))
            return wrong(key, "true or false", value, error);
        options->addressing = flag ? DMC_S3_ADDRESS_VIRTUAL : DMC_S3_ADDRESS_PATH;
        return DAMACY_OK;
    }
    if (!dmc_json_string(value, &text, NULL))
        return wrong(key, "'auto', 'path' or 'virtual'", value, error);
    if (strcmp(text, "auto") == 0)
        options->addressing = DMC_S3_ADDRESS_AUTO;
    else if (strcmp(text, "path") == 0)
        options->addressing = DMC_S3_ADDRESS_PATH;
    else if (strcmp(text, "virtual") == 0)
        options->addressing = DMC_S3_ADDRESS_VIRTUAL;
    else
        return dmc_error_set(error, DAMACY_INVAL, "config",
                             "storage_options: 'addressing_style' must be 'auto', 'path' or 'virtual'");
    return DAMACY_OK;
}

/* true, or a bundle of certificates, as in requests and botocore. */
static enum damacy_status set_verify(struct dmc_net_options *options, dmc_json *value, struct damacy_error *error)
{
    bool flag;
    if (read_flag(value, &flag)) {
        if (flag)
            return DAMACY_OK;
        dmc_error_set(error, DAMACY_INVAL, "config",
                      "storage_options: 'verify' is false, but certificates are always verified");
        dmc_error_hint(error, "give the CA that signed the server's certificate as 'ca_bundle'");
        return DAMACY_INVAL;
    }
    if (!read_text(value, &options->settings.ca_bundle))
        return wrong("verify", "true or the path of a CA bundle", value, error);
    return DAMACY_OK;
}

static enum damacy_status apply(struct dmc_net_options *options, enum dmc_net_family family, dmc_json *object, uint32_t depth,
                                struct damacy_error *error)
{
    const char *key;
    dmc_json *value;
    enum damacy_status status = DAMACY_OK;
    for (size_t i = 0; status == DAMACY_OK && dmc_json_member(object, i, &key, &value); i++) {
        const struct option *option = find_option(key);
        bool null = dmc_json_type(value) == DMC_JSON_NULL;
        enum dmc_net_family only = strcmp(key, "s3") == 0                                  ? DMC_NET_S3
                                   : strcmp(key, "gs") == 0 || strcmp(key, "gcs") == 0     ? DMC_NET_GS
                                   : strcmp(key, "http") == 0 || strcmp(key, "https") == 0 ? DMC_NET_HTTP
                                                                                           : DMC_NET_FAMILIES;
        bool kwargs = strcmp(key, "client_kwargs") == 0 || strcmp(key, "config_kwargs") == 0;
        if (option) {
            status = set_option(options, option, key, value, error);
        } else if (depth == 0 && only != DMC_NET_FAMILIES) {
            if (dmc_json_type(value) != DMC_JSON_OBJECT)
                status = wrong(key, "an object of options", value, error);
            else if (only == family)
                status = apply(options, family, value, 1, error);
        } else if (depth < 2 &&
                   (kwargs || (depth == 1 && strcmp(key, "s3") == 0))) { /* config_kwargs of botocore have one "s3" more */
            if (dmc_json_type(value) == DMC_JSON_OBJECT)
                status = apply(options, family, value, depth + 1, error);
            else if (!null)
                status = wrong(key, "an object of options", value, error);
        } else if (strcmp(key, "addressing_style") == 0 || strcmp(key, "virtual_hosted_style_request") == 0) {
            status = set_addressing(options, key, value, error);
        } else if (strcmp(key, "headers") == 0) {
            status = null ? DAMACY_OK : set_headers(options, value, error);
        } else if (strcmp(key, "verify") == 0) {
            status = null ? DAMACY_OK : set_verify(options, value, error);
        } else if (strcmp(key, "use_ssl") == 0) {
            bool flag;
            status =
                read_flag(value, &flag) ? DAMACY_OK : wrong(key, "true or false", value, error); /* the url's scheme decides */
        } else {
            status = unknown_key(key, error);
        }
    }
    return status;
}

static const char *from_environment(const char *name)
{
    const char *text = getenv(name);
    return text && *text ? text : NULL;
}

static void set_defaults(struct dmc_net_options *options, enum dmc_net_family family)
{
    memset(options, 0, sizeof *options);
    options->settings = (struct dmc_net_settings){
        .connect_timeout_ns = (uint64_t)(10 * SECOND_NS),
        .request_timeout_ns = (uint64_t)(300 * SECOND_NS),
        .stall_window_ns = (uint64_t)(10 * SECOND_NS),
        .stall_bytes_per_s = 1024,
        .backoff_min_ns = (uint64_t)(0.1 * SECOND_NS),
        .backoff_max_ns = (uint64_t)(10 * SECOND_NS),
        .retries_max = 8,
        .concurrency_max = 256,
        .hedge_share = 0.05,
        .index_ahead_bytes_max = 2u << 20,
        .whole_object_bytes_max = 64u << 20,
        .check_versions = true,
        .user_agent = "damacy",
    };
    options->settings.ca_bundle = family == DMC_NET_S3 ? from_environment("AWS_CA_BUNDLE") : NULL;
    if (!options->settings.ca_bundle)
        options->settings.ca_bundle = from_environment("CURL_CA_BUNDLE");
    if (!options->settings.ca_bundle)
        options->settings.ca_bundle = from_environment("SSL_CERT_FILE");
    options->plain_http = true;
    options->cache_max_age_s = UINT64_MAX;
}

enum damacy_status dmc_net_options_parse(const char *text, struct dmc_net_option_set *set, struct damacy_error *error)
{
    memset(set, 0, sizeof *set);
    for (int family = 0; family < DMC_NET_FAMILIES; family++)
        set_defaults(&set->families[family], (enum dmc_net_family)family);
    if (!text)
        return DAMACY_OK;
    size_t bytes = strnlen(text, OPTIONS_BYTES_MAX + 1);
    if (bytes > OPTIONS_BYTES_MAX)
        return dmc_error_set(error, DAMACY_INVAL, "config", "storage_options: longer than %u bytes", OPTIONS_BYTES_MAX);
    struct damacy_error inner;
    enum damacy_status status = dmc_json_parse(text, bytes, &set->document, &inner);
    if (status == DAMACY_OOM)
        return dmc_error_set(error, status, "config", "storage_options: no memory");
    if (status != DAMACY_OK) /* what the parser quotes might be part of a secret */
        return dmc_error_set(error, DAMACY_INVAL, "config",
                             "storage_options: no valid JSON, expected an object such as {\"anon\": true}");
    dmc_json *root = dmc_json_root(set->document);
    if (dmc_json_type(root) != DMC_JSON_OBJECT) {
        status =
            dmc_error_set(error, DAMACY_INVAL, "config", "storage_options: %s, expected an object", dmc_json_type_str(root));
    }
    for (int family = 0; status == DAMACY_OK && family < DMC_NET_FAMILIES; family++) {
        struct dmc_net_options *options = &set->families[family];
        status = apply(options, (enum dmc_net_family)family, root, 0, error);
        if (status == DAMACY_OK && (options->key == NULL) != (options->secret == NULL))
            status = dmc_error_set(error, DAMACY_INVAL, "config", "storage_options: 'key' and 'secret' go together%s%s",
                                   family == DMC_NET_S3 ? "" : ", for ", family == DMC_NET_S3 ? "" : family_names[family]);
    }
    if (status != DAMACY_OK)
        dmc_net_options_deinit(set);
    return status;
}

void dmc_net_options_deinit(struct dmc_net_option_set *set)
{
    dmc_json_free(set->document);
    memset(set, 0, sizeof *set);
}
