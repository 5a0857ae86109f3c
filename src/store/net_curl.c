/* See net_curl.h. */
#include "store/net_curl.h"
#include "base/error.h"
#include "base/log.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERSION_MIN                                                                                                            \
    0x074000u /* 7.64: what is used below is in it, and older ones are gone from every distribution in support */

static struct {
    pthread_once_t once;
    struct dmc_curl curl;
    enum damacy_status status;
    char reason[512];
} loaded = {.once = PTHREAD_ONCE_INIT};

static void *open_library(void)
{
    static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4", "libcurl.so"};
    const char *named = getenv("DAMACY_LIBCURL");
    if (named && *named) {
        void *library = dlopen(named, RTLD_NOW | RTLD_LOCAL);
        if (!library)
            snprintf(loaded.reason, sizeof loaded.reason, "DAMACY_LIBCURL names a library that cannot be loaded (%s)",
                     dlerror());
        return library;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (library)
            return library;
        if (i == 0)
            snprintf(loaded.reason, sizeof loaded.reason, "libcurl is not here (%s)", dlerror());
    }
    return NULL;
}

static void load(void)
{
    loaded.status = DAMACY_UNSUPPORTED;
    void *library = open_library();
    if (!library)
        return;
    struct dmc_curl *curl = &loaded.curl;
#define FIND(member)                                                                                                           \
    *(void **)&curl->member = dlsym(library, "curl_" #member);                                                                 \
    if (!curl->member) {                                                                                                       \
        snprintf(loaded.reason, sizeof loaded.reason, "the libcurl found has no curl_" #member ": it is too old");             \
        return;                                                                                                                \
    }
    DMC_CURL_FUNCTIONS(FIND)
#undef FIND
    if (curl->global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        snprintf(loaded.reason, sizeof loaded.reason, "libcurl could not be initialised");
        return;
    }
    const curl_version_info_data *info = curl->version_info(CURLVERSION_NOW);
    if (info->version_num < VERSION_MIN) {
        snprintf(loaded.reason, sizeof loaded.reason, "libcurl %s is too old: 7.64 or newer is needed", info->version);
        return;
    }
    curl->version = info->version_num;
    curl->http2 = (info->features & CURL_VERSION_HTTP2) != 0;
    curl->async_dns = (info->features & CURL_VERSION_ASYNCHDNS) != 0;
    dmc_log(DMC_STORE, DAMACY_LOG_INFO, "libcurl %s (%s)%s%s", info->version, info->ssl_version ? info->ssl_version : "no TLS",
            curl->http2 ? ", HTTP/2" : "", curl->async_dns ? "" : ", names are looked up one at a time");
    loaded.status = DAMACY_OK;
}

enum damacy_status dmc_curl_load(const struct dmc_curl **curl, struct damacy_error *error)
{
    pthread_once(&loaded.once, load);
    if (loaded.status != DAMACY_OK) {
        dmc_error_set(error, loaded.status, "config", "reading over the network needs libcurl: %s", loaded.reason);
        dmc_error_hint(
            error, "install it (Debian, Ubuntu: apt-get install libcurl4; Fedora: dnf install libcurl; conda: libcurl), or set "
                   "DAMACY_LIBCURL to the path of a libcurl.so.4");
        return loaded.status;
    }
    *curl = &loaded.curl;
    return DAMACY_OK;
}

const char *dmc_curl_reason(const struct dmc_curl *curl, const char *buffer, CURLcode code)
{
    return buffer[0] && !strchr(buffer, '@') ? buffer : curl->easy_strerror(code);
}
