/* A parsed array as one line, so that a test is a table of texts:
 *
 *     v2 u16 [60,250,256] chunks [16,64,64] fill 0700 key 1.2.3 | bytes{"endian":"little"} numcodecs.zlib{"level":1}
 *
 * The key is that of the grid chunk (1, 2, 3, ...). What an array has only sometimes stands in the middle: shards, order,
 * edges. */
#ifndef ZARR_RENDER_H
#define ZARR_RENDER_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "zarr/zarr_array.h"

struct rendering {
    char text[6000];
    size_t used;
};

static void __attribute__((format(printf, 2, 3))) render(struct rendering *to, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    to->used += (size_t)vsnprintf(to->text + to->used, sizeof to->text - to->used, format, arguments);
    va_end(arguments);
    if (to->used >= sizeof to->text)
        to->used = sizeof to->text - 1;
}

static void render_extents(struct rendering *to, const char *name, const uint64_t *extents, uint32_t count)
{
    render(to, "%s[", name);
    for (uint32_t i = 0; i < count; i++)
        render(to, "%s%llu", i ? "," : "", (unsigned long long)extents[i]);
    render(to, "]");
}

static void render_array(struct rendering *to, const struct dmc_zarr_array *array)
{
    uint64_t at[DAMACY_RANK_MAX];
    char key[DMC_ZARR_KEY_BYTES_MAX];
    to->used = 0;
    render(to, "v%u %s ", array->zarr_format, damacy_dtype_str(array->dtype));
    render_extents(to, "", array->shape, array->rank);
    render_extents(to, " chunks ", array->chunk_shape, array->rank);
    if (array->sharded)
        render_extents(to, " shards ", array->grid_shape, array->rank);
    if (array->shard_order) {
        render(to, " order ");
        for (uint32_t i = 0; i < array->rank; i++)
            render(to, "%u", array->shard_order[i]);
    }
    for (uint32_t i = 0; array->chunk_edges && i < array->rank; i++) {
        if (array->chunk_edges[i])
            render_extents(to, " edges ", array->chunk_edges[i], array->edge_counts[i] + 1);
        else
            render(to, " edges -");
    }
    render(to, " fill ");
    for (uint32_t i = 0; i < array->fill_count * array->item_bytes; i++)
        render(to, "%02x", array->fill[i]);
    for (uint32_t i = 0; i < DAMACY_RANK_MAX; i++)
        at[i] = i + 1;
    dmc_zarr_chunk_key(array, at, key, sizeof key);
    render(to, " key %s |", key);
    for (uint32_t i = 0; i < array->codecs.count; i++)
        render(to, " %s%s", array->codecs.list[i].name,
               array->codecs.list[i].configuration ? array->codecs.list[i].configuration : "");
}

#endif
