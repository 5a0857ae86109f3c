/* Goal: json.h's promises. Method: tables of good and bad texts with the place of the error; numbers at the edges; random
 * documents written, read and compared; every allocation failed once; texts built to be slow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "support/test_seed.h"
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct dmc_json_doc *parse_bytes(const char *text, size_t bytes)
{
    struct dmc_json_doc *doc = NULL;
    struct damacy_error error;
    char *exact = malloc(bytes ? bytes : 1); /* as long as the text, so that ASan sees any overread; gone before reading */
    memcpy(exact, text, bytes);
    enum damacy_status status = dmc_json_parse(exact, bytes, &doc, &error);
    free(exact);
    if (status != DAMACY_OK)
        fail_msg("%.60s: %s", text, error.message);
    return doc;
}

static struct dmc_json_doc *parse(const char *text)
{
    return parse_bytes(text, strlen(text));
}

static void assert_dump(const char *text, const char *wanted)
{
    struct dmc_json_doc *doc = parse(text);
    char *dump = dmc_json_dump(dmc_json_root(doc));
    assert_string_equal(dump, wanted);
    dmc_free(dump);
    dmc_json_free(doc);
}

static void test_values(void **state)
{
    (void)state;
    struct dmc_json_doc *doc = parse(" {\"a\": [1, -2, 3.5, true, false, null, \"x\"],\r\n\t\"b\": {}, \"c\": []} ");
    dmc_json *root = dmc_json_root(doc), *a = dmc_json_get(root, "a"), *value;
    const char *key, *text;
    int64_t i64 = 7;
    uint64_t u64 = 7;
    double f64 = 7;
    bool boolean = false;
    size_t bytes;
    assert_int_equal(dmc_json_type(root), DMC_JSON_OBJECT);
    assert_int_equal(dmc_json_count(root), 3);
    assert_int_equal(dmc_json_count(a), 7);
    assert_true(dmc_json_i64(dmc_json_at(a, 0), &i64) && i64 == 1);
    assert_true(dmc_json_u64(dmc_json_at(a, 0), &u64) && u64 == 1);
    assert_true(dmc_json_f64(dmc_json_at(a, 0), &f64) && f64 == 1);
    assert_true(dmc_json_i64(dmc_json_at(a, 1), &i64) && i64 == -2);
    assert_false(dmc_json_u64(dmc_json_at(a, 1), &u64));
    assert_true(dmc_json_f64(dmc_json_at(a, 1), &f64) && f64 == -2);
    assert_false(dmc_json_i64(dmc_json_at(a, 2), &i64));
    assert_true(dmc_json_f64(dmc_json_at(a, 2), &f64) && f64 == 3.5);
    assert_true(dmc_json_bool(dmc_json_at(a, 3), &boolean) && boolean);
    assert_true(dmc_json_bool(dmc_json_at(a, 4), &boolean) && !boolean);
    assert_int_equal(dmc_json_type(dmc_json_at(a, 5)), DMC_JSON_NULL);
    assert_true(dmc_json_string(dmc_json_at(a, 6), &text, &bytes) && strcmp(text, "x") == 0 && bytes == 1);
    assert_true(dmc_json_string(dmc_json_at(a, 6), &text, NULL));
    assert_null(dmc_json_at(a, 7));
    assert_null(dmc_json_at(root, 0));
    assert_null(dmc_json_get(a, "a"));
    assert_null(dmc_json_get(root, "aa"));
    assert_null(dmc_json_get(root, ""));
    assert_true(dmc_json_member(root, 1, &key, &value));
    assert_string_equal(key, "b");
    assert_ptr_equal(value, dmc_json_get(root, "b"));
    assert_int_equal(dmc_json_count(value), 0);
    assert_false(dmc_json_member(root, 3, &key, &value));
    assert_false(dmc_json_member(a, 0, &key, &value));
    static const char *const names[] = {"a number", "a number", "a number", "a boolean", "a boolean", "null", "a string"};
    for (size_t i = 0; i < 7; i++)
        assert_string_equal(dmc_json_type_str(dmc_json_at(a, i)), names[i]);
    assert_string_equal(dmc_json_type_str(a), "an array");
    assert_string_equal(dmc_json_type_str(root), "an object");

    /* Whatever is asked of whatever: no, and `out` is left alone. */
    assert_false(dmc_json_i64(root, &i64) || dmc_json_u64(NULL, &u64) || dmc_json_f64(root, &f64) ||
                 dmc_json_bool(a, &boolean) || dmc_json_string(a, &text, NULL));
    assert_int_equal(i64, -2);
    assert_int_equal(dmc_json_type(NULL), DMC_JSON_NULL);
    assert_int_equal(dmc_json_count(NULL), 0);
    assert_null(dmc_json_get(NULL, "a"));
    assert_null(dmc_json_at(NULL, 0));
    dmc_json_free(doc);
    dmc_json_free(NULL);
}

static void check_number(const char *text, const char *i64, const char *u64, double f64)
{
    struct dmc_json_doc *doc = parse(text);
    dmc_json *root = dmc_json_root(doc);
    int64_t found_i64;
    uint64_t found_u64;
    double found_f64;
    char number[32] = "";
    if (dmc_json_i64(root, &found_i64))
        snprintf(number, sizeof number, "%lld", (long long)found_i64);
    assert_string_equal(number, i64);
    number[0] = 0;
    if (dmc_json_u64(root, &found_u64))
        snprintf(number, sizeof number, "%llu", (unsigned long long)found_u64);
    assert_string_equal(number, u64);
    assert_true(dmc_json_f64(root, &found_f64));
    assert_true(found_f64 == f64 || (isnan(found_f64) && isnan(f64)));
    dmc_json_free(doc);
}

static void test_numbers(void **state)
{
    (void)state;
    check_number("0", "0", "0", 0);
    check_number("-0", "0", "0", 0);
    check_number("9007199254740993", "9007199254740993", "9007199254740993", 9007199254740992.0);
    check_number("9223372036854775807", "9223372036854775807", "9223372036854775807", 9223372036854775808.0);
    check_number("9223372036854775808", "", "9223372036854775808", 9223372036854775808.0);
    check_number("18446744073709551615", "", "18446744073709551615", 18446744073709551616.0);
    check_number("18446744073709551616", "", "", 18446744073709551616.0);
    check_number("-9223372036854775808", "-9223372036854775808", "", -9223372036854775808.0);
    check_number("-9223372036854775809", "", "", -9223372036854775808.0);
    check_number("184467440737095516150", "", "", 184467440737095516150.0);
    check_number("1.0", "", "", 1);
    check_number("1e2", "", "", 100);
    check_number("1E+2", "", "", 100);
    check_number("-1.25e-2", "", "", -0.0125);
    check_number("1e400", "", "", INFINITY);
    check_number("-1e400", "", "", -INFINITY);
    check_number("5e-324", "", "", 5e-324);
    check_number("0.1", "", "", 0.1);
    check_number("NaN", "", "", NAN);
    check_number("Infinity", "", "", INFINITY);
    check_number("-Infinity", "", "", -INFINITY);
    if (setlocale(LC_ALL, "de_DE.UTF-8")) /* where it is installed */
        check_number("1.5", "", "", 1.5);
    setlocale(LC_ALL, "C");
    assert_dump("[1e400,-0.10,NaN,18446744073709551616]", "[1e400,-0.10,NaN,18446744073709551616]"); /* as written */
}

static void test_strings(void **state)
{
    (void)state;
    static const struct {
        const char *text, *wanted;
    } cases[] = {{"\"\"", ""},
                 {"\"plain\"", "plain"},
                 {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
                 {"\"\\u0041\\u00b5\\u20AC\\ud83d\\ude00\"", "A\u00b5\u20ac\U0001f600"},
                 {"\"\u00b5\u20ac\U0001f600\x7f\"", "\u00b5\u20ac\U0001f600\x7f"},
                 {"\"a\\\\\"", "a\\"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dmc_json_doc *doc = parse(cases[i].text);
        const char *text;
        size_t bytes;
        assert_true(dmc_json_string(dmc_json_root(doc), &text, &bytes));
        assert_string_equal(text, cases[i].wanted);
        assert_int_equal(bytes, strlen(cases[i].wanted));
        dmc_json_free(doc);
    }
    struct dmc_json_doc *doc = parse("{\"a\\u0000b\": \"c\\u0000d\", \"a\": 1}"); /* zeros are kept and keys stay apart */
    const char *text, *key;
    dmc_json *value;
    size_t bytes;
    assert_true(dmc_json_member(dmc_json_root(doc), 0, &key, &value));
    assert_true(dmc_json_string(value, &text, &bytes));
    assert_int_equal(bytes, 3);
    assert_memory_equal(text, "c\0d", 4);
    assert_int_equal(dmc_json_type(dmc_json_get(dmc_json_root(doc), "a")), DMC_JSON_NUMBER);
    dmc_json_free(doc);
    assert_dump("\"\\u0001\\n\\\"\\\\\\u20ac\"", "\"\\u0001\\u000a\\\"\\\\\u20ac\"");
    assert_dump(" { \"a\" : [ ] , \"b\" : { \"c\" : null } , \"d\" : [ true , false , -5 , 7 ] } ",
                "{\"a\":[],\"b\":{\"c\":null},\"d\":[true,false,-5,7]}");
}

static void check_bad(const char *text, size_t bytes, const char *place)
{
    struct dmc_json_doc *doc = (struct dmc_json_doc *)1;
    struct damacy_error error = {0};
    char *exact = malloc(bytes ? bytes : 1);
    memcpy(exact, text, bytes);
    enum damacy_status status = dmc_json_parse(exact, bytes, &doc, &error);
    if (status != DAMACY_DECODE || doc != (struct dmc_json_doc *)1 || (place && !strstr(error.message, place)))
        fail_msg("%.80s: status %d, message '%s', expected '%s'", text, status, error.message, place);
    assert_int_equal(dmc_json_parse(exact, bytes, &doc, NULL), DAMACY_DECODE); /* without an error to fill */
    free(exact);
}

static void test_bad(void **state)
{
    (void)state;
    static const struct {
        const char *text, *place;
    } cases[] = {
        {"", "line 1, column 1: ends"},
        {"  \n ", "line 2, column 2: ends"},
        {"{", "expected a key"},
        {"[", "ends where a value"},
        {"[1", "expected ',' or ']'"},
        {"[1,]", "line 1, column 4: not a value"},
        {"[,1]", "not a value"},
        {"{\"a\":1,}", "expected a key"},
        {"{\"a\" 1}", "expected ':'"},
        {"{\"a\":}", "not a value"},
        {"{a:1}", "expected a key"},
        {"{'a':1}", "expected a key"},
        {"{\"a\":1 \"b\":2}", "expected ',' or '}'"},
        {"[1 2]", "expected ',' or ']'"},
        {"[1}", "expected ',' or ']'"},
        {"1 1", "line 1, column 3: text behind"},
        {"{} x", "text behind"},
        {"nul", "not a value"},
        {"nulll", "text behind"},
        {"TRUE", "not a value"},
        {"nan", "not a value"},
        {"+1", "not a value"},
        {"-", "not a value"},
        {"- 1", "not a value"},
        {"-NaN", "not a value"},
        {"01", "leading zero"},
        {"-00", "leading zero"},
        {"1.", "behind the point"},
        {"1.e5", "behind the point"},
        {".5", "not a value"},
        {"1e", "exponent"},
        {"1e+", "exponent"},
        {"0x10", "text behind"},
        {"1_000", "text behind"},
        {"\"abc", "line 1, column 1: string without an end"},
        {"\"abc\\", "string without an end"},
        {"\"abc\\\"", "string without an end"},
        {"\"a\nb\"", "line 1, column 3: control character"},
        {"\"a\tb\"", "control character"},
        {"\"\\x\"", "unknown escape"},
        {"\"\\u12\"", "four hex digits"},
        {"\"\\u12g4\"", "four hex digits"},
        {"\"\\ud800\"", "half a surrogate"},
        {"\"\\udc00\"", "half a surrogate"},
        {"\"\\ud800\\n\"", "half a surrogate"},
        {"\"\\ud800\\u0041\"", "half a surrogate"},
        {"\"\x80\"", "not UTF-8"},
        {"\"\xc0\xaf\"", "not UTF-8"},
        {"\"\xc3\"", "not UTF-8"},
        {"\"\xe0\x80\x80\"", "not UTF-8"},
        {"\"\xed\xa0\x80\"", "not UTF-8"},
        {"\"\xf0\x80\x80\x80\"", "not UTF-8"},
        {"\"\xf4\x90\x80\x80\"", "not UTF-8"},
        {"\"\xf5\x80\x80\x80\"", "not UTF-8"},
        {"\"\xe2\x82\"", "not UTF-8"},
        {"\xef\xbb\xbf{}", "not a value"},
        {"{\"a\":1,\n \"b\":2, \"a\":3}", "line 2, column 9: key appears twice"},
        {"{\"a\":1,\"\\u0061\":3}", "key appears twice"},
        {"{\"1\":1,\"2\":1,\"3\":1,\"4\":1,\"5\":1,\"6\":1,\"7\":1,\"8\":1,\"9\":1,\"5\":1}", "column 56: key appears twice"},
        {"// no\n1", "not a value"},
        {"[1 /* no */]", "expected ','"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_bad(cases[i].text, strlen(cases[i].text), cases[i].place);
    check_bad("\"a\0b\"", 5, "control character");
    check_bad("1\0", 2, "text behind");
    check_bad("\"\\\0\"", 4, "unknown escape");
    struct dmc_json_doc *doc;
    struct damacy_error error;
    assert_int_equal(dmc_json_parse("", SIZE_MAX, &doc, &error), DAMACY_DECODE); /* refused before it is read */
    assert_non_null(strstr(error.message, "at most"));
}

static void test_depth(void **state)
{
    (void)state;
    size_t deep = 1000000;
    char *text = malloc(2 * deep);
    memset(text, '[', deep);
    memset(text + deep, ']', deep);
    check_bad(text, 2 * deep, "line 1, column 65: nested too deep");
    check_bad(text, deep, "nested too deep");
    struct dmc_json_doc *doc = parse_bytes(text + deep - DMC_JSON_DEPTH_MAX, 2 * DMC_JSON_DEPTH_MAX);
    dmc_json_free(doc);
    for (size_t i = 0; i < deep / 5; i++)
        memcpy(text + 5 * i, "{\"a\":", 5);
    check_bad(text, deep, "nested too deep");
    free(text);
}

/* A hundred thousand members: would take minutes if a lookup, or the search for duplicates, were linear. */
static void test_big_object(void **state)
{
    (void)state;
    size_t count = 100000, capacity = count * 32 + 16, bytes = 0;
    char *text = malloc(capacity), key[32];
    text[bytes++] = '{';
    for (size_t i = 0; i < count; i++)
        bytes += (size_t)snprintf(text + bytes, capacity - bytes, "%s\"group/array%zu\":%zu", i ? "," : "", i, i);
    text[bytes++] = '}';
    struct dmc_json_doc *doc = parse_bytes(text, bytes);
    dmc_json *root = dmc_json_root(doc), *value;
    const char *name;
    uint64_t number;
    assert_int_equal(dmc_json_count(root), count);
    for (size_t i = 0; i < count; i++) {
        snprintf(key, sizeof key, "group/array%zu", i);
        assert_true(dmc_json_u64(dmc_json_get(root, key), &number) && number == i);
        assert_true(dmc_json_member(root, i, &name, &value) && strcmp(name, key) == 0);
    }
    assert_null(dmc_json_get(root, "group/array100000"));
    dmc_json_free(doc);
    bytes -= 1;
    bytes += (size_t)snprintf(text + bytes, capacity - bytes, ",\"group/array77777\":0}");
    check_bad(text, bytes, "key appears twice");
    free(text);
}

/* Numbers with a million digits, and a string with a million escapes. */
static void test_long_tokens(void **state)
{
    (void)state;
    size_t count = 1000000;
    char *text = malloc(count + 2);
    double value;
    memset(text, '7', count);
    struct dmc_json_doc *doc = parse_bytes(text, count);
    assert_true(dmc_json_f64(dmc_json_root(doc), &value) && isinf(value));
    dmc_json_free(doc);
    text[0] = '0';
    text[1] = '.';
    doc = parse_bytes(text, count);
    assert_true(dmc_json_f64(dmc_json_root(doc), &value) && value == 7.0 / 9);
    dmc_json_free(doc);
    text[0] = '"';
    for (size_t i = 1; i < count; i += 2)
        memcpy(text + i, "\\n", 2);
    text[count + 1] = '"';
    doc = parse_bytes(text, count + 2);
    const char *string;
    size_t bytes;
    assert_true(dmc_json_string(dmc_json_root(doc), &string, &bytes) && bytes == count / 2);
    dmc_json_free(doc);
    free(text);
}

/* ---- Random documents: write one from a seed, parse it, and check it against the same seed. ---- */

static uint64_t next_random(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random;
}

static size_t write_random(char *text, uint64_t *random, int depth)
{
    size_t bytes = 0;
    uint64_t choice = next_random(random) % (depth ? 8 : 6);
    switch (choice) {
    case 0:
        return (size_t)sprintf(text, "null");
    case 1:
        return (size_t)sprintf(text, next_random(random) % 2 ? "true" : "false");
    case 2:
        return (size_t)sprintf(text, "%lld", (long long)next_random(random));
    case 3:
        return (size_t)sprintf(text, "%llu", (unsigned long long)next_random(random));
    case 4:
        return (size_t)sprintf(text, "%.17g", (double)next_random(random) / 3e10 + 0.5);
    case 5: {
        text[bytes++] = '"';
        for (uint64_t left = next_random(random) % 12; left; left--)
            switch (next_random(random) % 4) {
            case 0:
                bytes += (size_t)sprintf(text + bytes, "\\u%04x", (unsigned)(next_random(random) % 32));
                break;
            case 1:
                bytes += (size_t)sprintf(text + bytes, "\u20ac");
                break;
            default:
                text[bytes++] = (char)('a' + next_random(random) % 26);
            }
        text[bytes++] = '"';
        return bytes;
    }
    default: {
        uint64_t count = next_random(random) % 14;
        text[bytes++] = choice == 6 ? '[' : '{';
        for (uint64_t i = 0; i < count; i++) {
            if (i)
                text[bytes++] = ',';
            if (choice == 7)
                bytes += (size_t)sprintf(text + bytes, "\"k%llu\":", (unsigned long long)i);
            bytes += write_random(text + bytes, random, depth - 1);
        }
        text[bytes++] = choice == 6 ? ']' : '}';
        return bytes;
    }
    }
}

static void test_random(void **state)
{
    (void)state;
    uint64_t seed = seed_of_test("test_random", 0);
    char *text = malloc(1 << 22), *spaced = malloc(1 << 23);
    uint64_t random = seed * 0x9e3779b97f4a7c15u | 1;
    for (int i = 0; i < 500; i++) {
        size_t bytes = write_random(text, &random, 3), spaced_bytes = 0;
        /* Compact text with sorted-out escapes comes back byte for byte; with spaces strewn in, too. */
        text[bytes] = 0;
        bool quoted = false;
        for (size_t k = 0; k < bytes; k++) {
            if (text[k] == '"')
                quoted = !quoted;
            bool between = !quoted && strchr("[]{},:", text[k]);
            if (between && next_random(&random) % 3 == 0)
                spaced[spaced_bytes++] = " \n\r\t"[next_random(&random) % 4];
            spaced[spaced_bytes++] = text[k];
        }
        struct dmc_json_doc *doc = parse_bytes(spaced, spaced_bytes);
        char *dump = dmc_json_dump(dmc_json_root(doc));
        assert_string_equal(dump, text);
        dmc_free(dump);
        dmc_json_free(doc);
        /* One byte changed, or cut: an answer, whatever it is. */
        for (int k = 0; k < 20 && bytes; k++) {
            char *copy = malloc(bytes);
            memcpy(copy, text, bytes);
            copy[next_random(&random) % bytes] = (char)next_random(&random);
            if (dmc_json_parse(copy, k % 2 ? bytes : next_random(&random) % bytes, &doc, NULL) == DAMACY_OK)
                dmc_json_free(doc);
            free(copy);
        }
    }
    free(text);
    free(spaced);
}

static void test_no_memory(void **state)
{
    (void)state;
    char text[4096];
    size_t bytes = 0;
    bytes += (size_t)sprintf(text, "{\"long\":[");
    for (int i = 0; i < 200; i++)
        bytes += (size_t)sprintf(text + bytes, "%s%d.5", i ? "," : "", i);
    bytes += (size_t)sprintf(text + bytes, "],\"s\":\"\\n\"}");
    bool done = false;
    uint64_t n = 0;
    while (!done) {
        struct dmc_json_doc *doc = NULL;
        struct damacy_error error;
        dmc_mem_fail_at(++n);
        enum damacy_status status = dmc_json_parse(text, bytes, &doc, &error);
        dmc_mem_fail_at(0);
        done = status == DAMACY_OK;
        if (!done) {
            assert_int_equal(status, DAMACY_OOM);
            assert_null(doc);
        } else {
            dmc_mem_fail_at(1);
            assert_null(dmc_json_dump(dmc_json_root(doc)));
        }
        dmc_json_free(doc);
    }
    assert_true(n > 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_numbers),     cmocka_unit_test(test_strings),
        cmocka_unit_test(test_bad),    cmocka_unit_test(test_depth),       cmocka_unit_test(test_big_object),
        cmocka_unit_test(test_random), cmocka_unit_test(test_long_tokens), cmocka_unit_test(test_no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
