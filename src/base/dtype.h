/* Facts about element types that every room shares. The enum is public (enum damacy_dtype). */
#ifndef DMC_BASE_DTYPE_H
#define DMC_BASE_DTYPE_H

#include "damacy/damacy.h"

/* May values of `source` become `output`? Always to a float; to an integer or bool only where every value of the source type
 * fits; to itself always. NATIVE as output: yes. Sources are never NATIVE. */
bool dmc_dtype_converts(enum damacy_dtype source, enum damacy_dtype output);

bool dmc_dtype_is_float(enum damacy_dtype dtype);

#endif
