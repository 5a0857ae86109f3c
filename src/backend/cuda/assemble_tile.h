/* Assemble on the device: the descriptors that the host writes, and the kernel's body, in the part of C that nvcc takes as C++.
 * The element code is convert_element.h, the same that the CPU's loops use, so the bits are the same.
 *
 * A wave's pieces lie as records in one buffer that is copied with it. Each piece is cut into tiles of about DMC_TILE_ELEMENTS:
 * whole rows, or segments of one row where rows are long. The index tells which tiles are whose: a thread block takes a tile,
 * finds its piece by halving, and its threads share the tile's units, which are up to four neighbours along the row, begun
 * where the target is aligned, so that they leave in one store.
 *
 *     buffer:  | index: piece_count entries ... | records, 16-byte aligned ...      |
 *     tiles:   0 .. | piece 0 | piece 1 ... | tile_end
 *
 * A chunk that blosc shuffled comes as it was decoded, and its elements are put together where they are loaded: that saves
 * the device a pass over all decoded bytes, and memory for them.
 *
 *     a block of n elements:    | byte 0 of all | byte 1 of all | ...        bytes: byte k of element i at k * n + i
 *                               | bit 0 of all | bit 1 of all | ...          bits: bit b at bit i of the plane at b * n / 8
 */
#ifndef DMC_ASSEMBLE_TILE_H
#define DMC_ASSEMBLE_TILE_H

#include "backend/kernels/convert_element.h"
#include "damacy/damacy.h"

#if defined(__CUDACC__)
#define DMC_TILE_NO_UNROLL _Pragma("unroll 1")
#define DMC_TILE_RARE static __noinline__ __host__ __device__ /* its registers are not the usual path's */
#else
#define DMC_TILE_RARE static inline
#define DMC_TILE_NO_UNROLL
#endif

#define DMC_TILE_ELEMENTS 8192u
#define DMC_TILE_THREADS 256u
#define DMC_PIECE_STATUS_NONE UINT32_MAX

enum {
    DMC_PIECE_SWAP = 1,
    DMC_PIECE_FILL = 2,
    DMC_PIECE_UNALIGNED = 4,
    DMC_PIECE_PLANES = 8,     /* of a shuffled chunk */
    DMC_PIECE_BIT_PLANES = 16 /* beside PLANES: its bits, not its bytes */
};

/* One outer axis of a piece. */
struct dmc_tile_dim {
    uint64_t extent;
    int64_t source_stride; /* bytes */
    int64_t target_stride;
};

/* One piece. `dims` of its outer axes follow it in the buffer, outermost first. */
struct dmc_tile_piece {
    uint64_t source; /* device address of the first element; DMC_PIECE_FILL: bits of each row's first, in the output type;
                      * DMC_PIECE_PLANES: address of the chunk, up to 3 bytes behind which may be read */
    uint64_t target;
    uint64_t rows;
    uint64_t columns;
    int64_t source_step; /* bytes from one element of a row to the next; the target's are neighbours. DMC_PIECE_FILL: bits of
                          * each row's second; the two take turns (parts of complex numbers, or the same) */
    uint32_t status;     /* of its chunk, in the wave's statuses: when that is not 0 the piece is left out; NONE: always good */
    uint32_t rows_per_tile;
    uint64_t tiles_per_row; /* more than 1: rows_per_tile is 1 */
    uint8_t source_dtype;
    uint8_t output_dtype;
    uint8_t flags; /* DMC_PIECE_* */
    uint8_t dim_count;
    /* DMC_PIECE_PLANES: all are multiples of the source's element; for bits, blocks of eight elements. */
    uint32_t source_at;   /* from the chunk's first byte to the first element, as if it were not shuffled */
    uint32_t block_bytes; /* of a block; the last one ends with the chunk */
    uint32_t chunk_bytes;
};

struct dmc_tile_index {
    uint64_t tile_begin; /* the piece's first tile */
    uint64_t record;     /* bytes from the beginning of the records to the piece */
};

/* How a piece is cut: sets rows_per_tile and tiles_per_row, returns the number of tiles. */
DMC_KERNEL uint64_t dmc_tile_cut(struct dmc_tile_piece *piece)
{
    piece->tiles_per_row = (piece->columns + DMC_TILE_ELEMENTS - 1) / DMC_TILE_ELEMENTS;
    if (piece->tiles_per_row < 1)
        piece->tiles_per_row = 1;
    piece->rows_per_tile = 1;
    if (piece->tiles_per_row == 1 && piece->columns < DMC_TILE_ELEMENTS)
        piece->rows_per_tile = DMC_TILE_ELEMENTS / (uint32_t)(piece->columns ? piece->columns : 1);
    return piece->tiles_per_row > 1 ? piece->tiles_per_row * piece->rows
                                    : (piece->rows + piece->rows_per_tile - 1) / piece->rows_per_tile;
}

/* Part of a piece: rows [row_begin, row_end), columns [column_begin, column_end) of each. */
struct dmc_tile {
    uint64_t row_begin, row_end;
    uint64_t column_begin, column_end;
};

DMC_KERNEL struct dmc_tile dmc_tile_part(const struct dmc_tile_piece *piece, uint64_t number)
{
    struct dmc_tile tile;
    if (piece->tiles_per_row > 1) {
        tile.row_begin = number / piece->tiles_per_row;
        tile.row_end = tile.row_begin + 1;
        tile.column_begin = number % piece->tiles_per_row * DMC_TILE_ELEMENTS;
        tile.column_end = tile.column_begin + DMC_TILE_ELEMENTS;
    } else {
        tile.row_begin = number * piece->rows_per_tile;
        tile.row_end = tile.row_begin + piece->rows_per_tile;
        tile.column_begin = 0;
        tile.column_end = piece->columns;
    }
    if (tile.row_end > piece->rows)
        tile.row_end = piece->rows;
    if (tile.column_end > piece->columns)
        tile.column_end = piece->columns;
    return tile;
}

/* Where a row begins, relative to the piece's first elements. */
DMC_KERNEL void dmc_tile_row(const struct dmc_tile_dim *dims, uint32_t dim_count, uint64_t row, int64_t *source,
                             int64_t *target)
{
    int64_t from = 0, to = 0;
    uint32_t d = dim_count;
    DMC_TILE_NO_UNROLL
    while (d-- > 0) {
        const struct dmc_tile_dim *dim = &dims[d];
        uint64_t at = row;
        if (d > 0) {
            if ((row | dim->extent) >> 32 == 0) { /* several times faster than with 64 bits */
                uint32_t outer = (uint32_t)row / (uint32_t)dim->extent;
                at = (uint32_t)row - outer * (uint32_t)dim->extent;
                row = outer;
            } else {
                at = row % dim->extent;
                row /= dim->extent;
            }
        }
        from += (int64_t)at * dim->source_stride;
        to += (int64_t)at * dim->target_stride;
    }
    *source = from;
    *target = to;
}

/* Bytes have no order. */
#define dmc_swap_i8(x) (x)
#define dmc_swap_u8(x) (x)
#define DMC_TILE_SAME(x) (x)

/* The usual pairs have code of their own: X(SOURCE, source, OUTPUT, output). For every pair that would be more than an
 * architecture's share of the library; the others go by dmc_tile_any(). */
#define DMC_TILE_PAIRS(X)                                                                                                      \
    X(I8, i8, BF16, bf16)                                                                                                      \
    X(I8, i8, F32, f32)                                                                                                        \
    X(U8, u8, F16, f16)                                                                                                        \
    X(U8, u8, BF16, bf16)                                                                                                      \
    X(U8, u8, F32, f32)                                                                                                        \
    X(I16, i16, F16, f16)                                                                                                      \
    X(I16, i16, BF16, bf16)                                                                                                    \
    X(I16, i16, F32, f32)                                                                                                      \
    X(U16, u16, F16, f16)                                                                                                      \
    X(U16, u16, BF16, bf16)                                                                                                    \
    X(U16, u16, F32, f32)                                                                                                      \
    X(I32, i32, F32, f32)                                                                                                      \
    X(U32, u32, F32, f32)                                                                                                      \
    X(U32, u32, I64, i64)                                                                                                      \
    X(F16, f16, BF16, bf16)                                                                                                    \
    X(F16, f16, F32, f32)                                                                                                      \
    X(BF16, bf16, F16, f16) X(BF16, bf16, F32, f32) X(F32, f32, F16, f16) X(F32, f32, BF16, bf16) X(F64, f64, F32, f32)

/* An element of a shuffled chunk: its block, and its number there. */
struct dmc_tile_spot {
    uint64_t block;    /* address */
    uint32_t elements; /* of the block */
    uint32_t element;
};

DMC_KERNEL struct dmc_tile_spot dmc_tile_spot_of(const struct dmc_tile_piece *piece, uint32_t offset, uint32_t source_bytes)
{
    struct dmc_tile_spot spot;
    uint32_t begin = offset < piece->block_bytes ? 0 : offset / piece->block_bytes * piece->block_bytes;
    uint32_t bytes = piece->chunk_bytes - begin;
    if (bytes > piece->block_bytes)
        bytes = piece->block_bytes;
    spot.block = piece->source + begin;
    spot.elements = bytes / source_bytes;
    spot.element = (offset - begin) / source_bytes;
    return spot;
}

/* One element at an offset of a shuffled chunk, as its bits. */
DMC_KERNEL uint64_t dmc_tile_load_planes(const struct dmc_tile_piece *piece, uint32_t offset, uint32_t source_bytes, bool swap)
{
    const struct dmc_tile_spot spot = dmc_tile_spot_of(piece, offset, source_bytes);
    const uint8_t *block = (const uint8_t *)(uintptr_t)spot.block;
    uint64_t item = 0;
    DMC_TILE_NO_UNROLL
    for (uint32_t k = 0; k < source_bytes; k++) {
        uint32_t byte = 0;
        if ((piece->flags & DMC_PIECE_BIT_PLANES) == 0)
            byte = block[k * spot.elements + spot.element];
        else
            for (uint32_t b = 0; b < 8; b++)
                byte |= (block[(8 * k + b) * (spot.elements / 8) + spot.element / 8] >> spot.element % 8 & 1u) << b;
        item |= (uint64_t)byte << 8 * (swap ? source_bytes - 1 - k : k);
    }
    return item;
}

/* Byte k of four neighbours in one block, the first one's lowest. */
DMC_KERNEL uint32_t dmc_tile_four_bytes(struct dmc_tile_spot spot, uint32_t k)
{
    typedef uint32_t __attribute__((may_alias)) word_load;
    uint64_t from = spot.block + k * spot.elements + spot.element;
    const word_load *words = (const word_load *)(uintptr_t)(from & ~(uint64_t)3);
    uint32_t shift = (uint32_t)(from & 3) * 8;
    return shift == 0 ? words[0] : words[0] >> shift | words[1] << (32 - shift);
}
DMC_KERNEL uint32_t dmc_tile_four_bits(struct dmc_tile_spot spot, uint32_t k)
{
    const uint32_t plane = spot.elements / 8, shift = spot.element % 8;
    const uint8_t *from = (const uint8_t *)(uintptr_t)spot.block + 8 * k * plane + spot.element / 8;
    uint32_t word = 0;
    for (uint32_t b = 0; b < 8; b++, from += plane) {
        uint32_t four = from[0];
        if (shift > 4)
            four |= (uint32_t)from[1] << 8;
        word |= ((four >> shift & 15u) * 0x204081u & 0x01010101u) << b; /* bit i of the four goes to byte i */
    }
    return word;
}

/* The elements of a unit, as their bits: to be loaded from there as if they lay 8 bytes apart. */
typedef uint64_t __attribute__((may_alias)) dmc_tile_item;
struct dmc_tile_four {
    dmc_tile_item item[4];
};

/* Items [first, last) of a unit of a shuffled chunk, whose item 0 is, or would be, at an offset. */
DMC_KERNEL void dmc_tile_gather_sized(const struct dmc_tile_piece *piece, int64_t offset, uint32_t first, uint32_t last,
                                      const uint32_t source_bytes, struct dmc_tile_four *four)
{
    const int64_t step = piece->source_step;
    struct dmc_tile_spot spot = dmc_tile_spot_of(piece, (uint32_t)(offset + first * step), source_bytes);
    if (step == (int64_t)source_bytes && spot.element >= first && spot.element - first + 4 <= spot.elements) {
        uint64_t item[4] = {0, 0, 0, 0};
        spot.element -= first;
        if ((piece->flags & DMC_PIECE_BIT_PLANES) == 0) {
            for (uint32_t k = 0; k < source_bytes; k++) {
                uint32_t word = dmc_tile_four_bytes(spot, k);
                for (uint32_t i = 0; i < 4; i++)
                    item[i] |= (uint64_t)(word >> 8 * i & 255u) << 8 * k;
            }
        } else {
            DMC_TILE_NO_UNROLL
            for (uint32_t k = 0; k < source_bytes; k++) {
                uint32_t word = dmc_tile_four_bits(spot, k);
                for (uint32_t i = 0; i < 4; i++)
                    item[i] |= (uint64_t)(word >> 8 * i & 255u) << 8 * k;
            }
        }
        for (uint32_t i = 0; i < 4; i++)
            four->item[i] = item[i];
        return;
    }
    DMC_TILE_NO_UNROLL
    for (uint32_t i = first; i < last; i++)
        four->item[i] = dmc_tile_load_planes(piece, (uint32_t)(offset + i * step), source_bytes, false);
}

DMC_TILE_RARE void dmc_tile_gather(const struct dmc_tile_piece *piece, int64_t offset, uint32_t first, uint32_t last,
                                   uint32_t source_bytes, struct dmc_tile_four *four)
{
    switch (source_bytes) {
    case 1: /* only of bits */
        dmc_tile_gather_sized(piece, offset, first, last, 1, four);
        break;
    case 2:
        dmc_tile_gather_sized(piece, offset, first, last, 2, four);
        break;
    case 4:
        dmc_tile_gather_sized(piece, offset, first, last, 4, four);
        break;
    default:
        dmc_tile_gather_sized(piece, offset, first, last, 8, four);
        break;
    }
}

/* Up to four neighbours, but no more than 16 bytes, leave in one store. */
#define DMC_TILE_UNIT(type) (sizeof(type) == 8 ? 2u : 4u)

/* Items [first, last) of a unit that begins at `target`, aligned to the whole unit; all of it in one store where it is whole.
 */
#define DMC_TILE_CASE(key, source_name, output_name, convert)                                                                  \
    case key: {                                                                                                                \
        typedef struct __attribute__((aligned(DMC_TILE_UNIT(dmc_bits_##output_name) * sizeof(dmc_bits_##output_name)),         \
                                      may_alias)) {                                                                            \
            dmc_bits_##output_name item[DMC_TILE_UNIT(dmc_bits_##output_name)];                                                \
        } unit_store;                                                                                                          \
        const uint32_t unit = DMC_TILE_UNIT(dmc_bits_##output_name);                                                           \
        unit_store store;                                                                                                      \
        for (uint32_t i = 0; i < unit; i++)                                                                                    \
            if (i >= first && i < last) {                                                                                      \
                dmc_bits_##source_name x = *(const dmc_bits_##source_name *)(uintptr_t)(source + (uint64_t)(i * step));        \
                dmc_bits_##source_name swapped = dmc_swap_##source_name(x);                                                    \
                store.item[i] = convert(swap ? swapped : x);                                                                   \
            }                                                                                                                  \
        if (last - first == unit)                                                                                              \
            *(unit_store *)(uintptr_t)target = store;                                                                          \
        else                                                                                                                   \
            for (uint32_t i = 0; i < unit; i++)                                                                                \
                if (i >= first && i < last)                                                                                    \
                    ((dmc_bits_##output_name *)(uintptr_t)target)[i] = store.item[i];                                          \
        break;                                                                                                                 \
    }
#define DMC_TILE_PAIR_CASE(S, s, O, o) DMC_TILE_CASE((uint32_t)DAMACY_##S * 16u + (uint32_t)DAMACY_##O, s, o, dmc_##s##_to_##o)

enum { DMC_TILE_COPY_1 = 0x1001, DMC_TILE_COPY_2 = 0x1002, DMC_TILE_COPY_4 = 0x1004, DMC_TILE_COPY_8 = 0x1008 };

DMC_KERNEL void dmc_tile_unit(uint32_t key, uint64_t source, uint64_t target, int64_t step, bool swap, uint32_t first,
                              uint32_t last)
{
    switch (key) {
        DMC_TILE_CASE(DMC_TILE_COPY_1, u8, u8, DMC_TILE_SAME)
        DMC_TILE_CASE(DMC_TILE_COPY_2, u16, u16, DMC_TILE_SAME)
        DMC_TILE_CASE(DMC_TILE_COPY_4, u32, u32, DMC_TILE_SAME)
        DMC_TILE_CASE(DMC_TILE_COPY_8, u64, u64, DMC_TILE_SAME)
        DMC_TILE_PAIRS(DMC_TILE_PAIR_CASE)
    default:
        break;
    }
}

/* Has a pair code of its own? 0: no. */
DMC_KERNEL uint32_t dmc_tile_key(uint32_t source, uint32_t output, uint32_t item_bytes)
{
    uint32_t key = source * 16u + output;
    if (source == output)
        return 0x1000u + item_bytes;
    switch (key) {
#define DMC_TILE_KEY(S, s, O, o) case (uint32_t)DAMACY_##S * 16u + (uint32_t)DAMACY_##O:
        DMC_TILE_PAIRS(DMC_TILE_KEY)
        return key;
#undef DMC_TILE_KEY
    default:
        return 0;
    }
}

DMC_KERNEL uint32_t dmc_tile_item_bytes(uint32_t dtype)
{
    switch (dtype) {
    case DAMACY_BOOL:
    case DAMACY_I8:
    case DAMACY_U8:
        return 1;
    case DAMACY_I16:
    case DAMACY_U16:
    case DAMACY_F16:
    case DAMACY_BF16:
        return 2;
    case DAMACY_I64:
    case DAMACY_U64:
    case DAMACY_F64:
        return 8;
    default:
        return 4;
    }
}

/* A thread's share of a tile: units thread, thread + thread_count, ... of all rows. Each row's first unit begins at or before
 * the row, where the target is aligned to a whole unit. */
DMC_KERNEL void dmc_tile_units(const struct dmc_tile_piece *piece, const struct dmc_tile_dim *dims, struct dmc_tile tile,
                               uint32_t key, uint32_t item_bytes, uint32_t thread, uint32_t thread_count)
{
    const uint32_t unit = item_bytes == 8 ? 2 : 4;
    const bool swap = (piece->flags & DMC_PIECE_SWAP) != 0, planes = (piece->flags & DMC_PIECE_PLANES) != 0;
    const uint32_t source_bytes = dmc_tile_item_bytes(piece->source_dtype);
    uint32_t columns = (uint32_t)(tile.column_end - tile.column_begin);
    uint32_t units = (columns + unit - 1) / unit + 1;
    uint32_t total = units * (uint32_t)(tile.row_end - tile.row_begin);
    DMC_TILE_NO_UNROLL
    for (uint32_t at = thread; at < total; at += thread_count) {
        uint32_t row = at / units;
        int64_t from, to;
        dmc_tile_row(dims, piece->dim_count, tile.row_begin + row, &from, &to);
        uint64_t target = piece->target + (uint64_t)to + tile.column_begin * item_bytes;
        uint32_t shift = ((uint32_t)target & (unit * item_bytes - 1)) / item_bytes; /* powers of 2: no 64-bit division */
        int64_t begin = (int64_t)((at - row * units) * unit) - shift;               /* column of the unit's item 0 */
        if (begin >= columns)
            continue;
        int64_t at_source = from + ((int64_t)tile.column_begin + begin) * piece->source_step, step = piece->source_step;
        uint64_t source = piece->source + (uint64_t)at_source;
        uint32_t first = begin < 0 ? (uint32_t)-begin : 0;
        uint32_t last = begin + unit > columns ? columns - (uint32_t)begin : unit;
        struct dmc_tile_four four;
        if (planes) {
            dmc_tile_gather(piece, piece->source_at + at_source, first, last, source_bytes, &four);
            source = (uint64_t)(uintptr_t)&four;
            step = sizeof four.item[0];
        }
        dmc_tile_unit(key, source, target + (uint64_t)(begin * (int64_t)item_bytes), step, swap, first, last);
    }
}

/* One element of any type, at any address, as its bits. */
DMC_KERNEL uint64_t dmc_tile_load(uint64_t address, uint32_t item_bytes, bool swap)
{
    uint64_t bits = 0;
    DMC_TILE_NO_UNROLL
    for (uint32_t i = 0; i < item_bytes; i++) {
        uint64_t byte = ((const uint8_t *)(uintptr_t)address)[swap ? item_bytes - 1 - i : i];
        bits |= byte << (8 * i);
    }
    return bits;
}

/* Any pair, by the widest type of the source's kind: every source is exact in it, so there is still one rounding. */
DMC_KERNEL uint64_t dmc_tile_convert(uint64_t bits, uint32_t source, uint32_t output)
{
    if (source == output)
        return bits;
    bool is_signed = false, is_float = false;
    switch (source) {
    case DAMACY_BOOL:
        bits = bits != 0 ? 1 : 0;
        break;
    case DAMACY_I8:
        bits = (uint64_t)(int64_t)(int8_t)bits;
        is_signed = true;
        break;
    case DAMACY_I16:
        bits = (uint64_t)(int64_t)(int16_t)bits;
        is_signed = true;
        break;
    case DAMACY_I32:
        bits = (uint64_t)(int64_t)(int32_t)bits;
        is_signed = true;
        break;
    case DAMACY_I64:
        is_signed = true;
        break;
    case DAMACY_F16:
        bits = dmc_f16_to_f64((dmc_bits_f16)bits);
        is_float = true;
        break;
    case DAMACY_BF16:
        bits = dmc_bf16_to_f64((dmc_bits_bf16)bits);
        is_float = true;
        break;
    case DAMACY_F32:
        bits = dmc_f32_to_f64((dmc_bits_f32)bits);
        is_float = true;
        break;
    case DAMACY_F64:
        is_float = true;
        break;
    default:
        break;
    }
    switch (output) {
    case DAMACY_F16:
        return is_float ? dmc_f64_to_f16(bits) : is_signed ? dmc_i64_to_f16((int64_t)bits) : dmc_u64_to_f16(bits);
    case DAMACY_BF16:
        return is_float ? dmc_f64_to_bf16(bits) : is_signed ? dmc_i64_to_bf16((int64_t)bits) : dmc_u64_to_bf16(bits);
    case DAMACY_F32:
        return is_float ? dmc_f64_to_f32(bits) : is_signed ? dmc_i64_to_f32((int64_t)bits) : dmc_u64_to_f32(bits);
    case DAMACY_F64:
        return is_float ? bits : is_signed ? dmc_i64_to_f64((int64_t)bits) : dmc_u64_to_f64(bits);
    default:
        return bits; /* an integer that fits: cut to its size by the store */
    }
}

DMC_KERNEL void dmc_tile_store(uint64_t address, uint32_t item_bytes, uint64_t bits)
{
    switch (item_bytes) {
    case 1:
        *(uint8_t *)(uintptr_t)address = (uint8_t)bits;
        break;
    case 2:
        *(uint16_t *)(uintptr_t)address = (uint16_t)bits;
        break;
    case 4:
        *(uint32_t *)(uintptr_t)address = (uint32_t)bits;
        break;
    default:
        *(uint64_t *)(uintptr_t)address = bits;
        break;
    }
}

/* Any pair, any address, and fills: an element at a time. */
DMC_TILE_RARE void dmc_tile_any(const struct dmc_tile_piece *piece, const struct dmc_tile_dim *dims, struct dmc_tile tile,
                                uint32_t thread, uint32_t thread_count)
{
    uint32_t source_bytes = dmc_tile_item_bytes(piece->source_dtype), output_bytes = dmc_tile_item_bytes(piece->output_dtype);
    const bool fill = (piece->flags & DMC_PIECE_FILL) != 0, swap = (piece->flags & DMC_PIECE_SWAP) != 0;
    const bool planes = (piece->flags & DMC_PIECE_PLANES) != 0;
    uint32_t columns = (uint32_t)(tile.column_end - tile.column_begin);
    uint32_t total = columns * (uint32_t)(tile.row_end - tile.row_begin);
    DMC_TILE_NO_UNROLL
    for (uint32_t at = thread; at < total; at += thread_count) {
        uint32_t row = at / columns;
        int64_t from, to;
        dmc_tile_row(dims, piece->dim_count, tile.row_begin + row, &from, &to);
        uint64_t column = tile.column_begin + (at - row * columns);
        uint64_t bits = column % 2 == 0 ? piece->source : (uint64_t)piece->source_step;
        if (!fill) {
            from += (int64_t)column * piece->source_step;
            bits = planes ? dmc_tile_load_planes(piece, (uint32_t)(piece->source_at + from), source_bytes, swap)
                          : dmc_tile_load(piece->source + (uint64_t)from, source_bytes, swap);
            bits = dmc_tile_convert(bits, piece->source_dtype, piece->output_dtype);
        }
        dmc_tile_store(piece->target + (uint64_t)to + column * output_bytes, output_bytes, bits);
    }
}

/* Which piece has a tile: the last whose first tile is not behind it. */
DMC_KERNEL uint32_t dmc_tile_find(const struct dmc_tile_index *index, uint32_t piece_count, uint64_t tile)
{
    uint32_t low = 0, high = piece_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (index[middle].tile_begin <= tile)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* A thread's share of one tile of the wave. */
DMC_KERNEL void dmc_tile_assemble(const struct dmc_tile_index *index, uint32_t piece_count, const uint8_t *records,
                                  const uint32_t *statuses, uint64_t number, uint32_t thread, uint32_t thread_count)
{
    const struct dmc_tile_index *entry = &index[dmc_tile_find(index, piece_count, number)];
    const struct dmc_tile_piece *piece = (const struct dmc_tile_piece *)(records + entry->record);
    const struct dmc_tile_dim *dims = (const struct dmc_tile_dim *)(piece + 1);
    if (piece->status != DMC_PIECE_STATUS_NONE && statuses[piece->status] != 0)
        return;
    struct dmc_tile tile = dmc_tile_part(piece, number - entry->tile_begin);
    uint32_t item_bytes = dmc_tile_item_bytes(piece->output_dtype), key = 0;
    if ((piece->flags & (DMC_PIECE_FILL | DMC_PIECE_UNALIGNED)) == 0)
        key = dmc_tile_key(piece->source_dtype, piece->output_dtype, item_bytes);
    if (key != 0)
        dmc_tile_units(piece, dims, tile, key, item_bytes, thread, thread_count);
    else
        dmc_tile_any(piece, dims, tile, thread, thread_count);
}

#endif
