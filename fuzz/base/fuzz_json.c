/* Any bytes to the JSON parser: no crash, no hang; and what it takes is walked, and its dump must parse to the same dump. */
#include "base/json.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void walk(dmc_json *value)
{
    int64_t i64;
    uint64_t u64;
    double f64;
    bool boolean;
    const char *text;
    size_t length;
    dmc_json_i64(value, &i64);
    dmc_json_u64(value, &u64);
    dmc_json_f64(value, &f64);
    dmc_json_bool(value, &boolean);
    if (dmc_json_string(value, &text, &length) && text[length] != 0)
        abort();
    for (size_t i = 0; i < dmc_json_count(value); i++) {
        dmc_json *child = dmc_json_at(value, i);
        if (dmc_json_member(value, i, &text, &child) && strlen(text) > 0 && !dmc_json_get(value, text)) {
            /* A key with a zero inside cannot be asked for; any other must be found. */
            char *dump = dmc_json_dump(value);
            if (!dump || !strstr(dump, "\\u0000"))
                abort();
            dmc_free(dump);
        }
        walk(child);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct dmc_json_doc *doc, *again;
    struct damacy_error error;
    if (dmc_json_parse((const char *)data, bytes, &doc, &error) != DAMACY_OK)
        return 0;
    walk(dmc_json_root(doc));
    char *dump = dmc_json_dump(dmc_json_root(doc));
    if (!dump || dmc_json_parse(dump, strlen(dump), &again, &error) != DAMACY_OK)
        abort();
    char *dump_again = dmc_json_dump(dmc_json_root(again));
    if (strcmp(dump, dump_again) != 0)
        abort();
    dmc_free(dump);
    dmc_free(dump_again);
    dmc_json_free(doc);
    dmc_json_free(again);
    return 0;
}
