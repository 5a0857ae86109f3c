#include "base/error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

void dmc_text_copy(char *to, size_t capacity, const char *from)
{
    size_t bytes = strlen(from);
    if (bytes < capacity) {
        memmove(to, from, bytes + 1);
        return;
    }
    if (capacity == 0)
        return;
    /* Cut before a character, not inside one: Python decodes these texts as UTF-8. */
    size_t keep = capacity > 4 ? capacity - 4 : 0;
    while (keep > 0 && ((unsigned char)from[keep] & 0xc0) == 0x80)
        keep--;
    size_t dots = capacity - 1 < 3 ? capacity - 1 : 3;
    memmove(to, from, keep);
    memset(to + keep, '.', dots);
    to[keep + dots] = 0;
}

/* Format into `to`; a text that does not fit ends in "...". */
static void format_into(char *to, size_t capacity, const char *format, va_list arguments)
{
    int bytes = vsnprintf(to, capacity, format, arguments);
    if (bytes < 0) {
        dmc_text_copy(to, capacity, format); /* an encoding error: the bare format still tells something */
        return;
    }
    if ((size_t)bytes < capacity)
        return;
    size_t keep = capacity - 4;
    while (keep > 0 && ((unsigned char)to[keep] & 0xc0) == 0x80)
        keep--;
    memcpy(to + keep, "...", 4);
}

static void format_simple(char *to, size_t capacity, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void format_simple(char *to, size_t capacity, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    format_into(to, capacity, format, arguments);
    va_end(arguments);
}

/* The message may quote texts of `error` itself, so it is complete before the struct is cleared. */
static void start(struct damacy_error *error, enum damacy_status status, const char *stage, const char *message)
{
    memset(error, 0, sizeof *error);
    error->status = status;
    if (stage)
        dmc_text_copy(error->stage, sizeof error->stage, stage);
    dmc_text_copy(error->message, sizeof error->message, message);
}

enum damacy_status dmc_error_set(struct damacy_error *error, enum damacy_status status, const char *stage, const char *format,
                                 ...)
{
    assert(status != DAMACY_OK);
    if (!error)
        return status;
    char message[sizeof error->message];
    va_list arguments;
    va_start(arguments, format);
    format_into(message, sizeof message, format, arguments);
    va_end(arguments);
    start(error, status, stage, message);
    return status;
}

enum damacy_status dmc_error_set_os(struct damacy_error *error, enum damacy_status status, const char *stage, int os_error,
                                    const char *format, ...)
{
    assert(status != DAMACY_OK);
    if (!error)
        return status;
    char what[sizeof error->message];
    va_list arguments;
    va_start(arguments, format);
    format_into(what, sizeof what, format, arguments);
    va_end(arguments);
    char reason_buffer[128];
    const char *reason = strerror_r(os_error, reason_buffer, sizeof reason_buffer); /* GNU: may return a static text */
    char message[sizeof error->message];
    format_simple(message, sizeof message, "%s: %s", what, reason);
    start(error, status, stage, message);
    error->os_error = os_error;
    return status;
}

static void put_in_front(struct damacy_error *error, const char *place)
{
    char message[sizeof error->message];
    format_simple(message, sizeof message, "%s%s", place, error->message);
    memcpy(error->message, message, sizeof message);
}

/* Fill an empty member; the first to know, nearest to the failure, wins. Returns false if it already says so, or is cut. */
static bool adopt(char *member, size_t capacity, const char *text)
{
    char cut[sizeof((struct damacy_error *)0)->uri]; /* the longest member that comes here */
    dmc_text_copy(cut, capacity, text);
    if (strcmp(member, cut) == 0)
        return false;
    if (!member[0])
        memcpy(member, cut, strlen(cut) + 1);
    return true;
}

/* A '?' is part of the name there. */
static bool has_no_query(const char *uri)
{
    static const char *const schemes[] = {"file://", "s3://", "gs://"};
    bool found = false;
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        found = found || strncasecmp(uri, schemes[i], strlen(schemes[i])) == 0;
    return found;
}

void damacy_uri_shown(const char *uri, char *text, size_t capacity)
{
    const char *host = strstr(uri, "://");
    if (!host || host == uri) {
        dmc_text_copy(text, capacity, uri);
        return;
    }
    host += 3;
    size_t authority = strcspn(host, "/?#"), user = authority;
    while (user > 0 && host[user - 1] != '@')
        user--;
    const char *rest = host + user, *query = has_no_query(uri) ? NULL : strpbrk(rest, "?#");
    if (query && *query == '#')
        query = NULL;
    const char *port = memchr(rest, ':', authority - user);
    bool nonsense = port && *rest != '[' && port + 1 + strspn(port + 1, "0123456789") < host + authority;
    if (nonsense) { /* a password whose '/' or '#' is not encoded looks like a port that is none */
        rest = "***";
        user = 0;
        query = NULL;
    }
    if (user == 0 && !query && !nonsense) {
        dmc_text_copy(text, capacity, uri);
        return;
    }
    char shown[DAMACY_URI_BYTES_MAX + 8];
    format_simple(shown, sizeof shown, "%.*s%s%.*s%s%s", (int)(host - uri), uri, user ? "***@" : "",
                  query ? (int)(query - rest) : (int)strlen(rest), rest, query ? "?***" : "",
                  query ? query + strcspn(query, "#") : "");
    dmc_text_copy(text, capacity, shown);
}

void dmc_error_where(struct damacy_error *error, const char *uri, const char *key, uint64_t range_begin, uint64_t range_end)
{
    if (!error)
        return;
    char uri_cut[sizeof error->uri] = "";
    if (uri)
        damacy_uri_shown(uri, uri_cut, sizeof uri_cut);
    bool new_uri = uri_cut[0] && adopt(error->uri, sizeof error->uri, uri_cut);
    bool new_key = key && key[0] && adopt(error->key, sizeof error->key, key);
    bool has_range = range_begin != 0 || range_end != 0;
    bool new_range = has_range && (error->range_begin != range_begin || error->range_end != range_end);
    if (new_range && error->range_begin == 0 && error->range_end == 0) {
        error->range_begin = range_begin;
        error->range_end = range_end;
    }
    if (!new_uri && !new_key && !new_range)
        return;
    /* Long uris are cut as their member is, so that the message behind them survives. */
    char key_cut[sizeof error->key] = "", range[48] = "";
    if (!new_uri)
        uri_cut[0] = 0;
    if (new_key)
        dmc_text_copy(key_cut, sizeof key_cut, key);
    if (new_range)
        snprintf(range, sizeof range, "[%llu, %llu)", (unsigned long long)range_begin, (unsigned long long)range_end);
    char place[sizeof uri_cut + sizeof key_cut + sizeof range + 8];
    snprintf(place, sizeof place, "%s%s%s%s%s: ", uri_cut, new_uri && new_key ? ": " : "", key_cut,
             new_range && (new_uri || new_key) ? " " : "", range);
    put_in_front(error, place);
}

void dmc_error_field(struct damacy_error *error, const char *field)
{
    if (!error || !field || !field[0] || !adopt(error->field, sizeof error->field, field))
        return;
    char cut[sizeof error->field], place[sizeof error->field + 16];
    dmc_text_copy(cut, sizeof cut, field);
    snprintf(place, sizeof place, "field '%s': ", cut);
    put_in_front(error, place);
}

void dmc_error_expected(struct damacy_error *error, const char *expected, const char *found)
{
    if (!error)
        return;
    dmc_text_copy(error->expected, sizeof error->expected, expected);
    dmc_text_copy(error->found, sizeof error->found, found);
    char message[sizeof error->message];
    format_simple(message, sizeof message, "%s: found %s, expected %s", error->message, error->found, error->expected);
    memcpy(error->message, message, sizeof message);
}

void dmc_error_hint(struct damacy_error *error, const char *format, ...)
{
    if (!error)
        return;
    va_list arguments;
    va_start(arguments, format);
    format_into(error->hint, sizeof error->hint, format, arguments);
    va_end(arguments);
    char message[sizeof error->message];
    format_simple(message, sizeof message, "%s; %s", error->message, error->hint);
    memcpy(error->message, message, sizeof message);
}
