/* One element from one type to another, to the bit as docs/conversions.md defines it; the same source for the CPU loops and
 * CUDA.
 *
 *     dmc_<source>_to_<output>(bits) -> bits        for every pair that dmc_dtype_converts() allows, except a type to itself
 *
 * Floats travel as their bits (unsigned integers of the same size), so that no register move quiets or flushes anything by
 * chance. Everything is branchless arithmetic and selects: compilers turn loops of it into vector code.
 *
 * What the hardware is trusted with: int -> f32/f64, f32 <-> f64, one f32 addition and one f32 multiplication. It must round to
 * nearest even and keep subnormals; the loop that calls this sees to that (CPU: scatter_loops.h resets the control word; CUDA:
 * no -ftz). What it is not trusted with: NaNs. Processors keep payloads, GPUs drop even the sign, so NaNs are always put
 * together by hand from the source's sign.
 *
 * Narrow floats from wide sources would round twice through f32. Here the first step rounds to odd instead (cut, and set the
 * last bit if anything was cut off): with two spare bits the second rounding then sees the right side of every tie, and so is
 * the only one that counts. */
#ifndef DMC_CONVERT_ELEMENT_H
#define DMC_CONVERT_ELEMENT_H

#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__)
#define DMC_KERNEL static inline __host__ __device__
#else
#define DMC_KERNEL static inline
#endif

/* What an element of each type is in a register. */
typedef uint8_t dmc_bits_boolean; /* "bool" would be a macro in C */
typedef int8_t dmc_bits_i8;
typedef int16_t dmc_bits_i16;
typedef int32_t dmc_bits_i32;
typedef int64_t dmc_bits_i64;
typedef uint8_t dmc_bits_u8;
typedef uint16_t dmc_bits_u16;
typedef uint32_t dmc_bits_u32;
typedef uint64_t dmc_bits_u64;
typedef uint16_t dmc_bits_f16;
typedef uint16_t dmc_bits_bf16;
typedef uint32_t dmc_bits_f32;
typedef uint64_t dmc_bits_f64;

#define DMC_F32_SIGN 0x80000000u
#define DMC_F32_INFINITY 0x7f800000u
#define DMC_F32_NAN 0x7fc00000u
#define DMC_F64_SIGN 0x8000000000000000u
#define DMC_F64_INFINITY 0x7ff0000000000000u
#define DMC_F64_NAN 0x7ff8000000000000u

/* --- bytes and bits --- */

DMC_KERNEL uint16_t dmc_swap_u16(uint16_t x)
{
    return (uint16_t)(x >> 8 | x << 8);
}
DMC_KERNEL uint32_t dmc_swap_u32(uint32_t x)
{
    return x >> 24 | (x >> 8 & 0xff00u) | (x << 8 & 0xff0000u) | x << 24;
}
DMC_KERNEL uint64_t dmc_swap_u64(uint64_t x)
{
    return (uint64_t)dmc_swap_u32((uint32_t)x) << 32 | dmc_swap_u32((uint32_t)(x >> 32));
}

DMC_KERNEL dmc_bits_i16 dmc_swap_i16(dmc_bits_i16 x)
{
    return (dmc_bits_i16)dmc_swap_u16((uint16_t)x);
}
DMC_KERNEL dmc_bits_i32 dmc_swap_i32(dmc_bits_i32 x)
{
    return (dmc_bits_i32)dmc_swap_u32((uint32_t)x);
}
DMC_KERNEL dmc_bits_i64 dmc_swap_i64(dmc_bits_i64 x)
{
    return (dmc_bits_i64)dmc_swap_u64((uint64_t)x);
}
DMC_KERNEL dmc_bits_f16 dmc_swap_f16(dmc_bits_f16 x)
{
    return dmc_swap_u16(x);
}
DMC_KERNEL dmc_bits_bf16 dmc_swap_bf16(dmc_bits_bf16 x)
{
    return dmc_swap_u16(x);
}
DMC_KERNEL dmc_bits_f32 dmc_swap_f32(dmc_bits_f32 x)
{
    return dmc_swap_u32(x);
}
DMC_KERNEL dmc_bits_f64 dmc_swap_f64(dmc_bits_f64 x)
{
    return dmc_swap_u64(x);
}

DMC_KERNEL uint32_t dmc_f32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
DMC_KERNEL float dmc_f32_value(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
DMC_KERNEL uint64_t dmc_f64_bits(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
DMC_KERNEL double dmc_f64_value(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* --- float to float --- */

DMC_KERNEL dmc_bits_f32 dmc_f16_to_f32(dmc_bits_f16 x)
{
    uint32_t sign = (uint32_t)(x & 0x8000u) << 16;
    uint32_t magnitude = x & 0x7fffu;
    uint32_t normal = (magnitude << 13) + (112u << 23);                      /* 112 = 127 - 15, the exponents' biases */
    uint32_t subnormal = dmc_f32_bits((float)(int32_t)magnitude * 0x1p-24f); /* exact; a normal f32, or zero */
    uint32_t special = magnitude > 0x7c00u ? DMC_F32_NAN : DMC_F32_INFINITY;
    uint32_t finite = magnitude < 0x400u ? subnormal : normal;
    return sign | (magnitude < 0x7c00u ? finite : special);
}

DMC_KERNEL dmc_bits_f32 dmc_bf16_to_f32(dmc_bits_bf16 x)
{
    uint32_t bits = (uint32_t)x << 16;
    return (bits & ~DMC_F32_SIGN) > DMC_F32_INFINITY ? (bits & DMC_F32_SIGN) | DMC_F32_NAN : bits;
}

DMC_KERNEL dmc_bits_f64 dmc_f32_to_f64(dmc_bits_f32 x)
{
    uint64_t bits = dmc_f64_bits((double)dmc_f32_value(x)); /* exact */
    uint64_t nan = (uint64_t)(x & DMC_F32_SIGN) << 32 | DMC_F64_NAN;
    return (x & ~DMC_F32_SIGN) > DMC_F32_INFINITY ? nan : bits;
}

DMC_KERNEL dmc_bits_f32 dmc_f64_to_f32(dmc_bits_f64 x)
{
    uint32_t bits = dmc_f32_bits((float)dmc_f64_value(x));
    uint32_t nan = ((uint32_t)(x >> 32) & DMC_F32_SIGN) | DMC_F32_NAN;
    return (bits & ~DMC_F32_SIGN) > DMC_F32_INFINITY ? nan : bits;
}

/* The magnitude of an f64 as f32, rounded to odd. Never infinity for a finite number; a NaN stays some NaN. */
DMC_KERNEL uint32_t dmc_f64_to_f32_odd(dmc_bits_f64 x)
{
    int64_t exact = (int64_t)(x & ~DMC_F64_SIGN);
    float nearest = (float)dmc_f64_value((uint64_t)exact);
    int64_t back = (int64_t)dmc_f64_bits((double)nearest);
    uint32_t bits = dmc_f32_bits(nearest) & ~DMC_F32_SIGN;
    uint32_t cut = bits - (back > exact ? 1u : 0u); /* magnitudes compare as integers */
    return back == exact ? bits : cut | 1u;
}

DMC_KERNEL dmc_bits_bf16 dmc_f32_to_bf16(dmc_bits_f32 x)
{
    uint32_t rounded =
        (x + 0x7fffu + (x >> 16 & 1u)) >> 16; /* a carry out of the mantissa is the next exponent, at last infinity */
    uint32_t nan = (x >> 16 & 0x8000u) | 0x7fc0u;
    return (dmc_bits_bf16)((x & ~DMC_F32_SIGN) > DMC_F32_INFINITY ? nan : rounded);
}

DMC_KERNEL dmc_bits_f16 dmc_f32_to_f16(dmc_bits_f32 x)
{
    uint32_t sign = x >> 16 & 0x8000u;
    uint32_t magnitude = x & ~DMC_F32_SIGN;
    uint32_t normal = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
    /* Below 2^-14 the result counts units of 2^-24, which is what the last bit of 0.5 is worth: the addition rounds. */
    uint32_t subnormal = dmc_f32_bits(dmc_f32_value(magnitude) + 0.5f) - 0x3f000000u;
    uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
    uint32_t special = magnitude > DMC_F32_INFINITY ? 0x7e00u : 0x7c00u;
    return (dmc_bits_f16)(sign | (magnitude < 0x47800000u ? finite : special));
}

DMC_KERNEL dmc_bits_f64 dmc_f16_to_f64(dmc_bits_f16 x)
{
    return dmc_f32_to_f64(dmc_f16_to_f32(x));
}
DMC_KERNEL dmc_bits_f64 dmc_bf16_to_f64(dmc_bits_bf16 x)
{
    return dmc_f32_to_f64(dmc_bf16_to_f32(x));
}
DMC_KERNEL dmc_bits_bf16 dmc_f16_to_bf16(dmc_bits_f16 x)
{
    return dmc_f32_to_bf16(dmc_f16_to_f32(x));
} /* exact, then one rounding */
DMC_KERNEL dmc_bits_f16 dmc_bf16_to_f16(dmc_bits_bf16 x)
{
    return dmc_f32_to_f16(dmc_bf16_to_f32(x));
}

DMC_KERNEL dmc_bits_f16 dmc_f64_to_f16(dmc_bits_f64 x)
{
    return (dmc_bits_f16)((uint32_t)(x >> 48 & 0x8000u) | dmc_f32_to_f16(dmc_f64_to_f32_odd(x)));
}
DMC_KERNEL dmc_bits_bf16 dmc_f64_to_bf16(dmc_bits_f64 x)
{
    return (dmc_bits_bf16)((uint32_t)(x >> 48 & 0x8000u) | dmc_f32_to_bf16(dmc_f64_to_f32_odd(x)));
}

/* --- integer to float --- */

/* For numbers that are 0 or between 1 and 65536 in magnitude: dmc_f32_to_f16 without what cannot happen to them. */
DMC_KERNEL dmc_bits_f16 dmc_f32_integer_to_f16(dmc_bits_f32 x)
{
    uint32_t sign = x >> 16 & 0x8000u;
    uint32_t magnitude = x & ~DMC_F32_SIGN;
    uint32_t normal =
        (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13; /* 65520 and more carry into infinity */
    return (dmc_bits_f16)(magnitude == 0 ? 0 : sign | normal);
}
/* The same for bf16: any number but NaN. */
DMC_KERNEL dmc_bits_bf16 dmc_f32_number_to_bf16(dmc_bits_f32 x)
{
    return (dmc_bits_bf16)((x + 0x7fffu + (x >> 16 & 1u)) >> 16);
}

/* Numbers of at most 8 bits fit f16 and bf16: nothing to round. */
DMC_KERNEL dmc_bits_f16 dmc_f32_byte_to_f16(dmc_bits_f32 x)
{
    uint32_t shifted = ((x & ~DMC_F32_SIGN) - (112u << 23)) >> 13;
    return (dmc_bits_f16)((x & ~DMC_F32_SIGN) == 0 ? 0 : (x >> 16 & 0x8000u) | shifted);
}
DMC_KERNEL dmc_bits_bf16 dmc_f32_byte_to_bf16(dmc_bits_f32 x)
{
    return (dmc_bits_bf16)(x >> 16);
}

/* Integers that f32 holds exactly. */
#define DMC_SMALL_INTEGER(source, to_f16, to_bf16)                                                                             \
    DMC_KERNEL dmc_bits_f32 dmc_##source##_to_f32(dmc_bits_##source x)                                                         \
    {                                                                                                                          \
        return dmc_f32_bits((float)(int32_t)x);                                                                                \
    }                                                                                                                          \
    DMC_KERNEL dmc_bits_f64 dmc_##source##_to_f64(dmc_bits_##source x)                                                         \
    {                                                                                                                          \
        return dmc_f64_bits((double)(int32_t)x);                                                                               \
    }                                                                                                                          \
    DMC_KERNEL dmc_bits_f16 dmc_##source##_to_f16(dmc_bits_##source x)                                                         \
    {                                                                                                                          \
        return to_f16(dmc_##source##_to_f32(x));                                                                               \
    }                                                                                                                          \
    DMC_KERNEL dmc_bits_bf16 dmc_##source##_to_bf16(dmc_bits_##source x)                                                       \
    {                                                                                                                          \
        return to_bf16(dmc_##source##_to_f32(x));                                                                              \
    }
DMC_SMALL_INTEGER(i8, dmc_f32_byte_to_f16, dmc_f32_byte_to_bf16)
DMC_SMALL_INTEGER(u8, dmc_f32_byte_to_f16, dmc_f32_byte_to_bf16)
DMC_SMALL_INTEGER(i16, dmc_f32_integer_to_f16, dmc_f32_number_to_bf16)
DMC_SMALL_INTEGER(u16, dmc_f32_integer_to_f16, dmc_f32_number_to_bf16)
#undef DMC_SMALL_INTEGER

DMC_KERNEL dmc_bits_f32 dmc_i32_to_f32(dmc_bits_i32 x)
{
    return dmc_f32_bits((float)x);
}
DMC_KERNEL dmc_bits_f32 dmc_u32_to_f32(dmc_bits_u32 x)
{
    return dmc_f32_bits((float)x);
}
DMC_KERNEL dmc_bits_f32 dmc_i64_to_f32(dmc_bits_i64 x)
{
    return dmc_f32_bits((float)x);
}
DMC_KERNEL dmc_bits_f32 dmc_u64_to_f32(dmc_bits_u64 x)
{
    return dmc_f32_bits((float)x);
}
DMC_KERNEL dmc_bits_f64 dmc_i32_to_f64(dmc_bits_i32 x)
{
    return dmc_f64_bits((double)x);
}
DMC_KERNEL dmc_bits_f64 dmc_u32_to_f64(dmc_bits_u32 x)
{
    return dmc_f64_bits((double)x);
}
DMC_KERNEL dmc_bits_f64 dmc_i64_to_f64(dmc_bits_i64 x)
{
    return dmc_f64_bits((double)x);
}
DMC_KERNEL dmc_bits_f64 dmc_u64_to_f64(dmc_bits_u64 x)
{
    return dmc_f64_bits((double)x);
}

/* f16 ends at 65504: whatever is 65520 or more is infinity, so the rest may be cut off first. */
DMC_KERNEL dmc_bits_f16 dmc_i32_to_f16(dmc_bits_i32 x)
{
    int32_t upper = x > 65536 ? 65536 : x;
    return dmc_f32_integer_to_f16(dmc_f32_bits((float)(upper < -65536 ? -65536 : upper)));
}
DMC_KERNEL dmc_bits_f16 dmc_u32_to_f16(dmc_bits_u32 x)
{
    return dmc_f32_integer_to_f16(dmc_f32_bits((float)(int32_t)(x > 65536u ? 65536u : x)));
}
DMC_KERNEL dmc_bits_f16 dmc_i64_to_f16(dmc_bits_i64 x)
{
    int64_t upper = x > 65536 ? 65536 : x;
    return dmc_f32_integer_to_f16(dmc_f32_bits((float)(int32_t)(upper < -65536 ? -65536 : upper)));
}
DMC_KERNEL dmc_bits_f16 dmc_u64_to_f16(dmc_bits_u64 x)
{
    return dmc_f32_integer_to_f16(dmc_f32_bits((float)(int32_t)(x > 65536u ? 65536u : x)));
}

/* Round to odd within the integer, to the bits that the float type in between holds; then it is converted exactly. */
DMC_KERNEL dmc_bits_bf16 dmc_u32_to_bf16(dmc_bits_u32 x)
{
    uint32_t odd = (x & 0xffffff00u) | ((x & 0xffu) != 0 ? 0x100u : 0u); /* 24 bits */
    return dmc_f32_number_to_bf16(dmc_f32_bits((float)(x >> 24 != 0 ? odd : x)));
}
DMC_KERNEL dmc_bits_bf16 dmc_i32_to_bf16(dmc_bits_i32 x)
{
    uint32_t magnitude = x < 0 ? 0u - (uint32_t)x : (uint32_t)x;
    return (dmc_bits_bf16)((x < 0 ? 0x8000u : 0u) | dmc_u32_to_bf16(magnitude));
}
DMC_KERNEL dmc_bits_bf16 dmc_u64_to_bf16(dmc_bits_u64 x)
{
    uint64_t odd = (x & ~(uint64_t)0x7ff) | ((x & 0x7ff) != 0 ? 0x800u : 0u); /* 53 bits */
    return dmc_f64_to_bf16(dmc_f64_bits((double)(x >> 53 != 0 ? odd : x)));
}
DMC_KERNEL dmc_bits_bf16 dmc_i64_to_bf16(dmc_bits_i64 x)
{
    uint64_t magnitude = x < 0 ? 0u - (uint64_t)x : (uint64_t)x;
    return (dmc_bits_bf16)((x < 0 ? 0x8000u : 0u) | dmc_u64_to_bf16(magnitude));
}

/* --- integer to integer: every value of the source fits --- */

#define DMC_WIDEN(source, output)                                                                                              \
    DMC_KERNEL dmc_bits_##output dmc_##source##_to_##output(dmc_bits_##source x)                                               \
    {                                                                                                                          \
        return (dmc_bits_##output)x;                                                                                           \
    }
DMC_WIDEN(i8, i16)
DMC_WIDEN(i8, i32)
DMC_WIDEN(i8, i64)
DMC_WIDEN(i16, i32)
DMC_WIDEN(i16, i64)
DMC_WIDEN(i32, i64)
DMC_WIDEN(u8, i16)
DMC_WIDEN(u8, i32)
DMC_WIDEN(u8, i64)
DMC_WIDEN(u8, u16)
DMC_WIDEN(u8, u32)
DMC_WIDEN(u8, u64)
DMC_WIDEN(u16, i32)
DMC_WIDEN(u16, i64)
DMC_WIDEN(u16, u32)
DMC_WIDEN(u16, u64)
DMC_WIDEN(u32, i64)
DMC_WIDEN(u32, u64)
#undef DMC_WIDEN

/* --- bool: any non-zero byte is true and counts 1 --- */

#define DMC_FROM_BOOL(output, one)                                                                                             \
    DMC_KERNEL dmc_bits_##output dmc_boolean_to_##output(dmc_bits_boolean x)                                                   \
    {                                                                                                                          \
        return (dmc_bits_##output)(x != 0 ? (one) : 0);                                                                        \
    }
DMC_FROM_BOOL(i8, 1)
DMC_FROM_BOOL(i16, 1)
DMC_FROM_BOOL(i32, 1)
DMC_FROM_BOOL(i64, 1)
DMC_FROM_BOOL(u8, 1)
DMC_FROM_BOOL(u16, 1)
DMC_FROM_BOOL(u32, 1u)
DMC_FROM_BOOL(u64, 1u)
DMC_FROM_BOOL(f16, 0x3c00)
DMC_FROM_BOOL(bf16, 0x3f80)
DMC_FROM_BOOL(f32, 0x3f800000u)
DMC_FROM_BOOL(f64, 0x3ff0000000000000u)
#undef DMC_FROM_BOOL

#endif
