/* Which store a uri means, and which key in it. */
#include "base/error.h"
#include "base/mem.h"
#include "store/containers.h"
#include "store/net_store.h"

#include <string.h>
#include <strings.h>

#define IN_AZURE "; of a container in Azure the https:// uri does"

struct dmc_stores {
    struct dmc_store *file;   /* what file uris go to */
    struct dmc_store *memory; /* NULL: none was set */
    struct dmc_store *owned;  /* the file store made here */
    struct dmc_containers *containers;
    struct dmc_net *net; /* http, https, s3, gs */
};

/* What other programs call what is here, or where it is. */
static const struct {
    const char *scheme, *instead;
} others[] = {{"gcs", "; gcs:// is gs:// here"},
              {"s3a", "; s3a:// is s3:// here"},
              {"s3n", "; s3n:// is s3:// here"},
              {"az", IN_AZURE},
              {"abfs", IN_AZURE},
              {"abfss", IN_AZURE},
              {"adl", IN_AZURE},
              {"wasbs", IN_AZURE}};

enum damacy_status dmc_stores_create(const struct dmc_stores_options *options, struct dmc_stores **out,
                                     struct damacy_error *error)
{
    static const struct dmc_stores_options defaults;
    if (!options)
        options = &defaults;
    struct dmc_stores *stores = dmc_calloc(1, sizeof *stores);
    if (!stores)
        return dmc_error_set(error, DAMACY_OOM, "config", "no memory for the stores");
    enum damacy_status status = dmc_store_file_create(&options->file, &stores->owned, error);
    if (status == DAMACY_OK)
        status = dmc_containers_create(
            stores, options->container_bytes_max ? options->container_bytes_max : DMC_CONTAINER_BYTES_DEFAULT,
            &stores->containers, error);
    if (status == DAMACY_OK)
        status = dmc_net_create(options->storage_options,
                                options->network_bytes_max ? options->network_bytes_max : DMC_NETWORK_BYTES_DEFAULT,
                                &stores->net, error);
    if (status != DAMACY_OK) {
        dmc_stores_destroy(stores);
        return status;
    }
    stores->file = stores->owned;
    *out = stores;
    return DAMACY_OK;
}

void dmc_stores_destroy(struct dmc_stores *stores)
{
    if (!stores)
        return;
    dmc_containers_destroy(stores->containers); /* first: references may lie in network stores */
    dmc_net_destroy(stores->net);
    dmc_store_destroy(stores->owned);
    dmc_free(stores);
}

void dmc_stores_stop(struct dmc_stores *stores)
{
    dmc_containers_stop(stores->containers);
}

void dmc_stores_set(struct dmc_stores *stores, const char *scheme, struct dmc_store *store)
{
    if (strcmp(scheme, "file") == 0)
        stores->file = store;
    else if (strcmp(scheme, "memory") == 0)
        stores->memory = store;
}

void dmc_stores_remote_stats(struct dmc_stores *stores, struct damacy_remote_stats *stats)
{
    dmc_net_stats(stores->net, stats);
}

/* Length of "scheme" in "scheme://", 0 if the uri is a path. RFC 3986: a letter, then letters, digits, '+', '-', '.'. */
static size_t scheme_length(const char *uri)
{
    const char *end = uri;
    while ((*end >= 'a' && *end <= 'z') || (*end >= 'A' && *end <= 'Z') ||
           (end > uri && ((*end >= '0' && *end <= '9') || *end == '+' || *end == '-' || *end == '.')))
        end++;
    size_t length = (size_t)(end - uri);
    if (strncmp(end, "://", 3) == 0)
        return length;
    /* RFC 8089 also knows file:/path. Of other schemes that would more likely be a path with a colon in it. */
    return length == 4 && strncasecmp(uri, "file:/", 6) == 0 ? length : 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Write `text` to `prefix`, without slashes at its end: "/" becomes "", whose keys then begin with the root's slash. */
static enum damacy_status write_prefix(const char *text, bool decode, char *prefix, size_t capacity, struct damacy_error *error)
{
    size_t length = 0;
    while (*text) {
        char c = *text++;
        if (decode && c == '%') {
            int high = hex_digit(text[0]), low = high < 0 ? -1 : hex_digit(text[1]);
            if (low < 0 || high * 16 + low == 0)
                return dmc_error_set(error, DAMACY_INVAL, "config",
                                     "the uri has a '%%' that is not followed by two hex digits of a character");
            c = (char)(high * 16 + low);
            text += 2;
        }
        if (length + 1 >= capacity)
            return dmc_error_set(error, DAMACY_INVAL, "config", "the uri is too long");
        prefix[length++] = c;
    }
    while (length > 0 && prefix[length - 1] == '/')
        length--;
    prefix[length] = 0;
    return DAMACY_OK;
}

static enum damacy_status resolve_file(const char *rest, char *prefix, size_t capacity, struct damacy_error *error)
{
    if (rest[0] == '/' && rest[1] == '/') { /* an authority: none, or this machine */
        rest += 2;
        size_t host = strcspn(rest, "/");
        if (host != 0 && !(host == 9 && strncasecmp(rest, "localhost", 9) == 0)) {
            dmc_error_set(error, DAMACY_INVAL, "config",
                          "file:// uris take an absolute path on this machine, not a host '%.*s'", host > 64 ? 64 : (int)host,
                          rest);
            dmc_error_hint(error, "write file:///absolute/path, or give the plain path");
            return DAMACY_INVAL;
        }
        rest += host;
    }
    if (*rest != '/')
        return dmc_error_set(error, DAMACY_INVAL, "config", "the uri has no path");
    return write_prefix(rest, true, prefix, capacity, error);
}

enum damacy_status dmc_stores_resolve_plain(struct dmc_stores *stores, const char *uri, struct dmc_store **store, char *prefix,
                                            size_t capacity, struct damacy_error *error)
{
    if (!uri || !*uri || capacity == 0)
        return dmc_error_set(error, DAMACY_INVAL, "config", "the uri is empty");
    if (strnlen(uri, DAMACY_URI_BYTES_MAX + 1) > DAMACY_URI_BYTES_MAX)
        return dmc_error_set(error, DAMACY_INVAL, "config", "the uri is longer than %d bytes", DAMACY_URI_BYTES_MAX);
    size_t scheme = scheme_length(uri);
    if (scheme == 0) {
        *store = stores->file;
        return write_prefix(uri, false, prefix, capacity, error);
    }
    if (scheme == 4 && strncasecmp(uri, "file", 4) == 0) {
        *store = stores->file;
        return resolve_file(uri + 5, prefix, capacity, error);
    }
    if (scheme == 6 && strncasecmp(uri, "memory", 6) == 0 && stores->memory) {
        *store = stores->memory;
        if (!uri[9])
            return dmc_error_set(error, DAMACY_INVAL, "config", "the uri names no object");
        return write_prefix(uri + 9, false, prefix, capacity, error);
    }
    if (dmc_net_scheme(uri, scheme))
        return dmc_net_resolve(stores->net, uri, store, prefix, capacity, error);
    dmc_error_set(error, DAMACY_UNSUPPORTED, "config", "there is no store for '%.*s://' uris", scheme > 64 ? 64 : (int)scheme,
                  uri);
    const char *instead = "";
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strlen(others[i].scheme) == scheme && strncasecmp(uri, others[i].scheme, scheme) == 0)
            instead = others[i].instead;
    dmc_error_hint(error, "known are paths, file://, http://, https://, s3:// and gs://%s", instead);
    return DAMACY_UNSUPPORTED;
}

/* The path inside a container, without what says nothing: its keys have no empty parts and no '.'. */
static enum damacy_status write_inside(const char *inside, char *prefix, struct damacy_error *error)
{
    size_t length = 0;
    while (*inside) {
        size_t bytes = strcspn(inside, "/");
        if (bytes == 2 && memcmp(inside, "..", 2) == 0)
            return dmc_error_set(error, DAMACY_INVAL, "config", "'..' has no meaning inside a zip or reference file");
        if (bytes > 0 && !(bytes == 1 && *inside == '.')) {
            if (length > 0)
                prefix[length++] = '/';
            memmove(prefix + length, inside, bytes);
            length += bytes;
        }
        inside += bytes + (inside[bytes] == '/');
    }
    prefix[length] = 0;
    return DAMACY_OK;
}

enum damacy_status dmc_stores_resolve(struct dmc_stores *stores, const char *uri, struct dmc_store **store, char *prefix,
                                      size_t capacity, struct damacy_error *error)
{
    enum damacy_status status = dmc_stores_resolve_plain(stores, uri, store, prefix, capacity, error);
    bool remote = !status && dmc_net_scheme(uri, scheme_length(uri));
    if (status || (!remote && *store != stores->file))
        return status;
    struct dmc_store *container;
    const char *inside = NULL;
    status = remote ? dmc_containers_find_remote(stores->containers, *store, prefix, &container, &inside, error)
                    : dmc_containers_find(stores->containers, *store, prefix, &container, &inside, error);
    if (status || !container)
        return status;
    *store = container;
    status = write_inside(inside, prefix, error);
    if (status == DAMACY_OK && remote && strncasecmp(uri, "http", 4) == 0) /* a url's path, whose names are encoded */
        status = write_prefix(prefix, true, prefix, capacity, error);
    return status;
}
