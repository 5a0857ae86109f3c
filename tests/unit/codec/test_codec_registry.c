/* Goal: a user's codec decodes, is told its configuration, says what is wrong in its own words, and goes when the last chain
 * that uses it is gone, whoever registers and looks up meanwhile. Method: a codec that adds a number to each byte, alone,
 * between others and in the place of `bytes`; functions that fail or answer wrongly; threads that register, use and unregister;
 * a child process. */
#include "codec_fixtures.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zstd.h>

struct shift {
    _Atomic int released, decoded;
    enum damacy_status answer;
    const char *words;
    int64_t size_error; /* added to the decoded size */
};

static enum damacy_status shift_decode(void *user, const char *configuration, const void *source, size_t source_bytes,
                                       void *target, size_t target_bytes, size_t *decoded_bytes, char *message,
                                       size_t message_bytes)
{
    struct shift *shift = user;
    int by = 1;
    atomic_fetch_add(&shift->decoded, 1);
    if (configuration)
        sscanf(configuration, "{\"by\":%d}", &by);
    if (shift->answer) {
        if (shift->words)
            snprintf(message, message_bytes, "%s", shift->words);
        return shift->answer;
    }
    for (size_t i = 0; i < source_bytes && i < target_bytes; i++)
        ((uint8_t *)target)[i] = (uint8_t)(((const uint8_t *)source)[i] - by);
    *decoded_bytes = (size_t)((int64_t)source_bytes + shift->size_error);
    return DAMACY_OK;
}

static enum damacy_status shift_check(void *user, const char *configuration, char *message, size_t message_bytes)
{
    int by = 1;
    (void)user;
    if (configuration && (sscanf(configuration, "{\"by\":%d}", &by) != 1 || by > 100)) {
        snprintf(message, message_bytes, "'by' must be a number up to 100");
        return DAMACY_UNSUPPORTED;
    }
    return DAMACY_OK;
}

static uint64_t shift_encoded(void *user, const char *configuration, uint64_t decoded_bytes)
{
    (void)user;
    (void)configuration;
    return decoded_bytes;
}

static void shift_release(void *user)
{
    atomic_fetch_add(&((struct shift *)user)->released, 1);
}

static struct damacy_codec codec_of(struct shift *shift)
{
    struct damacy_codec codec = DAMACY_CODEC_INIT;
    codec.user = shift;
    codec.decode = shift_decode;
    codec.check = shift_check;
    codec.release = shift_release;
    return codec;
}

static struct dmc_codec_chain *chain_of(const char *name, const char *configuration, const char *compressor)
{
    const uint64_t shape = 300;
    const struct dmc_codec_desc descs[] = {{"bytes", NULL}, {name, configuration}, {compressor, NULL}};
    struct dmc_codec_chain *chain = NULL;
    struct damacy_error error;
    if (dmc_codec_chain_create(descs, compressor ? 3 : 2, DAMACY_U8, 1, &shape, &chain, &error))
        fail_msg("%s", error.message);
    return chain;
}

static void test_registered_codec_decodes(void **state)
{
    (void)state;
    struct shift shift = {0};
    struct damacy_codec codec = codec_of(&shift);
    struct damacy_error error;
    uint8_t original[300], stored[300], packed[1000];
    assert_int_equal(damacy_codec_register("test.shift", &codec, &error), DAMACY_OK);
    assert_int_equal(damacy_codec_register("numcodecs.pcodec", &codec, &error), DAMACY_OK); /* known, but not read */
    fixture_fill(original, sizeof original, 1, CONTENT_TEXT);
    struct dmc_codec_context *context = fixture_context(NULL);
    for (int by = 1; by < 8; by += 6) {
        for (size_t i = 0; i < sizeof original; i++)
            stored[i] = (uint8_t)(original[i] + by);
        size_t packed_bytes = ZSTD_compress(packed, sizeof packed, stored, sizeof stored, 1);
        struct dmc_codec_chain *alone = chain_of("test.shift", by == 1 ? NULL : "{\"by\":7}", NULL);
        struct dmc_codec_chain *under = chain_of("numcodecs.pcodec", by == 1 ? NULL : "{\"by\":7}", "zstd");
        assert_string_equal(dmc_codec_step_name(alone, 0), "(registered)");
        fixture_ranges(alone, context, stored, sizeof stored, original, 5);
        fixture_ranges(under, context, packed, packed_bytes, original, 5);
        fixture_truncations(alone, context, stored, sizeof stored);
        dmc_codec_chain_free(alone);
        dmc_codec_chain_free(under);
    }
    dmc_codec_context_destroy(context);
    assert_int_equal(shift.released, 0);
    assert_int_equal(damacy_codec_unregister("test.shift", NULL), DAMACY_OK);
    assert_int_equal(damacy_codec_unregister("numcodecs.pcodec", NULL), DAMACY_OK);
    assert_int_equal(shift.released, 2);
}

static void test_registered_codec_in_place_of_bytes(void **state)
{
    (void)state;
    struct shift shift = {0};
    struct damacy_codec codec = codec_of(&shift);
    struct damacy_error error;
    const uint64_t shape[] = {4, 5};
    const struct dmc_codec_desc descs[] = {{"transpose", "{\"order\":[1,0]}"}, {"test.elements", NULL}, {"bytes", NULL}};
    struct dmc_codec_chain *chain = NULL;
    uint8_t original[40], stored[40];
    codec.array_to_bytes = true;
    codec.encoded_bytes_max = shift_encoded;
    assert_int_equal(damacy_codec_register("test.elements", &codec, &error), DAMACY_OK);
    assert_int_equal(dmc_codec_chain_create(descs, 2, DAMACY_U16, 2, shape, &chain, &error), DAMACY_OK);
    assert_int_equal(chain->strides[0], 1);
    assert_int_equal(chain->stored_bytes_max, 40);
    for (size_t i = 0; i < sizeof original; i++) {
        original[i] = (uint8_t)i;
        stored[i] = (uint8_t)(i + 1);
    }
    struct dmc_codec_context *context = fixture_context(NULL);
    fixture_ranges(chain, context, stored, sizeof stored, original, 5);
    dmc_codec_context_destroy(context);
    dmc_codec_chain_free(chain);
    assert_int_equal(dmc_codec_chain_create(descs, 3, DAMACY_U16, 2, shape, &chain, &error), DAMACY_DECODE); /* two of them */
    assert_int_equal(damacy_codec_unregister("test.elements", NULL), DAMACY_OK);
    assert_int_equal(shift.released, 1);
}

static void test_registered_codec_fails_in_its_own_words(void **state)
{
    (void)state;
    static const struct {
        enum damacy_status answer, status;
        const char *words, *said;
        int64_t size_error;
    } cases[] = {
        {DAMACY_DECODE, DAMACY_DECODE, "the moon is full", "codec 'test.shift': the moon is full", 0},
        {DAMACY_UNSUPPORTED, DAMACY_UNSUPPORTED, "not today", "not today", 0},
        {DAMACY_OOM, DAMACY_OOM, NULL, "does not say why", 0},
        {DAMACY_SHUTDOWN, DAMACY_DECODE, "", "does not say why", 0}, /* not a status that it may give */
        {DAMACY_OK, DAMACY_DECODE, NULL, "test.shift: wrong decoded size: found 299 bytes, expected 300 bytes", -1},
        {DAMACY_OK, DAMACY_DECODE, NULL, "wrong decoded size", 1},
    };
    struct shift shift = {0};
    struct damacy_codec codec = codec_of(&shift);
    struct damacy_error error;
    uint8_t stored[300] = {0};
    assert_int_equal(damacy_codec_register("test.shift", &codec, &error), DAMACY_OK);
    struct dmc_codec_chain *chain = chain_of("test.shift", NULL, NULL);
    struct dmc_codec_context *context = fixture_context(NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        shift.answer = cases[i].answer;
        shift.words = cases[i].words;
        shift.size_error = cases[i].size_error;
        assert_int_equal(fixture_decode(chain, context, stored, sizeof stored, 0, 300, false, NULL, &error), cases[i].status);
        if (!strstr(error.message, cases[i].said))
            fail_msg("%s", error.message);
    }
    dmc_codec_context_destroy(context);
    dmc_codec_chain_free(chain);
    const uint64_t shape = 300;
    const struct dmc_codec_desc descs[] = {{"bytes", NULL}, {"test.shift", "{\"by\":101}"}};
    assert_int_equal(dmc_codec_chain_create(descs, 2, DAMACY_U8, 1, &shape, &chain, &error), DAMACY_UNSUPPORTED);
    assert_non_null(strstr(error.message, "codec 'test.shift': 'by' must be a number up to 100"));
    assert_int_equal(damacy_codec_unregister("test.shift", NULL), DAMACY_OK);
}

static void test_registering_wrongly(void **state)
{
    (void)state;
    struct shift shift = {0};
    struct damacy_codec codec = codec_of(&shift), old = codec, empty = DAMACY_CODEC_INIT;
    struct damacy_error error;
    char name[400];
    memset(name, 'x', sizeof name);
    name[300] = 0;
    old.struct_size = 8;
    assert_int_equal(damacy_codec_register(NULL, &codec, &error), DAMACY_INVAL);
    assert_int_equal(damacy_codec_register("", &codec, &error), DAMACY_INVAL);
    assert_int_equal(damacy_codec_register(name, &codec, &error), DAMACY_INVAL);
    assert_int_equal(damacy_codec_register("test.a", NULL, &error), DAMACY_INVAL);
    assert_int_equal(damacy_codec_register("test.a", &old, &error), DAMACY_INVAL);
    assert_int_equal(damacy_codec_register("test.a", &empty, &error), DAMACY_INVAL);
    assert_int_equal(damacy_codec_register("zstd", &codec, &error), DAMACY_INVAL);
    assert_non_null(strstr(error.message, "built in"));
    assert_int_equal(damacy_codec_register("numcodecs.zstd", &codec, NULL), DAMACY_INVAL);
    assert_int_equal(damacy_codec_unregister("test.a", &error), DAMACY_NOTFOUND);
    assert_int_equal(damacy_codec_unregister(NULL, &error), DAMACY_NOTFOUND);
    dmc_mem_fail_at(1);
    assert_int_equal(damacy_codec_register("test.a", &codec, &error), DAMACY_OOM);
    dmc_mem_fail_at(0);
    assert_int_equal(damacy_codec_register("test.a", &codec, &error), DAMACY_OK);
    assert_int_equal(damacy_codec_register("test.a", &codec, &error), DAMACY_INVAL);
    assert_non_null(strstr(error.message, "registered already"));
    /* A chain keeps it alive, and its name is free for another. */
    struct dmc_codec_chain *chain = chain_of("test.a", NULL, NULL);
    assert_int_equal(damacy_codec_unregister("test.a", &error), DAMACY_OK);
    assert_int_equal(shift.released, 0);
    assert_int_equal(damacy_codec_register("test.a", &codec, &error), DAMACY_OK);
    assert_int_equal(damacy_codec_unregister("test.a", &error), DAMACY_OK);
    assert_int_equal(shift.released, 1);
    dmc_codec_chain_free(chain);
    assert_int_equal(shift.released, 2);
}

static void test_registry_memory_failures(void **state)
{
    (void)state;
    struct shift shift = {0};
    struct damacy_codec codec = codec_of(&shift);
    const uint64_t shape = 300;
    const struct dmc_codec_desc descs[] = {{"bytes", NULL}, {"test.m", "{\"by\":3}"}, {"test.m", NULL}};
    assert_int_equal(damacy_codec_register("test.m", &codec, NULL), DAMACY_OK);
    for (uint64_t n = 1;; n++) {
        struct dmc_codec_chain *chain = NULL;
        dmc_mem_fail_at(n);
        enum damacy_status status = dmc_codec_chain_create(descs, 3, DAMACY_U8, 1, &shape, &chain, NULL);
        dmc_mem_fail_at(0);
        dmc_codec_chain_free(chain);
        if (status == DAMACY_OK)
            break;
        assert_int_equal(status, DAMACY_OOM);
    }
    assert_int_equal(damacy_codec_unregister("test.m", NULL), DAMACY_OK);
    assert_int_equal(shift.released, 1); /* no failure left a reference behind */
}

/* ---- threads and processes ---- */

struct user_thread {
    pthread_t thread;
    int number;
    struct shift shift;
    bool good;
};

static void *use_registry(void *argument)
{
    struct user_thread *self = argument;
    struct damacy_codec codec = codec_of(&self->shift);
    char name[32];
    uint8_t stored[300];
    struct damacy_error error;
    snprintf(name, sizeof name, "test.t%d", self->number % 2); /* two threads want each name */
    memset(stored, 9, sizeof stored);
    struct dmc_codec_context *context = NULL;
    self->good = dmc_codec_context_create(NULL, &context, NULL) == DAMACY_OK;
    for (int i = 0; i < 300 && self->good; i++) {
        const uint64_t shape = sizeof stored;
        const struct dmc_codec_desc descs[] = {{"bytes", NULL}, {name, NULL}};
        struct dmc_codec_chain *chain = NULL;
        uint8_t target[300] = {0};
        bool mine = damacy_codec_register(name, &codec, &error) == DAMACY_OK;
        if (dmc_codec_chain_create(descs, 2, DAMACY_U8, 1, &shape, &chain, &error) == DAMACY_OK) {
            const struct dmc_decode decode = {stored, sizeof stored, target, 0, sizeof stored, false, 0};
            self->good = dmc_codec_decode(chain, context, &decode, &error) == DAMACY_OK && target[299] == 8;
        }
        if (mine)
            damacy_codec_unregister(name, NULL);
        dmc_codec_chain_free(chain);
    }
    dmc_codec_context_destroy(context);
    return NULL;
}

static void test_registry_many_threads(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    static struct user_thread threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        threads[i].number = i;
        assert_int_equal(pthread_create(&threads[i].thread, NULL, use_registry, &threads[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i].thread, NULL);
    for (int i = 0; i < THREADS; i++)
        assert_true(threads[i].good);
}

static void test_registry_after_fork(void **state)
{
    (void)state;
    struct shift shift = {0};
    struct damacy_codec codec = codec_of(&shift);
    assert_int_equal(damacy_codec_register("test.parent", &codec, NULL), DAMACY_OK);
    pid_t child = fork();
    if (child == 0) {
        bool good = damacy_codec_register("test.child", &codec, NULL) == DAMACY_OK &&
                    damacy_codec_unregister("test.parent", NULL) == DAMACY_OK;
        _exit(good ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(damacy_codec_unregister("test.parent", NULL), DAMACY_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_registered_codec_decodes),
        cmocka_unit_test(test_registered_codec_in_place_of_bytes),
        cmocka_unit_test(test_registered_codec_fails_in_its_own_words),
        cmocka_unit_test(test_registering_wrongly),
        cmocka_unit_test(test_registry_memory_failures),
        cmocka_unit_test(test_registry_many_threads),
        cmocka_unit_test(test_registry_after_fork),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
