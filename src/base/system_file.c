/* See system_file.h. */
#include "base/system_file.h"

#include <stdio.h>

#define PATH_BYTES 8192 /* a folder of 4096 bytes and as much below it */

bool dmc_system_line(const char *folder, const char *name, char *line, size_t capacity)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool found = fgets(line, (int)capacity, file) != NULL;
    fclose(file);
    return found;
}
