/* The element work: take rows of a decoded chunk, convert each element to the output type, write them into the batch.
 *
 * Conversions are defined to the bit (docs/conversions.md): to a float one rounding to nearest even from the exact source
 * value, infinities kept, overflow to infinity, a NaN becomes the quiet NaN of its sign (sign kept, exponent all ones, top
 * mantissa bit set, rest zero); subnormals are kept, never flushed. To an integer or bool only from types whose every value
 * fits. Same type: bits are copied. A bool source that is any non-zero byte is true and becomes 1, except in bool to bool,
 * which copies bits.
 *
 * convert_element.h holds the element functions as DMC_KERNEL (C and CUDA). scatter_plain.c is the reference; scatter_avx2.c
 * and scatter_avx512.c are the same loops compiled for those machines, with intrinsics where compilers fall short;
 * scatter_stream_*.c are those that write around the cache; scatter.c picks at run time. All agree bit for bit. */
#ifndef DMC_SCATTER_H
#define DMC_SCATTER_H

#include "damacy/damacy.h"

/* Copy `rows` rows of `columns` elements.
 *
 * target, source        first elements; any alignment.
 * target_row, source_row  bytes from one row to the next; may be negative for the source.
 * source_step           bytes from one source element to the next (the item size when contiguous).
 * The target's elements are contiguous. Ranges do not overlap. */
typedef void (*dmc_scatter_rows)(void *target, int64_t target_row, const void *source, int64_t source_row, int64_t source_step,
                                 uint64_t rows, uint64_t columns);

/* The function for a pair of types; NULL where dmc_dtype_converts() is false. `swap`: source elements are in the other byte
 * order. Cheap; call it once a field and array, not once a piece. `output` must not be NATIVE. */
dmc_scatter_rows dmc_scatter_select(enum damacy_dtype source, bool swap, enum damacy_dtype output);

/* The same for targets that are larger than the caches: the loops write around the cache where this machine has such stores. A
 * plain store first fetches the line that it overwrites, which is a third of the memory traffic of a
 * conversion. Before another thread is told of the result, dmc_scatter_streamed_end() must be called. */
dmc_scatter_rows dmc_scatter_select_streamed(enum damacy_dtype source, bool swap, enum damacy_dtype output);
void dmc_scatter_streamed_end(void);

/* "plain", "avx2" or "avx512": which set this machine uses. The environment's DAMACY_SIMD forces one (tests, benchmarks). */
const char *dmc_scatter_simd(void);

/* For tests and benchmarks: the function of a given set, also "avx2-streamed" and "avx512-streamed"; NULL if this machine
 * cannot run it. */
dmc_scatter_rows dmc_scatter_select_simd(const char *simd, enum damacy_dtype source, bool swap, enum damacy_dtype output);

/* What a fill repeats along a row: one element, or two in turn (the parts of complex numbers, whose axis of two is a row's
 * last). */
struct dmc_scatter_element {
    enum damacy_dtype dtype; /* of the elements, in this machine's byte order */
    uint32_t count;          /* 1 or 2 */
    uint32_t first;          /* which of them rows begin with */
    const void *elements;
};

/* Convert the elements and fill `rows` rows of `columns` elements with them. */
void dmc_scatter_fill(void *target, int64_t target_row, uint64_t rows, uint64_t columns, enum damacy_dtype output,
                      struct dmc_scatter_element element);

/* The same elements as bits in the output type, in the order of a row, for whoever writes them in another way; where there is
 * one, both are it. */
void dmc_scatter_fill_bits(enum damacy_dtype output, struct dmc_scatter_element element, uint64_t bits[2]);

#endif
