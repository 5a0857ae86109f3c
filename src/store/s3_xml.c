/* See s3_xml.h. */
#include "store/s3_xml.h"
#include "base/error.h"
#include "base/utf8.h"

#include <string.h>

#define PATH_MAX_BYTES 256

struct parser {
    char *at, *end;
    char path[PATH_MAX_BYTES];
    size_t path_bytes;
    size_t starts[DMC_S3_XML_DEPTH_MAX]; /* of each name in the path */
    uint32_t depth;
    bool leaf; /* no element was inside the innermost one so far */
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' ||
           c == ':';
}

static bool skip_text(struct parser *parser, const char *text)
{
    size_t bytes = strlen(text);
    if ((size_t)(parser->end - parser->at) < bytes || memcmp(parser->at, text, bytes) != 0)
        return false;
    parser->at += bytes;
    return true;
}

static void skip_blanks(struct parser *parser)
{
    while (parser->at < parser->end && is_blank(*parser->at))
        parser->at++;
}

/* A name without its prefix. */
static bool take_name(struct parser *parser, const char **name, size_t *bytes)
{
    char *begin = parser->at;
    while (parser->at < parser->end && is_name(*parser->at)) {
        if (*parser->at == ':')
            begin = parser->at + 1;
        parser->at++;
    }
    *name = begin;
    *bytes = (size_t)(parser->at - begin);
    return *bytes > 0;
}

/* Attributes, up to '>' or "/>". */
static bool skip_attributes(struct parser *parser, bool *empty)
{
    *empty = false;
    for (;;) {
        skip_blanks(parser);
        if (skip_text(parser, ">"))
            return true;
        if (skip_text(parser, "/>")) {
            *empty = true;
            return true;
        }
        const char *name;
        size_t bytes;
        if (!take_name(parser, &name, &bytes))
            return false;
        skip_blanks(parser);
        if (!skip_text(parser, "="))
            return false;
        skip_blanks(parser);
        if (parser->at >= parser->end || (*parser->at != '"' && *parser->at != '\''))
            return false;
        char quote = *parser->at++;
        char *close = memchr(parser->at, quote, (size_t)(parser->end - parser->at));
        if (!close || memchr(parser->at, '<', (size_t)(close - parser->at)))
            return false;
        parser->at = close + 1;
    }
}

static bool enter(struct parser *parser, const char *name, size_t bytes)
{
    if (parser->depth == DMC_S3_XML_DEPTH_MAX || parser->path_bytes + bytes + 2 > sizeof parser->path)
        return false;
    parser->starts[parser->depth++] = parser->path_bytes;
    if (parser->path_bytes)
        parser->path[parser->path_bytes++] = '/';
    memcpy(parser->path + parser->path_bytes, name, bytes);
    parser->path_bytes += bytes;
    parser->path[parser->path_bytes] = 0;
    return true;
}

static void leave(struct parser *parser)
{
    parser->path_bytes = parser->starts[--parser->depth];
    parser->path[parser->path_bytes] = 0;
}

/* UTF-8 of a code point; 0: none that may stand in XML. */
static size_t encode(uint32_t code, char to[4])
{
    if (code == 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return 0;
    return dmc_utf8_put(to, code);
}

/* One reference; `at` is behind '&'. Returns the bytes written to `to`, which is never longer than the reference. 0: nonsense.
 */
static size_t decode_reference(const char **at, const char *end, char to[4])
{
    static const struct {
        const char *name;
        char letter;
    } named[] = {{"amp;", '&'}, {"lt;", '<'}, {"gt;", '>'}, {"quot;", '"'}, {"apos;", '\''}};
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
        size_t bytes = strlen(named[i].name);
        if ((size_t)(end - *at) >= bytes && memcmp(*at, named[i].name, bytes) == 0) {
            *at += bytes;
            to[0] = named[i].letter;
            return 1;
        }
    }
    if (*at >= end || *(*at)++ != '#')
        return 0;
    uint32_t base = 10, code = 0, digits = 0;
    if (*at < end && **at == 'x') {
        base = 16;
        ++*at;
    }
    for (; *at < end && **at != ';'; ++*at, digits++) {
        char c = **at;
        uint32_t digit = c >= '0' && c <= '9'                 ? (uint32_t)(c - '0')
                         : base == 16 && c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : base == 16 && c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                              : 99;
        if (digit == 99 || digits == 8)
            return 0;
        code = code * base + digit;
    }
    if (*at >= end || digits == 0)
        return 0;
    ++*at;
    return encode(code, to);
}

/* Decode [begin, end) in place and end it with a zero; there is room, since a '<' follows. */
static bool decode_text(char *begin, const char *end, size_t *bytes)
{
    char *to = begin;
    for (const char *from = begin; from < end;) {
        if (*from == 0)
            return false;
        if (*from != '&') {
            *to++ = *from++;
            continue;
        }
        char letters[4];
        from++;
        size_t count = decode_reference(&from, end, letters);
        if (count == 0)
            return false;
        memcpy(to, letters, count);
        to += count;
    }
    *to = 0;
    *bytes = (size_t)(to - begin);
    return true;
}

enum damacy_status dmc_s3_xml(char *xml, size_t bytes, bool (*visit)(void *user, const struct dmc_s3_element *element),
                              void *user, struct damacy_error *error)
{
    struct parser parser = {.at = xml, .end = xml + bytes};
    char *text = NULL; /* of the innermost element, behind its '>' */
    bool seen = false;
    skip_text(&parser, "\xef\xbb\xbf");
    skip_blanks(&parser);
    if (skip_text(&parser, "<?xml")) {
        char *close = memchr(parser.at, '>', (size_t)(parser.end - parser.at));
        parser.at = close ? close + 1 : parser.end;
    }
    for (;;) {
        char *open = memchr(parser.at, '<', (size_t)(parser.end - parser.at));
        if (parser.depth == 0) {
            skip_blanks(&parser);
            if (seen && parser.at == parser.end)
                return DAMACY_OK;
            if (seen || parser.at >= parser.end || *parser.at != '<')
                break;
            open = parser.at;
        }
        if (!open)
            break;
        parser.at = open + 1;
        const char *name;
        size_t name_bytes;
        if (skip_text(&parser, "/")) {
            if (parser.depth == 0 || !take_name(&parser, &name, &name_bytes))
                break;
            size_t start = parser.starts[parser.depth - 1] + (parser.depth > 1);
            if (name_bytes != parser.path_bytes - start || memcmp(name, parser.path + start, name_bytes) != 0)
                break;
            skip_blanks(&parser);
            if (!skip_text(&parser, ">"))
                break;
            if (parser.leaf) {
                struct dmc_s3_element element = {.path = parser.path, .text = text};
                if (!decode_text(text, open, &element.text_bytes))
                    break;
                if (!visit(user, &element))
                    return DAMACY_OK;
            }
            parser.leaf = false;
            leave(&parser);
            seen = seen || parser.depth == 0;
            continue;
        }
        bool empty;
        if (!take_name(&parser, &name, &name_bytes) || !enter(&parser, name, name_bytes) || !skip_attributes(&parser, &empty))
            break;
        parser.leaf = !empty;
        text = parser.at;
        if (empty) {
            char none = 0;
            struct dmc_s3_element element = {.path = parser.path, .text = &none};
            if (!visit(user, &element))
                return DAMACY_OK;
            leave(&parser);
            seen = seen || parser.depth == 0;
        }
    }
    return dmc_error_set(error, DAMACY_DECODE, "list", "the server's XML is not well-formed at byte %llu",
                         (unsigned long long)(parser.at - xml));
}
