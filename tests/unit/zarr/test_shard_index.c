/* Goal: a shard index is decoded as it was written, and damage is told with the inner chunk it hits.
 *
 * Method: whole shards that zarr-python wrote, read through the index and compared by the sums of their chunks; indices made
 * here with one wrong entry, one flipped bit, a wrong size; random entries against a plain rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "support/test_seed.h"
#include "unit/zarr/zarr_examples.h"
#include "zarr/shard_index.h"

static void test_zarr_python_shards(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shard_examples / sizeof *shard_examples; i++) {
        const struct shard_example *example = &shard_examples[i];
        struct dmc_zarr_array *array;
        struct damacy_error error;
        struct dmc_shard_entry entries[16];
        print_message("%s\n", example->name);
        assert_int_equal(dmc_zarr_array_parse(example->text, strlen(example->text), NULL, &array, &error), DAMACY_OK);
        assert_int_equal(array->chunks_per_shard, 16);
        assert_int_equal(dmc_shard_index_bytes(array, array->chunks_per_shard), example->index_bytes);
        const uint8_t *index = example->shard + example->index_offset;
        assert_int_equal(dmc_shard_index_decode(array, array->chunks_per_shard, index, example->index_bytes,
                                                example->shard_bytes, entries, &error),
                         DAMACY_OK);
        for (size_t c = 0; c < 16; c++) {
            assert_int_equal(dmc_shard_entry_absent(entries[c]), example->sums[c] == 0);
            if (dmc_shard_entry_absent(entries[c])) {
                assert_int_equal(entries[c].length, 0);
                continue;
            }
            uint64_t sum = 0;
            assert_int_equal(entries[c].length, 8);
            for (size_t k = 0; k < 4; k++) {
                uint16_t element;
                memcpy(&element, example->shard + entries[c].offset + 2 * k, 2);
                sum += element;
            }
            assert_int_equal(sum, example->sums[c]);
        }
        if (array->index_crc32c) { /* each flipped bit is seen */
            for (size_t bit = 0; bit < 8 * example->index_bytes; bit++) {
                uint8_t damaged[260];
                memcpy(damaged, index, example->index_bytes);
                damaged[bit / 8] ^= (uint8_t)(1u << (bit % 8));
                assert_int_equal(dmc_shard_index_decode(array, array->chunks_per_shard, damaged, example->index_bytes,
                                                        UINT64_MAX, entries, &error),
                                 DAMACY_DECODE);
                assert_non_null(strstr(error.message, "shard index checksum does not match: found crc32c 0x"));
                assert_string_equal(error.stage, "index");
            }
        }
        dmc_zarr_array_free(array);
    }
}

static void put(uint8_t *to, uint64_t value, bool big)
{
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(value >> 8 * (big ? 7 - i : i));
}

/* Encode an index, in memory of exactly its size. */
static uint8_t *encode(const struct dmc_zarr_array *array, const uint64_t *pairs, size_t *bytes)
{
    size_t entries_bytes = 16 * array->chunks_per_shard;
    *bytes = entries_bytes + (array->index_crc32c ? 4 : 0);
    uint8_t *data = malloc(*bytes);
    assert_non_null(data);
    for (uint64_t i = 0; i < 2 * array->chunks_per_shard; i++)
        put(data + 8 * i, pairs[i], array->index_big_endian);
    if (array->index_crc32c) {
        uint32_t crc = dmc_crc32c(data, entries_bytes);
        memcpy(data + entries_bytes, &crc, 4);
    }
    return data;
}

static void test_wrong_entries(void **state)
{
    (void)state;
    const uint64_t all = UINT64_MAX;
    static const char beyond[] = "bytes within the shard's 1000";
    const struct {
        uint64_t offset, length, object_bytes;
        const char *part; /* NULL: good */
    } cases[] = {
        {0, 1000, 1000, NULL},
        {1000, 0, 1000, NULL},
        {999, 1, 1000, NULL},
        {all, all, 1000, NULL},
        {all, all, 0, NULL},
        {0, 1001, 1000, beyond},
        {1001, 0, 1000, beyond},
        {1, 1000, 1000, beyond},
        {all, 5, 1000, beyond},
        {all, 0, 1000, beyond},
        {5, all, 1000, beyond},
        {all - 1, 2, 1000, beyond},
        {0, all, all, "expected an offset and a length"},
        {all, 0, all, "found offset 18446744073709551615 and length 0"},
        {1, all, all, "an offset and a length"},
        {all - 1, 2, all, "an offset and a length"},
        {all - 2, 2, all, NULL},
        {UINT64_C(1) << 40, UINT64_C(1) << 40, all, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (uint64_t at = 0; at < 5; at++) {
            struct dmc_zarr_array array = {
                .sharded = true, .chunks_per_shard = 5, .index_big_endian = i % 2, .index_crc32c = at % 2};
            uint64_t pairs[10] = {all, all, all, all, all, all, all, all, all, all};
            pairs[2 * at] = cases[i].offset;
            pairs[2 * at + 1] = cases[i].length;
            size_t bytes;
            uint8_t *data = encode(&array, pairs, &bytes);
            struct dmc_shard_entry entries[5];
            struct damacy_error error = {0};
            enum damacy_status status =
                dmc_shard_index_decode(&array, array.chunks_per_shard, data, bytes, cases[i].object_bytes, entries, &error);
            if (!cases[i].part) {
                assert_int_equal(status, DAMACY_OK);
                assert_int_equal(entries[at].offset, cases[i].offset);
                assert_int_equal(entries[at].length, cases[i].offset == all ? 0 : cases[i].length);
            } else {
                char name[32];
                snprintf(name, sizeof name, "inner chunk %llu ", (unsigned long long)at);
                assert_int_equal(status, DAMACY_DECODE);
                if (!strstr(error.message, cases[i].part) || !strstr(error.message, name))
                    fail_msg("%s", error.message);
                assert_int_equal(
                    dmc_shard_index_decode(&array, array.chunks_per_shard, data, bytes, cases[i].object_bytes, entries, NULL),
                    DAMACY_DECODE);
            }
            free(data);
        }
    }
}

static void test_wrong_size(void **state)
{
    (void)state;
    struct dmc_zarr_array array = {.sharded = true, .chunks_per_shard = 2, .index_crc32c = true};
    uint8_t data[64] = {0};
    struct dmc_shard_entry entries[2];
    for (size_t bytes = 0; bytes <= sizeof data; bytes++) {
        if (bytes == 36)
            continue;
        struct damacy_error error = {0};
        assert_int_equal(dmc_shard_index_decode(&array, array.chunks_per_shard, data, bytes, UINT64_MAX, entries, &error),
                         DAMACY_DECODE);
        char part[80];
        snprintf(part, sizeof part, "found %zu bytes, expected 36 bytes", bytes);
        assert_non_null(strstr(error.message, part));
    }
    struct dmc_zarr_array plain = {.chunks_per_shard = 1};
    assert_int_equal(dmc_shard_index_bytes(&plain, 1), 0);
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Random indices, some with one wrong entry: all entries right, or an error that names the first wrong one. */
static void test_random(void **state)
{
    (void)state;
    uint64_t seed = seed_of_test("test_random", 0x5eed1) * 2 + 1; /* not 0 */
    for (int round = 0; round < 2000; round++) {
        struct dmc_zarr_array array = {.sharded = true,
                                       .chunks_per_shard = 1 + next_random(&seed) % 70,
                                       .index_big_endian = next_random(&seed) % 2,
                                       .index_crc32c = next_random(&seed) % 2};
        uint64_t object_bytes = next_random(&seed) >> (next_random(&seed) % 63);
        uint64_t pairs[140], first_bad = UINT64_MAX;
        for (uint64_t i = 0; i < array.chunks_per_shard; i++) {
            uint64_t offset = object_bytes ? next_random(&seed) % object_bytes : 0;
            uint64_t length = object_bytes - offset ? next_random(&seed) % (object_bytes - offset) : 0;
            if (next_random(&seed) % 3 == 0)
                offset = length = UINT64_MAX;
            if (next_random(&seed) % 100 == 0) {
                length = object_bytes - offset + 1;
                first_bad = first_bad == UINT64_MAX ? i : first_bad;
            }
            if (offset == UINT64_MAX && length != UINT64_MAX)
                first_bad = first_bad < i ? first_bad : i;
            pairs[2 * i] = offset;
            pairs[2 * i + 1] = length;
        }
        size_t bytes;
        uint8_t *data = encode(&array, pairs, &bytes);
        struct dmc_shard_entry entries[70];
        struct damacy_error error = {0};
        enum damacy_status status =
            dmc_shard_index_decode(&array, array.chunks_per_shard, data, bytes, object_bytes, entries, &error);
        assert_int_equal(status, first_bad == UINT64_MAX ? DAMACY_OK : DAMACY_DECODE);
        if (status == DAMACY_OK) {
            for (uint64_t i = 0; i < array.chunks_per_shard; i++) {
                assert_true(entries[i].offset == pairs[2 * i]);
                assert_true(entries[i].length == (pairs[2 * i] == UINT64_MAX ? 0 : pairs[2 * i + 1]));
            }
        } else {
            char name[32];
            snprintf(name, sizeof name, "inner chunk %llu ", (unsigned long long)first_bad);
            assert_non_null(strstr(error.message, name));
        }
        free(data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zarr_python_shards),
        cmocka_unit_test(test_wrong_entries),
        cmocka_unit_test(test_wrong_size),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
