/* Types of stored elements as codecs name them, and loops that load and store elements of any of them, in either byte order.
 *
 * Loops go by blocks: a block becomes doubles, or 64-bit integers (for integers and bool, which doubles cannot all hold), the
 * codec computes with these, and stores them as the other type. Conversions are numpy's: to the bit where C defines them;
 * floats outside the range of an integer become what x86's conversion gives, which is what numpy mostly does there, but no two
 * machines agree on. */
#ifndef DMC_ELEMENT_TYPE_H
#define DMC_ELEMENT_TYPE_H

#include "damacy/damacy.h"

#define DMC_ELEMENT_BLOCK 256

struct dmc_element_type {
    enum damacy_dtype dtype; /* never NATIVE */
    bool swap;               /* stored in the other byte order than this machine's */
};

/* numpy's "<f4", "|u1", "int16", "f8", ...: bool, integers, and floats of 2, 4 and 8 bytes. false: none of these. */
bool dmc_element_type_numpy(const char *text, struct dmc_element_type *type);
/* Zarr v3's "uint8", "float32", "bfloat16", ... */
bool dmc_element_type_v3(const char *name, enum damacy_dtype *dtype);

bool dmc_element_is_integer(enum damacy_dtype dtype); /* bool counts */
bool dmc_element_is_signed(enum damacy_dtype dtype);
/* The type in which numpy adds the two. */
enum damacy_dtype dmc_element_promote(enum damacy_dtype a, enum damacy_dtype b);

/* At most DMC_ELEMENT_BLOCK elements from or to any address. Integers: sign- or zero-extended to 64 bits. */
void dmc_element_load_double(struct dmc_element_type type, const uint8_t *source, size_t count, double *to);
void dmc_element_load_integer(struct dmc_element_type type, const uint8_t *source, size_t count, uint64_t *to);
void dmc_element_store_double(struct dmc_element_type type, const double *from, size_t count, uint8_t *target);
/* `is_signed`: how `from` is to be understood where it becomes a float. */
void dmc_element_store_integer(struct dmc_element_type type, const uint64_t *from, bool is_signed, size_t count,
                               uint8_t *target);

double dmc_half_to_double(uint16_t half);
/* Rounded to nearest, ties to even. */
uint16_t dmc_double_to_half(double value);

#endif
