/* Chunk keys: how they are encoded, and the key of a grid chunk.
 *
 *     default    {"separator": "/"}                                    c/0/1
 *     v2         {"separator": "."}                                    0.1
 *     suffix     {"suffix": ".tiff", "base_encoding": "default"}       c/0/1.tiff
 *     prefix     {"prefix": "x/", "base_encoding": "v2"}               x/0.1
 *     fanout     {"max_children": 101}                                 d0/12/34/d1/5/c for (1234, 5): digits of base 100
 *     template   {"template": "{-1}/{*:04}.jpg", "separator": "_"}     1/0000.jpg
 *
 * Source: zarr-extensions, chunk-key-encodings. */
#include "zarr/zarr_parse.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

#define PATH "chunk_key_encoding"
#define NESTING_MAX 8 /* of suffix and prefix */

/* --- templates --- */

/* One part of a template: a letter of it, or {index:0width}. */
struct term {
    bool literal;
    char letter;
    bool rest; /* {*} */
    int index; /* from the end when negative */
    uint32_t width;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool term_number(const char **at, uint32_t *number)
{
    const char *p = *at;
    *number = 0;
    for (; is_digit(*p) && p - *at < 3; p++)
        *number = *number * 10 + (uint32_t)(*p - '0');
    bool good = p > *at && !is_digit(*p);
    *at = p;
    return good;
}

/* The next part; false: the template is none. */
static bool term_next(const char **at, struct term *term)
{
    const char *p = *at;
    *term = (struct term){.literal = true, .letter = *p};
    if ((p[0] == '{' && p[1] == '{') || (p[0] == '}' && p[1] == '}')) {
        *at = p + 2;
        return true;
    }
    if (p[0] != '{') {
        *at = p + 1;
        return p[0] != '}';
    }
    *term = (struct term){0};
    p++;
    if (*p == '*') {
        term->rest = true;
        p++;
    } else {
        uint32_t index;
        bool negative = *p == '-';
        p += negative;
        if (!term_number(&p, &index) || (negative && index == 0))
            return false;
        term->index = negative ? -(int)index : (int)index;
    }
    if (*p == ':') {
        p++;
        if (*p++ != '0' || !term_number(&p, &term->width) || term->width > 20)
            return false;
    }
    *at = p + 1;
    return *p == '}';
}

/* Is each coordinate named once? */
static bool template_fits(const char *text, bool has_joint, uint32_t rank)
{
    struct term term;
    uint64_t named = 0;
    bool rest = false;
    for (const char *p = text; *p;) {
        if (!term_next(&p, &term))
            return false;
        if (term.literal)
            continue;
        if (term.rest) {
            if (rest || !has_joint)
                return false;
            rest = true;
            continue;
        }
        int index = term.index < 0 ? (int)rank + term.index : term.index;
        if (index < 0 || index >= (int)rank || named >> index & 1)
            return false;
        named |= UINT64_C(1) << index;
    }
    uint64_t all = (UINT64_C(1) << rank) - 1;
    return rest ? named != all : named == all && rank > 0;
}

/* --- reading --- */

/* A text that becomes part of a key: it must not lead out of the array, nor name its metadata. */
static bool is_harmless(const char *text)
{
    return text[0] != '/' && !strstr(text, "..") && !strchr(text, '\\') && !strstr(text, "//") && !strstr(text, "zarr.json");
}

static const char *keep(struct dmc_zarr_draft *draft, const char *first, const char *second)
{
    uint32_t begin = dmc_zarr_text_begin(draft);
    dmc_zarr_text_put(draft, first);
    dmc_zarr_text_put(draft, second);
    return dmc_zarr_text_end(draft, begin);
}

static enum damacy_status text_member(dmc_json *configuration, const char *member, size_t *room, const char **text,
                                      struct damacy_error *error)
{
    char path[80], expected[64];
    dmc_json *value = dmc_json_get(configuration, member);
    snprintf(path, sizeof path, PATH ".configuration.%s", member);
    if (!dmc_zarr_text(value, text) || !is_harmless(*text))
        return dmc_zarr_wrong(error, DAMACY_DECODE, path, "a text without \"..\", \"//\", \"\\\" and \"zarr.json\"", value);
    if (strlen(*text) >= *room) {
        snprintf(expected, sizeof expected, "texts of at most %d bytes", DMC_ZARR_KEY_TEXT_BYTES_MAX);
        return dmc_zarr_wrong(error, DAMACY_UNSUPPORTED, path, expected, value);
    }
    *room -= strlen(*text);
    return DAMACY_OK;
}

static enum damacy_status separator_read(dmc_json *configuration, char *separator, struct damacy_error *error)
{
    static const char *const known[] = {"separator", NULL};
    enum damacy_status status = dmc_zarr_members_check(configuration, PATH ".configuration", known, error);
    dmc_json *value = dmc_json_get(configuration, "separator");
    if (status || !value)
        return status;
    if (dmc_zarr_string_is(value, "/"))
        *separator = '/';
    else if (dmc_zarr_string_is(value, "."))
        *separator = '.';
    else
        return dmc_zarr_wrong(error, DAMACY_DECODE, PATH ".configuration.separator", "\"/\" or \".\"", value);
    return DAMACY_OK;
}

static enum damacy_status fanout_read(dmc_json *configuration, struct dmc_zarr_key_encoding *encoding,
                                      struct damacy_error *error)
{
    static const char *const known[] = {"max_children", NULL};
    uint64_t children = 1001;
    dmc_json *value = dmc_json_get(configuration, "max_children");
    enum damacy_status status = dmc_zarr_members_check(configuration, PATH ".configuration", known, error);
    if (status)
        return status;
    if (value && (!dmc_zarr_u64(value, &children) || children < 4 || children > UINT32_MAX))
        return dmc_zarr_wrong(error, DAMACY_DECODE, PATH ".configuration.max_children", "an integer from 4 to 2^32-1", value);
    encoding->kind = DMC_ZARR_KEYS_FANOUT;
    encoding->base = (uint32_t)children - 1;
    return DAMACY_OK;
}

static enum damacy_status template_read(dmc_json *configuration, size_t *room, struct dmc_zarr_draft *draft,
                                        struct damacy_error *error)
{
    static const char *const known[] = {"template", "format", "separator", NULL};
    const char *text, *joint = "";
    /* The registry's text says `template`, its examples say `format`. */
    const char *member = dmc_json_get(configuration, "template") ? "template" : "format";
    enum damacy_status status = dmc_zarr_members_check(configuration, PATH ".configuration", known, error);
    if (!status)
        status = text_member(configuration, member, room, &text, error);
    bool has_joint = dmc_json_get(configuration, "separator");
    if (!status && has_joint && !dmc_zarr_text(dmc_json_get(configuration, "separator"), &joint))
        joint = dmc_zarr_string_is(dmc_json_get(configuration, "separator"), "") ? "" : NULL;
    if (!status && (!joint || strlen(joint) > 4 || strchr(joint, '\\') || strstr(joint, "..") || strstr(joint, "//")))
        return dmc_zarr_wrong(error, DAMACY_DECODE, PATH ".configuration.separator", "a text of at most 4 bytes",
                              dmc_json_get(configuration, "separator"));
    if (status)
        return status;
    if (!template_fits(text, has_joint, draft->array.key_rank)) {
        char expected[100];
        snprintf(expected, sizeof expected, "a template that names each of %u coordinates once, as {0}, {-1:04} or {*}",
                 draft->array.key_rank);
        return dmc_zarr_wrong(error, DAMACY_DECODE, PATH ".configuration.template", expected,
                              dmc_json_get(configuration, member));
    }
    draft->array.key_encoding.kind = DMC_ZARR_KEYS_TEMPLATE;
    draft->array.key_encoding.text = keep(draft, text, "");
    draft->array.key_encoding.joint = keep(draft, joint, "");
    return DAMACY_OK;
}

static enum damacy_status encoding_read(dmc_json *value, uint32_t depth, size_t *room, struct dmc_zarr_draft *draft,
                                        struct damacy_error *error);

/* suffix and prefix: a text, and an encoding below. */
static enum damacy_status affix_read(const struct dmc_zarr_named *named, uint32_t depth, size_t *room,
                                     struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    const char *const known[] = {named->name, "base_encoding", "base-encoding", NULL};
    struct dmc_zarr_key_encoding *encoding = &draft->array.key_encoding;
    const char *text;
    enum damacy_status status = dmc_zarr_members_check(named->configuration, PATH ".configuration", known, error);
    if (!status)
        status = text_member(named->configuration, named->name, room, &text, error);
    if (status)
        return status;
    dmc_json *base = dmc_json_get(named->configuration, "base_encoding");
    base = base ? base : dmc_json_get(named->configuration, "base-encoding"); /* the registry's first example writes it so */
    if (!base)
        return dmc_zarr_wrong(error, DAMACY_DECODE, PATH ".configuration.base_encoding", "another encoding", NULL);
    status = encoding_read(base, depth + 1, room, draft, error);
    if (status)
        return status;
    if (named->name[0] == 's')
        encoding->suffix = keep(draft, encoding->suffix ? encoding->suffix : "", text);
    else
        encoding->prefix = keep(draft, text, encoding->prefix ? encoding->prefix : "");
    return DAMACY_OK;
}

static enum damacy_status encoding_read(dmc_json *value, uint32_t depth, size_t *room, struct dmc_zarr_draft *draft,
                                        struct damacy_error *error)
{
    struct dmc_zarr_key_encoding *encoding = &draft->array.key_encoding;
    struct dmc_zarr_named named;
    if (depth > NESTING_MAX)
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", PATH ": more than %d encodings inside one another",
                             NESTING_MAX);
    enum damacy_status status = dmc_zarr_named_read(value, PATH, &named, error);
    if (status)
        return status;
    *encoding = (struct dmc_zarr_key_encoding){.separator = '/'};
    if (strcmp(named.name, "default") == 0)
        return separator_read(named.configuration, &encoding->separator, error);
    if (strcmp(named.name, "v2") == 0) {
        *encoding = (struct dmc_zarr_key_encoding){.kind = DMC_ZARR_KEYS_V2, .separator = '.'};
        return separator_read(named.configuration, &encoding->separator, error);
    }
    if (strcmp(named.name, "suffix") == 0 || strcmp(named.name, "prefix") == 0)
        return affix_read(&named, depth, room, draft, error);
    if (strcmp(named.name, "fanout") == 0)
        return fanout_read(named.configuration, encoding, error);
    if (strcmp(named.name, "template") == 0)
        return template_read(named.configuration, room, draft, error);
    char quoted[DMC_ZARR_QUOTE_BYTES];
    return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, PATH, "default, v2, suffix, prefix, fanout or template",
                               dmc_zarr_quote(quoted, named.name, strlen(named.name)));
}

enum damacy_status dmc_zarr_key_encoding_read(dmc_json *value, struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    size_t room = DMC_ZARR_KEY_TEXT_BYTES_MAX;
    return encoding_read(value, 0, &room, draft, error);
}

/* --- writing --- */

/* Where a key grows. What does not fit is counted, not kept. */
struct writer {
    char *key;
    size_t capacity, length;
};

static void put(struct writer *writer, char c)
{
    if (writer->length + 1 < writer->capacity)
        writer->key[writer->length] = c;
    writer->length++;
}

static void put_text(struct writer *writer, const char *text)
{
    for (; text && *text; text++)
        put(writer, *text);
}

static void put_u64(struct writer *writer, uint64_t number, uint32_t width)
{
    char digits[24];
    uint32_t count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    while (count < width && count < sizeof digits)
        digits[count++] = '0';
    while (count)
        put(writer, digits[--count]);
}

static void put_fanout(struct writer *writer, const uint64_t *coordinates, uint32_t rank, uint32_t base)
{
    for (uint32_t axis = 0; axis < rank; axis++) {
        uint64_t digits[41];
        uint32_t count = 0;
        uint64_t rest = coordinates[axis];
        do {
            digits[count++] = rest % base;
            rest /= base;
        } while (rest);
        put(writer, 'd');
        put_u64(writer, axis, 0);
        put(writer, '/');
        while (count) {
            put_u64(writer, digits[--count], 0);
            put(writer, '/');
        }
    }
    put(writer, 'c');
}

static void put_template(struct writer *writer, const struct dmc_zarr_key_encoding *encoding, const uint64_t *coordinates,
                         uint32_t rank)
{
    struct term term;
    uint64_t named = 0;
    for (const char *p = encoding->text; *p && term_next(&p, &term);)
        if (!term.literal && !term.rest)
            named |= UINT64_C(1) << (term.index < 0 ? (int)rank + term.index : term.index);
    for (const char *p = encoding->text; *p && term_next(&p, &term);) {
        if (term.literal) {
            put(writer, term.letter);
        } else if (!term.rest) {
            put_u64(writer, coordinates[term.index < 0 ? (int)rank + term.index : term.index], term.width);
        } else {
            const char *joint = "";
            for (uint32_t axis = 0; axis < rank; axis++) {
                if (named >> axis & 1)
                    continue;
                put_text(writer, joint);
                put_u64(writer, coordinates[axis], term.width);
                joint = encoding->joint;
            }
        }
    }
}

size_t dmc_zarr_chunk_key(const struct dmc_zarr_array *array, const uint64_t *coordinates, char *key, size_t capacity)
{
    /* 31 coordinates of 20 digits with separators and 256 bytes of other text. Of the other encodings, whose digits and widths
     * may be more, the product of all coordinates of a grid is below 2^63: the digits of all of them together are few. */
    _Static_assert(1 + DAMACY_RANK_MAX * 21 + DMC_ZARR_KEY_TEXT_BYTES_MAX < DMC_ZARR_KEY_BYTES_MAX, "the longest key fits");
    const struct dmc_zarr_key_encoding *encoding = &array->key_encoding;
    struct writer writer = {.key = key, .capacity = capacity};
    put_text(&writer, encoding->prefix);
    if (encoding->kind == DMC_ZARR_KEYS_FANOUT) {
        put_fanout(&writer, coordinates, array->key_rank, encoding->base);
    } else if (encoding->kind == DMC_ZARR_KEYS_TEMPLATE) {
        put_template(&writer, encoding, coordinates, array->key_rank);
    } else {
        bool v2 = encoding->kind == DMC_ZARR_KEYS_V2;
        if (!v2 || array->key_rank == 0)
            put(&writer, v2 ? '0' : 'c');
        for (uint32_t axis = 0; axis < array->key_rank; axis++) {
            if (!v2 || axis > 0)
                put(&writer, encoding->separator);
            put_u64(&writer, coordinates[axis], 0);
        }
    }
    put_text(&writer, encoding->suffix);
    if (capacity)
        key[writer.length < capacity ? writer.length : capacity - 1] = '\0';
    return writer.length;
}
