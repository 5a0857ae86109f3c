#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool cli_read_u64(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno)
        return false;
    *out = value;
    return true;
}

bool cli_read_seconds(const char *text, uint64_t *ns)
{
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end || !(seconds > 1e-9 && seconds < 3.2e9))
        return false;
    *ns = (uint64_t)(seconds * 1e9);
    return true;
}

const char *cli_bytes(double bytes, char text[32])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    int unit = 0;
    while (bytes >= 999.5 && unit < 6) {
        bytes /= 1000;
        unit++;
    }
    snprintf(text, 32, unit == 0 || bytes >= 99.95 ? "%.0f %s" : bytes >= 9.995 ? "%.1f %s" : "%.2f %s", bytes, units[unit]);
    return text;
}

const char *cli_shape(const uint64_t *shape, uint32_t rank, char *text, size_t capacity)
{
    size_t at = 0;
    snprintf(text, capacity, "-");
    for (uint32_t axis = 0; shape && axis < rank && at < capacity; axis++)
        at += (size_t)snprintf(text + at, capacity - at, axis ? " x %llu" : "%llu", (unsigned long long)shape[axis]);
    return text;
}

void cli_json_text(FILE *out, const char *text)
{
    putc('"', out);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < 0x20)
            fprintf(out, "\\u%04x", c);
        else
            putc(c, out);
    }
    putc('"', out);
}
