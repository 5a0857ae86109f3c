// What is small next to zstd: lz4 streams, checksums, and the undoing of blosc's shuffles.
#pragma once
#include "gd_execute.cuh"

namespace dmc_gd {

// ---- lz4 ----
// All lanes read the tokens of 32 sequences, one after another, and each keeps its own; then the warp copies them together.

static const u32 LZ4_MATCH_MIN = 4, LZ4_LAST_LITERALS = 5;

// A length above its four bits: bytes are added until one is not 255. False if the stream ends, or it passes `limit`.
DMC_DEVICE bool lz4_length(const u8 *s, u32 bytes, u32 *p, u32 *length, u32 limit)
{
    for (u32 x = 255; x == 255;) {
        if (*p >= bytes || *length > limit)
            return false;
        x = s[(*p)++];
        *length += x;
    }
    return true;
}

DMC_DEVICE u32 lz4_decode(const dmc_gd_job &job, const dmc_gd_stream &stream, u32 lane)
{
    const u8 *s = at<const u8>(stream.source);
    u8 *target = target_of<u8>(job, stream.target, stream.in_scratch);
    const u32 bytes = stream.source_bytes, size = stream.target_bytes;
    const bool part = stream.need_bytes < size;
    u32 p = 0, op = 0;
    for (bool done = false; !done;) {
        Sequence q;
        q.on = false, q.literals = 0, q.match = 0, q.offset = 0, q.place = op, q.source = s;
        const u32 start = op;
        {   // The lines to come, asked for by all lanes at once: one after another they would cost a trip to memory each.
            u32 line = p + 128 * lane;
            u32 touched = lane < 4 && line < bytes ? ((const volatile u8 *)s)[line] : 0;
            (void)touched;
        }
        for (u32 k = 0; k < 32; ++k) {
            if (p >= bytes)
                return DMC_CUDA_STATUS_LZ4;
            u32 token = s[p++], L = token >> 4, M = token & 15, offset = 0;
            if (L == 15 && !lz4_length(s, bytes, &p, &L, size))
                return DMC_CUDA_STATUS_LZ4;
            if (L > bytes - p || L > size - op)
                return DMC_CUDA_STATUS_LZ4;
            const u32 place = op, literals_at = p;
            p += L, op += L;
            if (p == bytes) { // the last sequence is literals only
                if (op != size)
                    return DMC_CUDA_STATUS_LZ4;
                done = true, M = 0;
            } else {
                if (bytes - p < 2)
                    return DMC_CUDA_STATUS_LZ4;
                offset = s[p] | (u32)s[p + 1] << 8, p += 2;
                if (M == 15 && !lz4_length(s, bytes, &p, &M, size))
                    return DMC_CUDA_STATUS_LZ4;
                M += LZ4_MATCH_MIN;
                if (offset == 0 || offset > op || size - op < LZ4_LAST_LITERALS || M > size - op - LZ4_LAST_LITERALS)
                    return DMC_CUDA_STATUS_LZ4;
                op += M;
                done = part && op >= stream.need_bytes;
            }
            if (lane == k)
                q.on = true, q.literals = L, q.match = M, q.offset = offset, q.place = place, q.source = s + literals_at;
            if (done)
                break;
        }
        warp_execute(target, q, start, false, lane);
    }
    return DMC_CUDA_STATUS_OK;
}

// ---- XXH64 ----

static const u64 XXH_1 = 0x9E3779B185EBCA87ull, XXH_2 = 0xC2B2AE3D27D4EB4Full, XXH_3 = 0x165667B19E3779F9ull;
static const u64 XXH_4 = 0x85EBCA77C2B2AE63ull, XXH_5 = 0x27D4EB2F165667C5ull;

DMC_DEVICE u64 rotate_left(u64 v, u32 n) { return v << n | v >> (64 - n); }
DMC_DEVICE u64 xxh_round(u64 sum, u64 product) { return rotate_left(sum + product, 31) * XXH_1; }
DMC_DEVICE u64 load8(const u8 *p) { return load4(p) | (u64)load4(p + 4) << 32; }

// By a warp; four lanes keep the four sums, all load and multiply. The result is right in all lanes.
DMC_DEVICE u64 xxh64(const u8 *p, u32 bytes, u32 lane)
{
    u64 sum = (lane & 3) == 0 ? XXH_1 + XXH_2 : (lane & 3) == 1 ? XXH_2 : (lane & 3) == 2 ? 0 : 0 - XXH_1;
    u32 stripes = bytes / 32;
    u64 next = lane / 4 < stripes ? load8(p + 8 * lane) : 0;
    for (u32 i = 0; i < stripes; i += 8) {
        u64 product = next * XXH_2;
        if (i + 8 + lane / 4 < stripes)
            next = load8(p + 32ull * (i + 8) + 8 * lane);
        u32 lo = (u32)product, hi = (u32)(product >> 32), n = minu(8, stripes - i);
        for (u32 k = 0; k < n; ++k) {
            u32 from = 4 * k + (lane & 3);
            sum = xxh_round(sum, __shfl_sync(ALL, lo, (int)from) | (u64)__shfl_sync(ALL, hi, (int)from) << 32);
        }
    }
    u64 sums[4];
    for (u32 k = 0; k < 4; ++k)
        sums[k] = __shfl_sync(ALL, (u32)sum, (int)k) | (u64)__shfl_sync(ALL, (u32)(sum >> 32), (int)k) << 32;
    u64 h = XXH_5;
    if (stripes) {
        h = rotate_left(sums[0], 1) + rotate_left(sums[1], 7) + rotate_left(sums[2], 12) + rotate_left(sums[3], 18);
        for (u32 k = 0; k < 4; ++k)
            h = (h ^ xxh_round(0, sums[k] * XXH_2)) * XXH_1 + XXH_4;
    }
    h += bytes;
    u32 place = stripes * 32;
    for (; place + 8 <= bytes; place += 8)
        h = rotate_left(h ^ xxh_round(0, load8(p + place) * XXH_2), 27) * XXH_1 + XXH_4;
    if (place + 4 <= bytes) {
        h = rotate_left(h ^ load4(p + place) * XXH_1, 23) * XXH_2 + XXH_3;
        place += 4;
    }
    for (; place < bytes; ++place)
        h = rotate_left(h ^ p[place] * XXH_5, 11) * XXH_1;
    h = (h ^ h >> 33) * XXH_2;
    h = (h ^ h >> 29) * XXH_3;
    return h ^ h >> 32;
}

// ---- shuffles ----

struct Quad {
    u32 v[4];
};
// Byte i of the result's word j = byte j of word i.
DMC_DEVICE Quad transpose_bytes(u32 a, u32 b, u32 c, u32 d)
{
    u32 ab0 = __byte_perm(a, b, 0x5140), ab1 = __byte_perm(a, b, 0x7362);
    u32 cd0 = __byte_perm(c, d, 0x5140), cd1 = __byte_perm(c, d, 0x7362);
    return Quad{{__byte_perm(ab0, cd0, 0x5410), __byte_perm(ab0, cd0, 0x7632), __byte_perm(ab1, cd1, 0x5410),
                 __byte_perm(ab1, cd1, 0x7632)}};
}
// Bit k of byte e = bit e of byte k.
DMC_DEVICE u64 transpose_bits(u64 x)
{
    u64 t = (x ^ x >> 7) & 0x00AA00AA00AA00AAull;
    x ^= t ^ t << 7;
    t = (x ^ x >> 14) & 0x0000CCCC0000CCCCull;
    x ^= t ^ t << 14;
    t = (x ^ x >> 28) & 0x00000000F0F0F0F0ull;
    return x ^ t ^ t << 28;
}

// Four elements' bytes number b and following ones, from the planes of a shuffled block.
DMC_DEVICE u32 byte_plane(const u8 *source, const dmc_gd_unfilter &f, u32 b, u32 element)
{
    return load4(source + (u64)b * f.elements + element);
}
// Eight elements' byte number b, from the planes of a bitshuffled block: byte e of the result is element e's.
DMC_DEVICE u64 bit_planes(const u8 *source, const dmc_gd_unfilter &f, u32 b, u32 element)
{
    u64 x = 0, plane = f.elements / 8;
    for (u32 k = 0; k < 8; ++k)
        x |= (u64)source[(8ull * b + k) * plane + element / 8] << 8 * k;
    return transpose_bits(x);
}

DMC_DEVICE void unfilter_bytes(const dmc_gd_unfilter &f, const u8 *source, u8 *target, u32 t, u32 threads)
{
    const u32 n = f.end - f.begin, size = f.typesize, quads = n / 4;
    u32 done = 0;
    if (((uintptr_t)target & 3) == 0 && (size == 2 || size % 4 == 0)) {
        for (u32 i = t; i < quads; i += threads) {
            u32 e = f.begin + 4 * i;
            u32 *d = (u32 *)(target + (u64)e * size);
            if (size == 2) {
                u32 a = byte_plane(source, f, 0, e), b = byte_plane(source, f, 1, e);
                d[0] = __byte_perm(a, b, 0x5140), d[1] = __byte_perm(a, b, 0x7362);
                continue;
            }
            for (u32 b = 0; b < size; b += 4) {
                Quad q = transpose_bytes(byte_plane(source, f, b, e), byte_plane(source, f, b + 1, e),
                                         byte_plane(source, f, b + 2, e), byte_plane(source, f, b + 3, e));
                for (u32 k = 0; k < 4; ++k)
                    d[(k * size + b) / 4] = q.v[k];
            }
        }
        done = 4 * quads;
    }
    for (u32 j = done * size + t; j < n * size; j += threads) {
        u32 e = f.begin + j / size, b = j % size;
        target[(u64)e * size + b] = source[(u64)b * f.elements + e];
    }
}

DMC_DEVICE void unfilter_bits(const dmc_gd_unfilter &f, const u8 *source, u8 *target, u32 t, u32 threads)
{
    const u32 groups = (f.end - f.begin) / 8, size = f.typesize;
    const bool words = ((uintptr_t)target & 3) == 0;
    for (u32 i = t; i < groups; i += threads) {
        u32 e = f.begin + 8 * i;
        u8 *d = target + (u64)e * size;
        if (words && size == 2) {
            u64 a = bit_planes(source, f, 0, e), b = bit_planes(source, f, 1, e);
            u32 *w = (u32 *)d;
            w[0] = __byte_perm((u32)a, (u32)b, 0x5140), w[1] = __byte_perm((u32)a, (u32)b, 0x7362);
            w[2] = __byte_perm((u32)(a >> 32), (u32)(b >> 32), 0x5140), w[3] = __byte_perm((u32)(a >> 32), (u32)(b >> 32), 0x7362);
        } else if (words && size % 4 == 0) {
            for (u32 b = 0; b < size; b += 4) {
                u64 p0 = bit_planes(source, f, b, e), p1 = bit_planes(source, f, b + 1, e);
                u64 p2 = bit_planes(source, f, b + 2, e), p3 = bit_planes(source, f, b + 3, e);
                Quad lo = transpose_bytes((u32)p0, (u32)p1, (u32)p2, (u32)p3);
                Quad hi = transpose_bytes((u32)(p0 >> 32), (u32)(p1 >> 32), (u32)(p2 >> 32), (u32)(p3 >> 32));
                for (u32 k = 0; k < 4; ++k) {
                    ((u32 *)d)[(k * size + b) / 4] = lo.v[k];
                    ((u32 *)d)[((k + 4) * size + b) / 4] = hi.v[k];
                }
            }
        } else {
            for (u32 b = 0; b < size; ++b) {
                u64 x = bit_planes(source, f, b, e);
                for (u32 k = 0; k < 8; ++k)
                    d[k * size + b] = (u8)(x >> 8 * k);
            }
        }
    }
}

} // namespace dmc_gd
