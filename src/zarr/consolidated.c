#include "zarr/consolidated.h"

#include "base/error.h"
#include "base/json.h"
#include "zarr/zarr_parse.h"

#include <string.h>

bool dmc_path_is_inside(const char *path, size_t bytes)
{
    const char *part = path, *end = path + bytes;
    if (bytes == 0 || memchr(path, '\\', bytes) || memchr(path, 0, bytes))
        return false;
    for (;;) {
        const char *slash = memchr(part, '/', (size_t)(end - part));
        size_t length = (size_t)((slash ? slash : end) - part);
        if (length == 0 || (length == 1 && part[0] == '.') || (length == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        if (!slash)
            return true;
        part = slash + 1;
    }
}

static enum damacy_status broken(struct damacy_error *error, const char *what)
{
    return dmc_error_set(error, DAMACY_DECODE, "metadata", "consolidated metadata: %s", what);
}

/* Run a key's escapes through the real parser. Paths without a backslash, which is all that are seen, are copied. */
static enum damacy_status unescape(struct dmc_text key, char path[DMC_CONSOLIDATED_PATH_BYTES_MAX + 1], size_t *bytes,
                                   struct damacy_error *error)
{
    if (key.bytes > DMC_CONSOLIDATED_PATH_BYTES_MAX)
        return broken(error, "a path is longer than 4095 bytes");
    *bytes = key.bytes;
    if (!memchr(key.text, '\\', key.bytes)) {
        memcpy(path, key.text, key.bytes);
        path[key.bytes] = 0;
        return memchr(path, 0, key.bytes) ? broken(error, "a path has a zero in it") : DAMACY_OK;
    }
    struct dmc_json_doc *document;
    const char *text;
    enum damacy_status status = dmc_json_parse(key.text - 1, key.bytes + 2, &document, error);
    if (status)
        return status;
    if (dmc_json_string(dmc_json_root(document), &text, bytes) && strlen(text) == *bytes) /* never longer than its escapes */
        memcpy(path, text, *bytes + 1);
    else
        status = broken(error, "a path has a zero in it");
    dmc_json_free(document);
    return status;
}

static enum damacy_status bad_path(const char *path, size_t bytes, struct damacy_error *error)
{
    char quoted[DMC_ZARR_QUOTE_BYTES];
    return dmc_error_set(error, DAMACY_DECODE, "metadata", "consolidated metadata: %s is no path in the hierarchy",
                         dmc_zarr_quote(quoted, path, bytes));
}

/* v2: "a/b/.zarray". Other names are passed over: some tools put their own objects there. */
static bool split_v2(char *path, size_t *bytes, enum dmc_metadata_kind *kind)
{
    static const struct {
        const char *name;
        enum dmc_metadata_kind kind;
    } files[] = {
        {".zarray", DMC_METADATA_V2_ARRAY}, {".zgroup", DMC_METADATA_V2_GROUP}, {".zattrs", DMC_METADATA_V2_ATTRIBUTES}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t length = strlen(files[i].name);
        if (*bytes < length || strcmp(path + *bytes - length, files[i].name) != 0 ||
            (*bytes > length && path[*bytes - length - 1] != '/'))
            continue;
        *bytes -= *bytes > length ? length + 1 : length;
        path[*bytes] = 0;
        *kind = files[i].kind;
        return true;
    }
    return false;
}

static enum damacy_status each(struct dmc_text metadata, bool v2, dmc_consolidated_visit visit, void *user,
                               struct damacy_error *error)
{
    struct dmc_skim skim = dmc_skim_object(metadata);
    struct dmc_text key, value;
    char path[DMC_CONSOLIDATED_PATH_BYTES_MAX + 1];
    while (dmc_skim_next(&skim, &key, &value)) {
        struct dmc_consolidated_entry entry = {.path = path, .text = value};
        enum damacy_status status = unescape(key, path, &entry.path_bytes, error);
        if (status)
            return status;
        if (v2) {
            if (!split_v2(path, &entry.path_bytes, &entry.kind))
                continue;
        } else {
            struct dmc_text node = dmc_skim_get(value, "node_type");
            bool array = dmc_text_is(node, "\"array\"");
            if (!array && !dmc_text_is(node, "\"group\""))
                continue; /* a kind of node that came after us */
            entry.kind = array ? DMC_METADATA_ARRAY : DMC_METADATA_GROUP;
            /* zarr-python wrote the root's own metadata under "" in 3.0 betas. */
        }
        if (entry.path_bytes && !dmc_path_is_inside(path, entry.path_bytes))
            return bad_path(path, entry.path_bytes, error);
        if (!visit(user, &entry))
            return DAMACY_OK;
    }
    return skim.failed ? broken(error, "a member is no JSON") : DAMACY_OK;
}

enum damacy_status dmc_consolidated_each(const char *text, size_t bytes, dmc_consolidated_visit visit, void *user,
                                         struct damacy_error *error)
{
    struct dmc_text document = {text, bytes}, metadata;
    struct dmc_skim skim = dmc_skim_object(document);
    if (skim.failed)
        return broken(error, "the document is no JSON object");
    struct dmc_text format = dmc_skim_get(document, "zarr_consolidated_format");
    char quoted[DMC_ZARR_QUOTE_BYTES];
    if (format.text) {
        if (!dmc_text_is(format, "1"))
            return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, "zarr_consolidated_format", "1",
                                       dmc_zarr_quote(quoted, format.text, format.bytes));
        metadata = dmc_skim_get(document, "metadata");
    } else {
        struct dmc_text inside = dmc_skim_get(document, "consolidated_metadata");
        if (!inside.text || dmc_text_is(inside, "null"))
            return dmc_error_set(error, DAMACY_NOTFOUND, "metadata", "there are no consolidated metadata");
        struct dmc_text kind = dmc_skim_get(inside, "kind");
        if (kind.text && !dmc_text_is(kind, "\"inline\""))
            return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, "consolidated_metadata.kind", "\"inline\"",
                                       dmc_zarr_quote(quoted, kind.text, kind.bytes));
        metadata = dmc_skim_get(inside, "metadata");
    }
    if (!metadata.text || metadata.text[0] != '{')
        return broken(error, "the member `metadata` is no object");
    return each(metadata, format.text != NULL, visit, user, error);
}
