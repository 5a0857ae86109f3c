/* Writes Zarr v3 arrays for tests, and reads them naively, one element at a time.
 *
 * The value of an element is a hash of the array's number and the element's linear index, so nothing needs to be kept in memory
 * to know what a crop should hold. Which chunks and shards are missing is a hash, too. The conversions of the reader are
 * written with C casts and ldexp, and share nothing with src/backend/kernels. */
#ifndef ZARR_WRITER_H
#define ZARR_WRITER_H

#include "base/crc32c.h"
#include "base/hash.h"
#include "damacy/damacy.h"
#include "store/store.h"

#include <blosc.h>
#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#define ZW_RANK 5
#define ZW_CELLS 32

/* Works in any thread, where cmocka's assertions do not. */
#define zw_require(condition)                                                                                                  \
    do {                                                                                                                       \
        if (!(condition)) {                                                                                                    \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                                    \
            abort();                                                                                                           \
        }                                                                                                                      \
    } while (0)

enum zw_compressor { ZW_RAW, ZW_ZSTD, ZW_ZSTD_CHECKSUM, ZW_GZIP, ZW_BLOSC };

struct zw_array {
    char name[64];   /* its place in the sink */
    uint32_t number; /* goes into every value */
    enum damacy_dtype dtype;
    uint32_t rank;
    uint64_t shape[ZW_RANK];
    uint64_t chunk[ZW_RANK];
    uint64_t shard[ZW_RANK]; /* multiples of chunk; shard[0] == 0: not sharded */
    bool big_endian;
    bool transposed;
    uint32_t order[ZW_RANK]; /* axis i of the stored chunk is axis order[i] of what its codecs see: the array, or its shards */
    bool shard_transposed;   /* a transpose around sharding */
    uint32_t shard_order[ZW_RANK]; /* axis i of what the sharding codec sees is axis shard_order[i] of the array */
    bool complex;     /* pairs of `dtype` along the last axis, whose extents are 2 everywhere; it is last in both orders */
    bool rectilinear; /* grid chunks differ in extent; `chunk` (sharded: `shard`) is the largest */
    uint32_t cell_count[ZW_RANK];      /* 0: chunks along this axis are alike */
    uint64_t cells[ZW_RANK][ZW_CELLS]; /* extents */
    enum zw_compressor compressor;
    const char *blosc_name; /* NULL: lz4 */
    int blosc_shuffle;      /* BLOSC_NOSHUFFLE, ... */
    bool crc32c;            /* after the compressor */
    bool index_at_start, index_crc32c, index_big_endian;
    bool v2_keys;
    char separator; /* 0: the encoding's own */
    bool fill_nonzero;
    uint32_t missing_chunks, missing_shards; /* percent */
    const char *extra_codec;                 /* JSON of one more codec at the end of the list */
};

/* Where objects go. */
struct zw_sink {
    struct dmc_store *memory; /* or */
    const char *folder;
    /* Change an object on its way, or drop it (false). */
    bool (*alter)(void *user, const char *key, uint8_t *data, size_t *bytes);
    void *user;
};

static inline uint64_t zw_hash(uint64_t a, uint64_t b)
{
    return dmc_hash_u64(a, dmc_hash_u64(b, 77));
}

static inline bool zw_sharded(const struct zw_array *array)
{
    return array->shard[0] != 0;
}
static inline const uint64_t *zw_grid(const struct zw_array *array)
{
    return zw_sharded(array) ? array->shard : array->chunk;
}

/* --- values --- */

static inline void zw_value(const struct zw_array *array, uint64_t linear, uint8_t value[8])
{
    /* Neighbours are alike, so that compressors have something to do. */
    uint64_t bits = zw_hash(linear >> 3, array->number) ^ (linear & 7);
    if (array->dtype == DAMACY_BOOL)
        bits = zw_hash(linear, array->number) >> 7 & 1;
    memcpy(value, &bits, 8);
}

/* The fill value; of complex arrays, that of one part. */
static inline void zw_fill_part(const struct zw_array *array, uint64_t part, uint8_t fill[8])
{
    memset(fill, 0, 8);
    if (!array->fill_nonzero)
        return;
    uint64_t bits = zw_hash(array->number, 0xf111 + part);
    if (array->dtype == DAMACY_BOOL)
        bits = 1;
    memcpy(fill, &bits, damacy_dtype_bytes(array->dtype));
}

static inline void zw_fill(const struct zw_array *array, uint8_t fill[8])
{
    zw_fill_part(array, 0, fill);
}

/* The axes that metadata and keys tell of. */
static inline uint32_t zw_key_rank(const struct zw_array *array)
{
    return array->rank - (array->complex ? 1 : 0);
}

/* Which axis of the array is axis i of what codecs inside shards see, and of a stored chunk. */
static inline uint32_t zw_shard_axis(const struct zw_array *array, uint32_t i)
{
    return array->shard_transposed ? array->shard_order[i] : i;
}
static inline uint32_t zw_chunk_axis(const struct zw_array *array, uint32_t i)
{
    return zw_shard_axis(array, array->transposed ? array->order[i] : i);
}

/* The grid chunk (a shard, or an unsharded chunk) that an element is in along one axis, or where one begins and how long it is.
 */
static inline uint64_t zw_grid_of(const struct zw_array *array, uint32_t axis, uint64_t position)
{
    if (!array->rectilinear || array->cell_count[axis] == 0)
        return position / zw_grid(array)[axis];
    uint64_t cell = 0;
    for (uint64_t end = array->cells[axis][0]; position >= end; end += array->cells[axis][cell])
        cell++;
    return cell;
}
static inline uint64_t zw_grid_begin(const struct zw_array *array, uint32_t axis, uint64_t cell, uint64_t *extent)
{
    *extent = zw_grid(array)[axis];
    if (!array->rectilinear || array->cell_count[axis] == 0)
        return cell * *extent;
    uint64_t begin = 0;
    for (uint64_t i = 0; i < cell; i++)
        begin += array->cells[axis][i];
    *extent = array->cells[axis][cell];
    return begin;
}

/* The same of chunks, which inside of shards are all alike. */
static inline uint64_t zw_cell_of(const struct zw_array *array, uint32_t axis, uint64_t position)
{
    return zw_sharded(array) ? position / array->chunk[axis] : zw_grid_of(array, axis, position);
}
static inline uint64_t zw_cell_begin(const struct zw_array *array, uint32_t axis, uint64_t cell, uint64_t *extent)
{
    if (!zw_sharded(array))
        return zw_grid_begin(array, axis, cell, extent);
    *extent = array->chunk[axis];
    return cell * *extent;
}

static inline uint64_t zw_linear(const uint64_t *at, const uint64_t *shape, uint32_t rank)
{
    uint64_t linear = 0;
    for (uint32_t a = 0; a < rank; a++)
        linear = linear * shape[a] + at[a];
    return linear;
}

static inline bool zw_next(uint64_t *at, const uint64_t *extent, uint32_t rank)
{
    for (uint32_t a = rank; a-- > 0;) {
        if (++at[a] < extent[a])
            return true;
        at[a] = 0;
    }
    return false;
}

/* Is the chunk (the shard) at these coordinates of its grid missing? */
static inline bool zw_missing(const struct zw_array *array, const uint64_t *coordinates, bool shard)
{
    uint32_t percent = shard ? array->missing_shards : array->missing_chunks;
    uint64_t hash = zw_hash(array->number, shard ? 0x5a : 0xc4);
    for (uint32_t a = 0; a < array->rank; a++)
        hash = zw_hash(hash, coordinates[a]);
    return hash % 100 < percent;
}

/* --- the naive reader --- */

static inline double zw_f16(uint16_t bits)
{
    int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    double magnitude = exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);
    if (exponent == 31)
        magnitude = mantissa ? (double)NAN : (double)INFINITY;
    return bits >> 15 ? -magnitude : magnitude;
}

/* One element of one type as another. f16 and bf16 outputs only from themselves: the kernels' own tests do the rest. */
static inline void zw_convert(const uint8_t *source, enum damacy_dtype from, uint8_t *target, enum damacy_dtype to)
{
    if (from == to) {
        memcpy(target, source, damacy_dtype_bytes(from));
        return;
    }
    uint64_t u = 0;
    int64_t i = 0;
    double f = 0;
    bool is_signed = false, is_float = false, negative = false;
    float f32;
    memcpy(&u, source, damacy_dtype_bytes(from));
    switch (from) {
    case DAMACY_I8:
        i = (int8_t)u;
        is_signed = true;
        break;
    case DAMACY_I16:
        i = (int16_t)u;
        is_signed = true;
        break;
    case DAMACY_I32:
        i = (int32_t)u;
        is_signed = true;
        break;
    case DAMACY_I64:
        i = (int64_t)u;
        is_signed = true;
        break;
    case DAMACY_F16:
        f = zw_f16((uint16_t)u);
        is_float = true;
        negative = u >> 15;
        break;
    case DAMACY_BF16: {
        uint32_t wide = (uint32_t)u << 16;
        memcpy(&f32, &wide, 4);
        f = f32;
        is_float = true;
        negative = u >> 15;
        break;
    }
    case DAMACY_F32:
        memcpy(&f32, source, 4);
        f = f32;
        is_float = true;
        negative = u >> 31;
        break;
    case DAMACY_F64:
        memcpy(&f, source, 8);
        is_float = true;
        negative = u >> 63;
        break;
    case DAMACY_BOOL:
        u = u != 0;
        break;
    default:
        break;
    }
    if (to == DAMACY_F32) {
        uint32_t bits;
        float value = is_float ? (float)f : is_signed ? (float)i : (float)u;
        memcpy(&bits, &value, 4);
        if (is_float && isnan(f))
            bits = negative ? 0xffc00000u : 0x7fc00000u;
        memcpy(target, &bits, 4);
    } else if (to == DAMACY_F64) {
        uint64_t bits;
        double value = is_float ? f : is_signed ? (double)i : (double)u;
        memcpy(&bits, &value, 8);
        if (is_float && isnan(f))
            bits = negative ? 0xfff8000000000000u : 0x7ff8000000000000u;
        memcpy(target, &bits, 8);
    } else { /* an integer that holds every value of the source */
        uint64_t bits = is_signed ? (uint64_t)i : u;
        memcpy(target, &bits, damacy_dtype_bytes(to));
    }
}

/* The element at `at` as `output`. */
static inline void zw_expect(const struct zw_array *array, const uint64_t *at, enum damacy_dtype output, uint8_t *target)
{
    uint64_t chunk[ZW_RANK], shard[ZW_RANK];
    uint8_t value[8];
    for (uint32_t a = 0; a < array->rank; a++) {
        chunk[a] = zw_cell_of(array, a, at[a]);
        shard[a] = zw_grid_of(array, a, at[a]);
    }
    if (zw_missing(array, chunk, false) || (zw_sharded(array) && zw_missing(array, shard, true)))
        zw_fill_part(array, array->complex ? at[array->rank - 1] : 0, value);
    else
        zw_value(array, zw_linear(at, array->shape, array->rank), value);
    zw_convert(value, array->dtype, target, output);
}

/* --- the writer --- */

static inline void zw_put(const struct zw_sink *sink, const char *key, uint8_t *data, size_t bytes)
{
    if (sink->alter && !sink->alter(sink->user, key, data, &bytes))
        return;
    if (sink->memory) {
        zw_require(dmc_store_memory_put(sink->memory, key, data ? data : (const uint8_t *)"", bytes, NULL) == DAMACY_OK);
        return;
    }
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", sink->folder ? sink->folder : ".", key);
    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        zw_require(mkdir(path, 0777) == 0 || errno == EEXIST);
        *slash = '/';
    }
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0666);
    zw_require(fd >= 0);
    zw_require(write(fd, data, bytes) == (ssize_t)bytes);
    close(fd);
}

/* The key of a grid chunk, relative to the array. */
static inline void zw_key(const struct zw_array *array, const uint64_t *coordinates, char *key, size_t capacity)
{
    char separator = array->separator ? array->separator : array->v2_keys ? '.' : '/';
    size_t at = 0;
    key[0] = 0;
    if (!array->v2_keys)
        at += (size_t)snprintf(key, capacity, "c");
    for (uint32_t a = 0; a < zw_key_rank(array); a++) {
        char text[2] = {separator, 0};
        at += (size_t)snprintf(key + at, capacity - at, "%s%llu", at ? text : "", (unsigned long long)coordinates[a]);
    }
}

static inline const char *zw_dtype_name(enum damacy_dtype dtype)
{
    static const char *const names[DAMACY_DTYPE_COUNT] = {"",        "bool",     "int8",    "int16",  "int32",
                                                          "int64",   "uint8",    "uint16",  "uint32", "uint64",
                                                          "float16", "bfloat16", "float32", "float64"};
    return names[dtype];
}

static inline const char *zw_type_name(const struct zw_array *array)
{
    if (!array->complex)
        return zw_dtype_name(array->dtype);
    return array->dtype == DAMACY_F32   ? "complex64"
           : array->dtype == DAMACY_F64 ? "complex128"
           : array->dtype == DAMACY_F16 ? "complex_float16"
                                        : "complex_bfloat16";
}

static inline size_t zw_list(char *text, size_t capacity, const uint64_t *numbers, uint32_t count)
{
    size_t at = (size_t)snprintf(text, capacity, "[");
    for (uint32_t i = 0; i < count; i++)
        at += (size_t)snprintf(text + at, capacity - at, "%s%llu", i ? "," : "", (unsigned long long)numbers[i]);
    return at + (size_t)snprintf(text + at, capacity - at, "]");
}

/* The zarr.json. Returns its length. */
static inline size_t zw_metadata(const struct zw_array *array, char *text, size_t capacity)
{
    char list[1024], codecs[2048], fill_text[64];
    size_t at = 0;
    uint8_t fill[16];
    zw_fill(array, fill);
    zw_fill_part(array, 1, fill + 8);
    uint64_t bits, second;
    memcpy(&bits, fill, 8);
    memcpy(&second, fill + 8, 8);
    uint32_t item = (uint32_t)damacy_dtype_bytes(array->dtype), key_rank = zw_key_rank(array);
    if (array->dtype == DAMACY_BOOL)
        snprintf(fill_text, sizeof fill_text, "%s", bits ? "true" : "false");
    else if (array->complex)
        snprintf(fill_text, sizeof fill_text, "[\"0x%0*llx\",\"0x%0*llx\"]", (int)(2 * item), (unsigned long long)bits,
                 (int)(2 * item), (unsigned long long)second);
    else if (array->dtype >= DAMACY_F16)
        snprintf(fill_text, sizeof fill_text, "\"0x%0*llx\"", (int)(2 * item), (unsigned long long)bits);
    else if (array->dtype >= DAMACY_U8)
        snprintf(fill_text, sizeof fill_text, "%llu", (unsigned long long)bits);
    else
        snprintf(fill_text, sizeof fill_text, "%lld", (long long)(bits << (64 - 8 * item)) >> (64 - 8 * item));

    if (array->transposed) {
        uint64_t order[ZW_RANK];
        for (uint32_t a = 0; a < array->rank; a++)
            order[a] = array->order[a];
        zw_list(list, sizeof list, order, key_rank);
        at += (size_t)snprintf(codecs + at, sizeof codecs - at, "{\"name\":\"transpose\",\"configuration\":{\"order\":%s}},",
                               list);
    }
    if (item == 1)
        at += (size_t)snprintf(codecs + at, sizeof codecs - at, "{\"name\":\"bytes\"}");
    else
        at += (size_t)snprintf(codecs + at, sizeof codecs - at, "{\"name\":\"bytes\",\"configuration\":{\"endian\":\"%s\"}}",
                               array->big_endian ? "big" : "little");
    static const char *const shuffles[] = {"noshuffle", "shuffle", "bitshuffle"};
    switch (array->compressor) {
    case ZW_RAW:
        break;
    case ZW_ZSTD:
    case ZW_ZSTD_CHECKSUM:
        at += (size_t)snprintf(codecs + at, sizeof codecs - at,
                               ",{\"name\":\"zstd\",\"configuration\":{\"level\":1,\"checksum\":%s}}",
                               array->compressor == ZW_ZSTD ? "false" : "true");
        break;
    case ZW_GZIP:
        at += (size_t)snprintf(codecs + at, sizeof codecs - at, ",{\"name\":\"gzip\",\"configuration\":{\"level\":1}}");
        break;
    case ZW_BLOSC:
        at += (size_t)snprintf(
            codecs + at, sizeof codecs - at,
            ",{\"name\":\"blosc\",\"configuration\":{\"cname\":\"%s\",\"clevel\":5,\"shuffle\":\"%s\",\"typesize\":%u,"
            "\"blocksize\":0}}",
            array->blosc_name ? array->blosc_name : "lz4", shuffles[array->blosc_shuffle], item);
        break;
    }
    if (array->crc32c)
        at += (size_t)snprintf(codecs + at, sizeof codecs - at, ",{\"name\":\"crc32c\"}");
    if (array->extra_codec)
        at += (size_t)snprintf(codecs + at, sizeof codecs - at, ",%s", array->extra_codec);
    if (zw_sharded(array)) {
        char inner[2048], around[300] = "";
        uint64_t extents[ZW_RANK], order[ZW_RANK];
        snprintf(inner, sizeof inner, "%s", codecs);
        for (uint32_t i = 0; i < array->rank; i++) {
            order[i] = zw_shard_axis(array, i);
            extents[i] = array->chunk[order[i]];
        }
        zw_list(list, sizeof list, order, key_rank);
        if (array->shard_transposed)
            snprintf(around, sizeof around, "{\"name\":\"transpose\",\"configuration\":{\"order\":%.200s}},", list);
        zw_list(list, sizeof list, extents, key_rank);
        at = (size_t)snprintf(
            codecs, sizeof codecs,
            "%s{\"name\":\"sharding_indexed\",\"configuration\":{\"chunk_shape\":%s,\"codecs\":[%.600s],\"index_codecs\":["
            "{\"name\":\"bytes\",\"configuration\":{\"endian\":\"%s\"}}%s],\"index_location\":\"%s\"}}",
            around, list, inner, array->index_big_endian ? "big" : "little",
            array->index_crc32c ? ",{\"name\":\"crc32c\"}" : "", array->index_at_start ? "start" : "end");
    }
    char shape[256];
    zw_list(shape, sizeof shape, array->shape, key_rank);
    zw_list(list, sizeof list, zw_grid(array), key_rank);
    for (uint32_t a = 0, used = 0; array->rectilinear && a < key_rank; a++) {
        char cells[256];
        snprintf(cells, sizeof cells, "%llu", (unsigned long long)zw_grid(array)[a]);
        if (array->cell_count[a])
            zw_list(cells, sizeof cells, array->cells[a], array->cell_count[a]);
        used +=
            (uint32_t)snprintf(list + used, sizeof list - used, "%s%s%s", a ? "," : "[", cells, a + 1 == key_rank ? "]" : "");
        zw_require(used < sizeof list);
    }
    char separator = array->separator ? array->separator : array->v2_keys ? '.' : '/';
    int bytes =
        snprintf(text, capacity,
                 "{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":%s,\"data_type\":\"%s\",\"chunk_grid\":{\"name\":\"%s\","
                 "\"configuration\":{%s:%s}},\"chunk_key_encoding\":{\"name\":\"%s\",\"configuration\":{\"separator\":"
                 "\"%c\"}},\"fill_value\":%s,\"codecs\":[%s],\"attributes\":{}}",
                 shape, zw_type_name(array), array->rectilinear ? "rectilinear" : "regular",
                 array->rectilinear ? "\"kind\":\"inline\",\"chunk_shapes\"" : "\"chunk_shape\"", list,
                 array->v2_keys ? "v2" : "default", separator, fill_text, codecs);
    zw_require(bytes > 0 && (size_t)bytes < capacity);
    return (size_t)bytes;
}

static inline uint64_t zw_elements(const uint64_t *extents, uint32_t rank)
{
    uint64_t elements = 1;
    for (uint32_t a = 0; a < rank; a++)
        elements *= extents[a];
    return elements;
}

/* The stored bytes of the chunk at these coordinates of the chunk grid; malloc'd. */
static inline uint8_t *zw_encode(const struct zw_array *array, const uint64_t *coordinates, size_t *stored)
{
    uint32_t item = (uint32_t)damacy_dtype_bytes(array->dtype), rank = array->rank;
    uint64_t extent[ZW_RANK], origin[ZW_RANK], at[ZW_RANK] = {0}, position[ZW_RANK] = {0}, k = 0;
    for (uint32_t i = 0; i < rank; i++) {
        uint32_t a = zw_chunk_axis(array, i);
        origin[a] = zw_cell_begin(array, a, coordinates[a], &extent[i]);
    }
    size_t bytes = zw_elements(extent, rank) * item;
    uint8_t *decoded = malloc(bytes + 8);
    do {
        bool inside = true;
        uint8_t value[8];
        for (uint32_t i = 0; i < rank; i++) {
            uint32_t a = zw_chunk_axis(array, i);
            position[a] = origin[a] + at[i];
            inside &= position[a] < array->shape[a];
        }
        if (inside)
            zw_value(array, zw_linear(position, array->shape, rank), value);
        else
            memset(value, array->dtype == DAMACY_BOOL ? 1 : 0xdd, 8); /* beyond the end may be anything */
        for (uint32_t b = 0; b < item; b++)
            decoded[k++] = value[array->big_endian ? item - 1 - b : b];
    } while (zw_next(at, extent, rank));

    size_t capacity = bytes + bytes / 2 + 1024;
    uint8_t *out = malloc(capacity);
    switch (array->compressor) {
    case ZW_RAW:
        memcpy(out, decoded, bytes);
        *stored = bytes;
        break;
    case ZW_ZSTD:
    case ZW_ZSTD_CHECKSUM: {
        ZSTD_CCtx *context = ZSTD_createCCtx();
        ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, 1);
        ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, array->compressor == ZW_ZSTD_CHECKSUM);
        *stored = ZSTD_compress2(context, out, capacity, decoded, bytes);
        zw_require(!ZSTD_isError(*stored));
        ZSTD_freeCCtx(context);
        break;
    }
    case ZW_GZIP: {
        struct libdeflate_compressor *compressor = libdeflate_alloc_compressor(1);
        *stored = libdeflate_gzip_compress(compressor, decoded, bytes, out, capacity);
        zw_require(*stored);
        libdeflate_free_compressor(compressor);
        break;
    }
    case ZW_BLOSC: {
        int written = blosc_compress_ctx(5, array->blosc_shuffle, item, bytes, decoded, out, capacity,
                                         array->blosc_name ? array->blosc_name : "lz4", 0, 1);
        zw_require(written > 0);
        *stored = (size_t)written;
        break;
    }
    }
    if (array->crc32c) {
        uint32_t crc = dmc_crc32c(out, *stored);
        memcpy(out + *stored, &crc, 4);
        *stored += 4;
    }
    free(decoded);
    return out;
}

static inline void zw_entry(const struct zw_array *array, uint8_t *index, uint64_t i, uint64_t offset, uint64_t length)
{
    uint64_t pair[2] = {offset, length};
    if (array->index_big_endian) {
        pair[0] = __builtin_bswap64(offset);
        pair[1] = __builtin_bswap64(length);
    }
    memcpy(index + 16 * i, pair, 16);
}

static inline void zw_write_shard(const struct zw_array *array, const struct zw_sink *sink, const uint64_t *shard,
                                  const char *key)
{
    uint32_t rank = array->rank;
    uint64_t per_axis[ZW_RANK], first[ZW_RANK], at[ZW_RANK] = {0}, coordinates[ZW_RANK];
    for (uint32_t k = 0; k < rank; k++) { /* in the order in which the shard counts */
        uint32_t a = zw_shard_axis(array, k);
        uint64_t extent, begin = zw_grid_begin(array, a, shard[a], &extent);
        per_axis[k] = extent / array->chunk[a];
        first[k] = begin / array->chunk[a];
    }
    uint64_t count = zw_elements(per_axis, rank);
    size_t index_bytes = 16 * count + (array->index_crc32c ? 4 : 0);
    size_t chunk_bytes = zw_elements(array->chunk, rank) * damacy_dtype_bytes(array->dtype);
    uint8_t *object = malloc(index_bytes + count * (chunk_bytes + chunk_bytes / 2 + 1040));
    uint8_t *index = malloc(index_bytes);
    uint64_t size = array->index_at_start ? index_bytes : 0, i = 0;
    do {
        bool inside = true;
        for (uint32_t k = 0; k < rank; k++) {
            uint32_t a = zw_shard_axis(array, k);
            coordinates[a] = first[k] + at[k];
            inside &= coordinates[a] * array->chunk[a] < array->shape[a];
        }
        if (!inside || zw_missing(array, coordinates, false)) {
            zw_entry(array, index, i++, UINT64_MAX, UINT64_MAX);
            continue;
        }
        size_t stored;
        uint8_t *data = zw_encode(array, coordinates, &stored);
        size += zw_hash(size, i) % 3; /* a gap now and then */
        memcpy(object + size, data, stored);
        zw_entry(array, index, i++, size, stored);
        size += stored;
        free(data);
    } while (zw_next(at, per_axis, rank));
    if (array->index_crc32c) {
        uint32_t crc = dmc_crc32c(index, 16 * count);
        memcpy(index + 16 * count, &crc, 4);
    }
    memcpy(array->index_at_start ? object : object + size, index, index_bytes);
    zw_put(sink, key, object, array->index_at_start ? size : size + index_bytes);
    free(index);
    free(object);
}

static inline void zw_write_metadata(const struct zw_array *array, const struct zw_sink *sink)
{
    char text[4096], key[128];
    size_t bytes = zw_metadata(array, text, sizeof text);
    snprintf(key, sizeof key, "%.63s/zarr.json", array->name);
    zw_put(sink, key, (uint8_t *)text, bytes);
}

static inline void zw_write(const struct zw_array *array, const struct zw_sink *sink)
{
    zw_write_metadata(array, sink);
    uint64_t grid[ZW_RANK], at[ZW_RANK] = {0};
    for (uint32_t a = 0; a < array->rank; a++)
        grid[a] = zw_grid_of(array, a, array->shape[a] - 1) + 1;
    do {
        char key[256], relative[160];
        zw_key(array, at, relative, sizeof relative);
        snprintf(key, sizeof key, "%.63s/%s", array->name, relative);
        if (zw_missing(array, at, zw_sharded(array)))
            continue;
        if (zw_sharded(array)) {
            zw_write_shard(array, sink, at, key);
        } else {
            size_t stored;
            uint8_t *data = zw_encode(array, at, &stored);
            zw_put(sink, key, data, stored);
            free(data);
        }
    } while (zw_next(at, grid, array->rank));
}

#endif
