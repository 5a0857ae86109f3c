/* What the fragment of a uri picks out of what the uri names:
 *
 *     PATH#level=2&label=nuclei          a level of an image pyramid, of one of its label images
 *     PATH#scale=0.5   #scale=2,0.5,0.5  the coarsest level that is still at least that fine
 *     PATH#well=B/03&field=0             a field of a plate's well
 *     PATH#member=x                      one member of a structured dtype
 *
 * Only a fragment whose every part is `key=value` with a known key is one. Any other '#' belongs to the path: files may have
 * one in their names. Values may contain %XX, the byte of that number, for what would otherwise end them ('&', '#', '%'). */
#ifndef DMC_BASE_SELECTION_H
#define DMC_BASE_SELECTION_H

#include "damacy/damacy.h"

/* Bytes of a value with its zero; longer ones are INVAL. */
#define DMC_SELECTION_TEXT_BYTES 128

/* Levels and fields count from 0 to here. */
#define DMC_SELECTION_INDEX_MAX 65535

#define DMC_SELECTION_SCALES_MAX 8

/* Zeroed: nothing is picked. Texts that were not given are empty. No pointers inside: copy it freely. */
struct dmc_selection {
    bool has_level;
    bool has_field;
    uint32_t level;
    uint32_t field;
    uint32_t scale_count;                   /* 0: none; 1: for every spatial axis; else one for each, in their order */
    double scale[DMC_SELECTION_SCALES_MAX]; /* above 0, finite; in the units of the image's own axes */
    char member[DMC_SELECTION_TEXT_BYTES];
    char label[DMC_SELECTION_TEXT_BYTES];
    char well[DMC_SELECTION_TEXT_BYTES]; /* "B/03" */
};

/* Take a uri apart.
 *
 * selection  out: zeroed where there is no fragment.
 * uri_bytes  out: length of the uri before the fragment.
 * Returns OK, or INVAL: a known key with a value that is none of its kind, twice the same key, level with scale. */
enum damacy_status dmc_selection_parse(const char *uri, struct dmc_selection *selection, size_t *uri_bytes,
                                       struct damacy_error *error);

/* Does it pick among arrays (level, scale, label, well, field), so that the uri names a group? */
bool dmc_selection_needs_group(const struct dmc_selection *selection);

/* For the hint of an error that says that nothing is at a uri: where the uri may not mean what its writer thinks, a text that
 * begins with "; " and says so; else "". */
const char *dmc_selection_doubt(const char *uri);

/* The hint of an error that says that nothing is where a uri's fragment led; `selection` is what was left of it. */
const char *dmc_selection_astray(const struct dmc_selection *selection);

#endif
