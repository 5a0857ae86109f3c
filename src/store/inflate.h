/* Raw deflate streams and their CRC-32, as zip files have them. */
#ifndef DMC_INFLATE_H
#define DMC_INFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dmc_inflater; /* one thread at a time */

/* What the library takes for one, about. */
#define DMC_INFLATER_BYTES (16u << 10)

struct dmc_inflater *dmc_inflater_create(void); /* NULL: no memory */
void dmc_inflater_destroy(struct dmc_inflater *inflater);

/* false: the stream is corrupt, does not end where it should, or does not give exactly `target_bytes`. */
bool dmc_inflate(struct dmc_inflater *inflater, const void *source, size_t source_bytes, void *target, size_t target_bytes);

uint32_t dmc_crc32(const void *data, size_t bytes);

#endif
