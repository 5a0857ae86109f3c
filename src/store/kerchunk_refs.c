#include "store/kerchunk_refs.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"

struct parser {
    struct dmc_references *references;
    dmc_json *templates; /* NULL: none */
    struct damacy_error *error;
    char url[DAMACY_URI_BYTES_MAX + 1]; /* after replacing */
};

static enum damacy_status wrong(const struct parser *parser, const char *key, const char *what)
{
    return dmc_error_set(parser->error, DAMACY_DECODE, "metadata", "the reference '%.128s' %s", key, what);
}

/* --- values that lie in the text --- */

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* In place is not possible, as the text is borrowed: `to` has room for three quarters of `bytes`. false: it is not base64. */
static bool base64_decode(const char *text, size_t bytes, unsigned char *to, size_t *decoded)
{
    uint32_t bits = 0, digits = 0, padding = 0;
    size_t count = 0;
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (c == '\n' || c == '\r' || c == ' ')
            continue;
        int digit = base64_digit(c);
        if (c == '=')
            padding++;
        if ((digit < 0 && c != '=') || (digit >= 0 && padding > 0))
            return false;
        bits = bits << 6 | (uint32_t)(digit < 0 ? 0 : digit);
        if (++digits < 4)
            continue;
        if (padding > 2)
            return false;
        for (uint32_t byte = 0; byte < 3 - padding; byte++)
            to[count++] = (unsigned char)(bits >> (16 - 8 * byte));
        bits = digits = 0;
        if (padding > 0) { /* only space may follow */
            for (i++; i < bytes; i++)
                if (text[i] != '\n' && text[i] != '\r' && text[i] != ' ')
                    return false;
        }
    }
    *decoded = count;
    return digits == 0;
}

static enum damacy_status keep_text(struct parser *parser, const char *key, const char *text, size_t bytes, uint64_t *begin,
                                    uint64_t *kept)
{
    if (bytes < 7 || memcmp(text, "base64:", 7) != 0) {
        *kept = bytes;
        return dmc_object_map_text(&parser->references->refs, text, bytes, begin, parser->error);
    }
    size_t decoded = 0;
    unsigned char *to = dmc_malloc(bytes / 4 * 3 + 3);
    if (!to)
        return dmc_error_set(parser->error, DAMACY_OOM, "metadata", "no memory for a reference of %zu bytes", bytes);
    enum damacy_status status;
    if (base64_decode(text + 7, bytes - 7, to, &decoded))
        status = dmc_object_map_text(&parser->references->refs, to, decoded, begin, parser->error);
    else
        status = wrong(parser, key, "is not valid base64");
    dmc_free(to);
    *kept = decoded;
    return status;
}

/* --- urls --- */

/* Copy the url with its templates replaced. */
static enum damacy_status replace(struct parser *parser, const char *key, const char *url)
{
    size_t length = 0;
    while (*url) {
        const char *piece = url;
        size_t bytes = 1;
        if (parser->templates && url[0] == '{' && url[1] == '{') {
            const char *end = strstr(url + 2, "}}");
            char name[128];
            if (!end || (size_t)(end - url) - 2 >= sizeof name)
                return wrong(parser, key, "has a '{{' that is not closed");
            memcpy(name, url + 2, (size_t)(end - url) - 2);
            name[end - url - 2] = 0;
            dmc_json *value = dmc_json_get(parser->templates, name);
            if (!dmc_json_string(value, &piece, &bytes) || strstr(piece, "{{")) {
                dmc_error_set(parser->error, DAMACY_UNSUPPORTED, "metadata",
                              "the reference '%.128s' uses the template '{{%.96s}}', which is not a plain text", key, name);
                dmc_error_hint(parser->error,
                               "references with jinja expressions are not read: write them with the urls spelled out");
                return DAMACY_UNSUPPORTED;
            }
            url = end + 2;
        } else {
            url++;
        }
        if (bytes >= sizeof parser->url - length)
            return wrong(parser, key, "has a url that is too long");
        memcpy(parser->url + length, piece, bytes);
        length += bytes;
    }
    parser->url[length] = 0;
    if (length == 0 || strlen(parser->url) != length)
        return wrong(parser, key, "has no url");
    return DAMACY_OK;
}

static enum damacy_status take_array(struct parser *parser, const char *key, dmc_json *value, struct dmc_reference *reference)
{
    size_t count = dmc_json_count(value);
    const char *url = NULL;
    size_t url_bytes = 0;
    if ((count != 1 && count != 3) || !dmc_json_string(dmc_json_at(value, 0), &url, &url_bytes) || strlen(url) != url_bytes)
        return wrong(parser, key, "is neither [url] nor [url, offset, length]");
    reference->bytes = UINT64_MAX;
    uint64_t end;
    if (count == 3 &&
        (!dmc_json_u64(dmc_json_at(value, 1), &reference->begin) || !dmc_json_u64(dmc_json_at(value, 2), &reference->bytes) ||
         !dmc_add_u64(reference->begin, reference->bytes, &end) || end > INT64_MAX))
        return wrong(parser, key, "has an offset or a length that is not a number of bytes");
    enum damacy_status status = replace(parser, key, url);
    if (status)
        return status;
    const struct dmc_object_map *targets = &parser->references->targets;
    const struct dmc_reference_target *target =
        dmc_object_map_put(&parser->references->targets, parser->url, strlen(parser->url), parser->error);
    if (!target)
        return parser->error->status;
    reference->target = (uint32_t)((size_t)((const unsigned char *)target - targets->entries) / targets->entry_bytes) + 1;
    return DAMACY_OK;
}

static enum damacy_status take(struct parser *parser, const char *key, dmc_json *value)
{
    struct dmc_reference made = {0};
    enum damacy_status status;
    switch (dmc_json_type(value)) {
    case DMC_JSON_STRING: {
        const char *text = NULL;
        size_t bytes = 0;
        dmc_json_string(value, &text, &bytes);
        status = keep_text(parser, key, text, bytes, &made.begin, &made.bytes);
        break;
    }
    case DMC_JSON_OBJECT: {
        char *text = dmc_json_dump(value);
        if (!text)
            return dmc_error_set(parser->error, DAMACY_OOM, "metadata", "no memory for the reference '%.128s'", key);
        made.bytes = strlen(text);
        status = dmc_object_map_text(&parser->references->refs, text, made.bytes, &made.begin, parser->error);
        dmc_free(text);
        break;
    }
    case DMC_JSON_ARRAY:
        status = take_array(parser, key, value, &made);
        break;
    default:
        status = wrong(parser, key, "is neither text, an object nor an array");
        break;
    }
    if (status)
        return status;
    struct dmc_reference *reference = dmc_object_map_put(&parser->references->refs, key, strlen(key), parser->error);
    if (!reference)
        return parser->error->status;
    made.name = reference->name;
    *reference = made;
    return DAMACY_OK;
}

/* --- the document --- */

static enum damacy_status take_document(struct parser *parser, dmc_json *root)
{
    struct damacy_error *error = parser->error;
    if (dmc_json_type(root) != DMC_JSON_OBJECT || dmc_json_get(root, "zarr_format")) {
        dmc_error_set(error, DAMACY_DECODE, "metadata", "the JSON document is not one of kerchunk references");
        dmc_error_hint(error, "the uri of an array is its folder, not its zarr.json");
        return DAMACY_DECODE;
    }
    dmc_json *version = dmc_json_get(root, "version"), *refs = dmc_json_get(root, "refs");
    uint64_t number = 0;
    if (version && dmc_json_type(version) == DMC_JSON_NUMBER && (!dmc_json_u64(version, &number) || number > 1))
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata",
                             "kerchunk references of this version are not read: only 0 and 1");
    if (!refs)
        refs = root;
    if (dmc_json_type(refs) != DMC_JSON_OBJECT)
        return dmc_error_set(error, DAMACY_DECODE, "metadata", "\"refs\" of kerchunk references is %s, not an object",
                             dmc_json_type_str(refs));
    dmc_json *gen = refs == root ? NULL : dmc_json_get(root, "gen");
    if (dmc_json_count(gen) > 0) {
        dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "kerchunk references that are generated (\"gen\") are not read");
        dmc_error_hint(error, "write them with all references spelled out");
        return DAMACY_UNSUPPORTED;
    }
    dmc_json *templates = refs == root ? NULL : dmc_json_get(root, "templates");
    parser->templates = dmc_json_count(templates) > 0 ? templates : NULL;
    const char *key;
    dmc_json *value;
    for (size_t i = 0; dmc_json_member(refs, i, &key, &value); i++) {
        enum damacy_status status = take(parser, key, value);
        if (status)
            return status;
    }
    dmc_object_map_trim(&parser->references->refs);
    dmc_object_map_trim(&parser->references->targets);
    return DAMACY_OK;
}

enum damacy_status dmc_references_parse(const char *text, size_t bytes, struct dmc_budget *budget,
                                        struct dmc_references *references, struct damacy_error *error)
{
    struct damacy_error own = {0};
    dmc_object_map_init(&references->refs, sizeof(struct dmc_reference), budget);
    dmc_object_map_init(&references->targets, sizeof(struct dmc_reference_target), budget);
    struct parser *parser = dmc_malloc(sizeof *parser);
    if (!parser)
        return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory to read references");
    parser->references = references;
    parser->templates = NULL;
    parser->error = error ? error : &own;
    struct dmc_json_doc *doc = NULL;
    enum damacy_status status = dmc_json_parse(text, bytes, &doc, error);
    if (!status)
        status = take_document(parser, dmc_json_root(doc));
    dmc_json_free(doc);
    dmc_free(parser);
    return status;
}

void dmc_references_deinit(struct dmc_references *references)
{
    dmc_object_map_deinit(&references->refs);
    dmc_object_map_deinit(&references->targets);
}
