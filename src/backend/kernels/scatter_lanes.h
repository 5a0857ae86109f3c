/* Sixteen elements at a time by way of f32, which holds every value of these sources, and the rest of a row under a mask: part
 * of scatter_loops.h where it is compiled for AVX-512.
 *
 * Rows of crops end anywhere, and the loops that the compiler makes do what is left of them one by one: rows of 1 to 64
 * elements within the cache are 1.3 to 5 times as fast this way (bench_scatter mixed). */
enum { LANES = 16 };
/* The first `count` of them, less than LANES. */
DMC_ALWAYS_INLINE __mmask16 lanes_mask(uint64_t count)
{
    return (__mmask16)((1u << count) - 1);
}
DMC_ALWAYS_INLINE __mmask16 nan_lanes(__m512 values)
{
    return _mm512_cmpgt_epu32_mask(_mm512_and_si512(_mm512_castps_si512(values), _mm512_set1_epi32(0x7fffffff)),
                                   _mm512_set1_epi32((int)DMC_F32_INFINITY));
}
/* NaNs become the quiet ones of their signs. */
DMC_ALWAYS_INLINE __m512 quiet_lanes(__m512 values)
{
    const __m512i bits = _mm512_castps_si512(values), fraction = _mm512_set1_epi32(0x007fffff);
    __m512i quiet = _mm512_or_si512(_mm512_andnot_si512(fraction, bits), _mm512_set1_epi32(0x00400000));
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(bits, nan_lanes(values), quiet));
}
#define DMC_LANES_OF_INTEGERS(source, load, widen)                                                                             \
    DMC_ALWAYS_INLINE __m512 lanes_of_##source(const memory_##source *from, __mmask16 mask)                                    \
    {                                                                                                                          \
        return _mm512_cvtepi32_ps(widen(load(mask, from)));                                                                    \
    }
DMC_LANES_OF_INTEGERS(i8, _mm_maskz_loadu_epi8, _mm512_cvtepi8_epi32)
DMC_LANES_OF_INTEGERS(u8, _mm_maskz_loadu_epi8, _mm512_cvtepu8_epi32)
DMC_LANES_OF_INTEGERS(i16, _mm256_maskz_loadu_epi16, _mm512_cvtepi16_epi32)
DMC_LANES_OF_INTEGERS(u16, _mm256_maskz_loadu_epi16, _mm512_cvtepu16_epi32)
#undef DMC_LANES_OF_INTEGERS
DMC_ALWAYS_INLINE __m512 lanes_of_f16(const memory_f16 *from, __mmask16 mask)
{
    return quiet_lanes(_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, from)));
}
DMC_ALWAYS_INLINE __m512 lanes_of_bf16(const memory_bf16 *from, __mmask16 mask)
{
    return quiet_lanes(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from)), 16)));
}
DMC_ALWAYS_INLINE __m512 lanes_of_f32(const memory_f32 *from, __mmask16 mask)
{
    return quiet_lanes(_mm512_castsi512_ps(_mm512_maskz_loadu_epi32(mask, from)));
}
DMC_ALWAYS_INLINE void lanes_to_f32(memory_f32 *to, __mmask16 mask, __m512 values)
{
    _mm512_mask_storeu_epi32(to, mask, _mm512_castps_si512(values));
}
DMC_ALWAYS_INLINE __m256i lanes_as_f16(__m512 values)
{
    return _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
DMC_ALWAYS_INLINE void lanes_to_f16(memory_f16 *to, __mmask16 mask, __m512 values)
{
    _mm256_mask_storeu_epi16(to, mask, lanes_as_f16(values));
}
/* Half a unit less one, and the unit's own bit, which makes a half even. A quiet NaN stays what it is. */
DMC_ALWAYS_INLINE __m256i lanes_as_bf16(__m512 values)
{
    const __m512i bits = _mm512_castps_si512(values), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}
DMC_ALWAYS_INLINE void lanes_to_bf16(memory_bf16 *to, __mmask16 mask, __m512 values)
{
    _mm256_mask_storeu_epi16(to, mask, lanes_as_bf16(values));
}

#if defined(DMC_STREAM)
/* Up to the first line of the target that is written whole, then whole lines around the cache, then the rest. Head and tail
 * share their lines with other rows and are written as usual, but not under a mask, which some processors are slow to join with
 * what goes around the cache: by halves, quarters and so on, which are the same for all rows of most pieces. Pieces of 1 to 64
 * columns take up to a third less so than with heads and tails one by one (bench_scatter mixed, avx512-s and avx2-s). */
DMC_ALWAYS_INLINE void store_part(void *to, __m512i line, uint64_t bytes, uint64_t item_bytes)
{
    char *at = to;
    __m256i half = _mm512_castsi512_si256(line);
    if (bytes & 32) {
        _mm256_storeu_si256((__m256i *)at, half);
        at += 32;
        half = _mm512_extracti64x4_epi64(line, 1);
    }
    __m128i quarter = _mm256_castsi256_si128(half);
    if (bytes & 16) {
        _mm_storeu_si128((__m128i *)at, quarter);
        at += 16;
        quarter = _mm256_extracti128_si256(half, 1);
    }
    uint64_t word = (uint64_t)_mm_cvtsi128_si64(quarter);
    if (bytes & 8) {
        *(memory_u64 *)at = word;
        at += 8;
        word = (uint64_t)_mm_extract_epi64(quarter, 1);
    }
    if (bytes & 4) {
        *(memory_u32 *)at = (uint32_t)word;
        at += 4;
        word >>= 32;
    }
    if (item_bytes <= 2 && (bytes & 2)) {
        *(memory_u16 *)at = (uint16_t)word;
        at += 2;
        word >>= 16;
    }
    if (item_bytes == 1 && (bytes & 1))
        *(memory_u8 *)at = (uint8_t)word;
}
#define DMC_LINE_OF_LANES(output, group)                                                                                       \
    DMC_ALWAYS_INLINE void part_to_##output(memory_##output *to, uint64_t count, __m512 values)                                \
    {                                                                                                                          \
        store_part(to, group(values, values), count * sizeof *to, sizeof *to);                                                 \
    }                                                                                                                          \
    DMC_ALWAYS_INLINE void line_to_##output(memory_##output *to, __m512 first, __m512 second)                                  \
    {                                                                                                                          \
        _mm512_stream_si512((__m512i *)to, group(first, second));                                                              \
    }
/* A line is one group of lanes, or two of halves. */
DMC_ALWAYS_INLINE __m512i line_of_f32(__m512 first, __m512 second)
{
    (void)second;
    return _mm512_castps_si512(first);
}
DMC_ALWAYS_INLINE __m512i line_of_f16(__m512 first, __m512 second)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(lanes_as_f16(first)), lanes_as_f16(second), 1);
}
DMC_ALWAYS_INLINE __m512i line_of_bf16(__m512 first, __m512 second)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(lanes_as_bf16(first)), lanes_as_bf16(second), 1);
}
DMC_LINE_OF_LANES(f32, line_of_f32)
DMC_LINE_OF_LANES(f16, line_of_f16)
DMC_LINE_OF_LANES(bf16, line_of_bf16)
#undef DMC_LINE_OF_LANES
/* Bytes as they are; the target of items may begin at an odd one. */
DMC_ALWAYS_INLINE void stream_bytes(memory_u8 *restrict to, const memory_u8 *restrict from, uint64_t bytes)
{
    uint64_t i = 0, head = stream_head(to, bytes, 1);
    if (head < bytes) {
        if (head)
            store_part(to, _mm512_maskz_loadu_epi8(((__mmask64)1 << head) - 1, from), head, 1);
        for (i = head; bytes - i >= LINE_BYTES; i += LINE_BYTES)
            _mm512_stream_si512((__m512i *)(to + i), _mm512_loadu_si512(from + i));
    }
    for (; bytes - i >= LINE_BYTES; i += LINE_BYTES)
        _mm512_storeu_si512(to + i, _mm512_loadu_si512(from + i));
    if (i < bytes)
        store_part(to + i, _mm512_maskz_loadu_epi8(((__mmask64)1 << (bytes - i)) - 1, from + i), bytes - i, 1);
}
#define DMC_LANES_LINE(s, o)                                                                                                   \
    DMC_ALWAYS_INLINE void line_##s##_##o(memory_##o *restrict target, const memory_##s *restrict source, uint64_t columns)    \
    {                                                                                                                          \
        const __mmask16 all = (__mmask16)-1;                                                                                   \
        const uint64_t line = LINE_BYTES / sizeof(*target);                                                                    \
        uint64_t i = 0, head = stream_head(target, columns, sizeof(*target));                                                  \
        if (head < columns) {                                                                                                  \
            for (; head - i >= LANES; i += LANES)                                                                              \
                lanes_to_##o(target + i, all, lanes_of_##s(source + i, all));                                                  \
            if (i < head)                                                                                                      \
                part_to_##o(target + i, head - i, lanes_of_##s(source + i, lanes_mask(head - i)));                             \
            for (i = head; columns - i >= line; i += line)                                                                     \
                line_to_##o(target + i, lanes_of_##s(source + i, all),                                                         \
                            line > LANES ? lanes_of_##s(source + i + LANES, all) : _mm512_setzero_ps());                       \
        }                                                                                                                      \
        for (; columns - i >= LANES; i += LANES)                                                                               \
            lanes_to_##o(target + i, all, lanes_of_##s(source + i, all));                                                      \
        if (i < columns)                                                                                                       \
            part_to_##o(target + i, columns - i, lanes_of_##s(source + i, lanes_mask(columns - i)));                           \
    }
#define DMC_LANES_ROWS DMC_ROWS
#else
/* The rows of a piece lie apart in the target, and what foresees addresses stops at each gap. So the next rows are asked for;
 * of long rows only the beginnings would be missed. A tenth to a fifth less time where the target is in none of the core's
 * caches; half as much again where all of it is, but so small a batch has other costs (bench_scatter mixed, stream and cache).
 */
enum { AHEAD_ROWS = 8, AHEAD_ROW_BYTES = 1024, AHEAD_LINE_BYTES = 64 };
DMC_ALWAYS_INLINE void ask_for_row(const char *row, uint64_t bytes)
{
    const char *end = row + bytes;
    for (row -= (uintptr_t)row % AHEAD_LINE_BYTES; row < end; row += AHEAD_LINE_BYTES)
        __builtin_prefetch(row, 0, 2); /* into the core's second cache; for writing into the first is slower on some */
}
#define DMC_LANES_ROWS(function, line, source_type, output_type, begin, end)                                                   \
    DMC_ROWS_EACH(function, line, source_type, output_type, const uint64_t bytes = columns * sizeof(dmc_bits_##output_type);   \
                  uint64_t asked = bytes <= AHEAD_ROW_BYTES ? 0 : rows;                                                        \
                  begin,                                                                                                       \
                  for (; asked < rows && asked <= row + AHEAD_ROWS; asked++)                                                   \
                      ask_for_row((const char *)target + (int64_t)asked * target_row, bytes),                                  \
                  end)
#define DMC_LANES_LINE(s, o)                                                                                                   \
    DMC_ALWAYS_INLINE void line_##s##_##o(memory_##o *restrict target, const memory_##s *restrict source, uint64_t columns)    \
    {                                                                                                                          \
        const __mmask16 all = (__mmask16)-1;                                                                                   \
        uint64_t i = 0;                                                                                                        \
        for (; columns - i >= LANES; i += LANES)                                                                               \
            lanes_to_##o(target + i, all, lanes_of_##s(source + i, all));                                                      \
        if (i < columns)                                                                                                       \
            lanes_to_##o(target + i, lanes_mask(columns - i), lanes_of_##s(source + i, lanes_mask(columns - i)));              \
    }
#endif
#define DMC_LANES(s, o)                                                                                                        \
    DMC_LANES_LINE(s, o)                                                                                                       \
    DMC_LANES_ROWS(rows_##s##_##o, line_##s##_##o, s, o, DMC_FLOAT_BEGIN, DMC_FLOAT_END)
