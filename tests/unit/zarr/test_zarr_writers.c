/* Goal: what zarr-python writes for each data type and fill value is read as zarr-python reads it.
 *
 * Method: zarr_writers_examples.h, made by make_zarr_writers_examples.py: texts of arrays without chunks, and the element that
 * zarr-python finds in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "unit/zarr/zarr_writers_examples.h"
#include "zarr/zarr_array.h"

static void check(const struct writers_example *example)
{
    struct dmc_selection selection = {0};
    struct dmc_zarr_array *array = NULL;
    struct damacy_error error;
    snprintf(selection.member, sizeof selection.member, "%s", example->member);
    enum damacy_status status = example->zarr_format == 2
                                    ? dmc_zarr_array_parse_v2(example->text, strlen(example->text), &selection, &array, &error)
                                    : dmc_zarr_array_parse(example->text, strlen(example->text), &selection, &array, &error);
    if (status != DAMACY_OK)
        fail_msg("%s: %s", example->name, error.message);
    if (array->item_bytes * array->fill_count != example->fill_bytes ||
        memcmp(array->fill, example->fill, example->fill_bytes) != 0)
        fail_msg("%s: %s has another fill value", example->name, example->text);
    assert_int_equal(array->key_rank, 2);
    assert_true(array->shape[0] == 5 && array->shape[1] == 7 && array->chunk_shape[0] == 2 && array->chunk_shape[1] == 3);
    const uint64_t at[] = {1, 2};
    char key[DMC_ZARR_KEY_BYTES_MAX];
    dmc_zarr_chunk_key(array, at, key, sizeof key);
    assert_string_equal(key, example->zarr_format == 2 ? "1.2" : "c/1/2");
    dmc_zarr_array_free(array);
}

static void test_fill_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof writers_examples / sizeof *writers_examples; i++)
        check(&writers_examples[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fill_values)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
