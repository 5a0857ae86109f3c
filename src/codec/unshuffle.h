/* Undoing blosc's two filters. A block of elements comes as one plane per byte of the element, each of its own address (streams
 * that were stored uncompressed are read where they lie), and leaves as elements.
 *
 * Byte shuffle: planes[b][i] is byte b of element i.
 * Bitshuffle: planes[b] is 8 rows of elements / 8 bytes; bit i % 8 of byte i / 8 of row k is bit k of byte b of element i.
 *
 * The plain loops are the reference; bench_codec shows what the others gain. */
#ifndef DMC_UNSHUFFLE_H
#define DMC_UNSHUFFLE_H

#include <stddef.h>
#include <stdint.h>

#define DMC_UNSHUFFLE_TYPESIZE_MAX 255

struct dmc_unshuffle_ops {
    /* Elements [begin, end) to target + begin * typesize and on. Nothing else is written, and of each plane only those read. */
    void (*bytes)(const uint8_t *const *planes, size_t typesize, size_t begin, size_t end, uint8_t *target);
    /* The same with begin, end and elements (of the whole block) multiples of 8. */
    void (*bits)(const uint8_t *const *planes, size_t typesize, size_t elements, size_t begin, size_t end, uint8_t *target);
};

extern const struct dmc_unshuffle_ops dmc_unshuffle_plain;

/* The fastest that this machine runs. */
const struct dmc_unshuffle_ops *dmc_unshuffle_best(void);

#endif
