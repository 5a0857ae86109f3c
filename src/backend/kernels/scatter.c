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
    const char *streamed_name;
    const dmc_scatter_table *streamed; /* around the cache */
    bool (*runs)(void);
};

/* Best last. */
static const struct simd_set simd_sets[] = {
    {"plain", &dmc_scatter_plain, "", &dmc_scatter_plain, runs_always},
#if defined(__x86_64__)
    {"avx2", &dmc_scatter_avx2, "avx2-streamed", &dmc_scatter_stream_avx2, runs_avx2},
    {"avx512", &dmc_scatter_avx512, "avx512-streamed", &dmc_scatter_stream_avx512, runs_avx512},
#endif
};
enum { SIMD_SET_COUNT = sizeof simd_sets / sizeof simd_sets[0] };

static const struct simd_set *choose_set(void)
{
    const char *forced = getenv("DAMACY_SIMD");
    if (forced && *forced) {
        for (size_t i = 0; i < SIMD_SET_COUNT; i++)
            if (strcmp(simd_sets[i].name, forced) == 0 && simd_sets[i].runs())
                return &simd_sets[i];
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

static dmc_scatter_rows lookup(const dmc_scatter_table *table, enum damacy_dtype source, bool swap, enum damacy_dtype output)
{
    if ((unsigned)source >= DAMACY_DTYPE_COUNT || (unsigned)output >= DAMACY_DTYPE_COUNT)
        return NULL;
    return (*table)[swap][source][output];
}

dmc_scatter_rows dmc_scatter_select_streamed(enum damacy_dtype source, bool swap, enum damacy_dtype output)
{
    return lookup(current_set()->streamed, source, swap, output);
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
    return lookup(current_set()->table, source, swap, output);
}

dmc_scatter_rows dmc_scatter_select_simd(const char *simd, enum damacy_dtype source, bool swap, enum damacy_dtype output)
{
    for (size_t i = 0; i < SIMD_SET_COUNT; i++) {
        const struct simd_set *set = &simd_sets[i];
        if ((strcmp(set->name, simd) == 0 || strcmp(set->streamed_name, simd) == 0) && set->runs())
            return lookup(strcmp(set->name, simd) == 0 ? set->table : set->streamed, source, swap, output);
    }
    return NULL;
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
