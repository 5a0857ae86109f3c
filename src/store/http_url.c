/* See http_url.h. */
#include "store/http_url.h"

#include <string.h>
#include <strings.h>

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* "host", "host:port", "[::1]:port". */
static const char *parse_host(const char *at, const char *end, struct dmc_http_url *url)
{
    const char *host_end;
    if (at < end && *at == '[') {
        host_end = memchr(at, ']', (size_t)(end - at));
        if (!host_end)
            return "the '[' of an IPv6 address is not closed";
        host_end++;
    } else {
        host_end = memchr(at, ':', (size_t)(end - at));
        if (!host_end)
            host_end = end;
    }
    size_t bytes = (size_t)(host_end - at);
    if (bytes == 0)
        return "it has no host";
    if (bytes > DMC_HTTP_HOST_MAX)
        return "its host is too long";
    bool address = *at == '[';
    for (size_t i = 0; i < bytes; i++) {
        char c = at[i];
        bool fits = is_alpha(c) || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
                    (address && (c == ':' || c == '[' || c == ']' || c == '%'));
        if (!fits)
            return "its host has a character that no host has";
        url->host[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    url->host[bytes] = 0;
    url->port = url->tls ? 443 : 80;
    at = host_end;
    if (at == end)
        return NULL;
    if (*at++ != ':')
        return "it has something behind its host";
    uint32_t port = 0;
    if (at == end)
        return NULL; /* RFC 3986 allows "host:" */
    for (; at < end; at++) {
        if (*at < '0' || *at > '9')
            return "its port is no number";
        port = port * 10 + (uint32_t)(*at - '0');
        if (port > 65535)
            return "its port is no port";
    }
    if (port == 0)
        return "its port is no port";
    url->port = (uint16_t)port;
    return NULL;
}

const char *dmc_http_url_parse(const char *text, struct dmc_http_url *url)
{
    memset(url, 0, sizeof *url);
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c <= ' ' || *c == 0x7f || *c == '\\')
            if (*c != ' ' || c < text + 8) /* a blank in a path is encoded later; control characters would end a header line */
                return "it has a control character, a blank in its host or a backslash";
    if (strncasecmp(text, "https://", 8) == 0)
        url->tls = true;
    else if (strncasecmp(text, "http://", 7) != 0)
        return "it is neither http:// nor https://";
    const char *at = text + (url->tls ? 8 : 7);
    const char *end = at + strcspn(at, "/?#");
    const char *user_end = NULL;
    for (const char *c = at; c < end; c++)
        if (*c == '@')
            user_end = c;
    if (user_end) {
        url->user = at;
        url->user_bytes = (size_t)(user_end - at);
        at = user_end + 1;
    }
    const char *wrong = parse_host(at, end, url);
    if (wrong)
        return wrong;
    url->path = end;
    url->path_bytes = strcspn(end, "?#");
    const char *rest = end + url->path_bytes;
    if (*rest == '?') {
        url->query = rest + 1;
        url->query_bytes = strcspn(rest + 1, "#");
    }
    return NULL;
}

bool dmc_http_same_origin(const struct dmc_http_url *a, const struct dmc_http_url *b)
{
    return a->tls == b->tls && a->port == b->port && strcmp(a->host, b->host) == 0;
}

void dmc_http_origin(const struct dmc_http_url *url, struct dmc_text *text)
{
    dmc_text_format(text, "%s://%s", url->tls ? "https" : "http", url->host);
    if (url->port != (url->tls ? 443 : 80))
        dmc_text_format(text, ":%u", url->port);
}

static bool has_scheme(const char *text)
{
    const char *at = text;
    while (is_alpha(*at) || (at > text && ((*at >= '0' && *at <= '9') || *at == '+' || *at == '-' || *at == '.')))
        at++;
    return at > text && *at == ':';
}

const char *dmc_http_redirect(const char *base, const char *location, struct dmc_text *target)
{
    struct dmc_http_url from, to;
    if (dmc_http_url_parse(base, &from))
        return "the url it came from makes no sense";
    dmc_text_clear(target);
    if (has_scheme(location)) {
        dmc_text_add(target, location);
    } else if (location[0] == '/' && location[1] == '/') {
        dmc_text_format(target, "%s:", from.tls ? "https" : "http");
        dmc_text_add(target, location);
    } else {
        dmc_http_origin(&from, target);
        if (location[0] != '/') { /* beside the last part of the path */
            size_t keep = from.path_bytes;
            while (keep > 0 && from.path[keep - 1] != '/')
                keep--;
            if (location[0] == '?')
                keep = from.path_bytes;
            if (keep == 0)
                dmc_text_add(target, "/");
            dmc_text_bytes(target, from.path, keep);
        }
        dmc_text_add(target, location);
    }
    if (target->failed)
        return "there is no memory for its target";
    const char *wrong = dmc_http_url_parse(target->data, &to);
    if (wrong)
        return has_scheme(location) && strncasecmp(location, "http", 4) != 0 ? "it leads to another scheme"
                                                                             : "its target makes no sense";
    if (from.tls && !to.tls)
        return "it leads from https to http";
    if (to.user_bytes)
        return "its target has a user name in it";
    return NULL;
}

/* How many bytes at `path` stay as they are: one, three of an escape, or none. */
static size_t stays(const char *path, size_t left)
{
    char c = *path;
    if (is_alpha(c) || (c >= '0' && c <= '9') || (c && strchr("-._~/!$&'()*+,;=:@", c)))
        return 1;
    return c == '%' && left > 2 && is_hex(path[1]) && is_hex(path[2]) ? 3 : 0;
}

void dmc_http_path(struct dmc_text *text, const char *path, size_t bytes)
{
    const char *end = path + bytes;
    while (path < end) {
        const char *begin = path;
        for (size_t count; path < end && (count = stays(path, (size_t)(end - path))) > 0;)
            path += count;
        dmc_text_bytes(text, begin, (size_t)(path - begin));
        for (begin = path; path < end && stays(path, (size_t)(end - path)) == 0;)
            path++;
        dmc_text_encoded(text, begin, (size_t)(path - begin), true);
    }
}
