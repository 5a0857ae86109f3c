/* What the tests of codecs share: seeded numbers, content of several kinds, chains by name, checked decoding. */
#ifndef CODEC_FIXTURES_H
#define CODEC_FIXTURES_H

#include <setjmp.h> /* IWYU pragma: keep */
#include <stdarg.h> /* IWYU pragma: keep */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "codec/codec.h"
#include "support/test_seed.h"

static uint64_t fixture_state;

/* From DAMACY_TEST_SEED or a fixed one; printed, so that a failure can be repeated. */
static inline void fixture_seed(uint64_t fallback)
{
    fixture_state = seed_of_test("codec", fallback);
}

static inline uint32_t fixture_random(void)
{
    fixture_state = fixture_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(fixture_state >> 33);
}

static inline size_t fixture_below(size_t bound)
{
    return bound ? fixture_random() % bound : 0;
}

enum fixture_content { CONTENT_IMAGE, CONTENT_NOISE, CONTENT_ZERO, CONTENT_TEXT, CONTENT_COUNT };

/* Elements of `typesize` bytes: smooth values with some noise, noise alone, zeros, or a repeating text. */
static inline void fixture_fill(uint8_t *to, size_t bytes, size_t typesize, enum fixture_content content)
{
    static const char text[] = "the quick brown fox jumps over the lazy dog; ";
    for (size_t i = 0; i < bytes; i++) {
        uint64_t value = 300 + i / typesize / 7 + (i % typesize == 0 ? fixture_random() % 8 : 0);
        switch (content) {
        case CONTENT_IMAGE:
            to[i] = i % typesize < 8 ? (uint8_t)(value >> 8 * (i % typesize)) : 0;
            break;
        case CONTENT_NOISE:
            to[i] = (uint8_t)fixture_random();
            break;
        case CONTENT_ZERO:
            to[i] = 0;
            break;
        default:
            to[i] = (uint8_t)text[i % (sizeof text - 1)];
        }
    }
}

/* bytes (of u8) and then the codecs named, NULL at the end; no configurations. */
static inline struct dmc_codec_chain *fixture_chain(uint64_t chunk_bytes, const char *const *names)
{
    struct dmc_codec_desc descs[16] = {{"bytes", NULL}};
    uint32_t count = 1;
    for (; *names; names++)
        descs[count++] = (struct dmc_codec_desc){*names, NULL};
    struct damacy_error error;
    struct dmc_codec_chain *chain = NULL;
    assert_int_equal(dmc_codec_chain_create(descs, count, DAMACY_U8, 1, &chunk_bytes, &chain, &error), DAMACY_OK);
    return chain;
}

static inline struct dmc_codec_chain *fixture_chain_of(uint64_t chunk_bytes, const char *name)
{
    const char *names[] = {name, NULL};
    return fixture_chain(chunk_bytes, names);
}

static inline struct dmc_codec_context *fixture_context(struct dmc_budget *budget)
{
    struct dmc_codec_context *context = NULL;
    assert_int_equal(dmc_codec_context_create(budget, &context, NULL), DAMACY_OK);
    return context;
}

/* Decode from a copy and into memory that both end exactly where they must, so that ASan sees a step too far. `expected` may be
 * NULL; otherwise the needed bytes must equal it where decoding succeeds. */
static inline enum damacy_status fixture_decode(const struct dmc_codec_chain *chain, struct dmc_codec_context *context,
                                                const uint8_t *stored, size_t stored_bytes, uint64_t need_begin,
                                                uint64_t need_end, bool verify_full, const uint8_t *expected,
                                                struct damacy_error *error)
{
    uint8_t *source = malloc(stored_bytes ? stored_bytes : 1);
    uint8_t *target = malloc(chain->chunk_bytes ? chain->chunk_bytes : 1);
    memcpy(source, stored, stored_bytes);
    memset(target, 0xaa, chain->chunk_bytes);
    memset(error, 0, sizeof *error);
    const struct dmc_decode decode = {source, stored_bytes, target, need_begin, need_end, verify_full, 0};
    enum damacy_status status = dmc_codec_decode(chain, context, &decode, error);
    if (status == DAMACY_OK) {
        if (expected)
            assert_memory_equal(target + need_begin, expected + need_begin, need_end - need_begin);
    } else {
        assert_int_equal(error->status, status);
        assert_true(error->message[0] != 0);
    }
    assert_memory_equal(source, stored, stored_bytes);
    free(source);
    free(target);
    return status;
}

static inline void fixture_decode_ok(const struct dmc_codec_chain *chain, struct dmc_codec_context *context,
                                     const uint8_t *stored, size_t stored_bytes, uint64_t need_begin, uint64_t need_end,
                                     const uint8_t *expected)
{
    struct damacy_error error;
    if (fixture_decode(chain, context, stored, stored_bytes, need_begin, need_end, false, expected, &error))
        fail_msg("[%llu, %llu): %s", (unsigned long long)need_begin, (unsigned long long)need_end, error.message);
}

/* Whole, whole and verified, every range of a small chunk, or some of a large one. */
static inline void fixture_ranges(const struct dmc_codec_chain *chain, struct dmc_codec_context *context, const uint8_t *stored,
                                  size_t stored_bytes, const uint8_t *expected, size_t random_ranges)
{
    struct damacy_error error;
    uint64_t bytes = chain->chunk_bytes;
    fixture_decode_ok(chain, context, stored, stored_bytes, 0, bytes, expected);
    assert_int_equal(fixture_decode(chain, context, stored, stored_bytes, 0, bytes, true, expected, &error), DAMACY_OK);
    if (random_ranges == SIZE_MAX) {
        for (uint64_t begin = 0; begin <= bytes; begin++) {
            for (uint64_t end = begin; end <= bytes; end++)
                fixture_decode_ok(chain, context, stored, stored_bytes, begin, end, expected);
        }
        return;
    }
    for (size_t i = 0; i < random_ranges; i++) {
        uint64_t begin = fixture_below(bytes + 1);
        uint64_t end = begin + fixture_below(bytes - begin + 1);
        fixture_decode_ok(chain, context, stored, stored_bytes, begin, end, expected);
    }
}

/* Change 1 to 4 bytes, or bits, or cut, or append: what a broken disk or an attacker does. Returns the new length. */
static inline size_t fixture_mutate(uint8_t *bytes, size_t count, size_t room)
{
    static const uint8_t edges[] = {0, 1, 2, 4, 0x10, 0x7f, 0x80, 0xfe, 0xff};
    for (size_t n = 1 + fixture_below(4); n > 0; n--) {
        size_t at = fixture_below(2) ? fixture_below(count < 40 ? count : 40) : fixture_below(count);
        switch (fixture_below(8)) {
        case 0:
            count = count > 1 ? count - fixture_below(count < 16 ? count : 16) : count;
            break;
        case 1:
            if (count < room)
                bytes[count++] = (uint8_t)fixture_random();
            break;
        case 2:
        case 3:
            bytes[at] ^= (uint8_t)(1u << fixture_below(8));
            break;
        case 4:
            bytes[at] = edges[fixture_below(sizeof edges)];
            break;
        case 5:
            bytes[at] = (uint8_t)(bytes[at] + 1);
            break;
        default:
            bytes[at] = (uint8_t)fixture_random();
        }
    }
    return count;
}

/* Decode `rounds` mutations; what matters is that nothing but an answer comes of it. */
static inline void fixture_mutations(const struct dmc_codec_chain *chain, struct dmc_codec_context *context,
                                     const uint8_t *stored, size_t stored_bytes, size_t rounds)
{
    struct damacy_error error;
    uint8_t *changed = malloc(stored_bytes + 8);
    for (size_t i = 0; i < rounds; i++) {
        memcpy(changed, stored, stored_bytes);
        size_t count = fixture_mutate(changed, stored_bytes, stored_bytes + 8);
        uint64_t begin = fixture_below(2) ? 0 : fixture_below(chain->chunk_bytes);
        uint64_t end = fixture_below(2) ? chain->chunk_bytes : begin + fixture_below(chain->chunk_bytes - begin + 1);
        fixture_decode(chain, context, changed, count, begin, end, fixture_below(4) == 0, NULL, &error);
    }
    free(changed);
}

/* Every shorter prefix of the stored bytes must fail when all is needed. */
static inline void fixture_truncations(const struct dmc_codec_chain *chain, struct dmc_codec_context *context,
                                       const uint8_t *stored, size_t stored_bytes)
{
    struct damacy_error error;
    for (size_t count = 0; count < stored_bytes; count++) {
        if (fixture_decode(chain, context, stored, count, 0, chain->chunk_bytes, false, NULL, &error) != DAMACY_DECODE)
            fail_msg("%zu of %zu bytes decoded", count, stored_bytes);
    }
}

#endif
