// Executing sequences: literals and matches become decoded bytes, 32 (a warp) or 1,024 (a thread block) sequences at a time.
//
// The serial stage left three bytes a sequence. Sums over these give every sequence its place in the bit stream, so that each
// lane finds one sequence's values by itself; sums over the lengths give the places of its bytes. What remains serial is short:
// the history of offsets, and matches whose source is made by the same group of sequences.
#pragma once
#include "gd_entropy.cuh"

namespace dmc_gd {

static const u32 LONG_COPY = 24;   // up to here a lane copies alone, above a whole warp
static const u32 BASELINES = CODES_LL + CODES_ML;

// Baseline | extra bits << 24 for all codes: literal lengths, then match lengths.
DMC_DEVICE void fill_baselines(u32 *baselines, u32 thread, u32 threads)
{
#pragma unroll 1
    for (u32 i = thread; i < BASELINES; i += threads)
        baselines[i] = i < CODES_LL ? ll_baseline(i) | ll_extra_bits(i) << 24
                                    : ml_baseline(i - CODES_LL) | ml_extra_bits(i - CODES_LL) << 24;
}

// The two words of the stream around the 32 bits below `bit`, counted from `base`; 0 where that is before base.
DMC_DEVICE void stream_words(const u8 *base, int bit, u32 *upper, u32 *lower)
{
    const u32 *w = (const u32 *)base;
    int q = (bit - 1) >> 5;
    *upper = q >= 0 ? w[q] : 0, *lower = q > 0 ? w[q - 1] : 0;
}
DMC_DEVICE u32 stream_bits_below(const u8 *base, int bit)
{
    u32 upper, lower;
    stream_words(base, bit, &upper, &lower);
    return funnel_left(lower, upper, (u32)-bit & 31);
}
// What the serial stage kept of sequence i, from two words: its bits in the lowest byte, then the two of its codes, then what
// belongs to the next one.
struct Kept {
    u32 low, high;
    DMC_DEVICE void load(const u8 *kept, u32 i)
    {
        const u32 *w = (const u32 *)(kept + (SEQUENCE_BYTES * i & ~3u));
        low = w[0], high = w[1];
    }
    DMC_DEVICE u32 word(u32 i) const { return funnel_right(low, high, 8 * (SEQUENCE_BYTES * i & 3)); }
};
// The values of the sequence of `word` that begins at `bit`; `bits` are the 32 below that. offset_value: as in the RFC.
DMC_DEVICE void sequence_values(u32 word, u32 bits, const u8 *base, int bit, const u32 *baselines, u32 *literals, u32 *match,
                                u32 *offset_value)
{
    u32 codes = word >> 8 & 0xffff, of = codes / (CODES_LL * CODES_ML), rest = codes - of * (CODES_LL * CODES_ML);
    u32 ml = rest / CODES_LL, ll = rest - ml * CODES_LL;
    u32 a = baselines[ll], b = baselines[CODES_LL + ml], ll_bits = a >> 24, ml_bits = b >> 24, ml_top, ll_top;
    if (of + ml_bits + ll_bits <= 32) {
        ml_top = of > 31 ? 0 : bits << of;
        ll_top = of + ml_bits > 31 ? 0 : bits << (of + ml_bits);
    } else {
        ml_top = stream_bits_below(base, bit - (int)of);
        ll_top = stream_bits_below(base, bit - (int)(of + ml_bits));
    }
    *offset_value = (1u << of) + top_bits(bits, of);
    *match = (b & 0xffffff) + top_bits(ml_top, ml_bits);
    *literals = (a & 0xffffff) + top_bits(ll_top, ll_bits);
}

DMC_DEVICE const u8 *literals_of(const dmc_gd_job &job, const dmc_gd_block &block)
{
    return block.literals_type >= DMC_GD_LITERALS_CODED ? at<const u8>(job.scratch + block.literals)
                                                       : at<const u8>(block.source) + block.literal_at;
}

// ---- by a warp, in global memory ----

// One sequence a lane, to be copied.
struct Sequence {
    u32 literals, match; // lengths
    u32 offset;
    u32 place;           // of its literals, from `out`
    const u8 *source;    // of its literals
    bool on;
};

// Eight bytes of a match, or its last `n`, to d. Loads are volatile: another lane may just have made these bytes.
DMC_DEVICE void match_copy8(u8 *d, const u8 *s, int n)
{
    u32 skew = (u32)(uintptr_t)s & 3;
    const volatile u32 *w = (const volatile u32 *)(s - skew);
    u32 w0 = w[0], w1 = skew + (u32)n > 4 ? w[1] : 0, w2 = skew + (u32)n > 8 ? w[2] : 0;
    store_upto8(d, funnel_right(w0, w1, 8 * skew), funnel_right(w1, w2, 8 * skew), n);
}

// Copy 32 sequences that follow one another. Every byte before out + start is there; `start` is the first lane's place.
// `repeat`: literals are all the byte *source.
DMC_DEVICE void warp_execute(u8 *out, const Sequence &q, u32 start, bool repeat, u32 lane)
{
    const u32 L = q.literals, M = q.match, offset = q.offset, op = q.place, mp = op + L;
    // Short literals, and short matches whose source ends before this group: first all loads, then the stores.
    bool ready = q.on && M <= LONG_COPY && (offset >= 8 || offset >= M) && (int)(mp - offset + minu(M, offset)) <= (int)start;
    bool short_literals = L && L <= LONG_COPY && !repeat;
    {
        const u8 *ls = q.source, *ms = out + ((long long)mp - (long long)offset);
        u32 la = (u32)(uintptr_t)ls & 3, ma = (u32)(uintptr_t)ms & 3, l0 = 0, l1 = 0, m0 = 0, m1 = 0, m2 = 0;
        if (short_literals) {
            l0 = ((const u32 *)(ls - la))[0];
            if (la + minu(L, 4) > 4)
                l1 = ((const u32 *)(ls - la))[1];
        }
        if (ready && M) {
            const volatile u32 *w = (const volatile u32 *)(ms - ma);
            m0 = w[0];
            if (ma + minu(M, 8) > 4)
                m1 = w[1];
            if (ma + minu(M, 8) > 8)
                m2 = w[2];
        }
        if (short_literals)
            store_upto8(out + op, funnel_right(l0, l1, 8 * la), 0, (int)minu(4, L));
        if (ready && M)
            store_upto8(out + mp, funnel_right(m0, m1, 8 * ma), funnel_right(m1, m2, 8 * ma), (int)minu(8, M));
        if (short_literals)
            for (u32 i = 4; i < L; i += 4) {
                u32 n = minu(4, L - i);
                const u32 *w = (const u32 *)(ls + i - la);
                u32 v0 = w[0], v1 = la + n > 4 ? w[1] : 0;
                store_upto8(out + op + i, funnel_right(v0, v1, 8 * la), 0, (int)n);
            }
        if (ready)
            for (u32 i = 8; i < M; i += 8)
                match_copy8(out + mp + i, ms + i, (int)minu(8, M - i));
    }
    if (repeat) {
        for (u32 i = 0; i < L; ++i)
            out[op + i] = *q.source;
    } else {
        u32 m = __ballot_sync(ALL, L > LONG_COPY);
        u32 lo = (u32)(u64)(uintptr_t)q.source, hi = (u32)((u64)(uintptr_t)q.source >> 32);
        while (m) {
            u32 x = (u32)__ffs((int)m) - 1;
            m &= m - 1;
            u64 from = __shfl_sync(ALL, lo, (int)x) | (u64)__shfl_sync(ALL, hi, (int)x) << 32;
            u32 to = __shfl_sync(ALL, op, (int)x), n = __shfl_sync(ALL, L, (int)x);
            warp_copy(out + to, at<const u8>(from), n, lane);
        }
    }
    // The others, in rounds: all whose source lies before the first one still open (with its own literals, which are there).
    __syncwarp();
    u32 open = __ballot_sync(ALL, q.on && !ready);
    while (open) {
        u32 first = (u32)__ffs((int)open) - 1, edge = __shfl_sync(ALL, mp, (int)first);
        int source_end = mini((int)(mp - offset + M), (int)op);
        bool go = (open >> lane & 1) && (source_end <= (int)edge || lane == first);
        if (go && M <= LONG_COPY) {
            u8 *d = out + mp;
            const u8 *s = out + ((long long)mp - (long long)offset);
            if (offset >= 8 || offset >= M)
                for (u32 i = 0; i < M; i += 8)
                    match_copy8(d + i, s + i, (int)minu(8, M - i));
            else
                for (u32 i = 0; i < M; ++i)
                    d[i] = ((const volatile u8 *)s)[i];
        }
        u32 m = __ballot_sync(ALL, go && M > LONG_COPY);
        while (m) {
            u32 x = (u32)__ffs((int)m) - 1;
            m &= m - 1;
            u32 n = __shfl_sync(ALL, M, (int)x), distance = __shfl_sync(ALL, offset, (int)x);
            u8 *d = out + __shfl_sync(ALL, mp, (int)x);
            warp_match(d, distance, n, lane);
        }
        open &= ~__ballot_sync(ALL, go);
        __syncwarp();
    }
}

// The last three offsets; the same in all lanes.
struct History {
    u32 r1, r2, r3;
    DMC_DEVICE void reset() { r1 = 1, r2 = 4, r3 = 8; }
};
// Offsets of `count` sequences from their values, and the history behind them.
DMC_DEVICE u32 warp_offsets(History &h, u32 value, bool no_literals, bool on, u32 count, u32 lane)
{
    u32 offset = value - 3, from = 0, repeats = __ballot_sync(ALL, on && value <= 3);
    for (;;) { // from one repeated offset to the next
        u32 x = repeats ? (u32)__ffs((int)repeats) - 1 : count, d = x - from;
        u32 a = __shfl_sync(ALL, offset, (int)(x - 1) & 31), b = __shfl_sync(ALL, offset, (int)(x - 2) & 31);
        u32 c = __shfl_sync(ALL, offset, (int)(x - 3) & 31);
        h.r3 = d > 2 ? c : d == 2 ? h.r1 : d == 1 ? h.r2 : h.r3;
        h.r2 = d > 1 ? b : d == 1 ? h.r1 : h.r2;
        h.r1 = d > 0 ? a : h.r1;
        if (!repeats)
            return offset;
        repeats &= repeats - 1;
        u32 code = __shfl_sync(ALL, value - 1 + (u32)no_literals, (int)x);
        u32 v = code == 0 ? h.r1 : code == 1 ? h.r2 : code == 2 ? h.r3 : h.r1 - 1;
        if (code > 1)
            h.r3 = h.r2;
        if (code > 0)
            h.r2 = h.r1, h.r1 = v;
        if (lane == x)
            offset = v;
        from = x + 1;
    }
}

// A unit by one warp; the target itself is the window. Returns a status.
DMC_DEVICE u32 execute_unit_warp(const dmc_gd_job &job, const dmc_gd_unit &unit, const u32 *baselines, u32 lane)
{
    u8 *target = target_of<u8>(job, unit.target, unit.in_scratch);
    const u32 size = unit.target_bytes, block_count = unit.block_count;
    const u32 stop = unit.need_bytes < size ? unit.need_bytes : ~0u; // once so many bytes are there
    u32 pos = 0, frame_at = 0;
    History history;
    history.reset();
    for (u32 k = 0; k < block_count && pos < stop; ++k) {
        const dmc_gd_block &b = *(block_at(job, unit.blocks) + k);
        if (b.frame_first)
            frame_at = pos, history.reset();
        const u32 left = size - pos, reach = pos - frame_at; // a match may go so far back behind this block's beginning
        if (b.type != DMC_GD_COMPRESSED) {
            if (b.raw_bytes > left)
                return DMC_CUDA_STATUS_LENGTH;
            const u8 *s = at<const u8>(b.source);
            if (b.type == DMC_GD_RAW)
                warp_copy(target + pos, s, b.raw_bytes, lane);
            else
                warp_fill(target + pos, s[0], b.raw_bytes, lane);
            pos += b.raw_bytes;
            __syncwarp();
            continue;
        }
        if (b.literals_placed) {
            if (b.literal_bytes > left)
                return DMC_CUDA_STATUS_LENGTH;
            pos += b.literal_bytes;
            continue;
        }
        const u8 *literals = literals_of(job, b);
        const bool repeat = b.literals_type == DMC_GD_LITERALS_RLE;
        u8 *out = target + pos;
        const u32 n = b.sequence_count, literal_bytes = b.literal_bytes, room = minu(left, DMC_GD_BLOCK_BYTES_MAX);
        const u8 *all_kept = at<const u8>(job.scratch + b.kept);
        const u8 *base = aligned_base(at<const u8>(b.source));
        int bit = b.first_bit + (int)(at<const u8>(b.source) - base) * 8;
        Kept kept = {0, 0}, kept_next = {0, 0};
        if (lane < n)
            kept.load(all_kept, lane);
        if (32 + lane < n)
            kept_next.load(all_kept, 32 + lane);
        u32 lpos = 0, opos = 0, word = kept.word(lane);
        u32 sum = inclusive_sum(word & 255, lane);
        int my_bit = bit - (int)(sum - (word & 255));
        bit -= (int)__shfl_sync(ALL, sum, 31);
        u32 upper = 0, lower = 0; // the stream's words for the group to come
        if (lane < n)
            stream_words(base, my_bit, &upper, &lower);
        for (u32 i0 = 0; i0 < n; i0 += 32) {
            Sequence q;
            u32 value = 4;
            q.on = i0 + lane < n, q.literals = 0, q.match = 0;
            if (q.on)
                sequence_values(word, funnel_left(lower, upper, (u32)-my_bit & 31), base, my_bit, baselines, &q.literals, &q.match,
                                &value);
            // The next group's words are asked for now.
            word = kept_next.word(lane), kept_next = {0, 0};
            if (i0 + 64 + lane < n)
                kept_next.load(all_kept, i0 + 64 + lane);
            sum = inclusive_sum(word & 255, lane);
            my_bit = bit - (int)(sum - (word & 255));
            bit -= (int)__shfl_sync(ALL, sum, 31);
            if (i0 + 32 + lane < n)
                stream_words(base, my_bit, &upper, &lower);
            u32 ls = inclusive_sum(q.literals, lane), os = inclusive_sum(q.literals + q.match, lane), start = opos;
            q.source = repeat ? literals : literals + (lpos + ls - q.literals);
            q.place = opos + os - q.literals - q.match;
            lpos += __shfl_sync(ALL, ls, 31), opos += __shfl_sync(ALL, os, 31);
            if (lpos > literal_bytes || opos > room)
                return DMC_CUDA_STATUS_LENGTH;
            q.offset = warp_offsets(history, value, q.literals == 0, q.on, minu(32, n - i0), lane);
            if (__any_sync(ALL, q.on && (q.offset == 0 || q.offset > reach + q.place + q.literals)))
                return DMC_CUDA_STATUS_OFFSET;
            warp_execute(out, q, start, repeat, lane);
            if (pos + opos >= stop)
                return DMC_CUDA_STATUS_OK;
        }
        u32 rest = literal_bytes - lpos;
        if (rest > room - opos)
            return DMC_CUDA_STATUS_LENGTH;
        if (repeat)
            warp_fill(out + opos, literals[0], rest, lane);
        else
            warp_copy(out + opos, literals + lpos, rest, lane);
        pos += opos + rest;
        __syncwarp();
    }
    return pos >= minu(stop, size) ? DMC_CUDA_STATUS_OK : DMC_CUDA_STATUS_LENGTH;
}

// ---- by a thread block ----
// The block being made lies in shared memory with a bit for each finished byte; each sequence copies as soon as the bits of its
// source are set, which is why warps may run far apart.

DMC_DEVICE void bits_set(u32 *map, u32 lo, u32 hi)
{
    u32 a = lo >> 5, z = (hi - 1) >> 5, first = ~0u << (lo & 31), last = ~0u >> (31 - ((hi - 1) & 31));
    if (a == z) {
        atomicOr(map + a, first & last);
    } else {
        atomicOr(map + a, first);
        for (u32 k = a + 1; k < z; ++k)
            atomicOr(map + k, ~0u);
        atomicOr(map + z, last);
    }
}
// Whether the bits [lo, hi) that fall into words `from`, `from` + step, ... are set.
DMC_DEVICE bool bits_are_set(const u32 *map, u32 lo, u32 hi, u32 from, u32 step)
{
    u32 a = lo >> 5, z = (hi - 1) >> 5, missing = 0;
    for (u32 k = a + from; k <= z; k += step) {
        u32 need = ALL;
        if (k == a)
            need &= ~0u << (lo & 31);
        if (k == z)
            need &= ~0u >> (31 - ((hi - 1) & 31));
        missing |= need & ~((const volatile u32 *)map)[k];
    }
    return !missing;
}

static const u32 WIDE = DMC_GD_EXECUTE_THREADS, WIDE_WARPS = WIDE / 32;

struct WideShared {
    u8 *bytes;      // the block being made: DMC_GD_WINDOW
    u32 *map;       // a bit a byte
    u32 *baselines; // 96
    u32 *offsets;   // WIDE: of plain sequences, 0 of those that repeat one
    u32 *resolved;  // WIDE: of those that repeat one
    u32 *history;   // 3 * WIDE: behind those that repeat one
    u32 *sums;      // 4 * 32 and 32 more
};

// Resolve the repeated offsets that depend on other repeated ones close by; serial, by one thread. Behind it, `late` lanes find
// theirs in `resolved`.
DMC_DEVICE void resolve_late(const WideShared &w, const History &h)
{
    for (u32 warp = 0; warp < WIDE_WARPS; ++warp)
        for (u32 m = w.sums[96 + warp]; m; m &= m - 1) {
            int x = (int)(warp * 32) + __ffs((int)m) - 1, d = 1;
            while (x - d >= 0 && w.offsets[x - d])
                ++d; // the nearest repeat before: at most 3 back
            int y = x - d;
            u32 a = y >= 0 ? w.history[3 * y] : h.r1, b = y >= 0 ? w.history[3 * y + 1] : h.r2;
            u32 c = y >= 0 ? w.history[3 * y + 2] : h.r3;
            for (int z = y + 1; z < x; ++z)
                c = b, b = a, a = w.offsets[z];
            u32 code = w.history[3 * x], v = code == 0 ? a : code == 1 ? b : code == 2 ? c : a - 1;
            w.resolved[x] = v;
            w.history[3 * x] = v, w.history[3 * x + 1] = code > 0 ? a : b, w.history[3 * x + 2] = code > 1 ? b : c;
        }
}
// The offset of this thread's sequence, and the history behind all `count`. Every thread of the block must come here.
DMC_DEVICE u32 wide_offsets(const WideShared &w, History &h, u32 value, bool no_literals, u32 count, u32 t)
{
    const u32 lane = t & 31, warp = t / 32;
    u32 offset = value - 3, code = value - 1 + (u32)no_literals;
    bool late = false;
    if (value <= 3) {
        u32 a[3];
#pragma unroll
        for (int k = 0; k < 3; ++k) {
            int z = (int)t - 1 - k;
            a[k] = z >= 0 ? w.offsets[z] : z == -1 ? h.r1 : z == -2 ? h.r2 : h.r3;
            if (z >= 0 && !a[k])
                late = true;
        }
        if (!late) {
            offset = code == 0 ? a[0] : code == 1 ? a[1] : code == 2 ? a[2] : a[0] - 1;
            w.resolved[t] = offset;
            w.history[3 * t] = offset, w.history[3 * t + 1] = code > 0 ? a[0] : a[1];
            w.history[3 * t + 2] = code > 1 ? a[1] : a[2];
        } else {
            w.history[3 * t] = code;
        }
    }
    u32 lates = __ballot_sync(ALL, late);
    if (lane == 0)
        w.sums[96 + warp] = lates;
    if (__syncthreads_or(late)) {
        if (t == 0)
            resolve_late(w, h);
        __syncthreads();
        if (late)
            offset = w.resolved[t];
    }
    int m = (int)count, y = m - 1;
    while (y >= 0 && y >= m - 3 && w.offsets[y])
        --y;
    u32 a, b, c;
    if (y == m - 4) { // three plain ones at the end
        a = w.offsets[m - 1], b = w.offsets[m - 2], c = w.offsets[m - 3];
    } else {
        a = y >= 0 ? w.history[3 * y] : h.r1, b = y >= 0 ? w.history[3 * y + 1] : h.r2, c = y >= 0 ? w.history[3 * y + 2] : h.r3;
        for (int z = y + 1; z < m; ++z)
            c = b, b = a, a = w.offsets[z];
    }
    h.r1 = a, h.r2 = b, h.r3 = c;
    return offset;
}

// A match whose source may begin before this block (in `target`, at pos + a), byte by byte.
DMC_DEVICE u8 wide_byte(const u8 *target, u32 pos, const u8 *o, int z)
{
    return z < 0 ? ((const volatile u8 *)target)[(long long)pos + z] : ((const volatile u8 *)o)[z];
}

// The bits of a source in the map of finished bytes, at most 33: in two words at most. Found once, as it is asked again and again.
struct Awaited {
    u32 first, last;           // words of the map
    u32 first_mask, last_mask; // 0: nothing is waited for
    DMC_DEVICE void set(u32 lo, u32 hi)
    {
        first = lo >> 5, last = (hi - 1) >> 5;
        first_mask = ~0u << (lo & 31), last_mask = ~0u >> (31 - ((hi - 1) & 31));
        if (first == last)
            first_mask &= last_mask, last_mask = first_mask;
    }
    DMC_DEVICE bool there(const u32 *map) const
    {
        const u32 a = ((const volatile u32 *)map)[first], z = ((const volatile u32 *)map)[last];
        return !(~a & first_mask) && !(~z & last_mask);
    }
};

// Copy the matches of a warp's 32 sequences, each when its source is there. `skew`: place in `o`'s bits of byte 0. The literals
// are there. `end`: of the sequence, which is marked even where (bad data) nothing is copied.
DMC_DEVICE void wide_matches(const WideShared &w, const u8 *target, u32 pos, u32 skew, u32 op, u32 mp, u32 M, u32 offset, u32 end,
                             bool on, u32 lane)
{
    u8 *o = w.bytes + skew;
    const int source = (int)mp - (int)offset;
    Awaited awaited = {0, 0, 0, 0};
    if (on && M <= LONG_COPY) {
        const int e = mini(source + (int)minu(M, offset), (int)op); // its own literals are there
        if (M && e > maxi(source, 0))
            awaited.set((u32)maxi(source, 0) + skew, (u32)e + skew);
    }
    u32 open = __ballot_sync(ALL, on);
    const u32 longs = __ballot_sync(ALL, on && M > LONG_COPY);
    while (open) {
        bool go = (open >> lane & 1) && ((longs >> lane & 1) || awaited.there(w.map));
        if (go && !(longs >> lane & 1)) {
            block_fence(); // the bits before the bytes
            u8 *d = o + mp;
            if (source >= 0 && (offset >= 8 || offset >= M)) {
                for (u32 i = 0; i < M; i += 8)
                    match_copy8(d + i, o + source + i, (int)minu(8, M - i));
            } else if (source + (int)M <= 0 && offset >= M) {
                const u8 *s = target + ((long long)pos + source);
                for (u32 i = 0; i < M; i += 8)
                    match_copy8(d + i, s + i, (int)minu(8, M - i));
            } else {
                for (u32 i = 0; i < M; ++i)
                    d[i] = wide_byte(target, pos, o, source + (int)i);
            }
            block_fence(); // the bytes before the bits
            bits_set(w.map, op + skew, end + skew);
        }
        u32 m = longs & open;
        while (m) {
            u32 x = (u32)__ffs((int)m) - 1;
            m &= m - 1;
            u32 n = __shfl_sync(ALL, M, (int)x), distance = __shfl_sync(ALL, offset, (int)x);
            u32 to = __shfl_sync(ALL, mp, (int)x), literals_at = __shfl_sync(ALL, op, (int)x);
            int a = (int)to - (int)distance, e = mini(a + (int)minu(n, distance), (int)literals_at);
            bool there = e <= maxi(a, 0) || bits_are_set(w.map, (u32)maxi(a, 0) + skew, (u32)e + skew, lane, 32);
            if (!__all_sync(ALL, there)) {
                if (lane == x)
                    go = false;
                continue;
            }
            block_fence();
            u8 *d = o + to;
            if (a >= 0)
                warp_match(d, distance, n, lane);
            else if (distance >= n && a + (int)n <= 0)
                warp_copy(d, target + ((long long)pos + a), n, lane);
            else
                for (u32 i = lane; i < n; i += 32)
                    d[i] = wide_byte(target, pos, o, a + (int)(distance >= n ? i : i % distance));
            block_fence();
            __syncwarp();
            u32 lo = literals_at + skew, hi = to + n + skew;
            for (u32 k = (lo >> 5) + lane; k <= (hi - 1) >> 5; k += 32)
                bits_set(w.map, k == lo >> 5 ? lo : 32 * k, k == (hi - 1) >> 5 ? hi : 32 * k + 32);
        }
        open &= ~__ballot_sync(ALL, go);
        __syncwarp();
    }
}

// Bytes of a finished block from shared memory to the target, 16 at a time where both allow.
DMC_DEVICE void wide_store(u8 *d, const u8 *o, u32 n, u32 t)
{
    u32 head = minu((u32)(-(uintptr_t)d & 15), n);
    if (((uintptr_t)(o + head) & 15) == 0) {
        u32 v = (n - head) / 16, tail = head + 16 * v;
        if (t < head)
            d[t] = o[t];
        for (u32 i = t; i < v; i += WIDE)
            ((uint4 *)(d + head))[i] = ((const uint4 *)(o + head))[i];
        for (u32 i = tail + t; i < n; i += WIDE)
            d[i] = o[i];
    } else {
        for (u32 i = t; i < n; i += WIDE)
            d[i] = o[i];
    }
}

DMC_DEVICE u32 execute_unit_block(const dmc_gd_job &job, const dmc_gd_unit &unit, const WideShared &w, u32 t)
{
    const u32 lane = t & 31, warp = t / 32;
    u8 *target = target_of<u8>(job, unit.target, unit.in_scratch);
    const u32 size = unit.target_bytes, block_count = unit.block_count;
    const u32 stop = unit.need_bytes < size ? unit.need_bytes : ~0u; // once so many bytes are there
    u32 pos = 0, frame_at = 0;
    History history;
    history.reset();
    for (u32 k = 0; k < block_count && pos < stop; ++k) {
        const dmc_gd_block &b = *(block_at(job, unit.blocks) + k);
        if (b.frame_first)
            frame_at = pos, history.reset();
        const u32 left = size - pos, reach = pos - frame_at; // a match may go so far back behind this block's beginning
        if (b.type != DMC_GD_COMPRESSED) {
            if (b.raw_bytes > left)
                return DMC_CUDA_STATUS_LENGTH;
            const u8 *s = at<const u8>(b.source);
            if (b.type == DMC_GD_RAW) {
                u32 share = ((b.raw_bytes + WIDE_WARPS - 1) / WIDE_WARPS + 15) & ~15u, from = minu(warp * share, b.raw_bytes);
                warp_copy(target + pos + from, s + from, minu(share, b.raw_bytes - from), lane);
            } else {
                for (u32 i = t; i < b.raw_bytes; i += WIDE)
                    target[pos + i] = s[0];
            }
            pos += b.raw_bytes;
            __syncthreads();
            continue;
        }
        if (b.literals_placed) {
            if (b.literal_bytes > left)
                return DMC_CUDA_STATUS_LENGTH;
            pos += b.literal_bytes;
            continue;
        }
        const u32 skew = pos & 15; // so that what is stored 16 bytes at a time lies alike in shared memory
        const u8 *literals = literals_of(job, b);
        const bool repeat = b.literals_type == DMC_GD_LITERALS_RLE;
        const u32 n = b.sequence_count, literal_bytes = b.literal_bytes, room = minu(left, job.window_bytes);
        const u8 *all_kept = at<const u8>(job.scratch + b.kept);
        const u8 *base = aligned_base(at<const u8>(b.source));
        int bit = b.first_bit + (int)(at<const u8>(b.source) - base) * 8;
        u8 *o = w.bytes + skew;
        u32 lpos = 0, opos = 0, evil = 0;
        bool too_long = false;
        Kept kept = {0, 0};
        if (t < n)
            kept.load(all_kept, t);
        for (u32 i = t; i < DMC_GD_WINDOW(job.window_bytes) / 32 + 1; i += WIDE)
            w.map[i] = 0;
        __syncthreads();
        for (u32 i0 = 0; i0 < n; i0 += WIDE) {
            const u32 word = kept.word(t);
            kept = {0, 0};
            if (i0 + WIDE + t < n)
                kept.load(all_kept, i0 + WIDE + t);
            bool on = i0 + t < n;
            // Three sums over the block: bits, then literals and bytes.
            u32 bits = word & 255, sum = inclusive_sum(bits, lane);
            if (lane == 31)
                w.sums[warp] = sum;
            __syncthreads();
            u32 v = w.sums[lane], x = inclusive_sum(v, lane);
            u32 before = __shfl_sync(ALL, x - v, (int)warp) + sum - bits, all = __shfl_sync(ALL, x, 31);
            u32 L = 0, M = 0, value = 4;
            int my_bit = bit - (int)before;
            if (on)
                sequence_values(word, stream_bits_below(base, my_bit), base, my_bit, w.baselines, &L, &M, &value);
            bit -= (int)all;
            u32 ls = inclusive_sum(L, lane), os = inclusive_sum(L + M, lane);
            if (lane == 31)
                w.sums[32 + warp] = ls, w.sums[64 + warp] = os;
            w.offsets[t] = value > 3 ? value - 3 : 0;
            __syncthreads();
            v = w.sums[32 + lane], x = inclusive_sum(v, lane);
            u32 u = w.sums[64 + lane], y = inclusive_sum(u, lane);
            u32 lp = lpos + __shfl_sync(ALL, x - v, (int)warp) + ls - L;
            u32 op = opos + __shfl_sync(ALL, y - u, (int)warp) + os - L - M;
            lpos += __shfl_sync(ALL, x, 31), opos += __shfl_sync(ALL, y, 31);
            u32 offset = wide_offsets(w, history, value, L == 0, minu(WIDE, n - i0), t);
            too_long = lpos > literal_bytes || opos > room;
            if (too_long)
                break;
            u32 mp = op + L;
            const u32 end = mp + M;
            if (on && (offset == 0 || offset > reach + mp))
                M = 0, evil = 1; // skip the copy, but never the bits that others wait for
            if (repeat) {
                for (u32 i = 0; i < L; ++i)
                    o[op + i] = literals[0];
            } else {
                if (L <= LONG_COPY)
                    for (u32 i = 0; i < L; i += 4)
                        store_upto8(o + op + i, load4(literals + lp + i), 0, (int)minu(4, L - i));
                u32 m = __ballot_sync(ALL, L > LONG_COPY);
                while (m) {
                    u32 q = (u32)__ffs((int)m) - 1;
                    m &= m - 1;
                    u32 to = __shfl_sync(ALL, op, (int)q), from = __shfl_sync(ALL, lp, (int)q), bytes = __shfl_sync(ALL, L, (int)q);
                    warp_copy(o + to, literals + from, bytes, lane);
                }
            }
            __syncwarp();
            wide_matches(w, target, pos, skew, op, mp, M, offset, end, on, lane);
            // No barrier: the next group's first one keeps warps from running ahead of those that still read w.offsets.
        }
        if (__syncthreads_or((int)(too_long || evil)))
            return too_long ? DMC_CUDA_STATUS_LENGTH : DMC_CUDA_STATUS_OFFSET;
        u32 rest = literal_bytes - lpos;
        if (rest > room - opos)
            return DMC_CUDA_STATUS_LENGTH;
        if (repeat) {
            for (u32 i = t; i < rest; i += WIDE)
                o[opos + i] = literals[0];
        } else {
            u32 share = ((rest + WIDE_WARPS - 1) / WIDE_WARPS + 15) & ~15u, from = minu(warp * share, rest);
            warp_copy(o + opos + from, literals + lpos + from, minu(share, rest - from), lane);
        }
        __syncthreads();
        wide_store(target + pos, o, opos + rest, t);
        pos += opos + rest;
        __syncthreads();
    }
    return pos >= minu(stop, size) ? DMC_CUDA_STATUS_OK : DMC_CUDA_STATUS_LENGTH;
}

} // namespace dmc_gd
