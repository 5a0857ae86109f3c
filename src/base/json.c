/* One pass over the text checks everything and builds the tree.
 *
 * A node takes 16 bytes. The children of an array lie side by side; an object's are key, value, key, value, ... followed, from
 * INDEX_MEMBERS_MIN members on, by an open-addressing table of member numbers, so that a lookup in a consolidated hierarchy of
 * 100,000 arrays costs what it costs in a small one. Everything lives in one arena and dies with the document. */
#include "base/json.h"
#include "base/arena.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES_MAX ((size_t)1 << 30) /* so that counts and member numbers fit 32 bits */
#define INDEX_MEMBERS_MIN 8
#define NO_MEMBER UINT32_MAX

enum kind { NUL, BOOLEAN, SIGNED, UNSIGNED, REAL, STRING, ARRAY, OBJECT };

struct real {
    double value;
    char text[]; /* as written, for dmc_json_dump */
};

struct dmc_json {
    uint32_t kind;
    uint32_t count; /* bytes of a string, elements, members */
    union {
        bool boolean;
        int64_t i64;  /* SIGNED: below 0 */
        uint64_t u64; /* UNSIGNED */
        const struct real *real;
        const char *text;
        const struct dmc_json *children;
    };
};

struct dmc_json_doc {
    struct dmc_arena arena;
    struct dmc_json root;
};

/* ---- Parsing ---- */

/* A finished value that waits for its container to end, and where it began. */
struct pending {
    struct dmc_json node;
    uint32_t offset;
};

struct parser {
    const char *text, *at, *end;
    struct dmc_arena *arena;
    struct pending *stack;
    size_t stack_count, stack_capacity;
    struct damacy_error *error;
    enum damacy_status status;
};

/* The C locale's strtod: the program's may want a decimal comma. */
static pthread_once_t locale_once = PTHREAD_ONCE_INIT;
static locale_t c_locale;
static void make_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

/* Keys come from files: without a seed that they cannot know, someone could make them collide. */
static uint64_t hash_seed(void)
{
    static const char here;
    return dmc_hash_u64((uint64_t)(uintptr_t)&here, (uint64_t)(uintptr_t)&hash_seed);
}

static bool fail(struct parser *parser, const char *where, const char *what)
{
    size_t line = 1, column = 1;
    for (const char *p = parser->text; p < where; p++) {
        line += *p == '\n';
        column = *p == '\n' ? 1 : column + 1;
    }
    parser->status =
        dmc_error_set(parser->error, DAMACY_DECODE, "metadata", "JSON line %zu, column %zu: %s", line, column, what);
    return false;
}

static bool fail_memory(struct parser *parser)
{
    parser->status = dmc_error_set(parser->error, DAMACY_OOM, "metadata", "no memory for a JSON document of %zu bytes",
                                   (size_t)(parser->end - parser->text));
    return false;
}

static void skip_space(struct parser *parser)
{
    while (parser->at < parser->end &&
           (*parser->at == ' ' || *parser->at == '\n' || *parser->at == '\r' || *parser->at == '\t'))
        parser->at++;
}

static bool starts_with(const struct parser *parser, const char *word)
{
    size_t bytes = strlen(word);
    return (size_t)(parser->end - parser->at) >= bytes && memcmp(parser->at, word, bytes) == 0;
}

/* "XXXX" behind "\u"; false if these are not four hex digits before `end`. */
static bool hex4(const char *p, const char *end, uint32_t *value)
{
    if (end - p < 4)
        return false;
    *value = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return false;
        *value = *value << 4 | (uint32_t)digit;
    }
    return true;
}

/* One escape at parser->at, which is a backslash; writes its bytes to `to`. Never longer than what it stands for. */
static size_t parse_escape(struct parser *parser, const char *end, char *to)
{
    const char *from = parser->at;
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *found = from[1] ? strchr(names, from[1]) : NULL;
    if (found) {
        parser->at += 2;
        to[0] = values[found - names];
        return 1;
    }
    uint32_t c, low;
    if (from[1] != 'u')
        return fail(parser, from, "unknown escape");
    if (!hex4(from + 2, end, &c))
        return fail(parser, from, "\\u without four hex digits");
    parser->at += 6;
    if (c >= 0xd800 && c < 0xe000) {
        if (c >= 0xdc00 || end - parser->at < 6 || parser->at[0] != '\\' || parser->at[1] != 'u' ||
            !hex4(parser->at + 2, end, &low) || low < 0xdc00 || low >= 0xe000)
            return fail(parser, from, "half a surrogate pair");
        c = 0x10000 + ((c - 0xd800) << 10 | (low - 0xdc00));
        parser->at += 6;
    }
    return dmc_utf8_put(to, c);
}

static bool parse_string(struct parser *parser, struct dmc_json *node)
{
    const char *begin = parser->at++; /* the quote */
    const char *end = parser->at;
    bool plain = true;
    while (end < parser->end && *end != '"') {
        plain &= *end != '\\' && (signed char)*end >= 0x20; /* neither escape, nor control character, nor beyond ASCII */
        end += *end == '\\' && end + 1 < parser->end ? 2 : 1;
    }
    if (end >= parser->end)
        return fail(parser, begin, "string without an end");
    char *text = dmc_arena_alloc(parser->arena, (size_t)(end - parser->at) + 1, 1);
    if (!text)
        return fail_memory(parser);
    size_t count = 0;
    if (plain) {
        count = (size_t)(end - parser->at);
        memcpy(text, parser->at, count);
        parser->at = end;
    }
    while (parser->at < end) {
        size_t bytes;
        if (*parser->at == '\\') {
            bytes = parse_escape(parser, end, text + count);
            if (bytes == 0)
                return false;
        } else {
            if ((unsigned char)*parser->at < 0x20)
                return fail(parser, parser->at, "control character in a string");
            bytes = dmc_utf8_bytes(parser->at, end);
            if (bytes == 0)
                return fail(parser, parser->at, "not UTF-8");
            memcpy(text + count, parser->at, bytes);
            parser->at += bytes;
        }
        count += bytes;
    }
    text[count] = 0;
    parser->at = end + 1;
    *node = (struct dmc_json){.kind = STRING, .count = (uint32_t)count, .text = text};
    return true;
}

static const char *skip_digits(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p;
}

static bool make_real(struct parser *parser, const char *begin, size_t bytes, struct dmc_json *node)
{
    struct real *real = dmc_arena_alloc(parser->arena, sizeof *real + bytes + 1, _Alignof(struct real));
    if (!real)
        return fail_memory(parser);
    memcpy(real->text, begin, bytes);
    real->text[bytes] = 0;
    real->value = c_locale ? strtod_l(real->text, NULL, c_locale) : strtod(real->text, NULL);
    *node = (struct dmc_json){.kind = REAL, .real = real};
    return true;
}

static bool parse_number(struct parser *parser, struct dmc_json *node)
{
    const char *begin = parser->at, *p = begin;
    bool negative = *p == '-', whole = true;
    p += negative;
    const char *digits = p;
    p = skip_digits(p, parser->end);
    if (p == digits)
        return fail(parser, begin, "not a value");
    if (*digits == '0' && p - digits > 1)
        return fail(parser, begin, "number with a leading zero");
    if (p < parser->end && *p == '.') {
        const char *fraction = ++p;
        whole = false;
        p = skip_digits(p, parser->end);
        if (p == fraction)
            return fail(parser, begin, "number without digits behind the point");
    }
    if (p < parser->end && (*p == 'e' || *p == 'E')) {
        p++;
        whole = false;
        if (p < parser->end && (*p == '+' || *p == '-'))
            p++;
        const char *exponent = p;
        p = skip_digits(p, parser->end);
        if (p == exponent)
            return fail(parser, begin, "number without digits in its exponent");
    }
    parser->at = p;
    if (whole) {
        uint64_t value = 0;
        bool fits = true;
        for (const char *digit = digits; digit < p && fits; digit++)
            fits = dmc_mul_u64(value, 10, &value) && dmc_add_u64(value, (uint64_t)(*digit - '0'), &value);
        if (fits && (!negative || value == 0)) {
            *node = (struct dmc_json){.kind = UNSIGNED, .u64 = value};
            return true;
        }
        if (fits && value <= (uint64_t)INT64_MAX + 1) {
            *node = (struct dmc_json){.kind = SIGNED, .i64 = (int64_t)(0 - value)};
            return true;
        }
    }
    return make_real(parser, begin, (size_t)(p - begin), node);
}

static bool parse_word(struct parser *parser, struct dmc_json *node)
{
    static const struct {
        const char *word;
        struct dmc_json node;
    } words[] = {{"null", {.kind = NUL}},
                 {"true", {.kind = BOOLEAN, .boolean = true}},
                 {"false", {.kind = BOOLEAN, .boolean = false}},
                 {"NaN", {.kind = REAL}},
                 {"Infinity", {.kind = REAL}},
                 {"-Infinity", {.kind = REAL}}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!starts_with(parser, words[i].word))
            continue;
        const char *begin = parser->at;
        size_t bytes = strlen(words[i].word);
        parser->at += bytes;
        *node = words[i].node;
        return node->kind != REAL || make_real(parser, begin, bytes, node);
    }
    return *parser->at == '-' || (*parser->at >= '0' && *parser->at <= '9') ? parse_number(parser, node)
                                                                            : fail(parser, parser->at, "not a value");
}

static bool stack_push(struct parser *parser, struct dmc_json node, const char *where)
{
    if (parser->stack_count == parser->stack_capacity) {
        size_t capacity = parser->stack_capacity ? parser->stack_capacity * 2 : 64;
        struct pending *stack = dmc_realloc(parser->stack, capacity * sizeof *stack);
        if (!stack)
            return fail_memory(parser);
        parser->stack = stack;
        parser->stack_capacity = capacity;
    }
    parser->stack[parser->stack_count++] = (struct pending){node, (uint32_t)(where - parser->text)};
    return true;
}

static uint32_t index_capacity(uint32_t members)
{
    uint32_t capacity = 16;
    while (capacity < members * 2)
        capacity *= 2;
    return capacity;
}

/* The member with this key, or NO_MEMBER; `*slot` is its place in the table, or the free one where it belongs. */
static uint32_t index_find(const uint32_t *table, uint32_t capacity, const struct dmc_json *children, const char *key,
                           size_t bytes, uint32_t *slot)
{
    uint32_t mask = capacity - 1;
    for (*slot = (uint32_t)dmc_hash_bytes(key, bytes, hash_seed()) & mask;; *slot = (*slot + 1) & mask) {
        uint32_t member = table[*slot];
        if (member == NO_MEMBER)
            return NO_MEMBER;
        const struct dmc_json *other = &children[2 * (size_t)member];
        if (other->count == bytes && memcmp(other->text, key, bytes) == 0)
            return member;
    }
}

/* Fill the table behind the children, or compare keys pairwise where there is none. Returns the first repeated member. */
static uint32_t index_build(struct dmc_json *children, uint32_t members)
{
    if (members < INDEX_MEMBERS_MIN) {
        for (uint32_t i = 1; i < members; i++)
            for (uint32_t k = 0; k < i; k++)
                if (children[2 * i].count == children[2 * k].count &&
                    memcmp(children[2 * i].text, children[2 * k].text, children[2 * i].count) == 0)
                    return i;
        return NO_MEMBER;
    }
    uint32_t *table = (uint32_t *)(children + 2 * (size_t)members), capacity = index_capacity(members), slot;
    memset(table, 0xff, capacity * sizeof *table);
    for (uint32_t i = 0; i < members; i++) {
        const struct dmc_json *key = &children[2 * (size_t)i];
        if (index_find(table, capacity, children, key->text, key->count, &slot) != NO_MEMBER)
            return i;
        table[slot] = i;
    }
    return NO_MEMBER;
}

/* Move what waits on the stack from `base` on into a container. */
static bool close_container(struct parser *parser, size_t base, enum kind kind, struct dmc_json *node)
{
    size_t count = parser->stack_count - base; /* nodes: an object has two for each member */
    uint32_t members = (uint32_t)(count / 2);
    bool indexed = kind == OBJECT && members >= INDEX_MEMBERS_MIN;
    struct dmc_json *children = NULL;
    if (count > 0) {
        size_t bytes = count * sizeof *children + (indexed ? index_capacity(members) * sizeof(uint32_t) : 0);
        children = dmc_arena_alloc(parser->arena, bytes, _Alignof(struct dmc_json));
        if (!children)
            return fail_memory(parser);
    }
    for (size_t i = 0; i < count; i++)
        children[i] = parser->stack[base + i].node;
    if (kind == OBJECT && count > 0) {
        uint32_t twice = index_build(children, members);
        if (twice != NO_MEMBER)
            return fail(parser, parser->text + parser->stack[base + 2 * (size_t)twice].offset, "key appears twice");
    }
    parser->stack_count = base;
    *node = (struct dmc_json){.kind = kind, .count = kind == OBJECT ? members : (uint32_t)count, .children = children};
    return true;
}

static bool parse_value(struct parser *parser, unsigned depth, struct dmc_json *node);

static bool parse_key(struct parser *parser)
{
    skip_space(parser);
    const char *where = parser->at;
    struct dmc_json key;
    if (parser->at == parser->end || *parser->at != '"')
        return fail(parser, parser->at, "expected a key in quotes");
    if (!parse_string(parser, &key) || !stack_push(parser, key, where))
        return false;
    skip_space(parser);
    if (parser->at == parser->end || *parser->at != ':')
        return fail(parser, parser->at, "expected ':'");
    parser->at++;
    return true;
}

static bool parse_container(struct parser *parser, unsigned depth, struct dmc_json *node)
{
    enum kind kind = *parser->at == '{' ? OBJECT : ARRAY;
    char closing = kind == OBJECT ? '}' : ']';
    size_t base = parser->stack_count;
    if (depth >= DMC_JSON_DEPTH_MAX)
        return fail(parser, parser->at, "nested too deep");
    parser->at++;
    skip_space(parser);
    if (parser->at < parser->end && *parser->at == closing) {
        parser->at++;
        return close_container(parser, base, kind, node);
    }
    for (;;) {
        struct dmc_json child;
        if (kind == OBJECT && !parse_key(parser))
            return false;
        const char *where = parser->at;
        if (!parse_value(parser, depth + 1, &child) || !stack_push(parser, child, where))
            return false;
        skip_space(parser);
        char next = parser->at < parser->end ? *parser->at : 0;
        if (next != ',' && next != closing)
            return fail(parser, parser->at, kind == OBJECT ? "expected ',' or '}'" : "expected ',' or ']'");
        parser->at++;
        if (next == closing)
            return close_container(parser, base, kind, node);
    }
}

/* Recursion is bounded by DMC_JSON_DEPTH_MAX. */
static bool parse_value(struct parser *parser, unsigned depth, struct dmc_json *node)
{
    skip_space(parser);
    if (parser->at == parser->end)
        return fail(parser, parser->at, "ends where a value should be");
    if (*parser->at == '{' || *parser->at == '[')
        return parse_container(parser, depth, node);
    return *parser->at == '"' ? parse_string(parser, node) : parse_word(parser, node);
}

enum damacy_status dmc_json_parse(const char *text, size_t bytes, struct dmc_json_doc **doc, struct damacy_error *error)
{
    if (bytes > TEXT_BYTES_MAX)
        return dmc_error_set(error, DAMACY_DECODE, "metadata", "JSON of %zu bytes; at most %zu are read", bytes,
                             TEXT_BYTES_MAX);
    pthread_once(&locale_once, make_locale);
    struct dmc_json_doc *made = dmc_calloc(1, sizeof *made);
    if (!made)
        return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for a JSON document of %zu bytes", bytes);
    dmc_arena_init(&made->arena, NULL);
    const char *begin = bytes ? text : "";
    struct parser parser = {.text = begin, .at = begin, .end = begin + bytes, .arena = &made->arena, .error = error};
    bool ok = parse_value(&parser, 0, &made->root);
    if (ok) {
        skip_space(&parser);
        ok = parser.at == parser.end || fail(&parser, parser.at, "text behind the value");
    }
    dmc_free(parser.stack);
    if (!ok) {
        dmc_json_free(made);
        return parser.status;
    }
    *doc = made;
    return DAMACY_OK;
}

void dmc_json_free(struct dmc_json_doc *doc)
{
    if (!doc)
        return;
    dmc_arena_deinit(&doc->arena);
    dmc_free(doc);
}

/* ---- Reading ---- */

dmc_json *dmc_json_root(const struct dmc_json_doc *doc)
{
    return &doc->root;
}

static enum kind kind_of(dmc_json *value)
{
    return value ? (enum kind)value->kind : NUL;
}

enum dmc_json_type dmc_json_type(dmc_json *value)
{
    static const enum dmc_json_type types[] = {
        [NUL] = DMC_JSON_NULL,    [BOOLEAN] = DMC_JSON_BOOL,  [SIGNED] = DMC_JSON_NUMBER, [UNSIGNED] = DMC_JSON_NUMBER,
        [REAL] = DMC_JSON_NUMBER, [STRING] = DMC_JSON_STRING, [ARRAY] = DMC_JSON_ARRAY,   [OBJECT] = DMC_JSON_OBJECT};
    return types[kind_of(value)];
}

const char *dmc_json_type_str(dmc_json *value)
{
    static const char *const names[] = {
        [DMC_JSON_NULL] = "null",       [DMC_JSON_BOOL] = "a boolean", [DMC_JSON_NUMBER] = "a number",
        [DMC_JSON_STRING] = "a string", [DMC_JSON_ARRAY] = "an array", [DMC_JSON_OBJECT] = "an object"};
    return names[dmc_json_type(value)];
}

dmc_json *dmc_json_get(dmc_json *object, const char *key)
{
    if (kind_of(object) != OBJECT)
        return NULL;
    size_t bytes = strlen(key);
    const struct dmc_json *children = object->children;
    if (object->count >= INDEX_MEMBERS_MIN) {
        const uint32_t *table = (const uint32_t *)(children + 2 * (size_t)object->count);
        uint32_t slot, member = index_find(table, index_capacity(object->count), children, key, bytes, &slot);
        return member == NO_MEMBER ? NULL : &children[2 * (size_t)member + 1];
    }
    for (uint32_t i = 0; i < object->count; i++)
        if (children[2 * i].count == bytes && memcmp(children[2 * i].text, key, bytes) == 0)
            return &children[2 * i + 1];
    return NULL;
}

size_t dmc_json_count(dmc_json *array_or_object)
{
    enum kind kind = kind_of(array_or_object);
    return kind == ARRAY || kind == OBJECT ? array_or_object->count : 0;
}

dmc_json *dmc_json_at(dmc_json *array, size_t index)
{
    return kind_of(array) == ARRAY && index < array->count ? &array->children[index] : NULL;
}

bool dmc_json_member(dmc_json *object, size_t index, const char **key, dmc_json **value)
{
    if (kind_of(object) != OBJECT || index >= object->count)
        return false;
    *key = object->children[2 * index].text;
    *value = &object->children[2 * index + 1];
    return true;
}

bool dmc_json_i64(dmc_json *value, int64_t *out)
{
    if (kind_of(value) == SIGNED)
        *out = value->i64;
    else if (kind_of(value) == UNSIGNED && value->u64 <= INT64_MAX)
        *out = (int64_t)value->u64;
    else
        return false;
    return true;
}

bool dmc_json_u64(dmc_json *value, uint64_t *out)
{
    if (kind_of(value) != UNSIGNED)
        return false;
    *out = value->u64;
    return true;
}

bool dmc_json_f64(dmc_json *value, double *out)
{
    switch (kind_of(value)) {
    case SIGNED:
        *out = (double)value->i64;
        return true;
    case UNSIGNED:
        *out = (double)value->u64;
        return true;
    case REAL:
        *out = value->real->value;
        return true;
    default:
        return false;
    }
}

bool dmc_json_bool(dmc_json *value, bool *out)
{
    if (kind_of(value) != BOOLEAN)
        return false;
    *out = value->boolean;
    return true;
}

bool dmc_json_string(dmc_json *value, const char **text, size_t *bytes)
{
    if (kind_of(value) != STRING)
        return false;
    *text = value->text;
    if (bytes)
        *bytes = value->count;
    return true;
}

/* ---- Writing ---- */

/* The same walk measures (text NULL) and writes. */
struct writer {
    char *text;
    size_t count;
};

static void put(struct writer *writer, const char *text, size_t bytes)
{
    if (writer->text)
        memcpy(writer->text + writer->count, text, bytes);
    writer->count += bytes;
}

static void put_string(struct writer *writer, const char *text, size_t bytes)
{
    put(writer, "\"", 1);
    for (size_t i = 0; i < bytes; i++) {
        char escape[8];
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            put(writer, "\\", 1);
        if (c < 0x20)
            put(writer, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", c));
        else
            put(writer, text + i, 1);
    }
    put(writer, "\"", 1);
}

static void put_value(struct writer *writer, dmc_json *value)
{
    char number[24];
    switch (kind_of(value)) {
    case NUL:
        put(writer, "null", 4);
        break;
    case BOOLEAN:
        put(writer, value->boolean ? "true" : "false", value->boolean ? 4 : 5);
        break;
    case SIGNED:
        put(writer, number, (size_t)snprintf(number, sizeof number, "%lld", (long long)value->i64));
        break;
    case UNSIGNED:
        put(writer, number, (size_t)snprintf(number, sizeof number, "%llu", (unsigned long long)value->u64));
        break;
    case REAL:
        put(writer, value->real->text, strlen(value->real->text));
        break;
    case STRING:
        put_string(writer, value->text, value->count);
        break;
    case ARRAY:
    case OBJECT:
        put(writer, value->kind == OBJECT ? "{" : "[", 1);
        for (uint32_t i = 0; i < value->count; i++) {
            if (i)
                put(writer, ",", 1);
            if (value->kind == OBJECT) {
                put_value(writer, &value->children[2 * (size_t)i]);
                put(writer, ":", 1);
            }
            put_value(writer, &value->children[value->kind == OBJECT ? 2 * (size_t)i + 1 : i]);
        }
        put(writer, value->kind == OBJECT ? "}" : "]", 1);
        break;
    }
}

char *dmc_json_dump(dmc_json *value)
{
    struct writer writer = {0};
    put_value(&writer, value);
    char *text = dmc_malloc(writer.count + 1);
    if (!text)
        return NULL;
    writer = (struct writer){.text = text};
    put_value(&writer, value);
    text[writer.count] = 0;
    return text;
}
