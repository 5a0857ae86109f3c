/* What this build knows about codecs, as data: for messages, for docs/formats.md, and for looking names up. */
#ifndef DMC_CODEC_TABLES_H
#define DMC_CODEC_TABLES_H

#include <stdint.h>

enum dmc_codec_state {
    DMC_CODEC_READ,    /* it is decoded */
    DMC_CODEC_LACKING, /* it would be, but this build was made without the library */
    DMC_CODEC_REFUSED, /* known, and not read, but a codec of a user's can be registered for it */
    DMC_CODEC_NEVER,   /* the same, and no codec could: what it makes are no chunks of numbers */
};

struct dmc_codec_ops;

#define DMC_CODEC_ALIASES_MAX 4

struct dmc_codec_info {
    const char *name;                           /* as in v3 metadata; v2's {"id": X} is numcodecs.X */
    const char *aliases[DMC_CODEC_ALIASES_MAX]; /* other names of the same; NULL where there are fewer */
    const char *kind;                           /* "array -> array", "array -> bytes", "bytes -> bytes", or several */
    const char *library;                        /* that decodes it, "damacy" where that is us */
    enum dmc_codec_state state;
    const char *note;                /* what is special, or why it is refused */
    const struct dmc_codec_ops *ops; /* NULL: not READ. Private to src/codec */
    uint32_t kinds;                  /* private */
};

/* The index-th codec, those that are read first; NULL behind the last. Static storage. */
const struct dmc_codec_info *dmc_codec_info_at(uint32_t index);
/* By any of its names; NULL: not known at all. */
const struct dmc_codec_info *dmc_codec_info_find(const char *name);

#endif
