/* What the system tells in small files: one line each, below /sys, /proc and the like. */
#ifndef DMC_BASE_SYSTEM_FILE_H
#define DMC_BASE_SYSTEM_FILE_H

#include <stdbool.h>
#include <stddef.h>

/* The first line of FOLDER/NAME, zero-terminated and cut at `capacity`. false: there is none that can be read. */
bool dmc_system_line(const char *folder, const char *name, char *line, size_t capacity);

#endif
