/* What zarr_array.h promises of every array, whatever the text was. */
#ifndef FUZZ_ZARR_COMMON_H
#define FUZZ_ZARR_COMMON_H

#include <stdlib.h>
#include <string.h>

#include "zarr/zarr_array.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

typedef enum damacy_status parse_function(const char *text, size_t bytes, const struct dmc_selection *selection,
                                          struct dmc_zarr_array **array, struct damacy_error *error);

static void require(bool truth)
{
    if (!truth)
        abort();
}

static void check_edges(const struct dmc_zarr_array *array)
{
    uint32_t total = 0;
    uint64_t last[DAMACY_RANK_MAX] = {0};
    for (uint32_t axis = 0; axis < array->rank; axis++) {
        const uint64_t *edges = array->chunk_edges[axis];
        uint32_t count = array->edge_counts[axis];
        require((edges != NULL) == (count > 0));
        if (!edges)
            continue;
        total += count + 1;
        require(edges[0] == 0 && edges[count] >= array->shape[axis] && edges[count - 1] < array->shape[axis]);
        for (uint32_t i = 0; i < count; i++) {
            uint64_t extent = edges[i + 1] - edges[i];
            require(edges[i] < edges[i + 1] && extent <= array->grid_shape[axis]);
            require(!array->sharded || extent % array->chunk_shape[axis] == 0);
            require(dmc_zarr_grid_coordinate(array, axis, edges[i]) == i);
        }
        last[axis] = count - 1;
    }
    uint64_t chunks = dmc_zarr_shard_chunks(array, last);
    require(total <= DMC_ZARR_EDGES_MAX && (!array->sharded || (chunks >= 1 && chunks <= array->chunks_per_shard)));
}

static void check_array(const struct dmc_zarr_array *array)
{
    uint64_t elements = 1, chunks = 1, coordinates[DAMACY_RANK_MAX];
    uint32_t seen = 0;
    require(array->memory_bytes <= dmc_zarr_array_memory_max());
    require(array->rank <= DAMACY_RANK_MAX && array->key_rank <= array->rank);
    require(array->item_bytes == damacy_dtype_bytes(array->dtype) && array->item_bytes > 0);
    require(array->fill_count == 1 ||
            (array->fill_count == 2 && array->rank > array->key_rank && array->shape[array->rank - 1] == 2));
    require(array->data_type && array->data_type[0]);
    for (uint32_t axis = 0; axis < array->rank; axis++) {
        require(array->chunk_shape[axis] > 0 && array->shape[axis] <= INT64_MAX);
        require(array->grid_shape[axis] % array->chunk_shape[axis] == 0);
        require(!__builtin_mul_overflow(elements, array->chunk_shape[axis], &elements));
        require(!__builtin_mul_overflow(chunks, array->grid_shape[axis] / array->chunk_shape[axis], &chunks));
        coordinates[axis] = array->shape[axis] / array->grid_shape[axis];
        if (axis >= array->key_rank)
            require(array->shape[axis] == array->chunk_shape[axis] && array->shape[axis] == array->grid_shape[axis]);
        if (array->shard_order)
            seen |= UINT32_C(1) << array->shard_order[axis];
    }
    require(elements == array->chunk_elements && elements <= (UINT64_C(1) << 62) / array->item_bytes);
    require(chunks == array->chunks_per_shard && chunks <= UINT64_C(1) << 28);
    require(!array->shard_order || (array->sharded && seen == (UINT32_C(1) << array->rank) - 1));
    if (array->chunk_edges)
        check_edges(array);
    require(array->codecs.count >= 1 && array->codecs.count <= DMC_ZARR_CODECS_MAX);
    for (uint32_t i = 0; i < array->codecs.count; i++) {
        require(array->codecs.list[i].name[0] != '\0');
        require(!array->codecs.list[i].configuration || array->codecs.list[i].configuration[0] == '{');
    }
    char key[DMC_ZARR_KEY_BYTES_MAX];
    size_t length = dmc_zarr_chunk_key(array, coordinates, key, sizeof key);
    require(length < sizeof key && strlen(key) == length && length > 0);
    require(!strstr(key, "..") && key[0] != '/');
}

/* Once as it is, and once with a member asked for. */
static void run(parse_function *parse, const uint8_t *data, size_t bytes)
{
    for (int member = 0; member < 2; member++) {
        struct dmc_selection selection = {.member = "x"};
        struct dmc_zarr_array *array = NULL;
        struct damacy_error error = {0};
        enum damacy_status status = parse((const char *)data, bytes, member ? &selection : NULL, &array, &error);
        if (status == DAMACY_OK) {
            check_array(array);
            dmc_zarr_array_free(array);
        } else {
            require(status == DAMACY_DECODE || status == DAMACY_UNSUPPORTED || (member && status == DAMACY_INVAL));
            require(error.status == status && error.message[0] != '\0' && !array);
        }
    }
}

#endif
