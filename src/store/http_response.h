/* What a server says in front of a body, as far as it concerns us. Pure: header lines in, facts out; fuzzed. */
#ifndef DMC_HTTP_RESPONSE_H
#define DMC_HTTP_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DMC_HTTP_UNKNOWN UINT64_MAX

struct dmc_http_response {
    uint32_t status;         /* of the last block of headers; 0: none yet */
    bool ended;              /* the blank line behind the headers of a final (not 1xx) answer was seen */
    uint64_t content_length; /* UNKNOWN unless told */
    /* Content-Range */
    bool has_range;                  /* "bytes BEGIN-LAST/..." */
    bool unsatisfied;                /* "bytes *" "/TOTAL" */
    bool range_malformed;            /* it makes no sense */
    uint64_t range_begin, range_end; /* half-open */
    uint64_t object_bytes;           /* UNKNOWN for "*" and where there is no Content-Range */
    bool multipart;                  /* multipart/byteranges: several ranges, which we never ask for */
    bool encoded;                    /* by Content-Encoding or Transfer-Encoding: the bytes are not those of the object */
    char etag[160];                  /* as sent, quotes and all; "" none, or too long for use */
    uint64_t version_tag;            /* of ETag or Last-Modified; the lowest bit tells which; 0: neither */
    uint64_t retry_after_s;          /* UNKNOWN unless told */
    uint64_t date_s;                 /* Date, seconds since 1970; UNKNOWN unless told */
    char region[32];                 /* x-amz-bucket-region */
    char location[4096];             /* "" none; longer ones are none */
};

void dmc_http_response_reset(struct dmc_http_response *response);

/* One line of headers, with or without its CRLF. A status line begins anew. `now_s`: for a Retry-After that is a date. */
void dmc_http_response_line(struct dmc_http_response *response, const char *line, size_t bytes, uint64_t now_s);

/* An HTTP date ("Sun, 06 Nov 1994 08:49:37 GMT"), or a timestamp of ISO 8601 in UTC ("2026-01-02T03:04:05Z", fractions are
 * cut), as seconds since 1970. */
bool dmc_http_date(const char *text, size_t bytes, uint64_t *seconds);

/* Is the bit that tells ETags from dates the same? Only then may tags be compared. */
static inline bool dmc_http_tags_differ(uint64_t a, uint64_t b)
{
    return a != b && a != 0 && b != 0 && (a & 1) == (b & 1);
}

#endif
