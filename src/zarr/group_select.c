#include "zarr/group_select.h"

#include "base/error.h"
#include "zarr/zarr_parse.h"

#include <stdio.h>
#include <string.h>

bool dmc_group_path(const char *from, char path[DMC_GROUP_PATH_BYTES])
{
    size_t at = 0;
    while (*from) {
        size_t bytes = strcspn(from, "/");
        bool nothing = bytes == 0 || (bytes == 1 && from[0] == '.');
        if (bytes == 2 && from[0] == '.' && from[1] == '.')
            return false;
        if (!nothing) {
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
    if (selection->well[0] && dmc_group_path(selection->well, path)) {
        selection->well[0] = 0;
        return true;
    }
    char label[DMC_SELECTION_TEXT_BYTES + 8];
    snprintf(label, sizeof label, "labels/%s", selection->label);
    if (!selection->label[0] || selection->well[0] || selection->has_field || !dmc_group_path(label, path))
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

enum damacy_status dmc_group_step(dmc_json *root, bool zattrs, struct dmc_selection *selection, char path[DMC_GROUP_PATH_BYTES],
                                  struct damacy_error *error)
{
    (void)root;
    (void)zattrs;
    (void)selection;
    (void)path;
    return dmc_error_set(error, DAMACY_NOTFOUND, "metadata", "is a group");
}
