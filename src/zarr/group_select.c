#include "zarr/group_select.h"

#include "base/error.h"
#include "zarr/consolidated.h"

#include <stdio.h>
#include <string.h>

/* Names in a message. */
#define NAMES_MAX 5

/* Copy a path of a uri or of metadata, without what means nothing in it. false: too long, empty, or it leads out of the group.
 */
static bool clean_path(const char *from, char path[DMC_GROUP_PATH_BYTES])
{
    size_t at = 0;
    while (*from) {
        size_t bytes = strcspn(from, "/");
        if (bytes == 2 && from[0] == '.' && from[1] == '.')
            return false;
        if (bytes > 1 || (bytes == 1 && from[0] != '.')) {
            if (at + 1 + bytes >= DMC_GROUP_PATH_BYTES)
                return false;
            if (at)
                path[at++] = '/';
            memcpy(path + at, from, bytes);
            at += bytes;
        }
        from += bytes;
        from += *from == '/';
    }
    path[at] = 0;
    return at > 0;
}

bool dmc_group_step_known(struct dmc_selection *selection, char path[DMC_GROUP_PATH_BYTES])
{
    if (selection->well[0]) {
        if (!strchr(selection->well, '/') || !clean_path(selection->well, path))
            return false;
        selection->well[0] = 0;
        return true;
    }
    char label[DMC_SELECTION_TEXT_BYTES + 8];
    snprintf(label, sizeof label, "labels/%s", selection->label);
    if (!selection->label[0] || selection->has_field || !clean_path(label, path))
        return false;
    selection->label[0] = 0;
    return true;
}

enum damacy_status dmc_group_arrived(const struct dmc_selection *selection, struct damacy_error *error)
{
    if (!dmc_selection_needs_group(selection))
        return DAMACY_OK;
    dmc_error_set(error, DAMACY_INVAL, "metadata", "is an array, and the uri's fragment picks among arrays");
    dmc_error_hint(error, "level, scale, label, well and field are for OME-Zarr groups");
    return DAMACY_INVAL;
}

/* --- messages --- */

struct name_list {
    char text[256];
    size_t at;
    uint32_t count;
};

static void name_add(struct name_list *list, const char *name)
{
    if (list->count++ >= NAMES_MAX || list->at + strlen(name) + 3 > sizeof list->text)
        return;
    list->at += (size_t)snprintf(list->text + list->at, sizeof list->text - list->at, "%s%s", list->at ? ", " : "", name);
}

/* " (a, b, ...)", or nothing. */
static void name_end(const struct name_list *list, char text[300])
{
    text[0] = 0;
    if (list->at)
        snprintf(text, 300, " (%s%s)", list->text, list->count > NAMES_MAX ? ", ..." : "");
}

static enum damacy_status leads_nowhere(struct damacy_error *error, const char *what, const struct name_list *names,
                                        const char *hint)
{
    char list[300];
    name_end(names, list);
    dmc_error_set(error, DAMACY_NOTFOUND, "metadata", "is %s%s, not an array", what, list);
    dmc_error_hint(error, "%s", hint);
    return DAMACY_NOTFOUND;
}

/* --- steps --- */

static enum damacy_status take_path(const char *from, char path[DMC_GROUP_PATH_BYTES], struct damacy_error *error)
{
    if (clean_path(from, path))
        return DAMACY_OK;
    return dmc_error_set(error, DAMACY_DECODE, "metadata",
                         "the metadata name a path that is empty, too long or leads out of the group");
}

static enum damacy_status step_plate(const struct dmc_ome *ome, struct dmc_selection *selection,
                                     char path[DMC_GROUP_PATH_BYTES], struct damacy_error *error)
{
    if (!selection->well[0]) {
        struct name_list names = {.at = 0};
        for (uint32_t i = 0; i < ome->well_count; i++)
            name_add(&names, ome->wells[i].path);
        return leads_nowhere(error, "a plate of wells", &names, "pick one with #well=ROW/COLUMN&field=0");
    }
    uint32_t index;
    enum damacy_status status = dmc_ome_well_find(ome, selection->well, &index, error);
    if (status)
        return status;
    selection->well[0] = 0;
    return take_path(ome->wells[index].path, path, error);
}

static enum damacy_status step_well(const struct dmc_ome *ome, struct dmc_selection *selection, char path[DMC_GROUP_PATH_BYTES],
                                    struct damacy_error *error)
{
    if (!selection->has_field && ome->field_count != 1) {
        struct name_list names = {.at = 0};
        for (uint32_t i = 0; i < ome->field_count; i++)
            name_add(&names, ome->fields[i].path);
        return leads_nowhere(error, "a well of several fields", &names, "pick one with field=0, field=1, ...");
    }
    uint32_t field = selection->has_field ? selection->field : 0;
    if (field >= ome->field_count)
        return dmc_error_set(error, DAMACY_INVAL, "metadata", "field=%u: the well has %u fields, which count from 0", field,
                             ome->field_count);
    selection->has_field = false;
    selection->field = 0;
    return take_path(ome->fields[field].path, path, error);
}

static enum damacy_status step_labels(const struct dmc_ome *ome, struct dmc_selection *selection,
                                      char path[DMC_GROUP_PATH_BYTES], struct damacy_error *error)
{
    struct name_list names = {.at = 0};
    char list[300];
    for (uint32_t i = 0; i < ome->label_count; i++) {
        name_add(&names, ome->labels[i]);
        if (strcmp(ome->labels[i], selection->label) != 0)
            continue;
        selection->label[0] = 0;
        return take_path(ome->labels[i], path, error);
    }
    if (!selection->label[0])
        return leads_nowhere(error, "the group of an image's labels", &names, "pick one with IMAGE#label=NAME");
    name_end(&names, list);
    return dmc_error_set(error, DAMACY_INVAL, "metadata", "label=%s: the image has no such labels%s", selection->label, list);
}

enum damacy_status dmc_group_step_ome(const struct dmc_ome *ome, struct dmc_selection *selection,
                                      char path[DMC_GROUP_PATH_BYTES], struct damacy_error *error)
{
    struct name_list none = {.at = 0};
    if (ome && ome->is_plate)
        return step_plate(ome, selection, path, error);
    if (selection->well[0])
        return dmc_error_set(error, DAMACY_INVAL, "metadata", "well= picks out of a plate, and this is none");
    if (ome && ome->is_well)
        return step_well(ome, selection, path, error);
    if (selection->has_field)
        return dmc_error_set(error, DAMACY_INVAL, "metadata", "field= picks out of a well, and this is none");
    if (ome && ome->is_labels)
        return step_labels(ome, selection, path, error);
    if (selection->label[0])
        return take_path("labels", path, error);
    if (ome && ome->multiscale_count > 0) {
        uint32_t level;
        enum damacy_status status = dmc_ome_level_select(&ome->multiscales[0], selection, &level, error);
        if (status)
            return status;
        selection->has_level = false;
        selection->level = selection->scale_count = 0;
        return take_path(ome->multiscales[0].levels[level].path, path, error);
    }
    if (ome && ome->is_series)
        return leads_nowhere(error, "a collection of images", &none, "name one of them, for instance URI/0");
    return leads_nowhere(error, "a group", &none, "name an array in it");
}

static bool note_array(void *user, const struct dmc_consolidated_entry *entry)
{
    struct name_list *names = user;
    if (entry->kind == DMC_METADATA_ARRAY || entry->kind == DMC_METADATA_V2_ARRAY)
        name_add(names, entry->path);
    return names->count <= NAMES_MAX;
}

enum damacy_status dmc_group_step(const char *text, size_t bytes, struct dmc_selection *selection,
                                  char path[DMC_GROUP_PATH_BYTES], struct damacy_error *error)
{
    struct dmc_ome *ome = NULL;
    enum damacy_status status = text ? dmc_ome_parse(text, bytes, &ome, error) : DAMACY_NOTFOUND;
    if (status && status != DAMACY_NOTFOUND)
        return status;
    status = dmc_group_step_ome(ome, selection, path, error);
    if (!ome && status == DAMACY_NOTFOUND && text) {
        struct name_list names = {.at = 0};
        dmc_consolidated_each(text, bytes, note_array, &names, NULL);
        if (names.at)
            leads_nowhere(error, "a group", &names, "name an array in it");
    }
    dmc_ome_free(ome);
    return status;
}
