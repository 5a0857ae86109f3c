// The serial parts of zstd: FSE tables, Huffman trees and the two bit streams (RFC 8878, 3.1.1 and 4).
//
// A bit stream is read from its end towards its beginning by one lane. What such a lane does per symbol is what bounds the
// decoder, so as little as possible is done here:
//   - Huffman: one table look-up a symbol, sixteen symbols a store.
//   - sequences: only the three states are followed. Their table entries add up to one word a sequence: state bits | all bits << 8 |
//     (LL code + 36 * ML code + 36 * 53 * OF code) << 16. Its upper three bytes are kept; from them any lane can find the
//     sequence's values later (gd_execute.cuh).
#pragma once
#include "gd_lane.cuh"

namespace dmc_gd {

static const u32 CODES_LL = 36, CODES_OF = 32, CODES_ML = 53;
static const u32 ACCURACY_BAD = 99;

DMC_DEVICE u32 ll_extra_bits(u32 c) { return c < 16 ? 0 : c < 20 ? 1 : c < 22 ? 2 : c < 24 ? 3 : c < 25 ? 4 : c - 19; }
DMC_DEVICE u32 ml_extra_bits(u32 c) { return c < 32 ? 0 : c < 36 ? 1 : c < 38 ? 2 : c < 40 ? 3 : c < 42 ? 4 : c < 43 ? 5 : c - 36; }
DMC_DEVICE u32 ll_baseline(u32 c)
{
    if (c < 16)
        return c;
    u32 b = 16;
    for (u32 i = 16; i < c; ++i)
        b += 1u << ll_extra_bits(i);
    return b;
}
DMC_DEVICE u32 ml_baseline(u32 c)
{
    if (c < 32)
        return c + 3;
    u32 b = 35;
    for (u32 i = 32; i < c; ++i)
        b += 1u << ml_extra_bits(i);
    return b;
}
DMC_DEVICE u32 extra_bits(int kind, u32 code)
{
    return kind == DMC_GD_LITERAL_LENGTH ? ll_extra_bits(code) : kind == DMC_GD_OFFSET ? code : ml_extra_bits(code);
}
DMC_DEVICE u32 code_weight(int kind) { return kind == DMC_GD_LITERAL_LENGTH ? 1 : kind == DMC_GD_OFFSET ? CODES_LL * CODES_ML : CODES_LL; }
DMC_DEVICE u32 code_count(int kind) { return kind == DMC_GD_LITERAL_LENGTH ? CODES_LL : kind == DMC_GD_OFFSET ? CODES_OF : CODES_ML; }
DMC_DEVICE u32 accuracy_max(int kind) { return kind == DMC_GD_OFFSET ? 8 : 9; }

// 17 or more bits from any bit position, forwards.
DMC_DEVICE u32 bits_forward(const u8 *p, u32 bit)
{
    const u8 *q = p + (bit >> 3);
    return (u32)(q[0] | q[1] << 8 | q[2] << 16) >> (bit & 7);
}

// Read a table's description at p, not behind `end`; norm (may be null) gets `symbols` probabilities. Returns its bytes, or 0 if it
// is malformed. Whatever the bytes, at most symbol_max + 1 probabilities are read.
DMC_DEVICE u32 read_probabilities(const u8 *p, const u8 *end, u32 symbol_max, u32 accuracy_limit, int16_t *norm, u32 *accuracy,
                                  u32 *symbols)
{
    if (p >= end)
        return 0;
    u32 bit = 4, symbol = 0, log = (p[0] & 15u) + 5;
    if (log > accuracy_limit)
        return 0;
    int rest = 1 << log;
    while (rest > 0) {
        if (symbol > symbol_max || p + (bit >> 3) >= end)
            return 0;
        u32 n = highest_bit((u32)rest + 1) + 1, x = bits_forward(p, bit), low = (1u << (n - 1)) - 1, value;
        u32 threshold = (1u << n) - 1 - ((u32)rest + 1);
        if ((x & low) < threshold) {
            value = x & low, bit += n - 1;
        } else {
            value = x & ((1u << n) - 1), bit += n;
            if (value > low)
                value -= threshold;
        }
        int probability = (int)value - 1;
        rest -= probability < 0 ? 1 : probability;
        if (norm)
            norm[symbol] = (int16_t)probability;
        ++symbol;
        if (probability == 0)
            for (;;) { // how many zeros follow, two bits at a time
                if (p + (bit >> 3) >= end)
                    return 0;
                u32 repeat = bits_forward(p, bit) & 3;
                bit += 2;
                for (u32 i = 0; i < repeat; ++i) {
                    if (symbol > symbol_max)
                        return 0;
                    if (norm)
                        norm[symbol] = 0;
                    ++symbol;
                }
                if (repeat < 3)
                    break;
            }
    }
    u32 bytes = (bit + 7) >> 3;
    if (rest < 0 || bytes > (u32)(end - p))
        return 0;
    *accuracy = log, *symbols = symbol;
    return bytes;
}

// Which symbol each state stands for, through put(state, symbol).
template <class Put> DMC_DEVICE void spread_symbols(const int16_t *norm, u32 symbols, u32 accuracy, Put put)
{
    u32 size = 1u << accuracy, mask = size - 1, high = mask, step = (size >> 1) + (size >> 3) + 3, place = 0;
    for (u32 s = 0; s < symbols; ++s)
        if (norm[s] == -1)
            put(high--, s);
    for (u32 s = 0; s < symbols; ++s)
        for (int i = 0; i < norm[s]; ++i) {
            put(place, s);
            do
                place = (place + step) & mask;
            while (place > high);
        }
}
// The state's next-state bits and base; norm counts the symbol's states.
DMC_DEVICE void state_next(int16_t *norm, u32 symbol, u32 accuracy, u32 *bits, u32 *base)
{
    u32 x = norm[symbol] < 0 ? 1 : (u32)norm[symbol];
    norm[symbol] = (int16_t)(x + 1);
    *bits = accuracy - highest_bit(x);
    *base = (x << *bits) - (1u << accuracy);
}

// ---- tables of sequences ----
// An entry: x = shared address of the entry of the next state's base, y = this table's share of the sequence's word.

DMC_DEVICE void build_table(uint2 *table, int16_t *norm, u32 symbols, u32 accuracy, int kind, u32 address)
{
    spread_symbols(norm, symbols, accuracy, [=](u32 state, u32 s) { table[state].y = s; });
    for (u32 u = 0; u < 1u << accuracy; ++u) {
        u32 s = table[u].y, bits, base;
        state_next(norm, s, accuracy, &bits, &base);
        table[u] = make_uint2(address + base * 8, bits | (bits + extra_bits(kind, s)) << 8 | (s * code_weight(kind)) << 16);
    }
}
// RFC 8878, 3.1.1.3.2.2: the default distributions.
DMC_DEVICE int default_probability(int kind, u32 s)
{
    if (kind == DMC_GD_LITERAL_LENGTH)
        return s == 0 ? 4 : s == 1 || s == 25 ? 3 : s < 13 || (s > 15 && s < 27) ? 2 : s < 32 ? 1 : -1;
    if (kind == DMC_GD_OFFSET)
        return s >= 24 ? -1 : s >= 6 && s <= 8 ? 2 : 1;
    return s == 0 ? 1 : s == 1 ? 4 : s == 2 ? 3 : s < 9 ? 2 : s < 46 ? 1 : -1;
}
DMC_DEVICE u32 table_mode(const dmc_gd_block &block, int kind) { return block.modes >> (6 - 2 * kind) & 3u; }

// Where the description of table `kind` of a block begins (kind 3: the bits of the sequences); null if one before is malformed.
DMC_DEVICE const u8 *table_place(const dmc_gd_block &block, int kind)
{
    const u8 *p = at<const u8>(block.source) + block.table_at, *end = at<const u8>(block.source) + block.source_bytes;
    for (int k = 0; k < kind; ++k) {
        u32 mode = table_mode(block, k), bytes = mode == DMC_GD_TABLE_RLE, accuracy, symbols;
        if (mode == DMC_GD_TABLE_CODED) {
            bytes = read_probabilities(p, end, code_count(k) - 1, accuracy_max(k), nullptr, &accuracy, &symbols);
            if (!bytes)
                return nullptr;
        }
        if (bytes > (u32)(end - p))
            return nullptr;
        p += bytes;
    }
    return p;
}
// The table `kind` that `block` defines, at shared address `address`. Returns its accuracy, or ACCURACY_BAD.
DMC_DEVICE u32 make_table(const dmc_gd_block &block, int kind, uint2 *table, int16_t *norm, u32 address)
{
    u32 mode = table_mode(block, kind), accuracy = ACCURACY_BAD, symbols = 0;
    const u8 *p = table_place(block, kind), *end = at<const u8>(block.source) + block.source_bytes;
    if (!p)
        return ACCURACY_BAD;
    if (mode == DMC_GD_TABLE_RLE) {
        u32 s = p < end ? *p : 255;
        if (s >= code_count(kind))
            return ACCURACY_BAD;
        table[0] = make_uint2(address, extra_bits(kind, s) << 8 | (s * code_weight(kind)) << 16);
        return 0;
    }
    if (mode == DMC_GD_TABLE_DEFAULT) {
        symbols = kind == DMC_GD_OFFSET ? 29 : code_count(kind), accuracy = kind == DMC_GD_OFFSET ? 5 : 6;
        for (u32 s = 0; s < symbols; ++s)
            norm[s] = (int16_t)default_probability(kind, s);
    } else if (mode != DMC_GD_TABLE_CODED ||
               !read_probabilities(p, end, code_count(kind) - 1, accuracy_max(kind), norm, &accuracy, &symbols)) {
        return ACCURACY_BAD;
    }
    build_table(table, norm, symbols, accuracy, kind, address);
    return accuracy;
}

// ---- Huffman trees ----

static const u32 TREE_STORED_WORDS = 32; // a tree's description has at most 128 bytes

// The weights of the tree at p; work has room for 64 words, norm for 16. Returns the bytes read, 0 if malformed.
DMC_DEVICE u32 read_weights(const u8 *p, u32 bytes, u8 *weights, u32 *work, int16_t *norm, u32 *symbols, u32 *longest)
{
    if (!bytes)
        return 0;
    u32 h = p[0], used, k = 0, sum = 0, ones = 0;
    auto put = [&](u32 weight) { weights[k++] = (u8)weight, sum += 1u << weight >> 1, ones += weight == 1; };
    if (h >= 128) { // four bits each
        const u32 stored = h - 127;
        used = 1 + (stored + 1) / 2;
        if (used > bytes)
            return 0;
        for (u32 i = 0; i < stored; ++i)
            put(i & 1 ? p[1 + i / 2] & 15 : p[1 + i / 2] >> 4);
    } else { // two interleaved FSE states
        used = 1 + h;
        u32 accuracy, codes;
        if (used > bytes || !h)
            return 0;
        u32 head = read_probabilities(p + 1, p + used, 12, 6, norm, &accuracy, &codes);
        if (!head || head >= h)
            return 0;
        spread_symbols(norm, codes, accuracy, [=](u32 state, u32 s) { work[state] = s; });
        for (u32 u = 0; u < 1u << accuracy; ++u) {
            u32 s = work[u], bits, base;
            state_next(norm, s, accuracy, &bits, &base);
            work[u] = bits | base << 8 | s << 16;
        }
        const u8 *b = p + 1 + head;
        u32 m = h - head;
        if (!b[m - 1])
            return 0;
        int place = (int)(m - 1) * 8 + (int)highest_bit(b[m - 1]);
        auto get = [&](u32 n) -> u32 {
            place -= (int)n;
            if (place < 0)
                return 0;
            u32 byte = (u32)place >> 3;
            return (u32)(b[byte] | (byte + 1 < m ? b[byte + 1] << 8 : 0)) >> (place & 7) & ((1u << n) - 1);
        };
        u32 one = get(accuracy), two = get(accuracy);
        if (place < 0)
            return 0;
        for (;;) {
            if (k > 253)
                return 0;
            u32 e = work[one], n = e & 255;
            put(e >> 16);
            if (place < (int)n) {
                put(work[two] >> 16);
                break;
            }
            one = (e >> 8 & 255) + get(n);
            e = work[two], n = e & 255;
            put(e >> 16);
            if (place < (int)n) {
                put(work[one] >> 16);
                break;
            }
            two = (e >> 8 & 255) + get(n);
        }
    }
    if (!sum)
        return 0;
    u32 log = highest_bit(sum) + 1, rest = (1u << log) - sum; // the last weight fills up to a power of two
    if (log > 11 || (rest & (rest - 1)))
        return 0;
    u32 last = highest_bit(rest) + 1;
    if (ones + (last == 1) < 2) // a tree's deepest leaves are at least two
        return 0;
    weights[k++] = (u8)last;
    *symbols = k, *longest = log;
    return used;
}
// The decoding table is filled by four lanes, each with a quarter of the symbols: how many they have of each weight, from that
// where their entries begin, then the entries. An entry is bits | symbol << 8, by the next `longest` bits. The bits lie lowest
// because a funnel shift takes its distance from there, without any masking. Between the steps: __syncwarp().
static const u32 TREE_LANES = 4, TREE_WEIGHTS = 12;

DMC_DEVICE void tree_count(u16 *counts, const u8 *weights, u32 symbols, u32 part)
{
    const u32 share = (symbols + TREE_LANES - 1) / TREE_LANES;
    u16 *mine = counts + part * TREE_WEIGHTS;
    for (u32 w = 0; w < TREE_WEIGHTS; ++w)
        mine[w] = 0;
    for (u32 s = part * share; s < minu(symbols, (part + 1) * share); ++s)
        ++mine[weights[s]];
}
DMC_DEVICE void tree_begin(u16 *places, const u16 *counts, u32 longest, u32 part)
{
    for (u32 w = 1, place = 0; w <= longest; ++w)
        for (u32 lane = 0; lane < TREE_LANES; ++lane) {
            if (lane == part)
                places[part * TREE_WEIGHTS + w] = (u16)place;
            place += (u32)counts[lane * TREE_WEIGHTS + w] << (w - 1);
        }
}
DMC_DEVICE void tree_fill(u16 *table, u16 *places, const u8 *weights, u32 symbols, u32 longest, u32 part)
{
    const u32 share = (symbols + TREE_LANES - 1) / TREE_LANES;
    for (u32 s = part * share; s < minu(symbols, (part + 1) * share); ++s) {
        const u32 w = weights[s];
        if (w == 0)
            continue;
        u16 *mine = places + part * TREE_WEIGHTS + w;
        const u32 place = *mine, length = 1u << (w - 1);
        *mine = (u16)(place + length);
        const u32 e = s << 8 | (longest + 1 - w), ee = e | e << 16;
        uint4 eight;
        eight.x = eight.y = eight.z = eight.w = ee;
        if (length == 1)
            table[place] = (u16)e;
        else if (length < 8)
            for (u32 i = 0; i < length; i += 2)
                *(u32 *)(table + place + i) = ee;
        else
            for (u32 i = 0; i < length; i += 8)
                *(uint4 *)(table + place + i) = eight;
    }
}

// ---- bit supply ----
// The next bytes of a stream, downwards, in a ring in shared memory that the lane fills by its own asynchronous copies. Bytes
// before `base` (a multiple of 16) are never fetched: reading there gives what happens to be in the ring.
template <int BYTES, bool MIRROR> struct Ring {
    u32 *words;
    u32 address; // of words; a multiple of BYTES
    const u8 *base;
    int got; // bytes from here up are fetched

    DMC_DEVICE void init(const u8 *from, int bit)
    {
        base = from;
        got = ((bit + 7) / 8 + 15) & ~15;
        top_up(bit);
        top_up(bit);
        async_wait_all();
    }
    DMC_DEVICE void fetch_16()
    {
        got -= 16;
        u32 to = address + ((u32)got & (BYTES - 1));
        async_copy16(to, base + got);
        if (MIRROR && !((u32)got & (BYTES - 1)))
            async_copy16(to + BYTES, base + got);
    }
    DMC_DEVICE void top_up(int bit)
    {
        int limit = (bit >> 3) - (BYTES - 32);
        if (limit < 0)
            limit = 0;
#pragma unroll 1
        while (got > limit)
            fetch_16();
        async_commit();
    }
    // The same, 32 bytes at a time, which is half as often around the loop; behind init_pairs().
    DMC_DEVICE void init_pairs(const u8 *from, int bit)
    {
        init(from, bit);
        if (got & 16) {
            fetch_16();
            async_wait_all();
        }
    }
    DMC_DEVICE void top_up_pairs(int bit)
    {
        int limit = (bit >> 3) - (BYTES - 64);
        if (limit < 0)
            limit = 0;
#pragma unroll 1
        while (got > limit) {
            got -= 32;
            u32 to = address + ((u32)got & (BYTES - 1));
            async_copy16(to, base + got), async_copy16(to + 16, base + got + 16);
            if (MIRROR) // where there is nothing to repeat, once more the same, which costs less than a branch
                async_copy16((u32)got & (BYTES - 1) ? to : to + BYTES, base + got);
        }
        async_commit();
    }
    DMC_DEVICE void ready() { async_wait_but_one(); }
    DMC_DEVICE u32 word(int q) const { return words[(u32)q & (BYTES / 4 - 1)]; }
    // The three words that end with the one of the bit below `bit`; needs MIRROR.
    DMC_DEVICE void three_words(int bit, u32 *a, u32 *b, u32 *c) const
    {
        const u32 *w = (const u32 *)((const u8 *)words + ((u32)((bit - 65) >> 3) & (BYTES - 4)));
        *c = w[0], *b = w[1], *a = w[2];
    }
    // Two words by q = 64 - bit, which only grows, and the one before them.
    DMC_DEVICE u32 place_at(int q) const { return (~(u32)(q >> 3) & (BYTES - 4)) | address; }
    DMC_DEVICE void upper_words_at(int q, u32 *a, u32 *b) const { shared_load_down(place_at(q) + 8, a, b); }
    DMC_DEVICE u32 lower_word_at(int q) const { return shared_load(place_at(q)); }
};
template <class R> DMC_DEVICE u32 bits_below(const R &ring, int bit)
{
    int q = (bit - 1) >> 5;
    return funnel_left(ring.word(q - 1), ring.word(q), (u32)-bit & 31);
}
// The multiple of 16 at or before p, and the place of a stream's first bit counted from there (0: no end mark).
DMC_DEVICE const u8 *aligned_base(const u8 *p) { return p - ((uintptr_t)p & 15); }

// n symbols of one Huffman stream. False if it does not end exactly at its beginning.
DMC_DEVICE bool huffman_stream(Ring<128, true> &ring, const u8 *s, u32 bytes, const u16 *table, u32 longest, u8 *out, u32 n)
{
    if (!bytes || !s[bytes - 1])
        return false;
    const u8 *base = aligned_base(s);
    int begin = (int)(s - base) * 8, bit = begin + (int)(bytes - 1) * 8 + (int)highest_bit(s[bytes - 1]);
    ring.init(base, bit);
    u32 shift = 32 - longest, i = 0, hi, lo;
    auto window = [&] { // 64 bits less up to 31 that lo lacks: enough for four symbols of at most 11 bits
        u32 a, b, c;
        ring.three_words(bit, &a, &b, &c);
        hi = funnel_left(b, a, (u32)-bit), lo = funnel_left(c, b, (u32)-bit);
    };
    auto one = [&]() -> u32 { // an entry; its lowest five bits are how far it goes
        u32 e = table[hi >> shift];
        hi = funnel_left(lo, hi, e), lo = shift_left(lo, e);
        return e;
    };
    const u32 head = minu((u32)(-(uintptr_t)out & 15), n);
    for (; i < head; ++i) { // the ring holds enough for so many
        window();
        u32 e = one();
        out[i] = (u8)(e >> 8), bit -= (int)(e & 255);
    }
    while (i + 16 <= n) {
        ring.top_up(bit);
        ring.ready();
        auto four = [&]() -> u32 {
            window();
            u32 e0 = one(), e1 = one(), e2 = one(), e3 = one();
            bit -= (int)((e0 + e1 + e2 + e3) & 255); // at most 44: the symbols above do not matter
            return __byte_perm(__byte_perm(e0, e1, 0x0051), __byte_perm(e2, e3, 0x0051), 0x5410);
        };
        uint4 symbols; // stored at once: what bounds many streams are the lines that a store touches
        symbols.x = four(), symbols.y = four(), symbols.z = four(), symbols.w = four();
        *(uint4 *)(out + i) = symbols;
        i += 16;
    }
    ring.top_up(bit);
    ring.ready();
    for (; i < n; ++i) {
        window();
        u32 e = one();
        out[i] = (u8)(e >> 8), bit -= (int)(e & 255);
    }
    return bit == begin;
}

// What is kept of a sequence: bytes 1 to 3 of its word.
static const u32 SEQUENCE_BYTES = DMC_GD_SEQUENCE_BYTES;

DMC_DEVICE void sequence_store(u8 *p, u32 word) { p[0] = (u8)(word >> 8), p[1] = (u8)(word >> 16), p[2] = (u8)(word >> 24); }

// The three states through all n sequences; ll, of, ml are the shared addresses of the tables, `kept` is a multiple of 16.
// *first_bit: from s. False if the stream does not end exactly at bit `begin_byte` * 8 from s.
//
// What one sequence needs is loaded while the one before it is worked on, and two sequences share the words of the stream: an
// instruction that waits holds up all behind it, so nothing may wait that could have been asked for earlier.
DMC_DEVICE bool sequence_states(Ring<512, true> &ring, const u8 *s, u32 bytes, u32 begin_byte, u32 n, u32 ll, u32 of, u32 ml,
                                const u32 *accuracy, u8 *kept, int *first_bit)
{
    if (begin_byte >= bytes || !s[bytes - 1])
        return false;
    const u8 *base = aligned_base(s);
    int skew = (int)(s - base) * 8, begin = skew + (int)begin_byte * 8;
    int bit = skew + (int)(bytes - 1) * 8 + (int)highest_bit(s[bytes - 1]);
    ring.init_pairs(base, bit);
    ll += 8 * top_bits(bits_below(ring, bit), accuracy[DMC_GD_LITERAL_LENGTH]), bit -= (int)accuracy[DMC_GD_LITERAL_LENGTH];
    of += 8 * top_bits(bits_below(ring, bit), accuracy[DMC_GD_OFFSET]), bit -= (int)accuracy[DMC_GD_OFFSET];
    ml += 8 * top_bits(bits_below(ring, bit), accuracy[DMC_GD_MATCH_LENGTH]), bit -= (int)accuracy[DMC_GD_MATCH_LENGTH];
    *first_bit = bit - skew;
    if (bit < begin)
        return false;
    int q = 64 - bit;
    u32 last = 0, word = 0, a = 0, b = 0;
    uint2 el, em, eo;
    auto look_up = [&] { eo = shared_load_v2(of), em = shared_load_v2(ml), el = shared_load_v2(ll); };
    // From the 32 bits that end with those of the three states, to these and what is to be looked up next.
    auto follow = [&](u32 v) {
        u32 w = shift_right(v, eo.y);
        of = eo.x + 8 * low_bits(v, eo.y);
        ml = em.x + 8 * low_bits(w, em.y);
        ll = el.x + 8 * low_bits(shift_right(w, em.y), el.y);
        look_up();
    };
    auto slow_step = [&]() -> u32 {
        word = eo.y + em.y + el.y;
        q += (int)second_byte(word);
        follow(bits_below(ring, 96 - q));
        return word;
    };
    // Two sequences of at most 31 bits each. `many` gets a bit of 32 and above where one had more.
    u32 many = 0, first, second;
    auto two_steps = [&] {
        first = eo.y + em.y + el.y;
        const u32 c = ring.lower_word_at(q);
        u32 bits = second_byte(first), hi = funnel_left(b, a, (u32)q);
        follow(top_bits(hi, bits));
        second = eo.y + em.y + el.y;
        u32 more = second_byte(second);
        hi = funnel_left(funnel_left(c, b, (u32)q), hi, bits), q += (int)(bits + more);
        follow(top_bits(hi, more));
        ring.upper_words_at(q, &a, &b);
        many |= first | second;
    };
    look_up();
    ring.upper_words_at(q, &a, &b);
    u32 i = 0;
    for (; i + 16 <= n; i += 16, kept += 16 * SEQUENCE_BYTES) {
        ring.top_up_pairs(64 - q);
        ring.ready();
        const u32 ll0 = ll, ml0 = ml, of0 = of;
        const int q0 = q;
        many = 0;
        u32 out[12];
#pragma unroll
        for (u32 k = 0; k < 12; k += 3) {
            two_steps();
            out[k] = __byte_perm(first, second, 0x5321);
            u32 before = second;
            two_steps();
            out[k + 1] = __byte_perm(before, first, 0x6532), out[k + 2] = __byte_perm(first, second, 0x7653);
        }
        last = second;
#pragma unroll
        for (u32 k = 0; k < 12; k += 4) {
            uint4 o;
            o.x = out[k], o.y = out[k + 1], o.z = out[k + 2], o.w = out[k + 3];
            *(uint4 *)(kept + 4 * k) = o;
        }
        if (many & 0xE000) { // rare: again, without any assumption
            ll = ll0, ml = ml0, of = of0, q = q0;
            look_up();
#pragma unroll 1
            for (u32 k = 0; k < 16; ++k)
                sequence_store(kept + SEQUENCE_BYTES * k, last = slow_step());
            ring.upper_words_at(q, &a, &b);
        }
    }
    ring.top_up_pairs(64 - q);
    ring.ready();
    for (; i < n; ++i, kept += SEQUENCE_BYTES)
        sequence_store(kept, last = slow_step());
    return 64 - q + (int)(last & 255) == begin; // the last sequence's state bits are not there
}

} // namespace dmc_gd
