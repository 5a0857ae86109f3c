/* OME-Zarr (NGFF) metadata: image pyramids, label images, plates, wells.
 *
 *     0.1 to 0.4   the members "multiscales", "labels", "image-label", "plate", "well" among the attributes of a group
 * (.zattrs) 0.5, 0.6     the same inside of attributes.ome (zarr.json); 0.6 has coordinateSystems where there were axes
 *
 * Scale and translation of a level are those of the image's own (intrinsic) coordinate system: what a dataset's transformations
 * say, in 0.4 and 0.5 followed by those of the whole multiscale. Kinds of transformations that are not identity, scale,
 * translation or a sequence of them (affine, ...) make a level unscaled; its path is still good.
 *
 * Source: https://ngff.openmicroscopy.org. Pure: text in, struct out. */
#ifndef DMC_ZARR_OME_H
#define DMC_ZARR_OME_H

#include "base/selection.h"
#include "damacy/damacy.h"

/* More of any of these is UNSUPPORTED. */
#define DMC_OME_MULTISCALES_MAX 64
#define DMC_OME_LEVELS_MAX 64
#define DMC_OME_LABELS_MAX 4096
#define DMC_OME_WELLS_MAX 65536
#define DMC_OME_FIELDS_MAX 65536

struct dmc_ome_axis {
    const char *name; /* "z"; "" where the metadata give none */
    const char *type; /* "space", "time", "channel", ...; guessed from the name where a version before 0.4 has none; else "" */
    const char *unit; /* "micrometer"; "" */
};

struct dmc_ome_level {
    const char *path;          /* of the array, below the group */
    const double *scale;       /* axis_count; NULL: none that is a scale per axis */
    const double *translation; /* axis_count; NULL as scale */
};

struct dmc_ome_multiscale {
    const char *name;    /* "" */
    uint32_t axis_count; /* 0: the metadata do not say */
    const struct dmc_ome_axis *axes;
    uint32_t level_count; /* at least 1; finest first, as listed */
    const struct dmc_ome_level *levels;
};

struct dmc_ome_well {
    const char *path; /* "B/03" */
    const char *row, *column;
};

struct dmc_ome_field {
    const char *path;
    int64_t acquisition; /* -1: not told */
};

/* What a group's attributes say; lists that they do not have are empty. */
struct dmc_ome {
    const char *version; /* "0.4"; "" where none is written */
    uint32_t multiscale_count;
    const struct dmc_ome_multiscale *multiscales;
    bool is_label; /* image-label: the values are labels */
    bool is_plate, is_well, is_labels;
    bool is_series; /* bioformats2raw.layout: images are below, "0", "1", ... */
    uint32_t label_count;
    const char *const *labels; /* of the group "labels": paths below it */
    const char *plate_name;    /* "" */
    uint32_t row_count, column_count;
    const char *const *rows, *const *columns;
    uint32_t well_count;
    const struct dmc_ome_well *wells;
    uint32_t field_count; /* of a well; images in the order listed */
    const struct dmc_ome_field *fields;
};

/* Parse the text of a zarr.json, of a .zattrs, or of bare attributes.
 *
 * ome  out: freed with dmc_ome_free(); its texts live as long.
 * Returns OK; NOTFOUND: no OME metadata in it; DECODE: the message names the member; UNSUPPORTED: a limit above; OOM. Paths
 * that lead out of the group are DECODE. */
enum damacy_status dmc_ome_parse(const char *text, size_t bytes, struct dmc_ome **ome, struct damacy_error *error);
void dmc_ome_free(struct dmc_ome *ome);

/* Which level a selection means: `level`, or by `scale` the coarsest that is at least that fine along every axis of type space;
 * the finest where none is; 0 where the selection says neither. Returns OK; INVAL: there is no such level, `scale` has another
 * number of values than there are axes of space, or the levels have no scale. */
enum damacy_status dmc_ome_level_select(const struct dmc_ome_multiscale *multiscale, const struct dmc_selection *selection,
                                        uint32_t *level, struct damacy_error *error);

/* The index of a plate's well by its path, "B/03"; also without the slash, "B03", and with a number without its zeros, "B/3".
 * INVAL: it has none, and the message names some that it has. */
enum damacy_status dmc_ome_well_find(const struct dmc_ome *ome, const char *well, uint32_t *index, struct damacy_error *error);

#endif
