/* Urls: their parts, where a redirect leads, and how a key becomes a path. Pure. */
#ifndef DMC_HTTP_URL_H
#define DMC_HTTP_URL_H

#include "store/net_text.h"

#define DMC_HTTP_HOST_MAX 255

/* Views into the text that was parsed. */
struct dmc_http_url {
    bool tls;
    const char *user; /* "name:password", percent-encoded; user_bytes 0: none */
    size_t user_bytes;
    char host[DMC_HTTP_HOST_MAX + 1]; /* lower case; IPv6 in brackets */
    uint16_t port;                    /* the scheme's own where none is given */
    const char *path;                 /* from the first '/' on; "" none */
    size_t path_bytes;
    const char *query; /* without '?'; NULL none */
    size_t query_bytes;
};

/* http or https, absolute; a fragment is left out. NULL, or what is wrong with it, in a few words of static storage. */
const char *dmc_http_url_parse(const char *text, struct dmc_http_url *url);

bool dmc_http_same_origin(const struct dmc_http_url *a, const struct dmc_http_url *b);

/* The target of `location` (absolute, or relative to `base`) as an absolute url in `target`. NULL, or why it is refused:
 * another scheme than http(s), https to http, or nonsense. */
const char *dmc_http_redirect(const char *base, const char *location, struct dmc_text *target);

/* "scheme://host[:port]": the port only where it is not the scheme's own, as the Host header has it. */
void dmc_http_origin(const struct dmc_http_url *url, struct dmc_text *text);

/* A path as given by a user, who may or may not have percent-encoded it: what is %XX stays, all else that may not stand in a
 * path is encoded. */
void dmc_http_path(struct dmc_text *text, const char *path, size_t bytes);

#endif
