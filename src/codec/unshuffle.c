#include "codec/unshuffle.h"
#include <string.h>

/* Elements a tile: few enough for the tile to stay in the first-level cache. A row of bits gives 64 bytes of a tile, a whole
 * cache line: rows often lie a power of two apart, so that their lines evict one another before a second visit. */
#define TILE 512

/* Not inlined: within avx2_bytes() gcc 12 makes this loop half as fast (bench_codec, typesize 3). */
__attribute__((noinline)) static void plain_bytes(const uint8_t *const *planes, size_t typesize, size_t begin, size_t end,
                                                  uint8_t *target)
{
    if (typesize == 1) {
        memcpy(target + begin, planes[0] + begin, end - begin);
        return;
    }
    for (size_t tile = begin; tile < end; tile += TILE) {
        size_t tile_end = end - tile < TILE ? end : tile + TILE;
        for (size_t b = 0; b < typesize; b++) {
            const uint8_t *plane = planes[b];
            uint8_t *to = target + tile * typesize + b;
            for (size_t i = tile; i < tile_end; i++, to += typesize)
                *to = plane[i];
        }
    }
}

/* Byte k of x is row k; byte i of the result is column i (its bit k from row k). */
static inline uint64_t transpose_bits(uint64_t x)
{
    uint64_t t = (x ^ (x >> 7)) & 0x00aa00aa00aa00aau;
    x ^= t ^ (t << 7);
    t = (x ^ (x >> 14)) & 0x0000cccc0000ccccu;
    x ^= t ^ (t << 14);
    t = (x ^ (x >> 28)) & 0x00000000f0f0f0f0u;
    return x ^ t ^ (t << 28);
}

static void plain_bits(const uint8_t *const *planes, size_t typesize, size_t elements, size_t begin, size_t end,
                       uint8_t *target)
{
    size_t row_bytes = elements / 8;
    for (size_t group = begin / 8; group < end / 8; group++) {
        for (size_t b = 0; b < typesize; b++) {
            const uint8_t *row = planes[b] + group;
            uint8_t *to = target + group * 8 * typesize + b;
            uint64_t x = 0;
            for (size_t k = 0; k < 8; k++)
                x |= (uint64_t)row[k * row_bytes] << 8 * k;
            x = transpose_bits(x);
            for (size_t i = 0; i < 8; i++, to += typesize)
                *to = (uint8_t)(x >> 8 * i);
        }
    }
}

const struct dmc_unshuffle_ops dmc_unshuffle_plain = {plain_bytes, plain_bits};

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define AVX2_INLINE __attribute__((target("avx2"), always_inline)) static inline

AVX2_INLINE __m256i load(const uint8_t *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}
AVX2_INLINE void store(uint8_t *to, __m256i value)
{
    _mm256_storeu_si256((__m256i *)to, value);
}

AVX2_INLINE void store_half(uint8_t *to, __m128i value)
{
    uint64_t low = (uint64_t)_mm_cvtsi128_si64(value);
    memcpy(to, &low, sizeof low);
}

/* The unpack instructions work in each half of a register by itself, so that the pieces of low and high halves come out apart.
 * The last step of each function below puts all low halves, then all high halves, in order. */

/* 32 elements of 2 bytes. */
AVX2_INLINE void interleave_2(__m256i a, __m256i b, uint8_t *to)
{
    __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
    store(to, _mm256_permute2x128_si256(low, high, 0x20));
    store(to + 32, _mm256_permute2x128_si256(low, high, 0x31));
}

/* 32 elements of 4 bytes. */
AVX2_INLINE void interleave_4(const __m256i p[4], uint8_t *to)
{
    __m256i a = _mm256_unpacklo_epi8(p[0], p[1]), b = _mm256_unpackhi_epi8(p[0], p[1]);
    __m256i c = _mm256_unpacklo_epi8(p[2], p[3]), d = _mm256_unpackhi_epi8(p[2], p[3]);
    __m256i e = _mm256_unpacklo_epi16(a, c), f = _mm256_unpackhi_epi16(a, c);
    __m256i g = _mm256_unpacklo_epi16(b, d), h = _mm256_unpackhi_epi16(b, d);
    store(to, _mm256_permute2x128_si256(e, f, 0x20));
    store(to + 32, _mm256_permute2x128_si256(g, h, 0x20));
    store(to + 64, _mm256_permute2x128_si256(e, f, 0x31));
    store(to + 96, _mm256_permute2x128_si256(g, h, 0x31));
}

/* 32 elements of 8 bytes, in registers: out[i] holds, in its low half, elements 2i and 2i + 1, in its high half those + 16. */
AVX2_INLINE void interleave_8_halves(const __m256i p[8], __m256i out[8])
{
    __m256i a[8], b[8];
    for (int i = 0; i < 4; i++) {
        a[i] = _mm256_unpacklo_epi8(p[2 * i], p[2 * i + 1]);     /* pairs of bytes of elements 0-7 */
        a[4 + i] = _mm256_unpackhi_epi8(p[2 * i], p[2 * i + 1]); /* 8-15 */
    }
    for (int i = 0; i < 2; i++) {
        b[i] = _mm256_unpacklo_epi16(a[2 * i], a[2 * i + 1]);             /* half elements 0-3 */
        b[2 + i] = _mm256_unpackhi_epi16(a[2 * i], a[2 * i + 1]);         /* 4-7 */
        b[4 + i] = _mm256_unpacklo_epi16(a[4 + 2 * i], a[4 + 2 * i + 1]); /* 8-11 */
        b[6 + i] = _mm256_unpackhi_epi16(a[4 + 2 * i], a[4 + 2 * i + 1]); /* 12-15 */
    }
    for (int i = 0; i < 4; i++) {
        out[2 * i] = _mm256_unpacklo_epi32(b[2 * i], b[2 * i + 1]);
        out[2 * i + 1] = _mm256_unpackhi_epi32(b[2 * i], b[2 * i + 1]);
    }
}

AVX2_INLINE void interleave_8(const __m256i p[8], uint8_t *to)
{
    __m256i h[8];
    interleave_8_halves(p, h);
    for (int i = 0; i < 4; i++) {
        store(to + 32 * i, _mm256_permute2x128_si256(h[2 * i], h[2 * i + 1], 0x20));
        store(to + 128 + 32 * i, _mm256_permute2x128_si256(h[2 * i], h[2 * i + 1], 0x31));
    }
}

AVX2 static void avx2_bytes_2(const uint8_t *const *planes, size_t begin, size_t vector_end, uint8_t *target)
{
    const uint8_t *a = planes[0], *b = planes[1];
    for (size_t i = begin; i < vector_end; i += 32)
        interleave_2(load(a + i), load(b + i), target + 2 * i);
}

AVX2 static void avx2_bytes_4(const uint8_t *const *planes, size_t begin, size_t vector_end, uint8_t *target)
{
    for (size_t i = begin; i < vector_end; i += 32) {
        __m256i p[4];
        for (int b = 0; b < 4; b++)
            p[b] = load(planes[b] + i);
        interleave_4(p, target + 4 * i);
    }
}

AVX2 static void avx2_bytes_8(const uint8_t *const *planes, size_t begin, size_t vector_end, uint8_t *target)
{
    for (size_t i = begin; i < vector_end; i += 32) {
        __m256i p[8];
        for (int b = 0; b < 8; b++)
            p[b] = load(planes[b] + i);
        interleave_8(p, target + 8 * i);
    }
}

/* 8 planes of a longer element: 8 bytes at a time, `typesize` apart. */
AVX2 static void avx2_bytes_8_of(const uint8_t *const *planes, size_t typesize, size_t begin, size_t vector_end,
                                 uint8_t *target)
{
    for (size_t i = begin; i < vector_end; i += 32) {
        __m256i p[8], h[8];
        for (int b = 0; b < 8; b++)
            p[b] = load(planes[b] + i);
        interleave_8_halves(p, h);
        uint8_t *to = target + i * typesize;
        for (size_t k = 0; k < 8; k++) {
            __m128i low = _mm256_castsi256_si128(h[k]), high = _mm256_extracti128_si256(h[k], 1);
            store_half(to + 2 * k * typesize, low);
            store_half(to + (2 * k + 1) * typesize, _mm_unpackhi_epi64(low, low));
            store_half(to + (2 * k + 16) * typesize, high);
            store_half(to + (2 * k + 17) * typesize, _mm_unpackhi_epi64(high, high));
        }
    }
}

static void avx2_bytes(const uint8_t *const *planes, size_t typesize, size_t begin, size_t end, uint8_t *target)
{
    size_t vector_end = begin + (end - begin) / 32 * 32;
    switch (typesize) {
    case 2:
        avx2_bytes_2(planes, begin, vector_end, target);
        break;
    case 4:
        avx2_bytes_4(planes, begin, vector_end, target);
        break;
    case 8:
        avx2_bytes_8(planes, begin, vector_end, target);
        break;
    default:
        if (typesize % 8 == 0) { /* in tiles, so that what one pass over 8 planes wrote is still near for the next */
            for (size_t tile = begin; tile < vector_end; tile += TILE) {
                size_t tile_end = vector_end - tile < TILE ? vector_end : tile + TILE;
                for (size_t b = 0; b < typesize; b += 8)
                    avx2_bytes_8_of(planes + b, typesize, tile, tile_end, target + b);
            }
        } else {
            vector_end = begin;
        }
    }
    plain_bytes(planes, typesize, vector_end, end, target);
}

/* Exchange the bits `mask << shift` of a with the bits `mask` of b. */
#define SWAP_BITS(a, b, shift, mask)                                                                                           \
    do {                                                                                                                       \
        __m256i swap_ = _mm256_and_si256(_mm256_xor_si256(_mm256_srli_epi16((a), (shift)), (b)), _mm256_set1_epi8(mask));      \
        (b) = _mm256_xor_si256((b), swap_);                                                                                    \
        (a) = _mm256_xor_si256((a), _mm256_slli_epi16(swap_, (shift)));                                                        \
    } while (0)

/* One byte of half a tile, 256 elements, from its 8 rows of 32 bytes. Three rounds of exchanges between registers transpose
 * every 8x8 bits at once; afterwards register i holds the elements i, 8 + i, 16 + i, ..., and the interleaving of 8 planes
 * orders them. */
AVX2_INLINE void gather_bits(const uint8_t *rows, size_t row_bytes, uint8_t *to)
{
    __m256i r[8];
    for (size_t k = 0; k < 8; k++)
        r[k] = load(rows + k * row_bytes);
    for (int i = 0; i < 4; i++)
        SWAP_BITS(r[i], r[i + 4], 4, 0x0f);
    for (int i = 0; i < 8; i += 4) {
        SWAP_BITS(r[i], r[i + 2], 2, 0x33);
        SWAP_BITS(r[i + 1], r[i + 3], 2, 0x33);
    }
    for (int i = 0; i < 8; i += 2)
        SWAP_BITS(r[i], r[i + 1], 1, 0x55);
    interleave_8(r, to);
}

AVX2 static void avx2_bits(const uint8_t *const *planes, size_t typesize, size_t elements, size_t begin, size_t end,
                           uint8_t *target)
{
    enum { TYPESIZE_MAX = 16 }; /* longer elements are too rare for 64 KiB of stack */
    uint8_t tile[TYPESIZE_MAX][TILE];
    const uint8_t *tile_planes[TYPESIZE_MAX];
    size_t vector_end = typesize <= TYPESIZE_MAX ? begin + (end - begin) / TILE * TILE : begin;
    for (size_t b = 0; b < typesize && b < TYPESIZE_MAX; b++)
        tile_planes[b] = tile[b];
    for (size_t i = begin; i < vector_end; i += TILE) {
        if (typesize == 1) {
            gather_bits(planes[0] + i / 8, elements / 8, target + i);
            gather_bits(planes[0] + i / 8 + 32, elements / 8, target + i + TILE / 2);
            continue;
        }
        for (size_t b = 0; b < typesize; b++) {
            gather_bits(planes[b] + i / 8, elements / 8, tile[b]);
            gather_bits(planes[b] + i / 8 + 32, elements / 8, tile[b] + TILE / 2);
        }
        avx2_bytes(tile_planes, typesize, 0, TILE, target + i * typesize);
    }
    plain_bits(planes, typesize, elements, vector_end, end, target);
}

static const struct dmc_unshuffle_ops avx2_ops = {avx2_bytes, avx2_bits};
#endif

const struct dmc_unshuffle_ops *dmc_unshuffle_best(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        return &avx2_ops;
#endif
    return &dmc_unshuffle_plain;
}
