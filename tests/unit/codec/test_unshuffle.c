/* Goal: the machine's best loops and the plain ones undo the filters as the header defines them, writing nothing else.
 * Method: filter random elements one bit or byte at a time by the definition, undo them over every typesize and ranges of odd
 * lengths at odd addresses, compare, and look at the bytes around. */
#include "codec/unshuffle.h"
#include "codec_fixtures.h"

static const struct dmc_unshuffle_ops *ops_at(int which)
{
    return which ? dmc_unshuffle_best() : &dmc_unshuffle_plain;
}

/* Elements to planes, by definition. */
static void shuffle(const uint8_t *elements, size_t typesize, size_t count, uint8_t *planes)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t b = 0; b < typesize; b++)
            planes[b * count + i] = elements[i * typesize + b];
    }
}

static void bitshuffle(const uint8_t *elements, size_t typesize, size_t count, uint8_t *planes)
{
    memset(planes, 0, typesize * count);
    for (size_t i = 0; i < count; i++) {
        for (size_t b = 0; b < typesize; b++) {
            for (size_t k = 0; k < 8; k++) {
                uint8_t bit = elements[i * typesize + b] >> k & 1;
                planes[b * count + k * (count / 8) + i / 8] |= (uint8_t)(bit << i % 8);
            }
        }
    }
}

static void check(size_t typesize, size_t count, size_t begin, size_t end, bool bits)
{
    size_t bytes = typesize * count;
    uint8_t *elements = calloc(bytes + 1, 1), *shuffled = malloc(bytes + 1), *target = malloc(bytes + 1);
    const uint8_t *planes[DMC_UNSHUFFLE_TYPESIZE_MAX];
    for (size_t i = 0; i < bytes; i++)
        elements[i] = (uint8_t)fixture_random();
    (bits ? bitshuffle : shuffle)(elements, typesize, count, shuffled);
    for (size_t b = 0; b < typesize; b++)
        planes[b] = shuffled + b * count;
    for (int which = 0; which < 2; which++) {
        memset(target, 0x55, bytes + 1);
        if (bits)
            ops_at(which)->bits(planes, typesize, count, begin, end, target);
        else
            ops_at(which)->bytes(planes, typesize, begin, end, target);
        assert_memory_equal(target + begin * typesize, elements + begin * typesize, (end - begin) * typesize);
        for (size_t i = 0; i < begin * typesize; i++)
            assert_int_equal(target[i], 0x55);
        for (size_t i = end * typesize; i <= bytes; i++)
            assert_int_equal(target[i], 0x55);
    }
    free(elements);
    free(shuffled);
    free(target);
}

static void test_unshuffle_bytes(void **state)
{
    (void)state;
    fixture_seed(103);
    for (size_t typesize = 1; typesize <= DMC_UNSHUFFLE_TYPESIZE_MAX; typesize++) {
        size_t cases = typesize <= 32 ? 40 : 3;
        for (size_t i = 0; i < cases; i++) {
            size_t count = 1 + fixture_below(typesize <= 32 ? 1500 : 200);
            size_t begin = i % 3 ? fixture_below(count + 1) : 0;
            size_t end = i % 2 ? begin + fixture_below(count - begin + 1) : count;
            check(typesize, count, begin, end, false);
        }
    }
}

static void test_unshuffle_bits(void **state)
{
    (void)state;
    fixture_seed(104);
    for (size_t typesize = 1; typesize <= DMC_UNSHUFFLE_TYPESIZE_MAX; typesize += typesize < 34 ? 1 : 17) {
        size_t cases = typesize <= 32 ? 15 : 3;
        for (size_t i = 0; i < cases; i++) {
            size_t count = 8 * (1 + fixture_below(typesize <= 32 ? 250 : 20));
            size_t begin = i % 3 ? fixture_below(count / 8 + 1) * 8 : 0;
            size_t end = i % 2 ? begin + fixture_below((count - begin) / 8 + 1) * 8 : count;
            check(typesize, count, begin, end, true);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_unshuffle_bytes), cmocka_unit_test(test_unshuffle_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
