/* Where a uri leads when it names a group: to an image's level, a well's field, a label image, ... one step at a time.
 *
 *     plate --well=--> well --field=--> image --label=--> label image --level= or scale=--> array
 *
 * Pure: the text of a group's metadata in, the path of the next node out. Wells and labels usually have their path in their
 * name, so those steps can be taken without any metadata; what is not found that way is looked for again with them. */
#ifndef DMC_ZARR_GROUP_SELECT_H
#define DMC_ZARR_GROUP_SELECT_H

#include "base/selection.h"
#include "zarr/ome.h"

/* Bytes of a path in a group, with its zero. */
#define DMC_GROUP_PATH_BYTES 1024

/* More steps than any uri needs: a loop. */
#define DMC_GROUP_STEPS_MAX 8

/* The step that needs no metadata, if there is one: writes `path`, takes its part out of the selection and returns true. To be
 * asked at the start and after every step. */
bool dmc_group_step_known(struct dmc_selection *selection, char path[DMC_GROUP_PATH_BYTES]);

/* The step from a group.
 *
 * text       its zarr.json, or its .zattrs; NULL: it has no attributes.
 * selection  in, out: what is left of the uri's fragment. What this step uses is taken out of it.
 * path       out: where to go on, relative to the group: parts between slashes, none of them "", "." or "..".
 * Returns OK; NOTFOUND: there is no array to lead to, the message says what there is and what a uri may name; INVAL: the
 * selection does not fit what is there; DECODE, UNSUPPORTED: the metadata of the image, plate or well are wrong; OOM. */
enum damacy_status dmc_group_step(const char *text, size_t bytes, struct dmc_selection *selection,
                                  char path[DMC_GROUP_PATH_BYTES], struct damacy_error *error);
/* The same where the metadata are parsed already; `ome` NULL: they say nothing of OME-Zarr. */
enum damacy_status dmc_group_step_ome(const struct dmc_ome *ome, struct dmc_selection *selection,
                                      char path[DMC_GROUP_PATH_BYTES], struct damacy_error *error);

/* An array was reached: INVAL if something is left that only a group could mean. */
enum damacy_status dmc_group_arrived(const struct dmc_selection *selection, struct damacy_error *error);

#endif
