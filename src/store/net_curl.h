/* libcurl, found at run time: linking it would drag some twenty-seven libraries into every wheel, for users who may read local
 * files only. Its headers are needed to build, its library to read over the network; net_curl.c is the one place that loads it.
 */
#ifndef DMC_NET_CURL_H
#define DMC_NET_CURL_H

#include "damacy/damacy.h"

#include <curl/curl.h>

/* X(member): the function curl_<member>. */
#define DMC_CURL_FUNCTIONS(X)                                                                                                  \
    X(global_init)                                                                                                             \
    X(version_info)                                                                                                            \
    X(easy_init)                                                                                                               \
    X(easy_setopt)                                                                                                             \
    X(easy_getinfo)                                                                                                            \
    X(easy_perform)                                                                                                            \
    X(easy_reset)                                                                                                              \
    X(easy_strerror)                                                                                                           \
    X(easy_cleanup)                                                                                                            \
    X(multi_init)                                                                                                              \
    X(multi_setopt)                                                                                                            \
    X(multi_add_handle)                                                                                                        \
    X(multi_remove_handle)                                                                                                     \
    X(multi_socket_action)                                                                                                     \
    X(multi_info_read)                                                                                                         \
    X(multi_cleanup)                                                                                                           \
    X(multi_strerror)

struct dmc_curl {
#define DMC_CURL_MEMBER(member) __typeof__(curl_##member) *member;
    DMC_CURL_FUNCTIONS(DMC_CURL_MEMBER)
#undef DMC_CURL_MEMBER
    unsigned version; /* 0x075801 is 7.88.1 */
    bool http2;
    bool async_dns; /* false: looking a name up blocks */
};

/* Loaded once for the process and kept. UNSUPPORTED, with what is missing and how to mend it. */
enum damacy_status dmc_curl_load(const struct dmc_curl **curl, struct damacy_error *error);

/* Why a transfer failed: what libcurl wrote into its error buffer, or its general words where it wrote nothing, or where an '@'
 * shows that it quotes a url, of a proxy for instance, with a name and password. */
const char *dmc_curl_reason(const struct dmc_curl *curl, const char *buffer, CURLcode code);

#endif
