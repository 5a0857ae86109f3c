/* CRC-32C (Castagnoli, reflected, RFC 3720), by isa-l. "123456789" gives 0xe3069283. */
#ifndef DMC_BASE_CRC32C_H
#define DMC_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t dmc_crc32c(const void *data, size_t bytes);

#endif
