/* Data types, of v3 and v2, and the members of structured ones.
 *
 *     v3   "uint16"      {"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 1}}
 *          {"name": "struct", "configuration": {"fields": [{"name": "x", "data_type": "float32"}, ...]}}
 *          {"name": "structured", "configuration": {"fields": [["x", "float32"], ...]}}      zarr-python 3.0 and 3.1
 *     v2   "<u2"  "|b1"  ">M8[ns]"  [["x", "<f4"], ["y", ">i2", [3]], ["nested", [["z", "|u1"]]], ["", "|V4"]]
 *
 * Records are packed: the offset of a member is the sum of the bytes before it (v2 writes padding as members without a name).
 */
#include "zarr/zarr_parse.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define EXPECTED_V3                                                                                                            \
    "bool, int8 to int64, uint8 to uint64, float16, float32, float64, bfloat16, float8 kinds, complex, datetime64 or struct"
#define EXPECTED_V2 "a type string as \"<u2\": an order of <, > or |, a kind of b, i, u, f, c, M or m, and a size"

/* One member of a record, or the dtype of an array. */
struct type {
    const struct dmc_zarr_dtype *row; /* NULL: nothing that could be delivered */
    uint64_t bytes;                   /* of one, as stored; 0: not known */
    bool big_endian;
    bool order_missing; /* v2: several bytes, and no order */
    bool empty;         /* v2: no bytes at all, "|S0" */
    dmc_json *fields;   /* of a nested record, else NULL */
    const char *text;   /* for messages */
};

struct field {
    const char *name;
    struct type type;
    uint32_t axes; /* v2: of the member's shape */
    uint64_t shape[DAMACY_RANK_MAX];
    uint64_t bytes; /* of all its elements */
    uint64_t offset;
};

static enum damacy_status record_bytes(dmc_json *fields, uint32_t format, uint32_t depth, const char *path, uint64_t *bytes,
                                       struct damacy_error *error);

/* --- one type --- */

static bool read_digits(const char *text, uint64_t *number)
{
    *number = 0;
    for (const char *p = text; *p; p++) {
        if (*p < '0' || *p > '9' || p - text > 9)
            return false;
        *number = *number * 10 + (uint64_t)(*p - '0');
    }
    return *text != 0;
}

/* Behind "M8" or "m8": nothing (numpy's generic unit), or "[ns]", "[10us]". The unit does not change the ticks. */
static bool is_time_unit(const char *text)
{
    size_t bytes = strlen(text);
    return bytes == 0 || (bytes > 2 && bytes < 24 && text[0] == '[' && text[bytes - 1] == ']');
}

static enum damacy_status type_read_v2(dmc_json *value, uint32_t depth, const char *path, struct type *type,
                                       struct damacy_error *error)
{
    *type = (struct type){.text = "a record"};
    if (dmc_json_type(value) == DMC_JSON_ARRAY) {
        type->fields = value;
        return record_bytes(value, 2, depth + 1, path, &type->bytes, error);
    }
    const char *text;
    if (!dmc_zarr_text(value, &text))
        return dmc_zarr_wrong(error, DAMACY_DECODE, path, EXPECTED_V2, value);
    type->text = text;
    char order = strchr("<>|", text[0]) ? text[0] : 0;
    const char *kind = text + (order != 0);
    type->big_endian = order == '>';
    bool time = strncmp(kind, "M8", 2) == 0 || strncmp(kind, "m8", 2) == 0;
    type->row = dmc_zarr_dtype_find_v2(kind, time && is_time_unit(kind + 2) ? 2 : strlen(kind));
    if (type->row && type->row->stored_bytes) {
        type->bytes = type->row->stored_bytes;
        /* tensorstore writes bfloat16 and its kin without an order, and little-endian. */
        bool named = type->row->v2 == NULL || strcmp(type->row->v2, type->row->name) == 0;
        type->order_missing = order != '<' && order != '>' && type->bytes > 1 && !named;
        return DAMACY_OK;
    }
    uint64_t count = 0;
    type->row = NULL;
    if ((kind[0] == 'S' || kind[0] == 'U' || kind[0] == 'V') && read_digits(kind + 1, &count))
        type->bytes = kind[0] == 'U' ? count * 4 : count;
    type->empty = !type->bytes && kind[0] && kind[1] == '0' && !kind[2];
    return DAMACY_OK;
}

/* "r16": 16 raw bits. */
static uint64_t raw_bytes(const char *name)
{
    uint64_t bits;
    return name[0] == 'r' && read_digits(name + 1, &bits) && bits % 8 == 0 ? bits / 8 : 0;
}

static enum damacy_status check_time(dmc_json *configuration, const char *path, struct damacy_error *error)
{
    static const char *const known[] = {"unit", "scale_factor", NULL};
    char member[200];
    const char *unit;
    uint64_t scale;
    snprintf(member, sizeof member, "%s.configuration", path);
    if (!configuration)
        return dmc_zarr_wrong(error, DAMACY_DECODE, member, "unit and scale_factor", NULL);
    enum damacy_status status = dmc_zarr_members_check(configuration, member, known, error);
    if (status)
        return status;
    dmc_json *value = dmc_json_get(configuration, "unit");
    snprintf(member, sizeof member, "%s.configuration.unit", path);
    if (!dmc_zarr_text(value, &unit))
        return dmc_zarr_wrong(error, DAMACY_DECODE, member, "a unit of time", value);
    value = dmc_json_get(configuration, "scale_factor");
    snprintf(member, sizeof member, "%s.configuration.scale_factor", path);
    if (value && (!dmc_zarr_u64(value, &scale) || scale < 1 || scale > INT32_MAX))
        return dmc_zarr_wrong(error, DAMACY_DECODE, member, "an integer from 1 to 2^31-1", value);
    return DAMACY_OK;
}

static enum damacy_status type_read_v3(dmc_json *value, uint32_t depth, const char *path, struct type *type,
                                       struct damacy_error *error)
{
    static const char *const none[] = {NULL}, *const fields_only[] = {"fields", NULL};
    struct dmc_zarr_named named;
    char configuration[200];
    enum damacy_status status = dmc_zarr_named_read(value, path, &named, error);
    if (status)
        return status;
    *type = (struct type){.text = named.name, .row = dmc_zarr_dtype_find(named.name, strlen(named.name))};
    snprintf(configuration, sizeof configuration, "%s.configuration", path);
    if (type->row && type->row->stored_bytes) {
        type->bytes = type->row->stored_bytes;
        return type->row->how == DMC_ZARR_TIME ? check_time(named.configuration, path, error)
                                               : dmc_zarr_members_check(named.configuration, configuration, none, error);
    }
    if (type->row && type->row->how == DMC_ZARR_RECORD) {
        type->row = NULL;
        status = dmc_zarr_members_check(named.configuration, configuration, fields_only, error);
        if (status)
            return status;
        type->fields = dmc_json_get(named.configuration, "fields");
        snprintf(configuration, sizeof configuration, "%s.configuration.fields", path);
        return record_bytes(type->fields, 3, depth + 1, configuration, &type->bytes, error);
    }
    type->row = NULL;
    type->bytes = raw_bytes(named.name);
    /* fixed_length_utf32, null_terminated_bytes, raw_bytes: zarr-python's names */
    if (!type->bytes && dmc_zarr_u64(dmc_json_get(named.configuration, "length_bytes"), &type->bytes) &&
        type->bytes > DMC_ZARR_RECORD_BYTES_MAX)
        type->bytes = 0;
    return DAMACY_OK;
}

static enum damacy_status type_read(dmc_json *value, uint32_t format, uint32_t depth, const char *path, struct type *type,
                                    struct damacy_error *error)
{
    return format == 2 ? type_read_v2(value, depth, path, type, error) : type_read_v3(value, depth, path, type, error);
}

/* --- records --- */

static enum damacy_status field_read(dmc_json *value, uint32_t format, uint32_t depth, const char *path, struct field *field,
                                     struct damacy_error *error)
{
    size_t count = dmc_json_count(value);
    bool list = dmc_json_type(value) == DMC_JSON_ARRAY, pair = list && (count == 2 || (format == 2 && count == 3));
    dmc_json *name = list ? dmc_json_at(value, 0) : dmc_json_get(value, "name");
    dmc_json *type = list ? dmc_json_at(value, 1) : dmc_json_get(value, "data_type");
    size_t name_bytes;
    *field = (struct field){0};
    if (!pair && !(format == 3 && !list && name && type))
        return dmc_zarr_wrong(error, DAMACY_DECODE, path,
                              format == 2 ? "a list of name, type and maybe shape" : "a name and a data_type", value);
    /* Without a name: what numpy writes for padding. It cannot be chosen. */
    if (!dmc_json_string(name, &field->name, &name_bytes) || strlen(field->name) != name_bytes || (format == 3 && !name_bytes))
        return dmc_zarr_wrong(error, DAMACY_DECODE, path, "a member with a name", name);
    enum damacy_status status = type_read(type, format, depth, path, &field->type, error);
    if (status)
        return status;
    if (!field->type.bytes && !field->type.empty) {
        char quoted[DMC_ZARR_QUOTE_BYTES];
        return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, path, "members of a known number of bytes",
                                   dmc_zarr_quote(quoted, field->type.text, strlen(field->type.text)));
    }
    field->bytes = field->type.bytes;
    if (count != 3 || !list)
        return DAMACY_OK;
    /* numpy writes [3], and old files of one axis 3. */
    dmc_json *shape = dmc_json_at(value, 2);
    bool one = dmc_json_type(shape) == DMC_JSON_NUMBER;
    if (!one && dmc_json_count(shape) > DAMACY_RANK_MAX)
        return dmc_zarr_wrong(error, DAMACY_UNSUPPORTED, path, "a shape of at most 31 axes", shape);
    field->axes = one ? 1 : (uint32_t)dmc_json_count(shape);
    for (uint32_t i = 0; i < field->axes; i++) {
        dmc_json *extent = one ? shape : dmc_json_at(shape, i);
        if (!dmc_zarr_u64(extent, &field->shape[i]) || field->shape[i] < 1 ||
            !dmc_mul_u64(field->bytes, field->shape[i], &field->bytes) || field->bytes > DMC_ZARR_RECORD_BYTES_MAX)
            return dmc_zarr_wrong(error, DAMACY_DECODE, path, "a shape of a record of at most 1 MiB", extent);
    }
    return DAMACY_OK;
}

static enum damacy_status fields_check(dmc_json *fields, uint32_t depth, const char *path, struct damacy_error *error)
{
    size_t count = dmc_json_count(fields);
    if (dmc_json_type(fields) != DMC_JSON_ARRAY || count == 0)
        return dmc_zarr_wrong(error, DAMACY_DECODE, path, "a list of members", fields);
    if (depth > DMC_ZARR_RECORD_DEPTH_MAX)
        return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "%s: more than %d structured dtypes inside one another",
                             path, DMC_ZARR_RECORD_DEPTH_MAX);
    if (count > DMC_ZARR_RECORD_MEMBERS_MAX) {
        char expected[48];
        snprintf(expected, sizeof expected, "at most %d members", DMC_ZARR_RECORD_MEMBERS_MAX);
        return dmc_zarr_wrong(error, DAMACY_UNSUPPORTED, path, expected, fields);
    }
    return DAMACY_OK;
}

static enum damacy_status record_bytes(dmc_json *fields, uint32_t format, uint32_t depth, const char *path, uint64_t *bytes,
                                       struct damacy_error *error)
{
    enum damacy_status status = fields_check(fields, depth, path, error);
    *bytes = 0;
    for (size_t i = 0; !status && i < dmc_json_count(fields); i++) {
        struct field field;
        char member[120];
        dmc_zarr_element_path(member, sizeof member, depth > 1 ? "a nested member" : path, i);
        status = field_read(dmc_json_at(fields, i), format, depth, member, &field, error);
        *bytes += field.bytes; /* at most 2^10 times 2^20, before it is found to be too much */
        if (!status && *bytes > DMC_ZARR_RECORD_BYTES_MAX)
            return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, path, "records of at most 1 MiB", "larger ones");
    }
    return status;
}

/* The member that `want` begins with: all of it, or up to a dot; the longest name counts. `rest` is what follows the dot. */
static enum damacy_status field_find(dmc_json *fields, uint32_t format, uint32_t depth, const char *path, const char *want,
                                     struct field *found, const char **rest, struct damacy_error *error)
{
    uint64_t offset = 0;
    size_t best = 0;
    for (size_t i = 0; i < dmc_json_count(fields); i++) {
        struct field field;
        char member[120];
        dmc_zarr_element_path(member, sizeof member, path, i);
        enum damacy_status status = field_read(dmc_json_at(fields, i), format, depth, member, &field, error);
        if (status)
            return status;
        field.offset = offset;
        offset += field.bytes;
        size_t bytes = strlen(field.name);
        if (bytes == 0 || strncmp(want, field.name, bytes) != 0 || (want[bytes] != 0 && want[bytes] != '.'))
            continue;
        if (bytes == best)
            return dmc_error_set(error, DAMACY_DECODE, "metadata", "%s: two members of the structured dtype have the same name",
                                 member);
        if (bytes < best)
            continue;
        best = bytes;
        *found = field;
        *rest = want[bytes] ? want + bytes + 1 : want + bytes;
    }
    return best ? DAMACY_OK : DAMACY_NOTFOUND;
}

/* "x, y, z", as far as it fits. */
static void list_names(dmc_json *fields, char *out, size_t capacity)
{
    size_t used = 0;
    out[0] = 0;
    for (size_t i = 0; i < dmc_json_count(fields); i++) {
        dmc_json *field = dmc_json_at(fields, i);
        const char *name;
        char quoted[DMC_ZARR_QUOTE_BYTES];
        if (!dmc_zarr_text(dmc_json_type(field) == DMC_JSON_ARRAY ? dmc_json_at(field, 0) : dmc_json_get(field, "name"), &name))
            continue;
        dmc_zarr_quote(quoted, name, strlen(name));
        size_t bytes = strlen(quoted);
        if (used + bytes + 8 > capacity) {
            memcpy(out + used, ", ...", 6);
            return;
        }
        used += (size_t)snprintf(out + used, capacity - used, "%s%s", used ? ", " : "", quoted);
    }
}

static enum damacy_status refuse_record(const char *path, dmc_json *fields, const char *inside, struct damacy_error *error)
{
    char names[150];
    list_names(fields, names, sizeof names);
    dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "%s is structured; one member at a time can be read", path);
    dmc_error_hint(error, "add #member=%s%sNAME to the uri; there are %s", inside, *inside ? "." : "", names);
    return DAMACY_UNSUPPORTED;
}

static enum damacy_status member_choose(dmc_json *fields, uint32_t format, const char *path, const char *want,
                                        struct dmc_zarr_draft *draft, struct type *type, struct damacy_error *error)
{
    struct dmc_zarr_member *member = &draft->member;
    const char *rest = want;
    *member = (struct dmc_zarr_member){.chosen = true, .record_bytes = (uint32_t)type->bytes};
    for (uint32_t depth = 1;; depth++) {
        struct field field = {0};
        enum damacy_status status = field_find(fields, format, depth, path, rest, &field, &rest, error);
        if (status == DAMACY_NOTFOUND) {
            char names[150], quoted[DMC_ZARR_QUOTE_BYTES];
            list_names(fields, names, sizeof names);
            dmc_error_set(error, DAMACY_INVAL, "metadata", "the structured dtype has no member %s",
                          dmc_zarr_quote(quoted, want, strlen(want)));
            dmc_error_hint(error, "there are %s", names);
            return DAMACY_INVAL;
        }
        if (status)
            return status;
        member->path[member->path_count++] = field.name; /* records are at most DEPTH_MAX deep */
        member->offset += (uint32_t)field.offset;
        member->bytes = (uint32_t)field.bytes;
        *type = field.type;
        if (!field.type.fields) {
            if (*rest)
                return dmc_error_set(error, DAMACY_INVAL, "metadata",
                                     "member '%s' of the structured dtype has no members of its own", field.name);
            draft->trailing = field.axes;
            memcpy(draft->trailing_extents, field.shape, field.axes * sizeof *field.shape);
            return DAMACY_OK;
        }
        if (!*rest)
            return refuse_record(path, field.type.fields, want, error);
        if (field.axes)
            return dmc_error_set(error, DAMACY_UNSUPPORTED, "metadata", "%s: member '%s' is a structured dtype with a shape",
                                 path, field.name);
        fields = field.type.fields;
    }
}

/* --- the whole --- */

static enum damacy_status keep_data_type(dmc_json *value, struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    const char *text;
    char cut[DMC_ZARR_DATA_TYPE_BYTES];
    if (dmc_zarr_text(value, &text)) {
        dmc_text_copy(cut, sizeof cut, text);
    } else {
        char *dump = dmc_json_dump(value);
        if (!dump)
            return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for the text of the data type");
        dmc_text_copy(cut, sizeof cut, dump);
        dmc_free(dump);
    }
    uint32_t begin = dmc_zarr_text_begin(draft);
    dmc_zarr_text_put(draft, cut);
    draft->array.data_type = dmc_zarr_text_end(draft, begin); /* the first text, so that it fits */
    return DAMACY_OK;
}

enum damacy_status dmc_zarr_dtype_read(dmc_json *value, uint32_t format, const struct dmc_selection *selection,
                                       struct dmc_zarr_draft *draft, struct damacy_error *error)
{
    const char *path = format == 2 ? "dtype" : "data_type";
    const char *want = selection ? selection->member : "";
    char quoted[DMC_ZARR_QUOTE_BYTES];
    struct type type;
    enum damacy_status status = type_read(value, format, 0, path, &type, error);
    if (status)
        return status;
    if (type.fields && !*want)
        return refuse_record(path, type.fields, "", error);
    if (!type.fields && *want) {
        dmc_error_set(error, DAMACY_INVAL, "metadata", "member %s was asked for, but the dtype is not structured",
                      dmc_zarr_quote(quoted, want, strlen(want)));
        dmc_error_hint(error, "leave #member= out");
        return DAMACY_INVAL;
    }
    if (type.fields)
        status = member_choose(type.fields, format, path, want, draft, &type, error);
    if (status)
        return status;
    if (!type.row)
        return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, path, format == 2 ? EXPECTED_V2 : EXPECTED_V3,
                                   dmc_zarr_quote(quoted, type.text, strlen(type.text)));
    if (type.order_missing)
        return dmc_zarr_wrong_text(error, DAMACY_DECODE, path, "a byte order, < or >",
                                   dmc_zarr_quote(quoted, type.text, strlen(type.text)));

    struct dmc_zarr_array *array = &draft->array;
    draft->type = type.row;
    draft->big_endian = type.big_endian;
    if (type.row->parts == 2) {
        if (draft->trailing == DAMACY_RANK_MAX)
            return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, path, "at most 31 axes", "more");
        draft->trailing_extents[draft->trailing++] = 2;
    }
    array->dtype = type.row->dtype;
    array->item_bytes = (uint32_t)damacy_dtype_bytes(array->dtype);
    array->fill_count = type.row->parts;
    return keep_data_type(value, draft, error);
}
