/* Goal: every pair of element types converts to the bit as docs/conversions.md says, in every SIMD set, for every geometry, and
 * nothing but the rows is written.
 * Method: a reference that shares nothing with the code under test: a source element becomes an exact integer times a power of
 * two, which is rounded by integer comparison with half a unit. Exhaustive for sources of 8 and 16 bits; for wider ones
 * boundaries, ties and random values (DAMACY_TEST_SEED repeats a run). Geometries run between guard bytes; ASan sees reads out
 * of bounds, since sources are allocated to the byte. */
#include "backend/kernels/scatter.h"
#include "base/dtype.h"
#include "support/test_seed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

/* --- the reference --- */

enum kind { NUMBER, INFINITE, NOT_A_NUMBER };

/* (-1)^negative * mantissa * 2^exponent, exactly. */
struct exact {
    enum kind kind;
    bool negative;
    uint64_t mantissa;
    int exponent;
};

struct float_format {
    int exponent_bits;
    int mantissa_bits; /* stored ones */
};

static bool float_format_of(enum damacy_dtype dtype, struct float_format *format)
{
    switch (dtype) {
    case DAMACY_F16:
        *format = (struct float_format){5, 10};
        return true;
    case DAMACY_BF16:
        *format = (struct float_format){8, 7};
        return true;
    case DAMACY_F32:
        *format = (struct float_format){8, 23};
        return true;
    case DAMACY_F64:
        *format = (struct float_format){11, 52};
        return true;
    default:
        return false;
    }
}

static bool is_signed(enum damacy_dtype dtype)
{
    return dtype >= DAMACY_I8 && dtype <= DAMACY_I64;
}

static struct exact decode(enum damacy_dtype dtype, uint64_t bits)
{
    struct float_format format;
    unsigned width = 8 * (unsigned)damacy_dtype_bytes(dtype);
    if (float_format_of(dtype, &format)) {
        int bias = (1 << (format.exponent_bits - 1)) - 1;
        uint64_t fraction = bits & ((UINT64_C(1) << format.mantissa_bits) - 1);
        int exponent = (int)(bits >> format.mantissa_bits) & ((1 << format.exponent_bits) - 1);
        struct exact value = {NUMBER, bits >> (width - 1) & 1, fraction, 1 - bias - format.mantissa_bits};
        if (exponent == (1 << format.exponent_bits) - 1) {
            value.kind = fraction ? NOT_A_NUMBER : INFINITE;
        } else if (exponent > 0) {
            value.mantissa |= UINT64_C(1) << format.mantissa_bits;
            value.exponent = exponent - bias - format.mantissa_bits;
        }
        return value;
    }
    if (dtype == DAMACY_BOOL)
        return (struct exact){NUMBER, false, bits != 0, 0};
    bool negative = is_signed(dtype) && (bits >> (width - 1) & 1);
    uint64_t magnitude = negative ? (width == 64 ? 0 : UINT64_C(1) << width) - bits : bits;
    return (struct exact){NUMBER, negative, magnitude, 0};
}

static int bit_length(uint64_t x)
{
    int length = 0;
    for (; x; x >>= 1)
        length++;
    return length;
}

static uint64_t encode_float(struct float_format format, struct exact value)
{
    int bias = (1 << (format.exponent_bits - 1)) - 1;
    uint64_t sign = (uint64_t)value.negative << (format.exponent_bits + format.mantissa_bits);
    uint64_t infinity = ((UINT64_C(1) << format.exponent_bits) - 1) << format.mantissa_bits;
    if (value.kind == NOT_A_NUMBER)
        return sign | infinity | UINT64_C(1) << (format.mantissa_bits - 1);
    if (value.kind == INFINITE)
        return sign | infinity;
    if (value.mantissa == 0)
        return sign;
    /* The unit in the last place of the result, as a power of two. */
    int unit = value.exponent + bit_length(value.mantissa) - 1 - format.mantissa_bits;
    int unit_min = 1 - bias - format.mantissa_bits;
    if (unit < unit_min)
        unit = unit_min;
    int shift = unit - value.exponent;
    uint64_t count; /* of units, rounded to nearest even */
    if (shift <= 0) {
        count = value.mantissa << -shift;
    } else if (shift > 64) {
        count = 0; /* less than half a unit */
    } else {
        unsigned __int128 rest = value.mantissa & (shift == 64 ? UINT64_MAX : (UINT64_C(1) << shift) - 1);
        unsigned __int128 half = (unsigned __int128)1 << (shift - 1);
        count = shift == 64 ? 0 : value.mantissa >> shift;
        if (rest > half || (rest == half && (count & 1)))
            count++;
    }
    if (count >> (format.mantissa_bits + 1)) { /* rounded up to the next power of two */
        count >>= 1;
        unit++;
    }
    if (!(count >> format.mantissa_bits))
        return sign | count; /* subnormal */
    int exponent = unit + format.mantissa_bits + bias;
    if (exponent >= (1 << format.exponent_bits) - 1)
        return sign | infinity;
    return sign | (uint64_t)exponent << format.mantissa_bits | (count & ((UINT64_C(1) << format.mantissa_bits) - 1));
}

static uint64_t reference(enum damacy_dtype source, uint64_t bits, enum damacy_dtype output)
{
    if (source == output)
        return bits;
    struct exact value = decode(source, bits);
    struct float_format format;
    if (float_format_of(output, &format))
        return encode_float(format, value);
    unsigned width = 8 * (unsigned)damacy_dtype_bytes(output);
    uint64_t integer = value.negative ? 0 - value.mantissa : value.mantissa;
    return width == 64 ? integer : integer & ((UINT64_C(1) << width) - 1);
}

/* --- tools --- */

static const char *const simd_names[] = {"plain", "avx2", "avx512", "avx2-streamed", "avx512-streamed"};
enum { SIMD_COUNT = 5 };

static uint64_t random_state;
static uint64_t random_u64(void) /* splitmix64 */
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}
static uint64_t random_below(uint64_t limit)
{
    return random_u64() % limit;
}

static void put(uint8_t *to, uint64_t bits, size_t bytes, bool swap)
{
    for (size_t i = 0; i < bytes; i++)
        to[swap ? bytes - 1 - i : i] = (uint8_t)(bits >> 8 * i);
}
static uint64_t get(const uint8_t *from, size_t bytes)
{
    uint64_t bits = 0;
    for (size_t i = 0; i < bytes; i++)
        bits |= (uint64_t)from[i] << 8 * i;
    return bits;
}

static void *allocate(size_t bytes)
{
    void *memory = malloc(bytes ? bytes : 1);
    assert_non_null(memory);
    return memory;
}

/* Convert `count` values to every output with every set, in both byte orders, and compare. */
static void check_values(enum damacy_dtype source, const uint64_t *values, size_t count)
{
    size_t in = damacy_dtype_bytes(source);
    uint8_t *input[2];
    for (int swap = 0; swap < 2; swap++) {
        input[swap] = allocate(count * in);
        for (size_t i = 0; i < count; i++)
            put(input[swap] + i * in, values[i], in, swap);
    }
    uint8_t *output = allocate(count * 8);
    uint64_t *expected = allocate(count * sizeof *expected);
    for (int o = DAMACY_BOOL; o < DAMACY_DTYPE_COUNT; o++) {
        enum damacy_dtype to = (enum damacy_dtype)o;
        if (!dmc_dtype_converts(source, to))
            continue;
        size_t out = damacy_dtype_bytes(to);
        for (size_t i = 0; i < count; i++)
            expected[i] = reference(source, values[i], to);
        for (int simd = 0; simd < SIMD_COUNT; simd++)
            for (int swap = 0; swap < 2; swap++) {
                dmc_scatter_rows rows = dmc_scatter_select_simd(simd_names[simd], source, swap, to);
                if (!rows)
                    continue;
                memset(output, 0xa5, count * 8);
                rows(output, 0, input[swap], 0, (int64_t)in, 1, count);
                for (size_t i = 0; i < count; i++)
                    if (get(output + i * out, out) != expected[i])
                        fail_msg("%s, %s -> %s%s: 0x%" PRIx64 " became 0x%" PRIx64 ", expected 0x%" PRIx64, simd_names[simd],
                                 damacy_dtype_str(source), damacy_dtype_str(to), swap ? ", swapped" : "", values[i],
                                 get(output + i * out, out), expected[i]);
            }
    }
    free(expected);
    free(output);
    free(input[0]);
    free(input[1]);
}

/* --- values --- */

static void test_reference_knows_plain_cases(void **state)
{
    (void)state;
    assert_int_equal(reference(DAMACY_U16, 65535, DAMACY_F16), 0x7c00);
    assert_int_equal(reference(DAMACY_U16, 65519, DAMACY_F16), 0x7bff);
    assert_int_equal(reference(DAMACY_I8, 0xff, DAMACY_F32), 0xbf800000);
    assert_int_equal(reference(DAMACY_F32, 0x3f808000, DAMACY_BF16), 0x3f80); /* ties go to even */
    assert_int_equal(reference(DAMACY_F32, 0x3f818000, DAMACY_BF16), 0x3f82);
    assert_int_equal(reference(DAMACY_F64, 0x3ff0000000000001, DAMACY_F32), 0x3f800000);
    assert_int_equal(reference(DAMACY_F32, 0xff800001, DAMACY_F16), 0xfe00);
    assert_int_equal(reference(DAMACY_F16, 0x0001, DAMACY_F32), 0x33800000);
    assert_int_equal(reference(DAMACY_I16, 0x8000, DAMACY_I32), 0xffff8000);
    assert_int_equal(reference(DAMACY_BOOL, 7, DAMACY_F32), 0x3f800000);
    assert_int_equal(reference(DAMACY_BOOL, 7, DAMACY_BOOL), 7);
}

static void test_every_value_of_8_and_16_bits(void **state)
{
    (void)state;
    static const enum damacy_dtype sources[] = {DAMACY_BOOL, DAMACY_I8,  DAMACY_U8,  DAMACY_I16,
                                                DAMACY_U16,  DAMACY_F16, DAMACY_BF16};
    uint64_t *values = allocate(65536 * sizeof *values);
    for (size_t i = 0; i < 65536; i++)
        values[i] = i;
    for (size_t s = 0; s < sizeof sources / sizeof sources[0]; s++)
        check_values(sources[s], values, damacy_dtype_bytes(sources[s]) == 1 ? 256 : 65536);
    free(values);
}

/* Random high bits above a cut, below it what makes or misses a tie. */
static uint64_t near_tie(uint64_t high, int cut)
{
    if (cut <= 0 || cut > 63)
        return high;
    uint64_t half = UINT64_C(1) << (cut - 1), below = (half << 1) - 1;
    const uint64_t tails[] = {0, 1, half - 1, half, half + 1, below};
    return (high & ~below) | tails[random_below(6)];
}

static uint64_t wide_value(enum damacy_dtype source)
{
    unsigned width = 8 * (unsigned)damacy_dtype_bytes(source);
    uint64_t mask = width == 64 ? UINT64_MAX : (UINT64_C(1) << width) - 1;
    struct float_format format;
    uint64_t x = random_u64() & mask;
    if (!float_format_of(source, &format)) {
        int length = (int)random_below(width + 1);
        x = length == 0 ? 0 : (x | UINT64_C(1) << 63) >> (64 - length);
        static const int precisions[] = {8, 11, 24, 53};
        if (length)
            x = near_tie(x, length - precisions[random_below(4)]) | UINT64_C(1) << (length - 1);
        if (random_below(4) == 0)
            x = (x + random_below(5) - 2) & mask;
        return is_signed(source) && random_below(2) ? (0 - x) & mask : x & mask;
    }
    /* Exponents: anything; near the ends of the outputs' ranges; zero, subnormal, infinity and NaN of the source. */
    int bias = (1 << (format.exponent_bits - 1)) - 1, exponent;
    static const int edges[] = {-1075, -1022, -149, -150, -133, -134, -126, -25, -24, -14, 0, 15, 16, 127, 128, 1023};
    switch (random_below(4)) {
    case 0:
        exponent = (int)random_below((uint64_t)1 << format.exponent_bits);
        break;
    case 1:
        exponent = random_below(2) ? 0 : (1 << format.exponent_bits) - 1;
        break;
    case 2:
        exponent = bias + edges[random_below(sizeof edges / sizeof edges[0])] + (int)random_below(3) - 1;
        break;
    default:
        exponent = bias - 40 + (int)random_below(80);
        break;
    }
    exponent = exponent < 0 ? 0 : exponent;
    exponent = exponent >= 1 << format.exponent_bits ? (1 << format.exponent_bits) - 1 : exponent;
    uint64_t fraction = x & ((UINT64_C(1) << format.mantissa_bits) - 1);
    static const int stored[] = {7, 10, 23, 52};
    int cut = format.mantissa_bits - stored[random_below(4)] + (random_below(3) == 0 ? (int)random_below(24) : 0);
    if (random_below(4))
        fraction = near_tie(fraction, cut < format.mantissa_bits ? cut : format.mantissa_bits);
    if (random_below(8) == 0 && cut >= 0 && cut < format.mantissa_bits) /* all ones above the cut: rounding carries on */
        fraction |= ~((UINT64_C(1) << cut) - 1);
    if (random_below(16) == 0)
        fraction = random_below(2);
    fraction &= (UINT64_C(1) << format.mantissa_bits) - 1;
    return random_below(2) << (width - 1) | (uint64_t)exponent << format.mantissa_bits | fraction;
}

static void test_boundaries_and_random_values_of_32_and_64_bits(void **state)
{
    (void)state;
    static const enum damacy_dtype sources[] = {DAMACY_I32, DAMACY_U32, DAMACY_I64, DAMACY_U64, DAMACY_F32, DAMACY_F64};
    enum { COUNT = 400000 };
    uint64_t *values = allocate(COUNT * sizeof *values);
    for (size_t s = 0; s < sizeof sources / sizeof sources[0]; s++) {
        unsigned width = 8 * (unsigned)damacy_dtype_bytes(sources[s]);
        size_t n = 0;
        for (unsigned bit = 0; bit < width; bit++) /* around every power of two, from both sides and with both signs */
            for (int64_t off = -2; off <= 2; off++)
                for (int sign = -1; sign <= 1; sign += 2)
                    values[n++] = (uint64_t)sign * ((UINT64_C(1) << bit) + (uint64_t)off);
        for (size_t i = 0; i < n; i++)
            values[i] &= width == 64 ? UINT64_MAX : (UINT64_C(1) << width) - 1;
        while (n < COUNT)
            values[n++] = wide_value(sources[s]);
        check_values(sources[s], values, COUNT);
    }
    free(values);
}

/* Threads inherit a float control word; results may not depend on it, and it may not change. */
static void test_float_mode_of_the_caller_does_not_matter(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    static const enum damacy_dtype sources[] = {DAMACY_I32, DAMACY_U64, DAMACY_F16, DAMACY_BF16, DAMACY_F32, DAMACY_F64};
    uint64_t *values = allocate(COUNT * sizeof *values);
    for (size_t s = 0; s < sizeof sources / sizeof sources[0]; s++) {
        for (size_t i = 0; i < COUNT; i++)
            values[i] = damacy_dtype_bytes(sources[s]) == 2 ? random_below(65536) : wide_value(sources[s]);
#if defined(__x86_64__)
        unsigned int saved = _mm_getcsr();
        /* Round down, up, to zero; flush results and take subnormals for zero. */
        static const unsigned int modes[] = {0x2000u, 0x4000u, 0x6000u, 0x8040u};
        for (int m = 0; m < 4; m++) {
            _mm_setcsr(saved | modes[m]);
            check_values(sources[s], values, COUNT);
            assert_int_equal(_mm_getcsr() & 0xe040u, modes[m]);
        }
        _mm_setcsr((saved | 0x8040u) & ~0x1f80u); /* everything traps */
        dmc_scatter_rows rows = dmc_scatter_select(DAMACY_F64, false, DAMACY_F32);
        const uint64_t nasty[] = {1, 0x7ff0000000000001, 0x7fefffffffffffff, 0x3ff0000000000001};
        uint32_t out[4];
        rows(out, 0, nasty, 0, 8, 1, 4);
        _mm_setcsr(saved);
        assert_int_equal(out[0], 0);
        assert_int_equal(out[1], 0x7fc00000);
        assert_int_equal(out[2], 0x7f800000);
        assert_int_equal(out[3], 0x3f800000);
#else
        check_values(sources[s], values, COUNT);
#endif
    }
    free(values);
}

/* --- geometry --- */

struct geometry {
    uint64_t rows, columns;
    int64_t step;       /* in bytes; may be negative or zero */
    int64_t source_row; /* may be negative or zero */
    int64_t target_row;
    size_t source_shift; /* misalignment */
    size_t target_shift;
};

static void check_geometry(enum damacy_dtype source, enum damacy_dtype output, const struct geometry *g)
{
    enum { GUARD = 64 };
    size_t in = damacy_dtype_bytes(source), out = damacy_dtype_bytes(output);
    /* The hull of the source relative to its first element. */
    int64_t low = 0, high = 0;
    int64_t last_row = g->rows ? (int64_t)(g->rows - 1) * g->source_row : 0;
    int64_t last_column = g->columns ? (int64_t)(g->columns - 1) * g->step : 0;
    low += last_row < 0 ? last_row : 0;
    low += last_column < 0 ? last_column : 0;
    high += last_row > 0 ? last_row : 0;
    high += last_column > 0 ? last_column : 0;
    size_t source_bytes = g->rows && g->columns ? (size_t)(high - low) + in : 0;
    uint8_t *source_block = allocate(g->source_shift + source_bytes);
    uint8_t *first = source_block + g->source_shift - low;
    for (size_t i = 0; i < g->source_shift + source_bytes; i++)
        source_block[i] = (uint8_t)random_u64();

    size_t target_bytes = (g->rows ? (size_t)(g->rows - 1) * (size_t)g->target_row : 0) + g->columns * out;
    size_t block_bytes = 2 * GUARD + g->target_shift + target_bytes;
    uint8_t *block = allocate(block_bytes), *expected = allocate(block_bytes);
    for (int swap = 0; swap < 2; swap++) {
        memset(expected, 0xa5, block_bytes);
        for (uint64_t r = 0; r < g->rows; r++)
            for (uint64_t c = 0; c < g->columns; c++) {
                uint8_t element[8];
                memcpy(element, first + (int64_t)r * g->source_row + (int64_t)c * g->step, in);
                uint64_t bits = 0;
                for (size_t i = 0; i < in; i++)
                    bits |= (uint64_t)element[swap ? in - 1 - i : i] << 8 * i;
                put(expected + GUARD + g->target_shift + r * (uint64_t)g->target_row + c * out, reference(source, bits, output),
                    out, false);
            }
        for (int simd = 0; simd < SIMD_COUNT; simd++) {
            dmc_scatter_rows rows = dmc_scatter_select_simd(simd_names[simd], source, swap, output);
            if (!rows)
                continue;
            memset(block, 0xa5, block_bytes);
            rows(block + GUARD + g->target_shift, g->target_row, first, g->source_row, g->step, g->rows, g->columns);
            if (memcmp(block, expected, block_bytes) != 0)
                fail_msg("%s, %s -> %s, swap %d: %" PRIu64 " rows of %" PRIu64 ", step %" PRId64 ", source row %" PRId64
                         ", target row %" PRId64 ", shifts %zu and %zu",
                         simd_names[simd], damacy_dtype_str(source), damacy_dtype_str(output), swap, g->rows, g->columns,
                         g->step, g->source_row, g->target_row, g->source_shift, g->target_shift);
        }
    }
    free(expected);
    free(block);
    free(source_block);
}

static void test_geometries(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0, 1, 2, 3, 7, 15, 16, 17, 31, 33, 63, 64, 65, 100, 129};
    for (int s = DAMACY_BOOL; s < DAMACY_DTYPE_COUNT; s++)
        for (int o = DAMACY_BOOL; o < DAMACY_DTYPE_COUNT; o++) {
            enum damacy_dtype source = (enum damacy_dtype)s, output = (enum damacy_dtype)o;
            if (!dmc_dtype_converts(source, output))
                continue;
            int64_t in = (int64_t)damacy_dtype_bytes(source), out = (int64_t)damacy_dtype_bytes(output);
            for (int round = 0; round < 24; round++) {
                struct geometry g = {.rows = sizes[random_below(round < 4 ? 15 : 9)],
                                     .columns = sizes[random_below(15)],
                                     .source_shift = random_below(9),
                                     .target_shift = random_below(round < 4 ? 70 : 9)};
                /* Contiguous and strided, in front or back to front, rows apart, touching or transposed. */
                static const int64_t factors[] = {1, 1, 1, 1, 2, 3, 17, -1, 0};
                g.step = in * factors[random_below(9)] + (random_below(8) == 0 ? 1 : 0);
                int64_t line = (int64_t)g.columns * (g.step ? llabs(g.step) : in);
                switch (random_below(4)) {
                case 0:
                    g.source_row = line;
                    break;
                case 1:
                    g.source_row = -(line + (int64_t)random_below(5));
                    break;
                case 2: /* transposed */
                    g.source_row = random_below(2) ? in : -in;
                    g.step = in * (int64_t)(g.rows + random_below(3));
                    break;
                default:
                    g.source_row = line + (int64_t)random_below(70);
                    break;
                }
                g.target_row = (int64_t)g.columns * out + (random_below(2) ? (int64_t)random_below(70) : 0);
                check_geometry(source, output, &g);
            }
        }
}

/* A page, and behind it one that nobody may touch: what ends there is neither read nor written beyond its end, which the
 * sanitizers cannot see where instructions read under a mask. */
static uint8_t *page_with_end(size_t *page_bytes)
{
    *page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *page = mmap(NULL, 2 * *page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(page != MAP_FAILED);
    assert_int_equal(mprotect(page + *page_bytes, *page_bytes, PROT_NONE), 0);
    return page;
}

static void test_rows_at_the_end_of_memory(void **state)
{
    (void)state;
    enum { COLUMNS_MAX = 70 };
    size_t page_bytes;
    uint8_t *source_page = page_with_end(&page_bytes), *target_page = page_with_end(&page_bytes);
    for (int s = DAMACY_BOOL; s < DAMACY_DTYPE_COUNT; s++)
        for (int o = DAMACY_BOOL; o < DAMACY_DTYPE_COUNT; o++)
            for (int set = 0; set < 2 * SIMD_COUNT; set++) {
                enum damacy_dtype source = (enum damacy_dtype)s, output = (enum damacy_dtype)o;
                dmc_scatter_rows rows = dmc_scatter_select_simd(simd_names[set / 2], source, set % 2, output);
                if (!rows)
                    continue;
                size_t in = damacy_dtype_bytes(source), out = damacy_dtype_bytes(output);
                for (uint64_t columns = 1; columns <= COLUMNS_MAX; columns++)
                    rows(target_page + page_bytes - columns * out, (int64_t)(columns * out),
                         source_page + page_bytes - columns * in, (int64_t)(columns * in), (int64_t)in, 1, columns);
            }
    munmap(source_page, 2 * page_bytes);
    munmap(target_page, 2 * page_bytes);
}

/* --- fill --- */

static void test_fill(void **state)
{
    (void)state;
    enum { GUARD = 16 };
    for (int s = DAMACY_BOOL; s < DAMACY_DTYPE_COUNT; s++)
        for (int o = DAMACY_BOOL; o < DAMACY_DTYPE_COUNT; o++) {
            enum damacy_dtype source = (enum damacy_dtype)s, output = (enum damacy_dtype)o;
            if (!dmc_dtype_converts(source, output))
                continue;
            size_t in = damacy_dtype_bytes(source), out = damacy_dtype_bytes(output);
            for (int round = 0; round < 12; round++) {
                uint64_t bits[2] = {round == 0 ? 0 : random_u64(), round == 1 ? 0 : random_u64()};
                uint8_t elements[16];
                uint32_t count = 1 + (uint32_t)random_below(2), first = (uint32_t)random_below(count);
                for (uint32_t i = 0; i < 2; i++) {
                    put(elements + i * in, bits[i], in, false);
                    bits[i] = get(elements + i * in, in);
                }
                uint64_t rows = random_below(5), columns = random_below(90);
                size_t row_bytes = columns * out + (round % 2 ? random_below(20) : 0), shift = random_below(8);
                size_t bytes = 2 * GUARD + shift + rows * row_bytes;
                uint8_t *block = allocate(bytes), *expected = allocate(bytes);
                memset(block, 0x5a, bytes);
                memset(expected, 0x5a, bytes);
                for (uint64_t r = 0; r < rows; r++)
                    for (uint64_t c = 0; c < columns; c++)
                        put(expected + GUARD + shift + r * row_bytes + c * out,
                            reference(source, bits[(first + c) % count], output), out, false);
                struct dmc_scatter_element element = {source, count, first, elements};
                dmc_scatter_fill(block + GUARD + shift, (int64_t)row_bytes, rows, columns, output, element);
                assert_memory_equal(block, expected, bytes);
                free(block);
                free(expected);
            }
        }
}

/* --- selection --- */

static void test_table_has_exactly_the_pairs_that_convert(void **state)
{
    (void)state;
    for (int simd = 0; simd < SIMD_COUNT; simd++) {
        bool runs = dmc_scatter_select_simd(simd_names[simd], DAMACY_U8, false, DAMACY_U8) != NULL;
        for (int s = DAMACY_BOOL; s < DAMACY_DTYPE_COUNT; s++)
            for (int o = DAMACY_BOOL; o < DAMACY_DTYPE_COUNT; o++)
                for (int swap = 0; swap < 2; swap++) {
                    bool converts = dmc_dtype_converts((enum damacy_dtype)s, (enum damacy_dtype)o);
                    dmc_scatter_rows rows =
                        dmc_scatter_select_simd(simd_names[simd], (enum damacy_dtype)s, swap, (enum damacy_dtype)o);
                    if ((rows != NULL) != (runs && converts))
                        fail_msg("%s: %s -> %s", simd_names[simd], damacy_dtype_str((enum damacy_dtype)s),
                                 damacy_dtype_str((enum damacy_dtype)o));
                }
    }
    assert_non_null(dmc_scatter_select_simd("plain", DAMACY_U8, false, DAMACY_U8));
    assert_null(dmc_scatter_select_simd("mmx", DAMACY_U8, false, DAMACY_U8));
    assert_null(dmc_scatter_select(DAMACY_NATIVE, false, DAMACY_F32));
    assert_null(dmc_scatter_select(DAMACY_F32, false, DAMACY_NATIVE));
    assert_null(dmc_scatter_select((enum damacy_dtype)DAMACY_DTYPE_COUNT, false, DAMACY_F32));
    dmc_scatter_rows used = dmc_scatter_select(DAMACY_U16, true, DAMACY_F32);
    assert_ptr_equal(used, dmc_scatter_select_simd(dmc_scatter_simd(), DAMACY_U16, true, DAMACY_F32));
}

/* The choice is made once a process, so each setting gets a process of its own: this program with the one argument "simd". */
static void simd_of_process_with(const char *setting, char *name, size_t capacity)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setenv("DAMACY_SIMD", setting, 1);
        dup2(ends[1], STDOUT_FILENO);
        execl("/proc/self/exe", "test_scatter", "simd", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    size_t length = 0;
    ssize_t got;
    while (length + 1 < capacity && (got = read(ends[0], name + length, capacity - 1 - length)) > 0)
        length += (size_t)got;
    name[length] = 0;
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_environment_forces_a_set(void **state)
{
    (void)state;
    char name[32], best[32];
    simd_of_process_with("", best, sizeof best);
    assert_non_null(dmc_scatter_select_simd(best, DAMACY_U8, false, DAMACY_U8));
    for (int simd = 0; simd < SIMD_COUNT; simd++) {
        bool runs = dmc_scatter_select_simd(simd_names[simd], DAMACY_U8, false, DAMACY_U8) != NULL;
        runs &= !strstr(simd_names[simd], "-streamed"); /* belongs to a set, and is none itself */
        simd_of_process_with(simd_names[simd], name, sizeof name);
        assert_string_equal(name, runs ? simd_names[simd] : best);
    }
    simd_of_process_with("nonsense", name, sizeof name);
    assert_string_equal(name, best);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "simd") == 0) {
        fputs(dmc_scatter_simd(), stdout);
        return 0;
    }
    random_state = seed_of_test("test_scatter", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_knows_plain_cases),
        cmocka_unit_test(test_every_value_of_8_and_16_bits),
        cmocka_unit_test(test_boundaries_and_random_values_of_32_and_64_bits),
        cmocka_unit_test(test_float_mode_of_the_caller_does_not_matter),
        cmocka_unit_test(test_geometries),
        cmocka_unit_test(test_rows_at_the_end_of_memory),
        cmocka_unit_test(test_fill),
        cmocka_unit_test(test_table_has_exactly_the_pairs_that_convert),
        cmocka_unit_test(test_environment_forces_a_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
