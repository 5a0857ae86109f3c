// Around a library that decodes streams: what it wants to be told, what it said, and the checksums that come with gzip and zlib.
#pragma once
#include "gd_lane.cuh"

namespace dmc_gd {

// The arrays behind a list of streams: see DMC_GD_FOREIGN_ARRAYS in decode_desc.h.
struct ForeignArrays {
    u64 *sources, *source_bytes, *capacities, *decoded, *targets;
    u32 *statuses;
};
DMC_DEVICE ForeignArrays foreign_arrays(const dmc_gd_job &job)
{
    u64 *first = at<u64>(job.table + DMC_GD_FOREIGN_ARRAYS(job.list, job.count));
    const u64 n = job.count;
    return ForeignArrays{first, first + n, first + 2 * n, first + 3 * n, first + 4 * n, (u32 *)(first + 5 * n)};
}

// ---- CRC-32, bits reflected: polynomials over GF(2), the term of degree 0 in bit 31 ----

static const u32 CRC_POLYNOMIAL = 0xEDB88320u;

// a * b modulo the polynomial.
DMC_DEVICE u32 crc_product(u32 a, u32 b)
{
    u32 product = 0;
    for (u32 i = 0; i < 32; ++i) {
        product ^= b & (0u - (a >> 31));
        a <<= 1;
        b = b >> 1 ^ (CRC_POLYNOMIAL & (0u - (b & 1)));
    }
    return product;
}
// `table`: shared, 1024 words: what each value of a byte does, for four bytes; `powers`: shared, 32 words: x^(8 * 2^k). By a whole
// block of 256 threads or more.
DMC_DEVICE void crc_tables(u32 *table, u32 *powers, u32 t)
{
    if (t < 256) {
        u32 v = t;
        for (u32 i = 0; i < 8; ++i)
            v = v >> 1 ^ (CRC_POLYNOMIAL & (0u - (v & 1)));
        table[t] = v;
    }
    if (t == 0) {
        u32 power = 1u << 23; // x^8
        for (u32 k = 0; k < 32; ++k) {
            powers[k] = power;
            power = crc_product(power, power);
        }
    }
    __syncthreads();
    if (t < 256) {
        u32 v = table[t];
        for (u32 k = 1; k < 4; ++k) {
            v = v >> 8 ^ table[v & 255];
            table[256 * k + t] = v;
        }
    }
    __syncthreads();
}
// Of [p, p + bytes), going on from `crc`.
DMC_DEVICE u32 crc_bytes(const u32 *table, u32 crc, const u8 *p, u32 bytes)
{
    u32 i = 0;
    for (; i + 4 <= bytes; i += 4) {
        crc ^= load4(p + i);
        crc = table[768 + (crc & 255)] ^ table[512 + (crc >> 8 & 255)] ^ table[256 + (crc >> 16 & 255)] ^ table[crc >> 24];
    }
    for (; i < bytes; ++i)
        crc = crc >> 8 ^ table[(crc ^ p[i]) & 255];
    return crc;
}
// What becomes of `crc` when so many zero bytes follow.
DMC_DEVICE u32 crc_shift(const u32 *powers, u32 crc, u32 bytes)
{
    for (u32 k = 0; bytes; ++k, bytes >>= 1)
        if (bytes & 1)
            crc = crc_product(crc, powers[k]);
    return crc;
}

// ---- Adler-32 ----

static const u32 ADLER_BASE = 65521;

// Sum of the bytes, and of what each adds to the second sum by the end of all.
struct AdlerSums {
    u32 first, second; // modulo ADLER_BASE
};
DMC_DEVICE AdlerSums adler_bytes(const u8 *p, u32 bytes, u32 bytes_behind)
{
    u64 first = 0, second = 0;
    for (u32 i = 0; i < bytes; ++i) { // 2^22 bytes a thread at most: far from 64 bits
        first += p[i];
        second += first;
    }
    second += first % ADLER_BASE * bytes_behind;
    return AdlerSums{(u32)(first % ADLER_BASE), (u32)(second % ADLER_BASE)};
}

} // namespace dmc_gd
