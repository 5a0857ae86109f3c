/* Kerchunk references as JSON, versions 0 and 1: a key to bytes of another file, or to bytes in the text itself. Pure.
 *
 *     {"version": 1,
 *      "templates": {"u": "s3://bucket/a.nc"},          {{u}} in a url is replaced
 *      "refs": {"temp/.zarray": "{...}",                the bytes themselves
 *               "temp/0.1": "base64:AAAA",
 *               "temp/0.2": ["{{u}}", 1000, 500],       bytes [1000, 1500) of a file
 *               "temp/0.3": ["file:///b.nc"],           all of a file
 *               "temp/.zattrs": {...}}}                 JSON as it is
 *
 * Version 0 is what "refs" holds, without templates. `gen` and templates with more than a name in them are refused by name. */
#ifndef DMC_KERCHUNK_REFS_H
#define DMC_KERCHUNK_REFS_H

#include "store/object_map.h"
#include <stdatomic.h>

/* Memory that parsing takes beside the result, for each byte of text: the tree, with the text it came from. */
#define DMC_REFERENCES_PARSE_FACTOR 8u

struct dmc_reference {
    struct dmc_object_name name;
    uint32_t target; /* in `targets`, + 1; 0: the bytes lie in the text of `refs` */
    uint64_t begin;
    uint64_t bytes; /* UINT64_MAX: all of the target */
};

struct dmc_target;
struct dmc_reference_target {
    struct dmc_object_name name;         /* the url */
    _Atomic(struct dmc_target *) opened; /* the store's */
};

struct dmc_references {
    struct dmc_object_map refs;    /* struct dmc_reference */
    struct dmc_object_map targets; /* struct dmc_reference_target, each url once */
};

/* DECODE: not such a document; UNSUPPORTED: gen, jinja, another version; BUDGET, OOM. Free it in any case. */
enum damacy_status dmc_references_parse(const char *text, size_t bytes, struct dmc_budget *budget,
                                        struct dmc_references *references, struct damacy_error *error);
void dmc_references_deinit(struct dmc_references *references);

#endif
