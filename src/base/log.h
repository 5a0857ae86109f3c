/* Log lines on stderr, one write each: "damacy WARN store: message". The room names are those of src/.
 * Levels and quiet are set through the public damacy_set_log_level() and damacy_set_log_quiet(), and the environment's
 * DAMACY_LOG=room,room ("all" for every one) raises rooms to DEBUG; a word that is none is warned of. A line that is not wanted
 * costs one load and a branch. */
#ifndef DMC_BASE_LOG_H
#define DMC_BASE_LOG_H

#include "damacy/damacy.h"

enum dmc_room { DMC_BASE, DMC_ZARR, DMC_CODEC, DMC_STORE, DMC_PLAN, DMC_PREFETCH, DMC_BACKEND, DMC_PIPELINE, DMC_ROOM_COUNT };

bool dmc_log_wanted(enum dmc_room room, enum damacy_log_level level);
void dmc_log_write(enum dmc_room room, enum damacy_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define dmc_log(room, level, ...)                                                                                              \
    do {                                                                                                                       \
        if (dmc_log_wanted((room), (level)))                                                                                   \
            dmc_log_write((room), (level), __VA_ARGS__);                                                                       \
    } while (0)

#endif
