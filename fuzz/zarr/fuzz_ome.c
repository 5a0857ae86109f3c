/* Any bytes as OME-Zarr metadata, and as a well's name: an error with a message, or lists that hold together. */
#include <stdlib.h>
#include <string.h>

#include "zarr/consolidated.h"
#include "zarr/ome.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(bool truth)
{
    if (!truth)
        abort();
}

static void check_path(const char *path)
{
    require(dmc_path_is_inside(path, strlen(path)));
}

static void check_multiscale(const struct dmc_ome_multiscale *image)
{
    require(image->name && image->axis_count <= DAMACY_RANK_MAX && image->level_count >= 1 &&
            image->level_count <= DMC_OME_LEVELS_MAX);
    for (uint32_t i = 0; i < image->axis_count; i++)
        require(image->axes[i].name && image->axes[i].type && image->axes[i].unit);
    for (uint32_t i = 0; i < image->level_count; i++) {
        check_path(image->levels[i].path);
        for (uint32_t axis = 0; image->levels[i].scale && axis < image->axis_count; axis++)
            (void)(image->levels[i].scale[axis] + image->levels[i].translation[axis]);
    }
    struct dmc_selection selection = {.scale_count = 1, .scale = {1}};
    uint32_t level = UINT32_MAX;
    struct damacy_error error;
    enum damacy_status status = dmc_ome_level_select(image, &selection, &level, &error);
    require(status == DAMACY_OK ? level < image->level_count : status == DAMACY_INVAL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct dmc_ome *ome = NULL;
    struct damacy_error error = {0};
    enum damacy_status status = dmc_ome_parse((const char *)data, bytes, &ome, &error);
    if (status != DAMACY_OK) {
        require(status == DAMACY_DECODE || status == DAMACY_UNSUPPORTED || status == DAMACY_NOTFOUND);
        require(error.status == status && error.message[0] && !ome);
        return 0;
    }
    for (uint32_t i = 0; i < ome->multiscale_count; i++)
        check_multiscale(&ome->multiscales[i]);
    for (uint32_t i = 0; i < ome->label_count; i++)
        check_path(ome->labels[i]);
    for (uint32_t i = 0; i < ome->well_count; i++) {
        uint32_t index;
        check_path(ome->wells[i].path);
        require(i > 100 || dmc_ome_well_find(ome, ome->wells[i].path, &index, &error) == DAMACY_OK);
    }
    for (uint32_t i = 0; i < ome->field_count; i++)
        check_path(ome->fields[i].path);
    dmc_ome_free(ome);
    return 0;
}
