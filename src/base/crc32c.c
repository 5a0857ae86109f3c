#include "base/crc32c.h"

#include <isa-l/crc.h>

uint32_t dmc_crc32c(const void *data, size_t bytes)
{
    /* isa-l takes the length as an int, does not invert, and promises not to write. */
    const size_t step = (size_t)1 << 30;
    unsigned char *at = (unsigned char *)(uintptr_t)data;
    uint32_t crc = 0xffffffffu;
    while (bytes > 0) {
        size_t now = bytes < step ? bytes : step;
        crc = crc32_iscsi(at, (int)now, crc);
        at += now;
        bytes -= now;
    }
    return ~crc;
}
