/* Chunk keys: how they are encoded, and the key of a grid chunk. */
#include "zarr/zarr_parse.h"

#include "base/error.h"

#include <string.h>

enum damacy_status dmc_zarr_key_encoding_read(dmc_json *value, struct dmc_zarr_key_encoding *encoding,
                                              struct damacy_error *error)
{
    static const char *const known[] = {"separator", NULL};
    struct dmc_zarr_named named;
    enum damacy_status status = dmc_zarr_named_read(value, "chunk_key_encoding", &named, error);
    if (status != DAMACY_OK)
        return status;
    if (strcmp(named.name, "v2") == 0)
        *encoding = (struct dmc_zarr_key_encoding){.kind = DMC_ZARR_KEYS_V2, .separator = '.'};
    else if (strcmp(named.name, "default") == 0)
        *encoding = (struct dmc_zarr_key_encoding){.kind = DMC_ZARR_KEYS_DEFAULT, .separator = '/'};
    else {
        char quoted[DMC_ZARR_QUOTE_BYTES];
        return dmc_zarr_wrong_text(error, DAMACY_UNSUPPORTED, "chunk_key_encoding", "default or v2",
                                   dmc_zarr_quote(quoted, named.name, strlen(named.name)));
    }
    status = dmc_zarr_members_check(named.configuration, "chunk_key_encoding.configuration", known, error);
    if (status != DAMACY_OK)
        return status;
    dmc_json *separator = dmc_json_get(named.configuration, "separator");
    if (!separator)
        return DAMACY_OK;
    if (dmc_zarr_string_is(separator, "/"))
        encoding->separator = '/';
    else if (dmc_zarr_string_is(separator, "."))
        encoding->separator = '.';
    else
        return dmc_zarr_wrong(error, DAMACY_DECODE, "chunk_key_encoding.configuration.separator", "\"/\" or \".\"", separator);
    return DAMACY_OK;
}

static size_t write_u64(char *to, uint64_t number)
{
    char digits[20];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    for (size_t i = 0; i < count; i++)
        to[i] = digits[count - 1 - i];
    return count;
}

size_t dmc_zarr_chunk_key(const struct dmc_zarr_array *array, const uint64_t *coordinates, char *key, size_t capacity)
{
    _Static_assert(1 + DAMACY_RANK_MAX * 21 < DMC_ZARR_KEY_BYTES_MAX, "the longest key and its zero fit");
    char text[DMC_ZARR_KEY_BYTES_MAX];
    size_t length = 0;
    if (array->key_encoding.kind == DMC_ZARR_KEYS_DEFAULT)
        text[length++] = 'c';
    else if (array->key_rank == 0)
        text[length++] = '0';
    for (uint32_t axis = 0; axis < array->key_rank; axis++) {
        if (length)
            text[length++] = array->key_encoding.separator;
        length += write_u64(text + length, coordinates[axis]);
    }
    if (capacity) {
        size_t kept = length < capacity ? length : capacity - 1;
        memcpy(key, text, kept);
        key[kept] = '\0';
    }
    return length;
}
