/* Goal: SHA-256, HMAC and signatures are those of the standards, so that every S3 server accepts them.
 * Method: published vectors: FIPS 180-4, RFC 4231, the SigV4 examples of the S3 documentation and of the signature test suite.
 */
#include <setjmp.h> /* IWYU pragma: keep */
#include <stdarg.h> /* IWYU pragma: keep */
#include <stddef.h> /* IWYU pragma: keep */
#include <stdint.h>

#include <cmocka.h>

#include "store/http_response.h"
#include "store/s3_sign.h"

#include <stdlib.h>
#include <string.h>

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void hash_of(const void *data, size_t bytes, char hex[DMC_SHA256_HEX])
{
    struct dmc_sha256 hash;
    uint8_t digest[DMC_SHA256_BYTES];
    dmc_sha256_begin(&hash);
    dmc_sha256_add(&hash, data, bytes);
    dmc_sha256_end(&hash, digest);
    dmc_sha256_hex(digest, hex);
}

static void test_sha256(void **state)
{
    (void)state;
    char hex[DMC_SHA256_HEX];
    hash_of("", 0, hex);
    assert_string_equal(hex, EMPTY);
    hash_of("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hash_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, hex);
    assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char *million = malloc(1000000);
    assert_non_null(million);
    memset(million, 'a', 1000000);
    hash_of(million, 1000000, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    /* However it is cut into pieces. */
    for (size_t piece = 1; piece < 200; piece += 7) {
        struct dmc_sha256 hash;
        uint8_t digest[DMC_SHA256_BYTES];
        dmc_sha256_begin(&hash);
        for (size_t at = 0; at < 1000000; at += piece)
            dmc_sha256_add(&hash, million + at, 1000000 - at < piece ? 1000000 - at : piece);
        dmc_sha256_end(&hash, digest);
        dmc_sha256_hex(digest, hex);
        assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
        piece += piece / 2 * 3;
    }
    free(million);
}

static void test_hmac(void **state)
{
    (void)state;
    uint8_t mac[DMC_SHA256_BYTES], key[131], data[50];
    char hex[DMC_SHA256_HEX];
    memset(key, 0x0b, 20);
    dmc_hmac_sha256(key, 20, "Hi There", 8, mac);
    dmc_sha256_hex(mac, hex);
    assert_string_equal(hex, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    dmc_hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, mac);
    dmc_sha256_hex(mac, hex);
    assert_string_equal(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof key);
    memset(data, 0xdd, sizeof data);
    dmc_hmac_sha256(key, 20, data, 50, mac);
    dmc_sha256_hex(mac, hex);
    assert_string_equal(hex, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    dmc_hmac_sha256(key, 131, "Test Using Larger Than Block-Size Key - Hash Key First", 54, mac);
    dmc_sha256_hex(mac, hex);
    assert_string_equal(hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

struct vector {
    const char *what, *method, *path, *query;
    struct dmc_sign_header headers[6];
    const char *payload, *time, *service, *key, *secret, *signature;
};

#define DOC_KEY "AKIAIOSFODNN7EXAMPLE"
#define DOC_SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define SUITE_KEY "AKIDEXAMPLE"
#define SUITE_SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define DOC_HOST                                                                                                               \
    {                                                                                                                          \
        "host", "examplebucket.s3.amazonaws.com"                                                                               \
    }
#define DOC_HASH                                                                                                               \
    {                                                                                                                          \
        "x-amz-content-sha256", EMPTY                                                                                          \
    }
#define DOC_DATE                                                                                                               \
    {                                                                                                                          \
        "x-amz-date", "20130524T000000Z"                                                                                       \
    }
#define SUITE_HOST                                                                                                             \
    {                                                                                                                          \
        "host", "example.amazonaws.com"                                                                                        \
    }
#define SUITE_DATE                                                                                                             \
    {                                                                                                                          \
        "x-amz-date", "20150830T123600Z"                                                                                       \
    }
#define DOC_TIME "2013-05-24T00:00:00Z"
#define SUITE_TIME "2015-08-30T12:36:00Z"
/* What is signed, when, for what, and by whom. */
#define DOC EMPTY, DOC_TIME, "s3", DOC_KEY, DOC_SECRET
#define SUITE EMPTY, SUITE_TIME, "service", SUITE_KEY, SUITE_SECRET

static const struct vector vectors[] = {
    {"S3 guide: GET object",
     "GET",
     "/test.txt",
     "",
     {DOC_HOST, {"range", "bytes=0-9"}, DOC_HASH, DOC_DATE},
     DOC,
     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
    {"S3 guide: GET bucket lifecycle",
     "GET",
     "/",
     "lifecycle=",
     {DOC_HOST, DOC_HASH, DOC_DATE},
     DOC,
     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
    {"S3 guide: list objects",
     "GET",
     "/",
     "max-keys=2&prefix=J",
     {DOC_HOST, DOC_HASH, DOC_DATE},
     DOC,
     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
    {"suite: get-vanilla",
     "GET",
     "/",
     "",
     {SUITE_HOST, SUITE_DATE},
     SUITE,
     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
    {"suite: get-vanilla-query-order-key-case",
     "GET",
     "/",
     "Param1=value1&Param2=value2",
     {SUITE_HOST, SUITE_DATE},
     SUITE,
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
    {"suite: get-unreserved",
     "GET",
     "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
     "",
     {SUITE_HOST, SUITE_DATE},
     SUITE,
     "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
    {"suite: get-utf8",
     "GET",
     "/%E1%88%B4",
     "",
     {SUITE_HOST, SUITE_DATE},
     SUITE,
     "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"},
    {"suite: post-vanilla",
     "POST",
     "/",
     "",
     {SUITE_HOST, SUITE_DATE},
     SUITE,
     "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
    {"suite: get-header-value-trim",
     "GET",
     "/",
     "",
     {SUITE_HOST, {"my-header1", " value1"}, {"my-header2", " \"a   b   c\""}, SUITE_DATE},
     SUITE,
     "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
};

static void test_vectors(void **state)
{
    (void)state;
    struct dmc_sign_key key = {.scope = ""};
    struct dmc_text scratch = {0}, authorization = {0};
    int failures = 0;
    for (int round = 0; round < 2; round++) { /* the second time with a cached key, and another one in between */
        for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
            const struct vector *vector = &vectors[i];
            struct dmc_sign_request request = {.method = vector->method,
                                               .path = vector->path,
                                               .query = vector->query,
                                               .headers = vector->headers,
                                               .payload = vector->payload,
                                               .region = "us-east-1",
                                               .service = vector->service};
            while (request.header_count < 6 && vector->headers[request.header_count].name)
                request.header_count++;
            assert_true(dmc_http_date(vector->time, strlen(vector->time), &request.time_s));
            dmc_text_clear(&authorization);
            assert_true(dmc_sign(&request, vector->key, vector->secret, &key, &scratch, &authorization));
            if (!strstr(authorization.data, vector->signature)) {
                print_error("%s: %s, expected %s\n", vector->what, authorization.data, vector->signature);
                failures++;
            }
        }
    }
    assert_int_equal(failures, 0);
    dmc_text_free(&scratch);
    dmc_text_free(&authorization);
}

static void test_encoding(void **state)
{
    (void)state;
    struct dmc_text text = {0};
    static const char key[] = "a b+c/\xc3\xa4%~'()*!&=;:@#?,$[]-_.";
    dmc_text_encoded(&text, key, strlen(key), true);
    assert_string_equal(text.data, "a%20b%2Bc/%C3%A4%25~%27%28%29%2A%21%26%3D%3B%3A%40%23%3F%2C%24%5B%5D-_.");
    dmc_text_clear(&text);
    dmc_text_encoded(&text, "a/b", 3, false);
    assert_string_equal(text.data, "a%2Fb");
    dmc_text_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_hmac),
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_encoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
