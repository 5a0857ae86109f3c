#include "zarr/json_skim.h"

#include <string.h>

bool dmc_text_is(struct dmc_text text, const char *expected)
{
    return text.text && text.bytes == strlen(expected) && memcmp(text.text, expected, text.bytes) == 0;
}

static void skip_space(struct dmc_skim *skim)
{
    while (skim->at < skim->end && (*skim->at == ' ' || *skim->at == '\n' || *skim->at == '\r' || *skim->at == '\t'))
        skim->at++;
}

static bool fail(struct dmc_skim *skim)
{
    skim->failed = true;
    return false;
}

/* Past a string; `at` is its opening quote. */
static bool skip_string(struct dmc_skim *skim)
{
    for (skim->at++; skim->at < skim->end; skim->at++) {
        if (*skim->at == '"') {
            skim->at++;
            return true;
        }
        skim->at += *skim->at == '\\';
    }
    skim->at = skim->end;
    return false;
}

/* Past a value: as many closing brackets as opening ones. */
static bool skip_value(struct dmc_skim *skim)
{
    size_t depth = 0;
    const char *begin = skim->at;
    while (skim->at < skim->end) {
        char c = *skim->at;
        if (c == '"') {
            if (!skip_string(skim))
                return false;
        } else if (c == '{' || c == '[') {
            depth++;
            skim->at++;
        } else if (c == '}' || c == ']') {
            if (depth == 0)
                return skim->at > begin;
            depth--;
            skim->at++;
        } else if (depth == 0 && (c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t')) {
            return skim->at > begin;
        } else {
            skim->at++;
            if (depth == 0)
                continue; /* a number or a word */
        }
        if (depth == 0)
            return true;
    }
    return depth == 0 && skim->at > begin;
}

struct dmc_skim dmc_skim_object(struct dmc_text text)
{
    struct dmc_skim skim = {.at = text.text, .end = text.text ? text.text + text.bytes : NULL, .first = true};
    if (text.text)
        skip_space(&skim);
    skim.failed = skim.at == skim.end || *skim.at != '{';
    skim.at += !skim.failed;
    return skim;
}

bool dmc_skim_next(struct dmc_skim *skim, struct dmc_text *key, struct dmc_text *value)
{
    if (skim->failed)
        return false;
    skip_space(skim);
    if (skim->at == skim->end)
        return fail(skim);
    if (*skim->at == '}')
        return false;
    if (!skim->first) {
        if (*skim->at != ',')
            return fail(skim);
        skim->at++;
        skip_space(skim);
    }
    skim->first = false;
    if (skim->at == skim->end || *skim->at != '"')
        return fail(skim);
    const char *begin = skim->at + 1;
    if (!skip_string(skim))
        return fail(skim);
    *key = (struct dmc_text){begin, (size_t)(skim->at - 1 - begin)};
    skip_space(skim);
    if (skim->at == skim->end || *skim->at != ':')
        return fail(skim);
    skim->at++;
    skip_space(skim);
    begin = skim->at;
    if (!skip_value(skim))
        return fail(skim);
    *value = (struct dmc_text){begin, (size_t)(skim->at - begin)};
    return true;
}

struct dmc_text dmc_skim_get(struct dmc_text object, const char *key)
{
    struct dmc_skim skim = dmc_skim_object(object);
    struct dmc_text found, value;
    while (dmc_skim_next(&skim, &found, &value))
        if (dmc_text_is(found, key))
            return value;
    return (struct dmc_text){0};
}
