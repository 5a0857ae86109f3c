#include "base/dtype.h"

enum kind { NATIVE, BOOLEAN, SIGNED, UNSIGNED, FLOATING };

static const struct {
    const char *name;
    enum kind kind;
    size_t bytes;
} facts[DAMACY_DTYPE_COUNT] = {
    [DAMACY_NATIVE] = {"native", NATIVE, 0}, [DAMACY_BOOL] = {"bool", BOOLEAN, 1}, [DAMACY_I8] = {"i8", SIGNED, 1},
    [DAMACY_I16] = {"i16", SIGNED, 2},       [DAMACY_I32] = {"i32", SIGNED, 4},    [DAMACY_I64] = {"i64", SIGNED, 8},
    [DAMACY_U8] = {"u8", UNSIGNED, 1},       [DAMACY_U16] = {"u16", UNSIGNED, 2},  [DAMACY_U32] = {"u32", UNSIGNED, 4},
    [DAMACY_U64] = {"u64", UNSIGNED, 8},     [DAMACY_F16] = {"f16", FLOATING, 2},  [DAMACY_BF16] = {"bf16", FLOATING, 2},
    [DAMACY_F32] = {"f32", FLOATING, 4},     [DAMACY_F64] = {"f64", FLOATING, 8},
};

static bool known(enum damacy_dtype dtype)
{
    return (size_t)dtype < DAMACY_DTYPE_COUNT;
}

const char *damacy_dtype_str(enum damacy_dtype dtype)
{
    return known(dtype) ? facts[dtype].name : "?";
}

size_t damacy_dtype_bytes(enum damacy_dtype dtype)
{
    return known(dtype) ? facts[dtype].bytes : 0;
}

bool dmc_dtype_is_float(enum damacy_dtype dtype)
{
    return known(dtype) && facts[dtype].kind == FLOATING;
}

bool dmc_dtype_converts(enum damacy_dtype source, enum damacy_dtype output)
{
    if (!known(source) || !known(output) || source == DAMACY_NATIVE)
        return false;
    if (output == DAMACY_NATIVE || source == output)
        return true;
    enum kind from = facts[source].kind, to = facts[output].kind;
    if (to == FLOATING)
        return true;
    if (from == FLOATING || to == BOOLEAN)
        return false;
    if (from == BOOLEAN)
        return true;
    if (from == to)
        return facts[source].bytes <= facts[output].bytes;
    return from == UNSIGNED && facts[source].bytes < facts[output].bytes; /* the sign takes a bit */
}
