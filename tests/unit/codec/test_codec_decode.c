/* Goal: chains of several codecs, the checksum codec, uncompressed chunks, and the context's memory: what it takes is what the
 * budget shows, never more than the chain said, and nothing once warm.
 * Method: codecs applied in a row with the libraries; random chains; budgets just too small; failing allocations; malloc and
 * its relatives counted by replacing them in this executable (not under sanitizers, which do that themselves). */
#include "base/crc32c.h"
#include "codec_fixtures.h"
#include <blosc.h>
#include <errno.h>
#include <libdeflate.h>
#include <pthread.h>
#include <zstd.h>

/* ---- every allocation of the process, libraries included ---- */

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#endif

static _Atomic uint64_t allocations;

#ifndef SANITIZED
#define EXPORT __attribute__((visibility("default"))) /* so that shared libraries find these, too */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);
EXPORT void *malloc(size_t bytes)
{
    allocations++;
    return __libc_malloc(bytes);
}
EXPORT void *calloc(size_t count, size_t bytes)
{
    allocations++;
    return __libc_calloc(count, bytes);
}
EXPORT void *realloc(void *memory, size_t bytes)
{
    allocations++;
    return __libc_realloc(memory, bytes);
}
EXPORT int posix_memalign(void **memory, size_t align, size_t bytes)
{
    allocations++;
    *memory = __libc_memalign(align, bytes);
    return *memory ? 0 : ENOMEM;
}
EXPORT void *aligned_alloc(size_t align, size_t bytes)
{
    allocations++;
    return __libc_memalign(align, bytes);
}
#endif

static uint64_t allocation_count(void)
{
    return allocations + dmc_mem_count();
}

/* ---- encoding ---- */

/* Apply a codec by name to `from`; returns the bytes written. */
static size_t encode(const char *name, const uint8_t *from, size_t bytes, uint8_t *to, size_t room)
{
    if (strcmp(name, "crc32c") == 0) {
        uint32_t sum = dmc_crc32c(from, bytes);
        memcpy(to, from, bytes);
        memcpy(to + bytes, &sum, 4);
        return bytes + 4;
    }
    if (strcmp(name, "zstd") == 0)
        return ZSTD_compress(to, room, from, bytes, 1);
    if (strcmp(name, "gzip") == 0) {
        struct libdeflate_compressor *compressor = libdeflate_alloc_compressor(1);
        size_t result = libdeflate_gzip_compress(compressor, from, bytes, to, room);
        libdeflate_free_compressor(compressor);
        return result;
    }
    static const char *const inners[] = {"lz4", "zstd", "zlib"};
    return (size_t)blosc_compress_ctx(5, (int)fixture_below(3), 1 + fixture_below(8), bytes, from, to, room,
                                      inners[fixture_below(3)], fixture_below(2) ? 0 : 512, 1);
}

/* `names` in the order of encoding. */
static size_t encode_all(const char *const *names, const uint8_t *from, size_t bytes, uint8_t *to, size_t room)
{
    uint8_t *input = malloc(room);
    memcpy(to, from, bytes);
    for (; *names; names++) {
        memcpy(input, to, bytes);
        bytes = encode(*names, input, bytes, to, room);
        assert_true(bytes > 0 && bytes <= room);
    }
    free(input);
    return bytes;
}

/* ---- tests ---- */

static void test_decode_raw(void **state)
{
    (void)state;
    uint8_t original[100];
    struct damacy_error error;
    const char *none[] = {NULL};
    fixture_seed(109);
    struct dmc_codec_context *context = fixture_context(NULL);
    struct dmc_codec_chain *chain = fixture_chain(sizeof original, none);
    fixture_fill(original, sizeof original, 1, CONTENT_NOISE);
    fixture_ranges(chain, context, original, sizeof original, original, SIZE_MAX);
    fixture_truncations(chain, context, original, sizeof original);
    uint8_t longer[101] = {0};
    assert_int_equal(fixture_decode(chain, context, longer, 101, 0, 1, false, NULL, &error), DAMACY_DECODE);
    assert_string_equal(error.expected, "100 bytes");
    assert_string_equal(error.found, "101 bytes");
    dmc_codec_chain_free(chain);
    dmc_codec_context_destroy(context);
    dmc_codec_context_destroy(NULL);
}

static void test_decode_crc32c(void **state)
{
    (void)state;
    uint8_t original[200], stored[204];
    struct damacy_error error;
    struct dmc_codec_context *context = fixture_context(NULL);
    struct dmc_codec_chain *chain = fixture_chain_of(sizeof original, "crc32c");
    fixture_seed(110);
    fixture_fill(original, sizeof original, 1, CONTENT_NOISE);
    assert_int_equal(encode("crc32c", original, sizeof original, stored, sizeof stored), sizeof stored);
    fixture_ranges(chain, context, stored, sizeof stored, original, SIZE_MAX);
    fixture_truncations(chain, context, stored, sizeof stored);
    /* Every single bit is noticed, wherever the needed bytes are. */
    for (size_t bit = 0; bit < 8 * sizeof stored; bit++) {
        stored[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(fixture_decode(chain, context, stored, sizeof stored, 7, 8, false, NULL, &error), DAMACY_DECODE);
        stored[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_non_null(strstr(error.message, "checksum mismatch"));
    assert_non_null(strstr(error.expected, "crc32c 0x"));
    assert_non_null(strstr(error.found, "0x"));
    /* The known value of the standard's nine digits. */
    const uint8_t check[] = {'1', '2', '3', '4', '5', '6', '7', '8', '9', 0x83, 0x92, 0x06, 0xe3};
    struct dmc_codec_chain *nine = fixture_chain_of(9, "crc32c");
    fixture_decode_ok(nine, context, check, sizeof check, 0, 9, check);
    dmc_codec_chain_free(nine);
    dmc_codec_chain_free(chain);
    dmc_codec_context_destroy(context);
}

static void test_decode_random_chains(void **state)
{
    (void)state;
    static const char *const known[] = {"zstd", "gzip", "blosc", "crc32c"};
    enum { BYTES_MAX = 5000, ROOM = 200000 };
    uint8_t *original = malloc(BYTES_MAX), *stored = malloc(ROOM);
    struct dmc_budget budget;
    dmc_budget_init(&budget, UINT64_MAX);
    fixture_seed(111);
    for (int round = 0; round < 300; round++) {
        const char *names[7] = {NULL};
        size_t count = 1 + fixture_below(5), bytes = 1 + fixture_below(BYTES_MAX);
        for (size_t i = 0; i < count; i++)
            names[i] = known[fixture_below(4)];
        fixture_fill(original, bytes, 2, (enum fixture_content)fixture_below(CONTENT_COUNT));
        size_t stored_bytes = encode_all(names, original, bytes, stored, ROOM);
        struct dmc_codec_chain *chain = fixture_chain(bytes, names);
        struct dmc_codec_context *context = fixture_context(&budget);
        assert_true(stored_bytes <= chain->stored_bytes_max);
        fixture_ranges(chain, context, stored, stored_bytes, original, 5);
        assert_true(dmc_budget_used(&budget) <= chain->scratch_bytes);
        fixture_mutations(chain, context, stored, stored_bytes, 30);
        fixture_decode_ok(chain, context, stored, stored_bytes, 0, bytes, original);
        assert_true(dmc_budget_used(&budget) <= chain->scratch_bytes);
        dmc_codec_chain_free(chain);
        dmc_codec_context_destroy(context);
        assert_int_equal(dmc_budget_used(&budget), 0);
    }
    free(original);
    free(stored);
}

/* A checksum over compressed bytes is checked before anything is decoded; one over decoded bytes has them decoded whole. */
static void test_decode_checksums_in_chains(void **state)
{
    (void)state;
    enum { BYTES = 400000 };
    static const char *const outside[] = {"zstd", "crc32c", NULL};
    static const char *const inside[] = {"crc32c", "zstd", NULL};
    uint8_t *original = malloc(BYTES), *stored = malloc(2 * BYTES);
    struct dmc_codec_context *context = fixture_context(NULL);
    struct damacy_error error;
    fixture_seed(112);
    fixture_fill(original, BYTES, 2, CONTENT_IMAGE);
    for (int which = 0; which < 2; which++) {
        const char *const *names = which ? inside : outside;
        struct dmc_codec_chain *chain = fixture_chain(BYTES, names);
        size_t bytes = encode_all(names, original, BYTES, stored, 2 * BYTES);
        fixture_ranges(chain, context, stored, bytes, original, 5);
        stored[bytes - 100] ^= 1; /* far behind what is needed */
        assert_int_equal(fixture_decode(chain, context, stored, bytes, 0, 10, false, NULL, &error), DAMACY_DECODE);
        dmc_codec_chain_free(chain);
    }
    dmc_codec_context_destroy(context);
    free(original);
    free(stored);
}

static void test_decode_budget(void **state)
{
    (void)state;
    static const char *const chains[][3] = {{"zstd", NULL}, {"gzip", NULL}, {"blosc", NULL}, {"zstd", "gzip", NULL}};
    enum { BYTES = 100000 };
    uint8_t *original = malloc(BYTES), *stored = malloc(3 * BYTES);
    fixture_seed(113);
    for (size_t i = 0; i < sizeof chains / sizeof *chains; i++) {
        struct dmc_codec_chain *chain = fixture_chain(BYTES, chains[i]);
        fixture_fill(original, BYTES, 2, CONTENT_IMAGE);
        size_t bytes = strcmp(chains[i][0], "blosc") == 0
                           ? (size_t)blosc_compress_ctx(5, 1, 2, BYTES, original, stored, 3 * BYTES, "zstd", 0, 1)
                           : encode_all(chains[i], original, BYTES, stored, 3 * BYTES);
        struct dmc_budget budget;
        struct damacy_error error;
        dmc_budget_init(&budget, chain->scratch_bytes);
        struct dmc_codec_context *context = fixture_context(&budget);
        fixture_decode_ok(chain, context, stored, bytes, 0, BYTES, original);
        uint64_t used = dmc_budget_used(&budget);
        assert_true(used > 0 && used <= chain->scratch_bytes);
        dmc_codec_context_destroy(context);
        assert_int_equal(dmc_budget_used(&budget), 0);
        /* One byte less than that is not enough, and says what to do. */
        dmc_budget_init(&budget, used - 1);
        context = fixture_context(&budget);
        for (int again = 0; again < 2; again++) {
            assert_int_equal(fixture_decode(chain, context, stored, bytes, 0, BYTES, false, NULL, &error), DAMACY_BUDGET);
            assert_non_null(strstr(error.hint, "max_host_memory_bytes"));
        }
        assert_true(dmc_budget_used(&budget) < used);
        dmc_codec_context_destroy(context);
        assert_int_equal(dmc_budget_used(&budget), 0);
        dmc_codec_chain_free(chain);
    }
    free(original);
    free(stored);
}

static void test_decode_allocation_failures(void **state)
{
    (void)state;
    static const char *const names[] = {"crc32c", "zstd", "zstd", "gzip", NULL};
    uint8_t original[3000], stored[20000];
    struct damacy_error error;
    fixture_seed(114);
    fixture_fill(original, sizeof original, 2, CONTENT_IMAGE);
    size_t bytes = encode_all(names, original, sizeof original, stored, sizeof stored);
    struct dmc_codec_chain *chain = fixture_chain(sizeof original, names);
    struct dmc_budget budget;
    dmc_budget_init(&budget, UINT64_MAX);
    for (uint64_t n = 1;; n++) {
        struct dmc_codec_context *context = NULL;
        dmc_mem_fail_at(n);
        enum damacy_status status = dmc_codec_context_create(&budget, &context, &error);
        if (!status)
            status = fixture_decode(chain, context, stored, bytes, 0, sizeof original, false, original, &error);
        dmc_mem_fail_at(0);
        if (status) {
            assert_int_equal(status, DAMACY_OOM);
            if (context) /* the next try has what it needs */
                fixture_decode_ok(chain, context, stored, bytes, 0, sizeof original, original);
        }
        dmc_codec_context_destroy(context);
        assert_int_equal(dmc_budget_used(&budget), 0);
        if (!status) {
            assert_true(n > 3);
            break;
        }
    }
    dmc_codec_chain_free(chain);
}

/* Twice through all codecs with chunks of several sizes, largest first: the second pass allocates nothing. */
static void test_decode_steady_state_allocates_nothing(void **state)
{
    (void)state;
    enum { KINDS = 9, BYTES = 300000 };
    static const struct {
        const char *names[3];
        const char *inner;
        int shuffle;
    } kinds[KINDS] = {{{"zstd"}, NULL, 0},         {{"gzip"}, NULL, 0},           {{"crc32c"}, NULL, 0},
                      {{"blosc"}, "lz4", 1},       {{"blosc"}, "zstd", 1},        {{"blosc"}, "zlib", 2},
                      {{"zstd", "gzip"}, NULL, 0}, {{"crc32c", "zstd"}, NULL, 0}, {{"blosc"}, "zstd", 0}};
    uint8_t *original = malloc(BYTES), *target = malloc(BYTES), *stored[KINDS];
    size_t stored_bytes[KINDS];
    struct dmc_codec_chain *chains[KINDS];
    fixture_seed(115);
    fixture_fill(original, BYTES, 2, CONTENT_IMAGE);
    for (int i = 0; i < KINDS; i++) {
        stored[i] = malloc(2 * BYTES);
        chains[i] = fixture_chain(BYTES, kinds[i].names);
        stored_bytes[i] = kinds[i].inner ? (size_t)blosc_compress_ctx(5, kinds[i].shuffle, 2, BYTES, original, stored[i],
                                                                      2 * BYTES, kinds[i].inner, 0, 1)
                                         : encode_all(kinds[i].names, original, BYTES, stored[i], 2 * BYTES);
    }
    struct dmc_codec_context *context = fixture_context(NULL);
    uint64_t warm = 0;
    for (int pass = 0; pass < 4; pass++) {
        for (int i = 0; i < KINDS; i++) {
            const struct dmc_decode decode = {
                stored[i], stored_bytes[i], target, pass == 3 ? 1000 : 0, pass == 2 ? 200000 : BYTES, pass == 1, 0};
            struct damacy_error error;
            memset(target, 0, BYTES);
            assert_int_equal(dmc_codec_decode(chains[i], context, &decode, &error), DAMACY_OK);
            assert_memory_equal(target + decode.need_begin, original + decode.need_begin, decode.need_end - decode.need_begin);
        }
        if (pass == 0)
            warm = allocation_count();
    }
    assert_int_equal(allocation_count(), warm);
#ifndef SANITIZED
    /* The counter does see the libraries. */
    blosc_decompress_ctx(stored[3], target, BYTES, 1);
    assert_true(allocation_count() > warm);
#endif
    dmc_codec_context_destroy(context);
    for (int i = 0; i < KINDS; i++) {
        dmc_codec_chain_free(chains[i]);
        free(stored[i]);
    }
    free(original);
    free(target);
}

/* ---- threads ---- */

struct sharer {
    const struct dmc_codec_chain *chain;
    const uint8_t *stored, *original;
    size_t stored_bytes;
    struct dmc_budget *budget;
    bool good;
};

static void *sharer_run(void *argument)
{
    struct sharer *sharer = argument;
    uint64_t bytes = sharer->chain->chunk_bytes;
    uint8_t *target = malloc(bytes);
    struct dmc_codec_context *context = NULL;
    struct damacy_error error;
    sharer->good = dmc_codec_context_create(sharer->budget, &context, &error) == DAMACY_OK;
    for (int i = 0; i < 20 && sharer->good; i++) {
        const struct dmc_decode decode = {sharer->stored, sharer->stored_bytes, target, 0, bytes, false, 0};
        memset(target, 0, bytes);
        sharer->good = dmc_codec_decode(sharer->chain, context, &decode, &error) == DAMACY_OK &&
                       memcmp(target, sharer->original, bytes) == 0;
    }
    dmc_codec_context_destroy(context);
    free(target);
    return NULL;
}

/* One chain and one budget, a context a thread; meant for ThreadSanitizer. */
static void test_decode_threads_share_a_chain(void **state)
{
    (void)state;
    enum { BYTES = 50000, THREADS = 4 };
    static const char *const names[] = {"blosc", "crc32c", NULL};
    uint8_t *original = malloc(BYTES), *stored = malloc(3 * BYTES);
    pthread_t threads[THREADS];
    struct sharer sharers[THREADS];
    struct dmc_budget budget;
    dmc_budget_init(&budget, UINT64_MAX);
    fixture_seed(116);
    fixture_fill(original, BYTES, 2, CONTENT_IMAGE);
    size_t bytes = encode_all(names, original, BYTES, stored, 3 * BYTES);
    struct dmc_codec_chain *chain = fixture_chain(BYTES, names);
    for (int i = 0; i < THREADS; i++) {
        sharers[i] = (struct sharer){chain, stored, original, bytes, &budget, false};
        assert_int_equal(pthread_create(&threads[i], NULL, sharer_run, &sharers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(sharers[i].good);
    }
    assert_int_equal(dmc_budget_used(&budget), 0);
    dmc_codec_chain_free(chain);
    free(original);
    free(stored);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_raw),
        cmocka_unit_test(test_decode_crc32c),
        cmocka_unit_test(test_decode_random_chains),
        cmocka_unit_test(test_decode_checksums_in_chains),
        cmocka_unit_test(test_decode_budget),
        cmocka_unit_test(test_decode_allocation_failures),
        cmocka_unit_test(test_decode_steady_state_allocates_nothing),
        cmocka_unit_test(test_decode_threads_share_a_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
