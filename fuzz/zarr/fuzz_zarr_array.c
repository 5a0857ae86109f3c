/* Any bytes as a zarr.json: an error with a message, or an array that keeps the promises of zarr_array.h. */
#include "zarr/zarr_array.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(bool truth)
{
    if (!truth)
        abort();
}

static void check_array(const struct dmc_zarr_array *array)
{
    require(array->memory_bytes <= dmc_zarr_array_memory_max());
    require(array->rank <= DAMACY_RANK_MAX);
    require(array->item_bytes == damacy_dtype_bytes(array->dtype) && array->item_bytes > 0);
    uint64_t elements = 1, chunks = 1, coordinates[DAMACY_RANK_MAX];
    for (uint32_t axis = 0; axis < array->rank; axis++) {
        require(array->chunk_shape[axis] > 0 && array->shape[axis] <= INT64_MAX);
        require(array->grid_shape[axis] % array->chunk_shape[axis] == 0);
        require(!__builtin_mul_overflow(elements, array->chunk_shape[axis], &elements));
        require(!__builtin_mul_overflow(chunks, array->grid_shape[axis] / array->chunk_shape[axis], &chunks));
        coordinates[axis] = array->shape[axis] / array->grid_shape[axis];
    }
    require(elements == array->chunk_elements && elements <= (UINT64_C(1) << 62) / array->item_bytes);
    require(chunks == array->chunks_per_shard && chunks <= UINT64_C(1) << 28);
    require(array->codecs.count >= 1 && array->codecs.count <= DMC_ZARR_CODECS_MAX);
    for (uint32_t i = 0; i < array->codecs.count; i++) {
        require(array->codecs.list[i].name[0] != '\0');
        require(strcmp(array->codecs.list[i].name, "sharding_indexed") != 0);
        require(!array->codecs.list[i].configuration || array->codecs.list[i].configuration[0] == '{');
    }
    char key[DMC_ZARR_KEY_BYTES_MAX];
    size_t length = dmc_zarr_chunk_key(array, coordinates, key, sizeof key);
    require(length < sizeof key && strlen(key) == length && length > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct dmc_zarr_array *array = NULL;
    struct damacy_error error = {0};
    enum damacy_status status = dmc_zarr_array_parse((const char *)data, bytes, NULL, &array, &error);
    if (status == DAMACY_OK) {
        check_array(array);
        dmc_zarr_array_free(array);
    } else {
        require(status == DAMACY_DECODE || status == DAMACY_UNSUPPORTED);
        require(error.status == status && error.message[0] != '\0' && !array);
    }
    return 0;
}
