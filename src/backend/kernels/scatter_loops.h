/* The loops over elements, included once by each scatter_<simd>.c with DMC_TABLE naming the table to define; that file's
 * compile flags decide what the compiler makes of them. No include guard on purpose: everything here is static but the table.
 *
 * A pair's function is  rows_<source>_<output>[_swapped]:
 *
 *     source_step is the item size:  rows without gaps are one long row; each row is one vector loop
 *     otherwise:                     tiles of 32 x 64 elements are gathered on the stack and go through the same function
 *
 * so that each element function is compiled once per pair and order of bytes. */
#include "backend/kernels/convert_element.h"
#include "backend/kernels/scatter_table.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Elements in memory: unaligned, and of whatever type the caller thinks they are. */
#define DMC_MEMORY(type) typedef dmc_bits_##type memory_##type __attribute__((aligned(1), may_alias))
DMC_MEMORY(boolean);
DMC_MEMORY(i8);
DMC_MEMORY(i16);
DMC_MEMORY(i32);
DMC_MEMORY(i64);
DMC_MEMORY(u8);
DMC_MEMORY(u16);
DMC_MEMORY(u32);
DMC_MEMORY(u64);
DMC_MEMORY(f16);
DMC_MEMORY(bf16);
DMC_MEMORY(f32);
DMC_MEMORY(f64);
#undef DMC_MEMORY

#define DMC_ALWAYS_INLINE static inline __attribute__((always_inline))

/* Threads inherit the float control word of the thread that started them, which may flush subnormals (torch and the Intel
 * libraries set this), round otherwise or trap. The memory clobber keeps the elements' loads and stores, and so their
 * arithmetic, between begin and end. About 3 ns a call when nothing has to be changed. */
#if defined(__x86_64__)
typedef unsigned int float_mode;
#define DMC_FLOAT_FLAGS 0x3fu /* what happened so far: not part of the mode */
#define DMC_FLOAT_DEFAULT 0x1f80u
DMC_ALWAYS_INLINE float_mode float_begin(void)
{
    float_mode saved = _mm_getcsr();
    if (__builtin_expect((saved & ~DMC_FLOAT_FLAGS) != DMC_FLOAT_DEFAULT, 0))
        _mm_setcsr(DMC_FLOAT_DEFAULT);
    __asm__ volatile("" ::: "memory");
    return saved;
}
DMC_ALWAYS_INLINE void float_end(float_mode saved)
{
    __asm__ volatile("" ::: "memory");
    if (__builtin_expect((saved & ~DMC_FLOAT_FLAGS) != DMC_FLOAT_DEFAULT, 0))
        _mm_setcsr(saved);
}
#elif defined(__aarch64__)
typedef uint64_t float_mode;
DMC_ALWAYS_INLINE float_mode float_begin(void)
{
    float_mode saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved) : : "memory");
    if (__builtin_expect(saved != 0, 0))
        __asm__ volatile("msr fpcr, %0" : : "r"((float_mode)0) : "memory");
    return saved;
}
DMC_ALWAYS_INLINE void float_end(float_mode saved)
{
    __asm__ volatile("" ::: "memory");
    if (__builtin_expect(saved != 0, 0))
        __asm__ volatile("msr fpcr, %0" : : "r"(saved) : "memory");
}
#else
#error "say here how this architecture's float control word is set to its default"
#endif

/* --- sources with gaps between elements --- */

enum { TILE_ROWS = 32, TILE_COLUMNS = 64 };

/* Gather tiles and hand them to `rows_function`, which finds contiguous rows there. When neighbours in memory lie along the
 * rows (a transposed chunk), the tile is read along the rows: each cache line is then used whole even where strides are powers
 * of two, which map a whole column to a few sets of the cache. */
#define DMC_GATHER(item_bytes, type)                                                                                           \
    static __attribute__((noinline)) void gather_##item_bytes(                                                                 \
        dmc_scatter_rows rows_function, int64_t output_bytes, char *target, int64_t target_row, const char *source,            \
        int64_t source_row, int64_t source_step, uint64_t rows, uint64_t columns)                                              \
    {                                                                                                                          \
        typedef type element __attribute__((aligned(1), may_alias));                                                           \
        type tile[TILE_ROWS * TILE_COLUMNS];                                                                                   \
        bool along_rows = source_row < 0 ? -source_row < source_step : source_row < source_step;                               \
        for (uint64_t row = 0; row < rows; row += TILE_ROWS) {                                                                 \
            int64_t height = (int64_t)(rows - row < TILE_ROWS ? rows - row : TILE_ROWS);                                       \
            for (uint64_t column = 0; column < columns; column += TILE_COLUMNS) {                                              \
                int64_t width = (int64_t)(columns - column < TILE_COLUMNS ? columns - column : TILE_COLUMNS);                  \
                const char *corner = source + (int64_t)row * source_row + (int64_t)column * source_step;                       \
                if (along_rows) {                                                                                              \
                    for (int64_t c = 0; c < width; c++)                                                                        \
                        for (int64_t r = 0; r < height; r++)                                                                   \
                            tile[r * TILE_COLUMNS + c] = *(const element *)(corner + r * source_row + c * source_step);        \
                } else {                                                                                                       \
                    for (int64_t r = 0; r < height; r++)                                                                       \
                        for (int64_t c = 0; c < width; c++)                                                                    \
                            tile[r * TILE_COLUMNS + c] = *(const element *)(corner + r * source_row + c * source_step);        \
                }                                                                                                              \
                rows_function(target + (int64_t)row * target_row + (int64_t)column * output_bytes, target_row, tile,           \
                              TILE_COLUMNS * item_bytes, item_bytes, (uint64_t)height, (uint64_t)width);                       \
            }                                                                                                                  \
        }                                                                                                                      \
    }
DMC_GATHER(1, uint8_t)
DMC_GATHER(2, uint16_t)
DMC_GATHER(4, uint32_t)
DMC_GATHER(8, uint64_t)
#undef DMC_GATHER

DMC_ALWAYS_INLINE void gather(dmc_scatter_rows rows_function, int64_t source_bytes, int64_t output_bytes, void *target,
                              int64_t target_row, const void *source, int64_t source_row, int64_t source_step, uint64_t rows,
                              uint64_t columns)
{
    switch (source_bytes) {
    case 1:
        gather_1(rows_function, output_bytes, target, target_row, source, source_row, source_step, rows, columns);
        break;
    case 2:
        gather_2(rows_function, output_bytes, target, target_row, source, source_row, source_step, rows, columns);
        break;
    case 4:
        gather_4(rows_function, output_bytes, target, target_row, source, source_row, source_step, rows, columns);
        break;
    default:
        gather_8(rows_function, output_bytes, target, target_row, source, source_row, source_step, rows, columns);
        break;
    }
}

/* --- the pairs --- */

/* Every function below begins alike: the arguments of dmc_scatter_rows, the way out for strided sources, and rows without gaps
 * made one. */
#define DMC_ROWS_ARGUMENTS                                                                                                     \
    void *target, int64_t target_row, const void *source, int64_t source_row, int64_t source_step, uint64_t rows,              \
        uint64_t columns
#define DMC_ROWS_BEGIN(function, source_bytes, output_bytes)                                                                   \
    if (source_step != (int64_t)(source_bytes)) {                                                                              \
        gather(function, (source_bytes), (output_bytes), target, target_row, source, source_row, source_step, rows, columns);  \
        return;                                                                                                                \
    }                                                                                                                          \
    if (source_row == (int64_t)(columns * (source_bytes)) && target_row == (int64_t)(columns * (output_bytes))) {              \
        columns *= rows;                                                                                                       \
        rows = rows != 0;                                                                                                      \
    }

/* Around the cache (DMC_STREAM): whole lines of the target are made in registers and written by stores that do not fetch first
 * what they overwrite; what shares a line with a neighbour, and short rows, are written as usual. */
#if defined(DMC_STREAM)
/* gcc reasons about rows of 2^58 elements, which no memory holds. */
#ifndef __clang__
#pragma GCC diagnostic ignored "-Waggressive-loop-optimizations"
#endif
enum { LINE_BYTES = 64 };
DMC_ALWAYS_INLINE void stream_block(void *target, const void *block)
{
    _mm256_stream_si256((__m256i *)target, _mm256_load_si256((const __m256i *)block));
    _mm256_stream_si256((__m256i *)target + 1, _mm256_load_si256((const __m256i *)block + 1));
}
/* Items of the target up to the first line that is written whole; `columns` if there is none. */
DMC_ALWAYS_INLINE uint64_t stream_head(const void *target, uint64_t columns, uint64_t item_bytes)
{
    uint64_t head = -(uintptr_t)target % LINE_BYTES;
    return columns * item_bytes < 2 * LINE_BYTES || head % item_bytes ? columns : head / item_bytes;
}
#define DMC_LINE(line, source_type, output_type, element)                                                                      \
    DMC_ALWAYS_INLINE void line(memory_##output_type *restrict target, const memory_##source_type *restrict source,            \
                                uint64_t columns)                                                                              \
    {                                                                                                                          \
        enum { BLOCK = LINE_BYTES / sizeof(dmc_bits_##output_type) };                                                          \
        uint64_t i = 0, head = stream_head(target, columns, sizeof(dmc_bits_##output_type));                                   \
        for (; i < head; i++)                                                                                                  \
            target[i] = element(source[i]);                                                                                    \
        for (; columns - i >= BLOCK; i += BLOCK) {                                                                             \
            _Alignas(LINE_BYTES) dmc_bits_##output_type block[BLOCK];                                                          \
            for (int k = 0; k < BLOCK; k++)                                                                                    \
                block[k] = element(source[i + (uint64_t)k]);                                                                   \
            stream_block(target + i, block);                                                                                   \
        }                                                                                                                      \
        for (; i < columns; i++)                                                                                               \
            target[i] = element(source[i]);                                                                                    \
    }
#else
/* One row: the loop that the compiler vectorises. */
#define DMC_LINE(line, source_type, output_type, element)                                                                      \
    DMC_ALWAYS_INLINE void line(memory_##output_type *restrict target, const memory_##source_type *restrict source,            \
                                uint64_t columns)                                                                              \
    {                                                                                                                          \
        for (uint64_t i = 0; i < columns; i++)                                                                                 \
            target[i] = element(source[i]);                                                                                    \
    }
#endif

/* `begin` and `end` stand around the loop, `each` in front of each row. */
#define DMC_ROWS_EACH(function, line, source_type, output_type, begin, each, end)                                              \
    static void function(DMC_ROWS_ARGUMENTS)                                                                                   \
    {                                                                                                                          \
        DMC_ROWS_BEGIN(function, sizeof(dmc_bits_##source_type), sizeof(dmc_bits_##output_type))                               \
        begin;                                                                                                                 \
        for (uint64_t row = 0; row < rows; row++) {                                                                            \
            each;                                                                                                              \
            line((memory_##output_type *)((char *)target + (int64_t)row * target_row),                                         \
                 (const memory_##source_type *)((const char *)source + (int64_t)row * source_row), columns);                   \
        }                                                                                                                      \
        end;                                                                                                                   \
    }
#define DMC_ROWS(function, line, source_type, output_type, begin, end)                                                         \
    DMC_ROWS_EACH(function, line, source_type, output_type, begin, , end)

#define DMC_PLAIN(s, o, begin, end)                                                                                            \
    DMC_LINE(line_##s##_##o, s, o, dmc_##s##_to_##o)                                                                           \
    DMC_ROWS(rows_##s##_##o, line_##s##_##o, s, o, begin, end)
#define DMC_SWAPPED(s, o, begin, end)                                                                                          \
    DMC_KERNEL dmc_bits_##o swap_##s##_to_##o(dmc_bits_##s x)                                                                  \
    {                                                                                                                          \
        return dmc_##s##_to_##o(dmc_swap_##s(x));                                                                              \
    }                                                                                                                          \
    DMC_LINE(line_##s##_##o##_swapped, s, o, swap_##s##_to_##o)                                                                \
    DMC_ROWS(rows_##s##_##o##_swapped, line_##s##_##o##_swapped, s, o, begin, end)

#define DMC_FLOAT_BEGIN float_mode mode = float_begin()
#define DMC_FLOAT_END float_end(mode)

#if defined(__AVX512BW__) && defined(__AVX512VL__)
#include "backend/kernels/scatter_lanes.h"
#define DMC_HALF(s, o) DMC_LANES(s, o)
#else
#define DMC_LANES(s, o) DMC_PLAIN(s, o, DMC_FLOAT_BEGIN, DMC_FLOAT_END)
#endif

/* f16 by F16C, eight elements at a time: two to four times the loops that the compiler makes for AVX2 (bench_scatter). The
 * instructions keep the upper bits of a NaN's payload, with the quiet bit set; so what is below the quiet bit is cleared. */
#if defined(DMC_HALF)
#elif defined(__F16C__) && defined(__AVX2__)
DMC_ALWAYS_INLINE void eight_halves(memory_f16 *target, __m256 values)
{
    __m128i halves = _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m128i nan = _mm_cmpgt_epi16(_mm_and_si128(halves, _mm_set1_epi16(0x7fff)), _mm_set1_epi16(0x7c00));
    _mm_storeu_si128((__m128i *)target, _mm_andnot_si128(_mm_and_si128(nan, _mm_set1_epi16(0x01ff)), halves));
}
DMC_ALWAYS_INLINE void eight_f32_f16(memory_f16 *target, const memory_f32 *source)
{
    eight_halves(target, _mm256_castsi256_ps(_mm256_loadu_si256((const __m256i *)source)));
}
#define DMC_EIGHT_INTEGERS(source, load, widen)                                                                                \
    DMC_ALWAYS_INLINE void eight_##source##_f16(memory_f16 *target, const memory_##source *from)                               \
    {                                                                                                                          \
        __m256 values = _mm256_cvtepi32_ps(widen(load((const __m128i *)from)));                                                \
        _mm_storeu_si128((__m128i *)target, _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));           \
    }
DMC_EIGHT_INTEGERS(i8, _mm_loadl_epi64, _mm256_cvtepi8_epi32)
DMC_EIGHT_INTEGERS(u8, _mm_loadl_epi64, _mm256_cvtepu8_epi32)
DMC_EIGHT_INTEGERS(i16, _mm_loadu_si128, _mm256_cvtepi16_epi32)
DMC_EIGHT_INTEGERS(u16, _mm_loadu_si128, _mm256_cvtepu16_epi32)
#undef DMC_EIGHT_INTEGERS
DMC_ALWAYS_INLINE void eight_f16_f32(memory_f32 *target, const memory_f16 *source)
{
    __m256i values = _mm256_castps_si256(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)source)));
    __m256i magnitudes = _mm256_and_si256(values, _mm256_set1_epi32(0x7fffffff));
    __m256i nan = _mm256_cmpgt_epi32(magnitudes, _mm256_set1_epi32((int)DMC_F32_INFINITY));
    _mm256_storeu_si256((__m256i *)target, _mm256_andnot_si256(_mm256_and_si256(nan, _mm256_set1_epi32(0x003fffff)), values));
}
#if defined(DMC_STREAM)
#define DMC_EIGHT_STREAMED(s, o)                                                                                               \
    DMC_ALWAYS_INLINE uint64_t eight_streamed_##s##_##o(memory_##o *target, const memory_##s *source, uint64_t columns)        \
    {                                                                                                                          \
        enum { BLOCK = LINE_BYTES / sizeof(dmc_bits_##o) };                                                                    \
        uint64_t i = 0, head = stream_head(target, columns, sizeof(dmc_bits_##o));                                             \
        if (head == columns)                                                                                                   \
            return 0;                                                                                                          \
        for (; i < head; i++)                                                                                                  \
            target[i] = dmc_##s##_to_##o(source[i]);                                                                           \
        for (; columns - i >= BLOCK; i += BLOCK) {                                                                             \
            _Alignas(LINE_BYTES) memory_##o block[BLOCK];                                                                      \
            for (int k = 0; k < BLOCK; k += 8)                                                                                 \
                eight_##s##_##o(block + k, source + i + (uint64_t)k);                                                          \
            stream_block(target + i, block);                                                                                   \
        }                                                                                                                      \
        return i;                                                                                                              \
    }
#else
#define DMC_EIGHT_STREAMED(s, o)                                                                                               \
    DMC_ALWAYS_INLINE uint64_t eight_streamed_##s##_##o(memory_##o *target, const memory_##s *source, uint64_t columns)        \
    {                                                                                                                          \
        (void)target, (void)source, (void)columns;                                                                             \
        return 0;                                                                                                              \
    }
#endif
#define DMC_HALF(s, o)                                                                                                         \
    DMC_LINE(rest_##s##_##o, s, o, dmc_##s##_to_##o)                                                                           \
    DMC_EIGHT_STREAMED(s, o)                                                                                                   \
    DMC_ALWAYS_INLINE void line_##s##_##o(memory_##o *restrict target, const memory_##s *restrict source, uint64_t columns)    \
    {                                                                                                                          \
        uint64_t i = eight_streamed_##s##_##o(target, source, columns);                                                        \
        for (; columns - i >= 8; i += 8)                                                                                       \
            eight_##s##_##o(target + i, source + i);                                                                           \
        rest_##s##_##o(target + i, source + i, columns - i);                                                                   \
    }                                                                                                                          \
    DMC_ROWS(rows_##s##_##o, line_##s##_##o, s, o, DMC_FLOAT_BEGIN, DMC_FLOAT_END)
#else
#define DMC_HALF(s, o) DMC_PLAIN(s, o, DMC_FLOAT_BEGIN, DMC_FLOAT_END)
#endif

/* The lists: X(SOURCE, source, OUTPUT, output). Sources of one byte know no order of bytes. ("boolean", since bool is a macro.)
 */
#define DMC_TO_FLOATS(X, S, s) X(S, s, F32, f32) X(S, s, F64, f64) X(S, s, BF16, bf16) X(S, s, F16, f16)
#define DMC_BYTES_TO_FLOATS(X) X(I8, i8, F64, f64) X(U8, u8, F64, f64)
#define DMC_WIDE_TO_FLOATS(X)                                                                                                  \
    DMC_TO_FLOATS(X, I32, i32)                                                                                                 \
    DMC_TO_FLOATS(X, I64, i64)                                                                                                 \
    DMC_TO_FLOATS(X, U32, u32)                                                                                                 \
    DMC_TO_FLOATS(X, U64, u64)                                                                                                 \
    X(I16, i16, F64, f64)                                                                                                      \
    X(U16, u16, F64, f64)                                                                                                      \
    X(F16, f16, F64, f64)                                                                                                      \
    X(BF16, bf16, F64, f64)                                                                                                    \
    X(F32, f32, F64, f64)                                                                                                      \
    X(F64, f64, F32, f32)                                                                                                      \
    X(F64, f64, F16, f16)                                                                                                      \
    X(F64, f64, BF16, bf16)
/* By way of f32, without rounding twice: scatter_lanes.h. */
#define DMC_BYTES_LANES(X)                                                                                                     \
    X(I8, i8, F32, f32)                                                                                                        \
    X(I8, i8, BF16, bf16)                                                                                                      \
    X(U8, u8, F32, f32)                                                                                                        \
    X(U8, u8, BF16, bf16)
#define DMC_WIDE_LANES(X)                                                                                                      \
    X(I16, i16, F32, f32)                                                                                                      \
    X(I16, i16, BF16, bf16)                                                                                                    \
    X(U16, u16, F32, f32)                                                                                                      \
    X(U16, u16, BF16, bf16)                                                                                                    \
    X(F16, f16, BF16, bf16)                                                                                                    \
    X(BF16, bf16, F32, f32)                                                                                                    \
    X(BF16, bf16, F16, f16)                                                                                                    \
    X(F32, f32, BF16, bf16)
/* The same, and machines with F16C have an instruction for them. */
#define DMC_BYTES_HALVES(X) X(I8, i8, F16, f16) X(U8, u8, F16, f16)
#define DMC_WIDE_HALVES(X) X(I16, i16, F16, f16) X(U16, u16, F16, f16) X(F32, f32, F16, f16) X(F16, f16, F32, f32)
/* No float arithmetic in these: the control word does not matter. */
#define DMC_BYTES_BY_INTEGERS(X)                                                                                               \
    DMC_TO_FLOATS(X, BOOL, boolean)                                                                                            \
    X(BOOL, boolean, I8, i8)                                                                                                   \
    X(BOOL, boolean, I16, i16)                                                                                                 \
    X(BOOL, boolean, I32, i32)                                                                                                 \
    X(BOOL, boolean, I64, i64)                                                                                                 \
    X(BOOL, boolean, U8, u8)                                                                                                   \
    X(BOOL, boolean, U16, u16)                                                                                                 \
    X(BOOL, boolean, U32, u32)                                                                                                 \
    X(BOOL, boolean, U64, u64)                                                                                                 \
    X(I8, i8, I16, i16)                                                                                                        \
    X(I8, i8, I32, i32)                                                                                                        \
    X(I8, i8, I64, i64)                                                                                                        \
    X(U8, u8, I16, i16)                                                                                                        \
    X(U8, u8, I32, i32)                                                                                                        \
    X(U8, u8, I64, i64)                                                                                                        \
    X(U8, u8, U16, u16)                                                                                                        \
    X(U8, u8, U32, u32)                                                                                                        \
    X(U8, u8, U64, u64)
#define DMC_WIDE_BY_INTEGERS(X)                                                                                                \
    X(I16, i16, I32, i32)                                                                                                      \
    X(I16, i16, I64, i64)                                                                                                      \
    X(I32, i32, I64, i64)                                                                                                      \
    X(U16, u16, I32, i32)                                                                                                      \
    X(U16, u16, I64, i64)                                                                                                      \
    X(U16, u16, U32, u32)                                                                                                      \
    X(U16, u16, U64, u64)                                                                                                      \
    X(U32, u32, I64, i64)                                                                                                      \
    X(U32, u32, U64, u64)
/* A type to itself: X(TYPE, item_bytes). */
#define DMC_SAME_BYTES(X) X(BOOL, 1) X(I8, 1) X(U8, 1)
#define DMC_SAME_WIDE(X) X(I16, 2) X(U16, 2) X(F16, 2) X(BF16, 2) X(I32, 4) X(U32, 4) X(F32, 4) X(I64, 8) X(U64, 8) X(F64, 8)

#define DMC_DEFINE(S, s, O, o) DMC_PLAIN(s, o, , )
#define DMC_DEFINE_BOTH(S, s, O, o) DMC_PLAIN(s, o, , ) DMC_SWAPPED(s, o, , )
#define DMC_DEFINE_FLOAT(S, s, O, o) DMC_PLAIN(s, o, DMC_FLOAT_BEGIN, DMC_FLOAT_END)
#define DMC_DEFINE_FLOAT_BOTH(S, s, O, o)                                                                                      \
    DMC_PLAIN(s, o, DMC_FLOAT_BEGIN, DMC_FLOAT_END)                                                                            \
    DMC_SWAPPED(s, o, DMC_FLOAT_BEGIN, DMC_FLOAT_END)
#define DMC_DEFINE_LANES(S, s, O, o) DMC_LANES(s, o)
#define DMC_DEFINE_LANES_BOTH(S, s, O, o) DMC_LANES(s, o) DMC_SWAPPED(s, o, DMC_FLOAT_BEGIN, DMC_FLOAT_END)
#define DMC_DEFINE_HALF(S, s, O, o) DMC_HALF(s, o)
#define DMC_DEFINE_HALF_BOTH(S, s, O, o) DMC_HALF(s, o) DMC_SWAPPED(s, o, DMC_FLOAT_BEGIN, DMC_FLOAT_END)

DMC_BYTES_TO_FLOATS(DMC_DEFINE_FLOAT)
DMC_WIDE_TO_FLOATS(DMC_DEFINE_FLOAT_BOTH)
DMC_BYTES_LANES(DMC_DEFINE_LANES)
DMC_WIDE_LANES(DMC_DEFINE_LANES_BOTH)
DMC_BYTES_HALVES(DMC_DEFINE_HALF)
DMC_WIDE_HALVES(DMC_DEFINE_HALF_BOTH)
DMC_BYTES_BY_INTEGERS(DMC_DEFINE)
DMC_WIDE_BY_INTEGERS(DMC_DEFINE_BOTH)

#if defined(DMC_STREAM)
#if defined(__AVX512BW__)
#define DMC_SAME_LINE(type, item_bytes)                                                                                        \
    DMC_ALWAYS_INLINE void line_copy_##item_bytes(memory_##type *restrict target, const memory_##type *restrict source,        \
                                                  uint64_t columns)                                                            \
    {                                                                                                                          \
        stream_bytes((memory_u8 *)target, (const memory_u8 *)source, columns *(item_bytes));                                   \
    }
#else
#define DMC_SAME_LINE(type, item_bytes)                                                                                        \
    DMC_KERNEL dmc_bits_##type same_##type(dmc_bits_##type x)                                                                  \
    {                                                                                                                          \
        return x;                                                                                                              \
    }                                                                                                                          \
    DMC_LINE(line_copy_##item_bytes, type, type, same_##type)
#endif
DMC_SAME_LINE(u8, 1)
DMC_SAME_LINE(u16, 2)
DMC_SAME_LINE(u32, 4)
DMC_SAME_LINE(u64, 8)
DMC_ROWS(copy_1, line_copy_1, u8, u8, , )
DMC_ROWS(copy_2, line_copy_2, u16, u16, , )
DMC_ROWS(copy_4, line_copy_4, u32, u32, , )
DMC_ROWS(copy_8, line_copy_8, u64, u64, , )
#else
/* Same type: memcpy knows best, also when to write around the cache. */
#define DMC_COPY(item_bytes)                                                                                                   \
    static void copy_##item_bytes(DMC_ROWS_ARGUMENTS)                                                                          \
    {                                                                                                                          \
        DMC_ROWS_BEGIN(copy_##item_bytes, item_bytes, item_bytes)                                                              \
        for (uint64_t row = 0; row < rows; row++)                                                                              \
            memcpy((char *)target + (int64_t)row * target_row, (const char *)source + (int64_t)row * source_row,               \
                   columns * item_bytes);                                                                                      \
    }
DMC_COPY(1)
DMC_COPY(2)
DMC_COPY(4)
DMC_COPY(8)
#endif

DMC_LINE(line_swap_2, u16, u16, dmc_swap_u16)
DMC_LINE(line_swap_4, u32, u32, dmc_swap_u32)
DMC_LINE(line_swap_8, u64, u64, dmc_swap_u64)
DMC_ROWS(copy_2_swapped, line_swap_2, u16, u16, , )
DMC_ROWS(copy_4_swapped, line_swap_4, u32, u32, , )
DMC_ROWS(copy_8_swapped, line_swap_8, u64, u64, , )

#define DMC_ENTRY(S, s, O, o) [DAMACY_##S][DAMACY_##O] = rows_##s##_##o,
#define DMC_ENTRY_SWAPPED(S, s, O, o) [DAMACY_##S][DAMACY_##O] = rows_##s##_##o##_swapped,
#define DMC_ENTRY_SAME(S, item_bytes) [DAMACY_##S][DAMACY_##S] = copy_##item_bytes,
#define DMC_ENTRY_SAME_SWAPPED(S, item_bytes) [DAMACY_##S][DAMACY_##S] = copy_##item_bytes##_swapped,

/* clang-format off */
const dmc_scatter_table DMC_TABLE = {
    [0] = {
        DMC_BYTES_TO_FLOATS(DMC_ENTRY)
        DMC_WIDE_TO_FLOATS(DMC_ENTRY)
        DMC_BYTES_LANES(DMC_ENTRY)
        DMC_WIDE_LANES(DMC_ENTRY)
        DMC_BYTES_HALVES(DMC_ENTRY)
        DMC_WIDE_HALVES(DMC_ENTRY)
        DMC_BYTES_BY_INTEGERS(DMC_ENTRY)
        DMC_WIDE_BY_INTEGERS(DMC_ENTRY)
        DMC_SAME_BYTES(DMC_ENTRY_SAME)
        DMC_SAME_WIDE(DMC_ENTRY_SAME)
    },
    [1] = {
        DMC_BYTES_TO_FLOATS(DMC_ENTRY)
        DMC_WIDE_TO_FLOATS(DMC_ENTRY_SWAPPED)
        DMC_BYTES_LANES(DMC_ENTRY)
        DMC_WIDE_LANES(DMC_ENTRY_SWAPPED)
        DMC_BYTES_HALVES(DMC_ENTRY)
        DMC_WIDE_HALVES(DMC_ENTRY_SWAPPED)
        DMC_BYTES_BY_INTEGERS(DMC_ENTRY)
        DMC_WIDE_BY_INTEGERS(DMC_ENTRY_SWAPPED)
        DMC_SAME_BYTES(DMC_ENTRY_SAME)
        DMC_SAME_WIDE(DMC_ENTRY_SAME_SWAPPED)
    },
};
/* clang-format on */
