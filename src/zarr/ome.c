#include "zarr/ome.h"

#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "zarr/consolidated.h"
#include "zarr/zarr_parse.h"

#include <stdio.h>
#include <string.h>

#define PATH_BYTES 120
#define SEQUENCE_DEPTH_MAX 4

/* What callers hold, and what its lists and texts lie in. */
struct owner {
    struct dmc_ome ome;
    struct dmc_arena arena;
    struct dmc_json_doc *document; /* texts are borrowed from it */
};

struct reader {
    struct owner *owner;
    struct damacy_error *error;
};

/* --- small things --- */

static enum damacy_status oom(struct reader *reader)
{
    return dmc_error_set(reader->error, DAMACY_OOM, "metadata", "no memory for OME metadata");
}

static void *make(struct reader *reader, size_t count, size_t bytes)
{
    void *memory = dmc_arena_alloc_array(&reader->owner->arena, count ? count : 1, bytes, 16);
    if (memory)
        memset(memory, 0, count * bytes);
    return memory;
}

/* A list of at most `max`, or nothing at all. */
static enum damacy_status list_check(struct reader *reader, dmc_json *list, const char *path, size_t max)
{
    char expected[48];
    if (dmc_json_type(list) != DMC_JSON_ARRAY)
        return dmc_zarr_wrong(reader->error, DAMACY_DECODE, path, "a list", list);
    if (dmc_json_count(list) <= max)
        return DAMACY_OK;
    snprintf(expected, sizeof expected, "at most %zu entries", max);
    return dmc_zarr_wrong(reader->error, DAMACY_UNSUPPORTED, path, expected, list);
}

static const char *text_or_empty(dmc_json *value)
{
    const char *text;
    return dmc_zarr_text(value, &text) ? text : "";
}

/* A path below the group. Some writers end it with a slash, or begin it with "./". */
static enum damacy_status read_path(struct reader *reader, dmc_json *value, const char *where, const char **path)
{
    const char *text;
    if (!dmc_zarr_text(value, &text))
        return dmc_zarr_wrong(reader->error, DAMACY_DECODE, where, "a path below the group", value);
    while (text[0] == '.' && text[1] == '/')
        text += 2;
    size_t bytes = strlen(text);
    while (bytes > 0 && text[bytes - 1] == '/')
        bytes--;
    if (!dmc_path_is_inside(text, bytes))
        return dmc_zarr_wrong(reader->error, DAMACY_DECODE, where, "a path below the group", value);
    char *kept = dmc_arena_alloc(&reader->owner->arena, bytes + 1, 1);
    if (!kept)
        return oom(reader);
    memcpy(kept, text, bytes);
    kept[bytes] = 0;
    *path = kept;
    return DAMACY_OK;
}

/* --- axes --- */

/* Before 0.4 axes had no type: what their names have always meant. */
static const char *guess_type(const char *name)
{
    if (strcmp(name, "t") == 0)
        return "time";
    if (strcmp(name, "c") == 0)
        return "channel";
    return name[0] && !name[1] && strchr("xyz", name[0]) ? "space" : "";
}

static enum damacy_status read_axes(struct reader *reader, dmc_json *list, const char *path,
                                    struct dmc_ome_multiscale *multiscale)
{
    enum damacy_status status = list_check(reader, list, path, DAMACY_RANK_MAX);
    if (status)
        return status;
    size_t count = dmc_json_count(list);
    struct dmc_ome_axis *axes = make(reader, count, sizeof *axes);
    if (!axes)
        return oom(reader);
    for (size_t i = 0; i < count; i++) {
        dmc_json *axis = dmc_json_at(list, i);
        bool bare = dmc_json_type(axis) == DMC_JSON_STRING; /* 0.3: ["z", "y", "x"] */
        if (!bare && dmc_json_type(axis) != DMC_JSON_OBJECT) {
            char element[PATH_BYTES];
            dmc_zarr_element_path(element, sizeof element, path, i);
            return dmc_zarr_wrong(reader->error, DAMACY_DECODE, element, "an axis", axis);
        }
        axes[i].name = text_or_empty(bare ? axis : dmc_json_get(axis, "name"));
        axes[i].type = text_or_empty(dmc_json_get(axis, "type"));
        axes[i].unit = text_or_empty(dmc_json_get(axis, "unit"));
        if (!axes[i].type[0])
            axes[i].type = guess_type(axes[i].name);
    }
    multiscale->axes = axes;
    multiscale->axis_count = (uint32_t)count;
    return DAMACY_OK;
}

/* 0.1 and 0.2 had no axes: images were always t, c, z, y, x. */
static enum damacy_status assume_axes(struct reader *reader, struct dmc_ome_multiscale *multiscale)
{
    static const char *const names[] = {"t", "c", "z", "y", "x"};
    struct dmc_ome_axis *axes = make(reader, 5, sizeof *axes);
    if (!axes)
        return oom(reader);
    for (int i = 0; i < 5; i++)
        axes[i] = (struct dmc_ome_axis){.name = names[i], .type = guess_type(names[i]), .unit = ""};
    multiscale->axes = axes;
    multiscale->axis_count = 5;
    return DAMACY_OK;
}

/* A coordinate system is named by a string, or (drafts of 0.6) by an object with a name. */
static const char *system_name(dmc_json *value)
{
    return text_or_empty(dmc_json_type(value) == DMC_JSON_OBJECT ? dmc_json_get(value, "name") : value);
}

/* 0.6: the axes of the coordinate system that the levels are transformed into; the first if that is not told. */
static dmc_json *intrinsic_axes(dmc_json *image)
{
    dmc_json *systems = dmc_json_get(image, "coordinateSystems");
    dmc_json *first =
        dmc_json_at(dmc_json_get(dmc_json_at(dmc_json_get(image, "datasets"), 0), "coordinateTransformations"), 0);
    const char *wanted = system_name(dmc_json_get(first, "output"));
    for (size_t i = 0; i < dmc_json_count(systems); i++)
        if (strcmp(text_or_empty(dmc_json_get(dmc_json_at(systems, i), "name")), wanted) == 0 && wanted[0])
            return dmc_json_get(dmc_json_at(systems, i), "axes");
    return dmc_json_get(dmc_json_at(systems, 0), "axes");
}

/* --- transformations --- */

/* Scale and translation of all axes, of which more are composed: p -> s p + t. */
struct transform {
    uint32_t count;
    bool known; /* nothing but scales and translations so far */
    bool scaled;
    double scale[DAMACY_RANK_MAX], translation[DAMACY_RANK_MAX];
};

static enum damacy_status read_vector(struct reader *reader, dmc_json *value, const char *path, uint32_t count, double *out)
{
    char expected[64];
    snprintf(expected, sizeof expected, "a list of %u numbers, one for each axis", count);
    if (dmc_json_type(value) != DMC_JSON_ARRAY || dmc_json_count(value) != count)
        return dmc_zarr_wrong(reader->error, DAMACY_DECODE, path, expected, value);
    for (uint32_t i = 0; i < count; i++)
        if (!dmc_json_f64(dmc_json_at(value, i), &out[i]) || out[i] - out[i] != 0)
            return dmc_zarr_wrong(reader->error, DAMACY_DECODE, path, expected, dmc_json_at(value, i));
    return DAMACY_OK;
}

static enum damacy_status apply_list(struct reader *reader, dmc_json *list, const char *path, uint32_t depth,
                                     struct transform *transform);

static enum damacy_status apply(struct reader *reader, dmc_json *value, const char *path, uint32_t depth,
                                struct transform *transform)
{
    char member[PATH_BYTES + 32];
    double vector[DAMACY_RANK_MAX];
    dmc_json *type = dmc_json_get(value, "type");
    if (dmc_zarr_string_is(type, "identity"))
        return DAMACY_OK;
    if (dmc_zarr_string_is(type, "sequence") && depth < SEQUENCE_DEPTH_MAX) {
        snprintf(member, sizeof member, "%s.transformations", path);
        return apply_list(reader, dmc_json_get(value, "transformations"), member, depth + 1, transform);
    }
    bool scale = dmc_zarr_string_is(type, "scale");
    dmc_json *numbers = dmc_json_get(value, scale ? "scale" : "translation");
    /* The numbers may lie in an array of their own (`path`), and there are more kinds than these two. */
    if ((!scale && !dmc_zarr_string_is(type, "translation")) || !numbers) {
        transform->known = false;
        return DAMACY_OK;
    }
    snprintf(member, sizeof member, "%s.%s", path, scale ? "scale" : "translation");
    enum damacy_status status = read_vector(reader, numbers, member, transform->count, vector);
    for (uint32_t i = 0; !status && i < transform->count; i++) {
        transform->scale[i] *= scale ? vector[i] : 1;
        transform->translation[i] = scale ? transform->translation[i] * vector[i] : transform->translation[i] + vector[i];
    }
    transform->scaled = transform->scaled || scale;
    return status;
}

static enum damacy_status apply_list(struct reader *reader, dmc_json *list, const char *path, uint32_t depth,
                                     struct transform *transform)
{
    enum damacy_status status = dmc_json_type(list) == DMC_JSON_NULL ? DAMACY_OK : list_check(reader, list, path, 64);
    for (size_t i = 0; !status && i < dmc_json_count(list); i++) {
        char element[PATH_BYTES];
        dmc_zarr_element_path(element, sizeof element, path, i);
        status = apply(reader, dmc_json_at(list, i), element, depth, transform);
    }
    return status;
}

/* The transformations of a level. In 0.6 a list is alternatives into several systems, of which the first is the intrinsic one.
 */
static enum damacy_status read_transform(struct reader *reader, dmc_json *image, dmc_json *dataset, const char *path,
                                         struct dmc_ome_multiscale *multiscale, struct dmc_ome_level *level)
{
    char member[PATH_BYTES + 64];
    struct transform transform = {.count = multiscale->axis_count, .known = true};
    dmc_json *own = dmc_json_get(dataset, "coordinateTransformations");
    bool systems = dmc_json_get(image, "coordinateSystems") != NULL;
    for (uint32_t i = 0; i < transform.count; i++)
        transform.scale[i] = 1;
    snprintf(member, sizeof member, "%s.coordinateTransformations", path);
    enum damacy_status status = systems && dmc_json_type(own) == DMC_JSON_ARRAY && dmc_json_count(own) > 0
                                    ? apply(reader, dmc_json_at(own, 0), member, 0, &transform)
                                    : apply_list(reader, own, member, 0, &transform);
    if (!status && !systems)
        status = apply_list(reader, dmc_json_get(image, "coordinateTransformations"), "multiscales.coordinateTransformations",
                            0, &transform);
    if (status || !transform.known || !transform.scaled)
        return status;
    double *numbers = make(reader, 2 * (size_t)transform.count, sizeof *numbers);
    if (!numbers)
        return oom(reader);
    memcpy(numbers, transform.scale, transform.count * sizeof *numbers);
    memcpy(numbers + transform.count, transform.translation, transform.count * sizeof *numbers);
    level->scale = numbers;
    level->translation = numbers + transform.count;
    return DAMACY_OK;
}

/* --- images --- */

static enum damacy_status read_multiscale(struct reader *reader, dmc_json *image, const char *path,
                                          struct dmc_ome_multiscale *multiscale)
{
    char member[PATH_BYTES + 32];
    dmc_json *datasets = dmc_json_get(image, "datasets");
    dmc_json *axes = dmc_json_get(image, "axes");
    enum damacy_status status;
    if (dmc_json_type(image) != DMC_JSON_OBJECT)
        return dmc_zarr_wrong(reader->error, DAMACY_DECODE, path, "an object with datasets", image);
    multiscale->name = text_or_empty(dmc_json_get(image, "name"));
    snprintf(member, sizeof member, "%s.axes", path);
    if (!axes && dmc_json_get(image, "coordinateSystems"))
        status = read_axes(reader, intrinsic_axes(image), member, multiscale);
    else if (axes)
        status = read_axes(reader, axes, member, multiscale);
    else
        status = assume_axes(reader, multiscale);
    if (status)
        return status;
    snprintf(member, sizeof member, "%s.datasets", path);
    status = list_check(reader, datasets, member, DMC_OME_LEVELS_MAX);
    if (!status && dmc_json_count(datasets) == 0)
        return dmc_zarr_wrong(reader->error, DAMACY_DECODE, member, "at least one level", datasets);
    if (status)
        return status;
    struct dmc_ome_level *levels = make(reader, dmc_json_count(datasets), sizeof *levels);
    if (!levels)
        return oom(reader);
    for (size_t i = 0; !status && i < dmc_json_count(datasets); i++) {
        dmc_json *dataset = dmc_json_at(datasets, i);
        char element[PATH_BYTES + 32], where[PATH_BYTES + 48];
        dmc_zarr_element_path(element, sizeof element, member, i);
        snprintf(where, sizeof where, "%s.path", element);
        status = read_path(reader, dmc_json_get(dataset, "path"), where, &levels[i].path);
        if (!status)
            status = read_transform(reader, image, dataset, element, multiscale, &levels[i]);
    }
    multiscale->levels = levels;
    multiscale->level_count = (uint32_t)dmc_json_count(datasets);
    return status;
}

static enum damacy_status read_multiscales(struct reader *reader, dmc_json *list)
{
    struct dmc_ome *ome = &reader->owner->ome;
    enum damacy_status status = list_check(reader, list, "multiscales", DMC_OME_MULTISCALES_MAX);
    if (status)
        return status;
    struct dmc_ome_multiscale *multiscales = make(reader, dmc_json_count(list), sizeof *multiscales);
    if (!multiscales)
        return oom(reader);
    for (size_t i = 0; !status && i < dmc_json_count(list); i++) {
        char path[PATH_BYTES];
        dmc_zarr_element_path(path, sizeof path, "multiscales", i);
        status = read_multiscale(reader, dmc_json_at(list, i), path, &multiscales[i]);
    }
    ome->multiscales = multiscales;
    ome->multiscale_count = (uint32_t)dmc_json_count(list);
    return status;
}

static enum damacy_status read_labels(struct reader *reader, dmc_json *list)
{
    struct dmc_ome *ome = &reader->owner->ome;
    enum damacy_status status = list_check(reader, list, "labels", DMC_OME_LABELS_MAX);
    if (status)
        return status;
    const char **labels = make(reader, dmc_json_count(list), sizeof *labels);
    if (!labels)
        return oom(reader);
    for (size_t i = 0; !status && i < dmc_json_count(list); i++) {
        char path[PATH_BYTES];
        dmc_zarr_element_path(path, sizeof path, "labels", i);
        status = read_path(reader, dmc_json_at(list, i), path, &labels[i]);
    }
    ome->is_labels = true;
    ome->labels = labels;
    ome->label_count = (uint32_t)dmc_json_count(list);
    return status;
}

/* --- plates and wells --- */

static enum damacy_status read_names(struct reader *reader, dmc_json *list, const char *path, const char *const **names,
                                     uint32_t *count)
{
    enum damacy_status status =
        dmc_json_type(list) == DMC_JSON_NULL ? DAMACY_OK : list_check(reader, list, path, DMC_OME_WELLS_MAX);
    if (status)
        return status;
    const char **made = make(reader, dmc_json_count(list), sizeof *made);
    if (!made)
        return oom(reader);
    for (size_t i = 0; i < dmc_json_count(list); i++)
        made[i] = text_or_empty(dmc_json_get(dmc_json_at(list, i), "name"));
    *names = made;
    *count = (uint32_t)dmc_json_count(list);
    return DAMACY_OK;
}

static const char *name_at(dmc_json *index, const char *const *names, uint32_t count)
{
    uint64_t number;
    return dmc_zarr_u64(index, &number) && number < count ? names[number] : "";
}

static enum damacy_status read_plate(struct reader *reader, dmc_json *plate)
{
    struct dmc_ome *ome = &reader->owner->ome;
    dmc_json *list = dmc_json_get(plate, "wells");
    if (dmc_json_type(plate) != DMC_JSON_OBJECT)
        return dmc_zarr_wrong(reader->error, DAMACY_DECODE, "plate", "an object with wells", plate);
    ome->is_plate = true;
    ome->plate_name = text_or_empty(dmc_json_get(plate, "name"));
    enum damacy_status status = read_names(reader, dmc_json_get(plate, "rows"), "plate.rows", &ome->rows, &ome->row_count);
    if (!status)
        status = read_names(reader, dmc_json_get(plate, "columns"), "plate.columns", &ome->columns, &ome->column_count);
    if (!status)
        status = list_check(reader, list, "plate.wells", DMC_OME_WELLS_MAX);
    if (status)
        return status;
    struct dmc_ome_well *wells = make(reader, dmc_json_count(list), sizeof *wells);
    if (!wells)
        return oom(reader);
    for (size_t i = 0; !status && i < dmc_json_count(list); i++) {
        dmc_json *well = dmc_json_at(list, i);
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "plate.wells[%zu].path", i);
        status = read_path(reader, dmc_json_get(well, "path"), path, &wells[i].path);
        wells[i].row = name_at(dmc_json_get(well, "rowIndex"), ome->rows, ome->row_count);
        wells[i].column = name_at(dmc_json_get(well, "columnIndex"), ome->columns, ome->column_count);
    }
    ome->wells = wells;
    ome->well_count = (uint32_t)dmc_json_count(list);
    return status;
}

static enum damacy_status read_well(struct reader *reader, dmc_json *well)
{
    struct dmc_ome *ome = &reader->owner->ome;
    dmc_json *list = dmc_json_get(well, "images");
    enum damacy_status status = list_check(reader, list, "well.images", DMC_OME_FIELDS_MAX);
    if (status)
        return status;
    struct dmc_ome_field *fields = make(reader, dmc_json_count(list), sizeof *fields);
    if (!fields)
        return oom(reader);
    for (size_t i = 0; !status && i < dmc_json_count(list); i++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "well.images[%zu].path", i);
        status = read_path(reader, dmc_json_get(dmc_json_at(list, i), "path"), path, &fields[i].path);
        if (!dmc_zarr_i64(dmc_json_get(dmc_json_at(list, i), "acquisition"), &fields[i].acquisition))
            fields[i].acquisition = -1;
    }
    ome->is_well = true;
    ome->fields = fields;
    ome->field_count = (uint32_t)dmc_json_count(list);
    return status;
}

/* --- the whole --- */

/* Where the members lie: attributes.ome, attributes, or the document itself. */
static dmc_json *ome_of(dmc_json *root)
{
    dmc_json *attributes = dmc_json_get(root, "attributes");
    if (dmc_json_type(attributes) != DMC_JSON_OBJECT || !dmc_json_get(root, "zarr_format"))
        attributes = root;
    dmc_json *ome = dmc_json_get(attributes, "ome");
    return dmc_json_type(ome) == DMC_JSON_OBJECT ? ome : attributes;
}

/* 0.5 says it once; before, each thing had its own. */
static const char *version_of(dmc_json *ome)
{
    dmc_json *const places[] = {
        dmc_json_get(ome, "version"), dmc_json_get(dmc_json_at(dmc_json_get(ome, "multiscales"), 0), "version"),
        dmc_json_get(dmc_json_get(ome, "plate"), "version"), dmc_json_get(dmc_json_get(ome, "well"), "version"),
        dmc_json_get(dmc_json_get(ome, "image-label"), "version")};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (text_or_empty(places[i])[0])
            return text_or_empty(places[i]);
    return "";
}

static enum damacy_status read_ome(struct reader *reader)
{
    struct dmc_ome *out = &reader->owner->ome;
    dmc_json *root = dmc_json_root(reader->owner->document), *ome = ome_of(root);
    if (dmc_json_type(root) != DMC_JSON_OBJECT)
        return dmc_zarr_wrong(reader->error, DAMACY_DECODE, "the document", "a JSON object", root);
    out->version = version_of(ome);
    out->plate_name = "";
    out->is_label = dmc_json_type(dmc_json_get(ome, "image-label")) == DMC_JSON_OBJECT;
    out->is_series = dmc_json_type(dmc_json_get(ome, "bioformats2raw.layout")) == DMC_JSON_NUMBER;
    dmc_json *multiscales = dmc_json_get(ome, "multiscales"), *labels = dmc_json_get(ome, "labels");
    dmc_json *plate = dmc_json_get(ome, "plate"), *well = dmc_json_get(ome, "well");
    enum damacy_status status = DAMACY_OK;
    if (dmc_json_type(multiscales) != DMC_JSON_NULL)
        status = read_multiscales(reader, multiscales);
    if (!status && dmc_json_type(labels) == DMC_JSON_ARRAY) /* others use the name for something else */
        status = read_labels(reader, labels);
    if (!status && dmc_json_type(plate) != DMC_JSON_NULL)
        status = read_plate(reader, plate);
    if (!status && dmc_json_type(well) != DMC_JSON_NULL)
        status = read_well(reader, well);
    if (!status && !out->multiscale_count && !out->is_labels && !out->is_plate && !out->is_well && !out->is_series)
        return dmc_error_set(reader->error, DAMACY_NOTFOUND, "metadata", "there are no OME-Zarr metadata");
    return status;
}

enum damacy_status dmc_ome_parse(const char *text, size_t bytes, struct dmc_ome **ome, struct damacy_error *error)
{
    struct owner *owner = dmc_calloc(1, sizeof *owner);
    if (!owner)
        return dmc_error_set(error, DAMACY_OOM, "metadata", "no memory for OME metadata");
    dmc_arena_init(&owner->arena, NULL);
    enum damacy_status status = dmc_json_parse(text, bytes, &owner->document, error);
    if (!status)
        status = read_ome(&(struct reader){owner, error});
    if (status)
        dmc_ome_free(&owner->ome);
    else
        *ome = &owner->ome;
    return status;
}

void dmc_ome_free(struct dmc_ome *ome)
{
    struct owner *owner = (struct owner *)ome;
    if (!owner)
        return;
    dmc_arena_deinit(&owner->arena);
    dmc_json_free(owner->document);
    dmc_free(owner);
}

/* --- choosing --- */

static bool is_space(const struct dmc_ome_axis *axis)
{
    return strcmp(axis->type, "space") == 0;
}

/* Is the level at least as fine as asked for? A scale in metadata is a decimal number that went through divisions by two and
 * back: a part in a million does not make a level too coarse. */
static bool fine_enough(const struct dmc_ome_multiscale *multiscale, uint32_t level, const struct dmc_selection *selection)
{
    uint32_t space = 0;
    for (uint32_t axis = 0; axis < multiscale->axis_count; axis++) {
        if (!is_space(&multiscale->axes[axis]))
            continue;
        double wanted = selection->scale[selection->scale_count == 1 ? 0 : space++],
               has = multiscale->levels[level].scale[axis];
        if ((has < 0 ? -has : has) > wanted * (1 + 1e-6))
            return false;
    }
    return true;
}

static double voxel_size(const struct dmc_ome_multiscale *multiscale, uint32_t level)
{
    double size = 1;
    for (uint32_t axis = 0; axis < multiscale->axis_count; axis++)
        if (is_space(&multiscale->axes[axis]))
            size *= multiscale->levels[level].scale[axis];
    return size < 0 ? -size : size;
}

static enum damacy_status select_by_scale(const struct dmc_ome_multiscale *multiscale, const struct dmc_selection *selection,
                                          uint32_t *level, struct damacy_error *error)
{
    uint32_t space = 0;
    for (uint32_t axis = 0; axis < multiscale->axis_count; axis++)
        space += is_space(&multiscale->axes[axis]);
    if (space == 0)
        return dmc_error_set(error, DAMACY_INVAL, "metadata", "scale: the image has no axes of space");
    if (selection->scale_count != 1 && selection->scale_count != space) {
        char expected[64], found[32];
        snprintf(expected, sizeof expected, "one number, or %u, one for each axis of space", space);
        snprintf(found, sizeof found, "%u", selection->scale_count);
        dmc_error_set(error, DAMACY_INVAL, "metadata", "scale has the wrong number of values");
        dmc_error_expected(error, expected, found);
        return DAMACY_INVAL;
    }
    uint32_t finest = UINT32_MAX, best = UINT32_MAX;
    for (uint32_t i = 0; i < multiscale->level_count; i++) {
        if (!multiscale->levels[i].scale)
            continue;
        if (finest == UINT32_MAX || voxel_size(multiscale, i) < voxel_size(multiscale, finest))
            finest = i;
        if (fine_enough(multiscale, i, selection) &&
            (best == UINT32_MAX || voxel_size(multiscale, i) > voxel_size(multiscale, best)))
            best = i;
    }
    if (finest == UINT32_MAX)
        return dmc_error_set(error, DAMACY_INVAL, "metadata", "scale: the image's levels have no scale; name one with level=");
    *level = best == UINT32_MAX ? finest : best;
    return DAMACY_OK;
}

enum damacy_status dmc_ome_level_select(const struct dmc_ome_multiscale *multiscale, const struct dmc_selection *selection,
                                        uint32_t *level, struct damacy_error *error)
{
    if (selection && selection->scale_count)
        return select_by_scale(multiscale, selection, level, error);
    *level = selection && selection->has_level ? selection->level : 0;
    if (*level < multiscale->level_count)
        return DAMACY_OK;
    char expected[48], found[32];
    snprintf(expected, sizeof expected, "one from 0 to %u", multiscale->level_count - 1);
    snprintf(found, sizeof found, "%u", *level);
    dmc_error_set(error, DAMACY_INVAL, "metadata", "the image has no such level");
    dmc_error_expected(error, expected, found);
    return DAMACY_INVAL;
}

/* "B/03", "B03" and "B/3" as one: row, then the number without zeros in front. */
static void well_form(const char *text, char out[64])
{
    size_t used = 0;
    bool number = false;
    for (; *text && used < 63; text++) {
        bool digit = *text >= '0' && *text <= '9';
        if (*text == '/' || (*text == '0' && !number && text[1] >= '0' && text[1] <= '9'))
            continue;
        number = digit;
        out[used++] = *text;
    }
    out[used] = 0;
}

enum damacy_status dmc_ome_well_find(const struct dmc_ome *ome, const char *well, uint32_t *index, struct damacy_error *error)
{
    char wanted[64], has[64];
    for (uint32_t i = 0; i < ome->well_count; i++) {
        if (strcmp(ome->wells[i].path, well) == 0) {
            *index = i;
            return DAMACY_OK;
        }
    }
    uint32_t matches = 0;
    well_form(well, wanted);
    for (uint32_t i = 0; i < ome->well_count; i++) {
        well_form(ome->wells[i].path, has);
        if (strcmp(has, wanted) == 0) {
            *index = i;
            matches++;
        }
    }
    if (matches == 1) /* rows that are numbers could make two of one: 1/11 and 11/1 */
        return DAMACY_OK;
    char quoted[DMC_ZARR_QUOTE_BYTES];
    dmc_error_set(error, DAMACY_INVAL, "metadata", "the plate has no well %s", dmc_zarr_quote(quoted, well, strlen(well)));
    if (ome->well_count)
        dmc_error_hint(error, "it has %u, from %.40s to %.40s", ome->well_count, ome->wells[0].path,
                       ome->wells[ome->well_count - 1].path);
    return DAMACY_INVAL;
}
