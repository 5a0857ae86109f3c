/* Goal: CRC-32C as RFC 3720 defines it, and a hash that uses every byte. Method: the RFC's vectors, a bitwise reference,
 * one-bit changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/hash.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t reference(const uint8_t *data, size_t bytes)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static void test_crc32c(void **state)
{
    (void)state;
    uint8_t data[4096 + 7];
    assert_int_equal(dmc_crc32c("123456789", 9), 0xe3069283u);
    assert_int_equal(dmc_crc32c("", 0), 0);
    memset(data, 0, 32);
    assert_int_equal(dmc_crc32c(data, 32), 0x8a9136aau);
    memset(data, 0xff, 32);
    assert_int_equal(dmc_crc32c(data, 32), 0x62a8ab43u);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t bytes = 0; bytes < 300; bytes++)
        for (size_t begin = 0; begin < 8; begin++)
            assert_int_equal(dmc_crc32c(data + begin, bytes), reference(data + begin, bytes));
    assert_int_equal(dmc_crc32c(data, sizeof data), reference(data, sizeof data));
}

static void test_hash(void **state)
{
    (void)state;
    uint8_t data[64] = {0};
    for (size_t bytes = 0; bytes <= 40; bytes++) {
        uint64_t before = dmc_hash_bytes(data, bytes, 7);
        assert_true(before != 0);
        assert_true(before != dmc_hash_bytes(data, bytes, 8));
        assert_true(before != dmc_hash_bytes(data, bytes + 1, 7)); /* zeros at the end count */
        for (size_t i = 0; i < bytes; i++) {
            data[i] ^= 0x10;
            assert_true(before != dmc_hash_bytes(data, bytes, 7));
            data[i] ^= 0x10;
        }
    }
    /* Sequential keys, as paths of chunks are, must spread over the low bits: 4096 of them into 4096 buckets. */
    unsigned buckets[4096] = {0}, most = 0, most_numbers = 0, numbers[4096] = {0};
    for (uint32_t i = 0; i < 4096; i++) {
        char key[32];
        int bytes = snprintf(key, sizeof key, "c/0/%u/%u", i / 64, i % 64);
        unsigned *bucket = &buckets[dmc_hash_bytes(key, (size_t)bytes, 0) % 4096];
        most = ++*bucket > most ? *bucket : most;
        bucket = &numbers[dmc_hash_u64(i / 64, i % 64) % 4096];
        most_numbers = ++*bucket > most_numbers ? *bucket : most_numbers;
    }
    assert_true(most <= 12);
    assert_true(most_numbers <= 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_crc32c), cmocka_unit_test(test_hash)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
