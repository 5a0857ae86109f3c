/* Which loops this machine runs, and the fill. */
#include "backend/kernels/scatter.h"
#include "backend/kernels/scatter_table.h"
#include "base/log.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <emmintrin.h>
#endif

static bool runs_always(void)
{
    return true;
}

#if defined(__x86_64__)
/* __builtin_cpu_supports also asks whether the system saves the wide registers, but not every compiler lets it name F16C. */
static bool runs_avx2(void)
{
    unsigned int a, b, c, d;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
    return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
}

static bool runs_avx512(void)
{
    return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

struct simd_set {
    const char *name;
    const dmc_scatter_table *table;
    bool (*runs)(void);
};

/* Best last. */
static const struct simd_set simd_sets[] = {
    {"plain", &dmc_scatter_plain, runs_always},
#if defined(__x86_64__)
    {"avx2", &dmc_scatter_avx2, runs_avx2},
    {"avx512", &dmc_scatter_avx512, runs_avx512},
#endif
};
enum { SIMD_SET_COUNT = sizeof simd_sets / sizeof simd_sets[0] };

#if defined(__x86_64__)
/* For large targets, wherever one of the wider sets runs. */
static const struct simd_set streamed_set = {"streamed", &dmc_scatter_streamed, runs_avx2};
#endif

static const struct simd_set *set_by_name(const char *name)
{
#if defined(__x86_64__)
    if (strcmp(name, streamed_set.name) == 0)
        return streamed_set.runs() ? &streamed_set : NULL;
#endif
    for (size_t i = 0; i < SIMD_SET_COUNT; i++)
        if (strcmp(simd_sets[i].name, name) == 0)
            return simd_sets[i].runs() ? &simd_sets[i] : NULL;
    return NULL;
}

static const struct simd_set *choose_set(void)
{
    const char *forced = getenv("DAMACY_SIMD");
    if (forced && *forced) {
        const struct simd_set *set = set_by_name(forced);
        if (set)
            return set;
        dmc_log(DMC_BACKEND, DAMACY_LOG_WARN, "DAMACY_SIMD=%s is unknown or not for this machine; choosing by myself", forced);
    }
    size_t best = SIMD_SET_COUNT - 1;
    while (!simd_sets[best].runs())
        best--;
    return &simd_sets[best];
}

/* The choice is made once; threads that race for it find the same. */
static const struct simd_set *current_set(void)
{
    static _Atomic(const struct simd_set *) chosen;
    const struct simd_set *set = atomic_load_explicit(&chosen, memory_order_relaxed); /* points to constants: no order needed */
    if (!set) {
        set = choose_set();
        atomic_store_explicit(&chosen, set, memory_order_relaxed);
    }
    return set;
}

static dmc_scatter_rows lookup(const struct simd_set *set, enum damacy_dtype source, bool swap, enum damacy_dtype output)
{
    if ((unsigned)source >= DAMACY_DTYPE_COUNT || (unsigned)output >= DAMACY_DTYPE_COUNT)
        return NULL;
    return (*set->table)[swap][source][output];
}

dmc_scatter_rows dmc_scatter_select_streamed(enum damacy_dtype source, bool swap, enum damacy_dtype output)
{
#if defined(__x86_64__)
    if (current_set() != &simd_sets[0])
        return lookup(&streamed_set, source, swap, output);
#endif
    return dmc_scatter_select(source, swap, output);
}

void dmc_scatter_streamed_end(void)
{
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

const char *dmc_scatter_simd(void)
{
    return current_set()->name;
}

dmc_scatter_rows dmc_scatter_select(enum damacy_dtype source, bool swap, enum damacy_dtype output)
{
    return lookup(current_set(), source, swap, output);
}

dmc_scatter_rows dmc_scatter_select_simd(const char *simd, enum damacy_dtype source, bool swap, enum damacy_dtype output)
{
    const struct simd_set *set = set_by_name(simd);
    return set ? lookup(set, source, swap, output) : NULL;
}

/* --- fill --- */

/* Two elements in turn, the same one twice where there is but one. */
#define FILL_ROW(type)                                                                                                         \
    do {                                                                                                                       \
        typedef type item __attribute__((aligned(1), may_alias));                                                              \
        const type even = (type)bits[0], odd = (type)bits[1];                                                                  \
        item *items = (item *)target;                                                                                          \
        uint64_t i = 0;                                                                                                        \
        for (; i + 1 < columns; i += 2) {                                                                                      \
            items[i] = even;                                                                                                   \
            items[i + 1] = odd;                                                                                                \
        }                                                                                                                      \
        if (i < columns)                                                                                                       \
            items[i] = even;                                                                                                   \
    } while (0)

static void fill_row(char *target, uint64_t columns, size_t item_bytes, const uint64_t bits[2])
{
    switch (item_bytes) {
    case 1:
        FILL_ROW(uint8_t);
        break;
    case 2:
        FILL_ROW(uint16_t);
        break;
    case 4:
        FILL_ROW(uint32_t);
        break;
    default:
        FILL_ROW(uint64_t);
        break;
    }
}

void dmc_scatter_fill_bits(enum damacy_dtype output, struct dmc_scatter_element element, uint64_t bits[2])
{
    dmc_scatter_rows convert = dmc_scatter_select(element.dtype, false, output);
    assert(convert && element.count <= 2 && element.first < element.count);
    int64_t source_bytes = (int64_t)damacy_dtype_bytes(element.dtype);
    for (uint32_t i = 0; i < element.count; i++) {
        const uint8_t *source = (const uint8_t *)element.elements + (element.first + i) % element.count * source_bytes;
        bits[i] = 0;
        convert(&bits[i], 0, source, 0, source_bytes, 1, 1); /* little-endian: the low bytes */
    }
    if (element.count == 1)
        bits[1] = bits[0];
}

void dmc_scatter_fill(void *target, int64_t target_row, uint64_t rows, uint64_t columns, enum damacy_dtype output,
                      struct dmc_scatter_element element)
{
    size_t item_bytes = damacy_dtype_bytes(output);
    uint64_t bits[2];
    dmc_scatter_fill_bits(output, element, bits);
    bool same = bits[0] == bits[1]; /* all bytes alike, zero above all: memset, which writes much around the cache */
    for (size_t i = 1; i < item_bytes; i++)
        same = same && (uint8_t)(bits[0] >> 8 * i) == (uint8_t)bits[0];
    if (target_row == (int64_t)(columns * item_bytes) && (bits[0] == bits[1] || columns % 2 == 0)) {
        columns *= rows;
        rows = rows != 0;
    }
    for (uint64_t row = 0; row < rows; row++) {
        char *begin = (char *)target + (int64_t)row * target_row;
        if (same)
            memset(begin, (uint8_t)bits[0], columns * item_bytes);
        else
            fill_row(begin, columns, item_bytes, bits);
    }
}
