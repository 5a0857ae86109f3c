/* SHA-256 and HMAC-SHA256 (FIPS 180-4, RFC 2104), for signing requests.
 *
 * Our own eighty lines, since the library that has them cannot be counted on: libcurl may be built on OpenSSL 1.1 or 3, GnuTLS,
 * mbedTLS or others, a wheel with a libcrypto of its own would grow by five megabytes, and one found by dlopen would be a
 * second thing that may be missing or of another version. Nothing here depends on the data in its timing but their length. */
#ifndef DMC_S3_SHA256_H
#define DMC_S3_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define DMC_SHA256_BYTES 32
#define DMC_SHA256_HEX (2 * DMC_SHA256_BYTES + 1)

struct dmc_sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
};

void dmc_sha256_begin(struct dmc_sha256 *hash);
void dmc_sha256_add(struct dmc_sha256 *hash, const void *data, size_t bytes);
void dmc_sha256_end(struct dmc_sha256 *hash, uint8_t digest[DMC_SHA256_BYTES]); /* wipes the state */

void dmc_hmac_sha256(const void *key, size_t key_bytes, const void *data, size_t bytes, uint8_t mac[DMC_SHA256_BYTES]);

void dmc_sha256_hex(const uint8_t digest[DMC_SHA256_BYTES], char hex[DMC_SHA256_HEX]);

#endif
