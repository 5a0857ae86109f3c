/* See http_response.h. Lengths are parsed strictly: a number that is none, or does not fit, is as if it were not there. */
#include "store/http_response.h"
#include "base/hash.h"

#include <string.h>
#include <strings.h>

#define TAG_SEED 0x7461677365656421u

void dmc_http_response_reset(struct dmc_http_response *response)
{
    memset(response, 0, sizeof *response);
    response->content_length = DMC_HTTP_UNKNOWN;
    response->object_bytes = DMC_HTTP_UNKNOWN;
    response->retry_after_s = DMC_HTTP_UNKNOWN;
    response->date_s = DMC_HTTP_UNKNOWN;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Digits at *at, up to `end`; false if there are none or they exceed what fits below UNKNOWN. */
static bool take_number(const char **at, const char *end, uint64_t *number)
{
    const char *begin = *at;
    uint64_t value = 0;
    for (; *at < end && is_digit(**at); ++*at) {
        uint64_t digit = (uint64_t)(**at - '0');
        if (value > (INT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *number = value;
    return *at > begin;
}

static bool whole_number(const char *at, const char *end, uint64_t *number)
{
    return take_number(&at, end, number) && at == end;
}

/* --- dates --- */

/* Days from 1970-01-01 to a date of the Gregorian calendar, by eras of 400 years that begin in March. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* `pattern`: '0' a digit, others themselves. Writes the number that each run of digits makes. */
static bool take_pattern(const char **at, const char *end, const char *pattern, uint64_t *numbers)
{
    size_t count = 0;
    bool inside = false;
    for (; *pattern; pattern++, ++*at) {
        if (*at >= end)
            return false;
        if (*pattern != '0') {
            if (**at != *pattern)
                return false;
            inside = false;
            continue;
        }
        if (!is_digit(**at))
            return false;
        if (!inside)
            numbers[count++] = 0;
        inside = true;
        numbers[count - 1] = numbers[count - 1] * 10 + (uint64_t)(**at - '0');
    }
    return true;
}

static bool to_seconds(uint64_t year, uint64_t month, uint64_t day, const uint64_t *time, uint64_t *seconds)
{
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || time[0] > 23 || time[1] > 59 || time[2] > 60)
        return false;
    int64_t days = days_of((int64_t)year, (int64_t)month, (int64_t)day);
    *seconds = (uint64_t)days * 86400 + time[0] * 3600 + time[1] * 60 + time[2];
    return true;
}

bool dmc_http_date(const char *text, size_t bytes, uint64_t *seconds)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const char *at = text, *end = text + bytes;
    uint64_t date[6], time[3];
    if (bytes > 0 && is_digit(*text)) {
        if (!take_pattern(&at, end, "0000-00-00T00:00:00", date))
            return false;
        if (at < end && *at == '.')
            for (at++; at < end && is_digit(*at); at++) {
            }
        bool utc = (end - at == 1 && *at == 'Z') || (end - at == 6 && memcmp(at, "+00:00", 6) == 0);
        return utc && to_seconds(date[0], date[1], date[2], date + 3, seconds);
    }
    if (bytes < 5 || text[3] != ',' || text[4] != ' ')
        return false;
    at += 5;
    uint64_t day, year;
    if (!take_pattern(&at, end, "00 ", &day) || end - at < 4)
        return false;
    uint64_t month = 0;
    for (uint64_t m = 0; m < 12; m++)
        if (memcmp(at, months + 3 * m, 3) == 0)
            month = m + 1;
    at += 3;
    return take_pattern(&at, end, " 0000 ", &year) && take_pattern(&at, end, "00:00:00 GMT", time) && at == end &&
           to_seconds(year, month, day, time, seconds);
}

/* --- lines --- */

static void status_line(struct dmc_http_response *response, const char *line, const char *end)
{
    dmc_http_response_reset(response);
    const char *at = memchr(line, ' ', (size_t)(end - line));
    uint64_t status;
    if (!at)
        return;
    at++;
    if (take_number(&at, end, &status) && status >= 100 && status <= 999 && (at == end || *at == ' '))
        response->status = (uint32_t)status;
}

static void content_range(struct dmc_http_response *response, const char *at, const char *end)
{
    uint64_t begin, last, total = DMC_HTTP_UNKNOWN;
    response->has_range = response->unsatisfied = false;
    response->range_malformed = true;
    if (end - at < 6 || strncasecmp(at, "bytes", 5) != 0 || (at[5] != ' ' && at[5] != '='))
        return;
    at += 6;
    if (at < end && *at == '*') {
        if (end - at < 3 || at[1] != '/' || !whole_number(at + 2, end, &total))
            return;
        response->unsatisfied = true;
    } else {
        if (!take_number(&at, end, &begin) || at >= end || *at++ != '-' || !take_number(&at, end, &last) || at >= end ||
            *at++ != '/')
            return;
        if (!(end - at == 1 && *at == '*') && !whole_number(at, end, &total))
            return;
        if (last < begin || (total != DMC_HTTP_UNKNOWN && last >= total))
            return;
        response->has_range = true;
        response->range_begin = begin;
        response->range_end = last + 1;
    }
    response->object_bytes = total;
    response->range_malformed = false;
}

static void copy_line(char *to, size_t capacity, const char *from, const char *end)
{
    size_t bytes = (size_t)(end - from);
    to[0] = 0;
    if (bytes < capacity && !memchr(from, 0, bytes)) {
        memcpy(to, from, bytes);
        to[bytes] = 0;
    }
}

static void etag(struct dmc_http_response *response, const char *at, const char *end)
{
    copy_line(response->etag, sizeof response->etag, at, end);
    if (end - at > 2 && (memcmp(at, "W/", 2) == 0 || memcmp(at, "w/", 2) == 0))
        at += 2;
    if (at < end)
        response->version_tag = dmc_hash_bytes(at, (size_t)(end - at), TAG_SEED) | 1;
}

static void last_modified(struct dmc_http_response *response, const char *at, const char *end)
{
    if (at < end && !(response->version_tag & 1)) {
        uint64_t tag = dmc_hash_bytes(at, (size_t)(end - at), TAG_SEED) & ~UINT64_C(1);
        response->version_tag = tag ? tag : 2;
    }
}

static void retry_after(struct dmc_http_response *response, const char *at, const char *end, uint64_t now_s)
{
    uint64_t seconds;
    if (whole_number(at, end, &seconds))
        response->retry_after_s = seconds;
    else if (dmc_http_date(at, (size_t)(end - at), &seconds))
        response->retry_after_s = seconds > now_s ? seconds - now_s : 0;
}

static bool is_name(const char *line, size_t bytes, const char *name)
{
    return strlen(name) == bytes && strncasecmp(line, name, bytes) == 0;
}

static bool begins_with(const char *at, const char *end, const char *text)
{
    size_t bytes = strlen(text);
    return (size_t)(end - at) >= bytes && strncasecmp(at, text, bytes) == 0;
}

void dmc_http_response_line(struct dmc_http_response *response, const char *line, size_t bytes, uint64_t now_s)
{
    const char *end = line + bytes;
    while (end > line && (end[-1] == '\n' || end[-1] == '\r' || end[-1] == ' ' || end[-1] == '\t'))
        end--;
    if (end == line) {
        response->ended = response->status >= 200;
        return;
    }
    if (begins_with(line, end, "HTTP/")) {
        status_line(response, line, end);
        return;
    }
    const char *at = memchr(line, ':', (size_t)(end - line));
    if (!at || response->ended) /* trailers have nothing to say */
        return;
    size_t name = (size_t)(at - line);
    for (at++; at < end && (*at == ' ' || *at == '\t'); at++) {
    }
    uint64_t number;
    if (is_name(line, name, "content-length")) {
        if (whole_number(at, end, &number))
            response->content_length = number;
    } else if (is_name(line, name, "content-range")) {
        content_range(response, at, end);
    } else if (is_name(line, name, "content-type")) {
        response->multipart = begins_with(at, end, "multipart/byteranges");
    } else if (is_name(line, name, "content-encoding")) {
        /* S3 hands out "aws-chunked" for objects whose writer left it there: it says how they came, not what they are. */
        bool plain = at == end || (end - at == 8 && begins_with(at, end, "identity")) ||
                     (end - at == 11 && begins_with(at, end, "aws-chunked"));
        response->encoded |= !plain;
    } else if (is_name(line, name, "transfer-encoding")) {
        /* libcurl puts chunks together; what else was done to the bytes nobody asked for, and nothing undoes it. */
        response->encoded |=
            !((end - at == 7 && begins_with(at, end, "chunked")) || (end - at == 8 && begins_with(at, end, "identity")));
    } else if (is_name(line, name, "etag")) {
        etag(response, at, end);
    } else if (is_name(line, name, "last-modified")) {
        last_modified(response, at, end);
    } else if (is_name(line, name, "retry-after")) {
        retry_after(response, at, end, now_s);
    } else if (is_name(line, name, "date")) {
        if (dmc_http_date(at, (size_t)(end - at), &number))
            response->date_s = number;
    } else if (is_name(line, name, "x-amz-bucket-region")) {
        copy_line(response->region, sizeof response->region, at, end);
    } else if (is_name(line, name, "location")) {
        copy_line(response->location, sizeof response->location, at, end);
    }
}
