#include "zarr/zarr_parse.h"

#include "base/error.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void dmc_zarr_element_path(char *path, size_t capacity, const char *member, size_t index)
{
    snprintf(path, capacity, "%s[%zu]", member, index);
}

const char *dmc_zarr_quote(char out[DMC_ZARR_QUOTE_BYTES], const char *text, size_t bytes)
{
    /* Room is kept for the longest escape (4), "..." and the closing mark with its zero. */
    const size_t limit = DMC_ZARR_QUOTE_BYTES - 10;
    size_t used = 0;
    out[used++] = '"';
    size_t i = 0;
    for (; i < bytes && used < limit; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f)
            used += (size_t)snprintf(out + used, 5, "\\x%02x", c);
        else
            out[used++] = (char)c;
    }
    if (i < bytes) {
        while (i > 0 && used > 1 && ((unsigned char)text[i] & 0xc0) == 0x80) { /* do not cut a UTF-8 character in two */
            i--;
            used--;
        }
        memcpy(out + used, "...", 3);
        used += 3;
    }
    out[used++] = '"';
    out[used] = '\0';
    return out;
}

/* What a member holds, in a few words. */
static void describe(dmc_json *value, char out[DMC_ZARR_QUOTE_BYTES])
{
    const char *text;
    size_t bytes;
    bool truth;
    switch (value ? dmc_json_type(value) : DMC_JSON_NULL) {
    case DMC_JSON_NULL:
        dmc_text_copy(out, DMC_ZARR_QUOTE_BYTES, value ? "null" : "nothing");
        break;
    case DMC_JSON_BOOL:
        dmc_text_copy(out, DMC_ZARR_QUOTE_BYTES, dmc_json_bool(value, &truth) && truth ? "true" : "false");
        break;
    case DMC_JSON_NUMBER: {
        char *number = dmc_json_dump(value);
        dmc_text_copy(out, DMC_ZARR_QUOTE_BYTES, number ? number : "a number");
        dmc_free(number);
        break;
    }
    case DMC_JSON_STRING:
        if (dmc_json_string(value, &text, &bytes))
            dmc_zarr_quote(out, text, bytes);
        break;
    case DMC_JSON_ARRAY:
        snprintf(out, DMC_ZARR_QUOTE_BYTES, "a list of %zu", dmc_json_count(value));
        break;
    case DMC_JSON_OBJECT:
        dmc_text_copy(out, DMC_ZARR_QUOTE_BYTES, "an object");
        break;
    }
}

enum damacy_status dmc_zarr_wrong_text(struct damacy_error *error, enum damacy_status status, const char *member,
                                       const char *expected, const char *found)
{
    dmc_error_set(error, status, "metadata", "%s is %s", member, status == DAMACY_UNSUPPORTED ? "not supported" : "wrong");
    dmc_error_expected(error, expected, found);
    return status;
}

enum damacy_status dmc_zarr_wrong(struct damacy_error *error, enum damacy_status status, const char *member,
                                  const char *expected, dmc_json *value)
{
    char found[DMC_ZARR_QUOTE_BYTES] = "";
    if (error)
        describe(value, found);
    return dmc_zarr_wrong_text(error, status, member, expected, found);
}

/* Up to here every whole number is a double of its own, so that a whole double means one integer only. */
#define EXACT_DOUBLE_MAX 9007199254740992.0 /* 2^53 */

bool dmc_zarr_i64(dmc_json *value, int64_t *out)
{
    double number;
    if (dmc_json_i64(value, out))
        return true;
    if (!dmc_json_f64(value, &number) || !(number >= -EXACT_DOUBLE_MAX && number <= EXACT_DOUBLE_MAX))
        return false;
    int64_t whole = (int64_t)number;
    if ((double)whole != number)
        return false;
    *out = whole;
    return true;
}

bool dmc_zarr_u64(dmc_json *value, uint64_t *out)
{
    int64_t number;
    if (dmc_json_u64(value, out))
        return true;
    if (!dmc_zarr_i64(value, &number) || number < 0)
        return false;
    *out = (uint64_t)number;
    return true;
}

enum damacy_status dmc_zarr_format_check(dmc_json *root, uint32_t format, struct damacy_error *error)
{
    if (dmc_json_type(root) != DMC_JSON_OBJECT)
        return dmc_zarr_wrong(error, DAMACY_DECODE, "the document", "the metadata object of a Zarr array", root);
    dmc_json *value = dmc_json_get(root, "zarr_format");
    const char *expected = format == 2 ? "2" : "3";
    uint64_t number;
    if (!dmc_zarr_u64(value, &number))
        return dmc_zarr_wrong(error, DAMACY_DECODE, "zarr_format", expected, value);
    if (number != format)
        return dmc_zarr_wrong(error, DAMACY_UNSUPPORTED, "zarr_format", expected, value);
    return DAMACY_OK;
}

bool dmc_zarr_string_is(dmc_json *value, const char *text)
{
    const char *found;
    size_t bytes;
    return dmc_json_string(value, &found, &bytes) && bytes == strlen(text) && memcmp(found, text, bytes) == 0;
}

bool dmc_zarr_text(dmc_json *value, const char **text)
{
    size_t bytes;
    return dmc_json_string(value, text, &bytes) && bytes > 0 && strlen(*text) == bytes;
}

enum damacy_status dmc_zarr_named_read(dmc_json *value, const char *member, struct dmc_zarr_named *named,
                                       struct damacy_error *error)
{
    static const char *const known[] = {"name", "configuration", "must_understand", NULL};
    char path[160];
    named->configuration = NULL;
    if (dmc_zarr_text(value, &named->name))
        return DAMACY_OK;
    if (dmc_json_type(value) != DMC_JSON_OBJECT)
        return dmc_zarr_wrong(error, DAMACY_DECODE, member, "a name, or an object with name and configuration", value);

    snprintf(path, sizeof path, "%s.name", member);
    if (!dmc_zarr_text(dmc_json_get(value, "name"), &named->name))
        return dmc_zarr_wrong(error, DAMACY_DECODE, path, "a name", dmc_json_get(value, "name"));
    enum damacy_status status = dmc_zarr_members_check(value, member, known, error);
    if (status != DAMACY_OK)
        return status;

    named->configuration = dmc_json_get(value, "configuration");
    snprintf(path, sizeof path, "%s.configuration", member);
    if (named->configuration && dmc_json_type(named->configuration) != DMC_JSON_OBJECT)
        return dmc_zarr_wrong(error, DAMACY_DECODE, path, "an object", named->configuration);

    /* Grids, dtypes, keys and codecs decide what the bytes mean: whatever the flag says, one that is unknown cannot be ignored.
     */
    bool must_understand;
    dmc_json *flag = dmc_json_get(value, "must_understand");
    snprintf(path, sizeof path, "%s.must_understand", member);
    if (flag && !dmc_json_bool(flag, &must_understand))
        return dmc_zarr_wrong(error, DAMACY_DECODE, path, "true or false", flag);
    return DAMACY_OK;
}

enum damacy_status dmc_zarr_members_check(dmc_json *object, const char *member, const char *const *known,
                                          struct damacy_error *error)
{
    const char *key;
    dmc_json *value;
    for (size_t i = 0; dmc_json_member(object, i, &key, &value); i++) {
        const char *const *name = known;
        bool whole = dmc_json_get(object, key) == value; /* a key with a zero inside finds another member, or none */
        while (*name && strcmp(*name, key) != 0)
            name++;
        bool must_understand = true;
        if ((*name && whole) || (dmc_json_bool(dmc_json_get(value, "must_understand"), &must_understand) && !must_understand))
            continue;
        char quoted[DMC_ZARR_QUOTE_BYTES];
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata",
                             "%s%smember %s is not known, and nothing says that it may be ignored", member, *member ? ": " : "",
                             dmc_zarr_quote(quoted, key, strlen(key)));
    }
    return DAMACY_OK;
}

enum damacy_status dmc_zarr_extents_read(dmc_json *value, const char *member, uint32_t rank, uint64_t minimum,
                                         uint64_t *extents, struct damacy_error *error)
{
    char expected[80];
    if (dmc_json_type(value) != DMC_JSON_ARRAY || dmc_json_count(value) != rank) {
        snprintf(expected, sizeof expected, "a list of %u integers, one for each axis of shape", rank);
        return dmc_zarr_wrong(error, DAMACY_DECODE, member, expected, value);
    }
    for (uint32_t axis = 0; axis < rank; axis++) {
        dmc_json *extent = dmc_json_at(value, axis);
        if (dmc_zarr_u64(extent, &extents[axis]) && extents[axis] >= minimum && extents[axis] <= INT64_MAX)
            continue;
        char path[160];
        dmc_zarr_element_path(path, sizeof path, member, axis);
        snprintf(expected, sizeof expected, "an integer from %u to 2^63-1", (unsigned)minimum);
        return dmc_zarr_wrong(error, DAMACY_DECODE, path, expected, extent);
    }
    return DAMACY_OK;
}

uint32_t dmc_zarr_text_begin(const struct dmc_zarr_draft *draft)
{
    return draft->text_bytes;
}

void dmc_zarr_text_put(struct dmc_zarr_draft *draft, const char *text)
{
    size_t bytes = strlen(text);
    if (draft->text_full || bytes > sizeof draft->text - draft->text_bytes) {
        draft->text_full = true;
        return;
    }
    memcpy(draft->text + draft->text_bytes, text, bytes);
    draft->text_bytes += (uint32_t)bytes;
}

void dmc_zarr_text_format(struct dmc_zarr_draft *draft, const char *format, ...)
{
    char text[160]; /* numbers and fixed words */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    dmc_zarr_text_put(draft, text);
}

enum damacy_status dmc_zarr_text_put_json(struct dmc_zarr_draft *draft, dmc_json *value, struct damacy_error *error)
{
    char *dump = dmc_json_dump(value);
    if (!dump)
        return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for the configuration of a codec");
    dmc_zarr_text_put(draft, dump);
    dmc_free(dump);
    return DAMACY_OK;
}

const char *dmc_zarr_text_end(struct dmc_zarr_draft *draft, uint32_t begin)
{
    if (draft->text_full || draft->text_bytes == sizeof draft->text) {
        draft->text_full = true;
        return NULL;
    }
    draft->text[draft->text_bytes++] = 0;
    return draft->text + begin;
}
