/* Goal: chunks of every codec decode to what numcodecs, zarr-python and numpy decode them to, to the bit.
 * Method: tests/data/codec_vectors.bin, which a script beside it made with these. Each case is decoded whole and in ranges,
 * within the scratch that its chain claims; then damaged: cut, changed bytes, which must give an answer and no more. A chain of
 * every case fails once for want of each piece of memory. */
#include "codec/codec_tables.h"
#include "codec_fixtures.h"

struct vector {
    enum damacy_dtype dtype;
    uint32_t rank, count;
    uint64_t shape[8];
    struct dmc_codec_desc descs[8];
    char texts[8][2][1024];
    const uint8_t *stored, *decoded;
    uint32_t stored_bytes, decoded_bytes;
};

static uint8_t *file;
static size_t file_bytes;

static uint32_t take(const uint8_t **at, int bytes)
{
    uint32_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint32_t)(*at)[i] << 8 * i;
    *at += bytes;
    return value;
}

static const char *take_text(const uint8_t **at, char *text)
{
    uint32_t bytes = take(at, 2);
    if (bytes == 65535)
        return NULL;
    assert_true(bytes < 1024);
    memcpy(text, *at, bytes);
    text[bytes] = 0;
    *at += bytes;
    return text;
}

static const uint8_t *take_vector(const uint8_t *at, struct vector *vector)
{
    vector->dtype = (enum damacy_dtype)take(&at, 1);
    vector->rank = take(&at, 1);
    for (uint32_t i = 0; i < vector->rank; i++)
        vector->shape[i] = take(&at, 4);
    vector->count = take(&at, 1);
    assert_true(vector->rank <= 8 && vector->count <= 8);
    for (uint32_t i = 0; i < vector->count; i++) {
        vector->descs[i].name = take_text(&at, vector->texts[i][0]);
        vector->descs[i].configuration = take_text(&at, vector->texts[i][1]);
    }
    vector->stored_bytes = take(&at, 4);
    vector->stored = at;
    at += vector->stored_bytes;
    vector->decoded_bytes = take(&at, 4);
    vector->decoded = at;
    return at + vector->decoded_bytes;
}

static int setup(void **state)
{
    (void)state;
    char path[1024];
    snprintf(path, sizeof path, "%s", __FILE__);
    *strrchr(path, '/') = 0;
    strcat(path, "/../../data/codec_vectors.bin");
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    file = malloc(4 << 20);
    file_bytes = fread(file, 1, 4 << 20, stream);
    fclose(stream);
    fixture_seed(120);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(file);
    return 0;
}

/* Elements in C order, in this machine's byte order, into the chain's order and byte order: what decode should give. */
static void as_chunk(const struct dmc_codec_chain *chain, const struct vector *vector, uint8_t *chunk)
{
    size_t item = damacy_dtype_bytes(vector->dtype);
    uint64_t at[8] = {0};
    for (uint64_t element = 0; element < vector->decoded_bytes / item; element++) {
        uint64_t to = 0;
        for (uint32_t i = 0; i < vector->rank; i++)
            to += at[i] * (uint64_t)chain->strides[i];
        for (size_t b = 0; b < item; b++)
            chunk[to * item + (chain->swap ? item - 1 - b : b)] = vector->decoded[element * item + b];
        for (uint32_t i = vector->rank; i-- > 0;) {
            if (++at[i] < vector->shape[i])
                break;
            at[i] = 0;
        }
    }
}

static void describe(const struct vector *vector)
{
    for (uint32_t i = 0; i < vector->count; i++)
        print_message("    %s %s\n", vector->descs[i].name,
                      vector->descs[i].configuration ? vector->descs[i].configuration : "");
}

static struct dmc_codec_chain *chain_of(const struct vector *vector)
{
    struct dmc_codec_chain *chain = NULL;
    struct damacy_error error;
    if (dmc_codec_chain_create(vector->descs, vector->count, vector->dtype, vector->rank, vector->shape, &chain, &error)) {
        describe(vector);
        fail_msg("%s", error.message);
    }
    assert_int_equal(chain->chunk_bytes, vector->decoded_bytes);
    assert_true(chain->memory_bytes <= dmc_codec_chain_memory_max());
    assert_true(vector->stored_bytes <= chain->stored_bytes_max);
    return chain;
}

static bool is_known_here(const struct vector *vector)
{
    for (uint32_t i = 0; i < vector->count; i++) {
        const struct dmc_codec_info *info = dmc_codec_info_find(vector->descs[i].name);
        if (!info || info->state != DMC_CODEC_READ)
            return false;
    }
    return true;
}

static void check_whole(const struct vector *vector, size_t number)
{
    struct dmc_codec_chain *chain = chain_of(vector);
    struct dmc_budget budget;
    struct damacy_error error = {0};
    uint8_t *expected = malloc(vector->decoded_bytes + 1), *source = malloc(vector->stored_bytes + 1),
            *target = malloc(vector->decoded_bytes + 1);
    dmc_budget_init(&budget, chain->scratch_bytes);
    struct dmc_codec_context *context = fixture_context(&budget);
    as_chunk(chain, vector, expected);
    memcpy(source, vector->stored, vector->stored_bytes);
    if (chain->raw) { /* nothing is undone: assemble reads what was stored */
        assert_int_equal(vector->stored_bytes, vector->decoded_bytes);
        assert_memory_equal(source, expected, vector->decoded_bytes);
    }
    memset(target, 0x5a, vector->decoded_bytes);
    const struct dmc_decode decode = {source, vector->stored_bytes, target, 0, vector->decoded_bytes, false, 0};
    if (dmc_codec_decode(chain, context, &decode, &error) || memcmp(target, expected, vector->decoded_bytes) != 0) {
        uint64_t at = 0;
        while (at < vector->decoded_bytes && target[at] == expected[at])
            at++;
        describe(vector);
        fail_msg("case %zu (%s): differs at byte %llu of %u: %s", number, damacy_dtype_str(vector->dtype),
                 (unsigned long long)at, vector->decoded_bytes, error.message);
    }
    fixture_ranges(chain, context, vector->stored, vector->stored_bytes, expected, 12);
    assert_true(dmc_budget_used(&budget) <= chain->scratch_bytes);
    uint64_t allocated = dmc_mem_count(); /* a warm context allocates nothing, whatever the codec */
    assert_int_equal(dmc_codec_decode(chain, context, &decode, &error), DAMACY_OK);
    assert_int_equal(dmc_mem_count(), allocated);
    dmc_codec_context_destroy(context);
    assert_int_equal(dmc_budget_used(&budget), 0);
    dmc_codec_chain_free(chain);
    free(expected);
    free(source);
    free(target);
}

static void check_damage(const struct vector *vector, struct dmc_codec_context *context)
{
    struct dmc_codec_chain *chain = chain_of(vector);
    struct damacy_error error;
    fixture_mutations(chain, context, vector->stored, vector->stored_bytes, 12);
    size_t count = fixture_below(vector->stored_bytes);
    if (fixture_decode(chain, context, vector->stored, count, 0, chain->chunk_bytes, false, NULL, &error) == DAMACY_OK) {
        describe(vector);
        fail_msg("%zu of %u bytes decoded", count, vector->stored_bytes);
    }
    dmc_codec_chain_free(chain);
}

static void check_memory(const struct vector *vector)
{
    struct dmc_budget budget;
    struct damacy_error error;
    dmc_budget_init(&budget, UINT64_MAX);
    for (uint64_t n = 1;; n++) {
        struct dmc_codec_chain *chain = NULL;
        struct dmc_codec_context *context = NULL;
        dmc_mem_fail_at(n);
        enum damacy_status status =
            dmc_codec_chain_create(vector->descs, vector->count, vector->dtype, vector->rank, vector->shape, &chain, &error);
        if (!status)
            status = dmc_codec_context_create(&budget, &context, &error);
        if (!status)
            status = fixture_decode(chain, context, vector->stored, vector->stored_bytes, 0, chain->chunk_bytes, false, NULL,
                                    &error);
        dmc_mem_fail_at(0);
        dmc_codec_context_destroy(context);
        dmc_codec_chain_free(chain);
        assert_int_equal(dmc_budget_used(&budget), 0);
        if (status == DAMACY_OK)
            return;
        assert_int_equal(status, DAMACY_OOM);
    }
}

static void each_vector(void (*visit)(const struct vector *vector, size_t number), size_t every)
{
    const uint8_t *at = file;
    size_t count = take(&at, 4), seen = 0;
    struct vector *vector = malloc(sizeof *vector);
    for (size_t i = 0; i < count; i++) {
        memset(vector, 0, sizeof *vector);
        at = take_vector(at, vector);
        if (i % every == 0 && is_known_here(vector)) {
            visit(vector, i);
            seen++;
        }
    }
    assert_int_equal((size_t)(at - file), file_bytes);
    assert_true(seen > 0);
    free(vector);
}

static struct dmc_codec_context *shared;

/* Stored bytes that are not those of the chunk: too many and too few elements, by one and by many. Frames with more than fits
 * are what a bomb is. */
static void visit_sizes(const struct vector *vector, size_t number)
{
    static const int64_t changes[] = {-1, 1, -7, 9, -200, 100000};
    if (vector->rank != 1)
        return;
    for (uint32_t i = 0; i < vector->count; i++) {
        if (strcmp(vector->descs[i].name, "packbits") == 0)
            return; /* one more may fit into the last byte */
    }
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct vector changed = *vector;
        struct dmc_codec_chain *chain = NULL;
        struct damacy_error error;
        if ((int64_t)vector->shape[0] + changes[i] < 1)
            continue;
        changed.shape[0] = (uint64_t)((int64_t)vector->shape[0] + changes[i]);
        enum damacy_status status =
            dmc_codec_chain_create(changed.descs, changed.count, changed.dtype, 1, changed.shape, &chain, &error);
        if (!status)
            status =
                fixture_decode(chain, shared, vector->stored, vector->stored_bytes, 0, chain->chunk_bytes, false, NULL, &error);
        dmc_codec_chain_free(chain);
        if (status != DAMACY_DECODE) {
            describe(vector);
            fail_msg("case %zu: %llu elements as %llu: %d", number, (unsigned long long)vector->shape[0],
                     (unsigned long long)changed.shape[0], status);
        }
    }
}

static void visit_whole(const struct vector *vector, size_t number)
{
    check_whole(vector, number);
}

static void visit_damage(const struct vector *vector, size_t number)
{
    (void)number;
    check_damage(vector, shared);
}

static void visit_memory(const struct vector *vector, size_t number)
{
    (void)number;
    check_memory(vector);
}

static void test_vectors_decode(void **state)
{
    (void)state;
    each_vector(visit_whole, 1);
}

static void test_vectors_damaged(void **state)
{
    (void)state;
    shared = fixture_context(NULL);
    each_vector(visit_damage, 1);
    dmc_codec_context_destroy(shared);
}

static void test_vectors_of_another_size(void **state)
{
    (void)state;
    shared = fixture_context(NULL);
    each_vector(visit_sizes, 1);
    dmc_codec_context_destroy(shared);
}

static void test_vectors_out_of_memory(void **state)
{
    (void)state;
    each_vector(visit_memory, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors_decode),
        cmocka_unit_test(test_vectors_damaged),
        cmocka_unit_test(test_vectors_of_another_size),
        cmocka_unit_test(test_vectors_out_of_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
