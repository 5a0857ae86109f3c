/* Sixteen elements at a time by way of f32, which holds every value of these sources, and the rest of a row under a mask: part
 * of scatter_loops.h where it is compiled for AVX-512.
 *
 * Rows of crops end anywhere, and the loops that the compiler makes do what is left of them one by one: rows of 1 to 64
 * elements are 1.3 to 4 times as fast this way (bench_scatter mixed). */
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
DMC_ALWAYS_INLINE void lanes_to_f16(memory_f16 *to, __mmask16 mask, __m512 values)
{
    _mm256_mask_storeu_epi16(to, mask, _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
/* Half a unit less one, and the unit's own bit, which makes a half even. A quiet NaN stays what it is. */
DMC_ALWAYS_INLINE void lanes_to_bf16(memory_bf16 *to, __mmask16 mask, __m512 values)
{
    const __m512i bits = _mm512_castps_si512(values), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    _mm256_mask_storeu_epi16(to, mask, _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}
#define DMC_LANES(s, o)                                                                                                        \
    DMC_ALWAYS_INLINE void line_##s##_##o(memory_##o *restrict target, const memory_##s *restrict source, uint64_t columns)    \
    {                                                                                                                          \
        enum { LANES = 16 };                                                                                                   \
        const __mmask16 all = (__mmask16)-1;                                                                                   \
        uint64_t i = 0;                                                                                                        \
        for (; columns - i >= LANES; i += LANES)                                                                               \
            lanes_to_##o(target + i, all, lanes_of_##s(source + i, all));                                                      \
        if (i < columns) {                                                                                                     \
            __mmask16 rest = (__mmask16)((1u << (columns - i)) - 1);                                                           \
            lanes_to_##o(target + i, rest, lanes_of_##s(source + i, rest));                                                    \
        }                                                                                                                      \
    }                                                                                                                          \
    DMC_ROWS(rows_##s##_##o, line_##s##_##o, s, o, DMC_FLOAT_BEGIN, DMC_FLOAT_END)
