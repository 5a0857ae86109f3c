/* Headers of any server, and where a redirect may lead: nothing crashes, and what is taken makes sense. */
#include "store/http_response.h"
#include "store/http_url.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct dmc_http_response response;
    struct dmc_text target = {0};
    dmc_http_response_reset(&response);
    for (size_t at = 0; at < bytes;) {
        const uint8_t *end = memchr(data + at, '\n', bytes - at);
        size_t length = end ? (size_t)(end + 1 - (data + at)) : bytes - at;
        char *line = malloc(length); /* exactly as long, for the sanitizer */
        if (!line)
            abort();
        memcpy(line, data + at, length);
        dmc_http_response_line(&response, line, length, 784111777);
        free(line);
        at += length;
    }
    if (response.has_range && (response.range_malformed || response.range_begin >= response.range_end ||
                               (response.object_bytes != DMC_HTTP_UNKNOWN && response.range_end > response.object_bytes)))
        abort();
    if (response.location[0] && !dmc_http_redirect("https://host.example:8443/a/b?c", response.location, &target)) {
        struct dmc_http_url url;
        if (dmc_http_url_parse(target.data, &url) || !url.tls || url.user_bytes || strpbrk(target.data, "\r\n"))
            abort();
    }
    dmc_text_clear(&target);
    dmc_http_path(&target, (const char *)data, bytes);
    if (target.data && strpbrk(target.data, " \r\n?#\""))
        abort();
    dmc_text_free(&target);
    return 0;
}
